#include "os/sim/internal.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#if OS_SANITIZED
#include <sanitizer/asan_interface.h>
#define CLEAN(at, size) __asan_unpoison_memory_region((at), (size))
#else
#define CLEAN(at, size) ((void)(at), (void)(size))
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Memory files have one home, which all processes see where they did not ask for an address. A map at an
 * address is an image: it lies there while a process runs that has it, and is moved away when another one
 * that has something else at that place goes on. */

enum { RED_MAX = 128 * 1024, USED_MAX = 2 << 20, POOL_SIZE = 64 << 20 };

static size_t pages(size_t size)
{
	return (size + 4095) & ~(size_t)4095;
}

static char *fresh_pages(void *at, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *memory = mmap(at, pages(size), PROT_READ | PROT_WRITE,
			    at ? flags | MAP_FIXED_NOREPLACE : flags, -1, 0);

	MUST(memory != MAP_FAILED && (!at || memory == at));
	return memory;
}

/* Homes lie in one piece of the address space, which outlives the world and is made zero at its end, by one call:
 * of a large one (a ring of the log) little is ever used, and zeroing it all would be most of what a world costs.
 * What is given back before that is taken again by the next of its size. */
static char *pool;
static size_t pool_used;
static struct {
	char *memory;
	size_t size;
} homes[64];
static size_t home_count;

static char *home_take(size_t size)
{
	char *memory;

	for (size_t i = home_count; i-- > 0;) {
		memory = homes[i].memory;
		if (homes[i].size != pages(size))
			continue;
		homes[i] = homes[--home_count];
		memset(memory, 0, pages(size));
		return memory;
	}
	if (!pool)
		pool = fresh_pages(NULL, POOL_SIZE);
	if (pages(size) > POOL_SIZE - pool_used)
		return fresh_pages(NULL, size);
	memory = pool + pool_used;
	pool_used += pages(size);
	return memory;
}

static bool is_of_pool(const char *memory)
{
	return memory >= pool && memory < pool + POOL_SIZE;
}

static void home_give(char *memory, size_t size)
{
	if (home_count < ARRAY_LEN(homes)) {
		homes[home_count].memory = memory;
		homes[home_count++].size = pages(size);
	} else if (!is_of_pool(memory)) {
		munmap(memory, pages(size));
	}
}

void sim_homes_reset(void)
{
	while (home_count)
		if (!is_of_pool(homes[--home_count].memory))
			munmap(homes[home_count].memory, homes[home_count].size);
	if (pool_used)
		MUST(madvise(pool, pool_used, MADV_DONTNEED) == 0);
	pool_used = 0;
}

int os_memory_new(const char *name, size_t size, int *ret_fd)
{
	struct sim_file *file;
	struct sim_node *node;

	(void)name;
	SIM_CALL(-EMFILE, -ENOMEM);
	node = sim_node_new(OS_FILE_REGULAR, 0600);
	node->is_memory = true;
	node->len = node->capacity = size;
	node->bytes = size ? home_take(size) : NULL;
	file = sim_file_new(SIM_NODE, SIM_MAY_READ | SIM_MAY_WRITE);
	file->node = sim_node_ref(node);
	return sim_descriptor_add(file, ret_fd);
}

#if OS_SANITIZED
void __real___asan_poison_memory_region(const volatile void *at, size_t size);
void __wrap___asan_poison_memory_region(const volatile void *at, size_t size);

/* An arena in a snapshot's place (64 MiB) would have eight of shadow written for each change, at another place
 * in each world: red behind what is used is enough. */
void __wrap___asan_poison_memory_region(const volatile void *at, size_t size)
{
	__real___asan_poison_memory_region(at, size < RED_MAX ? size : RED_MAX);
}
#endif

/* Whoever comes to this place next must not find what an arena there had poisoned. */
static void place_clean(const struct sim_image *image)
{
	size_t size = pages(image->size);

	CLEAN(image->at, size < USED_MAX ? size : USED_MAX);
}

static void image_unref(struct sim_image *image)
{
	if (--image->references)
		return;
	if (!image->parked)
		place_clean(image);
	munmap(image->parked ? image->parked : image->at, pages(image->size));
	list_remove(&image->link);
	sim_own_free(image);
}

void sim_memory_free(struct sim_node *node)
{
	if (node->bytes)
		home_give(node->bytes, node->capacity);
	if (node->image)
		image_unref(node->image);
}

static struct sim_node *memory_of(int fd)
{
	struct sim_file *file = sim_descriptor(fd);

	return file && file->kind == SIM_NODE ? file->node : NULL;
}

int os_memory_seal(int fd, enum os_seal seal)
{
	struct sim_node *node = memory_of(fd);

	SIM_CALL(-EPERM);
	if (!node || !node->is_memory)
		return -EINVAL;
	if (node->seals_size)
		return -EPERM; /* the first seal seals the seals */
	node->seals_size = true;
	node->seals_all = seal == OS_SEAL_ALL;
	return 0;
}

int os_memory_is_sealed(int fd, enum os_seal seal)
{
	struct sim_node *node = memory_of(fd);

	if (!node || !node->is_memory)
		return 0;
	return seal == OS_SEAL_ALL ? node->seals_all : node->seals_size;
}

int os_memory_read_only(int fd, int *ret_fd)
{
	struct sim_node *node = memory_of(fd);
	struct sim_file *file;

	SIM_CALL(-EMFILE);
	if (!node)
		return -EBADF;
	file = sim_file_new(SIM_NODE, SIM_MAY_READ);
	file->node = sim_node_ref(node);
	return sim_descriptor_add(file, ret_fd);
}

/* ---- Images ------------------------------------------------------------------------------------ */

static void image_park(struct sim_image *image)
{
	char *room = mmap(NULL, pages(image->size), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	/* mremap() to one size moves nothing by itself: it must be told where to. */
	MUST(room != MAP_FAILED);
	image->parked = mremap(image->at, pages(image->size), pages(image->size),
			       MREMAP_MAYMOVE | MREMAP_FIXED, room);
	MUST(image->parked != MAP_FAILED);
	place_clean(image);
}

static bool overlap(const char *a, size_t a_size, const char *b, size_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

static void image_place(struct sim_image *image)
{
	if (!image->parked)
		return;
	LIST_EACH(&sim.images, node) {
		struct sim_image *other = LIST_ITEM(node, struct sim_image, link);

		if (!other->parked &&
		    overlap(other->at, pages(other->size), image->at, pages(image->size)))
			image_park(other);
	}
	MUST(mremap(image->parked, pages(image->size), pages(image->size),
		    MREMAP_MAYMOVE | MREMAP_FIXED, image->at) == image->at);
	image->parked = NULL;
}

static struct sim_image *image_new(void *at, size_t size)
{
	struct sim_image *image = sim_own_alloc(sizeof(*image));

	image->at = at;
	image->size = size;
	image->references = 1;
	image->parked = fresh_pages(NULL, size);
	list_push_back(&sim.images, &image->link);
	return image;
}

void sim_maps_enter(struct sim_process *process)
{
	LIST_EACH(&process->maps, node) {
		struct sim_map *map = LIST_ITEM(node, struct sim_map, link);

		if (map->image)
			image_place(map->image);
	}
}

/* ---- Maps -------------------------------------------------------------------------------------- */

static void map_free(struct sim_map *map)
{
	list_remove(&map->link);
	if (map->image)
		image_unref(map->image);
	if (map->is_own) {
		CLEAN(map->at, pages(map->size));
		home_give(map->at, map->size);
	}
	if (map->node)
		sim_node_unref(map->node);
	sim_own_free(map);
}

void sim_maps_drop(struct sim_process *process)
{
	LIST_EACH(&process->maps, node)
		map_free(LIST_ITEM(node, struct sim_map, link));
}

static bool place_is_taken(const struct sim_process *process, const char *at, size_t size)
{
	LIST_EACH(&process->maps, node) {
		const struct sim_map *map = LIST_ITEM(node, struct sim_map, link);

		if (overlap(map->at, pages(map->size), at, pages(size)))
			return true;
	}
	return false;
}

static int map_check(int fd, size_t size, void *at, unsigned flags)
{
	struct sim_file *file = fd >= 0 ? sim_descriptor(fd) : NULL;

	if (!size)
		return -EINVAL;
	if (fd >= 0 && !file)
		return -EBADF;
	if (file &&
	    (file->kind != SIM_NODE || !file->node->is_memory || size > file->node->capacity))
		return -ENODEV;
	if (file && (!(file->access & SIM_MAY_READ) ||
		     (flags & OS_MAP_WRITE && !(file->access & SIM_MAY_WRITE))))
		return -EACCES;
	if (file && flags & OS_MAP_WRITE && file->node->seals_all)
		return -EPERM;
	return at && place_is_taken(sim.current, at, size) ? -EEXIST : 0;
}

/* The bytes of a sealed file at a place: all who map it there share one image. */
static struct sim_image *image_of(struct sim_node *node, void *at, size_t size)
{
	MUST(node->seals_all);
	if (!node->image) {
		node->image = image_new(at, size);
		memcpy(node->image->parked, node->bytes, size);
	}
	MUST(node->image->at == at && node->image->size >= size);
	node->image->references++;
	return node->image;
}

int os_memory_map(int fd, size_t size, void *at, unsigned flags, void **ret_memory)
{
	struct sim_map *map;
	int error;

	SIM_CALL(-ENOMEM);
	error = map_check(fd, size, at, flags);
	if (error)
		return error;
	map = sim_own_alloc(sizeof(*map));
	map->size = size;
	if (fd >= 0)
		map->node = sim_node_ref(memory_of(fd));
	if (at) {
		map->image = map->node ? image_of(map->node, at, size) : image_new(at, size);
		map->at = at;
		image_place(map->image);
	} else if (map->node) {
		map->at = map->node->bytes;
	} else {
		map->at = home_take(size);
		map->is_own = true;
	}
	list_push_back(&sim.current->maps, &map->link);
	*ret_memory = map->at;
	return 0;
}

int os_memory_reserve(void *at, size_t size)
{
	SIM_CALL(-ENOMEM);
	return place_is_taken(sim.current, at, size) ? -EEXIST : 0;
}

void os_memory_unmap(void *memory, size_t size)
{
	if (!memory)
		return;
	LIST_EACH(&sim.current->maps, node) {
		struct sim_map *map = LIST_ITEM(node, struct sim_map, link);

		if (map->at == memory && pages(map->size) == pages(size)) {
			map_free(map);
			return;
		}
	}
	MUST(!"a map of this process");
}

int os_memory_protect(void *memory, size_t size)
{
	(void)memory;
	(void)size;
	SIM_CALL(-ENOMEM);
	return 0;
}

int os_secret_map(size_t size, void **ret_memory, enum os_secret_kind *ret_kind)
{
	int error;

	SIM_CALL(-ENOMEM);
	error = os_memory_map(-1, size, NULL, OS_MAP_WRITE, ret_memory);
	if (!error)
		*ret_kind = OS_SECRET_HIDDEN;
	return error;
}

void os_hook_state_set(void *state)
{
	sim.current->hook_state = state;
}

void *os_hook_state(void)
{
	return sim.current ? sim.current->hook_state : NULL;
}
