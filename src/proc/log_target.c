#include "proc/log_internal.h"

#include <string.h>

enum {
	/* A pipe or socket that polls writable takes this much without waiting. The descriptor may be
	 * anybody's standard output: O_NONBLOCK would be set for its other users too. */
	PIPE_CHUNK = 4096,
	STUCK_NS = 1000000000,
	/* Whole lines of this much must fit a disk that was full before one is written again. */
	RESUME_SIZE = 2 * TELEMETRY_LINE_MAX,
};

int log_target_init(struct log_target *target)
{
	*target = (struct log_target){ .kind = SNAPSHOT_LOG_OFF, .fd = -1, .folder = -1 };
	target->buf = heap_alloc(LOG_BUFFER_SIZE);
	return target->buf ? 0 : -ENOMEM;
}

void log_target_fini(struct log_target *target)
{
	os_close(TAKE_FD(target->fd));
	os_close(TAKE_FD(target->folder));
	heap_free(TAKE(target->buf));
}

/* The start of the line that was begun and not finished; `done` itself between two lines. */
static size_t begun_line(const struct log_target *target)
{
	size_t start = target->done;

	while (start > 0 && target->buf[start - 1] != '\n')
		start--;
	return start;
}

/* A begun line stays whole: a new file gets all of it where the old one takes no more. */
static void compact(struct log_target *target)
{
	size_t start = begun_line(target);

	if (!start)
		return;
	memmove(target->buf, target->buf + start, target->len - start);
	target->len -= start;
	target->done -= start;
}

/* ---- A file ------------------------------------------------------------------------------------------- */

/* As many whole lines as `max` bytes hold; the first one whatever its length. */
static size_t whole_lines(struct span bytes, size_t max)
{
	size_t len = bytes.len < max ? bytes.len : max;

	while (len && bytes.ptr[len - 1] != '\n')
		len--;
	return len ? len : bytes.len;
}

/* Without a look first, each try on a full disk would leave the beginning of a line. */
static bool disk_has_room(const struct log_target *target, size_t len)
{
	struct os_file_info info;
	int failed = os_file_info(target->fd, &info);

	if (!failed)
		failed = os_file_reserve(target->fd, info.size, len);
	return !failed || failed == -EOPNOTSUPP;
}

/* A line whose end found no room is taken back: we may be gone before there is room for it. (Not of a standard
 * output that is a file: its position, which others share, would stay behind the new end.) Bytes taken back. */
static size_t cut_begun_line(const struct log_target *target, size_t written)
{
	size_t len = 0;
	struct os_file_info info;

	while (len < written && target->buf[target->done + written - len - 1] != '\n')
		len++;
	if (!len || os_file_info(target->fd, &info) || info.size < len ||
	    os_file_truncate(target->fd, info.size - len))
		return 0;
	return len;
}

static ssize_t write_file(struct log_target *target, size_t len)
{
	ssize_t written;

	if (target->is_full) {
		len = whole_lines(span_of(target->buf + target->done, len), RESUME_SIZE);
		if (!disk_has_room(target, len))
			return -ENOSPC;
	}
	written = os_write(target->fd, target->buf + target->done, len);
	target->is_full = target->kind == SNAPSHOT_LOG_FILE && written < (ssize_t)len;
	if (target->is_full && written > 0)
		written -= (ssize_t)cut_begun_line(target, (size_t)written);
	return written;
}

/* ---- The syslog daemon -------------------------------------------------------------------------------- */

/* As syslog(3) sends it, but without a time: a daemon that is given none puts the time at which it came, in
 * its own time zone, and a record has its own in any case. */
static size_t make_datagrams(const struct log_target *target, size_t until,
			     struct os_packet_out *packets, size_t *ret_ends)
{
	size_t count = 0, at = target->done;

	while (count < OS_PACKET_BATCH_MAX && at < until) {
		struct span rest = span_of(target->buf + at, until - at);
		struct span line = span_first(rest, span_find_byte(rest, '\n'));

		packets[count] =
			(struct os_packet_out){ .parts = { span_str(target->prefix), line },
						.part_count = 2 };
		at += line.len + 1;
		ret_ends[count++] = at;
	}
	return count;
}

static ssize_t send_datagrams(struct log_target *target, size_t until)
{
	struct os_packet_out packets[OS_PACKET_BATCH_MAX];
	size_t ends[OS_PACKET_BATCH_MAX];
	size_t count = make_datagrams(target, until, packets, ends);
	int sent = target->is_gone ? -ENOTCONN : os_packet_send_many(target->fd, packets, count);

	if (sent > 0)
		return (ssize_t)(ends[sent - 1] - target->done);
	switch (sent) {
	case -EMSGSIZE: /* no daemon of this machine gets a line of this length */
		target->dropped++;
		return (ssize_t)(ends[0] - target->done);
	case -EAGAIN:
	case -ENOBUFS:
	case -ENOMEM:
		return -EAGAIN;
	default:
		target->is_gone = true;
		return -ENOTCONN;
	}
}

/* ---- All ---------------------------------------------------------------------------------------------- */

static ssize_t write_some(struct log_target *target, size_t until)
{
	size_t len = until - target->done;
	ssize_t written;

	if (target->kind == SNAPSHOT_LOG_SYSLOG)
		return send_datagrams(target, until);
	if (target->is_regular)
		return write_file(target, len);
	if (os_wait(target->fd, OS_WRITABLE, 0))
		return -EAGAIN;
	written = os_write(target->fd, target->buf + target->done,
			   len < PIPE_CHUNK ? len : PIPE_CHUNK);
	target->is_unread = written == -EPIPE;
	return written;
}

/* Up to there, or as far as it goes. */
static void write_until(struct log_target *target, size_t until)
{
	while (target->done < until) {
		ssize_t written = target->fd < 0 ? -EBADF : write_some(target, until);

		if (written <= 0)
			return;
		target->done += (size_t)written;
	}
}

void log_target_write(struct log_target *target, uint64_t now_ns)
{
	size_t before = target->done;

	if (!target->is_set)
		return;
	write_until(target, target->len);
	target->is_stuck = target->done < target->len;
	if (!target->is_stuck)
		target->len = target->done = 0;
	if (!target->is_stuck || target->done > before)
		target->moved_ns = now_ns;
}

static void finish_line(struct log_target *target)
{
	size_t start = begun_line(target);
	struct span rest = span_of(target->buf + target->done, target->len - target->done);

	if (start == target->done)
		return;
	write_until(target, target->done + span_find_byte(rest, '\n') + 1);
	if (begun_line(target) != target->done)
		target->done = start;
}

static uint64_t lines_in(struct span bytes)
{
	uint64_t count = 0;

	for (size_t i = 0; i < bytes.len; i++)
		count += bytes.ptr[i] == '\n';
	return count;
}

void log_target_set(struct log_target *target, enum snapshot_log_target kind, int fd, int folder,
		    struct span name)
{
	struct os_file_info info;

	if (target->is_set && kind == SNAPSHOT_LOG_OFF)
		write_until(target, target->len);
	else
		finish_line(target);
	os_close(target->fd);
	os_close(target->folder);
	target->fd = fd;
	target->folder = folder;
	target->kind = kind;
	target->is_set = true;
	target->is_stuck = target->is_full = target->is_gone = target->is_unread = false;
	target->is_regular =
		fd >= 0 && os_file_info(fd, &info) == 0 && info.type == OS_FILE_REGULAR;
	/* A name that is cut would be somebody else's. */
	if (!name.len || name.len > LOG_NAME_MAX || span_find_byte(name, '/') < name.len)
		name = SPAN_NONE;
	if (name.len)
		memcpy(target->name, name.ptr, name.len);
	target->name[name.len] = '\0';
	if (kind == SNAPSHOT_LOG_OFF) {
		target->dropped +=
			lines_in(span_of(target->buf + target->done, target->len - target->done));
		target->len = target->done = 0;
	}
}

bool log_target_has_room(struct log_target *target, uint64_t now_ns)
{
	if (!target->is_set)
		return false;
	if (target->kind == SNAPSHOT_LOG_OFF)
		return true;
	if (LOG_BUFFER_SIZE - target->len < TELEMETRY_LINE_MAX)
		compact(target);
	if (LOG_BUFFER_SIZE - target->len >= TELEMETRY_LINE_MAX)
		return true;
	return target->is_stuck && now_ns > target->moved_ns + STUCK_NS;
}

void log_target_add(struct log_target *target, struct span line)
{
	if (target->is_set && target->kind == SNAPSHOT_LOG_OFF)
		return;
	if (LOG_BUFFER_SIZE - target->len < line.len)
		compact(target);
	if (LOG_BUFFER_SIZE - target->len < line.len) {
		target->dropped++;
		return;
	}
	memcpy(target->buf + target->len, line.ptr, line.len);
	target->len += line.len;
}

bool log_target_is_away(const struct log_target *target)
{
	struct os_file_info ours, there;

	if (target->is_set && target->kind != SNAPSHOT_LOG_OFF &&
	    (target->fd < 0 || target->is_gone))
		return true;
	if (!target->is_regular || target->folder < 0 || !target->name[0])
		return false;
	if (os_file_info(target->fd, &ours))
		return false;
	if (os_file_info_at(target->folder, target->name, &there))
		return true;
	/* Where the name is a symlink, what it points at cannot be looked at from in here. */
	if (there.type == OS_FILE_SYMLINK)
		return false;
	return there.inode != ours.inode || there.device != ours.device;
}
