/* The key folder's insides, shared by ca.c (root, intermediate, issuing) and leaf.c. */
#pragma once

#include "keys/keys.h"

enum { KEYS_FILE_SIZE_MAX = 64 * 1024, KEYS_LIST_SIZE_MAX = 16 * 1024 * 1024 };

/* A certificate with its key, owned: der is on the heap. */
struct keys_pair {
	struct span der;
	struct crypto_key *key; /* the root's is loaded only while it signs */
	int64_t not_before_s, not_after_s;
};

struct keys_folder {
	int fd; /* lent */
	bool is_frozen;
	struct keys_pair root, intermediate;
};

static inline void keys_task_begin(struct keys_task *task)
{
	task->notice = task->why = SPAN_NONE;
}
/* Sets task->why and returns the outcome. */
int keys_fail(struct keys_task *task, int outcome, const char *format, ...) PRINTF_LIKE(3, 4);
/* Adds to the notice, on a line of its own. */
void keys_notify(struct keys_task *task, const char *format, ...) PRINTF_LIKE(2, 3);

/* 0; -ENOENT, -errno. The text lives in the arena: keys_wipe_text() it where it holds a key. */
int keys_folder_read(struct keys_task *task, const char *path, struct span *ret_text) MUST_CHECK;
/* 0 or KEYS_FOLDER_FAILED with its sentence. `subfolder` is made where it is missing. */
int keys_folder_write(struct keys_task *task, const char *subfolder, const char *name,
		      struct span text) MUST_CHECK;
int keys_folder_append(struct keys_task *task, const char *subfolder, const char *name,
		       struct span line) MUST_CHECK;
void keys_wipe_text(struct span text);
const char *keys_error_text(int error); /* of -errno */

/* As keys_ca_issue(), inside a task that has begun. */
int keys_issue(struct keys_task *task, const struct keys_request *request,
	       struct span *ret_chain_pem) MUST_CHECK;
/* The first CERTIFICATE block's DER, in the arena. */
bool keys_first_certificate(struct arena *arena, struct span pem, struct span *ret_der) MUST_CHECK;
/* Is this the key of that certificate? */
bool keys_is_key_of(const struct crypto_key *key, const struct cert_chain *chain) MUST_CHECK;
/* Certificates as PEM, then the key; wiped by the caller. */
int keys_pair_text(struct arena *arena, const struct span *certificates, size_t count,
		   const struct crypto_key *key, struct span *ret_text) MUST_CHECK;
