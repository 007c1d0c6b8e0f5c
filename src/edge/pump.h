/* Pumps: the only thing in edge that moves body bytes (internal to edge).
 *
 * A pump has a source, a queue of pooled blocks, an inspector and a sink, each given as a table of
 * functions: it knows neither HTTP version, TLS nor files. Room is the only flow control: a pump reads as
 * much as its queue and its sink can take, never more.
 *
 * pass: bytes go from the source straight to the sink; only what the sink did not take is copied into the
 * queue, at most PUMP_PASS_BLOCKS. hold: nothing goes out before the end or `hold_limit`; then it is pass. */
#pragma once

#include "base/base.h"

enum {
	BLOCK_SIZE = 16 * 1024,
	PUMP_PASS_BLOCKS = 4,
};

struct block {
	struct block *next;
	uint32_t start, end;
	char bytes[BLOCK_SIZE];
};

/* One per worker. Blocks that come back are kept for the next one, not zeroed: their bytes never leave
 * before they were written. */
struct block_pool {
	struct block *free;
	uint32_t used, kept, max;
	bool was_full; /* why the last one was not given: `max`, and not the heap */
};
void block_pool_init(struct block_pool *pool, uint32_t max);
void block_pool_fini(struct block_pool *pool);

struct block_queue {
	struct block *first, *last;
	size_t len; /* bytes */
};
/* False when the pool is empty; then nothing was added. */
bool block_queue_add(struct block_queue *queue, struct block_pool *pool,
		     struct span bytes) MUST_CHECK;
struct span block_queue_front(
	const struct block_queue *queue); /* of the first block; empty when empty */
void block_queue_consume(struct block_queue *queue, struct block_pool *pool, size_t len);
void block_queue_clear(struct block_queue *queue, struct block_pool *pool);

/* What sources and sinks answer; 0 means bytes were given or taken. */
enum pump_outcome {
	PUMP_WAIT = 1, /* nothing now: whoever has something wakes the exchange */
	PUMP_END,      /* the source is at its end, or the pump is done */
	PUMP_BROKEN,   /* a source or sink that cannot go on; the owner knows why */
	PUMP_SOURCE_BROKEN,
	PUMP_SINK_BROKEN,
	PUMP_REFUSED, /* by the inspector */
	PUMP_YIELD,   /* this turn's share is used up */
	PUMP_NO_MEMORY,
};

struct pump_source {
	/* The next bytes, 1 to `room`, as a view that lives until the next call of any source in this
	 * process. 0, PUMP_WAIT, PUMP_END, PUMP_BROKEN. */
	int (*read)(void *owner, size_t room, struct span *ret_bytes);
};
struct pump_sink {
	/* Takes some of the bytes; `last` with all of them ends the sink (the span may be empty then).
	 * 0: all taken; PUMP_WAIT: *ret_taken were; PUMP_BROKEN. */
	int (*write)(void *owner, struct span bytes, bool last, size_t *ret_taken);
};
struct pump_inspector {
	/* Sees every byte once, in order, before it can leave. False: refused. */
	bool (*inspect)(void *owner, struct span bytes, bool last);
};

enum pump_mode { PUMP_CLOSED, PUMP_PASS, PUMP_HOLD };

struct pump {
	enum pump_mode mode;
	const struct pump_source *source;
	const struct pump_sink *sink; /* NULL: none yet; the queue fills */
	const struct pump_inspector *inspector;
	void *source_owner, *sink_owner, *inspector_owner;
	struct block_queue queue;
	struct block_pool *pool;
	size_t hold_limit;
	uint64_t read, written; /* bytes from the source, to the sink */
	bool source_ended, done;
	/* A client that waits for 100 (Continue) is asked for its body only when the sink wants it; in `hold` at once. */
	bool is_reluctant;
};

void pump_open(struct pump *pump, struct block_pool *pool, enum pump_mode mode,
	       const struct pump_source *source, void *owner);
void pump_set_sink(struct pump *pump, const struct pump_sink *sink, void *owner);
/* Moves what can be moved, at most *budget bytes. PUMP_WAIT, PUMP_END (once; then it is closed),
 * PUMP_SOURCE_BROKEN, PUMP_SINK_BROKEN, PUMP_REFUSED, PUMP_YIELD, PUMP_NO_MEMORY. */
int pump_run(struct pump *pump, size_t *budget) MUST_CHECK;
/* True while bytes may still be read from the source. */
static inline bool pump_is_open(const struct pump *pump)
{
	return pump->mode != PUMP_CLOSED;
}
void pump_close(struct pump *pump); /* harmless on a closed one */
