/* Asking the running service over control.sock: for the commands that do. */
#pragma once

#include "command/command.h"
#include "ipc/ipc.h"
#include "os/os.h"

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
/* A channel to the running service, found by -c FILE's `state`, the environment or the defaults. 0;
 * COMMAND_FAULT after it has said `not running`. */
int command_connect(const struct command_line *line, struct ipc_channel *ret_channel) MUST_CHECK;
/* Waits for the next message however long that takes. 0, or COMMAND_FAULT after it has said that the service
 * is gone. */
int command_wait(struct ipc_channel *channel, struct ipc_message *ret_message) MUST_CHECK;
