/* What an operator types: the program's own commands, as processes of the world. */
#include "play_internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "command/command.h"

enum { COMMAND_SECONDS = 120 };

static const char role_name[] = "command", given_file[] = "/tmp/given.conf";

static struct {
	char *arguments[8];
	int count, pid;
	char time[16];
} typed;

bool play_is_command(void)
{
	return typed.pid && sim_current() == typed.pid;
}

int play_command_main(void)
{
	return command_main(typed.count, typed.arguments);
}

static void add(const char *argument)
{
	MUST((size_t)typed.count + 1 < ARRAY_LEN(typed.arguments));
	typed.arguments[typed.count++] = (char *)(uintptr_t)argument; // NOLINT
	typed.arguments[typed.count] = NULL;
}

static bool has_ended(struct play *play, void *owner)
{
	(void)play;
	(void)owner;
	return !sim_is_alive(typed.pid);
}

static void type(struct play *play)
{
	add("-c");
	add(PLAY_CONF);
	play->commanded = -1;
	typed.pid = sim_spawn(role_name);
	if (!play_run_until(play, has_ended, NULL, COMMAND_SECONDS)) {
		if (!play->is_rough)
			play_fail(play, "the command does not end");
		sim_signal(typed.pid, SIGKILL);
		play_wait(play, 0.1);
	} else {
		play->commanded = sim_exit_code(typed.pid);
	}
	typed.pid = 0;
	if (!play->is_rough && play->commanded)
		play_fail(play, "the command ended with %d", play->commanded);
}

void play_apply(struct play *play, struct span rest)
{
	struct span name;

	MUST(span_cut(&rest, ' ', &name));
	sim_file_put(given_file, 0644, play_text(play, name));
	typed.count = 0;
	add("portcullis");
	add("apply");
	add(given_file);
	if (rest.len) {
		snprintf(typed.time, sizeof(typed.time), "%.*s", SPAN_ARG(rest));
		add("--confirm");
		add(typed.time);
	}
	type(play);
}

void play_command(struct play *play, const char *name)
{
	typed.count = 0;
	add("portcullis");
	add(name);
	type(play);
}

void play_holds(struct play *play, struct span names)
{
	struct span name, text = SPAN_NONE;
	char script[160];
	bool was_rough = play->is_rough;

	MUST(sim_file_get(PLAY_CONF, &text));
	while (span_cut(&names, ' ', &name)) {
		if (!span_equal(text, play_text(play, name)))
			continue;
		snprintf(script, sizeof(script),
			 "asker> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
			 "asker< 200 %.*s\nasker close\n",
			 SPAN_ARG(name));
		play->is_rough = false;
		play_run(play, script);
		play->is_rough = was_rough;
		return;
	}
	play_fail(play, "the file holds %zu bytes: %.*s", text.len,
		  SPAN_ARG(span_first(text, 300)));
}
