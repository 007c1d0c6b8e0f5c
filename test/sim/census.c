#include "census.h"

#include <string.h>

#include "edge/edge_internal.h"
#include "keys/keys.h"

/* The link sends the program's calls of these functions here first (--wrap). */
void __real_slab_init(struct slab *slab, size_t object_size, uint32_t max, uint32_t magic);
void __wrap_slab_init(struct slab *slab, size_t object_size, uint32_t max, uint32_t magic);
void __real_slab_fini(struct slab *slab);
void __wrap_slab_fini(struct slab *slab);
void *__real_slab_alloc(struct slab *slab);
void *__wrap_slab_alloc(struct slab *slab);
void __real_block_pool_init(struct block_pool *pool, uint32_t max);
void __wrap_block_pool_init(struct block_pool *pool, uint32_t max);
void __real_block_pool_fini(struct block_pool *pool);
void __wrap_block_pool_fini(struct block_pool *pool);
int __real_map_reserve(struct map *map, size_t count);
int __wrap_map_reserve(struct map *map, size_t count);
int __real_map_set(struct map *map, uint64_t key, void *value);
int __wrap_map_set(struct map *map, uint64_t key, void *value);
void *__real_map_remove(struct map *map, uint64_t key);
void *__wrap_map_remove(struct map *map, uint64_t key);
bool __real_heap_grow(void **array, size_t *capacity, size_t wanted, size_t item_size);
bool __wrap_heap_grow(void **array, size_t *capacity, size_t wanted, size_t item_size);

enum {
	STORES_MAX = 512,
	SIGNATURES =
		48, /* so many bytes may certificates differ by: the DER of an integer is as long as it must be */
};

static struct store {
	int pid; /* 0: free */
	const struct slab *slab;
	const struct block_pool *pool;
} stores[STORES_MAX];

void census_begin(void)
{
	memset(stores, 0, sizeof(stores));
}

static void add(const struct slab *slab, const struct block_pool *pool)
{
	for (size_t i = 0; i < STORES_MAX; i++) {
		if (stores[i].pid && sim_is_alive(stores[i].pid))
			continue;
		stores[i] = (struct store){ sim_current(), slab, pool };
		return;
	}
	MUST(!"room for one more store");
}

static void remove_one(const void *store)
{
	for (size_t i = 0; i < STORES_MAX; i++)
		if (stores[i].pid == sim_current() &&
		    (stores[i].slab == store || stores[i].pool == store))
			stores[i].pid = 0;
}

void __wrap_slab_init(struct slab *slab, size_t object_size, uint32_t max, uint32_t magic)
{
	__real_slab_init(slab, object_size, max, magic);
	add(slab, NULL);
}

void __wrap_slab_fini(struct slab *slab)
{
	remove_one(slab);
	__real_slab_fini(slab);
}

void __wrap_block_pool_init(struct block_pool *pool, uint32_t max)
{
	__real_block_pool_init(pool, max);
	add(NULL, pool);
}

void __wrap_block_pool_fini(struct block_pool *pool)
{
	remove_one(pool);
	__real_block_pool_fini(pool);
}

void *__wrap_slab_alloc(struct slab *slab)
{
	void *object;

	sim_allocations_are_room(true);
	object = __real_slab_alloc(slab);
	sim_allocations_are_room(false);
	return object;
}

int __wrap_map_reserve(struct map *map, size_t count)
{
	int error;

	sim_allocations_are_room(true);
	error = __real_map_reserve(map, count);
	sim_allocations_are_room(false);
	return error;
}

int __wrap_map_set(struct map *map, uint64_t key, void *value)
{
	int error;

	sim_allocations_are_room(true);
	error = __real_map_set(map, key, value);
	sim_allocations_are_room(false);
	return error;
}

void *__wrap_map_remove(struct map *map, uint64_t key)
{
	void *value;

	sim_allocations_are_room(true);
	value = __real_map_remove(map, key);
	sim_allocations_are_room(false);
	return value;
}

bool __wrap_heap_grow(void **array, size_t *capacity, size_t wanted, size_t item_size)
{
	bool has_grown;

	sim_allocations_are_room(true);
	has_grown = __real_heap_grow(array, capacity, wanted, item_size);
	sim_allocations_are_room(false);
	return has_grown;
}

struct counting {
	const char *role;
	struct census *census;
};

/* Spare exchanges keep the first block of their arenas. */
static void count_edge(const struct edge *edge, struct census *census)
{
	for (const struct exchange *spare = edge->spare_exchanges; spare;
	     spare = spare->next_spare) {
		census->allocations -= spare->arena.taken ? 2 : 1;
		census->bytes -= sizeof(*spare) + spare->arena.taken;
	}
	census->objects += edge->connection_count + edge->exchange_count + edge->tls_count +
			   edge->handshake_count;
}

static void count_store(const struct store *store, struct census *census)
{
	if (store->slab)
		census->objects += store->slab->used;
	if (store->slab && store->slab->magic == EDGE_CONNECTION_MAGIC)
		count_edge(CONTAINER_OF(store->slab, struct edge, connection_slab), census);
	if (!store->pool)
		return;
	census->blocks += store->pool->used;
	census->allocations -= store->pool->kept;
	census->bytes -= store->pool->kept * sizeof(struct block);
}

static void count_process(void *owner, int pid, const char *role)
{
	struct counting *counting = owner;
	struct census *census = counting->census;
	struct keys_heap_use secrets = { 0 };

	if (strcmp(role, counting->role) != 0)
		return;
	if (sim_hook_state(pid))
		keys_heap_get_use(sim_hook_state(pid), &secrets);
	census->secrets += secrets.objects;
	for (size_t i = 0; i < STORES_MAX; i++)
		if (stores[i].pid == pid)
			count_store(&stores[i], census);
}

struct census census_of(const char *role)
{
	struct sim_use used = sim_used(role);
	struct census census = { .allocations = used.allocations, .bytes = used.bytes };

	sim_each(count_process, &(struct counting){ role, &census });
	return census;
}

bool census_equal(const struct census *a, const struct census *b)
{
	size_t apart = a->bytes > b->bytes ? a->bytes - b->bytes : b->bytes - a->bytes;

	return a->allocations == b->allocations && apart <= SIGNATURES &&
	       a->objects == b->objects && a->blocks == b->blocks && a->secrets == b->secrets;
}

void census_write(const struct census *census, struct writer *out)
{
	write_format(
		out,
		"%zu allocations of %zu bytes, %zu objects, %zu blocks, %zu of the secret heap",
		census->allocations, census->bytes, census->objects, census->blocks,
		census->secrets);
}
