/* value, host, origin: one word, one value. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct number {
	enum conf_type type;
	const char *text;
	uint64_t number; /* UINT64_MAX: refused */
};

#define NO UINT64_MAX
#define SECOND UINT64_C(1000000000)

static const struct number numbers[] = {
	{ CONF_DURATION, "250ms", 250000000 },
	{ CONF_DURATION, "10s", 10 * SECOND },
	{ CONF_DURATION, "5m", 300 * SECOND },
	{ CONF_DURATION, "5min", 300 * SECOND },
	{ CONF_DURATION, "1h", 3600 * SECOND },
	{ CONF_DURATION, "30d", 2592000 * SECOND },
	{ CONF_DURATION, "0s", 0 },
	{ CONF_DURATION, "10", NO },
	{ CONF_DURATION, "s", NO },
	{ CONF_DURATION, "", NO },
	{ CONF_DURATION, "-1s", NO },
	{ CONF_DURATION, "1.5s", NO },
	{ CONF_DURATION, "99999999999999999999s", NO },
	{ CONF_DURATION, "18446744073709551615s", NO },
	{ CONF_DURATION, "9223372036s", 9223372036 * SECOND },
	{ CONF_DURATION, "9223372037s", NO },
	{ CONF_SIZE, "512B", 512 },
	{ CONF_SIZE, "32KB", 32768 },
	{ CONF_SIZE, "32KiB", 32768 },
	{ CONF_SIZE, "1MB", 1048576 },
	{ CONF_SIZE, "1mb", 1048576 },
	{ CONF_SIZE, "2GB", 2147483648 },
	{ CONF_SIZE, "1TB", UINT64_C(1) << 40 },
	{ CONF_SIZE, "32", NO },
	{ CONF_SIZE, "32K", NO },
	{ CONF_SIZE, "9999999999TB", NO },
	{ CONF_RATE, "5/min", 5 },
	{ CONF_RATE, "20/s", 20 },
	{ CONF_RATE, "0/s", NO },
	{ CONF_RATE, "5", NO },
	{ CONF_RATE, "5/", NO },
	{ CONF_RATE, "/s", NO },
	{ CONF_RATE, "5/ms", NO },
	{ CONF_BANDWIDTH, "1MB/s", 1048576 },
	{ CONF_BANDWIDTH, "1KB/S", 1024 },
	{ CONF_BANDWIDTH, "10GB/s", UINT64_C(10) << 30 },
	{ CONF_BANDWIDTH, "1023B/s", NO },
	{ CONF_BANDWIDTH, "11GB/s", NO },
	{ CONF_BANDWIDTH, "1MB", NO },
	{ CONF_BANDWIDTH, "1MB/", NO },
	{ CONF_BANDWIDTH, "/s", NO },
	{ CONF_BANDWIDTH, "1024/s", NO },
	{ CONF_BANDWIDTH, "1MB/min", NO },
	{ CONF_NUMBER, "0", 0 },
	{ CONF_NUMBER, "42", 42 },
	{ CONF_NUMBER, "4x", NO },
	{ CONF_NUMBER, "", NO },
};

static int parse(struct arena *arena, enum conf_type type, struct span text,
		 struct conf_value *value, const char **reason)
{
	struct conf_argument argument = { .type = type, .name = "X", .choices = "one two" };

	*reason = NULL;
	return conf_value_parse(arena, &argument, SPAN("dir/"), text, value, reason);
}

static void test_numbers(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		struct conf_value value = { 0 };
		const char *reason;
		int result =
			parse(&arena, numbers[i].type, span_str(numbers[i].text), &value, &reason);

		assert_int_equal(result, numbers[i].number == NO ? CONF_FAULTY : 0);
		assert_int_equal(reason != NULL, result != 0);
		if (!result)
			assert_int_equal(value.number, numbers[i].number);
		if (!result && numbers[i].type == CONF_RATE)
			assert_true(value.period_ns >= SECOND);
	}
	arena_fini(&arena);
}

static const struct {
	const char *text, *network; /* as it is understood; NULL: refused */
	bool is_rounded;
} networks[] = {
	{ "192.0.2.7", "192.0.2.7/32", false },
	{ "192.0.2.0/24", "192.0.2.0/24", false },
	{ "192.0.2.7/24", "192.0.2.0/24", true },
	{ "192.0.2.7/31", "192.0.2.6/31", true },
	{ "0.0.0.0/0", "0.0.0.0/0", false },
	{ "255.255.255.255/1", "128.0.0.0/1", true },
	{ "2001:DB8::/32", "2001:db8::/32", false },
	{ "2001:db8::1", "2001:db8::1/128", false },
	{ "2001:db8:ffff::/33", "2001:db8:8000::/33", true },
	{ "::/0", "::/0", false },
	{ "::ffff:192.0.2.7", "192.0.2.7/32", false },
	{ "::ffff:192.0.2.0/120", "192.0.2.0/24", false },
	{ "::ffff:0:0/96", "0.0.0.0/0", false },
	{ "::ffff:0:0/95", "::fffe:0:0/95", true },
	{ "192.0.2.0/33", NULL, false },
	{ "::/129", NULL, false },
	{ "192.0.2.0/", NULL, false },
	{ "192.0.2.0/a", NULL, false },
	{ "192.0.2.0/-1", NULL, false },
	{ "192.0.2.0/0024", NULL, false },
	{ "192.0.2.0/24/24", NULL, false },
	{ "192.0.2.0/255.255.255.0", NULL, false },
	{ "192.0.2", NULL, false },
	{ "192.0.02.1", NULL, false },
	{ "/24", NULL, false },
	{ "", NULL, false },
	{ "[::1]", NULL, false },
	{ "[::1]/128", NULL, false },
	{ "fe80::1%eth0", NULL, false },
	{ "a.test", NULL, false },
	{ "*", NULL, false },
};

static void test_networks(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
		struct conf_value value = { 0 };
		const char *reason;
		int result =
			parse(&arena, CONF_NETWORK, span_str(networks[i].text), &value, &reason);
		char text[64];
		struct writer writer = writer_of(text, sizeof(text));

		if (result != (networks[i].network ? 0 : CONF_FAULTY))
			fail_msg("%s: %s", networks[i].text, reason ? reason : "taken");
		if (result)
			continue;
		conf_address_write(&value.address, &writer);
		write_format(&writer, "/%u", (unsigned)value.number);
		if (!span_equal(writer_done(&writer), span_str(networks[i].network)) ||
		    value.is_rounded != networks[i].is_rounded)
			fail_msg("%s: %.*s", networks[i].text, SPAN_ARG(writer_done(&writer)));
	}
	arena_fini(&arena);
}

static const struct {
	enum conf_type type;
	const char *text, *value; /* NULL: refused */
} words[] = {
	{ CONF_WORDS, "x", "dir/x" },
	{ CONF_WORDS, "", NULL },
	{ CONF_WORD, "x", "x" },
	{ CONF_WORD, "", NULL },
	{ CONF_TEXT, "", "" },
	{ CONF_TEXT, "a b", "a b" },
	{ CONF_NAME, "a-b_c.9", "a-b_c.9" },
	{ CONF_NAME, "-a", NULL },
	{ CONF_NAME, "a/b", NULL },
	{ CONF_NAME, "", NULL },
	{ CONF_CHOICE, "two", "two" },
	{ CONF_CHOICE, "three", NULL },
	{ CONF_CHOICE, "", NULL },
	{ CONF_TABLE, "<office>", "office" },
	{ CONF_TABLE, "office", NULL },
	{ CONF_TABLE, "<>", NULL },
	{ CONF_TABLE, "<a b>", NULL },
	{ CONF_PATH, "/abs", "/abs" },
	{ CONF_PATH, "x", "dir/x" },
	{ CONF_PATH, "./x", "dir/x" },
	{ CONF_PATH, "../x", "dir/../x" },
	{ CONF_PATH, "", NULL },
	{ CONF_PATTERN, "/", "/" },
	{ CONF_PATTERN, "/a*", "/a*" },
	{ CONF_PATTERN, "a", NULL },
	{ CONF_PATTERN, "*", NULL },
	{ CONF_PATTERN, "/a?b", NULL },
	{ CONF_PATTERN, "/a//b", NULL },
	{ CONF_PATTERN, "/./a", NULL },
	{ CONF_PATTERN, "/a/.", NULL },
	{ CONF_PATTERN, "/.well-known/*", "/.well-known/*" },
	{ CONF_PATTERN, "/a b", NULL },
	{ CONF_PATTERN, "/a**", NULL },
	{ CONF_PATTERN, "/\xc3\xa4", "/\xc3\xa4" },
	{ CONF_URL, "https://x.test/a?b=c#d", "https://x.test/a?b=c#d" },
	{ CONF_URL, "/a", "/a" },
	{ CONF_URL, "https://", NULL },
	{ CONF_URL, "https:///a", NULL },
	{ CONF_URL, "https://u@x/", NULL },
	{ CONF_URL, "/a\nb", NULL },
	{ CONF_URL, "/\xc3\xa4", NULL },
	{ CONF_URL, "javascript:x", NULL },
	{ CONF_HOST, "Example.COM.", "example.com" },
	{ CONF_HOST, "*.Example.com", "*.example.com" },
	{ CONF_HOST, "localhost", "localhost" },
	{ CONF_HOST, "a_b.test", "a_b.test" },
	{ CONF_HOST, "127.0.0.1", "127.0.0.1" },
	{ CONF_HOST, "[::1]", "::1" },
	{ CONF_HOST, "0::1", "::1" },
	{ CONF_HOST, "127.0.0.01", NULL },
	{ CONF_HOST, "1.2.3", NULL },
	{ CONF_HOST, "a.123", NULL },
	{ CONF_HOST, "123.a", "123.a" },
	{ CONF_HOST, "a..b", NULL },
	{ CONF_HOST, ".", NULL },
	{ CONF_HOST, "", NULL },
	{ CONF_HOST, "a b", NULL },
	{ CONF_HOST, "a-.b", NULL },
	{ CONF_HOST, "**.b", NULL },
	{ CONF_HOST, "a*.b", NULL },
	{ CONF_HOST, "a:80", NULL },
	{ CONF_HOST, "fe80::1%eth0", NULL },
	/* RFC 3492, 7.1 has (B), (I), (L) and (P); the first three are well known besides. */
	{ CONF_HOST,
	  "b\xc3\xbc"
	  "cher.example",
	  "xn--bcher-kva.example" },
	{ CONF_HOST,
	  "B\xc3\x9c"
	  "CHER.example",
	  "xn--bcher-kva.example" },
	{ CONF_HOST, "m\xc3\xbcnchen.de", "xn--mnchen-3ya.de" },
	{ CONF_HOST,
	  "\xe4\xbb\x96\xe4\xbb\xac\xe4\xb8\xba\xe4\xbb\x80\xe4\xb9\x88\xe4\xb8\x8d\xe8\xaf\xb4\xe4"
	  "\xb8"
	  "\xad\xe6\x96\x87",
	  "xn--ihqwcrb4cv8a8dqg056pqjye" },
	{ CONF_HOST,
	  "\xd0\xbf\xd0\xbe\xd1\x87\xd0\xb5\xd0\xbc\xd1\x83\xd0\xb6\xd0\xb5\xd0\xbe\xd0\xbd\xd0\xb8"
	  "\xd0"
	  "\xbd\xd0\xb5\xd0\xb3\xd0\xbe\xd0\xb2\xd0\xbe\xd1\x80\xd1\x8f\xd1\x82\xd0\xbf\xd0\xbe\xd1"
	  "\x80"
	  "\xd1\x83\xd1\x81\xd1\x81\xd0\xba\xd0\xb8",
	  "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l" },
	{ CONF_HOST, "\xf0\x9f\x98\x80.test", "xn--e28h.test" },
	{ CONF_HOST, "\xff.test", NULL },
	{ CONF_HOST, "\xc0\xaf.test", NULL },
	{ CONF_HOST, "a\xc3", NULL },
	{ CONF_HOST, "\xed\xa0\x80.test", NULL },
	{ CONF_HOST, "\xc2\xa0.test", NULL },
};

static void test_words(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct conf_value value = { 0 };
		const char *reason;
		int result = parse(&arena, words[i].type, span_str(words[i].text), &value, &reason);

		assert_int_equal(result, words[i].value ? 0 : CONF_FAULTY);
		if (!result)
			assert_string_equal(value.text.ptr, words[i].value);
	}
	char label[70];
	memset(label, 'a', sizeof(label));
	struct conf_value value;
	const char *reason;
	assert_int_equal(parse(&arena, CONF_HOST, span_of(label, 63), &value, &reason), 0);
	assert_int_equal(parse(&arena, CONF_HOST, span_of(label, 64), &value, &reason),
			 CONF_FAULTY);
	char name[300];
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 50 == 49 ? '.' : 'a';
	assert_int_equal(parse(&arena, CONF_HOST, span_of(name, 253), &value, &reason), 0);
	assert_int_equal(parse(&arena, CONF_HOST, span_of(name, 254), &value, &reason),
			 CONF_FAULTY);
	arena_fini(&arena);
}

static void test_listen(void **state)
{
	static const struct {
		const char *text, *written;
	} rows[] = {
		{ "*:443", "*:443" },
		{ "127.0.0.1:80", "127.0.0.1:80" },
		{ "[0::1]:80", "[::1]:80" },
		{ "*", NULL },
		{ "443", NULL },
		{ ":443", NULL },
		{ "*:", NULL },
		{ "*:65536", NULL },
		{ "::1:443", NULL },
		{ "[::1]", NULL },
		{ "[::1]443", NULL },
		{ "[::1:443", NULL },
		{ "localhost:1", NULL },
		{ "127.0.0.1:+80", NULL },
		{ "", NULL },
	};
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_value value = { 0 };
		const char *reason;
		char buf[100];
		struct writer writer = writer_of(buf, sizeof(buf));
		int result = parse(&arena, CONF_LISTEN, span_str(rows[i].text), &value, &reason);

		assert_int_equal(result, rows[i].written ? 0 : CONF_FAULTY);
		if (result)
			continue;
		conf_address_write(&value.address, &writer);
		assert_true(span_equal(writer_done(&writer), span_str(rows[i].written)));
	}
	arena_fini(&arena);
}

static void test_origins(void **state)
{
	static const struct {
		const char *text, *host; /* NULL: refused */
		uint16_t port;
		bool is_https, is_address;
	} rows[] = {
		{ "3000", "localhost", 3000, false, false },
		{ "a.test:1", "a.test", 1, false, false },
		{ "LOCALHOST:1", "localhost", 1, false, false },
		{ "[::1]:8080", "::1", 8080, false, true },
		{ "10.0.0.1:80", "10.0.0.1", 80, false, true },
		{ "http://a", "a", 80, false, false },
		{ "https://a/", "a", 443, true, false },
		{ "HTTPS://a:1", "a", 1, true, false },
		{ "https://[::1]", "::1", 443, true, true },
		{ "unix:x/y", "", 0, false, false },
		{ "a", NULL, 0, false, false },
		{ "a:0", NULL, 0, false, false },
		{ "0", NULL, 0, false, false },
		{ "65536", NULL, 0, false, false },
		{ "http://", NULL, 0, false, false },
		{ "http://a/b", NULL, 0, false, false },
		{ "http://a?b", NULL, 0, false, false },
		{ "ws://a", NULL, 0, false, false },
		{ ":80", NULL, 0, false, false },
		{ "unix:", NULL, 0, false, false },
		{ "*.a:80", NULL, 0, false, false },
		{ "a:80:80", NULL, 0, false, false },
		{ "http://u@a", NULL, 0, false, false },
		{ "", NULL, 0, false, false },
	};
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_value value = { 0 };
		const char *reason;
		int result = parse(&arena, CONF_ORIGIN, span_str(rows[i].text), &value, &reason);

		assert_int_equal(result, rows[i].host ? 0 : CONF_FAULTY);
		if (result)
			continue;
		assert_true(span_equal(value.origin.host, span_str(rows[i].host)));
		assert_int_equal(value.origin.port, rows[i].port);
		assert_int_equal(value.origin.scheme, rows[i].is_https ? CONF_HTTPS : CONF_HTTP);
		assert_int_equal(value.origin.is_address, rows[i].is_address);
		if (!value.origin.host.len)
			assert_true(span_equal(value.origin.unix_path, SPAN("dir/x/y")));
	}
	arena_fini(&arena);
}

static void test_addresses(void **state)
{
	static const struct {
		const char *text;
		bool is_loopback, is_private;
	} rows[] = {
		{ "127.0.0.1", true, true },     { "127.255.0.1", true, true },
		{ "::1", true, true },           { "::ffff:127.0.0.1", true, true },
		{ "10.1.2.3", false, true },     { "172.16.0.1", false, true },
		{ "172.32.0.1", false, false },  { "192.168.1.1", false, true },
		{ "169.254.1.1", false, true },  { "100.64.0.1", false, true },
		{ "100.128.0.1", false, false }, { "8.8.8.8", false, false },
		{ "fd00::1", false, true },      { "fe80::1", false, true },
		{ "2001:db8::1", false, false }, { "::", false, false },
		{ "0.0.0.0", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_address address;

		assert_true(conf_address_parse(span_str(rows[i].text), &address));
		assert_int_equal(conf_address_is_loopback(&address), rows[i].is_loopback);
		assert_int_equal(conf_address_is_private(&address), rows[i].is_private);
	}
}

/* No type lets a NUL or another control byte through where a word was given whole. */
static void test_every_type_and_byte(void **state)
{
	static const char sample[] = "https://a.test:80/b*";
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (int type = CONF_WORD; type <= CONF_TABLE; type++) {
		for (size_t len = 0; len < sizeof(sample); len++) {
			for (int byte = 0; byte < 256; byte++) {
				struct conf_value value;
				const char *reason;
				char copy[sizeof(sample)];

				memcpy(copy, sample, sizeof(copy));
				if (len)
					copy[len - 1] = (char)byte;
				int result = parse(&arena, (enum conf_type)type, span_of(copy, len),
						   &value, &reason);
				assert_true(result == 0 || (result == CONF_FAULTY && reason[0]));
				arena_reset(&arena);
			}
		}
	}
	arena_fini(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_origins),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_every_type_and_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
