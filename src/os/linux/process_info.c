#include "os/linux/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* What /proc says about processes, and limits. */

static ssize_t proc_read(int pid, const char *file, char *buf, size_t size)
{
	char path[64];
	OS_AUTO_FD fd = -1;
	ssize_t len, used = 0;
	int error;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	error = os_open(OS_FOLDER_CURRENT, path, OS_OPEN_READ, 0, &fd);
	if (error)
		return error;
	while ((len = os_read(fd, buf + used, size - 1 - (size_t)used)) > 0)
		used += len;
	if (len < 0)
		return len;
	buf[used] = 0;
	return used;
}

/* proc(5), /proc/pid/stat: the name in brackets may hold anything, so fields are counted behind its
 * last bracket; the first there is number 3. */
static uint64_t stat_field(const char *stat, unsigned number)
{
	const char *at = strrchr(stat, ')');
	uint64_t value = 0;

	for (unsigned i = 2; at && i < number; i++)
		at = strchr(at + 1, ' ');
	if (at)
		for (at++; ascii_is_digit(*at); at++)
			value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

static uint64_t rollup_kib(const char *text, const char *label)
{
	const char *at = strstr(text, label);
	uint64_t value = 0;

	if (!at)
		return 0;
	for (at += strlen(label); *at == ' '; at++)
		;
	for (; ascii_is_digit(*at); at++)
		value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

int os_process_usage(int pid, struct os_process_usage *ret_usage)
{
	enum { STAT_UTIME = 14, STAT_STIME = 15, STAT_STARTED = 22, STAT_RESIDENT = 24 };
	struct os_process_usage usage = { 0 };
	char buf[4096];
	uint64_t tick_ns = OS_SECOND / (uint64_t)sysconf(_SC_CLK_TCK);
	ssize_t len = proc_read(pid, "stat", buf, sizeof(buf));

	if (len < 0)
		return (int)len;
	usage.cpu_ns = (stat_field(buf, STAT_UTIME) + stat_field(buf, STAT_STIME)) * tick_ns;
	usage.started_ticks = stat_field(buf, STAT_STARTED);
	usage.memory_bytes = stat_field(buf, STAT_RESIDENT) * (uint64_t)sysconf(_SC_PAGESIZE);
	if (proc_read(pid, "smaps_rollup", buf, sizeof(buf)) > 0)
		usage.private_bytes = 1024 * (rollup_kib(buf, "Private_Clean:") +
					      rollup_kib(buf, "Private_Dirty:"));
	*ret_usage = usage;
	return 0;
}

bool os_process_is_busy(int pid)
{
	char buf[4096];
	const char *state;

	if (proc_read(pid, "stat", buf, sizeof(buf)) < 0)
		return true;
	state = strrchr(buf, ')');
	return state && state[1] == ' ' && (state[2] == 'R' || state[2] == 'D');
}

int os_process_program_name(int pid, struct writer *out)
{
	char buf[64];
	ssize_t len = proc_read(pid, "comm", buf, sizeof(buf));

	if (len < 0)
		return (int)len;
	write_span(out, span_first(span_of(buf, (size_t)len),
				   span_find_byte(span_of(buf, (size_t)len), '\n')));
	return 0;
}

/* ---- Limits -------------------------------------------------------------------------------- */

static __rlimit_resource_t limit_native(enum os_limit limit)
{
	switch (limit) {
	case OS_LIMIT_OPEN_FILES:
		return RLIMIT_NOFILE;
	case OS_LIMIT_LOCKED_BYTES:
		return RLIMIT_MEMLOCK;
	case OS_LIMIT_CORE_BYTES:
		return RLIMIT_CORE;
	case OS_LIMIT_PROCESSES:
		return RLIMIT_NPROC;
	case OS_LIMIT_FILE_BYTES:
		return RLIMIT_FSIZE;
	case OS_LIMIT_ADDRESS_BYTES:
		return RLIMIT_AS;
	case OS_LIMIT_CPU_SECONDS:
		return RLIMIT_CPU;
	case OS_LIMIT_STACK_BYTES:
		return RLIMIT_STACK;
	}
	return RLIMIT_CORE;
}

int os_limit_set(enum os_limit limit, uint64_t value)
{
	struct rlimit native = { .rlim_cur = value, .rlim_max = value };

	/* A sanitizer's shadow takes 20 TiB of addresses. */
	if (OS_SANITIZED && limit == OS_LIMIT_ADDRESS_BYTES)
		return 0;
	return setrlimit(limit_native(limit), &native) < 0 ? -errno : 0;
}

int os_limit_get(enum os_limit limit, uint64_t *ret_soft, uint64_t *ret_hard)
{
	struct rlimit native;

	if (getrlimit(limit_native(limit), &native) < 0)
		return -errno;
	*ret_soft = native.rlim_cur;
	*ret_hard = native.rlim_max;
	return 0;
}

uint64_t os_limit_raise(enum os_limit limit, uint64_t wanted)
{
	uint64_t soft = 0, hard = 0;
	struct rlimit native;

	if (os_limit_get(limit, &soft, &hard) < 0 || soft >= wanted)
		return soft;
	if (hard < wanted && os_limit_set(limit, wanted) == 0)
		return wanted;
	native = (struct rlimit){ .rlim_cur = hard < wanted ? hard : wanted, .rlim_max = hard };
	return setrlimit(limit_native(limit), &native) == 0 ? native.rlim_cur : soft;
}
