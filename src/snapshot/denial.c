/* denial: who may not ask for a path at all. */
#include "snapshot/snapshot_internal.h"

static void compile_denial(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_denial *denial)
{
	struct snapshot_place place = compiler_place(compiler, statement->place);
	struct snapshot_pattern *patterns =
		compiler_array(compiler, struct snapshot_pattern, statement->argument_count);

	if (!patterns)
		return;
	for (size_t i = 0; i < statement->argument_count; i++)
		compile_pattern_text(compiler, statement->arguments[i].text, &patterns[i]);
	denial->patterns = patterns;
	denial->pattern_count = statement->argument_count;
	denial->rule = compiler_rule(compiler, &place, statement->row->name);
	compile_from(compiler, statement, &denial->from);
}

void compile_denials(struct compiler *compiler, const struct conf_statement *block,
		     struct snapshot_site *site)
{
	struct snapshot_denial *denials;
	size_t count = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next)
		count += conf_is(s, "block path");
	denials = compiler_array(compiler, struct snapshot_denial, count);
	if (!denials)
		return;
	site->denials = denials;
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (conf_is(s, "block path"))
			compile_denial(compiler, s, &denials[site->denial_count++]);
	}
}
