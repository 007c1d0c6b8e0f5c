#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "dial/dial_internal.h"

#define HOSTS \
	"127.0.0.1\tlocalhost\n" \
	"::1 localhost ip6-localhost # localhost2\n" \
	"  10.0.0.1  App.Example.  app\r\n" \
	"#10.0.0.2 app\n" \
	"10.0.0.3#app\n" \
	"10.0.0.999 broken app\n" \
	"10.0.0.1 app\n" \
	"fe80::1%2 linked\n" \
	"10.0.0.4 last"

static const struct {
	const char *name, *addresses;
} hosts_cases[] = {
	{ "localhost", "127.0.0.1 ::1" },
	{ "ip6-localhost", "::1" },
	{ "localhost2", "" },
	{ "app", "10.0.0.1" },
	{ "app.example", "10.0.0.1" },
	{ "example", "" },
	{ "linked", "fe80::1%2" },
	{ "last", "10.0.0.4" },
	{ "10.0.0.4", "" },
};

static struct span ips_write(const struct dial_ips *ips, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);

	for (size_t i = 0; i < ips->count; i++) {
		struct os_address address = { .family = ips->list[i].family,
					      .scope = ips->list[i].scope };

		memcpy(address.ip, ips->list[i].ip, sizeof(address.ip));
		if (i)
			write_byte(&out, ' ');
		os_address_write_ip(&address, &out);
	}
	return writer_done(&out);
}

static void test_hosts(void **state)
{
	char buf[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts_cases); i++) {
		struct dial_ips ips;
		struct span got;

		dial_hosts_find(SPAN(HOSTS), span_str(hosts_cases[i].name), &ips);
		got = ips_write(&ips, buf, sizeof(buf));
		if (!span_equal(got, span_str(hosts_cases[i].addresses)))
			fail_msg("%s: %.*s", hosts_cases[i].name, SPAN_ARG(got));
	}
}

static void test_hosts_cut_and_corrupted(void **state)
{
	char text[sizeof(HOSTS)];
	struct dial_ips ips;

	(void)state;
	for (size_t len = 0; len < sizeof(HOSTS); len++) {
		char *copy = test_malloc(len + 1);

		memcpy(copy, HOSTS, len);
		dial_hosts_find(span_of(copy, len), SPAN("app"), &ips);
		assert_true(ips.count <= 1);
		test_free(copy);
	}
	for (size_t at = 0; at < sizeof(HOSTS) - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			memcpy(text, HOSTS, sizeof(text));
			text[at] = (char)byte;
			dial_hosts_find(span_of(text, sizeof(text) - 1), SPAN("app"), &ips);
			assert_true(ips.count <= 4);
		}
	}
}

#define RESOLVER \
	"# made by somebody\n" \
	"; too\n" \
	"nameserver 10.0.0.53\n" \
	"nameserver ::1\n" \
	"nameserver fe80::1%2\n" \
	"nameserver 127.0.0.1:5353\n" \
	"nameserver 10.0.0.54\n" \
	"domain early.test\n" \
	"search corp.test. lab.test # no comment here\n" \
	"options timeout:1 ndots:2 ndots:x rotate\n"

static void test_resolver(void **state)
{
	struct dial_resolver_config config;

	(void)state;
	dial_resolver_parse(SPAN(RESOLVER), &config);
	assert_int_equal(config.server_count, 3);
	assert_int_equal(config.servers[0].ip[3], 53);
	assert_int_equal(config.servers[0].port, 0);
	assert_int_equal(config.servers[1].family, OS_FAMILY_V6);
	assert_int_equal(config.servers[2].port, 5353);
	assert_int_equal(config.domain_count, 6);
	assert_true(span_equal(config.domains[0], SPAN("corp.test")));
	assert_true(span_equal(config.domains[1], SPAN("lab.test")));
	assert_int_equal(config.ndots, 2);
	dial_resolver_parse(SPAN_NONE, &config);
	assert_int_equal(config.server_count, 1);
	assert_int_equal(config.servers[0].ip[0], 127);
	assert_int_equal(config.ndots, 1);
	dial_resolver_parse(SPAN("options ndots:99"), &config);
	assert_int_equal(config.ndots, DIAL_NDOTS_MAX);
}

static void test_resolver_cut_and_corrupted(void **state)
{
	char text[sizeof(RESOLVER)];
	struct dial_resolver_config config;

	(void)state;
	for (size_t len = 0; len < sizeof(RESOLVER); len++) {
		char *copy = test_malloc(len + 1);

		memcpy(copy, RESOLVER, len);
		dial_resolver_parse(span_of(copy, len), &config);
		assert_in_range(config.server_count, 1, DIAL_SERVERS_MAX);
		test_free(copy);
	}
	for (size_t at = 0; at < sizeof(RESOLVER) - 1; at++) {
		for (int byte = 0; byte < 256; byte++) {
			memcpy(text, RESOLVER, sizeof(text));
			text[at] = (char)byte;
			dial_resolver_parse(span_of(text, sizeof(text) - 1), &config);
			assert_in_range(config.server_count, 1, DIAL_SERVERS_MAX);
			assert_in_range(config.ndots, 0, DIAL_NDOTS_MAX);
		}
	}
}

static void test_interleave(void **state)
{
	struct dial_ips ips, mixed;
	char buf[1024];

	(void)state;
	dial_hosts_find(SPAN("10.0.0.1 a\n10.0.0.2 a\n10.0.0.3 a\n::1 a\n::2 a\n"), SPAN("a"),
			&ips);
	dial_ips_interleave(&ips, OS_FAMILY_V6, &mixed);
	assert_true(span_equal(ips_write(&mixed, buf, sizeof(buf)),
			       SPAN("::1 10.0.0.1 ::2 10.0.0.2 10.0.0.3")));
	dial_ips_interleave(&ips, OS_FAMILY_V4, &mixed);
	assert_true(span_equal(ips_write(&mixed, buf, sizeof(buf)),
			       SPAN("10.0.0.1 ::1 10.0.0.2 ::2 10.0.0.3")));
	ips.count = 0;
	dial_ips_interleave(&ips, OS_FAMILY_V6, &mixed);
	assert_int_equal(mixed.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_hosts_cut_and_corrupted),
		cmocka_unit_test(test_resolver),
		cmocka_unit_test(test_resolver_cut_and_corrupted),
		cmocka_unit_test(test_interleave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
