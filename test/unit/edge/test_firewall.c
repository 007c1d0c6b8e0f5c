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
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_crowded),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
