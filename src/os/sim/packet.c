#include "os/sim/internal.h"

#include <errno.h>
#include <string.h>

/* Room of a channel's end, and what the kernel charges beside the bytes. */
enum { ROOM = 208 * 1024, OVERHEAD = 576 };

struct sim_file *sim_packets_new(void)
{
	struct sim_file *file = sim_file_new(SIM_PACKETS, SIM_MAY_READ | SIM_MAY_WRITE);

	list_init(&file->packets.in);
	file->packets.capacity = ROOM;
	file->packets.pid = sim.current ? sim.current->pid : 0;
	file->packets.uid = sim.current ? sim.current->uid : 0;
	return file;
}

void sim_packets_join(struct sim_file *a, struct sim_file *b)
{
	int pid = a->packets.pid;
	uint32_t uid = a->packets.uid;

	a->packets.peer = b;
	b->packets.peer = a;
	a->packets.pid = b->packets.pid;
	a->packets.uid = b->packets.uid;
	b->packets.pid = pid;
	b->packets.uid = uid;
}

static void packet_free(struct sim_packet *packet)
{
	list_remove(&packet->link);
	for (size_t i = 0; i < packet->file_count; i++)
		sim_file_unref(packet->files[i]);
	sim_own_free(packet);
}

void sim_packets_close(struct sim_file *file)
{
	struct sim_file *peer = file->packets.peer;
	bool was_unread = !list_is_empty(&file->packets.in);

	file->packets.peer = NULL;
	LIST_EACH(&file->packets.in, node)
		packet_free(LIST_ITEM(node, struct sim_packet, link));
	if (!peer)
		return;
	peer->packets.peer = NULL;
	peer->packets.queued = 0;
	if (was_unread)
		peer->packets.error = -ECONNRESET;
	sim_file_wake(peer);
}

static bool has_room(const struct sim_packets *packets)
{
	return packets->queued * 4 <= packets->capacity;
}

unsigned sim_packets_ready(const struct sim_file *file)
{
	const struct sim_packets *packets = &file->packets;
	unsigned ready = 0;

	if (!list_is_empty(&packets->in))
		ready |= OS_READABLE;
	if (!packets->peer)
		ready |= OS_READABLE | OS_PEER_SHUT | OS_HANGUP | OS_WRITABLE;
	else if (has_room(packets))
		ready |= OS_WRITABLE;
	if (packets->error)
		ready |= OS_ERROR | OS_READABLE | OS_WRITABLE;
	return ready;
}

/* No close waits here. */
void os_close_guard(bool is_on)
{
	(void)is_on;
}

int os_packet_pair(int ret_fds[2])
{
	struct sim_file *a, *b;
	int first, second, error;

	SIM_CALL(-EMFILE);
	a = sim_packets_new();
	b = sim_packets_new();
	sim_packets_join(a, b);
	error = sim_descriptor_add(a, &first);
	if (error) {
		sim_file_unref(b);
		return error;
	}
	error = sim_descriptor_add(b, &second);
	if (error) {
		os_close(first);
		return error;
	}
	ret_fds[0] = first;
	ret_fds[1] = second;
	return 0;
}

int os_packet_buffer(int fd, size_t bytes)
{
	struct sim_file *file = sim_descriptor(fd);

	if (!file || file->kind != SIM_PACKETS)
		return -ENOTSOCK;
	file->packets.capacity = 2 * bytes;
	return 0;
}

static int packet_send(struct sim_file *file, const struct os_packet_out *packet)
{
	struct sim_packets *packets = &file->packets;
	struct sim_packet *copy;
	size_t len = 0;

	MUST(packet->part_count <= OS_PACKET_PARTS_MAX);
	MUST(packet->descriptor_count <= OS_PACKET_DESCRIPTORS_MAX);
	if (packets->error) {
		int error = packets->error;

		packets->error = 0;
		return error;
	}
	if (!packets->peer || packets->is_shut)
		return -EPIPE;
	for (size_t i = 0; i < packet->part_count; i++)
		len += packet->parts[i].len;
	if (packets->queued + len + OVERHEAD > packets->capacity)
		return -EAGAIN;
	for (size_t i = 0; i < packet->descriptor_count; i++)
		if (!sim_descriptor(packet->descriptors[i]))
			return -EBADF;
	copy = sim_own_alloc(sizeof(*copy) + len);
	for (size_t i = 0; i < packet->part_count; i++) {
		if (packet->parts[i].len)
			memcpy(copy->bytes + copy->len, packet->parts[i].ptr, packet->parts[i].len);
		copy->len += packet->parts[i].len;
	}
	for (size_t i = 0; i < packet->descriptor_count; i++)
		copy->files[copy->file_count++] =
			sim_file_ref(sim_descriptor(packet->descriptors[i]));
	list_push_back(&packets->peer->packets.in, &copy->link);
	packets->queued += len + OVERHEAD;
	sim_file_wake(packets->peer);
	return 0;
}

int os_packet_send(int fd, const struct os_packet_out *packet)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL_ON(file, -EAGAIN, -ETOOMANYREFS);
	if (!file || file->kind != SIM_PACKETS)
		return -EBADF;
	return packet_send(file, packet);
}

int os_packet_send_many(int fd, const struct os_packet_out *packets, size_t count)
{
	struct sim_file *file = sim_descriptor(fd);
	size_t sent = 0;

	SIM_CALL_ON(file, -EAGAIN, -ENOBUFS, -ENOMEM);
	if (!file || file->kind != SIM_PACKETS)
		return -EBADF;
	while (sent < count && sent < OS_PACKET_BATCH_MAX) {
		int error;

		/* Who reads on another core may have done so with what it was sent before the rest is there. */
		if (sent)
			sim_interrupt();
		error = packet_send(file, &packets[sent]);
		if (error)
			return sent ? (int)sent : error;
		sent++;
	}
	return (int)sent;
}

/* The receiver gets as many descriptors as it has room for; the rest is closed. */
static void take_files(struct sim_packet *packet, struct os_packet_in *ret_packet)
{
	ret_packet->descriptor_count = 0;
	for (size_t i = 0; i < packet->file_count; i++) {
		struct sim_file *file = sim_file_ref(packet->files[i]);

		if (sim_descriptor_add(file,
				       &ret_packet->descriptors[ret_packet->descriptor_count]) == 0)
			ret_packet->descriptor_count++;
	}
}

static int packet_receive(struct sim_file *file, struct os_packet_in *ret_packet)
{
	struct sim_packets *packets = &file->packets;
	struct sim_packet *packet;

	if (packets->error) {
		int error = packets->error;

		packets->error = 0;
		return error;
	}
	if (list_is_empty(&packets->in))
		return packets->peer && !packets->is_shut ? -EAGAIN : 0;
	packet = LIST_ITEM(packets->in.next, struct sim_packet, link);
	ret_packet->is_truncated = packet->len > ret_packet->size;
	ret_packet->len = ret_packet->is_truncated ? ret_packet->size : packet->len;
	if (ret_packet->len)
		memcpy(ret_packet->buf, packet->bytes, ret_packet->len);
	take_files(packet, ret_packet);
	if (packets->peer) {
		packets->peer->packets.queued -= packet->len + OVERHEAD;
		if (has_room(&packets->peer->packets))
			sim_file_wake(packets->peer);
	}
	packet_free(packet);
	return 1;
}

int os_packet_receive(int fd, struct os_packet_in *ret_packet)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ENOMEM);
	if (!file || file->kind != SIM_PACKETS)
		return -EBADF;
	return packet_receive(file, ret_packet);
}

int os_packet_receive_many(int fd, struct os_packet_in *ret_packets, size_t count)
{
	struct sim_file *file = sim_descriptor(fd);
	size_t received = 0;

	SIM_CALL(-ENOMEM);
	if (!file || file->kind != SIM_PACKETS)
		return -EBADF;
	while (received < count && received < OS_PACKET_BATCH_MAX) {
		int outcome = packet_receive(file, &ret_packets[received]);

		if (outcome <= 0)
			return received ? (int)received : outcome;
		received++;
	}
	return (int)received;
}

/* read() and write() take and send a packet without descriptors. */

ssize_t sim_packets_read(struct sim_file *file, void *buf, size_t size)
{
	struct os_packet_in packet = { .buf = buf, .size = size };
	int outcome = packet_receive(file, &packet);

	for (size_t i = 0; outcome > 0 && i < packet.descriptor_count; i++)
		os_close(packet.descriptors[i]);
	return outcome > 0 ? (ssize_t)packet.len : outcome;
}

ssize_t sim_packets_write(struct sim_file *file, const void *buf, size_t size)
{
	struct os_packet_out packet = { .parts = { span_of(buf, size) }, .part_count = 1 };
	int error = packet_send(file, &packet);

	return error ? error : (ssize_t)size;
}

/* ---- Datagrams: packets whose other end is the driver's ---------------------------------------- */

int sim_datagrams_open(int *ret_fd)
{
	struct sim_file *near, *far;

	SIM_CALL(-EMFILE, -ENOMEM);
	near = sim_packets_new();
	far = sim_packets_new();
	sim_packets_join(near, far);
	list_push_back(&sim.datagrams, &far->queue_link);
	return sim_descriptor_add(near, ret_fd);
}

struct sim_file *sim_datagrams_accept(void)
{
	struct list *first = sim.datagrams.next;

	if (list_is_empty(&sim.datagrams))
		return NULL;
	list_remove(first);
	return LIST_ITEM(first, struct sim_file, queue_link);
}

ssize_t sim_datagram_send(int fd, const void *bytes, size_t len)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ENOBUFS, -ENETUNREACH);
	return file && file->kind == SIM_PACKETS ? sim_packets_write(file, bytes, len) : -EBADF;
}

ssize_t sim_datagram_receive(int fd, void *buf, size_t size)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ECONNREFUSED);
	return file && file->kind == SIM_PACKETS ? sim_packets_read(file, buf, size) : -EBADF;
}

ssize_t sim_datagram_put(struct sim_file *end, const void *bytes, size_t len)
{
	return sim_packets_write(end, bytes, len);
}

ssize_t sim_datagram_get(struct sim_file *end, void *buf, size_t size)
{
	return sim_packets_read(end, buf, size);
}
