#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/x509v3.h>

void certificate_make(struct certificate *certificate, const struct certificate_recipe *recipe)
{
	const struct certificate *issuer = recipe->issuer ? recipe->issuer : certificate;
	X509_NAME *name = X509_NAME_new();
	uint8_t *der = NULL;

	assert_int_equal(crypto_key_generate(recipe->type, &certificate->key), 0);
	certificate->x509 = X509_new();
	X509_set_version(certificate->x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate->x509), 7);
	X509_NAME_add_entry_by_txt(
		name, "CN", MBSTRING_UTF8,
		(const uint8_t *)(recipe->common_name ? recipe->common_name : "test"), -1, -1, 0);
	X509_set_subject_name(certificate->x509, name);
	X509_set_issuer_name(certificate->x509,
			     recipe->issuer ? X509_get_subject_name(issuer->x509) : name);
	X509_NAME_free(name);
	ASN1_TIME_set_posix(X509_getm_notBefore(certificate->x509),
			    recipe->from_s ? recipe->from_s : NOW_S - DAY_S);
	ASN1_TIME_set_posix(X509_getm_notAfter(certificate->x509),
			    recipe->until_s ? recipe->until_s : NOW_S + DAY_S);
	X509_set_pubkey(certificate->x509, crypto_key_native(certificate->key));
	if (recipe->is_ca) {
		BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();

		constraints->ca = 0xff;
		X509_add1_ext_i2d(certificate->x509, NID_basic_constraints, constraints, 1, 0);
		BASIC_CONSTRAINTS_free(constraints);
	}
	if (recipe->dns || recipe->ip) {
		GENERAL_NAMES *names = GENERAL_NAMES_new();
		GENERAL_NAME *one = GENERAL_NAME_new();
		ASN1_STRING *text = recipe->dns ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();

		ASN1_STRING_set(text, recipe->dns ? recipe->dns : recipe->ip, recipe->dns ? -1 : 4);
		GENERAL_NAME_set0_value(one, recipe->dns ? GEN_DNS : GEN_IPADD, text);
		sk_GENERAL_NAME_push(names, one);
		X509_add1_ext_i2d(certificate->x509, NID_subject_alt_name, names, 0, 0);
		GENERAL_NAMES_free(names);
	}
	assert_true(X509_sign(certificate->x509, crypto_key_native(issuer->key), EVP_sha256()) > 0);
	int len = i2d_X509(certificate->x509, &der);

	assert_true(len > 0);
	certificate->der = span_of(der, (size_t)len);
}

void certificate_free(struct certificate *certificate)
{
	crypto_key_free(certificate->key);
	X509_free(certificate->x509);
	OPENSSL_free((void *)certificate->der.ptr);
	*certificate = (struct certificate){ 0 };
}

struct span certificate_pem(const struct certificate *certificate, char *buf, size_t size)
{
	BIO *out = BIO_new(BIO_s_mem());
	int len;

	assert_true(PEM_write_bio_X509(out, certificate->x509));
	len = BIO_read(out, buf, (int)size);
	BIO_free(out);
	assert_true(len > 0);
	return span_of(buf, (size_t)len);
}

struct tls_credential *certificate_credential(const struct certificate *leaf,
					      const struct certificate *issuer)
{
	struct span chain[2] = { leaf->der, issuer ? issuer->der : SPAN_NONE };
	struct tls_credential *credential = NULL;

	assert_int_equal(tls_credential_new(chain, issuer ? 2 : 1, &credential), 0);
	return credential;
}

SSL_CTX *peer_library(void)
{
	return SSL_CTX_new(TLS_method());
}

SSL *peer_new(SSL_CTX *library, bool is_server)
{
	SSL *ssl = SSL_new(library);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	BIO_set_mem_eof_return(SSL_get_rbio(ssl), -1);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

void pair_take(struct pair *pair)
{
	int len;

	while ((len = BIO_read(SSL_get_wbio(pair->peer), pair->in + pair->in_len,
			       (int)(sizeof(pair->in) - pair->in_len))) > 0)
		pair->in_len += (size_t)len;
}

static struct tls_wire wire_of(struct pair *pair)
{
	size_t len = pair->chunk && pair->chunk < pair->in_len ? pair->chunk : pair->in_len;

	return (struct tls_wire){ .in = span_of(pair->in, len),
				  .out = pair->out,
				  .out_size = pair->room ? pair->room : 20000,
				  .now_s = pair->now_s ? pair->now_s : NOW_S };
}

static void wire_done(struct pair *pair, const struct tls_wire *wire)
{
	size_t used = (size_t)(wire->in.ptr - pair->in);

	assert_true(wire->out_len <= wire->out_size);
	if (pair->outcome == TLS_WANT_INPUT)
		assert_int_equal(wire->in.len, 0);
	memmove(pair->in, pair->in + used, pair->in_len - used);
	pair->in_len -= used;
	if (wire->out_len)
		assert_int_equal(BIO_write(SSL_get_rbio(pair->peer), wire->out, (int)wire->out_len),
				 (int)wire->out_len);
}

void pair_serve(struct pair *pair, struct tls_policy *policy,
		const struct tls_credential *credential)
{
	assert_int_equal(SSL_do_handshake(pair->peer), -1);
	pair_take(pair);
	assert_int_equal(
		tls_hello_parse(span_of(pair->in, pair->in_len), pair->scratch, &pair->hello), 0);
	assert_int_equal(tls_server_new(policy, credential, &pair->hello,
					pair->now_s ? pair->now_s : NOW_S, &pair->session),
			 0);
}

static void answer(struct pair *pair)
{
	const struct tls_sign_request *request = tls_session_sign_request(pair->session);
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	char message[512];
	struct writer out = writer_of(message, sizeof(message));
	size_t len = 0;

	/* As a keyholder would: the message is built again out of the request. */
	if (request->is_tls13) {
		for (int i = 0; i < 64; i++)
			write_byte(&out, ' ');
		write_str(&out, request->is_client ? "TLS 1.3, client CertificateVerify"
						   : "TLS 1.3, server CertificateVerify");
		write_byte(&out, 0);
		write_span(&out, request->transcript_hash);
	} else {
		assert_int_equal(request->client_random.len, 32);
		assert_int_equal(request->ecdhe_params.ptr[0], 3);
		write_span(&out, request->client_random);
		write_span(&out, request->server_random);
		write_span(&out, request->ecdhe_params);
	}
	assert_true(out.ok);
	pair->asked = *request;
	pair->signature_count++;
	if (pair->key)
		assert_int_equal(crypto_key_sign(pair->key, request->scheme, writer_done(&out),
						 signature, &len),
				 0);
	tls_session_sign_answer(pair->session, span_of(signature, len));
}

int pair_handshake_once(struct pair *pair)
{
	struct tls_wire wire = wire_of(pair);

	pair->outcome = tls_session_handshake(pair->session, &wire);
	wire_done(pair, &wire);
	return pair->outcome;
}

int pair_handshake(struct pair *pair)
{
	bool peer_done = false;

	for (int turn = 0; turn < 100000; turn++) {
		int value = peer_done ? 1 : SSL_do_handshake(pair->peer);

		peer_done = value == 1;
		if (value != 1 && SSL_get_error(pair->peer, value) != SSL_ERROR_WANT_READ)
			return -1;
		pair_take(pair);
		switch (pair_handshake_once(pair)) {
		case 0:
			if (peer_done)
				return 0;
			break;
		case TLS_WANT_SIGNATURE:
			if (pair->wait_once)
				assert_int_equal(pair_handshake_once(pair), TLS_WANT_SIGNATURE);
			answer(pair);
			break;
		case TLS_WANT_INPUT:
		case TLS_WANT_ROOM:
			break;
		default:
			if (getenv("PAIR_DEBUG")) {
				struct tls_failure failure;

				tls_session_failure(pair->session, &failure);
				print_error("%s %d %s\n", tls_reason_word(failure.reason),
					    failure.alert, failure.text);
			}
			return pair->outcome;
		}
	}
	fail_msg("a handshake that does not end");
	return -1;
}

int pair_read(struct pair *pair, char *buf, size_t size, size_t *ret_len)
{
	struct tls_wire wire;

	pair_take(pair);
	wire = wire_of(pair);
	pair->outcome = tls_session_read(pair->session, &wire, buf, size, ret_len);
	wire_done(pair, &wire);
	return pair->outcome;
}

int pair_write(struct pair *pair, struct span bytes, size_t record_max, size_t *ret_taken)
{
	struct tls_wire wire = wire_of(pair);

	pair->outcome = tls_session_write(pair->session, &wire, bytes, record_max, ret_taken);
	assert_int_equal(wire.in.len,
			 pair->chunk && pair->chunk < pair->in_len ? pair->chunk : pair->in_len);
	wire_done(pair, &wire);
	return pair->outcome;
}

int pair_close(struct pair *pair)
{
	struct tls_wire wire = wire_of(pair);

	pair->outcome = tls_session_close(pair->session, &wire);
	wire_done(pair, &wire);
	return pair->outcome;
}

void pair_write_all(struct pair *pair, struct span bytes)
{
	for (int turn = 0; turn < 1000000; turn++) {
		size_t taken;
		int outcome = pair_write(pair, bytes, 0, &taken);

		bytes = span_skip(bytes, taken);
		if (outcome == 0 && bytes.len == 0)
			return;
		assert_int_equal(outcome, TLS_WANT_ROOM);
	}
	fail_msg("a write that does not end");
}

size_t pair_peer_read(struct pair *pair, char *buf, size_t size)
{
	size_t len = 0;
	int got;

	while (len < size && (got = SSL_read(pair->peer, buf + len, (int)(size - len))) > 0)
		len += (size_t)got;
	return len;
}

int pair_peer_alert(void)
{
	int reason = ERR_GET_REASON(ERR_peek_error());

	return reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : -1;
}

void pair_free(struct pair *pair)
{
	tls_session_free(pair->session);
	SSL_free(pair->peer);
	ERR_clear_error();
	*pair = (struct pair){ 0 };
}
