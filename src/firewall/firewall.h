/* firewall: who has asked too often, and who holds too much. An engine: no I/O, no clock, no log; all memory is the
 * caller's.
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

/* For what is paid afterwards, like bytes: how far ahead of now the client's time lies in the same cells, in ns, and moving
 * it on by a cost, which no depth bounds. More than a minute beyond `burst_ns` is owed by nobody: what lies further ahead is
 * garbage. */
struct firewall_account {
	uint64_t id, client;
	uint64_t burst_ns; /* what may be owed without waiting */
};
uint64_t firewall_owed(const struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		       const struct firewall_account *account, uint64_t now_ns);
void firewall_pay(struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		  const struct firewall_account *account, uint64_t cost_ns, uint64_t now_ns);

/* ---- What a client holds now: connections -------------------------------------------------------------------
 *
 * Each worker counts in a piece of its own, which it alone writes and all others read: the sum over all pieces is what a
 * client holds. So a worker that dies gives everything back at once, however it died: the supervisor clears its piece
 * (firewall_held_clear, with the gauges of its range) when it has seen the end, and the worker that follows clears it
 * once more before it counts (what a hostile worker wrote there holds nobody up for longer). No worker can write what
 * another one counts. What dies with its supervisor is not counted either: workers that outlived one are not seen by
 * those of the next, and until they have drained a client may hold as much again.
 *
 * A cell is 8 bytes: 40 bits that say whose it is (line and client, hashed with the table's key), 24 bits of count; 16
 * cells are a set, by the hash. A client that finds its set full of others is not counted: he passes, which is what the
 * outcome FIREWALL_CROWDED is for. 65,536 cells for the 16,384 connections of a worker: with as many different clients a
 * set has four of its sixteen in use.
 *
 * Who is counted adds first and looks then, so two that come to the last place in the same instant never both get it;
 * both may be refused. */
enum { FIREWALL_HELD_WAYS = 16, FIREWALL_HELD_SETS = 4096 };

struct firewall_held {
	uint64_t is_used; /* 0: all cells are */
	_Alignas(128) uint64_t cells[FIREWALL_HELD_SETS][FIREWALL_HELD_WAYS];
};

struct firewall_holder {
	struct firewall_held *own;
	const struct firewall_held *const *all; /* of all workers, `own` too */
	size_t all_count;
	uint8_t key[FIREWALL_KEY_LEN]; /* the same for all */
};

/* Before its first use: what somebody before us held here is nobody's. */
void firewall_holder_begin(struct firewall_holder *holder);
/* For who outlives the process that wrote it. */
void firewall_held_clear(struct firewall_held *held);
/* One more of line `id` for this client, `most` at a time. 0: held, until *ret_hold (never 0) is released.
 * FIREWALL_OVER: he has so many. FIREWALL_CROWDED: passes uncounted. */
int firewall_hold(const struct firewall_holder *holder, uint64_t id, uint64_t client, uint64_t most,
		  uint64_t *ret_hold) MUST_CHECK;
void firewall_release(const struct firewall_holder *holder, uint64_t hold);
