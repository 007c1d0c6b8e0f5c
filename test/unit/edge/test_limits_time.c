/* Limits on time and on what an origin does: the clock is moved, not waited for. A second before a limit
 * nothing has happened; a second behind it the exchange has ended with the row's status and word, and the
 * row's counter has moved by one. The test is dialer and origin itself. */
#include "worker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct played {
	struct worker worker;
	struct ipc_channel link, dialer;
	struct os_address origin;
	int origin_fd;      /* listens */
	bool is_silent;     /* the dialer does not answer */
	int client, server; /* the two ends; server: the origin's, -1 while none */
};

static void on_dial(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct played *played = owner;
	const struct ipc_dial *dial = message->body;
	struct ipc_dialed dialed = { .question = dial->question, .family = OS_FAMILY_V4 };
	int fd;

	if (message->number != IPC_MESSAGE_dial || played->is_silent)
		return;
	assert_int_equal(os_connect(&played->origin, &fd), 0);
	assert_int_equal(ipc_send(channel, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, &fd, 1), 0);
	ipc_channel_flush(channel);
	os_close(fd);
}

static const struct ipc_handlers dialer_handlers = { on_dial, worker_channel_closed };

static void link_dialer(struct played *played)
{
	worker_link(&played->worker, IPC_DIALER, &played->link, &played->dialer, &dialer_handlers,
		    played);
}

static const char text[] = "site localhost default {\n respond 200 \"hello\" on /hello\n"
			   " proxy 127.0.0.1:9\n}\n";

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	worker_start(&played->worker, text);
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &played->origin));
	assert_int_equal(os_listen(&played->origin, 0, 128, &played->origin_fd), 0);
	assert_int_equal(os_socket_local(played->origin_fd, &played->origin), 0);
	link_dialer(played);
	played->client = worker_connect(&played->worker);
	played->server = -1;
	*state = played;
	return 0;
}

static void turns(struct played *played)
{
	for (int i = 0; i < 12; i++) {
		worker_turns(&played->worker, 1);
		if (ipc_channel_is_open(&played->link))
			ipc_channel_flush(&played->link);
	}
}

static int stop(void **state)
{
	struct played *played = *state;

	os_close(played->client);
	os_close(played->server);
	turns(played);
	assert_int_equal(played->worker.edge->exchange_count, 0);
	assert_int_equal(played->worker.edge->connection_count, 0);
	ipc_channel_close(&played->link);
	ipc_channel_close(&played->dialer);
	os_close(played->origin_fd);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

static void move(struct played *played, uint64_t duration_ns)
{
	os_clock_move((int64_t)duration_ns, (int64_t)duration_ns);
	turns(played);
}

static uint64_t counted(const struct played *played, enum telemetry_limit limit)
{
	return played->worker.edge->counters->limits[limit];
}

static void say(int fd, const char *words)
{
	assert_int_equal(os_write(fd, words, strlen(words)), (ssize_t)strlen(words));
}

/* What the client has been told so far. */
static const char *heard(struct played *played)
{
	return worker_talk(&played->worker, played->client, "", 0, 1);
}

static void check_over(struct played *played, enum telemetry_limit limit, uint64_t before,
		       uint16_t status, const char *end)
{
	char wanted[64];

	assert_int_equal(counted(played, limit) - before, 1);
	if (status) {
		const char *answer = heard(played);

		snprintf(wanted, sizeof(wanted), "HTTP/1.1 %d ", status);
		if (!strstr(answer, wanted))
			fail_msg("%s: no %s in %.100s", telemetry_limits[limit].name, wanted,
				 answer);
		assert_int_equal(status, telemetry_limits[limit].status);
	}
	if (end) {
		const char *line = worker_line(&played->worker);

		assert_non_null(line);
		if (!strstr(line, end))
			fail_msg("%s: no %s in %s", telemetry_limits[limit].name, end, line);
	}
}

/* ---- Clients that are slow -------------------------------------------------------------------------------- */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n"

static void slow_head(struct played *played)
{
	say(played->client, GET("/hello"));
}

static void slow_body(struct played *played)
{
	/* Fast enough on the whole, but then nothing more. */
	static char part[20000];

	say(played->client,
	    "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000\r\n\r\n");
	memset(part, 'x', sizeof(part));
	assert_int_equal(os_write(played->client, part, sizeof(part)), sizeof(part));
}

static void no_body(struct played *played)
{
	say(played->client,
	    "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000\r\n\r\n");
}

static void idle(struct played *played)
{
	say(played->client, GET("/hello") "\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "hello"));
	assert_non_null(worker_line(&played->worker));
}

struct time_case {
	enum telemetry_limit limit;
	void (*begin)(struct played *played);
	uint16_t status;
	const char *end; /* NULL: it is no exchange's */
};

static const struct time_case client_cases[] = {
	{ TELEMETRY_LIMIT_HEADER_TIME, slow_head, 408, "\"end\":\"client-timeout:header-time\"" },
	{ TELEMETRY_LIMIT_BODY_GAP, slow_body, 408, "\"end\":\"client-timeout:body-gap\"" },
	{ TELEMETRY_LIMIT_BODY_GRACE, no_body, 408, "\"end\":\"client-timeout:body-rate\"" },
	{ TELEMETRY_LIMIT_IDLE, idle, 0, NULL },
};

static void check_time(struct played *played, const struct time_case *test)
{
	uint64_t value = telemetry_limits[test->limit].value;
	uint64_t before = counted(played, test->limit);

	test->begin(played);
	turns(played);
	move(played, value - OS_SECOND);
	assert_int_equal(counted(played, test->limit), before);
	assert_int_equal(played->worker.edge->connection_count, 1);
	move(played, 2 * OS_SECOND);
	check_over(played, test->limit, before, test->status, test->end);
}

static void test_slow_clients(void **state)
{
	struct played *played = *state;

	for (size_t i = 0; i < ARRAY_LEN(client_cases); i++) {
		check_time(played, &client_cases[i]);
		os_close(played->client);
		turns(played);
		assert_int_equal(played->worker.edge->connection_count, 0);
		played->client = worker_connect(&played->worker);
	}
}

/* A site's own times, and a path's: what it says counts, not what holds for all. */
static void test_times_of_a_site(void **state)
{
	struct played *played = *state;
	uint64_t idle_before = counted(played, TELEMETRY_LIMIT_IDLE);
	uint64_t head_before = counted(played, TELEMETRY_LIMIT_HEADER_TIME);

	worker_reload(&played->worker,
		      "limits { idle 30s header-time 10s }\n"
		      "site localhost default { limits { idle 90s header-time 40s }\n"
		      " limits on /hello { idle 5s }\n respond 200 \"hello\" }");
	os_close(played->client);
	turns(played);
	/* Before the first request: the default site's. */
	played->client = worker_connect(&played->worker);
	move(played, 60 * OS_SECOND);
	assert_int_equal(played->worker.edge->connection_count, 1);
	say(played->client, GET("/other"));
	turns(played);
	move(played, 39 * OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_HEADER_TIME), head_before);
	say(played->client, "\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "hello"));
	move(played, 89 * OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_IDLE), idle_before);
	/* Behind a request for the path: that one's. */
	say(played->client, GET("/hello") "\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "hello"));
	move(played, 4 * OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_IDLE), idle_before);
	move(played, 2 * OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_IDLE), idle_before + 1);
	assert_int_equal(played->worker.edge->connection_count, 0);
}

/* Just above the rate lives as long as it takes; just below it ends with the grace. */
static void test_body_rate(void **state)
{
	struct played *played = *state;
	uint64_t rate = telemetry_limits[TELEMETRY_LIMIT_BODY_RATE].value;
	static const char bytes[512];

	for (int over = -1; over <= 1; over++) {
		uint64_t before = counted(played, TELEMETRY_LIMIT_BODY_RATE);
		size_t each = (size_t)(rate - (uint64_t)(over * 128));
		int seconds = 0;

		say(played->client,
		    "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n");
		turns(played);
		while (seconds < 40 && counted(played, TELEMETRY_LIMIT_BODY_RATE) == before) {
			assert_int_equal(os_write(played->client, bytes, each), (ssize_t)each);
			turns(played);
			move(played, OS_SECOND);
			seconds++;
		}
		assert_true((seconds < 40) == (over > 0));
		/* The grace, of which each second eats as much as its bytes fell short. */
		assert_true(over <= 0 || seconds > 15);
		os_close(played->client);
		turns(played);
		while (worker_line(&played->worker))
			;
		played->client = worker_connect(&played->worker);
	}
}

/* Our end is sent and the client goes on: it is read for a while and then let go. */
static void test_linger(void **state)
{
	struct played *played = *state;
	uint64_t before = counted(played, TELEMETRY_LIMIT_LINGER);

	say(played->client, GET("/hello") "Connection: close\r\n\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "hello"));
	move(played, telemetry_limits[TELEMETRY_LIMIT_LINGER].value - OS_SECOND);
	assert_int_equal(played->worker.edge->connection_count, 1);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_LINGER), before);
	move(played, 2 * OS_SECOND);
	assert_int_equal(played->worker.edge->connection_count, 0);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_LINGER) - before, 1);
}

/* ---- Origins --------------------------------------------------------------------------------------------------- */

/* A request is on its way and the origin's end of the connection stands. */
static void ask(struct played *played, const char *request)
{
	struct os_address peer;
	int failed = -EAGAIN;

	say(played->client, request);
	for (int i = 0; i < 50 && failed == -EAGAIN; i++) {
		turns(played);
		failed = os_accept(played->origin_fd, &played->server, &peer);
	}
	assert_int_equal(failed, 0);
	turns(played);
}

static void unconnected(struct played *played)
{
	played->is_silent = true;
	say(played->client, GET("/") "\r\n");
}

static void no_answer(struct played *played)
{
	ask(played, GET("/") "\r\n");
}

static void half_body(struct played *played)
{
	ask(played, GET("/") "\r\n");
	say(played->server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
	turns(played);
	(void)heard(played);
}

static void event_stream(struct played *played)
{
	ask(played, GET("/") "\r\n");
	say(played->server,
	    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
	turns(played);
	(void)heard(played);
}

static void tunnel(struct played *played)
{
	ask(played, GET("/") "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
	say(played->server,
	    "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "HTTP/1.1 101 "));
}

/* In steps: other limits of the same exchange (a client's send-gap) are not these. */
static const struct time_case origin_cases[] = {
	{ TELEMETRY_LIMIT_FIRST_BYTE, no_answer, 504, "\"end\":\"origin-first-byte-timeout\"" },
	{ TELEMETRY_LIMIT_RESPONSE_GAP, half_body, 0, "\"end\":\"origin-timeout\"" },
	{ TELEMETRY_LIMIT_EVENT_STREAM, event_stream, 0, "\"end\":\"origin-timeout\"" },
	{ TELEMETRY_LIMIT_TUNNEL, tunnel, 0, "\"end\":\"tunnel-timeout\"" },
};

static void test_slow_origins(void **state)
{
	struct played *played = *state;

	for (size_t i = 0; i < ARRAY_LEN(origin_cases); i++) {
		check_time(played, &origin_cases[i]);
		os_close(played->client);
		os_close(TAKE_FD(played->server));
		turns(played);
		played->client = worker_connect(&played->worker);
	}
}

/* The dialer's own time bounds it; a dialer that hangs is not waited for much longer. */
static void test_connect(void **state)
{
	struct played *played = *state;
	uint64_t before = counted(played, TELEMETRY_LIMIT_CONNECT);

	unconnected(played);
	turns(played);
	move(played, telemetry_limits[TELEMETRY_LIMIT_CONNECT].value - OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_CONNECT), before);
	move(played, 10 * OS_SECOND);
	check_over(played, TELEMETRY_LIMIT_CONNECT, before, 504,
		   "\"end\":\"origin-connect-timeout\"");
}

/* An origin that says neither 100 nor anything else gets the body after a while. */
static void test_continue(void **state)
{
	struct played *played = *state;
	uint64_t before = counted(played, TELEMETRY_LIMIT_CONTINUE);
	char got[4096];
	ssize_t len;

	ask(played, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
		    "Expect: 100-continue\r\n\r\n");
	len = os_read(played->server, got, sizeof(got));
	assert_true(len > 0);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_CONTINUE), before);
	assert_null(strstr(heard(played), "100 Continue"));
	move(played, telemetry_limits[TELEMETRY_LIMIT_CONTINUE].value + OS_SECOND);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_CONTINUE) - before, 1);
	assert_non_null(strstr(heard(played), "HTTP/1.1 100 Continue\r\n"));
	say(played->client, "body");
	turns(played);
	len = os_read(played->server, got, sizeof(got));
	assert_int_equal(len, 4);
	say(played->server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "HTTP/1.1 200 "));
}

/* ---- What an origin sends ------------------------------------------------------------------------------------- */

static char answer[1 << 18];

static void make_head(size_t amount)
{
	size_t len = (size_t)snprintf(answer, sizeof(answer),
				      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ");

	memset(answer + len, 'a', amount - len - 4);
	memcpy(answer + amount - 4, "\r\n\r\n", 5);
}

static void make_fields(size_t amount)
{
	size_t len = (size_t)snprintf(answer, sizeof(answer),
				      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");

	for (size_t i = 1; i < amount; i++)
		len += (size_t)snprintf(answer + len, sizeof(answer) - len, "X: 1\r\n");
	memcpy(answer + len, "\r\n", 3);
}

static void make_interims(size_t amount)
{
	size_t len = 0;

	for (size_t i = 0; i < amount; i++)
		len += (size_t)snprintf(answer + len, sizeof(answer) - len,
					"HTTP/1.1 103 Early Hints\r\n\r\n");
	snprintf(answer + len, sizeof(answer) - len,
		 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

static const struct {
	enum telemetry_limit limit;
	void (*make)(size_t amount);
	const char *end;
} answer_cases[] = {
	{ TELEMETRY_LIMIT_UPSTREAM_HEAD, make_head, "\"end\":\"origin-malformed:head-too-long\"" },
	{ TELEMETRY_LIMIT_UPSTREAM_FIELDS, make_fields,
	  "\"end\":\"origin-malformed:too-many-fields\"" },
	{ TELEMETRY_LIMIT_INTERIM_RESPONSES, make_interims,
	  "\"end\":\"origin-malformed:too-many-interim-responses\"" },
};

static void check_answer(struct played *played, size_t i, int over)
{
	enum telemetry_limit limit = answer_cases[i].limit;
	uint64_t before = counted(played, limit);
	const char *line;
	size_t sent = 0;

	answer_cases[i].make((size_t)telemetry_limits[limit].value + (size_t)over);
	ask(played, GET("/") "\r\n");
	while (sent < strlen(answer)) {
		ssize_t put = os_write(played->server, answer + sent, strlen(answer) - sent);

		if (put < 0 && put != -EAGAIN)
			break;
		sent += put > 0 ? (size_t)put : 0;
		turns(played);
	}
	turns(played);
	if (over > 0) {
		check_over(played, limit, before, 502, answer_cases[i].end);
	} else {
		assert_non_null(strstr(heard(played), "HTTP/1.1 200 "));
		assert_int_equal(counted(played, limit), before);
		line = worker_line(&played->worker);
		assert_true(line && strstr(line, "\"end\":\"ok\""));
	}
	os_close(TAKE_FD(played->server));
	os_close(played->client);
	turns(played);
	played->client = worker_connect(&played->worker);
}

static void test_answers(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(answer_cases); i++) {
		for (int over = -1; over <= 1; over++)
			check_answer(*state, i, over);
	}
}

/* Single bytes in chunks with long sizes; `amount` bytes before the last size line's LF. */
static size_t make_chunk_overhead(size_t amount)
{
	enum { EACH = 21, LAST = 2, SHORTEST = 6 };
	size_t left = amount - LAST, len;

	len = (size_t)snprintf(answer, sizeof(answer),
			       "POST / HTTP/1.1\r\nHost: localhost\r\n"
			       "Transfer-Encoding: chunked\r\n\r\n");
	for (; left >= EACH + SHORTEST; left -= EACH)
		len += (size_t)snprintf(answer + len, sizeof(answer) - len, "%016d\r\nx\r\n", 1);
	if (left > EACH) {
		len += (size_t)snprintf(answer + len, sizeof(answer) - len, "%011d\r\nx\r\n", 1);
		left -= 16;
	}
	return len + (size_t)snprintf(answer + len, sizeof(answer) - len, "%0*d\r\nx\r\n0\r\n\r\n",
				      (int)left - 5, 1);
}

static void check_chunk_overhead(struct played *played, int over)
{
	enum telemetry_limit limit = TELEMETRY_LIMIT_CHUNK_OVERHEAD;
	uint64_t before = counted(played, limit);
	static char sink[65536];
	size_t len = make_chunk_overhead((size_t)telemetry_limits[limit].value + (size_t)over);

	/* The head and the first bytes, then the rest as far as it is taken. */
	answer[len] = '\0';
	ask(played, answer);
	for (int i = 0; i < 20; i++) {
		(void)!os_read(played->server, sink, sizeof(sink));
		turns(played);
	}
	if (over > 0) {
		check_over(played, limit, before, 400, "\"end\":\"limit:chunk-overhead\"");
	} else {
		say(played->server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		turns(played);
		assert_non_null(strstr(heard(played), "HTTP/1.1 200 "));
		assert_int_equal(counted(played, limit), before);
		assert_non_null(worker_line(&played->worker));
	}
	os_close(TAKE_FD(played->server));
	os_close(played->client);
	turns(played);
	played->client = worker_connect(&played->worker);
}

static void test_chunk_overhead(void **state)
{
	for (int over = -1; over <= 1; over++)
		check_chunk_overhead(*state, over);
}

/* One request has the connection, one waits for it, and the next is told at once. */
static void test_origin_queue(void **state)
{
	static const char answered[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	struct played *played = *state;
	uint64_t over = counted(played, TELEMETRY_LIMIT_ORIGIN_CONNECTIONS);
	uint64_t full = counted(played, TELEMETRY_LIMIT_ORIGIN_QUEUE);
	int waiting, refused;

	worker_reload(&played->worker,
		      "site localhost default {\n limits { origin-connections 1 origin-queue 1 }\n"
		      " proxy 127.0.0.1:9\n}\n");
	ask(played, GET("/") "\r\n");
	assert_int_equal(counted(played, TELEMETRY_LIMIT_ORIGIN_CONNECTIONS), over);
	waiting = worker_connect(&played->worker);
	say(waiting, GET("/") "\r\n");
	turns(played);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_ORIGIN_CONNECTIONS) - over, 1);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_ORIGIN_QUEUE), full);
	refused = worker_connect(&played->worker);
	assert_non_null(strstr(
		worker_talk(&played->worker, refused, GET("/") "\r\n", strlen(GET("/") "\r\n"), 20),
		"HTTP/1.1 503 "));
	assert_int_equal(counted(played, TELEMETRY_LIMIT_ORIGIN_QUEUE) - full, 1);
	assert_non_null(strstr(worker_line(&played->worker), "\"end\":\"queue-full\""));
	say(played->server, answered);
	turns(played);
	assert_non_null(strstr(heard(played), "HTTP/1.1 200 "));
	say(played->server, answered);
	assert_non_null(strstr(worker_talk(&played->worker, waiting, "", 0, 20), "HTTP/1.1 200 "));
	os_close(waiting);
	os_close(refused);
}

/* An unused connection to an origin is kept for its time, and no longer. */
static void test_origin_idle(void **state)
{
	struct played *played = *state;
	struct upstream_counts counts;

	ask(played, GET("/") "\r\n");
	say(played->server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	turns(played);
	counts = upstream_count(played->worker.edge->upstream);
	assert_true(counts.busy == 0 && counts.idle == 1);
	move(played, telemetry_limits[TELEMETRY_LIMIT_ORIGIN_IDLE].value - OS_SECOND);
	counts = upstream_count(played->worker.edge->upstream);
	assert_int_equal(counts.idle, 1);
	move(played, 2 * OS_SECOND);
	counts = upstream_count(played->worker.edge->upstream);
	assert_int_equal(counts.idle, 0);
}

/* ---- Questions ------------------------------------------------------------------------------------------------- */

/* As many unused connections to one origin as may be, and one more, for which the oldest goes. */
static void test_origin_idle_connections(void **state)
{
	enum { MOST = 64 };
	struct played *played = *state;
	int clients[MOST + 1], servers[MOST + 1];
	struct upstream_counts counts;

	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_ORIGIN_IDLE_CONNECTIONS].value, MOST);
	for (int i = 0; i <= MOST; i++) {
		ask(played, GET("/") "\r\n");
		clients[i] = played->client;
		servers[i] = played->server;
		played->client = worker_connect(&played->worker);
	}
	for (int i = 0; i <= MOST; i++) {
		say(servers[i], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		turns(played);
		counts = upstream_count(played->worker.edge->upstream);
		assert_int_equal(counts.idle, i < MOST ? i + 1 : MOST);
		assert_int_equal(counted(played, TELEMETRY_LIMIT_ORIGIN_IDLE_CONNECTIONS),
				 i == MOST);
	}
	/* The one that had been unused for longest. */
	assert_true(os_read(servers[1], (char[1024]){ 0 }, 1024) > 0);
	assert_int_equal(os_read(servers[1], (char[1]){ 0 }, 1), -EAGAIN);
	assert_true(os_read(servers[0], (char[1024]){ 0 }, 1024) > 0);
	assert_int_equal(os_read(servers[0], (char[1]){ 0 }, 1), 0);
	played->server = -1;
	for (int i = 0; i <= MOST; i++) {
		os_close(clients[i]);
		os_close(servers[i]);
	}
}

/* The last place in the table is given, and after it none. */
static void test_questions(void **state)
{
	struct played *played = *state;
	uint32_t most = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_QUESTIONS].value;
	uint64_t before = counted(played, TELEMETRY_LIMIT_QUESTIONS);
	struct edge *edge = played->worker.edge;

	for (int over = 0; over <= 1; over++) {
		uint32_t pretended = most - 1 + (uint32_t)over;

		edge->question_open += pretended;
		if (over)
			say(played->client, GET("/") "\r\n");
		else
			ask(played, GET("/") "\r\n");
		turns(played);
		edge->question_open -= pretended;
		os_close(TAKE_FD(played->server));
		turns(played);
		assert_int_equal(counted(played, TELEMETRY_LIMIT_QUESTIONS) - before, over);
		if (over) {
			assert_non_null(strstr(heard(played), "HTTP/1.1 503 "));
			assert_non_null(worker_line(&played->worker));
		}
		os_close(played->client);
		turns(played);
		while (worker_line(&played->worker))
			;
		played->client = worker_connect(&played->worker);
	}
}

/* The dialer reads nothing: once its queue is full, who needs it is told at once. */
static void test_channel_queue(void **state)
{
	struct played *played = *state;
	uint64_t before = counted(played, TELEMETRY_LIMIT_CHANNEL_QUEUE);
	struct ipc_channel full = { 0 };
	int fds[2];

	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(
		ipc_channel_open(&full, played->worker.loop, fds[0], IPC_WORKER, IPC_DIALER), 0);
	ipc_channel_handle(&full, &worker_channel, &played->worker);
	edge_link(played->worker.edge, IPC_DIALER, &full);
	for (int failed = 0; failed != IPC_FULL;) {
		failed = IPC_SEND(&full, cancel, .question = { 0 });
		assert_true(failed == 0 || failed == IPC_FULL);
		if (failed == 0)
			ipc_channel_flush(&full);
	}
	assert_int_equal(counted(played, TELEMETRY_LIMIT_CHANNEL_QUEUE), before);
	say(played->client, GET("/") "\r\n");
	turns(played);
	check_over(played, TELEMETRY_LIMIT_CHANNEL_QUEUE, before, 503, "\"status\":503");
	say(played->client, GET("/hello") "\r\n");
	turns(played);
	assert_non_null(strstr(heard(played), "hello"));
	edge_link(played->worker.edge, IPC_DIALER, &played->link);
	ipc_channel_close(&full);
	os_close(fds[1]);
}

/* A reload does not wait for ever for an exchange of before. */
static void test_snapshot_wait(void **state)
{
	struct played *played = *state;
	const struct snapshot *old = played->worker.snapshot;
	uint64_t before = counted(played, TELEMETRY_LIMIT_SNAPSHOT_WAIT);

	ask(played, GET("/") "\r\n");
	worker_reload(&played->worker, text);
	turns(played);
	assert_int_equal(counted(played, TELEMETRY_LIMIT_SNAPSHOT_WAIT), before);
	edge_interrupt_snapshot(played->worker.edge, old);
	turns(played);
	check_over(played, TELEMETRY_LIMIT_SNAPSHOT_WAIT, before, 503,
		   "\"end\":\"limit:snapshot-wait\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_slow_clients, start, stop),
		cmocka_unit_test_setup_teardown(test_times_of_a_site, start, stop),
		cmocka_unit_test_setup_teardown(test_body_rate, start, stop),
		cmocka_unit_test_setup_teardown(test_linger, start, stop),
		cmocka_unit_test_setup_teardown(test_slow_origins, start, stop),
		cmocka_unit_test_setup_teardown(test_connect, start, stop),
		cmocka_unit_test_setup_teardown(test_continue, start, stop),
		cmocka_unit_test_setup_teardown(test_answers, start, stop),
		cmocka_unit_test_setup_teardown(test_chunk_overhead, start, stop),
		cmocka_unit_test_setup_teardown(test_origin_queue, start, stop),
		cmocka_unit_test_setup_teardown(test_origin_idle, start, stop),
		cmocka_unit_test_setup_teardown(test_origin_idle_connections, start, stop),
		cmocka_unit_test_setup_teardown(test_questions, start, stop),
		cmocka_unit_test_setup_teardown(test_channel_queue, start, stop),
		cmocka_unit_test_setup_teardown(test_snapshot_wait, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/limits_time", tests, NULL, NULL);
}
