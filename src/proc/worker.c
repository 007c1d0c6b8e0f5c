/* The worker: all bytes of peers. This file only translates between main's callbacks and edge. */
#include "proc/proc.h"

#include "edge/edge.h"

struct worker {
	struct edge *edge;
	struct telemetry_ring *ring;
	int ring_event;
	const struct proc_shared_keys *shared;
	struct proc_self *self;
	const struct snapshot *wanted; /* an old one whose place a change waits for */
	uint64_t wanted_since_ns;
};

static int map_grant(struct ipc_message *message, size_t size, unsigned flags, void **ret_memory)
{
	if (message->descriptor_count < 1)
		return -EINVAL;
	return os_memory_map(message->descriptors[0], size, NULL, flags, ret_memory);
}

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct worker *worker = state;
	void *memory;
	int failed;

	(void)self;
	switch (grant->what) {
	case IPC_GRANT_RING:
		if (message->descriptor_count < 2)
			return -EINVAL;
		failed = map_grant(message, sizeof(struct telemetry_ring), OS_MAP_WRITE, &memory);
		if (failed)
			return failed;
		worker->ring = memory;
		worker->ring_event = TAKE_FD(message->descriptors[1]);
		return 0;
	case IPC_GRANT_TICKETS:
		failed = map_grant(message, sizeof(struct proc_shared_keys), 0, &memory);
		if (failed)
			return failed;
		worker->shared = memory;
		return 0;
	default:
		return 0;
	}
}

static void release_snapshot(void *host, const struct snapshot *snapshot)
{
	struct worker *worker = host;

	proc_snapshot_unref(worker->self, snapshot);
}

static void drained(void *host)
{
	struct worker *worker = host;

	proc_exit(worker->self, 0);
}

static const struct edge_host host = {
	.release_snapshot = release_snapshot,
	.drained = drained,
};

static int on_sandboxed(void *state, struct proc_self *self)
{
	struct worker *worker = state;
	struct edge_config config = {
		.loop = proc_loop(self),
		.slot = proc_birth(self)->slot,
		.slot_count = proc_birth(self)->slot_count,
		.range = proc_range(self),
		.host = &host,
		.host_data = worker,
		.tickets = worker->shared ? &worker->shared->tickets : NULL,
		.cookies = worker->shared ? &worker->shared->cookies : NULL,
		.gateway_id = proc_birth(self)->gateway_id,
		.connections_max = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_CONNECTIONS].value,
	};
	uint64_t nofile = proc_birth(self)->nofile;
	int failed;

	/* Half of the descriptors may be origins' and documents'. */
	if (nofile && config.connections_max > nofile / 2)
		config.connections_max = (uint32_t)(nofile / 2);
	config.descriptors_max = (uint32_t)nofile;
	worker->self = self;
	failed = edge_new(&config, &worker->edge);
	if (failed)
		return failed;
	if (worker->ring)
		edge_set_log(worker->edge, worker->ring, worker->ring_event);
	return 0;
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct worker *worker = state;

	if (channel->peer == IPC_COMMAND) {
		if (message->number == IPC_MESSAGE_origins)
			edge_tell_origins(worker->edge, channel);
		return;
	}
	if (channel != proc_supervisor(self)) {
		edge_message(worker->edge, channel, message);
		return;
	}
	switch ((unsigned)message->number) {
	case IPC_MESSAGE_listener: {
		const struct ipc_listener *body = message->body;

		if (message->descriptor_count == 1 &&
		    edge_listener_add(worker->edge, body->id, body->slot,
				      TAKE_FD(message->descriptors[0])))
			proc_exit(self, PROC_EXIT_FAULT);
		return;
	}
	case IPC_MESSAGE_listener_gone:
		edge_listener_remove(worker->edge,
				     ((const struct ipc_listener_gone *)message->body)->id);
		return;
	case IPC_MESSAGE_adopt: {
		const struct ipc_adopt *body = message->body;

		edge_adopt(worker->edge, body->slot, body->on);
		return;
	}
	case IPC_MESSAGE_origin_order:
		edge_order(worker->edge, message->body);
		return;
	default:
		return;
	}
}

/* The log is written through a ring: its channel only tells that it lives. A command asks, and is asked nothing. */
static bool is_asked(enum ipc_kind kind)
{
	return kind != IPC_LOG && kind != IPC_COMMAND;
}

static void on_linked(void *state, struct proc_self *self, struct ipc_channel *channel)
{
	struct worker *worker = state;

	(void)self;
	if (is_asked(channel->peer))
		edge_link(worker->edge, channel->peer, channel);
}

static void on_unlinked(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	struct worker *worker = state;

	(void)self;
	if (is_asked(kind))
		edge_unlink(worker->edge, kind, slot);
}

static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	struct worker *worker = state;
	const struct proc_data *data;
	size_t cursor = 0;
	int failed = 0;

	while (!failed && (data = proc_data_next(self, &cursor))) {
		if (data->change == change)
			failed = edge_data(worker->edge, data->what, data->id, data->bytes);
	}
	if (!failed)
		failed = edge_prepare(worker->edge, snapshot);
	if (failed) {
		proc_refuse(self, 0,
			    SPAN("a worker could not take over certificates or TLS settings"));
		return PROC_PREPARE_REFUSED;
	}
	if (snapshot)
		proc_snapshot_ref(self, snapshot);
	return PROC_PREPARED;
}

static void on_commit(void *state, struct proc_self *self, uint64_t change)
{
	struct worker *worker = state;

	(void)self;
	(void)change;
	edge_commit(worker->edge);
}

static void on_abandon(void *state, struct proc_self *self, uint64_t change)
{
	struct worker *worker = state;

	(void)self;
	(void)change;
	edge_abandon(worker->edge);
}

static void on_turn(void *state, struct proc_self *self)
{
	struct worker *worker = state;

	(void)self;
	edge_turn(worker->edge);
}

/* A change that waits for an old snapshot's place waits for its exchanges; not for ever. */
static void on_second(void *state, struct proc_self *self)
{
	struct worker *worker = state;
	const struct snapshot *wanted = proc_snapshot_wanted(self);
	uint64_t now_ns = os_loop_now_ns(proc_loop(self));

	if (wanted != worker->wanted)
		worker->wanted_since_ns = now_ns;
	worker->wanted = wanted;
	if (wanted && now_ns - worker->wanted_since_ns >=
			      telemetry_limits[TELEMETRY_LIMIT_SNAPSHOT_WAIT].value)
		edge_interrupt_snapshot(worker->edge, wanted);
}

static void on_drain(void *state, struct proc_self *self, uint32_t deadline_ms)
{
	struct worker *worker = state;
	uint64_t wait_ns =
		deadline_ms == UINT32_MAX ? 3600 * OS_SECOND : deadline_ms * (uint64_t)OS_MS;

	/* As an orphan there is a successor and time: a kept-alive connection is told with its next answer, so
	 * that no request meets a closing one. */
	edge_drain(worker->edge, os_loop_now_ns(proc_loop(self)) + wait_ns, !proc_is_orphan(self));
}

const struct proc_kind proc_worker = {
	.state_size = sizeof(struct worker),
	.grant = on_grant,
	.sandboxed = on_sandboxed,
	.message = on_message,
	.linked = on_linked,
	.unlinked = on_unlinked,
	.prepare = on_prepare,
	.commit = on_commit,
	.abandon = on_abandon,
	.turn = on_turn,
	.second = on_second,
	.drain = on_drain,
};
