/* The worker's budget of memory (limit `worker-memory`): who is served, who goes and who is refused below its marks,
 * at them and above, and that no flood makes it more than it may be. */
#include "worker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GET "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

enum { BUDGET = 4 << 20 };

static int start(void **state)
{
	struct worker *worker = malloc(sizeof(*worker));

	worker_start(worker, "limits { worker-memory 4MB header 128KB }\nsite localhost default {\n"
			     " proxy 127.0.0.1:81 on /p/*\n respond 200 \"hello\"\n}\n");
	assert_int_equal(worker->edge->memory_max, BUDGET);
	*state = worker;
	return 0;
}

static int stop(void **state)
{
	struct worker *worker = *state;

	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, 0);
	assert_int_equal(worker->edge->exchange_count, 0);
	assert_int_equal(worker->edge->tls_count, 0);
	worker_stop(worker);
	free(worker);
	return 0;
}

static uint64_t counted(const struct worker *worker)
{
	return worker->edge->counters->limits[TELEMETRY_LIMIT_WORKER_MEMORY];
}

/* As though so much more were in use. */
static void pad_to(struct worker *worker, uint64_t used)
{
	worker->edge->exchange_bytes += used - edge_memory_used(worker->edge);
}

static void unpad(struct worker *worker, uint64_t exchange_bytes)
{
	worker->edge->exchange_bytes = exchange_bytes;
}

static void say(int fd, const char *words)
{
	assert_int_equal(os_write_all(fd, words, strlen(words)), 0);
}

static void expect_end(struct worker *worker, const char *wanted)
{
	const char *line = worker_line(worker);

	assert_non_null(line);
	if (!strstr(line, wanted))
		fail_msg("no %s in %s", wanted, line);
}

/* A request on a connection that stands: refused from 15/16 on. */
static void test_new_exchanges(void **state)
{
	struct worker *worker = *state;

	for (int over = -1; over <= 1; over++) {
		int fd = worker_connect(worker);
		uint64_t before, bytes;
		const char *answer;

		/* The one before leaves its exchange behind: the next takes no more. */
		assert_non_null(strstr(worker_talk(worker, fd, GET, strlen(GET), 20), " 200 "));
		expect_end(worker, "\"end\":\"ok\"");
		before = counted(worker);
		bytes = worker->edge->exchange_bytes;
		say(fd, GET);
		pad_to(worker, (uint64_t)(BUDGET - BUDGET / 16 + over));
		answer = worker_talk(worker, fd, "", 0, 20);
		assert_int_equal(strstr(answer, "HTTP/1.1 503 ") != NULL, over >= 0);
		assert_int_equal(strstr(answer, "HTTP/1.1 200 ") != NULL, over < 0);
		expect_end(worker,
			   over >= 0 ? "\"end\":\"limit:worker-memory\"" : "\"end\":\"ok\"");
		/* And once more for the rest of accepting. */
		assert_int_equal(counted(worker) - before, 1 + (over >= 0));
		unpad(worker, bytes);
		os_close(fd);
		worker_turns(worker, 5);
		assert_false(worker->edge->is_short);
	}
}

/* Where somebody else can go, a request waits for that instead of being refused: here heads that do not end. */
static void test_requests_before_half_heads(void **state)
{
	enum { COUNT = 5 };
	static const char half[] = "GET / HTTP/1.1\r\nHost: localhost\r\n";
	struct worker *worker = *state;
	int fds[COUNT], fd = worker_connect(worker);
	uint64_t before, bytes;
	const char *answer;

	assert_non_null(strstr(worker_talk(worker, fd, GET, strlen(GET), 20), " 200 "));
	expect_end(worker, "\"end\":\"ok\"");
	for (int i = 0; i < COUNT; i++) {
		fds[i] = worker_connect(worker);
		say(fds[i], half);
	}
	worker_turns(worker, 3);
	assert_int_equal(worker->edge->exchange_count, COUNT);
	before = counted(worker);
	bytes = worker->edge->exchange_bytes;
	pad_to(worker, BUDGET - BUDGET / 16 + 1);
	say(fd, GET);
	worker_turns(worker, 2);
	assert_null(strstr(worker_talk(worker, fd, "", 0, 0), "503"));
	unpad(worker, bytes);
	answer = worker_talk(worker, fd, "", 0, 20);
	if (!strstr(answer, "HTTP/1.1 200 "))
		fail_msg("%s", answer);
	assert_true(counted(worker) > before);
	assert_true(worker->edge->exchange_count < COUNT);
	os_close(fd);
	for (int i = 0; i < COUNT; i++)
		os_close(fds[i]);
	worker_turns(worker, 5);
	while (worker_line(worker))
		;
}

/* Somebody new: accepted while what he may cost stays below 7/8; else he waits, and is accepted once there is room. */
static void test_new_connections(void **state)
{
	struct worker *worker = *state;
	uint64_t mark = BUDGET - BUDGET / 8, low = 0, high = mark, bytes;

	worker_turns(worker, 2);
	bytes = worker->edge->exchange_bytes;
	/* Where the edge of it is: one byte more and there is no room. */
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		pad_to(worker, middle);
		if (edge_memory_has_room(worker->edge, EDGE_MEMORY_CONNECTION))
			low = middle;
		else
			high = middle;
	}
	assert_true(mark - high >= sizeof(struct connection) && mark - high < 128 * 1024);
	for (int over = -1; over <= 1; over++) {
		uint64_t accepted = worker->edge->counters->counters[TELEMETRY_COUNTER_CONNECTIONS];
		int fd;

		pad_to(worker, (uint64_t)((int64_t)high + over));
		assert_int_equal(os_connect(&worker->address, &fd), 0);
		worker_turns(worker, 5);
		accepted =
			worker->edge->counters->counters[TELEMETRY_COUNTER_CONNECTIONS] - accepted;
		assert_int_equal(accepted, over < 0);
		assert_true(worker->edge->is_short);
		unpad(worker, bytes);
		worker_turns(worker, 3);
		assert_false(worker->edge->is_short);
		os_clock_move((int64_t)(200 * OS_MS), 0);
		worker_turns(worker, 3);
		assert_non_null(strstr(worker_talk(worker, fd, GET, strlen(GET), 20), " 200 "));
		os_close(fd);
		worker_turns(worker, 5);
	}
}

/* Those who are idle go, the oldest first, as many as a turn sheds. */
static void test_idle_ones(void **state)
{
	enum { COUNT = EDGE_SHED_MAX + 2 };
	struct worker *worker = *state;
	int fds[COUNT];
	uint64_t bytes;
	char byte;

	for (int i = 0; i < COUNT; i++)
		fds[i] = worker_connect(worker);
	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, COUNT);
	bytes = worker->edge->exchange_bytes;
	pad_to(worker, BUDGET - BUDGET / 8);
	worker_turns(worker, 1);
	/* Nobody yet: they have only just come. */
	unpad(worker, bytes);
	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, COUNT);
	os_clock_move((int64_t)(2 * OS_SECOND), 0);
	pad_to(worker, BUDGET - BUDGET / 8);
	worker_turns(worker, 1);
	unpad(worker, bytes);
	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, COUNT - EDGE_SHED_MAX);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(os_read(fds[i], &byte, 1), i < EDGE_SHED_MAX ? 0 : -EAGAIN);
		os_close(fds[i]);
	}
}

static void check_used(const struct worker *worker)
{
	uint64_t used = edge_memory_used(worker->edge);

	if (used > BUDGET)
		fail_msg("%llu bytes: %u blocks of %zu used, %u kept, %llu of %u exchanges, %u "
			 "spare, %u connections",
			 (unsigned long long)used, worker->edge->blocks.used, sizeof(struct block),
			 worker->edge->blocks.kept,
			 (unsigned long long)worker->edge->exchange_bytes,
			 worker->edge->exchange_count, worker->edge->spare_count,
			 worker->edge->connection_count);
}

/* Bodies that nobody takes: they get their part, and who asks for little is served all the while. */
static void test_flood_of_bodies(void **state)
{
	enum { COUNT = 150 };
	static const char head[] = "POST /p/ HTTP/1.1\r\nHost: localhost\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n10000\r\n";
	struct worker *worker = *state;
	static char body[0x10000];
	uint32_t most = 0;
	int fds[COUNT];

	for (int i = 0; i < COUNT; i++) {
		int fd;

		fds[i] = worker_connect(worker);
		say(fds[i], head);
		(void)!os_write(fds[i], body, sizeof(body));
		worker_turns(worker, 2);
		check_used(worker);
		most = worker->edge->blocks.used > most ? worker->edge->blocks.used : most;
		fd = worker_connect(worker);
		assert_non_null(strstr(worker_talk(worker, fd, GET, strlen(GET), 20), " 200 "));
		os_close(fd);
		worker_turns(worker, 2);
		while (worker_line(worker))
			;
	}
	/* Not for lack of trying. */
	assert_true(most * sizeof(struct block) > BUDGET / 4);
	assert_true(most * sizeof(struct block) <= BUDGET / 2);
	assert_true(worker->edge->counters->limits[TELEMETRY_LIMIT_BODY_MEMORY] > 0);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(os_socket_linger_none(fds[i]), 0);
		os_close(fds[i]);
	}
}

/* Heads that do not end: each small enough, all together more than there is. */
static void test_flood_of_heads(void **state)
{
	enum { COUNT = 100, SIZE = 50 * 1024 };
	struct worker *worker = *state;
	static char head[SIZE];
	uint64_t before = counted(worker), most = 0;
	size_t at = (size_t)snprintf(head, SIZE, "GET / HTTP/1.1\r\nHost: localhost\r\n");
	int fds[COUNT];

	while (at < SIZE - 10240)
		at += (size_t)snprintf(head + at, SIZE - at, "X: %09980d\r\n", 0);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(os_connect(&worker->address, &fds[i]), 0);
		for (size_t sent = 0, tries = 0; sent < at && tries < 10; tries++) {
			ssize_t n = os_write(fds[i], head + sent, at - sent);

			worker_turns(worker, 1);
			check_used(worker);
			if (n < 0 && n != -EAGAIN)
				break;
			sent += n > 0 ? (size_t)n : 0;
		}
		most = edge_memory_used(worker->edge) > most ? edge_memory_used(worker->edge)
							     : most;
	}
	worker_turns(worker, 10);
	check_used(worker);
	assert_true(most > BUDGET / 2);
	assert_true(counted(worker) > before);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(os_socket_linger_none(fds[i]), 0);
		os_close(fds[i]);
	}
	worker_turns(worker, 10);
	/* And it is over: somebody new is served. */
	fds[0] = worker_connect(worker);
	assert_non_null(strstr(worker_talk(worker, fds[0], GET, strlen(GET), 20), " 200 "));
	os_close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_exchanges, start, stop),
		cmocka_unit_test_setup_teardown(test_requests_before_half_heads, start, stop),
		cmocka_unit_test_setup_teardown(test_new_connections, start, stop),
		cmocka_unit_test_setup_teardown(test_idle_ones, start, stop),
		cmocka_unit_test_setup_teardown(test_flood_of_bodies, start, stop),
		cmocka_unit_test_setup_teardown(test_flood_of_heads, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/memory", tests, NULL, NULL);
}
