/* manager: what the service manager that started us (systemd) is told, and what it keeps for us. The protocol is that
 * of sd_notify(3): datagrams of lines NAME=VALUE to $NOTIFY_SOCKET, a descriptor beside them; what it kept for an
 * earlier life comes back behind standard error, with $LISTEN_FDS. Without these variables all of this does nothing.
 *
 * Nothing here waits: what the manager does not take now is queued, in order, and sent with a later turn. A manager
 * that never takes anything costs a queue of bounded length and no request.
 *
 * The manager's store is a second copy of what the vault keeps (kept.c): it is there when every process of the service
 * was killed. Names in it are ours alone; one name is one descriptor. */
#pragma once

#include "base/base.h"
#include "os/os.h"

enum { MANAGER_NAME_MAX = 160, MANAGER_QUEUE_MAX = 8192 };

struct manager_kept; /* what the manager's store has, as far as we know */
struct manager_message;

struct manager {
	char socket_path[OS_UNIX_PATH_MAX + 1]; /* "": nobody is told */
	int fd;                                 /* to it, or -1 */
	struct list queue;                      /* of manager_message */
	size_t queue_count;
	struct manager_kept *kept;
	size_t kept_count, kept_capacity;
	unsigned inherited_count, inherited_next;
	const char *names;                     /* of those that are still to come */
	uint64_t watchdog_ns, watchdog_due_ns; /* how often it wants to hear of us; 0: never */
};

/* Reads the environment. */
void manager_open(struct manager *manager);
void manager_close(struct manager *manager);
/* Lines NAME=VALUE. */
void manager_tell(struct manager *manager, const char *format, ...) PRINTF_LIKE(2, 3);
/* Sends what waits, and WATCHDOG=1 where it is time. Only a loop that turns calls it: that is what it proves. */
void manager_turn(struct manager *manager, uint64_t now_ns);
/* The next descriptor that was kept for an earlier life: the caller's. -ENOENT: no more. The name is in `name`. */
int manager_next(struct manager *manager, char name[MANAGER_NAME_MAX], int *ret_fd) MUST_CHECK;
/* A copy goes into the store, unless the very same lies there under that name. No colon, no control character. */
void manager_keep(struct manager *manager, const char *name, int fd);
void manager_forget(struct manager *manager, const char *name); /* harmless where it is not kept */
void manager_forget_all(struct manager *manager);
/* What was kept for an earlier life and was not kept again since. */
void manager_forget_old(struct manager *manager);
