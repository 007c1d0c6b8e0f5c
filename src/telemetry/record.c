#include "telemetry/record_internal.h"

#include <string.h>

/* Days to a date in the proleptic Gregorian calendar. Years are counted from 1 March, so that the leap
 * day is a year's last; 400 years have 146,097 days. */
struct record_date record_date_of(uint64_t wall_ns)
{
	uint64_t seconds = wall_ns / 1000000000;
	uint32_t second_of_day = (uint32_t)(seconds % 86400);
	uint32_t days = (uint32_t)(seconds / 86400) + 719468; /* since 0000-03-01 */
	uint32_t era = days / 146097, day_of_era = days % 146097;
	uint32_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	uint32_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint32_t month = (5 * day_of_year + 2) / 153; /* 0: March */

	return (struct record_date){
		.year = era * 400 + year_of_era + (month >= 10),
		.month = month < 10 ? month + 3 : month - 9,
		.day = day_of_year - (153 * month + 2) / 5 + 1,
		.hour = second_of_day / 3600,
		.minute = second_of_day / 60 % 60,
		.second = second_of_day % 60,
		.microsecond = (uint32_t)(wall_ns / 1000 % 1000000),
	};
}

static inline void put_digits(char *at, uint32_t value, int digits)
{
	for (int i = digits; i > 0; i--) {
		at[i - 1] = (char)('0' + value % 10);
		value /= 10;
	}
}

static void put_second(char *at, uint64_t wall_ns)
{
	struct record_date date = record_date_of(wall_ns);

	memcpy(at, "0000-00-00T00:00:00.", TELEMETRY_SECOND_LEN);
	put_digits(at, date.year, 4);
	put_digits(at + 5, date.month, 2);
	put_digits(at + 8, date.day, 2);
	put_digits(at + 11, date.hour, 2);
	put_digits(at + 14, date.minute, 2);
	put_digits(at + 17, date.second, 2);
}

void record_time(struct writer *out, uint64_t wall_ns, struct telemetry_second *second)
{
	uint64_t number = wall_ns / 1000000000 + 1;
	char *room = write_room(out, TELEMETRY_SECOND_LEN + sizeof("000000Z") - 1);

	if (!room)
		return;
	if (!second || second->number != number)
		put_second(second ? second->text : room, wall_ns);
	if (second) {
		second->number = number;
		memcpy(room, second->text, TELEMETRY_SECOND_LEN);
	}
	put_digits(room + TELEMETRY_SECOND_LEN, (uint32_t)(wall_ns / 1000 % 1000000), 6);
	room[TELEMETRY_SECOND_LEN + 6] = 'Z';
}

void telemetry_write_time(struct writer *out, uint64_t wall_ns)
{
	record_time(out, wall_ns, NULL);
}

struct record_line record_line_begin(struct writer *out)
{
	return (struct record_line){ .out = out, .start = out->at };
}

void record_line_end(struct record_line *line)
{
	write_byte(line->out, '\n');
	if (!line->out->ok)
		line->out->at = line->start;
}

/* Not in the middle of a UTF-8 sequence: its beginning would look like an attack. */
static struct span cut_text(struct span text, size_t len)
{
	if (len >= text.len)
		return text;
	for (int back = 0; back < 3 && len && ((uint8_t)text.ptr[len] & 0xc0) == 0x80; back++)
		len--;
	return span_first(text, len);
}

void record_text(struct writer *out, struct span text, size_t out_max)
{
	struct writer part = *out;

	/* It fits even if each byte is escaped, as most do. */
	if (text.len * 6 + 2 <= out_max) {
		write_json(out, text);
		return;
	}
	if ((size_t)(out->end - out->at) > out_max)
		part.end = out->at + out_max;
	text = cut_text(text, out_max - 2);
	write_json(&part, text);
	if (!part.ok && out->ok) {
		/* Escapes made it longer: a sixth fits whatever they are. */
		part.ok = true;
		write_json(&part, cut_text(text, (out_max - 2) / 6));
	}
	out->at = part.at;
	out->ok = part.ok;
}

void record_key(struct record_line *line, const char *key)
{
	write_byte(line->out, line->has_members ? ',' : '{');
	line->has_members = true;
	write_byte(line->out, '"');
	write_str(line->out, key);
	write_str(line->out, "\":");
}

void record_member(struct record_line *line, const char *key, struct span text, size_t out_max)
{
	record_key(line, key);
	record_text(line->out, text, out_max);
}

void record_optional(struct record_line *line, const char *key, struct span text, size_t out_max)
{
	if (text.len)
		record_member(line, key, text, out_max);
}

void record_number(struct record_line *line, const char *key, uint64_t number)
{
	record_key(line, key);
	write_u64(line->out, number);
}

void record_milliseconds(struct writer *out, uint64_t duration_ns)
{
	uint64_t us = duration_ns / 1000;
	char text[] = ".000";

	put_digits(text + 1, (uint32_t)(us % 1000), 3);
	write_u64(out, us / 1000);
	write_span(out, span_of(text, sizeof(text) - 1));
}
