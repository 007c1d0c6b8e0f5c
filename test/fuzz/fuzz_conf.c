/* A configuration is an operator's text, but `check` reads it with rights, and generated texts hold
 * what strangers typed. Properties: faults are counted and have places, a canonical text means the
 * same, a bundle reads back the same, what compiles holds together, and a text that was laid out means the same and is
 * laid out already. */
#include "snapshot/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A text that includes itself is read a few times: more of it finds nothing new and takes seconds. */
enum { READS_MAX = 4 };
struct source {
	struct span text;
	int reads;
};

static int read_file(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	struct source *source = owner;

	*ret_identity = 0;
	/* A list's file: the same whenever it is read, and from whichever folder. */
	struct span last = path;
	while (span_find_byte(last, '/') < last.len)
		last = span_skip(last, span_find_byte(last, '/') + 1);
	if (last.len % 4 == 3) {
		*ret_text = SPAN("192.0.2.0/24 # a\n2001:db8::/32 x");
		return 0;
	}
	*ret_text = source->text;
	return path.len % 2 && source->reads++ < READS_MAX ? 0 : -ENOENT;
}

static bool get_environment(void *owner, struct span name, struct span *ret_value)
{
	(void)owner;
	*ret_value = name;
	return name.len % 2 == 0;
}

static struct span write_all(const struct conf_tree *tree, struct arena *arena)
{
	struct span text = SPAN("portcullis 1\n");

	for (const struct conf_statement *s = tree->first; s; s = s->next) {
		struct span line = conf_canonical(s, true, arena);
		MUST(line.ptr);
		text = arena_format(arena, "%.*s%.*s\n", SPAN_ARG(text), SPAN_ARG(line));
		MUST(text.ptr);
	}
	return text;
}

static void compile(struct conf_tree *tree, struct arena *scratch, uint64_t *ret_hash)
{
	struct snapshot_options options = { .implied_tls_port = 443, .implied_plain_port = 80 };
	const struct snapshot *snapshot = NULL;
	static char memory[65536];
	struct writer writer = writer_of(memory, sizeof(memory));
	struct conf_errors errors;
	struct arena arena;

	arena_init(&arena, 0);
	conf_errors_init(&errors, scratch);
	int result = snapshot_compile(tree, &options, &arena, &errors, &snapshot);
	MUST(result >= 0);
	MUST((result != 0) == (errors.error_count != 0));
	for (size_t i = 0; i < errors.count; i++)
		MUST(errors.list[i].place.line > 0 && errors.list[i].place.column > 0);
	conf_errors_write(tree, &errors, &writer);
	*ret_hash = 0;
	if (result == 0) {
		MUST(snapshot_verify(snapshot, snapshot->size) == 0);
		*ret_hash = snapshot->text_hash;
		for (size_t i = 0; i < snapshot->site_count; i++) {
			const struct snapshot_site *site = &snapshot->sites[i];
			for (size_t j = 0; j < site->name_count; j++)
				MUST(snapshot_find_site(snapshot, site->names[j]) == site);
			struct http_request request = { .method_text = SPAN("GET"),
							.path = { .text = SPAN("/a/b.c") } };
			struct conf_address client = { .family = 4 };
			const struct snapshot_block *block;
			(void)snapshot_find_route(site, &request, &client, &block);
		}
	}
	arena_fini(&arena);
}

/* What conf_format() makes of a text is laid out already. */
static struct span format(struct arena *arena, struct span text)
{
	struct span once, twice;
	struct conf_errors errors;
	struct conf_tree *tree;

	conf_errors_init(&errors, arena);
	MUST(conf_format(arena, SPAN("f/x"), text, &errors, &tree, &once) == 0);
	MUST(conf_format(arena, SPAN("f/x"), once, &errors, &tree, &twice) == 0);
	MUST(span_equal(once, twice));
	return once;
}

/* JSON and back to text: bytes that are no UTF-8 change once, and then nothing does. */
static void go_round(const struct conf_tree *tree, struct arena *arena)
{
	struct conf_errors errors;
	struct conf_tree *back;
	struct span json, text;

	conf_errors_init(&errors, arena);
	json = conf_json(tree, arena);
	MUST(conf_parse_json(arena, SPAN("f/j"), json, NULL, &errors, &back) == 0);
	json = conf_json(back, arena);
	MUST(conf_parse_json(arena, SPAN("f/j"), json, NULL, &errors, &back) == 0);
	MUST(span_equal(conf_json(back, arena), json));
	MUST(conf_text(back, arena, &text) == 0);
	json = write_all(back, arena);
	MUST(conf_parse(arena, SPAN("f/x"), text, NULL, &errors, &back) == 0);
	MUST(span_equal(write_all(back, arena), json));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_of(data, size);
	struct source source = { .text = text };
	struct conf_functions functions = {
		.owner = &source,
		.read = read_file,
		.environment = get_environment,
	};
	struct conf_errors errors, again;
	struct conf_tree *tree, *second;
	uint64_t hash, second_hash;
	struct arena arena;

	/* Includes multiply, and long texts only repeat what short ones find. */
	if (size > 4096)
		return -1;
	arena_init(&arena, 0);
	conf_errors_init(&errors, &arena);
	int result = conf_parse(&arena, SPAN("f/x"), text, &functions, &errors, &tree);
	MUST(result == 0 || result == CONF_FAULTY);
	MUST((result != 0) == (errors.error_count != 0));
	for (size_t i = 0; i < errors.count; i++)
		MUST(errors.list[i].place.line > 0);
	struct span bundle = conf_bundle(tree, &arena);
	conf_errors_init(&again, &arena);
	MUST(conf_parse_bundle(&arena, bundle, &again, &second) == result);
	MUST(again.error_count == errors.error_count);
	if (result == 0) {
		struct span canonical = write_all(tree, &arena);
		conf_errors_init(&again, &arena);
		MUST(conf_parse(&arena, SPAN("f/x"), canonical, &functions, &again, &second) == 0);
		MUST(span_equal(write_all(second, &arena), canonical));
		/* Before it is compiled, as the command does it: pairs are put in order by that. */
		go_round(tree, &arena);
		compile(tree, &arena, &hash);
		compile(second, &arena, &second_hash);
		MUST(hash == second_hash);
		source.reads = 0;
		conf_errors_init(&again, &arena);
		MUST(conf_parse(&arena, SPAN("f/x"), format(&arena, text), &functions, &again,
				&second) == 0);
		MUST(span_equal(write_all(second, &arena), canonical));
	}
	conf_errors_init(&again, &arena);
	if (conf_is_json(text) &&
	    conf_parse_json(&arena, SPAN("f/j"), text, NULL, &again, &second) == 0)
		go_round(second, &arena);
	MUST(!conf_is_json(text) || result != 0);
	arena_fini(&arena);
	return 0;
}
