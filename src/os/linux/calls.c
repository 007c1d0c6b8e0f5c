#include "os/linux/internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* The system calls of sandboxes, in groups that rows of the process table name. Unconditional calls
 * are what the kernel checks by one bit; so what a worker calls per request has no condition. */

#define ALLOW(name) \
	{ \
#name, OS_CALL_ALLOW, 0, 0, 0, 0 \
	}
#define IF_EQUAL(name, argument, value) \
	{ \
#name, OS_CALL_IF_EQUAL, argument, (uint64_t)(value), 0, 0 \
	}
#define IF_BOTH(name, argument, value, second, second_value) \
	{ \
#name, OS_CALL_IF_BOTH, argument, (uint64_t)(value), second, \
			(uint64_t)(second_value) \
	}
#define IF_NO_BITS(name, argument, bits) \
	{ \
#name, OS_CALL_IF_NO_BITS, argument, (uint64_t)(bits), 0, 0 \
	}
#define EPERM_FOR(name) \
	{ \
#name, OS_CALL_EPERM, 0, 0, 0, 0 \
	}

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

/* clang-format off */
static const struct os_call base_calls[] = {
	/* Bytes through descriptors that are there. What changes a socket or a descriptor is not here: listeners
	 * and events are shared with other processes, which would block, or serve nobody, after it. */
	ALLOW(read), ALLOW(write), ALLOW(writev), ALLOW(pread64), ALLOW(pwrite64), ALLOW(preadv2), ALLOW(fstat),
	ALLOW(close), ALLOW(recvfrom), ALLOW(recvmsg), ALLOW(recvmmsg),
	/* A listener that is shut down becomes an ordinary socket, and TCP fast open would connect
	 * it anywhere without connect(). */
	IF_NO_BITS(sendmsg, 2, MSG_FASTOPEN), IF_NO_BITS(sendmmsg, 3, MSG_FASTOPEN),
	ALLOW(getsockopt), ALLOW(getsockname), ALLOW(getpeername),
	/* Of fcntl nothing that arranges for signals to others (F_SETOWN), leases, or makes a shared descriptor
	 * wait (F_SETFL). */
	IF_EQUAL(fcntl, 1, F_GETFL), IF_EQUAL(fcntl, 1, F_GETFD), IF_EQUAL(fcntl, 1, F_DUPFD_CLOEXEC),
	IF_EQUAL(fcntl, 1, F_OFD_GETLK), IF_EQUAL(fcntl, 1, F_GET_SEALS),
	/* the loop; the second names are those of machines without the first */
	ALLOW(epoll_wait), ALLOW(epoll_pwait), ALLOW(epoll_ctl), ALLOW(poll), ALLOW(ppoll),
	ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(time), ALLOW(clock_nanosleep), ALLOW(sched_yield),
	ALLOW(restart_syscall),
	/* memory: never executable */
	IF_NO_BITS(mmap, 2, PROT_EXEC), IF_NO_BITS(mprotect, 2, PROT_EXEC), ALLOW(munmap), ALLOW(mremap),
	ALLOW(madvise), ALLOW(brk),
	/* the C library, also on its way out (abort) and in qsort (sysinfo) */
	ALLOW(futex), ALLOW(getrandom), ALLOW(rt_sigaction), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn),
	ALLOW(getpid), ALLOW(gettid), ALLOW(getuid), ALLOW(geteuid), ALLOW(exit_group), ALLOW(sysinfo),
	IF_EQUAL(prctl, 0, PR_SET_NAME), IF_EQUAL(prctl, 0, 0x53564d41 /* PR_SET_VMA: malloc names maps */),
	IF_EQUAL(prlimit64, 2, 0),
	/* asked by libraries as a matter of course; they live with a no */
	EPERM_FOR(newfstatat), EPERM_FOR(statx), EPERM_FOR(ioctl), EPERM_FOR(access), EPERM_FOR(faccessat),
};

/* What a sanitizer build needs beside, in all rows: signal stacks, and, when AddressSanitizer reports, a no where it
 * looks for a symbolizer. It must be able to print its report, so nothing of that kills. */
static const struct os_call sanitizer_calls[] = {
	ALLOW(sigaltstack), ALLOW(sched_getaffinity), ALLOW(getrlimit), ALLOW(lseek), ALLOW(getppid),
	EPERM_FOR(open), EPERM_FOR(openat), EPERM_FOR(readlink), EPERM_FOR(readlinkat), EPERM_FOR(stat),
	EPERM_FOR(pipe), EPERM_FOR(pipe2), EPERM_FOR(clone), EPERM_FOR(clone3), EPERM_FOR(fork), EPERM_FOR(vfork),
	EPERM_FOR(execve), EPERM_FOR(ptrace), EPERM_FOR(personality), EPERM_FOR(dup), EPERM_FOR(dup2),
	EPERM_FOR(wait4), EPERM_FOR(getcwd), EPERM_FOR(prctl), EPERM_FOR(socketpair),
};

/* Connections of clients: taken, ended at their writing side, reset. A listener minds neither of these two. */
static const struct os_call serve_calls[] = {
	ALLOW(accept4), IF_EQUAL(shutdown, 1, SHUT_WR), IF_BOTH(setsockopt, 1, SOL_SOCKET, 2, SO_LINGER),
};

/* Ours, and c-ares's (fcntl, sendto). Protocol 0: no SCTP, MPTCP or raw sockets. */
static const struct os_call connect_calls[] = {
	IF_BOTH(socket, 0, AF_INET, 2, 0), IF_BOTH(socket, 0, AF_INET6, 2, 0), IF_BOTH(socket, 0, AF_UNIX, 2, 0),
	ALLOW(connect), IF_NO_BITS(sendto, 3, MSG_FASTOPEN),
	IF_EQUAL(fcntl, 1, F_SETFL), IF_EQUAL(fcntl, 1, F_SETFD),
	IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_NODELAY),
	IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_NOTSENT_LOWAT),
	/* c-ares from 1.34 on, for questions over TCP. */
	IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_FASTOPEN_CONNECT),
};

static const struct os_call read_files_calls[] = {
	IF_NO_BITS(openat, 2, O_ACCMODE | O_CREAT | O_TRUNC), ALLOW(openat2), ALLOW(newfstatat), ALLOW(getdents64),
};

static const struct os_call write_files_calls[] = {
	ALLOW(openat), ALLOW(openat2), ALLOW(newfstatat), ALLOW(mkdirat), ALLOW(unlinkat), ALLOW(renameat),
	ALLOW(fsync), ALLOW(fchmod),
};

/* Making memory that is then handed to others, sealed. */
static const struct os_call memory_calls[] = {
	ALLOW(memfd_create), ALLOW(ftruncate), ALLOW(fchmod), IF_EQUAL(fcntl, 1, F_ADD_SEALS),
};

/* For a process that enters a second, tighter sandbox (check). */
static const struct os_call sandbox_calls[] = {
	ALLOW(landlock_create_ruleset), ALLOW(landlock_restrict_self), ALLOW(seccomp),
	ALLOW(prctl), ALLOW(capset), ALLOW(capget), ALLOW(setgroups), ALLOW(setresuid), ALLOW(setresgid),
	IF_EQUAL(prlimit64, 0, 0),
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
		GROUP("@serve", serve_calls),           GROUP("@connect", connect_calls),
		GROUP("@read-files", read_files_calls), GROUP("@write-files", write_files_calls),
		GROUP("@memory", memory_calls),         GROUP("@sandbox", sandbox_calls),
	};

	if (strcmp(name, os_calls_base.name) == 0)
		return &os_calls_base;
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (strcmp(name, groups[i].name) == 0)
			return &groups[i];
	return NULL;
}
