/* Stage 9: who may not ask, or not so often. */
#include "edge/edge_internal.h"

enum exchange_verdict stage_firewall_run(struct exchange *exchange);

static int add_number(struct exchange *exchange, enum http_name name, uint64_t number)
{
	struct span text = arena_format(&exchange->arena, "%llu", (unsigned long long)number);

	return text.ptr ? http_fields_add_id(&exchange->response.fields, name, text) : -ENOMEM;
}

/* The fields are those of draft-ietf-httpapi-ratelimit-headers-09. */
static int say_when(struct exchange *exchange, const struct snapshot_request_limit *limit,
		    uint64_t wait_ns)
{
	struct http_fields *fields = &exchange->response.fields;
	uint64_t seconds = (wait_ns + OS_SECOND - 1) / OS_SECOND;
	/* The line lies in the snapshot, which an answer of text keeps. */
	struct span name = span_first(limit->policy, limit->policy_name_len);
	struct span left = arena_format(&exchange->arena, "%.*s;r=0;t=%llu", SPAN_ARG(name),
					(unsigned long long)seconds);
	int failed = left.ptr ? add_number(exchange, HTTP_NAME_RETRY_AFTER, seconds) : -ENOMEM;

	if (!failed)
		failed = http_fields_add(fields, SPAN("RateLimit-Policy"), limit->policy);
	return failed ? failed : http_fields_add(fields, SPAN("RateLimit"), left);
}

static enum exchange_verdict refuse(struct exchange *exchange,
				    const struct snapshot_request_limit *limit, uint64_t wait_ns)
{
	exchange->rule = limit->rule;
	exchange_over_limit(exchange, TELEMETRY_LIMIT_REQUEST_RATE);
	if (say_when(exchange, limit, wait_ns))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

/* Every limit that concerns the request counts it, up to the first that refuses. */
static enum exchange_verdict count_request(struct exchange *exchange,
					   const struct snapshot_request_limit *limits,
					   size_t count, struct span path)
{
	struct edge *edge = exchange->edge;
	const struct os_address *client = &exchange->client;
	struct conf_address address = edge_conf_address(client);

	for (size_t i = 0; i < count; i++) {
		const struct snapshot_request_limit *limit = &limits[i];
		uint64_t wait_ns = 0, who = 0;
		int outcome;

		if (!snapshot_pattern_matches(&limit->pattern, path) ||
		    !snapshot_from_has(&limit->from, &address))
			continue;
		if (limit->is_per_ip)
			who = firewall_client(client->family, client->ip);
		outcome = firewall_take(edge->rates, edge->rates_key, &limit->rate, who,
					edge->now_ns, &wait_ns);
		if (outcome == FIREWALL_OVER)
			return refuse(exchange, limit, wait_ns);
		if (outcome == FIREWALL_CROWDED)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_RATE_CELLS);
	}
	return EXCHANGE_NEXT;
}

enum exchange_verdict stage_firewall_run(struct exchange *exchange)
{
	const struct snapshot_site *site = exchange->site;
	const struct snapshot_block *block = exchange->block;
	enum exchange_verdict verdict = EXCHANGE_NEXT;

	if (!exchange->edge->rates)
		return EXCHANGE_NEXT;
	verdict = exchange_hold(exchange);
	if (verdict == EXCHANGE_NEXT && site->request_limit_count)
		verdict = count_request(exchange, site->request_limits, site->request_limit_count,
					exchange->asked.text);
	if (verdict == EXCHANGE_NEXT && block && block->request_limit_count)
		verdict = count_request(exchange, block->request_limits, block->request_limit_count,
					exchange->request->path.text);
	if (verdict != EXCHANGE_NEXT)
		return verdict;
	if (exchange_pace_set(exchange, &site->bandwidth_limits, exchange->asked.text) ||
	    (block &&
	     exchange_pace_set(exchange, &block->bandwidth_limits, exchange->request->path.text)))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_NEXT;
}
