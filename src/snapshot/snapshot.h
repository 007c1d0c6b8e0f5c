/* snapshot: what a configuration means, as plain structs that every process maps read-only.
 *
 * It joins the statements' schema, compiles a checked tree into an arena, and answers the two
 * questions of the hot path (which site, which route). It opens nothing: files, addresses and
 * certificates that a text names are listed as plan rows, and somebody who may looks at them.
 *
 * The arena is usually a memfd mapped at a fixed place, so pointers work in every process; compile
 * does not know. A snapshot points only into itself: no function, no literal, no heap; enums name
 * code. The same text compiled at the same place gives the same bytes, whatever else lies where.
 * Unused bytes are 0.
 *
 * Ids are hash_id() of a canonical line: they stay while the line stays, and no two things of one
 * kind share one (a thing written twice is one row, or an error). 0 is no id. */
#pragma once

#include "balance/balance.h"
#include "base/base.h"
#include "conf/conf.h"
#include "firewall/firewall.h"
#include "http/http.h"
#include "telemetry/telemetry.h"

#define SNAPSHOT_MAGIC UINT64_C(0x706f727463756c31) /* "portcul1" */

enum {
	SNAPSHOT_FORMAT = 1,
	SNAPSHOT_NEEDS_CERTIFICATE =
		2, /* outcome: the only faults are sites without a certificate */
};

struct snapshot_place {
	struct span file;
	uint32_t line, column;
};

/* ---- Limits: the settable rows of telemetry's table, with the same numbers ------------------- */

#define SNAPSHOT_LIMITS(X) TELEMETRY_LIMITS_SETTABLE(X)

enum snapshot_limit {
#define X(id, name, unit, number, suffix, status, help) SNAPSHOT_LIMIT_##id,
	SNAPSHOT_LIMITS(X)
#undef X
		SNAPSHOT_LIMIT_COUNT
};

/* Times are nanoseconds, sizes bytes. 0 means "none" where that is the default, and is refused
 * elsewhere. */
struct snapshot_limits {
	uint64_t values[SNAPSHOT_LIMIT_COUNT];
};

/* ---- What a snapshot holds ------------------------------------------------------------------- */

/* `table NAME`: addresses. Sorted, disjoint ranges, so that one search says whether an address is in it. */
struct snapshot_range4 {
	uint32_t first, last; /* host order */
};
struct snapshot_range6 {
	uint8_t first[16], last[16];
};
struct snapshot_table {
	uint64_t id; /* of its name */
	struct span name;
	const struct snapshot_range4 *ranges4;
	const struct snapshot_range6 *ranges6;
	size_t range4_count, range6_count;
	struct snapshot_place place;
};

/* `trust forwarded`: who is believed about whose request he passes on, and by which field. */
enum snapshot_trust_form {
	SNAPSHOT_TRUST_LIST,      /* addresses, commas between: X-Forwarded-For and its like */
	SNAPSHOT_TRUST_FORWARDED, /* RFC 7239 */
};
struct snapshot_trust {
	const struct snapshot_table *table;
	struct span field; /* its name, as the text has it */
	enum snapshot_trust_form form;
};

/* What becomes of `traceparent` on its way to an origin. */
enum snapshot_trace {
	SNAPSHOT_TRACE_BEGIN, /* passed on; begun where there is none */
	SNAPSHOT_TRACE_PASS,  /* passed on */
	SNAPSHOT_TRACE_OFF,   /* as the client sent it */
};

struct snapshot_listener {
	uint64_t id; /* of `ADDR:PORT`: a change of `plain` keeps the socket */
	struct conf_address address;
	bool is_plain;     /* no TLS */
	bool is_serving;   /* plain serve: the sites; else plain redirects with 308 */
	bool is_implied;   /* no line: a port that is taken is a warning */
	uint16_t tls_port; /* of a plain listener: where its redirect points; 0 when nothing speaks
			      TLS */
	const struct snapshot_table
		*proxy_protocol; /* who begins with a PROXY header; NULL: nobody */
	struct snapshot_place place;
	struct span
		rule; /* what decided, for log and `explain`: `FILE:LINE: WORD`, here of a redirect to TLS */
};

struct snapshot_tls_policy {
	uint64_t id;
	uint16_t min_version; /* 0x0303 (TLS 1.2) or 0x0304 */
};

enum snapshot_certificate_kind { SNAPSHOT_CERTIFICATE_INTERNAL, SNAPSHOT_CERTIFICATE_FILE };

struct snapshot_certificate {
	uint64_t id; /* the name of its data set; chain and key are no part of a snapshot */
	enum snapshot_certificate_kind kind;
	struct span cert_path, key_path; /* FILE */
	const struct span *names;        /* INTERNAL: what the leaf must name */
	size_t name_count;
	struct snapshot_place place;
};

struct snapshot_root {
	uint64_t id;
	struct span path;
	struct snapshot_place place;
};

struct snapshot_ca {
	uint64_t id;
	struct span path;
	struct snapshot_place place;
};

struct snapshot_origin {
	/* of scheme, host, port, the way it is verified, the PROXY header it is sent, and allow_local */
	uint64_t id;
	bool is_https;
	bool is_unix;    /* unix_path */
	bool is_address; /* `address` holds it; else `host` is a name for the dialer */
	struct conf_address address;
	struct span host; /* lower case, A-labels; an address as text, v6 without brackets */
	uint16_t port;
	struct span unix_path;
	struct span server_name; /* https: SNI and the verified name; empty SNI where is_address */
	struct span host_field; /* what `host upstream` sends: host, and port where not the scheme's
				   own */
	const struct snapshot_ca *ca; /* https: NULL for the system's roots */
	uint8_t send_proxy;           /* the version of the PROXY header that it is sent; 0: none */
	bool allow_local;             /* DNS may name addresses of this machine and of the link */
	struct span text;             /* as written, for logs and status */
	struct snapshot_place place;
};

/* ---- Upstreams: several origins under one name ------------------------------------------------ */

enum snapshot_balance {
	SNAPSHOT_BALANCE_ROUND_ROBIN,
	SNAPSHOT_BALANCE_LEAST_CONN,
	SNAPSHOT_BALANCE_RANDOM, /* the better of two */
	SNAPSHOT_BALANCE_IP_HASH,
	SNAPSHOT_BALANCE_HASH, /* consistent, of `key` */
};

enum snapshot_hash_key {
	SNAPSHOT_KEY_PATH,
	SNAPSHOT_KEY_HEADER, /* key_name */
	SNAPSHOT_KEY_COOKIE,
};

struct snapshot_member {
	const struct snapshot_origin *origin;
	uint32_t weight;          /* 1..BALANCE_WEIGHT_MAX */
	uint32_t max_connections; /* of all workers together; 0: no bound but the limit's */
	bool is_backup;
};

/* What is asked of each member, once for the whole machine. */
struct snapshot_check {
	struct span path; /* empty: nothing is asked */
	struct span host; /* empty: as `host upstream` would send it */
	uint64_t every_ns, timeout_ns;
	uint16_t status_from, status_to; /* what a healthy one answers */
	uint32_t rise, fall;             /* in a row: up again, down */
};

struct snapshot_upstream {
	uint64_t id;      /* of its name; of its members and methods where it has none */
	struct span name; /* empty: a `proxy` line's own */
	const struct snapshot_member *members; /* the text's order, at least one */
	size_t member_count;
	enum snapshot_balance balance;
	enum snapshot_hash_key key;
	struct span key_name;   /* lower case for a header */
	uint64_t slow_start_ns; /* 0: none */
	uint32_t eject_after;   /* failures in a row; 0: never */
	uint64_t eject_for_ns;
	struct snapshot_check check;
	struct span sticky_cookie; /* by which a client stays with its origin; empty: none does */
	uint32_t sticky_age_s;     /* how long he keeps it; 0: as long as the browser runs */
	struct snapshot_place place;
};

enum snapshot_handler {
	SNAPSHOT_FILES,
	SNAPSHOT_PROXY,
	SNAPSHOT_REDIRECT,
	SNAPSHOT_RESPOND,
	SNAPSHOT_METRICS,
	SNAPSHOT_READY,
	SNAPSHOT_LIVE,
};

/* A path is exact; `*` at its end is a prefix (`/a*` covers /a, /ab and /a/b); elsewhere it stands
 * for any number of bytes but `/`. */
struct snapshot_pattern {
	struct span text; /* without the `*` at the end; empty and is_prefix: every path */
	bool is_prefix;
	bool has_star; /* within text */
};

enum snapshot_host_mode {
	SNAPSHOT_HOST_CLIENT,   /* as the client sent it */
	SNAPSHOT_HOST_UPSTREAM, /* origin->host_field */
	SNAPSHOT_HOST_NAME,     /* proxy.host_name */
};

struct snapshot_proxy {
	const struct snapshot_upstream *upstream;
	enum snapshot_host_mode host_mode;
	struct span host_name;
	const struct span *upgrades; /* tokens beside websocket, lower case */
	size_t upgrade_count;
};

struct snapshot_redirect {
	struct span url; /* http(s)://… or an absolute path; sent as it stands */
	uint16_t code;   /* 301 302 303 307 308 */
};

struct snapshot_respond {
	uint16_t code;    /* 200..599, but 304 and 101 */
	struct span text; /* may be empty; without `text` an error code gets its small page */
	bool has_text;
	uint32_t retry_after_s; /* 0: none */
};

/* Whom a line concerns: `from <t>`, `not from <t>`, or everybody. */
struct snapshot_from {
	const struct snapshot_table *table; /* NULL: everybody */
	bool is_not;
};

/* `limit requests`. */
struct snapshot_request_limit {
	struct firewall_rate rate; /* its id is of site and canonical line */
	struct snapshot_pattern pattern;
	struct snapshot_from from;
	bool is_per_ip;     /* else one count for all clients together */
	struct span rule;   /* of place and canonical line */
	struct span policy; /* of RateLimit-Policy, and of RateLimit up to its `;` */
	size_t policy_name_len;
};

/* `limit connections`. */
struct snapshot_connection_limit {
	uint64_t id; /* of where it stands, path and table: with another number it counts on */
	uint64_t most;
	struct snapshot_pattern pattern;
	struct snapshot_from from;
	bool is_per_ip;   /* else one count for all clients together */
	struct span rule; /* of place and canonical line */
};
/* All that match hold. */
struct snapshot_connection_limits {
	const struct snapshot_connection_limit *items;
	size_t count;
};
enum { SNAPSHOT_GATE_LIMITS_MAX = 4 }; /* of `firewall`: each connection remembers them */

/* `limit bandwidth`: of the bodies of answers. */
struct snapshot_bandwidth_limit {
	uint64_t id;       /* of where it stands and canonical line */
	uint64_t rate;     /* bytes a second */
	uint64_t burst_ns; /* what may be sent at once takes so long at this rate */
	struct snapshot_pattern pattern;
	struct snapshot_from from;
	bool is_per_ip; /* else each connection by itself */
};
struct snapshot_bandwidth_limits {
	const struct snapshot_bandwidth_limit *items;
	size_t count;
};
enum { SNAPSHOT_BANDWIDTH_LINES_MAX = 8 }; /* of a site, and of a route */

/* `block path`. */
struct snapshot_denial {
	const struct snapshot_pattern *patterns; /* one is enough */
	size_t pattern_count;
	struct snapshot_from from;
	struct span rule;
};

/* `error`: what an answer of our own with this code shows instead of the small page. */
struct snapshot_error_page {
	uint16_t code;
	struct span media_type, content;
};
struct snapshot_error_pages {
	const struct snapshot_error_page *items; /* one for each code */
	size_t count;
};

/* `route`: a request that all of this is true for is answered by the handlers inside, or by nobody. */
struct snapshot_block {
	uint64_t id; /* of site and canonical line, without what is inside */
	struct snapshot_pattern pattern;
	const struct span *methods; /* none: any; GET stands for HEAD too */
	size_t method_count;
	struct span header_name, header_value; /* empty name: no such condition */
	struct span query_name, query_value;   /* as they mean, not as they are escaped */
	bool has_header_value, has_query_value;
	struct snapshot_from from;
	/* All paths of the pattern begin with it and a `/`: inside they begin with that `/`. */
	struct span strip_prefix;
	/* What handlers are asked for instead of the path, as it goes over the wire; empty: the path itself. */
	struct span rewrite;
	bool rewrite_goes_on; /* what the pattern's `*` stands for comes behind it */
	const struct snapshot_limits *limits; /* NULL: as without the block */
	const struct snapshot_request_limit *request_limits;
	size_t request_limit_count;
	struct snapshot_connection_limits connection_limits;
	struct snapshot_bandwidth_limits bandwidth_limits;
	struct snapshot_error_pages error_pages; /* before the site's */
	struct snapshot_place place;
	struct span rule; /* where no handler inside is for the path */
};

struct snapshot_route {
	uint64_t id;                        /* of site (or block) and canonical line */
	const struct snapshot_block *block; /* what it stands in; NULL: the site itself */
	struct snapshot_pattern pattern;
	enum snapshot_handler handler;
	union {
		const struct snapshot_root *root;  /* FILES */
		struct snapshot_proxy proxy;       /* PROXY */
		struct snapshot_redirect redirect; /* REDIRECT */
		struct snapshot_respond respond;   /* RESPOND */
	};
	const struct snapshot_limits *limits; /* the site's; a path may have others: find_limits */
	struct snapshot_place place;
	struct span rule; /* of place and handler */
};

/* `limits on PATH`: the site's, with what this block says instead. */
struct snapshot_path_limits {
	struct snapshot_pattern pattern;
	struct snapshot_limits limits;
};

struct snapshot_site {
	uint64_t id;              /* of its first name: more names or other handlers leave it */
	const struct span *names; /* first the line's, then aliases; lower case, A-labels, `*.` for
				     a wildcard */
	size_t name_count;
	bool is_default;
	/* The file's order, those of a block behind each other. The first match decides, of blocks and of what stands
	 * in none; none matches: 404. */
	const struct snapshot_route *routes;
	size_t route_count;
	const struct snapshot_tls_policy *policy;
	/* May be none where no listener speaks TLS. */
	const struct snapshot_certificate *const *certificates;
	size_t certificate_count;
	const struct snapshot_limits *limits;
	const struct snapshot_path_limits *path_limits; /* the file's order, first match decides */
	size_t path_limit_count;
	const struct snapshot_trust *trust;                  /* NULL: nobody is believed */
	const struct snapshot_request_limit *request_limits; /* all that match hold */
	size_t request_limit_count;
	struct snapshot_connection_limits connection_limits;
	struct snapshot_bandwidth_limits bandwidth_limits;
	const struct snapshot_denial *denials; /* any of them refuses */
	size_t denial_count;
	struct snapshot_error_pages error_pages;
	enum snapshot_trace trace;
	struct snapshot_place place;
	struct span rule; /* where no route or an alias decided */
};

/* One served name. Sorted by span_compare(name): exact names and wildcards apart. */
struct snapshot_name {
	struct span name; /* of a wildcard: what stands after `*.` */
	const struct snapshot_site *site;
	struct span redirect_to; /* `alias NAME redirect`: the site's first name, else empty (308,
				    same path) */
};

enum snapshot_log_target {
	SNAPSHOT_LOG_STDOUT,
	SNAPSHOT_LOG_FILE,
	SNAPSHOT_LOG_SYSLOG,
	SNAPSHOT_LOG_OFF
};
enum snapshot_log_format { SNAPSHOT_LOG_JSON, SNAPSHOT_LOG_COMBINED, SNAPSHOT_LOG_SHORT };

struct snapshot_log {
	enum snapshot_log_target target;
	enum snapshot_log_format format;
	struct span path;            /* FILE; absolute or as the text's folder makes it */
	struct snapshot_place place; /* line 0: the default */
};

/* ---- The plan: what must be opened, bound or started for this snapshot ----------------------- */

enum snapshot_plan_kind {
	SNAPSHOT_PLAN_LISTENER,    /* id, address, is_implied */
	SNAPSHOT_PLAN_ROOT,        /* id, path */
	SNAPSHOT_PLAN_CERTIFICATE, /* id, path of the chain */
	SNAPSHOT_PLAN_KEY,         /* id of its certificate, path */
	SNAPSHOT_PLAN_CA,          /* id, path; path empty: the system's roots are wanted */
	SNAPSHOT_PLAN_ORIGIN,      /* id, path is origin->text */
	SNAPSHOT_PLAN_INTERNAL,    /* id of a certificate that the vault makes */
	SNAPSHOT_PLAN_LOG,         /* index 0 access, 1 events; path */
	SNAPSHOT_PLAN_STATE,       /* path */
	SNAPSHOT_PLAN_HELPER,      /* helper */
};

enum snapshot_helper {
	SNAPSHOT_HELPER_VAULT,
	SNAPSHOT_HELPER_KEYHOLDER,
	SNAPSHOT_HELPER_FILES,
	SNAPSHOT_HELPER_DIALER,
	SNAPSHOT_HELPER_LOG,
};

struct snapshot_plan_row {
	enum snapshot_plan_kind kind;
	enum snapshot_helper helper;
	uint32_t index;
	uint64_t id;
	struct conf_address address;
	bool is_implied;
	struct span path;
	struct snapshot_place place;
};

struct snapshot {
	uint64_t magic;
	uint32_t format;
	uint64_t size;      /* bytes of the arena that are used */
	uint64_t serial;    /* of the change, from the options */
	uint64_t text_hash; /* of every statement's canonical line: equal texts, equal hash */
	const struct snapshot_table *tables; /* the file's order */
	size_t table_count;
	const struct snapshot_listener *listeners;
	size_t listener_count;
	const struct snapshot_site *sites; /* the file's order */
	size_t site_count;
	const struct snapshot_site *default_site; /* or NULL */
	const struct snapshot_name *exact_names, *wildcard_names;
	size_t exact_name_count, wildcard_name_count;
	const struct snapshot_tls_policy *policies;
	size_t policy_count;
	const struct snapshot_certificate *certificates;
	size_t certificate_count;
	const struct snapshot_root *roots;
	size_t root_count;
	const struct snapshot_origin *origins;
	size_t origin_count;
	const struct snapshot_upstream *upstreams; /* each index is one of this snapshot only */
	size_t upstream_count;
	const struct snapshot_ca *cas;
	size_t ca_count;
	const struct snapshot_plan_row *plan;
	size_t plan_count;
	struct snapshot_log access_log, events_log;
	uint64_t slow_ns;              /* a request that takes so long is an event; 0: none is */
	struct span state_path;        /* empty: no statement; the starter's default holds */
	struct snapshot_limits limits; /* of what belongs to no site */
	/* Of `firewall`: what holds for a connection before anything else of it is looked at. */
	struct snapshot_connection_limits gate;
	/* Some `limit connections` stands anywhere. */
	bool counts_connections;
};

/* ---- Compiling ------------------------------------------------------------------------------- */

struct snapshot_options {
	uint64_t serial;
	uint16_t implied_tls_port,
		implied_plain_port; /* without `listen`: 443 and 80; 0: that one is left out */
	struct snapshot_log access_log,
		events_log; /* without `log`; zero is JSON on standard output */
};

/* Every row of the language as it stands in this version. */
extern const struct conf_language snapshot_language;

/* Checks `tree` and builds a snapshot in `arena`; the tree's own arena is used for scratch. In a
 * fresh fixed arena the snapshot stands at its start. Errors and warnings go to `errors`; the
 * messages live in its arena. 0, CONF_FAULTY, SNAPSHOT_NEEDS_CERTIFICATE or -ENOMEM. */
int snapshot_compile(struct conf_tree *tree, const struct snapshot_options *options,
		     struct arena *arena, struct conf_errors *errors,
		     const struct snapshot **ret_snapshot) MUST_CHECK;

/* Is this mapped memory a snapshot of this format? The bytes come from our own `check`; 0 or
 * -EBADMSG. */
int snapshot_verify(const void *memory, size_t size) MUST_CHECK;

/* Names with one label, addresses, and those below localhost, test, invalid, example, local,
 * internal, lan, home.arpa and onion: no public CA gives a certificate for them, the local one
 * does. */
bool snapshot_name_is_internal(struct span name);

/* ---- The hot path ---------------------------------------------------------------------------- */

/* Who serves this name: exact, else a wildcard of one label; NULL: nobody (the default is not
 * asked). The host has no port; case, a dot at the end and brackets around v6 do not matter. */
const struct snapshot_name *snapshot_find_name(const struct snapshot *snapshot, struct span host);
const struct snapshot_site *snapshot_find_site(const struct snapshot *snapshot, struct span host);
/* Whether a ClientHello's SNI says a name: then its site does not depend on the local address. */
bool snapshot_sni_is_name(struct span sni);
/* For a ClientHello (INTERFACE, site): by SNI; without one or with an address in it by the local
 * address, else the default, else the only site. NULL: unrecognized_name. `local` may be NULL. */
const struct snapshot_site *snapshot_site_for_hello(const struct snapshot *snapshot,
						    struct span sni,
						    const struct conf_address *local);
/* For a request: by Host, else the default; NULL: 421. *ret_name (may be NULL) is the row, or NULL.
 */
const struct snapshot_site *snapshot_site_for_host(const struct snapshot *snapshot,
						   struct span host,
						   const struct snapshot_name **ret_name);
/* Who answers a request whose path is normalised; NULL: 404. *ret_block: the block that it is in now, or NULL. */
const struct snapshot_route *snapshot_find_route(const struct snapshot_site *site,
						 const struct http_request *request,
						 const struct conf_address *client,
						 const struct snapshot_block **ret_block);
/* Does no line of the site read the path in two ways? Where an escaped slash stands in it, each pattern must match both
 * forms or neither; else somebody else would be asked, limited or let in than the origin believes. */
bool snapshot_path_is_clear(const struct snapshot_site *site,
			    const struct http_path *path) MUST_CHECK;
/* The path as it is inside the block. */
struct span snapshot_block_path(const struct snapshot_block *block, struct span path);
/* What holds for a normalised path: of the first `limits on PATH` that matches, else the site's. */
const struct snapshot_limits *snapshot_find_limits(const struct snapshot_site *site,
						   struct span path);
/* NULL: there is none for this code. */
const struct snapshot_error_page *snapshot_find_error(const struct snapshot_error_pages *pages,
						      uint16_t code);
bool snapshot_pattern_matches(const struct snapshot_pattern *pattern, struct span path);
/* Is the address in the table? An IPv4 address in IPv6 clothes is looked for as the IPv4 address that it is. */
bool snapshot_table_has(const struct snapshot_table *table, const struct conf_address *address);
/* Does a line with this `from` concern who has the address? */
bool snapshot_from_has(const struct snapshot_from *from, const struct conf_address *address);
const struct snapshot_certificate *snapshot_find_certificate(const struct snapshot *snapshot,
							     uint64_t id);
const struct snapshot_root *snapshot_find_root(const struct snapshot *snapshot, uint64_t id);
const struct snapshot_origin *snapshot_find_origin(const struct snapshot *snapshot, uint64_t id);
const struct snapshot_listener *snapshot_find_listener(const struct snapshot *snapshot,
						       uint64_t id);
