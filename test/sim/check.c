#include <string.h>

#include "play_internal.h"

enum { WARM_ROUNDS = 40 };

static void fresh_requests(struct play *play)
{
	play_run(play, "check-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 *\n"
		       "tls-b> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "tls-b< 200 small document\n"
		       "check-a> GET /app/fresh HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 GET /app/fresh 0 0;\n"
		       "check-a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 abcdefghijklmnopqrstuvwabc\n"
		       "check-a> GET /none HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 404\n"
		       "check-a close\n"
		       "tls-b close\n");
	play_rest(play);
}

void play_take_base(struct play *play, struct play_base *ret_base)
{
	/* Until each worker has served each. */
	for (unsigned i = 0; i < (play->cpus > 1 ? WARM_ROUNDS : 1); i++)
		fresh_requests(play);
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++) {
		ret_base->descriptors[i] = sim_descriptors(play_roles[i]);
		ret_base->uses[i] = census_of(play_roles[i]);
	}
	ret_base->processes = sim_processes();
}

static void check_stopped(void *owner, int pid, const char *role)
{
	if (sim_is_stopped(pid))
		play_fail(owner, "%s still hangs", role);
}

/* The vault without one of its copies. */
static bool lacks_a_copy(const struct play_base *base, size_t role, size_t descriptors,
			 const struct census *census)
{
	return base->may_lack_a_copy && strcmp(play_roles[role], "vault") == 0 &&
	       descriptors + 1 == base->descriptors[role] &&
	       census->allocations + 1 == base->uses[role].allocations &&
	       census->bytes < base->uses[role].bytes;
}

/* The role that has more or less than it should; -1: none. */
static int unlike(const struct play_base *base)
{
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++) {
		size_t descriptors = sim_descriptors(play_roles[i]);
		struct census census = census_of(play_roles[i]);

		if ((descriptors != base->descriptors[i] ||
		     !census_equal(&census, &base->uses[i])) &&
		    !lacks_a_copy(base, i, descriptors, &census))
			return (int)i;
	}
	return -1;
}

static bool is_like_one(const struct play_base *bases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (unlike(&bases[i]) < 0)
			return true;
	return false;
}

static void fail_unlike(struct play *play, const struct play_base *bases, size_t count)
{
	char text[2048];
	struct writer out = writer_of(text, sizeof(text));

	for (size_t i = 0; i < count; i++) {
		int role = unlike(&bases[i]);
		struct census census = census_of(play_roles[role]);

		write_format(&out, "%s has %zu descriptors, ", play_roles[role],
			     sim_descriptors(play_roles[role]));
		census_write(&census, &out);
		write_format(&out, " instead of %zu descriptors, ", bases[i].descriptors[role]);
		census_write(&bases[i].uses[role], &out);
		write_str(&out, "\n");
	}
	play_fail(play, "%.*s", SPAN_ARG(writer_done(&out)));
}

void play_check(struct play *play, const struct play_base *bases, size_t count)
{
	bool was_rough = play->is_rough;
	unsigned rounds = 0;

	play->is_rough = false;
	if (sim_processes() != bases->processes)
		play_fail(play, "%zu processes instead of %zu", sim_processes(), bases->processes);
	sim_each(check_stopped, play);
	/* Some things go when their time is over (a key that no certificate has any more), what leaked never does. */
	do
		fresh_requests(play);
	while (!is_like_one(bases, count) && ++rounds < WARM_ROUNDS);
	if (!is_like_one(bases, count))
		fail_unlike(play, bases, count);
	play->is_rough = was_rough;
}
