/* Every call fails once at each place where it is made, with each errno that the kernel could give there, and
 * every allocation of ours once, while a handshake, a proxied request and a reload go on: an outcome, never a crash, a
 * leak or a descriptor left. Afterwards everything is as it was, or whoever died was started again.
 *
 *   unit-sim-fail          a slice
 *   unit-sim-fail full [SCENARIO]   every place, errno and allocation (so does PORTCULLIS_SOAK=1)
 *   unit-sim-fail SCENARIO call N | alloc ROLE NTH     one case */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenarios.h"

enum { SLICE_CALLS = 5, SLICE_ALLOCATIONS = 9 };

static bool is_full;
static const char *only; /* scenario; NULL: all */
static bool is_single;   /* one case, for a closer look */
static struct play_base bases[SCENARIO_BASES];

static void run_case(const struct scenario *scenario, const struct sim_trap *trap, const char *what)
{
	struct play play;

	scenario_begin(&play, scenario, 1);
	play.what = what;
	play.is_rough = true;
	sim_trap_set(trap);
	play_run(&play, scenario->script);
	play_drop_all(&play);
	scenario_bring_back(&play);
	scenario_check(&play, scenario);
	play_check(&play, bases, SCENARIO_BASES);
	play_run(&play, "stop\n");
	play_close(&play);
}

struct seen {
	struct sim_site *sites;
	size_t site_count;
	uint64_t allocations[ARRAY_LEN(play_roles)];
};

static void look(const struct scenario *scenario, struct seen *ret_seen)
{
	const struct sim_site *sites;
	struct play play;

	scenario_begin(&play, scenario, 1);
	sim_trap_set(NULL);
	sim_sites_begin();
	play_run(&play, scenario->script);
	play_settle(&play);
	sites = sim_sites(&ret_seen->site_count);
	ret_seen->sites = malloc(ret_seen->site_count * sizeof(*sites));
	for (size_t i = 0; i < ret_seen->site_count; i++) {
		ret_seen->sites[i] = sites[i];
		/* The world's names end with it. */
		for (size_t k = 0; k < ARRAY_LEN(play_roles); k++)
			if (strcmp(sites[i].role, play_roles[k]) == 0)
				ret_seen->sites[i].role = play_roles[k];
	}
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++)
		ret_seen->allocations[i] = sim_allocations(play_roles[i]);
	play_close(&play);
}

static size_t fail_calls(const struct scenario *scenario, const struct seen *seen, long chosen)
{
	size_t index = 0, cases = 0;

	for (size_t i = 0; i < seen->site_count; i++) {
		const struct sim_site *site = &seen->sites[i];

		for (size_t k = 0; k < site->error_count; k++, index++) {
			char what[128];

			if (chosen >= 0 ? index != (size_t)chosen
					: !is_full && index % SLICE_CALLS !=
							      (size_t)(scenario - scenarios) %
								      SLICE_CALLS)
				continue;
			snprintf(what, sizeof(what), "%s call %zu: %s, %s at %p: %s",
				 scenario->name, index, site->role, site->function, site->site,
				 strerror(-site->errors[k]));
			if (chosen >= 0)
				play_note("%s", what);
			run_case(scenario,
				 &(struct sim_trap){ .kind = SIM_TRAP_FAIL,
						     .role = site->role,
						     .site = site->site,
						     .nth = 1,
						     .error = site->errors[k],
						     .tells = is_single },
				 what);
			cases++;
		}
	}
	return cases;
}

static void fail_allocation(const struct scenario *scenario, const char *role, uint64_t nth)
{
	char what[96];

	snprintf(what, sizeof(what), "%s alloc %s %llu", scenario->name, role,
		 (unsigned long long)nth);
	run_case(scenario,
		 &(struct sim_trap){
			 .kind = SIM_TRAP_ALLOC, .role = role, .nth = nth, .tells = is_single },
		 what);
}

static size_t fail_allocations(const struct scenario *scenario, const struct seen *seen)
{
	size_t cases = 0;

	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++) {
		uint64_t step = is_full ? 1 : SLICE_ALLOCATIONS;

		for (uint64_t nth = is_full ? 1 : 1 + i % step; nth <= seen->allocations[i];
		     nth += step) {
			fail_allocation(scenario, play_roles[i], nth);
			cases++;
		}
	}
	return cases;
}

static void take_bases(void)
{
	scenario_bases(bases, 1);
	for (size_t i = 0; i < SCENARIO_BASES; i++)
		bases[i].may_lack_a_copy = true;
}

static void run_scenario(const struct scenario *scenario)
{
	struct seen seen;
	size_t calls, allocations;

	if (only && strcmp(only, scenario->name) != 0)
		return;
	take_bases();
	look(scenario, &seen);
	calls = fail_calls(scenario, &seen, -1);
	allocations = fail_allocations(scenario, &seen);
	play_note("%s: %zu places, %zu cases of calls, %zu of allocations", scenario->name,
		  seen.site_count, calls, allocations);
	free(seen.sites);
}

static void test_handshake(void)
{
	run_scenario(&scenarios[0]);
}

static void test_proxied(void)
{
	run_scenario(&scenarios[1]);
}

static void test_named(void)
{
	run_scenario(&scenarios[2]);
}

static void test_document(void)
{
	run_scenario(&scenarios[3]);
}

static void test_reload(void)
{
	run_scenario(&scenarios[4]);
}

static void test_start(void)
{
	run_scenario(&scenarios[5]);
}

static void test_vault(void)
{
	run_scenario(&scenarios[6]);
}

static void test_removal(void)
{
	run_scenario(&scenarios[7]);
	run_scenario(&scenarios[8]);
}

static void test_apply(void)
{
	for (size_t i = SCENARIO_APPLIES; i < SCENARIOS; i++)
		run_scenario(&scenarios[i]);
}

static int one_case(int argc, char **argv)
{
	struct seen seen;

	is_single = true;
	play_library_start();
	take_bases();
	for (size_t i = 0; i < SCENARIOS; i++) {
		if (strcmp(scenarios[i].name, argv[1]) != 0)
			continue;
		look(&scenarios[i], &seen);
		if (argc == 4)
			(void)fail_calls(&scenarios[i], &seen, strtol(argv[3], NULL, 10));
		else
			fail_allocation(&scenarios[i], argv[3], strtoull(argv[4], NULL, 10));
		free(seen.sites);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct play_test tests[] = {
		PLAY_TEST(test_handshake), PLAY_TEST(test_proxied), PLAY_TEST(test_named),
		PLAY_TEST(test_document),  PLAY_TEST(test_reload),  PLAY_TEST(test_start),
		PLAY_TEST(test_vault),     PLAY_TEST(test_removal), PLAY_TEST(test_apply),
	};

	if (argc >= 4)
		return one_case(argc, argv);
	is_full = getenv("PORTCULLIS_SOAK") || (argc > 1 && strcmp(argv[1], "full") == 0);
	only = argc == 3 ? argv[2] : NULL;
	return play_main(tests, ARRAY_LEN(tests));
}
