/* What access records and events share. */
#pragma once

#include "telemetry/telemetry.h"

struct record_date {
	uint32_t year, month, day, hour, minute, second, microsecond;
};
struct record_date record_date_of(uint64_t wall_ns);

/* telemetry_write_time(), by way of what is kept (NULL: nothing is). */
void record_time(struct writer *out, uint64_t wall_ns, struct telemetry_second *second);

/* A line is written whole or not at all. */
struct record_line {
	struct writer *out;
	char *start;
	bool has_members;
};
struct record_line record_line_begin(struct writer *out);
void record_line_end(struct record_line *line); /* with the newline */

/* A JSON string that takes at most out_max bytes: cut where it would be longer. */
void record_text(struct writer *out, struct span text, size_t out_max);
void record_key(struct record_line *line, const char *key);
void record_member(struct record_line *line, const char *key, struct span text, size_t out_max);
/* Left out where the text is empty. */
void record_optional(struct record_line *line, const char *key, struct span text, size_t out_max);
void record_number(struct record_line *line, const char *key, uint64_t number);
/* Milliseconds with three decimals. */
void record_milliseconds(struct writer *out, uint64_t duration_ns);
