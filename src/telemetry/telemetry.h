/* telemetry: what is counted, what is limited, how things end, and the records that say so.
 *
 * Tables: every limit (TELEMETRY_LIMITS_…), every way an exchange can end (TELEMETRY_ENDS), every
 * counter. docs/limits.md, docs/errors.md and docs/metrics.md are made of them (docs/make_tables.py).
 * Records: an access record or an event becomes one finished line in a caller's buffer.
 * The ring: lines go from a process to `log` through shared memory.
 *
 * No clock, no system call, no memory of its own: times are passed in, everything lives in memory of the
 * caller. Spans in records are read during the call only. Rows of the tables are only ever added at a
 * table's end: counters are continued by the next worker and the next generation of a slot. */
#pragma once

#include "base/base.h"

/* ---- Limits -------------------------------------------------------------------------------------------
 * Row: id, name, unit, default (number, suffix), status, what it bounds.
 * Unit: SIZE (bytes), TIME (nanoseconds), COUNT. Status: what a request over it is answered with while
 * that is possible; 0: the connection ends, or nobody's request is at fault.
 * What runs into it ends with `limit:NAME` (times of a client: `client-timeout:NAME`) and counts in
 * the row's own counter. */

#define TELEMETRY_UNIT_ UINT64_C(1)
#define TELEMETRY_UNIT_B UINT64_C(1)
#define TELEMETRY_UNIT_KB (UINT64_C(1) << 10)
#define TELEMETRY_UNIT_MB (UINT64_C(1) << 20)
#define TELEMETRY_UNIT_ms UINT64_C(1000000)
#define TELEMETRY_UNIT_s UINT64_C(1000000000)
#define TELEMETRY_UNIT_m (60 * TELEMETRY_UNIT_s)
#define TELEMETRY_UNIT_h (3600 * TELEMETRY_UNIT_s)

/* clang-format off */
/* Those that `limits { … }` sets, for all sites, per site and `on PATH`. */
#define TELEMETRY_LIMITS_SETTABLE(X) \
	X(HEADER, "header", SIZE, 32, KB, 431, "the head of a request, all lines together") \
	X(HEADER_FIELDS, "header-fields", COUNT, 100, , 431, "fields of a request's head") \
	X(BODY, "body", SIZE, 0, B, 413, "a request's body; 0B: unlimited") \
	X(HANDSHAKE, "handshake", TIME, 10, s, 0, "a TLS handshake from accept to its end; until the client has named its site, what holds for all sites") \
	X(HEADER_TIME, "header-time", TIME, 10, s, 408, "a request's head from its first to its last byte; of the site that SNI named (without TLS: of the default or only one) or that the last request was for") \
	X(IDLE, "idle", TIME, 60, s, 0, "a kept-alive connection between two requests; of the last one's site and path") \
	X(BODY_GAP, "body-gap", TIME, 60, s, 408, "between two reads of a request's body") \
	X(SEND_GAP, "send-gap", TIME, 30, s, 0, "between two writes to a slow client") \
	X(CONNECT, "connect", TIME, 2, s, 504, "one attempt to connect to an origin, TLS included") \
	X(FIRST_BYTE, "first-byte", TIME, 60, s, 504, "from the request's end to an origin's first byte") \
	X(RESPONSE_GAP, "response-gap", TIME, 60, s, 0, "between two reads of an origin's response") \
	X(EVENT_STREAM, "event-stream", TIME, 10, m, 0, "between two reads of an event stream") \
	X(TUNNEL, "tunnel", TIME, 1, h, 0, "a tunnel without a byte in either direction") \
	X(REQUESTS, "requests", COUNT, 0, , 0, "requests on one connection; 0: unlimited") \
	X(ORIGIN_CONNECTIONS, "origin-connections", COUNT, 512, , 0, "open connections to one origin, each worker; over it requests wait (origin-queue)") \
	X(ORIGIN_QUEUE, "origin-queue", COUNT, 128, , 503, "requests that wait for a connection to one origin, each worker: in order, at most first-byte") \
	X(BODY_RATE, "body-rate", COUNT, 256, , 408, "least bytes of a request's body a second, after body-grace") \
	X(BODY_GRACE, "body-grace", TIME, 10, s, 408, "how long a request's body may be slower than body-rate") \
	X(WORKER_MEMORY, "worker-memory", SIZE, 512, MB, 503, "what peers may make one worker keep; near it accepting rests and what is idle goes; for all sites only")

/* Those that hold for the program. */
#define TELEMETRY_LIMITS_FIXED(X) \
	X(REQUEST_LINE, "request-line", SIZE, 8, KB, 414, "the first line of a request") \
	X(LEADING_LINES, "leading-lines", COUNT, 1, , 400, "empty lines before a request") \
	X(CHUNK_EXTENSION, "chunk-extension", SIZE, 128, B, 400, "extensions of one chunk") \
	X(CHUNK_EXTENSIONS, "chunk-extensions", SIZE, 4, KB, 400, "extensions of all chunks of a body") \
	X(CHUNK_OVERHEAD, "chunk-overhead", SIZE, 64, KB, 400, "framing of a chunked body, once it is 10 times what it carries") \
	X(TRAILERS, "trailers", SIZE, 32, KB, 431, "trailers of a request") \
	X(PIPELINED, "pipelined", COUNT, 16, , 0, "requests of one connection that one turn begins; the next ones wait for the next turn, as bytes") \
	X(DISCARD, "discard", SIZE, 64, KB, 0, "of a request whose body nobody wants, head and all, read for the sake of the connection; over it that ends") \
	X(LINGER, "linger", TIME, 2, s, 0, "how long a connection is read after our end of it was sent") \
	X(CONTINUE, "continue", TIME, 1, s, 0, "how long an origin may let a client wait for 100 (Continue)") \
	X(HANDSHAKE_SIZE, "handshake-size", SIZE, 48, KB, 0, "a client's bytes of one TLS handshake") \
	X(HELLO_SIZE, "hello-size", SIZE, 16, KB, 0, "a ClientHello") \
	X(HELLO_RECORDS, "hello-records", COUNT, 10, , 0, "TLS records that a ClientHello comes in") \
	X(EMPTY_RECORDS, "empty-records", COUNT, 32, , 0, "TLS records in a row that carry nothing") \
	X(HANDSHAKES, "handshakes", COUNT, 20000, , 0, "signatures a second that a worker is given") \
	X(HANDSHAKES_WAITING, "handshakes-waiting", COUNT, 8192, , 0, "handshakes that are not done, each worker, at most half of its connections; the oldest goes") \
	X(CONNECTIONS, "connections", COUNT, 16384, , 0, "connections of clients, each worker") \
	X(EXCHANGES, "exchanges", COUNT, 16384, , 503, "exchanges under way, each worker") \
	X(EXCHANGE_MEMORY, "exchange-memory", SIZE, 256, KB, 503, "what one exchange may take beside its bodies") \
	X(BODY_MEMORY, "body-memory", SIZE, 128, MB, 503, "bodies that wait in a worker, all together") \
	X(RESPONSE_MEMORY, "response-memory", SIZE, 256, KB, 0, "responses that wait for one connection") \
	X(INSPECTION, "inspection", SIZE, 128, KB, 413, "of a request's body that is held and inspected; no stage holds one yet") \
	X(INSPECTION_RESPONSE, "inspection-response", SIZE, 512, KB, 0, "of a response's body that is held and inspected; no stage holds one yet") \
	X(UPSTREAM_HEAD, "upstream-head", SIZE, 64, KB, 502, "the head of an origin's response") \
	X(UPSTREAM_FIELDS, "upstream-fields", COUNT, 200, , 502, "fields of an origin's response") \
	X(INTERIM_RESPONSES, "interim-responses", COUNT, 8, , 502, "1xx responses before an origin's final one") \
	X(ORIGIN_IDLE, "origin-idle", TIME, 4, s, 0, "an unused connection to an origin; Keep-Alive less 1 s where it says so") \
	X(ORIGIN_IDLE_CONNECTIONS, "origin-idle-connections", COUNT, 64, , 0, "unused connections to one origin, each worker") \
	X(DOCUMENTS, "documents", COUNT, 1024, , 0, "documents that a worker keeps open") \
	X(QUESTIONS, "questions", COUNT, 65536, , 503, "open questions of a worker to other processes") \
	X(CHANNEL_QUEUE, "channel-queue", SIZE, 1, MB, 503, "messages that wait for one process") \
	X(SNAPSHOT_WAIT, "snapshot-wait", TIME, 10, m, 503, "how long a reload waits for exchanges of old configurations") \
	X(CHECK_TIME, "check-time", TIME, 30, s, 0, "compiling a configuration") \
	X(DRAIN, "drain", TIME, 30, s, 0, "what is under way when the gateway stops") \
	X(HEARTBEAT, "heartbeat", TIME, 2, s, 0, "how long a process may be silent before it is replaced") \
	X(DESCRIPTORS_RESERVE, "descriptors-reserve", COUNT, 64, , 0, "descriptors of a worker that are kept free (a quarter where there are few): accepting rests, what is idle goes") \
	X(LOG_QUEUE, "log-queue", SIZE, 1, MB, 0, "lines of one process that wait for the log; more are dropped") \
	X(DOCUMENT_WAIT, "document-wait", TIME, 10, s, 503, "how long a document, or its next part, is waited for: its file system may not answer") \
	X(PROXY_HEADER, "proxy-header", TIME, 5, s, 0, "a PROXY header from accept to its end") \
	X(PROXY_HEADER_SIZE, "proxy-header-size", SIZE, 4, KB, 0, "a PROXY header of version 2; one of version 1 has at most 107 bytes") \
	X(FORWARDED_HOPS, "forwarded-hops", COUNT, 32, , 400, "addresses in the field that a trusted peer is believed by, all its lines together") \
	X(TABLE_ENTRIES, "table-entries", COUNT, 65536, , 0, "addresses and networks of one table") \
	X(RETRIES, "retries", COUNT, 20, , 0, "requests of a worker that go to another origin after one failed, for each hundred of its proxied requests; ten at once") \
	X(REQUEST_RATE, "request-rate", COUNT, 0, , 429, "requests of one client, or of all, as a line `limit requests` says; without one: unlimited") \
	X(RATE_CELLS, "rate-cells", COUNT, 1048576, , 0, "clients of all `limit requests` lines together that are remembered, by all workers; who owes least is forgotten for the next") \
	X(ERROR_PAGE, "error-page", SIZE, 64, KB, 0, "the file of a line `error`; a larger one is a fault of the configuration") \
	X(METRICS_SITES, "metrics-sites", COUNT, 192, , 0, "sites with metrics of their own while the service runs, those that a reload took away too; later ones count as `other`") \
	X(METRICS_UPSTREAMS, "metrics-upstreams", COUNT, 96, , 0, "upstreams with metrics of their own while the service runs; later ones count as `other`") \
	X(DNS_TTL, "dns-ttl", TIME, 1, h, 0, "how long an answer of DNS counts at most, whatever its TTL") \
	X(DNS_STALE, "dns-stale", TIME, 24, h, 502, "how long the last good answer of DNS counts after its time while no new one comes") \
	X(DNS_ADDRESSES, "dns-addresses", COUNT, 16, , 0, "addresses of one name; more are left out") \
	X(DNS_QUESTIONS, "dns-questions", COUNT, 1024, , 503, "names that are asked for at once; one more that is known is used as it is, another is answered 503") \
	X(METRICS_ORIGINS, "metrics-origins", COUNT, 256, , 0, "origins of upstreams with a state of their own in the metrics while the service runs; later ones are left out there") \
	X(CLIENT_CONNECTIONS, "client-connections", COUNT, 0, , 429, "connections of one client at a time, or of all, as a line `limit connections` says; without one: unlimited; in `firewall` the connection ends without an answer") \
	X(CONNECTION_CELLS, "connection-cells", COUNT, 65536, , 0, "clients whose connections each worker counts for `limit connections`, all lines together; one more that finds no place is not counted") \
	X(BANDWIDTH, "bandwidth", SIZE, 0, B, 0, "bytes a second of answers to one connection or client, as a line `limit bandwidth` says; without one: unlimited; counted each time a body waits for it")
/* clang-format on */

#define TELEMETRY_LIMITS(X) TELEMETRY_LIMITS_SETTABLE(X) TELEMETRY_LIMITS_FIXED(X)

enum telemetry_limit {
#define X(id, name, unit, number, suffix, status, help) TELEMETRY_LIMIT_##id,
	TELEMETRY_LIMITS(X)
#undef X
		TELEMETRY_LIMIT_COUNT,
};

enum telemetry_unit { TELEMETRY_SIZE, TELEMETRY_TIME, TELEMETRY_COUNT };

struct telemetry_limit_row {
	const char *name, *text /* of the default: "32KB" */, *help;
	uint64_t value; /* the default: bytes, nanoseconds or a number */
	enum telemetry_unit unit;
	uint16_t status; /* 0: none */
	bool is_settable;
};
extern const struct telemetry_limit_row telemetry_limits[TELEMETRY_LIMIT_COUNT];

/* ---- Ends: the access log's last word ------------------------------------------------------------------
 * Row: id, word, status, what happened. Status: what the client is answered with while no head was sent;
 * 0: nothing more (the connection or stream ends), or the answer's own. A detail may follow the word
 * after a colon. */

/* clang-format off */
#define TELEMETRY_ENDS(X) \
	X(OK, "ok", 0, "answered to its end, whatever its status; a tunnel that either side closed") \
	X(CLIENT_GONE, "client-gone", 0, "the client closed or reset before the end of the answer or of its own request") \
	X(CLIENT_TIMEOUT, "client-timeout", 408, "the client sent or read too slowly; the detail names the limit") \
	X(CLIENT_MALFORMED, "client-malformed", 400, "what the client sent is no HTTP that only one reading has; the detail says what (and may have a status of its own)") \
	X(CLIENT_TLS, "client-tls", 0, "the TLS of a connection broke within its exchange; the detail says why (before or between exchanges it is an event)") \
	X(MISDIRECTED, "misdirected", 421, "Host names a site that this connection may not ask for, or nobody's") \
	X(LOOP, "loop", 508, "the request has passed this gateway before") \
	X(LIMIT, "limit", 503, "over a limit; the detail names it, docs/limits.md has its status") \
	X(NO_ROOM, "no-room", 503, "memory, body blocks or descriptors are used up") \
	X(DRAIN, "drain", 503, "the gateway stops, and this did not end in time") \
	X(HELPER_GONE, "helper-gone", 503, "the process that had to answer (files, dialer, keyholder) was lost twice") \
	X(INTERNAL, "internal", 500, "our own fault") \
	X(FILES_FAILED, "files-failed", 500, "a document could not be read") \
	X(FILES_CHANGED, "files-changed", 0, "a document got shorter while it was sent") \
	X(QUEUE_FULL, "queue-full", 503, "too many requests wait for a connection to this origin, or this one did too long (`waited`)") \
	X(ORIGIN_DOWN, "origin-down", 503, "every origin of the upstream is known to be down, or taken out by command") \
	X(ORIGIN_REFUSED, "origin-refused", 502, "the origin refused the connection") \
	X(ORIGIN_UNREACHABLE, "origin-unreachable", 502, "no way to the origin's address, or its socket is missing") \
	X(ORIGIN_DNS, "origin-dns", 502, "the origin's name has no address, or no resolver answered") \
	X(ORIGIN_FORBIDDEN, "origin-forbidden", 502, "the origin's name leads to addresses alone that may not be connected to: see allow-local") \
	X(ORIGIN_TLS, "origin-tls", 502, "TLS with the origin failed; the detail says why") \
	X(ORIGIN_CONNECT_TIMEOUT, "origin-connect-timeout", 504, "the origin did not take the connection, or did not finish TLS, in time") \
	X(ORIGIN_FIRST_BYTE_TIMEOUT, "origin-first-byte-timeout", 504, "the origin did not begin its answer in time") \
	X(ORIGIN_CLOSED, "origin-closed", 502, "the origin closed or reset before its answer's head was whole") \
	X(ORIGIN_MALFORMED, "origin-malformed", 502, "the origin's answer is no HTTP; the detail says what") \
	X(ORIGIN_TRUNCATED, "origin-truncated", 0, "the origin closed or reset, or its TLS ended without close_notify, before the end of its body") \
	X(ORIGIN_TIMEOUT, "origin-timeout", 504, "the origin stalled within its head (504) or its body (the connection ends)") \
	X(TUNNEL_TIMEOUT, "tunnel-timeout", 0, "nothing passed the tunnel for too long")
/* clang-format on */

enum telemetry_end {
#define X(id, word, status, help) TELEMETRY_END_##id,
	TELEMETRY_ENDS(X)
#undef X
		TELEMETRY_END_COUNT,
};

/* Details of `client-tls` and `origin-tls`: row: word, what it means. */
#define TELEMETRY_TLS_DETAILS(X) \
	X("expired", "the certificate's time is over") \
	X("not-yet-valid", "the certificate's time has not come") \
	X("name", "the certificate names somebody else") \
	X("untrusted", "self-signed, or no way to a root that is trusted") \
	X("certificate", "something else is wrong with the certificate") \
	X("version", "no TLS version in common") \
	X("cipher", "no cipher suite, group or signature scheme in common") \
	X("alpn", "no application protocol in common") \
	X("sni", "no site has the name that was asked for") \
	X("protocol", "what came breaks the protocol") \
	X("alert", "the other side sent an alert") \
	X("signature", "our signature did not come") \
	X("flood", "too many records that carry nothing") \
	X("closed", "the other side closed in the middle of the handshake") \
	X("internal", "our own fault")

struct telemetry_end_row {
	const char *word, *help;
	uint16_t status; /* 0: none */
};
extern const struct telemetry_end_row telemetry_ends[TELEMETRY_END_COUNT];
/* The detail for TELEMETRY_END_LIMIT and _CLIENT_TIMEOUT, and what to answer. */
struct span telemetry_limit_name(enum telemetry_limit limit);

/* ---- Counters: plain memory, one range per process -----------------------------------------------------
 * Written by one process, read by others at any time. Each group has room to grow at its end, so that a
 * cell never moves. Row: id, name, help. */

/* clang-format off */
#define TELEMETRY_COUNTERS(X) \
	X(CONNECTIONS, "connections", "connections accepted") \
	X(CONNECTIONS_CLOSED, "connections_closed", "connections that ended") \
	X(HANDSHAKES, "handshakes", "TLS handshakes finished") \
	X(HANDSHAKES_RESUMED, "handshakes_resumed", "TLS handshakes by a ticket") \
	X(HANDSHAKES_FAILED, "handshakes_failed", "TLS handshakes that failed") \
	X(SIGNATURES, "signatures", "signatures asked of the keyholder, or made by it") \
	X(SIGNATURE_BATCHES, "signature_batches", "turns in which signatures were asked for, or made") \
	X(SIGNATURES_REFUSED, "signatures_refused", "signatures that the keyholder refused") \
	X(EXCHANGES, "exchanges", "exchanges recorded") \
	X(BYTES_IN, "bytes_in", "bytes from clients") \
	X(BYTES_OUT, "bytes_out", "bytes to clients") \
	X(ORIGIN_BYTES_IN, "origin_bytes_in", "body bytes from origins") \
	X(ORIGIN_BYTES_OUT, "origin_bytes_out", "body bytes to origins") \
	X(ORIGIN_CONNECTIONS, "origin_connections", "connections made to origins") \
	X(ORIGIN_REUSED, "origin_reused", "requests on a connection that stood already") \
	X(ORIGIN_RETRIED, "origin_retried", "requests sent once more on a fresh connection") \
	X(ORIGIN_HANDSHAKES, "origin_handshakes", "TLS handshakes with origins") \
	X(DOCUMENTS_ASKED, "documents_asked", "documents asked of `files`") \
	X(DOCUMENTS_CACHED, "documents_cached", "documents served without asking") \
	X(DOCUMENTS_COLD, "documents_cold", "ranges read first by `files`") \
	X(TUNNELS, "tunnels", "tunnels opened") \
	X(QUESTIONS_ASKED_AGAIN, "questions_asked_again", "questions asked again of a new process") \
	X(QUESTIONS_FAILED, "questions_failed", "questions without an answer") \
	X(LINES_DROPPED, "lines_dropped", "log lines that found no room") \
	X(TURNS, "turns", "turns of the loop") \
	X(TURNS_LONG, "turns_long", "turns over 1 ms of our own work") \
	X(RELOADS, "reloads", "configurations taken over") \
	X(MESSAGES_BROKEN, "messages_broken", "messages that broke the message table's rules") \
	X(DOCUMENTS_UNASKED, "documents_unasked", "plain reads of what `files` had not read before; stays 0") \
	X(DOCUMENTS_DISTANT, "documents_distant", "pieces of documents that `files` read itself: their file system may not answer") \
	X(PROXY_HEADERS, "proxy_headers", "PROXY headers that connections began with") \
	X(PROXY_HEADERS_REFUSED, "proxy_headers_refused", "connections closed for want of a PROXY header that is right, or of the right to send one") \
	X(CLIENTS_FORWARDED, "clients_forwarded", "requests whose client a trusted peer named") \
	X(ORIGIN_TRIED_AGAIN, "origin_tried_again", "requests sent to another origin after one failed") \
	X(ORIGIN_EJECTED, "origin_ejected", "origins that failed too often and got no requests for a while") \
	X(ORIGIN_WENT_DOWN, "origin_went_down", "origins whose checks began to fail, as each worker was told") \
	X(ORIGIN_CAME_UP, "origin_came_up", "origins whose checks are good again, as each worker was told") \
	X(STICKY_GIVEN, "sticky_given", "answers that gave a client the cookie by which it stays with its origin") \
	X(STICKY_MOVED, "sticky_moved", "clients that came back while their origin was away, and stay with another") \
	X(STICKY_IGNORED, "sticky_ignored", "requests whose sticky cookies name no origin of the upstream: made up, or of one that is gone") \
	X(PROCESS_RESTARTS, "process_restarts", "processes that were started again") \
	X(EXCHANGES_SLOW, "exchanges_slow", "exchanges that took as long as `log slow` says, or longer") \
	X(ORIGIN_ADDRESSES_REFUSED, "origin_addresses_refused", "addresses of origins' names that were refused: see allow-local")

#define TELEMETRY_HISTOGRAMS(X) \
	X(REQUEST, "request", "from a request's first byte to its record") \
	X(ORIGIN, "origin", "from sending a request to an origin to its answer's head") \
	X(HANDSHAKE, "handshake", "from accept to the end of the TLS handshake") \
	X(SIGNATURE, "signature", "from asking for a signature to having it")

/* What stands now. Who reads sums it up (struct telemetry_gauges). */
#define TELEMETRY_GAUGES(X) \
	X(CONNECTIONS, "connections", "connections of clients that are open") \
	X(EXCHANGES, "exchanges", "exchanges under way") \
	X(PROCESSES, "processes", "processes of the service that run")

/* Counters with labels. Row: id, name, labels, help. */
#define TELEMETRY_LABELLED(X) \
	X(ENDS, "ends", "end", "how exchanges ended") \
	X(LIMITS, "limits", "limit", "how often a limit was met") \
	X(RESPONSES, "responses", "status", "responses by the first digit of their status") \
	X(SITE_RESPONSES, "site_responses", "site,status", "responses of a site by the first digit of their status; `none`: no answer was sent") \
	X(UPSTREAM_FAILURES, "upstream_failures", "upstream,reason", "tries that failed, by how; a request may have several")

/* Of each site and each upstream, by their label `site` or `upstream`. */
#define TELEMETRY_SITE_COUNTERS(X) \
	X(BYTES_IN, "site_bytes_in", "bytes from clients of a site") \
	X(BYTES_OUT, "site_bytes_out", "bytes to clients of a site")
#define TELEMETRY_SITE_HISTOGRAMS(X) \
	X(REQUEST, "site_request", "from a request's first byte to its record, of a site")
#define TELEMETRY_UPSTREAM_COUNTERS(X) \
	X(REQUESTS, "upstream_requests", "requests for an upstream, each once") \
	X(RETRIES, "upstream_retries", "requests sent once more: to the same origin on a fresh connection, or to another")
#define TELEMETRY_UPSTREAM_GAUGES(X) \
	X(EXCHANGES, "upstream_exchanges", "exchanges of an upstream under way") \
	X(CONNECTIONS, "upstream_connections", "open connections to an upstream's origins, unused ones too; of each second") \
	X(IDLE, "upstream_connections_idle", "those of them that are unused") \
	X(QUEUED, "upstream_queued", "requests that wait for a connection to one of its origins; of each second") \
	X(DOWN, "upstream_origins_down", "origins of an upstream that get no requests, as the worker says that knows of the most")
#define TELEMETRY_UPSTREAM_HISTOGRAMS(X) \
	X(RESPONSE, "upstream_response", "from sending a request to an origin of an upstream to its answer's head")
/* Of each origin of each upstream, by the labels `upstream` and `origin`. */
#define TELEMETRY_ORIGIN_GAUGES(X) \
	X(UP, "upstream_origin_up", "1: an origin of an upstream gets requests; 0: a worker gives it none, for its checks, its failures or a command")
/* clang-format on */

enum telemetry_counter {
#define X(id, name, help) TELEMETRY_COUNTER_##id,
	TELEMETRY_COUNTERS(X)
#undef X
		TELEMETRY_COUNTER_COUNT,
};
enum telemetry_histogram {
#define X(id, name, help) TELEMETRY_HISTOGRAM_##id,
	TELEMETRY_HISTOGRAMS(X)
#undef X
		TELEMETRY_HISTOGRAM_COUNT,
};
enum telemetry_site_counter {
#define X(id, name, help) TELEMETRY_SITE_##id,
	TELEMETRY_SITE_COUNTERS(X)
#undef X
		TELEMETRY_SITE_COUNTER_COUNT,
};
enum telemetry_upstream_counter {
#define X(id, name, help) TELEMETRY_UPSTREAM_##id,
	TELEMETRY_UPSTREAM_COUNTERS(X)
#undef X
		TELEMETRY_UPSTREAM_COUNTER_COUNT,
};
enum telemetry_upstream_gauge {
#define X(id, name, help) TELEMETRY_UPSTREAM_GAUGE_##id,
	TELEMETRY_UPSTREAM_GAUGES(X)
#undef X
		TELEMETRY_UPSTREAM_GAUGE_COUNT,
};

enum { TELEMETRY_BUCKETS = 31 };
/* Bucket n counts durations below 2^n microseconds that no bucket before it counts; the last one, all the
 * longer ones. */
struct telemetry_buckets {
	uint64_t counts[TELEMETRY_BUCKETS];
	uint64_t sum_us;
};

struct telemetry_counters {
	uint64_t counters[128]; /* enum telemetry_counter */
	uint64_t ends[128];     /* enum telemetry_end */
	uint64_t limits[256];   /* enum telemetry_limit */
	uint64_t statuses[8];   /* by a response's first digit */
	struct telemetry_buckets histograms[16];
};

/* Readers in other processes see whole cells: no more is promised. */
static inline void telemetry_add(uint64_t *cell, uint64_t amount)
{
	__atomic_store_n(cell, *cell + amount, __ATOMIC_RELAXED);
}
static inline void telemetry_count(struct telemetry_counters *counters,
				   enum telemetry_counter which)
{
	telemetry_add(&counters->counters[which], 1);
}
static inline void telemetry_count_add(struct telemetry_counters *counters,
				       enum telemetry_counter which, uint64_t amount)
{
	telemetry_add(&counters->counters[which], amount);
}
static inline void telemetry_count_limit(struct telemetry_counters *counters,
					 enum telemetry_limit which)
{
	telemetry_add(&counters->limits[which], 1);
}
void telemetry_count_end(struct telemetry_counters *counters, enum telemetry_end end,
			 uint16_t status);
void telemetry_observe(struct telemetry_counters *counters, enum telemetry_histogram which,
		       uint64_t duration_ns);
/* Adds a process's range, which may be written meanwhile and hold anything, to `sum`; cells stop at
 * UINT64_MAX. */
void telemetry_sum(struct telemetry_counters *sum, const struct telemetry_counters *range);

/* ---- Sites and upstreams ---------------------------------------------------------------------------------
 * Counters by name, in the same range: one row for each site and each upstream that its process has served since the
 * first life of it, found by its label and never taken away, so that nothing that was counted is lost by a reload. Row 0
 * is `other`: what belongs to no site, and what came when there was no row left. */

enum {
	TELEMETRY_LABEL_LEN = 240, /* what is longer is cut */
	TELEMETRY_SITES = 193,
	TELEMETRY_UPSTREAMS = 97,
	TELEMETRY_ORIGINS = 257,
};
struct telemetry_label {
	uint32_t len, reserved;
	char text[TELEMETRY_LABEL_LEN];
};
struct telemetry_site {
	struct telemetry_label label; /* the site's first name */
	uint64_t statuses[8];         /* by a response's first digit; 0: none was sent */
	uint64_t counters[8];         /* enum telemetry_site_counter */
	struct telemetry_buckets request;
};
struct telemetry_upstream {
	struct telemetry_label label; /* its name; of a `proxy` line's own, its origins */
	uint64_t counters[8];         /* enum telemetry_upstream_counter */
	uint64_t gauges[8];           /* enum telemetry_upstream_gauge */
	uint64_t failures[40];        /* enum telemetry_end */
	struct telemetry_buckets response;
};
enum telemetry_origin_state {
	TELEMETRY_ORIGIN_GONE, /* no upstream of today has it */
	TELEMETRY_ORIGIN_UP,
	TELEMETRY_ORIGIN_DOWN,
};
struct telemetry_origin {
	struct telemetry_label label; /* the origin as it is written */
	uint32_t upstream, state;     /* the row of its upstream; enum telemetry_origin_state */
};
struct telemetry_named {
	uint32_t site_count, upstream_count; /* rows that have a label */
	struct telemetry_site sites[TELEMETRY_SITES];
	struct telemetry_upstream upstreams[TELEMETRY_UPSTREAMS];
	uint32_t origin_count, reserved;
	struct telemetry_origin origins[TELEMETRY_ORIGINS]; /* row 0: those that found no room */
};

/* For who writes the range, at its start: both rows 0 are there, gauges of a life before are 0. */
void telemetry_named_begin(struct telemetry_named *named);
/* For who outlives it: gauges end with the process. The range may hold anything. */
void telemetry_named_rest(struct telemetry_named *named);
/* The row of this label, a new one, or row 0 where none is left. Rows stay where they are. */
struct telemetry_site *telemetry_named_site(struct telemetry_named *named, struct span label);
struct telemetry_upstream *telemetry_named_upstream(struct telemetry_named *named,
						    struct span label);
struct telemetry_origin *telemetry_named_origin(struct telemetry_named *named,
						const struct telemetry_upstream *upstream,
						struct span label);
/* Adds the counters of a range that may be written meanwhile and hold anything; no gauges. */
void telemetry_named_sum(struct telemetry_named *sum, const struct telemetry_named *range);
/* One more in the bucket of this duration. */
void telemetry_observe_in(struct telemetry_buckets *buckets, uint64_t duration_ns);

/* ---- Metrics: all processes' ranges as Prometheus' text format 0.0.4, piece by piece --------------------- */

struct telemetry_source {
	const struct telemetry_counters *counters;
	const struct telemetry_named *named; /* NULL: this process serves no site */
};
struct telemetry_gauges {
	uint64_t connections, exchanges, processes;
};
/* So much room a piece needs at most. */
enum { TELEMETRY_METRICS_PIECE = 16 * 1024 };
/* Zeroed but for what stands above the line. */
struct telemetry_metrics {
	const struct telemetry_source *sources;
	size_t source_count;
	struct telemetry_gauges gauges;
	/* ---- its own ---- */
	size_t family, source, row;
	bool has_begun;
};
/* Adds the next whole lines to `out`, which has TELEMETRY_METRICS_PIECE bytes of room. False: nothing is left. */
bool telemetry_metrics_next(struct telemetry_metrics *metrics, struct writer *out) MUST_CHECK;
/* Rows by label, over all sources. A label may be in several of them, and what a range holds may be anything. */
enum telemetry_rows { TELEMETRY_ROWS_SITE, TELEMETRY_ROWS_UPSTREAM };
size_t telemetry_rows_count(const struct telemetry_source *source, enum telemetry_rows which);
/* The label of a row, as plain text in `buf`; empty where a source before has it too, or an earlier row. */
struct span telemetry_rows_label(const struct telemetry_metrics *metrics, size_t source, size_t row,
				 enum telemetry_rows which, char buf[TELEMETRY_LABEL_LEN]);
/* The sum of that label's rows, from `source` on; gauges are summed too, but for the DOWN one. */
void telemetry_rows_sum_site(const struct telemetry_metrics *metrics, size_t source, size_t row,
			     struct telemetry_site *ret_sum);
void telemetry_rows_sum_upstream(const struct telemetry_metrics *metrics, size_t source, size_t row,
				 struct telemetry_upstream *ret_sum);

struct telemetry_origin_seen {
	struct span upstream, origin; /* plain text in `bufs` */
	bool is_up;                   /* as all say that know it */
	char bufs[2][TELEMETRY_LABEL_LEN];
};
size_t telemetry_rows_origins(const struct telemetry_source *source);
/* False: no upstream has it now, or a row before this one told the same. */
bool telemetry_rows_origin(const struct telemetry_metrics *metrics, size_t source, size_t row,
			   struct telemetry_origin_seen *ret_seen) MUST_CHECK;

/* ---- Records --------------------------------------------------------------------------------------------
 * Every writer below adds one whole line with its newline, or clears out->ok and adds nothing. With
 * TELEMETRY_LINE_MAX bytes of room a line always fits: a peer's long texts are cut. */

enum { TELEMETRY_LINE_MAX = 32 * 1024 };

/* RFC 3339 in UTC with microseconds: 2026-03-01T12:00:00.000000Z. wall_ns: since 1970. */
void telemetry_write_time(struct writer *out, uint64_t wall_ns);

/* What of a time's text all lines of a second have in common, kept by who writes many. Zeroed: nothing yet. */
enum { TELEMETRY_SECOND_LEN = 20 };
struct telemetry_second {
	uint64_t number; /* since 1970, and one more */
	char text[TELEMETRY_SECOND_LEN];
};

struct telemetry_access {
	uint64_t wall_ns;                /* when the request began; since 1970 */
	struct telemetry_second *second; /* NULL: none is kept */
	uint64_t duration_ns;            /* from then to the record */
	struct span client;              /* address as text */
	uint16_t client_port;            /* 0: not known */
	uint16_t status;                 /* 0: no answer was sent */
	struct span method, host, path, query, protocol /* "HTTP/1.1" */;
	uint64_t bytes_in, bytes_out; /* heads and bodies, without TLS */
	struct span upstream;    /* address of the origin that answered, or its text; empty: none */
	uint64_t upstream_ns;    /* from sending to its head; 0: no answer */
	uint32_t upstream_tries; /* origins that were tried; written from the second on */
	struct span tls_version, tls_group, tls_cipher, ja4; /* empty: no TLS */
	bool tls_resumed;
	struct span user_agent, referer;
	struct span rule;  /* the line of the configuration that decided; or empty */
	struct span rules; /* verdicts, a text */
	uint64_t request_id_high, request_id_low;
	struct span trace_id, span_id; /* plain hexadecimal; empty: no trace */
	uint32_t worker;
	enum telemetry_end end;
	struct span end_detail; /* or empty */
};
void telemetry_write_access_json(struct writer *out, const struct telemetry_access *access);
/* Apache's combined log format. */
void telemetry_write_access_combined(struct writer *out, const struct telemetry_access *access);
/* For somebody who watches: 12:00:00 200 GET localhost/path 1.5 KB 12 ms */
void telemetry_write_access_short(struct writer *out, const struct telemetry_access *access);

/* An event of a request that took long: what the access record has of it, and where the time went. */
enum { TELEMETRY_STAGES_MAX = 16 };
struct telemetry_stage {
	const char *name; /* ours: a plain word */
	uint64_t duration_ns;
};
void telemetry_write_slow(struct writer *out, const struct telemetry_access *access,
			  const struct telemetry_stage *stages, size_t count);

/* Row: id, name; as in Suricata's EVE. */
#define TELEMETRY_EVENTS(X) \
	X(ALERT, "alert") \
	X(TLS, "tls") \
	X(HTTP, "http") \
	X(ANOMALY, "anomaly") \
	X(BAN, "ban") \
	X(CERTIFICATE, "certificate") \
	X(UPDATE, "update") \
	X(FLOW, "flow")
enum telemetry_event_type {
#define X(id, name) TELEMETRY_EVENT_##id,
	TELEMETRY_EVENTS(X)
#undef X
		TELEMETRY_EVENT_COUNT,
};

/* One member of the object that has the event type's name: {"tls":{"sni":"…"}}. */
struct telemetry_pair {
	const char *key; /* ours: a plain word */
	struct span text;
	uint64_t number; /* where is_number */
	bool is_number;
};
enum { TELEMETRY_PAIRS_MAX = 12 }; /* of one event; more are left out */

struct telemetry_event {
	enum telemetry_event_type type;
	uint64_t wall_ns;
	struct span source, destination; /* addresses; empty: none */
	uint16_t source_port, destination_port;
	struct span process; /* "worker 0" */
	struct span message; /* for people */
	const struct telemetry_pair *pairs;
	size_t pair_count;
};
void telemetry_write_event(struct writer *out, const struct telemetry_event *event);

/* ---- The ring: lines from one process to `log` through shared memory ------------------------------------
 * One producer, one consumer. Memory that is all zero is an empty ring, and what a dead process left in
 * it is read like any other: there is nothing to initialise after os_memory_new(). The producer never
 * blocks: without room a line is dropped and counted. Neither side trusts a byte that the other can write:
 * positions are masked, lengths checked and copied before use, and a ring that makes no sense is emptied. */

enum {
	TELEMETRY_RING_BYTES = 1 << 20,
	/* So much waits at most without a wake: three times as much may come until the consumer runs. */
	TELEMETRY_RING_WAKE_BYTES = TELEMETRY_RING_BYTES / 4,
};

struct telemetry_ring {
	/* The producer's line. Positions count all bytes ever written; the low bits are the place. */
	_Alignas(64) uint64_t head;
	uint64_t dropped; /* lines */
	/* The consumer's. */
	_Alignas(64) uint64_t tail;
	uint32_t sleeps; /* what it waits for: 0 nothing, 1 a line, 2 TELEMETRY_RING_WAKE_BYTES */
	uint32_t broken; /* how often it was emptied because it made no sense */
	uint64_t
		reported; /* of `dropped`: what a consumer has told somebody; the next one continues */
	_Alignas(4096) char bytes[TELEMETRY_RING_BYTES];
};

enum telemetry_ring_kind { TELEMETRY_RING_ACCESS = 1, TELEMETRY_RING_EVENT = 2 };

enum telemetry_ring_outcome {
	TELEMETRY_RING_WAKE = 1, /* written, and the consumer waits for it: wake it */
	TELEMETRY_RING_FULL,     /* dropped and counted */
	TELEMETRY_RING_EMPTY,    /* nothing to read */
	TELEMETRY_RING_BROKEN,   /* made no sense; it is empty now */
};

/* A finished line with its newline, at most TELEMETRY_LINE_MAX bytes. 0, WAKE, FULL. */
int telemetry_ring_write(struct telemetry_ring *ring, enum telemetry_ring_kind kind,
			 struct span line) MUST_CHECK;
/* The oldest line, copied to buf, which is TELEMETRY_LINE_MAX long. Whatever stood in the ring, it is one
 * line: what a terminal would obey or hide, or is no UTF-8, became `?`, and it ends with a newline. 0, EMPTY, BROKEN. A
 * consumer reads a bounded number of lines a turn: a producer may write as fast as it reads. */
int telemetry_ring_read(struct telemetry_ring *ring, char *buf, enum telemetry_ring_kind *ret_kind,
			struct span *ret_line) MUST_CHECK;
bool telemetry_ring_is_empty(const struct telemetry_ring *ring);
/* The consumer wants to wait. True: it may, and the next write says WAKE, once. False: lines came
 * meanwhile, read on. A hostile producer need not wake anybody: look at least once a second. */
bool telemetry_ring_sleep(struct telemetry_ring *ring) MUST_CHECK;
/* It wants to wait and comes back by itself, soon: a wake for each line would cost more than the line. True: it
 * may, and the write that fills TELEMETRY_RING_WAKE_BYTES says WAKE, once. False: so much is there already. */
bool telemetry_ring_rest(struct telemetry_ring *ring) MUST_CHECK;
void telemetry_ring_awake(struct telemetry_ring *ring); /* woken by something else */
