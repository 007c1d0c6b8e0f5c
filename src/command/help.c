#include "command/command.h"

void command_help_row(const struct command_row *row)
{
	command_print("portcullis %s", row->name);
	for (size_t i = 0; i < COMMAND_OPTIONS_MAX && row->options[i].name; i++) {
		const struct command_option *option = &row->options[i];

		command_print(" [%s%s%s]", option->name, option->value ? " " : "",
			      option->value ? option->value : "");
	}
	command_print("%s%s\n  %s\n", row->operands[0] ? " " : "", row->operands, row->help);
	for (size_t i = 0; i < COMMAND_OPTIONS_MAX && row->options[i].name; i++) {
		const struct command_option *option = &row->options[i];

		command_print("  %-8s %-8s %s\n", option->name, option->value ? option->value : "", option->help);
	}
}

int command_help(const struct command_line *line)
{
	if (line->operand_count) {
		const struct command_row *row = command_find(span_str(line->operands[0]));

		if (!row) {
			command_fault("there is no command %s", line->operands[0]);
			return COMMAND_USAGE;
		}
		command_help_row(row);
		return COMMAND_DONE;
	}
	command_print("portcullis COMMAND [OPTIONS]\n\n");
	for (size_t i = 0; i < command_row_count; i++)
		command_print("  %-8s %-12s %s\n", command_rows[i].name, command_rows[i].operands,
			      command_rows[i].help);
	command_print("\nportcullis help COMMAND says what a command takes.\n");
	return COMMAND_DONE;
}
