#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

enum { SIZE = 8192 };

/* In a child that is to die: cmocka's handlers would jump back into the tests. */
static void die_plainly(void)
{
	close(2);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

static void test_seals(void **state)
{
	void *writable, *readable;
	int fd, read_only, again;

	(void)state;
	assert_int_equal(os_memory_new("test", SIZE, &fd), 0);
	assert_int_equal(os_memory_is_sealed(fd, OS_SEAL_SIZE), 0);
	assert_int_equal(os_memory_map(fd, SIZE, NULL, OS_MAP_WRITE, &writable), 0);
	memset(writable, 7, SIZE);
	assert_int_equal(os_memory_seal(fd, OS_SEAL_ALL), -EBUSY); /* mapped writable */
	assert_int_equal(os_memory_read_only(fd, &read_only), 0);
	assert_int_equal(os_memory_map(read_only, SIZE, NULL, OS_MAP_WRITE, &readable), -EACCES);
	assert_int_equal(os_memory_map(read_only, SIZE, NULL, 0, &readable), 0);
	((char *)writable)[1] = 9;
	assert_int_equal(((char *)readable)[1], 9);
	os_memory_unmap(writable, SIZE);
	assert_int_equal(os_memory_seal(fd, OS_SEAL_ALL), 0);
	assert_int_equal(os_memory_is_sealed(read_only, OS_SEAL_ALL), 1);
	assert_int_equal(os_memory_is_sealed(read_only, OS_SEAL_SIZE), 1);
	assert_int_equal(os_pwrite(fd, "x", 1, 0), -EPERM);
	assert_int_equal(os_file_truncate(fd, 0), -EPERM);
	os_memory_unmap(readable, SIZE);
	os_close(fd);
	os_close(read_only);
	assert_int_equal(os_memory_new("test", SIZE, &fd), 0);
	assert_int_equal(os_memory_seal(fd, OS_SEAL_SIZE), 0);
	assert_int_equal(os_memory_is_sealed(fd, OS_SEAL_ALL), 0);
	assert_int_equal(os_memory_is_sealed(fd, OS_SEAL_SIZE), 1);
	assert_int_equal(os_memory_seal(fd, OS_SEAL_ALL),
			 -EPERM); /* nobody changes seals any more */
	assert_int_equal(os_pwrite(fd, "x", 1, 0), 1);
	os_close(fd);
	assert_int_equal(os_open(OS_FOLDER_CURRENT, "/etc/passwd", OS_OPEN_READ, 0, &again), 0);
	assert_int_equal(os_memory_is_sealed(again, OS_SEAL_SIZE), 0);
	os_close(again);
}

static void test_fixed_places(void **state)
{
	/* As snapshots lie: outside of what any sanitizer or the kernel uses by itself. */
	char *place = (char *)0x300000000000;
	void *memory;
	int fd;

	(void)state;
	assert_int_equal(os_memory_new("test", SIZE, &fd), 0);
	assert_int_equal(os_memory_reserve(place, 16 * SIZE), 0);
	assert_int_equal(os_memory_reserve(place + SIZE, SIZE), -EEXIST);
	assert_int_equal(os_memory_map(fd, SIZE, place + SIZE, 0, &memory), -EEXIST);
	assert_int_equal(os_memory_map(fd, SIZE, place + SIZE, OS_MAP_RESERVED, &memory), 0);
	assert_ptr_equal(memory, place + SIZE);
	assert_int_equal(place[SIZE], 0);
	os_memory_unmap(place, 16 * SIZE);
	assert_int_equal(os_memory_map(fd, SIZE, place, 0, &memory), 0);
	os_memory_unmap(memory, SIZE);
	os_close(fd);
}

static void test_private_memory_and_protection(void **state)
{
	void *memory;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(os_memory_map(-1, SIZE, NULL, OS_MAP_WRITE, &memory), 0);
	((char *)memory)[SIZE - 1] = 1;
	assert_int_equal(os_memory_protect(memory, SIZE), 0);
	pid = fork();
	if (pid == 0) {
		die_plainly();
		((volatile char *)memory)[0] = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
	os_memory_unmap(memory, SIZE);
}

static void test_secrets(void **state)
{
	enum os_secret_kind kind;
	void *memory;
	int fd, status;
	pid_t pid;
	char byte;

	(void)state;
	os_limit_raise(OS_LIMIT_LOCKED_BYTES, 1 << 20);
	assert_int_equal(os_secret_map(SIZE, &memory, &kind), 0);
	memset(memory, 0x5a, SIZE);
	assert_true(kind == OS_SECRET_HIDDEN || kind == OS_SECRET_LOCKED ||
		    kind == OS_SECRET_PLAIN);
	if (kind == OS_SECRET_HIDDEN) {
		assert_int_equal(os_open(OS_FOLDER_CURRENT, "/proc/self/mem", OS_OPEN_READ, 0, &fd),
				 0);
		assert_true(os_pread(fd, &byte, 1, (uintptr_t)memory) < 0);
		os_close(fd);
	}
	pid = fork();
	if (pid == 0) {
		die_plainly();
		_exit(((volatile char *)memory)[0] == 0x5a ? 0 : 1); /* not there: dies */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
	os_memory_unmap(memory, SIZE);
}

static void test_secrets_over_the_limit_fall_back(void **state)
{
	enum os_secret_kind kind;
	void *memory;
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct os_sandbox sandbox = { .name = "x",
					      .uid = getuid() ? OS_KEEP_ID : 61234,
					      .gid = OS_KEEP_ID,
					      .is_open = true };
		struct os_sandbox_report report;

		/* Locking is bounded only without CAP_IPC_LOCK. */
		if (os_limit_set(OS_LIMIT_LOCKED_BYTES, 4096) ||
		    os_sandbox_enter(&sandbox, &report) || os_secret_map(1 << 20, &memory, &kind))
			_exit(1);
		memset(memory, 1, 1 << 20);
		_exit(kind == OS_SECRET_PLAIN ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seals),
		cmocka_unit_test(test_fixed_places),
		cmocka_unit_test(test_private_memory_and_protection),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_secrets_over_the_limit_fall_back),
	};

	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
