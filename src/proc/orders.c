/* What the operator says of origins: `portcullis origin`. The supervisor knows an origin by its id alone; the text is
 * for whoever lists them. */
#include "proc/supervisor_internal.h"

#include <string.h>

#define FILE_NAME "origins"
static const char *const order_words[] = { [IPC_ORDER_DRAIN] = "drain", [IPC_ORDER_DOWN] = "down" };

/* ---- The file: one line an order, `ID WORD SINCE TEXT` ----------------------------------------------- */

enum { LINE_MAX_LEN = ORDER_TEXT_MAX + 64, FILE_MAX = ORDERS_MAX * LINE_MAX_LEN };

static int save(const struct supervisor *supervisor)
{
	char *text = heap_alloc(FILE_MAX);
	struct writer out;
	int err;

	if (!text)
		return -ENOMEM;
	out = writer_of(text, FILE_MAX);
	for (size_t i = 0; i < supervisor->order_count; i++) {
		const struct order *order = &supervisor->orders[i];

		write_hex_u64(&out, order->origin, 16);
		write_format(&out, " %s %lld %s\n", order_words[order->order],
			     (long long)order->since_wall_ns, order->text);
	}
	err = os_file_replace(supervisor->state_fd, FILE_NAME, writer_done(&out), 0600);
	heap_free(text);
	return err;
}

static bool parse_word(struct span word, uint32_t *ret_order)
{
	for (uint32_t i = IPC_ORDER_DRAIN; i < IPC_ORDER_COUNT; i++) {
		if (!span_equal(word, span_str(order_words[i])))
			continue;
		*ret_order = i;
		return true;
	}
	return false;
}

static bool parse_line(struct span line, struct order *ret_order)
{
	struct span id, word, since;
	uint64_t since_ns;

	*ret_order = (struct order){ 0 };
	if (!span_cut(&line, ' ', &id) || !span_cut(&line, ' ', &word) ||
	    !span_cut(&line, ' ', &since) || !parse_hex_u64(id, UINT64_MAX, &ret_order->origin) ||
	    !parse_word(word, &ret_order->order) || !parse_u64(since, INT64_MAX, &since_ns) ||
	    !line.len || line.len >= ORDER_TEXT_MAX)
		return false;
	ret_order->since_wall_ns = (int64_t)since_ns;
	memcpy(ret_order->text, line.ptr, line.len);
	return true;
}

/* ---- The table --------------------------------------------------------------------------------------- */

static struct order *find(const struct supervisor *supervisor, uint64_t origin)
{
	for (size_t i = 0; i < supervisor->order_count; i++) {
		if (supervisor->orders[i].origin == origin)
			return &supervisor->orders[i];
	}
	return NULL;
}

/* A place for it: its own, or a new one. NULL: there is none. */
static struct order *place_for(struct supervisor *supervisor, uint64_t origin)
{
	struct order *order = find(supervisor, origin);

	if (order)
		return order;
	if (!supervisor->orders)
		supervisor->orders = heap_alloc(ORDERS_MAX * sizeof(*supervisor->orders));
	if (!supervisor->orders || supervisor->order_count == ORDERS_MAX)
		return NULL;
	return &supervisor->orders[supervisor->order_count++];
}

static void forget(struct supervisor *supervisor, uint64_t origin)
{
	struct order *order = find(supervisor, origin);

	if (order)
		*order = supervisor->orders[--supervisor->order_count];
}

/* A terminal reads it later, and a line of the file is a line. */
static void take_text(struct order *order, struct span text)
{
	text = span_first(text, ORDER_TEXT_MAX - 1);
	memset(order->text, 0, sizeof(order->text));
	for (size_t i = 0; i < text.len; i++)
		order->text[i] = text.ptr[i] > ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '?';
}

static void tell(struct child *worker, uint64_t origin, uint32_t order)
{
	struct ipc_origin_order body = { .origin = origin, .order = order };

	child_send(worker, IPC_MESSAGE_origin_order, &body, SPAN_NONE, NULL, 0);
}

int orders_set(struct supervisor *supervisor, const struct ipc_set_order *wanted, struct span text)
{
	if (wanted->order == IPC_ORDER_UP) {
		forget(supervisor, wanted->origin);
	} else if (wanted->order < IPC_ORDER_COUNT && text.len) {
		struct order *order = place_for(supervisor, wanted->origin);

		if (!order)
			return -ENOBUFS;
		order->origin = wanted->origin;
		order->order = wanted->order;
		order->since_wall_ns = (int64_t)os_loop_wall_ns(supervisor->loop);
		take_text(order, text);
	} else {
		return -EINVAL;
	}
	for (uint32_t slot = 0; slot < supervisor->slot_count; slot++) {
		struct child *worker = child_find(supervisor, IPC_WORKER, slot);

		if (worker)
			tell(worker, wanted->origin, wanted->order);
	}
	return save(supervisor);
}

void orders_give(struct supervisor *supervisor, struct child *worker)
{
	for (size_t i = 0; i < supervisor->order_count; i++)
		tell(worker, supervisor->orders[i].origin, supervisor->orders[i].order);
}

void orders_load(struct supervisor *supervisor)
{
	struct arena arena;
	struct span text, line;
	uint32_t strange = 0;
	int err;

	arena_init(&arena, FILE_MAX + 1);
	err = os_file_read(supervisor->state_fd, FILE_NAME, FILE_MAX, &arena, &text);
	while (!err && text.len && span_cut(&text, '\n', &line)) {
		struct order order, *place = NULL;

		if (parse_line(line, &order))
			place = place_for(supervisor, order.origin);
		if (place)
			*place = order;
		else
			strange++;
	}
	arena_fini(&arena);
	if ((err && err != -ENOENT) || strange)
		supervisor_say(supervisor,
			       "warning: %s/" FILE_NAME ": what was said of some origins cannot be "
			       "read, and holds no more (portcullis upstreams shows what does)",
			       supervisor->state_path);
}

void orders_free(struct supervisor *supervisor)
{
	heap_free(supervisor->orders);
	supervisor->orders = NULL;
	supervisor->order_count = 0;
}
