/* Log files and the way to the syslog daemon: opened here, where the starter's rights are, and passed to
 * `log`, which has no call to open or connect anything. */
#include "proc/supervisor_internal.h"

#include <string.h>

enum { FORMAT_SHIFT = 8 };

static const char syslog_path[] = "/dev/log";

static enum snapshot_log_target target_of(const struct plan_row *row)
{
	return row->row.flags & ((1U << FORMAT_SHIFT) - 1);
}

static const char *name_of(const struct plan_row *row)
{
	return row->row.index ? "log events" : "log access";
}

/* A folder that others may write holds what others put there: no link in it is followed by our rights. */
static bool is_ours_alone(int folder)
{
	struct os_file_info info;

	return os_file_info(folder, &info) == 0 && (info.uid == 0 || info.uid == os_uid()) &&
	       !(info.mode & 0022);
}

/* To the log's own user, where it is ours; a device or another's file stays whose it is. */
static int give_away(struct supervisor *supervisor, int fd, enum os_file_type type)
{
	uint32_t uid = row_uid(supervisor, proc_row_find(IPC_LOG));
	struct os_file_info info;
	int err;

	if (!supervisor->is_root)
		return 0;
	err = os_file_info(fd, &info);
	if (err || info.type != type || info.uid != os_uid())
		return err;
	return os_file_owner(fd, uid, uid);
}

static int open_folder(struct supervisor *supervisor, const char *folder, int *ret_folder)
{
	int err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_FOLDER, 0, ret_folder);

	if (err != -ENOENT)
		return err;
	err = os_folder_make(OS_FOLDER_CURRENT, folder, 0750);
	if (!err)
		err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW, 0,
			      ret_folder);
	return err ? err : give_away(supervisor, *ret_folder, OS_FILE_FOLDER);
}

static int open_log(struct supervisor *supervisor, const char *path, int *ret_fd, int *ret_folder,
		    const char **ret_name)
{
	unsigned flags = OS_OPEN_WRITE | OS_OPEN_APPEND | OS_OPEN_CREATE;
	const char *slash = strrchr(path, '/');
	char folder[4096] = ".";
	size_t len = slash ? (size_t)(slash - path) : 0;
	bool is_new = false, is_safe = false;
	int err;

	if (len >= sizeof(folder) - 1)
		return -ENAMETOOLONG;
	/* Without its last slash, which would follow a link. */
	if (slash)
		memcpy(folder, path, len ? len : 1);
	if (len)
		folder[len] = '\0';
	*ret_name = slash ? slash + 1 : path;
	err = open_folder(supervisor, folder, ret_folder);
	if (err)
		return err;
	is_safe = is_ours_alone(*ret_folder);
	if (!is_safe)
		flags |= OS_OPEN_NO_FOLLOW;
	err = os_open(*ret_folder, *ret_name, flags | OS_OPEN_EXCLUSIVE, 0640, ret_fd);
	is_new = !err;
	if (err == -EEXIST)
		err = os_open(*ret_folder, *ret_name, flags, 0640, ret_fd);
	/* What somebody else put there, or linked to, stays whose it is: the descriptor is enough to write. */
	if (err || !(is_new || is_safe))
		return err;
	return give_away(supervisor, *ret_fd, OS_FILE_REGULAR);
}

/* ret_fds: the file and its folder, or the way to the daemon and nothing. */
static int open_target(struct supervisor *supervisor, const struct plan_row *row, int ret_fds[2],
		       const char **ret_name)
{
	static const int standard_output = 1;

	*ret_name = "";
	switch (target_of(row)) {
	case SNAPSHOT_LOG_FILE:
		return open_log(supervisor, row->tail.ptr, &ret_fds[0], &ret_fds[1], ret_name);
	case SNAPSHOT_LOG_SYSLOG:
		return os_connect_datagrams(syslog_path, &ret_fds[0]);
	case SNAPSHOT_LOG_STDOUT:
		return os_duplicate(standard_output, &ret_fds[0]);
	case SNAPSHOT_LOG_OFF:
		return 0;
	}
	return -EINVAL;
}

/* A daemon that is away is asked for each second; its absence and its return are said once. */
static void report(struct supervisor *supervisor, const struct plan_row *row, int err)
{
	const char *where = target_of(row) == SNAPSHOT_LOG_SYSLOG ? syslog_path : row->tail.ptr;
	int *trouble = &supervisor->log_trouble[row->row.index];

	if (*trouble == err)
		return;
	if (err)
		supervisor_say(supervisor, "%s: %s: %s; its lines wait, then they are dropped",
			       name_of(row), where, strerror(-err));
	else
		supervisor_say(supervisor, "%s: %s is written to again", name_of(row), where);
	*trouble = err;
}

static void give(struct supervisor *supervisor, struct child *log, const struct plan_row *row)
{
	struct ipc_log_file file = { .which = row->row.index,
				     .target = target_of(row),
				     .format = row->row.flags >> FORMAT_SHIFT };
	int fds[2] = { -1, -1 };
	const char *name;
	int err = open_target(supervisor, row, fds, &name);

	if (file.which >= ARRAY_LEN(supervisor->log_trouble))
		err = -EINVAL;
	else
		report(supervisor, row, err);
	/* Without a descriptor it asks again. */
	child_send(log, IPC_MESSAGE_log_file, &file, span_str(err ? "" : name), fds,
		   err ? 0 : (fds[0] >= 0) + (fds[1] >= 0));
	os_close(fds[0]);
	os_close(fds[1]);
}

/* A daemon that is away is no fault: it may be started after us, or be under way to its next start. */
bool logs_check(struct supervisor *supervisor, const struct plan *plan)
{
	const struct plan_row *row;
	size_t cursor = 0;
	bool ok = true;

	while ((row = plan_next(plan, IPC_PLAN_LOG, &cursor))) {
		int fds[2] = { -1, -1 };
		const char *name, *path = row->tail.ptr;
		int err = target_of(row) == SNAPSHOT_LOG_FILE
				  ? open_target(supervisor, row, fds, &name)
				  : 0;

		if (err)
			supervisor_fault(supervisor, "%.*s: %s %s: %s\n",
					 SPAN_ARG(span_skip(row->tail, strlen(path) + 1)),
					 name_of(row), path, strerror(-err));
		ok = ok && !err;
		os_close(fds[0]);
		os_close(fds[1]);
	}
	return ok;
}

void logs_give(struct supervisor *supervisor, struct child *log)
{
	const struct plan *plan = supervisor->running ? supervisor->running : supervisor->next;
	const struct plan_row *row;
	size_t cursor = 0;

	while (plan && (row = plan_next(plan, IPC_PLAN_LOG, &cursor)))
		give(supervisor, log, row);
}

void logs_reopen(struct supervisor *supervisor, struct child *log, uint32_t which)
{
	const struct plan *plan = supervisor->running ? supervisor->running : supervisor->next;
	const struct plan_row *row;
	size_t cursor = 0;

	while (plan && (row = plan_next(plan, IPC_PLAN_LOG, &cursor))) {
		if (row->row.index == which)
			give(supervisor, log, row);
	}
}
