#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
	struct span a, b;
	int order;
	bool equal_nocase;
} pairs[] = {
	{ SPAN_NONE, SPAN_NONE, 0, true },     { SPAN_NONE, { "", 0 }, 0, true },
	{ SPAN_NONE, { "a", 1 }, -1, false },  { { "a", 1 }, { "A", 1 }, 1, true },
	{ { "ab", 2 }, { "a", 1 }, 1, false }, { { "a\xff", 2 }, { "a\x01", 2 }, 1, false },
	{ { "[", 1 }, { "{", 1 }, -1, false }, { { "Host", 4 }, { "hOST", 4 }, -1, true },
};

static int sign(int value)
{
	return (value > 0) - (value < 0);
}

static void test_compare(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		assert_int_equal(sign(span_compare(pairs[i].a, pairs[i].b)), pairs[i].order);
		assert_int_equal(sign(span_compare(pairs[i].b, pairs[i].a)), -pairs[i].order);
		assert_int_equal(span_equal(pairs[i].a, pairs[i].b), pairs[i].order == 0);
		assert_int_equal(span_equal_nocase(pairs[i].a, pairs[i].b), pairs[i].equal_nocase);
	}
}

static void test_find(void **state)
{
	struct span text = SPAN("one, two");

	(void)state;
	assert_int_equal(span_find_byte(text, ','), 3);
	assert_int_equal(span_find_byte(text, 'x'), 8);
	assert_int_equal(span_find_byte(SPAN_NONE, 'x'), 0);
	assert_int_equal(span_find(text, SPAN("two")), 5);
	assert_int_equal(span_find(text, SPAN("twos")), 8);
	assert_int_equal(span_find(text, SPAN_NONE), 0);
	assert_int_equal(span_find(SPAN_NONE, text), 0);
	assert_true(span_starts_with(text, SPAN("one")));
	assert_true(span_starts_with(text, SPAN_NONE));
	assert_false(span_starts_with(SPAN("on"), SPAN("one")));
	assert_true(span_ends_with(text, SPAN("two")));
	assert_true(span_ends_with(SPAN_NONE, SPAN_NONE));
	assert_false(span_ends_with(SPAN("o"), SPAN("two")));
}

static void test_parts(void **state)
{
	struct span text = SPAN(" \ta b\t ");

	(void)state;
	assert_true(span_equal(span_trim(text), SPAN("a b")));
	assert_int_equal(span_trim(SPAN(" \t ")).len, 0);
	assert_int_equal(span_trim(SPAN_NONE).len, 0);
	assert_true(span_equal(span_skip(SPAN("abc"), 1), SPAN("bc")));
	assert_int_equal(span_skip(SPAN("abc"), 9).len, 0);
	assert_null(span_skip(SPAN_NONE, 9).ptr);
	assert_true(span_equal(span_first(SPAN("abc"), 2), SPAN("ab")));
	assert_true(span_equal(span_first(SPAN("abc"), 9), SPAN("abc")));
	assert_int_equal(span_str(NULL).len, 0);
	assert_int_equal(span_str("four").len, 4);
}

/* The parts, joined by '|'. */
static const struct {
	struct span text;
	const char *parts;
} cuts[] = {
	{ SPAN_NONE, "" },        { { "", 0 }, "|" },     { { "a", 1 }, "a|" },
	{ { "a,b", 3 }, "a|b|" }, { { "a,", 2 }, "a||" }, { { ",", 1 }, "||" },
	{ { ",,b", 3 }, "||b|" },
};

static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		char buf[32];
		struct writer writer = writer_of(buf, sizeof(buf));
		struct span rest = cuts[i].text, part;

		while (span_cut(&rest, ',', &part)) {
			write_span(&writer, part);
			write_byte(&writer, '|');
		}
		assert_null(rest.ptr);
		assert_true(span_equal(writer_done(&writer), span_str(cuts[i].parts)));
	}
}

static void test_hex_value(void **state)
{
	(void)state;
	for (int c = -128; c < 128; c++) {
		int wanted = -1;

		if (c >= '0' && c <= '9')
			wanted = c - '0';
		else if (c >= 'a' && c <= 'f')
			wanted = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			wanted = c - 'A' + 10;
		assert_int_equal(ascii_hex_value((char)c), wanted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare),   cmocka_unit_test(test_find),
		cmocka_unit_test(test_parts),     cmocka_unit_test(test_cut),
		cmocka_unit_test(test_hex_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
