/* The process table, attacked from within: a child under each row's sandbox tries what somebody would who has taken
 * it over. What the row does not grant must be refused, what it grants must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/proc.h"

enum {
	WORKER = IPC_TO_WORKER,
	KEYHOLDER = IPC_TO_KEYHOLDER,
	VAULT = IPC_TO_VAULT,
	FILES = IPC_TO_FILES,
	DIALER = IPC_TO_DIALER,
	LOG = IPC_TO_LOG,
	CHECK = IPC_TO_CHECK,
	CLOSED = 1 << IPC_KIND_COUNT, /* check in its second sandbox */
	NOBODY = 0,
	MAYBE = 1 << 30, /* a kernel may refuse it to root too */
	ALL = WORKER | KEYHOLDER | VAULT | FILES | DIALER | LOG | CHECK | CLOSED,
};

enum result { UNTRIED, REFUSED, DONE, LOST };
static const char *const result_names[] = { "not tried", "refused", "done", "not answered" };

struct attempt {
	const char *what;
	unsigned granted;
	long (*function)(void); /* or a call: */
	long number, arguments[6];
};

/* ---- Attempts that take more than a call's arguments ------------------------------------------------ */

static char stat_buf[512];
static int folder_fd, socket_fd, listener_fd;

static long try_protect(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return syscall(SYS_mprotect, memory, 4096, PROT_READ | PROT_EXEC);
}

static long try_openat2(int folder, const char *path, uint64_t flags)
{
	uint64_t how[3] = { flags, flags & O_CREAT ? 0600 : 0, 0 };

	return syscall(SYS_openat2, folder, path, how, sizeof(how));
}

static long try_openat2_read(void)
{
	return try_openat2(AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long try_openat2_own(void)
{
	return try_openat2(folder_fd, "file", O_RDONLY);
}

static long try_openat2_write(void)
{
	return try_openat2(AT_FDCWD, "/tmp/portcullis-test-nobodys", O_WRONLY | O_CREAT);
}

static long try_openat2_own_write(void)
{
	return try_openat2(folder_fd, "new", O_WRONLY | O_CREAT);
}

static long try_other_limits(void)
{
	struct rlimit limit = { 64, 64 };

	return syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, &limit, NULL);
}

static long try_own_limits(void)
{
	struct rlimit limit = { 0, 0 };

	return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &limit, NULL);
}

static long try_fast_open(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	return syscall(SYS_sendto, socket_fd, "x", 1, MSG_FASTOPEN | MSG_DONTWAIT, &address,
		       sizeof(address));
}

static long try_fast_open_message(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct msghdr message = { .msg_name = &address, .msg_namelen = sizeof(address) };

	return syscall(SYS_sendmsg, socket_fd, &message, MSG_FASTOPEN | MSG_DONTWAIT);
}

static long try_connect_tcp(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(1),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return syscall(SYS_connect, socket_fd, &address, sizeof(address));
}

static long try_bind_tcp(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return syscall(SYS_bind, socket_fd, &address, sizeof(address));
}

/* 0 where it takes no value. */
static long try_option(int level, int name)
{
	int value = 1;

	return syscall(SYS_setsockopt, listener_fd, level, name, &value, sizeof(value));
}

static long try_reuseport_program(void)
{
	return try_option(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF);
}

static long try_socket_filter(void)
{
	return try_option(SOL_SOCKET, SO_ATTACH_BPF);
}

static long try_upper_protocol(void)
{
	return syscall(SYS_setsockopt, listener_fd, IPPROTO_TCP, TCP_ULP, "tls", 3);
}

static long try_receive_buffer(void)
{
	return try_option(SOL_SOCKET, SO_RCVBUF);
}

static long try_no_delay(void)
{
	return try_option(IPPROTO_TCP, TCP_NODELAY);
}

/* Of a listener: it minds only the other halves. */
static long try_half_close(void)
{
	return syscall(SYS_shutdown, listener_fd, SHUT_WR);
}

static long try_signal_parent(void)
{
	return syscall(SYS_kill, getppid(), 0);
}

static long try_tgkill_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long try_pidfd(void)
{
	return syscall(SYS_pidfd_open, getppid(), 0);
}

static long try_fork(void)
{
	long pid = syscall(SYS_fork);

	if (pid == 0)
		_exit(0);
	return pid;
}

static long try_read_other(void)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)&folder_fd, 1 };

	return syscall(SYS_process_vm_readv, getppid(), &here, 1, &there, 1, 0);
}

#if defined(__x86_64__)
/* The same kernel through another door: its numbers mean other calls. */
static long try_32_bit(void)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid */
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

static long try_x32(void)
{
	long result = syscall(0x40000000 + SYS_getpid);

	/* A kernel without it says so, after the filter was asked. */
	return result;
}
#endif

/* ---- The table ----------------------------------------------------------------------------------------- */

#define CALL(name, granted, ...) \
	{ \
#name, granted, NULL, SYS_##name, \
		{ \
			__VA_ARGS__ \
		} \
	}
#define CASE(what, granted, name, ...) \
	{ \
		what, granted, NULL, SYS_##name, \
		{ \
			__VA_ARGS__ \
		} \
	}
#define TRY(what, granted, function) \
	{ \
		what, granted, function, 0, \
		{ \
			0 \
		} \
	}
#define TEXT(text) (long)(uintptr_t)(text)

/* clang-format off */
static const struct attempt attempts[] = {
	/* files */
	CASE("openat", CHECK, openat, AT_FDCWD, TEXT("/etc/passwd"), O_RDONLY),
	CASE("openat to write", NOBODY, openat, AT_FDCWD, TEXT("/tmp/portcullis-test-nobodys"), O_WRONLY | O_CREAT, 0600),
	CASE("openat to write", NOBODY, openat, AT_FDCWD, TEXT("/dev/null"), O_RDWR),
	TRY("openat2", NOBODY, try_openat2_read),
	TRY("openat2 to write", NOBODY, try_openat2_write),
	TRY("openat2 below its own folder", VAULT | FILES, try_openat2_own),
	TRY("openat2 below its own folder, to write", VAULT, try_openat2_own_write),
	CASE("open /proc/self/mem", NOBODY, openat, AT_FDCWD, TEXT("/proc/self/mem"), O_RDWR),
	CASE("newfstatat", VAULT | LOG | CHECK, newfstatat, AT_FDCWD, TEXT("/etc/passwd"), TEXT(stat_buf), 0),
	CALL(name_to_handle_at, NOBODY, AT_FDCWD, TEXT("/"), 0, 0, 0),
	CALL(open_by_handle_at, NOBODY, -1, 0, 0),
	CALL(linkat, NOBODY, -1, TEXT("x"), -1, TEXT("x"), 0),
	CALL(symlinkat, NOBODY, TEXT("x"), -1, TEXT("x")),
	CALL(mknodat, NOBODY, -1, TEXT("x"), 0, 0),
	CALL(fchmodat, NOBODY, -1, TEXT("x"), 0),
	CALL(truncate, NOBODY, TEXT(""), 0),
	CALL(setxattr, NOBODY, TEXT(""), 0, 0, 0, 0),
	CALL(utimensat, NOBODY, -1, TEXT("x"), 0, 0),
	CALL(chdir, NOBODY, TEXT("")),
	CALL(fchdir, NOBODY, -1),
	CALL(chroot, NOBODY, TEXT("")),
	CALL(flock, NOBODY, -1, 0),
	CALL(inotify_init1, NOBODY, -1),
	CALL(fanotify_init, NOBODY, -1, -1),
	CALL(ioctl, NOBODY, -1, 0x5412 /* TIOCSTI */, TEXT("x")),
	CASE("fcntl F_GETFD", NOBODY, fcntl, 0, F_GETFD, 0),
	CASE("fcntl F_SETFL", DIALER, fcntl, -1, F_SETFL, 0),
	CASE("fcntl F_SETOWN", NOBODY, fcntl, -1, F_SETOWN, 0),
	CASE("fcntl F_SETSIG", NOBODY, fcntl, -1, F_SETSIG, 0),
	CASE("fcntl F_SETLEASE", NOBODY, fcntl, -1, F_SETLEASE, 0),
	CASE("fcntl F_NOTIFY", NOBODY, fcntl, -1, F_NOTIFY, 0),
	CASE("fcntl F_OFD_SETLK", NOBODY, fcntl, -1, F_OFD_SETLK, 0),

	/* the network */
	CASE("socket inet", DIALER, socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	CASE("socket inet6", DIALER, socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0),
	CASE("socket unix", DIALER, socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
	CASE("socket sctp", NOBODY, socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 132),
	CASE("socket mptcp", NOBODY, socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262),
	CASE("socket netlink", NOBODY, socket, AF_NETLINK, SOCK_RAW, 0),
	CASE("socket packet", NOBODY, socket, AF_PACKET, SOCK_RAW, 0),
	CASE("socket alg", NOBODY, socket, AF_ALG, SOCK_SEQPACKET, 0),
	CASE("socket vsock", NOBODY, socket, 40, SOCK_STREAM, 0),
	CALL(socketpair, NOBODY, -1, 0, 0, 0),
	CALL(connect, DIALER, -1, 0, 0),
	TRY("connect by TCP", DIALER, try_connect_tcp),
	CALL(bind, NOBODY, -1, 0, 0),
	TRY("bind by TCP", NOBODY, try_bind_tcp),
	CALL(listen, NOBODY, -1, 0),
	CALL(accept, NOBODY, -1, 0, 0),
	CALL(accept4, WORKER | VAULT, -1, 0, 0, 0),
	TRY("sendto that connects", NOBODY, try_fast_open),
	TRY("sendmsg that connects", NOBODY, try_fast_open_message),
	CASE("shutdown of reading", NOBODY, shutdown, -1, SHUT_RD),
	CASE("shutdown of both", NOBODY, shutdown, -1, SHUT_RDWR),
	TRY("shutdown of writing", WORKER, try_half_close),
	TRY("setsockopt reuseport program", NOBODY, try_reuseport_program),
	TRY("setsockopt filter", NOBODY, try_socket_filter),
	TRY("setsockopt upper protocol", NOBODY, try_upper_protocol),
	TRY("setsockopt receive buffer", NOBODY, try_receive_buffer),
	TRY("setsockopt no delay", DIALER, try_no_delay),

	/* other processes */
	CALL(execve, NOBODY, TEXT(""), 0, 0),
	CALL(execveat, NOBODY, -1, TEXT(""), 0, 0, AT_EMPTY_PATH),
	TRY("fork", NOBODY, try_fork),
	CALL(clone, NOBODY, 0x800 /* CLONE_SIGHAND alone: never made */, 0, 0, 0, 0),
	CALL(clone3, NOBODY, 0, 0),
	CALL(unshare, NOBODY, 0),
	CALL(setns, NOBODY, -1, 0),
	TRY("kill", NOBODY, try_signal_parent),
	TRY("tgkill", NOBODY, try_tgkill_parent),
	CALL(tkill, NOBODY, -1, 0),
	CALL(rt_sigqueueinfo, NOBODY, -1, 0, 0),
	CALL(rt_tgsigqueueinfo, NOBODY, -1, -1, 0, 0),
	TRY("pidfd_open", NOBODY, try_pidfd),
	CALL(pidfd_send_signal, NOBODY, -1, 0, 0, 0),
	CALL(pidfd_getfd, NOBODY, -1, 0, 0),
	CALL(ptrace, NOBODY, PTRACE_PEEKDATA, 0x7fffffff, 0, 0),
	TRY("process_vm_readv", NOBODY, try_read_other),
	CALL(process_vm_writev, NOBODY, 0x7fffffff, 0, 0, 0, 0, 0),
	CALL(process_madvise, NOBODY, -1, 0, 0, 0, 0),
	CALL(kcmp, NOBODY, 0x7fffffff, 0x7fffffff, 0, 0, 0),
	TRY("prlimit64 of another", NOBODY, try_other_limits),
	TRY("prlimit64 of its own", CHECK, try_own_limits),
	CALL(sched_setscheduler, NOBODY, -1, 0, 0),
	CALL(sched_setaffinity, NOBODY, 0x7fffffff, 0, 0),
	CALL(setpriority, NOBODY, 9, 0, 0),
	CASE("eventfd2", NOBODY, eventfd2, 0, -1),
	CASE("epoll_create1", NOBODY, epoll_create1, -1),
	CASE("pipe2", NOBODY, pipe2, 0, -1),
	CASE("dup3", NOBODY, dup3, -1, -1, 0),
	CALL(setsid, NOBODY, 0),
	CALL(setpgid, NOBODY, -1, 0),
	CALL(wait4, NOBODY, -1, 0, WNOHANG, 0),
	CALL(shmget, NOBODY, 0, 0, 0),
	CALL(msgget, NOBODY, -1, 0),
	CALL(mq_open, NOBODY, 0, 0, 0, 0),

	/* itself: more rights, memory that can be executed */
	CASE("prctl PR_SET_DUMPABLE", CHECK, prctl, PR_SET_DUMPABLE, 0, 0, 0, 0),
	CASE("prctl PR_SET_PTRACER", CHECK, prctl, 0x59616d61, -2, 0, 0, 0),
	CASE("prctl PR_CAP_AMBIENT", CHECK, prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
	CASE("prctl PR_SET_SECCOMP", CHECK, prctl, PR_SET_SECCOMP, -1, 0, 0, 0),
	CASE("prctl PR_SET_MM", MAYBE, prctl, PR_SET_MM, -1, 0, 0, 0),
	CASE("prctl PR_SET_TIMERSLACK", CHECK, prctl, PR_SET_TIMERSLACK, 0, 0, 0, 0),
	CALL(seccomp, CHECK, -1, 0, 0),
	CALL(landlock_create_ruleset, CHECK, 0, 0, -1),
	CALL(setuid, NOBODY, -1),
	CALL(setgid, NOBODY, -1),
	CALL(setreuid, NOBODY, -1, -1),
	CALL(setresuid, CHECK, -1, -1, -1),
	CALL(setresgid, CHECK, -1, -1, -1),
	CALL(setfsuid, NOBODY, -1),
	CALL(capset, CHECK, 0, 0),
	CALL(personality, NOBODY, -1),
	CALL(modify_ldt, NOBODY, 0, 0, 0),
	CALL(arch_prctl, NOBODY, -1, 0),
	CALL(iopl, NOBODY, 4),
	CALL(ioperm, NOBODY, -1, -1, 1),
	CASE("mmap to execute", NOBODY, mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	CASE("mmap to write and execute", NOBODY, mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	TRY("mprotect to execute", NOBODY, try_protect),
	CALL(pkey_mprotect, NOBODY, 0, 0, PROT_READ, -1),
	CALL(remap_file_pages, NOBODY, 1, 0, 0, 0, 0),
	CALL(memfd_create, VAULT | CHECK | CLOSED, TEXT("x"), -1),
	CALL(memfd_secret, NOBODY, -1),
	CALL(mlock, NOBODY, 0, 0),
	CALL(mlockall, NOBODY, -1),
	CALL(userfaultfd, MAYBE, -1),

	/* the kernel */
	CALL(mount, NOBODY, 0, TEXT(""), 0, 0, 0),
	CALL(umount2, NOBODY, TEXT(""), 0),
	CALL(pivot_root, NOBODY, TEXT(""), TEXT("")),
	CALL(open_tree, NOBODY, -1, TEXT(""), -1),
	CALL(move_mount, NOBODY, -1, TEXT(""), -1, TEXT(""), -1),
	CALL(fsopen, NOBODY, TEXT(""), -1),
	CALL(mount_setattr, NOBODY, -1, TEXT(""), -1, 0, 0),
	CALL(bpf, MAYBE, -1, 0, 0),
	CALL(io_uring_setup, MAYBE, 1, 0),
	CALL(io_uring_enter, NOBODY, -1, 0, 0, 0, 0, 0),
	CALL(io_uring_register, NOBODY, -1, 0, 0, 0),
	CALL(perf_event_open, MAYBE, 0, 0, 0, 0, 0),
	CALL(keyctl, MAYBE, -1, 0, 0, 0, 0),
	CALL(add_key, MAYBE, 0, 0, 0, 0, 0),
	CALL(request_key, MAYBE, 0, 0, 0, 0),
	CALL(init_module, NOBODY, 0, 0, 0),
	CALL(finit_module, NOBODY, -1, 0, -1),
	CALL(delete_module, NOBODY, 0, 0),
	CALL(kexec_load, NOBODY, 0, -1, 0, 0),
	CALL(reboot, NOBODY, 0, 0, 0, 0),
	CALL(syslog, NOBODY, -1, 0, 0),
	CALL(quotactl, NOBODY, -1, 0, 0, 0),
	CALL(swapon, NOBODY, 0, 0),
	CALL(settimeofday, NOBODY, 0, 0),
	CALL(clock_settime, NOBODY, -1, 0),
	CALL(clock_adjtime, NOBODY, -1, 0),
	CALL(sethostname, NOBODY, 0, -1),
	CALL(timer_create, NOBODY, -1, 0, 0),
	CALL(setitimer, KEYHOLDER | FILES | DIALER | LOG, -1, 0, 0),
	CALL(splice, NOBODY, -1, 0, -1, 0, 0, -1),
	CALL(tee, NOBODY, -1, -1, 0, -1),
	CALL(vmsplice, NOBODY, -1, 0, 0, -1),
	CALL(copy_file_range, NOBODY, -1, 0, -1, 0, 0, -1),
	CALL(sendfile, NOBODY, -1, -1, 0, 0),
	CALL(signalfd4, NOBODY, -1, 0, 0, -1),
	CALL(membarrier, NOBODY, -1, 0, 0),
#if defined(__x86_64__)
	TRY("a 32 bit call", MAYBE, try_32_bit),
	TRY("an x32 call", MAYBE, try_x32),
#endif
	/* what all need: the filter is no wall that nothing passes */
	CASE("getpid", ALL, getpid, 0),
	CASE("a map", ALL, mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
};

/* clang-format on */
#undef CALL

/* ---- Running them ---------------------------------------------------------------------------------------- */

static volatile int *results;
static sigjmp_buf refused;

static void on_refused(int number)
{
	(void)number;
	siglongjmp(refused, 1);
}

static enum result answer(long result)
{
	if (result >= 0)
		return DONE;
	return errno == EPERM || errno == EACCES ? REFUSED : DONE;
}

static enum result attempt(const struct attempt *attempt)
{
	const long *a = attempt->arguments;

	/* A sanitizer build says no by a signal that can be caught; else the process ends here. */
	if (sigsetjmp(refused, 1))
		return REFUSED;
	errno = 0;
	if (attempt->function)
		return answer(attempt->function());
	return answer(syscall(attempt->number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static int enter(const struct proc_row *row, bool is_closed)
{
	struct ipc_birth birth = { .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .nofile = 64 };
	struct os_sandbox_path paths[ARRAY_LEN(row->access)];
	struct os_limit_value limits[PROC_LIMITS_MAX];
	struct os_sandbox_report report;
	struct os_sandbox sandbox;

	if (geteuid() == 0)
		birth.uid = birth.gid = proc_row_uid(row);
	sandbox = proc_row_sandbox(row, &birth, is_closed, limits);
	sandbox.paths = paths;
	for (size_t i = 0; !is_closed && i < ARRAY_LEN(row->access); i++) {
		int fd = i == IPC_GRANT_READ ? open("/", O_PATH | O_DIRECTORY) : folder_fd;

		if (row->access[i])
			paths[sandbox.path_count++] =
				(struct os_sandbox_path){ fd, row->access[i] };
	}
	if (os_sandbox_enter(&sandbox, &report))
		return -1;
	return report.enforced & OS_SANDBOX_CALLS ? 0 : -1;
}

static void run_from(const struct proc_row *row, bool is_closed, size_t first)
{
	struct sigaction action = { .sa_handler = on_refused };

	/* The test's own handlers would go on with the next test here. */
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	close(2); /* a sanitizer build names what was refused */
	if (row && (enter(row, false) || (is_closed && enter(row, true))))
		_exit(1);
	sigaction(SIGSYS, &action, NULL);
	for (size_t i = first; i < ARRAY_LEN(attempts); i++)
		results[i] = (int)attempt(&attempts[i]);
	_exit(0);
}

/* By the filter; or by a kernel that has no 32 bit calls at all. */
static bool is_refusal(int status)
{
	return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV);
}

static void run_all(const struct proc_row *row, bool is_closed)
{
	size_t next = 0;

	for (size_t i = 0; i < ARRAY_LEN(attempts); i++)
		results[i] = UNTRIED;
	while (next < ARRAY_LEN(attempts)) {
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			run_from(row, is_closed, next);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status))
			fail_msg("its sandbox could not be made");
		while (next < ARRAY_LEN(attempts) && results[next] != UNTRIED)
			next++;
		if (next < ARRAY_LEN(attempts))
			results[next++] = is_refusal(status) ? REFUSED : LOST;
	}
}

static unsigned check_row(const struct proc_row *row, bool is_closed)
{
	unsigned bit = is_closed ? CLOSED : 1U << row->kind, wrong = 0;

	run_all(row, is_closed);
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		enum result wanted = attempts[i].granted & bit ? DONE : REFUSED;

		if (results[i] == (int)wanted)
			continue;
		print_error("%s%s: %s was %s, should be %s\n", row->name,
			    is_closed ? " (closed)" : "", attempts[i].what,
			    result_names[results[i]], result_names[wanted]);
		wrong++;
	}
	return wrong;
}

static void test_rows_refuse_what_they_do_not_grant(void **state)
{
	unsigned rows = 0, wrong = 0;
	int listens = 0;
	socklen_t len = sizeof(listens);

	(void)state;
	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		const struct proc_row *row = proc_row_find((enum ipc_kind)kind);

		if (!row)
			continue;
		rows++;
		wrong += check_row(row, false);
		if (row->closed_calls)
			wrong += check_row(row, true);
	}
	assert_int_equal(rows, 7);
	assert_int_equal(wrong, 0);
	/* Shared by all who tried: it listens still. */
	assert_int_equal(getsockopt(listener_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len), 0);
	assert_true(listens);
}

/* The other side of it: without a row nothing of this is refused. Some of it only root may. */
static void test_without_a_row_they_are_done(void **state)
{
	unsigned wrong = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	run_all(NULL, false);
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		if (results[i] == DONE || attempts[i].granted & MAYBE)
			continue;
		print_error("%s was %s\n", attempts[i].what, result_names[results[i]]);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static char folder_path[] = "/tmp/portcullis-test-XXXXXX";

static int set_up(void **state)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	(void)state;
	results = mmap(NULL, sizeof(*results) * ARRAY_LEN(attempts), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_non_null(mkdtemp(folder_path));
	assert_int_equal(chmod(folder_path, 0777), 0);
	folder_fd = open(folder_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	int fd = openat(open(folder_path, O_DIRECTORY), "file", O_CREAT | O_RDWR, 0644);
	assert_true(fd >= 0);
	close(fd);
	socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener_fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(listener_fd, 1), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlinkat(folder_fd, "file", 0);
	unlinkat(folder_fd, "new", 0);
	unlink("/tmp/portcullis-test-nobodys");
	return rmdir(folder_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_refuse_what_they_do_not_grant),
		cmocka_unit_test(test_without_a_row_they_are_done),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
