#include "case.h"

static const struct {
	const char *name, *value;
	bool stays;
} request_rows[] = {
	{ "Host", "a", true },
	{ "Content-Length", "5", true },
	{ "Connection", "close, X-Mine, Host, Content-Length, x-forwarded-for, Via, x-request-id",
	  false },
	{ "Connection", "Cookie", false },
	{ "X-Mine", "x", false },
	{ "Cookie", "x", false },
	{ "Via", "1.1 x", true },
	{ "X-Request-Id", "x", true },
	{ "Keep-Alive", "x", false },
	{ "Proxy-Connection", "x", false },
	{ "TE", "trailers", false },
	{ "Trailer", "x", false },
	{ "Transfer-Encoding", "chunked", false },
	{ "Upgrade", "websocket", false },
	{ "HTTP2-Settings", "x", false },
	{ "Expect", "100-continue", false },
	{ "Proxy", "http://evil", false },
	{ "Forwarded", "for=1.2.3.4", false },
	{ "X-Forwarded-For", "1.2.3.4", false },
	{ "x_forwarded_for", "1.2.3.4", false },
	{ "X-Forwarded_For", "1.2.3.4", false },
	{ "X.Forwarded.For", "1.2.3.4", false },
	{ "X-Forwarded-Proto", "https", false },
	{ "X-Forwarded-Host", "a", false },
	{ "X-Forwarded-Port", "443", false },
	{ "X_Forwarded-Anything-That-Is-Longer-Than-The-Buffer-It-Is-Folded-In", "x", false },
	{ "Content_Length", "7", false },
	{ "Transfer_Encoding", "chunked", false },
	{ "Content_Type", "x", false },
	{ "User-Agent", "x", true },
	{ "X_Other", "x", true },
	{ "X-Real-IP", "1.2.3.4", false },
	{ "X_Real_IP", "1.2.3.4", false },
	{ "Sec-WebSocket-Key", "x", true },
	{ "Authorization", "x", true },
};

static void test_request(void **state)
{
	struct http_request request = { 0 };
	uint32_t at = 0;

	(void)state;
	http_fields_init(&request.fields, &arena);
	for (size_t i = 0; i < ARRAY_LEN(request_rows); i++)
		add(&request.fields, request_rows[i].name, request_rows[i].value);
	http_request_strip(&request);
	for (size_t i = 0; i < ARRAY_LEN(request_rows); i++) {
		if (!request_rows[i].stays)
			continue;
		assert_true(at < request.fields.count);
		assert_span(request.fields.items[at++].name, request_rows[i].name,
			    request_rows[i].name);
	}
	if (at < request.fields.count)
		fail_msg("%.*s stayed", SPAN_ARG(request.fields.items[at].name));
}

static void test_response(void **state)
{
	struct http_response response = { 0 };

	(void)state;
	http_fields_init(&response.fields, &arena);
	add(&response.fields, "Date", "x");
	add(&response.fields, "Connection", "date, x-mine");
	add(&response.fields, "X-Mine", "x");
	add(&response.fields, "Transfer-Encoding", "chunked");
	add(&response.fields, "Set-Cookie", "a");
	add(&response.fields, "Set-Cookie", "b");
	http_response_strip(&response);
	assert_int_equal(response.fields.count, 3);
	assert_span(response.fields.items[0].name, "Date", "date");
	assert_span(response.fields.items[2].value, "b", "cookies");
}

static void test_many_options(void **state)
{
	struct http_request request = { 0 };
	static char options[32768];

	(void)state;
	http_fields_init(&request.fields, &arena);
	for (size_t i = 0; i + 2 < sizeof(options); i += 2)
		memcpy(options + i, "b,", 3);
	add(&request.fields, "Connection", options);
	for (int i = 0; i < 99; i++)
		add(&request.fields, "A", "x");
	http_request_strip(&request);
	assert_int_equal(request.fields.count, 99);
}

static void test_forwarded(void **state)
{
	static const struct {
		struct http_hop hop;
		const char *proto, *host, *forwarded;
	} rows[] = {
		{ { SPAN("192.0.2.1"), SPAN("a.example:8443"), true },
		  "https",
		  "a.example:8443",
		  "for=192.0.2.1;host=\"a.example:8443\";proto=https" },
		{ { SPAN("2001:db8::1"), SPAN("[::1]"), false },
		  "http",
		  "[::1]",
		  "for=\"[2001:db8::1]\";host=\"[::1]\";proto=http" },
		{ { SPAN("192.0.2.1"), SPAN(""), false }, "http", "", "for=192.0.2.1;proto=http" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_fields fields;

		http_fields_init(&fields, &arena);
		assert_int_equal(http_fields_add_forwarded(&fields, &rows[i].hop), 0);
		assert_true(span_equal(http_fields_value(&fields, HTTP_NAME_X_FORWARDED_FOR),
				       rows[i].hop.client));
		assert_span(http_fields_value(&fields, HTTP_NAME_X_FORWARDED_PROTO), rows[i].proto,
			    "proto");
		assert_span(http_fields_value(&fields, HTTP_NAME_X_FORWARDED_HOST), rows[i].host,
			    "host");
		assert_span(http_fields_value(&fields, HTTP_NAME_FORWARDED), rows[i].forwarded,
			    "forwarded");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_many_options),
		cmocka_unit_test(test_forwarded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
