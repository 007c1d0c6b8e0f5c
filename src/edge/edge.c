/* The worker's state: made, changed, run once a turn, drained. */
#include "edge/edge_internal.h"

#include <string.h>

/* ---- Made --------------------------------------------------------------------------------------------- */

static int buffers_new(struct edge *edge)
{
	edge->wire_in = heap_alloc(EDGE_WIRE_SIZE);
	edge->wire_out = heap_alloc(EDGE_WIRE_SIZE);
	edge->plain = heap_alloc(EDGE_PLAIN_SIZE);
	edge->gather = heap_alloc(EDGE_GATHER_SIZE);
	edge->file_buffer = heap_alloc(EDGE_FILE_SIZE);
	edge->upstream_buffer = heap_alloc(EDGE_PLAIN_SIZE);
	edge->line_buffer = heap_alloc(TELEMETRY_LINE_MAX);
	return edge->wire_in && edge->wire_out && edge->plain && edge->gather &&
			       edge->file_buffer && edge->upstream_buffer && edge->line_buffer
		       ? 0
		       : -ENOMEM;
}

static int engines_new(struct edge *edge)
{
	size_t documents = (size_t)telemetry_limits[TELEMETRY_LIMIT_DOCUMENTS].value;
	struct upstream_config upstream = {
		.loop = edge->loop,
		.host = &edge_upstream_host,
		.host_data = edge,
		.receive_buffer = edge->upstream_buffer,
		.receive_size = EDGE_PLAIN_SIZE,
	};
	int failed;

	/* Each may hold a descriptor, as connections do. */
	if (documents > edge->connections_max / 2)
		documents = edge->connections_max / 2;
	failed = files_cache_new(documents, 64u << 20, &edge->cache);
	return failed ? failed : upstream_new(&upstream, &edge->upstream);
}

/* Half of the table is for those who have proven that they speak TLS. */
static uint32_t handshakes_max(uint32_t connections_max)
{
	uint64_t limit = telemetry_limits[TELEMETRY_LIMIT_HANDSHAKES_WAITING].value;

	return limit < connections_max / 2 ? (uint32_t)limit : connections_max / 2;
}

/* The reserve is a quarter at most where there are few. */
static int descriptors_end(uint32_t descriptors_max)
{
	uint32_t reserve = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_DESCRIPTORS_RESERVE].value;

	if (reserve > descriptors_max / 4)
		reserve = descriptors_max / 4;
	return descriptors_max > INT32_MAX ? INT32_MAX : (int)(descriptors_max - reserve);
}

static uint32_t blocks_max(void)
{
	return (uint32_t)(telemetry_limits[TELEMETRY_LIMIT_BODY_MEMORY].value / BLOCK_SIZE);
}

int edge_new(const struct edge_config *config, struct edge **ret_edge)
{
	struct edge *edge = heap_alloc(sizeof(*edge));

	if (!edge)
		return -ENOMEM;
	struct list *lists[] = { &edge->listeners,    &edge->connections,     &edge->active,
				 &edge->doomed,       &edge->later,           &edge->ready,
				 &edge->handshaking,  &edge->later_exchanges, &edge->finished,
				 &edge->file_waiters, &edge->documents_wanted };

	edge->stages = exchange_stages;
	edge->loop = config->loop;
	edge->host = config->host;
	edge->host_data = config->host_data;
	edge->slot = config->slot;
	edge->range = config->range;
	edge->counters = (struct telemetry_counters *)(void *)config->range->counters;
	edge->tickets = config->tickets;
	edge->cookies = config->cookies;
	edge_rates_init(edge, config);
	edge->connections_max = config->connections_max;
	edge->exchanges_max = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_EXCHANGES].value;
	edge->handshakes_max = handshakes_max(config->connections_max);
	edge->descriptors_end = descriptors_end(config->descriptors_max);
	edge->gateway_id = config->gateway_id;
	edge->slot_count = config->slot_count ? config->slot_count : 1;
	edge->ring_event = -1;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		list_init(lists[i]);
	slab_init(&edge->connection_slab, sizeof(struct connection), config->connections_max,
		  EDGE_CONNECTION_MAGIC);
	edge->blocks_max = blocks_max();
	block_pool_init(&edge->blocks, edge->blocks_max);
	edge->memory_max = telemetry_limits[TELEMETRY_LIMIT_WORKER_MEMORY].value;
	os_random(&edge->request_id_high, sizeof(edge->request_id_high));
	os_random(&edge->request_id_low, sizeof(edge->request_id_low));
	edge->random = edge->request_id_low;
	edge->retry_credit = EDGE_RETRY_BURST;
	edge->adopted[edge->slot] = true;
	edge_clock(edge);
	if (buffers_new(edge) || engines_new(edge) || edge_view_new(edge, config)) {
		edge_free(edge);
		return -ENOMEM;
	}
	*ret_edge = edge;
	return 0;
}

static void drop_snapshot(struct edge *edge, struct edge_snapshot *used)
{
	if (used)
		edge_origins_drop(edge, used);
	heap_free(used);
}

void edge_free(struct edge *edge)
{
	if (!edge)
		return;
	LIST_EACH(&edge->connections, node)
		connection_close(LIST_ITEM(node, struct connection, link));
	connections_free_doomed(edge);
	exchanges_free_finished(edge);
	while (edge->spare_exchanges) {
		struct exchange *exchange = edge->spare_exchanges;

		edge->spare_exchanges = exchange->next_spare;
		arena_fini(&exchange->arena);
		heap_free(exchange);
	}
	LIST_EACH(&edge->listeners, node) {
		struct edge_listener *listener = LIST_ITEM(node, struct edge_listener, link);

		os_watch_remove(&listener->watch);
		os_close(listener->fd);
		list_remove(&listener->link);
		heap_free(listener);
	}
	documents_wanted_fini(edge);
	upstream_free(edge->upstream);
	files_cache_free(edge->cache);
	question_fini(edge);
	policies_fini(edge);
	drop_snapshot(edge, edge->current);
	drop_snapshot(edge, edge->staged);
	edge_origins_fini(edge);
	heap_free(edge->root_slots);
	heap_free(edge->staged_root_slots);
	slab_fini(&edge->connection_slab);
	block_pool_fini(&edge->blocks);
	heap_free(edge->wire_in);
	heap_free(edge->wire_out);
	heap_free(edge->plain);
	heap_free(edge->gather);
	heap_free(edge->file_buffer);
	heap_free(edge->upstream_buffer);
	heap_free(edge->line_buffer);
	heap_free(edge->sources);
	os_timer_stop(&edge->drain_timer);
	os_timer_stop(&edge->accept_timer);
	heap_free(edge);
}

void edge_set_log(struct edge *edge, struct telemetry_ring *ring, int event_fd)
{
	edge->ring = ring;
	edge->ring_event = event_fd;
}

/* ---- Listeners -------------------------------------------------------------------------------------------- */

static void on_listener(struct os_watch *watch, unsigned now)
{
	struct edge_listener *listener = CONTAINER_OF(watch, struct edge_listener, watch);

	(void)now;
	edge_clock(listener->edge);
	connection_accept(listener->edge, listener);
}

static void on_rested(struct os_timer *timer);

static void listener_update(struct edge_listener *listener)
{
	struct edge *edge = listener->edge;
	bool wanted = edge->adopted[listener->slot] && edge->current && !edge->is_draining &&
		      !edge->is_short && !os_timer_is_set(&edge->accept_timer);

	if (!wanted) {
		os_watch_remove(&listener->watch);
	} else if (!os_watch_is_added(&listener->watch) &&
		   os_watch_add(edge->loop, &listener->watch, listener->fd, OS_WATCH_LEVEL_READ)) {
		/* Only a lack of memory. Nobody would try again before the next adopt or commit, so all rest. */
		edge->accept_timer.on_due = on_rested;
		os_timer_set(edge->loop, &edge->accept_timer,
			     os_loop_now_ns(edge->loop) + EDGE_ACCEPT_REST_MS * OS_MS);
	}
}

void edge_listeners_update(struct edge *edge)
{
	LIST_EACH(&edge->listeners, node)
		listener_update(LIST_ITEM(node, struct edge_listener, link));
	edge_view_listeners(edge);
}

static bool connection_is_idle(const struct connection *connection)
{
	return connection->phase == CONNECTION_OPEN && !connection->exchange &&
	       !connection_has_input(connection) && !(connection->watch.ready & OS_READABLE);
}

/* Who has only just come is about to ask; closed now, what it asks would be answered with a reset. */
static bool connection_is_fresh(const struct connection *connection)
{
	return !connection->exchange_count &&
	       connection->edge->now_ns - connection->accepted_ns < OS_SECOND;
}

static void on_rested(struct os_timer *timer)
{
	edge_listeners_update(CONTAINER_OF(timer, struct edge, accept_timer));
}

/* A new descriptor has the lowest number that is free: at the reserve's first one all others are taken. Far from it
 * the last that was seen says enough. */
bool edge_descriptors_are_low(struct edge *edge, int fd)
{
	enum { NEAR = 64 };
	int probe;

	if (!edge->descriptors_end || edge->descriptor_seen < edge->descriptors_end - NEAR)
		return false;
	if (os_duplicate(fd, &probe))
		return true;
	os_close(probe);
	edge->descriptor_seen = probe;
	return probe >= edge->descriptors_end;
}

size_t edge_shed_idle(struct edge *edge)
{
	size_t count = 0;

	upstream_close_idle(edge->upstream);
	files_cache_clear(edge->cache);
	LIST_EACH(&edge->connections, node) {
		struct connection *connection = LIST_ITEM(node, struct connection, link);

		if (count == EDGE_SHED_MAX)
			break;
		if (!connection_is_idle(connection) || connection_is_fresh(connection))
			continue;
		connection_finish(connection, false);
		count++;
	}
	return count;
}

/* Listeners report for as long as somebody waits: without a rest the loop would do nothing but ask in vain. */
void edge_accept_rest_begin(struct edge *edge)
{
	edge->accept_timer.on_due = on_rested;
	os_timer_set(edge->loop, &edge->accept_timer, edge->now_ns + EDGE_ACCEPT_REST_MS * OS_MS);
	edge_listeners_update(edge);
}

void edge_accept_rest(struct edge *edge)
{
	edge_accept_rest_begin(edge);
	(void)edge_shed_idle(edge);
}

int edge_listener_add(struct edge *edge, uint64_t id, uint32_t slot, int fd)
{
	struct edge_listener *listener = slot < OS_CPU_MAX ? heap_alloc(sizeof(*listener)) : NULL;

	if (!listener) {
		os_close(fd);
		return -ENOMEM;
	}
	listener->edge = edge;
	listener->id = id;
	listener->slot = slot;
	listener->fd = fd;
	listener->watch.on_ready = on_listener;
	list_push_back(&edge->listeners, &listener->link);
	listener_update(listener);
	edge_view_listeners(edge);
	return 0;
}

static void listener_forget(struct edge_listener *listener)
{
	LIST_EACH(&listener->edge->connections, node) {
		struct connection *connection = LIST_ITEM(node, struct connection, link);

		if (connection->listener == listener)
			connection->listener = NULL;
	}
	os_watch_remove(&listener->watch);
	os_close(listener->fd);
	list_remove(&listener->link);
	heap_free(listener);
}

void edge_listener_remove(struct edge *edge, uint64_t id)
{
	LIST_EACH(&edge->listeners, node) {
		struct edge_listener *listener = LIST_ITEM(node, struct edge_listener, link);

		if (listener->id == id)
			listener_forget(listener);
	}
}

void edge_adopt(struct edge *edge, uint32_t slot, bool on)
{
	if (slot >= OS_CPU_MAX)
		return;
	edge->adopted[slot] = on;
	edge_listeners_update(edge);
}

/* ---- Change --------------------------------------------------------------------------------------------------- */

int edge_prepare(struct edge *edge, const struct snapshot *snapshot)
{
	int failed;

	if (!snapshot)
		return policies_reserve(edge);
	edge->staged = heap_alloc(sizeof(*edge->staged));
	if (!edge->staged)
		return -ENOMEM;
	edge->staged->snapshot = snapshot;
	edge->staged->references = 1;
	failed = edge_origins_stage(edge, edge->staged);
	if (!failed) {
		failed = policies_stage(edge, snapshot);
		if (!failed)
			failed = policies_reserve(edge);
		if (failed)
			edge_origins_drop(edge, edge->staged);
	}
	/* The host counts only what was prepared. */
	if (failed)
		heap_free(TAKE(edge->staged));
	return failed;
}

void edge_snapshot_unref(struct edge *edge, struct edge_snapshot *used)
{
	MUST(used->references > 0);
	if (--used->references)
		return;
	edge_origins_drop(edge, used);
	edge->host->release_snapshot(edge->host_data, used->snapshot);
	heap_free(used);
}

static void keep_origins(struct edge *edge)
{
	const struct snapshot *snapshot = edge->current->snapshot;
	uint64_t *ids = heap_alloc((snapshot->origin_count + 1) * sizeof(*ids));

	if (!ids)
		return; /* idle connections of gone origins end by their own time */
	for (size_t i = 0; i < snapshot->origin_count; i++)
		ids[i] = snapshot->origins[i].id;
	upstream_keep_only(edge->upstream, ids, snapshot->origin_count);
	heap_free(ids);
}

void edge_upstream_limits(const struct snapshot_limits *from, struct upstream_limits *ret)
{
	const uint64_t *values = from->values;

	*ret = (struct upstream_limits){
		.connect_ms = (uint32_t)(values[SNAPSHOT_LIMIT_CONNECT] / OS_MS),
		.first_byte_ms = (uint32_t)(values[SNAPSHOT_LIMIT_FIRST_BYTE] / OS_MS),
		.between_bytes_ms = (uint32_t)(values[SNAPSHOT_LIMIT_RESPONSE_GAP] / OS_MS),
		.event_stream_ms = (uint32_t)(values[SNAPSHOT_LIMIT_EVENT_STREAM] / OS_MS),
		.tunnel_ms = (uint32_t)(values[SNAPSHOT_LIMIT_TUNNEL] / OS_MS),
		.connections_per_origin = (uint32_t)values[SNAPSHOT_LIMIT_ORIGIN_CONNECTIONS],
		.queue_per_origin = (uint32_t)values[SNAPSHOT_LIMIT_ORIGIN_QUEUE],
		.idle_ms = (uint32_t)(telemetry_limits[TELEMETRY_LIMIT_ORIGIN_IDLE].value / OS_MS),
		.idle_per_origin =
			(uint32_t)telemetry_limits[TELEMETRY_LIMIT_ORIGIN_IDLE_CONNECTIONS].value,
		.head_max = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_UPSTREAM_HEAD].value,
	};
}

static void set_upstream_limits(struct edge *edge)
{
	struct upstream_limits limits;

	edge_upstream_limits(&edge->current->snapshot->limits, &limits);
	upstream_set_limits(edge->upstream, &limits);
}

static void widen(struct codec_h1_limits *limits, const struct snapshot_limits *by)
{
	uint64_t head = by->values[SNAPSHOT_LIMIT_HEADER];
	uint64_t fields = by->values[SNAPSHOT_LIMIT_HEADER_FIELDS];

	if (head > limits->head_max)
		limits->head_max = head < UINT32_MAX ? (uint32_t)head : UINT32_MAX;
	if (fields > limits->field_max)
		limits->field_max = fields < UINT32_MAX ? (uint32_t)fields : UINT32_MAX;
}

static void set_h1_limits(struct edge *edge)
{
	const struct snapshot *snapshot = edge->current->snapshot;
	struct codec_h1_limits limits = codec_h1_request_limits;

	limits.head_max = limits.field_max = 0;
	widen(&limits, &snapshot->limits);
	for (size_t i = 0; i < snapshot->site_count; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];

		widen(&limits, site->limits);
		for (size_t j = 0; j < site->path_limit_count; j++)
			widen(&limits, &site->path_limits[j].limits);
		for (size_t j = 0; j < site->route_count; j++)
			widen(&limits, site->routes[j].limits);
	}
	edge->h1_limits = limits;
}

void edge_commit(struct edge *edge)
{
	policies_take(edge);
	root_slots_take(edge);
	if (!edge->staged)
		return;
	if (edge->current)
		edge_snapshot_unref(edge, edge->current);
	edge->current = TAKE(edge->staged);
	edge->range->snapshot_serial = edge->current->snapshot->serial;
	files_cache_clear(edge->cache);
	policies_sweep(edge);
	keep_origins(edge);
	edge_origins_sweep(edge);
	edge_view_commit(edge);
	edge_holds_commit(edge);
	edge->memory_max = edge->current->snapshot->limits.values[SNAPSHOT_LIMIT_WORKER_MEMORY];
	set_upstream_limits(edge);
	set_h1_limits(edge);
	edge_listeners_update(edge);
	telemetry_count(edge->counters, TELEMETRY_COUNTER_RELOADS);
}

void edge_abandon(struct edge *edge)
{
	policies_drop_staged(edge);
	heap_free(TAKE(edge->staged_root_slots));
	if (edge->staged)
		edge_snapshot_unref(edge, TAKE(edge->staged));
}

void edge_interrupt_snapshot(struct edge *edge, const struct snapshot *snapshot)
{
	LIST_EACH(&edge->connections, node) {
		struct exchange *exchange = LIST_ITEM(node, struct connection, link)->exchange;

		if (!exchange || !exchange->began || !exchange->snapshot ||
		    exchange->snapshot->snapshot != snapshot)
			continue;
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_SNAPSHOT_WAIT);
		exchange_set_end(exchange, TELEMETRY_END_LIMIT,
				 telemetry_limit_name(TELEMETRY_LIMIT_SNAPSHOT_WAIT));
		exchange_interrupt(exchange, 503, TELEMETRY_END_LIMIT);
	}
}

/* ---- Drain -------------------------------------------------------------------------------------------------- */

static void on_drain_due(struct os_timer *timer)
{
	struct edge *edge = CONTAINER_OF(timer, struct edge, drain_timer);

	LIST_EACH(&edge->connections, node) {
		struct connection *connection = LIST_ITEM(node, struct connection, link);

		if (!connection->exchange || !connection->exchange->began) {
			connection_close(connection);
			continue;
		}
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_DRAIN);
		exchange_interrupt(connection->exchange, 503, TELEMETRY_END_DRAIN);
	}
}

/* What the kernel has finished already for us is still ours: take it before letting go. Also where another slot
 * polls: who has let go before us may have left a queue that only we still hold. */
static void accept_the_last(struct edge *edge, struct edge_listener *listener)
{
	uint64_t before;

	do {
		before = edge->connection_count;
		connection_accept(edge, listener);
	} while (edge->connection_count == before + EDGE_ACCEPT_BATCH);
}

void edge_drain(struct edge *edge, uint64_t deadline_ns, bool closes_idle)
{
	edge->closes_idle |= closes_idle;
	if (!edge->is_draining) {
		edge->is_draining = true;
		LIST_EACH(&edge->listeners, node) {
			struct edge_listener *listener =
				LIST_ITEM(node, struct edge_listener, link);

			accept_the_last(edge, listener);
			/* While anybody holds it the kernel goes on to accept for nobody. */
			listener_forget(listener);
		}
		edge_view_listeners(edge);
		upstream_close_idle(edge->upstream);
	}
	LIST_EACH(&edge->connections, node) {
		struct connection *connection = LIST_ITEM(node, struct connection, link);

		if (edge->closes_idle && connection_is_idle(connection))
			connection_finish(connection, false);
	}
	edge->drain_timer.on_due = on_drain_due;
	os_timer_set(edge->loop, &edge->drain_timer, deadline_ns);
	os_loop_wake_again(edge->loop);
}

/* ---- The turn ------------------------------------------------------------------------------------------------ */

void edge_clock(struct edge *edge)
{
	int64_t now_s;

	edge->now_ns = os_loop_now_ns(edge->loop);
	edge->wall_ns = os_loop_wall_ns(edge->loop);
	now_s = (int64_t)(edge->wall_ns / OS_SECOND);
	if (now_s == edge->date_s)
		return;
	edge->date_s = now_s;
	http_date_write(now_s, edge->date);
}

void edge_run_later(struct edge *edge, struct connection *connection)
{
	list_remove(&connection->active);
	list_push_back(&edge->later, &connection->active);
}

void edge_run_exchange_later(struct exchange *exchange)
{
	list_remove(&exchange->ready);
	list_push_back(&exchange->edge->later_exchanges, &exchange->ready);
}

static void run_all(struct edge *edge)
{
	while (!list_is_empty(&edge->active) || !list_is_empty(&edge->ready)) {
		while (!list_is_empty(&edge->active)) {
			struct connection *connection =
				LIST_ITEM(edge->active.next, struct connection, active);

			list_remove(&connection->active);
			connection_run(connection);
		}
		while (!list_is_empty(&edge->ready)) {
			struct exchange *exchange =
				LIST_ITEM(edge->ready.next, struct exchange, ready);

			list_remove(&exchange->ready);
			exchange_run(exchange);
		}
	}
}

static void run_later_next_turn(struct edge *edge)
{
	if (list_is_empty(&edge->later) && list_is_empty(&edge->later_exchanges))
		return;
	while (!list_is_empty(&edge->later)) {
		struct connection *connection =
			LIST_ITEM(edge->later.next, struct connection, active);

		list_remove(&connection->active);
		list_push_back(&edge->active, &connection->active);
	}
	while (!list_is_empty(&edge->later_exchanges)) {
		struct exchange *exchange =
			LIST_ITEM(edge->later_exchanges.next, struct exchange, ready);

		list_remove(&exchange->ready);
		list_push_back(&edge->ready, &exchange->ready);
	}
	os_loop_wake_again(edge->loop);
}

void edge_turn(struct edge *edge)
{
	edge_clock(edge);
	edge->turn++;
	run_all(edge);
	if (edge->output_owner)
		connection_flush(edge->output_owner);
	edge->output_owner = NULL;
	edge_input_release(edge);
	/* A flush may have found a broken connection. */
	run_all(edge);
	if (edge->output_owner)
		connection_flush(edge->output_owner);
	edge->output_owner = NULL;
	upstream_turn_end(edge->upstream);
	connections_free_doomed(edge);
	exchanges_free_finished(edge);
	if (edge->has_freed && os_timer_is_set(&edge->accept_timer)) {
		/* There is room again: nobody waits for the rest's end. */
		os_timer_stop(&edge->accept_timer);
		edge_listeners_update(edge);
	}
	edge->has_freed = false;
	edge_memory_turn(edge);
	run_later_next_turn(edge);
	if (edge->wakes_log) {
		edge->wakes_log = false;
		os_event_signal(edge->ring_event);
	}
	if (!list_is_empty(&edge->active))
		os_loop_wake_again(edge->loop);
	if (edge->is_draining && !edge->is_drained && edge->connection_count == 0) {
		edge->is_drained = true;
		edge->host->drained(edge->host_data);
	}
}
