/* The store's insides, for the signing rules. */
#pragma once

#include "keys/keys.h"

/* Signatures in the second that began at start_ns: a plain counter. Twice the limit can pass around a second's
 * turn, which a limit against floods may allow. */
struct keys_window {
	uint64_t start_ns;
	uint32_t count;
};

struct keys_entry {
	struct keys_handle handle;
	struct crypto_key *key; /* NULL: not held */
	bool is_allowed;
	struct keys_window window;
	uint64_t used_at_ns;
};

struct keys_store {
	struct map entries;
	size_t key_count;
	bool is_restricted;
	uint32_t max_signs_per_s;
	struct keys_window window;
};

struct keys_entry *keys_store_entry(const struct keys_store *store,
				    const struct keys_handle *handle);
