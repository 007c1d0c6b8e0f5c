/* lifecycle: the supervisor's decisions. Which process is started, restarted, killed, linked, told to
 * prepare, to commit, to adopt a neighbour's listeners or to drain, and when a change is done.
 *
 * It is an engine: events in (lifecycle_on_*, lifecycle_tick), actions out (lifecycle_next). It knows no
 * descriptor, pid or clock and sends nothing; the supervisor carries the actions out in their order and
 * reports what came of them.
 *
 * Inside it is one reconciliation: an event only writes down what happened; settling then compares what
 * is with what shall be and emits the actions in between. So the order in which processes die, get ready
 * or answer needs no cases of its own.
 *
 * A process is named by its index in the table, which stays over restarts; its `instance` is new in each
 * life. A change has a number that only grows; the highest that was decided is `running`. */
#pragma once

#include "ipc/messages.h"

/* What the engine must know of a kind; the process table (proc) has it. */
struct lifecycle_rule {
	bool per_slot;  /* one per slot, else as many as the plan wants, at most count_max */
	bool is_member; /* prepare and commit are sent to it */
	/* Kinds that it asks, as bits of IPC_TO_*: members, behind it in the enum's order; of a per-slot kind the one of
	 * its own slot. A new life of either end gets a new channel, and so do two that live on when theirs has ended;
	 * each once who is asked was told to commit what is running. */
	uint32_t links;
	uint32_t count_max; /* 0: one */
	/* What it waits for may never come (a disk): a change does not wait for one that hangs or is away. It gets what
	 * is running in its next life. */
	bool may_hang;
};

enum {
	LIFECYCLE_HANG_MS = 2000,
	/* Where a channel's end was a death, that is known by then. */
	LIFECYCLE_RELINK_MS = 100,
	LIFECYCLE_START_MS = 10000, /* from its birth to `ready`, however busy it is */
	LIFECYCLE_COMPILE_MS = 30000,
	LIFECYCLE_SIGNAL_MS = 1000,
	LIFECYCLE_GATHER_MS = 60000, /* the vault's part: keys and internal certificates */
	LIFECYCLE_COMMIT_MS = 15000,
	LIFECYCLE_PREPARE_MS = 11 * 60000, /* a worker may wait 10 min for a free place */
	LIFECYCLE_BACK_OFF_FIRST_MS = 100,
	LIFECYCLE_BACK_OFF_MAX_MS = 10000,
	LIFECYCLE_HEALTHY_MS = 10000, /* who lived that long starts without a history */
	LIFECYCLE_LOOP_FAILURES = 5,
	LIFECYCLE_HELPER_DRAIN_MS = 3000,
	LIFECYCLE_RETIRED_DRAIN_MS = 30000,
	/* A stop waits so long for one that was killed: the kernel ends nobody who waits for a dead disk. */
	LIFECYCLE_LEAVE_MS = 3000,
	LIFECYCLE_COUNT_MAX = 8, /* of one kind that has no slots */
};

enum lifecycle_state {
	LIFECYCLE_UNUSED,   /* a free row */
	LIFECYCLE_BACK_OFF, /* dead; will be started at retry_at_ns */
	LIFECYCLE_STARTING,
	LIFECYCLE_READY,
	LIFECYCLE_DRAINING,
	LIFECYCLE_KILLED, /* the signal is on its way, its end is not reported yet */
};

struct lifecycle_process {
	enum ipc_kind kind;
	uint32_t slot;
	enum lifecycle_state state;
	uint64_t instance; /* of this life, never 0 while it lives */
	uint64_t version;  /* of what its sandbox was made of (lifecycle_wants) */
	uint64_t prepare_sent, prepared, commit_sent, committed; /* numbers of changes */
	/* Instances at the other ends; of a kind with slots the one of its own slot. Where that channel has
	 * ended between two that live, the complement: it is made anew at relink_at_ns. */
	uint64_t linked[IPC_KIND_COUNT][LIFECYCLE_COUNT_MAX];
	uint64_t relink_at_ns; /* 0: none has ended */
	uint64_t since_ns;     /* when this state began */
	uint64_t ready_at_ns, retry_at_ns, deadline_ns;
	uint64_t heartbeat, silent_ns;
	uint64_t restarts;
	uint32_t failures;            /* in a row */
	uint32_t change_failures;     /* during the change under way */
	bool is_welcomed, is_retired; /* retired: not started again */
};

/* What a plan wants of each kind. */
struct lifecycle_wants {
	bool wanted[IPC_KIND_COUNT];
	uint32_t count[IPC_KIND_COUNT]; /* of a kind without slots; 0: one */
	/* Another number: a new process beside the old one, which is let go after the commit. */
	uint64_t version[IPC_KIND_COUNT];
	bool needs_gather; /* the vault has to look at keys or make certificates before `prepare` */
};

/* Ordered: a later one includes what an earlier one asks for. */
enum lifecycle_request {
	LIFECYCLE_NO_REQUEST,
	LIFECYCLE_DATA,            /* only data sets changed */
	LIFECYCLE_COMPILE_RUNNING, /* an input changed: the running text once more */
	LIFECYCLE_COMPILE_FILE,    /* start, reload */
	/* A text that shall become the file: it stands for no other request, and none stands for it. */
	LIFECYCLE_COMPILE_GIVEN,
};

enum lifecycle_phase {
	LIFECYCLE_IDLE,
	LIFECYCLE_COMPILING,
	LIFECYCLE_GATHERING,
	LIFECYCLE_PREPARING,
	LIFECYCLE_STORING, /* of a given text only */
	LIFECYCLE_COMMITTING,
};

enum lifecycle_what {
	LIFECYCLE_SPAWN = 1, /* process */
	LIFECYCLE_KILL,      /* process: SIGKILL. why */
	LIFECYCLE_COMPILE,   /* change; request says which text. Answer: lifecycle_on_compiled */
	LIFECYCLE_ABORT_COMPILE, /* the job is over its time: end it */
	LIFECYCLE_GATHER,        /* change; process is the vault. Answer: lifecycle_on_gathered */
	LIFECYCLE_WELCOME, /* process is ready: give it what belongs to its kind, before all that follows */
	LIFECYCLE_LINK, /* process gets a channel to peer, and peer, behind its COMMIT, one to process */
	LIFECYCLE_PREPARE, /* process, change: data sets that it lacks, then `prepare` */
	/* change: all are prepared, and nobody runs it yet. The given text becomes the file, or the change fails. Answer:
	 * lifecycle_on_stored */
	LIFECYCLE_STORE,
	/* Nobody confirmed what was given: the file of before is put back. The change that reads it follows. */
	LIFECYCLE_RESTORE,
	LIFECYCLE_DECIDED,     /* change is the running one from here: before its first commit */
	LIFECYCLE_COMMIT,      /* process, change */
	LIFECYCLE_ABANDON,     /* process, change */
	LIFECYCLE_ADOPT,       /* process, slot, on */
	LIFECYCLE_DRAIN,       /* process, deadline_ms */
	LIFECYCLE_CHANGE_DONE, /* change: every process has it */
	LIFECYCLE_CHANGE_FAILED, /* change; why (NULL: the compile said why itself, or a member's `refused`) */
	LIFECYCLE_CRASH_LOOP, /* process: report it */
	LIFECYCLE_EXIT,       /* all is over */
};

struct lifecycle_action {
	enum lifecycle_what what;
	uint32_t process, peer; /* indexes */
	uint64_t change;
	enum lifecycle_request request;
	uint32_t slot, on, deadline_ms;
	const char *why; /* a literal */
	bool is_silent;  /* KILL: it had no heartbeat */
	bool is_overdue; /* ABORT_COMPILE: and not because the service stops */
};

struct lifecycle;
/* rules has IPC_KIND_COUNT rows and must live as long. 0 or -ENOMEM. */
int lifecycle_new(const struct lifecycle_rule *rules, uint32_t slot_count, uint64_t now_ns,
		  struct lifecycle **ret_lifecycle) MUST_CHECK;
void lifecycle_free(struct lifecycle *lifecycle);
/* The next action, in order; false when none is left. Carrying one out may bring the next events. */
bool lifecycle_next(struct lifecycle *lifecycle, struct lifecycle_action *ret_action);

/* The time. First of all in each turn of the supervisor; events that follow happen at it. */
void lifecycle_tick(struct lifecycle *lifecycle, uint64_t now_ns);
/* When to tick at the latest, or UINT64_MAX. Hangs are looked for at the ticks that the caller makes. */
uint64_t lifecycle_deadline_ns(const struct lifecycle *lifecycle);

/* Events. */
/* One change at a time; of those that wait the greatest request wins and stands for all. */
void lifecycle_change(struct lifecycle *lifecycle, enum lifecycle_request request);
/* SIGHUP: LIFECYCLE_COMPILE_FILE, for senders that wait for no answer and may be many. Behind a change that a signal began
 * the next one begins LIFECYCLE_SIGNAL_MS later at the earliest, for all signals that came meanwhile; a change of somebody
 * else that reads the file stands for them too. */
void lifecycle_signal(struct lifecycle *lifecycle);
/* LIFECYCLE_COMPILE_GIVEN. confirm_ms: once it runs, lifecycle_confirm() must come within this time, else LIFECYCLE_RESTORE
 * does, and the file is read; where that change fails both come again, 10 s later, then 20, at last each 640. 0: it needs
 * none. */
void lifecycle_change_given(struct lifecycle *lifecycle, uint32_t confirm_ms);
/* What runs is to be confirmed in this time (again). */
void lifecycle_hold(struct lifecycle *lifecycle, uint32_t confirm_ms);
void lifecycle_confirm(struct lifecycle *lifecycle);
void lifecycle_on_stored(struct lifecycle *lifecycle, bool ok);
void lifecycle_on_compiled(struct lifecycle *lifecycle, bool ok,
			   const struct lifecycle_wants *wants);
void lifecycle_on_gathered(struct lifecycle *lifecycle, bool ok);
void lifecycle_on_ready(struct lifecycle *lifecycle, uint32_t index);
void lifecycle_on_exited(struct lifecycle *lifecycle, uint32_t index); /* or could not be started */
void lifecycle_on_heartbeat(struct lifecycle *lifecycle, uint32_t index, uint64_t counter);
void lifecycle_on_prepared(struct lifecycle *lifecycle, uint32_t index, uint64_t change);
void lifecycle_on_refused(struct lifecycle *lifecycle, uint32_t index, uint64_t change);
void lifecycle_on_committed(struct lifecycle *lifecycle, uint32_t index, uint64_t change);
/* The channel over which it asks that life of a process has ended. Of one that is over: nothing. */
void lifecycle_on_unlinked(struct lifecycle *lifecycle, uint32_t index, enum ipc_kind kind,
			   uint64_t instance);
/* It broke the rules of a channel. */
void lifecycle_condemn(struct lifecycle *lifecycle, uint32_t index, const char *why);
/* Drain and end; a second call, or drain_ms 0, ends at once. */
void lifecycle_stop(struct lifecycle *lifecycle, uint32_t drain_ms);

/* For status and tests. NULL past the end of the table; rows may be LIFECYCLE_UNUSED. */
const struct lifecycle_process *lifecycle_process_at(const struct lifecycle *lifecycle,
						     uint32_t index);
bool lifecycle_is_alive(const struct lifecycle_process *process);
/* The process of that kind (and slot) that serves or will; -1: none. */
int lifecycle_find(const struct lifecycle *lifecycle, enum ipc_kind kind, uint32_t slot);
uint64_t lifecycle_running(
	const struct lifecycle *lifecycle); /* number of the running change, or 0 */
uint64_t lifecycle_changing(const struct lifecycle *lifecycle); /* of the one under way, or 0 */
bool lifecycle_is_held(const struct lifecycle *lifecycle);      /* it is to be confirmed */
enum lifecycle_phase lifecycle_phase(const struct lifecycle *lifecycle);
bool lifecycle_is_stopping(const struct lifecycle *lifecycle);
