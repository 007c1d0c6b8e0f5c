#include "keys/folder_internal.h"

#include <stdio.h>
#include <string.h>

static const char subfolder[] = "leaf";

struct leaf_file {
	char name[32], path[40]; /* "0123456789abcdef.pem", "leaf/…" */
};

static struct leaf_file file_of(uint64_t id)
{
	struct leaf_file file;

	snprintf(file.name, sizeof(file.name), "%016llx.pem", (unsigned long long)id);
	snprintf(file.path, sizeof(file.path), "%s/%s", subfolder, file.name);
	return file;
}

static int chain_text(struct arena *arena, const struct cert_chain *chain, struct span *ret_pem)
{
	size_t size = chain->count * CERT_PEM_MAX;
	char *buf = arena_alloc(arena, size, 1);
	struct writer out = writer_of(buf, buf ? size : 0);

	for (size_t i = 0; i < chain->count; i++)
		cert_write_pem(chain->certificates[i], &out);
	*ret_pem = writer_done(&out);
	return out.ok ? 0 : -ENOMEM;
}

/* Takes `key` over on success. */
static int fill_leaf(struct keys_task *task, const struct cert_chain *chain, struct crypto_key *key,
		     struct keys_leaf *ret_leaf)
{
	struct keys_leaf leaf = {
		.key = key,
		.handle.usage = KEYS_USAGE_SERVER,
		.not_before_s = chain->not_before_s,
		.expires_s = chain->chain_not_after_s,
		.renewal_due_s = cert_renewal_due_s(chain->not_before_s, chain->chain_not_after_s),
	};
	int result = chain_text(task->arena, chain, &leaf.chain_pem);

	memcpy(leaf.handle.spki_hash, chain->spki_hash, sizeof(leaf.handle.spki_hash));
	if (result == 0)
		*ret_leaf = leaf;
	return result;
}

enum load_outcome {
	LOAD_DAMAGED = 1, /* task->why */
	LOAD_OTHER,       /* whole, but of other names or of an earlier CA: not worth a notice */
};

static bool is_of_this_ca(const struct keys_folder *folder, const struct cert_chain *chain)
{
	/* Without a CA there is nothing to compare with, and what is there serves. */
	return folder->root.der.len == 0 ||
	       cert_is_issued_by(chain->certificates[chain->count - 1], folder->root.der);
}

static int load_text(struct keys_task *task, struct span text, const struct cert_name *names,
		     size_t name_count, struct keys_leaf *ret_leaf)
{
	struct cert_chain chain;
	struct crypto_key *key = NULL;
	int result = cert_chain_parse(task->arena, text, &chain, &task->why);

	if (result != 0)
		return result < 0 ? result : LOAD_DAMAGED;
	if (chain.count < 2)
		return keys_fail(task, LOAD_DAMAGED, "its intermediate certificate is missing");
	if (!cert_names_equal(names, name_count, chain.names, chain.name_count) ||
	    !is_of_this_ca(task->folder, &chain))
		return LOAD_OTHER;
	result = crypto_key_parse_pem(text, &key);
	if (result > 0)
		return keys_fail(task, LOAD_DAMAGED, "its key %s", crypto_key_outcome_text(result));
	if (result < 0)
		return result;
	if (!keys_is_key_of(key, &chain))
		result = keys_fail(task, LOAD_DAMAGED, "its key is not its certificate's");
	if (result == 0)
		result = fill_leaf(task, &chain, key, ret_leaf);
	if (result != 0)
		crypto_key_free(key);
	return result;
}

static int load(struct keys_task *task, const char *path, const struct cert_name *names,
		size_t name_count, struct keys_leaf *ret_leaf)
{
	struct span text;
	int result = keys_folder_read(task, path, &text);

	if (result == -ENOENT || result == -ENOMEM)
		return result;
	if (result != 0)
		return keys_fail(task, LOAD_DAMAGED, "it cannot be read: %s",
				 keys_error_text(result));
	result = load_text(task, text, names, name_count, ret_leaf);
	keys_wipe_text(text);
	return result;
}

static int issue_for(struct keys_task *task, const struct crypto_key *key, const struct span *names,
		     size_t name_count, struct cert_chain *ret_chain)
{
	char buf[CRYPTO_KEY_TEXT_MAX];
	struct writer spki = writer_of(buf, sizeof(buf));
	struct span pem;
	int result = crypto_key_write_spki(key, &spki);

	if (result != 0)
		return result;
	struct keys_request request = {
		.names = names,
		.name_count = name_count,
		.usage = CERT_USAGE_SERVER,
		.spki = writer_done(&spki),
	};
	result = keys_issue(task, &request, &pem);
	if (result != 0)
		return result;
	result = cert_chain_parse(task->arena, pem, ret_chain, &task->why);
	return result <= 0 ? result : -EINVAL; /* our own work does not parse */
}

static int make(struct keys_task *task, const char *name, const struct span *names,
		size_t name_count, struct keys_leaf *ret_leaf)
{
	struct crypto_key *key = NULL;
	struct cert_chain chain;
	struct span text;
	int result = crypto_key_generate(CRYPTO_KEY_P256, &key);

	if (result == 0)
		result = issue_for(task, key, names, name_count, &chain);
	if (result == 0)
		result = keys_pair_text(task->arena, chain.certificates, chain.count, key, &text);
	if (result == 0) {
		result = keys_folder_write(task, subfolder, name, text);
		keys_wipe_text(text);
	}
	if (result == 0)
		result = fill_leaf(task, &chain, key, ret_leaf);
	if (result != 0) {
		crypto_key_free(key);
		return result;
	}
	ret_leaf->is_new = true;
	return 0;
}

/* One that is due, or was made while the clock was ahead. An old one that cannot be renewed serves until its end. */
static int renew(struct keys_task *task, const char *name, const struct span *names,
		 size_t name_count, struct keys_leaf *leaf)
{
	struct keys_leaf renewed;

	if ((task->now_s >= leaf->not_before_s && task->now_s < leaf->renewal_due_s) ||
	    task->folder->is_frozen)
		return 0;
	int result = make(task, name, names, name_count, &renewed);
	if (result != 0) {
		keys_notify(task, "the internal certificate for %.*s could not be renewed: %.*s",
			    SPAN_ARG(names[0]), SPAN_ARG(task->why));
		return 0;
	}
	crypto_key_free(leaf->key);
	*leaf = renewed;
	return 0;
}

int keys_leaf_ready(struct keys_task *task, uint64_t id, const struct span *names,
		    size_t name_count, struct keys_leaf *ret_leaf)
{
	struct leaf_file file = file_of(id);
	struct cert_name *parsed;
	size_t parsed_count = 0, bad = 0;
	struct keys_leaf leaf = { 0 };

	keys_task_begin(task);
	int result = cert_names_parse(task->arena, names, name_count, &parsed, &parsed_count, &bad);
	if (result == CERT_NAME_INVALID)
		return keys_fail(task, KEYS_REQUEST_INVALID,
				 "`%.*s` is neither a host name nor an address",
				 SPAN_ARG(names[bad]));
	if (result != 0)
		return result;
	result = load(task, file.path, parsed, parsed_count, &leaf);
	if (result == 0 && task->now_s > leaf.expires_s &&
	    (task->folder->is_frozen || !task->folder->root.der.len)) {
		crypto_key_free(leaf.key);
		return keys_fail(task, KEYS_CA_MISSING,
				 "the internal certificate for %.*s has expired",
				 SPAN_ARG(names[0]));
	}
	if (result == LOAD_DAMAGED)
		keys_notify(task, "the key folder's %s was made again: %.*s", file.path,
			    SPAN_ARG(task->why));
	if (result == 0)
		result = renew(task, file.name, names, name_count, &leaf);
	else if (result != -ENOMEM)
		result = make(task, file.name, names, name_count, &leaf);
	if (result == 0)
		*ret_leaf = leaf;
	return result;
}
