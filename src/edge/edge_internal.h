/* What the files of edge share: the worker's state, connections, exchanges, questions. */
#pragma once

#include <string.h>

#include "balance/balance.h"
#include "cert/cert.h"
#include "codec/codec.h"
#include "edge/edge.h"
#include "edge/pump.h"
#include "files/files.h"
#include "http/http.h"
#include "upstream/upstream.h"

enum {
	EDGE_WIRE_SIZE = 64 * 1024, /* one receive buffer and one send buffer per worker */
	EDGE_PLAIN_SIZE =
		96 * 1024, /* decrypted: what one receive buffer can hold, and a record before it */
	EDGE_FILE_SIZE = 64 * 1024,
	EDGE_GATHER_SIZE = 80 * 1024, /* heads and small bodies of one turn, sealed together */
	/* Less than a pump's queue in `pass`, so that the body's end is seen too. */
	EDGE_GATHERED_BODY_MAX = 48 * 1024,
	EDGE_SMALL = 4096, /* bodies up to this are gathered (copied), others sealed as they lie */
	EDGE_TURN_BYTES = 64 * 1024, /* of one connection in one turn */
	EDGE_ACCEPT_BATCH = 16,
	EDGE_ACCEPT_REST_MS = 100,
	EDGE_SHED_MAX = 64, /* idle connections that go where descriptors ran out */
	EDGE_EXCHANGE_ARENA = 256 * 1024,
	EDGE_PSEUDONYM_SIZE = 32,
	EDGE_CONNECTION_MAGIC = 0x436f6e6e,
};

/* ---- Questions (law 3) -------------------------------------------------------------------------------- */

struct edge_question;
struct edge_question_kind {
	enum ipc_kind peer;
	/* Sends the message (again). IPC_FULL and the like are answered by `failed` at once. */
	int (*ask)(struct edge *edge, struct edge_question *question);
	/* The answer; message NULL: there will be none. The question is closed already. */
	void (*answer)(struct edge *edge, void *owner, struct ipc_message *message);
	/* Which of several processes of that kind; NULL: the first. */
	uint32_t (*slot)(const struct edge *edge, const void *owner);
};
struct edge_question {
	const struct edge_question_kind *kind; /* NULL: free */
	void *owner;
	uint32_t index, serial;
	uint32_t asked; /* how often */
	uint32_t slot;
	uint32_t next_free;
};
/* 0 and a question, or -ENOMEM/-EAGAIN: there will be no answer. */
int question_ask(struct edge *edge, const struct edge_question_kind *kind, void *owner,
		 uint64_t *ret_question) MUST_CHECK;
void question_cancel(struct edge *edge, uint64_t id); /* 0 is fine */
void question_fini(struct edge *edge);

/* ---- Snapshots in use --------------------------------------------------------------------------------- */

struct exchange;

struct edge_snapshot {
	const struct snapshot *snapshot;
	uint32_t references; /* exchanges, and one while current */
	struct arena arena;
	struct balance *groups; /* by the index of its upstream in the snapshot */
	size_t group_count;
	/* Who counts, by the index in the snapshot; set by the commit. */
	struct telemetry_site **sites;
	struct telemetry_upstream **upstreams;
	struct telemetry_origin **origins; /* of all upstreams' members, one after the other */
	struct balance_sticky *stickies;   /* by the same index; of those whose clients stay */
};

/* ---- Origins ------------------------------------------------------------------------------------------ */

enum { EDGE_RETRY_BURST = 1000 }; /* hundredths of a retry */

/* One by id, over all configurations: kept while a group names it or a request is under way there. */
struct edge_origin {
	struct balance_origin state;
	uint32_t references;
	uint64_t requests, failures; /* tries, and how many failed by its doing: for `upstreams` */
};
/* The one of this id, made where it is missing; or NULL. */
struct edge_origin *edge_origin_get(struct edge *edge, uint64_t id);

/* A check of the dialer's said so. */
void edge_health(struct edge *edge, const struct ipc_message *message);
void edge_address_refused(struct edge *edge, const struct ipc_message *message);
void edge_addresses_cut(struct edge *edge, const struct ipc_message *message);
void edge_origin_addresses(struct edge *edge, const struct ipc_message *message);
/* Makes the groups. 0 or -ENOMEM: then there are none. */
int edge_origins_stage(struct edge *edge, struct edge_snapshot *used) MUST_CHECK;
void edge_origins_drop(struct edge *edge, struct edge_snapshot *used);
/* With a commit: those that nobody names are forgotten. */
void edge_origins_sweep(struct edge *edge);
void edge_origins_fini(struct edge *edge); /* nothing is under way any more */
/* Sets origin, member and taken. False: nobody is there whom this exchange has not tried. */
uint64_t edge_random_bits(struct edge *edge); /* for what need not be secret */
bool exchange_choose_origin(struct exchange *exchange) MUST_CHECK;
void exchange_release_origin(struct exchange *exchange); /* harmless without one */
/* Stops the fetch where there is one, and lets go of its origin. */
void exchange_end_fetch(struct exchange *exchange);
/* How a try ended before it had an answer's head: counted where it is the origin's doing. Before its release. */
void exchange_origin_failed(struct exchange *exchange, enum telemetry_end end);
void exchange_origin_answered(struct exchange *exchange);
/* Another one after a failed try, within the limit `retries`: each proxied request earns a part of one. */
bool exchange_choose_another(struct exchange *exchange) MUST_CHECK;
void edge_retry_earn(struct edge *edge);
/* sticky.c: before the first choice, whom the client stays with; with an answer's head, its cookie where that changes. */
void exchange_sticky_find(struct exchange *exchange);
void exchange_sticky_set(struct exchange *exchange);
const struct balance_member *exchange_member(const struct exchange *exchange);

/* ---- Connections -------------------------------------------------------------------------------------- */

enum connection_phase {
	CONNECTION_PROXY_HEADER, /* who the client is, said by who passes the connection on */
	CONNECTION_HELLO,        /* first bytes; no SSL yet */
	CONNECTION_HANDSHAKE,
	CONNECTION_OPEN,
	CONNECTION_LINGER, /* our end is sent; the peer's bytes are dropped until it ends too */
	CONNECTION_CLOSED, /* freed at the turn's end */
};
enum connection_read {
	CONNECTION_WAIT = 1,
	CONNECTION_EOF,       /* clean: close_notify, or FIN on a plain one */
	CONNECTION_TRUNCATED, /* FIN without close_notify, or a reset */
	CONNECTION_YIELD,
};

struct exchange;
struct connection;
struct edge_listener;

/* A version of HTTP, to the rest of edge. Stages know only this table. */
struct edge_codec {
	const char *name; /* its ALPN id */
	void (*start)(struct connection *connection);
	/* Input stands ready, or an exchange ended: parse as far as possible. */
	void (*progress)(struct connection *connection);
	const struct pump_source *request_body; /* owner: the exchange */
	const struct pump_sink *response_body;
	int (*write_interim)(struct exchange *exchange, const struct http_response *response);
	/* exchange->response to the wire; 0, PUMP_WAIT (no room: the exchange is woken), -errno. */
	int (*write_head)(struct exchange *exchange);
	/* Both pumps are closed and it was recorded: the exchange is freed here. */
	void (*finish)(struct exchange *exchange, bool is_aborted);
	/* From now on the bytes of both directions are the tunnel's. */
	void (*begin_tunnel)(struct exchange *exchange);
	void (*refuse_upgrade)(struct exchange *exchange);
};

struct connection {
	struct os_watch watch;
	struct os_timer timer;
	struct edge *edge;
	struct edge_listener *listener; /* NULL when it is gone */
	struct list link, active, doomed;
	struct list handshaking; /* of edge->handshaking, until its handshake is done */
	enum connection_phase phase;
	bool is_tls, is_redirecting; /* plain without serve: 308 */
	uint64_t listener_id;
	bool saw_eof, saw_close_notify, is_broken, sent_close, wants_linger;
	bool ended_output;      /* our half has ended, the client's goes on (tunnels) */
	bool is_pending_cipher; /* pending holds ciphertext that waits for the session */
	uint16_t tls_port;      /* where a redirect points */
	/* The client and where it connected to: of the socket, or as its PROXY header says. */
	struct os_address peer, local; /* local: see connection_local */
	struct tls_session *tls;
	const char *tls_failure; /* how TLS broke behind the handshake; NULL: it did not */
	uint64_t question;       /* for a signature */
	struct block_queue
		pending; /* input that was not used: ciphertext before OPEN, then plain */
	struct block_queue backlog; /* output that the socket did not take */
	size_t spent;               /* of pending's front, given out by the last peek */
	size_t turn_bytes;          /* read in turn number `turn` */
	uint64_t turn;
	const struct edge_codec *codec;
	struct codec_h1_server h1;
	struct exchange *exchange;
	struct upstream_client origins; /* connections to origins that are this client's alone */
	uint64_t site_id, policy_id, certificate_id; /* what the hello chose; 0 on a plain one */
	uint64_t accepted_ns, last_ns, stalled_ns, closing_ns;
	/* Its limits where no exchange has any: of the site as far as one is known (connection_limits_set). */
	uint64_t handshake_max_ns, header_max_ns, idle_max_ns;
	uint64_t bytes_in, bytes_out;
	uint32_t exchange_count;
	uint32_t turn_exchanges; /* begun in turn number `exchange_turn` */
	uint64_t exchange_turn;
	uint32_t unused_bytes; /* dropped while lingering */
	char name[64];         /* SNI, for the log; cut */
	/* What it counts for, of the gate's lines. */
	uint64_t holds[SNAPSHOT_GATE_LIMITS_MAX];
	uint32_t hold_count;
	uint64_t paced_until_ns; /* what was sent takes so long, by the line that holds for it */
};

/* The socket is asked once. False: it could not say. */
bool connection_local(struct connection *connection);
void connection_accept(struct edge *edge, struct edge_listener *listener);
/* From here on: of all sites at first, then of SNI's (plain: the default or only) site, then of the last request's. */
void connection_limits_set(struct connection *connection, const struct snapshot_limits *limits);
void connection_activate(struct connection *connection); /* it gets a share of this turn */
void connection_run(struct connection *connection);
void connection_proxy_header(struct connection *connection); /* before the others */
void connection_refuse_proxy(struct connection *connection, enum codec_proxy_fault fault);
void connection_begin(struct connection *connection);     /* behind it: phase 3, or 6 */
void connection_handshake(struct connection *connection); /* phases 3 and 5 */
/* The log's word for it; a limit is counted. */
const char *connection_tls_reason(struct connection *connection, enum tls_reason reason);
void connection_open(struct connection *connection); /* phase 6 */
void connection_update_deadline(struct connection *connection);
/* After what is written: our end of the stream, then the socket. linger: the peer may still be sending. */
void connection_finish(struct connection *connection, bool linger);
void connection_handshake_over(struct connection *connection); /* done or not */
void connection_close(struct connection *connection);          /* now; freed at the turn's end */
void connection_abort(struct connection *connection);          /* the same, by a reset */
void connections_free_doomed(struct edge *edge);

/* Input. The next bytes as a view (decrypted) that lives until the next peek of any connection. 0, or enum
 * connection_read. */
int connection_peek(struct connection *connection, struct span *ret_bytes);
void connection_consume(struct connection *connection, size_t len); /* of what peek gave */
bool connection_has_input(const struct connection *connection);     /* read and not consumed */
/* Bytes as they came, in edge->wire_in: for the handshake. */
int connection_receive(struct connection *connection, size_t *ret_len);
/* Makes `plain` this connection's; whose it was keeps what it did not use. */
void connection_input_claim(struct connection *connection);

/* Output, in plain bytes. Room 0: wait, the exchange is woken when there is some. */
size_t connection_room(const struct connection *connection);
void connection_write(struct connection *connection, struct span bytes); /* takes all */
/* For heads: a writer with at least `wanted` bytes (or all there are), and what was written with it. */
struct writer connection_gather(struct connection *connection, size_t wanted);
void connection_gathered(struct connection *connection, const struct writer *writer);
/* Our half of the stream ends behind all that was written. 0, or PUMP_WAIT until that has left (the exchange is
 * woken). The client's half goes on. */
int connection_end_output(struct connection *connection);
void connection_send_close(struct connection *connection); /* close_notify, where there is TLS */
void connection_send_raw(struct connection *connection, struct span bytes); /* past the session */
void connection_flush(struct connection *connection);
bool connection_backlog_send(struct connection *connection); /* true: nothing waits any more */
void connection_output_claim(struct connection *connection);
void connection_wire_begin(struct connection *connection, struct tls_wire *wire);
void connection_wire_end(struct connection *connection, const struct tls_wire *wire);

/* ---- Exchanges and the pipeline ------------------------------------------------------------------------ */

enum exchange_verdict {
	EXCHANGE_NEXT,
	EXCHANGE_WAIT,
	EXCHANGE_YIELD,
	EXCHANGE_ANSWER,
	EXCHANGE_ABORT
};

/* Numbers are those of ARCHITECTURE.md, 1-6 are a connection's. */
#define EXCHANGE_STAGES(X) \
	X(HEAD, head) \
	X(ROUTE, route) \
	X(FIREWALL, firewall) \
	X(AUTH, auth) \
	X(RULES_HEAD, rules_head) \
	X(REQUEST_PUMP, request_pump) \
	X(DISPATCH, dispatch) \
	X(RULES_RESPONSE, rules_response) \
	X(SEND, send) \
	X(RECORD, record)
enum exchange_stage_index {
#define X(upper, lower) EXCHANGE_STAGE_##upper,
	EXCHANGE_STAGES(X)
#undef X
		EXCHANGE_STAGE_COUNT,
};
struct exchange_stage {
	const char *name;
	enum exchange_verdict (*run)(struct exchange *exchange);
	/* Cancels the stage's question or fetch, nothing else. NULL: it has none. */
	void (*leave)(struct exchange *exchange);
};
extern const struct exchange_stage exchange_stages[EXCHANGE_STAGE_COUNT];
enum exchange_verdict stage_dispatch_run(struct exchange *exchange);

enum response_source {
	RESPONSE_NONE,
	RESPONSE_TEXT,
	RESPONSE_DOCUMENT,
	RESPONSE_FETCH,
	RESPONSE_METRICS,
};

struct exchange {
	struct list ready;   /* of edge->ready, ->later or ->finished */
	struct list waiting; /* of edge->file_waiters */
	struct os_timer timer;
	struct exchange *next_spare;
	struct edge *edge;
	struct connection *connection;
	const struct edge_codec *codec;
	struct edge_snapshot *snapshot; /* NULL: let go of, site and route too */
	struct arena arena;
	enum exchange_stage_index stage;
	uint32_t trail; /* bits: the stages that ran */
	int step;       /* of the stage that runs; each stage has its enum step */
	bool began, head_committed, is_aborting, is_recorded, wants_turn;
	bool is_tunnel;
	bool is_last; /* nothing more can be read behind it: the connection ends */
	bool is_file_failed;
	size_t charged;      /* to edge->exchange_bytes */
	uint16_t body_fault; /* the request's body was malformed: what to answer */
	/* An interrupt is taken in the stage's stead at its next turn. */
	enum exchange_verdict interrupt; /* EXCHANGE_NEXT: none */

	struct http_request *request; /* NULL when not even a head was read */
	struct http_response response;
	const struct snapshot_site *site;
	const struct snapshot_route *route;
	const struct snapshot_block *block; /* what the route stands in; NULL: the site itself */
	struct http_path
		asked; /* as it came: the request's is without a prefix that was stripped */
	const struct snapshot_limits *limits;
	struct span rule;         /* the line that decided, as snapshots say it; empty: none did */
	struct os_address client; /* who asks: the connection's peer, or whom a trusted one names */
	struct http_hop *hop;     /* what is said of it to an origin; NULL: only the peer's */

	uint64_t *holds; /* what it counts for, of the site's and the block's lines */
	uint32_t hold_count;
	struct exchange_pace *pace; /* how fast its answer goes; NULL: as fast as it can */

	struct pump request_pump, response_pump;
	enum response_source source;
	struct span text; /* RESPONSE_TEXT: what is left of it */
	struct files_document *document;
	uint64_t document_root, document_at, document_left, warm_until;
	struct block_queue
		piece; /* of a distant document: what came of it, its first document_given are used */
	size_t document_given;
	struct edge_metrics *metrics; /* RESPONSE_METRICS */
	uint64_t question, asked_ns;  /* asked_ns: also while it waits for another's question */
	struct upstream_fetch fetch;
	struct upstream_request fetch_request;
	bool has_fetch;
	struct balance_choice choice; /* its tried_count: tries so far */
	struct span sticky;           /* the cookie's value that named its own origin */
	struct edge_origin *taken;    /* counts this exchange as under way there; or NULL */
	uint32_t member;              /* in its group */
	const struct snapshot_origin *origin;

	/* For the record. */
	struct telemetry_site *site_row;           /* who counts it; NULL: no site was found */
	struct telemetry_upstream *upstream_row;   /* NULL: nothing was asked of one */
	uint64_t slow_ns;                          /* 0: it is never slow */
	uint64_t entered_ns[EXCHANGE_STAGE_COUNT]; /* 0: not yet */
	uint64_t began_ns, began_wall_ns, dispatched_ns, answered_ns;
	enum snapshot_log_target log_target;
	enum snapshot_log_format log_format;
	struct span origin_text;
	enum telemetry_end end;
	struct span end_detail;
	uint64_t head_bytes_in, head_bytes_out;
	/* How long the client was waited for with its body, and since when it is now (0: it is not). */
	uint64_t body_waited_ns, body_waiting_ns;
	uint64_t id_high, id_low;
	struct span trace; /* `traceparent` as it was sent on; empty: none */
};

struct exchange *exchange_new(struct connection *connection);
void exchange_free(struct exchange *exchange);
/* What is long under way pins no snapshot: a copy of what is still needed takes its place. */
void exchange_let_go(struct exchange *exchange);
void exchange_begin(struct exchange *exchange, struct http_request *request);
/* A head that was refused: enters the response half with this status. */
void exchange_refuse(struct exchange *exchange, uint16_t status, enum telemetry_end end,
		     const char *detail);
void exchange_wake(struct exchange *exchange);
void exchange_run(struct exchange *exchange);
/* The client is gone, a deadline passed, …: a verdict in the stage's stead. status 0: abort. */
void exchange_interrupt(struct exchange *exchange, uint16_t status, enum telemetry_end end);
/* What it means that the client is gone: nothing for a tunnel whose other half had ended. */
enum telemetry_end exchange_end_without_client(struct exchange *exchange);
/* For stages: fills exchange->response with a small page and says ANSWER. */
enum exchange_verdict exchange_answer(struct exchange *exchange, uint16_t status,
				      enum telemetry_end end);
enum exchange_verdict exchange_answer_text(struct exchange *exchange, uint16_t status,
					   struct span media_type, struct span text);
/* The same, true at this moment only: no cache keeps it. */
enum exchange_verdict exchange_answer_now(struct exchange *exchange, uint16_t status,
					  struct span media_type, struct span text);
/* The limit's status, or 503; counted, and the record's detail. */
enum exchange_verdict exchange_over_limit(struct exchange *exchange, enum telemetry_limit limit);
/* Who asks, now that the site says whom it believes. NEXT, or an answer. */
enum exchange_verdict exchange_find_client(struct exchange *exchange);
/* `traceparent` and `tracestate` as they are sent on. 0 or -ENOMEM. */
int exchange_trace(struct exchange *exchange) MUST_CHECK;
void exchange_count_fetch_limit(const struct exchange *exchange); /* its fetch failed by one */
enum exchange_verdict exchange_abort(struct exchange *exchange, enum telemetry_end end);
void exchange_set_end(struct exchange *exchange, enum telemetry_end end, struct span detail);
/* Pumps may move now, without another turn (a head and the first bytes of its body leave together). */
void exchange_pumps_run(struct exchange *exchange);
void exchange_wake_at(struct exchange *exchange, uint64_t deadline_ns);
void exchanges_free_finished(struct edge *edge);
void documents_wanted_fini(struct edge *edge);
uint32_t edge_root_slot(const struct edge *edge, uint64_t root);
int root_slots_stage(struct edge *edge, struct span bytes) MUST_CHECK;
void root_slots_take(struct edge *edge); /* with the commit */
/* Our name in Via (RFC 9110, 7.6.3): what a request bears that has passed this gateway. */
struct span edge_pseudonym(const struct edge *edge, char buf[EDGE_PSEUDONYM_SIZE]);
void record_write(struct exchange *exchange);
enum exchange_verdict dispatch_files(struct exchange *exchange);
enum exchange_verdict dispatch_proxy(struct exchange *exchange);
const struct edge_codec *edge_codec_h1(void);
extern const struct pump_sink discard_sink, fetch_sink;
extern const struct pump_source text_source, document_source, fetch_source, metrics_source;
extern const struct upstream_host edge_upstream_host;

/* ---- The worker ------------------------------------------------------------------------------------------ */

/* A certificate's data set. */
struct edge_credential {
	uint64_t id, serial; /* of the last snapshot that named it */
	struct arena arena;
	struct cert_chain chain;
	struct tls_credential *credential;
};

struct edge_listener {
	struct os_watch watch;
	struct list link;
	struct edge *edge;
	uint64_t id;
	uint32_t slot;
	int fd;
};

struct edge {
	const struct exchange_stage *stages; /* exchange_stages, but where a request is explained */
	struct edge_explained *explained;    /* else NULL */
	struct os_loop *loop;
	const struct edge_host *host;
	void *host_data;
	uint32_t slot, slot_count;
	struct ipc_range *range;
	const struct tls_ticket_keys *tickets;
	const struct balance_sticky_keys *cookies;
	struct firewall_table *rates;
	uint8_t rates_key[FIREWALL_KEY_LEN];
	struct firewall_holder holder; /* own NULL: no line has counted connections yet */
	const struct firewall_held *held[OS_CPU_MAX];
	uint64_t refused_said_ns, refused_count; /* connections since then */
	struct telemetry_ring *ring;
	int ring_event;

	struct telemetry_counters *counters;   /* in range */
	struct telemetry_named *named;         /* there, too */
	const struct ipc_range *const *ranges; /* of all processes; NULL: only its own is known */
	struct telemetry_source *sources;      /* range_count: of `ranges`, or its own */
	size_t range_count;

	struct list listeners, connections, active, doomed; /* of connections */
	struct list handshaking; /* connections whose handshake is not done, oldest first */
	struct list later;       /* connections whose share of this turn is used up */
	struct list ready, later_exchanges, finished, file_waiters;
	struct list documents_wanted; /* open questions of stage_files */
	bool adopted[OS_CPU_MAX];
	struct slab connection_slab;
	struct block_pool blocks;
	struct exchange *spare_exchanges; /* linked by their ready list */
	uint32_t spare_count, connection_count, exchange_count, connections_max, exchanges_max;
	uint32_t handshake_count, handshakes_max, tls_count;
	uint64_t memory_max;     /* limit `worker-memory` */
	uint64_t exchange_bytes; /* of all exchanges, spare ones too, with their arenas */
	uint32_t blocks_max;     /* limit `body-memory` */
	bool is_short;           /* of memory: nobody new is accepted */
	bool is_stuck;           /* and nobody is left who could go instead of a new request */
	/* Numbers from here on are the reserve (0: nobody said how many there are), and the last one seen. */
	int descriptors_end, descriptor_seen;

	struct edge_snapshot *current, *staged;
	struct map credentials;     /* certificate id → tls_credential */
	struct map policies;        /* policy id → tls_policy */
	struct map client_policies; /* ca id → tls_policy */
	struct map staged_credentials, staged_client_policies, staged_policies;
	struct map origins; /* id → edge_origin */
	uint64_t random;    /* for choices that need not be secret */
	uint64_t retry_credit;
	/* The widest of what any site grants: which site it is, a head says only at its end. */
	struct codec_h1_limits h1_limits;
	uint32_t gateway_id;

	struct edge_question *questions;
	uint32_t question_capacity, question_free, question_open;
	/* NULL while there is none. */
	struct ipc_channel *keyholder, *files[IPC_FILES_MAX], *dialer;
	/* The roots that are not in slot 0 of `files`; what the change under way brings. */
	struct ipc_root_slot *root_slots, *staged_root_slots;
	size_t root_slot_count, staged_root_slot_count;

	struct files_cache *cache;
	struct upstream *upstream;

	/* Buffers of the worker, shared by all connections of a turn. */
	char *wire_in, *wire_out, *plain, *gather, *file_buffer, *upstream_buffer, *line_buffer;
	size_t wire_out_len, gather_len;
	struct connection *input_owner, *output_owner;
	size_t input_at, input_end; /* in plain */

	uint64_t turn; /* number of this one */
	uint64_t now_ns, wall_ns;
	char date[HTTP_DATE_LEN];
	int64_t date_s;
	struct telemetry_second log_second;
	uint64_t request_id_high, request_id_low;
	bool is_draining, is_drained, wakes_log;
	bool has_freed;   /* a connection, while listeners rest */
	bool closes_idle; /* draining without waiting for what a kept-alive connection may ask yet */
	struct os_timer drain_timer, accept_timer; /* accept_timer: set while listeners rest */
};

/* policies.c: certificates and policies; edge_data() stages, too. */
int policies_stage(struct edge *edge, const struct snapshot *snapshot) MUST_CHECK;
int policies_reserve(struct edge *edge) MUST_CHECK; /* so that the commit cannot fail */
void policies_take(struct edge *edge);
void policies_drop_staged(struct edge *edge);
/* After the commit of a snapshot: certificates that it does not name go. */
void policies_sweep(struct edge *edge);
void policies_fini(struct edge *edge);

/* hold.c: how many connections a client has. */
void edge_rates_init(struct edge *edge, const struct edge_config *config);
void edge_holds_commit(struct edge *edge);
/* Counts it for the gate's lines. False: one too many; it is closed. */
bool connection_hold(struct connection *connection) MUST_CHECK;
void connection_release(struct connection *connection);
/* The same for lines of the site and block. NEXT, or 429. */
enum exchange_verdict exchange_hold(struct exchange *exchange);
void exchange_unhold(struct exchange *exchange);

/* pace.c: how fast an answer goes. */
int exchange_pace_set(struct exchange *exchange, const struct snapshot_bandwidth_limits *limits,
		      struct span path) MUST_CHECK;
/* Of `budget` what may leave now. 0: nothing, and the exchange is woken when it may. Where there is a pace. */
size_t exchange_pace_room(struct exchange *exchange, size_t budget);
void exchange_pace_pay(struct exchange *exchange, size_t bytes);

/* view.c: what is counted by site and upstream, and what shows it. */
int edge_view_new(struct edge *edge, const struct edge_config *config) MUST_CHECK;
void edge_view_listeners(struct edge *edge); /* after a change of who accepts */
int edge_view_stage(struct edge_snapshot *used) MUST_CHECK;
void edge_view_commit(struct edge *edge);
void exchange_view_site(struct exchange *exchange);     /* its site was found */
void exchange_view_upstream(struct exchange *exchange); /* an upstream is about to be asked */
void exchange_view_leave(struct exchange *exchange);    /* it is no more; harmless without one */
void exchange_view_failed(struct exchange *exchange, enum telemetry_end end);
void exchange_view_tried(struct exchange *exchange, bool is_answered);
enum exchange_verdict dispatch_metrics(struct exchange *exchange);
enum exchange_verdict dispatch_ready(struct exchange *exchange);
enum exchange_verdict dispatch_live(struct exchange *exchange);

void edge_upstream_limits(const struct snapshot_limits *from, struct upstream_limits *ret);
void edge_clock(struct edge *edge); /* takes over the loop's */
void edge_run_later(struct edge *edge, struct connection *connection);
void edge_run_exchange_later(struct exchange *exchange);
void edge_snapshot_unref(struct edge *edge, struct edge_snapshot *used);
/* Up to EDGE_SHED_MAX connections that are idle go, and what is kept for speed alone. How many connections. */
size_t edge_shed_idle(struct edge *edge);
void edge_listeners_update(struct edge *edge);

/* Memory (memory.c). */
enum edge_memory_use {
	EDGE_MEMORY_CONNECTION,
	EDGE_MEMORY_EXCHANGE,
	EDGE_MEMORY_REFUSAL, /* an exchange that only says 503 */
};
uint64_t edge_memory_used(const struct edge *edge); /* bytes, of what the budget is for */
bool edge_memory_has_room(const struct edge *edge, enum edge_memory_use use);
/* Takes over what the exchange's arena has now. */
void edge_memory_charge(struct exchange *exchange);
/* Before something may grow: bounds blocks, and the exchange's arena if there is one, by what is left. */
void edge_memory_bound(struct edge *edge, struct exchange *exchange);
void edge_memory_turn(struct edge *edge);
/* No descriptor or memory for another connection: listeners rest for a moment, who is idle goes. */
void edge_accept_rest(struct edge *edge);
void edge_accept_rest_begin(struct edge *edge); /* without anybody's going */
/* Is only the reserve left? `fd`: any that may be duplicated. */
bool edge_descriptors_are_low(struct edge *edge, int fd);
void edge_input_release(struct edge *edge);
/* One line to the log's ring, finished by one of telemetry's writers. */
/* An anomaly that nobody outside caused by name. */
void edge_event(struct edge *edge, struct span message, const struct telemetry_pair *pairs,
		size_t pair_count);
void edge_event_tls(struct connection *connection, const char *why, struct span detail);
void edge_event_proxy_header(struct connection *connection, const char *why);
/* By a line of the configuration; `count` of them since the last such event. */
void edge_event_refused(struct connection *connection, struct span rule, uint64_t count);
static inline struct conf_address edge_conf_address(const struct os_address *address)
{
	struct conf_address same = { .family = address->family, .port = address->port };

	memcpy(same.bytes, address->ip, sizeof(same.bytes));
	return same;
}
