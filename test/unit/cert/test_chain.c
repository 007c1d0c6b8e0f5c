#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fixture.h"

/* By openssl, for what cert_build() does not make. */
static const char weak_pem[] = /* RSA-1024 */
	"-----BEGIN CERTIFICATE-----\n"
	"MIICBDCCAW2gAwIBAgIUWRXhmcDo+9Zi+7L+Va+7G3qkb+cwDQYJKoZIhvcNAQEL\n"
	"BQAwFDESMBAGA1UEAwwJd2Vhay50ZXN0MB4XDTI2MTEyMzIyMjUyN1oXDTM2MTEy\n"
	"MDIyMjUyN1owFDESMBAGA1UEAwwJd2Vhay50ZXN0MIGfMA0GCSqGSIb3DQEBAQUA\n"
	"A4GNADCBiQKBgQDRVCjjy02RekIbdI/TotTlx67dKMbxFPt54MW3p3uiHj/HcpsT\n"
	"kwce0SXDQgdhVafz59PGWgiU83TWBXikpmkQQQ+0bniN0U6SPOmQxML1OJO3wnhH\n"
	"U/3sgwQr8VOxNP14LdjSNrEMTAsJyC6tDUlvYwatPOP4o/54DwYXBZHDzwIDAQAB\n"
	"o1MwUTAdBgNVHQ4EFgQUWBMNZpf1ayhekp6SgYS9BM31hQ0wHwYDVR0jBBgwFoAU\n"
	"WBMNZpf1ayhekp6SgYS9BM31hQ0wDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0B\n"
	"AQsFAAOBgQBm3j9Mz4wxNIS44GRhw1QZ9hXTK2a34aD/Y7R9fkDmHTvUSYPwsTfC\n"
	"XuWQuq72ZxTYoX+ikHoYkCSA/qblhBvqWgY0bJDVRRzSlyYGWYl6zl+FTid+H/6V\n"
	"anwT+mafsB6Mm6WdsZD7zTyuIaNDKY0de/xSWZqwb/elQHdI2vqZuQ==\n"
	"-----END CERTIFICATE-----\n";
static const char self_signed_pem[] = /* as `openssl req -x509` does it: CA:TRUE */
	"-----BEGIN CERTIFICATE-----\n"
	"MIICCjCCAbCgAwIBAgIUEtwMUpQVpPk7IWTQtGmcM2IcbZ0wCgYIKoZIzj0EAwIw\n"
	"NzELMAkGA1UEBhMCREUxFDASBgNVBAoMC0V4YW1wbGUgT3JnMRIwEAYDVQQDDAlz\n"
	"ZWxmLnRlc3QwHhcNMjYxMTIzMjIyNTI3WhcNMzYxMTIwMjIyNTI3WjA3MQswCQYD\n"
	"VQQGEwJERTEUMBIGA1UECgwLRXhhbXBsZSBPcmcxEjAQBgNVBAMMCXNlbGYudGVz\n"
	"dDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEWBuu/EdhqV1Lk5pXhn5MaHBN5L\n"
	"BUmWpwC7+WZocs1MXKj7IyHQhBavCpJrUOcmxLlob7FgxRZcp06v3JoUB8qjgZkw\n"
	"gZYwHQYDVR0OBBYEFNqBhcdTb3sToUCVOwfH3iuMz6DnMB8GA1UdIwQYMBaAFNqB\n"
	"hcdTb3sToUCVOwfH3iuMz6DnMA8GA1UdEwEB/wQFMAMBAf8wQwYDVR0RBDwwOoIJ\n"
	"U2VsZi5UZXN0ggsqLnNlbGYudGVzdIcEwAACAYcQIAENuAAAAAAAAAAAAAAAAYEI\n"
	"YUBiLnRlc3QwCgYIKoZIzj0EAwIDSAAwRQIhAKf6yCTB5+/RcHNaAhRt0vopE7/Y\n"
	"AoOVr0m41vLzVBoUAiBU7ZQ00ZOiK2l+D8O7cwZuUY0M1nnOI4jiAPrAczp97g==\n"
	"-----END CERTIFICATE-----\n";
static const char trusted_pem[] =
	"-----BEGIN TRUSTED CERTIFICATE-----\n"
	"MIICCjCCAbCgAwIBAgIUEtwMUpQVpPk7IWTQtGmcM2IcbZ0wCgYIKoZIzj0EAwIw\n"
	"NzELMAkGA1UEBhMCREUxFDASBgNVBAoMC0V4YW1wbGUgT3JnMRIwEAYDVQQDDAlz\n"
	"ZWxmLnRlc3QwHhcNMjYxMTIzMjIyNTI3WhcNMzYxMTIwMjIyNTI3WjA3MQswCQYD\n"
	"VQQGEwJERTEUMBIGA1UECgwLRXhhbXBsZSBPcmcxEjAQBgNVBAMMCXNlbGYudGVz\n"
	"dDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEWBuu/EdhqV1Lk5pXhn5MaHBN5L\n"
	"BUmWpwC7+WZocs1MXKj7IyHQhBavCpJrUOcmxLlob7FgxRZcp06v3JoUB8qjgZkw\n"
	"gZYwHQYDVR0OBBYEFNqBhcdTb3sToUCVOwfH3iuMz6DnMB8GA1UdIwQYMBaAFNqB\n"
	"hcdTb3sToUCVOwfH3iuMz6DnMA8GA1UdEwEB/wQFMAMBAf8wQwYDVR0RBDwwOoIJ\n"
	"U2VsZi5UZXN0ggsqLnNlbGYudGVzdIcEwAACAYcQIAENuAAAAAAAAAAAAAAAAYEI\n"
	"YUBiLnRlc3QwCgYIKoZIzj0EAwIDSAAwRQIhAKf6yCTB5+/RcHNaAhRt0vopE7/Y\n"
	"AoOVr0m41vLzVBoUAiBU7ZQ00ZOiK2l+D8O7cwZuUY0M1nnOI4jiAPrAczp97jAM\n"
	"MAoGCCsGAQUFBwMB\n"
	"-----END TRUSTED CERTIFICATE-----\n";

static struct fixture fixture;

/* Letters name what stands in the file: l leaf, o other leaf, c client leaf, i intermediate, r root, k a key,
 * x a block that decodes to garbage, t one that is cut short, w weak, s self-signed, T trusted. */
static struct span file_of(const char *letters)
{
	enum { SIZE = 64 * 1024 };
	char *buf = arena_alloc(&fixture.arena, SIZE, 1);
	struct writer out = writer_of(buf, SIZE);

	for (; *letters; letters++) {
		switch (*letters) {
		case 'l':
			cert_write_pem(fixture.leaf, &out);
			break;
		case 'o':
			cert_write_pem(fixture.other_leaf, &out);
			break;
		case 'c':
			cert_write_pem(fixture.client_leaf, &out);
			break;
		case 'i':
			cert_write_pem(fixture.intermediate, &out);
			break;
		case 'r':
			cert_write_pem(fixture.root, &out);
			break;
		case 'k':
			assert_int_equal(crypto_key_write_pem(fixture.leaf_key, &out), 0);
			break;
		case 'x':
			cert_write_pem(SPAN("garbage"), &out);
			break;
		case 't':
			write_str(&out, "-----BEGIN CERTIFICATE-----\nMIIB\n");
			break;
		case 'w':
			write_str(&out, weak_pem);
			break;
		case 's':
			write_str(&out, self_signed_pem);
			break;
		case 'T':
			write_str(&out, trusted_pem);
			break;
		default:
			write_str(&out, "words\n");
		}
	}
	assert_true(out.ok);
	return writer_done(&out);
}

static const struct {
	const char *letters;
	int outcome;
	const char *why; /* stands in the sentence */
} cases[] = {
	{ "", CERT_CHAIN_NOT_PEM, "BEGIN CERTIFICATE" },
	{ "?", CERT_CHAIN_NOT_PEM, "not PEM" },
	{ "k", CERT_CHAIN_NO_CERTIFICATE, "swapped" },
	{ "x", CERT_CHAIN_BROKEN, "certificate 1" },
	{ "lx", CERT_CHAIN_BROKEN, "certificate 2" },
	{ "lit", CERT_CHAIN_BROKEN, "certificate 3" },
	{ "T", CERT_CHAIN_BROKEN, "TRUSTED" },
	{ "l", 0, NULL },
	{ "li", 0, NULL },
	{ "lir", 0, NULL },
	{ "?l?i?", 0, NULL },
	{ "kli", 0, NULL },
	{ "o", 0, NULL },
	{ "s", 0, NULL },
	{ "il", CERT_CHAIN_ORDER, "\"CN=one.test\" stands at place 2 and must be first" },
	{ "ril", CERT_CHAIN_ORDER, "place 3" },
	{ "lri", CERT_CHAIN_ORDER,
	  "certificate 3 (\"CN=Portcullis local intermediate test\") issued certificate 1" },
	{ "lr", CERT_CHAIN_ORDER,
	  "did not issue certificate 1 (\"CN=one.test\"), which says its issuer is \"CN=Portcullis "
	  "local intermediate test\"" },
	{ "ls", CERT_CHAIN_ORDER, "did not issue" },
	{ "lii", CERT_CHAIN_ORDER, "certificate 3" },
	{ "lo", CERT_CHAIN_SEVERAL_LEAVES, "2 certificates of servers" },
	{ "lil", CERT_CHAIN_SEVERAL_LEAVES, "certificates of servers" },
	{ "w", CERT_CHAIN_KEY_UNSUPPORTED, "2048" },
	{ "ci", CERT_CHAIN_USAGE, "serverAuth" },
	{ "lirrrrrrrrr", CERT_CHAIN_TOO_LONG, "more than 10" },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cert_chain chain;
		struct span why = SPAN_NONE;
		int outcome =
			cert_chain_parse(&fixture.arena, file_of(cases[i].letters), &chain, &why);

		if (outcome != cases[i].outcome)
			fail_msg("%s: %d %.*s", cases[i].letters, outcome, SPAN_ARG(why));
		if (outcome == 0)
			assert_int_equal(chain.has_private_key,
					 strchr(cases[i].letters, 'k') != NULL);
		else if (span_find(why, span_str(cases[i].why)) == why.len)
			fail_msg("%s: %.*s", cases[i].letters, SPAN_ARG(why));
	}
}

static void test_facts(void **state)
{
	struct cert_chain chain;
	struct span why;
	uint8_t hash[CRYPTO_SHA256_SIZE];

	(void)state;
	assert_int_equal(cert_chain_parse(&fixture.arena, file_of("lir"), &chain, &why), 0);
	assert_int_equal(chain.count, 3);
	assert_true(span_equal(chain.certificates[0], fixture.leaf));
	assert_true(span_equal(chain.certificates[2], fixture.root));
	assert_int_equal(crypto_key_spki_hash(fixture.leaf_key, hash), 0);
	assert_memory_equal(hash, chain.spki_hash, sizeof(hash));
	assert_int_equal(chain.key_type, CRYPTO_KEY_P384);
	assert_int_equal(chain.serial.len, 2 * CERT_SERIAL_SIZE);
	assert_true(span_equal(chain.subject, SPAN("CN=one.test")));
	assert_int_equal(chain.not_before_s, NOW_S - 3600);
	assert_int_equal(chain.not_after_s, NOW_S + 30 * 86400);
	assert_int_equal(chain.chain_not_after_s, chain.not_after_s);
	assert_false(chain.is_self_signed);
	assert_true(cert_chain_covers(&chain, SPAN("ONE.test.")));
	assert_false(cert_chain_covers(&chain, SPAN("two.test")));
}

static void test_self_signed(void **state)
{
	struct cert_chain chain;
	struct span why;

	(void)state;
	assert_int_equal(cert_chain_parse(&fixture.arena, file_of("s"), &chain, &why), 0);
	assert_true(chain.is_self_signed);
	assert_int_equal(chain.name_count, 4); /* not the mail address */
	assert_true(span_equal(chain.subject, SPAN("CN=self.test, O=Example Org, C=DE")));
	assert_true(cert_chain_covers(&chain, SPAN("self.test")));
	assert_true(cert_chain_covers(&chain, SPAN("www.self.test")));
	assert_true(cert_chain_covers(&chain, SPAN("192.0.2.1")));
	assert_true(cert_chain_covers(&chain, SPAN("[2001:db8::1]")));
	assert_false(cert_chain_covers(&chain, SPAN("192.0.2.2")));
}

static void test_validity(void **state)
{
	struct cert_chain chain = { .not_before_s = 1000,
				    .not_after_s = 4000,
				    .chain_not_after_s = 3000 };

	(void)state;
	assert_int_equal(cert_chain_validity(&chain, 999), CERT_NOT_YET_VALID);
	assert_int_equal(cert_chain_validity(&chain, 1000), CERT_VALID);
	assert_int_equal(cert_chain_validity(&chain, 3000), CERT_VALID);
	assert_int_equal(cert_chain_validity(&chain, 3001), CERT_EXPIRED);
	assert_int_equal(cert_renewal_due_s(1000, 4000), 3000);
	assert_int_equal(cert_renewal_due_s(1000, 1000), 1000);
}

static void test_prefixes(void **state)
{
	struct span whole = file_of("l");

	(void)state;
	for (size_t len = 0; len < whole.len; len++) {
		struct cert_chain chain;
		struct span why;
		/* A copy of exactly that size, so that ASan sees a read beyond. */
		char *copy = heap_alloc(len ? len : 1);
		struct arena arena;

		arena_init(&arena, 0);
		memcpy(copy, whole.ptr, len);
		int outcome = cert_chain_parse(&arena, span_of(copy, len), &chain, &why);
		/* Only the last newline may be missing. */
		if (outcome == 0 ? len < whole.len - 1 : outcome < 0)
			fail_msg("%zu: %d", len, outcome);
		heap_free(copy);
		arena_fini(&arena);
	}
}

static void test_corruptions(void **state)
{
	struct span der = fixture.leaf;
	char *copy = heap_alloc(der.len);

	(void)state;
	for (size_t i = 0; i < der.len; i++) {
		struct cert_chain chain;
		struct span why;
		struct arena arena;

		arena_init(&arena, 0);
		memcpy(copy, der.ptr, der.len);
		copy[i] ^= (char)(1 << i % 8);
		assert_true(cert_parse(&arena, span_of(copy, der.len), &chain, &why) >= 0);
		/* Whatever still decodes is not the issuer's work any more. */
		assert_false(cert_is_issued_by(span_of(copy, der.len), fixture.intermediate));
		arena_fini(&arena);
	}
	heap_free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),       cmocka_unit_test(test_facts),
		cmocka_unit_test(test_self_signed), cmocka_unit_test(test_validity),
		cmocka_unit_test(test_prefixes),    cmocka_unit_test(test_corruptions),
	};

	crypto_start();
	fixture_init(&fixture);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_fini(&fixture);
	return failed;
}
