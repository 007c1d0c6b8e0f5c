#include "world.h"

#include <stdlib.h>
#include <string.h>

static struct world world;

static int setup(void **state)
{
	(void)state;
	world_init(&world);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_fini(&world);
	return 0;
}

/* ---- What origins answer ------------------------------------------------------------------------------------- */

struct answer_case {
	const char *name, *method, *text;
	bool closes; /* behind the text */
	enum upstream_state state;
	uint16_t status;  /* 0: none */
	const char *body; /* what the owner got */
	bool is_pooled;
	enum telemetry_end end;
	const char *detail;
	unsigned interims;
};

#define OK "HTTP/1.1 200 OK\r\n"
#define WHOLE(body_, pooled_) \
	.state = UPSTREAM_DONE, .status = 200, .body = body_, .is_pooled = pooled_
#define BAD(end_, detail_) \
	.state = UPSTREAM_FAILED, .end = TELEMETRY_END_ORIGIN_##end_, .detail = detail_

static const struct answer_case answer_cases[] = {
	{ "length", "GET", OK "Content-Length: 5\r\n\r\nhello", WHOLE("hello", true) },
	{ "length 0", "GET", OK "Content-Length: 0\r\n\r\n", WHOLE("", true) },
	{ "chunked", "GET",
	  OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nT: x\r\n\r\n",
	  WHOLE("hello!", true) },
	{ "chunked, empty", "GET", OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	  WHOLE("", true) },
	{ "by close", "GET", OK "\r\nhello", .closes = true, WHOLE("hello", false) },
	{ "by close, empty", "GET", OK "\r\n", .closes = true, WHOLE("", false) },
	{ "1.0, by close", "GET", "HTTP/1.0 200 OK\r\n\r\nhello", .closes = true,
	  WHOLE("hello", false) },
	{ "1.0, length", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	  WHOLE("hi", false) },
	{ "1.0, keep-alive", "GET",
	  "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
	  WHOLE("hi", true) },
	{ "says close", "GET", OK "Connection: close\r\nContent-Length: 2\r\n\r\nhi",
	  WHOLE("hi", false) },
	{ "HEAD", "HEAD", OK "Content-Length: 500\r\n\r\n", WHOLE("", false) },
	{ "204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", .state = UPSTREAM_DONE, .status = 204,
	  .body = "", .is_pooled = true },
	{ "304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
	  .state = UPSTREAM_DONE, .status = 304, .body = "", .is_pooled = false },
	{ "103", "GET",
	  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK "Content-Length: 2\r\n\r\nhi",
	  WHOLE("hi", true), .interims = 1 },
	{ "100 unasked", "GET", "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nhi",
	  WHOLE("hi", true) },
	{ "stray bytes", "GET", OK "Content-Length: 2\r\n\r\nhi?", WHOLE("hi", false) },
	{ "stray response", "GET", OK "Content-Length: 0\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
	  WHOLE("", false) },
	{ "Keep-Alive too short", "GET", OK "Keep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi",
	  WHOLE("hi", false) },
	{ "nothing", "GET", "", .closes = true, BAD(CLOSED, "") },
	{ "half a head", "GET", "HTTP/1.1 200 O", .closes = true, BAD(CLOSED, "") },
	{ "interim and no more", "GET", "HTTP/1.1 103 Early Hints\r\n\r\n", .closes = true,
	  BAD(CLOSED, ""), .interims = 1 },
	{ "no HTTP", "GET", "SSH-2.0-OpenSSH_9.2\r\n", BAD(MALFORMED, "bad-status-line") },
	{ "length twice", "GET", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
	  BAD(MALFORMED, "content-length-twice") },
	{ "length and chunked", "GET", OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
	  BAD(MALFORMED, "length-and-transfer-coding") },
	{ "101 unasked", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	  BAD(MALFORMED, "unasked-101") },
	{ "short of its length", "GET", OK "Content-Length: 5\r\n\r\nhel", .closes = true,
	  .status = 200, BAD(TRUNCATED, ""), .body = "hel" },
	{ "short of its last chunk", "GET", OK "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
	  .closes = true, .status = 200, BAD(TRUNCATED, ""), .body = "hel" },
	{ "bad chunk", "GET", OK "Transfer-Encoding: chunked\r\n\r\nx\r\n", .status = 200,
	  BAD(MALFORMED, "bad-chunk-size"), .body = "" },
};

enum { AT_ONCE, BYTE_BY_BYTE, SMALL_ROOM, WAY_COUNT };

static void run_answer(const struct answer_case *test, int way)
{
	struct owner *owner = owner_new(&world, test->method, "/a?b");
	struct upstream_counts counts;
	int fd;

	owner->room = way == SMALL_ROOM ? 2 : 0;
	assert_int_equal(owner_start(owner), 0);
	assert_int_equal(owner->fetch.state, UPSTREAM_WORKING);
	fd = origin_accept(&world);
	assert_non_null(strstr(origin_heard(fd), "/a?b HTTP/1.1\r\nHost: origin.example\r\n"));
	for (const char *at = test->text; *at; at++) {
		if (way != BYTE_BY_BYTE) {
			origin_says(fd, at);
			break;
		}
		/* Once it has let go of the connection the origin speaks into the void. */
		if (owner->fetch.state == UPSTREAM_DONE || owner->fetch.state == UPSTREAM_FAILED)
			break;
		assert_int_equal(os_write(fd, at, 1), 1);
		world_turns(&world, 2);
	}
	if (test->closes)
		origin_closes(&world.far);
	world_turns(&world, 3);
	assert_int_equal(owner->fetch.state, test->state);
	assert_int_equal(owner->interims, test->interims);
	if (test->status) {
		assert_int_equal(owner->fetch.response.status, test->status);
		assert_string_equal(owner->body, test->body);
		assert_int_equal(owner->fetch.received, strlen(test->body));
		assert_true(owner->fetch.first_byte_ns > 0);
	}
	assert_int_equal(owner->fetch.connect_us, 17);
	if (test->state == UPSTREAM_FAILED) {
		assert_int_equal(owner->fetch.failure.end, test->end);
		assert_true(span_equal(owner->fetch.failure.detail, span_str(test->detail)));
		assert_int_equal(owner->fetch.failure.after_head, test->status != 0);
	} else {
		assert_int_equal(owner->outcome, UPSTREAM_END);
	}
	world_turns(&world, 1);
	counts = upstream_count(world.upstream);
	assert_int_equal(counts.busy, 0);
	if (way != BYTE_BY_BYTE || !strstr(test->name, "stray"))
		assert_int_equal(counts.idle, test->is_pooled);
	owner_free(owner);
	upstream_close_idle(world.upstream);
	world_turns(&world, 1);
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answer_cases); i++)
		for (int way = 0; way < WAY_COUNT; way++) {
			if (way == 0)
				print_message("  %s\n", answer_cases[i].name);
			run_answer(&answer_cases[i], way);
		}
}

/* ---- What is sent ---------------------------------------------------------------------------------------------- */

static void test_head_and_body_leave_together(void **state)
{
	struct owner *owner = owner_new(&world, "POST", "/p");
	size_t taken;
	int fd;

	(void)state;
	owner->request.has_body = true;
	owner->request.content_length = 5;
	assert_int_equal(owner_start(owner), 0);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("hello"), false, &taken),
			 UPSTREAM_MORE);
	assert_int_equal(taken, 0);
	fd = origin_accept(&world);
	assert_int_equal(owner->wakes, 1);
	/* Nobody wrote in that turn, so the head went alone. */
	assert_string_equal(
		origin_heard(fd),
		"POST /p HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 5\r\n\r\n");
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("hello"), false, &taken), 0);
	assert_int_equal(taken, 5);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN_NONE, true, &taken), 0);
	assert_string_equal(origin_heard(fd), "hello");
	assert_int_equal(owner->fetch.sent, 5);
	origin_says(fd, OK "Content-Length: 0\r\n\r\n");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);

	/* On a connection that stands already both are one piece. */
	owner->request.content_length = -1;
	assert_int_equal(owner_start(owner), 0);
	assert_true(owner->fetch.was_reused);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("hello"), true, &taken), 0);
	assert_int_equal(taken, 5);
	assert_string_equal(origin_heard(fd),
			    "POST /p HTTP/1.1\r\nHost: origin.example\r\n"
			    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
	owner_free(owner);
}

/* A body much larger than the socket's buffers, through an origin that reads now and then. */
static void run_large_body(bool is_chunked, size_t piece)
{
	enum { SIZE = 700001 };
	static char body[SIZE + 1];
	static char heard[SIZE * 2];
	struct owner *owner = owner_new(&world, "PUT", "/");
	size_t sent = 0, heard_len = 0, blocked = 0;
	bool is_done = false;
	int fd;

	for (size_t i = 0; i < SIZE; i++)
		body[i] = (char)('a' + i % 23);
	owner->request.has_body = true;
	owner->request.may_retry = false;
	owner->request.content_length = is_chunked ? -1 : SIZE;
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	for (int i = 0; i < 200000 && (!is_done || heard_len == 0); i++) {
		size_t n = SIZE - sent < piece ? SIZE - sent : piece, taken = 0;
		const char *text;
		int outcome = upstream_fetch_write(&owner->fetch, span_of(body + sent, n),
						   sent + n == SIZE, &taken);

		assert_true(taken <= n);
		sent += taken;
		if (outcome == 0) {
			assert_int_equal(taken, n);
			is_done = sent == SIZE;
			continue;
		}
		assert_int_equal(outcome, UPSTREAM_MORE);
		blocked++;
		text = origin_heard(fd);
		memcpy(heard + heard_len, text, strlen(text));
		heard_len += strlen(text);
		owner->wakes = 0;
		world_turns(&world, 1);
		assert_true(owner->wakes == 1);
	}
	assert_true(is_done && blocked > 1);
	for (int i = 0; i < 4; i++) {
		const char *text = origin_heard(fd);

		memcpy(heard + heard_len, text, strlen(text) + 1);
		heard_len += strlen(text);
		world_turns(&world, 1);
	}
	assert_int_equal(owner->fetch.sent, SIZE);
	const char *at = strstr(heard, "\r\n\r\n") + 4;

	if (!is_chunked) {
		assert_string_equal(at, body);
	} else {
		size_t got = 0;
		unsigned long len;

		while ((len = strtoul(at, (char **)&at, 16))) {
			at += 2;
			assert_memory_equal(at, body + got, len);
			assert_memory_equal(at + len, "\r\n", 2);
			at += len + 2;
			got += len;
		}
		assert_int_equal(got, SIZE);
		assert_string_equal(at, "\r\n\r\n");
	}
	origin_says(fd, OK "Content-Length: 2\r\n\r\nok");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
	upstream_close_idle(world.upstream);
}

static void test_large_bodies(void **state)
{
	(void)state;
	run_large_body(false, 700001);
	run_large_body(true, 700001);
	run_large_body(false, 16384);
	run_large_body(true, 16384);
	run_large_body(true, 1001);
}

static void test_expect(void **state)
{
	struct owner *owner = owner_new(&world, "PUT", "/");
	size_t taken;
	int fd;

	(void)state;
	owner->request.has_body = owner->request.expect_continue = true;
	owner->request.content_length = 2;
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	assert_non_null(strstr(origin_heard(fd), "Expect: 100-continue\r\n\r\n"));
	assert_false(owner->fetch.origin_continue);
	owner->wakes = 0;
	origin_says(fd, "HTTP/1.1 100 Continue\r\n\r\n");
	world_turns(&world, 2);
	assert_true(owner->fetch.origin_continue);
	assert_int_equal(owner->fetch.state, UPSTREAM_WORKING);
	assert_int_equal(owner->wakes, 1);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("ab"), true, &taken), 0);
	origin_says(fd, OK "Content-Length: 0\r\n\r\n");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(owner->interims, 0);
	owner_free(owner);
}

/* Answered while the request still goes out: the answer counts, the connection is not used again. */
static void test_early_answer(void **state)
{
	struct owner *owner = owner_new(&world, "POST", "/");
	struct upstream_counts counts;
	size_t taken;
	int fd;

	(void)state;
	owner->request.has_body = true;
	owner->request.content_length = 10;
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("abc"), false, &taken), 0);
	origin_says(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(owner->fetch.response.status, 413);
	assert_string_equal(owner->body, "no");
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("defghij"), true, &taken), 0);
	assert_int_equal(taken, 7);
	counts = upstream_count(world.upstream);
	assert_int_equal(counts.busy + counts.idle + counts.tls, 0);
	owner_free(owner);
}

/* It answers and closes without reading: the write fails, the answer is read all the same. */
static void test_answer_behind_write_error(void **state)
{
	static char body[300000];
	struct owner *owner = owner_new(&world, "POST", "/");
	size_t taken = 0, sent = 0;
	int fd, outcome;

	(void)state;
	owner->is_lazy = true;
	owner->request.has_body = true;
	owner->request.content_length = sizeof(body);
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	origin_heard(fd);
	origin_says(fd, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
	origin_closes(&world.far);
	for (int i = 0; i < 5 && sent < sizeof(body); i++) {
		outcome = upstream_fetch_write(
			&owner->fetch, span_of(body + sent, sizeof(body) - sent), true, &taken);
		assert_true(outcome == 0 || outcome == UPSTREAM_MORE);
		sent += taken;
		world_turns(&world, 1);
	}
	assert_int_equal(sent, sizeof(body));
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_HEAD);
	owner_read(owner);
	assert_int_equal(owner->outcome, UPSTREAM_END);
	assert_string_equal(owner->body, "no");
	owner_free(owner);
}

/* ---- Room ------------------------------------------------------------------------------------------------------ */

/* Not even the head could be written: what was said before is still the answer, or there is none. */
static void test_closed_at_accept(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct owner *owner = owner_new(&world, i & 1 ? "POST" : "GET", "/");
		bool speaks = i & 2;

		owner->request.has_body = i & 1;
		owner->request.content_length = i & 1 ? 10 : -1;
		assert_int_equal(owner_start(owner), 0);
		origin_accept_and(&world,
				  speaks ? "HTTP/1.1 503 Full\r\nContent-Length: 2\r\n\r\nno" : "");
		world_turns(&world, 2);
		if (speaks) {
			assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
			assert_int_equal(owner->fetch.response.status, 503);
			assert_string_equal(owner->body, "no");
		} else {
			assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
			assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_CLOSED);
		}
		owner_free(owner);
	}
}

/* The owner does not read: neither do we. */
static void test_slow_owner(void **state)
{
	static char piece[65536];
	struct owner *owner = owner_new(&world, "GET", "/");
	size_t said = 0;
	ssize_t n;
	int fd;

	(void)state;
	owner->is_lazy = true;
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	origin_heard(fd);
	origin_says(fd, OK "\r\n");
	for (int i = 0; i < 200; i++) {
		n = os_write(fd, piece, sizeof(piece));
		if (n > 0)
			said += (size_t)n;
		world_turns(&world, 1);
	}
	assert_true(said < 1000000);
	assert_int_equal(owner->fetch.state, UPSTREAM_HEAD);
	/* Both at their pace: all of it arrives. */
	owner->is_lazy = false;
	owner->room = 777;
	for (int i = 0; i < 20; i++) {
		owner_read(owner);
		world_turns(&world, 1);
	}
	assert_int_equal(owner->body_len, said);
	origin_closes(&world.far);
	world_turns(&world, 2);
	assert_int_equal(owner->outcome, UPSTREAM_END);
	owner_free(owner);
}

/* Two answers at once share the receive buffer. */
static void test_two_at_once(void **state)
{
	struct owner *one = owner_new(&world, "GET", "/1"), *two = owner_new(&world, "GET", "/2");
	int fds[2];

	(void)state;
	one->is_lazy = two->is_lazy = true;
	assert_int_equal(owner_start(one), 0);
	fds[0] = origin_accept(&world);
	world.far = -1;
	assert_int_equal(owner_start(two), 0);
	fds[1] = origin_accept(&world);
	origin_says(fds[0], OK "Transfer-Encoding: chunked\r\n\r\n4\r\naaaa\r\n3\r\nAAA\r\n");
	origin_says(fds[1], OK "Content-Length: 6\r\n\r\nbbb");
	world_turns(&world, 2);
	one->room = two->room = 3;
	owner_read(one);
	owner_read(two);
	origin_says(fds[1], "BBB");
	origin_says(fds[0], "0\r\n\r\n");
	world_turns(&world, 2);
	owner_read(one);
	owner_read(two);
	assert_string_equal(one->body, "aaaaAAA");
	assert_string_equal(two->body, "bbbBBB");
	assert_int_equal(one->fetch.state, UPSTREAM_DONE);
	assert_int_equal(two->fetch.state, UPSTREAM_DONE);
	owner_free(one);
	owner_free(two);
	os_close(fds[0]);
}

/* ---- Tunnels ----------------------------------------------------------------------------------------------------- */

static void test_tunnel(void **state)
{
	struct owner *owner = owner_new(&world, "GET", "/ws");
	size_t taken;
	int fd;

	(void)state;
	owner->request.upgrade = SPAN("websocket");
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	assert_non_null(
		strstr(origin_heard(fd), "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
	origin_says(fd, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfirst");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_HEAD);
	assert_true(owner->fetch.is_tunnel);
	assert_string_equal(owner->body, "first");
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("ping"), false, &taken), 0);
	assert_string_equal(origin_heard(fd), "ping");
	origin_says(fd, "pong");
	world_turns(&world, 2);
	assert_string_equal(owner->body, "firstpong");
	/* Each direction ends by itself. */
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("bye"), true, &taken), 0);
	assert_string_equal(origin_heard(fd), "bye");
	char byte;

	assert_int_equal(os_read(fd, &byte, 1), 0);
	origin_says(fd, "late");
	origin_closes(&world.far);
	world_turns(&world, 2);
	assert_string_equal(owner->body, "firstponglate");
	assert_int_equal(owner->outcome, UPSTREAM_END);
	owner_free(owner);
}

static void test_upgrade_refused(void **state)
{
	struct owner *owner = owner_new(&world, "GET", "/ws");
	struct upstream_counts counts;
	int fd;

	(void)state;
	owner->request.upgrade = SPAN("websocket");
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	origin_says(fd, OK "Content-Length: 2\r\n\r\nno");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_false(owner->fetch.is_tunnel);
	counts = upstream_count(world.upstream);
	assert_int_equal(counts.idle, 1);
	owner_free(owner);
}

/* ---- Time ---------------------------------------------------------------------------------------------------------- */

struct time_case {
	const char *name, *text; /* NULL: the dial is never answered */
	enum telemetry_end end;
	struct upstream_limits limits;
	bool upgrade;
};
#define LIMITS(...) \
	.limits = { __VA_ARGS__, .idle_ms = 1000, .head_max = 65536, .connections_per_origin = 4 }
static const struct time_case time_cases[] = {
	{ "connect", NULL, TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT,
	  LIMITS(20000, 500000, 500000, 500000, 500000) },
	{ "first byte", "", TELEMETRY_END_ORIGIN_FIRST_BYTE_TIMEOUT,
	  LIMITS(500000, 20000, 500000, 500000, 500000) },
	{ "head", "HTTP/1.1 200", TELEMETRY_END_ORIGIN_TIMEOUT,
	  LIMITS(500000, 500000, 20000, 500000, 500000) },
	{ "second head", "HTTP/1.1 103 Wait\r\n\r\n", TELEMETRY_END_ORIGIN_FIRST_BYTE_TIMEOUT,
	  LIMITS(500000, 20000, 500000, 500000, 500000) },
	{ "body", OK "Content-Length: 5\r\n\r\nhi", TELEMETRY_END_ORIGIN_TIMEOUT,
	  LIMITS(500000, 500000, 20000, 500000, 500000) },
	{ "event stream", OK "Content-Type: text/event-stream; x\r\n\r\nhi",
	  TELEMETRY_END_ORIGIN_TIMEOUT, LIMITS(500000, 500000, 500000, 20000, 500000) },
	{ "tunnel", "HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\nhi", TELEMETRY_END_TUNNEL_TIMEOUT,
	  LIMITS(500000, 500000, 500000, 500000, 20000), true },
};

static void test_time(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(time_cases); i++) {
		const struct time_case *test = &time_cases[i];
		struct owner *owner = owner_new(&world, "GET", "/");

		print_message("  %s\n", test->name);
		world.limits = test->limits;
		upstream_set_limits(world.upstream, &test->limits);
		if (test->upgrade)
			owner->request.upgrade = SPAN("x");
		assert_int_equal(owner_start(owner), 0);
		if (test->text)
			origin_says(origin_accept(&world), test->text);
		world_wait_ms(&world, 12000);
		assert_int_not_equal(owner->fetch.state, UPSTREAM_FAILED);
		if (!test->text) /* the dialer keeps that time; a hung one is waited for */
			os_clock_move(5 * (int64_t)OS_SECOND, 0);
		world_wait_ms(&world, 20000);
		assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
		assert_int_equal(owner->fetch.failure.end, test->end);
		assert_int_equal(world.cancels, 1);
		owner_free(owner);
	}
}

/* A client that sends its body slowly, or reads slowly, is not the origin's fault. */
static void test_slow_client_is_no_timeout(void **state)
{
	const struct upstream_limits limits = { 500000, 15000, 15000, 15000, 15000,
						1000,   65536, 4,     4 };
	struct owner *owner = owner_new(&world, "POST", "/");
	size_t taken;
	int fd;

	(void)state;
	world.limits = limits;
	upstream_set_limits(world.upstream, &limits);
	owner->is_lazy = true;
	owner->request.has_body = true;
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	world_wait_ms(&world, 40000);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("a"), false, &taken), 0);
	world_wait_ms(&world, 40000);
	assert_int_equal(owner->fetch.state, UPSTREAM_WORKING);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("b"), true, &taken), 0);
	origin_says(fd, OK "Content-Length: 2\r\n\r\nok");
	world_wait_ms(&world, 40000);
	assert_int_equal(owner->fetch.state, UPSTREAM_HEAD);
	owner_read(owner);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_head_and_body_leave_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_bodies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_behind_write_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_at_accept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tunnel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upgrade_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_client_is_no_timeout, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
