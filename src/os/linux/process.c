#include "os/linux/internal.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

enum { PASS_MAX = 64 };

/* ---- In the child, between fork and exec: system calls only -------------------------------- */

static void child_reset_signals(void)
{
	/* The kernel's own struct, all zero: SIG_DFL. The C library keeps two numbers to itself and would leave them
	 * as a starter (some versions of make) had them: ignored. */
	uint64_t defaults[4] = { 0 };
	sigset_t none;

	/* Ignored signals stay ignored over exec: SIGPIPE would kill no hook's `cmd | head`. */
	for (int number = 1; number < NSIG; number++)
		(void)syscall(SYS_rt_sigaction, number, defaults, NULL, sizeof(uint64_t));
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* First all are copied above every number that is wanted, so that no copy overwrites one still
 * needed. */
static int child_place_descriptors(const struct os_process_config *config, int *program,
				   int *report)
{
	int copies[PASS_MAX], above = 3;

	if (config->pass_count > PASS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < config->pass_count; i++)
		if (config->pass[i].number >= above)
			above = config->pass[i].number + 1;
	for (size_t i = 0; i < config->pass_count; i++) {
		copies[i] = fcntl(config->pass[i].fd, F_DUPFD_CLOEXEC, above);
		if (copies[i] < 0)
			return -errno;
	}
	*report = fcntl(*report, F_DUPFD_CLOEXEC, above);
	if (*report < 0)
		return -errno;
	if (*program >= 0 && (*program = fcntl(*program, F_DUPFD_CLOEXEC, above)) < 0)
		return -errno;
	if (syscall(SYS_close_range, 3u, UINT_MAX, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	for (size_t i = 0; i < config->pass_count; i++)
		if (dup2(copies[i], config->pass[i].number) < 0)
			return -errno;
	return 0;
}

static int child_exec(const struct os_process_config *config, int *report)
{
	static const char *const empty[] = { NULL };
	char *const *arguments = (char *const *)(uintptr_t)config->arguments;
	char *const *environment =
		(char *const *)(uintptr_t)(config->environment ? config->environment : empty);
	int program = config->program_fd;
	int error = child_place_descriptors(config, &program, report);

	if (error)
		return error;
	if (config->is_detached && setsid() < 0)
		return -errno;
	child_reset_signals();
	if (program >= 0)
		syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
	else
		execve(config->path, arguments, environment);
	return -errno;
}

NORETURN static void child_run(const struct os_process_config *config, int report)
{
	int error = child_exec(config, &report);

	/* The pipe closes by itself when exec succeeds; this is reached when it failed. */
	(void)!write(report, &error, sizeof(error));
	_exit(127);
}

/* ---- In the starter ------------------------------------------------------------------------ */

static int wait_for_exec(int report, pid_t pid)
{
	int error;
	ssize_t len = os_read(report, &error, sizeof(error));

	if (len == 0)
		return 0;
	RETRY(waitpid(pid, NULL, 0));
	return len == sizeof(error) ? error : -EIO;
}

/* The new process must not take a signal with our handlers or our signal descriptors in place. */
static pid_t fork_blocked(const struct os_process_config *config, const int report[2])
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, &before) < 0)
		return -errno;
	pid = _Fork();
	if (pid == 0)
		child_run(config, report[1]);
	if (pid < 0)
		pid = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int os_process_start(const struct os_process_config *config, struct os_process *ret_process)
{
	int report[2], error, fd = -1;
	pid_t pid;

	MUST(config->arguments && (config->program_fd >= 0 || config->path));
	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	pid = fork_blocked(config, report);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return pid;
	}
	error = wait_for_exec(report[0], pid);
	close(report[0]);
	if (error)
		return error;
	/* Nobody but us reaps it, so the number cannot have gone to another meanwhile. */
	error = os_process_open(pid, &fd);
	if (error) {
		kill(pid, SIGKILL);
		RETRY(waitpid(pid, NULL, 0));
		return error;
	}
	*ret_process = (struct os_process){ .pid = pid, .fd = fd };
	return 0;
}

int os_process_open(int pid, int *ret_fd)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int os_process_wait(int process_fd, struct os_process_end *ret_end)
{
	siginfo_t info = { 0 };

	if (RETRY(waitid(P_PIDFD, (id_t)process_fd, &info, WEXITED | WNOHANG)) < 0)
		return -errno;
	if (info.si_pid == 0)
		return -EAGAIN;
	*ret_end = (struct os_process_end){ 0 };
	if (info.si_code == CLD_EXITED)
		ret_end->exit_code = info.si_status;
	else
		ret_end->signal = info.si_status;
	return 0;
}

int os_process_signal(int process_fd, int number)
{
	return syscall(SYS_pidfd_send_signal, process_fd, number, NULL, 0) < 0 ? -errno : 0;
}

int os_process_reap_strangers(bool (*is_ours)(void *owner, int pid), void *owner)
{
	int count = 0;

	for (;;) {
		siginfo_t info = { 0 };

		/* WNOWAIT shows one and leaves it: ours belong to os_process_wait(). */
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
		    is_ours(owner, info.si_pid))
			return count;
		if (waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG) == 0)
			count++;
	}
}

void os_process_set_name(const char *name)
{
	(void)prctl(PR_SET_NAME, name);
}

int os_process_priority(int nice)
{
	return setpriority(PRIO_PROCESS, 0, nice) < 0 ? -errno : 0;
}

void os_process_be_patient(void)
{
	struct sched_param none = { 0 };

	(void)sched_setscheduler(0, SCHED_BATCH, &none);
}

void os_exit(int code)
{
	_exit(code);
}

int os_pid(void)
{
	return getpid();
}

int os_parent_pid(void)
{
	return getppid();
}

uint32_t os_uid(void)
{
	return getuid();
}

uint32_t os_gid(void)
{
	return getgid();
}
