#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "crypto/crypto.h"

static void assert_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	char buf[512];
	struct writer out = writer_of(buf, sizeof(buf));

	write_hex(&out, span_of(bytes, len));
	assert_true(span_equal(writer_done(&out), span_str(hex)));
}

/* FIPS 180-4's examples. */
static const struct {
	const char *text, *digest;
} sha256_cases[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

/* RFC 4231, 4.3 and 4.7. */
static void test_hmac(void **state)
{
	uint8_t mac[CRYPTO_SHA256_SIZE];
	char key[131];

	(void)state;
	crypto_hmac_sha256(SPAN("Jefe"), SPAN("what do ya want for nothing?"), mac);
	assert_hex(mac, sizeof(mac),
		   "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	crypto_hmac_sha256(span_of(key, sizeof(key)),
			   SPAN("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
	assert_hex(mac, sizeof(mac),
		   "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_sha256(void **state)
{
	(void)state;
	uint8_t digest[CRYPTO_SHA256_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(sha256_cases); i++) {
		crypto_sha256(span_str(sha256_cases[i].text), digest);
		assert_hex(digest, sizeof(digest), sha256_cases[i].digest);
	}
}

/* "The Galois/Counter Mode of Operation", test case 14: a zero key, nonce and block. */
static void test_aead_vector(void **state)
{
	(void)state;
	uint8_t key[CRYPTO_AEAD_KEY_SIZE] = { 0 }, nonce[CRYPTO_AEAD_NONCE_SIZE] = { 0 };
	uint8_t plain[16] = { 0 }, out[32];

	assert_int_equal(crypto_aead_seal(key, nonce, span_of(plain, 16), SPAN_NONE, out), 0);
	assert_hex(out, 32, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
}

static void test_aead_refuses_changes(void **state)
{
	(void)state;
	uint8_t key[CRYPTO_AEAD_KEY_SIZE], nonce[CRYPTO_AEAD_NONCE_SIZE],
		sealed[5 + CRYPTO_AEAD_TAG_SIZE], out[5];

	crypto_random(key, sizeof(key));
	crypto_random(nonce, sizeof(nonce));
	assert_int_equal(crypto_aead_seal(key, nonce, SPAN("hello"), SPAN("about"), sealed), 0);
	assert_true(
		crypto_aead_open(key, nonce, span_of(sealed, sizeof(sealed)), SPAN("about"), out));
	assert_memory_equal(out, "hello", 5);
	assert_false(
		crypto_aead_open(key, nonce, span_of(sealed, sizeof(sealed)), SPAN("About"), out));
	for (size_t i = 0; i < sizeof(sealed); i++) {
		sealed[i] ^= 1;
		assert_false(crypto_aead_open(key, nonce, span_of(sealed, sizeof(sealed)),
					      SPAN("about"), out));
		sealed[i] ^= 1;
		assert_false(crypto_aead_open(key, nonce, span_of(sealed, i), SPAN("about"), out));
	}
}

static void test_small_ones(void **state)
{
	(void)state;
	uint8_t a[32] = { 0 }, b[32] = { 0 };

	crypto_random(a, sizeof(a));
	assert_memory_not_equal(a, b, sizeof(a));
	crypto_wipe(a, sizeof(a));
	assert_memory_equal(a, b, sizeof(a));
	assert_true(crypto_equal(SPAN("abc"), SPAN("abc")));
	assert_true(crypto_equal(SPAN_NONE, SPAN_NONE));
	assert_false(crypto_equal(SPAN("abc"), SPAN("abd")));
	assert_false(crypto_equal(SPAN("abc"), SPAN("ab")));
	assert_true(span_starts_with(span_str(crypto_version()), SPAN("AWS-LC ")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),      cmocka_unit_test(test_hmac),
		cmocka_unit_test(test_aead_vector), cmocka_unit_test(test_aead_refuses_changes),
		cmocka_unit_test(test_small_ones),
	};

	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
