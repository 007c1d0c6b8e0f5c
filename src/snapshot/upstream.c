/* upstream: several origins under one name, and the unnamed ones of `proxy` lines. */
#include "snapshot/snapshot_internal.h"

#include "http/http.h"

enum { EJECT_AFTER = 3, STICKY_NAME_MAX = 64 };
#define SECOND_NS UINT64_C(1000000000)
#define EJECT_FOR_NS (10 * SECOND_NS)

static const struct span sticky_default = { "sticky", 6 };

/* Members as they are collected, and the words that named them. */
struct collected {
	struct snapshot_member *members;
	const struct conf_word **words; /* in scratch */
	size_t count;
};

static bool collect_start(struct compiler *compiler, size_t max, const struct conf_word *word,
			  struct collected *ret_collected)
{
	if (max > BALANCE_MEMBERS_MAX)
		conf_error_add(compiler->errors, word->place, "an upstream has at most %d origins",
			       BALANCE_MEMBERS_MAX);
	*ret_collected = (struct collected){
		.members = compiler_array(compiler, struct snapshot_member, max),
		.words = arena_array(compiler->scratch, const struct conf_word *, max + 1),
	};
	if (!ret_collected->words)
		compiler->is_out_of_memory = true;
	return ret_collected->members && ret_collected->words;
}

static void collect(struct compiler *compiler, struct collected *collected,
		    const struct snapshot_member *member, const struct conf_word *word)
{
	for (size_t i = 0; i < collected->count; i++) {
		if (!member->origin || collected->members[i].origin != member->origin)
			continue;
		conf_error_add(compiler->errors, word->place, "this origin stands twice")->other =
			collected->words[i]->place;
		return;
	}
	collected->words[collected->count] = word;
	collected->members[collected->count++] = *member;
}

/* ---- A block ------------------------------------------------------------------------------------------------ */

static uint32_t option_number(const struct conf_statement *statement, const char *name,
			      uint32_t otherwise)
{
	const struct conf_given *given = conf_option(statement, name);

	return given ? (uint32_t)given->values[0].number : otherwise;
}

static uint8_t send_proxy(const struct conf_statement *statement)
{
	const struct conf_given *given = conf_option(statement, "send-proxy");

	/* The schema's choices are `v1` and `v2`. */
	return given ? (uint8_t)(given->values[0].number + 1) : 0;
}

static void compile_member(struct compiler *compiler, const struct conf_statement *statement,
			   struct collected *collected)
{
	const struct conf_value *value = &statement->arguments[0];
	const struct conf_given *verify = conf_option(statement, "verify");
	struct snapshot_member member = {
		.weight = option_number(statement, "weight", 1),
		.max_connections = option_number(statement, "max-conns", 0),
		.is_backup = conf_option(statement, "backup"),
	};
	struct origin_words words = { .send_proxy = send_proxy(statement),
				      .allow_local = conf_option(statement, "allow-local") };

	if (verify && value->origin.scheme != CONF_HTTPS)
		conf_error_add(compiler->errors, verify->word->place,
			       "`verify` needs an https:// origin");
	words.ca = verify ? compile_ca(compiler, &verify->values[1]) : NULL;
	member.origin = compile_origin(compiler, value, &words);
	collect(compiler, collected, &member, value->word);
}

static void compile_balance(struct compiler *compiler, const struct conf_statement *statement,
			    struct snapshot_upstream *upstream)
{
	static const char *const names[] = {
		[SNAPSHOT_KEY_PATH] = "path",
		[SNAPSHOT_KEY_HEADER] = "header",
		[SNAPSHOT_KEY_COOKIE] = "cookie",
	};
	const struct conf_given *first = NULL;

	upstream->balance = (enum snapshot_balance)statement->arguments[0].number;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct conf_given *given = conf_option(statement, names[i]);

		if (!given)
			continue;
		if (upstream->balance != SNAPSHOT_BALANCE_HASH)
			conf_error_add(compiler->errors, given->word->place,
				       "`%s` belongs to `balance hash`", names[i]);
		else if (first)
			conf_error_add(compiler->errors, given->word->place,
				       "one key for `balance hash`")
				->other = first->word->place;
		first = given;
		upstream->key = (enum snapshot_hash_key)i;
		if (!given->value_count)
			continue;
		upstream->key_name = i == SNAPSHOT_KEY_HEADER
					     ? compiler_lower(compiler, given->values[0].text)
					     : compiler_copy(compiler, given->values[0].text);
	}
	if (upstream->balance == SNAPSHOT_BALANCE_HASH && !first)
		conf_error_add(compiler->errors, statement->arguments[0].word->place,
			       "a hash of what: `header NAME`, `cookie NAME` or `path`");
}

static const struct snapshot_check default_check = {
	.every_ns = 5 * SECOND_NS,
	.timeout_ns = 2 * SECOND_NS,
	.status_from = 200,
	.status_to = 399,
	.rise = 2,
	.fall = 2,
};

static void check_path(struct compiler *compiler, const struct conf_value *path,
		       struct snapshot_check *check)
{
	if (span_find_byte(path->text, '*') < path->text.len)
		conf_error_add(compiler->errors, path->word->place,
			       "a check asks for one path, without `*`");
	check->path = compiler_copy(compiler, path->text);
}

static void compile_check(struct compiler *compiler, const struct conf_statement *statement,
			  struct snapshot_check *check)
{
	const struct conf_given *every = conf_option(statement, "every"),
				*timeout = conf_option(statement, "timeout"),
				*status = conf_option(statement, "status"),
				*host = conf_option(statement, "host");

	*check = default_check;
	check_path(compiler, &statement->arguments[0], check);
	check->rise = option_number(statement, "rise", check->rise);
	check->fall = option_number(statement, "fall", check->fall);
	if (every)
		check->every_ns = every->values[0].number;
	if (timeout)
		check->timeout_ns = timeout->values[0].number;
	if (host)
		check->host = compiler_copy(compiler, host->values[0].text);
	if (!status)
		return;
	check->status_from = (uint16_t)status->values[0].number;
	check->status_to = (uint16_t)status->values[status->value_count - 1].number;
	if (check->status_to < check->status_from)
		conf_error_add(compiler->errors, status->values[1].word->place,
			       "the second code is below the first");
}

static void compile_sticky(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_upstream *upstream)
{
	const struct conf_given *name = conf_option(statement, "cookie"),
				*time = conf_option(statement, "for");

	if (name &&
	    (!http_is_token(name->values[0].text) || name->values[0].text.len > STICKY_NAME_MAX))
		conf_error_add(
			compiler->errors, name->values[0].word->place,
			"a cookie's name has letters, digits and -_.~ and the like, and at most "
			"%d of them",
			STICKY_NAME_MAX);
	upstream->sticky_cookie =
		compiler_copy(compiler, name ? name->values[0].text : sticky_default);
	if (time)
		upstream->sticky_age_s = (uint32_t)(time->values[0].number / SECOND_NS);
}

static void compile_settings(struct compiler *compiler, const struct conf_statement *block,
			     struct snapshot_upstream *upstream)
{
	for (const struct conf_statement *inner = block->first; inner; inner = inner->next) {
		if (conf_is(inner, "balance")) {
			compile_balance(compiler, inner, upstream);
		} else if (conf_is(inner, "check")) {
			compile_check(compiler, inner, &upstream->check);
		} else if (conf_is(inner, "slow-start")) {
			upstream->slow_start_ns = inner->arguments[0].number;
		} else if (conf_is(inner, "eject")) {
			const struct conf_given *time = conf_option(inner, "for");

			upstream->eject_after = (uint32_t)inner->arguments[0].number;
			if (time)
				upstream->eject_for_ns = time->values[0].number;
		} else if (conf_is(inner, "sticky")) {
			compile_sticky(compiler, inner, upstream);
		}
	}
}

static uint64_t named_id(struct compiler *compiler, struct span name)
{
	struct span line = arena_format(compiler->scratch, "upstream %.*s", SPAN_ARG(name));

	if (!line.ptr)
		compiler->is_out_of_memory = true;
	return line.ptr ? hash_id(line) : 0;
}

static struct snapshot_upstream *new_upstream(struct compiler *compiler, uint64_t id,
					      struct conf_place place)
{
	struct snapshot_upstream *upstream =
		&compiler->upstreams[compiler->snapshot->upstream_count++];

	upstream->id = id;
	upstream->place = compiler_place(compiler, place);
	upstream->eject_after = EJECT_AFTER;
	upstream->eject_for_ns = EJECT_FOR_NS;
	compiler_remember(compiler, id, upstream);
	return upstream;
}

static bool is_second(struct compiler *compiler, const struct conf_statement *statement)
{
	const struct conf_word *name = statement->arguments[0].word;

	for (const struct conf_statement *s = compiler->tree->first; s != statement; s = s->next) {
		if (!conf_is(s, "upstream") || !span_equal(s->arguments[0].text, name->text))
			continue;
		conf_error_add(compiler->errors, name->place, "there is an upstream `%.*s` already",
			       SPAN_ARG(name->text))
			->other = s->arguments[0].word->place;
		return true;
	}
	return false;
}

void compile_upstream(struct compiler *compiler, const struct conf_statement *statement)
{
	const struct conf_word *name = statement->arguments[0].word;
	struct snapshot_upstream *upstream;
	struct collected collected;
	size_t max = 0, faulty = 0;

	/* Of digits only, `proxy NAME` would mean a port; with a dot, a host. */
	if (!ascii_is_alpha(name->text.ptr[0]) || span_find_byte(name->text, '.') < name->text.len)
		conf_error_add(compiler->errors, name->place,
			       "an upstream's name starts with a letter and has no dot");
	if (is_second(compiler, statement))
		return;
	upstream = new_upstream(compiler, named_id(compiler, name->text), statement->place);
	upstream->name = compiler_copy(compiler, name->text);
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		max += conf_is(inner, "origin");
		faulty += !inner->row;
	}
	if (!max && !faulty)
		conf_error_add(compiler->errors, name->place,
			       "an upstream needs an origin: `origin HOST:PORT`");
	if (!collect_start(compiler, max, name, &collected))
		return;
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (conf_is(inner, "origin"))
			compile_member(compiler, inner, &collected);
	}
	upstream->members = collected.members;
	upstream->member_count = collected.count;
	compile_settings(compiler, statement, upstream);
}

/* ---- A proxy line ---------------------------------------------------------------------------------------- */

static const char *const methods[] = {
	[SNAPSHOT_BALANCE_ROUND_ROBIN] = "round-robin",
	[SNAPSHOT_BALANCE_LEAST_CONN] = "least-conn",
	[SNAPSHOT_BALANCE_RANDOM] = "random",
	[SNAPSHOT_BALANCE_IP_HASH] = "ip-hash",
};

static enum snapshot_balance method_of(struct compiler *compiler,
				       const struct conf_statement *statement)
{
	enum snapshot_balance method = SNAPSHOT_BALANCE_ROUND_ROBIN;
	const struct conf_given *first = NULL;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		const struct conf_given *given = conf_option(statement, methods[i]);

		if (!given)
			continue;
		if (first)
			conf_error_add(compiler->errors, given->word->place,
				       "one way to share requests out")
				->other = first->word->place;
		first = given;
		method = (enum snapshot_balance)i;
	}
	return method;
}

static const struct snapshot_upstream *find_named(struct compiler *compiler,
						  const struct conf_statement *statement,
						  const struct conf_value *value)
{
	struct snapshot_upstream *upstream =
		compiler_find(compiler, named_id(compiler, value->text));
	struct conf_nearest nearest;

	if (upstream)
		return upstream;
	conf_nearest_init(&nearest, value->text);
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		if (!span_equal(s->words[0].text, SPAN("upstream")) || s->word_count < 2)
			continue;
		/* One with a fault is reported where it stands. */
		if (span_equal(s->words[1].text, value->text))
			return NULL;
		conf_nearest_offer(&nearest, s->words[1].text);
	}
	/* A misspelt option, too, is taken for one more upstream. */
	for (size_t i = 0; i < CONF_OPTIONS_MAX && statement->row->options[i].name; i++)
		conf_nearest_offer(&nearest, span_str(statement->row->options[i].name));
	conf_error_add(
		compiler->errors, value->word->place,
		"`%.*s` is no UPSTREAM: no `upstream` block has this name, and for an origin the "
		"port is missing",
		SPAN_ARG(span_first(value->text, 64)))
		->nearest = nearest.best;
	return NULL;
}

/* What the block says is not said again. */
static void refuse_beside_name(struct compiler *compiler, const struct conf_statement *statement,
			       const struct conf_value *name)
{
	static const char *const statements[] = { "check", "sticky" };
	const struct conf_given *verify = conf_option(statement, "verify"),
				*proxy = conf_option(statement, "send-proxy"),
				*local = conf_option(statement, "allow-local");

	if (statement->argument_count > 1)
		conf_error_add(
			compiler->errors, name->word->place,
			"`%.*s` is an upstream: it stands alone, or its block has all origins",
			SPAN_ARG(name->text));
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		const struct conf_given *given = conf_option(statement, methods[i]);

		if (given)
			conf_error_add(compiler->errors, given->word->place,
				       "write `balance %s` in the block of `%.*s`", methods[i],
				       SPAN_ARG(name->text));
	}
	for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
		const struct conf_given *given = conf_option(statement, statements[i]);

		if (given)
			conf_error_add(compiler->errors, given->word->place,
				       "write `%s` in the block of `%.*s`", statements[i],
				       SPAN_ARG(name->text));
	}
	if (verify)
		conf_error_add(compiler->errors, verify->word->place,
			       "write `verify` behind the origins of `%.*s`", SPAN_ARG(name->text));
	if (proxy)
		conf_error_add(compiler->errors, proxy->word->place,
			       "write `send-proxy` behind the origins of `%.*s`",
			       SPAN_ARG(name->text));
	if (local)
		conf_error_add(compiler->errors, local->word->place,
			       "write `allow-local` behind the origins of `%.*s`",
			       SPAN_ARG(name->text));
}

static void compile_line_check(struct compiler *compiler, const struct conf_statement *statement,
			       struct snapshot_check *check)
{
	const struct conf_given *path = conf_option(statement, "check"),
				*every = conf_option(statement, "every");

	if (every && !path)
		conf_error_add(compiler->errors, every->word->place, "`every` belongs to `check`");
	if (!path)
		return;
	*check = default_check;
	check_path(compiler, &path->values[0], check);
	if (every)
		check->every_ns = every->values[0].number;
}

/* Lines that say the same share one. */
static const struct snapshot_upstream *unnamed(struct compiler *compiler,
					       const struct conf_statement *statement,
					       const struct collected *collected)
{
	enum snapshot_balance method = method_of(compiler, statement);
	struct snapshot_check check = { 0 };
	bool is_sticky = conf_option(statement, "sticky");
	size_t count = collected->count;
	uint64_t *ids = arena_array(compiler->scratch, uint64_t, count + 4), id;
	struct snapshot_upstream *upstream;

	if (!ids) {
		compiler->is_out_of_memory = true;
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		ids[i] = collected->members[i].origin ? collected->members[i].origin->id : 0;
	compile_line_check(compiler, statement, &check);
	ids[count] = (uint64_t)method;
	ids[count + 1] = hash_id(check.path);
	ids[count + 2] = check.every_ns;
	ids[count + 3] = is_sticky;
	id = hash_id(span_of(ids, (count + 4) * sizeof(*ids)));
	upstream = compiler_find(compiler, id);
	if (upstream)
		return upstream;
	upstream = new_upstream(compiler, id, statement->place);
	upstream->balance = method;
	upstream->check = check;
	if (is_sticky)
		upstream->sticky_cookie = compiler_copy(compiler, sticky_default);
	upstream->members = collected->members;
	upstream->member_count = count;
	return upstream;
}

const struct snapshot_upstream *compile_proxy_upstream(struct compiler *compiler,
						       const struct conf_statement *statement)
{
	const struct conf_given *verify = conf_option(statement, "verify");
	const struct snapshot_upstream *named;
	struct origin_words words = { .send_proxy = send_proxy(statement),
				      .allow_local = conf_option(statement, "allow-local") };
	struct collected collected;
	size_t https_count = 0;

	for (size_t i = 0; i < statement->argument_count; i++) {
		if (!statement->arguments[i].is_name)
			continue;
		named = find_named(compiler, statement, &statement->arguments[i]);
		if (named)
			refuse_beside_name(compiler, statement, &statement->arguments[i]);
		return named;
	}
	words.ca = verify ? compile_ca(compiler, &verify->values[1]) : NULL;
	if (!collect_start(compiler, statement->argument_count, &statement->words[0], &collected))
		return NULL;
	for (size_t i = 0; i < statement->argument_count; i++) {
		const struct conf_value *value = &statement->arguments[i];
		struct snapshot_member member = { .weight = 1 };

		member.origin = compile_origin(compiler, value, &words);
		https_count += value->origin.scheme == CONF_HTTPS;
		collect(compiler, &collected, &member, value->word);
	}
	if (verify && !https_count)
		conf_error_add(compiler->errors, verify->word->place,
			       "`verify` needs an https:// upstream");
	return unnamed(compiler, statement, &collected);
}
