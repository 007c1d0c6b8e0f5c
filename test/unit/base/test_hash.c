#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Key 00 01 … 0f, input the first N bytes of 00 01 02 …: the vectors of the SipHash paper's appendix
 * (15 bytes) and its reference implementation. */
static const struct {
	size_t len;
	uint64_t hash;
} vectors[] = {
	{ 0, 0x726fdb47dd0e0e31 }, { 1, 0x74f839c593dc67fd },  { 2, 0x0d6c8009d9a94f5a },
	{ 3, 0x85676696d7fb7e2d }, { 7, 0xab0200f58b01d137 },  { 8, 0x93f5f5799a932462 },
	{ 9, 0x9e0082df0ba9e4b0 }, { 15, 0xa129ca6149be45e5 }, { 63, 0x958a324ceb064572 },
};

static void test_siphash(void **state)
{
	uint8_t key[16], input[64];

	(void)state;
	for (uint8_t i = 0; i < sizeof(input); i++)
		input[i] = i;
	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_true(hash_siphash(key, span_of(input, vectors[i].len)) == vectors[i].hash);
	assert_true(hash_siphash(key, SPAN_NONE) == vectors[0].hash);
}

/* Ids are written down (tickets, state files): they may never change. */
static void test_id(void **state)
{
	(void)state;
	assert_true(hash_id(SPAN("site www.example.com")) == 0xb875528e6d47a51f);
	assert_true(hash_id(SPAN_NONE) != 0);
	assert_true(hash_id(SPAN("a")) != hash_id(SPAN("b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
