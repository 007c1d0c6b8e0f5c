#include "base/base.h"

#include <stdlib.h>

/* A cell is empty (value NULL), a hole (value HOLE) or taken. A search goes over holes and ends at
 * an empty cell. */
struct map_cell {
	uint64_t key;
	void *value;
};

enum { CAPACITY_FIRST = 16 };

/* An address that no caller's value can have. */
static const char hole_mark;
#define HOLE ((void *)(uintptr_t)&hole_mark)

static bool is_taken(const struct map_cell *cell)
{
	return cell->value && cell->value != HOLE;
}

/* Ids count up and hashes are even already; both spread over the low bits after this. */
static size_t key_place(const struct map *map, uint64_t key)
{
	return (size_t)hash_mix(key) & (map->capacity - 1);
}

static size_t place_after(const struct map *map, size_t at)
{
	return (at + 1) & (map->capacity - 1);
}

void map_init(struct map *map)
{
	*map = (struct map){ 0 };
}

void map_fini(struct map *map)
{
	free(map->cells);
	map_init(map);
}

static struct map_cell *map_find(const struct map *map, uint64_t key)
{
	if (map->used == 0)
		return NULL;
	for (size_t at = key_place(map, key); map->cells[at].value; at = place_after(map, at))
		if (map->cells[at].key == key && is_taken(&map->cells[at]))
			return &map->cells[at];
	return NULL;
}

/* For a key that is absent, into the first cell that is free: a hole is as good as an empty one. */
static void map_place(struct map *map, uint64_t key, void *value)
{
	size_t at = key_place(map, key);

	while (is_taken(&map->cells[at]))
		at = place_after(map, at);
	if (map->cells[at].value == HOLE)
		map->holes--;
	map->cells[at] = (struct map_cell){ key, value };
	map->used++;
}

/* Without the holes. */
static int map_rebuild(struct map *map, size_t capacity)
{
	struct map grown = { .capacity = capacity };

	grown.cells = calloc(grown.capacity, sizeof(*grown.cells));
	if (!grown.cells)
		return -ENOMEM;
	for (size_t i = 0; i < map->capacity; i++)
		if (is_taken(&map->cells[i]))
			map_place(&grown, map->cells[i].key, map->cells[i].value);
	free(map->cells);
	*map = grown;
	return 0;
}

/* Doubles where live cells need it; otherwise the same size again. */
static int map_grow(struct map *map)
{
	if (!map->capacity)
		return map_rebuild(map, CAPACITY_FIRST);
	return map_rebuild(map, map->used >= map->capacity / 2 ? 2 * map->capacity : map->capacity);
}

int map_reserve(struct map *map, size_t count)
{
	size_t capacity = map->capacity ? map->capacity : CAPACITY_FIRST;

	if (map->capacity && map->used + map->holes + count <= map->capacity / 4 * 3)
		return 0;
	while (map->used + count > capacity / 4 * 3)
		capacity *= 2;
	return map_rebuild(map, capacity);
}

void *map_get(const struct map *map, uint64_t key)
{
	struct map_cell *cell = map_find(map, key);

	return cell ? cell->value : NULL;
}

int map_set(struct map *map, uint64_t key, void *value)
{
	struct map_cell *cell = map_find(map, key);
	int error;

	MUST(value && value != HOLE);
	if (cell) {
		cell->value = value;
		return 0;
	}
	/* A quarter stays empty: searches end soon, and end at all. */
	if (map->used + map->holes + 1 > map->capacity / 4 * 3) {
		error = map_grow(map);
		if (error)
			return error;
	}
	map_place(map, key, value);
	return 0;
}

void *map_remove(struct map *map, uint64_t key)
{
	struct map_cell *cell = map_find(map, key);
	size_t at;
	void *value;

	if (!cell)
		return NULL;
	value = cell->value;
	cell->value = HOLE;
	map->used--;
	map->holes++;
	/* A hole before an empty cell leads nowhere: it and those before it become empty again. */
	at = (size_t)(cell - map->cells);
	if (map->cells[place_after(map, at)].value)
		return value;
	while (map->cells[at].value == HOLE) {
		map->cells[at] = (struct map_cell){ 0 };
		map->holes--;
		at = (at - 1) & (map->capacity - 1);
	}
	return value;
}

void *map_next(const struct map *map, size_t *cursor, uint64_t *ret_key)
{
	while (*cursor < map->capacity) {
		const struct map_cell *cell = &map->cells[(*cursor)++];

		if (is_taken(cell)) {
			*ret_key = cell->key;
			return cell->value;
		}
	}
	return NULL;
}
