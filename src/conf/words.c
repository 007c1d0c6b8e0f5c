/* words: a file that holds nothing but words, as a list's block does: what others publish, one entry a line; and a
 * file whose bytes alone are wanted. */
#include "conf/conf_internal.h"

#include <string.h>

static void read_words(struct parser *parser, uint32_t file)
{
	struct conf_word word;
	struct lexer lexer;

	lexer_init(&lexer, parser, file);
	if (!lexer_accepts(&lexer))
		return;
	while (!parser->is_out_of_memory) {
		switch (lexer_next(&lexer, &word)) {
		case TOKEN_WORD:
			parser_push_word(parser, &word);
			break;
		case TOKEN_END:
			break;
		case TOKEN_OPEN:
		case TOKEN_CLOSE:
			conf_error_add(
				parser->errors, word.place,
				"this file holds words, one behind the other, and no blocks");
			return;
		case TOKEN_EOF:
			return;
		}
	}
}

static int report_unread(struct conf_errors *errors, const struct conf_value *path, int result)
{
	struct conf_place place = path->word->place;

	if (result == -EFBIG)
		conf_error_add(errors, place, "more than %d MB of configuration",
			       CONF_TEXT_MAX >> 20);
	else
		conf_error_add(errors, place, "cannot read %.*s: %s", SPAN_ARG(path->text),
			       strerror(-result));
	return CONF_FAULTY;
}

/* Behind the parse: answers join those of before, and all files together have one bound. */
static void parser_go_on(struct parser *parser)
{
	parser->answers_tail = &parser->tree->answers;
	while (*parser->answers_tail)
		parser->answers_tail = &(*parser->answers_tail)->next;
	parser->file_capacity = parser->tree->file_count;
	for (size_t i = 0; i < parser->tree->file_count; i++)
		parser->text_total += parser->tree->files[i].text.len;
}

int conf_words_read(struct conf_tree *tree, struct conf_errors *errors,
		    const struct conf_value *path, const struct conf_word **ret_words,
		    size_t *ret_count)
{
	struct parser parser = { .tree = tree, .functions = tree->functions, .errors = errors };
	/* Comments of such a file are nobody's to format. */
	struct conf_comment *comments = NULL;
	size_t errors_before = errors->error_count;
	struct conf_answer *answer;
	uint32_t file;

	parser.comments_tail = &comments;
	parser_go_on(&parser);
	answer = parser_answer(&parser, CONF_ANSWER_FILE, path->text);
	if (!answer)
		return -ENOMEM;
	if (answer->result)
		return report_unread(errors, path, answer->result);
	if (tree->file_count == CONF_FILES_MAX) {
		conf_error_add(errors, path->word->place, "more than %d files", CONF_FILES_MAX);
		return CONF_FAULTY;
	}
	if (!parser_add_file(&parser, answer->name, answer->value, path->word->place, &file))
		return -ENOMEM;
	read_words(&parser, file);
	if (parser.is_out_of_memory)
		return -ENOMEM;
	*ret_words = parser.words;
	*ret_count = parser.word_count;
	return errors->error_count > errors_before ? CONF_FAULTY : 0;
}

int conf_content_read(struct conf_tree *tree, struct conf_errors *errors, struct conf_value *value)
{
	struct parser parser = { .tree = tree, .functions = tree->functions, .errors = errors };
	struct conf_answer *answer;

	parser_go_on(&parser);
	answer = parser_answer(&parser, CONF_ANSWER_FILE, value->text);
	if (!answer)
		return -ENOMEM;
	if (answer->result)
		return report_unread(errors, value, answer->result);
	value->content = answer->value;
	return 0;
}
