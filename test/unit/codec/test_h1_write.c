#include "h1_drive.h"

static char out[8192];
static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static struct codec_h1_server server_after(const char *request)
{
	struct codec_h1_server server;
	struct codec_h1_event event;
	struct span input = span_str(request);

	codec_h1_server_init(&server, &codec_h1_request_limits, true);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_HEAD);
	return server;
}

static struct http_response response_of(uint16_t status, int64_t length, bool has_body)
{
	struct http_response response = { .status = status,
					  .content_length = length,
					  .has_body = has_body };

	http_fields_init(&response.fields, &arena);
	assert_int_equal(http_fields_add(&response.fields, SPAN("X"), SPAN("y")), 0);
	/* Of an origin's hop: must not appear, or not twice. */
	assert_int_equal(http_fields_add(&response.fields, SPAN("content-length"), SPAN("99")), 0);
	assert_int_equal(
		http_fields_add(&response.fields, SPAN("Transfer-Encoding"), SPAN("chunked")), 0);
	assert_int_equal(http_fields_add(&response.fields, SPAN("Connection"), SPAN("x")), 0);
	assert_int_equal(http_fields_add(&response.fields, SPAN("Keep-Alive"), SPAN("x")), 0);
	assert_int_equal(http_fields_add(&response.fields, SPAN("Upgrade"), SPAN("websocket")), 0);
	return response;
}

static const struct {
	const char *request;
	uint16_t status;
	int64_t length;
	bool has_body;
	const char *expected; /* after the status line and X: y */
} heads[] = {
	{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 5, true,
	  "Date: D\r\nContent-Length: 5\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, -1, true,
	  "Date: D\r\nTransfer-Encoding: chunked\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, -1, false,
	  "Date: D\r\nContent-Length: 0\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404, 0, true,
	  "Date: D\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
	{ "GET / HTTP/1.0\r\n\r\n", 200, -1, true, "Date: D\r\nConnection: close\r\n\r\n" },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, -1, true,
	  "Date: D\r\nConnection: close\r\n\r\n" },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, 3, true,
	  "Date: D\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n" },
	{ "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 5, false,
	  "Date: D\r\nContent-Length: 5\r\n\r\n" },
	{ "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, -1, false, "Date: D\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 204, 0, false, "Date: D\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 304, 5, false, "Date: D\r\n\r\n" },
	{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 101, -1,
	  false, "Upgrade: websocket\r\nDate: D\r\nConnection: upgrade\r\n\r\n" },
};

static void test_response_heads(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		struct codec_h1_server server = server_after(heads[i].request);
		struct http_response response =
			response_of(heads[i].status, heads[i].length, heads[i].has_body);
		struct writer writer = writer_of(out, sizeof(out));
		struct span text;

		assert_int_equal(
			codec_h1_write_response_head(&server, &writer, &response, SPAN("D")), 0);
		text = writer_done(&writer);
		assert_true(span_starts_with(text, SPAN("HTTP/1.1 ")));
		text = span_skip(text, span_find(text, SPAN("\r\n")) + 2);
		if (!span_starts_with(text, SPAN("X: y\r\n")) ||
		    !span_equal(span_skip(text, 6), span_str(heads[i].expected)))
			fail_msg("%zu: %.*s", i, SPAN_ARG(writer_done(&writer)));
		assert_true(codec_h1_head_size(&response.fields, 64) >= writer_done(&writer).len);
	}
}

static void test_refused_fields(void **state)
{
	struct codec_h1_server server = server_after("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	struct http_response response = response_of(200, 0, true);
	struct writer writer = writer_of(out, sizeof(out));

	(void)state;
	assert_int_equal(http_fields_add(&response.fields, SPAN("A"), SPAN("b\r\nSet-Cookie: c")),
			 0);
	assert_int_equal(codec_h1_write_response_head(&server, &writer, &response, SPAN("D")),
			 -EINVAL);
	writer = writer_of(out, 20);
	response.fields.count = 0;
	assert_int_equal(codec_h1_write_response_head(&server, &writer, &response, SPAN("D")),
			 -ENOSPC);
}

static void test_continue(void **state)
{
	struct codec_h1_server server = server_after(
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	struct http_response hints = response_of(103, -1, false);
	struct writer writer = writer_of(out, sizeof(out));

	(void)state;
	assert_int_equal(codec_h1_write_interim(&server, &writer, &hints), 0);
	assert_true(
		span_equal(writer_done(&writer), SPAN("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n")));
	writer = writer_of(out, sizeof(out));
	assert_int_equal(codec_h1_write_continue(&server, &writer), 0);
	assert_int_equal(codec_h1_write_continue(&server, &writer), 0);
	assert_true(span_equal(writer_done(&writer), SPAN("HTTP/1.1 100 Continue\r\n\r\n")));

	server = server_after(
		"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	writer = writer_of(out, sizeof(out));
	assert_int_equal(codec_h1_write_continue(&server, &writer), 0);
	assert_int_equal(codec_h1_write_interim(&server, &writer, &hints), 0);
	assert_int_equal(writer_done(&writer).len, 0);
}

static void test_refusal(void **state)
{
	struct codec_h1_server server;
	struct codec_h1_event event;
	struct span input = SPAN("GET\r\n");
	struct writer writer = writer_of(out, sizeof(out));

	(void)state;
	codec_h1_server_init(&server, &codec_h1_request_limits, true);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_ERROR);
	assert_int_equal(codec_h1_fault_status(event.fault), 400);
	assert_int_equal(codec_h1_write_refusal(&server, &writer, 400, SPAN("no\n"), SPAN("D")), 0);
	assert_true(span_equal(
		writer_done(&writer),
		SPAN("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
		     "Date: D\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")));
}

/* A 400 on a connection whose last request was HEAD still has its body, for the version that asked. */
static void test_refused_after_head(void **state)
{
	struct codec_h1_server server = server_after("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
	struct http_response response = response_of(400, 3, true);
	struct writer writer = writer_of(out, sizeof(out));
	struct span input = SPAN("GET / HTTP/1.0\r\nHost: b c\r\n\r\n");
	struct codec_h1_event event;

	(void)state;
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_END);
	assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event), CODEC_H1_ERROR);
	assert_int_equal(event.fault, CODEC_H1_FAULT_HOST_INVALID);
	assert_int_equal(server.version, 10);
	assert_int_equal(codec_h1_write_response_head(&server, &writer, &response, SPAN("D")), 0);
	assert_int_equal(server.writer.framing, CODEC_H1_FRAMING_LENGTH);
	assert_false(server.keep_alive);
}

/* An upgrade that is answered otherwise, with nobody having said what stands behind it. */
static void test_upgrade_not_granted(void **state)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

	(void)state;
	for (int told = 0; told <= 1; told++) {
		struct codec_h1_server server = server_after(request);
		struct http_response response = response_of(200, 0, true);
		struct writer writer = writer_of(out, sizeof(out));
		struct span input = SPAN("GET / HTTP/1.1\r\n");
		struct codec_h1_event event;

		assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event),
				 CODEC_H1_END);
		assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event),
				 CODEC_H1_HELD);
		assert_int_equal(input.len, 16);
		if (told)
			codec_h1_server_refuse_upgrade(&server, false);
		assert_int_equal(
			codec_h1_write_response_head(&server, &writer, &response, SPAN("D")), 0);
		assert_int_equal(server.keep_alive, told);
		assert_int_equal(codec_h1_request_next(&server, &input, 0, &arena, &event),
				 told ? CODEC_H1_NEED_MORE : CODEC_H1_CLOSED);
	}
}

static const struct {
	struct codec_h1_request_out request;
	const char *expected;
} requests[] = {
	{ { .method = SPAN("GET"),
	    .target = SPAN("/x?y"),
	    .host = SPAN("a:1"),
	    .content_length = -1 },
	  "GET /x?y HTTP/1.1\r\nHost: a:1\r\nA: b\r\n\r\n" },
	{ { .method = SPAN("POST"), .target = SPAN("/"), .host = SPAN("a"), .content_length = -1 },
	  "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Length: 0\r\n\r\n" },
	{ { .method = SPAN("POST"),
	    .target = SPAN("/"),
	    .host = SPAN("a"),
	    .content_length = 7,
	    .has_body = true,
	    .expect_continue = true },
	  "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nContent-Length: 7\r\nExpect: "
	  "100-continue\r\n\r\n" },
	{ { .method = SPAN("GET"),
	    .target = SPAN("/"),
	    .host = SPAN("a"),
	    .content_length = -1,
	    .has_body = true,
	    .close = true },
	  "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nTransfer-Encoding: chunked\r\nConnection: "
	  "close\r\n\r\n" },
	{ { .method = SPAN("GET"),
	    .target = SPAN("/"),
	    .host = SPAN("a"),
	    .content_length = -1,
	    .upgrade = SPAN("websocket") },
	  "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nConnection: upgrade\r\nUpgrade: "
	  "websocket\r\n\r\n" },
	{ { .method = SPAN("GET"), .target = SPAN("/ x"), .host = SPAN("a"), .content_length = -1 },
	  NULL },
	{ { .method = SPAN("GET"),
	    .target = SPAN("/"),
	    .host = SPAN("a\r\nb"),
	    .content_length = -1 },
	  NULL },
	{ { .method = SPAN("G T"), .target = SPAN("/"), .host = SPAN("a"), .content_length = -1 },
	  NULL },
};

static void test_request_heads(void **state)
{
	struct http_fields fields;

	(void)state;
	http_fields_init(&fields, &arena);
	assert_int_equal(http_fields_add(&fields, SPAN("host"), SPAN("other")), 0);
	assert_int_equal(http_fields_add(&fields, SPAN("A"), SPAN("b")), 0);
	assert_int_equal(http_fields_add(&fields, SPAN("Connection"), SPAN("x")), 0);
	assert_int_equal(http_fields_add(&fields, SPAN("content-length"), SPAN("9")), 0);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct codec_h1_request_out request = requests[i].request;
		struct writer writer = writer_of(out, sizeof(out));
		struct codec_h1_client client;
		int result;

		request.fields = &fields;
		codec_h1_client_init(&client, &codec_h1_response_limits);
		result = codec_h1_write_request_head(&client, &writer, &request);
		if (!requests[i].expected)
			assert_int_equal(result, -EINVAL);
		else if (result ||
			 !span_equal(writer_done(&writer), span_str(requests[i].expected)))
			fail_msg("%zu: %.*s", i, SPAN_ARG(writer_done(&writer)));
	}
}

/* What one side writes the other reads back. */
static void test_chunks_come_back(void **state)
{
	static const size_t lens[] = { 1, 9, 15, 16, 255, 256, 4095 };
	static char data[4096];
	struct codec_h1_writer body = { .framing = CODEC_H1_FRAMING_CHUNKED };
	struct writer writer = writer_of(out, sizeof(out));
	struct codec_h1_frame frame;
	static struct trail trail;
	struct client_script script = { .method = SPAN("GET") };
	size_t total = 0;

	(void)state;
	memset(data, 'd', sizeof(data));
	write_str(&writer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		assert_int_equal(codec_h1_body_frame(&body, lens[i], &frame), 0);
		write_span(&writer, span_of(frame.prefix, frame.prefix_len));
		write_span(&writer, span_of(data, lens[i]));
		write_span(&writer, frame.suffix);
		total += lens[i];
	}
	assert_int_equal(codec_h1_body_end(&body, &frame), 0);
	write_span(&writer, span_of(frame.prefix, frame.prefix_len));
	assert_true(writer.ok);
	drive_client(&trail, &script, writer_done(&writer), 100);
	assert_int_equal(trail.ends, 1);

	struct span text = writer_done(&trail.writer);
	struct span got = span_skip(text, span_find(text, SPAN("body d")) + 5);

	assert_int_equal(span_find(got, SPAN("\nend")), total);
	assert_int_equal(codec_h1_body_frame(&body, UINT64_MAX, &frame), 0);
	assert_int_equal(frame.prefix_len, 18);
}

static void test_length_is_kept(void **state)
{
	struct codec_h1_writer body = { .framing = CODEC_H1_FRAMING_LENGTH, .left = 5 };
	struct codec_h1_frame frame;

	(void)state;
	assert_int_equal(codec_h1_body_frame(&body, 3, &frame), 0);
	assert_int_equal(frame.prefix_len + frame.suffix.len, 0);
	assert_int_equal(codec_h1_body_end(&body, &frame), CODEC_H1_BODY_SHORT);
	assert_int_equal(codec_h1_body_frame(&body, 3, &frame), CODEC_H1_BODY_LONG);
	assert_int_equal(codec_h1_body_frame(&body, 2, &frame), 0);
	assert_int_equal(codec_h1_body_end(&body, &frame), 0);
	body.framing = CODEC_H1_FRAMING_NONE;
	assert_int_equal(codec_h1_body_frame(&body, 1, &frame), CODEC_H1_BODY_LONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_response_heads),
		cmocka_unit_test(test_refused_fields),
		cmocka_unit_test(test_continue),
		cmocka_unit_test(test_refusal),
		cmocka_unit_test(test_refused_after_head),
		cmocka_unit_test(test_upgrade_not_granted),
		cmocka_unit_test(test_request_heads),
		cmocka_unit_test(test_chunks_come_back),
		cmocka_unit_test(test_length_is_kept),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
