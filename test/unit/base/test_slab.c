#include "base/base.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct thing {
	char text[200];
};

enum { MAGIC = 0x7468696e, COUNT = 1000 };

static void test_max(void **state)
{
	struct thing *things[COUNT];
	struct slab slab;

	(void)state;
	slab_init(&slab, sizeof(struct thing), COUNT, MAGIC);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			things[i] = slab_alloc(&slab);
			assert_non_null(things[i]);
			assert_int_equal((uintptr_t)things[i] % 16, 0);
			assert_int_equal(things[i]->text[199], 0);
			memset(things[i], 0xaa, sizeof(*things[i]));
		}
		assert_null(slab_alloc(&slab));
		assert_int_equal(slab.used, COUNT);
		for (size_t i = 0; i < COUNT; i++)
			slab_free(&slab, things[(i * 7) % COUNT]);
		assert_int_equal(slab.used, 0);
	}
	slab_free(&slab, NULL);
	slab_fini(&slab);
}

static void test_large(void **state)
{
	struct slab slab;
	void *one, *two;

	(void)state;
	slab_init(&slab, 100000, 2, MAGIC);
	one = slab_alloc(&slab);
	two = slab_alloc(&slab);
	assert_true(one && two && one != two);
	assert_null(slab_alloc(&slab));
	slab_free(&slab, one);
	assert_ptr_equal(slab_alloc(&slab), one);
	slab_fini(&slab); /* takes what is still used with it */

	slab_init(&slab, 8, 0, MAGIC);
	assert_null(slab_alloc(&slab));
	slab_fini(&slab);
}

static void free_twice(struct slab *slab, void *object)
{
	slab_free(slab, object);
	slab_free(slab, object);
}

static void free_of_another(struct slab *slab, void *object)
{
	struct slab other;

	slab_init(&other, sizeof(struct thing), 1, MAGIC + 1);
	slab_free(&other, object);
	slab_fini(&other);
	(void)slab;
}

static int signal_of(void (*wrong)(struct slab *slab, void *object))
{
	struct slab slab;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		slab_init(&slab, sizeof(struct thing), 1, MAGIC);
		wrong(&slab, slab_alloc(&slab));
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_bugs_are_noticed(void **state)
{
	(void)state;
	assert_int_equal(signal_of(free_twice), SIGABRT);
	assert_int_equal(signal_of(free_of_another), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_bugs_are_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
