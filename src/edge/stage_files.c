/* Stage 13, files: a document from the cache, or asked of the `files` process. */
#include "edge/edge_internal.h"

#include <string.h>

enum dispatch_files_step { FILES_LOOK, FILES_ASKED };

/* ---- The question: one per document, however many exchanges wait for it -------------------------------------
 * It belongs to the document, not to the exchange that came first: that one may be answered from the old
 * bytes, or be gone, long before the answer comes. */

struct document_wanted {
	struct list link; /* of edge->documents_wanted */
	uint64_t root, question;
	struct span path; /* behind this struct */
};

static int open_ask(struct edge *edge, struct edge_question *question)
{
	const struct document_wanted *wanted = question->owner;
	struct ipc_open body = { .question = { question->index, question->serial },
				 .root = wanted->root };

	telemetry_count(edge->counters, TELEMETRY_COUNTER_DOCUMENTS_ASKED);
	return ipc_send(edge->files[question->slot], IPC_MESSAGE_open, &body, wanted->path, NULL,
			0);
}

static uint32_t open_slot(const struct edge *edge, const void *owner)
{
	return edge_root_slot(edge, ((const struct document_wanted *)owner)->root);
}

static void wanted_free(struct document_wanted *wanted)
{
	list_remove(&wanted->link);
	heap_free(wanted);
}

/* Those who wait for it look into the cache again, or hear that there will be nothing. */
static void wake_waiters(struct edge *edge, const struct document_wanted *wanted, bool is_failed)
{
	LIST_EACH(&edge->file_waiters, node) {
		struct exchange *exchange = LIST_ITEM(node, struct exchange, waiting);

		if (exchange->route->root->id != wanted->root ||
		    !span_equal(exchange->request->path.text, wanted->path))
			continue;
		list_remove(&exchange->waiting);
		exchange->is_file_failed = is_failed;
		exchange_wake(exchange);
	}
}

static void open_answer(struct edge *edge, void *owner, struct ipc_message *message)
{
	struct document_wanted *wanted = owner;
	struct files_document *document = NULL;

	if (message && message->number == IPC_MESSAGE_opened) {
		struct files_reply reply = {
			.opened = message->body,
			.tail = message->tail,
			.fd = message->descriptor_count ? TAKE_FD(message->descriptors[0]) : -1,
		};

		if (!edge_memory_has_room(edge, EDGE_MEMORY_EXCHANGE))
			files_cache_clear(edge->cache);
		document = files_cache_store(edge->cache, wanted->root, wanted->path, edge->now_ns,
					     &reply);
	}
	if (!document)
		files_cache_failed(edge->cache, wanted->root, wanted->path);
	wake_waiters(edge, wanted, !document);
	files_document_unref(document);
	wanted_free(wanted);
}

static const struct edge_question_kind open_question = { IPC_FILES, open_ask, open_answer,
							 open_slot };

static int document_ask(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	struct span path = exchange->request->path.text;
	struct document_wanted *wanted = heap_alloc(sizeof(*wanted) + path.len);

	if (!wanted)
		return -ENOMEM;
	wanted->root = exchange->route->root->id;
	memcpy(wanted + 1, path.ptr, path.len);
	wanted->path = span_of(wanted + 1, path.len);
	list_push_back(&edge->documents_wanted, &wanted->link);
	if (question_ask(edge, &open_question, wanted, &wanted->question) == 0)
		return 0;
	wanted_free(wanted);
	return -EAGAIN;
}

void documents_wanted_fini(struct edge *edge)
{
	LIST_EACH(&edge->documents_wanted, node) {
		struct document_wanted *wanted = LIST_ITEM(node, struct document_wanted, link);

		question_cancel(edge, wanted->question);
		wanted_free(wanted);
	}
}

/* ---- The answer -------------------------------------------------------------------------------------------- */

/* The texts are the document's, which the exchange holds until it is freed. */
static int add_validators(struct exchange *exchange)
{
	const struct files_document *document = exchange->document;
	struct http_fields *fields = &exchange->response.fields;

	if (http_fields_add_id(fields, HTTP_NAME_ETAG, document->validators.etag) ||
	    http_fields_add_id(fields, HTTP_NAME_LAST_MODIFIED, document->modified) ||
	    http_fields_add_id(fields, HTTP_NAME_ACCEPT_RANGES, SPAN("bytes")))
		return -ENOMEM;
	return 0;
}

static void begin_document(struct exchange *exchange, uint16_t status, uint64_t first, uint64_t len)
{
	exchange->response.status = status;
	exchange->response.content_length = (int64_t)len;
	exchange->response.has_body = true;
	exchange->source = RESPONSE_DOCUMENT;
	exchange->document_root = exchange->route->root->id;
	exchange->document_at = first;
	exchange->document_left = len;
}

static enum exchange_verdict answer_range(struct exchange *exchange)
{
	const struct files_document *document = exchange->document;
	struct http_fields *fields = &exchange->response.fields;
	uint64_t size = document->size, first = 0, len = size;
	enum http_range range =
		http_range_choose(exchange->request, &document->validators, size, &first, &len);
	struct span text;

	if (range == HTTP_RANGE_NONE) {
		begin_document(exchange, 200, 0, size);
		return EXCHANGE_ANSWER;
	}
	text = http_content_range(&exchange->arena, first, range == HTTP_RANGE_PART ? len : 0,
				  size);
	if (range == HTTP_RANGE_UNSATISFIABLE)
		exchange_answer(exchange, 416, TELEMETRY_END_OK);
	else
		begin_document(exchange, 206, first, len);
	if (!text.ptr || http_fields_add_id(fields, HTTP_NAME_CONTENT_RANGE, text))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

static enum exchange_verdict answer_document(struct exchange *exchange)
{
	const struct files_document *document = exchange->document;
	struct http_fields *fields;

	exchange_answer_text(exchange, 200, SPAN_NONE, SPAN_NONE);
	fields = &exchange->response.fields;
	if (add_validators(exchange))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	switch (http_conditions_evaluate(exchange->request, &document->validators,
					 (int64_t)(exchange->edge->wall_ns / OS_SECOND))) {
	case HTTP_NOT_MODIFIED:
		exchange->response.status = 304;
		exchange->response.has_body = false;
		exchange->response.content_length = -1;
		return EXCHANGE_ANSWER;
	case HTTP_PRECONDITION_FAILED:
		return exchange_answer(exchange, 412, TELEMETRY_END_OK);
	case HTTP_PROCEED:
		break;
	}
	if (http_fields_add_id(fields, HTTP_NAME_CONTENT_TYPE, document->media_type))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return answer_range(exchange);
}

static enum exchange_verdict answer_folder(struct exchange *exchange)
{
	const struct http_request *request = exchange->request;
	struct span location =
		arena_format(&exchange->arena, "%.*s/%s%.*s", SPAN_ARG(exchange->asked.wire),
			     request->has_query ? "?" : "", SPAN_ARG(request->query));

	exchange_answer(exchange, 308, TELEMETRY_END_OK);
	if (!location.ptr ||
	    http_fields_add_id(&exchange->response.fields, HTTP_NAME_LOCATION, location))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

static enum exchange_verdict answer_opened(struct exchange *exchange)
{
	switch (exchange->document->status) {
	case IPC_OPEN_DOCUMENT:
		return answer_document(exchange);
	case IPC_OPEN_FOLDER_WITHOUT_SLASH:
		return answer_folder(exchange);
	case IPC_OPEN_NOT_FOUND:
		return exchange_answer(exchange, 404, TELEMETRY_END_OK);
	case IPC_OPEN_FORBIDDEN:
		return exchange_answer(exchange, 403, TELEMETRY_END_OK);
	case IPC_OPEN_FAILED:
	case IPC_OPEN_DISTANT: /* the cache has made a document of it */
		break;
	}
	return exchange_answer(exchange, 500, TELEMETRY_END_FILES_FAILED);
}

static enum exchange_verdict look(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	uint64_t displaced = files_cache_displaced(edge->cache);
	bool ask = false;
	enum files_found found = files_cache_find(edge->cache, exchange->route->root->id,
						  exchange->request->path.text, edge->now_ns,
						  &exchange->document, &ask);

	if (files_cache_displaced(edge->cache) != displaced)
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_DOCUMENTS);
	if (ask && document_ask(exchange)) {
		files_cache_failed(edge->cache, exchange->route->root->id,
				   exchange->request->path.text);
		if (found == FILES_ABSENT)
			return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	}
	if (found != FILES_ABSENT) {
		telemetry_count(edge->counters, TELEMETRY_COUNTER_DOCUMENTS_CACHED);
		return answer_opened(exchange);
	}
	list_push_back(&edge->file_waiters, &exchange->waiting);
	exchange->asked_ns = edge->now_ns;
	exchange->step = FILES_ASKED;
	return EXCHANGE_WAIT;
}

enum exchange_verdict dispatch_files(struct exchange *exchange)
{
	enum http_method method = exchange->request->method;

	if (method != HTTP_GET && method != HTTP_HEAD) {
		exchange_answer(exchange, 405, TELEMETRY_END_OK);
		if (http_fields_add_id(&exchange->response.fields, HTTP_NAME_ALLOW,
				       SPAN("GET, HEAD")))
			return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
		return EXCHANGE_ANSWER;
	}
	if (exchange->request->path.other.len) /* no file's name holds a slash */
		return exchange_answer(exchange, 404, TELEMETRY_END_OK);
	switch ((enum dispatch_files_step)exchange->step) {
	case FILES_LOOK:
		return look(exchange);
	case FILES_ASKED:
		if (exchange->is_file_failed)
			return exchange_answer(exchange, 503, TELEMETRY_END_HELPER_GONE);
		return list_is_linked(&exchange->waiting) ? EXCHANGE_WAIT : look(exchange);
	}
	return exchange_answer(exchange, 500, TELEMETRY_END_INTERNAL);
}

/* ---- The body: never a cold page ----------------------------------------------------------------------------- */

static int warm_ask(struct edge *edge, struct edge_question *question)
{
	struct exchange *exchange = question->owner;
	uint64_t len = exchange->document_left < FILES_WARM_STEP ? exchange->document_left
								 : FILES_WARM_STEP;
	struct ipc_warm body = { .question = { question->index, question->serial },
				 .offset = exchange->document_at,
				 .len = len };

	telemetry_count(edge->counters, TELEMETRY_COUNTER_DOCUMENTS_COLD);
	return ipc_send(edge->files[question->slot], IPC_MESSAGE_warm, &body, SPAN_NONE,
			&exchange->document->fd, 1);
}

static uint32_t document_slot(const struct edge *edge, const void *owner)
{
	return edge_root_slot(edge, ((const struct exchange *)owner)->document_root);
}

static void warm_answer(struct edge *edge, void *owner, struct ipc_message *message)
{
	struct exchange *exchange = owner;

	(void)edge;
	exchange->question = 0;
	exchange->is_file_failed = !message;
	exchange->warm_until = exchange->document_at + (exchange->document_left < FILES_WARM_STEP
								? exchange->document_left
								: FILES_WARM_STEP);
	exchange_wake(exchange);
}

static const struct edge_question_kind warm_question = { IPC_FILES, warm_ask, warm_answer,
							 document_slot };

/* Of one that is not this machine's alone, `files` reads the bytes themselves. */
static int read_ask(struct edge *edge, struct edge_question *question)
{
	struct exchange *exchange = question->owner;
	const struct files_document *document = exchange->document;
	struct ipc_read body = { .question = { question->index, question->serial },
				 .root = exchange->document_root,
				 .offset = exchange->document_at,
				 .size = document->size,
				 .inode = document->inode,
				 .device = document->device,
				 .mtime_ns = document->mtime_ns };

	telemetry_count(edge->counters, TELEMETRY_COUNTER_DOCUMENTS_DISTANT);
	return ipc_send(edge->files[question->slot], IPC_MESSAGE_read, &body,
			exchange->request->path.text, NULL, 0);
}

static void read_answer(struct edge *edge, void *owner, struct ipc_message *message)
{
	struct exchange *exchange = owner;
	bool is_answer = message && message->number == IPC_MESSAGE_bytes;
	uint32_t status = is_answer ? ((const struct ipc_bytes *)message->body)->status : EIO;

	exchange->question = 0;
	if (status == ESTALE || (is_answer && !status && !message->tail.len))
		exchange_set_end(exchange, TELEMETRY_END_FILES_CHANGED, SPAN_NONE);
	exchange->is_file_failed = !is_answer || status || !message->tail.len ||
				   !block_queue_add(&exchange->piece, &edge->blocks, message->tail);
	exchange_wake(exchange);
}

static const struct edge_question_kind read_question = { IPC_FILES, read_ask, read_answer,
							 document_slot };

static int distant_read(struct exchange *exchange, size_t room, struct span *ret_bytes)
{
	struct edge *edge = exchange->edge;

	block_queue_consume(&exchange->piece, &edge->blocks, exchange->document_given);
	exchange->document_given = 0;
	exchange->asked_ns = edge->now_ns;
	if (!exchange->piece.len)
		return question_ask(edge, &read_question, exchange, &exchange->question)
			       ? PUMP_BROKEN
			       : PUMP_WAIT;
	*ret_bytes = span_first(block_queue_front(&exchange->piece), room);
	*ret_bytes = span_first(*ret_bytes, (size_t)exchange->document_left);
	exchange->document_given = ret_bytes->len;
	exchange->document_at += ret_bytes->len;
	exchange->document_left -= ret_bytes->len;
	return 0;
}

static int document_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct exchange *exchange = owner;
	struct edge *edge = exchange->edge;
	size_t wanted = exchange->document_left < room ? (size_t)exchange->document_left : room,
	       got = 0;
	bool is_warm = exchange->document_at < exchange->warm_until;
	int outcome;

	if (!exchange->document_left)
		return PUMP_END;
	if (exchange->question)
		return PUMP_WAIT;
	if (exchange->is_file_failed)
		return PUMP_BROKEN;
	if (exchange->document->is_distant)
		return distant_read(exchange, room, ret_bytes);
	if (exchange->document->bytes.ptr) {
		*ret_bytes = span_first(span_skip(exchange->document->bytes, exchange->document_at),
					wanted);
		got = ret_bytes->len;
		outcome = got ? 0 : FILES_SHRUNK;
	} else {
		wanted = wanted < EDGE_FILE_SIZE ? wanted : EDGE_FILE_SIZE;
		/* Not beyond what `files` has read: there it may be cold again. */
		if (is_warm && wanted > exchange->warm_until - exchange->document_at)
			wanted = exchange->warm_until - exchange->document_at;
		outcome = files_document_read(exchange->document, exchange->document_at,
					      edge->file_buffer, wanted, is_warm, &got);
		*ret_bytes = span_of(edge->file_buffer, got);
	}
	exchange->asked_ns = edge->now_ns;
	if (outcome == FILES_COLD)
		return question_ask(edge, &warm_question, exchange, &exchange->question)
			       ? PUMP_BROKEN
			       : PUMP_WAIT;
	if (outcome) {
		if (outcome == FILES_SHRUNK)
			exchange_set_end(exchange, TELEMETRY_END_FILES_CHANGED, SPAN_NONE);
		return PUMP_BROKEN;
	}
	if (is_warm && exchange->document_at + got > exchange->warm_until)
		telemetry_count(edge->counters, TELEMETRY_COUNTER_DOCUMENTS_UNASKED);
	exchange->document_at += got;
	exchange->document_left -= got;
	return 0;
}

const struct pump_source document_source = { .read = document_read };
