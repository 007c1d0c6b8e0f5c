/* What the vault keeps for the next supervisor: copies of this one's descriptors, unread, handed over on rescue.sock
 * when this one is gone. */
#include "proc/vault_internal.h"

#include <string.h>

struct vault_kept {
	struct list link;
	struct ipc_keep keep;
	int fd;
	size_t name_len;
	char name[OS_ADDRESS_TEXT_MAX];
};

struct vault_rescue {
	struct list link;
	struct ipc_channel channel;
};

static struct vault_kept *kept_find(struct vault *vault, const struct ipc_keep *keep,
				    struct span name)
{
	LIST_EACH(&vault->kept, node) {
		struct vault_kept *kept = LIST_ITEM(node, struct vault_kept, link);

		if (kept->keep.slot == keep->slot &&
		    span_equal(span_of(kept->name, kept->name_len), name))
			return kept;
	}
	return NULL;
}

void vault_keep(struct vault *vault, const struct ipc_keep *keep, struct ipc_message *message)
{
	struct vault_kept *kept = kept_find(vault, keep, message->tail);

	if (kept) {
		list_remove(&kept->link);
		os_close(kept->fd);
		heap_free(kept);
	}
	if (keep->what == IPC_KEEP_FORGET || message->descriptor_count != 1 ||
	    message->tail.len > sizeof(kept->name))
		return;
	kept = heap_alloc(sizeof(*kept));
	if (!kept)
		return; /* the next supervisor binds that one anew */
	kept->keep = *keep;
	kept->fd = TAKE_FD(message->descriptors[0]);
	kept->name_len = message->tail.len;
	if (message->tail.len)
		memcpy(kept->name, message->tail.ptr, message->tail.len);
	list_push_back(&vault->kept, &kept->link);
}

static void on_rescue_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct vault_rescue *rescue = CONTAINER_OF(channel, struct vault_rescue, channel);

	(void)owner;
	(void)why;
	ipc_channel_close(channel);
	list_remove(&rescue->link);
	heap_free(rescue);
}

static void on_rescue_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)owner;
	(void)channel;
	(void)message;
}

static const struct ipc_handlers rescue_handlers = { .on_message = on_rescue_message,
						     .on_closed = on_rescue_closed };

static void rescue_send(struct vault *vault, struct ipc_channel *channel)
{
	struct ipc_kept_all done = { 0 };

	LIST_EACH(&vault->kept, node) {
		struct vault_kept *kept = LIST_ITEM(node, struct vault_kept, link);

		if (ipc_send(channel, IPC_MESSAGE_keep, &kept->keep,
			     span_of(kept->name, kept->name_len), &kept->fd, 1) == 0)
			done.count++;
	}
	if (ipc_send(channel, IPC_MESSAGE_kept_all, &done, SPAN_NONE, NULL, 0) == 0)
		ipc_channel_flush(channel);
}

static void on_rescue(struct os_watch *watch, unsigned now)
{
	struct vault *vault = CONTAINER_OF(watch, struct vault, rescue_watch);
	struct vault_rescue *rescue;
	uint32_t uid = UINT32_MAX;
	OS_AUTO_FD fd = -1;
	int pid, err = os_accept(vault->rescue_fd, &fd, NULL);

	(void)now;
	/* No descriptor left: what waits goes on waiting, until the next second, and does not turn the loop. */
	if (err < 0 && err != -EAGAIN)
		os_watch_remove(watch);
	/* Root, or who runs everything: the sockets are worth the gateway's place. */
	if (err || os_socket_credentials(fd, &pid, &uid) || (uid != 0 && uid != os_uid()))
		return;
	rescue = heap_alloc(sizeof(*rescue));
	if (!rescue || ipc_channel_open(&rescue->channel, vault->loop, TAKE_FD(fd), IPC_VAULT,
					IPC_SUPERVISOR)) {
		heap_free(rescue);
		return;
	}
	ipc_channel_handle(&rescue->channel, &rescue_handlers, vault);
	list_push_back(&vault->rescues, &rescue->link);
	rescue_send(vault, &rescue->channel);
}

/* Somebody serves: what he did not take of these must not stay open here, clients would wait in it for ever. */
void vault_kept_drop(struct vault *vault)
{
	LIST_EACH(&vault->kept, node) {
		struct vault_kept *kept = LIST_ITEM(node, struct vault_kept, link);

		list_remove(node);
		os_close(kept->fd);
		heap_free(kept);
	}
	if (vault->has_rescue && vault->is_frozen) {
		os_watch_remove(&vault->rescue_watch);
		os_close(TAKE_FD(vault->rescue_fd));
	}
}

void vault_rescue_listen(struct vault *vault)
{
	LIST_EACH(&vault->rescues, node)
		ipc_channel_flush(&LIST_ITEM(node, struct vault_rescue, link)->channel);
	if (vault->rescue_fd < 0 || os_watch_is_added(&vault->rescue_watch))
		return;
	vault->rescue_watch.on_ready = on_rescue;
	/* Or a second later. */
	(void)!os_watch_add(vault->loop, &vault->rescue_watch, vault->rescue_fd,
			    OS_WATCH_LEVEL_READ);
}
