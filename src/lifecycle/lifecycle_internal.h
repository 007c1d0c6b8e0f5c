/* What the engine's parts share: its state and the small steps of a reconciliation. */
#pragma once

#include "lifecycle/lifecycle.h"

#define LIFECYCLE_MS UINT64_C(1000000) /* in nanoseconds */

/* Who was told to accept for a slot's dead worker. */
struct lifecycle_adoption {
	uint32_t process;
	uint64_t instance; /* 0: nobody */
};

struct lifecycle {
	const struct lifecycle_rule *rules;
	uint32_t slot_count, capacity;
	struct lifecycle_process *processes;
	struct lifecycle_adoption *adoptions; /* by slot */
	uint64_t now_ns, last_instance;

	enum lifecycle_phase phase;
	enum lifecycle_request request, waiting;
	uint64_t change, running; /* numbers */
	bool is_given_waiting, is_signal_waiting;
	uint64_t signal_from_ns; /* that one begins no earlier */
	uint32_t given_confirm_ms;
	uint64_t confirm_by_ns; /* 0: there is nothing to confirm */
	/* What was not confirmed was put back on the disk; as long as that does not run it is tried again. */
	bool is_restoring;
	unsigned restores_failed;
	uint64_t restore_by_ns; /* 0: not to be tried again */
	uint64_t phase_deadline_ns;
	uint64_t gather_asked;                    /* the vault's instance that was asked */
	struct lifecycle_wants wants, next_wants; /* of the running change, of the one under way */

	bool is_stopping, is_over;
	uint32_t drain_ms;

	struct lifecycle_action *actions;
	size_t action_capacity, action_count, action_next;
};

/* Every event ends with it: emits what is missing between what is and what shall be. */
void lifecycle_settle(struct lifecycle *lifecycle);
void lifecycle_emit(struct lifecycle *lifecycle, struct lifecycle_action action);

static inline struct lifecycle_process *lifecycle_row(struct lifecycle *lifecycle, uint32_t index)
{
	MUST(index < lifecycle->capacity);
	return &lifecycle->processes[index];
}
static inline uint32_t lifecycle_index(const struct lifecycle *lifecycle,
				       const struct lifecycle_process *process)
{
	return (uint32_t)(process - lifecycle->processes);
}
/* Bounds of a walk over all rows. */
#define LIFECYCLE_EACH(lifecycle, process) \
	for (struct lifecycle_process *process = (lifecycle)->processes; \
	     process < (lifecycle)->processes + (lifecycle)->capacity; process++)

/* process.c */
uint32_t lifecycle_count_max(const struct lifecycle *lifecycle, enum ipc_kind kind);
/* It hangs or is away, and nobody needs to wait for it. */
bool lifecycle_is_excused(const struct lifecycle *lifecycle,
			  const struct lifecycle_process *process);
bool lifecycle_wants_process(const struct lifecycle_wants *wants,
			     const struct lifecycle_process *process);
bool lifecycle_has_next(const struct lifecycle *lifecycle); /* next_wants holds */
void lifecycle_settle_rows(struct lifecycle *lifecycle);
/* To all that it asks and that can answer by now. */
void lifecycle_link(struct lifecycle *lifecycle, struct lifecycle_process *process);
void lifecycle_settle_adoptions(struct lifecycle *lifecycle);
void lifecycle_watch_over(struct lifecycle *lifecycle, uint64_t elapsed_ns);
void lifecycle_kill(struct lifecycle *lifecycle, struct lifecycle_process *process,
		    const char *why);
void lifecycle_drain(struct lifecycle *lifecycle, struct lifecycle_process *process,
		     uint32_t drain_ms);

/* change.c */
void lifecycle_settle_members(struct lifecycle *lifecycle);
bool lifecycle_settle_change(struct lifecycle *lifecycle); /* true: the phase moved, settle again */
void lifecycle_change_fail(struct lifecycle *lifecycle, const char *why);

/* stop.c */
void lifecycle_settle_stop(struct lifecycle *lifecycle);
