#include "base/base.h"

/* Stands in for NULL, whose arithmetic is undefined even by 0. */
static const uint8_t no_bytes[1];

struct reader reader_of(struct span bytes)
{
	const uint8_t *at = bytes.ptr ? (const uint8_t *)bytes.ptr : no_bytes;

	return (struct reader){ at, at + bytes.len, true };
}

size_t reader_left(const struct reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* Yields where the next `len` bytes stand, or NULL. A reader that failed once has nothing left, so
 * what follows a gap is never taken for what should have stood there. */
static const uint8_t *take(struct reader *reader, size_t len)
{
	const uint8_t *taken = reader->at;

	if (!reader->ok || reader_left(reader) < len) {
		reader->ok = false;
		reader->at = reader->end;
		return NULL;
	}
	reader->at += len;
	return taken;
}

static uint64_t read_big_endian(struct reader *reader, size_t len)
{
	const uint8_t *bytes = take(reader, len);
	uint64_t value = 0;

	for (size_t i = 0; bytes && i < len; i++)
		value = value << 8 | bytes[i];
	return value;
}

uint8_t read_u8(struct reader *reader)
{
	return (uint8_t)read_big_endian(reader, 1);
}

uint16_t read_be16(struct reader *reader)
{
	return (uint16_t)read_big_endian(reader, 2);
}

uint32_t read_be24(struct reader *reader)
{
	return (uint32_t)read_big_endian(reader, 3);
}

uint32_t read_be32(struct reader *reader)
{
	return (uint32_t)read_big_endian(reader, 4);
}

uint64_t read_be64(struct reader *reader)
{
	return read_big_endian(reader, 8);
}

struct span read_span(struct reader *reader, size_t len)
{
	const uint8_t *bytes = take(reader, len);

	return bytes ? span_of(bytes, len) : SPAN_NONE;
}

struct reader read_sub(struct reader *reader, size_t len)
{
	const uint8_t *bytes = take(reader, len);

	if (!bytes)
		return (struct reader){ no_bytes, no_bytes, false };
	return (struct reader){ bytes, bytes + len, true };
}
