#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proc/supervisor_internal.h"

static struct plan *new_plan(uint64_t change, bool has_roots)
{
	struct ipc_plan_row root = { .what = IPC_PLAN_ROOT, .id = 5 },
			    link = { .what = IPC_PLAN_ROOT_LINK, .id = 5 };
	struct plan *plan;

	assert_int_equal(plan_new(change, &plan), 0);
	assert_int_equal(plan_add_row(plan, &root, SPAN("/srv"),
				      has_roots ? open("/", O_PATH | O_DIRECTORY) : -1),
			 0);
	if (has_roots)
		assert_int_equal(plan_add_row(plan, &link, SPAN("name\0target"),
					      open("/", O_PATH | O_DIRECTORY)),
				 0);
	return plan;
}

static size_t count_open(const struct plan *plan)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->row_count; i++)
		count += plan->rows[i].fd >= 0;
	return count;
}

/* From no descriptor left to all that it takes: a plan is whole or there is none. */
static void test_roots_are_taken_whole_or_not_at_all(void **state)
{
	struct plan *running = new_plan(1, true);
	struct rlimit before, now;
	unsigned failed = 0;
	int outcome = -1, first = dup(0);

	(void)state;
	close(first);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (unsigned room = 0; outcome; room++) {
		struct plan *plan = new_plan(2, false);

		now = (struct rlimit){ (rlim_t)first + room, before.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
		outcome = plan_take_roots(plan, running);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (outcome) {
			assert_int_equal(outcome, -EMFILE);
			failed++;
		} else {
			assert_int_equal(count_open(plan), 2);
			assert_int_equal(plan_files_version(plan), plan_files_version(running));
		}
		plan_free(plan);
	}
	assert_int_equal(failed, 2);
	plan_free(running);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roots_are_taken_whole_or_not_at_all),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
