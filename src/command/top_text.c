/* Numbers, lines and tables of `top`. */
#include "command/top.h"

#include <string.h>

/* ---- Numbers ---------------------------------------------------------------------------------------------- */

uint64_t top_since(uint64_t before, uint64_t now)
{
	return now >= before ? now - before : now;
}

/* tenths / 10 with a unit of thousands: 0.3, 12, 1.2k. */
static void write_scaled(struct writer *out, uint64_t tenths, unsigned step, const char *units)
{
	while (tenths >= 10 * (uint64_t)step && units[1]) {
		tenths /= step;
		units++;
	}
	if (tenths < 100 && (tenths % 10 || (*units != ' ' && *units != 'B')))
		write_format(out, "%llu.%llu", (unsigned long long)(tenths / 10),
			     (unsigned long long)(tenths % 10));
	else
		write_u64(out, tenths / 10);
	if (*units != ' ')
		write_byte(out, *units);
}

static uint64_t tenths_a_second(uint64_t count, uint64_t span_ns)
{
	uint64_t ms = span_ns / 1000000, tenths;

	if (!ms)
		return 0;
	if (!__builtin_mul_overflow(count, UINT64_C(10000), &tenths))
		return tenths / ms;
	return __builtin_mul_overflow(count / ms, UINT64_C(10000), &tenths) ? UINT64_MAX : tenths;
}

void top_write_rate(struct writer *out, uint64_t count, uint64_t span_ns)
{
	write_scaled(out, tenths_a_second(count, span_ns), 1000, " kMGTPE");
}

void top_write_bytes(struct writer *out, uint64_t bytes)
{
	write_scaled(out, bytes < UINT64_MAX / 10 ? bytes * 10 : UINT64_MAX, 1024, "BKMGTPE");
}

void top_write_byte_rate(struct writer *out, uint64_t bytes, uint64_t span_ns)
{
	top_write_bytes(out, tenths_a_second(bytes, span_ns) / 10);
}

void top_write_time(struct writer *out, uint64_t us)
{
	static const struct {
		uint64_t us;
		const char *unit;
	} units[] = { { 1, "us" }, { 1000, "ms" }, { 1000000, "s" } };
	size_t i = 0;

	while (i + 1 < ARRAY_LEN(units) && us >= units[i + 1].us)
		i++;
	if (i && us < 10 * units[i].us)
		write_format(out, "%llu.%llu%s", (unsigned long long)(us / units[i].us),
			     (unsigned long long)(us % units[i].us * 10 / units[i].us),
			     units[i].unit);
	else
		write_format(out, "%llu%s", (unsigned long long)(us / units[i].us), units[i].unit);
}

uint64_t top_buckets_count(const struct telemetry_buckets *before,
			   const struct telemetry_buckets *now)
{
	uint64_t count = 0;

	for (size_t i = 0; i < TELEMETRY_BUCKETS; i++) {
		if (__builtin_add_overflow(
			    count, top_since(before ? before->counts[i] : 0, now->counts[i]),
			    &count))
			return UINT64_MAX;
	}
	return count;
}

/* Within a bucket as if its durations lay evenly. */
uint64_t top_percentile_us(const struct telemetry_buckets *before,
			   const struct telemetry_buckets *now, unsigned per_cent)
{
	uint64_t count = top_buckets_count(before, now), seen = 0, wanted;

	if (!count)
		return UINT64_MAX;
	wanted = count / 100 * per_cent + (count % 100 * per_cent + 99) / 100;
	for (size_t i = 0; i < TELEMETRY_BUCKETS; i++) {
		uint64_t in = top_since(before ? before->counts[i] : 0, now->counts[i]);
		uint64_t low = i ? UINT64_C(1) << (i - 1) : 0, high = UINT64_C(1) << i;

		if (in && wanted <= seen + in)
			return low + (uint64_t)((double)(high - low) * (double)(wanted - seen) /
						(double)in);
		seen += in;
	}
	return UINT64_C(1) << (TELEMETRY_BUCKETS - 1);
}

void top_write_percentile(struct writer *out, const struct telemetry_buckets *before,
			  const struct telemetry_buckets *now, unsigned per_cent)
{
	uint64_t us = top_percentile_us(before, now, per_cent);

	if (us == UINT64_MAX)
		write_byte(out, '-');
	else
		top_write_time(out, us);
}

/* ---- Lines ------------------------------------------------------------------------------------------------ */

void top_write_plain(struct writer *out, struct span text, size_t max)
{
	for (size_t i = 0; i < text.len && i < max; i++) {
		char byte = text.ptr[i];

		if (i + 1 == max && text.len > max)
			byte = '~';
		else if (byte < ' ' || byte > '~')
			byte = '?';
		write_byte(out, byte);
	}
}

void top_page_line(struct top_page *page, struct span text)
{
	if (!page->left)
		return;
	page->left--;
	while (text.len && text.ptr[text.len - 1] == ' ')
		text.len--;
	top_write_plain(page->out, text, page->columns);
	write_byte(page->out, '\n');
}

static void write_pad(struct writer *out, size_t count)
{
	while (count--)
		write_byte(out, ' ');
}

void top_page_row(struct top_page *page, const struct top_column *columns, struct span name,
		  const struct top_cells *cells)
{
	enum { NAME_MIN = 14, NAME_MAX = 60 };
	char text[TOP_LINE_MAX + 1];
	struct writer out = writer_of(text, sizeof(text));
	size_t shown = 0, used = 0, name_len;

	while (shown < TOP_COLUMNS && columns[shown].head &&
	       used + columns[shown].width + 1 + NAME_MIN <= page->columns)
		used += columns[shown++].width + 1;
	name_len = page->columns > used ? page->columns - used : 0;
	if (name_len > NAME_MAX)
		name_len = NAME_MAX;
	top_write_plain(&out, name, name_len);
	if (shown)
		write_pad(&out, name_len - (name.len < name_len ? name.len : name_len));
	for (size_t i = 0; i < shown; i++) {
		const char *cell = cells ? cells->texts[i] : columns[i].head;
		size_t len = cells ? cells->lens[i] : strlen(cell);

		if (len > columns[i].width)
			len = columns[i].width;
		write_pad(&out, columns[i].width + 1 - len);
		write_span(&out, span_of(cell, len));
	}
	top_page_line(page, writer_done(&out));
}
