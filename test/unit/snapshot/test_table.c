/* table: which addresses are in it, where they may come from, and who means it. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct world {
	struct arena scratch, arena;
	struct conf_errors errors;
	struct conf_tree *tree;
	const struct snapshot *snapshot;
	int result;
	char output[16384];
};

/* What the language is told of files. */
static struct span file_text;
static int reads;

static int read_file(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	(void)owner;
	reads++;
	*ret_identity = 0;
	*ret_text = file_text;
	return span_equal(path, SPAN("/e/lists/cdn.txt")) ? 0 : -ENOENT;
}

static const struct conf_functions functions = { .read = read_file };

static void compile(struct world *world)
{
	struct snapshot_options options = { .implied_tls_port = 443 };
	struct writer writer = writer_of(world->output, sizeof(world->output) - 1);

	if (world->result == 0)
		world->result = snapshot_compile(world->tree, &options, &world->arena,
						 &world->errors, &world->snapshot);
	assert_true(world->result >= 0);
	conf_errors_write(world->tree, &world->errors, &writer);
}

static void begin(struct world *world)
{
	memset(world, 0, sizeof(*world));
	arena_init(&world->scratch, 0);
	arena_init(&world->arena, 0);
	conf_errors_init(&world->errors, &world->scratch);
}

static void build(struct world *world, struct span text)
{
	begin(world);
	world->result = conf_parse(&world->scratch, SPAN("/e/t.conf"), text, &functions,
				   &world->errors, &world->tree);
	compile(world);
}

static void drop(struct world *world)
{
	arena_fini(&world->arena);
	arena_fini(&world->scratch);
}

static struct conf_address address_of(const char *text)
{
	struct conf_address address;

	assert_true(conf_address_parse(span_str(text), &address));
	return address;
}

static bool has(const struct snapshot_table *table, const char *text)
{
	struct conf_address address = address_of(text);

	return snapshot_table_has(table, &address);
}

#define SITE "\nsite a.test { respond 200 }\n"

static void test_members(void **state)
{
	static const char text[] =
		"portcullis 1\n"
		"table t { 192.0.2.0/24 192.0.2.7 10.0.0.0/8 10.1.0.0/16 198.51.100.9\n"
		"2001:db8:10::/48; 2001:db8:10:1::/64 ::1 ::ffff:203.0.113.0/120 }\n"
		"table none { }\ntable all4 { 0.0.0.0/0 }\ntable all6 { ::/0 }" SITE;
	static const char *const in[] = {
		"192.0.2.0",
		"192.0.2.255",
		"10.0.0.0",
		"10.1.2.3",
		"10.255.255.255",
		"198.51.100.9",
		"2001:db8:10::",
		"2001:db8:10:ffff:ffff:ffff:ffff:ffff",
		"::1",
		"203.0.113.255",
		"::ffff:10.200.0.1",
		"::ffff:203.0.113.1",
	};
	static const char *const out[] = {
		"192.0.1.255",   "192.0.3.0",         "9.255.255.255", "11.0.0.0", "198.51.100.8",
		"198.51.100.10", "2001:db8:f:ffff::", "2001:db8:11::", "::",       "::2",
		"203.0.112.255", "::ffff:192.0.3.0",  "::192.0.2.7",
	};
	struct world world;

	(void)state;
	build(&world, span_str(text));
	assert_int_equal(world.result, 0);
	assert_int_equal(world.errors.warning_count, 0);
	assert_int_equal(world.snapshot->table_count, 4);
	const struct snapshot_table *t = world.snapshot->tables;
	/* Nested networks are one range. */
	assert_int_equal(t->range4_count, 4);
	assert_int_equal(t->range6_count, 2);
	for (size_t i = 0; i < ARRAY_LEN(in); i++) {
		if (!has(t, in[i]))
			fail_msg("%s is not in it", in[i]);
		assert_false(has(t + 1, in[i]));
		assert_true(has(strchr(in[i], '.') ? t + 2 : t + 3, in[i]));
	}
	for (size_t i = 0; i < ARRAY_LEN(out); i++) {
		if (has(t, out[i]))
			fail_msg("%s is in it", out[i]);
	}
	/* All of IPv6 is no IPv4, in whatever clothes. */
	assert_false(has(t + 3, "::ffff:192.0.2.1"));
	assert_true(has(t + 2, "::ffff:192.0.2.1"));
	drop(&world);
}

/* Against one comparison after the other. */
static void test_many(void **state)
{
	enum { NETWORKS = 300, TRIES = 20000 };
	static struct conf_value networks[NETWORKS];
	struct conf_argument argument = { .type = CONF_NETWORK, .name = "CIDR" };
	uint64_t seed = 1;
	struct world world;
	struct arena arena;
	size_t inside = 0;

	(void)state;
	arena_init(&arena, 0);
	struct span text = SPAN("portcullis 1\ntable t {\n");
	for (size_t i = 0; i < NETWORKS; i++) {
		const char *reason;
		struct span line;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		/* Few first bytes, so that they overlap. */
		line = arena_format(&arena, "%u.%u.%u.%u/%u", (unsigned)(seed >> 60 & 7),
				    (unsigned)(seed >> 50 & 255), (unsigned)(seed >> 40 & 255),
				    (unsigned)(seed >> 30 & 255),
				    (unsigned)(8 + (seed >> 20) % 25));
		assert_int_equal(
			conf_value_parse(&arena, &argument, SPAN_NONE, line, &networks[i], &reason),
			0);
		text = arena_format(&arena, "%.*s%.*s\n", SPAN_ARG(text), SPAN_ARG(line));
	}
	text = arena_format(&arena, "%.*s}%s", SPAN_ARG(text), SITE);
	build(&world, text);
	assert_int_equal(world.result, 0);
	const struct snapshot_table *table = world.snapshot->tables;
	for (size_t i = 1; i < table->range4_count; i++)
		assert_true(table->ranges4[i - 1].last < table->ranges4[i].first);
	for (size_t i = 0; i < TRIES; i++) {
		struct conf_address address = { .family = 4 };
		bool is_in = false;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		for (size_t j = 0; j < 4; j++)
			address.bytes[j] = (uint8_t)(seed >> (60 - 9 * j));
		address.bytes[0] &= 7;
		for (size_t j = 0; j < NETWORKS && !is_in; j++) {
			uint32_t bits = (uint32_t)networks[j].number, a = 0, b = 0;

			for (size_t k = 0; k < 4; k++) {
				a = a << 8 | address.bytes[k];
				b = b << 8 | networks[j].address.bytes[k];
			}
			is_in = (a ^ b) >> (32 - bits) == 0;
		}
		assert_int_equal(snapshot_table_has(table, &address), is_in);
		inside += is_in;
	}
	assert_true(inside > 100 && inside < TRIES - 100);
	drop(&world);
	arena_fini(&arena);
}

/* ---- Files ------------------------------------------------------------------------------------- */

#define FROM_FILE "portcullis 1\ntable cdn file lists/cdn.txt\ntable again file lists/cdn.txt" SITE

static void test_file(void **state)
{
	struct world world, bundled;
	struct arena arena;
	uint64_t hash;

	(void)state;
	file_text = SPAN("# published by somebody\r\n192.0.2.0/24\r\n\r\n2001:db8::/32 # new\n");
	reads = 0;
	build(&world, SPAN(FROM_FILE));
	assert_int_equal(world.result, 0);
	/* Two tables, one question. */
	assert_int_equal(reads, 1);
	assert_int_equal(world.snapshot->table_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(has(&world.snapshot->tables[i], "192.0.2.1"));
		assert_true(has(&world.snapshot->tables[i], "2001:db8::1"));
		assert_false(has(&world.snapshot->tables[i], "192.0.3.1"));
	}
	hash = world.snapshot->text_hash;

	/* The bundle has what was read, whatever the file says by now. */
	arena_init(&arena, 0);
	struct span bundle = conf_bundle(world.tree, &arena);
	file_text = SPAN("198.51.100.0/24");
	begin(&bundled);
	bundled.result =
		conf_parse_bundle(&bundled.scratch, bundle, &bundled.errors, &bundled.tree);
	compile(&bundled);
	assert_int_equal(bundled.result, 0);
	assert_int_equal(reads, 1);
	assert_true(has(bundled.snapshot->tables, "192.0.2.1"));
	assert_true(bundled.snapshot->text_hash == hash);
	drop(&bundled);
	drop(&world);
	arena_fini(&arena);

	/* Another file is another configuration. */
	build(&world, SPAN(FROM_FILE));
	assert_true(has(world.snapshot->tables, "198.51.100.1"));
	assert_true(world.snapshot->text_hash != hash);
	drop(&world);
}

static const struct {
	const char *file, *text;
	const char *name; /* of the file that the fault is in */
	uint32_t line, column;
	const char *message;
} file_faults[] = {
	{ "192.0.2.0/24\n192.0.2.0/33\n", "table t file lists/cdn.txt", "cdn.txt", 2, 1,
	  "0 to 32 bits" },
	{ "192.0.2.0/24 {\n}\n", "table t file lists/cdn.txt", "cdn.txt", 1, 14, "no blocks" },
	{ "deny 192.0.2.0/24;\n", "table t file lists/cdn.txt", "cdn.txt", 1, 1,
	  "`deny` is no CIDR" },
	{ "192.0.2.0/24 \"\n", "table t file lists/cdn.txt", "cdn.txt", 1, 14, "" },
	{ "a\001b", "table t file lists/cdn.txt", "cdn.txt", 1, 2, "a control byte" },
	{ "", "table t file nowhere.txt", "t.conf", 2, 14, "cannot read /e/nowhere.txt" },
	{ "", "table t file", "t.conf", 2, 9, "PATH is missing" },
	{ "", "table t fil lists/cdn.txt", "t.conf", 2, 9, "does not belong" },
	{ "", "table t { 192.0.2.1 } ; table u", "t.conf", 2, 25, "in a block or in a file" },
	{ "", "table t file lists/cdn.txt { 192.0.2.1 }", "t.conf", 2, 9,
	  "in a block or in a file" },
};

static void test_faults_of_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(file_faults); i++) {
		struct world world;
		char text[256];
		struct writer writer = writer_of(text, sizeof(text));

		file_text = span_str(file_faults[i].file);
		write_format(&writer, "portcullis 1\n%s%s", file_faults[i].text, SITE);
		build(&world, writer_done(&writer));
		const struct conf_error *error = &world.errors.list[0];
		if (world.result != CONF_FAULTY || error->place.line != file_faults[i].line ||
		    error->place.column != file_faults[i].column ||
		    !strstr(world.output, file_faults[i].message) ||
		    !strstr(world.output, file_faults[i].name))
			fail_msg("%s\n%s", file_faults[i].text, world.output);
		drop(&world);
	}
}

/* One more than the limit `table-entries`, half of them from a file. */
static void test_entries(void **state)
{
	enum { HALF = CONF_LIST_MAX / 2 };
	struct arena arena;

	(void)state;
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_TABLE_ENTRIES].value, CONF_LIST_MAX);
	arena_init(&arena, 0);
	for (size_t more = 0; more < 2; more++) {
		size_t size = (size_t)CONF_LIST_MAX * 16;
		char *block = arena_array(&arena, char, size),
		     *file = arena_array(&arena, char, size);
		struct writer text = writer_of(block, size), list = writer_of(file, size);
		struct world world;

		write_str(&text, "portcullis 1\ntable big file lists/cdn.txt\ntable small {");
		for (unsigned i = 0; i < CONF_LIST_MAX + more; i++)
			write_format(&list, "10.%u.%u.%u\n", i / 65536, i / 256 % 256, i % 256);
		for (unsigned i = 0; i < HALF; i++)
			write_format(&text, " 10.0.%u.%u", i / 256, i % 256);
		write_str(&text, " }" SITE);
		assert_true(text.ok && list.ok);
		file_text = writer_done(&list);
		build(&world, writer_done(&text));
		assert_int_equal(world.result, more ? CONF_FAULTY : 0);
		if (more) {
			assert_non_null(
				strstr(world.output, "`table` holds more than 65536 words"));
			assert_int_equal(world.errors.list[0].place.line, CONF_LIST_MAX + 1);
		} else {
			assert_true(has(world.snapshot->tables, "10.0.255.255"));
			assert_false(has(world.snapshot->tables, "10.1.0.0"));
			assert_false(has(world.snapshot->tables + 1, "10.0.128.0"));
		}
		drop(&world);
	}
	arena_fini(&arena);
}

/* ---- Who means it ---------------------------------------------------------------------------------- */

#define IN_SITE(line) \
	"portcullis 1\ntable office { 192.0.2.0/24 }\nlisten 127.0.0.1:1 plain serve\n" \
	"site a.test {\n" line "\nrespond 200\n}"

static const struct {
	const char *text;
	uint32_t line, column, other_line;
	const char *message, *nearest;
} faults[] = {
	{ IN_SITE("trust forwarded from <ofice>"), 5, 22, 0, "no table `ofice`", "<office>" },
	{ IN_SITE("trust forwarded from <nobody>"), 5, 22, 0, "table nobody { CIDR… }", "" },
	{ IN_SITE("trust forwarded from office"), 5, 22, 0, "is written <name>", NULL },
	{ IN_SITE("trust forwarded from 192.0.2.0/24"), 5, 22, 0, "is written <name>", NULL },
	{ IN_SITE("trust forwarded by <office>"), 5, 17, 0, "one of: from", NULL },
	{ IN_SITE("trust forwarded from"), 5, 17, 0, "<TABLE> is missing", NULL },
	{ IN_SITE("trust forwrded from <office>"), 5, 7, 0, "knows no `forwrded`", "forwarded" },
	{ IN_SITE("trust"), 5, 1, 0, "needs one more word", "forwarded" },
	{ IN_SITE("trust forwarded from <office> field"), 5, 31, 0, "NAME is missing", NULL },
	{ IN_SITE("trust forwarded from <office> fild X"), 5, 31, 0, "does not belong", "field" },
	{ IN_SITE("trust forwarded from <office> field Host"), 5, 37, 0, "no field with addresses",
	  NULL },
	{ IN_SITE("trust forwarded from <office> field x-forwarded-proto"), 5, 37, 0,
	  "no field with addresses", NULL },
	{ IN_SITE("trust forwarded from <office> field X:Y"), 5, 37, 0, "no field with addresses",
	  NULL },
	{ IN_SITE("trust forwarded from <office>\ntrust forwarded from <office>"), 6, 1, 5,
	  "stands once", NULL },
	{ IN_SITE("proxy-protocol from <office>"), 5, 1, 0, "stands in a `listen` block", NULL },
	{ "portcullis 1\ntable a { }\nlisten *:443 { proxy-protocol from <b> }" SITE, 3, 36, 0,
	  "no table `b`", "" },
	{ "portcullis 1\ntable a { }\nlisten *:443 { proxy-protocol <a> }" SITE, 3, 31, 0,
	  "write `proxy-protocol from`", NULL },
	{ "portcullis 1\ntable a { }\nlisten *:443 { proxy-protcol from <a> }" SITE, 3, 16, 0,
	  "unknown statement", "proxy-protocol" },
	{ "portcullis 1\ntable a { }\nlisten *:443 { respond 200 }" SITE, 3, 16, 0,
	  "stands in a `site` block", NULL },
	{ "portcullis 1\ntable a { }\ntable a { }" SITE, 3, 7, 2, "a table `a` already", NULL },
	{ "portcullis 1\ntable a { 192.0.2.1/33 }" SITE, 2, 11, 0, "0 to 32 bits", NULL },
	{ "portcullis 1\ntable a { ::/129 }" SITE, 2, 11, 0, "0 to 128 bits", NULL },
	{ "portcullis 1\ntable a { 192.0.2.0/ }" SITE, 2, 11, 0, "is written 192.0.2.7", NULL },
	{ "portcullis 1\ntable a { 192.0.2 }" SITE, 2, 11, 0, "is written 192.0.2.7", NULL },
	{ "portcullis 1\ntable a { [::1] }" SITE, 2, 11, 0, "is written 192.0.2.7", NULL },
	{ "portcullis 1\ntable a { a.test }" SITE, 2, 11, 0, "is written 192.0.2.7", NULL },
	{ "portcullis 1\ntable { }" SITE, 2, 1, 0, "NAME is missing", NULL },
	{ "portcullis 1\ntable <a> { }" SITE, 2, 7, 0, "a name has letters", NULL },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct world world;

		build(&world, span_str(faults[i].text));
		const struct conf_error *error = &world.errors.list[0];
		if (world.result != CONF_FAULTY || world.errors.error_count != 1 ||
		    error->place.line != faults[i].line ||
		    error->place.column != faults[i].column ||
		    error->other.line != faults[i].other_line ||
		    !strstr(world.output, faults[i].message) ||
		    (faults[i].nearest && !span_equal(error->nearest, span_str(faults[i].nearest))))
			fail_msg("%s\n%s", faults[i].text, world.output);
		drop(&world);
	}
}

/* A table that is itself at fault is told of once, not by all who name it. */
static void test_a_faulty_table_is_told_of_once(void **state)
{
	struct world world;

	(void)state;
	build(&world, SPAN("portcullis 1\ntable office { 192.0.2.0/24 } { }\n"
			   "table other flie x\nsite a.test { trust forwarded from <other>\n"
			   "respond 200 }"));
	assert_int_equal(world.result, CONF_FAULTY);
	assert_null(strstr(world.output, "no table `other`"));
	drop(&world);
}

static void test_an_empty_table_is_warned_of(void **state)
{
	struct world world;

	(void)state;
	build(&world, SPAN(IN_SITE("trust forwarded from <none>") "\ntable none { }\n"));
	assert_int_equal(world.result, 0);
	assert_int_equal(world.errors.warning_count, 1);
	assert_int_equal(world.errors.list[0].place.line, 5);
	assert_non_null(strstr(world.output, "the table `none` is empty"));
	drop(&world);
}

static void test_meaning(void **state)
{
	struct world world;

	(void)state;
	build(&world,
	      SPAN("portcullis 1\n"
		   "listen 127.0.0.1:1 plain serve { proxy-protocol from <late> }\n"
		   "listen 127.0.0.1:2 plain serve { }\nlisten 127.0.0.1:3 plain serve\n"
		   "site a.test { respond 200; trust forwarded from <late> }\n"
		   "site b.test { respond 200; trust forwarded from <late> field forwarded }\n"
		   "site c.test { respond 200; trust forwarded from <late> field CF-Connecting-IP "
		   "}\n"
		   "site d.test { respond 200 }\ntable unused { }\n"
		   "table late { 10.0.0.1/8 }\n"));
	assert_int_equal(world.result, 0);
	/* What is rounded is said. */
	assert_int_equal(world.errors.warning_count, 1);
	assert_non_null(strstr(world.output, "`10.0.0.1/8` means 10.0.0.0/8"));
	const struct snapshot *s = world.snapshot;
	assert_ptr_equal(s->listeners[0].proxy_protocol, &s->tables[1]);
	assert_null(s->listeners[1].proxy_protocol);
	assert_null(s->listeners[2].proxy_protocol);
	assert_ptr_equal(s->sites[0].trust->table, &s->tables[1]);
	assert_int_equal(s->sites[0].trust->form, SNAPSHOT_TRUST_LIST);
	assert_true(span_equal(s->sites[0].trust->field, SPAN("X-Forwarded-For")));
	assert_int_equal(s->sites[1].trust->form, SNAPSHOT_TRUST_FORWARDED);
	assert_int_equal(s->sites[2].trust->form, SNAPSHOT_TRUST_LIST);
	assert_true(span_equal(s->sites[2].trust->field, SPAN("CF-Connecting-IP")));
	assert_null(s->sites[3].trust);
	drop(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_faults_of_files),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_a_faulty_table_is_told_of_once),
		cmocka_unit_test(test_an_empty_table_is_warned_of),
		cmocka_unit_test(test_meaning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
