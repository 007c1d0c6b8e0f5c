/* What comes back, and the states of a fetch. */
#include "upstream/upstream_internal.h"

#include <string.h>

/* ---- States -------------------------------------------------------------------------------------------------- */

void upstream_fetch_wake(struct upstream_fetch *fetch, bool state_changed)
{
	struct upstream *upstream = fetch->upstream;

	if (upstream->caller == fetch)
		return;
	/* An owner that only looks at the state makes no call: a new state is always told. */
	if (fetch->is_woken && !state_changed)
		return;
	fetch->is_woken = true;
	if (upstream->is_turn_ending)
		os_loop_wake_again(upstream->loop);
	upstream->host->wake(upstream->host_data, fetch->owner);
}

static struct upstream_connection *detach(struct upstream_fetch *fetch)
{
	struct upstream_connection *connection = fetch->connection;

	fetch->connection = NULL;
	connection->fetch = NULL;
	return connection;
}

void upstream_fetch_fail(struct upstream_fetch *fetch, enum telemetry_end end, struct span detail)
{
	fetch->failure = (struct upstream_failure){
		.end = end,
		.detail = detail,
		.after_head = fetch->state == UPSTREAM_HEAD,
		/* A handshake's bytes are none of the request's. */
		.is_unsent = !fetch->connection->has_sent ||
			     fetch->connection->phase == UPSTREAM_PHASE_HANDSHAKE,
		.is_answered = fetch->connection->has_answered,
	};
	fetch->state = UPSTREAM_FAILED;
	upstream_connection_close(detach(fetch));
	upstream_fetch_wake(fetch, true);
}

void upstream_fetch_over_limit(struct upstream_fetch *fetch, enum telemetry_end end,
			       enum telemetry_limit limit)
{
	upstream_fetch_fail(fetch, end, SPAN_NONE);
	fetch->failure.is_limit = true;
	fetch->failure.limit = limit;
}

static void fetch_done(struct upstream_fetch *fetch)
{
	struct upstream_connection *connection = fetch->connection;
	bool has_input = upstream_queue_view(&connection->input).len > 0;
	bool is_reusable = fetch->request_done && !connection->is_write_over &&
			   !connection->head_pending &&
			   !upstream_queue_view(&connection->output).len && !fetch->is_tunnel &&
			   codec_h1_client_is_reusable(&connection->client, has_input);

	fetch->state = UPSTREAM_DONE;
	detach(fetch);
	if (is_reusable)
		upstream_pool_put(connection);
	else
		upstream_connection_close(connection);
}

static void tunnel_done(struct upstream_fetch *fetch)
{
	fetch_done(fetch);
	upstream_fetch_wake(fetch, true);
}

void upstream_tunnel_write_over(struct upstream_connection *connection)
{
	connection->is_write_over = true;
	upstream_queue_clear(&connection->output);
	if (connection->read_ended)
		tunnel_done(connection->fetch);
}

void upstream_fetch_attach(struct upstream_fetch *fetch, struct upstream_connection *connection)
{
	fetch->connection = connection;
	fetch->request_done = false;
	fetch->was_reused = connection->is_reused;
	fetch->connect_us = 0;
	connection->fetch = fetch;
	connection->has_sent = connection->wants_room = connection->is_write_over = false;
	connection->has_answered = connection->head_begun = connection->is_waiting = false;
	connection->is_event_stream = connection->read_ended = connection->write_ended = false;
	connection->head_pending = true;
	connection->chunk_left = 0;
}

static void own_words_set(struct upstream_connection *connection,
			  const struct upstream_request *request)
{
	if (!request->first.len)
		return;
	MUST(request->first.len <= UPSTREAM_FIRST_MAX);
	memcpy(connection->first, request->first.ptr, request->first.len);
	connection->first_len = (uint8_t)request->first.len;
	if (request->client)
		list_push_back(&request->client->own, &connection->own);
}

int upstream_fetch_dial(struct upstream_fetch *fetch, struct upstream_origin *origin)
{
	const struct upstream_request *request = fetch->request;
	struct upstream_connection *connection = upstream_connection_new(fetch->upstream, origin);
	int outcome;

	if (!connection)
		return -ENOMEM;
	connection->is_tls = request->is_tls;
	fetch->upstream->counts.tls += connection->is_tls;
	connection->ca_id = request->ca_id;
	if (request->is_tls) {
		if (request->server_name.len > UPSTREAM_NAME_MAX) {
			upstream_connection_close(connection);
			return -EINVAL;
		}
		memcpy(connection->name, request->server_name.ptr, request->server_name.len);
		connection->name_len = (uint8_t)request->server_name.len;
	}
	own_words_set(connection, request);
	upstream_fetch_attach(fetch, connection);
	outcome = upstream_connection_dial(connection);
	if (outcome)
		upstream_connection_close(detach(fetch));
	return outcome;
}

bool upstream_fetch_restart(struct upstream_fetch *fetch)
{
	struct upstream_connection *old = detach(fetch);
	int outcome;

	upstream_connection_close(old);
	fetch->was_retried = true;
	outcome = upstream_fetch_dial(fetch, old->origin);
	if (outcome == 0)
		return true;
	fetch->failure = (struct upstream_failure){ .end = TELEMETRY_END_NO_ROOM };
	fetch->state = UPSTREAM_FAILED;
	upstream_fetch_wake(fetch, true);
	return false;
}

int upstream_fetch_start(struct upstream *upstream, struct upstream_fetch *fetch,
			 const struct upstream_request *request, struct arena *arena, void *owner)
{
	struct upstream_origin *origin;
	struct upstream_connection *connection;
	int outcome = upstream_origin_get(upstream, request->origin_id, &origin);

	if (outcome)
		return outcome;
	*fetch = (struct upstream_fetch){
		.state = UPSTREAM_WORKING,
		.upstream = upstream,
		.arena = arena,
		.owner = owner,
		.request = request,
	};
	connection =
		upstream_wait_is_due(origin, request) ? NULL : upstream_pool_take(origin, request);
	if (connection) {
		upstream->caller = fetch;
		upstream_fetch_attach(fetch, connection);
		upstream_connection_begin(connection);
		upstream->caller = NULL;
		outcome = fetch->state == UPSTREAM_FAILED ? -ENOMEM : 0;
	} else if (upstream_wait_is_due(origin, request) ||
		   !upstream_origin_has_room(origin, request->limits.connections_per_origin)) {
		outcome = upstream_wait_start(fetch, origin);
	} else {
		outcome = upstream_fetch_dial(fetch, origin);
	}
	if (outcome)
		fetch->state = UPSTREAM_IDLE;
	upstream_origin_drop_unused(upstream, origin);
	return outcome;
}

void upstream_fetch_stop(struct upstream_fetch *fetch)
{
	upstream_wait_stop(fetch);
	if (fetch->connection)
		upstream_connection_close(detach(fetch));
	if (fetch->state != UPSTREAM_DONE && fetch->state != UPSTREAM_FAILED)
		fetch->state = UPSTREAM_IDLE;
}

/* ---- Head ----------------------------------------------------------------------------------------------------- */

/* The connection ended or failed while a head was awaited. */
static void head_ended(struct upstream_connection *connection, ssize_t error)
{
	struct upstream_fetch *fetch = connection->fetch;
	/* A connection that its origin closed while it lay idle: nothing was answered, and what may be
	 * asked twice is asked again. */
	bool is_stale = connection->is_reused && !connection->has_answered && !fetch->was_retried;

	if (is_stale && (fetch->request->may_retry || !connection->has_sent))
		upstream_fetch_restart(fetch);
	else if (error == -EPROTO)
		upstream_fetch_fail(fetch, TELEMETRY_END_ORIGIN_TLS,
				    upstream_tls_reason(connection));
	else if (error == -ENOMEM)
		upstream_fetch_fail(fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
	else
		upstream_fetch_fail(fetch, TELEMETRY_END_ORIGIN_CLOSED, SPAN_NONE);
}

static void malformed(struct upstream_fetch *fetch, enum codec_h1_fault fault)
{
	upstream_fetch_fail(fetch, TELEMETRY_END_ORIGIN_MALFORMED,
			    span_str(codec_h1_fault_text(fault)));
	fetch->failure.limit = fault == CODEC_H1_FAULT_FIELD_COUNT ? TELEMETRY_LIMIT_UPSTREAM_FIELDS
			       : fault == CODEC_H1_FAULT_INTERIM_COUNT
				       ? TELEMETRY_LIMIT_INTERIM_RESPONSES
				       : TELEMETRY_LIMIT_UPSTREAM_HEAD;
	fetch->failure.is_limit =
		fault == CODEC_H1_FAULT_FIELD_COUNT || fault == CODEC_H1_FAULT_INTERIM_COUNT ||
		fault == CODEC_H1_FAULT_HEAD_LONG || fault == CODEC_H1_FAULT_LINE_LONG;
}

static void take_interim(struct upstream_connection *connection,
			 const struct http_response *response)
{
	struct upstream_fetch *fetch = connection->fetch;

	connection->head_begun = false;
	fetch->first_byte_ns = 0;
	upstream_deadline_in(connection, fetch->request->limits.first_byte_ms);
	if (response->status == 100) {
		/* The client's 100 is the codec's own affair; this one only lets the body go. */
		fetch->origin_continue = true;
	} else {
		fetch->interim = *response;
		fetch->state = UPSTREAM_INTERIM;
	}
	upstream_fetch_wake(fetch, true);
}

static void take_head(struct upstream_connection *connection, const struct http_response *response)
{
	struct upstream_fetch *fetch = connection->fetch;
	struct span type = http_fields_value(&response->fields, HTTP_NAME_CONTENT_TYPE);
	struct span event_stream = SPAN("text/event-stream");
	struct codec_h1_event event;
	struct span nothing = SPAN_NONE;

	fetch->response = *response;
	fetch->state = UPSTREAM_HEAD;
	os_timer_stop(&connection->timer);
	connection->is_event_stream =
		span_equal_nocase(span_first(type, event_stream.len), event_stream);
	if (response->status == 101) {
		fetch->is_tunnel = true;
		connection->active_ns = upstream_now_ns(connection->upstream);
		upstream_deadline_in(connection, fetch->request->limits.tunnel_ms);
	} else if ((!response->has_body || response->content_length == 0) &&
		   codec_h1_response_next(&connection->client, &nothing, 0, fetch->arena, &event) ==
			   CODEC_H1_END) {
		fetch_done(fetch);
	}
	upstream_fetch_wake(fetch, true);
}

/* Takes what it can off the front of *input. */
static void take_head_bytes(struct upstream_connection *connection, struct span *input,
			    struct codec_h1_event *event, int *ret_outcome)
{
	struct upstream_fetch *fetch = connection->fetch;

	if (input->len && !connection->head_begun) {
		connection->head_begun = connection->has_answered = true;
		fetch->first_byte_ns = upstream_now_ns(connection->upstream);
		/* Of the whole head, however its bytes drip. */
		upstream_deadline_in(connection, fetch->request->limits.between_bytes_ms);
	}
	*ret_outcome = codec_h1_response_next(&connection->client, input, 0, fetch->arena, event);
}

static void on_head_outcome(struct upstream_connection *connection, int outcome,
			    const struct codec_h1_event *event)
{
	switch (outcome) {
	case CODEC_H1_NEED_MORE:
		break;
	case CODEC_H1_INTERIM:
		take_interim(connection, event->response);
		break;
	case CODEC_H1_HEAD:
		take_head(connection, event->response);
		break;
	case CODEC_H1_ERROR:
		malformed(connection->fetch, event->fault);
		break;
	case -ENOMEM:
		upstream_fetch_fail(connection->fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
		break;
	default:
		MUST(outcome < 0);
		upstream_fetch_fail(connection->fetch, TELEMETRY_END_INTERNAL, SPAN_NONE);
		break;
	}
}

static void read_head(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	size_t size = upstream->receive_size < UPSTREAM_HEAD_READ ? upstream->receive_size
								  : UPSTREAM_HEAD_READ;

	/* The fetch may leave the connection in any turn of this. */
	while (connection->fetch && connection->fetch->state == UPSTREAM_WORKING) {
		struct span input = upstream_queue_view(&connection->input);
		size_t kept = input.len;
		struct codec_h1_event event;
		int outcome;

		if (!kept) {
			ssize_t n = upstream_receive(connection, upstream->receive_buffer, size);

			if (n == -EAGAIN)
				return;
			if (n <= 0) {
				head_ended(connection, n);
				return;
			}
			input = span_of(upstream->receive_buffer, (size_t)n);
		}
		take_head_bytes(connection, &input, &event, &outcome);
		if (kept)
			upstream_queue_consume(&connection->input, kept - input.len);
		else if (!upstream_queue_add(&connection->input, input))
			outcome = -ENOMEM;
		on_head_outcome(connection, outcome, &event);
	}
}

void upstream_fetch_interim_done(struct upstream_fetch *fetch)
{
	fetch->is_woken = false;
	if (fetch->state != UPSTREAM_INTERIM)
		return;
	fetch->state = UPSTREAM_WORKING;
	fetch->upstream->caller = fetch;
	read_head(fetch->connection);
	fetch->upstream->caller = NULL;
}

void upstream_fetch_on_readable(struct upstream_connection *connection)
{
	struct upstream_fetch *fetch = connection->fetch;

	if (fetch->state == UPSTREAM_WORKING) {
		/* An answer to nothing: the request's head goes out first, at this turn's end at the latest. */
		if (!connection->head_pending)
			read_head(connection);
	} else if (fetch->state == UPSTREAM_HEAD) {
		connection->is_waiting = false;
		upstream_fetch_wake(fetch, false);
	}
}

/* ---- Body ------------------------------------------------------------------------------------------------------ */

/* The owner has read all there was: from now on it is the origin that is slow. */
static int wait_for_body(struct upstream_connection *connection)
{
	const struct upstream_limits *limits = &connection->fetch->request->limits;

	if (!connection->is_waiting && !connection->fetch->is_tunnel)
		upstream_deadline_in(connection, connection->is_event_stream
							 ? limits->event_stream_ms
							 : limits->between_bytes_ms);
	connection->is_waiting = true;
	return UPSTREAM_MORE;
}

static int body_broken(struct upstream_fetch *fetch, ssize_t error)
{
	struct span detail = SPAN_NONE;

	if (error == -EPROTO)
		detail = upstream_tls_reason(fetch->connection);
	else if (error == -ECONNABORTED)
		detail = SPAN("no-close-notify");
	else if (error < 0)
		detail = SPAN("reset");
	upstream_fetch_fail(fetch, TELEMETRY_END_ORIGIN_TRUNCATED, detail);
	return UPSTREAM_BROKEN;
}

/* The clean end of what the transport carried. */
static int body_eof(struct upstream_connection *connection)
{
	struct upstream_fetch *fetch = connection->fetch;
	struct codec_h1_event event;

	if (fetch->is_tunnel) {
		connection->read_ended = true;
		if (connection->is_write_over)
			tunnel_done(fetch);
		return UPSTREAM_END;
	}
	if (codec_h1_response_eof(&connection->client, &event) != CODEC_H1_END)
		return body_broken(fetch, 0);
	fetch_done(fetch);
	return UPSTREAM_END;
}

/* Body bytes out of *input, gathered without their framing at the start of the receive buffer (where a plain
 * read has put them already). 0, UPSTREAM_END behind the last of them, UPSTREAM_BROKEN. */
static int gather(struct upstream_connection *connection, struct span *input, size_t room,
		  size_t *ret_len)
{
	struct upstream_fetch *fetch = connection->fetch;
	char *out = connection->upstream->receive_buffer;

	for (;;) {
		struct codec_h1_event event;
		int outcome;

		if (fetch->is_tunnel) {
			event.body = span_first(*input, room);
			*input = span_skip(*input, event.body.len);
			outcome = event.body.len ? CODEC_H1_BODY : CODEC_H1_NEED_MORE;
		} else {
			outcome = codec_h1_response_next(&connection->client, input,
							 room - *ret_len, fetch->arena, &event);
		}
		switch (outcome) {
		case CODEC_H1_BODY:
			if (event.body.ptr != out + *ret_len)
				memmove(out + *ret_len, event.body.ptr, event.body.len);
			*ret_len += event.body.len;
			if (!fetch->is_tunnel)
				break;
			return 0;
		case CODEC_H1_END:
			return UPSTREAM_END;
		case CODEC_H1_ERROR:
			malformed(fetch, event.fault);
			return UPSTREAM_BROKEN;
		default:
			return 0;
		}
	}
}

/* One piece of input, kept or fresh, to body bytes. As upstream_fetch_read(), and 0 with nothing. */
static int read_piece(struct upstream_connection *connection, size_t room, size_t *ret_len)
{
	struct upstream_fetch *fetch = connection->fetch;
	struct span input = upstream_queue_view(&connection->input);
	size_t kept = input.len;
	int outcome;

	if (!kept) {
		ssize_t n;

		if (connection->input.bytes)
			upstream_queue_clear(&connection->input);
		n = upstream_receive(connection, connection->upstream->receive_buffer, room);
		if (n == -EAGAIN)
			return wait_for_body(connection);
		if (n == 0)
			return body_eof(connection);
		if (n < 0)
			return body_broken(fetch, n);
		input = span_of(connection->upstream->receive_buffer, (size_t)n);
	}
	connection->is_waiting = false;
	connection->active_ns = upstream_now_ns(connection->upstream);
	outcome = gather(connection, &input, room, ret_len);
	if (outcome == UPSTREAM_BROKEN)
		return outcome;
	/* Fresh input never has more body bytes than there is room: what is left are stray ones. */
	if (kept)
		upstream_queue_consume(&connection->input, kept - input.len);
	else if (!upstream_queue_add(&connection->input, input))
		connection->client.keep_alive = false;
	if (outcome == UPSTREAM_END)
		fetch_done(fetch);
	return *ret_len ? 0 : outcome;
}

int upstream_fetch_read(struct upstream_fetch *fetch, size_t room, struct span *ret_bytes)
{
	struct upstream *upstream = fetch->upstream;
	size_t len = 0;
	int outcome;

	*ret_bytes = SPAN_NONE;
	fetch->is_woken = false;
	if (fetch->state == UPSTREAM_DONE)
		return UPSTREAM_END;
	if (fetch->state == UPSTREAM_FAILED || fetch->state == UPSTREAM_IDLE)
		return UPSTREAM_BROKEN;
	if (fetch->state != UPSTREAM_HEAD || room == 0)
		return UPSTREAM_MORE;
	if (fetch->connection->read_ended)
		return UPSTREAM_END;
	if (room > upstream->receive_size)
		room = upstream->receive_size;
	upstream->caller = fetch;
	do {
		outcome = read_piece(fetch->connection, room, &len);
	} while (outcome == 0 && len == 0);
	upstream->caller = NULL;
	fetch->received += len;
	if (outcome == 0)
		*ret_bytes = span_of(upstream->receive_buffer, len);
	return outcome;
}
