/* The first bytes of a connection that somebody in front of us passes on: whose it is. */
#include "edge/edge_internal.h"

void connection_refuse_proxy(struct connection *connection, enum codec_proxy_fault fault)
{
	telemetry_count(connection->edge->counters, TELEMETRY_COUNTER_PROXY_HEADERS_REFUSED);
	if (fault == CODEC_PROXY_FAULT_LONG)
		telemetry_count_limit(connection->edge->counters,
				      TELEMETRY_LIMIT_PROXY_HEADER_SIZE);
	edge_event_proxy_header(connection, codec_proxy_fault_text(fault));
	connection_close(connection);
}

/* What came waits in the connection until more comes. */
static void keep(struct connection *connection, struct span bytes)
{
	struct edge *edge = connection->edge;

	if (!bytes.len)
		return;
	if (block_queue_add(&connection->pending, &edge->blocks, bytes))
		connection->is_pending_cipher = true;
	else
		connection_close(connection);
}

static void take(struct connection *connection, const struct codec_proxy_header *header,
		 struct span rest)
{
	struct edge *edge = connection->edge;

	telemetry_count(edge->counters, TELEMETRY_COUNTER_PROXY_HEADERS);
	if (header->family) {
		unsigned family = header->family == 4 ? OS_FAMILY_V4 : OS_FAMILY_V6;

		connection->peer = os_address_of(family, header->source.ip, header->source.port);
		connection->local =
			os_address_of(family, header->destination.ip, header->destination.port);
	}
	/* The handshake has its own time and size. */
	connection->accepted_ns = edge->now_ns;
	connection->bytes_in = rest.len;
	keep(connection, rest);
	if (connection->phase == CONNECTION_CLOSED)
		return;
	/* What is not encrypted is input as it lies. */
	connection->is_pending_cipher &= connection->is_tls;
	connection_begin(connection);
	connection_activate(connection);
}

static void header_read(struct connection *connection)
{
	struct codec_proxy_header header;
	struct span bytes;
	size_t len = 0;
	int outcome = connection_receive(connection, &len);

	if (outcome == CONNECTION_WAIT)
		return;
	bytes = span_of(connection->edge->wire_in, len);
	if (outcome) {
		/* Nothing came at all: somebody only looked whether we are there. */
		connection_close(connection);
		return;
	}
	switch (codec_proxy_parse(bytes, &header)) {
	case 0:
		take(connection, &header, span_skip(bytes, header.len));
		return;
	case CODEC_PROXY_NEED_MORE:
		if (connection->saw_eof)
			connection_refuse_proxy(connection, CODEC_PROXY_FAULT_CLOSED);
		else
			keep(connection, bytes);
		return;
	default:
		connection_refuse_proxy(connection, header.fault);
		return;
	}
}

void connection_proxy_header(struct connection *connection)
{
	/* An end that came with the bytes is told once: it is read now, or never. */
	do {
		header_read(connection);
	} while (connection->phase == CONNECTION_PROXY_HEADER &&
		 (connection->watch.ready & OS_READABLE));
}
