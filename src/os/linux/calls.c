#include "os/linux/internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* The system calls of sandboxes, in groups that rows of the process table name. Unconditional calls
 * are what the kernel checks by one bit; so what a worker calls per request has no condition. */

#define ALLOW(name) \
	{ \
#name, OS_CALL_ALLOW, 0, 0 \
	}
#define IF_EQUAL(name, argument, value) \
	{ \
#name, OS_CALL_IF_EQUAL, argument, (uint64_t)(value) \
	}
#define IF_NO_BITS(name, argument, bits) \
	{ \
#name, OS_CALL_IF_NO_BITS, argument, (uint64_t)(bits) \
	}
#define EPERM_FOR(name) \
	{ \
#name, OS_CALL_EPERM, 0, 0 \
	}

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

/* clang-format off */
static const struct os_call base_calls[] = {
	/* bytes through descriptors that are there */
	ALLOW(read), ALLOW(write), ALLOW(readv), ALLOW(writev), ALLOW(pread64), ALLOW(pwrite64),
	ALLOW(preadv), ALLOW(preadv2), ALLOW(pwritev), ALLOW(lseek), ALLOW(fstat), ALLOW(close),
	ALLOW(recvfrom), ALLOW(recvmsg), ALLOW(recvmmsg),
	/* A listener that is shut down becomes an ordinary socket, and TCP fast open would connect
	 * it anywhere without connect(). */
	IF_NO_BITS(sendto, 3, MSG_FASTOPEN), IF_NO_BITS(sendmsg, 2, MSG_FASTOPEN),
	IF_NO_BITS(sendmmsg, 3, MSG_FASTOPEN),
	ALLOW(shutdown), ALLOW(getsockopt), ALLOW(setsockopt), ALLOW(getsockname),
	ALLOW(getpeername),
	/* Of fcntl nothing that arranges for signals to others (F_SETOWN) or leases. */
	IF_EQUAL(fcntl, 1, F_GETFL), IF_EQUAL(fcntl, 1, F_SETFL), IF_EQUAL(fcntl, 1, F_GETFD),
	IF_EQUAL(fcntl, 1, F_SETFD), IF_EQUAL(fcntl, 1, F_DUPFD_CLOEXEC),
	IF_EQUAL(fcntl, 1, F_OFD_GETLK),
	IF_EQUAL(fcntl, 1, F_GET_SEALS),
	/* the loop */
	ALLOW(epoll_wait), ALLOW(epoll_pwait), ALLOW(epoll_pwait2), ALLOW(epoll_ctl),
	ALLOW(epoll_create1),
	ALLOW(poll), ALLOW(ppoll), ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(time),
	ALLOW(nanosleep), ALLOW(clock_nanosleep), ALLOW(sched_yield), ALLOW(restart_syscall),
	/* memory: never executable */
	IF_NO_BITS(mmap, 2, PROT_EXEC), IF_NO_BITS(mprotect, 2, PROT_EXEC), ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(madvise), ALLOW(brk),
	/* the C library, also on its way out (abort) */
	ALLOW(futex), ALLOW(getrandom), ALLOW(rt_sigaction), ALLOW(rt_sigprocmask),
	ALLOW(rt_sigreturn),
	ALLOW(sigaltstack), ALLOW(getpid), ALLOW(gettid), ALLOW(getppid), ALLOW(getuid),
	ALLOW(geteuid),
	ALLOW(getgid), ALLOW(getegid), ALLOW(exit), ALLOW(exit_group), ALLOW(sched_getaffinity),
	IF_EQUAL(prctl, 0, PR_SET_NAME),
	IF_EQUAL(prctl, 0, 0x53564d41 /* PR_SET_VMA: malloc names maps */),
	IF_EQUAL(prlimit64, 2, 0), ALLOW(getrlimit), ALLOW(uname), ALLOW(sysinfo),
	/* asked by libraries as a matter of course; they live with a no */
	EPERM_FOR(newfstatat), EPERM_FOR(statx), EPERM_FOR(ioctl), EPERM_FOR(access),
	EPERM_FOR(faccessat),
};

/* What AddressSanitizer does beside: it maps (allowed above), and when it reports it looks for a
 * symbolizer. It must be able to print its report, so nothing of that kills. */
static const struct os_call sanitizer_calls[] = {
	EPERM_FOR(open), EPERM_FOR(openat), EPERM_FOR(readlink), EPERM_FOR(readlinkat),
	EPERM_FOR(stat),
	EPERM_FOR(pipe), EPERM_FOR(pipe2), EPERM_FOR(clone), EPERM_FOR(clone3), EPERM_FOR(fork),
	EPERM_FOR(vfork), EPERM_FOR(execve), EPERM_FOR(ptrace), EPERM_FOR(personality),
	EPERM_FOR(dup),
	EPERM_FOR(dup2), EPERM_FOR(wait4), EPERM_FOR(getcwd), EPERM_FOR(prctl),
	EPERM_FOR(socketpair),
};

static const struct os_call accept_calls[] = { ALLOW(accept4) };

static const struct os_call connect_calls[] = {
	IF_EQUAL(socket, 0, AF_INET), IF_EQUAL(socket, 0, AF_INET6), IF_EQUAL(socket, 0, AF_UNIX),
	ALLOW(connect),
};

static const struct os_call read_files_calls[] = {
	IF_NO_BITS(openat, 2, O_ACCMODE | O_CREAT | O_TRUNC), ALLOW(openat2), ALLOW(newfstatat),
	ALLOW(statx), ALLOW(readlinkat), ALLOW(readlink),
	ALLOW(getdents64), ALLOW(fadvise64), ALLOW(readahead), ALLOW(fstatfs), ALLOW(getcwd),
};

static const struct os_call write_files_calls[] = {
	ALLOW(openat), ALLOW(openat2), ALLOW(newfstatat), ALLOW(mkdirat), ALLOW(mkdir),
	ALLOW(unlinkat),
	ALLOW(unlink), ALLOW(renameat), ALLOW(renameat2), ALLOW(rename), ALLOW(ftruncate),
	ALLOW(fsync),
	ALLOW(fdatasync), ALLOW(fchmod), ALLOW(fchown), ALLOW(fchownat), ALLOW(fallocate),
};

/* For a process with a library that looks for its configuration files and lives without them. */
static const struct os_call refuse_open_calls[] = {
	EPERM_FOR(open), EPERM_FOR(openat), EPERM_FOR(readlink), EPERM_FOR(getcwd),
};

static const struct os_call locks_calls[] = {
	IF_EQUAL(fcntl, 1, F_OFD_SETLK), IF_EQUAL(fcntl, 1, F_OFD_SETLKW),
};

/* Making memory that is then handed to others, sealed. */
static const struct os_call memory_calls[] = {
	ALLOW(memfd_create), ALLOW(ftruncate), ALLOW(fchmod), IF_EQUAL(fcntl, 1, F_ADD_SEALS),
};

static const struct os_call secret_calls[] = {
	ALLOW(memfd_secret), ALLOW(ftruncate), ALLOW(mlock), ALLOW(mlock2), ALLOW(munlock),
};

/* Channels between two others; a unix SEQPACKET listener is made before the sandbox closes. */
static const struct os_call channels_calls[] = {
	IF_EQUAL(socketpair, 0, AF_UNIX), ALLOW(eventfd2),
};

/* For a process that enters a second, tighter sandbox (check). */
static const struct os_call sandbox_calls[] = {
	ALLOW(landlock_create_ruleset), ALLOW(landlock_add_rule), ALLOW(landlock_restrict_self),
	ALLOW(seccomp),
	ALLOW(prctl), ALLOW(capset), ALLOW(capget), ALLOW(setgroups), ALLOW(setresuid),
	ALLOW(setresgid),
	ALLOW(prlimit64), ALLOW(setrlimit), ALLOW(setpriority),
};

/* clang-format on */
#define GROUP(name, calls) \
	{ \
		name, calls, ARRAY_LEN(calls) \
	}

const struct os_call_group os_calls_base = GROUP("@base", base_calls);
const struct os_call_group os_calls_sanitizer = GROUP("@sanitizer", sanitizer_calls);

const struct os_call_group *os_call_group_find(const char *name)
{
	static const struct os_call_group groups[] = {
		GROUP("@accept", accept_calls),           GROUP("@connect", connect_calls),
		GROUP("@read-files", read_files_calls),   GROUP("@write-files", write_files_calls),
		GROUP("@refuse-open", refuse_open_calls), GROUP("@locks", locks_calls),
		GROUP("@memory", memory_calls),           GROUP("@secret", secret_calls),
		GROUP("@channels", channels_calls),       GROUP("@sandbox", sandbox_calls),
	};

	if (strcmp(name, os_calls_base.name) == 0)
		return &os_calls_base;
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (strcmp(name, groups[i].name) == 0)
			return &groups[i];
	return NULL;
}
