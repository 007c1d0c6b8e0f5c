#include "os_unit.h"

#undef main

/* The same tests that os/linux passes, in the only process of a world. */
int main(void)
{
	struct sim_options options = { .seed = 1, .uid = 1000, .program = os_unit_main };
	int pid, code;

	/* It makes a packet that os.h cannot make. */
	cmocka_set_skip_filter("test_too_many_descriptors_do_not_leak");
	sim_open(&options);
	pid = sim_spawn("test");
	(void)sim_run(NULL, NULL, 3600 * OS_SECOND);
	code = sim_is_alive(pid) ? 1 : sim_exit_code(pid);
	sim_close();
	return code;
}
