/* format: one way to lay a file out. It works on the words as they are written: `$NAME`, quotes and `include` stay, and
 * so do comments, blank lines (one at a time) and what shares a line within one block. */
#include "conf/conf_internal.h"

enum {
	BLANKS_PER_LEVEL = 4,
	/* What a piece costs at most beyond its own bytes: its own line and the one behind it, each with a blank one. */
	LINE_COST = 2 * (3 + BLANKS_PER_LEVEL * CONF_BLOCK_DEPTH_MAX),
	WORD_COST = 2,
};

enum piece_kind {
	PIECE_WORD,
	PIECE_NEWLINE,
	PIECE_SEMICOLON,
	PIECE_OPEN,
	PIECE_CLOSE,
	PIECE_COMMENT,
};

struct piece {
	enum piece_kind kind;
	struct span text;
	size_t partner; /* OPEN: index of its CLOSE */
	bool is_inline; /* OPEN: the whole block stands on one line */
};

struct pieces {
	struct arena *arena;
	struct piece *list;
	size_t count, capacity, size; /* size: bytes that they take at most */
};

static bool no_environment(void *owner, struct span name, struct span *ret_value)
{
	(void)owner;
	(void)name;
	*ret_value = SPAN("");
	return true;
}

static bool add(struct pieces *pieces, enum piece_kind kind, struct span text)
{
	if (pieces->count == pieces->capacity) {
		size_t capacity = pieces->capacity ? pieces->capacity * 2 : 64;
		struct piece *list = arena_array(pieces->arena, struct piece, capacity);

		if (!list)
			return false;
		for (size_t i = 0; i < pieces->count; i++)
			list[i] = pieces->list[i];
		pieces->list = list;
		pieces->capacity = capacity;
	}
	pieces->list[pieces->count++] = (struct piece){ .kind = kind, .text = text };
	pieces->size += text.len + (kind == PIECE_WORD ? WORD_COST : LINE_COST);
	return true;
}

/* ---- Text to pieces -------------------------------------------------------------------------- */

/* Blocks of a file, that each one is opened where it may be, and closed. */
struct blocks {
	size_t open[CONF_BLOCK_DEPTH_MAX];
	struct conf_place places[CONF_BLOCK_DEPTH_MAX];
	size_t depth;
};

static bool open_block(struct pieces *pieces, struct blocks *blocks, struct conf_place place,
		       struct conf_errors *errors)
{
	size_t last = pieces->count - 1; /* the brace itself */

	if (!last || pieces->list[last - 1].kind != PIECE_WORD) {
		conf_error_add(errors, place,
			       "`{` stands on the line of its statement, after its words");
		return false;
	}
	if (blocks->depth == CONF_BLOCK_DEPTH_MAX) {
		conf_error_add(errors, place, "blocks deeper than %d", CONF_BLOCK_DEPTH_MAX);
		return false;
	}
	blocks->places[blocks->depth] = place;
	blocks->open[blocks->depth++] = last;
	return true;
}

static bool close_block(struct pieces *pieces, struct blocks *blocks, struct conf_place place,
			struct conf_errors *errors)
{
	size_t last = pieces->count - 1;
	struct piece *open;

	if (!blocks->depth) {
		conf_error_add(errors, place, "`}` closes nothing");
		return false;
	}
	open = &pieces->list[blocks->open[--blocks->depth]];
	open->partner = last;
	open->is_inline = true;
	for (const struct piece *piece = open; piece < &pieces->list[last]; piece++)
		open->is_inline &= piece->kind != PIECE_NEWLINE && piece->kind != PIECE_COMMENT;
	return true;
}

static bool add_comments(struct pieces *pieces, const struct conf_comment *comments)
{
	for (; comments; comments = comments->next) {
		if (!add(pieces, PIECE_COMMENT, comments->text))
			return false;
	}
	return true;
}

/* 0, CONF_FAULTY or -ENOMEM. */
static int read_pieces(struct lexer *lexer, struct pieces *pieces, struct conf_errors *errors)
{
	struct parser *parser = lexer->parser;
	struct blocks blocks = { .depth = 0 };
	struct conf_word word;
	enum token token;
	bool ok = true;

	do {
		struct conf_comment *comments = NULL;

		parser->comments_tail = &comments;
		token = lexer_next(lexer, &word);
		if (parser->is_out_of_memory || !add_comments(pieces, comments))
			return -ENOMEM;
		if (token == TOKEN_EOF)
			break;
		struct span text =
			span_first(span_skip(lexer->text, word.place.offset), word.place.len);
		enum piece_kind kind = token == TOKEN_WORD    ? PIECE_WORD
				       : token == TOKEN_OPEN  ? PIECE_OPEN
				       : token == TOKEN_CLOSE ? PIECE_CLOSE
				       : text.ptr[0] == ';'   ? PIECE_SEMICOLON
							      : PIECE_NEWLINE;
		if (!add(pieces, kind, text))
			return -ENOMEM;
		if (kind == PIECE_OPEN)
			ok = open_block(pieces, &blocks, word.place, errors);
		else if (kind == PIECE_CLOSE)
			ok = close_block(pieces, &blocks, word.place, errors);
	} while (ok);
	if (ok && blocks.depth)
		conf_error_add(errors, blocks.places[blocks.depth - 1],
			       "this block is never closed");
	return errors->error_count ? CONF_FAULTY : 0;
}

/* ---- Pieces to text -------------------------------------------------------------------------- */

struct layout {
	const struct pieces *pieces;
	struct writer *writer;
	size_t depth;
	size_t newlines;    /* since something was written */
	bool has_written;   /* on this line */
	bool is_after_word; /* on this line, of the statement under way */
	bool is_at_start;   /* of the file or of a block: no blank line */
};

static void end_line(struct layout *layout)
{
	if (layout->has_written)
		write_byte(layout->writer, '\n');
	layout->has_written = layout->is_after_word = false;
}

static void begin(struct layout *layout)
{
	if (!layout->has_written) {
		if (layout->newlines > 1 && !layout->is_at_start)
			write_byte(layout->writer, '\n');
		for (size_t i = 0; i < layout->depth * BLANKS_PER_LEVEL; i++)
			write_byte(layout->writer, ' ');
	}
	layout->newlines = 0;
	layout->has_written = true;
	layout->is_at_start = false;
}

/* ` { a; b }` */
static void write_inline(struct layout *layout, size_t open)
{
	const struct piece *list = layout->pieces->list;
	bool is_fresh = true, is_first = true;

	write_str(layout->writer, " {");
	for (size_t i = open + 1; i < list[open].partner; i++) {
		if (list[i].kind == PIECE_SEMICOLON) {
			is_fresh = true;
			continue;
		}
		if (list[i].kind == PIECE_OPEN) {
			write_inline(layout, i);
			i = list[i].partner;
			is_fresh = true;
			continue;
		}
		write_str(layout->writer, is_fresh && !is_first ? "; " : " ");
		write_span(layout->writer, list[i].text);
		is_fresh = is_first = false;
	}
	write_str(layout->writer, " }");
}

static void write_comment(struct layout *layout, const struct piece *piece, bool is_own_line)
{
	if (is_own_line) {
		end_line(layout);
		begin(layout);
	} else {
		write_byte(layout->writer, ' ');
	}
	write_span(layout->writer, piece->text);
	end_line(layout);
}

static void write_close(struct layout *layout)
{
	end_line(layout);
	layout->depth--;
	layout->newlines = 0; /* no blank line before it */
	begin(layout);
	write_byte(layout->writer, '}');
	layout->is_after_word = false;
}

static void write_pieces(struct layout *layout)
{
	const struct piece *list = layout->pieces->list;
	bool is_line_fresh = true; /* of the text that is read */

	for (size_t i = 0; i < layout->pieces->count; i++) {
		switch (list[i].kind) {
		case PIECE_WORD:
			if (!layout->is_after_word)
				end_line(layout);
			else
				write_byte(layout->writer, ' ');
			begin(layout);
			write_span(layout->writer, list[i].text);
			layout->is_after_word = true;
			break;
		case PIECE_NEWLINE:
			/* A comment has ended its line already. */
			layout->newlines++;
			layout->is_after_word = false;
			break;
		case PIECE_SEMICOLON:
			layout->is_after_word = false;
			break;
		case PIECE_OPEN:
			if (list[i].is_inline) {
				write_inline(layout, i);
				i = list[i].partner;
			} else {
				write_str(layout->writer, " {");
				layout->depth++;
				layout->is_at_start = true;
			}
			layout->is_after_word = false;
			break;
		case PIECE_CLOSE:
			write_close(layout);
			break;
		case PIECE_COMMENT:
			write_comment(layout, &list[i], is_line_fresh);
			break;
		}
		is_line_fresh = list[i].kind == PIECE_NEWLINE ||
				(is_line_fresh && list[i].kind == PIECE_SEMICOLON);
	}
	end_line(layout);
}

int conf_format(struct arena *arena, struct span name, struct span text, struct conf_errors *errors,
		struct conf_tree **ret_tree, struct span *ret_text)
{
	struct conf_functions functions = { .environment = no_environment };
	struct conf_tree *tree = arena_new(arena, struct conf_tree);
	struct parser parser = { .tree = tree, .functions = &functions, .errors = errors };
	static const struct span mark = { "\xef\xbb\xbf", 3 };
	struct pieces pieces = { .arena = arena };
	struct layout layout = { .pieces = &pieces, .is_at_start = true };
	struct lexer lexer;
	uint32_t file;
	int result = 0;

	if (!tree)
		return -ENOMEM;
	tree->arena = arena;
	parser.answers_tail = &tree->answers;
	if (!parser_add_file(&parser, name, text, (struct conf_place){ 0 }, &file))
		return -ENOMEM;
	*ret_tree = tree;
	lexer_init(&lexer, &parser, file);
	result = lexer_accepts(&lexer) ? read_pieces(&lexer, &pieces, errors) : CONF_FAULTY;
	if (result)
		return result;
	size_t size = pieces.size + mark.len + 1;
	char *memory = arena_array(arena, char, size);
	if (!memory)
		return -ENOMEM;
	struct writer writer = writer_of(memory, size);
	layout.writer = &writer;
	/* Reading takes one away: before one that belongs to a word there stands another. */
	if (pieces.count && span_starts_with(pieces.list[0].text, mark))
		write_span(&writer, mark);
	write_pieces(&layout);
	MUST(writer.ok);
	*ret_text = writer_done(&writer);
	return 0;
}
