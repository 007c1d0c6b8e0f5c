#include "command/command.h"
#include "os/os.h"
#include "proc/proc.h"

enum { CHECK_WAIT_MS = 35000 };

/* Prints what the job says. Its verdict: an exit code. */
static int check_listen(struct proc_child *child, const char *file)
{
	int code = COMMAND_FAULT;

	for (;;) {
		struct ipc_message message;

		if (ipc_wait(&child->channel, CHECK_WAIT_MS, &message)) {
			command_complain("%s: the check ended without a result\n", file);
			return COMMAND_FAULT;
		}
		if (message.number == IPC_MESSAGE_diagnostic) {
			const struct ipc_diagnostic *body = message.body;

			os_err(message.tail);
			if (body->is_error == IPC_DIAGNOSTIC_USAGE)
				code = COMMAND_USAGE;
		} else if (message.number == IPC_MESSAGE_compiled) {
			const struct ipc_compiled *body = message.body;
			uint32_t errors = body->errors, warnings = body->warnings;

			ipc_message_done(&message);
			if (errors)
				return code;
			command_print("%s: fine%s\n", file, warnings ? ", with warnings" : "");
			return COMMAND_DONE;
		}
		ipc_message_done(&message);
	}
}

static int check_run(const struct command_line *line)
{
	const char *file = line->operand_count ? line->operands[0] : command_value(line, "-c");
	struct proc_child child;
	OS_AUTO_FD text = -1;
	int failed, code;

	if (!file)
		file = "/etc/portcullis/portcullis.conf";
	failed = os_open(OS_FOLDER_CURRENT, file, OS_OPEN_READ, 0, &text);
	if (failed) {
		command_complain("%s: %s\n", file, failed == -ENOENT ? "there is no such file" : "it cannot be read");
		return COMMAND_FAULT;
	}
	failed = proc_check_start(text, file, &child);
	if (failed) {
		command_complain("%s: the check could not be started (%d)\n", file, -failed);
		return COMMAND_FAULT;
	}
	code = check_listen(&child, file);
	proc_child_end(&child);
	return code;
}

const struct command command_check = {
	.name = "check",
	.form = "[FILE]",
	.help = "say whether a configuration is right, and where it is not",
	.operands_max = 1,
	.options = { { "-c", "FILE", "the same as FILE (/etc/portcullis/portcullis.conf)" } },
	.run = check_run,
};
