/* The client's side, towards https origins: verification and its words; our own server on the other
 * end once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"

static struct certificate root, other_root, intermediate;
static struct pair pair;
static char root_pem[4096], other_pem[4096];
static struct span root_text, other_text;

static int make_roots(void **state)
{
	(void)state;
	crypto_start();
	certificate_make(&root,
			 &(struct certificate_recipe){ .common_name = "root",
						       .is_ca = true,
						       .until_s = NOW_S + 4000 * (int64_t)DAY_S });
	certificate_make(&other_root,
			 &(struct certificate_recipe){ .common_name = "root",
						       .is_ca = true,
						       .until_s = NOW_S + 4000 * (int64_t)DAY_S });
	certificate_make(&intermediate,
			 &(struct certificate_recipe){ .common_name = "intermediate",
						       .is_ca = true,
						       .issuer = &root,
						       .until_s = NOW_S + 4000 * (int64_t)DAY_S });
	root_text = certificate_pem(&root, root_pem, sizeof(root_pem));
	other_text = certificate_pem(&other_root, other_pem, sizeof(other_pem));
	return 0;
}

static int free_roots(void **state)
{
	(void)state;
	certificate_free(&root);
	certificate_free(&other_root);
	certificate_free(&intermediate);
	return 0;
}

static int fresh_pair(void **state)
{
	(void)state;
	pair = (struct pair){ 0 };
	return 0;
}

static struct tls_policy *client_policy(const struct span *roots, size_t count)
{
	struct tls_client_policy_config config = {
		.roots = roots, .root_count = count, .alpn = { SPAN("http/1.1") }, .alpn_count = 1
	};
	struct tls_policy *policy;

	assert_int_equal(tls_client_policy_new(&config, &policy), 0);
	return policy;
}

/* ---- Verification ---------------------------------------------------------------------------- */

static const struct verify_case {
	const char *why;
	struct certificate_recipe leaf; /* issuer NULL: self-signed */
	const struct certificate *issuer;
	const char *verify_name;
	const char *verify_ip;
	const struct span *anchor;
	bool no_intermediate;
	const char *word; /* NULL: fine */
	int alert;
} verify_cases[] = {
	{ "by root", { .dns = "a.example" }, &root, "a.example", NULL, &root_text, false, NULL, 0 },
	{ "by intermediate",
	  { .dns = "a.example" },
	  &intermediate,
	  "A.example",
	  NULL,
	  &root_text,
	  false,
	  NULL,
	  0 },
	{ "RSA",
	  { .type = CRYPTO_KEY_RSA, .dns = "a.example" },
	  &root,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  NULL,
	  0 },
	{ "wildcard",
	  { .dns = "*.b.example" },
	  &root,
	  "a.b.example",
	  NULL,
	  &root_text,
	  false,
	  NULL,
	  0 },
	{ "wildcard is one label",
	  { .dns = "*.b.example" },
	  &root,
	  "c.a.b.example",
	  NULL,
	  &root_text,
	  false,
	  "name",
	  42 },
	{ "address",
	  { .ip = "\x7f\0\0\1" },
	  &root,
	  NULL,
	  "\x7f\0\0\1",
	  &root_text,
	  false,
	  NULL,
	  0 },
	{ "another address",
	  { .ip = "\x7f\0\0\1" },
	  &root,
	  NULL,
	  "\x7f\0\0\2",
	  &root_text,
	  false,
	  "name",
	  42 },
	{ "a name is no address",
	  { .dns = "127.0.0.1" },
	  &root,
	  NULL,
	  "\x7f\0\0\1",
	  &root_text,
	  false,
	  "name",
	  42 },
	{ "another name",
	  { .dns = "a.example" },
	  &root,
	  "b.example",
	  NULL,
	  &root_text,
	  false,
	  "name",
	  42 },
	{ "the common name is no name",
	  { .common_name = "a.example" },
	  &root,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  "name",
	  42 },
	{ "expired",
	  { .dns = "a.example", .until_s = NOW_S - 1 },
	  &root,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  "expired",
	  45 },
	{ "not yet valid",
	  { .dns = "a.example", .from_s = NOW_S + 60 },
	  &root,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  "not-yet-valid",
	  45 },
	{ "until this very second",
	  { .dns = "a.example", .until_s = NOW_S + 1 },
	  &root,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  NULL,
	  0 },
	{ "no intermediate",
	  { .dns = "a.example" },
	  &intermediate,
	  "a.example",
	  NULL,
	  &root_text,
	  true,
	  "untrusted",
	  48 },
	{ "another root of the same name",
	  { .dns = "a.example" },
	  &root,
	  "a.example",
	  NULL,
	  &other_text,
	  false,
	  "untrusted",
	  51 },
	{ "self-signed",
	  { .dns = "a.example" },
	  NULL,
	  "a.example",
	  NULL,
	  &root_text,
	  false,
	  "untrusted",
	  48 },
	{ "no anchor at all",
	  { .dns = "a.example" },
	  &root,
	  "a.example",
	  NULL,
	  NULL,
	  false,
	  "untrusted",
	  48 },
};

static void serve(const struct certificate *leaf, const struct certificate *issuer,
		  SSL_CTX **ret_library)
{
	CRYPTO_BUFFER *chain[2] = {
		CRYPTO_BUFFER_new((const uint8_t *)leaf->der.ptr, leaf->der.len, NULL), NULL
	};

	if (issuer)
		chain[1] =
			CRYPTO_BUFFER_new((const uint8_t *)issuer->der.ptr, issuer->der.len, NULL);
	*ret_library = peer_library();
	pair.peer = peer_new(*ret_library, true);
	assert_true(SSL_set_chain_and_key(pair.peer, chain, issuer ? 2 : 1,
					  crypto_key_native(leaf->key), NULL));
	CRYPTO_BUFFER_free(chain[0]);
	CRYPTO_BUFFER_free(chain[1]);
}

static void run_verify(const struct verify_case *expected, uint16_t version, size_t chunk)
{
	struct certificate_recipe recipe = expected->leaf;
	struct tls_client_config config = { .server_name = span_str(expected->verify_name),
					    .verify_name = span_str(expected->verify_name) };
	struct tls_policy *policy = client_policy(expected->anchor, expected->anchor ? 1 : 0);
	struct certificate leaf;
	struct tls_failure failure;
	SSL_CTX *library;
	int outcome;

	recipe.issuer = expected->issuer;
	certificate_make(&leaf, &recipe);
	serve(&leaf,
	      expected->no_intermediate || expected->issuer != &intermediate ? NULL : &intermediate,
	      &library);
	SSL_set_max_proto_version(pair.peer, version);
	pair.chunk = pair.room = chunk;
	if (expected->verify_ip) {
		memcpy(config.verify_address, expected->verify_ip, 4);
		config.verify_address_len = 4;
	}
	assert_int_equal(tls_client_new(policy, &config, &pair.session), 0);
	tls_policy_free(policy);
	outcome = pair_handshake(&pair);
	tls_session_failure(pair.session, &failure);
	if (strcmp(tls_reason_word(failure.reason), expected->word ? expected->word : "none") !=
		    0 ||
	    outcome != (expected->word ? TLS_FAILED : 0))
		fail_msg("%s: %d %s (%s)", expected->why, outcome, tls_reason_word(failure.reason),
			 failure.text);
	if (expected->word && failure.alert != expected->alert)
		fail_msg("%s: alert %d", expected->why, failure.alert);
	if (outcome == 0)
		pair_write_all(&pair, SPAN("GET /"));
	if (outcome == 0 && chunk == 0) {
		char buf[16];
		size_t len;

		/* The origin's tickets are before it, and are not kept. */
		assert_int_equal(pair_peer_read(&pair, buf, sizeof(buf)), 5);
		assert_int_equal(SSL_write(pair.peer, "200", 3), 3);
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
		assert_int_equal(len, 3);
	}
	pair_free(&pair);
	SSL_CTX_free(library);
	certificate_free(&leaf);
}

static void test_verification(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(verify_cases); i++) {
		run_verify(&verify_cases[i], TLS1_3_VERSION, 0);
		run_verify(&verify_cases[i], TLS1_2_VERSION, 0);
	}
	run_verify(&verify_cases[1], TLS1_3_VERSION, 1);
	run_verify(&verify_cases[1], TLS1_2_VERSION, 1);
}

/* An anchor need not be a root: an operator's `ca FILE` with the origin's own certificate. */
static void test_leaf_as_anchor(void **state)
{
	struct tls_client_config config = { .verify_name = SPAN("a.example") };
	static char pem[4096];
	struct certificate leaf;
	struct span anchor;
	struct tls_policy *policy;
	SSL_CTX *library;

	(void)state;
	certificate_make(&leaf,
			 &(struct certificate_recipe){ .dns = "a.example", .issuer = &other_root });
	anchor = certificate_pem(&leaf, pem, sizeof(pem));
	policy = client_policy(&anchor, 1);
	serve(&leaf, NULL, &library);
	assert_int_equal(tls_client_new(policy, &config, &pair.session), 0);
	assert_int_equal(pair_handshake(&pair), 0);
	pair_free(&pair);
	tls_policy_free(policy);
	SSL_CTX_free(library);
	certificate_free(&leaf);
}

static void test_roots(void **state)
{
	struct span texts[2] = { SPAN("# nothing\n"), SPAN("") };
	struct tls_client_policy_config config = { .roots = texts, .root_count = 2 };
	static char mixed[16384], pem[4096];
	struct writer out = writer_of(mixed, sizeof(mixed));
	struct tls_policy *policy = NULL;

	(void)state;
	assert_int_equal(tls_client_policy_new(&config, &policy), TLS_POLICY_NO_ROOTS);
	/* One that is garbage between two that are fine, and text around them. */
	write_str(&out, "a comment\n");
	write_span(&out, certificate_pem(&intermediate, pem, sizeof(pem)));
	write_str(&out, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\n");
	write_str(&out, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n\n");
	write_span(&out, root_text);
	texts[1] = writer_done(&out);
	run_verify(&(struct verify_case){ .why = "behind garbage",
					  .leaf = { .dns = "a.example" },
					  .issuer = &root,
					  .verify_name = "a.example",
					  .anchor = &texts[1] },
		   TLS1_3_VERSION, 0);
	for (size_t len = 0; len < writer_done(&out).len; len += 7) {
		struct span part = span_of(mixed, len);

		config.roots = &part;
		config.root_count = 1;
		if (tls_client_policy_new(&config, &policy) == 0)
			tls_policy_free(policy);
	}
}

static void test_config(void **state)
{
	struct tls_policy *policy = client_policy(&root_text, 1);
	struct tls_client_config config = { .server_name = SPAN("a.example") };

	(void)state;
	assert_int_equal(tls_client_new(policy, &config, &pair.session), -EINVAL);
	config.verify_name = SPAN("a.example");
	config.server_name = SPAN("a\0b");
	assert_int_equal(tls_client_new(policy, &config, &pair.session), -EINVAL);
	tls_policy_free(policy);
}

/* ---- Other endings --------------------------------------------------------------------------- */

static void test_endings(void **state)
{
	struct tls_policy *policy = client_policy(&root_text, 1);
	struct tls_client_config config = { .server_name = SPAN("a.example"),
					    .verify_name = SPAN("a.example") };
	struct certificate leaf;
	struct tls_failure failure;
	SSL_CTX *library;

	(void)state;
	certificate_make(&leaf,
			 &(struct certificate_recipe){ .dns = "a.example", .issuer = &root });
	/* An origin that speaks no TLS. */
	serve(&leaf, NULL, &library);
	assert_int_equal(tls_client_new(policy, &config, &pair.session), 0);
	memcpy(pair.in, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	pair.in_len = 28;
	while (pair_handshake_once(&pair) == TLS_WANT_INPUT)
		;
	tls_session_failure(pair.session, &failure);
	assert_int_equal(pair.outcome, TLS_FAILED);
	assert_true(failure.reason == TLS_REASON_PROTOCOL || failure.reason == TLS_REASON_VERSION);
	pair_free(&pair);
	SSL_CTX_free(library);
	/* One that is too old. */
	serve(&leaf, NULL, &library);
	SSL_set_max_proto_version(pair.peer, TLS1_1_VERSION);
	SSL_set_min_proto_version(pair.peer, TLS1_1_VERSION);
	assert_int_equal(tls_client_new(policy, &config, &pair.session), 0);
	assert_int_equal(pair_handshake(&pair), -1);
	pair_take(&pair);
	assert_int_equal(pair_handshake_once(&pair), TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_ALERT);
	assert_int_equal(failure.alert, TLS_ALERT_PROTOCOL_VERSION);
	pair_free(&pair);
	SSL_CTX_free(library);
	certificate_free(&leaf);
	tls_policy_free(policy);
}

/* A client certificate, asked of a keyholder: TLS 1.3, and never 1.2. */
static void test_client_certificate(void **state)
{
	struct tls_policy *policy = client_policy(&root_text, 1);
	struct certificate leaf, ours;
	struct tls_credential *credential;
	SSL_CTX *library;

	(void)state;
	certificate_make(&leaf,
			 &(struct certificate_recipe){ .dns = "a.example", .issuer = &root });
	certificate_make(&ours,
			 &(struct certificate_recipe){ .common_name = "gateway", .issuer = &root });
	credential = certificate_credential(&ours, NULL);
	struct tls_client_config config = { .verify_name = SPAN("a.example"),
					    .credential = credential };

	for (int tls12 = 0; tls12 < 2; tls12++) {
		serve(&leaf, NULL, &library);
		SSL_set_verify(pair.peer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		SSL_set_session_id_context(pair.peer, (const uint8_t *)"x", 1);
		X509_STORE_add_cert(SSL_CTX_get_cert_store(library), root.x509);
		X509_VERIFY_PARAM_set_time_posix(SSL_get0_param(pair.peer), NOW_S);
		SSL_set_max_proto_version(pair.peer, tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
		pair.key = ours.key;
		assert_int_equal(tls_client_new(policy, &config, &pair.session), 0);
		assert_int_equal(pair_handshake(&pair), tls12 ? -1 : 0);
		assert_int_equal(pair.signature_count, tls12 ? 0 : 1);
		if (!tls12)
			assert_true(pair.asked.is_client && pair.asked.is_tls13);
		pair_free(&pair);
		SSL_CTX_free(library);
	}
	tls_credential_free(credential);
	certificate_free(&leaf);
	certificate_free(&ours);
	tls_policy_free(policy);
}

/* Both ends ours. */
static void test_ours_to_ours(void **state)
{
	struct tls_policy_config server_config = { .id = 1,
						   .alpn = { SPAN("http/1.1") },
						   .alpn_count = 1 };
	struct tls_client_config config = { .server_name = SPAN("a.example"),
					    .verify_name = SPAN("a.example") };
	struct tls_policy *client_side = client_policy(&root_text, 1), *server_side;
	struct tls_session *client, *server;
	static char to_server[20000], to_client[20000], scratch[TLS_HELLO_MESSAGE_MAX];
	struct tls_wire client_wire = { .out = to_server,
					.out_size = sizeof(to_server),
					.now_s = NOW_S };
	struct tls_wire server_wire = { .out = to_client,
					.out_size = sizeof(to_client),
					.now_s = NOW_S };
	struct tls_session_facts facts;
	struct tls_credential *credential;
	struct certificate leaf;
	struct tls_hello hello;
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	char message[256], buf[16];
	struct writer out = writer_of(message, sizeof(message));
	size_t len;

	(void)state;
	certificate_make(&leaf,
			 &(struct certificate_recipe){ .dns = "a.example", .issuer = &root });
	credential = certificate_credential(&leaf, &root);
	assert_int_equal(tls_policy_new(&server_config, &server_side), 0);
	assert_int_equal(tls_policy_id(server_side), 1);
	assert_int_equal(tls_client_new(client_side, &config, &client), 0);
	assert_int_equal(tls_session_handshake(client, &client_wire), TLS_WANT_INPUT);
	assert_int_equal(tls_hello_parse(span_of(to_server, client_wire.out_len), scratch, &hello),
			 0);
	assert_true(span_equal(tls_hello_name(&hello), SPAN("a.example")));
	assert_int_equal(tls_server_new(server_side, credential, &hello, NOW_S, &server), 0);
	server_wire.in = span_of(to_server, client_wire.out_len);
	assert_int_equal(tls_session_handshake(server, &server_wire), TLS_WANT_SIGNATURE);
	for (int i = 0; i < 64; i++)
		write_byte(&out, ' ');
	write_span(&out, SPAN("TLS 1.3, server CertificateVerify\0"));
	write_span(&out, tls_session_sign_request(server)->transcript_hash);
	assert_int_equal(crypto_key_sign(leaf.key, tls_session_sign_request(server)->scheme,
					 writer_done(&out), signature, &len),
			 0);
	tls_session_sign_answer(server, span_of(signature, len));
	assert_int_equal(tls_session_handshake(server, &server_wire), TLS_WANT_INPUT);
	client_wire.out_len = 0;
	client_wire.in = span_of(to_client, server_wire.out_len);
	assert_int_equal(tls_session_handshake(client, &client_wire), 0);
	assert_int_equal(tls_session_write(client, &client_wire, SPAN("GET /"), 0, &len), 0);
	server_wire.in = span_of(to_server, client_wire.out_len);
	assert_int_equal(tls_session_handshake(server, &server_wire), 0);
	assert_int_equal(tls_session_read(server, &server_wire, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, 5);
	tls_session_get_facts(client, &facts);
	assert_string_equal(facts.group, "X25519MLKEM768");
	assert_true(span_equal(facts.alpn, SPAN("http/1.1")));
	tls_session_free(client);
	tls_session_free(server);
	tls_credential_free(credential);
	tls_policy_free(client_side);
	tls_policy_free(server_side);
	certificate_free(&leaf);
}

#define TEST(function) cmocka_unit_test_setup(function, fresh_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_verification), TEST(test_leaf_as_anchor), TEST(test_roots),
		TEST(test_config),       TEST(test_endings),        TEST(test_client_certificate),
		TEST(test_ours_to_ours),
	};

	return cmocka_run_group_tests(tests, make_roots, free_roots);
}
