#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "keys/keys.h"

enum { HEAP_SIZE = 8 * 1024 * 1024, OBJECT_COUNT = 512, STEP_COUNT = 200000 };

struct object {
	unsigned char *memory;
	size_t size;
	unsigned char fill;
};

static uint32_t random_state = 12345; /* the same steps every time */

static uint32_t next_random(uint32_t below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % below;
}

static size_t next_size(void)
{
	static const uint32_t limits[] = { 16, 64, 300, 2048, 20000 };

	return next_random(limits[next_random(ARRAY_LEN(limits))]);
}

static void check(const struct object *object)
{
	assert_int_equal((uintptr_t)object->memory % 16, 0);
	for (size_t i = 0; i < object->size; i++)
		if (object->memory[i] != object->fill)
			fail_msg("byte %zu of %zu", i, object->size);
}

static void fill(struct object *object)
{
	object->fill = (unsigned char)(1 + next_random(255));
	memset(object->memory, object->fill, object->size);
}

/* Every object holds its own pattern up to its last byte: overlaps show at the next look. */
static void test_stress(void **state)
{
	static struct object objects[OBJECT_COUNT];
	void *memory = aligned_alloc(4096, HEAP_SIZE);
	struct keys_heap *heap;
	struct keys_heap_use use;

	(void)state;
	memset(memory, 0, HEAP_SIZE);
	heap = keys_heap_new(memory, HEAP_SIZE);
	assert_non_null(heap);
	for (int step = 0; step < STEP_COUNT; step++) {
		struct object *object = &objects[next_random(OBJECT_COUNT)];
		if (!object->memory) {
			object->size = next_size();
			object->memory = keys_heap_alloc(heap, object->size);
			assert_non_null(object->memory);
			fill(object);
			continue;
		}
		check(object);
		if (next_random(3) > 0) {
			keys_heap_free(heap, object->memory);
			object->memory = NULL;
			continue;
		}
		size_t size = next_size(), kept = size < object->size ? size : object->size;
		object->memory = keys_heap_resize(heap, object->memory, size);
		assert_non_null(object->memory);
		object->size = kept;
		check(object);
		object->size = size;
		fill(object);
	}
	for (size_t i = 0; i < OBJECT_COUNT; i++)
		keys_heap_free(heap, objects[i].memory);
	keys_heap_get_use(heap, &use);
	assert_int_equal(use.used, 0);
	assert_int_equal(use.objects, 0);
	assert_true(use.peak > 0 && use.peak <= use.size);
	free(memory);
}

static bool holds(const void *memory, size_t size, const char *text)
{
	return memmem(memory, size, text, strlen(text)) != NULL;
}

static void test_wipes(void **state)
{
	enum { SIZE = 128 * 1024 };
	static const char secret[] = "very secret words, forty of them or so..";
	void *memory = aligned_alloc(4096, SIZE);

	(void)state;
	memset(memory, 0, SIZE);
	struct keys_heap *heap = keys_heap_new(memory, SIZE);
	char *object = keys_heap_alloc(heap, sizeof(secret));
	memcpy(object, secret, sizeof(secret));
	object = keys_heap_resize(heap, object, 4000); /* moves: the old place is wiped */
	assert_memory_equal(object, secret, sizeof(secret));
	memcpy(object + 2000, secret, sizeof(secret));
	object = keys_heap_resize(heap, object, 2000); /* stays: the end is wiped */
	memset(object, 0, sizeof(secret));
	assert_false(holds(memory, SIZE, secret));
	memcpy(object, secret, sizeof(secret));
	assert_true(holds(memory, SIZE, secret));
	keys_heap_free(heap, object);
	assert_false(holds(memory, SIZE, secret));
	free(memory);
}

static void test_full(void **state)
{
	enum { SIZE = 64 * 1024 };
	static void *objects[4096];
	void *memory = aligned_alloc(4096, SIZE);
	size_t count = 0;

	(void)state;
	assert_null(keys_heap_new(memory, SIZE - 1));
	struct keys_heap *heap = keys_heap_new(memory, SIZE);
	assert_null(keys_heap_alloc(heap, SIZE));
	assert_null(keys_heap_alloc(heap, SIZE_MAX));
	assert_null(keys_heap_alloc(heap, SIZE_MAX - 8));
	keys_heap_free(heap, NULL);
	while ((objects[count] = keys_heap_alloc(heap, 100)))
		count++;
	assert_true(count > 300);
	assert_null(keys_heap_resize(heap, objects[0], 1000)); /* and it is still there */
	while (keys_heap_alloc(heap, 10))
		;
	keys_heap_free(heap, objects[0]);
	/* The rest is used up: a bigger class lends. */
	void *small = keys_heap_alloc(heap, 10);
	assert_non_null(small);
	assert_null(keys_heap_alloc(heap, 10));
	keys_heap_free(heap, small);
	for (size_t i = 1; i < count; i++)
		keys_heap_free(heap, objects[i]);
	for (size_t i = 0; i < count; i++)
		assert_non_null(keys_heap_alloc(heap, 100));
	free(memory);
}

static void test_zero_size(void **state)
{
	void *memory = aligned_alloc(4096, 128 * 1024);
	struct keys_heap *heap = keys_heap_new(memory, 128 * 1024);

	(void)state;
	void *a = keys_heap_alloc(heap, 0), *b = keys_heap_alloc(heap, 0);
	assert_true(a && b && a != b);
	keys_heap_free(heap, a);
	keys_heap_free(heap, keys_heap_resize(heap, b, 0));
	assert_non_null(keys_heap_resize(heap, NULL, 5));
	assert_int_equal(keys_heap_size_for(0), 2 * 1024 * 1024);
	assert_int_equal(keys_heap_size_for(1000), 2 * 1024 * 1024 + 16000 * 1024);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stress),
		cmocka_unit_test(test_wipes),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_zero_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
