#include "tls/tls_internal.h"

#include <string.h>

/* ---- The library's transport: the wire of the current call ----------------------------------- */

struct tls_session *session_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

/* The library asks for a record's header, then for its body: nothing is taken beyond the record,
 * and a flood ends with the record that made it one. */
static int wire_read(BIO *bio, char *buf, int size)
{
	struct tls_session *session = BIO_get_data(bio);
	struct span *in = &session->wire->in;
	size_t len = in->len < (size_t)size ? in->len : (size_t)size;

	BIO_clear_retry_flags(bio);
	if (len == 0 || session->is_flooded) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(buf, in->ptr, len);
	if (session->handshake)
		failure_note_record(session->handshake, in->ptr, len);
	in->ptr += len;
	in->len -= len;
	return (int)len;
}

static int wire_write(BIO *bio, const char *bytes, int size)
{
	struct tls_session *session = BIO_get_data(bio);
	struct tls_wire *wire = session->wire;
	size_t room = wire->out_size - wire->out_len;
	size_t len = room < (size_t)size ? room : (size_t)size;

	BIO_clear_retry_flags(bio);
	if (len == 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	memcpy(wire->out + wire->out_len, bytes, len);
	wire->out_len += len;
	return (int)len;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD wire_method = {
	.type = BIO_TYPE_NONE,
	.name = "wire",
	.bwrite = wire_write,
	.bread = wire_read,
	.ctrl = wire_control,
};

/* ---- What the library tells ------------------------------------------------------------------ */

void session_on_message(int is_write, int version, int content_type, const void *bytes, size_t len,
			SSL *ssl, void *owner)
{
	struct tls_session *session = session_of(ssl);

	(void)version;
	(void)owner;
	(void)bytes;
	/* After the handshake these are KeyUpdates, or an origin's tickets. */
	if (is_write || content_type != SSL3_RT_HANDSHAKE || len == 0 || session->handshake)
		return;
	if (++session->quiet_messages > QUIET_MESSAGES_MAX)
		session->is_flooded = true;
}

void session_on_info(const SSL *ssl, int type, int value)
{
	struct tls_session *session = session_of(ssl);

	if (type == SSL_CB_READ_ALERT)
		session->alert_received = (int16_t)(value & 0xff);
	else if (type == SSL_CB_WRITE_ALERT)
		session->alert_sent = (int16_t)(value & 0xff);
}

int session_on_verify(X509_STORE_CTX *store, void *owner)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *session = session_of(ssl);
	int verified;

	(void)owner;
	X509_VERIFY_PARAM_set_time_posix(X509_STORE_CTX_get0_param(store), session->wire->now_s);
	verified = X509_verify_cert(store);
	if (verified <= 0) {
		int error = X509_STORE_CTX_get_error(store);

		session->handshake->verify_error =
			error == X509_V_OK ? X509_V_ERR_UNSPECIFIED : error;
	}
	return verified;
}

/* ---- Making one ------------------------------------------------------------------------------ */

static struct tls_session *session_new(struct tls_policy *policy, bool is_client)
{
	struct tls_session *session = heap_alloc(sizeof(*session));
	BIO *bio = BIO_new(&wire_method);

	if (!session || !bio) {
		heap_free(session);
		BIO_free(bio);
		return NULL;
	}
	session->policy = policy_ref(policy);
	session->is_client = is_client;
	session->alert_sent = session->alert_received = -1;
	BIO_set_data(bio, session);
	BIO_set_init(bio, 1);
	session->handshake = heap_alloc(sizeof(*session->handshake));
	session->ssl = SSL_new(policy->library);
	/* Every callback of the library begins with the session behind its SSL. */
	if (!session->ssl || !session->handshake || !SSL_set_app_data(session->ssl, session)) {
		ERR_clear_error();
		BIO_free(bio);
		tls_session_free(session);
		return NULL;
	}
	SSL_set_bio(session->ssl, bio, bio);
	SSL_set_shed_handshake_config(session->ssl, 1);
	return session;
}

static void handshake_free(struct tls_session *session)
{
	if (session->handshake)
		crypto_wipe(session->handshake, sizeof(*session->handshake));
	heap_free(TAKE(session->handshake));
}

int tls_server_new(struct tls_policy *policy, const struct tls_credential *credential,
		   const struct tls_hello *hello, int64_t now_s, struct tls_session **ret_session)
{
	struct tls_session *session;
	struct handshake *handshake;

	MUST(!policy->is_client);
	session = session_new(policy, false);
	if (!session)
		return -ENOMEM;
	handshake = session->handshake;
	SSL_set_accept_state(session->ssl);
	memcpy(handshake->request.key_hash, credential->key_hash,
	       sizeof(handshake->request.key_hash));
	handshake->name_len = hello->name_len;
	memcpy(handshake->name, hello->name, hello->name_len);
	if (!sign_set_credential(session->ssl, credential, hello->has_tls13)) {
		ERR_clear_error();
		tls_session_free(session);
		return -ENOMEM;
	}
	/* TLS 1.2 gets no tickets: there they are sent before the client has proven anything, in
	 * the clear. */
	if (!hello->has_tls13 || !policy->tickets ||
	    !ticket_keys_newest(policy->tickets, now_s, &handshake->ticket_key)) {
		crypto_wipe(&handshake->ticket_key, sizeof(handshake->ticket_key));
		SSL_set_options(session->ssl, SSL_OP_NO_TICKET);
	}
	*ret_session = session;
	return 0;
}

static bool set_verify_name(SSL *ssl, const struct tls_client_config *config)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	/* Names stand in subjectAltName only, as in browsers (RFC 9525, 6.3). Sessions do not
	 * inherit these flags from their policy. */
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
						       X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (config->verify_name.len)
		return X509_VERIFY_PARAM_set1_host(param, config->verify_name.ptr,
						   config->verify_name.len);
	return X509_VERIFY_PARAM_set1_ip(param, config->verify_address, config->verify_address_len);
}

static bool set_server_name(SSL *ssl, struct span name)
{
	char text[TLS_NAME_MAX + 1] = "";

	if (name.len == 0)
		return true;
	if (name.len > TLS_NAME_MAX || span_find_byte(name, 0) < name.len)
		return false;
	memcpy(text, name.ptr, name.len);
	return SSL_set_tlsext_host_name(ssl, text);
}

int tls_client_new(struct tls_policy *policy, const struct tls_client_config *config,
		   struct tls_session **ret_session)
{
	struct tls_session *session;
	bool ok;

	MUST(policy->is_client);
	if (config->verify_name.len == 0 && config->verify_address_len != 4 &&
	    config->verify_address_len != 16)
		return -EINVAL;
	session = session_new(policy, true);
	if (!session)
		return -ENOMEM;
	SSL_set_connect_state(session->ssl);
	ok = set_verify_name(session->ssl, config) &&
	     set_server_name(session->ssl, config->server_name);
	if (ok && config->credential) {
		memcpy(session->handshake->request.key_hash, config->credential->key_hash,
		       CRYPTO_SHA256_SIZE);
		ok = sign_set_credential(session->ssl, config->credential, true) &&
		     SSL_set_min_proto_version(session->ssl, TLS1_3_VERSION);
	}
	if (!ok) {
		ERR_clear_error();
		tls_session_free(session);
		return -EINVAL;
	}
	*ret_session = session;
	return 0;
}

void tls_session_free(struct tls_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	handshake_free(session);
	tls_policy_free(session->policy);
	heap_free(session);
}

/* ---- Running one ----------------------------------------------------------------------------- */

/* What the library's return value means; `value` is not a success. */
static int outcome_of(struct tls_session *session, int value)
{
	switch (SSL_get_error(session->ssl, value)) {
	case SSL_ERROR_WANT_READ:
		if (!session->is_flooded)
			return TLS_WANT_INPUT;
		SSL_send_fatal_alert(session->ssl, TLS_ALERT_UNEXPECTED_MESSAGE);
		break;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_ROOM;
	case SSL_ERROR_WANT_PRIVATE_KEY_OPERATION:
		return TLS_WANT_SIGNATURE;
	case SSL_ERROR_ZERO_RETURN:
		session->is_closed = true;
		return TLS_CLOSED;
	default:
		break;
	}
	failure_set(session);
	return TLS_FAILED;
}

static void read_facts(const SSL *ssl, struct tls_session_facts *ret_facts)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	const char *group = SSL_get_group_name(SSL_get_group_id(ssl));
	const uint8_t *alpn;
	unsigned alpn_len;

	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	*ret_facts = (struct tls_session_facts){
		.version = SSL_get_version(ssl),
		.cipher = cipher ? SSL_CIPHER_standard_name(cipher) : "",
		.group = group ? group : "",
		.alpn = span_of(alpn, alpn_len),
		.is_resumed = SSL_session_reused(ssl),
		.is_tls13 = SSL_version(ssl) == TLS1_3_VERSION,
	};
}

int tls_session_handshake(struct tls_session *session, struct tls_wire *wire)
{
	int outcome = 0;
	int done;

	if (session->is_failed)
		return TLS_FAILED;
	if (!session->handshake)
		return 0;
	session->wire = wire;
	done = SSL_do_handshake(session->ssl);
	if (done == 1) {
		handshake_free(session);
		read_facts(session->ssl, &session->facts);
	} else {
		outcome = outcome_of(session, done);
	}
	session->wire = NULL;
	return outcome;
}

int tls_session_read(struct tls_session *session, struct tls_wire *wire, char *buf, size_t size,
		     size_t *ret_len)
{
	int outcome = 0;
	int records = 0;
	bool has_more = false;

	*ret_len = 0;
	MUST(!session->handshake && size > 0);
	if (session->is_failed)
		return TLS_FAILED;
	session->wire = wire;
	while (*ret_len < size && outcome == 0 && records++ < READ_RECORDS_MAX) {
		size_t left = size - *ret_len;
		int got = SSL_read(session->ssl, buf + *ret_len,
				   left > INT32_MAX ? INT32_MAX : (int)left);

		if (got > 0) {
			*ret_len += (size_t)got;
			session->quiet_messages = 0;
			/* Asked again the library would only say, at some cost, that it wants more. */
			if (!session->wire->in.len && !session->is_flooded &&
			    !SSL_pending(session->ssl))
				break;
		} else if (*ret_len > 0) {
			/* What came first is told first. The library says the same again next
			 * time. */
			has_more = session->is_flooded ||
				   SSL_get_error(session->ssl, got) != SSL_ERROR_WANT_READ;
			ERR_clear_error();
			break;
		} else {
			outcome = outcome_of(session, got);
		}
	}
	session->has_more = has_more;
	session->wire = NULL;
	return outcome;
}

bool tls_session_has_pending(const struct tls_session *session)
{
	return session->has_more || SSL_pending(session->ssl) > 0;
}

/* Moves what was sealed before, or waits to be sent (tickets, answers to KeyUpdates), to the
 * wire. */
static int flush(struct tls_session *session)
{
	/* The library wants the same length again for the record it has already sealed; it does not
	 * look at the bytes (SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER). */
	static const char already_sealed[RECORD_PLAIN_MAX];
	int done = SSL_write(session->ssl, already_sealed, session->sealed_len);

	if (done < 0)
		return outcome_of(session, done);
	session->sealed_len = 0;
	return 0;
}

/* How much of `len` the next record shall hold: what fits into the room, unless that is hardly
 * anything. 0: wait for room. With an empty wire there will not be more, so then it is sealed
 * whatever the room. */
static size_t record_len(const struct tls_session *session, size_t len, size_t record_max)
{
	enum { WORTH_SEALING = 1024 };
	const struct tls_wire *wire = session->wire;
	size_t overhead = SSL_max_seal_overhead(session->ssl);
	size_t room = wire->out_size - wire->out_len;

	if (len > record_max)
		len = record_max;
	if (len + overhead <= room)
		return len;
	if (room >= overhead + WORTH_SEALING)
		return room - overhead;
	return wire->out_len == 0 && room > 0 ? len : 0;
}

int tls_session_write(struct tls_session *session, struct tls_wire *wire, struct span bytes,
		      size_t record_max, size_t *ret_taken)
{
	int outcome;

	*ret_taken = 0;
	MUST(!session->handshake);
	if (session->is_failed)
		return TLS_FAILED;
	if (record_max == 0 || record_max > RECORD_PLAIN_MAX)
		record_max = RECORD_PLAIN_MAX;
	session->wire = wire;
	/* With bytes to seal the library sends by itself what waits. */
	outcome = session->sealed_len || !bytes.len ? flush(session) : 0;
	while (outcome == 0 && *ret_taken < bytes.len) {
		size_t len = record_len(session, bytes.len - *ret_taken, record_max);
		int done = len ? SSL_write(session->ssl, bytes.ptr + *ret_taken, (int)len) : 0;

		if (len == 0) {
			outcome = TLS_WANT_ROOM;
			break;
		}
		if (done <= 0)
			outcome = outcome_of(session, done);
		/* Nothing stood before it (flush), so want of room means: sealed, and its rest is
		 * inside. */
		if (outcome == TLS_WANT_ROOM)
			session->sealed_len = (uint16_t)len;
		if (outcome == 0 || outcome == TLS_WANT_ROOM)
			*ret_taken += len;
	}
	session->wire = NULL;
	return outcome;
}

int tls_session_close(struct tls_session *session, struct tls_wire *wire)
{
	int outcome = 0;
	int done;

	if (session->is_failed)
		return TLS_FAILED;
	if (session->handshake || session->has_closed)
		return 0;
	session->wire = wire;
	/* The last record's rest comes before the close. Once that has begun nothing else is
	 * written. */
	if (!(SSL_get_shutdown(session->ssl) & SSL_SENT_SHUTDOWN))
		outcome = flush(session);
	if (outcome == 0) {
		done = SSL_shutdown(session->ssl);
		if (done < 0)
			outcome = outcome_of(session, done);
		else
			session->has_closed = true;
	}
	session->wire = NULL;
	return outcome;
}

void tls_session_get_facts(const struct tls_session *session, struct tls_session_facts *ret_facts)
{
	if (session->handshake)
		read_facts(session->ssl, ret_facts);
	else
		*ret_facts = session->facts;
}
