#include "keys/keys.h"

#include <string.h>

#include "os/os.h"

/* Size classes, four to a doubling, each with a list of what was given back. Nothing is joined or split:
 * libcrypto asks for the same few sizes again and again (a signature allocates and frees the same ones), so
 * what one took the next one finds. Where the untouched rest is used up, a bigger class lends. */

enum {
	ALIGNMENT = 16,
	CLASS_MIN_SHIFT = 5, /* the smallest class is 32 bytes, header included */
	CLASS_DOUBLINGS = 16,
	CLASS_COUNT = CLASS_DOUBLINGS * 4 + 1, /* up to 2 MiB */
	HEAP_SIZE_MIN = 64 * 1024,
	PER_KEY = 16 * 1024,
	BASE_SIZE = 2 * 1024 * 1024,
};

enum { MAGIC_USED = 0x6b657973, MAGIC_FREE = 0x66726565 };

struct header {        /* before each object */
	uint64_t size; /* what was asked for */
	uint32_t class;
	uint32_t magic;
};
_Static_assert(sizeof(struct header) == ALIGNMENT, "objects stay aligned");

struct free_object {
	struct header header;
	struct free_object *next;
};

struct keys_heap {
	char *start, *at, *end; /* from `at` on nothing was ever handed out */
	struct keys_heap_use use;
	struct free_object *free[CLASS_COUNT];
};

static size_t class_size(uint32_t class)
{
	size_t base = (size_t)1 << (CLASS_MIN_SHIFT + class / 4);
	size_t size = base + base / 4 * (class % 4);

	return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* The smallest class that holds `total` bytes; CLASS_COUNT where there is none. */
static uint32_t class_for(size_t total)
{
	uint32_t class = 0;

	if (total > class_size(CLASS_COUNT - 1))
		return CLASS_COUNT;
	while (total > class_size(class + 4))
		class += 4;
	while (total > class_size(class))
		class ++;
	return class;
}

struct keys_heap *keys_heap_new(void *memory, size_t size)
{
	struct keys_heap *heap = memory;
	size_t own = (sizeof(*heap) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);

	if (size < HEAP_SIZE_MIN || ((uintptr_t)memory & (ALIGNMENT - 1)) != 0)
		return NULL;
	memset(heap, 0, sizeof(*heap));
	heap->start = heap->at = (char *)memory + own;
	heap->end = (char *)memory + (size & ~(size_t)(ALIGNMENT - 1));
	heap->use.size = (size_t)(heap->end - heap->start);
	return heap;
}

static struct header *take_free(struct keys_heap *heap, uint32_t class)
{
	struct free_object *object = heap->free[class];

	if (!object)
		return NULL;
	MUST(object->header.magic == MAGIC_FREE && object->header.class == class);
	heap->free[class] = object->next;
	object->next = NULL;
	return &object->header;
}

static struct header *take_fresh(struct keys_heap *heap, uint32_t class)
{
	size_t size = class_size(class);

	if ((size_t)(heap->end - heap->at) < size)
		return NULL;
	struct header *header = (void *)heap->at;
	heap->at += size;
	header->class = class;
	return header;
}

void *keys_heap_alloc(struct keys_heap *heap, size_t size)
{
	size_t room =
		size > sizeof(void *) ? size : sizeof(void *); /* a free object holds a link */

	if (room > heap->use.size)
		return NULL;
	uint32_t class = class_for(room + sizeof(struct header));
	if (class == CLASS_COUNT)
		return NULL;
	struct header *header = take_free(heap, class);
	if (!header)
		header = take_fresh(heap, class);
	for (uint32_t bigger = class + 1; !header && bigger < CLASS_COUNT; bigger++)
		header = take_free(heap, bigger);
	if (!header)
		return NULL;
	header->size = size;
	header->magic = MAGIC_USED;
	heap->use.used += class_size(header->class);
	heap->use.objects++;
	if (heap->use.used > heap->use.peak)
		heap->use.peak = heap->use.used;
	return header + 1;
}

static struct header *header_of(struct keys_heap *heap, void *memory)
{
	struct header *header = (struct header *)memory - 1;

	MUST((char *)header >= heap->start && (char *)header < heap->at);
	MUST(header->magic == MAGIC_USED && header->class < CLASS_COUNT);
	return header;
}

void keys_heap_free(struct keys_heap *heap, void *memory)
{
	if (!memory)
		return;
	struct header *header = header_of(heap, memory);
	crypto_wipe(memory, header->size);
	heap->use.used -= class_size(header->class);
	heap->use.objects--;
	header->size = 0;
	header->magic = MAGIC_FREE;
	struct free_object *object = (void *)header;
	object->next = heap->free[header->class];
	heap->free[header->class] = object;
}

void *keys_heap_resize(struct keys_heap *heap, void *memory, size_t size)
{
	if (!memory)
		return keys_heap_alloc(heap, size);
	struct header *header = header_of(heap, memory);
	if (size <= class_size(header->class) - sizeof(*header)) {
		if (size < header->size)
			crypto_wipe((char *)memory + size, header->size - size);
		header->size = size;
		return memory;
	}
	void *bigger = keys_heap_alloc(heap, size);
	if (!bigger)
		return NULL;
	memcpy(bigger, memory, header->size);
	keys_heap_free(heap, memory);
	return bigger;
}

void keys_heap_get_use(const struct keys_heap *heap, struct keys_heap_use *ret_use)
{
	*ret_use = heap->use;
}

size_t keys_heap_size_for(size_t key_count)
{
	return (size_t)BASE_SIZE + key_count * PER_KEY;
}

/* libcrypto's hooks have no owner argument: os, the one module with a state of its own, keeps the pointer. */

static void *hook_alloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return keys_heap_alloc(os_hook_state(), size);
}

static void hook_free(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	keys_heap_free(os_hook_state(), memory);
}

static void *hook_resize(void *memory, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return keys_heap_resize(os_hook_state(), memory, size);
}

int keys_heap_install(struct keys_heap *heap)
{
	static const struct crypto_memory hooks = { hook_alloc, hook_free, hook_resize };

	os_hook_state_set(heap);
	return crypto_set_memory(&hooks);
}
