/* diff: what two texts mean differently, and what makes no difference. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct conf_schema rows[] = {
	{ .name = "site",
	  .inside = "",
	  .block = CONF_BLOCK_STATEMENTS,
	  .arguments = { { .type = CONF_WORD, .is_repeated = true } } },
	{ .name = "one",
	  .inside = "site",
	  .is_single = true,
	  .arguments = { { .type = CONF_WORD } } },
	{ .name = "more", .inside = "site", .arguments = { { .type = CONF_WORD } } },
	{ .name = "top", .inside = "", .arguments = { { .type = CONF_WORD } } },
	{ .name = "list",
	  .inside = "",
	  .block = CONF_BLOCK_LIST,
	  .arguments = { { .type = CONF_WORD } },
	  .list = { .type = CONF_WORD } },
	{ .name = "pairs", .inside = "", .block = CONF_BLOCK_PAIRS },
	{ .name = "p", .inside = "pairs", .arguments = { { .type = CONF_WORD } } },
	{ .name = "q", .inside = "pairs", .arguments = { { .type = CONF_WORD } } },
};
static const struct conf_schema *const tables[] = { rows };
static const size_t counts[] = { ARRAY_LEN(rows) };
static const struct conf_language language = { .tables = tables,
					       .counts = counts,
					       .table_count = 1 };

static struct conf_tree *read_tree(struct arena *arena, const char *text)
{
	struct conf_errors errors;
	struct conf_tree *tree;

	conf_errors_init(&errors, arena);
	struct span whole = arena_format(arena, "portcullis 1\n%s", text);
	assert_non_null(whole.ptr);
	assert_int_equal(conf_parse(arena, SPAN("t.conf"), whole, NULL, &errors, &tree), 0);
	assert_int_equal(conf_check(tree, &language, &errors), 0);
	return tree;
}

static const struct {
	const char *old, *new, *differences;
} cases[] = {
	{ "", "", "" },
	{ "top a\nsite x { one 1; more 2 }", "site x {\n\"one\" \"1\" # c\nmore 2\n}\n\ntop a",
	  "" },
	{ "list l { a b; c }", "list l {\nc\nb\na\n}", "" },
	{ "pairs { p 1 q 2 }", "pairs {\np 1\nq 2\n}", "" },
	{ "", "top a", "+2:1 top a\n" },
	{ "top a", "", "-2:1 top a\n" },
	{ "top a\ntop b", "top a\ntop c\ntop d", "~3:1 top c < top b\n+4:1 top d\n" },
	{ "site x { one 1 }", "site x { one 2 }", "~2:10 site x: one 2 < one 1\n" },
	{ "site x { one 1 }", "site y { one 1 }",
	  "-2:1 site x { one 1 }\n+2:1 site y { one 1 }\n" },
	{ "site x { one 1; more 2 }", "site x y { one 1 }",
	  "~2:1 site x y < site x\n-2:17 site x: more 2\n" },
	{ "site x { more 1; more 2 }", "site x { more 2; more 1 }", ">2:18 site x: more 1\n" },
	{ "site x { more 1; more 1 }", "site x { more 1 }", "-2:18 site x: more 1\n" },
	{ "list l { a b }", "list l { b c }", "-2:10 list l: a\n+2:12 list l: c\n" },
	{ "pairs { p 1 q 2 }", "pairs { q 2 p 1 }", "" },
	{ "pairs { p 1 q 2 }", "pairs { q 3 p 1 }", "~2:9 pairs: q 3 < q 2\n" },
};

static void write_all(const struct conf_difference *first, struct arena *arena, struct writer *out)
{
	static const char signs[] = {
		[CONF_ADDED] = '+', [CONF_REMOVED] = '-', [CONF_CHANGED] = '~', [CONF_MOVED] = '>'
	};

	for (const struct conf_difference *one = first; one; one = one->next) {
		write_format(out, "%c%u:%u ", signs[one->kind], one->place.line, one->place.column);
		if (one->block) {
			struct span block = conf_canonical(one->block, false, arena);
			write_format(out, "%.*s: ", SPAN_ARG(block));
		}
		write_span(out, one->line);
		if (one->was.len)
			write_format(out, " < %.*s", SPAN_ARG(one->was));
		write_byte(out, '\n');
	}
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf_difference *first;
		struct arena arena;
		char text[4096];
		struct writer out = writer_of(text, sizeof(text));

		arena_init(&arena, 0);
		assert_int_equal(conf_diff(read_tree(&arena, cases[i].old),
					   read_tree(&arena, cases[i].new), &arena, &first),
				 0);
		write_all(first, &arena, &out);
		if (!span_equal(writer_done(&out), span_str(cases[i].differences)))
			fail_msg("case %zu:\n%.*s", i, SPAN_ARG(writer_done(&out)));
		arena_fini(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
