/* The order of things: one table, one runner (ARCHITECTURE, laws 1 and 2). */
#include "edge/edge_internal.h"

#define X(upper, lower) enum exchange_verdict stage_##lower##_run(struct exchange *exchange);
EXCHANGE_STAGES(X)
#undef X
void stage_dispatch_leave(struct exchange *exchange);

const struct exchange_stage exchange_stages[EXCHANGE_STAGE_COUNT] = {
	[EXCHANGE_STAGE_HEAD] = { "head", stage_head_run, NULL },
	[EXCHANGE_STAGE_ROUTE] = { "route", stage_route_run, NULL },
	[EXCHANGE_STAGE_FIREWALL] = { "firewall", stage_firewall_run, NULL },
	[EXCHANGE_STAGE_AUTH] = { "auth", stage_auth_run, NULL },
	[EXCHANGE_STAGE_RULES_HEAD] = { "rules-head", stage_rules_head_run, NULL },
	[EXCHANGE_STAGE_REQUEST_PUMP] = { "request-pump", stage_request_pump_run, NULL },
	[EXCHANGE_STAGE_DISPATCH] = { "dispatch", stage_dispatch_run, stage_dispatch_leave },
	/* The response half: every answer, ours or an origin's, enters here. */
	[EXCHANGE_STAGE_RULES_RESPONSE] = { "rules-response", stage_rules_response_run, NULL },
	[EXCHANGE_STAGE_SEND] = { "send", stage_send_run, NULL },
	[EXCHANGE_STAGE_RECORD] = { "record", stage_record_run, NULL },
};

/* ---- Pumps ------------------------------------------------------------------------------------------------ */

static enum telemetry_end end_without_blocks(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;

	if (!edge->blocks.was_full)
		return TELEMETRY_END_NO_ROOM;
	telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_BODY_MEMORY);
	exchange_set_end(exchange, TELEMETRY_END_LIMIT,
			 telemetry_limit_name(TELEMETRY_LIMIT_BODY_MEMORY));
	return TELEMETRY_END_LIMIT;
}

static void request_pump_failed(struct exchange *exchange, int outcome)
{
	/* Whatever comes behind an unfinished body cannot be read as a request. */
	exchange->is_last = true;
	if (outcome == PUMP_SINK_BROKEN)
		return; /* the fetch failed: dispatch sees it */
	if (outcome == PUMP_NO_MEMORY)
		exchange_interrupt(exchange, 503, end_without_blocks(exchange));
	else if (exchange->body_fault)
		exchange_interrupt(exchange, exchange->body_fault, TELEMETRY_END_CLIENT_MALFORMED);
	else
		exchange_interrupt(exchange, 0, exchange_end_without_client(exchange));
}

/* A length that was announced is judged in its stage; a chunked body tells its length only as it comes. */
static bool request_is_too_long(struct exchange *exchange)
{
	uint64_t body_max = exchange->limits->values[SNAPSHOT_LIMIT_BODY];

	if (!body_max || exchange->is_tunnel || exchange->request_pump.read <= body_max)
		return false;
	pump_close(&exchange->request_pump);
	exchange->is_last = true;
	telemetry_count_limit(exchange->edge->counters, TELEMETRY_LIMIT_BODY);
	exchange_set_end(exchange, TELEMETRY_END_LIMIT, telemetry_limit_name(TELEMETRY_LIMIT_BODY));
	exchange_interrupt(exchange, telemetry_limits[TELEMETRY_LIMIT_BODY].status,
			   TELEMETRY_END_LIMIT);
	return true;
}

static void response_pump_failed(struct exchange *exchange, int outcome)
{
	enum telemetry_end end = TELEMETRY_END_CLIENT_GONE;

	if (outcome == PUMP_NO_MEMORY) {
		end = end_without_blocks(exchange);
	} else if (outcome == PUMP_SOURCE_BROKEN && exchange->source == RESPONSE_FETCH) {
		exchange_count_fetch_limit(exchange);
		end = (enum telemetry_end)exchange->fetch.failure.end;
		exchange_set_end(exchange, end, exchange->fetch.failure.detail);
		exchange_view_failed(exchange, end);
	} else if (outcome == PUMP_SOURCE_BROKEN) {
		end = TELEMETRY_END_FILES_FAILED;
	}
	exchange_interrupt(exchange, 0, end);
}

static void response_pump_run(struct exchange *exchange)
{
	size_t given = EDGE_TURN_BYTES, left;
	int outcome;

	if (exchange->pace)
		given = exchange_pace_room(exchange, given);
	left = given;
	outcome = pump_run(&exchange->response_pump, &left);
	if (exchange->pace)
		exchange_pace_pay(exchange, given - left);
	if (outcome == PUMP_YIELD) {
		/* Without room a timer was set. */
		exchange->wants_turn |= given != 0;
	} else if (outcome != PUMP_WAIT && outcome != PUMP_END) {
		pump_close(&exchange->response_pump);
		response_pump_failed(exchange, outcome);
	}
}

/* Behind TLS whoever ends the transport has left: nobody waits for an origin on his behalf. Without TLS it may be
 * the end of his own half alone, and he still reads (docs/decisions/0012). */
static bool client_has_left(const struct exchange *exchange)
{
	const struct connection *connection = exchange->connection;

	return connection->is_tls && (connection->watch.ready & OS_PEER_SHUT) &&
	       exchange->has_fetch && !exchange->is_tunnel && !exchange->is_aborting &&
	       exchange->fetch.state != UPSTREAM_DONE && exchange->fetch.state != UPSTREAM_FAILED;
}

void exchange_pumps_run(struct exchange *exchange)
{
	size_t budget = EDGE_TURN_BYTES;
	int outcome;

	if (exchange->interrupt == EXCHANGE_NEXT && client_has_left(exchange)) {
		exchange_interrupt(exchange, 0, TELEMETRY_END_CLIENT_GONE);
		return;
	}

	if (pump_is_open(&exchange->request_pump)) {
		outcome = pump_run(&exchange->request_pump, &budget);
		if (request_is_too_long(exchange))
			outcome = PUMP_END;
		if (outcome == PUMP_YIELD) {
			exchange->wants_turn = true;
		} else if (outcome != PUMP_WAIT && outcome != PUMP_END) {
			pump_close(&exchange->request_pump);
			request_pump_failed(exchange, outcome);
		}
	}
	if (pump_is_open(&exchange->response_pump))
		response_pump_run(exchange);
}

/* ---- Runner ------------------------------------------------------------------------------------------------ */

static void enter(struct exchange *exchange, enum exchange_stage_index stage)
{
	exchange->stage = stage;
	exchange->step = 0;
	exchange->entered_ns[stage] = exchange->edge->now_ns;
}

static enum exchange_verdict take_interrupt(struct exchange *exchange)
{
	enum exchange_verdict verdict = exchange->interrupt;

	exchange->interrupt = EXCHANGE_NEXT;
	if (exchange_stages[exchange->stage].leave)
		exchange_stages[exchange->stage].leave(exchange);
	return verdict;
}

/* Most stages run before anything moves, or has a client to watch. */
static bool has_moving_parts(const struct exchange *exchange)
{
	return exchange->has_fetch || pump_is_open(&exchange->request_pump) ||
	       pump_is_open(&exchange->response_pump);
}

/* True while the exchange goes on in this call. */
static bool obey(struct exchange *exchange, enum exchange_verdict verdict)
{
	switch (verdict) {
	case EXCHANGE_NEXT:
		enter(exchange, exchange->stage + 1);
		return true;
	case EXCHANGE_WAIT:
		if (exchange->wants_turn)
			edge_run_exchange_later(exchange);
		return false;
	case EXCHANGE_YIELD:
		edge_run_exchange_later(exchange);
		return false;
	case EXCHANGE_ANSWER:
		MUST(!exchange->head_committed);
		enter(exchange, EXCHANGE_STAGE_RULES_RESPONSE);
		return true;
	case EXCHANGE_ABORT:
		exchange->is_aborting = true;
		pump_close(&exchange->request_pump);
		pump_close(&exchange->response_pump);
		enter(exchange, EXCHANGE_STAGE_RECORD);
		return true;
	}
	return false;
}

void exchange_run(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;
	enum exchange_verdict verdict;

	edge_memory_bound(exchange->edge, exchange);
	do {
		exchange->wants_turn = false;
		exchange->trail |= 1u << exchange->stage;
		if (has_moving_parts(exchange))
			exchange_pumps_run(exchange);
		if (exchange->interrupt != EXCHANGE_NEXT)
			verdict = take_interrupt(exchange);
		else
			verdict = exchange->edge->stages[exchange->stage].run(exchange);
		if (exchange->stage == EXCHANGE_STAGE_RECORD && verdict == EXCHANGE_NEXT) {
			connection_limits_set(connection, exchange->limits);
			exchange->codec->finish(exchange, exchange->is_aborting);
			connection_update_deadline(connection);
			return;
		}
	} while (obey(exchange, verdict));
	edge_memory_charge(exchange);
	connection_update_deadline(connection);
}
