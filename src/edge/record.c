/* Stage 16's work: the access record of an exchange, and the events of a connection. */
#include "edge/edge_internal.h"

static void ring_put(struct edge *edge, enum telemetry_ring_kind kind, const struct writer *line)
{
	if (!edge->ring || !line->ok)
		return;
	switch (telemetry_ring_write(edge->ring, kind, writer_done(line))) {
	case TELEMETRY_RING_WAKE:
		/* One wake a turn is enough: whoever reads takes all that is there. */
		edge->wakes_log = true;
		break;
	case TELEMETRY_RING_FULL:
		telemetry_count(edge->counters, TELEMETRY_COUNTER_LINES_DROPPED);
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_LOG_QUEUE);
		break;
	default:
		break;
	}
}

static void fill_request(struct telemetry_access *access, const struct exchange *exchange)
{
	const struct http_request *request = exchange->request;

	access->method = request->method_text;
	access->host = request->authority.raw;
	access->path = exchange->asked.text;
	access->query = request->query;
	access->protocol = request->version == 10 ? SPAN("HTTP/1.0") : SPAN("HTTP/1.1");
	access->user_agent = http_fields_value(&request->fields, HTTP_NAME_USER_AGENT);
	access->referer = http_fields_value(&request->fields, HTTP_NAME_REFERER);
}

static void fill_tls(struct telemetry_access *access, const struct connection *connection)
{
	struct tls_session_facts facts;

	if (!connection->tls)
		return;
	tls_session_get_facts(connection->tls, &facts);
	access->tls_version = span_str(facts.version);
	access->tls_cipher = span_str(facts.cipher);
	access->tls_group = span_str(facts.group);
	access->tls_resumed = facts.is_resumed;
}

static void fill_upstream(struct telemetry_access *access, const struct exchange *exchange)
{
	struct span origin = exchange->origin ? exchange->origin->text : exchange->origin_text;

	if (!origin.len)
		return;
	access->upstream =
		exchange->fetch.address_text[0] ? span_str(exchange->fetch.address_text) : origin;
	if (exchange->fetch.first_byte_ns > exchange->dispatched_ns)
		access->upstream_ns = exchange->fetch.first_byte_ns - exchange->dispatched_ns;
	access->upstream_tries = exchange->choice.tried_count;
}

/* Who asked for nobody's name counts as `other`: strangers make no rows. */
static void count_site(const struct exchange *exchange, const struct telemetry_access *access)
{
	struct telemetry_site *row =
		exchange->site_row ? exchange->site_row : exchange->edge->named->sites;

	telemetry_add(&row->statuses[access->status < 600 ? access->status / 100 : 0], 1);
	telemetry_add(&row->counters[TELEMETRY_SITE_BYTES_IN], access->bytes_in);
	telemetry_add(&row->counters[TELEMETRY_SITE_BYTES_OUT], access->bytes_out);
	telemetry_observe_in(&row->request, access->duration_ns);
}

static bool is_slow(const struct exchange *exchange, const struct telemetry_access *access)
{
	return exchange->slow_ns && access->duration_ns >= exchange->slow_ns &&
	       !exchange->is_tunnel;
}

/* The head's stage begins with its first byte, the record is where all ends. Stages are only ever entered forward. */
static void write_slow(const struct exchange *exchange, const struct telemetry_access *access)
{
	struct edge *edge = exchange->edge;
	struct writer line = writer_of(edge->line_buffer, TELEMETRY_LINE_MAX);
	struct telemetry_stage stages[EXCHANGE_STAGE_COUNT];
	uint64_t since_ns = exchange->began_ns;
	size_t count = 0;

	for (int i = 0; i < EXCHANGE_STAGE_RECORD; i++) {
		uint64_t until_ns = edge->now_ns;

		if (!exchange->entered_ns[i])
			continue;
		for (int next = EXCHANGE_STAGE_RECORD; next > i; next--) {
			if (exchange->entered_ns[next])
				until_ns = exchange->entered_ns[next];
		}
		stages[count++] =
			(struct telemetry_stage){ exchange_stages[i].name, until_ns - since_ns };
		since_ns = until_ns;
	}
	telemetry_count(edge->counters, TELEMETRY_COUNTER_EXCHANGES_SLOW);
	telemetry_write_slow(&line, access, stages, count);
	ring_put(edge, TELEMETRY_RING_EVENT, &line);
}
_Static_assert((int)EXCHANGE_STAGE_COUNT <= (int)TELEMETRY_STAGES_MAX, "each stage has its time");

void record_write(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	const struct connection *connection = exchange->connection;
	struct writer line = writer_of(edge->line_buffer, TELEMETRY_LINE_MAX);
	char client[OS_ADDRESS_TEXT_MAX];
	struct writer client_writer = writer_of(client, sizeof(client));
	struct telemetry_access access = {
		.wall_ns = exchange->began_wall_ns,
		.second = &edge->log_second,
		.duration_ns = edge->now_ns - exchange->began_ns,
		.client_port = exchange->client.port,
		.status = exchange->head_committed ? exchange->response.status : 0,
		.bytes_in = exchange->head_bytes_in + exchange->request_pump.read,
		.bytes_out = exchange->head_bytes_out + exchange->response_pump.written,
		.request_id_high = exchange->id_high,
		.request_id_low = exchange->id_low,
		.worker = edge->slot,
		.end = exchange->end,
		.end_detail = exchange->end_detail,
		.rule = exchange->rule,
	};

	telemetry_count(edge->counters, TELEMETRY_COUNTER_EXCHANGES);
	telemetry_count_end(edge->counters, exchange->end, access.status);
	telemetry_observe(edge->counters, TELEMETRY_HISTOGRAM_REQUEST, access.duration_ns);
	telemetry_count_add(edge->counters, TELEMETRY_COUNTER_BYTES_IN, access.bytes_in);
	telemetry_count_add(edge->counters, TELEMETRY_COUNTER_BYTES_OUT, access.bytes_out);
	count_site(exchange, &access);
	if (exchange->log_target == SNAPSHOT_LOG_OFF && !is_slow(exchange, &access))
		return;
	os_address_write_ip(&exchange->client, &client_writer);
	access.client = writer_done(&client_writer);
	if (exchange->request)
		fill_request(&access, exchange);
	access.trace_id = span_first(span_skip(exchange->trace, HTTP_TRACE_ID_AT), 32);
	access.span_id = span_first(span_skip(exchange->trace, HTTP_TRACE_SPAN_AT), 16);
	fill_tls(&access, connection);
	fill_upstream(&access, exchange);
	if (is_slow(exchange, &access))
		write_slow(exchange, &access);
	if (exchange->log_target == SNAPSHOT_LOG_OFF)
		return;
	switch (exchange->log_format) {
	case SNAPSHOT_LOG_JSON:
		telemetry_write_access_json(&line, &access);
		break;
	case SNAPSHOT_LOG_COMBINED:
		telemetry_write_access_combined(&line, &access);
		break;
	case SNAPSHOT_LOG_SHORT:
		telemetry_write_access_short(&line, &access);
		break;
	}
	ring_put(edge, TELEMETRY_RING_ACCESS, &line);
}

void edge_event(struct edge *edge, struct span message, const struct telemetry_pair *pairs,
		size_t pair_count)
{
	struct writer line = writer_of(edge->line_buffer, TELEMETRY_LINE_MAX);
	char process[32];
	struct writer name = writer_of(process, sizeof(process));
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_ANOMALY,
		.wall_ns = edge->wall_ns,
		.message = message,
		.pairs = pairs,
		.pair_count = pair_count,
	};

	write_format(&name, "worker %u", edge->slot);
	event.process = writer_done(&name);
	telemetry_write_event(&line, &event);
	ring_put(edge, TELEMETRY_RING_EVENT, &line);
}

/* Fills source and destination, whose texts lie in the two buffers. */
static void fill_addresses(struct telemetry_event *event, struct connection *connection,
			   char client[OS_ADDRESS_TEXT_MAX], char local[OS_ADDRESS_TEXT_MAX])
{
	struct writer client_writer = writer_of(client, OS_ADDRESS_TEXT_MAX);
	struct writer local_writer = writer_of(local, OS_ADDRESS_TEXT_MAX);

	os_address_write_ip(&connection->peer, &client_writer);
	event->source = writer_done(&client_writer);
	event->source_port = connection->peer.port;
	/* It may have failed before anybody asked for it. */
	if (connection_local(connection)) {
		os_address_write_ip(&connection->local, &local_writer);
		event->destination = writer_done(&local_writer);
		event->destination_port = connection->local.port;
	}
}

void edge_event_tls(struct connection *connection, const char *why, struct span detail)
{
	struct edge *edge = connection->edge;
	struct writer line = writer_of(edge->line_buffer, TELEMETRY_LINE_MAX);
	char client[OS_ADDRESS_TEXT_MAX], local[OS_ADDRESS_TEXT_MAX];
	struct telemetry_pair pairs[] = {
		{ .key = "failure", .text = span_str(why) },
		{ .key = "detail", .text = detail },
		{ .key = "sni", .text = span_str(connection->name) },
	};
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_TLS,
		.wall_ns = edge->wall_ns,
		.message = connection->phase == CONNECTION_OPEN ? SPAN("TLS connection broke")
								: SPAN("TLS handshake failed"),
		.pairs = pairs,
		.pair_count = ARRAY_LEN(pairs),
	};

	fill_addresses(&event, connection, client, local);
	telemetry_write_event(&line, &event);
	ring_put(edge, TELEMETRY_RING_EVENT, &line);
}

static void event_of_connection(struct connection *connection, struct span message,
				const struct telemetry_pair *pairs, size_t pair_count)
{
	struct edge *edge = connection->edge;
	struct writer line = writer_of(edge->line_buffer, TELEMETRY_LINE_MAX);
	char client[OS_ADDRESS_TEXT_MAX], local[OS_ADDRESS_TEXT_MAX];
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_ANOMALY,
		.wall_ns = edge->wall_ns,
		.message = message,
		.pairs = pairs,
		.pair_count = pair_count,
	};

	fill_addresses(&event, connection, client, local);
	telemetry_write_event(&line, &event);
	ring_put(edge, TELEMETRY_RING_EVENT, &line);
}

void edge_event_proxy_header(struct connection *connection, const char *why)
{
	struct telemetry_pair pairs[] = { { .key = "failure", .text = span_str(why) } };

	event_of_connection(connection, SPAN("PROXY header refused"), pairs, ARRAY_LEN(pairs));
}

void edge_event_refused(struct connection *connection, struct span rule, uint64_t count)
{
	struct telemetry_pair pairs[] = {
		{ .key = "failure", .text = SPAN("limit:client-connections") },
		{ .key = "rule", .text = rule },
		{ .key = "count", .number = count, .is_number = true },
	};

	event_of_connection(connection, SPAN("connection refused"), pairs, ARRAY_LEN(pairs));
}
