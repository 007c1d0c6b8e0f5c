/* limit: what lines about connections and bandwidth mean, and what is said where they mean nothing. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "portcullis 1\nlisten 127.0.0.1:1 plain serve\ntable near { 10.0.0.0/8 }\n"
#define SITE(body) HEAD "site a.test { " body "\n respond 200 }"
#define GATE(body) HEAD "firewall { " body " }\n site a.test { respond 200 }"

struct world {
	struct arena scratch, arena;
	struct conf_errors errors;
	struct conf_tree *tree;
	const struct snapshot *snapshot;
	int result;
	char output[16384];
};

static void build(struct world *world, const char *text)
{
	struct snapshot_options options = { .implied_tls_port = 443 };
	struct writer writer = writer_of(world->output, sizeof(world->output) - 1);

	memset(world, 0, sizeof(*world));
	arena_init(&world->scratch, 0);
	arena_init(&world->arena, 0);
	conf_errors_init(&world->errors, &world->scratch);
	world->result = conf_parse(&world->scratch, SPAN("/e/t.conf"), span_str(text), NULL,
				   &world->errors, &world->tree);
	if (world->result == 0)
		world->result = snapshot_compile(world->tree, &options, &world->arena,
						 &world->errors, &world->snapshot);
	assert_true(world->result >= 0);
	conf_errors_write(world->tree, &world->errors, &writer);
}

static void drop(struct world *world)
{
	arena_fini(&world->arena);
	arena_fini(&world->scratch);
}

/* Line 4 is the one that is at fault. */
static const struct {
	const char *text;
	uint32_t column;
	const char *message, *nearest;
} faults[] = {
	{ SITE("limit connections"), 21, "N is missing", NULL },
	{ SITE("limit conections 5"), 21, "knows no `conections`", "connections" },
	{ SITE("limit connections x"), 33, "digits alone", NULL },
	{ SITE("limit connections 0"), 33, "N is 1 to 1000000", NULL },
	{ SITE("limit connections 5 per site"), 39, "one of: ip", "ip" },
	{ SITE("limit connections 5 from near"), 40, "<near>", NULL },
	{ SITE("limit connections 5 from <far>"), 40, "no table `far`", NULL },
	{ SITE("limit connections 5 per ip on a"), 45, "starts with /", NULL },
	/* One count cannot be held to two numbers. */
	{ SITE("limit connections 5 per ip; limit connections 6 per ip"), 43, "stands twice",
	  NULL },
	{ GATE("limit connections 5 per ip on /a"), 39, "has no path yet", NULL },
	{ GATE("limit requests 5/s"), 12, "stands in a `site`", NULL },
	{ GATE("limit connections 1; limit connections 1 per ip; limit connections 1 from <near>; "
	       "limit connections 1 not from <near>; limit connections 1 per ip from <near>"),
	  131, "at most 4 such lines", NULL },
	{ SITE("firewall { }"), 15, "stands outside of all blocks", NULL },
	{ SITE("limit bandwidth"), 21, "RATE is missing", NULL },
	{ SITE("limit bandwith 1MB/s per ip"), 21, "knows no `bandwith`", "bandwidth" },
	{ SITE("limit bandwidth 1MB per ip"), 31, "as in 1MB/s", NULL },
	{ SITE("limit bandwidth 1MB/min per ip"), 31, "as in 1MB/s", NULL },
	{ SITE("limit bandwidth 1000/s per ip"), 31, "as in 1MB/s", NULL },
	{ SITE("limit bandwidth 1B/s per ip"), 31, "1KB/s to 10GB/s", NULL },
	{ SITE("limit bandwidth 11GB/s per ip"), 31, "1KB/s to 10GB/s", NULL },
	{ SITE("limit bandwidth 1MB/s"), 15, "`per connection` or `per ip`", NULL },
	{ SITE("limit bandwidth 1MB/s per client"), 41, "one of: connection ip", NULL },
	{ SITE("limit bandwidth 1MB/s burst 5 per ip"), 43, "needs its unit", NULL },
	{ SITE("limit bandwidth 1KB/s burst 1GB per ip"), 43, "within a day", NULL },
	{ SITE("limit bandwidth 1MB/s per ip; limit  bandwidth 1MB/s per ip"), 45, "stands twice",
	  NULL },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct world world;

		build(&world, faults[i].text);
		const struct conf_error *error = &world.errors.list[0];
		if (world.errors.error_count != 1 || error->place.line != 4 ||
		    error->place.column != faults[i].column ||
		    !strstr(world.output, faults[i].message) ||
		    (faults[i].nearest && !span_equal(error->nearest, span_str(faults[i].nearest))))
			fail_msg("%s\n%s", faults[i].text, world.output);
		drop(&world);
	}
}

static void test_meaning(void **state)
{
	static const char text[] = HEAD
		"firewall { limit connections 128 per ip not from <near>; limit connections 9 }\n"
		"site a.test {\n limit connections 4 per ip on /a*\n"
		" limit bandwidth 1MB/s burst 10MB per connection\n"
		" limit bandwidth 64KB/s per ip on /b from <near>\n"
		" route /r/* { limit connections 2 on /x; limit bandwidth 2MB/s per ip; respond "
		"200 }\n}";
	struct world world;

	(void)state;
	build(&world, text);
	if (world.result)
		fail_msg("%s", world.output);
	const struct snapshot *snapshot = world.snapshot;
	const struct snapshot_site *site = &snapshot->sites[0];
	const struct snapshot_block *block = site->routes[0].block;
	const struct snapshot_bandwidth_limit *bandwidth = site->bandwidth_limits.items;

	assert_true(snapshot->counts_connections);
	assert_int_equal(snapshot->gate.count, 2);
	assert_int_equal(snapshot->gate.items[0].most, 128);
	assert_true(snapshot->gate.items[0].is_per_ip && snapshot->gate.items[0].from.is_not);
	assert_false(snapshot->gate.items[1].is_per_ip);
	assert_int_equal(site->connection_limits.count, 1);
	assert_int_equal(block->connection_limits.count, 1);
	assert_int_equal(site->bandwidth_limits.count, 2);
	assert_int_equal(bandwidth[0].rate, 1 << 20);
	assert_int_equal(bandwidth[0].burst_ns, UINT64_C(10000000000));
	assert_false(bandwidth[0].is_per_ip);
	assert_int_equal(bandwidth[1].burst_ns, 199996948); /* a fifth of a second, whole bytes */
	assert_true(bandwidth[1].is_per_ip);
	assert_int_equal(block->bandwidth_limits.items[0].rate, 2 << 20);
	drop(&world);
}

/* Another number is the same count; another path, table or place is another. */
static void test_ids(void **state)
{
	static const char *const lines[] = {
		"limit connections 5 per ip",
		"limit connections 5",
		"limit connections 5 per ip on /a",
		"limit connections 5 per ip from <near>",
		"limit connections 5 per ip not from <near>",
	};
	uint64_t ids[ARRAY_LEN(lines)];
	char text[512];
	struct world world;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		(void)snprintf(text, sizeof(text), HEAD "site a.test { %s; respond 200 }",
			       lines[i]);
		build(&world, text);
		ids[i] = world.snapshot->sites[0].connection_limits.items[0].id;
		for (size_t j = 0; j < i; j++)
			assert_true(ids[i] != ids[j]);
		drop(&world);
	}
	build(&world, SITE("limit connections 77 per ip"));
	assert_int_equal(world.snapshot->sites[0].connection_limits.items[0].id, ids[0]);
	drop(&world);
	build(&world, HEAD "site b.test { limit connections 5 per ip; respond 200 }");
	assert_true(world.snapshot->sites[0].connection_limits.items[0].id != ids[0]);
	drop(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_meaning),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
