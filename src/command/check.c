/* `check`: the job of the table, in its sandboxes, asked by a command instead of a service. */
#include <string.h>

#include "command/command.h"
#include "proc/proc.h"

enum { CHECK_TIMEOUT_MS = 35000 };

/* Its exit code. Faults go to standard error: they are what `run` would say there. */
static int print_result(struct proc_child *child, const char *file)
{
	int exit_code = COMMAND_FAULT;
	struct ipc_message message;
	bool is_over = false;

	while (!is_over) {
		if (ipc_wait(&child->channel, CHECK_TIMEOUT_MS, &message) != 0) {
			command_fault("%s: the check ended without a result", file);
			return COMMAND_FAULT;
		}
		if (message.number == IPC_MESSAGE_diagnostic) {
			const struct ipc_diagnostic *body = message.body;

			os_err(message.tail);
			if (body->is_error == IPC_DIAGNOSTIC_USAGE)
				exit_code = COMMAND_USAGE;
		} else if (message.number == IPC_MESSAGE_compiled) {
			const struct ipc_compiled *body = message.body;

			is_over = true;
			if (!body->errors) {
				exit_code = COMMAND_DONE;
				command_print("%s is right\n", file);
			}
		}
		ipc_message_done(&message);
	}
	return exit_code;
}

int command_check(const struct command_line *line)
{
	const char *file = line->operand_count ? line->operands[0] : command_value(line, "-c");
	struct proc_child child;
	OS_AUTO_FD text = -1;
	int err, exit_code;

	if (!file)
		file = COMMAND_DEFAULT_FILE;
	err = os_open(OS_FOLDER_CURRENT, file, OS_OPEN_READ, 0, &text);
	if (!err)
		err = proc_check_start(text, file, &child);
	if (err < 0) {
		command_fault("%s: %s", file, strerror(-err));
		return COMMAND_FAULT;
	}
	exit_code = print_result(&child, file);
	proc_child_end(&child);
	return exit_code;
}
