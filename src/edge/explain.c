/* A request passes through the stages without a client: its codec is played here, and dispatch says whom it would ask. */
#include "edge/edge_internal.h"

enum { TURNS_MAX = 100 };

struct edge_explained {
	struct edge_explanation *answer;
	struct arena *arena;
	bool is_over;
};

/* ---- The stages ---------------------------------------------------------------------------------------- */

static void note(struct edge_explained *explained, const struct exchange *exchange,
		 enum exchange_verdict verdict)
{
	static const enum edge_said said[] = {
		[EXCHANGE_NEXT] = EDGE_SAID_ON,       [EXCHANGE_WAIT] = EDGE_SAID_NOTHING,
		[EXCHANGE_YIELD] = EDGE_SAID_NOTHING, [EXCHANGE_ANSWER] = EDGE_SAID_ANSWER,
		[EXCHANGE_ABORT] = EDGE_SAID_ABORT,
	};
	struct edge_explanation *answer = explained->answer;
	const char *name = exchange_stages[exchange->stage].name;

	/* One that gave its turn away comes again. */
	if (!answer->step_count || answer->steps[answer->step_count - 1].stage != name) {
		MUST(answer->step_count < EDGE_STAGES_MAX);
		answer->steps[answer->step_count++].stage = name;
	}
	answer->steps[answer->step_count - 1].said = said[verdict];
}

/* Who would have to be asked is not. */
static bool asks_somebody(const struct exchange *exchange)
{
	return exchange->route && (exchange->route->handler == SNAPSHOT_FILES ||
				   exchange->route->handler == SNAPSHOT_PROXY ||
				   exchange->route->handler == SNAPSHOT_READY);
}

static enum exchange_verdict stage_explain_run(struct exchange *exchange)
{
	struct edge_explained *explained = exchange->edge->explained;
	struct edge_explanation *answer = explained->answer;
	enum exchange_stage_index stage = exchange->stage;
	enum exchange_verdict verdict;

	if (stage == EXCHANGE_STAGE_DISPATCH && asks_somebody(exchange)) {
		answer->is_dispatched = true;
		verdict = exchange_answer_text(exchange, 200, SPAN_NONE, SPAN_NONE);
	} else {
		verdict = exchange_stages[stage].run(exchange);
	}
	note(explained, exchange, verdict);
	if (stage <= EXCHANGE_STAGE_DISPATCH) {
		answer->site = exchange->site;
		answer->route = exchange->route;
		answer->rule = exchange->rule;
		answer->client = exchange->client;
	}
	return verdict;
}

static const struct exchange_stage explain_stages[EXCHANGE_STAGE_COUNT] = {
/* Their names are those of the rows that they stand for. */
#define X(upper, lower) [EXCHANGE_STAGE_##upper] = { .run = stage_explain_run },
	EXCHANGE_STAGES(X)
#undef X
};

/* ---- Its codec ----------------------------------------------------------------------------------------- */

static void codec_start(struct connection *connection)
{
	codec_h1_server_init(&connection->h1, &connection->edge->h1_limits, connection->is_tls);
}

static void codec_progress(struct connection *connection)
{
	(void)connection;
}

static int codec_write_interim(struct exchange *exchange, const struct http_response *response)
{
	(void)exchange;
	(void)response;
	return 0;
}

static int codec_write_head(struct exchange *exchange)
{
	struct edge_explained *explained = exchange->edge->explained;
	struct edge_explanation *answer = explained->answer;
	struct span location = http_fields_value(&exchange->response.fields, HTTP_NAME_LOCATION);

	answer->status = answer->is_dispatched ? 0 : exchange->response.status;
	answer->location = arena_copy(explained->arena, location);
	return location.len && !answer->location.ptr ? -ENOMEM : 0;
}

static void codec_finish(struct exchange *exchange, bool is_aborted)
{
	struct edge_explained *explained = exchange->edge->explained;

	(void)is_aborted;
	explained->answer->end = exchange->end;
	explained->answer->end_detail = arena_copy(explained->arena, exchange->end_detail);
	explained->is_over = true;
	exchange->connection->exchange = NULL;
	exchange_free(exchange);
}

static void codec_tunnel(struct exchange *exchange)
{
	(void)exchange;
}

static int take_body(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	(void)owner;
	(void)last;
	*ret_taken = bytes.len;
	return 0;
}

static int give_body(void *owner, size_t room, struct span *ret_bytes)
{
	(void)owner;
	(void)room;
	(void)ret_bytes;
	return PUMP_END;
}

static const struct pump_source no_body = { .read = give_body };
static const struct pump_sink any_body = { .write = take_body };
static const struct edge_codec codec_explain = {
	.name = "http/1.1",
	.start = codec_start,
	.progress = codec_progress,
	.request_body = &no_body,
	.response_body = &any_body,
	.write_interim = codec_write_interim,
	.write_head = codec_write_head,
	.finish = codec_finish,
	.begin_tunnel = codec_tunnel,
	.refuse_upgrade = codec_tunnel,
};

/* ---- A connection without a socket ----------------------------------------------------------------------- */

/* What its hello would have chosen. False: nothing. */
static bool choose_site(struct connection *connection, const struct edge_request *request)
{
	const struct snapshot *snapshot = connection->edge->current->snapshot;
	struct conf_address local = { .family = request->local.family,
				      .port = request->local.port };
	const struct snapshot_site *site;

	for (size_t i = 0; i < sizeof(local.bytes); i++)
		local.bytes[i] = (uint8_t)request->local.ip[i];
	site = snapshot_site_for_hello(snapshot, request->sni, &local);
	if (!site)
		return false;
	connection->site_id = site->id;
	connection->policy_id = site->policy->id;
	if (site->certificate_count)
		connection->certificate_id = site->certificates[0]->id;
	connection_limits_set(connection, site->limits);
	return true;
}

static bool connect_to(struct connection *connection, const struct edge_request *request)
{
	const struct snapshot_listener *listener =
		snapshot_find_listener(connection->edge->current->snapshot, request->listener);

	MUST(listener);
	connection->watch.fd = -1;
	connection->codec = &codec_explain;
	connection->peer = request->client;
	connection->local = request->local;
	connection->phase = CONNECTION_OPEN;
	connection->listener_id = listener->id;
	connection->is_tls = !listener->is_plain;
	connection->is_redirecting = listener->is_plain && !listener->is_serving;
	connection->tls_port = listener->tls_port;
	connection_limits_set(connection, &connection->edge->current->snapshot->limits);
	codec_start(connection);
	return !connection->is_tls || choose_site(connection, request);
}

/* Its head is read as any other; what the codec refuses is answered as there. */
static int pass(struct connection *connection, struct span head)
{
	struct edge *edge = connection->edge;
	struct edge_explained *explained = edge->explained;
	struct codec_h1_event event;
	int outcome;

	connection->exchange = exchange_new(connection);
	if (!connection->exchange)
		return -ENOMEM;
	connection->exchange->head_bytes_in = head.len;
	outcome = codec_h1_request_next(&connection->h1, &head, 0, &connection->exchange->arena,
					&event);
	if (outcome == CODEC_H1_HEAD) {
		exchange_begin(connection->exchange, event.request);
	} else if (outcome == -ENOMEM) {
		exchange_free(connection->exchange);
		return outcome;
	} else {
		explained->answer->is_malformed = true;
		exchange_refuse(connection->exchange,
				outcome == CODEC_H1_ERROR ? codec_h1_fault_status(event.fault)
							  : 400,
				TELEMETRY_END_CLIENT_MALFORMED,
				outcome == CODEC_H1_ERROR ? codec_h1_fault_text(event.fault) : "");
	}
	/* Nothing is left that could be waited for. */
	for (int turns = 0; !explained->is_over; turns++) {
		MUST(turns < TURNS_MAX);
		edge_turn(edge);
	}
	return 0;
}

int edge_explain(struct edge *edge, const struct edge_request *request, struct arena *arena,
		 struct edge_explanation *ret_explanation)
{
	struct edge_explained explained = { .answer = ret_explanation, .arena = arena };
	struct connection *connection = slab_alloc(&edge->connection_slab);
	int failed = 0;

	*ret_explanation = (struct edge_explanation){ .client = request->client };
	if (!connection)
		return -ENOMEM;
	connection->edge = edge;
	edge->explained = &explained;
	edge->stages = explain_stages;
	if (connect_to(connection, request))
		failed = pass(connection, request->head);
	else
		ret_explanation->is_refused = true;
	edge_turn(edge);
	os_timer_stop(&connection->timer);
	slab_free(&edge->connection_slab, connection);
	edge->stages = exchange_stages;
	edge->explained = NULL;
	return failed;
}
