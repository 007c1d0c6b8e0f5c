#include "upstream/upstream_internal.h"

enum {
	END_BITS = OS_PEER_SHUT | OS_HANGUP | OS_ERROR,
	READ_BITS = OS_READABLE | END_BITS,
};

bool upstream_is_readable(const struct upstream_connection *connection)
{
	return connection->watch.ready & READ_BITS;
}

ssize_t upstream_socket_receive(struct upstream_connection *connection, char *buf, size_t size)
{
	ssize_t n;

	if (!upstream_is_readable(connection))
		return -EAGAIN;
	n = os_receive(connection->fd, buf, size);
	if (n == -EAGAIN)
		connection->watch.ready &= ~(unsigned)READ_BITS;
	/* A short read has emptied the socket; only an end that was told already is still to be read. */
	else if (n > 0 && (size_t)n < size && !(connection->watch.ready & END_BITS))
		connection->watch.ready &= ~(unsigned)OS_READABLE;
	return n;
}

ssize_t upstream_receive(struct upstream_connection *connection, char *buf, size_t size)
{
	if (connection->tls)
		return upstream_tls_receive(connection, buf, size);
	return upstream_socket_receive(connection, buf, size);
}

bool upstream_is_silent(struct upstream_connection *connection)
{
	char byte;
	bool is_silent;

	if (!connection->tls) {
		is_silent = os_peek(connection->fd, &byte, 1) == -EAGAIN;
	} else {
		/* TLS 1.3 sends its tickets when it likes: they are read here, and are no stray bytes. */
		connection->watch.ready |= OS_READABLE;
		is_silent = upstream_tls_receive(connection, &byte, 1) == -EAGAIN;
	}
	connection->watch.ready &= ~(unsigned)OS_READABLE;
	return is_silent;
}

int upstream_flush(struct upstream_connection *connection)
{
	struct span waiting = upstream_queue_view(&connection->output);

	while (waiting.len) {
		ssize_t n;

		if (!(connection->watch.ready & OS_WRITABLE))
			return -EAGAIN;
		n = os_write(connection->fd, waiting.ptr, waiting.len);
		if (n == -EAGAIN)
			connection->watch.ready &= ~(unsigned)OS_WRITABLE;
		if (n < 0)
			return (int)n;
		connection->has_sent = true;
		upstream_queue_consume(&connection->output, (size_t)n);
		waiting = span_skip(waiting, (size_t)n);
	}
	upstream_queue_clear(&connection->output);
	return 0;
}

int upstream_socket_send(struct upstream_connection *connection, struct span bytes)
{
	int outcome = upstream_flush(connection);
	ssize_t n = 0;

	if (outcome && outcome != -EAGAIN)
		return outcome;
	if (outcome == 0 && bytes.len && (connection->watch.ready & OS_WRITABLE)) {
		n = os_write(connection->fd, bytes.ptr, bytes.len);
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n > 0)
			connection->has_sent = true;
		else
			n = 0;
		if ((size_t)n < bytes.len)
			connection->watch.ready &= ~(unsigned)OS_WRITABLE;
	}
	return upstream_queue_add(&connection->output, span_skip(bytes, (size_t)n)) ? 0 : -ENOMEM;
}

static int plain_send(struct upstream_connection *connection,
		      const struct upstream_segment *segment, size_t *ret_body)
{
	enum { BODY = 2 };
	const struct span parts[] = { segment->head, segment->prefix, segment->body,
				      segment->suffix, segment->end };
	struct span filled[ARRAY_LEN(parts)];
	size_t total = 0, count = 0, left;
	ssize_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (parts[i].len)
			filled[count++] = parts[i];
		total += parts[i].len;
	}
	if (count && (connection->watch.ready & OS_WRITABLE)) {
		n = os_writev(connection->fd, filled, count);
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n > 0)
			connection->has_sent = true;
		else
			n = 0;
		if ((size_t)n < total)
			connection->watch.ready &= ~(unsigned)OS_WRITABLE;
	}
	left = (size_t)n;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		size_t gone = left < parts[i].len ? left : parts[i].len;

		left -= gone;
		if (i == BODY) {
			*ret_body = gone;
			if (gone < parts[i].len)
				break;
		} else if (!upstream_queue_add(&connection->output, span_skip(parts[i], gone))) {
			return -ENOMEM;
		}
	}
	return 0;
}

int upstream_send(struct upstream_connection *connection, const struct upstream_segment *segment,
		  size_t *ret_body)
{
	*ret_body = 0;
	if (connection->tls)
		return upstream_tls_send(connection, segment, ret_body);
	return plain_send(connection, segment, ret_body);
}

int upstream_send_end(struct upstream_connection *connection)
{
	int outcome = connection->tls ? upstream_tls_close(connection) : 0;

	if (outcome == 0)
		outcome = upstream_flush(connection);
	if (outcome)
		return outcome;
	return os_shutdown(connection->fd, OS_HALF_WRITE);
}
