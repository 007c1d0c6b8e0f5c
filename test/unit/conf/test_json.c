/* json: a tree as JSON and back, and what is no such JSON. */
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int read_json(struct arena *arena, struct span text, struct conf_errors *errors,
		     struct conf_tree **ret_tree)
{
	int result;

	conf_errors_init(errors, arena);
	assert_true(conf_is_json(text));
	result = conf_parse_json(arena, SPAN("/j/t.json"), text, NULL, errors, ret_tree);
	assert_true((result != 0) == (errors->error_count != 0));
	for (size_t i = 0; i < errors->count; i++)
		assert_true(errors->list[i].place.line > 0);
	return result;
}

static const char sample[] = "portcullis 1\na \"on\" b { c \"x\\n\\\"\\\\\\$\"; d { e \xc3\xa4 "
			     "\xf0\x9f\x92\xa9 \"\" } }\n"
			     "\"include\" f { }\n";

static void test_there_and_back(void **state)
{
	struct conf_errors errors;
	struct conf_tree *tree, *back;
	struct arena arena;
	struct span json, text, again;

	(void)state;
	arena_init(&arena, 0);
	conf_errors_init(&errors, &arena);
	assert_int_equal(
		conf_parse(&arena, SPAN("/c/t.conf"), span_str(sample), NULL, &errors, &tree), 0);
	json = conf_json(tree, &arena);
	assert_int_equal(read_json(&arena, json, &errors, &back), 0);
	assert_int_equal(conf_text(tree, &arena, &text), 0);
	assert_false(conf_is_json(text));
	/* The file that the statements stood in is another than the JSON: a comment names it. */
	assert_int_equal(conf_text(back, &arena, &again), 0);
	assert_true(span_starts_with(again, SPAN("portcullis 1\n# /c/t.conf\na \"on\" b {\n")));
	assert_true(span_ends_with(again, span_skip(text, sizeof("portcullis 1"))));
	assert_true(span_equal(conf_json(back, &arena), json));
	assert_true(back->first->words[1].is_quoted && !back->first->words[2].is_quoted);
	assert_int_equal(back->first->first->next->place.line, 2);
	arena_fini(&arena);
}

static void test_by_hand(void **state)
{
	static const char text[] =
		" {\"statements\":[{\"words\":[\"a\",\"\\u00e4\\ud83d\\udca9\\/\"],"
		"\n \"block\":[]},{\"words\":[\"b\"]}],\r\n\t\"portcullis\" : 1} ";
	struct conf_errors errors;
	struct conf_tree *tree;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(read_json(&arena, span_str(text), &errors, &tree), 0);
	assert_true(tree->first->has_block && !tree->first->first);
	assert_string_equal(tree->first->words[1].text.ptr, "\xc3\xa4\xf0\x9f\x92\xa9/");
	/* Without `file` and `line` its place is in the JSON. */
	assert_int_equal(tree->first->next->place.line, 2);
	assert_int_equal(tree->first->next->place.column, 14);
	arena_fini(&arena);
}

#define ONE(statement) "{\"portcullis\":1,\"statements\":[" statement "]}"

static const char *const faults[] = {
	"{",
	"{}",
	"{\"portcullis\":1",
	"{\"portcullis\":2,\"statements\":[]}",
	"{\"portcullis\":1.5}",
	"{\"portcullis\":-1}",
	"{\"portcullis\":99999999999}",
	"{\"portcullis\":1,}",
	"{\"portcullis\":1 \"statements\":[]}",
	"{\"portcullis\":1}x",
	"{\"other\":1}",
	"{\"portcullis\":1,\"statements\":[],\"statements\":[]}",
	ONE("{}"),
	ONE("[]"),
	ONE("{\"words\":[]}"),
	ONE("{\"words\":[1]}"),
	ONE("{\"words\":\"a\"}"),
	ONE("{\"words\":[\"a\"],\"words\":[\"b\"]}"),
	ONE("{\"words\":[\"a\" \"b\"]}"),
	ONE("{\"words\":[\"a\",]}"),
	ONE("{\"words\":[\"a\"],\"quoted\":[1]}"),
	ONE("{\"quoted\":[0],\"words\":[\"a\"]}"),
	ONE("{\"words\":[\"a\"],\"block\":{}}"),
	ONE("{\"words\":[\"a\"],\"block\":[],\"block\":[]}"),
	ONE("{\"words\":[\"a\"],\"place\":1}"),
	ONE("{\"words\":[\"a\\x\"]}"),
	ONE("{\"words\":[\"a\\u12\"]}"),
	ONE("{\"words\":[\"a\\ud800\"]}"),
	ONE("{\"words\":[\"a\\udc00\\ud800\"]}"),
	ONE("{\"words\":[\"a\\u0000\"]}"),
	ONE("{\"words\":[\"a\\r\"]}"),
	ONE("{\"words\":[\"a\n\"]}"),
	ONE("{\"words\":[\"include\",\"x\"]}"),
	ONE("{\"words\":[\"portcullis\",\"1\"],\"quoted\":[0]}"),
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct conf_errors errors;
		struct conf_tree *tree;
		struct arena arena;

		arena_init(&arena, 0);
		if (read_json(&arena, span_str(faults[i]), &errors, &tree) != CONF_FAULTY)
			fail_msg("no fault: %s", faults[i]);
		arena_fini(&arena);
	}
}

static void test_too_deep(void **state)
{
	static char text[4096];
	struct writer writer = writer_of(text, sizeof(text));
	struct conf_errors errors;
	struct conf_tree *tree;
	struct arena arena;

	(void)state;
	write_str(&writer, "{\"portcullis\":1,\"statements\":[");
	for (int i = 0; i < CONF_BLOCK_DEPTH_MAX + 1; i++)
		write_str(&writer, "{\"words\":[\"a\"],\"block\":[");
	for (int i = 0; i < CONF_BLOCK_DEPTH_MAX + 1; i++)
		write_str(&writer, "]}");
	write_str(&writer, "]}");
	arena_init(&arena, 0);
	assert_int_equal(read_json(&arena, writer_done(&writer), &errors, &tree), CONF_FAULTY);
	arena_fini(&arena);
}

/* Nothing of it may do worse than be refused. */
static void test_every_prefix_and_corruption(void **state)
{
	static const char text[] =
		ONE("{\"words\":[\"a\",\"\\u00e4\"],\"quoted\":[1],\"file\":\"/f\","
		    "\"line\":3,\"block\":[{\"words\":[\"b\"]}]}");
	size_t right = 0;

	(void)state;
	for (size_t at = 1; at < sizeof(text); at++) {
		for (int byte = -1; byte < 256; byte++) {
			struct conf_errors errors;
			struct conf_tree *tree;
			struct arena arena;
			char copy[sizeof(text)];

			memcpy(copy, text, sizeof(copy));
			if (byte >= 0)
				copy[at] = (char)byte;
			arena_init(&arena, 0);
			right += read_json(&arena, span_of(copy, byte < 0 ? at : sizeof(text) - 1),
					   &errors, &tree) == 0;
			arena_fini(&arena);
		}
	}
	assert_true(right > sizeof(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_too_deep),
		cmocka_unit_test(test_every_prefix_and_corruption),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
