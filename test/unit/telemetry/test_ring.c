#include "telemetry/telemetry.h"

#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char buf[TELEMETRY_LINE_MAX];

/* On the heap, so that ASan sees a read or write beside it. */
static struct telemetry_ring *ring_new(void)
{
	struct telemetry_ring *ring = aligned_alloc(4096, sizeof(*ring));

	assert_non_null(ring);
	memset(ring, 0, sizeof(*ring));
	return ring;
}

static uint64_t next_random(uint64_t *random)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return *random >> 16;
}

static void test_empty(void **state)
{
	struct telemetry_ring *ring = ring_new();
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	assert_true(telemetry_ring_is_empty(ring));
	assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), TELEMETRY_RING_EMPTY);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_EVENT, SPAN("{}\n")), 0);
	assert_false(telemetry_ring_is_empty(ring));
	assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
	assert_int_equal(kind, TELEMETRY_RING_EVENT);
	assert_true(span_equal(line, SPAN("{}\n")));
	assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), TELEMETRY_RING_EMPTY);
	free(ring);
}

/* Lines of all lengths, written and read in bursts many times around: all come, in order. */
static void test_wraps(void **state)
{
	static char text[TELEMETRY_LINE_MAX];
	struct telemetry_ring *ring = ring_new();
	uint64_t random = 7, written = 0, read = 0, lens[256];
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	while (written < 4000) {
		uint64_t burst = next_random(&random) % 24;

		while (burst-- && written - read < ARRAY_LEN(lens)) {
			uint64_t len =
				1 + next_random(&random) % (burst % 4 ? 700 : TELEMETRY_LINE_MAX);

			memset(text, 'a' + (int)(written % 26), len);
			text[len - 1] = '\n';
			if (telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, span_of(text, len)) ==
			    0)
				lens[written++ % ARRAY_LEN(lens)] = len;
		}
		for (burst = next_random(&random) % 24; burst && read < written; burst--, read++) {
			assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
			assert_int_equal(line.len, lens[read % ARRAY_LEN(lens)]);
			assert_int_equal(line.ptr[line.len - 1], '\n');
			for (size_t i = 0; i + 1 < line.len; i += 97)
				assert_int_equal(line.ptr[i], 'a' + (int)(read % 26));
		}
	}
	assert_int_equal(ring->broken, 0);
	free(ring);
}

static void test_full(void **state)
{
	struct telemetry_ring *ring = ring_new();
	uint64_t written = 0, read = 0;
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	while (telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")) == 0)
		written++;
	assert_int_equal(written, TELEMETRY_RING_BYTES / 16);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("x\n")),
			 TELEMETRY_RING_FULL);
	assert_int_equal(ring->dropped, 2);
	while (telemetry_ring_read(ring, buf, &kind, &line) == 0) {
		assert_true(span_equal(line, SPAN("0123456\n")));
		read++;
	}
	assert_int_equal(read, written);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("x\n")), 0);
	free(ring);
}

/* A wake-up is asked for once, and never lost. */
static void test_sleep(void **state)
{
	struct telemetry_ring *ring = ring_new();
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	assert_true(telemetry_ring_sleep(ring));
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("1\n")),
			 TELEMETRY_RING_WAKE);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("2\n")), 0);
	assert_false(telemetry_ring_sleep(ring));
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("3\n")), 0);
	while (telemetry_ring_read(ring, buf, &kind, &line) == 0)
		;
	assert_true(telemetry_ring_sleep(ring));
	telemetry_ring_awake(ring);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("4\n")), 0);
	free(ring);
}

/* Who rests is woken by the line that fills the part, by no other, and once. */
static void test_rest(void **state)
{
	struct telemetry_ring *ring = ring_new();
	enum telemetry_ring_kind kind;
	struct span line;
	uint64_t written = 1, read = 0;

	(void)state;
	assert_true(telemetry_ring_rest(ring));
	while (telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")) == 0)
		written++;
	assert_int_equal(written, TELEMETRY_RING_WAKE_BYTES / 16);
	assert_int_equal(ring->dropped, 0);
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")), 0);
	assert_false(telemetry_ring_rest(ring));
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")), 0);
	while (telemetry_ring_read(ring, buf, &kind, &line) == 0)
		read++;
	assert_int_equal(read, written + 2);
	/* A line that it has not read yet is no reason to go on. */
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")), 0);
	assert_true(telemetry_ring_rest(ring));
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")), 0);
	assert_false(telemetry_ring_sleep(ring));
	assert_true(telemetry_ring_rest(ring));
	telemetry_ring_awake(ring);
	while (telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("0123456\n")) == 0)
		;
	assert_int_equal(ring->dropped, 1);
	free(ring);
}

/* A line is what its producer made of it; it stays one line. */
static void test_hostile_line(void **state)
{
	struct telemetry_ring *ring = ring_new();
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS, SPAN("a\nb\x1b[2J\0c")),
			 0);
	assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
	assert_true(span_equal(line, SPAN("a?b?[2J?\n")));
	/* Wherever in a line of whatever length it stands, every byte is one of the two. */
	for (size_t len = 1; len <= 24; len++) {
		for (size_t at = 0; at + 1 < len; at++) {
			for (int c = 0; c < 256; c++) {
				char text[24];

				memset(text, c % 2 ? '~' : ' ', len);
				text[at] = (char)c;
				text[len - 1] = '\n';
				assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS,
								      span_of(text, len)),
						 0);
				assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
				if (c < 0x20 || c >= 0x7f) /* alone, a byte of UTF-8 is no text */
					text[at] = '?';
				assert_true(span_equal(line, span_of(text, len)));
			}
		}
	}
	/* The other way to move a terminal's cursor, to turn the text around, and what is no text. */
	assert_int_equal(telemetry_ring_write(ring, TELEMETRY_RING_ACCESS,
					      SPAN("\303\251 \302\2332J \342\200\256 \377\303\n")),
			 0);
	assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
	assert_true(span_equal(line, SPAN("\303\251 ??2J ??? ??\n")));
	free(ring);
}

/* Positions and words of a taken-over process: it cannot make the reader loop, crash or read elsewhere,
 * and afterwards the ring works. */
static void test_hostile_positions(void **state)
{
	static const uint64_t positions[] = {
		0,
		1,
		7,
		8,
		9,
		16,
		TELEMETRY_RING_BYTES - 8,
		TELEMETRY_RING_BYTES,
		TELEMETRY_RING_BYTES + 8,
		UINT32_MAX,
		UINT64_MAX - 7,
		UINT64_MAX,
		UINT64_MAX / 2,
	};
	struct telemetry_ring *ring = ring_new();
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	for (size_t h = 0; h < ARRAY_LEN(positions); h++) {
		for (size_t t = 0; t < ARRAY_LEN(positions); t++) {
			int reads = 0;

			ring->head = positions[h];
			ring->tail = positions[t];
			(void)!telemetry_ring_write(ring, TELEMETRY_RING_EVENT, SPAN("early\n"));
			while (telemetry_ring_read(ring, buf, &kind, &line) != TELEMETRY_RING_EMPTY)
				assert_true(++reads <= TELEMETRY_RING_BYTES / 16 + 1);
			assert_true(telemetry_ring_is_empty(ring));
			assert_int_equal(
				telemetry_ring_write(ring, TELEMETRY_RING_EVENT, SPAN("late\n")),
				0);
			assert_int_equal(telemetry_ring_read(ring, buf, &kind, &line), 0);
			assert_true(span_equal(line, SPAN("late\n")));
		}
	}
	free(ring);
}

static void test_hostile_noise(void **state)
{
	struct telemetry_ring *ring = ring_new();
	uint64_t random = 99, lines = 0;
	enum telemetry_ring_kind kind;
	struct span line;

	(void)state;
	for (int round = 0; round < 300; round++) {
		uint64_t *words = (uint64_t *)(void *)ring->bytes;
		int reads = 0, outcome;

		for (size_t i = 0; i < TELEMETRY_RING_BYTES / 8;
		     i += 1 + next_random(&random) % 64) {
			words[i] = next_random(&random);
			/* Half of them look right but for one field. */
			if (words[i] & 1)
				words[i] = UINT64_C(0x7063) << 48 | (1 + words[i] / 2 % 3) << 32 |
					   words[i] / 8 % (2 * TELEMETRY_LINE_MAX);
		}
		ring->tail = next_random(&random) & ~UINT64_C(7);
		ring->head = ring->tail + next_random(&random) % (TELEMETRY_RING_BYTES + 4096);
		while ((outcome = telemetry_ring_read(ring, buf, &kind, &line)) !=
		       TELEMETRY_RING_EMPTY) {
			assert_true(++reads <= TELEMETRY_RING_BYTES / 16 + 1);
			if (outcome == TELEMETRY_RING_BROKEN)
				continue;
			lines++;
			assert_in_range(line.len, 1, TELEMETRY_LINE_MAX);
			assert_int_equal(span_find_byte(line, '\n'), line.len - 1);
		}
	}
	assert_true(lines > 0 && ring->broken > 0);
	free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),         cmocka_unit_test(test_wraps),
		cmocka_unit_test(test_full),          cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_hostile_line),  cmocka_unit_test(test_hostile_positions),
		cmocka_unit_test(test_hostile_noise), cmocka_unit_test(test_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
