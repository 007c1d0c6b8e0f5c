#include "os/sim/internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#if OS_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

/* ---- Counts ------------------------------------------------------------------------------------ */

struct sim_count *sim_count_of(const char *role)
{
	for (size_t i = 0; i < ARRAY_LEN(sim.counts); i++) {
		struct sim_count *count = &sim.counts[i];

		if (!count->role[0])
			snprintf(count->role, sizeof(count->role), "%s", role);
		if (strcmp(count->role, role) == 0)
			return count;
	}
	MUST(!"room for one more name");
	return NULL;
}

uint64_t sim_calls(const char *role)
{
	return sim_count_of(role)->calls;
}

uint64_t sim_allocations(const char *role)
{
	return sim_count_of(role)->allocations;
}

/* ---- Places ------------------------------------------------------------------------------------ */

void sim_sites_begin(void)
{
	sim.records = true;
	sim.site_count = 0;
}

const struct sim_site *sim_sites(size_t *ret_count)
{
	*ret_count = sim.site_count;
	return sim.sites;
}

static void site_note(const struct sim_site *seen)
{
	for (size_t i = 0; i < sim.site_count; i++)
		if (sim.sites[i].site == seen->site && sim.sites[i].role == seen->role &&
		    sim.sites[i].function == seen->function)
			return;
	if (sim.site_count == sim.site_capacity) {
		sim.site_capacity = sim.site_capacity ? 2 * sim.site_capacity : 64;
		sim.sites = sim_own_resize(sim.sites, sim.site_capacity * sizeof(*sim.sites));
	}
	sim.sites[sim.site_count++] = *seen;
}

/* ---- Traps ------------------------------------------------------------------------------------- */

void sim_trap_add(const struct sim_trap *trap)
{
	struct sim_set_trap *set = &sim.traps[sim.trap_count++];

	MUST(sim.trap_count <= ARRAY_LEN(sim.traps));
	*set = (struct sim_set_trap){ .trap = *trap, .count = sim_count_of(trap->role) };
}

void sim_trap_set(const struct sim_trap *trap)
{
	sim.trap_count = 0;
	for (size_t i = 0; i < ARRAY_LEN(sim.counts); i++)
		sim.counts[i].calls = sim.counts[i].allocations = 0;
	if (trap)
		sim_trap_add(trap);
}

bool sim_trap_was_sprung(void)
{
	for (size_t i = 0; i < sim.trap_count; i++)
		if (!sim.traps[i].is_sprung)
			return false;
	return true;
}

static bool is_at(const struct sim_trap *trap, const char *function, const void *site,
		  bool may_fail)
{
	return (trap->kind != SIM_TRAP_FAIL || trap->error || may_fail) &&
	       (!trap->site || trap->site == site) &&
	       (!trap->function || strcmp(trap->function, function) == 0);
}

/* The trap that this call, or allocation, of a process so called springs; NULL: none. */
static const struct sim_trap *spring(const struct sim_count *count, bool is_allocation,
				     const char *function, const void *site, bool may_fail)
{
	const struct sim_trap *sprung = NULL;

	for (size_t i = 0; i < sim.trap_count; i++) {
		struct sim_set_trap *set = &sim.traps[i];

		if (set->is_sprung || set->count != count ||
		    is_allocation != (set->trap.kind == SIM_TRAP_ALLOC) ||
		    (!is_allocation && !is_at(&set->trap, function, site, may_fail)) ||
		    ++set->seen != set->trap.nth)
			continue;
		set->is_sprung = true;
		sprung = &set->trap;
#if OS_SANITIZED
		if (sprung->tells)
			__sanitizer_print_stack_trace();
#endif
	}
	return sprung;
}

bool sim_allocation_is_refused(void)
{
	if (!sim.current || sim.spares)
		return false;
	sim.current->count->allocations++;
	return sim.trap_count && spring(sim.current->count, true, NULL, NULL, false);
}

void sim_interrupt(void)
{
	if (sim.current && sim.options.interrupts && sim_random(sim.options.interrupts) == 0)
		sim_pause(SIM_RUNS, UINT64_MAX);
}

int sim_enter(const char *function, const void *site, const int *errors, size_t error_count)
{
	struct sim_process *process = sim.current;
	const struct sim_trap *trap = NULL;

	if (!process)
		return 0;
	process->count->calls++;
	if (sim.records && error_count)
		site_note(&(struct sim_site){ function, process->count->role, site, errors,
					      error_count });
	if (sim.trap_count)
		trap = spring(process->count, false, function, site, error_count > 0);
	if (trap && trap->kind == SIM_TRAP_KILL)
		sim_kill(process, SIGKILL);
	if (trap && trap->kind == SIM_TRAP_FAIL)
		return trap->error ? trap->error : errors[sim_random(error_count)];
	if (trap) {
		process->is_stopped = true;
		sim_pause(SIM_RUNS, UINT64_MAX);
	} else {
		sim_interrupt();
	}
	return 0;
}
