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

/* Where the route's `*` begins in what came over the wire: a byte of the text is a byte or an escape there. */
static struct span behind_pattern(const struct exchange *exchange)
{
	struct span wire = exchange->request->path.wire;
	size_t at = 0;

	for (size_t i = 0; i < exchange->block->pattern.text.len; i++)
		at += wire.ptr[at] == '%' ? 3 : 1;
	return span_skip(wire, at);
}

/* 0, -ENOMEM, or HTTP_BAD: it would be no path, or lead out of where the line says that it goes. */
static int rewrite(struct exchange *exchange)
{
	const struct snapshot_block *block = exchange->block;
	struct span rest = block->rewrite_goes_on ? behind_pattern(exchange) : SPAN_NONE, raw;
	struct http_path path;
	int outcome;

	raw = arena_format(&exchange->arena, "%.*s%.*s", SPAN_ARG(block->rewrite), SPAN_ARG(rest));
	if (!raw.ptr)
		return -ENOMEM;
	outcome = http_path_normalize(&exchange->arena, raw, &path);
	if (!outcome && !span_starts_with(path.wire, block->rewrite))
		outcome = HTTP_BAD;
	if (!outcome)
		exchange->request->path = path;
	return outcome;
}

enum exchange_verdict stage_dispatch_run(struct exchange *exchange)
{
	if (!exchange->dispatched_ns) {
		exchange->dispatched_ns = exchange->edge->now_ns;
		if (exchange->block && exchange->block->rewrite.len && exchange->route) {
			int failed = rewrite(exchange);

			if (failed)
				return failed < 0
					       ? exchange_answer(exchange, 503,
								 TELEMETRY_END_NO_ROOM)
					       : exchange_answer(exchange, 404, TELEMETRY_END_OK);
		}
	}
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
	case SNAPSHOT_METRICS:
		return dispatch_metrics(exchange);
	case SNAPSHOT_READY:
		return dispatch_ready(exchange);
	case SNAPSHOT_LIVE:
		return dispatch_live(exchange);
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
