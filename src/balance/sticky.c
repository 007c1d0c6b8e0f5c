/* Values by which clients stay with an origin. */
#include "balance/balance.h"

#include <errno.h>
#include <string.h>

#include "crypto/crypto.h"

_Static_assert(sizeof(struct balance_sticky_keys) == 16 + 2 * 32, "the table is shared memory");

/* ---- The table of keys ------------------------------------------------------------------------------------------- */

static bool is_there(const struct balance_sticky_keys *table,
		     const uint8_t secrets[][BALANCE_STICKY_SECRET], size_t count)
{
	return table->format == BALANCE_STICKY_FORMAT && table->serial % 2 == 0 &&
	       table->count == count &&
	       memcmp(table->secrets, secrets, count * BALANCE_STICKY_SECRET) == 0;
}

void balance_sticky_publish(struct balance_sticky_keys *table,
			    const uint8_t secrets[][BALANCE_STICKY_SECRET], size_t count)
{
	uint32_t serial = __atomic_load_n(&table->serial, __ATOMIC_RELAXED);

	MUST(count <= BALANCE_STICKY_KEYS);
	if (is_there(table, secrets, count))
		return;
	/* A writer that died in between left it odd: still odd now, even at our end. */
	__atomic_store_n(&table->serial, serial | 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	crypto_wipe(table->secrets, sizeof(table->secrets));
	memcpy(table->secrets, secrets, count * BALANCE_STICKY_SECRET);
	table->count = (uint32_t)count;
	table->format = BALANCE_STICKY_FORMAT;
	__atomic_store_n(&table->serial, (serial | 1) + 1, __ATOMIC_RELEASE);
}

/* Copies what may be changing. False: it is being written, or holds none. */
static bool copy_keys(const struct balance_sticky_keys *table, struct balance_sticky_keys *ret)
{
	enum { READ_TRIES = 3 };

	for (int i = 0; i < READ_TRIES; i++) {
		uint32_t serial = __atomic_load_n(&table->serial, __ATOMIC_ACQUIRE);

		if (serial % 2 != 0)
			continue;
		*ret = *table;
		ret->serial = serial;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&table->serial, __ATOMIC_RELAXED) == serial)
			return ret->format == BALANCE_STICKY_FORMAT && ret->count &&
			       ret->count <= BALANCE_STICKY_KEYS;
	}
	return false;
}

/* ---- Values -------------------------------------------------------------------------------------------------------- */

int balance_sticky_init(struct balance_sticky *sticky, const struct balance *group,
			struct arena *arena)
{
	*sticky = (struct balance_sticky){
		.group = group,
		.values = arena_alloc(arena, group->count * sizeof(*sticky->values), 1),
	};
	return sticky->values ? 0 : -ENOMEM;
}

static void value_make(const uint8_t secret[BALANCE_STICKY_SECRET], uint64_t origin,
		       char value[BALANCE_STICKY_VALUE])
{
	uint8_t mac[CRYPTO_SHA256_SIZE];
	char text[64];
	struct writer bytes = writer_of(text, sizeof(text));
	struct writer out = writer_of(value, BALANCE_STICKY_VALUE);

	/* The same key serves other purposes some day: what it is for is a part of what is signed. */
	write_str(&bytes, "portcullis sticky 1");
	write_be64(&bytes, origin);
	crypto_hmac_sha256(span_of(secret, BALANCE_STICKY_SECRET), writer_done(&bytes), mac);
	write_hex(&out, span_of(mac, BALANCE_STICKY_VALUE / 2));
	MUST(bytes.ok && out.ok);
}

bool balance_sticky_update(struct balance_sticky *sticky, const struct balance_sticky_keys *table)
{
	struct balance_sticky_keys keys;

	if (__atomic_load_n(&table->serial, __ATOMIC_ACQUIRE) == sticky->serial)
		return sticky->key_count > 0;
	/* While it is being written those of before do. */
	if (!copy_keys(table, &keys))
		return sticky->key_count > 0;
	for (uint32_t member = 0; member < sticky->group->count; member++) {
		for (uint32_t key = 0; key < keys.count; key++)
			value_make(keys.secrets[key], sticky->group->members[member].origin->id,
				   sticky->values[member][key]);
	}
	sticky->serial = keys.serial;
	sticky->key_count = keys.count;
	crypto_wipe(&keys, sizeof(keys));
	return true;
}

uint32_t balance_sticky_find(const struct balance_sticky *sticky, struct span value)
{
	uint32_t found = BALANCE_NONE;

	/* How long it takes says nothing about how much of a value is right. */
	for (uint32_t member = 0;
	     value.len == BALANCE_STICKY_VALUE && member < sticky->group->count; member++) {
		for (uint32_t key = 0; key < sticky->key_count; key++) {
			if (crypto_equal(value, span_of(sticky->values[member][key],
							BALANCE_STICKY_VALUE)))
				found = member;
		}
	}
	return found;
}

struct span balance_sticky_value(const struct balance_sticky *sticky, uint32_t member)
{
	MUST(sticky->key_count && member < sticky->group->count);
	return span_of(sticky->values[member][0], BALANCE_STICKY_VALUE);
}
