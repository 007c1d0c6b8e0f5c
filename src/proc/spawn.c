/* Children: birth with all that a row is given, channels between them, and their end. */
#include "proc/supervisor_internal.h"

#include <signal.h>
#include <string.h>

#include "firewall/firewall.h"
#include "ipc/ipc.h"
#include "telemetry/telemetry.h"
#include "tls/tls.h"

_Static_assert(IPC_RANGE_HELD + sizeof(struct firewall_held) <= IPC_RANGE_SIZE,
	       "what clients hold fits a range");

/* ---- What stays over restarts ---------------------------------------------------------------------- */

int range_new(int *ret_fd, struct ipc_range **ret_range)
{
	OS_AUTO_FD fd = -1;
	void *range;
	int err = os_memory_new("range", IPC_RANGE_SIZE, &fd);

	if (!err)
		err = os_memory_seal(fd, OS_SEAL_SIZE);
	if (!err)
		err = os_memory_map(fd, IPC_RANGE_SIZE, NULL, OS_MAP_WRITE, &range);
	if (err < 0)
		return err;
	*ret_range = range;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int child_init(struct supervisor *supervisor, struct child *child, uint32_t index)
{
	int err = range_new(&child->range_fd, &child->range);

	child->supervisor = supervisor;
	child->index = index;
	if (err < 0)
		return err;
	err = os_memory_new("ring", sizeof(struct telemetry_ring), &child->ring_fd);
	if (!err)
		err = os_memory_seal(child->ring_fd, OS_SEAL_SIZE);
	if (!err)
		err = os_event_new(&child->ring_event);
	return err;
}

int children_init(struct supervisor *supervisor)
{
	while (lifecycle_process_at(supervisor->lifecycle, supervisor->child_count))
		supervisor->child_count++;
	supervisor->children = heap_alloc(supervisor->child_count * sizeof(*supervisor->children));
	if (!supervisor->children)
		return -ENOMEM;
	for (uint32_t i = 0; i < supervisor->child_count; i++)
		supervisor->children[i] =
			(struct child){ .range_fd = -1, .ring_fd = -1, .ring_event = -1 };
	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		int err = child_init(supervisor, &supervisor->children[i], i);

		if (err < 0)
			return err;
	}
	return 0;
}

void children_fini(struct supervisor *supervisor)
{
	for (uint32_t i = 0; supervisor->children && i < supervisor->child_count; i++) {
		struct child *child = &supervisor->children[i];

		/* One that a stop did not wait for. */
		if (child->process.pid) {
			os_watch_remove(&child->watch);
			os_close(child->process.fd);
			ipc_channel_close(&child->channel);
		}
		os_memory_unmap(child->range, IPC_RANGE_SIZE);
		os_close(child->range_fd);
		os_close(child->ring_fd);
		os_close(child->ring_event);
	}
	heap_free(supervisor->children);
	supervisor->children = NULL;
}

struct child *child_find(struct supervisor *supervisor, enum ipc_kind kind, uint32_t slot)
{
	int index = lifecycle_find(supervisor->lifecycle, kind, slot);

	return index < 0 || !supervisor->children[index].process.pid ? NULL
								     : &supervisor->children[index];
}

uint32_t row_uid(const struct supervisor *supervisor, const struct proc_row *row)
{
	return supervisor->is_root ? proc_row_uid(row) : OS_KEEP_ID;
}

/* ---- Sending ---------------------------------------------------------------------------------------- */

void child_send(struct child *child, enum ipc_number number, const void *body, struct span tail,
		const int *descriptors, int descriptor_count)
{
	int outcome;

	if (!ipc_channel_is_open(&child->channel))
		return;
	outcome = ipc_send(&child->channel, number, body, tail, descriptors, descriptor_count);
	if (outcome != 0 && outcome != IPC_CLOSED)
		lifecycle_condemn(child->supervisor->lifecycle, child->index,
				  outcome == IPC_FULL ? "does not read its channel"
						      : "could not be sent to");
}

static void grant(struct child *child, const struct ipc_grant *grant, struct span tail,
		  const int *descriptors, int count)
{
	if (descriptors[0] >= 0)
		child_send(child, IPC_MESSAGE_grant, grant, tail, descriptors, count);
}

static void grant_one(struct child *child, enum ipc_grant_kind what, int fd)
{
	grant(child, &(struct ipc_grant){ .what = what }, SPAN_NONE, &fd, 1);
}

static void grant_ring(struct child *child, const struct child *writer)
{
	int descriptors[2] = { writer->ring_fd, writer->ring_event };

	grant(child, &(struct ipc_grant){ .what = IPC_GRANT_RING, .index = writer->index },
	      SPAN_NONE, descriptors, 2);
}

static void grant_rows(struct child *child, const struct plan *plan, enum ipc_plan_kind rows,
		       enum ipc_grant_kind what)
{
	uint32_t slot = supervisor_process(child->supervisor, child)->slot;
	const struct plan_row *row;
	size_t cursor = 0;

	while ((row = plan_next(plan, rows, &cursor))) {
		if (row->row.index == slot)
			grant(child, &(struct ipc_grant){ .what = what, .id = row->row.id },
			      row->tail, &row->fd, 1);
	}
}

/* Those of its slot. */
static void grant_roots(struct supervisor *supervisor, struct child *child)
{
	const struct plan *plan = supervisor->next ? supervisor->next : supervisor->running;

	if (supervisor->running &&
	    supervisor->running->files_version == supervisor_process(supervisor, child)->version)
		plan = supervisor->running;
	if (!plan)
		return;
	grant_rows(child, plan, IPC_PLAN_ROOT, IPC_GRANT_ROOT);
	grant_rows(child, plan, IPC_PLAN_ROOT_LINK, IPC_GRANT_ROOT_LINK);
}

static void grant_read_only(struct child *child, enum ipc_grant_kind what, int fd)
{
	OS_AUTO_FD read_only = -1;

	if (os_memory_read_only(fd, &read_only) == 0)
		grant_one(child, what, read_only);
}

static void grant_range(struct child *child, uint32_t index, int fd)
{
	OS_AUTO_FD read_only = -1;

	if (os_memory_read_only(fd, &read_only) == 0)
		grant(child, &(struct ipc_grant){ .what = IPC_GRANT_RANGE, .index = index },
		      SPAN_NONE, &read_only, 1);
}

/* They stay over restarts, so that what a worker has at its birth it may read all its life. */
static void grant_ranges(struct supervisor *supervisor, struct child *child)
{
	grant_range(child, UINT32_MAX, supervisor->range_fd);
	for (uint32_t i = 0; i < supervisor->child_count; i++)
		grant_range(child, i, supervisor->children[i].range_fd);
}

static void endow(struct supervisor *supervisor, struct child *child, const struct proc_row *row)
{
	if (row->kind != IPC_LOG)
		grant_ring(child, child);
	switch (row->kind) {
	case IPC_WORKER:
		grant_read_only(child, IPC_GRANT_TICKETS, supervisor->tickets_fd);
		grant_one(child, IPC_GRANT_RATES, supervisor->rates_fd);
		grant_ranges(supervisor, child);
		break;
	case IPC_VAULT:
		grant_one(child, IPC_GRANT_KEY_FOLDER, supervisor->key_folder_fd);
		grant_one(child, IPC_GRANT_RESCUE, supervisor->rescue_listener_fd);
		grant_one(child, IPC_GRANT_TICKETS, supervisor->tickets_fd);
		break;
	case IPC_FILES:
		grant_roots(supervisor, child);
		break;
	case IPC_LOG:
		for (uint32_t i = 0; i < supervisor->child_count; i++)
			grant_ring(child, &supervisor->children[i]);
		break;
	case IPC_SUPERVISOR:
	case IPC_KEYHOLDER:
	case IPC_DIALER:
	case IPC_CHECK:
	case IPC_COMMAND:
	case IPC_KIND_COUNT:
		break;
	}
}

static void send_birth(struct supervisor *supervisor, struct child *child,
		       const struct proc_row *row)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	struct ipc_birth birth = {
		.kind = row->kind,
		.slot = process->slot,
		.uid = row_uid(supervisor, row),
		.gid = row_uid(supervisor, row),
		.slot_count = supervisor->slot_count,
		.cpu = row->per_slot ? supervisor->cpus[process->slot] : UINT32_MAX,
		.snapshot_base = supervisor->snapshot_base,
		.nofile = supervisor->nofile,
		.gateway_id = supervisor->gateway_id,
	};
	int descriptors[2] = { child->range_fd, -1 };

#ifdef PORTCULLIS_TEST_CLOCK
	birth.test_build = 1;
#endif
	if (state_lock_reader(supervisor, &descriptors[1]) < 0)
		return;
	child_send(child, IPC_MESSAGE_birth, &birth, SPAN_NONE, descriptors, 2);
	os_close(descriptors[1]);
	endow(supervisor, child, row);
	child_send(child, IPC_MESSAGE_born, &(struct ipc_born){ 0 }, SPAN_NONE, NULL, 0);
	ipc_channel_flush(&child->channel);
}

/* Gauges end with the process, counters go on. */
static void clear_range(struct ipc_range *range, enum ipc_kind kind)
{
	memset(range, 0, offsetof(struct ipc_range, counters));
	telemetry_named_rest(ipc_range_named(range));
	firewall_held_clear(ipc_range_held(range));
	range->format = IPC_RANGE_FORMAT;
	range->kind = kind;
}

/* ---- Events of a child ----------------------------------------------------------------------------- */

/* What a child says goes to the operator's terminal: one line, no control, nothing that stands in it unseen. */
static struct span plain(struct span text, char *buf, size_t size)
{
	struct writer out;

	do {
		out = writer_of(buf, size);
		write_json(&out, text);
		text = span_first(text, text.len / 2);
	} while (!out.ok);
	return span_of(buf + 1, writer_done(&out).len - 2);
}

static bool asks(const struct proc_row *asker, const struct proc_row *asked, uint32_t asker_slot,
		 uint32_t asked_slot)
{
	return asker->links & 1U << asked->kind && (!asked->per_slot || asker_slot == asked_slot);
}

/* The accused, if that very life of it still lives: its successor broke nothing. */
static struct child *find_life(struct supervisor *supervisor, const struct ipc_broken_life *broken)
{
	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		struct child *child = &supervisor->children[i];
		const struct lifecycle_process *process = supervisor_process(supervisor, child);

		if (child->process.pid && process->kind == broken->kind &&
		    process->slot == broken->slot && process->instance == broken->life)
			return child;
	}
	return NULL;
}

/* A worker that broke a rule was taken over, and has read the ticket keys: they are replaced when it is gone. */
static void condemn(struct supervisor *supervisor, struct child *child, const char *why)
{
	child->is_taken_over = true;
	lifecycle_condemn(supervisor->lifecycle, child->index, why);
}

/* Who is asked tells of who asks: the one that is more likely to have been taken over. The other way round it may as
 * well be a lie, so it costs the accuser its life; the accused too, where it can be had again without a loss. Keys
 * cannot: what a worker says must never end a keyholder. Who accuses somebody that it has no channel to lies. */
static void on_broken_life(struct supervisor *supervisor, struct child *child,
			   const struct ipc_broken_life *broken, struct span why)
{
	const struct lifecycle_process *accuser = supervisor_process(supervisor, child);
	const struct proc_row *row = proc_row_find(accuser->kind),
			      *other = proc_row_find((enum ipc_kind)broken->kind);
	struct child *accused = other ? find_life(supervisor, broken) : NULL;
	bool is_asked = other && asks(other, row, broken->slot, accuser->slot);
	bool is_asker = other && asks(row, other, accuser->slot, broken->slot);
	char text[256];

	why = plain(why, text, sizeof(text));
	supervisor_say(supervisor, "%s %u %s %s %u: %.*s", row->name, accuser->slot,
		       is_asked ? "reports that the rules were broken by" : "accuses",
		       other ? other->name : "nobody", broken->slot, SPAN_ARG(why));
	if (accused &&
	    (is_asked || (is_asker && (other->kind == IPC_FILES || other->kind == IPC_DIALER))))
		condemn(supervisor, accused, "broke the rules of a channel");
	if (!is_asked)
		condemn(supervisor, child, "accused a process that it asks, or does not know");
}

/* Without a life: of a command, which ends by itself. */
static void on_broken(struct supervisor *supervisor, struct child *child,
		      const struct ipc_broken *broken, struct span why)
{
	char text[256];

	if (broken->kind == IPC_COMMAND)
		supervisor_say(supervisor, "a command broke the rules of its channel: %.*s",
			       SPAN_ARG(plain(why, text, sizeof(text))));
	else
		on_broken_life(supervisor, child,
			       &(struct ipc_broken_life){ .kind = IPC_KIND_COUNT }, why);
}

/* An old channel's end may be told after the next one was given. */
static void on_unlinked(struct supervisor *supervisor, struct child *child,
			const struct ipc_unlinked *unlinked)
{
	if (unlinked->kind < IPC_KIND_COUNT)
		lifecycle_on_unlinked(supervisor->lifecycle, child->index,
				      (enum ipc_kind)unlinked->kind, unlinked->life);
}

static void on_refused(struct supervisor *supervisor, struct child *child,
		       const struct ipc_refused *refused, struct span why)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	struct span told = writer_done(&supervisor->trouble);
	char text[4096];

	/* Late, or never asked for: it would only fill what the next change is told. */
	if (refused->change != lifecycle_changing(supervisor->lifecycle) &&
	    refused->change != lifecycle_running(supervisor->lifecycle))
		return;
	while (why.len && why.ptr[why.len - 1] == '\n')
		why.len--;
	if (process->kind != IPC_VAULT)
		why = plain(why, text, sizeof(text));
	/* Both workers may say the same. */
	if (span_find(told, why) == told.len)
		supervisor_fault(supervisor, "%.*s\n", SPAN_ARG(why));
	if (lifecycle_phase(supervisor->lifecycle) == LIFECYCLE_GATHERING &&
	    process->kind == IPC_VAULT &&
	    refused->change == lifecycle_changing(supervisor->lifecycle))
		lifecycle_on_gathered(supervisor->lifecycle, false);
	else
		lifecycle_on_refused(supervisor->lifecycle, child->index, refused->change);
}

static void on_root_news(struct supervisor *supervisor, struct child *child,
			 const struct ipc_root_news *news, struct span why)
{
	char text[4096];

	change_on_root_news(supervisor, child, news, plain(why, text, sizeof(text)));
}

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct child *child = owner;
	struct supervisor *supervisor = child->supervisor;

	(void)channel;
	supervisor_now(supervisor);
	switch ((uint32_t)message->number) {
	case IPC_MESSAGE_ready:
		/* Said once: who is taken over later cannot change what `status` shows of its sandbox. */
		if (supervisor_process(supervisor, child)->state != LIFECYCLE_STARTING)
			return;
		child->ready = *(const struct ipc_ready *)message->body;
		lifecycle_on_ready(supervisor->lifecycle, child->index);
		return;
	case IPC_MESSAGE_prepared:
		lifecycle_on_prepared(supervisor->lifecycle, child->index,
				      ((const struct ipc_prepared *)message->body)->change);
		return;
	case IPC_MESSAGE_refused:
		on_refused(supervisor, child, message->body, message->tail);
		return;
	case IPC_MESSAGE_committed:
		lifecycle_on_committed(supervisor->lifecycle, child->index,
				       ((const struct ipc_committed *)message->body)->change);
		return;
	case IPC_MESSAGE_broken:
		on_broken(supervisor, child, message->body, message->tail);
		return;
	case IPC_MESSAGE_unlinked:
		on_unlinked(supervisor, child, message->body);
		return;
	case IPC_MESSAGE_broken_life:
		on_broken_life(supervisor, child, message->body, message->tail);
		return;
	case IPC_MESSAGE_leaf:
		change_on_leaf(supervisor, message->body, message->tail);
		return;
	case IPC_MESSAGE_notice:
		supervisor_say(supervisor, "%.*s", SPAN_ARG(message->tail));
		return;
	case IPC_MESSAGE_unanswered:
		origins_on_unanswered(supervisor, message->body, message->tail);
		return;
	case IPC_MESSAGE_root_news:
		on_root_news(supervisor, child, message->body, message->tail);
		return;
	case IPC_MESSAGE_log_reopen:
		logs_reopen(supervisor, child,
			    ((const struct ipc_log_reopen *)message->body)->which);
		return;
	default:
		return;
	}
}

static void on_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct child *child = owner;
	struct supervisor *supervisor = child->supervisor;

	ipc_channel_close(channel);
	supervisor_now(supervisor);
	/* Without a channel it is of no use, whether it ends by itself or not. */
	if (why)
		condemn(supervisor, child, why);
	else
		lifecycle_condemn(supervisor->lifecycle, child->index, "closed its channel");
}

static const struct ipc_handlers handlers = { .on_message = on_message, .on_closed = on_closed };

static bool is_crash(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE ||
	       number == SIGTRAP || number == SIGABRT || number == SIGSYS;
}

static void report_end(struct supervisor *supervisor, struct child *child,
		       const struct os_process_end *end)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	struct child *vault = child_find(supervisor, IPC_VAULT, 0);
	char text[64];
	struct writer name = writer_of(text, sizeof(text));

	supervisor_child_name(supervisor, child, &name);
	if (process->kind == IPC_WORKER)
		listeners_restore(supervisor);
	if (process->kind == IPC_WORKER && vault && (is_crash(end->signal) || child->is_taken_over))
		child_send(vault, IPC_MESSAGE_tickets_spoiled,
			   &(struct ipc_tickets_spoiled){ process->slot, (uint32_t)end->signal },
			   SPAN_NONE, NULL, 0);
	if (process->is_retired || lifecycle_is_stopping(supervisor->lifecycle))
		return;
	if (end->signal)
		supervisor_say(supervisor, "%.*s (pid %d) was ended by signal %d (%s)",
			       SPAN_ARG(writer_done(&name)), child->process.pid, end->signal,
			       strsignal(end->signal));
	else
		supervisor_say(supervisor, "%.*s (pid %d) ended with code %d%s",
			       SPAN_ARG(writer_done(&name)), child->process.pid, end->exit_code,
			       end->exit_code == PROC_EXIT_SANDBOX
				       ? " (its sandbox could not be made)"
				       : "");
}

static void on_end(struct os_watch *watch, unsigned now)
{
	struct child *child = CONTAINER_OF(watch, struct child, watch);
	struct supervisor *supervisor = child->supervisor;
	struct os_process_end end;

	(void)now;
	if (os_process_wait(child->process.fd, &end) < 0)
		return;
	supervisor_now(supervisor);
	/* Its last words may still wait in the channel: they say why a change is refused. */
	report_end(supervisor, child, &end);
	os_watch_remove(watch);
	os_close(TAKE_FD(child->process.fd));
	child->process.pid = 0;
	clear_range(child->range, supervisor_process(supervisor, child)->kind);
	ipc_channel_close(&child->channel);
	lifecycle_on_exited(supervisor->lifecycle, child->index);
}

/* ---- Actions --------------------------------------------------------------------------------------- */

void child_spawn(struct supervisor *supervisor, struct child *child)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	const struct proc_row *row = proc_row_find(process->kind);
	int err;

	MUST(row && !child->process.pid);
	clear_range(child->range, process->kind);
	kept_take_counters(supervisor, child);
	if (process->restarts > child->restarts)
		telemetry_count((struct telemetry_counters *)supervisor->range->counters,
				TELEMETRY_COUNTER_PROCESS_RESTARTS);
	child->restarts = process->restarts;
	child->plan_sent = child->plan_committed = child->data_sent = child->data_committed = 0;
	child->ready = (struct ipc_ready){ 0 };
	child->is_taken_over = false;
	child->started_wall_ns = (int64_t)os_wall_ns();
	child->busy_ticks = 0;
	err = child_start(row, process->slot, supervisor->loop, &child->process, &child->channel);
	if (!err) {
		child->watch = (struct os_watch){ .on_ready = on_end };
		err = os_watch_add(supervisor->loop, &child->watch, child->process.fd,
				   OS_WATCH_EDGE);
		if (err < 0) {
			ipc_channel_close(&child->channel);
			child_undo(&child->process);
		}
	}
	if (err < 0) {
		supervisor_say(supervisor, "%s could not be started: %s", row->name,
			       strerror(-err));
		child->process.pid = 0;
		lifecycle_on_exited(supervisor->lifecycle, child->index);
		return;
	}
	ipc_channel_handle(&child->channel, &handlers, child);
	send_birth(supervisor, child, row);
}

void child_kill(struct supervisor *supervisor, struct child *child, const char *why)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	char text[64];
	struct writer name = writer_of(text, sizeof(text));

	if (!child->process.pid)
		return;
	supervisor_child_name(supervisor, child, &name);
	if (!process->is_retired && !lifecycle_is_stopping(supervisor->lifecycle))
		supervisor_say(supervisor, "%.*s (pid %d) is ended: %s",
			       SPAN_ARG(writer_done(&name)), child->process.pid, why);
	os_process_signal(child->process.fd, SIGKILL);
}

void child_welcome(struct supervisor *supervisor, struct child *child)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);

	switch (process->kind) {
	case IPC_WORKER:
		listeners_give(supervisor, child, false);
		orders_give(supervisor, child);
		break;
	case IPC_VAULT:
		kept_give(supervisor, child);
		if (supervisor->running)
			change_send_keys(child, supervisor->running, 0);
		/* The vault that answered for the change under way has died since: what it knew must be known to this
		 * one, or the change commits chains whose keys nobody has. */
		if (supervisor->next &&
		    (lifecycle_phase(supervisor->lifecycle) == LIFECYCLE_PREPARING ||
		     lifecycle_phase(supervisor->lifecycle) == LIFECYCLE_STORING))
			change_send_keys(child, supervisor->next, supervisor->next->change);
		break;
	case IPC_LOG:
		logs_give(supervisor, child);
		break;
	case IPC_SUPERVISOR:
	case IPC_KEYHOLDER:
	case IPC_FILES:
	case IPC_DIALER:
	case IPC_CHECK:
	case IPC_COMMAND:
	case IPC_KIND_COUNT:
		break;
	}
	kept_give_counters(supervisor, child);
}

void child_link(struct supervisor *supervisor, struct child *child, struct child *peer)
{
	const struct lifecycle_process *one = supervisor_process(supervisor, child);
	const struct lifecycle_process *other = supervisor_process(supervisor, peer);
	int ends[2];

	if (os_packet_pair(ends) < 0) {
		lifecycle_condemn(supervisor->lifecycle, child->index,
				  "no descriptor is left for its channel");
		return;
	}
	child_send(child, IPC_MESSAGE_link_life,
		   &(struct ipc_link_life){ other->kind, other->slot, other->instance }, SPAN_NONE,
		   &ends[0], 1);
	child_send(peer, IPC_MESSAGE_link_life,
		   &(struct ipc_link_life){ one->kind, one->slot, one->instance }, SPAN_NONE,
		   &ends[1], 1);
	os_close(ends[0]);
	os_close(ends[1]);
}
