/* name: who is called what. */
#include "snapshot/snapshot_internal.h"

#include <stdlib.h>

bool snapshot_name_is_internal(struct span name)
{
	static const char *const suffixes[] = { "localhost", "test",      "invalid",
						"example",   "local",     "internal",
						"lan",       "home.arpa", "onion" };
	struct conf_address address;

	if (span_ends_with(name, SPAN(".")))
		name.len--;
	if (conf_address_parse(name, &address) || span_find_byte(name, '.') == name.len)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		struct span suffix = span_str(suffixes[i]);
		size_t rest = name.len - suffix.len;

		if (name.len <= suffix.len || name.ptr[rest - 1] != '.')
			continue;
		if (span_equal_nocase(span_skip(name, rest), suffix))
			return true;
	}
	return false;
}

bool compile_name(struct compiler *compiler, const struct conf_value *value,
		  const struct snapshot_site *site, bool is_redirect, struct span *ret_name)
{
	uint64_t key = hash_id(value->text);
	struct name_use *use = map_get(&compiler->names, key);

	if (use) {
		conf_error_add(compiler->errors, value->word->place, "`%.*s` is served twice",
			       SPAN_ARG(value->text))
			->other = use->place;
		return false;
	}
	use = arena_new(compiler->scratch, struct name_use);
	if (!use || map_set(&compiler->names, key, use)) {
		compiler->is_out_of_memory = true;
		return false;
	}
	struct span name = compiler_copy(compiler, value->text);
	use->place = value->word->place;
	use->is_wildcard = span_starts_with(name, SPAN("*."));
	use->row.name = use->is_wildcard ? span_skip(name, 2) : name;
	use->row.site = site;
	if (is_redirect)
		use->row.redirect_to = site->names[0];
	compiler->name_uses[compiler->name_use_count++] = use;
	*ret_name = name;
	return true;
}

static int compare_names(const void *a, const void *b)
{
	const struct snapshot_name *x = a, *y = b;

	return span_compare(x->name, y->name);
}

static struct snapshot_name *make_table(struct compiler *compiler, bool is_wildcard,
					size_t *ret_count)
{
	size_t count = 0;

	for (size_t i = 0; i < compiler->name_use_count; i++)
		count += compiler->name_uses[i]->is_wildcard == is_wildcard;
	struct snapshot_name *names = compiler_array(compiler, struct snapshot_name, count);
	*ret_count = 0;
	if (!names)
		return NULL;
	for (size_t i = 0; i < compiler->name_use_count; i++) {
		if (compiler->name_uses[i]->is_wildcard == is_wildcard)
			names[(*ret_count)++] = compiler->name_uses[i]->row;
	}
	qsort(names, count, sizeof(*names), compare_names);
	return names;
}

void compile_name_tables(struct compiler *compiler)
{
	struct snapshot *snapshot = compiler->snapshot;

	snapshot->exact_names = make_table(compiler, false, &snapshot->exact_name_count);
	snapshot->wildcard_names = make_table(compiler, true, &snapshot->wildcard_name_count);
}
