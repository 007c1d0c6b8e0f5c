/* Rates in simulated time: what passes, what is told to wait, and what a crowd does to those who are no part of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "firewall/firewall.h"

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define DAY (86400 * SECOND)

static const uint8_t key[FIREWALL_KEY_LEN] = "0123456789abcde";

static struct firewall_table *table_new(void)
{
	struct firewall_table *table = aligned_alloc(64, sizeof(*table));

	assert_non_null(table);
	memset(table, 0, sizeof(*table));
	return table;
}

static struct firewall_rate rate_of(uint64_t id, uint64_t number, uint64_t period_ns,
				    uint64_t burst)
{
	struct firewall_rate rate;

	assert_true(firewall_rate_init(&rate, id, number, period_ns, burst));
	return rate;
}

/* How many of `count` requests pass from `at` on, one each `gap`. */
static unsigned passed(struct firewall_table *table, const struct firewall_rate *rate,
		       uint64_t client, uint64_t at, uint64_t gap, unsigned count)
{
	unsigned sum = 0;
	uint64_t wait;

	for (unsigned i = 0; i < count; i++)
		sum += firewall_take(table, key, rate, client, at + i * gap, &wait) !=
		       FIREWALL_OVER;
	return sum;
}

/* ---- One client -------------------------------------------------------------------------------------------- */

static const struct {
	uint64_t number, period, burst;
	uint64_t gap; /* between requests */
	unsigned count, least, most;
} rates[] = {
	{ 5, MINUTE, 5, 0, 100, 5, 5 },
	{ 5, MINUTE, 5, SECOND, 600, 54, 55 },           /* 5, and one each 12 s of ten minutes */
	{ 5, MINUTE, 5, 12 * SECOND, 1000, 1000, 1000 }, /* just as fast as it may */
	{ 5, MINUTE, 5, 11 * SECOND, 1000, 920, 924 },
	{ 20, SECOND, 40, 0, 1000, 40, 40 },
	{ 20, SECOND, 40, SECOND / 100, 1000, 238, 242 }, /* 10 s at 100/s */
	{ 1, SECOND, 1, SECOND / 2, 100, 50, 50 },
	{ 1, DAY, 1, 3600 * SECOND, 72, 3, 3 },
	{ 100000, SECOND, 100000, 10000 / 2, 400000, 295000, 305000 }, /* 2 s at twice the rate */
};

static void test_rates(void **state)
{
	struct firewall_table *table = table_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		struct firewall_rate rate =
			rate_of(i + 1, rates[i].number, rates[i].period, rates[i].burst);
		unsigned got =
			passed(table, &rate, 1, 1000 * DAY + i, rates[i].gap, rates[i].count);

		if (got < rates[i].least || got > rates[i].most)
			fail_msg("row %zu: %u passed", i, got);
	}
	free(table);
}

/* Who waits as long as he was told passes, and not a tick earlier; being refused costs nothing. */
static void test_wait(void **state)
{
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 5, MINUTE, 5);
	uint64_t now = 77 * SECOND, wait = 0, again;

	(void)state;
	assert_int_equal(passed(table, &rate, 1, now, 0, 5), 5);
	assert_int_equal(passed(table, &rate, 1, now, 1000, 1000), 0);
	assert_int_equal(firewall_take(table, key, &rate, 1, now, &wait), FIREWALL_OVER);
	assert_int_equal(wait, 12 * SECOND);
	assert_int_equal(firewall_take(table, key, &rate, 1, now + wait - FIREWALL_TICK_NS, &again),
			 FIREWALL_OVER);
	assert_int_equal(firewall_take(table, key, &rate, 1, now + wait, &again), 0);
	assert_int_equal(passed(table, &rate, 1, now + wait, 0, 10), 0);
	/* And after a long time it has its burst again, no more. */
	assert_int_equal(passed(table, &rate, 1, now + DAY, 0, 10), 5);
	free(table);
}

/* Other clients and other limits have cells of their own. */
static void test_apart(void **state)
{
	struct firewall_table *table = table_new();
	struct firewall_rate one = rate_of(1, 5, MINUTE, 5), two = rate_of(2, 5, MINUTE, 5);

	(void)state;
	assert_int_equal(passed(table, &one, 1, SECOND, 0, 10), 5);
	assert_int_equal(passed(table, &two, 1, SECOND, 0, 10), 5);
	assert_int_equal(passed(table, &one, 2, SECOND, 0, 10), 5);
	assert_int_equal(passed(table, &one, 1, SECOND, 0, 10), 0);
	free(table);
}

static void test_bounds(void **state)
{
	struct firewall_rate rate = { .id = 9 };

	(void)state;
	assert_true(firewall_rate_init(&rate, 1, 100000, SECOND, 1));
	assert_false(firewall_rate_init(&rate, 1, 110000, SECOND, 1));
	assert_false(firewall_rate_init(&rate, 1, 1, SECOND, 0));
	assert_true(firewall_rate_init(&rate, 1, 1, SECOND, 86400));
	assert_false(firewall_rate_init(&rate, 1, 1, SECOND, 86401));
	assert_true(firewall_rate_init(&rate, 1, 1, DAY, 1));
	assert_false(firewall_rate_init(&rate, 1, 1, DAY, 2));
	assert_false(firewall_rate_init(&rate, 1, UINT32_MAX, SECOND, 1));
	assert_int_equal(firewall_rate_burst_max(1, SECOND), 86400);
	assert_int_equal(firewall_rate_burst_max(UINT32_MAX, SECOND), 0);
}

static void test_clients(void **state)
{
	static const uint8_t v4[16] = { 192, 0, 2, 1 }, other4[16] = { 192, 0, 2, 2 };
	static const uint8_t dressed[16] = {
		[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1
	};
	uint8_t a[16] = { 0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 };
	uint8_t b[16], c[16];

	(void)state;
	memcpy(b, a, sizeof(a));
	memcpy(c, a, sizeof(a));
	b[8] = b[15] = 0xff;
	c[7] ^= 1;
	assert_int_equal(firewall_client(4, v4), firewall_client(6, dressed));
	assert_true(firewall_client(4, v4) != firewall_client(4, other4));
	assert_int_equal(firewall_client(6, a), firewall_client(6, b));
	assert_true(firewall_client(6, a) != firewall_client(6, c));
	assert_true(firewall_client(4, v4) != 0);
}

/* ---- What a table may hold ------------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *random)
{
	*random += UINT64_C(0x9e3779b97f4a7c15);
	return hash_mix(*random);
}

/* Any content is legal: afterwards everybody is served within what the rate could owe. */
static void test_garbage(void **state)
{
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 5, MINUTE, 5);
	uint64_t random = 4711, now = 3 * DAY, wait = 0;
	unsigned over = 0;

	(void)state;
	for (size_t i = 0; i < FIREWALL_BUCKETS; i++) {
		for (size_t j = 0; j < FIREWALL_WAYS; j++)
			table->buckets[i].cells[j] = next_random(&random);
	}
	for (uint64_t client = 0; client < 100000; client++) {
		if (firewall_take(table, key, &rate, client, now, &wait) != FIREWALL_OVER)
			continue;
		over++;
		assert_true(wait <= MINUTE);
	}
	assert_true(over <= 2);
	memset(table->buckets, 0xff, sizeof(table->buckets));
	for (uint64_t client = 0; client < 1000; client++)
		assert_true(firewall_take(table, key, &rate, client, now, &wait) != FIREWALL_OVER);
	free(table);
}

/* The time of a cell comes round: also there a client has its rate, and no more. */
static void test_time_comes_round(void **state)
{
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 20, SECOND, 40);
	uint64_t round = (UINT64_C(1) << 40) * FIREWALL_TICK_NS;

	(void)state;
	for (uint64_t turn = 1; turn <= 3; turn++)
		assert_in_range(
			passed(table, &rate, 1, turn * round - 5 * SECOND, SECOND / 100, 1000), 238,
			242);
	free(table);
}

/* Ten million clients that come once (a slice of them without PORTCULLIS_SOAK), and a thousand that keep to their
 * rate between them: of these fewer than one in a thousand requests is refused. The table is as large as before, since
 * there is nothing in it that could grow; and who goes over his rate is held to it still. */
static void test_crowd(void **state)
{
	enum { HONEST = 1000 };
	uint64_t crowd = getenv("PORTCULLIS_SOAK") ? 10000000 : 1000000;
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 60, MINUTE, 10);
	uint64_t random = 1, now = DAY, asked = 0, refused = 0, crowded = 0, greedy = 0, wait;

	(void)state;
	for (uint64_t i = 0; i < crowd; i++) {
		/* 100,000 a second, each from a /64 of its own. */
		int outcome = firewall_take_client(table, key, &rate, next_random(&random) | 1, now,
						   &wait);

		assert_true(outcome != FIREWALL_OVER || wait <= 10 * SECOND);
		crowded += outcome == FIREWALL_CROWDED;
		now += SECOND / 100000;
		if (i % 100 == 0) { /* each of them once a second: just its rate */
			asked++;
			refused += firewall_take_client(table, key, &rate,
							UINT64_C(0xffff00000000) |
								2 * (i / 100 % HONEST),
							now, &wait) == FIREWALL_OVER;
		}
		if (i % 1000 == 0) /* a hundred times a second */
			greedy += firewall_take(table, key, &rate, UINT64_C(1) << 40, now, &wait) !=
				  FIREWALL_OVER;
	}
	print_message("%llu in a crowd: %llu of %llu honest ones refused, %llu forgotten, a greedy "
		      "one had %llu of %llu\n",
		      (unsigned long long)crowd, (unsigned long long)refused,
		      (unsigned long long)asked, (unsigned long long)crowded,
		      (unsigned long long)greedy, (unsigned long long)(crowd / 1000));
	assert_true(refused * 1000 < asked);
	assert_true(greedy <= crowd / 100000 + 11);
	free(table);
}

/* Whoever has a /48 asks from another /64 of it each time, 10,000 times a second: after a second he is held to what the
 * /48 has, and those who keep to their rate from networks of their own are not. */
static void test_prefixes(void **state)
{
	enum { HONEST = 1000, SECONDS = 20, GREEDY = 10000 };
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 60, MINUTE, 10);
	uint64_t random = 99, now = DAY, refused = 0, got = 0, late = 0, inside = 0, wait = 0;

	(void)state;
	for (uint64_t i = 0; i < SECONDS * GREEDY; i++) {
		uint64_t client = UINT64_C(0x20010db800010000) | (next_random(&random) & 0xffff);
		bool passes = firewall_take_client(table, key, &rate, client, now, &wait) !=
			      FIREWALL_OVER;

		got += passes;
		late += passes && i >= 2 * GREEDY;
		if (i % 10 == 0) {
			uint64_t honest = UINT64_C(0x2001000000000000) | (i / 10 % HONEST) << 16;

			refused += firewall_take_client(table, key, &rate, honest, now, &wait) ==
				   FIREWALL_OVER;
		}
		now += SECOND / GREEDY;
	}
	assert_int_equal(refused, 0);
	assert_in_range(got, FIREWALL_WIDE_48 * (10 + SECONDS) - 5,
			FIREWALL_WIDE_48 * (10 + SECONDS) + 5);
	/* THREATS: within two seconds. Behind them he has the rate alone. */
	assert_in_range(late, FIREWALL_WIDE_48 * (SECONDS - 2) - 5,
			FIREWALL_WIDE_48 * (SECONDS - 2) + 5);
	/* One greedy /64 of another /48 takes nothing from the next one there. */
	for (int i = 0; i < 1000; i++)
		(void)!firewall_take_client(table, key, &rate, UINT64_C(0x20010db800020000), now,
					    &wait);
	for (int i = 0; i < 10; i++)
		inside += firewall_take_client(table, key, &rate, UINT64_C(0x20010db800020001), now,
					       &wait) != FIREWALL_OVER;
	assert_int_equal(inside, 10);
	/* A /56 has four: of 256 neighbours no more pass at once. */
	inside = 0;
	for (uint64_t i = 0; i < 256 * 10; i++)
		inside += firewall_take_client(table, key, &rate,
					       UINT64_C(0x20010db800030000) | i / 10, now,
					       &wait) != FIREWALL_OVER;
	assert_in_range(inside, FIREWALL_WIDE_56 * 10, FIREWALL_WIDE_56 * 10 + 1);
	/* An IPv4 address, and what is counted for all, have nothing around them. */
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(firewall_take_client(table, key, &rate,
						      UINT64_C(0xffff0a000000) | i, now, &wait),
				 0);
	free(table);
}

/* More owe than there are cells: who is forgotten begins anew, nobody is refused for others. */
static void test_more_than_cells(void **state)
{
	struct firewall_table *table = table_new();
	struct firewall_rate rate = rate_of(1, 1, 3600 * SECOND, 2);
	uint64_t count = 3 * (uint64_t)FIREWALL_BUCKETS * FIREWALL_WAYS / 2, refused = 0,
		 crowded = 0, wait;

	(void)state;
	for (uint64_t i = 0; i < count; i++) {
		int outcome = firewall_take(table, key, &rate, i, DAY, &wait);

		refused += outcome == FIREWALL_OVER;
		crowded += outcome == FIREWALL_CROWDED;
	}
	assert_true(refused * 1000 < count);
	assert_true(crowded >= count / 3);
	free(table);
}

/* Several processes at one cell: together they let pass what the rate says. */
static void test_processes(void **state)
{
	enum { PROCESSES = 4, BURST = 40000 };
	struct firewall_table *table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct firewall_rate rate = rate_of(1, BURST, DAY, BURST);
	unsigned sum = 0;
	int pipes[2];

	(void)state;
	assert_true(table != MAP_FAILED);
	assert_int_equal(pipe(pipes), 0);
	for (int i = 0; i < PROCESSES; i++) {
		unsigned got;

		if (fork())
			continue;
		got = passed(table, &rate, 1, DAY, 0, BURST);
		_exit(write(pipes[1], &got, sizeof(got)) != sizeof(got));
	}
	for (int i = 0; i < PROCESSES; i++) {
		unsigned got = 0;

		assert_int_equal(read(pipes[0], &got, sizeof(got)), sizeof(got));
		sum += got;
	}
	while (wait(NULL) > 0)
		;
	assert_in_range(sum, BURST, BURST + 10);
	munmap(table, sizeof(*table));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_clients),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_time_comes_round),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_more_than_cells),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
