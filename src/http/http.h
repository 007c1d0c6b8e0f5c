/* http: RFC 9110 as values. Methods, field names, fields, requests, responses, the one URI
 * normalisation, hosts, dates, validators, ranges, conditions, hop-by-hop fields, media types.
 *
 * It knows no version's framing (codec does), no configuration, no I/O, no clock and no log:
 * where a date needs "now" the caller passes it. Nothing here owns memory: spans point into the
 * exchange's arena (or a constant) and live as long as it does. Functions take what peers sent;
 * none of them fails a MUST because of a peer's bytes.
 *
 * Outcomes: 0 done, -ENOMEM when the arena is full, HTTP_BAD when the peer's bytes are refused. */
#pragma once

#include "base/base.h"

enum http_outcome {
	HTTP_BAD = 1, /* answer 400 */
};

/* ---- Methods (RFC 9110, 9; 5789) ------------------------------------------------------------- */

enum http_method {
	HTTP_OTHER, /* any other token; its text is in method_text */
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_CONNECT,
	HTTP_OPTIONS,
	HTTP_TRACE,
	HTTP_PATCH,
	HTTP_METHOD_COUNT,
};

enum http_method http_method_of(struct span text);       /* case matters */
struct span http_method_text(enum http_method method);   /* empty for HTTP_OTHER */
bool http_method_is_idempotent(enum http_method method); /* RFC 9110, 9.2.2 */

/* What a byte may be part of, for parsers on the hot path. */
enum http_char_class {
	HTTP_CHAR_TOKEN = 1,  /* RFC 9110, 5.6.2 */
	HTTP_CHAR_VALUE = 2,  /* of a field value: visible, blank, HTAB and 0x80-0xff (5.5) */
	HTTP_CHAR_TARGET = 4, /* of a request target: visible ASCII but `#`, and 0x80-0xff */
	HTTP_CHAR_PATH = 8,   /* of a path, as itself: TARGET but `%`, `\`, `?`, `/`, 0x80-0xff */
	HTTP_CHAR_HOST = 16,  /* of a registered name, see http_authority_parse() */
	HTTP_CHAR_UNESCAPED = 32, /* of a path we write: unreserved, sub-delims, `:`, `@`, `/` */
};
extern const uint8_t http_char_class[256];
bool http_is_token(struct span text);       /* RFC 9110, 5.6.2; the empty text is none */
bool http_is_field_value(struct span text); /* no NUL, CR, LF or other control but HTAB (5.5) */

/* ---- Field names ----------------------------------------------------------------------------- */

/* The names that code asks for. Others have the id HTTP_NAME_OTHER and are found by text. */
#define HTTP_NAMES(X) \
	X(HOST, "Host") \
	X(CONNECTION, "Connection") \
	X(CONTENT_LENGTH, "Content-Length") \
	X(TRANSFER_ENCODING, "Transfer-Encoding") \
	X(EXPECT, "Expect") \
	X(UPGRADE, "Upgrade") \
	X(TE, "TE") \
	X(TRAILER, "Trailer") \
	X(KEEP_ALIVE, "Keep-Alive") \
	X(PROXY_CONNECTION, "Proxy-Connection") \
	X(PROXY, "Proxy") \
	X(HTTP2_SETTINGS, "HTTP2-Settings") \
	X(FORWARDED, "Forwarded") \
	X(X_FORWARDED_FOR, "X-Forwarded-For") \
	X(X_FORWARDED_PROTO, "X-Forwarded-Proto") \
	X(X_FORWARDED_HOST, "X-Forwarded-Host") \
	X(VIA, "Via") \
	X(DATE, "Date") \
	X(SERVER, "Server") \
	X(LOCATION, "Location") \
	X(USER_AGENT, "User-Agent") \
	X(REFERER, "Referer") \
	X(ORIGIN, "Origin") \
	X(COOKIE, "Cookie") \
	X(SET_COOKIE, "Set-Cookie") \
	X(AUTHORIZATION, "Authorization") \
	X(WWW_AUTHENTICATE, "WWW-Authenticate") \
	X(ACCEPT, "Accept") \
	X(ACCEPT_ENCODING, "Accept-Encoding") \
	X(ACCEPT_LANGUAGE, "Accept-Language") \
	X(ACCEPT_RANGES, "Accept-Ranges") \
	X(ALLOW, "Allow") \
	X(CACHE_CONTROL, "Cache-Control") \
	X(CONTENT_TYPE, "Content-Type") \
	X(CONTENT_ENCODING, "Content-Encoding") \
	X(CONTENT_LANGUAGE, "Content-Language") \
	X(CONTENT_RANGE, "Content-Range") \
	X(ETAG, "ETag") \
	X(EXPIRES, "Expires") \
	X(LAST_MODIFIED, "Last-Modified") \
	X(IF_MATCH, "If-Match") \
	X(IF_NONE_MATCH, "If-None-Match") \
	X(IF_MODIFIED_SINCE, "If-Modified-Since") \
	X(IF_UNMODIFIED_SINCE, "If-Unmodified-Since") \
	X(IF_RANGE, "If-Range") \
	X(RANGE, "Range") \
	X(RETRY_AFTER, "Retry-After") \
	X(VARY, "Vary") \
	X(X_REQUEST_ID, "X-Request-Id") \
	X(X_REAL_IP, "X-Real-IP") \
	X(STRICT_TRANSPORT_SECURITY, "Strict-Transport-Security") \
	X(SEC_WEBSOCKET_KEY, "Sec-WebSocket-Key") \
	X(SEC_WEBSOCKET_ACCEPT, "Sec-WebSocket-Accept") \
	X(SEC_WEBSOCKET_VERSION, "Sec-WebSocket-Version") \
	X(SEC_WEBSOCKET_PROTOCOL, "Sec-WebSocket-Protocol") \
	X(SEC_WEBSOCKET_EXTENSIONS, "Sec-WebSocket-Extensions") \
	X(TRACEPARENT, "traceparent") \
	X(TRACESTATE, "tracestate")

enum http_name {
	HTTP_NAME_OTHER,
#define X(id, text) HTTP_NAME_##id,
	HTTP_NAMES(X)
#undef X
		HTTP_NAME_COUNT,
};

enum http_name http_name_of(struct span text); /* without case */
struct span http_name_text(enum http_name id); /* as registered; empty for HTTP_NAME_OTHER */

/* ---- Fields ---------------------------------------------------------------------------------- */

struct http_field {
	struct span name;  /* as it came or as we write it */
	struct span value; /* without blanks at its ends */
	enum http_name id;
};

/* A list in order of arrival. Zeroed but for `arena` it is empty. */
struct http_fields {
	struct arena *arena; /* where the array grows; names and values are the caller's */
	struct http_field *items;
	uint32_t count, capacity;
};

void http_fields_init(struct http_fields *fields, struct arena *arena);
/* Appends. Name and value must outlive the list and be valid (a name from a peer was checked by its
 * codec; values we make are ours). -ENOMEM. */
int http_fields_add(struct http_fields *fields, struct span name, struct span value) MUST_CHECK;
int http_fields_add_id(struct http_fields *fields, enum http_name id, struct span value) MUST_CHECK;
/* Removes all of that name, then adds one. -ENOMEM. */
int http_fields_set(struct http_fields *fields, struct span name, struct span value) MUST_CHECK;
/* The first such field after `after` (NULL: from the start), or NULL. A removal moves the fields
 * behind. */
const struct http_field *http_fields_next(const struct http_fields *fields, enum http_name id,
					  const struct http_field *after);
const struct http_field *http_fields_find_text(const struct http_fields *fields, struct span name);
/* The value of the first one; the empty span with a NULL ptr when there is none. */
struct span http_fields_value(const struct http_fields *fields, enum http_name id);
bool http_fields_has(const struct http_fields *fields, enum http_name id);
uint32_t http_fields_count(const struct http_fields *fields, enum http_name id);
uint32_t http_fields_remove(struct http_fields *fields, enum http_name id); /* how many went */
uint32_t http_fields_remove_text(struct http_fields *fields, struct span name);
/* Is `token` an element of the comma lists in all fields of that name (RFC 9110, 5.6.1), without
 * case? */
bool http_fields_list_has(const struct http_fields *fields, enum http_name id, struct span token);
/* Takes the next element off a comma list, trimmed; empty ones are skipped. False at the end. */
bool http_list_next(struct span *rest, struct span *ret_element);
/* The value of the first cookie of that name (case matters; quotes are part of it), as a view of its field; the empty
 * span with a NULL ptr when there is none (RFC 6265, 4.2.1). */
struct span http_cookie_find(const struct http_fields *fields, struct span name);
/* All of that name, one after the other: a client may hold several, of other paths and of parent domains. */
struct http_cookies {
	const struct http_fields *fields;
	struct span name;
	const struct http_field *field; /* private from here on */
	struct span rest;
};
void http_cookies_init(struct http_cookies *walk, const struct http_fields *fields,
		       struct span name);
bool http_cookies_next(struct http_cookies *walk, struct span *ret_value);
/* An independent list with the same spans, in the same or another arena. -ENOMEM. */
int http_fields_copy(struct http_fields *ret, const struct http_fields *fields,
		     struct arena *arena) MUST_CHECK;

/* ---- Authority: Host, :authority, CONNECT (RFC 9110, 7.2; RFC 3986, 3.2) --------------------- */

enum http_host_kind {
	HTTP_HOST_NONE, /* HTTP/1.0 without Host */
	HTTP_HOST_NAME,
	HTTP_HOST_V4,
	HTTP_HOST_V6,
};

struct http_authority {
	struct span raw;  /* as the client sent it: what `proxy` forwards as Host */
	struct span host; /* lower case, no trailing dot; v6 in canonical text without brackets */
	uint16_t port;    /* 0: none was named */
	enum http_host_kind kind;
};

/* Strict: letters, digits and `-_~!$*+=` in labels of 1 to 63 bytes; a last label of digits
 * makes it IPv4, which must then be four decimal numbers; [v6] without zone; a port of 1 to
 * 65535. User information, percent-encoding, the rest of sub-delims (a comma could be two Hosts
 * joined), an empty host and an empty port are refused. `raw` must outlive *ret. */
int http_authority_parse(struct arena *arena, struct span raw,
			 struct http_authority *ret) MUST_CHECK;
/* The same host and, with the scheme's default filled in, the same port? */
bool http_authority_equal(const struct http_authority *a, const struct http_authority *b,
			  bool secure);

/* ---- Target: one normalisation (RFC 9110, 7.1; RFC 3986, 5.2.4, 6.2) ------------------------- */

/* Both forms say the same, so what is matched is what an origin gets:
 * - `text`: percent-decoded once; rules, routes, files and the log use it. No NUL or other
 *   control, valid UTF-8, starts with `/`, no `.` or `..` segment, no `//`.
 * - `wire`: what is forwarded. The raw bytes (an alias of them) when nothing had to change; else
 *   with dot segments (`%2e` too) resolved, runs of `/` merged, and raw bytes outside ASCII
 *   percent-encoded. Other escapes stay as they were sent, so signatures over the path survive.
 *
 * - `other`: empty, unless `%2f` stands in the path. It is a byte of a name, not a separator: `wire`
 *   and `text` have it as it was sent. An origin may decode before it splits, and sees this path: each
 *   `%2f` is a `/`, and runs are merged. Whoever decides by a path decides alike by both, or refuses.
 *
 * Refused (HTTP_BAD): bad escapes, encoded or raw controls, `\` and `%5c`, raw `#`, `?`
 * and blanks, invalid or overlong UTF-8, a path that climbs above the root, the segments `.;x`
 * and `..;x` (some servers drop parameters before they resolve dots), dots beside a `%2f`. Other `;`
 * parameters are kept in both. */
struct http_path {
	struct span text;
	struct span wire;
	struct span other;
};

/* `raw`: an absolute path without query. It must outlive *ret. */
int http_path_normalize(struct arena *arena, struct span raw, struct http_path *ret) MUST_CHECK;
/* The wire form of a decoded path that we made (redirects, rewrites): escapes all but unreserved,
 * sub-delims, `:`, `@` and `/`. ptr is NULL without memory. */
struct span http_path_encode(struct arena *arena, struct span text) MUST_CHECK;

enum http_target_form {
	HTTP_TARGET_ORIGIN,    /* /path?query */
	HTTP_TARGET_ABSOLUTE,  /* http://host/path?query; treated as origin-form from then on */
	HTTP_TARGET_AUTHORITY, /* CONNECT host:port */
	HTTP_TARGET_ASTERISK,  /* OPTIONS * */
};

/* ---- Requests and responses ------------------------------------------------------------------ */

struct http_request {
	enum http_method method;
	struct span method_text; /* always set */
	uint8_t version;         /* 10, 11, 20, 30: for the log */
	bool secure;             /* came over TLS; set by the connection before the codec runs */
	enum http_target_form target_form;
	struct span target_raw; /* as sent, for the log */
	struct http_authority authority;
	struct http_path path; /* empty for CONNECT; `*` for OPTIONS * */
	struct span query;     /* without `?`; as sent, but not ASCII is percent-encoded */
	bool has_query;        /* `?` stood there, even if nothing followed */
	/* All that came, framing fields included: codecs skip those they write themselves. */
	struct http_fields fields;
	bool has_body;          /* false: no framing field, or Content-Length: 0 */
	int64_t content_length; /* -1: none was named (no body, or chunked) */
	bool expect_continue;   /* asked for 100 (Continue), and has a body */
	struct span upgrade; /* first protocol of Upgrade where Connection names it; else empty */
};

struct http_response {
	uint16_t status;
	uint8_t version;    /* 10, 11: of an origin, for the log */
	struct span reason; /* may be empty; codecs then use http_status_reason() */
	struct http_fields fields;
	int64_t content_length; /* of the body (for HEAD: that GET would get); -1 unknown */
	bool has_body;          /* a body follows (perhaps of 0 bytes) */
};

/* Splits and normalises a request target into target_raw, target_form, path, query and, for
 * absolute- and authority-form, authority. method must be set. The asterisk is for OPTIONS,
 * authority-form for CONNECT (with a port) and for nothing else. `raw` must outlive the request. */
int http_target_parse(struct arena *arena, struct span raw,
		      struct http_request *request) MUST_CHECK;
struct span http_status_reason(uint16_t status); /* `Unknown` for others */
/* Can a response of that status to that method have a body at all (RFC 9110, 6.4.1)? */
bool http_status_has_body(uint16_t status, enum http_method method);

/* ---- What does not pass a gateway (RFC 9110, 7.6.1) ------------------------------------------ */

/* Of a request, before it is forwarded: fields that Connection names (its first 64 options), the
 * hop-by-hop ones, Expect (the codec writes it), Proxy, every X-Forwarded-*, X-Real-IP and Forwarded, and
 * every field that differs from a name of the table above only in punctuation (`Content_Length`,
 * `X.Forwarded.For`: CGI-like origins fold them into one). Connection cannot remove Host,
 * Content-Length or a field that we write. Host and Content-Length stay; request->upgrade tells
 * the codec of an upgrade. */
void http_request_strip(struct http_request *request);
/* Of a response: the same, by Connection and by the list. */
void http_response_strip(struct http_response *response);

struct http_hop {
	struct span client; /* its address as text, v6 without brackets */
	struct span host;   /* what it asked for: authority.raw; empty: left out */
	bool secure;
	/* Addresses that the request passed behind the client, as `client`, the last one connected to us. */
	const struct span *via;
	size_t via_count;
	struct span field; /* one more field that says `client`; empty: none */
};
/* Writes X-Forwarded-For, -Proto, -Host, X-Real-IP (the client alone) and Forwarded (RFC 7239, v6 quoted
 * and in brackets) afresh, and hop->field instead of all that a reader could take for it. The old ones must be
 * stripped before. Values are made in the list's arena. -ENOMEM. */
int http_fields_add_forwarded(struct http_fields *fields, const struct http_hop *hop) MUST_CHECK;

/* ---- Which trace a request belongs to (W3C Trace Context, level 2) ------------------------------ */

enum { HTTP_TRACE_SAMPLED = 1, HTTP_TRACE_RANDOM = 2 }; /* flags */
struct http_trace {
	uint64_t id_high, id_low, span; /* never all 0 */
	uint8_t flags;                  /* those above */
};
/* A field `traceparent`, of this version or a later one. False: it is none, and its trace is begun anew. */
bool http_trace_parse(struct span value, struct http_trace *ret_trace) MUST_CHECK;
/* HTTP_TRACE_LEN bytes, of version 00. */
enum { HTTP_TRACE_LEN = 55, HTTP_TRACE_ID_AT = 3, HTTP_TRACE_SPAN_AT = 36 };
void http_trace_write(struct writer *out, const struct http_trace *trace);

/* ---- Whom a request passed (RFC 7239; X-Forwarded-For and its like) --------------------------- */

struct http_node {
	uint8_t family; /* 4, 6; 0: `unknown`, obfuscated (`_name`), or no address at all */
	uint8_t ip[16]; /* network order; v4 (also one in v6 clothes): the first 4, the rest 0 */
	uint16_t port;  /* 0: none that is a number */
};
/* `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, the first and the last with a port too; in quotes or
 * not. */
struct http_node http_node_parse(struct span text);

enum http_forwarded_form {
	HTTP_FORWARDED_LIST, /* nodes, commas between */
	HTTP_FORWARDED_PAIRS /* RFC 7239 */
};
struct http_forwarded_element {
	struct span text; /* all of it */
	struct http_node node;
	struct span host, proto; /* PAIRS; without quotes; empty: not said */
};
/* A walk over the elements of all fields of that name, the last one first: who wrote it is nearest to
 * us. Lists are read from their end, so that nothing that stands before an element, such as a quote that
 * is never closed, can change what it says. Empty elements are skipped. */
struct http_forwarded {
	const struct http_fields *fields;
	struct span name;
	enum http_forwarded_form form;
	uint32_t line;    /* fields before this one are still to be read */
	struct span rest; /* of the line that is being read */
};
void http_forwarded_init(struct http_forwarded *walk, const struct http_fields *fields,
			 struct span name, enum http_forwarded_form form);
/* False at the end, *ret is left alone. An element that is malformed has a node without family and no host and proto. */
bool http_forwarded_previous(struct http_forwarded *walk, struct http_forwarded_element *ret);

/* ---- Dates (RFC 9110, 5.6.7) ----------------------------------------------------------------- */

enum { HTTP_DATE_LEN = 29 };
/* IMF-fixdate of seconds since 1970 (0 to 9999-12-31). */
void http_date_write(int64_t epoch_s, char ret[HTTP_DATE_LEN]);
/* Any of the three forms. now_s chooses the century of the two-digit form. False when it is no
 * date. */
bool http_date_parse(struct span text, int64_t now_s, int64_t *ret_epoch_s);

/* ---- Validators, conditions, ranges (RFC 9110, 8.8, 13, 14) ---------------------------------- */

struct http_validators {
	struct span etag;   /* with quotes (and W/); empty: none */
	int64_t modified_s; /* Last-Modified; -1: none */
};

enum { HTTP_ETAG_SIZE = 44 };
/* A strong etag of size and time of change, in `ret`. */
struct span http_etag_write(uint64_t size, int64_t modified_s, uint32_t modified_ns,
			    char ret[HTTP_ETAG_SIZE]);

enum http_condition {
	HTTP_PROCEED = 0,
	HTTP_NOT_MODIFIED = 304,
	HTTP_PRECONDITION_FAILED = 412,
};
/* In the order of 13.2.2, for a representation that exists and would be answered 200. */
enum http_condition http_conditions_evaluate(const struct http_request *request,
					     const struct http_validators *validators,
					     int64_t now_s);

enum http_range {
	HTTP_RANGE_NONE = 200,          /* send the whole */
	HTTP_RANGE_PART = 206,          /* send *ret_first, *ret_len */
	HTTP_RANGE_UNSATISFIABLE = 416, /* with Content-Range: bytes * / size */
};
/* GET only. One range of bytes; several, other units and malformed ones are ignored; If-Range
 * first. */
enum http_range http_range_choose(const struct http_request *request,
				  const struct http_validators *validators, uint64_t size,
				  uint64_t *ret_first, uint64_t *ret_len);
/* `bytes first-last/size`, or `bytes * / size` without blanks where len is 0. ptr NULL without
 * memory. */
struct span http_content_range(struct arena *arena, uint64_t first, uint64_t len,
			       uint64_t size) MUST_CHECK;

/* ---- Media types ----------------------------------------------------------------------------- */

/* By the extension of a file's name, without case; application/octet-stream for others. */
struct span http_media_type(struct span file_name);
