/* What the service does, each second: on a terminal a screen that is drawn over, elsewhere plain text. */
#include "command/top.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	ANSWER_MS = 3000,
	STEP_MS = 1000,
	PLAIN_COLUMNS = 120,
	COUNT_MAX = 1000000000,
	TEXT_MAX = 256 * 1024,
	/* Of plain text: no screen ends it. */
	PLAIN_ROWS = TOP_LINES_MAX,
};

struct top {
	const struct command_line *line;
	struct top_reading *before, *now; /* memory of two */
	bool has_before, has_now;
	char *text, *shown; /* as drawn; with what a terminal obeys */
	struct top_screen screen;
	char notice[160];
	/* ---- on a terminal ---- */
	struct os_loop *loop;
	struct os_signals signals;
	struct os_watch keys;
	struct os_timer second;
	struct os_terminal terminal;
	int exit_code;
};

/* ---- Reading ---------------------------------------------------------------------------------------------- */

static void take_process(struct top_reading *reading, const struct ipc_status_row *row,
			 const struct ipc_range *range)
{
	struct top_process *process;
	struct os_process_usage usage;

	if (row->kind == IPC_SUPERVISOR) {
		reading->started_ns = row->started_wall_ns > 0 ? (uint64_t)row->started_wall_ns : 0;
		reading->configuration = row->snapshot_serial;
	}
	if (reading->process_count == TOP_PROCESSES)
		return;
	process = &reading->processes[reading->process_count++];
	*process = (struct top_process){
		.kind = row->kind < IPC_KIND_COUNT ? (enum ipc_kind)row->kind : IPC_COMMAND,
		.slot = row->slot,
		.pid = row->pid,
		.state = row->state,
		.restarts = row->restarts,
		.memory_bytes = row->rss_bytes,
		.connections = __atomic_load_n(&range->connections, __ATOMIC_RELAXED),
		.exchanges = __atomic_load_n(&range->exchanges, __ATOMIC_RELAXED),
	};
	if (row->pid && os_process_usage((int)row->pid, &usage) == 0) {
		process->has_cpu = true;
		process->cpu_ns = usage.cpu_ns;
	}
}

/* 0 or a negative error; the reading is then the latest one. */
static int take_reading(struct top *top)
{
	struct command_ranges ranges = { 0 };
	struct ipc_channel channel = { 0 };
	struct top_reading *reading = top->before;
	int err = command_reach(top->line, &channel);

	if (!err)
		err = command_ranges_read(&channel, ANSWER_MS, &ranges);
	ipc_channel_close(&channel);
	if (!err) {
		memset(reading, 0, sizeof(*reading));
		reading->at_ns = os_now_ns();
		reading->wall_ns = os_wall_ns();
		reading->gauges = command_gauges(&ranges);
		top_reading_take(reading, ranges.sources, ranges.count);
		for (size_t i = 0; i < ranges.count; i++)
			take_process(reading, &ranges.rows[i], ranges.ranges[i]);
		top->before = top->now;
		top->now = reading;
		top->has_before = top->has_now;
		top->has_now = true;
		/* Another service's counters began at 0. */
		if (top->has_before && top->before->started_ns != top->now->started_ns)
			top->has_before = false;
	}
	command_ranges_close(&ranges);
	return err;
}

static const char *why_not(int err)
{
	if (err == -ENOENT || err == -ECONNREFUSED)
		return "not running";
	if (err == -ETIMEDOUT)
		return "the service does not answer";
	if (err == -EPIPE)
		return "the service has ended";
	return strerror(-err);
}

static struct span draw(struct top *top)
{
	struct writer out = writer_of(top->text, TEXT_MAX);

	top_draw(&out, top->has_before ? top->before : NULL, top->has_now ? top->now : NULL,
		 &top->screen);
	return writer_done(&out);
}

/* ---- Plain text -------------------------------------------------------------------------------------------- */

/* `count` times, 0: until nobody reads it any more. */
static int run_plain(struct top *top, uint64_t count)
{
	int err = take_reading(top);

	top->screen.columns = PLAIN_COLUMNS;
	top->screen.rows = PLAIN_ROWS;
	for (uint64_t i = 0; !err && (!count || i < count); i++) {
		os_sleep_ms(STEP_MS);
		err = take_reading(top);
		if (!err && i && os_out(SPAN("\n")) < 0)
			return COMMAND_DONE;
		if (!err && os_out(draw(top)) < 0)
			return COMMAND_DONE;
	}
	if (err)
		command_complain("portcullis: %s\n", why_not(err));
	return err ? COMMAND_FAULT : COMMAND_DONE;
}

/* ---- A terminal -------------------------------------------------------------------------------------------- */

/* Over what stood there, without a blink: each line is ended by clearing its rest, the last one what is below. */
static void show(struct top *top)
{
	struct writer out = writer_of(top->shown, 2 * TEXT_MAX);
	struct span rest, line;
	bool is_first = true;

	if (os_terminal_size(1, &top->screen.columns, &top->screen.rows)) {
		top->screen.columns = 80;
		top->screen.rows = 24;
	}
	rest = draw(top);
	write_str(&out, "\x1b[H");
	while (rest.len && span_cut(&rest, '\n', &line)) {
		if (!is_first)
			write_str(&out, "\r\n");
		is_first = false;
		write_span(&out, line);
		write_str(&out, "\x1b[K");
	}
	write_str(&out, "\x1b[J");
	if (os_out(writer_done(&out)) < 0)
		os_loop_stop(top->loop);
}

static void look(struct top *top)
{
	int err = take_reading(top);
	struct writer out = writer_of(top->notice, sizeof(top->notice) - 1);

	top->screen.notice = NULL;
	if (err) {
		write_format(&out, "%s; trying again each second (q quits)", why_not(err));
		top->notice[writer_done(&out).len] = '\0';
		top->screen.notice = top->notice;
	}
	show(top);
}

static void on_second(struct os_timer *timer)
{
	struct top *top = CONTAINER_OF(timer, struct top, second);

	look(top);
	os_timer_set(top->loop, timer, os_now_ns() + STEP_MS * OS_MS);
}

static void on_key(struct top *top, char key)
{
	static const struct {
		char key;
		enum top_view view;
	} views[] = { { 'a', TOP_ALL },
		      { 's', TOP_SITES },
		      { 'u', TOP_UPSTREAMS },
		      { 'p', TOP_PROCESSES_ONLY } };

	if (key == 'q' || key == 'Q')
		os_loop_stop(top->loop);
	if (key == 'o')
		top->screen.order = (enum top_order)((top->screen.order + 1) % TOP_ORDER_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(views); i++) {
		if (views[i].key == key)
			top->screen.view = views[i].view;
	}
	show(top);
}

static void on_keys(struct os_watch *watch, unsigned now)
{
	struct top *top = CONTAINER_OF(watch, struct top, keys);
	char buf[64];
	ssize_t len;

	(void)now;
	if (os_wait(watch->fd, OS_READABLE, 0) < 0)
		return;
	len = os_read(watch->fd, buf, sizeof(buf));
	if (len == -EAGAIN)
		return;
	if (len <= 0) { /* the terminal is gone */
		os_loop_stop(top->loop);
		return;
	}
	/* A key that sends more than itself (an arrow) is none of ours. */
	if (buf[0] == '\x1b')
		return;
	for (ssize_t i = 0; i < len; i++)
		on_key(top, buf[i]);
}

static void on_signal(struct os_signals *signals, int number, int sender_pid)
{
	struct top *top = CONTAINER_OF(signals, struct top, signals);

	(void)sender_pid;
	if (number == SIGWINCH) {
		show(top);
		return;
	}
	top->exit_code = 128 + number;
	os_loop_stop(top->loop);
}

static int run_loop(struct top *top)
{
	static const int numbers[] = { SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	int err = os_loop_new(&top->loop);

	if (err)
		return err;
	top->signals.on_signal = on_signal;
	top->keys.on_ready = on_keys;
	top->second.on_due = on_second;
	err = os_signals_watch(top->loop, &top->signals, numbers, ARRAY_LEN(numbers));
	if (!err)
		err = os_watch_add(top->loop, &top->keys, 0, OS_WATCH_LEVEL_READ);
	if (!err) {
		look(top);
		os_timer_set(top->loop, &top->second, os_now_ns() + STEP_MS * OS_MS);
		err = os_loop_run(top->loop, NULL, NULL);
	}
	os_timer_stop(&top->second);
	os_watch_remove(&top->keys);
	os_signals_close(&top->signals);
	os_loop_free(top->loop);
	return err;
}

/* Another screen than the shell's, which comes back behind it. */
static int run_terminal(struct top *top)
{
	int err = take_reading(top);

	if (!err)
		err = os_terminal_keys(0, &top->terminal);
	if (err) {
		command_complain("portcullis: %s\n", why_not(err));
		return COMMAND_FAULT;
	}
	top->screen.has_keys = true;
	os_out(SPAN("\x1b[?1049h\x1b[?25l\x1b[2J"));
	err = run_loop(top);
	os_out(SPAN("\x1b[?25h\x1b[?1049l"));
	os_terminal_restore(&top->terminal);
	if (err) {
		command_complain("portcullis: %s\n", strerror(-err));
		return COMMAND_FAULT;
	}
	return top->exit_code;
}

/* ---- The command ------------------------------------------------------------------------------------------- */

static int run(const struct command_line *line, uint64_t count, bool is_plain)
{
	struct top top = { .line = line };
	int exit_code = COMMAND_FAULT;

	top.before = heap_alloc(sizeof(*top.before));
	top.now = heap_alloc(sizeof(*top.now));
	top.text = heap_alloc(TEXT_MAX);
	top.shown = heap_alloc(2 * TEXT_MAX);
	if (top.before && top.now && top.text && top.shown)
		exit_code = is_plain ? run_plain(&top, count) : run_terminal(&top);
	else
		command_complain("portcullis top: out of memory\n");
	heap_free(top.before);
	heap_free(top.now);
	heap_free(top.text);
	heap_free(top.shown);
	return exit_code;
}

static int top_run(const struct command_line *line)
{
	const char *given = command_value(line, "-n");
	struct span rest = span_str(given ? given : "");
	bool is_plain =
		given || command_has(line, "--once") || !os_is_terminal(0) || !os_is_terminal(1);
	uint64_t count = command_has(line, "--once");

	if (given && (!parse_u64(rest, COUNT_MAX, &count) || !count))
		return command_wrong(line, "-n needs a number, not `%s`", given);
	return run(line, count, is_plain);
}

const struct command command_top = {
	.name = "top",
	.form = "[--once | -n COUNT] [-c FILE]",
	.help = "show what the running service does, each second",
	.details =
		"Requests, connections, bytes, codes and latencies, by site and by upstream; "
		"origins "
		"that are down; workers; why requests were refused. Keys: q quits, o changes the "
		"order, a s u p choose what is shown. Plain text where no terminal is.",
	.options = { COMMAND_FILE_OPTION,
		     { "--once", NULL, "one second as plain text" },
		     { "-n", "COUNT", "so many seconds as plain text" } },
	.run = top_run,
};
