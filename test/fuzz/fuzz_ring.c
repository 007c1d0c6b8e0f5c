/* The log ring in the hands of a taken-over producer: the input is written over positions and bytes.
 * Reading gives single plain lines, ends, and leaves a ring that works: what is written then is read, in
 * its order and byte for byte, and what found no room is counted. */
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

/* Lines of lengths that the input names; each is filled with its number. */
static struct span line_of(char *line, size_t number, struct span lengths)
{
	size_t len = 2 + (uint8_t)lengths.ptr[number];

	/* Now and then one that fills a good part of the ring. */
	if (number % 7 == 6)
		len *= 120;
	memset(line, 'a' + (int)(number % 26), len);
	line[len - 1] = '\n';
	return span_of(line, len);
}

static void check_order(struct span lengths)
{
	static char line[TELEMETRY_LINE_MAX];
	uint64_t dropped = ring.dropped;
	enum telemetry_ring_kind kind;
	size_t written = 0;
	struct span got;

	lengths = span_first(lengths, 64);
	for (; written < lengths.len; written++)
		if (telemetry_ring_write(&ring, TELEMETRY_RING_ACCESS,
					 line_of(line, written, lengths)) == TELEMETRY_RING_FULL)
			break;
	MUST(ring.dropped == dropped + (written < lengths.len));
	for (size_t i = 0; i < written; i++) {
		MUST(telemetry_ring_read(&ring, buf, &kind, &got) == 0);
		MUST(kind == TELEMETRY_RING_ACCESS && span_equal(got, line_of(line, i, lengths)));
	}
	MUST(telemetry_ring_read(&ring, buf, &kind, &got) == TELEMETRY_RING_EMPTY);
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
	check_order(rest);
	return 0;
}
