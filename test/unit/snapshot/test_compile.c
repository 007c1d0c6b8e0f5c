/* compile: what a text means, and what it says where it means nothing. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct world {
	struct arena scratch, arena;
	struct conf_errors errors;
	struct conf_tree *tree;
	const struct snapshot *snapshot;
	int result;
	char output[16384];
};

/* Files by their names: `/N.html` has N bytes. */
static int read_page(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	static char page[70000];
	unsigned long len = strtoul(path.ptr + 1, NULL, 10);

	memset(page, owner ? *(char *)owner : 'x', sizeof(page));
	*ret_identity = len;
	*ret_text = span_of(page, len);
	return len ? 0 : -ENOENT;
}

static const struct conf_functions with_pages = { .read = read_page };

static void build_with(struct world *world, const char *text,
		       const struct conf_functions *functions);

static void build(struct world *world, const char *text)
{
	build_with(world, text, NULL);
}

static void build_with(struct world *world, const char *text,
		       const struct conf_functions *functions)
{
	struct snapshot_options options = { .implied_tls_port = 443, .implied_plain_port = 80 };

	memset(world, 0, sizeof(*world));
	arena_init(&world->scratch, 0);
	arena_init(&world->arena, 0);
	conf_errors_init(&world->errors, &world->scratch);
	world->result = conf_parse(&world->scratch, SPAN("/e/t.conf"), span_str(text), functions,
				   &world->errors, &world->tree);
	if (world->result == 0)
		world->result = snapshot_compile(world->tree, &options, &world->arena,
						 &world->errors, &world->snapshot);
	assert_true(world->result >= 0);
	struct writer writer = writer_of(world->output, sizeof(world->output) - 1);
	conf_errors_write(world->tree, &world->errors, &writer);
}

static void drop(struct world *world)
{
	arena_fini(&world->arena);
	arena_fini(&world->scratch);
}

/* ---- Faults: the first error, its place and the nearest word --------------------------------- */

struct fault {
	const char *text;
	int result;
	uint32_t line, column, other_line;
	const char *message; /* a part of it */
	const char *nearest;
};

#define SITE(body) "portcullis 1\nlisten 127.0.0.1:1 plain serve\nsite a.test {\n" body "\n}"

#define UPSTREAM(body) "portcullis 1\nlisten 127.0.0.1:1 plain serve\n\nupstream a {\n" body "\n}"

static const struct fault faults[] = {
	{ SITE("respnd 200"), 1, 4, 1, 0, "unknown statement `respnd`", "respond" },
	{ SITE("respond 200 onn /x"), 1, 4, 13, 0, "does not belong here", "on" },
	{ SITE("respond 200 \"\" onn /x"), 1, 4, 16, 0, "does not belong here", "on" },
	{ SITE("respond 99"), 1, 4, 9, 0, "CODE is 200 to 599", NULL },
	{ SITE("respond"), 1, 4, 1, 0, "CODE is missing: write `respond CODE [\"TEXT\"]", NULL },
	{ SITE("respond 304"), 1, 4, 9, 0, "304", NULL },
	{ SITE("respond 204 x"), 1, 4, 13, 0, "has no text", NULL },
	{ SITE("respond 200 x retry-after 5"), 1, 4, 27, 0, "needs its unit", NULL },
	{ SITE("respond 200 on x"), 1, 4, 16, 0, "a path starts with /", NULL },
	{ SITE("respond 200 on /a/../b"), 1, 4, 16, 0, "/..", NULL },
	{ SITE("respond 200 on ^/a"), 1, 4, 16, 0, "a path starts with /", NULL },
	{ SITE("respond 200 on /a[0-9]"), 1, 4, 16, 0, "no regular expressions", NULL },
	{ SITE("respond 200 on /a on /b"), 1, 4, 19, 4, "stands twice in this line", NULL },
	{ SITE("respond 200 { }"), 1, 4, 1, 0, "takes no block", NULL },
	{ SITE("redirect /x 305"), 1, 4, 13, 0, "301, 302, 303, 307 or 308", NULL },
	{ SITE("redirect x"), 1, 4, 10, 0, "https://", NULL },
	{ SITE("redirect //x"), 1, 4, 10, 0, "https://", NULL },
	{ SITE("proxy"), 1, 4, 1, 0, "UPSTREAM is missing", NULL },
	{ SITE("proxy 10.0.0.1"), 1, 4, 7, 0, "the port is missing", NULL },
	{ SITE("proxy 10.0.0.1:99999"), 1, 4, 7, 0, "1 to 65535", NULL },
	{ SITE("proxy ::1:80"), 1, 4, 7, 0, "[::1]:8080", NULL },
	{ SITE("proxy ftp://x"), 1, 4, 7, 0, "http:// or https://", NULL },
	{ SITE("proxy http://x/path"), 1, 4, 7, 0, "no path", NULL },
	{ SITE("proxy 300.1.1.1:80"), 1, 4, 7, 0, "neither a host name nor an address", NULL },
	{ SITE("proxy 80 localhost:80"), 1, 4, 10, 4, "stands twice", NULL },
	{ SITE("proxy 80 verify ca /x"), 1, 4, 10, 0, "needs an https://", NULL },
	{ SITE("proxy 80 verify cb /x"), 1, 4, 17, 0, "one of: ca", "ca" },
	{ SITE("proxy 80 host http://x"), 1, 4, 15, 0, "is no host", NULL },
	{ SITE("proxy 80 upgrade h2c"), 1, 4, 18, 0, "h2c is never passed", NULL },
	{ UPSTREAM(""), 1, 4, 10, 0, "needs an origin", NULL },
	{ UPSTREAM("origin 80\norigin localhost:80"), 1, 6, 8, 5, "stands twice", NULL },
	{ UPSTREAM("origin app"), 1, 5, 8, 0, "the port is missing", NULL },
	{ UPSTREAM("origin 80 weight 0"), 1, 5, 18, 0, "1 to 256", NULL },
	{ UPSTREAM("origin 80 wieght 2"), 1, 5, 11, 0, "does not belong here", "weight" },
	{ UPSTREAM("origin 80 verify ca x.pem"), 1, 5, 11, 0, "needs an https:// origin", NULL },
	{ UPSTREAM("server 80"), 1, 5, 1, 0, "unknown statement `server`", NULL },
	{ UPSTREAM("origin 80; balance least-con"), 1, 5, 20, 0, "least-con", "least-conn" },
	{ UPSTREAM("origin 80; balance hash"), 1, 5, 20, 0, "a hash of what", NULL },
	{ UPSTREAM("origin 80; balance random path"), 1, 5, 27, 0, "belongs to `balance hash`",
	  NULL },
	{ UPSTREAM("origin 80; balance hash path cookie a"), 1, 5, 30, 5, "one key", NULL },
	{ UPSTREAM("origin 80; balance random; balance random"), 1, 5, 28, 5, "stands once", NULL },
	{ UPSTREAM("origin 80; check /a*"), 1, 5, 18, 0, "without `*`", NULL },
	{ UPSTREAM("origin 80; check a"), 1, 5, 18, 0, "PATH", NULL },
	{ UPSTREAM("origin 80; check / every 1ms"), 1, 5, 26, 0, "TIME", NULL },
	{ UPSTREAM("origin 80; check / status 300 200"), 1, 5, 31, 0, "below the first", NULL },
	{ UPSTREAM("origin 80; check / raise 2"), 1, 5, 20, 0, "does not belong here", "rise" },
	{ SITE("proxy 80 every 2s"), 1, 4, 10, 0, "belongs to `check`", NULL },
	{ SITE("proxy app check /") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "write `check` in the block", NULL },
	{ UPSTREAM("origin 80; slow-start 30"), 1, 5, 23, 0, "needs its unit", NULL },
	{ "portcullis 1\nupstream a { origin 1 }\nupstream a { origin 2 }", 1, 3, 10, 2,
	  "an upstream `a` already", NULL },
	{ "portcullis 1\nupstream 9a { origin 1 }", 1, 2, 10, 0, "starts with a letter", NULL },
	{ "portcullis 1\nupstream a.b { origin 1 }", 1, 2, 10, 0, "has no dot", NULL },
	{ SITE("upstream a { origin 80 }"), 1, 4, 1, 0, "outside of all blocks", NULL },
	{ SITE("proxy ap") "\nupstream app { origin 1 }", 1, 4, 7, 0, "no UPSTREAM", "app" },
	{ SITE("proxy app 80") "\nupstream app { origin 1 }", 1, 4, 7, 0, "stands alone", NULL },
	{ SITE("proxy app random") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "write `balance random` in the block", NULL },
	{ SITE("proxy app verify ca x") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "behind the origins", NULL },
	{ SITE("proxy app allow-local") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "behind the origins", NULL },
	{ SITE("proxy 80 81 random ip-hash"), 1, 4, 20, 4, "one way to share", NULL },
	{ UPSTREAM("origin 80; sticky; sticky"), 1, 5, 20, 5, "stands once", NULL },
	{ UPSTREAM("origin 80; sticky cookie"), 1, 5, 19, 0, "NAME", NULL },
	{ UPSTREAM("origin 80; sticky cookie a=b"), 1, 5, 26, 0, "a cookie's name", NULL },
	{ UPSTREAM("origin 80; sticky for 100ms"), 1, 5, 23, 0, "TIME", NULL },
	{ UPSTREAM("origin 80; sticky coockie a"), 1, 5, 19, 0, "", "cookie" },
	{ SITE("proxy app sticky") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "write `sticky` in the block", NULL },
	{ SITE("proxy 1 2 sticky on /a; proxy app") "\nupstream app { origin 1; sticky }", 1, 4, 25,
	  0, "line 4 of this site has a cookie `sticky`", NULL },
	{ UPSTREAM("origin 80 send-proxy"), 1, 5, 11, 0, "v1|v2", NULL },
	{ UPSTREAM("origin 80 send-proxy v3"), 1, 5, 22, 0, "one of: v1 v2", "v1" },
	{ UPSTREAM("origin 80 send-proxi v1"), 1, 5, 11, 0, "", "send-proxy" },
	{ SITE("proxy app send-proxy v1") "\nupstream app { origin 1 }", 1, 4, 11, 0,
	  "behind the origins", NULL },
	{ SITE("proxy 80 upgrad x"), 1, 4, 10, 0, "no UPSTREAM", "upgrade" },
	{ SITE("files"), 1, 4, 1, 0, "DIR is missing", NULL },
	{ SITE("respond OK"), 1, 4, 9, 0, "is no CODE", "" },
	{ SITE("proxy_pass http://x"), 1, 4, 1, 0, "here it is `proxy UPSTREAM`", "" },
	{ SITE("header set X Y"), 1, 4, 1, 0, "in no version yet", "" },
	{ SITE("Root /srv"), 1, 4, 1, 0, "here it is `files DIR`", "" },
	{ SITE("certificate acme"), 1, 4, 13, 0,
	  "write `certificate internal` or `certificate file`", "" },
	{ "portcullis 1\nserver { }", 1, 2, 1, 0, "a site is `site NAME { … }`", "" },
	{ "portcullis 1\nlog /x", 1, 2, 5, 0, "write `log access` or `log events`", "" },
	{ SITE("tls min 1.1"), 1, 4, 9, 0, "one of: 1.2 1.3", "1.2" },
	{ SITE("tls max 1.3"), 1, 4, 5, 0, "`tls` knows no `max`", NULL },
	{ SITE("tls mon 1.3"), 1, 4, 5, 0, "`tls` knows no `mon`", "min" },
	{ SITE("tls"), 1, 4, 1, 0, "needs one more word", "min" },
	{ SITE("tls min 1.3; tls min 1.2"), 1, 4, 14, 4, "stands once here", NULL },
	{ SITE("certificate internal; certificate internal; respond 200"), 1, 4, 23, 4, "once",
	  NULL },
	{ SITE("certificate file /a"), 1, 4, 18, 0, "KEY is missing", NULL },
	{ SITE("certificate file /a /b; certificate file /a /b"), 1, 4, 25, 0, "twice", NULL },
	{ SITE("limits { header 0KB }"), 1, 4, 17, 0, "cannot be 0", NULL },
	{ SITE("limits { header 32 }"), 1, 4, 17, 0, "needs its unit", NULL },
	{ SITE("limits { worker-memory 5MB }"), 1, 4, 10, 0, "outside of sites", NULL },
	{ SITE("limits on /a { handshake 5s }"), 1, 4, 16, 0, "before there is a path", NULL },
	{ SITE("limits on /a { header-time 5s }"), 1, 4, 16, 0, "before there is a path", NULL },
	{ SITE("limits { header }"), 1, 4, 10, 0, "SIZE is missing", NULL },
	{ SITE("limits { heder 32KB }"), 1, 4, 10, 0, "unknown statement", "header" },
	{ SITE("limits { idle 1s idle 2s }"), 1, 4, 18, 4, "stands once", NULL },
	{ SITE("limits { idle { } }"), 1, 4, 10, 0, "no blocks", NULL },
	{ SITE("limits { idle 1s }; limits { idle 2s }"), 1, 4, 21, 4, "once", NULL },
	{ SITE("limits on /a { }; limits on /a { }"), 1, 4, 19, 4, "twice for one path", NULL },
	{ "portcullis 1\nlimits on /a { idle 1s }", 1, 2, 8, 0, "stand in its site", NULL },
	{ SITE("limits"), 1, 4, 1, 0, "needs a block", NULL },
	{ SITE("limit requests"), 1, 4, 7, 0, "RATE is missing", NULL },
	{ SITE("limit request 5/min"), 1, 4, 7, 0, "`limit` knows no `request`", "requests" },
	{ SITE("limit"), 1, 4, 1, 0, "write `limit requests` or", NULL },
	{ SITE("limit requests 5"), 1, 4, 16, 0, "per s, min, h or d", NULL },
	{ SITE("limit requests 5/week"), 1, 4, 16, 0, "per s, min, h or d", NULL },
	{ SITE("limit requests 0/s"), 1, 4, 16, 0, "lets nothing through", NULL },
	{ SITE("limit requests 200000/s"), 1, 4, 16, 0, "100000/s at most", NULL },
	{ SITE("limit requests 5/s brust 9"), 1, 4, 20, 0, "does not belong here", "burst" },
	{ SITE("limit requests 5/s burst 0"), 1, 4, 26, 0, "N is 1 to", NULL },
	{ SITE("limit requests 2/d burst 3"), 1, 4, 26, 0, "at 2/d at most 2", NULL },
	{ SITE("limit requests 5/s per id"), 1, 4, 24, 0, "one of: ip", "ip" },
	{ SITE("limit requests 5/s per ip on x"), 1, 4, 30, 0, "starts with /", NULL },
	{ SITE("limit requests 5/s per ip ban 15m"), 1, 4, 27, 0, "does not belong here", NULL },
	{ SITE("limit requests 5/s from <a>"), 1, 4, 25, 0, "no table `a`", NULL },
	{ SITE("limit requests 5/s not <a>"), 1, 4, 24, 0, "one of: from", NULL },
	{ SITE("limit requests 5/s from <a> not from <a>") "\ntable a { 10.0.0.1 }", 1, 4, 29, 4,
	  "one of `from` and `not from`", NULL },
	{ SITE("limit requests 5/s; limit  requests 5/s"), 1, 4, 21, 4, "stands twice", NULL },
	{ "portcullis 1\nlimit requests 5/s", 1, 2, 1, 0, "stands in a `site` block", NULL },
	{ SITE("route /a { }"), 1, 4, 1, 0, "this route has no handler", NULL },
	{ SITE("route /a"), 1, 4, 1, 0, "needs a block", NULL },
	{ SITE("route { respond 200 }"), 1, 4, 1, 0, "PATH is missing", NULL },
	{ SITE("route a { respond 200 }"), 1, 4, 7, 0, "starts with /", NULL },
	{ SITE("route ^/a { respond 200 }"), 1, 4, 7, 0, "starts with /", NULL },
	{ SITE("route /(a|b) { respond 200 }"), 1, 4, 7, 0, "no regular expressions", NULL },
	{ SITE("route /a methd GET { respond 200 }"), 1, 4, 10, 0, "does not belong", "method" },
	{ SITE("route /a method get { respond 200 }"), 1, 4, 17, 0, "in capitals", NULL },
	{ SITE("route /a method GET, { respond 200 }"), 1, 4, 17, 0, "in capitals", NULL },
	{ SITE("route /a header \"a b\" { respond 200 }"), 1, 4, 17, 0, "no name of a field",
	  NULL },
	{ SITE("route /a from <b> { respond 200 }"), 1, 4, 15, 0, "no table `b`", NULL },
	{ SITE("route /a { route /b { respond 200 } }"), 1, 4, 12, 0, "`route` stands in a `site`",
	  NULL },
	{ SITE("route /a { tls min 1.3 }"), 1, 4, 12, 0, "`tls` stands in a `site`", NULL },
	{ SITE("route /a { files }"), 1, 4, 12, 0, "DIR is missing", NULL },
	{ SITE("strip-prefix /a"), 1, 4, 1, 0, "stands in a `route` block", NULL },
	{ SITE("route /a* { strip-prefix /a; respond 200 }"), 1, 4, 26, 0, "write `route /a/*",
	  NULL },
	{ SITE("route /* { strip-prefix /a; respond 200 }"), 1, 4, 25, 0, "write `route /a/*",
	  NULL },
	{ SITE("route /*/b { strip-prefix /a; respond 200 }"), 1, 4, 27, 0, "write `route /a/*",
	  NULL },
	{ SITE("route /a/* { strip-prefix /a/; respond 200 }"), 1, 4, 27, 0, "no `/` at its end",
	  NULL },
	{ SITE("route /a/* { limits { handshake 5s }; respond 200 }"), 1, 4, 23, 0,
	  "before there is a path", NULL },
	{ SITE("route /a/* { limits on /b { idle 5s }; respond 200 }"), 1, 4, 21, 0,
	  "for all of it", NULL },
	{ SITE("error"), 1, 4, 1, 0, "CODE is missing: write `error CODE… FILE`", NULL },
	{ SITE("error 502"), 1, 4, 7, 0, "FILE is missing", NULL },
	{ SITE("error /x.html"), 1, 4, 7, 0, "is no CODE: write it in digits alone", NULL },
	{ SITE("error 502 x 503 /x.html"), 1, 4, 11, 0, "is no CODE: write it in digits alone",
	  NULL },
	{ SITE("error 200 /x.html"), 1, 4, 7, 0, "CODE is 400 to 599", NULL },
	{ SITE("error 502 503 /x.html"), 1, 4, 15, 0, "cannot read /x.html: No such file", NULL },
	{ SITE("alias A.TEST"), 1, 4, 7, 3, "`a.test` is served twice", NULL },
	{ SITE("alias -a"), 1, 4, 7, 0, "does not start or end with -", NULL },
	{ SITE("listen *:1"), 1, 4, 1, 0, "`listen` stands outside of all blocks", NULL },
	{ "portcullis 1\nproxy 80", 1, 2, 1, 0, "`proxy` stands in a `site` block", NULL },
	{ "portcullis 1\nsite a.test", 1, 2, 1, 0, "needs a block", NULL },
	{ "portcullis 1\nsite { }", 1, 2, 1, 0, "NAME is missing", NULL },
	{ "portcullis 1\nsite a.test { }\nsite b.test A.test. { }", 1, 3, 13, 2, "served twice",
	  NULL },
	{ "portcullis 1\nsite a.test default { }\nsite b.test default { }", 1, 3, 13, 2,
	  "the default", NULL },
	{ "portcullis 1\nsite a.test defualt { }\nsite defualt { }", 1, 3, 6, 2, "served twice",
	  NULL },
	{ "portcullis 1\nsite https://a.test { }", 1, 2, 6, 0, "without http://", NULL },
	{ "portcullis 1\nsite a.test:443 { }", 1, 2, 6, 0, "without a port", NULL },
	{ "portcullis 1\nsite * { }", 1, 2, 6, 0, "nobody else\'s", NULL },
	{ "portcullis 1\nsite a.*.test { }", 1, 2, 6, 0, "first label", NULL },
	{ "portcullis 1\nsite a..test { }", 1, 2, 6, 0, "empty label", NULL },
	{ "portcullis 1\nsite 300.1.1.1 { }", 1, 2, 6, 0, "neither", NULL },
	{ "portcullis 1\nlisten 443", 1, 2, 8, 0, "*:PORT", NULL },
	{ "portcullis 1\nlisten :443", 1, 2, 8, 0, "*:PORT", NULL },
	{ "portcullis 1\nlisten localhost:443", 1, 2, 8, 0, "a number like 127.0.0.1", NULL },
	{ "portcullis 1\nlisten *:0", 1, 2, 8, 0, "1 to 65535", NULL },
	{ "portcullis 1\nlisten ::1:443", 1, 2, 8, 0, "[::1]:8080", NULL },
	{ "portcullis 1\nlisten *:443 plan", 1, 2, 14, 0, "does not belong", "plain" },
	{ "portcullis 1\nlisten *:443 plain server", 1, 2, 20, 0, "no serve", "serve" },
	{ "portcullis 1\nlisten *:443\nlisten *:443 plain", 1, 3, 8, 2, "already", NULL },
	{ "portcullis 1\nlisten *:443\nlisten 0.0.0.0:443", 1, 3, 8, 2, "already", NULL },
	{ "portcullis 1\nlisten [::1]:443\nlisten [0:0::1]:443", 1, 3, 8, 2, "already", NULL },
	{ "portcullis 1\nlog access stdot", 1, 2, 12, 0, "no target", "stdout" },
	{ "portcullis 1\nlog acess stdout", 1, 2, 5, 0, "knows no `acess`", "access" },
	{ "portcullis 1\nlog access stdout format jsn", 1, 2, 26, 0, "one of: json combined",
	  "json" },
	{ "portcullis 1\nlog access off\nlog access off", 1, 3, 1, 2, "once", NULL },
	{ "portcullis 1\nstate /a; state /b", 1, 2, 11, 2, "once", NULL },
	{ "portcullis 1\nsite www.example.com { respond 200 }", 2, 2, 6, 0,
	  "`www.example.com` needs certificate file CERT KEY", NULL },
	{ "portcullis 1\nsite a.test { alias a.org; respond 200 }", 2, 2, 21, 0,
	  "`a.org` needs certificate file", NULL },
	{ "portcullis 1\ntable us { ::1 }\nsite a.test { route /m { metrics from <us> } }", 1, 3,
	  34, 0, "`route` around it", NULL },
	{ "portcullis 1\nsite a.org { respond 200 }\nsite b.test { respond 1 }", 1, 3, 23, 0,
	  "200 to 599", NULL },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		const struct fault *fault = &faults[i];
		struct world world;

		build(&world, fault->text);
		const struct conf_error *error = &world.errors.list[0];
		while (error->is_warning)
			error++;
		struct span message = span_str(fault->message);
		if (world.result != fault->result || error->place.line != fault->line ||
		    error->place.column != fault->column ||
		    error->other.line != fault->other_line ||
		    span_find(error->message, message) == error->message.len ||
		    (fault->nearest && !span_equal(error->nearest, span_str(fault->nearest))))
			fail_msg("%s\nresult %d\n%s", fault->text, world.result, world.output);
		drop(&world);
	}
}

static const struct {
	const char *text, *message;
	uint32_t line;
} warnings[] = {
	{ "portcullis 1\nlisten *:80 plain serve\nsite a.test { respond 200 }",
	  "serves without TLS", 2 },
	{ "portcullis 1\nlisten 8.8.8.8:80 plain serve\nsite a.test { respond 200 }",
	  "neither loopback", 2 },
	{ "portcullis 1\nlisten 127.0.0.1:80 plain\nsite a.test { respond 200 }",
	  "nothing to redirect", 2 },
	{ "portcullis 1\nsite a.test { }", "serves nothing", 2 },
	{ "portcullis 1", "no site", 1 },
	{ SITE("respond 200\nrespond 404"), "never reached: line 4", 5 },
	{ SITE("respond 200 on /a*\nrespond 404 on /ab"), "never reached: line 4", 5 },
	{ SITE("respond 200 on /a\nrespond 404 on /a"), "never reached: line 4", 5 },
	/* Metrics for anybody. */
	{ "portcullis 1\nsite a.test {\nmetrics on /m }", "whoever asks may read the metrics", 3 },
	{ "portcullis 1\nlisten 127.0.0.1:443\nlisten *:443\nsite a.test {\nmetrics }",
	  "whoever asks", 5 },
	{ "portcullis 1\nsite a.test { route /m header X-Key k {\nmetrics } }", "whoever asks", 3 },
};

/* The same, and none. */
static const char *const no_warnings[] = {
	"portcullis 1\nlisten 127.0.0.1:443\nlisten [::1]:443\nsite a.test { metrics }",
	/* What redirects alone shows nobody a site. */
	"portcullis 1\nlisten 127.0.0.1:443\nlisten *:80 plain\nsite a.test { metrics }",
	"portcullis 1\ntable us { 192.0.2.0/24 }\nsite a.test { metrics on /m from <us> }",
	"portcullis 1\ntable us { 192.0.2.0/24 }\nsite a.test { metrics on /m not from "
	"<us>\nrespond 200 "
	"on /m }",
	"portcullis 1\ntable us { 192.0.2.0/24 }\nsite a.test { route /m from <us> { metrics } }",
	"portcullis 1\nsite a.test { ready on /r; live on /l }",
};

static void test_warnings(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(no_warnings); i++) {
		struct world world;

		build(&world, no_warnings[i]);
		if (world.result || world.errors.warning_count)
			fail_msg("%s\n%s", no_warnings[i], world.output);
		drop(&world);
	}
	for (size_t i = 0; i < ARRAY_LEN(warnings); i++) {
		struct world world;

		build(&world, warnings[i].text);
		assert_int_equal(world.result, 0);
		assert_int_equal(world.errors.warning_count, 1);
		assert_int_equal(world.errors.list[0].place.line, warnings[i].line);
		if (!strstr(world.output, warnings[i].message))
			fail_msg("%s\n%s", warnings[i].text, world.output);
		drop(&world);
	}
	struct world world;
	build(&world,
	      "portcullis 1\nlisten 10.0.0.1:80 plain serve\nlisten [fd00::1]:80 plain serve\n"
	      "site a.test { respond 200 on /a; respond 201 on /*b; respond 404 on /ab }");
	assert_int_equal(world.errors.warning_count, 0);
	drop(&world);
}

/* ---- Meaning --------------------------------------------------------------------------------- */

static void test_listeners(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nsite a.test { respond 200 }");
	const struct snapshot *s = world.snapshot;
	assert_int_equal(s->listener_count, 2);
	assert_true(s->listeners[0].is_implied && !s->listeners[0].is_plain);
	assert_int_equal(s->listeners[0].address.port, 443);
	assert_int_equal(s->listeners[0].address.family, 0);
	assert_true(s->listeners[1].is_implied && s->listeners[1].is_plain &&
		    !s->listeners[1].is_serving);
	assert_int_equal(s->listeners[1].tls_port, 443);
	drop(&world);

	build(&world,
	      "portcullis 1\nlisten 127.0.0.1:81 plain\nlisten *:8443\nlisten 127.0.0.1:9443\n"
	      "listen [::1]:82 plain serve\nsite a.test { respond 200 }");
	s = world.snapshot;
	assert_int_equal(s->listener_count, 4);
	assert_int_equal(s->listeners[0].tls_port, 9443);
	assert_int_equal(s->listeners[3].tls_port, 8443);
	assert_true(s->listeners[3].is_serving);
	assert_int_equal(s->listeners[3].address.family, 6);
	assert_int_equal(s->listeners[1].place.line, 3);
	uint64_t id = s->listeners[0].id;
	assert_ptr_equal(snapshot_find_listener(s, id), &s->listeners[0]);
	drop(&world);
	build(&world, "portcullis 1\nlisten *:1\nlisten 127.0.0.1:81 plain serve\nsite a.test { "
		      "respond 200 }");
	assert_int_equal(world.snapshot->listeners[1].id, id);
	drop(&world);
}

static void test_handlers(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nsite a.test {\n"
		      "respond 503 \"x\\ny\" on /r retry-after 1500ms\n"
		      "redirect https://b.test/ 301 on /d\n"
		      "files srv on /f/*\n"
		      "files /e/srv on /g/*\n"
		      "proxy 3000 LOCALHOST:3000 on /bad\n"
		      "}");
	assert_int_equal(world.result, CONF_FAULTY); /* one origin written twice */
	drop(&world);

	build(&world, "portcullis 1\nsite a.test {\n"
		      "respond 503 \"x\\ny\" on /r retry-after 1500ms\n"
		      "redirect https://b.test/ 301 on /d\n"
		      "files srv on /f/*\n"
		      "files /e/srv on /g/*\n"
		      "proxy 3000 https://B.test:8443 unix:run/s host upstream upgrade Foo bar "
		      "verify ca ca.pem on /p*\n"
		      "proxy localhost:3000 https://[::1] host x.test:81\n"
		      "}");
	const struct snapshot *s = world.snapshot;
	const struct snapshot_route *route = s->sites[0].routes;
	assert_int_equal(s->sites[0].route_count, 6);
	assert_int_equal(route[0].respond.code, 503);
	assert_true(span_equal(route[0].respond.text, SPAN("x\ny")));
	assert_int_equal(route[0].respond.retry_after_s, 2);
	assert_int_equal(route[1].redirect.code, 301);
	assert_true(span_equal(route[1].redirect.url, SPAN("https://b.test/")));
	assert_ptr_equal(route[2].root, route[3].root);
	assert_int_equal(s->root_count, 1);
	assert_true(span_equal(s->roots[0].path, SPAN("/e/srv")));
	const struct snapshot_proxy *proxy = &route[4].proxy;
	assert_int_equal(proxy->upstream->member_count, 3);
	assert_int_equal(proxy->host_mode, SNAPSHOT_HOST_UPSTREAM);
	assert_int_equal(proxy->upgrade_count, 2);
	assert_true(span_equal(proxy->upgrades[0], SPAN("foo")));
	assert_true(span_equal(proxy->upstream->members[0].origin->host, SPAN("localhost")));
	assert_true(
		span_equal(proxy->upstream->members[0].origin->host_field, SPAN("localhost:3000")));
	assert_true(proxy->upstream->members[1].origin->is_https);
	assert_true(span_equal(proxy->upstream->members[1].origin->server_name, SPAN("b.test")));
	assert_true(
		span_equal(proxy->upstream->members[1].origin->host_field, SPAN("b.test:8443")));
	assert_true(span_equal(proxy->upstream->members[1].origin->ca->path, SPAN("/e/ca.pem")));
	assert_true(proxy->upstream->members[2].origin->is_unix);
	assert_true(span_equal(proxy->upstream->members[2].origin->unix_path, SPAN("/e/run/s")));
	assert_null(proxy->upstream->members[2].origin->ca);
	proxy = &route[5].proxy;
	assert_ptr_equal(proxy->upstream->members[0].origin,
			 route[4].proxy.upstream->members[0].origin);
	assert_true(proxy->upstream->members[1].origin->is_address);
	assert_true(span_equal(proxy->upstream->members[1].origin->host, SPAN("::1")));
	assert_true(span_equal(proxy->upstream->members[1].origin->host_field, SPAN("[::1]")));
	assert_int_equal(proxy->upstream->members[1].origin->port, 443);
	assert_null(proxy->upstream->members[1].origin->ca);
	assert_int_equal(proxy->host_mode, SNAPSHOT_HOST_NAME);
	assert_true(span_equal(proxy->host_name, SPAN("x.test:81")));
	assert_int_equal(s->origin_count, 4);
	assert_ptr_equal(snapshot_find_origin(s, s->origins[3].id), &s->origins[3]);
	drop(&world);
}

static void test_upstreams(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nsite a.test {\nproxy app on /a\nproxy app on /b\n"
		      "proxy 81 82 least-conn on /c\nproxy 81 82 least-conn on /d\n"
		      "proxy 81 82 on /e\n}\n"
		      "upstream app {\norigin 81 weight 3\norigin 82 max-conns 7 backup\n"
		      "origin https://b.test verify ca ca.pem\nbalance hash header X-User\n"
		      "slow-start 30s\neject 5 for 1m\n"
		      "check /h every 2s timeout 1s status 200 204 rise 3 fall 4 host h.test\n}\n"
		      "upstream Other { origin 81; balance hash cookie Sess }");
	const struct snapshot *s = world.snapshot;
	const struct snapshot_route *route = s->sites[0].routes;
	const struct snapshot_upstream *app = route[0].proxy.upstream;
	assert_int_equal(s->upstream_count, 4);
	assert_ptr_equal(app, &s->upstreams[0]);
	assert_ptr_equal(route[1].proxy.upstream, app);
	assert_true(span_equal(app->name, SPAN("app")));
	assert_int_equal(app->member_count, 3);
	assert_int_equal(app->members[0].weight, 3);
	assert_int_equal(app->members[1].weight, 1);
	assert_int_equal(app->members[1].max_connections, 7);
	assert_true(app->members[1].is_backup && !app->members[0].is_backup);
	assert_true(span_equal(app->members[2].origin->ca->path, SPAN("/e/ca.pem")));
	assert_int_equal(app->balance, SNAPSHOT_BALANCE_HASH);
	assert_int_equal(app->key, SNAPSHOT_KEY_HEADER);
	assert_true(span_equal(app->key_name, SPAN("x-user")));
	assert_int_equal(app->slow_start_ns, UINT64_C(30000000000));
	assert_int_equal(app->eject_after, 5);
	assert_int_equal(app->eject_for_ns, UINT64_C(60000000000));
	assert_true(span_equal(app->check.path, SPAN("/h")));
	assert_true(span_equal(app->check.host, SPAN("h.test")));
	assert_int_equal(app->check.every_ns, UINT64_C(2000000000));
	assert_int_equal(app->check.timeout_ns, UINT64_C(1000000000));
	assert_true(app->check.status_from == 200 && app->check.status_to == 204);
	assert_true(app->check.rise == 3 && app->check.fall == 4);
	assert_int_equal(s->upstreams[1].check.path.len, 0);
	assert_true(span_equal(s->upstreams[1].key_name, SPAN("Sess")));
	assert_int_equal(s->upstreams[1].key, SNAPSHOT_KEY_COOKIE);
	assert_int_equal(s->upstreams[1].eject_after, 3);
	assert_ptr_equal(s->upstreams[1].members[0].origin, app->members[0].origin);
	/* Lines that say the same share one; another method is another. */
	assert_ptr_equal(route[2].proxy.upstream, route[3].proxy.upstream);
	assert_int_equal(route[2].proxy.upstream->balance, SNAPSHOT_BALANCE_LEAST_CONN);
	assert_ptr_not_equal(route[4].proxy.upstream, route[3].proxy.upstream);
	assert_int_equal(route[4].proxy.upstream->name.len, 0);
	assert_int_equal(s->origin_count, 3);
	drop(&world);
}

/* The same address with and without a header is two origins: no connection serves both. */
static void test_send_proxy(void **state)
{
	struct world world;

	(void)state;
	build(&world,
	      "portcullis 1\nsite a.test {\nproxy app on /a\nproxy 81 82 send-proxy v2 on /b\n"
	      "proxy 81 82 on /c\nproxy 81 82 send-proxy v1\n}\n"
	      "upstream app {\norigin 81 send-proxy v1\norigin 81\norigin 82 send-proxy v2\n}");
	const struct snapshot *s = world.snapshot;
	const struct snapshot_route *route = s->sites[0].routes;
	const struct snapshot_member *app = route[0].proxy.upstream->members;
	assert_int_equal(route[0].proxy.upstream->member_count, 3);
	assert_int_equal(app[0].origin->send_proxy, 1);
	assert_int_equal(app[1].origin->send_proxy, 0);
	assert_int_equal(app[2].origin->send_proxy, 2);
	assert_int_equal(s->origin_count, 6);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(route[1].proxy.upstream->members[i].origin->send_proxy, 2);
		assert_int_equal(route[2].proxy.upstream->members[i].origin->send_proxy, 0);
		assert_int_equal(route[3].proxy.upstream->members[i].origin->send_proxy, 1);
	}
	assert_ptr_equal(route[1].proxy.upstream->members[1].origin, app[2].origin);
	assert_ptr_equal(route[2].proxy.upstream->members[0].origin, app[1].origin);
	drop(&world);
}

static void test_sticky(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nlisten 127.0.0.1:1 plain serve\n"
		      "site a.test {\nproxy app on /a\nproxy 81 82 sticky on /b\n"
		      "proxy 81 82 on /c\nproxy app\n}\nsite b.test { proxy plain }\n"
		      "upstream app { origin 81; sticky cookie __Host-o for 90m }\n"
		      "upstream plain { origin 81; sticky }");
	const struct snapshot *s = world.snapshot;
	const struct snapshot_route *route = s->sites[0].routes;
	const struct snapshot_upstream *app = route[0].proxy.upstream;
	const struct snapshot_upstream *plain = s->sites[1].routes[0].proxy.upstream;
	bool has_vault = false;
	assert_true(span_equal(app->sticky_cookie, SPAN("__Host-o")));
	assert_int_equal(app->sticky_age_s, 5400);
	assert_true(span_equal(route[1].proxy.upstream->sticky_cookie, SPAN("sticky")));
	assert_int_equal(route[1].proxy.upstream->sticky_age_s, 0);
	assert_int_equal(route[2].proxy.upstream->sticky_cookie.len, 0);
	assert_ptr_not_equal(route[1].proxy.upstream, route[2].proxy.upstream);
	assert_ptr_equal(route[3].proxy.upstream, app);
	assert_true(span_equal(plain->sticky_cookie, SPAN("sticky")));
	/* Without TLS there is no other reason for one: its key makes the values. */
	for (size_t i = 0; i < s->plan_count; i++) {
		if (s->plan[i].kind != SNAPSHOT_PLAN_HELPER)
			continue;
		has_vault |= s->plan[i].helper == SNAPSHOT_HELPER_VAULT;
		assert_int_not_equal(s->plan[i].helper, SNAPSHOT_HELPER_KEYHOLDER);
	}
	assert_true(has_vault);
	drop(&world);
}

/* What an origin may lead to is a part of what it is: a line that allows more does not allow it for others. */
static void test_allow_local(void **state)
{
	struct world world;

	(void)state;
	build(&world, "portcullis 1\nsite a.test {\nproxy x.example:80 on /a\n"
		      "proxy x.example:80 allow-local on /b\nproxy app on /c\n}\n"
		      "upstream app { origin x.example:80 allow-local; origin x.example:80 }");
	const struct snapshot *s = world.snapshot;
	const struct snapshot_route *route = s->sites[0].routes;
	const struct snapshot_origin *strict = route[0].proxy.upstream->members[0].origin,
				     *local = route[1].proxy.upstream->members[0].origin;
	assert_false(strict->allow_local);
	assert_true(local->allow_local);
	assert_int_equal(s->origin_count, 2);
	assert_ptr_equal(route[2].proxy.upstream->members[0].origin, local);
	assert_ptr_equal(route[2].proxy.upstream->members[1].origin, strict);
	drop(&world);
}

static void test_sites(void **state)
{
	struct world world;

	(void)state;
	build(&world,
	      "portcullis 1\nlimits { idle 7s }\nsite a.test { respond 200 }\n"
	      "site www.example.com example.com { tls min 1.3; limits { header 4KB body 1MB }\n"
	      "limits on /up/* { body 9MB }; limits on /* { idle 2s }\n"
	      "certificate file c.pem k.pem; certificate file r.pem s.pem; respond 200 }\n"
	      "site b.org { certificate internal; alias c.org; respond 200 }\n"
	      "site c.test { certificate file c.pem k.pem; respond 200 }");
	const struct snapshot *s = world.snapshot;
	assert_int_equal(s->site_count, 4);
	assert_int_equal(s->policy_count, 2);
	assert_int_equal(s->sites[0].policy->min_version, 0x0303);
	assert_int_equal(s->sites[1].policy->min_version, 0x0304);
	assert_ptr_equal(s->sites[2].policy, s->sites[0].policy);
	assert_int_equal(s->sites[0].certificates[0]->kind, SNAPSHOT_CERTIFICATE_INTERNAL);
	assert_int_equal(s->sites[1].certificate_count, 2);
	assert_true(span_equal(s->sites[1].certificates[0]->cert_path, SPAN("/e/c.pem")));
	assert_true(span_equal(s->sites[1].certificates[1]->key_path, SPAN("/e/s.pem")));
	assert_int_equal(s->sites[2].certificates[0]->name_count, 2);
	assert_ptr_equal(s->sites[3].certificates[0], s->sites[1].certificates[0]);
	assert_int_equal(s->certificate_count, 4);
	assert_int_equal(s->limits.values[SNAPSHOT_LIMIT_IDLE], 7000000000);
	assert_int_equal(s->limits.values[SNAPSHOT_LIMIT_HEADER], 32768);
	assert_ptr_equal(s->sites[0].limits, &s->limits);
	assert_int_equal(s->sites[1].limits->values[SNAPSHOT_LIMIT_IDLE], 7000000000);
	assert_int_equal(s->sites[1].limits->values[SNAPSHOT_LIMIT_HEADER], 4096);
	assert_int_equal(s->sites[1].limits->values[SNAPSHOT_LIMIT_BODY], 1048576);
	const struct snapshot_limits *up = snapshot_find_limits(&s->sites[1], SPAN("/up/x"));
	assert_int_equal(up->values[SNAPSHOT_LIMIT_BODY], 9 << 20);
	assert_int_equal(up->values[SNAPSHOT_LIMIT_HEADER], 4096);
	assert_int_equal(snapshot_find_limits(&s->sites[1], SPAN("/"))->values[SNAPSHOT_LIMIT_IDLE],
			 2000000000);
	assert_ptr_equal(snapshot_find_limits(&s->sites[0], SPAN("/")), &s->limits);
	assert_ptr_equal(s->sites[1].routes[0].limits, s->sites[1].limits);
	assert_ptr_equal(snapshot_find_certificate(s, s->certificates[3].id), &s->certificates[3]);
	drop(&world);
}

/* What stays while its line stays, and what does not. */
static void test_ids(void **state)
{
	struct world a, b;

	(void)state;
	build(&a, "portcullis 1\nsite x.test { respond 200 }\nsite a.test { files /r on /f/*; "
		  "proxy 80 }");
	build(&b,
	      "portcullis 1 # other\nsite   a.test   {\n  proxy 80 on /p\n  files \"/r\" on /f/*\n"
	      "  proxy localhost:80 }\nsite y.test { respond 200 }");
	assert_int_equal(a.snapshot->sites[1].id, b.snapshot->sites[0].id);
	assert_int_equal(a.snapshot->roots[0].id, b.snapshot->roots[0].id);
	assert_int_equal(a.snapshot->origins[0].id, b.snapshot->origins[0].id);
	assert_int_equal(a.snapshot->sites[1].routes[0].id, b.snapshot->sites[0].routes[1].id);
	assert_int_not_equal(a.snapshot->sites[0].id, b.snapshot->sites[1].id);
	assert_int_equal(a.snapshot->sites[1].certificates[0]->id,
			 b.snapshot->sites[0].certificates[0]->id);
	assert_int_not_equal(a.snapshot->text_hash, b.snapshot->text_hash);
	drop(&a);
	build(&a, "portcullis 1;site a.test{proxy 80 on /p;files /r on /f/*;proxy localhost:80}\n"
		  "site y.test{respond 200}");
	assert_int_equal(a.snapshot->text_hash, b.snapshot->text_hash);
	drop(&a);
	drop(&b);
}

static size_t count_rows(const struct snapshot *s, enum snapshot_plan_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < s->plan_count; i++)
		count += s->plan[i].kind == kind;
	return count;
}

static void test_plan(void **state)
{
	struct world world;

	(void)state;
	build(&world,
	      "portcullis 1\nstate st\nlog access a.json\nlog events syslog\n"
	      "site a.test { files /r; proxy https://x.test verify ca /ca on /a }\n"
	      "site b.org { certificate file /c /k; files /r; proxy https://y.test 80 on /b }\n");
	const struct snapshot *s = world.snapshot;
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_LISTENER), 2);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_ROOT), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_CERTIFICATE), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_KEY), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_INTERNAL), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_CA), 2);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_ORIGIN), 3);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_LOG), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_STATE), 1);
	assert_int_equal(count_rows(s, SNAPSHOT_PLAN_HELPER), 5);
	assert_true(span_equal(s->state_path, SPAN("/e/st")));
	assert_true(span_equal(s->access_log.path, SPAN("/e/a.json")));
	assert_int_equal(s->events_log.target, SNAPSHOT_LOG_SYSLOG);
	drop(&world);
	build(&world,
	      "portcullis 1\nlisten 127.0.0.1:1 plain serve\nsite www.example.com { respond 200 }");
	assert_int_equal(world.snapshot->plan_count, 2); /* the listener and the log */
	assert_int_equal(world.snapshot->certificate_count, 0);
	assert_int_equal(world.snapshot->access_log.target, SNAPSHOT_LOG_STDOUT);
	drop(&world);
}

/* The configuration of the design, as far as this version's statements go. */
static const char sample[] = "portcullis 1\nstate /v\nlog access /l/a.json format json\nlisten "
			     "*:443\nlisten *:80 plain\n"
			     "limits { header 32KB idle 60s }\n"
			     "site www.example.com {\n alias example.com redirect\n certificate "
			     "file /c /k\n tls min 1.3\n"
			     " files /srv/www on /assets/*\n redirect https://e.org/ 308 on /e\n"
			     " respond 503 \"b\\\"\" retry-after 1m on /x\n proxy "
			     "https://10.0.2.20:8443 [::1]:80 unix:/s host upstream "
			     "verify ca /b\n}\nsite api.test default { proxy 3000 }\n";

static void test_every_prefix_and_corruption(void **state)
{
	static const char bytes[] = { 'x', '0', '{', '}', ' ', '"', '/', ':', '\n' };
	char copy[sizeof(sample)];

	(void)state;
	for (size_t i = 0; i < sizeof(sample); i++) {
		struct world world;

		memcpy(copy, sample, sizeof(copy));
		copy[i] = 0;
		build(&world, copy);
		drop(&world);
		for (size_t j = 0; i + 1 < sizeof(sample) && j < sizeof(bytes); j++) {
			copy[i] = bytes[j];
			build(&world, copy);
			/* A refusal has a fault with a place, and nothing else has none. */
			assert_int_equal(world.result != 0, world.errors.error_count != 0);
			drop(&world);
		}
	}
}

/* The limit `error-page`: a byte more is a fault where the file is named. */
static void test_error_pages(void **state)
{
	static const char text[] = SITE("error 502 503 /65536.html\nerror 404 /3.txt\n"
					"route /a { error 502 /4.json; respond 200 }");
	struct conf_functions other = with_pages;
	struct world world;
	char letter = 'y';

	(void)state;
	build_with(&world, text, &with_pages);
	assert_int_equal(world.result, 0);
	const struct snapshot_site *site = &world.snapshot->sites[0];
	const struct snapshot_error_page *page = snapshot_find_error(&site->error_pages, 503);
	uint64_t hash = world.snapshot->text_hash;
	assert_non_null(page);
	assert_int_equal(page->content.len, 65536);
	assert_true(span_starts_with(page->media_type, SPAN("text/html")));
	assert_ptr_equal(page->content.ptr,
			 snapshot_find_error(&site->error_pages, 502)->content.ptr);
	assert_true(span_equal(snapshot_find_error(&site->error_pages, 404)->content, SPAN("xxx")));
	assert_null(snapshot_find_error(&site->error_pages, 500));
	assert_int_equal(snapshot_find_error(&site->routes[0].block->error_pages, 502)->content.len,
			 4);
	drop(&world);
	/* The same text with other pages is another configuration. */
	other.owner = &letter;
	build_with(&world, text, &other);
	assert_int_equal(world.result, 0);
	assert_true(world.snapshot->text_hash != hash);
	drop(&world);
	build_with(&world, SITE("error 502 /65537.html"), &with_pages);
	assert_int_equal(world.result, CONF_FAULTY);
	assert_non_null(strstr(world.output, ":4:11: error: /65537.html has 65537 bytes: the limit "
					     "`error-page` is 64KB"));
	drop(&world);
	build_with(&world, SITE("error 502 503 /1.html\nerror 404 503 /2.html"), &with_pages);
	assert_int_equal(world.result, CONF_FAULTY);
	assert_non_null(strstr(world.output, ":5:11: error: there is a page for 503 already"));
	drop(&world);
	build_with(&world, SITE("error 502 502 /1.html"), &with_pages);
	assert_non_null(strstr(world.output, ":4:11: error: there is a page for 502 already"));
	drop(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_error_pages),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_handlers),
		cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_send_proxy),
		cmocka_unit_test(test_sticky),
		cmocka_unit_test(test_allow_local),
		cmocka_unit_test(test_sites),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_every_prefix_and_corruption),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
