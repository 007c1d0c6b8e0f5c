#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "crypto/crypto.h"

/* Keys of no value, made by openssl for this test. */
static const char p256_traditional[] =
	"-----BEGIN EC PARAMETERS-----\n"
	"BggqhkjOPQMBBw==\n"
	"-----END EC PARAMETERS-----\n"
	"-----BEGIN EC PRIVATE KEY-----\n"
	"MHcCAQEEIG/5JRNxaFoFYeyouZNZ+5bHDavc5KoTGZ/oXIAXGU+OoAoGCCqGSM49\n"
	"AwEHoUQDQgAERYG678R2GpXUuTmleGfkxocE3ksFSZanALv5ZmhyzUxcqPsjIdCE\n"
	"Fq8KkmtQ5ybEuWhvsWDFFlynTq/cmhQHyg==\n"
	"-----END EC PRIVATE KEY-----\n";
static const char p256_encrypted[] =
	"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
	"MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiq9IuxtrT5fAICCAAw\n"
	"DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEF5dXn7jwZUeO+SZ91/zMaoEgZC8\n"
	"ptohen/NijOOy2v3Z2VX4ufjuElXbpcKqOj0/bwbhJw4aJyY58SAZOLVAVfnLgTA\n"
	"/kKlqCCcQjE09GT1YMaJiLYYD7qZyYDAB6P+0GW6TULI2pzjznnG5+h8gne/DpUF\n"
	"m1/+1MrKulz2i/m5E7I4qrzd5uh1X6N96d2B2FP/h85LoPXQ8EA4AsgekRmqsio=\n"
	"-----END ENCRYPTED PRIVATE KEY-----\n";
static const char p256_encrypted_traditional[] =
	"-----BEGIN EC PRIVATE KEY-----\n"
	"Proc-Type: 4,ENCRYPTED\n"
	"DEK-Info: AES-128-CBC,2BA2F4FECD01467C15EE5FC20F802E47\n"
	"\n"
	"kVkzdEPD1SVwFr+1VXFumEj5lc+NZ0skXSO/yjAk9haI1kjIcc8MNCMn4HP5ncah\n"
	"zJYLK/MkwltgtrXuq8eIGXQbr7nT4J1Qch8edX0VM7OCy2wNXeBph1b+DNXUSI4/\n"
	"IyHQdTzYdCpX45aYeuPxo/RzVo9NDHqp57nGShE194Y=\n"
	"-----END EC PRIVATE KEY-----\n";
static const char ed25519[] = "-----BEGIN PRIVATE KEY-----\n"
			      "MC4CAQAwBQYDK2VwBCIEIDF1V8QIYYxibREc6Iy8i6NTFptrK21Q6sJKUmKfv3ZA\n"
			      "-----END PRIVATE KEY-----\n";
static const char p521[] = "-----BEGIN PRIVATE KEY-----\n"
			   "MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAUWy31oG1kYpiKsG2\n"
			   "DDIM31Yz9j/4d1kOFI+fSUyfn/p0wDywp2KXXlwRTSYhEjzFGhSaC0hMkktH1GK1\n"
			   "6XZT1WGhgYkDgYYABAHtJBXkdkR/H4EXSJJj7xn5TqJ5iryNZIFrHVLgkmYGPk3D\n"
			   "kuH060wHkyz1k3/j3FB3orNEAqrjfnNhC/OWqVodmwEtM8ZU8gsjWhkeaXu0+sSX\n"
			   "lpii4G6JUCbm5KKekMeFFMf8YtnCOfk3aF9gpKXehlyJMQCcxyePu6k9hExrdQYR\n"
			   "bQ==\n"
			   "-----END PRIVATE KEY-----\n";
static const char rsa_1024[] = "-----BEGIN RSA PRIVATE KEY-----\n"
			       "MIICXAIBAAKBgQDRVCjjy02RekIbdI/TotTlx67dKMbxFPt54MW3p3uiHj/HcpsT\n"
			       "kwce0SXDQgdhVafz59PGWgiU83TWBXikpmkQQQ+0bniN0U6SPOmQxML1OJO3wnhH\n"
			       "U/3sgwQr8VOxNP14LdjSNrEMTAsJyC6tDUlvYwatPOP4o/54DwYXBZHDzwIDAQAB\n"
			       "AoGAAwCeBYZo+mkygYpOdc6kFxeiHnHzSInwgXMD4vp3/39HkujF6KX3OC3vyLkt\n"
			       "ueusmQb+Np4b+Wb0ig1SCaqJXzermbjp4Cj/nU/q6O2NvZp1ROsjighFJJhup8Zk\n"
			       "WERedyZUUP626ALqbd2DIUjzS925cetNcaZhASuWxhgLkmECQQDpigcTzHtK6umZ\n"
			       "zjmOcHhV9+p1DziOMrIGEv+eHF4Q4PIs4Lq3zC1A5fCuw1E6HuGd0VJqKapQOkGh\n"
			       "BTyyUMnjAkEA5XYL/Ri3U0ArfOstsLF966FrJhGW/qpP2KcKRQWUTvEUfmQfYpj2\n"
			       "g2Y/Pi/FeJdEgU+YtpPrPlh9E5n+mITyJQJAJLqLgGahYVfuozzWunsfwc16tyxM\n"
			       "pbh9XQ0x3Gjztk3aaIpzcyKOX22KW8HmDXD75Lkd8ApbecCfv7Y2JIkmJwJAX6PY\n"
			       "U2Hd54EznxmXLbKNPY1GT9O9D+CE71SQXzx4GH87f4LT4hDHjvUrHwxiTmUeVJeM\n"
			       "m20D/DR9zZG+IGwpUQJBAKJxJ/yQeERUUAUQbRBSWFkWs9/xP1iw0k25RlQY/46s\n"
			       "pMTKbhsaetyw2/CS89CZx1lQ2JtNIyYixT68O9sN0OM=\n"
			       "-----END RSA PRIVATE KEY-----\n";
static const char rsa_2048_traditional[] =
	"-----BEGIN RSA PRIVATE KEY-----\n"
	"MIIEpAIBAAKCAQEA0D4WQhCsE0C2iJDYm0ELBwUqKfKaJAHxi/QVk/QN4QChbpbP\n"
	"gp9KITXcfYPz3scrUbpjSCfvAAHj+ypiLZA630FAKOIStVt62zzC81wnkmRACeBm\n"
	"hVUnf4BMVRtM0+YDIq4vo3DRuj+4xhLTtpHUegjgPGxtszlyIan4+mcq6FgdATWD\n"
	"O1+tmgwishSoxBgVglcggDX2RMQUHhTYgQ4vQ82HTmMb8v0H2fGLXJDRVFD1wqrg\n"
	"muDb7bQBpJPWJJFEH94n4EHA4bqY7mr+Jpft/6OQxMg5NnJ6ch1Uxej9bPYSSQm9\n"
	"Yu+2m33a7oaGZkjbkmzpRvd9Y29peW64w4nwIwIDAQABAoIBAEbWT/ECRd64vT8A\n"
	"csaBXjRxo9GoJpoIFThD/BEbzJrVAZUidQ1cjTV14n7J46vNOaWwDzTM7MamXfyj\n"
	"Asm4DebDBgXCPZX2u/iXF0P8fbOVKZmSfZ1uhaSgKpcq1bwhOsDR2v+wkY9XPM4Y\n"
	"Om+Y9NvcaBb11W1JpdLgxIK9lIF7VlNeR1ZOpyS4cUZ1ugX92+/Val0XrXksZIUg\n"
	"EU2M98SO39Lpr5KXoHP+O079ImirEXJBoDi4+CQF0UE0LvDI0wfuAE5ebDHrO38W\n"
	"dWpx3gElAwaU8o/PfS+WhARWYmVnfrhg282bB2FhDobfVbXA/QpwxRvKBd+/Vn7J\n"
	"3EfH2g0CgYEA9y8iBG3QAfvl7Y4HSp8mYCERLT5qZnMctTVaAM21x4PY58ghlwoa\n"
	"9giJqKGI0rmDgBXGootFx3IDQxt/VZdQvbqz6532QmKScIKKjR2+dofVyiPfYc3W\n"
	"OnP23tdDj1P7HfWKWfdkj3GwWy9Q/4uPxZe4PMTYWg09Y7Vk83IQ490CgYEA16tn\n"
	"x4fXXbkgwkUkFOb0Id1vyukq5+EclrSirVUCDFZ4NFHtUasqHU421+TI4OTus75v\n"
	"4MSIShS4qKMG6nkOTLrCmNrf9wsHRt2Gsd6g3GkfVUhqMSKYzhiZcjgWg3zGqJuM\n"
	"P1cj0Oz+jOnF5eBnpkt7BC0Es7BBZUxs53ey4/8CgYEAoARZJzjXoZEqpgB94+bn\n"
	"du+xKPLw+mWmvgBNxZtmBETsVBAQ/rBCB+g7BXmdE52Y7YArWOqEP7slNXpFkmkk\n"
	"kc6dzvgxhYQ+fKtlejk5JY6F7hgO8kfIWYrc1CHS0KRzOk/MQrWO2fWlT0JwUx5L\n"
	"8oRndp+P16weg7/YHGlJWdkCgYBYqTBqyJ9y+i5Lbx0cMq3eViglJKHs3ZBhLDVM\n"
	"SIwlAk88Qwnq7xDLJ2JIctdaDQNMhVd88Y6N1eLsAMlRDx8f0A87w48bAj+llGBR\n"
	"MxKySc0FxFVTicODxn0ehYxL1bndisSnLW2d8C/dQiWHES/LH3CdENzD+guIV1jV\n"
	"91FlhQKBgQDvOh+sTfRBQ8x6IxPSLP0fVpWgKw82kTa5VsmcdUrnnSPsS5Dpt052\n"
	"TLF/IKdA6HaUkzqg+uXn6/kqrCV/JEqW7w+xVJOHTdfSEr/34pCABwhe0KHwNasJ\n"
	"9KkASTuzSefHcPlJqxvHZf6BZtOGJOSr9duKwfyHyh2C2sdurHR1cQ==\n"
	"-----END RSA PRIVATE KEY-----\n";

static const struct {
	const char *name;
	const char *pem;
	int outcome;
	enum crypto_key_type type;
	unsigned bits;
} cases[] = {
	{ "empty", "", CRYPTO_KEY_NOT_PEM, 0, 0 },
	{ "a certificate", "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n",
	  CRYPTO_KEY_NOT_PEM, 0, 0 },
	{ "garbage", "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n",
	  CRYPTO_KEY_BROKEN, 0, 0 },
	{ "cut short", "-----BEGIN PRIVATE KEY-----\nYWJj\n", CRYPTO_KEY_BROKEN, 0, 0 },
	{ "P-256, SEC 1", p256_traditional, 0, CRYPTO_KEY_P256, 256 },
	{ "encrypted", p256_encrypted, CRYPTO_KEY_ENCRYPTED, 0, 0 },
	{ "encrypted, RFC 1421", p256_encrypted_traditional, CRYPTO_KEY_ENCRYPTED, 0, 0 },
	{ "Ed25519", ed25519, CRYPTO_KEY_UNSUPPORTED, 0, 0 },
	{ "P-521", p521, CRYPTO_KEY_UNSUPPORTED, 0, 0 },
	{ "RSA-1024", rsa_1024, CRYPTO_KEY_UNSUPPORTED, 0, 0 },
	{ "RSA-2048, PKCS #1", rsa_2048_traditional, 0, CRYPTO_KEY_RSA, 2048 },
	{ "DSA", "-----BEGIN DSA PRIVATE KEY-----\nYWJj\n-----END DSA PRIVATE KEY-----\n",
	  CRYPTO_KEY_UNSUPPORTED, 0, 0 },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct crypto_key *key = NULL;
		int outcome = crypto_key_parse_pem(span_str(cases[i].pem), &key);

		if (outcome != cases[i].outcome)
			fail_msg("%s: %d", cases[i].name, outcome);
		if (outcome != 0) {
			assert_null(key);
			assert_true(strlen(crypto_key_outcome_text(outcome)) > 10);
			continue;
		}
		assert_int_equal(crypto_key_kind(key), cases[i].type);
		assert_int_equal(crypto_key_bits(key), cases[i].bits);
		crypto_key_free(key);
	}
}

static struct span spki_of(const struct crypto_key *key, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);

	assert_int_equal(crypto_key_write_spki(key, &out), 0);
	return writer_done(&out);
}

static void test_round_trips(void **state)
{
	(void)state;
	static const enum crypto_key_type types[] = { CRYPTO_KEY_P256, CRYPTO_KEY_P384,
						      CRYPTO_KEY_RSA };

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		char buf[CRYPTO_KEY_TEXT_MAX], spki_buf[1024];
		uint8_t hash[CRYPTO_SHA256_SIZE], back_hash[CRYPTO_SHA256_SIZE];
		struct crypto_key *key = NULL, *back = NULL;
		enum crypto_key_type type;
		unsigned bits = 0;

		assert_int_equal(crypto_key_generate(types[i], &key), 0);
		assert_int_equal(crypto_key_spki_hash(key, hash), 0);
		for (int as_der = 0; as_der < 2; as_der++) {
			struct writer out = writer_of(buf, sizeof(buf));
			assert_int_equal(as_der ? crypto_key_write_der(key, &out)
						: crypto_key_write_pem(key, &out),
					 0);
			struct span text = writer_done(&out);
			assert_int_equal(as_der ? crypto_key_parse_der(text, &back)
						: crypto_key_parse_pem(text, &back),
					 0);
			assert_int_equal(crypto_key_spki_hash(back, back_hash), 0);
			assert_memory_equal(hash, back_hash, sizeof(hash));
			assert_int_equal(crypto_key_kind(back), types[i]);
			crypto_key_free(back);
		}
		assert_int_equal(
			crypto_spki_inspect(spki_of(key, spki_buf, sizeof(spki_buf)), &type, &bits),
			0);
		assert_int_equal(type, types[i]);
		assert_int_equal(bits, crypto_key_bits(key));
		crypto_key_free(key);
	}
}

static const uint16_t schemes[] = {
	CRYPTO_SCHEME_RSA_PKCS1_SHA256,
	CRYPTO_SCHEME_RSA_PKCS1_SHA384,
	CRYPTO_SCHEME_RSA_PKCS1_SHA512,
	CRYPTO_SCHEME_RSA_PSS_SHA256,
	CRYPTO_SCHEME_RSA_PSS_SHA384,
	CRYPTO_SCHEME_RSA_PSS_SHA512,
	CRYPTO_SCHEME_ECDSA_P256_SHA256,
	CRYPTO_SCHEME_ECDSA_P384_SHA384,
	0x0807,
	0x0201,
	0,
};

static void check_signatures(const struct crypto_key *key)
{
	bool is_rsa = crypto_key_kind(key) == CRYPTO_KEY_RSA;
	char buf[1024];
	struct span spki = spki_of(key, buf, sizeof(buf));

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		uint8_t signature[CRYPTO_SIGNATURE_MAX];
		size_t len = 0;
		bool fits = i < 6 ? is_rsa : i < 8 ? !is_rsa : false;
		int result = crypto_key_sign(key, schemes[i], SPAN("message"), signature, &len);

		assert_int_equal(result, fits ? 0 : -EINVAL);
		if (!fits)
			continue;
		struct span made = span_of(signature, len);
		assert_true(crypto_spki_verify(spki, schemes[i], SPAN("message"), made));
		assert_false(crypto_spki_verify(spki, schemes[i], SPAN("messagf"), made));
		for (size_t k = 0; k < ARRAY_LEN(schemes); k++)
			if (k != i)
				assert_false(crypto_spki_verify(spki, schemes[k], SPAN("message"),
								made));
	}
}

static void test_signatures(void **state)
{
	(void)state;
	struct crypto_key *key = NULL;

	assert_int_equal(crypto_key_parse_pem(span_str(p256_traditional), &key), 0);
	check_signatures(key);
	crypto_key_free(key);
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P384, &key), 0);
	check_signatures(key);
	crypto_key_free(key);
	assert_int_equal(crypto_key_parse_pem(span_str(rsa_2048_traditional), &key), 0);
	check_signatures(key);
	crypto_key_free(key);
}

static void test_prefixes_and_corruptions(void **state)
{
	(void)state;
	struct crypto_key *key = NULL, *other = NULL;
	char der[512], copy[512];
	struct writer out = writer_of(der, sizeof(der));

	assert_int_equal(crypto_key_parse_pem(span_str(p256_traditional), &key), 0);
	assert_int_equal(crypto_key_write_der(key, &out), 0);
	crypto_key_free(key);
	struct span whole = writer_done(&out);
	for (size_t len = 0; len < whole.len; len++)
		assert_int_not_equal(crypto_key_parse_der(span_of(der, len), &other), 0);
	for (size_t i = 0; i < whole.len * 8; i++) {
		memcpy(copy, der, whole.len);
		copy[i / 8] ^= (char)(1 << i % 8);
		if (crypto_key_parse_der(span_of(copy, whole.len), &other) == 0)
			crypto_key_free(other);
	}
	memcpy(copy, der, whole.len);
	copy[whole.len] = 0;
	assert_int_equal(crypto_key_parse_der(span_of(copy, whole.len + 1), &other),
			 CRYPTO_KEY_BROKEN);
}

static void test_no_room(void **state)
{
	(void)state;
	struct crypto_key *key = NULL;
	char buf[64];
	struct writer out = writer_of(buf, sizeof(buf));

	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	assert_int_equal(crypto_key_write_der(key, &out), -ENOSPC);
	crypto_key_free(key);
	crypto_key_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),      cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_signatures), cmocka_unit_test(test_prefixes_and_corruptions),
		cmocka_unit_test(test_no_room),
	};

	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
