#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

static struct os_process_end wait_end(struct os_process *process)
{
	struct os_process_end end = { -1, -1 };

	assert_int_equal(os_wait(process->fd, OS_READABLE, 10000), 0);
	assert_int_equal(os_process_wait(process->fd, &end), 0);
	os_close(process->fd);
	return end;
}

static int open_program(const char *path)
{
	int fd = -1;

	assert_int_equal(os_open(OS_FOLDER_CURRENT, path, OS_OPEN_HANDLE, 0, &fd), 0);
	return fd;
}

static void test_exit_codes_by_descriptor(void **state)
{
	static const struct {
		const char *program;
		int exit_code;
	} cases[] = { { "/bin/true", 0 }, { "/bin/false", 1 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *const arguments[] = { "name of ours", NULL };
		struct os_process_config config = {
			.program_fd = open_program(cases[i].program),
			.arguments = arguments,
		};
		struct os_process process;
		struct os_process_end end;

		assert_int_equal(os_process_start(&config, &process), 0);
		end = wait_end(&process);
		assert_int_equal(end.signal, 0);
		assert_int_equal(end.exit_code, cases[i].exit_code);
		os_close(config.program_fd);
	}
}

/* What a child sees: its descriptors, environment, signals and session. */
static struct span child_says(const char *script, const struct os_pass *pass, size_t pass_count,
			      const char *const *environment, char *buf, size_t size)
{
	const char *const arguments[] = { "sh", "-c", script, NULL };
	struct os_pass all[8];
	struct os_process_config config = {
		.program_fd = open_program("/bin/sh"),
		.arguments = arguments,
		.environment = environment,
		.pass = all,
		.pass_count = pass_count + 1,
		.is_detached = true,
	};
	struct os_process process;
	size_t used = 0;
	ssize_t len;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (size_t i = 0; i < pass_count; i++)
		all[i] = pass[i];
	all[pass_count] = (struct os_pass){ ends[1], 1 };
	assert_int_equal(os_process_start(&config, &process), 0);
	os_close(ends[1]);
	while ((len = os_read(ends[0], buf + used, size - used)) > 0)
		used += (size_t)len;
	os_close(ends[0]);
	os_close(config.program_fd);
	assert_int_equal(wait_end(&process).exit_code, 0);
	return span_of(buf, used);
}

static bool has_line(struct span text, int number)
{
	char line[16];

	snprintf(line, sizeof(line), "\n%d\n", number);
	return span_find(text, span_str(line)) < text.len;
}

static void test_descriptors_swap_and_the_rest_is_closed(void **state)
{
	char buf[4096], text[256];
	int a[2], b[2], stray = dup(0); /* without close-on-exec */
	struct os_pass pass[2];
	struct span said;

	(void)state;
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	assert_int_equal(os_write(a[1], "A\n", 2), 2);
	assert_int_equal(os_write(b[1], "B\n", 2), 2);
	/* Each takes the other's number. */
	pass[0] = (struct os_pass){ a[0], b[0] };
	pass[1] = (struct os_pass){ b[0], a[0] };
	snprintf(text, sizeof(text),
		 "read x <&%d; read y <&%d; echo $x $y; for f in /proc/self/fd/*; do echo "
		 "${f##*/}; done",
		 a[0], b[0]);
	said = child_says(text, pass, 2, NULL, buf, sizeof(buf));
	assert_true(span_starts_with(said, SPAN("B A\n")));
	assert_false(has_line(said, stray));
	assert_false(has_line(said, a[1]));
	assert_true(has_line(said, b[0]));
	close(stray);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void test_environment_and_signals(void **state)
{
	static const char *const environment[] = { "ONLY=this", NULL };
	char buf[4096];
	struct span said;
	sigset_t set;

	(void)state;
	said = child_says(
		"tr '\\0' '\\n' < /proc/self/environ | grep -vE '^(PWD|SHLVL|_|OLDPWD)=' ; true",
		NULL, 0, NULL, buf, sizeof(buf));
	assert_int_equal(said.len, 0);
	said = child_says("echo $ONLY", NULL, 0, environment, buf, sizeof(buf));
	assert_true(span_equal(said, SPAN("this\n")));
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	said = child_says("exec tr '\\t' ' ' < /proc/self/status", NULL, 0, NULL, buf, sizeof(buf));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	assert_true(span_find(said, SPAN("SigBlk: 0000000000000000")) < said.len);
	assert_true(span_find(said, SPAN("SigIgn: 0000000000000000")) < said.len);
}

static void test_failures_are_told(void **state)
{
	const char *const arguments[] = { "x", NULL };
	struct os_process process;
	struct os_process_config config = { .program_fd = -1,
					    .path = "/nonexistent",
					    .arguments = arguments };
	int before = os_descriptor_count();

	(void)state;
	assert_int_equal(os_process_start(&config, &process), -ENOENT);
	config.path = "/etc/passwd";
	assert_int_equal(os_process_start(&config, &process), -EACCES);
	config.program_fd = open_program("/etc");
	assert_int_equal(os_process_start(&config, &process), -EACCES);
	os_close(config.program_fd);
	assert_int_equal(os_descriptor_count(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
}

static void test_signal_and_wait(void **state)
{
	const char *const arguments[] = { "sleep", "100", NULL };
	struct os_process_config config = { .program_fd = -1,
					    .path = "/bin/sleep",
					    .arguments = arguments };
	struct os_process process;
	struct os_process_end end;
	struct os_process_usage usage;
	int own;

	(void)state;
	assert_int_equal(os_process_start(&config, &process), 0);
	assert_int_equal(os_process_wait(process.fd, &end), -EAGAIN);
	os_sleep_ms(50); /* the kernel has just emptied its memory */
	assert_int_equal(os_process_usage(process.pid, &usage), 0);
	assert_true(usage.memory_bytes > 0 && usage.started_ticks > 0);
	assert_int_equal(os_process_signal(process.fd, SIGKILL), 0);
	assert_int_equal(os_wait(process.fd, OS_READABLE, 10000), 0);
	assert_int_equal(os_process_wait(process.fd, &end), 0);
	assert_int_equal(end.signal, SIGKILL);
	assert_int_equal(os_process_signal(process.fd, SIGKILL), -ESRCH);
	assert_int_equal(os_process_usage(process.pid, &usage), -ENOENT);
	os_close(process.fd);
	assert_int_equal(os_process_open(getpid(), &own), 0);
	assert_int_equal(os_process_signal(own, 0), 0);
	os_close(own);
}

static bool is_ours(void *owner, int pid)
{
	return *(int *)owner == pid;
}

static void test_strangers_are_reaped_and_ours_are_not(void **state)
{
	const char *const arguments[] = { "true", NULL };
	struct os_process_config config = { .program_fd = -1,
					    .path = "/bin/true",
					    .arguments = arguments };
	struct os_process process;
	pid_t stranger;
	int count = 0;

	(void)state;
	assert_int_equal(os_process_start(&config, &process), 0);
	stranger = fork();
	if (stranger == 0)
		_exit(0);
	assert_int_equal(os_wait(process.fd, OS_READABLE, 10000), 0);
	os_sleep_ms(50);
	count += os_process_reap_strangers(is_ours, &process.pid);
	assert_int_equal(wait_end(&process).exit_code, 0);
	count += os_process_reap_strangers(is_ours, &process.pid);
	assert_int_equal(count, 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_own_program(void **state)
{
	const char *const arguments[] = { "again", "child", NULL };
	struct os_process_config config = { .program_fd = os_program(), .arguments = arguments };
	struct os_process process;

	(void)state;
	assert_true(os_program() >= 0);
	assert_int_equal(os_process_start(&config, &process), 0);
	assert_int_equal(wait_end(&process).exit_code, 42);
}

static bool gets_busy(int pid, bool wanted)
{
	bool is_wanted = false;

	for (int i = 0; i < 1000 && !is_wanted; i++) {
		is_wanted = os_process_is_busy(pid) == wanted;
		os_sleep_ms(10);
	}
	return is_wanted;
}

/* Who turns and turns is busy, who was stopped is not; of one that is gone nobody knows. */
static void test_busy(void **state)
{
	static const char *const arguments[] = { "sh", "-c", "while :; do :; done", NULL };
	struct os_process_config config = { .program_fd = open_program("/bin/sh"),
					    .arguments = arguments };
	struct os_process process;

	(void)state;
	assert_int_equal(os_process_start(&config, &process), 0);
	assert_true(gets_busy(process.pid, true));
	assert_int_equal(os_process_signal(process.fd, SIGSTOP), 0);
	assert_true(gets_busy(process.pid, false));
	assert_int_equal(os_process_signal(process.fd, SIGKILL), 0);
	wait_end(&process);
	assert_true(os_process_is_busy(process.pid));
	os_close(config.program_fd);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_codes_by_descriptor),
		cmocka_unit_test(test_descriptors_swap_and_the_rest_is_closed),
		cmocka_unit_test(test_environment_and_signals),
		cmocka_unit_test(test_failures_are_told),
		cmocka_unit_test(test_signal_and_wait),
		cmocka_unit_test(test_strangers_are_reaped_and_ours_are_not),
		cmocka_unit_test(test_own_program),
		cmocka_unit_test(test_busy),
	};

	if (count > 1 && strcmp(arguments[1], "child") == 0)
		return strcmp(arguments[0], "again") == 0 ? 42 : 1;
	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
