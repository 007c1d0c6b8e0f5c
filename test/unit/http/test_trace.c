/* trace: W3C Trace Context, level 1 and 2. */
#include "case.h"

#define ID "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static const struct {
	const char *text, *written; /* written: as we pass it on; NULL: refused */
} cases[] = {
	{ "00-" ID "-" PARENT "-01", "00-" ID "-" PARENT "-01" },
	{ "00-" ID "-" PARENT "-00", "00-" ID "-" PARENT "-00" },
	{ "00-" ID "-" PARENT "-03", "00-" ID "-" PARENT "-03" },
	/* Flags that nobody knows yet are not passed on. */
	{ "00-" ID "-" PARENT "-ff", "00-" ID "-" PARENT "-03" },
	{ "00-" ID "-" PARENT "-04", "00-" ID "-" PARENT "-00" },
	{ "00-" ID "-" PARENT "-0A", NULL },
	/* A later version: as much as this one knows, and as this one. */
	{ "01-" ID "-" PARENT "-01", "00-" ID "-" PARENT "-01" },
	{ "cc-" ID "-" PARENT "-01-what-comes", "00-" ID "-" PARENT "-01" },
	{ "cc-" ID "-" PARENT "-01.what", NULL },
	{ "cc-" ID "-" PARENT "-01-", "00-" ID "-" PARENT "-01" },
	{ "00-" ID "-" PARENT "-01-more", NULL },
	{ "00-" ID "-" PARENT "-01-", NULL },
	{ "ff-" ID "-" PARENT "-01", NULL },
	{ "ff-" ID "-" PARENT "-01-more", NULL },
	/* All zero. */
	{ "00-00000000000000000000000000000000-" PARENT "-01", NULL },
	{ "00-" ID "-0000000000000000-01", NULL },
	{ "00-00000000000000000000000000000001-" PARENT "-01",
	  "00-00000000000000000000000000000001-" PARENT "-01" },
	{ "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", NULL },
	{ "00-" ID "-B7AD6B7169203331-01", NULL },
	{ "0-" ID "-" PARENT "-01", NULL },
	{ "000-" ID "-" PARENT "-01", NULL },
	{ "00_" ID "-" PARENT "-01", NULL },
	{ "00-" ID "-" PARENT "-1", NULL },
	{ "00-" ID "-" PARENT "-01,00-" ID "-" PARENT "-01", NULL },
	{ "", NULL },
	{ "-", NULL },
};

static bool pass(struct span text, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size - 1);
	struct http_trace trace;

	if (!http_trace_parse(text, &trace))
		return false;
	http_trace_write(&out, &trace);
	assert_true(out.ok);
	*out.at = 0;
	return true;
}

static void test_cases(void **state)
{
	char buf[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool passes = pass(span_str(cases[i].text), buf, sizeof(buf));

		if (passes != (cases[i].written != NULL))
			fail_msg("%s", cases[i].text);
		if (passes)
			assert_string_equal(buf, cases[i].written);
	}
}

/* Every prefix and every corruption of one byte: refused, or what is written is whole and passes again as it is. */
static void test_damaged(void **state)
{
	static const char whole[] = "00-" ID "-" PARENT "-01";
	char text[sizeof(whole)], buf[64], again[64];

	(void)state;
	for (size_t len = 0; len < sizeof(whole) - 1; len++)
		assert_false(pass(span_of(whole, len), buf, sizeof(buf)));
	for (size_t at = 0; at < sizeof(whole) - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			memcpy(text, whole, sizeof(text));
			text[at] = (char)byte;
			if (!pass(span_of(text, sizeof(whole) - 1), buf, sizeof(buf)))
				continue;
			assert_int_equal(strlen(buf), sizeof(whole) - 1);
			assert_true(pass(span_str(buf), again, sizeof(again)));
			assert_string_equal(buf, again);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
