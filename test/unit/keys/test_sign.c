#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "keys/keys.h"

enum { KEY_COUNT = 3 };

static struct keys_store *store;
static struct keys_handle handles[KEY_COUNT], client_handle, strange_handle; /* P-256, P-384, RSA */
static char spki_bufs[KEY_COUNT][1024];
static struct span spkis[KEY_COUNT];
static const char zeroes[128];

static void add(struct crypto_key *key, const struct keys_handle *handle, uint64_t now_ns)
{
	assert_int_equal(keys_store_add(store, handle, key, now_ns), 0);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(keys_store_new(0, &store), 0);
	for (int i = 0; i < KEY_COUNT; i++) {
		struct crypto_key *key = NULL;
		struct writer out = writer_of(spki_bufs[i], sizeof(spki_bufs[i]));

		assert_int_equal(crypto_key_generate((enum crypto_key_type)i, &key), 0);
		assert_int_equal(crypto_key_write_spki(key, &out), 0);
		spkis[i] = writer_done(&out);
		handles[i].usage = KEYS_USAGE_SERVER;
		assert_int_equal(crypto_key_spki_hash(key, handles[i].spki_hash), 0);
		add(key, &handles[i], 1);
	}
	strange_handle = handles[0];
	strange_handle.spki_hash[31] ^= 1; /* the same place in the table */
	client_handle = handles[0];
	client_handle.usage = KEYS_USAGE_CLIENT;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	keys_store_free(store);
	return 0;
}

static const struct {
	int key; /* -1: one that is not held */
	uint16_t scheme;
	size_t hash_len;
	int result;
} cases13[] = {
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 32, 0 },
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 48, 0 },
	{ 0, CRYPTO_SCHEME_ECDSA_P384_SHA384, 32, KEYS_SIGN_REFUSED },
	{ 0, CRYPTO_SCHEME_RSA_PSS_SHA256, 32, KEYS_SIGN_REFUSED },
	{ 1, CRYPTO_SCHEME_ECDSA_P384_SHA384, 48, 0 },
	{ 1, CRYPTO_SCHEME_ECDSA_P256_SHA256, 48, KEYS_SIGN_REFUSED },
	{ 2, CRYPTO_SCHEME_RSA_PSS_SHA256, 32, 0 },
	{ 2, CRYPTO_SCHEME_RSA_PSS_SHA512, 32, 0 },
	{ 2, CRYPTO_SCHEME_ECDSA_P256_SHA256, 32, KEYS_SIGN_REFUSED },
	{ 2, CRYPTO_SCHEME_RSA_PKCS1_SHA256, 32, KEYS_SIGN_VIOLATION },
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 0, KEYS_SIGN_VIOLATION },
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 31, KEYS_SIGN_VIOLATION },
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 33, KEYS_SIGN_VIOLATION },
	{ 0, CRYPTO_SCHEME_ECDSA_P256_SHA256, 64, KEYS_SIGN_VIOLATION },
	{ 0, 0x0807, 32, KEYS_SIGN_VIOLATION }, /* Ed25519 */
	{ 0, 0x0203, 32, KEYS_SIGN_VIOLATION }, /* SHA-1 */
	{ 0, 0, 32, KEYS_SIGN_VIOLATION },
	{ -1, CRYPTO_SCHEME_ECDSA_P256_SHA256, 32, KEYS_SIGN_NO_KEY },
};

static void test_sign13(void **state)
{
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases13); i++) {
		struct keys_sign13 request = {
			.handle = cases13[i].key < 0 ? strange_handle : handles[cases13[i].key],
			.scheme = cases13[i].scheme,
			.transcript_hash = span_of(zeroes, cases13[i].hash_len),
		};
		int result = keys_sign13(store, &request, 5, signature, &len);
		if (result != cases13[i].result)
			fail_msg("case %zu: %d", i, result);
		if (result != 0)
			continue;
		char input[256];
		struct writer out = writer_of(input, sizeof(input));
		write_str(&out, "                                                                ");
		write_str(&out, "TLS 1.3, server CertificateVerify");
		write_byte(&out, '\0');
		write_span(&out, request.transcript_hash);
		assert_true(crypto_spki_verify(spkis[cases13[i].key], request.scheme,
					       writer_done(&out), span_of(signature, len)));
	}
}

/* A client's signature is another one than a server's, and its handle another too. */
static void test_usages(void **state)
{
	struct keys_sign13 request = { client_handle, CRYPTO_SCHEME_ECDSA_P256_SHA256,
				       span_of(zeroes, 32) };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	struct crypto_key *key = NULL;
	char der[CRYPTO_KEY_TEXT_MAX], input[256];
	struct writer out = writer_of(der, sizeof(der));
	size_t len = 0;

	(void)state;
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), KEYS_SIGN_NO_KEY);
	assert_int_equal(crypto_key_write_der(keys_store_get(store, &handles[0]), &out), 0);
	assert_int_equal(crypto_key_parse_der(writer_done(&out), &key), 0);
	add(key, &client_handle, 1);
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), 0);
	out = writer_of(input, sizeof(input));
	write_str(&out, "                                                                ");
	write_str(&out, "TLS 1.3, client CertificateVerify");
	write_byte(&out, '\0');
	write_span(&out, request.transcript_hash);
	assert_true(crypto_spki_verify(spkis[0], request.scheme, writer_done(&out),
				       span_of(signature, len)));
	request.handle.usage = 2;
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), KEYS_SIGN_VIOLATION);
}

static const struct {
	const char *head; /* curve type, group, length */
	size_t point_len;
	char first; /* of the point */
	int result;
} params_cases[] = {
	{ "\x03\x00\x1d\x20", 32, 0, 0 },
	{ "\x03\x00\x17\x41", 65, 4, 0 },
	{ "\x03\x00\x18\x61", 97, 4, 0 },
	{ "\x03\x00\x17\x41", 65, 2, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x17\x41", 64, 4, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x17\x41", 66, 4, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x17\x21", 33, 2, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x1d\x20", 33, 0, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x1d\x20", 31, 0, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x1d\x00", 0, 0, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x19\x00", 0, 0, KEYS_SIGN_VIOLATION },
	{ "\x03\x00\x1e\x38", 56, 0, KEYS_SIGN_VIOLATION }, /* X448 */
	{ "\x03\x11\xec\x20", 32, 0, KEYS_SIGN_VIOLATION },
	{ "\x01\x00\x1d\x20", 32, 0, KEYS_SIGN_VIOLATION },
	{ "\x02\x00\x1d\x20", 32, 0, KEYS_SIGN_VIOLATION },
};

static void test_sign12_params(void **state)
{
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(params_cases); i++) {
		char params[128] = { 0 }, input[256];
		memcpy(params, params_cases[i].head, 4);
		params[4] = params_cases[i].first;
		struct keys_sign12 request = {
			.handle = handles[0],
			.scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256,
			.client_random = span_of("cccccccccccccccccccccccccccccccc", 32),
			.server_random = span_of("ssssssssssssssssssssssssssssssss", 32),
			.ecdhe_params = span_of(params, 4 + params_cases[i].point_len),
		};
		int result = keys_sign12(store, &request, 5, signature, &len);
		if (result != params_cases[i].result)
			fail_msg("case %zu: %d", i, result);
		if (result != 0)
			continue;
		struct writer out = writer_of(input, sizeof(input));
		write_span(&out, request.client_random);
		write_span(&out, request.server_random);
		write_span(&out, request.ecdhe_params);
		assert_true(crypto_spki_verify(spkis[0], request.scheme, writer_done(&out),
					       span_of(signature, len)));
		for (size_t short_len = 0; short_len < request.ecdhe_params.len; short_len++) {
			struct keys_sign12 cut = request;
			cut.ecdhe_params.len = short_len;
			assert_int_equal(keys_sign12(store, &cut, 5, signature, &len),
					 KEYS_SIGN_VIOLATION);
		}
	}
}

static void test_sign12_rest(void **state)
{
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	struct keys_sign12 good = {
		.handle = handles[2],
		.scheme = CRYPTO_SCHEME_RSA_PKCS1_SHA256,
		.client_random = span_of(zeroes, 32),
		.server_random = span_of(zeroes, 32),
		.ecdhe_params = span_of("\x03\x00\x1d\x20"
					"01234567890123456789012345678901",
					36),
	};
	struct keys_sign12 bad;
	size_t len = 0;

	(void)state;
	assert_int_equal(keys_sign12(store, &good, 5, signature, &len), 0);
	bad = good;
	bad.scheme = CRYPTO_SCHEME_RSA_PSS_SHA256;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), 0);
	bad.scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_REFUSED);
	bad.scheme = 0x0201; /* RSA with SHA-1 */
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_VIOLATION);
	bad = good;
	bad.handle = handles[1]; /* a P-384 key in TLS 1.2 may use SHA-256 */
	bad.scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), 0);
	bad = good;
	bad.handle.usage = KEYS_USAGE_CLIENT;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_VIOLATION);
	bad = good;
	bad.client_random.len = 31;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_VIOLATION);
	bad = good;
	bad.server_random.len = 33;
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_VIOLATION);
	/* What would make a TLS 1.3 input of it: 64 blanks, then the context. */
	bad = good;
	bad.client_random = bad.server_random = span_of("                                ", 32);
	bad.ecdhe_params = SPAN("TLS 1.3, server CertificateVerify\0"
				"01234567890123456789012345678901");
	assert_int_equal(keys_sign12(store, &bad, 5, signature, &len), KEYS_SIGN_VIOLATION);
}

static void test_allow_list(void **state)
{
	struct keys_sign13 request = { handles[0], CRYPTO_SCHEME_ECDSA_P256_SHA256,
				       span_of(zeroes, 32) };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	size_t len = 0;

	(void)state;
	keys_store_restrict(store);
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), KEYS_SIGN_REFUSED);
	assert_int_equal(keys_store_allow(store, &handles[0]), 0);
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), 0);
	/* Not even whether it is held can be learnt of one that is not allowed. */
	request.handle = strange_handle;
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), KEYS_SIGN_REFUSED);
	keys_store_disallow(store, &handles[0]);
	request.handle = handles[0];
	assert_int_equal(keys_sign13(store, &request, 5, signature, &len), KEYS_SIGN_REFUSED);
}

static void test_limits(void **state)
{
	enum { LIMIT = 10 };
	const uint64_t second = 1000000000;
	struct keys_sign13 request = { handles[0], CRYPTO_SCHEME_ECDSA_P256_SHA256,
				       span_of(zeroes, 32) };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	uint64_t now = 50 * second;
	size_t len = 0;

	(void)state;
	keys_store_set_limit(store, LIMIT);
	for (int i = 0; i < LIMIT; i++)
		assert_int_equal(keys_sign13(store, &request, now + (uint64_t)i, signature, &len),
				 0);
	assert_int_equal(keys_sign13(store, &request, now + second - 1, signature, &len),
			 KEYS_SIGN_LIMIT);
	assert_int_equal(keys_sign13(store, &request, now + second, signature, &len), 0);
	/* A key that is not held is no way round: the vault is not asked without end either. */
	for (int i = 1; i < LIMIT; i++)
		assert_int_equal(keys_sign13(store, &request, now + second, signature, &len), 0);
	request.handle = strange_handle;
	assert_int_equal(keys_sign13(store, &request, now + second, signature, &len),
			 KEYS_SIGN_LIMIT);
}

static void test_costs(void **state)
{
	(void)state;
	assert_true(keys_sign_cost_us(store, &handles[0]) < keys_sign_cost_us(store, &handles[2]));
	assert_int_equal(keys_sign_cost_us(store, &strange_handle), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sign13, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_usages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sign12_params, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sign12_rest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_allow_list, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_costs, set_up, tear_down),
	};

	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
