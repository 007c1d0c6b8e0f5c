/* codec: bytes on a connection to requests and responses, and back. Today HTTP/1.1 (RFC 9112),
 * both sides, and the PROXY header before them; HTTP/2 and HTTP/3 come beside it.
 *
 * An engine: no I/O, no clock, no log. The caller reads and writes sockets, owns the buffers and
 * both structs, decides time-outs, and passes an arena per exchange in which a head lives. Body
 * bytes are never copied: they are spans into what the caller passed in, valid as long as its
 * buffer is.
 *
 * Strict: whatever two readers could understand differently is refused (docs/threats; RFC 9112,
 * 11.2). Outcomes: 0 never; positive enum codec_h1_outcome for what came; -ENOMEM when the arena
 * is full (answer 503 and close). After CODEC_H1_ERROR or a negative result nothing more is
 * parsed. */
#pragma once

#include "base/base.h"
#include "http/http.h"

/* ---- Limits and outcomes --------------------------------------------------------------------- */

struct codec_h1_limits {
	uint32_t line_max;    /* bytes of a request line without CRLF: 414 */
	uint32_t head_max;    /* bytes of a whole head: 431 */
	uint32_t field_max;   /* fields: 431; trailers have as many again */
	uint32_t trailer_max; /* bytes of trailers: 431 */
};
extern const struct codec_h1_limits codec_h1_request_limits;  /* 8 KiB, 32 KiB, 100 */
extern const struct codec_h1_limits codec_h1_response_limits; /* 64 KiB, 64 KiB, 200 */

enum codec_h1_outcome {
	CODEC_H1_NEED_MORE = 1, /* all input was taken; bring more */
	CODEC_H1_NEED_ROOM,     /* body bytes stand in the input, `room` was 0 */
	CODEC_H1_HEAD,          /* a request or a final response; event.request / event.response */
	CODEC_H1_INTERIM,       /* client side: a 1xx other than 101; event.response */
	CODEC_H1_BODY,          /* event.body, 1 to `room` bytes, already taken off the input */
	CODEC_H1_END,           /* the message is complete (comes after every HEAD, body or not) */
	CODEC_H1_HELD,   /* behind an upgrade or CONNECT: the input is untouched and not HTTP yet */
	CODEC_H1_CLOSED, /* after `Connection: close` or an error: input is swallowed */
	CODEC_H1_ERROR,  /* event.fault; the connection ends after the answer */
};

/* Why a message was refused: status to answer, and a word for the log. Client side: all are 502. */
#define CODEC_H1_FAULTS(X) \
	X(REQUEST_LINE, 400, "bad-request-line") \
	X(STATUS_LINE, 502, "bad-status-line") \
	X(METHOD, 400, "bad-method") \
	X(TARGET, 400, "bad-target") \
	X(VERSION, 505, "bad-version") \
	X(LINE_LONG, 414, "line-too-long") \
	X(HEAD_LONG, 431, "head-too-long") \
	X(FIELD_COUNT, 431, "too-many-fields") \
	X(FIELD_NAME, 400, "bad-field-name") \
	X(FIELD_VALUE, 400, "bad-field-value") \
	X(OBS_FOLD, 400, "folded-field") \
	X(BARE_CR, 400, "bare-cr") \
	X(BARE_LF, 400, "bare-lf") \
	X(LEADING_LINES, 400, "leading-lines") \
	X(HOST_MISSING, 400, "host-missing") \
	X(HOST_TWICE, 400, "host-twice") \
	X(HOST_INVALID, 400, "bad-host") \
	X(HOST_MISMATCH, 400, "host-mismatch") \
	X(LENGTH_INVALID, 400, "bad-content-length") \
	X(LENGTH_TWICE, 400, "content-length-twice") \
	X(LENGTH_AND_CODING, 400, "length-and-transfer-coding") \
	X(CODING_INVALID, 400, "bad-transfer-coding") \
	X(CODING_UNKNOWN, 501, "unknown-transfer-coding") \
	X(CODING_IN_1_0, 400, "transfer-coding-in-1.0") \
	X(EXPECTATION, 417, "unknown-expectation") \
	X(CHUNK_SIZE, 400, "bad-chunk-size") \
	X(CHUNK_EXTENSION, 400, "bad-chunk-extension") \
	X(EXTENSION_LONG, 400, "chunk-extension-too-long") \
	X(EXTENSIONS_LONG, 400, "chunk-extensions-too-long") \
	X(CHUNK_END, 400, "bad-chunk-end") \
	X(CHUNK_OVERHEAD, 400, "chunk-overhead") \
	X(TRAILER, 400, "bad-trailer") \
	X(TRAILER_LONG, 431, "trailers-too-long") \
	X(INTERIM_COUNT, 502, "too-many-interim-responses") \
	X(SWITCH_UNASKED, 502, "unasked-101") \
	X(TRUNCATED, 502, "truncated")

enum codec_h1_fault {
	CODEC_H1_FAULT_NONE,
#define X(id, status, text) CODEC_H1_FAULT_##id,
	CODEC_H1_FAULTS(X)
#undef X
};
uint16_t codec_h1_fault_status(enum codec_h1_fault fault);
const char *codec_h1_fault_text(enum codec_h1_fault fault);

struct codec_h1_event {
	struct http_request *request;   /* HEAD, server side: in the exchange's arena */
	struct http_response *response; /* HEAD and INTERIM, client side: in the exchange's arena */
	struct span body;               /* BODY: into the caller's input */
	enum codec_h1_fault fault;      /* ERROR */
};

/* ---- Internal state, here so that the structs can lie inside the caller's -------------------- */

enum codec_h1_framing {
	CODEC_H1_FRAMING_NONE, /* no body at all */
	CODEC_H1_FRAMING_LENGTH,
	CODEC_H1_FRAMING_CHUNKED,
	CODEC_H1_FRAMING_CLOSE, /* ends with the connection; responses only */
};

/* Reads one head, line by line, into one contiguous copy in the arena. What a line shows to be
 * wrong is refused at once: a peer that never ends its head cannot keep a fault pending. */
struct codec_h1_head {
	char *bytes; /* in the exchange's arena */
	uint32_t used, capacity, line_start;
	uint8_t leading_lines; /* empty lines before the first */
	bool has_line;         /* the first line was parsed */
	bool is_response;
	struct span first[3]; /* its three words */
	struct http_fields fields;
	int64_t content_length; /* -1: not named */
	bool is_chunked;
	bool has_host;
};

/* Reads one body. */
struct codec_h1_reader {
	enum codec_h1_framing framing;
	uint8_t step; /* enum chunk_step; private */
	uint8_t size_digits;
	uint16_t extension_len; /* of this chunk */
	uint32_t extension_total, trailer_len, trailer_count;
	const struct codec_h1_limits *limits; /* of trailers */
	uint64_t left;                        /* of the body or of this chunk, bytes */
	uint64_t data_total, overhead_total;
};

/* Writes one body. */
struct codec_h1_writer {
	enum codec_h1_framing framing;
	bool ended;
	uint64_t left; /* LENGTH: bytes still owed */
};

/* ---- Server side: requests in, responses out ------------------------------------------------- */

struct codec_h1_server {
	const struct codec_h1_limits *limits;
	bool secure;
	uint8_t step; /* private */
	struct codec_h1_head head;
	struct codec_h1_reader reader;
	struct codec_h1_writer writer;
	/* Of the current request; set when its HEAD was given, until the next one's. */
	enum http_method method;
	uint8_t version; /* 10 or 11 */
	bool is_held;    /* an upgrade or CONNECT stands undecided */
	/* Whether the connection goes on after this exchange. The caller may clear it at any
	 * time before the response head is written (drain, unread body); it must close after the
	 * response's end when it is false then. */
	bool keep_alive;
	bool continue_wanted; /* Expect: 100-continue stands unanswered */
};

/* `limits` must outlive the server. secure: the connection is TLS. */
void codec_h1_server_init(struct codec_h1_server *server, const struct codec_h1_limits *limits,
			  bool secure);
/* Takes what it can use off the front of *input. Call again until it returns NEED_MORE,
 * NEED_ROOM, HELD, CLOSED or ERROR. `arena` is that of the exchange that is being read: the same
 * one from the first byte of a head until its END; for the next head a fresh one. A pipelined
 * request is parsed as soon as this is called after END: so call it only when the response
 * before has been written. `room`: the most body bytes to give out now. */
int codec_h1_request_next(struct codec_h1_server *server, struct span *input, size_t room,
			  struct arena *arena, struct codec_h1_event *ret) MUST_CHECK;
/* True between exchanges with no byte of a next head read: an idle connection, free to be
 * closed. */
bool codec_h1_server_is_idle(const struct codec_h1_server *server);
/* True while the current request has body bytes (or its end) still to be read. */
bool codec_h1_server_is_reading(const struct codec_h1_server *server);
/* Before the response head when an upgrade or CONNECT was not granted. has_input: bytes stand in
 * the input behind it. What the client sent for the other protocol is never read as a request:
 * with such bytes the connection closes after the response; else the next request may follow.
 * Where this was not called, a response head other than 101 (2xx to CONNECT) closes it too. */
void codec_h1_server_refuse_upgrade(struct codec_h1_server *server, bool has_input);

/* Writes the head and chooses the framing: none for HEAD, 1xx, 204, 304; Content-Length where
 * response->content_length >= 0; else chunked for 1.1 and close for 1.0. Connection: close where
 * keep_alive is false, keep-alive for 1.0 clients, upgrade for 101 (response->fields then holds
 * Upgrade). Date from date_text where the response has none (empty: none). Fields of the hop and
 * framing in response->fields are skipped. -ENOSPC: the writer is too small
 * (codec_h1_head_size() says how large it must be). -EINVAL: a field that we made holds a
 * control character. */
int codec_h1_write_response_head(struct codec_h1_server *server, struct writer *writer,
				 const struct http_response *response,
				 struct span date_text) MUST_CHECK;
/* An interim response (1xx but 101), 100 without fields. Nothing for a 1.0 client. -ENOSPC. */
int codec_h1_write_interim(struct codec_h1_server *server, struct writer *writer,
			   const struct http_response *response) MUST_CHECK;
/* Writes `HTTP/1.1 100 Continue` if the client waits for it and the response has not begun.
 * -ENOSPC. */
int codec_h1_write_continue(struct codec_h1_server *server, struct writer *writer) MUST_CHECK;
/* A whole small answer to a head that was refused: status, plain text body, Connection: close.
 * -ENOSPC. */
int codec_h1_write_refusal(struct codec_h1_server *server, struct writer *writer, uint16_t status,
			   struct span text, struct span date_text) MUST_CHECK;
/* The most bytes that a head with these fields takes beside `extra` (target, host, reason …). */
size_t codec_h1_head_size(const struct http_fields *fields, size_t extra);

/* ---- Bodies out, both sides ------------------------------------------------------------------ */

enum { CODEC_H1_FRAME_SIZE = 20 };
/* What must go out around `len` bytes of a body; the bytes themselves are not copied. */
struct codec_h1_frame {
	char prefix[CODEC_H1_FRAME_SIZE];
	uint8_t prefix_len;
	struct span suffix; /* constant */
};

enum codec_h1_body_outcome {
	CODEC_H1_BODY_LONG = 1, /* more bytes than Content-Length: abort */
	CODEC_H1_BODY_SHORT,    /* fewer: abort, so that nobody takes it for whole */
};
/* len > 0. With framing none (HEAD) nothing may be sent: BODY_LONG. */
int codec_h1_body_frame(struct codec_h1_writer *body, uint64_t len,
			struct codec_h1_frame *ret) MUST_CHECK;
/* The end: prefix is the last chunk, or nothing. */
int codec_h1_body_end(struct codec_h1_writer *body, struct codec_h1_frame *ret) MUST_CHECK;

/* ---- Client side: requests out to an origin, responses in ------------------------------------ */

struct codec_h1_client {
	const struct codec_h1_limits *limits;
	uint8_t step; /* private */
	struct codec_h1_head head;
	struct codec_h1_reader reader;
	struct codec_h1_writer writer;
	enum http_method method; /* of the request that is out */
	bool upgrade_wanted;
	uint8_t interim_count;
	bool has_started;              /* a byte of this response came: no retry any more */
	bool keep_alive;               /* what the origin said; see codec_h1_client_is_reusable() */
	uint32_t keep_alive_timeout_s; /* Keep-Alive: timeout=; 0: not said */
};

/* What to write, decided by dispatch. All spans must hold valid text (the target and host came
 * through http's checks); a control character or blank in one of them is refused with -EINVAL. */
struct codec_h1_request_out {
	struct span method;
	struct span target; /* wire form with query, or `*` */
	struct span host;   /* the Host field's value */
	const struct http_fields
		*fields;        /* stripped; framing, Host, Connection … in it are skipped */
	int64_t content_length; /* -1: not known */
	bool has_body;          /* with content_length -1: chunked */
	bool expect_continue;
	bool close;          /* say Connection: close */
	struct span upgrade; /* a protocol to switch to, or empty */
};

void codec_h1_client_init(struct codec_h1_client *client, const struct codec_h1_limits *limits);
/* Starts the next exchange on this connection and writes its head. -ENOSPC, -EINVAL. */
int codec_h1_write_request_head(struct codec_h1_client *client, struct writer *writer,
				const struct codec_h1_request_out *request) MUST_CHECK;
/* Like codec_h1_request_next(). INTERIM up to 8 times, then HEAD, BODY …, END. After a HEAD of
 * 101: HELD, the input is the tunnel's. After END: CLOSED (stray bytes stay in the input). */
int codec_h1_response_next(struct codec_h1_client *client, struct span *input, size_t room,
			   struct arena *arena, struct codec_h1_event *ret) MUST_CHECK;
/* The origin closed, and all input was given to codec_h1_response_next(): END for a body that
 * ends by close, else ERROR (TRUNCATED). */
int codec_h1_response_eof(struct codec_h1_client *client, struct codec_h1_event *ret) MUST_CHECK;
/* After END: may the next request go out on this connection? has_input: bytes stand behind the
 * response. Only true when the request was written to its end too. */
bool codec_h1_client_is_reusable(const struct codec_h1_client *client, bool has_input);

/* ---- The PROXY header (The PROXY protocol, versions 1 & 2, W. Tarreau, 2020) ------------------ */

/* What a connection begins with where somebody in front of us passes it on: who its client is. A line of
 * text (section 2.1, at most 107 bytes) or a binary block (2.2: signature, version and command, family
 * and protocol, length, addresses, TLVs).
 *
 * LOCAL (the sender's own connection, a health check) and UNKNOWN, UNSPEC and families without IP addresses
 * keep the socket's. TLVs are skipped; of PROXY, a CRC32c is checked where it is there (2.2.3). What section
 * 2 says must be refused is refused, and a line with any byte that its grammar does not have. */

enum {
	CODEC_PROXY_SIZE_MAX = 4096, /* of a whole header */
	CODEC_PROXY_LINE_MAX = 107,  /* of version 1, with CRLF */
};

enum codec_proxy_outcome {
	CODEC_PROXY_NEED_MORE = 1, /* so far it may be one */
	CODEC_PROXY_REFUSED,       /* header.fault */
};

/* Why a connection was closed, as the event says it: word, what it means. The first three are said by who
 * reads, not by the parser. */
#define CODEC_PROXY_FAULTS(X) \
	X(STRANGER, "stranger", "who connected is not in the table") \
	X(LATE, "limit:proxy-header", "the header was not whole in time") \
	X(CLOSED, "closed", "the connection ended within the header") \
	X(MISSING, "missing", "it does not begin with a PROXY header") \
	X(LONG, "limit:proxy-header-size", "the header is longer than 4 KiB") \
	X(LINE, "bad-line", "a header of version 1 that is none: its words, blanks or end") \
	X(ADDRESS, "bad-address", "an address or port of version 1 that is none") \
	X(VERSION, "bad-version", "a version beside 1 and 2") \
	X(COMMAND, "bad-command", "neither PROXY nor LOCAL") \
	X(FAMILY, "bad-family", "an address family or protocol that there is not") \
	X(LENGTH, "bad-length", "shorter than its addresses") \
	X(TLV, "bad-tlv", "a TLV that reaches beyond the header, or a CRC32c of another length") \
	X(CHECKSUM, "bad-checksum", "the CRC32c is another")

enum codec_proxy_fault {
	CODEC_PROXY_FAULT_NONE,
#define X(id, text, help) CODEC_PROXY_FAULT_##id,
	CODEC_PROXY_FAULTS(X)
#undef X
};
const char *codec_proxy_fault_text(enum codec_proxy_fault fault);

struct codec_proxy_endpoint {
	uint8_t ip[16]; /* network order; v4: the first 4, the rest 0 */
	uint16_t port;
};
struct codec_proxy_header {
	size_t len;     /* bytes of the header; the connection's own begin behind it */
	uint8_t family; /* 4, 6; 0: it names no address, the socket's holds */
	struct codec_proxy_endpoint source, destination;
	enum codec_proxy_fault fault;
};
/* `bytes`: all that the connection sent so far. 0 and a header, or enum codec_proxy_outcome. A fault is told
 * as soon as the bytes show it. */
int codec_proxy_parse(struct span bytes, struct codec_proxy_header *ret) MUST_CHECK;
/* Appends a header of this version (1 or 2) with header->family, source and destination, as codec_proxy_parse
 * gives them. Family 0 says that the connection is the sender's own: UNKNOWN, or LOCAL. CODEC_PROXY_LINE_MAX
 * bytes of room are enough for either. */
void codec_proxy_write(struct writer *out, unsigned version,
		       const struct codec_proxy_header *header);
