/* A small CA and chains of it, for the tests of cert. */
#pragma once

#include "cert/cert.h"

enum { NOW_S = 1795000000 }; /* a day in 2026 */

struct fixture {
	struct arena arena;
	struct crypto_key *root_key, *intermediate_key, *leaf_key, *other_key;
	struct span root, intermediate, leaf, other_leaf, client_leaf, short_intermediate; /* DER */
};

static struct span fixture_spki(struct fixture *fixture, const struct crypto_key *key)
{
	char *buf = arena_alloc(&fixture->arena, 1024, 1);
	struct writer out = writer_of(buf, 1024);

	assert_int_equal(crypto_key_write_spki(key, &out), 0);
	return writer_done(&out);
}

static struct span fixture_build(struct fixture *fixture, struct cert_template *template,
				 struct span issuer, const struct crypto_key *issuer_key,
				 const struct crypto_key *key)
{
	struct cert_issuer by = { issuer, issuer_key };
	struct span der = SPAN_NONE;

	crypto_random(template->serial, sizeof(template->serial));
	assert_int_equal(
		cert_build(&fixture->arena, template, &by, fixture_spki(fixture, key), NOW_S, &der),
		0);
	return der;
}

static struct span fixture_leaf(struct fixture *fixture, const char *name, unsigned usage,
				const struct crypto_key *key)
{
	struct cert_name *names;
	size_t count;
	struct span text = span_str(name);

	assert_int_equal(cert_names_parse(&fixture->arena, &text, 1, &names, &count, NULL), 0);
	struct cert_template template = {
		.kind = CERT_TEMPLATE_LEAF, .names = names, .name_count = count, .usage = usage
	};
	return fixture_build(fixture, &template, fixture->intermediate, fixture->intermediate_key,
			     key);
}

static void fixture_init(struct fixture *fixture)
{
	struct cert_template root = { .kind = CERT_TEMPLATE_ROOT, .label = SPAN("test") };
	struct cert_template intermediate = { .kind = CERT_TEMPLATE_INTERMEDIATE,
					      .label = SPAN("test") };

	arena_init(&fixture->arena, 0);
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &fixture->root_key), 0);
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &fixture->intermediate_key), 0);
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P384, &fixture->leaf_key), 0);
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_RSA, &fixture->other_key), 0);
	fixture->root =
		fixture_build(fixture, &root, SPAN_NONE, fixture->root_key, fixture->root_key);
	fixture->intermediate = fixture_build(fixture, &intermediate, fixture->root,
					      fixture->root_key, fixture->intermediate_key);
	fixture->leaf = fixture_leaf(fixture, "one.test", CERT_USAGE_SERVER, fixture->leaf_key);
	fixture->other_leaf = fixture_leaf(
		fixture, "two.test", CERT_USAGE_SERVER | CERT_USAGE_CLIENT, fixture->other_key);
	fixture->client_leaf =
		fixture_leaf(fixture, "client.test", CERT_USAGE_CLIENT, fixture->leaf_key);
}

static void fixture_fini(struct fixture *fixture)
{
	crypto_key_free(fixture->root_key);
	crypto_key_free(fixture->intermediate_key);
	crypto_key_free(fixture->leaf_key);
	crypto_key_free(fixture->other_key);
	arena_fini(&fixture->arena);
}
