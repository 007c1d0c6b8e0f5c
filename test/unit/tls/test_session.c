/* The server's side against the library's plain client: suites, signatures, room, tickets, ALPN,
 * floods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"

static struct certificate certificates[3];
static struct tls_credential *credentials[3];
static struct tls_ticket_keys tickets;
static struct pair pair;

static int make_certificates(void **state)
{
	uint8_t random[TLS_TICKET_KEY_RANDOM];

	(void)state;
	crypto_start();
	for (int type = 0; type < 3; type++) {
		certificate_make(&certificates[type],
				 &(struct certificate_recipe){ .type = (enum crypto_key_type)type,
							       .dns = "a.example" });
		credentials[type] = certificate_credential(&certificates[type], NULL);
		assert_int_equal(tls_credential_key_type(credentials[type]), type);
	}
	crypto_random(random, sizeof(random));
	tls_ticket_keys_rotate(&tickets, NOW_S, 0, random);
	return 0;
}

static int free_certificates(void **state)
{
	(void)state;
	for (int type = 0; type < 3; type++) {
		certificate_free(&certificates[type]);
		tls_credential_free(credentials[type]);
	}
	return 0;
}

static struct tls_policy *policy_new(uint64_t id, bool tls13_only)
{
	struct tls_policy_config config = { .id = id,
					    .tls13_only = tls13_only,
					    .alpn = { SPAN("http/1.1") },
					    .alpn_count = 1,
					    .tickets = &tickets };
	struct tls_policy *policy;

	assert_int_equal(tls_policy_new(&config, &policy), 0);
	return policy;
}

/* A handshake of the usual kind; SSL_CTX by the caller. Returns the outcome. */
static int shake(SSL_CTX *library, struct tls_policy *policy, enum crypto_key_type type,
		 const char *name, SSL_SESSION *ticket)
{
	pair.peer = peer_new(library, false);
	pair.key = certificates[type].key;
	if (name)
		SSL_set_tlsext_host_name(pair.peer, name);
	if (ticket)
		SSL_set_session(pair.peer, ticket);
	pair_serve(&pair, policy, credentials[type]);
	return pair_handshake(&pair);
}

/* ---- Versions, suites, groups ---------------------------------------------------------------- */

static const struct suite_case {
	enum crypto_key_type type;
	uint16_t version; /* the client's most */
	const char *suites, *groups;
	const char *ret_version, *ret_cipher, *ret_group;
} suite_cases[] = {
	{ CRYPTO_KEY_P256, TLS1_3_VERSION, NULL, "X25519MLKEM768:X25519", "TLSv1.3", NULL,
	  "X25519MLKEM768" },
	{ CRYPTO_KEY_P256, TLS1_3_VERSION, NULL, "X25519", "TLSv1.3", NULL, "X25519" },
	{ CRYPTO_KEY_P384, TLS1_3_VERSION, NULL, "P-256", "TLSv1.3", NULL, "P-256" },
	{ CRYPTO_KEY_RSA, TLS1_3_VERSION, NULL, "P-384", "TLSv1.3", NULL, "P-384" },
	/* its key share is for P-384: asked again for X25519 */
	{ CRYPTO_KEY_P256, TLS1_3_VERSION, NULL, "P-384:X25519", "TLSv1.3", NULL, "X25519" },
	{ CRYPTO_KEY_P256, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", "X25519:P-256",
	  "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "X25519" },
	{ CRYPTO_KEY_P256, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", "P-256", "TLSv1.2",
	  "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "P-256" },
	{ CRYPTO_KEY_P384, TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", "P-384", "TLSv1.2",
	  "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "P-384" },
	{ CRYPTO_KEY_RSA, TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", "X25519", "TLSv1.2",
	  "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "X25519" },
	{ CRYPTO_KEY_RSA, TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", "X25519", "TLSv1.2",
	  "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "X25519" },
	{ CRYPTO_KEY_RSA, TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", "P-256", "TLSv1.2",
	  "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "P-256" },
	/* the client's order among equals, AES-256 last */
	{ CRYPTO_KEY_P256, TLS1_2_VERSION,
	  "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-"
	  "SHA256",
	  "P-256", "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "P-256" },
};

static void assert_echo(void)
{
	char buf[64];
	size_t len;
	int outcome;

	assert_int_equal(SSL_write(pair.peer, "ping", 4), 4);
	do
		outcome = pair_read(&pair, buf, sizeof(buf), &len);
	while (outcome == TLS_WANT_INPUT && pair.in_len);
	assert_int_equal(outcome, 0);
	assert_true(span_equal(span_of(buf, len), SPAN("ping")));
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_WANT_INPUT);
	pair_write_all(&pair, SPAN("pong"));
	assert_int_equal(pair_peer_read(&pair, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "pong", 4);
}

static void run_suite(const struct suite_case *expected, size_t room, size_t chunk)
{
	SSL_CTX *library = peer_library();
	struct tls_policy *policy = policy_new(1, false);
	struct tls_session_facts facts;

	SSL_CTX_set_max_proto_version(library, expected->version);
	assert_true(SSL_CTX_set1_groups_list(library, expected->groups));
	if (expected->suites)
		assert_true(SSL_CTX_set_strict_cipher_list(library, expected->suites));
	pair.room = room;
	pair.chunk = chunk;
	pair.wait_once = true;
	assert_int_equal(shake(library, policy, expected->type, "a.example", NULL), 0);
	/* A policy and a credential may go while sessions run. */
	tls_policy_free(policy);
	tls_session_get_facts(pair.session, &facts);
	assert_string_equal(facts.version, expected->ret_version);
	assert_string_equal(facts.group, expected->ret_group);
	if (expected->ret_cipher)
		assert_string_equal(facts.cipher, expected->ret_cipher);
	assert_int_equal(facts.is_tls13, expected->version == TLS1_3_VERSION);
	assert_false(facts.is_resumed);
	assert_int_equal(facts.alpn.len, 0);
	assert_int_equal(pair.signature_count, 1);
	assert_memory_equal(pair.asked.key_hash,
			    tls_credential_key_hash(credentials[expected->type]), 32);
	assert_false(pair.asked.is_client);
	assert_echo();
	pair_free(&pair);
	SSL_CTX_free(library);
}

static void test_suites(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(suite_cases); i++)
		run_suite(&suite_cases[i], 0, 0);
}

/* One byte of room, or of input, or both, at each call. */
static void test_little_room(void **state)
{
	static const struct {
		size_t room, chunk;
	} cases[] = { { 1, 0 }, { 0, 1 }, { 1, 1 }, { 7, 3 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		run_suite(&suite_cases[0], cases[i].room, cases[i].chunk);
		run_suite(&suite_cases[4], cases[i].room, cases[i].chunk);
		run_suite(&suite_cases[8], cases[i].room, cases[i].chunk);
	}
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void test_signature_refused(void **state)
{
	static const uint16_t versions[] = { TLS1_3_VERSION, TLS1_2_VERSION };
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = peer_library();
	struct tls_failure failure;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		SSL_CTX_set_max_proto_version(library, versions[i]);
		pair.peer = peer_new(library, false);
		pair_serve(&pair, policy, credentials[0]);
		assert_int_equal(pair_handshake(&pair), TLS_FAILED);
		tls_session_failure(pair.session, &failure);
		assert_int_equal(failure.reason, TLS_REASON_SIGNATURE);
		assert_int_equal(failure.alert, TLS_ALERT_INTERNAL_ERROR);
		assert_int_equal(SSL_do_handshake(pair.peer), -1);
		assert_int_equal(pair_peer_alert(), TLS_ALERT_INTERNAL_ERROR);
		assert_int_equal(pair_handshake_once(&pair), TLS_FAILED);
		pair_free(&pair);
	}
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

static void test_version(void **state)
{
	struct tls_policy *policy = policy_new(1, true);
	SSL_CTX *library = peer_library();
	struct tls_failure failure;

	(void)state;
	SSL_CTX_set_max_proto_version(library, TLS1_2_VERSION);
	assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, NULL, NULL), TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_VERSION);
	assert_int_equal(failure.alert, TLS_ALERT_PROTOCOL_VERSION);
	assert_int_equal(SSL_do_handshake(pair.peer), -1);
	assert_int_equal(pair_peer_alert(), TLS_ALERT_PROTOCOL_VERSION);
	pair_free(&pair);
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

static void test_old_versions_and_suites(void **state)
{
	static const struct {
		uint16_t least, most;
		const char *suites;
		enum tls_reason reason;
	} cases[] = {
		{ TLS1_1_VERSION, TLS1_1_VERSION, NULL, TLS_REASON_VERSION },
		{ TLS1_2_VERSION, TLS1_2_VERSION, "AES128-GCM-SHA256", TLS_REASON_CIPHER },
		{ TLS1_2_VERSION, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", TLS_REASON_CIPHER },
		/* an RSA suite with an ECDSA certificate */
		{ TLS1_2_VERSION, TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256",
		  TLS_REASON_CIPHER },
	};
	struct tls_policy *policy = policy_new(1, false);
	struct tls_failure failure;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		SSL_CTX *library = peer_library();

		SSL_CTX_set_min_proto_version(library, cases[i].least);
		SSL_CTX_set_max_proto_version(library, cases[i].most);
		if (cases[i].suites)
			assert_true(SSL_CTX_set_strict_cipher_list(library, cases[i].suites));
		assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, NULL, NULL), TLS_FAILED);
		tls_session_failure(pair.session, &failure);
		assert_int_equal(failure.reason, cases[i].reason);
		assert_true(failure.alert > 0);
		pair_free(&pair);
		SSL_CTX_free(library);
	}
	tls_policy_free(policy);
}

static void test_alpn(void **state)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = peer_library();
	struct tls_failure failure;
	struct tls_session_facts facts;

	(void)state;
	SSL_CTX_set_alpn_protos(library, (const uint8_t *)"\x02h2\x08http/1.1", 12);
	assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, NULL, NULL), 0);
	tls_session_get_facts(pair.session, &facts);
	assert_true(span_equal(facts.alpn, SPAN("http/1.1")));
	pair_free(&pair);
	SSL_CTX_set_alpn_protos(library, (const uint8_t *)"\x02h2", 3);
	assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, NULL, NULL), TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_ALPN);
	assert_int_equal(failure.alert, TLS_ALERT_NO_APPLICATION_PROTOCOL);
	pair_free(&pair);
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

/* ---- Data ------------------------------------------------------------------------------------ */

static void begin(uint16_t version)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = peer_library();

	SSL_CTX_set_max_proto_version(library, version);
	assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, "a.example", NULL), 0);
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

static void test_write_sizes(void **state)
{
	static const size_t rooms[] = { 1, 5, 100, 1049, 1050, 3000, 16384, 16406, 16407, 70000 };
	static char sent[150000], got[150000];

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 7 ^ i >> 8);
	for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
		size_t len = rooms[i] < 100 ? 20000 : sizeof(sent);

		begin(i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
		pair.room = rooms[i];
		pair_write_all(&pair, span_of(sent, len));
		memset(got, 0, sizeof(got));
		assert_int_equal(pair_peer_read(&pair, got, sizeof(got)), len);
		assert_memory_equal(sent, got, len);
		pair_free(&pair);
	}
}

static void test_record_max(void **state)
{
	static char bytes[5000], got[5000];
	size_t taken;

	(void)state;
	begin(TLS1_3_VERSION);
	assert_int_equal(pair_write(&pair, SPAN_NONE, 0, &taken), 0); /* the ticket */
	assert_int_equal(SSL_read(pair.peer, got, sizeof(got)), -1);
	assert_int_equal(pair_write(&pair, span_of(bytes, sizeof(bytes)), 1300, &taken), 0);
	assert_int_equal(taken, sizeof(bytes));
	assert_int_equal(SSL_read(pair.peer, got, sizeof(got)), 1300);
	assert_int_equal(SSL_read(pair.peer, got, sizeof(got)), 1300);
	assert_int_equal(SSL_read(pair.peer, got, sizeof(got)), 1300);
	assert_int_equal(SSL_read(pair.peer, got, sizeof(got)), 1100);
	pair_free(&pair);
}

/* A wire with something in it already is not filled with a crumb of a record. */
static void test_full_wire(void **state)
{
	static char out[2000], bytes[4000];
	struct tls_wire wire = {
		.out = out, .out_len = 1500, .out_size = sizeof(out), .now_s = NOW_S
	};
	size_t taken;

	(void)state;
	begin(TLS1_2_VERSION);
	assert_int_equal(
		tls_session_write(pair.session, &wire, span_of(bytes, sizeof(bytes)), 0, &taken),
		TLS_WANT_ROOM);
	assert_int_equal(taken, 0);
	assert_int_equal(wire.out_len, 1500);
	assert_int_equal(tls_session_write(pair.session, &wire, span_of(bytes, 300), 0, &taken), 0);
	assert_int_equal(taken, 300);
	pair_free(&pair);
}

static void test_read_sizes(void **state)
{
	static const size_t sizes[] = { 1, 3, 1000, 16384, 65536 };
	static char sent[100000], got[100000];

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 5);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		size_t want = sizes[i] < 100 ? 5000 : sizeof(sent), done = 0;

		begin(TLS1_3_VERSION);
		for (size_t at = 0; at < want; at += 5000)
			assert_int_equal(SSL_write(pair.peer, sent + at, 5000), 5000);
		pair.chunk = i % 2 ? 777 : 0;
		while (done < want) {
			size_t len;
			int outcome = pair_read(&pair, got + done, sizes[i], &len);

			assert_true(outcome == 0 ? len > 0 : outcome == TLS_WANT_INPUT && len == 0);
			if (outcome == TLS_WANT_INPUT)
				assert_false(tls_session_has_pending(pair.session));
			done += len;
		}
		assert_memory_equal(sent, got, want);
		assert_false(tls_session_has_pending(pair.session));
		pair_free(&pair);
	}
}

static void test_pending(void **state)
{
	char buf[4];
	size_t len;

	(void)state;
	begin(TLS1_3_VERSION);
	SSL_write(pair.peer, "12345678", 8);
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
	assert_int_equal(pair.in_len, 0);
	assert_true(tls_session_has_pending(pair.session));
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, 4);
	assert_false(tls_session_has_pending(pair.session));
	pair_free(&pair);
}

/* Data and the end in one packet: the end is told as something that waits, and then itself. */
static void test_end_behind_data(void **state)
{
	static const char torn[] = "\x17\x03\x03\x00\x20"
				   "sealed by nobody, 32 bytes long.";
	char buf[64];
	size_t len;

	(void)state;
	for (int is_torn = 0; is_torn < 2; is_torn++) {
		begin(TLS1_3_VERSION);
		SSL_write(pair.peer, "data", 4);
		if (is_torn)
			BIO_write(SSL_get_wbio(pair.peer), torn, sizeof(torn) - 1);
		else
			SSL_shutdown(pair.peer);
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
		assert_int_equal(len, 4);
		assert_int_equal(pair.in_len, 0);
		assert_true(tls_session_has_pending(pair.session));
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len),
				 is_torn ? TLS_FAILED : TLS_CLOSED);
		assert_false(tls_session_has_pending(pair.session));
		pair_free(&pair);
	}
}

static void test_close(void **state)
{
	static const size_t rooms[] = { 0, 1, 10 };
	static char bytes[3000], got[4000];
	char buf[16];
	size_t len, taken;
	int outcome;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
		begin(i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
		/* Theirs, behind data. */
		SSL_write(pair.peer, "bye", 3);
		assert_int_equal(SSL_shutdown(pair.peer), 0);
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
		assert_int_equal(len, 3);
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_CLOSED);
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_CLOSED);
		/* Ours, behind a record whose rest is still inside. */
		pair.room = rooms[i];
		outcome = pair_write(&pair, span_of(bytes, sizeof(bytes)), 0, &taken);
		assert_int_equal(outcome, rooms[i] ? TLS_WANT_ROOM : 0);
		while (taken == 0)
			(void)pair_write(&pair, span_of(bytes, sizeof(bytes)), 0, &taken);
		assert_int_equal(taken, sizeof(bytes));
		while ((outcome = pair_close(&pair)) != 0)
			assert_int_equal(outcome, TLS_WANT_ROOM);
		assert_int_equal(pair_peer_read(&pair, got, sizeof(got)), sizeof(bytes));
		assert_int_equal(SSL_get_shutdown(pair.peer) & SSL_RECEIVED_SHUTDOWN,
				 SSL_RECEIVED_SHUTDOWN);
		assert_int_equal(pair_close(&pair), 0);
		pair_free(&pair);
	}
}

/* ---- Bad bytes ------------------------------------------------------------------------------- */

static void test_corrupt_record(void **state)
{
	struct tls_failure failure;
	char buf[64];
	size_t len;

	(void)state;
	begin(TLS1_3_VERSION);
	SSL_write(pair.peer, "first", 5);
	SSL_write(pair.peer, "second", 6);
	pair_take(&pair);
	pair.in[pair.in_len - 1] ^= 1;
	/* What came before it is read, then the failure is told. */
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, 5);
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_PROTOCOL);
	assert_int_equal(failure.alert, 20); /* bad_record_mac */
	assert_true(strlen(failure.text) > 0);
	assert_int_equal(pair_write(&pair, SPAN("x"), 0, &len), TLS_FAILED);
	assert_int_equal(pair_close(&pair), TLS_FAILED);
	pair_free(&pair);
}

static void test_alert_from_peer(void **state)
{
	struct tls_failure failure;
	char buf[64];
	size_t len;

	(void)state;
	begin(TLS1_3_VERSION);
	SSL_send_fatal_alert(pair.peer, TLS_ALERT_INTERNAL_ERROR);
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_ALERT);
	assert_int_equal(failure.alert, TLS_ALERT_INTERNAL_ERROR);
	assert_string_equal(tls_reason_word(failure.reason), "alert");
	pair_free(&pair);
}

/* What comes instead of the client's Finished in TLS 1.3, where all records ought to be sealed. */
static const struct clear_case {
	const char *bytes;
	size_t len;
	enum tls_reason reason;
	int alert; /* that came */
} clear_cases[] = {
	{ "\x15\x03\x03\x00\x02\x02\x30", 7, TLS_REASON_ALERT, 48 },
	{ "\x15\x03\x03\x00\x02\x02\x2a", 7, TLS_REASON_ALERT, 42 },
	/* behind a ChangeCipherSpec, as of a client that minds middleboxes */
	{ "\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x02\x30", 13, TLS_REASON_ALERT, 48 },
	/* no alert: another type, another length, another level */
	{ "\x16\x03\x03\x00\x02\x02\x30", 7, TLS_REASON_PROTOCOL, -1 },
	{ "\x15\x03\x03\x00\x03\x02\x30\x00", 8, TLS_REASON_PROTOCOL, -1 },
	{ "\x15\x03\x03\x00\x02\x03\x30", 7, TLS_REASON_PROTOCOL, -1 },
	{ "\x17\x03\x03\x00\x02\x02\x30", 7, TLS_REASON_PROTOCOL, -1 },
};

static void run_clear(const struct clear_case *test, size_t chunk)
{
	SSL_CTX *library = peer_library();
	struct tls_policy *policy = policy_new(1, false);
	struct tls_failure failure;
	char signature[64] = "";

	pair.peer = peer_new(library, false);
	pair_serve(&pair, policy, credentials[CRYPTO_KEY_P256]);
	assert_int_equal(pair_handshake_once(&pair), TLS_WANT_SIGNATURE);
	tls_session_sign_answer(pair.session, span_of(signature, sizeof(signature)));
	assert_int_equal(pair_handshake_once(&pair), TLS_WANT_INPUT);
	memcpy(pair.in, test->bytes, test->len);
	pair.in_len = test->len;
	pair.chunk = chunk;
	while (pair_handshake_once(&pair) == TLS_WANT_INPUT)
		assert_true(pair.in_len > 0);
	assert_int_equal(pair.outcome, TLS_FAILED);
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, test->reason);
	if (test->alert >= 0)
		assert_int_equal(failure.alert, test->alert);
	pair_free(&pair);
	tls_policy_free(policy);
	SSL_CTX_free(library);
}

static void test_alert_in_the_clear(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(clear_cases); i++)
		for (size_t chunk = 0; chunk < 7; chunk++)
			run_clear(&clear_cases[i], chunk);
}

static void send_key_updates(int count, int kind)
{
	for (int i = 0; i < count; i++) {
		assert_true(SSL_key_update(pair.peer, kind));
		assert_int_equal(SSL_write(pair.peer, "", 0), 0);
	}
}

/* 32 in a row are fine, also again after data; 33 are not. Answers do not pile up. */
static void test_key_update_flood(void **state)
{
	struct tls_failure failure;
	char buf[64];
	size_t len, before;

	(void)state;
	begin(TLS1_3_VERSION);
	for (int round = 0; round < 3; round++) {
		send_key_updates(32, round == 1 ? SSL_KEY_UPDATE_REQUESTED
						: SSL_KEY_UPDATE_NOT_REQUESTED);
		assert_echo();
	}
	send_key_updates(200, SSL_KEY_UPDATE_REQUESTED);
	SSL_write(pair.peer, "x", 1);
	pair_take(&pair);
	before = pair.in_len;
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_FAILED);
	assert_true(pair.in_len > before / 2); /* the rest was not looked at */
	tls_session_failure(pair.session, &failure);
	assert_int_equal(failure.reason, TLS_REASON_FLOOD);
	pair_free(&pair);
}

/* Every byte of the hello changed: what our parser lets pass the library handles, and no such
 * handshake ends well, except that the record's minor version is nobody's business (RFC 8446,
 * 5.1). */
static void test_corrupt_handshake(void **state)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = peer_library();

	(void)state;
	for (size_t at = 0, len = 1; at < len; at++) {
		pair.peer = peer_new(library, false);
		pair.key = certificates[0].key;
		assert_int_equal(SSL_do_handshake(pair.peer), -1);
		pair_take(&pair);
		len = pair.in_len;
		pair.in[at] ^= (char)(1 << at % 8);
		if (tls_hello_parse(span_of(pair.in, pair.in_len), pair.scratch, &pair.hello) ==
		    0) {
			assert_int_equal(tls_server_new(policy, credentials[0], &pair.hello, NOW_S,
							&pair.session),
					 0);
			assert_int_equal(pair_handshake(&pair) == 0, at == 2);
		}
		pair_free(&pair);
	}
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

/* ---- Tickets --------------------------------------------------------------------------------- */

static SSL_SESSION *kept;

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = session;
	return 1;
}

static int64_t client_now_s = NOW_S;

static void client_clock(const SSL *ssl, struct timeval *ret_time)
{
	(void)ssl;
	*ret_time = (struct timeval){ .tv_sec = client_now_s };
}

static SSL_CTX *resuming_library(void)
{
	SSL_CTX *library = peer_library();

	SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(library, keep_ticket);
	SSL_CTX_set_current_time_cb(library, client_clock);
	SSL_CTX_set_session_psk_dhe_timeout(library, 7 * DAY_S);
	return library;
}

/* One connection: whether it was resumed. `kept` is then its own ticket, if it got one. */
static bool connect_once(SSL_CTX *library, struct tls_policy *policy, const char *name,
			 int64_t now_s, SSL_SESSION *ticket)
{
	struct tls_session_facts facts;
	unsigned signatures;

	pair.now_s = now_s;
	client_now_s = now_s;
	assert_int_equal(shake(library, policy, CRYPTO_KEY_P256, name, ticket), 0);
	tls_session_get_facts(pair.session, &facts);
	signatures = pair.signature_count;
	assert_int_equal(signatures, facts.is_resumed ? 0 : 1);
	assert_echo();
	pair_free(&pair);
	return facts.is_resumed;
}

static SSL_SESSION *ticket_of(SSL_CTX *library, struct tls_policy *policy, const char *name,
			      int64_t now_s)
{
	SSL_SESSION *ticket;

	assert_false(connect_once(library, policy, name, now_s, NULL));
	assert_non_null(kept);
	ticket = kept;
	kept = NULL;
	return ticket;
}

static void forget(void)
{
	SSL_SESSION_free(kept);
	kept = NULL;
}

static void test_resumption(void **state)
{
	struct tls_policy *policy = policy_new(1, false), *other = policy_new(2, false),
			  *same = policy_new(1, false);
	SSL_CTX *library = resuming_library();
	SSL_SESSION *ticket = ticket_of(library, policy, "a.example", NOW_S);
	SSL_SESSION *nameless = ticket_of(library, policy, NULL, NOW_S);

	(void)state;
	assert_true(connect_once(library, policy, "a.example", NOW_S, ticket));
	assert_true(connect_once(library, policy, "A.Example", NOW_S, ticket));
	/* Another process or generation with the same policy id and the same table. */
	assert_true(connect_once(library, same, "a.example", NOW_S, ticket));
	/* Bound to policy and name: a full handshake, and it works. */
	assert_false(connect_once(library, other, "a.example", NOW_S, ticket));
	assert_false(connect_once(library, policy, "b.example", NOW_S, ticket));
	assert_false(connect_once(library, policy, NULL, NOW_S, ticket));
	assert_true(connect_once(library, policy, NULL, NOW_S, nameless));
	assert_false(connect_once(library, policy, "a.example", NOW_S, nameless));
	forget();
	SSL_SESSION_free(ticket);
	SSL_SESSION_free(nameless);
	SSL_CTX_free(library);
	tls_policy_free(policy);
	tls_policy_free(other);
	tls_policy_free(same);
}

/* Little room for a resumption as well: seal and open are called once whatever the wire. */
static void test_resumption_byte_by_byte(void **state)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = resuming_library();
	SSL_SESSION *ticket;

	(void)state;
	pair.room = pair.chunk = 1;
	ticket = ticket_of(library, policy, "a.example", NOW_S);
	pair.room = pair.chunk = 1;
	assert_true(connect_once(library, policy, "a.example", NOW_S, ticket));
	forget();
	SSL_SESSION_free(ticket);
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

static void rotate(int64_t now_s, bool replace)
{
	uint8_t random[TLS_TICKET_KEY_RANDOM];

	crypto_random(random, sizeof(random));
	if (replace)
		tls_ticket_keys_replace(&tickets, now_s, 0, random);
	else
		tls_ticket_keys_rotate(&tickets, now_s, 0, random);
}

static void test_ticket_age(void **state)
{
	enum { HOUR_S = 3600 };
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = resuming_library();
	SSL_SESSION *ticket, *renewed;

	(void)state;
	rotate(NOW_S, true);
	ticket = ticket_of(library, policy, "a.example", NOW_S);
	for (int hour = 1; hour <= 7; hour++) {
		rotate(NOW_S + hour * HOUR_S, false);
		assert_true(
			connect_once(library, policy, "a.example", NOW_S + hour * HOUR_S, ticket));
	}
	/* What a resumption renewed ends when the first would have. */
	renewed = kept;
	kept = NULL;
	assert_non_null(renewed);
	assert_true(connect_once(library, policy, "a.example", NOW_S + 8 * HOUR_S - 60, renewed));
	rotate(NOW_S + 8 * HOUR_S, false);
	assert_false(connect_once(library, policy, "a.example", NOW_S + 8 * HOUR_S, ticket));
	assert_false(connect_once(library, policy, "a.example", NOW_S + 8 * HOUR_S, renewed));
	/* ... and the full handshake's own ticket is good again. */
	SSL_SESSION_free(ticket);
	ticket = kept;
	kept = NULL;
	assert_true(connect_once(library, policy, "a.example", NOW_S + 9 * HOUR_S, ticket));
	/* A worker crashed: new keys at once. */
	rotate(NOW_S + 9 * HOUR_S, true);
	assert_false(connect_once(library, policy, "a.example", NOW_S + 9 * HOUR_S, ticket));
	rotate(NOW_S, true);
	forget();
	SSL_SESSION_free(ticket);
	SSL_SESSION_free(renewed);
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

/* No usable key, or TLS 1.2: no ticket, and nothing else is different. */
static void test_no_ticket(void **state)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = resuming_library();

	(void)state;
	tickets.serial++;
	assert_false(connect_once(library, policy, "a.example", NOW_S, NULL));
	tickets.serial--;
	assert_null(kept);
	assert_false(connect_once(library, policy, "a.example", NOW_S + 9 * 3600, NULL));
	assert_null(kept);
	SSL_CTX_set_max_proto_version(library, TLS1_2_VERSION);
	assert_false(connect_once(library, policy, "a.example", NOW_S, NULL));
	assert_true(!kept || !SSL_SESSION_has_ticket(kept));
	forget();
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

/* The serial turns odd between hello and ticket: the key was taken along. */
static void test_ticket_key_goes_meanwhile(void **state)
{
	struct tls_policy *policy = policy_new(1, false);
	SSL_CTX *library = resuming_library();

	(void)state;
	pair.peer = peer_new(library, false);
	pair.key = certificates[0].key;
	pair_serve(&pair, policy, credentials[0]);
	tickets.serial++;
	assert_int_equal(pair_handshake(&pair), 0);
	tickets.serial--;
	pair_free(&pair);
	forget();
	SSL_CTX_free(library);
	tls_policy_free(policy);
}

/* ---- Credentials ----------------------------------------------------------------------------- */

static void test_credentials(void **state)
{
	struct tls_credential *credential = NULL;
	struct span der = certificates[0].der;
	struct span chain[TLS_CHAIN_MAX + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE];

	(void)state;
	assert_int_equal(crypto_key_spki_hash(certificates[0].key, hash), 0);
	assert_memory_equal(hash, tls_credential_key_hash(credentials[0]), sizeof(hash));
	assert_int_equal(tls_credential_new(&der, 0, &credential), TLS_CREDENTIAL_BROKEN);
	for (size_t len = 0; len < der.len; len++) {
		struct span part = span_first(der, len);

		assert_int_equal(tls_credential_new(&part, 1, &credential), TLS_CREDENTIAL_BROKEN);
	}
	for (size_t i = 0; i <= TLS_CHAIN_MAX; i++)
		chain[i] = der;
	assert_int_equal(tls_credential_new(chain, TLS_CHAIN_MAX + 1, &credential),
			 TLS_CREDENTIAL_BROKEN);
	assert_int_equal(tls_credential_new(chain, TLS_CHAIN_MAX, &credential), 0);
	assert_true(tls_credential_fits(credential, &(struct tls_hello){ .can_ecdsa_p256 = true }));
	assert_false(tls_credential_fits(credential, &(struct tls_hello){ .can_rsa = true }));
	tls_credential_free(credential);
	tls_credential_free(NULL);
}

/* What a failed test left behind is nobody else's. */
static int fresh_pair(void **state)
{
	(void)state;
	pair = (struct pair){ 0 };
	return 0;
}

#define TEST(function) cmocka_unit_test_setup(function, fresh_pair)

static int credential_outcome(EVP_PKEY *key)
{
	X509 *x509 = X509_new();
	struct tls_credential *credential = NULL;
	uint8_t *der = NULL;
	struct span chain;
	int outcome;

	ASN1_TIME_set_posix(X509_getm_notBefore(x509), NOW_S);
	ASN1_TIME_set_posix(X509_getm_notAfter(x509), NOW_S + DAY_S);
	assert_true(X509_set_pubkey(x509, key) && X509_sign(x509, key, EVP_sha256()));
	chain.len = (size_t)i2d_X509(x509, &der);
	chain.ptr = (const char *)der;
	outcome = tls_credential_new(&chain, 1, &credential);
	OPENSSL_free(der);
	X509_free(x509);
	EVP_PKEY_free(key);
	return outcome;
}

static void test_unsupported_keys(void **state)
{
	static const int curves[] = { NID_secp521r1, NID_secp256k1 };
	BIGNUM *exponent = BN_new();
	RSA *rsa = RSA_new();
	EVP_PKEY *key;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
		EC_KEY *curve = EC_KEY_new_by_curve_name(curves[i]);

		assert_true(EC_KEY_generate_key(curve));
		key = EVP_PKEY_new();
		EVP_PKEY_assign_EC_KEY(key, curve);
		assert_int_equal(credential_outcome(key), TLS_CREDENTIAL_UNSUPPORTED);
	}
	BN_set_word(exponent, RSA_F4);
	assert_true(RSA_generate_key_ex(rsa, 1024, exponent, NULL));
	key = EVP_PKEY_new();
	EVP_PKEY_assign_RSA(key, rsa);
	assert_int_equal(credential_outcome(key), TLS_CREDENTIAL_UNSUPPORTED);
	BN_free(exponent);
}

/* Small records: no call reads more than 256 of them, and nothing is lost. */
static void test_many_small_records(void **state)
{
	static char buf[5000];
	size_t len, total = 0;

	(void)state;
	begin(TLS1_3_VERSION);
	for (int i = 0; i < 1000; i++)
		SSL_write(pair.peer, "x", 1);
	for (int call = 0; call < 4; call++) {
		assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), 0);
		assert_true(len > 0 && len <= 256);
		total += len;
	}
	assert_int_equal(total, 1000);
	assert_int_equal(pair_read(&pair, buf, sizeof(buf), &len), TLS_WANT_INPUT);
	pair_free(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_suites),
		TEST(test_little_room),
		TEST(test_signature_refused),
		TEST(test_version),
		TEST(test_old_versions_and_suites),
		TEST(test_alpn),
		TEST(test_write_sizes),
		TEST(test_record_max),
		TEST(test_full_wire),
		TEST(test_read_sizes),
		TEST(test_pending),
		TEST(test_end_behind_data),
		TEST(test_close),
		TEST(test_corrupt_record),
		TEST(test_alert_from_peer),
		TEST(test_alert_in_the_clear),
		TEST(test_key_update_flood),
		TEST(test_corrupt_handshake),
		TEST(test_resumption),
		TEST(test_resumption_byte_by_byte),
		TEST(test_ticket_age),
		TEST(test_no_ticket),
		TEST(test_ticket_key_goes_meanwhile),
		TEST(test_credentials),
		TEST(test_unsupported_keys),
		TEST(test_many_small_records),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
