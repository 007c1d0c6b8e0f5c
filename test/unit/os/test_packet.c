#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/os.h"

static int pair[2];

static int setup(void **state)
{
	(void)state;
	return os_packet_pair(pair);
}

static int teardown(void **state)
{
	(void)state;
	os_close(TAKE_FD(pair[0]));
	os_close(TAKE_FD(pair[1]));
	return 0;
}

static void test_parts_and_descriptors(void **state)
{
	char buf[64];
	struct os_packet_in in = { .buf = buf, .size = sizeof(buf) };
	int pipe_ends[2], sent[2];
	struct os_packet_out out = {
		.parts = { SPAN("head"), SPAN("tail") },
		.part_count = 2,
		.descriptors = sent,
		.descriptor_count = 2,
	};

	(void)state;
	assert_int_equal(pipe(pipe_ends), 0);
	memcpy(sent, pipe_ends, sizeof(sent));
	assert_int_equal(os_packet_send(pair[0], &out), 0);
	assert_int_equal(os_packet_receive(pair[1], &in), 1);
	assert_int_equal(in.len, 8);
	assert_memory_equal(buf, "headtail", 8);
	assert_int_equal(in.descriptor_count, 2);
	assert_false(in.is_truncated);
	assert_true(fcntl(in.descriptors[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(os_write(in.descriptors[1], "x", 1), 1);
	assert_int_equal(os_read(pipe_ends[0], buf, 1), 1);
	for (int i = 0; i < 2; i++) {
		os_close(in.descriptors[i]);
		os_close(pipe_ends[i]);
	}
	assert_int_equal(os_packet_receive(pair[1], &in), -EAGAIN);
	os_close(TAKE_FD(pair[0]));
	assert_int_equal(os_packet_receive(pair[1], &in), 0);
	assert_int_equal(os_packet_send(pair[1], &(struct os_packet_out){ .parts = { SPAN("x") },
									  .part_count = 1 }),
			 -EPIPE);
}

static void test_too_long_is_truncated(void **state)
{
	char buf[4];
	struct os_packet_in in = { .buf = buf, .size = sizeof(buf) };
	struct os_packet_out out = { .parts = { SPAN("12345") }, .part_count = 1 };

	(void)state;
	assert_int_equal(os_packet_send(pair[0], &out), 0);
	assert_int_equal(os_packet_receive(pair[1], &in), 1);
	assert_true(in.is_truncated);
}

/* A peer that sends more descriptors than a packet may have: none is left behind. */
static void test_too_many_descriptors_do_not_leak(void **state)
{
	enum { MANY = 20 };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(MANY * sizeof(int))];
	} control = { 0 };
	char buf[4] = "x";
	struct iovec part = { buf, 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct os_packet_in in = { .buf = buf, .size = sizeof(buf) };
	int before, fds[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++)
		fds[i] = pair[0];
	control.header = (struct cmsghdr){ CMSG_LEN(sizeof(fds)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	before = os_descriptor_count();
	assert_int_equal(sendmsg(pair[0], &message, 0), 1);
	assert_int_equal(os_packet_receive(pair[1], &in), 1);
	assert_true(in.is_truncated);
	assert_true(in.descriptor_count <= OS_PACKET_DESCRIPTORS_MAX);
	for (size_t i = 0; i < in.descriptor_count; i++)
		os_close(in.descriptors[i]);
	assert_int_equal(os_descriptor_count(), before);
}

static void test_batches(void **state)
{
	enum { COUNT = 100 };
	static struct os_packet_out out[COUNT];
	static struct os_packet_in in[COUNT];
	static char bufs[COUNT][8];
	int event, sent = 0, received = 0;

	(void)state;
	assert_int_equal(os_event_new(&event), 0);
	for (size_t i = 0; i < COUNT; i++) {
		bufs[i][0] = (char)i;
		out[i] =
			(struct os_packet_out){ .parts = { span_of(bufs[i], 1) }, .part_count = 1 };
		if (i == 3) {
			out[i].descriptors = &event;
			out[i].descriptor_count = 1;
		}
	}
	while (sent < COUNT) {
		int now = os_packet_send_many(pair[0], out + sent, (size_t)(COUNT - sent));

		assert_true(now > 0 && now <= OS_PACKET_BATCH_MAX);
		sent += now;
	}
	os_close(TAKE_FD(pair[0]));
	for (size_t i = 0; i < COUNT; i++)
		in[i] = (struct os_packet_in){ .buf = bufs[i], .size = sizeof(bufs[i]) };
	memset(bufs, 0xee, sizeof(bufs));
	while (received < COUNT) {
		int now =
			os_packet_receive_many(pair[1], in + received, (size_t)(COUNT - received));

		assert_true(now > 0);
		received += now;
	}
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(in[i].len, 1);
		assert_int_equal(bufs[i][0], i);
		assert_int_equal(in[i].descriptor_count, i == 3);
	}
	os_close(in[3].descriptors[0]);
	os_close(event);
	assert_int_equal(os_packet_receive_many(pair[1], in, COUNT), 0);
}

static void test_a_full_channel_does_not_block(void **state)
{
	struct os_packet_out out[OS_PACKET_BATCH_MAX];
	int sent = 0, now;

	(void)state;
	for (size_t i = 0; i < OS_PACKET_BATCH_MAX; i++)
		out[i] = (struct os_packet_out){ .parts = { SPAN("x") }, .part_count = 1 };
	while ((now = os_packet_send_many(pair[0], out, OS_PACKET_BATCH_MAX)) > 0)
		sent += now;
	assert_int_equal(now, -EAGAIN);
	assert_int_equal(os_packet_send(pair[0], out), -EAGAIN);
	assert_true(sent > 0);
	assert_int_equal(os_packet_buffer(pair[0], 4 << 20), 0);
	assert_int_equal(os_packet_send(pair[0], out), 0);
}

static void test_credentials(void **state)
{
	int pid = 0;
	uint32_t uid = 1234;

	(void)state;
	assert_int_equal(os_socket_credentials(pair[0], &pid, &uid), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, getuid());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_parts_and_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long_is_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_descriptors_do_not_leak, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_channel_does_not_block, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_credentials, setup, teardown),
	};

	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
