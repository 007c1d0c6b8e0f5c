/* A vault for a command, while no service runs: the row of the table, in its sandbox, with the same folder. It has
 * no socket for a rescue and no ticket keys, and ends with its command. */
#include "proc/supervisor_internal.h"

enum { LONE_DRAIN_MS = 5000 };

/* Root makes the folder for the vault's own user. One that belongs to somebody else (a gateway without root)
 * stays his, and the vault runs as him. */
static int open_keys(int state_fd, struct ipc_birth *birth, int *ret_folder)
{
	uint32_t uid = proc_row_uid(proc_row_find(IPC_VAULT));
	struct os_file_info info;
	OS_AUTO_FD folder = -1;
	int err = os_folder_make(state_fd, "keys", 0700);

	if (!err)
		err = os_open(state_fd, "keys", OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW, 0, &folder);
	if (!err)
		err = os_file_info(folder, &info);
	birth->uid = birth->gid = OS_KEEP_ID;
	if (!err && os_uid() == 0) {
		birth->uid = info.uid ? info.uid : uid;
		birth->gid = info.uid ? info.gid : uid;
		err = info.uid ? 0 : os_file_owner(folder, uid, uid);
	}
	if (!err)
		err = os_open(state_fd, "keys", OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW | OS_OPEN_HANDLE,
			      0, ret_folder);
	return err;
}

static int send_birth(struct ipc_channel *channel, const struct ipc_birth *birth, int state_fd,
		      int folder)
{
	OS_AUTO_FD range = -1;
	OS_AUTO_FD lock = -1;
	int descriptors[2], err;

	err = os_memory_new("range", IPC_RANGE_SIZE, &range);
	if (!err && folder < 0)
		err = os_memory_new("lock", 0,
				    &lock); /* nobody's: this vault holds nothing to fight over */
	else if (!err)
		err = os_open(state_fd, "lock", OS_OPEN_READ | OS_OPEN_NO_FOLLOW, 0, &lock);
	if (err < 0)
		return err;
	descriptors[0] = range;
	descriptors[1] = lock;
	err = ipc_send(channel, IPC_MESSAGE_birth, birth, SPAN_NONE, descriptors, 2);
	if (!err && folder >= 0)
		err = ipc_send(channel, IPC_MESSAGE_grant,
			       &(struct ipc_grant){ .what = IPC_GRANT_KEY_FOLDER }, SPAN_NONE,
			       &folder, 1);
	if (!err)
		err = IPC_SEND(channel, born, { 0 });
	return err;
}

static int send_link(struct ipc_channel *supervisor, struct ipc_channel *ret_channel)
{
	int ends[2], err = os_packet_pair(ends);

	if (err < 0)
		return err;
	err = ipc_send(supervisor, IPC_MESSAGE_link, &(struct ipc_link){ .kind = IPC_COMMAND },
		       SPAN_NONE, &ends[1], 1);
	os_close(ends[1]);
	ipc_channel_flush(supervisor);
	if (!err)
		return ipc_channel_open(ret_channel, NULL, ends[0], IPC_COMMAND, IPC_VAULT);
	os_close(ends[0]);
	return err;
}

int proc_vault_start(int state_fd, struct proc_child *ret_child, struct ipc_channel *ret_channel)
{
	struct ipc_birth birth = { .kind = IPC_VAULT,
				   .slot_count = 1,
				   .cpu = UINT32_MAX,
				   .snapshot_base = PROC_SNAPSHOT_BASE };
	uint64_t hard;
	OS_AUTO_FD folder = -1;
	int err = os_limit_get(OS_LIMIT_OPEN_FILES, &birth.nofile, &hard);

	if (!err)
		err = open_keys(state_fd, &birth, &folder);
	if (!err)
		err = child_start(proc_row_find(IPC_VAULT), 0, NULL, &ret_child->process,
				  &ret_child->channel);
	if (err < 0)
		return err;
	err = send_birth(&ret_child->channel, &birth, state_fd, folder);
	if (!err)
		err = send_link(&ret_child->channel, ret_channel);
	if (!err)
		return 0;
	proc_child_end(ret_child);
	return err > 0 ? -EPIPE : err;
}

int proc_keys_start(struct proc_child *ret_child)
{
	struct ipc_birth birth = { .kind = IPC_VAULT,
				   .slot_count = 1,
				   .cpu = UINT32_MAX,
				   .uid = OS_KEEP_ID,
				   .gid = OS_KEEP_ID,
				   .snapshot_base = PROC_SNAPSHOT_BASE };
	uint64_t hard;
	int err = os_limit_get(OS_LIMIT_OPEN_FILES, &birth.nofile, &hard);

	if (!err && os_uid() == 0)
		birth.uid = birth.gid = proc_row_uid(proc_row_find(IPC_VAULT));
	if (!err)
		err = child_start(proc_row_find(IPC_VAULT), 0, NULL, &ret_child->process,
				  &ret_child->channel);
	if (err < 0)
		return err;
	err = send_birth(&ret_child->channel, &birth, -1, -1);
	ipc_channel_flush(&ret_child->channel);
	if (err)
		proc_child_end(ret_child);
	return err > 0 ? -EPIPE : err;
}

void proc_vault_end(struct proc_child *child, struct ipc_channel *channel)
{
	ipc_channel_close(channel);
	if (IPC_SEND(&child->channel, drain, .deadline_ms = LONE_DRAIN_MS) == 0)
		ipc_channel_flush(&child->channel);
	proc_child_end(child);
}
