#include "command/control.h"
#include "command/text.h"

#include <string.h>

#include "proc/proc.h"

enum { CONFIRM_MAX_S = 24 * 3600 };

/* --confirm TIME. 0, or COMMAND_USAGE. */
static int confirm_of(const struct command_line *line, uint32_t *ret_ms)
{
	static const struct conf_argument argument = { .type = CONF_DURATION,
						       .minimum = OS_SECOND,
						       .maximum = CONFIRM_MAX_S * OS_SECOND };
	const char *text = command_value(line, "--confirm"), *reason = NULL;
	struct conf_value value;
	struct arena arena;
	int result;

	*ret_ms = 0;
	if (!text)
		return 0;
	arena_init(&arena, 0);
	result = conf_value_parse(&arena, &argument, SPAN(""), span_str(text), &value, &reason);
	arena_fini(&arena);
	if (result || value.number < OS_SECOND || value.number > CONFIRM_MAX_S * OS_SECOND)
		return command_wrong(line, "--confirm is a time from 1s to 24h, like 60s");
	*ret_ms = (uint32_t)(value.number / OS_MS);
	return 0;
}

static int seal(const char *file, int *ret_fd)
{
	struct arena arena;
	struct span text;
	int code, err;

	arena_init(&arena, 0);
	code = command_text_read(file, &arena, &text);
	if (!code && conf_is_json(text)) {
		command_complain("%s: it is JSON: `portcullis config` makes a text of it\n", file);
		code = COMMAND_FAULT;
	}
	if (!code) {
		err = proc_seal_text("text", text, ret_fd);
		if (err < 0)
			command_complain("portcullis apply: %s\n", strerror(-err));
		code = err < 0 ? COMMAND_FAULT : COMMAND_DONE;
	}
	arena_fini(&arena);
	return code;
}

static int apply_run(const struct command_line *line)
{
	struct ipc_apply body = { 0 };
	struct ipc_channel channel;
	OS_AUTO_FD text = -1;
	int code = confirm_of(line, &body.confirm_ms);

	if (!code)
		code = seal(line->operands[0], &text);
	if (!code)
		code = command_connect(line, &channel);
	if (code)
		return code;
	code = COMMAND_FAULT;
	if (ipc_send(&channel, IPC_MESSAGE_apply, &body, SPAN_NONE, &text, 1) == 0)
		code = command_print_answers(&channel);
	ipc_channel_close(&channel);
	return code;
}

static int rollback_run(const struct command_line *line)
{
	struct ipc_rollback body = { .steps = 1 };
	struct ipc_channel channel;
	uint64_t steps = 1;
	int code = confirm_of(line, &body.confirm_ms);

	if (!code && line->operand_count &&
	    (!parse_u64(span_str(line->operands[0]), 10, &steps) || !steps))
		code = command_wrong(line, "N is a number from 1 to 10");
	body.steps = (uint32_t)steps;
	if (!code)
		code = command_connect(line, &channel);
	if (code)
		return code;
	code = COMMAND_FAULT;
	if (ipc_send(&channel, IPC_MESSAGE_rollback, &body, SPAN_NONE, NULL, 0) == 0)
		code = command_print_answers(&channel);
	ipc_channel_close(&channel);
	return code;
}

static int confirm_run(const struct command_line *line)
{
	struct ipc_channel channel;
	int code = command_connect(line, &channel);

	if (code)
		return code;
	code = COMMAND_FAULT;
	if (IPC_SEND(&channel, confirm, { 0 }) == 0)
		code = command_print_answers(&channel);
	ipc_channel_close(&channel);
	return code;
}

const struct command command_apply = {
	.name = "apply",
	.form = "FILE [--confirm TIME] [-c FILE]",
	.help = "make FILE the running service's configuration, in its file too",
	.details =
		"It returns when every worker has it, or says what is wrong with it: then nothing "
		"changed.",
	.operands_min = 1,
	.operands_max = 1,
	.options = { COMMAND_FILE_OPTION,
		     { "--confirm", "TIME",
		       "without `confirm` in this time the one before is back" } },
	.run = apply_run,
};

const struct command command_confirm = {
	.name = "confirm",
	.form = "[-c FILE]",
	.help = "keep what `apply --confirm` made",
	.options = { COMMAND_FILE_OPTION },
	.run = confirm_run,
};

const struct command command_rollback = {
	.name = "rollback",
	.form = "[N] [--confirm TIME] [-c FILE]",
	.help = "apply the configuration before this one, or the N-th before it",
	.operands_max = 1,
	.options = { COMMAND_FILE_OPTION,
		     { "--confirm", "TIME",
		       "without `confirm` in this time the one before is back" } },
	.run = rollback_run,
};
