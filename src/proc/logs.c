/* Log files: opened here, where the starter's rights are, and passed to `log`. */
#include "proc/supervisor_internal.h"

#include <string.h>

enum { FORMAT_SHIFT = 8 };

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

static void give(struct supervisor *supervisor, struct child *log, const struct plan_row *row)
{
	struct ipc_log_file file = { .which = row->row.index,
				     .target = row->row.flags & ((1U << FORMAT_SHIFT) - 1),
				     .format = row->row.flags >> FORMAT_SHIFT };
	OS_AUTO_FD folder = -1;
	int descriptors[2] = { -1, -1 };
	const char *name = "";
	int err;

	if (file.target != SNAPSHOT_LOG_FILE) {
		static const int standard_output = 1;

		child_send(log, IPC_MESSAGE_log_file, &file, SPAN_NONE, &standard_output,
			   file.target == SNAPSHOT_LOG_STDOUT);
		return;
	}
	err = open_log(supervisor, row->tail.ptr, &descriptors[0], &folder, &name);
	descriptors[1] = folder;
	if (err < 0)
		supervisor_say(supervisor, "log file %.*s: %s", SPAN_ARG(row->tail),
			       strerror(-err));
	else
		child_send(log, IPC_MESSAGE_log_file, &file, span_str(name), descriptors, 2);
	os_close(descriptors[0]);
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
