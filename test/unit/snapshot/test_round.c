/* round: every configuration of the manual, and 500 that are drawn, mean the same after they were laid out, and after they
 * were JSON. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool get_environment(void *owner, struct span name, struct span *ret_value)
{
	(void)owner;
	*ret_value = name;
	return true;
}

static int read_words(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	(void)owner;
	(void)path;
	(void)ret_identity;
	*ret_text = SPAN("192.0.2.0/24");
	return 0;
}

/* An `include` finds nothing, and says so. */
static const struct conf_functions functions = { .environment = get_environment,
						 .read = read_words };

static uint64_t hash_of(struct conf_tree *tree)
{
	struct snapshot_options options = { .implied_tls_port = 443, .implied_plain_port = 80 };
	const struct snapshot *snapshot = NULL;
	struct conf_errors errors;
	struct arena arena;
	uint64_t hash = 0;

	arena_init(&arena, 0);
	conf_errors_init(&errors, tree->arena);
	if (snapshot_compile(tree, &options, &arena, &errors, &snapshot) == 0)
		hash = snapshot->text_hash;
	arena_fini(&arena);
	return hash;
}

static struct conf_tree *parse(struct arena *arena, struct span text)
{
	struct conf_errors errors;
	struct conf_tree *tree;

	conf_errors_init(&errors, arena);
	if (conf_parse(arena, SPAN("/e/t.conf"), text, &functions, &errors, &tree) != 0)
		return NULL;
	return tree;
}

/* Counts those that compile. */
static void go_round(struct span text, size_t *parsed, size_t *compiled)
{
	struct conf_errors errors;
	struct conf_tree *tree, *laid_out, *back, *unused;
	struct arena arena;
	struct span once, twice, json, plain;

	arena_init(&arena, 0);
	tree = parse(&arena, text);
	if (tree) {
		(*parsed)++;
		conf_errors_init(&errors, &arena);
		assert_int_equal(conf_format(&arena, SPAN("t"), text, &errors, &unused, &once), 0);
		assert_int_equal(conf_format(&arena, SPAN("t"), once, &errors, &unused, &twice), 0);
		assert_true(span_equal(once, twice));
		laid_out = parse(&arena, once);
		assert_non_null(laid_out);
		json = conf_json(tree, &arena);
		assert_non_null(json.ptr);
		assert_int_equal(conf_parse_json(&arena, SPAN("/e/t.json"), json, &functions,
						 &errors, &back),
				 0);
		assert_int_equal(conf_text(back, &arena, &plain), 0);
		struct conf_tree *again = parse(&arena, plain);
		assert_non_null(again);
		uint64_t hash = hash_of(tree);
		assert_true(hash_of(laid_out) == hash);
		assert_true(hash_of(back) == hash);
		assert_true(hash_of(again) == hash);
		*compiled += hash != 0;
	}
	arena_fini(&arena);
}

/* ---- The manual ------------------------------------------------------------------------------ */

static struct span read_page(struct arena *arena, const char *page)
{
	static const char here[] = __FILE__;
	size_t root = span_find(span_str(here), SPAN("test/unit/"));
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%.*s%s", (int)root, here, page);
	file = fopen(page, "r");
	if (!file)
		file = fopen(path, "r");
	if (!file)
		fail_msg("no page %s", page);
	char *text = arena_array(arena, char, 1 << 20);
	assert_non_null(text);
	size_t len = fread(text, 1, 1 << 20, file);
	fclose(file);
	return span_of(text, len);
}

static void test_the_manual(void **state)
{
	static const char *const pages[] = { "README.md", "docs/configuration.md",
					     "docs/behind.md" };
	size_t parsed = 0, compiled = 0;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		struct span rest = read_page(&arena, pages[i]), line;
		const char *begin = NULL;

		while (span_cut(&rest, '\n', &line)) {
			if (!span_starts_with(line, SPAN("```")))
				continue;
			if (begin) {
				struct span block = span_of(begin, (size_t)(line.ptr - begin));
				struct span whole =
					arena_format(&arena, "portcullis 1\n%.*s", SPAN_ARG(block));

				assert_non_null(whole.ptr);
				go_round(span_starts_with(block, SPAN("portcullis 1")) ? block
										       : whole,
					 &parsed, &compiled);
			}
			begin = begin ? NULL : line.ptr + line.len + 1;
		}
	}
	arena_fini(&arena);
	/* Some blocks are commands, and some are only what stands in a site. */
	assert_true(parsed > 20);
	assert_true(compiled > 2);
}

/* ---- Drawn ones ------------------------------------------------------------------------------ */

static uint64_t drawn;

static size_t draw(size_t count)
{
	drawn = hash_mix(drawn + UINT64_C(0x9e3779b97f4a7c15));
	return (size_t)(drawn % count);
}

/* What may stand between statements and words without a meaning. */
static void write_gap(struct writer *out)
{
	static const char *const gaps[] = { "\n",     ";",
					    "\n\n\n", " # a comment; { \" }\n",
					    "\r\n",   "\n  # own line\n",
					    " ; \n",  "\n\t" };

	write_str(out, gaps[draw(ARRAY_LEN(gaps))]);
}

/* The same words, laid out at random; quotes are left as they are. */
static void write_loosely(struct writer *out, const char *statement)
{
	bool in_quotes = false;

	for (; *statement; statement++) {
		in_quotes ^= *statement == '"' && statement[-1] != '\\';
		if (*statement == ' ' && !in_quotes)
			write_str(out, draw(3) ? " " : "\t  ");
		else
			write_byte(out, *statement);
	}
}

static const struct conf_schema *draw_row(const char *inside)
{
	for (;;) {
		const struct conf_schema *row =
			&snapshot_language.tables[0][draw(snapshot_language.counts[0])];

		if (strcmp(row->inside, inside) == 0)
			return row;
	}
}

static struct span draw_text(char *memory, size_t size)
{
	static const char *const names[] = { "a.test", "*.b.test", "\"c.test\"", "192.0.2.1",
					     "$D" };
	struct writer out = writer_of(memory, size);
	size_t count = draw(5);

	write_str(&out, draw(2) ? "# top\nportcullis 1\n" : "portcullis\t1\r\n");
	write_str(&out, "listen 127.0.0.1:80 plain serve\ntable office { 192.0.2.0/24\n::1 }\n");
	for (size_t i = 0; i < count; i++) {
		write_loosely(&out, draw_row("")->example);
		write_gap(&out);
	}
	count = draw(4);
	for (size_t i = 0; i < count; i++) {
		write_format(&out, "site %s x%zu.test {", names[i], i);
		write_str(&out, draw(2) ? " " : "\n\n");
		for (size_t j = draw(4); j > 0; j--) {
			write_loosely(&out, draw_row("site")->example);
			write_gap(&out);
		}
		write_str(&out, "\nrespond 200 \"on $X \\\" \\\\ \\n \\$\" on /x*; }");
		write_gap(&out);
	}
	assert_true(out.ok);
	return writer_done(&out);
}

static void test_drawn(void **state)
{
	enum { COUNT = 500, TRIES_MAX = 20000 };
	static char memory[65536];
	size_t parsed = 0, compiled = 0, tries = 0;

	(void)state;
	/* Statements that may stand once are drawn twice, too: only those that mean something count. */
	for (drawn = 1; compiled < COUNT && tries < TRIES_MAX; tries++)
		go_round(draw_text(memory, sizeof(memory)), &parsed, &compiled);
	assert_int_equal(parsed, tries);
	assert_int_equal(compiled, COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_manual),
		cmocka_unit_test(test_drawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
