/* What the files of the vault share: its work (vault.c), what commands ask (vault_command.c), the keys of
 * sticky cookies (vault_cookie.c), and what it keeps for the next supervisor (vault_rescue.c). */
#pragma once

#include "keys/keys.h"
#include "proc/proc.h"
#include "telemetry/telemetry.h"
#include "tls/tls.h"

enum { VAULT_NAMES_MAX = 128, VAULT_ARENA_MAX = 4 << 20 };

struct vault {
	bool has_folder, has_rescue; /* a vault that a command started has no rescue socket */
	int folder_fd, rescue_fd;
	struct keys_folder *folder;
	struct keys_store *store;
	struct proc_shared_keys *shared; /* NULL: a command's vault has none */
	int64_t cookies_look_s; /* when its folder is looked at again for cookie keys; 0: they are not wanted */
	int64_t ca_look_s; /* when a CA that could not be read is tried again; 0: it could */
	int64_t tickets_replaced_s;
	bool are_tickets_spoiled; /* and wait for their minute */
	struct list leaves;       /* internal certificates in use, for renewal */
	struct list keys;         /* what stands in the store */
	uint64_t settled;         /* the last change that ended */
	bool is_to_tidy;
	struct list kept; /* the supervisor's descriptors, unread */
	struct list rescues;
	struct os_watch rescue_watch;
	struct os_loop *loop;
	bool is_frozen;
	/* Why the change under way cannot be: keys or internal certificates. */
	uint64_t faulty_change;
	uint32_t fault_line;
	char fault[1024];
	size_t fault_len;
};

/* A piece of work on the folder; the arena is made here and ended by vault_task_end. */
void vault_task_begin(struct vault *vault, struct keys_task *task, struct arena *arena);
void vault_task_end(struct keys_task *task);
/* Makes the CA if there is none and may be. 0, or an outcome with task->why. */
int vault_ca_ready(struct keys_task *task, bool may_create);
/* "a\0b\0" to spans; how many. */
size_t vault_names(struct span tail, struct span names[VAULT_NAMES_MAX]);

/* One event for the operator. Empty: none. */
void vault_notice(struct proc_self *self, struct span text);

/* Cookie keys for a configuration that wants some. False: it was refused. */
bool vault_cookie_prepare(struct vault *vault, struct proc_self *self,
			  const struct snapshot *snapshot) MUST_CHECK;
void vault_cookie_second(struct vault *vault, struct proc_self *self);

bool vault_command_message(struct vault *vault, struct ipc_channel *channel,
			   struct ipc_message *message);

void vault_keep(struct vault *vault, const struct ipc_keep *keep, struct ipc_message *message);
void vault_kept_drop(struct vault *vault); /* and takes no further supervisor */
/* The supervisor is gone: waits for the next one. Called again each second: it may have had to rest. */
void vault_rescue_listen(struct vault *vault);
