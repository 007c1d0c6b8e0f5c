#include "os/sim/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/sim/fiber.h"

#if OS_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVE(save, bottom, size) __sanitizer_start_switch_fiber((save), (bottom), (size))
#define FIBER_ENTER(saved, bottom, size) __sanitizer_finish_switch_fiber((saved), (bottom), (size))
#define STACK_CLEAN(stack, size) __asan_unpoison_memory_region((stack), (size))
#else
#define FIBER_LEAVE(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_ENTER(saved, bottom, size) ((void)(saved), (void)(bottom), (void)(size))
#define STACK_CLEAN(stack, size) ((void)(stack), (void)(size))
#endif

enum { SLICES_MAX = 200 * 1000, SAID_MAX = 1 << 20, FIRST_PID = 100 };

struct sim_world sim;

/* They outlive the world: the next one's pages are there already. */
static char *spare_stacks[64];
static size_t spare_count;

/* ---- Chance ------------------------------------------------------------------------------------ */

/* splitmix64 */
static uint64_t next_random(void)
{
	return hash_mix(sim.random += UINT64_C(0x9e3779b97f4a7c15));
}

uint64_t sim_random(uint64_t below)
{
	return below ? next_random() % below : 0;
}

uint64_t sim_now_ns(void)
{
	return sim.now_ns;
}

/* ---- Slices ------------------------------------------------------------------------------------ */

static char *stack_take(void)
{
	char *stack;

	if (spare_count)
		return spare_stacks[--spare_count];
	stack = mmap(NULL, SIM_STACK_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	MUST(stack != MAP_FAILED && mprotect(stack, 4096, PROT_NONE) == 0);
	return stack;
}

static void stack_give(char *stack)
{
	STACK_CLEAN(stack + 4096, SIM_STACK_SIZE - 4096);
	if (spare_count < ARRAY_LEN(spare_stacks))
		spare_stacks[spare_count++] = stack;
	else
		munmap(stack, SIM_STACK_SIZE);
}

/* To the driver. A process that is over leaves its fake stack behind for good. */
static void leave(struct sim_process *process)
{
	bool is_over = process->dies || process->has_ended;

	FIBER_LEAVE(is_over ? NULL : &process->fake_stack, sim.driver_bottom, sim.driver_size);
	sim_fiber_switch(&process->stack_pointer, sim.driver_stack);
	FIBER_ENTER(process->fake_stack, NULL, NULL);
}

NORETURN static void leave_for_good(struct sim_process *process)
{
	leave(process);
	abort();
}

static void process_begin(void)
{
	struct sim_process *process = sim.current;

	FIBER_ENTER(NULL, &sim.driver_bottom, &sim.driver_size);
	if (process->dies)
		leave_for_good(process);
	sim_end(sim.options.program());
}

NORETURN void sim_end(int code)
{
	struct sim_process *process = sim.current;

	process->end_code = code;
	process->has_ended = true;
	leave_for_good(process);
}

static void resume(struct sim_process *process)
{
	if (!process->is_started) {
		process->stack = stack_take();
		process->stack_pointer = sim_fiber_prepare(process->stack + 4096,
							   SIM_STACK_SIZE - 4096, process_begin);
		process->is_started = true;
	}
	sim.current = process;
	FIBER_LEAVE(&sim.driver_fake, process->stack + 4096, SIM_STACK_SIZE - 4096);
	sim_fiber_switch(&sim.driver_stack, process->stack_pointer);
	FIBER_ENTER(sim.driver_fake, NULL, NULL);
	sim.current = NULL;
}

void sim_pause(enum sim_wait wait, uint64_t deadline_ns)
{
	struct sim_process *process = sim.current;

	process->wait = wait;
	process->deadline_ns = deadline_ns;
	process->idle_at = 0;
	leave(process);
	if (process->dies)
		leave_for_good(process);
	process->wait = SIM_RUNS;
}

/* ---- Birth and death --------------------------------------------------------------------------- */

struct sim_process *sim_process_by(int pid)
{
	LIST_EACH(&sim.processes, node) {
		struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (process->pid == pid)
			return process;
	}
	return NULL;
}

struct sim_process *sim_process_new(const char *role, int parent)
{
	struct sim_process *process = sim_own_alloc_large(sizeof(*process));

	process->pid = ++sim.last_pid;
	process->parent = parent;
	process->uid = sim.options.uid;
	process->descriptors_max = sim.options.descriptors_max;
	snprintf(process->role, sizeof(process->role), "%s", role);
	process->count = sim_count_of(role);
	list_init(&process->maps);
	list_init(&process->allocations);
	process->self = sim_file_new(SIM_PROCESS, 0);
	process->self->process = process;
	process->deadline_ns = UINT64_MAX;
	list_push_back(&sim.processes, &process->link);
	return process;
}

static void environment_free(struct sim_process *process)
{
	for (size_t i = 0; process->environment && process->environment[i]; i++)
		sim_own_free(process->environment[i]);
	sim_own_free(process->environment);
	process->environment = NULL;
}

/* What it held is given back; its end stays to be waited for. */
static void process_bury(struct sim_process *process)
{
	struct sim_process *parent = sim_process_by(process->parent);

	process->has_ended = true;
	sim_descriptors_close(process);
	sim_maps_drop(process);
	if (sim.options.switched)
		sim.options.switched();
	sim_heap_drop(process);
	environment_free(process);
	sim_own_free(process->watched);
	process->watched = NULL;
	process->watched_count = process->watched_capacity = 0;
	if (process->stack)
		stack_give(process->stack);
	process->stack = NULL;
	sim_file_wake(process->self);
	if (parent && !parent->has_ended)
		sim_process_signal(parent, SIGCHLD, process->pid);
	else
		process->is_reaped = true;
}

void sim_kill(struct sim_process *process, int signal)
{
	if (process->has_ended)
		return;
	process->end_signal = signal;
	process->dies = true;
	if (sim.current == process)
		leave_for_good(process); /* run_slice() buries it */
	if (process->is_started) {
		struct sim_process *killer = sim.current;

		/* From another process's slice: it is dropped when the driver has the word again. */
		if (killer)
			return;
		resume(process);
	}
	process_bury(process);
}

static void bury_the_dead(void)
{
	LIST_EACH(&sim.processes, node) {
		struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (process->dies && !process->has_ended)
			sim_kill(process, process->end_signal);
	}
}

static void run_slice(struct sim_process *process)
{
	sim_maps_enter(process);
	sim.now_ns += 200 + sim_random(2000);
	resume(process);
	if (sim.options.switched)
		sim.options.switched();
	if (process->has_ended || process->dies)
		process_bury(process);
	bury_the_dead();
}

int sim_spawn(const char *role)
{
	struct sim_process *process = sim_process_new(role, 0);
	size_t count = 0;

	while (sim.options.environment && sim.options.environment[count])
		count++;
	process->environment = sim_own_alloc((count + 1) * sizeof(char *));
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(sim.options.environment[i]) + 1;

		process->environment[i] = sim_own_alloc(len);
		memcpy(process->environment[i], sim.options.environment[i], len);
	}
	MUST(sim_descriptor_place(process, 0, sim_file_new(SIM_NOTHING, SIM_MAY_READ)) == 0);
	for (int number = 1; number <= 2; number++)
		MUST(sim_descriptor_place(process, number, sim_file_ref(sim.output[number])) == 0);
	process->program_fd = 3;
	MUST(sim_descriptor_place(process, 3, sim_file_new(SIM_PROGRAM, 0)) == 0);
	return process->pid;
}

/* ---- Order ------------------------------------------------------------------------------------- */

static bool is_ready(struct sim_process *process)
{
	const struct sim_file *file;

	if (process->has_ended || process->is_stopped)
		return false;
	if (process->deadline_ns <= sim.now_ns)
		return true;
	switch (process->wait) {
	case SIM_RUNS:
		return true;
	case SIM_WAITS_LOOP:
		if (process->idle_at != sim.wakes && sim_loop_is_ready(process))
			return true;
		process->idle_at = sim.wakes; /* until a file wakes somebody nothing is new */
		return false;
	case SIM_WAITS_DESCRIPTOR:
		file = process->descriptors[process->wait_fd];
		return !file || sim_file_ready(file) & (process->wait_for | OS_HANGUP | OS_ERROR);
	case SIM_SLEEPS:
		break;
	}
	return false;
}

static struct sim_process *choose(void)
{
	struct sim_process *chosen = NULL;
	uint64_t seen = 0;

	LIST_EACH(&sim.processes, node) {
		struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (is_ready(process) && sim_random(++seen) == 0)
			chosen = process;
	}
	return chosen;
}

static uint64_t next_deadline(void)
{
	uint64_t next = UINT64_MAX;

	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (!process->has_ended && !process->is_stopped && process->deadline_ns < next)
			next = process->deadline_ns;
	}
	return next;
}

bool sim_run(bool (*is_done)(void *owner), void *owner, uint64_t limit_ns)
{
	uint64_t until = sim.now_ns + limit_ns;

	for (uint64_t slices = 0; slices < SLICES_MAX + limit_ns / OS_SECOND * 1000; slices++) {
		struct sim_process *process;
		uint64_t next;

		if (is_done && is_done(owner))
			return true;
		process = choose();
		if (process) {
			run_slice(process);
			continue;
		}
		next = next_deadline();
		if (next >= until) {
			if (until > sim.now_ns)
				sim.now_ns = until;
			return is_done && is_done(owner);
		}
		sim.now_ns = next;
	}
	MUST(!"the world comes to rest");
	return false;
}

/* ---- For the driver ---------------------------------------------------------------------------- */

void sim_open(const struct sim_options *options)
{
	MUST(!sim.root);
	sim.options = *options;
	sim.random = options->seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
	if (!sim.options.cpus)
		sim.options.cpus = 1;
	if (!sim.options.descriptors_max)
		sim.options.descriptors_max = 1024;
	if (!sim.options.stream_bytes)
		sim.options.stream_bytes = 65536;
	sim.now_ns = 1000 * OS_SECOND;
	sim.wakes = 1;
	sim.last_pid = FIRST_PID;
	sim.port = 40000;
	list_init(&sim.processes);
	list_init(&sim.listeners);
	list_init(&sim.files);
	list_init(&sim.images);
	list_init(&sim.datagrams);
	sim.root = sim_node_ref(sim_node_new(OS_FILE_FOLDER, 0755));
	sim.root->parent = sim.root;
	for (int number = 1; number <= 2; number++) {
		sim.output[number] = sim_file_new(SIM_OUTPUT, SIM_MAY_WRITE);
		sim.output[number]->output = number;
		sim.said_text[number] = sim_own_alloc(SAID_MAX);
		sim.said[number] = writer_of(sim.said_text[number], SAID_MAX);
	}
}

void sim_close(void)
{
	struct sim_node *root = sim.root;

	LIST_EACH(&sim.processes, node)
		sim_kill(LIST_ITEM(node, struct sim_process, link), SIGKILL);
	while (!list_is_empty(&sim.processes)) {
		struct sim_process *process =
			LIST_ITEM(sim.processes.next, struct sim_process, link);

		list_remove(&process->link);
		sim_file_unref(process->self);
		sim_own_free_large(process, sizeof(*process));
	}
	for (struct sim_file *end; (end = sim_datagrams_accept());)
		sim_file_unref(end);
	for (int number = 1; number <= 2; number++) {
		sim_file_unref(sim.output[number]);
		sim_own_free(sim.said_text[number]);
	}
	sim_own_free(sim.sites);
	sim.root = NULL;
	sim_node_unref(root);
	MUST(list_is_empty(&sim.images));
	MUST(list_is_empty(&sim.files)); /* the driver lets go of its ends first */
	sim_homes_reset();
	memset(&sim, 0, sizeof(sim));
}

static bool is_called(const struct sim_process *process, const char *role)
{
	return !process->has_ended && (!role || strcmp(process->role, role) == 0);
}

int sim_pid(const char *role, unsigned index)
{
	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (is_called(process, role) && index-- == 0)
			return process->pid;
	}
	return 0;
}

bool sim_is_alive(int pid)
{
	const struct sim_process *process = sim_process_by(pid);

	return process && !process->has_ended;
}

bool sim_is_stopped(int pid)
{
	const struct sim_process *process = sim_process_by(pid);

	return process && !process->has_ended && process->is_stopped;
}

int sim_exit_code(int pid)
{
	const struct sim_process *process = sim_process_by(pid);

	MUST(process && process->has_ended);
	return process->end_signal ? -process->end_signal : process->end_code;
}

void sim_signal(int pid, int number)
{
	struct sim_process *process = sim_process_by(pid);

	if (process)
		sim_process_signal(process, number, sim.current ? sim.current->pid : 0);
}

size_t sim_descriptors(const char *role)
{
	size_t total = 0;

	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (is_called(process, role))
			total += process->descriptor_count;
	}
	return total;
}

size_t sim_heap(const char *role)
{
	size_t total = 0;

	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (is_called(process, role))
			total += process->heap;
	}
	return total;
}

struct sim_use sim_used(const char *role)
{
	struct sim_use total = { 0 };

	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (!is_called(process, role))
			continue;
		total.allocations += process->used.allocations;
		total.bytes += process->used.bytes;
	}
	return total;
}

void *sim_hook_state(int pid)
{
	const struct sim_process *process = sim_process_by(pid);

	return process && !process->has_ended ? process->hook_state : NULL;
}

int sim_current(void)
{
	return sim.current ? sim.current->pid : 0;
}

size_t sim_processes(void)
{
	size_t count = 0;

	LIST_EACH(&sim.processes, node)
		count += is_called(LIST_ITEM(node, struct sim_process, link), NULL);
	return count;
}

void sim_each(void (*on_process)(void *owner, int pid, const char *role), void *owner)
{
	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (!process->has_ended)
			on_process(owner, process->pid, process->role);
	}
}

void sim_describe(struct writer *out)
{
	static const char *const waits[] = { [SIM_RUNS] = "runs",
					     [SIM_WAITS_LOOP] = "waits in its loop",
					     [SIM_WAITS_DESCRIPTOR] = "waits for a descriptor",
					     [SIM_SLEEPS] = "sleeps" };

	LIST_EACH(&sim.processes, node) {
		const struct sim_process *process = LIST_ITEM(node, struct sim_process, link);

		if (process->has_ended)
			continue;
		write_format(out, "%s (%d): %s%s, %u descriptors, %zu bytes\n", process->role,
			     process->pid, process->is_stopped ? "stopped, " : "",
			     waits[process->wait], process->descriptor_count, process->heap);
	}
}

struct span sim_output(int number)
{
	return writer_done(&sim.said[number]);
}
