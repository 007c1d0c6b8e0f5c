/* upstream: connections to origins, their pools, and fetches.
 *
 * A fetch is one request to one origin with its answer. It belongs to its owner (an exchange), lives in
 * the owner's memory and allocates from the owner's arena. It never calls back into the middle of
 * something: whenever something changed for the owner, `wake` is called once and the owner looks
 * (upstream_fetch_state, _read, _write) when its turn comes.
 *
 * upstream opens no socket: it asks its host to dial an origin by id and is given a connected socket
 * (upstream_dialed) or a reason (upstream_dial_failed). It does TLS with origins itself, through tls.
 * It knows neither clients nor the pipeline. One struct upstream per worker. */
#pragma once

#include "http/http.h"
#include "os/os.h"

struct upstream;
struct upstream_connection;
struct upstream_origin;
struct upstream_fetch;
struct tls_policy;
struct snapshot_origin;

/* What the worker does for upstream. */
struct upstream_host {
	/* Asks for a connected socket to this origin. The answer comes by upstream_dialed or
	 * upstream_dial_failed with this very connection, unless it was cancelled. Non-zero: no room. */
	int (*dial)(void *host, struct upstream_connection *connection, uint64_t origin_id,
		    uint32_t timeout_ms, uint64_t *ret_question);
	void (*cancel_dial)(void *host, uint64_t question);
	/* Something changed for the owner of this fetch. Never called from inside one of the owner's own
	 * calls of upstream_fetch_*, and at most once until the owner called one of them. */
	void (*wake)(void *host, void *owner);
	/* The policy for https origins of this ca id (0: the system's roots). */
	struct tls_policy *(*tls_policy)(void *host, uint64_t ca_id);
	/* An unused connection made room for another one (idle_per_origin): to be counted, nothing else. */
	void (*displaced)(void *host);
};

/* Milliseconds unless the name says more; values come from the limits table. */
struct upstream_limits {
	uint32_t connect_ms, first_byte_ms, between_bytes_ms, event_stream_ms, tunnel_ms, idle_ms;
	uint32_t head_max, idle_per_origin, connections_per_origin, queue_per_origin;
};

struct upstream_config {
	struct os_loop *loop;
	const struct upstream_host *host;
	void *host_data;
	/* One buffer of the worker for every read: a body span is a view of it (see upstream_fetch_read). */
	char *receive_buffer;
	size_t receive_size;
};
int upstream_new(const struct upstream_config *config, struct upstream **ret_upstream) MUST_CHECK;
void upstream_free(struct upstream *upstream);
/* Before the first fetch, and after each change. */
void upstream_set_limits(struct upstream *upstream, const struct upstream_limits *limits);
/* Closes idle connections of origins that are not in the list any more (after a change). */
void upstream_keep_only(struct upstream *upstream, const uint64_t *origin_ids, size_t count);
void upstream_close_idle(struct upstream *upstream); /* draining */
/* An origin that the operator took out: its idle connections. */
void upstream_origin_close_idle(struct upstream *upstream, uint64_t origin_id);
/* The origin has these addresses alone: connections to others are closed where they lie idle, else when what is under
 * way on them is over. Ports do not count. */
void upstream_origin_addresses(struct upstream *upstream, uint64_t origin_id,
			       const struct os_address *addresses, size_t count);
/* As upstream_origin_close_idle, and every fetch there fails with this end of telemetry's: those that wait for a connection, too. */
void upstream_origin_fail(struct upstream *upstream, uint64_t origin_id, uint32_t end);
/* At a turn's end: connections that became free go to who waits for one; what was closed is freed. */
void upstream_turn_end(struct upstream *upstream);

/* What is (still) wanted for this connection: the worker asks its dialer again when that was replaced. */
void upstream_dial_wanted(const struct upstream_connection *connection, uint64_t *ret_origin_id,
			  uint32_t *ret_timeout_ms);
void upstream_dialed(struct upstream_connection *connection, int fd /* taken; -1: no room for it */,
		     uint32_t connect_us);
/* status: enum ipc_dial_status; detail is copied. */
void upstream_dial_failed(struct upstream_connection *connection, uint32_t status,
			  struct span detail);

/* Somebody whose requests to some origins begin a connection with `first`, so that the origin takes all that comes on
 * it for his: such a connection is kept for him alone, and no longer than he is there. Embedded in his owner. */
struct upstream_client {
	struct list own; /* connections: upstream's */
};
void upstream_client_init(struct upstream_client *client);
/* He is gone: what lies idle is closed, what is under way will be. May be called again. */
void upstream_client_leave(struct upstream_client *client);

enum { UPSTREAM_FIRST_MAX = 107 };

/* What is sent. Spans live until the request head was sent (the exchange's arena does). The fields are
 * final: hop-by-hop fields are removed, Host and X-Forwarded-* written by the caller. Framing fields and
 * Connection are upstream's. */
struct upstream_request {
	uint64_t origin_id;
	/* From the snapshot; copied as far as needed beyond this call. */
	bool is_tls, is_verified;
	struct span server_name; /* SNI and verified name, or address literal, of a TLS origin */
	uint64_t ca_id;
	enum http_method method;
	struct span method_text, target; /* target in its wire form, with query */
	struct span host; /* the Host field's value; also in fields, where upstream skips it */
	const struct http_fields *fields;
	int64_t content_length; /* -1: unknown, sent chunked when has_body */
	bool has_body;
	bool expect_continue; /* Expect: 100-continue goes along */
	struct span upgrade;  /* token to ask for, or empty */
	bool may_retry;       /* idempotent and without a body: once more on a fresh connection */
	/* A fresh connection begins with these bytes, before TLS (a PROXY header); it is used again for this client with
	 * these very bytes only. Without a client: not at all. Empty: any connection to the origin does. */
	struct span first;
	struct upstream_client *client;
	/* Of this request's route; those of the pool (idle times, head) stay upstream's. */
	struct upstream_limits limits;
};

enum upstream_state {
	UPSTREAM_IDLE, /* not started */
	UPSTREAM_WORKING, /* waiting for a connection, dialing, handshaking, sending, waiting for the head */
	UPSTREAM_INTERIM, /* a 1xx other than 101 stands in `interim`: upstream_fetch_interim_done goes on */
	UPSTREAM_HEAD, /* the final head stands in `response`; the body can be read */
	UPSTREAM_DONE, /* the answer was read to its end; the connection is back in its pool or closed */
	UPSTREAM_FAILED, /* `failure` says why */
};

enum { UPSTREAM_ADDRESS_TEXT = 64 };

struct upstream_failure {
	uint32_t end;       /* enum of telemetry's end words: origin-refused, origin-closed, … */
	struct span detail; /* for the log ("expired"); in the owner's arena or a literal */
	bool after_head;    /* the head had been delivered: the answer is cut short */
	bool is_unsent;     /* no byte of the request can have reached the origin */
	bool is_answered;   /* a byte of an answer came */
	bool is_limit;      /* an origin ran into `limit`, a row of telemetry's table */
	uint32_t limit;
};

/* Embedded in the owner; zeroed before the first start. Fields above the line may be read by the owner. */
struct upstream_fetch {
	enum upstream_state state;
	struct http_response response; /* in state HEAD and later; spans in the arena */
	struct http_response interim;
	struct upstream_failure failure;
	bool is_tunnel;       /* a 101 was answered: read and write are raw from now on */
	bool origin_continue; /* a 100 came: the owner may pull the body */
	bool was_reused, was_retried;
	bool was_queued; /* connections-per-origin was used up: it had to wait */
	uint32_t connect_us;
	uint64_t first_byte_ns;  /* when the final head's first byte came, 0 before */
	uint64_t sent, received; /* body bytes */
	char address_text
		[UPSTREAM_ADDRESS_TEXT]; /* of the connected peer, NUL-terminated, for the log */
	/* ---- upstream's own ---- */
	struct upstream_connection *connection;
	struct upstream *upstream;
	struct arena *arena;
	void *owner;
	const struct upstream_request *request;
	struct upstream_origin *origin_waited_for;
	struct list waiting;
	struct os_timer timer; /* of the wait for a connection */
	bool is_woken, request_done;
};

/* `request` must live until the head was answered (retry). Where connections-per-origin is used up the fetch waits
 * for a connection, in order, at most first_byte_ms (then: queue-full). 0, or -ENOMEM, or positive UPSTREAM_NO_ROOM
 * when queue-per-origin wait already (503 queue-full). */
enum upstream_outcome {
	UPSTREAM_NO_ROOM = 1,
	UPSTREAM_MORE,   /* nothing now: wake comes */
	UPSTREAM_END,    /* the body ended (cleanly) */
	UPSTREAM_BROKEN, /* failed: see failure */
};
int upstream_fetch_start(struct upstream *upstream, struct upstream_fetch *fetch,
			 const struct upstream_request *request, struct arena *arena,
			 void *owner) MUST_CHECK;
/* Hands body bytes on: as many as the socket takes now go out (no copy for a plain origin); *ret_taken
 * says how many. UPSTREAM_MORE when less than all was taken: wake comes when there is room again. `last`
 * with all bytes taken ends the request (an empty span with last is fine). Before the connection stands
 * it takes nothing. After a write error the response is read first: it then takes everything and drops it. */
int upstream_fetch_write(struct upstream_fetch *fetch, struct span bytes, bool last,
			 size_t *ret_taken) MUST_CHECK;
/* The next body bytes, at most `room`, as a view of the worker's receive buffer: valid until the next
 * call of upstream or the end of the turn, and the owner has to take all of it. 0 with ret_bytes,
 * UPSTREAM_MORE, UPSTREAM_END, UPSTREAM_BROKEN. */
int upstream_fetch_read(struct upstream_fetch *fetch, size_t room,
			struct span *ret_bytes) MUST_CHECK;
void upstream_fetch_interim_done(struct upstream_fetch *fetch);
/* Ends it in any state, also when idle or done: an unfinished one closes its connection. The owner may
 * free it afterwards; no wake comes any more. */
void upstream_fetch_stop(struct upstream_fetch *fetch);
/* Connections in use, idle, and how many of both are TLS. */
struct upstream_counts {
	uint32_t busy, idle, tls;
};
struct upstream_counts upstream_count(const struct upstream *upstream);
/* Of one origin: connections (dialed ones too), how many of these are idle, fetches that wait for one. */
struct upstream_origin_counts {
	uint32_t open, idle, waiting;
};
struct upstream_origin_counts upstream_count_origin(const struct upstream *upstream,
						    uint64_t origin_id);
