#include "command/control.h"
#include "command/text.h"
#include "proc/proc.h"
#include "snapshot/snapshot.h"

enum { RUNNING_MAX = 64 << 20 };

struct trees {
	struct conf_tree *running, *file;
	struct conf_functions own;
};

/* The running text, resolved, from the supervisor. */
static int fetch(const struct command_line *line, struct arena *arena, struct span *ret_bundle)
{
	struct ipc_channel channel;
	struct ipc_message message;
	bool is_over = false, is_there = false;
	int code = command_connect(line, &channel);

	if (code)
		return code;
	is_over = IPC_SEND(&channel, running_text, { 0 }) != 0;
	while (!is_over && !(code = command_wait(&channel, &message))) {
		is_over = message.number == IPC_MESSAGE_answer_end;
		if (message.number == IPC_MESSAGE_answer && message.descriptor_count == 1)
			is_there = os_file_read_fd(message.descriptors[0], RUNNING_MAX, arena,
						   ret_bundle) == 0;
		else if (is_over && message.tail.len)
			command_complain("portcullis: %.*s\n", SPAN_ARG(message.tail));
		ipc_message_done(&message);
	}
	ipc_channel_close(&channel);
	return is_there ? COMMAND_DONE : COMMAND_FAULT;
}

/* The service's environment is what a reload would go by; what it was not asked for comes from ours. */
static bool on_environment(void *owner, struct span name, struct span *ret_value)
{
	struct trees *trees = owner;

	return conf_variable(trees->running, name, ret_value) ||
	       trees->own.environment(trees->own.owner, name, ret_value);
}

static int on_read(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	struct trees *trees = owner;

	return trees->own.read(trees->own.owner, path, ret_text, ret_identity);
}

static int on_list(void *owner, struct span pattern, const struct span **ret_names,
		   size_t *ret_count)
{
	struct trees *trees = owner;

	return trees->own.list(trees->own.owner, pattern, ret_names, ret_count);
}

static int check(struct conf_tree *tree, struct arena *arena)
{
	struct conf_errors errors;
	int result;

	conf_errors_init(&errors, arena);
	result = conf_check(tree, &snapshot_language, &errors);
	if (errors.error_count)
		command_print_errors(tree, &errors);
	return result ? COMMAND_FAULT : COMMAND_DONE;
}

static int read_trees(const struct command_line *line, struct trees *trees, struct arena *arena)
{
	const char *file = command_text_file(line);
	struct conf_functions functions = {
		.owner = trees, .read = on_read, .list = on_list, .environment = on_environment
	};
	struct conf_errors errors;
	struct span text, bundle;
	int code = command_text_read(file, arena, &text);

	if (!code)
		code = fetch(line, arena, &bundle);
	if (code)
		return code;
	trees->own = proc_text_functions(arena);
	conf_errors_init(&errors, arena);
	if (conf_parse_bundle(arena, bundle, &errors, &trees->running) != 0) {
		command_complain("portcullis: the running text cannot be read\n");
		return COMMAND_FAULT;
	}
	code = command_text_parse(file, text, arena, &functions, &trees->file);
	if (!code)
		code = check(trees->running, arena);
	return code ? code : check(trees->file, arena);
}

/* ---- Printing ------------------------------------------------------------------------------------------- */

/* What somebody wrote into a configuration is no order to a terminal. */
static void write_plain(struct writer *out, struct span text)
{
	char *from = out->at;

	write_span(out, text);
	text_make_plain(from, (size_t)(out->at - from));
}

/* `site a.test: ` for what stands in it. */
static void write_blocks(struct writer *out, const struct conf_statement *block,
			 struct arena *arena, bool is_json)
{
	struct span line;

	if (!block)
		return;
	write_blocks(out, block->parent, arena, is_json);
	line = conf_canonical(block, false, arena);
	if (is_json && block->parent)
		write_byte(out, ',');
	if (is_json)
		write_json(out, line);
	else
		write_plain(out, line);
	if (!is_json)
		write_str(out, ": ");
}

static const struct {
	const char *sign, *word;
} kinds[] = {
	[CONF_ADDED] = { "+", "added" },
	[CONF_REMOVED] = { "-", "removed" },
	[CONF_CHANGED] = { "~", "changed" },
	[CONF_MOVED] = { ">", "moved" },
};

static void write_line(struct writer *out, const struct conf_difference *one, struct span file,
		       struct arena *arena)
{
	write_format(out, "%s ", kinds[one->kind].sign);
	write_plain(out, file);
	write_format(out, ":%u:%u: ", one->place.line, one->place.column);
	write_blocks(out, one->block, arena, false);
	write_plain(out, one->line);
	if (one->was.len) {
		write_str(out, " (was: ");
		write_plain(out, one->was);
		write_byte(out, ')');
	}
	write_byte(out, '\n');
}

static void write_object(struct writer *out, const struct conf_difference *one, struct span file,
			 struct arena *arena)
{
	write_format(out, "{\"change\":\"%s\",\"file\":", kinds[one->kind].word);
	write_json(out, file);
	write_format(out, ",\"line\":%u,\"column\":%u,\"in\":[", one->place.line,
		     one->place.column);
	write_blocks(out, one->block, arena, true);
	write_str(out, "],\"statement\":");
	write_json(out, one->line);
	if (one->was.len) {
		write_str(out, ",\"was\":");
		write_json(out, one->was);
	}
	write_byte(out, '}');
}

static size_t size_of(const struct conf_difference *one)
{
	size_t size = 4096 + (one->line.len + one->was.len) * 6;

	for (const struct conf_statement *block = one->block; block; block = block->parent) {
		for (size_t i = 0; i < block->word_count; i++)
			size += block->words[i].text.len * 12 + 8;
	}
	return size;
}

static int print(const struct conf_difference *first, const struct trees *trees,
		 struct arena *arena, bool is_json)
{
	if (is_json)
		os_out(SPAN("["));
	for (const struct conf_difference *one = first; one; one = one->next) {
		const struct conf_tree *tree =
			one->kind == CONF_REMOVED ? trees->running : trees->file;
		struct span file = tree->files[one->place.file].name;
		size_t size = size_of(one) + file.len * 6;
		char *text = heap_alloc(size);
		struct writer out = writer_of(text, text ? size : 0);

		if (is_json)
			write_object(&out, one, file, arena);
		else
			write_line(&out, one, file, arena);
		if (is_json && one->next)
			write_str(&out, ",\n");
		os_out(writer_done(&out));
		heap_free(text);
		if (!out.ok)
			return COMMAND_FAULT;
	}
	if (is_json)
		os_out(SPAN("]\n"));
	return first ? COMMAND_FAULT : COMMAND_DONE;
}

static int diff_run(const struct command_line *line)
{
	struct conf_difference *first;
	struct trees trees = { 0 };
	struct arena arena;
	int code;

	arena_init(&arena, 0);
	code = read_trees(line, &trees, &arena);
	if (!code && conf_diff(trees.running, trees.file, &arena, &first) < 0)
		code = COMMAND_FAULT;
	else if (!code)
		code = print(first, &trees, &arena, command_has(line, "--json"));
	arena_fini(&arena);
	return code;
}

const struct command command_diff = {
	.name = "diff",
	.form = "[FILE] [--json] [-c FILE]",
	.help = "say what FILE would change in the running service",
	.details = "0: nothing; 1: each statement that was added, removed, changed or moved, or a "
		   "fault.",
	.operands_max = 1,
	.options = { COMMAND_FILE_OPTION, { "--json", NULL, "as JSON" } },
	.run = diff_run,
};
