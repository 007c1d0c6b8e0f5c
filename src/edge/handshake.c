/* Phases 3 and 5: the hello is read by our own parser, certificate and policy are chosen by its facts,
 * then the library makes the handshake, with signatures from the keyholder. */
#include "edge/edge_internal.h"

#include <string.h>

static void handshake_fail(struct connection *connection, const char *why, struct span detail)
{
	struct edge *edge = connection->edge;

	telemetry_count(edge->counters, TELEMETRY_COUNTER_HANDSHAKES_FAILED);
	edge_event_tls(connection, why, detail);
	connection_finish(connection, true);
}

/* Before an SSL exists the alert is a plain record of our own. */
static void refuse_hello(struct connection *connection, enum tls_alert alert, const char *why)
{
	char record[TLS_ALERT_RECORD_SIZE];
	struct writer writer = writer_of(record, sizeof(record));
	struct span bytes;

	tls_alert_record(&writer, alert);
	bytes = writer_done(&writer);
	connection_send_raw(connection, bytes);
	/* No session: what follows the alert is only the end of the stream. */
	handshake_fail(connection, why, span_str(connection->name));
}

static void refuse_plain_text(struct connection *connection, const struct tls_hello *hello)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
				     "Connection: close\r\nContent-Length: 46\r\n\r\n"
				     "This port speaks HTTPS: the URL needs https://";

	if (hello->looks_like == TLS_LOOKS_LIKE_HTTP)
		connection_send_raw(connection, span_str(answer));
	handshake_fail(connection, "not-tls", SPAN_NONE);
}

/* ---- Choosing ------------------------------------------------------------------------------------------ */

static const struct edge_credential *credential_choose(struct edge *edge,
						       const struct snapshot_site *site,
						       const struct tls_hello *hello)
{
	const struct edge_credential *best = NULL;
	bool best_covers = false, best_ecdsa = false;

	for (size_t i = 0; i < site->certificate_count; i++) {
		const struct edge_credential *credential =
			map_get(&edge->credentials, site->certificates[i]->id);
		bool covers, ecdsa;

		if (!credential || !tls_credential_fits(credential->credential, hello))
			continue;
		covers = hello->name_kind != TLS_NAME_HOST ||
			 cert_chain_covers(&credential->chain, tls_hello_name(hello));
		ecdsa = tls_credential_key_type(credential->credential) != CRYPTO_KEY_RSA;
		/* The name decides first; an RSA signature costs ten of ECDSA's. */
		if (!best || (covers && !best_covers) ||
		    (covers == best_covers && ecdsa && !best_ecdsa)) {
			best = credential;
			best_covers = covers;
			best_ecdsa = ecdsa;
		}
	}
	return best;
}

static void session_start(struct connection *connection, const struct snapshot_site *site,
			  const struct tls_hello *hello)
{
	struct edge *edge = connection->edge;
	const struct edge_credential *credential = credential_choose(edge, site, hello);
	struct tls_policy *policy = map_get(&edge->policies, site->policy->id);

	if (!credential || !policy) {
		refuse_hello(connection,
			     site->certificate_count ? TLS_ALERT_HANDSHAKE_FAILURE
						     : TLS_ALERT_INTERNAL_ERROR,
			     "no-certificate");
		return;
	}
	if (tls_server_new(policy, credential->credential, hello,
			   (int64_t)(edge->wall_ns / OS_SECOND), &connection->tls)) {
		refuse_hello(connection, TLS_ALERT_INTERNAL_ERROR, "no-memory");
		return;
	}
	connection->site_id = site->id;
	connection_limits_set(connection, site->limits);
	connection->policy_id = site->policy->id;
	connection->certificate_id = credential->id;
	connection->phase = CONNECTION_HANDSHAKE;
}

static void name_keep(struct connection *connection, struct span name)
{
	name = span_first(name, sizeof(connection->name) - 1);
	memcpy(connection->name, name.len ? name.ptr : "", name.len);
	connection->name[name.len] = '\0';
}

static void local_address(struct connection *connection, struct conf_address *ret)
{
	if (!connection_local(connection))
		connection->local = (struct os_address){ .family = OS_FAMILY_V4 };
	*ret = edge_conf_address(&connection->local);
}

/* wire_in holds all bytes so far. True: a session stands and shall be given them. */
static bool hello_run(struct connection *connection, size_t len)
{
	struct edge *edge = connection->edge;
	const struct snapshot_site *site;
	struct conf_address local = { 0 };
	struct tls_hello hello;
	int outcome;

	connection_input_claim(connection); /* `plain` serves as scratch */
	outcome = tls_hello_parse(span_of(edge->wire_in, len), edge->plain, &hello);
	switch ((enum tls_hello_outcome)outcome) {
	case TLS_HELLO_NEED_MORE:
		if (block_queue_add(&connection->pending, &edge->blocks,
				    span_of(edge->wire_in, len)))
			connection->is_pending_cipher = true;
		else
			connection_close(connection);
		return false;
	case TLS_HELLO_NOT_TLS:
		refuse_plain_text(connection, &hello);
		return false;
	case TLS_HELLO_MALFORMED:
		refuse_hello(connection, hello.alert, "malformed");
		return false;
	case TLS_HELLO_TOO_BIG:
		telemetry_count_limit(edge->counters, hello.too_many_records
							      ? TELEMETRY_LIMIT_HELLO_RECORDS
							      : TELEMETRY_LIMIT_HELLO_SIZE);
		refuse_hello(connection, hello.alert,
			     hello.too_many_records ? "limit:hello-records" : "limit:hello-size");
		return false;
	}
	name_keep(connection, tls_hello_name(&hello));
	/* Most clients name their site. */
	if (!snapshot_sni_is_name(tls_hello_name(&hello)))
		local_address(connection, &local);
	site = snapshot_site_for_hello(edge->current->snapshot, tls_hello_name(&hello), &local);
	if (!site) {
		refuse_hello(connection, TLS_ALERT_UNRECOGNIZED_NAME, "unknown-name");
		return false;
	}
	session_start(connection, site, &hello);
	return connection->phase == CONNECTION_HANDSHAKE;
}

/* ---- Signatures ---------------------------------------------------------------------------------------- */

static int sign_ask(struct edge *edge, struct edge_question *question)
{
	struct connection *connection = question->owner;
	const struct tls_sign_request *wanted = tls_session_sign_request(connection->tls);
	struct ipc_question name = { .index = question->index, .serial = question->serial };

	if (wanted->is_tls13) {
		struct ipc_sign13 body = { .question = name, .scheme = wanted->scheme };

		memcpy(body.handle, wanted->key_hash, sizeof(body.handle));
		return ipc_send(edge->keyholder, IPC_MESSAGE_sign13, &body, wanted->transcript_hash,
				NULL, 0);
	}
	struct ipc_sign12 body = { .question = name, .scheme = wanted->scheme };

	memcpy(body.handle, wanted->key_hash, sizeof(body.handle));
	MUST(wanted->client_random.len == 32 && wanted->server_random.len == 32);
	memcpy(body.client_random, wanted->client_random.ptr, 32);
	memcpy(body.server_random, wanted->server_random.ptr, 32);
	return ipc_send(edge->keyholder, IPC_MESSAGE_sign12, &body, wanted->ecdhe_params, NULL, 0);
}

static void sign_answer(struct edge *edge, void *owner, struct ipc_message *message)
{
	struct connection *connection = owner;
	struct span signature = SPAN_NONE;

	connection->question = 0;
	if (message && message->number == IPC_MESSAGE_signature) {
		const struct ipc_signature *body = message->body;

		if (body->status == IPC_SIGN_OK)
			signature = message->tail;
	}
	if (!signature.len)
		telemetry_count(edge->counters, TELEMETRY_COUNTER_QUESTIONS_FAILED);
	tls_session_sign_answer(connection->tls, signature);
	connection_activate(connection);
}

static const struct edge_question_kind sign_question = { IPC_KEYHOLDER, sign_ask, sign_answer,
							 NULL };

const char *connection_tls_reason(struct connection *connection, enum tls_reason reason)
{
	if (reason != TLS_REASON_FLOOD)
		return tls_reason_word(reason);
	telemetry_count_limit(connection->edge->counters, TELEMETRY_LIMIT_EMPTY_RECORDS);
	return "limit:empty-records";
}

/* ---- The handshake -------------------------------------------------------------------------------------- */

static void handshake_done(struct connection *connection, struct span rest)
{
	struct edge *edge = connection->edge;

	if (rest.len && !block_queue_add(&connection->pending, &edge->blocks, rest)) {
		connection_close(connection);
		return;
	}
	connection->is_pending_cipher = rest.len > 0;
	telemetry_count(edge->counters, TELEMETRY_COUNTER_HANDSHAKES);
	connection_open(connection);
}

static void handshake_step(struct connection *connection, size_t len)
{
	struct edge *edge = connection->edge;
	struct span in = span_of(edge->wire_in, len);
	struct tls_failure failure;
	struct tls_wire wire;
	int outcome;

	do {
		connection_wire_begin(connection, &wire);
		wire.in = in;
		outcome = tls_session_handshake(connection->tls, &wire);
		in = wire.in;
		connection_wire_end(connection, &wire);
		if (outcome == TLS_WANT_ROOM)
			connection_flush(connection);
	} while (outcome == TLS_WANT_ROOM && !connection->is_broken);
	switch (outcome) {
	case 0:
		handshake_done(connection, in);
		return;
	case TLS_WANT_INPUT:
		return;
	case TLS_WANT_SIGNATURE:
		if (in.len && !block_queue_add(&connection->pending, &edge->blocks, in)) {
			connection_close(connection);
			return;
		}
		connection->is_pending_cipher = in.len > 0;
		if (question_ask(edge, &sign_question, connection, &connection->question)) {
			tls_session_sign_answer(connection->tls, SPAN_NONE);
			connection_activate(connection);
		}
		return;
	default:
		tls_session_failure(connection->tls, &failure);
		handshake_fail(connection, connection_tls_reason(connection, failure.reason),
			       span_str(failure.text));
		return;
	}
}

static void handshake_gone(struct connection *connection)
{
	telemetry_count(connection->edge->counters, TELEMETRY_COUNTER_HANDSHAKES_FAILED);
	connection_close(connection);
}

/* Asked when a read did not end it: the one that does may bring a request with it. */
static bool is_too_big(struct connection *connection)
{
	if (connection->phase != CONNECTION_HANDSHAKE ||
	    connection->bytes_in <= telemetry_limits[TELEMETRY_LIMIT_HANDSHAKE_SIZE].value)
		return false;
	telemetry_count_limit(connection->edge->counters, TELEMETRY_LIMIT_HANDSHAKE_SIZE);
	handshake_fail(connection, "limit:handshake-size", SPAN_NONE);
	return true;
}

void connection_handshake(struct connection *connection)
{
	size_t len = 0;
	int outcome;

	if (connection->question)
		return; /* parked: what comes meanwhile stays in the socket */
	outcome = connection_receive(connection, &len);
	if (connection->phase == CONNECTION_HELLO) {
		if (outcome == CONNECTION_WAIT)
			return;
		if (outcome) {
			handshake_gone(connection);
			return;
		}
		if (!hello_run(connection, len)) {
			if (connection->saw_eof && connection->phase == CONNECTION_HELLO)
				handshake_gone(connection);
			return;
		}
	} else if (outcome == CONNECTION_TRUNCATED) {
		handshake_gone(connection);
		return;
	}
	/* Also without new bytes: the signature may be what it waited for. */
	handshake_step(connection, len);
	if (!is_too_big(connection) && connection->phase == CONNECTION_HANDSHAKE &&
	    !connection->question && (connection->watch.ready & OS_READABLE))
		connection_activate(connection);
}

void connection_open(struct connection *connection)
{
	connection_handshake_over(connection);
	connection->phase = CONNECTION_OPEN;
	connection->last_ns = connection->edge->now_ns;
	connection->codec = edge_codec_h1();
	connection->codec->start(connection);
	connection_activate(connection);
}
