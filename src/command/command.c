#include "command/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/os.h"

/* clang-format off */
static const struct command *const commands[] = {
	&command_run,
	&command_proxy,
	&command_files,
	&command_check,
	&command_fmt,
	&command_config,
	&command_diff,
	&command_explain,
	&command_reload,
	&command_apply,
	&command_confirm,
	&command_rollback,
	&command_stop,
	&command_status,
	&command_metrics,
	&command_top,
	&command_upstreams,
	&command_origin,
	&command_ca,
	&command_version,
	&command_help,
};
/* clang-format on */

/* ---- Printing ------------------------------------------------------------------------------------------- */

static void print_to(int (*put)(struct span text), const char *format, va_list arguments)
{
	char text[16384];
	int len = vsnprintf(text, sizeof(text), format, arguments);

	if (len > 0)
		put(span_of(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1));
}

void command_print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_to(os_out, format, arguments);
	va_end(arguments);
}

void command_complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_to(os_err, format, arguments);
	va_end(arguments);
}

int command_wrong(const struct command_line *line, const char *format, ...)
{
	va_list arguments;

	command_complain("portcullis %s: ", line->command->name);
	va_start(arguments, format);
	print_to(os_err, format, arguments);
	va_end(arguments);
	command_complain("\nusage: portcullis %s %s\n", line->command->name, line->command->form);
	return COMMAND_USAGE;
}

/* ---- Options --------------------------------------------------------------------------------------------- */

const char *command_value_at(const struct command_line *line, const char *option, size_t index)
{
	for (size_t i = 0; i < line->given_count; i++) {
		if (strcmp(line->given[i].option->name, option) == 0 && index-- == 0)
			return line->given[i].value;
	}
	return NULL;
}

const char *command_value(const struct command_line *line, const char *option)
{
	const char *value = NULL;

	for (size_t i = 0; i < line->given_count; i++) {
		if (strcmp(line->given[i].option->name, option) == 0)
			value = line->given[i].value;
	}
	return value;
}

bool command_has(const struct command_line *line, const char *option)
{
	for (size_t i = 0; i < line->given_count; i++) {
		if (strcmp(line->given[i].option->name, option) == 0)
			return true;
	}
	return false;
}

static void print_help(const struct command *command)
{
	command_print("usage: portcullis %s %s\n\n%s.\n", command->name, command->form,
		      command->help);
	if (command->details)
		command_print("\n%s\n", command->details);
	if (command->options[0].name)
		command_print("\n");
	for (const struct command_option *option = command->options; option->name; option++) {
		char form[64];

		snprintf(form, sizeof(form), "%s %s", option->name,
			 option->value ? option->value : "");
		command_print("  %-26s %s\n", form, option->help);
	}
}

/* `--name VALUE` or `--name=VALUE`. 0, or COMMAND_USAGE. */
static int parse_option(struct command_line *line, char **argv, int argc, int *at)
{
	struct span word = span_str(argv[*at]), name = span_first(word, span_find_byte(word, '='));
	const struct command_option *option = line->command->options;
	const char *value = name.len < word.len ? word.ptr + name.len + 1 : NULL;

	while (option->name && !span_equal(span_str(option->name), name))
		option++;
	if (!option->name)
		return command_wrong(line, "there is no option %.*s", SPAN_ARG(name));
	if (!option->value && value)
		return command_wrong(line, "%s takes no value", option->name);
	if (option->value && !value) {
		if (*at + 1 >= argc)
			return command_wrong(line, "%s needs %s", option->name, option->value);
		value = argv[++*at];
	}
	if (line->given_count == COMMAND_VALUES_MAX)
		return command_wrong(line, "too many options");
	line->given[line->given_count++] = (struct command_given){ option, value };
	return 0;
}

static int parse_line(struct command_line *line, int argc, char **argv)
{
	bool only_operands = false;

	for (int i = 0; i < argc; i++) {
		int wrong;

		if (!only_operands && strcmp(argv[i], "--") == 0) {
			only_operands = true;
			continue;
		}
		if (only_operands || argv[i][0] != '-' || argv[i][1] == '\0') {
			if (line->operand_count == COMMAND_OPERANDS_MAX)
				return command_wrong(line, "too many operands");
			line->operands[line->operand_count++] = argv[i];
			continue;
		}
		wrong = parse_option(line, argv, argc, &i);
		if (wrong)
			return wrong;
	}
	if (line->operand_count < line->command->operands_min)
		return command_wrong(line, "an operand is missing");
	if (line->operand_count > line->command->operands_max)
		return command_wrong(line, "what is `%s` for?",
				     line->operands[line->command->operands_max]);
	return 0;
}

/* ---- Choosing ---------------------------------------------------------------------------------------------- */

const struct command *command_at(size_t index)
{
	return index < ARRAY_LEN(commands) ? commands[index] : NULL;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

static size_t distance(const char *a, const char *b)
{
	size_t row[32], len_b = strlen(b) < 31 ? strlen(b) : 31;

	for (size_t i = 0; i <= len_b; i++)
		row[i] = i;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t k = 0; k < len_b; k++) {
			size_t change = corner + (a[i] != b[k]),
			       best = row[k] < row[k + 1] ? row[k] : row[k + 1];

			corner = row[k + 1];
			row[k + 1] = best + 1 < change ? best + 1 : change;
		}
	}
	return row[len_b];
}

static int unknown_command(const char *name)
{
	const struct command *nearest = NULL;
	size_t best = 3;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		size_t d = strlen(name) < 30 ? distance(name, commands[i]->name) : best;

		if (d < best) {
			best = d;
			nearest = commands[i];
		}
	}
	command_complain("portcullis: there is no command `%s`", name);
	if (nearest)
		command_complain("; did you mean `%s`?", nearest->name);
	command_complain("\n`portcullis help` lists them.\n");
	return COMMAND_USAGE;
}

static int help_run(const struct command_line *line)
{
	if (line->operand_count) {
		const struct command *command = command_find(line->operands[0]);

		if (!command)
			return unknown_command(line->operands[0]);
		print_help(command);
		return COMMAND_DONE;
	}
	command_print("portcullis: HTTPS on port 443 in front of your application\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		command_print("  portcullis %-8s %s\n", commands[i]->name, commands[i]->help);
	command_print("\n`portcullis COMMAND --help` says more. To begin: portcullis proxy "
		      "127.0.0.1:3000\n");
	return COMMAND_DONE;
}

const struct command command_help = {
	.name = "help",
	.form = "[COMMAND]",
	.help = "list the commands, or explain one",
	.operands_max = 1,
	.run = help_run,
};

/* Version and help are also asked for as options, everywhere. */
static bool asks_for(const char *word, const char *option, const char *short_option)
{
	return strcmp(word, option) == 0 || strcmp(word, short_option) == 0;
}

int command_main(int argc, char **argv)
{
	struct command_line line = { 0 };
	int wrong;

	if (argc < 2 || asks_for(argv[1], "--help", "-h")) {
		line.command = &command_help;
		help_run(&line);
		return argc < 2 ? COMMAND_USAGE : COMMAND_DONE;
	}
	line.program = argv[0];
	line.command =
		asks_for(argv[1], "--version", "-V") ? &command_version : command_find(argv[1]);
	if (!line.command)
		return unknown_command(argv[1]);
	for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (asks_for(argv[i], "--help", "-h")) {
			print_help(line.command);
			return COMMAND_DONE;
		}
	}
	wrong = parse_line(&line, argc - 2, argv + 2);
	return wrong ? wrong : line.command->run(&line);
}
