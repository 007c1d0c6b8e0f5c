#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <ares.h>

#include "play_internal.h"

/* ---- The program's side: c-ares makes its own sockets and reads its own clock ------------------------------- */

static ares_socket_t open_socket(int family, int type, int protocol, void *owner)
{
	int fd, error;

	(void)family;
	(void)protocol;
	(void)owner;
	error = type == SOCK_DGRAM ? sim_datagrams_open(&fd) : -EAFNOSUPPORT;
	if (!error)
		return fd;
	errno = -error;
	return ARES_SOCKET_BAD;
}

static int close_socket(ares_socket_t fd, void *owner)
{
	(void)owner;
	os_close(fd);
	return 0;
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t size,
			  void *owner)
{
	(void)fd;
	(void)to;
	(void)size;
	(void)owner;
	return 0;
}

static ares_ssize_t as_library(ssize_t len)
{
	if (len >= 0)
		return len;
	errno = (int)-len;
	return -1;
}

/* All from the one server that resolv.conf names. */
static ares_ssize_t receive_from(ares_socket_t fd, void *buf, size_t size, int flags,
				 struct sockaddr *from, ares_socklen_t *from_size, void *owner)
{
	struct sockaddr_in server = { .sin_family = AF_INET,
				      .sin_port = htons(53),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	(void)flags;
	(void)owner;
	if (from && *from_size >= sizeof(server)) {
		memcpy(from, &server, sizeof(server));
		*from_size = sizeof(server);
	}
	return as_library(sim_datagram_receive(fd, buf, size));
}

static ares_ssize_t send_parts(ares_socket_t fd, const struct iovec *parts, int count, void *owner)
{
	char bytes[512];
	size_t len = 0;

	(void)owner;
	for (int i = 0; i < count; i++) {
		MUST(len + parts[i].iov_len <= sizeof(bytes));
		memcpy(bytes + len, parts[i].iov_base, parts[i].iov_len);
		len += parts[i].iov_len;
	}
	return as_library(sim_datagram_send(fd, bytes, len));
}

int __real_ares_init_options(ares_channel *channel, struct ares_options *options, int mask);
int __wrap_ares_init_options(ares_channel *channel, struct ares_options *options, int mask);

int __wrap_ares_init_options(ares_channel *channel, struct ares_options *options, int mask)
{
	static const struct ares_socket_functions functions = { open_socket, close_socket,
								connect_socket, receive_from,
								send_parts };
	int status = __real_ares_init_options(channel, options, mask);

	if (status == ARES_SUCCESS)
/* Debian 13's c-ares has a newer one, Debian 12's has only this. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
		ares_set_socket_functions(*channel, &functions, NULL);
#pragma GCC diagnostic pop
	return status;
}

/* ---- The resolver: knows one name, APP, which is this machine (RFC 1035, 4) --------------------------------- */

enum { HEADER = 12, TYPE_A = 1, SERVFAIL = 2, NXDOMAIN = 3, LATE_MS = 300 };

/* Turns the query into its answer, in place; its length. */
static size_t make_answer(char *message, size_t len, enum play_resolver_mode mode)
{
	static const char record[] = "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x7f\0\0\1"; /* for 5 s */
	size_t end = HEADER;
	bool is_address;

	while (end < len && message[end])
		end += 1 + (uint8_t)message[end];
	MUST(end + 5 <= len);
	is_address =
		message[end + 2] == TYPE_A && mode != RESOLVER_FAILS && mode != RESOLVER_KNOWS_NOT;
	len = end + 5; /* without what a query says of itself */
	message[2] = (char)0x81;
	message[3] = (char)(0x80 | (mode == RESOLVER_FAILS       ? SERVFAIL
				    : mode == RESOLVER_KNOWS_NOT ? NXDOMAIN
								 : 0));
	memset(message + 6, 0, 6);
	if (!is_address)
		return len;
	message[7] = 1;
	memcpy(message + len, record, sizeof(record) - 1);
	return len + sizeof(record) - 1;
}

static void ask_resolver(struct play *play, struct play_resolver_end *end)
{
	struct play_reply *reply;
	char message[600];
	ssize_t len = sim_datagram_get(end->end, message, 512);

	if (len == 0 || (len < 0 && len != -EAGAIN)) {
		sim_let_go(TAKE(end->end));
		return;
	}
	if (len < HEADER || play->resolver_mode == RESOLVER_SILENT)
		return;
	MUST(end->reply_count < ARRAY_LEN(end->replies));
	reply = &end->replies[end->reply_count++];
	reply->due_ns = sim_now_ns() + (play->resolver_mode == RESOLVER_LATE ? LATE_MS * OS_MS : 0);
	reply->len = make_answer(message, (size_t)len, play->resolver_mode);
	memcpy(reply->bytes, message, reply->len);
}

static void give_replies(struct play_resolver_end *end)
{
	for (size_t i = 0; i < end->reply_count; i++) {
		struct play_reply *reply = &end->replies[i];

		if (reply->due_ns > sim_now_ns())
			continue;
		(void)!sim_datagram_put(end->end, reply->bytes, reply->len);
		*reply = end->replies[--end->reply_count];
		i--;
	}
}

void play_poll_resolver(struct play *play)
{
	struct sim_file *fresh;

	while ((fresh = sim_datagrams_accept()) != NULL) {
		struct play_resolver_end *unused = NULL;

		for (size_t i = 0; i < ARRAY_LEN(play->resolver_ends); i++)
			if (!play->resolver_ends[i].end)
				unused = &play->resolver_ends[i];
		MUST(unused);
		*unused = (struct play_resolver_end){ .end = fresh };
	}
	for (size_t i = 0; i < ARRAY_LEN(play->resolver_ends); i++) {
		struct play_resolver_end *end = &play->resolver_ends[i];

		if (end->end)
			ask_resolver(play, end);
		if (end->end)
			give_replies(end);
	}
}

void play_drop_resolver(struct play *play)
{
	for (size_t i = 0; i < ARRAY_LEN(play->resolver_ends); i++)
		sim_let_go(TAKE(play->resolver_ends[i].end));
}
