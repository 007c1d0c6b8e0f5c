/* command: the subcommands: one table (command.c), one file each.
 *
 * A command is a process with a channel: it asks the running service over control.sock and prints. Options may
 * stand before, between and after operands. Exit codes: COMMAND_DONE, COMMAND_FAULT, COMMAND_USAGE. */
#pragma once

#include "ipc/ipc.h"
#include "os/os.h"

enum { COMMAND_DONE = 0, COMMAND_FAULT = 1, COMMAND_USAGE = 2 };
enum { COMMAND_OPERANDS_MAX = 64, COMMAND_OPTIONS_MAX = 8, COMMAND_VALUES_MAX = 32 };

struct command_line;

struct command_option {
	const char *name;  /* "--json", "-c"; NULL ends the list */
	const char *value; /* as help writes it: "FILE"; NULL: a flag */
	const char *help;
};

struct command_row {
	const char *name;
	const char *operands; /* as help writes them: "[FILE]" */
	const char *help;     /* one sentence */
	struct command_option options[COMMAND_OPTIONS_MAX];
	size_t operand_min, operand_max;
	int (*run)(const struct command_line *line);
};

struct command_line {
	const struct command_row *row;
	const char *operands[COMMAND_OPERANDS_MAX];
	size_t operand_count;
	struct {
		const struct command_option *option;
		const char *value;
	} given[COMMAND_VALUES_MAX];
	size_t given_count;
};

/* `portcullis` with these arguments. Exit code. */
int command_main(int argument_count, char **arguments);
extern const struct command_row command_rows[];
extern const size_t command_row_count;
const struct command_row *command_find(struct span name);

/* For the commands. */
bool command_has(const struct command_line *line, const char *name);
const char *command_value(const struct command_line *line, const char *name); /* the last one; NULL: not given */
void command_print(const char *format, ...) PRINTF_LIKE(1, 2); /* standard output */
void command_fault(const char *format, ...) PRINTF_LIKE(1, 2); /* `portcullis: …` on standard error */
/* A channel to the running service, found by -c FILE's `state`, the environment or the defaults. 0;
 * COMMAND_FAULT after it has said `not running`. */
int command_connect(const struct command_line *line, struct ipc_channel *ret_channel) MUST_CHECK;
/* Waits for the next message however long that takes. 0, or COMMAND_FAULT after it has said that the service
 * is gone. */
int command_wait(struct ipc_channel *channel, struct ipc_message *ret_message) MUST_CHECK;

int command_run(const struct command_line *line);
int command_check(const struct command_line *line);
int command_reload(const struct command_line *line);
int command_stop(const struct command_line *line);
int command_status(const struct command_line *line);
int command_version(const struct command_line *line);
int command_help(const struct command_line *line);
/* Usage of one command. */
void command_help_row(const struct command_row *row);

#define COMMAND_DEFAULT_FILE "/etc/portcullis/portcullis.conf"
