#include "command/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/conf.h"
#include "proc/proc.h"

#define FILE_OPTION { "-c", "FILE", "the configuration (" COMMAND_DEFAULT_FILE ")" }
#define JSON_OPTION { "--json", NULL, "as JSON" }

const struct command_row command_rows[] = {
	{ "run", "", "the service, in the foreground", { FILE_OPTION }, 0, 0, command_run },
	{ "check", "[FILE]", "is this configuration right?", { FILE_OPTION }, 0, 1, command_check },
	{ "reload", "", "makes the running service read its configuration again", { FILE_OPTION }, 0, 0,
	  command_reload },
	{ "stop", "", "ends the running service", { FILE_OPTION, { "--now", NULL, "without waiting for requests" } },
	  0, 0, command_stop },
	{ "status", "", "the processes of the running service", { FILE_OPTION, JSON_OPTION }, 0, 0, command_status },
	{ "version", "", "this program and its libraries", { JSON_OPTION }, 0, 0, command_version },
	{ "help", "[COMMAND]", "this list, or one command's options", { { NULL, NULL, NULL } }, 0, 1, command_help },
};
const size_t command_row_count = ARRAY_LEN(command_rows);

const struct command_row *command_find(struct span name)
{
	for (size_t i = 0; i < command_row_count; i++) {
		if (span_equal(span_str(command_rows[i].name), name))
			return &command_rows[i];
	}
	return NULL;
}

/* ---- Printing -------------------------------------------------------------------------------------- */

static struct span format_text(char *buf, size_t size, const char *format, va_list arguments)
{
	int len = vsnprintf(buf, size, format, arguments);

	if (len < 0)
		return SPAN_NONE;
	return span_of(buf, (size_t)len < size ? (size_t)len : size - 1);
}

void command_print(const char *format, ...)
{
	char text[8192];
	va_list arguments;

	va_start(arguments, format);
	os_out(format_text(text, sizeof(text), format, arguments));
	va_end(arguments);
}

void command_fault(const char *format, ...)
{
	char text[8192];
	va_list arguments;

	os_err(SPAN("portcullis: "));
	va_start(arguments, format);
	os_err(format_text(text, sizeof(text), format, arguments));
	va_end(arguments);
	os_err(SPAN("\n"));
}

/* ---- The command line ------------------------------------------------------------------------------ */

bool command_has(const struct command_line *line, const char *name)
{
	for (size_t i = 0; i < line->given_count; i++) {
		if (strcmp(line->given[i].option->name, name) == 0)
			return true;
	}
	return false;
}

const char *command_value(const struct command_line *line, const char *name)
{
	const char *value = NULL;

	for (size_t i = 0; i < line->given_count; i++) {
		if (strcmp(line->given[i].option->name, name) == 0)
			value = line->given[i].value;
	}
	return value;
}

static const struct command_option *option_find(const struct command_row *row, struct span name)
{
	for (size_t i = 0; i < COMMAND_OPTIONS_MAX && row->options[i].name; i++) {
		if (span_equal(span_str(row->options[i].name), name))
			return &row->options[i];
	}
	return NULL;
}

static int unknown_option(const struct command_row *row, struct span name)
{
	struct conf_nearest nearest;

	conf_nearest_init(&nearest, name);
	for (size_t i = 0; i < COMMAND_OPTIONS_MAX && row->options[i].name; i++)
		conf_nearest_offer(&nearest, span_str(row->options[i].name));
	if (nearest.best.len)
		command_fault("%s: there is no option %.*s; did you mean %.*s?", row->name, SPAN_ARG(name),
			      SPAN_ARG(nearest.best));
	else
		command_fault("%s: there is no option %.*s; see portcullis help %s", row->name, SPAN_ARG(name),
			      row->name);
	return COMMAND_USAGE;
}

/* `--name VALUE`, `--name=VALUE`. */
static int take_option(struct command_line *line, char **arguments, int count, int *at)
{
	struct span text = span_str(arguments[*at]);
	size_t equals = text.len > 2 && text.ptr[1] == '-' ? span_find_byte(text, '=') : text.len;
	const struct command_option *option = option_find(line->row, span_first(text, equals));
	const char *value = equals < text.len ? arguments[*at] + equals + 1 : NULL;

	if (!option)
		return unknown_option(line->row, span_first(text, equals));
	if (value && !option->value) {
		command_fault("%s: %s takes no value", line->row->name, option->name);
		return COMMAND_USAGE;
	}
	if (option->value && !value) {
		if (*at + 1 >= count) {
			command_fault("%s: %s wants %s", line->row->name, option->name, option->value);
			return COMMAND_USAGE;
		}
		value = arguments[++*at];
	}
	if (line->given_count == COMMAND_VALUES_MAX) {
		command_fault("%s: too many options", line->row->name);
		return COMMAND_USAGE;
	}
	line->given[line->given_count].option = option;
	line->given[line->given_count++].value = value;
	return 0;
}

static bool is_option(const char *text)
{
	return text[0] == '-' && text[1] != 0;
}

static int parse(struct command_line *line, char **arguments, int count)
{
	bool options_end = false;

	for (int i = 0; i < count; i++) {
		if (!options_end && strcmp(arguments[i], "--") == 0) {
			options_end = true;
		} else if (!options_end && is_option(arguments[i])) {
			int err = take_option(line, arguments, count, &i);

			if (err)
				return err;
		} else if (line->operand_count == line->row->operand_max) {
			command_fault("%s: %s is one too many; see portcullis help %s", line->row->name, arguments[i],
				      line->row->name);
			return COMMAND_USAGE;
		} else {
			line->operands[line->operand_count++] = arguments[i];
		}
	}
	if (line->operand_count < line->row->operand_min) {
		command_fault("%s: %s is missing; see portcullis help %s", line->row->name, line->row->operands,
			      line->row->name);
		return COMMAND_USAGE;
	}
	return 0;
}

static int unknown_command(const char *name)
{
	struct conf_nearest nearest;

	conf_nearest_init(&nearest, span_str(name));
	for (size_t i = 0; i < command_row_count; i++)
		conf_nearest_offer(&nearest, span_str(command_rows[i].name));
	if (nearest.best.len)
		command_fault("there is no command %s; did you mean %.*s?", name, SPAN_ARG(nearest.best));
	else
		command_fault("there is no command %s; see portcullis help", name);
	return COMMAND_USAGE;
}

/* The command's name may itself stand behind options; the first word that is none is it. An option's value
 * (`-c FILE run`) is told from it by the options that take one. */
static int find_name(char **arguments, int count)
{
	for (int i = 1; i < count; i++) {
		if (!is_option(arguments[i]))
			return i;
		if (strcmp(arguments[i], "-c") == 0)
			i++;
	}
	return 0;
}

static bool wants_help(char **arguments, int count)
{
	for (int i = 1; i < count && strcmp(arguments[i], "--") != 0; i++) {
		if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0)
			return true;
	}
	return false;
}

int command_main(int count, char **arguments)
{
	struct command_line line = { 0 };
	char *rest[COMMAND_OPERANDS_MAX + 2 * COMMAND_VALUES_MAX];
	int name = find_name(arguments, count), rest_count = 0, err;

	if (!name && count > 1 && strcmp(arguments[1], "--version") == 0)
		return command_version(&line);
	if (!name) {
		if (!wants_help(arguments, count) && count > 1)
			return unknown_command(arguments[1]);
		command_help(&line);
		return wants_help(arguments, count) ? COMMAND_DONE : COMMAND_USAGE;
	}
	line.row = command_find(span_str(arguments[name]));
	if (!line.row)
		return unknown_command(arguments[name]);
	if (wants_help(arguments, count)) {
		command_help_row(line.row);
		return COMMAND_DONE;
	}
	if (count - 2 > (int)ARRAY_LEN(rest)) {
		command_fault("too many arguments");
		return COMMAND_USAGE;
	}
	for (int i = 1; i < count; i++) {
		if (i != name)
			rest[rest_count++] = arguments[i];
	}
	err = parse(&line, rest, rest_count);
	return err ? err : line.row->run(&line);
}
