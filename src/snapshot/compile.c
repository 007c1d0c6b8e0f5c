/* compile: a checked tree to a snapshot: listeners, logs, limits, and the order of it all. */
#include "snapshot/snapshot_internal.h"

#include <string.h>

/* ---- Memory ---------------------------------------------------------------------------------- */

void *compiler_alloc(struct compiler *compiler, size_t count, size_t size, size_t align)
{
	void *memory = NULL;

	if (count)
		memory = arena_alloc_array(compiler->arena, count, size, align);
	if (count && !memory)
		compiler->is_out_of_memory = true;
	return memory;
}

struct span compiler_copy(struct compiler *compiler, struct span text)
{
	if (!text.len)
		return SPAN_NONE;
	/* With a NUL: paths are handed to system calls as they lie. */
	char *copy = arena_cstr(compiler->arena, text);
	if (!copy)
		compiler->is_out_of_memory = true;
	return copy ? span_of(copy, text.len) : SPAN_NONE;
}

struct span compiler_lower(struct compiler *compiler, struct span text)
{
	char *lower = compiler_array(compiler, char, text.len);

	for (size_t i = 0; lower && i < text.len; i++)
		lower[i] = ascii_lower(text.ptr[i]);
	return span_of(lower, lower ? text.len : 0);
}

/* One copy of each file's name, however many rows name it. */
struct snapshot_place compiler_place(struct compiler *compiler, struct conf_place place)
{
	struct snapshot_place row = { .line = place.line, .column = place.column };
	struct span *name = &compiler->file_names[place.file];

	if (!name->len)
		*name = compiler_copy(compiler, compiler->tree->files[place.file].name);
	row.file = *name;
	return row;
}

struct span compiler_rule(struct compiler *compiler, const struct snapshot_place *place,
			  const char *word)
{
	struct span text = arena_format(compiler->scratch, "%.*s:%u: %s", SPAN_ARG(place->file),
					place->line, word);

	if (!text.ptr)
		compiler->is_out_of_memory = true;
	return compiler_copy(compiler, text);
}

void *compiler_find(struct compiler *compiler, uint64_t id)
{
	return map_get(&compiler->ids, id);
}

void compiler_remember(struct compiler *compiler, uint64_t id, void *row)
{
	if (map_set(&compiler->ids, id, row))
		compiler->is_out_of_memory = true;
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void default_limits(struct snapshot_limits *limits)
{
	for (size_t i = 0; i < SNAPSHOT_LIMIT_COUNT; i++)
		limits->values[i] = telemetry_limits[i].value;
}

void compiler_limits(struct compiler *compiler, const struct conf_statement *block,
		     struct snapshot_limits *limits)
{
	bool is_path =
		conf_option(block, "on") || (block->parent && conf_is(block->parent, "route"));

	for (const struct conf_statement *pair = block->first; pair; pair = pair->next) {
		for (size_t i = 0; i < SNAPSHOT_LIMIT_COUNT; i++) {
			if (!conf_is(pair, telemetry_limits[i].name))
				continue;
			/* Elsewhere it would refuse everything, or wait for ever. */
			if (!pair->arguments[0].number && telemetry_limits[i].value)
				conf_error_add(compiler->errors, pair->words[1].place,
					       "`%s` cannot be 0", telemetry_limits[i].name);
			if (is_path &&
			    (i == SNAPSHOT_LIMIT_HANDSHAKE || i == SNAPSHOT_LIMIT_HEADER_TIME))
				conf_error_add(compiler->errors, pair->words[0].place,
					       "`%s` is over before there is a path: set it for "
					       "the site",
					       telemetry_limits[i].name);
			if (i == SNAPSHOT_LIMIT_WORKER_MEMORY &&
			    limits != &compiler->snapshot->limits)
				conf_error_add(
					compiler->errors, pair->words[0].place,
					"`%s` is the whole worker's: set it outside of sites",
					telemetry_limits[i].name);
			limits->values[i] = pair->arguments[0].number;
		}
	}
}

/* One block for everything and one for each path: with two, a reader could not tell which one
 * holds. */
void compiler_check_limits(struct compiler *compiler, const struct conf_statement *first,
			   const struct conf_statement *block)
{
	const struct conf_given *on = conf_option(block, "on");

	for (const struct conf_statement *s = first; s != block; s = s->next) {
		if (!conf_is(s, "limits"))
			continue;
		const struct conf_given *other = conf_option(s, "on");
		if (!on != !other || (on && !span_equal(on->values[0].text, other->values[0].text)))
			continue;
		conf_error_add(compiler->errors, block->place,
			       on ? "these limits stand twice for one path"
				  : "`limits` stands once here")
			->other = s->place;
		return;
	}
}

/* ---- Listeners ------------------------------------------------------------------------------- */

static bool is_any(const struct conf_address *address)
{
	static const uint8_t zeroes[16];

	return !address->family || memcmp(address->bytes, zeroes, sizeof(zeroes)) == 0;
}

/* `*` holds the port for both families, so it cannot stand beside 0.0.0.0 or [::]. */
static bool is_same_address(const struct conf_address *a, const struct conf_address *b)
{
	if (a->port != b->port)
		return false;
	if ((!a->family || !b->family) && is_any(a) && is_any(b))
		return true;
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static void set_listener(struct compiler *compiler, struct snapshot_listener *listener,
			 const struct conf_address *address, bool is_plain)
{
	char line[96];
	struct writer writer = writer_of(line, sizeof(line));

	write_str(&writer, "listen ");
	conf_address_write(address, &writer);
	listener->id = hash_id(writer_done(&writer));
	listener->address = *address;
	listener->is_plain = is_plain;
	compiler->has_tls_listener |= !is_plain;
}

static void compile_listener(struct compiler *compiler, const struct conf_statement *statement)
{
	const struct conf_value *address = &statement->arguments[0];
	const struct conf_given *plain = conf_option(statement, "plain");
	struct snapshot_listener *listener;

	for (const struct conf_statement *s = compiler->tree->first; s != statement; s = s->next) {
		if (!conf_is(s, "listen") ||
		    !is_same_address(&s->arguments[0].address, &address->address))
			continue;
		conf_error_add(compiler->errors, address->word->place,
			       "`%.*s` is listened on already", SPAN_ARG(address->word->text))
			->other = s->arguments[0].word->place;
		return;
	}
	listener = &compiler->listeners[compiler->snapshot->listener_count++];
	set_listener(compiler, listener, &address->address, plain);
	listener->is_serving = plain && plain->value_count;
	listener->place = compiler_place(compiler, statement->place);
	listener->rule = compiler_rule(compiler, &listener->place, "listen");
	for (const struct conf_statement *s = statement->first; s; s = s->next) {
		if (conf_is(s, "proxy-protocol from"))
			listener->proxy_protocol = compiler_table(compiler, &s->arguments[0]);
	}
	if (listener->is_serving && !conf_address_is_private(&address->address))
		conf_warning_add(
			compiler->errors, address->word->place,
			"serves without TLS on an address that is neither loopback nor private");
}

static void imply_listeners(struct compiler *compiler)
{
	const struct snapshot_options *options = compiler->options;
	const uint16_t ports[] = { options->implied_tls_port, options->implied_plain_port };

	for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
		struct conf_address address = { .port = ports[i] };

		if (!ports[i])
			continue;
		struct snapshot_listener *listener =
			&compiler->listeners[compiler->snapshot->listener_count++];
		set_listener(compiler, listener, &address, i == 1);
		listener->is_implied = true;
		listener->rule = compiler_copy(compiler, SPAN("implied: listen"));
	}
}

/* A plain listener redirects to TLS on its own address where there is some, else to the first. */
static void point_redirects(struct compiler *compiler)
{
	size_t count = compiler->snapshot->listener_count;

	for (size_t i = 0; i < count; i++) {
		struct snapshot_listener *plain = &compiler->listeners[i];
		bool is_found = false;

		for (size_t j = 0; plain->is_plain && j < count; j++) {
			const struct snapshot_listener *tls = &compiler->listeners[j];
			bool is_near = tls->address.family == plain->address.family &&
				       memcmp(tls->address.bytes, plain->address.bytes, 16) == 0;

			if (tls->is_plain || (plain->tls_port && (is_found || !is_near)))
				continue;
			plain->tls_port = tls->address.port;
			is_found = is_near;
		}
	}
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		const struct conf_given *plain =
			conf_is(s, "listen") ? conf_option(s, "plain") : NULL;
		if (plain && !plain->value_count && !compiler->has_tls_listener)
			conf_warning_add(compiler->errors, plain->word->place,
					 "no listener speaks TLS, so there is nothing to redirect "
					 "to; `plain "
					 "serve` serves the sites");
	}
}

/* ---- Logs ------------------------------------------------------------------------------------ */

static void compile_log(struct compiler *compiler, const struct conf_statement *statement,
			struct snapshot_log *log)
{
	static const char *const names[] = { "stdout", "syslog", "off" };
	static const enum snapshot_log_target targets[] = { SNAPSHOT_LOG_STDOUT,
							    SNAPSHOT_LOG_SYSLOG, SNAPSHOT_LOG_OFF };
	const struct conf_value *target = &statement->arguments[0];
	struct conf_nearest nearest;

	log->target = SNAPSHOT_LOG_FILE;
	log->format = SNAPSHOT_LOG_JSON;
	log->path = SPAN_NONE;
	log->place = compiler_place(compiler, statement->place);
	conf_nearest_init(&nearest, target->word->text);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (span_equal(target->word->text, span_str(names[i])) && !target->word->is_quoted)
			log->target = targets[i];
		conf_nearest_offer(&nearest, span_str(names[i]));
	}
	if (log->target == SNAPSHOT_LOG_FILE) {
		/* A misspelt `stdout` would silently be a file. */
		if (nearest.best.len)
			conf_error_add(compiler->errors, target->word->place,
				       "`%.*s` is no target; a file of this name is written ./%.*s",
				       SPAN_ARG(target->word->text), SPAN_ARG(target->word->text))
				->nearest = nearest.best;
		log->path = compiler_copy(compiler, target->text);
	}
	if (conf_is(statement, "log access")) {
		const struct conf_given *format = conf_option(statement, "format");
		if (format && format->values[0].number == 1)
			log->format = SNAPSHOT_LOG_COMBINED;
	}
}

static void default_log(struct compiler *compiler, const struct snapshot_log *from,
			struct snapshot_log *log)
{
	log->target = from->target;
	log->format = from->format;
	log->path = compiler_copy(compiler, from->path);
}

/* ---- All of it ------------------------------------------------------------------------------- */

struct bounds {
	size_t tables, listeners, sites, certificates, roots, origins, upstreams, cas, names;
};

/* Ten thousand routes often share a few upstreams: count what is written differently. What an origin's id is made of
 * (compile_origin) is a part of it. */
static size_t count_origins(struct compiler *compiler, struct map *seen,
			    const struct conf_statement *statement)
{
	const struct conf_given *verify = conf_option(statement, "verify");
	const struct conf_given *proxy = conf_option(statement, "send-proxy");
	uint64_t ca = verify ? hash_id(verify->values[1].text) : 0;
	uint64_t local = conf_option(statement, "allow-local") != NULL;
	uint64_t version = proxy ? proxy->values[0].number + 1 : 0;
	size_t count = 0;

	for (size_t i = 0; i < statement->argument_count; i++) {
		uint64_t key[] = { hash_id(statement->arguments[i].text), ca, version, local };
		uint64_t hash = hash_id(span_of(key, sizeof(key)));

		if (map_get(seen, hash))
			continue;
		if (map_set(seen, hash, compiler))
			compiler->is_out_of_memory = true;
		count++;
	}
	return count;
}

/* Of a site, or of a route in it. */
static void count_handlers(struct compiler *compiler, struct map *seen,
			   const struct conf_statement *block, struct bounds *bounds)
{
	for (const struct conf_statement *inner = block->first; inner; inner = inner->next) {
		if (conf_is(inner, "route"))
			count_handlers(compiler, seen, inner, bounds);
		bounds->roots += conf_is(inner, "files");
		if (!conf_is(inner, "proxy"))
			continue;
		bounds->upstreams++;
		bounds->origins += count_origins(compiler, seen, inner);
		bounds->cas += conf_option(inner, "verify") != NULL;
	}
}

static void count_site(struct compiler *compiler, struct map *seen,
		       const struct conf_statement *site, struct bounds *bounds)
{
	bounds->sites++;
	bounds->certificates++;
	bounds->names += site->argument_count;
	for (const struct conf_statement *inner = site->first; inner; inner = inner->next) {
		bounds->certificates += conf_is(inner, "certificate file");
		bounds->names += conf_is(inner, "alias");
	}
	count_handlers(compiler, seen, site, bounds);
}

static void count_upstream(struct compiler *compiler, struct map *seen,
			   const struct conf_statement *upstream, struct bounds *bounds)
{
	bounds->upstreams++;
	for (const struct conf_statement *inner = upstream->first; inner; inner = inner->next) {
		if (!conf_is(inner, "origin"))
			continue;
		bounds->origins += count_origins(compiler, seen, inner);
		bounds->cas += conf_option(inner, "verify") != NULL;
	}
}

static void make_arrays(struct compiler *compiler)
{
	struct snapshot *snapshot = compiler->snapshot;
	struct bounds bounds = { .listeners = 2 };
	struct map seen;

	if (!snapshot)
		return;
	map_init(&seen);
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		bounds.tables += conf_is(s, "table");
		bounds.listeners += conf_is(s, "listen");
		if (conf_is(s, "site"))
			count_site(compiler, &seen, s, &bounds);
		else if (conf_is(s, "upstream"))
			count_upstream(compiler, &seen, s, &bounds);
	}
	map_fini(&seen);
	compiler->tables = compiler_array(compiler, struct snapshot_table, bounds.tables);
	compiler->listeners = compiler_array(compiler, struct snapshot_listener, bounds.listeners);
	compiler->sites = compiler_array(compiler, struct snapshot_site, bounds.sites);
	compiler->policies = compiler_array(compiler, struct snapshot_tls_policy, 2);
	compiler->certificates =
		compiler_array(compiler, struct snapshot_certificate, bounds.certificates);
	compiler->roots = compiler_array(compiler, struct snapshot_root, bounds.roots);
	compiler->origins = compiler_array(compiler, struct snapshot_origin, bounds.origins);
	compiler->upstreams = compiler_array(compiler, struct snapshot_upstream, bounds.upstreams);
	compiler->cas = compiler_array(compiler, struct snapshot_ca, bounds.cas);
	compiler->file_names =
		arena_array(compiler->scratch, struct span, compiler->tree->file_count);
	compiler->name_uses = arena_array(compiler->scratch, struct name_use *, bounds.names + 1);
	if (!compiler->name_uses || !compiler->file_names)
		compiler->is_out_of_memory = true;
	snapshot->tables = compiler->tables;
	snapshot->listeners = compiler->listeners;
	snapshot->sites = compiler->sites;
	snapshot->policies = compiler->policies;
	snapshot->certificates = compiler->certificates;
	snapshot->roots = compiler->roots;
	snapshot->origins = compiler->origins;
	snapshot->upstreams = compiler->upstreams;
	snapshot->cas = compiler->cas;
}

/* What stands in files is no part of a line: words of a list, bytes of a page. */
static void hash_files(const struct conf_statement *statement, uint64_t hashes[2])
{
	for (size_t i = 0; i < statement->list_count; i++) {
		hashes[1] = hash_id(statement->list[i].word->text);
		hashes[0] = hash_id(span_of(hashes, 2 * sizeof(*hashes)));
	}
	for (size_t i = 0; i < statement->argument_count; i++) {
		if (statement->arguments[i].type != CONF_CONTENT)
			continue;
		hashes[1] = hash_id(statement->arguments[i].content);
		hashes[0] = hash_id(span_of(hashes, 2 * sizeof(*hashes)));
	}
	for (const struct conf_statement *s = statement->first; s; s = s->next)
		hash_files(s, hashes);
}

static uint64_t hash_text(struct compiler *compiler)
{
	uint64_t hashes[2] = { 0, 0 };

	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		struct span line = conf_canonical(s, true, compiler->scratch);

		if (!line.ptr) {
			compiler->is_out_of_memory = true;
			return 0;
		}
		hashes[1] = hash_id(line);
		hashes[0] = hash_id(span_of(hashes, sizeof(hashes)));
		hash_files(s, hashes);
	}
	return hashes[0];
}

static void compile_top_limits(struct compiler *compiler, const struct conf_statement *block)
{
	const struct conf_given *on = conf_option(block, "on");

	if (on)
		conf_error_add(compiler->errors, on->word->place,
			       "limits of a path stand in its site");
	else
		compiler_limits(compiler, block, &compiler->snapshot->limits);
	compiler_check_limits(compiler, compiler->tree->first, block);
}

/* Settings first: sites copy the limits, and ask whether any listener speaks TLS. */
static void compile_top(struct compiler *compiler)
{
	struct snapshot *snapshot = compiler->snapshot;
	bool has_listen = false;

	default_limits(&snapshot->limits);
	compile_tables(compiler);
	default_log(compiler, &compiler->options->access_log, &snapshot->access_log);
	default_log(compiler, &compiler->options->events_log, &snapshot->events_log);
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		has_listen |= span_equal(s->words[0].text, SPAN("listen"));
		if (conf_is(s, "listen"))
			compile_listener(compiler, s);
		else if (conf_is(s, "state"))
			snapshot->state_path = compiler_copy(compiler, s->arguments[0].text);
		else if (conf_is(s, "log access"))
			compile_log(compiler, s, &snapshot->access_log);
		else if (conf_is(s, "log events"))
			compile_log(compiler, s, &snapshot->events_log);
		else if (conf_is(s, "log slow"))
			snapshot->slow_ns = s->arguments[0].number;
		else if (conf_is(s, "limits"))
			compile_top_limits(compiler, s);
		else if (conf_is(s, "firewall"))
			compile_firewall(compiler, s);
	}
	if (!has_listen)
		imply_listeners(compiler);
	point_redirects(compiler);
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		if (conf_is(s, "upstream") && !compiler->is_out_of_memory)
			compile_upstream(compiler, s);
	}
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		if (conf_is(s, "site") && !compiler->is_out_of_memory)
			compile_site(compiler, s);
	}
	if (!snapshot->site_count && !compiler->errors->error_count)
		conf_warning_add(compiler->errors, (struct conf_place){ .line = 1, .column = 1 },
				 "no site: nothing is served");
}

static void publish(struct compiler *compiler)
{
	struct snapshot *snapshot = compiler->snapshot;

	snapshot->magic = SNAPSHOT_MAGIC;
	snapshot->format = SNAPSHOT_FORMAT;
	snapshot->serial = compiler->options->serial;
	snapshot->text_hash = hash_text(compiler);
	snapshot->size = arena_used(compiler->arena);
}

int snapshot_compile(struct conf_tree *tree, const struct snapshot_options *options,
		     struct arena *arena, struct conf_errors *errors,
		     const struct snapshot **ret_snapshot)
{
	size_t errors_before = errors->error_count;
	struct compiler compiler = {
		.tree = tree,
		.options = options,
		.arena = arena,
		.scratch = tree->arena,
		.errors = errors,
	};
	int result = conf_check(tree, &snapshot_language, errors);

	if (result < 0)
		return result;
	map_init(&compiler.ids);
	map_init(&compiler.names);
	compiler.snapshot = compiler_array(&compiler, struct snapshot, 1);
	make_arrays(&compiler);
	if (!compiler.is_out_of_memory)
		compile_top(&compiler);
	if (!compiler.is_out_of_memory) {
		compile_name_tables(&compiler);
		compile_plan(&compiler);
	}
	if (!compiler.is_out_of_memory)
		publish(&compiler);
	map_fini(&compiler.ids);
	map_fini(&compiler.names);
	if (compiler.is_out_of_memory)
		return -ENOMEM;
	size_t faults = errors->error_count - errors_before;
	if (faults)
		return faults == compiler.missing_certificates ? SNAPSHOT_NEEDS_CERTIFICATE
							       : CONF_FAULTY;
	*ret_snapshot = compiler.snapshot;
	return 0;
}
