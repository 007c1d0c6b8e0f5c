#include "tls/tls_internal.h"

/* Reads what the keyholder must be asked for out of the leaf. */
static int read_leaf(struct span der, struct tls_credential *credential)
{
	const uint8_t *at = (const uint8_t *)der.ptr;
	X509 *leaf = d2i_X509(NULL, &at, (long)der.len);
	EVP_PKEY *key = leaf ? X509_get0_pubkey(leaf) : NULL;
	uint8_t *info = NULL;
	int info_len = key ? i2d_PUBKEY(key, &info) : -1;
	int outcome = 0;

	if (info_len <= 0 || at != (const uint8_t *)der.ptr + der.len) {
		outcome = TLS_CREDENTIAL_BROKEN;
	} else if (EVP_PKEY_id(key) == EVP_PKEY_EC) {
		int curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)));

		credential->type = curve == NID_secp384r1 ? CRYPTO_KEY_P384 : CRYPTO_KEY_P256;
		if (curve != NID_X9_62_prime256v1 && curve != NID_secp384r1)
			outcome = TLS_CREDENTIAL_UNSUPPORTED;
	} else if (EVP_PKEY_id(key) == EVP_PKEY_RSA) {
		credential->type = CRYPTO_KEY_RSA;
		if (EVP_PKEY_bits(key) < 2048 || EVP_PKEY_bits(key) > 4096)
			outcome = TLS_CREDENTIAL_UNSUPPORTED;
	} else {
		outcome = TLS_CREDENTIAL_UNSUPPORTED;
	}
	if (outcome == 0)
		crypto_sha256(span_of(info, (size_t)info_len), credential->key_hash);
	OPENSSL_free(info);
	X509_free(leaf);
	ERR_clear_error();
	return outcome;
}

int tls_credential_new(const struct span *chain, size_t count,
		       struct tls_credential **ret_credential)
{
	struct tls_credential *credential;
	int outcome;

	if (count == 0 || count > TLS_CHAIN_MAX)
		return TLS_CREDENTIAL_BROKEN;
	credential = heap_alloc(sizeof(*credential));
	if (!credential)
		return -ENOMEM;
	outcome = read_leaf(chain[0], credential);
	for (size_t i = 0; i < count && outcome == 0; i++) {
		credential->chain[i] =
			CRYPTO_BUFFER_new((const uint8_t *)chain[i].ptr, chain[i].len, NULL);
		if (credential->chain[i])
			credential->chain_len++;
		else
			outcome = -ENOMEM;
	}
	if (outcome != 0) {
		tls_credential_free(credential);
		return outcome;
	}
	*ret_credential = credential;
	return 0;
}

void tls_credential_free(struct tls_credential *credential)
{
	if (!credential)
		return;
	for (size_t i = 0; i < credential->chain_len; i++)
		CRYPTO_BUFFER_free(credential->chain[i]);
	heap_free(credential);
}

enum crypto_key_type tls_credential_key_type(const struct tls_credential *credential)
{
	return credential->type;
}

const uint8_t *tls_credential_key_hash(const struct tls_credential *credential)
{
	return credential->key_hash;
}

bool tls_credential_fits(const struct tls_credential *credential, const struct tls_hello *hello)
{
	switch (credential->type) {
	case CRYPTO_KEY_P256:
		return hello->can_ecdsa_p256;
	case CRYPTO_KEY_P384:
		return hello->can_ecdsa_p384;
	case CRYPTO_KEY_RSA:
		return hello->can_rsa;
	}
	return false;
}
