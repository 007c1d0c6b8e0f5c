/* Private to upstream.
 *
 * pool.c       origins, idle connections, what is closed and freed
 * connection.c a connection's events: dialed, ready, due
 * transport.c  bytes on a connection, plain or TLS; tls.c has the sealed part
 * request.c    what is sent
 * waiting.c    fetches that wait for a connection
 * fetch.c      what comes back, and a fetch's states
 *
 * A connection belongs to one fetch (busy), to its origin's idle list, or to the doomed list. Closing takes
 * its descriptor at once and its memory at the turn's end, because its own callback may be on the stack. */
#pragma once

#include "codec/codec.h"
#include "telemetry/telemetry.h"
#include "tls/tls.h"
#include "upstream/upstream.h"

enum {
	UPSTREAM_HEAD_READ = 16 * 1024, /* most bytes of one read while a head is awaited */
	UPSTREAM_WIRE_SIZE = 34 * 1024, /* two TLS records */
	UPSTREAM_SEAL_MAX = 16 * 1024,  /* body bytes that are sealed at once */
	UPSTREAM_SCRATCH_SIZE = UPSTREAM_SEAL_MAX + 8 * 1024,
	UPSTREAM_NAME_MAX = 253,
};

/* Bytes that wait, in one piece. */
struct upstream_queue {
	char *bytes;
	size_t start, end, capacity;
};
struct span upstream_queue_view(const struct upstream_queue *queue);
bool upstream_queue_add(struct upstream_queue *queue,
			struct span bytes) MUST_CHECK; /* false: no memory */
void upstream_queue_consume(struct upstream_queue *queue, size_t len);
void upstream_queue_clear(struct upstream_queue *queue); /* gives its memory back */

enum upstream_phase {
	UPSTREAM_PHASE_DIALING,
	UPSTREAM_PHASE_HANDSHAKE,
	UPSTREAM_PHASE_BUSY,
	UPSTREAM_PHASE_IDLE,
	UPSTREAM_PHASE_CLOSED,
};

struct upstream_origin {
	uint64_t id;
	struct list idle; /* newest first */
	uint32_t idle_count, open_count /* idle ones too */, reference_count /* and doomed ones */;
	struct list waiting; /* fetches without a connection, oldest first */
	uint32_t waiting_count;
	struct list roomy; /* of upstream->roomy: somebody may be served */
	bool is_gone;      /* not in the list of origins any more */
};

struct upstream_connection {
	struct upstream *upstream;
	struct upstream_origin *origin;
	struct upstream_fetch *fetch;
	struct list all, link; /* link: idle, unsent heads, or doomed */
	enum upstream_phase phase;
	int fd;
	struct os_watch watch;
	struct os_timer timer;
	uint64_t question; /* to the dialer */
	bool is_asked;
	uint64_t idle_since_ns, active_ns /* of a tunnel: the last byte */;
	uint32_t connect_us;
	struct os_address peer;
	bool is_old; /* the origin has this address no more: it is not kept */
	char address_text[UPSTREAM_ADDRESS_TEXT]; /* of the peer: each request's record has it */

	struct codec_h1_client client;
	struct upstream_queue output; /* framing, or sealed bytes, that the socket did not take */
	struct upstream_queue input;  /* read behind a head and not parsed yet */
	uint64_t chunk_left;          /* of the chunk whose size has gone out */

	/* Of the current request: */
	bool head_pending;  /* its head is not written yet */
	bool has_sent;      /* a byte of it may have reached the origin */
	bool wants_room;    /* the owner waits to write */
	bool is_write_over; /* a write failed: the answer is read, what follows is dropped */
	bool has_answered;  /* a byte came back */
	bool head_begun;    /* of the head that is awaited */
	bool is_waiting;    /* the owner has read all there was of the body */
	bool is_event_stream;
	bool read_ended, write_ended; /* tunnel */

	bool is_reused, is_tls;
	struct list own; /* of its client's; not linked: any may use it, or, with `first`, nobody */
	uint8_t first_len;
	char first[UPSTREAM_FIRST_MAX];
	uint64_t ca_id;
	struct tls_session *tls;
	struct upstream_queue sealed; /* came from the socket, not opened yet */
	uint8_t name_len;
	char name[UPSTREAM_NAME_MAX];
};

struct upstream {
	struct os_loop *loop;
	const struct upstream_host *host;
	void *host_data;
	char *receive_buffer;
	size_t receive_size;
	struct upstream_limits limits;
	struct codec_h1_limits response_limits;
	struct map origins;
	struct slab connections;
	struct list all, unsent_heads, doomed, roomy /* of origins */;
	struct upstream_counts counts;
	/* No wake for the fetch whose owner is calling just now; it looks when the call returns. */
	struct upstream_fetch *caller;
	bool is_turn_ending;
	char *wire_in, *wire_out, *scratch; /* TLS; made with the first https origin */
	char *head;                         /* a request head on its way out */
	size_t head_capacity;
};

/* ---- pool.c ---------------------------------------------------------------------------------------------- */

/* The newest idle connection that still stands and that this request may go out on, or NULL. */
struct upstream_connection *upstream_pool_take(struct upstream_origin *origin,
					       const struct upstream_request *request);
void upstream_pool_put(struct upstream_connection *connection);
int upstream_origin_get(struct upstream *upstream, uint64_t id,
			struct upstream_origin **ret_origin) MUST_CHECK;
void upstream_origin_drop_unused(struct upstream *upstream, struct upstream_origin *origin);
/* Room for one more, if need be by closing the oldest idle one. */
bool upstream_origin_has_room(struct upstream_origin *origin, uint32_t max) MUST_CHECK;
struct upstream_connection *upstream_connection_new(struct upstream *upstream,
						    struct upstream_origin *origin) MUST_CHECK;
void upstream_connection_close(
	struct upstream_connection *connection); /* freed at the turn's end */

/* ---- connection.c ---------------------------------------------------------------------------------------- */

int upstream_connection_dial(struct upstream_connection *connection) MUST_CHECK;
/* A connected one (fresh or reused) begins its fetch's request. */
void upstream_connection_begin(struct upstream_connection *connection);
uint64_t upstream_now_ns(const struct upstream *upstream);
void upstream_deadline_in(struct upstream_connection *connection, uint64_t duration_ms);

/* ---- transport.c, tls.c ------------------------------------------------------------------------------------ */

/* A count, 0 at the (clean) end, -EAGAIN; -EPROTO: TLS failed; -ECONNABORTED: its transport ended without
 * close_notify; else -errno. */
ssize_t upstream_receive(struct upstream_connection *connection, char *buf, size_t size) MUST_CHECK;
bool upstream_is_readable(const struct upstream_connection *connection);
bool upstream_is_silent(
	struct upstream_connection *connection); /* idle, and no end and no stray byte */
/* One piece of a request in its order on the wire. */
struct upstream_segment {
	struct span head, prefix, body, suffix, end;
};
/* *ret_body: bytes of the body that are on their way; the caller offers the rest again. What is no body is
 * queued where the socket has no room. 0 or -errno. */
int upstream_send(struct upstream_connection *connection, const struct upstream_segment *segment,
		  size_t *ret_body) MUST_CHECK;
/* 0: nothing waits any more, -EAGAIN, -errno. */
int upstream_flush(struct upstream_connection *connection) MUST_CHECK;
/* No more will be sent, after what waits. */
int upstream_send_end(struct upstream_connection *connection) MUST_CHECK;
ssize_t upstream_socket_receive(struct upstream_connection *connection, char *buf,
				size_t size) MUST_CHECK;
/* Sends or queues; 0 or -errno. */
int upstream_socket_send(struct upstream_connection *connection, struct span bytes) MUST_CHECK;

int upstream_tls_start(struct upstream_connection *connection) MUST_CHECK; /* 0, -errno */
/* 0 done, -EAGAIN, -EPROTO, -ECONNABORTED, -errno. */
int upstream_tls_handshake(struct upstream_connection *connection) MUST_CHECK;
ssize_t upstream_tls_receive(struct upstream_connection *connection, char *buf,
			     size_t size) MUST_CHECK;
int upstream_tls_send(struct upstream_connection *connection,
		      const struct upstream_segment *segment, size_t *ret_body) MUST_CHECK;
int upstream_tls_close(struct upstream_connection *connection) MUST_CHECK;
struct span upstream_tls_reason(const struct upstream_connection *connection);

/* ---- waiting.c ------------------------------------------------------------------------------------------- */

/* Must this newcomer wait, so that it overtakes nobody? */
bool upstream_wait_is_due(const struct upstream_origin *origin,
			  const struct upstream_request *request) MUST_CHECK;
/* 0 or UPSTREAM_NO_ROOM. */
int upstream_wait_start(struct upstream_fetch *fetch, struct upstream_origin *origin) MUST_CHECK;
void upstream_wait_stop(struct upstream_fetch *fetch); /* harmless for one that does not wait */
/* A connection of this origin was closed or has nothing to do. */
void upstream_wait_room(struct upstream_origin *origin, struct upstream *upstream);
void upstream_wait_stop_all(struct upstream_origin *origin);
/* The origin may be gone afterwards. */
void upstream_wait_fail_all(struct upstream *upstream, struct upstream_origin *origin,
			    enum telemetry_end end);
void upstream_wait_serve(struct upstream *upstream);

/* ---- request.c ------------------------------------------------------------------------------------------- */

/* A piece of the request with its head where that is still due. 0, UPSTREAM_MORE (nothing was sent and the
 * request starts anew on another connection), UPSTREAM_BROKEN (the fetch failed). */
int upstream_request_send(struct upstream_connection *connection, struct span bytes, bool last,
			  size_t *ret_taken) MUST_CHECK;
/* The socket has room again. */
void upstream_request_on_room(struct upstream_connection *connection);

/* ---- fetch.c --------------------------------------------------------------------------------------------- */

void upstream_fetch_wake(struct upstream_fetch *fetch, bool state_changed);
void upstream_fetch_fail(struct upstream_fetch *fetch, enum telemetry_end end, struct span detail);
/* The same, for a limit that the origin ran into. */
void upstream_fetch_over_limit(struct upstream_fetch *fetch, enum telemetry_end end,
			       enum telemetry_limit limit);
/* The origin takes nothing of a tunnel any more. Where it had ended its own half too that was all: the fetch is done
 * and has no connection. */
void upstream_tunnel_write_over(struct upstream_connection *connection);
/* Once more on a fresh connection. False: it failed for want of room. */
bool upstream_fetch_restart(struct upstream_fetch *fetch);
/* A fresh connection for it. 0 or -errno: then it has none. */
int upstream_fetch_dial(struct upstream_fetch *fetch, struct upstream_origin *origin) MUST_CHECK;
void upstream_fetch_attach(struct upstream_fetch *fetch, struct upstream_connection *connection);
void upstream_fetch_on_readable(struct upstream_connection *connection);
