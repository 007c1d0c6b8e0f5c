/* What an operator sees: rows of sites and upstreams, and the handlers `metrics`, `ready` and `live`. */
#include "edge/edge_internal.h"

/* ---- Ranges -------------------------------------------------------------------------------------------- */

int edge_view_new(struct edge *edge, const struct edge_config *config)
{
	size_t count = config->range_count;

	edge->named = ipc_range_named(edge->range);
	telemetry_named_begin(edge->named);
	edge->ranges = config->ranges;
	edge->range_count = count;
	edge->sources = heap_alloc((count + 1) * sizeof(*edge->sources));
	if (!edge->sources)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		edge->sources[i] = (struct telemetry_source){
			.counters = (const void *)config->ranges[i]->counters,
			.named = ipc_range_named(config->ranges[i]),
		};
	if (!count)
		edge->sources[edge->range_count++] =
			(struct telemetry_source){ edge->counters, edge->named };
	return 0;
}

/* Which slots' sockets this worker accepts from, for `ready` of every worker. */
void edge_view_listeners(struct edge *edge)
{
	uint64_t seen[OS_CPU_MAX / 64] = { 0 };
	uint32_t count = 0;

	LIST_EACH(&edge->listeners, node) {
		uint32_t slot = LIST_ITEM(node, struct edge_listener, link)->slot;
		uint64_t bit = UINT64_C(1) << slot % 64;

		if (!edge->adopted[slot] || seen[slot / 64] & bit)
			continue;
		seen[slot / 64] |= bit;
		count++;
	}
	if (!edge->current || edge->is_draining)
		count = 0;
	__atomic_store_n(&edge->range->slots_accepted, count, __ATOMIC_RELAXED);
}

/* ---- Rows ---------------------------------------------------------------------------------------------- */

int edge_view_stage(struct edge_snapshot *used)
{
	const struct snapshot *snapshot = used->snapshot;
	size_t member_count = 0;

	for (size_t i = 0; i < snapshot->upstream_count; i++)
		member_count += snapshot->upstreams[i].member_count;
	used->origins = arena_array(&used->arena, struct telemetry_origin *, member_count);
	used->sites = arena_array(&used->arena, struct telemetry_site *, snapshot->site_count);
	used->upstreams =
		arena_array(&used->arena, struct telemetry_upstream *, snapshot->upstream_count);
	return (used->origins || !member_count) && (used->sites || !snapshot->site_count) &&
			       (used->upstreams || !snapshot->upstream_count)
		       ? 0
		       : -ENOMEM;
}

/* Without a name it is what its line says: its origins. */
static struct telemetry_upstream *row_of_upstream(struct edge *edge,
						  const struct snapshot_upstream *upstream)
{
	char text[TELEMETRY_LABEL_LEN * 2];
	struct writer out = writer_of(text, sizeof(text));

	if (upstream->name.len)
		return telemetry_named_upstream(edge->named, upstream->name);
	for (size_t i = 0; i < upstream->member_count; i++) {
		if (i)
			write_byte(&out, ' ');
		write_span(&out, upstream->members[i].origin->text);
	}
	return telemetry_named_upstream(edge->named, writer_done(&out));
}

static struct telemetry_origin *row_of_origin(struct edge *edge,
					      const struct telemetry_upstream *upstream,
					      const struct snapshot_origin *origin)
{
	struct telemetry_origin *row = telemetry_named_origin(edge->named, upstream, origin->text);

	if (row == edge->named->origins)
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_METRICS_ORIGINS);
	return row;
}

/* Each cell is written once, with what it is: a reader sees no state in between. */
static void tell_origins(struct edge *edge)
{
	const struct edge_snapshot *used = edge->current;
	uint8_t states[TELEMETRY_ORIGINS] = { TELEMETRY_ORIGIN_GONE };

	for (size_t i = 0, member = 0; used && i < used->group_count; i++) {
		const struct balance *group = &used->groups[i];

		for (uint32_t j = 0; j < group->count; j++, member++) {
			size_t row = (size_t)(used->origins[member] - edge->named->origins);

			if (!balance_is_available(group->members[j].origin, edge->now_ns))
				states[row] = TELEMETRY_ORIGIN_DOWN;
			else if (states[row] == TELEMETRY_ORIGIN_GONE)
				states[row] = TELEMETRY_ORIGIN_UP;
		}
	}
	for (size_t i = 1; i < TELEMETRY_ORIGINS; i++)
		__atomic_store_n(&edge->named->origins[i].state, states[i], __ATOMIC_RELAXED);
}

/* With the commit: what a change that was given up named is nobody's row. */
void edge_view_commit(struct edge *edge)
{
	struct edge_snapshot *used = edge->current;
	const struct snapshot *snapshot = used->snapshot;

	for (size_t i = 0; i < snapshot->site_count; i++) {
		used->sites[i] = telemetry_named_site(edge->named, snapshot->sites[i].names[0]);
		if (used->sites[i] == edge->named->sites)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_METRICS_SITES);
	}
	for (size_t i = 0, member = 0; i < snapshot->upstream_count; i++) {
		const struct snapshot_upstream *upstream = &snapshot->upstreams[i];

		used->upstreams[i] = row_of_upstream(edge, upstream);
		if (used->upstreams[i] == edge->named->upstreams)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_METRICS_UPSTREAMS);
		for (size_t j = 0; j < upstream->member_count; j++, member++)
			used->origins[member] = row_of_origin(edge, used->upstreams[i],
							      upstream->members[j].origin);
	}
	tell_origins(edge);
}

void exchange_view_site(struct exchange *exchange)
{
	const struct edge_snapshot *used = exchange->snapshot;

	exchange->site_row = used->sites[exchange->site - used->snapshot->sites];
}

void exchange_view_upstream(struct exchange *exchange)
{
	const struct edge_snapshot *used = exchange->snapshot;
	const struct snapshot_upstream *upstream = exchange->route->proxy.upstream;
	struct telemetry_upstream *row = used->upstreams[upstream - used->snapshot->upstreams];

	exchange->upstream_row = row;
	telemetry_add(&row->counters[TELEMETRY_UPSTREAM_REQUESTS], 1);
	telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_EXCHANGES], 1);
}

void exchange_view_leave(struct exchange *exchange)
{
	struct telemetry_upstream *row = TAKE(exchange->upstream_row);

	if (row)
		telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_EXCHANGES], UINT64_MAX);
}

void exchange_view_failed(struct exchange *exchange, enum telemetry_end end)
{
	if (exchange->upstream_row)
		telemetry_add(&exchange->upstream_row->failures[end], 1);
}

/* A try is over, or has an answer's head. */
void exchange_view_tried(struct exchange *exchange, bool is_answered)
{
	const struct upstream_fetch *fetch = &exchange->fetch;
	struct telemetry_counters *counters = exchange->edge->counters;
	uint64_t waited_ns = fetch->first_byte_ns - exchange->dispatched_ns;

	if (fetch->was_retried) {
		telemetry_count(counters, TELEMETRY_COUNTER_ORIGIN_RETRIED);
		telemetry_add(&exchange->upstream_row->counters[TELEMETRY_UPSTREAM_RETRIES], 1);
	}
	if (!is_answered)
		return;
	if (fetch->was_reused)
		telemetry_count(counters, TELEMETRY_COUNTER_ORIGIN_REUSED);
	else if (exchange->fetch_request.is_tls)
		telemetry_count(counters, TELEMETRY_COUNTER_ORIGIN_HANDSHAKES);
	if (fetch->first_byte_ns <= exchange->dispatched_ns)
		waited_ns = 0; /* within a turn */
	telemetry_observe(counters, TELEMETRY_HISTOGRAM_ORIGIN, waited_ns);
	telemetry_observe_in(&exchange->upstream_row->response, waited_ns);
}

static void set(struct telemetry_upstream *row, enum telemetry_upstream_gauge which, uint64_t value)
{
	__atomic_store_n(&row->gauges[which], value, __ATOMIC_RELAXED);
}

void edge_second(struct edge *edge)
{
	const struct edge_snapshot *used = edge->current;

	edge_clock(edge);
	tell_origins(edge);
	/* What no upstream of today has is over. */
	for (size_t i = 0; i < edge->named->upstream_count && i < TELEMETRY_UPSTREAMS; i++) {
		for (int gauge = TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS;
		     gauge < TELEMETRY_UPSTREAM_GAUGE_COUNT; gauge++)
			set(&edge->named->upstreams[i], (enum telemetry_upstream_gauge)gauge, 0);
	}
	for (size_t i = 0; used && i < used->group_count; i++) {
		const struct balance *group = &used->groups[i];
		struct telemetry_upstream *row = used->upstreams[i];

		for (uint32_t j = 0; j < group->count; j++) {
			const struct balance_origin *origin = group->members[j].origin;
			struct upstream_origin_counts counts =
				upstream_count_origin(edge->upstream, origin->id);

			telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS],
				      counts.open);
			telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_IDLE], counts.idle);
			telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_QUEUED],
				      counts.waiting);
			telemetry_add(&row->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN],
				      !balance_is_available(origin, edge->now_ns));
		}
	}
}

/* ---- Handlers ---------------------------------------------------------------------------------------------- */

/* Written as the client takes it: the text may be larger than what an exchange may keep. */
struct edge_metrics {
	struct telemetry_metrics metrics;
	bool is_over;
	size_t at, len; /* in text: what was not taken yet */
	char text[2 * TELEMETRY_METRICS_PIECE];
};

static int metrics_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct edge_metrics *state = ((struct exchange *)owner)->metrics;

	if (state->at == state->len) {
		struct writer out = writer_of(state->text, sizeof(state->text));

		while (!state->is_over && (size_t)(out.end - out.at) >= TELEMETRY_METRICS_PIECE)
			state->is_over = !telemetry_metrics_next(&state->metrics, &out);
		state->at = 0;
		state->len = writer_done(&out).len;
		if (!state->len)
			return PUMP_END;
	}
	*ret_bytes = span_first(span_of(state->text + state->at, state->len - state->at), room);
	state->at += ret_bytes->len;
	return 0;
}

const struct pump_source metrics_source = { .read = metrics_read };

static struct ipc_gauges gauges_of(const struct edge *edge)
{
	const struct ipc_range *own = edge->range;
	struct ipc_gauges gauges;

	if (edge->ranges)
		ipc_ranges_sum(edge->ranges, edge->range_count, &gauges);
	else
		ipc_ranges_sum(&own, 1, &gauges);
	return gauges;
}

static bool is_read(const struct exchange *exchange)
{
	enum http_method method = exchange->request->method;

	return method == HTTP_GET || method == HTTP_HEAD;
}

static enum exchange_verdict refuse_method(struct exchange *exchange)
{
	exchange_answer(exchange, 405, TELEMETRY_END_OK);
	if (http_fields_add_id(&exchange->response.fields, HTTP_NAME_ALLOW, SPAN("GET, HEAD")))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

enum exchange_verdict dispatch_metrics(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	struct ipc_gauges gauges = gauges_of(edge);
	struct edge_metrics *state;

	if (!is_read(exchange))
		return refuse_method(exchange);
	state = arena_new(&exchange->arena, struct edge_metrics);
	if (!state)
		return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	state->metrics = (struct telemetry_metrics){
		.sources = edge->sources,
		.source_count = edge->range_count,
		.gauges = { .connections = gauges.connections,
			    .exchanges = gauges.exchanges,
			    .processes = gauges.processes },
	};
	/* The text stands in for what is written later, so that there is a media type. */
	if (exchange_answer_now(exchange, 200, SPAN("text/plain; version=0.0.4; charset=utf-8"),
				SPAN("\n")) != EXCHANGE_ANSWER)
		return EXCHANGE_ABORT;
	exchange->metrics = state;
	exchange->source = RESPONSE_METRICS;
	exchange->response.content_length = -1;
	return EXCHANGE_ANSWER;
}

/* Is every slot's socket accepted from, by its worker or a neighbour? */
static bool is_ready(const struct edge *edge)
{
	return !edge->is_draining && gauges_of(edge).slots_accepted >= edge->slot_count;
}

enum exchange_verdict dispatch_ready(struct exchange *exchange)
{
	struct span text = SPAN("ready\n");
	bool ready = is_ready(exchange->edge);

	if (!is_read(exchange))
		return refuse_method(exchange);
	if (!ready)
		text = exchange->edge->is_draining ? SPAN("draining\n") : SPAN("not ready\n");
	return exchange_answer_now(exchange, ready ? 200 : 503, SPAN("text/plain; charset=utf-8"),
				   text);
}

enum exchange_verdict dispatch_live(struct exchange *exchange)
{
	if (!is_read(exchange))
		return refuse_method(exchange);
	return exchange_answer_now(exchange, 200, SPAN("text/plain; charset=utf-8"),
				   SPAN("live\n"));
}
