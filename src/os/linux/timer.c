#include "os/linux/internal.h"

/* A hierarchical wheel. A timer lies on the level of the highest bit in which its tick differs from
 * the wheel's: so everything on a level comes due before anything on a higher one, and a slot is
 * looked at exactly when its first tick begins. A removed timer leaves its slot's bit set; that
 * costs one needless look and keeps removal free of any search. */

enum { SLOT_BITS = 6, WHEEL_BITS = SLOT_BITS * WHEEL_LEVELS };

void os_wheel_init(struct os_wheel *wheel, uint64_t now_ns)
{
	*wheel = (struct os_wheel){ .elapsed = now_ns / OS_MS };
	list_init(&wheel->due);
	for (size_t level = 0; level < WHEEL_LEVELS; level++)
		for (size_t slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
}

static unsigned level_of(uint64_t elapsed, uint64_t tick)
{
	uint64_t differs = (elapsed ^ tick) | (WHEEL_SLOTS - 1);
	uint64_t most = (UINT64_C(1) << WHEEL_BITS) - 1;

	if (differs > most)
		differs = most;
	return (63u - (unsigned)__builtin_clzll(differs)) / SLOT_BITS;
}

static uint64_t tick_of(uint64_t deadline_ns)
{
	return deadline_ns / OS_MS + (deadline_ns % OS_MS != 0);
}

static void wheel_place(struct os_wheel *wheel, struct os_timer *timer)
{
	uint64_t tick = tick_of(timer->deadline_ns);
	/* Beyond the wheel's reach: looked at once on the way, then placed again. */
	uint64_t farthest = wheel->elapsed + (UINT64_C(1) << (WHEEL_BITS - 1));
	unsigned level, slot;

	if (tick > farthest)
		tick = farthest;
	timer->tick = tick;
	if (tick <= wheel->elapsed) {
		list_push_back(&wheel->due, &timer->link);
		return;
	}
	level = level_of(wheel->elapsed, tick);
	slot = (unsigned)(tick >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1);
	wheel->occupied[level] |= UINT64_C(1) << slot;
	list_push_back(&wheel->slots[level][slot], &timer->link);
}

void os_wheel_set(struct os_wheel *wheel, struct os_timer *timer, uint64_t deadline_ns)
{
	MUST(deadline_ns != 0);
	timer->deadline_ns = deadline_ns;
	/* Later than where it lies: it is placed again when the old tick comes. */
	if (list_is_linked(&timer->link) && tick_of(deadline_ns) >= timer->tick)
		return;
	list_remove(&timer->link);
	wheel_place(wheel, timer);
}

void os_timer_stop(struct os_timer *timer)
{
	list_remove(&timer->link);
	timer->deadline_ns = 0;
}

/* The next slot that may hold timers, and the tick at which it begins. */
static bool wheel_next(const struct os_wheel *wheel, unsigned *ret_level, unsigned *ret_slot,
		       uint64_t *ret_tick)
{
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		unsigned shift = level * SLOT_BITS, here, slot;
		uint64_t bits = wheel->occupied[level], range = UINT64_C(1) << (shift + SLOT_BITS);

		if (!bits)
			continue;
		here = (unsigned)(wheel->elapsed >> shift) & (WHEEL_SLOTS - 1);
		if (here)
			bits = bits >> here | bits << (WHEEL_SLOTS - here);
		slot = (here + (unsigned)__builtin_ctzll(bits)) & (WHEEL_SLOTS - 1);
		*ret_level = level;
		*ret_slot = slot;
		*ret_tick = (wheel->elapsed & ~(range - 1)) + ((uint64_t)slot << shift);
		if (*ret_tick <= wheel->elapsed) /* only the highest level wraps */
			*ret_tick += range;
		return true;
	}
	return false;
}

uint64_t os_wheel_next_ns(const struct os_wheel *wheel)
{
	unsigned level, slot;
	uint64_t tick;

	if (!list_is_empty(&wheel->due))
		return 0;
	return wheel_next(wheel, &level, &slot, &tick) ? tick * OS_MS : UINT64_MAX;
}

static void list_move(struct list *from, struct list *to)
{
	list_init(to);
	if (list_is_empty(from))
		return;
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to;
	to->prev->next = to;
	list_init(from);
}

static struct os_timer *list_take_timer(struct list *list)
{
	struct os_timer *timer = LIST_ITEM(list->next, struct os_timer, link);

	list_remove(&timer->link);
	return timer;
}

void os_wheel_run(struct os_wheel *wheel, uint64_t now_ns)
{
	uint64_t now = now_ns / OS_MS, tick;
	unsigned level, slot;
	struct list batch;

	while (wheel_next(wheel, &level, &slot, &tick) && tick <= now) {
		wheel->elapsed = tick;
		wheel->occupied[level] &= ~(UINT64_C(1) << slot);
		list_move(&wheel->slots[level][slot], &batch);
		while (!list_is_empty(&batch))
			wheel_place(wheel, list_take_timer(&batch));
	}
	if (now > wheel->elapsed)
		wheel->elapsed = now;

	/* What a callback sets for the past lands in `due` again, for the next turn: no endless
	 * loop. */
	list_move(&wheel->due, &batch);
	while (!list_is_empty(&batch)) {
		struct os_timer *timer = list_take_timer(&batch);

		if (timer->deadline_ns > now_ns) {
			wheel_place(wheel, timer);
			continue;
		}
		timer->deadline_ns = 0;
		timer->on_due(timer);
	}
}
