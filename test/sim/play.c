#include "play_internal.h"
#include "trail.h"

#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proc/proc.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum {
	UID = 1000,
	ANSWER_SECONDS = 120,
	START_SECONDS = 200,
	SETTLE_SECONDS = 12,
	IDLE_SECONDS = 6,
	WARM_ROUNDS = 40
};

#define HEAD "portcullis 1\nlisten 127.0.0.1:8443\nlisten 127.0.0.1:8080 plain serve\n"
#define NEAR "table near { 127.0.0.0/8 }\n"
#define BODY "\trespond 200 \"%s\" on /hello\n\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n"

static const struct {
	const char *name, *text;
} texts[] = {
	{ "first", HEAD NEAR "site localhost default {\n\trespond 200 \"first\" on /hello\n"
			     "\ttrust forwarded from <near>\n"
			     "\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n}\n" },
	{ "behind", "portcullis 1\n" NEAR "listen 127.0.0.1:8443 { proxy-protocol from <near> }\n"
		    "listen 127.0.0.1:8080 plain serve { proxy-protocol from <near> }\n"
		    "site localhost { respond 200 \"behind\" }\n" },
	{ "second", HEAD "site localhost default {\n\trespond 200 \"second\" on /hello\n"
			 "\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n}\n"
			 "site other.localhost { respond 200 \"other\" }\n" },
	{ "named", HEAD "site localhost default {\n\trespond 200 \"first\" on /hello\n"
			"\tproxy app.internal:3000 on /app*\n\tfiles /www\n}\n" },
	{ "wrong", HEAD "site localhost { responb 200 }\n" },
};

const char *const play_roles[8] = { "run",   "worker", "keyholder", "vault",
				    "files", "dialer", "log",       "check" };

/* ---- Reports ----------------------------------------------------------------------------------- */

static const struct play *playing;

NORETURN void play_fail(struct play *play, const char *format, ...)
{
	char text[8192];
	struct writer out = writer_of(text, sizeof(text));
	va_list arguments;

	fprintf(stderr, "\n%s, seed %llu, line %zu: ", play->what ? play->what : "a play",
		(unsigned long long)play->seed, play->line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	sim_describe(&out);
	if (play->script)
		fprintf(stderr, "\n%s", play->script);
	fprintf(stderr, "\n%.*s\n%.*s\n%.*s\n", SPAN_ARG(writer_done(&out)),
		SPAN_ARG(sim_output(2)), SPAN_ARG(sim_output(1)));
	playing = NULL;
	abort();
}

/* Where a sanitizer or a signal, not a check of ours, ends the program: which case it was. */

static void on_death(void)
{
	if (playing)
		fprintf(stderr, "\n%s, seed %llu, line %zu\n%s\n%.*s\n",
			playing->what ? playing->what : "a play", (unsigned long long)playing->seed,
			playing->line, playing->script ? playing->script : "",
			SPAN_ARG(sim_output(2)));
}

#if defined(__SANITIZE_ADDRESS__)
static void watch_for_death(void)
{
	__sanitizer_set_death_callback(on_death);
}
#else
static void on_signal(int number)
{
	on_death();
	fprintf(stderr, "signal %d\n", number);
	signal(number, SIG_DFL);
	raise(number);
}

static void watch_for_death(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };

	MUST(sigaltstack(&stack, NULL) == 0);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		MUST(sigaction(numbers[i], &action, NULL) == 0);
}
#endif

/* ---- The program ------------------------------------------------------------------------------- */

static int program(void)
{
	struct span role = span_str(os_environment("PORTCULLIS_ROLE"));
	struct proc_supervisor_options options = { .config_path = PLAY_CONF };

	if (play_is_command())
		return play_command_main();
	return role.len ? proc_helper_main(role) : proc_supervisor_main(&options);
}

static unsigned count_of(struct span text, struct span word)
{
	unsigned count = 0;

	for (size_t at; (at = span_find(text, word)) < text.len; count++)
		text = span_skip(text, at + word.len);
	return count;
}

void play_poll(struct play *play)
{
	for (size_t i = 0; i < play->client_count; i++)
		play_poll_client(&play->clients[i]);
	play_poll_origin(play);
	play_poll_resolver(play);
	if (play->on_poll)
		play->on_poll(play);
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

struct until {
	struct play *play;
	bool (*is_so)(struct play *play, void *owner);
	void *owner;
};

static bool is_done(void *owner)
{
	struct until *until = owner;

	play_poll(until->play);
	return until->is_so && until->is_so(until->play, until->owner);
}

bool play_run_until(struct play *play, bool (*is_so)(struct play *play, void *owner), void *owner,
		    double seconds)
{
	struct until until = { play, is_so, owner };

	return sim_run(is_done, &until, (uint64_t)(seconds * (double)OS_SECOND));
}

void play_wait(struct play *play, double seconds)
{
	(void)play_run_until(play, NULL, NULL, seconds);
}

void play_settle(struct play *play)
{
	play_wait(play, SETTLE_SECONDS);
}

void play_rest(struct play *play)
{
	play_wait(play, IDLE_SECONDS);
}

/* ---- Lines of a script ------------------------------------------------------------------------- */

static bool is_ready(struct play *play, void *owner)
{
	(void)owner;
	/* The last line of a start: both listeners are open. */
	return count_of(sim_output(1), SPAN("ready http://")) > play->readies ||
	       !sim_is_alive(play->supervisor);
}

static void do_start(struct play *play)
{
	play->readies = count_of(sim_output(1), SPAN("ready http://"));
	play->supervisor = sim_spawn("run");
	play->starts++;
	if (play_run_until(play, is_ready, NULL, START_SECONDS) && sim_is_alive(play->supervisor))
		return;
	if (!play->is_rough ||
	    (sim_is_alive(play->supervisor) && !sim_is_stopped(play->supervisor)))
		play_fail(play, "it did not start");
}

/* A change begins with a check job; it is over a moment after the job is. */
struct reloading {
	bool has_begun;
};

static bool has_compiled(struct play *play, void *owner)
{
	struct reloading *reloading = owner;
	bool is_compiling = sim_pid("check", 0) != 0;

	(void)play;
	reloading->has_begun |= is_compiling;
	return reloading->has_begun && !is_compiling;
}

static void do_reload(struct play *play)
{
	struct reloading reloading = { .has_begun = false };

	sim_signal(play->supervisor, SIGHUP);
	if (!play_run_until(play, has_compiled, &reloading, 40) && !play->is_rough)
		play_fail(play, "the reload did not end");
	play_wait(play, 1);
}

static void do_file(struct span rest)
{
	char path[256], *text = NULL;
	struct span name;
	uint64_t size = 0;

	MUST(span_cut(&rest, ' ', &name) && name.len < sizeof(path));
	memcpy(path, name.ptr, name.len);
	path[name.len] = 0;
	if (rest.len && rest.ptr[0] == '*' && parse_u64(span_skip(rest, 1), 1 << 24, &size)) {
		text = malloc(size);
		for (size_t i = 0; i < size; i++)
			text[i] = (char)('a' + i % 23);
		rest = span_of(text, size);
	}
	sim_file_put(path, 0644, rest);
	free(text);
}

static void set_origin(struct play *play, struct span mode)
{
	struct os_address at = play_address(3000);
	static const struct {
		const char *name;
		enum play_origin_mode mode;
	} modes[] = { { "answers", ORIGIN_ANSWERS },
		      { "silent", ORIGIN_SILENT },
		      { "closes", ORIGIN_CLOSES },
		      { "resets", ORIGIN_RESETS } };

	if (span_equal(mode, SPAN("refuses"))) {
		sim_let_go(TAKE(play->origin));
		for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
			if (play->origins[i].end)
				play_origin_drop(&play->origins[i]);
		return;
	}
	if (!play->origin)
		play->origin = sim_listen(&at);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (span_equal(mode, span_str(modes[i].name)))
			play->origin_mode = modes[i].mode;
}

static void set_resolver(struct play *play, struct span mode)
{
	static const char *const modes[] = { "answers", "late", "silent", "fails", "knows-not" };

	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (span_equal(mode, span_str(modes[i])))
			play->resolver_mode = (enum play_resolver_mode)i;
}

static bool has_answer(struct play *play, void *owner)
{
	struct play_client *client = owner;
	struct span body;
	size_t len;

	(void)play;
	return client->is_over || play_answer(client, &body, &len);
}

static void expect_answer(struct play *play, struct play_client *client, struct span wanted)
{
	struct span word, body;
	uint64_t status = 0;
	size_t len = 0;
	int got;
	bool has_ended;

	MUST(span_cut(&wanted, ' ', &word));
	has_ended = play_run_until(play, has_answer, client, ANSWER_SECONDS);
	got = play_answer(client, &body, &len);
	if (!has_ended && !got)
		play_fail(play, "%s waits for ever for its answer", client->name);
	if (span_equal(word, SPAN("end"))) {
		if (!client->is_over && !play->is_rough)
			play_fail(play, "%s: answered with %d instead of an end", client->name,
				  got);
		return;
	}
	MUST(parse_u64(word, 999, &status));
	if (!got || (play->is_rough && got >= 500)) {
		if (!play->is_rough)
			play_fail(play, "%s: the connection ended%s before its answer",
				  client->name, client->was_reset ? " by a reset" : "");
		if (got)
			play_answer_done(client, len);
		return;
	}
	if (got != (int)status ||
	    (wanted.len && !span_equal(wanted, SPAN("*")) && !span_starts_with(body, wanted)))
		play_fail(play, "%s: answer %d with %.*s", client->name, got,
			  SPAN_ARG(span_first(body, 200)));
	play_answer_done(client, len);
}

static void send_text(struct play *play, struct play_client *client, struct span text)
{
	char out[4096];
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		MUST(len + 2 < sizeof(out));
		if (text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == 'n') {
			out[len++] = '\r';
			out[len++] = '\n';
			i++;
		} else {
			out[len++] = text.ptr[i];
		}
	}
	play_send(play, client, span_of(out, len));
}

static void send_bytes(struct play *play, struct play_client *client, struct span count)
{
	uint64_t size = 0;
	char *bytes;

	MUST(parse_u64(count, PLAY_BUFFER, &size));
	bytes = malloc(size);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)('A' + i % 25);
	play_send(play, client, span_of(bytes, size));
	free(bytes);
}

static void client_line(struct play *play, struct span name, struct span rest)
{
	char text[16];
	struct play_client *client;
	size_t mark = 0;

	while (mark < name.len && name.ptr[mark] != '>' && name.ptr[mark] != '<')
		mark++;
	MUST(mark < sizeof(text));
	memcpy(text, name.ptr, mark);
	text[mark] = 0;
	client = play_client(play, text);
	name = span_skip(name, mark);
	if (span_equal(name, SPAN(">")))
		send_text(play, client, rest);
	else if (span_equal(name, SPAN(">>")))
		send_bytes(play, client, rest);
	else if (span_equal(name, SPAN("<")))
		expect_answer(play, client, rest);
	else if (span_equal(rest, SPAN("half")) && client->end)
		sim_half_close(client->end);
	else if (span_equal(rest, SPAN("reset")) && client->end)
		sim_reset(TAKE(client->end));
	else if (span_equal(rest, SPAN("close")))
		play_drop(client);
}

/* STAGES END */
static void do_trail(struct play *play, struct span wanted)
{
	struct span said, line, last = SPAN_NONE;
	char is[1024];
	size_t at;

	play_wait(play, 0.1); /* the log lingers */
	said = sim_output(1);
	while (span_cut(&said, '\n', &line))
		if (span_find(line, SPAN("\"end\":")) < line.len)
			last = line;
	at = span_find(last, SPAN("\"end\":\""));
	last = span_skip(last, at + strlen("\"end\":\""));
	snprintf(is, sizeof(is), "%s %.*s", trail_last(),
		 SPAN_ARG(span_first(last, span_find_byte(last, '"'))));
	play_note("trail %s", is);
	if (!span_equal(wanted, span_str(is)))
		play_fail(play, "the trail is\n  %s\nand not\n  %.*s", is, SPAN_ARG(wanted));
}

static bool is_silent(struct play *play, void *owner)
{
	(void)play;
	(void)owner;
	return sim_processes() == 0;
}

static void do_stop(struct play *play)
{
	sim_signal(play->supervisor, SIGTERM);
	if (!play_run_until(play, is_silent, NULL, 60))
		play_fail(play, "it did not stop");
	if (sim_exit_code(play->supervisor))
		play_fail(play, "it stopped with %d", sim_exit_code(play->supervisor));
}

static void signal_role(struct play *play, struct span role, int number)
{
	char name[32];
	int pid;

	MUST(role.len < sizeof(name));
	memcpy(name, role.ptr, role.len);
	name[role.len] = 0;
	pid = sim_pid(name, 0);
	if (!pid)
		play_fail(play, "there is no %s", name);
	sim_signal(pid, number);
}

static void fail_call(struct play *play, struct span rest)
{
	static const struct {
		const char *name;
		int error;
	} errors[] = { { "ENOMEM", -ENOMEM }, { "EMFILE", -EMFILE }, { "ENOSPC", -ENOSPC } };
	struct sim_trap trap = { .kind = SIM_TRAP_FAIL, .nth = 1, .function = play->failing };
	struct span role, function;

	MUST(span_cut(&rest, ' ', &role) && span_cut(&rest, ' ', &function));
	MUST(function.len < sizeof(play->failing));
	memcpy(play->failing, function.ptr, function.len);
	play->failing[function.len] = 0;
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++)
		if (span_equal(role, span_str(play_roles[i])))
			trap.role = play_roles[i];
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (span_equal(rest, span_str(errors[i].name)))
			trap.error = errors[i].error;
	MUST(trap.role && trap.error);
	sim_trap_set(&trap);
}

struct span play_text(struct play *play, struct span name)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (span_equal(name, span_str(texts[i].name)))
			return span_str(texts[i].text);
	}
	play_fail(play, "there is no text %.*s", SPAN_ARG(name));
}

static void run_line(struct play *play, struct span line)
{
	struct span word, rest = line;
	char path[256];

	MUST(span_cut(&rest, ' ', &word));
	if (span_equal(word, SPAN("start")))
		do_start(play);
	else if (span_equal(word, SPAN("conf")))
		sim_file_put(PLAY_CONF, 0644, play_text(play, rest));
	else if (span_equal(word, SPAN("reload")))
		do_reload(play);
	else if (span_equal(word, SPAN("apply")))
		play_apply(play, rest);
	else if (span_equal(word, SPAN("confirm")))
		play_command(play, "confirm");
	else if (span_equal(word, SPAN("rollback")))
		play_command(play, "rollback");
	else if (span_equal(word, SPAN("holds")))
		play_holds(play, rest);
	else if (span_equal(word, SPAN("file")))
		do_file(rest);
	else if (span_equal(word, SPAN("origin")))
		set_origin(play, rest);
	else if (span_equal(word, SPAN("resolver")))
		set_resolver(play, rest);
	else if (span_equal(word, SPAN("kill")))
		signal_role(play, rest, SIGKILL);
	else if (span_equal(word, SPAN("stop")) && rest.len)
		signal_role(play, rest, SIGSTOP);
	else if (span_equal(word, SPAN("stop")))
		do_stop(play);
	else if (span_equal(word, SPAN("fail")))
		fail_call(play, rest);
	else if (span_equal(word, SPAN("failed")) && !sim_trap_was_sprung())
		play_fail(play, "the call that was to fail was not made");
	else if (span_equal(word, SPAN("failed")))
		return;
	else if (span_equal(word, SPAN("trail")))
		do_trail(play, rest);
	else if (span_equal(word, SPAN("wait")))
		play_wait(play, strtod(rest.ptr, NULL));
	else if (span_equal(word, SPAN("cold"))) {
		snprintf(path, sizeof(path), "%.*s", SPAN_ARG(rest));
		sim_file_make_cold(path);
	} else
		client_line(play, word, rest);
}

void play_run(struct play *play, const char *script)
{
	struct span rest = span_str(script), line;

	play->line = 0;
	while (span_cut(&rest, '\n', &line)) {
		play->line++;
		line = span_trim(line);
		line = span_first(line, span_find(line, SPAN("# ")));
		if (line.len)
			run_line(play, line);
	}
}

/* ---- Beginning and end ------------------------------------------------------------------------- */

void play_open(struct play *play, uint64_t seed, unsigned cpus, unsigned interrupts)
{
	static const char *const environment[] = { "PORTCULLIS_STATE=/state", NULL };
	struct sim_options options = { .seed = seed,
				       .cpus = cpus,
				       .uid = UID,
				       .interrupts = interrupts,
				       .program = program,
				       .switched = play_library_switched,
				       .environment = environment };

	*play = (struct play){ .seed = seed, .cpus = cpus };
	playing = play;
	sim_open(&options);
	census_begin();
	trail_begin();
	play_run(play, "conf first\norigin answers\n"
		       "file /www/small.txt small document\n"
		       "file /www/large.bin *60000\n"
		       "file /etc/hosts 127.0.0.1 localhost\n"
		       "file /etc/resolv.conf nameserver 127.0.0.1\n"
		       "file /etc/ssl/certs/ca-certificates.crt  \n");
}

void play_close(struct play *play)
{
	play_drop_all(play);
	for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
		if (play->origins[i].end)
			play_origin_drop(&play->origins[i]);
	sim_let_go(play->origin);
	play_drop_resolver(play);
	playing = NULL;
	sim_close();
}

/* ---- TAP --------------------------------------------------------------------------------------- */

void play_note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("# ");
	vprintf(format, arguments);
	printf("\n");
	va_end(arguments);
}

int play_main(const struct play_test *tests, size_t count)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	watch_for_death();
	/* Worlds come and go: what one gave back the next one takes. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	play_library_start();
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		tests[i].run();
		printf("ok %zu - %s\n", i + 1, tests[i].name);
	}
	return 0;
}
