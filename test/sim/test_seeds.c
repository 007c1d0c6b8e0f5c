/* Random mixes of clients (slow, gone at a random byte, pipelining, half-closed, with and without TLS) and origins,
 * of changes, kills and hangs, in an order that the seed decides. Whatever happens:
 *
 * - each request is answered once, by its own answer: all carry a token that the answer repeats;
 * - the origin saw the bytes that the client sent, and the client gets the bytes that the origin sent;
 * - nobody who stays waits for ever: an exchange that waits has a waker;
 * - where nothing was broken on purpose, no request fails;
 * - afterwards each process has exactly the descriptors and the memory in use that it had before.
 *
 *   unit-sim-seeds [FIRST COUNT]   with the sanitizers: a slice (PORTCULLIS_SOAK=1: a larger one), or these seeds
 *   sim-seeds FIRST COUNT          of the plain build, for the mass (test/run.py seeds)
 *
 * A failing seed prints its script. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scenarios.h"

enum {
	CLIENTS_MAX = 12,
	REQUESTS_MAX = 6,
	EVENTS_MAX = 3,
	WAIT_SECONDS = 400,
	OPERATOR_SECONDS = 60,
	SLICE_SEEDS = 100,
	SOAK_SEEDS = 3000,
	BODY_MAX = 40000,
};

enum kind { HELLO, SMALL, LARGE, NONE, APP_GET, APP_POST, APP_CHUNKED, KIND_COUNT };

struct request {
	enum kind kind;
	size_t more, body;
	uint32_t sum;
	char path[48];
};

struct guest {
	char name[16];
	bool pipelines, is_slow, half_closes, is_gone, resets;
	struct request requests[REQUESTS_MAX];
	size_t count, queued, answered;
	char *bytes; /* of the requests that were begun */
	size_t len, capacity, at, leaves_after;
	bool has_half_closed;
};

enum happening { RELOAD, KILL, HANG, CALL_FAILS, ALLOCATION_FAILS };

struct event {
	enum happening what;
	const char *role;
	uint64_t nth; /* which call or allocation from then on */
	uint64_t at_poll;
};

struct mix {
	struct play play;
	struct guest guests[CLIENTS_MAX];
	size_t count;
	struct event events[EVENTS_MAX];
	size_t event_count;
	bool has_bad_origin, had_operator;
	uint64_t polls;
	char script_text[16384];
	struct writer script;
};

static struct play_base bases[2][SCENARIO_BASES]; /* by CPUs and configuration */
static struct {
	uint64_t requests, answers, bytes_up, bytes_down, events;
} total;

/* ---- Chance, apart from the world's own: the mix is decided before it begins ----------------------- */

static uint64_t chance;

static uint64_t draw(uint64_t below)
{
	uint64_t z = (chance += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % below;
}

static bool one_in(uint64_t count)
{
	return draw(count) == 0;
}

/* ---- Requests ------------------------------------------------------------------------------------- */

static void draw_request(struct mix *mix, struct guest *guest, size_t index)
{
	struct request *request = &guest->requests[index];
	static const char *const paths[] = { "/hello", "/small.txt", "/large.bin", "/none" };

	request->kind = (enum kind)draw(KIND_COUNT);
	if (request->kind < APP_GET) {
		snprintf(request->path, sizeof(request->path), "%s", paths[request->kind]);
	} else {
		request->more = one_in(3) ? draw(BODY_MAX) : draw(200);
		snprintf(request->path, sizeof(request->path), "/app/%s-%zu?%zu", guest->name,
			 index, request->more);
	}
	if (request->kind >= APP_POST)
		request->body = one_in(3) ? 1 + draw(BODY_MAX) : 1 + draw(300);
	write_format(&mix->script, "%s> %s %s%s %zu\n", guest->name,
		     request->kind >= APP_POST ? "POST" : "GET", request->path,
		     request->kind == APP_CHUNKED ? " chunked" : "", request->body);
}

static void put(struct guest *guest, const char *bytes, size_t len)
{
	if (guest->len + len > guest->capacity) {
		guest->capacity = 2 * (guest->len + len);
		guest->bytes = realloc(guest->bytes, guest->capacity);
	}
	memcpy(guest->bytes + guest->len, bytes, len);
	guest->len += len;
}

static void put_body(struct guest *guest, struct request *request)
{
	char *body = malloc(request->body), line[32];
	size_t at = 0;

	for (size_t i = 0; i < request->body; i++) {
		body[i] = (char)('!' + draw(90));
		request->sum = request->sum * 31 + (uint8_t)body[i];
	}
	while (request->kind == APP_CHUNKED && at < request->body) {
		size_t len = 1 + draw(request->body - at);

		snprintf(line, sizeof(line), "%zx\r\n", len);
		put(guest, line, strlen(line));
		put(guest, body + at, len);
		put(guest, "\r\n", 2);
		at += len;
	}
	if (request->kind == APP_CHUNKED)
		put(guest, "0\r\n\r\n", 5);
	else
		put(guest, body, request->body);
	free(body);
}

static void begin_request(struct guest *guest)
{
	struct request *request = &guest->requests[guest->queued++];
	char head[256];

	total.requests++;
	snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: localhost\r\n",
		 request->kind >= APP_POST ? "POST" : "GET", request->path);
	put(guest, head, strlen(head));
	if (request->kind == APP_CHUNKED) {
		put(guest, "Transfer-Encoding: chunked\r\n\r\n", 30);
	} else if (request->kind == APP_POST) {
		snprintf(head, sizeof(head), "Content-Length: %zu\r\n\r\n", request->body);
		put(guest, head, strlen(head));
	} else {
		put(guest, "\r\n", 2);
	}
	if (request->body)
		put_body(guest, request);
}

static bool is_filled(struct span text, char first, unsigned period)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] != (char)(first + (char)(i % period)))
			return false;
	return true;
}

static bool is_right(const struct request *request, int status, struct span body)
{
	char echo[128];

	switch (request->kind) {
	case HELLO:
		return status == 200 &&
		       (span_equal(body, SPAN("first")) || span_equal(body, SPAN("second")));
	case SMALL:
		return status == 200 && span_equal(body, SPAN("small document"));
	case LARGE:
		return status == 200 && body.len == 60000 && is_filled(body, 'a', 23);
	case NONE:
		return status == 404;
	case APP_GET:
	case APP_POST:
	case APP_CHUNKED:
	case KIND_COUNT:
		break;
	}
	snprintf(echo, sizeof(echo), "%s %s %zu %u;", request->kind >= APP_POST ? "POST" : "GET",
		 request->path, request->body, request->sum);
	return status == 200 && body.len == strlen(echo) + request->more &&
	       span_starts_with(body, span_str(echo)) &&
	       is_filled(span_skip(body, strlen(echo)), 'm', 1);
}

/* ---- Guests --------------------------------------------------------------------------------------- */

static void draw_guest(struct mix *mix, size_t index)
{
	struct guest *guest = &mix->guests[index];

	snprintf(guest->name, sizeof(guest->name), "%s%u", one_in(3) ? "tls-" : "g",
		 (unsigned)index % 100);
	guest->pipelines = one_in(3);
	guest->is_slow = one_in(4);
	guest->half_closes = one_in(6);
	guest->resets = one_in(2);
	guest->count = 1 + draw(REQUESTS_MAX);
	guest->leaves_after = one_in(5) ? 1 + draw(3000) : SIZE_MAX;
	write_format(&mix->script, "# %s:%s%s%s%s\n", guest->name,
		     guest->pipelines ? " pipelines" : "", guest->is_slow ? " slow" : "",
		     guest->half_closes ? " half-closes" : "",
		     guest->leaves_after != SIZE_MAX ? " leaves" : "");
	for (size_t i = 0; i < guest->count; i++)
		draw_request(mix, guest, i);
}

static void leave(struct mix *mix, struct guest *guest, struct play_client *client)
{
	(void)mix;
	if (guest->resets && client->end)
		sim_reset(TAKE(client->end));
	play_drop(client);
	guest->is_gone = true;
}

static void check_answers(struct mix *mix, struct guest *guest, struct play_client *client)
{
	struct span body;
	size_t len;
	int status;

	while ((status = play_answer(client, &body, &len)) != 0) {
		const struct request *request = &guest->requests[guest->answered];
		/* Who hung until its operator came has missed its clients' time. */
		bool may_fail = mix->play.is_rough &&
				(status >= 500 || (status == 408 && mix->had_operator));

		if (guest->answered >= guest->queued)
			play_fail(&mix->play, "%s: an answer that nobody asked for: %d",
				  guest->name, status);
		if (!may_fail && !is_right(request, status, body))
			play_fail(&mix->play, "%s: %s answered by %d, %zu bytes: %.*s", guest->name,
				  request->path, status, body.len, SPAN_ARG(span_first(body, 100)));
		play_answer_done(client, len);
		guest->answered++;
		total.answers++;
		total.bytes_down += len;
	}
}

static void send_more(struct mix *mix, struct guest *guest, struct play_client *client)
{
	size_t len = guest->len - guest->at;

	while (guest->queued < guest->count &&
	       (guest->pipelines || guest->answered == guest->queued)) {
		begin_request(guest);
		len = guest->len - guest->at;
	}
	if (!len || client->out_len)
		return;
	if (!one_in(3))
		len = len / 6 + 1 + draw(len);
	if (len > guest->len - guest->at)
		len = guest->len - guest->at;
	play_send(&mix->play, client, span_of(guest->bytes + guest->at, len));
	guest->at += len;
	total.bytes_up += len;
}

static void guest_poll(struct mix *mix, struct guest *guest)
{
	struct play_client *client;

	if (guest->is_gone || guest->answered == guest->count)
		return;
	client = play_client(&mix->play, guest->name);
	client->is_slow = guest->is_slow && !one_in(8);
	check_answers(mix, guest, client);
	if (!client->is_over)
		send_more(mix, guest, client);
	if (guest->at + client->answers * 200 >= guest->leaves_after && !client->out_len) {
		leave(mix, guest, client);
		return;
	}
	if (guest->half_closes && guest->queued == guest->count && guest->at == guest->len &&
	    !client->out_len && !client->is_tls && !guest->has_half_closed && client->end) {
		sim_half_close(client->end);
		guest->has_half_closed = true;
	}
}

/* ---- The mix -------------------------------------------------------------------------------------- */

static void happen(struct mix *mix, struct event *event)
{
	int pid;

	total.events++;
	switch (event->what) {
	case RELOAD:
		play_run(&mix->play, "conf second\n");
		sim_signal(mix->play.supervisor, SIGHUP);
		break;
	case KILL:
	case HANG:
		pid = sim_pid(event->role, 0);
		if (pid)
			sim_signal(pid, event->what == KILL ? SIGKILL : SIGSTOP);
		break;
	case CALL_FAILS:
	case ALLOCATION_FAILS:
		sim_trap_add(&(struct sim_trap){ .kind = event->what == CALL_FAILS ? SIM_TRAP_FAIL
										   : SIM_TRAP_ALLOC,
						 .role = event->role,
						 .nth = event->nth });
		break;
	}
}

static void on_poll(struct play *play)
{
	struct mix *mix = play->owner;

	mix->polls++;
	for (size_t i = 0; i < mix->event_count; i++)
		if (mix->events[i].at_poll == mix->polls)
			happen(mix, &mix->events[i]);
	if (mix->has_bad_origin && one_in(50))
		play->origin_mode = one_in(3) ? (enum play_origin_mode)draw(4) : ORIGIN_ANSWERS;
	for (size_t i = 0; i < mix->count; i++)
		guest_poll(mix, &mix->guests[i]);
}

static void draw_event(struct mix *mix, struct event *event)
{
	static const char *const roles[] = { "worker", "keyholder", "vault", "files",
					     "dialer", "log",       "run" };
	static const char *const words[] = { "reload", "kill", "stop",
					     "a call fails:", "an allocation fails:" };

	*event = (struct event){ .at_poll = 1 + draw(120) };
	if (!one_in(2)) {
		event->what = one_in(3)   ? HANG
			      : one_in(2) ? KILL
			      : one_in(2) ? CALL_FAILS
					  : ALLOCATION_FAILS;
		event->role = roles[draw(ARRAY_LEN(roles))];
		event->nth = 1 + draw(one_in(2) ? 8 : 200);
		mix->play.is_rough = true;
	}
	write_format(&mix->script, "%s %s %llu # at %llu\n", words[event->what],
		     event->role ? event->role : "", (unsigned long long)event->nth,
		     (unsigned long long)event->at_poll);
}

/* None in half of the seeds, else up to three, which may meet. */
static void draw_events(struct mix *mix)
{
	mix->event_count = one_in(2) ? 0 : 1 + draw(EVENTS_MAX);
	for (size_t i = 0; i < mix->event_count; i++)
		draw_event(mix, &mix->events[i]);
	mix->has_bad_origin = one_in(4);
	if (mix->has_bad_origin) {
		mix->play.is_rough = true;
		write_str(&mix->script, "origin answers, is silent, closes, resets\n");
	}
}

static bool is_over(const struct mix *mix)
{
	for (size_t i = 0; i < mix->count; i++) {
		const struct guest *guest = &mix->guests[i];
		struct play_client *client;

		if (guest->is_gone || guest->answered == guest->count)
			continue;
		client = play_client((struct play *)(uintptr_t)&mix->play, guest->name);
		if (!client->is_over)
			return false;
		if (!mix->play.is_rough)
			play_fail((struct play *)(uintptr_t)&mix->play,
				  "%s: the connection ended%s after %zu of %zu answers",
				  guest->name, client->was_reset ? " by a reset" : "",
				  guest->answered, guest->count);
	}
	return true;
}

/* Who hangs then has nobody who would end it: that is its operator's. */
static bool has_no_supervisor(const struct play *play)
{
	return !sim_is_alive(play->supervisor) || sim_is_stopped(play->supervisor);
}

static void go_on(void *owner, int pid, const char *role)
{
	(void)owner;
	(void)role;
	sim_signal(pid, SIGCONT);
}

static void bring_back(struct mix *mix)
{
	struct play *play = &mix->play;

	play_drop_all(play);
	play->origin_mode = ORIGIN_ANSWERS;
	mix->count = 0;
	mix->has_bad_origin = false;
	mix->event_count = 0;
	sim_trap_set(NULL);
	if (!play->is_rough)
		return;
	play_settle(play);
	if (sim_is_stopped(play->supervisor))
		sim_signal(play->supervisor, SIGKILL);
	play_settle(play);
	if (!sim_is_alive(play->supervisor)) {
		sim_each(go_on, NULL);
		play_run(play, "start\n");
		play_settle(play);
	}
}

static void mix_run(struct mix *mix)
{
	struct play *play = &mix->play;
	int seconds = 0;

	while (!is_over(mix)) {
		if (seconds++ >= WAIT_SECONDS)
			play_fail(play, "somebody waits for ever");
		if (seconds == OPERATOR_SECONDS && has_no_supervisor(play)) {
			mix->had_operator = true;
			sim_each(go_on, NULL);
		}
		play_wait(play, 1);
	}
	bring_back(mix);
}

static void run_seed(uint64_t seed)
{
	static const unsigned interrupts[] = { 0, 4, 64 };
	struct mix *mix = calloc(1, sizeof(*mix));
	unsigned cpus;

	chance = seed;
	cpus = one_in(4) ? 2 : 1;
	play_open(&mix->play, seed, cpus, interrupts[draw(ARRAY_LEN(interrupts))]);
	mix->script = writer_of(mix->script_text, sizeof(mix->script_text) - 1);
	mix->play.script = mix->script_text;
	mix->play.what = "a mix";
	play_run(&mix->play, "start\n");
	play_wait(&mix->play, 0.2);
	mix->count = 1 + draw(CLIENTS_MAX);
	for (size_t i = 0; i < mix->count; i++)
		draw_guest(mix, i);
	draw_events(mix);
	mix->play.owner = mix;
	mix->play.on_poll = on_poll;
	mix_run(mix);
	play_rest(&mix->play);
	play_check(&mix->play, bases[cpus - 1], SCENARIO_BASES);
	play_run(&mix->play, "stop\n");
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		free(mix->guests[i].bytes);
	play_close(&mix->play);
	free(mix);
}

static void take_bases(void)
{
	for (unsigned cpus = 1; cpus <= 2; cpus++) {
		scenario_bases(bases[cpus - 1], cpus);
		for (size_t i = 0; i < SCENARIO_BASES; i++)
			bases[cpus - 1][i].may_lack_a_copy = true;
	}
}

static uint64_t first_seed = 1, seed_count = SLICE_SEEDS;

static void test_seeds(void)
{
	take_bases();
	for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
		run_seed(seed);
	/* test/run.py sums these up. */
	play_note("from %llu: %llu seeds, %llu requests, %llu answers, %llu bytes up, %llu bytes "
		  "down, "
		  "%llu events, %llu ms CPU",
		  (unsigned long long)first_seed, (unsigned long long)seed_count,
		  (unsigned long long)total.requests, (unsigned long long)total.answers,
		  (unsigned long long)total.bytes_up, (unsigned long long)total.bytes_down,
		  (unsigned long long)total.events,
		  (unsigned long long)(clock() * 1000 / CLOCKS_PER_SEC));
}

int main(int argc, char **argv)
{
	static const struct play_test tests[] = { PLAY_TEST(test_seeds) };

	if (getenv("PORTCULLIS_SOAK"))
		seed_count = SOAK_SEEDS;
	if (argc > 1)
		first_seed = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		seed_count = strtoull(argv[2], NULL, 10);
	return play_main(tests, ARRAY_LEN(tests));
}
