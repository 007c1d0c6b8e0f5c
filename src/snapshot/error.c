/* error: pages of a site's own, which lie in the snapshot: a worker opens nothing for them. */
#include "snapshot/snapshot_internal.h"

static void check_code(struct compiler *compiler, const struct conf_statement *block,
		       const struct conf_value *code)
{
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (!conf_is(s, "error"))
			continue;
		for (size_t i = 0; i + 1 < s->argument_count; i++) {
			if (&s->arguments[i] == code)
				return;
			if (s->arguments[i].number != code->number)
				continue;
			conf_error_add(compiler->errors, code->word->place,
				       "there is a page for %u already", (unsigned)code->number)
				->other = s->arguments[i].word->place;
			return;
		}
	}
}

static struct snapshot_error_page page_of(struct compiler *compiler, const struct conf_value *file)
{
	const struct telemetry_limit_row *limit = &telemetry_limits[TELEMETRY_LIMIT_ERROR_PAGE];
	struct snapshot_error_page page = {
		.media_type = compiler_copy(compiler, http_media_type(file->text)),
	};

	if (file->content.len > limit->value)
		conf_error_add(compiler->errors, file->word->place,
			       "%.*s has %zu bytes: the limit `%s` is %s", SPAN_ARG(file->text),
			       file->content.len, limit->name, limit->text);
	else
		page.content = compiler_copy(compiler, file->content);
	return page;
}

void compile_error_pages(struct compiler *compiler, const struct conf_statement *block,
			 struct snapshot_error_pages *pages)
{
	struct snapshot_error_page *items;
	size_t max = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next)
		max += conf_is(s, "error") ? s->argument_count - 1 : 0;
	items = compiler_array(compiler, struct snapshot_error_page, max);
	if (!items)
		return;
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (!conf_is(s, "error"))
			continue;
		/* One copy, however many codes show it. */
		struct snapshot_error_page page =
			page_of(compiler, &s->arguments[s->argument_count - 1]);
		for (size_t i = 0; i + 1 < s->argument_count; i++) {
			check_code(compiler, block, &s->arguments[i]);
			page.code = (uint16_t)s->arguments[i].number;
			items[pages->count++] = page;
		}
	}
	pages->items = items;
}
