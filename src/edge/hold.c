/* How many connections a client has at a time, all workers together (firewall.h): of the gate from accept to close, of a
 * site or route while a request of it is under way. */
#include "edge/edge_internal.h"

enum { SAY_EVERY_S = 1 };

void edge_rates_init(struct edge *edge, const struct edge_config *config)
{
	edge->rates = config->rates;
	if (!edge->rates)
		return;
	/* What another worker writes there later changes nothing here. */
	memcpy(edge->rates_key, edge->rates->key, sizeof(edge->rates_key));
	memcpy(edge->holder.key, edge->rates_key, sizeof(edge->rates_key));
}

/* All workers have been born at least once: what is nobody's says so in its kind. */
void edge_holds_commit(struct edge *edge)
{
	size_t count = 0;

	if (!edge->rates || !edge->current->snapshot->counts_connections)
		return;
	if (!edge->holder.own) {
		edge->holder.own = ipc_range_held(edge->range);
		firewall_holder_begin(&edge->holder);
	}
	for (size_t i = 0; i < edge->range_count && edge->ranges && count < OS_CPU_MAX; i++) {
		if (edge->ranges[i]->kind == IPC_WORKER)
			edge->held[count++] = ipc_range_held(edge->ranges[i]);
	}
	if (!count)
		edge->held[count++] = edge->holder.own;
	edge->holder.all = edge->held;
	edge->holder.all_count = count;
}

/* 0, or the line that refuses. */
static const struct snapshot_connection_limit *hold_one(
	struct edge *edge, const struct snapshot_connection_limit *limit,
	const struct os_address *client, uint64_t *ret_hold)
{
	uint64_t who = limit->is_per_ip ? firewall_client(client->family, client->ip) : 0;

	*ret_hold = 0;
	switch (firewall_hold(&edge->holder, limit->id, who, limit->most, ret_hold)) {
	case FIREWALL_OVER:
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_CLIENT_CONNECTIONS);
		return limit;
	case FIREWALL_CROWDED:
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_CONNECTION_CELLS);
		break;
	default:
		break;
	}
	return NULL;
}

static void release(struct edge *edge, uint64_t *holds, uint32_t *count)
{
	for (uint32_t i = 0; i < *count; i++)
		firewall_release(&edge->holder, holds[i]);
	*count = 0;
}

/* ---- Connections ----------------------------------------------------------------------------------------- */

/* A flood is one line a second, with how many there were since the last one. */
static void say_refused(struct connection *connection, struct span rule)
{
	struct edge *edge = connection->edge;

	edge->refused_count++;
	if (edge->refused_said_ns && edge->now_ns - edge->refused_said_ns < SAY_EVERY_S * OS_SECOND)
		return;
	edge_event_refused(connection, rule, edge->refused_count);
	edge->refused_said_ns = edge->now_ns;
	edge->refused_count = 0;
}

bool connection_hold(struct connection *connection)
{
	struct edge *edge = connection->edge;
	const struct snapshot_connection_limits *gate = &edge->current->snapshot->gate;
	struct conf_address address = edge_conf_address(&connection->peer);

	for (size_t i = 0; i < gate->count && edge->holder.own; i++) {
		const struct snapshot_connection_limit *limit = &gate->items[i];
		uint64_t hold;

		if (!snapshot_from_has(&limit->from, &address))
			continue;
		if (hold_one(edge, limit, &connection->peer, &hold)) {
			say_refused(connection, limit->rule);
			connection_close(connection);
			return false;
		}
		if (hold)
			connection->holds[connection->hold_count++] = hold;
	}
	return true;
}

void connection_release(struct connection *connection)
{
	release(connection->edge, connection->holds, &connection->hold_count);
}

/* ---- Exchanges ------------------------------------------------------------------------------------------- */

static enum exchange_verdict hold_all(struct exchange *exchange,
				      const struct snapshot_connection_limits *limits,
				      struct span path)
{
	struct conf_address address = edge_conf_address(&exchange->client);

	for (size_t i = 0; i < limits->count; i++) {
		const struct snapshot_connection_limit *limit = &limits->items[i];
		uint64_t hold;

		if (!snapshot_pattern_matches(&limit->pattern, path) ||
		    !snapshot_from_has(&limit->from, &address))
			continue;
		if (hold_one(exchange->edge, limit, &exchange->client, &hold)) {
			uint16_t status =
				telemetry_limits[TELEMETRY_LIMIT_CLIENT_CONNECTIONS].status;

			exchange->rule = limit->rule;
			/* What is one too many goes. */
			exchange->is_last = true;
			exchange_set_end(exchange, TELEMETRY_END_LIMIT,
					 telemetry_limit_name(TELEMETRY_LIMIT_CLIENT_CONNECTIONS));
			return exchange_answer(exchange, status, TELEMETRY_END_LIMIT);
		}
		if (hold)
			exchange->holds[exchange->hold_count++] = hold;
	}
	return EXCHANGE_NEXT;
}

enum exchange_verdict exchange_hold(struct exchange *exchange)
{
	const struct snapshot_connection_limits none = { 0 };
	const struct snapshot_connection_limits *site = &exchange->site->connection_limits;
	const struct snapshot_connection_limits *block =
		exchange->block ? &exchange->block->connection_limits : &none;
	enum exchange_verdict verdict;

	if (!exchange->edge->holder.own || site->count + block->count == 0)
		return EXCHANGE_NEXT;
	exchange->holds = arena_array(&exchange->arena, uint64_t, site->count + block->count);
	if (!exchange->holds)
		return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	verdict = hold_all(exchange, site, exchange->asked.text);
	return verdict == EXCHANGE_NEXT ? hold_all(exchange, block, exchange->request->path.text)
					: verdict;
}

void exchange_unhold(struct exchange *exchange)
{
	release(exchange->edge, exchange->holds, &exchange->hold_count);
}
