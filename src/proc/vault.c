/* The vault: owner of the key folder. No worker has a channel to it. It reads keys that the text names through
 * descriptors, makes internal certificates and ticket keys, gives keyholders the keys of the committed plan, and
 * keeps copies of the supervisor's descriptors for the next one. */
#include "proc/vault_internal.h"

#include <string.h>

enum {
	TICKET_ACCEPT_S = 8 * 3600,
	TICKETS_SPOILED_AT_MOST_S = 60,
	RENEWAL_RETRY_S = 60,
	CA_RETRY_S = 60
};

/* A key of the store, and the change that brought it; 0: of the running plan, or made since. */
struct vault_key {
	struct list link;
	struct keys_handle handle;
	uint64_t change;
};

struct vault_leaf {
	struct list link;
	uint64_t id, change;
	int64_t not_before_s, renewal_due_s;
	struct keys_handle handle; /* its newest key */
	bool has_failed;           /* to be renewed, and it was said */
	struct span names;         /* each NUL-terminated, behind this struct */
};

/* ---- Work on the folder ------------------------------------------------------------------------------------- */

static int64_t now_s(const struct vault *vault)
{
	return (int64_t)(os_loop_wall_ns(vault->loop) / OS_SECOND);
}

void vault_task_begin(struct vault *vault, struct keys_task *task, struct arena *arena)
{
	arena_init(arena, VAULT_ARENA_MAX);
	*task = (struct keys_task){ .folder = vault->folder,
				    .arena = arena,
				    .now_s = now_s(vault) };
}

void vault_task_end(struct keys_task *task)
{
	arena_fini(task->arena);
}

int vault_ca_ready(struct keys_task *task, bool may_create)
{
	char name[256];
	struct writer writer = writer_of(name, sizeof(name));
	struct span label = os_host_name(&writer) ? SPAN("this machine") : writer_done(&writer);

	return keys_ca_ready(task, may_create, span_first(label, 60));
}

size_t vault_names(struct span tail, struct span names[VAULT_NAMES_MAX])
{
	size_t count = 0;
	struct span name;

	while (count < VAULT_NAMES_MAX && span_cut(&tail, '\0', &name)) {
		if (name.len)
			names[count++] = name;
	}
	return count;
}

void vault_notice(struct proc_self *self, struct span text)
{
	struct ipc_notice body = { { 0 } };

	if (text.len && !proc_is_orphan(self) &&
	    ipc_send(proc_supervisor(self), IPC_MESSAGE_notice, &body, span_first(text, 2048), NULL,
		     0))
		proc_exit(self, PROC_EXIT_FAULT);
}

/* ---- Keys: of the plan that runs and of the one that may come --------------------------------------------------- */

static bool is_same_handle(const struct keys_handle *a, const struct keys_handle *b)
{
	return a->usage == b->usage &&
	       memcmp(a->spki_hash, b->spki_hash, sizeof(a->spki_hash)) == 0;
}

static struct vault_key *key_find(struct vault *vault, const struct keys_handle *handle)
{
	LIST_EACH(&vault->keys, node) {
		struct vault_key *key = LIST_ITEM(node, struct vault_key, link);

		if (is_same_handle(&key->handle, handle))
			return key;
	}
	return NULL;
}

static void key_remove(struct vault *vault, struct vault_key *key)
{
	keys_store_remove(vault->store, &key->handle);
	list_remove(&key->link);
	heap_free(key);
}

/* Takes the key. 0 or -ENOMEM. */
static int key_add(struct vault *vault, const struct keys_handle *handle, struct crypto_key *key,
		   uint64_t change)
{
	struct vault_key *known = key_find(vault, handle);
	int failed;

	if (!known) {
		known = heap_alloc(sizeof(*known));
		if (!known) {
			crypto_key_free(key);
			return -ENOMEM;
		}
		known->handle = *handle;
		list_push_back(&vault->keys, &known->link);
	}
	known->change = change;
	failed = keys_store_add(vault->store, handle, key, os_loop_now_ns(vault->loop));
	if (failed)
		key_remove(vault, known);
	return failed ? -ENOMEM : 0;
}

/* A chain whose key is not here would be served by nobody. In a change it is refused; what runs has been promised, so
 * the next life gets everything again. */
static void lack_of_memory(struct proc_self *self, uint64_t change)
{
	if (!change)
		proc_exit(self, PROC_EXIT_FAULT);
}

/* Is it the key of a certificate that is served, or will be if the change under way is committed? */
static bool is_key_of_plan(const struct proc_self *self, const struct keys_handle *handle)
{
	const struct proc_data *data;
	size_t cursor = 0;

	while (handle->usage == KEYS_USAGE_SERVER && (data = proc_data_next(self, &cursor))) {
		if (data->what == IPC_DATA_CHAIN &&
		    memcmp(data->spki_hash, handle->spki_hash, sizeof(handle->spki_hash)) == 0)
			return true;
	}
	return false;
}

/* ---- Faults of a change: told at once, and again as the answer to its `prepare` ------------------------------- */

static void fault_tell(struct vault *vault, struct proc_self *self, uint64_t change, uint32_t line,
		       struct span why)
{
	struct ipc_refused body = { .change = change, .line = line };
	struct writer writer = writer_of(vault->fault, sizeof(vault->fault));

	write_span(&writer, span_first(why, sizeof(vault->fault)));
	vault->fault_len = writer_done(&writer).len;
	vault->faulty_change = change;
	vault->fault_line = line;
	if (!change)
		vault_notice(self, why);
	else if (ipc_send(proc_supervisor(self), IPC_MESSAGE_refused, &body, span_first(why, 4096),
			  NULL, 0))
		proc_exit(self, PROC_EXIT_FAULT);
}

/* ---- Keys that the text names ------------------------------------------------------------------------------------ */

static void on_key_file(struct vault *vault, struct proc_self *self,
			const struct ipc_key_file *body, struct ipc_message *message)
{
	int fd = message->descriptor_count ? message->descriptors[0] : -1;
	struct keys_handle handle = { .usage = KEYS_USAGE_SERVER };
	struct span place, cert, path, tail = message->tail, why = SPAN_NONE, text;
	struct crypto_key *key = NULL;
	struct keys_task task;
	struct arena arena;
	int outcome;

	if (!span_cut(&tail, '\0', &place) || !span_cut(&tail, '\0', &cert) ||
	    !span_cut(&tail, '\0', &path))
		return;
	vault_task_begin(vault, &task, &arena);
	outcome = keys_file_load(fd, body->spki_hash, &arena, &key, &why);
	if (outcome == 0) {
		memcpy(handle.spki_hash, body->spki_hash, sizeof(handle.spki_hash));
		outcome = key_add(vault, &handle, key, body->change);
	}
	if (outcome) {
		text = arena_format(
			&arena, "%.*s: error: key %.*s %.*s\n", SPAN_ARG(place), SPAN_ARG(path),
			SPAN_ARG(outcome < 0 ? SPAN("could not be read: out of memory") : why));
		fault_tell(vault, self, body->change, body->line, text);
		if (outcome < 0)
			lack_of_memory(self, body->change);
	}
	vault_task_end(&task);
}

/* ---- Internal certificates -------------------------------------------------------------------------------------- */

static struct vault_leaf *leaf_find(struct vault *vault, uint64_t id)
{
	LIST_EACH(&vault->leaves, node) {
		struct vault_leaf *leaf = LIST_ITEM(node, struct vault_leaf, link);

		if (leaf->id == id)
			return leaf;
	}
	return NULL;
}

static struct vault_leaf *leaf_remember(struct vault *vault, uint64_t id, uint64_t change,
					struct span names)
{
	struct vault_leaf *old = leaf_find(vault, id),
			  *leaf = heap_alloc(sizeof(*leaf) + names.len);

	if (!leaf)
		return NULL;
	if (old) {
		list_remove(&old->link);
		heap_free(old);
	}
	leaf->id = id;
	leaf->change = change;
	if (names.len)
		memcpy(leaf + 1, names.ptr, names.len);
	leaf->names = span_of(leaf + 1, names.len);
	list_push_back(&vault->leaves, &leaf->link);
	return leaf;
}

static int leaf_send(struct vault *vault, struct proc_self *self, uint64_t change,
		     struct vault_leaf *leaf, struct keys_leaf *ready)
{
	struct ipc_leaf body = { .change = change, .id = leaf->id };

	memcpy(body.spki_hash, ready->handle.spki_hash, sizeof(body.spki_hash));
	if (key_add(vault, &ready->handle, TAKE(ready->key), change))
		return -ENOMEM; /* it stays due */
	leaf->not_before_s = ready->not_before_s;
	leaf->renewal_due_s = ready->renewal_due_s;
	leaf->handle = ready->handle;
	return ipc_send(proc_supervisor(self), IPC_MESSAGE_leaf, &body, ready->chain_pem, NULL, 0);
}

/* A CA that cannot be read is told once, when it is lost and when it is back: leaves that are still good serve on, so
 * nothing else would show it before they end. */
static int ca_load(struct vault *vault, struct proc_self *self, struct keys_task *task,
		   bool may_create)
{
	bool was_lost = vault->ca_look_s != 0;
	int outcome = vault_ca_ready(task, may_create);

	vault->ca_look_s = outcome ? task->now_s + CA_RETRY_S : 0;
	/* Told; who goes on with the task tells what comes then. */
	vault_notice(self, task->notice);
	task->notice = SPAN_NONE;
	if (outcome > 0 && !was_lost)
		vault_notice(self, task->why);
	else if (outcome == 0 && was_lost)
		vault_notice(self, SPAN("the local CA could be read again"));
	return outcome;
}

static void ca_look(struct vault *vault, struct proc_self *self)
{
	struct keys_task task;
	struct arena arena;
	int64_t now = now_s(vault);

	/* Far ahead: the clock was moved back. */
	if (!vault->ca_look_s || (now < vault->ca_look_s && vault->ca_look_s - now <= CA_RETRY_S))
		return;
	vault_task_begin(vault, &task, &arena);
	(void)!ca_load(vault, self, &task, false);
	vault_task_end(&task);
}

/* 0, or an outcome with task->why. */
static int leaf_make(struct vault *vault, struct proc_self *self, struct keys_task *task,
		     const struct vault_leaf *leaf, struct keys_leaf *ret_ready)
{
	struct span names[VAULT_NAMES_MAX];
	size_t count = vault_names(leaf->names, names);
	int outcome = ca_load(vault, self, task, true);
	struct span why = task->why;
	int made;

	if (outcome < 0)
		return outcome;
	/* A damaged CA is no end of a leaf that is still good. */
	made = keys_leaf_ready(task, leaf->id, names, count, ret_ready);
	if (made && outcome)
		task->why = why;
	return made;
}

static void on_leaf_wanted(struct vault *vault, struct proc_self *self,
			   const struct ipc_leaf_wanted *body, struct span names)
{
	struct vault_leaf *leaf = leaf_remember(vault, body->id, body->change, names);
	struct keys_leaf ready = { 0 };
	struct keys_task task;
	struct arena arena;
	int outcome;

	vault_task_begin(vault, &task, &arena);
	outcome = leaf ? leaf_make(vault, self, &task, leaf, &ready) : -ENOMEM;
	vault_notice(self, task.notice);
	if (outcome == 0)
		outcome = leaf_send(vault, self, body->change, leaf, &ready) ? -EPIPE : 0;
	if (outcome) {
		struct span text = arena_format(
			&arena, "the local CA has no certificate for this site: %.*s\n",
			SPAN_ARG(task.why.len ? task.why : SPAN("out of memory")));

		fault_tell(vault, self, body->change, 0, text);
		if (outcome < 0)
			lack_of_memory(self, body->change);
	}
	vault_task_end(&task);
}

/* By timer, without a reload: the supervisor is given the new chain as one that nobody asked for. So it is given one
 * that lies in the folder and is not served. */
static void renew(struct vault *vault, struct proc_self *self, struct vault_leaf *leaf)
{
	struct keys_leaf ready = { 0 };
	struct keys_task task;
	struct arena arena;
	int outcome;

	vault_task_begin(vault, &task, &arena);
	outcome = leaf_make(vault, self, &task, leaf, &ready);
	if (outcome == 0 && (ready.is_new || !is_key_of_plan(self, &ready.handle)) &&
	    leaf_send(vault, self, 0, leaf, &ready))
		outcome = -EPIPE;
	/* What could not be renewed serves on, and is tried again; that is said once. */
	if (outcome == 0 && !ready.is_new) {
		crypto_key_free(TAKE(ready.key));
		leaf->renewal_due_s = ready.renewal_due_s;
	}
	if (leaf->renewal_due_s <= task.now_s)
		leaf->renewal_due_s = task.now_s + RENEWAL_RETRY_S;
	if (outcome != 0 && !leaf->has_failed)
		vault_notice(
			self,
			arena_format(&arena, "an internal certificate could not be renewed: %.*s",
				     SPAN_ARG(task.why.len ? task.why : SPAN("out of memory"))));
	else if (!leaf->has_failed)
		vault_notice(self, task.notice);
	leaf->has_failed = outcome != 0 || (!ready.is_new && task.notice.len);
	vault_task_end(&task);
}

static bool leaf_is_due(const struct vault_leaf *leaf, int64_t now)
{
	/* Before its time: the clock was moved back since. */
	return now >= leaf->renewal_due_s || now < leaf->not_before_s;
}

/* ---- Ticket keys -------------------------------------------------------------------------------------------------- */

static void tickets_look(struct vault *vault)
{
	uint8_t random[TLS_TICKET_KEY_RANDOM];
	int64_t now = now_s(vault), due;

	if (!vault->shared || vault->is_frozen)
		return;
	due = tls_ticket_keys_due_s(&vault->shared->tickets, TICKET_ACCEPT_S);
	/* Due much later than a key lives: the clock went back. */
	if (now < due && due <= now + TICKET_ACCEPT_S)
		return;
	crypto_random(random, sizeof(random));
	tls_ticket_keys_rotate(&vault->shared->tickets, now, TICKET_ACCEPT_S, random);
	crypto_wipe(random, sizeof(random));
}

/* A worker crashed, or broke the rules: whoever made it do so may have read its ticket keys. */
static void on_tickets_spoiled(struct vault *vault)
{
	uint8_t random[TLS_TICKET_KEY_RANDOM];
	int64_t now = now_s(vault);

	if (!vault->shared || vault->is_frozen)
		return;
	/* At most once a minute; the second time in it is not forgotten but waits (on_second). */
	vault->are_tickets_spoiled = vault->tickets_replaced_s &&
				     now >= vault->tickets_replaced_s &&
				     now < vault->tickets_replaced_s + TICKETS_SPOILED_AT_MOST_S;
	if (vault->are_tickets_spoiled)
		return;
	vault->tickets_replaced_s = now;
	crypto_random(random, sizeof(random));
	tls_ticket_keys_replace(&vault->shared->tickets, now, TICKET_ACCEPT_S, random);
	crypto_wipe(random, sizeof(random));
}

/* ---- Keyholders pull ------------------------------------------------------------------------------------------------ */

static void on_pull(struct vault *vault, struct proc_self *self, struct ipc_channel *channel,
		    const struct ipc_pull_key *body)
{
	struct keys_handle handle = { .usage = body->usage };
	struct ipc_key answer = { .usage = body->usage };
	const struct crypto_key *key;
	char der[4096];
	struct writer writer = writer_of(der, sizeof(der));

	memcpy(handle.spki_hash, body->handle, sizeof(handle.spki_hash));
	memcpy(answer.handle, body->handle, sizeof(answer.handle));
	key = is_key_of_plan(self, &handle) ? keys_store_get(vault->store, &handle) : NULL;
	if (key && crypto_key_write_der(key, &writer))
		writer = writer_of(der, sizeof(der));
	/* A keyholder that does not read asks again when its worker does. */
	if (ipc_send(channel, IPC_MESSAGE_key, &answer, writer_done(&writer), NULL, 0))
		ipc_channel_flush(channel);
	crypto_wipe(der, sizeof(der));
}

/* The supervisor is gone: from now on nothing is written here, two vaults never share a folder. */
static void on_orphaned(void *state, struct proc_self *self)
{
	struct vault *vault = state;

	keys_folder_freeze(vault->folder);
	vault->is_frozen = true;
	if (vault->has_rescue)
		vault_rescue_listen(vault);
	else
		proc_exit(self,
			  0); /* the command that started it is gone, and nobody comes after it */
}

/* ---- The process ---------------------------------------------------------------------------------------------------------- */

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct vault *vault = state;
	void *memory;
	int failed;

	(void)self;
	if (message->descriptor_count < 1)
		return -EINVAL;
	switch (grant->what) {
	case IPC_GRANT_KEY_FOLDER:
		/* A copy: main makes its Landlock rule of the grant's own. */
		failed = os_duplicate(message->descriptors[0], &vault->folder_fd);
		vault->has_folder = !failed;
		return failed;
	case IPC_GRANT_RESCUE:
		vault->rescue_fd = TAKE_FD(message->descriptors[0]);
		vault->has_rescue = true;
		return 0;
	case IPC_GRANT_TICKETS:
		failed = os_memory_map(message->descriptors[0], sizeof(*vault->shared), NULL,
				       OS_MAP_WRITE, &memory);
		if (!failed)
			vault->shared = memory;
		return failed;
	default:
		return 0;
	}
}

static int on_born(void *state, struct proc_self *self)
{
	struct vault *vault = state;

	vault->loop = proc_loop(self);
	list_init(&vault->leaves);
	list_init(&vault->keys);
	list_init(&vault->kept);
	list_init(&vault->rescues);
	return keys_store_new(0, &vault->store);
}

static int on_sandboxed(void *state, struct proc_self *self)
{
	struct vault *vault = state;
	int failed = keys_folder_new(vault->has_folder ? vault->folder_fd : -1, &vault->folder);

	(void)self;
	if (!failed)
		tickets_look(vault);
	return failed;
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct vault *vault = state;

	switch ((unsigned)message->number) {
	case IPC_MESSAGE_key_file:
		on_key_file(vault, self, message->body, message);
		return;
	case IPC_MESSAGE_leaf_wanted:
		on_leaf_wanted(vault, self, message->body, message->tail);
		return;
	case IPC_MESSAGE_pull_key:
		on_pull(vault, self, channel, message->body);
		return;
	case IPC_MESSAGE_tickets_spoiled:
		on_tickets_spoiled(vault);
		return;
	case IPC_MESSAGE_keep:
		vault_keep(vault, message->body, message);
		return;
	default:
		vault_command_message(vault, channel, message);
		return;
	}
}

static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	struct vault *vault = state;

	if (vault->faulty_change != change)
		return vault_cookie_prepare(vault, self, snapshot) ? PROC_PREPARED
								   : PROC_PREPARE_REFUSED;
	proc_refuse(self, vault->fault_line, span_of(vault->fault, vault->fault_len));
	return PROC_PREPARE_REFUSED;
}

/* ---- After a change: what it does not want any more ----------------------------------------------------------------- */

static bool is_key_of_leaf(struct vault *vault, const struct keys_handle *handle)
{
	LIST_EACH(&vault->leaves, node) {
		if (is_same_handle(&LIST_ITEM(node, struct vault_leaf, link)->handle, handle))
			return true;
	}
	return false;
}

/* What came with a change that has not ended stays. */
static void tidy(struct vault *vault, struct proc_self *self)
{
	const struct snapshot *snapshot = proc_snapshot(self);

	LIST_EACH(&vault->leaves, leaf_node) {
		struct vault_leaf *leaf = LIST_ITEM(leaf_node, struct vault_leaf, link);

		if (leaf->change > vault->settled)
			continue;
		if (!snapshot || snapshot_find_certificate(snapshot, leaf->id)) {
			/* Made for a change that failed: the one that is served would end without a renewal. */
			if (!is_key_of_plan(self, &leaf->handle))
				leaf->renewal_due_s = 0;
			continue;
		}
		list_remove(&leaf->link);
		heap_free(leaf);
	}
	LIST_EACH(&vault->keys, key_node) {
		struct vault_key *key = LIST_ITEM(key_node, struct vault_key, link);

		if (key->change <= vault->settled && !is_key_of_plan(self, &key->handle) &&
		    !is_key_of_leaf(vault, &key->handle))
			key_remove(vault, key);
	}
}

/* Commit and abandon. Data sets are still those of before: tidied is next second. */
static void on_ended(void *state, struct proc_self *self, uint64_t change)
{
	struct vault *vault = state;

	(void)self;
	if (change > vault->settled)
		vault->settled = change;
	vault->is_to_tidy = true;
}

static void on_second(void *state, struct proc_self *self)
{
	struct vault *vault = state;
	int64_t now = now_s(vault);

	if (proc_is_draining(self))
		vault_kept_drop(vault);
	if (vault->are_tickets_spoiled)
		on_tickets_spoiled(vault);
	tickets_look(vault);
	vault_cookie_second(vault, self);
	if (vault->is_to_tidy)
		tidy(vault, self);
	vault->is_to_tidy = false;
	if (vault->is_frozen) {
		if (vault->has_rescue)
			vault_rescue_listen(vault);
		return;
	}
	ca_look(vault, self);
	LIST_EACH(&vault->leaves, node) {
		struct vault_leaf *leaf = LIST_ITEM(node, struct vault_leaf, link);

		if (leaf->change <= vault->settled && leaf_is_due(leaf, now))
			renew(vault, self, leaf);
	}
}

const struct proc_kind proc_vault = {
	.state_size = sizeof(struct vault),
	.grant = on_grant,
	.born = on_born,
	.sandboxed = on_sandboxed,
	.message = on_message,
	.prepare = on_prepare,
	.commit = on_ended,
	.abandon = on_ended,
	.second = on_second,
	.orphaned = on_orphaned,
};
