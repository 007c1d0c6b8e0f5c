/* What goes out: the head with the first bytes of the body behind it, then the rest, framed. Body bytes are
 * not copied on the way to a plain origin; a chunk whose size has gone out is filled by later calls. */
#include "upstream/upstream_internal.h"

/* ---- Head ---------------------------------------------------------------------------------------------------- */

static int head_write(struct upstream_connection *connection, struct span *ret_head)
{
	struct upstream *upstream = connection->upstream;
	const struct upstream_request *request = connection->fetch->request;
	const struct codec_h1_request_out out = {
		.method = request->method_text,
		.target = request->target,
		.host = request->host,
		.fields = request->fields,
		.content_length = request->content_length,
		.has_body = request->has_body,
		.expect_continue = request->expect_continue,
		.upgrade = request->upgrade,
	};
	size_t size = codec_h1_head_size(request->fields,
					 request->method_text.len + request->target.len +
						 request->host.len + request->upgrade.len);
	void *memory = upstream->head;
	struct writer writer;
	int outcome;

	if (!heap_grow(&memory, &upstream->head_capacity, size, 1))
		return -ENOMEM;
	upstream->head = memory;
	writer = writer_of(upstream->head, upstream->head_capacity);
	outcome = codec_h1_write_request_head(&connection->client, &writer, &out);
	*ret_head = writer_done(&writer);
	return outcome;
}

/* ---- Framing --------------------------------------------------------------------------------------------------- */

static bool is_chunked(const struct upstream_connection *connection)
{
	return connection->client.writer.framing == CODEC_H1_FRAMING_CHUNKED;
}

/* Cuts `bytes` to what the next segment carries and puts the chunk's framing around it. */
static int segment_body(struct upstream_connection *connection, struct span bytes,
			struct codec_h1_frame *frame, struct upstream_segment *segment)
{
	struct codec_h1_writer *writer = &connection->client.writer;

	if (connection->tls)
		bytes = span_first(bytes, UPSTREAM_SEAL_MAX);
	segment->body = bytes;
	if (!bytes.len)
		return 0;
	if (!is_chunked(connection))
		return bytes.len > writer->left ? CODEC_H1_BODY_LONG : 0;
	if (!connection->chunk_left) {
		int outcome = codec_h1_body_frame(writer, bytes.len, frame);

		if (outcome)
			return outcome;
		segment->prefix = span_of(frame->prefix, frame->prefix_len);
		connection->chunk_left = bytes.len;
	}
	segment->body = span_first(bytes, connection->chunk_left);
	if (segment->body.len == connection->chunk_left)
		segment->suffix = SPAN("\r\n");
	return 0;
}

/* `taken` bytes of the segment's body are on their way. */
static int account(struct upstream_connection *connection, size_t taken)
{
	struct codec_h1_frame unused;

	connection->fetch->sent += taken;
	if (is_chunked(connection)) {
		connection->chunk_left -= taken;
		return 0;
	}
	return taken ? codec_h1_body_frame(&connection->client.writer, taken, &unused) : 0;
}

static int broken(struct upstream_fetch *fetch, enum telemetry_end end, struct span detail)
{
	upstream_fetch_fail(fetch, end, detail);
	return UPSTREAM_BROKEN;
}

/* Nothing of it went out, so sending it again sends it once. */
static int send_failed(struct upstream_connection *connection)
{
	struct upstream_fetch *fetch = connection->fetch;

	if (connection->is_reused && !connection->has_sent && !fetch->was_retried)
		return upstream_fetch_restart(fetch) ? UPSTREAM_MORE : UPSTREAM_BROKEN;
	/* An answer to nothing: the codec waits for one only behind a head. */
	if (connection->head_pending)
		return broken(fetch, TELEMETRY_END_ORIGIN_CLOSED, SPAN_NONE);
	connection->is_write_over = true;
	fetch->request_done = true;
	upstream_queue_clear(&connection->output);
	return 0;
}

/* One segment. 0 or as upstream_request_send(). */
static int send_segment(struct upstream_connection *connection, struct span bytes, bool last,
			size_t *ret_taken)
{
	struct upstream_fetch *fetch = connection->fetch;
	struct upstream_segment segment = { .head = SPAN_NONE };
	struct codec_h1_frame frame, end_frame;
	struct codec_h1_writer after;
	bool is_end;
	int outcome;

	*ret_taken = 0;
	if (connection->head_pending && head_write(connection, &segment.head))
		return broken(fetch, TELEMETRY_END_NO_ROOM, SPAN("request-head"));
	if (segment_body(connection, bytes, &frame, &segment))
		return broken(fetch, TELEMETRY_END_INTERNAL, SPAN("body-too-long"));
	is_end = last && segment.body.len == bytes.len;
	after = connection->client.writer;
	if (is_end && is_chunked(connection)) {
		MUST(connection->chunk_left == segment.body.len);
		MUST(codec_h1_body_end(&after, &end_frame) == 0);
		segment.end = span_of(end_frame.prefix, end_frame.prefix_len);
	}
	/* Also where it cannot be sent any more: what the origin said before it closed is read then. */
	connection->head_pending = false;
	outcome = upstream_send(connection, &segment, ret_taken);
	if (outcome == -ENOMEM)
		return broken(fetch, TELEMETRY_END_NO_ROOM, SPAN_NONE);
	if (outcome)
		return send_failed(connection);
	MUST(account(connection, *ret_taken) == 0);
	if (!is_end || *ret_taken < bytes.len)
		return 0;
	if (is_chunked(connection))
		connection->client.writer = after;
	else if (codec_h1_body_end(&connection->client.writer, &end_frame))
		return broken(fetch, TELEMETRY_END_INTERNAL, SPAN("body-too-short"));
	fetch->request_done = true;
	return 0;
}

/* The answer's first byte is waited for while it is the origin's turn: all was sent, or it takes nothing. */
static void deadline_update(struct upstream_connection *connection, bool has_progressed)
{
	const struct upstream_fetch *fetch = connection->fetch;
	bool is_its_turn = fetch->request_done || connection->wants_room ||
			   upstream_queue_view(&connection->output).len;

	if (fetch->state != UPSTREAM_WORKING || connection->head_begun)
		return;
	if (!is_its_turn)
		os_timer_stop(&connection->timer);
	else if (has_progressed || !os_timer_is_set(&connection->timer))
		upstream_deadline_in(connection, fetch->request->limits.first_byte_ms);
}

int upstream_request_send(struct upstream_connection *connection, struct span bytes, bool last,
			  size_t *ret_taken)
{
	struct upstream_fetch *fetch = connection->fetch;
	bool has_progressed = connection->head_pending;
	int outcome = 0;

	*ret_taken = 0;
	for (;;) {
		struct span rest = span_skip(bytes, *ret_taken);
		size_t taken = 0;

		if (fetch->request_done || connection->is_write_over ||
		    (!rest.len && !last && !connection->head_pending))
			break;
		/* One piece of framing or sealed bytes waits at most. */
		outcome = upstream_flush(connection);
		if (outcome == -EAGAIN)
			break;
		outcome = outcome ? send_failed(connection)
				  : send_segment(connection, rest, last, &taken);
		if (outcome)
			return outcome;
		*ret_taken += taken;
		has_progressed |= taken > 0;
		if (!taken && !fetch->request_done && !connection->head_pending)
			break;
	}
	if (fetch->request_done) {
		*ret_taken = bytes.len;
		has_progressed = true;
	}
	connection->wants_room = *ret_taken < bytes.len || (last && !fetch->request_done);
	deadline_update(connection, has_progressed);
	return 0;
}

/* ---- Tunnel ------------------------------------------------------------------------------------------------------ */

static int tunnel_send(struct upstream_connection *connection, struct span bytes, bool last,
		       size_t *ret_taken)
{
	int outcome = 0;

	while (!connection->is_write_over && *ret_taken < bytes.len) {
		struct upstream_segment segment = { .body = span_skip(bytes, *ret_taken) };
		size_t taken = 0;

		if (connection->tls)
			segment.body = span_first(segment.body, UPSTREAM_SEAL_MAX);
		outcome = upstream_flush(connection);
		if (outcome == 0)
			outcome = upstream_send(connection, &segment, &taken);
		*ret_taken += taken;
		connection->fetch->sent += taken;
		if (outcome || !taken)
			break;
	}
	connection->active_ns = upstream_now_ns(connection->upstream);
	if (outcome == 0 && last && *ret_taken == bytes.len && !connection->is_write_over) {
		connection->write_ended = true;
		outcome = upstream_send_end(connection);
	}
	if (outcome && outcome != -EAGAIN)
		upstream_tunnel_write_over(connection);
	if (connection->is_write_over)
		*ret_taken = bytes.len;
	/* The end is only told once what stands before it has left. */
	connection->wants_room = !connection->is_write_over && (*ret_taken < bytes.len || outcome);
	return connection->wants_room ? UPSTREAM_MORE : 0;
}

/* ---- The owner's call ---------------------------------------------------------------------------------------------- */

int upstream_fetch_write(struct upstream_fetch *fetch, struct span bytes, bool last,
			 size_t *ret_taken)
{
	struct upstream_connection *connection = fetch->connection;
	int outcome;

	*ret_taken = 0;
	fetch->is_woken = false;
	if (fetch->state == UPSTREAM_FAILED || fetch->state == UPSTREAM_IDLE)
		return UPSTREAM_BROKEN;
	if (fetch->origin_waited_for)
		return UPSTREAM_MORE;
	if (!connection) { /* answered before the request ended */
		*ret_taken = bytes.len;
		return 0;
	}
	if (connection->phase != UPSTREAM_PHASE_BUSY) {
		connection->wants_room = true;
		return UPSTREAM_MORE;
	}
	fetch->upstream->caller = fetch;
	if (fetch->is_tunnel) {
		outcome = tunnel_send(connection, bytes, last, ret_taken);
	} else {
		outcome = upstream_request_send(connection, bytes, last, ret_taken);
		if (outcome == 0 && connection->wants_room)
			outcome = UPSTREAM_MORE;
	}
	fetch->upstream->caller = NULL;
	return outcome;
}

void upstream_request_on_room(struct upstream_connection *connection)
{
	bool wants_room = connection->wants_room;
	int outcome;

	if (!wants_room && !upstream_queue_view(&connection->output).len)
		return;
	outcome = upstream_flush(connection);
	if (outcome == -EAGAIN)
		return;
	if (outcome == 0 && connection->write_ended)
		outcome = upstream_send_end(connection);
	if (outcome && outcome != -EAGAIN && connection->fetch->is_tunnel) {
		upstream_tunnel_write_over(connection);
		if (!connection->fetch)
			return;
	} else if (outcome && outcome != -EAGAIN) {
		/* The queue held a part of the request: it has begun to go out. */
		connection->is_write_over = true;
		connection->fetch->request_done = true;
		upstream_queue_clear(&connection->output);
	}
	connection->wants_room = false;
	deadline_update(connection, true);
	if (wants_room)
		upstream_fetch_wake(connection->fetch, false);
}
