#include "case.h"

#include <ctype.h>

static void test_list(void **state)
{
	struct http_fields fields, copy;

	(void)state;
	http_fields_init(&fields, &arena);
	for (int i = 0; i < 40; i++)
		add(&fields, i % 2 ? "X-a" : "Accept", i == 39 ? "last" : "v");
	assert_int_equal(http_fields_count(&fields, HTTP_NAME_ACCEPT), 20);
	assert_span(http_fields_find_text(&fields, SPAN("x-A"))->value, "v", "find");
	assert_int_equal(http_fields_copy(&copy, &fields, &arena), 0);
	assert_int_equal(http_fields_remove(&fields, HTTP_NAME_ACCEPT), 20);
	assert_int_equal(fields.count, 20);
	assert_int_equal(copy.count, 40);
	assert_span(fields.items[19].value, "last", "order");
	assert_int_equal(http_fields_set(&fields, SPAN("x-a"), SPAN("only")), 0);
	assert_int_equal(fields.count, 1);
	assert_null(http_fields_value(&fields, HTTP_NAME_HOST).ptr);
	assert_false(http_fields_has(&fields, HTTP_NAME_HOST));
	assert_int_equal(http_fields_add_id(&fields, HTTP_NAME_ETAG, SPAN("\"x\"")), 0);
	assert_span(fields.items[1].name, "ETag", "add_id");
}

static void test_comma_lists(void **state)
{
	struct span rest = SPAN(" ,, a ,\tb,c d,"), element;
	struct http_fields fields;

	(void)state;
	assert_true(http_list_next(&rest, &element));
	assert_span(element, "a", "1");
	assert_true(http_list_next(&rest, &element));
	assert_span(element, "b", "2");
	assert_true(http_list_next(&rest, &element));
	assert_span(element, "c d", "3");
	assert_false(http_list_next(&rest, &element));
	http_fields_init(&fields, &arena);
	add(&fields, "Connection", "keep-alive");
	add(&fields, "Connection", ",Close ,x");
	assert_true(http_fields_list_has(&fields, HTTP_NAME_CONNECTION, SPAN("close")));
	assert_false(http_fields_list_has(&fields, HTTP_NAME_CONNECTION, SPAN("clos")));
}

static void test_names(void **state)
{
	char text[64];

	(void)state;
	for (int i = 1; i < HTTP_NAME_COUNT; i++) {
		struct span name = http_name_text((enum http_name)i);

		assert_int_equal(http_name_of(name), i);
		for (size_t at = 0; at < name.len; at++)
			text[at] = (char)(at % 2 ? toupper(name.ptr[at]) : tolower(name.ptr[at]));
		assert_int_equal(http_name_of(span_of(text, name.len)), i);
		for (size_t at = 0; at < name.len; at++) {
			memcpy(text, name.ptr, name.len);
			text[at] = '_';
			assert_int_equal(http_name_of(span_of(text, name.len)), HTTP_NAME_OTHER);
		}
	}
	assert_int_equal(http_name_of(SPAN("")), HTTP_NAME_OTHER);
	assert_int_equal(http_name_of(SPAN("Content-Lengt")), HTTP_NAME_OTHER);
	assert_int_equal(http_name_of(SPAN("X-Something-Very-Long-Indeed-No-Name")),
			 HTTP_NAME_OTHER);
}

static void test_chars(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		bool visible = c > 0x20 && c < 0x7f, high = c >= 0x80;
		bool alnum = c < 0x80 && isalnum(c);
		bool token = alnum || (c && strchr("!#$%&'*+-.^_`|~", c));
		char byte = (char)c, word[16];
		uint8_t class = http_char_class[c];

		assert_int_equal(!!(class & HTTP_CHAR_TOKEN), token);
		assert_int_equal(!!(class & HTTP_CHAR_VALUE),
				 visible || high || c == ' ' || c == '\t');
		assert_int_equal(!!(class & HTTP_CHAR_TARGET), (visible || high) && c != '#');
		assert_int_equal(!!(class & HTTP_CHAR_PATH), visible && !strchr("#%\\?/", c));
		assert_int_equal(!!(class & HTTP_CHAR_HOST),
				 alnum || (c && strchr("-_~!$*+=.", c)));
		assert_int_equal(!!(class & HTTP_CHAR_UNESCAPED),
				 alnum || (c && strchr("-._~!$&'()*+,;=:@/", c)));
		assert_int_equal(http_is_token(span_of(&byte, 1)), token);
		for (size_t at = 0; at < sizeof(word);
		     at++) { /* the eight-at-a-time way says the same */
			memset(word, at % 2 ? 'a' : 0xff, sizeof(word));
			word[at] = byte;
			assert_int_equal(http_is_field_value(span_of(word, sizeof(word))),
					 !!(class & HTTP_CHAR_VALUE));
		}
	}
	assert_false(http_is_token(SPAN("")));
	assert_true(http_is_field_value(SPAN("")));
}

static void test_methods(void **state)
{
	(void)state;
	for (int i = 1; i < HTTP_METHOD_COUNT; i++)
		assert_int_equal(http_method_of(http_method_text((enum http_method)i)), i);
	assert_int_equal(http_method_of(SPAN("get")), HTTP_OTHER);
	assert_true(http_method_is_idempotent(HTTP_PUT));
	assert_false(http_method_is_idempotent(HTTP_POST));
	assert_span(http_status_reason(421), "Misdirected Request", "421");
	assert_span(http_status_reason(299), "Unknown", "299");
	assert_false(http_status_has_body(304, HTTP_GET));
	assert_false(http_status_has_body(200, HTTP_HEAD));
	assert_false(http_status_has_body(200, HTTP_CONNECT));
	assert_true(http_status_has_body(502, HTTP_CONNECT));
}

static void test_cookies(void **state)
{
	static const struct {
		const char *first, *second, *name, *value; /* value NULL: none */
	} rows[] = {
		{ "a=1", NULL, "a", "1" },
		{ "a=1; b=2", NULL, "b", "2" },
		{ "a=1;b=2", NULL, "b", "2" },
		{ "ab=1; b=2=3", NULL, "b", "2=3" },
		{ "a=1; a=2", NULL, "a", "1" },
		{ "a=", NULL, "a", "" },
		{ "a=\"x y\"", NULL, "a", "\"x y\"" },
		{ "x; a=1", NULL, "a", "1" },
		{ "x=1", "a=2", "a", "2" },
		{ "A=1", NULL, "a", NULL },
		{ "aa=1; ba=2", NULL, "a", NULL },
		{ "a", NULL, "a", NULL },
		{ "", NULL, "a", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_fields fields;
		struct span found;

		http_fields_init(&fields, &arena);
		assert_int_equal(http_fields_add(&fields, SPAN("X"), SPAN("a=no")), 0);
		assert_int_equal(http_fields_add(&fields, SPAN("cookie"), span_str(rows[i].first)),
				 0);
		if (rows[i].second)
			assert_int_equal(
				http_fields_add(&fields, SPAN("Cookie"), span_str(rows[i].second)),
				0);
		found = http_cookie_find(&fields, span_str(rows[i].name));
		assert_int_equal(found.ptr != NULL, rows[i].value != NULL);
		assert_span(found, rows[i].value ? rows[i].value : "", rows[i].first);
	}
}

static void test_media_types(void **state)
{
	static const char *const rows[][2] = {
		{ "index.html", "text/html; charset=utf-8" },
		{ "a.b/c.JS", "text/javascript; charset=utf-8" },
		{ "x.7z", "application/x-7z-compressed" },
		{ "x.zst", "application/zstd" },
		{ "x.woff2", "font/woff2" },
		{ "x.svg", "image/svg+xml" },
		{ "x", "application/octet-stream" },
		{ "x.", "application/octet-stream" },
		{ "a.html/x", "application/octet-stream" },
		{ "", "application/octet-stream" },
		{ ".png", "image/png" },
		{ "x.nosuchextensionever", "application/octet-stream" },
		{ "x.ts", "video/mp2t" },
		{ "x.wasm", "application/wasm" },
		{ "x.tar.gz", "application/gzip" },
		{ "x.json", "application/json" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_span(http_media_type(span_str(rows[i][0])), rows[i][1], rows[i][0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),        cmocka_unit_test(test_comma_lists),
		cmocka_unit_test(test_names),       cmocka_unit_test(test_chars),
		cmocka_unit_test(test_methods),     cmocka_unit_test(test_cookies),
		cmocka_unit_test(test_media_types),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
