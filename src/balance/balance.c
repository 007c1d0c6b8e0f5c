/* The methods. Weights are counted in 256ths of a weight, so that a slow start has steps. */
#include "balance/balance.h"

#include <errno.h>
#include <stdlib.h>

enum {
	SCALE = 256,
	POINTS_PER_WEIGHT = 64,
	/* Of a ring: weights are shared out among fewer points where it would be more. */
	POINTS_MAX = 64 * 1024,
};

/* ---- Who is there ------------------------------------------------------------------------------------------------ */

bool balance_is_available(const struct balance_origin *origin, uint64_t now_ns)
{
	return !origin->is_down && origin->order == BALANCE_UP &&
	       now_ns >= origin->ejected_until_ns;
}

static bool is_full(const struct balance_member *member)
{
	return member->active_max && member->origin->active >= member->active_max;
}

/* Which members a choice is among: the narrowest set that holds somebody. */
struct candidates {
	const struct balance *balance;
	const struct balance_choice *choice;
	bool backups, full_ones;
};

static bool was_tried(const struct candidates *among, const struct balance_member *member)
{
	for (uint32_t i = 0; i < among->choice->tried_count; i++) {
		if (&among->balance->members[among->choice->tried[i]] == member)
			return true;
	}
	return false;
}

static bool is_candidate(const struct candidates *among, const struct balance_member *member)
{
	return member->is_backup == among->backups && !was_tried(among, member) &&
	       balance_is_available(member->origin, among->choice->now_ns) &&
	       (among->full_ones || !is_full(member));
}

static bool has_any(const struct candidates *among)
{
	for (uint32_t i = 0; i < among->balance->count; i++) {
		if (is_candidate(among, &among->balance->members[i]))
			return true;
	}
	return false;
}

static bool narrow(struct candidates *among)
{
	for (int backups = 0; backups < 2; backups++) {
		for (int full_ones = 0; full_ones < 2; full_ones++) {
			among->backups = backups;
			among->full_ones = full_ones;
			if (has_any(among))
				return true;
		}
	}
	return false;
}

bool balance_has_more(const struct balance *balance, const struct balance_choice *choice)
{
	struct candidates among = { .balance = balance, .choice = choice };

	return narrow(&among);
}

/* In 256ths. Just returned, an origin has the share of its weight that it has been back for. */
static uint32_t weight_now(const struct balance *balance, const struct balance_member *member,
			   uint64_t now_ns)
{
	uint32_t full = member->weight * SCALE;
	uint64_t returned_ns = member->origin->returned_ns;
	uint64_t back_ns = now_ns > returned_ns ? now_ns - returned_ns : 0;
	uint32_t part;

	if (!returned_ns || back_ns >= balance->slow_start_ns)
		return full;
	part = (uint32_t)((double)full * ((double)back_ns / (double)balance->slow_start_ns));
	return part ? part : 1;
}

/* ---- Methods ----------------------------------------------------------------------------------------------------- */

/* Each gains its weight, the first of those that have most is chosen and gives back what all gained. */
static uint32_t round_robin(struct balance *balance, const struct candidates *among)
{
	int64_t total = 0;
	uint32_t best = BALANCE_NONE;

	for (uint32_t i = 0; i < balance->count; i++) {
		struct balance_member *member = &balance->members[i];
		uint32_t weight;

		if (!is_candidate(among, member))
			continue;
		weight = weight_now(balance, member, among->choice->now_ns);
		member->current += (int32_t)weight;
		total += weight;
		if (best == BALANCE_NONE || member->current > balance->members[best].current)
			best = i;
	}
	balance->members[best].current -= (int32_t)total;
	return best;
}

/* active / weight of a below that of b, without a division. One more is counted: the one that is being placed. */
static bool has_less(const struct balance *balance, const struct balance_member *a,
		     const struct balance_member *b, uint64_t now_ns)
{
	return (uint64_t)(a->origin->active + 1) * weight_now(balance, b, now_ns) <
	       (uint64_t)(b->origin->active + 1) * weight_now(balance, a, now_ns);
}

static uint32_t least_conn(struct balance *balance, const struct candidates *among)
{
	uint32_t best = BALANCE_NONE;

	for (uint32_t i = 0; i < balance->count; i++) {
		uint32_t at = (balance->next + i) % balance->count;

		if (!is_candidate(among, &balance->members[at]))
			continue;
		if (best == BALANCE_NONE ||
		    has_less(balance, &balance->members[at], &balance->members[best],
			     among->choice->now_ns))
			best = at;
	}
	balance->next = best + 1;
	return best;
}

static uint32_t random_one(const struct balance *balance, const struct candidates *among,
			   uint32_t random, uint32_t except)
{
	uint64_t total = 0, at;
	uint32_t last = BALANCE_NONE;

	for (uint32_t i = 0; i < balance->count; i++) {
		if (i != except && is_candidate(among, &balance->members[i]))
			total += weight_now(balance, &balance->members[i], among->choice->now_ns);
	}
	at = random * total >> 32;
	for (uint32_t i = 0; i < balance->count; i++) {
		uint32_t weight;

		if (i == except || !is_candidate(among, &balance->members[i]))
			continue;
		last = i;
		weight = weight_now(balance, &balance->members[i], among->choice->now_ns);
		if (at < weight)
			break;
		at -= weight;
	}
	return last;
}

static uint32_t random_of_two(const struct balance *balance, const struct candidates *among)
{
	uint64_t random = among->choice->random;
	uint32_t first = random_one(balance, among, (uint32_t)random, BALANCE_NONE);
	uint32_t second = random_one(balance, among, (uint32_t)(random >> 32), first);

	if (second != BALANCE_NONE && has_less(balance, &balance->members[second],
					       &balance->members[first], among->choice->now_ns))
		return second;
	return first;
}

/* The first point at or behind the key whose member is a candidate: the keys of one that is away spread over all. */
static uint32_t by_hash(const struct balance *balance, const struct candidates *among)
{
	uint64_t key = among->choice->key;
	uint32_t low = 0, high = balance->point_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (balance->points[middle].at < key)
			low = middle + 1;
		else
			high = middle;
	}
	for (uint32_t i = 0; i < balance->point_count; i++) {
		uint32_t member = balance->points[(low + i) % balance->point_count].member;

		if (is_candidate(among, &balance->members[member]))
			return member;
	}
	return BALANCE_NONE;
}

static bool has_own(const struct candidates *among)
{
	const struct balance_choice *choice = among->choice;
	const struct balance_member *own;

	if (!choice->has_own)
		return false;
	MUST(choice->own < among->balance->count);
	own = &among->balance->members[choice->own];
	return balance_is_available(own->origin, choice->now_ns) && !was_tried(among, own);
}

static uint32_t note(struct balance_choice *choice, uint32_t chosen)
{
	if (choice->tried_count < BALANCE_TRIES_MAX)
		choice->tried[choice->tried_count++] = chosen;
	return chosen;
}

uint32_t balance_choose(struct balance *balance, struct balance_choice *choice)
{
	struct candidates among = { .balance = balance, .choice = choice };
	uint32_t chosen = BALANCE_NONE;

	if (has_own(&among))
		return note(choice, choice->own);
	if (!narrow(&among))
		return BALANCE_NONE;
	switch (balance->method) {
	case BALANCE_ROUND_ROBIN:
		chosen = round_robin(balance, &among);
		break;
	case BALANCE_LEAST_CONN:
		chosen = least_conn(balance, &among);
		break;
	case BALANCE_RANDOM:
		chosen = random_of_two(balance, &among);
		break;
	case BALANCE_HASH:
		chosen = by_hash(balance, &among);
		break;
	}
	MUST(chosen < balance->count);
	return note(choice, chosen);
}

/* ---- Making one -------------------------------------------------------------------------------------------------- */

static int compare_points(const void *left, const void *right)
{
	const struct balance_point *a = left, *b = right;

	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	return (a->member > b->member) - (a->member < b->member);
}

static uint32_t points_of(const struct balance_member *member, uint64_t total_weight)
{
	uint64_t points = (uint64_t)member->weight * POINTS_PER_WEIGHT;

	if (total_weight * POINTS_PER_WEIGHT > POINTS_MAX)
		points = member->weight * (uint64_t)POINTS_MAX / total_weight;
	return points ? (uint32_t)points : 1;
}

static int make_ring(struct balance *balance, struct arena *arena)
{
	uint64_t total = 0;
	uint32_t count = 0;

	for (uint32_t i = 0; i < balance->count; i++)
		total += balance->members[i].weight;
	for (uint32_t i = 0; i < balance->count; i++)
		count += points_of(&balance->members[i], total);
	balance->points = arena_array(arena, struct balance_point, count);
	if (!balance->points)
		return -ENOMEM;
	for (uint32_t i = 0; i < balance->count; i++) {
		uint32_t points = points_of(&balance->members[i], total);
		uint64_t id = balance->members[i].origin->id;

		for (uint32_t k = 0; k < points; k++)
			balance->points[balance->point_count++] = (struct balance_point){
				/* Ids are hashes already; neighbours are none on the ring. */
				.at = hash_mix(id + hash_mix(k + 1)),
				.member = i,
			};
	}
	qsort(balance->points, balance->point_count, sizeof(*balance->points), compare_points);
	return 0;
}

int balance_init(struct balance *balance, struct arena *arena)
{
	MUST(balance->count && balance->count <= BALANCE_MEMBERS_MAX);
	for (uint32_t i = 0; i < balance->count; i++) {
		struct balance_member *member = &balance->members[i];

		MUST(member->weight && member->weight <= BALANCE_WEIGHT_MAX);
		member->current = 0;
	}
	balance->next = balance->point_count = 0;
	balance->points = NULL;
	return balance->method == BALANCE_HASH ? make_ring(balance, arena) : 0;
}

/* ---- What came of it --------------------------------------------------------------------------------------------- */

static bool is_last(const struct balance *balance, uint32_t member, uint64_t now_ns)
{
	for (uint32_t i = 0; i < balance->count; i++) {
		if (i != member && balance_is_available(balance->members[i].origin, now_ns))
			return false;
	}
	return true;
}

bool balance_failed(struct balance *balance, uint32_t member, uint64_t now_ns)
{
	struct balance_origin *origin = balance->members[member].origin;

	if (origin->failures < UINT32_MAX)
		origin->failures++;
	if (!balance->eject_after || origin->failures < balance->eject_after ||
	    now_ns < origin->ejected_until_ns || is_last(balance, member, now_ns))
		return false;
	if (origin->ejections < BALANCE_EJECT_MAX)
		origin->ejections++;
	origin->ejected_until_ns = now_ns + balance->eject_for_ns * origin->ejections;
	origin->returned_ns = origin->ejected_until_ns;
	/* Back again, the first failure is one too many. */
	origin->failures = balance->eject_after - 1;
	return true;
}

void balance_succeeded(struct balance_origin *origin)
{
	origin->failures = 0;
	origin->ejections = 0;
}

static void come_back(struct balance_origin *origin, uint64_t now_ns)
{
	origin->returned_ns = now_ns;
	origin->ejected_until_ns = 0;
	origin->failures = origin->ejections = 0;
}

void balance_set_down(struct balance_origin *origin, bool is_down, uint64_t now_ns)
{
	if (origin->is_down && !is_down)
		come_back(origin, now_ns);
	origin->is_down = is_down;
}

void balance_set_order(struct balance_origin *origin, enum balance_order order, uint64_t now_ns)
{
	if (order == BALANCE_UP &&
	    (origin->order != BALANCE_UP || now_ns < origin->ejected_until_ns))
		come_back(origin, now_ns);
	origin->order = order;
}
