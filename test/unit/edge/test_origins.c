/* Several origins: who takes a request, what a failed one's request becomes, and who is left out. The dialer is played
 * at the other end of a real channel, origins at the other ends of real sockets. */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ORIGINS = 4, SERVERS = 64 };

/* What an origin does: with a connection, or with each request. */
enum way {
	ANSWERS,
	REFUSES,
	CLOSES, /* once it was asked */
	BREAKS, /* in the middle of its head */
	WAITS,  /* with its answer, until it answers again */
};

struct server {
	int fd; /* -1: free */
	uint32_t origin;
	char got[65536];
	size_t len;
};

struct played {
	struct worker worker;
	struct ipc_channel link, dialer;
	struct os_address address;
	int listener, client;
	enum way ways[ORIGINS];
	uint32_t dialed[ORIGINS], asked[ORIGINS];
	char body[64]; /* of the last whole request */
	struct server servers[SERVERS];
};

/* ---- The dialer ----------------------------------------------------------------------------------------------- */

/* Ports count from 1. */
static uint32_t origin_index(const struct played *played, uint64_t id)
{
	const struct snapshot_origin *origin = snapshot_find_origin(played->worker.snapshot, id);

	assert_non_null(origin);
	return origin->port - 1u;
}

static void on_dial(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct played *played = owner;
	const struct ipc_dial *dial = message->body;
	struct ipc_dialed dialed = { .question = dial->question, .family = OS_FAMILY_V4 };
	struct ipc_dial_failed failed = { .question = dial->question, .status = IPC_DIAL_REFUSED };
	struct os_address peer;
	uint32_t index, at = 0;
	int fd;

	if (message->number != IPC_MESSAGE_dial)
		return;
	index = origin_index(played, dial->origin);
	played->dialed[index]++;
	if (played->ways[index] == REFUSES) {
		assert_int_equal(
			ipc_send(channel, IPC_MESSAGE_dial_failed, &failed, SPAN_NONE, NULL, 0), 0);
		ipc_channel_flush(channel);
		return;
	}
	while (played->servers[at].fd >= 0)
		assert_true(++at < SERVERS);
	assert_int_equal(os_connect(&played->address, &fd), 0);
	while (os_accept(played->listener, &played->servers[at].fd, &peer) == -EAGAIN)
		;
	played->servers[at].origin = index;
	played->servers[at].len = 0;
	assert_int_equal(ipc_send(channel, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, &fd, 1), 0);
	ipc_channel_flush(channel);
	os_close(fd);
}

static const struct ipc_handlers dialer_handlers = { on_dial, worker_channel_closed };

/* ---- Origins --------------------------------------------------------------------------------------------------- */

static void server_close(struct server *server)
{
	os_close(server->fd);
	server->fd = -1;
}

/* Length of a whole request that stands at the start, or 0. */
static size_t whole_request(struct played *played, struct server *server)
{
	struct span got = span_of(server->got, server->len);
	size_t head = span_find(got, SPAN("\r\n\r\n")), length = 0;
	const char *field;

	if (head == got.len)
		return 0;
	server->got[server->len] = '\0';
	field = strstr(server->got, "Content-Length: ");
	if (field)
		length = strtoul(field + 16, NULL, 10);
	if (server->len < head + 4 + length)
		return 0;
	(void)snprintf(played->body, sizeof(played->body), "%.*s", (int)length,
		       server->got + head + 4);
	return head + 4 + length;
}

static void server_run(struct played *played, struct server *server)
{
	enum way way = played->ways[server->origin];
	ssize_t n = os_read(server->fd, server->got + server->len,
			    sizeof(server->got) - 1 - server->len);
	char answer[128];
	size_t whole;

	if (n == 0 || (n < 0 && n != -EAGAIN)) {
		server_close(server);
		return;
	}
	server->len += n > 0 ? (size_t)n : 0;
	whole = way == WAITS ? 0 : whole_request(played, server);
	if (!whole)
		return;
	played->asked[server->origin]++;
	memmove(server->got, server->got + whole, server->len - whole);
	server->len -= whole;
	if (way == CLOSES || way == BREAKS) {
		if (way == BREAKS)
			(void)!os_write(server->fd, "HTTP/1.1 20", 11);
		server_close(server);
		return;
	}
	(void)snprintf(answer, sizeof(answer),
		       "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\norigin %c",
		       'a' + (int)server->origin);
	(void)!os_write(server->fd, answer, strlen(answer));
}

static void turns(struct played *played)
{
	for (int i = 0; i < 16; i++) {
		worker_turns(&played->worker, 1);
		if (ipc_channel_is_open(&played->link))
			ipc_channel_flush(&played->link);
		for (size_t at = 0; at < SERVERS; at++) {
			if (played->servers[at].fd >= 0)
				server_run(played, &played->servers[at]);
		}
	}
}

/* ---- The client -------------------------------------------------------------------------------------------------- */

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	for (size_t i = 0; i < SERVERS; i++)
		played->servers[i].fd = -1;
	worker_start(&played->worker, "site localhost default { proxy 1 2 }\n");
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &played->address));
	assert_int_equal(os_listen(&played->address, 0, 128, &played->listener), 0);
	assert_int_equal(os_socket_local(played->listener, &played->address), 0);
	worker_link(&played->worker, IPC_DIALER, &played->link, &played->dialer, &dialer_handlers,
		    played);
	played->client = -1;
	*state = played;
	return 0;
}

static int stop(void **state)
{
	struct played *played = *state;

	os_close(played->client);
	turns(played);
	assert_int_equal(played->worker.edge->exchange_count, 0);
	for (size_t i = 0; i < SERVERS; i++)
		server_close(&played->servers[i]);
	turns(played);
	ipc_channel_close(&played->link);
	ipc_channel_close(&played->dialer);
	os_close(played->listener);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

#define GET "GET / HTTP/1.1\r\nHost: localhost\r\n"
#define POST "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"

/* What one request on a connection of its own is answered. */
static const char *ask(struct played *played, const char *request)
{
	os_close(played->client);
	played->client = worker_connect(&played->worker);
	assert_int_equal(os_write_all(played->client, request, strlen(request)), 0);
	turns(played);
	return worker_talk(&played->worker, played->client, "", 0, 1);
}

static void expect(struct played *played, const char *request, const char *wanted)
{
	const char *answer = ask(played, request);

	if (!strstr(answer, wanted))
		fail_msg("no %s in %.300s (dialed %u %u, asked %u %u)", wanted, answer,
			 played->dialed[0], played->dialed[1], played->asked[0], played->asked[1]);
}

static void expect_line(struct played *played, const char *wanted)
{
	const char *line = worker_line(&played->worker);

	assert_non_null(line);
	if (!strstr(line, wanted))
		fail_msg("no %s in %s", wanted, line);
}

static void skip_lines(struct played *played)
{
	while (worker_line(&played->worker))
		;
}

static uint64_t counter(const struct played *played, enum telemetry_counter which)
{
	return played->worker.edge->counters->counters[which];
}

static void reload(struct played *played, const char *text)
{
	worker_reload(&played->worker, text);
	skip_lines(played);
}

/* ---- Tests -------------------------------------------------------------------------------------------------------- */

static const char in_order[] = "upstream app { origin 1 weight 256; origin 2; eject 0 }\n"
			       "site localhost default { proxy app }\n";

/* The first origin fails in one way or another; what then becomes of which request. */
static void test_another_origin(void **state)
{
	static const struct {
		enum way way;
		const char *request, *wanted, *line;
		bool elsewhere;
	} rows[] = {
		{ ANSWERS, GET "\r\n", "origin a", "\"end\":\"ok\"", false },
		{ REFUSES, GET "\r\n", "origin b", "\"upstream_tries\":2", true },
		{ REFUSES, POST, "origin b", "\"upstream_tries\":2", true },
		{ CLOSES, GET "\r\n", "origin b", "\"upstream_tries\":2", true },
		{ CLOSES, POST, " 502 ", "origin-closed", false },
		{ BREAKS, GET "\r\n", " 502 ", "origin-closed", false },
	};
	struct played *played = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t again = counter(played, TELEMETRY_COUNTER_ORIGIN_TRIED_AGAIN);
		uint32_t asked = played->asked[1];

		reload(played, "site localhost default { respond 200 }\n");
		upstream_close_idle(played->worker.edge->upstream);
		reload(played, in_order);
		played->ways[0] = rows[i].way;
		played->body[0] = '\0';
		expect(played, rows[i].request, rows[i].wanted);
		expect_line(played, rows[i].line);
		assert_int_equal(counter(played, TELEMETRY_COUNTER_ORIGIN_TRIED_AGAIN) - again,
				 rows[i].elsewhere);
		assert_int_equal(played->asked[1] - asked, rows[i].elsewhere);
		if (rows[i].elsewhere && rows[i].request[0] == 'P')
			assert_string_equal(played->body, "hello");
	}
	/* Both: the last one's failure is the answer. */
	played->ways[0] = played->ways[1] = REFUSES;
	upstream_close_idle(played->worker.edge->upstream);
	expect(played, GET "\r\n", "origin-refused: 2");
	expect_line(played, "\"upstream_tries\":2");
}

static struct balance_origin *state_of(struct played *played, uint16_t port)
{
	const struct snapshot *snapshot = played->worker.snapshot;

	for (size_t i = 0; i < snapshot->origin_count; i++) {
		if (snapshot->origins[i].port == port)
			return &((struct edge_origin *)map_get(&played->worker.edge->origins,
							       snapshot->origins[i].id))
					->state;
	}
	return NULL;
}

/* Ten at once, and one more for each five requests: then the failure is answered. */
static void test_retries(void **state)
{
	enum { AT_ONCE = 12 }; /* ten, and what the first of them earn */
	struct played *played = *state;
	uint64_t before = played->worker.edge->counters->limits[TELEMETRY_LIMIT_RETRIES];

	reload(played, in_order);
	played->ways[0] = REFUSES;
	for (int i = 0; i < AT_ONCE; i++)
		expect(played, GET "\r\n", "origin b");
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_RETRIES] - before,
			 0);
	skip_lines(played);
	expect(played, GET "\r\n", "origin-refused: 1");
	expect_line(played, "\"end\":\"origin-refused\"");
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_RETRIES] - before,
			 1);
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_RETRIES].value, 20);
	played->ways[0] = ANSWERS;
	for (int i = 0; i < 5; i++)
		expect(played, GET "\r\n", "origin a");
	upstream_close_idle(played->worker.edge->upstream);
	played->ways[0] = REFUSES;
	expect(played, GET "\r\n", "origin b");
	/* With nobody else there none is used up. */
	for (int i = 0; i < 30; i++) {
		state_of(played, 2)->is_down = true;
		expect(played, GET "\r\n", "origin-refused: 1");
	}
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_RETRIES] - before,
			 1);
	state_of(played, 2)->is_down = false;
	expect(played, GET "\r\n", "origin b");
}

/* Out after three failures, for ten seconds; in again for one try; a reload changes nothing about it. */
static void test_ejection(void **state)
{
	static const char text[] = "upstream app { origin 1 weight 256; origin 2 }\n"
				   "site localhost default { proxy app }\n";
	struct played *played = *state;
	uint32_t dialed;

	reload(played, text);
	played->ways[0] = REFUSES;
	for (int i = 0; i < 3; i++)
		expect(played, GET "\r\n", "origin b");
	assert_int_equal(counter(played, TELEMETRY_COUNTER_ORIGIN_EJECTED), 1);
	dialed = played->dialed[0];
	assert_int_equal(dialed, 3);
	skip_lines(played);
	expect(played, GET "\r\n", "origin b");
	reload(played, "site other.test default { proxy app on /x }\nsite localhost { proxy app }\n"
		       "upstream app { origin 2; origin 1 weight 256 }\n");
	for (int i = 0; i < 5; i++)
		expect(played, GET "\r\n", "origin b");
	assert_int_equal(played->dialed[0], dialed);
	os_clock_move((int64_t)(10 * OS_SECOND), 0);
	expect(played, GET "\r\n", "origin b");
	assert_int_equal(played->dialed[0], dialed + 1);
	/* Twice as long. */
	os_clock_move((int64_t)(19 * OS_SECOND), 0);
	expect(played, GET "\r\n", "origin b");
	assert_int_equal(played->dialed[0], dialed + 1);
	os_clock_move((int64_t)OS_SECOND, 0);
	played->ways[0] = ANSWERS;
	expect(played, GET "\r\n", "origin a");
	assert_int_equal(counter(played, TELEMETRY_COUNTER_ORIGIN_EJECTED), 2);
	/* The last one that is there is asked, however it fails. */
	reload(played, "upstream app { origin 3 }\nsite localhost default { proxy app }\n");
	played->ways[2] = REFUSES;
	for (uint32_t i = 1; i <= 5; i++) {
		expect(played, GET "\r\n", "origin-refused");
		assert_int_equal(played->dialed[2], i);
	}
}

static void test_all_down(void **state)
{
	struct played *played = *state;

	reload(played, "upstream app { origin 1; origin 2; origin 3 backup }\n"
		       "site localhost default { proxy app }\n");
	state_of(played, 1)->is_down = state_of(played, 2)->is_down = true;
	expect(played, GET "\r\n", "origin c");
	state_of(played, 3)->is_down = true;
	skip_lines(played);
	expect(played, GET "\r\n", "HTTP/1.1 503 ");
	expect_line(played, "\"end\":\"origin-down\"");
	assert_int_equal(played->dialed[0] + played->dialed[1], 0);
	state_of(played, 2)->is_down = false;
	expect(played, GET "\r\n", "origin b");
}

static void order(struct played *played, uint16_t port, enum ipc_order wanted)
{
	struct ipc_origin_order body = { .origin = state_of(played, port)->id, .order = wanted };

	edge_order(played->worker.edge, &body);
}

/* What is under way ends with `down`: it goes elsewhere where that can do no harm, one that waits in the queue too. */
static void test_orders(void **state)
{
	struct played *played = *state;
	uint64_t id;
	int held[2];

	reload(played, "upstream app { origin 1 max-conns 1; origin 2 backup }\n"
		       "site localhost default { proxy app }\n");
	expect(played, GET "\r\n", "origin a");
	id = state_of(played, 1)->id;
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).idle, 1);
	order(played, 1, IPC_ORDER_DRAIN);
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).open, 0);
	expect(played, GET "\r\n", "origin b");
	/* One that nobody names now stays as it was told. */
	reload(played, "upstream app { origin 2 }\nsite localhost default { proxy app }\n");
	reload(played, "upstream app { origin 1 max-conns 1; origin 2 backup }\n"
		       "site localhost default { proxy app }\n");
	expect(played, GET "\r\n", "origin b");
	order(played, 1, IPC_ORDER_UP);
	played->ways[0] = WAITS;
	for (int i = 0; i < 2; i++) {
		held[i] = worker_connect(&played->worker);
		assert_int_equal(os_write_all(held[i], GET "\r\n", strlen(GET "\r\n")), 0);
		turns(played);
	}
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).open, 1);
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).waiting, 1);
	order(played, 1, IPC_ORDER_DOWN);
	turns(played);
	turns(played);
	for (int i = 0; i < 2; i++) {
		assert_non_null(
			strstr(worker_talk(&played->worker, held[i], "", 0, 1), "origin b"));
		os_close(held[i]);
	}
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).open, 0);
	assert_int_equal(upstream_count_origin(played->worker.edge->upstream, id).waiting, 0);
}

/* One at a time at the first: the next ones go to the second; where both are full they wait. */
static void test_max_conns(void **state)
{
	struct played *played = *state;
	int held[3];

	reload(played, "upstream app { origin 1 weight 256 max-conns 1; origin 2 max-conns 1 }\n"
		       "site localhost default { proxy app }\n");
	played->ways[0] = played->ways[1] = WAITS;
	for (int i = 0; i < 3; i++) {
		held[i] = worker_connect(&played->worker);
		assert_int_equal(os_write_all(held[i], GET "\r\n", strlen(GET "\r\n")), 0);
		turns(played);
	}
	assert_int_equal(played->dialed[0], 1);
	assert_int_equal(played->dialed[1], 1);
	played->ways[0] = played->ways[1] = ANSWERS;
	turns(played);
	turns(played);
	assert_int_equal(played->asked[0] + played->asked[1], 3);
	for (int i = 0; i < 3; i++) {
		assert_non_null(strstr(worker_talk(&played->worker, held[i], "", 0, 1), "origin "));
		os_close(held[i]);
	}
	assert_int_equal(played->dialed[0] + played->dialed[1], 2);
	assert_int_equal(state_of(played, 1)->active + state_of(played, 2)->active, 0);
}

/* ---- Clients that stay ------------------------------------------------------------------------------------------- */

static const char sticky_two[] =
	"upstream app { origin 1; origin 2; sticky cookie keep; eject 1 }\n"
	"site localhost default { proxy app }\n";

static void publish(struct balance_sticky_keys *table, const char *keys)
{
	uint8_t secrets[BALANCE_STICKY_KEYS][BALANCE_STICKY_SECRET];

	for (size_t i = 0; i < strlen(keys); i++)
		memset(secrets[i], keys[i], sizeof(secrets[i]));
	balance_sticky_publish(table, (const uint8_t(*)[BALANCE_STICKY_SECRET])secrets,
			       strlen(keys));
}

/* The value that an answer sets, or "" where it sets none. */
static void value_of(const char *answer, char value[BALANCE_STICKY_VALUE + 1])
{
	static const char words[] = "\r\nSet-Cookie: keep=";
	const char *found = strstr(answer, words);

	value[0] = '\0';
	if (!found)
		return;
	(void)snprintf(value, BALANCE_STICKY_VALUE + 1, "%s", found + strlen(words));
	assert_int_equal(strlen(value), BALANCE_STICKY_VALUE);
	found += strlen(words) + BALANCE_STICKY_VALUE;
	assert_memory_equal(found, "; Path=/; HttpOnly; SameSite=Lax\r\n", 34);
}

/* Asked with this value it answers so; what is set then, if anything, is put in `value`. */
static void expect_sticky(struct played *played, const char *cookies, const char *wanted,
			  char value[BALANCE_STICKY_VALUE + 1])
{
	char request[1024];

	(void)snprintf(request, sizeof(request), GET "%s\r\n", cookies);
	expect(played, request, wanted);
	value_of(ask(played, request), value);
}

static void test_sticky(void **state)
{
	struct played *played = *state;
	struct balance_sticky_keys table = { 0 };
	char first[BALANCE_STICKY_VALUE + 1], second[BALANCE_STICKY_VALUE + 1];
	char none[BALANCE_STICKY_VALUE + 1], cookie[600];
	const char *answer;

	played->worker.edge->cookies = &table;
	reload(played, sticky_two);
	/* Without keys nobody is kept. */
	value_of(ask(played, GET "\r\n"), none);
	assert_string_equal(none, "");
	publish(&table, "a");
	for (int i = 0; i < 2; i++) {
		answer = ask(played, GET "\r\n");
		value_of(answer, strstr(answer, "origin a") ? first : second);
	}
	assert_string_not_equal(first, second);
	assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_GIVEN), 2);

	/* It stays, and is given nothing anew; the first of several that is one counts, wherever it stands. */
	for (int i = 0; i < 4; i++) {
		(void)snprintf(cookie, sizeof(cookie),
			       "Cookie: a=b; keep=x\r\nCookie: keep=; keep=%s;keep=%s\r\n",
			       i % 2 ? first : second, i % 2 ? second : first);
		expect_sticky(played, cookie, i % 2 ? "origin a" : "origin b", none);
		assert_string_equal(none, "");
	}
	assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_IGNORED), 0);
	assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_GIVEN), 2);

	/* Made up, cut, too far behind: it is as though there were none. */
	(void)snprintf(cookie, sizeof(cookie), "Cookie: keep=%.31s\r\n", first);
	value_of(ask(played, GET "Cookie: keep=00000000000000000000000000000000\r\n\r\n"), none);
	assert_true(!strcmp(none, first) || !strcmp(none, second));
	expect_sticky(played, cookie, "origin ", none);
	assert_true(!strcmp(none, first) || !strcmp(none, second));
	(void)snprintf(cookie, sizeof(cookie), "Cookie: keep=1;keep=2;keep=3;keep=4;keep=%s\r\n",
		       first);
	expect_sticky(played, cookie, "origin ", none);
	assert_string_not_equal(none, "");
	assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_IGNORED), 5);

	/* A new key: he stays, and is given the new value. */
	publish(&table, "ba");
	(void)snprintf(cookie, sizeof(cookie), "Cookie: keep=%s\r\n", second);
	expect_sticky(played, cookie, "origin b", none);
	assert_string_not_equal(none, "");
	assert_string_not_equal(none, second);
	(void)snprintf(cookie, sizeof(cookie), "Cookie: keep=%s\r\n", none);
	expect_sticky(played, cookie, "origin b", none);
	assert_string_equal(none, "");
	assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_MOVED), 0);
	played->worker.edge->cookies = NULL;
}

/* Whose origin is away goes to another, and stays there. */
static void test_sticky_moves(void **state)
{
	struct played *played = *state;
	struct balance_sticky_keys table = { 0 };
	char at_b[BALANCE_STICKY_VALUE + 1], given[BALANCE_STICKY_VALUE + 1], cookie[100];

	played->worker.edge->cookies = &table;
	publish(&table, "a");
	reload(played, sticky_two);
	order(played, 1, IPC_ORDER_DOWN);
	expect_sticky(played, "", "origin b", at_b);
	order(played, 1, IPC_ORDER_UP);
	(void)snprintf(cookie, sizeof(cookie), "Cookie: keep=%s\r\n", at_b);

	for (int way = 0; way < 4; way++) {
		uint64_t moved = counter(played, TELEMETRY_COUNTER_STICKY_MOVED);

		expect_sticky(played, cookie, "origin b", given);
		assert_string_equal(given, "");
		switch (way) {
		case 0:
			order(played, 2, IPC_ORDER_DRAIN);
			break;
		case 1:
			balance_set_down(state_of(played, 2), true, played->worker.edge->now_ns);
			break;
		case 2: /* It fails once, and is ejected for it. */
			upstream_close_idle(played->worker.edge->upstream);
			played->ways[1] = REFUSES;
			break;
		default:
			reload(played, "upstream app { origin 1; origin 3; sticky cookie keep }\n"
				       "site localhost default { proxy app }\n");
			order(played, 3, IPC_ORDER_DRAIN);
			break;
		}
		expect_sticky(played, cookie, "origin a", given);
		assert_string_not_equal(given, "");
		assert_string_not_equal(given, at_b);
		/* One that was removed is none that it knows. */
		assert_int_equal(counter(played, TELEMETRY_COUNTER_STICKY_MOVED) - moved,
				 way == 3 ? 0 : 2);
		reload(played, sticky_two);
		order(played, 2, IPC_ORDER_UP);
		balance_set_down(state_of(played, 2), false, played->worker.edge->now_ns);
		played->ways[1] = ANSWERS;
	}
	/* Back in the configuration, its old value is good again. */
	expect_sticky(played, cookie, "origin b", given);
	assert_string_equal(given, "");
	played->worker.edge->cookies = NULL;
}

/* A field, a cookie, the path, the client's address: the same goes to the same, others spread. */
static void test_hashes(void **state)
{
	static const struct {
		const char *balance, *before, *after;
		bool spreads;
	} rows[] = {
		{ "hash header X-User", GET "x-user: ", "\r\n\r\n", true },
		{ "hash cookie s", GET "Cookie: a=1; s=", "; b=2\r\n\r\n", true },
		{ "hash path", "GET /", " HTTP/1.1\r\nHost: localhost\r\n\r\n", true },
		{ "hash header X-User", GET "X: ", "\r\n\r\n", false },
		{ "ip-hash", GET "X: ", "\r\n\r\n", false },
	};
	struct played *played = *state;
	char text[200], request[200];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint32_t seen = 0;

		(void)snprintf(
			text, sizeof(text),
			"upstream app { origin 1; origin 2; origin 3; origin 4; balance %s }\n"
			"site localhost default { proxy app }\n",
			rows[i].balance);
		reload(played, text);
		for (int key = 0; key < 12; key++) {
			const char *answer;
			char first;

			(void)snprintf(request, sizeof(request), "%s%d%s", rows[i].before, key,
				       rows[i].after);
			answer = strstr(ask(played, request), "origin ");
			assert_non_null(answer);
			first = answer[7];
			seen |= 1u << (first - 'a');
			answer = strstr(ask(played, request), "origin ");
			assert_int_equal(answer[7], first);
		}
		assert_int_equal(__builtin_popcount(seen) > 1, rows[i].spreads);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_another_origin, start, stop),
		cmocka_unit_test_setup_teardown(test_retries, start, stop),
		cmocka_unit_test_setup_teardown(test_ejection, start, stop),
		cmocka_unit_test_setup_teardown(test_all_down, start, stop),
		cmocka_unit_test_setup_teardown(test_orders, start, stop),
		cmocka_unit_test_setup_teardown(test_max_conns, start, stop),
		cmocka_unit_test_setup_teardown(test_sticky, start, stop),
		cmocka_unit_test_setup_teardown(test_sticky_moves, start, stop),
		cmocka_unit_test_setup_teardown(test_hashes, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/origins", tests, NULL, NULL);
}
