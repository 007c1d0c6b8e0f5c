/* The keyholder as a process in its sandbox; the test is its supervisor, its worker and its vault. */
#include "child.h"

#include <string.h>
#include <unistd.h>

#include "keys/keys.h"
#include "telemetry/telemetry.h"

enum { HOSTILE_COUNT = 20000, BURST = 64 };

struct scene {
	struct child child;
	struct ipc_channel worker, vault;
	struct crypto_key *key;
	uint8_t hash[32];
	char der[CRYPTO_KEY_TEXT_MAX], spki[1024];
	struct writer der_out, spki_out;
};

static struct scene scene;
static const char transcript[] = "0123456789abcdef0123456789abcdef";

static int set_up(void **state)
{
	struct scene *s = &scene;

	*state = s;
	*s = (struct scene){ .key = NULL };
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &s->key), 0);
	assert_int_equal(crypto_key_spki_hash(s->key, s->hash), 0);
	s->der_out = writer_of(s->der, sizeof(s->der));
	s->spki_out = writer_of(s->spki, sizeof(s->spki));
	assert_int_equal(crypto_key_write_der(s->key, &s->der_out), 0);
	assert_int_equal(crypto_key_write_spki(s->key, &s->spki_out), 0);
	child_begin(&s->child, IPC_KEYHOLDER);
	child_born(&s->child);
	child_link(&s->child, IPC_WORKER, 0, &s->worker);
	child_link(&s->child, IPC_VAULT, 0, &s->vault);
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;

	ipc_channel_close(&s->worker);
	ipc_channel_close(&s->vault);
	child_end(&s->child);
	crypto_key_free(s->key);
	return 0;
}

static void plan(struct scene *s)
{
	child_data(&s->child, 1, s->hash);
	child_commit(&s->child);
}

static void ask(struct scene *s, uint32_t serial)
{
	struct ipc_sign13 body = { .question = { 1, serial },
				   .scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256 };

	memcpy(body.handle, s->hash, sizeof(body.handle));
	assert_int_equal(
		ipc_send(&s->worker, IPC_MESSAGE_sign13, &body, span_of(transcript, 32), NULL, 0),
		0);
	ipc_channel_flush(&s->worker);
}

static void expect_pull(struct scene *s)
{
	struct ipc_message message;

	expect(&s->vault, IPC_MESSAGE_pull_key, &message);
	assert_memory_equal(((const struct ipc_pull_key *)message.body)->handle, s->hash, 32);
	ipc_message_done(&message);
}

static void give(struct scene *s, struct span der)
{
	struct ipc_key body = { .usage = KEYS_USAGE_SERVER };

	memcpy(body.handle, s->hash, sizeof(body.handle));
	assert_int_equal(ipc_send(&s->vault, IPC_MESSAGE_key, &body, der, NULL, 0), 0);
	ipc_channel_flush(&s->vault);
}

static bool is_signature(struct scene *s, struct span signature)
{
	char text[130];
	struct writer out = writer_of(text, sizeof(text));

	for (int i = 0; i < 64; i++)
		write_byte(&out, ' ');
	write_str(&out, "TLS 1.3, server CertificateVerify");
	write_byte(&out, '\0');
	write_span(&out, span_of(transcript, 32));
	assert_true(out.ok);
	return crypto_spki_verify(writer_done(&s->spki_out), CRYPTO_SCHEME_ECDSA_P256_SHA256,
				  writer_done(&out), signature);
}

static void expect_answer(struct scene *s, uint32_t serial, enum ipc_sign_status status,
			  struct ipc_message *ret_message)
{
	const struct ipc_signature *body;

	expect(&s->worker, IPC_MESSAGE_signature, ret_message);
	body = ret_message->body;
	assert_int_equal(body->question.serial, serial);
	assert_int_equal(body->status, status);
}

static void expect_signature(struct scene *s, uint32_t serial, enum ipc_sign_status status)
{
	struct ipc_message message;

	expect_answer(s, serial, status, &message);
	assert_int_equal(is_signature(s, message.tail), status == IPC_SIGN_OK);
	ipc_message_done(&message);
}

/* Without a look at the signature itself. */
static void expect_status(struct scene *s, uint32_t serial, enum ipc_sign_status status)
{
	struct ipc_message message;

	expect_answer(s, serial, status, &message);
	ipc_message_done(&message);
}

static void expect_broken(struct scene *s)
{
	struct ipc_message message;

	expect(&s->child.supervisor, IPC_MESSAGE_broken_life, &message);
	assert_int_equal(((const struct ipc_broken_life *)message.body)->kind, IPC_WORKER);
	ipc_message_done(&message);
}

static void relink(struct scene *s)
{
	ipc_channel_close(&s->worker);
	child_link(&s->child, IPC_WORKER, 0, &s->worker);
}

/* ---- Keys ------------------------------------------------------------------------------------------------- */

/* Its worker has a channel to it from its first plan on (lifecycle); one that were earlier would have nothing of it. */
static void test_without_a_plan_nothing_is_pulled(void **state)
{
	struct scene *s = *state;

	ask(s, 1);
	expect_signature(s, 1, IPC_SIGN_REFUSED);
	expect_nothing(&s->vault);
	plan(s);
	ask(s, 2);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 2, IPC_SIGN_OK);
}

static void test_many_at_once_are_one_pull_and_few_batches(void **state)
{
	struct scene *s = *state;
	const struct telemetry_counters *counters = (const void *)s->child.range->counters;

	plan(s);
	for (uint32_t i = 0; i < BURST; i++)
		ask(s, i);
	expect_pull(s);
	expect_nothing(&s->vault);
	expect_nothing(&s->worker);
	give(s, writer_done(&s->der_out));
	for (uint32_t i = 0; i < BURST; i++)
		expect_signature(s, i, IPC_SIGN_OK);
	assert_int_equal(counters->counters[TELEMETRY_COUNTER_SIGNATURES], BURST);
	assert_true(counters->counters[TELEMETRY_COUNTER_SIGNATURE_BATCHES] < BURST / 2);
	assert_true(s->child.range->secret_memory != 0);
	ask(s, 1000);
	expect_signature(s, 1000, IPC_SIGN_OK);
	expect_nothing(&s->vault);
}

/* Its clock stands still but for what a burst takes, so that all of them fall into one second. */
static void hold_clock(struct scene *s, uint64_t since_ns)
{
	struct ipc_clock_move move = { .monotonic_ns = -(int64_t)(os_now_ns() - since_ns) };

	assert_int_equal(
		ipc_send(&s->child.supervisor, IPC_MESSAGE_clock_move, &move, SPAN_NONE, NULL, 0),
		0);
	child_commit(&s->child);
}

/* One below the limit and at it there are signatures; one above there is none in this second, and in the next again. */
static void test_handshakes_of_a_second(void **state)
{
	struct scene *s = *state;
	const uint64_t *limits =
		((const struct telemetry_counters *)(const void *)s->child.range->counters)->limits;
	uint32_t max = (uint32_t)telemetry_limits[TELEMETRY_LIMIT_HANDSHAKES].value, asked = 1;

	plan(s);
	ask(s, 0);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 0, IPC_SIGN_OK);
	while (asked < max) {
		uint64_t since_ns = os_now_ns();
		uint32_t burst = max - asked < BURST ? max - asked : BURST;

		for (uint32_t i = 0; i < burst; i++)
			ask(s, asked + i);
		for (uint32_t i = 0; i < burst; i++)
			expect_status(s, asked + i, IPC_SIGN_OK);
		asked += burst;
		hold_clock(s, since_ns);
	}
	assert_int_equal(limits[TELEMETRY_LIMIT_HANDSHAKES], 0);
	ask(s, asked);
	expect_signature(s, asked, IPC_SIGN_LIMIT);
	assert_int_equal(limits[TELEMETRY_LIMIT_HANDSHAKES], 1);
	child_move_clock(&s->child, 1);
	child_commit(&s->child);
	ask(s, asked + 1);
	expect_signature(s, asked + 1, IPC_SIGN_OK);
	assert_int_equal(limits[TELEMETRY_LIMIT_HANDSHAKES], 1);
}

static void test_no_such_key(void **state)
{
	struct scene *s = *state;

	plan(s);
	ask(s, 1);
	expect_pull(s);
	give(s, SPAN_NONE);
	expect_signature(s, 1, IPC_SIGN_NO_KEY);
	/* Garbage, and the key of another handle, are no key either. */
	ask(s, 2);
	expect_pull(s);
	give(s, span_first(writer_done(&s->der_out), 20));
	expect_signature(s, 2, IPC_SIGN_NO_KEY);
	assert_true(child_is_alive(&s->child));
}

static void test_the_next_vault_is_asked_again(void **state)
{
	struct scene *s = *state;

	plan(s);
	ask(s, 1);
	ask(s, 2);
	expect_pull(s);
	ipc_channel_close(&s->vault);
	child_link(&s->child, IPC_VAULT, 0, &s->vault);
	expect_pull(s);
	expect_nothing(&s->vault); /* once, whoever waits */
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
	expect_signature(s, 2, IPC_SIGN_OK);
	/* Without a vault the keys that are held serve. */
	ipc_channel_close(&s->vault);
	ask(s, 3);
	expect_signature(s, 3, IPC_SIGN_OK);
}

/* Two workers count their questions alike: an answer that comes late must not be taken for the other's. */
static void test_the_next_worker_gets_no_old_answers(void **state)
{
	struct scene *s = *state;

	plan(s);
	ask(s, 1);
	expect_pull(s);
	relink(s);
	ask(s, 7);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 7, IPC_SIGN_OK);
	expect_nothing(&s->worker);
}

static void test_unused_keys_are_forgotten(void **state)
{
	struct scene *s = *state;

	plan(s);
	ask(s, 1);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
	child_move_clock(&s->child, 3700);
	os_sleep_ms(1500);
	plan(s); /* there is no snapshot in this test: the list of before ended when it settled */
	ask(s, 2);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 2, IPC_SIGN_OK);
}

static void test_keys_of_before_sign_for_a_minute(void **state)
{
	struct scene *s = *state;
	uint8_t other[32] = { 1 };

	plan(s);
	ask(s, 1);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
	child_data(&s->child, 1, other);
	child_commit(&s->child);
	ask(s, 2);
	expect_signature(s, 2, IPC_SIGN_OK);
	child_move_clock(&s->child, 61);
	os_sleep_ms(1500);
	ask(s, 3);
	expect_signature(s, 3, IPC_SIGN_REFUSED);
}

/* A worker may commit first: what the change brings is allowed from `prepare` on. */
static void test_a_new_key_signs_before_the_commit(void **state)
{
	struct scene *s = *state;
	struct ipc_message message;

	child_data(&s->child, 1, s->hash);
	SEND(&s->child.supervisor, prepare, SPAN_NONE, .change = 1);
	expect(&s->child.supervisor, IPC_MESSAGE_prepared, &message);
	ipc_message_done(&message);
	ask(s, 1);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
}

/* ---- A hostile worker ---------------------------------------------------------------------------------------- */

static void test_a_violation_ends_the_sender(void **state)
{
	struct scene *s = *state;
	struct ipc_sign13 body = { .scheme = CRYPTO_SCHEME_ECDSA_P256_SHA256 };

	plan(s);
	memcpy(body.handle, s->hash, sizeof(body.handle));
	assert_int_equal(
		ipc_send(&s->worker, IPC_MESSAGE_sign13, &body, span_of(transcript, 31), NULL, 0),
		0);
	ipc_channel_flush(&s->worker);
	expect_broken(s);
	relink(s);
	ask(s, 1);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
}

static void test_no_message_at_all(void **state)
{
	struct scene *s = *state;
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {
		{ "x", 1 },
		{ "\x28\0\0\0\0\0\0\0", 8 },                  /* sign13, cut short */
		{ "\x2c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16 }, /* key: the vault's to send */
		{ "\xff\xff\xff\xff\0\0\0\0", 8 },
		{ "\x28\0\0\0\xff\xff\xff\xff", 8 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(write(s->worker.watch.fd, rows[i].bytes, rows[i].len),
				 rows[i].len);
		expect_broken(s);
		relink(s);
	}
	assert_true(child_is_alive(&s->child));
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void send_hostile(struct scene *s, uint64_t *seed)
{
	static const uint16_t schemes[] = {
		CRYPTO_SCHEME_ECDSA_P256_SHA256, CRYPTO_SCHEME_RSA_PSS_SHA256, 0x0401, 0, 0xffff,
		CRYPTO_SCHEME_ECDSA_P384_SHA384
	};
	struct ipc_sign13 thirteen = { .question = { 1, 1 },
				       .scheme = schemes[next_random(seed) % 6] };
	struct ipc_sign12 twelve = { .question = { 1, 1 },
				     .scheme = schemes[next_random(seed) % 6] };
	char tail[512];
	size_t len = next_random(seed) % 4 ? 32 : next_random(seed) % 65;
	bool is_13 = next_random(seed) % 2;

	memset(tail, (int)next_random(seed), sizeof(tail));
	memcpy(tail, "\x03\x00\x1d\x20", 4); /* X25519: sometimes with its right length */
	memcpy(thirteen.handle, s->hash, 32);
	memcpy(twelve.handle, s->hash, 32);
	thirteen.usage = twelve.usage =
		(uint16_t)(next_random(seed) % 8 ? 0 : next_random(seed) % 3);
	if (next_random(seed) % 4 == 0)
		thirteen.handle[next_random(seed) % 32] ^= 1, twelve.handle[0] ^= 1;
	if (!is_13)
		len = next_random(seed) % 2 ? 36 : next_random(seed) % 512;
	/* A channel that was closed on us already refuses, or loses it. */
	if (ipc_send(&s->worker, is_13 ? IPC_MESSAGE_sign13 : IPC_MESSAGE_sign12,
		     is_13 ? (const void *)&thirteen : (const void *)&twelve, span_of(tail, len),
		     NULL, 0) == 0)
		ipc_channel_flush(&s->worker);
}

static void drain_answers(struct scene *s, unsigned *ok, unsigned *refused)
{
	struct ipc_message message;
	int outcome;

	while ((outcome = ipc_wait(&s->worker, 0, &message)) == 0) {
		const struct ipc_signature *body = message.body;

		*ok += body->status == IPC_SIGN_OK;
		*refused += body->status != IPC_SIGN_OK;
		assert_int_equal(message.tail.len != 0, body->status == IPC_SIGN_OK);
		ipc_message_done(&message);
	}
	if (outcome == -ETIMEDOUT)
		return;
	relink(s);
	while (ipc_wait(&s->child.supervisor, 0, &message) == 0) {
		assert_int_equal(message.number, IPC_MESSAGE_broken_life);
		ipc_message_done(&message);
	}
}

/* The rules are test_sign's; here: whatever comes, it lives, and an honest worker is served after it. */
static void test_hostile_messages(void **state)
{
	struct scene *s = *state;
	uint64_t seed = 0x9e3779b97f4a7c15;
	struct ipc_message message;
	unsigned ok = 0, refused = 0; /* it depends on the clock how many of either */

	plan(s);
	ask(s, 1);
	expect_pull(s);
	give(s, writer_done(&s->der_out));
	expect_signature(s, 1, IPC_SIGN_OK);
	for (int i = 0; i < HOSTILE_COUNT; i++) {
		send_hostile(s, &seed);
		if (i % 8 == 0)
			drain_answers(s, &ok, &refused);
		/* Between them an honest one: it is signed, or over the limit of a second. */
		if (i % 500 == 0) {
			relink(s);
			ask(s, 5);
			expect(&s->worker, IPC_MESSAGE_signature, &message);
			assert_int_equal(
				((const struct ipc_signature *)message.body)->question.serial, 5);
			ipc_message_done(&message);
		}
	}
	os_sleep_ms(1100); /* the limit of signatures a second */
	relink(s);
	ask(s, 9);
	expect_signature(s, 9, IPC_SIGN_OK);
	while (ipc_wait(&s->child.supervisor, 0, &message) == 0)
		ipc_message_done(&message);
	assert_true(child_is_alive(&s->child));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(test_without_a_plan_nothing_is_pulled),
		CASE(test_many_at_once_are_one_pull_and_few_batches),
		CASE(test_handshakes_of_a_second),
		CASE(test_no_such_key),
		CASE(test_the_next_vault_is_asked_again),
		CASE(test_the_next_worker_gets_no_old_answers),
		CASE(test_unused_keys_are_forgotten),
		CASE(test_keys_of_before_sign_for_a_minute),
		CASE(test_a_new_key_signs_before_the_commit),
		CASE(test_a_violation_ends_the_sender),
		CASE(test_no_message_at_all),
		CASE(test_hostile_messages),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
