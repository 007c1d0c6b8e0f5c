/* firewall: who has asked too often. An engine: no I/O, no clock, no log; all memory is the caller's.
 *
 * A rate is GCRA, a leaky bucket that needs one number per client: its theoretical arrival time. Each request moves
 * that on by the rate's `cost`; one that would move it further than `depth` ahead of now is over the rate and moves
 * nothing. So `depth / cost` requests pass at once, and one more each `cost`.
 *
 * The table is one piece of shared memory that all workers write at the same time, without a lock. A cell is 8 bytes:
 * 24 bits that say whose it is (the rate and the client, hashed with the table's key), 40 bits of arrival time in ticks
 * of 256 ns. A hash's bucket is one cache line of 8 cells. Who has no cell there takes the one that owes least: nothing,
 * nearly always. There is no pointer, no length and no lock in it, and every content is legal: whoever scribbles over
 * it can wrongly let pass or refuse for a day at most, and nothing else.
 *
 * What can go wrong, and how often:
 * - Two that share bucket and tag share their rate. Beside a full bucket that is 8 in 2^24 strangers, and matters only
 *   where the other is at its bound.
 * - Where more are owing than there are cells, the one that owes least in its bucket is forgotten: its rate begins anew.
 *   Never the other way: a crowd makes nobody owe.
 * - A cell that nobody touches for 78 hours less than `depth` reads as if it owed: refused for `depth` at most. */
#pragma once

#include "base/base.h"

enum {
	FIREWALL_TICK_NS = 256,
	FIREWALL_WAYS = 8,
	FIREWALL_BUCKETS = 1 << 17,
	FIREWALL_FORMAT = 1,
	FIREWALL_KEY_LEN = 16,
};

struct firewall_bucket {
	_Alignas(64) uint64_t cells[FIREWALL_WAYS];
};

/* All zero but for format and key it is empty. */
struct firewall_table {
	uint64_t format; /* FIREWALL_FORMAT */
	/* Drawn once: nobody outside can choose who shares a cell. Read it once, when the table is mapped. */
	uint8_t key[FIREWALL_KEY_LEN];
	struct firewall_bucket buckets[FIREWALL_BUCKETS];
};

/* Plain numbers, so that it can lie in a snapshot. */
struct firewall_rate {
	uint64_t id;    /* whose cells these are: another id, other cells */
	uint64_t cost;  /* ticks */
	uint64_t depth; /* ticks */
};

enum firewall_outcome {
	FIREWALL_OVER = 1, /* over the rate */
	FIREWALL_CROWDED,  /* passes; somebody who still owed was forgotten for it */
};

/* `number` each `period_ns`, `burst` of them at once. False where the table cannot tell: faster than 100,000 a second,
 * or a burst that takes more than a day to come back. */
bool firewall_rate_init(struct firewall_rate *rate, uint64_t id, uint64_t number,
			uint64_t period_ns, uint64_t burst) MUST_CHECK;
uint64_t firewall_rate_burst_max(uint64_t number, uint64_t period_ns);

/* Whom an address stands for: an IPv4 address for itself, also in IPv6 clothes; an IPv6 address for its /64, of which
 * one client has all the addresses that it wants. `ip` is in network order. */
uint64_t firewall_client(uint8_t family, const uint8_t ip[16]);

/* One request of this client, now. 0: it passes and is counted. FIREWALL_OVER: it is not, and would pass in
 * *ret_wait_ns, which the others leave alone. */
int firewall_take(struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		  const struct firewall_rate *rate, uint64_t client, uint64_t now_ns,
		  uint64_t *ret_wait_ns) MUST_CHECK;
