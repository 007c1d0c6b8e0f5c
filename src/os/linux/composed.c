#include "os/linux/internal.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* What is made of other functions of os.h alone: the same in either body. */

/* ---- The loop: what every one begins with ---------------------------------------------------------- */

static struct os_loop_state *state_of(struct os_loop *loop)
{
	return (struct os_loop_state *)(void *)loop;
}

void os_loop_stop(struct os_loop *loop)
{
	state_of(loop)->is_stopped = true;
}

void os_loop_wake_again(struct os_loop *loop)
{
	state_of(loop)->runs_again = true;
}

uint64_t os_loop_now_ns(const struct os_loop *loop)
{
	return ((const struct os_loop_state *)(const void *)loop)->now_ns;
}

uint64_t os_loop_wall_ns(const struct os_loop *loop)
{
	return ((const struct os_loop_state *)(const void *)loop)->wall_ns;
}

void os_timer_set(struct os_loop *loop, struct os_timer *timer, uint64_t deadline_ns)
{
	MUST(timer->on_due);
	os_wheel_set(&state_of(loop)->wheel, timer, deadline_ns);
}

int os_loop_run(struct os_loop *loop, void (*on_turn)(void *owner), void *owner)
{
	int error = 0;

	state_of(loop)->is_stopped = false;
	state_of(loop)->runs_again =
		true; /* what was set up before the loop may have filled the ready lists */
	while (!error && !state_of(loop)->is_stopped)
		error = os_loop_turn(loop, -1, on_turn, owner);
	return error;
}

/* ---- Bytes ----------------------------------------------------------------------------------------- */

int os_write_all(int fd, const void *buf, size_t size)
{
	const char *at = buf;

	while (size > 0) {
		ssize_t len = os_write(fd, at, size);

		if (len == -EAGAIN) {
			int error = os_wait(fd, OS_WRITABLE, -1);

			if (error)
				return error;
			continue;
		}
		if (len < 0)
			return (int)len;
		at += len;
		size -= (size_t)len;
	}
	return 0;
}

int os_out(struct span text)
{
	return os_write_all(1, text.ptr, text.len);
}

int os_err(struct span text)
{
	return os_write_all(2, text.ptr, text.len);
}

/* ---- Whole files ----------------------------------------------------------------------------------- */

/* Reads on to the end; the size may be unknown (/proc) or change meanwhile. *used never passes cap
 * + 1. A file is read by position: a descriptor's own is shared by all its copies. */
static int read_rest(int fd, bool is_file, char *buf, size_t size, size_t *used)
{
	while (*used < size) {
		ssize_t len = is_file ? os_pread(fd, buf + *used, size - *used, *used)
				      : os_read(fd, buf + *used, size - *used);

		if (len == -EAGAIN) { /* a pipe: `-c <(make-config)` */
			int error = os_wait(fd, OS_READABLE, -1);

			if (error)
				return error;
			continue;
		}
		if (len < 0)
			return (int)len;
		if (len == 0)
			return 0;
		*used += (size_t)len;
	}
	return 1; /* full: there may be more */
}

int os_file_read_fd(int fd, size_t cap, struct arena *arena, struct span *ret_text)
{
	struct os_file_info info = { 0 };
	size_t size, used = 0;
	char *buf = NULL;
	int error = os_file_info(fd, &info);

	if (error)
		return error;
	if (info.type == OS_FILE_FOLDER)
		return -EISDIR;
	if (info.size > cap)
		return -EFBIG;
	size = info.size ? info.size + 1 : 4096;
	for (;; size *= 2) {
		char *larger;

		if (size > cap + 1)
			size = cap + 1;
		larger = arena_alloc(arena, size + 1, 1);
		if (!larger)
			return -ENOMEM;
		if (used)
			memcpy(larger, buf, used);
		buf = larger;
		error = read_rest(fd, info.type == OS_FILE_REGULAR, buf, size, &used);
		if (error <= 0)
			break;
		if (used > cap)
			return -EFBIG;
	}
	if (error)
		return error;
	buf[used] = 0;
	*ret_text = span_of(buf, used);
	return 0;
}

int os_file_read(int folder_fd, const char *path, size_t cap, struct arena *arena,
		 struct span *ret_text)
{
	OS_AUTO_FD fd = -1;
	int error = os_open(folder_fd, path, OS_OPEN_READ, 0, &fd);

	return error ? error : os_file_read_fd(fd, cap, arena, ret_text);
}

static int folder_sync(int folder_fd)
{
	OS_AUTO_FD fd = -1;
	int error = os_open(folder_fd, ".", OS_OPEN_FOLDER, 0, &fd); /* a handle cannot be synced */

	return error ? error : os_file_sync(fd);
}

static int write_new(int folder_fd, const char *name, struct span text, unsigned mode)
{
	OS_AUTO_FD fd = -1;
	int error = os_open(folder_fd, name, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE,
			    0600, &fd);

	if (!error)
		error = os_file_mode(fd, mode); /* whatever the umask is */
	if (!error)
		error = os_write_all(fd, text.ptr, text.len);
	if (!error)
		error = os_file_sync(fd);
	return error;
}

int os_file_replace(int folder_fd, const char *name, struct span text, unsigned mode)
{
	char temporary[NAME_MAX + 1];
	uint64_t random;
	int len, error;

	os_random(&random, sizeof(random));
	len = snprintf(temporary, sizeof(temporary), ".%s.%016llx", name,
		       (unsigned long long)random);
	if (len < 0 || (size_t)len >= sizeof(temporary))
		return -ENAMETOOLONG;
	error = write_new(folder_fd, temporary, text, mode);
	if (!error)
		error = os_rename(folder_fd, temporary, name);
	if (error) {
		(void)!os_unlink(folder_fd, temporary);
		return error;
	}
	return folder_sync(folder_fd);
}
