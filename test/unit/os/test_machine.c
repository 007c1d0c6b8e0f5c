#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

static void test_cpus(void **state)
{
	unsigned cpus[OS_CPU_MAX];
	size_t count = os_cpus(cpus, OS_CPU_MAX);
	int status;
	pid_t pid;

	(void)state;
	assert_true(count >= 1);
	pid = fork();
	if (pid == 0) {
		unsigned one[1];

		_exit(os_cpu_pin(cpus[count - 1]) || os_cpus(one, 1) != 1 ||
		      one[0] != cpus[count - 1]);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_users(void **state)
{
	uint32_t uid = 1, gid = 1;
	struct arena arena;
	struct span home;

	(void)state;
	assert_int_equal(os_user_find("root", &uid, &gid), 0);
	assert_int_equal(uid, 0);
	assert_int_equal(gid, 0);
	assert_int_equal(os_user_find("no-such-user", &uid, &gid), -ENOENT);
	arena_init(&arena, 8 << 20);
	assert_int_equal(os_user_home(0, &arena, &home), 0);
	assert_true(span_equal(home, SPAN("/root")));
	assert_int_equal(os_user_home(3999999999, &arena, &home), -ENOENT);
	arena_fini(&arena);
}

static void test_limits(void **state)
{
	uint64_t soft, hard, now;

	(void)state;
	assert_int_equal(os_limit_get(OS_LIMIT_OPEN_FILES, &soft, &hard), 0);
	now = os_limit_raise(OS_LIMIT_OPEN_FILES, soft + 1);
	assert_true(now == soft + 1 || (now == soft && soft == hard));
	assert_int_equal(os_limit_raise(OS_LIMIT_OPEN_FILES, 1), now);
}

static void test_facts(void **state)
{
	char buf[256];
	struct writer out = writer_of(buf, sizeof(buf));
	struct os_address addresses[16];
	uint8_t a[16], b[16];
	int count;

	(void)state;
	assert_int_equal(os_host_name(&out), 0);
	assert_int_equal(os_kernel_version(&out), 0);
	assert_true(out.ok && writer_done(&out).len > 2);
	count = os_interface_addresses(addresses, 16);
	assert_true(count >= 1);
	assert_true(os_memory_total() > 64 << 20);
	os_random(a, sizeof(a));
	os_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_null(os_environment("PORTCULLIS_SURELY_UNSET"));
	assert_true(os_wall_ns() > UINT64_C(1700000000) * OS_SECOND);
	assert_int_equal(os_pid(), getpid());
}

static void test_output_waits_for_a_slow_reader(void **state)
{
	enum { BYTES = 1 << 20 };
	static char block[BYTES];
	int ends[2], status;
	pid_t pid;
	size_t seen = 0;
	ssize_t len;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		dup2(ends[1], 1);
		_exit(os_out(span_of(block, BYTES)) ? 1 : 0);
	}
	close(ends[1]);
	while ((len = os_read(ends[0], block, 65536)) > 0)
		seen += (size_t)len;
	assert_int_equal(seen, BYTES);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ends[0]);
}

static void test_closed_standard_descriptors_are_filled(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		close(0);
		close(2);
		if (os_start() || !os_descriptor_is_open(0) || !os_descriptor_is_open(2))
			_exit(1);
		_exit(os_program() > 2 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_output_waits_for_a_slow_reader),
		cmocka_unit_test(test_closed_standard_descriptors_are_filled),
	};

	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
