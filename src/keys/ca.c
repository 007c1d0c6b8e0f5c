#include "keys/folder_internal.h"

#include <string.h>

#include "os/os.h"

static const char subfolder[] = "ca";
static const char root_advice[] =
	"restore it from a backup, or remove the key folder's ca to start a new CA, which "
	"every browser must be told to trust again";

static void pair_clear(struct keys_pair *pair)
{
	crypto_key_free(pair->key);
	heap_free((void *)pair->der.ptr);
	*pair = (struct keys_pair){ .der = SPAN_NONE };
}

/* Takes `key` over. */
static int pair_set(struct keys_pair *pair, struct keys_task *task, struct span der,
		    struct crypto_key *key)
{
	struct cert_chain facts;
	struct span why;
	int result = cert_parse(task->arena, der, &facts, &why);
	char *copy = result == 0 ? heap_alloc(der.len) : NULL;

	if (!copy) {
		crypto_key_free(key);
		return result ? result : -ENOMEM;
	}
	memcpy(copy, der.ptr, der.len);
	pair_clear(pair);
	*pair = (struct keys_pair){
		.der = span_of(copy, der.len),
		.key = key,
		.not_before_s = facts.not_before_s,
		.not_after_s = facts.not_after_s,
	};
	return 0;
}

/* 0: the certificate and its key, both good. -ENOENT, or 1 with task->why: what is wrong with it. */
static int read_key(struct keys_task *task, const char *path, const struct cert_chain *facts,
		    struct crypto_key **ret_key)
{
	struct span text;
	struct crypto_key *key = NULL;
	int result = keys_folder_read(task, path, &text);

	if (result != 0)
		return result == -ENOENT || result == -ENOMEM
			       ? result
			       : keys_fail(task, KEYS_CA_DAMAGED, "%s cannot be read: %s", path,
					   keys_error_text(result));
	result = crypto_key_parse_pem(text, &key);
	keys_wipe_text(text);
	if (result > 0)
		return keys_fail(task, KEYS_CA_DAMAGED, "%s %s", path,
				 crypto_key_outcome_text(result));
	if (result == 0 && facts && !keys_is_key_of(key, facts)) {
		crypto_key_free(key);
		return keys_fail(task, KEYS_CA_DAMAGED, "%s is not the key of its certificate",
				 path);
	}
	if (result == 0)
		*ret_key = key;
	return result;
}

static int read_certificate(struct keys_task *task, const char *path, struct span *ret_der,
			    struct cert_chain *ret_facts)
{
	struct span text, why;
	int result = keys_folder_read(task, path, &text);

	if (result != 0)
		return result == -ENOENT || result == -ENOMEM
			       ? result
			       : keys_fail(task, KEYS_CA_DAMAGED, "%s cannot be read: %s", path,
					   keys_error_text(result));
	bool found = keys_first_certificate(task->arena, text, ret_der);
	keys_wipe_text(text);
	if (!found)
		return keys_fail(task, KEYS_CA_DAMAGED,
				 "%s is damaged: no whole certificate stands in it", path);
	result = cert_parse(task->arena, *ret_der, ret_facts, &why);
	return result > 0 ? keys_fail(task, KEYS_CA_DAMAGED, "%s %.*s", path, SPAN_ARG(why))
			  : result;
}

/* A root signs itself; its certificate is public and may be read without its key. */
static int load_root(struct keys_task *task)
{
	struct span der = SPAN_NONE;
	struct cert_chain facts = { 0 };
	int result = read_certificate(task, "ca/root.crt", &der, &facts);

	if (result != 0)
		return result;
	if (!cert_is_issued_by(der, der))
		return keys_fail(task, KEYS_CA_DAMAGED,
				 "ca/root.crt is not a root: it did not sign itself");
	return pair_set(&task->folder->root, task, der, NULL);
}

static int load_root_key(struct keys_task *task)
{
	struct cert_chain facts;
	struct span why;

	if (task->folder->root.key)
		return 0;
	int result = cert_parse(task->arena, task->folder->root.der, &facts, &why);
	if (result == 0)
		result = read_key(task, "ca/root.key", &facts, &task->folder->root.key);
	return result == -ENOENT ? keys_fail(task, KEYS_CA_DAMAGED, "ca/root.key is missing")
				 : result;
}

static void forget_root_key(struct keys_folder *folder)
{
	crypto_key_free(TAKE(folder->root.key));
}

static int spki_of(struct keys_task *task, const struct crypto_key *key, struct span *ret_spki)
{
	enum { SPKI_MAX = 1024 };
	char *buf = arena_alloc(task->arena, SPKI_MAX, 1);

	if (!buf)
		return -ENOMEM;
	struct writer out = writer_of(buf, SPKI_MAX);
	int result = crypto_key_write_spki(key, &out);
	*ret_spki = writer_done(&out);
	return result;
}

/* The key first: a root.crt that is there always has its key, whatever interrupted us. */
static int make_root(struct keys_task *task, struct span label)
{
	struct cert_template template = { .kind = CERT_TEMPLATE_ROOT,
					  .label = span_first(label, 32) };
	struct crypto_key *key = NULL;
	struct span spki, der, text;
	int result = read_key(task, "ca/root.key", NULL, &key);

	if (result != 0) {
		result = crypto_key_generate(CRYPTO_KEY_P256, &key);
		if (result != 0)
			return result;
		result = keys_pair_text(task->arena, NULL, 0, key, &text);
		if (result == 0)
			result = keys_folder_write(task, subfolder, "root.key", text);
		keys_wipe_text(text);
	}
	crypto_random(template.serial, sizeof(template.serial));
	struct cert_issuer issuer = { .key = key };
	char *pem = arena_alloc(task->arena, CERT_PEM_MAX, 1);
	if (result == 0 && !pem)
		result = -ENOMEM;
	if (result == 0)
		result = spki_of(task, key, &spki);
	if (result == 0)
		result = cert_build(task->arena, &template, &issuer, spki, task->now_s, &der);
	if (result == 0) {
		struct writer out = writer_of(pem, CERT_PEM_MAX);
		cert_write_pem(der, &out);
		result = keys_folder_write(task, subfolder, "root.crt", writer_done(&out));
	}
	if (result == 0)
		return pair_set(&task->folder->root, task, der, key);
	crypto_key_free(key);
	return result;
}

static bool is_dated(const struct keys_pair *pair, int64_t now_s)
{
	return now_s >= pair->not_before_s && now_s <= pair->not_after_s;
}

/* Its years are over, or the clock was wrong when it was made (a machine without a battery starts in another decade).
 * Key and name stay: who trusts the certificate of before trusts what this one issues, whenever that one is valid. */
static int renew_root(struct keys_task *task, struct span label)
{
	struct keys_folder *folder = task->folder;
	bool has_expired = task->now_s > folder->root.not_after_s;
	int result;

	if (is_dated(&folder->root, task->now_s) || folder->is_frozen)
		return 0;
	result = load_root_key(task);
	if (result == 0)
		result = make_root(task, label);
	if (result == 0) {
		keys_notify(task,
			    "the local CA's root certificate was not valid at this time and "
			    "was made again, with the same key: `portcullis ca trust` makes it "
			    "known");
		return 0;
	}
	if (!has_expired)
		return 0;
	pair_clear(&folder->root);
	return keys_fail(task, KEYS_CA_DAMAGED,
			 "the local CA is damaged: ca/root.crt has expired; %s", root_advice);
}

static int load_intermediate(struct keys_task *task)
{
	static const char path[] = "ca/intermediate.pem";
	struct span der = SPAN_NONE;
	struct cert_chain facts = { 0 };
	struct crypto_key *key = NULL;
	int result = read_certificate(task, path, &der, &facts);

	if (result != 0)
		return result;
	if (!cert_is_issued_by(der, task->folder->root.der))
		return keys_fail(task, KEYS_CA_DAMAGED, "%s was not issued by ca/root.crt", path);
	if (task->now_s > facts.not_after_s || task->now_s < facts.not_before_s)
		return keys_fail(task, KEYS_CA_DAMAGED, "%s is not valid today", path);
	result = read_key(task, path, &facts, &key);
	return result ? result : pair_set(&task->folder->intermediate, task, der, key);
}

static int build_intermediate(struct keys_task *task, struct span label, struct crypto_key *key,
			      struct span *ret_der)
{
	struct cert_template template = { .kind = CERT_TEMPLATE_INTERMEDIATE,
					  .label = span_first(label, 32) };
	struct cert_issuer issuer = { .certificate = task->folder->root.der,
				      .key = task->folder->root.key };
	struct span spki, text;
	int result = spki_of(task, key, &spki);

	crypto_random(template.serial, sizeof(template.serial));
	if (result == 0)
		result = cert_build(task->arena, &template, &issuer, spki, task->now_s, ret_der);
	if (result == 0)
		result = keys_pair_text(task->arena, ret_der, 1, key, &text);
	if (result != 0)
		return result;
	result = keys_folder_write(task, subfolder, "intermediate.pem", text);
	keys_wipe_text(text);
	return result;
}

static int make_intermediate(struct keys_task *task, struct span label)
{
	struct crypto_key *key = NULL;
	struct span der;
	int result = load_root_key(task);

	if (result == 0)
		result = crypto_key_generate(CRYPTO_KEY_P256, &key);
	if (result == 0)
		result = build_intermediate(task, label, key, &der);
	if (result == 0)
		return pair_set(&task->folder->intermediate, task, der, key);
	crypto_key_free(key);
	return result;
}

static int ready_root(struct keys_task *task, bool may_create, struct span label)
{
	int result = load_root(task);

	if (result == KEYS_CA_DAMAGED)
		return keys_fail(task, result, "the local CA is damaged: %.*s; %s",
				 SPAN_ARG(task->why), root_advice);
	if (result != -ENOENT)
		return result;
	if (!may_create)
		return keys_fail(task, KEYS_CA_MISSING,
				 "there is no local CA yet (`portcullis ca init` makes one)");
	return make_root(task, label);
}

/* At the first look also the root's key is tried, so that its loss is heard of long before it is needed. */
static int ready_intermediate(struct keys_task *task, struct span label)
{
	int result = load_intermediate(task);

	if (result == 0) {
		if (load_root_key(task) != 0)
			keys_notify(task,
				    "the local CA goes on with its intermediate certificate only: "
				    "%.*s; %s",
				    SPAN_ARG(task->why), root_advice);
		return 0;
	}
	if (result == KEYS_CA_DAMAGED)
		keys_notify(task, "the local CA's intermediate certificate was made again: %.*s",
			    SPAN_ARG(task->why));
	else if (result != -ENOENT)
		return result;
	result = make_intermediate(task, label);
	if (result == KEYS_CA_DAMAGED)
		return keys_fail(task, result, "the local CA is damaged: %.*s; %s",
				 SPAN_ARG(task->why), root_advice);
	return result;
}

/* What cannot be renewed serves until its end. */
static int renew_intermediate(struct keys_task *task, struct span label)
{
	struct keys_folder *folder = task->folder;

	if ((task->now_s < keys_ca_renewal_due_s(folder) &&
	     is_dated(&folder->intermediate, task->now_s)) ||
	    folder->is_frozen)
		return 0;
	int result = make_intermediate(task, label);
	if (result == 0) {
		keys_notify(task, "the local CA's intermediate certificate was renewed");
		return 0;
	}
	if (task->now_s > folder->intermediate.not_after_s)
		return result;
	keys_notify(task, "the local CA's intermediate certificate could not be renewed: %.*s",
		    SPAN_ARG(task->why));
	return 0;
}

int keys_ca_ready(struct keys_task *task, bool may_create, struct span label)
{
	struct keys_folder *folder = task->folder;
	int result = 0;

	keys_task_begin(task);
	if (!folder->root.der.ptr)
		result = ready_root(task, may_create, label);
	if (result == 0)
		result = renew_root(task, label);
	if (result == 0 && !folder->intermediate.key)
		result = ready_intermediate(task, label);
	else if (result == 0)
		result = renew_intermediate(task, label);
	forget_root_key(folder);
	return result;
}

struct span keys_ca_root(const struct keys_folder *folder)
{
	return folder->root.der;
}

int64_t keys_ca_renewal_due_s(const struct keys_folder *folder)
{
	return cert_renewal_due_s(folder->intermediate.not_before_s,
				  folder->intermediate.not_after_s);
}

static const char *usage_text(unsigned usage)
{
	if (usage == (CERT_USAGE_SERVER | CERT_USAGE_CLIENT))
		return "server,client";
	return usage == CERT_USAGE_CLIENT ? "client" : "server";
}

static int note_issued(struct keys_task *task, const struct cert_template *template,
		       const struct cert_chain *facts)
{
	enum { LINE_MAX_SIZE = 32 * 1024 };
	char *buf = arena_alloc(task->arena, LINE_MAX_SIZE, 1);
	struct writer out = writer_of(buf, buf ? LINE_MAX_SIZE : 0);

	if (!buf)
		return -ENOMEM;
	write_format(&out, "%.*s %lld %lld %s ", SPAN_ARG(facts->serial), (long long)task->now_s,
		     (long long)facts->not_after_s, usage_text(template->usage));
	for (size_t i = 0; i < template->name_count; i++) {
		if (i)
			write_byte(&out, ',');
		cert_name_write(&template->names[i], &out);
	}
	write_byte(&out, '\n');
	return out.ok ? keys_folder_append(task, subfolder, "issued.list", writer_done(&out))
		      : -ENOSPC;
}

static int fill_template(struct keys_task *task, const struct keys_request *request,
			 struct cert_template *template)
{
	struct cert_name *names;
	enum crypto_key_type type;
	size_t bad = 0;
	int result = cert_names_parse(task->arena, request->names, request->name_count, &names,
				      &template->name_count, &bad);

	if (result == CERT_NAME_INVALID && bad >= CERT_NAMES_MAX)
		return keys_fail(task, KEYS_REQUEST_INVALID, "more than %d names", CERT_NAMES_MAX);
	if (result == CERT_NAME_INVALID)
		return keys_fail(task, KEYS_REQUEST_INVALID,
				 "`%.*s` is neither a host name nor an address",
				 SPAN_ARG(request->names[bad]));
	if (result != 0)
		return result;
	if (template->name_count == 0)
		return keys_fail(task, KEYS_REQUEST_INVALID, "no name was given");
	if (request->usage == 0 ||
	    (request->usage & ~(unsigned)(CERT_USAGE_SERVER | CERT_USAGE_CLIENT)) != 0)
		return keys_fail(task, KEYS_REQUEST_INVALID,
				 "a certificate is for servers, clients or both");
	if (request->lifetime_s < 0 ||
	    request->lifetime_s > (int64_t)CERT_LEAF_DAYS_MAX * CERT_DAY_S)
		return keys_fail(task, KEYS_REQUEST_INVALID, "a certificate lives at most %d days",
				 CERT_LEAF_DAYS_MAX);
	if (crypto_spki_inspect(request->spki, &type, NULL) != 0)
		return keys_fail(task, KEYS_REQUEST_INVALID, "the public key %s",
				 crypto_key_outcome_text(CRYPTO_KEY_UNSUPPORTED));
	template->names = names;
	template->usage = request->usage;
	template->lifetime_s = request->lifetime_s;
	crypto_random(template->serial, sizeof(template->serial));
	return 0;
}

int keys_issue(struct keys_task *task, const struct keys_request *request,
	       struct span *ret_chain_pem)
{
	struct keys_folder *folder = task->folder;
	struct cert_issuer issuer = { .certificate = folder->intermediate.der,
				      .key = folder->intermediate.key };
	struct cert_template template = { .kind = CERT_TEMPLATE_LEAF };
	struct cert_chain facts;
	struct span der;

	if (!issuer.key || task->now_s > folder->intermediate.not_after_s)
		return keys_fail(task, KEYS_CA_MISSING, "there is no local CA that could issue it");
	int result = fill_template(task, request, &template);
	if (result != 0)
		return result;
	result = cert_build(task->arena, &template, &issuer, request->spki, task->now_s, &der);
	if (result == 0)
		result = cert_parse(task->arena, der, &facts, &task->why);
	if (result == 0)
		result = note_issued(task, &template, &facts);
	if (result != 0)
		return result;
	char *pem = arena_alloc(task->arena, 2 * CERT_PEM_MAX, 1);
	struct writer out = writer_of(pem, pem ? 2 * CERT_PEM_MAX : 0);
	cert_write_pem(der, &out);
	cert_write_pem(folder->intermediate.der, &out);
	*ret_chain_pem = writer_done(&out);
	return out.ok ? 0 : -ENOMEM;
}

int keys_ca_issue(struct keys_task *task, const struct keys_request *request,
		  struct span *ret_chain_pem)
{
	keys_task_begin(task);
	return keys_issue(task, request, ret_chain_pem);
}

static bool parse_time(struct span text, int64_t *ret_time_s)
{
	uint64_t value;

	if (!parse_u64(text, INT64_MAX, &value))
		return false;
	*ret_time_s = (int64_t)value;
	return true;
}

static bool parse_issued(struct span line, struct keys_issued *ret_issued)
{
	struct span issued, expires;

	return span_cut(&line, ' ', &ret_issued->serial) &&
	       ret_issued->serial.len == 2 * CERT_SERIAL_SIZE && span_cut(&line, ' ', &issued) &&
	       parse_time(issued, &ret_issued->issued_s) && span_cut(&line, ' ', &expires) &&
	       parse_time(expires, &ret_issued->expires_s) &&
	       span_cut(&line, ' ', &ret_issued->usage) && ret_issued->usage.len > 0 &&
	       span_cut(&line, ' ', &ret_issued->names) && ret_issued->names.len > 0 &&
	       line.len == 0;
}

int keys_ca_list(struct keys_task *task, struct keys_issued **ret_issued, size_t *ret_count)
{
	struct span text, line;
	size_t line_count = 1, count = 0;
	int result = os_file_read(task->folder->fd, "ca/issued.list", KEYS_LIST_SIZE_MAX,
				  task->arena, &text);

	keys_task_begin(task);

	if (result == -ENOENT)
		text = SPAN_NONE;
	else if (result == -ENOMEM)
		return result;
	else if (result != 0)
		return keys_fail(task, KEYS_FOLDER_FAILED,
				 "the key folder's ca/issued.list cannot be read: %s",
				 keys_error_text(result));
	for (size_t i = 0; i < text.len; i++)
		line_count += text.ptr[i] == '\n';
	struct keys_issued *issued = arena_array(task->arena, struct keys_issued, line_count);
	if (!issued)
		return -ENOMEM;
	while (count < line_count && span_cut(&text, '\n', &line))
		count += parse_issued(line, &issued[count]);
	*ret_issued = issued;
	*ret_count = count;
	return 0;
}
