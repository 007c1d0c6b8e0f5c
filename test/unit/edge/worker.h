/* A worker in a test: a real loop, a real listener on loopback, a snapshot compiled from a text, and no
 * other process. The test drives turns and plays the client over ordinary sockets. */
#pragma once

#include "edge/edge_internal.h"

struct worker {
	struct os_loop *loop;
	struct edge *edge;
	struct arena arena;
	const struct snapshot *snapshot;
	struct os_address address;
	struct telemetry_ring *ring;
	struct ipc_range *range;
	struct firewall_table *rates;
	uint32_t released; /* snapshots */
	bool is_drained;
};

/* `text` without `portcullis 1` and listen lines: those are added (a plain serving one). */
void worker_start(struct worker *worker, const char *text);
void worker_reload(struct worker *worker, const char *text);
void worker_stop(struct worker *worker);
/* Links a process that the test plays: `near` is the worker's end, `far` the test's, with its own handlers (NULL: it
 * takes messages by ipc_wait). */
void worker_link(struct worker *worker, enum ipc_kind kind, struct ipc_channel *near,
		 struct ipc_channel *far, const struct ipc_handlers *handlers, void *owner);
/* What `near` is handled by, its owner the worker: messages go to the edge, and the channel ends well. */
extern const struct ipc_handlers worker_channel;
void worker_channel_closed(void *owner, struct ipc_channel *channel, const char *why);
int worker_connect(struct worker *worker);
void worker_turns(struct worker *worker, int count);
/* Sends, then turns until `count` bytes or the end came, or 200 turns passed. What was read, NUL-terminated. */
char *worker_talk(struct worker *worker, int fd, const char *request, size_t len, size_t wanted);
/* The next line of the access log, or NULL. */
char *worker_line(struct worker *worker);
