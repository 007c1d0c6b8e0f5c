#include "command/control.h"
#include "proc/proc.h"

static int run_run(const struct command_line *line)
{
	const char *file = command_value(line, "-c");
	struct proc_supervisor_options options = {
		.config_path = file ? file : "/etc/portcullis/portcullis.conf"
	};
	struct span state, control;
	struct arena arena;
	int code;

	arena_init(&arena, 0);
	if (command_state(options.config_path, &arena, &state, &control) == 0)
		options.state_hint = arena_cstr(&arena, state);
	code = proc_supervisor_main(&options);
	arena_fini(&arena);
	return code;
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
