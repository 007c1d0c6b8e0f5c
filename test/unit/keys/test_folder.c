#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keys/keys.h"
#include "os/os.h"

enum { NOW_S = 1795000000 };
static const int64_t day = 86400;

static char path[] = "/tmp/portcullis-keys-XXXXXX";
static int folder_fd = -1;
static struct arena arena;
static struct keys_folder *folder;
static struct keys_task task;

static int remove_one(void *owner, const char *name, enum os_file_type type)
{
	int parent_fd = *(int *)owner, fd = -1;

	if (type == OS_FILE_FOLDER && os_open(parent_fd, name, OS_OPEN_FOLDER, 0, &fd) == 0) {
		assert_int_equal(os_folder_list(fd, remove_one, &fd), 0);
		os_close(fd);
		return os_unlink_folder(parent_fd, name);
	}
	return os_unlink(parent_fd, name);
}

static int set_up(void **state)
{
	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(os_folder_list(folder_fd, remove_one, &folder_fd), 0);
	assert_int_equal(keys_folder_new(folder_fd, &folder), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	keys_folder_free(folder);
	arena_fini(&arena);
	return 0;
}

/* As the next process finds it. */
static void open_again(void)
{
	keys_folder_free(folder);
	assert_int_equal(keys_folder_new(folder_fd, &folder), 0);
}

static int ca_ready(bool may_create, int64_t now_s)
{
	task = (struct keys_task){ folder, &arena, now_s, SPAN_NONE, SPAN_NONE };
	return keys_ca_ready(&task, may_create, SPAN("host"));
}

static int ready(int64_t now_s)
{
	return ca_ready(true, now_s);
}

static int ca_issue(const struct keys_request *request, int64_t now_s, struct span *ret_pem)
{
	task = (struct keys_task){ folder, &arena, now_s, SPAN_NONE, SPAN_NONE };
	return keys_ca_issue(&task, request, ret_pem);
}

static int leaf_ready(const char *name, int64_t now_s, struct keys_leaf *leaf)
{
	struct span names[] = { span_str(name), SPAN("127.0.0.1") };

	task = (struct keys_task){ folder, &arena, now_s, SPAN_NONE, SPAN_NONE };
	return keys_leaf_ready(&task, 0x1234, names, 2, leaf);
}

static bool says(struct span text, const char *words)
{
	if (span_find(text, span_str(words)) < text.len)
		return true;
	fail_msg("`%.*s` lacks `%s`", SPAN_ARG(text), words);
	return false;
}

static struct span file(const char *name)
{
	struct span text;

	assert_int_equal(os_file_read(folder_fd, name, 1 << 20, &arena, &text), 0);
	return text;
}

static void put(const char *name, struct span text)
{
	int fd = -1;

	assert_int_equal(os_open(folder_fd, name, OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_TRUNCATE,
				 0600, &fd),
			 0);
	if (text.len)
		assert_int_equal(os_write_all(fd, text.ptr, text.len), 0);
	os_close(fd);
}

static void test_made_and_found_again(void **state)
{
	struct os_file_info info;

	(void)state;
	assert_int_equal(ca_ready(false, NOW_S), KEYS_CA_MISSING);
	assert_true(says(task.why, "ca init"));
	assert_int_equal(os_file_info_at(folder_fd, "ca", &info), -ENOENT);
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(task.notice.len, 0);
	struct span root = arena_copy(&arena, keys_ca_root(folder));
	assert_true(cert_is_issued_by(root, root));
	assert_int_equal(keys_ca_renewal_due_s(folder) / day, (NOW_S + 365 * day * 2 / 3) / day);
	static const char *const names[] = { "ca/root.key", "ca/root.crt", "ca/intermediate.pem" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(os_file_info_at(folder_fd, names[i], &info), 0);
		assert_int_equal(info.mode, 0600);
	}
	open_again();
	assert_int_equal(ready(NOW_S + 1), 0);
	assert_true(span_equal(root, keys_ca_root(folder)));
	assert_int_equal(ready(NOW_S + 2), 0);
}

static struct span spki_of(const struct crypto_key *key)
{
	char *buf = arena_alloc(&arena, 1024, 1);
	struct writer out = writer_of(buf, 1024);

	assert_int_equal(crypto_key_write_spki(key, &out), 0);
	return writer_done(&out);
}

static void test_issue_and_list(void **state)
{
	const struct span names[] = { SPAN("b.test"), SPAN("A.test"), SPAN("::1") };
	struct crypto_key *key = NULL;
	struct keys_request request = { .names = names,
					.name_count = 3,
					.usage = CERT_USAGE_SERVER };
	struct keys_issued *issued;
	struct cert_chain chain;
	struct span pem;
	size_t count = 99;

	(void)state;
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	request.spki = spki_of(key);
	assert_int_equal(ca_issue(&request, NOW_S, &pem), KEYS_CA_MISSING);
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(keys_ca_list(&task, &issued, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(ca_issue(&request, NOW_S, &pem), 0);
	assert_int_equal(cert_chain_parse(&arena, pem, &chain, &task.why), 0);
	assert_int_equal(chain.count, 2);
	assert_true(cert_is_issued_by(chain.certificates[1], keys_ca_root(folder)));
	/* A crash in the middle of a line: what follows is read all the same. */
	struct span list = file("ca/issued.list");
	put("ca/issued.list", arena_format(&arena, "%.*sgarbage 12", SPAN_ARG(list)));
	request.usage = CERT_USAGE_SERVER | CERT_USAGE_CLIENT;
	request.lifetime_s = day;
	assert_int_equal(ca_issue(&request, NOW_S + 5, &pem), 0);
	assert_int_equal(keys_ca_list(&task, &issued, &count), 0);
	assert_int_equal(count, 2);
	assert_true(span_equal(issued[0].serial, chain.serial));
	assert_true(span_equal(issued[0].names, SPAN("a.test,b.test,::1")));
	assert_true(span_equal(issued[0].usage, SPAN("server")));
	assert_int_equal(issued[0].issued_s, NOW_S);
	assert_int_equal(issued[0].expires_s, NOW_S + 30 * day);
	assert_true(span_equal(issued[1].usage, SPAN("server,client")));
	assert_int_equal(issued[1].expires_s, NOW_S + 5 + day);
	crypto_key_free(key);
}

static void test_requests_refused(void **state)
{
	struct span name = SPAN("a.test"), bad_name = SPAN("a b"), pem;
	struct crypto_key *key = NULL;
	struct keys_request good = { .names = &name, .name_count = 1, .usage = CERT_USAGE_SERVER },
			    bad;

	(void)state;
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	good.spki = spki_of(key);
	assert_int_equal(ready(NOW_S), 0);
	bad = good;
	bad.names = &bad_name;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	assert_true(says(task.why, "`a b` is neither"));
	bad = good;
	bad.name_count = 0;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	bad = good;
	bad.usage = 0;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	bad.usage = 7;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	bad = good;
	bad.lifetime_s = 826 * day;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	bad = good;
	bad.spki.len--;
	assert_int_equal(ca_issue(&bad, NOW_S, &pem), KEYS_REQUEST_INVALID);
	keys_folder_freeze(folder);
	assert_int_equal(ca_issue(&good, NOW_S, &pem), KEYS_FOLDER_FAILED);
	crypto_key_free(key);
}

static void test_leaf(void **state)
{
	struct keys_leaf leaf, again;
	struct cert_chain chain;

	(void)state;
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), KEYS_CA_MISSING);
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
	assert_true(leaf.is_new);
	assert_int_equal(cert_chain_parse(&arena, leaf.chain_pem, &chain, &task.why), 0);
	assert_false(chain.has_private_key);
	assert_true(cert_chain_covers(&chain, SPAN("localhost")) &&
		    cert_chain_covers(&chain, SPAN("127.0.0.1")));
	assert_memory_equal(leaf.handle.spki_hash, chain.spki_hash, 32);
	assert_int_equal(leaf.renewal_due_s / day, (NOW_S + 20 * day) / day);
	crypto_key_free(leaf.key);
	open_again();
	assert_int_equal(ready(NOW_S + 1), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S + 1, &again), 0);
	assert_false(again.is_new);
	assert_true(span_equal(again.chain_pem, leaf.chain_pem));
	crypto_key_free(again.key);
	/* Due: a new key. */
	assert_int_equal(leaf_ready("localhost", leaf.renewal_due_s, &again), 0);
	assert_true(again.is_new);
	assert_memory_not_equal(again.handle.spki_hash, leaf.handle.spki_hash, 32);
	crypto_key_free(again.key);
	/* Other names under the same id. */
	assert_int_equal(leaf_ready("other", leaf.renewal_due_s, &again), 0);
	assert_true(again.is_new);
	crypto_key_free(again.key);
	assert_int_equal(leaf_ready("o ther", NOW_S, &again), KEYS_REQUEST_INVALID);
}

static void test_leaf_frozen_or_without_ca(void **state)
{
	struct keys_leaf leaf;

	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
	crypto_key_free(leaf.key);
	int64_t due_s = leaf.renewal_due_s, expires_s = leaf.expires_s;
	open_again(); /* and the CA is not loaded */
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
	assert_false(leaf.is_new);
	crypto_key_free(leaf.key);
	assert_int_equal(leaf_ready("localhost", due_s, &leaf), 0);
	assert_false(leaf.is_new);
	assert_true(says(task.notice, "could not be renewed"));
	crypto_key_free(leaf.key);
	assert_int_equal(leaf_ready("localhost", expires_s + 1, &leaf), KEYS_CA_MISSING);
	assert_int_equal(ready(NOW_S), 0);
	keys_folder_freeze(folder);
	assert_int_equal(leaf_ready("localhost", due_s, &leaf), 0);
	assert_false(leaf.is_new);
	crypto_key_free(leaf.key);
	assert_int_equal(leaf_ready("other", due_s, &leaf), KEYS_FOLDER_FAILED);
}

static void test_intermediate_renewal(void **state)
{
	struct keys_leaf leaf;

	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	struct span root = arena_copy(&arena, keys_ca_root(folder));
	int64_t due_s = keys_ca_renewal_due_s(folder);
	struct span before = file("ca/intermediate.pem");
	assert_int_equal(ready(due_s - 1), 0);
	assert_int_equal(task.notice.len, 0);
	assert_int_equal(ready(due_s), 0);
	assert_true(says(task.notice, "renewed"));
	assert_false(span_equal(before, file("ca/intermediate.pem")));
	assert_true(keys_ca_renewal_due_s(folder) > due_s);
	assert_true(span_equal(root, keys_ca_root(folder)));
	/* Without the root's key it serves until its end. */
	due_s = keys_ca_renewal_due_s(folder);
	put("ca/root.key", SPAN("garbage"));
	assert_int_equal(ready(due_s), 0);
	assert_true(says(task.notice, "could not be renewed"));
	assert_int_equal(leaf_ready("localhost", due_s, &leaf), 0);
	crypto_key_free(leaf.key);
	assert_int_equal(ready(due_s + 200 * day), KEYS_CA_DAMAGED);
	open_again();
	assert_int_equal(ready(due_s), 0);
	assert_true(says(task.notice, "goes on with its intermediate"));
}

/* A clock that was wrong by more than the root lives, either way: what is made again has the root's key, so the leaf of
 * then is the CA's own before and after. */
static void test_the_clock_was_wrong(void **state)
{
	static const int64_t jumps_days[] = { 4000, -4000, -4000, 4000 };
	struct cert_chain facts;
	struct keys_leaf leaf;
	struct span why;
	int64_t now_s = NOW_S;
	uint8_t key[sizeof(facts.spki_hash)];

	(void)state;
	assert_int_equal(ready(now_s), 0);
	assert_int_equal(cert_parse(&arena, keys_ca_root(folder), &facts, &why), 0);
	memcpy(key, facts.spki_hash, sizeof(key));
	for (size_t i = 0; i < ARRAY_LEN(jumps_days); i++) {
		struct span pem;

		if (i % 2)
			open_again(); /* a new process, or one that runs on */
		now_s += jumps_days[i] * day;
		assert_int_equal(ready(now_s), 0);
		assert_true(says(task.notice, "made again, with the same key"));
		pem = file("ca/root.crt");
		assert_int_equal(cert_chain_parse(&arena, pem, &facts, &why), 0);
		assert_memory_equal(facts.spki_hash, key, sizeof(key));
		assert_int_equal(cert_chain_validity(&facts, now_s), CERT_VALID);
		assert_int_equal(leaf_ready("localhost", now_s, &leaf), 0);
		assert_int_equal(cert_chain_parse(&arena, leaf.chain_pem, &facts, &why), 0);
		assert_int_equal(cert_chain_validity(&facts, now_s), CERT_VALID);
		crypto_key_free(leaf.key);
		/* And once it is right, that is that. */
		assert_int_equal(ready(now_s + 1), 0);
		assert_int_equal(task.notice.len, 0);
	}
	/* Without the key nothing is made: one that has expired is told. */
	put("ca/root.key", SPAN("garbage"));
	assert_int_equal(ready(now_s + 4000 * day), KEYS_CA_DAMAGED);
	assert_true(says(task.why, "has expired"));
}

/* Each file cut at each length, and with each 16th byte changed. Nothing crashes, and what comes of it is as
 * keys.h says. */
static void damage(const char *name, int expected, const char *word)
{
	struct span whole = file(name);
	char *copy = arena_alloc(&arena, whole.len + 1, 1);

	for (size_t len = 0; len < whole.len + whole.len / 16; len++) {
		bool is_cut = len < whole.len;
		size_t at = (len - whole.len) * 16;
		memcpy(copy, whole.ptr, whole.len);
		if (!is_cut)
			copy[at] = copy[at] == 'A' ? 'B' : 'A';
		put(name, span_of(copy, is_cut ? len : whole.len));
		open_again();
		int result = ready(NOW_S + 60);
		/* The last newline, or a changed letter of a label, may be missed by nobody. */
		if (is_cut && len < whole.len - 1 &&
		    (result != expected || (word && !says(result ? task.why : task.notice, word))))
			fail_msg("%s at %zu: %d %.*s", name, len, result, SPAN_ARG(task.why));
		if (!is_cut && result != 0 && result != expected)
			fail_msg("%s, byte %zu: %d", name, at, result);
		put(name, whole);
	}
	open_again();
}

static void test_damaged(void **state)
{
	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	struct span root = file("ca/root.crt"), key = file("ca/root.key");
	damage("ca/root.crt", KEYS_CA_DAMAGED, "every browser must be told");
	damage("ca/root.key", 0, "goes on with its intermediate");
	assert_true(span_equal(root, file("ca/root.crt")));
	assert_true(span_equal(key, file("ca/root.key")));
	damage("ca/intermediate.pem", 0, "was made again");
	assert_true(span_equal(root, file("ca/root.crt")));
}

static void test_damaged_leaf(void **state)
{
	struct keys_leaf leaf;

	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
	crypto_key_free(leaf.key);
	struct span whole = file("leaf/0000000000001234.pem");
	for (size_t len = 0; len < whole.len - 1; len += 7) {
		put("leaf/0000000000001234.pem", span_first(whole, len));
		assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
		assert_true(leaf.is_new);
		assert_true(says(task.notice, "made again"));
		crypto_key_free(leaf.key);
	}
}

static int cookies_ready(int64_t now_s, struct keys_cookies *ret)
{
	task = (struct keys_task){ folder, &arena, now_s, SPAN_NONE, SPAN_NONE };
	return keys_cookies_ready(&task, ret);
}

static void test_cookie_keys(void **state)
{
	struct keys_cookies first, again, rotated;
	struct os_file_info info;

	(void)state;
	assert_int_equal(cookies_ready(NOW_S, &first), 0);
	assert_int_equal(task.notice.len, 0);
	assert_int_equal(first.count, 1);
	assert_int_equal(first.keys[0].made_at_s, NOW_S);
	assert_int_equal(os_file_info_at(folder_fd, "cookie/keys", &info), 0);
	assert_int_equal(info.mode, 0600);
	/* It stays: over restarts, and clocks that were a little wrong. */
	open_again();
	for (int64_t at = NOW_S - day; at < NOW_S + 90 * day; at += day / 2) {
		assert_int_equal(cookies_ready(at, &again), 0);
		assert_memory_equal(&again, &first, sizeof(first));
	}
	/* The one of before stays behind a new one, and goes with the next. */
	assert_int_equal(cookies_ready(NOW_S + 90 * day, &rotated), 0);
	assert_int_equal(rotated.count, 2);
	assert_memory_equal(&rotated.keys[1], &first.keys[0], sizeof(first.keys[0]));
	assert_memory_not_equal(rotated.keys[0].secret, first.keys[0].secret, KEYS_COOKIE_SECRET);
	open_again();
	assert_int_equal(cookies_ready(NOW_S + 91 * day, &again), 0);
	assert_memory_equal(&again, &rotated, sizeof(rotated));
	assert_int_equal(cookies_ready(NOW_S + 180 * day, &again), 0);
	assert_memory_equal(&again.keys[1], &rotated.keys[0], sizeof(rotated.keys[0]));
	/* Made on a day that is still to come: the clock was wrong then. */
	assert_int_equal(cookies_ready(NOW_S, &rotated), 0);
	assert_memory_equal(&rotated.keys[1], &again.keys[0], sizeof(again.keys[0]));
	assert_int_equal(rotated.keys[0].made_at_s, NOW_S);
}

static void test_cookie_keys_damaged_or_frozen(void **state)
{
	struct keys_cookies first, again;
	char longer[256];
	size_t kept = 0;

	(void)state;
	assert_int_equal(cookies_ready(NOW_S - 90 * day, &first), 0);
	assert_int_equal(cookies_ready(NOW_S, &first), 0);
	struct span whole = file("cookie/keys");
	for (size_t len = 0; len < whole.len; len++) {
		put("cookie/keys", span_first(whole, len));
		assert_int_equal(cookies_ready(NOW_S, &again), 0);
		/* Cut at a line's end it holds what it says; anywhere else nothing of it is believed. */
		if (!task.notice.len) {
			kept++;
			assert_memory_equal(&again.keys[0], &first.keys[0], sizeof(first.keys[0]));
			continue;
		}
		assert_true(says(task.notice, "was damaged and is made anew"));
		assert_int_equal(again.count, 1);
		assert_memory_not_equal(again.keys[0].secret, first.keys[0].secret,
					KEYS_COOKIE_SECRET);
	}
	assert_int_equal(kept, 3);
	(void)snprintf(longer, sizeof(longer), "%.*s%.*s", SPAN_ARG(whole), SPAN_ARG(whole));
	put("cookie/keys", span_str(longer));
	assert_int_equal(cookies_ready(NOW_S, &again), 0);
	assert_true(says(task.notice, "was damaged"));

	/* Nothing is written any more: what is there serves on, beyond its day too. */
	put("cookie/keys", whole);
	keys_folder_freeze(folder);
	assert_int_equal(cookies_ready(NOW_S + 365 * day, &again), 0);
	assert_memory_equal(&again, &first, sizeof(first));
	assert_int_equal(os_unlink(folder_fd, "cookie/keys"), 0);
	assert_int_equal(cookies_ready(NOW_S, &again), KEYS_FOLDER_FAILED);
	assert_true(says(task.why, "is not written any more"));
}

static void test_interrupted_creation(void **state)
{
	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	struct span key = file("ca/root.key");
	assert_int_equal(os_unlink(folder_fd, "ca/root.crt"), 0);
	open_again();
	assert_int_equal(ready(NOW_S), 0);
	assert_true(span_equal(
		key,
		file("ca/root.key"))); /* the same key: nothing was trusted yet, nothing is lost */
	assert_int_equal(os_unlink(folder_fd, "ca/intermediate.pem"), 0);
	open_again();
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(task.notice.len, 0);
	/* Both keys gone: there is nothing to go on with. */
	assert_int_equal(os_unlink(folder_fd, "ca/intermediate.pem"), 0);
	assert_int_equal(os_unlink(folder_fd, "ca/root.key"), 0);
	open_again();
	assert_int_equal(ready(NOW_S), KEYS_CA_DAMAGED);
	assert_true(says(task.why, "root.key is missing"));
}

/* A new CA after the operator removed the old one: leaves follow. */
static void test_new_ca(void **state)
{
	struct keys_leaf leaf, again;
	int fd = -1;

	(void)state;
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S, &leaf), 0);
	assert_int_equal(os_open(folder_fd, "ca", OS_OPEN_FOLDER, 0, &fd), 0);
	assert_int_equal(os_folder_list(fd, remove_one, &fd), 0);
	os_close(fd);
	open_again();
	assert_int_equal(ready(NOW_S), 0);
	assert_int_equal(leaf_ready("localhost", NOW_S, &again), 0);
	assert_true(again.is_new);
	crypto_key_free(leaf.key);
	crypto_key_free(again.key);
}

static void test_key_files(void **state)
{
	struct crypto_key *key = NULL, *loaded = NULL;
	uint8_t hash[CRYPTO_SHA256_SIZE];
	char buf[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(buf, sizeof(buf));
	int fd = -1;

	(void)state;
	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	assert_int_equal(crypto_key_spki_hash(key, hash), 0);
	assert_int_equal(crypto_key_write_pem(key, &out), 0);
	crypto_key_free(key);
	put("site.key", writer_done(&out));
	assert_int_equal(os_open(folder_fd, "site.key", OS_OPEN_READ, 0, &fd), 0);
	assert_int_equal(keys_file_load(fd, hash, &arena, &loaded, &task.why), 0);
	crypto_key_free(loaded);
	hash[0] ^= 1;
	assert_int_equal(keys_file_load(fd, hash, &arena, &loaded, &task.why), KEYS_FILE_MISMATCH);
	assert_true(says(task.why, "do not match"));
	assert_int_equal(keys_file_load(fd, NULL, &arena, &loaded, &task.why), 0);
	crypto_key_free(loaded);
	os_close(fd);
	put("site.key", SPAN("-----BEGIN ENCRYPTED PRIVATE KEY-----\nYWJj\n-----END ENCRYPTED "
			     "PRIVATE KEY-----\n"));
	assert_int_equal(os_open(folder_fd, "site.key", OS_OPEN_READ, 0, &fd), 0);
	assert_int_equal(keys_file_load(fd, hash, &arena, &loaded, &task.why), KEYS_FILE_UNUSABLE);
	assert_true(says(task.why, "is encrypted"));
	os_close(fd);
	assert_int_equal(os_open(folder_fd, ".", OS_OPEN_FOLDER, 0, &fd), 0);
	assert_int_equal(keys_file_load(fd, hash, &arena, &loaded, &task.why),
			 KEYS_FILE_UNREADABLE);
	assert_true(says(task.why, "cannot be read: "));
	os_close(fd);
	assert_int_equal(keys_file_load(-1, hash, &arena, &loaded, &task.why),
			 KEYS_FILE_UNREADABLE);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_made_and_found_again),
		TEST(test_issue_and_list),
		TEST(test_requests_refused),
		TEST(test_leaf),
		TEST(test_leaf_frozen_or_without_ca),
		TEST(test_intermediate_renewal),
		TEST(test_the_clock_was_wrong),
		TEST(test_damaged),
		TEST(test_damaged_leaf),
		TEST(test_interrupted_creation),
		TEST(test_cookie_keys),
		TEST(test_cookie_keys_damaged_or_frozen),
		TEST(test_new_ca),
		TEST(test_key_files),
	};

	crypto_start();
	if (!mkdtemp(path) || os_open(OS_FOLDER_CURRENT, path, OS_OPEN_FOLDER, 0, &folder_fd) != 0)
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (os_folder_list(folder_fd, remove_one, &folder_fd) != 0)
		failed++;
	os_close(folder_fd);
	if (os_unlink_folder(OS_FOLDER_CURRENT, path) != 0)
		failed++;
	return failed;
}
