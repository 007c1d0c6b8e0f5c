/* CPU time of TLS alone, server side: a full handshake with the signature taken out and put in, a
 * resumed one, and small requests. Bytes go through memory; the client's own time is not counted.
 *
 * Built and run by bench/ (needs the program's objects and AWS-LC): prints one line per row, µs. */
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tls/tls.h"

enum { NOW_S = 1800000000, ROUNDS = 2000, REQUESTS = 200000 };

static char to_server[40000], to_client[70000], scratch[TLS_HELLO_MESSAGE_MAX];
static struct tls_ticket_keys tickets;
static SSL_SESSION *ticket;

static double cpu_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

static void client_clock(const SSL *ssl, struct timeval *ret_time)
{
	(void)ssl;
	*ret_time = (struct timeval){ .tv_sec = NOW_S };
}

struct timing {
	double tls_us, sign_us;
};

static void sign(struct tls_session *session, const struct crypto_key *key)
{
	const struct tls_sign_request *request = tls_session_sign_request(session);
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	char message[256];
	struct writer out = writer_of(message, sizeof(message));
	size_t len;

	for (int i = 0; i < 64; i++)
		write_byte(&out, ' ');
	write_span(&out, SPAN("TLS 1.3, server CertificateVerify\0"));
	write_span(&out, request->transcript_hash);
	MUST(crypto_key_sign(key, request->scheme, writer_done(&out), signature, &len) == 0);
	tls_session_sign_answer(session, span_of(signature, len));
}

/* One connection; what is left of it goes to the caller. */
static struct tls_session *connect_once(SSL *client, struct tls_policy *policy,
					struct tls_credential *credential,
					const struct crypto_key *key, struct timing *timing)
{
	struct tls_wire wire = { .out = to_client, .out_size = sizeof(to_client), .now_s = NOW_S };
	struct tls_session *session;
	struct tls_hello hello;
	double begin, signed_us = 0;
	size_t taken;

	SSL_do_handshake(client);
	int len = BIO_read(SSL_get_wbio(client), to_server, sizeof(to_server));

	wire.in = span_of(to_server, (size_t)len);
	begin = cpu_us();
	MUST(tls_hello_parse(wire.in, scratch, &hello) == 0);
	MUST(tls_server_new(policy, credential, &hello, NOW_S, &session) == 0);
	int outcome = tls_session_handshake(session, &wire);

	if (outcome == TLS_WANT_SIGNATURE) {
		double before = cpu_us();

		sign(session, key);
		signed_us = cpu_us() - before;
		outcome = tls_session_handshake(session, &wire);
	}
	MUST(outcome == TLS_WANT_INPUT);
	timing->tls_us += cpu_us() - begin - signed_us;
	timing->sign_us += signed_us;
	BIO_write(SSL_get_rbio(client), to_client, (int)wire.out_len);
	MUST(SSL_do_handshake(client) == 1);
	len = BIO_read(SSL_get_wbio(client), to_server, sizeof(to_server));
	wire.in = span_of(to_server, (size_t)len);
	wire.out_len = 0;
	begin = cpu_us();
	MUST(tls_session_handshake(session, &wire) == 0);
	MUST(tls_session_write(session, &wire, SPAN_NONE, 0, &taken) == 0);
	timing->tls_us += cpu_us() - begin;
	BIO_write(SSL_get_rbio(client), to_client, (int)wire.out_len);
	SSL_read(client, scratch, 1);
	return session;
}

static SSL *client_new(SSL_CTX *library)
{
	SSL *client = SSL_new(library);

	SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	BIO_set_mem_eof_return(SSL_get_rbio(client), -1);
	SSL_set_tlsext_host_name(client, "a.example");
	SSL_set_connect_state(client);
	return client;
}

static void handshakes(const char *name, SSL_CTX *library, struct tls_policy *policy,
		       struct tls_credential *credential, const struct crypto_key *key, bool resume)
{
	struct timing timing = { 0 };

	for (int i = 0; i < ROUNDS; i++) {
		SSL *client = client_new(library);

		if (resume && ticket)
			SSL_set_session(client, ticket);
		tls_session_free(connect_once(client, policy, credential, key, &timing));
		SSL_free(client);
	}
	printf("%-34s %7.1f µs  signature %6.1f µs\n", name, timing.tls_us / ROUNDS,
	       timing.sign_us / ROUNDS);
}

/* A request of 100 bytes, an answer of 1,200. */
static void requests(SSL_CTX *library, struct tls_policy *policy, struct tls_credential *credential,
		     const struct crypto_key *key)
{
	static char request[100], answer[1200], buf[16384];
	struct timing timing = { 0 };
	SSL *client = client_new(library);
	struct tls_session *session = connect_once(client, policy, credential, key, &timing);
	double total = 0;

	for (int i = 0; i < REQUESTS; i++) {
		struct tls_wire wire = { .out = to_client,
					 .out_size = sizeof(to_client),
					 .now_s = NOW_S };
		size_t len;

		SSL_write(client, request, sizeof(request));
		wire.in = span_of(to_server, (size_t)BIO_read(SSL_get_wbio(client), to_server,
							      sizeof(to_server)));
		double begin = cpu_us();

		MUST(tls_session_read(session, &wire, buf, sizeof(buf), &len) == 0);
		MUST(tls_session_write(session, &wire, span_of(answer, sizeof(answer)), 0, &len) ==
		     0);
		total += cpu_us() - begin;
		BIO_write(SSL_get_rbio(client), to_client, (int)wire.out_len);
		SSL_read(client, scratch, sizeof(scratch));
	}
	printf("%-34s %7.2f µs\n", "request 100 B, answer 1,200 B", total / REQUESTS);
	tls_session_free(session);
	SSL_free(client);
}

static struct tls_credential *self_signed(struct crypto_key *key)
{
	X509 *x509 = X509_new();
	struct tls_credential *credential;
	uint8_t *der = NULL;

	X509_set_version(x509, 2);
	ASN1_TIME_set_posix(X509_getm_notBefore(x509), NOW_S);
	ASN1_TIME_set_posix(X509_getm_notAfter(x509), NOW_S + 86400);
	X509_set_pubkey(x509, crypto_key_native(key));
	X509_sign(x509, crypto_key_native(key), EVP_sha256());

	struct span chain = span_of(NULL, (size_t)i2d_X509(x509, &der));

	chain.ptr = (const char *)der;
	MUST(tls_credential_new(&chain, 1, &credential) == 0);
	OPENSSL_free(der);
	X509_free(x509);
	return credential;
}

int main(void)
{
	struct tls_policy_config config = { .id = 1, .tickets = &tickets };
	uint8_t random[TLS_TICKET_KEY_RANDOM];
	struct tls_policy *policy;
	SSL_CTX *library;

	crypto_start();
	crypto_random(random, sizeof(random));
	tls_ticket_keys_rotate(&tickets, NOW_S, 0, random);
	MUST(tls_policy_new(&config, &policy) == 0);
	library = SSL_CTX_new(TLS_method());
	SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(library, keep_ticket);
	SSL_CTX_set_current_time_cb(library, client_clock);
	for (int type = 0; type < 3; type += 2) {
		struct crypto_key *key;
		struct tls_credential *credential;

		MUST(crypto_key_generate((enum crypto_key_type)type, &key) == 0);
		credential = self_signed(key);
		SSL_CTX_set1_groups_list(library, "X25519");
		handshakes(type ? "full, RSA-2048, X25519" : "full, P-256, X25519", library, policy,
			   credential, key, false);
		if (type == 0) {
			handshakes("resumed, X25519", library, policy, credential, key, true);
			SSL_CTX_set1_groups_list(library, "X25519MLKEM768:X25519");
			handshakes("full, P-256, X25519MLKEM768", library, policy, credential, key,
				   false);
			requests(library, policy, credential, key);
		}
		tls_credential_free(credential);
		crypto_key_free(key);
	}
	return 0;
}
