#include "crypto/crypto.h"

#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>

/* Allocated by the library's allocator: in a keyholder that is the secret heap. */
struct crypto_key {
	EVP_PKEY *native;
	enum crypto_key_type type;
	unsigned bits;
};

enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096, RSA_BITS_NEW = 2048 };

const char *crypto_key_outcome_text(int outcome)
{
	switch ((enum crypto_key_outcome)outcome) {
	case CRYPTO_KEY_NOT_PEM:
		return "holds no private key (a PEM block BEGIN PRIVATE KEY is expected)";
	case CRYPTO_KEY_ENCRYPTED:
		return "is encrypted: nobody could type its pass phrase at a restart; store it "
		       "decrypted with "
		       "mode 0600 (openssl pkey -in OLD -out NEW)";
	case CRYPTO_KEY_UNSUPPORTED:
		return "is of a kind that is not served: ECDSA P-256 or P-384, or RSA with 2048 to "
		       "4096 bits";
	case CRYPTO_KEY_BROKEN:
		return "is damaged: its private key block does not decode";
	}
	return "cannot be used";
}

static int inspect_native(const EVP_PKEY *native, enum crypto_key_type *ret_type,
			  unsigned *ret_bits)
{
	int kind = EVP_PKEY_id(native);
	int bits = EVP_PKEY_bits(native);

	if (kind == EVP_PKEY_RSA) {
		if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
			return CRYPTO_KEY_UNSUPPORTED;
		*ret_type = CRYPTO_KEY_RSA;
	} else if (kind == EVP_PKEY_EC) {
		const EC_GROUP *group = EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(native));
		int curve = group ? EC_GROUP_get_curve_name(group) : 0;
		if (curve != NID_X9_62_prime256v1 && curve != NID_secp384r1)
			return CRYPTO_KEY_UNSUPPORTED;
		*ret_type = curve == NID_secp384r1 ? CRYPTO_KEY_P384 : CRYPTO_KEY_P256;
	} else {
		return CRYPTO_KEY_UNSUPPORTED;
	}
	*ret_bits = (unsigned)bits;
	return 0;
}

/* Takes `native` over, also when it fails. */
static int wrap_native(EVP_PKEY *native, struct crypto_key **ret_key)
{
	struct crypto_key *key;
	enum crypto_key_type type = CRYPTO_KEY_P256;
	unsigned bits = 0;
	int result = inspect_native(native, &type, &bits);

	if (result != 0) {
		EVP_PKEY_free(native);
		return result;
	}
	key = OPENSSL_zalloc(sizeof(*key));
	if (!key) {
		EVP_PKEY_free(native);
		return -ENOMEM;
	}
	*key = (struct crypto_key){ .native = native, .type = type, .bits = bits };
	*ret_key = key;
	return 0;
}

/* Why the library refused an encoding. Its error queue is ours alone to read and to clear. */
static int parse_failure(void)
{
	uint32_t error = ERR_peek_last_error();
	int library = ERR_GET_LIB(error), reason = ERR_GET_REASON(error);

	ERR_clear_error();
	if (library == ERR_LIB_EVP && reason == EVP_R_UNSUPPORTED_ALGORITHM)
		return CRYPTO_KEY_UNSUPPORTED;
	if (library == ERR_LIB_EC &&
	    (reason == EC_R_UNKNOWN_GROUP || reason == EC_R_MISSING_PARAMETERS))
		return CRYPTO_KEY_UNSUPPORTED;
	if (library == ERR_LIB_RSA && reason == RSA_R_MODULUS_TOO_LARGE)
		return CRYPTO_KEY_UNSUPPORTED;
	if (reason == ERR_R_MALLOC_FAILURE)
		return -ENOMEM;
	return CRYPTO_KEY_BROKEN;
}

int crypto_key_parse_der(struct span pkcs8, struct crypto_key **ret_key)
{
	CBS bytes;

	CBS_init(&bytes, (const uint8_t *)pkcs8.ptr, pkcs8.len);
	EVP_PKEY *native = EVP_parse_private_key(&bytes);
	if (!native)
		return parse_failure();
	if (CBS_len(&bytes) != 0) {
		EVP_PKEY_free(native);
		return CRYPTO_KEY_BROKEN;
	}
	return wrap_native(native, ret_key);
}

static EVP_PKEY *parse_ec(CBS *bytes)
{
	EC_KEY *ec = EC_KEY_parse_private_key(bytes, NULL);
	EVP_PKEY *native = ec ? EVP_PKEY_new() : NULL;

	if (native && EVP_PKEY_set1_EC_KEY(native, ec) != 1) {
		EVP_PKEY_free(native);
		native = NULL;
	}
	EC_KEY_free(ec);
	return native;
}

static EVP_PKEY *parse_rsa(CBS *bytes)
{
	RSA *rsa = RSA_parse_private_key(bytes);
	EVP_PKEY *native = rsa ? EVP_PKEY_new() : NULL;

	if (native && EVP_PKEY_set1_RSA(native, rsa) != 1) {
		EVP_PKEY_free(native);
		native = NULL;
	}
	RSA_free(rsa);
	return native;
}

/* The formats of before PKCS#8, which openssl's own commands still write (RFC 5915, RFC 8017 A.1.2). */
static int parse_traditional(struct span der, EVP_PKEY *(*parse)(CBS *bytes),
			     struct crypto_key **ret_key)
{
	CBS bytes;

	CBS_init(&bytes, (const uint8_t *)der.ptr, der.len);
	EVP_PKEY *native = parse(&bytes);
	if (!native)
		return parse_failure();
	if (CBS_len(&bytes) != 0) {
		EVP_PKEY_free(native);
		return CRYPTO_KEY_BROKEN;
	}
	return wrap_native(native, ret_key);
}

static int parse_block(const struct crypto_pem_block *block, struct span der,
		       struct crypto_key **ret_key)
{
	if (span_equal(block->label, SPAN("ENCRYPTED PRIVATE KEY")) || block->is_encrypted)
		return CRYPTO_KEY_ENCRYPTED;
	if (span_equal(block->label, SPAN("PRIVATE KEY")))
		return crypto_key_parse_der(der, ret_key);
	if (span_equal(block->label, SPAN("EC PRIVATE KEY")))
		return parse_traditional(der, parse_ec, ret_key);
	if (span_equal(block->label, SPAN("RSA PRIVATE KEY")))
		return parse_traditional(der, parse_rsa, ret_key);
	return CRYPTO_KEY_UNSUPPORTED;
}

int crypto_key_parse_pem(struct span pem, struct crypto_key **ret_key)
{
	size_t size = pem.len + 16;
	uint8_t *buf = OPENSSL_malloc(size);
	int result = CRYPTO_KEY_NOT_PEM;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		struct crypto_pem_block block;
		struct writer der = writer_of(buf, size);
		int outcome = crypto_pem_next(&pem, &block, &der);
		if (outcome == CRYPTO_PEM_END)
			break;
		/* Certificates and "EC PARAMETERS" may stand in the same file. */
		if (!span_ends_with(block.label, SPAN("PRIVATE KEY")))
			continue;
		result = outcome ? CRYPTO_KEY_BROKEN
				 : parse_block(&block, writer_done(&der), ret_key);
		break;
	}
	OPENSSL_cleanse(buf, size);
	OPENSSL_free(buf);
	return result;
}

static EVP_PKEY *generate_ec(int curve)
{
	EC_KEY *ec = EC_KEY_new_by_curve_name(curve);
	EVP_PKEY *native = ec ? EVP_PKEY_new() : NULL;

	if (native && (EC_KEY_generate_key(ec) != 1 || EVP_PKEY_set1_EC_KEY(native, ec) != 1)) {
		EVP_PKEY_free(native);
		native = NULL;
	}
	EC_KEY_free(ec);
	return native;
}

static EVP_PKEY *generate_rsa(void)
{
	RSA *rsa = RSA_new();
	BIGNUM *exponent = BN_new();
	EVP_PKEY *native = EVP_PKEY_new();
	bool ok = rsa && exponent && native && BN_set_word(exponent, RSA_F4) == 1 &&
		  RSA_generate_key_ex(rsa, RSA_BITS_NEW, exponent, NULL) == 1 &&
		  EVP_PKEY_set1_RSA(native, rsa) == 1;

	BN_free(exponent);
	RSA_free(rsa);
	if (ok)
		return native;
	EVP_PKEY_free(native);
	return NULL;
}

int crypto_key_generate(enum crypto_key_type type, struct crypto_key **ret_key)
{
	EVP_PKEY *native = NULL;

	switch (type) {
	case CRYPTO_KEY_P256:
		native = generate_ec(NID_X9_62_prime256v1);
		break;
	case CRYPTO_KEY_P384:
		native = generate_ec(NID_secp384r1);
		break;
	case CRYPTO_KEY_RSA:
		native = generate_rsa();
		break;
	}
	if (!native) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return wrap_native(native, ret_key);
}

void crypto_key_free(struct crypto_key *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->native);
	OPENSSL_cleanse(key, sizeof(*key));
	OPENSSL_free(key);
}

enum crypto_key_type crypto_key_kind(const struct crypto_key *key)
{
	return key->type;
}

unsigned crypto_key_bits(const struct crypto_key *key)
{
	return key->bits;
}

static int marshal(const struct crypto_key *key, int (*write)(CBB *out, const EVP_PKEY *native),
		   uint8_t *buf, size_t size, size_t *ret_len)
{
	CBB out;

	/* A fixed CBB grows nowhere, so no copy of the key stays behind in a heap. */
	if (!CBB_init_fixed(&out, buf, size))
		return -ENOMEM;
	int ok = write(&out, key->native) && CBB_finish(&out, NULL, ret_len);
	CBB_cleanup(&out);
	ERR_clear_error();
	return ok ? 0 : -ENOSPC;
}

static int marshal_to_writer(const struct crypto_key *key,
			     int (*write)(CBB *out, const EVP_PKEY *native), const char *pem_label,
			     struct writer *out)
{
	uint8_t der[CRYPTO_KEY_TEXT_MAX];
	size_t len = 0;
	int result = marshal(key, write, der, sizeof(der), &len);

	if (result == 0) {
		if (pem_label)
			crypto_pem_write(out, pem_label, span_of(der, len));
		else
			write_span(out, span_of(der, len));
		result = out->ok ? 0 : -ENOSPC;
	}
	OPENSSL_cleanse(der, sizeof(der));
	return result;
}

int crypto_key_write_pem(const struct crypto_key *key, struct writer *out)
{
	return marshal_to_writer(key, EVP_marshal_private_key, "PRIVATE KEY", out);
}

int crypto_key_write_der(const struct crypto_key *key, struct writer *out)
{
	return marshal_to_writer(key, EVP_marshal_private_key, NULL, out);
}

int crypto_key_write_spki(const struct crypto_key *key, struct writer *out)
{
	return marshal_to_writer(key, EVP_marshal_public_key, NULL, out);
}

int crypto_key_spki_hash(const struct crypto_key *key, uint8_t ret_hash[CRYPTO_SHA256_SIZE])
{
	uint8_t der[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(der, sizeof(der));
	int result = crypto_key_write_spki(key, &out);

	if (result == 0)
		crypto_sha256(writer_done(&out), ret_hash);
	return result;
}

static EVP_PKEY *parse_spki(struct span spki)
{
	CBS bytes;

	CBS_init(&bytes, (const uint8_t *)spki.ptr, spki.len);
	EVP_PKEY *native = EVP_parse_public_key(&bytes);
	if (native && CBS_len(&bytes) != 0) {
		EVP_PKEY_free(native);
		return NULL;
	}
	return native;
}

int crypto_spki_inspect(struct span spki, enum crypto_key_type *ret_type, unsigned *ret_bits)
{
	enum crypto_key_type type = CRYPTO_KEY_P256;
	unsigned bits = 0;

	ERR_clear_error();
	EVP_PKEY *native = parse_spki(spki);
	if (!native)
		return parse_failure();
	int result = inspect_native(native, &type, &bits);
	EVP_PKEY_free(native);
	if (result != 0)
		return result;
	*ret_type = type;
	if (ret_bits)
		*ret_bits = bits;
	return 0;
}

struct scheme_row {
	uint16_t scheme;
	bool is_rsa, is_pss;
	const EVP_MD *(*digest)(void);
};

static const struct scheme_row scheme_rows[] = {
	{ CRYPTO_SCHEME_RSA_PKCS1_SHA256, true, false, EVP_sha256 },
	{ CRYPTO_SCHEME_RSA_PKCS1_SHA384, true, false, EVP_sha384 },
	{ CRYPTO_SCHEME_RSA_PKCS1_SHA512, true, false, EVP_sha512 },
	{ CRYPTO_SCHEME_ECDSA_P256_SHA256, false, false, EVP_sha256 },
	{ CRYPTO_SCHEME_ECDSA_P384_SHA384, false, false, EVP_sha384 },
	{ CRYPTO_SCHEME_RSA_PSS_SHA256, true, true, EVP_sha256 },
	{ CRYPTO_SCHEME_RSA_PSS_SHA384, true, true, EVP_sha384 },
	{ CRYPTO_SCHEME_RSA_PSS_SHA512, true, true, EVP_sha512 },
};

static const struct scheme_row *find_scheme(uint16_t scheme, const EVP_PKEY *native)
{
	for (size_t i = 0; i < ARRAY_LEN(scheme_rows); i++)
		if (scheme_rows[i].scheme == scheme)
			return scheme_rows[i].is_rsa == (EVP_PKEY_id(native) == EVP_PKEY_RSA)
				       ? &scheme_rows[i]
				       : NULL;
	return NULL;
}

static bool set_padding(EVP_PKEY_CTX *operation, const struct scheme_row *row)
{
	/* RFC 8446, 4.2.3: the salt is as long as the digest, which is what -1 means. */
	return !row->is_pss ||
	       (EVP_PKEY_CTX_set_rsa_padding(operation, RSA_PKCS1_PSS_PADDING) == 1 &&
		EVP_PKEY_CTX_set_rsa_pss_saltlen(operation, -1) == 1);
}

int crypto_key_sign(const struct crypto_key *key, uint16_t scheme, struct span message,
		    uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len)
{
	const struct scheme_row *row = find_scheme(scheme, key->native);
	EVP_PKEY_CTX *operation = NULL;
	size_t len = CRYPTO_SIGNATURE_MAX;
	EVP_MD_CTX digest;

	if (!row)
		return -EINVAL;
	EVP_MD_CTX_init(&digest);
	bool ok = EVP_DigestSignInit(&digest, &operation, row->digest(), NULL, key->native) == 1 &&
		  set_padding(operation, row) &&
		  EVP_DigestSign(&digest, ret_signature, &len, (const uint8_t *)message.ptr,
				 message.len) == 1;
	EVP_MD_CTX_cleanup(&digest);
	ERR_clear_error();
	if (!ok)
		return -ENOMEM;
	*ret_len = len;
	return 0;
}

bool crypto_spki_verify(struct span spki, uint16_t scheme, struct span message,
			struct span signature)
{
	EVP_PKEY *native = parse_spki(spki);
	const struct scheme_row *row = native ? find_scheme(scheme, native) : NULL;
	EVP_PKEY_CTX *operation = NULL;
	EVP_MD_CTX digest;

	EVP_MD_CTX_init(&digest);
	bool ok = row &&
		  EVP_DigestVerifyInit(&digest, &operation, row->digest(), NULL, native) == 1 &&
		  set_padding(operation, row) &&
		  EVP_DigestVerify(&digest, (const uint8_t *)signature.ptr, signature.len,
				   (const uint8_t *)message.ptr, message.len) == 1;
	EVP_MD_CTX_cleanup(&digest);
	EVP_PKEY_free(native);
	ERR_clear_error();
	return ok;
}

struct evp_pkey_st *crypto_key_native(const struct crypto_key *key)
{
	return key->native;
}
