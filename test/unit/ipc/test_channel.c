/* Channels over real socketpairs: what passes arrives whole, what breaks the table's rules ends the channel
 * once and nothing comes after it, and no descriptor is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/ipc.h"
#include "ipc/table_internal.h"

struct end {
	struct ipc_channel channel;
	int messages, closed;
	char why[128];
	char tail[IPC_TAIL_MAX];
	size_t tail_len;
	enum ipc_number last;
	struct ipc_question question;
	int taken;          /* a descriptor that was taken out of a message, or -1 */
	bool takes, closes; /* what the handler does */
};

struct pair {
	struct os_loop *loop;
	struct end end;
	int raw; /* the other side, as a hostile peer has it */
	int descriptors_before;
};

static void on_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct end *end = owner;

	end->messages++;
	end->last = message->number;
	end->tail_len = message->tail.len;
	if (message->tail.len)
		memcpy(end->tail, message->tail.ptr, message->tail.len);
	if (message->number == IPC_MESSAGE_opened)
		end->question = ((const struct ipc_opened *)message->body)->question;
	if (end->takes && message->descriptor_count)
		end->taken = TAKE_FD(message->descriptors[0]);
	if (end->closes)
		ipc_channel_close(channel);
}

static void on_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct end *end = owner;

	end->closed++;
	snprintf(end->why, sizeof(end->why), "%s", why ? why : "gone");
	ipc_channel_close(channel);
}

static const struct ipc_handlers handlers = { .on_message = on_message, .on_closed = on_closed };

static void pair_open(struct pair *pair, enum ipc_kind self, enum ipc_kind peer)
{
	int fds[2];

	memset(pair, 0, sizeof(*pair));
	pair->descriptors_before = os_descriptor_count();
	pair->end.taken = -1;
	assert_int_equal(os_loop_new(&pair->loop), 0);
	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(ipc_channel_open(&pair->end.channel, pair->loop, fds[0], self, peer), 0);
	ipc_channel_handle(&pair->end.channel, &handlers, &pair->end);
	pair->raw = fds[1];
}

static void pair_close(struct pair *pair)
{
	ipc_channel_close(&pair->end.channel);
	os_close(pair->end.taken);
	os_close(pair->raw);
	os_loop_free(pair->loop);
	assert_int_equal(os_descriptor_count(), pair->descriptors_before);
}

static void turns(struct pair *pair)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(os_loop_turn(pair->loop, 0, NULL, NULL), 0);
}

static void raw_send(int fd, const void *bytes, size_t len, const int *descriptors, size_t count)
{
	struct os_packet_out packet = { .parts = { span_of(bytes, len) },
					.part_count = 1,
					.descriptors = descriptors,
					.descriptor_count = count };

	assert_int_equal(os_packet_send(fd, &packet), 0);
}

/* ---- Forged messages ------------------------------------------------------------------------------- */

struct forged {
	const char *name;
	uint32_t number, tail_len; /* as the header says */
	size_t body_len;           /* what really comes behind the header, tail included */
	size_t descriptor_count;
	const char *why; /* NULL: it is fine */
};

/* Of a worker to `files`. */
static const struct forged forged[] = {
	{ "right", IPC_MESSAGE_open, 5, sizeof(struct ipc_open) + 5, 0, NULL },
	{ "right, without a tail", IPC_MESSAGE_open, 0, sizeof(struct ipc_open), 0, NULL },
	{ "right, the longest tail", IPC_MESSAGE_open, 8192, sizeof(struct ipc_open) + 8192, 0,
	  NULL },
	{ "right, with a descriptor", IPC_MESSAGE_warm, 0, sizeof(struct ipc_warm), 1, NULL },
	{ "no such number", 7777, 0, 24, 0, "a message that is not in the table" },
	{ "a number of no row", 199, 0, 24, 0, "a message that is not in the table" },
	{ "number 0", 0, 0, 24, 0, "a message that is not in the table" },
	{ "not this sender", IPC_MESSAGE_opened, 0, sizeof(struct ipc_opened), 0,
	  "a message that this kind may not send" },
	{ "not this receiver", IPC_MESSAGE_sign13, 0, sizeof(struct ipc_sign13), 0,
	  "a message that this process does not take" },
	{ "short", IPC_MESSAGE_open, 5, sizeof(struct ipc_open) + 4, 0,
	  "a message of the wrong length" },
	{ "long", IPC_MESSAGE_open, 5, sizeof(struct ipc_open) + 6, 0,
	  "a message of the wrong length" },
	{ "no body", IPC_MESSAGE_open, 0, 0, 0, "a message of the wrong length" },
	{ "tail too long", IPC_MESSAGE_open, 8193, sizeof(struct ipc_open) + 8193, 0,
	  "a tail that is too long" },
	{ "tail too long for this number", IPC_MESSAGE_warm, 1, sizeof(struct ipc_warm) + 1, 0,
	  "a tail that is too long" },
	{ "a tail of 4 GiB", IPC_MESSAGE_open, UINT32_MAX, sizeof(struct ipc_open), 0,
	  "a tail that is too long" },
	{ "much too long", IPC_MESSAGE_open, 40000, 40000, 0,
	  "a message with more than any may have" },
	{ "a descriptor too many", IPC_MESSAGE_open, 0, sizeof(struct ipc_open), 1,
	  "too many descriptors" },
	{ "two for one", IPC_MESSAGE_warm, 0, sizeof(struct ipc_warm), 2, "too many descriptors" },
	{ "four for one", IPC_MESSAGE_warm, 0, sizeof(struct ipc_warm), 4, "too many descriptors" },
};

static void test_forged(void **state)
{
	static char bytes[65536];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(forged); i++) {
		const struct forged *row = &forged[i];
		struct ipc_header header = { row->number, row->tail_len };
		struct ipc_header right = { IPC_MESSAGE_cancel, 0 };
		struct pair pair;
		int own[4];

		pair_open(&pair, IPC_FILES, IPC_WORKER);
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(os_event_new(&own[k]), 0);
		memcpy(bytes, &header, sizeof(header));
		raw_send(pair.raw, bytes, sizeof(header) + row->body_len, own,
			 row->descriptor_count);
		/* And one that is fine behind it: it must not arrive after a breach. */
		memcpy(bytes, &right, sizeof(right));
		raw_send(pair.raw, bytes, sizeof(right) + sizeof(struct ipc_cancel), NULL, 0);
		turns(&pair);
		if (pair.end.messages != (row->why ? 0 : 2) ||
		    pair.end.closed != (row->why ? 1 : 0) ||
		    (row->why && strcmp(pair.end.why, row->why) != 0))
			fail_msg("%s: %d messages, closed %d: %s", row->name, pair.end.messages,
				 pair.end.closed, pair.end.why);
		for (size_t k = 0; k < 4; k++)
			os_close(own[k]);
		pair_close(&pair);
	}
}

static void test_every_prefix(void **state)
{
	struct ipc_header header = { IPC_MESSAGE_open, 5 };
	char bytes[sizeof(header) + sizeof(struct ipc_open) + 5] = { 0 };

	(void)state;
	memcpy(bytes, &header, sizeof(header));
	for (size_t len = 1; len < sizeof(bytes); len++) {
		struct pair pair;

		pair_open(&pair, IPC_FILES, IPC_WORKER);
		raw_send(pair.raw, bytes, len, NULL, 0);
		turns(&pair);
		assert_int_equal(pair.end.messages, 0);
		assert_int_equal(pair.end.closed, 1);
		pair_close(&pair);
	}
}

/* Whatever is in the struct is not for ipc to judge; whatever is in the header must keep the rules. */
static void test_every_corruption(void **state)
{
	struct ipc_header header = { IPC_MESSAGE_open, 5 };
	char bytes[sizeof(header) + sizeof(struct ipc_open) + 5];

	(void)state;
	for (size_t at = 0; at < sizeof(bytes); at++) {
		for (int bit = 0; bit < 8; bit++) {
			struct pair pair;

			pair_open(&pair, IPC_FILES, IPC_WORKER);
			memset(bytes, 0, sizeof(bytes));
			memcpy(bytes, &header, sizeof(header));
			bytes[at] = (char)(bytes[at] ^ 1 << bit);
			raw_send(pair.raw, bytes, sizeof(bytes), NULL, 0);
			turns(&pair);
			assert_int_equal(pair.end.messages, at < sizeof(header) ? 0 : 1);
			assert_int_equal(pair.end.closed, at < sizeof(header) ? 1 : 0);
			pair_close(&pair);
		}
	}
}

/* ---- Two honest ends ------------------------------------------------------------------------------- */

struct two {
	struct os_loop *loop;
	struct end worker, files;
	int descriptors_before;
};

static void two_open(struct two *two)
{
	int fds[2];

	memset(two, 0, sizeof(*two));
	two->worker.taken = two->files.taken = -1;
	two->descriptors_before = os_descriptor_count();
	assert_int_equal(os_loop_new(&two->loop), 0);
	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(
		ipc_channel_open(&two->worker.channel, two->loop, fds[0], IPC_WORKER, IPC_FILES),
		0);
	assert_int_equal(
		ipc_channel_open(&two->files.channel, two->loop, fds[1], IPC_FILES, IPC_WORKER), 0);
	ipc_channel_handle(&two->worker.channel, &handlers, &two->worker);
	ipc_channel_handle(&two->files.channel, &handlers, &two->files);
}

static void two_turns(struct two *two, int count)
{
	for (int i = 0; i < count; i++)
		assert_int_equal(os_loop_turn(two->loop, 0, NULL, NULL), 0);
}

static void two_close(struct two *two)
{
	ipc_channel_close(&two->worker.channel);
	ipc_channel_close(&two->files.channel);
	os_close(two->worker.taken);
	os_close(two->files.taken);
	os_loop_free(two->loop);
	assert_int_equal(os_descriptor_count(), two->descriptors_before);
}

static void test_there_and_back(void **state)
{
	struct ipc_opened opened = { .question = { 7, 9 } };
	struct two two;
	int event;

	(void)state;
	two_open(&two);
	two_turns(&two, 1);
	assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_open,
				  &(struct ipc_open){ .root = 3 }, SPAN("/a/b"), NULL, 0),
			 0);
	two_turns(&two, 2);
	assert_int_equal(two.files.messages, 0); /* nothing leaves before the flush */
	ipc_channel_flush(&two.worker.channel);
	two_turns(&two, 2);
	assert_int_equal(two.files.messages, 1);
	assert_int_equal(two.files.tail_len, 4);
	assert_memory_equal(two.files.tail, "/a/b", 4);

	two.worker.takes = true;
	assert_int_equal(os_event_new(&event), 0);
	assert_int_equal(
		ipc_send(&two.files.channel, IPC_MESSAGE_opened, &opened, SPAN_NONE, &event, 1), 0);
	os_close(event);
	ipc_channel_flush(&two.files.channel);
	two_turns(&two, 2);
	assert_int_equal(two.worker.messages, 1);
	assert_int_equal(two.worker.question.serial, 9);
	assert_true(two.worker.taken >= 0);
	os_event_signal(two.worker.taken);
	assert_true(os_event_take(two.worker.taken));
	two_close(&two);
}

static int woken;

static void count_wake(struct os_watch *watch, unsigned now)
{
	(void)watch;
	(void)now;
	woken++;
}

/* That the peer takes a message is no event for who sent it: the edge would be one wake for each question. */
static void test_sender_sleeps_on(void **state)
{
	struct two two;
	void (*on_ready)(struct os_watch * watch, unsigned now);

	(void)state;
	two_open(&two);
	two_turns(&two, 2);
	on_ready = two.worker.channel.watch.on_ready;
	two.worker.channel.watch.on_ready = count_wake;
	woken = 0;
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_open,
					  &(struct ipc_open){ .root = 3 }, SPAN("/"), NULL, 0),
				 0);
		ipc_channel_flush(&two.worker.channel);
		two_turns(&two, 2);
		assert_int_equal(two.files.messages, i);
	}
	assert_int_equal(woken, 0);
	two.worker.channel.watch.on_ready = on_ready;
	two_close(&two);
}

/* The last messages and the end come in one turn. */
static void test_last_words(void **state)
{
	struct two two;

	(void)state;
	for (int count = 0; count < 70; count++) {
		two_open(&two);
		two_turns(&two, 1);
		for (int i = 0; i < count; i++)
			assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_open,
						  &(struct ipc_open){ .root = 3 }, SPAN("/"), NULL,
						  0),
					 0);
		ipc_channel_flush(&two.worker.channel);
		ipc_channel_close(&two.worker.channel);
		two_turns(&two, 4);
		assert_int_equal(two.files.messages, count);
		assert_int_equal(two.files.closed, 1);
		two_close(&two);
	}
}

/* A peer that does not read: the queue fills to its bound, nothing blocks, and order holds once it reads. */
static void test_full(void **state)
{
	struct two two;
	int queued = 0, outcome = 0;

	(void)state;
	two_open(&two);
	for (int i = 0; i < 100000 && !outcome; i++) {
		outcome = ipc_send(&two.worker.channel, IPC_MESSAGE_open,
				   &(struct ipc_open){ .root = (uint64_t)i }, SPAN("/"), NULL, 0);
		queued += !outcome;
		if (i % 64 == 0)
			ipc_channel_flush(&two.worker.channel);
	}
	assert_int_equal(outcome, IPC_FULL);
	assert_true(queued > 4000);
	ipc_channel_flush(&two.worker.channel);
	for (int i = 0; i < 2000 && two.files.messages < queued; i++)
		two_turns(&two, 1);
	assert_int_equal(two.files.messages, queued);
	assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_open, &(struct ipc_open){ 0 },
				  SPAN("/"), NULL, 0),
			 0);
	two_close(&two);
}

/* Descriptors that wait in the queue are copies, and are closed with it. */
static void test_full_with_descriptors(void **state)
{
	struct two two;
	int event, outcome = 0;

	(void)state;
	two_open(&two);
	assert_int_equal(os_event_new(&event), 0);
	for (int i = 0; i < 600 && !outcome; i++)
		outcome = ipc_send(&two.worker.channel, IPC_MESSAGE_warm,
				   &(struct ipc_warm){ .len = 1 }, SPAN_NONE, &event, 1);
	os_close(event);
	two_close(&two);
}

static void test_peer_gone(void **state)
{
	struct two two;

	(void)state;
	two_open(&two);
	ipc_channel_close(&two.files.channel);
	two_turns(&two, 2);
	assert_int_equal(two.worker.closed, 1);
	assert_string_equal(two.worker.why, "gone");
	assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_open, &(struct ipc_open){ 0 },
				  SPAN("/"), NULL, 0),
			 IPC_CLOSED);
	two_close(&two);
}

/* Closed out of a handler: the rest of the batch, descriptors too, is gone without a trace. */
static void test_close_in_handler(void **state)
{
	struct two two;
	int event;

	(void)state;
	two_open(&two);
	two.files.closes = true;
	assert_int_equal(os_event_new(&event), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ipc_send(&two.worker.channel, IPC_MESSAGE_warm,
					  &(struct ipc_warm){ .len = 1 }, SPAN_NONE, &event, 1),
				 0);
	os_close(event);
	ipc_channel_flush(&two.worker.channel);
	two_turns(&two, 3);
	assert_int_equal(two.files.messages, 1);
	assert_int_equal(two.files.closed, 0);
	two_close(&two);
}

/* A connection whose last close waits a minute for a peer that does not read. */
static int endless_close(int *ret_peer)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger minute = { .l_onoff = 1, .l_linger = 60 };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), ours = socket(AF_INET, SOCK_STREAM, 0);
	static char bytes[65536];

	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(ours, (struct sockaddr *)&address, len), 0);
	*ret_peer = accept(listener, NULL, NULL);
	assert_true(*ret_peer >= 0);
	close(listener);
	while (send(ours, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {}
	assert_int_equal(setsockopt(ours, SOL_SOCKET, SO_LINGER, &minute, sizeof(minute)), 0);
	return ours;
}

/* More than os_packet_send() would. */
static void send_many(int fd, const void *bytes, size_t len, int descriptor, size_t count)
{
	enum { COUNT_MAX = 32 };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(COUNT_MAX * sizeof(int))] = { 0 };
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *header = (void *)control;

	assert_true(count <= COUNT_MAX);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(header) + i * sizeof(int), &descriptor, sizeof(int));
	assert_true(sendmsg(fd, &message, 0) > 0);
}

/* What a worker sends is closed in good time, however it is set: what a message may not have, what is left of one that
 * is right, what there is no room for, and what still waits when the channel is closed. */
static void test_a_close_does_not_wait(void **state)
{
	static const struct {
		enum ipc_number number;
		size_t count;
		bool is_received;
	} ways[] = { { IPC_MESSAGE_open, 1, true },
		     { IPC_MESSAGE_warm, 1, true },
		     { IPC_MESSAGE_warm, 20, true },
		     { IPC_MESSAGE_warm, 1, false } };
	uint64_t start_ns = os_now_ns();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		struct ipc_header header = { ways[i].number, 0 };
		char bytes[128] = { 0 };
		struct pair pair;
		int peer, socket;

		pair_open(&pair, IPC_FILES, IPC_WORKER);
		memcpy(bytes, &header, sizeof(header));
		socket = endless_close(&peer);
		send_many(pair.raw, bytes, sizeof(header) + ipc_message_size(ways[i].number),
			  socket, ways[i].count);
		close(socket);
		if (ways[i].is_received)
			turns(&pair);
		assert_int_equal(pair.end.messages, i == 1);
		ipc_channel_close(&pair.end.channel);
		close(peer);
		pair_close(&pair);
	}
	assert_true(os_now_ns() - start_ns < 30 * OS_SECOND);
}

static void test_rate(void **state)
{
	struct ipc_header header = { IPC_MESSAGE_broken, 0 };
	char bytes[sizeof(header) + sizeof(struct ipc_broken)] = { 0 };
	struct pair pair;

	(void)state;
	pair_open(&pair, IPC_SUPERVISOR, IPC_WORKER);
	memcpy(bytes, &header, sizeof(header));
	for (int i = 0; i < 40; i++)
		raw_send(pair.raw, bytes, sizeof(bytes), NULL, 0);
	turns(&pair);
	assert_true(pair.end.messages >= 10 && pair.end.messages <= 20);
	assert_string_equal(pair.end.why, "too many messages a second");
	pair_close(&pair);
}

/* What a process that may be taken over says to the supervisor, or makes `files` say, has a rate: a flood ends it. */
static void test_all_that_the_supervisor_hears_has_a_rate(void **state)
{
	const uint32_t exposed = IPC_TO_WORKER | IPC_TO_FILES | IPC_TO_DIALER | IPC_TO_LOG;
	unsigned seen = 0;

	(void)state;
	for (uint32_t number = 0; number <= IPC_NUMBER_MAX; number++) {
		const struct ipc_row *row = ipc_row_find(number);

		if (!row || !(row->receivers & IPC_TO_SUPERVISOR) || !(row->senders & exposed))
			continue;
		seen++;
		if (!row->per_second)
			fail_msg("%s has none", row->name);
	}
	assert_true(seen >= 8);
}

static void test_wait(void **state)
{
	struct ipc_channel one, other;
	struct ipc_message message;
	int fds[2];

	(void)state;
	assert_int_equal(os_packet_pair(fds), 0);
	assert_int_equal(ipc_channel_open(&one, NULL, fds[0], IPC_COMMAND, IPC_SUPERVISOR), 0);
	assert_int_equal(ipc_channel_open(&other, NULL, fds[1], IPC_SUPERVISOR, IPC_COMMAND), 0);
	assert_int_equal(ipc_wait(&other, 10, &message), -ETIMEDOUT);
	assert_int_equal(IPC_SEND(&one, stop, .now = 1), 0);
	ipc_channel_flush(&one);
	assert_int_equal(ipc_wait(&other, 1000, &message), 0);
	assert_int_equal(message.number, IPC_MESSAGE_stop);
	assert_int_equal(((const struct ipc_stop *)message.body)->now, 1);
	ipc_message_done(&message);
	ipc_channel_close(&one);
	assert_int_equal(ipc_wait(&other, 1000, &message), IPC_CLOSED);
	ipc_channel_close(&other);
}

static void test_table(void **state)
{
	(void)state;
	assert_string_equal(ipc_message_name(IPC_MESSAGE_sign13), "sign13");
	assert_null(ipc_message_name(0));
	assert_null(ipc_message_name(UINT32_MAX));
	assert_int_equal(ipc_message_size(IPC_MESSAGE_stop), sizeof(struct ipc_stop));
	assert_int_equal(ipc_message_size(199), 0);
	assert_string_equal(ipc_kind_name(IPC_VAULT), "vault");
	assert_string_equal(ipc_kind_name((enum ipc_kind)99), "unknown");
	/* No worker can say anything to the vault. */
	assert_int_equal(ipc_longest(IPC_WORKER, IPC_VAULT), sizeof(struct ipc_header));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_every_corruption),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_sender_sleeps_on),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_full_with_descriptors),
		cmocka_unit_test(test_peer_gone),
		cmocka_unit_test(test_close_in_handler),
		cmocka_unit_test(test_a_close_does_not_wait),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_all_that_the_supervisor_hears_has_a_rate),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_table),
	};

	if (os_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
