#include "lifecycle/lifecycle_internal.h"

/* A process that dies again and again while it prepares a change shows that the change is no good. */
enum { FAILURES_PER_CHANGE = 3 };

enum { RESTORE_RETRY_MS = 10 * 1000, RESTORE_DOUBLINGS = 6 };

static void phase_begin(struct lifecycle *lifecycle, enum lifecycle_phase phase,
			uint64_t deadline_ms)
{
	lifecycle->phase = phase;
	lifecycle->phase_deadline_ns = lifecycle->now_ns + deadline_ms * LIFECYCLE_MS;
}

static bool is_member(const struct lifecycle *lifecycle, const struct lifecycle_process *process)
{
	return lifecycle->rules[process->kind].is_member && process->state == LIFECYCLE_READY &&
	       !process->is_retired;
}

static void tell(struct lifecycle *lifecycle, struct lifecycle_process *process,
		 enum lifecycle_what what, uint64_t change)
{
	if (what == LIFECYCLE_PREPARE)
		process->prepare_sent = change;
	else if (what == LIFECYCLE_COMMIT)
		process->commit_sent = change;
	lifecycle_emit(lifecycle,
		       (struct lifecycle_action){ .what = what,
						  .process = lifecycle_index(lifecycle, process),
						  .change = change });
}

/* A change that puts back what was not confirmed may fail by a fault of ours: nobody is there who would ask again. */
static void restore_later(struct lifecycle *lifecycle)
{
	unsigned doublings = lifecycle->restores_failed < RESTORE_DOUBLINGS
				     ? lifecycle->restores_failed++
				     : RESTORE_DOUBLINGS;

	lifecycle->restore_by_ns =
		lifecycle->now_ns + ((uint64_t)RESTORE_RETRY_MS << doublings) * LIFECYCLE_MS;
}

static void settle_restoring(struct lifecycle *lifecycle, enum lifecycle_what what)
{
	if (lifecycle->request == LIFECYCLE_DATA)
		return;
	if (what == LIFECYCLE_CHANGE_DONE) {
		lifecycle->restore_by_ns = 0;
		lifecycle->restores_failed = 0;
	} else if (lifecycle->is_restoring) {
		restore_later(lifecycle);
	}
	lifecycle->is_restoring = false;
}

static void finish(struct lifecycle *lifecycle, enum lifecycle_what what, const char *why)
{
	lifecycle->phase = LIFECYCLE_IDLE;
	settle_restoring(lifecycle, what);
	if (lifecycle->request == LIFECYCLE_COMPILE_GIVEN && what == LIFECYCLE_CHANGE_DONE &&
	    lifecycle->given_confirm_ms)
		lifecycle->confirm_by_ns =
			lifecycle->now_ns + lifecycle->given_confirm_ms * LIFECYCLE_MS;
	lifecycle_emit(lifecycle, (struct lifecycle_action){ .what = what,
							     .change = lifecycle->change,
							     .request = lifecycle->request,
							     .why = why });
}

/* The vault has heard of a change before its `prepare`: it must forget the keys that came with it. */
static bool knows_change(const struct lifecycle *lifecycle, const struct lifecycle_process *process)
{
	return process->prepare_sent == lifecycle->change ||
	       (process->kind == IPC_VAULT && lifecycle_has_next(lifecycle) &&
		lifecycle->next_wants.needs_gather);
}

static void change_fail(struct lifecycle *lifecycle, const char *why, bool is_overdue)
{
	if (lifecycle->phase == LIFECYCLE_COMPILING)
		lifecycle_emit(lifecycle,
			       (struct lifecycle_action){ .what = LIFECYCLE_ABORT_COMPILE,
							  .change = lifecycle->change,
							  .is_overdue = is_overdue });
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (!lifecycle_is_alive(process) || !knows_change(lifecycle, process))
			continue;
		if (process->prepare_sent == lifecycle->change)
			process->prepare_sent = process->prepared = process->commit_sent;
		if (process->state == LIFECYCLE_READY)
			tell(lifecycle, process, LIFECYCLE_ABANDON, lifecycle->change);
	}
	finish(lifecycle, LIFECYCLE_CHANGE_FAILED, why);
}

void lifecycle_change_fail(struct lifecycle *lifecycle, const char *why)
{
	change_fail(lifecycle, why, false);
}

/* ---- Phases ---------------------------------------------------------------------------------------- */

static bool is_due(const struct lifecycle *lifecycle, uint64_t by_ns)
{
	return by_ns && lifecycle->now_ns >= by_ns;
}

/* Which request is next. What was not confirmed goes before all that is made of it. */
static enum lifecycle_request take_request(struct lifecycle *lifecycle)
{
	enum lifecycle_request request = lifecycle->waiting;

	if (lifecycle->is_signal_waiting && lifecycle->now_ns >= lifecycle->signal_from_ns) {
		request = LIFECYCLE_COMPILE_FILE;
		lifecycle->signal_from_ns = lifecycle->now_ns + LIFECYCLE_SIGNAL_MS * LIFECYCLE_MS;
	}
	if (is_due(lifecycle, lifecycle->confirm_by_ns) ||
	    is_due(lifecycle, lifecycle->restore_by_ns)) {
		lifecycle->confirm_by_ns = lifecycle->restore_by_ns = 0;
		lifecycle->is_restoring = true;
		lifecycle_emit(lifecycle, (struct lifecycle_action){ .what = LIFECYCLE_RESTORE });
		request = LIFECYCLE_COMPILE_FILE;
	}
	if (request == LIFECYCLE_NO_REQUEST && lifecycle->is_given_waiting) {
		lifecycle->is_given_waiting = false;
		return LIFECYCLE_COMPILE_GIVEN;
	}
	lifecycle->waiting = LIFECYCLE_NO_REQUEST;
	if (request == LIFECYCLE_COMPILE_FILE)
		lifecycle->is_signal_waiting = false;
	return request;
}

static bool begin_next(struct lifecycle *lifecycle)
{
	enum lifecycle_request request = take_request(lifecycle);

	if (request == LIFECYCLE_NO_REQUEST)
		return false;
	lifecycle->request = request;
	lifecycle->change++;
	lifecycle->gather_asked = 0;
	LIFECYCLE_EACH(lifecycle, process)
	{
		process->change_failures = 0;
		/* Who asks for a change may have repaired something: nobody is kept waiting for his past. */
		if (process->state == LIFECYCLE_BACK_OFF &&
		    lifecycle->request >= LIFECYCLE_COMPILE_FILE)
			process->retry_at_ns = lifecycle->now_ns;
	}
	if (lifecycle->request == LIFECYCLE_DATA) {
		lifecycle->next_wants = lifecycle->wants;
		phase_begin(lifecycle, LIFECYCLE_PREPARING, LIFECYCLE_PREPARE_MS);
		return true;
	}
	phase_begin(lifecycle, LIFECYCLE_COMPILING, LIFECYCLE_COMPILE_MS);
	lifecycle_emit(lifecycle, (struct lifecycle_action){ .what = LIFECYCLE_COMPILE,
							     .change = lifecycle->change,
							     .request = lifecycle->request });
	return true;
}

static bool has_crash_loop(struct lifecycle *lifecycle)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_BACK_OFF &&
		    process->change_failures >= FAILURES_PER_CHANGE &&
		    lifecycle_wants_process(&lifecycle->next_wants, process) &&
		    !lifecycle_is_excused(lifecycle, process))
			return true;
	}
	return false;
}

static bool gather(struct lifecycle *lifecycle)
{
	if (has_crash_loop(lifecycle)) {
		lifecycle_change_fail(lifecycle, "a process does not start");
		return true;
	}
	if (!lifecycle->next_wants.needs_gather) {
		phase_begin(lifecycle, LIFECYCLE_PREPARING, LIFECYCLE_PREPARE_MS);
		return true;
	}
	LIFECYCLE_EACH(lifecycle, process)
	{
		/* A vault that died with the question is asked again in its next life. */
		if (process->kind != IPC_VAULT || process->state != LIFECYCLE_READY ||
		    process->is_retired || process->instance == lifecycle->gather_asked)
			continue;
		lifecycle->gather_asked = process->instance;
		tell(lifecycle, process, LIFECYCLE_GATHER, lifecycle->change);
	}
	return false;
}

/* A newborn gets what is running first, so that it serves; then it takes part in the change. */
static void send_running(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	if (!lifecycle->running || process->commit_sent == lifecycle->running ||
	    !lifecycle_wants_process(&lifecycle->wants, process))
		return;
	if (process->prepare_sent != lifecycle->running)
		tell(lifecycle, process, LIFECYCLE_PREPARE, lifecycle->running);
	else if (process->prepared == lifecycle->running)
		tell(lifecycle, process, LIFECYCLE_COMMIT, lifecycle->running);
}

static void send_next(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	bool serves = lifecycle_wants_process(&lifecycle->wants, process);

	if (lifecycle->phase != LIFECYCLE_PREPARING || process->prepare_sent == lifecycle->change ||
	    !lifecycle_wants_process(&lifecycle->next_wants, process))
		return;
	if (lifecycle->running && serves && process->commit_sent != lifecycle->running)
		return;
	tell(lifecycle, process, LIFECYCLE_PREPARE, lifecycle->change);
}

static bool all_prepared(struct lifecycle *lifecycle)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_UNUSED || process->is_retired ||
		    !lifecycle->rules[process->kind].is_member ||
		    !lifecycle_wants_process(&lifecycle->next_wants, process) ||
		    lifecycle_is_excused(lifecycle, process))
			continue;
		if (process->state != LIFECYCLE_READY || process->prepared != lifecycle->change)
			return false;
	}
	return true;
}

static void decide(struct lifecycle *lifecycle)
{
	lifecycle->running = lifecycle->change;
	lifecycle->wants = lifecycle->next_wants;
	lifecycle_emit(lifecycle, (struct lifecycle_action){ .what = LIFECYCLE_DECIDED,
							     .change = lifecycle->change });
	/* It is decided: whatever dies now gets it in its next life, so there is nothing left to wait long for. */
	phase_begin(lifecycle, LIFECYCLE_COMMITTING, LIFECYCLE_COMMIT_MS);
}

static bool prepare(struct lifecycle *lifecycle)
{
	if (has_crash_loop(lifecycle)) {
		lifecycle_change_fail(lifecycle, "a process does not start with it");
		return true;
	}
	if (!all_prepared(lifecycle))
		return false;
	if (lifecycle->request == LIFECYCLE_COMPILE_GIVEN) {
		/* It is answered at once, or never: a disk has no time limit. */
		lifecycle->phase = LIFECYCLE_STORING;
		lifecycle->phase_deadline_ns = UINT64_MAX;
		lifecycle_emit(lifecycle, (struct lifecycle_action){ .what = LIFECYCLE_STORE,
								     .change = lifecycle->change });
		return true;
	}
	decide(lifecycle);
	return true;
}

void lifecycle_on_stored(struct lifecycle *lifecycle, bool ok)
{
	if (lifecycle->phase != LIFECYCLE_STORING)
		return;
	if (ok)
		decide(lifecycle);
	else
		lifecycle_change_fail(lifecycle, NULL);
	lifecycle_settle(lifecycle);
}

static bool commit(struct lifecycle *lifecycle)
{
	LIFECYCLE_EACH(lifecycle, process)
	{
		if (process->state == LIFECYCLE_UNUSED || process->state == LIFECYCLE_BACK_OFF ||
		    process->is_retired || !lifecycle->rules[process->kind].is_member ||
		    lifecycle_is_excused(lifecycle, process))
			continue;
		if (process->committed != lifecycle->running)
			return false;
	}
	finish(lifecycle, LIFECYCLE_CHANGE_DONE, NULL);
	return true;
}

static bool is_overdue(struct lifecycle *lifecycle)
{
	static const char *const whys[] = {
		[LIFECYCLE_IDLE] = NULL,
		[LIFECYCLE_COMPILING] = "the check took more than 30 seconds",
		[LIFECYCLE_GATHERING] = "the vault did not answer",
		[LIFECYCLE_PREPARING] = "not every process could prepare it in time",
		[LIFECYCLE_STORING] = NULL,
		[LIFECYCLE_COMMITTING] = NULL,
	};

	if (lifecycle->phase == LIFECYCLE_IDLE || lifecycle->now_ns < lifecycle->phase_deadline_ns)
		return false;
	if (lifecycle->phase == LIFECYCLE_COMMITTING)
		finish(lifecycle, LIFECYCLE_CHANGE_DONE, NULL);
	else
		change_fail(lifecycle, whys[lifecycle->phase], true);
	return true;
}

static void settle_member(struct lifecycle *lifecycle, struct lifecycle_process *process)
{
	lifecycle_link(lifecycle, process);
	if (!is_member(lifecycle, process))
		return;
	send_running(lifecycle, process);
	send_next(lifecycle, process);
}

/* Who is asked before who asks: he is told to commit, then the other gets a channel to him, and only then commits what
 * makes it ask. Kinds ask those that stand behind them. */
void lifecycle_settle_members(struct lifecycle *lifecycle)
{
	for (unsigned kind = IPC_KIND_COUNT; kind-- > 0;) {
		LIFECYCLE_EACH(lifecycle, process)
		{
			if (process->kind == kind)
				settle_member(lifecycle, process);
		}
	}
}

bool lifecycle_settle_change(struct lifecycle *lifecycle)
{
	if (is_overdue(lifecycle))
		return true;
	switch (lifecycle->phase) {
	case LIFECYCLE_IDLE:
		return begin_next(lifecycle);
	case LIFECYCLE_COMPILING:
		return false;
	case LIFECYCLE_GATHERING:
		return gather(lifecycle);
	case LIFECYCLE_PREPARING:
		return prepare(lifecycle);
	case LIFECYCLE_STORING:
		return false;
	case LIFECYCLE_COMMITTING:
		return commit(lifecycle);
	}
	return false;
}

/* ---- Events ---------------------------------------------------------------------------------------- */

void lifecycle_change(struct lifecycle *lifecycle, enum lifecycle_request request)
{
	if (request > lifecycle->waiting)
		lifecycle->waiting = request;
	lifecycle_settle(lifecycle);
}

void lifecycle_signal(struct lifecycle *lifecycle)
{
	lifecycle->is_signal_waiting = true;
	lifecycle_settle(lifecycle);
}

void lifecycle_change_given(struct lifecycle *lifecycle, uint32_t confirm_ms)
{
	lifecycle->is_given_waiting = true;
	lifecycle->given_confirm_ms = confirm_ms;
	lifecycle_settle(lifecycle);
}

void lifecycle_hold(struct lifecycle *lifecycle, uint32_t confirm_ms)
{
	lifecycle->confirm_by_ns = lifecycle->now_ns + confirm_ms * LIFECYCLE_MS;
	lifecycle_settle(lifecycle);
}

void lifecycle_confirm(struct lifecycle *lifecycle)
{
	lifecycle->confirm_by_ns = 0;
}

void lifecycle_on_compiled(struct lifecycle *lifecycle, bool ok,
			   const struct lifecycle_wants *wants)
{
	if (lifecycle->phase != LIFECYCLE_COMPILING)
		return;
	if (ok) {
		lifecycle->next_wants = *wants;
		phase_begin(lifecycle, LIFECYCLE_GATHERING, LIFECYCLE_GATHER_MS);
	} else {
		finish(lifecycle, LIFECYCLE_CHANGE_FAILED, NULL);
	}
	lifecycle_settle(lifecycle);
}

void lifecycle_on_gathered(struct lifecycle *lifecycle, bool ok)
{
	if (lifecycle->phase != LIFECYCLE_GATHERING)
		return;
	if (ok)
		phase_begin(lifecycle, LIFECYCLE_PREPARING, LIFECYCLE_PREPARE_MS);
	else
		lifecycle_change_fail(lifecycle, NULL);
	lifecycle_settle(lifecycle);
}

void lifecycle_on_prepared(struct lifecycle *lifecycle, uint32_t index, uint64_t change)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	/* A late answer to a change that was abandoned is no answer to another. */
	if (process->state != LIFECYCLE_READY || process->prepare_sent != change)
		return;
	process->prepared = change;
	lifecycle_settle(lifecycle);
}

void lifecycle_on_refused(struct lifecycle *lifecycle, uint32_t index, uint64_t change)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (process->state != LIFECYCLE_READY || process->prepare_sent != change)
		return;
	if (change == lifecycle->running)
		lifecycle_kill(lifecycle, process, "refused the running configuration");
	else if (lifecycle->phase == LIFECYCLE_PREPARING && change == lifecycle->change)
		lifecycle_change_fail(lifecycle, NULL);
	lifecycle_settle(lifecycle);
}

void lifecycle_on_committed(struct lifecycle *lifecycle, uint32_t index, uint64_t change)
{
	struct lifecycle_process *process = lifecycle_row(lifecycle, index);

	if (process->state != LIFECYCLE_READY || process->commit_sent != change)
		return;
	process->committed = change;
	lifecycle_settle(lifecycle);
}
