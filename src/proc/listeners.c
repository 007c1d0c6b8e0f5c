/* Listening sockets: one per address and slot, made and held here, given to every worker, kept in the vault for
 * the next supervisor. */
#include "proc/supervisor_internal.h"

#include <string.h>

enum { BACKLOG = 4096, ORPHANS_WAIT_MS = 60 * 1000, ORPHANS_STEP_MS = 200 };

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
		write_str(&out, " may not be bound: ports below 1024 are for root (unless "
				"net.ipv4.ip_unprivileged_port_start says less)");
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
		listener->fds[slot] = kept_take_listener(supervisor, name, slot);
		listener->is_held_by_us |= listener->fds[slot] >= 0;
	}
	if (!listener->is_held_by_us && !overlaps_ours(supervisor, &listener->address))
		err = os_listen_probe(&listener->address);
	for (uint32_t slot = 0; slot < supervisor->slot_count && !err; slot++) {
		if (listener->fds[slot] < 0)
			err = os_listen(&listener->address, OS_LISTEN_REUSEPORT, BACKLOG,
					&listener->fds[slot]);
	}
	return err;
}

/* An earlier service was killed and its vault too, and its workers still serve the address. Where /proc may not be
 * read the uid has to do: another program of ours could be looked into. */
static bool is_of_orphans(struct supervisor *supervisor, const struct listener *listener,
			  const char *name)
{
	struct os_port_holder holder = { 0 };

	if (!state_was_served(supervisor, span_str(name)) ||
	    os_port_holder(&listener->address, &holder) < 0 || holder.uid != os_uid())
		return false;
	return !holder.pid || span_starts_with(span_str(holder.program),
					       span_str(proc_row_find(IPC_WORKER)->name));
}

/* Sockets of one user may share an address: so nobody is refused between their last and our first. */
static int share_with_orphans(struct supervisor *supervisor, struct listener *listener,
			      const char *name)
{
	supervisor_say(supervisor,
		       "%s is held by an earlier service that was killed: it drains once this one "
		       "serves",
		       name);
	listener->is_held_by_us = true;
	return bind_slots(supervisor, listener, name);
}

/* They were another user's: they hold the address until they see that somebody serves. Byte 0 tells them. */
static int wait_for_orphans(struct supervisor *supervisor, struct listener *listener,
			    const char *name)
{
	int err = -EADDRINUSE;

	if (!state_was_served(supervisor, span_str(name)))
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
	if (err == -EADDRINUSE && is_of_orphans(supervisor, listener, name))
		err = share_with_orphans(supervisor, listener, name);
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

/* vault: NULL where there is none at the moment, the next gets them all. */
static void keep_one(struct supervisor *supervisor, struct child *vault, struct listener *listener,
		     bool forget)
{
	char name[OS_ADDRESS_TEXT_MAX];

	address_text(&listener->address, name, sizeof(name));
	for (uint32_t slot = 0; slot < supervisor->slot_count; slot++)
		kept_store_listener(supervisor, name, slot, listener->fds[slot], forget);
	for (uint32_t slot = 0; vault && slot < supervisor->slot_count; slot++)
		child_send(vault, IPC_MESSAGE_keep,
			   &(struct ipc_keep){ .what = forget ? IPC_KEEP_FORGET : IPC_KEEP_LISTENER,
					       .slot = slot,
					       .id = listener->id },
			   span_str(name), forget ? NULL : &listener->fds[slot], forget ? 0 : 1);
}

void listeners_keep(struct supervisor *supervisor, struct child *vault)
{
	LIST_EACH(&supervisor->listeners, node) {
		struct listener *listener = LIST_ITEM(node, struct listener, link);

		/* One of a change that may yet fail is kept when it is decided: a copy that nobody accepts from would
		 * let clients wait. */
		if (!listener->is_new)
			keep_one(supervisor, vault, listener, false);
	}
}

void listeners_forget(struct supervisor *supervisor)
{
	struct child *vault = child_find(supervisor, IPC_VAULT, 0);

	LIST_EACH(&supervisor->listeners, node)
		keep_one(supervisor, vault, LIST_ITEM(node, struct listener, link), true);
	manager_forget_all(&supervisor->manager);
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

		if (listener->is_new)
			keep_one(supervisor, vault, listener, false);
		listener->is_new = false;
		if (plan_has(supervisor->running, listener->id))
			continue;
		take_from_workers(supervisor, listener->id);
		keep_one(supervisor, vault, listener, true);
		listener_free(supervisor, listener);
	}
	/* What nobody wanted of the earlier service: its clients must not queue where nobody accepts. */
	kept_drop(supervisor);
	manager_forget_old(&supervisor->manager);
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
