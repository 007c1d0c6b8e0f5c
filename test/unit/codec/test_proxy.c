/* The PROXY header: what is one, what is none, and how much of the connection it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codec.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4(family, len) SIGNATURE "\x21" family "\0" len "\xc0\0\2\7\xc6\x33\x64\1\x11\xd7\x01\xbb"
#define V6(len) \
	SIGNATURE "\x21\x21\0" len "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7" \
		  "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x11\xd7\x01\xbb"
/* The CRC32c of each was made by another program. */
#define CRC_GOOD "\3\0\4\x3f\x9e\xff\x5f"

struct row {
	struct span bytes;
	int outcome;
	const char *fault;
	uint8_t family;
	const char *source; /* the address's bytes */
	uint16_t source_port, destination_port;
};

#define REFUSED(text, fault) \
	{ \
		SPAN(text), CODEC_PROXY_REFUSED, fault, 0, NULL, 0, 0 \
	}
#define MORE(text) \
	{ \
		SPAN(text), CODEC_PROXY_NEED_MORE, "", 0, NULL, 0, 0 \
	}
#define TAKEN(text) \
	{ \
		SPAN(text), 0, "", 0, NULL, 0, 0 \
	}
#define TAKEN4(text) \
	{ \
		SPAN(text), 0, "", 4, "\xc0\0\2\7", 4567, 443 \
	}
#define TAKEN6(text) \
	{ \
		SPAN(text), 0, "", 6, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 4567, 443 \
	}

static const struct row rows[] = {
	/* Version 1. */
	TAKEN4("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\r\n"),
	TAKEN6("PROXY TCP6 2001:db8::7 2001:db8::1 4567 443\r\n"),
	TAKEN6("PROXY TCP6 2001:DB8:0::7 2001:db8::1 4567 443\r\n"),
	TAKEN("PROXY UNKNOWN\r\n"),
	TAKEN("PROXY UNKNOWN 1 2 3 what ever\r\n"),
	TAKEN("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443 \r\n", "bad-line"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443 1\r\n", "bad-line"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 4567\r\n", "bad-line"),
	REFUSED("PROXY  TCP4 192.0.2.7 198.51.100.1 4567 443\r\n", "bad-line"),
	REFUSED("PROXY TCP4  192.0.2.7 198.51.100.1 4567 443\r\n", "bad-line"),
	REFUSED("PROXY\tTCP4 192.0.2.7 198.51.100.1 4567 443\r\n", "missing"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\n", "bad-line"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\r\r\n", "bad-line"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 04567 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 192.0.2 198.51.100.1 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 192.0.2.07 198.51.100.1 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP6 fe80::1%eth0 fe80::2 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 443\r\n", "bad-address"),
	REFUSED("PROXY TCP5 192.0.2.7 198.51.100.1 1 443\r\n", "bad-line"),
	REFUSED("PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n", "bad-line"),
	REFUSED("PROXY unknown\r\n", "bad-line"),
	REFUSED("PROXY \r\n", "bad-line"),
	REFUSED("proxy TCP4 192.0.2.7 198.51.100.1 4567 443\r\n", "missing"),
	REFUSED("PROXY UNKNOWN 0000000000000000000000000000000000000000000000000000000000000000000"
		"0000000000000000000000000000000000000000000\r\n",
		"bad-line"),
	/* Version 2. */
	TAKEN4(V4("\x11", "\x0c")),
	TAKEN6(V6("\x24")),
	TAKEN4(V4("\x11", "\x12") "\4\0\3abc"),
	TAKEN4(V4("\x11", "\x16") "\4\0\0\2\0\4host"),
	TAKEN4(V4("\x11", "\x13") CRC_GOOD),
	TAKEN(SIGNATURE "\x20\0\0\0"),
	TAKEN(SIGNATURE "\x20\xff\0\3abc"),  /* LOCAL: whatever it holds */
	TAKEN(V4("\x12", "\x0c")),           /* a datagram's */
	TAKEN(SIGNATURE "\x21\0\0\0"),       /* UNSPEC */
	TAKEN(SIGNATURE "\x21\0\0\3\4\0\0"), /* UNSPEC with a TLV */
	REFUSED(SIGNATURE "\x21\0\0\2\4\0", "bad-tlv"),
	REFUSED(V4("\x11", "\x0b"), "bad-length"),
	REFUSED(SIGNATURE "\x21\x21\0\x0c"
			  "\xc0\0\2\7\xc6\x33\x64\1\x11\xd7\x01\xbb",
		"bad-length"),
	REFUSED(SIGNATURE "\x21\x31\0\x0c"
			  "\xc0\0\2\7\xc6\x33\x64\1\x11\xd7\x01\xbb",
		"bad-length"),
	REFUSED(V4("\x13", "\x0c"), "bad-family"),
	REFUSED(V4("\x41", "\x0c"), "bad-family"),
	REFUSED(V4("\xf0", "\x0c"), "bad-family"),
	REFUSED(SIGNATURE "\x22\x11\0\0", "bad-command"),
	REFUSED(SIGNATURE "\x2f\x11\0\0", "bad-command"),
	REFUSED(SIGNATURE "\x11\x11\0\0", "bad-version"),
	REFUSED(SIGNATURE "\x31\x11\0\0", "bad-version"),
	REFUSED(SIGNATURE "\x01\x11\0\0", "bad-version"),
	REFUSED(V4("\x11", "\x0d") "\4", "bad-tlv"),
	REFUSED(V4("\x11", "\x0f") "\4\0\1", "bad-tlv"),
	REFUSED(V4("\x11", "\x13") "\4\xff\xff\0\0\0\0", "bad-tlv"),
	REFUSED(V4("\x11", "\x12") "\3\0\3\0\0\0", "bad-tlv"),
	REFUSED(V4("\x11", "\x13") "\3\0\4\0\0\0\0", "bad-checksum"),
	/* 4096 bytes are allowed, one more is not; the length says it before they come. */
	REFUSED(SIGNATURE "\x21\x11\x0f\xf1", "limit:proxy-header-size"),
	REFUSED(SIGNATURE "\x21\x11\xff\xff", "limit:proxy-header-size"),
	REFUSED(SIGNATURE "\x20\0\x0f\xf1", "limit:proxy-header-size"),
	MORE(SIGNATURE "\x21\x11\x0f\xf0"),
	/* Neither. */
	REFUSED("GET / HTTP/1.1\r\n", "missing"),
	REFUSED("P0", "missing"),
	REFUSED("PROXYTCP4 192.0.2.7 198.51.100.1 1 443\r\n", "missing"),
	REFUSED("\x16\3\1\2\0\1\0\1", "missing"),
	REFUSED("\r\n\r\n\0\r\nQUIX\n", "missing"),
	REFUSED("\r\nGET", "missing"),
	REFUSED("\0", "missing"),
	MORE(""),
	MORE("P"),
	MORE("PROXY"),
	MORE("PROXY "),
	MORE("PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r"),
	MORE("\r\n\r\n"),
	MORE(SIGNATURE),
	MORE(SIGNATURE "\x21"),
	MORE(SIGNATURE "\x21\x11\0"),
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		struct codec_proxy_header header;
		int outcome = codec_proxy_parse(row->bytes, &header);

		if (outcome != row->outcome ||
		    strcmp(codec_proxy_fault_text(header.fault), row->fault) != 0 ||
		    header.family != row->family)
			fail_msg("row %zu (%.*s): outcome %d, fault `%s`, family %u", i,
				 SPAN_ARG(row->bytes), outcome,
				 codec_proxy_fault_text(header.fault), header.family);
		assert_int_equal(header.len, outcome ? 0 : row->bytes.len);
		if (!row->family)
			continue;
		assert_memory_equal(header.source.ip, row->source, row->family == 4 ? 4 : 16);
		assert_int_equal(header.source.port, row->source_port);
		assert_int_equal(header.destination.port, row->destination_port);
	}
}

/* What follows a header is the connection's: it changes nothing, and none of it is taken. */
static void test_what_follows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct codec_proxy_header whole, more;
		char bytes[512];
		size_t len = rows[i].bytes.len;

		if (rows[i].outcome)
			continue;
		memcpy(bytes, rows[i].bytes.ptr, len);
		memcpy(bytes + len, "\3\0\4PROXY\r\n", 10);
		assert_int_equal(codec_proxy_parse(rows[i].bytes, &whole), 0);
		assert_int_equal(codec_proxy_parse(span_of(bytes, len + 10), &more), 0);
		assert_memory_equal(&whole, &more, sizeof(whole));
	}
}

/* Every prefix of what is taken asks for more; of what is refused it asks for more, or is refused for the
 * same reason. */
static void test_prefixes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t len = 0; len < rows[i].bytes.len; len++) {
			struct codec_proxy_header header;
			int outcome = codec_proxy_parse(span_first(rows[i].bytes, len), &header);

			assert_true(outcome == CODEC_PROXY_NEED_MORE ||
				    (outcome == CODEC_PROXY_REFUSED && rows[i].outcome == outcome));
			if (outcome == CODEC_PROXY_REFUSED)
				assert_string_equal(codec_proxy_fault_text(header.fault),
						    rows[i].fault);
		}
	}
}

static void test_corruptions(void **state)
{
	static const char bytes[] = { 0, ' ', '\n', '\r', '0', ':', '.', 'P', 0x7f, (char)0xff };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char copy[512];
		size_t len = rows[i].bytes.len;

		memcpy(copy, rows[i].bytes.ptr, len);
		for (size_t at = 0; at < len; at++) {
			for (size_t j = 0; j < sizeof(bytes); j++) {
				struct codec_proxy_header header;
				char before = copy[at];
				int outcome;

				copy[at] = bytes[j];
				outcome = codec_proxy_parse(span_of(copy, len), &header);
				assert_true(outcome == 0 || outcome == CODEC_PROXY_NEED_MORE ||
					    outcome == CODEC_PROXY_REFUSED);
				assert_true((header.fault != CODEC_PROXY_FAULT_NONE) ==
					    (outcome == CODEC_PROXY_REFUSED));
				assert_true(header.len <= len &&
					    (outcome == 0) == (header.len > 0));
				copy[at] = before;
			}
		}
	}
}

/* Any bit of a header that bears its sum shows. */
static void test_checksum(void **state)
{
	static const char header[] = V4("\x11", "\x13") CRC_GOOD;
	char copy[sizeof(header) - 1];

	(void)state;
	for (size_t at = 16; at < 28; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct codec_proxy_header parsed;

			memcpy(copy, header, sizeof(copy));
			copy[at] = (char)(copy[at] ^ (1 << bit));
			assert_int_equal(codec_proxy_parse(span_of(copy, sizeof(copy)), &parsed),
					 CODEC_PROXY_REFUSED);
			assert_int_equal(parsed.fault, CODEC_PROXY_FAULT_CHECKSUM);
		}
	}
}

/* The longest that is allowed, TLVs to its end. */
static void test_longest(void **state)
{
	static char bytes[CODEC_PROXY_SIZE_MAX];
	static const char head[] = V4("\x11", "\x0c");
	struct codec_proxy_header header;

	(void)state;
	memcpy(bytes, head, sizeof(head) - 1);
	bytes[14] = 0x0f;
	bytes[15] = (char)0xf0;
	for (size_t at = sizeof(head) - 1; at < sizeof(bytes); at += 3)
		bytes[at] = 4; /* NOOP, empty */
	/* 4068 bytes are 1356 of them. */
	assert_int_equal(codec_proxy_parse(span_of(bytes, sizeof(bytes)), &header), 0);
	assert_int_equal(header.len, sizeof(bytes));
	assert_int_equal(codec_proxy_parse(span_of(bytes, sizeof(bytes) - 1), &header),
			 CODEC_PROXY_NEED_MORE);
}

/* What is written is read as the same, is what the rows above have, and no more than a line's worth. */
static void test_written(void **state)
{
	static const struct {
		unsigned version;
		uint8_t family;
		const char *source, *destination; /* the addresses' bytes */
		struct span expected;
	} cases[] = {
		{ 1, 4, "\xc0\0\2\7", "\xc6\x33\x64\1",
		  SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\r\n") },
		{ 1, 6, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7",
		  "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1",
		  SPAN("PROXY TCP6 2001:db8::7 2001:db8::1 4567 443\r\n") },
		{ 1, 0, NULL, NULL, SPAN("PROXY UNKNOWN\r\n") },
		{ 2, 4, "\xc0\0\2\7", "\xc6\x33\x64\1", SPAN(V4("\x11", "\x0c")) },
		{ 2, 6, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7",
		  "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", SPAN(V6("\x24")) },
		{ 2, 0, NULL, NULL, SPAN(SIGNATURE "\x20\0\0\0") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct codec_proxy_header header = { .family = cases[i].family }, again;
		char bytes[CODEC_PROXY_LINE_MAX];
		struct writer out = writer_of(bytes, sizeof(bytes));
		size_t ip_len = header.family == 4 ? 4 : header.family == 6 ? 16 : 0;

		if (ip_len) {
			memcpy(header.source.ip, cases[i].source, ip_len);
			memcpy(header.destination.ip, cases[i].destination, ip_len);
			header.source.port = 4567;
			header.destination.port = 443;
		}
		codec_proxy_write(&out, cases[i].version, &header);
		assert_true(out.ok);
		assert_true(span_equal(writer_done(&out), cases[i].expected));
		assert_int_equal(codec_proxy_parse(writer_done(&out), &again), 0);
		header.len = cases[i].expected.len;
		assert_memory_equal(&again, &header, sizeof(header));
	}
}

/* Whatever the addresses and ports are. */
static void test_round_trips(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct codec_proxy_header header, again;
		char bytes[CODEC_PROXY_LINE_MAX];
		struct writer out = writer_of(bytes, sizeof(bytes));
		uint8_t *ends[] = { header.source.ip, header.destination.ip };

		memset(&header, 0, sizeof(header));
		header.family = i & 1 ? 4 : 6;
		for (int end = 0; end < 2; end++) {
			for (size_t k = 0; k < (header.family == 4 ? 4 : 16); k++) {
				random = hash_mix(random + k + 1);
				/* Runs of zeroes, ones, and everything: what shortens a text, and what does not. */
				ends[end][k] = random & 256   ? (uint8_t)random
					       : random & 512 ? 0
							      : 255;
			}
		}
		header.source.port = (uint16_t)(random >> 16);
		header.destination.port = (uint16_t)(random >> 32);
		codec_proxy_write(&out, i & 2 ? 1 : 2, &header);
		assert_true(out.ok);
		assert_int_equal(codec_proxy_parse(writer_done(&out), &again), 0);
		header.len = writer_done(&out).len;
		assert_memory_equal(&again, &header, sizeof(header));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),     cmocka_unit_test(test_what_follows),
		cmocka_unit_test(test_prefixes), cmocka_unit_test(test_corruptions),
		cmocka_unit_test(test_checksum), cmocka_unit_test(test_longest),
		cmocka_unit_test(test_written),  cmocka_unit_test(test_round_trips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
