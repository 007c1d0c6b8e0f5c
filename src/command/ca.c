/* `portcullis ca`: the local CA, with a running service and without one. */
#include "command/ca_internal.h"

#include <stdio.h>
#include <string.h>

#include "cert/cert.h"
#include "command/control.h"
#include "crypto/crypto.h"

enum { PATH_MAX_LEN = 4096, NAME_MAX_LEN = 255, SPKI_MAX = 1024, REQUEST_MAX = 16384 };

/* ---- init, root, trust ----------------------------------------------------------------------------------- */

/* The root's certificate, PEM. The CA is made where there is none. */
static int get_root(struct ca_vault *vault, const struct command_line *line, struct span *ret_pem)
{
	struct ipc_ca_root body = { .create = 1 };
	int code = ca_vault_open(vault, command_value(line, "-c"), true);

	if (!code)
		code = ca_vault_ask(vault, IPC_MESSAGE_ca_root, &body, SPAN_NONE, ret_pem);
	return code < 0 ? COMMAND_FAULT : code;
}

static void write_fingerprint(struct arena *arena, struct span pem, struct writer *out)
{
	uint8_t digest[CRYPTO_SHA256_SIZE];
	struct crypto_pem_block block;
	char *buf = arena_alloc(arena, pem.len + 1, 1);
	struct writer der = writer_of(buf, buf ? pem.len : 0);

	if (!buf || crypto_pem_next(&pem, &block, &der))
		return;
	crypto_sha256(writer_done(&der), digest);
	write_hex(out, span_of(digest, sizeof(digest)));
}

/* {"ONE":"…","OTHER":"…"} */
static void print_pair(const char *one, struct span first, const char *other, struct span second)
{
	char text[2 * PATH_MAX_LEN + 256];
	struct writer out = writer_of(text, sizeof(text));

	write_format(&out, "{\"%s\":", one);
	write_json(&out, first);
	write_format(&out, ",\"%s\":", other);
	write_json(&out, second);
	write_str(&out, "}\n");
	os_out(writer_done(&out));
}

static int run_init(const struct command_line *line)
{
	struct ca_vault vault;
	struct span pem;
	char hex[CRYPTO_SHA256_SIZE * 2];
	struct writer digest = writer_of(hex, sizeof(hex));
	int code = get_root(&vault, line, &pem);

	if (!code)
		write_fingerprint(&vault.arena, pem, &digest);
	if (!code && command_has(line, "--json")) {
		print_pair("state", vault.state, "root_sha256", writer_done(&digest));
	} else if (!code) {
		command_print("the local CA is in %.*s/keys\n", SPAN_ARG(vault.state));
		command_print("root certificate, SHA-256: %.*s\n", SPAN_ARG(writer_done(&digest)));
		command_print("`portcullis ca trust` makes this machine trust it; `portcullis ca "
			      "root` prints it for others\n");
	}
	ca_vault_close(&vault);
	return code;
}

static int run_root(const struct command_line *line)
{
	struct ca_vault vault;
	struct span pem;
	int code = get_root(&vault, line, &pem);

	if (!code && command_has(line, "--json"))
		print_pair("state", vault.state, "root", pem);
	else if (!code)
		os_out(pem);
	ca_vault_close(&vault);
	return code;
}

static int run_trust(const struct command_line *line)
{
	struct ca_vault vault;
	struct span pem;
	int code = get_root(&vault, line, &pem);

	if (!code)
		code = ca_trust(&vault.arena, vault.state, pem);
	ca_vault_close(&vault);
	return code;
}

/* ---- issue ------------------------------------------------------------------------------------------------- */

/* Where the two files go: a folder and the names in it. */
struct place {
	int folder_fd;
	char folder[PATH_MAX_LEN], key[NAME_MAX_LEN + 1], certificate[NAME_MAX_LEN + 1];
};

/* Without --out: the first name, `*` as a word, in the working folder. */
static int find_place(const struct command_line *line, struct place *place)
{
	const char *prefix = command_value(line, "--out");
	char text[PATH_MAX_LEN];
	const char *name, *slash;
	int len;

	if (!prefix) {
		name = line->operands[1];
		len = snprintf(text, sizeof(text), "%s%s", name[0] == '*' ? "wildcard" : "",
			       name + (name[0] == '*'));
		prefix = text;
		if (len < 0 || strchr(text, '/') || text[0] == '.')
			return command_wrong(
				line, "`%s` is no name of a host; --out says where the files go",
				name);
	}
	slash = strrchr(prefix, '/');
	name = slash ? slash + 1 : prefix;
	if (!*name || strlen(name) > NAME_MAX_LEN - 4 || strlen(prefix) >= sizeof(place->folder))
		return command_wrong(line, "`%s` is no beginning of a file's name", prefix);
	snprintf(place->folder, sizeof(place->folder), "%.*s",
		 slash ? (int)(slash - prefix) + 1 : 1, slash ? prefix : ".");
	snprintf(place->key, sizeof(place->key), "%.*s.key", NAME_MAX_LEN - 4, name);
	snprintf(place->certificate, sizeof(place->certificate), "%.*s.crt", NAME_MAX_LEN - 4,
		 name);
	return 0;
}

static int complain_of(const struct place *place, const char *name, int err)
{
	bool is_here = strcmp(place->folder, ".") == 0;

	command_complain("portcullis: %s%s: %s\n", is_here ? "" : place->folder, name,
			 err == -EEXIST ? "it is there already, and nothing is overwritten"
					: strerror(-err));
	return COMMAND_FAULT;
}

/* Before anything is asked of the vault: what cannot be written must not stand in the CA's list. */
static int open_place(struct place *place)
{
	const char *names[] = { place->key, place->certificate };
	struct os_file_info info;
	int err = os_open(OS_FOLDER_CURRENT, place->folder, OS_OPEN_FOLDER, 0, &place->folder_fd);

	if (err)
		return complain_of(place, "", err);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		err = os_file_info_at(place->folder_fd, names[i], &info);
		if (err != -ENOENT)
			return complain_of(place, names[i], err ? err : -EEXIST);
	}
	return 0;
}

/* The name is taken first, so that a file which came meanwhile is not replaced; then it is whole or empty. */
static int write_file(const struct place *place, const char *name, struct span text, unsigned mode)
{
	OS_AUTO_FD fd = -1;
	int err = os_open(place->folder_fd, name,
			  OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE, 0600, &fd);

	if (!err) {
		err = os_file_replace(place->folder_fd, name, text, mode);
		if (err)
			(void)!os_unlink(place->folder_fd, name);
	}
	return err ? complain_of(place, name, err) : 0;
}

static int write_pair(const struct place *place, const struct crypto_key *key, struct span chain)
{
	char pem[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(pem, sizeof(pem));
	int code = crypto_key_write_pem(key, &out) ? COMMAND_FAULT : 0;

	if (!code)
		code = write_file(place, place->key, writer_done(&out), 0600);
	crypto_wipe(pem, sizeof(pem));
	if (!code) {
		code = write_file(place, place->certificate, chain, 0644);
		if (code)
			(void)!os_unlink(place->folder_fd, place->key);
	}
	return code;
}

/* The key stays in this process: only its public half is sent. */
static int issue(const struct command_line *line, struct ca_vault *vault,
		 const struct ipc_ca_issue *body, const struct crypto_key *key,
		 struct span *ret_chain)
{
	char spki[SPKI_MAX], tail[REQUEST_MAX];
	struct writer spki_out = writer_of(spki, sizeof(spki)), out = writer_of(tail, sizeof(tail));

	if (crypto_key_write_spki(key, &spki_out))
		return COMMAND_FAULT;
	write_be16(&out, (uint16_t)writer_done(&spki_out).len);
	write_span(&out, writer_done(&spki_out));
	for (size_t i = 1; i < line->operand_count; i++) {
		write_str(&out, line->operands[i]);
		write_byte(&out, '\0');
	}
	if (!out.ok)
		return command_wrong(line, "the names are too long");
	return ca_vault_ask(vault, IPC_MESSAGE_ca_issue, body, writer_done(&out), ret_chain);
}

static int read_request(const struct command_line *line, struct ipc_ca_issue *ret_body)
{
	const char *text = command_value(line, "--days");
	uint64_t days = 0;

	if (line->operand_count < 2)
		return command_wrong(line, "issue for which name?");
	if (text && (!parse_u64(span_str(text), CERT_LEAF_DAYS_MAX, &days) || !days))
		return command_wrong(line, "--days is a number from 1 to %d", CERT_LEAF_DAYS_MAX);
	ret_body->lifetime_s = (uint32_t)(days * CERT_DAY_S);
	if (command_has(line, "--client"))
		ret_body->usage |= CERT_USAGE_CLIENT;
	if (command_has(line, "--server") || !ret_body->usage)
		ret_body->usage |= CERT_USAGE_SERVER;
	return 0;
}

static void print_issued_files(const struct place *place, bool is_json)
{
	const char *folder = strcmp(place->folder, ".") ? place->folder : "";
	char certificate[PATH_MAX_LEN + NAME_MAX_LEN], key[PATH_MAX_LEN + NAME_MAX_LEN];

	snprintf(certificate, sizeof(certificate), "%s%s", folder, place->certificate);
	snprintf(key, sizeof(key), "%s%s", folder, place->key);
	if (is_json)
		print_pair("certificate", span_str(certificate), "key", span_str(key));
	else
		command_print("%s and %s\n", certificate, place->key);
}

static int run_issue(const struct command_line *line)
{
	struct place place = { .folder_fd = -1 };
	struct ipc_ca_issue body = { 0 };
	struct crypto_key *key = NULL;
	struct ca_vault vault;
	struct span chain;
	int code = read_request(line, &body);

	if (!code)
		code = find_place(line, &place);
	if (!code)
		code = open_place(&place);
	if (!code) {
		code = ca_vault_open(&vault, command_value(line, "-c"), true);
		if (!code && crypto_key_generate(CRYPTO_KEY_P256, &key))
			code = COMMAND_FAULT;
		if (!code)
			code = issue(line, &vault, &body, key, &chain);
		if (!code)
			code = write_pair(&place, key, chain);
		ca_vault_close(&vault);
	}
	crypto_key_free(key);
	os_close(place.folder_fd);
	if (!code)
		print_issued_files(&place, command_has(line, "--json"));
	return code < 0 ? COMMAND_FAULT : code;
}

/* ---- list -------------------------------------------------------------------------------------------------- */

struct issued {
	struct span serial, usage, names;
	uint64_t issued_s, expires_s;
};

static bool read_issued(struct span line, struct issued *ret_issued)
{
	struct span issued, expires;

	return span_cut(&line, '\t', &ret_issued->serial) && span_cut(&line, '\t', &issued) &&
	       parse_u64(issued, INT64_MAX, &ret_issued->issued_s) &&
	       span_cut(&line, '\t', &expires) &&
	       parse_u64(expires, INT64_MAX, &ret_issued->expires_s) &&
	       span_cut(&line, '\t', &ret_issued->usage) &&
	       span_cut(&line, '\t', &ret_issued->names);
}

static void write_names(struct writer *out, struct span names)
{
	char separator = '[';
	struct span name;

	while (span_cut(&names, ',', &name)) {
		write_byte(out, separator);
		write_json(out, name);
		separator = ',';
	}
	write_byte(out, ']');
}

static void print_issued(const struct issued *issued, bool is_json, bool is_first)
{
	char text[64 * 1024];
	struct writer out = writer_of(text, sizeof(text));

	if (!is_json) {
		write_span(&out, issued->serial);
		write_str(&out, "  until ");
		cert_write_time((int64_t)issued->expires_s, &out);
		write_format(&out, "  %-13.*s  ", SPAN_ARG(issued->usage));
		write_span(&out, issued->names);
	} else {
		write_str(&out, is_first ? "{\"serial\":" : ",\n{\"serial\":");
		write_json(&out, issued->serial);
		write_format(&out, ",\"issued\":%llu,\"expires\":%llu,\"usage\":",
			     (unsigned long long)issued->issued_s,
			     (unsigned long long)issued->expires_s);
		write_json(&out, issued->usage);
		write_str(&out, ",\"names\":");
		write_names(&out, issued->names);
		write_byte(&out, '}');
	}
	if (!is_json)
		write_byte(&out, '\n');
	os_out(writer_done(&out));
}

static void print_list(struct span text, bool is_json)
{
	bool is_first = true;
	struct span line;

	if (is_json)
		command_print("[");
	while (span_cut(&text, '\n', &line)) {
		struct issued issued;

		if (!read_issued(line, &issued))
			continue;
		print_issued(&issued, is_json, is_first);
		is_first = false;
	}
	if (is_json)
		command_print("]\n");
}

static int run_list(const struct command_line *line)
{
	struct ipc_ca_list body = { { 0 } };
	struct ca_vault vault;
	struct span text = SPAN_NONE;
	int code = ca_vault_open(&vault, command_value(line, "-c"), false);

	/* Nothing was ever begun there: the list is empty, and stays so. */
	if (code == -ENOENT)
		code = 0;
	else if (!code)
		code = ca_vault_ask(&vault, IPC_MESSAGE_ca_list, &body, SPAN_NONE, &text);
	if (!code)
		print_list(text, command_has(line, "--json"));
	ca_vault_close(&vault);
	return code;
}

/* ---- The command ------------------------------------------------------------------------------------------- */

static const struct verb {
	const char *name;
	bool has_names; /* operands, and the options of issue */
	int (*run)(const struct command_line *line);
} verbs[] = {
	{ "init", false, run_init }, { "root", false, run_root },   { "issue", true, run_issue },
	{ "list", false, run_list }, { "trust", false, run_trust },
};

static int ca_run(const struct command_line *line)
{
	static const char *const of_issue[] = { "--client", "--server", "--out", "--days" };
	const struct verb *verb = NULL;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, line->operands[0]) == 0)
			verb = &verbs[i];
	}
	if (!verb)
		return command_wrong(line, "there is no `ca %s`", line->operands[0]);
	if (!verb->has_names && line->operand_count > 1)
		return command_wrong(line, "what is `%s` for?", line->operands[1]);
	for (size_t i = 0; !verb->has_names && i < ARRAY_LEN(of_issue); i++) {
		if (command_has(line, of_issue[i]))
			return command_wrong(line, "%s belongs to `ca issue`", of_issue[i]);
	}
	if (verb->run == run_trust && command_has(line, "--json"))
		return command_wrong(line, "`ca trust` prints no data");
	return verb->run(line);
}

const struct command command_ca = {
	.name = "ca",
	.form = "init | root | issue NAME... [--client] [--server] [--out PREFIX] [--days N] | "
		"list | trust",
	.help = "the local CA: certificates for names that no public CA signs",
	.details = "init   makes it, if it is not there\n"
		   "root   prints its root certificate, PEM, to be trusted elsewhere\n"
		   "issue  writes PREFIX.crt (leaf, then intermediate) and PREFIX.key; a NAME is a "
		   "host or an address\n"
		   "list   shows what it issued\n"
		   "trust  makes this machine (as root) and your browsers' store trust it\n\n"
		   "All of them work with the gateway running and without.",
	.operands_min = 1,
	.operands_max = COMMAND_OPERANDS_MAX,
	.options = { { "--client", NULL, "issue: for clients" },
		     { "--server", NULL, "issue: for servers (as without either)" },
		     { "--out", "PREFIX",
		       "issue: where PREFIX.crt and PREFIX.key go (the first NAME)" },
		     { "--days", "N", "issue: how long it is valid (30)" },
		     { "--json", NULL, "init, root, issue, list: as JSON" },
		     COMMAND_FILE_OPTION },
	.run = ca_run,
};
