#include "scenarios.h"

#include <signal.h>

const struct scenario scenarios[SCENARIOS] = {
	{ "handshake", "start\nwait 0.3\n",
	  "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	  "tls-a< 200 first\n",
	  3 },
	{ "proxied", "start\nwait 0.3\n",
	  "a> POST /app/one HTTP/1.1\\nHost: localhost\\nX-Forwarded-For: 192.0.2.1, 127.0.0.2\\n"
	  "Content-Length: 100000\\n\\n\n"
	  "a>> 100000\n"
	  "a< 200 POST /app/one 100000 473899520;\n",
	  3 },
	/* The name is not known yet when it is asked for. */
	{ "named", "conf named\nresolver knows-not\nstart\nresolver answers\nwait 2\n",
	  "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	  "a< 200 GET /app/one 0 0;\n",
	  5 },
	{ "document", "start\nwait 0.3\ncold /www/large.bin\n",
	  "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	  "a< 200 abcdefghijklmnopqrstuvwabc\n",
	  3 },
	{ "reload", "start\nwait 0.3\nconf second\n", "reload\n", 9 },
	{ "start", "", "start\n", 17 },
	/* The next vault is given what runs. */
	{ "vault", "start\nwait 0.3\n", "kill vault\nwait 3\n", 9 },
	/* A site goes, and with it what it held. */
	{ "removal", "conf second\nstart\nwait 0.3\nconf first\n", "reload\n", 29 },
	{ "origin", "conf named\nstart\nwait 2\nconf first\n", "reload\n", 29 },
	{ "apply", "start\nwait 0.3\n", "apply second\n", 17, "first second", "second" },
	/* Nobody confirms it: whatever dies, the old one is back. */
	{ "window", "start\nwait 0.3\n", "apply second 20s\nwait 25\n", 29, "first", NULL },
	{ "confirm", "start\nwait 0.3\n", "apply second 20s\nconfirm\nwait 25\n", 29,
	  "first second", "second" },
	{ "rollback", "start\nwait 0.3\napply second\n", "rollback\n", 29, "first second",
	  "first" },
};

void scenario_begin(struct play *play, const struct scenario *scenario, uint64_t seed)
{
	play_open(play, seed, 1, 0);
	play->what = scenario->name;
	play_run(play, scenario->before);
}

void scenario_check(struct play *play, const struct scenario *scenario)
{
	/* A check that hangs has 30 s, and what failed is tried again after 10. */
	if (scenario->holds)
		play_wait(play, 60);
	if (scenario->done_holds && !play->commanded)
		play_holds(play, span_str(scenario->done_holds));
	else if (scenario->holds)
		play_holds(play, span_str(scenario->holds));
}

void scenario_bases(struct play_base ret_bases[SCENARIO_BASES], unsigned cpus)
{
	static const char *const starts[SCENARIO_BASES] = { "conf first\nstart\n",
							    "conf second\nstart\n",
							    "conf named\nstart\n" };

	for (size_t i = 0; i < SCENARIO_BASES; i++) {
		struct play play;

		play_open(&play, 1, cpus, 0);
		play_run(&play, starts[i]);
		play_take_base(&play, &ret_bases[i]);
		play_run(&play, "stop\n");
		play_close(&play);
	}
}

void scenario_bring_back(struct play *play)
{
	play_settle(play);
	if (sim_is_stopped(play->supervisor)) {
		sim_signal(play->supervisor, SIGKILL);
		play_settle(play);
	}
	for (int tries = 0; tries < 3 && !sim_is_alive(play->supervisor); tries++) {
		play_run(play, "start\n");
		play_settle(play);
	}
}
