/* A connection's events. */
#include "upstream/upstream_internal.h"

#include <string.h>

#include "ipc/messages.h"

uint64_t upstream_now_ns(const struct upstream *upstream)
{
	return os_loop_now_ns(upstream->loop);
}

void upstream_deadline_in(struct upstream_connection *connection, uint64_t duration_ms)
{
	struct upstream *upstream = connection->upstream;

	os_timer_set(upstream->loop, &connection->timer,
		     upstream_now_ns(upstream) + duration_ms * OS_MS);
}

/* ---- Dialing ---------------------------------------------------------------------------------------------------- */

enum { DIALER_GRACE_MS = 5000 };

static void on_due(struct os_timer *timer);

int upstream_connection_dial(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	uint32_t timeout_ms = connection->fetch->request->limits.connect_ms;
	int outcome;

	connection->timer.on_due = on_due;
	/* The dialer keeps the time itself. What is waited longer is for one that hangs and is replaced: the
	 * question is then asked again. */
	upstream_deadline_in(connection, timeout_ms + DIALER_GRACE_MS);
	connection->is_asked = true;
	outcome = upstream->host->dial(upstream->host_data, connection, connection->origin->id,
				       timeout_ms, &connection->question);
	if (outcome)
		connection->is_asked = false;
	return outcome ? -ENOMEM : 0;
}

void upstream_dial_wanted(const struct upstream_connection *connection, uint64_t *ret_origin_id,
			  uint32_t *ret_timeout_ms)
{
	*ret_origin_id = connection->origin->id;
	*ret_timeout_ms = connection->fetch->request->limits.connect_ms;
}

static void note_peer(struct upstream_connection *connection)
{
	char text[OS_ADDRESS_TEXT_MAX];
	struct writer writer = writer_of(text, sizeof(text));
	struct span done;

	if (os_socket_peer(connection->fd, &connection->peer))
		return;
	os_address_write(&connection->peer, &writer);
	done = span_first(writer_done(&writer), sizeof(connection->address_text) - 1);
	memcpy(connection->address_text, done.ptr, done.len);
	connection->address_text[done.len] = '\0';
}

/* The timer of the phase before is the first thing that the new one sets, or stops. */
void upstream_connection_begin(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	struct upstream_fetch *fetch = connection->fetch;
	size_t none;

	connection->phase = UPSTREAM_PHASE_BUSY;
	os_timer_stop(&connection->timer);
	memcpy(fetch->address_text, connection->address_text, sizeof(fetch->address_text));
	fetch->connect_us = connection->is_reused ? 0 : connection->connect_us;
	if (fetch->request->has_body) {
		/* Head and first bytes leave in one piece where the owner has some in this turn. */
		list_push_back(&upstream->unsent_heads, &connection->link);
		upstream_fetch_wake(fetch, false);
		return;
	}
	/* A failure is in the fetch's state. */
	if (upstream_request_send(connection, SPAN_NONE, true, &none))
		return;
}

static void handshake_run(struct upstream_connection *connection)
{
	int outcome = upstream_tls_handshake(connection);

	if (outcome == -EAGAIN)
		return;
	if (outcome == 0) {
		upstream_connection_begin(connection);
		/* What came with the handshake's last bytes is not told again. */
		if (connection->fetch && upstream_is_readable(connection))
			upstream_fetch_on_readable(connection);
	} else if (outcome == -ENOMEM) {
		upstream_fetch_fail(connection->fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
	} else {
		upstream_fetch_fail(connection->fetch, TELEMETRY_END_ORIGIN_TLS,
				    upstream_tls_reason(connection));
	}
}

static void on_ready(struct os_watch *watch, unsigned now);

static int stand(struct upstream_connection *connection, int fd)
{
	int outcome;

	connection->fd = fd;
	note_peer(connection);
	connection->watch.on_ready = on_ready;
	outcome = os_watch_add(connection->upstream->loop, &connection->watch, fd, OS_WATCH_EDGE);
	/* A connected socket has room: no turn is lost waiting to be told. */
	connection->watch.ready |= OS_WRITABLE;
	return outcome;
}

/* They are none of the request's. That they could not be sent shows with what follows them. */
static int first_send(struct upstream_connection *connection)
{
	int outcome;

	if (!connection->first_len)
		return 0;
	outcome =
		upstream_socket_send(connection, span_of(connection->first, connection->first_len));
	connection->has_sent = false;
	return outcome == -ENOMEM ? outcome : 0;
}

void upstream_dialed(struct upstream_connection *connection, int fd, uint32_t connect_us)
{
	uint32_t limit_ms;
	int outcome;

	connection->is_asked = false;
	if (connection->phase != UPSTREAM_PHASE_DIALING) {
		os_close(fd);
		return;
	}
	connection->connect_us = connect_us;
	if (fd < 0) {
		upstream_fetch_fail(connection->fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
		return;
	}
	outcome = stand(connection, fd);
	if (outcome == 0)
		outcome = first_send(connection);
	if (outcome == 0 && connection->is_tls)
		outcome = upstream_tls_start(connection);
	if (outcome) {
		bool is_policy = outcome == -ENOENT;

		upstream_fetch_fail(connection->fetch,
				    is_policy ? TELEMETRY_END_ORIGIN_TLS : TELEMETRY_END_NO_ROOM,
				    is_policy ? SPAN("untrusted") : SPAN_NONE);
		return;
	}
	if (!connection->is_tls) {
		upstream_connection_begin(connection);
		return;
	}
	connection->phase = UPSTREAM_PHASE_HANDSHAKE;
	/* What connecting left of its time is the handshake's. */
	limit_ms = connection->fetch->request->limits.connect_ms;
	upstream_deadline_in(connection,
			     connect_us / 1000 < limit_ms ? limit_ms - connect_us / 1000 : 1);
	handshake_run(connection);
}

void upstream_dial_failed(struct upstream_connection *connection, uint32_t status,
			  struct span detail)
{
	static const enum telemetry_end ends[] = {
		[IPC_DIAL_REFUSED] = TELEMETRY_END_ORIGIN_REFUSED,
		[IPC_DIAL_UNREACHABLE] = TELEMETRY_END_ORIGIN_UNREACHABLE,
		[IPC_DIAL_NO_ADDRESS] = TELEMETRY_END_ORIGIN_DNS,
		[IPC_DIAL_TIMEOUT] = TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT,
		[IPC_DIAL_FORBIDDEN] = TELEMETRY_END_ORIGIN_FORBIDDEN,
		[IPC_DIAL_FAILED] = TELEMETRY_END_HELPER_GONE,
		[IPC_DIAL_QUESTIONS] = TELEMETRY_END_LIMIT,
	};
	struct upstream_fetch *fetch = connection->fetch;
	enum telemetry_end end = TELEMETRY_END_HELPER_GONE;

	connection->is_asked = false;
	if (connection->phase != UPSTREAM_PHASE_DIALING)
		return;
	if (status >= IPC_DIAL_REFUSED && status < ARRAY_LEN(ends))
		end = ends[status];
	if (end == TELEMETRY_END_LIMIT)
		detail = telemetry_limit_name(TELEMETRY_LIMIT_DNS_QUESTIONS);
	upstream_fetch_fail(fetch, end, arena_copy(fetch->arena, detail));
	fetch->failure.is_limit =
		end == TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT || end == TELEMETRY_END_LIMIT;
	fetch->failure.limit = end == TELEMETRY_END_LIMIT ? TELEMETRY_LIMIT_DNS_QUESTIONS
							  : TELEMETRY_LIMIT_CONNECT;
}

/* ---- Events -------------------------------------------------------------------------------------------------------- */

static void on_ready(struct os_watch *watch, unsigned now)
{
	struct upstream_connection *connection =
		CONTAINER_OF(watch, struct upstream_connection, watch);

	switch (connection->phase) {
	case UPSTREAM_PHASE_IDLE:
		if (upstream_is_readable(connection) && !upstream_is_silent(connection))
			upstream_connection_close(connection);
		break;
	case UPSTREAM_PHASE_HANDSHAKE:
		handshake_run(connection);
		break;
	case UPSTREAM_PHASE_BUSY:
		if (now & OS_WRITABLE)
			upstream_request_on_room(connection);
		if (connection->fetch && (now & OS_ERROR) && connection->read_ended)
			upstream_tunnel_write_over(connection);
		else if (connection->fetch && upstream_is_readable(connection))
			upstream_fetch_on_readable(connection);
		break;
	case UPSTREAM_PHASE_DIALING:
	case UPSTREAM_PHASE_CLOSED:
		break;
	}
}

static void busy_due(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	struct upstream_fetch *fetch = connection->fetch;

	if (fetch->is_tunnel) {
		uint64_t quiet_ms = (upstream_now_ns(upstream) - connection->active_ns) / OS_MS;

		if (quiet_ms >= fetch->request->limits.tunnel_ms)
			upstream_fetch_over_limit(fetch, TELEMETRY_END_TUNNEL_TIMEOUT,
						  TELEMETRY_LIMIT_TUNNEL);
		else
			upstream_deadline_in(connection,
					     fetch->request->limits.tunnel_ms - quiet_ms);
	} else if (fetch->state == UPSTREAM_WORKING) {
		upstream_fetch_over_limit(fetch,
					  connection->head_begun
						  ? TELEMETRY_END_ORIGIN_TIMEOUT
						  : TELEMETRY_END_ORIGIN_FIRST_BYTE_TIMEOUT,
					  connection->head_begun ? TELEMETRY_LIMIT_RESPONSE_GAP
								 : TELEMETRY_LIMIT_FIRST_BYTE);
	} else if (fetch->state == UPSTREAM_HEAD && connection->is_waiting) {
		upstream_fetch_over_limit(fetch, TELEMETRY_END_ORIGIN_TIMEOUT,
					  connection->is_event_stream
						  ? TELEMETRY_LIMIT_EVENT_STREAM
						  : TELEMETRY_LIMIT_RESPONSE_GAP);
	}
}

static void on_due(struct os_timer *timer)
{
	struct upstream_connection *connection =
		CONTAINER_OF(timer, struct upstream_connection, timer);

	switch (connection->phase) {
	case UPSTREAM_PHASE_DIALING:
	case UPSTREAM_PHASE_HANDSHAKE:
		upstream_fetch_over_limit(connection->fetch, TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT,
					  TELEMETRY_LIMIT_CONNECT);
		break;
	case UPSTREAM_PHASE_BUSY:
		busy_due(connection);
		break;
	case UPSTREAM_PHASE_IDLE:
		upstream_connection_close(connection);
		break;
	case UPSTREAM_PHASE_CLOSED:
		break;
	}
}
