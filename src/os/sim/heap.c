#include "os/sim/internal.h"

#include <stdlib.h>
#include <string.h>

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

enum { BUCKETS = 1 << 14 };

struct sim_allocation {
	struct list link; /* of its process */
	struct sim_allocation *next;
	struct sim_process *owner;
	void *memory;
	size_t size;
};

static struct sim_allocation *buckets[BUCKETS], *spare;

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
	*item = (struct sim_allocation){ .memory = memory, .size = size, .owner = sim.current };
	*place = item;
	if (sim.current) {
		list_push_back(&sim.current->allocations, &item->link);
		sim.current->heap += size;
	}
	return memory;
}

static void forget(struct sim_allocation **place)
{
	struct sim_allocation *item = *place;

	if (item->owner) {
		list_remove(&item->link);
		item->owner->heap -= item->size;
	}
	*place = item->next;
	item->next = spare;
	spare = item;
}

/* Whether the trap says that there is no memory left. */
static bool is_refused(void)
{
	struct sim_count *count;

	if (!sim.current)
		return false;
	count = sim_count_of(sim.current->role);
	if (!count)
		return false;
	count->allocations++;
	if (sim.trap.kind != SIM_TRAP_ALLOC || sim.sprung ||
	    strcmp(sim.trap.role, sim.current->role) != 0 || count->allocations != sim.trap.nth)
		return false;
	sim.sprung = true;
	return true;
}

void *sim_malloc(size_t size)
{
	return is_refused() ? NULL : note(__real_malloc(size), size);
}

void *sim_realloc(void *memory, size_t size)
{
	struct sim_allocation **place;
	void *moved;

	if (!memory)
		return sim_malloc(size);
	if (is_refused())
		return NULL;
	place = place_of(memory);
	MUST(*place);
	moved = __real_malloc(size);
	MUST(moved);
	memcpy(moved, memory, (*place)->size < size ? (*place)->size : size);
	forget(place);
	__real_free(memory);
	return note(moved, size);
}

void sim_free(void *memory)
{
	struct sim_allocation **place;

	if (!memory)
		return;
	place = place_of(memory);
	/* What a shared library allocated and hands to us to free. */
	if (*place)
		forget(place);
	__real_free(memory);
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

	if (__builtin_mul_overflow(count, size, &total) || is_refused())
		return NULL;
	return note(__real_calloc(1, total), total);
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

		forget(place_of(memory));
		__real_free(memory);
	}
}
