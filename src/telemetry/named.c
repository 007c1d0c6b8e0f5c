#include "telemetry/telemetry.h"

#include <stddef.h>
#include <string.h>

/* Rows begin with their label; of a kind are so many at most. */
struct rows {
	char *first;
	size_t size, max;
	uint32_t *count;
};

_Static_assert(offsetof(struct telemetry_site, label) == 0 &&
		       offsetof(struct telemetry_upstream, label) == 0,
	       "a row begins with its label");
_Static_assert(TELEMETRY_END_COUNT <= ARRAY_LEN(((struct telemetry_upstream *)0)->failures) &&
		       TELEMETRY_SITE_COUNTER_COUNT <=
			       ARRAY_LEN(((struct telemetry_site *)0)->counters) &&
		       TELEMETRY_UPSTREAM_COUNTER_COUNT <=
			       ARRAY_LEN(((struct telemetry_upstream *)0)->counters) &&
		       TELEMETRY_UPSTREAM_GAUGE_COUNT <=
			       ARRAY_LEN(((struct telemetry_upstream *)0)->gauges),
	       "each group has room");
_Static_assert(sizeof(struct telemetry_named) <= 300 * 1024, "it fits behind the counters");

static struct rows rows_of_sites(struct telemetry_named *named)
{
	return (struct rows){ (char *)named->sites, sizeof(named->sites[0]), TELEMETRY_SITES,
			      &named->site_count };
}

static struct rows rows_of_upstreams(struct telemetry_named *named)
{
	return (struct rows){ (char *)named->upstreams, sizeof(named->upstreams[0]),
			      TELEMETRY_UPSTREAMS, &named->upstream_count };
}

static struct telemetry_label *row_at(const struct rows *rows, size_t index)
{
	return (struct telemetry_label *)(void *)(rows->first + index * rows->size);
}

static size_t row_count(const struct rows *rows)
{
	uint32_t count = __atomic_load_n(rows->count, __ATOMIC_ACQUIRE);

	return count < rows->max ? count : rows->max;
}

static bool label_is(const struct telemetry_label *label, struct span text)
{
	return label->len == text.len && memcmp(label->text, text.ptr, text.len) == 0;
}

/* Plain bytes only: a path of a socket may have any, and a collector refuses what is no UTF-8. */
static struct span label_plain(struct span text, char buf[TELEMETRY_LABEL_LEN])
{
	text = span_first(text.len ? text : SPAN("other"), TELEMETRY_LABEL_LEN);
	for (size_t i = 0; i < text.len; i++)
		buf[i] = text.ptr[i] >= 0x20 && text.ptr[i] < 0x7f ? text.ptr[i] : '?';
	return span_of(buf, text.len);
}

static void *row_find(const struct rows *rows, struct span text)
{
	size_t count = row_count(rows);
	struct telemetry_label *label;
	char buf[TELEMETRY_LABEL_LEN];

	text = label_plain(text, buf);
	for (size_t i = 0; i < count; i++) {
		label = row_at(rows, i);
		if (label_is(label, text))
			return label;
	}
	if (count == rows->max)
		return row_at(rows, 0);
	/* Readers see a row once it is counted. One that a life before had begun is begun again. */
	label = row_at(rows, count);
	memset(label, 0, rows->size);
	label->len = (uint32_t)text.len;
	memcpy(label->text, text.ptr, text.len);
	__atomic_store_n(rows->count, (uint32_t)count + 1, __ATOMIC_RELEASE);
	return label;
}

struct telemetry_site *telemetry_named_site(struct telemetry_named *named, struct span label)
{
	struct rows rows = rows_of_sites(named);

	return row_find(&rows, label);
}

struct telemetry_upstream *telemetry_named_upstream(struct telemetry_named *named,
						    struct span label)
{
	struct rows rows = rows_of_upstreams(named);

	return row_find(&rows, label);
}

static size_t origin_count(const struct telemetry_named *named)
{
	uint32_t count = __atomic_load_n(&named->origin_count, __ATOMIC_ACQUIRE);

	return count < TELEMETRY_ORIGINS ? count : TELEMETRY_ORIGINS;
}

/* Two upstreams may have the same origin: each has a row for it. Row 0 is nobody's. */
struct telemetry_origin *telemetry_named_origin(struct telemetry_named *named,
						const struct telemetry_upstream *upstream,
						struct span label)
{
	uint32_t index = (uint32_t)(upstream - named->upstreams);
	size_t count = origin_count(named) ? origin_count(named) : 1;
	struct telemetry_origin *row;
	char buf[TELEMETRY_LABEL_LEN];

	label = label_plain(label, buf);
	for (size_t i = 1; i < count; i++) {
		row = &named->origins[i];
		if (row->upstream == index && label_is(&row->label, label))
			return row;
	}
	if (count == TELEMETRY_ORIGINS)
		return named->origins;
	row = &named->origins[count];
	memset(row, 0, sizeof(*row));
	row->upstream = index;
	row->label.len = (uint32_t)label.len;
	memcpy(row->label.text, label.ptr, label.len);
	__atomic_store_n(&named->origin_count, (uint32_t)count + 1, __ATOMIC_RELEASE);
	return row;
}

void telemetry_named_rest(struct telemetry_named *named)
{
	struct rows rows = rows_of_upstreams(named);
	size_t count = row_count(&rows);

	for (size_t i = 0; i < count; i++)
		memset(named->upstreams[i].gauges, 0, sizeof(named->upstreams[i].gauges));
	for (size_t i = 0; i < TELEMETRY_ORIGINS; i++)
		__atomic_store_n(&named->origins[i].state, TELEMETRY_ORIGIN_GONE, __ATOMIC_RELAXED);
}

void telemetry_named_begin(struct telemetry_named *named)
{
	telemetry_named_rest(named);
	(void)telemetry_named_site(named, SPAN("other"));
	(void)telemetry_named_upstream(named, SPAN("other"));
}

static void add_cells(uint64_t *into, const uint64_t *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = __atomic_load_n(&from[i], __ATOMIC_RELAXED);

		if (__builtin_add_overflow(into[i], value, &into[i]))
			into[i] = UINT64_MAX;
	}
}
#define ADD(into, from, group) \
	add_cells((uint64_t *)&(into)->group, (const uint64_t *)&(from)->group, \
		  sizeof((into)->group) / sizeof(uint64_t))

/* A copy: the range may change under who reads it. */
static struct span label_take(const struct telemetry_label *from, struct telemetry_label *copy)
{
	*copy = *from;
	return span_of(copy->text,
		       copy->len < TELEMETRY_LABEL_LEN ? copy->len : TELEMETRY_LABEL_LEN);
}

void telemetry_named_sum(struct telemetry_named *sum, const struct telemetry_named *range)
{
	struct telemetry_named *from = (struct telemetry_named *)(uintptr_t)range; /* only read */
	struct rows sites = rows_of_sites(from), upstreams = rows_of_upstreams(from);
	size_t site_count = row_count(&sites), upstream_count = row_count(&upstreams);
	struct telemetry_label label;

	for (size_t i = 0; i < site_count; i++) {
		struct telemetry_site *site =
			telemetry_named_site(sum, label_take(&range->sites[i].label, &label));

		ADD(site, &range->sites[i], statuses);
		ADD(site, &range->sites[i], counters);
		ADD(site, &range->sites[i], request);
	}
	for (size_t i = 0; i < upstream_count; i++) {
		const struct telemetry_upstream *one = &range->upstreams[i];
		struct telemetry_upstream *upstream =
			telemetry_named_upstream(sum, label_take(&one->label, &label));

		ADD(upstream, one, counters);
		ADD(upstream, one, failures);
		ADD(upstream, one, response);
	}
}

/* ---- Reading, over all sources ----------------------------------------------------------------------------- */

/* The rows of a source that somebody else may write; only read. */
static struct rows rows_of(const struct telemetry_source *source, enum telemetry_rows which)
{
	struct telemetry_named *named = (struct telemetry_named *)(uintptr_t)source->named;

	return which == TELEMETRY_ROWS_SITE ? rows_of_sites(named) : rows_of_upstreams(named);
}

size_t telemetry_rows_count(const struct telemetry_source *source, enum telemetry_rows which)
{
	struct rows rows;

	if (!source->named)
		return 0;
	rows = rows_of(source, which);
	return row_count(&rows);
}

/* Of the first `count` rows the one with this label; workers took over the same configurations, so `hint` is a good
 * guess. NULL: none. */
static struct telemetry_label *row_with(const struct rows *rows, size_t count, size_t hint,
					struct span text)
{
	if (hint < count && label_is(row_at(rows, hint), text))
		return row_at(rows, hint);
	for (size_t i = 0; i < count; i++) {
		if (label_is(row_at(rows, i), text))
			return row_at(rows, i);
	}
	return NULL;
}

struct span telemetry_rows_label(const struct telemetry_metrics *metrics, size_t source, size_t row,
				 enum telemetry_rows which, char buf[TELEMETRY_LABEL_LEN])
{
	struct rows rows = rows_of(&metrics->sources[source], which);
	struct telemetry_label copy;
	struct span text = label_take(row_at(&rows, row), &copy);

	for (size_t i = 0; i <= source; i++) {
		struct rows other;
		size_t count = i < source ? telemetry_rows_count(&metrics->sources[i], which) : row;

		if (!metrics->sources[i].named)
			continue;
		other = rows_of(&metrics->sources[i], which);
		if (row_with(&other, count, row, text))
			return SPAN_NONE;
	}
	return label_plain(text, buf);
}

/* The row of that label in another source, or NULL. */
static void *same_row(const struct telemetry_metrics *metrics, size_t source, size_t row,
		      enum telemetry_rows which, size_t other)
{
	struct rows rows = rows_of(&metrics->sources[source], which), others;
	struct telemetry_label copy;
	struct span text = label_take(row_at(&rows, row), &copy);

	if (other == source)
		return row_at(&rows, row);
	if (!metrics->sources[other].named)
		return NULL;
	others = rows_of(&metrics->sources[other], which);
	return row_with(&others, row_count(&others), row, text);
}

void telemetry_rows_sum_site(const struct telemetry_metrics *metrics, size_t source, size_t row,
			     struct telemetry_site *ret_sum)
{
	memset(ret_sum, 0, sizeof(*ret_sum));
	for (size_t i = source; i < metrics->source_count; i++) {
		const struct telemetry_site *site =
			same_row(metrics, source, row, TELEMETRY_ROWS_SITE, i);

		if (!site)
			continue;
		ADD(ret_sum, site, statuses);
		ADD(ret_sum, site, counters);
		ADD(ret_sum, site, request);
	}
}

void telemetry_rows_sum_upstream(const struct telemetry_metrics *metrics, size_t source, size_t row,
				 struct telemetry_upstream *ret_sum)
{
	uint64_t down = 0;

	memset(ret_sum, 0, sizeof(*ret_sum));
	for (size_t i = source; i < metrics->source_count; i++) {
		const struct telemetry_upstream *upstream =
			same_row(metrics, source, row, TELEMETRY_ROWS_UPSTREAM, i);

		if (!upstream)
			continue;
		ADD(ret_sum, upstream, counters);
		ADD(ret_sum, upstream, gauges);
		ADD(ret_sum, upstream, failures);
		ADD(ret_sum, upstream, response);
		/* Each worker knows of the same origins. */
		if (upstream->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN] > down)
			down = upstream->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN];
	}
	ret_sum->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN] = down;
}

/* ---- Origins, over all sources ------------------------------------------------------------------------------ */

size_t telemetry_rows_origins(const struct telemetry_source *source)
{
	return source->named ? origin_count(source->named) : 0;
}

/* Copies of both labels; the range may hold anything. */
static void origin_labels(const struct telemetry_named *named, size_t row,
			  struct telemetry_label copies[2], struct span ret_labels[2])
{
	const struct telemetry_origin *origin = &named->origins[row];
	uint32_t upstream = __atomic_load_n(&origin->upstream, __ATOMIC_RELAXED);

	if (upstream >= TELEMETRY_UPSTREAMS)
		upstream = 0;
	ret_labels[0] = label_take(&named->upstreams[upstream].label, &copies[0]);
	ret_labels[1] = label_take(&origin->label, &copies[1]);
}

static bool origin_is(const struct telemetry_named *named, size_t row, const struct span labels[2])
{
	struct telemetry_label copies[2];
	struct span others[2];

	origin_labels(named, row, copies, others);
	return span_equal(others[1], labels[1]) && span_equal(others[0], labels[0]);
}

/* The row of the first `count` that has both labels, or 0. Workers took over the same configurations, so `hint` is a good
 * guess. */
static size_t origin_with(const struct telemetry_named *named, size_t count, size_t hint,
			  const struct span labels[2])
{
	if (hint < count && origin_is(named, hint, labels))
		return hint;
	for (size_t i = 1; i < count; i++) {
		if (origin_is(named, i, labels))
			return i;
	}
	return 0;
}

bool telemetry_rows_origin(const struct telemetry_metrics *metrics, size_t source, size_t row,
			   struct telemetry_origin_seen *ret_seen)
{
	struct telemetry_label copies[2];
	struct span labels[2];
	uint32_t worst = TELEMETRY_ORIGIN_GONE;

	if (!row)
		return false;
	origin_labels(metrics->sources[source].named, row, copies, labels);
	for (size_t i = 0; i < metrics->source_count; i++) {
		const struct telemetry_named *named = metrics->sources[i].named;
		size_t found = 0;
		uint32_t state;

		if (named)
			found = origin_with(named, i == source ? row : origin_count(named), row,
					    labels);
		/* Whatever its state: that may change between two pieces of the text. */
		if (found && i <= source)
			return false;
		if (i == source)
			found = row;
		if (!found)
			continue;
		state = __atomic_load_n(&named->origins[found].state, __ATOMIC_RELAXED);
		if (state > worst)
			worst = state;
	}
	ret_seen->upstream = label_plain(labels[0], ret_seen->bufs[0]);
	ret_seen->origin = label_plain(labels[1], ret_seen->bufs[1]);
	ret_seen->is_up = worst == TELEMETRY_ORIGIN_UP;
	return worst != TELEMETRY_ORIGIN_GONE;
}
