#include "os/sim/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Starting ---------------------------------------------------------------------------------- */

static char **environment_copy(const char *const *environment)
{
	static const char *const empty[] = { NULL };
	const char *const *from = environment ? environment : empty;
	char **copy;
	size_t count = 0;

	while (from[count])
		count++;
	copy = sim_own_alloc((count + 1) * sizeof(*copy));
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(from[i]) + 1;

		copy[i] = sim_own_alloc(len);
		memcpy(copy[i], from[i], len);
	}
	return copy;
}

/* What is passed, and 0 to 2, which stay where nothing is passed over them. */
static void place_descriptors(const struct os_process_config *config, struct sim_process *child)
{
	for (size_t i = 0; i < config->pass_count; i++)
		(void)sim_descriptor_place(child, config->pass[i].number,
					   sim_file_ref(sim_descriptor(config->pass[i].fd)));
	for (int fd = 0; fd <= 2; fd++)
		if (!child->descriptors[fd] && sim_descriptor(fd))
			(void)sim_descriptor_place(child, fd, sim_file_ref(sim_descriptor(fd)));
	for (int fd = 3; fd < SIM_DESCRIPTORS_MAX; fd++) {
		if (child->descriptors[fd])
			continue;
		child->program_fd = fd;
		(void)sim_descriptor_place(child, fd, sim_file_new(SIM_PROGRAM, 0));
		return;
	}
}

int os_process_start(const struct os_process_config *config, struct os_process *ret_process)
{
	struct sim_process *child;
	struct sim_file *program;
	int error;

	MUST(config->arguments && (config->program_fd >= 0 || config->path));
	SIM_CALL(-EAGAIN, -EMFILE, -ENOMEM);
	program = sim_descriptor(config->program_fd);
	if (!program || program->kind != SIM_PROGRAM)
		return -EACCES;
	for (size_t i = 0; i < config->pass_count; i++)
		if (!sim_descriptor(config->pass[i].fd))
			return -EBADF;
	child = sim_process_new(config->arguments[1] ? config->arguments[1] : config->arguments[0],
				sim.current->pid);
	child->uid = sim.current->uid;
	child->environment = environment_copy(config->environment);
	place_descriptors(config, child);
	ret_process->pid = child->pid;
	error = sim_descriptor_add(sim_file_ref(child->self), &ret_process->fd);
	if (error)
		sim_kill(child, SIGKILL);
	return error;
}

static struct sim_process *process_of(int process_fd)
{
	struct sim_file *file = sim_descriptor(process_fd);

	return file && file->kind == SIM_PROCESS ? file->process : NULL;
}

int os_process_open(int pid, int *ret_fd)
{
	struct sim_process *process = sim_process_by(pid);

	SIM_CALL(-EMFILE);
	if (!process || process->is_reaped)
		return -ESRCH;
	return sim_descriptor_add(sim_file_ref(process->self), ret_fd);
}

int os_process_wait(int process_fd, struct os_process_end *ret_end)
{
	struct sim_process *process = process_of(process_fd);

	SIM_POINT();
	if (!process)
		return -EBADF;
	if (process->is_reaped || process->parent != sim.current->pid)
		return -ECHILD;
	if (!process->has_ended)
		return -EAGAIN;
	process->is_reaped = true;
	*ret_end = (struct os_process_end){ .exit_code = process->end_code,
					    .signal = process->end_signal };
	return 0;
}

int os_process_signal(int process_fd, int number)
{
	struct sim_process *process = process_of(process_fd);

	SIM_POINT();
	if (!process)
		return -EBADF;
	if (process->is_reaped)
		return -ESRCH;
	sim_process_signal(process, number, sim.current->pid);
	return 0;
}

int os_process_reap_strangers(bool (*is_ours)(void *owner, int pid), void *owner)
{
	(void)is_ours;
	(void)owner;
	return 0;
}

int os_process_usage(int pid, struct os_process_usage *ret_usage)
{
	struct sim_process *process = sim_process_by(pid);

	if (!process || process->is_reaped)
		return -ENOENT;
	*ret_usage = (struct os_process_usage){ .memory_bytes = process->heap,
						.private_bytes = process->heap,
						.started_ticks = (uint64_t)pid };
	return 0;
}

bool os_process_is_busy(int pid)
{
	struct sim_process *process = sim_process_by(pid);

	return process && !process->has_ended && !process->is_stopped && process->wait == SIM_RUNS;
}

int os_process_program_name(int pid, struct writer *out)
{
	struct sim_process *process = sim_process_by(pid);

	if (!process || process->has_ended)
		return -ENOENT;
	write_str(out, process->role);
	return 0;
}

void os_process_set_name(const char *name)
{
	(void)name;
}

int os_process_priority(int nice)
{
	(void)nice;
	return 0;
}

void os_process_be_patient(void)
{
}

NORETURN void os_exit(int code)
{
	sim_end(code);
}

int os_pid(void)
{
	return sim.current->pid;
}

int os_parent_pid(void)
{
	const struct sim_process *parent = sim_process_by(sim.current->parent);

	return parent && !parent->has_ended ? parent->pid : 1;
}

uint32_t os_uid(void)
{
	return sim.current->uid;
}

uint32_t os_gid(void)
{
	return sim.current->uid;
}

/* ---- Limits and the sandbox -------------------------------------------------------------------- */

int os_limit_set(enum os_limit limit, uint64_t value)
{
	if (limit == OS_LIMIT_OPEN_FILES)
		sim.current->descriptors_max =
			value < SIM_DESCRIPTORS_MAX ? (uint32_t)value : SIM_DESCRIPTORS_MAX;
	return 0;
}

int os_limit_get(enum os_limit limit, uint64_t *ret_soft, uint64_t *ret_hard)
{
	*ret_soft = *ret_hard =
		limit == OS_LIMIT_OPEN_FILES ? sim.current->descriptors_max : UINT32_MAX;
	return 0;
}

uint64_t os_limit_raise(enum os_limit limit, uint64_t wanted)
{
	uint64_t soft = 0, hard = 0;

	(void)!os_limit_get(limit, &soft, &hard);
	return hard < wanted ? hard : wanted;
}

int os_sandbox_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *ret_report)
{
	SIM_CALL(-EPERM, -ENOMEM);
	for (size_t i = 0; i < sandbox->limit_count; i++)
		(void)!os_limit_set(sandbox->limits[i].limit, sandbox->limits[i].value);
	if (sandbox->uid != OS_KEEP_ID && !sim.current->uid)
		sim.current->uid = sandbox->uid;
	*ret_report = (struct os_sandbox_report){ .enforced = 2 * OS_SANDBOX_LIMITS - 1,
						  .landlock_abi = 6,
						  .uid = sim.current->uid };
	return 0;
}

const char *os_sandbox_part_name(enum os_sandbox_part part)
{
	(void)part;
	return "?";
}

void os_sandbox_library_version(struct writer *out)
{
	write_str(out, "0.0.0");
}

/* ---- The machine ------------------------------------------------------------------------------- */

size_t os_cpus(unsigned *ret_cpus, size_t max)
{
	for (unsigned cpu = 0; cpu < sim.options.cpus && cpu < max; cpu++)
		ret_cpus[cpu] = cpu;
	return sim.options.cpus;
}

int os_cpu_pin(unsigned cpu)
{
	return cpu < sim.options.cpus ? 0 : -EINVAL;
}

void os_random(void *buf, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)buf)[i] = (uint8_t)sim_random(256);
}

const char *os_environment(const char *name)
{
	size_t len = strlen(name);

	for (char **item = sim.current->environment; item && *item; item++)
		if (strncmp(*item, name, len) == 0 && (*item)[len] == '=')
			return *item + len + 1;
	return NULL;
}

const char *const *os_environment_all(void)
{
	return (const char *const *)(uintptr_t)sim.current->environment;
}

int os_host_name(struct writer *out)
{
	write_str(out, "machine");
	return 0;
}

int os_kernel_version(struct writer *out)
{
	write_str(out, "6.0-sim");
	return 0;
}

int os_interface_addresses(struct os_address *ret_addresses, size_t max)
{
	(void)ret_addresses;
	(void)max;
	return 0;
}

int os_user_find(const char *name, uint32_t *ret_uid, uint32_t *ret_gid)
{
	(void)name;
	(void)ret_uid;
	(void)ret_gid;
	return -ENOENT;
}

int os_user_home(uint32_t uid, struct arena *arena, struct span *ret_home)
{
	(void)uid;
	(void)arena;
	(void)ret_home;
	return -ENOENT;
}

uint64_t os_memory_total(void)
{
	return UINT64_C(1) << 30;
}

int os_port_holder(const struct os_address *address, struct os_port_holder *ret_holder)
{
	(void)address;
	(void)ret_holder;
	return -ENOENT;
}

/* ---- A bug of ours ----------------------------------------------------------------------------- */

NORETURN void __real_base_fail(const char *file, int line, const char *condition);
NORETURN void __wrap_base_fail(const char *file, int line, const char *condition);

NORETURN void __wrap_base_fail(const char *file, int line, const char *condition)
{
	char text[4096];
	struct writer out = writer_of(text, sizeof(text));

	if (sim.root) {
		sim_describe(&out);
		fprintf(stderr, "in %s:\n%.*s%.*s", sim.current ? sim.current->role : "the driver",
			SPAN_ARG(writer_done(&out)), SPAN_ARG(sim_output(2)));
	}
	__real_base_fail(file, line, condition);
}

#if OS_SANITIZED
/* Thousands of worlds begin and end: what is freed is not kept for long. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "abort_on_error=1:disable_coredump=1:quarantine_size_mb=16:malloc_context_size=8:"
	       "allocator_release_to_os_interval_ms=-1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "print_stacktrace=1:halt_on_error=1";
}
#endif
