/* check: statements against the rows of a schema. */
#include "conf/conf_internal.h"

#include <string.h>

struct checker {
	struct conf_tree *tree;
	const struct conf_language *language;
	struct conf_errors *errors;
	bool is_out_of_memory;
};

/* ---- Rows ------------------------------------------------------------------------------------ */

static bool stands_in(const struct conf_schema *row, struct span block)
{
	struct span rest = span_str(row->inside), name;

	/* An empty name in the list is the top: ",site" stands there and in sites. */
	while (span_cut(&rest, ',', &name)) {
		if (span_equal(name, block))
			return true;
	}
	return false;
}

static struct span first_word(const struct conf_schema *row)
{
	struct span name = span_str(row->name);

	return span_first(name, span_find_byte(name, ' '));
}

static struct span second_word(const struct conf_schema *row)
{
	struct span name = span_str(row->name);

	return span_skip(name, span_find_byte(name, ' ') + 1);
}

/* Walks all rows of all tables; *cursor starts at 0. */
static const struct conf_schema *next_row(const struct conf_language *language, size_t *cursor)
{
	size_t index = (*cursor)++;

	for (size_t i = 0; i < language->table_count; i++) {
		if (index < language->counts[i])
			return &language->tables[i][index];
		index -= language->counts[i];
	}
	return NULL;
}

const struct conf_schema *conf_schema_find(const struct conf_language *language, const char *name,
					   const char *inside)
{
	size_t cursor = 0;
	const struct conf_schema *row;

	while ((row = next_row(language, &cursor))) {
		if (strcmp(row->name, name) == 0 && stands_in(row, span_str(inside)))
			return row;
	}
	return NULL;
}

static const struct conf_schema *find_row(const struct checker *checker,
					  const struct conf_statement *statement, struct span block)
{
	size_t cursor = 0;
	const struct conf_schema *row;

	while ((row = next_row(checker->language, &cursor))) {
		struct span second = second_word(row);

		if (!stands_in(row, block) ||
		    !span_equal(first_word(row), statement->words[0].text))
			continue;
		if (!second.len)
			return row;
		if (statement->word_count > 1 && span_equal(second, statement->words[1].text))
			return row;
	}
	return NULL;
}

/* For that very place first. `may_be_anywhere`: a statement begins there. */
static const char *find_hint(const struct checker *checker, struct span word, struct span inside,
			     bool may_be_anywhere)
{
	const struct conf_language *language = checker->language;
	const char *anywhere = NULL;

	for (size_t i = 0; i < language->hint_count; i++) {
		struct span hint = span_str(language->hints[i].word);
		size_t blank = span_find_byte(hint, ' ');

		if (blank == hint.len && span_equal_nocase(hint, word))
			anywhere = language->hints[i].says;
		else if (blank < hint.len && span_equal(span_first(hint, blank), inside) &&
			 span_equal_nocase(span_skip(hint, blank + 1), word))
			return language->hints[i].says;
	}
	return may_be_anywhere ? anywhere : NULL;
}

/* A word that stands behind the row's name. */
static const char *find_word_hint(const struct checker *checker, struct span word,
				  const struct conf_schema *row)
{
	return find_hint(checker, word, span_str(row->name), false);
}

/* The first word is right, the second is not: which ones there are. */
static void report_second(struct checker *checker, const struct conf_statement *statement,
			  struct span block)
{
	bool has_second = statement->word_count > 1;
	const struct conf_word *word = &statement->words[has_second ? 1 : 0];
	const char *hint =
		has_second ? find_hint(checker, word->text, statement->words[0].text, false) : NULL;
	struct span first = statement->words[0].text, last = SPAN_NONE;
	struct conf_nearest nearest;
	const struct conf_schema *row;
	size_t cursor = 0;
	char text[256];
	struct writer known = writer_of(text, sizeof(text));

	conf_nearest_init(&nearest, has_second ? word->text : SPAN_NONE);
	while ((row = next_row(checker->language, &cursor))) {
		if (!stands_in(row, block) || !span_equal(first_word(row), first))
			continue;
		write_format(&known, "%s`%.*s %.*s`", last.len ? " or " : "", SPAN_ARG(first),
			     SPAN_ARG(second_word(row)));
		last = second_word(row);
		conf_nearest_offer(&nearest, last);
	}
	if (hint)
		conf_error_add(checker->errors, word->place, "`%.*s` knows no `%.*s`: %s",
			       SPAN_ARG(first), SPAN_ARG(span_first(word->text, 64)), hint);
	else if (has_second)
		conf_error_add(checker->errors, word->place, "`%.*s` knows no `%.*s`: write %.*s",
			       SPAN_ARG(first), SPAN_ARG(span_first(word->text, 64)),
			       SPAN_ARG(writer_done(&known)))
			->nearest = nearest.best;
	else
		conf_error_add(checker->errors, word->place,
			       "`%.*s` needs one more word: write %.*s", SPAN_ARG(first),
			       SPAN_ARG(writer_done(&known)))
			->nearest = last;
}

/* No row fits: say the most useful of five things. */
static void report_unknown(struct checker *checker, const struct conf_statement *statement,
			   struct span block)
{
	const struct conf_word *word = &statement->words[0];
	const char *hint = find_hint(checker, word->text, block, true);
	struct conf_nearest first, anywhere;
	const struct conf_schema *row, *partial = NULL, *elsewhere = NULL;
	size_t cursor = 0;

	conf_nearest_init(&first, word->text);
	conf_nearest_init(&anywhere, word->text);
	while ((row = next_row(checker->language, &cursor))) {
		bool is_here = stands_in(row, block),
		     is_same = span_equal(first_word(row), word->text);

		conf_nearest_offer(is_here ? &first : &anywhere, first_word(row));
		if (is_here && is_same)
			partial = row;
		else if (is_same)
			elsewhere = row;
	}
	if (partial) {
		report_second(checker, statement, block);
	} else if (hint) {
		conf_error_add(checker->errors, word->place, "unknown statement `%.*s`: %s",
			       SPAN_ARG(word->text), hint);
	} else if (elsewhere && elsewhere->inside[0]) {
		struct span inside = span_str(elsewhere->inside), name = SPAN_NONE;
		(void)conf_list_next(&inside, ',', &name);
		conf_error_add(checker->errors, word->place, "`%.*s` stands in a `%.*s` block",
			       SPAN_ARG(word->text), SPAN_ARG(name));
	} else if (elsewhere) {
		conf_error_add(checker->errors, word->place, "`%.*s` stands outside of all blocks",
			       SPAN_ARG(word->text));
	} else {
		struct span nearest = first.best.len ? first.best : anywhere.best;

		if (statement->has_block && !nearest.len)
			hint = find_hint(checker, SPAN("{"), block, false);
		conf_error_add(checker->errors, word->place, "unknown statement `%.*s`%s%s",
			       SPAN_ARG(span_first(word->text, 64)), hint ? ": " : "",
			       hint ? hint : "")
			->nearest = nearest;
	}
}

/* ---- Arguments and options ------------------------------------------------------------------- */

struct words {
	struct checker *checker;
	const struct conf_schema *row;
	const struct conf_statement *statement;
	size_t at;
	struct conf_value *values;
	size_t value_count;
	bool is_faulty;
};

static const struct conf_option *find_option(const struct conf_schema *row, struct span name)
{
	for (size_t i = 0; i < CONF_OPTIONS_MAX && row->options[i].name; i++) {
		if (span_equal(span_str(row->options[i].name), name))
			return &row->options[i];
	}
	return NULL;
}

static bool at_option(const struct words *words)
{
	const struct conf_word *word = &words->statement->words[words->at];

	return !word->is_quoted && find_option(words->row, word->text);
}

static struct span row_form(const struct words *words)
{
	static const size_t size = 512;
	char *form = arena_array(words->checker->tree->arena, char, size);

	if (!form)
		return SPAN("");
	struct writer writer = writer_of(form, size);
	conf_schema_write_form(words->row, &writer);
	return writer_done(&writer);
}

static void report_value(struct words *words, const struct conf_argument *argument,
			 const struct conf_word *word, const char *reason)
{
	const char *hint = find_word_hint(words->checker, word->text, words->row);
	struct conf_error *error = conf_error_add(
		words->checker->errors, word->place, "`%.*s` is no %s: %s",
		SPAN_ARG(span_first(word->text, 64)), argument->name, hint ? hint : reason);
	struct conf_nearest nearest;

	words->is_faulty = true;
	conf_nearest_init(&nearest, word->text);
	if (argument->type == CONF_CHOICE) {
		struct span rest = span_str(argument->choices), choice;
		while (conf_list_next(&rest, ' ', &choice))
			conf_nearest_offer(&nearest, choice);
	}
	/* A misspelt option is often taken for one more argument. */
	for (size_t i = 0; i < CONF_OPTIONS_MAX && words->row->options[i].name; i++)
		conf_nearest_offer(&nearest, span_str(words->row->options[i].name));
	error->nearest = nearest.best;
}

static void take_content(struct words *words, struct conf_value *value)
{
	struct checker *checker = words->checker;
	int result = conf_content_read(checker->tree, checker->errors, value);

	checker->is_out_of_memory |= result < 0;
	words->is_faulty |= result != 0;
}

static void take_value(struct words *words, const struct conf_argument *argument)
{
	struct checker *checker = words->checker;
	const struct conf_word *word = &words->statement->words[words->at++];
	struct span folder = conf_folder_of(checker->tree->files[word->place.file].name);
	struct conf_value *value = &words->values[words->value_count];
	const char *reason = "";
	int result = conf_value_parse(checker->tree->arena, argument, folder, word->text, value,
				      &reason);

	if (result < 0) {
		checker->is_out_of_memory = true;
		words->is_faulty = true;
	} else if (result) {
		report_value(words, argument, word, reason);
	} else {
		value->word = word;
		words->value_count++;
		if (argument->type == CONF_CONTENT)
			take_content(words, value);
	}
}

static void report_missing(struct words *words, const struct conf_argument *argument)
{
	const struct conf_statement *statement = words->statement;
	size_t index = words->at < statement->word_count ? words->at : statement->word_count - 1;

	words->is_faulty = true;
	conf_error_add(words->checker->errors, statement->words[index].place,
		       "%s is missing: write `%.*s`", argument->name, SPAN_ARG(row_form(words)));
}

static size_t count_behind(const struct conf_argument *argument, size_t max)
{
	size_t count = 0;

	while (count + 1 < max && argument[count + 1].type != CONF_NO_TYPE)
		count++;
	return count;
}

static void take_arguments(struct words *words, const struct conf_argument *arguments, size_t max)
{
	size_t word_count = words->statement->word_count;

	for (size_t i = 0; i < max && arguments[i].type != CONF_NO_TYPE; i++) {
		bool is_end = words->at == word_count;

		if (is_end ||
		    ((arguments[i].is_optional || arguments[i].is_repeated) && at_option(words))) {
			if (!arguments[i].is_optional)
				report_missing(words, &arguments[i]);
			return;
		}
		take_value(words, &arguments[i]);
		while (arguments[i].is_repeated &&
		       words->at + count_behind(&arguments[i], max - i) < word_count &&
		       !at_option(words))
			take_value(words, &arguments[i]);
	}
}

static struct span nearest_option(const struct words *words, const struct conf_word *word)
{
	struct conf_nearest nearest;

	conf_nearest_init(&nearest, word->text);
	for (size_t i = 0; i < CONF_OPTIONS_MAX && words->row->options[i].name; i++)
		conf_nearest_offer(&nearest, span_str(words->row->options[i].name));
	return nearest.best;
}

static void report_surplus(struct words *words, const struct conf_word *word)
{
	struct span nearest = nearest_option(words, word);
	size_t name_words = second_word(words->row).len ? 2 : 1;

	words->is_faulty = true;
	/* `respond 200 onn /x`: an optional argument swallowed the misspelt option, and its value
	 * is left over. */
	if (!nearest.len && words->at > name_words && !word[-1].is_quoted &&
	    !find_option(words->row, word[-1].text)) {
		nearest = nearest_option(words, &word[-1]);
		word -= nearest.len ? 1 : 0;
	}
	const char *hint = find_word_hint(words->checker, word->text, words->row);
	struct conf_error *error =
		hint ? conf_error_add(words->checker->errors, word->place,
				      "`%.*s` does not belong here: %s",
				      SPAN_ARG(span_first(word->text, 64)), hint)
		     : conf_error_add(words->checker->errors, word->place,
				      "`%.*s` does not belong here: write `%.*s`",
				      SPAN_ARG(span_first(word->text, 64)),
				      SPAN_ARG(row_form(words)));
	error->nearest = hint ? SPAN_NONE : nearest;
}

static void take_option(struct words *words, struct conf_given *options, size_t *option_count)
{
	const struct conf_word *word = &words->statement->words[words->at];
	const struct conf_option *option =
		word->is_quoted ? NULL : find_option(words->row, word->text);

	if (!option) {
		report_surplus(words, word);
		/* One fault a statement is enough: what follows belongs to the surplus word. */
		words->at = words->statement->word_count;
		return;
	}
	for (size_t i = 0; i < *option_count; i++) {
		if (options[i].option != option || option->is_repeated)
			continue;
		words->is_faulty = true;
		conf_error_add(words->checker->errors, word->place,
			       "`%s` stands twice in this line", option->name)
			->other = options[i].word->place;
	}
	struct conf_given *given = &options[(*option_count)++];
	given->option = option;
	given->word = word;
	given->values = words->values + words->value_count;
	words->at++;
	size_t before = words->value_count;
	take_arguments(words, option->arguments, ARRAY_LEN(option->arguments));
	given->value_count = words->value_count - before;
}

static void check_words(struct checker *checker, struct conf_statement *statement,
			const struct conf_schema *row)
{
	struct arena *arena = checker->tree->arena;
	struct words words = { .checker = checker, .row = row, .statement = statement };
	struct conf_given *options = arena_array(arena, struct conf_given, statement->word_count);
	size_t option_count = 0;

	words.values = arena_array(arena, struct conf_value, statement->word_count);
	if (!options || !words.values) {
		checker->is_out_of_memory = true;
		return;
	}
	words.at = second_word(row).len ? 2 : 1;
	take_arguments(&words, row->arguments, CONF_ARGUMENTS_MAX);
	statement->arguments = words.values;
	statement->argument_count = words.value_count;
	while (words.at < statement->word_count && !words.is_faulty)
		take_option(&words, options, &option_count);
	statement->options = options;
	statement->option_count = option_count;
	if (!words.is_faulty)
		statement->row = row;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

static void check_block(struct checker *checker, struct conf_statement **first, struct span block);

/* All words of a block in order, however its lines were broken. NULL: a fault, or no memory. */
static struct conf_word *flatten(struct checker *checker, const struct conf_statement *statement,
				 size_t *ret_count)
{
	size_t count = 0, at = 0;

	for (const struct conf_statement *line = statement->first; line; line = line->next) {
		count += line->word_count;
		if (line->has_block) {
			conf_error_add(checker->errors, line->place, "`%s` holds words, no blocks",
				       statement->row ? statement->row->name : "");
			return NULL;
		}
	}
	struct conf_word *words = arena_array(checker->tree->arena, struct conf_word, count + 1);
	if (!words) {
		checker->is_out_of_memory = true;
		return NULL;
	}
	for (const struct conf_statement *line = statement->first; line; line = line->next) {
		memcpy(words + at, line->words, line->word_count * sizeof(*words));
		at += line->word_count;
	}
	*ret_count = count;
	return words;
}

static void check_pairs(struct checker *checker, struct conf_statement *statement)
{
	struct conf_statement *first = NULL, **tail = &first;
	size_t count = 0;
	struct conf_word *words = flatten(checker, statement, &count);

	if (!words)
		return;
	for (size_t i = 0; i < count; i += 2) {
		struct conf_statement *pair =
			arena_new(checker->tree->arena, struct conf_statement);
		if (!pair) {
			checker->is_out_of_memory = true;
			return;
		}
		pair->words = words + i;
		pair->word_count = i + 1 < count ? 2 : 1;
		pair->place = words[i].place;
		pair->parent = statement;
		*tail = pair;
		tail = &pair->next;
	}
	statement->first = first;
	check_block(checker, &statement->first, statement->words[0].text);
}

/* The block's words, and behind them those of the files that the statement names. NULL: a fault, or no memory. */
static const struct conf_word *join_files(struct checker *checker,
					  const struct conf_statement *statement,
					  const struct conf_word *words, size_t *count)
{
	for (size_t i = 0; i < statement->option_count; i++) {
		const struct conf_given *given = &statement->options[i];
		const struct conf_word *more;
		struct conf_word *joined;
		size_t more_count;
		int result;

		if (!given->value_count || given->values[0].type != CONF_WORDS)
			continue;
		result = conf_words_read(checker->tree, checker->errors, &given->values[0], &more,
					 &more_count);
		checker->is_out_of_memory |= result < 0;
		joined = result ? NULL
				: arena_array(checker->tree->arena, struct conf_word,
					      *count + more_count + 1);
		if (!joined) {
			checker->is_out_of_memory |= !result;
			return NULL;
		}
		memcpy(joined, words, *count * sizeof(*words));
		if (more_count)
			memcpy(joined + *count, more, more_count * sizeof(*more));
		words = joined;
		*count += more_count;
	}
	return words;
}

static void check_list(struct checker *checker, struct conf_statement *statement,
		       const struct conf_schema *row)
{
	struct conf_statement line = { .place = statement->place };
	struct words words = { .checker = checker, .row = row, .statement = &line };
	size_t count = 0;

	line.words = flatten(checker, statement, &count);
	if (line.words)
		line.words = join_files(checker, statement, line.words, &count);
	if (!line.words)
		return;
	if (count > CONF_LIST_MAX) {
		conf_error_add(checker->errors, line.words[CONF_LIST_MAX].place,
			       "`%s` holds more than %d words", row->name, CONF_LIST_MAX);
		return;
	}
	line.word_count = count;
	words.values = arena_array(checker->tree->arena, struct conf_value, count + 1);
	if (!words.values) {
		checker->is_out_of_memory = true;
		return;
	}
	while (words.at < count)
		take_value(&words, &row->list);
	statement->list = words.values;
	statement->list_count = words.value_count;
}

static void check_inside(struct checker *checker, struct conf_statement *statement,
			 const struct conf_schema *row)
{
	bool needs_block = row->block != CONF_BLOCK_NONE && row->block != CONF_BLOCK_OPTIONAL &&
			   row->block != CONF_BLOCK_LIST_OPTIONAL;

	if (needs_block && !statement->has_block) {
		conf_error_add(checker->errors, statement->place, "`%s` needs a block: `%s { … }`",
			       row->name, row->name);
		statement->row = NULL;
		return;
	}
	switch (row->block) {
	case CONF_BLOCK_NONE:
		if (!statement->has_block)
			break;
		conf_error_add(checker->errors, statement->place, "`%s` takes no block", row->name);
		statement->row = NULL;
		break;
	case CONF_BLOCK_OPTIONAL:
	case CONF_BLOCK_STATEMENTS:
		check_block(checker, &statement->first, span_str(row->name));
		break;
	case CONF_BLOCK_PAIRS:
		check_pairs(checker, statement);
		break;
	case CONF_BLOCK_LIST:
	case CONF_BLOCK_LIST_OPTIONAL:
		check_list(checker, statement, row);
		break;
	}
}

static void check_single(struct checker *checker, struct conf_statement *first,
			 struct conf_statement *statement, const struct conf_schema *row)
{
	for (struct conf_statement *earlier = first; earlier != statement;
	     earlier = earlier->next) {
		if (earlier->row != row)
			continue;
		conf_error_add(checker->errors, statement->place, "`%s` stands once here",
			       row->name)
			->other = earlier->place;
		/* Whoever compiles counts on one. */
		statement->row = NULL;
		return;
	}
}

static void check_block(struct checker *checker, struct conf_statement **first, struct span block)
{
	for (struct conf_statement *statement = *first; statement; statement = statement->next) {
		const struct conf_schema *row = find_row(checker, statement, block);

		if (checker->is_out_of_memory)
			return;
		if (!row) {
			report_unknown(checker, statement, block);
			continue;
		}
		check_words(checker, statement, row);
		if (row->is_single)
			check_single(checker, *first, statement, row);
		check_inside(checker, statement, row);
	}
}

int conf_check(struct conf_tree *tree, const struct conf_language *language,
	       struct conf_errors *errors)
{
	struct checker checker = { .tree = tree, .language = language, .errors = errors };
	size_t errors_before = errors->error_count;

	check_block(&checker, &tree->first, SPAN_NONE);
	if (checker.is_out_of_memory)
		return -ENOMEM;
	return errors->error_count > errors_before ? CONF_FAULTY : 0;
}

const struct conf_given *conf_option(const struct conf_statement *statement, const char *name)
{
	MUST(statement->row && find_option(statement->row, span_str(name)));
	for (size_t i = 0; i < statement->option_count; i++) {
		if (strcmp(statement->options[i].option->name, name) == 0)
			return &statement->options[i];
	}
	return NULL;
}

bool conf_is(const struct conf_statement *statement, const char *row_name)
{
	return statement->row && strcmp(statement->row->name, row_name) == 0;
}
