#include "world.h"

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

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static uint32_t idle_count(void)
{
	return upstream_count(world.upstream).idle;
}

/* A connection that lies idle; its far end, which is the caller's. */
static int make_idle(const char *answer)
{
	struct owner *owner = owner_new(&world, "GET", "/");
	int fd;

	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	world.far = -1;
	origin_heard(fd);
	origin_says(fd, answer);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
	return fd;
}

static void test_reuse_newest_first(void **state)
{
	struct owner *owners[3];
	int fds[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		owners[i] = owner_new(&world, "GET", "/");
		assert_int_equal(owner_start(owners[i]), 0);
		fds[i] = origin_accept(&world);
		world.far = -1;
		origin_heard(fds[i]);
	}
	for (int i = 0; i < 3; i++) {
		origin_says(fds[i], OK);
		world_turns(&world, 2);
	}
	assert_int_equal(idle_count(), 3);
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(owner_start(owners[i]), 0);
		assert_true(owners[i]->fetch.was_reused);
		assert_non_null(strstr(origin_heard(fds[i]), "GET / "));
	}
	assert_int_equal(world.dials, 3);
	for (int i = 0; i < 3; i++) {
		owner_free(owners[i]);
		os_close(fds[i]);
	}
}

/* What happens to an idle connection before the next request: it must not be used. */
static void test_spoilt_idle(void **state)
{
	enum { CLOSED, CLOSED_UNSEEN, STRAY, STRAY_UNSEEN, COUNT };

	(void)state;
	for (int way = 0; way < COUNT; way++) {
		int fd = make_idle(OK);
		struct owner *owner = owner_new(&world, "GET", "/");

		assert_int_equal(idle_count(), 1);
		if (way == CLOSED || way == CLOSED_UNSEEN)
			origin_closes(&fd);
		else
			origin_says(fd, "HTTP/1.1 408 Timeout\r\n\r\n");
		if (way == CLOSED || way == STRAY) {
			world_turns(&world, 1);
			assert_int_equal(idle_count(), 0);
		}
		assert_int_equal(owner_start(owner), 0);
		assert_false(owner->fetch.was_reused);
		assert_non_null(world.asked);
		owner_free(owner);
		os_close(fd);
		world_turns(&world, 1);
	}
}

struct death_case {
	const char *name, *method;
	bool has_body, closes_by_reset;
	const char *before; /* what the origin says before it goes */
	bool is_retried;
};

static const struct death_case death_cases[] = {
	{ "GET", "GET", .is_retried = true },
	{ "POST", "POST", .is_retried = false },
	{ "POST with a body", "POST", .has_body = true, .is_retried = false },
	{ "PUT with a body", "PUT", .has_body = true, .is_retried = false },
	{ "GET, answer begun", "GET", .before = "H", .is_retried = false },
	{ "GET, interim answer", "GET", .before = "HTTP/1.1 103 Hints\r\n\r\n",
	  .is_retried = false },
};

/* It takes the request on a connection of before and goes. */
static void test_death_of_a_reused_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(death_cases); i++) {
		const struct death_case *test = &death_cases[i];
		int fd = make_idle(OK);
		struct owner *owner = owner_new(&world, test->method, "/");
		unsigned dials = world.dials;
		size_t taken;

		print_message("  %s\n", test->name);
		owner->request.has_body = test->has_body;
		owner->request.may_retry &= !test->has_body;
		assert_int_equal(owner_start(owner), 0);
		assert_true(owner->fetch.was_reused);
		if (test->has_body)
			assert_int_equal(
				upstream_fetch_write(&owner->fetch, SPAN("x"), true, &taken), 0);
		world_turns(&world, 1);
		assert_non_null(strstr(origin_heard(fd), test->method));
		if (test->before)
			origin_says(fd, test->before);
		origin_closes(&fd);
		world_turns(&world, 3);
		assert_int_equal(world.dials - dials, test->is_retried);
		assert_int_equal(owner->fetch.was_retried, test->is_retried);
		if (test->is_retried) {
			fd = origin_accept(&world);
			assert_false(owner->fetch.was_reused);
			assert_non_null(strstr(origin_heard(fd), "GET / "));
			/* Once: the second death is an answer. */
			origin_closes(&world.far);
			world_turns(&world, 3);
		}
		assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
		assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_CLOSED);
		assert_null(world.asked);
		owner_free(owner);
	}
}

/* Where the write itself fails nothing was sent, so sending it elsewhere sends it once, whatever it is. */
static void test_nothing_sent(void **state)
{
	int fd = make_idle(OK);
	struct owner *owner = owner_new(&world, "POST", "/");
	size_t taken;

	(void)state;
	owner->request.has_body = true;
	assert_int_equal(owner_start(owner), 0);
	assert_true(owner->fetch.was_reused);
	origin_closes(&fd);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("abc"), true, &taken),
			 UPSTREAM_MORE);
	assert_int_equal(taken, 0);
	fd = origin_accept(&world);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("abc"), true, &taken), 0);
	assert_non_null(strstr(origin_heard(fd), "\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
}

static void test_retirement(void **state)
{
	struct owner *owner = owner_new(&world, "POST", "/");
	int fd;

	(void)state;
	world.limits.idle_ms = 30000;
	upstream_set_limits(world.upstream, &world.limits);
	fd = make_idle(OK);
	world_wait_ms(&world, 15000);
	assert_int_equal(idle_count(), 1);
	world_wait_ms(&world, 30000);
	assert_int_equal(idle_count(), 0);
	assert_int_equal(os_read(fd, (char[1]){ 0 }, 1), 0);
	os_close(fd);
	/* One second less than the origin says; at 1 s there is none left. */
	fd = make_idle("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(idle_count(), 0);
	os_close(fd);
	fd = make_idle(
		"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=20, max=9\r\nContent-Length: 0\r\n\r\n");
	world_wait_ms(&world, 9000);
	assert_int_equal(idle_count(), 1);
	world_wait_ms(&world, 11000);
	assert_int_equal(idle_count(), 0);
	os_close(fd);
	/* What must not be sent twice goes out on a connection of just now only. */
	world.limits.idle_ms = 300000;
	upstream_set_limits(world.upstream, &world.limits);
	fd = make_idle(OK);
	world_wait_ms(&world, 1010);
	assert_int_equal(idle_count(), 1);
	assert_int_equal(owner_start(owner), 0);
	assert_false(owner->fetch.was_reused);
	owner_free(owner);
	os_close(fd);
}

static void test_limits(void **state)
{
	struct owner *owners[9];
	int fds[8];

	(void)state;
	for (int i = 0; i < 9; i++)
		owners[i] = owner_new(&world, "GET", "/");
	for (int i = 0; i < 8; i++) {
		assert_int_equal(owner_start(owners[i]), 0);
		fds[i] = origin_accept(&world);
		world.far = -1;
	}
	assert_int_equal(owner_start(owners[8]), UPSTREAM_NO_ROOM);
	assert_int_equal(owners[8]->fetch.state, UPSTREAM_IDLE);
	for (int i = 0; i < 8; i++) {
		origin_says(fds[i], OK);
		world_turns(&world, 2);
	}
	assert_int_equal(idle_count(), 4);
	for (int i = 0; i < 9; i++)
		owner_free(owners[i]);
	for (int i = 0; i < 8; i++)
		os_close(fds[i]);
}

static void test_keep_only(void **state)
{
	const uint64_t others[] = { 1, 2 }, this[] = { 1, WORLD_ORIGIN };
	struct owner *owner;
	int fd = make_idle(OK);

	(void)state;
	upstream_keep_only(world.upstream, this, 2);
	assert_int_equal(idle_count(), 1);
	owner = owner_new(&world, "GET", "/");
	assert_int_equal(owner_start(owner), 0);
	upstream_keep_only(world.upstream, others, 2);
	/* What is under way ends as usual, but is not kept. */
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(idle_count(), 0);
	owner_free(owner);
	os_close(fd);
	fd = make_idle(OK);
	assert_int_equal(idle_count(), 1);
	upstream_keep_only(world.upstream, others, 2);
	assert_int_equal(idle_count(), 0);
	os_close(fd);
}

/* What lies idle at an address that is gone is closed; what is under way there ends as usual, and is not kept. */
static void test_addresses_that_are_gone(void **state)
{
	/* The world's origins are socket pairs. */
	const struct os_address kept[] = { { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } },
					   { .family = OS_FAMILY_UNIX } };
	struct owner *owner;
	int fd = make_idle(OK);

	(void)state;
	upstream_origin_addresses(world.upstream, WORLD_ORIGIN, kept, 2);
	upstream_origin_addresses(world.upstream, WORLD_ORIGIN + 1, kept, 1);
	assert_int_equal(idle_count(), 1);
	owner = owner_new(&world, "GET", "/");
	assert_int_equal(owner_start(owner), 0);
	upstream_origin_addresses(world.upstream, WORLD_ORIGIN, kept, 1);
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(idle_count(), 0);
	owner_free(owner);
	os_close(fd);
	fd = make_idle(OK);
	upstream_origin_addresses(world.upstream, WORLD_ORIGIN, kept, 1);
	assert_int_equal(idle_count(), 0);
	os_close(fd);
}

/* ---- Dialing --------------------------------------------------------------------------------------------------- */

static const struct {
	uint32_t status;
	enum telemetry_end end;
} dial_cases[] = {
	{ 1, TELEMETRY_END_ORIGIN_REFUSED },   { 2, TELEMETRY_END_ORIGIN_UNREACHABLE },
	{ 3, TELEMETRY_END_ORIGIN_DNS },       { 4, TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT },
	{ 5, TELEMETRY_END_ORIGIN_FORBIDDEN }, { 6, TELEMETRY_END_HELPER_GONE },
	{ 4711, TELEMETRY_END_HELPER_GONE },
};

static void test_dial_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(dial_cases); i++) {
		struct owner *owner = owner_new(&world, "GET", "/");
		char detail[] = "because";

		assert_int_equal(owner_start(owner), 0);
		upstream_dial_failed(TAKE(world.asked), dial_cases[i].status, span_str(detail));
		memset(detail, 'x', sizeof(detail));
		world_turns(&world, 1);
		assert_int_equal(owner->wakes, 1);
		assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
		assert_int_equal(owner->fetch.failure.end, dial_cases[i].end);
		assert_true(span_equal(owner->fetch.failure.detail, SPAN("because")));
		assert_int_equal(world.cancels, 0);
		owner_free(owner);
	}
	world.dial_fails = true;
	struct owner *owner = owner_new(&world, "GET", "/");

	assert_int_equal(owner_start(owner), -ENOMEM);
	owner_free(owner);
}

static void test_stop(void **state)
{
	struct owner *owner = owner_new(&world, "GET", "/");
	int fd;

	(void)state;
	upstream_fetch_stop(&owner->fetch);
	assert_int_equal(owner_start(owner), 0);
	upstream_fetch_stop(&owner->fetch);
	assert_int_equal(world.cancels, 1);
	upstream_fetch_stop(&owner->fetch);
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	origin_says(fd, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
	upstream_fetch_stop(&owner->fetch);
	world_turns(&world, 3);
	assert_int_equal(owner->wakes, 0);
	assert_int_equal(idle_count(), 0);
	origin_heard(fd);
	assert_int_equal(os_read(fd, (char[1]){ 0 }, 1), 0);
	owner_free(owner);
}

/* ---- Connections of one client ------------------------------------------------------------------------------- */

static struct owner *owner_of(struct upstream_client *client, struct span first)
{
	struct owner *owner = owner_new(&world, "GET", "/");

	owner->request.first = first;
	owner->request.client = client;
	return owner;
}

/* A whole exchange on a fresh connection, whose far end is the caller's. */
static int first_exchange(struct upstream_client *client, struct span first)
{
	struct owner *owner = owner_of(client, first);
	unsigned dials = world.dials;
	const char *heard;
	int fd;

	assert_int_equal(owner_start(owner), 0);
	assert_int_equal(world.dials, dials + 1);
	fd = origin_accept(&world);
	world.far = -1;
	heard = origin_heard(fd);
	assert_memory_equal(heard, first.ptr, first.len);
	assert_memory_equal(heard + first.len, "GET / ", 6);
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
	return fd;
}

static void again_on(int fd, struct upstream_client *client, struct span first)
{
	struct owner *owner = owner_of(client, first);

	assert_int_equal(owner_start(owner), 0);
	assert_true(owner->fetch.was_reused);
	assert_memory_equal(origin_heard(fd), "GET / ", 6);
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	owner_free(owner);
}

static bool has_ended(int fd)
{
	origin_heard(fd);
	return os_read(fd, (char[1]){ 0 }, 1) == 0;
}

#define FIRST_A SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\r\n")
#define FIRST_B SPAN("PROXY TCP4 192.0.2.8 198.51.100.1 4567 443\r\n")

static void test_own_connections(void **state)
{
	struct upstream_client a, b;
	int of_a, of_a_too, of_b, of_all;

	(void)state;
	upstream_client_init(&a);
	upstream_client_init(&b);
	of_a = first_exchange(&a, FIRST_A);
	/* Other words (somebody else's request on the same client's connection), another client, nobody's. */
	of_a_too = first_exchange(&a, FIRST_B);
	of_b = first_exchange(&b, FIRST_A);
	of_all = make_idle(OK);
	assert_int_equal(idle_count(), 4);
	again_on(of_a, &a, FIRST_A);
	again_on(of_a_too, &a, FIRST_B);
	again_on(of_b, &b, FIRST_A);
	again_on(of_all, NULL, SPAN_NONE);
	assert_int_equal(idle_count(), 4);

	upstream_client_leave(&a);
	world_turns(&world, 1);
	assert_int_equal(idle_count(), 2);
	assert_true(has_ended(of_a) && has_ended(of_a_too));
	assert_false(has_ended(of_b) || has_ended(of_all));
	upstream_client_leave(&b);
	assert_int_equal(idle_count(), 1);
	assert_true(has_ended(of_b));
	for (size_t i = 0; i < 4; i++)
		os_close((int[]){ of_a, of_a_too, of_b, of_all }[i]);
}

/* Of nobody: a check. It is used once. */
static void test_own_without_client(void **state)
{
	int fd = first_exchange(NULL, FIRST_A);

	(void)state;
	assert_int_equal(idle_count(), 0);
	assert_true(has_ended(fd));
	os_close(fd);
}

static void test_own_client_leaves_first(void **state)
{
	struct upstream_client client;
	struct owner *owner = owner_of(&client, FIRST_A);
	int fd;

	(void)state;
	upstream_client_init(&client);
	assert_int_equal(owner_start(owner), 0);
	fd = origin_accept(&world);
	upstream_client_leave(&client);
	origin_says(fd, OK);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(idle_count(), 0);
	assert_true(has_ended(fd));
	owner_free(owner);
}

/* What an origin closed while it lay idle is dialed again, and begins with its words again. */
static void test_own_is_stale(void **state)
{
	struct upstream_client client;
	struct owner *owner = owner_of(&client, FIRST_A);
	const char *heard;
	int fd;

	(void)state;
	upstream_client_init(&client);
	fd = first_exchange(&client, FIRST_A);
	assert_int_equal(owner_start(owner), 0);
	assert_true(owner->fetch.was_reused);
	origin_closes(&fd);
	world_turns(&world, 2);
	assert_true(owner->fetch.was_retried);
	heard = origin_heard(origin_accept(&world));
	assert_memory_equal(heard, FIRST_A.ptr, FIRST_A.len);
	assert_memory_equal(heard + FIRST_A.len, "GET / ", 6);
	owner_free(owner);
	upstream_client_leave(&client);
}

/* An origin that takes the words and ends has heard nothing of the request. */
static void test_own_words_are_no_request(void **state)
{
	struct upstream_client client;
	struct owner *owner = owner_of(&client, FIRST_A);

	(void)state;
	upstream_client_init(&client);
	assert_int_equal(owner_start(owner), 0);
	origin_accept_and(&world, "");
	assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_CLOSED);
	assert_true(owner->fetch.failure.is_unsent);
	owner_free(owner);
	upstream_client_leave(&client);
}

/* Idle ones of others make room for one more. */
static void test_own_of_many(void **state)
{
	struct upstream_client clients[5];
	int fds[5];

	(void)state;
	world.limits.connections_per_origin = 4;
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		upstream_client_init(&clients[i]);
		fds[i] = first_exchange(&clients[i], FIRST_A);
	}
	assert_int_equal(idle_count(), 4);
	assert_true(has_ended(fds[0]));
	assert_false(has_ended(fds[4]));
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		upstream_client_leave(&clients[i]);
		os_close(fds[i]);
	}
	assert_int_equal(idle_count(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reuse_newest_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spoilt_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_that_are_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_death_of_a_reused_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retirement, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dial_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_without_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_client_leaves_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_words_are_no_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_of_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
