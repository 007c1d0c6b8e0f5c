#include "keys/store_internal.h"

#include <string.h>

/* An entry stays once it was made: its key may go (forgotten) and come back (pulled), while what is allowed and
 * how often it signed belong to the handle. The number of entries is bounded by the plan: a stranger's handle
 * makes none. */

static uint64_t map_key(const struct keys_handle *handle)
{
	uint64_t key;

	/* A SHA-256 is its own hash; nobody chooses it freely who cannot make a certificate for it. */
	memcpy(&key, handle->spki_hash, sizeof(key));
	return key ^ handle->usage;
}

static bool is_same(const struct keys_handle *a, const struct keys_handle *b)
{
	return a->usage == b->usage &&
	       memcmp(a->spki_hash, b->spki_hash, sizeof(a->spki_hash)) == 0;
}

struct keys_entry *keys_store_entry(const struct keys_store *store,
				    const struct keys_handle *handle)
{
	struct keys_entry *entry = map_get(&store->entries, map_key(handle));

	return entry && is_same(&entry->handle, handle) ? entry : NULL;
}

/* NULL: no memory, or another handle with the same first 64 bits (which then is not served). */
static struct keys_entry *make_entry(struct keys_store *store, const struct keys_handle *handle)
{
	struct keys_entry *entry = map_get(&store->entries, map_key(handle));

	if (entry)
		return is_same(&entry->handle, handle) ? entry : NULL;
	entry = heap_alloc(sizeof(*entry));
	if (!entry)
		return NULL;
	entry->handle = *handle;
	if (map_set(&store->entries, map_key(handle), entry) == 0)
		return entry;
	heap_free(entry);
	return NULL;
}

static void drop_key(struct keys_store *store, struct keys_entry *entry)
{
	if (!entry->key)
		return;
	crypto_key_free(TAKE(entry->key));
	store->key_count--;
}

static void drop_entry_if_empty(struct keys_store *store, struct keys_entry *entry)
{
	if (entry->key || entry->is_allowed)
		return;
	map_remove(&store->entries, map_key(&entry->handle));
	heap_free(entry);
}

int keys_store_new(uint32_t max_signs_per_s, struct keys_store **ret_store)
{
	struct keys_store *store = heap_alloc(sizeof(*store));

	if (!store)
		return -ENOMEM;
	map_init(&store->entries);
	store->max_signs_per_s = max_signs_per_s;
	*ret_store = store;
	return 0;
}

void keys_store_free(struct keys_store *store)
{
	struct keys_entry *entry;
	size_t cursor = 0;
	uint64_t key;

	if (!store)
		return;
	while ((entry = map_next(&store->entries, &cursor, &key))) {
		drop_key(store, entry);
		heap_free(entry);
	}
	map_fini(&store->entries);
	heap_free(store);
}

void keys_store_set_limit(struct keys_store *store, uint32_t max_signs_per_s)
{
	store->max_signs_per_s = max_signs_per_s;
}

int keys_store_add(struct keys_store *store, const struct keys_handle *handle,
		   struct crypto_key *key, uint64_t now_ns)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	int result = crypto_key_spki_hash(key, hash);

	if (result == 0 && memcmp(hash, handle->spki_hash, sizeof(hash)) != 0)
		result = -EINVAL;
	struct keys_entry *entry = result == 0 ? make_entry(store, handle) : NULL;
	if (!entry) {
		crypto_key_free(key);
		return result ? result : -ENOMEM;
	}
	drop_key(store, entry);
	entry->key = key;
	entry->used_at_ns = now_ns;
	store->key_count++;
	return 0;
}

const struct crypto_key *keys_store_get(const struct keys_store *store,
					const struct keys_handle *handle)
{
	const struct keys_entry *entry = keys_store_entry(store, handle);

	return entry ? entry->key : NULL;
}

void keys_store_remove(struct keys_store *store, const struct keys_handle *handle)
{
	struct keys_entry *entry = keys_store_entry(store, handle);

	if (!entry)
		return;
	drop_key(store, entry);
	drop_entry_if_empty(store, entry);
}

size_t keys_store_count(const struct keys_store *store)
{
	return store->key_count;
}

size_t keys_store_forget(struct keys_store *store, uint64_t unused_since_ns)
{
	size_t cursor = 0, forgotten = 0;
	uint64_t key;
	struct keys_entry *entry;

	while ((entry = map_next(&store->entries, &cursor, &key))) {
		if (!entry->key || entry->used_at_ns >= unused_since_ns)
			continue;
		drop_key(store, entry);
		drop_entry_if_empty(store, entry);
		forgotten++;
	}
	return forgotten;
}

void keys_store_restrict(struct keys_store *store)
{
	struct keys_entry *entry;
	size_t cursor = 0;
	uint64_t key;

	store->is_restricted = true;
	while ((entry = map_next(&store->entries, &cursor, &key))) {
		entry->is_allowed = false;
		drop_entry_if_empty(store, entry);
	}
}

size_t keys_store_drop_forbidden(struct keys_store *store)
{
	struct keys_entry *entry;
	size_t cursor = 0, dropped = 0;
	uint64_t key;

	while ((entry = map_next(&store->entries, &cursor, &key))) {
		if (entry->is_allowed)
			continue;
		dropped += entry->key != NULL;
		drop_key(store, entry);
		drop_entry_if_empty(store, entry);
	}
	return dropped;
}

int keys_store_allow(struct keys_store *store, const struct keys_handle *handle)
{
	struct keys_entry *entry = make_entry(store, handle);

	if (!entry)
		return -ENOMEM;
	entry->is_allowed = true;
	return 0;
}

void keys_store_disallow(struct keys_store *store, const struct keys_handle *handle)
{
	struct keys_entry *entry = keys_store_entry(store, handle);

	if (!entry)
		return;
	entry->is_allowed = false;
	drop_entry_if_empty(store, entry);
}
