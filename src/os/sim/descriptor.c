#include "os/sim/internal.h"

#include <errno.h>
#include <string.h>

/* ---- Descriptions ------------------------------------------------------------------------------ */

struct sim_file *sim_file_new(enum sim_kind kind, unsigned access)
{
	struct sim_file *file = sim_own_alloc(sizeof(*file));

	file->kind = kind;
	file->access = access;
	file->references = 1;
	list_push_back(&sim.files, &file->all_link);
	return file;
}

struct sim_file *sim_file_ref(struct sim_file *file)
{
	file->references++;
	return file;
}

/* A watch does not keep what it watches: the kernel forgets it with the last descriptor. */
static void watches_forget(const struct sim_file *file)
{
	LIST_EACH(&sim.processes, node) {
		struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		for (size_t i = 0; i < process->watched_count; i++)
			if (process->watched[i].file == file)
				process->watched[i].file = NULL;
	}
}

void sim_file_unref(struct sim_file *file)
{
	MUST(file->references);
	if (--file->references)
		return;
	file->references = 1; /* whoever is let go of meanwhile may look at it */
	switch (file->kind) {
	case SIM_STREAM:
		sim_stream_close(file);
		break;
	case SIM_LISTENER:
		sim_listener_close(file);
		break;
	case SIM_PACKETS:
		sim_packets_close(file);
		break;
	case SIM_NODE:
		sim_locks_drop(file->node, file);
		sim_node_unref(file->node);
		break;
	case SIM_SIGNALS:
		if (file->process->signals == file)
			file->process->signals = NULL;
		break;
	case SIM_NOTHING:
	case SIM_OUTPUT:
	case SIM_EVENT:
	case SIM_PROCESS:
	case SIM_PROGRAM:
		break;
	}
	watches_forget(file);
	list_remove(&file->all_link);
	sim_own_free(file);
}

void sim_file_wake(struct sim_file *file)
{
	file->wakes++;
	sim.wakes++;
}

void sim_file_fail(struct sim_file *file, int error)
{
	if (!file)
		return;
	if (error != -EPIPE && error != -ECONNRESET)
		sim_file_wake(file);
	else if (file->kind == SIM_STREAM)
		sim_stream_sever(file);
}

unsigned sim_file_ready(const struct sim_file *file)
{
	const struct sim_process *process;

	switch (file->kind) {
	case SIM_NOTHING:
		return OS_READABLE | OS_WRITABLE;
	case SIM_OUTPUT:
		return OS_WRITABLE;
	case SIM_STREAM:
		return sim_stream_ready(file);
	case SIM_LISTENER:
		return list_is_empty(&file->listener.queue) ? 0 : OS_READABLE;
	case SIM_PACKETS:
		return sim_packets_ready(file);
	case SIM_EVENT:
		return OS_WRITABLE | (file->count ? OS_READABLE : 0);
	case SIM_SIGNALS:
		process = file->process;
		return process->signals_pending & process->signals_wanted ? OS_READABLE : 0;
	case SIM_PROCESS:
		return file->process->has_ended ? OS_READABLE : 0;
	case SIM_NODE:
	case SIM_PROGRAM:
		break;
	}
	return OS_READABLE | OS_WRITABLE;
}

/* ---- Descriptors ------------------------------------------------------------------------------- */

int sim_descriptor_add(struct sim_file *file, int *ret_fd)
{
	struct sim_process *process = sim.current;

	MUST(process);
	for (uint32_t fd = 3; fd < process->descriptors_max && fd < SIM_DESCRIPTORS_MAX; fd++) {
		if (process->descriptors[fd])
			continue;
		process->descriptors[fd] = file;
		process->descriptor_count++;
		*ret_fd = (int)fd;
		return 0;
	}
	sim_file_unref(file);
	return -EMFILE;
}

struct sim_file *sim_descriptor(int fd)
{
	MUST(sim.current);
	return fd >= 0 && fd < SIM_DESCRIPTORS_MAX ? sim.current->descriptors[fd] : NULL;
}

int sim_descriptor_place(struct sim_process *process, int fd, struct sim_file *file)
{
	MUST(fd >= 0 && fd < SIM_DESCRIPTORS_MAX && !process->descriptors[fd]);
	process->descriptors[fd] = file;
	process->descriptor_count++;
	return 0;
}

void sim_descriptors_close(struct sim_process *process)
{
	for (size_t fd = 0; fd < SIM_DESCRIPTORS_MAX && process->descriptor_count; fd++) {
		struct sim_file *file = process->descriptors[fd];

		if (!file)
			continue;
		process->descriptors[fd] = NULL;
		process->descriptor_count--;
		sim_file_unref(file);
	}
}

int os_start(void)
{
	return 0;
}

int os_program(void)
{
	return sim.current->program_fd;
}

void os_program_forget(void)
{
	os_close(sim.current->program_fd);
	sim.current->program_fd = -ENOENT;
}

void os_close(int fd)
{
	struct sim_file *file;

	if (fd < 0)
		return;
	file = sim_descriptor(fd);
	MUST(file);
	sim.current->descriptors[fd] = NULL;
	sim.current->descriptor_count--;
	sim_file_unref(file);
}

int os_duplicate(int fd, int *ret_fd)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-EMFILE);
	return file ? sim_descriptor_add(sim_file_ref(file), ret_fd) : -EBADF;
}

bool os_descriptor_is_open(int fd)
{
	return sim_descriptor(fd) != NULL;
}

int os_descriptor_count(void)
{
	return (int)sim.current->descriptor_count;
}

/* ---- Bytes ------------------------------------------------------------------------------------- */

static ssize_t node_read(struct sim_file *file, void *buf, size_t size)
{
	ssize_t len;

	if (!(file->access & SIM_MAY_READ))
		return -EBADF;
	if (file->node->type == OS_FILE_FOLDER)
		return -EISDIR;
	len = file->position < file->node->len ? (ssize_t)(file->node->len - file->position) : 0;
	if ((size_t)len > size)
		len = (ssize_t)size;
	if (len)
		memcpy(buf, file->node->bytes + file->position, (size_t)len);
	file->position += (uint64_t)len;
	return len;
}

ssize_t os_read(int fd, void *buf, size_t size)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL_ON(file, -ECONNRESET);
	if (!file)
		return -EBADF;
	switch ((unsigned)file->kind) {
	case SIM_NOTHING:
		return 0;
	case SIM_STREAM:
		return sim_stream_read(file, buf, size, false);
	case SIM_PACKETS:
		return sim_packets_read(file, buf, size);
	case SIM_NODE:
		return node_read(file, buf, size);
	default:
		return -EINVAL;
	}
}

static ssize_t output_write(struct sim_file *file, const void *buf, size_t size)
{
	struct writer *said = &sim.said[file->output];

	/* A long run keeps its newest half. */
	if ((size_t)(said->end - said->at) < size) {
		size_t half = (size_t)(said->at - said->start) / 2;

		memmove(said->start, said->at - half, half);
		said->at = said->start + half;
	}
	write_span(said, span_of(buf, size));
	return (ssize_t)size;
}

static ssize_t node_write(struct sim_file *file, const void *buf, size_t size)
{
	uint64_t at = file->access & SIM_APPENDS ? file->node->len : file->position;
	int error = 0;

	if (!(file->access & SIM_MAY_WRITE))
		return -EBADF;
	if (at + size > file->node->len)
		error = sim_node_resize(file->node, at + size);
	if (error)
		return error;
	memcpy(file->node->bytes + at, buf, size);
	file->node->mtime_ns = (int64_t)os_wall_ns();
	file->position = at + size;
	return (ssize_t)size;
}

static ssize_t file_write(struct sim_file *file, const void *buf, size_t size)
{
	switch ((unsigned)file->kind) {
	case SIM_NOTHING:
		return (ssize_t)size;
	case SIM_OUTPUT:
		return output_write(file, buf, size);
	case SIM_STREAM:
		return sim_stream_write(file, buf, size);
	case SIM_PACKETS:
		return sim_packets_write(file, buf, size);
	case SIM_NODE:
		return size ? node_write(file, buf, size) : 0;
	default:
		return -EINVAL;
	}
}

ssize_t os_write(int fd, const void *buf, size_t size)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL_ON(file, -EPIPE, -ECONNRESET, -ENOSPC);
	return file ? file_write(file, buf, size) : -EBADF;
}

ssize_t os_writev(int fd, const struct span *parts, size_t count)
{
	struct sim_file *file = sim_descriptor(fd);
	ssize_t total = 0;

	SIM_CALL_ON(file, -EPIPE, -ECONNRESET);
	if (!file)
		return -EBADF;
	for (size_t i = 0; i < count && i < 64; i++) {
		ssize_t len;

		if (!parts[i].len)
			continue;
		len = file_write(file, parts[i].ptr, parts[i].len);
		if (len < 0)
			return total ? total : len;
		total += len;
		if ((size_t)len < parts[i].len)
			break;
	}
	return total;
}

ssize_t os_receive(int fd, void *buf, size_t size)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL_ON(file, -ECONNRESET);
	if (!file)
		return -EBADF;
	return file->kind == SIM_STREAM ? sim_stream_read(file, buf, size, false) : -ENOTSOCK;
}

ssize_t os_peek(int fd, void *buf, size_t size)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL_ON(file, -ECONNRESET);
	if (!file)
		return -EBADF;
	return file->kind == SIM_STREAM ? sim_stream_read(file, buf, size, true) : -ENOTSOCK;
}

bool os_is_terminal(int fd)
{
	(void)fd;
	return false;
}

/* The world has no file system of somebody else. */
bool os_file_is_local(int fd)
{
	(void)fd;
	return true;
}

/* The world's disks have room. */
int os_file_reserve(int fd, uint64_t offset, uint64_t len)
{
	(void)offset;
	(void)len;
	SIM_CALL(-ENOSPC, -EOPNOTSUPP);
	return sim_descriptor(fd) ? 0 : -EBADF;
}
