#include "case.h"

#include <time.h>

enum { NOW_S = 1764000000 }; /* 2025-11-24 */

static const struct {
	const char *text;
	int64_t epoch_s; /* -1: no date */
} cases[] = {
	{ "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
	{ "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
	{ "Sun Nov  6 08:49:37 1994", 784111777 },
	{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
	{ "Tue, 29 Feb 2000 12:00:00 GMT", 951825600 },
	{ "Wednesday, 01-Jan-75 00:00:00 GMT", 3313526400 }, /* 2075: 50 years ahead */
	{ "Thursday, 01-Jan-76 00:00:00 GMT", 189302400 },   /* 1976 */
	{ "Fri, 31 Dec 9999 23:59:59 GMT", 253402300799 },
	{ "Sun, 6 Nov 1994 08:49:37 GMT", -1 },
	{ "Sun, 06 Nov 1994 08:49:37", -1 },
	{ "Sun, 06 Nov 1994 08:49:37 UTC", -1 },
	{ "Sun, 06 Nov 1994 08:49:37 GMT ", -1 },
	{ "Sun, 06 nov 1994 08:49:37 GMT", -1 },
	{ "Sun, 32 Nov 1994 08:49:37 GMT", -1 },
	{ "Sun, 00 Nov 1994 08:49:37 GMT", -1 },
	{ "Sun, 06 Nov 1994 24:49:37 GMT", -1 },
	{ "Sun, 06 Nov 1994 08:60:37 GMT", -1 },
	{ "Monday, 06 Nov 1994 08:49:37 GMT", -1 },
	{ "784111777", -1 },
	{ "Sun", -1 },
	{ "", -1 },
};

static void test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t epoch_s = -1;
		bool ok = http_date_parse(span_str(cases[i].text), NOW_S, &epoch_s);

		if (ok != (cases[i].epoch_s >= 0) || epoch_s != cases[i].epoch_s)
			fail_msg("%s: %d %lld", cases[i].text, ok, (long long)epoch_s);
	}
}

static void test_round_trip(void **state)
{
	char text[HTTP_DATE_LEN], expected[64];

	(void)state;
	for (int64_t epoch_s = 0; epoch_s < 253402300800; epoch_s += 86399 * 127) {
		time_t seconds = (time_t)epoch_s;
		struct tm tm;
		int64_t back;

		http_date_write(epoch_s, text);
		strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT",
			 gmtime_r(&seconds, &tm));
		assert_span(span_of(text, sizeof(text)), expected, "write");
		assert_true(http_date_parse(span_of(text, sizeof(text)), NOW_S, &back));
		assert_int_equal(back, epoch_s);
	}
	http_date_write(-5, text);
	assert_span(span_of(text, sizeof(text)), "Thu, 01 Jan 1970 00:00:00 GMT", "before");
}

static void test_broken(void **state)
{
	char text[40];
	int64_t epoch_s;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(cases[i].text);

		for (size_t at = 0; at < len; at++) {
			assert_false(http_date_parse(span_of(cases[i].text, at), NOW_S, &epoch_s));
			for (int byte = 0; byte < 256; byte++) {
				memcpy(text, cases[i].text, len);
				text[at] = (char)byte;
				(void)http_date_parse(span_of(text, len), NOW_S, &epoch_s);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
