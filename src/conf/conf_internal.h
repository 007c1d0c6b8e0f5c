/* conf_internal: what the files of conf share. Only they include it. */
#pragma once

#include "conf/conf.h"

/* One open file of the include stack. `counted_at` and `counted_column` make columns cheap:
 * characters are counted once, from the last place that was asked for. */
struct lexer {
	struct parser *parser;
	uint32_t file;
	struct span text;
	size_t at;
	uint32_t line;
	size_t counted_at;
	uint32_t counted_column;
};

enum token { TOKEN_WORD, TOKEN_END, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_EOF };

struct parser {
	struct conf_tree *tree;
	const struct conf_functions *functions;
	struct conf_errors *errors;
	struct conf_comment **comments_tail;
	struct conf_answer **answers_tail;
	struct conf_word *words; /* of the statement that is being read */
	size_t word_count, word_capacity;
	char *scratch; /* CONF_WORD_MAX bytes, made when a word first needs them */
	size_t file_capacity, text_total;
	uint32_t include_files[CONF_INCLUDE_DEPTH_MAX + 1];
	uint64_t include_identities[CONF_INCLUDE_DEPTH_MAX + 1];
	size_t include_depth;
	bool has_version;
	bool is_out_of_memory;
};

enum conf_answer_kind { CONF_ANSWER_FILE = 1, CONF_ANSWER_LIST, CONF_ANSWER_ENVIRONMENT };

struct conf_answer {
	struct conf_answer *next;
	enum conf_answer_kind kind;
	struct span name;
	int result; /* 0 or -errno; of the environment: 0 is set */
	struct span value;
	uint64_t identity;
	const struct span *names;
	size_t name_count;
};

/* lex.c */
void lexer_init(struct lexer *lexer, struct parser *parser, uint32_t file);
enum token lexer_next(struct lexer *lexer, struct conf_word *ret_word);
struct conf_place lexer_place(struct lexer *lexer, size_t offset, size_t len);
/* Is this the beginning of what only other languages take for a quote? It is refused at a plain word's start. */
bool conf_is_foreign_quote(struct span text);
/* Adds an error where a byte cannot be part of any text; false: do not read this file. */
bool lexer_accepts(struct lexer *lexer);

/* parse.c */
bool parser_add_file(struct parser *parser, struct span name, struct span text,
		     struct conf_place included_at, uint32_t *ret_file);
void parser_push_word(struct parser *parser, const struct conf_word *word);
struct conf_answer *parser_answer(struct parser *parser, enum conf_answer_kind kind,
				  struct span name);
struct span conf_folder_of(struct span name); /* with its slash; empty for a plain name */
struct span conf_join(struct arena *arena, struct span folder,
		      struct span path); /* ptr NULL: no room */

/* words.c: the words of a CONF_WORDS option's file, in the tree's arena. 0, CONF_FAULTY (reported) or -ENOMEM. */
/* The same for a value CONF_CONTENT: the bytes as they are. */
int conf_content_read(struct conf_tree *tree, struct conf_errors *errors,
		      struct conf_value *value) MUST_CHECK;
int conf_words_read(struct conf_tree *tree, struct conf_errors *errors,
		    const struct conf_value *path, const struct conf_word **ret_words,
		    size_t *ret_count) MUST_CHECK;
/* network.c */
const char *conf_network_parse(struct span text, struct conf_value *value);

/* host.c: lower case, A-labels, without a dot at the end, NUL-terminated. NULL: fine, else the
 * reason. */
const char *conf_host_parse(struct arena *arena, struct span text, bool allow_wildcard,
			    struct conf_value *value);
/* origin.c */
const char *conf_listen_parse(struct span text, struct conf_value *value);
const char *conf_origin_parse(struct arena *arena, struct span folder, struct span text,
			      struct conf_value *value);
bool conf_port_parse(struct span text, uint16_t *ret_port);

/* One word of a list that blanks or commas separate; false at the end. */
bool conf_list_next(struct span *rest, char separator, struct span *ret_item);
