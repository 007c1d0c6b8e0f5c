#include "proc/manager.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct manager_kept {
	char name[MANAGER_NAME_MAX];
	uint64_t device, inode; /* of the descriptor; 0: unknown */
	bool is_old;            /* of an earlier life */
};

struct manager_message {
	struct list link;
	int fd; /* goes along, or -1 */
	size_t len;
	char text[];
};

enum { TEXT_MAX = 1024, WATCHDOG_SHARE = 4 };

/* ---- The environment -------------------------------------------------------------------------------- */

static bool number_of(const char *variable, uint64_t maximum, uint64_t *ret_number)
{
	const char *text = os_environment(variable);

	return text && parse_u64(span_str(text), maximum, ret_number);
}

/* The variables may be inherited from another service that started us: they name whom they mean. */
static bool is_for_us(const char *variable, bool may_be_missing)
{
	uint64_t pid;

	if (!os_environment(variable))
		return may_be_missing;
	return number_of(variable, INT32_MAX, &pid) && (int)pid == os_pid();
}

void manager_open(struct manager *manager)
{
	const char *path = os_environment("NOTIFY_SOCKET");
	uint64_t number;

	*manager = (struct manager){ .fd = -1 };
	list_init(&manager->queue);
	if (path && (path[0] == '/' || path[0] == '@') &&
	    strlen(path) < sizeof(manager->socket_path))
		memcpy(manager->socket_path, path, strlen(path) + 1);
	if (is_for_us("WATCHDOG_PID", true) && number_of("WATCHDOG_USEC", UINT64_MAX, &number))
		manager->watchdog_ns = number / WATCHDOG_SHARE * 1000;
	if (!is_for_us("LISTEN_PID", false) || !number_of("LISTEN_FDS", INT32_MAX, &number))
		return;
	manager->inherited_count = (unsigned)number;
	manager->names = os_environment("LISTEN_FDNAMES");
}

/* ---- Sending ---------------------------------------------------------------------------------------- */

static void message_free(struct manager *manager, struct manager_message *message)
{
	list_remove(&message->link);
	manager->queue_count--;
	os_close(message->fd);
	heap_free(message);
}

/* 0: the first is sent. -EAGAIN, or the manager is not there: later. */
static int send_first(struct manager *manager, const struct manager_message *message)
{
	struct os_packet_out packet = {
		.parts = { span_of(message->text, message->len) },
		.part_count = 1,
		.descriptors = &message->fd,
		.descriptor_count = message->fd >= 0 ? 1 : 0,
	};
	int err;

	if (manager->fd < 0 && os_connect_datagrams(manager->socket_path, &manager->fd) < 0)
		return -EAGAIN;
	err = os_packet_send(manager->fd, &packet);
	/* It was started anew: its socket is another one. */
	if (err < 0 && err != -EAGAIN)
		os_close(TAKE_FD(manager->fd));
	return err;
}

static void send_queue(struct manager *manager)
{
	LIST_EACH(&manager->queue, node) {
		struct manager_message *message = LIST_ITEM(node, struct manager_message, link);

		if (send_first(manager, message) < 0)
			return;
		message_free(manager, message);
	}
}

static void enqueue(struct manager *manager, struct span text, int fd)
{
	struct manager_message *message;

	if (!manager->socket_path[0] || manager->queue_count == MANAGER_QUEUE_MAX)
		return;
	message = heap_alloc(sizeof(*message) + text.len);
	if (!message)
		return;
	message->fd = -1;
	if (fd >= 0 && os_duplicate(fd, &message->fd) < 0) {
		heap_free(message);
		return;
	}
	message->len = text.len;
	memcpy(message->text, text.ptr, text.len);
	list_push_back(&manager->queue, &message->link);
	manager->queue_count++;
	send_queue(manager);
}

void manager_tell(struct manager *manager, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (len > 0 && (size_t)len < sizeof(text))
		enqueue(manager, span_of(text, (size_t)len), -1);
}

void manager_turn(struct manager *manager, uint64_t now_ns)
{
	send_queue(manager);
	/* Behind what waits it would say nothing new. */
	if (!manager->watchdog_ns || now_ns < manager->watchdog_due_ns ||
	    !list_is_empty(&manager->queue))
		return;
	manager->watchdog_due_ns = now_ns + manager->watchdog_ns;
	manager_tell(manager, "WATCHDOG=1");
}

/* ---- The store -------------------------------------------------------------------------------------- */

static struct manager_kept *kept_find(struct manager *manager, const char *name)
{
	for (size_t i = 0; i < manager->kept_count; i++) {
		if (strcmp(manager->kept[i].name, name) == 0)
			return &manager->kept[i];
	}
	return NULL;
}

static void remember(struct manager *manager, const char *name, const struct os_file_info *info,
		     bool is_old)
{
	struct manager_kept *kept;

	if (!heap_grow((void **)&manager->kept, &manager->kept_capacity, manager->kept_count + 1,
		       sizeof(*manager->kept)))
		return;
	kept = &manager->kept[manager->kept_count++];
	*kept = (struct manager_kept){ .device = info->device,
				       .inode = info->inode,
				       .is_old = is_old };
	memcpy(kept->name, name, strlen(name) + 1);
}

/* The next of names that a colon separates; "" where there are no more. */
static void next_name(struct manager *manager, char name[MANAGER_NAME_MAX])
{
	const char *names = manager->names ? manager->names : "";
	size_t len = strcspn(names, ":");

	name[0] = '\0';
	if (len < MANAGER_NAME_MAX) {
		memcpy(name, names, len);
		name[len] = '\0';
	}
	manager->names = names[len] ? names + len + 1 : NULL;
}

int manager_next(struct manager *manager, char name[MANAGER_NAME_MAX], int *ret_fd)
{
	while (manager->inherited_next < manager->inherited_count) {
		struct os_file_info info = { 0 };
		struct manager_kept *same;
		int fd, err = os_inherited(manager->inherited_next++, &fd);

		next_name(manager, name);
		if (err < 0)
			continue;
		if (os_file_info(fd, &info) < 0)
			info = (struct os_file_info){ 0 };
		same = kept_find(manager, name);
		/* Two under one name: whoever keeps one again replaces both. */
		if (same)
			same->inode = same->device = 0;
		else
			remember(manager, name, &info, true);
		*ret_fd = fd;
		return 0;
	}
	return -ENOENT;
}

static void forget_at(struct manager *manager, struct manager_kept *kept)
{
	manager_tell(manager, "FDSTOREREMOVE=1\nFDNAME=%s", kept->name);
	*kept = manager->kept[--manager->kept_count];
}

void manager_forget(struct manager *manager, const char *name)
{
	struct manager_kept *kept = kept_find(manager, name);

	if (kept)
		forget_at(manager, kept);
}

void manager_keep(struct manager *manager, const char *name, int fd)
{
	struct manager_kept *kept = kept_find(manager, name);
	struct os_file_info info;
	char text[MANAGER_NAME_MAX + 64];
	int len;

	if (!manager->socket_path[0] || fd < 0 || os_file_info(fd, &info) < 0)
		return;
	if (kept && kept->inode == info.inode && kept->device == info.device) {
		kept->is_old = false;
		return;
	}
	if (kept)
		forget_at(manager, kept);
	/* Not polled: a listener that reports nothing must not be dropped for it. */
	len = snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	enqueue(manager, span_of(text, (size_t)len), fd);
	remember(manager, name, &info, false);
}

void manager_forget_all(struct manager *manager)
{
	while (manager->kept_count)
		forget_at(manager, &manager->kept[manager->kept_count - 1]);
}

void manager_forget_old(struct manager *manager)
{
	for (size_t i = manager->kept_count; i-- > 0;) {
		if (manager->kept[i].is_old)
			forget_at(manager, &manager->kept[i]);
	}
}

void manager_close(struct manager *manager)
{
	char name[MANAGER_NAME_MAX];
	int fd;

	while (manager_next(manager, name, &fd) == 0)
		os_close(fd);
	send_queue(manager);
	LIST_EACH(&manager->queue, node)
		message_free(manager, LIST_ITEM(node, struct manager_message, link));
	os_close(manager->fd);
	heap_free(manager->kept);
	*manager = (struct manager){ .fd = -1 };
}
