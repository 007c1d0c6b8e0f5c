/* Fetches that wait for a connection: how many, in which order, for how long, and what ends their wait. */
#include "world.h"

#include <string.h>

static struct world world;

enum { QUEUE = 3 };

static int setup(void **state)
{
	(void)state;
	world_init(&world);
	world.limits.connections_per_origin = 1;
	world.limits.queue_per_origin = QUEUE;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_fini(&world);
	return 0;
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define LAST "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

static struct owner *ask(const char *target, int wanted)
{
	struct owner *owner = owner_new(&world, "GET", target);

	assert_int_equal(owner_start(owner), wanted);
	return owner;
}

/* The one connection there is, busy with `target`. */
static struct owner *occupy(const char *target)
{
	struct owner *owner = ask(target, 0);

	assert_false(owner->fetch.was_queued);
	origin_accept(&world);
	assert_non_null(strstr(origin_heard(world.far), target));
	return owner;
}

static void heard(const char *target)
{
	const char *text = origin_heard(world.far);

	if (!strstr(text, target))
		fail_msg("not %s but %s", target, text);
	assert_null(strstr(strstr(text, target) + 1, "GET "));
}

/* One below the limit, at it, and one above; then each in its turn, on one connection. */
static void test_how_many(void **state)
{
	static const char *const targets[QUEUE + 2] = { "/0", "/1", "/2", "/3", "/4" };
	struct owner *owners[QUEUE + 2];

	(void)state;
	owners[0] = occupy(targets[0]);
	for (int i = 1; i <= QUEUE + 1; i++) {
		owners[i] = ask(targets[i], i <= QUEUE ? 0 : UPSTREAM_NO_ROOM);
		assert_int_equal(owners[i]->fetch.state,
				 i <= QUEUE ? UPSTREAM_WORKING : UPSTREAM_IDLE);
	}
	assert_int_equal(world.dials, 1);
	for (int i = 1; i <= QUEUE; i++) {
		origin_says(world.far, OK);
		world_turns(&world, 2);
		assert_int_equal(owners[i - 1]->fetch.state, UPSTREAM_DONE);
		heard(targets[i]);
		assert_true(owners[i]->fetch.was_queued && owners[i]->fetch.was_reused);
	}
	origin_says(world.far, OK);
	world_turns(&world, 2);
	assert_int_equal(owners[QUEUE]->fetch.state, UPSTREAM_DONE);
	assert_int_equal(world.dials, 1);
	for (int i = 0; i < QUEUE + 2; i++)
		owner_free(owners[i]);
}

/* A connection that is closed makes room for a fresh one. */
static void test_fresh(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0);

	(void)state;
	origin_says(world.far, LAST);
	world_turns(&world, 2);
	assert_int_equal(world.dials, 2);
	origin_accept(&world);
	heard("/second");
	/* Also where the one before did not end well. */
	owner_free(first);
	first = ask("/third", 0);
	upstream_fetch_stop(&second->fetch);
	world_turns(&world, 2);
	assert_int_equal(world.dials, 3);
	origin_accept(&world);
	heard("/third");
	owner_free(first);
	owner_free(second);
}

/* Who goes leaves the others in their order; the last to go leaves nothing. */
static void test_who_goes(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0),
		     *third = ask("/third", 0), *fourth;

	(void)state;
	owner_free(second);
	fourth = ask("/fourth", 0);
	origin_says(world.far, OK);
	world_turns(&world, 2);
	heard("/third");
	owner_free(fourth);
	origin_says(world.far, OK);
	world_turns(&world, 2);
	assert_int_equal(third->fetch.state, UPSTREAM_DONE);
	owner_free(first);
	owner_free(third);
	upstream_close_idle(world.upstream);
	world_turns(&world, 2);
}

/* A newcomer of the very turn in which there is room does not come first. */
static void test_nobody_overtakes(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0), *third;

	(void)state;
	upstream_fetch_stop(&first->fetch);
	third = ask("/third", 0);
	assert_true(third->fetch.was_queued);
	world_turns(&world, 2);
	origin_accept(&world);
	heard("/second");
	owner_free(second);
	world_turns(&world, 2);
	origin_accept(&world);
	heard("/third");
	owner_free(first);
	owner_free(third);
}

/* A route that allows more connections has room where another has none. */
static void test_two_routes(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0), *other;

	int far = TAKE_FD(world.far);

	(void)state;
	world.limits.connections_per_origin = 2;
	other = ask("/other", 0);
	assert_false(other->fetch.was_queued);
	origin_accept(&world);
	heard("/other");
	owner_free(other);
	world_turns(&world, 2);
	assert_null(world.asked); /* the second's route has one connection still */
	owner_free(first);
	world_turns(&world, 2);
	origin_accept(&world);
	heard("/second");
	owner_free(second);
	os_close(far);
}

static void test_how_long(void **state)
{
	struct owner *first, *second;

	(void)state;
	first = occupy("/first");
	second = ask("/second", 0);
	first->is_lazy = true;
	origin_says(world.far, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
	world_turns(&world, 2);
	os_clock_move((int64_t)(world.limits.first_byte_ms - 200) * (int64_t)OS_MS, 0);
	world_turns(&world, 3);
	assert_int_equal(second->fetch.state, UPSTREAM_WORKING);
	os_clock_move((int64_t)(400 * OS_MS), 0);
	world_turns(&world, 3);
	assert_int_equal(second->fetch.state, UPSTREAM_FAILED);
	assert_int_equal(second->fetch.failure.end, TELEMETRY_END_QUEUE_FULL);
	assert_true(span_equal(second->fetch.failure.detail, SPAN("waited")));
	assert_int_equal(second->wakes, 1);
	owner_free(second);
	/* Its place is free again. */
	for (int i = 0; i < QUEUE; i++)
		owner_free(ask("/again", 0));
	owner_free(first);
}

/* A body waits with its request: nothing of it is taken, and its owner is woken when it may go. */
static void test_body(void **state)
{
	struct owner *first = occupy("/first"), *post = owner_new(&world, "POST", "/post");
	size_t taken = 1;

	(void)state;
	post->request.has_body = true;
	post->request.content_length = 5;
	assert_int_equal(owner_start(post), 0);
	assert_int_equal(upstream_fetch_write(&post->fetch, SPAN("hello"), true, &taken),
			 UPSTREAM_MORE);
	assert_int_equal(taken, 0);
	assert_int_equal(post->wakes, 0);
	origin_says(world.far, LAST);
	world_turns(&world, 2);
	origin_accept(&world);
	assert_int_equal(post->wakes, 1);
	assert_int_equal(upstream_fetch_write(&post->fetch, SPAN("hello"), true, &taken), 0);
	assert_int_equal(taken, 5);
	assert_non_null(strstr(origin_heard(world.far), "POST /post"));
	owner_free(first);
	owner_free(post);
}

/* No room to dial: the one who waited hears so. */
static void test_no_dial(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0);

	(void)state;
	world.dial_fails = true;
	upstream_fetch_stop(&first->fetch);
	world_turns(&world, 2);
	assert_int_equal(second->fetch.state, UPSTREAM_FAILED);
	assert_int_equal(second->fetch.failure.end, TELEMETRY_END_NO_ROOM);
	owner_free(first);
	owner_free(second);
}

/* The worker ends while somebody waits. */
static void test_end(void **state)
{
	struct owner *first = occupy("/first"), *second = ask("/second", 0);

	(void)state;
	upstream_free(world.upstream);
	world.upstream = NULL;
	owner_free(first);
	owner_free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_how_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fresh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_overtakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_routes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_how_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_dial, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
