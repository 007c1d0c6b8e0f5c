/* proc: the kinds of processes: one table of what each may and has, one main for all helpers, and one file
 * per kind with its handlers.
 *
 * A child is started with one descriptor: 3, its channel to the supervisor. proc_helper_main() does for
 * every kind what is the same: it takes birth and grants, pins, names itself, starts the library where the
 * row says so, calls `born`, enters the row's sandbox, calls `sandboxed`, answers `ready` and runs the loop:
 * channels (links), heartbeat, snapshots and data sets, drain, and serving on as an orphan. The kind's own
 * code is struct proc_kind and nothing else.
 *
 * Callbacks get their own state (kind->state_size bytes, zeroed, made before the first callback); struct
 * proc_self is main's and reached by the functions below. A handler of a message only notes what happened
 * or answers at once; long work belongs to `turn`. */
#pragma once

#include "ipc/ipc.h"
#include "os/os.h"
#include "snapshot/snapshot.h"
#include "tls/tls.h"

enum {
	PROC_CHANNEL_FD = 3,
	PROC_USER_FIRST = 61600, /* + kind: the numbers of rows where the package made no users */
	PROC_SNAPSHOT_PLACES = 8,
	PROC_LINKS_MAX = OS_CPU_MAX + IPC_KIND_COUNT,
	PROC_LIMITS_MAX = 8,
	PROC_EXIT_FAULT = 1,
	PROC_EXIT_BIRTH = 3, /* it was started by hand, or its endowment was no good */
	PROC_EXIT_SANDBOX = 4,
};
#define PROC_SNAPSHOT_PLACE_SIZE (UINT64_C(64) << 20) /* of address space */
/* Where nothing else settles: between the program and the libraries, and legal under the sanitizers too. */
#if defined(__aarch64__)
#define PROC_SNAPSHOT_BASE UINT64_C(0x2000000000)
#else
#define PROC_SNAPSHOT_BASE UINT64_C(0x520000000000)
#endif

struct proc_self;

/* A data set as this process holds it; the bytes are mapped read-only. */
struct proc_data {
	enum ipc_data_kind what;
	uint64_t id, change;
	uint8_t spki_hash[32];
	struct span bytes; /* until the commit that replaces it has returned */
};

enum proc_prepare_result {
	PROC_PREPARED,
	PROC_PREPARE_LATER,   /* proc_prepared() or proc_refuse() will be called */
	PROC_PREPARE_REFUSED, /* proc_refuse() was called */
};

/* The handlers of one kind. Any may be NULL. Results below 0 end the process. */
struct proc_kind {
	size_t state_size;
	/* Instead of all that follows: the job runs by ipc_wait() on proc_supervisor() and ends with this exit
	 * code. It is in no sandbox yet: it calls proc_sandbox() itself. */
	int (*run)(void *state, struct proc_self *self);

	/* Before the sandbox. A grant's descriptors are its own where it takes them (TAKE_FD); those that the row
	 * makes Landlock paths of stay open with main until the sandbox stands. */
	int (*grant)(void *state, struct proc_self *self, const struct ipc_grant *grant,
		     struct ipc_message *message);
	int (*born)(void *state, struct proc_self *self); /* all grants are there */
	/* In the sandbox, before `ready`. */
	int (*sandboxed)(void *state, struct proc_self *self);

	/* A message that main does not handle itself (birth, grant, born, link, data, prepare, commit, abandon,
	 * drain, clock_move are main's). channel->peer and channel->peer_slot say whose it is: the supervisor or
	 * a link. */
	void (*message)(void *state, struct proc_self *self, struct ipc_channel *channel,
			struct ipc_message *message);
	/* A channel is there (again): open questions are asked once more. It stays valid until `unlinked`, or
	 * until the next `linked` of the same peer. */
	void (*linked)(void *state, struct proc_self *self, struct ipc_channel *channel);
	void (*unlinked)(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot);

	/* A change. The snapshot is mapped; NULL: only data sets change and the current one stays. Data sets of
	 * this change came before and are seen by proc_data_find(). After `prepare` exactly one of commit and
	 * abandon follows, also where it was refused. */
	enum proc_prepare_result (*prepare)(void *state, struct proc_self *self, uint64_t change,
					    const struct snapshot *snapshot);
	void (*commit)(void *state, struct proc_self *self, uint64_t change);
	void (*abandon)(void *state, struct proc_self *self, uint64_t change);

	void (*turn)(
		void *state,
		struct proc_self *self); /* end of each loop turn; channels are flushed after */
	void (*second)(void *state, struct proc_self *self); /* once a second */
	/* Stop taking new work; call proc_exit() when done. At the deadline main ends the process. Without this
	 * handler it ends when its last link is closed. deadline_ms UINT32_MAX: none. */
	void (*drain)(void *state, struct proc_self *self, uint32_t deadline_ms);
	/* The supervisor is gone; serve on. Main asks each second whether a successor serves, then drains. */
	void (*orphaned)(void *state, struct proc_self *self);
};

/* What the vault gives all workers in one memory file: whoever reads clients' bytes needs it, and no key of it signs.
 * Each part has its own format. One of another size is of another version and is not taken over. */
struct proc_shared_keys {
	struct tls_ticket_keys tickets;
	struct balance_sticky_keys cookies;
};

extern const struct proc_kind proc_worker, proc_keyholder, proc_vault, proc_files, proc_dialer,
	proc_log, proc_check;

/* ---- The process table ------------------------------------------------------------------------------ */

struct proc_row {
	enum ipc_kind kind;
	const char *name;
	bool per_slot;  /* one for each slot, else count_max at most */
	bool is_job;    /* ends by itself */
	bool is_member; /* holds a snapshot, answers prepare and commit */
	/* Woken by its worker, it lets that end the turn. Else the first question of a turn takes the core
	 * from the worker before the second is sent, and each costs two switches. */
	bool is_patient;
	bool starts_crypto; /* crypto_start() before the sandbox; the keyholder does it itself, on its heap */
	uint32_t links; /* kinds that it asks, bits IPC_TO_*; the supervisor makes the channels */
	uint32_t count_max; /* as many as the plan wants; 0: one */
	bool may_hang;      /* it waits for disks: nobody waits for one that hangs */
	/* The sandbox. */
	const char *const *calls; /* os_sandbox.calls */
	/* A job with a second, empty sandbox (proc_sandbox) keeps the starter's user in the first. */
	const char *const *closed_calls;
	/* OS_ACCESS_* below the descriptors of a grant of this kind. */
	unsigned access[IPC_GRANT_STATE_FOLDER + 1];
	bool may_connect;
	/* Bits 1 << CAP_…, of the first sandbox where there are two: what it takes to enter the second. */
	uint64_t capabilities;
	/* A value of 0 with limit OS_LIMIT_OPEN_FILES: what birth says. */
	struct os_limit_value limits[PROC_LIMITS_MAX];
	size_t limit_count;
	const struct proc_kind *handlers;
};

const struct proc_row *proc_row_find(enum ipc_kind kind); /* NULL: has no process of its own */
const struct proc_row *proc_row_by_name(struct span name);
/* The sandbox of a row's process, its paths left to the caller: the first, or with `is_closed` a job's second.
 * `limits` is the place that its limits are put in. */
struct os_sandbox proc_row_sandbox(const struct proc_row *row, const struct ipc_birth *birth,
				   bool is_closed, struct os_limit_value limits[PROC_LIMITS_MAX]);

/* ---- For handlers ----------------------------------------------------------------------------------- */

struct os_loop *proc_loop(struct proc_self *self);
const struct ipc_birth *proc_birth(const struct proc_self *self);
struct ipc_channel *proc_supervisor(struct proc_self *self);
/* NULL while there is none. Slot 0 for kinds that exist once. */
struct ipc_channel *proc_link(struct proc_self *self, enum ipc_kind kind, uint32_t slot);
/* This process's own range: gauges are its to write; main writes the heartbeat. */
struct ipc_range *proc_range(struct proc_self *self);

/* The committed snapshot, NULL before the first commit. What pins one past its change holds a reference. */
const struct snapshot *proc_snapshot(const struct proc_self *self);
void proc_snapshot_ref(struct proc_self *self, const struct snapshot *snapshot);
void proc_snapshot_unref(struct proc_self *self,
			 const struct snapshot *snapshot); /* may unmap it */
/* A prepare waits for a place that this old snapshot occupies; NULL: none waits. The worker interrupts its
 * users after the limit `snapshot-wait`. */
const struct snapshot *proc_snapshot_wanted(const struct proc_self *self);

/* Between `data` and commit or abandon the new one, else the committed one. NULL: absent. */
const struct proc_data *proc_data_find(const struct proc_self *self, enum ipc_data_kind what,
				       uint64_t id);
const struct proc_data *proc_data_next(const struct proc_self *self,
				       size_t *cursor); /* all; starts at 0 */

void proc_prepared(struct proc_self *self);
void proc_refuse(struct proc_self *self, uint32_t line, struct span why);
/* A peer broke the rules: the supervisor ends it. The link is closed; no `unlinked` follows. */
void proc_broken(struct proc_self *self, struct ipc_channel *channel, const char *why);
void proc_exit(struct proc_self *self, int code); /* after this turn */
bool proc_is_draining(const struct proc_self *self);
bool proc_is_orphan(const struct proc_self *self);

/* For kind->run: enters the row's sandbox; with `is_closed` its second, empty one. */
int proc_sandbox(struct proc_self *self, bool is_closed) MUST_CHECK;

/* ---- Mains ------------------------------------------------------------------------------------------ */

/* A child: `role` is its row's name. Exit code. */
int proc_helper_main(struct span role);

/* The service. */
struct proc_supervisor_options {
	const char *config_path; /* NULL: text is given */
	struct span text;        /* of `proxy` and `files`; name for messages is config_name */
	const char *config_name;
	const char *state_path; /* NULL: the text's, the environment's, the default */
	bool is_short_log;      /* a terminal: one short line a request */
	struct span hints;      /* for standard error once it serves: what a newcomer does next */
};
int proc_supervisor_main(const struct proc_supervisor_options *options);

/* The folder that holds lock and sockets. `statement` is the text's `state`, empty where there is none. */
int proc_state_path(struct span statement, struct arena *arena, struct span *ret_state,
		    struct span *ret_control) MUST_CHECK;

/* Reads, lists and looks up for conf_parse(), with the rights of who calls; what it yields lives as long as the arena. */
struct conf_functions proc_text_functions(struct arena *arena);

/* A file whose bytes are replaced, whole or not at all: begin() writes them beside it and to the disk, finish() puts them
 * in its place; drop() ends either. Mode and owner stay. A symlink is -ELOOP: what it leads to is somebody else's way to
 * change a file. 0 or -errno; a failure leaves nothing behind. */
struct proc_store {
	int folder_fd; /* -1: none is under way */
	char name[256], beside[256 + 16];
	bool is_written;
};
int proc_store_begin(struct proc_store *store, const char *path, struct span text) MUST_CHECK;
int proc_store_finish(struct proc_store *store) MUST_CHECK;
void proc_store_drop(struct proc_store *store);

/* As whom a row runs where root started it: the package's user, else the row's own number. */
uint32_t proc_row_uid(const struct proc_row *row);

/* For the command `check`: the job of the table, in the same sandboxes, without a service. `text_fd` holds the
 * text, `name` is for messages. What it answers comes by ipc_wait(). 0 or -errno. */
struct proc_child {
	struct os_process process;
	struct ipc_channel channel;
};
int proc_check_start(int text_fd, const char *name, struct proc_child *ret_child) MUST_CHECK;
void proc_child_end(struct proc_child *child); /* and waits for its end */
/* The snapshot that such a job came to (`compiled`), mapped where it was made: once in a process's life, and for good. 0
 * or -errno. */
int proc_check_map(int snapshot_fd, size_t size, const struct snapshot **ret_snapshot) MUST_CHECK;
/* For `ca`: a vault of this command alone, while no service runs. The caller holds byte 1 of the state folder's
 * lock. A vault that cannot begin closes the channel. 0 or -errno. */
int proc_vault_start(int state_fd, struct proc_child *ret_child,
		     struct ipc_channel *ret_channel) MUST_CHECK;
/* For `check`: a vault without a folder, that compares keys with certificates (key_file, then `prepare` of that
 * change is answered) on its supervisor channel. proc_child_end() ends it. 0 or -errno. */
int proc_keys_start(struct proc_child *ret_child) MUST_CHECK;
void proc_vault_end(struct proc_child *child, struct ipc_channel *channel); /* both; waits */
