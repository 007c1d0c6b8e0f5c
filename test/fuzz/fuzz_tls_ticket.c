/* The table of ticket keys in the hands of a writer that died or lies: the input is written over it.
 * Properties: a reader is given a key of the name it asked for that is good at that time, or none; a
 * half-written table gives none; whatever stood there, the next rotation leaves a table in order with
 * the new key in front, keys that are out of time gone, and others as they were. */
#include "tls/tls_internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_good(const struct tls_ticket_key *key, int64_t now_s)
{
	return key->made_at_s > 0 && now_s < key->accepted_until_s;
}

static void check_reader(const struct tls_ticket_keys *table, int64_t now_s)
{
	bool is_whole = table->serial % 2 == 0 && table->format == TLS_TICKET_KEYS_FORMAT;
	struct tls_ticket_key key;
	bool found = ticket_keys_newest(table, now_s, &key);

	MUST(found == (is_whole && is_good(&table->keys[0], now_s)));
	MUST(!found || memcmp(&key, &table->keys[0], sizeof(key)) == 0);
	for (size_t i = 0; i < TLS_TICKET_KEYS_MAX; i++) {
		uint8_t name[16];

		memcpy(name, table->keys[i].name, sizeof(name));
		found = ticket_keys_find(table, name, now_s, &key);
		MUST(!found || (is_whole && is_good(&key, now_s) &&
				memcmp(key.name, name, sizeof(name)) == 0));
		name[7] ^= 0x40;
		found = ticket_keys_find(table, name, now_s, &key);
		MUST(!found || memcmp(key.name, name, sizeof(name)) == 0);
	}
}

static const struct tls_ticket_key *key_named(const struct tls_ticket_keys *table,
					      const struct tls_ticket_key *wanted)
{
	for (size_t i = 0; i < TLS_TICKET_KEYS_MAX; i++)
		if (memcmp(&table->keys[i], wanted, sizeof(*wanted)) == 0)
			return &table->keys[i];
	return NULL;
}

static void check_writer(const struct tls_ticket_keys *before, int64_t now_s, int64_t accept_s)
{
	static const struct tls_ticket_key none;
	uint8_t random[TLS_TICKET_KEY_RANDOM];
	struct tls_ticket_keys table = *before;
	struct tls_ticket_key key;
	bool is_empty = false;

	memset(random, 0xa5, sizeof(random));
	tls_ticket_keys_rotate(&table, now_s, accept_s, random);
	MUST(table.serial % 2 == 0 && table.format == TLS_TICKET_KEYS_FORMAT);
	MUST(memcmp(table.keys[0].name, random, 16) == 0 &&
	     memcmp(table.keys[0].secret, random + 16, 32) == 0);
	MUST(ticket_keys_newest(&table, now_s, &key) || now_s <= 0);
	MUST(table.keys[0].accepted_until_s - now_s >= 1 &&
	     table.keys[0].accepted_until_s - now_s <= TICKET_ACCEPT_MAX_S);
	MUST(tls_ticket_keys_due_s(&table, accept_s) >= now_s + (accept_s > 8) || now_s <= 0);
	for (size_t i = 1; i < TLS_TICKET_KEYS_MAX; i++) {
		bool is_unused = memcmp(&table.keys[i], &none, sizeof(none)) == 0;

		MUST(is_unused || table.keys[i].accepted_until_s > now_s);
		MUST(is_unused || !is_empty);
		MUST(is_unused || key_named(before, &table.keys[i]));
		is_empty = is_unused;
	}
	if (before->format != TLS_TICKET_KEYS_FORMAT)
		return;
	for (size_t i = 0; i + 1 < TLS_TICKET_KEYS_MAX; i++)
		if (before->keys[i].made_at_s != 0 && before->keys[i].accepted_until_s > now_s)
			MUST(key_named(&table, &before->keys[i]));
	tls_ticket_keys_replace(&table, now_s, accept_s, random);
	for (size_t i = 1; i < TLS_TICKET_KEYS_MAX; i++)
		MUST(memcmp(&table.keys[i], &none, sizeof(none)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader reader = reader_of(span_of(data, size));
	struct tls_ticket_keys table = { 0 };
	int64_t now_s, accept_s;
	struct span rest;

	now_s = read_be32(&reader);
	accept_s = (int32_t)read_be32(&reader);
	if (!reader.ok)
		return 0;
	/* Sparse, so that the fuzzer need not find the format: a kind, then the bytes over the table. */
	table.format = read_u8(&reader) & 1 ? TLS_TICKET_KEYS_FORMAT : 0;
	rest = read_span(&reader, reader_left(&reader));
	rest = span_first(rest, sizeof(table) - 4);
	if (rest.len)
		memcpy((char *)&table + 4, rest.ptr, rest.len);
	check_reader(&table, now_s);
	(void)tls_ticket_keys_due_s(&table, accept_s);
	check_writer(&table, now_s, accept_s);
	return 0;
}
