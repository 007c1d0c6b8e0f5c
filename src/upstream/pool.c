/* Origins and their connections; what upstream as a whole is told. */
#include "upstream/upstream_internal.h"

#include <string.h>

enum {
	CONNECTIONS_MAX = 65536,
	CONNECTION_MAGIC = 0x5550434e,
	/* An origin may close an idle connection just when a request leaves. What must not be sent twice goes
	 * out only on one that was used so shortly before that no origin's timer is that short. */
	UNSAFE_IDLE_MAX_MS = 1000,
	KEEP_ALIVE_EARLY_S = 1,
	KEEP_ALIVE_MAX_S = 60,
};

int upstream_new(const struct upstream_config *config, struct upstream **ret_upstream)
{
	struct upstream *upstream = heap_alloc(sizeof(*upstream));

	if (!upstream)
		return -ENOMEM;
	upstream->loop = config->loop;
	upstream->host = config->host;
	upstream->host_data = config->host_data;
	upstream->receive_buffer = config->receive_buffer;
	upstream->receive_size = config->receive_size;
	upstream->response_limits = codec_h1_response_limits;
	map_init(&upstream->origins);
	slab_init(&upstream->connections, sizeof(struct upstream_connection), CONNECTIONS_MAX,
		  CONNECTION_MAGIC);
	list_init(&upstream->all);
	list_init(&upstream->unsent_heads);
	list_init(&upstream->doomed);
	list_init(&upstream->roomy);
	*ret_upstream = upstream;
	return 0;
}

void upstream_set_limits(struct upstream *upstream, const struct upstream_limits *limits)
{
	upstream->limits = *limits;
	upstream->response_limits = codec_h1_response_limits;
	if (limits->head_max)
		upstream->response_limits.head_max = upstream->response_limits.line_max =
			limits->head_max;
}

/* ---- Origins ------------------------------------------------------------------------------------------------------ */

int upstream_origin_get(struct upstream *upstream, uint64_t id, struct upstream_origin **ret_origin)
{
	struct upstream_origin *origin = map_get(&upstream->origins, id);

	if (!origin) {
		origin = heap_alloc(sizeof(*origin));
		if (!origin || map_set(&upstream->origins, id, origin)) {
			heap_free(origin);
			return -ENOMEM;
		}
		origin->id = id;
		list_init(&origin->idle);
		list_init(&origin->waiting);
	}
	*ret_origin = origin;
	return 0;
}

void upstream_origin_drop_unused(struct upstream *upstream, struct upstream_origin *origin)
{
	if (origin->reference_count)
		return;
	list_remove(&origin->roomy);
	map_remove(&upstream->origins, origin->id);
	heap_free(origin);
}

bool upstream_origin_has_room(struct upstream_origin *origin, uint32_t max)
{
	if (origin->open_count >= max && origin->idle_count)
		upstream_connection_close(
			LIST_ITEM(origin->idle.prev, struct upstream_connection, link));
	return origin->open_count < max;
}

static void origin_close_idle(struct upstream_origin *origin)
{
	LIST_EACH(&origin->idle, node)
		upstream_connection_close(LIST_ITEM(node, struct upstream_connection, link));
}

void upstream_keep_only(struct upstream *upstream, const uint64_t *origin_ids, size_t count)
{
	struct upstream_origin *origin;
	size_t cursor = 0;
	uint64_t id;

	while ((origin = map_next(&upstream->origins, &cursor, &id)))
		origin->is_gone = true;
	for (size_t i = 0; i < count; i++) {
		origin = map_get(&upstream->origins, origin_ids[i]);
		if (origin)
			origin->is_gone = false;
	}
	cursor = 0;
	while ((origin = map_next(&upstream->origins, &cursor, &id)))
		if (origin->is_gone)
			origin_close_idle(origin);
}

void upstream_close_idle(struct upstream *upstream)
{
	struct upstream_origin *origin;
	size_t cursor = 0;
	uint64_t id;

	while ((origin = map_next(&upstream->origins, &cursor, &id)))
		origin_close_idle(origin);
}

void upstream_origin_close_idle(struct upstream *upstream, uint64_t origin_id)
{
	struct upstream_origin *origin = map_get(&upstream->origins, origin_id);

	if (origin)
		origin_close_idle(origin);
}

static bool is_among(const struct os_address *peer, const struct os_address *addresses,
		     size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (peer->family == addresses[i].family &&
		    memcmp(peer->ip, addresses[i].ip, sizeof(peer->ip)) == 0)
			return true;
	}
	return false;
}

void upstream_origin_addresses(struct upstream *upstream, uint64_t origin_id,
			       const struct os_address *addresses, size_t count)
{
	const struct upstream_origin *origin = map_get(&upstream->origins, origin_id);

	LIST_EACH(&upstream->all, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, all);

		if (connection->origin != origin || connection->fd < 0 ||
		    is_among(&connection->peer, addresses, count))
			continue;
		connection->is_old = true;
		if (connection->phase == UPSTREAM_PHASE_IDLE)
			upstream_connection_close(connection);
	}
}

void upstream_origin_fail(struct upstream *upstream, uint64_t origin_id, uint32_t end)
{
	struct upstream_origin *origin = map_get(&upstream->origins, origin_id);

	if (!origin)
		return;
	origin_close_idle(origin);
	LIST_EACH(&upstream->all, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, all);

		if (connection->origin == origin && connection->fetch)
			upstream_fetch_fail(connection->fetch, (enum telemetry_end)end, SPAN_NONE);
	}
	upstream_wait_fail_all(upstream, origin, (enum telemetry_end)end);
}

struct upstream_counts upstream_count(const struct upstream *upstream)
{
	return upstream->counts;
}

struct upstream_origin_counts upstream_count_origin(const struct upstream *upstream,
						    uint64_t origin_id)
{
	const struct upstream_origin *origin = map_get(&upstream->origins, origin_id);

	if (!origin)
		return (struct upstream_origin_counts){ 0 };
	return (struct upstream_origin_counts){ .open = origin->open_count,
						.idle = origin->idle_count,
						.waiting = origin->waiting_count };
}

/* ---- Connections -------------------------------------------------------------------------------------------------- */

struct upstream_connection *upstream_connection_new(struct upstream *upstream,
						    struct upstream_origin *origin)
{
	struct upstream_connection *connection = slab_alloc(&upstream->connections);

	if (!connection)
		return NULL;
	connection->upstream = upstream;
	connection->origin = origin;
	connection->fd = -1;
	connection->phase = UPSTREAM_PHASE_DIALING;
	codec_h1_client_init(&connection->client, &upstream->response_limits);
	list_push_back(&upstream->all, &connection->all);
	origin->reference_count++;
	origin->open_count++;
	upstream->counts.busy++;
	return connection;
}

static void idle_remove(struct upstream_connection *connection)
{
	list_remove(&connection->link);
	connection->origin->idle_count--;
	connection->upstream->counts.idle--;
}

void upstream_connection_close(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;

	MUST(!connection->fetch && connection->phase != UPSTREAM_PHASE_CLOSED);
	if (connection->is_asked)
		upstream->host->cancel_dial(upstream->host_data, connection->question);
	connection->is_asked = false;
	if (connection->phase == UPSTREAM_PHASE_IDLE) {
		/* So that the origin sees an end and no truncation. */
		if (connection->tls && upstream_tls_close(connection))
			upstream_queue_clear(&connection->output);
		idle_remove(connection);
	} else {
		list_remove(&connection->link);
		upstream->counts.busy--;
	}
	list_remove(&connection->own);
	upstream->counts.tls -= connection->is_tls;
	connection->origin->open_count--;
	upstream_wait_room(connection->origin, upstream);
	connection->phase = UPSTREAM_PHASE_CLOSED;
	os_timer_stop(&connection->timer);
	os_watch_remove(&connection->watch);
	os_close(TAKE_FD(connection->fd));
	list_push_back(&upstream->doomed, &connection->link);
}

static void connection_free(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	struct upstream_origin *origin = connection->origin;

	list_remove(&connection->link);
	list_remove(&connection->all);
	tls_session_free(connection->tls);
	upstream_queue_clear(&connection->input);
	upstream_queue_clear(&connection->output);
	upstream_queue_clear(&connection->sealed);
	slab_free(&upstream->connections, connection);
	origin->reference_count--;
	upstream_origin_drop_unused(upstream, origin);
}

/* ---- Idle ones ------------------------------------------------------------------------------------------------------ */

void upstream_pool_put(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	struct upstream_origin *origin = connection->origin;
	uint32_t timeout_s = connection->client.keep_alive_timeout_s;
	uint64_t idle_ms = upstream->limits.idle_ms;

	if (timeout_s > KEEP_ALIVE_MAX_S)
		timeout_s = KEEP_ALIVE_MAX_S;
	if (timeout_s)
		idle_ms = (timeout_s - KEEP_ALIVE_EARLY_S) * UINT64_C(1000);
	if (!idle_ms || origin->is_gone || connection->is_old ||
	    !upstream->limits.idle_per_origin ||
	    (connection->first_len && !list_is_linked(&connection->own))) {
		upstream_connection_close(connection);
		return;
	}
	if (origin->idle_count >= upstream->limits.idle_per_origin) {
		upstream->host->displaced(upstream->host_data);
		upstream_connection_close(
			LIST_ITEM(origin->idle.prev, struct upstream_connection, link));
	}
	list_remove(&connection->link);
	upstream_queue_clear(&connection->input);
	if (!upstream_queue_view(&connection->sealed).len)
		upstream_queue_clear(&connection->sealed);
	connection->phase = UPSTREAM_PHASE_IDLE;
	connection->idle_since_ns = upstream_now_ns(upstream);
	list_push_front(&origin->idle, &connection->link);
	origin->idle_count++;
	upstream->counts.idle++;
	upstream->counts.busy--;
	upstream_deadline_in(connection, idle_ms);
	upstream_wait_room(origin, upstream);
}

/* NULL: it turned out to be spoilt, and is closed. */
static struct upstream_connection *take(struct upstream_connection *connection)
{
	if (!upstream_is_silent(connection)) {
		upstream_connection_close(connection);
		return NULL;
	}
	idle_remove(connection);
	connection->upstream->counts.busy++;
	connection->is_reused = true;
	return connection;
}

static bool is_too_old(const struct upstream_connection *connection,
		       const struct upstream_request *request)
{
	uint64_t idle_ns = upstream_now_ns(connection->upstream) - connection->idle_since_ns;

	return !request->may_retry && idle_ns >= UNSAFE_IDLE_MAX_MS * OS_MS;
}

static bool is_alike(const struct upstream_connection *connection,
		     const struct upstream_request *request)
{
	return connection->is_tls == request->is_tls && connection->ca_id == request->ca_id;
}

/* One of the client's own that began with the same words. */
static struct upstream_connection *take_own(const struct upstream_origin *origin,
					    const struct upstream_request *request)
{
	if (!request->client)
		return NULL;
	LIST_EACH(&request->client->own, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, own);
		struct span first = span_of(connection->first, connection->first_len);

		if (connection->phase != UPSTREAM_PHASE_IDLE || connection->origin != origin ||
		    !span_equal(first, request->first) || !is_alike(connection, request) ||
		    is_too_old(connection, request))
			continue;
		connection = take(connection);
		if (connection)
			return connection;
	}
	return NULL;
}

struct upstream_connection *upstream_pool_take(struct upstream_origin *origin,
					       const struct upstream_request *request)
{
	if (request->first.len)
		return take_own(origin, request);
	LIST_EACH(&origin->idle, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, link);

		if (is_too_old(connection, request))
			return NULL;
		if (connection->first_len || !is_alike(connection, request))
			continue;
		connection = take(connection);
		if (connection)
			return connection;
	}
	return NULL;
}

void upstream_client_init(struct upstream_client *client)
{
	list_init(&client->own);
}

void upstream_client_leave(struct upstream_client *client)
{
	LIST_EACH(&client->own, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, own);

		list_remove(&connection->own);
		if (connection->phase == UPSTREAM_PHASE_IDLE)
			upstream_connection_close(connection);
	}
}

/* ---- The turn's end -------------------------------------------------------------------------------------------------- */

/* Heads that waited for a body's first bytes leave without them. */
static void send_heads(struct upstream *upstream)
{
	while (!list_is_empty(&upstream->unsent_heads)) {
		struct upstream_connection *connection =
			LIST_ITEM(upstream->unsent_heads.next, struct upstream_connection, link);
		size_t none;

		list_remove(&connection->link);
		if (connection->head_pending &&
		    upstream_request_send(connection, SPAN_NONE, false, &none))
			continue;
		/* What the origin said before it was asked was left alone until now. */
		if (upstream_is_readable(connection))
			upstream_fetch_on_readable(connection);
	}
}

void upstream_turn_end(struct upstream *upstream)
{
	upstream->is_turn_ending = true;
	upstream_wait_serve(upstream);
	send_heads(upstream);
	/* What a head could not leave on is closed again: whoever waits for that comes next turn. */
	if (!list_is_empty(&upstream->roomy))
		os_loop_wake_again(upstream->loop);
	upstream->is_turn_ending = false;
	while (!list_is_empty(&upstream->doomed))
		connection_free(LIST_ITEM(upstream->doomed.next, struct upstream_connection, link));
}

void upstream_free(struct upstream *upstream)
{
	struct upstream_origin *origin;
	size_t cursor = 0;
	uint64_t id;

	if (!upstream)
		return;
	while ((origin = map_next(&upstream->origins, &cursor, &id))) {
		upstream_wait_stop_all(origin);
		upstream_origin_drop_unused(upstream, origin);
	}
	LIST_EACH(&upstream->all, node) {
		struct upstream_connection *connection =
			LIST_ITEM(node, struct upstream_connection, all);

		if (connection->fetch)
			upstream_fetch_stop(connection->fetch);
		else if (connection->phase != UPSTREAM_PHASE_CLOSED)
			upstream_connection_close(connection);
	}
	while (!list_is_empty(&upstream->doomed))
		connection_free(LIST_ITEM(upstream->doomed.next, struct upstream_connection, link));
	map_fini(&upstream->origins);
	slab_fini(&upstream->connections);
	heap_free(upstream->wire_in);
	heap_free(upstream->wire_out);
	heap_free(upstream->scratch);
	heap_free(upstream->head);
	heap_free(upstream);
}
