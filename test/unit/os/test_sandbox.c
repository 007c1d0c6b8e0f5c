#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

/* Each case runs in a forked child that enters the sandbox and then tries something. The kernel's
 * answer must be death by SIGSYS or a plain no. */

static const char *const no_calls[] = { NULL };
static const char *const read_calls[] = { "@read-files", "openat2", NULL };
static const char *const write_calls[] = { "@read-files", "@write-files", NULL };
static const char *const network_calls[] = { "socket", "connect", "bind", "listen", NULL };

enum { DONE = 0, REFUSED = 10, BROKEN = 20 };

static int answer(long result)
{
	if (result >= 0)
		return DONE;
	return errno == EPERM || errno == EACCES || errno == EXDEV ? REFUSED : BROKEN;
}

static int run(const struct os_sandbox *sandbox, int (*attempt)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct os_sandbox_report report;

		/* The report of a sanitizer build is not wanted in the test's output. */
		close(2);
		if (os_sandbox_enter(sandbox, &report))
			_exit(BROKEN + 1);
		if (sandbox->calls && !(report.enforced & OS_SANDBOX_CALLS))
			_exit(BROKEN + 2);
		_exit(attempt());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? REFUSED : BROKEN + 3;
	return WEXITSTATUS(status);
}

/* ---- What nobody may ----------------------------------------------------------------------- */

/* clang-format off */
static int try_open(void) { return answer(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY)); }
static int try_stat(void) { struct stat info; return answer(stat("/etc/passwd", &info)); }
static int try_socket(void) { return answer(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)); }
static int try_connect(void) { return answer(syscall(SYS_connect, 0, NULL, 0)); }
static int try_bind(void) { return answer(syscall(SYS_bind, 0, NULL, 0)); }
static int try_accept(void) { return answer(syscall(SYS_accept4, 0, NULL, NULL, 0)); }
static int try_execve(void)
{
	char *none[] = { NULL };
	return answer(syscall(SYS_execve, "/bin/true", none, none));
}
static int try_execveat(void)
{
	return answer(syscall(SYS_execveat, os_program(), "", NULL, NULL, AT_EMPTY_PATH));
}
static int try_fork(void) { return answer(syscall(SYS_fork)); }
static int try_kill(void) { return answer(syscall(SYS_kill, getppid(), 0)); }
static int try_ptrace(void) { return answer(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0)); }
static int try_readv_other(void)
{
	return answer(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}
static int try_setuid(void) { return answer(syscall(SYS_setresuid, 0, 0, 0)); }
static int try_mount(void) { return answer(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL)); }
static int try_uring(void) { return answer(syscall(SYS_io_uring_setup, 1, NULL)); }
static int try_bpf(void) { return answer(syscall(SYS_bpf, 0, NULL, 0)); }
static int try_unshare(void) { return answer(syscall(SYS_unshare, 0)); }
static int try_memfd(void) { return answer(syscall(SYS_memfd_create, "x", 0)); }
static int try_ioctl(void) { return answer(syscall(SYS_ioctl, 0, 0x5412, "x")); } /* TIOCSTI */
static int try_owner(void) { return answer(syscall(SYS_fcntl, 0, F_SETOWN, getppid())); }
static int try_pidfd(void) { return answer(syscall(SYS_pidfd_open, getppid(), 0)); }
static int try_unlink(void) { return answer(syscall(SYS_unlink, "/tmp/no-such-file-of-anybody")); }

/* clang-format on */
static int try_fast_open(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	return answer(syscall(SYS_sendto, 0, "x", 1, MSG_FASTOPEN, &address, sizeof(address)));
}

static int try_execute(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			       MAP_FAILED
		       ? REFUSED
		       : DONE;
}

static int try_protect(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? BROKEN
				    : answer(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}

static void test_the_bare_sandbox_refuses(void **state)
{
	static const struct {
		const char *what;
		int (*attempt)(void);
	} cases[] = {
		{ "open", try_open },
		{ "stat", try_stat },
		{ "socket", try_socket },
		{ "connect", try_connect },
		{ "bind", try_bind },
		{ "accept", try_accept },
		{ "execve", try_execve },
		{ "execveat", try_execveat },
		{ "fork", try_fork },
		{ "kill", try_kill },
		{ "ptrace", try_ptrace },
		{ "read others' memory", try_readv_other },
		{ "setuid", try_setuid },
		{ "mount", try_mount },
		{ "io_uring", try_uring },
		{ "bpf", try_bpf },
		{ "unshare", try_unshare },
		{ "memfd", try_memfd },
		{ "ioctl", try_ioctl },
		{ "signals to others", try_owner },
		{ "pidfd", try_pidfd },
		{ "unlink", try_unlink },
		{ "fast open", try_fast_open },
		{ "executable map", try_execute },
		{ "executable protection", try_protect },
	};
	struct os_sandbox sandbox = {
		.name = "bare", .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .calls = no_calls
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (run(&sandbox, cases[i].attempt) != REFUSED)
			fail_msg("%s was not refused (%d)", cases[i].what,
				 run(&sandbox, cases[i].attempt));
}

/* ---- What everybody needs ------------------------------------------------------------------ */

static int pair[2];
static struct os_loop *loop; /* made before, as a process does */

static void on_due(struct os_timer *timer)
{
	(void)timer;
}

static int try_ordinary_life(void)
{
	struct os_timer timer = { .on_due = on_due };
	struct os_packet_out out = { .parts = { SPAN("x") }, .part_count = 1 };
	struct os_file_info info;
	char buf[8], *memory = malloc(1 << 20);
	struct os_packet_in in = { .buf = buf, .size = sizeof(buf) };
	uint64_t soft, hard;

	if (!memory)
		return BROKEN;
	memset(memory, 1, 1 << 20);
	free(memory);
	os_timer_set(loop, &timer, os_now_ns() + OS_MS);
	if (os_loop_turn(loop, -1, NULL, NULL) || os_packet_send(pair[0], &out) ||
	    os_packet_send_many(pair[0], &out, 1) != 1 || os_packet_receive(pair[1], &in) != 1 ||
	    os_packet_receive_many(pair[1], &in, 1) != 1)
		return BROKEN + 4;
	if (os_file_info(pair[0], &info) || os_lock_is_held(0, 0) < -1000 || os_pid() != getpid())
		return BROKEN + 5;
	if (os_limit_get(OS_LIMIT_OPEN_FILES, &soft, &hard))
		return BROKEN + 6;
	os_random(buf, sizeof(buf));
	os_yield();
	os_sleep_ms(1);
	os_process_set_name("other");
	(void)os_wall_ns();
	return DONE;
}

static void test_ordinary_life_goes_on(void **state)
{
	struct os_sandbox sandbox = {
		.name = "bare", .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .calls = no_calls
	};

	(void)state;
	assert_int_equal(os_packet_pair(pair), 0);
	assert_int_equal(os_loop_new(&loop), 0);
	assert_int_equal(run(&sandbox, try_ordinary_life), DONE);
	os_loop_free(loop);
	os_close(pair[0]);
	os_close(pair[1]);
}

static int try_abort(void)
{
	abort();
}

static void test_abort_still_says_abort(void **state)
{
	struct os_sandbox sandbox = {
		.name = "bare", .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .calls = no_calls
	};
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct os_sandbox_report report;

		close(2);
		_exit(os_sandbox_enter(&sandbox, &report) ? 1 : try_abort());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* ---- Landlock ------------------------------------------------------------------------------ */

static char folder_path[] = "/tmp/portcullis-test-XXXXXX";
static int folder_fd = -1;

static int try_read_below(void)
{
	int fd;

	return answer(os_open(folder_fd, "file", OS_OPEN_READ | OS_OPEN_BENEATH, 0, &fd) < 0 ? -1
											     : 0);
}

static int try_write_below(void)
{
	int error = os_file_replace(folder_fd, "file", SPAN("new"), 0600);

	errno = -error;
	return answer(error ? -1 : 0);
}

static int try_read_elsewhere(void)
{
	int fd, error = os_open(OS_FOLDER_CURRENT, "/etc/passwd", OS_OPEN_READ, 0, &fd);

	errno = -error;
	return answer(error ? -1 : 0);
}

static int try_tcp(bool do_connect)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(do_connect ? 1 : 0) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int result;

	if (fd < 0)
		return BROKEN;
	result = do_connect ? connect(fd, (struct sockaddr *)&address, sizeof(address))
			    : bind(fd, (struct sockaddr *)&address, sizeof(address));
	return result < 0 && errno == ECONNREFUSED ? DONE : answer(result);
}

/* clang-format off */
static int try_tcp_connect(void) { return try_tcp(true); }
static int try_tcp_bind(void) { return try_tcp(false); }

/* clang-format on */
static void test_paths_and_ports(void **state)
{
	struct os_sandbox_path path = { .access = OS_ACCESS_READ };
	struct os_sandbox sandbox = {
		.name = "paths", .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .paths = &path
	};
	struct os_sandbox_report report;
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(os_sandbox_enter(&(struct os_sandbox){ .name = "x", .uid = OS_KEEP_ID },
				       &report)
			      ? 1
			      : (int)report.landlock_abi + 2);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) < 2 + 4)
		skip();
	assert_non_null(mkdtemp(folder_path));
	assert_int_equal(os_open(OS_FOLDER_CURRENT, folder_path, OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0,
				 &folder_fd),
			 0);
	assert_int_equal(os_file_replace(folder_fd, "file", SPAN("old"), 0600), 0);
	path.fd = folder_fd;

	/* without paths, even with all calls */
	assert_int_equal(run(&sandbox, try_read_below), REFUSED);
	sandbox.path_count = 1;
	sandbox.calls = read_calls;
	assert_int_equal(run(&sandbox, try_read_below), DONE);
	assert_int_equal(run(&sandbox, try_write_below), REFUSED);
	assert_int_equal(run(&sandbox, try_read_elsewhere), REFUSED);
	sandbox.calls = write_calls;
	assert_int_equal(run(&sandbox, try_write_below), REFUSED);
	path.access = OS_ACCESS_READ | OS_ACCESS_WRITE;
	assert_int_equal(run(&sandbox, try_write_below), DONE);
	assert_int_equal(run(&sandbox, try_read_elsewhere), REFUSED);
	sandbox.calls = network_calls;
	assert_int_equal(run(&sandbox, try_tcp_connect), REFUSED);
	assert_int_equal(run(&sandbox, try_tcp_bind), REFUSED);
	sandbox.may_connect = true;
	assert_int_equal(run(&sandbox, try_tcp_connect), DONE);
	assert_int_equal(run(&sandbox, try_tcp_bind), REFUSED);
	sandbox.may_bind = true;
	assert_int_equal(run(&sandbox, try_tcp_bind), DONE);

	assert_int_equal(os_unlink(folder_fd, "file"), 0);
	os_close(folder_fd);
	assert_int_equal(rmdir(folder_path), 0);
}

/* ---- User, capabilities, limits ------------------------------------------------------------ */

static int try_who(void)
{
	FILE *file;
	char line[256];
	int found = 0;

	if (getuid() != 61234 || geteuid() != 61234 || getgid() != 61235 || getgroups(0, NULL) != 0)
		return BROKEN + 4;
	if (setresuid(0, 0, 0) == 0)
		return BROKEN + 5;
	file = fopen("/proc/thread-self/status", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "CapEff:", 7) == 0 || strncmp(line, "CapPrm:", 7) == 0 ||
		    strncmp(line, "CapBnd:", 7) == 0)
			found += strstr(line, "\t0000000000000000") != NULL;
		found += strcmp(line, "NoNewPrivs:\t1\n") == 0;
	}
	return found == 4 ? DONE : BROKEN + 6;
}

static void test_user_and_capabilities(void **state)
{
	struct os_sandbox sandbox = { .name = "user", .uid = 61234, .gid = 61235, .is_open = true };

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(run(&sandbox, try_who), DONE);
}

static int try_kept_capability(void)
{
	/* CAP_NET_BIND_SERVICE (10) stays over the change of the user. */
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				       .sin_port = htons(797) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return getuid() == 61234 ? answer(bind(fd, (struct sockaddr *)&address, sizeof(address)))
				 : BROKEN;
}

static void test_a_kept_capability_works(void **state)
{
	struct os_sandbox sandbox = { .name = "user", .uid = 61234, .gid = 61235, .is_open = true };

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(run(&sandbox, try_kept_capability), REFUSED);
	sandbox.capabilities = 1 << 10;
	assert_int_equal(run(&sandbox, try_kept_capability), DONE);
}

static int try_limits(void)
{
	int fds[8];

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dup(0);
	return fds[7] < 0 && errno == EMFILE ? DONE : BROKEN;
}

static void test_limits(void **state)
{
	static const struct os_limit_value limits[] = { { OS_LIMIT_OPEN_FILES, 8 },
							{ OS_LIMIT_CORE_BYTES, 0 } };
	struct os_sandbox sandbox = { .name = "limits",
				      .uid = OS_KEEP_ID,
				      .gid = OS_KEEP_ID,
				      .is_open = true,
				      .limits = limits,
				      .limit_count = ARRAY_LEN(limits) };

	(void)state;
	assert_int_equal(run(&sandbox, try_limits), DONE);
}

/* A second, tighter sandbox after the first, as check does it. */
static int enter_again_and_open(void)
{
	struct os_sandbox inner = { .name = "inner",
				    .uid = getuid() ? OS_KEEP_ID : 61234,
				    .gid = OS_KEEP_ID,
				    .calls = no_calls };
	struct os_sandbox_report report;

	if (try_read_elsewhere() != DONE)
		return BROKEN + 4;
	if (os_sandbox_enter(&inner, &report))
		return BROKEN + 5;
	return try_read_elsewhere();
}

static void test_twice(void **state)
{
	static const char *const calls[] = { "@read-files", "@sandbox", NULL };
	struct os_sandbox_path root = { .access = OS_ACCESS_READ };
	struct os_sandbox sandbox = { .name = "outer",
				      .uid = OS_KEEP_ID,
				      .gid = OS_KEEP_ID,
				      .calls = calls,
				      .paths = &root,
				      .path_count = 1 };

	(void)state;
	sandbox.capabilities =
		1 << 6 | 1 << 7; /* CAP_SETGID, CAP_SETUID: to give up the user later */
	assert_int_equal(os_open(OS_FOLDER_CURRENT, "/", OS_OPEN_HANDLE, 0, &root.fd), 0);
	assert_int_equal(run(&sandbox, enter_again_and_open), REFUSED);
	os_close(root.fd);
}

static void test_unknown_names_are_our_bug(void **state)
{
	static const char *const calls[] = { "no_such_call", NULL };
	static const char *const groups[] = { "@no-such-group", NULL };
	struct os_sandbox sandbox = {
		.name = "x", .uid = OS_KEEP_ID, .gid = OS_KEEP_ID, .calls = calls
	};

	(void)state;
	assert_int_equal(run(&sandbox, try_abort), BROKEN + 1);
	sandbox.calls = groups;
	assert_int_equal(run(&sandbox, try_abort), BROKEN + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_bare_sandbox_refuses),
		cmocka_unit_test(test_ordinary_life_goes_on),
		cmocka_unit_test(test_abort_still_says_abort),
		cmocka_unit_test(test_paths_and_ports),
		cmocka_unit_test(test_user_and_capabilities),
		cmocka_unit_test(test_a_kept_capability_works),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_unknown_names_are_our_bug),
	};

	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
