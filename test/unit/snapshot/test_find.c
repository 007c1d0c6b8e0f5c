/* find: names, sites and routes of a compiled snapshot. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct world {
	struct arena scratch, arena;
	const struct snapshot *snapshot;
};

static void build(struct world *world, const char *text)
{
	struct snapshot_options options = { .implied_tls_port = 443, .implied_plain_port = 80 };
	struct conf_errors errors;
	struct conf_tree *tree;

	arena_init(&world->scratch, 0);
	arena_init(&world->arena, 0);
	conf_errors_init(&errors, &world->scratch);
	assert_int_equal(
		conf_parse(&world->scratch, SPAN("t.conf"), span_str(text), NULL, &errors, &tree),
		0);
	assert_int_equal(snapshot_compile(tree, &options, &world->arena, &errors, &world->snapshot),
			 0);
	assert_int_equal(snapshot_verify(world->snapshot, world->snapshot->size), 0);
}

static void drop(struct world *world)
{
	arena_fini(&world->arena);
	arena_fini(&world->scratch);
}

static const char three_sites[] = "portcullis 1\n"
				  "site a.test A2.Test. { respond 200; alias old.test redirect }\n"
				  "site *.test 127.0.0.1 [::1] { respond 200 }\n"
				  "site b\xc3\xbc"
				  "cher.test d.test default { respond 200 }\n";

static void test_names(void **state)
{
	static const struct {
		const char *host;
		int site; /* -1: nobody */
	} rows[] = {
		{ "a.test", 0 },
		{ "A.TEST", 0 },
		{ "a.test.", 0 },
		{ "a2.test", 0 },
		{ "old.test", 0 },
		{ "x.test", 1 },
		{ "x.y.test", -1 },
		{ "test", -1 },
		{ ".test", -1 },
		{ "", -1 },
		{ ".", -1 },
		{ "127.0.0.1", 1 },
		{ "127.0.0.2", -1 },
		{ "[::1]", 1 },
		{ "::1", 1 },
		{ "0:0:0:0:0:0:0:1", 1 },
		{ "xn--bcher-kva.test", 2 },
		{ "d.test", 2 },
		{ "*.test", 1 },
		{ "1.1", -1 },
	};
	struct world world;

	(void)state;
	build(&world, three_sites);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct snapshot_site *site =
			snapshot_find_site(world.snapshot, span_str(rows[i].host));

		if (rows[i].site < 0)
			assert_null(site);
		else
			assert_ptr_equal(site, &world.snapshot->sites[rows[i].site]);
	}
	const struct snapshot_name *old = snapshot_find_name(world.snapshot, SPAN("old.test"));
	assert_true(span_equal(old->redirect_to, SPAN("a.test")));
	assert_int_equal(snapshot_find_name(world.snapshot, SPAN("a2.test"))->redirect_to.len, 0);
	char large[300];
	memset(large, 'a', sizeof(large));
	assert_null(snapshot_find_site(world.snapshot, span_of(large, sizeof(large))));
	drop(&world);
}

static void test_hello_and_host(void **state)
{
	struct conf_address local = { 0 }, other = { 0 };
	const struct snapshot_name *name;
	struct world world;

	(void)state;
	assert_true(conf_address_parse(SPAN("127.0.0.1"), &local));
	local.port = 443;
	assert_true(conf_address_parse(SPAN("10.0.0.1"), &other));
	build(&world, three_sites);
	const struct snapshot *s = world.snapshot;
	assert_true(snapshot_sni_is_name(SPAN("a.test")));
	assert_false(snapshot_sni_is_name(SPAN("")) || snapshot_sni_is_name(SPAN("10.0.0.1")));
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN("a.test"), &local), &s->sites[0]);
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN("nobody.org"), &local), &s->sites[2]);
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN(""), &local), &s->sites[1]);
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN("10.0.0.1"), &local), &s->sites[1]);
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN(""), &other), &s->sites[2]);
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN(""), NULL), &s->sites[2]);
	assert_ptr_equal(snapshot_site_for_host(s, SPAN("x.test"), &name), &s->sites[1]);
	assert_non_null(name);
	assert_ptr_equal(snapshot_site_for_host(s, SPAN("nobody.org"), &name), &s->sites[2]);
	assert_null(name);
	drop(&world);

	build(&world, "portcullis 1\nsite a.test { respond 200 }");
	s = world.snapshot;
	assert_ptr_equal(snapshot_site_for_hello(s, SPAN(""), NULL), &s->sites[0]);
	assert_null(snapshot_site_for_hello(s, SPAN("b.test"), NULL));
	assert_null(snapshot_site_for_host(s, SPAN("b.test"), NULL));
	drop(&world);

	build(&world, "portcullis 1\nsite a.test { respond 200 }\nsite b.test { respond 200 }");
	assert_null(snapshot_site_for_hello(world.snapshot, SPAN(""), &local));
	drop(&world);
}

static const struct snapshot_route *find_route(const struct snapshot_site *site, const char *path)
{
	struct http_request request = { .method_text = SPAN("GET"),
					.path = { .text = span_str(path) } };
	struct conf_address client = { .family = 4 };
	const struct snapshot_block *block;

	return snapshot_find_route(site, &request, &client, &block);
}

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *path;
		bool matches;
	} rows[] = {
		{ "/", "/", true },
		{ "/", "/a", false },
		{ "/a", "/a", true },
		{ "/a", "/a/", false },
		{ "/a", "/A", false },
		{ "/a*", "/a", true },
		{ "/a*", "/ab", true },
		{ "/a*", "/a/b/c", true },
		{ "/a/*", "/a", false },
		{ "/a/*", "/a/", true },
		{ "/*", "/", true },
		{ "/*", "/x/y", true },
		{ "/*/b", "/a/b", true },
		{ "/*/b", "/a/c/b", false },
		{ "/*/b", "//b", true },
		{ "/*.php", "/x.php", true },
		{ "/*.php", "/d/x.php", false },
		{ "/*.php", "/x.php.php", true },
		{ "/*.php", "/x.php/y", false },
		{ "/a*b*c", "/aXbXbYc", true },
		{ "/a*b*c", "/aXbXbYd", false },
		{ "/u/*/p/*", "/u/1/p/2/3", true },
		{ "/u/*/p/*", "/u/1/q/p/2", false },
		{ "/u/*/p/*", "/u/1/p", false },
		{ "/*a/*a/x", "/aaa/ba/x", true },
		{ "/*a/*a/x", "/aaa/bab/x", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct world world;
		char text[200];

		struct writer writer = writer_of(text, sizeof(text) - 1);
		write_format(&writer, "portcullis 1\nsite a.test { respond 200 on %s }",
			     rows[i].pattern);
		text[writer_done(&writer).len] = 0;
		build(&world, text);
		const struct snapshot_route *route =
			find_route(&world.snapshot->sites[0], rows[i].path);
		assert_int_equal(route != NULL, rows[i].matches);
		drop(&world);
	}
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

static const char blocks[] =
	"portcullis 1\ntable near { 10.0.0.0/8 }\nsite a.test {\n"
	"route /api/* method GET,POST { strip-prefix /api; respond 201 on /x; respond 202 on /y* "
	"}\n"
	"route /* header X-Key secret { respond 203 on /x; respond 203 on /h }\n"
	"route /* header X-Any { respond 204 on /h }\n"
	"respond 205 on /plain\n"
	"route /* query a \"b c\" { respond 206 }\n"
	"route /* query flag { respond 207 }\n"
	"route /in/* from <near> { respond 208 }\n"
	"route /in/* not from <near> { respond 209 }\n"
	"respond 210 }";

static const struct {
	const char *method, *path, *query, *field, *value, *client;
	unsigned code; /* 0: nobody */
} block_rows[] = {
	{ "GET", "/api/x", .code = 201 },
	{ "POST", "/api/x", .code = 201 },
	{ "HEAD", "/api/x", .code = 201 },
	{ "get", "/api/x", .code = 210 },
	{ "PUT", "/api/x", .code = 210 },
	{ "GET", "/api/yes", .code = 202 },
	{ "GET", "/api/z", .code = 0 }, /* the block's, and nobody in it */
	{ "GET", "/api/api/x", .code = 0 },
	{ "GET", "/api", .code = 210 },
	{ "GET", "/x", .code = 210 },
	{ "GET", "/h", .field = "x-kEY", .value = "secret", .code = 203 },
	{ "GET", "/h", .field = "X-Key", .value = "Secret", .code = 210 },
	{ "GET", "/plain", .field = "X-Key", .value = "secret", .code = 0 },
	{ "GET", "/h", .field = "X-Any", .value = "", .code = 204 },
	{ "GET", "/plain", .query = "a=b+c", .code = 205 },
	{ "GET", "/p", .query = "a=b+c", .code = 206 },
	{ "GET", "/p", .query = "x&%61=b%20c&y", .code = 206 },
	{ "GET", "/p", .query = "a=b%2520c", .code = 210 },
	{ "GET", "/p", .query = "a=b+c+", .code = 210 },
	{ "GET", "/p", .query = "a", .code = 210 },
	{ "GET", "/p", .query = "flag", .code = 207 },
	{ "GET", "/p", .query = "x=1&flag=", .code = 207 },
	{ "GET", "/p", .query = "flag%", .code = 210 },
	{ "GET", "/p", .query = "flagge&x=flag", .code = 210 },
	{ "GET", "/in/", .client = "10.1.2.3", .code = 208 },
	{ "GET", "/in/", .client = "::ffff:10.1.2.3", .code = 208 },
	{ "GET", "/in/", .client = "11.1.2.3", .code = 209 },
	{ "GET", "/in", .client = "11.1.2.3", .code = 210 },
};

static void test_blocks(void **state)
{
	struct world world;

	(void)state;
	build(&world, blocks);
	for (size_t i = 0; i < ARRAY_LEN(block_rows); i++) {
		struct http_request request = {
			.method_text = span_str(block_rows[i].method),
			.path = { .text = span_str(block_rows[i].path) },
			.query = span_str(block_rows[i].query),
		};
		struct conf_address client = { .family = 6 };
		const struct snapshot_block *block;
		const struct snapshot_route *route;
		struct arena arena;

		arena_init(&arena, 0);
		http_fields_init(&request.fields, &arena);
		if (block_rows[i].field)
			assert_int_equal(http_fields_add(&request.fields,
							 span_str(block_rows[i].field),
							 span_str(block_rows[i].value)),
					 0);
		if (block_rows[i].client)
			assert_true(conf_address_parse(span_str(block_rows[i].client), &client));
		route = snapshot_find_route(&world.snapshot->sites[0], &request, &client, &block);
		if ((route ? route->respond.code : 0) != block_rows[i].code)
			fail_msg("row %zu: %u", i, route ? route->respond.code : 0);
		assert_true(!route || route->block == block);
		arena_fini(&arena);
	}
	drop(&world);
}

/* A path with `%2f` is let through where no line reads it in two ways. */
static void test_clear_paths(void **state)
{
	static const struct {
		const char *site, *path;
		bool is_clear;
	} rows[] = {
		{ "proxy 127.0.0.1:1", "/@a%2fb", true },
		{ "proxy 127.0.0.1:1 on /api/*", "/api/a%2fb", true },
		{ "proxy 127.0.0.1:1 on /api/*", "/other%2fb", true },
		{ "proxy 127.0.0.1:1 on /api/*", "/api%2fb", false },
		{ "proxy 127.0.0.1:1 on /api*", "/api%2fb", true },
		{ "respond 403 on /admin/*; proxy 127.0.0.1:1", "/admin%2fx", false },
		{ "respond 403 on /admin/*; proxy 127.0.0.1:1", "/%2fadmin/x", false },
		{ "respond 403 on /admin/*; proxy 127.0.0.1:1", "/%61dmin%2Fx", false },
		{ "respond 403 on /admin/*; proxy 127.0.0.1:1", "/x%2fadmin/y", true },
		{ "respond 403 on /p/*/files; proxy 127.0.0.1:1", "/p/a%2fb/files", false },
		{ "respond 403 on /p/*/files; proxy 127.0.0.1:1", "/p/a%2ffiles", false },
		{ "respond 403 on /a/b; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "respond 403 on /a%2fb; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "limits on /a/* { body 1KB }; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "limit requests 5/s on /a/*; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "limit requests 5/s on /a/*; proxy 127.0.0.1:1", "/a/b%2fc", true },
		{ "limit connections 5 per ip on /a/*; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "limit connections 5 per ip on /a/*; proxy 127.0.0.1:1", "/a/b%2fc", true },
		{ "limit bandwidth 1MB/s per connection on /a/*; proxy 127.0.0.1:1", "/a%2fb",
		  false },
		{ "block path /a /b/*; proxy 127.0.0.1:1", "/b%2fc", false },
		{ "block path /a /b/*; proxy 127.0.0.1:1", "/c%2fc", true },
		{ "route /a/* { limit connections 5 per ip on /a/b/*; proxy 127.0.0.1:1 }",
		  "/a/b%2fc", false },
		{ "route /a/* { respond 403 }; proxy 127.0.0.1:1", "/a%2fb", false },
		{ "route /a/* { respond 403 on /a/b/*; proxy 127.0.0.1:1 }", "/a/b%2fc", false },
		{ "route /a/* { respond 403 on /a/b/*; proxy 127.0.0.1:1 }", "/a/c%2fb", true },
		{ "route /a/* { respond 403 on /a/b/*; proxy 127.0.0.1:1 }", "/c%2fa/b", true },
		{ "route /a/* { strip-prefix /a; respond 403 on /b/*; proxy 127.0.0.1:1 }",
		  "/a/b%2fc", false },
		{ "route /a/* { strip-prefix /a; respond 403 on /b/*; proxy 127.0.0.1:1 }",
		  "/a/c%2fc", true },
		{ "route /a/* { limit requests 5/s on /a/b/*; proxy 127.0.0.1:1 }", "/a/b%2fc",
		  false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_path path;
		struct world world;
		char text[256];

		snprintf(text, sizeof(text), "portcullis 1\nsite a.test { %s }\n", rows[i].site);
		build(&world, text);
		assert_int_equal(http_path_normalize(&world.scratch, span_str(rows[i].path), &path),
				 0);
		if (snapshot_path_is_clear(&world.snapshot->sites[0], &path) != rows[i].is_clear)
			fail_msg("%s: %s", rows[i].site, rows[i].path);
		drop(&world);
	}
}

static void test_first_route_wins(void **state)
{
	struct world world;

	(void)state;
	build(&world,
	      "portcullis 1\nsite a.test { respond 201 on /a; respond 202 on /a*; redirect /x }");
	const struct snapshot_site *site = &world.snapshot->sites[0];
	assert_int_equal(find_route(site, "/a")->respond.code, 201);
	assert_int_equal(find_route(site, "/ab")->respond.code, 202);
	assert_int_equal(find_route(site, "/b")->handler, SNAPSHOT_REDIRECT);
	drop(&world);
}

static void test_internal_names(void **state)
{
	static const struct {
		const char *name;
		bool is_internal;
	} rows[] = {
		{ "localhost", true },  { "a.localhost", true },    { "LOCALHOST.", true },
		{ "host", true },       { "127.0.0.1", true },      { "::1", true },
		{ "8.8.8.8", true },    { "x.test", true },         { "x.home.arpa", true },
		{ "x.arpa", false },    { "www.example", true },    { "www.example.com", false },
		{ "notlocal", true },   { "a.notlocal", false },    { "x.LAN", true },
		{ "*.internal", true }, { "*.example.com", false }, { "x.onion", true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(snapshot_name_is_internal(span_str(rows[i].name)),
				 rows[i].is_internal);
}

static void test_verify(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nsite a.test { respond 200 }");
	assert_int_equal(snapshot_verify(world.snapshot, world.snapshot->size - 1), -EBADMSG);
	assert_int_equal(snapshot_verify(world.snapshot, 8), -EBADMSG);
	struct snapshot copy = *world.snapshot;
	copy.format++;
	assert_int_equal(snapshot_verify(&copy, copy.size), -EBADMSG);
	copy = *world.snapshot;
	copy.magic++;
	assert_int_equal(snapshot_verify(&copy, copy.size), -EBADMSG);
	drop(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),    cmocka_unit_test(test_hello_and_host),
		cmocka_unit_test(test_patterns), cmocka_unit_test(test_first_route_wins),
		cmocka_unit_test(test_blocks),   cmocka_unit_test(test_internal_names),
		cmocka_unit_test(test_verify),   cmocka_unit_test(test_clear_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
