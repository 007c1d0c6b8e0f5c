#include "h1_drive.h"

#include <stdlib.h>

struct request_case {
	const char *name;
	const char *bytes;
	const char *fault; /* NULL: accepted */
	int ends;
	const char *holds; /* stands in the trail */
};

#define HOST "Host: a\r\n"
#define POST_CHUNKED "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static const struct request_case cases[] = {
	{ "plain", "GET /x HTTP/1.1\r\n" HOST "\r\n", NULL, 1,
	  "request GET /x q= host=a:0 11 length=-1 body=0" },
	{ "query", "GET /x?a=b HTTP/1.1\r\n" HOST "\r\n", NULL, 1, "/x q=a=b " },
	{ "blanks around a value", "GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", NULL, 1, "|Host=a" },
	{ "empty value", "GET / HTTP/1.1\r\n" HOST "X:\r\n\r\n", NULL, 1, "|X=" },
	{ "one empty line before", "\r\nGET / HTTP/1.1\r\n" HOST "\r\n", NULL, 1, NULL },
	{ "two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "leading-lines", 0,
	  NULL },
	{ "pipelined", "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n", NULL, 2,
	  "GET /2" },
	{ "after close",
	  "GET /1 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n",
	  NULL, 1, NULL },
	{ "1.0 ends", "GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", NULL, 1, NULL },
	{ "1.0 kept", "GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
	  NULL, 2, NULL },
	{ "length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", NULL, 1,
	  "body hello\nend" },
	{ "length 0", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", NULL, 1,
	  "length=0 body=0" },
	{ "GET with a body", "GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", NULL, 1,
	  "body hello" },
	{ "chunked", POST_CHUNKED "5\r\nhello\r\n6;a=b;c=\"d\\\";\"\r\n world\r\n0\r\nT: x\r\n\r\n",
	  NULL, 1, "body hello world\nend" },
	{ "absolute-form", "GET http://A:80/x HTTP/1.1\r\n" HOST "\r\n", NULL, 1,
	  "GET /x q= host=a:80" },
	{ "absolute-form, https", "GET https://a/x HTTP/1.1\r\nHost: a:443\r\n\r\n", NULL, 1,
	  "GET /x" },
	{ "absolute-form, other host", "GET http://b/ HTTP/1.1\r\n" HOST "\r\n", "host-mismatch", 0,
	  NULL },
	{ "absolute-form, other port", "GET http://a:81/ HTTP/1.1\r\n" HOST "\r\n", "host-mismatch",
	  0, NULL },
	{ "asterisk", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", NULL, 1, "OPTIONS *" },
	{ "asterisk for GET", "GET * HTTP/1.1\r\n" HOST "\r\n", "bad-target", 0, NULL },
	{ "CONNECT", "CONNECT a:443 HTTP/1.1\r\n" HOST "\r\n", NULL, 1, "CONNECT" },
	{ "CONNECT without port", "CONNECT a HTTP/1.1\r\n" HOST "\r\n", "bad-target", 0, NULL },
	{ "CONNECT elsewhere", "CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", "host-mismatch", 0,
	  NULL },
	{ "CONNECT, bytes behind",
	  "CONNECT a:443 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n", NULL, 1, NULL },
	{ "upgrade",
	  "GET / HTTP/1.1\r\n" HOST "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
	  NULL, 1, "up=websocket" },
	{ "upgrade, bytes behind",
	  "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	  "GET /2 HTTP/1.1\r\n" HOST "\r\n",
	  NULL, 1, NULL },
	{ "upgrade unnamed by Connection",
	  "GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n\r\n"
	  "GET /2 HTTP/1.1\r\n" HOST "\r\n",
	  NULL, 2, "up=|" },
	{ "expect", "POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
	  NULL, 1, NULL },
	{ "expect the unknown", "POST / HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n",
	  "unknown-expectation", 0, NULL },
	{ "no host", "GET / HTTP/1.1\r\nX: y\r\n\r\n", "host-missing", 0, NULL },
	{ "two hosts", "GET / HTTP/1.1\r\n" HOST HOST, "host-twice", 0, NULL },
	{ "empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "bad-host", 0, NULL },
	{ "user in host", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "bad-host", 0, NULL },
	{ "length and coding",
	  "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
	  "length-and-transfer-coding", 0, NULL },
	{ "coding and length",
	  "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
	  "length-and-transfer-coding", 0, NULL },
	{ "two equal lengths",
	  "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n",
	  "content-length-twice", 0, NULL },
	{ "length list", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n",
	  "bad-content-length", 0, NULL },
	{ "length signed", "POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n",
	  "bad-content-length", 0, NULL },
	{ "length empty", "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n", "bad-content-length", 0,
	  NULL },
	{ "length of 19 digits",
	  "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000000000000000\r\n",
	  "bad-content-length", 0, NULL },
	{ "coding unknown", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n",
	  "unknown-transfer-coding", 0, NULL },
	{ "coding twice", POST_CHUNKED, NULL, 0, NULL },
	{ "coding in two fields",
	  "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n"
	  "Transfer-Encoding: chunked\r\n",
	  "bad-transfer-coding", 0, NULL },
	{ "coding with a parameter",
	  "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;q=1\r\n", "bad-transfer-coding", 0,
	  NULL },
	{ "coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	  "transfer-coding-in-1.0", 0, NULL },
	{ "folded", "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n", "folded-field", 0, NULL },
	{ "folded first", "GET / HTTP/1.1\r\n X: a\r\n", "folded-field", 0, NULL },
	{ "blank before colon", "GET / HTTP/1.1\r\nHost : a\r\n", "bad-field-name", 0, NULL },
	{ "no name", "GET / HTTP/1.1\r\n: a\r\n", "bad-field-name", 0, NULL },
	{ "no colon", "GET / HTTP/1.1\r\nHost\r\n", "bad-field-name", 0, NULL },
	{ "control in a value",
	  "GET / HTTP/1.1\r\nX: a\x01"
	  "b\r\n",
	  "bad-field-value", 0, NULL },
	{ "CR in a value", "GET / HTTP/1.1\r\nX: a\rb", "bare-cr", 0, NULL },
	{ "CR before CRLF", "GET / HTTP/1.1\r\nX: a\r\r\n", "bare-cr", 0, NULL },
	{ "LF alone", "GET / HTTP/1.1\nHost: a\n\n", "bare-lf", 0, NULL },
	{ "LF alone, later", "GET / HTTP/1.1\r\nHost: a\n", "bare-lf", 0, NULL },
	{ "CR alone", "GET / HTTP/1.1\rHost: a\r\r", "bare-cr", 0, NULL },
	{ "0.9", "GET /\r\n", "bad-request-line", 0, NULL },
	{ "version 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad-version", 0, NULL },
	{ "version 1.2", "GET / HTTP/1.2\r\n", "bad-version", 0, NULL },
	{ "version 1.10", "GET / HTTP/1.10\r\n", "bad-request-line", 0, NULL },
	{ "version in lower case", "GET / http/1.1\r\n", "bad-request-line", 0, NULL },
	{ "two blanks", "GET  / HTTP/1.1\r\n", "bad-request-line", 0, NULL },
	{ "tab", "GET\t/ HTTP/1.1\r\n", "bad-method", 0, NULL },
	{ "blank at the end", "GET / HTTP/1.1 \r\n", "bad-request-line", 0, NULL },
	{ "blank in the target", "GET /a b HTTP/1.1\r\n", "bad-request-line", 0, NULL },
	{ "fragment", "GET /#a HTTP/1.1\r\n" HOST "\r\n", "bad-target", 0, NULL },
	{ "method", "G(T / HTTP/1.1\r\n", "bad-method", 0, NULL },
	{ "chunk size missing", POST_CHUNKED "\r\n", "bad-chunk-size", 0, NULL },
	{ "chunk size of 17 digits", POST_CHUNKED "00000000000000001\r\n", "bad-chunk-size", 0,
	  NULL },
	{ "chunk size of 16 digits", POST_CHUNKED "0000000000000001\r\nx\r\n0\r\n\r\n", NULL, 1,
	  "body x" },
	{ "chunk size too large", POST_CHUNKED "8000000000000000\r\n", "bad-chunk-size", 0, NULL },
	{ "chunk size 0x", POST_CHUNKED "0x1\r\n", "bad-chunk-size", 0, NULL },
	{ "chunk size and blank", POST_CHUNKED "1 \r\n", "bad-chunk-size", 0, NULL },
	{ "chunk size and LF", POST_CHUNKED "1\nx", "bare-lf", 0, NULL },
	{ "chunk size and CR", POST_CHUNKED "1\rx", "bare-cr", 0, NULL },
	{ "extension and LF", POST_CHUNKED "1;a\nx", "bare-lf", 0, NULL },
	{ "extension empty", POST_CHUNKED "1;\r\n", "bad-chunk-extension", 0, NULL },
	{ "extension with a quoted line end", POST_CHUNKED "1;a=\"\r\n", "bad-chunk-extension", 0,
	  NULL },
	{ "chunk too long", POST_CHUNKED "1\r\nxy", "bad-chunk-end", 0, NULL },
	{ "chunk too short", POST_CHUNKED "2\r\nx\r\n", "bad-chunk-end", 0, NULL },
	{ "chunk ends by LF", POST_CHUNKED "1\r\nx\n", "bad-chunk-end", 0, NULL },
	{ "trailer without colon", POST_CHUNKED "0\r\nX\r\n", "bad-trailer", 0, NULL },
	{ "trailer folded", POST_CHUNKED "0\r\nX: y\r\n z\r\n", "bad-trailer", 0, NULL },
	{ "trailer by LF", POST_CHUNKED "0\r\nX: y\n", "bare-lf", 0, NULL },
	{ "trailers are no next request", POST_CHUNKED "0\r\nX:GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
	  NULL, 1, NULL },
};

static struct trail whole, pieces;

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct request_case *row = &cases[i];
		struct span bytes = span_str(row->bytes);

		drive_server(&whole, bytes, bytes.len);
		if (strcmp(row->fault ? row->fault : "none", codec_h1_fault_text(whole.fault)) !=
			    0 ||
		    whole.ends != row->ends)
			fail_msg("%s: %s, %d ends:%.*s", row->name,
				 codec_h1_fault_text(whole.fault), whole.ends,
				 SPAN_ARG(writer_done(&whole.writer)));
		if (row->holds && span_find(writer_done(&whole.writer), span_str(row->holds)) ==
					  writer_done(&whole.writer).len)
			fail_msg("%s: no `%s` in%.*s", row->name, row->holds,
				 SPAN_ARG(writer_done(&whole.writer)));
	}
}

static void assert_same_in_pieces(struct span bytes, const char *name)
{
	static const size_t steps[] = { 1, 2, 3, 7 };

	drive_server(&whole, bytes, bytes.len ? bytes.len : 1);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		drive_server(&pieces, bytes, steps[i]);
		if (!span_equal(writer_done(&whole.writer), writer_done(&pieces.writer)))
			fail_msg("%s: in pieces of %zu%.*s\nwhole%.*s", name, steps[i],
				 SPAN_ARG(writer_done(&pieces.writer)),
				 SPAN_ARG(writer_done(&whole.writer)));
	}
}

static void test_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_same_in_pieces(span_str(cases[i].bytes), cases[i].name);
}

static const char *const good[] = {
	"GET /a/b?c=d HTTP/1.1\r\nHost: example.com:8443\r\nUser-Agent: x/1 (y)\r\nAccept: "
	"*/*\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 11\r\nExpect: "
	"100-continue\r\n\r\nhello world",
	POST_CHUNKED "5;a=\"b\"\r\nhello\r\n0\r\nT: x\r\n\r\n",
	"GET http://a/ HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
};

static void test_prefixes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		for (size_t len = 0; len < strlen(good[i]); len++) {
			drive_server(&whole, span_of(good[i], len), len + 1);
			assert_int_equal(whole.fault, CODEC_H1_FAULT_NONE);
			assert_true(whole.ends == 0 || len > strlen(good[i]) - 4);
			if (len)
				assert_int_not_equal(whole.last, CODEC_H1_END);
		}
}

/* With one byte changed a request may still be good, but it never becomes two, and both ways of
 * reading it agree. */
static void test_corruptions(void **state)
{
	static char copy[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		size_t len = strlen(good[i]);

		for (size_t at = 0; at < len; at++)
			for (int byte = 0; byte < 256; byte++) {
				memcpy(copy, good[i], len);
				copy[at] = (char)byte;
				drive_server(&whole, span_of(copy, len), len);
				drive_server(&pieces, span_of(copy, len), 1);
				assert_true(span_equal(writer_done(&whole.writer),
						       writer_done(&pieces.writer)));
				assert_true(whole.heads <= 1 && whole.ends <= 1);
			}
	}
}

static char *big;
enum { BIG_SIZE = 512 * 1024 };

static const char *big_fault(size_t len)
{
	assert_same_in_pieces(span_of(big, len), "big");
	return codec_h1_fault_text(whole.fault);
}

static size_t big_line(size_t target_len)
{
	return (size_t)snprintf(big, BIG_SIZE, "GET /%0*d HTTP/1.1\r\n" HOST "\r\n",
				(int)target_len - 1, 0);
}

/* Each limit, one byte below and one above. */
static void test_limits(void **state)
{
	size_t len;

	(void)state;
	big = heap_alloc(BIG_SIZE);
	assert_non_null(big);
	assert_string_equal(big_fault(big_line(8192 - 13)), "none");
	assert_string_equal(big_fault(big_line(8192 - 12)), "line-too-long");
	memset(big, 'A', 9000);
	assert_string_equal(big_fault(9000), "line-too-long");

	for (int count = 99; count <= 100; count++) {
		len = (size_t)snprintf(big, BIG_SIZE, "GET / HTTP/1.1\r\n" HOST);
		for (int i = 0; i < count; i++)
			len += (size_t)snprintf(big + len, BIG_SIZE - len, "X: y\r\n");
		len += (size_t)snprintf(big + len, BIG_SIZE - len, "\r\n");
		assert_string_equal(big_fault(len), count == 99 ? "none" : "too-many-fields");
	}
	for (int over = 0; over <= 1; over++) {
		len = (size_t)snprintf(big, BIG_SIZE, "GET / HTTP/1.1\r\n" HOST "X: ");
		len += (size_t)snprintf(big + len, BIG_SIZE - len, "%0*d\r\n\r\n",
					(int)(32768 - len - 4) + over, 0);
		assert_string_equal(big_fault(len), over ? "head-too-long" : "none");
	}
	for (int over = 0; over <= 1; over++) {
		len = (size_t)snprintf(big, BIG_SIZE, POST_CHUNKED "1;%0*d\r\nx\r\n0\r\n\r\n",
				       127 + over, 0);
		assert_string_equal(big_fault(len), over ? "chunk-extension-too-long" : "none");
	}
	heap_free(big);
}

static void test_chunk_totals(void **state)
{
	size_t len;

	(void)state;
	big = heap_alloc(BIG_SIZE);
	assert_non_null(big);
	for (int over = 0; over <= 1; over++) { /* 32 or 33 extensions of 128 bytes */
		len = (size_t)snprintf(big, BIG_SIZE, POST_CHUNKED);
		for (int i = 0; i < 32 + over; i++)
			len += (size_t)snprintf(big + len, BIG_SIZE - len, "20;%0127d\r\n%032d\r\n",
						0, 0);
		len += (size_t)snprintf(big + len, BIG_SIZE - len, "0\r\n\r\n");
		assert_string_equal(big_fault(len), over ? "chunk-extensions-too-long" : "none");
	}
	for (int wide = 0; wide <= 1; wide++) { /* 5 or 20 bytes of framing a byte */
		len = (size_t)snprintf(big, BIG_SIZE, POST_CHUNKED);
		while (len < 200 * 1024)
			len += (size_t)snprintf(big + len, BIG_SIZE - len,
						wide ? "0000000000000001\r\nx\r\n" : "1\r\nx\r\n");
		len += (size_t)snprintf(big + len, BIG_SIZE - len, "0\r\n\r\n");
		assert_string_equal(big_fault(len), wide ? "chunk-overhead" : "none");
	}
	len = (size_t)snprintf(big, BIG_SIZE, POST_CHUNKED "0\r\nX: %040000d\r\n\r\n", 0);
	assert_string_equal(big_fault(len), "trailers-too-long");
	heap_free(big);
}

static void test_room(void **state)
{
	struct codec_h1_server server;
	struct codec_h1_event event;
	struct arena arena;
	struct span input = SPAN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");

	(void)state;
	arena_init(&arena, 0);
	codec_h1_server_init(&server, &codec_h1_request_limits, false);
	assert_true(codec_h1_server_is_idle(&server));
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_HEAD);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event),
			 CODEC_H1_NEED_ROOM);
	assert_int_equal(input.len, 5);
	assert_int_equal(codec_h1_request_next(&server, &input, 2, &arena, &event), CODEC_H1_BODY);
	assert_int_equal(event.body.len, 2);
	assert_true(codec_h1_server_is_reading(&server));
	assert_int_equal(codec_h1_request_next(&server, &input, 9, &arena, &event), CODEC_H1_BODY);
	assert_int_equal(event.body.len, 3);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_END);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event),
			 CODEC_H1_NEED_MORE);
	assert_true(codec_h1_server_is_idle(&server));
	arena_fini(&arena);
}

/* An arena without room is our failure, not the peer's. */
static void test_no_memory(void **state)
{
	(void)state;
	for (size_t size = 0; size < 4096; size += 64) {
		struct span input =
			SPAN("POST /a%20b/../c?\xc3\xbc HTTP/1.1\r\nHost: A\r\nX: y\r\n\r\n");
		struct codec_h1_server server;
		struct codec_h1_event event;
		struct arena arena;
		char *memory = heap_alloc(4096);
		int outcome;

		assert_non_null(memory);
		arena_init_fixed(&arena, memory, size);
		codec_h1_server_init(&server, &codec_h1_request_limits, false);
		outcome = codec_h1_request_next(&server, &input, 0, &arena, &event);
		assert_true(outcome == -ENOMEM || outcome == CODEC_H1_HEAD);
		heap_free(memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),    cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_prefixes), cmocka_unit_test(test_corruptions),
		cmocka_unit_test(test_limits),   cmocka_unit_test(test_chunk_totals),
		cmocka_unit_test(test_room),     cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
