#include "telemetry/telemetry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_is_word(const char *text)
{
	struct span word = span_str(text);

	assert_in_range(word.len, 1, 32);
	assert_true(ascii_is_alpha(word.ptr[0]));
	for (size_t i = 0; i < word.len; i++)
		assert_true((word.ptr[i] >= 'a' && word.ptr[i] <= 'z') || word.ptr[i] == '-' ||
			    ascii_is_digit(word.ptr[i]));
}

static void test_limits(void **state)
{
	(void)state;
	for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++) {
		const struct telemetry_limit_row *row = &telemetry_limits[i];

		assert_is_word(row->name);
		assert_true(span_str(row->help).len > 5);
		assert_true(row->status == 0 || (row->status >= 400 && row->status < 600));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(row->name, telemetry_limits[j].name);
		assert_true(span_equal(telemetry_limit_name((enum telemetry_limit)i),
				       span_str(row->name)));
	}
}

static const struct {
	enum telemetry_limit limit;
	const char *text;
	uint64_t value;
	bool is_settable;
} some_limits[] = {
	{ TELEMETRY_LIMIT_HEADER, "32KB", 32768, true },
	{ TELEMETRY_LIMIT_HEADER_FIELDS, "100", 100, true },
	{ TELEMETRY_LIMIT_BODY, "0B", 0, true },
	{ TELEMETRY_LIMIT_CONNECT, "2s", UINT64_C(2000000000), true },
	{ TELEMETRY_LIMIT_TUNNEL, "1h", UINT64_C(3600000000000), true },
	{ TELEMETRY_LIMIT_EVENT_STREAM, "10m", UINT64_C(600000000000), true },
	{ TELEMETRY_LIMIT_INSPECTION, "128KB", 131072, false },
	{ TELEMETRY_LIMIT_REQUEST_LINE, "8KB", 8192, false },
};

static void test_defaults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(some_limits); i++) {
		const struct telemetry_limit_row *row = &telemetry_limits[some_limits[i].limit];

		assert_string_equal(row->text, some_limits[i].text);
		assert_true(row->value == some_limits[i].value);
		assert_int_equal(row->is_settable, some_limits[i].is_settable);
	}
}

static void test_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < TELEMETRY_END_COUNT; i++) {
		const struct telemetry_end_row *row = &telemetry_ends[i];

		assert_is_word(row->word);
		assert_true(span_str(row->help).len > 5);
		assert_true(row->status == 0 || (row->status >= 400 && row->status < 600));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(row->word, telemetry_ends[j].word);
	}
}

/* What the manual promises, word by word. */
static void test_statuses(void **state)
{
	(void)state;
	assert_int_equal(telemetry_ends[TELEMETRY_END_OK].status, 0);
	assert_int_equal(telemetry_ends[TELEMETRY_END_MISDIRECTED].status, 421);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_REFUSED].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_UNREACHABLE].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_DNS].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_CLOSED].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_MALFORMED].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_TLS].status, 502);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT].status, 504);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_FIRST_BYTE_TIMEOUT].status, 504);
	assert_int_equal(telemetry_ends[TELEMETRY_END_ORIGIN_DOWN].status, 503);
	assert_int_equal(telemetry_ends[TELEMETRY_END_QUEUE_FULL].status, 503);
	assert_int_equal(telemetry_ends[TELEMETRY_END_NO_ROOM].status, 503);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
