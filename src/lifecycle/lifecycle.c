#include "lifecycle/lifecycle.h"

#include "lifecycle/lifecycle_internal.h"

/* A supervisor that was itself stopped for a while must not find everybody else hung. */
static const uint64_t ELAPSED_MAX_NS = 500 * LIFECYCLE_MS;

enum { ACTIONS_PER_PROCESS = 16 };

/* The order in which members are told (lifecycle_settle_members) stands on it. */
static bool is_asked_behind(const struct lifecycle_rule *rules, unsigned asker)
{
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		if ((rules[asker].links & 1U << kind) && (kind <= asker || !rules[kind].is_member))
			return false;
	}
	return true;
}

int lifecycle_new(const struct lifecycle_rule *rules, uint32_t slot_count, uint64_t now_ns,
		  struct lifecycle **ret_lifecycle)
{
	struct lifecycle *lifecycle = heap_alloc(sizeof(*lifecycle));

	if (!lifecycle)
		return -ENOMEM;
	lifecycle->rules = rules;
	lifecycle->slot_count = slot_count;
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++)
		MUST(is_asked_behind(rules, kind));
	/* Per kind the rows of its slots, and a second set for those that are on their way out. */
	for (int kind = 0; kind < IPC_KIND_COUNT; kind++)
		lifecycle->capacity += 2 * lifecycle_count_max(lifecycle, (enum ipc_kind)kind);
	lifecycle->processes = heap_alloc(lifecycle->capacity * sizeof(*lifecycle->processes));
	lifecycle->adoptions = heap_alloc(slot_count * sizeof(*lifecycle->adoptions));
	lifecycle->now_ns = now_ns;
	/* A decision must never fail for want of memory: far more room than one turn's decisions take. */
	if (!lifecycle->processes || !lifecycle->adoptions ||
	    !heap_grow((void **)&lifecycle->actions, &lifecycle->action_capacity,
		       ACTIONS_PER_PROCESS * (size_t)lifecycle->capacity,
		       sizeof(*lifecycle->actions))) {
		lifecycle_free(lifecycle);
		return -ENOMEM;
	}
	*ret_lifecycle = lifecycle;
	return 0;
}

void lifecycle_free(struct lifecycle *lifecycle)
{
	if (!lifecycle)
		return;
	heap_free(lifecycle->processes);
	heap_free(lifecycle->adoptions);
	heap_free(lifecycle->actions);
	heap_free(lifecycle);
}

void lifecycle_emit(struct lifecycle *lifecycle, struct lifecycle_action action)
{
	/* A decision that is lost would leave a process waiting for ever, so there is no way on without. */
	MUST(heap_grow((void **)&lifecycle->actions, &lifecycle->action_capacity,
		       lifecycle->action_count + 1, sizeof(*lifecycle->actions)));
	lifecycle->actions[lifecycle->action_count++] = action;
}

bool lifecycle_next(struct lifecycle *lifecycle, struct lifecycle_action *ret_action)
{
	if (lifecycle->action_next == lifecycle->action_count) {
		lifecycle->action_next = lifecycle->action_count = 0;
		return false;
	}
	*ret_action = lifecycle->actions[lifecycle->action_next++];
	return true;
}

void lifecycle_settle(struct lifecycle *lifecycle)
{
	if (lifecycle->is_stopping) {
		lifecycle_settle_stop(lifecycle);
		return;
	}
	/* A dead worker's clients wait for this one; all the rest can come a moment later. */
	lifecycle_settle_adoptions(lifecycle);
	do {
		lifecycle_settle_rows(lifecycle);
		lifecycle_settle_members(lifecycle);
	} while (lifecycle_settle_change(lifecycle));
	lifecycle_settle_adoptions(lifecycle);
}

void lifecycle_tick(struct lifecycle *lifecycle, uint64_t now_ns)
{
	uint64_t elapsed_ns = now_ns - lifecycle->now_ns;

	if (elapsed_ns > ELAPSED_MAX_NS)
		elapsed_ns = ELAPSED_MAX_NS;
	lifecycle->now_ns = now_ns;
	lifecycle_watch_over(lifecycle, elapsed_ns);
	lifecycle_settle(lifecycle);
}

/* When what was not confirmed is put back, again perhaps; UINT64_MAX: it is not. */
static uint64_t restore_at_ns(const struct lifecycle *lifecycle)
{
	uint64_t confirm = lifecycle->confirm_by_ns ? lifecycle->confirm_by_ns : UINT64_MAX;
	uint64_t again = lifecycle->restore_by_ns ? lifecycle->restore_by_ns : UINT64_MAX;

	return confirm < again ? confirm : again;
}

uint64_t lifecycle_deadline_ns(const struct lifecycle *lifecycle)
{
	uint64_t earliest = UINT64_MAX;

	if (lifecycle->phase != LIFECYCLE_IDLE)
		earliest = lifecycle->phase_deadline_ns;
	else if (!lifecycle->is_stopping)
		earliest = restore_at_ns(lifecycle);
	if (lifecycle->phase == LIFECYCLE_IDLE && lifecycle->is_signal_waiting &&
	    !lifecycle->is_stopping && lifecycle->signal_from_ns < earliest)
		earliest = lifecycle->signal_from_ns;
	for (uint32_t i = 0; i < lifecycle->capacity; i++) {
		const struct lifecycle_process *process = &lifecycle->processes[i];
		uint64_t at = process->state == LIFECYCLE_BACK_OFF ? process->retry_at_ns
								   : process->deadline_ns;

		if (process->state != LIFECYCLE_UNUSED && at && at < earliest)
			earliest = at;
		if (process->relink_at_ns && !lifecycle->is_stopping &&
		    process->relink_at_ns < earliest)
			earliest = process->relink_at_ns;
	}
	return earliest;
}

const struct lifecycle_process *lifecycle_process_at(const struct lifecycle *lifecycle,
						     uint32_t index)
{
	return index < lifecycle->capacity ? &lifecycle->processes[index] : NULL;
}

bool lifecycle_is_alive(const struct lifecycle_process *process)
{
	return process->state == LIFECYCLE_STARTING || process->state == LIFECYCLE_READY ||
	       process->state == LIFECYCLE_DRAINING || process->state == LIFECYCLE_KILLED;
}

int lifecycle_find(const struct lifecycle *lifecycle, enum ipc_kind kind, uint32_t slot)
{
	int found = -1;

	for (uint32_t i = 0; i < lifecycle->capacity; i++) {
		const struct lifecycle_process *process = &lifecycle->processes[i];

		if (process->state == LIFECYCLE_UNUSED || process->kind != kind ||
		    process->slot != slot || process->is_retired)
			continue;
		if (found < 0 || lifecycle_wants_process(&lifecycle->wants, process))
			found = (int)i;
	}
	return found;
}

uint64_t lifecycle_running(const struct lifecycle *lifecycle)
{
	return lifecycle->running;
}

uint64_t lifecycle_changing(const struct lifecycle *lifecycle)
{
	return lifecycle->phase == LIFECYCLE_IDLE ? 0 : lifecycle->change;
}

bool lifecycle_is_held(const struct lifecycle *lifecycle)
{
	return lifecycle->confirm_by_ns != 0;
}

enum lifecycle_phase lifecycle_phase(const struct lifecycle *lifecycle)
{
	return lifecycle->phase;
}

bool lifecycle_is_stopping(const struct lifecycle *lifecycle)
{
	return lifecycle->is_stopping;
}
