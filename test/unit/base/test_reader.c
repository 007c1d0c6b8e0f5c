#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_values(void **state)
{
	struct reader reader = reader_of(SPAN("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"
					      "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8xyz"));

	(void)state;
	assert_int_equal(read_u8(&reader), 1);
	assert_int_equal(read_be16(&reader), 0x0203);
	assert_int_equal(read_be24(&reader), 0x040506);
	assert_int_equal(read_be32(&reader), 0x0708090a);
	assert_true(read_be64(&reader) == 0xfffefdfcfbfaf9f8u);
	assert_true(span_equal(read_span(&reader, 2), SPAN("xy")));
	assert_true(reader.ok);
	assert_int_equal(reader_left(&reader), 1);
}

/* After a failure nothing is read any more, even where a shorter read would have fitted. */
static void test_past_the_end(void **state)
{
	struct reader reader = reader_of(SPAN("abc"));

	(void)state;
	assert_int_equal(read_be32(&reader), 0);
	assert_false(reader.ok);
	assert_int_equal(reader_left(&reader), 0);
	assert_int_equal(read_u8(&reader), 0);
	assert_null(read_span(&reader, 0).ptr);
	assert_false(read_sub(&reader, 0).ok);
}

static void test_empty(void **state)
{
	struct reader reader = reader_of(SPAN_NONE);

	(void)state;
	assert_int_equal(read_span(&reader, 0).len, 0);
	assert_true(reader.ok);
	assert_int_equal(read_u8(&reader), 0);
	assert_false(reader.ok);
	reader = reader_of(SPAN("abc"));
	assert_null(read_span(&reader, SIZE_MAX).ptr);
	assert_false(reader.ok);
}

static void test_sub(void **state)
{
	struct reader reader = reader_of(SPAN("\x02ghrest"));
	struct reader sub = read_sub(&reader, read_u8(&reader));

	(void)state;
	assert_int_equal(read_be16(&sub), 'g' << 8 | 'h');
	assert_int_equal(reader_left(&sub), 0);
	assert_true(sub.ok);
	assert_int_equal(read_u8(&sub), 0);
	assert_false(sub.ok);
	assert_true(reader.ok);
	assert_int_equal(reader_left(&reader), 4);
	sub = read_sub(&reader, 5);
	assert_false(sub.ok);
	assert_false(reader.ok);
	assert_int_equal(reader_left(&sub), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_past_the_end),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_sub),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
