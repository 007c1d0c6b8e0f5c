/* kill -9 and a hang of each process at each of its calls during a handshake, a proxied request with a body, a
 * document, a reload, a start. Afterwards what it was doing is lost or asked again, and nothing else: every
 * process is there again, fresh requests succeed, no descriptor is left over.
 *
 *   unit-sim-kill                        a slice
 *   unit-sim-kill full                   every call (so does PORTCULLIS_SOAK=1)
 *   unit-sim-kill SCENARIO ROLE kill|stop NTH [SEED]   one case, with what the program said */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenarios.h"

static const char *const roles[] = {
	"run", "worker", "keyholder", "vault", "files", "dialer", "log", "check", "command",
};

static bool is_full;

/* How many calls each role makes during the scenario. */
static void count_calls(const struct scenario *scenario, uint64_t ret_counts[ARRAY_LEN(roles)])
{
	struct play play;

	scenario_begin(&play, scenario, 1);
	sim_trap_set(NULL);
	play_run(&play, scenario->script);
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		ret_counts[i] = sim_calls(roles[i]);
	play_close(&play);
}

static bool run_case(const struct scenario *scenario, const struct sim_trap *trap,
		     const struct play_base *bases, uint64_t seed)
{
	struct play play;
	char what[96];
	bool was_sprung;

	snprintf(what, sizeof(what), "%s %s %s %llu", scenario->name, trap->role,
		 trap->kind == SIM_TRAP_KILL ? "kill" : "stop", (unsigned long long)trap->nth);
	scenario_begin(&play, scenario, seed);
	play.what = what;
	play.is_rough = true;
	sim_trap_set(trap);
	play_run(&play, scenario->script);
	play_drop_all(&play);
	scenario_bring_back(&play);
	was_sprung = sim_trap_was_sprung();
	scenario_check(&play, scenario);
	play_check(&play, bases, SCENARIO_BASES);
	play_run(&play, "stop\n");
	play_close(&play);
	return was_sprung;
}

static size_t matrix(const struct scenario *scenario, size_t role, uint64_t calls,
		     const struct play_base *bases)
{
	size_t cases = 0;

	/* Where the slice begins differs from role to role and scenario to scenario. */
	for (uint64_t nth = is_full ? 1 : 1 + (role * 5) % scenario->kill_slice; nth <= calls;
	     nth += is_full ? 1 : scenario->kill_slice) {
		struct sim_trap trap = { .role = roles[role], .nth = nth };

		trap.kind = SIM_TRAP_KILL;
		cases += run_case(scenario, &trap, bases, nth);
		trap.kind = SIM_TRAP_STOP;
		cases += run_case(scenario, &trap, bases, nth + 1000000);
	}
	return cases;
}

static void run_scenario(const struct scenario *scenario)
{
	uint64_t counts[ARRAY_LEN(roles)];
	struct play_base bases[SCENARIO_BASES];

	scenario_bases(bases, 1);
	count_calls(scenario, counts);
	for (size_t role = 0; role < ARRAY_LEN(roles); role++) {
		size_t cases = matrix(scenario, role, counts[role], bases);

		if (counts[role])
			play_note("%s: %s: %llu calls, %zu cases", scenario->name, roles[role],
				  (unsigned long long)counts[role], cases);
	}
}

static void test_handshake(void)
{
	run_scenario(&scenarios[0]);
}

/* ---- Who is asked dies, and nothing is lost ---------------------------------------------------------- */

#define HANDSHAKE "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\ntls-a< 200 first\n"
#define DOCUMENT "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\na< 200 small document\n"
#define PROXIED "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\na< 200 GET /app/one 0 0;\n"

/* `deaths` is what dies before it is asked, `role` who dies while it is. */
static const struct asking {
	const char *role, *deaths, *script;
} askings[] = {
	{ "keyholder", "kill keyholder\n", HANDSHAKE },
	{ "vault", "kill vault\n", HANDSHAKE },
	{ "vault", "kill vault\nkill keyholder\n", HANDSHAKE },
	{ "files", "kill files\n", DOCUMENT },
	{ "dialer", "kill dialer\n", PROXIED },
};

/* Nothing may go wrong here, unlike in the matrix: a death costs a wait. Every other call lets others run first, so
 * that whoever is asked in its next life is asked at any moment of it. */
static bool ask_over(const struct asking *asking, uint64_t seed, const struct sim_trap *trap)
{
	struct play play;
	char what[96];
	bool was_sprung;

	snprintf(what, sizeof(what), "asking %zu, %s dies at %llu, seed %llu",
		 (size_t)(asking - askings), asking->role, trap ? (unsigned long long)trap->nth : 0,
		 (unsigned long long)seed);
	play_open(&play, seed, 1, 2);
	play.what = what;
	play_run(&play, "start\nwait 0.3\n");
	sim_trap_set(trap);
	play_run(&play, trap ? "" : asking->deaths);
	play_run(&play, asking->script);
	was_sprung = trap && sim_trap_was_sprung();
	play_run(&play, "stop\n");
	play_close(&play);
	return was_sprung;
}

static void test_nothing_is_lost(void)
{
	uint64_t seeds = is_full ? 200 : 6;

	for (size_t i = 0; i < ARRAY_LEN(askings); i++) {
		uint64_t cases = 0;

		for (uint64_t seed = 1; seed <= seeds; seed++) {
			struct sim_trap trap = { .kind = SIM_TRAP_KILL, .role = askings[i].role };

			(void)ask_over(&askings[i], seed, NULL);
			do {
				trap.nth++;
			} while (ask_over(&askings[i], seed, &trap));
			MUST(trap.nth > 1);
			cases += trap.nth;
		}
		play_note("asking %zu: %s: %llu deaths", i, askings[i].role,
			  (unsigned long long)cases);
	}
}

/* ---- The matrix -------------------------------------------------------------------------------------- */

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

/* Always one of the two configurations, whole. */
static void test_apply(void)
{
	for (size_t i = SCENARIO_APPLIES; i < SCENARIOS; i++)
		run_scenario(&scenarios[i]);
}

static int one_case(char **argv)
{
	struct play_base bases[SCENARIO_BASES];
	struct sim_trap trap = { .kind = strcmp(argv[3], "kill") ? SIM_TRAP_STOP : SIM_TRAP_KILL,
				 .role = argv[2],
				 .nth = strtoull(argv[4], NULL, 10) };

	play_library_start();
	scenario_bases(bases, 1);
	for (size_t i = 0; i < SCENARIOS; i++)
		if (strcmp(scenarios[i].name, argv[1]) == 0)
			run_case(&scenarios[i], &trap, bases,
				 argv[5]                      ? strtoull(argv[5], NULL, 10)
				 : trap.kind == SIM_TRAP_KILL ? trap.nth
							      : trap.nth + 1000000);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct play_test tests[] = {
		PLAY_TEST(test_handshake), PLAY_TEST(test_nothing_is_lost), PLAY_TEST(test_proxied),
		PLAY_TEST(test_named),     PLAY_TEST(test_document),        PLAY_TEST(test_reload),
		PLAY_TEST(test_start),     PLAY_TEST(test_vault),           PLAY_TEST(test_removal),
		PLAY_TEST(test_apply),
	};

	if (argc >= 5)
		return one_case(argv);
	is_full = getenv("PORTCULLIS_SOAK") || (argc == 2 && strcmp(argv[1], "full") == 0);
	return play_main(tests, ARRAY_LEN(tests));
}
