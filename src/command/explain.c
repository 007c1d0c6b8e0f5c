/* What would happen to a request: the configuration is compiled as for a start, and the request passes through the
 * stages of a worker that asks nobody. */
#include "command/command.h"
#include "crypto/crypto.h"
#include "edge/edge.h"
#include "ipc/ipc.h"
#include "os/os.h"
#include "proc/proc.h"

enum { CHECK_WAIT_MS = 35000, ARENA_MAX = 64 << 20, CONNECTIONS = 16 };

/* ---- The configuration ----------------------------------------------------------------------------------- */

/* Prints what is wrong with it. 0, or an exit code. */
static int listen_to(struct proc_child *job, const char *file, int *ret_fd, size_t *ret_size)
{
	int exit_code = COMMAND_FAULT;

	for (;;) {
		struct ipc_message message;
		bool is_over;

		if (ipc_wait(&job->channel, CHECK_WAIT_MS, &message)) {
			command_complain("portcullis: %s: the check ended without a result\n",
					 file);
			return COMMAND_FAULT;
		}
		is_over = message.number == IPC_MESSAGE_compiled;
		if (message.number == IPC_MESSAGE_diagnostic) {
			os_err(message.tail);
		} else if (is_over && message.descriptor_count) {
			*ret_fd = TAKE_FD(message.descriptors[0]);
			*ret_size = (size_t)((const struct ipc_compiled *)message.body)->size;
			exit_code = 0;
		}
		ipc_message_done(&message);
		if (is_over)
			return exit_code;
	}
}

static int compile(const char *file, const struct snapshot **ret_snapshot)
{
	struct proc_child job;
	OS_AUTO_FD text = -1, snapshot = -1;
	size_t size = 0;
	int exit_code, err = os_open(OS_FOLDER_CURRENT, file, OS_OPEN_READ, 0, &text);

	if (err) {
		command_complain("portcullis: %s: %s\n", file,
				 err == -ENOENT ? "there is no such file" : "it cannot be read");
		return COMMAND_FAULT;
	}
	if (proc_check_start(text, file, &job)) {
		command_complain("portcullis: %s: the check could not be started\n", file);
		return COMMAND_FAULT;
	}
	exit_code = listen_to(&job, file, &snapshot, &size);
	proc_child_end(&job);
	if (!exit_code && proc_check_map(snapshot, size, ret_snapshot)) {
		command_complain("portcullis: the compiled configuration cannot be mapped\n");
		exit_code = COMMAND_FAULT;
	}
	return exit_code;
}

/* ---- The request ----------------------------------------------------------------------------------------- */

struct url {
	bool is_tls, has_port;
	struct span host; /* as in Host, without the port; v6 in brackets */
	uint16_t port;
	struct span target; /* path and query */
};

static bool cut_port(struct span authority, struct url *ret_url)
{
	size_t bracket = span_find_byte(authority, ']');
	size_t from = bracket < authority.len ? bracket : 0;
	size_t colon = from + span_find_byte(span_skip(authority, from), ':');
	uint64_t port;

	ret_url->host = span_first(authority, colon);
	if (colon >= authority.len)
		return ret_url->host.len > 0;
	ret_url->has_port = true;
	if (!parse_u64(span_skip(authority, colon + 1), UINT16_MAX, &port) || !port)
		return false;
	ret_url->port = (uint16_t)port;
	return ret_url->host.len > 0;
}

/* Without a scheme it is https; without a path it is `/`. */
static bool parse_url(struct span text, struct url *ret_url)
{
	struct span https = SPAN("https://"), http = SPAN("http://");
	size_t end;

	*ret_url = (struct url){ .is_tls = true };
	if (span_equal_nocase(span_first(text, https.len), https)) {
		text = span_skip(text, https.len);
	} else if (span_equal_nocase(span_first(text, http.len), http)) {
		text = span_skip(text, http.len);
		ret_url->is_tls = false;
	}
	text = span_first(text, span_find_byte(text, '#'));
	for (end = 0; end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?'; end++)
		continue;
	ret_url->target = span_skip(text, end);
	ret_url->port = ret_url->is_tls ? 443 : 80;
	return cut_port(span_first(text, end), ret_url);
}

/* The listener of that port; a port that none has counts for nothing. NULL: nobody speaks that scheme. */
static const struct snapshot_listener *find_listener(const struct snapshot *snapshot,
						     const struct url *url)
{
	const struct snapshot_listener *any = NULL;

	for (size_t i = 0; i < snapshot->listener_count; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];

		if (listener->is_plain == url->is_tls)
			continue;
		if (listener->address.port == url->port)
			return listener;
		if (!any)
			any = listener;
	}
	return any;
}

static struct span write_head(struct arena *arena, const struct command_line *line,
			      const struct url *url)
{
	const char *method = command_value(line, "--method"), *field;
	struct span host = url->host, head;
	size_t size = url->target.len + url->host.len + 256;
	struct writer out;

	for (size_t i = 0; (field = command_value_at(line, "--header", i)); i++)
		size += span_str(field).len + 2;
	out = writer_of(arena_alloc(arena, size, 1), size);
	write_format(&out, "%s %s%.*s HTTP/1.1\r\nHost: %.*s", method ? method : "GET",
		     url->target.len && url->target.ptr[0] == '/' ? "" : "/", SPAN_ARG(url->target),
		     SPAN_ARG(host));
	if (url->has_port)
		write_format(&out, ":%u", url->port);
	write_str(&out, "\r\n");
	for (size_t i = 0; (field = command_value_at(line, "--header", i)); i++)
		write_format(&out, "%s\r\n", field);
	write_str(&out, "\r\n");
	head = writer_done(&out);
	return out.ok ? head : SPAN_NONE;
}

/* ---- What is told ---------------------------------------------------------------------------------------- */

static const char *word_of(enum edge_said said)
{
	switch (said) {
	case EDGE_SAID_ON:
		return "goes on";
	case EDGE_SAID_ANSWER:
		return "answers";
	case EDGE_SAID_ABORT:
		return "ends the connection";
	case EDGE_SAID_NOTHING:
		break;
	}
	return "waits";
}

static struct span end_text(struct arena *arena, const struct edge_explanation *found)
{
	struct span text = span_str(telemetry_ends[found->end].word);

	if (!found->end_detail.len)
		return text;
	return arena_format(arena, "%.*s:%.*s", SPAN_ARG(text), SPAN_ARG(found->end_detail));
}

static struct span handler_text(struct arena *arena, const struct snapshot_route *route)
{
	const struct snapshot_upstream *upstream;

	switch (route->handler) {
	case SNAPSHOT_FILES:
		return arena_format(arena, "files below %.*s", SPAN_ARG(route->root->path));
	case SNAPSHOT_PROXY:
		upstream = route->proxy.upstream;
		if (upstream->name.len)
			return arena_format(arena, "an origin of %.*s", SPAN_ARG(upstream->name));
		if (upstream->member_count > 1)
			return arena_format(arena, "%.*s, or one of %zu others",
					    SPAN_ARG(upstream->members[0].origin->text),
					    upstream->member_count - 1);
		return upstream->members[0].origin->text;
	case SNAPSHOT_REDIRECT:
	case SNAPSHOT_RESPOND:
		break;
	}
	return SPAN("itself");
}

/* One line for each stage that ran; what it knew by then behind the first ones. */
static void print_steps(struct arena *arena, const struct edge_explanation *found)
{
	for (size_t i = 0; i < found->step_count; i++) {
		const struct edge_step *step = &found->steps[i];
		struct span stage = span_str(step->stage), more = SPAN_NONE;

		if (span_equal(stage, SPAN("head")) && found->site)
			more = arena_format(
				arena, "site %.*s (%.*s:%u)", SPAN_ARG(found->site->names[0]),
				SPAN_ARG(found->site->place.file), found->site->place.line);
		else if (span_equal(stage, SPAN("route")))
			more = found->route ? found->route->rule : SPAN("no line is for this path");
		else if (span_equal(stage, SPAN("dispatch")) && found->is_dispatched)
			more = arena_format(arena, "asks %.*s",
					    SPAN_ARG(handler_text(arena, found->route)));
		command_print("  %-16s %-10s %.*s\n", step->stage, word_of(step->said),
			      SPAN_ARG(more));
	}
}

static void print_text(struct arena *arena, const char *url,
		       const struct snapshot_listener *listener,
		       const struct edge_explanation *found)
{
	command_print("%s\n  %-16s %-10s %.*s\n", url, "accept", "goes on",
		      SPAN_ARG(listener->rule));
	if (!listener->is_plain)
		command_print("  %-16s %-10s %s\n", "hello",
			      found->is_refused ? "refuses" : "goes on",
			      found->is_refused ? "unrecognized_name: no site has that name" : "");
	print_steps(arena, found);
	if (found->is_refused)
		return;
	command_print("  → ");
	if (found->is_dispatched)
		command_print("as %.*s says", SPAN_ARG(handler_text(arena, found->route)));
	else if (found->status && found->end == TELEMETRY_END_OK)
		command_print("%u", found->status);
	else if (found->status)
		command_print("%u %.*s", found->status, SPAN_ARG(end_text(arena, found)));
	else
		command_print("the connection ends: %.*s", SPAN_ARG(end_text(arena, found)));
	if (found->location.len)
		command_print(" to %.*s", SPAN_ARG(found->location));
	if (found->rule.len)
		command_print(", by %.*s", SPAN_ARG(found->rule));
	command_print("\n");
}

static void write_member(struct writer *out, const char *key, struct span value)
{
	write_format(out, ",\"%s\":", key);
	if (value.len)
		write_json(out, value);
	else
		write_str(out, "null");
}

static void print_json(struct arena *arena, const char *url,
		       const struct snapshot_listener *listener,
		       const struct edge_explanation *found, bool is_first)
{
	char client[OS_ADDRESS_TEXT_MAX];
	struct writer address = writer_of(client, sizeof(client));
	size_t size = 64 * 1024;
	struct writer out = writer_of(arena_alloc(arena, size, 1), size);

	os_address_write_ip(&found->client, &address);
	write_str(&out, is_first ? "{\"url\":" : ",\n{\"url\":");
	write_json(&out, span_str(url));
	write_format(&out, ",\"status\":");
	if (found->status)
		write_u64(&out, found->status);
	else
		write_str(&out, "null");
	write_member(&out, "rule", found->rule);
	write_member(&out, "site", found->site ? found->site->names[0] : SPAN_NONE);
	write_member(&out, "listener", listener->rule);
	write_member(&out, "client", writer_done(&address));
	write_member(&out, "location", found->location);
	write_member(&out, "end",
		     found->is_refused      ? SPAN("unrecognized_name")
		     : found->is_dispatched ? SPAN_NONE
					    : end_text(arena, found));
	write_member(&out, "asks",
		     found->is_dispatched ? handler_text(arena, found->route) : SPAN_NONE);
	write_str(&out, ",\"stages\":[");
	for (size_t i = 0; i < found->step_count; i++) {
		write_format(&out, "%s{\"stage\":\"%s\",\"said\":\"%s\"}", i ? "," : "",
			     found->steps[i].stage, word_of(found->steps[i].said));
	}
	write_str(&out, "]}");
	os_out(writer_done(&out));
}

/* ---- Its worker ------------------------------------------------------------------------------------------ */

static void release_snapshot(void *host, const struct snapshot *snapshot)
{
	(void)host;
	(void)snapshot;
}

static void drained(void *host)
{
	(void)host;
}

static const struct edge_host host = { .release_snapshot = release_snapshot, .drained = drained };

struct played {
	struct os_loop *loop;
	struct ipc_range *range;
	struct edge *edge;
};

static int played_start(struct played *played, const struct snapshot *snapshot)
{
	struct edge_config config = { .host = &host, .connections_max = CONNECTIONS };
	int failed = os_loop_new(&played->loop);

	crypto_start();
	played->range = heap_alloc(IPC_RANGE_SIZE);
	config.loop = played->loop;
	config.range = played->range;
	if (!failed && !played->range)
		failed = -ENOMEM;
	if (!failed)
		failed = edge_new(&config, &played->edge);
	if (!failed)
		failed = edge_prepare(played->edge, snapshot);
	if (!failed)
		edge_commit(played->edge);
	return failed;
}

static void played_end(struct played *played)
{
	edge_free(played->edge);
	heap_free(played->range);
	os_loop_free(played->loop);
}

/* 0, or an exit code. */
static int explain(const struct command_line *line, struct edge *edge,
		   const struct snapshot *snapshot, struct arena *arena, size_t index)
{
	const char *text = line->operands[index], *from = command_value(line, "--from");
	struct edge_request request = { .listener = 0 };
	struct edge_explanation found;
	const struct snapshot_listener *listener;
	struct url url;

	if (!parse_url(span_str(text), &url))
		return command_wrong(line, "`%s` is no URL", text);
	if (!os_address_parse_ip(from ? span_str(from) : SPAN("127.0.0.1"), &request.client))
		return command_wrong(line, "`%s` is no address", from);
	listener = find_listener(snapshot, &url);
	if (!listener) {
		command_complain("portcullis: %s: no listener speaks %s\n", text,
				 url.is_tls ? "TLS" : "without TLS");
		return COMMAND_FAULT;
	}
	request.listener = listener->id;
	if (!os_address_parse_ip(url.host, &request.local)) {
		request.sni = url.host;
		(void)!os_address_parse_ip(SPAN("127.0.0.1"), &request.local);
	}
	request.head = write_head(arena, line, &url);
	if (!request.head.len || edge_explain(edge, &request, arena, &found)) {
		command_complain("portcullis: out of memory\n");
		return COMMAND_FAULT;
	}
	if (command_has(line, "--json"))
		print_json(arena, text, listener, &found, !index);
	else
		print_text(arena, text, listener, &found);
	return 0;
}

static int explain_run(const struct command_line *line)
{
	const char *file = command_value(line, "-c");
	const struct snapshot *snapshot = NULL;
	struct played played = { NULL, NULL, NULL };
	bool is_json = command_has(line, "--json");
	struct arena arena;
	int exit_code = compile(file ? file : "/etc/portcullis/portcullis.conf", &snapshot);

	if (exit_code)
		return exit_code;
	if (played_start(&played, snapshot)) {
		played_end(&played);
		command_complain("portcullis: out of memory\n");
		return COMMAND_FAULT;
	}
	arena_init(&arena, ARENA_MAX);
	if (is_json)
		command_print("[");
	for (size_t i = 0; !exit_code && i < line->operand_count; i++)
		exit_code = explain(line, played.edge, snapshot, &arena, i);
	if (is_json)
		command_print("]\n");
	arena_fini(&arena);
	played_end(&played);
	return exit_code;
}

const struct command command_explain = {
	.name = "explain",
	.form = "URL... [--from IP] [--method M] [--header FIELD] [--json] [-c FILE]",
	.help = "what a request would meet, stage by stage, and the line that decides",
	.details = "Nobody is asked: what a file or an origin would answer is left open.",
	.operands_min = 1,
	.operands_max = COMMAND_OPERANDS_MAX,
	.options = { { "-c", "FILE", "the configuration (/etc/portcullis/portcullis.conf)" },
		     { "--from", "IP", "who asks (127.0.0.1)" },
		     { "--method", "M", "GET is implied" },
		     { "--header", "FIELD", "`NAME: VALUE`; may be repeated" },
		     { "--json", NULL, "as JSON" } },
	.run = explain_run,
};
