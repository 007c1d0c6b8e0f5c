#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "crypto/crypto.h"

#define BLOCK(inside) "-----BEGIN X-----\n" inside "-----END X-----\n"

static const struct {
	const char *text;
	int outcome;
	const char *der; /* for outcome 0 */
} cases[] = {
	{ "", CRYPTO_PEM_END, NULL },
	{ "hello\n-----BEGIN X---\n", CRYPTO_PEM_END, NULL },
	{ BLOCK(""), 0, "" },
	{ BLOCK("YWJj\n"), 0, "abc" },
	{ "words around it\r\n-----BEGIN X-----\r\nYWJj\r\n-----END X-----\r\nmore\r\n", 0, "abc" },
	{ "-----BEGIN X-----\nYWJj\n-----END X-----", 0, "abc" },
	{ BLOCK("YW\nJj\n"), 0, "abc" },
	{ BLOCK("YWI=\n"), 0, "ab" },
	{ BLOCK("YQ==\n"), 0, "a" },
	{ BLOCK("YQ=\n"), CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("YQ\n"), CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("Y\n"), CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("YR==\n"), CRYPTO_PEM_BROKEN, NULL }, /* bits left over */
	{ BLOCK("YQ==YQ==\n"), CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("YW!j\n"), CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("====\n"), CRYPTO_PEM_BROKEN, NULL },
	{ "-----BEGIN X-----\nYWJj\n", CRYPTO_PEM_BROKEN, NULL },
	{ "-----BEGIN X-----\nYWJj\n-----END Y-----\n", CRYPTO_PEM_BROKEN, NULL },
	{ BLOCK("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nYWJj\n"), 0, "abc" },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[256];
		struct writer der = writer_of(buf, sizeof(buf));
		struct span text = span_str(cases[i].text);
		struct crypto_pem_block block;

		assert_int_equal(crypto_pem_next(&text, &block, &der), cases[i].outcome);
		if (cases[i].outcome != 0)
			continue;
		assert_true(span_equal(writer_done(&der), span_str(cases[i].der)));
		assert_true(span_equal(block.label, SPAN("X")));
		assert_int_equal(block.is_encrypted, strstr(cases[i].text, "ENCRYPTED") != NULL);
	}
}

/* A block without an end does not swallow the next one. */
static void test_broken_then_whole(void **state)
{
	(void)state;
	struct span text =
		SPAN("-----BEGIN X-----\nYWJj\n-----BEGIN Y-----\nYWJj\n-----END Y-----\n");
	struct crypto_pem_block block;
	char buf[64];
	struct writer der = writer_of(buf, sizeof(buf));

	assert_int_equal(crypto_pem_next(&text, &block, &der), CRYPTO_PEM_BROKEN);
	der = writer_of(buf, sizeof(buf));
	assert_int_equal(crypto_pem_next(&text, &block, &der), 0);
	assert_true(span_equal(block.label, SPAN("Y")));
	assert_true(span_equal(writer_done(&der), SPAN("abc")));
	assert_int_equal(crypto_pem_next(&text, &block, &der), CRYPTO_PEM_END);
}

static void test_round_trip(void **state)
{
	(void)state;
	uint8_t bytes[200];
	char pem[512], back[256];

	crypto_random(bytes, sizeof(bytes));
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		struct writer out = writer_of(pem, sizeof(pem)),
			      der = writer_of(back, sizeof(back));
		struct crypto_pem_block block;

		crypto_pem_write(&out, "X", span_of(bytes, len));
		assert_true(out.ok);
		struct span text = writer_done(&out);
		assert_int_equal(crypto_pem_next(&text, &block, &der), 0);
		assert_true(span_equal(writer_done(&der), span_of(bytes, len)));
	}
}

static void test_prefixes_and_corruptions(void **state)
{
	(void)state;
	static const char text[] = BLOCK("Proc-Type: 4\n\nYWJjZGVmZ2hpag==\n");
	char copy[sizeof(text)], buf[128];
	struct crypto_pem_block block;

	for (size_t len = 0; len < sizeof(text); len++) {
		for (int value = 0; value < 256; value++) {
			struct writer der = writer_of(buf, sizeof(buf));
			memcpy(copy, text, sizeof(text));
			struct span rest = span_of(copy, value ? sizeof(text) - 1 : len);
			if (value)
				copy[len] = (char)value;
			int outcome = crypto_pem_next(&rest, &block, &der);
			assert_in_range(outcome, 0, CRYPTO_PEM_BROKEN);
			assert_true(writer_done(&der).len <= sizeof(text) * 3 / 4);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_broken_then_whole),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_prefixes_and_corruptions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
