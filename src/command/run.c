#include "command/command.h"
#include "proc/proc.h"

static int run_run(const struct command_line *line)
{
	const char *file = command_value(line, "-c");
	struct proc_supervisor_options options = {
		.config_path = file ? file : "/etc/portcullis/portcullis.conf"
	};

	return proc_supervisor_main(&options);
}

const struct command command_run = {
	.name = "run",
	.form = "[-c FILE]",
	.help = "serve, in the foreground, until SIGTERM",
	.details = "SIGHUP reloads. SIGTERM and SIGINT stop: what is under way has 30 s; a second "
		   "one ends now.",
	.options = { { "-c", "FILE", "the configuration (/etc/portcullis/portcullis.conf)" } },
	.run = run_run,
};
