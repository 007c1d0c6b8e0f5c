/* Pumps: every byte passes once, in order, past the inspector, whatever the source gives and the sink takes. */
#include "edge/pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BODY_MAX = 400 * 1024 };

/* A script of what source and sink do, from one seed. */
struct scene {
	uint64_t random;
	struct pump pump;
	struct block_pool pool;
	char body[BODY_MAX], inspected[BODY_MAX], taken[BODY_MAX];
	size_t len, read, inspected_len, taken_len;
	bool inspected_last, sink_ended;
	size_t sink_breaks_at, source_breaks_at, inspector_refuses_at; /* SIZE_MAX: never */
};

static uint64_t next_random(struct scene *scene)
{
	scene->random ^= scene->random << 13;
	scene->random ^= scene->random >> 7;
	scene->random ^= scene->random << 17;
	return scene->random;
}

static int source_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct scene *scene = owner;
	size_t left = scene->len - scene->read, n = next_random(scene) % (20 * 1024) + 1;

	assert_true(room > 0);
	if (scene->read >= scene->source_breaks_at)
		return PUMP_BROKEN;
	if (next_random(scene) % 4 == 0)
		return PUMP_WAIT;
	if (!left)
		return PUMP_END;
	n = n < left ? n : left;
	n = n < room ? n : room;
	*ret_bytes = span_of(scene->body + scene->read, n);
	scene->read += n;
	return 0;
}

static int sink_write(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	struct scene *scene = owner;
	size_t n = next_random(scene) % (bytes.len + 1);

	assert_false(scene->sink_ended);
	if (bytes.len && scene->taken_len + bytes.len > scene->sink_breaks_at)
		return PUMP_BROKEN;
	if (next_random(scene) % 3)
		n = bytes.len;
	if (n)
		memcpy(scene->taken + scene->taken_len, bytes.ptr, n);
	scene->taken_len += n;
	*ret_taken = n;
	if (n < bytes.len || (last && next_random(scene) % 5 == 0 && n == 0 && bytes.len))
		return PUMP_WAIT;
	scene->sink_ended = last;
	return 0;
}

static bool inspect(void *owner, struct span bytes, bool last)
{
	struct scene *scene = owner;

	assert_false(scene->inspected_last);
	if (bytes.len)
		memcpy(scene->inspected + scene->inspected_len, bytes.ptr, bytes.len);
	scene->inspected_len += bytes.len;
	scene->inspected_last = last;
	return scene->inspected_len <= scene->inspector_refuses_at;
}

static const struct pump_source source = { .read = source_read };
static const struct pump_sink sink = { .write = sink_write };
static const struct pump_inspector inspector = { .inspect = inspect };

static int run(struct scene *scene, enum pump_mode mode, size_t hold_limit, bool late_sink)
{
	pump_open(&scene->pump, &scene->pool, mode, &source, scene);
	scene->pump.inspector = &inspector;
	scene->pump.inspector_owner = scene;
	scene->pump.hold_limit = hold_limit;
	if (!late_sink)
		pump_set_sink(&scene->pump, &sink, scene);
	for (int turn = 0; turn < 100000; turn++) {
		size_t budget = 64 * 1024;
		int outcome = pump_run(&scene->pump, &budget);

		/* A held body becomes one that passes: whichever bound is larger. */
		assert_true(
			scene->pump.queue.len <= PUMP_PASS_BLOCKS * BLOCK_SIZE ||
			(mode == PUMP_HOLD && scene->pump.queue.len <= hold_limit + BLOCK_SIZE));
		/* Nothing leaves that was not inspected; nothing leaves a held body before its time. */
		assert_true(scene->taken_len <= scene->inspected_len);
		if (mode == PUMP_HOLD && scene->inspected_len < hold_limit &&
		    !scene->inspected_last)
			assert_int_equal(scene->taken_len, 0);
		if (outcome != PUMP_WAIT && outcome != PUMP_YIELD)
			return outcome;
		if (late_sink && turn == 20)
			pump_set_sink(&scene->pump, &sink, scene);
	}
	return 0;
}

static struct scene *scene_new(uint64_t seed)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	scene->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	block_pool_init(&scene->pool, 64);
	scene->sink_breaks_at = scene->source_breaks_at = scene->inspector_refuses_at = SIZE_MAX;
	scene->len = next_random(scene) % (seed % 3 ? BODY_MAX : 2000);
	for (size_t i = 0; i < scene->len; i++)
		scene->body[i] = (char)next_random(scene);
	return scene;
}

static void scene_free(struct scene *scene)
{
	pump_close(&scene->pump);
	assert_int_equal(scene->pool.used, 0);
	block_pool_fini(&scene->pool);
	free(scene);
}

static void test_every_byte_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		struct scene *scene = scene_new(seed);
		enum pump_mode mode = seed % 2 ? PUMP_PASS : PUMP_HOLD;
		size_t hold_limit = seed % 4 < 2 ? 128 * 1024 : 700;

		assert_int_equal(run(scene, mode, hold_limit, seed % 5 == 0), PUMP_END);
		assert_true(scene->sink_ended && scene->inspected_last);
		assert_int_equal(scene->inspected_len, scene->len);
		assert_int_equal(scene->taken_len, scene->len);
		assert_memory_equal(scene->inspected, scene->body, scene->len);
		assert_memory_equal(scene->taken, scene->body, scene->len);
		assert_int_equal(scene->pump.read, scene->len);
		assert_int_equal(scene->pump.written, scene->len);
		assert_false(pump_is_open(&scene->pump));
		scene_free(scene);
	}
}

static void test_what_breaks(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct scene *scene = scene_new(seed * 3 + 1);
		size_t at = scene->len ? next_random(scene) % scene->len : 0;
		int outcome, wanted;

		if (seed % 3 == 0) {
			scene->sink_breaks_at = at;
			wanted = PUMP_SINK_BROKEN;
		} else if (seed % 3 == 1) {
			scene->source_breaks_at = at;
			wanted = PUMP_SOURCE_BROKEN;
		} else {
			scene->inspector_refuses_at = at;
			wanted = PUMP_REFUSED;
		}
		outcome = run(scene, seed % 2 ? PUMP_PASS : PUMP_HOLD, 100 * 1024, false);
		if (scene->len)
			assert_int_equal(outcome, wanted);
		/* Whatever left is a beginning of the body. */
		assert_memory_equal(scene->taken, scene->body, scene->taken_len);
		assert_false(scene->sink_ended && scene->len);
		scene_free(scene);
	}
}

static void test_no_blocks(void **state)
{
	struct scene *scene = scene_new(2);
	int outcome;

	(void)state;
	scene->pool.max = 1;
	scene->len = BODY_MAX;
	outcome = run(scene, PUMP_HOLD, 128 * 1024, false);
	assert_int_equal(outcome, PUMP_NO_MEMORY);
	scene_free(scene);
}

static void test_reluctant(void **state)
{
	struct scene *scene = scene_new(5);
	size_t budget = 1 << 20;

	(void)state;
	pump_open(&scene->pump, &scene->pool, PUMP_PASS, &source, scene);
	scene->pump.is_reluctant = true;
	assert_int_equal(pump_run(&scene->pump, &budget), PUMP_WAIT);
	assert_int_equal(scene->read, 0);
	scene_free(scene);
	/* Who holds a body wants to see it before anybody else: it asks at once. */
	scene = scene_new(5);
	pump_open(&scene->pump, &scene->pool, PUMP_HOLD, &source, scene);
	scene->pump.is_reluctant = true;
	scene->pump.hold_limit = 128 * 1024;
	for (int i = 0; i < 20 && !scene->read; i++)
		assert_int_equal(pump_run(&scene->pump, &budget), PUMP_WAIT);
	assert_true(scene->read > 0);
	scene_free(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_byte_once),
		cmocka_unit_test(test_what_breaks),
		cmocka_unit_test(test_no_blocks),
		cmocka_unit_test(test_reluctant),
	};

	return cmocka_run_group_tests_name("edge/pump", tests, NULL, NULL);
}
