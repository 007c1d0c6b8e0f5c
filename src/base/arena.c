#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison_internal.h"

enum {
	BLOCK_SIZE_FIRST = 4096, /* with the header */
	BLOCK_SIZE_MOST =
		65536, /* blocks double up to here; a larger object gets a block of its size */
	ALIGN_MOST = 16,
};

struct arena_block {
	struct arena_block *older;
	size_t size; /* with this header */
	size_t used; /* handed out; set when a newer block takes its place */
	size_t unused_;
};

_Static_assert(sizeof(struct arena_block) % ALIGN_MOST == 0, "a block's first object is aligned");

static char *block_start(struct arena_block *block)
{
	return (char *)(block + 1);
}

static void block_free(struct arena *arena, struct arena_block *block)
{
	arena->taken -= block->size;
	UNPOISON(block_start(block), block->size - sizeof(*block));
	free(block);
}

static void block_enter(struct arena *arena, struct arena_block *block)
{
	arena->block = block;
	arena->at = block_start(block);
	arena->end = (char *)block + block->size;
	POISON(arena->at, block->size - sizeof(*block));
}

/* Makes a block that holds at least `size` bytes at any alignment. */
static bool arena_grow(struct arena *arena, size_t size)
{
	size_t wanted = arena->block ? arena->block->size * 2 : BLOCK_SIZE_FIRST;
	size_t least = sizeof(struct arena_block) + size;
	struct arena_block *block;

	if (arena->fixed || size > SIZE_MAX / 2)
		return false;
	if (wanted > BLOCK_SIZE_MOST)
		wanted = BLOCK_SIZE_MOST;
	if (arena->cap && wanted > arena->cap - arena->taken)
		wanted = arena->cap - arena->taken;
	if (wanted < least)
		wanted = least;
	if (arena->cap && wanted > arena->cap - arena->taken)
		return false;
	block = malloc(wanted);
	if (!block)
		return false;
	if (arena->block)
		arena->block->used = (size_t)(arena->at - block_start(arena->block));
	*block = (struct arena_block){ .older = arena->block, .size = wanted };
	arena->taken += wanted;
	block_enter(arena, block);
	return true;
}

void arena_init(struct arena *arena, size_t cap)
{
	*arena = (struct arena){ .cap = cap };
}

void arena_init_fixed(struct arena *arena, void *memory, size_t size)
{
	MUST(memory);
	*arena = (struct arena){
		.at = memory,
		.end = (char *)memory + size,
		.taken = size,
		.fixed = memory,
	};
	POISON(memory, size);
}

void arena_reset(struct arena *arena)
{
	if (arena->fixed) {
		arena->at = arena->fixed;
		POISON(arena->fixed, arena->taken);
		return;
	}
	while (arena->block && arena->block->older) {
		struct arena_block *older = arena->block->older;

		block_free(arena, arena->block);
		arena->block = older;
	}
	if (arena->block)
		block_enter(arena, arena->block);
}

void arena_fini(struct arena *arena)
{
	if (arena->fixed)
		UNPOISON(arena->fixed, arena->taken);
	while (arena->block) {
		struct arena_block *older = arena->block->older;

		block_free(arena, arena->block);
		arena->block = older;
	}
	*arena = (struct arena){ .cap = arena->cap };
}

static char *align_up(char *at, size_t align)
{
	size_t odd = (size_t)((uintptr_t)at & (align - 1));

	return odd ? at + (align - odd) : at;
}

/* The place of `size` bytes in the newest block, or NULL. */
static char *arena_place(const struct arena *arena, size_t size, size_t align)
{
	size_t left = (size_t)(arena->end - arena->at);
	size_t gap = arena->at ? (size_t)(align_up(arena->at, align) - arena->at) : 0;

	if (!arena->at || left < gap || left - gap < size)
		return NULL;
	return arena->at + gap;
}

void *arena_alloc(struct arena *arena, size_t size, size_t align)
{
	char *place;

	MUST(align && align <= ALIGN_MOST && (align & (align - 1)) == 0);
	if (size == 0)
		size = 1; /* so that NULL only ever means: no room */
	place = arena_place(arena, size, align);
	if (!place && arena_grow(arena, size))
		place = arena_place(arena, size, align);
	if (!place)
		return NULL;
	arena->at = place + size;
	UNPOISON(place, size);
	return memset(place, 0, size);
}

size_t arena_used(const struct arena *arena)
{
	size_t used = 0;

	if (arena->fixed)
		return (size_t)(arena->at - arena->fixed);
	if (!arena->block)
		return 0;
	for (const struct arena_block *block = arena->block->older; block; block = block->older)
		used += block->used;
	return used + (size_t)(arena->at - block_start(arena->block));
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size, size_t align)
{
	size_t whole;

	if (__builtin_mul_overflow(count, size, &whole))
		return NULL;
	return arena_alloc(arena, whole, align);
}

struct span arena_copy(struct arena *arena, struct span text)
{
	char *copy;

	if (text.len == 0)
		return SPAN_NONE;
	copy = arena_alloc(arena, text.len, 1);
	if (!copy)
		return SPAN_NONE;
	memcpy(copy, text.ptr, text.len);
	return span_of(copy, text.len);
}

char *arena_cstr(struct arena *arena, struct span text)
{
	char *copy = text.len < SIZE_MAX ? arena_alloc(arena, text.len + 1, 1) : NULL;

	if (copy && text.len)
		memcpy(copy, text.ptr, text.len);
	return copy;
}

struct span arena_join(struct arena *arena, const struct span *parts, size_t count)
{
	struct writer out;
	size_t len = 0;
	char *text;

	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	text = len ? arena_alloc(arena, len, 1) : NULL;
	if (!text)
		return SPAN_NONE;
	out = writer_of(text, len);
	for (size_t i = 0; i < count; i++)
		write_span(&out, parts[i]);
	return writer_done(&out);
}

struct span arena_format(struct arena *arena, const char *format, ...)
{
	va_list args, again;
	char *text = NULL;
	int len;

	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	if (len >= 0)
		text = arena_alloc(arena, (size_t)len + 1, 1);
	if (text)
		vsnprintf(text, (size_t)len + 1, format, again);
	va_end(again);
	va_end(args);
	return text ? span_of(text, (size_t)len) : SPAN_NONE;
}

/* ---- The heap --------------------------------------------------------------------------- */

void *heap_alloc(size_t size)
{
	return calloc(1, size ? size : 1);
}

void heap_free(void *memory)
{
	free(memory);
}

bool heap_grow(void **array, size_t *capacity, size_t wanted, size_t item_size)
{
	size_t count = *capacity ? *capacity : 8;
	size_t size;
	char *grown;

	if (wanted <= *capacity)
		return true;
	while (count < wanted)
		if (__builtin_mul_overflow(count, (size_t)2, &count))
			return false;
	if (__builtin_mul_overflow(count, item_size, &size) || size > PTRDIFF_MAX)
		return false;
	grown = realloc(*array, size);
	if (!grown)
		return false;
	memset(grown + *capacity * item_size, 0, (count - *capacity) * item_size);
	*array = grown;
	*capacity = count;
	return true;
}

struct span arena_bytes(struct arena *arena)
{
	MUST(arena->fixed);
	UNPOISON(arena->fixed, arena_used(arena));
	return span_of(arena->fixed, arena_used(arena));
}
