#include "tls/tls_internal.h"

const char *tls_reason_word(enum tls_reason reason)
{
	switch (reason) {
	case TLS_REASON_NONE:
		return "none";
	case TLS_REASON_PROTOCOL:
		return "protocol";
	case TLS_REASON_VERSION:
		return "version";
	case TLS_REASON_CIPHER:
		return "cipher";
	case TLS_REASON_ALPN:
		return "alpn";
	case TLS_REASON_ALERT:
		return "alert";
	case TLS_REASON_SIGNATURE:
		return "signature";
	case TLS_REASON_EXPIRED:
		return "expired";
	case TLS_REASON_NOT_YET_VALID:
		return "not-yet-valid";
	case TLS_REASON_NAME:
		return "name";
	case TLS_REASON_UNTRUSTED:
		return "untrusted";
	case TLS_REASON_CERTIFICATE:
		return "certificate";
	case TLS_REASON_FLOOD:
		return "flood";
	case TLS_REASON_INTERNAL:
		return "internal";
	}
	return "none";
}

static enum tls_reason reason_of_verify(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return TLS_REASON_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return TLS_REASON_NOT_YET_VALID;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return TLS_REASON_NAME;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* an anchor of the same name */
		return TLS_REASON_UNTRUSTED;
	default:
		return TLS_REASON_CERTIFICATE;
	}
}

/* The reasons of the library that are somebody's doing in particular; what is in no row is
 * `protocol`. */
static enum tls_reason reason_of_library(int reason)
{
	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_INAPPROPRIATE_FALLBACK:
	case SSL_R_TLS13_DOWNGRADE:
		return TLS_REASON_VERSION;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SHARED_GROUP:
	case SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS:
	case SSL_R_NO_CIPHER_MATCH:
		return TLS_REASON_CIPHER;
	case SSL_R_NO_APPLICATION_PROTOCOL:
	case SSL_R_INVALID_ALPN_PROTOCOL:
		return TLS_REASON_ALPN;
	case SSL_R_PRIVATE_KEY_OPERATION_FAILED:
		return TLS_REASON_SIGNATURE;
	case SSL_R_TOO_MANY_EMPTY_FRAGMENTS:
	case SSL_R_TOO_MANY_WARNING_ALERTS:
	case SSL_R_TOO_MANY_KEY_UPDATES:
		return TLS_REASON_FLOOD;
	default:
		return TLS_REASON_PROTOCOL;
	}
}

/* The library reads a record by its header and then the rest, never beyond. */
void failure_note_record(struct handshake *handshake, const char *bytes, size_t len)
{
	if (handshake->record_len && handshake->record_got >= handshake->record_len)
		handshake->record_got = handshake->record_len = 0;
	for (size_t i = 0; i < len && handshake->record_got + i < sizeof(handshake->record); i++)
		handshake->record[handshake->record_got + i] = (uint8_t)bytes[i];
	handshake->record_got += len;
	if (handshake->record_got >= RECORD_HEADER_SIZE)
		handshake->record_len = RECORD_HEADER_SIZE + (size_t)(handshake->record[3] << 8) +
					handshake->record[4];
}

/* A client that turns our certificate down says so in the clear where it has not begun to seal yet (RFC 8446, 6: it
 * ought to, and many do not), and the library, which wants sealed records by then, calls that a broken one. */
static bool is_alert_in_the_clear(const struct tls_session *session)
{
	const struct handshake *handshake = session->handshake;

	return handshake && handshake->record_got == RECORD_HEADER_SIZE + 2 &&
	       handshake->record_len == RECORD_HEADER_SIZE + 2 &&
	       handshake->record[0] == SSL3_RT_ALERT && handshake->record[5] == SSL3_AL_FATAL;
}

static enum tls_reason reason_of(const struct tls_session *session, uint32_t error)
{
	int reason = ERR_GET_REASON(error);

	if (session->is_flooded)
		return TLS_REASON_FLOOD;
	if (session->handshake && session->handshake->verify_error != X509_V_OK)
		return reason_of_verify(session->handshake->verify_error);
	/* The library is never given an end of the transport, so an empty queue is a fault of ours.
	 * What it calls ERR_R_INTERNAL_ERROR is often not: a bad ML-KEM key share is one. */
	if (error == 0 || reason == ERR_R_MALLOC_FAILURE)
		return TLS_REASON_INTERNAL;
	if (ERR_GET_LIB(error) != ERR_LIB_SSL)
		return TLS_REASON_PROTOCOL;
	if (reason > SSL_AD_REASON_OFFSET)
		return TLS_REASON_ALERT;
	if (session->handshake && session->handshake->sign_state == SIGN_REFUSED)
		return TLS_REASON_SIGNATURE;
	return reason_of_library(reason);
}

void failure_set(struct tls_session *session)
{
	uint32_t error = ERR_peek_error();
	const char *text = error ? ERR_reason_error_string(error) : NULL;
	enum tls_reason reason = reason_of(session, error);

	if (reason == TLS_REASON_PROTOCOL && is_alert_in_the_clear(session)) {
		reason = TLS_REASON_ALERT;
		session->alert_received = session->handshake->record[6];
	}
	if (reason == TLS_REASON_ALERT)
		text = SSL_alert_desc_string_long(session->alert_received);
	if (reason == TLS_REASON_FLOOD && session->is_flooded)
		text = "TOO_MANY_MESSAGES_WITHOUT_DATA";
	else if (session->handshake && session->handshake->verify_error != X509_V_OK)
		text = X509_verify_cert_error_string(session->handshake->verify_error);
	/* The library leaves the peer waiting where the fault is ours. */
	if ((reason == TLS_REASON_SIGNATURE || reason == TLS_REASON_INTERNAL) &&
	    session->alert_sent < 0) {
		SSL_send_fatal_alert(session->ssl, TLS_ALERT_INTERNAL_ERROR);
		session->alert_sent = TLS_ALERT_INTERNAL_ERROR;
	}
	session->is_failed = true;
	session->failure = (struct tls_failure){
		.reason = reason,
		.alert = reason == TLS_REASON_ALERT ? session->alert_received : session->alert_sent,
		.text = text ? text : "",
	};
	ERR_clear_error();
}

void tls_session_failure(const struct tls_session *session, struct tls_failure *ret_failure)
{
	if (session->is_failed)
		*ret_failure = session->failure;
	else
		*ret_failure = (struct tls_failure){ .reason = TLS_REASON_NONE, .text = "" };
}
