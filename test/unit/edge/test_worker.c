/* edge over real sockets, plain, without helpers: what respond and redirect need. */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char site[] = "site localhost default {\n"
			   "  respond 200 \"hello\" on /hello\n"
			   "  redirect /hello 301 on /old\n"
			   "  respond 503 retry-after 10s on /down\n"
			   "  respond 204 on /empty\n"
			   "}\n";

static int start(void **state)
{
	struct worker *worker = malloc(sizeof(*worker));

	worker_start(worker, site);
	*state = worker;
	return 0;
}

static int stop(void **state)
{
	struct worker *worker = *state;

	worker_stop(worker);
	free(worker);
	return 0;
}

struct row {
	const char *request;
	const char *wanted[4]; /* all of them stand in the answer */
	bool closes;
};

static const struct row rows[] = {
	{ "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n", "\r\n\r\nhello", "Date: " } },
	{ "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n" } },
	{ "GET /old HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 301 ", "Location: /hello\r\n" } },
	{ "GET /down HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 503 ", "Retry-After: 10\r\n" } },
	{ "GET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n", { "HTTP/1.1 204 " } },
	{ "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 404 ", "<h1>404 Not Found</h1>" } },
	{ "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
	  { "HTTP/1.1 204 ", "Allow: GET, HEAD" } },
	{ "GET /hello HTTP/1.0\r\n\r\n",
	  { "HTTP/1.1 200 OK\r\n", "Connection: close\r\n", "hello" },
	  true },
	{ "GET /hello HTTP/1.1\r\n\r\n", { "HTTP/1.1 400 ", "Connection: close\r\n" }, true },
	{ "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", { "HTTP/1.1 405 " } },
	{ "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
	  { "HTTP/1.1 200 OK\r\n", "hello" } },
	{ "POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
	  "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	  { "HTTP/1.1 200 OK\r\n", "hello" } },
	{ "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: "
	  "chunked\r\n\r\n",
	  { "HTTP/1.1 400 " },
	  true },
	{ "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: "
	  "100-continue\r\n\r\n",
	  { "HTTP/1.1 200 OK\r\n", "Connection: close\r\n" },
	  true },
};

static void check_answer(const struct row *row, const char *answer)
{
	for (size_t i = 0; i < ARRAY_LEN(row->wanted) && row->wanted[i]; i++) {
		if (!strstr(answer, row->wanted[i]))
			fail_msg("%s\nlacks %s in\n%s", row->request, row->wanted[i], answer);
	}
}

static void test_rows(void **state)
{
	struct worker *worker = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		int fd = worker_connect(worker);
		char *answer = worker_talk(worker, fd, row->request, strlen(row->request),
					   row->closes ? SIZE_MAX : 20);

		check_answer(row, answer);
		if (!row->closes) {
			/* The connection goes on. */
			answer = worker_talk(worker, fd, rows[0].request, strlen(rows[0].request),
					     20);
			check_answer(&rows[0], answer);
		}
		os_close(fd);
		assert_non_null(worker_line(worker));
		worker_turns(worker, 3);
		while (worker_line(worker))
			;
	}
	assert_int_equal(worker->edge->exchange_count, 0);
	assert_int_equal(worker->edge->connection_count, 0);
	assert_int_equal(worker->edge->blocks.used, 0);
}

/* Byte by byte gives the same answer as at once. */
static void test_byte_by_byte(void **state)
{
	struct worker *worker = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		int fd = worker_connect(worker);

		for (size_t at = 0; row->request[at]; at++) {
			if (os_write(fd, row->request + at, 1) != 1)
				break; /* refused before its end */
			worker_turns(worker, 1);
		}
		check_answer(row, worker_talk(worker, fd, "", 0, row->closes ? SIZE_MAX : 20));
		os_close(fd);
		worker_turns(worker, 3);
	}
	assert_int_equal(worker->edge->connection_count, 0);
}

static void test_pipelining(void **state)
{
	struct worker *worker = *state;
	char requests[4096], *answer, *at;
	size_t len = 0;
	int fd = worker_connect(worker);

	for (int i = 0; i < 16; i++)
		len += (size_t)snprintf(requests + len, sizeof(requests) - len,
					"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
					i % 2 ? "/old" : "/hello");
	answer = at = worker_talk(worker, fd, requests, len, 16 * 100);
	for (int i = 0; i < 16; i++) {
		at = strstr(at, "HTTP/1.1 ");
		assert_non_null(at);
		assert_int_equal(strncmp(at, i % 2 ? "HTTP/1.1 301" : "HTTP/1.1 200", 12), 0);
		at++;
	}
	assert_null(strstr(at, "HTTP/1.1 "));
	(void)answer;
	os_close(fd);
}

static void test_half_closed(void **state)
{
	struct worker *worker = *state;
	int fd = worker_connect(worker);
	char *answer;

	assert_int_equal(os_write(fd, rows[0].request, strlen(rows[0].request)),
			 (ssize_t)strlen(rows[0].request));
	assert_int_equal(os_shutdown(fd, OS_HALF_WRITE), 0);
	answer = worker_talk(worker, fd, "", 0, SIZE_MAX);
	check_answer(&rows[0], answer);
	os_close(fd);
	worker_turns(worker, 3);
	assert_int_equal(worker->edge->connection_count, 0);
}

static void test_client_gone(void **state)
{
	struct worker *worker = *state;
	const char *request =
		"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc";

	for (size_t len = 1; len < strlen(request); len++) {
		int fd = worker_connect(worker);

		assert_int_equal(os_write(fd, request, len), (ssize_t)len);
		worker_turns(worker, 1);
		assert_int_equal(os_socket_linger_none(fd), 0);
		os_close(fd);
		worker_turns(worker, 3);
		assert_int_equal(worker->edge->connection_count, 0);
		assert_int_equal(worker->edge->exchange_count, 0);
	}
}

static void test_reload_and_drain(void **state)
{
	struct worker *worker = *state;
	struct row new_row = { "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
			       { "HTTP/1.1 200 OK\r\n", "again" } };
	int fd = worker_connect(worker);

	check_answer(&rows[0],
		     worker_talk(worker, fd, rows[0].request, strlen(rows[0].request), 20));
	worker_reload(worker, "site localhost default { respond 200 \"again\" }");
	assert_int_equal(worker->released, 1);
	check_answer(&new_row,
		     worker_talk(worker, fd, new_row.request, strlen(new_row.request), 20));
	edge_drain(worker->edge, os_now_ns() + OS_SECOND, true);
	worker_talk(worker, fd, "", 0, SIZE_MAX);
	assert_true(worker->is_drained);
	os_close(fd);
}

static void test_requests_of_a_connection(void **state)
{
	struct worker *worker = *state;
	int fd;

	worker_reload(worker, "limits { requests 2 }\nsite localhost default { respond 200 "
			      "\"hello\" on /hello }");
	fd = worker_connect(worker);
	check_answer(&rows[0],
		     worker_talk(worker, fd, rows[0].request, strlen(rows[0].request), 20));
	assert_non_null(
		strstr(worker_talk(worker, fd, rows[0].request, strlen(rows[0].request), SIZE_MAX),
		       "Connection: close\r\n"));
	os_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows, start, stop),
		cmocka_unit_test_setup_teardown(test_byte_by_byte, start, stop),
		cmocka_unit_test_setup_teardown(test_pipelining, start, stop),
		cmocka_unit_test_setup_teardown(test_half_closed, start, stop),
		cmocka_unit_test_setup_teardown(test_client_gone, start, stop),
		cmocka_unit_test_setup_teardown(test_reload_and_drain, start, stop),
		cmocka_unit_test_setup_teardown(test_requests_of_a_connection, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/worker", tests, NULL, NULL);
}
