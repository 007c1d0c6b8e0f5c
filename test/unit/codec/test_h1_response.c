#include "h1_drive.h"

struct response_case {
	const char *name;
	const char *bytes;
	const char *fault;  /* NULL: accepted */
	const char *holds;  /* stands in the trail */
	const char *method; /* NULL: GET */
	bool upgrade, eof;
};

#define OK "HTTP/1.1 200 OK\r\n"
#define LENGTH_2 "Content-Length: 2\r\n\r\n"

static const struct response_case cases[] = {
	{ .name = "length", .bytes = OK LENGTH_2 "ok", .holds = "body ok\nend\nreuse=1" },
	{ .name = "length 0",
	  .bytes = OK "Content-Length: 0\r\n\r\n",
	  .holds = "length=0 body=1|Content-Length=0\nend\nreuse=1" },
	{ .name = "chunked",
	  .bytes = OK "Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nT: x\r\n\r\n",
	  .holds = "body ok\nend\nreuse=1" },
	{ .name = "close", .bytes = OK "\r\nok", .eof = true, .holds = "body ok\nend\nreuse=0" },
	{ .name = "close, still open", .bytes = OK "\r\nok", .holds = "body ok\nreuse=0" },
	{ .name = "short length", .bytes = OK LENGTH_2 "o", .eof = true, .fault = "truncated" },
	{ .name = "short chunk",
	  .bytes = OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
	  .eof = true,
	  .fault = "truncated" },
	{ .name = "short head", .bytes = OK, .eof = true, .fault = "truncated" },
	{ .name = "stray bytes", .bytes = OK LENGTH_2 "okX", .holds = "reuse=0 timeout=0 left=1" },
	{ .name = "says close",
	  .bytes = OK "Connection: close\r\n" LENGTH_2 "ok",
	  .holds = "reuse=0" },
	{ .name = "1.0",
	  .bytes = "HTTP/1.0 200 OK\r\n" LENGTH_2 "ok",
	  .holds = "OK 10 length=2 body=1|Content-Length=2\nbody ok\nend\nreuse=0" },
	{ .name = "1.0 kept",
	  .bytes = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" LENGTH_2 "ok",
	  .holds = "reuse=1" },
	{ .name = "1.0 chunked",
	  .bytes = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	  .fault = "transfer-coding-in-1.0" },
	{ .name = "timeout",
	  .bytes = OK "Keep-Alive: timeout=5, max=100\r\n" LENGTH_2 "ok",
	  .holds = "reuse=1 timeout=5" },
	{ .name = "HEAD",
	  .method = "HEAD",
	  .bytes = OK "Content-Length: 7\r\n\r\n",
	  .holds = "length=7 body=0|Content-Length=7\nend\nreuse=0" },
	{ .name = "HEAD of nothing",
	  .method = "HEAD",
	  .bytes = OK "Content-Length: 0\r\n\r\n",
	  .holds = "length=0 body=0|Content-Length=0\nend\nreuse=1" },
	{ .name = "HEAD without a length",
	  .method = "HEAD",
	  .bytes = OK "X: y\r\n\r\n",
	  .holds = "end\nreuse=1" },
	{ .name = "204",
	  .bytes = "HTTP/1.1 204 No Content\r\n\r\n",
	  .holds = "body=0\nend\nreuse=1" },
	{ .name = "204 with a length",
	  .bytes = "HTTP/1.1 204 No Content\r\n" LENGTH_2,
	  .holds = "end\nreuse=0" },
	{ .name = "304",
	  .bytes = "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
	  .holds = "body=0|Content-Length=7\nend\nreuse=0" },
	{ .name = "304 without a length",
	  .bytes = "HTTP/1.1 304 Not Modified\r\n\r\n",
	  .holds = "end\nreuse=1" },
	{ .name = "no reason",
	  .bytes = "HTTP/1.1 200 \r\n" LENGTH_2 "ok",
	  .holds = "response 200  11" },
	{ .name = "no reason, no blank",
	  .bytes = "HTTP/1.1 200\r\n" LENGTH_2 "ok",
	  .holds = "response 200  11" },
	{ .name = "interim",
	  .bytes = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK LENGTH_2 "ok",
	  .holds = "response 103 Early Hints 11 length=-1 body=0|Link=x\nresponse 200" },
	{ .name = "101 asked",
	  .upgrade = true,
	  .bytes = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\nraw",
	  .holds = "left=3" },
	{ .name = "101 refused", .upgrade = true, .bytes = OK LENGTH_2 "ok", .holds = "reuse=1" },
	{ .name = "101 unasked", .bytes = "HTTP/1.1 101 S\r\n\r\n", .fault = "unasked-101" },
	{ .name = "length and coding",
	  .bytes = OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
	  .fault = "length-and-transfer-coding" },
	{ .name = "two lengths",
	  .bytes = OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
	  .fault = "content-length-twice" },
	{ .name = "length list",
	  .bytes = OK "Content-Length: 2, 2\r\n\r\n",
	  .fault = "bad-content-length" },
	{ .name = "coding unknown",
	  .bytes = OK "Transfer-Encoding: gzip\r\n\r\n",
	  .fault = "unknown-transfer-coding" },
	{ .name = "garbage", .bytes = "hello\r\n", .fault = "bad-status-line" },
	{ .name = "an alert of TLS", .bytes = "\x15\x03\x03", .fault = "bad-status-line" },
	{ .name = "no line end ever", .bytes = "HTTQ", .fault = "bad-status-line" },
	{ .name = "a CR before that", .bytes = "HTT\rx", .fault = "bad-status-line" },
	{ .name = "a line that began well", .bytes = "HTTP/", .holds = "reuse=0" },
	{ .name = "status of two digits",
	  .bytes = "HTTP/1.1 20 OK\r\n",
	  .fault = "bad-status-line" },
	{ .name = "status 099", .bytes = "HTTP/1.1 099 OK\r\n", .fault = "bad-status-line" },
	{ .name = "version 2", .bytes = "HTTP/2.0 200 OK\r\n", .fault = "bad-status-line" },
	{ .name = "empty line first", .bytes = "\r\n" OK LENGTH_2, .fault = "leading-lines" },
	{ .name = "folded", .bytes = OK "X: a\r\n b\r\n", .fault = "folded-field" },
	{ .name = "CR in a value", .bytes = OK "X: a\rSet-Cookie: b\r\n", .fault = "bare-cr" },
	{ .name = "LF alone", .bytes = "HTTP/1.1 200 OK\n\n", .fault = "bare-lf" },
};

static struct trail whole, pieces;

static struct client_script script_of(const struct response_case *row)
{
	return (struct client_script){
		.method = row->method ? span_str(row->method) : SPAN("GET"),
		.upgrade = row->upgrade,
		.eof = row->eof,
	};
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct response_case *row = &cases[i];
		struct client_script script = script_of(row);
		struct span bytes = span_str(row->bytes), text;

		drive_client(&whole, &script, bytes, bytes.len);
		text = writer_done(&whole.writer);
		if (strcmp(row->fault ? row->fault : "none", codec_h1_fault_text(whole.fault)) != 0)
			fail_msg("%s:%.*s", row->name, SPAN_ARG(text));
		if (row->holds && span_find(text, span_str(row->holds)) == text.len)
			fail_msg("%s: no `%s` in%.*s", row->name, row->holds, SPAN_ARG(text));
		for (size_t step = 1; step < 4; step++) {
			drive_client(&pieces, &script, bytes, step);
			if (row->fault && whole.fault == pieces.fault)
				continue; /* how much was left differs by the cut */
			if (!span_equal(text, writer_done(&pieces.writer)))
				fail_msg("%s: in pieces%.*s\nwhole%.*s", row->name,
					 SPAN_ARG(writer_done(&pieces.writer)), SPAN_ARG(text));
		}
	}
}

static void test_interim_count(void **state)
{
	static char bytes[1024];

	(void)state;
	for (int count = 8; count <= 9; count++) {
		struct client_script script = { .method = SPAN("GET") };
		size_t len = 0;

		for (int i = 0; i < count; i++)
			len += (size_t)snprintf(bytes + len, sizeof(bytes) - len,
						"HTTP/1.1 102 P\r\n\r\n");
		len += (size_t)snprintf(bytes + len, sizeof(bytes) - len, OK LENGTH_2 "ok");
		drive_client(&whole, &script, span_of(bytes, len), len);
		assert_int_equal(whole.ends, count == 8);
		assert_int_equal(whole.fault,
				 count == 8 ? CODEC_H1_FAULT_NONE : CODEC_H1_FAULT_INTERIM_COUNT);
	}
}

static void test_head_limit(void **state)
{
	struct client_script script = { .method = SPAN("GET") };
	char *big = heap_alloc(80 * 1024);

	(void)state;
	assert_non_null(big);
	for (int over = 0; over <= 1; over++) {
		int len = snprintf(big, 80 * 1024, OK "Content-Length: 0\r\nX: ");

		len += snprintf(big + len, (size_t)(80 * 1024 - len), "%0*d\r\n\r\n",
				65536 - len - 4 + over, 0);
		drive_client(&whole, &script, span_of(big, (size_t)len), 1000);
		assert_string_equal(codec_h1_fault_text(whole.fault),
				    over ? "head-too-long" : "none");
	}
	heap_free(big);
}

static void test_prefixes_and_corruptions(void **state)
{
	static const char good[] =
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n"
		"Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n";
	static char copy[sizeof(good)];
	struct client_script script = { .method = SPAN("GET"), .eof = true };
	size_t len = sizeof(good) - 1;

	(void)state;
	for (size_t i = 1; i < len; i++) {
		drive_client(&whole, &script, span_of(good, i), i);
		assert_int_equal(whole.fault, CODEC_H1_FAULT_TRUNCATED);
	}
	for (size_t at = 0; at < len; at++)
		for (int byte = 0; byte < 256; byte++) {
			memcpy(copy, good, len);
			copy[at] = (char)byte;
			drive_client(&whole, &script, span_of(copy, len), len);
			drive_client(&pieces, &script, span_of(copy, len), 1);
			assert_int_equal(whole.fault, pieces.fault);
			assert_int_equal(whole.ends, pieces.ends);
			if (!whole.fault)
				assert_true(span_equal(writer_done(&whole.writer),
						       writer_done(&pieces.writer)));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_interim_count),
		cmocka_unit_test(test_head_limit),
		cmocka_unit_test(test_prefixes_and_corruptions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
