#include "command/text.h"

#include <string.h>

#include "proc/proc.h"

enum { TEXT_ERRORS_MAX = 256 * 1024 };

const char *command_text_file(const struct command_line *line)
{
	const char *file = line->operand_count ? line->operands[0] : command_value(line, "-c");

	return file ? file : COMMAND_TEXT_FILE;
}

int command_text_read(const char *file, struct arena *arena, struct span *ret_text)
{
	int err = os_file_read(OS_FOLDER_CURRENT, file, CONF_TEXT_MAX + 1, arena, ret_text);

	if (err < 0)
		command_complain("%s: %s\n", file,
				 err == -ENOENT ? "there is no such file" : strerror(-err));
	return err < 0 ? COMMAND_FAULT : COMMAND_DONE;
}

void command_print_errors(const struct conf_tree *tree, const struct conf_errors *errors)
{
	char *text = heap_alloc(TEXT_ERRORS_MAX);
	struct writer out = writer_of(text, text ? TEXT_ERRORS_MAX : 0);

	conf_errors_write(tree, errors, &out);
	os_err(writer_done(&out));
	heap_free(text);
}

int command_text_parse(const char *file, struct span text, struct arena *arena,
		       const struct conf_functions *functions, struct conf_tree **ret_tree)
{
	struct conf_functions own = proc_text_functions(arena);
	struct conf_tree *tree = NULL;
	struct conf_errors errors;
	int result;

	conf_errors_init(&errors, arena);
	result = (conf_is_json(text) ? conf_parse_json : conf_parse)(
		arena, span_str(file), text, functions ? functions : &own, &errors, &tree);
	if (result < 0)
		command_complain("%s: %s\n", file, strerror(-result));
	else if (errors.count)
		command_print_errors(tree, &errors);
	if (result)
		return COMMAND_FAULT;
	*ret_tree = tree;
	return COMMAND_DONE;
}
