#include "child.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void child_begin(struct child *child, enum ipc_kind kind)
{
	struct ipc_birth birth = { .kind = kind,
				   .uid = UINT32_MAX,
				   .gid = UINT32_MAX,
				   .slot_count = 1,
				   .cpu = UINT32_MAX,
				   .snapshot_base = PROC_SNAPSHOT_BASE,
				   .nofile = 1024 };
	int ends[2], fds[2];
	void *range;

	*child = (struct child){ .pid = 0 };
	assert_int_equal(os_packet_pair(ends), 0);
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (!child->pid) {
		close(ends[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails */
		os_program_forget();              /* it may have the channel's number */
		dup2(ends[1], PROC_CHANNEL_FD);
		os_exit(proc_helper_main(span_str(proc_row_find(kind)->name)));
	}
	os_close(ends[1]);
	assert_int_equal(ipc_channel_open(&child->supervisor, NULL, ends[0], IPC_SUPERVISOR, kind),
			 0);
	assert_int_equal(os_memory_new("range", IPC_RANGE_SIZE, &fds[0]), 0);
	assert_int_equal(os_memory_map(fds[0], IPC_RANGE_SIZE, NULL, OS_MAP_WRITE, &range), 0);
	child->range = range;
	assert_int_equal(os_memory_new("lock", 1, &fds[1]), 0); /* not empty: a supervisor serves */
	assert_int_equal(ipc_send(&child->supervisor, IPC_MESSAGE_birth, &birth, SPAN_NONE, fds, 2),
			 0);
	os_close(fds[0]);
	os_close(fds[1]);
}

void child_grant(struct child *child, enum ipc_grant_kind what, int fd)
{
	struct ipc_grant grant = { .what = what };

	assert_int_equal(ipc_send(&child->supervisor, IPC_MESSAGE_grant, &grant, SPAN_NONE, &fd, 1),
			 0);
}

void child_born(struct child *child)
{
	struct ipc_message message;

	SEND(&child->supervisor, born, SPAN_NONE, { 0 });
	expect(&child->supervisor, IPC_MESSAGE_ready, &message);
	ipc_message_done(&message);
}

bool child_is_alive(const struct child *child)
{
	return waitpid(child->pid, NULL, WNOHANG) == 0;
}

void child_end(struct child *child)
{
	int status = -1;

	SEND(&child->supervisor, drain, SPAN_NONE, .deadline_ms = UINT32_MAX);
	for (int i = 0; i < WAIT_MS / 10 && waitpid(child->pid, &status, WNOHANG) == 0; i++)
		os_sleep_ms(10);
	if (status == -1)
		kill(child->pid, SIGKILL);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	ipc_channel_close(&child->supervisor);
	os_memory_unmap(child->range, IPC_RANGE_SIZE);
}

void child_link(struct child *child, enum ipc_kind kind, uint32_t slot,
		struct ipc_channel *ret_channel)
{
	struct ipc_link_life link = { .kind = kind, .slot = slot, .life = CHILD_LIFE + slot };
	int ends[2];

	assert_int_equal(os_packet_pair(ends), 0);
	assert_int_equal(
		ipc_send(&child->supervisor, IPC_MESSAGE_link_life, &link, SPAN_NONE, &ends[1], 1),
		0);
	os_close(ends[1]);
	assert_int_equal(ipc_channel_open(ret_channel, NULL, ends[0], kind, child->supervisor.peer),
			 0);
}

void expect(struct ipc_channel *channel, uint32_t number, struct ipc_message *ret_message)
{
	assert_int_equal(ipc_wait(channel, WAIT_MS, ret_message), 0);
	if (ret_message->number != number)
		fail_msg("%s came, not %s (%.*s)", ipc_message_name(ret_message->number),
			 ipc_message_name(number), SPAN_ARG(ret_message->tail));
}

void expect_nothing(struct ipc_channel *channel)
{
	struct ipc_message message;

	assert_int_equal(ipc_wait(channel, QUIET_MS, &message), -ETIMEDOUT);
}

void child_data(struct child *child, uint64_t id, const uint8_t spki_hash[32])
{
	struct ipc_data data = {
		.change = child->change + 1, .id = id, .what = IPC_DATA_CHAIN, .size = 4
	};
	int fd;

	memcpy(data.spki_hash, spki_hash, sizeof(data.spki_hash));
	assert_int_equal(os_memory_new("chain", 4, &fd), 0);
	assert_int_equal(os_memory_seal(fd, OS_SEAL_ALL), 0);
	assert_int_equal(ipc_send(&child->supervisor, IPC_MESSAGE_data, &data, SPAN_NONE, &fd, 1),
			 0);
	os_close(fd);
}

void child_commit(struct child *child)
{
	struct ipc_message message;

	child->change++;
	SEND(&child->supervisor, prepare, SPAN_NONE, .change = child->change);
	expect(&child->supervisor, IPC_MESSAGE_prepared, &message);
	ipc_message_done(&message);
	SEND(&child->supervisor, commit, SPAN_NONE, .change = child->change);
	expect(&child->supervisor, IPC_MESSAGE_committed, &message);
	ipc_message_done(&message);
}

void child_move_clock(struct child *child, int64_t seconds)
{
#ifdef PORTCULLIS_TEST_CLOCK
	int64_t ns = seconds * (int64_t)OS_SECOND;

	SEND(&child->supervisor, clock_move, SPAN_NONE, .monotonic_ns = ns, .wall_ns = ns);
#else
	(void)child;
	(void)seconds;
	fail_msg("this build's clocks cannot be moved");
#endif
}
