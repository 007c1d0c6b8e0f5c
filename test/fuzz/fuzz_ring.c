/* The log ring in the hands of a taken-over producer: the input is written over positions and bytes.
 * Reading gives single plain lines, ends, and leaves a ring that works. */
#include "telemetry/telemetry.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct telemetry_ring ring;
static char buf[TELEMETRY_LINE_MAX];

static void read_all(void)
{
	enum telemetry_ring_kind kind;
	struct span line;
	int outcome, reads = 0;

	while ((outcome = telemetry_ring_read(&ring, buf, &kind, &line)) != TELEMETRY_RING_EMPTY) {
		MUST(++reads <= TELEMETRY_RING_BYTES / 16 + 1);
		if (outcome == TELEMETRY_RING_BROKEN)
			continue;
		MUST(kind == TELEMETRY_RING_ACCESS || kind == TELEMETRY_RING_EVENT);
		MUST(line.ptr == buf && line.len >= 1 && line.len <= TELEMETRY_LINE_MAX);
		for (size_t i = 0; i + 1 < line.len; i++)
			MUST((uint8_t)line.ptr[i] >= 0x20 && line.ptr[i] != 0x7f);
		MUST(line.ptr[line.len - 1] == '\n');
	}
	MUST(telemetry_ring_is_empty(&ring));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader reader = reader_of(span_of(data, size));
	struct span rest;
	size_t at;

	ring.head = read_be64(&reader);
	ring.tail = ring.head - read_be32(&reader);
	rest = read_span(&reader, reader_left(&reader));
	at = (size_t)ring.tail % TELEMETRY_RING_BYTES;
	for (size_t i = 0; i < rest.len; i++)
		ring.bytes[(at + i) % TELEMETRY_RING_BYTES] = rest.ptr[i];
	read_all();
	MUST(telemetry_ring_write(&ring, TELEMETRY_RING_EVENT, SPAN("late\n")) == 0);
	read_all();
	return 0;
}
