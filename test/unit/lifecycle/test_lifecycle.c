/* Scripts of events and the actions that they must bring, then thousands of random orders of death, ready
 * and answers, after each of which everything must have come to rest in the right state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ipc/ipc.h"
#include "ipc/ipc.h"
#include "ipc/ipc.h"
#include "ipc/ipc.h"
#include "ipc/ipc.h"
#include "ipc/ipc.h"
#include "lifecycle/lifecycle.h"

#define MS UINT64_C(1000000)

static const struct lifecycle_rule rules[IPC_KIND_COUNT] = {
	[IPC_WORKER] = { true, true, IPC_TO_KEYHOLDER | IPC_TO_FILES, 0, false },
	[IPC_KEYHOLDER] = { true, true, IPC_TO_VAULT, 0, false },
	[IPC_VAULT] = { false, true, 0, 0, false },
	[IPC_FILES] = { false, true, 0, 2, true },
	[IPC_LOG] = { false, true, 0, 0, false },
};
static const char *const whats[] = {
	[LIFECYCLE_SPAWN] = "spawn",
	[LIFECYCLE_KILL] = "kill",
	[LIFECYCLE_COMPILE] = "compile",
	[LIFECYCLE_ABORT_COMPILE] = "abort",
	[LIFECYCLE_GATHER] = "gather",
	[LIFECYCLE_WELCOME] = "welcome",
	[LIFECYCLE_LINK] = "link",
	[LIFECYCLE_PREPARE] = "prepare",
	[LIFECYCLE_STORE] = "store",
	[LIFECYCLE_RESTORE] = "restore",
	[LIFECYCLE_DECIDED] = "decided",
	[LIFECYCLE_COMMIT] = "commit",
	[LIFECYCLE_ABANDON] = "abandon",
	[LIFECYCLE_ADOPT] = "adopt",
	[LIFECYCLE_DRAIN] = "drain",
	[LIFECYCLE_CHANGE_DONE] = "done",
	[LIFECYCLE_CHANGE_FAILED] = "failed",
	[LIFECYCLE_CRASH_LOOP] = "loop",
	[LIFECYCLE_EXIT] = "exit",
};

/* ---- Scripts --------------------------------------------------------------------------------------- */

/* Events: `change file|data`, `signal`, `given MS` (to be confirmed), `stored`, `not-stored`, `confirm`, `hold MS`, `compiled worker,files:2*2,…[!]` (version 2, two of them; ! wants the vault's part), `broken` (the compile
 * failed), `gathered`, `not-gathered`, `ready P`, `exited P`, `prepared P N`, `committed P N`, `refused P N`, `beat P`,
 * `unlinked P Q`, `wait MS`, `stop MS`. P is kind and slot (`worker1`), a draining one `worker1-`, the newer of two `files0*`. Expectations stand in
 * order behind `>`, blank between. */
struct step {
	const char *event, *expected;
};

struct world {
	struct lifecycle *life;
	uint64_t now_ns;
	uint64_t beat;
};

static void process_name(const struct world *world, uint32_t index, char *out, size_t size)
{
	const struct lifecycle_process *process = lifecycle_process_at(world->life, index);

	snprintf(out, size, "%s%u", ipc_kind_name(process->kind), process->slot);
}

static uint32_t process_index(const struct world *world, const char *name)
{
	bool leaving = strchr(name, '-') != NULL;
	bool newest = strchr(name, '*') != NULL;
	char text[64], want[64];
	uint32_t found = UINT32_MAX;

	snprintf(want, sizeof(want), "%.*s", (int)strcspn(name, " -*"), name);
	for (uint32_t i = 0; lifecycle_process_at(world->life, i); i++) {
		const struct lifecycle_process *process = lifecycle_process_at(world->life, i);

		if (process->state == LIFECYCLE_UNUSED || process->is_retired != leaving)
			continue;
		process_name(world, i, text, sizeof(text));
		if (strcmp(text, want) == 0 && (found == UINT32_MAX || newest))
			found = i;
	}
	if (found == UINT32_MAX)
		fail_msg("no process %s", name);
	return found;
}

/* What is due was done: else its owner would turn and turn. */
static void wait_ms(struct world *world, uint64_t ms)
{
	lifecycle_tick(world->life, world->now_ns += ms * MS);
	assert_true(lifecycle_deadline_ns(world->life) > world->now_ns);
}

static void unlink_from(struct world *world, uint32_t index, const char *name)
{
	const struct lifecycle_process *other =
		lifecycle_process_at(world->life, process_index(world, name));

	lifecycle_on_unlinked(world->life, index, other->kind, other->instance);
}

static void gather_actions(struct world *world, char *out, size_t size)
{
	struct lifecycle_action action;
	size_t len = 0;

	out[0] = 0;
	while (lifecycle_next(world->life, &action)) {
		char name[64] = "", peer[64] = "";

		switch ((int)action.what) {
		case LIFECYCLE_COMPILE:
		case LIFECYCLE_ABORT_COMPILE:
		case LIFECYCLE_STORE:
		case LIFECYCLE_DECIDED:
		case LIFECYCLE_CHANGE_DONE:
		case LIFECYCLE_CHANGE_FAILED:
			snprintf(name, sizeof(name), ":%d", (int)action.change);
			break;
		case LIFECYCLE_EXIT:
		case LIFECYCLE_RESTORE:
			break;
		default:
			name[0] = ':';
			process_name(world, action.process, name + 1, sizeof(name) - 1);
		}
		if (action.what == LIFECYCLE_LINK) {
			peer[0] = ':';
			process_name(world, action.peer, peer + 1, sizeof(peer) - 1);
		} else if (action.what == LIFECYCLE_ADOPT) {
			snprintf(peer, sizeof(peer), ":%u%s", action.slot, action.on ? "+" : "-");
		} else if (action.what == LIFECYCLE_PREPARE || action.what == LIFECYCLE_COMMIT ||
			   action.what == LIFECYCLE_ABANDON || action.what == LIFECYCLE_GATHER) {
			snprintf(peer, sizeof(peer), ":%d", (int)action.change);
		}
		len += (size_t)snprintf(out + len, size - len, "%s%s%s%s", len ? " " : "",
					whats[action.what], name, peer);
		assert_true(len < size);
	}
}

static void parse_wants(const char *text, struct lifecycle_wants *ret_wants)
{
	*ret_wants = (struct lifecycle_wants){ .needs_gather = strchr(text, '!') != NULL };
	while (*text && *text != '!') {
		size_t len = strcspn(text, ",:!");

		for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
			const char *name = ipc_kind_name((enum ipc_kind)kind);
			char *end = NULL;

			if (strlen(name) != len || memcmp(name, text, len) != 0)
				continue;
			ret_wants->wanted[kind] = true;
			if (text[len] == ':')
				ret_wants->version[kind] = strtoull(text + len + 1, &end, 10);
			if (end && *end == '*')
				ret_wants->count[kind] = (uint32_t)strtoul(end + 1, NULL, 10);
		}
		text += strcspn(text, ",!");
		text += *text == ',';
	}
}

static void event(struct world *world, const char *line)
{
	const char *rest = strchr(line, ' ') ? strchr(line, ' ') + 1 : "";
	const char *number_at = strchr(rest, ' ');
	uint64_t number = number_at ? strtoull(number_at, NULL, 10) : 0;
	struct lifecycle_wants wants;

	if (!strncmp(line, "change", 6))
		lifecycle_change(world->life,
				 !strcmp(rest, "data") ? LIFECYCLE_DATA : LIFECYCLE_COMPILE_FILE);
	else if (!strcmp(line, "signal"))
		lifecycle_signal(world->life);
	else if (!strncmp(line, "given", 5))
		lifecycle_change_given(world->life, (uint32_t)strtoul(rest, NULL, 10));
	else if (!strncmp(line, "hold", 4))
		lifecycle_hold(world->life, (uint32_t)strtoul(rest, NULL, 10));
	else if (!strcmp(line, "confirm"))
		lifecycle_confirm(world->life);
	else if (!strcmp(line, "stored"))
		lifecycle_on_stored(world->life, true);
	else if (!strcmp(line, "not-stored"))
		lifecycle_on_stored(world->life, false);
	else if (!strncmp(line, "compiled", 8))
		parse_wants(rest, &wants), lifecycle_on_compiled(world->life, true, &wants);
	else if (!strcmp(line, "broken"))
		lifecycle_on_compiled(world->life, false, NULL);
	else if (!strcmp(line, "not-gathered"))
		lifecycle_on_gathered(world->life, false);
	else if (!strcmp(line, "gathered"))
		lifecycle_on_gathered(world->life, true);
	else if (!strncmp(line, "ready", 5))
		lifecycle_on_ready(world->life, process_index(world, rest));
	else if (!strncmp(line, "exited", 6))
		lifecycle_on_exited(world->life, process_index(world, rest));
	else if (!strncmp(line, "prepared", 8))
		lifecycle_on_prepared(world->life, process_index(world, rest), number);
	else if (!strncmp(line, "committed", 9))
		lifecycle_on_committed(world->life, process_index(world, rest), number);
	else if (!strncmp(line, "refused", 7))
		lifecycle_on_refused(world->life, process_index(world, rest), number);
	else if (!strncmp(line, "unlinked", 8))
		unlink_from(world, process_index(world, rest), strchr(rest, ' ') + 1);
	else if (!strncmp(line, "beat", 4))
		lifecycle_on_heartbeat(world->life, process_index(world, rest), ++world->beat);
	else if (!strncmp(line, "stop", 4))
		lifecycle_stop(world->life, (uint32_t)strtoul(rest, NULL, 10));
	else if (!strncmp(line, "wait", 4))
		wait_ms(world, strtoull(rest, NULL, 10));
	else
		fail_msg("what is %s?", line);
}

static void run(uint32_t slot_count, const struct step *steps)
{
	struct world world = { .now_ns = 1000 * MS };

	assert_int_equal(lifecycle_new(rules, slot_count, world.now_ns, &world.life), 0);
	for (; steps->event; steps++) {
		char actions[1024];

		event(&world, steps->event);
		gather_actions(&world, actions, sizeof(actions));
		if (strcmp(actions, steps->expected) != 0)
			fail_msg("%s:\n  is     %s\n  should %s", steps->event, actions,
				 steps->expected);
	}
	lifecycle_free(world.life);
}

#define START_ONE \
	{ "change file", "compile:1" }, { "compiled worker", "spawn:worker0" }, \
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" }, \
		{ "prepared worker0 1", "decided:1 commit:worker0:1" }, \
	{ \
		"committed worker0 1", "done:1" \
	}

#define START_TWO \
	{ "change file", "compile:1" }, { "compiled worker", "spawn:worker0 spawn:worker1" }, \
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" }, \
		{ "ready worker1", "welcome:worker1 prepare:worker1:1" }, \
		{ "prepared worker0 1", "" }, \
		{ "prepared worker1 1", "decided:1 commit:worker0:1 commit:worker1:1" }, \
		{ "committed worker0 1", "adopt:worker0:1+" }, \
	{ \
		"committed worker1 1", "adopt:worker0:1- done:1" \
	}

static void test_start(void **state)
{
	static const struct step steps[] = { START_ONE, { NULL, NULL } };

	(void)state;
	run(1, steps);
}

#define GIVEN(n) \
	{ "compiled worker", "prepare:worker0:" n }, \
	{ \
		"prepared worker0 " n, "store:" n \
	}

/* A given text becomes the file when all have prepared it and before anybody runs it; else nothing changed. */
static void test_given(void **state)
{
	static const struct step steps[] = {
		START_ONE,
		{ "given 0", "compile:2" },
		{ "compiled worker", "prepare:worker0:2" },
		{ "stored", "" },
		{ "prepared worker0 2", "store:2" },
		{ "wait 700000", "" },
		{ "stored", "decided:2 commit:worker0:2" },
		{ "stored", "" },
		{ "committed worker0 2", "done:2" },
		/* Nothing is to be confirmed. */
		{ "wait 100000", "" },
		{ "given 0", "compile:3" },
		GIVEN("3"),
		{ "not-stored", "abandon:worker0:3 failed:3" },
		{ "given 0", "compile:4" },
		{ "broken", "failed:4" },
		/* It stands for no reload, and no reload for it; and who dies meanwhile gets what was decided. */
		{ "change file", "compile:5" },
		{ "given 0", "" },
		{ "change file", "" },
		{ "broken", "failed:5 compile:6" },
		{ "broken", "failed:6 compile:7" },
		GIVEN("7"),
		{ "exited worker0", "spawn:worker0" },
		{ "stored", "decided:7" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:7" },
		{ "prepared worker0 7", "commit:worker0:7" },
		{ "committed worker0 7", "done:7" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_confirm(void **state)
{
	static const struct step steps[] = {
		START_ONE,
		/* Refused: there is nothing to confirm. */
		{ "given 1000", "compile:2" },
		{ "broken", "failed:2" },
		{ "wait 2000", "" },
		{ "beat worker0", "" },
		{ "given 400", "compile:3" },
		GIVEN("3"),
		{ "stored", "decided:3 commit:worker0:3" },
		{ "wait 500", "" },
		{ "committed worker0 3", "done:3" },
		{ "wait 300", "" },
		{ "confirm", "" },
		{ "beat worker0", "" },
		{ "wait 500", "" },
		{ "given 400", "compile:4" },
		GIVEN("4"),
		{ "stored", "decided:4 commit:worker0:4" },
		{ "committed worker0 4", "done:4" },
		{ "beat worker0", "" },
		/* A reload is under way at the deadline: behind it the file of before is put back and read. */
		{ "change file", "compile:5" },
		{ "wait 500", "" },
		{ "change data", "" },
		{ "broken", "failed:5 restore compile:6" },
		{ "broken", "failed:6" },
		{ "beat worker0", "" },
		{ "wait 500", "" },
		/* It could not be put back: once more. */
		{ "hold 300", "" },
		{ "wait 300", "restore compile:7" },
		{ "broken", "failed:7" },
		{ "hold 0", "restore compile:8" },
		{ "broken", "failed:8" },
		{ "given 100", "compile:9" },
		GIVEN("9"),
		{ "stored", "decided:9 commit:worker0:9" },
		{ "committed worker0 9", "done:9" },
		/* It was put back, and what is on the disk could not be read: what runs was not confirmed. */
		{ "beat worker0", "" },
		{ "wait 100", "restore compile:10" },
		{ "broken", "failed:10" },
		{ "confirm", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 2000", "restore compile:11" },
		{ "broken", "failed:11" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "restore compile:12" },
		{ "compiled worker", "prepare:worker0:12" },
		{ "prepared worker0 12", "decided:12 commit:worker0:12" },
		{ "committed worker0 12", "done:12" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "beat worker0", "" },
		{ "wait 4000", "" },
		{ "stop 1000", "drain:worker0" },
		{ "wait 200", "" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_start_broken(void **state)
{
	static const struct step steps[] = { { "change file", "compile:1" },
					     { "broken", "failed:1" },
					     { "stop 0", "exit" },
					     { NULL, NULL } };

	(void)state;
	run(1, steps);
}

/* What the vault was given for a change that fails before its `prepare` it must forget. */
static void test_not_gathered(void **state)
{
	static const struct step steps[] = {
		{ "change file", "compile:1" },
		{ "compiled worker,vault!", "spawn:worker0 spawn:vault0" },
		{ "ready worker0", "welcome:worker0" },
		{ "ready vault0", "welcome:vault0 gather:vault0:1" },
		{ "not-gathered", "abandon:vault0:1 failed:1 drain:worker0 drain:vault0" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

/* Everything that a text with TLS and files wants; the vault has its say before anybody prepares. */
static void test_start_with_helpers(void **state)
{
	static const struct step steps[] = {
		{ "change file", "compile:1" },
		{ "compiled worker,keyholder,vault!",
		  "spawn:worker0 spawn:keyholder0 spawn:vault0" },
		{ "ready worker0", "welcome:worker0" },
		{ "ready vault0", "welcome:vault0 gather:vault0:1" },
		{ "exited vault0", "spawn:vault0" },
		{ "ready vault0", "welcome:vault0 gather:vault0:1" },
		{ "gathered", "prepare:vault0:1 prepare:worker0:1" },
		{ "ready keyholder0", "welcome:keyholder0 prepare:keyholder0:1" },
		{ "prepared keyholder0 1", "" },
		{ "prepared worker0 1", "" },
		{ "prepared vault0 1",
		  "decided:1 commit:vault0:1 link:keyholder0:vault0 commit:keyholder0:1 "
		  "link:worker0:keyholder0 commit:worker0:1" },
		{ "committed worker0 1", "" },
		{ "committed vault0 1", "" },
		{ "committed keyholder0 1", "done:1" },
		/* A new life of either end brings a new channel. */
		{ "exited keyholder0", "spawn:keyholder0" },
		{ "ready keyholder0",
		  "welcome:keyholder0 link:keyholder0:vault0 prepare:keyholder0:1" },
		{ "prepared keyholder0 1", "commit:keyholder0:1 link:worker0:keyholder0" },
		{ "committed keyholder0 1", "" },
		{ "exited vault0", "" },
		{ "wait 100", "spawn:vault0" },
		{ "ready vault0", "welcome:vault0 prepare:vault0:1" },
		{ "prepared vault0 1", "commit:vault0:1 link:keyholder0:vault0" },
		{ "committed vault0 1", "" },
		/* A channel may end while both live. */
		{ "unlinked worker0 keyholder0", "" },
		{ "wait 50", "" },
		{ "wait 50", "link:worker0:keyholder0" },
		{ "wait 200", "" },
		/* The end was a death, which is told a moment later: one new channel, not two. */
		{ "unlinked worker0 keyholder0", "" },
		{ "exited keyholder0", "" },
		{ "wait 50", "" },
		{ "wait 50", "spawn:keyholder0" },
		{ "ready keyholder0",
		  "welcome:keyholder0 link:keyholder0:vault0 prepare:keyholder0:1" },
		{ "wait 200", "" },
		{ "prepared keyholder0 1", "commit:keyholder0:1 link:worker0:keyholder0" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

/* Nobody is asked before he knows what is running, whoever dies, also amid a change. */
static void test_who_is_asked_knows_the_plan(void **state)
{
	static const struct step steps[] = {
		{ "change file", "compile:1" },
		{ "compiled worker,keyholder,vault",
		  "spawn:worker0 spawn:keyholder0 spawn:vault0" },
		{ "ready vault0", "welcome:vault0 prepare:vault0:1" },
		{ "ready keyholder0", "welcome:keyholder0 prepare:keyholder0:1" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" },
		{ "prepared vault0 1", "" },
		{ "prepared keyholder0 1", "" },
		{ "prepared worker0 1",
		  "decided:1 commit:vault0:1 link:keyholder0:vault0 commit:keyholder0:1 "
		  "link:worker0:keyholder0 commit:worker0:1" },
		{ "committed vault0 1", "" },
		{ "committed keyholder0 1", "" },
		{ "committed worker0 1", "done:1" },
		{ "change file", "compile:2" },
		{ "compiled worker,keyholder,vault",
		  "prepare:vault0:2 prepare:keyholder0:2 prepare:worker0:2" },
		{ "exited vault0", "spawn:vault0" },
		{ "ready vault0", "welcome:vault0 prepare:vault0:1" },
		/* Who asks may be new as well: it gets its channels at once. */
		{ "exited worker0", "spawn:worker0" },
		{ "ready worker0", "welcome:worker0 link:worker0:keyholder0 prepare:worker0:1" },
		{ "prepared vault0 1", "commit:vault0:1 prepare:vault0:2 link:keyholder0:vault0" },
		{ "exited keyholder0", "spawn:keyholder0" },
		{ "ready keyholder0",
		  "welcome:keyholder0 link:keyholder0:vault0 prepare:keyholder0:1" },
		{ "prepared keyholder0 1",
		  "commit:keyholder0:1 prepare:keyholder0:2 link:worker0:keyholder0" },
		{ "prepared worker0 1", "commit:worker0:1 prepare:worker0:2" },
		{ "prepared worker0 2", "" },
		{ "prepared keyholder0 2", "" },
		{ "prepared vault0 2",
		  "decided:2 commit:vault0:2 commit:keyholder0:2 commit:worker0:2" },
		/* It was told nothing yet: its channel, which is due, waits for that. */
		{ "unlinked worker0 keyholder0", "" },
		{ "exited keyholder0", "" },
		{ "wait 100", "spawn:keyholder0" },
		{ "ready keyholder0",
		  "welcome:keyholder0 link:keyholder0:vault0 prepare:keyholder0:2" },
		{ "unlinked keyholder0 vault0", "" },
		{ "wait 100", "link:keyholder0:vault0" },
		{ "prepared keyholder0 2", "commit:keyholder0:2 link:worker0:keyholder0" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

#define START_FILES \
	{ "change file", "compile:1" }, \
		{ "compiled worker,files:5*2", "spawn:worker0 spawn:files0 spawn:files1" }, \
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" }, \
		{ "ready files0", "welcome:files0 prepare:files0:1" }, \
		{ "prepared worker0 1", "" }, { "prepared files0 1", "" }, \
		{ "ready files1", "welcome:files1 prepare:files1:1" }, \
		{ "prepared files1 1", \
		  "decided:1 commit:files0:1 commit:files1:1 link:worker0:files0 " \
		  "link:worker0:files1 commit:worker0:1" }, \
		{ "committed worker0 1", "" }, { "committed files0 1", "" }, \
	{ \
		"committed files1 1", "done:1" \
	}
#define FILES1_HANGS \
	{ "wait 500", "" }, { "beat worker0", "" }, { "beat files0", "" }, { "wait 500", "" }, \
		{ "beat worker0", "" }, { "beat files0", "" }, { "wait 500", "" }, \
		{ "beat worker0", "" }, { "beat files0", "" }, \
	{ \
		"wait 500", "kill:files1" \
	}

/* Each life of either gets a channel, and the other keeps its own. */
static void test_several_of_a_kind(void **state)
{
	static const struct step steps[] = {
		START_FILES,
		{ "exited files1", "spawn:files1" },
		{ "ready files1", "welcome:files1 prepare:files1:1" },
		{ "prepared files1 1", "commit:files1:1 link:worker0:files1" },
		{ "committed files1 1", "" },
		/* One of its channels ends, twice over: that one is made anew. */
		{ "unlinked worker0 files1", "" },
		{ "unlinked worker0 files1", "" },
		{ "wait 50", "" },
		{ "wait 50", "link:worker0:files1" },
		{ "wait 200", "" },
		{ "exited worker0", "spawn:worker0" },
		{ "ready worker0", "welcome:worker0 link:worker0:files0 link:worker0:files1 "
				   "prepare:worker0:1" },
		{ "prepared worker0 1", "commit:worker0:1" },
		{ "committed worker0 1", "" },
		/* A change that wants fewer, and so others. */
		{ "change file", "compile:2" },
		{ "compiled worker,files:6", "spawn:files0 prepare:worker0:2" },
		{ "ready files0*", "welcome:files0 prepare:files0:2" },
		{ "prepared worker0 2", "" },
		{ "prepared files0* 2", "decided:2 drain:files0 drain:files1 commit:files0:2 "
					"link:worker0:files0 commit:worker0:2" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

/* Its disk is dead, so not even a signal ends it: no change and no stop waits for it. */
static void test_one_that_hangs_for_good(void **state)
{
	static const struct step steps[] = {
		START_FILES,
		FILES1_HANGS,
		{ "change data", "prepare:files0:2 prepare:worker0:2" },
		{ "prepared worker0 2", "" },
		{ "prepared files0 2", "decided:2 commit:files0:2 commit:worker0:2" },
		{ "committed worker0 2", "" },
		{ "committed files0 2", "done:2" },
		/* The disk answers: it ends, and its next life has what is running. */
		{ "exited files1", "spawn:files1" },
		{ "ready files1", "welcome:files1 prepare:files1:2" },
		{ "prepared files1 2", "commit:files1:2 link:worker0:files1" },
		{ "committed files1 2", "" },
		{ "beat files1", "" },
		FILES1_HANGS,
		{ "stop 0", "kill:worker0" },
		{ "exited worker0", "kill:files0" },
		{ "exited files0", "" },
		{ "wait 2999", "" },
		{ "wait 1", "exit" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

/* What a change itself brings it needs: one that does not prepare it refuses the change. */
static void test_a_new_one_that_hangs(void **state)
{
	static const struct step steps[] = {
		START_FILES,
		{ "change file", "compile:2" },
		{ "compiled worker,files:6", "spawn:files0 prepare:worker0:2" },
		{ "prepared worker0 2", "" },
		{ "exited files0*", "spawn:files0" },
		{ "exited files0*", "" },
		{ "wait 100", "spawn:files0" },
		{ "exited files0*", "abandon:worker0:2 failed:2" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_restart_and_adopt(void **state)
{
	static const struct step steps[] = {
		START_TWO,
		{ "exited worker1", "adopt:worker0:1+ spawn:worker1" },
		{ "ready worker1", "welcome:worker1 prepare:worker1:1" },
		{ "prepared worker1 1", "commit:worker1:1" },
		{ "committed worker1 1", "adopt:worker0:1-" },
		/* Both dead: nobody is left to adopt; whoever serves first takes both. */
		{ "exited worker0", "adopt:worker1:0+ spawn:worker0" },
		{ "exited worker1", "" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" },
		{ "prepared worker0 1", "commit:worker0:1" },
		{ "committed worker0 1", "adopt:worker0:1+" },
		{ "wait 100", "spawn:worker1" },
		{ NULL, NULL },
	};

	(void)state;
	run(2, steps);
}

#define HALF_A_SECOND \
	{ "wait 500", "" }, \
	{ \
		"beat worker0", "" \
	}
#define TWO_SECONDS_OF_BIRTH \
	HALF_A_SECOND, HALF_A_SECOND, HALF_A_SECOND, { "beat worker1", "" }, HALF_A_SECOND, \
	{ \
		"beat worker1", "" \
	}

static void test_hang(void **state)
{
	static const struct step steps[] = {
		START_TWO,
		{ "wait 500", "" },
		{ "beat worker0", "" },
		{ "wait 500", "" },
		{ "beat worker0", "" },
		{ "wait 500", "" },
		{ "beat worker0", "" },
		{ "wait 499", "" },
		{ "wait 1", "kill:worker1 adopt:worker0:1+" },
		{ "exited worker1", "spawn:worker1" },
		/* The supervisor itself was stopped for a minute: nobody else is to blame. */
		{ "beat worker0", "" },
		{ "wait 4999", "" },
		{ "beat worker0", "" },
		/* A birth is watched from its first step on. */
		{ "exited worker1", "" },
		{ "wait 100", "spawn:worker1" },
		HALF_A_SECOND,
		HALF_A_SECOND,
		HALF_A_SECOND,
		{ "wait 499", "" },
		{ "wait 1", "kill:worker1" },
		/* And one that goes on and on, but never gets ready, is ended too. */
		{ "exited worker1", "" },
		{ "beat worker0", "" },
		{ "wait 200", "spawn:worker1" },
		TWO_SECONDS_OF_BIRTH,
		TWO_SECONDS_OF_BIRTH,
		TWO_SECONDS_OF_BIRTH,
		TWO_SECONDS_OF_BIRTH,
		HALF_A_SECOND,
		{ "beat worker1", "" },
		HALF_A_SECOND,
		HALF_A_SECOND,
		{ "beat worker1", "" },
		{ "wait 499", "" },
		{ "wait 1", "kill:worker1" },
		{ NULL, NULL },
	};

	(void)state;
	run(2, steps);
}

static void test_back_off(void **state)
{
	static const struct step steps[] = {
		START_ONE,
		{ "exited worker0", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 99", "" },
		{ "wait 1", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 200", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 399", "" },
		{ "wait 1", "spawn:worker0" },
		{ "exited worker0", "loop:worker0" },
		{ "wait 800", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 1600", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 3200", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 6400", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 9999", "" },
		{ "wait 1", "spawn:worker0" },
		{ "exited worker0", "" },
		{ "wait 9999", "" },
		{ "wait 1", "spawn:worker0" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" },
		{ "beat worker0", "" },
		{ "wait 10000", "" },
		{ "exited worker0", "spawn:worker0" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_change_refused(void **state)
{
	static const struct step steps[] = {
		START_TWO,
		{ "change file", "compile:2" },
		{ "compiled worker", "prepare:worker0:2 prepare:worker1:2" },
		{ "prepared worker0 2", "" },
		{ "refused worker1 2", "abandon:worker0:2 abandon:worker1:2 failed:2" },
		{ "prepared worker1 2", "" },
		/* The next one starts clean. */
		{ "change data", "prepare:worker0:3 prepare:worker1:3" },
		{ "prepared worker0 3", "" },
		{ "prepared worker1 3", "decided:3 commit:worker0:3 commit:worker1:3" },
		{ "committed worker0 3", "" },
		{ "committed worker1 3", "done:3" },
		{ NULL, NULL },
	};

	(void)state;
	run(2, steps);
}

static void test_change_latest_wins(void **state)
{
	static const struct step steps[] = {
		START_ONE,
		{ "change file", "compile:2" },
		{ "change data", "" },
		{ "change file", "" },
		{ "change data", "" },
		{ "compiled worker", "prepare:worker0:2" },
		{ "prepared worker0 2", "decided:2 commit:worker0:2" },
		{ "committed worker0 2", "done:2 compile:3" },
		{ "wait 500", "" },
		{ "beat worker0", "" },
		{ "wait 29500", "abort:3 failed:3" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

/* Many in a row are few changes: the first at once, what comes within a second of it is one more. */
static void test_signals(void **state)
{
	static const struct step steps[] = {
		START_ONE,
		{ "signal", "compile:2" },
		{ "signal", "" },
		{ "compiled worker", "prepare:worker0:2" },
		{ "prepared worker0 2", "decided:2 commit:worker0:2" },
		{ "committed worker0 2", "done:2" },
		{ "signal", "" },
		{ "wait 999", "" },
		{ "signal", "" },
		{ "wait 1", "compile:3" },
		{ "wait 1500", "" },
		{ "beat worker0", "" },
		/* It takes longer than that: the next is one change behind it. */
		{ "signal", "" },
		{ "signal", "" },
		{ "broken", "failed:3 compile:4" },
		{ "broken", "failed:4" },
		/* Who waits for an answer is not held up, and what he brings is what the signal was sent for. */
		{ "signal", "" },
		{ "change file", "compile:5" },
		{ "broken", "failed:5" },
		{ "wait 1200", "" },
		{ "beat worker0", "" },
		{ "signal", "compile:6" },
		{ "broken", "failed:6" },
		/* Other changes do not read the file. */
		{ "signal", "" },
		{ "change data", "prepare:worker0:7" },
		{ "prepared worker0 7", "decided:7 commit:worker0:7" },
		{ "committed worker0 7", "done:7" },
		{ "wait 1000", "compile:8" },
		{ "broken", "failed:8" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_death_while_changing(void **state)
{
	static const struct step steps[] = {
		START_TWO,
		{ "change file", "compile:2" },
		{ "compiled worker", "prepare:worker0:2 prepare:worker1:2" },
		{ "prepared worker0 2", "" },
		/* The newborn serves what is running first, then takes part. */
		{ "exited worker1", "adopt:worker0:1+ spawn:worker1" },
		{ "ready worker1", "welcome:worker1 prepare:worker1:1" },
		{ "prepared worker1 1", "commit:worker1:1 prepare:worker1:2" },
		{ "committed worker1 1", "adopt:worker0:1-" },
		{ "prepared worker1 2", "decided:2 commit:worker0:2 commit:worker1:2" },
		{ "committed worker1 2", "" },
		/* It is decided: a newborn gets the new one alone. */
		{ "exited worker0", "adopt:worker1:0+ spawn:worker0" },
		{ NULL, NULL },
	};
	static const struct step loop[] = {
		START_ONE,
		{ "change file", "compile:2" },
		{ "compiled worker,files", "spawn:files0 prepare:worker0:2" },
		{ "exited files0", "spawn:files0" },
		{ "exited files0", "" },
		{ "wait 100", "spawn:files0" },
		{ "exited files0", "abandon:worker0:2 failed:2" },
		{ NULL, NULL },
	};

	(void)state;
	run(2, steps);
	run(1, loop);
}

/* Other roots: a second `files` beside the first, asked from the decision on; then the first is let go. */
static void test_replaced_helper(void **state)
{
	static const struct step steps[] = {
		{ "change file", "compile:1" },
		{ "compiled worker,files:1", "spawn:worker0 spawn:files0" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" },
		{ "ready files0", "welcome:files0 prepare:files0:1" },
		{ "prepared worker0 1", "" },
		{ "prepared files0 1",
		  "decided:1 commit:files0:1 link:worker0:files0 commit:worker0:1" },
		{ "committed worker0 1", "" },
		{ "committed files0 1", "done:1" },
		{ "change file", "compile:2" },
		{ "compiled worker,files:2", "spawn:files0 prepare:worker0:2" },
		{ "prepared worker0 2", "" },
		{ "ready files0*", "welcome:files0 prepare:files0:2" },
		{ "prepared files0* 2",
		  "decided:2 drain:files0 commit:files0:2 link:worker0:files0 commit:worker0:2" },
		{ "committed worker0 2", "" },
		{ "exited files0-", "" },
		{ "committed files0 2", "done:2" },
		{ NULL, NULL },
	};

	(void)state;
	run(1, steps);
}

static void test_stop(void **state)
{
	static const struct step steps[] = {
		START_TWO,
		{ "change file", "compile:2" },
		{ "stop 30000", "abort:2 failed:2 drain:worker0 drain:worker1" },
		{ "exited worker0-", "" },
		{ "exited worker1-", "exit" },
		{ NULL, NULL },
	};
	static const struct step order[] = {
		{ "change file", "compile:1" },
		{ "compiled worker,files,log", "spawn:worker0 spawn:files0 spawn:log0" },
		{ "ready worker0", "welcome:worker0 prepare:worker0:1" },
		{ "ready log0", "welcome:log0 prepare:log0:1" },
		{ "stop 30000", "abandon:worker0:1 abandon:log0:1 failed:1 drain:worker0" },
		{ "exited worker0-", "kill:files0" },
		{ "exited files0", "drain:log0" },
		{ "stop 0", "kill:log0" },
		{ "exited log0-", "exit" },
		{ NULL, NULL },
	};
	/* Who leaves gets no new channel, and nothing waits for one. */
	static const struct step unlinked[] = {
		START_FILES,
		{ "unlinked worker0 files0", "" },
		{ "stop 30000", "drain:worker0" },
		{ "unlinked worker0- files1", "" },
		{ "wait 200", "" },
		{ "exited worker0-", "drain:files0 drain:files1" },
		{ NULL, NULL },
	};

	(void)state;
	run(2, steps);
	run(1, order);
	run(1, unlinked);
}

/* ---- Random orders --------------------------------------------------------------------------------- */

enum { PENDING_MAX = 512 };
struct pending {
	struct lifecycle_action action;
	uint64_t instance;
};
struct random_world {
	struct world world;
	uint64_t seed;
	struct pending pending[PENDING_MAX];
	size_t count;
	uint64_t decided;
	bool over;
};

static uint64_t next_random(struct random_world *random, uint64_t bound)
{
	random->seed = random->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random->seed >> 33) % bound;
}

/* Who is asked knows what is running: it was told to commit that before. One that died since says nothing. */
static void check_link(const struct random_world *random, const struct lifecycle_process *process,
		       uint32_t index)
{
	const struct lifecycle_process *peer = lifecycle_process_at(random->world.life, index);

	if (peer->state == LIFECYCLE_READY && process->linked[peer->kind][0] == peer->instance)
		assert_true(peer->commit_sent && peer->commit_sent >= random->decided);
}

static void take_actions(struct random_world *random)
{
	struct lifecycle_action action;

	while (lifecycle_next(random->world.life, &action)) {
		const struct lifecycle_process *process =
			lifecycle_process_at(random->world.life, action.process);

		assert_true(random->count < PENDING_MAX);
		if (action.what == LIFECYCLE_DECIDED) {
			assert_true(action.change > random->decided);
			random->decided = action.change;
		}
		if (action.what == LIFECYCLE_COMMIT) {
			assert_int_equal(action.change, random->decided);
			assert_int_equal(process->prepared, action.change);
		}
		if (action.what == LIFECYCLE_LINK)
			check_link(random, process, action.peer);
		if (action.what == LIFECYCLE_EXIT)
			random->over = true;
		random->pending[random->count++] = (struct pending){ action, process->instance };
	}
}

/* Answers one of the actions that wait, of any process (each process answers in order). */
static void answer_one(struct random_world *random)
{
	size_t at = (size_t)next_random(random, random->count);
	struct pending pending;
	const struct lifecycle_process *process;
	struct lifecycle_wants wants = { .wanted = { [IPC_WORKER] = true,
						     [IPC_KEYHOLDER] = true,
						     [IPC_VAULT] = true,
						     [IPC_FILES] = true } };

	for (size_t i = 0; i < at; i++) {
		if (random->pending[i].action.process == random->pending[at].action.process)
			at = i;
	}
	pending = random->pending[at];
	memmove(&random->pending[at], &random->pending[at + 1],
		(--random->count - at) * sizeof(random->pending[0]));
	if (pending.action.what == LIFECYCLE_COMPILE) {
		wants.version[IPC_FILES] = next_random(random, 2);
		wants.needs_gather = next_random(random, 2);
		lifecycle_on_compiled(random->world.life, next_random(random, 8) != 0, &wants);
		return;
	}
	process = lifecycle_process_at(random->world.life, pending.action.process);
	if (process->instance != pending.instance || !lifecycle_is_alive(process))
		return;
	if (pending.action.what == LIFECYCLE_SPAWN)
		lifecycle_on_ready(random->world.life, pending.action.process);
	else if (pending.action.what == LIFECYCLE_KILL || pending.action.what == LIFECYCLE_DRAIN)
		lifecycle_on_exited(random->world.life, pending.action.process);
	else if (pending.action.what == LIFECYCLE_GATHER)
		lifecycle_on_gathered(random->world.life, next_random(random, 8) != 0);
	else if (pending.action.what == LIFECYCLE_PREPARE && next_random(random, 16) == 0 &&
		 pending.action.change != lifecycle_running(random->world.life))
		lifecycle_on_refused(random->world.life, pending.action.process,
				     pending.action.change);
	else if (pending.action.what == LIFECYCLE_PREPARE)
		lifecycle_on_prepared(random->world.life, pending.action.process,
				      pending.action.change);
	else if (pending.action.what == LIFECYCLE_COMMIT)
		lifecycle_on_committed(random->world.life, pending.action.process,
				       pending.action.change);
}

static void beat_all(struct random_world *random)
{
	for (uint32_t i = 0; lifecycle_process_at(random->world.life, i); i++)
		lifecycle_on_heartbeat(random->world.life, i, ++random->world.beat);
}

static void settle_all(struct random_world *random)
{
	for (int i = 0; i < 2000; i++) {
		if (random->count)
			answer_one(random);
		beat_all(random);
		if (!random->count)
			lifecycle_tick(random->world.life, random->world.now_ns += 500 * MS);
		take_actions(random);
	}
	assert_int_equal(random->count, 0);
}

static void assert_at_rest(struct random_world *random)
{
	struct lifecycle *life = random->world.life;
	uint32_t workers = 0, files = 0;

	assert_int_equal(lifecycle_phase(life), LIFECYCLE_IDLE);
	for (uint32_t i = 0; lifecycle_process_at(life, i); i++) {
		const struct lifecycle_process *process = lifecycle_process_at(life, i);

		if (process->state == LIFECYCLE_UNUSED)
			continue;
		assert_int_equal(process->state, LIFECYCLE_READY);
		assert_int_equal(process->committed, lifecycle_running(life));
		workers += process->kind == IPC_WORKER;
		files += process->kind == IPC_FILES;
		for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
			int peer = lifecycle_find(life, (enum ipc_kind)kind,
						  rules[kind].per_slot ? process->slot : 0);

			if (rules[process->kind].links & 1U << kind)
				assert_int_equal(
					process->linked[kind][0],
					lifecycle_process_at(life, (uint32_t)peer)->instance);
		}
	}
	assert_int_equal(workers, lifecycle_running(life) ? 3 : 0);
	assert_int_equal(files, lifecycle_running(life) ? 1 : 0);
}

static void test_random_orders(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct random_world random = { .world = { .now_ns = 1000 * MS }, .seed = seed };

		assert_int_equal(lifecycle_new(rules, 3, random.world.now_ns, &random.world.life),
				 0);
		for (int step = 0; step < 300; step++) {
			uint32_t victim = (uint32_t)next_random(&random, 20);
			const struct lifecycle_process *process =
				lifecycle_process_at(random.world.life, victim);

			if (next_random(&random, 40) == 0)
				lifecycle_change(random.world.life,
						 lifecycle_running(random.world.life) &&
								 next_random(&random, 2)
							 ? LIFECYCLE_DATA
							 : LIFECYCLE_COMPILE_FILE);
			if (next_random(&random, 30) == 0 && process && lifecycle_is_alive(process))
				lifecycle_on_exited(random.world.life, victim);
			if (next_random(&random, 8) == 0) {
				beat_all(&random);
				lifecycle_tick(random.world.life, random.world.now_ns += 200 * MS);
			}
			take_actions(&random);
			if (random.count)
				answer_one(&random);
			take_actions(&random);
		}
		settle_all(&random);
		assert_at_rest(&random);
		lifecycle_stop(random.world.life, 1000);
		take_actions(&random);
		settle_all(&random);
		assert_true(random.over);
		lifecycle_free(random.world.life);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_confirm),
		cmocka_unit_test(test_start_broken),
		cmocka_unit_test(test_start_with_helpers),
		cmocka_unit_test(test_who_is_asked_knows_the_plan),
		cmocka_unit_test(test_several_of_a_kind),
		cmocka_unit_test(test_one_that_hangs_for_good),
		cmocka_unit_test(test_a_new_one_that_hangs),
		cmocka_unit_test(test_not_gathered),
		cmocka_unit_test(test_restart_and_adopt),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_change_refused),
		cmocka_unit_test(test_change_latest_wins),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_death_while_changing),
		cmocka_unit_test(test_replaced_helper),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_random_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
