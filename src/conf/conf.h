/* conf: the configuration's language. Text becomes a tree of statements, and a table of rows (a
 * schema) says which statements may stand where and turns their words into typed values.
 *
 * It knows no statement but `portcullis` and `include`: the rows come from above (snapshot). It
 * reads no file and no environment: both come through struct conf_functions. It decides nothing
 * about what a configuration means; it can only say that a text is no sentence of the language.
 *
 * Everything that it makes lies in the arena of the caller and is gone with it. Spans of words
 * point into the arena too, never into the caller's text.
 *
 * Faults are collected, not returned: struct conf_errors holds up to CONF_ERRORS_MAX of them and
 * counts the rest. Functions return 0, CONF_FAULTY (at least one error was added) or -ENOMEM. */
#pragma once

#include "base/base.h"

enum {
	CONF_FAULTY = 1,
	CONF_VERSION = 1, /* `portcullis 1` */
	CONF_ERRORS_MAX = 20,
	CONF_INCLUDE_DEPTH_MAX = 16,
	CONF_BLOCK_DEPTH_MAX = 16,
	CONF_FILES_MAX = 1024,    /* 16 levels of globs could otherwise multiply without end */
	CONF_TEXT_MAX = 16 << 20, /* bytes of all files together */
	CONF_WORD_MAX = 64 << 10, /* bytes of one word after $NAME was resolved */
	CONF_LIST_MAX = 65536,    /* words of one list, those of its file too */
	CONF_ARGUMENTS_MAX = 4,   /* of one row */
	CONF_OPTIONS_MAX = 16,
};

/* ---- Places and faults ----------------------------------------------------------------------- */

/* Where a word stands. `file` is an index of tree->files; line and column count from 1, the column
 * in characters (UTF-8), offset and len in bytes of that file's text. line 0: no place. */
struct conf_place {
	uint32_t file, line, column, offset, len;
};

struct conf_error {
	bool is_warning;
	struct conf_place place;
	struct conf_place other; /* "first here"; line 0 where there is none */
	struct span message;
	struct span nearest; /* the nearest right word, or empty */
};

/* Warnings and errors share the list; one that no longer fits is only counted. */
struct conf_errors {
	struct arena *arena; /* for the messages */
	struct conf_error list[CONF_ERRORS_MAX];
	struct conf_error overflow;        /* the row that nobody prints */
	size_t count;                      /* of list */
	size_t error_count, warning_count; /* of all, also those that did not fit */
};

void conf_errors_init(struct conf_errors *errors, struct arena *arena);
/* Adds one. Returns it, so that `other` and `nearest` can be set; never NULL (what does not fit
 * lands in a row that nobody prints). */
struct conf_error *conf_error_add(struct conf_errors *errors, struct conf_place place,
				  const char *format, ...) PRINTF_LIKE(3, 4);
struct conf_error *conf_warning_add(struct conf_errors *errors, struct conf_place place,
				    const char *format, ...) PRINTF_LIKE(3, 4);

struct conf_tree;
/* `file:line:col: error: message`, the line, a caret below the word, `did you mean "…"?` and, where
 * there is one, the other place. Control bytes of the file are printed as `?`: a terminal obeys
 * none of them. */
void conf_error_write(const struct conf_tree *tree, const struct conf_error *error,
		      struct writer *writer);
/* All of them, and `… and N more`. */
void conf_errors_write(const struct conf_tree *tree, const struct conf_errors *errors,
		       struct writer *writer);

/* The nearest word by edit distance (an exchange of neighbours counts once), for faults that a
 * schema does not know about. Feed candidates, then read `best`; empty where none is near enough.
 */
struct conf_nearest {
	struct span wanted, best;
	size_t distance;
};
void conf_nearest_init(struct conf_nearest *nearest, struct span wanted);
void conf_nearest_offer(struct conf_nearest *nearest, struct span candidate);

/* ---- Text to tree ---------------------------------------------------------------------------- */

struct conf_word {
	struct span text; /* without quotes, escapes and $NAME resolved; also NUL-terminated */
	struct conf_place place;
	bool is_quoted;
};

struct conf_schema;
struct conf_value;
struct conf_given;

struct conf_statement {
	struct conf_statement *next;
	struct conf_statement *parent; /* NULL at the top */
	const struct conf_word *words;
	size_t word_count; /* at least 1 */
	bool has_block;
	struct conf_statement *first; /* of the block */
	struct conf_place place;      /* of the first word */
	struct conf_place block_end;  /* of `}` */

	/* Written by conf_check; `row` is NULL before, and where the statement is faulty. */
	const struct conf_schema *row;
	const struct conf_value *arguments;
	size_t argument_count;
	const struct conf_given *options;
	size_t option_count;
	const struct conf_value *list; /* of a list block, then of its files (CONF_WORDS) */
	size_t list_count;
};

/* Comments stay beside the tree, for a formatter. */
struct conf_comment {
	struct conf_comment *next;
	struct span text; /* from `#` to the end of the line */
	struct conf_place place;
	bool is_own_line; /* nothing but blanks stands before it */
};

struct conf_file {
	struct span name, text;        /* the text without BOM */
	struct conf_place included_at; /* line 0 for the first */
};

/* What was asked of struct conf_functions, so that the same text can be read again without asking.
 */
struct conf_answer;

struct conf_tree {
	struct arena *arena;
	struct conf_statement
		*first; /* includes are expanded in place, `portcullis 1` is left out */
	struct conf_comment *comments;
	struct conf_file *files;
	size_t file_count;
	struct conf_answer *answers;
	const struct conf_functions *functions; /* a copy; NULL where there were none */
	uint64_t version;
};

/* All answers must live until conf_parse returns; it copies. conf_check asks too, for the files of lists: `owner` lives
 * as long as the tree is checked. */
struct conf_functions {
	void *owner;
	/* The bytes of one file. `path` is absolute or relative to what the first file's name is
	 * relative to. *ret_identity is the same for the same file under any name (device and
	 * inode), or 0. 0 or -errno. */
	int (*read)(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity);
	/* The file names that match a glob pattern, sorted bytewise; none is 0 with *ret_count 0.
	 */
	int (*list)(void *owner, struct span pattern, const struct span **ret_names,
		    size_t *ret_count);
	/* false: unset. */
	bool (*environment)(void *owner, struct span name, struct span *ret_value);
};

/* Reads `text`, the contents of the file `name`, and what it includes. *ret_tree is set whenever
 * the result is not negative: errors need it to be printed. */
int conf_parse(struct arena *arena, struct span name, struct span text,
	       const struct conf_functions *functions, struct conf_errors *errors,
	       struct conf_tree **ret_tree) MUST_CHECK;

/* The whole input, resolved: files, globs and environment as they were answered. conf_parse_bundle
 * reads it back with the same places, so a running text can be compiled again although files
 * changed. The bytes are ours, yet a broken bundle is -EBADMSG and nothing worse. */
struct span conf_bundle(const struct conf_tree *tree, struct arena *arena); /* ptr NULL: no room */
int conf_parse_bundle(struct arena *arena, struct span bundle, struct conf_errors *errors,
		      struct conf_tree **ret_tree) MUST_CHECK;

/* What a variable was while that text was read; false: it was not asked for, or unset. */
bool conf_variable(const struct conf_tree *tree, struct span name, struct span *ret_value);

/* One way to write a statement: words as they were resolved, one blank between, quotes only where
 * needed, a block as `{ a; b }` if asked for. Two statements that mean the same words have the same
 * line: ids are made of it. ptr NULL: no room. */
struct span conf_canonical(const struct conf_statement *statement, bool with_block,
			   struct arena *arena) MUST_CHECK;

/* The same file, laid out in one way (conf/format.c says which), by itself: nothing is included and no variable asked
 * for, and the file may be one that others include. Its meaning stays, and once more gives the same bytes. 0 and
 * *ret_text, CONF_FAULTY (not even its words can be told apart, or blocks do not match) or -ENOMEM. *ret_tree is only
 * good for printing errors, and is set whenever the result is not negative. */
int conf_format(struct arena *arena, struct span name, struct span text, struct conf_errors *errors,
		struct conf_tree **ret_tree, struct span *ret_text) MUST_CHECK;

/* A tree, before conf_check(), as JSON and back (conf/json.c has the form): words as they were resolved, includes in
 * their place. Bytes that are no UTF-8 become characters: who needs to know compares. ptr NULL: no room. */
struct span conf_json(const struct conf_tree *tree, struct arena *arena) MUST_CHECK;
bool conf_is_json(struct span text); /* and no text of the language */
/* As conf_parse(). Paths are relative to the file that a statement names. */
int conf_parse_json(struct arena *arena, struct span name, struct span text,
		    const struct conf_functions *functions, struct conf_errors *errors,
		    struct conf_tree **ret_tree) MUST_CHECK;
/* A tree, before conf_check(), as one text that includes nothing; a comment names each file that statements came from
 * but the first. 0 or -ENOMEM. */
int conf_text(const struct conf_tree *tree, struct arena *arena, struct span *ret_text) MUST_CHECK;

/* ---- Schema ---------------------------------------------------------------------------------- */

enum conf_type {
	CONF_NO_TYPE, /* ends a row's arguments */
	CONF_WORD,    /* any word */
	CONF_TEXT,    /* any text, empty too */
	CONF_NAME,    /* a letter or digit, then letters, digits, - _ . */
	CONF_HOST, /* a host name or address; `*.name` too. value.text: lower case, A-labels, no dot
		      at the end */
	CONF_LISTEN,   /* ADDR:PORT, [v6]:PORT, *:PORT. value.address */
	CONF_ORIGIN,   /* PORT, HOST:PORT, [v6]:PORT, http(s)://…, unix:PATH. value.origin */
	CONF_UPSTREAM, /* an origin, or a NAME that stands for several: value.is_name, value.text */
	CONF_DURATION, /* 250ms 10s 5m 1h 30d. value.number: nanoseconds */
	CONF_SIZE,     /* 512B 32KB 1MB 2GB, powers of 1024. value.number: bytes */
	CONF_RATE,     /* 20/s 5/min 100/h. value.number per value.period_ns */
	CONF_BANDWIDTH, /* 512KB/s 1MB/s. value.number: bytes a second, 1 KB to 10 GB */
	CONF_NUMBER,    /* decimal. value.number */
	CONF_PATH, /* of a file or folder; relative to the file that the word stands in: value.text
		      is joined */
	CONF_PATTERN, /* of a request's path: starts with `/`; `*` only where the row's reader
			 allows */
	CONF_URL,     /* http:// or https:// or an absolute path, for a redirect */
	CONF_CHOICE,  /* one of argument.choices. value.number: its index */
	CONF_TABLE,   /* <name>. value.text: name */
	CONF_NETWORK, /* ADDR or ADDR/BITS. value.address without port, v4 in v6 as v4; value.number:
			 bits */
	CONF_WORDS, /* of an option: path (as CONF_PATH) of a file of words; they join the statement's
		       list */
	CONF_CONTENT, /* path (as CONF_PATH) of a file whose bytes are read: value.content */
};

/* An IP address, or any (`*`), with a port. Plain bytes, so that it can lie in a snapshot. */
struct conf_address {
	uint8_t bytes[16]; /* network order; 4 of them for family 4, the rest 0 */
	uint16_t port;     /* 0: none */
	uint8_t family;    /* 0: both (`*`), 4, 6 */
	uint8_t zero;      /* no padding: snapshots are compared as bytes */
};

enum conf_scheme { CONF_HTTP, CONF_HTTPS };
struct conf_origin {
	enum conf_scheme scheme;
	struct span host; /* as CONF_HOST; empty for unix */
	struct span unix_path;
	bool is_address; /* then `address` holds it, with the port */
	struct conf_address address;
	uint16_t port;
};

struct conf_value {
	enum conf_type type;
	const struct conf_word *word;
	struct span text; /* normalised as the type says, else the word's text; NUL-terminated */
	uint64_t number, period_ns;
	struct conf_address address;
	bool is_address; /* CONF_HOST */
	bool is_rounded; /* CONF_NETWORK: bits behind the prefix were set; in `address` they are not */
	bool is_name;    /* CONF_UPSTREAM */
	struct span content; /* CONF_CONTENT */
	struct conf_origin origin;
};

struct conf_argument {
	enum conf_type type;
	bool is_optional;
	/* One or more; of those behind it, each has one word (no options then). */
	bool is_repeated;
	const char *name;          /* as the manual writes it: "ADDR:PORT" */
	const char *choices;       /* CONF_CHOICE: "json combined" */
	uint64_t minimum, maximum; /* CONF_NUMBER, _DURATION, _SIZE; maximum 0: none */
};

/* `retry-after TIME`, or a flag without arguments. Options stand after the arguments, in any order;
 * a word that is an option's name ends a repeated argument before it. */
struct conf_option {
	const char *name; /* NULL ends the list */
	bool is_repeated;
	struct conf_argument arguments[2];
	const char *help;
};

struct conf_given {
	const struct conf_option *option;
	const struct conf_word *word;
	const struct conf_value *values;
	size_t value_count;
};

enum conf_block {
	CONF_BLOCK_NONE,
	CONF_BLOCK_STATEMENTS,    /* rows whose `inside` names this row */
	CONF_BLOCK_OPTIONAL,      /* the same, and may be left out */
	CONF_BLOCK_LIST,          /* words, each checked as `list` */
	CONF_BLOCK_LIST_OPTIONAL, /* the same, and may be left out */
	CONF_BLOCK_PAIRS, /* NAME VALUE NAME VALUE, each checked by a row like a statement */
};

struct conf_schema {
	const char *name; /* one word, or two: "log access" */
	const char *
		inside; /* names of the blocks where it may stand, a comma between; "" is the top */
	enum conf_block block;
	bool is_single; /* once per block */
	struct conf_argument arguments[CONF_ARGUMENTS_MAX];
	struct conf_option options[CONF_OPTIONS_MAX];
	struct conf_argument list; /* CONF_BLOCK_LIST, _LIST_OPTIONAL */
	const char *help;          /* one sentence */
	const char *unit;          /* of the value, "" where there is none */
	const char *default_value; /* what holds without the line, in words or as a value */
	const char *example;       /* a whole statement that is right in its block */
};

/* Several modules' rows, joined. */
/* A word that users of other programs, or readers of plans, write as a statement. */
struct conf_hint {
	/* `WORD`: where a statement begins, anywhere. `PLACE WORD`: in that block, or behind that statement's name;
	 * it goes before. As WORD, `{` means each unknown statement there that has a block. */
	const char *word;
	const char *
		says; /* the end of "unknown statement `word`: …", and of other faults of that word */
};

struct conf_language {
	const struct conf_schema *const *tables;
	const size_t *counts;
	size_t table_count;
	const struct conf_hint *hints;
	size_t hint_count;
};

/* Checks the whole tree against the rows and writes row, arguments and options into each statement.
 */
int conf_check(struct conf_tree *tree, const struct conf_language *language,
	       struct conf_errors *errors) MUST_CHECK;

/* What one checked tree means and another does not, in the order of the text. The order counts
 * for nothing at the top, of a list's words and of pairs; in another block one that only stands elsewhere was moved. */
enum conf_difference_kind { CONF_ADDED, CONF_REMOVED, CONF_CHANGED, CONF_MOVED };
struct conf_difference {
	struct conf_difference *next;
	enum conf_difference_kind kind;
	struct conf_place
		place; /* of a file of the new tree; where it was removed, of the old one */
	const struct conf_statement
		*block;   /* where it stands, or NULL: at the top; of the same tree */
	struct span line; /* canonical; what was added or removed with its block */
	struct span was;  /* CHANGED */
};
int conf_diff(const struct conf_tree *old_tree, const struct conf_tree *new_tree,
	      struct arena *arena, struct conf_difference **ret_first) MUST_CHECK;

/* NULL when the option was not given; with several, the first. Rows name them, so a misspelt name
 * here is our bug: MUST. */
const struct conf_given *conf_option(const struct conf_statement *statement, const char *name);
/* True when the statement was checked and its row has this name. */
bool conf_is(const struct conf_statement *statement, const char *row_name);
/* After conf_check a block of pairs has one statement a pair below `first`, and a list's words are
 * values of `list`: loops need not know how lines were broken. */

/* `respond CODE ["TEXT"] [retry-after TIME] [on PATH]`: a row's form for manual and messages. */
void conf_schema_write_form(const struct conf_schema *row, struct writer *writer);
/* The manual's entry of a row, as Markdown. */
void conf_schema_write_manual(const struct conf_schema *row, struct writer *writer);
const struct conf_schema *conf_schema_find(const struct conf_language *language, const char *name,
					   const char *inside);

/* ---- Values, for callers that have no statement (command lines) ------------------------------ */

/* Checks one word by itself. 0, or CONF_FAULTY with *ret_reason a sentence for the user. Texts of
 * the value lie in the arena. `folder` is what CONF_PATH is relative to. */
int conf_value_parse(struct arena *arena, const struct conf_argument *argument, struct span folder,
		     struct span text, struct conf_value *ret_value,
		     const char **ret_reason) MUST_CHECK;
bool conf_address_parse(struct span text,
			struct conf_address *ret_address); /* no port; [v6] or v6 */
void conf_address_write(const struct conf_address *address,
			struct writer *writer); /* port if not 0 */
/* The four bytes of an IPv4 address, also of one in IPv6 clothes (::ffff:0:0/96); else NULL. */
const uint8_t *conf_address_v4(const struct conf_address *address);
bool conf_address_is_loopback(const struct conf_address *address);
bool conf_address_is_private(
	const struct conf_address *address); /* or loopback, link-local, unique local */
