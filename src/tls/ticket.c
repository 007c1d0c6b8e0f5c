#include "tls/tls_internal.h"

#include <string.h>

_Static_assert(sizeof(struct tls_ticket_key) == 64, "the table is shared memory");
_Static_assert(sizeof(struct tls_ticket_keys) == 16 + 64 * TLS_TICKET_KEYS_MAX,
	       "the table is shared memory");

/* ---- The writer: one process ----------------------------------------------------------------- */

static void write_begin(struct tls_ticket_keys *table)
{
	uint32_t serial = __atomic_load_n(&table->serial, __ATOMIC_RELAXED);

	/* A writer that died in between left it odd: still odd now, even at our end. */
	__atomic_store_n(&table->serial, serial | 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static void write_end(struct tls_ticket_keys *table)
{
	__atomic_store_n(&table->serial, table->serial + 1, __ATOMIC_RELEASE);
}

static void put_front(struct tls_ticket_keys *table, int64_t now_s, int64_t accept_s,
		      const uint8_t random[TLS_TICKET_KEY_RANDOM])
{
	struct tls_ticket_key *first = &table->keys[0];

	memcpy(first->name, random, sizeof(first->name));
	memcpy(first->secret, random + sizeof(first->name), sizeof(first->secret));
	first->made_at_s = now_s;
	first->accepted_until_s = now_s + accept_s;
	table->format = TLS_TICKET_KEYS_FORMAT;
}

static int64_t clamp_accept(int64_t accept_s)
{
	if (accept_s <= 0)
		return TICKET_ACCEPT_DEFAULT_S;
	return accept_s > TICKET_ACCEPT_MAX_S ? TICKET_ACCEPT_MAX_S : accept_s;
}

void tls_ticket_keys_rotate(struct tls_ticket_keys *table, int64_t now_s, int64_t accept_s,
			    const uint8_t random[TLS_TICKET_KEY_RANDOM])
{
	size_t kept = 1;

	if (table->format != TLS_TICKET_KEYS_FORMAT) {
		tls_ticket_keys_replace(table, now_s, accept_s, random);
		return;
	}
	write_begin(table);
	crypto_wipe(&table->keys[TLS_TICKET_KEYS_MAX - 1], sizeof(table->keys[0]));
	memmove(&table->keys[1], &table->keys[0], sizeof(table->keys) - sizeof(table->keys[0]));
	for (size_t i = 1; i < TLS_TICKET_KEYS_MAX; i++) {
		struct tls_ticket_key *key = &table->keys[i];

		if (key->made_at_s == 0 || key->accepted_until_s <= now_s)
			crypto_wipe(key, sizeof(*key));
		else if (kept++ != i) {
			table->keys[kept - 1] = *key;
			crypto_wipe(key, sizeof(*key));
		}
	}
	put_front(table, now_s, clamp_accept(accept_s), random);
	write_end(table);
}

void tls_ticket_keys_replace(struct tls_ticket_keys *table, int64_t now_s, int64_t accept_s,
			     const uint8_t random[TLS_TICKET_KEY_RANDOM])
{
	write_begin(table);
	crypto_wipe(table->keys, sizeof(table->keys));
	put_front(table, now_s, clamp_accept(accept_s), random);
	write_end(table);
}

int64_t tls_ticket_keys_due_s(const struct tls_ticket_keys *table, int64_t accept_s)
{
	uint32_t serial = __atomic_load_n(&table->serial, __ATOMIC_ACQUIRE);

	if (table->format != TLS_TICKET_KEYS_FORMAT || serial % 2 != 0 ||
	    table->keys[0].made_at_s <= 0 ||
	    table->keys[0].made_at_s > INT64_MAX - TICKET_ACCEPT_MAX_S)
		return 0;
	return table->keys[0].made_at_s + clamp_accept(accept_s) / 8;
}

/* ---- Readers: any content is legal ----------------------------------------------------------- */

enum { READ_TRIES = 3 };

static bool is_usable(const struct tls_ticket_key *key, int64_t now_s)
{
	return key->made_at_s > 0 && now_s < key->accepted_until_s;
}

/* Copies the key that `name` means (NULL: the newest) out of a table that may be changing. */
static bool read_key(const struct tls_ticket_keys *table, const uint8_t *name,
		     struct tls_ticket_key *ret_key)
{
	for (int i = 0; i < READ_TRIES; i++) {
		uint32_t serial = __atomic_load_n(&table->serial, __ATOMIC_ACQUIRE);
		bool found = false;

		if (serial % 2 != 0)
			continue;
		for (size_t k = 0; k < TLS_TICKET_KEYS_MAX && !found; k++) {
			*ret_key = table->keys[k];
			found = !name || memcmp(ret_key->name, name, sizeof(ret_key->name)) == 0;
		}
		found = found && table->format == TLS_TICKET_KEYS_FORMAT;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&table->serial, __ATOMIC_RELAXED) == serial)
			return found;
	}
	return false;
}

bool ticket_keys_newest(const struct tls_ticket_keys *table, int64_t now_s,
			struct tls_ticket_key *ret_key)
{
	return read_key(table, NULL, ret_key) && is_usable(ret_key, now_s);
}

bool ticket_keys_find(const struct tls_ticket_keys *table, const uint8_t name[16], int64_t now_s,
		      struct tls_ticket_key *ret_key)
{
	return read_key(table, name, ret_key) && is_usable(ret_key, now_s);
}

/* ---- The library's tickets ----------------------------------------------------------------------
 * {key name 16, authenticated-at 8, nonce 12, sealed session}. The binding is associated data: a
 * ticket of another policy or name does not open, which means a full handshake. authenticated-at
 * stays over renewals: a chain of resumptions ends where its first ticket would have. The library's
 * own notion of time stands still (policy.c), so this is the only clock of a ticket. */

enum {
	TICKET_NAME_SIZE = 16,
	TICKET_TIME_SIZE = 8,
	TICKET_FRONT = TICKET_NAME_SIZE + TICKET_TIME_SIZE + CRYPTO_AEAD_NONCE_SIZE,
	TICKET_OVERHEAD = TICKET_FRONT + CRYPTO_AEAD_TAG_SIZE,
};

static struct span binding_of(const struct tls_session *session, int64_t authenticated_at_s,
			      char buf[TICKET_BINDING_MAX])
{
	const struct handshake *handshake = session->handshake;
	struct writer out = writer_of(buf, TICKET_BINDING_MAX);

	write_str(&out, "portcullis ticket 1");
	write_be64(&out, session->policy->id);
	write_be64(&out, (uint64_t)authenticated_at_s);
	write_span(&out, span_of(handshake->name, handshake->name_len));
	MUST(out.ok);
	return writer_done(&out);
}

static size_t ticket_overhead(SSL *ssl)
{
	(void)ssl;
	return TICKET_OVERHEAD;
}

static int ticket_seal(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out, const uint8_t *in,
		       size_t in_len)
{
	struct tls_session *session = session_of(ssl);
	struct handshake *handshake = session->handshake;
	char binding[TICKET_BINDING_MAX];
	struct writer front = writer_of(out, max_out);
	uint8_t nonce[CRYPTO_AEAD_NONCE_SIZE];
	int64_t authenticated_at_s;

	/* The library asks only where tickets are on, which needs a key; it promises apart buffers
	 * or the very same one, and uses apart ones. */
	if (!handshake || handshake->ticket_key.made_at_s == 0 || in == out ||
	    max_out < in_len + TICKET_OVERHEAD)
		return 0;
	authenticated_at_s =
		SSL_session_reused(ssl) ? handshake->resumed_from_s : session->wire->now_s;
	crypto_random(nonce, sizeof(nonce));
	write_span(&front, span_of(handshake->ticket_key.name, TICKET_NAME_SIZE));
	write_be64(&front, (uint64_t)authenticated_at_s);
	write_span(&front, span_of(nonce, sizeof(nonce)));
	MUST(front.ok);
	if (crypto_aead_seal(handshake->ticket_key.secret, nonce, span_of(in, in_len),
			     binding_of(session, authenticated_at_s, binding),
			     out + TICKET_FRONT) != 0)
		return 0;
	*out_len = in_len + TICKET_OVERHEAD;
	return 1;
}

static enum ssl_ticket_aead_result_t ticket_open(SSL *ssl, uint8_t *out, size_t *out_len,
						 size_t max_out, const uint8_t *in, size_t in_len)
{
	struct tls_session *session = session_of(ssl);
	const struct tls_policy *policy = session->policy;
	struct handshake *handshake = session->handshake;
	struct reader ticket = reader_of(span_of(in, in_len));
	char binding[TICKET_BINDING_MAX];
	struct span name = read_span(&ticket, TICKET_NAME_SIZE);
	int64_t authenticated_at_s = (int64_t)read_be64(&ticket);
	struct span nonce = read_span(&ticket, CRYPTO_AEAD_NONCE_SIZE);
	struct span sealed = read_span(&ticket, reader_left(&ticket));
	struct tls_ticket_key key;
	int64_t now_s = session->wire->now_s;
	bool opened;

	if (!ticket.ok || !handshake || !policy->tickets || sealed.len < CRYPTO_AEAD_TAG_SIZE ||
	    sealed.len - CRYPTO_AEAD_TAG_SIZE > max_out)
		return ssl_ticket_aead_ignore_ticket;
	if (!ticket_keys_find(policy->tickets, (const uint8_t *)name.ptr, now_s, &key))
		return ssl_ticket_aead_ignore_ticket;
	opened = crypto_aead_open(key.secret, (const uint8_t *)nonce.ptr, sealed,
				  binding_of(session, authenticated_at_s, binding), out);
	crypto_wipe(&key, sizeof(key));
	/* A ticket of others is no error: one left in the library's queue would fail the
	 * handshake. */
	ERR_clear_error();
	/* Authentic from here on, so the subtraction cannot be made to overflow. */
	if (!opened || now_s - authenticated_at_s >= policy->ticket_accept_s)
		return ssl_ticket_aead_ignore_ticket;
	*out_len = sealed.len - CRYPTO_AEAD_TAG_SIZE;
	handshake->resumed_from_s = authenticated_at_s;
	return ssl_ticket_aead_success;
}

const SSL_TICKET_AEAD_METHOD ticket_method = { ticket_overhead, ticket_seal, ticket_open };
