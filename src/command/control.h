/* Asking the running service over control.sock: for the commands that do. */
#pragma once

#include "command/command.h"
#include "ipc/ipc.h"
#include "os/os.h"
#include "telemetry/telemetry.h"

#define COMMAND_FILE_OPTION \
	{ \
		"-c", "FILE", "the running service's configuration, if it names a `state`" \
	}

/* Where the service that a command means keeps its state and its socket: -c FILE's `state`, the environment, the
 * defaults. 0 or -errno. */
int command_state(const char *file, struct arena *arena, struct span *ret_state,
		  struct span *ret_control) MUST_CHECK;
/* Its control.sock. -ENOENT and -ECONNREFUSED: nobody serves. */
int command_open_control(struct span control, struct arena *arena, int *ret_fd) MUST_CHECK;
/* The same as command_connect(), which says why not: 0 or -errno. */
int command_reach(const struct command_line *line, struct ipc_channel *ret_channel) MUST_CHECK;
/* A channel to the running service, found by -c FILE's `state`, the environment or the defaults. 0;
 * COMMAND_FAULT after it has said `not running`. */
int command_connect(const struct command_line *line, struct ipc_channel *ret_channel) MUST_CHECK;
/* One process of the service as `status` tells it. Its range of shared memory is a copy: it goes on changing. All zero
 * where it could not be read. */
struct command_process {
	const struct ipc_status_row *row;
	struct span remark;
	struct ipc_range range;
	struct telemetry_counters counters;
};
/* Asks for `status` and calls `on_process` for each row. 0, or COMMAND_FAULT after it has said why. */
int command_each_process(struct ipc_channel *channel,
			 void (*on_process)(void *owner, const struct command_process *process),
			 void *owner) MUST_CHECK;
/* The ranges of all processes, mapped: they go on changing. */
struct command_ranges {
	const struct ipc_range **ranges;
	struct telemetry_source *sources; /* of each range */
	struct ipc_status_row *rows;      /* of each range: whose it is */
	size_t count, range_capacity, source_capacity, row_capacity;
	bool is_short; /* of memory */
};
/* 0 or a negative error; it says nothing, and waits `timeout_ms` (-1: for ever) for each answer. Zeroed before; closed in
 * either case. */
int command_ranges_read(struct ipc_channel *channel, int timeout_ms,
			struct command_ranges *ranges) MUST_CHECK;
/* The same for a command that ends then: 0, or COMMAND_FAULT after it has said why. */
int command_ranges_open(struct ipc_channel *channel, struct command_ranges *ranges) MUST_CHECK;
void command_ranges_close(struct command_ranges *ranges);
struct telemetry_gauges command_gauges(const struct command_ranges *ranges);
/* Our end of a channel to a process of the service: IPC_VAULT, IPC_DIALER, or the worker of a slot. -1: it has none at
 * the moment. */
int command_ask_channel(struct ipc_channel *control, enum ipc_kind kind, uint32_t slot) MUST_CHECK;
/* Prints answers until the last one; its exit code. */
int command_print_answers(struct ipc_channel *channel) MUST_CHECK;
/* Waits for the next message however long that takes. 0, or COMMAND_FAULT after it has said that the service
 * is gone. */
int command_wait(struct ipc_channel *channel, struct ipc_message *ret_message) MUST_CHECK;
