/* Stage 13, proxy: a fetch; what is sent is derived once, here. Where it fails before anything could have come of it, it
 * is tried once more at another origin. */
#include "edge/edge_internal.h"

enum dispatch_proxy_step { PROXY_START, PROXY_HEAD };
enum { EDGE_TRIES_MAX = 2 };

/* ---- What is sent ----------------------------------------------------------------------------------------- */

static bool upgrade_passes(const struct snapshot_proxy *proxy, struct span token)
{
	if (span_equal_nocase(token, SPAN("websocket")))
		return true;
	for (size_t i = 0; i < proxy->upgrade_count; i++) {
		if (span_equal_nocase(token, proxy->upgrades[i]))
			return true;
	}
	return false;
}

static struct span host_to_send(const struct exchange *exchange)
{
	const struct snapshot_proxy *proxy = &exchange->route->proxy;

	switch (proxy->host_mode) {
	case SNAPSHOT_HOST_UPSTREAM:
		return exchange->origin->host_field;
	case SNAPSHOT_HOST_NAME:
		return proxy->host_name;
	case SNAPSHOT_HOST_CLIENT:
		break;
	}
	/* HTTP/1.0 without Host: an HTTP/1.1 origin must still be given one (RFC 9112, 3.2). */
	return exchange->request->authority.raw.len ? exchange->request->authority.raw
						    : exchange->origin->host_field;
}

static int request_fields(struct exchange *exchange)
{
	struct http_request *request = exchange->request;
	char client[OS_ADDRESS_TEXT_MAX];
	struct writer writer = writer_of(client, sizeof(client));
	struct http_hop hop = { .host = request->authority.raw,
				.secure = exchange->connection->is_tls };
	struct span via;
	char pseudonym[EDGE_PSEUDONYM_SIZE];

	http_request_strip(request);
	os_address_write_ip(&exchange->client, &writer);
	hop.client = writer_done(&writer);
	if (exchange->hop)
		hop = *exchange->hop;
	if (http_fields_add_forwarded(&request->fields, &hop))
		return -ENOMEM;
	via = arena_join(&exchange->arena,
			 (struct span[]){ request->version % 10 ? SPAN("1.1 ") : SPAN("1.0 "),
					  edge_pseudonym(exchange->edge, pseudonym) },
			 2);
	if (!via.ptr)
		return -ENOMEM;
	return http_fields_add_id(&request->fields, HTTP_NAME_VIA, via);
}

static struct span target_to_send(struct exchange *exchange)
{
	const struct http_request *request = exchange->request;

	if (!request->has_query)
		return request->path.wire;
	return arena_join(&exchange->arena,
			  (struct span[]){ request->path.wire, SPAN("?"), request->query }, 3);
}

/* All but what depends on the origin. */
static int request_make(struct exchange *exchange)
{
	struct http_request *request = exchange->request;
	struct upstream_request *sent = &exchange->fetch_request;
	struct span upgrade = request->upgrade;

	if (upgrade.len &&
	    (request->version != 11 || !upgrade_passes(&exchange->route->proxy, upgrade)))
		upgrade = SPAN_NONE;
	if (!upgrade.len)
		exchange->codec->refuse_upgrade(exchange);
	*sent = (struct upstream_request){
		.method = request->method,
		.method_text = request->method_text,
		.content_length = request->content_length,
		.has_body = request->has_body,
		.expect_continue = request->expect_continue,
		.upgrade = upgrade,
		.may_retry = http_method_is_idempotent(request->method) && !request->has_body,
		.fields = &request->fields,
	};
	if (request_fields(exchange))
		return -ENOMEM;
	sent->target = target_to_send(exchange);
	return sent->target.ptr ? 0 : -ENOMEM;
}

/* Both ends in one family: an IPv4 one beside an IPv6 one is written as IPv6 (RFC 4291, 2.5.5.2). */
static void endpoint_set(struct codec_proxy_endpoint *end, const struct os_address *address,
			 uint8_t family)
{
	size_t at = family == 6 && address->family == OS_FAMILY_V4 ? 12 : 0;

	if (at)
		end->ip[10] = end->ip[11] = 0xff;
	memcpy(end->ip + at, address->ip, address->family == OS_FAMILY_V4 ? 4 : 16);
	end->port = address->port;
}

/* The client that log and fields name, and where he connected to. */
static int request_proxy_header(struct exchange *exchange)
{
	struct connection *connection = exchange->connection;
	struct upstream_request *sent = &exchange->fetch_request;
	unsigned version = exchange->origin->send_proxy;
	struct codec_proxy_header header = { 0 };
	char *bytes;
	struct writer out;

	sent->first = SPAN_NONE;
	sent->client = &connection->origins;
	if (!version)
		return 0;
	bytes = arena_array(&exchange->arena, char, CODEC_PROXY_LINE_MAX);
	if (!bytes)
		return -ENOMEM;
	out = writer_of(bytes, CODEC_PROXY_LINE_MAX);
	if (connection_local(connection)) {
		header.family = exchange->client.family == OS_FAMILY_V4 &&
						connection->local.family == OS_FAMILY_V4
					? 4
					: 6;
		endpoint_set(&header.source, &exchange->client, header.family);
		endpoint_set(&header.destination, &connection->local, header.family);
	}
	codec_proxy_write(&out, version, &header);
	sent->first = writer_done(&out);
	return 0;
}

static int request_address(struct exchange *exchange)
{
	const struct snapshot_origin *origin = exchange->origin;
	const struct balance_member *member = exchange_member(exchange);
	struct http_fields *fields = &exchange->request->fields;
	struct upstream_request *sent = &exchange->fetch_request;

	sent->origin_id = origin->id;
	sent->is_tls = sent->is_verified = origin->is_https;
	sent->server_name = origin->server_name.len ? origin->server_name : origin->host;
	sent->ca_id = origin->ca ? origin->ca->id : 0;
	edge_upstream_limits(exchange->limits, &sent->limits);
	if (member->active_max && member->active_max < sent->limits.connections_per_origin)
		sent->limits.connections_per_origin = member->active_max;
	if (http_fields_set(fields, SPAN("Host"), host_to_send(exchange)))
		return -ENOMEM;
	sent->host = http_fields_value(fields, HTTP_NAME_HOST);
	return request_proxy_header(exchange);
}

/* ---- The fetch --------------------------------------------------------------------------------------------- */

void exchange_count_fetch_limit(const struct exchange *exchange)
{
	const struct upstream_failure *failure = &exchange->fetch.failure;

	if (failure->is_limit && exchange->end == TELEMETRY_END_OK)
		telemetry_count_limit(exchange->edge->counters,
				      (enum telemetry_limit)failure->limit);
}

/* Nothing can have come of it: the request never left, or it may be repeated and has no answer. And all of it is still
 * here: a body is handed on from its first byte only. */
static bool may_go_elsewhere(const struct exchange *exchange)
{
	const struct upstream_failure *failure = &exchange->fetch.failure;

	if (exchange->choice.tried_count >= EDGE_TRIES_MAX || exchange->request_pump.written ||
	    failure->is_answered || failure->after_head)
		return false;
	if (exchange->request->has_body && !pump_is_open(&exchange->request_pump))
		return false;
	return failure->is_unsent || exchange->fetch_request.may_retry;
}

static enum exchange_verdict answer_failure(struct exchange *exchange)
{
	const struct upstream_failure *failure = &exchange->fetch.failure;
	enum telemetry_end end = (enum telemetry_end)failure->end;
	uint16_t status = telemetry_ends[end].status;

	if (end == TELEMETRY_END_QUEUE_FULL)
		telemetry_count_limit(exchange->edge->counters, TELEMETRY_LIMIT_ORIGIN_QUEUE);
	exchange_count_fetch_limit(exchange);
	exchange_set_end(exchange, end, arena_copy(&exchange->arena, failure->detail));
	exchange->is_last |= pump_is_open(&exchange->request_pump);
	return exchange_answer(exchange, status ? status : 502, end);
}

/* Expect: 100-continue went along; the origin's 100, or a second without one, pulls the body. */
static void pull_reluctant(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;

	if (!pump_is_open(&exchange->request_pump) || exchange->request_pump.sink)
		return;
	if (exchange->fetch.origin_continue ||
	    edge->now_ns - exchange->dispatched_ns >=
		    telemetry_limits[TELEMETRY_LIMIT_CONTINUE].value) {
		if (!exchange->fetch.origin_continue)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_CONTINUE);
		pump_set_sink(&exchange->request_pump, &fetch_sink, exchange);
		exchange->wants_turn = true;
	} else {
		exchange_wake_at(exchange,
				 exchange->dispatched_ns +
					 telemetry_limits[TELEMETRY_LIMIT_CONTINUE].value);
	}
}

static enum exchange_verdict fetch_start(struct exchange *exchange)
{
	struct edge *edge = exchange->edge;
	int outcome;

	if (request_address(exchange))
		return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	exchange->has_fetch = true;
	outcome = upstream_fetch_start(edge->upstream, &exchange->fetch, &exchange->fetch_request,
				       &exchange->arena, exchange);
	if (outcome == UPSTREAM_NO_ROOM)
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_ORIGIN_QUEUE);
	if (outcome == UPSTREAM_NO_ROOM || exchange->fetch.was_queued)
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_ORIGIN_CONNECTIONS);
	if (outcome) {
		exchange->has_fetch = false;
		return exchange_answer(exchange, 503,
				       outcome == UPSTREAM_NO_ROOM ? TELEMETRY_END_QUEUE_FULL
								   : TELEMETRY_END_NO_ROOM);
	}
	if (pump_is_open(&exchange->request_pump) && !exchange->request_pump.is_reluctant)
		pump_set_sink(&exchange->request_pump, &fetch_sink, exchange);
	exchange->step = PROXY_HEAD;
	/* On a pooled connection nothing wakes it before the origin's 100: its second begins here. */
	pull_reluctant(exchange);
	/* Not to lose a turn: the request's first bytes leave with its head. */
	exchange_pumps_run(exchange);
	return exchange->interrupt != EXCHANGE_NEXT ? EXCHANGE_YIELD : EXCHANGE_WAIT;
}

static enum exchange_verdict start(struct exchange *exchange)
{
	edge_retry_earn(exchange->edge);
	if (request_make(exchange))
		return exchange_answer(exchange, 503, TELEMETRY_END_NO_ROOM);
	if (!exchange_choose_origin(exchange))
		return exchange_answer(exchange, 503, TELEMETRY_END_ORIGIN_DOWN);
	return fetch_start(exchange);
}

/* The failed try's limits are counted as though it had been the last. */
static enum exchange_verdict go_elsewhere(struct exchange *exchange)
{
	exchange_count_fetch_limit(exchange);
	upstream_fetch_stop(&exchange->fetch);
	exchange->has_fetch = false;
	exchange->fetch = (struct upstream_fetch){ 0 };
	exchange->dispatched_ns = exchange->edge->now_ns;
	telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_ORIGIN_TRIED_AGAIN);
	return fetch_start(exchange);
}

static enum exchange_verdict on_failure(struct exchange *exchange)
{
	exchange_origin_failed(exchange, (enum telemetry_end)exchange->fetch.failure.end);
	if (may_go_elsewhere(exchange) && exchange_choose_another(exchange))
		return go_elsewhere(exchange);
	return answer_failure(exchange);
}

static enum exchange_verdict take_head(struct exchange *exchange)
{
	struct upstream_fetch *fetch = &exchange->fetch;

	exchange_origin_answered(exchange);
	exchange->response = fetch->response;
	exchange->source = RESPONSE_FETCH;
	if (fetch->is_tunnel) {
		if (pump_is_open(&exchange->request_pump)) {
			exchange_set_end(exchange, TELEMETRY_END_ORIGIN_MALFORMED,
					 SPAN("switched-early"));
			exchange->is_last = true;
			return exchange_answer(exchange, 502, TELEMETRY_END_ORIGIN_MALFORMED);
		}
		telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_TUNNELS);
		exchange_sticky_set(exchange);
		return EXCHANGE_ANSWER;
	}
	http_response_strip(&exchange->response);
	exchange_sticky_set(exchange);
	if (exchange->fetch_request.upgrade.len)
		exchange->codec->refuse_upgrade(exchange);
	return EXCHANGE_ANSWER;
}

enum exchange_verdict dispatch_proxy(struct exchange *exchange)
{
	if (exchange->step == PROXY_START)
		return start(exchange);
	for (;;) {
		switch (exchange->fetch.state) {
		case UPSTREAM_INTERIM:
			/* A client of HTTP/1.0 gets none; a lost one harms nobody. */
			if (exchange->codec->write_interim(exchange, &exchange->fetch.interim) == 0)
				connection_flush(exchange->connection);
			upstream_fetch_interim_done(&exchange->fetch);
			continue;
		case UPSTREAM_HEAD:
		case UPSTREAM_DONE:
			return take_head(exchange);
		case UPSTREAM_FAILED:
			return on_failure(exchange);
		case UPSTREAM_IDLE:
		case UPSTREAM_WORKING:
			pull_reluctant(exchange);
			return EXCHANGE_WAIT;
		}
	}
}

/* ---- The two bodies ------------------------------------------------------------------------------------------ */

static int fetch_body_read(void *owner, size_t room, struct span *ret_bytes)
{
	struct exchange *exchange = owner;

	switch (upstream_fetch_read(&exchange->fetch, room, ret_bytes)) {
	case 0:
		telemetry_count_add(exchange->edge->counters, TELEMETRY_COUNTER_ORIGIN_BYTES_IN,
				    ret_bytes->len);
		return 0;
	case UPSTREAM_MORE:
		return PUMP_WAIT;
	case UPSTREAM_END:
		return PUMP_END;
	default:
		return PUMP_BROKEN;
	}
}

static int fetch_body_write(void *owner, struct span bytes, bool last, size_t *ret_taken)
{
	struct exchange *exchange = owner;
	int outcome;

	/* Another origin may get the body yet. */
	*ret_taken = 0;
	if (exchange->fetch.state == UPSTREAM_FAILED && may_go_elsewhere(exchange))
		return PUMP_WAIT;
	outcome = upstream_fetch_write(&exchange->fetch, bytes, last, ret_taken);
	telemetry_count_add(exchange->edge->counters, TELEMETRY_COUNTER_ORIGIN_BYTES_OUT,
			    *ret_taken);
	if (outcome == 0)
		return 0;
	return outcome == UPSTREAM_MORE ? PUMP_WAIT : PUMP_BROKEN;
}

const struct pump_source fetch_source = { .read = fetch_body_read };
const struct pump_sink fetch_sink = { .write = fetch_body_write };

/* ---- What upstream asks of the worker -------------------------------------------------------------------------- */

static int dial_ask(struct edge *edge, struct edge_question *question)
{
	uint64_t origin;
	uint32_t timeout_ms;
	struct ipc_dial body = { .question = { question->index, question->serial } };

	upstream_dial_wanted(question->owner, &origin, &timeout_ms);
	body.origin = origin;
	body.timeout_ms = timeout_ms;
	return ipc_send(edge->dialer, IPC_MESSAGE_dial, &body, SPAN_NONE, NULL, 0);
}

static void dial_answer(struct edge *edge, void *owner, struct ipc_message *message)
{
	(void)edge;
	if (message && message->number == IPC_MESSAGE_dialed) {
		const struct ipc_dialed *body = message->body;

		/* Without a socket where this process may have no more of them: it could not arrive. */
		upstream_dialed(owner,
				message->descriptor_count ? TAKE_FD(message->descriptors[0]) : -1,
				body->connect_us);
	} else if (message && message->number == IPC_MESSAGE_dial_failed) {
		const struct ipc_dial_failed *body = message->body;

		upstream_dial_failed(owner, body->status, message->tail);
	} else {
		upstream_dial_failed(owner, IPC_DIAL_FAILED, SPAN("dialer"));
	}
}

static const struct edge_question_kind dial_question = { IPC_DIALER, dial_ask, dial_answer, NULL };

static int host_dial(void *host, struct upstream_connection *connection, uint64_t origin_id,
		     uint32_t timeout_ms, uint64_t *ret_question)
{
	(void)origin_id;
	(void)timeout_ms;
	return question_ask(host, &dial_question, connection, ret_question);
}

static void host_cancel_dial(void *host, uint64_t question)
{
	question_cancel(host, question);
}

static void host_wake(void *host, void *owner)
{
	(void)host;
	exchange_wake(owner);
}

static struct tls_policy *host_tls_policy(void *host, uint64_t ca_id)
{
	struct edge *edge = host;

	return map_get(&edge->client_policies, ca_id + 1);
}

static void host_displaced(void *host)
{
	struct edge *edge = host;

	telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_ORIGIN_IDLE_CONNECTIONS);
}

const struct upstream_host edge_upstream_host = {
	.dial = host_dial,
	.cancel_dial = host_cancel_dial,
	.wake = host_wake,
	.tls_policy = host_tls_policy,
	.displaced = host_displaced,
};
