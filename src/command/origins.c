/* Upstreams as the running service sees them, and what the operator wants of an origin. The dialer knows which there
 * are and what their checks say, each worker what it has under way there, the supervisor what was ordered. */
#include "command/control.h"

#include <string.h>

enum {
	ARENA_MAX = 64 << 20,
	ANSWER_MS = 30 * 1000,
	CONNECT_TRIES = 50, /* of one that is being started again */
	CONNECT_STEP_MS = 100,
	WORKERS_MAX = OS_CPU_MAX,
	SHOWN_MAX = 20, /* names in a complaint */
};

/* Of one origin, over all workers. */
struct sums {
	struct ipc_origin_seen seen; /* numbers are sums, ejected_ms the longest */
	uint32_t ejecting;           /* workers that give it no requests for now */
};

struct member {
	struct list link;
	struct ipc_origin_known known;
	struct span upstream, place, text, why;
	struct sums sums;
	struct ipc_origin_ordered ordered; /* order UP: none */
};

struct listing {
	struct arena arena;
	struct list members; /* in the configuration's order */
	struct list strays;  /* orders of origins that no upstream names now */
	uint32_t workers[WORKERS_MAX], worker_count;
	bool has_dialer;
	int64_t now_wall_ns;
};

/* ---- Asking ---------------------------------------------------------------------------------------------- */

static int open_to(struct ipc_channel *control, enum ipc_kind kind, uint32_t slot,
		   struct ipc_channel *ret_channel)
{
	for (int i = 0; i < CONNECT_TRIES; i++) {
		int fd = command_ask_channel(control, kind, slot);

		if (fd >= 0)
			return ipc_channel_open(ret_channel, NULL, fd, IPC_COMMAND, kind);
		os_sleep_ms(CONNECT_STEP_MS);
	}
	return -ECONNREFUSED;
}

/* Asks for rows and takes them until their end. */
static int ask(struct ipc_channel *channel, struct listing *listing,
	       int (*on_row)(struct listing *listing, const struct ipc_message *message))
{
	struct ipc_message message;
	bool is_over = false;
	int err = IPC_SEND(channel, origins, { 0 });

	while (!err && !is_over && !(err = ipc_wait(channel, ANSWER_MS, &message))) {
		is_over = message.number == IPC_MESSAGE_origins_end;
		if (!is_over)
			err = on_row(listing, &message);
		ipc_message_done(&message);
	}
	return err;
}

static void on_process(void *owner, const struct command_process *process)
{
	struct listing *listing = owner;

	if (process->row->kind == IPC_DIALER)
		listing->has_dialer = true;
	if (process->row->kind == IPC_WORKER && process->row->state == IPC_STATE_RUNNING &&
	    listing->worker_count < WORKERS_MAX)
		listing->workers[listing->worker_count++] = process->row->slot;
}

/* What the dialer reads comes from strangers, in part. */
static struct span take_text(struct listing *listing, struct span *tail)
{
	char *text = NULL;
	struct span part;

	if (!span_cut(tail, '\0', &part))
		return SPAN_NONE;
	text = arena_alloc(&listing->arena, part.len + 1, 1);
	for (size_t i = 0; text && i < part.len; i++)
		text[i] = part.ptr[i] < ' ' || part.ptr[i] > '~' ? '?' : part.ptr[i];
	return span_of(text, text ? part.len : 0);
}

static int on_known(struct listing *listing, const struct ipc_message *message)
{
	struct member *member;
	struct span tail = message->tail;

	if (message->number != IPC_MESSAGE_origin_known)
		return 0;
	member = arena_new(&listing->arena, struct member);
	if (!member)
		return -ENOMEM;
	member->known = *(const struct ipc_origin_known *)message->body;
	member->upstream = take_text(listing, &tail);
	member->place = take_text(listing, &tail);
	member->text = take_text(listing, &tail);
	member->why = take_text(listing, &tail);
	list_push_back(&listing->members, &member->link);
	return 0;
}

static int on_ordered(struct listing *listing, const struct ipc_message *message)
{
	const struct ipc_origin_ordered *body = message->body;
	struct member *stray;
	bool is_known = false;

	if (message->number != IPC_MESSAGE_origin_ordered)
		return 0;
	LIST_EACH(&listing->members, node) {
		struct member *member = LIST_ITEM(node, struct member, link);

		if (member->known.origin != body->origin)
			continue;
		member->ordered = *body;
		is_known = true;
	}
	if (is_known)
		return 0;
	stray = arena_new(&listing->arena, struct member);
	if (!stray)
		return -ENOMEM;
	stray->ordered = *body;
	stray->known.origin = body->origin;
	stray->text = arena_copy(&listing->arena, message->tail);
	list_push_back(&listing->strays, &stray->link);
	return 0;
}

static void add(struct sums *sums, const struct ipc_origin_seen *seen)
{
	sums->seen.active += seen->active;
	sums->seen.open += seen->open;
	sums->seen.idle += seen->idle;
	sums->seen.waiting += seen->waiting;
	sums->seen.requests += seen->requests;
	sums->seen.failures += seen->failures;
	sums->ejecting += seen->ejected_ms > 0;
	if (seen->ejected_ms > sums->seen.ejected_ms)
		sums->seen.ejected_ms = seen->ejected_ms;
}

static int on_seen(struct listing *listing, const struct ipc_message *message)
{
	struct ipc_origin_seen seen;
	struct span rest = message->tail;

	if (message->number != IPC_MESSAGE_origins_seen)
		return 0;
	for (; rest.len >= sizeof(seen); rest = span_skip(rest, sizeof(seen))) {
		memcpy(&seen, rest.ptr, sizeof(seen));
		LIST_EACH(&listing->members, node) {
			struct member *member = LIST_ITEM(node, struct member, link);

			if (member->known.origin == seen.origin)
				add(&member->sums, &seen);
		}
	}
	return 0;
}

static int ask_dialer(struct ipc_channel *control, struct listing *listing)
{
	struct ipc_channel channel;
	int err;

	if (!listing->has_dialer)
		return 0;
	err = open_to(control, IPC_DIALER, 0, &channel);
	if (!err) {
		err = ask(&channel, listing, on_known);
		ipc_channel_close(&channel);
	}
	return err;
}

/* A worker that ends just now has nothing under way any more. */
static void ask_workers(struct ipc_channel *control, struct listing *listing)
{
	for (uint32_t i = 0; i < listing->worker_count; i++) {
		struct ipc_channel channel;

		if (open_to(control, IPC_WORKER, listing->workers[i], &channel))
			continue;
		if (ask(&channel, listing, on_seen))
			command_complain("portcullis: worker %u did not answer; its numbers are "
					 "missing\n",
					 listing->workers[i]);
		ipc_channel_close(&channel);
	}
}

/* 0, or COMMAND_FAULT after it has said why. To be freed either way. */
static int gather(struct ipc_channel *control, struct listing *listing)
{
	int err;

	memset(listing, 0, sizeof(*listing));
	arena_init(&listing->arena, ARENA_MAX);
	list_init(&listing->members);
	list_init(&listing->strays);
	listing->now_wall_ns = (int64_t)os_wall_ns();
	err = command_each_process(control, on_process, listing);
	if (err)
		return err;
	err = ask_dialer(control, listing);
	if (!err)
		err = ask(control, listing, on_ordered);
	if (err) {
		command_complain("portcullis: the service cannot tell its origins at the moment: "
				 "%s\n",
				 err < 0 ? strerror(-err) : "a process of it has ended");
		return COMMAND_FAULT;
	}
	ask_workers(control, listing);
	return 0;
}

/* ---- What is shown --------------------------------------------------------------------------------------- */

struct view {
	const char *state; /* up, down, ejected, drain */
	struct span why;   /* may be empty */
	int64_t since_ms;  /* -1: nobody knows */
};

static struct view view_of(struct listing *listing, const struct member *member)
{
	const struct sums *sums = &member->sums;
	struct view view = { .state = "up", .since_ms = -1 };

	if (member->known.since_ms)
		view.since_ms = (int64_t)member->known.since_ms;
	if (member->ordered.order) {
		view.state = member->ordered.order == IPC_ORDER_DRAIN ? "drain" : "down";
		view.why = SPAN("by command");
		view.since_ms =
			(listing->now_wall_ns - member->ordered.since_wall_ns) / (int64_t)OS_MS;
		if (view.since_ms < 0)
			view.since_ms = 0;
	} else if (member->known.verdict == IPC_ORIGIN_DOWN) {
		view.state = "down";
		view.why = member->why;
	} else if (sums->ejecting) {
		view.state = sums->ejecting == listing->worker_count ? "ejected" : "up";
		view.since_ms = -1;
		view.why = arena_format(&listing->arena,
					"requests failed: none for %llu s in %u of %u workers",
					(unsigned long long)(sums->seen.ejected_ms + 999) / 1000,
					sums->ejecting, listing->worker_count);
	} else if (!member->known.is_checked) {
		view.why = SPAN("not checked");
	}
	return view;
}

static void write_span_of_time(struct writer *out, int64_t ms)
{
	static const struct {
		int64_t ms;
		char unit;
	} units[] = { { 86400000, 'd' }, { 3600000, 'h' }, { 60000, 'm' }, { 1000, 's' } };
	size_t i = 0;

	if (ms < 0) {
		write_str(out, "-");
		return;
	}
	while (i + 1 < ARRAY_LEN(units) && ms < 2 * units[i].ms)
		i++;
	write_format(out, "%lld%c", (long long)(ms / units[i].ms), units[i].unit);
}

static int64_t next_of(const struct member *member)
{
	return member->known.next_ms == UINT64_MAX ? -1 : (int64_t)member->known.next_ms;
}

static void print_member(struct listing *listing, const struct member *member)
{
	const struct ipc_origin_seen *seen = &member->sums.seen;
	struct view view = view_of(listing, member);
	char text[4096], since[32], next[32];
	struct writer out = writer_of(text, sizeof(text));
	struct writer since_out = writer_of(since, sizeof(since));
	struct writer next_out = writer_of(next, sizeof(next));
	struct span name = span_first(member->text, 1024);

	write_span_of_time(&since_out, view.since_ms);
	write_span_of_time(&next_out, next_of(member));
	write_format(&out, "  %-28.*s %-8s %6.*s %6u %6u %6u %10llu %8llu %6.*s", SPAN_ARG(name),
		     view.state, SPAN_ARG(writer_done(&since_out)), seen->open, seen->active,
		     seen->waiting, (unsigned long long)seen->requests,
		     (unsigned long long)seen->failures, SPAN_ARG(writer_done(&next_out)));
	if (member->known.is_backup)
		write_str(&out, "  backup");
	if (view.why.len)
		write_format(&out, "  %.*s", SPAN_ARG(span_first(view.why, 512)));
	write_byte(&out, '\n');
	os_out(writer_done(&out));
}

static void print_heading(const struct member *member)
{
	if (member->upstream.len)
		command_print("%.*s  ", SPAN_ARG(member->upstream));
	command_print("%.*s\n  %-28s %-8s %6s %6s %6s %6s %10s %8s %6s\n", SPAN_ARG(member->place),
		      "origin", "state", "for", "conns", "active", "queue", "requests", "errors",
		      "check");
}

static void print_strays(struct listing *listing)
{
	if (list_is_empty(&listing->strays))
		return;
	command_print("taken out by command, and in no upstream now\n");
	LIST_EACH(&listing->strays, node)
		print_member(listing, LIST_ITEM(node, struct member, link));
}

static void print_text(struct listing *listing)
{
	uint64_t upstream = 0;
	bool is_first = true;

	LIST_EACH(&listing->members, node) {
		const struct member *member = LIST_ITEM(node, struct member, link);

		if (is_first || member->known.upstream != upstream)
			print_heading(member);
		is_first = false;
		upstream = member->known.upstream;
		print_member(listing, member);
	}
	print_strays(listing);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void write_text(struct writer *out, const char *key, struct span value)
{
	write_format(out, "\"%s\":", key);
	write_json(out, value);
	write_byte(out, ',');
}

static void write_number(struct writer *out, const char *key, int64_t value)
{
	if (value < 0)
		write_format(out, "\"%s\":null,", key);
	else
		write_format(out, "\"%s\":%lld,", key, (long long)value);
}

static void print_json_member(struct listing *listing, const struct member *member, bool is_first)
{
	const struct ipc_origin_seen *seen = &member->sums.seen;
	struct view view = view_of(listing, member);
	char text[32 * 1024];
	struct writer out = writer_of(text, sizeof(text));

	write_str(&out, is_first ? "{" : ",\n{");
	write_text(&out, "upstream", member->upstream);
	write_text(&out, "place", member->place);
	write_text(&out, "origin", member->text);
	write_text(&out, "state", span_str(view.state));
	write_text(&out, "why", view.why);
	write_number(&out, "since_ms", view.since_ms);
	write_number(&out, "weight", member->known.weight);
	write_number(&out, "max_connections", member->known.max_connections);
	write_number(&out, "connections", seen->open);
	write_number(&out, "idle", seen->idle);
	write_number(&out, "active", seen->active);
	write_number(&out, "queue", seen->waiting);
	write_number(&out, "requests", (int64_t)seen->requests);
	write_number(&out, "errors", (int64_t)seen->failures);
	write_number(&out, "next_check_ms", next_of(member));
	write_format(&out, "\"checked\":%s,\"backup\":%s,\"configured\":%s}",
		     member->known.is_checked ? "true" : "false",
		     member->known.is_backup ? "true" : "false",
		     member->place.len ? "true" : "false");
	os_out(writer_done(&out));
}

static void print_json(struct listing *listing)
{
	bool is_first = true;

	command_print("[");
	LIST_EACH(&listing->members, node) {
		print_json_member(listing, LIST_ITEM(node, struct member, link), is_first);
		is_first = false;
	}
	LIST_EACH(&listing->strays, node) {
		print_json_member(listing, LIST_ITEM(node, struct member, link), is_first);
		is_first = false;
	}
	command_print("]\n");
}

static int upstreams_run(const struct command_line *line)
{
	struct ipc_channel control;
	struct listing listing;
	int exit_code = command_connect(line, &control);

	if (exit_code)
		return exit_code;
	exit_code = gather(&control, &listing);
	if (!exit_code && command_has(line, "--json"))
		print_json(&listing);
	else if (!exit_code && list_is_empty(&listing.members) && list_is_empty(&listing.strays))
		command_print("the configuration names no origin\n");
	else if (!exit_code)
		print_text(&listing);
	arena_fini(&listing.arena);
	ipc_channel_close(&control);
	return exit_code;
}

const struct command command_upstreams = {
	.name = "upstreams",
	.form = "[--json] [-c FILE]",
	.help = "list the origins of the running service, and how they are",
	.details = "State and since when, connections, requests under way and waiting, how many "
		   "there were and failed, the next check.",
	.options = { COMMAND_FILE_OPTION, { "--json", NULL, "as JSON" } },
	.run = upstreams_run,
};

/* ---- origin ---------------------------------------------------------------------------------------------- */

/* Without a scheme that goes without saying. */
static struct span plain_text(struct span text)
{
	struct span scheme = SPAN("http://");

	return span_equal_nocase(span_first(text, scheme.len), scheme) ? span_skip(text, scheme.len)
								       : text;
}

static bool is_called(struct span text, struct span name)
{
	struct span https = SPAN("https://"), local = SPAN("localhost:");

	text = plain_text(text);
	name = plain_text(name);
	if (span_equal_nocase(text, name))
		return true;
	/* As it may be written: PORT for localhost:PORT, and HOST:PORT for https://HOST:PORT. */
	if (span_equal_nocase(span_first(name, local.len), local) &&
	    span_equal(text, span_skip(name, local.len)))
		return true;
	if (span_equal_nocase(span_first(text, local.len), local) &&
	    span_equal(name, span_skip(text, local.len)))
		return true;
	return span_equal_nocase(span_first(text, https.len), https) &&
	       span_equal_nocase(span_skip(text, https.len), name);
}

static int send_order(struct ipc_channel *control, const struct member *member,
		      enum ipc_order order)
{
	struct ipc_set_order body = { .origin = member->known.origin, .order = order };

	if (ipc_send(control, IPC_MESSAGE_set_order, &body, span_first(member->text, 1024), NULL,
		     0))
		return COMMAND_FAULT;
	return command_print_answers(control);
}

/* How many were called so; *ret_code: of the last order that failed. */
static size_t send_all(struct ipc_channel *control, const struct list *members, struct span name,
		       enum ipc_order order, int *ret_code)
{
	size_t count = 0;

	LIST_EACH(members, node) {
		const struct member *member = LIST_ITEM(node, struct member, link);
		int code;

		if (!is_called(member->text, name))
			continue;
		count++;
		code = send_order(control, member, order);
		if (code)
			*ret_code = code;
	}
	return count;
}

static void complain_unknown(const struct listing *listing, struct span name)
{
	size_t shown = 0;

	command_complain("portcullis: no origin is called %.*s", SPAN_ARG(name));
	LIST_EACH(&listing->members, node) {
		const struct member *member = LIST_ITEM(node, struct member, link);

		if (shown == SHOWN_MAX)
			break;
		command_complain("%s%.*s",
				 shown++ ? ", " : "; there are: ", SPAN_ARG(member->text));
	}
	command_complain("\n");
}

/* Asking every worker again shows that it has the order: what comes from now on is answered by it. */
static int show(struct ipc_channel *control, struct span name)
{
	struct listing listing;
	int exit_code = gather(control, &listing);
	const struct member *before = NULL;

	LIST_EACH(&listing.members, node) {
		const struct member *member = LIST_ITEM(node, struct member, link);

		if (exit_code || !is_called(member->text, name))
			continue;
		if (!before || before->known.upstream != member->known.upstream)
			print_heading(member);
		before = member;
		print_member(&listing, member);
	}
	arena_fini(&listing.arena);
	return exit_code;
}

static bool find_order(const char *word, enum ipc_order *ret_order)
{
	static const char *const words[] = {
		[IPC_ORDER_UP] = "up", [IPC_ORDER_DRAIN] = "drain", [IPC_ORDER_DOWN] = "down"
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(word, words[i]))
			continue;
		*ret_order = (enum ipc_order)i;
		return true;
	}
	return false;
}

static int origin_run(const struct command_line *line)
{
	struct ipc_channel control;
	struct listing listing;
	struct span name = span_str(line->operands[1]);
	enum ipc_order order;
	int exit_code;

	if (!find_order(line->operands[0], &order))
		return command_wrong(line, "it is `drain`, `down` or `up`, not `%s`",
				     line->operands[0]);
	exit_code = command_connect(line, &control);
	if (exit_code)
		return exit_code;
	exit_code = gather(&control, &listing);
	if (!exit_code && !(send_all(&control, &listing.members, name, order, &exit_code) +
			    send_all(&control, &listing.strays, name, order, &exit_code))) {
		complain_unknown(&listing, name);
		exit_code = COMMAND_FAULT;
	}
	arena_fini(&listing.arena);
	if (!exit_code)
		exit_code = show(&control, name);
	ipc_channel_close(&control);
	return exit_code;
}

const struct command command_origin = {
	.name = "origin",
	.form = "drain|down|up ADDR [-c FILE]",
	.help = "take an origin out, or let it in again",
	.details = "drain: it gets no new requests, what is under way goes on. down: what is under "
		   "way ends, too.\nup: what was said holds no more. It holds over reloads and "
		   "restarts until then.",
	.operands_min = 2,
	.operands_max = 2,
	.options = { COMMAND_FILE_OPTION },
	.run = origin_run,
};
