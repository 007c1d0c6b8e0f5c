/* Log files: opened here, where the starter's rights are, and passed to `log`. */
#include <string.h>

#include "proc/supervisor_internal.h"

enum { FORMAT_SHIFT = 8 };

static int open_log(struct supervisor *supervisor, const char *path, int *ret_fd, int *ret_folder,
		    const char **ret_name)
{
	uint32_t uid = row_uid(supervisor, proc_row_find(IPC_LOG));
	const char *slash = strrchr(path, '/');
	char folder[4096] = ".";
	int err;

	if (slash && (size_t)(slash - path) >= sizeof(folder))
		return -ENAMETOOLONG;
	if (slash)
		memcpy(folder, path, (size_t)(slash - path) + 1);
	*ret_name = slash ? slash + 1 : path;
	err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_FOLDER, 0, ret_folder);
	if (err == -ENOENT) {
		err = os_folder_make(OS_FOLDER_CURRENT, folder, 0750);
		if (!err)
			err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_FOLDER, 0, ret_folder);
		if (!err && supervisor->is_root)
			err = os_file_owner(*ret_folder, uid, uid);
	}
	if (!err)
		err = os_open(*ret_folder, *ret_name, OS_OPEN_WRITE | OS_OPEN_APPEND | OS_OPEN_CREATE, 0640, ret_fd);
	if (!err && supervisor->is_root)
		err = os_file_owner(*ret_fd, uid, uid);
	return err;
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

		child_send(supervisor, log, IPC_MESSAGE_log_file, &file, SPAN_NONE, &standard_output,
			   file.target == SNAPSHOT_LOG_STDOUT);
		return;
	}
	err = open_log(supervisor, row->tail.ptr, &descriptors[0], &folder, &name);
	descriptors[1] = folder;
	if (err < 0)
		supervisor_say(supervisor, "log file %.*s: %s", SPAN_ARG(row->tail), strerror(-err));
	else
		child_send(supervisor, log, IPC_MESSAGE_log_file, &file, span_str(name), descriptors, 2);
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
