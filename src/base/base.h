/* base: what every other module stands on: spans, readers and writers of bytes, arenas, slabs, lists,
 * maps, hashes, numbers and MUST.
 *
 * It makes no system call except through malloc, and none of its state is global. Nothing here is
 * safe to share between threads: a process is one thread (ARCHITECTURE.md).
 *
 * Errors in the whole program: an `int` is 0 for done, negative (-errno) for our own failure, positive
 * for an outcome out of the module's enum. Functions that can only fail by running out of arena or
 * writer space say so through a NULL result or the writer's `ok`. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(text, first) __attribute__((__format__(__printf__, text, first)))
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* MUST: what only a bug of ours can make false. Always compiled in; it never depends on a peer's bytes. */
#define MUST(condition) ((condition) ? (void)0 : base_fail(__FILE__, __LINE__, #condition))
/* Of arrays of which most calls use the first few: zeroed whole (-ftrivial-auto-var-init) they would cost more than
 * the call. What is used of them is set first. */
#define UNINITIALIZED __attribute__((uninitialized))
NORETURN void base_fail(const char *file, int line, const char *condition);

/* ---- Spans: a view of bytes that somebody else owns. ptr may be NULL when len is 0. ---------------- */

struct span {
	const char *ptr;
	size_t len; /* bytes */
};

#define SPAN(literal) ((struct span){ "" literal "", sizeof(literal) - 1 })
#define SPAN_NONE ((struct span){ NULL, 0 })
/* For printf's "%.*s". */
#define SPAN_ARG(span) (int)(span).len, (span).len ? (span).ptr : ""

static inline struct span span_of(const void *ptr, size_t len)
{
	return (struct span){ (const char *)ptr, len };
}
static inline struct span span_str(
	const char *text) /* of a NUL-terminated string; NULL gives the empty span */
{
	return text ? span_of(text, strlen(text)) : SPAN_NONE;
}
static inline bool span_equal(struct span a, struct span b)
{
	/* memcmp may not be given NULL, not even with length 0. */
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
bool span_equal_nocase(struct span a, struct span b); /* ASCII letters only */
int span_compare(struct span a, struct span b);       /* bytewise, shorter first; <0, 0, >0 */
bool span_starts_with(struct span text, struct span prefix);
bool span_ends_with(struct span text, struct span suffix);
/* The offset of the first such byte or text, or text.len where there is none. */
size_t span_find_byte(struct span text, char byte);
size_t span_find(struct span text, struct span needle);
/* The part from `offset` on / up to `len` bytes; both clamp to what there is. */
static inline struct span span_skip(struct span text, size_t offset)
{
	if (offset > text.len)
		offset = text.len;
	return text.ptr ? span_of(text.ptr + offset, text.len - offset) : SPAN_NONE;
}
static inline struct span span_first(struct span text, size_t len)
{
	return span_of(text.ptr, len < text.len ? len : text.len);
}
struct span span_trim(struct span text); /* blanks and tabs at both ends (RFC 9110, 5.6.3 OWS) */
/* Takes the part before `separator` off *rest (and the separator with it). The last part is what is left
 * when no separator stands any more; false once nothing is left at all (ptr of *rest is then NULL). */
bool span_cut(struct span *rest, char separator, struct span *ret_part);

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline bool ascii_is_digit(char c)
{
	return c >= '0' && c <= '9';
}
static inline bool ascii_is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
int ascii_hex_value(char c); /* 0..15, or -1 */

/* ---- Readers: a cursor over bytes. Past the end it yields zeroes and clears `ok`. ------------------- */

struct reader {
	const uint8_t *at, *end;
	bool ok;
};

struct reader reader_of(struct span bytes);
size_t reader_left(const struct reader *reader);
uint8_t read_u8(struct reader *reader);
uint16_t read_be16(struct reader *reader);
uint32_t read_be24(struct reader *reader);
uint32_t read_be32(struct reader *reader);
uint64_t read_be64(struct reader *reader);
struct span read_span(struct reader *reader, size_t len);
struct reader read_sub(struct reader *reader, size_t len);

/* ---- Writers: append to a fixed buffer. What does not fit clears `ok` and is left out whole; after it nothing
 * is written any more: what stands there is a beginning of what was meant, never a text with a gap. ---- */

struct writer {
	char *start, *at, *end;
	bool ok;
};

static inline struct writer writer_of(void *buf, size_t size)
{
	char *start = (char *)buf;

	return (struct writer){ start, start, size ? start + size : start, true };
}
/* what was written so far */
static inline struct span writer_done(const struct writer *writer)
{
	return span_of(writer->start, (size_t)(writer->at - writer->start));
}
/* Room for `len` bytes that the caller fills, or NULL. */
static inline char *write_room(struct writer *writer, size_t len)
{
	char *room = writer->at;

	if (!writer->ok || (size_t)(writer->end - room) < len) {
		writer->ok = false;
		return NULL;
	}
	if (len)
		writer->at = room + len;
	return room;
}
static inline void write_byte(struct writer *writer, char byte)
{
	char *room = write_room(writer, 1);

	if (room)
		*room = byte;
}
static inline void write_span(struct writer *writer, struct span text)
{
	char *room = write_room(writer, text.len);

	if (room && text.len)
		memcpy(room, text.ptr, text.len);
}
static inline void write_str(struct writer *writer, const char *text)
{
	write_span(writer, span_str(text));
}
void write_u64(struct writer *writer, uint64_t value);    /* decimal */
void write_hex(struct writer *writer, struct span bytes); /* lower case, two digits a byte */
void write_hex_u64(struct writer *writer, uint64_t value,
		   int digits); /* lower case, padded by zeroes */
void write_be16(struct writer *writer, uint16_t value);
void write_be24(struct writer *writer, uint32_t value);
void write_be32(struct writer *writer, uint32_t value);
void write_be64(struct writer *writer, uint64_t value);
/* A JSON string with its quotes. Whatever a peer can put into it stays one line and plain: control
 * characters, invalid UTF-8, C1, line separators and bidirectional marks are escaped; an invalid byte
 * becomes \u00XX. */
void write_json(struct writer *writer, struct span text);
/* How many bytes at its beginning stand in JSON as they are. */
size_t json_plain_len(struct span text);
/* What write_json() would escape becomes `?`, byte by byte; quotes and backslashes stay. */
void text_make_plain(char *text, size_t len);
void write_format(struct writer *writer, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- Arenas: memory that is freed all at once. ------------------------------------------------------
 * Allocations are zeroed. An arena never takes more than `cap` bytes from the heap (0: no cap); over it,
 * and when the heap is empty, an allocation returns NULL. A fixed arena lives in memory of the caller
 * and never grows: a snapshot is one. Under ASan what was not handed out is poisoned. */

struct arena_block;
struct arena {
	struct arena_block *block; /* newest first; NULL in a fixed arena */
	char *at, *end;
	size_t cap, taken; /* bytes taken from the heap, or of the fixed memory */
	char *fixed;
};

void arena_init(struct arena *arena, size_t cap);
void arena_init_fixed(struct arena *arena, void *memory, size_t size);
void arena_reset(struct arena *arena); /* keeps the first block */
void arena_fini(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size, size_t align) MUST_CHECK;
size_t arena_used(const struct arena *arena);
/* All of a fixed arena's bytes so far, gaps for alignment (zeroes) included: to be copied as a whole. */
struct span arena_bytes(struct arena *arena);
#define arena_new(arena, type) ((type *)arena_alloc((arena), sizeof(type), _Alignof(type)))
#define arena_array(arena, type, count) \
	((type *)arena_alloc_array((arena), (count), sizeof(type), _Alignof(type)))
void *arena_alloc_array(struct arena *arena, size_t count, size_t size, size_t align) MUST_CHECK;
/* A copy that lives as long as the arena. ptr is NULL when there was no room (and text was not empty). */
struct span arena_copy(struct arena *arena, struct span text) MUST_CHECK;
char *arena_cstr(struct arena *arena, struct span text) MUST_CHECK; /* NUL-terminated, or NULL */
/* The parts, one behind the other. As arena_copy. */
struct span arena_join(struct arena *arena, const struct span *parts, size_t count) MUST_CHECK;
struct span arena_format(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* The heap itself, for objects with a life of their own outside arenas and slabs. Zeroed. */
void *heap_alloc(size_t size) MUST_CHECK;
void heap_free(void *memory);
/* Grows *array of items of item_size so that `wanted` fit (doubling); false when the heap is empty. */
bool heap_grow(void **array, size_t *capacity, size_t wanted, size_t item_size) MUST_CHECK;

/* ---- Slabs: objects of one size, at most `max` of them, with a magic word checked at the door. ------ */

struct slab_page;
struct slab {
	size_t size; /* of one object, with its header */
	uint32_t magic, used, max;
	void *free;
	struct slab_page *pages;
};

void slab_init(struct slab *slab, size_t object_size, uint32_t max, uint32_t magic);
void slab_fini(struct slab *slab);
void *slab_alloc(struct slab *slab) MUST_CHECK;  /* zeroed; NULL at max or without memory */
void slab_free(struct slab *slab, void *object); /* NULL is fine; freed twice is a MUST */

/* ---- Lists: intrusive, doubly linked. An unlinked node is zeroed or points to itself. --------------- */

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *list)
{
	list->next = list->prev = list;
}
static inline bool list_is_empty(const struct list *list)
{
	return !list->next || list->next == list;
}
static inline bool list_is_linked(const struct list *node)
{
	return node->next && node->next != node;
}
static inline void list_push_back(struct list *list, struct list *node)
{
	node->prev = list->prev;
	node->next = list;
	list->prev->next = node;
	list->prev = node;
}
static inline void list_push_front(struct list *list, struct list *node)
{
	list_push_back(list->next, node);
}
static inline void list_remove(struct list *node) /* harmless on an unlinked node */
{
	if (!node->next)
		return;
	node->next->prev = node->prev;
	node->prev->next = node->next;
	node->next = node->prev = node;
}
#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)
/* Safe against removal of the current node. */
#define LIST_EACH(head, node) \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
	     node = node##_next, node##_next = node->next)

/* ---- Maps: 64-bit key → pointer, open addressing. Keys are ids or keyed hashes, never a peer's choice. */

struct map {
	struct map_cell *cells;
	size_t capacity, used, holes; /* used: values that stand in it */
};

void map_init(struct map *map);
void map_fini(struct map *map);
void *map_get(const struct map *map, uint64_t key); /* NULL when absent */
int map_set(struct map *map, uint64_t key,
	    void *value) MUST_CHECK; /* replaces; value not NULL; -ENOMEM */
/* Room for so many more: the next `count` calls of map_set() need no memory, whatever is removed between them. */
int map_reserve(struct map *map, size_t count) MUST_CHECK; /* -ENOMEM */
void *map_remove(struct map *map, uint64_t key);           /* what was there, or NULL */
/* Walks the map: *cursor starts at 0; NULL at the end. No change of the map meanwhile but removal of
 * the item just seen is allowed too: it leaves holes, it does not move others. */
void *map_next(const struct map *map, size_t *cursor, uint64_t *ret_key);

/* ---- Hashes and numbers --------------------------------------------------------------------------- */

uint64_t hash_siphash(const uint8_t key[16], struct span bytes); /* SipHash-2-4 */
/* The id of a thing by its canonical line: the same in every process, build and start. Never 0. */
uint64_t hash_id(struct span canonical);
/* SplitMix64's finisher: a bijection that leaves no two neighbours near each other. Nothing secret is safe in it. */
static inline uint64_t hash_mix(uint64_t value)
{
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

/* Digits only, no sign, no blanks, at most 20 (hexadecimal: 16); false when empty, of other bytes, or
 * above max. */
bool parse_u64(struct span text, uint64_t max, uint64_t *ret_value);
bool parse_hex_u64(struct span text, uint64_t max, uint64_t *ret_value);

/* Moves ownership: yields the value and leaves `none` behind. */
#define TAKE_FD(fd) \
	({ \
		int taken_fd_ = (fd); \
		(fd) = -1; \
		taken_fd_; \
	})
#define TAKE(pointer) \
	({ \
		__typeof__(pointer) taken_ = (pointer); \
		(pointer) = NULL; \
		taken_; \
	})
