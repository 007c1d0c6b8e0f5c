/* schema: every row explains itself, its example is right, and an example with one letter changed
 * is either right too or refused at the place that is wrong. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A whole file around one statement. */
static struct span wrap(struct arena *arena, const struct conf_schema *row, struct span statement)
{
	struct span inside = span_str(row->inside);
	struct span text;

	if (span_starts_with(inside, SPAN("site")))
		text = arena_format(arena,
				    "portcullis 1\nlisten 127.0.0.1:80 plain serve\n"
				    "table office { 192.0.2.0/24 }\nsite a.test {\n%.*s\n}\n",
				    SPAN_ARG(statement));
	else if (span_equal(inside, SPAN("route")))
		text = arena_format(arena,
				    "portcullis 1\nlisten 127.0.0.1:80 plain serve\n"
				    "site a.test { route /api/* {\nrespond 200\n%.*s\n} }\n",
				    SPAN_ARG(statement));
	else if (span_equal(inside, SPAN("listen")))
		text = arena_format(arena,
				    "portcullis 1\ntable office { 192.0.2.0/24 }\n"
				    "listen 127.0.0.1:80 plain serve {\n%.*s\n}\n",
				    SPAN_ARG(statement));
	else if (span_equal(inside, SPAN("limits")))
		text = arena_format(arena, "portcullis 1\nlimits {\n%.*s\n}\n",
				    SPAN_ARG(statement));
	else if (span_equal(inside, SPAN("upstream")))
		text = arena_format(arena,
				    "portcullis 1\nupstream a { origin 127.0.0.1:1\n%.*s\n}\n",
				    SPAN_ARG(statement));
	else
		text = arena_format(arena, "portcullis 1\n%.*s\n", SPAN_ARG(statement));
	assert_non_null(text.ptr);
	return text;
}

static int read_nothing(void *owner, struct span path, struct span *ret_text,
			uint64_t *ret_identity)
{
	(void)owner;
	(void)path;
	*ret_text = SPAN("");
	*ret_identity = 0;
	return 0;
}

/* Needs no public certificate, so that examples may name public sites. */
static int check(struct arena *arena, struct span text, char *buf, size_t size,
		 struct conf_errors *errors)
{
	struct snapshot_options options = { 0 };
	struct conf_functions functions = { .read = read_nothing };
	const struct snapshot *snapshot;
	struct conf_tree *tree = NULL;
	struct arena result_arena;
	struct writer writer = writer_of(buf, size - 1);

	conf_errors_init(errors, arena);
	arena_init(&result_arena, 0);
	int result = conf_parse(arena, SPAN("t.conf"), text, &functions, errors, &tree);
	assert_true(result >= 0);
	if (!result)
		result = snapshot_compile(tree, &options, &result_arena, errors, &snapshot);
	assert_true(result >= 0);
	conf_errors_write(tree, errors, &writer);
	buf[writer_done(&writer).len] = 0;
	arena_fini(&result_arena);
	return result;
}

static void test_rows_explain_themselves(void **state)
{
	(void)state;
	for (size_t t = 0; t < snapshot_language.table_count; t++) {
		for (size_t i = 0; i < snapshot_language.counts[t]; i++) {
			const struct conf_schema *row = &snapshot_language.tables[t][i];

			assert_true(row->name && row->name[0]);
			assert_true(row->inside && row->unit);
			assert_true(row->help && strlen(row->help) > 10);
			assert_true(row->help[strlen(row->help) - 1] == '.');
			assert_true(row->default_value && row->default_value[0]);
			assert_true(row->example && row->example[0]);
			for (size_t j = 0; j < CONF_OPTIONS_MAX && row->options[j].name; j++)
				assert_true(row->options[j].help && row->options[j].help[0]);
		}
	}
}

static void test_examples(void **state)
{
	(void)state;
	for (size_t i = 0; i < snapshot_language.counts[0]; i++) {
		const struct conf_schema *row = &snapshot_language.tables[0][i];
		struct conf_errors errors;
		struct arena arena;
		char buf[4096];

		arena_init(&arena, 0);
		struct span text = wrap(&arena, row, span_str(row->example));
		assert_int_equal(check(&arena, text, buf, sizeof(buf), &errors), 0);
		assert_int_equal(errors.error_count, 0);
		arena_fini(&arena);
	}
}

static void test_examples_with_one_letter_changed(void **state)
{
	static const char letters[] = { 'x', 'q', '0', '-', '/', '{', '"', '$', ' ' };
	size_t refused = 0, helped = 0, names = 0;

	(void)state;
	for (size_t i = 0; i < snapshot_language.counts[0]; i++) {
		const struct conf_schema *row = &snapshot_language.tables[0][i];
		size_t len = strlen(row->example), name_len = strlen(row->name);

		for (size_t at = 0; at < len; at++) {
			for (size_t j = 0; j < sizeof(letters); j++) {
				struct conf_errors errors;
				struct arena arena;
				char buf[8192];

				arena_init(&arena, 0);
				char *copy = arena_cstr(&arena, span_str(row->example));
				assert_non_null(copy);
				copy[at] = letters[j];
				struct span text = wrap(&arena, row, span_of(copy, len));
				int result = check(&arena, text, buf, sizeof(buf), &errors);
				refused += result != 0;
				/* Whatever was refused says where. */
				for (size_t k = 0; k < errors.count; k++)
					assert_true(errors.list[k].place.line > 0);
				/* A misspelt name gets the right one back. */
				if (at < name_len && j < 2 && row->example[at] != letters[j] &&
				    row->example[at] != ' ') {
					names++;
					assert_true(result != 0);
					helped += errors.list[0].nearest.len > 0;
				}
				arena_fini(&arena);
			}
		}
	}
	assert_true(refused > 1000);
	/* Two changed letters of a two-letter word cannot be guessed; nearly all others can. */
	assert_true(helped * 100 >= names * 95);
}

/* ---- The manual ------------------------------------------------------------------------------ */

static struct span manual(char *buf, size_t size)
{
	struct writer writer = writer_of(buf, size);

	for (size_t i = 0; i < snapshot_language.counts[0]; i++) {
		const struct conf_schema *row = &snapshot_language.tables[0][i];

		/* docs/limits.md has the limits. */
		if (strcmp(row->inside, "limits") != 0)
			conf_schema_write_manual(row, &writer);
	}
	assert_true(writer.ok);
	return writer_done(&writer);
}

/* `test_schema manual` prints what the manual's last part has to be. */
static void test_manual_is_fresh(void **state)
{
	static char text[65536], wanted[65536];
	char path[512];
	struct span here = span_str(__FILE__);
	size_t root = span_find(here, SPAN("test/unit/"));

	(void)state;
	struct writer writer = writer_of(path, sizeof(path) - 1);
	write_span(&writer, span_first(here, root));
	write_str(&writer, "docs/configuration.md");
	path[writer_done(&writer).len] = 0;
	FILE *file = fopen("docs/configuration.md", "r");
	if (!file)
		file = fopen(path, "r");
	assert_non_null(file);
	size_t len = fread(text, 1, sizeof(text), file);
	fclose(file);
	struct span entries = manual(wanted, sizeof(wanted));
	if (!span_ends_with(span_of(text, len), entries))
		fail_msg("docs/configuration.md is stale: its end is made by `%s manual`",
			 __FILE__);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_explain_themselves),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_examples_with_one_letter_changed),
		cmocka_unit_test(test_manual_is_fresh),
	};

	if (argc == 2 && strcmp(argv[1], "manual") == 0) {
		static char text[65536];
		struct span entries = manual(text, sizeof(text));
		return fwrite(entries.ptr, 1, entries.len, stdout) != entries.len;
	}

	return cmocka_run_group_tests(tests, NULL, NULL);
}
