/* control.sock: what commands ask of the running service. */
#include "proc/supervisor_internal.h"

#include <string.h>

static void command_drop(struct command *command)
{
	ipc_channel_close(&command->channel);
	command->is_dead = true;
}

static void answer_send(struct command *command, enum ipc_number number, const void *body,
			struct span tail, const int *descriptors, int count)
{
	/* Who asks and does not read gets no more. */
	if (!command->is_dead &&
	    ipc_send(&command->channel, number, body, tail, descriptors, count) != 0)
		command_drop(command);
}

static void end(struct command *command, uint32_t exit_code, struct span text)
{
	answer_send(command, IPC_MESSAGE_answer_end,
		    &(struct ipc_answer_end){ .exit_code = exit_code }, span_first(text, 4096),
		    NULL, 0);
}

/* ---- status ---------------------------------------------------------------------------------------- */

static enum ipc_process_state state_of(enum lifecycle_state state)
{
	switch (state) {
	case LIFECYCLE_READY:
		return IPC_STATE_RUNNING;
	case LIFECYCLE_DRAINING:
	case LIFECYCLE_KILLED:
		return IPC_STATE_DRAINING;
	case LIFECYCLE_BACK_OFF:
		return IPC_STATE_BACK_OFF;
	case LIFECYCLE_UNUSED:
	case LIFECYCLE_STARTING:
		break;
	}
	return IPC_STATE_STARTING;
}

/* What its row or its birth says of open files. */
static uint64_t open_files_of(const struct supervisor *supervisor, enum ipc_kind kind)
{
	const struct proc_row *row = proc_row_find(kind);

	for (size_t i = 0; row && i < row->limit_count; i++) {
		if (row->limits[i].limit == OS_LIMIT_OPEN_FILES && row->limits[i].value)
			return row->limits[i].value;
	}
	return supervisor->nofile;
}

static void send_row(struct supervisor *supervisor, struct command *command, struct child *child)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	struct os_process_usage usage = { 0 };
	OS_AUTO_FD range = -1;
	struct ipc_status_row row = {
		.kind = process->kind,
		.slot = process->slot,
		.pid = (uint32_t)child->process.pid,
		.state = state_of(process->state),
		.enforced = child->ready.enforced,
		.missing = child->ready.missing,
		.landlock_abi = child->ready.landlock_abi,
		.secret_memory = child->ready.secret_memory,
		.restarts = process->restarts,
		.snapshot_serial = process->committed,
		.started_wall_ns = child->started_wall_ns,
		.nofile = open_files_of(supervisor, process->kind),
	};

	if (child->process.pid && os_process_usage(child->process.pid, &usage) == 0)
		row.rss_bytes = usage.memory_bytes;
	if (os_memory_read_only(child->range_fd, &range) < 0)
		range = -1;
	answer_send(command, IPC_MESSAGE_status_row, &row, SPAN_NONE, &range, range >= 0 ? 1 : 0);
}

static void send_status(struct supervisor *supervisor, struct command *command)
{
	struct os_process_usage usage = { 0 };
	struct ipc_status_row own = { .kind = IPC_SUPERVISOR,
				      .pid = (uint32_t)os_pid(),
				      .state = IPC_STATE_RUNNING,
				      .snapshot_serial = lifecycle_running(supervisor->lifecycle),
				      .started_wall_ns = supervisor->started_wall_ns,
				      .nofile = supervisor->nofile };
	OS_AUTO_FD range = -1;

	if (os_process_usage(os_pid(), &usage) == 0)
		own.rss_bytes = usage.memory_bytes;
	if (os_memory_read_only(supervisor->range_fd, &range) < 0)
		range = -1;
	answer_send(command, IPC_MESSAGE_status_row, &own, span_str(supervisor->state_path), &range,
		    range >= 0 ? 1 : 0);
	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		if (lifecycle_process_at(supervisor->lifecycle, i)->state != LIFECYCLE_UNUSED)
			send_row(supervisor, command, &supervisor->children[i]);
	}
	end(command, 0, SPAN_NONE);
}

/* ---- The running text ------------------------------------------------------------------------------ */

static void send_running_text(struct supervisor *supervisor, struct command *command)
{
	const struct plan_data *text =
		supervisor->running ? plan_find_data(supervisor->running, IPC_DATA_TEXT, 0) : NULL;
	OS_AUTO_FD fd = -1;

	if (!text || os_memory_read_only(text->fd, &fd) < 0) {
		end(command, 1, SPAN("there is no running text at the moment"));
		return;
	}
	answer_send(command, IPC_MESSAGE_answer, &(struct ipc_answer){ .what = IPC_DATA_TEXT },
		    SPAN_NONE, &fd, 1);
	end(command, 0, SPAN_NONE);
}

/* ---- apply, rollback, confirm ---------------------------------------------------------------------- */

static void wait_for(struct command *command, enum lifecycle_request request)
{
	command->waits_for = request;
	command->change = 0;
}

static void roll_back(struct supervisor *supervisor, struct command *command,
		      const struct ipc_rollback *wanted)
{
	const char *why;

	/* What is not confirmed yet goes the way that it would go by itself. */
	if (lifecycle_is_held(supervisor->lifecycle) && wanted->steps == 1) {
		wait_for(command, LIFECYCLE_COMPILE_FILE);
		lifecycle_hold(supervisor->lifecycle, 0);
		return;
	}
	why = apply_rollback(supervisor, wanted->steps, wanted->confirm_ms);
	if (why)
		end(command, 1, span_str(why));
	else
		wait_for(command, LIFECYCLE_COMPILE_GIVEN);
}

static void on_apply(struct supervisor *supervisor, struct command *command,
		     struct ipc_message *message)
{
	const char *why;

	if (message->number == IPC_MESSAGE_rollback) {
		roll_back(supervisor, command, message->body);
	} else if (message->number == IPC_MESSAGE_confirm) {
		why = apply_confirm(supervisor);
		end(command, why ? 1 : 0, span_str(why));
	} else {
		why = message->descriptor_count != 1
			      ? "the text did not come whole"
			      : apply_begin(supervisor, message->descriptors[0],
					    ((const struct ipc_apply *)message->body)->confirm_ms);
		if (why)
			end(command, 1, span_str(why));
		else
			wait_for(command, LIFECYCLE_COMPILE_GIVEN);
	}
}

/* ---- connect --------------------------------------------------------------------------------------- */

static void connect_to(struct supervisor *supervisor, struct command *command, uint32_t kind,
		       uint32_t slot)
{
	struct child *child = NULL;
	int ends[2];

	if (kind == IPC_VAULT || kind == IPC_DIALER || kind == IPC_WORKER)
		child = child_find(supervisor, (enum ipc_kind)kind, slot);
	if (!child || os_packet_pair(ends) < 0) {
		end(command, 1, SPAN("there is no such process at the moment"));
		return;
	}
	child_send(child, IPC_MESSAGE_link,
		   &(struct ipc_link){ .kind = IPC_COMMAND, .slot = ++supervisor->command_serial },
		   SPAN_NONE, &ends[0], 1);
	answer_send(command, IPC_MESSAGE_answer, &(struct ipc_answer){ .what = kind }, SPAN_NONE,
		    &ends[1], 1);
	os_close(ends[0]);
	os_close(ends[1]);
	end(command, 0, SPAN_NONE);
}

/* ---- Origins --------------------------------------------------------------------------------------- */

static void give_order(struct supervisor *supervisor, struct command *command,
		       const struct ipc_message *message)
{
	int err = orders_set(supervisor, message->body, message->tail);

	if (err == -ENOBUFS)
		end(command, 1, SPAN("too many origins are taken out already"));
	else if (err)
		end(command, 1,
		    SPAN("the order holds, but could not be written to the state "
			 "folder: a restart forgets it"));
	else
		end(command, 0, SPAN_NONE);
}

static void list_orders(struct supervisor *supervisor, struct command *command)
{
	for (size_t i = 0; i < supervisor->order_count; i++) {
		const struct order *order = &supervisor->orders[i];
		struct ipc_origin_ordered body = { .origin = order->origin,
						   .since_wall_ns = order->since_wall_ns,
						   .order = order->order };

		answer_send(command, IPC_MESSAGE_origin_ordered, &body, span_str(order->text), NULL,
			    0);
	}
	answer_send(command, IPC_MESSAGE_origins_end, &(struct ipc_origins_end){ { 0 } }, SPAN_NONE,
		    NULL, 0);
}

/* ---- Messages -------------------------------------------------------------------------------------- */

#ifdef PORTCULLIS_TEST_CLOCK
static void move_clocks(struct supervisor *supervisor, const struct ipc_clock_move *move)
{
	os_clock_move(move->monotonic_ns, move->wall_ns);
	for (uint32_t i = 0; i < supervisor->child_count; i++)
		child_send(&supervisor->children[i], IPC_MESSAGE_clock_move, move, SPAN_NONE, NULL,
			   0);
}
#endif

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct command *command = owner;
	struct supervisor *supervisor = command->supervisor;

	(void)channel;
	supervisor_now(supervisor);
	switch ((uint32_t)message->number) {
	case IPC_MESSAGE_reload:
		if (lifecycle_is_stopping(supervisor->lifecycle)) {
			end(command, 1, SPAN("the service is stopping"));
			return;
		}
		command->waits_for = LIFECYCLE_COMPILE_FILE;
		command->change = 0;
		lifecycle_change(supervisor->lifecycle, LIFECYCLE_COMPILE_FILE);
		return;
	case IPC_MESSAGE_stop:
		/* Its answer is the end of the channel: then nobody is left. */
		supervisor_stop(supervisor, ((const struct ipc_stop *)message->body)->now
						    ? 0
						    : SUPERVISOR_DRAIN_MS);
		return;
	case IPC_MESSAGE_status:
		send_status(supervisor, command);
		return;
	case IPC_MESSAGE_apply:
	case IPC_MESSAGE_rollback:
	case IPC_MESSAGE_confirm:
		on_apply(supervisor, command, message);
		return;
	case IPC_MESSAGE_running_text:
		send_running_text(supervisor, command);
		return;
	case IPC_MESSAGE_connect:
		connect_to(supervisor, command, ((const struct ipc_connect *)message->body)->kind,
			   0);
		return;
	case IPC_MESSAGE_connect_slot: {
		const struct ipc_connect_slot *body = message->body;

		connect_to(supervisor, command, body->kind, body->slot);
		return;
	}
	case IPC_MESSAGE_set_order:
		give_order(supervisor, command, message);
		return;
	case IPC_MESSAGE_origins:
		list_orders(supervisor, command);
		return;
#ifdef PORTCULLIS_TEST_CLOCK
	case IPC_MESSAGE_clock_move:
		move_clocks(supervisor, message->body);
		end(command, 0, SPAN_NONE);
		return;
#endif
	default:
		return;
	}
}

static void on_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	(void)channel;
	(void)why;
	command_drop(owner);
}

static const struct ipc_handlers handlers = { .on_message = on_message, .on_closed = on_closed };

static void take(struct supervisor *supervisor, int fd)
{
	struct command *command = heap_alloc(sizeof(*command));
	uint32_t uid;
	int pid;

	if (!command || os_socket_credentials(fd, &pid, &uid) < 0 ||
	    (uid != os_uid() && uid != 0)) {
		heap_free(command);
		os_close(fd);
		return;
	}
	command->supervisor = supervisor;
	if (ipc_channel_open(&command->channel, supervisor->loop, fd, IPC_SUPERVISOR, IPC_COMMAND) <
	    0) {
		heap_free(command);
		return;
	}
	ipc_channel_handle(&command->channel, &handlers, command);
	list_push_back(&supervisor->commands, &command->link);
}

static void on_connection(struct os_watch *watch, unsigned now)
{
	struct supervisor *supervisor = CONTAINER_OF(watch, struct supervisor, control_watch);
	int fd, err;

	(void)now;
	while ((err = os_accept(watch->fd, &fd, NULL)) == 0)
		take(supervisor, fd);
	/* No descriptor left: what waits goes on waiting, and must not turn the loop meanwhile. */
	if (err != -EAGAIN)
		os_watch_remove(watch);
}

bool control_listen(struct supervisor *supervisor)
{
	struct os_watch *watch = &supervisor->control_watch;

	if (supervisor->control_listener_fd < 0 || os_watch_is_added(watch))
		return true;
	watch->on_ready = on_connection;
	return os_watch_add(supervisor->loop, watch, supervisor->control_listener_fd,
			    OS_WATCH_LEVEL_READ) == 0;
}

/* ---- For the others -------------------------------------------------------------------------------- */

int control_open(struct supervisor *supervisor)
{
	int err = os_listen_packets(supervisor->control_folder_fd, "control.sock", 0600,
				    &supervisor->control_listener_fd);

	if (err < 0)
		return err;
	return control_listen(supervisor) ? 0 : -ENOMEM;
}

void control_close(struct supervisor *supervisor)
{
	os_watch_remove(&supervisor->control_watch);
	os_close(TAKE_FD(supervisor->control_listener_fd));
	LIST_EACH(&supervisor->commands, node) {
		struct command *command = LIST_ITEM(node, struct command, link);

		ipc_channel_flush(&command->channel);
		ipc_channel_close(&command->channel);
		heap_free(command);
	}
}

void control_change_begun(struct supervisor *supervisor, uint64_t change,
			  enum lifecycle_request request)
{
	LIST_EACH(&supervisor->commands, node) {
		struct command *command = LIST_ITEM(node, struct command, link);

		/* One that reads no file is not what a `reload` waits for. */
		if (command->waits_for == request && !command->change)
			command->change = change;
	}
}

static void end_change(struct command *command, uint64_t change, bool ok)
{
	const struct supervisor *supervisor = command->supervisor;
	char text[128];
	struct writer out = writer_of(text, sizeof(text));

	if (ok)
		write_format(&out, "configuration %llu runs", (unsigned long long)change);
	if (ok && command->waits_for == LIFECYCLE_COMPILE_GIVEN && supervisor->given_confirm_ms)
		write_format(&out,
			     "; without `portcullis confirm` within %u s the one before is back",
			     supervisor->given_confirm_ms / 1000);
	end(command, ok ? 0 : 1, writer_done(&out));
}

void control_change_ended(struct supervisor *supervisor, uint64_t change, bool ok)
{
	struct span trouble = writer_done(&supervisor->trouble);

	LIST_EACH(&supervisor->commands, node) {
		struct command *command = LIST_ITEM(node, struct command, link);

		if (!command->waits_for || command->change != change)
			continue;
		if (trouble.len)
			answer_send(command, IPC_MESSAGE_answer, &(struct ipc_answer){ 0 },
				    span_first(trouble, IPC_TAIL_MAX), NULL, 0);
		end_change(command, change, ok);
		command->waits_for = LIFECYCLE_NO_REQUEST;
	}
}

void control_turn(struct supervisor *supervisor)
{
	LIST_EACH(&supervisor->commands, node) {
		struct command *command = LIST_ITEM(node, struct command, link);

		if (command->is_dead) {
			list_remove(node);
			heap_free(command);
		} else {
			ipc_channel_flush(&command->channel);
		}
	}
}
