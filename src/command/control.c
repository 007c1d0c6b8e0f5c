/* Commands that ask the running service over control.sock. */
#include "command/control.h"

#include <string.h>

#include "command/command.h"
#include "conf/conf.h"
#include "proc/proc.h"

enum { TEXT_MAX = 1 << 20, ARENA_MAX = 8 << 20, ANSWER_MS = 60 * 1000 };

/* ---- Finding it ------------------------------------------------------------------------------------ */

/* -c FILE's `state`, as far as it can be seen without reading the whole configuration: a faulty text must not
 * hide a running service. */
static struct span state_statement(const char *file, struct arena *arena)
{
	struct span text, line;

	if (!file || os_file_read(OS_FOLDER_CURRENT, file, TEXT_MAX, arena, &text) < 0)
		return SPAN_NONE;
	while (span_cut(&text, '\n', &line)) {
		struct span word = span_trim(line);

		if (!span_starts_with(word, SPAN("state ")) &&
		    !span_starts_with(word, SPAN("state\t")))
			continue;
		word = span_trim(span_skip(word, 6));
		if (word.len >= 2 && word.ptr[0] == '"')
			return span_first(span_skip(word, 1),
					  span_find_byte(span_skip(word, 1), '"'));
		for (size_t i = 0; i < word.len; i++) {
			if (strchr(" \t\r;#}", word.ptr[i]))
				return span_first(word, i);
		}
		return word;
	}
	return SPAN_NONE;
}

int command_state(const char *file, struct arena *arena, struct span *ret_state,
		  struct span *ret_control)
{
	return proc_state_path(state_statement(file, arena), arena, ret_state, ret_control);
}

int command_open_control(struct span control, struct arena *arena, int *ret_fd)
{
	OS_AUTO_FD folder = -1;
	char *path = arena_cstr(arena, control);
	int err = path ? os_open(OS_FOLDER_CURRENT, path, OS_OPEN_FOLDER, 0, &folder) : -ENOMEM;

	return err ? err : os_connect_packets(folder, "control.sock", ret_fd);
}

static int open_control(const char *file, int *ret_fd)
{
	struct span state, control;
	struct arena arena;
	int err;

	arena_init(&arena, ARENA_MAX);
	err = command_state(file, &arena, &state, &control);
	if (!err)
		err = command_open_control(control, &arena, ret_fd);
	arena_fini(&arena);
	return err;
}

int command_reach(const struct command_line *line, struct ipc_channel *ret_channel)
{
	int fd = -1, err = open_control(command_value(line, "-c"), &fd);

	return err ? err : ipc_channel_open(ret_channel, NULL, fd, IPC_COMMAND, IPC_SUPERVISOR);
}

int command_connect(const struct command_line *line, struct ipc_channel *ret_channel)
{
	int err = command_reach(line, ret_channel);

	if (err) {
		if (err == -ENOENT || err == -ECONNREFUSED)
			command_complain("portcullis: not running\n");
		else
			command_complain("portcullis: the service cannot be asked: %s\n",
					 strerror(-err));
		return COMMAND_FAULT;
	}
	return 0;
}

int command_wait(struct ipc_channel *channel, struct ipc_message *ret_message)
{
	if (ipc_wait(channel, -1, ret_message) == 0)
		return 0;
	command_complain("portcullis: the service has ended\n");
	return COMMAND_FAULT;
}

int command_ask_channel(struct ipc_channel *control, enum ipc_kind kind, uint32_t slot)
{
	struct ipc_message message;
	bool is_over = false;
	int fd = -1;
	int err = kind == IPC_WORKER ? IPC_SEND(control, connect_slot, .kind = kind, .slot = slot)
				     : IPC_SEND(control, connect, .kind = kind);

	if (err)
		return -1;
	while (!is_over && ipc_wait(control, ANSWER_MS, &message) == 0) {
		if (message.number == IPC_MESSAGE_answer && message.descriptor_count && fd < 0)
			fd = TAKE_FD(message.descriptors[0]);
		is_over = message.number == IPC_MESSAGE_answer_end;
		ipc_message_done(&message);
	}
	return fd;
}

/* ---- reload, stop ---------------------------------------------------------------------------------- */

int command_print_answers(struct ipc_channel *channel)
{
	struct ipc_message message;
	int exit_code = -1;

	while (exit_code < 0) {
		if (command_wait(channel, &message))
			return COMMAND_FAULT;
		if (message.number == IPC_MESSAGE_answer_end) {
			exit_code = (int)((const struct ipc_answer_end *)message.body)->exit_code;
			if (message.tail.len && !exit_code)
				command_print("%.*s\n", SPAN_ARG(message.tail));
			else if (message.tail.len)
				command_complain("portcullis: %.*s\n", SPAN_ARG(message.tail));
		} else if (message.number == IPC_MESSAGE_answer) {
			os_err(message.tail);
		}
		ipc_message_done(&message);
	}
	return exit_code;
}

static int reload_run(const struct command_line *line)
{
	struct ipc_channel channel;
	int exit_code = command_connect(line, &channel);

	if (exit_code)
		return exit_code;
	exit_code = COMMAND_FAULT;
	if (IPC_SEND(&channel, reload, { 0 }) == 0)
		exit_code = command_print_answers(&channel);
	ipc_channel_close(&channel);
	return exit_code;
}

static int stop_run(const struct command_line *line)
{
	struct ipc_channel channel;
	struct ipc_message message;
	int exit_code = command_connect(line, &channel);

	if (exit_code)
		return exit_code;
	if (IPC_SEND(&channel, stop, .now = command_has(line, "--now")) != 0)
		exit_code = COMMAND_FAULT;
	/* The end of the channel is the answer: the last process of the service closed it. */
	while (!exit_code && ipc_wait(&channel, -1, &message) == 0)
		ipc_message_done(&message);
	ipc_channel_close(&channel);
	return exit_code;
}

const struct command command_reload = {
	.name = "reload",
	.form = "[-c FILE]",
	.help = "make the running service read its configuration again",
	.details =
		"It returns when every worker has the new one, and prints its number; or it says "
		"what is wrong with it: then nothing changed.",
	.options = { COMMAND_FILE_OPTION },
	.run = reload_run,
};

const struct command command_stop = {
	.name = "stop",
	.form = "[--now] [-c FILE]",
	.help = "end the running service",
	.details = "What is under way has 30 s.",
	.options = { COMMAND_FILE_OPTION,
		     { "--now", NULL, "without waiting for what is under way" } },
	.run = stop_run,
};

/* ---- Its processes ---------------------------------------------------------------------------------- */

static void map_range(const struct ipc_message *message, struct command_process *process)
{
	void *memory;

	memset(&process->range, 0, sizeof(process->range));
	memset(&process->counters, 0, sizeof(process->counters));
	if (!message->descriptor_count ||
	    os_memory_map(message->descriptors[0], IPC_RANGE_SIZE, NULL, 0, &memory) < 0)
		return;
	memcpy(&process->range, memory, sizeof(process->range));
	memcpy(&process->counters, ((const struct ipc_range *)memory)->counters,
	       sizeof(process->counters));
	os_memory_unmap(memory, IPC_RANGE_SIZE);
}

int command_each_process(struct ipc_channel *channel,
			 void (*on_process)(void *owner, const struct command_process *process),
			 void *owner)
{
	struct command_process process;
	struct ipc_message message;
	bool is_over = IPC_SEND(channel, status, { 0 }) != 0;
	int err = 0;

	while (!is_over && !(err = command_wait(channel, &message))) {
		is_over = message.number == IPC_MESSAGE_answer_end;
		if (message.number == IPC_MESSAGE_status_row) {
			process.row = message.body;
			process.remark = message.tail;
			map_range(&message, &process);
			on_process(owner, &process);
		}
		ipc_message_done(&message);
	}
	return err;
}

/* ---- Its ranges -------------------------------------------------------------------------------------- */

static void range_add(struct command_ranges *ranges, const struct ipc_message *message)
{
	const struct ipc_status_row *row = message->body;
	const struct ipc_range *range;
	void *memory;

	if (!heap_grow((void **)&ranges->ranges, &ranges->range_capacity, ranges->count + 1,
		       sizeof(*ranges->ranges)) ||
	    !heap_grow((void **)&ranges->rows, &ranges->row_capacity, ranges->count + 1,
		       sizeof(*ranges->rows)) ||
	    !heap_grow((void **)&ranges->sources, &ranges->source_capacity, ranges->count + 1,
		       sizeof(*ranges->sources))) {
		ranges->is_short = true;
		return;
	}
	if (!message->descriptor_count ||
	    os_memory_map(message->descriptors[0], IPC_RANGE_SIZE, NULL, 0, &memory) < 0)
		return;
	range = memory;
	ranges->ranges[ranges->count] = range;
	ranges->rows[ranges->count] = *row;
	ranges->sources[ranges->count++] = (struct telemetry_source){
		.counters = (const struct telemetry_counters *)range->counters,
		.named = row->kind == IPC_WORKER ? ipc_range_named(range) : NULL,
	};
}

int command_ranges_read(struct ipc_channel *channel, int timeout_ms, struct command_ranges *ranges)
{
	struct ipc_message message;
	bool is_over = false;
	int err = IPC_SEND(channel, status, { 0 }) ? -EPIPE : 0;

	while (!err && !is_over) {
		err = ipc_wait(channel, timeout_ms, &message);
		if (err)
			return err < 0 ? err : -EPIPE;
		is_over = message.number == IPC_MESSAGE_answer_end;
		if (message.number == IPC_MESSAGE_status_row)
			range_add(ranges, &message);
		ipc_message_done(&message);
	}
	return !err && ranges->is_short ? -ENOMEM : err;
}

int command_ranges_open(struct ipc_channel *channel, struct command_ranges *ranges)
{
	int err = command_ranges_read(channel, -1, ranges);

	if (err)
		command_complain("portcullis: %s\n",
				 err == -ENOMEM ? "out of memory" : "the service has ended");
	return err ? COMMAND_FAULT : 0;
}

void command_ranges_close(struct command_ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++)
		os_memory_unmap((void *)(uintptr_t)ranges->ranges[i], IPC_RANGE_SIZE); // NOLINT
	heap_free(ranges->ranges);
	heap_free(ranges->rows);
	heap_free(ranges->sources);
	*ranges = (struct command_ranges){ 0 };
}

struct telemetry_gauges command_gauges(const struct command_ranges *ranges)
{
	struct ipc_gauges sum;

	ipc_ranges_sum(ranges->ranges, ranges->count, &sum);
	return (struct telemetry_gauges){ .connections = sum.connections,
					  .exchanges = sum.exchanges,
					  .processes = sum.processes };
}
