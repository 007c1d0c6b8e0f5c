#include "os/sim/internal.h"

#include <errno.h>
#include <string.h>

/* ---- Streams ----------------------------------------------------------------------------------- */

static struct sim_file *stream_new(const struct os_address *local, const struct os_address *remote)
{
	struct sim_file *file = sim_file_new(SIM_STREAM, SIM_MAY_READ | SIM_MAY_WRITE);

	file->stream.capacity = sim.options.stream_bytes;
	file->stream.in = sim_own_alloc_raw(file->stream.capacity);
	file->stream.local = *local;
	file->stream.remote = *remote;
	return file;
}

static bool has_room(const struct sim_stream *reader)
{
	size_t room = reader->capacity - reader->len;

	return room > 0 && room >= reader->len / 2; /* as the kernel has it: not for every byte */
}

unsigned sim_stream_ready(const struct sim_file *file)
{
	const struct sim_stream *stream = &file->stream;
	unsigned ready = 0;

	if (stream->len)
		ready |= OS_READABLE;
	if (stream->is_at_end || stream->shut_read)
		ready |= OS_READABLE | OS_PEER_SHUT;
	if (!stream->peer || has_room(&stream->peer->stream))
		ready |= OS_WRITABLE;
	if (stream->is_dead || (stream->is_at_end && stream->shut_write))
		ready |= OS_HANGUP | OS_READABLE | OS_WRITABLE;
	if (stream->error)
		ready |= OS_ERROR | OS_READABLE | OS_WRITABLE;
	return ready;
}

static int error_take(struct sim_stream *stream)
{
	int error = stream->error;

	stream->error = 0;
	return error;
}

ssize_t sim_stream_read(struct sim_file *file, void *buf, size_t size, bool peeks)
{
	struct sim_stream *stream = &file->stream;
	size_t len = stream->len < size ? stream->len : size,
	       first = stream->capacity - stream->start;

	if (!stream->len || stream->shut_read) {
		if (stream->error)
			return error_take(stream);
		return stream->is_at_end || stream->shut_read || stream->is_dead ? 0 : -EAGAIN;
	}
	if (first > len)
		first = len;
	memcpy(buf, stream->in + stream->start, first);
	memcpy((char *)buf + first, stream->in, len - first);
	if (peeks)
		return (ssize_t)len;
	stream->start = (stream->start + len) % stream->capacity;
	stream->len -= len;
	if (stream->peer && stream->was_full && has_room(stream)) {
		stream->was_full = false;
		sim_file_wake(stream->peer);
	}
	return (ssize_t)len;
}

static void stream_die(struct sim_file *file)
{
	struct sim_stream *stream = &file->stream;

	stream->error = stream->is_at_end ? -EPIPE : -ECONNRESET;
	stream->is_dead = true;
	sim_file_wake(file);
}

void sim_stream_sever(struct sim_file *file)
{
	struct sim_file *peer = file->stream.peer;

	file->stream.is_dead = true;
	file->stream.peer = NULL;
	sim_file_wake(file);
	if (peer) {
		peer->stream.peer = NULL;
		stream_die(peer);
	}
}

ssize_t sim_stream_write(struct sim_file *file, const void *buf, size_t size)
{
	struct sim_stream *stream = &file->stream, *reader;
	size_t end, len, first;

	if (stream->error)
		return error_take(stream);
	if (stream->is_dead || stream->shut_write)
		return -EPIPE;
	if (!stream->peer) { /* what goes to a closed socket comes back as a reset */
		stream_die(file);
		return (ssize_t)size;
	}
	reader = &stream->peer->stream;
	if (reader->shut_read)
		return (ssize_t)size;
	len = reader->capacity - reader->len;
	if (len < size)
		reader->was_full = true;
	else
		len = size;
	if (!len)
		return size ? -EAGAIN : 0;
	end = (reader->start + reader->len) % reader->capacity;
	first = reader->capacity - end < len ? reader->capacity - end : len;
	memcpy(reader->in + end, buf, first);
	memcpy(reader->in, (const char *)buf + first, len - first);
	reader->len += len;
	sim_file_wake(stream->peer);
	return (ssize_t)len;
}

void sim_stream_close(struct sim_file *file)
{
	struct sim_stream *stream = &file->stream;
	struct sim_file *peer = stream->peer;

	if (peer) {
		peer->stream.peer = NULL;
		if (stream->resets || stream->len)
			stream_die(peer);
		else
			peer->stream.is_at_end = true;
		sim_file_wake(peer);
	}
	stream->peer = NULL;
	sim_own_free_large(stream->in, stream->capacity);
	stream->in = NULL;
}

static void half_close(struct sim_file *file)
{
	file->stream.shut_write = true;
	if (file->stream.peer) {
		file->stream.peer->stream.is_at_end = true;
		sim_file_wake(file->stream.peer);
	}
	sim_file_wake(file);
}

int os_shutdown(int fd, enum os_half half)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ENOTCONN);
	if (!file)
		return -EBADF;
	if (file->kind == SIM_PACKETS) {
		file->packets.is_shut = true;
		return 0;
	}
	if (file->kind != SIM_STREAM)
		return -ENOTSOCK;
	if (file->stream.is_dead)
		return -ENOTCONN;
	if (half != OS_HALF_READ)
		half_close(file);
	if (half != OS_HALF_WRITE)
		file->stream.shut_read = true;
	return 0;
}

/* ---- Listening --------------------------------------------------------------------------------- */

static bool overlaps(const struct os_address *a, const struct os_address *b)
{
	if (a->family == OS_FAMILY_UNIX || b->family == OS_FAMILY_UNIX)
		return a->family == b->family && strcmp(a->path, b->path) == 0;
	return a->port == b->port &&
	       (os_address_is_any(a) || os_address_is_any(b) || os_address_same_ip(a, b));
}

static int address_check(const struct os_address *address, unsigned flags)
{
	if (address->port < 1024 && sim.current && sim.current->uid)
		return -EACCES;
	LIST_EACH(&sim.listeners, node) {
		const struct sim_listener *other = LIST_ITEM(node, struct sim_listener, link);

		if (!other->is_packets && overlaps(&other->address, address) &&
		    !(other->shares && flags & OS_LISTEN_REUSEPORT))
			return -EADDRINUSE;
	}
	return 0;
}

static struct sim_file *listener_new(const struct os_address *address)
{
	struct sim_file *file = sim_file_new(SIM_LISTENER, 0);

	list_init(&file->listener.queue);
	file->listener.address = *address;
	list_push_back(&sim.listeners, &file->listener.link);
	return file;
}

int os_listen(const struct os_address *address, unsigned flags, int backlog, int *ret_fd)
{
	struct sim_file *file;
	int error;

	(void)backlog;
	SIM_CALL(-EADDRINUSE, -EMFILE);
	error = address_check(address, flags);
	if (error)
		return error;
	file = listener_new(address);
	file->listener.shares = flags & OS_LISTEN_REUSEPORT;
	return sim_descriptor_add(file, ret_fd);
}

int os_listen_probe(const struct os_address *address)
{
	SIM_CALL(-EADDRINUSE, -EMFILE);
	return address_check(address, 0);
}

void sim_listener_close(struct sim_file *file)
{
	struct sim_listener *listener = &file->listener;

	list_remove(&listener->link);
	LIST_EACH(&listener->queue, node) {
		struct sim_file *waiting = LIST_ITEM(node, struct sim_file, queue_link);

		list_remove(node);
		if (waiting->kind == SIM_STREAM)
			waiting->stream.resets = true;
		sim_file_unref(waiting);
	}
	if (listener->node) {
		listener->node->listener = NULL;
		sim_node_unref(listener->node);
	}
}

int os_listen_packets(int folder_fd, const char *name, unsigned mode, int *ret_fd)
{
	char last[SIM_NAME_MAX + 1];
	struct sim_node *folder, *node;
	struct sim_file *file;
	int error;

	SIM_CALL(-EMFILE, -EACCES, -ENOSPC);
	error = sim_walk_parent(folder_fd, name, &folder, last);
	if (error)
		return error;
	if (!sim_may(folder, OS_ACCESS_WRITE))
		return -EACCES;
	(void)sim_entry_remove(folder, last);
	node = sim_node_new(OS_FILE_SOCKET, mode);
	error = sim_entry_add(folder, last, node);
	if (error)
		return error;
	file = listener_new(&(struct os_address){ .family = OS_FAMILY_UNIX });
	file->listener.is_packets = true;
	file->listener.node = sim_node_ref(node);
	node->listener = file;
	return sim_descriptor_add(file, ret_fd);
}

static struct sim_file *queue_take(struct sim_file *listener)
{
	struct list *first = listener->listener.queue.next;

	if (list_is_empty(&listener->listener.queue))
		return NULL;
	list_remove(first);
	return LIST_ITEM(first, struct sim_file, queue_link);
}

int os_accept(int fd, int *ret_fd, struct os_address *ret_peer)
{
	struct sim_file *file = sim_descriptor(fd), *accepted;
	struct os_address peer = { .family = OS_FAMILY_UNIX };
	int error;

	SIM_CALL(-EMFILE, -ENFILE, -ENOMEM);
	if (!file || file->kind != SIM_LISTENER)
		return -EBADF;
	if (list_is_empty(&file->listener.queue))
		return -EAGAIN;
	if (sim.current->descriptor_count >= sim.current->descriptors_max)
		return -EMFILE; /* it stays in the queue */
	accepted = queue_take(file);
	if (accepted->kind == SIM_STREAM)
		peer = accepted->stream.remote;
	error = sim_descriptor_add(accepted, ret_fd);
	if (!error && ret_peer)
		*ret_peer = peer;
	return error;
}

/* ---- Connecting -------------------------------------------------------------------------------- */

/* One of those that share the address, by chance, as the kernel's hash does. */
static struct sim_file *listener_choose(const struct os_address *to)
{
	struct sim_file *chosen = NULL;
	uint64_t seen = 0;

	LIST_EACH(&sim.listeners, node) {
		struct sim_listener *listener = LIST_ITEM(node, struct sim_listener, link);

		if (!listener->is_packets && overlaps(&listener->address, to) &&
		    sim_random(++seen) == 0)
			chosen = CONTAINER_OF(listener, struct sim_file, listener);
	}
	return chosen;
}

static struct os_address fresh_address(void)
{
	struct os_address address = { .family = OS_FAMILY_V4, .port = ++sim.port };

	memcpy(address.ip, "\x7f\0\0\1", 4);
	return address;
}

static struct sim_file *connect_to(struct sim_file *listener, const struct os_address *to,
				   const struct os_address *from)
{
	struct sim_file *near = stream_new(from, to), *far = stream_new(to, from);

	near->stream.peer = far;
	far->stream.peer = near;
	list_push_back(&listener->listener.queue, &far->queue_link);
	sim_file_wake(listener);
	return near;
}

int os_connect(const struct os_address *address, int *ret_fd)
{
	struct os_address from = fresh_address();
	struct sim_file *listener, *file;

	SIM_CALL(-EMFILE, -ENETUNREACH, -EADDRNOTAVAIL);
	if (address->family == OS_FAMILY_BOTH)
		return -EINVAL;
	listener = listener_choose(address);
	if (listener) {
		file = connect_to(listener, address, &from);
	} else {
		file = stream_new(&from, address);
		file->stream.is_dead = true;
		file->stream.error = -ECONNREFUSED;
	}
	sim_file_wake(file);
	return sim_descriptor_add(file, ret_fd);
}

int os_connect_packets(int folder_fd, const char *name, int *ret_fd)
{
	struct sim_file *near, *far;
	struct sim_node *node;
	int error;

	SIM_CALL(-ECONNREFUSED, -EMFILE);
	error = sim_walk(folder_fd, name, 0, &node);
	if (error)
		return error;
	if (!node->listener)
		return -ECONNREFUSED;
	near = sim_packets_new();
	far = sim_packets_new();
	sim_packets_join(near, far);
	near->packets.pid = 0; /* who listens is not known yet */
	list_push_back(&node->listener->listener.queue, &far->queue_link);
	sim_file_wake(node->listener);
	return sim_descriptor_add(near, ret_fd);
}

/* ---- Asking and setting ------------------------------------------------------------------------ */

static struct sim_file *stream_of(int fd)
{
	struct sim_file *file = sim_descriptor(fd);

	return file && file->kind == SIM_STREAM ? file : NULL;
}

int os_socket_error(int fd)
{
	struct sim_file *file = stream_of(fd);

	SIM_CALL(-ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH);
	return file ? error_take(&file->stream) : -ENOTSOCK;
}

int os_socket_local(int fd, struct os_address *ret_address)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ENOTCONN);
	if (file && file->kind == SIM_LISTENER)
		*ret_address = file->listener.address;
	else if (file && file->kind == SIM_STREAM)
		*ret_address = file->stream.local;
	else
		return -ENOTSOCK;
	return 0;
}

int os_socket_peer(int fd, struct os_address *ret_address)
{
	struct sim_file *file = stream_of(fd);

	SIM_CALL(-ENOTCONN);
	if (!file)
		return -ENOTSOCK;
	*ret_address = file->stream.remote;
	return 0;
}

int os_socket_credentials(int fd, int *ret_pid, uint32_t *ret_uid)
{
	struct sim_file *file = sim_descriptor(fd);

	if (!file || file->kind != SIM_PACKETS)
		return -ENOTSOCK;
	*ret_pid = file->packets.pid;
	*ret_uid = file->packets.uid;
	return 0;
}

static int option_set(int fd)
{
	struct sim_file *file = sim_descriptor(fd);

	if (!file)
		return -EBADF;
	return file->kind == SIM_STREAM || file->kind == SIM_LISTENER ? 0 : -ENOTSOCK;
}

int os_socket_nodelay(int fd)
{
	return option_set(fd);
}

int os_socket_keepalive(int fd, unsigned idle_s)
{
	(void)idle_s;
	return option_set(fd);
}

/* Nobody collects lines in this world. */
int os_connect_datagrams(const char *path, int *ret_fd)
{
	(void)path;
	(void)ret_fd;
	SIM_CALL(-EMFILE);
	return -ENOENT;
}

int os_inherited(unsigned index, int *ret_fd)
{
	(void)index;
	(void)ret_fd;
	return -EBADF;
}

int os_socket_unsent_max(int fd, unsigned bytes)
{
	(void)bytes;
	return option_set(fd);
}

int os_socket_linger_none(int fd)
{
	struct sim_file *file = stream_of(fd);

	if (!file)
		return -ENOTSOCK;
	file->stream.resets = true;
	return 0;
}

int os_socket_linger_default(int fd)
{
	return option_set(fd);
}

bool os_is_listening(int fd)
{
	struct sim_file *file = sim_descriptor(fd);

	return file && file->kind == SIM_LISTENER;
}

/* ---- The driver's ends ------------------------------------------------------------------------- */

struct sim_file *sim_connect(const struct os_address *to, const struct os_address *from)
{
	struct os_address fresh = fresh_address();
	struct sim_file *listener = listener_choose(to);

	return listener ? connect_to(listener, to, from ? from : &fresh) : NULL;
}

struct sim_file *sim_listen(const struct os_address *address)
{
	struct sim_file *file = listener_new(address);

	file->listener.is_driver = true;
	return file;
}

struct sim_file *sim_accept(struct sim_file *listener)
{
	return queue_take(listener);
}

ssize_t sim_send(struct sim_file *end, const void *bytes, size_t len)
{
	return sim_stream_write(end, bytes, len);
}

ssize_t sim_receive(struct sim_file *end, void *buf, size_t size)
{
	return sim_stream_read(end, buf, size, false);
}

void sim_half_close(struct sim_file *end)
{
	half_close(end);
}

void sim_reset(struct sim_file *end)
{
	end->stream.resets = true;
	sim_file_unref(end);
}

void sim_let_go(struct sim_file *end)
{
	if (end)
		sim_file_unref(end);
}

bool sim_is_connected(const struct sim_file *end)
{
	return end->stream.peer != NULL;
}
