/* format: how a file is laid out, and what of it stays. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *from, *to;
} cases[] = {
	{ "", "" },
	{ "\n\n", "" },
	{ "portcullis 1", "portcullis 1\n" },
	{ "\n\n  portcullis   1\t\r\n\r\n\r\n\r\na;b ; c\n\n", "portcullis 1\n\na\nb\nc\n" },
	/* Words stay as they are written. */
	{ "a $HOME \"b  $X\\\"\" c\"d\"e", "a $HOME \"b  $X\\\"\" c \"d\" e\n" },
	{ "include  sites/*.conf", "include sites/*.conf\n" },
	/* Blocks: what shares a line goes on to share it. */
	{ "site a{respond 200 x;b{c;;d}e}", "site a { respond 200 x; b { c; d }; e }\n" },
	{ "a {}\nb { ; }", "a { }\nb { }\n" },
	{ "a {b\nc}", "a {\n    b\n    c\n}\n" },
	{ "a {\n\n b {\n c\n\n\n d }\n\n}\ne",
	  "a {\n    b {\n        c\n\n        d\n    }\n}\ne\n" },
	{ "a {\n} b {\n} c", "a {\n}\nb {\n}\nc\n" },
	{ "a { b } c", "a { b }\nc\n" },
	/* Comments: own lines, ends of lines, inside and behind blocks. */
	{ "# a  \n   # b\n\n\n#c", "# a\n# b\n\n#c\n" },
	{ "a#b   # c", "a#b # c\n" },
	{ "a; # c\nb", "a # c\nb\n" },
	{ "a { # c\n b\n # d\n} # e\n# f", "a { # c\n    b\n    # d\n} # e\n# f\n" },
	{ "a { b } # c", "a { b } # c\n" },
	{ "a { b # c\n}", "a {\n    b # c\n}\n" },
	{ "a \"b\"#c", "a \"b\" #c\n" },
	{ "a\n;\n\n;b", "a\n\nb\n" },
	/* A byte order mark goes; one that belongs to a word stays. */
	{ "\xef\xbb\xbf"
	  "a",
	  "a\n" },
	{ "\xef\xbb\xbf\xef\xbb\xbf"
	  "a",
	  "\xef\xbb\xbf\xef\xbb\xbf"
	  "a\n" },
};

static int format(struct arena *arena, struct span text, struct span *ret_text,
		  struct conf_errors *errors)
{
	struct conf_tree *tree = NULL;
	int result;

	conf_errors_init(errors, arena);
	result = conf_format(arena, SPAN("t.conf"), text, errors, &tree, ret_text);
	assert_non_null(tree);
	assert_true((result != 0) == (errors->error_count != 0));
	return result;
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct span once, twice;
		struct conf_errors errors;
		struct arena arena;

		arena_init(&arena, 0);
		assert_int_equal(format(&arena, span_str(cases[i].from), &once, &errors), 0);
		if (!span_equal(once, span_str(cases[i].to)))
			fail_msg("case %zu is:\n%.*s", i, SPAN_ARG(once));
		assert_int_equal(format(&arena, once, &twice, &errors), 0);
		assert_true(span_equal(once, twice));
		arena_fini(&arena);
	}
}

static const struct {
	const char *text;
	uint32_t line, column;
} faults[] = {
	{ "a {\nb", 1, 3 },   { "a\n}", 2, 1 },      { "a\n  { b }", 2, 3 }, { "{", 1, 1 },
	{ "a \"b\nc", 1, 3 }, { "a \"\\x\"", 1, 4 }, { "a\ab", 1, 2 },       { "a $ b", 1, 3 },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct span text = SPAN("untouched");
		struct conf_errors errors;
		struct arena arena;

		arena_init(&arena, 0);
		assert_int_equal(format(&arena, span_str(faults[i].text), &text, &errors),
				 CONF_FAULTY);
		assert_int_equal(errors.list[0].place.line, faults[i].line);
		assert_int_equal(errors.list[0].place.column, faults[i].column);
		assert_true(span_equal(text, SPAN("untouched")));
		arena_fini(&arena);
	}
}

static void test_deepest(void **state)
{
	char text[256], *at = text;
	struct conf_errors errors;
	struct span once;
	struct arena arena;

	(void)state;
	for (int i = 0; i < CONF_BLOCK_DEPTH_MAX; i++, at += 4)
		memcpy(at, "a {\n", 4);
	*at++ = 'b';
	for (int i = 0; i < CONF_BLOCK_DEPTH_MAX; i++)
		*at++ = '}';
	arena_init(&arena, 0);
	assert_int_equal(format(&arena, span_of(text, (size_t)(at - text)), &once, &errors), 0);
	memmove(text + 4, text, (size_t)(at - text));
	memcpy(text, "a {\n", 4);
	at += 4;
	*at++ = '}';
	assert_int_equal(format(&arena, span_of(text, (size_t)(at - text)), &once, &errors),
			 CONF_FAULTY);
	arena_fini(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_deepest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
