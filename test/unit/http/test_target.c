#include "case.h"

#include <stdlib.h>

struct path_case {
	const char *raw;
	const char *text;  /* NULL: refused */
	const char *wire;  /* NULL: the raw one */
	const char *other; /* NULL: none */
};

static const struct path_case paths[] = {
	{ "/", "/", NULL },
	{ "/a/b", "/a/b", NULL },
	{ "/a/b/", "/a/b/", NULL },
	{ "/a;x=1/b;y", "/a;x=1/b;y", NULL },
	{ "/a%20b", "/a b", NULL },
	{ "/%61", "/a", NULL },
	{ "/%C3%BC", "/\xc3\xbc", NULL },
	{ "/\xc3\xbc", "/\xc3\xbc", "/%C3%BC" },
	{ "/a%25b", "/a%b", NULL },
	{ "/%2561", "/%61", NULL },
	{ "/a<b>\"{|}^`", "/a<b>\"{|}^`", NULL },
	{ "/a%3Fb%23c", "/a?b#c", NULL },
	{ "//", "/", "/" },
	{ "//a//b//", "/a/b/", "/a/b/" },
	{ "/.", "/", "/" },
	{ "/./a", "/a", "/a" },
	{ "/a/.", "/a/", "/a/" },
	{ "/a/..", "/", "/" },
	{ "/a/../b", "/b", "/b" },
	{ "/a/b/../..", "/", "/" },
	{ "/a//../b", "/b", "/b" },
	{ "/a/%2e%2E/b", "/b", "/b" },
	{ "/a/.%2e/b", "/b", "/b" },
	{ "/%2e/a", "/a", "/a" },
	{ "/a%20b/../c%20d", "/c d", "/c%20d" },
	{ "/\xc3\xbc/../c", "/c", "/c" },
	{ "/...", "/...", NULL },
	{ "/..a/.b", "/..a/.b", NULL },
	{ "/a../b.", "/a../b.", NULL },
	{ "/..", NULL, NULL },
	{ "/../a", NULL, NULL },
	{ "/a/../..", NULL, NULL },
	{ "/%2e%2e/a", NULL, NULL },
	{ "//../a", NULL, NULL },
	{ "/..;/a", NULL, NULL },
	{ "/a/..;x/b", NULL, NULL },
	{ "/a/.;x/b", NULL, NULL },
	{ "/a/%2e%2e%3bx/b", NULL, NULL },
	{ "/a%2fb", "/a%2fb", NULL, "/a/b" },
	{ "/@a%2Fb", "/@a%2Fb", NULL, "/@a/b" },
	{ "/a%2fb%20c/%2561/", "/a%2fb c/%61/", NULL, "/a/b c/%61/" },
	{ "/a%252fb", "/a%2fb", NULL },
	{ "/a%252fb%2fc", "/a%2fb%2fc", NULL, "/a%2fb/c" },
	{ "/q/%2f/b", "/q/%2f/b", NULL, "/q/b" }, /* a name that is one slash */
	{ "/%2f", "/%2f", NULL, "/" },
	{ "/%2f%2fa%2f%2f", "/%2f%2fa%2f%2f", NULL, "/a/" },
	{ "//a%2fb/\xc3\xbc", "/a%2fb/\xc3\xbc", "/a%2fb/%C3%BC", "/a/b/\xc3\xbc" },
	{ "/a%2fb/../c", "/c", "/c" },
	{ "/a%2f...", "/a%2f...", NULL, "/a/..." },
	{ "/a%2f..", NULL, NULL },
	{ "/a%2f../b", NULL, NULL },
	{ "/..%2fa", NULL, NULL },
	{ "/a/%2e%2e%2fb", NULL, NULL },
	{ "/a%2f.%2fb", NULL, NULL },
	{ "/a%2f..;x%2fb", NULL, NULL },
	{ "/.%2fa", NULL, NULL },
	{ "/%c3%2f%bc", NULL, NULL },
	{ "/a\\b", NULL, NULL },
	{ "/a%5cb", NULL, NULL },
	{ "/a%00b", NULL, NULL },
	{ "/a%0ab", NULL, NULL },
	{ "/a%7fb", NULL, NULL },
	{ "/a\x01", NULL, NULL },
	{ "/a b", NULL, NULL },
	{ "/a#b", NULL, NULL },
	{ "/a?b", NULL, NULL },
	{ "/%", NULL, NULL },
	{ "/%4", NULL, NULL },
	{ "/%4/", NULL, NULL },
	{ "/%zz", NULL, NULL },
	{ "/%u002f", NULL, NULL },
	{ "/%c0%af", NULL, NULL },       /* overlong `/` */
	{ "/%e0%80%af", NULL, NULL },    /* overlong, three bytes */
	{ "/%f0%80%80%af", NULL, NULL }, /* overlong, four bytes */
	{ "/%ed%a0%80", NULL, NULL },    /* a surrogate */
	{ "/%f4%90%80%80", NULL, NULL }, /* above U+10FFFF */
	{ "/%c3", NULL, NULL },
	{ "/%c3/%bc", NULL, NULL },
	{ "/%bc", NULL, NULL },
	{ "/%ff", NULL, NULL },
	{ "/\xff", NULL, NULL },
	{ "a", NULL, NULL },
	{ "", NULL, NULL },
};

static void test_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct path_case *row = &paths[i];
		struct http_path path = { 0 };
		int result = http_path_normalize(&arena, span_str(row->raw), &path);

		if (result != (row->text ? 0 : HTTP_BAD))
			fail_msg("%s: %d", row->raw, result);
		if (!row->text)
			continue;
		assert_span(path.text, row->text, row->raw);
		assert_span(path.wire, row->wire ? row->wire : row->raw, row->raw);
		assert_span(path.other, row->other ? row->other : "", row->raw);
	}
}

/* What a path may not have, in either reading. */
static void check_is_resolved(struct span path)
{
	assert_int_equal(path.ptr[0], '/');
	assert_int_equal(span_find(path, SPAN("//")), path.len);
	assert_int_equal(span_find(path, SPAN("/../")), path.len);
	assert_int_equal(span_find(path, SPAN("/./")), path.len);
	assert_false(span_ends_with(path, SPAN("/..")));
	assert_false(span_ends_with(path, SPAN("/.")));
}

/* Whatever is accepted: the wire form is canonical, and means the text. */
static void check_properties(struct span raw)
{
	struct http_path path, again;

	if (http_path_normalize(&arena, raw, &path))
		return;
	assert_int_equal(http_path_normalize(&arena, path.wire, &again), 0);
	assert_true(span_equal(path.text, again.text));
	assert_true(span_equal(path.wire, again.wire));
	assert_true(span_equal(path.other, again.other));
	check_is_resolved(path.text);
	if (path.other.len)
		check_is_resolved(path.other);
	for (size_t i = 0; i < path.text.len; i++)
		assert_true((uint8_t)path.text.ptr[i] >= 0x20 && path.text.ptr[i] != 0x7f &&
			    path.text.ptr[i] != '\\');
	for (size_t i = 0; i < path.wire.len; i++)
		assert_true((uint8_t)path.wire.ptr[i] > 0x20 && (uint8_t)path.wire.ptr[i] < 0x7f);
}

static void test_paths_in_combination(void **state)
{
	static const char *const parts[] = { "/",   "..",       ".",   "a",   "%2e", ";",
					     "%41", "\xc3\xbc", "%2f", "%c3", "%bc" };
	const size_t count = ARRAY_LEN(parts);
	char raw[64];

	(void)state;
	for (size_t code = 0; code < count * count * count * count * count; code++) {
		size_t rest = code;
		int len = snprintf(raw, sizeof(raw), "/");

		for (int i = 0; i < 5; i++, rest /= count)
			len += snprintf(raw + len, sizeof(raw) - (size_t)len, "%s",
					parts[rest % count]);
		check_properties(span_of(raw, (size_t)len));
		arena_reset(&arena);
	}
}

static void test_paths_corrupted(void **state)
{
	char raw[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		for (size_t at = 0; at < strlen(paths[i].raw); at++)
			for (int byte = 0; byte < 256; byte++) {
				snprintf(raw, sizeof(raw), "%s", paths[i].raw);
				raw[at] = (char)byte;
				check_properties(span_of(raw, strlen(paths[i].raw)));
				check_properties(span_of(raw, at));
				arena_reset(&arena);
			}
}

struct target_case {
	const char *raw;
	enum http_method method;
	int result;
	enum http_target_form form;
	const char *path, *query, *host;
};

static const struct target_case targets[] = {
	{ "/a?b=c?d", HTTP_GET, 0, HTTP_TARGET_ORIGIN, "/a", "b=c?d", "" },
	{ "/?", HTTP_GET, 0, HTTP_TARGET_ORIGIN, "/", "", "" },
	{ "/a?x=%zz/../\\", HTTP_GET, 0, HTTP_TARGET_ORIGIN, "/a", "x=%zz/../\\", "" },
	{ "/a?\xc3\xbc=\xff", HTTP_GET, 0, HTTP_TARGET_ORIGIN, "/a", "%C3%BC=%FF", "" },
	{ "/a?b#c", HTTP_GET, HTTP_BAD, HTTP_TARGET_ORIGIN, "", "", "" },
	{ "http://A.example", HTTP_GET, 0, HTTP_TARGET_ABSOLUTE, "/", "", "a.example" },
	{ "HTTPS://a:8443?q", HTTP_GET, 0, HTTP_TARGET_ABSOLUTE, "/", "q", "a" },
	{ "http://a/b/../c?q", HTTP_POST, 0, HTTP_TARGET_ABSOLUTE, "/c", "q", "a" },
	{ "http:///a", HTTP_GET, HTTP_BAD, HTTP_TARGET_ABSOLUTE, "", "", "" },
	{ "http://u@a/", HTTP_GET, HTTP_BAD, HTTP_TARGET_ABSOLUTE, "", "", "" },
	{ "ftp://a/", HTTP_GET, HTTP_BAD, HTTP_TARGET_ABSOLUTE, "", "", "" },
	{ "a", HTTP_GET, HTTP_BAD, HTTP_TARGET_ORIGIN, "", "", "" },
	{ "", HTTP_GET, HTTP_BAD, HTTP_TARGET_ORIGIN, "", "", "" },
	{ "*", HTTP_OPTIONS, 0, HTTP_TARGET_ASTERISK, "*", "", "" },
	{ "*", HTTP_GET, HTTP_BAD, HTTP_TARGET_ASTERISK, "", "", "" },
	{ "a:443", HTTP_CONNECT, 0, HTTP_TARGET_AUTHORITY, "", "", "a" },
	{ "a", HTTP_CONNECT, HTTP_BAD, HTTP_TARGET_AUTHORITY, "", "", "" },
	{ "/", HTTP_CONNECT, HTTP_BAD, HTTP_TARGET_AUTHORITY, "", "", "" },
	{ "a:443", HTTP_GET, HTTP_BAD, HTTP_TARGET_AUTHORITY, "", "", "" },
};

static void test_targets(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		const struct target_case *row = &targets[i];
		struct http_request request = { .method = row->method };
		int result = http_target_parse(&arena, span_str(row->raw), &request);

		if (result != row->result)
			fail_msg("%s: %d", row->raw, result);
		if (result)
			continue;
		assert_int_equal(request.target_form, row->form);
		assert_span(request.path.wire, row->path, row->raw);
		assert_span(request.query, row->query, row->raw);
		assert_span(request.authority.host, row->host, row->raw);
		assert_int_equal(request.has_query, strchr(row->raw, '?') != NULL);
	}
}

static void test_encode(void **state)
{
	(void)state;
	assert_span(http_path_encode(&arena, SPAN("/a b?#%\xc3\xbc;=@:~")),
		    "/a%20b%3F%23%25%C3%BC;=@:~", "encode");
}

static void test_no_memory(void **state)
{
	struct http_path path;
	struct arena empty;
	char memory[1];

	(void)state;
	arena_init_fixed(&empty, memory, 0);
	assert_int_equal(http_path_normalize(&empty, SPAN("/a"), &path), 0);
	assert_int_equal(http_path_normalize(&empty, SPAN("/%41"), &path), -ENOMEM);
	assert_null(http_path_encode(&empty, SPAN("/a")).ptr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),           cmocka_unit_test(test_paths_in_combination),
		cmocka_unit_test(test_paths_corrupted), cmocka_unit_test(test_targets),
		cmocka_unit_test(test_encode),          cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
