/* lex: bytes to words. */
#include "conf/conf_internal.h"

#include <string.h>

void lexer_init(struct lexer *lexer, struct parser *parser, uint32_t file)
{
	*lexer = (struct lexer){
		.parser = parser,
		.file = file,
		.text = parser->tree->files[file].text,
		.line = 1,
		.counted_column = 1,
	};
}

struct conf_place lexer_place(struct lexer *lexer, size_t offset, size_t len)
{
	for (; lexer->counted_at < offset; lexer->counted_at++) {
		/* Continuation bytes of UTF-8 share the column of their first byte. */
		if (((unsigned char)lexer->text.ptr[lexer->counted_at] & 0xc0) != 0x80)
			lexer->counted_column++;
	}
	return (struct conf_place){
		.file = lexer->file,
		.line = lexer->line,
		.column = lexer->counted_column,
		.offset = (uint32_t)offset,
		.len = (uint32_t)len,
	};
}

static void start_line(struct lexer *lexer)
{
	lexer->line++;
	lexer->counted_at = lexer->at;
	lexer->counted_column = 1;
}

/* Looked at before anything else is read, so that words never hold a byte that a terminal, a log or
 * a C string would understand differently from us. */
bool lexer_accepts(struct lexer *lexer)
{
	struct lexer scan = *lexer;

	for (; scan.at < scan.text.len; scan.at++) {
		unsigned char byte = (unsigned char)scan.text.ptr[scan.at];
		bool is_line_end = byte == '\r' && scan.at + 1 < scan.text.len &&
				   scan.text.ptr[scan.at + 1] == '\n';

		if (byte == '\n') {
			scan.at++;
			start_line(&scan);
			scan.at--;
			continue;
		}
		if ((byte >= 0x20 && byte != 0x7f) || byte == '\t' || is_line_end)
			continue;
		struct conf_place place = lexer_place(&scan, scan.at, 1);
		if (byte == 0)
			conf_error_add(scan.parser->errors, place,
				       "a NUL byte: this is no text file");
		else if (byte == '\r')
			conf_error_add(scan.parser->errors, place,
				       "a carriage return without a line feed");
		else
			conf_error_add(scan.parser->errors, place, "a control byte (0x%02x)", byte);
		return false;
	}
	return true;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r';
}

static bool ends_word(char byte)
{
	return is_blank(byte) || byte == '\n' || byte == '{' || byte == '}' || byte == ';' ||
	       byte == '"';
}

static bool is_name_byte(char byte, bool is_first)
{
	return ascii_is_alpha(byte) || byte == '_' || (!is_first && ascii_is_digit(byte));
}

static void read_comment(struct lexer *lexer)
{
	struct parser *parser = lexer->parser;
	size_t start = lexer->at;
	struct span rest = span_skip(lexer->text, start);
	struct span text = span_first(rest, span_find_byte(rest, '\n'));
	struct conf_comment *comment = arena_new(parser->tree->arena, struct conf_comment);

	lexer->at += text.len;
	if (!comment) {
		parser->is_out_of_memory = true;
		return;
	}
	if (text.len && text.ptr[text.len - 1] == '\r')
		text.len--;
	comment->text = span_trim(text);
	comment->place = lexer_place(lexer, start, comment->text.len);
	comment->is_own_line = true;
	for (size_t i = start; i > 0 && lexer->text.ptr[i - 1] != '\n'; i--)
		comment->is_own_line &= is_blank(lexer->text.ptr[i - 1]);
	*parser->comments_tail = comment;
	parser->comments_tail = &comment->next;
}

/* `$NAME` at lexer->at. Writes the value; the caller goes on with what stands after the name. */
static void read_variable(struct lexer *lexer, struct writer *writer)
{
	struct parser *parser = lexer->parser;
	size_t start = lexer->at++;

	while (lexer->at < lexer->text.len &&
	       is_name_byte(lexer->text.ptr[lexer->at], lexer->at == start + 1))
		lexer->at++;
	struct span name = span_of(lexer->text.ptr + start + 1, lexer->at - start - 1);
	struct conf_place place = lexer_place(lexer, start, name.len + 1);
	if (!name.len) {
		conf_error_add(parser->errors, place,
			       "`$` needs a variable's name, without braces; in quotes \"\\$\" is "
			       "the character itself");
		return;
	}
	struct conf_answer *answer = parser_answer(parser, CONF_ANSWER_ENVIRONMENT, name);
	if (!answer)
		return;
	if (answer->result) {
		conf_error_add(parser->errors, place,
			       "$%.*s is not set in the environment, which is read when the "
			       "configuration is: it knows no values of a request",
			       SPAN_ARG(name));
		return;
	}
	for (size_t i = 0; i < answer->value.len; i++) {
		unsigned char byte = (unsigned char)answer->value.ptr[i];
		if (byte >= 0x20 && byte != 0x7f)
			continue;
		conf_error_add(parser->errors, place, "$%.*s holds a control byte (0x%02x)",
			       SPAN_ARG(name), byte);
		return;
	}
	write_span(writer, answer->value);
}

static void read_escape(struct lexer *lexer, struct writer *writer)
{
	char byte = lexer->at + 1 < lexer->text.len ? lexer->text.ptr[lexer->at + 1] : '\n';

	if (byte == 'n') {
		write_byte(writer, '\n');
	} else if (byte == '"' || byte == '\\' || byte == '$') {
		write_byte(writer, byte);
	} else {
		conf_error_add(
			lexer->parser->errors, lexer_place(lexer, lexer->at, 1),
			"quotes know \\\" \\\\ \\n \\$ and no other escape; a backslash is \\\\");
		lexer->at++;
		return;
	}
	lexer->at += 2;
}

/* After the opening quote. Leaves lexer->at behind the closing one. */
static void read_quoted(struct lexer *lexer, size_t start, struct writer *writer)
{
	/* Taken now, while the count has not yet passed it. */
	struct conf_place place = lexer_place(lexer, start, 1);

	while (lexer->at < lexer->text.len && lexer->text.ptr[lexer->at] != '\n') {
		char byte = lexer->text.ptr[lexer->at];

		if (byte == '"') {
			lexer->at++;
			return;
		}
		if (byte == '\\') {
			read_escape(lexer, writer);
		} else if (byte == '$') {
			read_variable(lexer, writer);
		} else {
			write_byte(writer, byte);
			lexer->at++;
		}
	}
	conf_error_add(lexer->parser->errors, place,
		       "this quote is not closed on its line (a line break in a text is \\n)");
}

static void read_plain(struct lexer *lexer, struct writer *writer)
{
	while (lexer->at < lexer->text.len && !ends_word(lexer->text.ptr[lexer->at])) {
		if (lexer->text.ptr[lexer->at] == '$') {
			read_variable(lexer, writer);
		} else {
			write_byte(writer, lexer->text.ptr[lexer->at]);
			lexer->at++;
		}
	}
}

/* Text that went through a word processor, and what other languages quote with: as part of a plain word it would be
 * taken as it stands. */
bool conf_is_foreign_quote(struct span text)
{
	static const char *const quotes[] = { "'",      "\u201c", "\u201d", "\u201e",
					      "\u2018", "\u2019", "\u00ab", "\u00bb" };

	for (size_t i = 0; i < ARRAY_LEN(quotes); i++) {
		if (span_starts_with(text, span_str(quotes[i])))
			return true;
	}
	return false;
}

static void read_word(struct lexer *lexer, struct conf_word *ret_word)
{
	struct parser *parser = lexer->parser;
	size_t start = lexer->at;
	struct conf_place place = lexer_place(lexer, start, 1);

	*ret_word = (struct conf_word){ .text = SPAN(""), .place = place };
	if (!parser->scratch)
		parser->scratch = arena_array(parser->tree->arena, char, CONF_WORD_MAX);
	if (!parser->scratch) {
		parser->is_out_of_memory = true;
		lexer->at = lexer->text.len;
		return;
	}
	struct writer writer = writer_of(parser->scratch, CONF_WORD_MAX);
	ret_word->is_quoted = lexer->text.ptr[start] == '"';
	if (ret_word->is_quoted) {
		lexer->at++;
		read_quoted(lexer, start, &writer);
	} else {
		if (conf_is_foreign_quote(span_skip(lexer->text, start)))
			conf_error_add(parser->errors, place,
				       "a text with blanks stands in straight double quotes: "
				       "\"…\"");
		read_plain(lexer, &writer);
	}
	ret_word->place.len = (uint32_t)(lexer->at - start);
	if (!writer.ok)
		conf_error_add(parser->errors, ret_word->place, "a word of more than %d bytes",
			       CONF_WORD_MAX);
	struct span text = writer_done(&writer);
	char *copy = arena_cstr(parser->tree->arena, text);
	if (!copy) {
		parser->is_out_of_memory = true;
		return;
	}
	ret_word->text = span_of(copy, text.len);
}

enum token lexer_next(struct lexer *lexer, struct conf_word *ret_word)
{
	for (;;) {
		while (lexer->at < lexer->text.len && is_blank(lexer->text.ptr[lexer->at]))
			lexer->at++;
		if (lexer->at == lexer->text.len || lexer->parser->is_out_of_memory)
			return TOKEN_EOF;
		if (lexer->text.ptr[lexer->at] != '#')
			break;
		read_comment(lexer);
	}

	char byte = lexer->text.ptr[lexer->at];
	ret_word->place = lexer_place(lexer, lexer->at, 1);
	switch (byte) {
	case '\n':
		lexer->at++;
		start_line(lexer);
		return TOKEN_END;
	case ';':
		lexer->at++;
		return TOKEN_END;
	case '{':
		lexer->at++;
		return TOKEN_OPEN;
	case '}':
		lexer->at++;
		return TOKEN_CLOSE;
	default:
		read_word(lexer, ret_word);
		return TOKEN_WORD;
	}
}
