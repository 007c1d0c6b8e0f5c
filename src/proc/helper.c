#include "proc/proc.h"

#include <string.h>

#include "crypto/crypto.h"
#include "proc/self_internal.h"
#include "telemetry/telemetry.h"

enum {
	BIRTH_TIMEOUT_MS = 20000,
	BEAT_MS = 500, /* the supervisor calls 2 s of silence a hang */
	ORPHAN_DRAIN_MS =
		600 * 1000, /* of a worker whose successor serves: long transfers end well */
	NAME_MAX_LEN = 32,
};

static void check_idle(struct proc_self *self);

/* ---- For handlers ---------------------------------------------------------------------------------- */

struct os_loop *proc_loop(struct proc_self *self)
{
	return self->loop;
}

const struct ipc_birth *proc_birth(const struct proc_self *self)
{
	return &self->birth;
}

struct ipc_channel *proc_supervisor(struct proc_self *self)
{
	return &self->supervisor;
}

struct ipc_range *proc_range(struct proc_self *self)
{
	return self->range;
}

static struct proc_link *link_find(struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	LIST_EACH(&self->links, node) {
		struct proc_link *link = LIST_ITEM(node, struct proc_link, link);

		if (!link->is_dead && link->channel.peer == kind && link->channel.peer_slot == slot)
			return link;
	}
	return NULL;
}

struct ipc_channel *proc_link(struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	struct proc_link *link = link_find(self, kind, slot);

	return link ? &link->channel : NULL;
}

void proc_exit(struct proc_self *self, int code)
{
	if (self->is_ending)
		return;
	self->is_ending = true;
	self->exit_code = code;
	os_loop_stop(self->loop);
}

bool proc_is_draining(const struct proc_self *self)
{
	return self->is_draining;
}

bool proc_is_orphan(const struct proc_self *self)
{
	return self->is_orphan;
}

/* ---- Links ----------------------------------------------------------------------------------------- */

static void link_drop(struct proc_link *link)
{
	ipc_channel_close(&link->channel);
	link->is_dead = true;
}

/* Its end may be told after its successor's beginning: the handlers hear of it in that order. */
static void link_lost(struct proc_self *self, struct proc_link *link)
{
	enum ipc_kind kind = link->channel.peer;
	uint32_t slot = link->channel.peer_slot;

	link_drop(link);
	if (self->kind->unlinked)
		self->kind->unlinked(self->state, self, kind, slot);
}

static void tell_broken(struct proc_self *self, const struct ipc_channel *channel, const char *why)
{
	struct ipc_broken broken = { .kind = channel->peer, .slot = channel->peer_slot };

	if (!self->is_orphan && ipc_send(&self->supervisor, IPC_MESSAGE_broken, &broken,
					 span_first(span_str(why), 256), NULL, 0) < 0)
		proc_exit(self, PROC_EXIT_FAULT);
}

void proc_broken(struct proc_self *self, struct ipc_channel *channel, const char *why)
{
	if (!ipc_channel_is_open(channel) || channel == &self->supervisor)
		return;
	tell_broken(self, channel, why);
	link_lost(self, CONTAINER_OF(channel, struct proc_link, channel));
	check_idle(self);
}

static void on_link_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct proc_self *self = owner;

	if (self->kind->message)
		self->kind->message(self->state, self, channel, message);
}

/* The other end may live: a call that failed ends a channel as well as a death. Who is asked is told by who asks. */
static void tell_unlinked(struct proc_self *self, const struct ipc_channel *channel)
{
	uint32_t index = proc_link_index(channel->peer, channel->peer_slot);
	struct ipc_unlinked unlinked = { .kind = channel->peer,
					 .slot = channel->peer_slot,
					 .link = self->links_got[channel->peer][index] };

	if (!(self->row->links & 1U << channel->peer) || self->is_orphan)
		return;
	if (ipc_send(&self->supervisor, IPC_MESSAGE_unlinked, &unlinked, SPAN_NONE, NULL, 0) < 0)
		proc_exit(self, PROC_EXIT_FAULT);
}

static void on_link_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct proc_self *self = owner;
	enum ipc_kind kind = channel->peer;
	uint32_t slot = channel->peer_slot;

	if (why)
		tell_broken(self, channel, why);
	else
		tell_unlinked(self, channel);
	link_drop(CONTAINER_OF(channel, struct proc_link, channel));
	if (self->kind->unlinked)
		self->kind->unlinked(self->state, self, kind, slot);
	check_idle(self);
}

static const struct ipc_handlers link_handlers = { .on_message = on_link_message,
						   .on_closed = on_link_closed };

static int link_add(struct proc_self *self, struct ipc_message *message)
{
	const struct ipc_link *body = message->body;
	struct proc_link *old, *link;
	uint32_t index;
	int err;

	if (message->descriptor_count != 1 || body->kind >= IPC_KIND_COUNT)
		return -EBADMSG;
	index = proc_link_index((enum ipc_kind)body->kind, body->slot);
	if (index >= LIFECYCLE_COUNT_MAX)
		return -EBADMSG;
	link = heap_alloc(sizeof(*link));
	if (!link)
		return -ENOMEM;
	old = link_find(self, (enum ipc_kind)body->kind, body->slot);
	if (old)
		link_lost(self, old);
	err = ipc_channel_open(&link->channel, self->loop, TAKE_FD(message->descriptors[0]),
			       self->row->kind, (enum ipc_kind)body->kind);
	if (err < 0) {
		heap_free(link);
		return err;
	}
	link->channel.peer_slot = body->slot;
	self->links_got[body->kind][index]++;
	list_push_back(&self->links, &link->link);
	ipc_channel_handle(&link->channel, &link_handlers, self);
	if (self->kind->linked)
		self->kind->linked(self->state, self, &link->channel);
	return 0;
}

static void links_end_turn(struct proc_self *self)
{
	LIST_EACH(&self->links, node) {
		struct proc_link *link = LIST_ITEM(node, struct proc_link, link);

		if (link->is_dead) {
			list_remove(node);
			heap_free(link);
		} else {
			ipc_channel_flush(&link->channel);
		}
	}
}

/* ---- Drain ----------------------------------------------------------------------------------------- */

/* A kind without a drain of its own is done when nobody can ask it any more. Whom it asks itself does not count:
 * keyholder and vault would wait for each other. */
static void check_idle(struct proc_self *self)
{
	if (!self->is_draining || self->kind->drain)
		return;
	LIST_EACH(&self->links, node) {
		const struct proc_link *link = LIST_ITEM(node, struct proc_link, link);

		if (!link->is_dead && !(self->row->links & 1U << link->channel.peer))
			return;
	}
	proc_exit(self, 0);
}

static void drain(struct proc_self *self, uint32_t deadline_ms)
{
	self->is_draining = true;
	self->drain_deadline_ns = 0;
	if (deadline_ms != UINT32_MAX)
		self->drain_deadline_ns = os_loop_now_ns(self->loop) + deadline_ms * OS_MS;
	if (self->kind->drain)
		self->kind->drain(self->state, self, deadline_ms);
	check_idle(self);
}

/* Serving on without a supervisor: once a successor serves, there is nothing more to do here. One that came and
 * stopped between two looks has left the lock's file empty, which ours could not do any more. */
static void look_for_successor(struct proc_self *self)
{
	struct os_file_info info;

	if (!self->is_orphan || self->is_draining)
		return;
	if (os_lock_is_held(self->lock_fd, 0) != 1 &&
	    (os_file_info(self->lock_fd, &info) || info.size))
		return;
	drain(self, self->row->kind == IPC_WORKER ? ORPHAN_DRAIN_MS : UINT32_MAX);
}

/* ---- The supervisor -------------------------------------------------------------------------------- */

static void on_supervisor_message(void *owner, struct ipc_channel *channel,
				  struct ipc_message *message)
{
	struct proc_self *self = owner;

	switch ((uint32_t)message->number) {
	case IPC_MESSAGE_link:
		if (link_add(self, message) < 0)
			proc_exit(self, PROC_EXIT_FAULT);
		return;
	case IPC_MESSAGE_data:
		proc_holding_data(self, message);
		return;
	case IPC_MESSAGE_prepare:
		proc_holding_prepare(self, message);
		return;
	case IPC_MESSAGE_commit:
		proc_holding_commit(self, ((const struct ipc_commit *)message->body)->change);
		return;
	case IPC_MESSAGE_abandon:
		proc_holding_abandon(self, ((const struct ipc_abandon *)message->body)->change);
		return;
	case IPC_MESSAGE_drain:
		drain(self, ((const struct ipc_drain *)message->body)->deadline_ms);
		return;
#ifdef PORTCULLIS_TEST_CLOCK
	case IPC_MESSAGE_clock_move: {
		const struct ipc_clock_move *body = message->body;

		os_clock_move(body->monotonic_ns, body->wall_ns);
		return;
	}
#endif
	default:
		if (self->kind->message)
			self->kind->message(self->state, self, channel, message);
	}
}

static void on_supervisor_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct proc_self *self = owner;

	(void)why;
	ipc_channel_close(channel);
	self->is_orphan = true;
	if (self->kind->orphaned)
		self->kind->orphaned(self->state, self);
}

static const struct ipc_handlers supervisor_handlers = { .on_message = on_supervisor_message,
							 .on_closed = on_supervisor_closed };

/* ---- The loop -------------------------------------------------------------------------------------- */

static void beat(struct proc_self *self)
{
	__atomic_store_n(&self->range->heartbeat, self->range->heartbeat + 1, __ATOMIC_RELAXED);
}

static void on_turn(void *owner)
{
	struct proc_self *self = owner;

	proc_holding_turn(self);
	if (self->kind->turn && !self->is_ending)
		self->kind->turn(self->state, self);
	telemetry_count((struct telemetry_counters *)self->range->counters,
			TELEMETRY_COUNTER_TURNS);
	beat(self);
	ipc_channel_flush(&self->supervisor);
	links_end_turn(self);
}

static void on_beat(struct os_timer *timer)
{
	struct proc_self *self = CONTAINER_OF(timer, struct proc_self, beat);
	uint64_t now_ns = os_loop_now_ns(self->loop);

	os_timer_set(self->loop, timer, now_ns + BEAT_MS * OS_MS);
	/* What the kind itself does at its deadline leaves first: this end comes a beat behind it, and still before the
	 * supervisor's, a second later. */
	if (self->is_drain_over)
		proc_exit(self, 0);
	self->is_drain_over = self->drain_deadline_ns && now_ns >= self->drain_deadline_ns;
	if (++self->beats % 2)
		return;
	look_for_successor(self);
	if (self->kind->second)
		self->kind->second(self->state, self);
}

/* ---- Birth ----------------------------------------------------------------------------------------- */

static int take_birth(struct proc_self *self)
{
	struct ipc_message message;
	void *range;
	int err = ipc_wait(&self->supervisor, BIRTH_TIMEOUT_MS, &message);

	if (err)
		return err < 0 ? err : -ECONNRESET;
	if (message.number != IPC_MESSAGE_birth || message.descriptor_count != 2) {
		ipc_message_done(&message);
		return -EBADMSG;
	}
	self->birth = *(const struct ipc_birth *)message.body;
	err = os_memory_map(message.descriptors[0], IPC_RANGE_SIZE, NULL, OS_MAP_WRITE, &range);
	if (!err) {
		self->range = range;
		self->lock_fd = TAKE_FD(message.descriptors[1]);
		beat(self);
	}
	ipc_message_done(&message);
	return err;
}

/* The sandbox's rule is made on the descriptor itself, so main needs its own copy of it. */
static int keep_path(struct proc_self *self, uint32_t what, const struct ipc_message *message)
{
	unsigned access = what < ARRAY_LEN(self->row->access) ? self->row->access[what] : 0;
	int err;

	if (!access || !message->descriptor_count)
		return 0;
	if (self->path_count == ARRAY_LEN(self->paths))
		return -E2BIG;
	err = os_duplicate(message->descriptors[0], &self->paths[self->path_count].fd);
	if (err < 0)
		return err;
	self->paths[self->path_count++].access = access;
	return 0;
}

static int take_grants(struct proc_self *self)
{
	for (;;) {
		struct ipc_message message;
		bool is_born;
		int err = ipc_wait(&self->supervisor, BIRTH_TIMEOUT_MS, &message);

		if (err)
			return err < 0 ? err : -ECONNRESET;
		is_born = message.number == IPC_MESSAGE_born;
		if (message.number == IPC_MESSAGE_grant) {
			const struct ipc_grant *grant = message.body;

			err = keep_path(self, grant->what, &message);
			if (!err && self->kind->grant)
				err = self->kind->grant(self->state, self, grant, &message);
		} else if (!is_born) {
			err = -EBADMSG;
		}
		ipc_message_done(&message);
		beat(self);
		if (err || is_born)
			return err;
	}
}

static void drop_paths(struct proc_self *self)
{
	for (size_t i = 0; i < self->path_count; i++)
		os_close(self->paths[i].fd);
	self->path_count = 0;
}

static int enter_sandbox(struct proc_self *self, bool is_closed,
			 struct os_sandbox_report *ret_report)
{
	struct os_limit_value limits[PROC_LIMITS_MAX];
	struct os_sandbox sandbox = proc_row_sandbox(self->row, &self->birth, is_closed, limits);

	sandbox.paths = self->paths;
	sandbox.path_count = is_closed ? 0 : self->path_count;
	return os_sandbox_enter(&sandbox, ret_report);
}

int proc_sandbox(struct proc_self *self, bool is_closed)
{
	struct os_sandbox_report report;
	int err = enter_sandbox(self, is_closed, &report);

	drop_paths(self);
	return err;
}

static int say_ready(struct proc_self *self, const struct os_sandbox_report *report)
{
	struct ipc_ready ready = {
		.enforced = report->enforced,
		.missing = report->missing,
		.landlock_abi = report->landlock_abi,
		.secret_memory = self->range->secret_memory,
	};
	int err = ipc_send(&self->supervisor, IPC_MESSAGE_ready, &ready, SPAN_NONE, NULL, 0);

	ipc_channel_flush(&self->supervisor);
	return err;
}

static void set_name(const struct proc_self *self)
{
	char name[NAME_MAX_LEN];
	struct writer out = writer_of(name, sizeof(name) - 1);

	write_str(&out, self->row->name);
	if (self->row->per_slot || self->birth.slot) {
		write_byte(&out, ' ');
		write_u64(&out, self->birth.slot);
	}
	*out.at = 0;
	os_process_set_name(name);
}

static int endow(struct proc_self *self)
{
	int err = take_birth(self);

	if (err < 0)
		return err;
	set_name(self);
	/* A CPU that went away is no reason not to serve. */
	if (self->birth.cpu != UINT32_MAX && os_cpu_pin(self->birth.cpu) < 0)
		self->birth.cpu = UINT32_MAX;
	if (self->row->is_patient)
		os_process_be_patient();
	if (self->row->is_member) {
		err = os_memory_reserve((void *)(uintptr_t)self->birth.snapshot_base, // NOLINT
					PROC_SNAPSHOT_PLACES * PROC_SNAPSHOT_PLACE_SIZE);
		if (err < 0)
			return err;
	}
	err = take_grants(self);
	if (err < 0)
		return err;
	if (self->row->starts_crypto)
		crypto_start();
	beat(self);
	return self->kind->born ? self->kind->born(self->state, self) : 0;
}

static int serve(struct proc_self *self)
{
	struct os_sandbox_report report;
	int err = enter_sandbox(self, false, &report);

	drop_paths(self);
	if (err < 0)
		return PROC_EXIT_SANDBOX;
	beat(self);
	if (self->kind->sandboxed && self->kind->sandboxed(self->state, self) < 0)
		return PROC_EXIT_BIRTH;
	ipc_channel_handle(&self->supervisor, &supervisor_handlers, self);
	if (say_ready(self, &report))
		return PROC_EXIT_BIRTH;
	self->beat.on_due = on_beat;
	os_timer_set(self->loop, &self->beat, os_now_ns() + BEAT_MS * OS_MS);
	err = os_loop_run(self->loop, on_turn, self);
	return err < 0 ? PROC_EXIT_FAULT : self->exit_code;
}

int proc_helper_main(struct span role)
{
	struct proc_self *self = heap_alloc(sizeof(*self));
	int err;

	if (!self)
		return PROC_EXIT_BIRTH;
	self->row = proc_row_by_name(role);
	if (!self->row || !os_descriptor_is_open(PROC_CHANNEL_FD))
		return PROC_EXIT_BIRTH;
	os_program_forget(); /* no row starts anything */
	self->kind = self->row->handlers;
	self->lock_fd = self->waiting_fd = -1;
	list_init(&self->links);
	self->state = heap_alloc(self->kind->state_size ? self->kind->state_size : 1);
	err = self->state ? os_loop_new(&self->loop) : -ENOMEM;
	if (!err)
		err = ipc_channel_open(&self->supervisor, self->loop, PROC_CHANNEL_FD,
				       self->row->kind, IPC_SUPERVISOR);
	if (!err)
		err = endow(self);
	if (err < 0)
		return PROC_EXIT_BIRTH;
	if (self->kind->run)
		return self->kind->run(self->state, self);
	return serve(self);
}
