/* What outlives a supervisor that was killed: copies of its descriptors lie in its vault, which gives them to us on
 * rescue.sock; and ours are given to our own vault, for the next. */
#include "proc/supervisor_internal.h"

#include <string.h>

#include "telemetry/telemetry.h"
#include "tls/tls.h"

enum { RESCUE_TIMEOUT_MS = 5000 };

static const char tickets_name[] = "tickets";

/* ---- Handed back by the vault of the supervisor before us -------------------------------------------- */

static int kept_take(struct supervisor *supervisor, enum ipc_keep_kind what, const char *name,
		     uint32_t slot)
{
	for (size_t i = 0; i < supervisor->kept_count; i++) {
		struct kept *kept = &supervisor->kept[i];

		if (kept->fd >= 0 && kept->keep.what == what && kept->keep.slot == slot &&
		    strcmp(kept->name, name) == 0)
			return TAKE_FD(kept->fd);
	}
	return -1;
}

int kept_take_listener(struct supervisor *supervisor, const char *name, uint32_t slot)
{
	OS_AUTO_FD fd = kept_take(supervisor, IPC_KEEP_LISTENER, name, slot);

	return fd >= 0 && os_is_listening(fd) ? TAKE_FD(fd) : -1;
}

/* Of this build's form, and so that nobody can make it smaller under its readers. */
static bool is_table(int fd, size_t size)
{
	struct os_file_info info;

	return fd >= 0 && os_memory_is_sealed(fd, OS_SEAL_SIZE) == 1 &&
	       os_file_info(fd, &info) == 0 && info.size == size;
}

/* Before the first process is born: whoever was given a ticket comes back with it. The vault of before writes no
 * more, so there is one writer. */
static void take_tickets(struct supervisor *supervisor)
{
	OS_AUTO_FD fd = kept_take(supervisor, IPC_KEEP_TICKETS, tickets_name, 0);

	if (!is_table(fd, sizeof(struct proc_shared_keys)))
		return;
	os_close(supervisor->tickets_fd);
	supervisor->tickets_fd = TAKE_FD(fd);
}

static void counters_name(enum ipc_kind kind, char name[OS_ADDRESS_TEXT_MAX])
{
	struct writer out = writer_of(name, OS_ADDRESS_TEXT_MAX - 1);

	write_format(&out, "counters of %s", ipc_kind_name(kind));
	*out.at = 0;
}

/* A copy: the process of before counts on in its own range until it has drained, and a cell has one writer. What it
 * counts from here on is in no sum. */
void kept_take_counters(struct supervisor *supervisor, struct child *child)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	char name[OS_ADDRESS_TEXT_MAX];
	OS_AUTO_FD fd = -1;
	void *memory;

	if (!supervisor->kept_count)
		return;
	counters_name(process->kind, name);
	fd = kept_take(supervisor, IPC_KEEP_RANGE, name, process->slot);
	if (!is_table(fd, IPC_RANGE_SIZE) || os_memory_map(fd, IPC_RANGE_SIZE, NULL, 0, &memory))
		return;
	if (((const struct ipc_range *)memory)->format == IPC_RANGE_FORMAT)
		telemetry_sum(
			(struct telemetry_counters *)child->range->counters,
			(const struct telemetry_counters *)((struct ipc_range *)memory)->counters);
	os_memory_unmap(memory, IPC_RANGE_SIZE);
}

void kept_drop(struct supervisor *supervisor)
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

int kept_rescue(struct supervisor *supervisor)
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
	if (!err)
		take_tickets(supervisor);
	return err;
}

/* ---- Given to our own vault ---------------------------------------------------------------------------- */

void kept_give_counters(struct supervisor *supervisor, const struct child *child)
{
	const struct lifecycle_process *process = supervisor_process(supervisor, child);
	struct child *vault = child_find(supervisor, IPC_VAULT, 0);
	char name[OS_ADDRESS_TEXT_MAX];
	OS_AUTO_FD range = -1;

	if (!vault || process->state == LIFECYCLE_UNUSED ||
	    !supervisor_process(supervisor, vault)->is_welcomed ||
	    os_memory_read_only(child->range_fd, &range) < 0)
		return;
	counters_name(process->kind, name);
	child_send(vault, IPC_MESSAGE_keep,
		   &(struct ipc_keep){ .what = IPC_KEEP_RANGE, .slot = process->slot },
		   span_str(name), &range, 1);
}

void kept_give(struct supervisor *supervisor, struct child *vault)
{
	listeners_keep(supervisor, vault);
	child_send(vault, IPC_MESSAGE_keep, &(struct ipc_keep){ .what = IPC_KEEP_TICKETS },
		   span_str(tickets_name), &supervisor->tickets_fd, 1);
	for (uint32_t i = 0; i < supervisor->child_count; i++)
		kept_give_counters(supervisor, &supervisor->children[i]);
}
