#include "base/base.h"

#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_heap_arena(void **state)
{
	struct arena arena;
	size_t first;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(arena_used(&arena), 0);
	for (size_t i = 0; i < 2000; i++) {
		size_t size = i % 97, align = (size_t)1 << i % 5;
		char *object = arena_alloc(&arena, size, align);

		assert_non_null(object);
		assert_int_equal((uintptr_t)object % align, 0);
		for (size_t at = 0; at < size; at++)
			assert_int_equal(object[at], 0);
		memset(object, 0xaa, size);
	}
	assert_true(arena_used(&arena) > 2000 * 40);
	assert_true(arena.taken >= arena_used(&arena));
	arena_reset(&arena);
	assert_int_equal(arena_used(&arena), 0);
	first = arena.taken;
	assert_int_equal(first, 4096);
	/* What the first block held is zeroed when it is handed out again. */
	assert_int_equal(*(char *)arena_alloc(&arena, 64, 1), 0);
	assert_int_equal(arena.taken, first);
	arena_fini(&arena);
	assert_int_equal(arena.taken, 0);
}

static void test_cap(void **state)
{
	struct arena arena;
	size_t got = 0;

	(void)state;
	arena_init(&arena, 10000);
	assert_null(arena_alloc(&arena, 10000, 1)); /* the block's header counts too */
	assert_int_equal(arena.taken, 0);
	while (arena_alloc(&arena, 10, 1))
		got += 10;
	assert_true(arena.taken <= 10000);
	assert_true(got > 9800);
	assert_int_equal(arena_used(&arena), got);
	assert_null(arena_alloc(&arena, SIZE_MAX, 16));
	assert_null(arena_array(&arena, uint64_t, SIZE_MAX / 4));
	arena_fini(&arena);
}

static void test_large_object(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_non_null(arena_alloc(&arena, 1000000, 16));
	assert_non_null(arena_alloc(&arena, 1, 16));
	arena_fini(&arena);
}

static void test_fixed(void **state)
{
	_Alignas(16) char memory[128];
	struct arena arena;

	(void)state;
	memset(memory, 0xee, sizeof(memory));
	arena_init_fixed(&arena, memory, sizeof(memory));
	assert_ptr_equal(arena_alloc(&arena, 3, 1), memory);
	assert_ptr_equal(arena_alloc(&arena, 8, 16), memory + 16);
	assert_int_equal(arena_used(&arena), 24);
	assert_null(arena_alloc(&arena, 105, 1));
	assert_non_null(arena_alloc(&arena, 104, 1));
	assert_null(arena_alloc(&arena, 0, 1));
	arena_reset(&arena);
	assert_ptr_equal(arena_alloc(&arena, 128, 16), memory);
	arena_fini(&arena);
	memset(memory, 0, sizeof(memory));
}

#ifdef __SANITIZE_ADDRESS__
/* What was not handed out, and what a reset took back, must not be touched. */
static void test_poison(void **state)
{
	_Alignas(16) static char memory[128];
	struct arena arena;
	char *object;

	(void)state;
	arena_init_fixed(&arena, memory, sizeof(memory));
	object = arena_alloc(&arena, 13, 1);
	assert_false(__asan_address_is_poisoned(object + 12));
	assert_true(__asan_address_is_poisoned(object + 13));
	arena_reset(&arena);
	assert_true(__asan_address_is_poisoned(object));
	arena_fini(&arena);
	assert_null(__asan_region_is_poisoned(memory, sizeof(memory)));

	arena_init(&arena, 0);
	object = arena_alloc(&arena, 16, 16);
	assert_true(__asan_address_is_poisoned(object + 16));
	arena_reset(&arena);
	assert_true(__asan_address_is_poisoned(object));
	arena_fini(&arena);
}
#endif

static void test_texts(void **state)
{
	struct arena arena;
	struct span copy;

	(void)state;
	arena_init(&arena, 0);
	copy = arena_copy(&arena, SPAN("abc"));
	assert_true(span_equal(copy, SPAN("abc")));
	assert_int_equal(arena_copy(&arena, SPAN_NONE).len, 0);
	assert_string_equal(arena_cstr(&arena, SPAN("abc")), "abc");
	assert_string_equal(arena_cstr(&arena, SPAN_NONE), "");
	copy = arena_join(&arena, (struct span[]){ SPAN("a"), SPAN_NONE, SPAN("bc") }, 3);
	assert_true(span_equal(copy, SPAN("abc")));
	assert_null(arena_join(&arena, (struct span[]){ SPAN_NONE }, 1).ptr);
	copy = arena_format(&arena, "%d %s", 42, "x");
	assert_true(span_equal(copy, SPAN("42 x")));
	arena_fini(&arena);

	arena_init(&arena, 64);
	assert_null(arena_copy(&arena, SPAN("0123456789012345678901234567890123456789")).ptr);
	assert_null(arena_format(&arena, "%100d", 1).ptr);
	assert_null(arena_cstr(&arena, SPAN("0123456789012345678901234567890123456789")));
	arena_fini(&arena);
}

static void test_heap_grow(void **state)
{
	uint32_t *items = NULL;
	size_t capacity = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_true(heap_grow((void **)&items, &capacity, i + 1, sizeof(*items)));
		assert_int_equal(items[i], 0);
		items[i] = i;
	}
	assert_int_equal(items[999], 999);
	assert_int_equal(capacity, 1024);
	assert_false(heap_grow((void **)&items, &capacity, SIZE_MAX, sizeof(*items)));
	assert_false(heap_grow((void **)&items, &capacity, SIZE_MAX / 8, sizeof(*items)));
	assert_int_equal(items[999], 999);
	heap_free(items);
	heap_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heap_arena),   cmocka_unit_test(test_cap),
		cmocka_unit_test(test_large_object), cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_texts),        cmocka_unit_test(test_heap_grow),
#ifdef __SANITIZE_ADDRESS__
		cmocka_unit_test(test_poison),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
