/* HTTP/1.1 as an edge_codec: one exchange at a time, what is pipelined behind it waits as bytes. */
#include "edge/edge_internal.h"

static void h1_start(struct connection *connection)
{
	codec_h1_server_init(&connection->h1, &connection->edge->h1_limits, connection->is_tls);
}

/* The row of the limit that a fault is about; TELEMETRY_LIMIT_COUNT: of none. */
static enum telemetry_limit fault_limit(enum codec_h1_fault fault)
{
	static const struct {
		enum codec_h1_fault fault;
		enum telemetry_limit limit;
	} rows[] = {
		{ CODEC_H1_FAULT_LINE_LONG, TELEMETRY_LIMIT_REQUEST_LINE },
		{ CODEC_H1_FAULT_HEAD_LONG, TELEMETRY_LIMIT_HEADER },
		{ CODEC_H1_FAULT_FIELD_COUNT, TELEMETRY_LIMIT_HEADER_FIELDS },
		{ CODEC_H1_FAULT_LEADING_LINES, TELEMETRY_LIMIT_LEADING_LINES },
		{ CODEC_H1_FAULT_EXTENSION_LONG, TELEMETRY_LIMIT_CHUNK_EXTENSION },
		{ CODEC_H1_FAULT_EXTENSIONS_LONG, TELEMETRY_LIMIT_CHUNK_EXTENSIONS },
		{ CODEC_H1_FAULT_CHUNK_OVERHEAD, TELEMETRY_LIMIT_CHUNK_OVERHEAD },
		{ CODEC_H1_FAULT_TRAILER_LONG, TELEMETRY_LIMIT_TRAILERS },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].fault == fault)
			return rows[i].limit;
	}
	return TELEMETRY_LIMIT_COUNT;
}

/* How an exchange with such a fault ends. */
static enum telemetry_end fault_end(struct exchange *exchange, enum codec_h1_fault fault,
				    const char **ret_detail)
{
	enum telemetry_limit limit = fault_limit(fault);

	if (limit == TELEMETRY_LIMIT_COUNT) {
		*ret_detail = codec_h1_fault_text(fault);
		return TELEMETRY_END_CLIENT_MALFORMED;
	}
	telemetry_count_limit(exchange->edge->counters, limit);
	*ret_detail = telemetry_limits[limit].name;
	return TELEMETRY_END_LIMIT;
}

static void h1_fault(struct connection *connection, enum codec_h1_fault fault)
{
	const char *detail;
	enum telemetry_end end = fault_end(connection->exchange, fault, &detail);

	exchange_refuse(connection->exchange, codec_h1_fault_status(fault), end, detail);
}

/* The stream ended between two requests, or within a head: nobody is left to answer. */
static void h1_input_ended(struct connection *connection)
{
	if (connection->exchange) {
		exchange_free(connection->exchange);
		connection->exchange = NULL;
	}
	connection_finish(connection, false);
}

/* Room is made at a turn's end, by letting go of those who ask nothing: until then the request stays in the socket. */
static bool h1_waits_for_room(struct connection *connection, bool is_roomy)
{
	if (is_roomy || connection->edge->is_stuck)
		return false;
	edge_run_later(connection->edge, connection);
	return true;
}

static bool h1_exchange_ready(struct connection *connection, bool is_roomy)
{
	enum telemetry_limit limit;

	if (connection->exchange)
		return true;
	if (is_roomy || edge_memory_has_room(connection->edge, EDGE_MEMORY_REFUSAL))
		connection->exchange = exchange_new(connection);
	else
		telemetry_count_limit(connection->edge->counters, TELEMETRY_LIMIT_WORKER_MEMORY);
	if (!connection->exchange) {
		connection_close(connection);
		return false;
	}
	if (connection->edge->exchange_count > connection->edge->exchanges_max)
		limit = TELEMETRY_LIMIT_EXCHANGES;
	else if (!is_roomy)
		limit = TELEMETRY_LIMIT_WORKER_MEMORY;
	else
		return true;
	/* One that is only refused is gone with this turn. */
	telemetry_count_limit(connection->edge->counters, limit);
	exchange_refuse(connection->exchange, 503, TELEMETRY_END_LIMIT,
			telemetry_limits[limit].name);
	return false;
}

/* Exchanges are freed at a turn's end: without a bound one read of pipelined requests would be memory for
 * thousands of them at once. The next ones come in the next turn. */
static bool h1_share_is_used(struct connection *connection)
{
	struct edge *edge = connection->edge;

	if (connection->exchange)
		return false;
	if (connection->exchange_turn != edge->turn)
		connection->turn_exchanges = 0;
	connection->exchange_turn = edge->turn;
	if (connection->turn_exchanges++ < telemetry_limits[TELEMETRY_LIMIT_PIPELINED].value)
		return false;
	telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_PIPELINED);
	edge_run_later(edge, connection);
	return true;
}

/* Its own share is used up, or the worker's. */
static void h1_no_memory(struct exchange *exchange)
{
	enum telemetry_limit limit = exchange->arena.cap < EDGE_EXCHANGE_ARENA
					     ? TELEMETRY_LIMIT_WORKER_MEMORY
					     : TELEMETRY_LIMIT_EXCHANGE_MEMORY;

	telemetry_count_limit(exchange->edge->counters, limit);
	exchange_refuse(exchange, 503, TELEMETRY_END_LIMIT, telemetry_limits[limit].name);
}

static void h1_progress(struct connection *connection)
{
	while (connection->phase == CONNECTION_OPEN &&
	       !(connection->exchange && connection->exchange->began)) {
		struct codec_h1_event event;
		struct span input;
		size_t before;
		bool is_roomy = connection->exchange ||
				edge_memory_has_room(connection->edge, EDGE_MEMORY_EXCHANGE);
		int outcome;

		if (h1_waits_for_room(connection, is_roomy))
			return;
		outcome = connection_peek(connection, &input);
		if (outcome == CONNECTION_WAIT || outcome == CONNECTION_YIELD)
			return;
		if (outcome) {
			h1_input_ended(connection);
			return;
		}
		if (h1_share_is_used(connection) || !h1_exchange_ready(connection, is_roomy))
			return;
		before = input.len;
		edge_memory_bound(connection->edge, connection->exchange);
		outcome = codec_h1_request_next(&connection->h1, &input, 0,
						&connection->exchange->arena, &event);
		edge_memory_charge(connection->exchange);
		connection_consume(connection, before - input.len);
		connection->exchange->head_bytes_in += before - input.len;
		switch (outcome) {
		case CODEC_H1_HEAD:
			exchange_begin(connection->exchange, event.request);
			return;
		case CODEC_H1_ERROR:
			h1_fault(connection, event.fault);
			return;
		case CODEC_H1_CLOSED:
		case CODEC_H1_HELD: /* bytes for a protocol that nobody speaks here */
			h1_input_ended(connection);
			return;
		case -ENOMEM:
			h1_no_memory(connection->exchange);
			return;
		default: /* NEED_MORE, or the END of what came before */
			break;
		}
	}
}

/* ---- The request's body --------------------------------------------------------------------------------- */

static int h1_tunnel_read(struct connection *connection, size_t room, struct span *ret_bytes)
{
	struct span input;
	int outcome = connection_peek(connection, &input);

	if (outcome == CONNECTION_WAIT || outcome == CONNECTION_YIELD)
		return PUMP_WAIT;
	if (outcome)
		return outcome == CONNECTION_EOF ? PUMP_END : PUMP_BROKEN;
	*ret_bytes = span_first(input, room);
	connection_consume(connection, ret_bytes->len);
	return 0;
}

static int h1_body_fault(struct exchange *exchange, const struct codec_h1_event *event)
{
	const char *detail;
	enum telemetry_end end = fault_end(exchange, event->fault, &detail);

	exchange->body_fault = codec_h1_fault_status(event->fault);
	exchange_set_end(exchange, end, span_str(detail));
	return PUMP_BROKEN;
}

static int h1_body_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct exchange *exchange = owner;
	struct connection *connection = exchange->connection;
	struct codec_h1_event event;
	struct span input = SPAN_NONE;

	if (exchange->is_tunnel)
		return h1_tunnel_read(connection, room, ret_bytes);
	if (connection->h1.continue_wanted && !exchange->head_committed) {
		struct writer writer = connection_gather(connection, 64);

		if (codec_h1_write_continue(&connection->h1, &writer) == 0)
			connection_gathered(connection, &writer);
	}
	/* The first look is without input: the end of a body costs no system call. */
	for (;;) {
		size_t before = input.len;
		int outcome = codec_h1_request_next(&connection->h1, &input, room, &exchange->arena,
						    &event);

		connection_consume(connection, before - input.len);
		switch (outcome) {
		case CODEC_H1_BODY:
			*ret_bytes = event.body;
			return 0;
		case CODEC_H1_END:
		case CODEC_H1_HELD:
			return PUMP_END;
		case CODEC_H1_NEED_MORE:
		case CODEC_H1_NEED_ROOM:
			break;
		case CODEC_H1_ERROR:
			return h1_body_fault(exchange, &event);
		default:
			return PUMP_BROKEN;
		}
		outcome = connection_peek(connection, &input);
		if (outcome == CONNECTION_WAIT || outcome == CONNECTION_YIELD)
			return PUMP_WAIT;
		if (outcome)
			return PUMP_BROKEN;
	}
}

/* ---- The response ------------------------------------------------------------------------------------------ */

static int h1_write_interim(struct exchange *exchange, const struct http_response *response)
{
	struct connection *connection = exchange->connection;
	struct writer writer =
		connection_gather(connection, codec_h1_head_size(&response->fields, 128));
	int failed = codec_h1_write_interim(&connection->h1, &writer, response);

	if (failed)
		return failed;
	connection_gathered(connection, &writer);
	return 0;
}

static int h1_write_head(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;
	struct edge *edge = exchange->edge;
	uint64_t requests_max = exchange->limits->values[SNAPSHOT_LIMIT_REQUESTS];
	struct writer writer;
	int failed;

	if (connection->backlog.len)
		return PUMP_WAIT;
	if (requests_max && connection->exchange_count + 1 >= requests_max) {
		if (connection->h1.keep_alive)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_REQUESTS);
		connection->h1.keep_alive = false;
	}
	if (edge->is_draining || exchange->is_last)
		connection->h1.keep_alive = false;
	/* A body that nobody will read cannot be skipped without waiting for it, and of one that an origin answered
	 * early nobody knows whether it will be read to its end: then the connection ends, and must say so now. */
	if (pump_is_open(&exchange->request_pump) &&
	    (exchange->source != RESPONSE_FETCH || !exchange->request_pump.source_ended))
		connection->h1.keep_alive = false;
	writer = connection_gather(connection, codec_h1_head_size(&exchange->response.fields, 512));
	failed = codec_h1_write_response_head(&connection->h1, &writer, &exchange->response,
					      span_of(edge->date, HTTP_DATE_LEN));
	if (failed)
		return failed;
	exchange->head_bytes_out = writer_done(&writer).len;
	connection_gathered(connection, &writer);
	return 0;
}

static int h1_body_write(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	struct exchange *exchange = owner;
	struct connection *connection = exchange->connection;
	struct codec_h1_frame frame;
	size_t room = connection_room(connection);
	struct span part;

	/* What fills the room leaves first: short of room without a backlog, nobody would wake the exchange. */
	if (room && room < bytes.len) {
		connection_flush(connection);
		room = connection_room(connection);
	}
	if (connection->is_broken)
		return PUMP_BROKEN;
	if (!room)
		return PUMP_WAIT;
	part = span_first(bytes, room);
	*ret_taken = part.len;
	if (exchange->is_tunnel) {
		connection_write(connection, part);
		if (part.len < bytes.len)
			return PUMP_WAIT;
		return last ? connection_end_output(connection) : 0;
	}
	if (part.len) {
		if (codec_h1_body_frame(&connection->h1.writer, part.len, &frame))
			return PUMP_BROKEN;
		connection_write(connection, span_of(frame.prefix, frame.prefix_len));
		connection_write(connection, part);
		connection_write(connection, frame.suffix);
	}
	if (part.len < bytes.len)
		return PUMP_WAIT;
	if (last) {
		if (codec_h1_body_end(&connection->h1.writer, &frame))
			return PUMP_BROKEN;
		connection_write(connection, span_of(frame.prefix, frame.prefix_len));
		connection_write(connection, frame.suffix);
	}
	return 0;
}

static void h1_finish(struct exchange *exchange, bool is_aborted)
{
	struct connection *connection = exchange->connection;
	struct edge *edge = exchange->edge;
	bool is_reading = codec_h1_server_is_reading(&connection->h1);
	bool goes_on = !is_aborted && connection->h1.keep_alive && !exchange->is_tunnel;

	if (goes_on && is_reading) {
		/* A request without a body still owes its END; one with a body was left unread. */
		struct codec_h1_event event;
		struct span input = SPAN_NONE;

		goes_on = codec_h1_request_next(&connection->h1, &input, 0, &exchange->arena,
						&event) == CODEC_H1_END;
	}
	connection->exchange = NULL;
	connection->exchange_count++;
	exchange_free(exchange);
	connection->last_ns = edge->now_ns;
	if (is_aborted)
		connection_abort(connection);
	else if (!goes_on || edge->closes_idle)
		connection_finish(connection, !connection->saw_eof);
	else
		connection_activate(connection);
}

static void h1_begin_tunnel(struct exchange *exchange)
{
	exchange->is_tunnel = true;
}

static void h1_refuse_upgrade(struct exchange *exchange)
{
	codec_h1_server_refuse_upgrade(&exchange->connection->h1,
				       connection_has_input(exchange->connection));
}

static const struct pump_source h1_request_body = { .read = h1_body_read };
static const struct pump_sink h1_response_body = { .write = h1_body_write };

static const struct edge_codec codec_h1 = {
	.name = "http/1.1",
	.start = h1_start,
	.progress = h1_progress,
	.request_body = &h1_request_body,
	.response_body = &h1_response_body,
	.write_interim = h1_write_interim,
	.write_head = h1_write_head,
	.finish = h1_finish,
	.begin_tunnel = h1_begin_tunnel,
	.refuse_upgrade = h1_refuse_upgrade,
};

const struct edge_codec *edge_codec_h1(void)
{
	return &codec_h1;
}
