#include "case.h"

#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define AT "Sun, 06 Nov 1994 08:49:37 GMT"
enum { MODIFIED_S = 784111777, NOW_S = 1764000000 };

static const struct {
	enum http_method method;
	const char *fields[4]; /* name, value, name, value */
	enum http_condition expected;
} conditions[] = {
	{ HTTP_GET, { NULL }, HTTP_PROCEED },
	{ HTTP_GET, { "If-None-Match", "\"a\"" }, HTTP_NOT_MODIFIED },
	{ HTTP_HEAD, { "If-None-Match", "W/\"a\"" }, HTTP_NOT_MODIFIED },
	{ HTTP_GET, { "If-None-Match", "\"b\" , \"x,y\",\"a\"" }, HTTP_NOT_MODIFIED },
	{ HTTP_GET, { "If-None-Match", "\"b\"", "If-None-Match", "\"a\"" }, HTTP_NOT_MODIFIED },
	{ HTTP_GET, { "If-None-Match", "*" }, HTTP_NOT_MODIFIED },
	{ HTTP_GET, { "If-None-Match", "\"b\"" }, HTTP_PROCEED },
	{ HTTP_GET, { "If-None-Match", "a" }, HTTP_PROCEED },
	{ HTTP_GET, { "If-None-Match", "\"a" }, HTTP_PROCEED },
	{ HTTP_PUT, { "If-None-Match", "*" }, HTTP_PRECONDITION_FAILED },
	{ HTTP_GET, { "If-Modified-Since", AT }, HTTP_NOT_MODIFIED },
	{ HTTP_GET, { "If-Modified-Since", BEFORE }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Modified-Since", "yesterday" }, HTTP_PROCEED },
	{ HTTP_POST, { "If-Modified-Since", AT }, HTTP_PROCEED },
	{ HTTP_GET, { "If-None-Match", "\"b\"", "If-Modified-Since", AT }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Match", "\"a\"" }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Match", "*" }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Match", "W/\"a\"" }, HTTP_PRECONDITION_FAILED },
	{ HTTP_GET, { "If-Match", "\"b\"" }, HTTP_PRECONDITION_FAILED },
	{ HTTP_GET, { "If-Match", "\"a\"", "If-Unmodified-Since", BEFORE }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Unmodified-Since", BEFORE }, HTTP_PRECONDITION_FAILED },
	{ HTTP_GET, { "If-Unmodified-Since", AT }, HTTP_PROCEED },
	{ HTTP_GET, { "If-Match", "\"a\"", "If-None-Match", "\"a\"" }, HTTP_NOT_MODIFIED },
};

static struct http_request request_of(enum http_method method, const char *const fields[4])
{
	struct http_request request = { .method = method };

	http_fields_init(&request.fields, &arena);
	for (int i = 0; i < 4 && fields[i]; i += 2)
		add(&request.fields, fields[i], fields[i + 1]);
	return request;
}

static void test_conditions(void **state)
{
	struct http_validators validators = { SPAN("\"a\""), MODIFIED_S };
	struct http_validators none = { SPAN_NONE, -1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
		struct http_request request =
			request_of(conditions[i].method, conditions[i].fields);

		if (http_conditions_evaluate(&request, &validators, NOW_S) !=
		    conditions[i].expected)
			fail_msg("row %zu", i);
		(void)http_conditions_evaluate(&request, &none, NOW_S);
	}
}

static const struct {
	const char *fields[4];
	enum http_range expected;
	uint64_t first, len;
	uint64_t size;
} ranges[] = {
	{ { NULL }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-4" }, HTTP_RANGE_PART, 0, 5, 10 },
	{ { "Range", "Bytes=2-" }, HTTP_RANGE_PART, 2, 8, 10 },
	{ { "Range", "bytes=-3" }, HTTP_RANGE_PART, 7, 3, 10 },
	{ { "Range", "bytes=-30" }, HTTP_RANGE_PART, 0, 10, 10 },
	{ { "Range", "bytes=9-9" }, HTTP_RANGE_PART, 9, 1, 10 },
	{ { "Range", "bytes=5-99999999999999999999999999" }, HTTP_RANGE_PART, 5, 5, 10 },
	{ { "Range", "bytes=0-18446744073709551615" }, HTTP_RANGE_PART, 0, UINT64_MAX, UINT64_MAX },
	{ { "Range", "bytes=10-" }, HTTP_RANGE_UNSATISFIABLE, 0, 0, 10 },
	{ { "Range", "bytes=99999999999999999999-" }, HTTP_RANGE_UNSATISFIABLE, 0, 0, 10 },
	{ { "Range", "bytes=-0" }, HTTP_RANGE_UNSATISFIABLE, 0, 0, 10 },
	{ { "Range", "bytes=0-" }, HTTP_RANGE_UNSATISFIABLE, 0, 0, 0 },
	{ { "Range", "bytes=-5" }, HTTP_RANGE_NONE, 0, 0, 0 },
	{ { "Range", "bytes=4-2" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=-" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-1,3-4" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=a-b" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "lines=0-1" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-1", "Range", "bytes=2-3" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-1", "If-Range", "\"a\"" }, HTTP_RANGE_PART, 0, 2, 10 },
	{ { "Range", "bytes=0-1", "If-Range", "W/\"a\"" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-1", "If-Range", "\"b\"" }, HTTP_RANGE_NONE, 0, 0, 10 },
	{ { "Range", "bytes=0-1", "If-Range", AT }, HTTP_RANGE_PART, 0, 2, 10 },
	{ { "Range", "bytes=0-1", "If-Range", BEFORE }, HTTP_RANGE_NONE, 0, 0, 10 },
};

static void test_ranges(void **state)
{
	struct http_validators validators = { SPAN("\"a\""), MODIFIED_S };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		struct http_request request = request_of(HTTP_GET, ranges[i].fields);
		uint64_t first = 0, len = 0;
		enum http_range got =
			http_range_choose(&request, &validators, ranges[i].size, &first, &len);

		if (got != ranges[i].expected || first != ranges[i].first || len != ranges[i].len)
			fail_msg("row %zu: %d %llu %llu", i, got, (unsigned long long)first,
				 (unsigned long long)len);
		request.method = HTTP_POST;
		assert_int_equal(
			http_range_choose(&request, &validators, ranges[i].size, &first, &len),
			HTTP_RANGE_NONE);
	}
	assert_span(http_content_range(&arena, 2, 3, 10), "bytes 2-4/10", "part");
	assert_span(http_content_range(&arena, 0, 0, 10), "bytes */10", "none");
}

static void test_etag(void **state)
{
	char a[HTTP_ETAG_SIZE], b[HTTP_ETAG_SIZE];
	struct span first = http_etag_write(UINT64_MAX, INT64_MAX, UINT32_MAX, a);
	struct span second = http_etag_write(0, 0, 0, b);

	(void)state;
	assert_true(first.len > 2 && first.ptr[0] == '"' && first.ptr[first.len - 1] == '"');
	assert_true(second.len > 2 && second.ptr[second.len - 1] == '"');
	assert_false(span_equal(first, second));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_etag),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
