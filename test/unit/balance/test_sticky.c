/* Clients that stay: whose value is whose, over keys that change and groups that do, and whom a choice keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "balance/balance.h"
#include "crypto/crypto.h"

enum { MOST = 4, SECOND = 1000000000 };

struct group {
	struct arena arena;
	struct balance balance;
	struct balance_origin origins[MOST];
	struct balance_member members[MOST];
	struct balance_sticky sticky;
};

static struct balance_sticky_keys table;

/* Each digit is a member's id. */
static void make(struct group *group, const char *ids)
{
	memset(group, 0, sizeof(*group));
	arena_init(&group->arena, 1 << 20);
	group->balance = (struct balance){ .method = BALANCE_ROUND_ROBIN,
					   .members = group->members,
					   .eject_after = 1,
					   .eject_for_ns = 10 * (uint64_t)SECOND };
	for (; *ids; ids++) {
		uint32_t i = group->balance.count++;

		group->origins[i].id = 1000u + (uint32_t)(*ids - '0');
		group->members[i] = (struct balance_member){ &group->origins[i], 1, 0, false, 0 };
	}
	assert_int_equal(balance_init(&group->balance, &group->arena), 0);
	assert_int_equal(balance_sticky_init(&group->sticky, &group->balance, &group->arena), 0);
}

static void end(struct group *group)
{
	arena_fini(&group->arena);
}

static void publish(const char *keys)
{
	uint8_t secrets[BALANCE_STICKY_KEYS][BALANCE_STICKY_SECRET];
	size_t count = strlen(keys);

	for (size_t i = 0; i < count; i++)
		memset(secrets[i], keys[i], sizeof(secrets[i]));
	balance_sticky_publish(&table, (const uint8_t(*)[BALANCE_STICKY_SECRET])secrets, count);
}

static int set_up(void **state)
{
	(void)state;
	memset(&table, 0, sizeof(table));
	return 0;
}

static void test_no_keys(void **state)
{
	struct group group;

	(void)state;
	make(&group, "12");
	assert_false(balance_sticky_update(&group.sticky, &table));
	assert_int_equal(balance_sticky_find(&group.sticky, SPAN("")), BALANCE_NONE);
	/* Any content is legal. */
	for (uint32_t i = 0; i < 64; i++) {
		memset(&table, (int)(i * 37 + 1), sizeof(table));
		table.serial = i;
		table.count = i % 5;
		if (i % 3)
			table.format = BALANCE_STICKY_FORMAT;
		(void)balance_sticky_update(&group.sticky, &table);
	}
	end(&group);
}

/* Values stand for origins, not for places: another group, or one in another order, knows them. */
static void test_values(void **state)
{
	static const uint32_t in_other[] = { BALANCE_NONE, 1, 0 };
	struct group one, other;
	char value[BALANCE_STICKY_VALUE];
	struct span given;

	(void)state;
	publish("a");
	make(&one, "123");
	make(&other, "320");
	assert_true(balance_sticky_update(&one.sticky, &table));
	assert_true(balance_sticky_update(&other.sticky, &table));
	for (uint32_t i = 0; i < 3; i++) {
		given = balance_sticky_value(&one.sticky, i);
		assert_int_equal(given.len, BALANCE_STICKY_VALUE);
		assert_int_equal(balance_sticky_find(&one.sticky, given), i);
		assert_int_equal(balance_sticky_find(&other.sticky, given), in_other[i]);
		/* Nothing near it is anybody's: each prefix, each digit another. */
		for (size_t len = 0; len < given.len; len++)
			assert_int_equal(balance_sticky_find(&one.sticky, span_first(given, len)),
					 BALANCE_NONE);
		for (size_t at = 0; at < given.len; at++) {
			memcpy(value, given.ptr, given.len);
			value[at] = value[at] == '0' ? '1' : '0';
			assert_int_equal(
				balance_sticky_find(&one.sticky, span_of(value, given.len)),
				BALANCE_NONE);
		}
	}
	end(&one);
	end(&other);
}

/* A new key: old values are known, new ones given; after the next they are void. */
static void test_rotation(void **state)
{
	struct group group;
	char first[BALANCE_STICKY_VALUE], second[BALANCE_STICKY_VALUE];
	uint32_t serial;

	(void)state;
	make(&group, "12");
	publish("a");
	serial = table.serial;
	publish("a");
	assert_int_equal(table.serial, serial);
	assert_true(balance_sticky_update(&group.sticky, &table));
	memcpy(first, balance_sticky_value(&group.sticky, 1).ptr, sizeof(first));

	publish("ba");
	assert_true(balance_sticky_update(&group.sticky, &table));
	memcpy(second, balance_sticky_value(&group.sticky, 1).ptr, sizeof(second));
	assert_memory_not_equal(first, second, sizeof(first));
	assert_int_equal(balance_sticky_find(&group.sticky, span_of(first, sizeof(first))), 1);
	assert_int_equal(balance_sticky_find(&group.sticky, span_of(second, sizeof(second))), 1);

	/* The writer died in between: what was known serves on. */
	table.serial |= 1;
	assert_true(balance_sticky_update(&group.sticky, &table));
	assert_int_equal(balance_sticky_find(&group.sticky, span_of(second, sizeof(second))), 1);

	publish("cb");
	assert_true(balance_sticky_update(&group.sticky, &table));
	assert_int_equal(balance_sticky_find(&group.sticky, span_of(first, sizeof(first))),
			 BALANCE_NONE);
	assert_int_equal(balance_sticky_find(&group.sticky, span_of(second, sizeof(second))), 1);
	end(&group);
}

static uint32_t choose(struct group *group, uint32_t own, struct balance_choice *choice)
{
	*choice = (struct balance_choice){ .now_ns = SECOND, .has_own = true, .own = own };
	return balance_choose(&group->balance, choice);
}

/* It stays with its own: a full one and a backup too; not with one that is away, nor after it failed there. */
static void test_choice(void **state)
{
	struct balance_choice choice;
	struct group group;

	(void)state;
	make(&group, "123");
	for (int i = 0; i < 5; i++)
		assert_int_equal(choose(&group, 1, &choice), 1);
	/* Who stays takes nobody else's turn. */
	for (uint32_t i = 0; i < 6; i++) {
		choice = (struct balance_choice){ .now_ns = SECOND };
		assert_int_equal(balance_choose(&group.balance, &choice), i % 3);
		assert_int_equal(choose(&group, 2, &choice), 2);
	}
	group.members[1].active_max = group.origins[1].active = 1;
	group.members[2].is_backup = true;
	assert_int_equal(choose(&group, 1, &choice), 1);
	/* It failed there: elsewhere, and not there again. */
	assert_int_equal(balance_choose(&group.balance, &choice), 0);
	assert_int_equal(choose(&group, 2, &choice), 2);

	group.origins[1].active = 0;
	balance_set_down(&group.origins[1], true, SECOND);
	assert_int_equal(choose(&group, 1, &choice), 0);
	balance_set_down(&group.origins[1], false, SECOND);
	assert_int_equal(choose(&group, 1, &choice), 1);
	for (int order = BALANCE_DRAIN; order <= BALANCE_DOWN; order++) {
		balance_set_order(&group.origins[1], (enum balance_order)order, SECOND);
		assert_int_equal(choose(&group, 1, &choice), 0);
	}
	balance_set_order(&group.origins[1], BALANCE_UP, SECOND);
	assert_true(balance_failed(&group.balance, 1, SECOND));
	assert_int_equal(choose(&group, 1, &choice), 0);
	/* Nobody is there at all. */
	for (int i = 0; i < 3; i++)
		balance_set_down(&group.origins[i], true, SECOND);
	assert_int_equal(choose(&group, 2, &choice), BALANCE_NONE);
	end(&group);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_no_keys, set_up),
		cmocka_unit_test_setup(test_values, set_up),
		cmocka_unit_test_setup(test_rotation, set_up),
		cmocka_unit_test_setup(test_choice, set_up),
	};

	crypto_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
