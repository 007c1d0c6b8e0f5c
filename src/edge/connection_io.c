/* A connection's bytes: input through the worker's shared buffers, output gathered, sealed and sent at once. */
#include "edge/edge_internal.h"

#include <string.h>

/* ---- Input ------------------------------------------------------------------------------------------- */

static bool input_is_here(const struct connection *connection)
{
	const struct edge *edge = connection->edge;

	return edge->input_owner == connection && edge->input_at < edge->input_end;
}

/* What the owner of the shared buffer did not use moves to blocks of its own. */
static void input_save(struct edge *edge)
{
	struct connection *owner = edge->input_owner;

	edge->input_owner = NULL;
	if (!owner || edge->input_at == edge->input_end || owner->phase == CONNECTION_CLOSED)
		return;
	if (!block_queue_add(
		    &owner->pending, &edge->blocks,
		    span_of(edge->plain + edge->input_at, edge->input_end - edge->input_at))) {
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_BODY_MEMORY);
		owner->is_broken = true;
		connection_activate(owner);
	}
}

void connection_input_claim(struct connection *connection)
{
	struct edge *edge = connection->edge;

	if (edge->input_owner == connection)
		return;
	input_save(edge);
	edge->input_owner = connection;
	edge->input_at = edge->input_end = 0;
}

void edge_input_release(struct edge *edge)
{
	input_save(edge);
}

/* A read asks for no more than the request's body has room for: what is read beyond it would wait a second time, in
 * blocks of the connection. A block at least, as much as a record carries. */
static size_t receive_max(const struct connection *connection)
{
	const struct exchange *exchange = connection->exchange;
	size_t waiting = exchange ? exchange->request_pump.queue.len : 0;

	if (!waiting || exchange->request_pump.mode == PUMP_HOLD)
		return EDGE_WIRE_SIZE;
	if (waiting + BLOCK_SIZE >= PUMP_PASS_BLOCKS * BLOCK_SIZE)
		return BLOCK_SIZE;
	return PUMP_PASS_BLOCKS * BLOCK_SIZE - waiting;
}

/* Bytes of the socket into wire_in, behind ciphertext that had to wait. 0, or enum connection_read. */
int connection_receive(struct connection *connection, size_t *ret_len)
{
	struct edge *edge = connection->edge;
	size_t len = 0, size;
	ssize_t got;

	if (connection->is_pending_cipher) {
		while (connection->pending.len) {
			struct span front = block_queue_front(&connection->pending);

			memcpy(edge->wire_in + len, front.ptr, front.len);
			len += front.len;
			block_queue_consume(&connection->pending, &edge->blocks, front.len);
		}
		connection->is_pending_cipher = false;
	}
	*ret_len = len;
	if (!(connection->watch.ready & OS_READABLE))
		return len ? 0 : CONNECTION_WAIT;
	/* Before the handshake there is no exchange, later no ciphertext that had to wait. */
	size = len ? EDGE_WIRE_SIZE - len : receive_max(connection);
	got = os_receive(connection->watch.fd, edge->wire_in + len, size);
	if (got == -EAGAIN) {
		connection->watch.ready &= ~(unsigned)OS_READABLE;
		return len ? 0 : CONNECTION_WAIT;
	}
	if (got <= 0) {
		connection->saw_eof = true;
		connection->is_broken |= got < 0;
		return len ? 0 : CONNECTION_TRUNCATED;
	}
	/* A short read drained the socket; what comes later is told by the next edge. */
	if ((size_t)got < size && !(connection->watch.ready & (OS_PEER_SHUT | OS_HANGUP)))
		connection->watch.ready &= ~(unsigned)OS_READABLE;
	connection->bytes_in += (size_t)got;
	if (connection->turn != edge->turn)
		connection->turn_bytes = 0;
	connection->turn = edge->turn;
	connection->turn_bytes += (size_t)got;
	connection->last_ns = edge->now_ns;
	*ret_len = len + (size_t)got;
	return 0;
}

static void connection_tls_failed(struct connection *connection)
{
	struct exchange *exchange = connection->exchange;
	struct tls_failure failure;

	connection->saw_eof = connection->is_broken = true;
	tls_session_failure(connection->tls, &failure);
	connection->tls_failure = connection_tls_reason(connection, failure.reason);
	/* An exchange says it itself, also one that begins with what came before. */
	if (!(exchange && exchange->began) && !input_is_here(connection))
		edge_event_tls(connection, connection->tls_failure, span_str(failure.text));
}

/* Decrypts what is in wire_in into plain. */
static int connection_decrypt(struct connection *connection, size_t len)
{
	struct edge *edge = connection->edge;
	struct tls_wire wire;
	int outcome = 0;

	connection_wire_begin(connection, &wire);
	wire.in = span_of(edge->wire_in, len);
	do {
		size_t got = 0;

		outcome = tls_session_read(connection->tls, &wire, edge->plain + edge->input_end,
					   EDGE_PLAIN_SIZE - edge->input_end, &got);
		edge->input_end += got;
	} while (outcome == 0 && edge->input_end < EDGE_PLAIN_SIZE &&
		 (wire.in.len || tls_session_has_pending(connection->tls)));
	connection_wire_end(connection, &wire);
	if (outcome == TLS_CLOSED) {
		connection->saw_eof = connection->saw_close_notify = true;
	} else if (outcome == TLS_FAILED || outcome < 0) {
		connection_tls_failed(connection);
	}
	return edge->input_at < edge->input_end ? 0 : CONNECTION_WAIT;
}

static int connection_fill(struct connection *connection)
{
	struct edge *edge = connection->edge;
	size_t len = 0;
	int outcome;

	connection_input_claim(connection);
	edge->input_at = edge->input_end = 0;
	outcome = connection_receive(connection, &len);
	if (outcome)
		return outcome;
	if (connection->is_tls)
		return connection_decrypt(connection, len);
	memcpy(edge->plain, edge->wire_in, len);
	edge->input_end = len;
	return 0;
}

int connection_peek(struct connection *connection, struct span *ret_bytes)
{
	struct edge *edge = connection->edge;

	if (connection->spent) {
		block_queue_consume(&connection->pending, &edge->blocks, connection->spent);
		connection->spent = 0;
	}
	for (;;) {
		int outcome;

		if (connection->pending.len && !connection->is_pending_cipher) {
			*ret_bytes = block_queue_front(&connection->pending);
			return 0;
		}
		if (input_is_here(connection)) {
			*ret_bytes = span_of(edge->plain + edge->input_at,
					     edge->input_end - edge->input_at);
			return 0;
		}
		if (connection->is_broken)
			return CONNECTION_TRUNCATED;
		if (connection->saw_eof)
			return connection->is_tls && !connection->saw_close_notify
				       ? CONNECTION_TRUNCATED
				       : CONNECTION_EOF;
		if (connection->turn == edge->turn && connection->turn_bytes >= EDGE_TURN_BYTES) {
			edge_run_later(edge, connection);
			return CONNECTION_YIELD;
		}
		outcome = connection_fill(connection);
		if (outcome == CONNECTION_WAIT && !(connection->watch.ready & OS_READABLE) &&
		    !connection->saw_eof)
			return CONNECTION_WAIT;
	}
}

void connection_consume(struct connection *connection, size_t len)
{
	struct edge *edge = connection->edge;

	if (connection->pending.len && !connection->is_pending_cipher)
		connection->spent += len;
	else
		edge->input_at += len;
}

bool connection_has_input(const struct connection *connection)
{
	return connection->pending.len > connection->spent || input_is_here(connection);
}

/* ---- Output ------------------------------------------------------------------------------------------ */

void connection_wire_begin(struct connection *connection, struct tls_wire *wire)
{
	struct edge *edge = connection->edge;

	connection_output_claim(connection);
	*wire = (struct tls_wire){ .out = edge->wire_out,
				   .out_len = edge->wire_out_len,
				   .out_size = EDGE_WIRE_SIZE,
				   .now_s = (int64_t)(edge->wall_ns / OS_SECOND) };
}

void connection_wire_end(struct connection *connection, const struct tls_wire *wire)
{
	connection->edge->wire_out_len = wire->out_len;
}

/* To the socket; what it does not take waits in blocks and leaves when it is writable again. */
static void connection_send(struct connection *connection, const struct span *parts, size_t count)
{
	struct edge *edge = connection->edge;
	size_t sent = 0;

	if (connection->is_broken)
		return;
	if (!connection->backlog.len) {
		ssize_t put = os_writev(connection->watch.fd, parts, count);

		if (put < 0 && put != -EAGAIN) {
			connection->is_broken = true;
			connection_activate(connection);
			return;
		}
		sent = put > 0 ? (size_t)put : 0;
		connection->bytes_out += sent;
		/* A tunnel lives by the bytes of either direction. */
		if (sent && connection->exchange && connection->exchange->is_tunnel)
			connection->last_ns = edge->now_ns;
	}
	for (size_t i = 0; i < count; i++) {
		size_t skip = sent < parts[i].len ? sent : parts[i].len;
		struct span rest = span_skip(parts[i], skip);

		sent -= skip;
		if (!rest.len)
			continue;
		connection->watch.ready &= ~(unsigned)OS_WRITABLE;
		if (!connection->backlog.len)
			connection->stalled_ns = edge->now_ns;
		if (!block_queue_add(&connection->backlog, &edge->blocks, rest)) {
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_BODY_MEMORY);
			connection->is_broken = true;
			connection_activate(connection);
			return;
		}
	}
}

void connection_send_raw(struct connection *connection, struct span bytes)
{
	connection_send(connection, &bytes, 1);
}

static void wire_send(struct connection *connection)
{
	struct edge *edge = connection->edge;
	struct span out = span_of(edge->wire_out, edge->wire_out_len);

	edge->wire_out_len = 0;
	if (out.len)
		connection_send(connection, &out, 1);
}

static void connection_seal(struct connection *connection, struct span bytes)
{
	for (;;) {
		struct tls_wire wire;
		size_t taken = 0;
		int outcome;

		connection_wire_begin(connection, &wire);
		outcome = tls_session_write(connection->tls, &wire, bytes, 0, &taken);
		connection_wire_end(connection, &wire);
		bytes = span_skip(bytes, taken);
		if (outcome == 0 && !bytes.len)
			return;
		if (outcome && outcome != TLS_WANT_ROOM) {
			connection->is_broken = true;
			connection_activate(connection);
			return;
		}
		wire_send(connection);
		if (connection->is_broken)
			return;
	}
}

static void gather_seal(struct connection *connection)
{
	struct edge *edge = connection->edge;
	struct span gathered = span_of(edge->gather, edge->gather_len);

	edge->gather_len = 0;
	if (!gathered.len || connection->is_broken)
		return;
	if (connection->is_tls)
		connection_seal(connection, gathered);
	else
		connection_send(connection, &gathered, 1);
}

void connection_flush(struct connection *connection)
{
	struct edge *edge = connection->edge;

	if (edge->output_owner != connection)
		return;
	gather_seal(connection);
	wire_send(connection);
}

void connection_output_claim(struct connection *connection)
{
	struct edge *edge = connection->edge;

	if (edge->output_owner == connection)
		return;
	if (edge->output_owner)
		connection_flush(edge->output_owner);
	edge->output_owner = connection;
}

void connection_send_close(struct connection *connection)
{
	struct tls_wire wire;
	int outcome;

	if (!connection->is_tls || !connection->tls || connection->is_broken)
		return;
	connection_wire_begin(connection, &wire);
	outcome = tls_session_close(connection->tls, &wire);
	connection_wire_end(connection, &wire);
	if (outcome == 0)
		connection_flush(connection);
}

int connection_end_output(struct connection *connection)
{
	if (connection->ended_output)
		return 0;
	connection_flush(connection);
	if (!connection->backlog.len)
		connection_send_close(connection);
	if (connection->backlog.len)
		return PUMP_WAIT;
	os_shutdown(connection->watch.fd, OS_HALF_WRITE);
	connection->ended_output = true;
	return 0;
}

size_t connection_room(const struct connection *connection)
{
	const struct edge *edge = connection->edge;
	size_t used = edge->output_owner == connection ? edge->gather_len + edge->wire_out_len : 0;

	if (connection->backlog.len)
		return 0;
	return used < EDGE_TURN_BYTES ? EDGE_TURN_BYTES - used : EDGE_SMALL;
}

struct writer connection_gather(struct connection *connection, size_t wanted)
{
	struct edge *edge = connection->edge;

	connection_output_claim(connection);
	if (EDGE_GATHER_SIZE - edge->gather_len < wanted)
		gather_seal(connection);
	return writer_of(edge->gather + edge->gather_len, EDGE_GATHER_SIZE - edge->gather_len);
}

void connection_gathered(struct connection *connection, const struct writer *writer)
{
	connection->edge->gather_len += writer_done(writer).len;
}

void connection_write(struct connection *connection, struct span bytes)
{
	struct edge *edge = connection->edge;

	if (!bytes.len || connection->is_broken)
		return;
	connection_output_claim(connection);
	if (bytes.len <= EDGE_SMALL) {
		if (EDGE_GATHER_SIZE - edge->gather_len < bytes.len)
			gather_seal(connection);
		memcpy(edge->gather + edge->gather_len, bytes.ptr, bytes.len);
		edge->gather_len += bytes.len;
		return;
	}
	if (connection->is_tls) {
		gather_seal(connection);
		connection_seal(connection, bytes);
	} else {
		struct span parts[2] = { span_of(edge->gather, edge->gather_len), bytes };
		size_t skip = edge->gather_len ? 0 : 1;

		edge->gather_len = 0;
		connection_send(connection, parts + skip, 2 - skip);
	}
}

/* True when nothing waits any more. */
bool connection_backlog_send(struct connection *connection)
{
	struct edge *edge = connection->edge;

	while (connection->backlog.len && (connection->watch.ready & OS_WRITABLE)) {
		struct span front = block_queue_front(&connection->backlog);
		ssize_t put = os_write(connection->watch.fd, front.ptr, front.len);

		if (put == -EAGAIN || (put >= 0 && (size_t)put < front.len))
			connection->watch.ready &= ~(unsigned)OS_WRITABLE;
		if (put < 0 && put != -EAGAIN) {
			connection->is_broken = true;
			break;
		}
		if (put > 0) {
			block_queue_consume(&connection->backlog, &edge->blocks, (size_t)put);
			connection->bytes_out += (size_t)put;
			connection->last_ns = connection->stalled_ns = edge->now_ns;
		}
	}
	return !connection->backlog.len;
}
