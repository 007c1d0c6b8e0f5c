/* The table of ticket keys. Resumption itself is in test_session.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tls/tls_internal.h"

enum { NOW_S = 1800000000, HOUR_S = 3600, ACCEPT_S = 8 * HOUR_S };

static void rotate(struct tls_ticket_keys *table, int64_t now_s, uint8_t seed)
{
	uint8_t random[TLS_TICKET_KEY_RANDOM];

	memset(random, seed, sizeof(random));
	tls_ticket_keys_rotate(table, now_s, ACCEPT_S, random);
}

static bool finds(const struct tls_ticket_keys *table, uint8_t seed, int64_t now_s)
{
	struct tls_ticket_key key;
	uint8_t name[16];

	memset(name, seed, sizeof(name));
	return ticket_keys_find(table, name, now_s, &key) && key.secret[31] == seed;
}

static void test_rotation(void **state)
{
	struct tls_ticket_keys table = { 0 };
	struct tls_ticket_key key;

	(void)state;
	assert_false(ticket_keys_newest(&table, NOW_S, &key));
	assert_int_equal(tls_ticket_keys_due_s(&table, ACCEPT_S), 0);
	for (uint8_t hour = 0; hour < 20; hour++) {
		int64_t now_s = NOW_S + hour * HOUR_S;

		rotate(&table, now_s, (uint8_t)(hour + 1));
		assert_int_equal(tls_ticket_keys_due_s(&table, ACCEPT_S), now_s + HOUR_S);
		assert_true(ticket_keys_newest(&table, now_s, &key) && key.name[0] == hour + 1);
		for (uint8_t old = 0; old <= hour; old++)
			assert_int_equal(finds(&table, (uint8_t)(old + 1), now_s), hour - old < 8);
	}
	assert_int_equal(table.serial, 40);
	assert_false(finds(&table, 20, NOW_S + 27 * HOUR_S));
	assert_false(ticket_keys_newest(&table, NOW_S + 27 * HOUR_S, &key));
}

/* What is out of time leaves no byte; those behind it move up. */
static void test_expired_keys_are_wiped(void **state)
{
	struct tls_ticket_keys table = { 0 };
	static const struct tls_ticket_key empty;

	(void)state;
	rotate(&table, NOW_S, 1);
	rotate(&table, NOW_S + HOUR_S, 2);
	table.keys[0].accepted_until_s = NOW_S + HOUR_S + 1;
	rotate(&table, NOW_S + 2 * HOUR_S, 3);
	assert_int_equal(table.keys[1].name[0], 1);
	assert_memory_equal(&table.keys[2], &empty, sizeof(empty));
	rotate(&table, NOW_S + 100 * HOUR_S, 4);
	for (size_t i = 1; i < TLS_TICKET_KEYS_MAX; i++)
		assert_memory_equal(&table.keys[i], &empty, sizeof(empty));
}

static void test_replace(void **state)
{
	struct tls_ticket_keys table = { 0 };
	uint8_t random[TLS_TICKET_KEY_RANDOM];

	(void)state;
	memset(random, 9, sizeof(random));
	rotate(&table, NOW_S, 1);
	rotate(&table, NOW_S, 2);
	tls_ticket_keys_replace(&table, NOW_S, ACCEPT_S, random);
	assert_true(finds(&table, 9, NOW_S));
	assert_false(finds(&table, 1, NOW_S) || finds(&table, 2, NOW_S));
}

/* A writer that died in between: readers go without, the next rotation is due now and mends it. */
static void test_half_written(void **state)
{
	struct tls_ticket_keys table = { 0 };

	(void)state;
	rotate(&table, NOW_S, 1);
	table.serial++;
	assert_false(finds(&table, 1, NOW_S));
	assert_int_equal(tls_ticket_keys_due_s(&table, ACCEPT_S), 0);
	rotate(&table, NOW_S, 2);
	assert_int_equal(table.serial % 2, 0);
	assert_true(finds(&table, 1, NOW_S) && finds(&table, 2, NOW_S));
}

static void test_another_format(void **state)
{
	struct tls_ticket_keys table = { 0 };

	(void)state;
	rotate(&table, NOW_S, 1);
	table.format = 2;
	assert_false(finds(&table, 1, NOW_S));
	assert_int_equal(tls_ticket_keys_due_s(&table, ACCEPT_S), 0);
	rotate(&table, NOW_S, 2);
	assert_true(finds(&table, 2, NOW_S));
	assert_false(finds(&table, 1, NOW_S));
}

/* Any content is legal. */
static void test_any_content(void **state)
{
	struct tls_ticket_keys table;
	struct tls_ticket_key key;

	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		for (size_t k = 0; k < sizeof(table); k++)
			((uint8_t *)&table)[k] = (uint8_t)(i % 3 ? rand() : 0xff);
		table.format = i % 2 ? TLS_TICKET_KEYS_FORMAT : table.format;
		(void)ticket_keys_newest(&table, NOW_S, &key);
		(void)finds(&table, 1, NOW_S);
		(void)tls_ticket_keys_due_s(&table, i);
		if (i % 10 == 0)
			rotate(&table, NOW_S, 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_expired_keys_are_wiped),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_half_written),
		cmocka_unit_test(test_another_format),
		cmocka_unit_test(test_any_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
