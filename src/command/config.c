#include "command/text.h"
#include "proc/proc.h"

/* Names in what is printed mean the same wherever it is read. */
static const char *absolute(const char *file, struct arena *arena)
{
	struct span folder;
	struct span path;

	if (*file == '/' || os_folder_current(arena, &folder) < 0)
		return file;
	path = arena_format(arena, "%.*s/%s", SPAN_ARG(folder), file);
	return path.ptr ? path.ptr : file;
}

static struct span canonical(const struct conf_tree *tree, struct arena *arena)
{
	struct span text = SPAN_NONE;

	return conf_text(tree, arena, &text) == 0 ? text : SPAN_NONE;
}

static bool has_same_words(const struct conf_statement *a, const struct conf_statement *b)
{
	for (; a && b; a = a->next, b = b->next) {
		for (size_t i = 0; i < a->word_count; i++) {
			if (!span_equal(a->words[i].text, b->words[i].text))
				return false;
		}
		if (!has_same_words(a->first, b->first))
			return false;
	}
	return !a && !b;
}

/* What JSON cannot hold must not be lost silently. */
static int print_as_json(const char *file, const struct conf_tree *tree, struct arena *arena)
{
	struct span json = conf_json(tree, arena);
	struct conf_tree *back = NULL;
	struct conf_errors errors;

	conf_errors_init(&errors, arena);
	if (!json.ptr) {
		command_complain("%s: out of memory\n", file);
		return COMMAND_FAULT;
	}
	if (conf_parse_json(arena, tree->files[0].name, json, NULL, &errors, &back) != 0 ||
	    !has_same_words(tree->first, back->first)) {
		command_complain("%s: it holds bytes that are no UTF-8, and JSON has only that\n",
				 file);
		return COMMAND_FAULT;
	}
	os_out(json);
	return COMMAND_DONE;
}

static int config_file(const struct command_line *line, struct arena *arena)
{
	const char *file = absolute(command_text_file(line), arena);
	struct conf_tree *tree;
	struct span text;
	int code = command_text_read(file, arena, &text);

	if (!code)
		code = command_text_parse(file, text, arena, NULL, &tree);
	if (code)
		return code;
	if (command_has(line, "--json"))
		return print_as_json(file, tree, arena);
	text = canonical(tree, arena);
	if (!text.ptr) {
		command_complain("%s: it cannot be one text\n", file);
		return COMMAND_FAULT;
	}
	os_out(text);
	return COMMAND_DONE;
}

static int config_run(const struct command_line *line)
{
	struct arena arena;
	int code;

	arena_init(&arena, 0);
	code = config_file(line, &arena);
	arena_fini(&arena);
	return code;
}

const struct command command_config = {
	.name = "config",
	.form = "[FILE] [--json]",
	.help = "print a configuration as one text, or as JSON, and JSON as text",
	.details = "Includes stand in their place, and variables are what they are in the "
		   "environment.",
	.operands_max = 1,
	.options = { { "-c", "FILE", "the same as FILE (/etc/portcullis/portcullis.conf)" },
		     { "--json", NULL, "as JSON, which `config` reads too" } },
	.run = config_run,
};
