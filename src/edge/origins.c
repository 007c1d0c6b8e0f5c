/* Origins as the worker knows them, by id, over all configurations; the groups of each configuration; and which origin
 * a request goes to. */
#include "edge/edge_internal.h"

#include <string.h>

/* ---- By id --------------------------------------------------------------------------------------------------- */

struct edge_origin *edge_origin_get(struct edge *edge, uint64_t id)
{
	struct edge_origin *origin = map_get(&edge->origins, id);

	if (origin)
		return origin;
	origin = heap_alloc(sizeof(*origin));
	if (!origin)
		return NULL;
	origin->state.id = id;
	if (map_set(&edge->origins, id, origin)) {
		heap_free(origin);
		return NULL;
	}
	return origin;
}

static struct edge_origin *origin_take(struct edge *edge, uint64_t id)
{
	struct edge_origin *origin = edge_origin_get(edge, id);

	if (origin)
		origin->references++;
	return origin;
}

static void origin_drop(struct edge *edge, struct edge_origin *origin)
{
	MUST(origin->references > 0);
	if (--origin->references || origin->state.order != BALANCE_UP)
		return;
	map_remove(&edge->origins, origin->state.id);
	heap_free(origin);
}

void edge_origins_sweep(struct edge *edge)
{
	struct edge_origin *origin;
	size_t cursor = 0;
	uint64_t id;

	while ((origin = map_next(&edge->origins, &cursor, &id))) {
		/* What the operator said holds for one that comes again, too. */
		if (origin->references || origin->state.order != BALANCE_UP)
			continue;
		map_remove(&edge->origins, id);
		heap_free(origin);
	}
}

void edge_origins_fini(struct edge *edge)
{
	struct edge_origin *origin;
	size_t cursor = 0;
	uint64_t id;

	while ((origin = map_next(&edge->origins, &cursor, &id))) {
		MUST(!origin->references);
		heap_free(origin);
	}
	map_fini(&edge->origins);
}

/* One worker tells it for all: each of them is told. */
static void tell_health(struct edge *edge, uint64_t id, bool is_down, struct span why)
{
	const struct snapshot_origin *origin =
		edge->current ? snapshot_find_origin(edge->current->snapshot, id) : NULL;
	struct telemetry_pair pairs[] = {
		{ .key = "origin", .text = origin ? origin->text : SPAN_NONE },
		{ .key = "why", .text = why },
	};

	if (edge->slot || !origin)
		return;
	edge_event(edge, is_down ? SPAN("an origin is down") : SPAN("an origin is up again"), pairs,
		   is_down ? 2 : 1);
}

void edge_health(struct edge *edge, const struct ipc_message *message)
{
	const struct ipc_health *health = message->body;
	/* The dialer may know of a configuration before this worker does. */
	struct edge_origin *origin = edge_origin_get(edge, health->origin);
	bool is_down = health->is_down;

	if (!origin || origin->state.is_down == is_down)
		return;
	balance_set_down(&origin->state, is_down, edge->now_ns);
	telemetry_count(edge->counters, is_down ? TELEMETRY_COUNTER_ORIGIN_WENT_DOWN
						: TELEMETRY_COUNTER_ORIGIN_CAME_UP);
	tell_health(edge, health->origin, is_down, message->tail);
}

/* One worker tells it for all. */
void edge_address_refused(struct edge *edge, const struct ipc_message *message)
{
	const struct ipc_address_refused *body = message->body;
	const struct snapshot_origin *origin =
		edge->current ? snapshot_find_origin(edge->current->snapshot, body->origin) : NULL;
	struct telemetry_pair pairs[] = {
		{ .key = "origin", .text = origin ? origin->text : SPAN_NONE },
		{ .key = "address", .text = message->tail },
	};

	if (!edge->slot && origin)
		edge_event(edge, SPAN("an address of an origin's name is refused: see allow-local"),
			   pairs, ARRAY_LEN(pairs));
}

void edge_addresses_cut(struct edge *edge, const struct ipc_message *message)
{
	const struct ipc_addresses_cut *body = message->body;
	const struct snapshot_origin *origin =
		edge->current ? snapshot_find_origin(edge->current->snapshot, body->origin) : NULL;
	struct telemetry_pair pairs[] = {
		{ .key = "origin", .text = origin ? origin->text : SPAN_NONE },
		{ .key = "limit", .text = telemetry_limit_name(TELEMETRY_LIMIT_DNS_ADDRESSES) },
	};

	if (!edge->slot && origin)
		edge_event(edge, SPAN("an origin's name has more addresses than are used"), pairs,
			   ARRAY_LEN(pairs));
}

void edge_origin_addresses(struct edge *edge, const struct ipc_message *message)
{
	const struct ipc_origin_addresses *body = message->body;
	struct os_address addresses[1024 / sizeof(struct ipc_origin_address)];
	size_t count = message->tail.len / sizeof(struct ipc_origin_address);

	if (count > body->count)
		count = body->count;
	for (size_t i = 0; i < count; i++) {
		struct ipc_origin_address one;

		memcpy(&one, message->tail.ptr + i * sizeof(one), sizeof(one));
		addresses[i] = (struct os_address){ .family = (uint8_t)one.family };
		memcpy(addresses[i].ip, one.address, sizeof(one.address));
	}
	upstream_origin_addresses(edge->upstream, body->origin, addresses, count);
}

/* ---- Groups -------------------------------------------------------------------------------------------------- */

/* All workers together may have so many: this one's part, and one at least. */
static uint32_t share_of(const struct edge *edge, uint32_t max)
{
	uint32_t share = max / edge->slot_count + (edge->slot < max % edge->slot_count);

	return max && !share ? 1 : share;
}

static int group_make(struct edge *edge, struct edge_snapshot *used,
		      const struct snapshot_upstream *upstream, struct balance *group)
{
	static const enum balance_method methods[] = {
		[SNAPSHOT_BALANCE_ROUND_ROBIN] = BALANCE_ROUND_ROBIN,
		[SNAPSHOT_BALANCE_LEAST_CONN] = BALANCE_LEAST_CONN,
		[SNAPSHOT_BALANCE_RANDOM] = BALANCE_RANDOM,
		[SNAPSHOT_BALANCE_IP_HASH] = BALANCE_HASH,
		[SNAPSHOT_BALANCE_HASH] = BALANCE_HASH,
	};

	*group = (struct balance){
		.method = methods[upstream->balance],
		.slow_start_ns = upstream->slow_start_ns,
		.eject_after = upstream->eject_after,
		.eject_for_ns = upstream->eject_for_ns,
		.members = arena_array(&used->arena, struct balance_member, upstream->member_count),
	};
	if (!group->members)
		return -ENOMEM;
	for (size_t i = 0; i < upstream->member_count; i++) {
		const struct snapshot_member *from = &upstream->members[i];
		struct edge_origin *origin = origin_take(edge, from->origin->id);

		if (!origin)
			return -ENOMEM;
		group->members[group->count++] = (struct balance_member){
			.origin = &origin->state,
			.weight = from->weight,
			.active_max = share_of(edge, from->max_connections),
			.is_backup = from->is_backup,
		};
	}
	return balance_init(group, &used->arena);
}

int edge_origins_stage(struct edge *edge, struct edge_snapshot *used)
{
	const struct snapshot *snapshot = used->snapshot;
	int failed = 0;

	arena_init(&used->arena, SIZE_MAX);
	used->groups = arena_array(&used->arena, struct balance, snapshot->upstream_count);
	used->stickies = arena_array(&used->arena, struct balance_sticky, snapshot->upstream_count);
	if ((!used->groups || !used->stickies) && snapshot->upstream_count)
		failed = -ENOMEM;
	if (!failed)
		failed = edge_view_stage(used);
	for (size_t i = 0; !failed && i < snapshot->upstream_count; i++) {
		used->group_count = i + 1;
		failed = group_make(edge, used, &snapshot->upstreams[i], &used->groups[i]);
		if (!failed && snapshot->upstreams[i].sticky_cookie.len)
			failed = balance_sticky_init(&used->stickies[i], &used->groups[i],
						     &used->arena);
	}
	if (failed)
		edge_origins_drop(edge, used);
	return failed;
}

void edge_origins_drop(struct edge *edge, struct edge_snapshot *used)
{
	for (size_t i = 0; i < used->group_count; i++) {
		const struct balance *group = &used->groups[i];

		for (uint32_t j = 0; j < group->count; j++)
			origin_drop(edge, CONTAINER_OF(group->members[j].origin, struct edge_origin,
						       state));
	}
	used->group_count = 0;
	arena_fini(&used->arena);
}

/* ---- A request's choice ---------------------------------------------------------------------------------------- */

uint64_t edge_random_bits(struct edge *edge)
{
	/* Which of several equal servers it is is no secret. */
	return hash_mix(edge->random += UINT64_C(0x9e3779b97f4a7c15));
}

/* The whole of an IPv4 address; of IPv6 the first half: a client has many of the second. */
static uint64_t key_of_client(const struct os_address *peer)
{
	return hash_id(span_of(peer->ip, peer->family == 4 ? 4 : 8));
}

static struct span key_text(const struct exchange *exchange,
			    const struct snapshot_upstream *upstream)
{
	const struct http_request *request = exchange->request;
	const struct http_field *field;

	switch (upstream->key) {
	case SNAPSHOT_KEY_HEADER:
		field = http_fields_find_text(&request->fields, upstream->key_name);
		return field ? field->value : SPAN_NONE;
	case SNAPSHOT_KEY_COOKIE:
		return http_cookie_find(&request->fields, upstream->key_name);
	case SNAPSHOT_KEY_PATH:
		break;
	}
	return request->path.wire;
}

static uint64_t key_of(const struct exchange *exchange, const struct snapshot_upstream *upstream)
{
	struct span text = SPAN_NONE;

	if (upstream->balance == SNAPSHOT_BALANCE_HASH)
		text = key_text(exchange, upstream);
	return text.len ? hash_id(text) : key_of_client(&exchange->client);
}

static struct balance *group_of(const struct exchange *exchange)
{
	const struct snapshot *snapshot = exchange->snapshot->snapshot;
	size_t index = (size_t)(exchange->route->proxy.upstream - snapshot->upstreams);

	return &exchange->snapshot->groups[index];
}

void exchange_end_fetch(struct exchange *exchange)
{
	if (exchange->has_fetch)
		upstream_fetch_stop(&exchange->fetch);
	exchange->has_fetch = false;
	exchange_release_origin(exchange);
}

bool exchange_choose_origin(struct exchange *exchange)
{
	const struct snapshot_upstream *upstream = exchange->route->proxy.upstream;
	struct balance *group = group_of(exchange);
	uint32_t chosen;

	exchange->choice.now_ns = exchange->edge->now_ns;
	if (!exchange->choice.tried_count)
		exchange_sticky_find(exchange);
	if (group->method == BALANCE_HASH)
		exchange->choice.key = key_of(exchange, upstream);
	else if (group->method == BALANCE_RANDOM)
		exchange->choice.random = edge_random_bits(exchange->edge);
	chosen = balance_choose(group, &exchange->choice);
	if (chosen == BALANCE_NONE)
		return false;
	exchange_release_origin(exchange);
	exchange->member = chosen;
	exchange->origin = upstream->members[chosen].origin;
	exchange->taken = CONTAINER_OF(group->members[chosen].origin, struct edge_origin, state);
	exchange->taken->references++;
	exchange->taken->state.active++;
	exchange->taken->requests++;
	return true;
}

void exchange_release_origin(struct exchange *exchange)
{
	if (!exchange->taken)
		return;
	exchange->taken->state.active--;
	origin_drop(exchange->edge, TAKE(exchange->taken));
}

/* A bucket: every proxied request adds its part of a retry, and ten may come at once. */
enum { RETRY_COST = EDGE_RETRY_BURST / 10 };

void edge_retry_earn(struct edge *edge)
{
	uint64_t part = telemetry_limits[TELEMETRY_LIMIT_RETRIES].value;

	if (edge->retry_credit < EDGE_RETRY_BURST)
		edge->retry_credit += part;
}

static bool retry_spend(struct edge *edge)
{
	if (edge->retry_credit < RETRY_COST) {
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_RETRIES);
		return false;
	}
	edge->retry_credit -= RETRY_COST;
	return true;
}

bool exchange_choose_another(struct exchange *exchange)
{
	exchange->choice.now_ns = exchange->edge->now_ns;
	return balance_has_more(group_of(exchange), &exchange->choice) &&
	       retry_spend(exchange->edge) && exchange_choose_origin(exchange);
}

const struct balance_member *exchange_member(const struct exchange *exchange)
{
	return &group_of(exchange)->members[exchange->member];
}

/* ---- What came of it -------------------------------------------------------------------------------------------- */

static void tell_ejection(struct exchange *exchange, enum telemetry_end end)
{
	const struct edge_origin *origin = exchange->taken;
	uint64_t for_ns = origin->state.ejected_until_ns - exchange->edge->now_ns;
	struct telemetry_pair pairs[] = {
		{ .key = "origin", .text = exchange->origin->text },
		{ .key = "upstream", .text = exchange->route->proxy.upstream->name },
		{ .key = "last", .text = span_str(telemetry_ends[end].word) },
		{ .key = "seconds", .number = for_ns / OS_SECOND, .is_number = true },
	};

	telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_ORIGIN_EJECTED);
	edge_event(exchange->edge,
		   SPAN("an origin failed too often and gets no requests for a while"), pairs,
		   ARRAY_LEN(pairs));
}

/* Of its making: the others say that we or the client had no room or no time. */
static bool is_its_fault(enum telemetry_end end)
{
	switch ((int)end) {
	case TELEMETRY_END_ORIGIN_REFUSED:
	case TELEMETRY_END_ORIGIN_UNREACHABLE:
	case TELEMETRY_END_ORIGIN_DNS:
	case TELEMETRY_END_ORIGIN_FORBIDDEN:
	case TELEMETRY_END_ORIGIN_TLS:
	case TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT:
	case TELEMETRY_END_ORIGIN_FIRST_BYTE_TIMEOUT:
	case TELEMETRY_END_ORIGIN_CLOSED:
	case TELEMETRY_END_ORIGIN_MALFORMED:
	case TELEMETRY_END_ORIGIN_TIMEOUT:
		return true;
	default:
		return false;
	}
}

void exchange_origin_failed(struct exchange *exchange, enum telemetry_end end)
{
	if (!is_its_fault(end))
		return;
	exchange->taken->failures++;
	if (balance_failed(group_of(exchange), exchange->member, exchange->edge->now_ns))
		tell_ejection(exchange, end);
}

void exchange_origin_answered(struct exchange *exchange)
{
	if (exchange->taken)
		balance_succeeded(&exchange->taken->state);
}
