/* What a worker that was taken over asks of a keyholder. The input is a row of requests. Properties:
 * a signature is made for a key that is held and allowed, with a scheme that fits it, and verifies
 * over the input that RFC 8446, 4.4.3 or RFC 8422, 5.4 names, built here from the parts anew; over
 * nothing else; no request of one version is a valid input of the other; more than the limit allows
 * are not made. */
#include <string.h>

#include "keys/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 6 };

static struct keys_store *store;
static struct keys_handle known, not_allowed;
static char spki_buf[256];
static struct span spki;

static void make_store(void)
{
	struct crypto_key *key = NULL, *other = NULL;
	struct writer out = writer_of(spki_buf, sizeof(spki_buf));

	MUST(keys_store_new(LIMIT, &store) == 0);
	MUST(crypto_key_generate(CRYPTO_KEY_P256, &key) == 0);
	MUST(crypto_key_write_spki(key, &out) == 0 &&
	     crypto_key_spki_hash(key, known.spki_hash) == 0);
	spki = writer_done(&out);
	MUST(keys_store_add(store, &known, key, 1) == 0);
	MUST(crypto_key_generate(CRYPTO_KEY_P256, &other) == 0);
	MUST(crypto_key_spki_hash(other, not_allowed.spki_hash) == 0);
	MUST(keys_store_add(store, &not_allowed, other, 1) == 0);
	keys_store_restrict(store);
	MUST(keys_store_allow(store, &known) == 0);
}

static struct keys_handle handle_of(uint8_t choice)
{
	struct keys_handle handle = choice & 1 ? not_allowed : known;

	if (choice & 2)
		handle.spki_hash[choice >> 4] ^= 1;
	handle.usage = choice & 4 ? 1 : choice & 8 ? 2 : 0;
	return handle;
}

static void check_signature(struct span input, uint16_t scheme, const uint8_t *signature,
			    size_t len)
{
	MUST(len > 0 && len <= CRYPTO_SIGNATURE_MAX);
	MUST(scheme == CRYPTO_SCHEME_ECDSA_P256_SHA256 ||
	     scheme == CRYPTO_SCHEME_ECDSA_P384_SHA384);
	MUST(crypto_spki_verify(spki, scheme, input, span_of(signature, len)));
}

static bool sign13(struct reader *reader, uint8_t choice, uint64_t now_ns)
{
	struct keys_sign13 request = { .handle = handle_of(choice), .scheme = read_be16(reader) };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	char input[256];
	struct writer out = writer_of(input, sizeof(input));
	size_t len = 0;

	request.transcript_hash = read_span(reader, read_u8(reader));
	if (!reader->ok || keys_sign13(store, &request, now_ns, signature, &len) != 0)
		return false;
	MUST((choice & 15) == 0 && request.scheme == CRYPTO_SCHEME_ECDSA_P256_SHA256);
	MUST(request.transcript_hash.len == 32 || request.transcript_hash.len == 48);
	for (int i = 0; i < 64; i++)
		write_byte(&out, ' ');
	write_str(&out, "TLS 1.3, server CertificateVerify");
	write_byte(&out, '\0');
	write_span(&out, request.transcript_hash);
	check_signature(writer_done(&out), request.scheme, signature, len);
	return true;
}

static bool sign12(struct reader *reader, uint8_t choice, uint64_t now_ns)
{
	struct keys_sign12 request = { .handle = handle_of(choice), .scheme = read_be16(reader) };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	char input[512];
	struct writer out = writer_of(input, sizeof(input));
	size_t len = 0;

	request.client_random = read_span(reader, 32);
	request.server_random = read_span(reader, 32);
	request.ecdhe_params = read_span(reader, read_u8(reader));
	if (!reader->ok || keys_sign12(store, &request, now_ns, signature, &len) != 0)
		return false;
	MUST((choice & 15) == 0 && request.ecdhe_params.len >= 4);
	write_span(&out, request.client_random);
	write_span(&out, request.server_random);
	write_span(&out, request.ecdhe_params);
	check_signature(writer_done(&out), request.scheme, signature, len);
	/* No 1.3 input has this length and ends so. */
	MUST(writer_done(&out).len != 64 + 34 + 32 && writer_done(&out).len != 64 + 34 + 48);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t now_ns = 10000000000;
	struct reader reader = reader_of(span_of(data, size));
	int made = 0;

	if (!store)
		make_store();
	now_ns += 2000000000; /* a fresh second for each input */
	while (reader.ok && reader_left(&reader)) {
		uint8_t choice = read_u8(&reader);

		made += choice & 0x80 ? sign12(&reader, choice & 0x7f, now_ns)
				      : sign13(&reader, choice & 0x7f, now_ns);
	}
	MUST(made <= LIMIT);
	return 0;
}
