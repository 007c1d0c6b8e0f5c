#include "os/sim/internal.h"

#include <stdlib.h>
#include <string.h>

#if OS_SANITIZED
#include <sanitizer/asan_interface.h>
#define SIM_POISON(at, size) __asan_poison_memory_region((at), (size))
#define SIM_UNPOISON(at, size) __asan_unpoison_memory_region((at), (size))
#else
#define SIM_POISON(at, size) ((void)(at), (void)(size))
#define SIM_UNPOISON(at, size) ((void)(at), (void)(size))
#endif

/* The link sends the program's malloc() and its kin here (--wrap). Each allocation is known by its address, so
 * that it can be freed with its process, counted, and refused; the memory itself comes from the sanitizer's
 * own allocator, with red zones. What is asked for while the driver runs belongs to nobody and stays. */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

enum { BUCKETS = 1 << 14, LARGE = 16 * 1024, KEPT_MAX = 512 };

struct sim_allocation {
	struct list link; /* of its process */
	struct sim_allocation *next;
	struct sim_process *owner;
	void *memory;
	size_t size;
	bool is_room;
};

static bool makes_room;
static struct sim_allocation *buckets[BUCKETS], *spare;

/* Large ones (a channel's buffer, the log's) come again in every world in the same sizes. Fresh pages for them
 * would be most of what a world costs, so they are kept. */
static struct {
	void *memory;
	size_t size;
} kept[KEPT_MAX];
static size_t kept_count;

static void *large_take(size_t size)
{
	for (size_t i = kept_count; size >= LARGE && i-- > 0;) {
		void *memory = kept[i].memory;

		if (kept[i].size != size)
			continue;
		kept[i] = kept[--kept_count];
		SIM_UNPOISON(memory, size);
		return memory;
	}
	return NULL;
}

static bool large_keep(void *memory, size_t size)
{
	if (size < LARGE || kept_count == KEPT_MAX)
		return false;
	SIM_POISON(memory, size);
	kept[kept_count].memory = memory;
	kept[kept_count++].size = size;
	return true;
}

void *sim_own_alloc(size_t size)
{
	void *memory = __real_calloc(1, size ? size : 1);

	MUST(memory);
	return memory;
}

void *sim_own_resize(void *memory, size_t size)
{
	void *grown = __real_realloc(memory, size);

	MUST(grown);
	return grown;
}

void sim_own_free(void *memory)
{
	__real_free(memory);
}

static struct sim_allocation **place_of(const void *memory)
{
	uint64_t hash = (uint64_t)(uintptr_t)memory * UINT64_C(0x9e3779b97f4a7c15);
	struct sim_allocation **place = &buckets[hash >> (64 - 14)];

	while (*place && (*place)->memory != memory)
		place = &(*place)->next;
	return place;
}

static void charge(const struct sim_allocation *item, ssize_t sign)
{
	struct sim_process *owner = item->owner;

	owner->heap += (size_t)sign * item->size;
	if (item->is_room)
		return;
	owner->used.allocations += (size_t)sign;
	owner->used.bytes += (size_t)sign * item->size;
}

static void *note(void *memory, size_t size)
{
	struct sim_allocation **place = place_of(memory), *item = spare;

	if (!memory)
		return NULL;
	MUST(!*place);
	if (item)
		spare = item->next;
	else
		item = __real_malloc(sizeof(*item));
	MUST(item);
	*item = (struct sim_allocation){
		.memory = memory, .size = size, .owner = sim.current, .is_room = makes_room
	};
	*place = item;
	if (sim.current) {
		list_push_back(&sim.current->allocations, &item->link);
		charge(item, 1);
	}
	return memory;
}

static void forget(struct sim_allocation **place)
{
	struct sim_allocation *item = *place;

	if (item->owner) {
		list_remove(&item->link);
		charge(item, -1);
	}
	*place = item->next;
	item->next = spare;
	spare = item;
}

void sim_spare_allocations(bool on)
{
	sim.spares = on;
}

void sim_allocations_are_room(bool on)
{
	makes_room = on;
}

static void *take(size_t size)
{
	void *memory = large_take(size);

	return memory ? memory : __real_malloc(size);
}

static void give(void *memory, size_t size)
{
	if (!large_keep(memory, size))
		__real_free(memory);
}

void *sim_own_alloc_raw(size_t size)
{
	void *memory = take(size);

	MUST(memory);
	return memory;
}

void *sim_own_alloc_large(size_t size)
{
	void *memory = large_take(size);

	if (!memory)
		return sim_own_alloc(size);
	memset(memory, 0, size);
	return memory;
}

void sim_own_free_large(void *memory, size_t size)
{
	give(memory, size);
}

void *sim_malloc(size_t size)
{
	return sim_allocation_is_refused() ? NULL : note(take(size), size);
}

void *sim_realloc(void *memory, size_t size)
{
	struct sim_allocation **place;
	size_t old;
	void *moved;

	if (!memory)
		return sim_malloc(size);
	if (sim_allocation_is_refused())
		return NULL;
	place = place_of(memory);
	MUST(*place);
	old = (*place)->size;
	moved = take(size);
	MUST(moved);
	memcpy(moved, memory, old < size ? old : size);
	forget(place);
	give(memory, old);
	return note(moved, size);
}

void sim_free(void *memory)
{
	struct sim_allocation **place;

	if (!memory)
		return;
	place = place_of(memory);
	if (*place) {
		size_t size = (*place)->size;

		forget(place);
		give(memory, size);
		return;
	}
	__real_free(memory); /* what a shared library allocated and hands to us to free */
}

bool sim_owns(const void *memory)
{
	return *place_of(memory) != NULL;
}

void *__wrap_malloc(size_t size)
{
	return sim_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	size_t total;
	void *memory;

	if (__builtin_mul_overflow(count, size, &total) || sim_allocation_is_refused())
		return NULL;
	memory = large_take(total);
	if (memory)
		memset(memory, 0, total);
	return note(memory ? memory : __real_calloc(1, total), total);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return sim_realloc(memory, size);
}

void __wrap_free(void *memory)
{
	sim_free(memory);
}

void sim_heap_drop(struct sim_process *process)
{
	while (!list_is_empty(&process->allocations)) {
		struct sim_allocation *item =
			LIST_ITEM(process->allocations.next, struct sim_allocation, link);
		void *memory = item->memory;
		size_t size = item->size;

		forget(place_of(memory));
		give(memory, size);
	}
}
