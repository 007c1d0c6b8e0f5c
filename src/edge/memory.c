/* The worker's memory: one budget (limit `worker-memory`) for everything that peers can make grow, so that the kernel
 * never has to choose whom to end.
 *
 * Counted exactly: blocks, exchanges with their arenas, documents. Counted by a figure: connections, with what the
 * library takes for their TLS. Not counted is what does not grow with peers: the program, its buffers, the snapshot.
 *
 * From 7/8 of the budget on nobody new is accepted and whoever is idle goes, the oldest first. Where nobody is idle,
 * who has not finished a head goes, one a turn, the oldest first. From 15/16 on a request waits unread for as long as
 * somebody goes; then it is answered 503 while there is room for that answer. Bodies get half at most, so that they
 * alone never hold up anybody else. What is under way may grow up to the budget and not beyond: its arena and the
 * blocks end there. */
#include "edge/edge_internal.h"

enum {
	/* Measured with a thousand at once, and rounded up: 5 KiB behind a handshake, 10 KiB behind the server's flight. */
	TLS_OPEN_BYTES = 8 * 1024,
	TLS_HANDSHAKE_BYTES = 24 * 1024,
	ORIGIN_BYTES = 4 * 1024, /* measured: 0.8 KiB, and 9.5 with TLS */
	ORIGIN_TLS_BYTES = 12 * 1024,
	REFUSAL_BYTES = 8 * 1024, /* of an arena: its page and its head */
};

uint64_t edge_memory_used(const struct edge *edge)
{
	struct upstream_counts origins = upstream_count(edge->upstream);

	return (uint64_t)(edge->blocks.used + edge->blocks.kept) * sizeof(struct block) +
	       edge->exchange_bytes + files_cache_bytes(edge->cache) +
	       (uint64_t)edge->connection_count * sizeof(struct connection) +
	       (uint64_t)edge->tls_count * TLS_OPEN_BYTES +
	       (uint64_t)edge->handshake_count * (TLS_HANDSHAKE_BYTES - TLS_OPEN_BYTES) +
	       (uint64_t)(origins.busy + origins.idle) * ORIGIN_BYTES +
	       (uint64_t)origins.tls * (ORIGIN_TLS_BYTES - ORIGIN_BYTES);
}

static uint64_t room_below(uint64_t used, uint64_t mark)
{
	return used < mark ? mark - used : 0;
}

static bool has_room(uint64_t used, uint64_t max, enum edge_memory_use use)
{
	switch (use) {
	case EDGE_MEMORY_CONNECTION:
		return room_below(used, max - max / 8) >
		       sizeof(struct connection) + TLS_HANDSHAKE_BYTES;
	case EDGE_MEMORY_EXCHANGE:
		/* Also where the budget is so small that the last part of it is less than a refusal. */
		return room_below(used, max - max / 16) > 0 &&
		       has_room(used, max, EDGE_MEMORY_REFUSAL);
	case EDGE_MEMORY_REFUSAL:
		return room_below(used, max) >= sizeof(struct exchange) + REFUSAL_BYTES;
	}
	return true;
}

bool edge_memory_has_room(const struct edge *edge, enum edge_memory_use use)
{
	return has_room(edge_memory_used(edge), edge->memory_max, use);
}

void edge_memory_charge(struct exchange *exchange)
{
	size_t bytes = sizeof(*exchange) + exchange->arena.taken;

	exchange->edge->exchange_bytes += bytes - exchange->charged;
	exchange->charged = bytes;
}

static void bound(struct edge *edge, struct exchange *exchange, uint64_t used)
{
	uint64_t room = room_below(used, edge->memory_max);
	uint64_t bodies = edge->memory_max / 2 / sizeof(struct block);
	uint64_t blocks;

	if (exchange) {
		size_t arena = room < EDGE_EXCHANGE_ARENA ? (size_t)room : EDGE_EXCHANGE_ARENA;

		edge_memory_charge(exchange);
		/* 0 would be none at all. */
		exchange->arena.cap = exchange->arena.taken + arena < EDGE_EXCHANGE_ARENA
					      ? exchange->arena.taken + arena
					      : EDGE_EXCHANGE_ARENA;
		exchange->arena.cap += !exchange->arena.cap;
		room -= arena;
	}
	blocks = edge->blocks.used + edge->blocks.kept + room / sizeof(struct block);
	blocks = blocks < bodies ? blocks : bodies;
	edge->blocks.max = blocks < edge->blocks_max ? (uint32_t)blocks : edge->blocks_max;
}

void edge_memory_bound(struct edge *edge, struct exchange *exchange)
{
	bound(edge, exchange, edge_memory_used(edge));
}

/* Whoever means it is done with a head in a few round trips. */
static bool refuse_oldest_head(struct edge *edge)
{
	LIST_EACH(&edge->connections, node) {
		struct connection *connection = LIST_ITEM(node, struct connection, link);
		struct exchange *exchange = connection->exchange;

		if (connection->phase != CONNECTION_OPEN || !exchange || exchange->began)
			continue;
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_WORKER_MEMORY);
		exchange_refuse(exchange, 503, TELEMETRY_END_LIMIT,
				telemetry_limits[TELEMETRY_LIMIT_WORKER_MEMORY].name);
		os_loop_wake_again(edge->loop);
		return true;
	}
	return false;
}

void edge_memory_turn(struct edge *edge)
{
	bool was_short = edge->is_short;
	uint64_t used = edge_memory_used(edge);

	bound(edge, NULL, used);
	edge->is_short = !has_room(used, edge->memory_max, EDGE_MEMORY_CONNECTION);
	edge->is_stuck = false;
	if (!edge->is_short && !was_short)
		return;
	if (edge->is_short) {
		if (!was_short)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_WORKER_MEMORY);
		edge->is_stuck = !edge_shed_idle(edge) && !refuse_oldest_head(edge);
		/* Also where nothing happens: who is fresh now is idle then. */
		if (!os_timer_is_set(&edge->accept_timer))
			edge_accept_rest_begin(edge);
	} else {
		edge_listeners_update(edge);
	}
}
