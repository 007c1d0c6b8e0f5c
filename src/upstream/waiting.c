/* Fetches that wait for a connection to their origin, in the order in which they came. They are served at the end of
 * a turn in which one of its connections was given back or closed: closing happens deep inside of other calls. */
#include "upstream/upstream_internal.h"

static void leave(struct upstream_fetch *fetch)
{
	struct upstream_origin *origin = TAKE(fetch->origin_waited_for);

	list_remove(&fetch->waiting);
	os_timer_stop(&fetch->timer);
	origin->waiting_count--;
	origin->reference_count--;
}

void upstream_wait_stop(struct upstream_fetch *fetch)
{
	struct upstream_origin *origin = fetch->origin_waited_for;

	if (!origin)
		return;
	leave(fetch);
	upstream_origin_drop_unused(fetch->upstream, origin);
}

static void wait_failed(struct upstream_fetch *fetch, enum telemetry_end end, struct span detail)
{
	upstream_wait_stop(fetch);
	fetch->failure = (struct upstream_failure){ .end = end, .detail = detail };
	fetch->state = UPSTREAM_FAILED;
	upstream_fetch_wake(fetch, true);
}

static void on_waited(struct os_timer *timer)
{
	wait_failed(CONTAINER_OF(timer, struct upstream_fetch, timer), TELEMETRY_END_QUEUE_FULL,
		    SPAN("waited"));
}

bool upstream_wait_is_due(const struct upstream_origin *origin,
			  const struct upstream_request *request)
{
	const struct upstream_fetch *first;

	if (list_is_empty(&origin->waiting))
		return false;
	/* One whose route allows more connections than that of the first does not wait for it. */
	first = LIST_ITEM(origin->waiting.next, struct upstream_fetch, waiting);
	return request->limits.connections_per_origin <=
	       first->request->limits.connections_per_origin;
}

int upstream_wait_start(struct upstream_fetch *fetch, struct upstream_origin *origin)
{
	struct upstream *upstream = fetch->upstream;
	const struct upstream_limits *limits = &fetch->request->limits;

	if (origin->waiting_count >= limits->queue_per_origin)
		return UPSTREAM_NO_ROOM;
	list_push_back(&origin->waiting, &fetch->waiting);
	origin->waiting_count++;
	origin->reference_count++;
	fetch->origin_waited_for = origin;
	fetch->was_queued = true;
	fetch->timer.on_due = on_waited;
	os_timer_set(upstream->loop, &fetch->timer,
		     upstream_now_ns(upstream) + limits->first_byte_ms * OS_MS);
	return 0;
}

void upstream_wait_room(struct upstream_origin *origin, struct upstream *upstream)
{
	if (!list_is_empty(&origin->waiting) && !list_is_linked(&origin->roomy))
		list_push_back(&upstream->roomy, &origin->roomy);
}

/* Unless there is no room for this one: routes may allow different numbers. */
static void serve(struct upstream_fetch *fetch, struct upstream_origin *origin)
{
	struct upstream_connection *connection = upstream_pool_take(origin, fetch->request);

	if (!connection &&
	    !upstream_origin_has_room(origin, fetch->request->limits.connections_per_origin))
		return;
	leave(fetch);
	if (connection) {
		upstream_fetch_attach(fetch, connection);
		upstream_connection_begin(connection);
	} else if (upstream_fetch_dial(fetch, origin)) {
		wait_failed(fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
	}
}

void upstream_wait_stop_all(struct upstream_origin *origin)
{
	LIST_EACH(&origin->waiting, node)
		leave(LIST_ITEM(node, struct upstream_fetch, waiting));
}

void upstream_wait_fail_all(struct upstream *upstream, struct upstream_origin *origin,
			    enum telemetry_end end)
{
	origin->reference_count++; /* it stands while it is walked */
	LIST_EACH(&origin->waiting, node) {
		struct upstream_fetch *fetch = LIST_ITEM(node, struct upstream_fetch, waiting);

		wait_failed(fetch, end, SPAN_NONE);
		fetch->failure.is_unsent = true;
	}
	origin->reference_count--;
	upstream_origin_drop_unused(upstream, origin);
}

void upstream_wait_serve(struct upstream *upstream)
{
	while (!list_is_empty(&upstream->roomy)) {
		struct upstream_origin *origin =
			LIST_ITEM(upstream->roomy.next, struct upstream_origin, roomy);

		list_remove(&origin->roomy);
		origin->reference_count++; /* it stands while it is walked */
		LIST_EACH(&origin->waiting, node)
			serve(LIST_ITEM(node, struct upstream_fetch, waiting), origin);
		origin->reference_count--;
		upstream_origin_drop_unused(upstream, origin);
	}
}
