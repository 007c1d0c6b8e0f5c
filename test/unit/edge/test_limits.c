/* Limits on what a client sends: each at one below, at, and one above what its row says. Below and at it
 * passes and nothing is counted; above, the answer has the row's status, the row's counter moves by one,
 * and the log's last word names the row. (test/limits.txt says which test is whose.) */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BODY_LIMIT = 1000, BUF_SIZE = 1 << 20 };

static char request[BUF_SIZE];
static size_t request_len;

static void put(const char *format, ...) PRINTF_LIKE(1, 2);
static void put(const char *format, ...)
{
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(request + request_len, BUF_SIZE - request_len, format, arguments);
	va_end(arguments);
	request_len += (size_t)len;
	assert_true(request_len < BUF_SIZE);
}

static void put_many(char byte, size_t count)
{
	assert_true(request_len + count < BUF_SIZE);
	memset(request + request_len, byte, count);
	request_len += count;
	request[request_len] = '\0';
}

#define LINE "GET / HTTP/1.1\r\nHost: localhost\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

/* ---- Requests of a size: `amount` is what the row bounds --------------------------------------------- */

static void make_header(size_t amount)
{
	put(LINE "X: ");
	put_many('a', amount - request_len - 4);
	put("\r\n\r\n");
}

static void make_header_fields(size_t amount)
{
	put(LINE);
	for (size_t i = 1; i < amount; i++)
		put("X: 1\r\n");
	put("\r\n");
}

static void make_body(size_t amount)
{
	put("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", amount);
	put_many('b', amount);
}

static void make_chunked_body(size_t amount)
{
	put("POST /body"
	    "%s%zx\r\n",
	    CHUNKED + strlen("POST /"), amount);
	put_many('b', amount);
	put("\r\n0\r\n\r\n");
}

static void make_request_line(size_t amount)
{
	put("GET /");
	put_many('a', amount - strlen("GET / HTTP/1.1"));
	put(" HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

static void make_leading_lines(size_t amount)
{
	for (size_t i = 0; i < amount; i++)
		put("\r\n");
	put(LINE "\r\n");
}

static void put_extended_chunk(size_t extension_len)
{
	put("20;");
	put_many('a', extension_len - 1);
	put("\r\n%032d\r\n", 0);
}

static void make_chunk_extension(size_t amount)
{
	put(CHUNKED);
	put_extended_chunk(amount);
	put("0\r\n\r\n");
}

static void make_chunk_extensions(size_t amount)
{
	enum { EACH = 64 };

	put(CHUNKED);
	for (size_t left = amount; left; left -= left < 2 * EACH ? left : EACH)
		put_extended_chunk(left < 2 * EACH ? left : EACH);
	put("0\r\n\r\n");
}

static void make_trailers(size_t amount)
{
	put(CHUNKED "1\r\nx\r\n0\r\nX: ");
	put_many('t', amount - strlen("X: \r\n\r\n"));
	put("\r\n\r\n");
}

struct size_case {
	enum telemetry_limit limit;
	void (*make)(size_t amount);
	size_t value; /* 0: the row's */
	uint16_t status;
};

static const struct size_case size_cases[] = {
	{ TELEMETRY_LIMIT_HEADER, make_header, 0, 431 },
	{ TELEMETRY_LIMIT_HEADER_FIELDS, make_header_fields, 0, 431 },
	{ TELEMETRY_LIMIT_BODY, make_body, BODY_LIMIT, 413 },
	{ TELEMETRY_LIMIT_BODY, make_chunked_body, BODY_LIMIT, 413 },
	{ TELEMETRY_LIMIT_REQUEST_LINE, make_request_line, 0, 414 },
	{ TELEMETRY_LIMIT_LEADING_LINES, make_leading_lines, 0, 400 },
	{ TELEMETRY_LIMIT_CHUNK_EXTENSION, make_chunk_extension, 0, 400 },
	{ TELEMETRY_LIMIT_CHUNK_EXTENSIONS, make_chunk_extensions, 0, 400 },
	{ TELEMETRY_LIMIT_TRAILERS, make_trailers, 0, 431 },
};

static const char text[] = "site localhost default {\n limits on /body { body 1000B }\n"
			   " respond 200 \"hello\"\n}\n";

static int start(void **state)
{
	struct worker *worker = malloc(sizeof(*worker));

	worker_start(worker, text);
	*state = worker;
	return 0;
}

static int stop(void **state)
{
	struct worker *worker = *state;

	worker_turns(worker, 3);
	assert_int_equal(worker->edge->connection_count, 0);
	assert_int_equal(worker->edge->exchange_count, 0);
	worker_stop(worker);
	free(worker);
	return 0;
}

static uint64_t counted(const struct worker *worker, enum telemetry_limit limit)
{
	return worker->edge->counters->limits[limit];
}

/* Of all rows: what counts in one must not count in another. */
static uint64_t counted_all(const struct worker *worker)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++)
		sum += worker->edge->counters->limits[i];
	return sum;
}

static void check_end(struct worker *worker, const char *wanted)
{
	char *line = worker_line(worker);

	assert_non_null(line);
	if (!strstr(line, wanted))
		fail_msg("no %s in %s", wanted, line);
}

static void check_size(struct worker *worker, const struct size_case *test, int over)
{
	const struct telemetry_limit_row *row = &telemetry_limits[test->limit];
	uint64_t before = counted(worker, test->limit), all_before = counted_all(worker);
	size_t value = test->value ? test->value : (size_t)row->value, sent = 0;
	char wanted[64], end[64];
	int fd = worker_connect(worker);
	char *answer;

	request_len = 0;
	test->make(value + (size_t)over);
	/* As much as the socket takes, then a turn: some are refused before their end. */
	while (sent < request_len) {
		ssize_t put = os_write(fd, request + sent, request_len - sent);

		if (put < 0 && put != -EAGAIN)
			break;
		sent += put > 0 ? (size_t)put : 0;
		worker_turns(worker, 1);
	}
	answer = worker_talk(worker, fd, "", 0, 20);
	snprintf(wanted, sizeof(wanted), "HTTP/1.1 %d ", over > 0 ? test->status : 200);
	snprintf(end, sizeof(end), "\"end\":\"limit:%s\"", row->name);
	if (!strstr(answer, wanted))
		fail_msg("%s %+d: no %s in %.100s", row->name, over, wanted, answer);
	check_end(worker, over > 0 ? end : "\"end\":\"ok\"");
	assert_int_equal(counted(worker, test->limit) - before, over > 0);
	assert_int_equal(counted_all(worker) - all_before, over > 0);
	assert_true(over <= 0 || test->status == row->status);
	os_close(fd);
	worker_turns(worker, 3);
}

static void test_sizes(void **state)
{
	struct worker *worker = *state;

	for (size_t i = 0; i < ARRAY_LEN(size_cases); i++) {
		for (int over = -1; over <= 1; over++)
			check_size(worker, &size_cases[i], over);
	}
}

/* What a site, or a path of it, says instead of the default: narrower or wider. */
static void test_header_of_a_site(void **state)
{
	static const struct size_case cases[] = {
		{ TELEMETRY_LIMIT_HEADER, make_header, 1024, 431 },
		{ TELEMETRY_LIMIT_HEADER_FIELDS, make_header_fields, 10, 431 },
	};
	static const struct size_case wider[] = {
		{ TELEMETRY_LIMIT_HEADER, make_header, 64 << 10, 431 },
		{ TELEMETRY_LIMIT_HEADER_FIELDS, make_header_fields, 300, 431 },
	};
	struct worker *worker = *state;

	worker_reload(worker, "site localhost default {\n limits { header 1KB header-fields 10 }\n"
			      " respond 200 \"hello\" }\n"
			      "site wide.test { limits on /x { header 64KB } respond 200 \"w\" }");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int over = -1; over <= 1; over++)
			check_size(worker, &cases[i], over);
	}
	worker_reload(worker, "limits { header 64KB header-fields 300 }\n"
			      "site localhost default { respond 200 \"hello\" }");
	for (size_t i = 0; i < ARRAY_LEN(wider); i++) {
		for (int over = -1; over <= 1; over++)
			check_size(worker, &wider[i], over);
	}
}

/* A head that its limit lets in, but that no exchange has memory for. */
static void test_exchange_memory(void **state)
{
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_EXCHANGE_MEMORY);
	size_t sizes[] = { 60 << 10, 600 << 10 };

	worker_reload(worker,
		      "limits { header 1MB }\nsite localhost default { respond 200 \"h\" }");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		int fd = worker_connect(worker);
		size_t sent = 0;
		char *answer;

		request_len = 0;
		make_header(sizes[i]);
		while (sent < request_len) {
			ssize_t put = os_write(fd, request + sent, request_len - sent);

			if (put < 0 && put != -EAGAIN)
				break;
			sent += put > 0 ? (size_t)put : 0;
			worker_turns(worker, 1);
		}
		answer = worker_talk(worker, fd, "", 0, 20);
		assert_non_null(strstr(answer, i ? "HTTP/1.1 503 " : "HTTP/1.1 200 "));
		check_end(worker, i ? "limit:exchange-memory" : "\"end\":\"ok\"");
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_EXCHANGE_MEMORY) - before, i);
		os_close(fd);
		worker_turns(worker, 3);
	}
}

/* The last answer that the limit allows says that it is the last. */
static void test_requests(void **state)
{
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_REQUESTS);
	int fd;

	worker_reload(worker,
		      "limits { requests 3 }\nsite localhost default { respond 200 \"h\" }");
	fd = worker_connect(worker);
	for (int i = 1; i <= 3; i++) {
		char *answer = worker_talk(worker, fd, LINE "\r\n", strlen(LINE "\r\n"),
					   i < 3 ? 20 : SIZE_MAX);

		assert_non_null(strstr(answer, "HTTP/1.1 200 "));
		assert_int_equal(strstr(answer, "Connection: close") != NULL, i == 3);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_REQUESTS) - before, i == 3);
		check_end(worker, "\"end\":\"ok\"");
	}
	os_close(fd);
}

/* One more than there may be is closed at once; who is there stays, and an end makes room. */
static void test_connections(void **state)
{
	enum { MOST = 3 };
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_CONNECTIONS);
	int fds[MOST + 1];
	char *answer;

	worker->edge->connections_max = MOST;
	for (int i = 0; i <= MOST; i++) {
		fds[i] = worker_connect(worker);
		answer = worker_talk(worker, fds[i], LINE "\r\n", strlen(LINE "\r\n"), 20);
		assert_int_equal(strstr(answer, "HTTP/1.1 200 ") != NULL, i < MOST);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_CONNECTIONS) - before, i == MOST);
	}
	answer = worker_talk(worker, fds[0], LINE "\r\n", strlen(LINE "\r\n"), 20);
	assert_non_null(strstr(answer, "HTTP/1.1 200 "));
	os_close(fds[0]);
	worker_turns(worker, 3);
	fds[0] = worker_connect(worker);
	answer = worker_talk(worker, fds[0], LINE "\r\n", strlen(LINE "\r\n"), 20);
	assert_non_null(strstr(answer, "HTTP/1.1 200 "));
	for (int i = 0; i <= MOST; i++)
		os_close(fds[i]);
}

/* Pipelined requests are answered in order; what waits is bounded whatever a client sends. */
static void test_pipelined(void **state)
{
	enum { COUNT = 10000 };
	struct worker *worker = *state;
	size_t sent = 0, answered = 0, most = 0;
	int fd = worker_connect(worker);

	request_len = 0;
	for (int i = 0; i < COUNT; i++)
		put(LINE "\r\n");
	while (answered < COUNT) {
		ssize_t put = sent < request_len ? os_write(fd, request + sent, request_len - sent)
						 : -EAGAIN;
		char *answer, *at;

		assert_true(put > 0 || put == -EAGAIN);
		sent += put > 0 ? (size_t)put : 0;
		answer = worker_talk(worker, fd, "", 0, 1);
		for (at = answer; (at = strstr(at, "HTTP/1.1 200 ")); at++)
			answered++;
		most = worker->edge->blocks.used > most ? worker->edge->blocks.used : most;
		while (worker_line(worker))
			;
	}
	assert_int_equal(answered, COUNT);
	assert_true(most * 16384 < 256 * 1024);
	os_close(fd);
}

/* More at once than there may be: refused, before its head is looked at. */
static void test_exchanges(void **state)
{
	enum { MOST = 3 };
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_EXCHANGES);
	const char *half =
		"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf";
	int fds[MOST + 1];

	worker->edge->exchanges_max = MOST;
	for (int i = 0; i <= MOST; i++) {
		char *answer;

		fds[i] = worker_connect(worker);
		answer = worker_talk(worker, fds[i], half, strlen(half), 20);
		assert_int_equal(strstr(answer, "HTTP/1.1 503 ") != NULL, i == MOST);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_EXCHANGES) - before, i == MOST);
		assert_int_equal(worker->edge->exchange_count, i < MOST ? i + 1 : MOST);
	}
	check_end(worker, "\"end\":\"limit:exchanges\"");
	for (int i = 0; i <= MOST; i++)
		os_close(fds[i]);
}

/* Bodies that wait, all together: as many blocks as there are, and one more. */
static void test_body_memory(void **state)
{
	enum { BLOCKS = 3 };
	struct worker *worker = *state;

	worker_reload(worker, "site localhost default { proxy 127.0.0.1:81 }");
	for (int over = -1; over <= 1; over++) {
		uint64_t before = counted(worker, TELEMETRY_LIMIT_BODY_MEMORY);
		int fd = worker_connect(worker);
		char *answer;

		/* Nobody dials: the body waits. It is chunked, so that it is not gathered first. */
		worker->edge->blocks_max = BLOCKS;
		request_len = 0;
		put(CHUNKED);
		for (int left = BLOCKS * BLOCK_SIZE + over; left;
		     left -= left < 4096 ? left : 4096) {
			int size = left < 4096 ? left : 4096;

			put("%x\r\n", size);
			put_many('x', (size_t)size);
			put("\r\n");
		}
		answer = worker_talk(worker, fd, request, request_len, 20);
		assert_int_equal(strstr(answer, "HTTP/1.1 503 ") != NULL, over > 0);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_BODY_MEMORY) - before, over > 0);
		if (over > 0)
			check_end(worker, "\"end\":\"limit:body-memory\"");
		assert_int_equal(os_socket_linger_none(fd), 0);
		os_close(fd);
		worker_turns(worker, 3);
		while (worker_line(worker))
			;
		assert_int_equal(worker->edge->blocks.used, 0);
	}
}

/* As many as one turn begins, and one more: that one waits for the next turn, and is answered. */
static void test_pipelined_of_a_turn(void **state)
{
	struct worker *worker = *state;
	int value = (int)telemetry_limits[TELEMETRY_LIMIT_PIPELINED].value;

	for (int over = -1; over <= 1; over++) {
		uint64_t before = counted(worker, TELEMETRY_LIMIT_PIPELINED);
		int fd = worker_connect(worker), answered = 0;
		char *answer;

		request_len = 0;
		for (int i = 0; i < value + over; i++)
			put(LINE "\r\n");
		/* A turn's worth of waiting behind the last answer. */
		answer = worker_talk(worker, fd, request, request_len, SIZE_MAX);
		for (char *at = answer; (at = strstr(at, "HTTP/1.1 200 ")); at++)
			answered++;
		assert_int_equal(answered, value + over);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_PIPELINED) - before, over > 0);
		os_close(fd);
		worker_turns(worker, 3);
		while (worker_line(worker))
			;
	}
}

/* Answers that their client does not read: no more than the row says waits for one connection. */
static void test_response_memory(void **state)
{
	static char big[65536];
	struct worker *worker = *state;
	size_t most = 0;
	int fd;

	snprintf(big, sizeof(big), "site localhost default { respond 200 \"%060000d\" }", 0);
	worker_reload(worker, big);
	fd = worker_connect(worker);
	request_len = 0;
	for (int i = 0; i < 2000; i++)
		put(LINE "\r\n");
	assert_true(os_write(fd, request, request_len) > 0);
	for (int i = 0; i < 300; i++) {
		worker_turns(worker, 1);
		most = worker->edge->blocks.used > most ? worker->edge->blocks.used : most;
	}
	assert_true(most > 0);
	assert_true(most * 16384 <= telemetry_limits[TELEMETRY_LIMIT_RESPONSE_MEMORY].value);
	assert_int_equal(os_socket_linger_none(fd), 0);
	os_close(fd);
}

/* Of a body that nobody wants some is read; more costs the connection. */
static void test_discard(void **state)
{
	struct worker *worker = *state;
	size_t value = (size_t)telemetry_limits[TELEMETRY_LIMIT_DISCARD].value;

	worker_reload(worker, "site localhost default { respond 200 \"hello\" }");
	for (int over = -1; over <= 1; over++) {
		uint64_t before = counted(worker, TELEMETRY_LIMIT_DISCARD);
		int fd = worker_connect(worker);
		size_t head;
		char *answer;

		request_len = 0;
		make_body(10000);
		head = request_len - 10000;
		request_len = 0;
		make_body((size_t)((ssize_t)(value - head) + over));
		assert_int_equal(os_write(fd, request, request_len), (ssize_t)value + over);
		answer = worker_talk(worker, fd, "", 0, 20);
		assert_non_null(strstr(answer, "HTTP/1.1 200 "));
		assert_int_equal(strstr(answer, "Connection: close") != NULL, over > 0);
		assert_int_equal(counted(worker, TELEMETRY_LIMIT_DISCARD) - before, over > 0);
		check_end(worker, "\"end\":\"ok\"");
		assert_int_equal(os_socket_linger_none(fd), 0);
		os_close(fd);
		worker_turns(worker, 3);
	}
}

/* Nobody reads the log: lines are dropped and counted, requests are served. */
static void test_log_queue(void **state)
{
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_LOG_QUEUE);
	uint64_t room = TELEMETRY_RING_BYTES, line_len = 0;
	int fd = worker_connect(worker);

	while (counted(worker, TELEMETRY_LIMIT_LOG_QUEUE) == before) {
		uint64_t head = worker->ring->head;
		char *answer = worker_talk(worker, fd, LINE "\r\n", strlen(LINE "\r\n"), 20);

		assert_non_null(strstr(answer, "HTTP/1.1 200 "));
		line_len = worker->ring->head != head ? worker->ring->head - head : line_len;
		assert_true(worker->ring->head - worker->ring->tail <= room);
	}
	/* Not before there was none left. */
	assert_true(room - (worker->ring->head - worker->ring->tail) < line_len + 64);
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_LOG_QUEUE) - before, 1);
	assert_int_equal(worker->ring->dropped, 1);
	os_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sizes, start, stop),
		cmocka_unit_test_setup_teardown(test_header_of_a_site, start, stop),
		cmocka_unit_test_setup_teardown(test_exchange_memory, start, stop),
		cmocka_unit_test_setup_teardown(test_requests, start, stop),
		cmocka_unit_test_setup_teardown(test_connections, start, stop),
		cmocka_unit_test_setup_teardown(test_pipelined, start, stop),
		cmocka_unit_test_setup_teardown(test_pipelined_of_a_turn, start, stop),
		cmocka_unit_test_setup_teardown(test_body_memory, start, stop),
		cmocka_unit_test_setup_teardown(test_exchanges, start, stop),
		cmocka_unit_test_setup_teardown(test_response_memory, start, stop),
		cmocka_unit_test_setup_teardown(test_discard, start, stop),
		cmocka_unit_test_setup_teardown(test_log_queue, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/limits", tests, NULL, NULL);
}
