#include "case.h"

#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
	const char *raw;
	const char *host; /* NULL: refused */
	uint16_t port;
	enum http_host_kind kind;
} cases[] = {
	{ "a", "a", 0, HTTP_HOST_NAME },
	{ "WWW.Example.COM:8443", "www.example.com", 8443, HTTP_HOST_NAME },
	{ "a.example.", "a.example", 0, HTTP_HOST_NAME },
	{ "a.:80", "a", 80, HTTP_HOST_NAME },
	{ "a_b-c.x", "a_b-c.x", 0, HTTP_HOST_NAME },
	{ "0.0.0.0=5000", "0.0.0.0=5000", 0, HTTP_HOST_NAME },
	{ "1a", "1a", 0, HTTP_HOST_NAME },
	{ "127.0.0.1", "127.0.0.1", 0, HTTP_HOST_V4 },
	{ "255.255.255.255:65535", "255.255.255.255", 65535, HTTP_HOST_V4 },
	{ "[::1]", "::1", 0, HTTP_HOST_V6 },
	{ "[0:0:0::0001]:443", "::1", 443, HTTP_HOST_V6 },
	{ "[2001:DB8::A]", "2001:db8::a", 0, HTTP_HOST_V6 },
	{ "[::ffff:1.2.3.4]", "::ffff:1.2.3.4", 0, HTTP_HOST_V6 },
	{ LABEL_63 ".b", LABEL_63 ".b", 0, HTTP_HOST_NAME },
	{ LABEL_63 "a.b", NULL, 0, HTTP_HOST_NONE },
	{ "", NULL, 0, HTTP_HOST_NONE },
	{ ".", NULL, 0, HTTP_HOST_NONE },
	{ "a..b", NULL, 0, HTTP_HOST_NONE },
	{ ".a", NULL, 0, HTTP_HOST_NONE },
	{ "a..", NULL, 0, HTTP_HOST_NONE },
	{ "a:", NULL, 0, HTTP_HOST_NONE },
	{ ":80", NULL, 0, HTTP_HOST_NONE },
	{ "a:0", NULL, 0, HTTP_HOST_NONE },
	{ "a:65536", NULL, 0, HTTP_HOST_NONE },
	{ "a:000080", NULL, 0, HTTP_HOST_NONE },
	{ "a:8x", NULL, 0, HTTP_HOST_NONE },
	{ "a:+8", NULL, 0, HTTP_HOST_NONE },
	{ "a:80:80", NULL, 0, HTTP_HOST_NONE },
	{ "u@a", NULL, 0, HTTP_HOST_NONE },
	{ "a b", NULL, 0, HTTP_HOST_NONE },
	{ "a,b", NULL, 0, HTTP_HOST_NONE },
	{ "a/b", NULL, 0, HTTP_HOST_NONE },
	{ "a\\b", NULL, 0, HTTP_HOST_NONE },
	{ "a%41", NULL, 0, HTTP_HOST_NONE },
	{ "\xc3\xbc.de", NULL, 0, HTTP_HOST_NONE },
	{ "1.2.3", NULL, 0, HTTP_HOST_NONE },
	{ "1.2.3.4.5", NULL, 0, HTTP_HOST_NONE },
	{ "1.2.3.256", NULL, 0, HTTP_HOST_NONE },
	{ "1.2.3.04", NULL, 0, HTTP_HOST_NONE },
	{ "a.1", NULL, 0, HTTP_HOST_NONE },
	{ "2130706433", NULL, 0, HTTP_HOST_NONE },
	{ "::1", NULL, 0, HTTP_HOST_NONE },
	{ "[::1", NULL, 0, HTTP_HOST_NONE },
	{ "[]", NULL, 0, HTTP_HOST_NONE },
	{ "[::1]x", NULL, 0, HTTP_HOST_NONE },
	{ "[::1%25lo]", NULL, 0, HTTP_HOST_NONE },
	{ "[v1.a]", NULL, 0, HTTP_HOST_NONE },
	{ "[1.2.3.4]", NULL, 0, HTTP_HOST_NONE },
	{ "[::1:::]", NULL, 0, HTTP_HOST_NONE },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct http_authority authority;
		int result = http_authority_parse(&arena, span_str(cases[i].raw), &authority);

		if (result != (cases[i].host ? 0 : HTTP_BAD))
			fail_msg("%s: %d", cases[i].raw, result);
		if (result)
			continue;
		assert_span(authority.host, cases[i].host, cases[i].raw);
		assert_span(authority.raw, cases[i].raw, cases[i].raw);
		assert_int_equal(authority.port, cases[i].port);
		assert_int_equal(authority.kind, cases[i].kind);
	}
}

static void test_length(void **state)
{
	struct http_authority authority;
	char name[300];

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t i = 50; i < sizeof(name); i += 51)
		name[i] = '.';
	assert_int_equal(http_authority_parse(&arena, span_of(name, 253), &authority), 0);
	assert_int_equal(http_authority_parse(&arena, span_of(name, 254), &authority), HTTP_BAD);
}

static void test_equal(void **state)
{
	struct http_authority a, b;

	(void)state;
	assert_int_equal(http_authority_parse(&arena, SPAN("A.b"), &a), 0);
	assert_int_equal(http_authority_parse(&arena, SPAN("a.B.:443"), &b), 0);
	assert_true(http_authority_equal(&a, &b, true));
	assert_false(http_authority_equal(&a, &b, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_equal),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
