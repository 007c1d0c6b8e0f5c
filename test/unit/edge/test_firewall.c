/* Stage 9: which requests a rate concerns, and what is said to who asks too often. */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TABLES "table near { 127.0.0.0/8 }\ntable far { 192.0.2.0/24 2001:db8::/32 }\n"
#define RATE(line) TABLES "site a.test default { respond 200 \"ok\"; " line " }"
#define TRUSTING(line) RATE("trust forwarded from <near>; " line)

static uint64_t counted(const struct worker *worker, enum telemetry_limit limit)
{
	return worker->edge->counters->limits[limit];
}

/* The answer to one request on a fresh connection. */
static char *ask(struct worker *worker, const char *path, const char *client)
{
	char request[512];
	int fd = worker_connect(worker), len;
	char *answer;

	len = snprintf(request, sizeof(request),
		       "GET %s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n%s%s%s\r\n", path,
		       client ? "X-Forwarded-For: " : "", client ? client : "",
		       client ? "\r\n" : "");
	answer = worker_talk(worker, fd, request, (size_t)len, 1 << 20);
	os_close(fd);
	worker_turns(worker, 2);
	return answer;
}

static unsigned status(const char *answer)
{
	assert_int_equal(strncmp(answer, "HTTP/1.1 ", 9), 0);
	return (unsigned)strtoul(answer + 9, NULL, 10);
}

struct row {
	const char *text;
	const char *asks[8]; /* "PATH" or "PATH CLIENT" */
	unsigned statuses[8];
};

static const struct row rows[] = {
	{ RATE("limit requests 2/h per ip"), { "/", "/x", "/" }, { 200, 200, 429 } },
	{ RATE("limit requests 60/h burst 1 per ip"), { "/", "/" }, { 200, 429 } },
	{ RATE("limit requests 1/h per ip on /login"),
	  { "/login", "/login", "/", "/login/x", "/login?a", "/%6cogin" },
	  { 200, 429, 200, 200, 429, 429 } },
	{ RATE("limit requests 1/h per ip on /a*"), { "/a", "/ab", "/b" }, { 200, 429, 200 } },
	{ RATE("limit requests 1/h per ip from <near>"), { "/", "/" }, { 200, 429 } },
	{ RATE("limit requests 1/h per ip from <far>"), { "/", "/" }, { 200, 200 } },
	{ RATE("limit requests 1/h per ip not from <near>"), { "/", "/" }, { 200, 200 } },
	{ RATE("limit requests 1/h per ip not from <far>"), { "/", "/" }, { 200, 429 } },
	/* Several hold together. */
	{ RATE("limit requests 3/h per ip; limit requests 1/h per ip on /a"),
	  { "/a", "/a", "/", "/" },
	  { 200, 429, 200, 429 } },
	/* The one real address counts: whom a trusted peer names. */
	{ TRUSTING("limit requests 1/h per ip"),
	  { "/ 192.0.2.1", "/ 192.0.2.2", "/ 192.0.2.1", "/", "/ 6.6.6.6, 192.0.2.2" },
	  { 200, 200, 429, 200, 429 } },
	{ RATE("limit requests 1/h per ip"), { "/ 192.0.2.1", "/ 192.0.2.2" }, { 200, 429 } },
	/* An IPv6 client has its /64; an IPv4 address is the same in both clothes. */
	{ TRUSTING("limit requests 1/h per ip"),
	  { "/ 2001:db8::1", "/ 2001:db8::ffff:2", "/ 2001:db8:0:1::1", "/ ::ffff:192.0.2.9",
	    "/ 192.0.2.9" },
	  { 200, 429, 200, 200, 429 } },
	{ TRUSTING("limit requests 1/h per ip not from <far>"),
	  { "/ 2001:db8::1", "/ 2001:db8::1", "/ 2001:db9::1", "/ 2001:db9::1" },
	  { 200, 200, 200, 429 } },
	/* Without `per ip` all of them together. */
	{ TRUSTING("limit requests 2/h"),
	  { "/ 192.0.2.1", "/ 192.0.2.2", "/ 192.0.2.3" },
	  { 200, 200, 429 } },
};

static void test_rows(void **state)
{
	struct worker *worker = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memset(worker->rates, 0, sizeof(*worker->rates));
		worker_reload(worker, rows[i].text);
		for (size_t j = 0; j < ARRAY_LEN(rows[i].asks) && rows[i].asks[j]; j++) {
			char path[64];
			const char *client = strchr(rows[i].asks[j], ' ');
			unsigned got;

			(void)snprintf(path, sizeof(path), "%.*s",
				       (int)strcspn(rows[i].asks[j], " "), rows[i].asks[j]);
			got = status(ask(worker, path, client ? client + 1 : NULL));
			if (got != rows[i].statuses[j])
				fail_msg("row %zu, request %zu: %u", i, j, got);
		}
	}
}

/* The last line of the access log. */
static char *last_line(struct worker *worker)
{
	static char last[TELEMETRY_LINE_MAX + 1];
	char *line;

	last[0] = '\0';
	while ((line = worker_line(worker)))
		(void)snprintf(last, sizeof(last), "%s", line);
	return last;
}

static void test_answer(void **state)
{
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_REQUEST_RATE);
	char *answer;

	memset(worker->rates, 0, sizeof(*worker->rates));
	worker_reload(worker, RATE("limit requests 5/min burst 2 per ip on /login"));
	assert_int_equal(status(ask(worker, "/login", NULL)), 200);
	answer = ask(worker, "/login", NULL);
	assert_int_equal(status(answer), 200);
	assert_null(strstr(answer, "RateLimit"));
	assert_non_null(strstr(last_line(worker), "\"end\":\"ok\""));
	answer = ask(worker, "/login", NULL);
	assert_int_equal(status(answer), 429);
	assert_non_null(strstr(answer, "\r\nRetry-After: 12\r\n"));
	assert_non_null(strstr(answer, "\r\nRateLimit-Policy: \"5/min\";q=2;w=24\r\n"));
	assert_non_null(strstr(answer, "\r\nRateLimit: \"5/min\";r=0;t=12\r\n"));
	assert_non_null(strstr(answer, "\r\nCache-Control: no-store\r\n"));
	answer = last_line(worker);
	assert_non_null(strstr(answer, "\"end\":\"limit:request-rate\""));
	assert_non_null(strstr(answer, ": limit requests 5/min burst 2 per ip on /login\""));
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_REQUEST_RATE) - before, 1);
}

/* A line that stays keeps its count over a reload; one that changed begins anew. */
static void test_reload(void **state)
{
	struct worker *worker = *state;

	memset(worker->rates, 0, sizeof(*worker->rates));
	worker_reload(worker, RATE("limit requests 1/h per ip"));
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	worker_reload(worker, "site b.test { respond 201 }\n" RATE("limit  requests 1/h per ip"));
	assert_int_equal(status(ask(worker, "/", NULL)), 429);
	worker_reload(worker, RATE("limit requests 2/h per ip"));
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	worker_reload(worker, RATE("limit requests 1/h per ip"));
	assert_int_equal(status(ask(worker, "/", NULL)), 429);
}

/* Where all who share a bucket owe, the one that owes least goes, and is counted. */
static void test_crowded(void **state)
{
	struct worker *worker = *state;
	uint64_t now = worker->edge->now_ns / FIREWALL_TICK_NS;

	worker_reload(worker, RATE("limit requests 1/h per ip"));
	for (size_t i = 0; i < FIREWALL_BUCKETS; i++) {
		for (size_t j = 0; j < FIREWALL_WAYS; j++)
			worker->rates->buckets[i].cells[j] = (now + 1000000000 + j) & 0xffffffffff;
	}
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	assert_int_equal(status(ask(worker, "/", NULL)), 429);
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_RATE_CELLS), 1);
}

/* ---- Connections ------------------------------------------------------------------------------------------- */

/* A connection that has a request under way: its body does not come. */
static int begin(struct worker *worker, const char *path)
{
	char request[256];
	int fd = worker_connect(worker);
	int len = snprintf(request, sizeof(request),
			   "POST %s HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n", path);

	assert_int_equal(os_write(fd, request, (size_t)len), len);
	worker_turns(worker, 3);
	return fd;
}

static bool is_closed(struct worker *worker, int fd)
{
	char byte;
	ssize_t got;

	worker_turns(worker, 2);
	got = os_read(fd, &byte, 1);
	return got == 0 || (got < 0 && got != -EAGAIN);
}

/* A request counts from its head to its answer's end, for each line that fits; a connection that waits does not. */
static void test_connections(void **state)
{
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_CLIENT_CONNECTIONS);
	int held[3];
	char *answer;

	worker_reload(worker,
		      RATE("limit connections 2 per ip on /a*; limit connections 3 per ip"));
	held[0] = begin(worker, "/a");
	held[1] = begin(worker, "/ab");
	answer = ask(worker, "/a/x", NULL);
	assert_int_equal(status(answer), 429);
	assert_non_null(strstr(answer, "\r\nConnection: close\r\n"));
	answer = last_line(worker);
	assert_non_null(strstr(answer, "\"end\":\"limit:client-connections\""));
	assert_non_null(strstr(answer, ": limit connections 2 per ip on /a*\""));
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_CLIENT_CONNECTIONS) - before, 1);
	held[2] = begin(worker, "/b");
	assert_int_equal(status(ask(worker, "/b", NULL)), 429);
	/* Its answer ends it, the connection stays. */
	assert_int_equal(status(worker_talk(worker, held[2], "12345", 5, 20)), 200);
	assert_int_equal(status(ask(worker, "/b", NULL)), 200);
	assert_int_equal(status(ask(worker, "/a", NULL)), 429);
	/* A client that goes gives it back; a reload with another number counts on. */
	os_close(held[0]);
	worker_turns(worker, 3);
	assert_int_equal(status(ask(worker, "/a", NULL)), 200);
	worker_reload(worker, RATE("limit connections 1 per ip on /a*"));
	assert_int_equal(status(ask(worker, "/a", NULL)), 429);
	os_close(held[1]);
	os_close(held[2]);
	worker_turns(worker, 3);
	assert_int_equal(status(ask(worker, "/a", NULL)), 200);
}

/* Whom a trusted peer names counts, and a table says for whom the line is. */
static void test_connections_of_whom(void **state)
{
	static const char post[] = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n"
				   "X-Forwarded-For: 2001:db8::1\r\n\r\n";
	struct worker *worker = *state;
	int held;

	worker_reload(worker, TRUSTING("limit connections 1 per ip from <far>"));
	held = worker_connect(worker);
	assert_int_equal(os_write(held, post, sizeof(post) - 1), sizeof(post) - 1);
	worker_turns(worker, 3);
	assert_int_equal(status(ask(worker, "/", "2001:db8::2")), 429);
	assert_int_equal(status(ask(worker, "/", "2001:db8:0:1::1")), 200);
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	os_close(held);
	worker_turns(worker, 3);
	assert_int_equal(status(ask(worker, "/", "2001:db8::2")), 200);
}

/* The gate counts from accept to close, idle or not; one more is closed without a byte. */
static void test_gate(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
	struct worker *worker = *state;
	uint64_t before = counted(worker, TELEMETRY_LIMIT_CLIENT_CONNECTIONS);
	int held[2], one;

	(void)last_line(worker);
	worker_reload(worker, "firewall { limit connections 2 per ip from <near> }\n" RATE(""));
	held[0] = worker_connect(worker);
	held[1] = worker_connect(worker);
	assert_int_equal(status(worker_talk(worker, held[0], get, sizeof(get) - 1, 20)), 200);
	one = worker_connect(worker);
	assert_true(is_closed(worker, one));
	os_close(one);
	assert_non_null(strstr(last_line(worker), "limit connections 2 per ip from <near>"));
	one = worker_connect(worker);
	assert_true(is_closed(worker, one));
	os_close(one);
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_CLIENT_CONNECTIONS) - before, 2);
	assert_int_equal(status(worker_talk(worker, held[1], get, sizeof(get) - 1, 20)), 200);
	os_close(held[0]);
	worker_turns(worker, 3);
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	worker_reload(worker, "firewall { limit connections 2 per ip not from <near> }\n" RATE(""));
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	os_close(held[1]);
	worker_turns(worker, 3);
}

/* Who finds no place is not counted, and says so in a counter of its own. */
static void test_connection_cells(void **state)
{
	struct worker *worker = *state;
	struct firewall_held *own;
	int held;

	worker_reload(worker, RATE("limit connections 1 per ip"));
	own = worker->edge->holder.own;
	for (size_t i = 0; i < FIREWALL_HELD_SETS; i++) {
		for (size_t j = 0; j < FIREWALL_HELD_WAYS; j++)
			own->cells[i][j] = (j + 1) << 24 | 1;
	}
	held = begin(worker, "/");
	assert_int_equal(status(ask(worker, "/", NULL)), 200);
	assert_int_equal(counted(worker, TELEMETRY_LIMIT_CONNECTION_CELLS), 2);
	os_close(held);
	worker_turns(worker, 3);
	memset(own->cells, 0, sizeof(own->cells));
}

/* ---- Bandwidth --------------------------------------------------------------------------------------------- */

enum { LONG_TEXT = 60000, PACE_CLIENTS = 2 };

static char *long_text(const char *lines)
{
	static char text[LONG_TEXT + 1024];
	size_t len = (size_t)snprintf(text, sizeof(text),
				      TABLES "site a.test default { %s; respond 200 \"", lines);

	memset(text + len, 'x', LONG_TEXT);
	(void)snprintf(text + len + LONG_TEXT, sizeof(text) - len - LONG_TEXT, "\" }");
	return text;
}

static size_t read_all(int fd)
{
	static char bytes[65536];
	size_t sum = 0;
	ssize_t got;

	while ((got = os_read(fd, bytes, sizeof(bytes))) > 0)
		sum += (size_t)got;
	return sum;
}

static const struct {
	const char *lines;
	uint64_t rate; /* of all clients together, bytes a second; 0: none */
} paces[] = {
	{ "limit bandwidth 10KB/s per connection", 2 * 10240 },
	{ "limit bandwidth 10KB/s per ip", 10240 },
	{ "limit bandwidth 100KB/s per ip; limit bandwidth 20KB/s per connection; "
	  "limit bandwidth 10KB/s per connection",
	  2 * 10240 },
	{ "limit bandwidth 15KB/s per ip; limit bandwidth 20KB/s per connection", 15360 },
	{ "limit bandwidth 10KB/s burst 1KB per connection", 2 * 10240 },
	{ "limit bandwidth 10KB/s per connection on /other", 0 },
	{ "limit bandwidth 10KB/s per ip from <far>", 0 },
	{ "limit bandwidth 10KB/s burst 60000B per connection", 0 },
};

/* Two clients read a long body as fast as they can, and the clock is moved in small steps: together they get what the
 * lines say, within a tenth, and the worker wakes for it once in a piece of time and not for each byte. */
static void test_pace(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
	struct worker *worker = *state;

	for (size_t i = 0; i < ARRAY_LEN(paces); i++) {
		uint64_t begun_ns, waits, took_ns, whole_ns = 0;
		size_t sums[PACE_CLIENTS] = { 0 };
		int fds[PACE_CLIENTS];

		memset(worker->rates, 0, sizeof(*worker->rates));
		worker_reload(worker, long_text(paces[i].lines));
		waits = counted(worker, TELEMETRY_LIMIT_BANDWIDTH);
		for (size_t j = 0; j < PACE_CLIENTS; j++) {
			fds[j] = worker_connect(worker);
			assert_int_equal(os_write(fds[j], get, sizeof(get) - 1), sizeof(get) - 1);
		}
		begun_ns = worker->edge->now_ns;
		for (int turn = 0; turn < 3000 && sums[0] + sums[1] < 2 * LONG_TEXT; turn++) {
			if (paces[i].rate)
				os_clock_move(10 * OS_MS, 10 * OS_MS);
			worker_turns(worker, 2);
			for (size_t j = 0; j < PACE_CLIENTS; j++)
				sums[j] += read_all(fds[j]);
		}
		took_ns = worker->edge->now_ns - begun_ns;
		waits = counted(worker, TELEMETRY_LIMIT_BANDWIDTH) - waits;
		for (size_t j = 0; j < PACE_CLIENTS; j++)
			os_close(fds[j]);
		worker_turns(worker, 3);
		if (paces[i].rate)
			whole_ns = 2 * LONG_TEXT * OS_SECOND / paces[i].rate;
		if (whole_ns ? took_ns < whole_ns * 9 / 10 || took_ns > whole_ns * 11 / 10
			     : waits != 0)
			fail_msg("row %zu: %llu ms for %llu", i,
				 (unsigned long long)(took_ns / OS_MS),
				 (unsigned long long)(whole_ns / OS_MS));
		if (waits > PACE_CLIENTS * (took_ns / (10 * OS_MS) + 10))
			fail_msg("row %zu: %llu waits", i, (unsigned long long)waits);
	}
}

/* Several answers on one connection share its time; another line begins with the next client. */
static void test_pace_of_small_answers(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
	struct worker *worker = *state;
	uint64_t begun_ns;
	size_t answer_len;
	int fd, count = 1;

	memset(worker->rates, 0, sizeof(*worker->rates));
	worker_reload(worker, TABLES
		      "site a.test default { limit bandwidth 1KB/s per ip; respond 200 "
		      "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\" }");
	fd = worker_connect(worker);
	begun_ns = worker->edge->now_ns;
	assert_int_equal(os_write(fd, get, sizeof(get) - 1), sizeof(get) - 1);
	worker_turns(worker, 5);
	answer_len = read_all(fd);
	assert_true(answer_len > 64);
	for (; count < 64; count++) {
		size_t got = 0;

		assert_int_equal(os_write(fd, get, sizeof(get) - 1), sizeof(get) - 1);
		for (int turn = 0; turn < 100 && got < answer_len; turn++) {
			os_clock_move(5 * OS_MS, 5 * OS_MS);
			worker_turns(worker, 2);
			got += read_all(fd);
		}
		assert_int_equal(got, answer_len);
	}
	/* 64 times 64 bytes are four seconds' worth. */
	assert_in_range((worker->edge->now_ns - begun_ns) / OS_MS, 3600, 4600);
	os_close(fd);
	worker_turns(worker, 3);
}

static int start(void **state)
{
	static struct worker worker;

	worker_start(&worker, RATE(""));
	*state = &worker;
	return 0;
}

static int stop(void **state)
{
	worker_stop(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),        cmocka_unit_test(test_answer),
		cmocka_unit_test(test_reload),      cmocka_unit_test(test_crowded),
		cmocka_unit_test(test_connections), cmocka_unit_test(test_connections_of_whom),
		cmocka_unit_test(test_gate),        cmocka_unit_test(test_connection_cells),
		cmocka_unit_test(test_pace),        cmocka_unit_test(test_pace_of_small_answers),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
