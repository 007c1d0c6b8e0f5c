#include "telemetry/telemetry.h"

#include <string.h>

/* A record: one word, then the line, then padding to 8. The word is read once, by one load, so that what
 * was checked is what is used. */
enum {
	WORD_SIZE = 8,
	WORD_MAGIC = 0x7063, /* catches a consumer that lost its place */
	RING_MASK = TELEMETRY_RING_BYTES - 1,
};
enum { AWAKE, SLEEPS, RESTS }; /* telemetry_ring.sleeps */
_Static_assert((TELEMETRY_RING_BYTES & RING_MASK) == 0 &&
		       TELEMETRY_LINE_MAX < TELEMETRY_RING_BYTES / 4,
	       "positions are masked");

static uint64_t word_of(enum telemetry_ring_kind kind, size_t len)
{
	return (uint64_t)WORD_MAGIC << 48 | (uint64_t)kind << 32 | len;
}

static uint64_t padded(uint64_t len)
{
	return (len + 7) & ~UINT64_C(7);
}

/* Words are aligned and never wrap, whatever a position is. */
static uint64_t *word_at(struct telemetry_ring *ring, uint64_t position)
{
	return (uint64_t *)(void *)(ring->bytes + (position & RING_MASK & ~UINT64_C(7)));
}

static void copy_in(struct telemetry_ring *ring, uint64_t position, struct span line)
{
	size_t at = (size_t)(position & RING_MASK);
	size_t first = TELEMETRY_RING_BYTES - at < line.len ? TELEMETRY_RING_BYTES - at : line.len;

	memcpy(ring->bytes + at, line.ptr, first);
	memcpy(ring->bytes, line.ptr + first, line.len - first);
}

static void copy_out(const struct telemetry_ring *ring, uint64_t position, char *buf, size_t len)
{
	size_t at = (size_t)(position & RING_MASK);
	size_t first = TELEMETRY_RING_BYTES - at < len ? TELEMETRY_RING_BYTES - at : len;

	memcpy(buf, ring->bytes + at, first);
	memcpy(buf + first, ring->bytes, len - first);
}

int telemetry_ring_write(struct telemetry_ring *ring, enum telemetry_ring_kind kind,
			 struct span line)
{
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED) & ~UINT64_C(7);
	uint64_t used = head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	uint64_t size = WORD_SIZE + padded(line.len);
	uint32_t sleeps;

	MUST(line.len && line.len <= TELEMETRY_LINE_MAX);
	/* A tail that makes no sense counts as full: the consumer empties the ring when it looks. */
	if (used > TELEMETRY_RING_BYTES || TELEMETRY_RING_BYTES - used < size) {
		telemetry_add(&ring->dropped, 1);
		return TELEMETRY_RING_FULL;
	}
	__atomic_store_n(word_at(ring, head), word_of(kind, line.len), __ATOMIC_RELAXED);
	copy_in(ring, head + WORD_SIZE, line);
	/* The store of head and the load of `sleeps` must not change places, here as in
	 * telemetry_ring_sleep(): one of the two sides sees the other's. */
	__atomic_store_n(&ring->head, head + size, __ATOMIC_SEQ_CST);
	sleeps = __atomic_load_n(&ring->sleeps, __ATOMIC_SEQ_CST);
	if (!sleeps || (sleeps == RESTS && used + size < TELEMETRY_RING_WAKE_BYTES))
		return 0;
	telemetry_ring_awake(ring);
	return TELEMETRY_RING_WAKE;
}

static int ring_give_up(struct telemetry_ring *ring, uint64_t head)
{
	__atomic_store_n(&ring->broken, ring->broken + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&ring->tail, head, __ATOMIC_RELEASE);
	return TELEMETRY_RING_BROKEN;
}

static void replace_controls(char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)bytes[i] < 0x20 || bytes[i] == 0x7f)
			bytes[i] = '?';
}

/* The line may be anybody's: it shall neither become two lines nor move a terminal's cursor. Hardly any has a control
 * character, so eight bytes are looked at together; a word that may have one (a borrow can mark the byte behind it
 * too) again one by one. */
static struct span make_plain(char *buf, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
	size_t at = 0;

	for (; len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
		uint64_t word, erase;

		memcpy(&word, buf + at, sizeof(word));
		erase = word ^ ones * 0x7f;
		if ((((word - ones * 0x20) & ~word) | ((erase - ones) & ~erase)) & tops)
			replace_controls(buf + at, sizeof(word));
	}
	replace_controls(buf + at, len - at);
	buf[len - 1] = '\n';
	return span_of(buf, len);
}

int telemetry_ring_read(struct telemetry_ring *ring, char *buf, enum telemetry_ring_kind *ret_kind,
			struct span *ret_line)
{
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) & ~UINT64_C(7);
	uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
	uint64_t used = head - tail, word, len, kind;

	if (used == 0)
		return TELEMETRY_RING_EMPTY;
	if (used > TELEMETRY_RING_BYTES || used < WORD_SIZE || tail % 8)
		return ring_give_up(ring, head);
	word = __atomic_load_n(word_at(ring, tail), __ATOMIC_RELAXED);
	len = word & UINT32_MAX;
	kind = word >> 32 & UINT16_MAX;
	if (word >> 48 != WORD_MAGIC || len == 0 || len > TELEMETRY_LINE_MAX ||
	    WORD_SIZE + padded(len) > used ||
	    (kind != TELEMETRY_RING_ACCESS && kind != TELEMETRY_RING_EVENT))
		return ring_give_up(ring, head);
	copy_out(ring, tail + WORD_SIZE, buf, (size_t)len);
	__atomic_store_n(&ring->tail, tail + WORD_SIZE + padded(len), __ATOMIC_RELEASE);
	*ret_kind = (enum telemetry_ring_kind)kind;
	*ret_line = make_plain(buf, (size_t)len);
	return 0;
}

/* Not by a difference of masked positions: full and empty would look alike. */
bool telemetry_ring_is_empty(const struct telemetry_ring *ring)
{
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_SEQ_CST) & ~UINT64_C(7);

	return head == __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST);
}

bool telemetry_ring_sleep(struct telemetry_ring *ring)
{
	__atomic_store_n(&ring->sleeps, SLEEPS, __ATOMIC_SEQ_CST);
	if (telemetry_ring_is_empty(ring))
		return true;
	telemetry_ring_awake(ring);
	return false;
}

bool telemetry_ring_rest(struct telemetry_ring *ring)
{
	uint64_t head;

	__atomic_store_n(&ring->sleeps, RESTS, __ATOMIC_SEQ_CST);
	head = __atomic_load_n(&ring->head, __ATOMIC_SEQ_CST) & ~UINT64_C(7);
	if (head - __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) < TELEMETRY_RING_WAKE_BYTES)
		return true;
	telemetry_ring_awake(ring);
	return false;
}

void telemetry_ring_awake(struct telemetry_ring *ring)
{
	__atomic_store_n(&ring->sleeps, AWAKE, __ATOMIC_RELAXED);
}
