/* The supervisor: starts, watches and restarts; holds listeners and state memory. It parses nothing but the
 * message table. lifecycle decides; this carries out. */
#include "proc/supervisor_internal.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "telemetry/telemetry.h"
#include "tls/tls.h"

enum {
	TICK_MS = 400,
	MANAGER_MS = 20,
	NOFILE_WANTED = 1 << 20,
	SLOTS_MAX = 64,
};

static const uint64_t SNAPSHOT_STEPS = 4096;

/* ---- What the operator hears ----------------------------------------------------------------------- */

static void log_event(struct supervisor *supervisor, struct span message)
{
	struct child *log = child_find(supervisor, IPC_LOG, 0);
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_ANOMALY,
		.wall_ns = os_wall_ns(),
		.process = SPAN("supervisor"),
		.message = message,
	};
	char line[4096];
	struct writer out = writer_of(line, sizeof(line));

	telemetry_write_event(&out, &event);
	if (log && out.ok)
		child_send(log, IPC_MESSAGE_log_event, &(struct ipc_log_event){ { 0 } },
			   writer_done(&out), NULL, 0);
}

void supervisor_say(struct supervisor *supervisor, const char *format, ...)
{
	char text[2048] = "portcullis: ";
	size_t start = strlen(text);
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text + start, sizeof(text) - start - 1, format, arguments);
	va_end(arguments);
	if (len < 0)
		return;
	if ((size_t)len > sizeof(text) - start - 2)
		len = (int)(sizeof(text) - start - 2);
	if (supervisor->lifecycle)
		log_event(supervisor, span_of(text + start, (size_t)len));
	text[start + (size_t)len] = '\n';
	os_err(span_of(text, start + (size_t)len + 1));
}

void supervisor_fault(struct supervisor *supervisor, const char *format, ...)
{
	char text[16384];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (len > 0)
		write_span(
			&supervisor->trouble,
			span_of(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1));
}

void supervisor_now(struct supervisor *supervisor)
{
	lifecycle_tick(supervisor->lifecycle, os_loop_now_ns(supervisor->loop));
}

void supervisor_count_limit(struct supervisor *supervisor, enum telemetry_limit limit)
{
	telemetry_count_limit((struct telemetry_counters *)supervisor->range->counters, limit);
}

const struct lifecycle_process *supervisor_process(const struct supervisor *supervisor,
						   const struct child *child)
{
	return lifecycle_process_at(supervisor->lifecycle, child->index);
}

void supervisor_child_name(const struct supervisor *supervisor, const struct child *child,
			   struct writer *out)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);

	write_str(out, ipc_kind_name(process->kind));
	if (supervisor->rules[process->kind].per_slot || process->slot) {
		write_byte(out, ' ');
		write_u64(out, process->slot);
	}
}

/* ---- Carrying out ---------------------------------------------------------------------------------- */

static void adopt(struct child *child, const struct lifecycle_action *action)
{
	child_send(child, IPC_MESSAGE_adopt, &(struct ipc_adopt){ action->slot, action->on },
		   SPAN_NONE, NULL, 0);
	ipc_channel_flush(&child->channel);
}

/* Told is done: a channel keeps the order. Who waited for the answer would send what is running once more with a change
 * that came meanwhile, and its place is taken, by itself. */
static void commit(struct child *child, uint64_t change)
{
	child->plan_committed = child->plan_sent;
	child->data_committed = child->data_sent;
	child_send(child, IPC_MESSAGE_commit, &(struct ipc_commit){ change }, SPAN_NONE, NULL, 0);
}

static void abandon(struct child *child, uint64_t change)
{
	child->plan_sent = child->plan_committed;
	child->data_sent = child->data_committed;
	child_send(child, IPC_MESSAGE_abandon, &(struct ipc_abandon){ change }, SPAN_NONE, NULL, 0);
}

static void drain(struct child *child, uint32_t deadline_ms)
{
	child_send(child, IPC_MESSAGE_drain, &(struct ipc_drain){ deadline_ms, 0 }, SPAN_NONE, NULL,
		   0);
}

static void report_loop(struct supervisor *supervisor, const struct child *child)
{
	char text[64];
	struct writer name = writer_of(text, sizeof(text));

	supervisor_child_name(supervisor, child, &name);
	supervisor_say(supervisor, "%.*s ends again and again: it is started less and less often",
		       SPAN_ARG(writer_done(&name)));
}

static void carry_out(struct supervisor *supervisor, const struct lifecycle_action *action)
{
	struct child *child = &supervisor->children[action->process];

	switch (action->what) {
	case LIFECYCLE_SPAWN:
		child_spawn(supervisor, child);
		break;
	case LIFECYCLE_KILL:
		if (action->is_silent)
			supervisor_count_limit(supervisor, TELEMETRY_LIMIT_HEARTBEAT);
		child_kill(supervisor, child, action->why);
		break;
	case LIFECYCLE_COMPILE:
		control_change_begun(supervisor, action->change, action->request);
		if (supervisor->is_serving && action->request >= LIFECYCLE_COMPILE_FILE)
			manager_tell(&supervisor->manager,
				     "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reading the "
				     "configuration",
				     (unsigned long long)(os_now_ns() / 1000));
		change_compile(supervisor, action->change, action->request);
		break;
	case LIFECYCLE_ABORT_COMPILE:
		if (action->is_overdue)
			change_overdue(supervisor);
		else
			change_abort_compile(supervisor);
		break;
	case LIFECYCLE_GATHER:
		change_gather(supervisor, child, action->change);
		break;
	case LIFECYCLE_WELCOME:
		child_welcome(supervisor, child);
		break;
	case LIFECYCLE_LINK:
		child_link(supervisor, child, &supervisor->children[action->peer]);
		break;
	case LIFECYCLE_PREPARE:
		change_prepare(supervisor, child, action->change);
		break;
	case LIFECYCLE_STORE:
		apply_store(supervisor);
		break;
	case LIFECYCLE_RESTORE:
		apply_restore(supervisor);
		break;
	case LIFECYCLE_DECIDED:
		change_decided(supervisor, action->change);
		apply_step(supervisor, "decided");
		break;
	case LIFECYCLE_COMMIT:
		commit(child, action->change);
		break;
	case LIFECYCLE_ABANDON:
		abandon(child, action->change);
		break;
	case LIFECYCLE_ADOPT:
		adopt(child, action);
		break;
	case LIFECYCLE_DRAIN:
		drain(child, action->deadline_ms);
		break;
	case LIFECYCLE_CHANGE_DONE:
	case LIFECYCLE_CHANGE_FAILED:
		change_ended(supervisor, action);
		break;
	case LIFECYCLE_CRASH_LOOP:
		report_loop(supervisor, child);
		break;
	case LIFECYCLE_EXIT:
		os_loop_stop(supervisor->loop);
		break;
	}
}

/* The workers were told to drain and accept what waits; as long as anybody holds a listening socket, the kernel
 * would go on to accept for nobody. */
static void close_listeners(struct supervisor *supervisor)
{
	if (!supervisor->stops || list_is_empty(&supervisor->listeners))
		return;
	listeners_forget(supervisor);
	listeners_close_all(supervisor);
}

static void on_turn(void *owner)
{
	struct supervisor *supervisor = owner;
	struct lifecycle_action action;
	uint64_t now_ns = os_loop_now_ns(supervisor->loop), next_ns, tick_ns;

	supervisor->range->heartbeat++;
	telemetry_count((struct telemetry_counters *)supervisor->range->counters,
			TELEMETRY_COUNTER_TURNS);
	supervisor_now(supervisor);
	while (lifecycle_next(supervisor->lifecycle, &action))
		carry_out(supervisor, &action);
	for (uint32_t i = 0; i < supervisor->child_count; i++)
		ipc_channel_flush(&supervisor->children[i].channel);
	ipc_channel_flush(&supervisor->job_channel);
	close_listeners(supervisor);
	control_turn(supervisor);
	manager_turn(&supervisor->manager, now_ns);
	next_ns = lifecycle_deadline_ns(supervisor->lifecycle);
	/* A manager that has much to read has room for a few datagrams at a time. */
	tick_ns = list_is_empty(&supervisor->manager.queue) ? TICK_MS * OS_MS : MANAGER_MS * OS_MS;
	if (next_ns > now_ns + tick_ns)
		next_ns = now_ns + tick_ns;
	/* Never later than it is set: turns that come often must not put off looking at heartbeats. */
	if (!os_timer_is_set(&supervisor->tick) || next_ns < supervisor->tick.deadline_ns)
		os_timer_set(supervisor->loop, &supervisor->tick, next_ns);
}

static bool is_ours(void *owner, int pid)
{
	struct supervisor *supervisor = owner;

	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		if (supervisor->children[i].process.pid == pid)
			return true;
	}
	return supervisor->job.pid == pid;
}

/* A birth beats at its steps, and some take long where many want the cores or the program comes from a slow disk: as
 * long as it works, or waits for what the kernel owes it, it does not hang. */
static uint64_t heartbeat_of(struct supervisor *supervisor, struct child *child)
{
	if (supervisor_process(supervisor, child)->state == LIFECYCLE_STARTING &&
	    child->process.pid && os_process_is_busy(child->process.pid))
		child->busy_ticks++;
	return __atomic_load_n(&child->range->heartbeat, __ATOMIC_RELAXED) + child->busy_ticks;
}

static void on_tick(struct os_timer *timer)
{
	struct supervisor *supervisor = CONTAINER_OF(timer, struct supervisor, tick);

	for (uint32_t i = 0; i < supervisor->child_count; i++)
		lifecycle_on_heartbeat(supervisor->lifecycle, i,
				       heartbeat_of(supervisor, &supervisor->children[i]));
	control_listen(supervisor); /* or at the next tick */
	change_reap_left(supervisor);
	/* One of ours that had ended stood before them in the kernel's order. */
	if (os_pid() == 1)
		os_process_reap_strangers(is_ours, supervisor);
}

void supervisor_stop(struct supervisor *supervisor, uint32_t drain_ms)
{
	lifecycle_stop(supervisor->lifecycle, drain_ms);
	if (!supervisor->stops)
		manager_tell(&supervisor->manager, "STOPPING=1\nSTATUS=ending what is under way");
	supervisor->stops = true;
}

/* ---- Signals --------------------------------------------------------------------------------------- */

static void on_signal(struct os_signals *signals, int number, int sender_pid)
{
	struct supervisor *supervisor = CONTAINER_OF(signals, struct supervisor, signals);

	(void)sender_pid;
	supervisor_now(supervisor);
	if (number == SIGTERM || number == SIGINT)
		supervisor_stop(supervisor, SUPERVISOR_DRAIN_MS);
	else if (number == SIGHUP)
		lifecycle_signal(supervisor->lifecycle);
	else if (number == SIGCHLD && os_pid() == 1)
		os_process_reap_strangers(is_ours, supervisor);
}

/* ---- Start ----------------------------------------------------------------------------------------- */

static void make_rules(struct supervisor *supervisor)
{
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		const struct proc_row *row = proc_row_find((enum ipc_kind)kind);

		if (row)
			supervisor->rules[kind] =
				(struct lifecycle_rule){ .per_slot = row->per_slot,
							 .is_member = row->is_member,
							 .links = row->links,
							 .count_max = row->count_max,
							 .may_hang = row->may_hang };
	}
}

static int start(struct supervisor *supervisor)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	uint64_t step;
	size_t cpus = os_cpus(supervisor->cpus, OS_CPU_MAX);
	int err;

	supervisor->slot_count = cpus > SLOTS_MAX ? SLOTS_MAX : (uint32_t)cpus;
	supervisor->is_root = os_uid() == 0;
	supervisor->nofile = os_limit_raise(OS_LIMIT_OPEN_FILES, NOFILE_WANTED);
	os_random(&step, sizeof(step));
	os_random(&supervisor->gateway_id, sizeof(supervisor->gateway_id));
	supervisor->snapshot_base = PROC_SNAPSHOT_BASE + step % SNAPSHOT_STEPS *
								 PROC_SNAPSHOT_PLACES *
								 PROC_SNAPSHOT_PLACE_SIZE;
	make_rules(supervisor);
	err = os_loop_new(&supervisor->loop);
	if (!err)
		err = lifecycle_new(supervisor->rules, supervisor->slot_count, os_now_ns(),
				    &supervisor->lifecycle);
	if (!err)
		err = range_new(&supervisor->range_fd, &supervisor->range);
	if (!err)
		err = children_init(supervisor);
	if (!err)
		err = os_memory_new("tickets", sizeof(struct proc_shared_keys),
				    &supervisor->tickets_fd);
	if (!err)
		err = os_memory_seal(supervisor->tickets_fd, OS_SEAL_SIZE);
	if (!err)
		err = kept_rates_new(&supervisor->rates_fd);
	if (err < 0)
		return err;
	supervisor->range->format = IPC_RANGE_FORMAT;
	supervisor->range->kind = IPC_SUPERVISOR;
	supervisor->started_wall_ns = (int64_t)os_wall_ns();
	supervisor->signals.on_signal = on_signal;
	supervisor->tick.on_due = on_tick;
	return os_signals_watch(supervisor->loop, &supervisor->signals, numbers,
				ARRAY_LEN(numbers));
}

static void finish(struct supervisor *supervisor)
{
	change_abort_compile(supervisor);
	for (size_t i = 0; i < ARRAY_LEN(supervisor->left); i++)
		os_close(supervisor->left[i].pid ? supervisor->left[i].fd : -1);
	listeners_close_all(supervisor);
	control_close(supervisor);
	state_close(supervisor);
	plan_free(supervisor->next);
	plan_free(supervisor->running);
	children_fini(supervisor);
	orders_free(supervisor);
	manager_close(&supervisor->manager);
	lifecycle_free(supervisor->lifecycle);
	os_signals_close(&supervisor->signals);
	os_timer_stop(&supervisor->tick);
	os_timer_stop(&supervisor->inputs);
	os_close(supervisor->tickets_fd);
	os_close(supervisor->given_fd);
	os_close(supervisor->rates_fd);
	os_memory_unmap(supervisor->range, IPC_RANGE_SIZE);
	os_close(supervisor->range_fd);
	os_loop_free(supervisor->loop);
	heap_free(supervisor);
}

int proc_supervisor_main(const struct proc_supervisor_options *options)
{
	struct supervisor *supervisor = heap_alloc(sizeof(*supervisor));
	int err, exit_code;

	if (!supervisor)
		return PROC_EXIT_FAULT;
	supervisor->options = options;
	supervisor->state_fd = supervisor->control_folder_fd = supervisor->key_folder_fd = -1;
	supervisor->lock_fd = supervisor->control_listener_fd = supervisor->rescue_listener_fd = -1;
	supervisor->tickets_fd = supervisor->rates_fd = supervisor->range_fd =
		supervisor->given_fd = -1;
	supervisor->trouble = writer_of(supervisor->trouble_text, sizeof(supervisor->trouble_text));
	list_init(&supervisor->listeners);
	list_init(&supervisor->commands);
	manager_open(&supervisor->manager);
	err = start(supervisor);
	if (err < 0) {
		supervisor_say(supervisor, "could not start: %s", strerror(-err));
		supervisor->exit_code = PROC_EXIT_FAULT;
	} else {
		apply_recover(supervisor);
		/* A start is a reload of nothing. */
		lifecycle_change(supervisor->lifecycle, LIFECYCLE_COMPILE_FILE);
		os_timer_set(supervisor->loop, &supervisor->tick, os_now_ns() + OS_MS);
		err = os_loop_run(supervisor->loop, on_turn, supervisor);
		if (err < 0)
			supervisor->exit_code = PROC_EXIT_FAULT;
	}
	exit_code = supervisor->exit_code;
	finish(supervisor);
	return exit_code;
}
