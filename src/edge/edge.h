/* edge: listeners, connections, exchanges, pumps and the pipeline. The only module that knows the order
 * of what happens to a request.
 *
 * It opens and connects nothing: sockets come from its listeners, from `files` and from the dialer;
 * signatures from the keyholder. Those three it asks over channels that its worker links
 * (edge_link) and flushes at the turn's end. One struct edge per worker process; proc/worker.c owns it and translates the supervisor's
 * messages into the calls below. */
#pragma once

#include "ipc/ipc.h"
#include "os/os.h"
#include "snapshot/snapshot.h"
#include "telemetry/telemetry.h"
#include "tls/tls.h"

struct edge;

struct edge_host {
	/* A snapshot that no exchange uses any more and that is not the current one: unmap it. */
	void (*release_snapshot)(void *host, const struct snapshot *snapshot);
	/* Draining is over: no connection is left. */
	void (*drained)(void *host);
};

struct edge_config {
	struct os_loop *loop;
	uint32_t slot, slot_count; /* of all workers; 0 is 1 */
	struct ipc_range *range;   /* this process's range: gauges and counters */
	const struct edge_host *host;
	void *host_data;
	const struct tls_ticket_keys *tickets; /* NULL: no tickets */
	const struct balance_sticky_keys
		*cookies; /* NULL: no client stays with an origin by a cookie */
	uint32_t connections_max;
	uint32_t descriptors_max; /* this process may have so many; 0: not known */
	uint32_t gateway_id;      /* random, the same for all workers: by it a loop is recognised */
};

int edge_new(const struct edge_config *config, struct edge **ret_edge) MUST_CHECK;
void edge_free(struct edge *edge);

/* The log's ring and the event that wakes its reader; both stay mapped and open until edge_free. */
void edge_set_log(struct edge *edge, struct telemetry_ring *ring, int event_fd);
/* A channel to this slot's keyholder, to one of `files` (by channel->peer_slot) or the dialer, which its owner keeps
 * open until edge_unlink or the next edge_link of that kind and slot. What was asked on the one before is asked
 * again, once. */
void edge_link(struct edge *edge, enum ipc_kind kind, struct ipc_channel *channel);
void edge_unlink(struct edge *edge, enum ipc_kind kind, uint32_t slot); /* slot: of `files` */
void edge_message(struct edge *edge, struct ipc_channel *channel, struct ipc_message *message);

/* ---- Listeners: every worker has all slots' sockets and accepts from its own and from adopted ones. ---- */

int edge_listener_add(struct edge *edge, uint64_t id, uint32_t slot, int fd /* taken */) MUST_CHECK;
void edge_listener_remove(struct edge *edge, uint64_t id); /* of every slot; connections stay */
void edge_adopt(struct edge *edge, uint32_t slot, bool on);

/* ---- Origins: what the operator says of one, and what is told to a command. ---- */

void edge_order(struct edge *edge, const struct ipc_origin_order *body);
void edge_tell_origins(struct edge *edge, struct ipc_channel *channel);

/* ---- Change ------------------------------------------------------------------------------------------ */

/* A data set that waits for commit: a chain (PEM, leaf first; id of the certificate), roots (PEM; id of the ca, 0:
 * the system's) or which of `files` has which document root. Other kinds are ignored. The text is copied as far as needed. 0, -ENOMEM, -EBADMSG. */
int edge_data(struct edge *edge, enum ipc_data_kind kind, uint64_t id, struct span text) MUST_CHECK;
/* Everything that can fail happens here. snapshot NULL: only data sets change. 0 or -errno. */
int edge_prepare(struct edge *edge, const struct snapshot *snapshot) MUST_CHECK;
void edge_commit(struct edge *edge);
void edge_abandon(struct edge *edge);

/* The exchanges that still need this old snapshot have had their time (limit `snapshot-wait`): they end. */
void edge_interrupt_snapshot(struct edge *edge, const struct snapshot *snapshot);

/* ---- Life -------------------------------------------------------------------------------------------- */

/* Stops accepting. closes_idle: idle connections end at once; else each is told with its next answer. The rest
 * has until the deadline. Then host->drained. */
void edge_drain(struct edge *edge, uint64_t deadline_ns, bool closes_idle);
/* The turn's end: runs connections and exchanges, sends, frees. Call it as the loop's turn callback. */
void edge_turn(struct edge *edge);

/* ---- Explaining a request ------------------------------------------------------------------------------ */

enum { EDGE_STAGES_MAX = 16 };

/* A request that nobody sent, as it would come on this listener. */
struct edge_request {
	uint64_t listener; /* id */
	struct os_address client, local;
	struct span sni;  /* a TLS listener's; may be empty */
	struct span head; /* its bytes as in HTTP/1.1, without a body */
};

enum edge_said { EDGE_SAID_NOTHING, EDGE_SAID_ON, EDGE_SAID_ANSWER, EDGE_SAID_ABORT };
struct edge_step {
	const char *stage; /* a row's name */
	enum edge_said said;
};

/* Spans lie in the snapshot or in the arena that was given. */
struct edge_explanation {
	bool is_refused;   /* by TLS, before there was a request: no site has that name */
	bool is_malformed; /* the head is none; status and end say what it is answered */
	bool is_dispatched; /* by a handler that asks somebody: `status` is what a client would get from him, unknown */
	uint16_t status; /* 0: unknown */
	enum telemetry_end end;
	struct span end_detail, location, rule;
	const struct snapshot_site *site;   /* NULL: none */
	const struct snapshot_route *route; /* NULL: none */
	struct os_address client;           /* whom rules see */
	struct edge_step steps[EDGE_STAGES_MAX];
	size_t step_count;
};
/* Lets a request pass through the stages of an edge that has a snapshot (edge_commit) and serves nobody. What asks a
 * file or an origin is replaced by saying so. 0 or -ENOMEM. */
int edge_explain(struct edge *edge, const struct edge_request *request, struct arena *arena,
		 struct edge_explanation *ret_explanation) MUST_CHECK;
