#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
	const char *text;
	uint64_t max;
	bool ok;
	uint64_t value;
} decimal[] = {
	{ "", UINT64_MAX, false, 0 },
	{ "0", 0, true, 0 },
	{ "1", 0, false, 0 },
	{ "007", 7, true, 7 },
	{ "65535", 65535, true, 65535 },
	{ "65536", 65535, false, 0 },
	{ "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
	{ "18446744073709551616", UINT64_MAX, false, 0 },
	{ "99999999999999999999", UINT64_MAX, false, 0 },
	{ "00000000000000000001", 1, true, 1 },
	{ "000000000000000000001", 1, false, 0 },
	{ "+1", 9, false, 0 },
	{ "-1", 9, false, 0 },
	{ " 1", 9, false, 0 },
	{ "1 ", 9, false, 0 },
	{ "0x1", 9, false, 0 },
	{ "1a", 9, false, 0 },
}, hexadecimal[] = {
	{ "", UINT64_MAX, false, 0 },
	{ "0", 0, true, 0 },
	{ "fF", 255, true, 255 },
	{ "100", 255, false, 0 },
	{ "ffffffffffffffff", UINT64_MAX, true, UINT64_MAX },
	{ "0000000000000000f", UINT64_MAX, false, 0 },
	{ "10000000000000000", UINT64_MAX, false, 0 },
	{ "0x1", 9, false, 0 },
	{ "g", 99, false, 0 },
	{ "-1", 9, false, 0 },
};

static void test_decimal(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(decimal); i++) {
		uint64_t value = 0;

		assert_int_equal(parse_u64(span_str(decimal[i].text), decimal[i].max, &value),
				 decimal[i].ok);
		assert_true(value == decimal[i].value);
	}
}

static void test_hexadecimal(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hexadecimal); i++) {
		uint64_t value = 0;

		assert_int_equal(
			parse_hex_u64(span_str(hexadecimal[i].text), hexadecimal[i].max, &value),
			hexadecimal[i].ok);
		assert_true(value == hexadecimal[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decimal),
		cmocka_unit_test(test_hexadecimal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
