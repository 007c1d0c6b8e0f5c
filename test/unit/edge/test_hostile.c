/* Clients that are slow, greedy or gone, over real sockets: nothing breaks, hangs or spins. */
#include "worker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { SMALL = 4000, BIG = 40000 };

static int start(void **state)
{
	static char text[BIG + SMALL + 1024], small[SMALL + 1], big[BIG + 1];
	struct worker *worker = malloc(sizeof(*worker));

	memset(small, 's', SMALL);
	memset(big, 'b', BIG);
	snprintf(text, sizeof(text),
		 "site localhost default {\n limits { body 10KB }\n respond 200 \"%s\" on /small\n"
		 " respond 200 \"%s\" on /big\n respond 200 \"hello\"\n}\n",
		 small, big);
	worker_start(worker, text);
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

/* An answer that ends the connection while the client still sends: no reset may overtake it. */
static void test_linger(void **state)
{
	struct worker *worker = *state;
	const char *request =
		"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nabc";
	int fd = worker_connect(worker);
	char *answer;

	assert_int_equal(os_write(fd, request, strlen(request)), (ssize_t)strlen(request));
	worker_turns(worker, 5);
	os_close(fd);

	fd = worker_connect(worker);
	request = "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nabc";
	assert_int_equal(os_write(fd, request, strlen(request)), (ssize_t)strlen(request));
	worker_turns(worker, 5);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(os_write(fd, "more", 4), 4);
		worker_turns(worker, 2);
	}
	answer = worker_talk(worker, fd, "", 0, SIZE_MAX);
	assert_non_null(strstr(answer, "HTTP/1.1 413 "));
	assert_non_null(strstr(answer, "Connection: close\r\n"));
	os_close(fd);
	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, 0);
}

/* Answers that share one turn's room: what does not fit goes out all the same. */
static void test_room_of_a_turn(void **state)
{
	struct worker *worker = *state;
	static char requests[8192];

	for (int smalls = 0; smalls < 20; smalls++) {
		int fd = worker_connect(worker);
		size_t wanted = (size_t)smalls * SMALL + BIG, len = 0, body = 0;
		char *answer;

		for (int i = 0; i <= smalls; i++)
			len += (size_t)snprintf(requests + len, sizeof(requests) - len,
						"GET /%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
						i < smalls ? "small" : "big",
						i < smalls ? "" : "Connection: close\r\n");
		answer = worker_talk(worker, fd, requests, len, SIZE_MAX);
		for (char *at = answer; (at = strstr(at, "\r\n\r\n")); at += 4)
			body += strspn(at + 4, "sb");
		assert_int_equal(body, wanted);
		os_close(fd);
		worker_turns(worker, 3);
	}
}

/* No descriptor is left: the listener rests instead of spinning, and takes up work again. */
static void test_no_descriptors(void **state)
{
	struct worker *worker = *state;
	const char *request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct rlimit before, none = { 0 };
	uint64_t began_ns;
	char *answer;
	int fd;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(os_connect(&worker->address, &fd), 0);
	none.rlim_max = before.rlim_max;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	worker_turns(worker, 2);
	began_ns = os_now_ns();
	for (int i = 0; i < 50; i++)
		worker_turns(worker, 1);
	/* worker_turns waits 1 ms where nothing is ready. */
	assert_true(os_now_ns() - began_ns >= 40 * OS_MS);
	assert_int_equal(worker->edge->connection_count, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	worker_turns(worker, 200);
	answer = worker_talk(worker, fd, request, strlen(request), 20);
	assert_non_null(strstr(answer, "200 OK"));
	os_close(fd);
}

static int lowest_free(void)
{
	int fd;

	assert_int_equal(os_duplicate(0, &fd), 0);
	os_close(fd);
	return fd;
}

/* Clients that have connected and begun a request; nobody has accepted them. */
static void knock(struct worker *worker, int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		assert_int_equal(os_connect(&worker->address, &fds[i]), 0);
		assert_int_equal(os_write(fds[i], "G", 1), 1);
	}
}

/* The reserve is left alone: as many are accepted as stand below it, the others wait in the kernel. */
static void test_descriptors_reserve(void **state)
{
	enum { CLIENTS = 6, BELOW = 3 };
	struct worker *worker = *state;
	const uint64_t *counted =
		&worker->edge->counters->limits[TELEMETRY_LIMIT_DESCRIPTORS_RESERVE];
	const char *request = "ET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	int fds[CLIENTS];

	knock(worker, fds, CLIENTS);
	worker->edge->descriptors_end = lowest_free() + BELOW;
	worker_turns(worker, 20);
	assert_int_equal(worker->edge->connection_count, BELOW);
	assert_true(*counted >= 1);
	assert_true(os_timer_is_set(&worker->edge->accept_timer));
	/* One goes: its number and its client's are free, and two more come, by that event and not by time. */
	os_close(fds[0]);
	worker_turns(worker, 3);
	assert_int_equal(worker->edge->connection_count, BELOW - 1 + 2);
	/* Those who have nothing to say go for those who wait. */
	assert_non_null(strstr(worker_talk(worker, fds[1], request, strlen(request), 20), " 200 "));
	os_clock_move((int64_t)(200 * OS_MS), 0);
	worker_turns(worker, 10);
	assert_int_equal(os_read(fds[1], (char[1]){ 0 }, 1), 0);
	assert_non_null(
		strstr(worker_talk(worker, fds[CLIENTS - 1], request, strlen(request), 20), " 200 "));
	for (int i = 1; i < CLIENTS; i++)
		os_close(fds[i]);
	worker_turns(worker, 5);
	assert_int_equal(worker->edge->connection_count, 0);
}

/* A TLS listener of no configuration: one below the limit, at it, and one above: the oldest goes. */
static void test_handshakes_waiting(void **state)
{
	enum { MAX = 3 };
	struct worker *worker = *state;
	struct edge *edge = worker->edge;
	struct worker tls = *worker;
	int fds[MAX + 1], fd;
	char byte, *line;

	edge->handshakes_max = MAX;
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &tls.address));
	assert_int_equal(os_listen(&tls.address, 0, 128, &fd), 0);
	assert_int_equal(os_socket_local(fd, &tls.address), 0);
	assert_int_equal(edge_listener_add(edge, 4711, 0, fd), 0);
	for (int i = 0; i < MAX + 1; i++) {
		fds[i] = worker_connect(&tls);
		worker_turns(worker, 2);
		assert_int_equal(edge->handshake_count, i < MAX ? i + 1 : MAX);
		assert_int_equal(edge->counters->limits[TELEMETRY_LIMIT_HANDSHAKES_WAITING],
				 i == MAX);
	}
	assert_int_equal(os_read(fds[0], &byte, 1), 0);
	for (int i = 1; i < MAX + 1; i++)
		assert_int_equal(os_read(fds[i], &byte, 1), -EAGAIN);
	line = worker_line(worker);
	assert_non_null(line);
	assert_non_null(strstr(line, "limit:handshakes-waiting"));
	/* One that ends otherwise makes room as well. */
	os_close(fds[1]);
	worker_turns(worker, 3);
	assert_int_equal(edge->handshake_count, MAX - 1);
	for (int i = 2; i < MAX + 1; i++)
		os_close(fds[i]);
	os_close(fds[0]);
	worker_turns(worker, 3);
	assert_int_equal(edge->handshake_count, 0);
	assert_int_equal(edge->connection_count, 0);
}

/* A body without a length is limited like one with it. */
static void test_chunked_over_the_limit(void **state)
{
	struct worker *worker = *state;
	static char request[40000];
	size_t len = (size_t)snprintf(
		request, sizeof(request),
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n");
	int fd = worker_connect(worker);
	char *answer, *line;

	memset(request + len, 'x', 0x5000);
	len += 0x5000;
	memcpy(request + len, "\r\n0\r\n\r\n", 7);
	answer = worker_talk(worker, fd, request, len + 7, SIZE_MAX);
	assert_non_null(strstr(answer, "HTTP/1.1 413 "));
	line = worker_line(worker);
	assert_non_null(line);
	assert_non_null(strstr(line, "limit:body"));
	os_close(fd);
}

/* A byte now and then is a read, but no body. */
static void test_slow_body(void **state)
{
	struct worker *worker = *state;
	const char *request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n";
	int fd = worker_connect(worker), second;
	char *answer = NULL;

	assert_int_equal(os_write(fd, request, strlen(request)), (ssize_t)strlen(request));
	for (second = 0; second < 40; second++) {
		worker_turns(worker, 2);
		os_clock_move((int64_t)OS_SECOND, 0);
		worker_turns(worker, 2);
		if (worker->edge->exchange_count == 0)
			break;
		assert_int_equal(os_write(fd, "x", 1), 1);
	}
	assert_true(second >= 9 && second < 15);
	answer = worker_talk(worker, fd, "", 0, SIZE_MAX);
	assert_non_null(strstr(answer, "HTTP/1.1 408 "));
	os_close(fd);
	worker_turns(worker, 3);
	/* One that is fast enough has all the time it needs. */
	fd = worker_connect(worker);
	assert_int_equal(os_write(fd, request, strlen(request)), (ssize_t)strlen(request));
	for (second = 0; second < 25; second++) {
		static const char part[360];

		worker_turns(worker, 2);
		os_clock_move((int64_t)OS_SECOND, 0);
		assert_int_equal(os_write(fd, part, sizeof(part)), sizeof(part));
	}
	answer = worker_talk(worker, fd, "", 0, 20);
	assert_non_null(strstr(answer, "HTTP/1.1 200 "));
	os_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_linger, start, stop),
		cmocka_unit_test_setup_teardown(test_room_of_a_turn, start, stop),
		cmocka_unit_test_setup_teardown(test_no_descriptors, start, stop),
		cmocka_unit_test_setup_teardown(test_descriptors_reserve, start, stop),
		cmocka_unit_test_setup_teardown(test_handshakes_waiting, start, stop),
		cmocka_unit_test_setup_teardown(test_chunked_over_the_limit, start, stop),
		cmocka_unit_test_setup_teardown(test_slow_body, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/hostile", tests, NULL, NULL);
}
