/* The supervisor's parts share this: what it holds (children, plans, listeners, waiting commands). What shall
 * happen is decided by lifecycle; here it is carried out. */
#pragma once

#include "lifecycle/lifecycle.h"
#include "proc/manager.h"
#include "proc/proc.h"
#include "telemetry/telemetry.h"

/* ---- A plan: all that a compile came to, with its descriptors --------------------------------------- */

struct plan_row {
	struct ipc_plan_row row;
	struct span tail;     /* own copy */
	int fd;               /* or -1 */
	int64_t key_mtime_ns; /* when it was opened: the file behind the descriptor may change */
};

struct plan_data {
	struct ipc_data data; /* .change: when it came, so that a process gets what it lacks */
	int fd;
};

struct plan {
	uint64_t change;
	int snapshot_fd;
	uint64_t address, size;
	struct plan_row *rows;
	size_t row_count, row_capacity;
	struct plan_data *data;
	size_t data_count, data_capacity;
	uint64_t files_version;
	uint32_t files_count; /* slots of `files` */
	bool wants_tls;
};

int plan_new(uint64_t change, struct plan **ret_plan) MUST_CHECK;
void plan_free(struct plan *plan);
int plan_add_row(struct plan *plan, const struct ipc_plan_row *row, struct span tail,
		 int fd) MUST_CHECK;
/* fd is taken; replaces the one of the same kind and id. */
int plan_add_data(struct plan *plan, const struct ipc_data *data, int fd) MUST_CHECK;
const struct plan_data *plan_find_data(const struct plan *plan, enum ipc_data_kind what,
				       uint64_t id);
/* The next row of that kind behind *cursor (starts at 0), or NULL. */
const struct plan_row *plan_next(const struct plan *plan, enum ipc_plan_kind what, size_t *cursor);
uint64_t plan_files_version(const struct plan *plan); /* of what `files` is made of */
void plan_wants(struct plan *plan, struct lifecycle_wants *ret_wants);
/* Roots that a compile of the running text did not open again, and their links. -errno: some are missing. */
int plan_take_roots(struct plan *plan, const struct plan *running) MUST_CHECK;
/* Which slot of `files` has which root: one for each file system. Once all rows are there; adds a data set. */
int plan_share_roots(struct plan *plan, uint64_t serial) MUST_CHECK;
/* No data set and no key file differs. */
bool plan_has_same_inputs(const struct plan *plan, const struct plan *running);

/* ---- Listeners ------------------------------------------------------------------------------------------ */

struct listener {
	struct list link;
	uint64_t id;
	struct os_address address;
	uint32_t flags;     /* enum ipc_plan_listener_flag */
	bool is_new;        /* of the plan under way: not given to anybody yet */
	bool is_held_by_us; /* by an earlier service of ours: that the address is taken is no fault */
	int fds[];          /* one per slot */
};

/* What the vault of the supervisor before us handed back, or the service manager. */
struct kept {
	struct ipc_keep keep;
	char name[OS_ADDRESS_TEXT_MAX];
	int fd;
};

/* ---- Children --------------------------------------------------------------------------------------- */

struct supervisor;

/* By the index of the lifecycle's table; range and ring stay over restarts. */
struct child {
	struct supervisor *supervisor;
	uint32_t index;
	struct os_process process; /* pid 0: none */
	struct os_watch watch;     /* readable once it has ended */
	struct ipc_channel channel;
	struct ipc_ready ready;
	uint64_t plan_sent, plan_committed, data_sent, data_committed; /* change numbers */
	int64_t started_wall_ns;
	uint64_t busy_ticks; /* of its birth: at which it ran, or waited for a core or a disk */
	bool is_taken_over;  /* it broke the rules of a channel */
	uint64_t restarts;   /* of this process that were counted */
	int range_fd, ring_fd, ring_event;
	struct ipc_range *range;
};

/* A connection at control.sock. */
struct command {
	struct list link;
	struct supervisor *supervisor;
	struct ipc_channel channel;
	bool is_dead;
	enum lifecycle_request waits_for; /* a change of this kind */
	uint64_t change;                  /* that one, once it has begun; else 0 */
};

/* What the operator said of an origin: kept until it is taken back. */
enum { ORDERS_MAX = 256, ORDER_TEXT_MAX = 256 };
struct order {
	uint64_t origin;
	int64_t since_wall_ns;
	uint32_t order; /* enum ipc_order, but UP */
	char text[ORDER_TEXT_MAX];
};

struct supervisor {
	const struct proc_supervisor_options *options;
	struct os_loop *loop;
	struct lifecycle *lifecycle;
	struct lifecycle_rule rules[IPC_KIND_COUNT];
	struct os_signals signals;
	struct os_timer tick;
	uint32_t slot_count, child_count;
	unsigned cpus[OS_CPU_MAX];
	struct child *children;
	struct ipc_range *range; /* its own: heartbeat and turns */
	int range_fd;
	int64_t started_wall_ns;
	uint64_t snapshot_base, nofile;
	uint32_t gateway_id;
	uint64_t place_changes[PROC_SNAPSHOT_PLACES]; /* the last change that lies there */
	bool is_root;

	/* The state folder. */
	char *state_path, *control_path;
	int state_fd, control_folder_fd, key_folder_fd, lock_fd;
	int control_listener_fd, rescue_listener_fd, tickets_fd, rates_fd;
	struct os_watch control_watch;
	bool stops;
	bool is_serving; /* byte 0 is ours and the ready lines are printed */

	struct list listeners;
	struct kept *kept;
	size_t kept_count, kept_capacity;

	struct plan *running, *next;
	/* The check job. */
	struct os_process job;
	struct os_watch job_watch;
	struct ipc_channel job_channel;
	char job_path[512];               /* what it opens */
	struct os_process left[16];       /* jobs that could not be ended: pid 0 for none */
	bool job_done, job_is_incomplete; /* incomplete: part of the plan could not be kept */
	enum lifecycle_request job_request;
	bool reopens_roots;      /* with the next compile of the running text */
	struct os_timer inputs;  /* the next look at certificates, hosts, resolv.conf */
	uint64_t inputs_trouble; /* hash of what was last wrong with them: it is said once */
	int log_trouble
		[2];  /* -errno of the last try to open a log's target; it is said once, too */
	int given_fd; /* the text that is being applied, or -1 */
	uint32_t given_confirm_ms;
	bool was_restored;    /* at the start, what an earlier service had not been confirmed */
	uint64_t data_serial; /* of data sets, in the order in which they came */
	uint32_t command_serial;
	struct order *orders; /* ORDERS_MAX; or NULL: none was ever given */
	size_t order_count;

	struct list commands;
	struct writer
		trouble; /* what is wrong with the change under way, for whoever asked for it */
	char trouble_text[32 * 1024];
	int exit_code;
	struct manager manager;
};

enum { SUPERVISOR_DRAIN_MS = 30 * 1000 };

/* supervisor.c */
void supervisor_stop(struct supervisor *supervisor, uint32_t drain_ms);
/* One line for the operator on standard error, and an event. */
void supervisor_say(struct supervisor *supervisor, const char *format, ...) PRINTF_LIKE(2, 3);
/* Adds to what is wrong with the change under way. */
void supervisor_fault(struct supervisor *supervisor, const char *format, ...) PRINTF_LIKE(2, 3);
void supervisor_now(struct supervisor *supervisor); /* lifecycle's clock */
void supervisor_count_limit(struct supervisor *supervisor, enum telemetry_limit limit);
const struct lifecycle_process *supervisor_process(const struct supervisor *supervisor,
						   const struct child *child);
void supervisor_child_name(const struct supervisor *supervisor, const struct child *child,
			   struct writer *out);

/* spawn.c */
/* A range of shared memory, which only its process writes. */
int range_new(int *ret_fd, struct ipc_range **ret_range) MUST_CHECK;
int children_init(struct supervisor *supervisor) MUST_CHECK;
void children_fini(struct supervisor *supervisor);
/* A process of the table: channel is ours, `process` its own. slot is only used for its command line. */
int child_start(const struct proc_row *row, uint32_t slot, struct os_loop *loop,
		struct os_process *ret_process, struct ipc_channel *ret_channel) MUST_CHECK;
/* Of one that was started and cannot be kept: it is ended and waited for. */
void child_undo(struct os_process *process);
/* The whole endowment of a check job, and its order. */
int child_send_check(struct ipc_channel *channel, const struct ipc_birth *birth,
		     const struct ipc_compile *compile, int text_fd, const char *name) MUST_CHECK;
bool child_is_unprivileged(void); /* may not bind port 443 */
void child_spawn(struct supervisor *supervisor, struct child *child);
void child_kill(struct supervisor *supervisor, struct child *child, const char *why);
void child_welcome(struct supervisor *supervisor, struct child *child);
void child_link(struct supervisor *supervisor, struct child *child, struct child *peer);
/* Sends; a process that does not read its channel is ended. */
void child_send(struct child *child, enum ipc_number number, const void *body, struct span tail,
		const int *descriptors, int descriptor_count);
struct child *child_find(struct supervisor *supervisor, enum ipc_kind kind, uint32_t slot);
uint32_t row_uid(const struct supervisor *supervisor, const struct proc_row *row);

/* change.c */
void change_compile(struct supervisor *supervisor, uint64_t change, enum lifecycle_request request);
void change_watch_inputs(struct supervisor *supervisor); /* from now on, each minute */
void change_abort_compile(struct supervisor *supervisor);
void change_overdue(struct supervisor *supervisor); /* the same, and says what it waits for */
void change_reap_left(struct supervisor *supervisor);
void change_gather(struct supervisor *supervisor, struct child *vault, uint64_t change);
void change_prepare(struct supervisor *supervisor, struct child *child, uint64_t change);
void change_decided(struct supervisor *supervisor, uint64_t change);
void change_ended(struct supervisor *supervisor, const struct lifecycle_action *action);
void change_on_root_news(struct supervisor *supervisor, struct child *files,
			 const struct ipc_root_news *news, struct span why);
void change_on_leaf(struct supervisor *supervisor, const struct ipc_leaf *leaf, struct span chain);
void change_send_keys(struct child *vault, const struct plan *plan, uint64_t change);

/* apply.c. Those that a command asks for answer why not, or NULL: it has begun, or is done. */
const char *apply_begin(struct supervisor *supervisor, int text_fd,
			uint32_t confirm_ms) MUST_CHECK; /* a sealed memory file */
const char *apply_rollback(struct supervisor *supervisor, uint32_t steps,
			   uint32_t confirm_ms) MUST_CHECK;
const char *apply_confirm(struct supervisor *supervisor) MUST_CHECK;
void apply_store(struct supervisor *supervisor);
void apply_ended(struct supervisor *supervisor);
void apply_restore(struct supervisor *supervisor);
void apply_recover(struct supervisor *supervisor); /* before anything else reads the file */
void apply_serving(struct supervisor *supervisor); /* for the first time */
void apply_step(struct supervisor *supervisor, const char *step); /* a trap of the tests */

/* listeners.c */
int listeners_bind(struct supervisor *supervisor, const struct plan *plan) MUST_CHECK;
void listeners_drop_new(struct supervisor *supervisor);
void listeners_decided(struct supervisor *supervisor);
void listeners_give(struct supervisor *supervisor, struct child *worker, bool only_new);
void listeners_keep(struct supervisor *supervisor, struct child *vault);
void listeners_forget(struct supervisor *supervisor); /* the vault's copies */
void listeners_print_ready(struct supervisor *supervisor);
/* A worker ended: what it may have set on sockets that all share is undone. */
void listeners_restore(struct supervisor *supervisor);
void listeners_close_all(struct supervisor *supervisor);

/* An empty table of rates (struct firewall_table), its size sealed. */
int kept_rates_new(int *ret_fd) MUST_CHECK;
/* kept.c: what outlives a supervisor in the vault, and in the service manager's store: listeners, ticket keys, counters. */
/* From the vault of the supervisor before us, if there is one, and from the manager: into supervisor->kept. */
int kept_rescue(struct supervisor *supervisor) MUST_CHECK;
int kept_take_listener(struct supervisor *supervisor, const char *name, uint32_t slot); /* or -1 */
/* A first life goes on counting where that process of the earlier service was when we took over. */
void kept_take_counters(struct supervisor *supervisor, struct child *child);
/* A listener's copy in the manager's store; is_over: no longer. */
void kept_store_listener(struct supervisor *supervisor, const char *name, uint32_t slot, int fd,
			 bool is_over);
void kept_drop(struct supervisor *supervisor);                      /* what nobody took */
void kept_give(struct supervisor *supervisor, struct child *vault); /* all, to a newborn vault */
void kept_give_counters(struct supervisor *supervisor, const struct child *child);

/* state.c */
/* Opens the state folder, takes the lock. 0, or a fault was told. */
int state_open(struct supervisor *supervisor, struct span statement) MUST_CHECK;
int state_serve(struct supervisor *supervisor) MUST_CHECK; /* byte 0 and the lock file's text */
void state_close(struct supervisor *supervisor);           /* a clean stop empties the file */
int state_lock_reader(struct supervisor *supervisor, int *ret_fd) MUST_CHECK;
/* An earlier service was killed while it served that address (as os_address_write() writes it). */
bool state_was_served(const struct supervisor *supervisor, struct span address);
bool state_is_busy(
	int lock_fd); /* somebody serves or changes it; else it is ours until the descriptor is closed */
bool state_is_same(const struct supervisor *supervisor, struct span statement);

/* control.c */
int control_open(struct supervisor *supervisor) MUST_CHECK;
void control_close(struct supervisor *supervisor);
bool control_listen(
	struct supervisor *supervisor); /* (again, after it had to rest); false: it cannot now */
void control_change_begun(struct supervisor *supervisor, uint64_t change,
			  enum lifecycle_request request);
void control_change_ended(struct supervisor *supervisor, uint64_t change, bool ok);
void control_turn(struct supervisor *supervisor);

/* orders.c: what the operator says of origins. It outlives the service, in the file `origins` of the state folder. */
void orders_load(struct supervisor *supervisor); /* a file that cannot be read is told and left */
void orders_free(struct supervisor *supervisor);
/* Keeps it and tells every worker. 0; -ENOBUFS: there are ORDERS_MAX; else what it was not written for. */
int orders_set(struct supervisor *supervisor, const struct ipc_set_order *order,
	       struct span text) MUST_CHECK;
void orders_give(struct supervisor *supervisor, struct child *worker); /* a newborn one */

/* A sealed memory file, mapped anywhere; an empty one is no map. */
int proc_map_sealed(int fd, size_t size, const void **ret_memory) MUST_CHECK;

/* origins.c */
void origins_look(struct supervisor *supervisor); /* at those that were not looked at before */
void origins_on_unanswered(struct supervisor *supervisor, const struct ipc_unanswered *body,
			   struct span tail);

/* logs.c */
/* Can every log file of this plan be opened? Else a fault of the change. */
bool logs_check(struct supervisor *supervisor, const struct plan *plan) MUST_CHECK;
void logs_give(struct supervisor *supervisor, struct child *log);
void logs_reopen(struct supervisor *supervisor, struct child *log, uint32_t which);
