/* rate: GCRA in cells that many processes write. */
#include "firewall/firewall.h"

enum {
	TAG_BITS = 24,
	TIME_BITS = 40,
	/* Below it rounding to ticks would be more than 2 % of a request. */
	COST_MIN = 1000000000 / FIREWALL_TICK_NS / 100000,
	TRIES = 8,
};

#define TIME_MASK ((UINT64_C(1) << TIME_BITS) - 1)
#define MINUTE_NS (UINT64_C(60) * 1000000000)
#define DAY_TICKS (UINT64_C(86400) * 1000000000 / FIREWALL_TICK_NS)

_Static_assert(TAG_BITS + TIME_BITS == 64, "a cell is one word");
_Static_assert(DAY_TICKS < TIME_MASK / 2, "what is owed is told from what is past");

static uint64_t cost_of(uint64_t number, uint64_t period_ns)
{
	return (period_ns / FIREWALL_TICK_NS + number / 2) / number;
}

uint64_t firewall_rate_burst_max(uint64_t number, uint64_t period_ns)
{
	uint64_t cost = cost_of(number, period_ns);

	return cost ? DAY_TICKS / cost : 0;
}

bool firewall_rate_init(struct firewall_rate *rate, uint64_t id, uint64_t number,
			uint64_t period_ns, uint64_t burst)
{
	uint64_t cost = cost_of(number, period_ns);

	if (cost < COST_MIN || !burst || burst > DAY_TICKS / cost)
		return false;
	*rate = (struct firewall_rate){ .id = id, .cost = cost, .depth = cost * burst };
	return true;
}

static uint64_t load_be(const uint8_t *bytes, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value = value << 8 | bytes[i];
	return value;
}

uint64_t firewall_client(uint8_t family, const uint8_t ip[16])
{
	static const uint8_t clothes[12] = { [10] = 0xff, [11] = 0xff };

	/* No /64 that anybody has begins with 0:ffff. */
	if (family == 4)
		return UINT64_C(0xffff) << 32 | load_be(ip, 4);
	if (memcmp(ip, clothes, sizeof(clothes)) == 0)
		return UINT64_C(0xffff) << 32 | load_be(ip + 12, 4);
	return load_be(ip, 8);
}

/* How far a cell's time lies ahead; 0 where it is past, or further than any rate could have moved it. */
static uint64_t owed(uint64_t cell, uint64_t now, uint64_t most)
{
	uint64_t ahead = (cell - now) & TIME_MASK;

	return ahead <= most ? ahead : 0;
}

/* The cell of that tag, else the one that owes least. */
static size_t choose(const struct firewall_bucket *bucket, uint64_t tag, uint64_t now,
		     uint64_t *ret_cell)
{
	uint64_t least = UINT64_MAX;
	size_t chosen = 0;

	for (size_t i = 0; i < FIREWALL_WAYS; i++) {
		uint64_t cell = __atomic_load_n(&bucket->cells[i], __ATOMIC_RELAXED), owes;

		if (cell >> TIME_BITS == tag) {
			*ret_cell = cell;
			return i;
		}
		owes = owed(cell, now, DAY_TICKS);
		if (owes >= least)
			continue;
		least = owes;
		chosen = i;
		*ret_cell = cell;
	}
	return chosen;
}

int firewall_take(struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		  const struct firewall_rate *rate, uint64_t client, uint64_t now_ns,
		  uint64_t *ret_wait_ns)
{
	uint64_t who[2] = { rate->id, client }, cell = 0, now = now_ns / FIREWALL_TICK_NS;
	uint64_t hash = hash_siphash(key, span_of(who, sizeof(who)));
	struct firewall_bucket *bucket = &table->buckets[hash % FIREWALL_BUCKETS];
	uint64_t tag = hash >> TIME_BITS;

	/* Another process may be at the same cell. After so many times somebody plays with it: then it decides nothing. */
	for (int i = 0; i < TRIES; i++) {
		size_t chosen = choose(bucket, tag, now, &cell);
		bool is_own = cell >> TIME_BITS == tag;
		uint64_t owes = is_own ? owed(cell, now, rate->depth) : 0, after;

		if (owes + rate->cost > rate->depth) {
			*ret_wait_ns = (owes + rate->cost - rate->depth) * FIREWALL_TICK_NS;
			return FIREWALL_OVER;
		}
		after = tag << TIME_BITS | ((now + owes + rate->cost) & TIME_MASK);
		if (__atomic_compare_exchange_n(&bucket->cells[chosen], &cell, after, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return !is_own && owed(cell, now, DAY_TICKS) ? FIREWALL_CROWDED : 0;
	}
	return 0;
}

/* ---- Paid afterwards --------------------------------------------------------------------------------------- */

static size_t bucket_of(const uint8_t key[FIREWALL_KEY_LEN], const struct firewall_account *account,
			uint64_t *ret_tag)
{
	uint64_t who[2] = { account->id, account->client };
	uint64_t hash = hash_siphash(key, span_of(who, sizeof(who)));

	*ret_tag = hash >> TIME_BITS;
	return hash % FIREWALL_BUCKETS;
}

static uint64_t most_owed(const struct firewall_account *account)
{
	return (account->burst_ns + MINUTE_NS) / FIREWALL_TICK_NS;
}

uint64_t firewall_owed(const struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		       const struct firewall_account *account, uint64_t now_ns)
{
	uint64_t tag, cell = 0, now = now_ns / FIREWALL_TICK_NS;
	size_t bucket = bucket_of(key, account, &tag);

	(void)choose(&table->buckets[bucket], tag, now, &cell);
	return cell >> TIME_BITS == tag ? owed(cell, now, most_owed(account)) * FIREWALL_TICK_NS
					: 0;
}

void firewall_pay(struct firewall_table *table, const uint8_t key[FIREWALL_KEY_LEN],
		  const struct firewall_account *account, uint64_t cost_ns, uint64_t now_ns)
{
	uint64_t most = most_owed(account), now = now_ns / FIREWALL_TICK_NS, tag, cell = 0;
	struct firewall_bucket *bucket = &table->buckets[bucket_of(key, account, &tag)];

	for (int i = 0; i < TRIES; i++) {
		size_t chosen = choose(bucket, tag, now, &cell);
		uint64_t owes = cell >> TIME_BITS == tag ? owed(cell, now, most) : 0, after;

		owes += (cost_ns + FIREWALL_TICK_NS - 1) / FIREWALL_TICK_NS;
		after = tag << TIME_BITS | ((now + (owes < most ? owes : most)) & TIME_MASK);
		if (__atomic_compare_exchange_n(&bucket->cells[chosen], &cell, after, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return;
	}
}
