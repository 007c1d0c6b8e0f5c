/* Listening sockets: one per address and slot, made and held here, given to every worker, kept in the vault for
 * the next supervisor. */
#include "proc/supervisor_internal.h"

#include <string.h>

enum {
	BACKLOG = 4096,
	RESCUE_TIMEOUT_MS = 5000,
	ORPHANS_WAIT_MS = 60 * 1000,
	ORPHANS_STEP_MS = 200
};

static struct listener *listener_find(struct supervisor *supervisor, uint64_t id)
{
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		if (listener->id == id)
			return listener;
	}
	return NULL;
}

static void address_text(const struct os_address *address, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size - 1);

	os_address_write(address, &out);
	*out.at = 0;
}

static void listener_free(struct supervisor *supervisor, struct listener *listener)
{
	list_remove(&listener->link);
	for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
		os_close(listener->fds[slot]);
	heap_free(listener);
}

/* ---- Handed back by the vault of the supervisor before us -------------------------------------------- */

static int kept_take(struct supervisor *supervisor, const char *name, uint32_t slot)
{
	for (size_t i = 0; i < supervisor->kept_count; i++) {
		struct kept *kept = &supervisor->kept[i];

		if (kept->fd >= 0 && kept->keep.what == IPC_KEEP_LISTENER &&
		    kept->keep.slot == slot && strcmp(kept->name, name) == 0 &&
		    os_is_listening(kept->fd))
			return TAKE_FD(kept->fd);
	}
	return -1;
}

static void kept_drop(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->kept_count; i++)
		os_close(supervisor->kept[i].fd);
	heap_free(supervisor->kept);
	supervisor->kept = NULL;
	supervisor->kept_count = supervisor->kept_capacity = 0;
}

static int kept_add(struct supervisor *supervisor, struct ipc_message *message)
{
	struct kept kept = { .keep = *(const struct ipc_keep *)message->body, .fd = -1 };

	if (message->descriptor_count != 1 || message->tail.len >= sizeof(kept.name))
		return 0;
	if (!heap_grow((void **)&supervisor->kept, &supervisor->kept_capacity,
		       supervisor->kept_count + 1, sizeof(*supervisor->kept)))
		return -ENOMEM;
	if (message->tail.len)
		memcpy(kept.name, message->tail.ptr, message->tail.len);
	kept.fd = TAKE_FD(message->descriptors[0]);
	supervisor->kept[supervisor->kept_count++] = kept;
	return 0;
}

int listeners_rescue(struct supervisor *supervisor)
{
	struct ipc_channel channel;
	struct ipc_message message;
	bool is_over = false;
	int fd, err;

	/* Nobody there: an ordinary start, or the vault is gone too. */
	if (os_connect_packets(supervisor->state_fd, "rescue.sock", &fd) < 0)
		return 0;
	err = ipc_channel_open(&channel, NULL, fd, IPC_SUPERVISOR, IPC_VAULT);
	while (!err && !is_over && ipc_wait(&channel, RESCUE_TIMEOUT_MS, &message) == 0) {
		if (message.number == IPC_MESSAGE_keep)
			err = kept_add(supervisor, &message);
		is_over = message.number == IPC_MESSAGE_kept_all;
		ipc_message_done(&message);
	}
	ipc_channel_close(&channel);
	if (!err && is_over)
		supervisor_say(supervisor, "taking over %zu descriptors from an earlier service",
			       supervisor->kept_count);
	return err;
}

/* ---- Binding --------------------------------------------------------------------------------------- */

static bool overlaps(const struct os_address *a, const struct os_address *b)
{
	if (a->port != b->port)
		return false;
	return os_address_is_any(a) || os_address_is_any(b) || os_address_same_ip(a, b);
}

static bool overlaps_ours(struct supervisor *supervisor, const struct os_address *address)
{
	LIST_EACH(&supervisor->listeners, node) {
		if (overlaps(&LIST_ITEM(node, struct listener, link)->address, address))
			return true;
	}
	return false;
}

static void tell_taken(struct supervisor *supervisor, const struct listener *listener,
		       const char *name, int err)
{
	struct os_port_holder holder = { 0 };
	char text[512];
	struct writer out = writer_of(text, sizeof(text) - 1);

	write_format(&out, "%s", name);
	if (err == -EADDRINUSE && os_port_holder(&listener->address, &holder) == 0) {
		write_str(&out, " is in use by ");
		if (holder.pid)
			write_format(&out, "%s (pid %d, uid %u)",
				     holder.program[0] ? holder.program : "a program", holder.pid,
				     holder.uid);
		else
			write_format(&out, "a program of uid %u", holder.uid);
	} else if (err == -EADDRINUSE) {
		write_str(&out, " is in use");
	} else if (err == -EACCES) {
		write_str(&out, " may not be bound: ports below 1024 are for root");
	} else if (err == -EADDRNOTAVAIL) {
		write_str(&out, " may not be bound: no interface of this machine has that address");
	} else {
		write_format(&out, " could not be bound: %s", strerror(-err));
	}
	*out.at = 0;
	if (listener->flags & IPC_PLAN_IMPLIED && listener->flags & IPC_PLAN_PLAIN)
		supervisor_say(supervisor, "warning: %s; it is left out", text);
	else
		supervisor_fault(supervisor, "%s\n", text);
}

static int bind_slots(struct supervisor *supervisor, struct listener *listener, const char *name)
{
	int err = 0;

	for (uint32_t slot = 0; slot < supervisor->slot_count && !err; slot++) {
		listener->fds[slot] = kept_take(supervisor, name, slot);
		listener->was_handed_back |= listener->fds[slot] >= 0;
	}
	if (!listener->was_handed_back && !overlaps_ours(supervisor, &listener->address))
		err = os_listen_probe(&listener->address);
	for (uint32_t slot = 0; slot < supervisor->slot_count && !err; slot++) {
		if (listener->fds[slot] < 0)
			err = os_listen(&listener->address, OS_LISTEN_REUSEPORT, BACKLOG,
					&listener->fds[slot]);
	}
	return err;
}

/* An earlier service was killed and its vault too: its workers hold the address until they see that somebody
 * serves. Byte 0 tells them. */
static int wait_for_orphans(struct supervisor *supervisor, struct listener *listener,
			    const char *name)
{
	struct os_file_info info;
	int err = -EADDRINUSE;

	if (supervisor->is_serving || os_file_info(supervisor->lock_fd, &info) < 0 || !info.size)
		return err;
	if (os_lock_take(supervisor->lock_fd, 0) < 0)
		return err;
	supervisor_say(supervisor,
		       "%s is held by an earlier service that was killed: waiting for it to drain",
		       name);
	for (int waited_ms = 0; waited_ms < ORPHANS_WAIT_MS && err == -EADDRINUSE;
	     waited_ms += ORPHANS_STEP_MS) {
		os_sleep_ms(ORPHANS_STEP_MS);
		err = bind_slots(supervisor, listener, name);
	}
	return err;
}

static int bind_row(struct supervisor *supervisor, const struct ipc_plan_row *row)
{
	struct listener *listener =
		heap_alloc(sizeof(*listener) + supervisor->slot_count * sizeof(int));
	char name[OS_ADDRESS_TEXT_MAX];
	int err;

	if (!listener)
		return -ENOMEM;
	listener->id = row->id;
	listener->flags = row->flags;
	listener->is_new = true;
	listener->address.family = (uint8_t)row->family;
	listener->address.port = row->port;
	memcpy(listener->address.ip, row->address, sizeof(row->address));
	for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
		listener->fds[slot] = -1;
	address_text(&listener->address, name, sizeof(name));
	err = bind_slots(supervisor, listener, name);
	if (err == -EADDRINUSE)
		err = wait_for_orphans(supervisor, listener, name);
	if (err < 0) {
		tell_taken(supervisor, listener, name, err);
		if (listener->flags & IPC_PLAN_IMPLIED && listener->flags & IPC_PLAN_PLAIN)
			err = 0;
		listener_free(supervisor, listener);
		return err;
	}
	list_push_back(&supervisor->listeners, &listener->link);
	return 0;
}

int listeners_bind(struct supervisor *supervisor, const struct plan *plan)
{
	const struct plan_row *row;
	size_t cursor = 0;
	int failed = 0;

	while ((row = plan_next(plan, IPC_PLAN_LISTENER, &cursor))) {
		struct listener *listener = listener_find(supervisor, row->row.id);
		int err = 0;

		if (listener)
			listener->flags = row->row.flags;
		else
			err = bind_row(supervisor, &row->row);
		if (err < 0)
			failed = err; /* go on: all that are taken are named at once */
	}
	return failed;
}

void listeners_drop_new(struct supervisor *supervisor)
{
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		if (listener->is_new)
			listener_free(supervisor, listener);
	}
}

void listeners_restore(struct supervisor *supervisor)
{
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		/* The one option that a worker's filter lets it set: accepted connections inherit it, and would all
		 * end by a reset. */
		for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
			(void)!os_socket_linger_default(listener->fds[slot]);
	}
}

void listeners_close_all(struct supervisor *supervisor)
{
	LIST_EACH(&supervisor->listeners, node)
		listener_free(supervisor, LIST_ITEM(node, struct listener, link));
	kept_drop(supervisor);
}

/* ---- Giving ---------------------------------------------------------------------------------------- */

void listeners_give(struct supervisor *supervisor, struct child *worker, bool only_new)
{
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		/* New ones belong to the change under way: everybody gets them when it is decided. */
		if (listener->is_new != only_new)
			continue;
		for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
			child_send(worker, IPC_MESSAGE_listener,
				   &(struct ipc_listener){ .id = listener->id, .slot = slot },
				   SPAN_NONE, &listener->fds[slot], 1);
	}
}

static void keep_one(struct supervisor *supervisor, struct child *vault, struct listener *listener,
		     bool forget)
{
	char name[OS_ADDRESS_TEXT_MAX];

	address_text(&listener->address, name, sizeof(name));
	for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
		child_send(vault, IPC_MESSAGE_keep,
			   &(struct ipc_keep){ .what = forget ? IPC_KEEP_FORGET : IPC_KEEP_LISTENER,
					       .slot = slot,
					       .id = listener->id },
			   span_str(name), forget ? NULL : &listener->fds[slot], forget ? 0 : 1);
}

void listeners_keep(struct supervisor *supervisor, struct child *vault)
{
	LIST_EACH(&supervisor->listeners, node)
		keep_one(supervisor, vault, LIST_ITEM(node, struct listener, link), false);
}

void listeners_forget(struct supervisor *supervisor)
{
	struct child *vault = child_find(supervisor, IPC_VAULT, 0);

	LIST_EACH(&supervisor->listeners, node) {
		if (vault)
			keep_one(supervisor, vault, LIST_ITEM(node, struct listener, link), true);
	}
	if (vault)
		ipc_channel_flush(&vault->channel);
}

static bool plan_has(const struct plan *plan, uint64_t id)
{
	const struct plan_row *row;
	size_t cursor = 0;

	while ((row = plan_next(plan, IPC_PLAN_LISTENER, &cursor))) {
		if (row->row.id == id)
			return true;
	}
	return false;
}

static void give_to_workers(struct supervisor *supervisor)
{
	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		const struct lifecycle_process *process =
			lifecycle_process_at(supervisor->lifecycle, i);

		if (process->kind == IPC_WORKER && process->state == LIFECYCLE_READY &&
		    process->is_welcomed)
			listeners_give(supervisor, &supervisor->children[i], true);
	}
}

static void take_from_workers(struct supervisor *supervisor, uint64_t id)
{
	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		const struct lifecycle_process *process =
			lifecycle_process_at(supervisor->lifecycle, i);

		if (process->kind == IPC_WORKER && process->state == LIFECYCLE_READY)
			child_send(&supervisor->children[i], IPC_MESSAGE_listener_gone,
				   &(struct ipc_listener_gone){ id }, SPAN_NONE, NULL, 0);
	}
}

void listeners_decided(struct supervisor *supervisor)
{
	struct child *vault = child_find(supervisor, IPC_VAULT, 0);

	give_to_workers(supervisor);
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		if (listener->is_new && vault)
			keep_one(supervisor, vault, listener, false);
		listener->is_new = false;
		if (plan_has(supervisor->running, listener->id))
			continue;
		take_from_workers(supervisor, listener->id);
		if (vault)
			keep_one(supervisor, vault, listener, true);
		listener_free(supervisor, listener);
	}
	/* What nobody wanted of the earlier service: its clients must not queue where nobody accepts. */
	kept_drop(supervisor);
}

/* ---- `ready https://localhost:8443` ------------------------------------------------------------------ */

static void print_ready(const struct listener *listener)
{
	bool is_plain = listener->flags & IPC_PLAN_PLAIN;
	char text[OS_ADDRESS_TEXT_MAX + 64];
	struct writer out = writer_of(text, sizeof(text));

	write_str(&out, is_plain ? "ready http://" : "ready https://");
	if (os_address_is_any(&listener->address)) {
		write_str(&out, "localhost");
	} else {
		if (listener->address.family == OS_FAMILY_V6)
			write_byte(&out, '[');
		os_address_write_ip(&listener->address, &out);
		if (listener->address.family == OS_FAMILY_V6)
			write_byte(&out, ']');
	}
	if (listener->address.port != (is_plain ? 80 : 443)) {
		write_byte(&out, ':');
		write_u64(&out, listener->address.port);
	}
	write_byte(&out, '\n');
	os_out(writer_done(&out));
}

void listeners_print_ready(struct supervisor *supervisor)
{
	/* TLS first: that is the one to open. */
	for (unsigned plain = 0; plain <= 1; plain++) {
		LIST_EACH(&supervisor->listeners, node) {
			const struct listener *listener = LIST_ITEM(node, struct listener, link);

			if (!!(listener->flags & IPC_PLAN_PLAIN) == plain)
				print_ready(listener);
		}
	}
}
