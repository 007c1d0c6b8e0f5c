#include "lifecycle/lifecycle_internal.h"

#include <string.h>

uint32_t lifecycle_count_max(const struct lifecycle *lifecycle, enum ipc_kind kind)
{
	const struct lifecycle_rule *rule = &lifecycle->rules[kind];
	uint32_t max =
		rule->count_max < LIFECYCLE_COUNT_MAX ? rule->count_max : LIFECYCLE_COUNT_MAX;

	if (rule->per_slot)
		return lifecycle->slot_count;
	return max ? max : 1;
}

static uint32_t count_of(const struct lifecycle *lifecycle, const struct lifecycle_wants *wants,
			 enum ipc_kind kind)
{
	uint32_t max = lifecycle_count_max(lifecycle, kind), count = wants->count[kind];

	if (lifecycle->rules[kind].per_slot || count > max)
		return max;
	return count ? count : 1;
}

/* A plan that wants others of them, or another number, has another version: the slot needs no look. */
bool lifecycle_wants_process(const struct lifecycle_wants *wants,
			     const struct lifecycle_process *process)
{
	return wants->wanted[process->kind] && wants->version[process->kind] == process->version;
}

/* Only one of the running plan: a change that brings a new one shows by it whether it is any good. */
bool lifecycle_is_excused(const struct lifecycle *lifecycle,
			  const struct lifecycle_process *process)
{
	return lifecycle->rules[process->kind].may_hang &&
	       lifecycle_wants_process(&lifecycle->wants, process) &&
	       (process->state == LIFECYCLE_KILLED || process->state == LIFECYCLE_BACK_OFF ||
		(process->restarts && !process->committed));
}

bool lifecycle_has_next(const struct lifecycle *lifecycle)
{
	return lifecycle->phase == LIFECYCLE_GATHERING || lifecycle->phase == LIFECYCLE_PREPARING ||
	       lifecycle->phase == LIFECYCLE_STORING;
}

/* ---- Rows: who shall live -------------------------------------------------------------------------- */

static bool is_wanted(const struct lifecycle *lifecycle, const struct lifecycle_process *process)
{
	if (lifecycle_wants_process(&lifecycle->wants, process))
		return true;
	return lifecycle_has_next(lifecycle) &&
	       lifecycle_wants_process(&lifecycle->next_wants, process);
}

static void add_missing(struct lifecycle *lifecycle, enum ipc_kind kind, uint32_t slot,
			uint64_t version)
{
	struct lifecycle_process *unused = NULL;

	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_UNUSED) {
			if (!unused)
				unused = process;
		} else if (process->kind == kind && process->slot == slot &&
			   process->version == version && !process->is_retired) {
			return;
		}
	}
	/* None is free while too many old ones drain: the next event looks again. */
	if (!unused)
		return;
	*unused = (struct lifecycle_process){
		.kind = kind,
		.slot = slot,
		.version = version,
		.state = LIFECYCLE_BACK_OFF,
		.retry_at_ns = lifecycle->now_ns,
	};
}

static void add_wanted(struct lifecycle *lifecycle, const struct lifecycle_wants *wants)
{
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		uint32_t count = count_of(lifecycle, wants, (enum ipc_kind)kind);

		for (uint32_t slot = 0; wants->wanted[kind] && slot < count; slot++)
			add_missing(lifecycle, (enum ipc_kind)kind, slot, wants->version[kind]);
	}
}

void lifecycle_kill(struct lifecycle *lifecycle, struct lifecycle_process *process, const char *why)
{
	process->state = LIFECYCLE_KILLED;
	process->since_ns = lifecycle->now_ns;
	process->deadline_ns = 0;
	lifecycle_emit(lifecycle,
		       (struct lifecycle_action){ .what = LIFECYCLE_KILL,
						  .process = lifecycle_index(lifecycle, process),
						  .why = why });
}

void lifecycle_drain(struct lifecycle *lifecycle, struct lifecycle_process *process,
		     uint32_t drain_ms)
{
	process->is_retired = true;
	process->state = LIFECYCLE_DRAINING;
	process->since_ns = lifecycle->now_ns;
	/* It is told the deadline itself; who does not keep it is ended a little later. */
	process->deadline_ns = lifecycle->now_ns + (drain_ms + UINT64_C(1000)) * LIFECYCLE_MS;
	lifecycle_emit(lifecycle,
		       (struct lifecycle_action){ .what = LIFECYCLE_DRAIN,
						  .process = lifecycle_index(lifecycle, process),
						  .deadline_ms = drain_ms });
}

static void let_go(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	process->is_retired = true;
	switch (process->state) {
	case LIFECYCLE_BACK_OFF:
		process->state = LIFECYCLE_UNUSED;
		break;
	case LIFECYCLE_STARTING:
		lifecycle_kill(lifecycle, process, "not needed any more");
		break;
	case LIFECYCLE_READY:
		lifecycle_drain(lifecycle, process, LIFECYCLE_RETIRED_DRAIN_MS);
		break;
	case LIFECYCLE_UNUSED:
	case LIFECYCLE_DRAINING:
	case LIFECYCLE_KILLED:
		break;
	}
}

static void spawn(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	process->state = LIFECYCLE_STARTING;
	process->instance = ++lifecycle->last_instance;
	process->since_ns = lifecycle->now_ns;
	process->deadline_ns = lifecycle->now_ns + LIFECYCLE_START_MS * LIFECYCLE_MS;
	lifecycle_emit(lifecycle,
		       (struct lifecycle_action){ .what = LIFECYCLE_SPAWN,
						  .process = lifecycle_index(lifecycle, process) });
}

void lifecycle_settle_rows(struct lifecycle *lifecycle)
{
	add_wanted(lifecycle, &lifecycle->wants);
	if (lifecycle_has_next(lifecycle))
		add_wanted(lifecycle, &lifecycle->next_wants);
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_UNUSED)
			continue;
		if (!process->is_retired && !is_wanted(lifecycle, process))
			let_go(lifecycle, process);
		if (process->state == LIFECYCLE_BACK_OFF &&
		    process->retry_at_ns <= lifecycle->now_ns)
			spawn(lifecycle, process);
		if (process->state == LIFECYCLE_READY && !process->is_welcomed) {
			process->is_welcomed = true;
			lifecycle_emit(lifecycle,
				       (struct lifecycle_action){
					       .what = LIFECYCLE_WELCOME,
					       .process = lifecycle_index(lifecycle, process) });
		}
	}
}

/* ---- Channels between them ------------------------------------------------------------------------- */

/* The one to ask: only one that serves what is running, and was told to commit it. Its end of the channel comes
 * behind that, so it answers the first question as it does any other. A new `files` beside the old one is not
 * asked before the change that wants it is decided. */
static struct lifecycle_process *peer_of(struct lifecycle *lifecycle, enum ipc_kind kind,
					 uint32_t slot)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_READY && process->kind == kind &&
		    process->slot == slot && process->commit_sent == lifecycle->running &&
		    lifecycle_wants_process(&lifecycle->wants, process))
			return process;
	}
	return NULL;
}

static void link_kind(struct lifecycle *lifecycle, struct lifecycle_process *process,
		      enum ipc_kind kind)
{
	bool per_slot = lifecycle->rules[kind].per_slot;
	uint32_t count = per_slot ? 1 : lifecycle_count_max(lifecycle, kind);

	for (uint32_t i = 0; i < count; i++) {
		struct lifecycle_process *peer =
			peer_of(lifecycle, kind, per_slot ? process->slot : i);
		uint64_t *linked = &process->linked[kind][i];

		if (!peer || *linked == peer->instance)
			continue;
		if (*linked == ~peer->instance && process->relink_at_ns > lifecycle->now_ns)
			continue;
		*linked = peer->instance;
		lifecycle_emit(lifecycle, (struct lifecycle_action){
						  .what = LIFECYCLE_LINK,
						  .process = lifecycle_index(lifecycle, process),
						  .peer = lifecycle_index(lifecycle, peer) });
	}
}

void lifecycle_on_unlinked(struct lifecycle *lifecycle, uint32_t index, enum ipc_kind kind,
			   uint64_t instance)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (lifecycle->is_stopping)
		return; /* who leaves gets no new channel */
	for (size_t i = 0; i < LIFECYCLE_COUNT_MAX; i++) {
		if (!instance || process->linked[kind][i] != instance)
			continue;
		process->linked[kind][i] = ~instance;
		process->relink_at_ns = lifecycle->now_ns + LIFECYCLE_RELINK_MS * LIFECYCLE_MS;
	}
}

void lifecycle_link(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		if (process->state == LIFECYCLE_READY &&
		    (lifecycle->rules[process->kind].links & 1U << kind))
			link_kind(lifecycle, process, (enum ipc_kind)kind);
	}
	/* Of one that leaves too: a time that has passed would be waited for again and again. */
	if (process->relink_at_ns <= lifecycle->now_ns)
		process->relink_at_ns = 0;
}

/* ---- Listeners of dead workers --------------------------------------------------------------------- */

static bool is_serving(const struct lifecycle_process *process)
{
	return process->kind == IPC_WORKER && process->state == LIFECYCLE_READY &&
	       process->committed;
}

static struct lifecycle_process *serving_worker(struct lifecycle *lifecycle, uint32_t slot)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (is_serving(process) && process->slot == slot)
			return process;
	}
	return NULL;
}

/* Nobody while the slot has its own; else the next that serves, so that two deaths do not both land on the
 * same neighbour where there are more. */
static struct lifecycle_process *adopter_for(struct lifecycle *lifecycle, uint32_t slot)
{
	if (serving_worker(lifecycle, slot))
		return NULL;
	for (uint32_t step = 1; step < lifecycle->slot_count; step++) {
		struct lifecycle_process *process =
			serving_worker(lifecycle, (slot + step) % lifecycle->slot_count);

		if (process)
			return process;
	}
	return NULL;
}

void lifecycle_settle_adoptions(struct lifecycle *lifecycle)
{
	for (uint32_t slot = 0; slot < lifecycle->slot_count; slot++) {
		struct lifecycle_adoption *adoption = &lifecycle->adoptions[slot];
		struct lifecycle_process *wanted = adopter_for(lifecycle, slot);
		struct lifecycle_process *told = &lifecycle->processes[adoption->process];
		struct lifecycle_action action = { .what = LIFECYCLE_ADOPT, .slot = slot };

		if (adoption->instance == (wanted ? wanted->instance : 0))
			continue;
		/* The new one first: the queue of the socket is never without a reader. */
		if (wanted) {
			action.process = lifecycle_index(lifecycle, wanted);
			action.on = 1;
			lifecycle_emit(lifecycle, action);
		}
		if (adoption->instance && told->instance == adoption->instance &&
		    lifecycle_is_alive(told)) {
			action.process = adoption->process;
			action.on = 0;
			lifecycle_emit(lifecycle, action);
		}
		*adoption = (struct lifecycle_adoption){ 0 };
		if (wanted)
			*adoption = (struct lifecycle_adoption){ lifecycle_index(lifecycle, wanted),
								 wanted->instance };
	}
}

/* ---- Life and death -------------------------------------------------------------------------------- */

static void kill_silent(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	lifecycle_kill(lifecycle, process, "no heartbeat for 2 seconds");
	lifecycle->actions[lifecycle->action_count - 1].is_silent = true;
}

void lifecycle_watch_over(struct lifecycle *lifecycle, uint64_t elapsed_ns)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		bool is_watched = process->state == LIFECYCLE_STARTING ||
				  process->state == LIFECYCLE_READY ||
				  process->state == LIFECYCLE_DRAINING;

		if (process->deadline_ns && process->deadline_ns <= lifecycle->now_ns) {
			if (process->state == LIFECYCLE_STARTING)
				lifecycle_kill(lifecycle, process, "did not get ready in time");
			else if (process->state == LIFECYCLE_DRAINING)
				lifecycle_kill(lifecycle, process, "did not end in time");
		}
		if (!is_watched || process->state == LIFECYCLE_KILLED)
			continue;
		process->silent_ns += elapsed_ns;
		if (process->silent_ns >= LIFECYCLE_HANG_MS * LIFECYCLE_MS)
			kill_silent(lifecycle, process);
	}
}

void lifecycle_on_heartbeat(struct lifecycle *lifecycle, uint32_t index, uint64_t counter)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (process->heartbeat == counter)
		return;
	process->heartbeat = counter;
	process->silent_ns = 0;
}

void lifecycle_on_ready(struct lifecycle *lifecycle, uint32_t index)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (process->state != LIFECYCLE_STARTING)
		return;
	process->state = LIFECYCLE_READY;
	process->since_ns = process->ready_at_ns = lifecycle->now_ns;
	process->deadline_ns = 0;
	process->silent_ns = 0;
	lifecycle_settle(lifecycle);
}

static uint64_t back_off_ms(uint32_t failures)
{
	uint64_t ms = LIFECYCLE_BACK_OFF_FIRST_MS;

	if (failures <= 1)
		return 0;
	for (uint32_t i = 2; i < failures && ms < LIFECYCLE_BACK_OFF_MAX_MS; i++)
		ms *= 2;
	return ms < LIFECYCLE_BACK_OFF_MAX_MS ? ms : LIFECYCLE_BACK_OFF_MAX_MS;
}

void lifecycle_on_exited(struct lifecycle *lifecycle, uint32_t index)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);
	struct lifecycle_process next = { 0 };

	if (!lifecycle_is_alive(process))
		return;
	if (!process->is_retired && !lifecycle->is_stopping) {
		bool was_healthy =
			process->ready_at_ns && lifecycle->now_ns - process->ready_at_ns >=
							LIFECYCLE_HEALTHY_MS * LIFECYCLE_MS;

		next = (struct lifecycle_process){
			.kind = process->kind,
			.slot = process->slot,
			.version = process->version,
			.state = LIFECYCLE_BACK_OFF,
			.since_ns = lifecycle->now_ns,
			.failures = (was_healthy ? 0 : process->failures) + 1,
			.change_failures = process->change_failures + 1,
			.restarts = process->restarts + 1,
		};
		next.retry_at_ns = lifecycle->now_ns + back_off_ms(next.failures) * LIFECYCLE_MS;
		if (next.failures == LIFECYCLE_LOOP_FAILURES)
			lifecycle_emit(lifecycle,
				       (struct lifecycle_action){ .what = LIFECYCLE_CRASH_LOOP,
								  .process = index });
	}
	*process = next;
	lifecycle_settle(lifecycle);
}

void lifecycle_condemn(struct lifecycle *lifecycle, uint32_t index, const char *why)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (lifecycle_is_alive(process) && process->state != LIFECYCLE_KILLED)
		lifecycle_kill(lifecycle, process, why);
	lifecycle_settle(lifecycle);
}
