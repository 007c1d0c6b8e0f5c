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
 * Used by the keyholder, whose whole heap is secret. The library does not wipe what it gives back where
 * hooks are set: `free` and `resize` must. The signatures are the library's own (file and line mean
 * nothing), so that no state is needed between it and the hooks. -EPERM: the library refuses. */
struct crypto_memory {
	void *(*alloc)(size_t size, const char *file, int line);
	void (*free)(void *memory, const char *file, int line);
	void *(*resize)(void *memory, size_t size, const char *file, int line);
};
int crypto_set_memory(const struct crypto_memory *memory) MUST_CHECK;

enum { CRYPTO_SHA256_SIZE = 32, CRYPTO_SHA384_SIZE = 48 };
void crypto_sha256(struct span bytes, uint8_t ret_digest[CRYPTO_SHA256_SIZE]);
/* RFC 2104. */
void crypto_hmac_sha256(struct span key, struct span bytes, uint8_t ret_mac[CRYPTO_SHA256_SIZE]);
/* "OpenSSL-compatible library" name and version, for `portcullis version`. */
const char *crypto_version(void);

/* ---- AEAD: AES-256-GCM with a random or counted nonce given by the caller. --------------------------- */
enum { CRYPTO_AEAD_KEY_SIZE = 32, CRYPTO_AEAD_NONCE_SIZE = 12, CRYPTO_AEAD_TAG_SIZE = 16 };
/* out holds plain.len + CRYPTO_AEAD_TAG_SIZE. */
int crypto_aead_seal(const uint8_t key[CRYPTO_AEAD_KEY_SIZE],
		     const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE], struct span plain,
		     struct span associated, uint8_t *out) MUST_CHECK;
/* out holds sealed.len - CRYPTO_AEAD_TAG_SIZE. false: not genuine. */
bool crypto_aead_open(const uint8_t key[CRYPTO_AEAD_KEY_SIZE],
		      const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE], struct span sealed,
		      struct span associated, uint8_t *out) MUST_CHECK;

/* ---- Private keys ------------------------------------------------------------------------------------ */
enum crypto_key_type { CRYPTO_KEY_P256, CRYPTO_KEY_P384, CRYPTO_KEY_RSA };

/* What reading a key file can find (outcomes). */
enum crypto_key_outcome {
	CRYPTO_KEY_NOT_PEM = 1, /* no private key in the text */
	CRYPTO_KEY_ENCRYPTED,
	CRYPTO_KEY_UNSUPPORTED, /* a kind or size we do not serve (RSA < 2048 or > 4096, Ed25519, P-521) */
	CRYPTO_KEY_BROKEN,
};

/* ---- PEM (RFC 7468): the next block of a text, whatever stands around it. ----------------------------- */
enum crypto_pem_outcome {
	CRYPTO_PEM_END = 1, /* no further BEGIN line */
	CRYPTO_PEM_BROKEN,  /* no END line, another label there, or bytes that are not base64 */
};
struct crypto_pem_block {
	struct span label; /* into the text: "CERTIFICATE" */
	bool is_encrypted; /* RFC 1421 headers name a cipher: der is not the object's encoding then */
};
/* Takes the block off *text and appends its DER to `der`; a writer of 3/4 of the text's size always has
 * room. After CRYPTO_PEM_BROKEN ret_block->label is set and *text goes on behind the broken line. */
int crypto_pem_next(struct span *text, struct crypto_pem_block *ret_block,
		    struct writer *der) MUST_CHECK;
/* Appends a block: 64 columns, one newline at the end. */
void crypto_pem_write(struct writer *out, const char *label, struct span der);

struct crypto_key;
int crypto_key_parse_pem(struct span pem,
			 struct crypto_key **ret_key) MUST_CHECK; /* 0, outcome, -ENOMEM */
int crypto_key_parse_der(struct span pkcs8, struct crypto_key **ret_key) MUST_CHECK;
int crypto_key_generate(enum crypto_key_type type,
			struct crypto_key **ret_key) MUST_CHECK; /* RSA: 2048 */
void crypto_key_free(struct crypto_key *key);                    /* wipes; NULL is fine */
enum crypto_key_type crypto_key_kind(const struct crypto_key *key);
unsigned crypto_key_bits(const struct crypto_key *key);
/* PKCS#8, unencrypted, as PEM or DER; into the caller's buffer, who wipes it. 4 KiB hold every key that we
 * serve. -ENOSPC where it does not fit. */
enum { CRYPTO_KEY_TEXT_MAX = 4096 };
int crypto_key_write_pem(const struct crypto_key *key, struct writer *out) MUST_CHECK;
int crypto_key_write_der(const struct crypto_key *key, struct writer *out) MUST_CHECK;
/* SubjectPublicKeyInfo, DER, and its SHA-256: the key's handle. */
int crypto_key_write_spki(const struct crypto_key *key, struct writer *out) MUST_CHECK;
int crypto_key_spki_hash(const struct crypto_key *key,
			 uint8_t ret_hash[CRYPTO_SHA256_SIZE]) MUST_CHECK;

/* Whose public key is this? 0, an outcome (never NOT_PEM or ENCRYPTED). ret_bits may be NULL. */
int crypto_spki_inspect(struct span spki, enum crypto_key_type *ret_type,
			unsigned *ret_bits) MUST_CHECK;
/* One sentence's end for an outcome: "is encrypted: …". Static text. */
const char *crypto_key_outcome_text(int outcome);

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
/* Hashes and signs `message` as the scheme says. -EINVAL where key and scheme do not fit. An ECDSA scheme
 * means its hash only: that it binds the curve too is TLS 1.3's rule, which keys enforces. */
int crypto_key_sign(const struct crypto_key *key, uint16_t scheme, struct span message,
		    uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len) MUST_CHECK;
bool crypto_spki_verify(struct span spki, uint16_t scheme, struct span message,
			struct span signature) MUST_CHECK;
/* The library's own object, for cert (X.509 signing). Valid as long as the key. */
struct evp_pkey_st *crypto_key_native(const struct crypto_key *key);
