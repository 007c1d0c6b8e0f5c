/* conf: text to tree, faults of the text, includes, environment, bundles. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- A file system and an environment of tables ---------------------------------------------- */

struct file {
	const char *name, *text;
};

static const struct file files[] = {
	{ "conf/one.conf", "one 1\n" },
	{ "conf/two.conf", "two 2" },
	{ "conf/deeper/three.conf", "three; include four.conf" },
	{ "conf/deeper/four.conf", "four" },
	{ "conf/cycle.conf", "include cycle.conf" },
	{ "conf/ping.conf", "include pong.conf" },
	{ "conf/pong.conf", "include ./ping.conf" },
	{ "conf/open.conf", "block {\n" },
	{ "conf/close.conf", "}\n" },
	{ "conf/bad.conf", "good\n  bad \"open\n" },
	{ "conf/version.conf", "portcullis 1" },
};

static int read_file(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	(void)owner;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (!span_equal(path, span_str(files[i].name)))
			continue;
		*ret_text = span_str(files[i].text);
		*ret_identity = i + 1;
		return 0;
	}
	if (span_starts_with(path, SPAN("conf/chain"))) {
		static const struct span next = { "include chain", 13 };
		static char text[64];
		uint64_t number = 0;
		assert_true(parse_u64(span_skip(path, 10), 100, &number));
		struct writer writer = writer_of(text, sizeof(text));
		write_span(&writer, next);
		write_u64(&writer, number + 1);
		*ret_text = writer_done(&writer);
		*ret_identity = 1000 + number;
		return 0;
	}
	return -ENOENT;
}

static int list_files(void *owner, struct span pattern, const struct span **ret_names,
		      size_t *ret_count)
{
	static const struct span names[] = { { "conf/one.conf", 13 }, { "conf/two.conf", 13 } };

	(void)owner;
	if (span_equal(pattern, SPAN("conf/*.conf"))) {
		*ret_names = names;
		*ret_count = ARRAY_LEN(names);
	}
	return 0;
}

static bool get_environment(void *owner, struct span name, struct span *ret_value)
{
	(void)owner;
	if (span_equal(name, SPAN("HOME_9")))
		*ret_value = SPAN("/home/a b");
	else if (span_equal(name, SPAN("EMPTY")))
		*ret_value = SPAN("");
	else if (span_equal(name, SPAN("BELL")))
		*ret_value = SPAN("a\ab");
	else
		return false;
	return true;
}

static const struct conf_functions functions = {
	.read = read_file,
	.list = list_files,
	.environment = get_environment,
};

/* ---- Helpers --------------------------------------------------------------------------------- */

static void write_tree(const struct conf_tree *tree, struct arena *arena, struct writer *writer)
{
	for (const struct conf_statement *s = tree->first; s; s = s->next) {
		struct span line = conf_canonical(s, true, arena);
		assert_non_null(line.ptr);
		if (s != tree->first)
			write_str(writer, "\n");
		write_span(writer, line);
	}
}

static int parse(struct arena *arena, struct span text, struct conf_errors *errors,
		 struct conf_tree **ret_tree)
{
	conf_errors_init(errors, arena);
	return conf_parse(arena, SPAN("conf/main.conf"), text, &functions, errors, ret_tree);
}

/* ---- Texts that are right -------------------------------------------------------------------- */

struct right {
	const char *text, *tree;
};

static const struct right rights[] = {
	{ "portcullis 1", "" },
	{ "portcullis 1\n", "" },
	{ "\xef\xbb\xbf"
	  "portcullis 1\r\na b\r\n",
	  "a b" },
	{ "# first\n\nportcullis 1 # version\na#b #c\n", "a#b" },
	{ "portcullis 1;a;b c;;d", "a\nb c\nd" },
	{ "portcullis 1\na { b; c d\ne { } }\nf", "a { b; c d; e { } }\nf" },
	{ "portcullis 1\na { b } c", "a { b }\nc" },
	{ "portcullis 1\na{b}c", "a { b }\nc" },
	{ "portcullis 1\na \"b c\" \"\" \"{};#\"", "a \"b c\" \"\" \"{};#\"" },
	{ "portcullis 1\na \"q\\\" b\\\\ n\\n d\\$X\"", "a \"q\\\" b\\\\ n\\n d\\$X\"" },
	{ "portcullis 1\na b\"c\"d", "a b c d" },
	{ "portcullis 1\na $HOME_9/x \"$HOME_9\" x$EMPTY/y",
	  "a \"/home/a b/x\" \"/home/a b\" x/y" },
	{ "portcullis 1\na <t> \\ x'y", "a <t> \\ x'y" },
	{ "portcullis 1\na \t b", "a b" },
	{ "portcullis 1\ninclude one.conf\ninclude ./two.conf; x", "one 1\ntwo 2\nx" },
	{ "portcullis 1\ninclude *.conf", "one 1\ntwo 2" },
	{ "portcullis 1\ninclude nothing/*.conf", "" },
	{ "portcullis 1\na { include one.conf; b }", "a { one 1; b }" },
	{ "portcullis 1\ninclude deeper/three.conf", "three\nfour" },
	{ "portcullis 1\ninclude one.conf; include one.conf", "one 1\none 1" },
	{ "portcullis 1\n\"include\" x", "\"include\" x" },
};

static void test_right(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rights); i++) {
		struct conf_errors errors;
		struct conf_tree *tree = NULL;
		struct arena arena;
		char buf[4096];

		arena_init(&arena, 0);
		int result = parse(&arena, span_str(rights[i].text), &errors, &tree);
		struct writer writer = writer_of(buf, sizeof(buf) - 1);
		if (result)
			conf_errors_write(tree, &errors, &writer);
		else
			write_tree(tree, &arena, &writer);
		buf[writer_done(&writer).len] = 0;
		assert_string_equal(buf, rights[i].tree);
		assert_int_equal(tree->version, 1);
		arena_fini(&arena);
	}
}

/* ---- Texts that are wrong: the whole message is part of the promise -------------------------- */

static const struct right wrongs[] = {
	{ "",
	  "conf/main.conf:1:1: error: the first line names the language's version: `portcullis 1`\n"
	  "    \n    ^\n" },
	{ "site a", "conf/main.conf:1:1: error: the first line names the language's version: "
		    "`portcullis 1`\n    site a\n    ^~~~\n" },
	{ "portcullus 1\na",
	  "conf/main.conf:1:1: error: the first line names the language's version: "
	  "`portcullis 1`\n    portcullus 1\n    ^~~~~~~~~~\n"
	  "    did you mean \"portcullis\"?\n" },
	{ "site a { b }", "conf/main.conf:1:1: error: the first line names the language's version: "
			  "`portcullis 1`\n    site a { b }\n    ^~~~\n" },
	{ "portcullis 2",
	  "conf/main.conf:1:12: error: this program knows version 1 of the language\n"
	  "    portcullis 2\n               ^\n" },
	{ "portcullis 1\nportcullis 1",
	  "conf/main.conf:2:1: error: `portcullis 1` stands once, on the first line of the first "
	  "file\n    portcullis 1\n    ^~~~~~~~~~\n" },
	{ "portcullis 1\ninclude version.conf", "conf/version.conf:1:1: error: `portcullis 1` "
						"stands once, on the first line of the first "
						"file\n    portcullis 1\n    ^~~~~~~~~~\n" },
	{ "portcullis 1\n\ta \"b\n c",
	  "conf/main.conf:2:4: error: this quote is not closed on its line "
	  "(a line break in a text is \\n)\n    \ta \"b\n    \t  ^\n" },
	{ "portcullis 1\na \"\\x\"",
	  "conf/main.conf:2:4: error: quotes know \\\" \\\\ \\n \\$ and no "
	  "other escape; a backslash is \\\\\n    a \"\\x\"\n       ^\n" },
	{ "portcullis 1\nä { b",
	  "conf/main.conf:2:3: error: this block is never closed: a `}` is missing\n"
	  "    ä { b\n      ^\n" },
	{ "portcullis 1\n}", "conf/main.conf:2:1: error: `}` closes nothing\n    }\n    ^\n" },
	{ "portcullis 1\na\n{ b }",
	  "conf/main.conf:3:1: error: `{` stands on the line of its statement, "
	  "after its words\n    { b }\n    ^\n" },
	{ "portcullis 1\na $NOPE",
	  "conf/main.conf:2:3: error: $NOPE is not set in the environment, which is "
	  "read when the configuration is: it knows no values of a request\n"
	  "    a $NOPE\n      ^~~~~\n" },
	{ "portcullis 1\na x$", "conf/main.conf:2:4: error: `$` needs a variable's name, without "
				"braces; in quotes \"\\$\" "
				"is the character itself\n    a x$\n       ^\n" },
	{ "portcullis 1\na 'b'",
	  "conf/main.conf:2:3: error: a text with blanks stands in straight double quotes: "
	  "\"…\"\n    a 'b'\n      ^\n" },
	{ "portcullis 1\na “b”",
	  "conf/main.conf:2:3: error: a text with blanks stands in straight double quotes: "
	  "\"…\"\n    a “b”\n      ^\n" },
	{ "portcullis 1\na $BELL", "conf/main.conf:2:3: error: $BELL holds a control byte (0x07)\n"
				   "    a $BELL\n      ^~~~~\n" },
	{ "portcullis 1\na\rb", "conf/main.conf:2:2: error: a carriage return without a line feed\n"
				"    a?b\n     ^\n" },
	{ "portcullis 1\na \x1b[2J", "conf/main.conf:2:3: error: a control byte (0x1b)\n"
				     "    a ?[2J\n      ^\n" },
	{ "portcullis 1\ninclude",
	  "conf/main.conf:2:1: error: write `include FILE`: one name or glob\n"
	  "    include\n    ^~~~~~~\n" },
	{ "portcullis 1\ninclude none.conf",
	  "conf/main.conf:2:9: error: cannot read conf/none.conf: No such file or directory\n"
	  "    include none.conf\n            ^~~~~~~~~\n" },
	{ "portcullis 1\ninclude cycle.conf",
	  "conf/cycle.conf:1:9: error: conf/cycle.conf includes itself\n"
	  "    include cycle.conf\n            ^~~~~~~~~~\n" },
	{ "portcullis 1\ninclude ping.conf",
	  "conf/pong.conf:1:9: error: conf/ping.conf includes itself\n"
	  "    include ./ping.conf\n            ^~~~~~~~~~~\n" },
	{ "portcullis 1\ninclude main.conf",
	  "conf/main.conf:2:9: error: cannot read conf/main.conf: No such file or directory\n"
	  "    include main.conf\n            ^~~~~~~~~\n" },
	{ "portcullis 1\ninclude chain1", "conf/chain16:1:9: error: includes deeper than 16\n"
					  "    include chain17\n            ^~~~~~~\n" },
	{ "portcullis 1\ninclude open.conf\n}",
	  "conf/open.conf:1:7: error: this block is never closed: a `}` is missing\n"
	  "    block {\n          ^\n"
	  "conf/main.conf:3:1: error: `}` closes nothing\n"
	  "    }\n    ^\n" },
	{ "portcullis 1\na { include close.conf }",
	  "conf/close.conf:1:1: error: `}` closes nothing\n"
	  "    }\n    ^\n" },
	{ "portcullis 1\ninclude bad.conf",
	  "conf/bad.conf:2:7: error: this quote is not closed on its "
	  "line (a line break in a text is \\n)\n"
	  "      bad \"open\n          ^\n" },
};

static void test_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		struct conf_errors errors;
		struct conf_tree *tree = NULL;
		struct arena arena;
		char buf[4096];

		arena_init(&arena, 0);
		assert_int_equal(parse(&arena, span_str(wrongs[i].text), &errors, &tree),
				 CONF_FAULTY);
		struct writer writer = writer_of(buf, sizeof(buf) - 1);
		conf_errors_write(tree, &errors, &writer);
		buf[writer_done(&writer).len] = 0;
		assert_string_equal(buf, wrongs[i].tree);
		arena_fini(&arena);
	}
}

static void test_nul_and_depth(void **state)
{
	struct conf_errors errors;
	struct conf_tree *tree;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(parse(&arena, SPAN("portcullis 1\na\0b"), &errors, &tree), CONF_FAULTY);
	assert_int_equal(errors.list[0].place.line, 2);
	assert_int_equal(errors.list[0].place.column, 2);
	char deep[200] = "portcullis 1\n";
	for (size_t i = 0; i <= CONF_BLOCK_DEPTH_MAX; i++)
		memcpy(deep + 13 + 4 * i, "a { ", 4);
	assert_int_equal(parse(&arena, span_str(deep), &errors, &tree), CONF_FAULTY);
	assert_int_equal(errors.error_count, 1);
	/* More faults than the list holds are counted. */
	char many[200] = "portcullis 1\n";
	memset(many + 13, '}', 1);
	for (size_t i = 0; i < 60; i += 2)
		memcpy(many + 13 + i, "$ ", 2);
	assert_int_equal(parse(&arena, span_str(many), &errors, &tree), CONF_FAULTY);
	assert_int_equal(errors.count, CONF_ERRORS_MAX);
	assert_int_equal(errors.error_count, 30);
	arena_fini(&arena);
}

/* ---- Every prefix, every one-byte corruption, every shortage of memory ----------------------- */

static const char sample[] =
	"\xef\xbb\xbfportcullis 1 # v\r\n"
	"include one.conf; table <x> { 1 2\n3 }\n"
	"site w\xc3\xa4.example \"q\\\"\\n\" $HOME_9 {\n\tfiles \"/srv a\" on /x* ; p\n}\n";

static void check_bundle(const struct conf_tree *tree, struct arena *arena, size_t error_count)
{
	struct span bundle = conf_bundle(tree, arena);
	struct conf_errors errors;
	struct conf_tree *again = NULL;

	assert_non_null(bundle.ptr);
	conf_errors_init(&errors, arena);
	assert_true(conf_parse_bundle(arena, bundle, &errors, &again) >= 0);
	assert_int_equal(errors.error_count, error_count);
	const struct conf_statement *a = tree->first, *b = again->first;
	for (; a && b; a = a->next, b = b->next) {
		assert_true(
			span_equal(conf_canonical(a, true, arena), conf_canonical(b, true, arena)));
		assert_int_equal(a->place.line, b->place.line);
		assert_int_equal(a->place.column, b->place.column);
	}
	assert_true(!a && !b);
}

static void test_every_prefix_and_corruption(void **state)
{
	static const char bytes[] = { 0,   '\n', '\r', ' ',  '{', '}',   ';',
				      '"', '#',  '$',  '\\', 'x', '\x80' };
	size_t len = sizeof(sample) - 1;
	struct arena arena;
	char copy[sizeof(sample)];

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i <= len; i++) {
		struct conf_errors errors;
		struct conf_tree *tree = NULL;

		assert_true(parse(&arena, span_of(sample, i), &errors, &tree) >= 0);
		check_bundle(tree, &arena, errors.error_count);
		arena_reset(&arena);
		for (size_t j = 0; i < len && j < sizeof(bytes); j++) {
			char buf[8192];
			struct writer writer = writer_of(buf, sizeof(buf));

			memcpy(copy, sample, len);
			copy[i] = bytes[j];
			assert_true(parse(&arena, span_of(copy, len), &errors, &tree) >= 0);
			conf_errors_write(tree, &errors, &writer);
			check_bundle(tree, &arena, errors.error_count);
			arena_reset(&arena);
		}
	}
	arena_fini(&arena);
}

/* Reading takes one byte order mark away: of two, the second is a fault, also when it is read again. */
static void test_bundle_of_two_marks(void **state)
{
	static const char *const texts[] = { "\xef\xbb\xbfportcullis 1\na b",
					     "\xef\xbb\xbf\xef\xbb\xbfportcullis 1\na b" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct conf_errors errors, again;
		struct conf_tree *tree;
		struct arena arena;
		struct span bundle;

		arena_init(&arena, 0);
		conf_errors_init(&errors, &arena);
		conf_errors_init(&again, &arena);
		assert_int_equal(
			conf_parse(&arena, SPAN("f"), span_str(texts[i]), NULL, &errors, &tree),
			i ? CONF_FAULTY : 0);
		bundle = conf_bundle(tree, &arena);
		assert_int_equal(conf_parse_bundle(&arena, bundle, &again, &tree),
				 i ? CONF_FAULTY : 0);
		assert_int_equal(again.error_count, errors.error_count);
		arena_fini(&arena);
	}
}

static void test_bundle_corrupt(void **state)
{
	struct conf_errors errors;
	struct conf_tree *tree;
	struct arena arena, scratch;

	(void)state;
	arena_init(&arena, 0);
	arena_init(&scratch, 0);
	assert_int_equal(
		parse(&arena, SPAN("portcullis 1\ninclude *.conf\na $HOME_9"), &errors, &tree), 0);
	struct span bundle = conf_bundle(tree, &arena);
	char *copy = arena_cstr(&arena, bundle);
	for (size_t i = 0; i < bundle.len; i++) {
		assert_true(conf_parse_bundle(&scratch, span_first(bundle, i), &errors, &tree) <=
			    1);
		copy[i] ^= (char)0xff;
		assert_true(conf_parse_bundle(&scratch, span_of(copy, bundle.len), &errors,
					      &tree) <= 1);
		copy[i] ^= (char)0xff;
		conf_errors_init(&errors, &scratch);
		arena_reset(&scratch);
	}
	arena_fini(&scratch);
	arena_fini(&arena);
}

static void test_no_memory(void **state)
{
	(void)state;
	for (size_t size = 0; size < 80000; size += size < 4000 ? 56 : 4096) {
		struct conf_errors errors;
		struct conf_tree *tree = NULL;
		struct arena arena, message_arena;
		static char memory[80000];

		arena_init_fixed(&arena, memory, size);
		arena_init(&message_arena, 0);
		conf_errors_init(&errors, &message_arena);
		int result =
			conf_parse(&arena, SPAN("conf/main.conf"),
				   span_of(sample, sizeof(sample) - 1), &functions, &errors, &tree);
		assert_true(result == -ENOMEM || (result == 0 && size > CONF_WORD_MAX));
		arena_fini(&arena);
		arena_fini(&message_arena);
	}
}

static void test_comments(void **state)
{
	struct conf_errors errors;
	struct conf_tree *tree;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(parse(&arena, SPAN("  # one \r\nportcullis 1 # two\na#b"), &errors, &tree),
			 0);
	assert_true(tree->comments && tree->comments->is_own_line);
	assert_true(span_equal(tree->comments->text, SPAN("# one")));
	assert_true(tree->comments->next && !tree->comments->next->is_own_line);
	assert_int_equal(tree->comments->next->place.line, 2);
	assert_int_equal(tree->comments->next->place.column, 14);
	assert_null(tree->comments->next->next);
	arena_fini(&arena);
}

static void test_nearest(void **state)
{
	static const struct {
		const char *wanted, *best;
	} rows[] = {
		{ "respnd", "respond" },
		{ "repsond", "respond" },
		{ "Respond", "respond" },
		{ "proxi", "proxy" },
		{ "xyzzy", "" },
		{ "", "" },
		{ "fiels", "files" },
		{ "on", "" },
		{ "a-word-that-is-far-too-long-to-be-anything", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_nearest nearest;

		conf_nearest_init(&nearest, span_str(rows[i].wanted));
		conf_nearest_offer(&nearest, SPAN("respond"));
		conf_nearest_offer(&nearest, SPAN("proxy"));
		conf_nearest_offer(&nearest, SPAN("files"));
		assert_true(span_equal(nearest.best, span_str(rows[i].best)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_nul_and_depth),
		cmocka_unit_test(test_every_prefix_and_corruption),
		cmocka_unit_test(test_bundle_of_two_marks),
		cmocka_unit_test(test_bundle_corrupt),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_comments),
		cmocka_unit_test(test_nearest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
