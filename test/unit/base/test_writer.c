#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_written(const struct writer *writer, const char *wanted)
{
	struct span done = writer_done(writer);

	assert_true(writer->ok);
	if (!span_equal(done, span_str(wanted)))
		fail_msg("wrote %.*s, wanted %s", SPAN_ARG(done), wanted);
}

static void test_values(void **state)
{
	char buf[256];
	struct writer writer = writer_of(buf, sizeof(buf));

	(void)state;
	write_u64(&writer, 0);
	write_byte(&writer, ' ');
	write_u64(&writer, UINT64_MAX);
	write_str(&writer, " ");
	write_hex(&writer, SPAN("\x00\x9f\xff"));
	write_span(&writer, SPAN(" "));
	write_hex_u64(&writer, 0, 0);
	write_hex_u64(&writer, 0xab, 4);
	write_hex_u64(&writer, 0xabcde, 4);
	write_hex_u64(&writer, UINT64_MAX, 16);
	write_format(&writer, " %d-%s", 7, "x");
	write_span(&writer, SPAN_NONE);
	write_str(&writer, NULL);
	assert_written(&writer, "0 18446744073709551615 009fff 000ababcdeffffffffffffffff 7-x");
}

static void test_big_endian(void **state)
{
	char buf[17];
	struct writer writer = writer_of(buf, sizeof(buf));

	(void)state;
	write_be16(&writer, 0x0102);
	write_be24(&writer, 0x030405);
	write_be32(&writer, 0x06070809);
	write_be64(&writer, 0xfffefdfcfbfaf9f8u);
	assert_true(span_equal(writer_done(&writer), SPAN("\x01\x02\x03\x04\x05\x06\x07\x08\x09"
							  "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8")));
	assert_true(writer.ok);
	write_be16(&writer, 1);
	assert_false(writer.ok);
}

/* What does not fit is left out whole, and what follows it too. */
static void test_full(void **state)
{
	char buf[4];
	struct writer writer = writer_of(buf, sizeof(buf));

	(void)state;
	write_str(&writer, "ab");
	write_str(&writer, "cde");
	assert_false(writer.ok);
	write_str(&writer, "c");
	assert_true(span_equal(writer_done(&writer), SPAN("ab")));

	writer = writer_of(NULL, 0);
	write_span(&writer, SPAN_NONE);
	assert_true(writer.ok);
	write_byte(&writer, 'a');
	assert_false(writer.ok);
	assert_int_equal(writer_done(&writer).len, 0);
}

static void test_format_edges(void **state)
{
	char buf[4];

	(void)state;
	for (int len = 0; len <= 6; len++) {
		struct writer writer = writer_of(buf, sizeof(buf));

		write_format(&writer, "%.*s", len, "abcdef");
		assert_int_equal(writer.ok, len <= 4);
		assert_true(span_equal(writer_done(&writer),
				       span_of("abcdef", len <= 4 ? (size_t)len : 0)));
	}
}

static const struct {
	struct span text;
	const char *json;
} json_cases[] = {
	{ SPAN_NONE, "\"\"" },
	{ { "plain", 5 }, "\"plain\"" },
	{ { "a\"b\\c/<", 7 }, "\"a\\\"b\\\\c/<\"" },
	{ { "\n\r\t\0\x1b\x7f", 6 }, "\"\\n\\r\\t\\u0000\\u001b\\u007f\"" },
	{ { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9 },
	  "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"" },
	{ { "\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0", 8 }, "\"\\u0080\\u0085\\u009f\xc2\xa0\"" },
	{ { "\xe2\x80\xa8\xe2\x80\xa9", 6 }, "\"\\u2028\\u2029\"" },
	{ { "\xe2\x80\x8e\xe2\x80\x8f", 6 }, "\"\\u200e\\u200f\"" },
	{ { "\xe2\x80\xaa\xe2\x80\xae\xe2\x80\xaf", 9 }, "\"\\u202a\\u202e\xe2\x80\xaf\"" },
	{ { "\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9", 9 }, "\"\\u2065\\u2066\\u2069\"" },
	/* What nobody sees: a soft hyphen, a space of no width, a tag, which takes two escapes. */
	{ { "\xc2\xad\xe2\x80\x8b", 5 }, "\"\\u00ad\\u200b\"" },
	{ { "\xf3\xa0\x80\x81z", 5 }, "\"\\udb40\\udc01z\"" },
	{ { "\xef\xbf\xbe\xef\xbf\xbd", 6 }, "\"\\ufffe\xef\xbf\xbd\"" },
	{ { "\xd8\x9c\xef\xbb\xbf", 5 }, "\"\\u061c\\ufeff\"" },
	/* Not UTF-8: a lone continuation, an overlong '/', a surrogate, above U+10FFFF, cut off. */
	{ { "\x80z", 2 }, "\"\\u0080z\"" },
	{ { "\xc0\xaf", 2 }, "\"\\u00c0\\u00af\"" },
	{ { "\xe0\x80\xaf", 3 }, "\"\\u00e0\\u0080\\u00af\"" },
	{ { "\xed\xa0\x80", 3 }, "\"\\u00ed\\u00a0\\u0080\"" },
	{ { "\xf4\x90\x80\x80", 4 }, "\"\\u00f4\\u0090\\u0080\\u0080\"" },
	{ { "\xf5\xff", 2 }, "\"\\u00f5\\u00ff\"" },
	{ { "\xe2\x82", 2 }, "\"\\u00e2\\u0082\"" },
	{ { "\xf0\x9f\x98", 3 }, "\"\\u00f0\\u009f\\u0098\"" },
};

static void test_json(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(json_cases); i++) {
		size_t whole = span_str(json_cases[i].json).len;
		char buf[64];
		struct writer writer = writer_of(buf, sizeof(buf));

		write_json(&writer, json_cases[i].text);
		assert_written(&writer, json_cases[i].json);
		/* In every shorter buffer: nothing at all. */
		for (size_t size = 0; size < whole; size++) {
			writer = writer_of(buf, size);
			write_json(&writer, json_cases[i].text);
			assert_false(writer.ok);
			assert_int_equal(writer_done(&writer).len, 0);
		}
	}
}

/* Every sequence of two bytes, and every byte after a lead of three and of four: one line, plain. */
static void test_json_is_plain(void **state)
{
	char text[4], buf[64];

	(void)state;
	for (unsigned value = 0; value < 0x40000; value++) {
		struct writer writer = writer_of(buf, sizeof(buf));
		size_t len = value < 0x10000 ? 2 : value < 0x20000 ? 3 : 4;
		struct span done;

		text[0] = (char)(len == 2 ? value >> 8 : len == 3 ? 0xe2 : 0xf0);
		text[1] = (char)(len == 2 ? value : value >> 8);
		text[2] = (char)value;
		text[3] = (char)0x85;
		write_json(&writer, span_of(text, len));
		assert_true(writer.ok);
		done = writer_done(&writer);
		for (size_t i = 0; i < done.len; i++) {
			uint8_t byte = (uint8_t)done.ptr[i];

			assert_true(byte >= 0x20 && byte != 0x7f && byte != 0xc0 && byte < 0xf5);
			assert_false(byte == 0xc2 && (uint8_t)done.ptr[i + 1] < 0xa0);
		}
	}
}

/* The same texts: what is made plain needs no escape any more, and what needed none stays as it was. */
static void test_text_made_plain(void **state)
{
	char text[4], plain[4], buf[64];
	unsigned changed = 0, kept = 0;

	(void)state;
	for (unsigned value = 0; value < 0x40000; value++) {
		size_t len = value < 0x10000 ? 2 : value < 0x20000 ? 3 : 4;
		struct writer before = writer_of(buf, sizeof(buf)), after;
		bool was_plain;

		text[0] = (char)(len == 2 ? value >> 8 : len == 3 ? 0xe2 : 0xf0);
		text[1] = (char)(len == 2 ? value : value >> 8);
		text[2] = (char)value;
		text[3] = (char)0x85;
		if (memchr(text, '"', len) || memchr(text, '\\', len))
			continue;
		memcpy(plain, text, len);
		text_make_plain(plain, len);
		write_json(&before, span_of(text, len));
		was_plain = span_find_byte(writer_done(&before), '\\') == writer_done(&before).len;
		after = writer_of(buf, sizeof(buf));
		write_json(&after, span_of(plain, len));
		assert_int_equal(writer_done(&after).len, len + 2);
		assert_int_equal(was_plain, memcmp(text, plain, len) == 0);
		changed += !was_plain;
		kept += was_plain;
	}
	assert_true(changed > 10000 && kept > 10000);
}

/* Each byte at each place of a longer text, which is read eight bytes at a time: as if it stood alone. */
static void json_with(char byte, size_t at, size_t len)
{
	static const char letters[] = "aaaaaaaaaaaaaaaaaaaaaaaa";
	char text[24], buf[256], one[16], wanted[256];
	struct writer alone = writer_of(one, sizeof(one)),
		      whole = writer_of(wanted, sizeof(wanted));
	struct span escaped;

	write_json(&alone, span_of(&byte, 1));
	escaped = writer_done(&alone);
	write_byte(&whole, '"');
	write_span(&whole, span_of(letters, at));
	write_span(&whole, span_of(escaped.ptr + 1, escaped.len - 2));
	write_span(&whole, span_of(letters, len - 1 - at));
	write_str(&whole, "\"");
	memset(text, 'a', sizeof(text));
	text[at] = byte;
	alone = writer_of(buf, sizeof(buf));
	write_json(&alone, span_of(text, len));
	assert_true(span_equal(writer_done(&alone), writer_done(&whole)));
}

static void test_json_in_long_texts(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 256; value++) {
		for (size_t len = 7; len <= 24; len++) {
			for (size_t at = 0; at < len; at++)
				json_with((char)value, at, len);
		}
	}
}

/* As the library prints them. */
static void test_numbers(void **state)
{
	char buf[64], wanted[64];

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		for (int step = -1; step <= 1; step++) {
			uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)step;
			struct writer writer = writer_of(buf, sizeof(buf));

			write_u64(&writer, value);
			write_byte(&writer, ' ');
			write_hex_u64(&writer, value, 5);
			write_byte(&writer, ' ');
			write_hex_u64(&writer, value * UINT64_C(0x9e3779b97f4a7c15), 16);
			snprintf(wanted, sizeof(wanted), "%llu %05llx %016llx",
				 (unsigned long long)value, (unsigned long long)value,
				 (unsigned long long)(value * UINT64_C(0x9e3779b97f4a7c15)));
			assert_written(&writer, wanted);
		}
	}
	for (size_t size = 0; size < 5; size++) {
		struct writer writer = writer_of(buf, size);

		write_u64(&writer, 12345);
		assert_false(writer.ok);
		assert_int_equal(writer_done(&writer).len, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_big_endian),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_format_edges),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_is_plain),
		cmocka_unit_test(test_text_made_plain),
		cmocka_unit_test(test_json_in_long_texts),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
