/* keys: private keys and what may be done with them: the vault's key folder with the local CA in it, the
 * table of keys that a process holds, the rules by which a keyholder signs, and its secret heap.
 *
 * It knows no channel and no message: vault and keyholder (proc) are thin around it. It reads no clock:
 * `now` comes in. It writes nothing but the key folder, and logs nothing: what an operator must hear comes
 * back as a sentence.
 *
 * Who owns what: a store owns the keys in it. A folder owns the CA's keys and borrows the descriptor that
 * it was opened with. Sentences and chains live in the caller's arena. */
#pragma once

#include "base/base.h"
#include "cert/cert.h"
#include "crypto/crypto.h"

enum keys_usage {
	KEYS_USAGE_SERVER = 0,
	KEYS_USAGE_CLIENT = 1
}; /* as in the messages sign13 and sign12 */

/* SPKI hash + usage: what a worker calls a key. */
struct keys_handle {
	uint8_t spki_hash[CRYPTO_SHA256_SIZE];
	uint32_t usage;
};

/* ---- The store: keys by handle ------------------------------------------------------------------------- */

struct keys_store;
/* max_signs_per_s: per store (one worker asks one keyholder); each handle gets twice that. 0: no limit. */
int keys_store_new(uint32_t max_signs_per_s, struct keys_store **ret_store) MUST_CHECK;
void keys_store_free(struct keys_store *store); /* NULL is fine */
void keys_store_set_limit(struct keys_store *store, uint32_t max_signs_per_s);
/* Takes the key over, also when it fails; replaces one that is there. -EINVAL: the hash is not this key's. */
int keys_store_add(struct keys_store *store, const struct keys_handle *handle,
		   struct crypto_key *key, uint64_t now_ns) MUST_CHECK;
/* NULL: not held. Valid until the next call that adds, removes or forgets. */
const struct crypto_key *keys_store_get(const struct keys_store *store,
					const struct keys_handle *handle);
void keys_store_remove(struct keys_store *store,
		       const struct keys_handle *handle); /* the key; wiped */
size_t keys_store_count(const struct keys_store *store);  /* keys held */
/* Lets go of keys that signed nothing since then (a keyholder's hour). How many. */
size_t keys_store_forget(struct keys_store *store, uint64_t unused_since_ns);

/* The allow-list: once keys_store_restrict() was called only allowed handles sign. A change of the plan:
 * restrict (which clears the list), then allow each; a key that is held stays held, until those that are not
 * allowed are dropped (how many). */
void keys_store_restrict(struct keys_store *store);
size_t keys_store_drop_forbidden(struct keys_store *store);
int keys_store_allow(struct keys_store *store,
		     const struct keys_handle *handle) MUST_CHECK; /* -ENOMEM */
void keys_store_disallow(struct keys_store *store, const struct keys_handle *handle);

/* ---- Signing: the rules (KEYS) ---------------------------------------------------------------------------- */

enum keys_sign_outcome {
	KEYS_SIGN_NO_KEY = 1, /* pull it and ask again */
	KEYS_SIGN_REFUSED,    /* not allowed for this worker, or key and scheme do not fit */
	KEYS_SIGN_LIMIT,      /* too often this second */
	KEYS_SIGN_VIOLATION, /* no honest worker asks that: close the channel, tell the supervisor */
};

struct keys_sign13 {
	struct keys_handle handle;
	uint16_t scheme;
	struct span transcript_hash; /* 32 or 48 bytes */
};
struct keys_sign12 {
	struct keys_handle handle; /* usage server: client certificates are TLS 1.3 only */
	uint16_t scheme;
	struct span client_random, server_random; /* 32 bytes each */
	struct span ecdhe_params;                 /* ServerECDHParams (RFC 8422, 5.4) */
};
/* The CertificateVerify input is built here (RFC 8446, 4.4.3), never taken: no digest of the asker's choice
 * is ever signed. 0, an outcome, -ENOMEM. */
int keys_sign13(struct keys_store *store, const struct keys_sign13 *request, uint64_t now_ns,
		uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len) MUST_CHECK;
/* Signs client_random, server_random, params (RFC 8422, 5.4) after params were parsed. */
int keys_sign12(struct keys_store *store, const struct keys_sign12 *request, uint64_t now_ns,
		uint8_t ret_signature[CRYPTO_SIGNATURE_MAX], size_t *ret_len) MUST_CHECK;
/* What one signature costs, for "at most 1 ms in a batch": microseconds, rounded up. 0: not held. */
unsigned keys_sign_cost_us(const struct keys_store *store, const struct keys_handle *handle);

/* ---- Key files of `certificate file CERT KEY` -------------------------------------------------------------- */

enum keys_file_outcome { /* a sentence that continues "FILE …" stands in *ret_why */
			 KEYS_FILE_UNREADABLE = 1,
			 KEYS_FILE_UNUSABLE, /* encrypted, damaged, no key, a kind that is not served */
			 KEYS_FILE_MISMATCH, /* a fine key, but of another certificate */
};
/* Reads the key from the file's start, wherever the descriptor stands, and compares it with the leaf's SPKI hash
 * (NULL: takes any). fd -1: nobody could open it. The text is wiped. */
int keys_file_load(int fd, const uint8_t *spki_hash, struct arena *arena,
		   struct crypto_key **ret_key, struct span *ret_why) MUST_CHECK;

/* ---- The key folder: the local CA and the internal certificates --------------------------------------------
 *   ca/root.crt  ca/root.key  ca/intermediate.pem  ca/issued.list  leaf/<id, 16 hex>.pem  cookie/keys
 * Each .pem holds certificate (a leaf: its chain) and key, so that it is whole or not at all. All 0600.
 *
 * What happens to damaged files (cut short, garbage, a key of another certificate):
 *   root        never made again behind the operator's back, since browsers trust it by hand: an outcome that
 *               names the file. A root.key without a root.crt is a creation that did not finish: made anew.
 *   intermediate, leaf   made again with a new key, and said so in a notice.
 *   issued.list  lines that do not parse are left out.
 *   cookie/keys  made again, and said so in a notice. */

struct keys_folder;
/* folder_fd: the key folder; lent for the folder's life. Reads nothing yet. -ENOMEM. */
int keys_folder_new(int folder_fd, struct keys_folder **ret_folder) MUST_CHECK;
void keys_folder_free(struct keys_folder *folder); /* wipes; NULL is fine */
/* From now on nothing is written: this vault's supervisor is gone, and another vault may come (two never write
 * one folder). What is there still serves. */
void keys_folder_freeze(struct keys_folder *folder);

enum keys_folder_outcome { /* a sentence stands in task->why */
			   KEYS_CA_DAMAGED = 1,
			   KEYS_CA_MISSING,    /* and the caller did not want it made */
			   KEYS_FOLDER_FAILED, /* the file system says no, or the folder is frozen */
			   KEYS_REQUEST_INVALID, /* names, usage, lifetime or public key of a request */
};

/* One piece of work on the folder: what it needs, and what an operator should hear. */
struct keys_task {
	struct keys_folder *folder;
	struct arena *arena; /* for all that comes back */
	int64_t now_s;
	/* Set by each call, in the arena: */
	struct span notice; /* lines worth an event although nothing failed; mostly empty */
	struct span why;    /* for an outcome */
};
/* Loads the CA, or makes it; renews the intermediate when it is due. `label` tells this CA from others (the
 * machine's name). Cheap when all is well: call it before each use. */
int keys_ca_ready(struct keys_task *task, bool may_create, struct span label) MUST_CHECK;
struct span keys_ca_root(const struct keys_folder *folder); /* DER; empty before keys_ca_ready() */
/* When keys_ca_ready() has something to renew. */
int64_t keys_ca_renewal_due_s(const struct keys_folder *folder);

struct keys_request {
	const struct span *names;
	size_t name_count;
	unsigned usage;     /* bits CERT_USAGE_… */
	int64_t lifetime_s; /* 0: 30 days */
	struct span spki;   /* DER: the private key stays where it was made */
};
/* After keys_ca_ready(). Chain PEM: leaf, intermediate. It is noted in issued.list before it is given. */
int keys_ca_issue(struct keys_task *task, const struct keys_request *request,
		  struct span *ret_chain_pem) MUST_CHECK;

struct keys_issued {
	struct span serial; /* hex */
	int64_t issued_s, expires_s;
	struct span usage; /* "server", "client", "server,client" */
	struct span names; /* separated by commas */
};
int keys_ca_list(struct keys_task *task, struct keys_issued **ret_issued,
		 size_t *ret_count) MUST_CHECK;

struct keys_leaf {
	struct span chain_pem;
	struct keys_handle handle;
	struct crypto_key *key; /* the caller's: keys_store_add() */
	int64_t not_before_s, expires_s, renewal_due_s;
	bool is_new; /* made or renewed by this call */
};
/* The internal certificate of that id: from the folder, or made where it is missing, damaged, names something
 * else, or is due. After keys_ca_ready(); without a CA (it answered KEYS_CA_DAMAGED) one that is there and
 * not expired still serves (and renewal_due_s may have passed). */
int keys_leaf_ready(struct keys_task *task, uint64_t id, const struct span *names,
		    size_t name_count, struct keys_leaf *ret_leaf) MUST_CHECK;

/* ---- Cookie keys: what the values of sticky cookies are made with ------------------------------------------------ */

enum { KEYS_COOKIES_MAX = 2, KEYS_COOKIE_SECRET = 32 };
struct keys_cookie {
	int64_t made_at_s;
	uint8_t secret[KEYS_COOKIE_SECRET];
};
struct keys_cookies {
	struct keys_cookie keys[KEYS_COOKIES_MAX]; /* newest first */
	size_t count;
};
/* From the folder. Made where there are none; where the newest is 90 days old (or of a day that is still to come: the
 * clock was wrong) a new one is put before it, and the one before that is forgotten. Where that cannot be written the
 * ones that are there serve on. 0, KEYS_FOLDER_FAILED, -ENOMEM. Wiped by the caller. */
int keys_cookies_ready(struct keys_task *task, struct keys_cookies *ret_cookies) MUST_CHECK;

/* ---- The secret heap: all of a keyholder's memory that libcrypto asks for ----------------------------------
 * Size classes with free lists over one map (os_secret_map), wiped on free, no way to grow. */

struct keys_heap;
/* The heap lives at the start of `memory` (zeroed, aligned to 16). NULL: smaller than 64 KiB. */
struct keys_heap *keys_heap_new(void *memory, size_t size) MUST_CHECK;
void *keys_heap_alloc(struct keys_heap *heap,
		      size_t size) MUST_CHECK;             /* aligned to 16; NULL when it is full */
void keys_heap_free(struct keys_heap *heap, void *memory); /* wipes; NULL is fine */
void *keys_heap_resize(struct keys_heap *heap, void *memory, size_t size) MUST_CHECK;
struct keys_heap_use {
	size_t size, used, peak; /* bytes, headers and rounding included */
	size_t objects;
};
void keys_heap_get_use(const struct keys_heap *heap, struct keys_heap_use *ret_use);
/* 2 MiB + 16 KiB per key (KEYS). */
size_t keys_heap_size_for(size_t key_count);
/* Gives libcrypto this heap for the rest of the process's life; before any other call of the library. */
int keys_heap_install(struct keys_heap *heap) MUST_CHECK;
