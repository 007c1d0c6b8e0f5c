/* Corner cases that are decided (ARCHITECTURE.md) and that need an origin whose every step the test makes: it is
 * dialer and origin itself, and says what both ends see. */
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
	int origin_fd; /* listens */
	int client, server;
	unsigned dialled;
};

static void on_dial(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct played *played = owner;
	const struct ipc_dial *dial = message->body;
	struct ipc_dialed dialed = { .question = dial->question, .family = OS_FAMILY_V4 };
	int fd;

	if (message->number != IPC_MESSAGE_dial)
		return;
	played->dialled++;
	assert_int_equal(os_connect(&played->origin, &fd), 0);
	assert_int_equal(ipc_send(channel, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, &fd, 1), 0);
	ipc_channel_flush(channel);
	os_close(fd);
}

static const struct ipc_handlers dialer_handlers = { on_dial, worker_channel_closed };

static const char text[] = "site localhost default {\n proxy 127.0.0.1:9\n}\n";

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	worker_start(&played->worker, text);
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &played->origin));
	assert_int_equal(os_listen(&played->origin, 0, 128, &played->origin_fd), 0);
	assert_int_equal(os_socket_local(played->origin_fd, &played->origin), 0);
	worker_link(&played->worker, IPC_DIALER, &played->link, &played->dialer, &dialer_handlers,
		    played);
	played->client = worker_connect(&played->worker);
	played->server = -1;
	*state = played;
	return 0;
}

static void turns(struct played *played, int count)
{
	for (int i = 0; i < count; i++) {
		worker_turns(&played->worker, 1);
		ipc_channel_flush(&played->link);
	}
}

static int stop(void **state)
{
	struct played *played = *state;

	os_close(played->client);
	os_close(played->server);
	turns(played, 10);
	assert_int_equal(played->worker.edge->exchange_count, 0);
	assert_int_equal(played->worker.edge->connection_count, 0);
	ipc_channel_close(&played->link);
	ipc_channel_close(&played->dialer);
	os_close(played->origin_fd);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

static void say(int fd, const char *words)
{
	assert_int_equal(os_write_all(fd, words, strlen(words)), 0);
}

/* The request arrives: the origin's end of the connection stands. */
static void ask(struct played *played, const char *request)
{
	struct os_address peer;
	int failed = -EAGAIN;

	say(played->client, request);
	for (int i = 0; i < 200 && failed == -EAGAIN; i++) {
		turns(played, 1);
		failed = os_accept(played->origin_fd, &played->server, &peer);
	}
	assert_int_equal(failed, 0);
	turns(played, 5);
}

static struct exchange *exchange_of(const struct played *played)
{
	return LIST_ITEM(played->worker.edge->connections.next, struct connection, link)->exchange;
}

static void expect_line(struct played *played, const char *wanted)
{
	const char *line = worker_line(&played->worker);

	assert_non_null(line);
	if (!strstr(line, wanted))
		fail_msg("no %s in %s", wanted, line);
}

#define POST "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"

/* More than all sockets on the way take: what is written to the origin waits. */
static void fill(struct played *played)
{
	static const char part[65536];
	int quiet = 0;

	while (quiet < 20) {
		ssize_t sent = os_write(played->client, part, sizeof(part));

		assert_true(sent > 0 || sent == -EAGAIN);
		quiet = sent > 0 ? 0 : quiet + 1;
		turns(played, 1);
	}
	assert_true(exchange_of(played)->request_pump.queue.len > 0);
}

/* The origin says no, does not read the rest, and goes: writing to it fails, and what it said is the answer. */
static void test_answer_behind_a_write_error(void **state)
{
	struct played *played = *state;
	char *answer;

	ask(played, POST);
	fill(played);
	say(played->server, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
	/* With what it has not read in its socket, its end is a reset. */
	os_close(TAKE_FD(played->server));
	answer = worker_talk(&played->worker, played->client, "", 0, 20);
	assert_non_null(strstr(answer, "HTTP/1.1 403 No\r\n"));
	assert_non_null(strstr(answer, "\r\n\r\nno"));
	expect_line(played, "\"end\":\"ok\"");
}

/* The response ends while the request still comes: the connections end, the client's with a word and without a reset,
 * the origin's without being kept. */
static void test_early_answer(void **state)
{
	struct played *played = *state;
	static char rest[200000];
	char *answer, byte;
	ssize_t got;

	ask(played, POST);
	say(played->client, "abc");
	turns(played, 5);
	say(played->server, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
	answer = worker_talk(&played->worker, played->client, "", 0, 20);
	assert_non_null(strstr(answer, "HTTP/1.1 413 "));
	assert_non_null(strstr(answer, "Connection: close\r\n"));
	expect_line(played, "\"end\":\"ok\"");
	/* It goes on to send, and reads the end all the same. */
	assert_true(os_write(played->client, rest, sizeof(rest)) > 0);
	turns(played, 5);
	assert_int_equal(os_read(played->client, &byte, 1), 0);
	do {
		got = os_read(played->server, rest, sizeof(rest));
	} while (got > 0);
	assert_true(got == 0 || got == -ECONNRESET);
	os_close(played->client);
	os_close(TAKE_FD(played->server));
	turns(played, 5);
	played->client = worker_connect(&played->worker);
	ask(played, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
	assert_int_equal(played->dialled, 2);
	say(played->server, "HTTP/1.1 204 No\r\n\r\n");
	assert_non_null(strstr(worker_talk(&played->worker, played->client, "", 0, 20), " 204 "));
}

/* A tunnel is an exchange: its 101 takes the way of every response, it lets go of the snapshot when it starts and is
 * recorded when it closes. */
static void test_tunnel(void **state)
{
	struct played *played = *state;
	uint32_t half = 1u << EXCHANGE_STAGE_RULES_RESPONSE | 1u << EXCHANGE_STAGE_SEND;
	struct exchange *exchange;
	char word[8] = "";

	ask(played, "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
		    "Upgrade: websocket\r\n\r\n");
	exchange = exchange_of(played);
	assert_int_equal(exchange->trail & half, 0);
	assert_non_null(exchange->snapshot);
	say(played->server, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: "
			    "websocket\r\n\r\n");
	assert_non_null(strstr(worker_talk(&played->worker, played->client, "", 0, 20), " 101 "));
	assert_int_equal(exchange->trail & half, half);
	assert_null(exchange->snapshot);
	worker_reload(&played->worker, text);
	assert_int_equal(played->worker.released, 1);
	assert_null(worker_line(&played->worker));
	/* Both ways, under the new configuration. */
	say(played->client, "ping");
	turns(played, 3);
	for (int i = 0; i < 50 && os_read(played->server, word, 4) != 4; i++)
		turns(played, 1); /* the first reads are the request's head */
	say(played->server, "pong");
	assert_string_equal(worker_talk(&played->worker, played->client, "", 0, 4), "pong");
	os_close(TAKE_FD(played->server));
	os_close(TAKE_FD(played->client));
	turns(played, 5);
	expect_line(played, "\"status\":101");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answer_behind_a_write_error, start, stop),
		cmocka_unit_test_setup_teardown(test_early_answer, start, stop),
		cmocka_unit_test_setup_teardown(test_tunnel, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/corners", tests, NULL, NULL);
}
