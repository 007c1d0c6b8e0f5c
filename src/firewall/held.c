/* held: what clients have at this moment, in cells that one process writes and all read. */
#include "firewall/firewall.h"

enum { COUNT_BITS = 24 };

#define COUNT_MAX ((UINT64_C(1) << COUNT_BITS) - 1)

static uint64_t hold_of(const struct firewall_holder *holder, uint64_t id, uint64_t client)
{
	uint64_t who[2] = { id, client };
	uint64_t hash = hash_siphash(holder->key, span_of(who, sizeof(who)));

	return hash ? hash : 1;
}

static uint64_t cell_load(const uint64_t *cell)
{
	return __atomic_load_n(cell, __ATOMIC_RELAXED);
}

static bool is_of(uint64_t cell, uint64_t hold)
{
	return cell >> COUNT_BITS == hold >> COUNT_BITS && (cell & COUNT_MAX);
}

/* The hold's own cell, else a free one; or NULL. */
static uint64_t *find(struct firewall_held *held, uint64_t hold)
{
	uint64_t *cells = held->cells[hold % FIREWALL_HELD_SETS], *free = NULL;

	for (size_t i = 0; i < FIREWALL_HELD_WAYS; i++) {
		uint64_t cell = cell_load(&cells[i]);

		if (is_of(cell, hold))
			return &cells[i];
		if (!(cell & COUNT_MAX) && !free)
			free = &cells[i];
	}
	return free;
}

static uint64_t count_all(const struct firewall_holder *holder, uint64_t hold)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < holder->all_count; i++) {
		const uint64_t *cells = holder->all[i]->cells[hold % FIREWALL_HELD_SETS];

		for (size_t j = 0; j < FIREWALL_HELD_WAYS; j++) {
			uint64_t cell = cell_load(&cells[j]);

			sum += is_of(cell, hold) ? cell & COUNT_MAX : 0;
		}
	}
	return sum;
}

static void add(uint64_t *cell, uint64_t hold, bool is_more)
{
	uint64_t now = cell_load(cell), count = is_of(now, hold) ? now & COUNT_MAX : 0;

	count += is_more ? 1 : -UINT64_C(1);
	__atomic_store_n(cell, hold >> COUNT_BITS << COUNT_BITS | count, __ATOMIC_RELAXED);
}

void firewall_holder_begin(struct firewall_holder *holder)
{
	memset(holder->own->cells, 0, sizeof(holder->own->cells));
	holder->own->is_used = 1;
}

void firewall_held_clear(struct firewall_held *held)
{
	if (held->is_used)
		memset(held, 0, sizeof(*held));
}

int firewall_hold(const struct firewall_holder *holder, uint64_t id, uint64_t client, uint64_t most,
		  uint64_t *ret_hold)
{
	uint64_t hold = hold_of(holder, id, client);
	uint64_t *cell = find(holder->own, hold);

	if (!cell || (cell_load(cell) & COUNT_MAX) == COUNT_MAX)
		return count_all(holder, hold) >= most ? FIREWALL_OVER : FIREWALL_CROWDED;
	add(cell, hold, true);
	/* Whoever adds later than this sees it, and we see whoever added before. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (count_all(holder, hold) > most) {
		add(cell, hold, false);
		return FIREWALL_OVER;
	}
	*ret_hold = hold;
	return 0;
}

void firewall_release(const struct firewall_holder *holder, uint64_t hold)
{
	uint64_t *cell = find(holder->own, hold);

	if (cell && is_of(cell_load(cell), hold))
		add(cell, hold, false);
}
