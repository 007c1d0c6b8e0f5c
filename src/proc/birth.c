/* Starting a process of the table, by the supervisor or by a command without one. */
#include "proc/supervisor_internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { ENVIRONMENT_MAX = 512, HTTPS_PORT = 443, END_WAIT_MS = 5000, STANDARD_ERROR = 2 };

static const char *const passed_variables[] = { "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
						"LSAN_OPTIONS=" };

uint32_t proc_row_uid(const struct proc_row *row)
{
	char name[48];
	uint32_t uid, gid;

	snprintf(name, sizeof(name), "portcullis-%s", row->name);
	if (os_user_find(name, &uid, &gid) == 0)
		return uid;
	return PROC_USER_FIRST + (uint32_t)row->kind;
}

/* Children get a clean one; the check reads `$NAME`s of ours. */
static void environment_of(const struct proc_row *row, char *role, const char **ret_environment)
{
	const char *const *ours = os_environment_all();
	size_t count = 0;

	ret_environment[count++] = role;
	for (size_t i = 0; ours && ours[i] && count < ENVIRONMENT_MAX - 1; i++) {
		bool passes = row->kind == IPC_CHECK;

		for (size_t k = 0; k < ARRAY_LEN(passed_variables); k++)
			passes |=
				span_starts_with(span_str(ours[i]), span_str(passed_variables[k]));
		if (passes)
			ret_environment[count++] = ours[i];
	}
	ret_environment[count] = NULL;
}

void child_undo(struct os_process *process)
{
	struct os_process_end end;

	os_process_signal(process->fd, SIGKILL);
	(void)!os_wait(process->fd, OS_READABLE, END_WAIT_MS);
	(void)!os_process_wait(process->fd, &end);
	os_close(process->fd);
	*process = (struct os_process){ .fd = -1 };
}

/* The starter's standard error to write to only, or -1: where it is a terminal, what the operator types could be read
 * from it. (What is no terminal is not opened again: a file would be written from its beginning.) */
static int open_terminal(void)
{
	struct os_file_info info;
	int fd;

	if (os_file_info(STANDARD_ERROR, &info) || info.type != OS_FILE_OTHER ||
	    os_open(OS_FOLDER_CURRENT, "/proc/self/fd/2", OS_OPEN_WRITE, 0, &fd))
		return -1;
	return fd;
}

int child_start(const struct proc_row *row, uint32_t slot, struct os_loop *loop,
		struct os_process *ret_process, struct ipc_channel *ret_channel)
{
	char role[48], number[16];
	const char *arguments[4] = { "portcullis", row->name };
	const char *environment[ENVIRONMENT_MAX];
	struct os_pass pass[4];
	OS_AUTO_FD nothing = -1, terminal = -1;
	struct os_process_config config = {
		.program_fd = os_program(),
		.arguments = arguments,
		.environment = environment,
		.pass = pass,
		.is_detached = true,
	};
	int ends[2], err;

	if (config.program_fd < 0)
		return config.program_fd;
	snprintf(role, sizeof(role), "PORTCULLIS_ROLE=%s", row->name);
	snprintf(number, sizeof(number), "%u", slot);
	if (row->per_slot || slot)
		arguments[2] = number;
	environment_of(row, role, environment);
	err = os_packet_pair(ends);
	if (err < 0)
		return err;
	err = os_open(OS_FOLDER_CURRENT, "/dev/null", OS_OPEN_READ_WRITE, 0, &nothing);
	pass[config.pass_count++] = (struct os_pass){ ends[1], PROC_CHANNEL_FD };
	/* The starter's terminal is nobody's to read, and its standard output only the log's to write. */
	pass[config.pass_count++] = (struct os_pass){ nothing, 0 };
	if (row->kind != IPC_LOG)
		pass[config.pass_count++] = (struct os_pass){ nothing, 1 };
	terminal = open_terminal();
	if (terminal >= 0)
		pass[config.pass_count++] = (struct os_pass){ terminal, STANDARD_ERROR };
	if (!err)
		err = os_process_start(&config, ret_process);
	os_close(ends[1]);
	if (err < 0) {
		os_close(ends[0]);
		return err;
	}
	err = ipc_channel_open(ret_channel, loop, ends[0], IPC_SUPERVISOR, row->kind);
	if (err < 0) {
		child_undo(ret_process);
		return err;
	}
	ret_channel->peer_slot = slot;
	return 0;
}

bool child_is_unprivileged(void)
{
	struct os_address https = { .family = OS_FAMILY_BOTH, .port = HTTPS_PORT };

	return os_listen_probe(&https) == -EACCES;
}

/* ---- The check job --------------------------------------------------------------------------------- */

int child_send_check(struct ipc_channel *channel, const struct ipc_birth *birth,
		     const struct ipc_compile *compile, int text_fd, const char *name)
{
	OS_AUTO_FD range = -1;
	OS_AUTO_FD root = -1;
	int descriptors[2], err;

	err = os_memory_new("range", IPC_RANGE_SIZE, &range);
	if (!err)
		err = os_open(OS_FOLDER_CURRENT, "/", OS_OPEN_FOLDER | OS_OPEN_HANDLE, 0, &root);
	if (err < 0)
		return err;
	descriptors[0] = range;
	descriptors[1] = text_fd; /* instead of a lock file: a job is no orphan, it just ends */
	err = ipc_send(channel, IPC_MESSAGE_birth, birth, SPAN_NONE, descriptors, 2);
	if (!err)
		err = ipc_send(channel, IPC_MESSAGE_grant,
			       &(struct ipc_grant){ .what = IPC_GRANT_READ }, SPAN("/"), &root, 1);
	if (!err)
		err = ipc_send(channel, IPC_MESSAGE_born, &(struct ipc_born){ 0 }, SPAN_NONE, NULL,
			       0);
	if (!err)
		err = ipc_send(channel, IPC_MESSAGE_compile, compile, span_str(name), &text_fd, 1);
	ipc_channel_flush(channel);
	return err > 0 ? -EPIPE : err;
}

int proc_check_start(int text_fd, const char *name, struct proc_child *ret_child)
{
	const struct proc_row *row = proc_row_find(IPC_CHECK);
	uint32_t uid = os_uid() == 0 ? proc_row_uid(row) : OS_KEEP_ID;
	uint64_t nofile, hard;
	struct ipc_birth birth = { .kind = IPC_CHECK, .uid = uid, .gid = uid, .cpu = UINT32_MAX };
	struct ipc_compile compile = { .address = PROC_SNAPSHOT_BASE,
				       .size = PROC_SNAPSHOT_PLACE_SIZE,
				       .serial = 1,
				       .flags = IPC_COMPILE_COMMAND };
	struct proc_child child = { .process.pid = 0 };
	int err = os_limit_get(OS_LIMIT_OPEN_FILES, &nofile, &hard);

	if (err < 0)
		return err;
	birth.nofile = nofile;
	if (child_is_unprivileged())
		compile.flags |= IPC_COMPILE_UNPRIVILEGED_PORTS;
	err = child_start(row, 0, NULL, &child.process, &child.channel);
	if (err < 0)
		return err;
	*ret_child = child;
	err = child_send_check(&ret_child->channel, &birth, &compile, text_fd, name);
	if (err < 0)
		proc_child_end(ret_child);
	return err;
}

int proc_check_map(int snapshot_fd, size_t size, const struct snapshot **ret_snapshot)
{
	void *memory;
	int err = os_memory_map(snapshot_fd, size, (void *)(uintptr_t)PROC_SNAPSHOT_BASE, // NOLINT
				0, &memory);

	if (!err)
		err = snapshot_verify(memory, size);
	if (!err)
		*ret_snapshot = memory;
	return err;
}

void proc_child_end(struct proc_child *child)
{
	struct os_process_end end;

	ipc_channel_close(&child->channel);
	if (os_wait(child->process.fd, OS_READABLE, END_WAIT_MS) < 0)
		os_process_signal(child->process.fd, SIGKILL);
	(void)!os_wait(child->process.fd, OS_READABLE, END_WAIT_MS);
	(void)!os_process_wait(child->process.fd, &end);
	os_close(child->process.fd);
}
