#include "lifecycle/lifecycle_internal.h"

/* Workers first, as everything else answers them; the log last, as everything else writes to it. */
static int stage_of(enum ipc_kind kind)
{
	if (kind == IPC_WORKER)
		return 0;
	return kind == IPC_LOG ? 2 : 1;
}

static void end(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	bool is_worker = process->kind == IPC_WORKER;

	if (process->state == LIFECYCLE_STARTING ||
	    (process->state == LIFECYCLE_READY && !lifecycle->drain_ms))
		lifecycle_kill(lifecycle, process, "stopping");
	else if (process->state == LIFECYCLE_READY)
		lifecycle_drain(lifecycle, process,
				is_worker ? lifecycle->drain_ms : LIFECYCLE_HELPER_DRAIN_MS);
}

static bool is_left_behind(const struct lifecycle *lifecycle,
			   const struct lifecycle_process *process)
{
	return process->state == LIFECYCLE_KILLED && lifecycle->rules[process->kind].may_hang &&
	       lifecycle->now_ns - process->since_ns >= LIFECYCLE_LEAVE_MS * LIFECYCLE_MS;
}

void lifecycle_settle_stop(struct lifecycle *lifecycle)
{
	int stage = 3;

	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_BACK_OFF)
			process->state = LIFECYCLE_UNUSED;
		if (process->state != LIFECYCLE_UNUSED && stage_of(process->kind) < stage &&
		    !is_left_behind(lifecycle, process))
			stage = stage_of(process->kind);
	}
	if (stage == 3) {
		if (!lifecycle->is_over)
			lifecycle_emit(lifecycle,
				       (struct lifecycle_action){ .what = LIFECYCLE_EXIT });
		lifecycle->is_over = true;
		return;
	}
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state != LIFECYCLE_UNUSED && stage_of(process->kind) == stage)
			end(lifecycle, process);
	}
}

void lifecycle_stop(struct lifecycle *lifecycle, uint32_t drain_ms)
{
	bool is_second = lifecycle->is_stopping;

	if (!is_second) {
		lifecycle->waiting = LIFECYCLE_NO_REQUEST;
		if (lifecycle->phase != LIFECYCLE_IDLE)
			lifecycle_change_fail(lifecycle, "the service is stopping");
	}
	lifecycle->is_stopping = true;
	lifecycle->drain_ms = is_second ? 0 : drain_ms;
	if (!lifecycle->drain_ms) {
		LIFECYCLE_EACH(lifecycle, process)
		{
			if (process->state == LIFECYCLE_DRAINING)
				lifecycle_kill(lifecycle, process, "stopping now");
		}
	}
	lifecycle_settle(lifecycle);
}
