#include "base/base.h"

#include <stdlib.h>
#include <string.h>

#include "base/poison_internal.h"

enum { PAGE_SIZE_ABOUT = 8192 };

/* Stands before every object. The magic of a free one is inverted, so that an object freed twice,
 * one of another slab, and a stray pointer are all noticed at the door. */
struct slab_cell {
	uint32_t magic, unused_;
	struct slab_cell *next_free;
};

struct slab_page {
	struct slab_page *next;
	size_t size;
};

_Static_assert(sizeof(struct slab_cell) == 16 && sizeof(struct slab_page) == 16,
	       "objects are aligned to 16");

void slab_init(struct slab *slab, size_t object_size, uint32_t max, uint32_t magic)
{
	MUST(object_size < SIZE_MAX / 2);
	*slab = (struct slab){
		.size = sizeof(struct slab_cell) + ((object_size + 15) & ~(size_t)15),
		.magic = magic,
		.max = max,
	};
}

void slab_fini(struct slab *slab)
{
	while (slab->pages) {
		struct slab_page *page = slab->pages;

		slab->pages = page->next;
		UNPOISON(page, page->size);
		free(page);
	}
	slab->free = NULL;
	slab->used = 0;
}

static void cell_put(struct slab *slab, struct slab_cell *cell)
{
	cell->magic = ~slab->magic;
	cell->next_free = slab->free;
	slab->free = cell;
	POISON(cell + 1, slab->size - sizeof(*cell));
}

/* Called when no cell is free: there are as many cells as are used. Returns the first new one, or NULL. */
static struct slab_cell *slab_grow(struct slab *slab)
{
	size_t count = PAGE_SIZE_ABOUT / slab->size;
	struct slab_page *page;
	char *cells;

	if (count == 0)
		count = 1;
	if (count > slab->max - slab->used)
		count = slab->max - slab->used;
	page = malloc(sizeof(*page) + count * slab->size);
	if (!page)
		return NULL;
	*page = (struct slab_page){ slab->pages, sizeof(*page) + count * slab->size };
	slab->pages = page;
	cells = (char *)(page + 1);
	while (count--)
		cell_put(slab, (struct slab_cell *)(void *)(cells + count * slab->size));
	return slab->free;
}

void *slab_alloc(struct slab *slab)
{
	struct slab_cell *cell;

	if (slab->used >= slab->max)
		return NULL;
	cell = slab->free ? slab->free : slab_grow(slab);
	if (!cell)
		return NULL;
	MUST(cell->magic == ~slab->magic);
	slab->free = cell->next_free;
	slab->used++;
	cell->magic = slab->magic;
	UNPOISON(cell + 1, slab->size - sizeof(*cell));
	return memset(cell + 1, 0, slab->size - sizeof(*cell));
}

void slab_free(struct slab *slab, void *object)
{
	struct slab_cell *cell;

	if (!object)
		return;
	cell = (struct slab_cell *)object - 1;
	MUST(cell->magic == slab->magic && slab->used);
	slab->used--;
	cell_put(slab, cell);
}
