#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dial/dial.h"
#include "name_server.h"
#include "telemetry/telemetry.h"

/* Real sockets on loopback; names come from a name server in the same loop. */

enum { OPEN_PORT, CLOSED_PORT };

static const struct name_server_row rows[] = {
	{ .name = "four.test", .v4 = "127.0.0.1", .ttl_s = 60 },
	{ .name = "six.test", .v6 = "::1", .ttl_s = 60 },
	{ .name = "both.test", .v4 = "127.0.0.1", .v6 = "::1", .ttl_s = 60 },
	{ .name = "alias.test", .v4 = "127.0.0.1", .alias = "real.test", .ttl_s = 60 },
	{ .name = "brief.test", .v4 = "127.0.0.1", .ttl_s = 0 },
	{ .name = "forever.test", .v4 = "127.0.0.1", .ttl_s = 0x7fffffff },
	{ .name = "loop.test", .alias = "loop.test", .ttl_s = 60 },
	{ .name = "many.test",
	  .v4 = "127.0.0.1",
	  .v4_count = 100,
	  .ttl_s = 60,
	  .manner = OVER_TCP },
	{ .name = "app.corp.test", .v4 = "127.0.0.1", .ttl_s = 60 },
	{ .name = "none.test" },
	{ .name = "absent.test", .manner = NO_SUCH_NAME },
	{ .name = "failing.test", .manner = SERVER_FAILURE },
	{ .name = "silent.test", .manner = SILENT },
	{ .name = "garbage.test", .v4 = "127.0.0.1", .manner = GARBAGE },
	{ .name = "short.test", .v4 = "127.0.0.1", .manner = CUT_SHORT },
	{ .name = "wrong.test", .v4 = "127.0.0.1", .manner = OTHER_NAME },
	{ .name = "half.test", .v4 = "127.0.0.1", .ttl_s = 60, .v6_manner = SILENT },
	{ .name = "metadata.test", .v4 = "169.254.169.254", .ttl_s = 60 },
	{ .name = "zero.test", .v4 = "0.0.0.0", .v6 = "::", .ttl_s = 60 },
	{ .name = "mapped.test", .v6 = "::ffff:169.254.169.254", .ttl_s = 60 },
	{ .name = "mixed.test", .v4 = "127.0.0.1", .v6 = "fe80::1", .ttl_s = 60 },
	{ .name = "long.test", .v4 = "127.0.0.1", .ttl_s = 60, .manner = OVER_TCP },
	{ .name = "loopback.test", .v4 = "127.0.0.1", .v6 = "2001:db8::1", .ttl_s = 60 },
};

#define HOSTS "127.0.0.1 hosted.test localhost4.localhost\n169.254.1.1 operator.test\n"

static const struct {
	const char *host;
	int port;
	enum dial_status status;
	uint8_t family;     /* of the peer */
	const char *detail; /* contained in it */
	uint32_t max_ms;    /* it must not take longer; 0: the timeout */
} cases[] = {
	{ "127.0.0.1", OPEN_PORT, 0, OS_FAMILY_V4, "", 100 },
	{ "::1", OPEN_PORT, 0, OS_FAMILY_V6, "", 100 },
	{ "localhost", OPEN_PORT, 0, OS_FAMILY_V6, "", 100 },
	{ "LOCALHOST.", OPEN_PORT, 0, OS_FAMILY_V6, "", 100 },
	{ "app.localhost", OPEN_PORT, 0, OS_FAMILY_V6, "", 100 },
	{ "localhost4.localhost", OPEN_PORT, 0, OS_FAMILY_V4, "", 100 },
	{ "hosted.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 100 },
	{ "127.0.0.1", CLOSED_PORT, DIAL_REFUSED, 0, "127.0.0.1:", 100 },
	{ "localhost", CLOSED_PORT, DIAL_REFUSED, 0, "[::1]:", 100 },
	{ "four.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 200 },
	{ "six.test", OPEN_PORT, 0, OS_FAMILY_V6, "", 200 },
	{ "both.test", OPEN_PORT, 0, OS_FAMILY_V6, "", 200 },
	{ "alias.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 200 },
	{ "Four.Test", CLOSED_PORT, DIAL_REFUSED, 0, "127.0.0.1:", 200 },
	{ "app", OPEN_PORT, 0, OS_FAMILY_V4, "", 200 },
	{ "half.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 300 },
	{ "mixed.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 200 },
	{ "many.test", OPEN_PORT, 0, OS_FAMILY_V4, "", 400 },
	{ "loop.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "loop.test: ", 0 },
	{ "none.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "none.test: no such name", 200 },
	{ "absent.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "absent.test: no such name", 200 },
	{ "failing.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "could say", 0 },
	{ "silent.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "in time", 0 },
	{ "garbage.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "garbage.test: ", 0 },
	{ "short.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "short.test: ", 0 },
	{ "wrong.test", OPEN_PORT, DIAL_NO_ADDRESS, 0, "wrong.test: ", 0 },
	{ "metadata.test", OPEN_PORT, DIAL_FORBIDDEN, 0, "may not", 200 },
	{ "zero.test", OPEN_PORT, DIAL_FORBIDDEN, 0, "may not", 200 },
	{ "mapped.test", OPEN_PORT, DIAL_FORBIDDEN, 0, "may not", 200 },
	{ "a..b", OPEN_PORT, DIAL_NO_ADDRESS, 0, "a..b: ", 200 },
};

struct fixture {
	struct os_loop *loop;
	struct dial *dial;
	struct name_server server;
	int v4, v6;
	uint16_t port, closed_port;
};

struct outcome {
	bool is_done;
	enum dial_status status;
	struct os_address peer;
	int error_number;
	char detail[300];
};

static void on_done(void *owner, struct dial_attempt *attempt, const struct dial_result *result)
{
	struct outcome *outcome = owner;

	(void)attempt;
	assert_false(outcome->is_done);
	outcome->is_done = true;
	outcome->status = result->status;
	outcome->peer = result->peer;
	outcome->error_number = result->error_number;
	snprintf(outcome->detail, sizeof(outcome->detail), "%.*s", SPAN_ARG(result->detail));
	if (result->status == 0) {
		assert_true(os_descriptor_is_open(result->fd));
		os_close(result->fd);
	}
}

static void set_resolver(struct fixture *fixture, uint16_t first_port, uint16_t second_port)
{
	char text[200];

	snprintf(text, sizeof(text), "nameserver 127.0.0.1:%u\n%s127.0.0.1:%u\nsearch corp.test\n",
		 first_port, second_port ? "nameserver " : "#", second_port);
	assert_int_equal(dial_set_resolver(fixture->dial, span_str(text)), 0);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct os_address v4 = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } };
	struct os_address v6 = { .family = OS_FAMILY_V6, .ip = { [15] = 1 } };
	struct os_address local;
	int closed;

	assert_int_equal(os_loop_new(&fixture->loop), 0);
	assert_int_equal(dial_new(fixture->loop, &fixture->dial), 0);
	assert_int_equal(os_listen(&v4, 0, 64, &fixture->v4), 0);
	assert_int_equal(os_socket_local(fixture->v4, &local), 0);
	v6.port = fixture->port = local.port;
	assert_int_equal(os_listen(&v6, 0, 64, &fixture->v6), 0);
	assert_int_equal(os_listen(&v4, 0, 1, &closed), 0);
	assert_int_equal(os_socket_local(closed, &local), 0);
	fixture->closed_port = local.port;
	os_close(closed);
	name_server_start(&fixture->server, fixture->loop, rows, ARRAY_LEN(rows));
	set_resolver(fixture, fixture->server.port, 0);
	assert_int_equal(dial_set_hosts(fixture->dial, SPAN(HOSTS)), 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	dial_free(fixture->dial);
	name_server_stop(&fixture->server);
	os_close(fixture->v4);
	os_close(fixture->v6);
	os_loop_free(fixture->loop);
	free(fixture);
	return 0;
}

static void set_origin_reach(struct fixture *fixture, const char *host, uint16_t port,
			     enum dial_reach reach)
{
	struct dial_origin origin = {
		.id = 1, .reach = reach, .host = span_str(host), .port = port
	};

	assert_int_equal(dial_set_origins(fixture->dial, &origin, 1), 0);
}

static void set_origin(struct fixture *fixture, const char *host, uint16_t port)
{
	struct dial_origin origin = { .id = 1, .host = span_str(host), .port = port };

	assert_int_equal(dial_set_origins(fixture->dial, &origin, 1), 0);
}

static void turns(struct fixture *fixture, uint32_t duration_ms)
{
	uint64_t until_ns = os_now_ns() + duration_ms * OS_MS;

	while (os_now_ns() < until_ns)
		assert_int_equal(os_loop_turn(fixture->loop, 5, NULL, NULL), 0);
}

static uint64_t wait_done(struct fixture *fixture, struct outcome *outcome)
{
	uint64_t start_ns = os_now_ns();

	while (!outcome->is_done) {
		assert_int_equal(os_loop_turn(fixture->loop, 100, NULL, NULL), 0);
		assert_true(os_now_ns() - start_ns < 5 * OS_SECOND);
	}
	return (os_now_ns() - start_ns) / OS_MS;
}

static uint64_t dial_once(struct fixture *fixture, uint32_t timeout_ms, struct outcome *ret_outcome)
{
	struct dial_attempt *attempt;

	memset(ret_outcome, 0, sizeof(*ret_outcome));
	assert_int_equal(os_loop_turn(fixture->loop, 0, NULL, NULL), 0);
	assert_int_equal(dial_start(fixture->dial, 1, timeout_ms, on_done, ret_outcome, &attempt),
			 0);
	assert_false(ret_outcome->is_done);
	return wait_done(fixture, ret_outcome);
}

static void test_cases(void **state)
{
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcome outcome;
		uint64_t took_ms;

		set_origin(fixture, cases[i].host,
			   cases[i].port == OPEN_PORT ? fixture->port : fixture->closed_port);
		took_ms = dial_once(fixture, 700, &outcome);
		if (outcome.status != cases[i].status || outcome.peer.family != cases[i].family ||
		    !strstr(outcome.detail, cases[i].detail) ||
		    took_ms > (cases[i].max_ms ? cases[i].max_ms : 900))
			fail_msg("%s: status %d family %d \"%s\" after %llu ms", cases[i].host,
				 outcome.status, outcome.peer.family, outcome.detail,
				 (unsigned long long)took_ms);
	}
}

static void test_unknown_origin(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome;

	set_origin(fixture, "127.0.0.1", fixture->port);
	assert_int_equal(dial_set_origins(fixture->dial, NULL, 0), 0);
	dial_once(fixture, 500, &outcome);
	assert_int_equal(outcome.status, DIAL_FAILED);
}

static void test_unix(void **state)
{
	struct fixture *fixture = *state;
	char folder[] = "/tmp/dial-test-XXXXXX", path[64];
	struct dial_origin origin = { .id = 1 };
	struct outcome outcome;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/missing.sock", folder);
	origin.unix_path = span_str(path);
	assert_int_equal(dial_set_origins(fixture->dial, &origin, 1), 0);
	dial_once(fixture, 500, &outcome);
	assert_int_equal(outcome.status, DIAL_UNREACHABLE);
	assert_int_equal(outcome.error_number, ENOENT);
	assert_non_null(strstr(outcome.detail, "missing.sock"));
	assert_int_equal(rmdir(folder), 0);
}

/* Full: the kernel drops what comes, as a host does that is not there. */
static void test_timeout(void **state)
{
	struct fixture *fixture = *state;
	struct os_address address = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } };
	struct outcome outcome;
	int full, fillers[4];
	uint64_t took_ms;

	assert_int_equal(os_listen(&address, 0, 0, &full), 0);
	assert_int_equal(os_socket_local(full, &address), 0);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		assert_int_equal(os_connect(&address, &fillers[i]), 0);
	turns(fixture, 20);
	set_origin(fixture, "127.0.0.1", address.port);
	took_ms = dial_once(fixture, 200, &outcome);
	assert_int_equal(outcome.status, DIAL_TIMEOUT);
	assert_int_equal(outcome.error_number, ETIMEDOUT);
	assert_in_range(took_ms, 195, 400);
	assert_non_null(strstr(outcome.detail, "127.0.0.1:"));
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		os_close(fillers[i]);
	os_close(full);
}

/* The first address hangs: the second is tried 250 ms later and wins. */
static void test_next_address_after_250_ms(void **state)
{
	struct fixture *fixture = *state;
	struct os_address first = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 2 } };
	struct os_address second = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 3 } };
	struct outcome outcome;
	int full, open, fillers[4];
	uint64_t took_ms;

	assert_int_equal(os_listen(&first, 0, 0, &full), 0);
	assert_int_equal(os_socket_local(full, &first), 0);
	second.port = first.port;
	assert_int_equal(os_listen(&second, 0, 8, &open), 0);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		assert_int_equal(os_connect(&first, &fillers[i]), 0);
	turns(fixture, 20);
	assert_int_equal(
		dial_set_hosts(fixture->dial, SPAN("127.0.0.2 slow.test\n127.0.0.3 slow.test\n")),
		0);
	set_origin(fixture, "slow.test", first.port);
	took_ms = dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(outcome.peer.ip[3], 3);
	assert_in_range(took_ms, 245, 400);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		os_close(fillers[i]);
	os_close(full);
	os_close(open);
}

/* v6 hangs: that costs 250 ms once, then v4 comes first; ten minutes later v6 has its chance, and when that is good again
 * it stays. */
static void test_the_family_that_was_good(void **state)
{
	struct fixture *fixture = *state;
	struct os_address v6 = { .family = OS_FAMILY_V6, .ip = { [15] = 1 } };
	struct os_address v4 = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } };
	struct outcome outcome;
	int full, open, fillers[4];

	assert_int_equal(os_listen(&v6, 0, 0, &full), 0);
	assert_int_equal(os_socket_local(full, &v6), 0);
	v4.port = v6.port;
	assert_int_equal(os_listen(&v4, 0, 8, &open), 0);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		assert_int_equal(os_connect(&v6, &fillers[i]), 0);
	turns(fixture, 20);
	assert_int_equal(
		dial_set_hosts(fixture->dial, SPAN("::1 six.first\n127.0.0.1 six.first\n")), 0);
	set_origin(fixture, "six.first", v6.port);
	for (int i = 0; i < 4; i++) {
		uint64_t took_ms = dial_once(fixture, 2000, &outcome);

		assert_int_equal(outcome.status, 0);
		assert_int_equal(outcome.peer.family, OS_FAMILY_V4);
		if (i == 0 || i == 3)
			assert_in_range(took_ms, 245, 1500);
		else
			assert_in_range(took_ms, 0, 240);
		if (i == 2)
			os_clock_move(601 * (int64_t)OS_SECOND, 0);
	}
	os_clock_move(601 * (int64_t)OS_SECOND, 0);
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
		os_close(fillers[i]);
	os_close(full);
	assert_int_equal(os_listen(&v6, 0, 8, &full), 0);
	dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.peer.family, OS_FAMILY_V6);
	dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.peer.family, OS_FAMILY_V6);
	os_close(full);
	os_close(open);
}

static size_t count_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += os_descriptor_is_open(fd);
	return count;
}

/* Two addresses of three hang. Each attempt has a socket; how many more, all of them together, is bounded: then the next
 * address takes the place of the one before, and all arrive all the same. */
static void test_room_for_further_addresses(void **state)
{
	enum { ATTEMPTS = 5, FILLERS = 8 };
	static const size_t rooms[] = { 0, 2, SIZE_MAX }, most[] = { 5, 7, 15 };
	struct fixture *fixture = *state;
	struct os_address address = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 2 } };
	int listeners[3], fillers[FILLERS];

	assert_int_equal(os_listen(&address, 0, 0, &listeners[0]), 0);
	assert_int_equal(os_socket_local(listeners[0], &address), 0);
	for (int i = 1; i < 3; i++) {
		address.ip[3]++;
		assert_int_equal(os_listen(&address, 0, i == 1 ? 0 : 64, &listeners[i]), 0);
	}
	for (int i = 0; i < FILLERS; i++) {
		address.ip[3] = (uint8_t)(2 + i % 2);
		assert_int_equal(os_connect(&address, &fillers[i]), 0);
	}
	turns(fixture, 20);
	assert_int_equal(
		dial_set_hosts(fixture->dial, SPAN("127.0.0.2 slow.test\n127.0.0.3 slow.test\n"
						   "127.0.0.4 slow.test\n")),
		0);
	set_origin(fixture, "slow.test", address.port);
	for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
		struct outcome outcomes[ATTEMPTS] = { 0 };
		struct dial_attempt *attempt;
		size_t before, seen = 0;
		bool is_over = false;

		dial_set_room(fixture->dial, rooms[i]);
		before = count_descriptors();
		for (int k = 0; k < ATTEMPTS; k++)
			assert_int_equal(
				dial_start(fixture->dial, 1, 5000, on_done, &outcomes[k], &attempt),
				0);
		while (!is_over) {
			size_t now = count_descriptors() - before;

			seen = now > seen ? now : seen;
			assert_int_equal(os_loop_turn(fixture->loop, 5, NULL, NULL), 0);
			is_over = true;
			for (int k = 0; k < ATTEMPTS; k++)
				is_over = is_over && outcomes[k].is_done;
		}
		assert_int_equal(seen, most[i]);
		assert_int_equal(count_descriptors(), before);
		for (int k = 0; k < ATTEMPTS; k++) {
			assert_int_equal(outcomes[k].status, 0);
			assert_int_equal(outcomes[k].peer.ip[3], 4);
		}
	}
	for (int i = 0; i < FILLERS; i++)
		os_close(fillers[i]);
	for (int i = 0; i < 3; i++)
		os_close(listeners[i]);
}

static void test_answers_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome;
	size_t questions;

	set_origin(fixture, "both.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	questions = fixture->server.questions;
	assert_int_equal(questions, 2); /* A and AAAA */
	for (int i = 0; i < 5; i++) {
		set_origin(fixture, "both.test", i % 2 ? fixture->port : fixture->closed_port);
		dial_once(fixture, 500, &outcome);
	}
	assert_int_equal(fixture->server.questions, questions);
}

static void pass(struct fixture *fixture, uint64_t seconds)
{
	os_clock_move((int64_t)(seconds * OS_SECOND), 0);
	turns(fixture, 30);
}

/* An answer's time is over: it is asked for anew, once, also when nobody dials. */
static void test_ttl(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome;
	size_t questions;

	set_origin(fixture, "both.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	questions = fixture->server.questions;
	pass(fixture, 58);
	assert_int_equal(fixture->server.questions, questions);
	pass(fixture, 2);
	assert_int_equal(fixture->server.questions, questions + 2);
	/* Nobody's TTL counts for longer than the limit. */
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_DNS_TTL].value, 3600 * OS_SECOND);
	set_origin(fixture, "forever.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	questions = fixture->server.questions;
	pass(fixture, 3590);
	assert_int_equal(fixture->server.questions, questions);
	pass(fixture, 10);
	assert_int_equal(fixture->server.questions, questions + 2);
	/* And nobody asks any more once no origin has the name. */
	assert_int_equal(dial_set_origins(fixture->dial, NULL, 0), 0);
	questions = fixture->server.questions;
	pass(fixture, 3600);
	assert_int_equal(fixture->server.questions, questions);
}

/* Asked for with each dial; but those that come while it is being asked for share one question, and none waits. */
static void test_ttl_of_zero(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcomes[20] = { 0 }, outcome;
	struct dial_attempt *attempt;
	size_t questions;

	set_origin(fixture, "brief.test", fixture->port);
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
		assert_int_equal(
			dial_start(fixture->dial, 1, 2000, on_done, &outcomes[i], &attempt), 0);
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
		wait_done(fixture, &outcomes[i]);
		assert_int_equal(outcomes[i].status, 0);
	}
	assert_int_equal(fixture->server.questions, 2);
	for (size_t i = 1; i <= 5; i++) {
		dial_once(fixture, 500, &outcome);
		turns(fixture, 20);
		assert_int_equal(fixture->server.questions, 2 + 2 * i);
	}
	/* Beside that, not more than once a second. */
	questions = fixture->server.questions;
	pass(fixture, 1);
	assert_int_equal(fixture->server.questions, questions + 2);
}

static void test_last_good_answer_is_kept(void **state)
{
	static const struct name_server_row none[] = {
		{ .name = "brief.test", .manner = NO_SUCH_NAME },
		{ .name = "brief.test", .manner = SERVER_FAILURE },
		{ .name = "brief.test", .manner = GARBAGE },
		{ .name = "brief.test", .manner = SILENT },
		{ .name = "brief.test" },
	};
	struct fixture *fixture = *state;
	struct outcome outcome;

	set_origin(fixture, "brief.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		fixture->server.rows = &none[i];
		fixture->server.row_count = 1;
		pass(fixture, 3600);
		for (int again = 0; again < 3; again++) {
			/* Nobody waits for who does not answer. */
			assert_true(dial_once(fixture, 2000, &outcome) < 100);
			assert_int_equal(outcome.status, 0);
		}
	}
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_DNS_STALE].value, 24 * 3600 * OS_SECOND);
	pass(fixture, 24 * 3600 - ARRAY_LEN(none) * 3600 - 60);
	dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.status, 0);
	pass(fixture, 120);
	dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.status, DIAL_NO_ADDRESS);
	/* It comes back as soon as there is an answer. */
	fixture->server.rows = rows;
	fixture->server.row_count = ARRAY_LEN(rows);
	pass(fixture, 60);
	dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.status, 0);
}

struct change {
	size_t count;
	uint64_t origin;
	struct os_address addresses[16];
	size_t address_count;
};

static void on_change(void *owner, uint64_t origin, const struct os_address *addresses,
		      size_t count)
{
	struct change *change = owner;

	change->count++;
	change->origin = origin;
	change->address_count = count;
	memcpy(change->addresses, addresses, count * sizeof(*addresses));
}

static void serve(struct fixture *fixture, const struct name_server_row *row)
{
	fixture->server.rows = row;
	fixture->server.row_count = 1;
	pass(fixture, 3600);
}

/* Told when an address is gone; not when there is one more, nobody answers, or half of an answer is missing. */
static void test_changes_are_told(void **state)
{
	static const struct name_server_row two = { .name = "both.test",
						    .v4 = "127.0.0.1",
						    .v4_count = 2,
						    .v6 = "::1" },
					    gone = { .name = "both.test", .manner = NO_SUCH_NAME },
					    half = { .name = "both.test",
						     .v4 = "127.0.0.1",
						     .v4_count = 2,
						     .v6_manner = SERVER_FAILURE },
					    other = { .name = "both.test",
						      .v4 = "127.0.0.2",
						      .v6 = "::1" };
	struct fixture *fixture = *state;
	struct change change = { 0 };
	struct outcome outcome;

	dial_on_change(fixture->dial, on_change, &change);
	set_origin(fixture, "both.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	serve(fixture, &two);
	serve(fixture, &gone);
	serve(fixture, &half);
	assert_int_equal(change.count, 0);
	serve(fixture, &other);
	assert_int_equal(change.count, 1);
	assert_int_equal(change.origin, 1);
	assert_int_equal(change.address_count, 2);
	assert_int_equal(change.addresses[0].ip[3] + change.addresses[1].ip[3], 2);
	serve(fixture, &other);
	assert_int_equal(change.count, 1);
	/* The operator's word comes before, and is followed at once. */
	assert_int_equal(dial_set_hosts(fixture->dial, SPAN("127.0.0.1 both.test\n")), 0);
	assert_int_equal(change.count, 2);
	assert_int_equal(change.address_count, 1);
	assert_int_equal(change.addresses[0].ip[3], 1);
	dial_once(fixture, 500, &outcome);
	assert_int_equal(outcome.peer.family, OS_FAMILY_V4);
}

static void on_refused(void *owner, uint64_t origin, const struct os_address *address)
{
	struct change *refused = owner;

	refused->count++;
	refused->origin = origin;
	refused->addresses[0] = *address;
}

/* What DNS may name for which line. */
static void test_reach(void **state)
{
	enum { NO = DIAL_FORBIDDEN, UNTRIED = -1 };
	static const struct {
		const char *v4, *v6;
		int public, internal, all; /* the status; UNTRIED: nobody knows what is there */
	} reaches[] = {
		{ "127.0.0.1", NULL, NO, 0, 0 },
		{ "127.99.0.1", NULL, NO, DIAL_REFUSED, DIAL_REFUSED },
		{ NULL, "::1", NO, 0, 0 },
		{ NULL, "::ffff:127.0.0.1", NO, 0, 0 },
		{ NULL, "::127.0.0.1", NO, UNTRIED, UNTRIED },
		{ NULL, "64:ff9b::7f00:1", NO, UNTRIED, UNTRIED },
		{ "0.0.0.0", NULL, NO, NO, UNTRIED },
		{ "0.1.2.3", NULL, NO, NO, UNTRIED },
		{ NULL, "::", NO, NO, UNTRIED },
		{ "169.254.169.254", NULL, NO, NO, UNTRIED },
		{ NULL, "::ffff:169.254.169.254", NO, NO, UNTRIED },
		{ NULL, "64:ff9b::a9fe:a9fe", NO, NO, UNTRIED },
		{ NULL, "fe80::1", NO, NO, UNTRIED },
		{ NULL, "febf::1", NO, NO, UNTRIED },
		{ NULL, "fd00:ec2::254", NO, NO, UNTRIED },
		{ "224.0.0.1", NULL, NO, NO, NO },
		{ "255.255.255.255", NULL, NO, NO, NO },
		{ NULL, "ff02::1", NO, NO, NO },
		/* One that may is used, whatever stands beside it. */
		{ "127.0.0.1", "fe80::1", NO, 0, UNTRIED },
	};
	struct fixture *fixture = *state;
	struct name_server_row row = { .name = "host.example", .ttl_s = 60 };
	struct outcome outcome;

	fixture->server.rows = &row;
	fixture->server.row_count = 1;
	for (size_t i = 0; i < ARRAY_LEN(reaches); i++) {
		const int wanted[] = { [DIAL_REACH_PUBLIC] = reaches[i].public,
				       [DIAL_REACH_INTERNAL] = reaches[i].internal,
				       [DIAL_REACH_ALL] = reaches[i].all };

		row.v4 = reaches[i].v4;
		row.v6 = reaches[i].v6;
		for (size_t reach = 0; reach < ARRAY_LEN(wanted); reach++) {
			if (wanted[reach] == UNTRIED)
				continue;
			assert_int_equal(dial_set_origins(fixture->dial, NULL, 0), 0);
			set_origin_reach(fixture, "host.example", fixture->port,
					 (enum dial_reach)reach);
			dial_once(fixture, 700, &outcome);
			if ((int)outcome.status != wanted[reach])
				fail_msg("%s %s, reach %zu: status %d, %s", row.v4 ? row.v4 : "",
					 row.v6 ? row.v6 : "", reach, outcome.status,
					 outcome.detail);
		}
	}
}

/* A name that had a good address keeps it when it is turned against us; that is told once. */
static void test_rebinding(void **state)
{
	static const struct name_server_row good = { .name = "host.example", .v4 = "192.0.2.1" },
					    bad = { .name = "host.example", .v4 = "127.0.0.1" };
	struct fixture *fixture = *state;
	struct change refused = { 0 };
	struct outcome outcome;

	dial_on_refused(fixture->dial, on_refused, &refused);
	fixture->server.rows = &good;
	fixture->server.row_count = 1;
	set_origin_reach(fixture, "host.example", fixture->port, DIAL_REACH_PUBLIC);
	dial_once(fixture, 100, &outcome);
	assert_int_not_equal(outcome.status, DIAL_FORBIDDEN);
	assert_int_equal(refused.count, 0);
	for (int i = 0; i < 3; i++)
		serve(fixture, &bad);
	assert_int_equal(refused.count, 1);
	assert_int_equal(refused.origin, 1);
	assert_int_equal(refused.addresses[0].ip[0], 127);
	dial_once(fixture, 100, &outcome);
	assert_int_not_equal(outcome.status, DIAL_FORBIDDEN);
	assert_int_not_equal(outcome.status, 0);
	/* Hosts, and a literal, are the operator's word. */
	assert_int_equal(dial_set_hosts(fixture->dial, SPAN("127.0.0.1 host.example\n")), 0);
	dial_once(fixture, 500, &outcome);
	assert_int_equal(outcome.status, 0);
	set_origin_reach(fixture, "127.0.0.1", fixture->port, DIAL_REACH_PUBLIC);
	dial_once(fixture, 500, &outcome);
	assert_int_equal(outcome.status, 0);
}

static void test_many_addresses(void **state)
{
	struct fixture *fixture = *state;
	char text[4000];
	struct writer writer = writer_of(text, sizeof(text));
	struct change change = { 0 };
	struct outcome outcome;

	dial_on_change(fixture->dial, on_change, &change);
	set_origin(fixture, "many.test", fixture->port);
	dial_once(fixture, 1000, &outcome);
	assert_int_equal(outcome.status, 0);
	for (unsigned i = 101; i < 201; i++)
		write_format(&writer, "127.0.0.%u many.test\n", i);
	assert_int_equal(dial_set_hosts(fixture->dial, writer_done(&writer)), 0);
	assert_int_equal(change.count, 1);
	assert_int_equal(change.address_count,
			 telemetry_limits[TELEMETRY_LIMIT_DNS_ADDRESSES].value);
}

static void on_cut(void *owner, uint64_t origin, bool is_first)
{
	size_t *cuts = owner;

	assert_int_equal(origin, 1);
	cuts[is_first]++;
}

/* One below, just so many, one more: told each time that one is left out, and that it is new. */
static void test_cut_addresses(void **state)
{
	const unsigned max = (unsigned)telemetry_limits[TELEMETRY_LIMIT_DNS_ADDRESSES].value;
	const struct {
		unsigned count;
		size_t again, first;
	} steps[] = { { max - 1, 0, 0 }, { max, 0, 0 }, { max + 1, 0, 1 },
		      { max + 2, 1, 1 }, { max, 1, 1 }, { max + 1, 1, 2 } };
	struct fixture *fixture = *state;
	size_t cuts[2] = { 0 };

	dial_on_cut(fixture->dial, on_cut, cuts);
	set_origin(fixture, "cut.test", fixture->port);
	for (size_t step = 0; step < ARRAY_LEN(steps); step++) {
		char text[4000];
		struct writer writer = writer_of(text, sizeof(text));
		struct outcome outcome;

		for (unsigned i = 0; i < steps[step].count; i++)
			write_format(&writer, "127.0.0.%u cut.test\n127.0.0.1 cut.test\n", i + 1);
		assert_int_equal(dial_set_hosts(fixture->dial, writer_done(&writer)), 0);
		dial_once(fixture, 1000, &outcome);
		assert_int_equal(outcome.status, 0);
		assert_int_equal(cuts[false], steps[step].again);
		assert_int_equal(cuts[true], steps[step].first);
	}
}

/* So many are asked for at once; one that is known needs no answer, another is told that it has to wait. */
static void test_many_names(void **state)
{
	enum { KNOWN, MAX = 1024, ONE_MORE, COUNT };
	static struct dial_origin origins[COUNT];
	static char names[COUNT][16];
	static struct outcome outcomes[COUNT];
	struct fixture *fixture = *state;
	struct dial_attempt *attempts[COUNT];

	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_DNS_QUESTIONS].value, MAX);
	for (size_t i = 0; i < COUNT; i++) {
		snprintf(names[i], sizeof(names[i]), "n%zu.test", i);
		origins[i] =
			(struct dial_origin){ .id = i + 1,
					      .host = i ? span_str(names[i]) : SPAN("brief.test"),
					      .port = fixture->port };
	}
	assert_int_equal(dial_set_origins(fixture->dial, origins, COUNT), 0);
	dial_once(fixture, 500, &outcomes[KNOWN]);
	fixture->server.is_silent = true;
	for (size_t i = 1; i < COUNT; i++)
		assert_int_equal(dial_start(fixture->dial, i + 1, 60000, on_done, &outcomes[i],
					    &attempts[i]),
				 0);
	assert_true(dial_once(fixture, 500, &outcomes[KNOWN]) < 100);
	assert_int_equal(outcomes[KNOWN].status, 0);
	wait_done(fixture, &outcomes[ONE_MORE]);
	assert_int_equal(outcomes[ONE_MORE].status, DIAL_QUESTIONS);
	assert_non_null(strstr(outcomes[ONE_MORE].detail, "too many names"));
	for (size_t i = 1; i < ONE_MORE; i++) {
		assert_false(outcomes[i].is_done);
		dial_cancel(attempts[i]);
	}
}

static void test_failures_pause(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome;
	size_t questions;

	set_origin(fixture, "absent.test", fixture->port);
	dial_once(fixture, 500, &outcome);
	questions = fixture->server.questions;
	for (int i = 0; i < 20; i++) {
		dial_once(fixture, 500, &outcome);
		assert_int_equal(outcome.status, DIAL_NO_ADDRESS);
	}
	assert_int_equal(fixture->server.questions, questions);
}

static void test_silent_server_is_passed_over(void **state)
{
	struct fixture *fixture = *state;
	struct name_server silent;
	struct outcome outcome;
	uint64_t took_ms;

	name_server_start(&silent, fixture->loop, rows, 0);
	silent.is_silent = true;
	set_resolver(fixture, silent.port, fixture->server.port);
	set_origin(fixture, "four.test", fixture->port);
	took_ms = dial_once(fixture, 2000, &outcome);
	assert_int_equal(outcome.status, 0);
	assert_in_range(took_ms, 300, 1000);
	name_server_stop(&silent);
}

/* The second question over TCP comes when the connection has stood for a while, with room to write: nobody tells of
 * that room again. */
static void test_long_answers_come_over_tcp(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome;

	set_origin(fixture, "long.test", fixture->port);
	dial_once(fixture, 4000, &outcome);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(outcome.peer.family, OS_FAMILY_V4);
	assert_int_equal(fixture->server.questions, 2);
	assert_int_equal(fixture->server.tcp_questions, 2);
}

/* One name that nobody answers for holds up no other. */
static void test_silence_blocks_nobody(void **state)
{
	struct fixture *fixture = *state;
	struct dial_origin origins[] = {
		{ .id = 1, .host = SPAN("four.test"), .port = fixture->port },
		{ .id = 2, .host = SPAN("silent.test"), .port = fixture->port },
	};
	struct outcome silent[50] = { 0 }, outcome;
	struct dial_attempt *attempt;

	assert_int_equal(dial_set_origins(fixture->dial, origins, 2), 0);
	for (size_t i = 0; i < ARRAY_LEN(silent); i++)
		assert_int_equal(dial_start(fixture->dial, 2, 400, on_done, &silent[i], &attempt),
				 0);
	assert_true(dial_once(fixture, 2000, &outcome) < 100);
	assert_int_equal(outcome.status, 0);
	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		wait_done(fixture, &silent[i]);
		assert_int_equal(silent[i].status, DIAL_NO_ADDRESS);
	}
}

static void test_new_servers_while_asking(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome = { 0 };
	struct dial_attempt *attempt;

	fixture->server.is_silent = true;
	set_origin(fixture, "four.test", fixture->port);
	assert_int_equal(dial_start(fixture->dial, 1, 3000, on_done, &outcome, &attempt), 0);
	turns(fixture, 50);
	fixture->server.is_silent = false;
	/* Other text, same server. */
	set_resolver(fixture, fixture->server.port, fixture->server.port);
	assert_true(wait_done(fixture, &outcome) < 300);
	assert_int_equal(outcome.status, 0);
}

/* At every moment: nothing is told afterwards, nothing is left (ASan, LSan). */
static void test_cancel(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",   "four.test", "silent.test",
					     "half.test", "absent.test", "a..b" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		for (uint32_t after = 0; after < 4; after++) {
			struct outcome outcome = { 0 };
			struct dial_attempt *attempt;

			set_origin(fixture, hosts[i], fixture->port);
			assert_int_equal(
				dial_start(fixture->dial, 1, 1000, on_done, &outcome, &attempt), 0);
			for (uint32_t turn = 0; turn < after && !outcome.is_done; turn++)
				assert_int_equal(os_loop_turn(fixture->loop, 1, NULL, NULL), 0);
			if (!outcome.is_done) {
				dial_cancel(attempt);
				turns(fixture, 10);
				assert_false(outcome.is_done);
			}
		}
	}
	/* And what is open when everything ends, and origins that go while they are dialled. */
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		static struct outcome outcome;
		struct dial_attempt *attempt;

		outcome.is_done = false;
		set_origin(fixture, hosts[i], fixture->port);
		assert_int_equal(dial_start(fixture->dial, 1, 60000, on_done, &outcome, &attempt),
				 0);
		assert_int_equal(dial_set_origins(fixture->dial, NULL, 0), 0);
	}
}

/* In a network of its own this machine gets a public address. */
static int setup_network(void **state)
{
	*state = NULL;
	if (unshare(CLONE_NEWNET) ||
	    system("ip link set lo up && ip address add 203.0.113.7/32 dev lo"))
		return 0;
	return setup(state);
}

static int teardown_network(void **state)
{
	return *state ? teardown(state) : 0;
}

static void test_our_own_listener(void **state)
{
	static const struct name_server_row row = { .name = "host.example",
						    .v4 = "203.0.113.7",
						    .ttl_s = 60 };
	static const struct os_address elsewhere = { .family = OS_FAMILY_V4,
						     .ip = { 10, 0, 0, 1 } },
				       there = { .family = OS_FAMILY_V4, .ip = { 203, 0, 113, 7 } },
				       any = { .family = OS_FAMILY_V6 };
	static const struct {
		const struct os_address *listener;
		enum dial_reach reach;
		bool is_other_port;
		enum dial_status status;
	} listeners[] = {
		{ &any, DIAL_REACH_PUBLIC, false, DIAL_FORBIDDEN },
		{ &there, DIAL_REACH_PUBLIC, false, DIAL_FORBIDDEN },
		{ &elsewhere, DIAL_REACH_PUBLIC, false, DIAL_REFUSED },
		{ &any, DIAL_REACH_PUBLIC, true, DIAL_REFUSED },
		{ &any, DIAL_REACH_INTERNAL, false, DIAL_REFUSED },
		{ &any, DIAL_REACH_ALL, false, DIAL_REFUSED },
	};
	struct fixture *fixture = *state;
	struct change refused = { 0 };
	struct outcome outcome;

	if (!fixture)
		skip();
	dial_on_refused(fixture->dial, on_refused, &refused);
	fixture->server.rows = &row;
	fixture->server.row_count = 1;
	for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
		struct os_address listener = *listeners[i].listener;

		listener.port =
			(uint16_t)(fixture->closed_port + (listeners[i].is_other_port ? 1 : 0));
		assert_int_equal(dial_set_listeners(fixture->dial, &listener, 1), 0);
		set_origin_reach(fixture, "host.example", fixture->closed_port, listeners[i].reach);
		dial_once(fixture, 500, &outcome);
		if (outcome.status != listeners[i].status)
			fail_msg("%zu: status %d, %s", i, outcome.status, outcome.detail);
	}
	assert_int_equal(refused.count, 1);
	assert_int_equal(refused.addresses[0].ip[0], 203);
}

struct chain {
	struct fixture *fixture;
	int left;
	struct outcome last;
};

static void on_chain(void *owner, struct dial_attempt *attempt, const struct dial_result *result)
{
	struct chain *chain = owner;
	struct dial_attempt *next;

	if (--chain->left == 0) {
		on_done(&chain->last, attempt, result);
		return;
	}
	if (!result->status)
		os_close(result->fd);
	assert_int_equal(dial_start(chain->fixture->dial, 1, 500, on_chain, chain, &next), 0);
}

static void test_dial_from_its_own_answer(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "four.test", "absent.test", "localhost" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct chain chain = { .fixture = fixture, .left = 20 };
		struct dial_attempt *attempt;

		set_origin(fixture, hosts[i], fixture->port);
		assert_int_equal(dial_start(fixture->dial, 1, 500, on_chain, &chain, &attempt), 0);
		wait_done(fixture, &chain.last);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cases),
		TEST(test_unknown_origin),
		TEST(test_unix),
		TEST(test_timeout),
		TEST(test_next_address_after_250_ms),
		TEST(test_the_family_that_was_good),
		TEST(test_room_for_further_addresses),
		TEST(test_answers_are_kept),
		TEST(test_ttl),
		TEST(test_ttl_of_zero),
		TEST(test_changes_are_told),
		TEST(test_reach),
		TEST(test_rebinding),
		TEST(test_many_addresses),
		TEST(test_cut_addresses),
		TEST(test_many_names),
		TEST(test_last_good_answer_is_kept),
		TEST(test_failures_pause),
		TEST(test_silent_server_is_passed_over),
		TEST(test_long_answers_come_over_tcp),
		TEST(test_silence_blocks_nobody),
		TEST(test_new_servers_while_asking),
		TEST(test_cancel),
		TEST(test_dial_from_its_own_answer),
		cmocka_unit_test_setup_teardown(test_our_own_listener, setup_network,
						teardown_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
