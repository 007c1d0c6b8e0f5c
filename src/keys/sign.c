#include "keys/store_internal.h"

#include <string.h>

enum { RANDOM_SIZE = 32, PAD_SIZE = 64, CONTEXT_MAX = 34 };
enum { SECOND_NS = 1000000000 };

static bool window_has_room(const struct keys_window *window, uint64_t max, uint64_t now_ns)
{
	return max == 0 || now_ns - window->start_ns >= SECOND_NS || window->count < max;
}

static void window_count(struct keys_window *window, uint64_t now_ns)
{
	if (now_ns - window->start_ns >= SECOND_NS)
		*window = (struct keys_window){ .start_ns = now_ns };
	window->count++;
}

/* Which key may be used, and whether now. */
static int admit(struct keys_store *store, const struct keys_handle *handle, uint64_t now_ns,
		 struct keys_entry **ret_entry)
{
	struct keys_entry *entry = keys_store_entry(store, handle);

	if (handle->usage != KEYS_USAGE_SERVER && handle->usage != KEYS_USAGE_CLIENT)
		return KEYS_SIGN_VIOLATION;
	/* Before "no key": a worker must not learn what the vault has, nor make us ask for it. */
	if (store->is_restricted && (!entry || !entry->is_allowed))
		return KEYS_SIGN_REFUSED;
	if (!window_has_room(&store->window, store->max_signs_per_s, now_ns) ||
	    (entry &&
	     !window_has_room(&entry->window, 2 * (uint64_t)store->max_signs_per_s, now_ns)))
		return KEYS_SIGN_LIMIT;
	if (!entry || !entry->key)
		return KEYS_SIGN_NO_KEY;
	*ret_entry = entry;
	return 0;
}

/* Before the signature is made: one that fails costs as much. */
static void count(struct keys_store *store, struct keys_entry *entry, uint64_t now_ns)
{
	window_count(&store->window, now_ns);
	window_count(&entry->window, now_ns);
	entry->used_at_ns = now_ns;
}

static bool is_scheme(uint16_t scheme)
{
	switch (scheme) {
	case CRYPTO_SCHEME_RSA_PKCS1_SHA256:
	case CRYPTO_SCHEME_RSA_PKCS1_SHA384:
	case CRYPTO_SCHEME_RSA_PKCS1_SHA512:
	case CRYPTO_SCHEME_ECDSA_P256_SHA256:
	case CRYPTO_SCHEME_ECDSA_P384_SHA384:
	case CRYPTO_SCHEME_RSA_PSS_SHA256:
	case CRYPTO_SCHEME_RSA_PSS_SHA384:
	case CRYPTO_SCHEME_RSA_PSS_SHA512:
		return true;
	default:
		return false;
	}
}

static bool is_pkcs1(uint16_t scheme)
{
	return scheme == CRYPTO_SCHEME_RSA_PKCS1_SHA256 ||
	       scheme == CRYPTO_SCHEME_RSA_PKCS1_SHA384 || scheme == CRYPTO_SCHEME_RSA_PKCS1_SHA512;
}

/* RFC 8446, 4.2.3: in TLS 1.3 an ECDSA scheme names its curve. */
static bool fits_tls13(enum crypto_key_type type, uint16_t scheme)
{
	switch (type) {
	case CRYPTO_KEY_P256:
		return scheme == CRYPTO_SCHEME_ECDSA_P256_SHA256;
	case CRYPTO_KEY_P384:
		return scheme == CRYPTO_SCHEME_ECDSA_P384_SHA384;
	case CRYPTO_KEY_RSA:
		return scheme == CRYPTO_SCHEME_RSA_PSS_SHA256 ||
		       scheme == CRYPTO_SCHEME_RSA_PSS_SHA384 ||
		       scheme == CRYPTO_SCHEME_RSA_PSS_SHA512;
	}
	return false;
}

static bool fits_tls12(enum crypto_key_type type, uint16_t scheme)
{
	bool is_ecdsa = scheme == CRYPTO_SCHEME_ECDSA_P256_SHA256 ||
			scheme == CRYPTO_SCHEME_ECDSA_P384_SHA384;

	return (type != CRYPTO_KEY_RSA) == is_ecdsa;
}

int keys_sign13(struct keys_store *store, const struct keys_sign13 *request, uint64_t now_ns,
		uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len)
{
	char buf[PAD_SIZE + CONTEXT_MAX + 48];
	struct writer input = writer_of(buf, sizeof(buf));
	size_t hash_len = request->transcript_hash.len;
	struct keys_entry *entry = NULL;

	/* RFC 8446, 4.2.3: the PKCS #1 schemes are for certificates only there. */
	if ((hash_len != 32 && hash_len != 48) || !is_scheme(request->scheme) ||
	    is_pkcs1(request->scheme))
		return KEYS_SIGN_VIOLATION;
	int result = admit(store, &request->handle, now_ns, &entry);
	if (result != 0)
		return result;
	if (!fits_tls13(crypto_key_kind(entry->key), request->scheme))
		return KEYS_SIGN_REFUSED;
	for (int i = 0; i < PAD_SIZE; i++)
		write_byte(&input, ' ');
	write_span(&input, request->handle.usage == KEYS_USAGE_CLIENT
				   ? SPAN("TLS 1.3, client CertificateVerify")
				   : SPAN("TLS 1.3, server CertificateVerify"));
	write_byte(&input, '\0');
	write_span(&input, request->transcript_hash);
	MUST(input.ok);
	count(store, entry, now_ns);
	return crypto_key_sign(entry->key, request->scheme, writer_done(&input), ret_signature,
			       ret_len);
}

/* RFC 8422, 5.4: named_curve, one of our groups, and a public key of exactly that group's length. */
static bool are_ecdhe_params(struct span params)
{
	enum {
		CURVE_TYPE_NAMED = 3,
		GROUP_P256 = 23,
		GROUP_P384 = 24,
		GROUP_X25519 = 29,
		POINT_UNCOMPRESSED = 4
	};
	struct reader reader = reader_of(params);
	uint8_t curve_type = read_u8(&reader);
	uint16_t group = read_be16(&reader);
	struct span point = read_span(&reader, read_u8(&reader));

	if (!reader.ok || reader_left(&reader) != 0 || curve_type != CURVE_TYPE_NAMED)
		return false;
	if (group == GROUP_X25519)
		return point.len == 32;
	return point.len == (group == GROUP_P256   ? 65u
			     : group == GROUP_P384 ? 97u
						   : 0u) &&
	       point.len > 0 && point.ptr[0] == POINT_UNCOMPRESSED;
}

int keys_sign12(struct keys_store *store, const struct keys_sign12 *request, uint64_t now_ns,
		uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len)
{
	char buf[2 * RANDOM_SIZE + 4 + 97];
	struct writer input = writer_of(buf, sizeof(buf));
	struct keys_entry *entry = NULL;

	/* The input begins with client_random, which a client chooses: that it can never be a 1.3 input (64 blanks
	 * and the context) is what the parameters behind it, of fixed form and length, make sure. */
	if (request->handle.usage != KEYS_USAGE_SERVER || !is_scheme(request->scheme) ||
	    request->client_random.len != RANDOM_SIZE ||
	    request->server_random.len != RANDOM_SIZE || !are_ecdhe_params(request->ecdhe_params))
		return KEYS_SIGN_VIOLATION;
	int result = admit(store, &request->handle, now_ns, &entry);
	if (result != 0)
		return result;
	if (!fits_tls12(crypto_key_kind(entry->key), request->scheme))
		return KEYS_SIGN_REFUSED;
	write_span(&input, request->client_random);
	write_span(&input, request->server_random);
	write_span(&input, request->ecdhe_params);
	MUST(input.ok);
	count(store, entry, now_ns);
	return crypto_key_sign(entry->key, request->scheme, writer_done(&input), ret_signature,
			       ret_len);
}

unsigned keys_sign_cost_us(const struct keys_store *store, const struct keys_handle *handle)
{
	const struct crypto_key *key = keys_store_get(store, handle);

	if (!key)
		return 0;
	switch (crypto_key_kind(key)) {
	case CRYPTO_KEY_P256:
		return 20;
	case CRYPTO_KEY_P384:
		return 250;
	case CRYPTO_KEY_RSA:
		return crypto_key_bits(key) > 3072 ? 1600 : crypto_key_bits(key) > 2048 ? 800 : 250;
	}
	return 0;
}
