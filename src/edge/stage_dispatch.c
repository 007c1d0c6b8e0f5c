/* Stage 13: who answers. redirect and respond are done here, files and proxy in files of their own. */
#include "edge/edge_internal.h"

void stage_dispatch_leave(struct exchange *exchange);

static enum exchange_verdict dispatch_redirect(struct exchange *exchange)
{
	const struct snapshot_redirect *redirect = &exchange->route->redirect;

	exchange_answer(exchange, redirect->code, TELEMETRY_END_OK);
	if (http_fields_add_id(&exchange->response.fields, HTTP_NAME_LOCATION, redirect->url))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

static enum exchange_verdict dispatch_respond(struct exchange *exchange)
{
	const struct snapshot_respond *respond = &exchange->route->respond;
	struct span seconds;

	if (respond->has_text || respond->code < 300)
		exchange_answer_text(exchange, respond->code, SPAN("text/plain; charset=utf-8"),
				     respond->text);
	else
		exchange_answer(exchange, respond->code, TELEMETRY_END_OK);
	if (!respond->retry_after_s)
		return EXCHANGE_ANSWER;
	seconds = arena_format(&exchange->arena, "%u", respond->retry_after_s);
	if (!seconds.ptr ||
	    http_fields_add_id(&exchange->response.fields, HTTP_NAME_RETRY_AFTER, seconds))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

enum exchange_verdict stage_dispatch_run(struct exchange *exchange)
{
	if (!exchange->dispatched_ns)
		exchange->dispatched_ns = exchange->edge->now_ns;
	if (exchange->request->upgrade.len &&
	    !(exchange->route && exchange->route->handler == SNAPSHOT_PROXY) && exchange->step == 0)
		exchange->codec->refuse_upgrade(exchange);
	if (!exchange->route)
		return exchange_answer(exchange, 404, TELEMETRY_END_OK);
	switch (exchange->route->handler) {
	case SNAPSHOT_REDIRECT:
		return dispatch_redirect(exchange);
	case SNAPSHOT_RESPOND:
		return dispatch_respond(exchange);
	case SNAPSHOT_FILES:
		return dispatch_files(exchange);
	case SNAPSHOT_PROXY:
		return dispatch_proxy(exchange);
	}
	return exchange_answer(exchange, 500, TELEMETRY_END_OK);
}

void stage_dispatch_leave(struct exchange *exchange)
{
	question_cancel(exchange->edge, exchange->question);
	exchange->question = 0;
	list_remove(&exchange->waiting);
	if (exchange->source != RESPONSE_FETCH)
		exchange_end_fetch(exchange);
}
