/* schema: every statement of this version. The manual and half of the tests are made of these rows.
 */
#include "snapshot/snapshot_internal.h"

#define ON_PATH \
	{ \
		.name = "on", .arguments = { { .type = CONF_PATTERN, .name = "PATH" } }, \
		.help = "only requests of this path; it is exact, and a `*` at its end makes it " \
			"a prefix", \
	}

#define SEND_PROXY \
	{ \
		.name = "send-proxy", \
		.arguments = { { .type = CONF_CHOICE, .name = "v1|v2", .choices = "v1 v2" } }, \
		.help = "each connection begins with a PROXY header that names the client; no " \
			"other client's requests go out on it", \
	}

#define FROM_TABLE \
	{ \
		.name = "from", \
		.arguments = { { .type = CONF_TABLE, .name = "<TABLE>" } }, \
		.help = "only of clients whose address is in the table", \
	}, \
	{ \
		.name = "not", \
		.arguments = { { .type = CONF_CHOICE, .name = "from", .choices = "from" }, \
			       { .type = CONF_TABLE, .name = "<TABLE>" } }, \
		.help = "`not from <TABLE>`: of all others", \
	}

#define ALLOW_LOCAL \
	{ \
		.name = "allow-local", \
		.help = "its name may lead to this machine, its listeners and link-local " \
			"addresses; else such an answer of DNS is refused", \
	}

#define LIMIT_TYPE_SIZE CONF_SIZE
#define LIMIT_TYPE_TIME CONF_DURATION
#define LIMIT_TYPE_COUNT CONF_NUMBER
#define LIMIT_UNIT_SIZE "B, KB, MB, GB"
#define LIMIT_UNIT_TIME "ms, s, m, h, d"
#define LIMIT_UNIT_COUNT "a number"

const struct conf_schema snapshot_rows[] = {
	{
		.name = "state",
		.inside = "",
		.is_single = true,
		.arguments = { { .type = CONF_PATH, .name = "DIR" } },
		.help = "The folder of everything that a gateway writes: control socket, lock, "
			"keys, history.",
		.unit = "",
		.default_value = "`$PORTCULLIS_STATE`, else `/var/lib/portcullis` for root and "
				 "`$XDG_STATE_HOME/portcullis` for others",
		.example = "state /var/lib/portcullis",
	},
	{
		.name = "log access",
		.inside = "",
		.is_single = true,
		.arguments = { { .type = CONF_PATH, .name = "FILE|stdout|syslog|off" } },
		.options = { { .name = "format",
			.arguments = { { .type = CONF_CHOICE, .name = "FORMAT",
				.choices = "json combined" } },
			.help = "`json`, or `combined` as other servers write it" } },
		.help = "Where each request leaves its line.",
		.unit = "",
		.default_value = "stdout format json",
		.example = "log access /var/log/portcullis/access.json format json",
	},
	{
		.name = "log events",
		.inside = "",
		.is_single = true,
		.arguments = { { .type = CONF_PATH, .name = "FILE|stdout|syslog|off" } },
		.help = "Where events go: what the gateway did or noticed, one JSON object a line.",
		.unit = "",
		.default_value = "stdout",
		.example = "log events /var/log/portcullis/events.json",
	},
	{
		.name = "log slow",
		.inside = "",
		.is_single = true,
		.arguments = { { .type = CONF_DURATION, .name = "TIME", .minimum = 1000000,
			.maximum = UINT64_C(86400000000000) } },
		.help = "A request that takes as long as this, or longer, leaves an event with the "
			"time of each stage, too ([logs](logs.md#slow-requests)). Tunnels do not.",
		.unit = "ms, s, m, h",
		.default_value = "none",
		.example = "log slow 2s",
	},
	{
		.name = "table",
		.inside = "",
		.block = CONF_BLOCK_LIST_OPTIONAL,
		.arguments = { { .type = CONF_NAME, .name = "NAME" } },
		.options = { { .name = "file",
			.arguments = { { .type = CONF_WORDS, .name = "PATH" } },
			.help = "a file of addresses and networks instead of the block, blanks or "
				"line ends between, `#` before a comment" } },
		.list = { .type = CONF_NETWORK, .name = "CIDR" },
		.help = "Addresses and networks under one name; other statements say `<NAME>`. Its "
			"file is read when the configuration is.",
		.unit = "",
		.default_value = "none",
		.example = "table office { 192.0.2.0/24 2001:db8:10::/48 }",
	},
	{
		.name = "listen",
		.inside = "",
		.block = CONF_BLOCK_OPTIONAL,
		.arguments = { { .type = CONF_LISTEN, .name = "ADDR:PORT" } },
		.options = { { .name = "plain",
			.arguments = { { .type = CONF_CHOICE, .name = "serve", .choices = "serve",
				.is_optional = true } },
			.help = "no TLS: redirects to the port that speaks it; with `serve` it "
				"serves the sites, "
				"behind something that ends TLS" } },
		.help = "An address and port to listen on; `*` is every address of both "
			"families. One such "
			"line replaces the implied ones.",
		.unit = "",
		.default_value = "`*:443`, and `*:80 plain` if that port is free",
		.example = "listen *:443",
	},
	{
		.name = "proxy-protocol from",
		.inside = "listen",
		.is_single = true,
		.arguments = { { .type = CONF_TABLE, .name = "<TABLE>" } },
		.help = "Each connection begins with a PROXY header, v1 or v2, and comes from an "
			"address of the table; the client is whom the header names. What comes from "
			"elsewhere or begins otherwise is closed.",
		.unit = "",
		.default_value = "none: no PROXY header is read",
		.example = "proxy-protocol from <office>",
	},
	{
		.name = "limits",
		.inside = ",site,route",
		.block = CONF_BLOCK_PAIRS,
		.options = { ON_PATH },
		.help = "Bounds on what one client may cost. Outside of a site: for all sites "
			"that say nothing "
			"else. With `on PATH` in a site: for that path.",
		.unit = "",
		.default_value = "each limit's own",
		.example = "limits { header 32KB idle 60s }",
	},
	{
		.name = "upstream",
		.inside = "",
		.block = CONF_BLOCK_STATEMENTS,
		.arguments = { { .type = CONF_NAME, .name = "NAME" } },
		.help = "Several origins under one name, for `proxy NAME`.",
		.unit = "",
		.default_value = "none",
		.example = "upstream app { origin 10.0.1.10:8080; origin 10.0.1.11:8080 }",
	},
	{
		.name = "origin",
		.inside = "upstream",
		.arguments = { { .type = CONF_ORIGIN, .name = "ORIGIN" } },
		.options = {
			{ .name = "weight",
				.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
					.maximum = BALANCE_WEIGHT_MAX } },
				.help = "its share beside the others'; 1 is implied" },
			{ .name = "max-conns",
				.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
					.maximum = 65536 } },
				.help = "at most so many connections at once, of all workers "
					"together; more requests go elsewhere, or wait" },
			{ .name = "backup",
				.help = "takes requests only while no other origin is there" },
			{ .name = "verify",
				.arguments = { { .type = CONF_CHOICE, .name = "ca",
					.choices = "ca" },
					{ .type = CONF_PATH, .name = "FILE" } },
				.help = "the CA that it is verified by, instead of the system's" },
			SEND_PROXY,
			ALLOW_LOCAL,
		},
		.help = "One server of the upstream: `PORT`, `HOST:PORT`, `[v6]:PORT`, "
			"`http(s)://…` or `unix:PATH`.",
		.unit = "",
		.default_value = "none",
		.example = "origin 10.0.1.10:8080 weight 2 max-conns 200",
	},
	{
		.name = "balance",
		.inside = "upstream",
		.is_single = true,
		.arguments = { { .type = CONF_CHOICE, .name = "METHOD",
			.choices = "round-robin least-conn random ip-hash hash" } },
		.options = {
			{ .name = "header",
				.arguments = { { .type = CONF_NAME, .name = "NAME" } },
				.help = "`hash`: by this field of the request" },
			{ .name = "cookie",
				.arguments = { { .type = CONF_NAME, .name = "NAME" } },
				.help = "`hash`: by this cookie" },
			{ .name = "path", .help = "`hash`: by the request's path" },
		},
		.help = "Which origin takes a request: each in turn by its weight; the one with "
			"the fewest under way for its weight; the better of two at random; by the "
			"client's address; by a hash of something in the request. The last two are "
			"consistent: an origin that goes takes only its own share along. Without "
			"that field or cookie the client's address counts.",
		.unit = "",
		.default_value = "round-robin",
		.example = "balance hash cookie session",
	},
	{
		.name = "slow-start",
		.inside = "upstream",
		.is_single = true,
		.arguments = { { .type = CONF_DURATION, .name = "TIME", .minimum = 1,
			.maximum = UINT64_C(3600000000000) } },
		.help = "An origin that comes back grows into its share over this time.",
		.unit = "ms, s, m, h",
		.default_value = "none: at once",
		.example = "slow-start 30s",
	},
	{
		.name = "eject",
		.inside = "upstream",
		.is_single = true,
		.arguments = { { .type = CONF_NUMBER, .name = "FAILURES", .maximum = 1000 } },
		.options = { { .name = "for",
			.arguments = { { .type = CONF_DURATION, .name = "TIME",
				.minimum = 1000000, .maximum = UINT64_C(3600000000000) } },
			.help = "how long the first time; each time in a row adds as much, up to "
				"ten times" } },
		.help = "An origin that fails so many requests in a row (no connection, no answer or one "
			"whose head is broken) gets none for a while. 0: never. The last one that is "
			"left stays in.",
		.unit = "",
		.default_value = "3 for 10s",
		.example = "eject 5 for 30s",
	},
	{
		.name = "sticky",
		.inside = "upstream",
		.is_single = true,
		.options = {
			{ .name = "cookie",
				.arguments = { { .type = CONF_WORD, .name = "NAME" } },
				.help = "the cookie's name; `sticky` is implied" },
			{ .name = "for",
				.arguments = { { .type = CONF_DURATION, .name = "TIME",
					.minimum = UINT64_C(1000000000),
					.maximum = UINT64_C(34560000000000000) } },
				.help = "how long a browser keeps it (Max-Age); as long as it runs is "
					"implied" },
		},
		.help = "A client stays with the origin that answered first, by a cookie, for as long "
			"as that origin is there.",
		.unit = "",
		.default_value = "none: each request may go to another",
		.example = "sticky cookie session-origin for 8h",
	},
	{
		.name = "check",
		.inside = "upstream",
		.is_single = true,
		.arguments = { { .type = CONF_PATTERN, .name = "PATH" } },
		.options = {
			{ .name = "every",
				.arguments = { { .type = CONF_DURATION, .name = "TIME",
					.minimum = UINT64_C(100000000),
					.maximum = UINT64_C(3600000000000) } },
				.help = "between the end of one and the next; 5s is implied" },
			{ .name = "timeout",
				.arguments = { { .type = CONF_DURATION, .name = "TIME",
					.minimum = UINT64_C(10000000),
					.maximum = UINT64_C(60000000000) } },
				.help = "for the whole answer's head; 2s is implied" },
			{ .name = "status",
				.arguments = { { .type = CONF_NUMBER, .name = "CODE", .minimum = 200,
					.maximum = 599 },
					{ .type = CONF_NUMBER, .name = "CODE", .is_optional = true,
						.minimum = 200, .maximum = 599 } },
				.help = "what a healthy origin answers, or from which to which; "
					"200 399 is implied" },
			{ .name = "rise",
				.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
					.maximum = 100 } },
				.help = "good answers in a row until it is up again; 2 is implied" },
			{ .name = "fall",
				.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
					.maximum = 100 } },
				.help = "bad ones in a row until it is down; 2 is implied" },
			{ .name = "host",
				.arguments = { { .type = CONF_WORD, .name = "NAME" } },
				.help = "the Host that is asked for, instead of the origin's" },
		},
		.help = "Asks each origin for this path, once for the whole machine. One that is "
			"down gets no requests; the first answer after a start counts at once.",
		.unit = "",
		.default_value = "none: only requests show who answers",
		.example = "check /healthz every 2s timeout 1s status 200",
	},
	{
		.name = "site",
		.inside = "",
		.block = CONF_BLOCK_STATEMENTS,
		.arguments = { { .type = CONF_HOST, .name = "NAME", .is_repeated = true } },
		.options = { { .name = "default", .help = "serves names that no site has, too" } },
		.help = "Names, and what is served under them. `*.example.com` covers one more "
			"label.",
		.unit = "",
		.default_value = "none",
		.example = "site www.example.com example.com default { respond 200 }",
	},
	{
		.name = "alias",
		.inside = "site",
		.arguments = { { .type = CONF_HOST, .name = "NAME" } },
		.options = { { .name = "redirect",
			.help = "answers with 308 to the same path of the site's first name" } },
		.help = "One more name of the site.",
		.unit = "",
		.default_value = "none",
		.example = "alias example.com redirect",
	},
	{
		.name = "certificate internal",
		.inside = "site",
		.is_single = true,
		.help = "A certificate of the local CA, made and renewed by itself. Implied for "
			"names that no "
			"public CA knows.",
		.unit = "",
		.default_value = "implied for names like localhost, addresses and one-label names",
		.example = "certificate internal",
	},
	{
		.name = "certificate file",
		.inside = "site",
		.arguments = { { .type = CONF_PATH, .name = "CERT" }, { .type = CONF_PATH,
			.name = "KEY" } },
		.help = "A chain (leaf first) and its key, PEM, looked at again every 60 s. "
			"Several lines: "
			"ECDSA and RSA side by side.",
		.unit = "",
		.default_value = "none",
		.example = "certificate file /etc/portcullis/www.crt /etc/portcullis/www.key",
	},
	{
		.name = "tls min",
		.inside = "site",
		.is_single = true,
		.arguments = { { .type = CONF_CHOICE, .name = "VERSION", .choices = "1.2 1.3" } },
		.help = "The lowest version of TLS that this site speaks.",
		.unit = "",
		.default_value = "1.2",
		.example = "tls min 1.3",
	},
	{
		.name = "trust forwarded",
		.inside = "site",
		.is_single = true,
		.arguments = { { .type = CONF_CHOICE, .name = "from", .choices = "from" },
			{ .type = CONF_TABLE, .name = "<TABLE>" } },
		.options = { { .name = "field",
			.arguments = { { .type = CONF_WORD, .name = "NAME" } },
			.help = "the field that is believed: `X-Forwarded-For` unless it is said, "
				"`Forwarded` (RFC 7239), or another with an address in it, such as "
				"`CF-Connecting-IP`" } },
		.help = "Believes who connects from an address of the table about the client: the "
			"last address of the field that is not in the table itself. X-Forwarded-Proto "
			"and -Host, or what Forwarded says instead, are believed too.",
		.unit = "",
		.default_value = "nobody is believed; the client is who connected",
		.example = "trust forwarded from <office> field X-Forwarded-For",
	},
	{
		.name = "traceparent",
		.inside = "site",
		.is_single = true,
		.arguments = { { .type = CONF_CHOICE, .name = "HOW",
			.choices = "begin pass off" } },
		.help = "W3C Trace Context towards origins ([logs](logs.md#traces)). `begin`: a "
			"valid `traceparent` is passed on with a span of our own, and without one a "
			"trace begins, sampled. `pass`: none begins. `off`: the client's fields go "
			"along as they came.",
		.unit = "",
		.default_value = "begin",
		.example = "traceparent pass",
	},
	{
		.name = "limit requests",
		.inside = "site,route",
		.arguments = { { .type = CONF_RATE, .name = "RATE" } },
		.options = {
			{ .name = "burst",
				.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
					.maximum = UINT32_MAX } },
				.help = "how many may come at once, if none came for a while; as many "
					"as RATE has are implied" },
			{ .name = "per",
				.arguments = { { .type = CONF_CHOICE, .name = "ip",
					.choices = "ip" } },
				.help = "each client by itself: an IPv4 address, or the /64 of an IPv6 "
					"address; without it all clients share the rate" },
			ON_PATH,
			FROM_TABLE,
		},
		.help = "Over the rate a request is answered with 429 and Retry-After, before anybody "
			"else sees it. Several lines hold together. All workers count in one place, and go on "
			"where they were after a reload that leaves the line as it is.",
		.unit = "a number per s, min, h or d",
		.default_value = "unlimited",
		.example = "limit requests 5/min per ip on /login not from <office>",
	},
	{
		.name = "firewall",
		.inside = "",
		.is_single = true,
		.block = CONF_BLOCK_STATEMENTS,
		.help = "What holds for a connection before anything else of it is looked at, TLS too.",
		.unit = "",
		.default_value = "none",
		.example = "firewall { limit connections 128 per ip }",
	},
	{
		.name = "limit connections",
		.inside = "firewall,site,route",
		.arguments = { { .type = CONF_NUMBER, .name = "N", .minimum = 1,
			.maximum = 1000000 } },
		.options = {
			{ .name = "per",
				.arguments = { { .type = CONF_CHOICE, .name = "ip",
					.choices = "ip" } },
				.help = "each client by itself: an IPv4 address, or the /64 of an IPv6 "
					"address; without it all clients share N" },
			ON_PATH,
			FROM_TABLE,
		},
		.help = "At most so many at a time, all workers together. In `firewall`: connections, "
			"idle ones too, of who connects or whom a PROXY header names; one more is closed "
			"before its handshake. In a site or route: connections that have a request of it "
			"under way; one more is answered with 429, and closed. Several lines hold together.",
		.unit = "a number",
		.default_value = "unlimited",
		.example = "limit connections 10 per ip on /download/*",
	},
	{
		.name = "limit bandwidth",
		.inside = "site,route",
		.arguments = { { .type = CONF_BANDWIDTH, .name = "RATE" } },
		.options = {
			{ .name = "burst",
				.arguments = { { .type = CONF_SIZE, .name = "SIZE", .minimum = 1 } },
				.help = "how much may leave at once, if nothing did for a while; a fifth "
					"of a second's worth is implied" },
			{ .name = "per",
				.arguments = { { .type = CONF_CHOICE, .name = "connection|ip",
					.choices = "connection ip" } },
				.help = "`connection`: each by itself; `ip`: all of a client's together, of "
					"all workers: an IPv4 address, or the /64 of an IPv6 address" },
			ON_PATH,
			FROM_TABLE,
		},
		.help = "The bodies of answers go no faster; heads, and what a client sends, are not "
			"held. Nobody else waits, and an origin is read no faster than its client may "
			"be sent to. Of several lines per connection the slowest holds, of lines per ip each.",
		.unit = "KB/s, MB/s, GB/s",
		.default_value = "unlimited",
		.example = "limit bandwidth 1MB/s burst 10MB per connection on /download/*",
	},
	{
		.name = "route",
		.inside = "site",
		.block = CONF_BLOCK_STATEMENTS,
		.arguments = { { .type = CONF_PATTERN, .name = "PATH" } },
		.options = {
			{ .name = "method",
				.arguments = { { .type = CONF_WORD, .name = "M,…" } },
				.help = "only these methods, with commas between; GET is HEAD too" },
			{ .name = "header",
				.arguments = { { .type = CONF_WORD, .name = "NAME" },
					{ .type = CONF_TEXT, .name = "VALUE", .is_optional = true } },
				.help = "only with this field, and with just this value where one is "
					"said" },
			{ .name = "query",
				.arguments = { { .type = CONF_WORD, .name = "NAME" },
					{ .type = CONF_TEXT, .name = "VALUE", .is_optional = true } },
				.help = "only with this parameter in the query, and with just this "
					"value where one is said" },
			FROM_TABLE,
		},
		.help = "Requests for which all of this is true are answered by the handlers of the "
			"block, and by no others: where none of them fits, with 404. Routes and handlers "
			"are tried in the file's order, the first that matches decides.",
		.unit = "",
		.default_value = "none",
		.example = "route /api/* method GET,POST from <office> { proxy 127.0.0.1:3000 }",
	},
	{
		.name = "strip-prefix",
		.inside = "route",
		.is_single = true,
		.arguments = { { .type = CONF_PATTERN, .name = "PREFIX" } },
		.help = "Takes this off the path's beginning, for the handlers inside and what stands "
			"behind their `on`, and for the upstream. The query stays, and the log has the path "
			"as it came.",
		.unit = "",
		.default_value = "the whole path",
		.example = "strip-prefix /api",
	},
	{
		.name = "proxy",
		.inside = "site,route",
		.arguments = { { .type = CONF_UPSTREAM, .name = "UPSTREAM", .is_repeated = true } },
		.options = {
			ON_PATH,
			{ .name = "round-robin", .help = "several upstreams in turn; this is implied" },
			{ .name = "least-conn",
				.help = "the one with the fewest requests under way" },
			{ .name = "random",
				.help = "two at random, of these the one with fewer under way" },
			{ .name = "ip-hash",
				.help = "by the client's address, for as long as that upstream is "
					"there" },
			{ .name = "sticky",
				.help = "a client stays with the upstream that answered first, by a "
					"cookie `sticky`" },
			{ .name = "check",
				.arguments = { { .type = CONF_PATTERN, .name = "PATH" } },
				.help = "each upstream is asked for this path; one that is down gets "
					"no requests" },
			{ .name = "every",
				.arguments = { { .type = CONF_DURATION, .name = "TIME",
					.minimum = UINT64_C(100000000),
					.maximum = UINT64_C(3600000000000) } },
				.help = "`check`: how often; 5s is implied" },
			{ .name = "host",
				.arguments = { { .type = CONF_WORD, .name = "upstream|NAME" } },
				.help = "the Host that the upstream sees, instead of the "
					"client's" },
			{ .name = "upgrade",
				.arguments = { { .type = CONF_NAME, .name = "TOKEN",
					.is_repeated = true } },
				.help = "protocols that may be upgraded to, beside websocket" },
			{ .name = "verify",
				.arguments = { { .type = CONF_CHOICE, .name = "ca",
					.choices = "ca" },
					{ .type = CONF_PATH, .name = "FILE" } },
				.help = "the CA that https upstreams are verified by, instead "
					"of the system's" },
			SEND_PROXY,
			ALLOW_LOCAL,
		},
		.help = "Passes requests on. UPSTREAM is `PORT`, `HOST:PORT`, `[v6]:PORT`, "
			"`http(s)://…` or `unix:PATH`, or the name of an `upstream` block.",
		.unit = "",
		.default_value = "none",
		.example = "proxy 127.0.0.1:3000 on /api/*",
	},
	{
		.name = "files",
		.inside = "site,route",
		.arguments = { { .type = CONF_PATH, .name = "DIR" } },
		.options = { ON_PATH },
		.help = "Documents below a folder; the request's whole path is appended to it.",
		.unit = "",
		.default_value = "none",
		.example = "files /srv/www on /assets/*",
	},
	{
		.name = "redirect",
		.inside = "site,route",
		.arguments = { { .type = CONF_URL, .name = "URL" },
			{ .type = CONF_NUMBER, .name = "CODE", .is_optional = true, .minimum = 301,
				.maximum = 308 } },
		.options = { ON_PATH },
		.help = "Answers with a Location: 301, 302, 303, 307 or 308.",
		.unit = "",
		.default_value = "CODE is 302",
		.example = "redirect https://www.example.com/new 308 on /old",
	},
	{
		.name = "respond",
		.inside = "site,route",
		.arguments = { { .type = CONF_NUMBER, .name = "CODE", .minimum = 200,
			.maximum = 599 },
			{ .type = CONF_TEXT, .name = "\"TEXT\"", .is_optional = true } },
		.options = { ON_PATH,
			{ .name = "retry-after",
				.arguments = { { .type = CONF_DURATION, .name = "TIME",
					.minimum = 1,
					.maximum = UINT64_C(31536000000000000) } },
				.help = "a Retry-After field, in whole seconds" } },
		.help = "A fixed answer. Without TEXT an error has its small page.",
		.unit = "",
		.default_value = "none",
		.example = "respond 503 \"back at noon\" retry-after 1h on /shop/*",
	},
	{
		.name = "error",
		.inside = "site,route",
		.arguments = { { .type = CONF_NUMBER, .name = "CODE", .minimum = 400,
				       .maximum = 599, .is_repeated = true },
			{ .type = CONF_CONTENT, .name = "FILE" } },
		.help = "The page that the gateway's own answers with these codes show, instead of its "
			"small one. Its file is read when the configuration is; its name says what it "
			"is. What an origin answers passes as it is.",
		.unit = "",
		.default_value = "a small page with the code and the request's number",
		.example = "error 502 503 504 /srv/errors/down.html",
	},
	{
		.name = "metrics",
		.inside = "site,route",
		.options = { ON_PATH, FROM_TABLE },
		.help = "Answers with the [metrics](metrics.md) of the whole service, as Prometheus "
			"reads them. Whoever asks may read them, unless `from` or the `route` around it "
			"says who may: `check` warns of that where a listener is no loopback. For all "
			"others the line is not there, and the next handlers are tried.",
		.unit = "",
		.default_value = "none",
		.example = "metrics on /metrics from <office>",
	},
	{
		.name = "ready",
		.inside = "site,route",
		.options = { ON_PATH },
		.help = "For a load balancer: 200 while every worker's sockets are accepted from, "
			"503 before that and while the gateway stops.",
		.unit = "",
		.default_value = "none",
		.example = "ready on /ready",
	},
	{
		.name = "live",
		.inside = "site,route",
		.options = { ON_PATH },
		.help = "200 as long as a worker answers at all.",
		.unit = "",
		.default_value = "none",
		.example = "live on /live",
	},
#define X(id, limit, kind, number, suffix, status, text) \
	{ \
		.name = limit, \
		.inside = "limits", \
		.is_single = true, \
		.arguments = { { .type = LIMIT_TYPE_##kind, .name = #kind } }, \
		.help = text ".", \
		.unit = LIMIT_UNIT_##kind, \
		.default_value = #number #suffix, \
		.example = limit " " #number #suffix, \
	},
	SNAPSHOT_LIMITS(X)
#undef X
};
const size_t snapshot_row_count = ARRAY_LEN(snapshot_rows);

static const struct conf_schema *const tables[] = { snapshot_rows };
static const size_t counts[] = { ARRAY_LEN(snapshot_rows) };

#define A_SITE "a site is `site NAME { … }`"
#define A_PROXY "here it is `proxy UPSTREAM`"
#define A_FOLDER "here it is `files DIR`"
#define A_CERTIFICATE "here it is `certificate file CERT KEY`"
#define A_TRUST "here it is `trust forwarded from <TABLE> [field NAME]`, in a site"
#define A_PROXY_HEADER "here it is `proxy-protocol from <TABLE>`, in the block of a `listen`"
#define NOT_NEEDED "there is nothing to set: leave it out"
#define NO_TLS_WORD "`listen ADDR:PORT` speaks TLS by itself"
#define LATER_HTTP "HTTP/1.1 needs no word, the others are planned"
#define NO_FASTCGI "an upstream speaks HTTP: put the application's own HTTP port behind `proxy`"
#define PLANNED "it is planned, and in no version yet"

static const struct conf_hint hints[] = {
	/* What users of other servers write first. */
	{ "server", A_SITE },
	{ "server_name", A_SITE },
	{ "virtualhost", A_SITE },
	{ "host", A_SITE },
	{ "frontend", A_SITE },
	{ "location", "a path stands at the handler's end: `proxy 127.0.0.1:3000 on /api/*`" },
	{ "handle", "a path stands at the handler's end: `proxy 127.0.0.1:3000 on /api/*`" },
	{ "proxy_pass", A_PROXY },
	{ "proxypass", A_PROXY },
	{ "reverse_proxy", A_PROXY },
	{ "backend", A_PROXY },
	{ "root", A_FOLDER },
	{ "documentroot", A_FOLDER },
	{ "file_server", A_FOLDER },
	{ "return", "here it is `respond CODE [\"TEXT\"]` or `redirect URL [CODE]`" },
	{ "bind", "here it is `listen ADDR:PORT`" },
	{ "port", "here it is `listen ADDR:PORT`" },
	{ "ssl_certificate", A_CERTIFICATE },
	{ "ssl_certificate_key", A_CERTIFICATE },
	{ "sslcertificatefile", A_CERTIFICATE },
	{ "access_log", "here it is `log access FILE`" },
	{ "error_log", "here it is `log events FILE`" },
	{ "set_real_ip_from", A_TRUST },
	{ "real_ip_header", A_TRUST },
	{ "trusted_proxies", A_TRUST },
	{ "proxy_protocol", A_PROXY_HEADER },
	{ "accept-proxy", A_PROXY_HEADER },
	{ "acl", "addresses under a name are `table NAME { CIDR… }`" },
	{ "geo", "addresses under a name are `table NAME { CIDR… }`" },
	/* The same, beside the words of this language. */
	{ " {", "a site is `site NAME { … }`" },
	{ "upstream server", "here it is `origin HOST:PORT`" },
	{ "default", "`default` stands before the block: `site NAME default { … }`" },
	{ "site _", "`site NAME default { … }` gets what is nobody else's" },
	{ "site *", "`site NAME default { … }` gets what is nobody else's" },
	{ "site =", "words have blanks between them, nothing else" },
	{ "listen ssl", NO_TLS_WORD },
	{ "listen tls", NO_TLS_WORD },
	{ "listen https", NO_TLS_WORD },
	{ "listen http", "without TLS it is `listen ADDR:PORT plain serve`" },
	{ "listen http2", LATER_HTTP },
	{ "listen quic", LATER_HTTP },
	{ "listen default_server", "here it is `site NAME default { … }`" },
	{ "listen reuseport", "it is always on" },
	{ "listen ipv6only=on", "an IPv6 address is for IPv6 only; `*:PORT` is both" },
	{ "tls internal", "here it is `certificate internal`" },
	{ "certificate acme",
	  PLANNED ": until then write `certificate internal` or `certificate file`" },
	{ "redirect permanent", "it is the number 308, or 301" },
	{ "upstreams", "here it is `upstream NAME { … }`" },
	{ "default_backend", A_PROXY },
	{ "use_backend", "a path stands at the handler's end: `proxy NAME on /api/*`" },
	{ "balancer", "here it is `upstream NAME { origin …; balance METHOD }`" },
	{ "lb_policy", "here it is `balance METHOD`, in an `upstream` block" },
	{ "ip_hash", "here it is `balance ip-hash`" },
	{ "least_conn", "here it is `balance least-conn`" },
	{ "option", A_SITE "; checks of origins are `check PATH` in an `upstream` block" },
	{ "http", "there is no block around sites: write `site NAME { … }`" },
	{ "events", NOT_NEEDED },
	{ "worker_processes", NOT_NEEDED },
	{ "worker_connections", NOT_NEEDED },
	{ "user", "each kind of process has a user of its own by itself" },
	{ "daemon", "`portcullis run` stays in the foreground: a service manager starts it" },
	{ "pid", NOT_NEEDED },
	{ "global", NOT_NEEDED },
	{ "defaults", "what holds for all sites stands outside of blocks: `limits { … }`" },
	{ "mode", "here every site speaks HTTP" },
	{ "client_max_body_size", "here it is `limits { body SIZE }`" },
	{ "request_body", "here it is `limits { body SIZE }`" },
	{ "maxconn", "for an origin it is `origin HOST:PORT max-conns N`" },
	{ "timeout", "times are limits, as `limits { first-byte 30s }`" },
	{ "keepalive_timeout", "here it is `limits { idle TIME }`" },
	{ "client_header_timeout", "here it is `limits { header-time TIME }`" },
	{ "proxy_read_timeout", "here it is `limits { first-byte TIME }`" },
	{ "proxy_connect_timeout", "here it is `limits { connect TIME }`" },
	{ "proxy_set_header", "Host, X-Forwarded-* and Forwarded are written by themselves" },
	{ "header_up", "Host, X-Forwarded-* and Forwarded are written by themselves" },
	{ "proxy_http_version", "origins are spoken to in HTTP/1.1" },
	{ "proxy_buffering", "bodies are passed on as they come" },
	{ "add_header", PLANNED },
	{ "gzip", PLANNED },
	{ "encode", PLANNED },
	{ "expires", PLANNED },
	{ "auth_basic", PLANNED },
	{ "basicauth", PLANNED },
	{ "basic_auth", PLANNED },
	{ "allow", "who may is a `route PATH from <TABLE> { … }`, before what all others get" },
	{ "deny", "who may is a `route PATH from <TABLE> { … }`, before what all others get" },
	{ "limit_req", "here it is `limit requests RATE burst N per ip`" },
	{ "limit_req_zone", "here it is `limit requests RATE burst N per ip`" },
	{ "limit_rate", "here it is `limit bandwidth SIZE/s per connection`" },
	{ "limit_rate_after", "here it is `limit bandwidth SIZE/s burst SIZE per connection`" },
	{ "limit_conn", "here it is `limit connections N per ip`" },
	{ "limit_conn_zone", "here it is `limit connections N per ip`" },
	{ "error_page", "here it is `error CODE… FILE`" },
	{ "handle_path", "here it is `route PATH { strip-prefix PREFIX; proxy … }`" },
	{ "try_files",
	  "`files DIR` serves index.html of each folder; other fallbacks are planned" },
	{ "index", "`files DIR` serves index.html of each folder" },
	{ "autoindex", "folders are not listed" },
	{ "fastcgi_pass", NO_FASTCGI },
	{ "php_fastcgi", NO_FASTCGI },
	{ "uwsgi_pass", NO_FASTCGI },
	{ "ssl_protocols", "here it is `tls min 1.2` or `tls min 1.3`" },
	{ "ssl_ciphers", "the ciphers are those of Mozilla's intermediate profile" },
	{ "ssl_prefer_server_ciphers", "the ciphers are those of Mozilla's intermediate profile" },
	{ "ssl_session_cache", "clients get tickets by themselves" },
	{ "ssl", "every listener but a `plain` one speaks TLS" },
	{ "crt", A_CERTIFICATE },
	{ "email", "no public CA is asked yet: `certificate file CERT KEY`" },
	{ "redir", "here it is `redirect URL [CODE]`" },
	{ "redirect_permanent", "here it is `redirect URL 308`" },
	{ "import", "here it is `include FILE`" },
	{ "set", "the only variables are those of the environment: `$NAME`" },
	{ "if", "there are no conditions: a path stands behind `on`, addresses in a `table`" },
	{ "<virtualhost", A_SITE },
	{ "//", "a comment begins with `#`" },
	{ "/*", "a comment begins with `#`" },
	{ "--", "a comment begins with `#`" },
	/* What a plan of this program names. */
	{ "acme", PLANNED ": until then `certificate file CERT KEY`" },
	{ "alert", PLANNED },
	{ "auth", PLANNED },
	{ "block", PLANNED },
	{ "cache", PLANNED },
	{ "client-cert", PLANNED },
	{ "cluster", PLANNED },
	{ "compress", PLANNED },
	{ "cors", PLANNED },
	{ "geoip", PLANNED },
	{ "header", PLANNED },
	{ "rewrite", PLANNED },
	{ "waf", PLANNED },
};

const struct conf_language snapshot_language = {
	.tables = tables,
	.counts = counts,
	.table_count = ARRAY_LEN(tables),
	.hints = hints,
	.hint_count = ARRAY_LEN(hints),
};
