#include "upstream/upstream_internal.h"

#include <string.h>

static int buffers_make(struct upstream *upstream)
{
	if (!upstream->wire_in)
		upstream->wire_in = heap_alloc(UPSTREAM_WIRE_SIZE);
	if (!upstream->wire_out)
		upstream->wire_out = heap_alloc(UPSTREAM_WIRE_SIZE);
	if (!upstream->scratch)
		upstream->scratch = heap_alloc(UPSTREAM_SCRATCH_SIZE);
	return upstream->wire_in && upstream->wire_out && upstream->scratch ? 0 : -ENOMEM;
}

int upstream_tls_start(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	struct tls_policy *policy =
		upstream->host->tls_policy(upstream->host_data, connection->ca_id);
	struct span name = span_of(connection->name, connection->name_len);
	struct tls_client_config config = { 0 };
	struct os_address address;

	if (!policy)
		return -ENOENT;
	if (buffers_make(upstream))
		return -ENOMEM;
	if (os_address_parse_ip(name, &address)) {
		config.verify_address_len = address.family == OS_FAMILY_V4 ? 4 : 16;
		memcpy(config.verify_address, address.ip, config.verify_address_len);
	} else {
		config.server_name = config.verify_name = name;
	}
	return tls_client_new(policy, &config, &connection->tls);
}

struct span upstream_tls_reason(const struct upstream_connection *connection)
{
	struct tls_failure failure = { .reason = TLS_REASON_NONE };

	if (connection->tls)
		tls_session_failure(connection->tls, &failure);
	return failure.reason == TLS_REASON_NONE ? SPAN("closed")
						 : span_str(tls_reason_word(failure.reason));
}

static struct tls_wire wire_of(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;

	return (struct tls_wire){
		.in = upstream_queue_view(&connection->sealed),
		.out = upstream->wire_out,
		.out_size = UPSTREAM_WIRE_SIZE,
		.now_s = (int64_t)(os_loop_wall_ns(upstream->loop) / OS_SECOND),
	};
}

static int wire_send(struct upstream_connection *connection, struct tls_wire *wire)
{
	struct span out = span_of(wire->out, wire->out_len);

	wire->out_len = 0;
	return out.len ? upstream_socket_send(connection, out) : 0;
}

/* More sealed bytes behind those that wait. 0, or as upstream_receive(). */
static int wire_receive(struct upstream_connection *connection)
{
	struct upstream *upstream = connection->upstream;
	ssize_t n = upstream_socket_receive(connection, upstream->wire_in, UPSTREAM_WIRE_SIZE);

	if (n == 0)
		return -ECONNABORTED;
	if (n < 0)
		return (int)n;
	return upstream_queue_add(&connection->sealed, span_of(upstream->wire_in, (size_t)n))
		       ? 0
		       : -ENOMEM;
}

static void wire_taken(struct upstream_connection *connection, const struct tls_wire *wire)
{
	upstream_queue_consume(&connection->sealed,
			       upstream_queue_view(&connection->sealed).len - wire->in.len);
}

int upstream_tls_handshake(struct upstream_connection *connection)
{
	for (;;) {
		struct tls_wire wire = wire_of(connection);
		int outcome = tls_session_handshake(connection->tls, &wire);
		int sent;

		wire_taken(connection, &wire);
		sent = wire_send(connection, &wire);
		if (outcome == TLS_WANT_SIGNATURE) {
			/* No client certificates towards origins yet: it goes on without. */
			tls_session_sign_answer(connection->tls, SPAN_NONE);
			continue;
		}
		if (outcome == TLS_FAILED || outcome == TLS_CLOSED)
			return -EPROTO;
		/* Where nothing can be sent any more the origin's alert may still be read. */
		if (outcome <= 0 || sent == -ENOMEM)
			return outcome < 0 ? outcome : sent;
		if (outcome == TLS_WANT_INPUT) {
			outcome = wire_receive(connection);
			if (outcome)
				return outcome;
		}
	}
}

ssize_t upstream_tls_receive(struct upstream_connection *connection, char *buf, size_t size)
{
	struct upstream *upstream = connection->upstream;
	struct tls_wire wire = wire_of(connection);
	bool is_kept = true; /* wire.in lies in `sealed`, not in wire_in */

	for (;;) {
		size_t len;
		/* At first also with nothing new: what was opened before, or an end that came with it. */
		int outcome = tls_session_read(connection->tls, &wire, buf, size, &len);
		int sent;
		ssize_t n;

		if (is_kept)
			wire_taken(connection, &wire);
		else if (!upstream_queue_add(&connection->sealed, wire.in))
			return -ENOMEM;
		/* Answers to key updates. That they cannot leave is the next write's matter. */
		sent = wire_send(connection, &wire);
		if (len)
			return (ssize_t)len;
		if (outcome == TLS_CLOSED)
			return 0;
		if (outcome == TLS_FAILED || outcome == TLS_WANT_SIGNATURE)
			return -EPROTO;
		if (outcome < 0 || sent == -ENOMEM)
			return outcome < 0 ? outcome : sent;
		wire = wire_of(connection);
		is_kept = true;
		if (outcome == TLS_WANT_ROOM || wire.in.len)
			continue;
		n = upstream_socket_receive(connection, upstream->wire_in, UPSTREAM_WIRE_SIZE);
		if (n <= 0)
			return n ? n : -ECONNABORTED;
		wire.in = span_of(upstream->wire_in, (size_t)n);
		is_kept = false;
	}
}

static int seal(struct upstream_connection *connection, struct span bytes)
{
	int outcome = 0;

	while (bytes.len || outcome == TLS_WANT_ROOM) {
		struct tls_wire wire = wire_of(connection);
		size_t taken = 0;
		int sent;

		outcome = tls_session_write(connection->tls, &wire, bytes, 0, &taken);
		bytes = span_skip(bytes, taken);
		sent = wire_send(connection, &wire);
		if (sent)
			return sent;
		if (outcome && outcome != TLS_WANT_ROOM)
			return outcome < 0 ? outcome : -EPIPE;
	}
	return 0;
}

/* Head, framing and body in as few records as they need. The body is at most UPSTREAM_SEAL_MAX. */
int upstream_tls_send(struct upstream_connection *connection,
		      const struct upstream_segment *segment, size_t *ret_body)
{
	struct writer out = writer_of(connection->upstream->scratch, UPSTREAM_SCRATCH_SIZE);
	size_t head_room = UPSTREAM_SCRATCH_SIZE - UPSTREAM_SEAL_MAX - 64;
	int outcome;

	if (segment->head.len > head_room) {
		outcome = seal(connection, segment->head);
		if (outcome)
			return outcome;
	} else {
		write_span(&out, segment->head);
	}
	write_span(&out, segment->prefix);
	write_span(&out, segment->body);
	write_span(&out, segment->suffix);
	write_span(&out, segment->end);
	MUST(out.ok);
	*ret_body = segment->body.len;
	return seal(connection, writer_done(&out));
}

int upstream_tls_close(struct upstream_connection *connection)
{
	int outcome;

	do {
		struct tls_wire wire = wire_of(connection);
		int sent;

		outcome = tls_session_close(connection->tls, &wire);
		sent = wire_send(connection, &wire);
		if (sent)
			return sent;
	} while (outcome == TLS_WANT_ROOM);
	return outcome > 0 ? -EPIPE : outcome;
}
