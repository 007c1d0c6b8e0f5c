#include "command/command.h"
#include "os/os.h"
#include "proc/proc.h"

enum { CHECK_WAIT_MS = 35000, CHECK_KEYS_MAX = 256, CHECK_SAID_MAX = 256 * 1024 };

/* Keys are compared with their certificates after the job: by a vault, which alone reads keys. */
struct key_row {
	struct ipc_key_file file;
	struct span tail; /* in the arena */
	int fd;
};
struct check_keys {
	struct arena arena;
	struct key_row rows[CHECK_KEYS_MAX];
	size_t count;
	bool is_json; /* findings are gathered in `said` and printed at the end */
	struct writer said;
	char said_text[CHECK_SAID_MAX];
};

/* ---- What is found --------------------------------------------------------------------------------------- */

static void say(struct check_keys *keys, struct span text)
{
	if (keys->is_json)
		write_span(&keys->said, text);
	else
		os_err(text);
}

/* `FILE:LINE:COLUMN: …` */
static bool cut_place(struct span *line, struct span *ret_file, struct span *ret_line,
		      struct span *ret_column)
{
	struct span rest, number;
	uint64_t value;

	for (size_t at = 0; at < line->len; at++) {
		rest = span_skip(*line, at);
		if (rest.ptr[0] != ':' ||
		    !span_cut(&(struct span){ rest.ptr + 1, rest.len - 1 }, ':', ret_line))
			continue;
		number = *ret_line;
		rest = span_skip(rest, 1 + number.len);
		if (!parse_u64(number, UINT32_MAX, &value) || !rest.len)
			continue;
		rest = span_skip(rest, 1);
		*ret_column = span_first(rest, span_find_byte(rest, ':'));
		if (!parse_u64(*ret_column, UINT32_MAX, &value) ||
		    !span_starts_with(span_skip(rest, ret_column->len), SPAN(": ")))
			continue;
		*ret_file = span_first(*line, at);
		*line = span_skip(rest, ret_column->len + 2);
		return true;
	}
	return false;
}

static void write_member(struct writer *out, const char *name, struct span value)
{
	write_format(out, ",\"%s\":", name);
	write_json(out, value);
}

/* One finding: its first line. Those below it, which are indented, show the place. */
static void print_finding(struct span line, struct span nearest, bool is_first)
{
	static const char *const kinds[] = { "error", "warning" };
	char text[16384];
	struct writer out = writer_of(text, sizeof(text));
	struct span file, number, column;
	bool has_place = cut_place(&line, &file, &number, &column);
	const char *kind = has_place ? "note" : "error";

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct span word = span_str(kinds[i]);

		if (!span_starts_with(line, word) ||
		    !span_starts_with(span_skip(line, word.len), SPAN(": ")))
			continue;
		kind = kinds[i];
		line = span_skip(line, word.len + 2);
	}
	write_format(&out, "%s{\"kind\":\"%s\"", is_first ? "" : ",\n", kind);
	write_member(&out, "message", line);
	if (has_place) {
		write_member(&out, "file", file);
		write_format(&out, ",\"line\":%.*s,\"column\":%.*s", SPAN_ARG(number),
			     SPAN_ARG(column));
	}
	if (nearest.len)
		write_member(&out, "nearest", nearest);
	write_byte(&out, '}');
	os_out(writer_done(&out));
}

static void print_findings(const struct check_keys *keys)
{
	static const char asks[] = "    did you mean \"";
	struct span rest = writer_done(&keys->said), line, finding = SPAN_NONE, nearest = SPAN_NONE;
	bool is_first = true;

	command_print("[");
	while (span_cut(&rest, '\n', &line)) {
		if (span_starts_with(line, span_str(asks))) {
			nearest = span_skip(line, sizeof(asks) - 1);
			nearest = span_first(nearest, span_find_byte(nearest, '"'));
		}
		if (!line.len || line.ptr[0] == ' ')
			continue;
		if (finding.len)
			print_finding(finding, nearest, is_first);
		is_first = is_first && !finding.len;
		finding = line;
		nearest = SPAN_NONE;
	}
	if (finding.len)
		print_finding(finding, nearest, is_first);
	command_print("]\n");
}

/* ---- Keys ------------------------------------------------------------------------------------------------ */

static void keys_add(struct check_keys *keys, struct ipc_message *message)
{
	const struct ipc_plan_row *row = message->body;
	struct key_row *key = &keys->rows[keys->count];

	if (row->what != IPC_PLAN_CERTIFICATE_FILE || message->descriptor_count != 1 ||
	    keys->count == CHECK_KEYS_MAX)
		return;
	key->tail = arena_copy(&keys->arena, message->tail);
	if (!key->tail.ptr)
		return;
	key->file = (struct ipc_key_file){ .change = 1, .id = row->id, .line = row->line };
	for (size_t i = 0; i < sizeof(key->file.spki_hash); i++)
		key->file.spki_hash[i] = row->spki_hash[i];
	key->fd = TAKE_FD(message->descriptors[0]);
	keys->count++;
}

static int keys_send(struct check_keys *keys, struct ipc_channel *vault)
{
	struct ipc_prepare prepare = { .change = 1 };
	int failed = 0;

	for (size_t i = 0; i < keys->count && !failed; i++)
		failed = ipc_send(vault, IPC_MESSAGE_key_file, &keys->rows[i].file,
				  keys->rows[i].tail, &keys->rows[i].fd, 1);
	if (!failed)
		failed = ipc_send(vault, IPC_MESSAGE_prepare, &prepare, SPAN_NONE, NULL, 0);
	ipc_channel_flush(vault);
	return failed;
}

/* 0: every key fits. */
static int keys_compare(struct check_keys *keys)
{
	struct proc_child vault;
	struct ipc_message message;
	bool is_over = false, is_faulty = false;

	if (!keys->count)
		return COMMAND_DONE;
	if (proc_keys_start(&vault)) {
		say(keys, SPAN("keys: could not look, no process could be started for it\n"));
		return COMMAND_FAULT;
	}
	is_faulty = keys_send(keys, &vault.channel) != 0;
	while (!is_faulty && !is_over && ipc_wait(&vault.channel, CHECK_WAIT_MS, &message) == 0) {
		is_over = message.number == IPC_MESSAGE_prepared;
		if (message.number == IPC_MESSAGE_refused) {
			say(keys, message.tail);
			is_faulty = true;
		}
		ipc_message_done(&message);
	}
	if (!is_over && !is_faulty)
		say(keys, SPAN("keys: could not look, the process that reads them ended\n"));
	proc_child_end(&vault);
	return is_over && !is_faulty ? COMMAND_DONE : COMMAND_FAULT;
}

/* Prints what the job says. Its verdict: an exit code. */
static int check_listen(struct proc_child *child, const char *file, struct check_keys *keys)
{
	int code = COMMAND_FAULT;

	for (;;) {
		struct ipc_message message;

		if (ipc_wait(&child->channel, CHECK_WAIT_MS, &message)) {
			say(keys, span_str(file));
			say(keys, SPAN(": the check ended without a result\n"));
			return COMMAND_FAULT;
		}
		if (message.number == IPC_MESSAGE_diagnostic) {
			const struct ipc_diagnostic *body = message.body;

			say(keys, message.tail);
			if (body->is_error == IPC_DIAGNOSTIC_USAGE)
				code = COMMAND_USAGE;
		} else if (message.number == IPC_MESSAGE_plan_row) {
			keys_add(keys, &message);
		} else if (message.number == IPC_MESSAGE_compiled) {
			const struct ipc_compiled *body = message.body;
			uint32_t errors = body->errors, warnings = body->warnings;

			ipc_message_done(&message);
			if (!errors)
				code = keys_compare(keys);
			if (errors || code)
				return code;
			if (!keys->is_json)
				command_print("%s: fine%s\n", file,
					      warnings ? ", with warnings" : "");
			return COMMAND_DONE;
		}
		ipc_message_done(&message);
	}
}

/* The file, the job, the keys: an exit code. */
static int check_file(struct check_keys *keys, const char *file)
{
	struct proc_child child;
	OS_AUTO_FD text = -1;
	int code, failed = os_open(OS_FOLDER_CURRENT, file, OS_OPEN_READ, 0, &text);

	if (failed) {
		say(keys, span_str(file));
		say(keys, failed == -ENOENT ? SPAN(": there is no such file\n")
					    : SPAN(": it cannot be read\n"));
		return COMMAND_FAULT;
	}
	failed = proc_check_start(text, file, &child);
	if (failed) {
		say(keys, span_str(file));
		say(keys, SPAN(": the check could not be started\n"));
		return COMMAND_FAULT;
	}
	code = check_listen(&child, file, keys);
	proc_child_end(&child);
	return code;
}

static int check_run(const struct command_line *line)
{
	const char *file = line->operand_count ? line->operands[0] : command_value(line, "-c");
	struct check_keys *keys = heap_alloc(sizeof(*keys));
	int code;

	if (!keys)
		return COMMAND_FAULT;
	arena_init(&keys->arena, 0);
	keys->said = writer_of(keys->said_text, sizeof(keys->said_text));
	keys->is_json = command_has(line, "--json");
	code = check_file(keys, file ? file : "/etc/portcullis/portcullis.conf");
	if (keys->is_json)
		print_findings(keys);
	for (size_t i = 0; i < keys->count; i++)
		os_close(keys->rows[i].fd);
	arena_fini(&keys->arena);
	heap_free(keys);
	return code;
}

const struct command command_check = {
	.name = "check",
	.form = "[FILE] [--json]",
	.help = "say whether a configuration is right, and where it is not",
	.operands_max = 1,
	.options = { { "-c", "FILE", "the same as FILE (/etc/portcullis/portcullis.conf)" },
		     { "--json", NULL, "what is found, as JSON" } },
	.run = check_run,
};
