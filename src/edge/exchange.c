/* Exchanges: made at a head's first byte, freed at the end of the turn in which they were recorded. */
#include "edge/edge_internal.h"

#include <string.h>

static struct exchange *exchange_take(struct edge *edge)
{
	struct exchange *exchange = edge->spare_exchanges;

	if (exchange) {
		struct arena arena = exchange->arena;
		size_t charged = exchange->charged;

		edge->spare_exchanges = exchange->next_spare;
		edge->spare_count--;
		memset(exchange, 0, sizeof(*exchange));
		exchange->arena = arena;
		exchange->charged = charged;
		return exchange;
	}
	exchange = heap_alloc(sizeof(*exchange));
	if (exchange)
		arena_init(&exchange->arena, EDGE_EXCHANGE_ARENA);
	return exchange;
}

struct exchange *exchange_new(struct connection *connection)
{
	struct edge *edge = connection->edge;
	struct exchange *exchange = exchange_take(edge);

	if (!exchange)
		return NULL;
	exchange->edge = edge;
	edge_memory_charge(exchange);
	exchange->connection = connection;
	exchange->client = connection->peer;
	exchange->codec = connection->codec;
	exchange->snapshot = edge->current;
	exchange->snapshot->references++;
	exchange->limits = &exchange->snapshot->snapshot->limits;
	exchange->log_target = exchange->snapshot->snapshot->access_log.target;
	exchange->log_format = exchange->snapshot->snapshot->access_log.format;
	exchange->slow_ns = exchange->snapshot->snapshot->slow_ns;
	exchange->began_ns = exchange->entered_ns[EXCHANGE_STAGE_HEAD] = edge->now_ns;
	exchange->began_wall_ns = edge->wall_ns;
	exchange->end = TELEMETRY_END_OK;
	exchange->id_high = edge->request_id_high;
	exchange->id_low = edge->request_id_low++;
	edge->exchange_count++;
	edge->range->exchanges = edge->exchange_count;
	return exchange;
}

static void exchange_release(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;

	if (exchange_stages[exchange->stage].leave)
		exchange_stages[exchange->stage].leave(exchange);
	pump_close(&exchange->request_pump);
	pump_close(&exchange->response_pump);
	exchange_end_fetch(exchange);
	exchange_view_leave(exchange);
	exchange_unhold(exchange);
	question_cancel(edge, exchange->question);
	exchange->question = 0;
	files_document_unref(exchange->document);
	exchange->document = NULL;
	block_queue_clear(&exchange->piece, &edge->blocks);
	if (exchange->snapshot)
		edge_snapshot_unref(edge, TAKE(exchange->snapshot));
}

void exchange_let_go(struct exchange *exchange)
{
	struct snapshot_limits *limits = arena_new(&exchange->arena, struct snapshot_limits);
	struct span origin = SPAN_NONE, rule = arena_copy(&exchange->arena, exchange->rule);

	if (exchange->origin)
		origin = arena_copy(&exchange->arena, exchange->origin->text);
	if (!limits || (exchange->rule.len && !rule.ptr) || (exchange->origin && !origin.ptr))
		return; /* then it keeps it until its end */
	exchange->rule = rule;
	*limits = *exchange->limits;
	exchange->limits = limits;
	exchange->origin_text = origin;
	exchange->site = NULL;
	exchange->route = NULL;
	exchange->block = NULL;
	exchange->origin = NULL;
	edge_snapshot_unref(exchange->edge, TAKE(exchange->snapshot));
}

void exchange_free(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;

	exchange_release(exchange);
	os_timer_stop(&exchange->timer);
	list_remove(&exchange->waiting);
	list_remove(&exchange->ready);
	list_push_back(&edge->finished, &exchange->ready);
	edge->exchange_count--;
	edge->range->exchanges = edge->exchange_count;
}

void exchanges_free_finished(struct edge *edge)
{
	enum { SPARE_MAX = 64 };

	while (!list_is_empty(&edge->finished)) {
		struct exchange *exchange = LIST_ITEM(edge->finished.next, struct exchange, ready);

		list_remove(&exchange->ready);
		if (edge->spare_count >= SPARE_MAX) {
			edge->exchange_bytes -= exchange->charged;
			arena_fini(&exchange->arena);
			heap_free(exchange);
			continue;
		}
		arena_reset(&exchange->arena);
		edge_memory_charge(exchange);
		exchange->next_spare = edge->spare_exchanges;
		edge->spare_exchanges = exchange;
		edge->spare_count++;
	}
}

void exchange_begin(struct exchange *exchange, struct http_request *request)
{
	exchange->request = request;
	exchange->asked = request->path;
	exchange->began = true;
	exchange->stage = EXCHANGE_STAGE_HEAD;
	exchange_wake(exchange);
}

void exchange_wake(struct exchange *exchange)
{
	if (exchange->began && !exchange->is_recorded && !list_is_linked(&exchange->ready))
		list_push_back(&exchange->edge->ready, &exchange->ready);
}

void exchange_set_end(struct exchange *exchange, enum telemetry_end end, struct span detail)
{
	if (exchange->end == TELEMETRY_END_OK) {
		exchange->end = end;
		exchange->end_detail = detail;
	}
}

void exchange_refuse(struct exchange *exchange, uint16_t status, enum telemetry_end end,
		     const char *detail)
{
	exchange->began = true;
	exchange->is_last = true;
	exchange_set_end(exchange, end, span_str(detail));
	edge_memory_bound(exchange->edge, exchange);
	exchange_answer(exchange, status, end);
	edge_memory_charge(exchange);
	exchange->stage = EXCHANGE_STAGE_RULES_RESPONSE;
	exchange->entered_ns[EXCHANGE_STAGE_RULES_RESPONSE] = exchange->edge->now_ns;
	exchange_wake(exchange);
}

void exchange_interrupt(struct exchange *exchange, uint16_t status, enum telemetry_end end)
{
	exchange_set_end(exchange, end, SPAN_NONE);
	edge_memory_bound(exchange->edge, exchange);
	if (status && !exchange->head_committed && exchange->stage < EXCHANGE_STAGE_RECORD)
		exchange->interrupt = exchange_answer(exchange, status, end);
	else
		exchange->interrupt = EXCHANGE_ABORT;
	exchange_wake(exchange);
}

enum telemetry_end exchange_end_without_client(struct exchange *exchange)
{
	const char *failure = exchange->connection->tls_failure;

	if (failure)
		exchange_set_end(exchange, TELEMETRY_END_CLIENT_TLS, span_str(failure));
	return exchange->is_tunnel && !pump_is_open(&exchange->response_pump)
		       ? TELEMETRY_END_OK
		       : TELEMETRY_END_CLIENT_GONE;
}

enum exchange_verdict exchange_abort(struct exchange *exchange, enum telemetry_end end)
{
	exchange_set_end(exchange, end, SPAN_NONE);
	return EXCHANGE_ABORT;
}

/* ---- Answers of our own --------------------------------------------------------------------------------- */

/* A source that was chosen before this answer is let go of: an answer replaces the head in place. */
static void answer_reset(struct exchange *exchange, uint16_t status)
{
	exchange->response =
		(struct http_response){ .status = status, .version = 11, .has_body = true };
	http_fields_init(&exchange->response.fields, &exchange->arena);
	exchange->source = RESPONSE_NONE;
	exchange->text = SPAN_NONE;
	exchange_end_fetch(exchange);
	if (exchange->request && pump_is_open(&exchange->request_pump) &&
	    exchange->request_pump.sink == &fetch_sink)
		pump_set_sink(&exchange->request_pump, NULL, NULL);
}

enum exchange_verdict exchange_over_limit(struct exchange *exchange, enum telemetry_limit limit)
{
	uint16_t status = telemetry_limits[limit].status;

	telemetry_count_limit(exchange->edge->counters, limit);
	exchange_set_end(exchange, TELEMETRY_END_LIMIT, telemetry_limit_name(limit));
	return exchange_answer(exchange, status ? status : 503, TELEMETRY_END_LIMIT);
}

static void on_wake_due(struct os_timer *timer)
{
	struct exchange *exchange = CONTAINER_OF(timer, struct exchange, timer);

	exchange_wake(exchange);
}

void exchange_wake_at(struct exchange *exchange, uint64_t deadline_ns)
{
	exchange->timer.on_due = on_wake_due;
	os_timer_set(exchange->edge->loop, &exchange->timer, deadline_ns);
}

enum exchange_verdict exchange_answer_text(struct exchange *exchange, uint16_t status,
					   struct span media_type, struct span text)
{
	struct http_fields *fields = &exchange->response.fields;

	answer_reset(exchange, status);
	if (text.len && http_fields_add_id(fields, HTTP_NAME_CONTENT_TYPE, media_type))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	exchange->response.content_length = (int64_t)text.len;
	exchange->source = RESPONSE_TEXT;
	exchange->text = text;
	return EXCHANGE_ANSWER;
}

static const struct snapshot_error_page *page_of(const struct exchange *exchange, uint16_t status)
{
	const struct snapshot_error_page *page = NULL;

	if (exchange->block)
		page = snapshot_find_error(&exchange->block->error_pages, status);
	if (!page && exchange->site)
		page = snapshot_find_error(&exchange->site->error_pages, status);
	return page;
}

enum exchange_verdict exchange_answer_now(struct exchange *exchange, uint16_t status,
					  struct span media_type, struct span text)
{
	if (exchange_answer_text(exchange, status, media_type, text) != EXCHANGE_ANSWER ||
	    http_fields_add_id(&exchange->response.fields, HTTP_NAME_CACHE_CONTROL,
			       SPAN("no-store")))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

enum exchange_verdict exchange_answer(struct exchange *exchange, uint16_t status,
				      enum telemetry_end end)
{
	const struct snapshot_error_page *own = page_of(exchange, status);
	struct span reason = http_status_reason(status), origin = SPAN_NONE, page;

	exchange_set_end(exchange, end, SPAN_NONE);
	if (own)
		return exchange_answer_now(exchange, status, own->media_type, own->content);
	/* Whoever runs the application sees at once which of his servers it is; the text is the configuration's. */
	if (exchange->origin && (status == 502 || status == 504))
		origin = arena_format(&exchange->arena, "<p>%s: %.*s</p>\n",
				      telemetry_ends[exchange->end].word,
				      SPAN_ARG(exchange->origin->text));
	page = arena_format(&exchange->arena,
			    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>%u "
			    "%.*s</title>\n"
			    "<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh "
			    "auto;max-width:34em;padding:0 1em}"
			    "small{color:#666}</style>\n<h1>%u %.*s</h1>\n%.*s"
			    "<p><small>Request %016llx%016llx</small></p>\n",
			    status, SPAN_ARG(reason), status, SPAN_ARG(reason), SPAN_ARG(origin),
			    (unsigned long long)exchange->id_high,
			    (unsigned long long)exchange->id_low);
	return exchange_answer_now(exchange, status, SPAN("text/html; charset=utf-8"), page);
}

static int text_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct exchange *exchange = owner;

	if (!exchange->text.len)
		return PUMP_END;
	*ret_bytes = span_first(exchange->text, room);
	exchange->text = span_skip(exchange->text, ret_bytes->len);
	return 0;
}

static int discard_write(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	(void)owner;
	(void)last;
	*ret_taken = bytes.len;
	return 0;
}

const struct pump_source text_source = { .read = text_read };
const struct pump_sink discard_sink = { .write = discard_write };
