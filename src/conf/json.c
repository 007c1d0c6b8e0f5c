/* json: a tree as JSON, and back.
 *
 *   {"portcullis": 1, "statements": [
 *   {"words": ["site", "a.test"], "file": "/etc/a.conf", "line": 3, "block": [
 *    {"words": ["respond", "200", "on"], "quoted": [2], "file": "/etc/a.conf", "line": 4}]}]}
 *
 * Words are as they were resolved. `quoted` lists those that stood in quotes, for an option's name in quotes is a text;
 * `file` and `line` say where the statement stood, and may be left out. Anything else is a fault. */
#include "conf/conf_internal.h"

enum { STATEMENT_COST = 128, WORD_COST = 16, JSON_BYTE_COST = 6 };

/* ---- Tree to JSON ---------------------------------------------------------------------------- */

static size_t json_size(const struct conf_tree *tree, const struct conf_statement *first)
{
	size_t size = 0;

	for (const struct conf_statement *s = first; s; s = s->next) {
		size += STATEMENT_COST + tree->files[s->place.file].name.len * JSON_BYTE_COST;
		for (size_t i = 0; i < s->word_count; i++)
			size += WORD_COST + s->words[i].text.len * JSON_BYTE_COST;
		size += json_size(tree, s->first);
	}
	return size;
}

static void write_quoted(const struct conf_statement *statement, struct writer *writer)
{
	bool is_first = true;

	for (size_t i = 0; i < statement->word_count; i++) {
		if (!statement->words[i].is_quoted)
			continue;
		write_str(writer, is_first ? ", \"quoted\": [" : ", ");
		write_u64(writer, i);
		is_first = false;
	}
	if (!is_first)
		write_byte(writer, ']');
}

static void write_statements(const struct conf_tree *tree, const struct conf_statement *first,
			     size_t depth, struct writer *writer)
{
	for (const struct conf_statement *s = first; s; s = s->next) {
		write_byte(writer, '\n');
		for (size_t i = 0; i < depth; i++)
			write_byte(writer, ' ');
		write_str(writer, "{\"words\": [");
		for (size_t i = 0; i < s->word_count; i++) {
			if (i)
				write_str(writer, ", ");
			write_json(writer, s->words[i].text);
		}
		write_byte(writer, ']');
		write_quoted(s, writer);
		write_str(writer, ", \"file\": ");
		write_json(writer, tree->files[s->place.file].name);
		write_format(writer, ", \"line\": %u", s->place.line);
		if (s->has_block) {
			write_str(writer, ", \"block\": [");
			write_statements(tree, s->first, depth + 1, writer);
			write_byte(writer, ']');
		}
		write_str(writer, s->next ? "}," : "}");
	}
}

struct span conf_json(const struct conf_tree *tree, struct arena *arena)
{
	size_t size = STATEMENT_COST + json_size(tree, tree->first);
	char *memory = arena_array(arena, char, size);

	if (!memory)
		return SPAN_NONE;
	struct writer writer = writer_of(memory, size);
	write_format(&writer, "{\"portcullis\": %d, \"statements\": [", CONF_VERSION);
	write_statements(tree, tree->first, 0, &writer);
	write_str(&writer, "]}\n");
	MUST(writer.ok);
	return writer_done(&writer);
}

/* ---- JSON to tree ---------------------------------------------------------------------------- */

struct json {
	struct parser *parser;
	struct span text;
	size_t at;
	struct conf_place counted; /* the last place that was asked for: lines are counted once */
	bool ok;                   /* false: a fault was told, or memory is short */
};

static struct conf_place place_at(struct json *json, size_t at)
{
	struct conf_place *place = &json->counted;

	if (!place->line || at < place->offset)
		*place = (struct conf_place){ .line = 1, .column = 1, .len = 1 };
	for (; place->offset < at && place->offset < json->text.len; place->offset++) {
		unsigned char byte = (unsigned char)json->text.ptr[place->offset];

		if (byte == '\n') {
			place->line++;
			place->column = 1;
		} else if ((byte & 0xc0) != 0x80) {
			place->column++;
		}
	}
	return *place;
}

static void fault(struct json *json, size_t at, const char *why)
{
	if (json->ok)
		conf_error_add(json->parser->errors, place_at(json, at), "%s", why);
	json->ok = false;
}

static void no_memory(struct json *json)
{
	json->parser->is_out_of_memory = true;
	json->ok = false;
}

static void skip_blanks(struct json *json)
{
	while (json->at < json->text.len) {
		char byte = json->text.ptr[json->at];

		if (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r')
			return;
		json->at++;
	}
}

static char peek(struct json *json)
{
	skip_blanks(json);
	return json->ok && json->at < json->text.len ? json->text.ptr[json->at] : '\0';
}

static void expect(struct json *json, char byte, const char *why)
{
	if (peek(json) == byte)
		json->at++;
	else
		fault(json, json->at, why);
}

/* Before each item of a list or object, and at its end: true while there is one. */
static bool has_item(struct json *json, char end, bool *is_first)
{
	if (peek(json) == end) {
		json->at++;
		return false;
	}
	if (!*is_first)
		expect(json, ',', "a `,` or the end of this list is missing");
	*is_first = false;
	return json->ok;
}

static uint64_t read_number(struct json *json)
{
	size_t start, len = 0;
	uint64_t value = 0;

	skip_blanks(json);
	start = json->at;
	while (start + len < json->text.len && ascii_is_digit(json->text.ptr[start + len]))
		len++;
	if (!parse_u64(span_first(span_skip(json->text, start), len), UINT32_MAX, &value))
		fault(json, start, "a whole number belongs here");
	json->at += len;
	return value;
}

static void write_character(struct writer *out, uint32_t character)
{
	if (character < 0x80) {
		write_byte(out, (char)character);
		return;
	}
	if (character < 0x800) {
		write_byte(out, (char)(0xc0 | character >> 6));
	} else if (character < 0x10000) {
		write_byte(out, (char)(0xe0 | character >> 12));
		write_byte(out, (char)(0x80 | (character >> 6 & 0x3f)));
	} else {
		write_byte(out, (char)(0xf0 | character >> 18));
		write_byte(out, (char)(0x80 | (character >> 12 & 0x3f)));
		write_byte(out, (char)(0x80 | (character >> 6 & 0x3f)));
	}
	write_byte(out, (char)(0x80 | (character & 0x3f)));
}

/* Four hexadecimal digits behind `\u`. */
static uint32_t read_unit(struct json *json)
{
	uint64_t value = 0;
	struct span rest = span_skip(json->text, json->at);

	if (!span_starts_with(rest, SPAN("\\u")) || rest.len < 6 ||
	    !parse_hex_u64(span_first(span_skip(rest, 2), 4), 0xffff, &value))
		fault(json, json->at, "`\\u` and four hexadecimal digits belong here");
	json->at += 6;
	return (uint32_t)value;
}

static void read_json_escape(struct json *json, struct writer *out)
{
	static const struct span from = { "\"\\/bfnrt", 8 }, to = { "\"\\/\b\f\n\r\t", 8 };
	size_t start = json->at, which;
	uint32_t high, low;

	if (start + 1 < json->text.len && json->text.ptr[start + 1] != 'u') {
		which = span_find_byte(from, json->text.ptr[start + 1]);
		if (which < from.len)
			write_byte(out, to.ptr[which]);
		else
			fault(json, start, "JSON knows no such escape");
		json->at += 2;
		return;
	}
	high = read_unit(json);
	if ((high & 0xf800) == 0xd800) {
		low = json->ok ? read_unit(json) : 0;
		if ((high & 0xfc00) != 0xd800 || (low & 0xfc00) != 0xdc00)
			fault(json, start, "half of a surrogate pair is no character");
		high = 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff));
	}
	if (json->ok)
		write_character(out, high);
}

/* In the tree's arena, NUL-terminated. What no text of the language can hold is a fault here too. */
static struct span read_string(struct json *json)
{
	struct parser *parser = json->parser;
	size_t start;

	expect(json, '"', "a text in quotes belongs here");
	start = json->at;
	if (!parser->scratch)
		parser->scratch = arena_array(parser->tree->arena, char, CONF_WORD_MAX);
	if (!parser->scratch)
		no_memory(json);
	struct writer out = writer_of(parser->scratch, parser->scratch ? CONF_WORD_MAX : 0);
	while (json->ok && json->at < json->text.len && json->text.ptr[json->at] != '"') {
		if (json->text.ptr[json->at] == '\\')
			read_json_escape(json, &out);
		else if (json->text.ptr[json->at] == '\n')
			break;
		else
			write_byte(&out, json->text.ptr[json->at++]);
	}
	if (json->at < json->text.len && json->text.ptr[json->at] == '"')
		json->at++;
	else
		fault(json, start, "this quote is not closed on its line");
	if (!out.ok)
		fault(json, start, "a word that is too long");
	struct span text = writer_done(&out);
	for (size_t i = 0; json->ok && i < text.len; i++) {
		unsigned char byte = (unsigned char)text.ptr[i];

		if ((byte < 0x20 && byte != '\t' && byte != '\n') || byte == 0x7f)
			fault(json, start, "a control byte");
	}
	char *copy = json->ok ? arena_cstr(parser->tree->arena, text) : NULL;
	if (json->ok && !copy)
		no_memory(json);
	return copy ? span_of(copy, text.len) : SPAN("");
}

static void read_words(struct json *json)
{
	bool is_first = true;

	expect(json, '[', "`words` is a list of texts");
	while (json->ok && has_item(json, ']', &is_first)) {
		skip_blanks(json);
		struct conf_word word = { .place = place_at(json, json->at) };

		word.text = read_string(json);
		parser_push_word(json->parser, &word);
		json->ok &= !json->parser->is_out_of_memory;
	}
}

static void read_quoted_list(struct json *json, struct conf_word *words, size_t count)
{
	bool is_first = true;

	expect(json, '[', "`quoted` is a list of numbers");
	while (json->ok && has_item(json, ']', &is_first)) {
		size_t at = json->at, index = read_number(json);

		if (json->ok && index < count)
			words[index].is_quoted = true;
		else
			fault(json, at, "there is no such word (`words` stand first)");
	}
}

static uint32_t find_file(struct json *json, struct span name)
{
	struct conf_tree *tree = json->parser->tree;
	uint32_t file = 0;

	/* Statements of one file stand together. */
	for (size_t i = tree->file_count; i-- > 1;) {
		if (span_equal(tree->files[i].name, name))
			return (uint32_t)i;
	}
	if (tree->file_count == CONF_FILES_MAX)
		fault(json, json->at, "too many files");
	else if (!parser_add_file(json->parser, name, SPAN(""), (struct conf_place){ 0 }, &file))
		no_memory(json);
	return file;
}

static void read_statements(struct json *json, struct conf_statement *parent, size_t depth,
			    struct conf_statement **tail);

/* The words that were read become the statement's. */
static void take_words(struct json *json, struct conf_statement *statement)
{
	struct parser *parser = json->parser;
	struct conf_word *words =
		arena_array(parser->tree->arena, struct conf_word, parser->word_count + 1);

	if (!words) {
		no_memory(json);
		return;
	}
	for (size_t i = 0; i < parser->word_count; i++)
		words[i] = parser->words[i];
	statement->words = words;
	statement->word_count = parser->word_count;
	parser->word_count = 0;
	if (!statement->word_count)
		fault(json, json->at, "a statement has at least one word");
}

static void read_member(struct json *json, struct conf_statement *statement, size_t depth,
			struct conf_place *origin)
{
	size_t at = json->at;
	struct span name = read_string(json);

	expect(json, ':', "a `:` belongs here");
	if (!json->ok)
		return;
	if (span_equal(name, SPAN("words")) && !statement->words) {
		read_words(json);
		if (json->ok)
			take_words(json, statement);
	} else if (span_equal(name, SPAN("quoted"))) {
		/* They are not read-only yet. */
		read_quoted_list(json, (struct conf_word *)(uintptr_t)statement->words, // NOLINT
				 statement->word_count);
	} else if (span_equal(name, SPAN("file"))) {
		struct span file = read_string(json);

		origin->file = json->ok ? find_file(json, file) : 0;
	} else if (span_equal(name, SPAN("line"))) {
		origin->line = (uint32_t)read_number(json);
	} else if (span_equal(name, SPAN("block")) && !statement->has_block) {
		statement->has_block = true;
		if (depth == CONF_BLOCK_DEPTH_MAX)
			fault(json, at, "blocks that are too deep");
		else
			read_statements(json, statement, depth + 1, &statement->first);
	} else {
		fault(json, at, "a statement has `words`, `quoted`, `file`, `line` and `block`");
	}
}

static void read_statement(struct json *json, struct conf_statement *statement, size_t depth)
{
	struct conf_place here = place_at(json, json->at), origin = { .column = 1 };
	bool is_first = true;

	expect(json, '{', "a statement is an object");
	while (json->ok && has_item(json, '}', &is_first)) {
		skip_blanks(json);
		read_member(json, statement, depth, &origin);
	}
	if (json->ok && !statement->word_count)
		fault(json, here.offset, "a statement has at least one word");
	if (!json->ok)
		return;
	statement->place = statement->block_end = origin.file && origin.line ? origin : here;
	struct conf_word *words = (struct conf_word *)(uintptr_t)statement->words; // NOLINT
	for (size_t i = 0; origin.file && origin.line && i < statement->word_count; i++)
		words[i].place = origin;
	if (span_equal(words[0].text, SPAN("portcullis")) ||
	    (span_equal(words[0].text, SPAN("include")) && !words[0].is_quoted))
		fault(json, here.offset, "`include` and `portcullis` are no statements of JSON");
}

static void read_statements(struct json *json, struct conf_statement *parent, size_t depth,
			    struct conf_statement **tail)
{
	bool is_first = true;

	expect(json, '[', "a list of statements belongs here");
	while (json->ok && has_item(json, ']', &is_first)) {
		struct conf_statement *statement =
			arena_new(json->parser->tree->arena, struct conf_statement);

		if (!statement) {
			no_memory(json);
			return;
		}
		skip_blanks(json);
		statement->parent = parent;
		read_statement(json, statement, depth);
		*tail = statement;
		tail = &statement->next;
	}
}

static void read_top(struct json *json)
{
	struct conf_tree *tree = json->parser->tree;
	bool is_first = true, has_statements = false;

	expect(json, '{', "a configuration is an object");
	while (json->ok && has_item(json, '}', &is_first)) {
		skip_blanks(json);
		size_t at = json->at;
		struct span name = read_string(json);

		expect(json, ':', "a `:` belongs here");
		if (span_equal(name, SPAN("portcullis"))) {
			tree->version = read_number(json);
		} else if (span_equal(name, SPAN("statements")) && !has_statements) {
			has_statements = true;
			read_statements(json, NULL, 0, &tree->first);
		} else {
			fault(json, at, "a configuration has `portcullis` and `statements`");
		}
	}
	if (tree->version != CONF_VERSION)
		fault(json, 0, "`portcullis` is the version of the language: 1");
	if (peek(json))
		fault(json, json->at, "something stands behind the configuration");
}

bool conf_is_json(struct span text)
{
	struct json json = { .text = text, .ok = true };

	/* No text of the language begins with a brace. */
	return peek(&json) == '{';
}

int conf_parse_json(struct arena *arena, struct span name, struct span text,
		    const struct conf_functions *functions, struct conf_errors *errors,
		    struct conf_tree **ret_tree)
{
	struct conf_tree *tree = arena_new(arena, struct conf_tree);
	struct parser parser = { .tree = tree, .errors = errors };
	struct json json = { .parser = &parser, .text = text, .ok = true };
	struct conf_functions *copy;
	uint32_t file;

	if (!tree)
		return -ENOMEM;
	tree->arena = arena;
	if (functions) {
		copy = arena_new(arena, struct conf_functions);
		if (!copy)
			return -ENOMEM;
		*copy = *functions;
		tree->functions = copy;
	}
	json.text = arena_copy(arena, text);
	if (!json.text.ptr && text.len)
		return -ENOMEM;
	if (!parser_add_file(&parser, name, json.text, (struct conf_place){ 0 }, &file))
		return -ENOMEM;
	*ret_tree = tree;
	read_top(&json);
	if (parser.is_out_of_memory)
		return -ENOMEM;
	return json.ok ? 0 : CONF_FAULTY;
}
