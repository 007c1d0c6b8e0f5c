/* Who asks: the connection's peer, or, where a site trusts that one, whom it names. One address for the log,
 * limits, rules and what an origin is told. */
#include "edge/edge_internal.h"

static struct span address_text(struct exchange *exchange, const struct os_address *address)
{
	char text[OS_ADDRESS_TEXT_MAX];
	struct writer writer = writer_of(text, sizeof(text));

	os_address_write_ip(address, &writer);
	return arena_copy(&exchange->arena, writer_done(&writer));
}

static bool is_trusted(const struct snapshot_trust *trust, const struct os_address *address)
{
	struct conf_address same = edge_conf_address(address);

	return snapshot_table_has(trust->table, &same);
}

static void walk_begin(struct http_forwarded *walk, const struct exchange *exchange)
{
	const struct snapshot_trust *trust = exchange->site->trust;

	http_forwarded_init(walk, &exchange->request->fields, trust->field,
			    trust->form == SNAPSHOT_TRUST_FORWARDED ? HTTP_FORWARDED_PAIRS
								    : HTTP_FORWARDED_LIST);
}

/* How many addresses the field has; more than `max` are not looked at. */
static uint64_t hop_count(const struct exchange *exchange, uint64_t max)
{
	struct http_forwarded_element element;
	struct http_forwarded walk;
	uint64_t count = 0;

	walk_begin(&walk, exchange);
	while (count <= max && http_forwarded_previous(&walk, &element))
		count++;
	return count;
}

/* The last one that is said: only who is nearest to us is known to have written it. */
static struct span last_of(const struct exchange *exchange, enum http_name name)
{
	struct http_forwarded_element element = { .text = SPAN_NONE };
	struct http_forwarded walk;

	http_forwarded_init(&walk, &exchange->request->fields, http_name_text(name),
			    HTTP_FORWARDED_LIST);
	(void)!http_forwarded_previous(&walk, &element);
	return element.text;
}

static int believe_request(struct exchange *exchange, struct span proto, struct span host)
{
	struct http_authority authority;
	int outcome;

	if (span_equal_nocase(proto, SPAN("https")))
		exchange->hop->secure = true;
	else if (span_equal_nocase(proto, SPAN("http")))
		exchange->hop->secure = false;
	if (!host.len)
		return 0;
	outcome = http_authority_parse(&exchange->arena, host, &authority);
	if (outcome < 0)
		return outcome;
	if (outcome == 0)
		exchange->hop->host = host;
	return 0;
}

/* From the peer backwards while whoever it is is trusted. An address that is not known (`unknown`, `_hidden`,
 * garbage) ends it: who told of it is the last that is known. What else the last element says, who wrote it is
 * trusted for. */
static int believe(struct exchange *exchange, uint64_t count)
{
	const struct snapshot_trust *trust = exchange->site->trust;
	struct span *via = arena_array(&exchange->arena, struct span, count + 1);
	struct http_forwarded_element element = { .text = SPAN_NONE };
	struct http_forwarded walk;
	size_t first = count;

	if (!via)
		return -ENOMEM;
	walk_begin(&walk, exchange);
	while (is_trusted(trust, &exchange->client) && http_forwarded_previous(&walk, &element)) {
		if (!element.node.family)
			break;
		MUST(first > 0);
		via[--first] = address_text(exchange, &exchange->client);
		if (!via[first].ptr)
			return -ENOMEM;
		exchange->client =
			os_address_of(element.node.family == 4 ? OS_FAMILY_V4 : OS_FAMILY_V6,
				      element.node.ip, element.node.port);
	}
	exchange->hop->via = via + first;
	exchange->hop->via_count = count - first;
	if (exchange->hop->via_count)
		telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_CLIENTS_FORWARDED);
	if (trust->form == SNAPSHOT_TRUST_FORWARDED)
		return believe_request(exchange, element.proto, element.host);
	return believe_request(exchange, last_of(exchange, HTTP_NAME_X_FORWARDED_PROTO),
			       last_of(exchange, HTTP_NAME_X_FORWARDED_HOST));
}

/* X-Forwarded-For and Forwarded are always written. */
static struct span field_of(struct exchange *exchange)
{
	struct span field = exchange->site->trust->field;
	enum http_name name = http_name_of(field);

	if (name == HTTP_NAME_X_FORWARDED_FOR || name == HTTP_NAME_FORWARDED)
		return SPAN_NONE;
	return arena_copy(&exchange->arena, field);
}

static int find(struct exchange *exchange, uint64_t count, bool is_believed)
{
	struct http_hop *hop = arena_new(&exchange->arena, struct http_hop);

	if (!hop)
		return -ENOMEM;
	exchange->hop = hop;
	hop->host = exchange->request->authority.raw;
	hop->secure = exchange->connection->is_tls;
	hop->field = field_of(exchange);
	if (is_believed && believe(exchange, count))
		return -ENOMEM;
	hop->client = address_text(exchange, &exchange->client);
	return hop->client.ptr ? 0 : -ENOMEM;
}

enum exchange_verdict exchange_find_client(struct exchange *exchange)
{
	uint64_t max = telemetry_limits[TELEMETRY_LIMIT_FORWARDED_HOPS].value, count = 0;
	bool is_believed = is_trusted(exchange->site->trust, &exchange->client);

	if (is_believed)
		count = hop_count(exchange, max);
	if (count > max)
		return exchange_over_limit(exchange, TELEMETRY_LIMIT_FORWARDED_HOPS);
	if (find(exchange, count, is_believed))
		return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_NEXT;
}

/* The one `traceparent`, if it is valid. Else nobody's trace: neither field goes on. */
static bool trace_take(struct http_fields *fields, struct http_trace *ret_trace)
{
	const struct http_field *parent = NULL;
	uint32_t parents = 0, states = 0;
	bool is_valid;

	for (uint32_t i = 0; i < fields->count; i++) {
		if (fields->items[i].id == HTTP_NAME_TRACEPARENT) {
			parent = &fields->items[i];
			parents++;
		} else {
			states += fields->items[i].id == HTTP_NAME_TRACESTATE;
		}
	}
	is_valid = parents == 1 && http_trace_parse(parent->value, ret_trace);
	if (parents)
		http_fields_remove(fields, HTTP_NAME_TRACEPARENT);
	if (states && !is_valid)
		http_fields_remove(fields, HTTP_NAME_TRACESTATE);
	return is_valid;
}

/* A trace goes on under a span of our own. A new one is sampled: with the flag unset, an application that follows its
 * parent would record nothing. */
int exchange_trace(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	struct http_fields *fields = &exchange->request->fields;
	struct http_trace trace;
	struct writer out;
	char *text;

	if (exchange->site->trace == SNAPSHOT_TRACE_OFF)
		return 0;
	if (!trace_take(fields, &trace)) {
		if (exchange->site->trace == SNAPSHOT_TRACE_PASS)
			return 0;
		trace = (struct http_trace){ .id_high = edge_random_bits(edge),
					     .id_low = edge_random_bits(edge) | 1,
					     .flags = HTTP_TRACE_SAMPLED | HTTP_TRACE_RANDOM };
	}
	trace.span = edge_random_bits(edge) | 1;
	text = arena_alloc(&exchange->arena, HTTP_TRACE_LEN, 1);
	if (!text)
		return -ENOMEM;
	out = writer_of(text, HTTP_TRACE_LEN);
	http_trace_write(&out, &trace);
	exchange->trace = writer_done(&out);
	return http_fields_add_id(fields, HTTP_NAME_TRACEPARENT, exchange->trace);
}
