/* The keyholder: TLS signatures for the worker of its slot, and nothing else. It starts without a key and pulls
 * from the vault what it lacks; what is parked meanwhile is asked by the worker's patience. */
#include "proc/proc.h"

#include <string.h>

#include "keys/keys.h"
#include "snapshot/snapshot.h"
#include "telemetry/telemetry.h"

enum {
	KEYHOLDER_KEYS = 256,         /* that its secret heap has room for */
	KEYHOLDER_PARKED_MAX = 16384, /* requests that wait: for a key, or for their turn */
	KEYHOLDER_BATCH_US = 1000,    /* of signing in one turn */
	KEYHOLDER_FORGET_S = 3600,
	KEYHOLDER_EVICT_S = 60, /* when the heap is full */
	/* Workers commit a change a little earlier or later than we do, and handshakes under way end with what they
	 * began with: for so long the keys of before it sign too. */
	KEYHOLDER_SETTLE_S = 60,
};

/* A request as it came. */
struct parked {
	struct list link;
	bool is_tls13, is_pulled; /* is_pulled: the vault was asked for its key already */
	union {
		struct ipc_sign13 sign13;
		struct ipc_sign12 sign12;
	};
	uint32_t tail_len;
	char tail[512];
};

/* A key that the vault was asked for, once, and who waits for it. */
struct pull {
	struct list link;
	struct keys_handle handle;
	struct list parked;
	uint64_t asked_at_ns;
};

struct keyholder {
	struct keys_store *store;
	struct telemetry_counters *counters;
	struct slab slab;
	struct list waiting; /* for their turn, oldest first */
	struct list
		pulls; /* at most as many as the plan has certificates: others are refused before */
	uint64_t preparing;    /* the change under way, or 0 */
	uint64_t settle_at_ns; /* 0: the allow-list is the committed plan's */
};

/* ---- Birth ------------------------------------------------------------------------------------------------ */

/* All that libcrypto allocates lies in the secret map from its first call on. */
static int on_born(void *state, struct proc_self *self)
{
	struct keyholder *keyholder = state;
	size_t size = keys_heap_size_for(KEYHOLDER_KEYS);
	enum os_secret_kind kind;
	struct keys_heap *heap;
	void *memory;
	int failed;

	os_limit_raise(OS_LIMIT_LOCKED_BYTES, size + (1u << 20));
	failed = os_secret_map(size, &memory, &kind);
	if (failed)
		return failed;
	heap = keys_heap_new(memory, size);
	failed = heap ? keys_heap_install(heap) : -ENOMEM;
	if (failed)
		return failed;
	crypto_start();
	proc_range(self)->secret_memory = kind;
	list_init(&keyholder->waiting);
	list_init(&keyholder->pulls);
	slab_init(&keyholder->slab, sizeof(struct parked), KEYHOLDER_PARKED_MAX, 0x5061726b);
	keyholder->counters = (struct telemetry_counters *)(void *)proc_range(self)->counters;
	failed = keys_store_new((uint32_t)telemetry_limits[TELEMETRY_LIMIT_HANDSHAKES].value,
				&keyholder->store);
	/* Without a plan nobody may have anything signed. */
	if (!failed)
		keys_store_restrict(keyholder->store);
	return failed;
}

/* ---- Requests ---------------------------------------------------------------------------------------------- */

static struct ipc_question parked_question(const struct parked *parked)
{
	return parked->is_tls13 ? parked->sign13.question : parked->sign12.question;
}

static struct keys_handle parked_handle(const struct parked *parked)
{
	struct keys_handle handle;

	handle.usage = parked->is_tls13 ? parked->sign13.usage : parked->sign12.usage;
	memcpy(handle.spki_hash, parked->is_tls13 ? parked->sign13.handle : parked->sign12.handle,
	       sizeof(handle.spki_hash));
	return handle;
}

static void answer(struct proc_self *self, const struct parked *parked, enum ipc_sign_status status,
		   struct span signature)
{
	struct ipc_channel *worker = proc_link(self, IPC_WORKER, proc_birth(self)->slot);
	struct ipc_signature body = { .question = parked_question(parked), .status = status };

	/* A worker that does not read loses its answer; its handshake has a deadline. */
	if (worker && ipc_send(worker, IPC_MESSAGE_signature, &body, signature, NULL, 0))
		ipc_channel_flush(worker);
}

static void park(struct keyholder *keyholder, struct ipc_channel *channel,
		 const struct ipc_message *message)
{
	struct parked *parked = slab_alloc(&keyholder->slab);
	struct ipc_signature body = { .question = *(const struct ipc_question *)message->body,
				      .status = IPC_SIGN_LIMIT };

	if (!parked || message->tail.len > sizeof(parked->tail)) {
		slab_free(&keyholder->slab, parked);
		telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURES_REFUSED);
		if (ipc_send(channel, IPC_MESSAGE_signature, &body, SPAN_NONE, NULL, 0))
			ipc_channel_flush(channel);
		return;
	}
	parked->is_tls13 = message->number == IPC_MESSAGE_sign13;
	if (parked->is_tls13)
		parked->sign13 = *(const struct ipc_sign13 *)message->body;
	else
		parked->sign12 = *(const struct ipc_sign12 *)message->body;
	parked->tail_len = (uint32_t)message->tail.len;
	if (message->tail.len)
		memcpy(parked->tail, message->tail.ptr, message->tail.len);
	list_push_back(&keyholder->waiting,
		       &parked->link); /* until on_turn, the end of this turn */
}

static int sign(struct keyholder *keyholder, const struct parked *parked, uint64_t now_ns,
		uint8_t *signature, size_t *ret_len)
{
	struct span tail = span_of(parked->tail, parked->tail_len);

	if (parked->is_tls13) {
		struct keys_sign13 request = { .handle = parked_handle(parked),
					       .scheme = parked->sign13.scheme,
					       .transcript_hash = tail };

		return keys_sign13(keyholder->store, &request, now_ns, signature, ret_len);
	}
	struct keys_sign12 request = { .handle = parked_handle(parked),
				       .scheme = parked->sign12.scheme,
				       .client_random = span_of(parked->sign12.client_random, 32),
				       .server_random = span_of(parked->sign12.server_random, 32),
				       .ecdhe_params = tail };

	return keys_sign12(keyholder->store, &request, now_ns, signature, ret_len);
}

/* ---- Keys: pulled, never pushed ------------------------------------------------------------------------------ */

static void ask(struct proc_self *self, const struct pull *pull)
{
	struct ipc_channel *vault = proc_link(self, IPC_VAULT, 0);
	struct ipc_pull_key body = { .usage = pull->handle.usage };

	memcpy(body.handle, pull->handle.spki_hash, sizeof(body.handle));
	/* Without a vault it is asked for when there is one again (on_linked). */
	if (vault && ipc_send(vault, IPC_MESSAGE_pull_key, &body, SPAN_NONE, NULL, 0))
		ipc_channel_flush(vault);
}

static struct pull *pull_find(const struct keyholder *keyholder, const struct keys_handle *handle)
{
	LIST_EACH(&keyholder->pulls, node) {
		struct pull *pull = LIST_ITEM(node, struct pull, link);

		if (pull->handle.usage == handle->usage &&
		    memcmp(pull->handle.spki_hash, handle->spki_hash, sizeof(handle->spki_hash)) ==
			    0)
			return pull;
	}
	return NULL;
}

static struct pull *pull_begin(struct keyholder *keyholder, struct proc_self *self,
			       const struct keys_handle *handle)
{
	struct pull *pull = heap_alloc(sizeof(*pull));

	if (!pull)
		return NULL;
	pull->handle = *handle;
	pull->asked_at_ns = os_loop_now_ns(proc_loop(self));
	list_init(&pull->parked);
	list_push_back(&keyholder->pulls, &pull->link);
	ask(self, pull);
	return pull;
}

/* Those who waited get their turn: they sign, or are told that there is no key. */
static void pull_end(struct keyholder *keyholder, struct proc_self *self, struct pull *pull)
{
	LIST_EACH(&pull->parked, node) {
		list_remove(node);
		list_push_back(&keyholder->waiting, node);
	}
	list_remove(&pull->link);
	heap_free(pull);
	os_loop_wake_again(proc_loop(self));
}

static bool park_for_key(struct keyholder *keyholder, struct proc_self *self, struct parked *parked)
{
	struct keys_handle handle = parked_handle(parked);
	struct pull *pull = pull_find(keyholder, &handle);

	if (!pull)
		pull = pull_begin(keyholder, self, &handle);
	if (!pull)
		return false;
	parked->is_pulled = true;
	list_push_back(&pull->parked, &parked->link);
	return true;
}

static void on_key(struct keyholder *keyholder, struct proc_self *self, const struct ipc_key *body,
		   struct span der)
{
	struct keys_handle handle = { .usage = body->usage };
	uint64_t now_ns = os_loop_now_ns(proc_loop(self));
	struct crypto_key *key = NULL;
	struct pull *pull;
	int failed = 0;

	memcpy(handle.spki_hash, body->handle, sizeof(handle.spki_hash));
	pull = pull_find(keyholder, &handle);
	if (der.len && pull) {
		failed = crypto_key_parse_der(der, &key);
		/* Perhaps the heap is full of keys that nobody uses. */
		if (failed && now_ns > KEYHOLDER_EVICT_S * OS_SECOND &&
		    keys_store_forget(keyholder->store, now_ns - KEYHOLDER_EVICT_S * OS_SECOND))
			failed = crypto_key_parse_der(der, &key);
		if (!failed)
			failed = keys_store_add(keyholder->store, &handle, key, now_ns);
	}
	if (failed)
		telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURES_REFUSED);
	if (der.len)
		crypto_wipe((void *)(uintptr_t)der.ptr,
			    der.len); /* the channel's buffer is no secret memory */
	if (pull)
		pull_end(keyholder, self, pull);
}

/* A handshake has ended long before: its request is answered that there is no key, and one for the same key that
 * comes later asks the vault again. */
static void end_old_pulls(struct keyholder *keyholder, struct proc_self *self, uint64_t now_ns)
{
	LIST_EACH(&keyholder->pulls, node) {
		struct pull *pull = LIST_ITEM(node, struct pull, link);

		if (now_ns - pull->asked_at_ns > telemetry_limits[TELEMETRY_LIMIT_HANDSHAKE].value)
			pull_end(keyholder, self, pull);
	}
}

/* ---- The turn ------------------------------------------------------------------------------------------------- */

static void drop_all(struct keyholder *keyholder, struct list *parked)
{
	LIST_EACH(parked, node) {
		list_remove(node);
		slab_free(&keyholder->slab, LIST_ITEM(node, struct parked, link));
	}
}

/* Requests of a worker that is gone: the next one must not get their answers, its questions have the same
 * numbers. */
static void drop_requests(struct keyholder *keyholder)
{
	drop_all(keyholder, &keyholder->waiting);
	LIST_EACH(&keyholder->pulls, node)
		drop_all(keyholder, &LIST_ITEM(node, struct pull, link)->parked);
}

static void on_violation(struct keyholder *keyholder, struct proc_self *self)
{
	struct ipc_channel *worker = proc_link(self, IPC_WORKER, proc_birth(self)->slot);

	telemetry_count(keyholder->counters, TELEMETRY_COUNTER_MESSAGES_BROKEN);
	drop_requests(keyholder);
	if (worker)
		proc_broken(self, worker, "asked for a signature that no honest worker asks for");
}

static unsigned serve_one(struct keyholder *keyholder, struct proc_self *self,
			  struct parked *parked)
{
	struct keys_handle handle = parked_handle(parked);
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	unsigned cost_us = keys_sign_cost_us(keyholder->store, &handle);
	size_t len = 0;

	switch (sign(keyholder, parked, os_loop_now_ns(proc_loop(self)), signature, &len)) {
	case 0:
		telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURES);
		answer(self, parked, IPC_SIGN_OK, span_of(signature, len));
		break;
	case KEYS_SIGN_NO_KEY:
		if (!parked->is_pulled && park_for_key(keyholder, self, parked))
			return 1;
		answer(self, parked, IPC_SIGN_NO_KEY, SPAN_NONE);
		break;
	case KEYS_SIGN_LIMIT:
		telemetry_count_limit(keyholder->counters, TELEMETRY_LIMIT_HANDSHAKES);
		answer(self, parked, IPC_SIGN_LIMIT, SPAN_NONE);
		break;
	case KEYS_SIGN_VIOLATION:
		on_violation(keyholder, self);
		break;
	default:
		telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURES_REFUSED);
		answer(self, parked, IPC_SIGN_REFUSED, SPAN_NONE);
		break;
	}
	slab_free(&keyholder->slab, parked);
	return cost_us + 1;
}

static void on_turn(void *state, struct proc_self *self)
{
	struct keyholder *keyholder = state;
	unsigned spent_us = 0, served = 0;

	while (!list_is_empty(&keyholder->waiting) && spent_us < KEYHOLDER_BATCH_US) {
		struct parked *parked = LIST_ITEM(keyholder->waiting.next, struct parked, link);

		list_remove(&parked->link);
		spent_us += serve_one(keyholder, self, parked);
		served++;
	}
	if (served)
		telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURE_BATCHES);
	if (!list_is_empty(&keyholder->waiting))
		os_loop_wake_again(proc_loop(self));
	proc_range(self)->questions_open = keyholder->slab.used;
}

/* ---- Messages, links, changes ------------------------------------------------------------------------------------ */

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct keyholder *keyholder = state;

	if (message->number == IPC_MESSAGE_sign13 || message->number == IPC_MESSAGE_sign12)
		park(keyholder, channel, message);
	else if (message->number == IPC_MESSAGE_key)
		on_key(keyholder, self, message->body, message->tail);
}

static void on_linked(void *state, struct proc_self *self, struct ipc_channel *channel)
{
	struct keyholder *keyholder = state;

	if (channel->peer == IPC_WORKER)
		drop_requests(keyholder);
	if (channel->peer != IPC_VAULT)
		return;
	LIST_EACH(&keyholder->pulls, node)
		ask(self, LIST_ITEM(node, struct pull, link));
}

static void on_unlinked(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	(void)self;
	(void)slot;
	if (kind == IPC_WORKER)
		drop_requests(state);
}

/* ---- Which keys may sign: those of the plan's certificates -------------------------------------------------------- */

static bool is_of_plan(const struct keyholder *keyholder, struct proc_self *self,
		       const struct proc_data *data)
{
	const struct snapshot *snapshot = proc_snapshot(self);

	if (data->what != IPC_DATA_CHAIN)
		return false;
	return data->change == keyholder->preparing ||
	       (snapshot && snapshot_find_certificate(snapshot, data->id));
}

static void allow_plan(struct keyholder *keyholder, struct proc_self *self)
{
	const struct proc_data *data;
	size_t cursor = 0;

	while ((data = proc_data_next(self, &cursor))) {
		struct keys_handle handle = { .usage = KEYS_USAGE_SERVER };

		if (!is_of_plan(keyholder, self, data))
			continue;
		memcpy(handle.spki_hash, data->spki_hash, sizeof(handle.spki_hash));
		if (keys_store_allow(keyholder->store, &handle))
			telemetry_count(keyholder->counters, TELEMETRY_COUNTER_SIGNATURES_REFUSED);
	}
}

/* Already now: a worker may commit before we do. */
static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	struct keyholder *keyholder = state;

	(void)snapshot;
	keyholder->preparing = change;
	allow_plan(keyholder, self);
	return PROC_PREPARED;
}

static void on_commit(void *state, struct proc_self *self, uint64_t change)
{
	struct keyholder *keyholder = state;

	(void)change;
	allow_plan(keyholder, self);
	keyholder->preparing = 0;
	keyholder->settle_at_ns = os_loop_now_ns(proc_loop(self)) + KEYHOLDER_SETTLE_S * OS_SECOND;
}

static void on_second(void *state, struct proc_self *self)
{
	struct keyholder *keyholder = state;
	uint64_t now_ns = os_loop_now_ns(proc_loop(self)), hour_ns = KEYHOLDER_FORGET_S * OS_SECOND;

	end_old_pulls(keyholder, self, now_ns);
	if (keyholder->settle_at_ns && now_ns >= keyholder->settle_at_ns) {
		keyholder->settle_at_ns = 0;
		keys_store_restrict(keyholder->store);
		allow_plan(keyholder, self);
		keys_store_drop_forbidden(keyholder->store);
	}
	if (now_ns > hour_ns)
		keys_store_forget(keyholder->store, now_ns - hour_ns);
}

const struct proc_kind proc_keyholder = {
	.state_size = sizeof(struct keyholder),
	.born = on_born,
	.message = on_message,
	.linked = on_linked,
	.unlinked = on_unlinked,
	.prepare = on_prepare,
	.commit = on_commit,
	.abandon = on_commit, /* what it allowed ends with the next settling */
	.turn = on_turn,
	.second = on_second,
};
