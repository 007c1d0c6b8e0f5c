/* top: what the counters of the running service did between two readings, drawn as lines of text.
 *
 * A reading is a copy of what `metrics` has at one moment; drawing is a function of two readings and of the screen's size
 * alone, so that a test can hold it to fixed lines. Asking, waiting and the terminal are top.c's. Whatever a range holds is
 * drawn as printable ASCII: a worker that was taken over writes nothing into a terminal but text. */
#pragma once

#include "command/control.h"

enum {
	TOP_PROCESSES = 64,   /* more are left out */
	TOP_LINE_MAX = 512,   /* columns; a wider terminal is used so far */
	TOP_LINES_MAX = 1000, /* of one screen */
};

struct top_origin {
	size_t upstream; /* its index, or SIZE_MAX */
	bool is_up;
	struct telemetry_label label;
};
struct top_process {
	enum ipc_kind kind;
	uint32_t slot, pid, state;
	uint64_t restarts, memory_bytes, connections, exchanges;
	uint64_t cpu_ns; /* since its start */
	bool has_cpu;
};
struct top_reading {
	uint64_t at_ns;      /* monotonic */
	uint64_t wall_ns;    /* since 1970 */
	uint64_t started_ns; /* since 1970: the supervisor's start; 0: not known */
	uint64_t configuration;
	struct telemetry_gauges gauges;
	struct telemetry_counters counters; /* of all processes */
	size_t site_count, upstream_count, origin_count, process_count;
	struct telemetry_site sites[TELEMETRY_SITES];
	struct telemetry_upstream upstreams[TELEMETRY_UPSTREAMS];
	struct top_origin origins[TELEMETRY_ORIGINS];
	struct top_process processes[TOP_PROCESSES];
};

/* Sites, upstreams and origins of these sources; the other members stay. */
void top_reading_take(struct top_reading *reading, const struct telemetry_source *sources,
		      size_t count);

enum top_view { TOP_ALL, TOP_SITES, TOP_UPSTREAMS, TOP_PROCESSES_ONLY, TOP_VIEW_COUNT };
enum top_order {
	TOP_BY_REQUESTS,
	TOP_BY_ERRORS,
	TOP_BY_BYTES,
	TOP_BY_TIME,
	TOP_BY_NAME,
	TOP_ORDER_COUNT
};
struct top_screen {
	unsigned columns, rows; /* at least 1 */
	enum top_view view;
	enum top_order order;
	bool has_keys;      /* the last line says which */
	const char *notice; /* instead of the keys, or NULL */
};

/* At most screen->rows lines, each of at most screen->columns characters and its newline. `before` may be NULL: then
 * everything counts since the start of the service. `now` may be NULL: nothing was read yet. */
void top_draw(struct writer *out, const struct top_reading *before, const struct top_reading *now,
	      const struct top_screen *screen);

/* ---- Of the drawing, for its parts ------------------------------------------------------------------------ */

/* What a cell counted since `before`; what went back is a service that started anew. */
uint64_t top_since(uint64_t before, uint64_t now);
/* So many in `span_ns` as a number a second: 0, 0.3, 12, 1.2k, 15M. */
void top_write_rate(struct writer *out, uint64_t count, uint64_t span_ns);
void top_write_bytes(struct writer *out, uint64_t bytes); /* 999B, 1.5K, 12M */
void top_write_byte_rate(struct writer *out, uint64_t bytes, uint64_t span_ns); /* a second */
void top_write_time(struct writer *out, uint64_t us); /* 90us, 1.2ms, 3.4s */
/* Of the durations between both the one that `per_cent` of them do not pass, as far as the buckets tell; "-": none. */
void top_write_percentile(struct writer *out, const struct telemetry_buckets *before,
			  const struct telemetry_buckets *now, unsigned per_cent);
uint64_t top_percentile_us(const struct telemetry_buckets *before,
			   const struct telemetry_buckets *now, unsigned per_cent);
uint64_t top_buckets_count(const struct telemetry_buckets *before,
			   const struct telemetry_buckets *now);
/* Text of others, printable, at most `max` characters; what is cut ends with `~`. */
void top_write_plain(struct writer *out, struct span text, size_t max);

/* A table of at most TOP_COLUMNS columns behind a name. Columns that have no room are left out from the right. */
enum { TOP_COLUMNS = 10, TOP_CELL = 16 };
struct top_column {
	const char *head;
	unsigned width;
};
struct top_cells {
	char texts[TOP_COLUMNS][TOP_CELL];
	size_t lens[TOP_COLUMNS];
};
/* Where the next line goes: screens end at their size, whoever writes. */
struct top_page {
	struct writer *out;
	unsigned columns, left; /* lines that have room */
};
void top_page_line(struct top_page *page, struct span text);
void top_page_row(struct top_page *page, const struct top_column *columns, struct span name,
		  const struct top_cells *cells); /* cells NULL: the heads */
