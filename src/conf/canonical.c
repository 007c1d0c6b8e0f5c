/* canonical: one way to write a statement. */
#include "conf/conf_internal.h"

#include <string.h>

static bool needs_quotes(const struct conf_word *word)
{
	struct span text = word->text;

	if (!text.len || text.ptr[0] == '#' || conf_is_foreign_quote(text))
		return true;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.ptr[i];
		if (byte <= ' ' || byte == '{' || byte == '}' || byte == ';' || byte == '"' ||
		    byte == '$' || byte == 0x7f)
			return true;
	}
	return false;
}

static void write_word(const struct conf_word *word, bool is_first, struct writer *writer)
{
	/* A quoted `include` is an ordinary statement and has to stay one. */
	bool is_include = is_first && span_equal(word->text, SPAN("include"));

	if (!is_include && !needs_quotes(word)) {
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
		write_word(&statement->words[i], i == 0, writer);
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
