#include "command/text.h"

#include <string.h>

#include "proc/proc.h"

static int replace(const char *file, struct span text)
{
	struct proc_store store;
	int err = proc_store_begin(&store, file, text);

	if (!err)
		err = proc_store_finish(&store);
	if (err < 0)
		command_complain("%s: it was not written: %s\n", file,
				 err == -ELOOP ? "it is a symlink" : strerror(-err));
	return err < 0 ? COMMAND_FAULT : COMMAND_DONE;
}

static int fmt_file(const struct command_line *line, struct arena *arena)
{
	const char *file = command_text_file(line);
	struct span text, formatted;
	struct conf_tree *tree = NULL;
	struct conf_errors errors;
	int result = command_text_read(file, arena, &text);

	if (result)
		return result;
	conf_errors_init(&errors, arena);
	result = conf_format(arena, span_str(file), text, &errors, &tree, &formatted);
	if (result < 0)
		command_complain("%s: %s\n", file, strerror(-result));
	else if (result)
		command_print_errors(tree, &errors);
	if (result)
		return COMMAND_FAULT;
	if (command_has(line, "--check")) {
		if (span_equal(text, formatted))
			return COMMAND_DONE;
		command_complain("%s: `portcullis fmt` would lay it out differently\n", file);
		return COMMAND_FAULT;
	}
	if (command_has(line, "--write"))
		return span_equal(text, formatted) ? COMMAND_DONE : replace(file, formatted);
	os_out(formatted);
	return COMMAND_DONE;
}

static int fmt_run(const struct command_line *line)
{
	struct arena arena;
	int code;

	if (command_has(line, "--check") && command_has(line, "--write"))
		return command_wrong(line, "--check changes nothing and --write does");
	arena_init(&arena, 0);
	code = fmt_file(line, &arena);
	arena_fini(&arena);
	return code;
}

const struct command command_fmt = {
	.name = "fmt",
	.form = "[FILE] [--check | --write]",
	.help = "lay a configuration's file out in the one way",
	.details = "It prints it. Comments, blank lines, includes and variables stay as they are, "
		   "and so "
		   "does what it means.",
	.operands_max = 1,
	.options = { { "-c", "FILE", "the same as FILE (/etc/portcullis/portcullis.conf)" },
		     { "--check", NULL, "only say whether it is laid out so: 0 or 1" },
		     { "--write", NULL, "into the file" } },
	.run = fmt_run,
};
