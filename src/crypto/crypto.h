/* crypto: the only user of libcrypto's primitives: random bytes, hashes, AEAD, private keys.
 *
 * It knows no certificate (cert does) and no TLS (tls does). A private key exists only in processes
 * whose row says so: vault, keyholder, and a command that makes one for its caller. Nothing here reads
 * a clock or a file; crypto_random() draws from the kernel through the library. */
#pragma once

#include "base/base.h"

/* RAND costs 21 ms and opens files the first time: call it before a sandbox closes. */
void crypto_start(void);
void crypto_random(void *buf, size_t size);
void crypto_wipe(void *buf, size_t size);
bool crypto_equal(struct span a, struct span b); /* constant time in the bytes; lengths may leak */

/* The library's allocations go through these from then on: before any other call of the library.
 * Used by the keyholder, whose whole heap is secret. free_sized wipes. */
struct crypto_memory {
	void *(*alloc)(size_t size);
	void (*free)(void *memory);
	void *(*resize)(void *memory, size_t size);
};
int crypto_set_memory(const struct crypto_memory *memory) MUST_CHECK;

enum { CRYPTO_SHA256_SIZE = 32, CRYPTO_SHA384_SIZE = 48, CRYPTO_SHA1_SIZE = 20 };
void crypto_sha256(struct span bytes, uint8_t ret_digest[CRYPTO_SHA256_SIZE]);
/* "OpenSSL-compatible library" name and version, for `portcullis version`. */
const char *crypto_version(void);

/* ---- AEAD: AES-256-GCM with a random or counted nonce given by the caller. --------------------------- */
enum { CRYPTO_AEAD_KEY_SIZE = 32, CRYPTO_AEAD_NONCE_SIZE = 12, CRYPTO_AEAD_TAG_SIZE = 16 };
/* out holds plain.len + CRYPTO_AEAD_TAG_SIZE. */
int crypto_aead_seal(const uint8_t key[CRYPTO_AEAD_KEY_SIZE], const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE],
		     struct span plain, struct span associated, uint8_t *out) MUST_CHECK;
/* out holds sealed.len - CRYPTO_AEAD_TAG_SIZE. false: not genuine. */
bool crypto_aead_open(const uint8_t key[CRYPTO_AEAD_KEY_SIZE], const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE],
		      struct span sealed, struct span associated, uint8_t *out) MUST_CHECK;

/* ---- Private keys ------------------------------------------------------------------------------------ */
enum crypto_key_type { CRYPTO_KEY_P256, CRYPTO_KEY_P384, CRYPTO_KEY_RSA };

/* What reading a key file can find (outcomes). */
enum crypto_key_outcome {
	CRYPTO_KEY_NOT_PEM = 1, /* no private key in the text */
	CRYPTO_KEY_ENCRYPTED,
	CRYPTO_KEY_UNSUPPORTED, /* a kind or size we do not serve (RSA < 2048 or > 4096, Ed25519, P-521) */
	CRYPTO_KEY_BROKEN,
};

struct crypto_key;
int crypto_key_parse_pem(struct span pem, struct crypto_key **ret_key) MUST_CHECK; /* 0, outcome, -ENOMEM */
int crypto_key_parse_der(struct span pkcs8, struct crypto_key **ret_key) MUST_CHECK;
int crypto_key_generate(enum crypto_key_type type, struct crypto_key **ret_key) MUST_CHECK; /* RSA: 2048 */
void crypto_key_free(struct crypto_key *key); /* wipes; NULL is fine */
enum crypto_key_type crypto_key_kind(const struct crypto_key *key);
unsigned crypto_key_bits(const struct crypto_key *key);
/* PKCS#8, unencrypted; into the caller's buffer. */
int crypto_key_write_pem(const struct crypto_key *key, struct writer *out) MUST_CHECK;
/* SubjectPublicKeyInfo, DER, and its SHA-256: the key's handle. */
int crypto_key_write_spki(const struct crypto_key *key, struct writer *out) MUST_CHECK;
int crypto_key_spki_hash(const struct crypto_key *key, uint8_t ret_hash[CRYPTO_SHA256_SIZE]) MUST_CHECK;

/* TLS SignatureScheme code points (RFC 8446, 4.2.3) are used for `scheme`. */
enum {
	CRYPTO_SCHEME_RSA_PKCS1_SHA256 = 0x0401,
	CRYPTO_SCHEME_RSA_PKCS1_SHA384 = 0x0501,
	CRYPTO_SCHEME_RSA_PKCS1_SHA512 = 0x0601,
	CRYPTO_SCHEME_ECDSA_P256_SHA256 = 0x0403,
	CRYPTO_SCHEME_ECDSA_P384_SHA384 = 0x0503,
	CRYPTO_SCHEME_RSA_PSS_SHA256 = 0x0804,
	CRYPTO_SCHEME_RSA_PSS_SHA384 = 0x0805,
	CRYPTO_SCHEME_RSA_PSS_SHA512 = 0x0806,
};
enum { CRYPTO_SIGNATURE_MAX = 512 };
/* Hashes and signs `message` as the scheme says. -EINVAL where key and scheme do not fit. */
int crypto_key_sign(const struct crypto_key *key, uint16_t scheme, struct span message,
		    uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len) MUST_CHECK;
/* The library's own object, for cert (X.509 signing). Valid as long as the key. */
struct evp_pkey_st *crypto_key_native(const struct crypto_key *key);
