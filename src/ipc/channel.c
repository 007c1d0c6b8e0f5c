#include "ipc/ipc.h"

#include <string.h>

#include "ipc/table_internal.h"

enum {
	QUEUE_MESSAGES_MAX = 4096,
	QUEUE_BYTES_MAX = 1 << 20,
	/* Copies that wait for a peer that does not read: the process's others need descriptors too. The supervisor
	 * gives many at a birth, and ends who does not read; a vault without supervisor gives the next one all that
	 * it keeps, and each that is left out is a listener lost. */
	QUEUE_DESCRIPTORS_MAX = 64,
	RECEIVE_BYTES = 128 * 1024, /* of a channel's batch of packets, where more than one fits */
	BATCHES_PER_TURN = 4,       /* a peer that never stops sending must not hold the loop */
	REST_MS = 100,
};

/* A message that waits: header, struct and tail behind one another. */
struct queued {
	struct list link;
	size_t len;
	int descriptors[IPC_DESCRIPTORS_MAX];
	size_t descriptor_count;
	char bytes[] __attribute__((aligned(8)));
};

/* What a channel needs behind its embedded part. Its life is longer than the channel's where the owner
 * closes (or even frees) the channel out of a callback: the delivering loop only touches this. */
struct ipc_queue {
	int fd;
	struct list waiting;
	size_t count, bytes, descriptors;
	bool is_gone;   /* sending said that nobody is there */
	bool is_closed; /* by the owner */
	bool is_delivering;
	size_t packet_size, batch;
	char *buffer; /* batch * packet_size */
	uint64_t rests_until_ns;
	uint64_t second;
	uint32_t counts[IPC_NUMBER_MAX + 1]; /* of this second, of rows with a rate */
};

static void on_ready(struct os_watch *watch, unsigned now);

static size_t aligned(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

int ipc_channel_open(struct ipc_channel *channel, struct os_loop *loop, int fd, enum ipc_kind self,
		     enum ipc_kind peer)
{
	struct ipc_queue *queue = heap_alloc(sizeof(*queue));
	int err;

	*channel = (struct ipc_channel){ .self = self, .peer = peer, .loop = loop };
	channel->watch.fd = -1;
	if (!queue) {
		os_close(fd);
		return -ENOMEM;
	}
	list_init(&queue->waiting);
	/* One byte more than allowed, so that a tail that is too long is seen as such. */
	queue->packet_size = aligned(ipc_longest(peer, self) + 1);
	queue->batch = RECEIVE_BYTES / queue->packet_size;
	if (queue->batch < 1)
		queue->batch = 1;
	if (queue->batch > OS_PACKET_BATCH_MAX)
		queue->batch = OS_PACKET_BATCH_MAX;
	queue->buffer = heap_alloc(queue->batch * queue->packet_size);
	err = queue->buffer ? 0 : -ENOMEM;
	channel->watch.on_ready = on_ready;
	if (!err && loop)
		err = os_watch_add(loop, &channel->watch, fd, OS_WATCH_EDGE_READ);
	if (err < 0) {
		heap_free(queue->buffer);
		heap_free(queue);
		os_close(fd);
		return err;
	}
	channel->watch.fd = queue->fd = fd;
	channel->queue = queue;
	return 0;
}

void ipc_channel_handle(struct ipc_channel *channel, const struct ipc_handlers *handlers,
			void *owner)
{
	channel->handlers = handlers;
	channel->owner = owner;
}

bool ipc_channel_is_open(const struct ipc_channel *channel)
{
	return channel->queue != NULL;
}

static void queued_free(struct ipc_queue *queue, struct queued *queued)
{
	list_remove(&queued->link);
	queue->count--;
	queue->bytes -= queued->len;
	queue->descriptors -= queued->descriptor_count;
	for (size_t i = 0; i < queued->descriptor_count; i++)
		os_close(queued->descriptors[i]);
	heap_free(queued);
}

static void queue_clear(struct ipc_queue *queue)
{
	LIST_EACH(&queue->waiting, node)
		queued_free(queue, LIST_ITEM(node, struct queued, link));
}

static void queue_free(struct ipc_queue *queue)
{
	heap_free(queue->buffer);
	heap_free(queue);
}

/* Workers are who may be taken over, and have sockets to send. */
static void guard(const struct ipc_channel *channel, bool is_on)
{
	if (channel->peer == IPC_WORKER)
		os_close_guard(is_on);
}

void ipc_channel_close(struct ipc_channel *channel)
{
	struct ipc_queue *queue = TAKE(channel->queue);

	channel->handlers = NULL;
	if (!queue)
		return;
	os_watch_remove(&channel->watch);
	guard(channel, true);
	os_close(queue->fd); /* and the descriptors in it that were not received */
	guard(channel, false);
	channel->watch.fd = -1;
	queue_clear(queue);
	queue->is_closed = true;
	if (!queue->is_delivering)
		queue_free(queue);
}

/* ---- Sending --------------------------------------------------------------------------------------- */

static bool gives_many(const struct ipc_channel *channel)
{
	return channel->self == IPC_SUPERVISOR ||
	       (channel->self == IPC_VAULT && channel->peer == IPC_SUPERVISOR);
}

static int queue_add(struct ipc_channel *channel, const struct ipc_header *header, struct span body,
		     struct span tail, const int *descriptors, int descriptor_count)
{
	struct ipc_queue *queue = channel->queue;
	size_t len = sizeof(*header) + body.len + tail.len;
	struct queued *queued;
	char *at;

	if (queue->count >= QUEUE_MESSAGES_MAX || queue->bytes + len > QUEUE_BYTES_MAX)
		return IPC_FULL;
	if (!gives_many(channel) &&
	    queue->descriptors + (size_t)descriptor_count > QUEUE_DESCRIPTORS_MAX)
		return IPC_FULL;
	queued = heap_alloc(sizeof(*queued) + len);
	if (!queued)
		return -ENOMEM;
	at = queued->bytes;
	memcpy(at, header, sizeof(*header));
	memcpy(at + sizeof(*header), body.ptr, body.len);
	if (tail.len)
		memcpy(at + sizeof(*header) + body.len, tail.ptr, tail.len);
	queued->len = len;
	list_push_back(&queue->waiting, &queued->link);
	queue->count++;
	queue->bytes += len;
	for (int i = 0; i < descriptor_count; i++) {
		int err = os_duplicate(descriptors[i], &queued->descriptors[i]);

		if (err < 0) {
			queued_free(queue, queued);
			return err;
		}
		queued->descriptor_count++;
		queue->descriptors++;
	}
	return 0;
}

/* Nothing waits before it and it has descriptors: leaving at once saves their copies. */
static int send_at_once(struct ipc_channel *channel, const struct ipc_header *header,
			struct span body, struct span tail, const int *descriptors,
			int descriptor_count)
{
	struct os_packet_out packet = {
		.parts = { span_of(header, sizeof(*header)), body, tail },
		.part_count = 3,
		.descriptors = descriptors,
		.descriptor_count = (size_t)descriptor_count,
	};

	return os_packet_send(channel->queue->fd, &packet);
}

int ipc_send(struct ipc_channel *channel, enum ipc_number number, const void *body,
	     struct span tail, const int *descriptors, int descriptor_count)
{
	const struct ipc_row *row = ipc_row_find(number);
	struct ipc_queue *queue = channel->queue;
	struct ipc_header header = { number, (uint32_t)tail.len };
	struct span bytes;
	int err;

	MUST(row && (row->senders & 1U << channel->self) && (row->receivers & 1U << channel->peer));
	MUST(descriptor_count >= 0 && (uint32_t)descriptor_count <= row->descriptors_max);
	if (tail.len > row->tail_max)
		return -EMSGSIZE;
	if (!queue || queue->is_gone)
		return IPC_CLOSED;
	bytes = span_of(body, row->size);
	channel->sent++;
	if (descriptor_count) {
		ipc_channel_flush(channel);
		if (queue->is_gone)
			return IPC_CLOSED;
		if (list_is_empty(&queue->waiting)) {
			err = send_at_once(channel, &header, bytes, tail, descriptors,
					   descriptor_count);
			if (err >= 0)
				return 0;
			if (err == -EPIPE || err == -ECONNRESET) {
				queue->is_gone = true;
				return IPC_CLOSED;
			}
			if (err != -EAGAIN && err != -ETOOMANYREFS)
				return err;
		}
	}
	return queue_add(channel, &header, bytes, tail, descriptors, descriptor_count);
}

/* The kernel has no room for descriptors under way, or no memory. A try that fails tells the loop that the socket is
 * writable (its buffer was given and taken back), so who tries at each such event would turn for ever. */
static bool rests(const struct ipc_channel *channel)
{
	return channel->loop && os_loop_now_ns(channel->loop) < channel->queue->rests_until_ns;
}

static void rest(struct ipc_channel *channel)
{
	if (channel->loop)
		channel->queue->rests_until_ns = os_loop_now_ns(channel->loop) + REST_MS * OS_MS;
}

void ipc_channel_flush(struct ipc_channel *channel)
{
	struct ipc_queue *queue = channel->queue;

	if (queue && rests(channel))
		return;
	while (queue && !queue->is_gone && !list_is_empty(&queue->waiting)) {
		struct os_packet_out packets[OS_PACKET_BATCH_MAX] UNINITIALIZED;
		size_t count = 0;
		int sent;

		LIST_EACH(&queue->waiting, node) {
			struct queued *queued = LIST_ITEM(node, struct queued, link);

			if (count == OS_PACKET_BATCH_MAX)
				break;
			packets[count++] = (struct os_packet_out){
				.parts = { span_of(queued->bytes, queued->len) },
				.part_count = 1,
				.descriptors = queued->descriptors,
				.descriptor_count = queued->descriptor_count,
			};
		}
		sent = os_packet_send_many(queue->fd, packets, count);
		if (sent == -EAGAIN)
			break; /* a later flush, or the edge that says writable */
		if (sent == -ETOOMANYREFS || sent == -ENOBUFS || sent == -ENOMEM) {
			rest(channel);
			return;
		}
		if (sent <= 0) {
			queue->is_gone = true;
			queue_clear(queue);
			return;
		}
		for (int i = 0; i < sent; i++)
			queued_free(queue, LIST_ITEM(queue->waiting.next, struct queued, link));
	}
	if (queue && !queue->is_gone)
		os_watch_want_room(&channel->watch, !list_is_empty(&queue->waiting));
}

/* ---- Receiving ------------------------------------------------------------------------------------- */

/* NULL where the packet keeps the rules, else which it breaks. */
static const char *check(const struct ipc_channel *channel, const struct os_packet_in *packet)
{
	struct ipc_header header;
	const struct ipc_row *row;

	if (packet->is_truncated)
		return "a message with more than any may have";
	if (packet->len < sizeof(header))
		return "a message without a header";
	memcpy(&header, packet->buf, sizeof(header));
	row = ipc_row_find(header.number);
	if (!row)
		return "a message that is not in the table";
	if (!(row->senders & 1U << channel->peer))
		return "a message that this kind may not send";
	if (!(row->receivers & 1U << channel->self))
		return "a message that this process does not take";
	if (header.tail_len > row->tail_max)
		return "a tail that is too long";
	if (packet->len != sizeof(header) + row->size + header.tail_len)
		return "a message of the wrong length";
	if (packet->descriptor_count > row->descriptors_max)
		return "too many descriptors";
	return NULL;
}

static const char *check_rate(struct ipc_queue *queue, uint64_t now_ns, uint32_t number)
{
	const struct ipc_row *row = ipc_row_find(number);
	uint64_t second = now_ns / OS_SECOND;

	if (!row->per_second)
		return NULL;
	if (queue->second != second) {
		queue->second = second;
		memset(queue->counts, 0, sizeof(queue->counts));
	}
	return ++queue->counts[number] > row->per_second ? "too many messages a second" : NULL;
}

static void message_of(const struct os_packet_in *packet, struct ipc_message *ret_message)
{
	const struct ipc_header *header = packet->buf;
	const char *body = (const char *)packet->buf + sizeof(*header);

	*ret_message = (struct ipc_message){
		.number = header->number,
		.body = body,
		.tail = span_of(body + ipc_message_size(header->number), header->tail_len),
		.descriptors = { -1, -1, -1, -1 },
		.descriptor_count = (int)packet->descriptor_count,
	};
	for (size_t i = 0; i < packet->descriptor_count; i++)
		ret_message->descriptors[i] = packet->descriptors[i];
}

static void packet_close(bool is_of_worker, struct os_packet_in *packet)
{
	bool is_guarded = is_of_worker && packet->descriptor_count;

	if (is_guarded)
		os_close_guard(true);
	for (size_t i = 0; i < packet->descriptor_count; i++)
		os_close(packet->descriptors[i]);
	if (is_guarded)
		os_close_guard(false);
	packet->descriptor_count = 0;
}

void ipc_message_done(struct ipc_message *message)
{
	for (int i = 0; i < message->descriptor_count; i++)
		os_close(TAKE_FD(message->descriptors[i]));
	message->descriptor_count = 0;
}

/* The channel may be gone by now. */
static void message_end(bool is_of_worker, struct ipc_message *message)
{
	bool is_guarded = false;

	for (int i = 0; is_of_worker && i < message->descriptor_count; i++)
		is_guarded = is_guarded || message->descriptors[i] >= 0;
	if (is_guarded)
		os_close_guard(true);
	ipc_message_done(message);
	if (is_guarded)
		os_close_guard(false);
}

static void closed(struct ipc_channel *channel, const char *why)
{
	if (channel->broken)
		return;
	channel->broken = true;
	os_watch_remove(&channel->watch);
	channel->queue->is_gone = true;
	channel->handlers->on_closed(channel->owner, channel, why);
}

/* One batch. False: nothing more to deliver, now or ever. A batch that is not full has emptied the socket, and what
 * comes later is told anew; but a peer's end (may_end) was told already and stands behind the last packet. */
static bool deliver(struct ipc_channel *channel, struct ipc_queue *queue, bool may_end)
{
	struct os_packet_in packets[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	bool go_on = true, from_worker = channel->peer == IPC_WORKER;
	int count;

	for (size_t i = 0; i < queue->batch; i++) {
		packets[i].buf = queue->buffer + i * queue->packet_size;
		packets[i].size = queue->packet_size;
	}
	guard(channel, true);
	count = os_packet_receive_many(queue->fd, packets, queue->batch);
	guard(channel, false);
	if (count == -EAGAIN)
		return false;
	if (count <= 0) {
		closed(channel, NULL);
		return false;
	}
	for (int i = 0; i < count; i++) {
		struct ipc_message message;
		const char *why;

		if (!go_on) {
			packet_close(from_worker, &packets[i]);
			continue;
		}
		why = check(channel, &packets[i]);
		if (!why)
			why = check_rate(queue, os_loop_now_ns(channel->loop),
					 ((const struct ipc_header *)packets[i].buf)->number);
		if (why) {
			packet_close(from_worker, &packets[i]);
			go_on = false;
			closed(channel, why);
			continue;
		}
		message_of(&packets[i], &message);
		channel->received++;
		channel->handlers->on_message(channel->owner, channel, &message);
		message_end(from_worker, &message);
		go_on = !queue->is_closed;
	}
	return go_on && (may_end || (size_t)count == queue->batch);
}

static void on_ready(struct os_watch *watch, unsigned now)
{
	struct ipc_channel *channel = CONTAINER_OF(watch, struct ipc_channel, watch);
	struct ipc_queue *queue = channel->queue;
	bool may_end = now & (OS_PEER_SHUT | OS_HANGUP | OS_ERROR), go_on = true;

	if (now & OS_WRITABLE)
		ipc_channel_flush(channel);
	if (!(now & ~(unsigned)OS_WRITABLE) || !channel->handlers || channel->broken)
		return;
	queue->is_delivering = true;
	for (int i = 0; i < BATCHES_PER_TURN && go_on; i++)
		go_on = deliver(channel, queue, may_end);
	queue->is_delivering = false;
	if (queue->is_closed) {
		queue_free(queue);
		return;
	}
	if (go_on) {
		/* There may be more: be told next turn, when others had theirs. */
		os_watch_remove(watch);
		if (os_watch_add(channel->loop, watch, queue->fd, OS_WATCH_EDGE_READ) < 0)
			closed(channel, NULL);
		else
			os_watch_want_room(watch, !list_is_empty(&queue->waiting));
	}
}

int ipc_wait(struct ipc_channel *channel, int timeout_ms, struct ipc_message *ret_message)
{
	struct ipc_queue *queue = channel->queue;
	struct os_packet_in packet;
	int count;

	if (!queue || channel->broken)
		return IPC_CLOSED;
	ipc_channel_flush(channel);
	for (;;) {
		packet = (struct os_packet_in){ .buf = queue->buffer, .size = queue->packet_size };
		count = os_packet_receive(queue->fd, &packet);
		if (count != -EAGAIN)
			break;
		count = os_wait(queue->fd, OS_READABLE, timeout_ms);
		if (count < 0)
			return count;
	}
	if (count <= 0) {
		channel->broken = true;
		return IPC_CLOSED;
	}
	if (check(channel, &packet)) {
		packet_close(channel->peer == IPC_WORKER, &packet);
		channel->broken = true;
		return IPC_CLOSED;
	}
	message_of(&packet, ret_message);
	channel->received++;
	return 0;
}
