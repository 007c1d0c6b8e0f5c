#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "fixture.h"

static struct fixture fixture;

static X509 *decode(struct span der)
{
	const uint8_t *at = (const uint8_t *)der.ptr;
	X509 *x509 = d2i_X509(NULL, &at, (long)der.len);

	assert_non_null(x509);
	return x509;
}

static int verify(struct span leaf, bool with_intermediate, int64_t now_s, int purpose,
		  const char *host)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *verification = X509_STORE_CTX_new();
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *x509 = decode(leaf), *intermediate = decode(fixture.intermediate),
	     *root = decode(fixture.root);

	X509_STORE_add_cert(store, root);
	if (with_intermediate)
		sk_X509_push(others, intermediate);
	X509_STORE_CTX_init(verification, store, x509, others);
	X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(verification);
	X509_VERIFY_PARAM_set_time_posix(parameters, now_s);
	X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
	X509_STORE_CTX_set_purpose(verification, purpose);
	if (host)
		X509_VERIFY_PARAM_set1_host(parameters, host, strlen(host));
	int result =
		X509_verify_cert(verification) == 1 ? 0 : X509_STORE_CTX_get_error(verification);
	X509_STORE_CTX_free(verification);
	X509_STORE_free(store);
	sk_X509_free(others);
	X509_free(x509);
	X509_free(intermediate);
	X509_free(root);
	return result;
}

/* The library's own verifier accepts what we build, and refuses what it should. */
static void test_verifies(void **state)
{
	const int64_t day = 86400;

	(void)state;
	assert_int_equal(verify(fixture.leaf, true, NOW_S, X509_PURPOSE_SSL_SERVER, "one.test"), 0);
	assert_int_equal(verify(fixture.leaf, true, NOW_S - 3599, X509_PURPOSE_SSL_SERVER, NULL),
			 0);
	assert_int_equal(verify(fixture.leaf, true, NOW_S - 3601, X509_PURPOSE_SSL_SERVER, NULL),
			 X509_V_ERR_CERT_NOT_YET_VALID);
	assert_int_equal(
		verify(fixture.leaf, true, NOW_S + 30 * day + 1, X509_PURPOSE_SSL_SERVER, NULL),
		X509_V_ERR_CERT_HAS_EXPIRED);
	assert_int_equal(verify(fixture.leaf, true, NOW_S, X509_PURPOSE_SSL_SERVER, "two.test"),
			 X509_V_ERR_HOSTNAME_MISMATCH);
	assert_int_equal(verify(fixture.leaf, true, NOW_S, X509_PURPOSE_SSL_CLIENT, NULL),
			 X509_V_ERR_INVALID_PURPOSE);
	assert_int_equal(verify(fixture.other_leaf, true, NOW_S, X509_PURPOSE_SSL_CLIENT, NULL), 0);
	assert_int_equal(verify(fixture.client_leaf, true, NOW_S, X509_PURPOSE_SSL_CLIENT, NULL),
			 0);
	assert_int_not_equal(verify(fixture.leaf, false, NOW_S, X509_PURPOSE_SSL_SERVER, NULL), 0);
	assert_int_equal(
		verify(fixture.intermediate, true, NOW_S + 364 * day, X509_PURPOSE_ANY, NULL), 0);
}

static void test_constraints(void **state)
{
	X509 *root = decode(fixture.root), *intermediate = decode(fixture.intermediate),
	     *leaf = decode(fixture.leaf);

	(void)state;
	assert_int_equal(X509_get_version(leaf), X509_VERSION_3);
	assert_int_equal(X509_get_pathlen(root), 1);
	assert_int_equal(X509_get_pathlen(intermediate), 0);
	assert_int_equal(X509_get_key_usage(root), X509v3_KU_KEY_CERT_SIGN | X509v3_KU_CRL_SIGN);
	assert_int_equal(X509_get_key_usage(intermediate),
			 X509v3_KU_KEY_CERT_SIGN | X509v3_KU_CRL_SIGN);
	assert_int_equal(X509_get_key_usage(leaf), X509v3_KU_DIGITAL_SIGNATURE);
	assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER);
	assert_int_equal(X509_check_ca(leaf), 0);
	assert_int_equal(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(leaf),
					       X509_get0_subject_key_id(intermediate)),
			 0);
	assert_int_equal(ASN1_STRING_length(X509_get0_serialNumber(leaf)), CERT_SERIAL_SIZE);
	X509_free(root);
	X509_free(intermediate);
	X509_free(leaf);
}

static struct cert_template leaf_template(const struct span *texts, size_t count)
{
	struct cert_template template = { .kind = CERT_TEMPLATE_LEAF, .usage = CERT_USAGE_SERVER };
	struct cert_name *names;

	assert_int_equal(
		cert_names_parse(&fixture.arena, texts, count, &names, &template.name_count, NULL),
		0);
	template.names = names;
	return template;
}

static struct cert_chain facts_of(struct span der)
{
	struct cert_chain facts;
	struct span why;

	assert_int_equal(cert_parse(&fixture.arena, der, &facts, &why), 0);
	return facts;
}

static void test_names_and_serials(void **state)
{
	const struct span long_host =
		SPAN("a123456789012345678901234567890.a123456789012345678901234567890.example");
	const struct span texts[] = { SPAN("*.a.test"), SPAN("127.0.0.1"), SPAN("::1"),
				      SPAN("localhost") };
	struct cert_template template = leaf_template(texts, 4);

	(void)state;
	struct cert_chain facts =
		facts_of(fixture_build(&fixture, &template, fixture.intermediate,
				       fixture.intermediate_key, fixture.leaf_key));
	assert_true(cert_names_equal(facts.names, facts.name_count, template.names,
				     template.name_count));
	assert_true(cert_chain_covers(&facts, SPAN("127.0.0.1")));
	assert_true(cert_chain_covers(&facts, SPAN("b.a.test")));
	/* A name that fits no CN stands alone, and the certificate still verifies. */
	template = leaf_template(&long_host, 1);
	struct span der = fixture_build(&fixture, &template, fixture.intermediate,
					fixture.intermediate_key, fixture.leaf_key);
	facts = facts_of(der);
	assert_true(span_equal(facts.subject, SPAN("(no name)")));
	assert_int_equal(verify(der, true, NOW_S, X509_PURPOSE_SSL_SERVER, long_host.ptr), 0);
	/* Any random bytes make a positive serial of full length. */
	for (int value = 0; value < 256; value++) {
		struct cert_issuer issuer = { fixture.intermediate, fixture.intermediate_key };
		memset(template.serial, value, sizeof(template.serial));
		assert_int_equal(cert_build(&fixture.arena, &template, &issuer,
					    fixture_spki(&fixture, fixture.leaf_key), NOW_S, &der),
				 0);
		facts = facts_of(der);
		assert_int_equal(facts.serial.len, 2 * CERT_SERIAL_SIZE);
		assert_in_range(facts.serial.ptr[0], '4', '7');
	}
}

static void test_lifetimes(void **state)
{
	const struct span name = SPAN("a.test");
	struct cert_template template = leaf_template(&name, 1);

	(void)state;
	template.lifetime_s = 3600;
	struct cert_chain facts =
		facts_of(fixture_build(&fixture, &template, fixture.intermediate,
				       fixture.intermediate_key, fixture.leaf_key));
	assert_int_equal(facts.not_after_s, NOW_S + 3600);
	/* No longer than its issuer. */
	template.lifetime_s = 800 * (int64_t)CERT_DAY_S;
	facts = facts_of(fixture_build(&fixture, &template, fixture.intermediate,
				       fixture.intermediate_key, fixture.leaf_key));
	assert_int_equal(facts.not_after_s, NOW_S + 365 * (int64_t)CERT_DAY_S);
	facts = facts_of(fixture.root);
	assert_int_equal(facts.not_after_s, NOW_S + 3650 * (int64_t)CERT_DAY_S);
	assert_true(span_equal(facts.subject, SPAN("CN=Portcullis local CA test")));
}

static void test_refusals(void **state)
{
	const struct span name = SPAN("a.test");
	struct cert_issuer issuer = { fixture.intermediate, fixture.intermediate_key };
	struct cert_issuer wrong_key = { fixture.intermediate, fixture.leaf_key };
	struct cert_issuer garbage = { SPAN("garbage"), fixture.leaf_key };
	struct cert_template template = leaf_template(&name, 1), bad = template;
	struct span spki = fixture_spki(&fixture, fixture.leaf_key), der;

	(void)state;
	assert_int_equal(cert_build(&fixture.arena, &template, &issuer, spki, NOW_S, &der), 0);
	assert_int_equal(cert_build(&fixture.arena, &template, &wrong_key, spki, NOW_S, &der),
			 -EINVAL);
	assert_int_equal(cert_build(&fixture.arena, &template, &garbage, spki, NOW_S, &der),
			 -EINVAL);
	assert_int_equal(
		cert_build(&fixture.arena, &template, &issuer, SPAN("no key"), NOW_S, &der),
		-EINVAL);
	assert_int_equal(cert_build(&fixture.arena, &template, &issuer,
				    span_first(spki, spki.len - 1), NOW_S, &der),
			 -EINVAL);
	bad.usage = 0;
	assert_int_equal(cert_build(&fixture.arena, &bad, &issuer, spki, NOW_S, &der), -EINVAL);
	bad.usage = 4;
	assert_int_equal(cert_build(&fixture.arena, &bad, &issuer, spki, NOW_S, &der), -EINVAL);
	bad = template;
	bad.name_count = 0;
	assert_int_equal(cert_build(&fixture.arena, &bad, &issuer, spki, NOW_S, &der), -EINVAL);
	bad = template;
	bad.kind = CERT_TEMPLATE_ROOT;
	assert_int_equal(cert_build(&fixture.arena, &bad, &issuer, spki, NOW_S, &der), -EINVAL);
}

static void test_issued_by(void **state)
{
	(void)state;
	assert_true(cert_is_issued_by(fixture.leaf, fixture.intermediate));
	assert_true(cert_is_issued_by(fixture.intermediate, fixture.root));
	assert_true(cert_is_issued_by(fixture.root, fixture.root));
	assert_false(cert_is_issued_by(fixture.leaf, fixture.root));
	assert_false(cert_is_issued_by(fixture.leaf, fixture.leaf));
	assert_false(cert_is_issued_by(fixture.leaf, SPAN_NONE));
	assert_false(cert_is_issued_by(SPAN_NONE, fixture.root));
}

static const struct {
	int64_t time_s;
	const char *text;
} time_cases[] = {
	{ 0, "1970-01-01 00:00:00 UTC" },          { -1, "1969-12-31 23:59:59 UTC" },
	{ 951782400, "2000-02-29 00:00:00 UTC" },  { 1795000000, "2026-11-18 11:06:40 UTC" },
	{ 4102444799, "2099-12-31 23:59:59 UTC" },
};

static void test_times(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(time_cases); i++) {
		char buf[64];
		struct writer out = writer_of(buf, sizeof(buf));

		cert_write_time(time_cases[i].time_s, &out);
		if (!span_equal(writer_done(&out), span_str(time_cases[i].text)))
			fail_msg("%.*s", SPAN_ARG(writer_done(&out)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verifies),
		cmocka_unit_test(test_constraints),
		cmocka_unit_test(test_names_and_serials),
		cmocka_unit_test(test_lifetimes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_issued_by),
		cmocka_unit_test(test_times),
	};

	crypto_start();
	fixture_init(&fixture);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_fini(&fixture);
	return failed;
}
