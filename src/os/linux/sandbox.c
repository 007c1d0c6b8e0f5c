#include "os/linux/internal.h"

#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- The filter ---------------------------------------------------------------------------- */

/* libseccomp 2.5 is older than these calls. */
static int call_number(const char *name)
{
	int number = seccomp_syscall_resolve_name(name);

	if (number == __NR_SCMP_ERROR && strcmp(name, "memfd_secret") == 0)
		return SYS_memfd_secret;
	return number;
}

struct filter {
	scmp_filter_ctx native;
	const struct os_call_group *groups[16];
	size_t group_count;
	const char *const *single; /* the row's list: calls, and groups (@…) */
};

static bool filter_allows(const struct filter *filter, const char *name)
{
	for (size_t i = 0; i < filter->group_count; i++)
		for (size_t k = 0; k < filter->groups[i]->count; k++)
			if (filter->groups[i]->calls[k].rule != OS_CALL_EPERM &&
			    strcmp(filter->groups[i]->calls[k].name, name) == 0)
				return true;
	for (size_t i = 0; filter->single[i]; i++)
		if (strcmp(filter->single[i], name) == 0)
			return true;
	return false;
}

static int filter_add_rule(struct filter *filter, const struct os_call *call)
{
	struct scmp_arg_cmp conditions[2] = {
		{ .arg = call->argument, .op = SCMP_CMP_EQ, .datum_a = call->value },
		{ .arg = call->second, .op = SCMP_CMP_EQ, .datum_a = call->second_value },
	};
	unsigned count = 1;
	int number = call_number(call->name);

	/* Not a call of this machine (time on arm64): nothing to allow. */
	if (number == __NR_SCMP_ERROR || number < 0)
		return 0;
	switch (call->rule) {
	case OS_CALL_ALLOW:
		return seccomp_rule_add_array(filter->native, SCMP_ACT_ALLOW, number, 0, NULL);
	case OS_CALL_EPERM:
		/* What one group leaves with a no another may allow. */
		if (filter_allows(filter, call->name))
			return 0;
		return seccomp_rule_add_array(filter->native, SCMP_ACT_ERRNO(EPERM), number, 0,
					      NULL);
	case OS_CALL_IF_EQUAL:
		break;
	case OS_CALL_IF_BOTH:
		count = 2;
		break;
	case OS_CALL_IF_NO_BITS:
		conditions[0].op = SCMP_CMP_MASKED_EQ;
		break;
	}
	return seccomp_rule_add_array(filter->native, SCMP_ACT_ALLOW, number, count, conditions);
}

static int filter_add(struct filter *filter, const struct os_call *call)
{
	int error = filter_add_rule(filter, call);

	return error == -EEXIST ? 0 : error; /* another group has it too */
}

static int filter_add_group(struct filter *filter, const struct os_call_group *group)
{
	int error = 0;

	for (size_t i = 0; !error && i < group->count; i++)
		error = filter_add(filter, &group->calls[i]);
	return error;
}

static int filter_collect(struct filter *filter)
{
	const char *const *names = filter->single;

	filter->groups[filter->group_count++] = &os_calls_base;
	if (OS_SANITIZED)
		filter->groups[filter->group_count++] = &os_calls_sanitizer;
	for (size_t i = 0; names[i]; i++) {
		if (names[i][0] != '@')
			continue;
		MUST(filter->group_count < ARRAY_LEN(filter->groups));
		filter->groups[filter->group_count] = os_call_group_find(names[i]);
		if (!filter->groups[filter->group_count++])
			return -EINVAL;
	}
	return 0;
}

static int filter_fill(struct filter *filter)
{
	/* abort() signals itself; the process's number is known only here. */
	const struct os_call own_signal = { .name = "tgkill",
					    .rule = OS_CALL_IF_EQUAL,
					    .value = (uint64_t)getpid() };
	int error = filter_collect(filter);

	if (!error)
		error = filter_add(filter, &own_signal);
	for (size_t i = 0; !error && i < filter->group_count; i++)
		error = filter_add_group(filter, filter->groups[i]);
	for (size_t i = 0; !error && filter->single[i]; i++) {
		struct os_call call = { .name = filter->single[i], .rule = OS_CALL_ALLOW };

		if (filter->single[i][0] == '@')
			continue;
		if (call_number(filter->single[i]) == __NR_SCMP_ERROR)
			return -EINVAL;
		error = filter_add(filter, &call);
	}
	return error;
}

#if OS_SANITIZED
/* In a sanitizer build the refused call is named before the process dies of it. */
static void on_refused(int number, siginfo_t *info, void *machine)
{
	char text[128],
		*name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
	int len = snprintf(text, sizeof(text), "sandbox: system call %s (%d) refused\n",
			   name ? name : "?", info->si_syscall);
	sigset_t set;

	(void)machine;
	(void)!write(STDERR_FILENO, text, (size_t)len);
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(number);
	_exit(127);
}
#endif

static uint32_t filter_default(void)
{
#if OS_SANITIZED
	struct sigaction action = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };

	if (sigaction(SIGSYS, &action, NULL) == 0)
		return SCMP_ACT_TRAP;
#endif
	return SCMP_ACT_KILL_PROCESS;
}

static int filter_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	struct filter filter = { .single = sandbox->calls };
	int error;

	if (!sandbox->calls)
		return 0;
	/* 2: the kernel knows no filters (or a container takes them away). */
	if (prctl(PR_GET_SECCOMP) < 0) {
		report->missing |= OS_SANDBOX_CALLS;
		return 0;
	}
	filter.native = seccomp_init(filter_default());
	if (!filter.native)
		return -ENOMEM;
	error = seccomp_attr_set(filter.native, SCMP_FLTATR_CTL_NNP, 0); /* ours to decide */
	if (!error)
		error = seccomp_attr_set(filter.native, SCMP_FLTATR_ACT_BADARCH,
					 SCMP_ACT_KILL_PROCESS);
	if (!error)
		error = seccomp_attr_set(filter.native, SCMP_FLTATR_CTL_OPTIMIZE,
					 2); /* a tree, no list */
	if (!error)
		error = filter_fill(&filter);
	if (!error)
		error = seccomp_load(filter.native);
	seccomp_release(filter.native);
	if (!error)
		report->enforced |= OS_SANDBOX_CALLS;
	return error;
}

/* ---- User and capabilities ----------------------------------------------------------------- */

static int user_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	bool changes = sandbox->uid != OS_KEEP_ID && sandbox->uid != geteuid();

	if (!changes)
		return 0;
	/* Started by an ordinary user: all processes keep that user's id. */
	if (geteuid() != 0) {
		report->missing |= OS_SANDBOX_USER;
		return 0;
	}
	if (sandbox->capabilities && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -errno;
	if (setgroups(0, NULL) < 0) {
		if (errno != EPERM)
			return -errno;
		report->missing |= OS_SANDBOX_USER; /* a container's root without CAP_SETGID */
		return 0;
	}
	if (sandbox->gid != OS_KEEP_ID && setresgid(sandbox->gid, sandbox->gid, sandbox->gid) < 0)
		return -errno;
	if (setresuid(sandbox->uid, sandbox->uid, sandbox->uid) < 0)
		return -errno;
	report->enforced |= OS_SANDBOX_USER;
	return 0;
}

/* Takes CAP_SETPCAP, so before the user changes. Whoever lacks it gains nothing either:
 * no_new_privs. */
static void bounding_set_drop(uint64_t keep)
{
	for (unsigned long capability = 0; capability < 64; capability++)
		if (!(keep & UINT64_C(1) << capability))
			(void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int capabilities_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2], now[2];
	uint64_t held;

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &header, now) < 0)
		return -errno;
	held = now[0].permitted | (uint64_t)now[1].permitted << 32;
	held &= sandbox->capabilities;
	memset(data, 0, sizeof(data));
	data[0].effective = data[0].permitted = (uint32_t)held;
	data[1].effective = data[1].permitted = (uint32_t)(held >> 32);
	if (syscall(SYS_capset, &header, data) < 0)
		return -errno;
	report->enforced |= OS_SANDBOX_CAPABILITIES;
	if (held != sandbox->capabilities)
		report->missing |= OS_SANDBOX_CAPABILITIES;
	return 0;
}

static int limits_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	for (size_t i = 0; i < sandbox->limit_count; i++) {
		const struct os_limit_value *limit = &sandbox->limits[i];
		int error = os_limit_set(limit->limit, limit->value);

		/* Above what the starter has: it stays lower, which is tighter. */
		if (error == -EPERM)
			report->missing |= OS_SANDBOX_LIMITS;
		else if (error)
			return error;
	}
	if (sandbox->limit_count)
		report->enforced |= OS_SANDBOX_LIMITS;
	return 0;
}

/* ---- All together -------------------------------------------------------------------------- */

static int privileges_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	if (!sandbox->may_gain) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return -errno;
		report->enforced |= OS_SANDBOX_NO_NEW_PRIVILEGES;
	}
	/* After the user changed: that sets it back. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	report->enforced |= OS_SANDBOX_NOT_DUMPABLE;
	return 0;
}

int os_sandbox_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *ret_report)
{
	struct os_sandbox_report report = { 0 };
	int error;

	os_process_set_name(sandbox->name);
	error = limits_enter(sandbox, &report);
	if (!error) {
		bounding_set_drop(sandbox->capabilities);
		error = user_enter(sandbox, &report);
	}
	if (!error)
		error = capabilities_enter(sandbox, &report);
	if (!error)
		error = privileges_enter(sandbox, &report);
	if (!error && !sandbox->is_open)
		error = os_landlock_enter(sandbox, &report);
	report.uid = geteuid();
	if (!error)
		error = filter_enter(sandbox, &report); /* last: it forbids all that stands above */
	if (!error)
		*ret_report = report;
	return error;
}

const char *os_sandbox_part_name(enum os_sandbox_part part)
{
	switch (part) {
	case OS_SANDBOX_USER:
		return "own user";
	case OS_SANDBOX_CAPABILITIES:
		return "capabilities";
	case OS_SANDBOX_NO_NEW_PRIVILEGES:
		return "no new privileges";
	case OS_SANDBOX_CALLS:
		return "system calls";
	case OS_SANDBOX_FILES:
		return "files";
	case OS_SANDBOX_NETWORK:
		return "network";
	case OS_SANDBOX_SCOPE:
		return "signals";
	case OS_SANDBOX_NOT_DUMPABLE:
		return "not dumpable";
	case OS_SANDBOX_LIMITS:
		return "limits";
	}
	return "?";
}

void os_sandbox_library_version(struct writer *out)
{
	const struct scmp_version *version = seccomp_version();

	if (version)
		write_format(out, "%u.%u.%u", version->major, version->minor, version->micro);
}
