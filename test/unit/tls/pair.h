/* One of our sessions and, on the other end, the library used plainly; certificates made on the
 * spot. */
#pragma once

#include <openssl/ssl.h>

#include "tls/tls.h"

enum { NOW_S = 1800000000, DAY_S = 86400 };

struct certificate {
	struct crypto_key *key;
	X509 *x509;
	struct span der; /* freed with it */
};

struct certificate_recipe {
	enum crypto_key_type type;
	const char *dns;                  /* subjectAltName, or NULL */
	const char *ip;                   /* 4 bytes, or NULL */
	const char *common_name;          /* NULL: "test" */
	int64_t from_s, until_s;          /* 0: a day around NOW_S */
	const struct certificate *issuer; /* NULL: self-signed */
	bool is_ca;
};
void certificate_make(struct certificate *certificate, const struct certificate_recipe *recipe);
void certificate_free(struct certificate *certificate);
struct span certificate_pem(const struct certificate *certificate, char *buf, size_t size);
struct tls_credential *certificate_credential(const struct certificate *leaf,
					      const struct certificate *issuer);

struct pair {
	SSL *peer;
	struct tls_session *session;
	struct tls_hello hello;
	const struct crypto_key *key; /* answers questions for signatures; NULL: refuses */
	struct tls_sign_request asked;
	char asked_bytes[256]; /* transcript hash, or the ECDHE parameters */
	size_t asked_len;
	unsigned signature_count;
	bool wait_once; /* call the handshake once more before answering */
	char in[400000];
	size_t in_len;
	size_t room;  /* of the wire at each call; 0: 20,000 */
	size_t chunk; /* bytes of input at each call; 0: all */
	int64_t now_s;
	int outcome; /* of the session's last call */
	bool peer_failed;
	char scratch[TLS_HELLO_MESSAGE_MAX];
	char out[70000];
};

/* Moves what the peer wrote to pair->in. */
void pair_take(struct pair *pair);
/* The peer's hello, parsed; then the server session of it. */
void pair_serve(struct pair *pair, struct tls_policy *policy,
		const struct tls_credential *credential);
/* One handshake call of ours, its output moved to the peer. */
int pair_handshake_once(struct pair *pair);
/* Both until done (0) or one of them gave up (the session's outcome, or -1 for the peer). */
int pair_handshake(struct pair *pair);
int pair_read(struct pair *pair, char *buf, size_t size, size_t *ret_len);
int pair_write(struct pair *pair, struct span bytes, size_t record_max, size_t *ret_taken);
int pair_close(struct pair *pair);
/* All of it, in as many calls as it takes. */
void pair_write_all(struct pair *pair, struct span bytes);
/* What the peer can read now, up to size. */
size_t pair_peer_read(struct pair *pair, char *buf, size_t size);
/* Alert code of the fatal alert that the peer got, or -1. */
int pair_peer_alert(void);

SSL *peer_new(SSL_CTX *library, bool is_server);
SSL_CTX *peer_library(void); /* verifies nothing */
void pair_free(struct pair *pair);
