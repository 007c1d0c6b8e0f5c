/* The dialer process: the only one that resolves names or connects. Workers name an origin's id and get a
 * connected socket; which addresses that may lead to is in the snapshot, not in their message. */
#include "proc/proc.h"

#include "dial/dial.h"
#include "proc/dialer_check.h"
#include "proc/dialer_internal.h"
#include "telemetry/telemetry.h"

enum {
	ATTEMPTS_PER_CHANNEL_MAX = 4096,
	TIMEOUT_MAX_MS = 120000,
	/* Descriptors that are not for attempts: channels, what waits in them for a worker, name servers. */
	DESCRIPTORS_PER_CHANNEL = 66,
	DESCRIPTORS_RESERVED = 64,
	ADDRESSES_MAX = 16, /* of one origin: limit `dns-addresses` */
};

struct dialer {
	struct proc_self *self;
	struct dial *dial;
	const struct snapshot *fresh; /* of the change under way */
	struct list channels;
	size_t attempts_max; /* of one channel */
	struct dialer_looks looks;
	struct dialer_checks *checks;
};

struct dialer_channel {
	struct list link;
	struct ipc_channel *channel;
	enum ipc_kind kind;
	uint32_t slot;
	struct list questions;
	size_t count;
};

struct dialer_question {
	struct list link;
	struct dialer_channel *channel;
	struct ipc_question name;
	struct dial_attempt *attempt;
};

/* ---- Channels ------------------------------------------------------------------------------------------ */

static struct dialer_channel *channel_find(struct dialer *dialer, enum ipc_kind kind, uint32_t slot)
{
	LIST_EACH(&dialer->channels, node) {
		struct dialer_channel *channel = LIST_ITEM(node, struct dialer_channel, link);

		if (channel->kind == kind && channel->slot == slot)
			return channel;
	}
	return NULL;
}

static void question_free(struct dialer_question *question)
{
	question->channel->count--;
	list_remove(&question->link);
	heap_free(question);
}

static void question_cancel(struct dialer_question *question)
{
	dial_cancel(question->attempt);
	question_free(question);
}

static void channel_free(struct dialer_channel *channel)
{
	LIST_EACH(&channel->questions, node) {
		struct dialer_question *question = LIST_ITEM(node, struct dialer_question, link);

		question_cancel(question);
	}
	list_remove(&channel->link);
	heap_free(channel);
}

static void on_unlinked(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	struct dialer *dialer = state;
	struct dialer_channel *channel = channel_find(dialer, kind, slot);

	(void)self;
	if (channel)
		channel_free(channel);
}

/* A new channel of the same worker: what it still wants it asks again. */
static void on_linked(void *state, struct proc_self *self, struct ipc_channel *ipc)
{
	struct dialer *dialer = state;
	struct dialer_channel *channel;

	/* A command asks for no connections. */
	if (ipc->peer == IPC_COMMAND)
		return;
	on_unlinked(dialer, self, ipc->peer, ipc->peer_slot);
	channel = heap_alloc(sizeof(*channel));
	if (!channel) {
		proc_exit(self, PROC_EXIT_FAULT);
		return;
	}
	channel->channel = ipc;
	channel->kind = ipc->peer;
	channel->slot = ipc->peer_slot;
	list_init(&channel->questions);
	list_push_back(&dialer->channels, &channel->link);
	dialer_checks_tell(dialer->checks, ipc);
}

/* ---- Questions ----------------------------------------------------------------------------------------- */

/* A worker that does not read its answers has given up on them: the descriptor is closed, the question's own
 * deadline there ends it. */
static void answer_failed(struct ipc_channel *channel, struct ipc_question name, uint32_t status,
			  int error_number, struct span detail)
{
	struct ipc_dial_failed body = {
		.question = name,
		.status = status,
		.error_number = (uint32_t)error_number,
	};

	if (ipc_send(channel, IPC_MESSAGE_dial_failed, &body, span_first(detail, 256), NULL, 0))
		ipc_channel_flush(channel);
}

/* One that does not read loses it, as all else: it may use an old connection once more, until that is closed. */
static void send_addresses(struct ipc_channel *channel, uint64_t origin,
			   const struct os_address *addresses, size_t count)
{
	struct ipc_origin_addresses body = { .origin = origin, .count = (uint32_t)count };
	struct ipc_origin_address tail[ADDRESSES_MAX] = { 0 };

	MUST(count <= ARRAY_LEN(tail));
	for (size_t i = 0; i < count; i++) {
		tail[i].family = addresses[i].family;
		for (size_t k = 0; k < sizeof(tail[i].address); k++)
			tail[i].address[k] = addresses[i].ip[k];
	}
	if (ipc_send(channel, IPC_MESSAGE_origin_addresses, &body,
		     span_of(tail, count * sizeof(*tail)), NULL, 0))
		ipc_channel_flush(channel);
}

static void on_change(void *owner, uint64_t origin, const struct os_address *addresses,
		      size_t count)
{
	struct dialer *dialer = owner;

	LIST_EACH(&dialer->channels, node) {
		struct dialer_channel *channel = LIST_ITEM(node, struct dialer_channel, link);

		if (channel->kind == IPC_WORKER)
			send_addresses(channel->channel, origin, addresses, count);
	}
}

static void on_refused(void *owner, uint64_t origin, const struct os_address *address)
{
	struct dialer *dialer = owner;
	struct ipc_address_refused body = { .origin = origin };
	char text[OS_ADDRESS_TEXT_MAX];
	struct writer writer = writer_of(text, sizeof(text));

	os_address_write_ip(address, &writer);
	telemetry_count((void *)proc_range(dialer->self)->counters,
			TELEMETRY_COUNTER_ORIGIN_ADDRESSES_REFUSED);
	LIST_EACH(&dialer->channels, node) {
		struct dialer_channel *channel = LIST_ITEM(node, struct dialer_channel, link);

		if (channel->kind == IPC_WORKER &&
		    ipc_send(channel->channel, IPC_MESSAGE_address_refused, &body,
			     writer_done(&writer), NULL, 0))
			ipc_channel_flush(channel->channel);
	}
}

static void on_cut(void *owner, uint64_t origin, bool is_first)
{
	struct dialer *dialer = owner;

	telemetry_count_limit((void *)proc_range(dialer->self)->counters,
			      TELEMETRY_LIMIT_DNS_ADDRESSES);
	if (!is_first)
		return;
	LIST_EACH(&dialer->channels, node) {
		struct dialer_channel *channel = LIST_ITEM(node, struct dialer_channel, link);

		if (channel->kind == IPC_WORKER &&
		    IPC_SEND(channel->channel, addresses_cut, .origin = origin))
			ipc_channel_flush(channel->channel);
	}
}

static void answer_dialed(struct ipc_channel *channel, struct ipc_question name,
			  const struct dial_result *result)
{
	struct ipc_dialed body = {
		.question = name,
		.family = result->peer.family,
		.port = result->peer.port,
		.connect_us = result->connect_us,
	};
	int outcome;

	for (size_t i = 0; i < sizeof(body.address); i++)
		body.address[i] = result->peer.ip[i];
	outcome = ipc_send(channel, IPC_MESSAGE_dialed, &body, SPAN_NONE, &result->fd, 1);
	/* Too many descriptors wait for it: a word has room where another of them has none. */
	if (outcome && outcome != IPC_CLOSED)
		answer_failed(channel, name, IPC_DIAL_FAILED, EBUSY,
			      SPAN("too many connections at once"));
}

static void on_done(void *owner, struct dial_attempt *attempt, const struct dial_result *result)
{
	struct dialer_question *question = owner;
	struct ipc_channel *channel = question->channel->channel;

	(void)attempt;
	if (result->status) {
		answer_failed(channel, question->name, result->status, result->error_number,
			      result->detail);
	} else {
		answer_dialed(channel, question->name, result);
		os_close(result->fd);
	}
	question_free(question);
}

static void question_start(struct dialer *dialer, struct dialer_question *question,
			   const struct ipc_dial *dial)
{
	uint32_t timeout_ms = dial->timeout_ms < TIMEOUT_MAX_MS ? dial->timeout_ms : TIMEOUT_MAX_MS;

	if (dial_start(dialer->dial, dial->origin, timeout_ms, on_done, question,
		       &question->attempt) == 0)
		return;
	answer_failed(question->channel->channel, question->name, IPC_DIAL_FAILED, ENOMEM,
		      SPAN("out of memory"));
	question_free(question);
}

static void on_dial(struct dialer *dialer, struct dialer_channel *channel,
		    const struct ipc_dial *dial)
{
	struct dialer_question *question = NULL;

	if (channel->count < dialer->attempts_max)
		question = heap_alloc(sizeof(*question));
	if (!question) {
		answer_failed(channel->channel, dial->question, IPC_DIAL_FAILED, EBUSY,
			      SPAN("too many attempts at once"));
		return;
	}
	question->channel = channel;
	question->name = dial->question;
	list_push_back(&channel->questions, &question->link);
	channel->count++;
	question_start(dialer, question, dial);
}

static void on_cancel(struct dialer_channel *channel, const struct ipc_cancel *cancel)
{
	LIST_EACH(&channel->questions, node) {
		struct dialer_question *question = LIST_ITEM(node, struct dialer_question, link);

		if (question->name.index != cancel->question.index ||
		    question->name.serial != cancel->question.serial)
			continue;
		question_cancel(question);
		return;
	}
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *ipc,
		       struct ipc_message *message)
{
	struct dialer *dialer = state;
	struct dialer_channel *channel;

	if (ipc == proc_supervisor(self)) {
		if (message->number == IPC_MESSAGE_look)
			dialer_look(&dialer->looks, self, dialer->dial);
		return;
	}
	if (ipc->peer == IPC_COMMAND) {
		if (message->number == IPC_MESSAGE_origins)
			dialer_checks_list(dialer->checks, ipc);
		return;
	}
	channel = channel_find(dialer, ipc->peer, ipc->peer_slot);
	if (!channel || channel->channel != ipc)
		return;
	if (message->number == IPC_MESSAGE_dial)
		on_dial(dialer, channel, message->body);
	else if (message->number == IPC_MESSAGE_cancel)
		on_cancel(channel, message->body);
}

/* ---- Changes ------------------------------------------------------------------------------------------- */

static enum dial_reach reach_of(const struct snapshot_origin *origin)
{
	if (origin->allow_local)
		return DIAL_REACH_ALL;
	return snapshot_name_is_internal(origin->host) ? DIAL_REACH_INTERNAL : DIAL_REACH_PUBLIC;
}

static void add_origins(const struct snapshot *snapshot, struct dial_origin *origins, size_t *count)
{
	for (size_t i = 0; snapshot && i < snapshot->origin_count; i++) {
		const struct snapshot_origin *origin = &snapshot->origins[i];

		origins[(*count)++] = (struct dial_origin){
			.id = origin->id,
			.reach = reach_of(origin),
			.host = origin->host,
			.unix_path = origin->is_unix ? origin->unix_path : SPAN_NONE,
			.port = origin->port,
		};
	}
}

static void add_listeners(const struct snapshot *snapshot, struct os_address *listeners,
			  size_t *count)
{
	for (size_t i = 0; snapshot && i < snapshot->listener_count; i++) {
		const struct conf_address *address = &snapshot->listeners[i].address;
		struct os_address *listener = &listeners[(*count)++];

		*listener = (struct os_address){
			.family = address->family,
			.port = address->port,
		};
		for (size_t k = 0; k < sizeof(listener->ip); k++)
			listener->ip[k] = address->bytes[k];
	}
}

static int set_listeners(struct dialer *dialer, const struct snapshot *first,
			 const struct snapshot *second)
{
	size_t count = (first ? first->listener_count : 0) + (second ? second->listener_count : 0),
	       used = 0;
	struct os_address *listeners = heap_alloc((count + 1) * sizeof(*listeners));
	int failed;

	if (!listeners)
		return -ENOMEM;
	add_listeners(first, listeners, &used);
	add_listeners(second, listeners, &used);
	failed = dial_set_listeners(dialer->dial, listeners, used);
	heap_free(listeners);
	return failed;
}

static int set_origins(struct dialer *dialer, const struct snapshot *first,
		       const struct snapshot *second)
{
	size_t count = (first ? first->origin_count : 0) + (second ? second->origin_count : 0),
	       used = 0;
	struct dial_origin *origins = heap_alloc((count + 1) * sizeof(*origins));
	int failed;

	if (!origins)
		return -ENOMEM;
	add_origins(first, origins, &used);
	add_origins(second, origins, &used);
	failed = set_listeners(dialer, first, second);
	if (!failed)
		failed = dial_set_origins(dialer->dial, origins, used);
	heap_free(origins);
	return failed;
}

/* From here on old and new origins are known: a worker may have committed, and ask, before we do. An id is
 * the same thing in both. */
static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	struct dialer *dialer = state;

	(void)change;
	dialer->fresh = snapshot;
	if (!snapshot || set_origins(dialer, proc_snapshot(self), snapshot) == 0)
		return PROC_PREPARED;
	dialer->fresh = NULL;
	/* The listeners of a change that is refused are none of ours. */
	if (set_origins(dialer, proc_snapshot(self), NULL))
		proc_exit(self, PROC_EXIT_FAULT);
	proc_refuse(self, 0, SPAN("the dialer has no memory for these origins"));
	return PROC_PREPARE_REFUSED;
}

static void on_commit(void *state, struct proc_self *self, uint64_t change)
{
	struct dialer *dialer = state;
	const struct proc_data *hosts = proc_data_find(self, IPC_DATA_HOSTS, 0);
	const struct proc_data *resolver = proc_data_find(self, IPC_DATA_RESOLVER, 0);
	int failed = 0;

	(void)change;
	if (hosts)
		failed = dial_set_hosts(dialer->dial, hosts->bytes);
	if (!failed && resolver)
		failed = dial_set_resolver(dialer->dial, resolver->bytes);
	if (!failed && dialer->fresh)
		failed = set_origins(dialer, dialer->fresh, NULL);
	if (!failed)
		failed = dialer_checks_commit(dialer->checks,
					      dialer->fresh ? dialer->fresh : proc_snapshot(self));
	dialer->fresh = NULL;
	if (failed)
		proc_exit(self, PROC_EXIT_FAULT);
}

static void on_abandon(void *state, struct proc_self *self, uint64_t change)
{
	struct dialer *dialer = state;

	(void)change;
	if (dialer->fresh && set_origins(dialer, proc_snapshot(self), NULL))
		proc_exit(self, PROC_EXIT_FAULT);
	dialer->fresh = NULL;
}

/* No worker uses up what the others' attempts need: each has a share of its own, and what is left is for second
 * addresses. */
static void share_out(struct dialer *dialer, const struct ipc_birth *birth)
{
	uint64_t slots = birth->slot_count ? birth->slot_count : 1,
		 kept = DESCRIPTORS_RESERVED + slots * DESCRIPTORS_PER_CHANNEL, room, share;

	if (kept > birth->nofile / 2)
		kept = birth->nofile / 2;
	room = birth->nofile - kept;
	share = room / 2 / slots;
	if (share > ATTEMPTS_PER_CHANNEL_MAX)
		share = ATTEMPTS_PER_CHANNEL_MAX;
	dialer->attempts_max = (size_t)(share ? share : 1);
	dial_set_room(dialer->dial, (size_t)(room - share * slots));
}

static int on_born(void *state, struct proc_self *self)
{
	struct dialer *dialer = state;
	int failed = dial_new(proc_loop(self), &dialer->dial);

	list_init(&dialer->channels);
	dialer->self = self;
	if (!failed) {
		dial_on_change(dialer->dial, on_change, dialer);
		dial_on_refused(dialer->dial, on_refused, dialer);
		dial_on_cut(dialer->dial, on_cut, dialer);
	}
	if (!failed)
		share_out(dialer, proc_birth(self));
	return failed ? failed : dialer_checks_new(self, dialer->dial, &dialer->checks);
}

static void on_turn(void *state, struct proc_self *self)
{
	struct dialer *dialer = state;

	(void)self;
	dialer_checks_turn(dialer->checks);
}

const struct proc_kind proc_dialer = {
	.state_size = sizeof(struct dialer),
	.born = on_born,
	.message = on_message,
	.linked = on_linked,
	.unlinked = on_unlinked,
	.prepare = on_prepare,
	.commit = on_commit,
	.abandon = on_abandon,
	.turn = on_turn,
};
