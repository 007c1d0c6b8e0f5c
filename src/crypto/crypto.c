#include "crypto/crypto.h"

#include <openssl/aead.h>
#include <openssl/base.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#ifndef OPENSSL_IS_AWSLC
#error "these headers are not AWS-LC's: the build took the system's OpenSSL"
#endif

void crypto_start(void)
{
	uint8_t first[32];

	CRYPTO_library_init();
	crypto_random(first, sizeof(first));
	crypto_wipe(first, sizeof(first));
}

void crypto_random(void *buf, size_t size)
{
	/* The library aborts rather than return without entropy: there is nothing to handle. */
	MUST(RAND_bytes(buf, size) == 1);
}

void crypto_wipe(void *buf, size_t size)
{
	OPENSSL_cleanse(buf, size);
}

bool crypto_equal(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

int crypto_set_memory(const struct crypto_memory *memory)
{
	return CRYPTO_set_mem_functions(memory->alloc, memory->resize, memory->free) == 1 ? 0
											  : -EPERM;
}

void crypto_sha256(struct span bytes, uint8_t ret_digest[CRYPTO_SHA256_SIZE])
{
	SHA256((const uint8_t *)bytes.ptr, bytes.len, ret_digest);
}

void crypto_hmac_sha256(struct span key, struct span bytes, uint8_t ret_mac[CRYPTO_SHA256_SIZE])
{
	/* NULL: without memory, of which it takes none. */
	MUST(HMAC(EVP_sha256(), key.ptr, key.len, (const uint8_t *)bytes.ptr, bytes.len, ret_mac,
		  NULL));
}

const char *crypto_version(void)
{
	return "AWS-LC " AWSLC_VERSION_NUMBER_STRING;
}

int crypto_aead_seal(const uint8_t key[CRYPTO_AEAD_KEY_SIZE],
		     const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE], struct span plain,
		     struct span associated, uint8_t *out)
{
	size_t out_len = 0;
	EVP_AEAD_CTX aead;

	if (!EVP_AEAD_CTX_init(&aead, EVP_aead_aes_256_gcm(), key, CRYPTO_AEAD_KEY_SIZE,
			       CRYPTO_AEAD_TAG_SIZE, NULL))
		return -ENOMEM;
	int ok = EVP_AEAD_CTX_seal(&aead, out, &out_len, plain.len + CRYPTO_AEAD_TAG_SIZE, nonce,
				   CRYPTO_AEAD_NONCE_SIZE, (const uint8_t *)plain.ptr, plain.len,
				   (const uint8_t *)associated.ptr, associated.len);
	EVP_AEAD_CTX_cleanup(&aead);
	return ok && out_len == plain.len + CRYPTO_AEAD_TAG_SIZE ? 0 : -EINVAL;
}

bool crypto_aead_open(const uint8_t key[CRYPTO_AEAD_KEY_SIZE],
		      const uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE], struct span sealed,
		      struct span associated, uint8_t *out)
{
	size_t out_len = 0;
	EVP_AEAD_CTX aead;

	if (sealed.len < CRYPTO_AEAD_TAG_SIZE)
		return false;
	if (!EVP_AEAD_CTX_init(&aead, EVP_aead_aes_256_gcm(), key, CRYPTO_AEAD_KEY_SIZE,
			       CRYPTO_AEAD_TAG_SIZE, NULL))
		return false;
	int ok = EVP_AEAD_CTX_open(&aead, out, &out_len, sealed.len - CRYPTO_AEAD_TAG_SIZE, nonce,
				   CRYPTO_AEAD_NONCE_SIZE, (const uint8_t *)sealed.ptr, sealed.len,
				   (const uint8_t *)associated.ptr, associated.len);
	EVP_AEAD_CTX_cleanup(&aead);
	return ok == 1;
}
