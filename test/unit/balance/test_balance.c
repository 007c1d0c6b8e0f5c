/* Each method by what it gives over many requests, and the states that take an origin out of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balance/balance.h"

enum { MOST = 8, SECOND = 1000000000 };

struct group {
	struct arena arena;
	struct balance balance;
	struct balance_origin origins[MOST];
	struct balance_member members[MOST];
	uint64_t random;
};

static uint64_t next_random(struct group *group)
{
	group->random = group->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return group->random ^ group->random >> 29;
}

/* weights: "5 1 1b 2x3" is four members, the third a backup, the last with at most 3 at once. */
static void make(struct group *group, enum balance_method method, const char *weights)
{
	char copy[64], *rest = copy, *word;

	memset(group, 0, sizeof(*group));
	arena_init(&group->arena, 1 << 22);
	group->random = 4711;
	group->balance = (struct balance){ .method = method, .members = group->members };
	(void)snprintf(copy, sizeof(copy), "%s", weights);
	while ((word = strsep(&rest, " "))) {
		uint32_t i = group->balance.count++;
		char *end;

		group->origins[i].id = 1000 + i;
		group->members[i].origin = &group->origins[i];
		group->members[i].weight = (uint32_t)strtoul(word, &end, 10);
		group->members[i].is_backup = *end == 'b';
		if (*end == 'x')
			group->members[i].active_max = (uint32_t)strtoul(end + 1, NULL, 10);
	}
	assert_int_equal(balance_init(&group->balance, &group->arena), 0);
}

static void end(struct group *group)
{
	arena_fini(&group->arena);
}

static uint32_t choose(struct group *group, uint64_t now_ns, uint64_t key)
{
	struct balance_choice choice = { .now_ns = now_ns,
					 .key = key,
					 .random = next_random(group) };

	return balance_choose(&group->balance, &choice);
}

/* The names of the chosen, a to h; `-`: nobody. */
static const char *choices(struct group *group, int count)
{
	static char names[64];

	for (int i = 0; i < count; i++) {
		uint32_t chosen = choose(group, SECOND, (uint64_t)i);

		names[i] = chosen == BALANCE_NONE ? '-' : (char)('a' + chosen);
	}
	names[count] = '\0';
	return names;
}

static void test_round_robin(void **state)
{
	static const struct {
		const char *weights, *expected;
	} rows[] = {
		{ "1", "aaaa" },      { "1 1 1", "abcabcabc" }, { "5 1 1", "aabacaaaabacaa" },
		{ "3 2", "ababaab" }, { "1 1b", "aaaa" },       { "256 1", "aaaaaaaa" },
	};
	struct group group;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		make(&group, BALANCE_ROUND_ROBIN, rows[i].weights);
		assert_string_equal(choices(&group, (int)strlen(rows[i].expected)),
				    rows[i].expected);
		end(&group);
	}
}

/* Nobody ends: each takes by its weight. Then one ends, and is next. */
static void test_least_conn(void **state)
{
	struct group group;

	(void)state;
	make(&group, BALANCE_LEAST_CONN, "1 2 1");
	for (int i = 0; i < 40; i++)
		group.origins[choose(&group, SECOND, 0)].active++;
	assert_int_equal(group.origins[0].active, 10);
	assert_int_equal(group.origins[1].active, 20);
	assert_int_equal(group.origins[2].active, 10);
	group.origins[2].active -= 3;
	for (int i = 0; i < 3; i++) {
		uint32_t chosen = choose(&group, SECOND, 0);

		assert_int_equal(chosen, 2);
		group.origins[chosen].active++;
	}
	end(&group);
	make(&group, BALANCE_LEAST_CONN, "1 1 1");
	assert_string_equal(choices(&group, 6), "abcabc");
	end(&group);
}

static void check_shares(struct group *group, const uint32_t *counts, uint32_t total)
{
	uint32_t weights = 0;

	for (uint32_t i = 0; i < group->balance.count; i++)
		weights += group->members[i].weight;
	for (uint32_t i = 0; i < group->balance.count; i++) {
		double expected = (double)total * group->members[i].weight / weights;

		if (fabs(counts[i] - expected) > expected / 4)
			fail_msg("member %u got %u of %.0f", i, counts[i], expected);
	}
}

static void test_random(void **state)
{
	enum { COUNT = 20000 };
	uint32_t counts[MOST] = { 0 };
	struct group group;

	(void)state;
	make(&group, BALANCE_RANDOM, "1 3 2");
	for (int i = 0; i < COUNT; i++) {
		uint32_t chosen = choose(&group, SECOND, 0);

		/* Under way for a while: of two the one with less to do is taken. */
		group.origins[chosen].active++;
		counts[chosen]++;
	}
	check_shares(&group, counts, COUNT);
	/* One that is far behind is never taken where another was drawn beside it. */
	for (uint32_t i = 0; i < 3; i++)
		group.origins[i].active = i == 1 ? 100000 : 0;
	for (int i = 0; i < 1000; i++)
		assert_int_not_equal(choose(&group, SECOND, 0), 1);
	end(&group);
}

/* Shares by weight; a key stays where it is; one that goes moves its own keys only, to all others; one that comes takes
 * from all of them; the members' order in the text does not matter. */
static void test_hash(void **state)
{
	enum { COUNT = 20000 };
	uint32_t counts[MOST] = { 0 }, moved_to[MOST] = { 0 };
	static uint32_t first[COUNT];
	struct group group, other;

	(void)state;
	make(&group, BALANCE_HASH, "1 2 1 1");
	for (uint32_t i = 0; i < COUNT; i++) {
		first[i] = choose(&group, SECOND, i * UINT64_C(0x9e3779b97f4a7c15));
		counts[first[i]]++;
	}
	check_shares(&group, counts, COUNT);
	balance_set_down(&group.origins[2], true, SECOND);
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t now = choose(&group, SECOND, i * UINT64_C(0x9e3779b97f4a7c15));

		assert_int_not_equal(now, 2);
		if (first[i] != 2)
			assert_int_equal(now, first[i]);
		else
			moved_to[now]++;
	}
	for (uint32_t i = 0; i < 4; i++)
		assert_true(i == 2 ? !moved_to[i] : moved_to[i] > counts[2] / 8);
	balance_set_down(&group.origins[2], false, SECOND);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(choose(&group, SECOND, i * UINT64_C(0x9e3779b97f4a7c15)),
				 first[i]);
	/* a and d change places. */
	make(&other, BALANCE_HASH, "1 2 1 1");
	other.origins[0].id = 1003;
	other.origins[3].id = 1000;
	assert_int_equal(balance_init(&other.balance, &other.arena), 0);
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t now = choose(&other, SECOND, i * UINT64_C(0x9e3779b97f4a7c15));

		assert_int_equal(other.origins[now].id, group.origins[first[i]].id);
	}
	end(&other);
	end(&group);
}

/* Every method: never one that is away; backups only where nobody else is there; full ones last; nobody twice. */
static void test_states(void **state)
{
	struct group group;

	(void)state;
	for (enum balance_method method = BALANCE_ROUND_ROBIN; method <= BALANCE_HASH; method++) {
		make(&group, method, "1 1x2 1b 1b");
		balance_set_down(&group.origins[0], true, SECOND);
		for (int i = 0; i < 20; i++)
			assert_int_equal(choose(&group, SECOND, (uint64_t)i << 58), 1);
		/* Full, and still the one: its queue decides, no backup. */
		group.origins[1].active = 2;
		assert_int_equal(choose(&group, SECOND, 0), 1);
		/* With another that has room it is passed over. */
		balance_set_down(&group.origins[0], false, SECOND);
		for (int i = 0; i < 20; i++)
			assert_int_equal(choose(&group, SECOND, (uint64_t)i << 58), 0);
		group.origins[0].is_down = group.origins[1].is_down = true;
		for (int i = 0; i < 20; i++)
			assert_true(choose(&group, SECOND, (uint64_t)i << 58) >= 2);
		group.origins[2].is_down = group.origins[3].is_down = true;
		assert_int_equal(choose(&group, SECOND, 0), BALANCE_NONE);
		balance_set_down(&group.origins[3], false, SECOND);
		assert_int_equal(choose(&group, SECOND, 0), 3);
		end(&group);
	}
}

/* Taken out by the operator: like one that is down, whatever checks say, and its return is a return. */
static void test_orders(void **state)
{
	struct group group;

	(void)state;
	for (enum balance_method method = BALANCE_ROUND_ROBIN; method <= BALANCE_HASH; method++) {
		struct balance_origin *first;

		make(&group, method, "1 1");
		first = &group.origins[0];
		group.balance.slow_start_ns = 10 * (uint64_t)SECOND;
		for (enum balance_order order = BALANCE_DRAIN; order <= BALANCE_DOWN; order++) {
			balance_set_order(first, order, SECOND);
			balance_set_down(first, true, SECOND);
			balance_set_down(first, false, SECOND);
			for (int i = 0; i < 20; i++)
				assert_int_equal(choose(&group, SECOND, (uint64_t)i << 58), 1);
		}
		/* The last that is there is not ejected for its sake. */
		group.balance.eject_after = 1;
		group.balance.eject_for_ns = SECOND;
		assert_false(balance_failed(&group.balance, 1, SECOND));
		balance_set_order(first, BALANCE_UP, 3 * (uint64_t)SECOND);
		assert_int_equal(first->returned_ns, 3 * (uint64_t)SECOND);
		/* Nothing was said before: nothing changes. */
		balance_set_order(first, BALANCE_UP, 4 * (uint64_t)SECOND);
		assert_int_equal(first->returned_ns, 3 * (uint64_t)SECOND);
		/* An ejection is forgotten by it. */
		assert_true(balance_failed(&group.balance, 0, 5 * (uint64_t)SECOND));
		assert_false(balance_is_available(first, 5 * (uint64_t)SECOND));
		balance_set_order(first, BALANCE_UP, 5 * (uint64_t)SECOND);
		assert_true(balance_is_available(first, 5 * (uint64_t)SECOND));
		end(&group);
	}
}

static void test_tries(void **state)
{
	struct group group;

	(void)state;
	for (enum balance_method method = BALANCE_ROUND_ROBIN; method <= BALANCE_HASH; method++) {
		struct balance_choice choice = { .now_ns = SECOND, .random = 1 };
		uint32_t seen = 0;

		make(&group, method, "1 1 1 1b");
		for (int i = 0; i < 4; i++) {
			uint32_t chosen;

			assert_true(balance_has_more(&group.balance, &choice));
			chosen = balance_choose(&group.balance, &choice);
			assert_true(chosen < 4);
			assert_int_equal(seen & 1u << chosen, 0);
			assert_int_equal(i == 3, chosen == 3);
			seen |= 1u << chosen;
			/* Others come between. */
			(void)choose(&group, SECOND, 0);
		}
		assert_false(balance_has_more(&group.balance, &choice));
		assert_int_equal(balance_choose(&group.balance, &choice), BALANCE_NONE);
		end(&group);
	}
}

static void test_ejection(void **state)
{
	struct group group;
	uint64_t now_ns = 100 * (uint64_t)SECOND;

	(void)state;
	make(&group, BALANCE_ROUND_ROBIN, "1 1");
	group.balance.eject_after = 3;
	group.balance.eject_for_ns = 10 * (uint64_t)SECOND;
	assert_false(balance_failed(&group.balance, 0, now_ns));
	assert_false(balance_failed(&group.balance, 0, now_ns));
	balance_succeeded(&group.origins[0]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(balance_failed(&group.balance, 0, now_ns), i == 2);
	/* Of its requests that are under way others fail too: that is no second ejection. */
	assert_false(balance_failed(&group.balance, 0, now_ns));
	for (int i = 0; i < 10; i++)
		assert_int_equal(choose(&group, now_ns, 0), 1);
	/* The last one stays, however it fails. */
	for (int i = 0; i < 10; i++)
		assert_false(balance_failed(&group.balance, 1, now_ns));
	assert_int_equal(choose(&group, now_ns, 0), 1);
	now_ns += 10 * (uint64_t)SECOND - 1;
	assert_false(balance_is_available(&group.origins[0], now_ns));
	assert_true(balance_is_available(&group.origins[0], ++now_ns));
	/* One more failure: out again, for twice as long. */
	assert_true(balance_failed(&group.balance, 0, now_ns));
	assert_false(balance_is_available(&group.origins[0], now_ns + 20 * (uint64_t)SECOND - 1));
	assert_true(balance_is_available(&group.origins[0], now_ns + 20 * (uint64_t)SECOND));
	now_ns += 20 * (uint64_t)SECOND;
	/* It answers: all is forgotten. */
	balance_succeeded(&group.origins[0]);
	assert_false(balance_failed(&group.balance, 0, now_ns));
	end(&group);
	/* A backup is somebody, too. */
	make(&group, BALANCE_ROUND_ROBIN, "1 1b");
	group.balance.eject_after = 1;
	group.balance.eject_for_ns = SECOND;
	assert_true(balance_failed(&group.balance, 0, now_ns));
	assert_int_equal(choose(&group, now_ns, 0), 1);
	end(&group);
}

/* Back from being down its share grows from nearly nothing to the whole over slow_start. */
static void test_slow_start(void **state)
{
	uint64_t start_ns = 50 * (uint64_t)SECOND;
	uint32_t shares[11] = { 0 };
	struct group group;

	(void)state;
	make(&group, BALANCE_ROUND_ROBIN, "1 1");
	group.balance.slow_start_ns = 10 * (uint64_t)SECOND;
	balance_set_down(&group.origins[1], true, start_ns);
	balance_set_down(&group.origins[1], false, start_ns);
	for (uint32_t second = 0; second <= 10; second++) {
		for (int i = 0; i < 1000; i++)
			shares[second] +=
				choose(&group, start_ns + second * (uint64_t)SECOND, 0) == 1;
		assert_true(second == 0 || shares[second] >= shares[second - 1]);
	}
	assert_true(shares[0] < 10);
	assert_true(shares[5] > 280 && shares[5] < 390); /* 1/2 beside 1 */
	assert_int_equal(shares[10], 500);
	/* Down already: that is no return. */
	balance_set_down(&group.origins[0], false, start_ns);
	assert_int_equal(group.origins[0].returned_ns, 0);
	end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_robin), cmocka_unit_test(test_least_conn),
		cmocka_unit_test(test_random),      cmocka_unit_test(test_hash),
		cmocka_unit_test(test_states),      cmocka_unit_test(test_tries),
		cmocka_unit_test(test_orders),      cmocka_unit_test(test_ejection),
		cmocka_unit_test(test_slow_start),
	};

	return cmocka_run_group_tests_name("balance", tests, NULL, NULL);
}
