/* command: what a user types. One file per subcommand, one table of them.
 *
 * A command parses no peer's bytes. Exit codes: 0 done, 1 it found or met a fault, 2 used wrongly. Every
 * command takes --help; options may stand before, between and after operands, and `--` ends them. */
#pragma once

#include "base/base.h"

enum { COMMAND_DONE = 0, COMMAND_FAULT = 1, COMMAND_USAGE = 2 };
enum { COMMAND_OPERANDS_MAX = 64, COMMAND_VALUES_MAX = 16 };

struct command_option {
	const char *name;  /* "--listen", or "-c" */
	const char *value; /* "ADDR:PORT", or NULL: a flag */
	const char *help;
};
struct command_given {
	const struct command_option *option;
	const char *value; /* NULL for a flag */
};

/* What stood on the command line, after the subcommand. */
struct command_line {
	const struct command *command;
	const char *program; /* as the user called it: hints repeat it */
	const char *operands[COMMAND_OPERANDS_MAX];
	size_t operand_count;
	struct command_given given[COMMAND_VALUES_MAX];
	size_t given_count;
};

struct command {
	const char *name;
	const char *form;    /* "UPSTREAM... [--name HOST[,HOST]] …" */
	const char *help;    /* one line for `help` */
	const char *details; /* more for --help, or NULL */
	size_t operands_min, operands_max;
	struct command_option options[8];            /* ends with a NULL name */
	int (*run)(const struct command_line *line); /* exit code */
};

extern const struct command command_apply;
extern const struct command command_ca;
extern const struct command command_check;
extern const struct command command_config;
extern const struct command command_confirm;
extern const struct command command_diff;
extern const struct command command_explain;
extern const struct command command_files;
extern const struct command command_fmt;
extern const struct command command_help;
extern const struct command command_metrics;
extern const struct command command_origin;
extern const struct command command_proxy;
extern const struct command command_reload;
extern const struct command command_rollback;
extern const struct command command_run;
extern const struct command command_status;
extern const struct command command_stop;
extern const struct command command_top;
extern const struct command command_upstreams;
extern const struct command command_version;

/* The index-th of all commands, in the order of `help`; NULL behind the last. */
const struct command *command_at(size_t index);
/* All of argv; finds the subcommand, parses, runs. */
int command_main(int argc, char **argv);

/* The value of an option that was given (the last one), or NULL; and the n-th of a repeated one. */
const char *command_value(const struct command_line *line, const char *option);
const char *command_value_at(const struct command_line *line, const char *option, size_t index);
bool command_has(const struct command_line *line, const char *option);

/* Standard output and error; a message ends its line itself. */
void command_print(const char *format, ...) PRINTF_LIKE(1, 2);
void command_complain(const char *format, ...) PRINTF_LIKE(1, 2);
/* "portcullis NAME: …" and how it is used; returns COMMAND_USAGE. */
int command_wrong(const struct command_line *line, const char *format, ...) PRINTF_LIKE(2, 3);
