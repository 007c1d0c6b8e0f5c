/* The screen of `top`. */
#include "command/top.h"

#include <stdlib.h>
#include <string.h>

struct drawing {
	const struct top_reading *before, *now;
	const struct top_screen *screen;
	uint64_t span_ns; /* from one to the other */
	struct top_page page;
};

#define OF(drawing, member) ((drawing)->before ? &(drawing)->before->member : NULL)

static uint64_t counted(const struct drawing *drawing, enum telemetry_counter which)
{
	return top_since(drawing->before ? drawing->before->counters.counters[which] : 0,
			 drawing->now->counters.counters[which]);
}

static void write_counted(struct writer *out, const struct drawing *drawing, const char *head,
			  enum telemetry_counter which)
{
	write_str(out, head);
	top_write_rate(out, counted(drawing, which), drawing->span_ns);
}

/* ---- The head --------------------------------------------------------------------------------------------- */

static void write_span_of_time(struct writer *out, uint64_t seconds)
{
	if (seconds >= 2 * 86400)
		write_format(out, "%llud", (unsigned long long)(seconds / 86400));
	else
		write_format(out, "%llu:%02u:%02u", (unsigned long long)(seconds / 3600),
			     (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
}

static void draw_title(struct drawing *drawing)
{
	const struct top_reading *now = drawing->now;
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));
	uint64_t seconds = now->wall_ns / 1000000000;

	write_format(&out, "portcullis %02u:%02u:%02u UTC", (unsigned)(seconds / 3600 % 24),
		     (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
	if (now->started_ns && now->wall_ns >= now->started_ns) {
		write_str(&out, "  up ");
		write_span_of_time(&out, (now->wall_ns - now->started_ns) / 1000000000);
	}
	write_format(&out, "  configuration %llu", (unsigned long long)now->configuration);
	if (drawing->before)
		write_format(&out, "  processes %llu", (unsigned long long)now->gauges.processes);
	else
		write_str(&out, "  since the start");
	top_page_line(&drawing->page, writer_done(&out));
}

static void draw_traffic(struct drawing *drawing)
{
	const struct top_reading *now = drawing->now;
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));

	write_counted(&out, drawing, "requests/s ", TELEMETRY_COUNTER_EXCHANGES);
	write_format(&out, "  under way %llu  in/s ", (unsigned long long)now->gauges.exchanges);
	top_write_byte_rate(&out, counted(drawing, TELEMETRY_COUNTER_BYTES_IN), drawing->span_ns);
	write_str(&out, "  out/s ");
	top_write_byte_rate(&out, counted(drawing, TELEMETRY_COUNTER_BYTES_OUT), drawing->span_ns);
	top_page_line(&drawing->page, writer_done(&out));
	out = writer_of(text, sizeof(text));
	write_format(&out, "connections %llu", (unsigned long long)now->gauges.connections);
	write_counted(&out, drawing, "  new/s ", TELEMETRY_COUNTER_CONNECTIONS);
	write_counted(&out, drawing, "  handshakes/s ", TELEMETRY_COUNTER_HANDSHAKES);
	write_counted(&out, drawing, "  resumed ", TELEMETRY_COUNTER_HANDSHAKES_RESUMED);
	write_counted(&out, drawing, "  failed ", TELEMETRY_COUNTER_HANDSHAKES_FAILED);
	top_page_line(&drawing->page, writer_done(&out));
}

static void draw_codes(struct drawing *drawing)
{
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));

	write_str(&out, "codes/s");
	for (unsigned i = 1; i <= 6; i++) {
		unsigned digit = i % 6; /* those without an answer last */

		if (digit)
			write_format(&out, "  %uxx ", digit);
		else
			write_str(&out, "  none ");
		top_write_rate(
			&out,
			top_since(drawing->before ? drawing->before->counters.statuses[digit] : 0,
				  drawing->now->counters.statuses[digit]),
			drawing->span_ns);
	}
	top_page_line(&drawing->page, writer_done(&out));
}

static void write_percentiles(struct writer *out, const struct drawing *drawing, const char *head,
			      enum telemetry_histogram which)
{
	static const unsigned wanted[] = { 50, 90, 99 };
	const struct telemetry_buckets *before = OF(drawing, counters.histograms[which]);

	write_str(out, head);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		write_format(out, " p%u ", wanted[i]);
		top_write_percentile(out, before, &drawing->now->counters.histograms[which],
				     wanted[i]);
	}
}

static void draw_latency(struct drawing *drawing)
{
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));

	write_percentiles(&out, drawing, "requests", TELEMETRY_HISTOGRAM_REQUEST);
	write_percentiles(&out, drawing, "  origins", TELEMETRY_HISTOGRAM_ORIGIN);
	top_page_line(&drawing->page, writer_done(&out));
}

/* ---- Why requests were refused or failed ------------------------------------------------------------------- */

struct reason {
	const char *prefix, *word;
	uint64_t count;
};
enum { REASONS = TELEMETRY_END_COUNT + TELEMETRY_LIMIT_COUNT };

static int by_count(const void *a, const void *b)
{
	const struct reason *first = a, *second = b;

	if (first->count != second->count)
		return first->count < second->count ? 1 : -1;
	return strcmp(first->word, second->word);
}

/* A limit says more than the end that names no limit. */
static size_t gather_reasons(const struct top_reading *before, const struct top_reading *now,
			     struct reason reasons[REASONS])
{
	size_t count = 0;

	for (size_t i = 0; i < TELEMETRY_END_COUNT; i++) {
		uint64_t since =
			top_since(before ? before->counters.ends[i] : 0, now->counters.ends[i]);

		if (since && i != TELEMETRY_END_OK && i != TELEMETRY_END_LIMIT)
			reasons[count++] = (struct reason){ "", telemetry_ends[i].word, since };
	}
	for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++) {
		uint64_t since =
			top_since(before ? before->counters.limits[i] : 0, now->counters.limits[i]);

		if (since)
			reasons[count++] =
				(struct reason){ "limit:", telemetry_limits[i].name, since };
	}
	qsort(reasons, count, sizeof(*reasons), by_count);
	return count;
}

static void draw_reasons(struct drawing *drawing)
{
	struct reason reasons[REASONS];
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));
	size_t count = gather_reasons(drawing->before, drawing->now, reasons);
	bool is_now = count || !drawing->before;

	if (!is_now)
		count = gather_reasons(NULL, drawing->now, reasons);
	write_str(&out, is_now ? "refused" : "refused (since the start)");
	if (!count)
		write_str(&out, "  nothing");
	for (size_t i = 0; i < count; i++) {
		struct writer part = out;

		write_format(&part, "  %s%s %llu", reasons[i].prefix, reasons[i].word,
			     (unsigned long long)reasons[i].count);
		if (!part.ok || (size_t)(part.at - text) > drawing->page.columns)
			break;
		out = part;
	}
	top_page_line(&drawing->page, writer_done(&out));
}

/* ---- Tables ------------------------------------------------------------------------------------------------ */

/* One line of a table, by what it is sorted. */
struct line {
	struct span name;
	size_t index;
	uint64_t requests, errors, bytes, time;
};

#define BY(member) \
	if (first->member != second->member) \
	return first->member < second->member ? 1 : -1

static int by_name(const void *a, const void *b)
{
	const struct line *first = a, *second = b;

	return span_compare(first->name, second->name);
}
static int by_requests(const void *a, const void *b)
{
	const struct line *first = a, *second = b;

	BY(requests);
	return by_name(a, b);
}
static int by_errors(const void *a, const void *b)
{
	const struct line *first = a, *second = b;

	BY(errors);
	return by_requests(a, b);
}
static int by_bytes(const void *a, const void *b)
{
	const struct line *first = a, *second = b;

	BY(bytes);
	return by_requests(a, b);
}
static int by_time(const void *a, const void *b)
{
	const struct line *first = a, *second = b;

	BY(time);
	return by_requests(a, b);
}

static void sort(struct line *lines, size_t count, enum top_order order)
{
	static int (*const orders[TOP_ORDER_COUNT])(const void *, const void *) = {
		[TOP_BY_REQUESTS] = by_requests, [TOP_BY_ERRORS] = by_errors,
		[TOP_BY_BYTES] = by_bytes,       [TOP_BY_TIME] = by_time,
		[TOP_BY_NAME] = by_name,
	};

	qsort(lines, count, sizeof(*lines), orders[order]);
}

static struct span label_of(const struct telemetry_label *label)
{
	return span_of(label->text,
		       label->len < TELEMETRY_LABEL_LEN ? label->len : TELEMETRY_LABEL_LEN);
}

static uint64_t time_of(const struct telemetry_buckets *before, const struct telemetry_buckets *now)
{
	uint64_t us = top_percentile_us(before, now, 99);

	return us == UINT64_MAX ? 0 : us;
}

#define CELL(cells, i, statement) \
	do { \
		struct writer cell = writer_of((cells)->texts[i], TOP_CELL); \
		statement; \
		(cells)->lens[i] = writer_done(&cell).len; \
	} while (0)

/* The same row of the reading before, or NULL: rows stay where they are, unless another service runs now. */
#define SAME(drawing, group, count, i) \
	((drawing)->before && (i) < (drawing)->before->count && \
			 span_equal(label_of(&(drawing)->before->group[i].label), \
				    label_of(&(drawing)->now->group[i].label)) \
		 ? &(drawing)->before->group[i] \
		 : NULL)

static const struct top_column site_columns[TOP_COLUMNS] = {
	{ "req/s", 6 }, { "p99", 6 }, { "4xx/s", 6 }, { "5xx/s", 6 },
	{ "out/s", 6 }, { "p50", 6 }, { "in/s", 6 },  { "none/s", 6 },
};

static void site_cells(const struct drawing *drawing, size_t index, struct top_cells *cells)
{
	const struct telemetry_site *now = &drawing->now->sites[index];
	const struct telemetry_site *before = SAME(drawing, sites, site_count, index);
	const struct telemetry_buckets *buckets = before ? &before->request : NULL;
	uint64_t span = drawing->span_ns;

#define COUNTED(cells_of, i) top_since(before ? before->cells_of[i] : 0, now->cells_of[i])
	CELL(cells, 0, top_write_rate(&cell, top_buckets_count(buckets, &now->request), span));
	CELL(cells, 1, top_write_percentile(&cell, buckets, &now->request, 99));
	CELL(cells, 2, top_write_rate(&cell, COUNTED(statuses, 4), span));
	CELL(cells, 3, top_write_rate(&cell, COUNTED(statuses, 5), span));
	CELL(cells, 4,
	     top_write_byte_rate(&cell, COUNTED(counters, TELEMETRY_SITE_BYTES_OUT), span));
	CELL(cells, 5, top_write_percentile(&cell, buckets, &now->request, 50));
	CELL(cells, 6,
	     top_write_byte_rate(&cell, COUNTED(counters, TELEMETRY_SITE_BYTES_IN), span));
	CELL(cells, 7, top_write_rate(&cell, COUNTED(statuses, 0), span));
}

static void site_line(const struct drawing *drawing, size_t index, struct line *line)
{
	const struct telemetry_site *now = &drawing->now->sites[index];
	const struct telemetry_site *before = SAME(drawing, sites, site_count, index);
	const struct telemetry_buckets *buckets = before ? &before->request : NULL;

	*line = (struct line){
		.name = label_of(&now->label),
		.index = index,
		.requests = top_buckets_count(buckets, &now->request),
		.errors = COUNTED(statuses, 4) + COUNTED(statuses, 5) + COUNTED(statuses, 0),
		.bytes = COUNTED(counters, TELEMETRY_SITE_BYTES_OUT) +
			 COUNTED(counters, TELEMETRY_SITE_BYTES_IN),
		.time = time_of(buckets, &now->request),
	};
}

static const struct top_column upstream_columns[TOP_COLUMNS] = {
	{ "req/s", 6 }, { "p99", 6 }, { "up", 5 },    { "fail/s", 6 }, { "active", 6 },
	{ "queue", 5 }, { "p50", 6 }, { "conns", 5 }, { "idle", 5 },   { "again/s", 7 },
};

static uint64_t failures_of(const struct telemetry_upstream *before,
			    const struct telemetry_upstream *now)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_LEN(now->failures); i++)
		sum += COUNTED(failures, i);
	return sum;
}

static void write_up(struct writer *out, const struct drawing *drawing, size_t upstream)
{
	unsigned up = 0, all = 0;

	for (size_t i = 0; i < drawing->now->origin_count; i++) {
		const struct top_origin *origin = &drawing->now->origins[i];

		if (origin->upstream != upstream)
			continue;
		all++;
		up += origin->is_up;
	}
	if (all)
		write_format(out, "%u/%u", up, all);
	else
		write_byte(out, '-');
}

static void upstream_cells(const struct drawing *drawing, size_t index, struct top_cells *cells)
{
	const struct telemetry_upstream *now = &drawing->now->upstreams[index];
	const struct telemetry_upstream *before = SAME(drawing, upstreams, upstream_count, index);
	const struct telemetry_buckets *buckets = before ? &before->response : NULL;
	uint64_t span = drawing->span_ns;

	CELL(cells, 0, top_write_rate(&cell, COUNTED(counters, TELEMETRY_UPSTREAM_REQUESTS), span));
	CELL(cells, 1, top_write_percentile(&cell, buckets, &now->response, 99));
	CELL(cells, 2, write_up(&cell, drawing, index));
	CELL(cells, 3, top_write_rate(&cell, failures_of(before, now), span));
	CELL(cells, 4, write_u64(&cell, now->gauges[TELEMETRY_UPSTREAM_GAUGE_EXCHANGES]));
	CELL(cells, 5, write_u64(&cell, now->gauges[TELEMETRY_UPSTREAM_GAUGE_QUEUED]));
	CELL(cells, 6, top_write_percentile(&cell, buckets, &now->response, 50));
	CELL(cells, 7, write_u64(&cell, now->gauges[TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS]));
	CELL(cells, 8, write_u64(&cell, now->gauges[TELEMETRY_UPSTREAM_GAUGE_IDLE]));
	CELL(cells, 9, top_write_rate(&cell, COUNTED(counters, TELEMETRY_UPSTREAM_RETRIES), span));
}

static void upstream_line(const struct drawing *drawing, size_t index, struct line *line)
{
	const struct telemetry_upstream *now = &drawing->now->upstreams[index];
	const struct telemetry_upstream *before = SAME(drawing, upstreams, upstream_count, index);

	*line = (struct line){
		.name = label_of(&now->label),
		.index = index,
		.requests = COUNTED(counters, TELEMETRY_UPSTREAM_REQUESTS),
		.errors = failures_of(before, now),
		.bytes = now->gauges[TELEMETRY_UPSTREAM_GAUGE_EXCHANGES],
		.time = time_of(before ? &before->response : NULL, &now->response),
	};
}
#undef COUNTED

/* Below its upstream: all of them, or those that are down. */
static void draw_origins(struct drawing *drawing, size_t upstream, bool only_down,
			 struct top_page *page)
{
	for (size_t i = 0; i < drawing->now->origin_count; i++) {
		const struct top_origin *origin = &drawing->now->origins[i];
		char text[TOP_LINE_MAX];
		struct writer out = writer_of(text, sizeof(text));

		if (origin->upstream != upstream || (only_down && origin->is_up))
			continue;
		write_str(&out, origin->is_up ? "  up    " : "  down  ");
		top_write_plain(&out, label_of(&origin->label), TELEMETRY_LABEL_LEN);
		top_page_line(page, writer_done(&out));
	}
}

static const struct top_column process_columns[TOP_COLUMNS] = {
	{ "cpu%", 5 }, { "memory", 6 }, { "conns", 6 },    { "active", 6 },
	{ "pid", 7 },  { "state", 8 },  { "restarts", 8 },
};

static const char *short_state(uint32_t state)
{
	switch ((enum ipc_process_state)state) {
	case IPC_STATE_STARTING:
		return "starting";
	case IPC_STATE_RUNNING:
		return "running";
	case IPC_STATE_DRAINING:
		return "draining";
	case IPC_STATE_BACK_OFF:
		return "waiting";
	}
	return "?";
}

static void write_cpu(struct writer *out, const struct drawing *drawing,
		      const struct top_process *process)
{
	const struct top_reading *before = drawing->before;

	for (size_t i = 0; before && process->has_cpu && i < before->process_count; i++) {
		const struct top_process *other = &before->processes[i];

		if (other->pid != process->pid || !other->has_cpu ||
		    process->cpu_ns < other->cpu_ns || drawing->span_ns < 1000)
			continue;
		write_u64(out, (process->cpu_ns - other->cpu_ns) * 100 / drawing->span_ns);
		return;
	}
	write_byte(out, '-');
}

static void draw_process(struct drawing *drawing, const struct top_process *process,
			 struct top_page *page)
{
	struct top_cells cells;
	char name[32];
	struct writer out = writer_of(name, sizeof(name));

	write_str(&out, ipc_kind_name(process->kind));
	if (process->kind == IPC_WORKER || process->slot)
		write_format(&out, " %u", process->slot);
	CELL(&cells, 0, write_cpu(&cell, drawing, process));
	CELL(&cells, 1, top_write_bytes(&cell, process->memory_bytes));
	CELL(&cells, 2, write_u64(&cell, process->connections));
	CELL(&cells, 3, write_u64(&cell, process->exchanges));
	CELL(&cells, 4, write_u64(&cell, process->pid));
	CELL(&cells, 5, write_str(&cell, short_state(process->state)));
	CELL(&cells, 6, write_u64(&cell, process->restarts));
	top_page_row(page, process_columns, writer_done(&out), &cells);
}

/* ---- The page ---------------------------------------------------------------------------------------------- */

static void draw_more(struct top_page *page, size_t count)
{
	char text[64];
	struct writer out = writer_of(text, sizeof(text));

	write_format(&out, "  ... %zu more", count);
	top_page_line(page, writer_done(&out));
}

/* A page of `lines` lines of what is left. */
static struct top_page part_of(struct drawing *drawing, unsigned lines)
{
	struct top_page part = drawing->page;

	part.left = lines < part.left ? lines : part.left;
	return part;
}

static void part_done(struct drawing *drawing, const struct top_page *part, unsigned lines)
{
	unsigned given = lines < drawing->page.left ? lines : drawing->page.left;

	drawing->page.left -= given - part->left;
}

/* `other` is there in any case, and says nothing while nothing belongs to it. */
static bool is_idle_other(const struct line *line)
{
	return span_equal(line->name, SPAN("other")) && !line->requests && !line->errors &&
	       !line->bytes;
}

static void draw_sites(struct drawing *drawing, unsigned lines)
{
	struct top_page page = part_of(drawing, lines);
	struct line rows[TELEMETRY_SITES];
	size_t count = 0;

	for (size_t i = 0; i < drawing->now->site_count; i++) {
		site_line(drawing, i, &rows[count]);
		count += !is_idle_other(&rows[count]);
	}
	sort(rows, count, drawing->screen->order);
	top_page_row(&page, site_columns, SPAN("SITE"), NULL);
	for (size_t i = 0; i < count && page.left; i++) {
		struct top_cells cells;

		if (page.left == 1 && i + 1 < count) {
			draw_more(&page, count - i);
			break;
		}
		site_cells(drawing, rows[i].index, &cells);
		top_page_row(&page, site_columns, rows[i].name, &cells);
	}
	part_done(drawing, &page, lines);
}

static void draw_upstreams(struct drawing *drawing, unsigned lines)
{
	struct top_page page = part_of(drawing, lines);
	struct line rows[TELEMETRY_UPSTREAMS];
	size_t count = 0;

	for (size_t i = 0; i < drawing->now->upstream_count; i++) {
		upstream_line(drawing, i, &rows[count]);
		count += !is_idle_other(&rows[count]);
	}
	sort(rows, count, drawing->screen->order);
	top_page_row(&page, upstream_columns, SPAN("UPSTREAM"), NULL);
	for (size_t i = 0; i < count && page.left; i++) {
		struct top_cells cells;

		if (page.left == 1 && i + 1 < count) {
			draw_more(&page, count - i);
			break;
		}
		upstream_cells(drawing, rows[i].index, &cells);
		top_page_row(&page, upstream_columns, rows[i].name, &cells);
		draw_origins(drawing, rows[i].index, drawing->screen->view == TOP_ALL, &page);
	}
	part_done(drawing, &page, lines);
}

static bool is_drawn(const struct drawing *drawing, const struct top_process *process)
{
	return drawing->screen->view != TOP_ALL || process->kind == IPC_WORKER;
}

static void draw_processes(struct drawing *drawing, unsigned lines)
{
	struct top_page page = part_of(drawing, lines);
	size_t count = 0;

	for (size_t i = 0; i < drawing->now->process_count; i++)
		count += is_drawn(drawing, &drawing->now->processes[i]);
	top_page_row(&page, process_columns, SPAN("PROCESS"), NULL);
	for (size_t i = 0; i < drawing->now->process_count && page.left; i++) {
		if (!is_drawn(drawing, &drawing->now->processes[i]))
			continue;
		if (page.left == 1 && count > 1) {
			draw_more(&page, count);
			break;
		}
		draw_process(drawing, &drawing->now->processes[i], &page);
		count--;
	}
	part_done(drawing, &page, lines);
}

static unsigned lesser(size_t a, size_t b)
{
	return (unsigned)(a < b ? a : b);
}

/* A table's head alone is no use. */
static unsigned table_of(unsigned lines)
{
	return lines < 2 ? 0 : lines;
}

/* Everything: each table gets a third, and what the ones before it did not need. */
static void draw_all(struct drawing *drawing)
{
	const struct top_reading *now = drawing->now;
	unsigned left = drawing->page.left, workers = 0, processes, upstreams, down = 0;

	for (size_t i = 0; i < now->process_count; i++)
		workers += now->processes[i].kind == IPC_WORKER;
	for (size_t i = 0; i < now->origin_count; i++)
		down += !now->origins[i].is_up;
	processes = table_of(lesser(workers + 1, left / 3));
	upstreams = table_of(lesser(now->upstream_count + down + 1, (left - processes) / 2));
	if (now->site_count + 1 < left - processes - upstreams)
		upstreams = lesser(now->upstream_count + down + 1,
				   left - processes - now->site_count - 1);
	draw_sites(drawing, left - processes - upstreams);
	draw_upstreams(drawing, upstreams);
	draw_processes(drawing, processes);
}

static void draw_foot(const struct top_screen *screen, struct top_page *page)
{
	static const char *const orders[TOP_ORDER_COUNT] = { "requests", "errors", "bytes", "p99",
							     "name" };
	char text[TOP_LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));

	if (screen->notice)
		write_str(&out, screen->notice);
	else
		write_format(&out, "q quit  o order: %s  a all  s sites  u upstreams  p processes",
			     orders[screen->order]);
	top_page_line(page, writer_done(&out));
}

void top_draw(struct writer *out, const struct top_reading *before, const struct top_reading *now,
	      const struct top_screen *screen)
{
	struct drawing drawing = { .before = before, .now = now, .screen = screen };
	unsigned foot = screen->has_keys || screen->notice ? 1 : 0;

	drawing.page = (struct top_page){
		.out = out,
		.columns = lesser(screen->columns, TOP_LINE_MAX - 1),
		.left = lesser(screen->rows, TOP_LINES_MAX),
	};
	drawing.page.left -= drawing.page.left ? foot : 0;
	if (now) {
		drawing.span_ns = before ? now->at_ns - before->at_ns : 0;
		if (!before && now->started_ns && now->wall_ns > now->started_ns)
			drawing.span_ns = now->wall_ns - now->started_ns;
		draw_title(&drawing);
		draw_traffic(&drawing);
		draw_codes(&drawing);
		draw_latency(&drawing);
		draw_reasons(&drawing);
		if (screen->view == TOP_ALL)
			draw_all(&drawing);
		else if (screen->view == TOP_SITES)
			draw_sites(&drawing, drawing.page.left);
		else if (screen->view == TOP_UPSTREAMS)
			draw_upstreams(&drawing, drawing.page.left);
		else
			draw_processes(&drawing, drawing.page.left);
	}
	drawing.page.left = foot;
	if (foot)
		draw_foot(screen, &drawing.page);
}
