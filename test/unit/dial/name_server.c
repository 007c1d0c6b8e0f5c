#include "name_server.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, HEADER_LEN = 12 };

static void write_name(struct writer *out, struct span name)
{
	struct span label;

	while (span_cut(&name, '.', &label)) {
		write_byte(out, (char)label.len);
		write_span(out, label);
	}
	write_byte(out, 0);
}

static void write_address(struct writer *out, struct span name, const char *text, uint8_t more,
			  uint32_t ttl_s)
{
	struct os_address address;
	bool is_v4;

	assert_true(os_address_parse_ip(span_str(text), &address));
	is_v4 = address.family == OS_FAMILY_V4;
	address.ip[3] = (uint8_t)(address.ip[3] + (is_v4 ? more : 0));
	write_name(out, name);
	write_be16(out, is_v4 ? TYPE_A : TYPE_AAAA);
	write_be16(out, 1);
	write_be32(out, ttl_s);
	write_be16(out, is_v4 ? 4 : 16);
	write_span(out, span_of(address.ip, is_v4 ? 4 : 16));
}

/* Header, question as it came, and what the row says. */
static struct span answer(const struct name_server_row *row, struct span query, struct span name,
			  unsigned type, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);
	struct span owner = row && row->alias ? span_str(row->alias) : name;
	const char *address = !row                ? NULL
			      : type == TYPE_A    ? row->v4
			      : type == TYPE_AAAA ? row->v6
						  : NULL;
	bool is_absent = !row || row->manner == NO_SUCH_NAME;
	unsigned code = row && row->manner == SERVER_FAILURE ? 2 : is_absent ? 3 : 0;
	uint16_t count = 0;
	uint8_t address_count = type == TYPE_A && row && row->v4_count ? row->v4_count : 1;

	if (!code)
		count = (uint16_t)((row->alias != NULL) + (address ? address_count : 0));
	if (row && row->manner == OTHER_NAME)
		name = SPAN("somebody.else");
	write_span(&out, span_first(query, 2));
	write_be16(&out, (uint16_t)(0x8180 | code));
	write_be16(&out, 1);
	write_be16(&out, count);
	write_be32(&out, 0);
	write_name(&out, name);
	write_be16(&out, (uint16_t)type);
	write_be16(&out, 1);
	if (count && row->alias) {
		write_name(&out, name);
		write_be16(&out, TYPE_CNAME);
		write_be16(&out, 1);
		write_be32(&out, row->ttl_s);
		write_be16(&out, (uint16_t)(owner.len + 2));
		write_name(&out, owner);
	}
	for (uint8_t i = 0; count && address && i < address_count; i++)
		write_address(&out, owner, address, i, row->ttl_s);
	return writer_done(&out);
}

static const struct name_server_row *row_find(const struct name_server *server, struct span name)
{
	for (size_t i = 0; i < server->row_count; i++)
		if (span_equal_nocase(span_str(server->rows[i].name), name))
			return &server->rows[i];
	return NULL;
}

static struct span read_question(struct span query, char *name, unsigned *ret_type)
{
	struct reader reader = reader_of(span_skip(query, HEADER_LEN));
	size_t len = 0;

	for (uint8_t label = read_u8(&reader); label && reader.ok; label = read_u8(&reader)) {
		struct span text = read_span(&reader, label);

		if (len)
			name[len++] = '.';
		memcpy(name + len, text.ptr, text.len);
		len += text.len;
	}
	*ret_type = read_be16(&reader);
	return span_of(name, len);
}

static void send_truncated(struct name_server *server, struct span query,
			   const struct sockaddr *peer, socklen_t peer_len)
{
	char buf[512];

	memcpy(buf, query.ptr, query.len);
	buf[2] = (char)0x83; /* an answer, recursion wanted, TC */
	buf[3] = (char)0x80;
	assert_int_equal(sendto(server->watch.fd, buf, query.len, 0, peer, peer_len), query.len);
}

static void say_truncated(struct name_server *server, struct span query,
			  const struct sockaddr_storage *peer, socklen_t peer_len)
{
	struct name_server_held *held = &server->held;

	if (server->tcp_questions || server->questions % 2) {
		send_truncated(server, query, (const struct sockaddr *)peer, peer_len);
		return;
	}
	memcpy(held->query, query.ptr, query.len);
	memcpy(held->peer, peer, peer_len);
	held->len = query.len;
	held->peer_len = peer_len;
}

static void on_query(struct os_watch *watch, unsigned now)
{
	struct name_server *server = CONTAINER_OF(watch, struct name_server, watch);
	char query[512], name[512], buf[4096];
	struct sockaddr_storage peer;
	socklen_t peer_len = sizeof(peer);
	ssize_t len =
		recvfrom(watch->fd, query, sizeof(query), 0, (struct sockaddr *)&peer, &peer_len);
	const struct name_server_row *row;
	struct name_server_row of_v6;
	enum name_server_manner manner;
	struct span text;
	unsigned type;

	(void)now;
	if (len < HEADER_LEN)
		return;
	server->questions++;
	text = read_question(span_of(query, (size_t)len), name, &type);
	row = row_find(server, text);
	if (row && type == TYPE_AAAA && row->v6_manner) {
		of_v6 = *row;
		of_v6.manner = row->v6_manner;
		row = &of_v6;
	}
	manner = row ? row->manner : NO_SUCH_NAME;
	if (server->is_silent || manner == SILENT)
		return;
	if (manner == OVER_TCP) {
		say_truncated(server, span_of(query, (size_t)len), &peer, peer_len);
		return;
	}
	text = answer(row, span_of(query, (size_t)len), text, type, buf, sizeof(buf));
	if (manner == GARBAGE)
		memset(buf + 2, 0xa5, text.len - 2);
	if (manner == CUT_SHORT)
		text.len -= 5;
	assert_true(sendto(watch->fd, text.ptr, text.len, 0, (struct sockaddr *)&peer, peer_len) >
		    0);
}

/* ---- TCP --------------------------------------------------------------------------------------------- */

static void on_held_due(struct os_timer *timer)
{
	struct name_server_held *held = CONTAINER_OF(timer, struct name_server_held, timer);

	send_truncated(CONTAINER_OF(held, struct name_server, held),
		       span_of(held->query, held->len),
		       (const struct sockaddr *)(const void *)held->peer, held->peer_len);
	held->len = 0;
}

static void answer_over_tcp(struct name_server *server, struct span query)
{
	char name[512], buf[4096];
	struct writer out = writer_of(buf, sizeof(buf));
	struct span question, text;
	unsigned type;

	server->tcp_questions++;
	/* Behind the answer, when nothing is under way on the connection. */
	if (server->held.len)
		os_timer_set(server->connection.loop, &server->held.timer,
			     os_now_ns() + 50 * OS_MS);
	question = read_question(query, name, &type);
	text = answer(row_find(server, question), query, question, type, buf + 2, sizeof(buf) - 2);
	write_be16(&out, (uint16_t)text.len);
	assert_int_equal(os_write(server->connection.fd, buf, text.len + 2), text.len + 2);
}

static void on_connection_ready(struct os_watch *watch, unsigned now)
{
	struct name_server *server = CONTAINER_OF(watch, struct name_server, connection);
	char buf[1024];
	ssize_t len = os_read(watch->fd, buf, sizeof(buf));
	struct reader reader = reader_of(span_of(buf, len > 0 ? (size_t)len : 0));
	int fd = watch->fd;

	(void)now;
	if (len == -EAGAIN)
		return;
	while (reader.at < reader.end)
		answer_over_tcp(server, read_span(&reader, read_be16(&reader)));
	assert_true(reader.ok); /* on loopback, and so short, questions come whole */
	if (len > 0)
		return;
	os_watch_remove(watch);
	os_close(fd);
}

static void on_connection(struct os_watch *watch, unsigned now)
{
	struct name_server *server = CONTAINER_OF(watch, struct name_server, listener);
	int fd;

	(void)now;
	assert_int_equal(os_accept(watch->fd, &fd, NULL), 0);
	server->connection.on_ready = on_connection_ready;
	assert_int_equal(os_watch_add(watch->loop, &server->connection, fd, OS_WATCH_LEVEL_READ),
			 0);
}

/* A port that is free for both. False: it is only for UDP. */
static bool bind_both(struct name_server *server, struct os_loop *loop)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct os_address local = { .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), listener;

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	local.port = server->port = ntohs(address.sin_port);
	if (os_listen(&local, 0, 4, &listener)) {
		os_close(fd);
		return false;
	}
	assert_int_equal(os_watch_add(loop, &server->watch, fd, OS_WATCH_LEVEL_READ), 0);
	assert_int_equal(os_watch_add(loop, &server->listener, listener, OS_WATCH_LEVEL_READ), 0);
	return true;
}

void name_server_start(struct name_server *server, struct os_loop *loop,
		       const struct name_server_row *rows, size_t count)
{
	*server = (struct name_server){ .watch.on_ready = on_query,
					.listener.on_ready = on_connection,
					.held.timer.on_due = on_held_due,
					.rows = rows,
					.row_count = count };
	while (!bind_both(server, loop))
		;
}

static void stop(struct os_watch *watch)
{
	int fd = watch->fd;

	if (!os_watch_is_added(watch))
		return;
	os_watch_remove(watch);
	os_close(fd);
}

void name_server_stop(struct name_server *server)
{
	stop(&server->watch);
	stop(&server->listener);
	stop(&server->connection);
	os_timer_stop(&server->held.timer);
}
