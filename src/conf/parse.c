/* parse: words to statements, blocks and included files. */
#include "conf/conf_internal.h"

#include <string.h>

/* The blocks that are open in one file. An included file cannot close a block of its includer. */
struct nesting {
	struct conf_statement *open[CONF_BLOCK_DEPTH_MAX];
	struct conf_statement **tails[CONF_BLOCK_DEPTH_MAX + 1];
	size_t depth;
	size_t outer_depth; /* blocks around the include */
	struct conf_statement *outer;
};

static void parse_file(struct parser *parser, uint32_t file, struct conf_statement *outer,
		       struct conf_statement ***tail, size_t outer_depth);

struct span conf_folder_of(struct span name)
{
	for (size_t len = name.len; len > 0; len--) {
		if (name.ptr[len - 1] == '/')
			return span_first(name, len);
	}
	return SPAN_NONE;
}

struct span conf_join(struct arena *arena, struct span folder, struct span path)
{
	while (span_starts_with(path, SPAN("./")) && path.len > 2)
		path = span_skip(path, 2);
	if (span_starts_with(path, SPAN("/")))
		folder = SPAN_NONE;
	char *joined = arena_array(arena, char, folder.len + path.len + 1);
	if (!joined)
		return SPAN_NONE;
	struct writer writer = writer_of(joined, folder.len + path.len + 1);
	write_span(&writer, folder);
	write_span(&writer, path);
	return writer_done(&writer);
}

static struct span keep(struct parser *parser, struct span text)
{
	char *copy = arena_cstr(parser->tree->arena, text);

	if (!copy)
		parser->is_out_of_memory = true;
	return copy ? span_of(copy, text.len) : SPAN("");
}

static void ask(struct parser *parser, struct conf_answer *answer)
{
	const struct conf_functions *functions = parser->functions;
	const struct span *names = NULL;
	struct span value = SPAN_NONE;
	size_t count = 0;

	switch (answer->kind) {
	case CONF_ANSWER_FILE:
		answer->result = -ENOENT;
		if (functions && functions->read)
			answer->result = functions->read(functions->owner, answer->name, &value,
							 &answer->identity);
		break;
	case CONF_ANSWER_LIST:
		if (functions && functions->list)
			answer->result =
				functions->list(functions->owner, answer->name, &names, &count);
		break;
	case CONF_ANSWER_ENVIRONMENT:
		answer->result = -ENOENT;
		if (functions && functions->environment &&
		    functions->environment(functions->owner, answer->name, &value))
			answer->result = 0;
		break;
	}
	if (answer->result)
		return;
	parser->text_total += value.len;
	if (parser->text_total > CONF_TEXT_MAX) {
		answer->result = -EFBIG;
		return;
	}
	answer->value = keep(parser, value);
	if (!count)
		return;
	struct span *copies = arena_array(parser->tree->arena, struct span, count);
	if (!copies) {
		parser->is_out_of_memory = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		copies[i] = keep(parser, names[i]);
	answer->names = copies;
	answer->name_count = count;
}

/* Each question is asked once: a variable or file that changes while we read must not mean two
 * things. */
struct conf_answer *parser_answer(struct parser *parser, enum conf_answer_kind kind,
				  struct span name)
{
	for (struct conf_answer *old = parser->tree->answers; old; old = old->next) {
		if (old->kind == kind && span_equal(old->name, name))
			return old;
	}
	struct conf_answer *answer = arena_new(parser->tree->arena, struct conf_answer);
	if (!answer) {
		parser->is_out_of_memory = true;
		return NULL;
	}
	answer->kind = kind;
	answer->name = keep(parser, name);
	ask(parser, answer);
	*parser->answers_tail = answer;
	parser->answers_tail = &answer->next;
	return parser->is_out_of_memory ? NULL : answer;
}

bool parser_add_file(struct parser *parser, struct span name, struct span text,
		     struct conf_place included_at, uint32_t *ret_file)
{
	struct conf_tree *tree = parser->tree;

	if (tree->file_count == parser->file_capacity) {
		size_t capacity = parser->file_capacity ? parser->file_capacity * 2 : 4;
		struct conf_file *files = arena_array(tree->arena, struct conf_file, capacity);
		if (!files) {
			parser->is_out_of_memory = true;
			return false;
		}
		if (tree->file_count)
			memcpy(files, tree->files, tree->file_count * sizeof(*files));
		tree->files = files;
		parser->file_capacity = capacity;
	}
	if (span_starts_with(text, SPAN("\xef\xbb\xbf")))
		text = span_skip(text, 3);
	*ret_file = (uint32_t)tree->file_count++;
	tree->files[*ret_file] = (struct conf_file){ name, text, included_at };
	return true;
}

static void include_one(struct parser *parser, struct conf_statement *parent,
			struct conf_statement ***tail, size_t block_depth, struct conf_place place,
			struct span path)
{
	struct conf_errors *errors = parser->errors;
	struct conf_answer *answer = parser_answer(parser, CONF_ANSWER_FILE, path);
	uint32_t file;

	if (!answer)
		return;
	if (answer->result == -EFBIG) {
		conf_error_add(errors, place, "more than %d MB of configuration",
			       CONF_TEXT_MAX >> 20);
		return;
	}
	if (answer->result) {
		conf_error_add(errors, place, "cannot read %.*s: %s", SPAN_ARG(path),
			       strerror(-answer->result));
		return;
	}
	for (size_t i = 0; i <= parser->include_depth; i++) {
		struct conf_file *open = &parser->tree->files[parser->include_files[i]];
		bool is_same =
			answer->identity && answer->identity == parser->include_identities[i];

		if (!is_same && !span_equal(open->name, path))
			continue;
		conf_error_add(errors, place, "%.*s includes itself", SPAN_ARG(path));
		return;
	}
	if (parser->include_depth == CONF_INCLUDE_DEPTH_MAX) {
		conf_error_add(errors, place, "includes deeper than %d", CONF_INCLUDE_DEPTH_MAX);
		return;
	}
	if (parser->tree->file_count == CONF_FILES_MAX) {
		conf_error_add(errors, place, "more than %d files", CONF_FILES_MAX);
		return;
	}
	if (!parser_add_file(parser, answer->name, answer->value, place, &file))
		return;
	parser->include_depth++;
	parser->include_files[parser->include_depth] = file;
	parser->include_identities[parser->include_depth] = answer->identity;
	parse_file(parser, file, parent, tail, block_depth);
	parser->include_depth--;
}

static void include(struct parser *parser, struct nesting *nesting, const struct conf_word *words,
		    size_t word_count)
{
	struct conf_statement *parent =
		nesting->depth ? nesting->open[nesting->depth - 1] : nesting->outer;
	struct conf_statement ***tail = &nesting->tails[nesting->depth];
	size_t block_depth = nesting->outer_depth + nesting->depth;
	struct conf_place place = words[word_count > 1 ? 1 : 0].place;

	if (word_count != 2 || !words[1].text.len) {
		conf_error_add(parser->errors, words[0].place,
			       "write `include FILE`: one name or glob");
		return;
	}
	struct span folder = conf_folder_of(parser->tree->files[place.file].name);
	struct span path = conf_join(parser->tree->arena, folder, words[1].text);
	if (!path.ptr) {
		parser->is_out_of_memory = true;
		return;
	}
	if (span_find_byte(path, '*') == path.len && span_find_byte(path, '?') == path.len &&
	    span_find_byte(path, '[') == path.len) {
		include_one(parser, parent, tail, block_depth, place, path);
		return;
	}
	struct conf_answer *answer = parser_answer(parser, CONF_ANSWER_LIST, path);
	if (answer && answer->result)
		conf_error_add(parser->errors, place, "cannot list %.*s: %s", SPAN_ARG(path),
			       strerror(-answer->result));
	for (size_t i = 0; answer && i < answer->name_count && !parser->is_out_of_memory; i++)
		include_one(parser, parent, tail, block_depth, place, answer->names[i]);
}

/* The first statement of the first file. True: it was (meant as) the version and is used up. */
static bool read_version(struct parser *parser, const struct conf_word *words, size_t word_count)
{
	bool is_first = !parser->has_version && parser->include_depth == 0;
	struct conf_nearest nearest;

	if (span_equal(words[0].text, SPAN("portcullis")) && !is_first) {
		conf_error_add(parser->errors, words[0].place,
			       "`portcullis %d` stands once, on the first line of the first file",
			       CONF_VERSION);
		return true;
	}
	if (!is_first)
		return false;
	parser->has_version = true;
	if (span_equal(words[0].text, SPAN("portcullis"))) {
		if (word_count != 2 ||
		    !parse_u64(words[1].text, UINT64_MAX, &parser->tree->version))
			conf_error_add(parser->errors, words[word_count > 1 ? 1 : 0].place,
				       "the first line is `portcullis %d`", CONF_VERSION);
		else if (parser->tree->version != CONF_VERSION)
			conf_error_add(parser->errors, words[1].place,
				       "this program knows version %d of the language",
				       CONF_VERSION);
		return true;
	}
	conf_nearest_init(&nearest, words[0].text);
	conf_nearest_offer(&nearest, SPAN("portcullis"));
	struct conf_error *error = conf_error_add(
		parser->errors, words[0].place,
		"the first line names the language's version: `portcullis %d`", CONF_VERSION);
	error->nearest = nearest.best;
	return nearest.best.len > 0;
}

/* Makes a statement of the words that were read. NULL: there is none, or it was one of ours. */
static struct conf_statement *finish_statement(struct parser *parser, struct nesting *nesting,
					       bool has_block)
{
	size_t count = parser->word_count;
	struct conf_tree *tree = parser->tree;

	if (!count || parser->is_out_of_memory)
		return NULL;
	parser->word_count = 0;
	struct conf_word *words = arena_array(tree->arena, struct conf_word, count);
	struct conf_statement *statement = arena_new(tree->arena, struct conf_statement);
	if (!words || !statement) {
		parser->is_out_of_memory = true;
		return NULL;
	}
	memcpy(words, parser->words, count * sizeof(*words));
	statement->words = words;
	statement->word_count = count;
	statement->place = words[0].place;
	statement->has_block = has_block;
	if (read_version(parser, words, count))
		return has_block ? statement : NULL;
	if (span_equal(words[0].text, SPAN("include")) && !words[0].is_quoted) {
		if (has_block)
			conf_error_add(parser->errors, words[0].place, "`include` takes no block");
		else
			include(parser, nesting, words, count);
		return has_block ? statement : NULL;
	}
	statement->parent = nesting->depth ? nesting->open[nesting->depth - 1] : nesting->outer;
	*nesting->tails[nesting->depth] = statement;
	nesting->tails[nesting->depth] = &statement->next;
	return statement;
}

static bool open_block(struct parser *parser, struct nesting *nesting, struct conf_place place)
{
	struct conf_statement *statement = NULL;

	if (parser->word_count) {
		statement = finish_statement(parser, nesting, true);
	} else {
		conf_error_add(parser->errors, place,
			       "`{` stands on the line of its statement, after its words");
		/* What it holds is read for its own faults and then left out. */
		statement = arena_new(parser->tree->arena, struct conf_statement);
		parser->is_out_of_memory |= !statement;
	}
	if (!statement)
		return false;
	if (nesting->outer_depth + nesting->depth == CONF_BLOCK_DEPTH_MAX) {
		conf_error_add(parser->errors, place, "blocks deeper than %d",
			       CONF_BLOCK_DEPTH_MAX);
		return false;
	}
	statement->block_end = place;
	nesting->open[nesting->depth++] = statement;
	nesting->tails[nesting->depth] = &statement->first;
	return true;
}

void parser_push_word(struct parser *parser, const struct conf_word *word)
{
	if (parser->word_count == parser->word_capacity) {
		size_t capacity = parser->word_capacity ? parser->word_capacity * 2 : 16;
		struct conf_word *words =
			arena_array(parser->tree->arena, struct conf_word, capacity);
		if (!words) {
			parser->is_out_of_memory = true;
			return;
		}
		if (parser->word_count)
			memcpy(words, parser->words, parser->word_count * sizeof(*words));
		parser->words = words;
		parser->word_capacity = capacity;
	}
	parser->words[parser->word_count++] = *word;
}

static void parse_statements(struct lexer *lexer, struct nesting *nesting)
{
	struct parser *parser = lexer->parser;
	struct conf_word word;

	for (;;) {
		switch (lexer_next(lexer, &word)) {
		case TOKEN_WORD:
			parser_push_word(parser, &word);
			break;
		case TOKEN_END:
			(void)finish_statement(parser, nesting, false);
			break;
		case TOKEN_OPEN:
			if (!open_block(parser, nesting, word.place))
				return;
			break;
		case TOKEN_CLOSE:
			(void)finish_statement(parser, nesting, false);
			if (!nesting->depth) {
				conf_error_add(parser->errors, word.place, "`}` closes nothing");
				return;
			}
			nesting->open[--nesting->depth]->block_end = word.place;
			break;
		case TOKEN_EOF:
			(void)finish_statement(parser, nesting, false);
			if (nesting->depth && !parser->is_out_of_memory)
				conf_error_add(parser->errors,
					       nesting->open[nesting->depth - 1]->block_end,
					       "this block is never closed: a `}` is missing");
			return;
		}
		if (parser->is_out_of_memory)
			return;
	}
}

static void parse_file(struct parser *parser, uint32_t file, struct conf_statement *outer,
		       struct conf_statement ***tail, size_t outer_depth)
{
	struct nesting nesting = { .outer_depth = outer_depth, .outer = outer };
	struct lexer lexer;

	nesting.tails[0] = *tail;
	lexer_init(&lexer, parser, file);
	if (lexer_accepts(&lexer))
		parse_statements(&lexer, &nesting);
	parser->word_count = 0;
	*tail = nesting.tails[0];
}

int conf_parse(struct arena *arena, struct span name, struct span text,
	       const struct conf_functions *functions, struct conf_errors *errors,
	       struct conf_tree **ret_tree)
{
	struct conf_tree *tree = arena_new(arena, struct conf_tree);
	struct parser parser = { .tree = tree, .functions = functions, .errors = errors };
	size_t errors_before = errors->error_count;
	uint32_t file;

	if (!tree)
		return -ENOMEM;
	tree->arena = arena;
	if (functions) {
		struct conf_functions *copy = arena_new(arena, struct conf_functions);

		if (!copy)
			return -ENOMEM;
		*copy = *functions;
		tree->functions = copy;
	}
	parser.comments_tail = &tree->comments;
	parser.answers_tail = &tree->answers;
	parser.text_total = text.len;
	struct span kept = text.len > CONF_TEXT_MAX ? SPAN("") : keep(&parser, text);
	if (!parser_add_file(&parser, keep(&parser, name), kept, (struct conf_place){ 0 }, &file))
		return -ENOMEM;
	struct conf_statement **tail = &tree->first;
	struct conf_place start = { .file = file, .line = 1, .column = 1 };
	if (text.len > CONF_TEXT_MAX) {
		conf_error_add(errors, start, "more than %d MB of configuration",
			       CONF_TEXT_MAX >> 20);
	} else {
		parse_file(&parser, file, NULL, &tail, 0);
		if (!parser.has_version && errors->error_count == errors_before)
			conf_error_add(
				errors, start,
				"the first line names the language's version: `portcullis %d`",
				CONF_VERSION);
	}
	if (parser.is_out_of_memory)
		return -ENOMEM;
	*ret_tree = tree;
	return errors->error_count > errors_before ? CONF_FAULTY : 0;
}
