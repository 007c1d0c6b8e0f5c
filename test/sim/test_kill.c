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

#include "play.h"

struct scenario {
	const char *name, *before, *script;
	unsigned slice; /* one call in so many is tried in the slice */
};

static const struct scenario scenarios[] = {
	{ "handshake", "start\n",
	  "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	  "tls-a< 200 first\n",
	  3 },
	{ "proxied", "start\n",
	  "a> POST /app/one HTTP/1.1\\nHost: localhost\\nContent-Length: 100000\\n\\n\n"
	  "a>> 100000\n"
	  "a< 200 POST /app/one 100000 473899520;\n",
	  3 },
	{ "document", "start\ncold /www/large.bin\n",
	  "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	  "a< 200 abcdefghijklmnopqrstuvwabc\n",
	  3 },
	{ "reload", "start\nconf second\n", "reload\n", 9 },
	{ "start", "", "start\n", 17 },
};

static const char *const roles[] = {
	"run", "worker", "keyholder", "vault", "files", "dialer", "log", "check",
};

static bool is_full;

static void begin(struct play *play, const struct scenario *scenario, uint64_t seed)
{
	play_open(play, seed, 1, 0);
	play->what = scenario->name;
	play_run(play, scenario->before);
	if (scenario->before[0])
		play_wait(play, 0.3); /* what a start leaves to do later */
}

/* Of either configuration: a change that was broken is made or not made. */
static void take_bases(struct play_base ret_bases[2])
{
	static const char *const starts[2] = { "conf first\nstart\n", "conf second\nstart\n" };

	for (size_t i = 0; i < 2; i++) {
		struct play play;

		play_open(&play, 1, 1, 0);
		play_run(&play, starts[i]);
		play_take_base(&play, &ret_bases[i]);
		play_run(&play, "stop\n");
		play_close(&play);
	}
}

/* How many calls each role makes during the scenario. */
static void count_calls(const struct scenario *scenario, uint64_t ret_counts[ARRAY_LEN(roles)])
{
	struct play play;

	begin(&play, scenario, 1);
	sim_trap_set(NULL);
	play_run(&play, scenario->script);
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		ret_counts[i] = sim_calls(roles[i]);
	play_close(&play);
}

/* A supervisor that was killed, or that could not start, is started again, as its operator would. */
static void bring_back(struct play *play)
{
	play_settle(play);
	if (sim_is_stopped(play->supervisor)) {
		/* Nobody watches the supervisor: its operator ends it. */
		sim_signal(play->supervisor, 9);
		play_settle(play);
	}
	for (int tries = 0; tries < 3 && !sim_is_alive(play->supervisor); tries++) {
		play_run(play, "start\n");
		play_settle(play);
	}
}

static bool run_case(const struct scenario *scenario, const struct sim_trap *trap,
		     const struct play_base *bases, uint64_t seed)
{
	struct play play;
	char what[96];
	bool was_sprung;

	snprintf(what, sizeof(what), "%s %s %s %llu", scenario->name, trap->role,
		 trap->kind == SIM_TRAP_KILL ? "kill" : "stop", (unsigned long long)trap->nth);
	begin(&play, scenario, seed);
	play.what = what;
	play.is_rough = true;
	sim_trap_set(trap);
	play_run(&play, scenario->script);
	play_drop_all(&play);
	bring_back(&play);
	was_sprung = sim_trap_was_sprung();
	play_check(&play, bases, 2);
	play_run(&play, "stop\n");
	play_close(&play);
	return was_sprung;
}

static size_t matrix(const struct scenario *scenario, size_t role, uint64_t calls,
		     const struct play_base *bases)
{
	size_t cases = 0;

	/* Where the slice begins differs from role to role and scenario to scenario. */
	for (uint64_t nth = is_full ? 1 : 1 + (role * 5) % scenario->slice; nth <= calls;
	     nth += is_full ? 1 : scenario->slice) {
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
	struct play_base bases[2];

	take_bases(bases);
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

static void test_proxied(void)
{
	run_scenario(&scenarios[1]);
}

static void test_document(void)
{
	run_scenario(&scenarios[2]);
}

static void test_reload(void)
{
	run_scenario(&scenarios[3]);
}

static void test_start(void)
{
	run_scenario(&scenarios[4]);
}

static int one_case(char **argv)
{
	struct play_base bases[2];
	struct sim_trap trap = { .kind = strcmp(argv[3], "kill") ? SIM_TRAP_STOP : SIM_TRAP_KILL,
				 .role = argv[2],
				 .nth = strtoull(argv[4], NULL, 10) };

	play_library_start();
	take_bases(bases);
	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
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
		PLAY_TEST(test_handshake), PLAY_TEST(test_proxied), PLAY_TEST(test_document),
		PLAY_TEST(test_reload),    PLAY_TEST(test_start),
	};

	if (argc >= 5)
		return one_case(argv);
	is_full = getenv("PORTCULLIS_SOAK") || (argc == 2 && strcmp(argv[1], "full") == 0);
	return play_main(tests, ARRAY_LEN(tests));
}
