#include "worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void release_snapshot(void *host, const struct snapshot *snapshot)
{
	struct worker *worker = host;

	(void)snapshot;
	worker->released++;
}

static void drained(void *host)
{
	struct worker *worker = host;

	worker->is_drained = true;
}

static const struct edge_host host = { .release_snapshot = release_snapshot, .drained = drained };

static int no_list(void *owner, struct span pattern, const struct span **ret_names,
		   size_t *ret_count)
{
	(void)owner;
	(void)pattern;
	(void)ret_names;
	*ret_count = 0;
	return 0;
}

static const struct snapshot *compile(struct worker *worker, const char *text)
{
	static char whole[65536], messages[8192];
	struct conf_functions functions = { .list = no_list };
	struct snapshot_options options = { .serial = 1,
					    .access_log = { .target = SNAPSHOT_LOG_STDOUT } };
	struct writer out = writer_of(messages, sizeof(messages) - 1);
	const struct snapshot *snapshot = NULL;
	struct conf_errors errors;
	struct conf_tree *tree;
	int failed;

	snprintf(whole, sizeof(whole), "portcullis 1\nlisten 127.0.0.1:8080 plain serve\n%s\n",
		 text);
	conf_errors_init(&errors, &worker->arena);
	failed = conf_parse(&worker->arena, SPAN("test.conf"), span_str(whole), &functions, &errors,
			    &tree);
	if (!failed)
		failed = snapshot_compile(tree, &options, &worker->arena, &errors, &snapshot);
	if (failed) {
		conf_errors_write(tree, &errors, &out);
		*out.at = '\0';
		fail_msg("%s", messages);
	}
	return snapshot;
}

void worker_reload(struct worker *worker, const char *text)
{
	const struct snapshot *snapshot = compile(worker, text);

	worker->snapshot = snapshot;
	assert_int_equal(edge_prepare(worker->edge, snapshot), 0);
	edge_commit(worker->edge);
}

void worker_start(struct worker *worker, const char *text)
{
	struct edge_config config = { .host = &host, .host_data = worker, .connections_max = 1000 };
	int fd;

	memset(worker, 0, sizeof(*worker));
	arena_init(&worker->arena, 0);
	assert_int_equal(os_loop_new(&worker->loop), 0);
	worker->range = calloc(1, IPC_RANGE_SIZE);
	worker->ring = aligned_alloc(4096, sizeof(*worker->ring));
	memset(worker->ring, 0, sizeof(*worker->ring));
	worker->rates = aligned_alloc(64, sizeof(*worker->rates));
	memset(worker->rates, 0, sizeof(*worker->rates));
	config.rates = worker->rates;
	config.loop = worker->loop;
	config.range = worker->range;
	assert_int_equal(edge_new(&config, &worker->edge), 0);
	edge_set_log(worker->edge, worker->ring, -1);
	worker_reload(worker, text);
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &worker->address));
	assert_int_equal(os_listen(&worker->address, 0, 128, &fd), 0);
	assert_int_equal(os_socket_local(fd, &worker->address), 0);
	assert_int_equal(edge_listener_add(worker->edge, worker->snapshot->listeners[0].id, 0, fd),
			 0);
}

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct worker *worker = owner;

	edge_message(worker->edge, channel, message);
}

void worker_channel_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	(void)owner;
	(void)channel;
	assert_null(why);
}

const struct ipc_handlers worker_channel = { on_message, worker_channel_closed };

void worker_link(struct worker *worker, enum ipc_kind kind, struct ipc_channel *near,
		 struct ipc_channel *far, const struct ipc_handlers *handlers, void *owner)
{
	int fds[2];

	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(ipc_channel_open(near, worker->loop, fds[0], IPC_WORKER, kind), 0);
	ipc_channel_handle(near, &worker_channel, worker);
	assert_int_equal(ipc_channel_open(far, worker->loop, fds[1], kind, IPC_WORKER), 0);
	if (handlers)
		ipc_channel_handle(far, handlers, owner);
	edge_link(worker->edge, kind, near);
}

void worker_stop(struct worker *worker)
{
	edge_free(worker->edge);
	os_loop_free(worker->loop);
	arena_fini(&worker->arena);
	free(worker->ring);
	free(worker->rates);
	free(worker->range);
}

static void on_turn(void *owner)
{
	struct worker *worker = owner;

	edge_turn(worker->edge);
}

void worker_turns(struct worker *worker, int count)
{
	while (count-- > 0)
		assert_int_equal(os_loop_turn(worker->loop, 1, on_turn, worker), 0);
}

int worker_connect(struct worker *worker)
{
	int fd;

	assert_int_equal(os_connect(&worker->address, &fd), 0);
	worker_turns(worker, 2);
	return fd;
}

char *worker_talk(struct worker *worker, int fd, const char *request, size_t len, size_t wanted)
{
	static char answer[1 << 20];
	size_t got = 0;

	if (len)
		assert_int_equal(os_write(fd, request, len), (ssize_t)len);
	for (int i = 0; i < 200 && got < wanted; i++) {
		ssize_t n;

		worker_turns(worker, 1);
		n = os_read(fd, answer + got, sizeof(answer) - 1 - got);
		if (n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	answer[got] = '\0';
	return answer;
}

char *worker_line(struct worker *worker)
{
	static char line[TELEMETRY_LINE_MAX + 1];
	enum telemetry_ring_kind kind;
	struct span text;

	if (telemetry_ring_read(worker->ring, line, &kind, &text))
		return NULL;
	memmove(line, text.ptr, text.len);
	line[text.len] = '\0';
	return line;
}
