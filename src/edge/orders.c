/* What the operator says of origins, and what this worker tells of them (`portcullis origin`, `portcullis upstreams`). */
#include "edge/edge_internal.h"

void edge_order(struct edge *edge, const struct ipc_origin_order *body)
{
	struct edge_origin *origin = edge_origin_get(edge, body->origin);

	if (!origin || body->order >= IPC_ORDER_COUNT)
		return;
	balance_set_order(&origin->state, (enum balance_order)body->order, edge->now_ns);
	if (body->order == IPC_ORDER_DRAIN)
		upstream_origin_close_idle(edge->upstream, body->origin);
	else if (body->order == IPC_ORDER_DOWN)
		upstream_origin_fail(edge->upstream, body->origin, TELEMETRY_END_ORIGIN_DOWN);
}

static struct ipc_origin_seen seen_of(const struct edge *edge, const struct edge_origin *origin)
{
	const struct balance_origin *state = &origin->state;
	struct upstream_origin_counts counts = upstream_count_origin(edge->upstream, state->id);
	uint64_t left_ns =
		state->ejected_until_ns > edge->now_ns ? state->ejected_until_ns - edge->now_ns : 0;

	return (struct ipc_origin_seen){
		.origin = state->id,
		.active = state->active,
		.open = counts.open,
		.idle = counts.idle,
		.waiting = counts.waiting,
		.requests = origin->requests,
		.failures = origin->failures,
		.ejected_ms = (left_ns + OS_MS - 1) / OS_MS,
		.order = (uint32_t)state->order,
		.is_down = state->is_down,
	};
}

static bool send_rows(struct ipc_channel *channel, const struct ipc_origin_seen *rows,
		      uint32_t count)
{
	struct ipc_origins_seen body = { .count = count };

	return !count || ipc_send(channel, IPC_MESSAGE_origins_seen, &body,
				  span_of(rows, count * sizeof(*rows)), NULL, 0) == 0;
}

void edge_tell_origins(struct edge *edge, struct ipc_channel *channel)
{
	enum { ROWS = IPC_TAIL_MAX / sizeof(struct ipc_origin_seen) };
	struct ipc_origin_seen rows[ROWS];
	const struct edge_origin *origin;
	uint32_t count = 0;
	size_t cursor = 0;
	bool ok = true;
	uint64_t id;

	while (ok && (origin = map_next(&edge->origins, &cursor, &id))) {
		rows[count++] = seen_of(edge, origin);
		if (count < ROWS)
			continue;
		ok = send_rows(channel, rows, count);
		count = 0;
	}
	/* A command that does not read gets no end. */
	if (ok && send_rows(channel, rows, count) && IPC_SEND(channel, origins_end, { 0 }) < 0)
		return;
}
