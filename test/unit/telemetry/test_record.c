#include "telemetry/telemetry.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

/* ---- A small reader of JSON (RFC 8259), so that what was written is read back by other code ----------- */

static bool read_unicode(struct span *rest, struct writer *ret_text)
{
	uint64_t code;

	if (rest->len < 4 || !parse_hex_u64(span_first(*rest, 4), 0xffff, &code))
		return false;
	*rest = span_skip(*rest, 4);
	/* An invalid byte comes back as the code point of that number: as one byte again. */
	if (code < 0x100)
		write_byte(ret_text, (char)code);
	else
		write_format(ret_text, "<%04llx>", (unsigned long long)code);
	return true;
}

static bool read_string(struct span *rest, struct writer *ret_text)
{
	if (!span_starts_with(*rest, SPAN("\"")))
		return false;
	for (*rest = span_skip(*rest, 1); rest->len; *rest = span_skip(*rest, 1)) {
		static const char from[] = "\"\\nrt", to[] = "\"\\\n\r\t";
		const char *escape;

		if (rest->ptr[0] == '"') {
			*rest = span_skip(*rest, 1);
			return true;
		}
		if ((uint8_t)rest->ptr[0] < 0x20)
			return false;
		if (rest->ptr[0] != '\\') {
			write_byte(ret_text, rest->ptr[0]);
			continue;
		}
		*rest = span_skip(*rest, 1);
		if (rest->len && rest->ptr[0] == 'u') {
			*rest = span_skip(*rest, 1);
			if (!read_unicode(rest, ret_text))
				return false;
			rest->ptr--; /* the loop's step */
			rest->len++;
			continue;
		}
		escape = rest->len ? memchr(from, rest->ptr[0], sizeof(from) - 1) : NULL;
		if (!escape)
			return false;
		write_byte(ret_text, to[escape - from]);
	}
	return false;
}

static bool read_value(struct span *rest, struct writer *ret_text, int depth);

static bool read_object(struct span *rest, struct writer *ret_text, int depth)
{
	*rest = span_skip(*rest, 1);
	for (;;) {
		char key[64];
		struct writer name = writer_of(key, sizeof(key));

		if (!read_string(rest, &name) || !name.ok || !span_starts_with(*rest, SPAN(":")))
			return false;
		*rest = span_skip(*rest, 1);
		write_span(ret_text, writer_done(&name));
		write_byte(ret_text, '=');
		if (!read_value(rest, ret_text, depth + 1))
			return false;
		write_byte(ret_text, '|');
		if (span_starts_with(*rest, SPAN("}")))
			break;
		if (!span_starts_with(*rest, SPAN(",")))
			return false;
		*rest = span_skip(*rest, 1);
	}
	*rest = span_skip(*rest, 1);
	return true;
}

static bool read_value(struct span *rest, struct writer *ret_text, int depth)
{
	size_t len = 0;

	if (depth > 2 || rest->len == 0)
		return false;
	if (rest->ptr[0] == '{')
		return read_object(rest, ret_text, depth);
	if (rest->ptr[0] == '"')
		return read_string(rest, ret_text);
	while (len < rest->len && rest->ptr[len] != ',' && rest->ptr[len] != '}')
		len++;
	write_span(ret_text, span_first(*rest, len));
	*rest = span_skip(*rest, len);
	return len > 0;
}

/* The line as `key=value|…`, checked to be one JSON object and one newline. */
static struct span parsed(struct span line, char *buf, size_t size)
{
	struct writer text = writer_of(buf, size);

	assert_true(line.len > 3 && line.len <= TELEMETRY_LINE_MAX);
	assert_int_equal(line.ptr[line.len - 1], '\n');
	line.len--;
	assert_int_equal(line.ptr[0], '{');
	assert_true(read_value(&line, &text, 0));
	assert_int_equal(line.len, 0);
	assert_true(text.ok);
	return writer_done(&text);
}

static char line_text[TELEMETRY_LINE_MAX], parsed_text[TELEMETRY_LINE_MAX];

/* ---- Times --------------------------------------------------------------------------------------------- */

static const struct {
	uint64_t wall_ns;
	const char *text;
} times[] = {
	{ 0, "1970-01-01T00:00:00.000000Z" },
	{ 951782399 * SECOND, "2000-02-28T23:59:59.000000Z" },
	{ 951782400 * SECOND, "2000-02-29T00:00:00.000000Z" },
	{ 951868800 * SECOND, "2000-03-01T00:00:00.000000Z" },
	{ 1709164800 * SECOND + 1999, "2024-02-29T00:00:00.000001Z" },
	{ 1767225599 * SECOND + 999999999, "2025-12-31T23:59:59.999999Z" },
	{ 1767225600 * SECOND, "2026-01-01T00:00:00.000000Z" },
	{ 4107542400 * SECOND, "2100-03-01T00:00:00.000000Z" },
	{ 4107456000 * SECOND, "2100-02-28T00:00:00.000000Z" },
	{ UINT64_MAX, "2554-07-21T23:34:33.709551Z" },
};

static void test_times(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		struct writer out = writer_of(line_text, sizeof(line_text));

		telemetry_write_time(&out, times[i].wall_ns);
		assert_true(span_equal(writer_done(&out), span_str(times[i].text)));
	}
}

/* ---- Access records ------------------------------------------------------------------------------------ */

static struct telemetry_access sample(void)
{
	return (struct telemetry_access){
		.wall_ns = 1767225600 * SECOND,
		.duration_ns = 12345678,
		.client = SPAN("192.0.2.7"),
		.client_port = 40000,
		.status = 502,
		.method = SPAN("GET"),
		.host = SPAN("localhost"),
		.path = SPAN("/a b\"\n"),
		.query = SPAN("x=1"),
		.protocol = SPAN("HTTP/1.1"),
		.bytes_in = 100,
		.bytes_out = 1536,
		.upstream = SPAN("127.0.0.1:3000"),
		.upstream_ns = 5000,
		.tls_version = SPAN("TLSv1.3"),
		.tls_group = SPAN("X25519MLKEM768"),
		.tls_cipher = SPAN("TLS_AES_128_GCM_SHA256"),
		.tls_resumed = true,
		.user_agent = SPAN("curl\x1b[31m \xe2\x80\xae \xff"),
		.referer = SPAN("-"),
		.request_id_high = 0xab,
		.request_id_low = 1,
		.trace_id = SPAN("00000000000000000000000000000002"),
		.span_id = SPAN("0000000000000003"),
		.worker = 3,
		.end = TELEMETRY_END_ORIGIN_TLS,
		.end_detail = SPAN("expired"),
	};
}

static void test_access_json(void **state)
{
	struct telemetry_access access = sample();
	struct writer out = writer_of(line_text, sizeof(line_text));
	struct span got;

	(void)state;
	telemetry_write_access_json(&out, &access);
	assert_true(out.ok);
	got = parsed(writer_done(&out), parsed_text, sizeof(parsed_text));
	assert_true(span_equal(
		got,
		SPAN("time=2026-01-01T00:00:00.000000Z|client=192.0.2.7|client_port=40000|method="
		     "GET|"
		     "host=localhost|path=/a "
		     "b\"\n|query=x=1|protocol=HTTP/1.1|status=502|bytes_in=100|"
		     "bytes_out=1536|duration_ms=12.345|upstream=127.0.0.1:3000|upstream_ms=0.005|"
		     "tls_version=TLSv1.3|tls_group=X25519MLKEM768|tls_cipher=TLS_AES_128_GCM_"
		     "SHA256|"
		     "tls_resumed=true|user_agent=curl\x1b[31m <202e> \xff|referer=-|"
		     "request_id=00000000000000ab0000000000000001|trace_id="
		     "00000000000000000000000000000002|span_id=0000000000000003|worker=3|end="
		     "origin-tls:"
		     "expired|")));

	access = (struct telemetry_access){ 0 };
	out = writer_of(line_text, sizeof(line_text));
	telemetry_write_access_json(&out, &access);
	got = parsed(writer_done(&out), parsed_text, sizeof(parsed_text));
	assert_true(span_ends_with(got, SPAN("|worker=0|end=ok|")));
	assert_int_equal(span_find(got, SPAN("upstream")), got.len);
}

/* The text that is kept for a second is that second's, whichever way time went. */
static void test_access_second(void **state)
{
	static const uint64_t walls[] = { 0,
					  999999999,
					  1000000000,
					  1767225599999999000,
					  1767225600000000000,
					  1767225600999999999,
					  1767225599000001000,
					  0 };
	struct telemetry_second second = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(walls); i++) {
		struct telemetry_access access = sample();
		struct writer out = writer_of(line_text, sizeof(line_text));
		char wanted[64];
		struct writer time = writer_of(wanted, sizeof(wanted));

		access.wall_ns = walls[i];
		access.second = &second;
		telemetry_write_access_json(&out, &access);
		write_str(&time, "{\"time\":\"");
		telemetry_write_time(&time, walls[i]);
		write_str(&time, "\",");
		assert_true(span_starts_with(writer_done(&out), writer_done(&time)));
	}
}

/* Every byte anywhere: one line, nothing in it that a terminal obeys, and it reads back. */
static void test_access_hostile_bytes(void **state)
{
	void (*const writers[])(struct writer *, const struct telemetry_access *) = {
		telemetry_write_access_json,
		telemetry_write_access_combined,
		telemetry_write_access_short,
	};
	char text[3] = "a?b";

	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		struct telemetry_access access = sample();

		text[1] = (char)byte;
		access.method = access.host = access.path = access.query = span_of(text, 3);
		access.user_agent = access.referer = access.end_detail = span_of(text, 3);
		for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
			struct writer out = writer_of(line_text, sizeof(line_text));
			struct span line;

			writers[i](&out, &access);
			assert_true(out.ok);
			line = writer_done(&out);
			assert_int_equal(span_find_byte(line, '\n'), line.len - 1);
			for (size_t at = 0; at + 1 < line.len; at++)
				assert_in_range((uint8_t)line.ptr[at], 0x20, 0x7e);
			if (i == 0)
				parsed(line, parsed_text, sizeof(parsed_text));
		}
	}
}

/* The longest texts there are, of the bytes that grow most: a record is cut, never lost. */
static void test_access_long(void **state)
{
	static char text[70000];
	static const char fills[] = { 'a', '"', 0x01, (char)0xff, (char)0xe2 };

	(void)state;
	for (size_t fill = 0; fill < sizeof(fills); fill++) {
		struct telemetry_access access = sample();
		struct span all = span_of(text, sizeof(text));
		struct writer out = writer_of(line_text, sizeof(line_text));

		memset(text, fills[fill], sizeof(text));
		access.client = access.method = access.host = access.path = access.query = all;
		access.protocol = access.upstream = access.tls_version = access.tls_group = all;
		access.tls_cipher = access.ja4 = access.user_agent = access.referer = all;
		access.rules = access.end_detail = all;
		telemetry_write_access_json(&out, &access);
		assert_true(out.ok);
		parsed(writer_done(&out), parsed_text, sizeof(parsed_text));
		out = writer_of(line_text, sizeof(line_text));
		telemetry_write_access_combined(&out, &access);
		assert_true(out.ok);
		out = writer_of(line_text, sizeof(line_text));
		telemetry_write_access_short(&out, &access);
		assert_true(out.ok);
	}
}

/* With less room: a whole line or nothing, and what was there before stays. */
static void test_access_no_room(void **state)
{
	const struct telemetry_access access = sample();

	(void)state;
	for (size_t size = 1; size < 900; size++) {
		struct writer out = writer_of(line_text, size);

		write_byte(&out, '#');
		telemetry_write_access_json(&out, &access);
		if (out.ok)
			parsed(span_skip(writer_done(&out), 1), parsed_text, sizeof(parsed_text));
		else
			assert_int_equal(writer_done(&out).len, 1);
	}
}

static void test_access_combined(void **state)
{
	struct telemetry_access access = sample();
	struct writer out = writer_of(line_text, sizeof(line_text));

	(void)state;
	telemetry_write_access_combined(&out, &access);
	assert_true(span_equal(writer_done(&out),
			       SPAN("192.0.2.7 - - [01/Jan/2026:00:00:00 +0000] \"GET /a "
				    "b\\x22\\x0a?x=1 HTTP/1.1\" 502 1536 "
				    "\"-\" \"curl\\x1b[31m \\xe2\\x80\\xae \\xff\"\n")));
}

static const struct {
	uint64_t bytes, duration_ns;
	enum telemetry_end end;
	const char *line;
} short_lines[] = {
	{ 0, 0, TELEMETRY_END_OK, "00:00:00 200 GET localhost/\xc3\xa4 0 B 0.0 ms\n" },
	{ 999, 1540000, TELEMETRY_END_OK, "00:00:00 200 GET localhost/\xc3\xa4 999 B 1.5 ms\n" },
	{ 1536, 12345678, TELEMETRY_END_OK, "00:00:00 200 GET localhost/\xc3\xa4 1.5 KB 12 ms\n" },
	{ 1 << 30, 75 * SECOND, TELEMETRY_END_CLIENT_GONE,
	  "00:00:00 200 GET localhost/\xc3\xa4 1.0 GB 75 s client-gone\n" },
	{ UINT64_MAX, 9999 * SECOND, TELEMETRY_END_OK,
	  "00:00:00 200 GET localhost/\xc3\xa4 15 EB 9999 s\n" },
};

static void test_access_short(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(short_lines); i++) {
		struct telemetry_access access = sample();
		struct writer out = writer_of(line_text, sizeof(line_text));

		access.status = 200;
		access.path = SPAN("/\xc3\xa4");
		access.query = access.end_detail = SPAN_NONE;
		access.bytes_out = short_lines[i].bytes;
		access.duration_ns = short_lines[i].duration_ns;
		access.end = short_lines[i].end;
		telemetry_write_access_short(&out, &access);
		assert_true(out.ok);
		if (!span_equal(writer_done(&out), span_str(short_lines[i].line)))
			fail_msg("%.*s", SPAN_ARG(writer_done(&out)));
	}
}

/* ---- Events -------------------------------------------------------------------------------------------- */

static void test_event(void **state)
{
	const struct telemetry_pair pairs[] = {
		{ .key = "sni", .text = SPAN("www.example.com") },
		{ .key = "alert", .number = 112, .is_number = true },
	};
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_TLS,
		.wall_ns = 1767225600 * SECOND,
		.source = SPAN("2001:db8::1"),
		.source_port = 50000,
		.destination = SPAN("192.0.2.1"),
		.destination_port = 443,
		.process = SPAN("worker 0"),
		.message = SPAN("no site has this \"name\"\r\n"),
		.pairs = pairs,
		.pair_count = ARRAY_LEN(pairs),
	};
	struct writer out = writer_of(line_text, sizeof(line_text));

	(void)state;
	telemetry_write_event(&out, &event);
	assert_true(out.ok);
	assert_true(span_equal(
		parsed(writer_done(&out), parsed_text, sizeof(parsed_text)),
		SPAN("timestamp=2026-01-01T00:00:00.000000Z|event_type=tls|src_ip=2001:db8::1|src_"
		     "port=50000|"
		     "dest_ip=192.0.2.1|dest_port=443|proto=TCP|process=worker 0|"
		     "message=no site has this \"name\"\r\n|tls=sni=www.example.com|alert=112||")));

	event = (struct telemetry_event){ .type = TELEMETRY_EVENT_UPDATE,
					  .message = SPAN("reloaded") };
	out = writer_of(line_text, sizeof(line_text));
	telemetry_write_event(&out, &event);
	assert_true(span_equal(parsed(writer_done(&out), parsed_text, sizeof(parsed_text)),
			       SPAN("timestamp=1970-01-01T00:00:00.000000Z|event_type=update|"
				    "message=reloaded|")));
}

static void test_event_long(void **state)
{
	static char text[40000];
	struct telemetry_pair pairs[TELEMETRY_PAIRS_MAX + 5];
	struct span all = span_of(text, sizeof(text));
	struct telemetry_event event = {
		.source = all,
		.destination = all,
		.process = all,
		.message = all,
		.pairs = pairs,
		.pair_count = ARRAY_LEN(pairs),
	};
	struct writer out = writer_of(line_text, sizeof(line_text));

	(void)state;
	memset(text, 0x02, sizeof(text));
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		pairs[i] = (struct telemetry_pair){ .key = "key", .text = all };
	telemetry_write_event(&out, &event);
	assert_true(out.ok);
	parsed(writer_done(&out), parsed_text, sizeof(parsed_text));
}

static void test_slow(void **state)
{
	static const struct telemetry_stage stages[] = { { "head", 1000 },
							 { "dispatch", UINT64_C(12344000) } };
	static char path[TELEMETRY_LINE_MAX];
	struct telemetry_access access = sample();
	struct writer out = writer_of(line_text, sizeof(line_text));
	struct span got;

	(void)state;
	telemetry_write_slow(&out, &access, stages, ARRAY_LEN(stages));
	assert_true(out.ok);
	got = writer_done(&out);
	assert_true(span_ends_with(got, SPAN("\"duration_ms\":12.345,\"stages_ms\":{\"head\":0.001,"
					     "\"dispatch\":12.344}}}\n")));
	assert_true(span_find(got, SPAN("\"event_type\":\"http\",\"src_ip\":\"192.0.2.7\"")) <
		    got.len);
	assert_true(span_find(got, SPAN("\"path\":\"/a b\\\"\\n\"")) < got.len);
	/* The longest one fits, however its bytes are escaped. */
	memset(path, 1, sizeof(path));
	access.path = access.host = access.method = span_of(path, sizeof(path));
	out = writer_of(line_text, TELEMETRY_LINE_MAX);
	telemetry_write_slow(&out, &access, stages, 0);
	assert_true(out.ok);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_access_json),
		cmocka_unit_test(test_access_second),
		cmocka_unit_test(test_access_hostile_bytes),
		cmocka_unit_test(test_access_long),
		cmocka_unit_test(test_access_no_room),
		cmocka_unit_test(test_access_combined),
		cmocka_unit_test(test_access_short),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_event_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
