/* Packets of a peer that was taken over, to a channel of each kind. The first two bytes choose who
 * we are and who the peer is; each packet begins with how it is made: its descriptors, and whether
 * number, length and tail come from the table (so that the fuzzer gets past the check) or are wild.
 * Properties: whoever is handed a message may get it from that peer, with the length, tail and
 * descriptors of its row and the very bytes that were sent; the first packet that breaks its row
 * ends the channel, once, and nothing comes behind it; no descriptor stays behind. */
#include "ipc/ipc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The table told again, not by the module's own look-up. */
struct row {
	uint32_t number, senders, receivers, size, tail_max, descriptors_max, per_second;
};
static const struct row rows[] = {
#define X(number, name, senders, receivers, tail, descriptors, rate) \
	{ \
		(number), (senders),     (receivers), sizeof(struct ipc_##name), \
		(tail),   (descriptors), (rate) \
	},
	IPC_MESSAGES(X)
#undef X
};

enum { PACKETS_MAX = 64, BYTES_MAX = 1 << 17, NUMBERS = 8 };

struct state {
	enum ipc_kind self, peer;
	int sent, delivered, closed, legal; /* legal: of `sent`, before the first that is not */
	struct span packets[PACKETS_MAX];
	size_t descriptors[PACKETS_MAX];
	bool is_over;    /* by a violation */
	uint8_t answers; /* what the handler does: takes, closes */
	uint64_t second; /* in which it began */
};

static struct os_loop *loop;
static char bytes[BYTES_MAX];

static const struct row *row_find(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].number == number)
			return &rows[i];
	return NULL;
}

static bool is_legal(const struct state *state, struct span packet, size_t descriptors)
{
	const struct row *row;
	uint32_t header[2];

	if (packet.len < sizeof(header))
		return false;
	memcpy(header, packet.ptr, sizeof(header));
	row = row_find(header[0]);
	return row && (row->senders & 1u << state->peer) && (row->receivers & 1u << state->self) &&
	       header[1] <= row->tail_max && descriptors <= row->descriptors_max &&
	       packet.len == sizeof(header) + row->size + header[1];
}

/* Rates are counted by the second: in a run that two of them share, a packet that `legal` leaves out
 * may be one of the next second's. */
static bool is_one_second(const struct state *state)
{
	return os_now_ns() / OS_SECOND == state->second;
}

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct state *state = owner;
	struct span packet = state->packets[state->delivered];
	size_t struct_len = ipc_message_size(message->number);

	MUST(!state->closed && state->delivered < state->sent);
	MUST(state->delivered < state->legal || !is_one_second(state));
	MUST((uintptr_t)message->body % 8 == 0);
	MUST(span_equal(span_of(message->body, struct_len),
			span_first(span_skip(packet, 8), struct_len)));
	MUST(span_equal(message->tail, span_skip(packet, 8 + struct_len)));
	MUST((size_t)message->descriptor_count == state->descriptors[state->delivered]);
	for (int i = 0; i < message->descriptor_count; i++)
		MUST(message->descriptors[i] >= 0);
	state->delivered++;
	if ((state->answers & 1) && message->descriptor_count)
		os_close(TAKE_FD(message->descriptors[0]));
	if ((state->answers & 6) == 6 && state->delivered == 3)
		ipc_channel_close(channel);
}

static void on_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct state *state = owner;

	state->closed++;
	MUST(state->closed == 1);
	state->is_over = why != NULL;
	if (state->answers & 8)
		ipc_channel_close(channel);
}

static const struct ipc_handlers handlers = { .on_message = on_message, .on_closed = on_closed };

/* One packet out of the reader into `bytes`. False at the end. */
static bool packet_make(struct reader *reader, size_t *used, struct span *ret, size_t *ret_count)
{
	uint8_t how = read_u8(reader);
	const struct row *row = &rows[read_u8(reader) % ARRAY_LEN(rows)];
	uint32_t header[2] = { row->number, read_u8(reader) };
	struct span wild = read_span(reader, how >> 4);
	size_t len = sizeof(header) + row->size;
	char *at = bytes + *used;

	if (!reader->ok)
		return false;
	/* Around the longest tail, where off by one is found. */
	if (how & 4)
		header[1] = row->tail_max + (header[1] & 3) - (row->tail_max ? 2 : 0);
	len += header[1];
	if (*used + len + 16 > BYTES_MAX)
		return false;
	memset(at, how, len);
	memcpy(at, header, sizeof(header));
	if (how & 8) { /* wild: bytes over the front, and perhaps a length that does not fit */
		memcpy(at, wild.len ? wild.ptr : "", wild.len);
		len = wild.len && (wild.ptr[0] & 1) ? len + 1 : wild.len > 4 ? wild.len : len;
	}
	*used += (len + 7) & ~(size_t)7;
	*ret = span_of(at, len);
	*ret_count = how & 3;
	return true;
}

static void send_all(struct state *state, struct reader *reader, int fd, const int *descriptors)
{
	bool was_legal = true;
	size_t used = 0;
	uint32_t counts[256] = { 0 };

	while (state->sent < PACKETS_MAX) {
		struct os_packet_out packet = { .part_count = 1, .descriptors = descriptors };
		struct span made;

		if (!packet_make(reader, &used, &made, &packet.descriptor_count))
			return;
		packet.parts[0] = made;
		if (os_packet_send(fd, &packet) != 0)
			return; /* the socket is full: what is in it is enough */
		state->packets[state->sent] = made;
		state->descriptors[state->sent] = packet.descriptor_count;
		was_legal = was_legal && is_legal(state, made, packet.descriptor_count);
		if (was_legal) {
			const struct row *row =
				row_find(((const uint32_t *)(const void *)made.ptr)[0]);

			was_legal = !row->per_second || ++counts[row->number] <= row->per_second;
		}
		state->sent++;
		state->legal += was_legal;
	}
}

/* The numbers that the next descriptors get: one that was left open is missing from now on. (To list them
 * all would take longer than all the rest.) The fuzzer's own threads open a file now and then: what
 * they take is free again a moment later. */
static bool numbers_are_free(int *lowest)
{
	int fds[NUMBERS];
	bool ret = true;

	for (size_t i = 0; i < NUMBERS; i++)
		MUST(os_duplicate(2, &fds[i]) == 0);
	for (size_t i = 0; i < NUMBERS; i++) {
		ret = ret && fds[i] <= lowest[i];
		lowest[i] = fds[i] < lowest[i] ? fds[i] : lowest[i];
		os_close(fds[i]);
	}
	return ret;
}

/* Between two runs the fuzzer may have opened something for good: what names functions in its report. */
static void learn_descriptors(int *lowest)
{
	int fd;

	MUST(os_duplicate(2, &fd) == 0);
	os_close(fd);
	if (fd == lowest[0])
		return;
	for (size_t i = 0; i < NUMBERS; i++)
		lowest[i] = INT_MAX;
	(void)numbers_are_free(lowest);
}

static void check_descriptors(int *lowest)
{
	int tries = 0;

	while (!numbers_are_free(lowest)) {
		MUST(++tries < 1000);
		MUST(os_loop_turn(loop, 1, NULL, NULL) == 0);
	}
}

static void turn_until_quiet(const struct state *state)
{
	for (int quiet = 0; quiet < 2;) {
		int before = state->delivered + state->closed;

		MUST(os_loop_turn(loop, 0, NULL, NULL) == 0);
		quiet = state->delivered + state->closed == before ? quiet + 1 : 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int lowest[NUMBERS];
	struct reader reader = reader_of(span_of(data, size));
	struct ipc_channel channel;
	struct state state = { 0 };
	int fds[2], descriptors[4];

	state.self = (enum ipc_kind)(read_u8(&reader) % IPC_KIND_COUNT);
	state.peer = (enum ipc_kind)(read_u8(&reader) % IPC_KIND_COUNT);
	state.answers = read_u8(&reader);
	if (!reader.ok)
		return 0;
	if (!loop)
		MUST(os_loop_new(&loop) == 0);
	learn_descriptors(lowest);
	state.second = os_now_ns() / OS_SECOND;
	MUST(os_packet_pair(fds) == 0);
	MUST(ipc_channel_open(&channel, loop, fds[0], state.self, state.peer) == 0);
	ipc_channel_handle(&channel, &handlers, &state);
	for (size_t i = 0; i < ARRAY_LEN(descriptors); i++)
		descriptors[i] = fds[1];
	send_all(&state, &reader, fds[1], descriptors);
	turn_until_quiet(&state);
	/* Everything legal came, unless the owner let go; a violation was told. */
	if (is_one_second(&state)) {
		MUST((state.answers & 6) == 6 || state.delivered == state.legal);
		MUST(state.is_over == (state.legal < state.sent &&
				       ((state.answers & 6) != 6 || state.delivered < 3)));
	}
	ipc_channel_close(&channel);
	os_close(fds[1]);
	MUST(os_loop_turn(loop, 0, NULL, NULL) == 0);
	check_descriptors(lowest);
	return 0;
}
