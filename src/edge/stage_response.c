/* Stages 14 to 16: header policy, send, record. */
#include "edge/edge_internal.h"

enum exchange_verdict stage_rules_response_run(struct exchange *exchange);
enum exchange_verdict stage_send_run(struct exchange *exchange);
enum exchange_verdict stage_record_run(struct exchange *exchange);

enum exchange_verdict stage_rules_response_run(struct exchange *exchange)
{
	exchange->answered_ns = exchange->edge->now_ns;
	return EXCHANGE_NEXT;
}

static const struct pump_source *response_source(const struct exchange *exchange)
{
	switch (exchange->source) {
	case RESPONSE_TEXT:
		return &text_source;
	case RESPONSE_DOCUMENT:
		return &document_source;
	case RESPONSE_FETCH:
		return &fetch_source;
	case RESPONSE_METRICS:
		return &metrics_source;
	case RESPONSE_NONE:
		break;
	}
	return NULL;
}

static bool response_carries_body(const struct exchange *exchange)
{
	enum http_method method = exchange->request ? exchange->request->method : HTTP_GET;

	return exchange->is_tunnel || (exchange->response.has_body && response_source(exchange) &&
				       http_status_has_body(exchange->response.status, method));
}

/* A body that no handler wanted is read and dropped as far as it is here; the rest costs the connection. As much as the
 * limit is what a turn reads of a connection, so nothing has to wait for the next one. */
static void request_discard(struct exchange *exchange)
{
	const struct connection *connection = exchange->connection;
	size_t max = (size_t)telemetry_limits[TELEMETRY_LIMIT_DISCARD].value, budget = max;
	int outcome;

	if (!pump_is_open(&exchange->request_pump) || exchange->source == RESPONSE_FETCH ||
	    exchange->request_pump.is_reluctant)
		return;
	pump_set_sink(&exchange->request_pump, &discard_sink, exchange);
	outcome = pump_run(&exchange->request_pump, &budget);
	if (outcome != PUMP_END && outcome != PUMP_WAIT && outcome != PUMP_YIELD)
		pump_close(&exchange->request_pump);
	if (outcome == PUMP_END)
		return;
	exchange->is_last = true;
	/* Else the rest has not come, and is not waited for. */
	if (connection->turn == exchange->edge->turn && connection->turn_bytes >= max)
		telemetry_count_limit(exchange->edge->counters, TELEMETRY_LIMIT_DISCARD);
}

/* Behind the 101 both pumps are endless; what the client sent behind its request is the tunnel's first. */
static void begin_tunnel(struct exchange *exchange)
{
	pump_close(&exchange->request_pump);
	exchange->codec->begin_tunnel(exchange);
	pump_open(&exchange->request_pump, &exchange->edge->blocks, PUMP_PASS,
		  exchange->codec->request_body, exchange);
	pump_set_sink(&exchange->request_pump, &fetch_sink, exchange);
}

static enum exchange_verdict send_head(struct exchange *exchange)
{
	int outcome;

	request_discard(exchange);
	outcome = exchange->codec->write_head(exchange);
	if (outcome == PUMP_WAIT)
		return EXCHANGE_WAIT;
	if (outcome)
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	exchange->head_committed = true;
	if (exchange->source != RESPONSE_FETCH)
		pump_close(&exchange->request_pump);
	else if (exchange->fetch.is_tunnel)
		begin_tunnel(exchange);
	/* A text lies in the snapshot itself. */
	if (exchange->source != RESPONSE_TEXT)
		exchange_let_go(exchange);
	if (response_carries_body(exchange)) {
		pump_open(&exchange->response_pump, &exchange->edge->blocks, PUMP_PASS,
			  response_source(exchange), exchange);
		pump_set_sink(&exchange->response_pump, exchange->codec->response_body, exchange);
	}
	return EXCHANGE_YIELD;
}

/* Each half of a tunnel ends by itself; the other goes on as long as anybody can take it. */
static bool tunnel_goes_on(const struct exchange *exchange)
{
	return exchange->is_tunnel && pump_is_open(&exchange->request_pump) &&
	       exchange->fetch.state == UPSTREAM_HEAD;
}

enum exchange_verdict stage_send_run(struct exchange *exchange)
{
	enum step { WRITE_HEAD, PUMP_BODY };
	enum exchange_verdict verdict;

	switch ((enum step)exchange->step) {
	case WRITE_HEAD:
		verdict = send_head(exchange);
		if (verdict != EXCHANGE_YIELD)
			return verdict;
		exchange->step = PUMP_BODY;
		/* Not a turn later: the pump runs at once, so head and a small body leave in one send. */
		exchange_pumps_run(exchange);
		if (exchange->interrupt != EXCHANGE_NEXT)
			return exchange->interrupt;
		/* fallthrough */
	case PUMP_BODY:
		if (pump_is_open(&exchange->response_pump) || tunnel_goes_on(exchange))
			return EXCHANGE_WAIT;
		if (exchange->is_tunnel && exchange->fetch.state == UPSTREAM_FAILED)
			return exchange_abort(exchange,
					      (enum telemetry_end)exchange->fetch.failure.end);
		/* A response that ends while the request still comes closes it; the codec then ends the
		 * connection, or resets the stream. */
		pump_close(&exchange->request_pump);
		return EXCHANGE_NEXT;
	}
	return EXCHANGE_NEXT;
}

enum exchange_verdict stage_record_run(struct exchange *exchange)
{
	MUST(!exchange->is_recorded);
	MUST(!pump_is_open(&exchange->request_pump) && !pump_is_open(&exchange->response_pump));
	exchange->is_recorded = true;
	record_write(exchange);
	return EXCHANGE_NEXT;
}
