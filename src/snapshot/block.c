/* block: `route`, what must be true of a request and what holds for those. */
#include "snapshot/snapshot_internal.h"

static bool is_method(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < 'A' || text.ptr[i] > 'Z')
			return false;
	}
	return text.len > 0;
}

static void compile_methods(struct compiler *compiler, const struct conf_given *given,
			    struct snapshot_block *block)
{
	const struct conf_word *word = given ? given->values[0].word : NULL;
	struct span rest = given ? word->text : SPAN_NONE, method;
	struct span *methods;
	size_t max = 0;

	while (span_cut(&rest, ',', &method))
		max++;
	methods = compiler_array(compiler, struct span, max);
	rest = given ? word->text : SPAN_NONE;
	while (methods && span_cut(&rest, ',', &method)) {
		if (!is_method(method))
			conf_error_add(compiler->errors, word->place,
				       "methods are words in capitals, with commas between: "
				       "`GET,POST`");
		methods[block->method_count++] = compiler_copy(compiler, method);
	}
	block->methods = methods;
}

static void compile_header(struct compiler *compiler, const struct conf_given *given,
			   struct snapshot_block *block)
{
	if (!given)
		return;
	if (!is_field_name(given->values[0].text))
		conf_error_add(compiler->errors, given->values[0].word->place,
			       "`%.*s` is no name of a field",
			       SPAN_ARG(span_first(given->values[0].text, 64)));
	block->header_name = compiler_copy(compiler, given->values[0].text);
	block->has_header_value = given->value_count > 1;
	if (block->has_header_value)
		block->header_value = compiler_copy(compiler, given->values[1].text);
}

static void compile_query(struct compiler *compiler, const struct conf_given *given,
			  struct snapshot_block *block)
{
	if (!given)
		return;
	block->query_name = compiler_copy(compiler, given->values[0].text);
	block->has_query_value = given->value_count > 1;
	if (block->has_query_value)
		block->query_value = compiler_copy(compiler, given->values[1].text);
}

/* Whatever the pattern lets in must have something to strip, up to the end of a segment: `/api*` would let `/apis` in,
 * of which no path is left. */
static void compile_strip(struct compiler *compiler, const struct conf_statement *statement,
			  struct snapshot_block *block)
{
	const struct conf_value *prefix = &statement->arguments[0];
	struct span text = prefix->text, pattern = block->pattern.text;

	if (span_find_byte(text, '*') < text.len || span_ends_with(text, SPAN("/"))) {
		conf_error_add(compiler->errors, prefix->word->place,
			       "a prefix has no `*`, and no `/` at its end");
		return;
	}
	if (!span_starts_with(pattern, text) || span_find_byte(pattern, '*') <= text.len ||
	    !span_starts_with(span_skip(pattern, text.len), SPAN("/")))
		conf_error_add(compiler->errors, prefix->word->place,
			       "not all paths of this route begin with `%.*s/`: write "
			       "`route %.*s/* { … }`",
			       SPAN_ARG(text), SPAN_ARG(text));
	block->strip_prefix = compiler_copy(compiler, text);
}

static void compile_settings(struct compiler *compiler, const struct conf_statement *statement,
			     const struct snapshot_site *site, struct snapshot_block *block)
{
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (conf_is(inner, "strip-prefix"))
			compile_strip(compiler, inner, block);
		if (!conf_is(inner, "limits"))
			continue;
		struct snapshot_limits *limits =
			compiler_array(compiler, struct snapshot_limits, 1);
		const struct conf_given *on = conf_option(inner, "on");
		if (!limits)
			continue;
		if (on)
			conf_error_add(compiler->errors, on->word->place,
				       "limits of a route are for all of it");
		compiler_check_limits(compiler, statement->first, inner);
		*limits = *site->limits;
		compiler_limits(compiler, inner, limits);
		block->limits = limits;
	}
	compile_error_pages(compiler, statement, &block->error_pages);
	compile_request_limits(compiler, statement, block->id, &block->request_limits,
			       &block->request_limit_count);
	compile_connection_limits(compiler, statement, block->id, &block->connection_limits);
	compile_bandwidth_limits(compiler, statement, block->id, &block->bandwidth_limits);
}

const struct snapshot_block *compile_block(struct compiler *compiler,
					   const struct conf_statement *statement,
					   const struct snapshot_site *site)
{
	struct snapshot_block *block = compiler_array(compiler, struct snapshot_block, 1);
	struct span line = conf_canonical(statement, false, compiler->scratch);
	struct span whole = arena_format(compiler->scratch, "%016llx %.*s",
					 (unsigned long long)site->id, SPAN_ARG(line));

	if (!line.ptr || !whole.ptr)
		compiler->is_out_of_memory = true;
	if (!block || compiler->is_out_of_memory)
		return NULL;
	block->id = hash_id(whole);
	block->place = compiler_place(compiler, statement->place);
	block->rule = compiler_rule(compiler, &block->place, "route");
	compile_pattern_text(compiler, statement->arguments[0].text, &block->pattern);
	compile_methods(compiler, conf_option(statement, "method"), block);
	compile_header(compiler, conf_option(statement, "header"), block);
	compile_query(compiler, conf_option(statement, "query"), block);
	compile_from(compiler, statement, &block->from);
	compile_settings(compiler, statement, site, block);
	return block;
}
