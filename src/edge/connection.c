/* Connections: accept, their share of a turn, deadlines, close. */
#include "edge/edge_internal.h"

static void on_ready(struct os_watch *watch, unsigned now)
{
	struct connection *connection = CONTAINER_OF(watch, struct connection, watch);

	(void)now;
	connection_activate(connection);
}

void connection_activate(struct connection *connection)
{
	if (connection->phase != CONNECTION_CLOSED && !list_is_linked(&connection->active))
		list_push_back(&connection->edge->active, &connection->active);
}

/* ---- Accept ------------------------------------------------------------------------------------------ */

/* Of those who take long the oldest goes: whoever means it is done in a few round trips. */
static void handshake_begin(struct connection *connection)
{
	struct edge *edge = connection->edge;
	struct connection *oldest;

	list_push_back(&edge->handshaking, &connection->handshaking);
	if (++edge->handshake_count <= edge->handshakes_max)
		return;
	oldest = LIST_ITEM(edge->handshaking.next, struct connection, handshaking);
	telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_HANDSHAKES_WAITING);
	telemetry_count(edge->counters, TELEMETRY_COUNTER_HANDSHAKES_FAILED);
	edge_event_tls(oldest, "limit:handshakes-waiting", SPAN_NONE);
	connection_close(oldest);
}

void connection_handshake_over(struct connection *connection)
{
	if (!list_is_linked(&connection->handshaking))
		return;
	list_remove(&connection->handshaking);
	connection->edge->handshake_count--;
}

void connection_limits_set(struct connection *connection, const struct snapshot_limits *limits)
{
	connection->handshake_max_ns = limits->values[SNAPSHOT_LIMIT_HANDSHAKE];
	connection->header_max_ns = limits->values[SNAPSHOT_LIMIT_HEADER_TIME];
	connection->idle_max_ns = limits->values[SNAPSHOT_LIMIT_IDLE];
}

/* Who has said nothing yet: of the site that answers where nobody is named. */
static const struct snapshot_limits *limits_of_plain(const struct snapshot *snapshot)
{
	if (snapshot->default_site)
		return snapshot->default_site->limits;
	return snapshot->site_count == 1 ? snapshot->sites[0].limits : &snapshot->limits;
}

bool connection_local(struct connection *connection)
{
	return connection->local.family ||
	       os_socket_local(connection->watch.fd, &connection->local) == 0;
}

void connection_begin(struct connection *connection)
{
	connection->phase = CONNECTION_HELLO;
	if (!connection_hold(connection))
		return;
	if (connection->is_tls)
		handshake_begin(connection);
	else
		connection_open(connection);
}

/* A stranger is not read: what he sends could only be a claim. */
static void proxy_header_begin(struct connection *connection, const struct snapshot_table *table)
{
	struct conf_address peer = edge_conf_address(&connection->peer);

	connection->phase = CONNECTION_PROXY_HEADER;
	if (!snapshot_table_has(table, &peer))
		connection_refuse_proxy(connection, CODEC_PROXY_FAULT_STRANGER);
}

static void connection_start(struct connection *connection)
{
	struct edge *edge = connection->edge;
	const struct snapshot *snapshot = edge->current->snapshot;
	const struct snapshot_listener *row =
		snapshot_find_listener(snapshot, connection->listener->id);

	connection->accepted_ns = connection->last_ns = edge->now_ns;
	connection->listener_id = connection->listener->id;
	connection->is_tls = !row || !row->is_plain;
	connection->is_redirecting = row && row->is_plain && !row->is_serving;
	connection->tls_port = row ? row->tls_port : 0;
	connection_limits_set(connection,
			      connection->is_tls ? &snapshot->limits : limits_of_plain(snapshot));
	if (connection->is_tls)
		edge->tls_count++;
	if (row && row->proxy_protocol)
		proxy_header_begin(connection, row->proxy_protocol);
	else
		connection_begin(connection);
	/* The first bytes are usually there with the connection: read at once, without another turn. */
	connection->watch.ready |= OS_READABLE | OS_WRITABLE;
	connection_activate(connection);
}

void connection_accept(struct edge *edge, struct edge_listener *listener)
{
	for (int i = 0; i < EDGE_ACCEPT_BATCH; i++) {
		struct os_address peer;
		struct connection *connection;
		bool is_low = edge_descriptors_are_low(edge, listener->fd);
		int fd, failed;

		/* Whoever is not taken waits in the kernel; the turn's end sees to it that there is room. */
		if (!edge_memory_has_room(edge, EDGE_MEMORY_CONNECTION))
			return;
		failed = is_low ? -EMFILE : os_accept(listener->fd, &fd, &peer);
		if (failed == -EAGAIN)
			return;
		if (failed) {
			/* Whatever else it is (ENFILE, ENOBUFS): it may pass, and asking on in vain would not help. */
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_DESCRIPTORS_RESERVE);
			edge_accept_rest(edge);
			return;
		}
		edge->descriptor_seen = fd;
		/* Inherited from a listening socket that other workers have too: one that was taken over could make
		 * our close wait for a peer that never answers. */
		(void)!os_socket_linger_default(fd);
		connection = edge->current && edge->connection_count < edge->connections_max
				     ? slab_alloc(&edge->connection_slab)
				     : NULL;
		if (!connection) {
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_CONNECTIONS);
			os_close(fd);
			continue;
		}
		connection->edge = edge;
		connection->listener = listener;
		connection->peer = peer;
		upstream_client_init(&connection->origins);
		connection->watch.on_ready = on_ready;
		if (os_watch_add(edge->loop, &connection->watch, fd, OS_WATCH_EDGE)) {
			os_close(fd);
			slab_free(&edge->connection_slab, connection);
			continue;
		}
		list_push_back(&edge->connections, &connection->link);
		edge->connection_count++;
		edge->range->connections = edge->connection_count;
		telemetry_count(edge->counters, TELEMETRY_COUNTER_CONNECTIONS);
		connection_start(connection);
	}
	os_loop_wake_again(edge->loop);
}

/* ---- Its share of a turn -------------------------------------------------------------------------------- */

static void linger_run(struct connection *connection)
{
	struct edge *edge = connection->edge;
	ssize_t got = -EAGAIN;

	if (connection->backlog.len)
		return;
	if (!connection->sent_close) {
		connection->sent_close = true;
		connection->closing_ns = edge->now_ns; /* what waited has only now left */
		connection_send_close(connection);
		if (!connection->wants_linger || connection->saw_eof) {
			connection_close(connection);
			return;
		}
		os_shutdown(connection->watch.fd, OS_HALF_WRITE);
	}
	/* Closing with unread input would send a reset, which can overtake our answer: drop what still
	 * comes, for a while. */
	while ((connection->watch.ready & OS_READABLE) && connection->unused_bytes < 256 * 1024) {
		got = os_receive(connection->watch.fd, edge->wire_in, EDGE_WIRE_SIZE);
		if (got <= 0)
			break;
		connection->unused_bytes += (uint32_t)got;
	}
	if (got == -EAGAIN)
		connection->watch.ready &= ~(unsigned)OS_READABLE;
	else if (got <= 0 || connection->unused_bytes >= 256 * 1024)
		connection_close(connection);
}

static void connection_gone(struct connection *connection)
{
	struct exchange *exchange = connection->exchange;

	connection->is_broken = connection->saw_eof = true;
	if (exchange && exchange->began)
		exchange_interrupt(exchange, 0, exchange_end_without_client(exchange));
	else
		connection_close(connection);
}

static bool is_gone(const struct connection *connection)
{
	/* Both halves are gone also where we ended ours and the client its own: then it is to be read. */
	unsigned gone = connection->ended_output ? OS_ERROR : OS_ERROR | OS_HANGUP;

	return connection->is_broken || (connection->watch.ready & gone);
}

void connection_run(struct connection *connection)
{
	struct exchange *exchange = connection->exchange;

	if (connection->backlog.len && connection_backlog_send(connection) && exchange)
		exchange_wake(exchange);
	if (is_gone(connection)) {
		/* An alert may stand before a reset: OpenSSL's clients leave so when they do not trust us. */
		if (connection->phase == CONNECTION_HANDSHAKE && !connection->is_broken)
			connection_handshake(connection);
		connection_gone(connection);
		return;
	}
	switch (connection->phase) {
	case CONNECTION_PROXY_HEADER:
		connection_proxy_header(connection);
		break;
	case CONNECTION_HELLO:
	case CONNECTION_HANDSHAKE:
		connection_handshake(connection);
		break;
	case CONNECTION_OPEN:
		if (exchange && exchange->began)
			exchange_wake(exchange);
		else
			connection->codec->progress(connection);
		break;
	case CONNECTION_LINGER:
		linger_run(connection);
		break;
	case CONNECTION_CLOSED:
		return;
	}
	connection_update_deadline(connection);
}

/* ---- Deadlines: derived from what the connection waits for, never stored -------------------------------- */

enum deadline_kind {
	DEADLINE_NONE,
	DEADLINE_PROXY_HEADER,
	DEADLINE_HANDSHAKE,
	DEADLINE_IDLE,
	DEADLINE_HEAD,
	DEADLINE_BODY,
	DEADLINE_BODY_RATE,
	DEADLINE_SEND,
	DEADLINE_TUNNEL,
	DEADLINE_LINGER,
	DEADLINE_QUESTION,
};

/* Is it the client whom the request's body waits for, and neither its origin nor our answer? */
static bool body_is_awaited(const struct exchange *exchange)
{
	const struct pump *pump = &exchange->request_pump;

	return exchange->began && !exchange->is_tunnel && pump_is_open(pump) &&
	       !pump->source_ended && !exchange->connection->backlog.len &&
	       (exchange->stage == EXCHANGE_STAGE_REQUEST_PUMP || (!pump->queue.len && pump->sink));
}

/* How much longer it may be awaited, for what came so far: the grace, and a second for each body-rate bytes. */
static uint64_t body_time_left(const struct exchange *exchange)
{
	const uint64_t *limits = exchange->limits->values;
	uint64_t read = exchange->request_pump.read, rate = limits[SNAPSHOT_LIMIT_BODY_RATE];
	uint64_t allowed_ns;

	if (!rate || read / rate > 1000000)
		return UINT64_MAX / 2;
	allowed_ns = limits[SNAPSHOT_LIMIT_BODY_GRACE] + read / rate * OS_SECOND;
	return allowed_ns > exchange->body_waited_ns ? allowed_ns - exchange->body_waited_ns : 0;
}

static void body_wait_update(struct exchange *exchange)
{
	uint64_t now_ns = exchange->edge->now_ns;
	bool is_awaited = body_is_awaited(exchange);

	if (is_awaited && !exchange->body_waiting_ns) {
		exchange->body_waiting_ns = now_ns;
	} else if (!is_awaited && exchange->body_waiting_ns) {
		exchange->body_waited_ns += now_ns - exchange->body_waiting_ns;
		exchange->body_waiting_ns = 0;
	}
}

static enum deadline_kind exchange_deadline(const struct connection *connection, uint64_t *ret_ns)
{
	const struct exchange *exchange = connection->exchange;
	const uint64_t *limits = exchange->limits->values;

	if (!exchange->began) {
		*ret_ns = exchange->began_ns + connection->header_max_ns;
		return DEADLINE_HEAD;
	}
	if (connection->backlog.len) {
		*ret_ns = connection->stalled_ns + limits[SNAPSHOT_LIMIT_SEND_GAP];
		return DEADLINE_SEND;
	}
	if (exchange->is_tunnel) {
		*ret_ns = connection->last_ns + limits[SNAPSHOT_LIMIT_TUNNEL];
		return DEADLINE_TUNNEL;
	}
	if (exchange->question || list_is_linked(&exchange->waiting)) {
		*ret_ns =
			exchange->asked_ns + telemetry_limits[TELEMETRY_LIMIT_DOCUMENT_WAIT].value;
		return DEADLINE_QUESTION;
	}
	if (exchange->body_waiting_ns) {
		uint64_t gap_ns = connection->last_ns + limits[SNAPSHOT_LIMIT_BODY_GAP];
		uint64_t rate_ns = exchange->body_waiting_ns + body_time_left(exchange);

		*ret_ns = rate_ns < gap_ns ? rate_ns : gap_ns;
		return rate_ns < gap_ns ? DEADLINE_BODY_RATE : DEADLINE_BODY;
	}
	return DEADLINE_NONE;
}

static enum deadline_kind connection_deadline(const struct connection *connection, uint64_t *ret_ns)
{
	switch (connection->phase) {
	case CONNECTION_PROXY_HEADER:
		*ret_ns = connection->accepted_ns +
			  telemetry_limits[TELEMETRY_LIMIT_PROXY_HEADER].value;
		return DEADLINE_PROXY_HEADER;
	case CONNECTION_HELLO:
	case CONNECTION_HANDSHAKE:
		*ret_ns = connection->accepted_ns + connection->handshake_max_ns;
		return DEADLINE_HANDSHAKE;
	case CONNECTION_LINGER:
		*ret_ns = connection->closing_ns + (connection->backlog.len ? 30 : 2) * OS_SECOND;
		return DEADLINE_LINGER;
	case CONNECTION_OPEN:
		if (connection->exchange)
			return exchange_deadline(connection, ret_ns);
		*ret_ns = connection->last_ns + connection->idle_max_ns;
		return DEADLINE_IDLE;
	case CONNECTION_CLOSED:
		break;
	}
	return DEADLINE_NONE;
}

/* A deadline that passed counts in the row of the limit that it came from. */
static void deadline_count(const struct connection *connection, enum deadline_kind kind)
{
	static const enum telemetry_limit limits[] = {
		[DEADLINE_PROXY_HEADER] = TELEMETRY_LIMIT_PROXY_HEADER,
		[DEADLINE_HANDSHAKE] = TELEMETRY_LIMIT_HANDSHAKE,
		[DEADLINE_IDLE] = TELEMETRY_LIMIT_IDLE,
		[DEADLINE_HEAD] = TELEMETRY_LIMIT_HEADER_TIME,
		[DEADLINE_BODY] = TELEMETRY_LIMIT_BODY_GAP,
		[DEADLINE_BODY_RATE] = TELEMETRY_LIMIT_BODY_RATE,
		[DEADLINE_SEND] = TELEMETRY_LIMIT_SEND_GAP,
		[DEADLINE_TUNNEL] = TELEMETRY_LIMIT_TUNNEL,
		[DEADLINE_LINGER] = TELEMETRY_LIMIT_LINGER,
		[DEADLINE_QUESTION] = TELEMETRY_LIMIT_DOCUMENT_WAIT,
	};
	struct telemetry_counters *counters = connection->edge->counters;

	if (kind == DEADLINE_NONE)
		return;
	/* A tunnel's two sides have the same limit: who was first counted it. */
	if (kind == DEADLINE_TUNNEL && connection->exchange->end != TELEMETRY_END_OK)
		return;
	telemetry_count_limit(counters, limits[kind]);
	/* Too slow is only who was it for longer than the grace. */
	if (kind == DEADLINE_BODY_RATE)
		telemetry_count_limit(counters, TELEMETRY_LIMIT_BODY_GRACE);
}

static void on_due(struct os_timer *timer)
{
	struct connection *connection = CONTAINER_OF(timer, struct connection, timer);
	struct exchange *exchange = connection->exchange;
	uint64_t deadline_ns = 0;
	enum deadline_kind kind = connection_deadline(connection, &deadline_ns);

	edge_clock(connection->edge);
	if (kind == DEADLINE_NONE)
		return;
	if (deadline_ns > connection->edge->now_ns) {
		os_timer_set(connection->edge->loop, timer, deadline_ns);
		return;
	}
	deadline_count(connection, kind);
	switch (kind) {
	case DEADLINE_HEAD:
		exchange_refuse(exchange, 408, TELEMETRY_END_CLIENT_TIMEOUT, "header-time");
		break;
	case DEADLINE_BODY:
	case DEADLINE_BODY_RATE:
		exchange_set_end(exchange, TELEMETRY_END_CLIENT_TIMEOUT,
				 kind == DEADLINE_BODY ? SPAN("body-gap") : SPAN("body-rate"));
		exchange_interrupt(exchange, 408, TELEMETRY_END_CLIENT_TIMEOUT);
		break;
	case DEADLINE_SEND:
		exchange_set_end(exchange, TELEMETRY_END_CLIENT_TIMEOUT, SPAN("send-gap"));
		exchange_interrupt(exchange, 0, TELEMETRY_END_CLIENT_TIMEOUT);
		break;
	case DEADLINE_TUNNEL:
		exchange_interrupt(exchange, 0, TELEMETRY_END_TUNNEL_TIMEOUT);
		break;
	case DEADLINE_QUESTION:
		exchange_set_end(exchange, TELEMETRY_END_LIMIT,
				 telemetry_limit_name(TELEMETRY_LIMIT_DOCUMENT_WAIT));
		exchange_interrupt(exchange, telemetry_limits[TELEMETRY_LIMIT_DOCUMENT_WAIT].status,
				   TELEMETRY_END_LIMIT);
		break;
	case DEADLINE_IDLE:
		connection_finish(connection, false);
		break;
	case DEADLINE_PROXY_HEADER:
		connection_refuse_proxy(connection, CODEC_PROXY_FAULT_LATE);
		break;
	case DEADLINE_HANDSHAKE:
		telemetry_count(connection->edge->counters, TELEMETRY_COUNTER_HANDSHAKES_FAILED);
		edge_event_tls(connection, "limit:handshake", SPAN_NONE);
		connection_close(connection);
		break;
	case DEADLINE_LINGER:
	case DEADLINE_NONE:
		connection_close(connection);
		break;
	}
}

void connection_update_deadline(struct connection *connection)
{
	uint64_t deadline_ns = 0;

	if (connection->phase == CONNECTION_OPEN && connection->exchange)
		body_wait_update(connection->exchange);
	if (connection_deadline(connection, &deadline_ns) == DEADLINE_NONE)
		return; /* a timer that still runs looks again when it is due */
	connection->timer.on_due = on_due;
	if (!os_timer_is_set(&connection->timer) || deadline_ns != connection->timer.deadline_ns)
		os_timer_set(connection->edge->loop, &connection->timer, deadline_ns);
}

/* ---- The end -------------------------------------------------------------------------------------------- */

void connection_finish(struct connection *connection, bool linger)
{
	if (connection->phase == CONNECTION_CLOSED || connection->phase == CONNECTION_LINGER)
		return;
	connection_handshake_over(connection);
	connection_flush(connection);
	/* What it has sent and nobody has used, nobody will: it may linger for seconds. */
	if (connection->edge->input_owner == connection)
		connection->edge->input_owner = NULL;
	block_queue_clear(&connection->pending, &connection->edge->blocks);
	connection->spent = 0;
	connection->phase = CONNECTION_LINGER;
	connection->wants_linger = linger;
	connection->closing_ns = connection->edge->now_ns;
	connection_activate(connection);
}

void connection_abort(struct connection *connection)
{
	/* A body that ends with the connection would look whole behind an orderly end. */
	if (connection->phase != CONNECTION_CLOSED &&
	    os_socket_linger_none(connection->watch.fd) == 0)
		connection->is_broken = true;
	connection_close(connection);
}

void connection_close(struct connection *connection)
{
	struct edge *edge = connection->edge;

	if (connection->phase == CONNECTION_CLOSED)
		return;
	if (edge->output_owner == connection) {
		connection_flush(connection);
		edge->output_owner = NULL;
		edge->gather_len = edge->wire_out_len = 0;
	}
	connection_handshake_over(connection);
	connection->phase = CONNECTION_CLOSED;
	if (edge->input_owner == connection)
		edge->input_owner = NULL;
	question_cancel(edge, connection->question);
	upstream_client_leave(&connection->origins);
	connection_release(connection);
	os_timer_stop(&connection->timer);
	list_remove(&connection->active);
	list_push_back(&edge->doomed, &connection->doomed);
}

void connections_free_doomed(struct edge *edge)
{
	while (!list_is_empty(&edge->doomed)) {
		struct connection *connection =
			LIST_ITEM(edge->doomed.next, struct connection, doomed);
		bool is_tls = connection->is_tls;

		list_remove(&connection->doomed);
		list_remove(&connection->link);
		list_remove(&connection->active);
		if (connection->exchange)
			exchange_free(connection->exchange);
		tls_session_free(connection->tls);
		block_queue_clear(&connection->pending, &edge->blocks);
		block_queue_clear(&connection->backlog, &edge->blocks);
		os_watch_close(&connection->watch);
		slab_free(&edge->connection_slab, connection);
		edge->has_freed = true;
		edge->tls_count -= is_tls;
		edge->connection_count--;
		edge->range->connections = edge->connection_count;
	}
}
