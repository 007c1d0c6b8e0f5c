#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keys/keys.h"

static struct crypto_key *make(struct keys_handle *ret_handle)
{
	struct crypto_key *key = NULL;

	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	*ret_handle = (struct keys_handle){ .usage = KEYS_USAGE_SERVER };
	assert_int_equal(crypto_key_spki_hash(key, ret_handle->spki_hash), 0);
	return key;
}

static void test_add_get_remove(void **state)
{
	struct keys_store *store = NULL;
	struct keys_handle a, b, wrong;

	(void)state;
	assert_int_equal(keys_store_new(0, &store), 0);
	struct crypto_key *key_a = make(&a), *key_b = make(&b);
	assert_null(keys_store_get(store, &a));
	assert_int_equal(keys_store_add(store, &a, key_a, 1), 0);
	assert_int_equal(keys_store_add(store, &b, key_b, 1), 0);
	assert_ptr_equal(keys_store_get(store, &a), key_a);
	assert_ptr_equal(keys_store_get(store, &b), key_b);
	assert_int_equal(keys_store_count(store), 2);
	wrong = a;
	wrong.usage = KEYS_USAGE_CLIENT;
	assert_null(keys_store_get(store, &wrong));
	keys_store_remove(store, &wrong);
	keys_store_remove(store, &a);
	assert_null(keys_store_get(store, &a));
	assert_int_equal(keys_store_count(store), 1);
	/* A key under another's handle is refused, and freed. */
	assert_int_equal(keys_store_add(store, &a, make(&wrong), 1), -EINVAL);
	keys_store_free(store);
	keys_store_free(NULL);
}

static void test_forget(void **state)
{
	struct keys_sign13 request = { .scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256,
				       .transcript_hash =
					       SPAN("01234567890123456789012345678901") };
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	struct keys_store *store = NULL;
	struct keys_handle handles[50];
	size_t len;

	(void)state;
	assert_int_equal(keys_store_new(0, &store), 0);
	keys_store_restrict(store);
	for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
		struct crypto_key *key = make(&handles[i]);
		assert_int_equal(keys_store_allow(store, &handles[i]), 0);
		assert_int_equal(keys_store_add(store, &handles[i], key, 100), 0);
	}
	request.handle = handles[7];
	assert_int_equal(keys_sign13(store, &request, 200, signature, &len), 0);
	assert_int_equal(keys_store_forget(store, 100), 0);
	assert_int_equal(keys_store_forget(store, 150), 49);
	assert_non_null(keys_store_get(store, &handles[7]));
	assert_int_equal(keys_store_count(store), 1);
	/* Forgotten, but still allowed: pull it again. */
	request.handle = handles[8];
	assert_int_equal(keys_sign13(store, &request, 200, signature, &len), KEYS_SIGN_NO_KEY);
	assert_int_equal(keys_store_forget(store, UINT64_MAX), 1);
	keys_store_restrict(store);
	assert_int_equal(keys_sign13(store, &request, 200, signature, &len), KEYS_SIGN_REFUSED);
	keys_store_free(store);
}

static void test_drop_forbidden(void **state)
{
	struct keys_store *store = NULL;
	struct keys_handle handles[3];

	(void)state;
	assert_int_equal(keys_store_new(0, &store), 0);
	keys_store_restrict(store);
	for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
		struct crypto_key *key = make(&handles[i]);

		assert_int_equal(keys_store_add(store, &handles[i], key, 100), 0);
	}
	assert_int_equal(keys_store_allow(store, &handles[1]), 0);
	assert_int_equal(keys_store_drop_forbidden(store), 2);
	assert_int_equal(keys_store_count(store), 1);
	assert_non_null(keys_store_get(store, &handles[1]));
	/* A change of the plan between two that both want a key pulls nothing again. */
	keys_store_restrict(store);
	assert_int_equal(keys_store_allow(store, &handles[1]), 0);
	assert_int_equal(keys_store_drop_forbidden(store), 0);
	assert_non_null(keys_store_get(store, &handles[1]));
	keys_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_get_remove),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_drop_forbidden),
	};

	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
