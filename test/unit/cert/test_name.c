#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cert/cert.h"

static const struct {
	const char *text, *written; /* written NULL: no name */
} parse_cases[] = {
	{ "example.com", "example.com" },
	{ "Example.COM.", "example.com" },
	{ "localhost", "localhost" },
	{ "my_host", "my_host" },
	{ "xn--bcher-kva.example", "xn--bcher-kva.example" },
	{ "*.example.com", "*.example.com" },
	{ "127.0.0.1", "127.0.0.1" },
	{ "::1", "::1" },
	{ "[2001:DB8::1]", "2001:db8::1" },
	{ "::ffff:192.0.2.1", "192.0.2.1" },
	{ "3com.example", "3com.example" },
	{ "", NULL },
	{ ".", NULL },
	{ "*", NULL },
	{ "*.com", NULL },
	{ "*.1", NULL },
	{ "a.*.example.com", NULL },
	{ "w*.example.com", NULL },
	{ "a..b", NULL },
	{ ".a", NULL },
	{ "-a.example", NULL },
	{ "a-.example", NULL },
	{ "a b", NULL },
	{ "a\tb", NULL },
	{ "b\xc3\xbc"
	  "cher.example",
	  NULL },
	{ "1.2.3", NULL },
	{ "1.2.3.4.5", NULL },
	{ "256.1.1.1", NULL },
	{ "fe80::1%2", NULL },
	{ "1234567890123456789012345678901234567890123456789012345678901234.example", NULL },
};

static void test_parse(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(parse_cases); i++) {
		struct cert_name name;
		char buf[300];
		struct writer out = writer_of(buf, sizeof(buf));
		int result = cert_name_parse(&arena, span_str(parse_cases[i].text), &name);

		if (result != (parse_cases[i].written ? 0 : CERT_NAME_INVALID))
			fail_msg("%s: %d", parse_cases[i].text, result);
		if (result != 0)
			continue;
		cert_name_write(&name, &out);
		assert_true(span_equal(writer_done(&out), span_str(parse_cases[i].written)));
	}
	arena_fini(&arena);
}

static const struct {
	const char *pattern, *name;
	bool covers;
} cover_cases[] = {
	{ "example.com", "example.com", true },       { "example.com", "EXAMPLE.com.", true },
	{ "example.com", "www.example.com", false },  { "example.com", "", false },
	{ "*.example.com", "www.example.com", true }, { "*.example.com", "WWW.Example.Com.", true },
	{ "*.example.com", "*.example.com", true },   { "*.example.com", "example.com", false },
	{ "*.example.com", ".example.com", false },   { "*.example.com", "a.b.example.com", false },
	{ "*.example.com", "a.example.org", false },  { "192.0.2.1", "192.0.2.1", true },
	{ "192.0.2.1", "192.0.2.2", false },          { "2001:db8::1", "[2001:0db8::0:1]", true },
	{ "*.0.2.example", "192.0.2.1", false },
};

static void test_covers(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(cover_cases); i++) {
		struct cert_name pattern;

		assert_int_equal(
			cert_name_parse(&arena, span_str(cover_cases[i].pattern), &pattern), 0);
		if (cert_name_covers(&pattern, span_str(cover_cases[i].name)) !=
		    cover_cases[i].covers)
			fail_msg("%s and %s", cover_cases[i].pattern, cover_cases[i].name);
	}
	arena_fini(&arena);
}

static void test_lists(void **state)
{
	const struct span one[] = { SPAN("b.test"), SPAN("::1"), SPAN("A.test"), SPAN("127.0.0.1"),
				    SPAN("b.TEST.") };
	const struct span other[] = { SPAN("127.0.0.1"), SPAN("a.test"), SPAN("b.test"),
				      SPAN("::1") };
	struct cert_name *names, *others;
	size_t count = 0, other_count = 0, bad = 99;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(cert_names_parse(&arena, one, 5, &names, &count, NULL), 0);
	assert_int_equal(cert_names_parse(&arena, other, 4, &others, &other_count, NULL), 0);
	assert_int_equal(count, 4);
	assert_true(cert_names_equal(names, count, others, other_count));
	assert_false(cert_names_equal(names, count, others, 3));
	const struct span wrong[] = { SPAN("a.test"), SPAN("b b") };
	assert_int_equal(cert_names_parse(&arena, wrong, 2, &names, &count, &bad),
			 CERT_NAME_INVALID);
	assert_int_equal(bad, 1);
	struct span many[CERT_NAMES_MAX + 1];
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = arena_format(&arena, "n%zu.test", i);
	assert_int_equal(cert_names_parse(&arena, many, CERT_NAMES_MAX, &names, &count, &bad), 0);
	assert_int_equal(count, CERT_NAMES_MAX);
	assert_int_equal(cert_names_parse(&arena, many, CERT_NAMES_MAX + 1, &names, &count, &bad),
			 CERT_NAME_INVALID);
	arena_fini(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
