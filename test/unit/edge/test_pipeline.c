/* The pipeline with a codec that is not HTTP/1: an exchange is handed over as values, its answer is collected
 * in memory. `files` is played by the test at the other end of a real channel. */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- A codec in memory ---------------------------------------------------------------------------------- */

struct answer {
	uint16_t status;
	char body[200 * 1024];
	size_t len;
	bool ended, finished, aborted;
	uint32_t trail;
	enum telemetry_end end;
	size_t room; /* of the sink, refilled by the test; SIZE_MAX: endless */
};
struct played {
	struct worker worker;
	struct answer answer;
	struct ipc_channel link, helper; /* the worker's end and ours */
	int client;
	const char *body; /* of the request */
	size_t body_len, body_at;
};

static struct played *played_of(struct exchange *exchange)
{
	return CONTAINER_OF(exchange->edge->host_data, struct played, worker);
}

static void memory_start(struct connection *connection)
{
	(void)connection;
}

static int memory_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct played *played = played_of(owner);
	size_t left = played->body_len - played->body_at;

	if (!left)
		return PUMP_END;
	*ret_bytes = span_of(played->body + played->body_at, left < room ? left : room);
	played->body_at += ret_bytes->len;
	return 0;
}

static int memory_write(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	struct answer *answer = &played_of(owner)->answer;
	size_t n = bytes.len < answer->room ? bytes.len : answer->room;

	assert_true(answer->len + n <= sizeof(answer->body));
	if (n)
		memcpy(answer->body + answer->len, bytes.ptr, n);
	answer->len += n;
	if (answer->room != SIZE_MAX)
		answer->room -= n;
	*ret_taken = n;
	if (n < bytes.len)
		return PUMP_WAIT;
	answer->ended |= last;
	return 0;
}

static int memory_interim(struct exchange *exchange, const struct http_response *response)
{
	(void)exchange;
	(void)response;
	return 0;
}

static int memory_head(struct exchange *exchange)
{
	struct answer *answer = &played_of(exchange)->answer;

	assert_int_equal(answer->status, 0); /* once */
	answer->status = exchange->response.status;
	return 0;
}

static void memory_finish(struct exchange *exchange, bool is_aborted)
{
	struct answer *answer = &played_of(exchange)->answer;

	assert_false(answer->finished);
	answer->finished = true;
	answer->aborted = is_aborted;
	answer->trail = exchange->trail;
	answer->end = exchange->end;
	exchange->connection->exchange = NULL;
	exchange_free(exchange);
}

static void memory_tunnel(struct exchange *exchange)
{
	exchange->is_tunnel = true;
}

static void memory_refuse(struct exchange *exchange)
{
	(void)exchange;
}

static const struct pump_source memory_source = { .read = memory_read };
static const struct pump_sink memory_sink = { .write = memory_write };
static const struct edge_codec memory_codec = {
	.name = "memory",
	.start = memory_start,
	.progress = memory_start,
	.request_body = &memory_source,
	.response_body = &memory_sink,
	.write_interim = memory_interim,
	.write_head = memory_head,
	.finish = memory_finish,
	.begin_tunnel = memory_tunnel,
	.refuse_upgrade = memory_refuse,
};

/* ---- Playing -------------------------------------------------------------------------------------------- */

static void on_helper_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct played *played = owner;

	if (channel == &played->link)
		edge_message(played->worker.edge, channel, message);
}

static void on_helper_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct played *played = owner;

	assert_null(why);
	if (channel == &played->link)
		edge_unlink(played->worker.edge, IPC_FILES, 0);
	ipc_channel_close(channel);
}

static const struct ipc_handlers handlers = { .on_message = on_helper_message,
					      .on_closed = on_helper_closed };

static void link_files(struct played *played)
{
	int fds[2];

	ipc_channel_close(&played->link);
	ipc_channel_close(&played->helper);
	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(
		ipc_channel_open(&played->link, played->worker.loop, fds[0], IPC_WORKER, IPC_FILES),
		0);
	ipc_channel_handle(&played->link, &handlers, played);
	assert_int_equal(ipc_channel_open(&played->helper, played->worker.loop, fds[1], IPC_FILES,
					  IPC_WORKER),
			 0);
	edge_link(played->worker.edge, IPC_FILES, &played->link);
}

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	worker_start(&played->worker, "site localhost default {\n respond 200 \"hello\" on /hello\n"
				      " files /srv/www\n}");
	played->answer.room = SIZE_MAX;
	played->client = worker_connect(&played->worker);
	*state = played;
	return 0;
}

static int stop(void **state)
{
	struct played *played = *state;

	ipc_channel_close(&played->link);
	ipc_channel_close(&played->helper);
	os_close(played->client);
	worker_turns(&played->worker, 2);
	assert_int_equal(played->worker.edge->exchange_count, 0);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

static struct exchange *begin(struct played *played, enum http_method method, const char *target)
{
	struct connection *connection =
		LIST_ITEM(played->worker.edge->connections.next, struct connection, link);
	struct http_request *request;
	struct exchange *exchange;

	connection->codec = &memory_codec;
	memset(&played->answer, 0, offsetof(struct answer, room));
	exchange = exchange_new(connection);
	assert_non_null(exchange);
	connection->exchange = exchange;
	request = arena_new(&exchange->arena, struct http_request);
	request->method = method;
	request->method_text = http_method_text(method);
	request->version = 20;
	http_fields_init(&request->fields, &exchange->arena);
	assert_int_equal(http_target_parse(&exchange->arena, span_str(target), request), 0);
	assert_int_equal(
		http_authority_parse(&exchange->arena, SPAN("localhost"), &request->authority), 0);
	request->has_body = played->body_len > 0;
	request->content_length = request->has_body ? (int64_t)played->body_len : -1;
	exchange_begin(exchange, request);
	return exchange;
}

static void turns(struct played *played)
{
	for (int i = 0; i < 3; i++) {
		worker_turns(&played->worker, 1);
		if (ipc_channel_is_open(&played->link))
			ipc_channel_flush(&played->link);
	}
}

/* The worker's question, as `files` sees it. */
static struct ipc_open take_open(struct played *played)
{
	struct ipc_message message;
	struct ipc_open open;

	assert_int_equal(ipc_wait(&played->helper, 1000, &message), 0);
	assert_int_equal(message.number, IPC_MESSAGE_open);
	open = *(const struct ipc_open *)message.body;
	ipc_message_done(&message);
	return open;
}

static void answer_open(struct played *played, struct ipc_question question, const char *body)
{
	struct ipc_opened opened = { .question = question,
				     .status = IPC_OPEN_DOCUMENT,
				     .size = strlen(body) };
	char tail[256];
	int len = snprintf(tail, sizeof(tail), "a.txt%s", body);

	opened.name_len = 5;
	assert_int_equal(ipc_send(&played->helper, IPC_MESSAGE_opened, &opened,
				  span_of(tail, (size_t)len), NULL, 0),
			 0);
	ipc_channel_flush(&played->helper);
	turns(played);
}

/* ---- Tests ------------------------------------------------------------------------------------------------ */

#define BIT(name) (1u << EXCHANGE_STAGE_##name)

static void test_trail(void **state)
{
	struct played *played = *state;

	begin(played, HTTP_GET, "/hello");
	turns(played);
	assert_true(played->answer.finished && played->answer.ended && !played->answer.aborted);
	assert_int_equal(played->answer.status, 200);
	assert_string_equal(played->answer.body, "hello");
	assert_int_equal(played->answer.trail, (1u << EXCHANGE_STAGE_COUNT) - 1);
	/* An answer before dispatch enters at the response half. */
	begin(played, HTTP_TRACE, "/hello");
	turns(played);
	assert_int_equal(played->answer.status, 405);
	assert_int_equal(played->answer.trail,
			 BIT(HEAD) | BIT(RULES_RESPONSE) | BIT(SEND) | BIT(RECORD));
}

static void test_slow_reader(void **state)
{
	struct played *played = *state;
	struct exchange *exchange;

	played->answer.room = 2;
	exchange = begin(played, HTTP_GET, "/hello");
	turns(played);
	assert_false(played->answer.finished);
	assert_int_equal(played->answer.len, 2);
	played->answer.room = SIZE_MAX;
	exchange_wake(exchange);
	turns(played);
	assert_true(played->answer.finished);
	assert_int_equal(played->answer.len, 5);
}

static void test_request_body_is_read(void **state)
{
	struct played *played = *state;
	static char body[100 * 1024];

	played->body = body;
	played->body_len = 40 * 1024;
	begin(played, HTTP_POST, "/hello");
	turns(played);
	assert_true(played->answer.finished);
	assert_int_equal(played->body_at, played->body_len);
	played->body_len = played->body_at = 0;
}

static void test_document(void **state)
{
	struct played *played = *state;
	struct ipc_open open;

	link_files(played);
	begin(played, HTTP_GET, "/a.txt");
	turns(played);
	assert_false(played->answer.finished);
	open = take_open(played);
	answer_open(played, open.question, "words");
	assert_true(played->answer.finished);
	assert_int_equal(played->answer.status, 200);
	assert_memory_equal(played->answer.body, "words", 5);
	/* The next one is served from the cache: no question. */
	begin(played, HTTP_GET, "/a.txt");
	turns(played);
	assert_true(played->answer.finished);
}

/* The client goes before the question, while it is open, and after the answer: a late answer finds nobody. */
static void test_cancelled_at_every_step(void **state)
{
	struct played *played = *state;

	link_files(played);
	for (int step = 0; step < 3; step++) {
		char target[32];
		struct exchange *exchange;
		struct ipc_open open = { .question = { 0, 0 } };

		snprintf(target, sizeof(target), "/step%d.txt", step);
		exchange = begin(played, HTTP_GET, target);
		if (step > 0) {
			turns(played);
			open = take_open(played);
		}
		if (step == 0)
			exchange_interrupt(exchange, 0, TELEMETRY_END_CLIENT_GONE);
		if (step == 2)
			played->answer.room = 1; /* stuck in the middle of its answer */
		if (step == 2)
			answer_open(played, open.question, "words");
		exchange_interrupt(exchange, 0, TELEMETRY_END_CLIENT_GONE);
		turns(played);
		assert_true(played->answer.finished && played->answer.aborted);
		assert_int_equal(played->answer.end, TELEMETRY_END_CLIENT_GONE);
		if (step == 1)
			answer_open(played, open.question, "late");
		answer_open(played, open.question, "again");
		played->answer.room = SIZE_MAX;
	}
}

/* `files` dies with the question open: it is asked again of the next one; a second death answers. */
static void test_asked_again_once(void **state)
{
	struct played *played = *state;
	struct ipc_open first, second;

	link_files(played);
	begin(played, HTTP_GET, "/b.txt");
	turns(played);
	first = take_open(played);
	link_files(played);
	turns(played);
	second = take_open(played);
	assert_int_equal(first.question.index, second.question.index);
	assert_false(played->answer.finished);
	answer_open(played, second.question, "b");
	assert_int_equal(played->answer.status, 200);

	begin(played, HTTP_GET, "/c.txt");
	turns(played);
	link_files(played);
	turns(played);
	link_files(played);
	turns(played);
	assert_true(played->answer.finished);
	assert_int_equal(played->answer.status, 503);
	assert_int_equal(played->answer.end, TELEMETRY_END_HELPER_GONE);
}

/* The one that came first goes: its question stays the document's, and who comes next is served by it. */
static void test_one_question(void **state)
{
	struct played *played = *state;
	struct exchange *asker;
	struct ipc_open open;

	link_files(played);
	asker = begin(played, HTTP_GET, "/d.txt");
	turns(played);
	exchange_interrupt(asker, 503, TELEMETRY_END_DRAIN);
	turns(played);
	assert_int_equal(played->answer.status, 503);
	begin(played, HTTP_GET, "/d.txt");
	turns(played);
	open = take_open(played);
	answer_open(played, open.question, "d");
	assert_int_equal(played->answer.status, 200);
	/* No second question was asked. */
	begin(played, HTTP_GET, "/hello");
	turns(played);
	answer_open(played, open.question, "late");
	assert_int_equal(played->worker.edge->counters->counters[TELEMETRY_COUNTER_DOCUMENTS_ASKED],
			 1);
}

/* A page is cold long after the download began: the wait for it is not the whole download's. */
static void test_cold_page_late(void **state)
{
	struct played *played = *state;
	struct ipc_opened opened = { .status = IPC_OPEN_DOCUMENT, .size = 100000, .name_len = 5 };
	struct ipc_warmed warmed;
	struct ipc_message message;
	struct exchange *exchange;
	static char bytes[100000];
	int fd;

	link_files(played);
	assert_int_equal(os_memory_new("page", sizeof(bytes), &fd), 0);
	exchange = begin(played, HTTP_GET, "/cold.txt");
	turns(played);
	opened.question = take_open(played).question;
	assert_int_equal(
		ipc_send(&played->helper, IPC_MESSAGE_opened, &opened, SPAN("a.txt"), &fd, 1), 0);
	ipc_channel_flush(&played->helper);
	exchange->dispatched_ns -= 40 * OS_SECOND;
	turns(played);
	assert_int_equal(ipc_wait(&played->helper, 1000, &message), 0);
	assert_int_equal(message.number, IPC_MESSAGE_warm);
	warmed = (struct ipc_warmed){ .question =
					      ((const struct ipc_warm *)message.body)->question };
	ipc_message_done(&message);
	turns(played);
	assert_false(played->answer.finished);
	assert_int_equal(ipc_send(&played->helper, IPC_MESSAGE_warmed, &warmed, SPAN_NONE, NULL, 0),
			 0);
	ipc_channel_flush(&played->helper);
	turns(played);
	assert_true(played->answer.finished && !played->answer.aborted);
	assert_int_equal(played->answer.len, sizeof(bytes));
	os_close(fd);
}

/* As many documents as may be kept, and one more, for which the oldest goes. */
static void test_documents(void **state)
{
	enum { MOST = 3 };
	struct played *played = *state;
	struct edge *edge = played->worker.edge;

	link_files(played);
	files_cache_free(edge->cache);
	assert_int_equal(files_cache_new(MOST, 1 << 20, &edge->cache), 0);
	for (int i = 0; i <= MOST; i++) {
		char target[32];

		snprintf(target, sizeof(target), "/many%d.txt", i);
		begin(played, HTTP_GET, target);
		turns(played);
		answer_open(played, take_open(played).question, "words");
		assert_true(played->answer.finished);
		assert_int_equal(edge->counters->limits[TELEMETRY_LIMIT_DOCUMENTS], i == MOST);
	}
}

/* What is long under way keeps no old configuration from being let go of. */
static void test_reload_under_an_answer(void **state)
{
	struct played *played = *state;
	struct exchange *exchange;
	struct ipc_open open;
	char *line;

	link_files(played);
	played->answer.room = 1;
	exchange = begin(played, HTTP_GET, "/e.txt");
	turns(played);
	open = take_open(played);
	answer_open(played, open.question, "words");
	assert_false(played->answer.finished);
	worker_reload(&played->worker, "site localhost default { respond 200 \"again\" }");
	assert_int_equal(played->worker.released, 1);
	played->answer.room = SIZE_MAX;
	exchange_wake(exchange);
	turns(played);
	assert_true(played->answer.finished && !played->answer.aborted);
	assert_int_equal(played->answer.len, 5);
	line = worker_line(&played->worker);
	assert_non_null(line);
	assert_non_null(strstr(line, "/e.txt"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_trail, start, stop),
		cmocka_unit_test_setup_teardown(test_slow_reader, start, stop),
		cmocka_unit_test_setup_teardown(test_request_body_is_read, start, stop),
		cmocka_unit_test_setup_teardown(test_document, start, stop),
		cmocka_unit_test_setup_teardown(test_documents, start, stop),
		cmocka_unit_test_setup_teardown(test_cancelled_at_every_step, start, stop),
		cmocka_unit_test_setup_teardown(test_asked_again_once, start, stop),
		cmocka_unit_test_setup_teardown(test_one_question, start, stop),
		cmocka_unit_test_setup_teardown(test_cold_page_late, start, stop),
		cmocka_unit_test_setup_teardown(test_reload_under_an_answer, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/pipeline", tests, NULL, NULL);
}
