/* canonical: one way to write a statement, and a whole tree as one text. */
#include "conf/conf_internal.h"

#include <string.h>

static bool needs_quotes(const struct conf_word *word)
{
	struct span text = word->text;

	if (!text.len || text.ptr[0] == '#')
		return true;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.ptr[i];
		if (byte <= ' ' || byte == '{' || byte == '}' || byte == ';' || byte == '"' ||
		    byte == '$' || byte == 0x7f)
			return true;
	}
	return false;
}

static void write_word(const struct conf_word *word, bool is_first, bool in_quotes,
		       struct writer *writer)
{
	/* A quoted `include` is an ordinary statement and has to stay one. */
	bool is_include = is_first && span_equal(word->text, SPAN("include"));

	if (!in_quotes && !is_include && !needs_quotes(word)) {
		write_span(writer, word->text);
		return;
	}
	write_byte(writer, '"');
	for (size_t i = 0; i < word->text.len; i++) {
		char byte = word->text.ptr[i];
		if (byte == '"' || byte == '\\' || byte == '$' || byte == '\n')
			write_byte(writer, '\\');
		write_byte(writer, byte == '\n' ? 'n' : byte);
	}
	write_byte(writer, '"');
}

/* Recursion ends at CONF_BLOCK_DEPTH_MAX, which the parser holds. */
static void write_statement(const struct conf_statement *statement, bool with_block,
			    struct writer *writer)
{
	for (size_t i = 0; i < statement->word_count; i++) {
		if (i)
			write_byte(writer, ' ');
		write_word(&statement->words[i], i == 0, false, writer);
	}
	if (!with_block || !statement->has_block)
		return;
	write_str(writer, " {");
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		write_str(writer, inner == statement->first ? " " : "; ");
		write_statement(inner, true, writer);
	}
	write_str(writer, " }");
}

static size_t canonical_size(const struct conf_statement *statement, bool with_block)
{
	size_t size = 0;

	for (size_t i = 0; i < statement->word_count; i++)
		size += statement->words[i].text.len * 2 + 3;
	if (!with_block || !statement->has_block)
		return size;
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next)
		size += canonical_size(inner, true) + 2;
	return size + 5;
}

/* ---- A whole tree ---------------------------------------------------------------------------- */

/* A name that holds a line break must not end the comment. */
static void write_file_name(struct span name, struct writer *writer)
{
	write_str(writer, "# ");
	char *at = writer->at;
	write_span(writer, name);
	text_make_plain(at, (size_t)(writer->at - at));
	write_byte(writer, '\n');
}

static void write_as_text(const struct conf_tree *tree, const struct conf_statement *first,
			  uint32_t *file, struct writer *writer)
{
	for (const struct conf_statement *s = first; s; s = s->next) {
		if (s->place.file != *file)
			write_file_name(tree->files[s->place.file].name, writer);
		*file = s->place.file;
		for (size_t i = 0; i < s->word_count; i++) {
			struct conf_word word = s->words[i];

			if (i)
				write_byte(writer, ' ');
			write_word(&word, i == 0, word.is_quoted, writer);
		}
		if (s->has_block) {
			write_str(writer, " {\n");
			write_as_text(tree, s->first, file, writer);
			write_byte(writer, '}');
		}
		write_byte(writer, '\n');
	}
}

static size_t text_size(const struct conf_tree *tree, const struct conf_statement *first)
{
	size_t size = 0;

	for (const struct conf_statement *s = first; s; s = s->next)
		size += canonical_size(s, false) + tree->files[s->place.file].name.len + 8 +
			text_size(tree, s->first);
	return size;
}

int conf_text(const struct conf_tree *tree, struct arena *arena, struct span *ret_text)
{
	size_t size = 32 + text_size(tree, tree->first);
	char *memory = arena_array(arena, char, size);
	struct conf_errors errors;
	struct conf_tree *unused;
	uint32_t file = 0;

	if (!memory)
		return -ENOMEM;
	struct writer writer = writer_of(memory, size);
	write_format(&writer, "portcullis %d\n", CONF_VERSION);
	write_as_text(tree, tree->first, &file, &writer);
	MUST(writer.ok);
	conf_errors_init(&errors, arena);
	return conf_format(arena, SPAN(""), writer_done(&writer), &errors, &unused, ret_text);
}

/* ---- One statement --------------------------------------------------------------------------- */

struct span conf_canonical(const struct conf_statement *statement, bool with_block,
			   struct arena *arena)
{
	size_t size = canonical_size(statement, with_block);
	char *line = arena_array(arena, char, size);

	if (!line)
		return SPAN_NONE;
	struct writer writer = writer_of(line, size);
	write_statement(statement, with_block, &writer);
	MUST(writer.ok);
	return writer_done(&writer);
}
