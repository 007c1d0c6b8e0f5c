/* error: faults as a user reads them, and the nearest right word. */
#include "conf/conf_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	NEAREST_LEN_MAX = 32,  /* longer words are not names of anything */
	LINE_WIDTH_MAX = 160,  /* characters of a quoted line */
	MESSAGE_LEN_MAX = 512, /* bytes */
};

void conf_errors_init(struct conf_errors *errors, struct arena *arena)
{
	*errors = (struct conf_errors){ .arena = arena };
}

PRINTF_LIKE(4, 0)
static struct conf_error *add(struct conf_errors *errors, bool is_warning, struct conf_place place,
			      const char *format, va_list arguments)
{
	struct conf_error *error = &errors->list[errors->count];
	char text[MESSAGE_LEN_MAX];

	if (is_warning)
		errors->warning_count++;
	else
		errors->error_count++;
	if (errors->count == CONF_ERRORS_MAX) {
		errors->overflow = (struct conf_error){ 0 };
		return &errors->overflow;
	}
	int len = vsnprintf(text, sizeof(text), format, arguments);
	size_t kept = len < 0 ? 0 : (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
	*error = (struct conf_error){ .is_warning = is_warning, .place = place };
	error->message = arena_copy(errors->arena, span_of(text, kept));
	if (!error->message.ptr)
		error->message = SPAN("(no memory for this message)");
	errors->count++;
	return error;
}

struct conf_error *conf_error_add(struct conf_errors *errors, struct conf_place place,
				  const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	struct conf_error *error = add(errors, false, place, format, arguments);
	va_end(arguments);
	return error;
}

struct conf_error *conf_warning_add(struct conf_errors *errors, struct conf_place place,
				    const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	struct conf_error *error = add(errors, true, place, format, arguments);
	va_end(arguments);
	return error;
}

/* ---- Printing -------------------------------------------------------------------------------- */

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

/* A file may hold escape sequences for the terminal of whoever checks it. C1 controls hide in UTF-8
 * as 0xc2 0x80..0x9f; marks that reorder a line are left alone, the caret still stands below the
 * word. */
static void write_plain(struct writer *writer, struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.ptr[i];
		unsigned char next = i + 1 < text.len ? (unsigned char)text.ptr[i + 1] : 0;

		if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
			write_byte(writer, '?');
			i++;
		} else if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
			write_byte(writer, '?');
		} else {
			write_byte(writer, text.ptr[i]);
		}
	}
}

static struct span line_around(struct span text, size_t offset, size_t *ret_start)
{
	size_t start = offset < text.len ? offset : text.len;

	while (start > 0 && text.ptr[start - 1] != '\n')
		start--;
	struct span line = span_skip(text, start);
	line = span_first(line, span_find_byte(line, '\n'));
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	*ret_start = start;
	return line;
}

static void write_line_and_caret(const struct conf_tree *tree, struct conf_place place,
				 struct writer *writer)
{
	size_t start, shown_from = 0;
	struct span line = line_around(tree->files[place.file].text, place.offset, &start);
	size_t caret = place.offset - start < line.len ? place.offset - start : line.len;

	/* A line of a generated list may be very long: show the part around the word. */
	if (caret > LINE_WIDTH_MAX / 2 && line.len > LINE_WIDTH_MAX)
		shown_from = caret - LINE_WIDTH_MAX / 2;
	while (shown_from > 0 && shown_from < caret && is_continuation(line.ptr[shown_from]))
		shown_from++;
	struct span shown = span_first(span_skip(line, shown_from), LINE_WIDTH_MAX);

	write_str(writer, "    ");
	write_plain(writer, shown);
	write_str(writer, "\n    ");
	for (size_t i = shown_from; i < caret; i++) {
		if (line.ptr[i] == '\t' || !is_continuation(line.ptr[i]))
			write_byte(writer, line.ptr[i] == '\t' ? '\t' : ' ');
	}
	write_byte(writer, '^');
	struct span word = span_first(span_skip(line, caret), place.len);
	for (size_t i = 1; i < word.len && i < shown.len; i++) {
		if (!is_continuation(word.ptr[i]))
			write_byte(writer, '~');
	}
	write_byte(writer, '\n');
}

static void write_place(const struct conf_tree *tree, struct conf_place place,
			struct writer *writer)
{
	write_plain(writer, tree->files[place.file].name);
	write_format(writer, ":%u:%u", place.line, place.column);
}

void conf_error_write(const struct conf_tree *tree, const struct conf_error *error,
		      struct writer *writer)
{
	const char *kind = error->is_warning ? "warning" : "error";

	if (error->place.line && error->place.file < tree->file_count) {
		write_place(tree, error->place, writer);
		write_str(writer, ": ");
	}
	write_format(writer, "%s: ", kind);
	write_plain(writer, error->message);
	write_byte(writer, '\n');
	if (error->place.line && error->place.file < tree->file_count)
		write_line_and_caret(tree, error->place, writer);
	if (error->nearest.len) {
		write_str(writer, "    did you mean \"");
		write_plain(writer, error->nearest);
		write_str(writer, "\"?\n");
	}
	if (error->other.line && error->other.file < tree->file_count) {
		write_place(tree, error->other, writer);
		write_str(writer, ": the first one stands here\n");
		write_line_and_caret(tree, error->other, writer);
	}
}

void conf_errors_write(const struct conf_tree *tree, const struct conf_errors *errors,
		       struct writer *writer)
{
	size_t all = errors->error_count + errors->warning_count;

	for (size_t i = 0; i < errors->count; i++)
		conf_error_write(tree, &errors->list[i], writer);
	if (all > errors->count)
		write_format(writer, "… and %zu more\n", all - errors->count);
}

/* ---- The nearest word ------------------------------------------------------------------------ */

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment: insert, remove, replace, or exchange two neighbours. Case counts
 * nothing. */
static size_t edit_distance(struct span a, struct span b)
{
	size_t rows[3][NEAREST_LEN_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *now = rows[2];

	for (size_t j = 0; j <= b.len; j++)
		last[j] = before[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		now[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			char x = ascii_lower(a.ptr[i - 1]), y = ascii_lower(b.ptr[j - 1]);
			size_t best = min_size(last[j] + 1, now[j - 1] + 1);

			best = min_size(best, last[j - 1] + (x == y ? 0 : 1));
			if (i > 1 && j > 1 && x == ascii_lower(b.ptr[j - 2]) &&
			    y == ascii_lower(a.ptr[i - 2]))
				best = min_size(best, before[j - 2] + 1);
			now[j] = best;
		}
		size_t *recycled = before;
		before = last;
		last = now;
		now = recycled;
	}
	return last[b.len];
}

void conf_nearest_init(struct conf_nearest *nearest, struct span wanted)
{
	/* Two edits in three letters make any word of any other: allow one edit a third of the
	 * length. */
	*nearest = (struct conf_nearest){
		.wanted = wanted,
		.distance = (wanted.len < 3 ? 1 : wanted.len / 3) + 1,
	};
	if (nearest->distance > 4)
		nearest->distance = 4;
}

void conf_nearest_offer(struct conf_nearest *nearest, struct span candidate)
{
	if (!nearest->wanted.len || nearest->wanted.len > NEAREST_LEN_MAX ||
	    candidate.len > NEAREST_LEN_MAX)
		return;
	size_t distance = edit_distance(nearest->wanted, candidate);
	/* Half of a word of two letters is any other such word; those that begin alike may be meant. */
	if (nearest->wanted.len < 3 && 2 * distance >= candidate.len && candidate.len &&
	    nearest->wanted.ptr[0] != candidate.ptr[0])
		return;
	/* A word that shares no letter with what was written is no help. */
	if (distance >= nearest->distance || distance >= nearest->wanted.len + (candidate.len > 1))
		return;
	nearest->distance = distance;
	nearest->best = candidate;
}
