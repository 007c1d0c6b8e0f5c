/* resource: what sites share: roots, origins, CAs, policies, certificates. Each is one row by its
 * id. */
#include "snapshot/snapshot_internal.h"

#include <stdarg.h>
#include <stdio.h>

/* The id of a thing by its canonical line, built in scratch. */
PRINTF_LIKE(2, 3)
static uint64_t line_id(struct compiler *compiler, const char *format, ...)
{
	va_list arguments;
	va_list again;

	va_start(arguments, format);
	va_copy(again, arguments);
	int len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	char *line = len < 0 ? NULL : arena_array(compiler->scratch, char, (size_t)len + 1);
	if (line)
		(void)vsnprintf(line, (size_t)len + 1, format, again);
	va_end(again);
	if (!line) {
		compiler->is_out_of_memory = true;
		return 0;
	}
	return hash_id(span_of(line, (size_t)len));
}

const struct snapshot_root *compile_root(struct compiler *compiler, const struct conf_value *path)
{
	uint64_t id = line_id(compiler, "root %s", path->text.ptr);
	struct snapshot_root *root = compiler_find(compiler, id);

	if (root || !id)
		return root;
	root = &compiler->roots[compiler->snapshot->root_count++];
	root->id = id;
	root->path = compiler_copy(compiler, path->text);
	root->place = compiler_place(compiler, path->word->place);
	compiler_remember(compiler, id, root);
	return root;
}

const struct snapshot_ca *compile_ca(struct compiler *compiler, const struct conf_value *path)
{
	uint64_t id = line_id(compiler, "ca %s", path->text.ptr);
	struct snapshot_ca *ca = compiler_find(compiler, id);

	if (ca || !id)
		return ca;
	ca = &compiler->cas[compiler->snapshot->ca_count++];
	ca->id = id;
	ca->path = compiler_copy(compiler, path->text);
	ca->place = compiler_place(compiler, path->word->place);
	compiler_remember(compiler, id, ca);
	return ca;
}

/* HOST, HOST:PORT, [v6] or [v6]:PORT; the port only where it is not the scheme's. */
static struct span host_field(struct compiler *compiler, const struct conf_origin *origin)
{
	uint16_t own_port = origin->scheme == CONF_HTTPS ? 443 : 80;
	bool is_v6 = origin->is_address && origin->address.family == 6;
	struct span text =
		arena_format(compiler->scratch, is_v6 ? "[%.*s]" : "%.*s", SPAN_ARG(origin->host));

	if (text.ptr && origin->port != own_port)
		text = arena_format(compiler->scratch, "%.*s:%u", SPAN_ARG(text), origin->port);
	if (!text.ptr)
		compiler->is_out_of_memory = true;
	return compiler_copy(compiler, text);
}

static void fill_origin(struct compiler *compiler, struct snapshot_origin *row,
			const struct conf_value *value, const struct origin_words *words)
{
	const struct conf_origin *origin = &value->origin;

	row->is_https = origin->scheme == CONF_HTTPS;
	row->is_unix = origin->unix_path.len > 0;
	row->unix_path = compiler_copy(compiler, origin->unix_path);
	row->is_address = origin->is_address;
	row->address = origin->address;
	row->host = compiler_copy(compiler, origin->host);
	row->port = origin->port;
	row->server_name = row->is_https ? row->host : SPAN_NONE;
	row->host_field = row->is_unix ? compiler_copy(compiler, SPAN("localhost"))
				       : host_field(compiler, origin);
	row->ca = row->is_https ? words->ca : NULL;
	row->send_proxy = words->send_proxy;
	row->allow_local = words->allow_local;
	row->text = compiler_copy(compiler, value->word->text);
	row->place = compiler_place(compiler, value->word->place);
}

/* The id is made of what it means, not of how it is written: `3000` and `localhost:3000` share a
 * pool. */
const struct snapshot_origin *compile_origin(struct compiler *compiler,
					     const struct conf_value *value,
					     const struct origin_words *words)
{
	static const char *const proxies[] = { "", " send-proxy v1", " send-proxy v2" };
	const struct conf_origin *origin = &value->origin;
	bool is_https = origin->scheme == CONF_HTTPS;
	const struct snapshot_ca *ca = is_https ? words->ca : NULL;
	uint64_t id =
		line_id(compiler, "origin %s %.*s %u %.*s %s%.*s%s%s", is_https ? "https" : "http",
			SPAN_ARG(origin->host), origin->port, SPAN_ARG(origin->unix_path),
			ca ? "ca " : "", SPAN_ARG(ca ? ca->path : SPAN("")),
			proxies[words->send_proxy], words->allow_local ? " allow-local" : "");
	struct snapshot_origin *row = compiler_find(compiler, id);

	if (row || !id)
		return row;
	row = &compiler->origins[compiler->snapshot->origin_count++];
	row->id = id;
	fill_origin(compiler, row, value, words);
	compiler_remember(compiler, id, row);
	return row;
}

const struct snapshot_tls_policy *compile_policy(struct compiler *compiler, uint16_t min_version)
{
	uint64_t id = line_id(compiler, "tls min %s", min_version == 0x0304 ? "1.3" : "1.2");
	struct snapshot_tls_policy *policy = compiler_find(compiler, id);

	if (policy || !id)
		return policy;
	policy = &compiler->policies[compiler->snapshot->policy_count++];
	policy->id = id;
	policy->min_version = min_version;
	compiler_remember(compiler, id, policy);
	return policy;
}

const struct snapshot_certificate *compile_certificate_file(struct compiler *compiler,
							    const struct conf_statement *statement)
{
	struct span cert = statement->arguments[0].text, key = statement->arguments[1].text;
	uint64_t id = line_id(compiler, "certificate file %zu %s %s", cert.len, cert.ptr, key.ptr);
	struct snapshot_certificate *row = compiler_find(compiler, id);

	if (row || !id)
		return row;
	row = &compiler->certificates[compiler->snapshot->certificate_count++];
	row->id = id;
	row->kind = SNAPSHOT_CERTIFICATE_FILE;
	row->cert_path = compiler_copy(compiler, cert);
	row->key_path = compiler_copy(compiler, key);
	row->place = compiler_place(compiler, statement->place);
	compiler_remember(compiler, id, row);
	return row;
}

/* Its names are part of its line: another name needs another leaf. */
const struct snapshot_certificate *compile_certificate_internal(struct compiler *compiler,
								const struct snapshot_site *site,
								struct conf_place place)
{
	static const struct span start = { "certificate internal", 20 };
	size_t size = start.len;

	for (size_t i = 0; i < site->name_count; i++)
		size += 1 + site->names[i].len;
	char *line = arena_array(compiler->scratch, char, size);
	if (!line) {
		compiler->is_out_of_memory = true;
		return NULL;
	}
	struct writer writer = writer_of(line, size);
	write_span(&writer, start);
	for (size_t i = 0; i < site->name_count; i++) {
		write_byte(&writer, ' ');
		write_span(&writer, site->names[i]);
	}
	/* No two sites share a name, so no two internal certificates share an id. */
	struct snapshot_certificate *row =
		&compiler->certificates[compiler->snapshot->certificate_count++];
	row->id = hash_id(writer_done(&writer));
	row->kind = SNAPSHOT_CERTIFICATE_INTERNAL;
	row->names = site->names;
	row->name_count = site->name_count;
	row->place = compiler_place(compiler, place);
	return row;
}
