/* Stages 7, 8 and 10 to 12: head, route, auth, rules, request pump. */
#include "edge/edge_internal.h"

enum exchange_verdict stage_head_run(struct exchange *exchange);
enum exchange_verdict stage_route_run(struct exchange *exchange);
enum exchange_verdict stage_auth_run(struct exchange *exchange);
enum exchange_verdict stage_rules_head_run(struct exchange *exchange);
enum exchange_verdict stage_request_pump_run(struct exchange *exchange);

static enum exchange_verdict redirect_to(struct exchange *exchange, struct span host, uint16_t port)
{
	const struct http_request *request = exchange->request;
	bool is_v6 = request->authority.kind == HTTP_HOST_V6;
	char number[8] = "";
	struct writer writer = writer_of(number, sizeof(number));
	struct span location;

	if (port && port != 443) {
		write_byte(&writer, ':');
		write_u64(&writer, port);
	}
	location = arena_format(&exchange->arena, "https://%s%.*s%s%.*s%.*s%s%.*s",
				is_v6 ? "[" : "", SPAN_ARG(host), is_v6 ? "]" : "",
				SPAN_ARG(writer_done(&writer)), SPAN_ARG(request->path.wire),
				request->has_query ? "?" : "", SPAN_ARG(request->query));
	if (!location.ptr)
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	exchange_answer(exchange, 308, TELEMETRY_END_OK);
	if (http_fields_add_id(&exchange->response.fields, HTTP_NAME_LOCATION, location))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

/* Host chose another site than SNI did: fine only where the same certificate and TLS policy cover it, else
 * what a client proved to one site would count at another. */
static bool site_agrees(const struct exchange *exchange)
{
	const struct connection *connection = exchange->connection;

	if (!connection->is_tls || exchange->site->id == connection->site_id)
		return true;
	if (exchange->site->policy->id != connection->policy_id)
		return false;
	for (size_t i = 0; i < exchange->site->certificate_count; i++) {
		if (exchange->site->certificates[i]->id == connection->certificate_id)
			return true;
	}
	return false;
}

static const struct snapshot_site *site_of_connection(const struct exchange *exchange)
{
	const struct snapshot *snapshot = exchange->snapshot->snapshot;

	for (size_t i = 0; i < snapshot->site_count; i++) {
		if (snapshot->sites[i].id == exchange->connection->site_id)
			return &snapshot->sites[i];
	}
	if (snapshot->default_site)
		return snapshot->default_site;
	return snapshot->site_count == 1 ? &snapshot->sites[0] : NULL;
}

static enum exchange_verdict answer_options(struct exchange *exchange)
{
	exchange_answer_text(exchange, 204, SPAN_NONE, SPAN_NONE);
	exchange->response.has_body = false;
	if (http_fields_add_id(&exchange->response.fields, HTTP_NAME_ALLOW,
			       SPAN("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")))
		return exchange_abort(exchange, TELEMETRY_END_NO_ROOM);
	return EXCHANGE_ANSWER;
}

struct span edge_pseudonym(const struct edge *edge, char buf[EDGE_PSEUDONYM_SIZE])
{
	struct writer writer = writer_of(buf, EDGE_PSEUDONYM_SIZE);

	write_str(&writer, "portcullis-");
	write_hex_u64(&writer, edge->gateway_id, 8);
	return writer_done(&writer);
}

/* It bears our own Via: an origin leads back to us, and would for ever. */
static bool is_loop(const struct exchange *exchange)
{
	const struct http_fields *fields = &exchange->request->fields;
	const struct http_field *field = NULL;
	char buf[EDGE_PSEUDONYM_SIZE];
	struct span pseudonym = edge_pseudonym(exchange->edge, buf);

	while ((field = http_fields_next(fields, HTTP_NAME_VIA, field))) {
		if (span_find(field->value, pseudonym) < field->value.len)
			return true;
	}
	return false;
}

static struct span listener_rule(const struct exchange *exchange)
{
	const struct snapshot_listener *listener = snapshot_find_listener(
		exchange->snapshot->snapshot, exchange->connection->listener_id);

	return listener ? listener->rule : SPAN_NONE;
}

enum exchange_verdict stage_head_run(struct exchange *exchange)
{
	const struct http_request *request = exchange->request;
	const struct snapshot_name *name = NULL;

	if (request->method == HTTP_CONNECT || request->method == HTTP_TRACE) {
		exchange->codec->refuse_upgrade(exchange);
		return exchange_answer(exchange, 405, TELEMETRY_END_OK);
	}
	if (is_loop(exchange))
		return exchange_answer(exchange, 508, TELEMETRY_END_LOOP);
	if (request->authority.kind == HTTP_HOST_NONE)
		exchange->site = site_of_connection(exchange);
	else
		exchange->site = snapshot_site_for_host(exchange->snapshot->snapshot,
							request->authority.host, &name);
	if (!exchange->site)
		return exchange_answer(exchange, 421, TELEMETRY_END_MISDIRECTED);
	exchange_view_site(exchange);
	exchange->limits = exchange->site->limits;
	if (exchange->site->trust && exchange_find_client(exchange) != EXCHANGE_NEXT)
		return EXCHANGE_ANSWER;
	if (request->target_form == HTTP_TARGET_ASTERISK)
		return answer_options(exchange);
	if (exchange->connection->is_redirecting) {
		if (request->authority.kind == HTTP_HOST_NONE)
			return exchange_answer(exchange, 400, TELEMETRY_END_CLIENT_MALFORMED);
		exchange->rule = listener_rule(exchange);
		return redirect_to(exchange, request->authority.host,
				   exchange->connection->tls_port);
	}
	if (!site_agrees(exchange))
		return exchange_answer(exchange, 421, TELEMETRY_END_MISDIRECTED);
	exchange->rule = exchange->site->rule;
	if (name && name->redirect_to.len)
		return redirect_to(exchange, name->redirect_to, request->authority.port);
	return EXCHANGE_NEXT;
}

/* A byte of the text is a byte or an escape of the wire, so both begin at the same `/` afterwards, and both are as
 * normal as before: what was within the prefix is within what is left. */
static void strip_prefix(struct exchange *exchange)
{
	struct http_path *path = &exchange->request->path;
	size_t at = 0;

	path->text = snapshot_block_path(exchange->block, path->text);
	if (path->other.len)
		path->other = snapshot_block_path(exchange->block, path->other);
	for (size_t i = 0; i < exchange->block->strip_prefix.len; i++)
		at += path->wire.ptr[at] == '%' ? 3 : 1;
	path->wire = span_skip(path->wire, at);
}

enum exchange_verdict stage_route_run(struct exchange *exchange)
{
	struct conf_address client = edge_conf_address(&exchange->client);

	if (!snapshot_path_is_clear(exchange->site, &exchange->request->path)) {
		exchange_set_end(exchange, TELEMETRY_END_CLIENT_MALFORMED,
				 span_str(codec_h1_fault_text(CODEC_H1_FAULT_TARGET)));
		return exchange_answer(exchange, 400, TELEMETRY_END_CLIENT_MALFORMED);
	}
	exchange->route =
		snapshot_find_route(exchange->site, exchange->request, &client, &exchange->block);
	if (exchange->route)
		exchange->rule = exchange->route->rule;
	else if (exchange->block)
		exchange->rule = exchange->block->rule;
	exchange->limits = exchange->block && exchange->block->limits
				   ? exchange->block->limits
				   : snapshot_find_limits(exchange->site, exchange->asked.text);
	if (exchange->block && exchange->block->strip_prefix.len)
		strip_prefix(exchange);
	/* The codec read with the widest of all sites' limits. */
	if (exchange->head_bytes_in > exchange->limits->values[SNAPSHOT_LIMIT_HEADER])
		return exchange_over_limit(exchange, TELEMETRY_LIMIT_HEADER);
	if (exchange->request->fields.count >
	    exchange->limits->values[SNAPSHOT_LIMIT_HEADER_FIELDS])
		return exchange_over_limit(exchange, TELEMETRY_LIMIT_HEADER_FIELDS);
	return EXCHANGE_NEXT;
}

/* The rows of later steps: the order is fixed now, what they decide comes with their engines. */
enum exchange_verdict stage_auth_run(struct exchange *exchange)
{
	(void)exchange;
	return EXCHANGE_NEXT;
}

enum exchange_verdict stage_rules_head_run(struct exchange *exchange)
{
	(void)exchange;
	return EXCHANGE_NEXT;
}

/* A body that is announced as small is read whole before anybody is dispatched: a slow or vanishing client then
 * costs no origin a connection, and no origin sees a request whose body never comes. */
static bool is_gathered(const struct exchange *exchange)
{
	const struct pump *pump = &exchange->request_pump;

	return !pump_is_open(pump) || pump->source_ended || pump->is_reluctant ||
	       exchange->request->content_length < 0 ||
	       exchange->request->content_length > EDGE_GATHERED_BODY_MAX;
}

enum exchange_verdict stage_request_pump_run(struct exchange *exchange)
{
	enum step { OPEN, GATHER };
	const struct http_request *request = exchange->request;
	uint64_t body_max = exchange->limits->values[SNAPSHOT_LIMIT_BODY];

	if (exchange->step == GATHER)
		return is_gathered(exchange) ? EXCHANGE_NEXT : EXCHANGE_WAIT;
	if (!request->has_body)
		return EXCHANGE_NEXT;
	if (body_max && request->content_length > 0 &&
	    (uint64_t)request->content_length > body_max) {
		exchange->is_last = true;
		return exchange_over_limit(exchange, TELEMETRY_LIMIT_BODY);
	}
	pump_open(&exchange->request_pump, &exchange->edge->blocks, PUMP_PASS,
		  exchange->codec->request_body, exchange);
	/* A client that waits for 100 (Continue) is not asked for a body that nobody may want. */
	exchange->request_pump.is_reluctant = request->expect_continue;
	exchange->step = GATHER;
	exchange_pumps_run(exchange);
	if (exchange->interrupt != EXCHANGE_NEXT)
		return EXCHANGE_YIELD;
	return is_gathered(exchange) ? EXCHANGE_NEXT : EXCHANGE_WAIT;
}
