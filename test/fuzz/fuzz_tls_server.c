/* The first flight of a client, to a session of ours: what our own parser took goes on to the library.
 * Properties: whole or in pieces it comes to the same outcome and alert; only what was offered is
 * used; what leaves is whole records; and what a session asks of the keyholder keeps the keyholder's
 * rules, whatever a client made it of: no client can have a worker killed for asking. */
#include <stdlib.h>
#include <string.h>

#include "cert/cert.h"
#include "keys/keys.h"
#include "tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_S = 1800000000, INPUT_MAX = 20000 };

static struct keys_store *store;
static struct tls_credential *credential;
static struct tls_policy *policy;
static struct tls_ticket_keys tickets;

struct result {
	int hello, outcome, alert;
	enum tls_reason reason;
	unsigned signatures;
};

static void make_credential(struct arena *arena)
{
	struct span texts[] = { SPAN("localhost") };
	struct cert_template root = { .kind = CERT_TEMPLATE_ROOT, .label = SPAN("fuzz") };
	struct cert_template leaf = { .kind = CERT_TEMPLATE_LEAF, .usage = CERT_USAGE_SERVER };
	struct crypto_key *root_key = NULL, *key = NULL;
	struct keys_handle handle = { 0 };
	char spki[512], root_spki[512];
	struct writer out = writer_of(spki, sizeof(spki));
	struct writer root_out = writer_of(root_spki, sizeof(root_spki));
	struct cert_issuer issuer = { 0 };
	struct cert_name *names;
	struct span chain[2];

	MUST(crypto_key_generate(CRYPTO_KEY_P256, &root_key) == 0 &&
	     crypto_key_generate(CRYPTO_KEY_P256, &key) == 0);
	MUST(crypto_key_write_spki(key, &out) == 0 &&
	     crypto_key_write_spki(root_key, &root_out) == 0);
	issuer.key = root_key;
	MUST(cert_build(arena, &root, &issuer, writer_done(&root_out), NOW_S, &chain[1]) == 0);
	issuer.certificate = chain[1];
	MUST(cert_names_parse(arena, texts, 1, &names, &leaf.name_count, NULL) == 0);
	leaf.names = names;
	MUST(cert_build(arena, &leaf, &issuer, writer_done(&out), NOW_S, &chain[0]) == 0);
	MUST(tls_credential_new(chain, 2, &credential) == 0);
	MUST(keys_store_new(0, &store) == 0);
	MUST(crypto_key_spki_hash(key, handle.spki_hash) == 0);
	MUST(keys_store_add(store, &handle, key, 1) == 0);
	crypto_key_free(root_key);
}

static void start(void)
{
	static const uint8_t random[TLS_TICKET_KEY_RANDOM] = { 1, 2, 3 };
	struct tls_policy_config config = {
		.id = 7, .alpn = { SPAN("http/1.1") }, .alpn_count = 1, .tickets = &tickets
	};
	struct arena arena;

	arena_init(&arena, 0);
	make_credential(&arena);
	tls_ticket_keys_rotate(&tickets, NOW_S, 0, random);
	MUST(tls_policy_new(&config, &policy) == 0);
	arena_fini(&arena);
}

static void answer(struct tls_session *session)
{
	const struct tls_sign_request *asked = tls_session_sign_request(session);
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	struct keys_handle handle = { .usage = KEYS_USAGE_SERVER };
	size_t len = 0;
	int result;

	MUST(!asked->is_client);
	memcpy(handle.spki_hash, asked->key_hash, sizeof(handle.spki_hash));
	if (asked->is_tls13) {
		struct keys_sign13 request = { handle, asked->scheme, asked->transcript_hash };

		result = keys_sign13(store, &request, 1, signature, &len);
	} else {
		struct keys_sign12 request = { handle, asked->scheme, asked->client_random,
					       asked->server_random, asked->ecdhe_params };

		result = keys_sign12(store, &request, 1, signature, &len);
	}
	MUST(result == 0);
	tls_session_sign_answer(session, span_of(signature, len));
}

/* `out` gathers what leaves, to be looked at as records. */
static void give(struct tls_session *session, struct span bytes, struct writer *out,
		 struct result *ret)
{
	static char room[4096];
	struct tls_wire wire = { .in = bytes, .now_s = NOW_S };

	do {
		const char *before = wire.in.ptr;

		wire.out = room;
		wire.out_len = 0;
		wire.out_size = sizeof(room);
		ret->outcome = tls_session_handshake(session, &wire);
		MUST(ret->outcome >= 0 && wire.in.ptr >= before &&
		     wire.in.ptr + wire.in.len == bytes.ptr + bytes.len);
		MUST(wire.out_len <= sizeof(room));
		write_span(out, span_of(room, wire.out_len));
		if (ret->outcome == TLS_WANT_SIGNATURE) {
			ret->signatures++;
			MUST(ret->signatures == 1);
			answer(session);
		}
	} while (ret->outcome == TLS_WANT_SIGNATURE || ret->outcome == TLS_WANT_ROOM);
	MUST(ret->outcome != TLS_WANT_INPUT || wire.in.len == 0);
}

static void check_records(struct span out)
{
	while (out.len) {
		struct reader reader = reader_of(out);
		uint8_t type = read_u8(&reader), major = read_u8(&reader);
		size_t len;

		read_u8(&reader);
		len = read_be16(&reader);
		MUST(reader.ok && type >= 20 && type <= 23 && major == 3);
		MUST(len > 0 && len <= 16384 + 256 && len <= reader_left(&reader));
		out = span_skip(out, 5 + len);
	}
}

static struct result run(struct span bytes, size_t step)
{
	static char scratch[TLS_HELLO_MESSAGE_MAX], sent[1 << 17];
	struct writer out = writer_of(sent, sizeof(sent));
	struct result result = { .outcome = TLS_WANT_INPUT };
	struct tls_session *session = NULL;
	struct tls_failure failure;
	struct tls_hello hello;
	size_t done = 0;

	result.hello = tls_hello_parse(bytes, scratch, &hello);
	if (result.hello != 0 || !tls_credential_fits(credential, &hello))
		return result;
	MUST(tls_server_new(policy, credential, &hello, NOW_S, &session) == 0);
	while (done < bytes.len && result.outcome == TLS_WANT_INPUT) {
		size_t len = bytes.len - done < step ? bytes.len - done : step;
		char *copy = malloc(len);

		MUST(copy);
		memcpy(copy, bytes.ptr + done, len);
		give(session, span_of(copy, len), &out, &result);
		free(copy);
		done += len;
	}
	MUST(out.ok);
	check_records(writer_done(&out));
	tls_session_failure(session, &failure);
	MUST((result.outcome == TLS_FAILED) == (failure.reason != TLS_REASON_NONE));
	MUST(result.outcome != 0); /* nobody without keys finishes one */
	result.reason = failure.reason;
	result.alert = failure.alert;
	tls_session_free(session);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes = span_of(data, size);
	struct result whole, pieces;

	if (!policy)
		start();
	if (size > INPUT_MAX)
		return -1;
	whole = run(bytes, INPUT_MAX);
	pieces = run(bytes, size % 3 ? size / 7 + 1 : 1);
	MUST(whole.hello == pieces.hello && whole.outcome == pieces.outcome);
	MUST(whole.reason == pieces.reason && whole.alert == pieces.alert);
	MUST(whole.signatures == pieces.signatures);
	return 0;
}
