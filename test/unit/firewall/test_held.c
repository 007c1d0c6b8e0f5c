/* What clients hold, counted over workers: each with a piece of its own, and one that dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "firewall/firewall.h"

enum { WORKERS = 4 };

struct gateway {
	struct firewall_held *pieces;
	const struct firewall_held *all[WORKERS];
	struct firewall_holder workers[WORKERS];
};

static void start(struct gateway *gateway)
{
	gateway->pieces = mmap(NULL, WORKERS * sizeof(*gateway->pieces), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(gateway->pieces != MAP_FAILED);
	for (size_t i = 0; i < WORKERS; i++) {
		gateway->all[i] = &gateway->pieces[i];
		gateway->workers[i] = (struct firewall_holder){
			.own = &gateway->pieces[i],
			.all = gateway->all,
			.all_count = WORKERS,
			.key = "0123456789abcde",
		};
		firewall_holder_begin(&gateway->workers[i]);
	}
}

static void stop(struct gateway *gateway)
{
	munmap(gateway->pieces, WORKERS * sizeof(*gateway->pieces));
}

static int hold(struct gateway *gateway, size_t worker, uint64_t client, uint64_t *ret_hold)
{
	return firewall_hold(&gateway->workers[worker], 7, client, 10, ret_hold);
}

/* Ten, whichever workers have them; one that is given back is the next one's. */
static void test_together(void **state)
{
	struct gateway gateway;
	uint64_t holds[10], other;

	(void)state;
	start(&gateway);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(hold(&gateway, i % WORKERS, 1, &holds[i]), 0);
	for (size_t i = 0; i < WORKERS; i++)
		assert_int_equal(hold(&gateway, i, 1, &other), FIREWALL_OVER);
	assert_int_equal(hold(&gateway, 0, 2, &other), 0);
	assert_int_equal(firewall_hold(&gateway.workers[0], 8, 1, 1, &other), 0);
	assert_int_equal(firewall_hold(&gateway.workers[1], 8, 1, 1, &other), FIREWALL_OVER);
	firewall_release(&gateway.workers[3], holds[3]);
	assert_int_equal(hold(&gateway, 2, 1, &holds[3]), 0);
	assert_int_equal(hold(&gateway, 3, 1, &other), FIREWALL_OVER);
	/* Another number for the same line: who has more keeps what he has. */
	assert_int_equal(firewall_hold(&gateway.workers[0], 7, 1, 5, &other), FIREWALL_OVER);
	assert_int_equal(firewall_hold(&gateway.workers[0], 7, 1, 11, &other), 0);
	stop(&gateway);
}

/* What a worker held is free once its piece is cleared, and its successor begins with nothing, whatever stood there. */
static void test_death(void **state)
{
	struct gateway gateway;
	uint64_t unused;

	(void)state;
	start(&gateway);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(hold(&gateway, i < 6 ? 1 : 2, 1, &unused), 0);
	firewall_held_clear(&gateway.pieces[1]);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(hold(&gateway, 0, 1, &unused), 0);
	assert_int_equal(hold(&gateway, 0, 1, &unused), FIREWALL_OVER);
	memset(&gateway.pieces[1], 0xff, sizeof(gateway.pieces[1]));
	gateway.pieces[1].is_used = 0;
	firewall_holder_begin(&gateway.workers[1]);
	assert_int_equal(hold(&gateway, 1, 2, &unused), 0);
	assert_int_equal(hold(&gateway, 1, 1, &unused), FIREWALL_OVER);
	stop(&gateway);
}

/* A set that is full of others: who comes then passes uncounted, and what was counted stays right. */
static void test_full(void **state)
{
	enum { CLIENTS = 4 * FIREWALL_HELD_SETS * FIREWALL_HELD_WAYS };
	struct gateway gateway;
	uint64_t *holds = calloc(CLIENTS, sizeof(*holds));
	uint64_t crowded = 0;

	(void)state;
	start(&gateway);
	assert_non_null(holds);
	for (uint64_t i = 0; i < CLIENTS; i++) {
		int outcome = hold(&gateway, 0, i, &holds[i]);

		assert_true(outcome != FIREWALL_OVER);
		crowded += outcome == FIREWALL_CROWDED;
	}
	assert_in_range(crowded, CLIENTS / 4 * 3, CLIENTS / 4 * 3 + 10);
	for (uint64_t i = 0; i < CLIENTS; i++) {
		if (holds[i])
			firewall_release(&gateway.workers[0], holds[i]);
	}
	for (size_t i = 0; i < FIREWALL_HELD_SETS; i++) {
		for (size_t j = 0; j < FIREWALL_HELD_WAYS; j++)
			assert_int_equal(gateway.pieces[0].cells[i][j] & 0xffffff, 0);
	}
	free(holds);
	stop(&gateway);
}

/* As many different clients as a worker has connections, and more: none of them goes uncounted. */
static void test_a_full_worker(void **state)
{
	struct gateway gateway;
	uint64_t unused, crowded = 0;

	(void)state;
	start(&gateway);
	for (uint64_t i = 0; i < 16384; i++)
		crowded += hold(&gateway, 0, i * 0x9e3779b97f4a7c15, &unused) != 0;
	assert_int_equal(crowded, 0);
	stop(&gateway);
}

/* Workers that take and give back side by side never have more than the line says; at the end nothing is left. */
static void test_processes(void **state)
{
	enum { TURNS = 20000, MOST = 10 };
	struct gateway gateway;
	uint32_t *now = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t unused;

	(void)state;
	assert_true(now != MAP_FAILED);
	start(&gateway);
	for (size_t i = 0; i < WORKERS; i++) {
		uint64_t holds[5];
		size_t held = 0;
		bool is_over = false;

		if (fork())
			continue;
		for (int turn = 0; turn < TURNS; turn++) {
			if (held < 5 && hold(&gateway, i, 1, &holds[held]) == 0) {
				is_over |= __atomic_add_fetch(now, 1, __ATOMIC_SEQ_CST) > MOST;
				held++;
				continue;
			}
			while (held) {
				__atomic_sub_fetch(now, 1, __ATOMIC_SEQ_CST);
				firewall_release(&gateway.workers[i], holds[--held]);
			}
		}
		while (held) {
			__atomic_sub_fetch(now, 1, __ATOMIC_SEQ_CST);
			firewall_release(&gateway.workers[i], holds[--held]);
		}
		_exit(is_over);
	}
	for (size_t i = 0; i < WORKERS; i++) {
		int status = -1;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < MOST; i++)
		assert_int_equal(hold(&gateway, 0, 1, &unused), 0);
	assert_int_equal(hold(&gateway, 0, 1, &unused), FIREWALL_OVER);
	munmap(now, 4096);
	stop(&gateway);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_together),  cmocka_unit_test(test_death),
		cmocka_unit_test(test_full),      cmocka_unit_test(test_a_full_worker),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
