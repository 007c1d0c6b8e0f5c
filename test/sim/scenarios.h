/* What the matrices break, and what they do before and after. */
#pragma once

#include "play.h"

struct scenario {
	const char *name, *before, *script;
	unsigned kill_slice; /* of its calls one in so many is tried in `make test` */
	/* Texts of which the file is one in the end; when its last command was done; NULL: nothing is asked. */
	const char *holds, *done_holds;
};
enum { SCENARIOS = 13, SCENARIO_APPLIES = 9, SCENARIO_BASES = 3 };
extern const struct scenario scenarios[SCENARIOS];

/* The file holds what it may hold after all that, and that runs. */
void scenario_check(struct play *play, const struct scenario *scenario);

/* The world in which it happens, and what a start leaves to do later is done. */
void scenario_begin(struct play *play, const struct scenario *scenario, uint64_t seed);
/* What holds afterwards, of each configuration: a change that was broken is made or not made. Of several workers in
 * several CPUs. */
void scenario_bases(struct play_base ret_bases[SCENARIO_BASES], unsigned cpus);
/* Everything that broke comes back: by itself, but for a supervisor that died, hangs or could not start, which its
 * operator starts again. */
void scenario_bring_back(struct play *play);
