#include "upstream/upstream_internal.h"

#include <string.h>

struct span upstream_queue_view(const struct upstream_queue *queue)
{
	return span_of(queue->bytes + queue->start, queue->end - queue->start);
}

bool upstream_queue_add(struct upstream_queue *queue, struct span bytes)
{
	void *memory = queue->bytes;

	if (!bytes.len)
		return true;
	if (queue->start && queue->start == queue->end)
		queue->start = queue->end = 0;
	if (queue->start && queue->capacity - queue->end < bytes.len) {
		memmove(queue->bytes, queue->bytes + queue->start, queue->end - queue->start);
		queue->end -= queue->start;
		queue->start = 0;
	}
	if (!heap_grow(&memory, &queue->capacity, queue->end + bytes.len, 1))
		return false;
	queue->bytes = memory;
	memcpy(queue->bytes + queue->end, bytes.ptr, bytes.len);
	queue->end += bytes.len;
	return true;
}

void upstream_queue_consume(struct upstream_queue *queue, size_t len)
{
	MUST(len <= queue->end - queue->start);
	queue->start += len;
}

void upstream_queue_clear(struct upstream_queue *queue)
{
	heap_free(queue->bytes);
	*queue = (struct upstream_queue){ 0 };
}
