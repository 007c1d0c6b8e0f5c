/* libcrypto on the secret heap: a program of its own, since the hooks must come before the library's first
 * allocation and stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "keys/keys.h"
#include "os/os.h"

enum { KEY_COUNT = 100 };

static struct keys_heap *heap;
static void *map;
static size_t map_size;

static size_t used(void)
{
	struct keys_heap_use use;

	keys_heap_get_use(heap, &use);
	return use.used;
}

/* Keys of all kinds fit as promised, sign, and everything comes back. */
static void test_keys_live_in_it(void **state)
{
	static struct crypto_key *keys[KEY_COUNT];
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	size_t len, before;

	(void)state;
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_RSA, &keys[0]), 0);
	assert_int_equal(
		crypto_key_sign(keys[0], CRYPTO_SCHEME_RSA_PSS_SHA256, SPAN("x"), signature, &len),
		0);
	crypto_key_free(keys[0]);
	before = used();
	for (int i = 0; i < KEY_COUNT; i++) {
		assert_int_equal(crypto_key_generate(i % 25 == 0 ? CRYPTO_KEY_RSA : CRYPTO_KEY_P256,
						     &keys[i]),
				 0);
		assert_int_equal(crypto_key_sign(keys[i],
						 i % 25 == 0 ? CRYPTO_SCHEME_RSA_PSS_SHA256
							     : CRYPTO_SCHEME_ECDSA_P256_SHA256,
						 SPAN("x"), signature, &len),
				 0);
	}
	assert_true(used() > before);
	assert_true((used() - before) / KEY_COUNT < 16 * 1024);
	for (int i = 0; i < KEY_COUNT; i++)
		crypto_key_free(keys[i]);
	assert_int_equal(used(), before);
}

/* The private scalar is in the map while the key lives, and nowhere in it afterwards. */
static void test_wiped(void **state)
{
	struct crypto_key *key = NULL;
	uint8_t der[CRYPTO_KEY_TEXT_MAX], scalar[32];
	struct writer out = writer_of(der, sizeof(der));
	struct keys_heap_use use;

	(void)state;
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	assert_int_equal(crypto_key_write_der(key, &out), 0);
	/* RFC 5915: OCTET STRING of 32 bytes right behind version 1. */
	struct span whole = writer_done(&out);
	size_t at = span_find(whole, SPAN("\x02\x01\x01\x04\x20"));
	assert_true(at + 5 + 32 <= whole.len);
	/* The library keeps a scalar as 64-bit words, lowest first: the bytes turned round. */
	for (size_t i = 0; i < 32; i++)
		scalar[i] = (uint8_t)whole.ptr[at + 5 + 31 - i];
	assert_true(memmem(map, map_size, scalar, sizeof(scalar)) != NULL);
	crypto_key_free(key);
	assert_true(memmem(map, map_size, scalar, sizeof(scalar)) == NULL);
	keys_heap_get_use(heap, &use);
	assert_true(use.peak < use.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_live_in_it),
		cmocka_unit_test(test_wiped),
	};
	enum os_secret_kind kind;

	map_size = keys_heap_size_for(KEY_COUNT);
	if (os_secret_map(map_size, &map, &kind) != 0)
		return 1;
	heap = keys_heap_new(map, map_size);
	if (!heap || keys_heap_install(heap) != 0)
		return 1;
	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
