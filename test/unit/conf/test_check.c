/* check: statements against a small schema of its own; forms and the manual. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct conf_schema first_rows[] = {
	{
		.name = "table",
		.inside = "",
		.block = CONF_BLOCK_LIST,
		.arguments = { { .type = CONF_NAME, .name = "NAME" } },
		.list = { .type = CONF_NUMBER, .name = "NUMBER" },
		.help = "A list.",
		.unit = "",
		.default_value = "none",
		.example = "table t { 1 2 }",
	},
	{
		.name = "room",
		.inside = "",
		.block = CONF_BLOCK_OPTIONAL,
		.arguments = { { .type = CONF_NAME, .name = "NAME", .is_repeated = true } },
		.options = { { .name = "open", .help = "no door" },
			     { .name = "for",
			       .is_repeated = true,
			       .arguments = { { .type = CONF_DURATION, .name = "TIME" },
					      { .type = CONF_CHOICE,
						.name = "WHO",
						.choices = "cats dogs",
						.is_optional = true } },
			       .help = "how long" } },
		.help = "A room.",
		.unit = "",
		.default_value = "none",
		.example = "room a b open",
	},
};

static const struct conf_schema second_rows[] = {
	{
		.name = "limits",
		.inside = ",room",
		.block = CONF_BLOCK_PAIRS,
		.help = "Pairs.",
		.unit = "",
		.default_value = "none",
		.example = "limits { size 1KB }",
	},
	{
		.name = "size",
		.inside = "limits",
		.is_single = true,
		.arguments = { { .type = CONF_SIZE, .name = "SIZE" } },
		.help = "A size.",
		.unit = "KB",
		.default_value = "1KB",
		.example = "size 1KB",
	},
	{ .name = "door red",
	  .inside = "room",
	  .help = "Red.",
	  .unit = "",
	  .default_value = "-",
	  .example = "door red" },
	{ .name = "door blue",
	  .inside = "room",
	  .help = "Blue.",
	  .unit = "",
	  .default_value = "-",
	  .example = "door blue" },
};

static const struct conf_schema *const tables[] = { first_rows, second_rows };
static const size_t counts[] = { ARRAY_LEN(first_rows), ARRAY_LEN(second_rows) };
static const struct conf_language language = { tables, counts, 2 };

struct world {
	struct arena arena;
	struct conf_errors errors;
	struct conf_tree *tree;
	int result;
};

static void build(struct world *world, const char *text)
{
	char line[500];
	struct writer writer = writer_of(line, sizeof(line));

	arena_init(&world->arena, 0);
	conf_errors_init(&world->errors, &world->arena);
	write_str(&writer, "portcullis 1\n");
	write_str(&writer, text);
	assert_int_equal(conf_parse(&world->arena, SPAN("t"), writer_done(&writer), NULL,
				    &world->errors, &world->tree),
			 0);
	world->result = conf_check(world->tree, &language, &world->errors);
}

static void test_values_reach_the_statement(void **state)
{
	struct world world;

	(void)state;
	build(&world, "table t { 1 2\n 3; 4 }\nroom a b open for 1s cats for 2s { door blue; "
		      "limits { size\n2KB } }");
	assert_int_equal(world.result, 0);
	const struct conf_statement *table = world.tree->first, *room = table->next;
	assert_true(conf_is(table, "table") && conf_is(room, "room") && !conf_is(room, "table"));
	assert_int_equal(table->list_count, 4);
	assert_int_equal(table->list[3].number, 4);
	assert_int_equal(room->argument_count, 2);
	assert_string_equal(room->arguments[1].text.ptr, "b");
	assert_non_null(conf_option(room, "open"));
	assert_int_equal(room->option_count, 3);
	assert_int_equal(room->options[1].value_count, 2);
	assert_int_equal(room->options[1].values[0].number, 1000000000);
	assert_int_equal(room->options[1].values[1].number, 0);
	assert_int_equal(room->options[2].value_count, 1);
	assert_true(conf_is(room->first, "door blue"));
	const struct conf_statement *limits = room->first->next;
	assert_true(conf_is(limits, "limits") && conf_is(limits->first, "size"));
	assert_int_equal(limits->first->arguments[0].number, 2048);
	assert_ptr_equal(limits->first->parent, limits);
	arena_fini(&world.arena);
}

static void test_faults(void **state)
{
	static const struct {
		const char *text, *message, *nearest;
		size_t count;
	} rows[] = {
		{ "rom a", "unknown statement `rom`", "room", 1 },
		{ "room",
		  "NAME is missing: write `room NAME… [open] [for TIME [cats|dogs]] [{ … }]`", "",
		  1 },
		{ "room a { door }", "needs one more word", "blue", 1 },
		{ "room a { door bleu }", "knows no `bleu`", "blue", 1 },
		{ "room a { dor blue }", "unknown statement", "door", 1 },
		{ "room a open open", "stands twice", "", 1 },
		{ "room a for", "TIME is missing", "", 1 },
		{ "room a for 1s cots", "no WHO", "cats", 1 },
		{ "room a for 1s cats dogs", "does not belong here", "", 1 },
		{ "door red", "`door` stands in a `room` block", "", 1 },
		{ "size 1KB", "`size` stands in a `limits` block", "", 1 },
		{ "table t", "needs a block", "", 1 },
		{ "table t { 1 x 2 y }", "`x` is no NUMBER", "", 2 },
		{ "table t { 1 { } }", "holds words", "", 1 },
		{ "limits { size 1KB size 2KB }", "once", "", 1 },
		{ "limits { size }", "SIZE is missing", "", 1 },
		{ "limits x { }", "does not belong here", "", 1 },
		{ "room a { x1; y2; z3 }\nq4", "unknown statement `x1`", "", 4 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct world world;

		build(&world, rows[i].text);
		const struct conf_error *error = &world.errors.list[0];
		assert_int_equal(world.result, CONF_FAULTY);
		assert_int_equal(world.errors.error_count, rows[i].count);
		if (span_find(error->message, span_str(rows[i].message)) == error->message.len)
			fail_msg("%s: %.*s", rows[i].text, SPAN_ARG(error->message));
		assert_true(span_equal(error->nearest, span_str(rows[i].nearest)));
		arena_fini(&world.arena);
	}
}

static void test_quoted_words_are_no_options(void **state)
{
	struct world world;

	(void)state;
	build(&world, "room a \"open\"");
	assert_int_equal(world.result, 0);
	assert_int_equal(world.tree->first->argument_count, 2);
	assert_null(conf_option(world.tree->first, "open"));
	arena_fini(&world.arena);
}

static void test_manual(void **state)
{
	char buf[2000];
	struct writer writer = writer_of(buf, sizeof(buf) - 1);

	(void)state;
	conf_schema_write_manual(&first_rows[1], &writer);
	buf[writer_done(&writer).len] = 0;
	assert_string_equal(buf, "### room\n\n```\nroom NAME… [open] [for TIME [cats|dogs]] [{ … "
				 "}]\n```\n\nA room.\n\n"
				 "- stands in: the file itself\n- default: none\n- `open`: no "
				 "door\n- `for`: how long\n\n"
				 "Example: `room a b open`\n\n");
	assert_ptr_equal(conf_schema_find(&language, "limits", ""), &second_rows[0]);
	assert_ptr_equal(conf_schema_find(&language, "limits", "room"), &second_rows[0]);
	assert_null(conf_schema_find(&language, "limits", "table"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_reach_the_statement),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_quoted_words_are_no_options),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
