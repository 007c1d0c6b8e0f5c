#include "command/command.h"
#include "proc/proc.h"

int command_run(const struct command_line *line)
{
	const char *file = command_value(line, "-c");
	struct proc_supervisor_options options = { .config_path = file ? file : COMMAND_DEFAULT_FILE };

	return proc_supervisor_main(&options);
}
