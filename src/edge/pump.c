#include "edge/pump.h"

#include <string.h>

void block_pool_init(struct block_pool *pool, uint32_t max)
{
	*pool = (struct block_pool){ .max = max };
}

void block_pool_fini(struct block_pool *pool)
{
	MUST(pool->used == 0);
	while (pool->free) {
		struct block *block = pool->free;

		pool->free = block->next;
		heap_free(block);
	}
}

static struct block *block_take(struct block_pool *pool)
{
	struct block *block = pool->free;

	pool->was_full = pool->used >= pool->max;
	if (pool->was_full)
		return NULL;
	if (block) {
		pool->free = block->next;
		pool->kept--;
	} else {
		block = heap_alloc(sizeof(*block));
	}
	if (!block)
		return NULL;
	pool->used++;
	block->next = NULL;
	block->start = block->end = 0;
	return block;
}

static void block_give(struct block_pool *pool, struct block *block)
{
	enum { KEEP = 64 }; /* 1 MiB for the next burst; beyond it the heap gets its memory back */

	MUST(pool->used > 0);
	pool->used--;
	if (pool->kept >= KEEP) {
		heap_free(block);
		return;
	}
	block->next = pool->free;
	pool->free = block;
	pool->kept++;
}

/* A chain of as many blocks as `len` bytes need, or NULL and nothing taken. */
static struct block *block_take_chain(struct block_pool *pool, size_t len)
{
	struct block *chain = NULL;

	for (size_t got = 0; got < len; got += BLOCK_SIZE) {
		struct block *block = block_take(pool);

		if (!block) {
			while (chain) {
				block = chain;
				chain = block->next;
				block_give(pool, block);
			}
			return NULL;
		}
		block->next = chain;
		chain = block;
	}
	return chain;
}

bool block_queue_add(struct block_queue *queue, struct block_pool *pool, struct span bytes)
{
	size_t room = queue->last ? BLOCK_SIZE - queue->last->end : 0;
	struct block *chain = NULL;

	if (bytes.len > room && !(chain = block_take_chain(pool, bytes.len - room)))
		return false;
	queue->len += bytes.len;
	for (;;) {
		struct block *last = queue->last;

		if (last) {
			size_t n = bytes.len < BLOCK_SIZE - last->end ? bytes.len
								      : BLOCK_SIZE - last->end;

			if (n)
				memcpy(last->bytes + last->end, bytes.ptr, n);
			last->end += (uint32_t)n;
			bytes = span_skip(bytes, n);
		}
		if (!chain)
			break;
		queue->last = chain;
		chain = chain->next;
		queue->last->next = NULL;
		if (last)
			last->next = queue->last;
		else
			queue->first = queue->last;
	}
	MUST(bytes.len == 0);
	return true;
}

struct span block_queue_front(const struct block_queue *queue)
{
	const struct block *block = queue->first;

	return block ? span_of(block->bytes + block->start, block->end - block->start) : SPAN_NONE;
}

void block_queue_consume(struct block_queue *queue, struct block_pool *pool, size_t len)
{
	MUST(len <= queue->len);
	queue->len -= len;
	while (queue->first) {
		struct block *block = queue->first;
		size_t n = block->end - block->start;

		if (len < n) {
			block->start += (uint32_t)len;
			return;
		}
		len -= n;
		queue->first = block->next;
		if (!queue->first)
			queue->last = NULL;
		block_give(pool, block);
		if (len == 0 && queue->first && queue->first->end > queue->first->start)
			return;
	}
}

void block_queue_clear(struct block_queue *queue, struct block_pool *pool)
{
	block_queue_consume(queue, pool, queue->len);
}

void pump_open(struct pump *pump, struct block_pool *pool, enum pump_mode mode,
	       const struct pump_source *source, void *owner)
{
	*pump = (struct pump){
		.mode = mode, .source = source, .source_owner = owner, .pool = pool
	};
}

void pump_set_sink(struct pump *pump, const struct pump_sink *sink, void *owner)
{
	pump->sink = sink;
	pump->sink_owner = owner;
}

void pump_close(struct pump *pump)
{
	if (pump->mode == PUMP_CLOSED)
		return;
	block_queue_clear(&pump->queue, pump->pool);
	pump->mode = PUMP_CLOSED;
}

static bool pump_is_holding(const struct pump *pump)
{
	return pump->mode == PUMP_HOLD && !pump->source_ended && pump->queue.len < pump->hold_limit;
}

/* Queue to sink. 0: the queue is empty (and, after the source's end, the sink has ended). */
static int pump_drain(struct pump *pump)
{
	while (pump->queue.len || (pump->source_ended && !pump->done)) {
		struct span front = block_queue_front(&pump->queue);
		bool last = pump->source_ended && front.len == pump->queue.len;
		size_t taken = 0;
		int outcome = pump->sink->write(pump->sink_owner, front, last, &taken);

		MUST(taken <= front.len);
		block_queue_consume(&pump->queue, pump->pool, taken);
		pump->written += taken;
		if (outcome == PUMP_BROKEN)
			return PUMP_SINK_BROKEN;
		if (outcome)
			return outcome;
		if (last)
			pump->done = true;
	}
	return 0;
}

/* Bytes of the source to the sink where nothing stands before them, what it leaves into the queue. */
static int pump_push(struct pump *pump, struct span bytes)
{
	size_t taken = 0;
	int outcome = 0;

	if (pump->inspector && !pump->inspector->inspect(pump->inspector_owner, bytes, false))
		return PUMP_REFUSED;
	if (pump->sink && !pump->queue.len && pump->mode != PUMP_HOLD)
		outcome = pump->sink->write(pump->sink_owner, bytes, false, &taken);
	MUST(taken <= bytes.len);
	pump->written += taken;
	bytes = span_skip(bytes, taken);
	if (outcome == PUMP_BROKEN)
		return PUMP_SINK_BROKEN;
	if (bytes.len && !block_queue_add(&pump->queue, pump->pool, bytes))
		return PUMP_NO_MEMORY;
	return 0;
}

static size_t pump_room(const struct pump *pump, size_t budget)
{
	size_t room = pump->mode == PUMP_HOLD ? pump->hold_limit + BLOCK_SIZE
					      : PUMP_PASS_BLOCKS * BLOCK_SIZE;

	room = room > pump->queue.len ? room - pump->queue.len : 0;
	return room < budget ? room : budget;
}

static int pump_pull(struct pump *pump, size_t *budget)
{
	size_t room = pump_room(pump, *budget);
	struct span bytes = SPAN_NONE;
	int outcome;

	if (room == 0)
		return *budget ? PUMP_WAIT : PUMP_YIELD;
	if (pump->is_reluctant && !pump->sink && pump->mode != PUMP_HOLD)
		return PUMP_WAIT;
	outcome = pump->source->read(pump->source_owner, room, &bytes);
	if (outcome == PUMP_END) {
		pump->source_ended = true;
		if (pump->inspector &&
		    !pump->inspector->inspect(pump->inspector_owner, SPAN_NONE, true))
			return PUMP_REFUSED;
		return 0;
	}
	if (outcome)
		return outcome == PUMP_BROKEN ? PUMP_SOURCE_BROKEN : outcome;
	MUST(bytes.len > 0 && bytes.len <= room);
	pump->read += bytes.len;
	*budget -= bytes.len;
	return pump_push(pump, bytes);
}

int pump_run(struct pump *pump, size_t *budget)
{
	MUST(pump->mode != PUMP_CLOSED);
	for (;;) {
		int outcome = 0;

		if (pump->sink && !pump_is_holding(pump))
			outcome = pump_drain(pump);
		if (pump->done) {
			pump_close(pump);
			return PUMP_END;
		}
		if (outcome == 0 || outcome == PUMP_WAIT) {
			/* With a sink that waits the queue may still fill: the origin or client goes on sending. */
			if (pump->source_ended)
				return PUMP_WAIT;
			if (pump->mode == PUMP_HOLD && !pump_is_holding(pump))
				pump->mode = PUMP_PASS;
			outcome = pump_pull(pump, budget);
		}
		if (outcome)
			return outcome;
	}
}
