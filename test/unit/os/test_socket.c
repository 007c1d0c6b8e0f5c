#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/os.h"

static struct os_address address_of(const char *text)
{
	struct os_address address;

	assert_true(os_address_parse(span_str(text), &address));
	return address;
}

static int listen_on(const char *text, unsigned flags, struct os_address *ret_address)
{
	struct os_address address = address_of(text);
	int fd;

	assert_int_equal(os_listen(&address, flags, 16, &fd), 0);
	assert_int_equal(os_socket_local(fd, ret_address), 0);
	assert_true(os_is_listening(fd));
	return fd;
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_accepted_sockets(void **state)
{
	static const char *const addresses[] = { "127.0.0.1:0", "[::1]:0" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct os_address address, peer, local;
		int listener = listen_on(addresses[i], OS_LISTEN_REUSEPORT, &address), client,
		    server;
		char buf[8];

		assert_int_equal(os_accept(listener, &server, &peer), -EAGAIN);
		assert_int_equal(os_connect(&address, &client), 0);
		assert_int_equal(os_wait(client, OS_WRITABLE, 1000), 0);
		assert_int_equal(os_socket_error(client), 0);
		assert_int_equal(os_accept(listener, &server, &peer), 0);
		assert_int_equal(os_socket_local(client, &local), 0);
		assert_true(os_address_equal(&peer, &local));
		assert_true(os_address_is_loopback(&peer));
		assert_int_equal(os_socket_peer(client, &local), 0);
		assert_true(os_address_equal(&address, &local));
		/* What a listener has, its connections have. */
		assert_true(option_of(server, IPPROTO_TCP, TCP_NODELAY));
		assert_true(option_of(server, SOL_SOCKET, SO_KEEPALIVE));
		assert_int_equal(option_of(server, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 128 * 1024);
		assert_int_equal(os_read(server, buf, sizeof(buf)), -EAGAIN);
		assert_int_equal(
			os_writev(client, (struct span[]){ SPAN("ab"), SPAN_NONE, SPAN("c") }, 3),
			3);
		assert_int_equal(os_wait(server, OS_READABLE, 1000), 0);
		assert_int_equal(os_peek(server, buf, sizeof(buf)), 3);
		assert_int_equal(os_receive(server, buf, 1), 1);
		assert_int_equal(os_read(server, buf, sizeof(buf)), 2);
		assert_int_equal(os_receive(server, buf, sizeof(buf)), -EAGAIN);
		assert_int_equal(os_writev(client, (struct span[]){ SPAN("de") }, 1), 2);
		assert_int_equal(os_wait(server, OS_READABLE, 1000), 0);
		assert_int_equal(os_receive(server, buf, sizeof(buf)), 2);
		assert_memory_equal(buf, "de", 2);
		assert_int_equal(os_shutdown(client, OS_HALF_WRITE), 0);
		assert_int_equal(os_wait(server, OS_READABLE, 1000), 0);
		assert_int_equal(os_receive(server, buf, sizeof(buf)), 0);
		assert_int_equal(os_socket_linger_none(server), 0);
		os_close(server);
		assert_int_equal(os_wait(client, OS_READABLE, 1000), 0);
		assert_int_equal(os_read(client, buf, sizeof(buf)), -ECONNRESET);
		assert_int_equal(os_write(client, "x", 1), -EPIPE); /* and no signal */
		os_close(client);
		os_close(listener);
	}
}

static void test_both_families_and_no_mapped_address(void **state)
{
	struct os_address address, peer, v4;
	int listener = listen_on("*:0", OS_LISTEN_REUSEPORT, &address), client, server;

	(void)state;
	v4 = address_of("127.0.0.1:1");
	v4.port = address.port;
	assert_int_equal(os_connect(&v4, &client), 0);
	assert_int_equal(os_wait(listener, OS_READABLE, 1000), 0);
	assert_int_equal(os_accept(listener, &server, &peer), 0);
	assert_int_equal(peer.family, OS_FAMILY_V4);
	assert_int_equal(os_socket_local(server, &peer), 0);
	assert_true(os_address_equal(&peer, &v4));
	os_close(client);
	os_close(server);
	os_close(listener);
}

static void test_probe_sees_a_sharing_listener(void **state)
{
	struct os_address address, free_address;
	struct os_port_holder holder;
	int listener = listen_on("127.0.0.1:0", OS_LISTEN_REUSEPORT, &address), second;
	struct os_address any = address_of("*:1");

	(void)state;
	assert_int_equal(os_listen(&address, OS_LISTEN_REUSEPORT, 16, &second),
			 0); /* the kernel lets it */
	os_close(second);
	assert_int_equal(os_listen_probe(&address), -EADDRINUSE);
	any.port = address.port;
	assert_int_equal(os_listen_probe(&any), -EADDRINUSE);
	assert_int_equal(os_port_holder(&address, &holder), 0);
	assert_int_equal(holder.pid, getpid());
	assert_int_equal(holder.uid, getuid());
	assert_string_equal(holder.program, "test_socket_nam");
	assert_int_equal(os_port_holder(&any, &holder), 0);
	assert_int_equal(holder.pid, getpid());
	free_address = address;
	os_close(listener);
	assert_int_equal(os_listen_probe(&free_address), 0);
	assert_int_equal(os_port_holder(&free_address, &holder), -ENOENT);
}

static void test_probe_is_not_disturbed_by_old_connections(void **state)
{
	struct os_address address, peer;
	int listener = listen_on("127.0.0.1:0", 0, &address), client, server;

	(void)state;
	assert_int_equal(os_connect(&address, &client), 0);
	assert_int_equal(os_wait(listener, OS_READABLE, 1000), 0);
	assert_int_equal(os_accept(listener, &server, &peer), 0);
	os_close(server); /* our side closes first: TIME_WAIT is ours */
	os_close(client);
	os_close(listener);
	assert_int_equal(os_listen_probe(&address), 0);
}

static void test_refused_connect(void **state)
{
	struct os_address address = address_of("127.0.0.1:1");
	int fd, error;

	(void)state;
	error = os_connect(&address, &fd);
	if (!error) {
		assert_int_equal(os_wait(fd, OS_WRITABLE, 1000), 0);
		error = os_socket_error(fd);
		os_close(fd);
	}
	assert_int_equal(error, -ECONNREFUSED);
	address = address_of("unix:/nonexistent/socket");
	assert_int_equal(os_connect(&address, &fd), -ENOENT);
}

static void test_packet_listener(void **state)
{
	char path[] = "/tmp/portcullis-test-XXXXXX";
	int folder, listener, client, server, pid;
	uint32_t uid;
	struct stat info;
	struct os_address peer;

	(void)state;
	assert_non_null(mkdtemp(path));
	assert_int_equal(
		os_open(OS_FOLDER_CURRENT, path, OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0, &folder), 0);
	assert_int_equal(os_connect_packets(folder, "control.sock", &client), -ENOENT);
	for (int round = 0; round < 2; round++) { /* the second replaces what the first left */
		assert_int_equal(os_listen_packets(folder, "control.sock", 0600, &listener), 0);
		assert_int_equal(fstatat(folder, "control.sock", &info, 0), 0);
		assert_int_equal(info.st_mode & 07777, 0600);
		assert_int_equal(os_connect_packets(folder, "control.sock", &client), 0);
		assert_int_equal(os_accept(listener, &server, &peer), 0);
		assert_int_equal(peer.family, OS_FAMILY_UNIX);
		assert_int_equal(os_socket_credentials(server, &pid, &uid), 0);
		assert_int_equal(pid, getpid());
		os_close(client);
		os_close(server);
		os_close(listener);
	}
	assert_int_equal(os_connect_packets(folder, "control.sock", &client), -ECONNREFUSED);
	assert_int_equal(os_unlink(folder, "control.sock"), 0);
	os_close(folder);
	assert_int_equal(rmdir(path), 0);
}

/* One packet is one datagram; a reader that is slow or gone is said and never waited for. */
static void test_datagrams(void **state)
{
	char folder[] = "/tmp/portcullis-test-XXXXXX", buf[64];
	struct sockaddr_un native = { .sun_family = AF_UNIX };
	struct os_packet_out packet = { .parts = { SPAN("<30>"), SPAN("line") }, .part_count = 2 };
	int reader = socket(AF_UNIX, SOCK_DGRAM, 0), fd, sent;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(native.sun_path, sizeof(native.sun_path), "%s/log", folder);
	assert_int_equal(os_connect_datagrams(native.sun_path, &fd), -ENOENT);
	assert_int_equal(bind(reader, (struct sockaddr *)&native, sizeof(native)), 0);
	assert_int_equal(os_connect_datagrams(native.sun_path, &fd), 0);
	assert_int_equal(os_packet_send(fd, &packet), 0);
	assert_int_equal(recv(reader, buf, sizeof(buf), 0), 8);
	assert_memory_equal(buf, "<30>line", 8);
	do
		sent = os_packet_send(fd, &packet);
	while (!sent);
	assert_int_equal(sent, -EAGAIN);
	close(reader);
	assert_int_equal(os_packet_send(fd, &packet), -ECONNREFUSED);
	assert_int_equal(os_packet_send(fd, &packet), -ENOTCONN);
	os_close(fd);
	assert_int_equal(os_connect_datagrams(native.sun_path, &fd), -ECONNREFUSED);
	assert_int_equal(unlink(native.sun_path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted_sockets),
		cmocka_unit_test(test_both_families_and_no_mapped_address),
		cmocka_unit_test(test_probe_sees_a_sharing_listener),
		cmocka_unit_test(test_probe_is_not_disturbed_by_old_connections),
		cmocka_unit_test(test_refused_connect),
		cmocka_unit_test(test_packet_listener),
		cmocka_unit_test(test_datagrams),
	};

	os_process_set_name("test_socket_name_that_is_cut");
	return os_start() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
