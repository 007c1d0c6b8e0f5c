/* Ends that no peer brings about: our own faults, a worker without memory, a stop, and what helpers answer. `files`
 * and the dialer are played by the test at the other end of real channels. */
#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

struct played {
	struct worker worker;
	struct ipc_channel link, helper; /* the worker's end and ours */
	int client;
};

static void link_to(struct played *played, enum ipc_kind kind)
{
	worker_link(&played->worker, kind, &played->link, &played->helper, NULL, NULL);
}

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	worker_start(&played->worker, "site localhost default {\n respond 200 \"hello\" on /hello\n"
				      " proxy 127.0.0.1:81 on /p/*\n files /srv/www\n}");
	played->client = worker_connect(&played->worker);
	*state = played;
	return 0;
}

static int stop(void **state)
{
	struct played *played = *state;

	ipc_channel_close(&played->link);
	ipc_channel_close(&played->helper);
	os_close(played->client);
	worker_turns(&played->worker, 3);
	assert_int_equal(played->worker.edge->exchange_count, 0);
	assert_int_equal(played->worker.edge->connection_count, 0);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

static void turns(struct played *played)
{
	for (int i = 0; i < 4; i++) {
		worker_turns(&played->worker, 1);
		ipc_channel_flush(&played->link);
	}
}

static void say(struct played *played, const char *request)
{
	assert_int_equal(os_write_all(played->client, request, strlen(request)), 0);
	turns(played);
}

/* The question that stands open. */
static struct ipc_question asked(struct played *played, enum ipc_number number)
{
	struct ipc_message message;
	struct ipc_question question;

	assert_int_equal(ipc_wait(&played->helper, 1000, &message), 0);
	assert_int_equal(message.number, number);
	question = *(const struct ipc_question *)message.body;
	ipc_message_done(&message);
	return question;
}

static void answer(struct played *played, enum ipc_number number, const void *body,
		   struct span tail, const int *fd)
{
	assert_int_equal(ipc_send(&played->helper, number, body, tail, fd, fd ? 1 : 0), 0);
	ipc_channel_flush(&played->helper);
	turns(played);
}

/* The client has this status, the page has `text`, and the log this end; the end was counted. */
static void expect(struct played *played, const char *status, const char *text, const char *end,
		   enum telemetry_end word)
{
	char wanted[128];
	char *got = worker_talk(&played->worker, played->client, "", 0, 20), *line;

	if (!strstr(got, status) || (text && !strstr(got, text)))
		fail_msg("no %s %s in %s", status, text ? text : "", got);
	line = worker_line(&played->worker);
	assert_non_null(line);
	snprintf(wanted, sizeof(wanted), "\"end\":\"%s\"", end);
	if (!strstr(line, wanted))
		fail_msg("no %s in %s", wanted, line);
	assert_int_equal(played->worker.edge->counters->ends[word], 1);
}

static void test_files_failed(void **state)
{
	struct played *played = *state;
	struct ipc_opened opened = { .status = IPC_OPEN_FAILED };

	link_to(played, IPC_FILES);
	say(played, "GET /broken.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
	opened.question = asked(played, IPC_MESSAGE_open);
	answer(played, IPC_MESSAGE_opened, &opened, SPAN_NONE, NULL);
	expect(played, "HTTP/1.1 500 ", NULL, "files-failed", TELEMETRY_END_FILES_FAILED);
}

static void test_origin_forbidden(void **state)
{
	struct played *played = *state;
	struct ipc_dial_failed failed = { .status = IPC_DIAL_FORBIDDEN };

	link_to(played, IPC_DIALER);
	say(played, "GET /p/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n");
	failed.question = asked(played, IPC_MESSAGE_dial);
	answer(played, IPC_MESSAGE_dial_failed, &failed, SPAN("169.254.169.254"), NULL);
	/* The page names the origin as the configuration does, the log also the address. */
	expect(played, "HTTP/1.1 502 ", "origin-forbidden: 127.0.0.1:81",
	       "origin-forbidden:169.254.169.254", TELEMETRY_END_ORIGIN_FORBIDDEN);
}

/* Limit dns-questions: nobody's fault but ours, and the log says which limit. */
static void test_too_many_names(void **state)
{
	struct played *played = *state;
	struct ipc_dial_failed failed = { .status = IPC_DIAL_QUESTIONS };

	link_to(played, IPC_DIALER);
	say(played, "GET /p/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n");
	failed.question = asked(played, IPC_MESSAGE_dial);
	answer(played, IPC_MESSAGE_dial_failed, &failed, SPAN("too many names"), NULL);
	expect(played, "HTTP/1.1 503 ", NULL, "limit:dns-questions", TELEMETRY_END_LIMIT);
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_DNS_QUESTIONS], 1);
}

static void test_no_room_for_a_body(void **state)
{
	struct played *played = *state;
	uint32_t max = played->worker.edge->blocks_max;

	link_to(played, IPC_DIALER);
	played->worker.edge->blocks_max = 0;
	say(played, "POST /p/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nabc");
	expect(played, "HTTP/1.1 503 ", NULL, "limit:body-memory", TELEMETRY_END_LIMIT);
	played->worker.edge->blocks_max = max;
}

/* A question that nobody can be asked: the table is full. */
static void test_no_room_for_a_question(void **state)
{
	struct played *played = *state;
	uint32_t *open = &played->worker.edge->question_open;

	link_to(played, IPC_DIALER);
	*open = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_QUESTIONS].value;
	say(played, "GET /p/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
	expect(played, "HTTP/1.1 503 ", NULL, "no-room", TELEMETRY_END_NO_ROOM);
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_QUESTIONS], 1);
	*open = 0;
}

/* A socket that did not arrive, because this process may have no more. */
static void test_no_room_for_a_descriptor(void **state)
{
	struct played *played = *state;
	struct ipc_dialed dialed = { .connect_us = 1 };

	link_to(played, IPC_DIALER);
	say(played, "GET /p/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
	dialed.question = asked(played, IPC_MESSAGE_dial);
	answer(played, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, NULL);
	expect(played, "HTTP/1.1 503 ", NULL, "no-room", TELEMETRY_END_NO_ROOM);
}

static void test_drain(void **state)
{
	struct played *played = *state;

	link_to(played, IPC_DIALER);
	say(played, "GET /p/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
	asked(played, IPC_MESSAGE_dial);
	edge_drain(played->worker.edge, os_now_ns() + 1500 * OS_MS, true);
	turns(played);
	assert_int_equal(played->worker.edge->exchange_count, 1);
	os_clock_move((int64_t)(2 * OS_SECOND), 0);
	turns(played);
	expect(played, "HTTP/1.1 503 ", NULL, "drain", TELEMETRY_END_DRAIN);
	assert_int_equal(played->worker.edge->counters->limits[TELEMETRY_LIMIT_DRAIN], 1);
	/* It is told that this was the last, and the worker is done once it is gone. */
	worker_turns(&played->worker, 3);
	os_clock_move((int64_t)(3 * OS_SECOND), 0);
	worker_turns(&played->worker, 3);
	assert_true(played->worker.is_drained);
}

/* A fault of ours: what was announced to the origin is not what the client sends. */
static void test_internal(void **state)
{
	struct played *played = *state;
	static char body[60000];
	struct ipc_dialed dialed = { .connect_us = 1 };
	struct connection *connection;
	int fds[2];

	memset(body, 'a', sizeof(body));
	link_to(played, IPC_DIALER);
	say(played, "POST /p/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n");
	dialed.question = asked(played, IPC_MESSAGE_dial);
	connection = LIST_ITEM(played->worker.edge->connections.next, struct connection, link);
	connection->exchange->fetch_request.content_length = 10;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	answer(played, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, &fds[0]);
	os_close(fds[0]);
	assert_int_equal(os_write_all(played->client, body, sizeof(body)), 0);
	turns(played);
	expect(played, "HTTP/1.1 500 ", NULL, "internal:body-too-long", TELEMETRY_END_INTERNAL);
	os_close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_failed, start, stop),
		cmocka_unit_test_setup_teardown(test_origin_forbidden, start, stop),
		cmocka_unit_test_setup_teardown(test_too_many_names, start, stop),
		cmocka_unit_test_setup_teardown(test_no_room_for_a_body, start, stop),
		cmocka_unit_test_setup_teardown(test_no_room_for_a_question, start, stop),
		cmocka_unit_test_setup_teardown(test_no_room_for_a_descriptor, start, stop),
		cmocka_unit_test_setup_teardown(test_drain, start, stop),
		cmocka_unit_test_setup_teardown(test_internal, start, stop),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests_name("edge/ends", tests, NULL, NULL);
}
