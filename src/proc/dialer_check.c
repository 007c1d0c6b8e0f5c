#include "proc/dialer_check.h"

#include "codec/codec.h"
#include "telemetry/telemetry.h"
#include "tls/tls.h"

#include <string.h>

enum {
	RECEIVE_SIZE = 16 * 1024,
	HEAD_MAX = 16 * 1024,
	WHY_MAX = 128,
	/* Names of a machine's first checks would otherwise all fall on the same moment. */
	SPREAD_MS = 20,
};

enum verdict { UNKNOWN, UP, DOWN };

struct check {
	uint64_t id;
	struct dialer_checks *checks;
	struct list link, woken;
	bool is_wanted;     /* by the snapshot that is being committed */
	struct arena texts; /* its copies */
	struct arena arena; /* of the request under way */
	struct snapshot_check rule;
	uint64_t origin, ca_id;
	bool is_https;
	struct span host, server_name;
	struct span
		first; /* that the connection is our own, where it must begin with a PROXY header */

	enum verdict verdict;
	uint32_t streak;              /* answers in a row that say otherwise */
	uint64_t verdict_ns, next_ns; /* since when, and when it is asked again; 0: now */
	char why[WHY_MAX];

	struct os_timer timer; /* of the next one, or of this one's end */
	bool is_open;
	struct upstream_fetch fetch;
	struct upstream_request request;
	struct http_fields fields;
};

/* A question of upstream's to ourselves. */
struct check_dial {
	struct list link;
	uint64_t number;
	struct upstream_connection *connection;
	struct dial_attempt *attempt;
};

struct dialer_checks {
	struct proc_self *self;
	struct dial *dial;
	struct upstream *upstream;
	struct list checks, woken, dials;
	struct map by_id, policies /* ca id + 1 → tls_policy */;
	uint64_t dial_number;
	uint32_t started; /* since the last commit */
	char receive_buffer[RECEIVE_SIZE];
};

/* ---- What upstream asks for ------------------------------------------------------------------------------------ */

static void asked_free(struct check_dial *dial)
{
	list_remove(&dial->link);
	heap_free(dial);
}

static void on_dialed(void *owner, struct dial_attempt *attempt, const struct dial_result *result)
{
	struct check_dial *dial = owner;
	struct upstream_connection *connection = dial->connection;

	(void)attempt;
	asked_free(dial);
	if (result->status)
		upstream_dial_failed(connection, result->status, result->detail);
	else
		upstream_dialed(connection, result->fd, result->connect_us);
}

static int host_dial(void *host, struct upstream_connection *connection, uint64_t origin_id,
		     uint32_t timeout_ms, uint64_t *ret_question)
{
	struct dialer_checks *checks = host;
	struct check_dial *dial = heap_alloc(sizeof(*dial));
	int failed;

	if (!dial)
		return -ENOMEM;
	dial->number = *ret_question = ++checks->dial_number;
	dial->connection = connection;
	list_push_back(&checks->dials, &dial->link);
	failed = dial_start(checks->dial, origin_id, timeout_ms, on_dialed, dial, &dial->attempt);
	if (failed)
		asked_free(dial);
	return failed;
}

static void host_cancel_dial(void *host, uint64_t question)
{
	struct dialer_checks *checks = host;

	LIST_EACH(&checks->dials, node) {
		struct check_dial *dial = LIST_ITEM(node, struct check_dial, link);

		if (dial->number != question)
			continue;
		dial_cancel(dial->attempt);
		asked_free(dial);
		return;
	}
}

static void wake(struct check *check)
{
	if (!list_is_linked(&check->woken))
		list_push_back(&check->checks->woken, &check->woken);
	os_loop_wake_again(proc_loop(check->checks->self));
}

static void host_wake(void *host, void *owner)
{
	(void)host;
	wake(owner);
}

static struct tls_policy *host_tls_policy(void *host, uint64_t ca_id)
{
	struct dialer_checks *checks = host;

	return map_get(&checks->policies, ca_id + 1);
}

static void host_displaced(void *host)
{
	(void)host;
}

static const struct upstream_host check_host = {
	.dial = host_dial,
	.cancel_dial = host_cancel_dial,
	.wake = host_wake,
	.tls_policy = host_tls_policy,
	.displaced = host_displaced,
};

/* ---- What workers are told ---------------------------------------------------------------------------------------- */

static void send_health(struct ipc_channel *worker, const struct check *from, bool is_down)
{
	struct ipc_health body = { .origin = from->origin, .is_down = is_down };

	/* One that does not read now is told again with the next check. */
	if (ipc_send(worker, IPC_MESSAGE_health, &body, is_down ? span_str(from->why) : SPAN_NONE,
		     NULL, 0) < 0)
		return;
}

/* The check that speaks for this origin: one that says down, else any that knows. NULL: none does. */
static const struct check *speaker(const struct dialer_checks *checks, uint64_t origin)
{
	const struct check *found = NULL;

	LIST_EACH(&checks->checks, node) {
		const struct check *check = LIST_ITEM(node, struct check, link);

		if (check->origin != origin || check->verdict == UNKNOWN)
			continue;
		if (!found || check->verdict == DOWN)
			found = check;
		if (check->verdict == DOWN)
			break;
	}
	return found;
}

void dialer_checks_tell(struct dialer_checks *checks, struct ipc_channel *worker)
{
	LIST_EACH(&checks->checks, node) {
		const struct check *found =
			speaker(checks, LIST_ITEM(node, struct check, link)->origin);

		if (found)
			send_health(worker, found, found->verdict == DOWN);
	}
}

static void tell_all(struct dialer_checks *checks, uint64_t origin)
{
	const struct check *found = speaker(checks, origin);

	for (uint32_t slot = 0; found && slot < proc_birth(checks->self)->slot_count; slot++) {
		struct ipc_channel *worker = proc_link(checks->self, IPC_WORKER, slot);

		if (worker)
			send_health(worker, found, found->verdict == DOWN);
	}
}

/* ---- One check ------------------------------------------------------------------------------------------------------ */

static void on_next(struct os_timer *timer);

static void schedule(struct check *check, uint64_t in_ns)
{
	struct os_loop *loop = proc_loop(check->checks->self);

	check->timer.on_due = on_next;
	check->next_ns = os_loop_now_ns(loop) + in_ns;
	os_timer_set(loop, &check->timer, check->next_ns);
}

static void stop(struct check *check)
{
	os_timer_stop(&check->timer);
	list_remove(&check->woken);
	if (check->is_open)
		upstream_fetch_stop(&check->fetch);
	check->is_open = false;
	arena_reset(&check->arena);
}

static void conclude(struct check *check, bool is_good, struct span why)
{
	enum verdict says = is_good ? UP : DOWN;
	uint32_t needed = is_good ? check->rule.rise : check->rule.fall;
	struct writer writer = writer_of(check->why, sizeof(check->why) - 1);

	stop(check);
	check->streak = check->verdict == says ? 0 : check->streak + 1;
	if (check->verdict == UNKNOWN || check->streak >= needed) {
		check->verdict = says;
		check->verdict_ns = os_loop_now_ns(proc_loop(check->checks->self));
		check->streak = 0;
	}
	if (!is_good) {
		write_span(&writer, span_first(why, sizeof(check->why) - 1));
		check->why[writer_done(&writer).len] = '\0';
	}
	/* Each time: whoever missed it, or has only just heard of this origin, knows it then. */
	tell_all(check->checks, check->origin);
	schedule(check, check->rule.every_ns);
}

static void on_timeout(struct os_timer *timer)
{
	conclude(CONTAINER_OF(timer, struct check, timer), false, SPAN("no answer in time"));
}

static void limits_of(const struct check *check, struct upstream_limits *ret)
{
	uint32_t ms = (uint32_t)(check->rule.timeout_ns / OS_MS);

	/* One after the other these would be longer: the check's own timer ends it. */
	*ret = (struct upstream_limits){
		.connect_ms = ms,
		.first_byte_ms = ms,
		.between_bytes_ms = ms,
		.event_stream_ms = ms,
		.tunnel_ms = ms,
		.head_max = HEAD_MAX,
		.connections_per_origin = UINT32_MAX,
	};
}

static int request_make(struct check *check)
{
	struct upstream_request *request = &check->request;

	http_fields_init(&check->fields, &check->arena);
	*request = (struct upstream_request){
		.origin_id = check->origin,
		.is_tls = check->is_https,
		.is_verified = check->is_https,
		.server_name = check->server_name,
		.ca_id = check->ca_id,
		.method = HTTP_GET,
		.method_text = SPAN("GET"),
		.target = check->rule.path,
		.host = check->host,
		.fields = &check->fields,
		.first = check->first,
	};
	limits_of(check, &request->limits);
	if (http_fields_add_id(&check->fields, HTTP_NAME_HOST, check->host))
		return -ENOMEM;
	return http_fields_add_id(&check->fields, HTTP_NAME_USER_AGENT, SPAN("portcullis-check"));
}

static void on_next(struct os_timer *timer)
{
	struct check *check = CONTAINER_OF(timer, struct check, timer);
	struct os_loop *loop = proc_loop(check->checks->self);

	check->fetch = (struct upstream_fetch){ 0 };
	check->next_ns = 0;
	check->timer.on_due = on_timeout;
	os_timer_set(loop, &check->timer, os_loop_now_ns(loop) + check->rule.timeout_ns);
	if (request_make(check) || upstream_fetch_start(check->checks->upstream, &check->fetch,
							&check->request, &check->arena, check)) {
		/* That says nothing about the origin. */
		stop(check);
		schedule(check, check->rule.every_ns);
		return;
	}
	check->is_open = true;
	os_loop_wake_again(loop);
}

/* For want of memory or descriptors, or by our own fault: that says nothing about the origin. */
static bool is_ours(uint32_t end)
{
	return end == TELEMETRY_END_NO_ROOM || end == TELEMETRY_END_INTERNAL ||
	       end == TELEMETRY_END_HELPER_GONE || end == TELEMETRY_END_QUEUE_FULL;
}

static void on_failed(struct check *check)
{
	const struct upstream_failure *failure = &check->fetch.failure;
	char text[WHY_MAX];
	struct writer writer = writer_of(text, sizeof(text));

	if (is_ours(failure->end)) {
		stop(check);
		schedule(check, check->rule.every_ns);
		return;
	}
	write_format(&writer, failure->detail.len ? "%s:%.*s" : "%s",
		     telemetry_ends[failure->end].word, SPAN_ARG(failure->detail));
	conclude(check, false, writer_done(&writer));
}

static void on_head(struct check *check)
{
	uint16_t status = check->fetch.response.status;
	char text[WHY_MAX];
	struct writer writer = writer_of(text, sizeof(text));

	write_format(&writer, "status %u", status);
	conclude(check, status >= check->rule.status_from && status <= check->rule.status_to,
		 writer_done(&writer));
}

static void look(struct check *check)
{
	switch (check->fetch.state) {
	case UPSTREAM_IDLE:
	case UPSTREAM_WORKING:
		break;
	case UPSTREAM_INTERIM:
		upstream_fetch_interim_done(&check->fetch);
		wake(check);
		break;
	case UPSTREAM_HEAD:
	case UPSTREAM_DONE:
		on_head(check);
		break;
	case UPSTREAM_FAILED:
		on_failed(check);
		break;
	}
}

void dialer_checks_turn(struct dialer_checks *checks)
{
	struct list now;

	list_init(&now);
	while (!list_is_empty(&checks->woken)) {
		struct list *first = checks->woken.next;

		list_remove(first);
		list_push_back(&now, first);
	}
	while (!list_is_empty(&now)) {
		struct check *check = LIST_ITEM(now.next, struct check, woken);

		list_remove(&check->woken);
		if (check->is_open)
			look(check);
	}
	upstream_turn_end(checks->upstream);
}

/* ---- A configuration's checks ---------------------------------------------------------------------------------------- */

static void check_free(struct check *check)
{
	struct dialer_checks *checks = check->checks;

	stop(check);
	map_remove(&checks->by_id, check->id);
	list_remove(&check->link);
	arena_fini(&check->texts);
	arena_fini(&check->arena);
	heap_free(check);
}

static uint64_t check_id(const struct snapshot_origin *origin, const struct snapshot_check *rule)
{
	uint64_t parts[9] = {
		origin->id,      hash_id(rule->path), hash_id(rule->host),
		rule->every_ns,  rule->timeout_ns,    rule->status_from,
		rule->status_to, rule->rise,          rule->fall,
	};

	return hash_id(span_of(parts, sizeof(parts)));
}

static int fill_first(struct check *check, const struct snapshot_origin *origin)
{
	char bytes[CODEC_PROXY_LINE_MAX];
	struct writer out = writer_of(bytes, sizeof(bytes));

	if (!origin->send_proxy)
		return 0;
	codec_proxy_write(&out, origin->send_proxy, &(struct codec_proxy_header){ 0 });
	check->first = arena_copy(&check->texts, writer_done(&out));
	return check->first.ptr ? 0 : -ENOMEM;
}

/* Its texts are copies: the snapshot goes before the check does. */
static int check_fill(struct check *check, const struct snapshot_origin *origin,
		      const struct snapshot_check *rule)
{
	struct span host = rule->host.len ? rule->host : origin->host_field;
	struct span name = origin->server_name.len ? origin->server_name : origin->host;

	check->rule = *rule;
	check->rule.path = arena_copy(&check->texts, rule->path);
	check->host = arena_copy(&check->texts, host);
	check->server_name = arena_copy(&check->texts, name);
	check->origin = origin->id;
	check->is_https = origin->is_https;
	check->ca_id = origin->ca ? origin->ca->id : 0;
	return check->rule.path.ptr && check->host.ptr ? fill_first(check, origin) : -ENOMEM;
}

/* ---- For `portcullis upstreams` --------------------------------------------------------------------------------------- */

static void fill_known(const struct check *check, struct ipc_origin_known *known)
{
	static const uint32_t verdicts[] = {
		[UNKNOWN] = IPC_ORIGIN_UNCHECKED, [UP] = IPC_ORIGIN_UP, [DOWN] = IPC_ORIGIN_DOWN
	};
	uint64_t now_ns = os_loop_now_ns(proc_loop(check->checks->self));

	known->is_checked = 1;
	known->verdict = verdicts[check->verdict];
	/* 0 stands for nobody knows. */
	if (check->verdict != UNKNOWN)
		known->since_ms = (now_ns - check->verdict_ns) / OS_MS + 1;
	if (check->next_ns)
		known->next_ms = check->next_ns > now_ns ? (check->next_ns - now_ns) / OS_MS : 0;
}

static bool tell_known(struct dialer_checks *checks, struct ipc_channel *command,
		       const struct snapshot_upstream *upstream,
		       const struct snapshot_member *member)
{
	const struct snapshot_origin *origin = member->origin;
	const struct check *check = map_get(&checks->by_id, check_id(origin, &upstream->check));
	struct ipc_origin_known known = {
		.origin = origin->id,
		.upstream = upstream->id,
		.weight = member->weight,
		.is_backup = member->is_backup,
		.max_connections = member->max_connections,
		.next_ms = UINT64_MAX,
	};
	char text[4096];
	struct writer tail = writer_of(text, sizeof(text));

	if (check)
		fill_known(check, &known);
	write_span(&tail, span_first(upstream->name, 512));
	write_byte(&tail, '\0');
	write_format(&tail, "%.*s:%u:%u", SPAN_ARG(span_first(upstream->place.file, 2048)),
		     upstream->place.line, upstream->place.column);
	write_byte(&tail, '\0');
	write_span(&tail, span_first(origin->text, 1024));
	write_byte(&tail, '\0');
	write_str(&tail, check && check->verdict == DOWN ? check->why : "");
	write_byte(&tail, '\0');
	return ipc_send(command, IPC_MESSAGE_origin_known, &known, writer_done(&tail), NULL, 0) ==
	       0;
}

void dialer_checks_list(struct dialer_checks *checks, struct ipc_channel *command)
{
	const struct snapshot *snapshot = proc_snapshot(checks->self);
	bool ok = true;

	for (size_t i = 0; ok && snapshot && i < snapshot->upstream_count; i++) {
		const struct snapshot_upstream *upstream = &snapshot->upstreams[i];

		for (size_t j = 0; ok && j < upstream->member_count; j++)
			ok = tell_known(checks, command, upstream, &upstream->members[j]);
	}
	/* A command that does not read gets no end. */
	if (ok && IPC_SEND(command, origins_end, { 0 }) < 0)
		return;
}

/* ---- A configuration's checks, wanted ----------------------------------------------------------------------------------- */

static int check_want(struct dialer_checks *checks, const struct snapshot_origin *origin,
		      const struct snapshot_check *rule)
{
	uint64_t id = check_id(origin, rule);
	struct check *check = map_get(&checks->by_id, id);

	if (check) {
		check->is_wanted = true;
		return 0;
	}
	check = heap_alloc(sizeof(*check));
	if (!check)
		return -ENOMEM;
	check->checks = checks;
	check->id = id;
	check->is_wanted = true;
	arena_init(&check->texts, 64 * 1024);
	arena_init(&check->arena, 64 * 1024);
	list_push_back(&checks->checks, &check->link);
	if (check_fill(check, origin, rule) || map_set(&checks->by_id, id, check)) {
		check_free(check);
		return -ENOMEM;
	}
	schedule(check, checks->started++ * SPREAD_MS * OS_MS % (rule->every_ns + 1));
	return 0;
}

static int take_roots(struct dialer_checks *checks)
{
	const struct proc_data *data;
	size_t cursor = 0;

	while ((data = proc_data_next(checks->self, &cursor))) {
		struct tls_client_policy_config config = {
			.roots = &data->bytes,
			.root_count = data->bytes.len ? 1 : 0,
			.alpn = { SPAN("http/1.1") },
			.alpn_count = 1,
		};
		struct tls_policy *policy = NULL;

		if (data->what != IPC_DATA_ROOTS)
			continue;
		/* Workers have refused what is none. */
		if (tls_client_policy_new(&config, &policy))
			return -ENOMEM;
		tls_policy_free(map_remove(&checks->policies, data->id + 1));
		if (map_set(&checks->policies, data->id + 1, policy)) {
			tls_policy_free(policy);
			return -ENOMEM;
		}
	}
	return 0;
}

static bool has_any(const struct snapshot *snapshot)
{
	for (size_t i = 0; snapshot && i < snapshot->upstream_count; i++) {
		if (snapshot->upstreams[i].check.path.len)
			return true;
	}
	return false;
}

int dialer_checks_commit(struct dialer_checks *checks, const struct snapshot *snapshot)
{
	int failed = has_any(snapshot) ? take_roots(checks) : 0;

	checks->started = 0;
	LIST_EACH(&checks->checks, node)
		LIST_ITEM(node, struct check, link)->is_wanted = false;
	for (size_t i = 0; !failed && snapshot && i < snapshot->upstream_count; i++) {
		const struct snapshot_upstream *upstream = &snapshot->upstreams[i];

		for (size_t j = 0;
		     !failed && upstream->check.path.len && j < upstream->member_count; j++)
			failed = check_want(checks, upstream->members[j].origin, &upstream->check);
	}
	LIST_EACH(&checks->checks, node) {
		struct check *check = LIST_ITEM(node, struct check, link);

		if (!check->is_wanted)
			check_free(check);
	}
	return failed;
}

int dialer_checks_new(struct proc_self *self, struct dial *dial, struct dialer_checks **ret_checks)
{
	struct dialer_checks *checks = heap_alloc(sizeof(*checks));
	struct upstream_limits limits = { .head_max = HEAD_MAX,
					  .connections_per_origin = UINT32_MAX };
	struct upstream_config config = { .loop = proc_loop(self), .host = &check_host };
	int failed;

	if (!checks)
		return -ENOMEM;
	checks->self = self;
	checks->dial = dial;
	list_init(&checks->checks);
	list_init(&checks->woken);
	list_init(&checks->dials);
	config.host_data = checks;
	config.receive_buffer = checks->receive_buffer;
	config.receive_size = sizeof(checks->receive_buffer);
	failed = upstream_new(&config, &checks->upstream);
	if (failed) {
		heap_free(checks);
		return failed;
	}
	upstream_set_limits(checks->upstream, &limits);
	*ret_checks = checks;
	return 0;
}
