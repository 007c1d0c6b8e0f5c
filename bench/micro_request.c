/* The worker's hot paths alone: one worker in this process, plain HTTP over loopback, requests one after the
 * other on one connection. What is not the worker (client, origin, `files`, the dialer) is played outside
 * os_loop_turn(), so a profiler that collects inside of it counts the worker only; bench/instructions does.
 *
 *   micro_request respond|file|proxied|limited COUNT     prints µs of CPU per request, all parts together */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "test/unit/edge/worker.h"

enum { BODY = 1024, TURNS_MAX = 10 };

static const char *const requests[] = {
	"GET /text HTTP/1.1\r\nHost: localhost\r\nUser-Agent: micro\r\nAccept: */*\r\n\r\n",
	"GET /file.txt HTTP/1.1\r\nHost: localhost\r\nUser-Agent: micro\r\nAccept: */*\r\n\r\n",
	"GET /p/a HTTP/1.1\r\nHost: localhost\r\nUser-Agent: micro\r\nAccept: */*\r\n\r\n",
	"GET /text HTTP/1.1\r\nHost: localhost\r\nUser-Agent: micro\r\nAccept: */*\r\n\r\n",
};

struct helper {
	struct ipc_channel link, end; /* the worker's, and ours */
};

static struct {
	struct worker worker;
	struct helper files, dialer;
	struct os_address origin_address;
	int origin_listener, origin;
	char body[BODY + 1], answer[BODY + 512];
	size_t answer_len;
} bench;

/* ---- What is played ------------------------------------------------------------------------------------ */

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)owner;
	(void)channel;
	edge_message(bench.worker.edge, channel, message);
}

static void on_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	(void)owner;
	(void)channel;
	(void)why;
}

static const struct ipc_handlers handlers = { .on_message = on_message, .on_closed = on_closed };

static void link_helper(struct helper *helper, enum ipc_kind kind)
{
	int fds[2];

	MUST(os_packet_pair(fds) == 0);
	MUST(ipc_channel_open(&helper->link, bench.worker.loop, fds[0], IPC_WORKER, kind) == 0);
	MUST(ipc_channel_open(&helper->end, bench.worker.loop, fds[1], kind, IPC_WORKER) == 0);
	ipc_channel_handle(&helper->link, &handlers, NULL);
	edge_link(bench.worker.edge, kind, &helper->link);
}

static void answer_open(const struct ipc_message *message)
{
	struct ipc_opened opened = { .question = ((const struct ipc_open *)message->body)->question,
				     .status = IPC_OPEN_DOCUMENT,
				     .size = BODY,
				     .name_len = 8 };
	char tail[8 + BODY];

	memcpy(tail, "file.txt", 8);
	memcpy(tail + 8, bench.body, BODY);
	MUST(ipc_send(&bench.files.end, IPC_MESSAGE_opened, &opened, span_of(tail, sizeof(tail)),
		      NULL, 0) == 0);
}

static void answer_dial(const struct ipc_message *message)
{
	struct ipc_dialed dialed = { .question = ((const struct ipc_dial *)message->body)->question,
				     .family = 4,
				     .port = bench.origin_address.port };
	int fd;

	memcpy(dialed.address, bench.origin_address.ip, sizeof(dialed.address));
	MUST(os_connect(&bench.origin_address, &fd) == 0);
	MUST(os_wait(bench.origin_listener, OS_READABLE, 1000) == 0);
	MUST(os_accept(bench.origin_listener, &bench.origin, NULL) == 0);
	MUST(ipc_send(&bench.dialer.end, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, &fd, 1) == 0);
	os_close(fd);
}

/* The open questions of this request, if there are any: only the first request asks. */
static void play_helpers(void)
{
	struct helper *all[] = { &bench.files, &bench.dialer };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct ipc_message message;

		if (ipc_channel_is_open(&all[i]->link))
			ipc_channel_flush(&all[i]->link);
		if (ipc_wait(&all[i]->end, 0, &message))
			continue;
		if (message.number == IPC_MESSAGE_open)
			answer_open(&message);
		else if (message.number == IPC_MESSAGE_dial)
			answer_dial(&message);
		ipc_message_done(&message);
		ipc_channel_flush(&all[i]->end);
	}
}

static void play_origin(void)
{
	char buf[4096];
	ssize_t len;

	if (bench.origin < 0)
		return;
	len = os_read(bench.origin, buf, sizeof(buf) - 1);
	if (len <= 0)
		return;
	buf[len] = '\0';
	MUST(strstr(buf, "\r\n\r\n"));
	MUST(os_write(bench.origin, bench.answer, bench.answer_len) == (ssize_t)bench.answer_len);
}

/* ---- Requests ------------------------------------------------------------------------------------------- */

static void ask(int client, const char *request, bool is_first)
{
	static char answer[8192];
	size_t got = 0;

	MUST(os_write(client, request, strlen(request)) == (ssize_t)strlen(request));
	for (int i = 0; i < (is_first ? 100 : TURNS_MAX) && got < BODY; i++) {
		ssize_t len;

		worker_turns(&bench.worker, 1);
		if (is_first)
			play_helpers();
		play_origin();
		len = os_read(client, answer + got, sizeof(answer) - 1 - got);
		got += len > 0 ? (size_t)len : 0;
	}
	answer[got] = '\0';
	MUST(strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && strstr(answer, bench.body));
	while (worker_line(&bench.worker))
		;
}

static void prepare(bool is_limited)
{
	char text[BODY + 512];

	memset(bench.body, 'x', BODY);
	bench.answer_len = (size_t)snprintf(bench.answer, sizeof(bench.answer),
					    "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: "
					    "text/plain\r\nContent-Length: %d\r\n\r\n%s",
					    BODY, bench.body);
	bench.origin = -1;
	MUST(os_address_parse(SPAN("127.0.0.1:0"), &bench.origin_address));
	MUST(os_listen(&bench.origin_address, 0, 8, &bench.origin_listener) == 0);
	MUST(os_socket_local(bench.origin_listener, &bench.origin_address) == 0);
	snprintf(text, sizeof(text),
		 "site localhost default {\nrespond 200 \"%s\" on /text\n"
		 "proxy 127.0.0.1:%u on /p/*\nfiles /srv on /file.txt\n%s}",
		 bench.body, (unsigned)bench.origin_address.port,
		 is_limited ? "limit requests 100000/s burst 10000000 per ip\n" : "");
	worker_start(&bench.worker, text);
	link_helper(&bench.files, IPC_FILES);
	link_helper(&bench.dialer, IPC_DIALER);
}

int main(int argument_count, char **arguments)
{
	static const char *const modes[] = { "respond", "file", "proxied", "limited" };
	struct timespec begin, end;
	unsigned long count;
	size_t mode = 0;
	int client;

	while (argument_count == 3 && mode < ARRAY_LEN(modes) &&
	       strcmp(arguments[1], modes[mode]) != 0)
		mode++;
	if (argument_count != 3 || mode == ARRAY_LEN(modes)) {
		fputs("usage: micro_request respond|file|proxied|limited COUNT\n", stderr);
		return 2;
	}
	count = strtoul(arguments[2], NULL, 10);
	MUST(os_start() == 0);
	prepare(strcmp(modes[mode], "limited") == 0);
	client = worker_connect(&bench.worker);
	ask(client, requests[mode], true);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (unsigned long i = 0; i < count; i++)
		ask(client, requests[mode], false);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	printf("%s %.2f\n", modes[mode],
	       ((double)(end.tv_sec - begin.tv_sec) * 1e6 +
		(double)(end.tv_nsec - begin.tv_nsec) / 1e3) /
		       (double)(count ? count : 1));
	return 0;
}
