#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "os/os.h"

static const struct {
	const char *text, *written; /* written NULL: refused */
	enum os_family family;
	uint16_t port;
} cases[] = {
	{ "127.0.0.1:80", "127.0.0.1:80", OS_FAMILY_V4, 80 },
	{ "255.255.255.255:65535", "255.255.255.255:65535", OS_FAMILY_V4, 65535 },
	{ "[::1]:443", "[::1]:443", OS_FAMILY_V6, 443 },
	{ "[2001:DB8:0:0:0:0:0:1]:1", "[2001:db8::1]:1", OS_FAMILY_V6, 1 },
	{ "[fe80::1%3]:0", "[fe80::1%3]:0", OS_FAMILY_V6, 0 },
	{ "[::ffff:1.2.3.4]:8", "1.2.3.4:8", OS_FAMILY_V4, 8 },
	{ "[::ffff:102:304]:8", "1.2.3.4:8", OS_FAMILY_V4, 8 },
	{ "*:443", "*:443", OS_FAMILY_BOTH, 443 },
	{ "unix:/run/app.sock", "unix:/run/app.sock", OS_FAMILY_UNIX, 0 },
	{ "unix:a:1", "unix:a:1", OS_FAMILY_UNIX, 0 },
	{ "", NULL, 0, 0 },
	{ ":80", NULL, 0, 0 },
	{ "1.2.3.4", NULL, 0, 0 },
	{ "1.2.3.4:", NULL, 0, 0 },
	{ "1.2.3.4:65536", NULL, 0, 0 },
	{ "1.2.3.4:+1", NULL, 0, 0 },
	{ "1.2.3.4 :1", NULL, 0, 0 },
	{ "01.2.3.4:1", NULL, 0, 0 },
	{ "1.2.3:1", NULL, 0, 0 },
	{ "1.2.3.4%1:1", NULL, 0, 0 },
	{ "[1.2.3.4]:1", NULL, 0, 0 },
	{ "::1:80", NULL, 0, 0 },
	{ "[::1:80", NULL, 0, 0 },
	{ "[::1]", NULL, 0, 0 },
	{ "[fe80::1%]:1", NULL, 0, 0 },
	{ "[fe80::1%eth0]:1", NULL, 0, 0 },
	{ "localhost:80", NULL, 0, 0 },
	{ "unix:", NULL, 0, 0 },
	{ "**:1", NULL, 0, 0 },
};

static void test_parse_and_write(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct os_address address, again;
		char buf[OS_ADDRESS_TEXT_MAX];
		struct writer out = writer_of(buf, sizeof(buf));
		bool parsed = os_address_parse(span_str(cases[i].text), &address);

		if (parsed != (cases[i].written != NULL))
			fail_msg("%s", cases[i].text);
		if (!parsed)
			continue;
		assert_int_equal(address.family, cases[i].family);
		assert_int_equal(address.port, cases[i].port);
		os_address_write(&address, &out);
		assert_true(span_equal(writer_done(&out), span_str(cases[i].written)));
		assert_true(os_address_parse(writer_done(&out), &again));
		assert_true(os_address_equal(&address, &again));
	}
}

/* Whatever is taken is written so that it is taken again and means the same. */
static void test_every_prefix_and_corruption(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len = strlen(cases[i].text);

		for (size_t at = 0; at <= len * 256; at++) {
			char text[64], buf[OS_ADDRESS_TEXT_MAX];
			struct writer out = writer_of(buf, sizeof(buf));
			struct os_address address, again;
			struct span span = span_of(text, len);

			memcpy(text, cases[i].text, len);
			if (at < len * 256)
				text[at / 256] = (char)(at % 256);
			if (at % 256 == 0)
				span = span_first(span_str(cases[i].text), at / 256);
			if (!os_address_parse(span, &address))
				continue;
			os_address_write(&address, &out);
			assert_true(out.ok);
			assert_true(os_address_parse(writer_done(&out), &again));
			assert_true(os_address_equal(&address, &again));
		}
	}
}

static void test_embedded_nul_and_long_paths(void **state)
{
	struct os_address address;
	char path[200];

	(void)state;
	assert_false(os_address_parse(SPAN("1.2.3.4\0x:80"), &address));
	assert_false(os_address_parse(SPAN("unix:/a\0b"), &address));
	memset(path, 'a', sizeof(path));
	memcpy(path, "unix:", 5);
	assert_true(os_address_parse(span_of(path, 5 + OS_UNIX_PATH_MAX), &address));
	assert_int_equal(strlen(address.path), OS_UNIX_PATH_MAX);
	assert_false(os_address_parse(span_of(path, 6 + OS_UNIX_PATH_MAX), &address));
}

static void test_kinds(void **state)
{
	static const struct {
		const char *ip;
		bool is_any, is_loopback, is_private;
	} kinds[] = {
		{ "0.0.0.0", true, false, false },      { "::", true, false, false },
		{ "127.0.0.1", false, true, true },     { "127.255.0.1", false, true, true },
		{ "::1", false, true, true },           { "::ffff:127.0.0.1", false, true, true },
		{ "10.1.2.3", false, false, true },     { "172.16.0.1", false, false, true },
		{ "172.32.0.1", false, false, false },  { "192.168.1.1", false, false, true },
		{ "192.169.1.1", false, false, false }, { "100.64.0.1", false, false, true },
		{ "100.128.0.1", false, false, false }, { "169.254.1.1", false, false, true },
		{ "8.8.8.8", false, false, false },     { "fc00::1", false, false, true },
		{ "fdff::1", false, false, true },      { "fe80::1", false, false, true },
		{ "2001:db8::1", false, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct os_address address;

		assert_true(os_address_parse_ip(span_str(kinds[i].ip), &address));
		assert_int_equal(os_address_is_any(&address), kinds[i].is_any);
		assert_int_equal(os_address_is_loopback(&address), kinds[i].is_loopback);
		assert_int_equal(os_address_is_private(&address), kinds[i].is_private);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_and_write),
		cmocka_unit_test(test_every_prefix_and_corruption),
		cmocka_unit_test(test_embedded_nul_and_long_paths),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
