#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { KEYS = 512, ROUNDS = 200000 };

/* The same changes to a plain array say what the map must hold. */
static void test_against_array(void **state)
{
	static char places[KEYS];
	void *model[KEYS] = { 0 };
	size_t live = 0;
	uint64_t random = 1;
	struct map map;

	(void)state;
	map_init(&map);
	for (int i = 0; i < ROUNDS; i++) {
		size_t key, which;

		random = random * 6364136223846793005u + 1442695040888963407u;
		key = (random >> 33) % KEYS;
		which = (random >> 50) % 8;
		if (which < (i / 20000 % 2 ? 2u : 5u)) {
			live += !model[key];
			model[key] = &places[(key + which) % KEYS];
			assert_int_equal(map_set(&map, key << 40, model[key]), 0);
		} else {
			live -= !!model[key];
			assert_ptr_equal(map_remove(&map, key << 40), model[key]);
			model[key] = NULL;
		}
		assert_int_equal(map.used, live);
		assert_ptr_equal(map_get(&map, key << 40), model[key]);
	}
	for (size_t key = 0; key < KEYS; key++)
		assert_ptr_equal(map_get(&map, key << 40), model[key]);
	/* Holes do not make it grow without end. */
	assert_true(map.capacity <= 4 * KEYS);
	map_fini(&map);
}

static void test_walk_and_remove(void **state)
{
	char seen[300] = { 0 };
	struct map map;
	size_t cursor = 0;
	uint64_t key;
	int count = 0;

	(void)state;
	map_init(&map);
	assert_null(map_next(&map, &cursor, &key));
	assert_null(map_get(&map, 7));
	assert_null(map_remove(&map, 7));
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(map_set(&map, i, &seen[i]), 0);
	for (char *value; (value = map_next(&map, &cursor, &key)); count++) {
		assert_ptr_equal(value, &seen[key]);
		assert_int_equal(seen[key]++, 0);
		if (key % 3)
			assert_ptr_equal(map_remove(&map, key), value);
	}
	assert_int_equal(count, 300);
	assert_int_equal(map.used, 100);
	map_fini(&map);
	assert_null(map_get(&map, 3));
}

/* A key comes and goes for ever: the holes must neither fill the map nor let it grow. */
static void test_churn(void **state)
{
	char value;
	struct map map;

	(void)state;
	map_init(&map);
	for (uint64_t i = 0; i < 100000; i++) {
		assert_int_equal(map_set(&map, i, &value), 0);
		if (i >= 5)
			assert_ptr_equal(map_remove(&map, i - 5), &value);
	}
	assert_int_equal(map.used, 5);
	assert_true(map.capacity <= 32);
	map_fini(&map);
}

/* After map_reserve() no cell moves, so nothing was asked of the heap. */
static void test_reserve(void **state)
{
	struct map map;
	int value;

	(void)state;
	map_init(&map);
	for (uint64_t round = 0; round < 200; round++) {
		size_t count = round * 7 % 50;
		const struct map_cell *cells;

		assert_int_equal(map_reserve(&map, count), 0);
		cells = map.cells;
		for (uint64_t i = 0; i < count; i++) {
			(void)map_remove(&map, round * 31 + i * 3);
			assert_int_equal(map_set(&map, round * 31 + i * 3, &value), 0);
		}
		assert_ptr_equal(map.cells, cells);
	}
	map_fini(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_array),
		cmocka_unit_test(test_walk_and_remove),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_reserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
