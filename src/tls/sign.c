#include "tls/tls_internal.h"

#include <string.h>

/* RFC 8446, 4.4.3: 64 spaces, a context string, a zero byte, then the transcript's hash. */
static bool read_input13(struct tls_sign_request *request, struct span input)
{
	struct span server = SPAN("TLS 1.3, server CertificateVerify\0");
	struct span client = SPAN("TLS 1.3, client CertificateVerify\0");
	struct span context = request->is_client ? client : server;

	if (input.len <= 64 + context.len ||
	    !span_equal(span_first(span_skip(input, 64), context.len), context))
		return false;
	request->transcript_hash = span_skip(input, 64 + context.len);
	return request->transcript_hash.len == CRYPTO_SHA256_SIZE ||
	       request->transcript_hash.len == CRYPTO_SHA384_SIZE;
}

/* RFC 8422, 5.4: both randoms, then the parameters as they stand in ServerKeyExchange. */
static bool read_input12(struct tls_sign_request *request, struct span input)
{
	struct reader reader = reader_of(input);

	request->client_random = read_span(&reader, 32);
	request->server_random = read_span(&reader, 32);
	request->ecdhe_params = read_span(&reader, reader_left(&reader));
	return reader.ok && request->ecdhe_params.len >= 4 && !request->is_client;
}

static enum ssl_private_key_result_t take_signature(struct handshake *handshake, uint8_t *out,
						    size_t *out_len, size_t max_out)
{
	switch (handshake->sign_state) {
	case SIGN_ASKED:
		return ssl_private_key_retry;
	case SIGN_ANSWERED:
		break;
	case SIGN_NONE:
	case SIGN_REFUSED:
		return ssl_private_key_failure;
	}
	if (handshake->signature_len > max_out)
		return ssl_private_key_failure;
	memcpy(out, handshake->signature, handshake->signature_len);
	*out_len = handshake->signature_len;
	handshake->sign_state = SIGN_NONE;
	return ssl_private_key_success;
}

static enum ssl_private_key_result_t sign_start(SSL *ssl, uint8_t *out, size_t *out_len,
						size_t max_out, uint16_t scheme, const uint8_t *in,
						size_t in_len)
{
	struct tls_session *session = session_of(ssl);
	struct handshake *handshake = session->handshake;
	struct tls_sign_request *request = &handshake->request;

	if (in_len > sizeof(handshake->sign_input))
		return ssl_private_key_failure;
	memcpy(handshake->sign_input, in, in_len);
	request->scheme = scheme;
	request->is_client = session->is_client;
	request->is_tls13 = SSL_version(ssl) == TLS1_3_VERSION;

	struct span input = span_of(handshake->sign_input, in_len);

	if (!(request->is_tls13 ? read_input13(request, input) : read_input12(request, input)))
		return ssl_private_key_failure;
	handshake->sign_state = SIGN_ASKED;
	return take_signature(handshake, out, out_len, max_out);
}

static enum ssl_private_key_result_t sign_complete(SSL *ssl, uint8_t *out, size_t *out_len,
						   size_t max_out)
{
	return take_signature(session_of(ssl)->handshake, out, out_len, max_out);
}

const SSL_PRIVATE_KEY_METHOD sign_method = { sign_start, NULL /* no RSA decryption exists */,
					     sign_complete };

/* The schemes that the keyholder signs with such a key: for ECDSA the one whose curve it is, in 1.2
 * too. */
bool sign_set_credential(SSL *ssl, const struct tls_credential *credential, bool is_tls13_only)
{
	static const uint16_t p256[] = { CRYPTO_SCHEME_ECDSA_P256_SHA256 };
	static const uint16_t p384[] = { CRYPTO_SCHEME_ECDSA_P384_SHA384 };
	static const uint16_t rsa[] = {
		CRYPTO_SCHEME_RSA_PSS_SHA256,   CRYPTO_SCHEME_RSA_PSS_SHA384,
		CRYPTO_SCHEME_RSA_PSS_SHA512,   CRYPTO_SCHEME_RSA_PKCS1_SHA256,
		CRYPTO_SCHEME_RSA_PKCS1_SHA384, CRYPTO_SCHEME_RSA_PKCS1_SHA512
	};
	const uint16_t *schemes = NULL;
	size_t count = 0;

	switch (credential->type) {
	case CRYPTO_KEY_P256:
		schemes = p256;
		count = ARRAY_LEN(p256);
		break;
	case CRYPTO_KEY_P384:
		schemes = p384;
		count = ARRAY_LEN(p384);
		break;
	case CRYPTO_KEY_RSA:
		schemes = rsa;
		count = is_tls13_only ? 3 : ARRAY_LEN(rsa);
		break;
	}
	return SSL_set_chain_and_key(ssl, credential->chain, credential->chain_len, NULL,
				     &sign_method) &&
	       SSL_set_signing_algorithm_prefs(ssl, schemes, count);
}

const struct tls_sign_request *tls_session_sign_request(const struct tls_session *session)
{
	MUST(session->handshake && session->handshake->sign_state == SIGN_ASKED);
	return &session->handshake->request;
}

void tls_session_sign_answer(struct tls_session *session, struct span signature)
{
	struct handshake *handshake = session->handshake;

	MUST(handshake && handshake->sign_state == SIGN_ASKED);
	if (signature.len == 0 || signature.len > sizeof(handshake->signature)) {
		handshake->sign_state = SIGN_REFUSED;
		return;
	}
	memcpy(handshake->signature, signature.ptr, signature.len);
	handshake->signature_len = signature.len;
	handshake->sign_state = SIGN_ANSWERED;
}
