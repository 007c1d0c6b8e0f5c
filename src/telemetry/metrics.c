/* The metrics' text: a table of families, written one piece at a time. */
#include "telemetry/telemetry.h"

#include <string.h>

enum family_kind {
	FAMILY_GAUGE,
	FAMILY_COUNTER,
	FAMILY_HISTOGRAM,
	FAMILY_LABELLED,
	FAMILY_SITE_COUNTER,
	FAMILY_SITE_HISTOGRAM,
	FAMILY_UPSTREAM_COUNTER,
	FAMILY_UPSTREAM_GAUGE,
	FAMILY_UPSTREAM_HISTOGRAM,
	FAMILY_ORIGIN_GAUGE,
};

enum labelled {
#define X(id, name, labels, help) LABELLED_##id,
	TELEMETRY_LABELLED(X)
#undef X
};
enum gauge {
#define X(id, name, help) GAUGE_##id,
	TELEMETRY_GAUGES(X)
#undef X
};

struct family {
	const char *name, *help;
	enum family_kind kind;
	size_t index;
};

static const struct family families[] = {
#define X(id, name, help) { name, help, FAMILY_GAUGE, GAUGE_##id },
	TELEMETRY_GAUGES(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_COUNTER, TELEMETRY_COUNTER_##id },
		TELEMETRY_COUNTERS(X)
#undef X
#define X(id, name, labels, help) { name, help, FAMILY_LABELLED, LABELLED_##id },
			TELEMETRY_LABELLED(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_HISTOGRAM, TELEMETRY_HISTOGRAM_##id },
				TELEMETRY_HISTOGRAMS(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_SITE_COUNTER, TELEMETRY_SITE_##id },
					TELEMETRY_SITE_COUNTERS(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_SITE_HISTOGRAM, 0 },
						TELEMETRY_SITE_HISTOGRAMS(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_UPSTREAM_COUNTER, TELEMETRY_UPSTREAM_##id },
							TELEMETRY_UPSTREAM_COUNTERS(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_UPSTREAM_GAUGE, TELEMETRY_UPSTREAM_GAUGE_##id },
								TELEMETRY_UPSTREAM_GAUGES(X)
#undef X
#define X(id, name, help) { name, help, FAMILY_UPSTREAM_HISTOGRAM, 0 },
									TELEMETRY_UPSTREAM_HISTOGRAMS(
										X)
#undef X
#define X(id, name, help) { name, help, FAMILY_ORIGIN_GAUGE, 0 },
										TELEMETRY_ORIGIN_GAUGES(
											X)
#undef X
};

static const char *const status_names[] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };

/* ---- Lines ------------------------------------------------------------------------------------------------- */

static bool is_histogram(const struct family *family)
{
	return family->kind == FAMILY_HISTOGRAM || family->kind == FAMILY_SITE_HISTOGRAM ||
	       family->kind == FAMILY_UPSTREAM_HISTOGRAM;
}

static const char *suffix_of(const struct family *family)
{
	if (is_histogram(family))
		return "_seconds";
	if (family->kind == FAMILY_GAUGE || family->kind == FAMILY_UPSTREAM_GAUGE ||
	    family->kind == FAMILY_ORIGIN_GAUGE)
		return "";
	return "_total";
}

static void write_head(struct writer *out, const struct family *family)
{
	const char *suffix = suffix_of(family), *type = "counter";

	if (is_histogram(family))
		type = "histogram";
	else if (!*suffix)
		type = "gauge";
	write_format(out, "# HELP portcullis_%s%s %s\n# TYPE portcullis_%s%s %s\n", family->name,
		     suffix, family->help, family->name, suffix, type);
}

static void write_number(struct writer *out, uint64_t number)
{
	write_byte(out, ' ');
	write_u64(out, number);
	write_byte(out, '\n');
}

/* `{`, and label="value" for each; the brace stays open. */
static void write_label(struct writer *out, const char *name, struct span value)
{
	write_byte(out, out->at > out->start && out->at[-1] == '"' ? ',' : '{');
	write_str(out, name);
	write_str(out, "=\"");
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] == '"' || value.ptr[i] == '\\')
			write_byte(out, '\\');
		write_byte(out, value.ptr[i]);
	}
	write_byte(out, '"');
}

/* `owner` is `site`, `upstream` or NULL, for whose label is `of`. */
struct owner {
	const char *name;
	struct span of;
};

static void write_name(struct writer *out, const struct family *family, const char *suffix,
		       const struct owner *owner)
{
	write_str(out, "portcullis_");
	write_str(out, family->name);
	write_str(out, suffix);
	if (owner)
		write_label(out, owner->name, owner->of);
}

static void write_sample(struct writer *out, const struct family *family, const struct owner *owner,
			 uint64_t number)
{
	write_name(out, family, suffix_of(family), owner);
	if (owner)
		write_byte(out, '}');
	write_number(out, number);
}

static void write_labelled(struct writer *out, const struct family *family,
			   const struct owner *owner, const struct owner *more, uint64_t number)
{
	write_name(out, family, suffix_of(family), owner);
	write_label(out, more->name, more->of);
	write_byte(out, '}');
	write_number(out, number);
}

/* Seconds with six digits: no floating point, which would lose the last ones of a large sum. */
static void write_seconds(struct writer *out, uint64_t us)
{
	write_format(out, "%llu.%06llu", (unsigned long long)(us / 1000000),
		     (unsigned long long)(us % 1000000));
}

/* Of a site or upstream fewer are told: there may be many. */
static bool is_told(size_t bucket, const struct owner *owner)
{
	enum { FINE_FROM = 10, FINE_TO = 20, FIRST = 8, LAST = 26 };

	if (!owner || bucket == TELEMETRY_BUCKETS - 1)
		return true;
	if (bucket >= FINE_FROM && bucket <= FINE_TO)
		return true;
	return bucket >= FIRST && bucket <= LAST && bucket % 2 == 0;
}

static void write_histogram(struct writer *out, const struct family *family,
			    const struct owner *owner, const struct telemetry_buckets *buckets)
{
	uint64_t count = 0;

	for (size_t i = 0; i < TELEMETRY_BUCKETS; i++) {
		if (__builtin_add_overflow(count, buckets->counts[i], &count))
			count = UINT64_MAX;
		if (!is_told(i, owner))
			continue;
		write_name(out, family, "_seconds_bucket", owner);
		write_str(out, owner ? ",le=\"" : "{le=\"");
		if (i < TELEMETRY_BUCKETS - 1)
			write_seconds(out, UINT64_C(1) << i);
		else
			write_str(out, "+Inf");
		write_str(out, "\"}");
		write_number(out, count);
	}
	write_name(out, family, "_seconds_sum", owner);
	write_str(out, owner ? "} " : " ");
	write_seconds(out, buckets->sum_us);
	write_byte(out, '\n');
	write_name(out, family, "_seconds_count", owner);
	if (owner)
		write_byte(out, '}');
	write_number(out, count);
}

/* ---- Families of the whole service -------------------------------------------------------------------------- */

/* The same cell of each source. */
static uint64_t sum_of(const struct telemetry_metrics *metrics, size_t offset)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < metrics->source_count; i++) {
		const uint64_t *cell =
			(const uint64_t *)(const void *)((const char *)metrics->sources[i]
								 .counters +
							 offset);

		if (__builtin_add_overflow(sum, __atomic_load_n(cell, __ATOMIC_RELAXED), &sum))
			return UINT64_MAX;
	}
	return sum;
}
#define SUM_OF(metrics, group, index) \
	sum_of(metrics, offsetof(struct telemetry_counters, group) + (index) * sizeof(uint64_t))

static uint64_t gauge_of(const struct telemetry_metrics *metrics, size_t index)
{
	switch ((enum gauge)index) {
	case GAUGE_CONNECTIONS:
		return metrics->gauges.connections;
	case GAUGE_EXCHANGES:
		return metrics->gauges.exchanges;
	case GAUGE_PROCESSES:
		break;
	}
	return metrics->gauges.processes;
}

static void write_service_labelled(const struct telemetry_metrics *metrics,
				   const struct family *family, struct writer *out)
{
	switch ((enum labelled)family->index) {
	case LABELLED_ENDS:
		for (size_t i = 0; i < TELEMETRY_END_COUNT; i++)
			write_labelled(out, family, NULL,
				       &(struct owner){ "end", span_str(telemetry_ends[i].word) },
				       SUM_OF(metrics, ends, i));
		return;
	case LABELLED_LIMITS:
		for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++)
			write_labelled(
				out, family, NULL,
				&(struct owner){ "limit", span_str(telemetry_limits[i].name) },
				SUM_OF(metrics, limits, i));
		return;
	case LABELLED_RESPONSES:
		for (size_t i = 1; i < ARRAY_LEN(status_names); i++)
			write_labelled(out, family, NULL,
				       &(struct owner){ "status", span_str(status_names[i]) },
				       SUM_OF(metrics, statuses, i));
		return;
	case LABELLED_SITE_RESPONSES:
	case LABELLED_UPSTREAM_FAILURES:
		return;
	}
}

static void write_service_histogram(const struct telemetry_metrics *metrics,
				    const struct family *family, struct writer *out)
{
	struct telemetry_buckets sum;
	size_t offset = offsetof(struct telemetry_counters, histograms) +
			family->index * sizeof(struct telemetry_buckets);

	for (size_t i = 0; i < TELEMETRY_BUCKETS; i++)
		sum.counts[i] = sum_of(metrics, offset + i * sizeof(uint64_t));
	sum.sum_us = sum_of(metrics, offset + offsetof(struct telemetry_buckets, sum_us));
	write_histogram(out, family, NULL, &sum);
}

static void write_service(const struct telemetry_metrics *metrics, const struct family *family,
			  struct writer *out)
{
	switch (family->kind) {
	case FAMILY_GAUGE:
		write_sample(out, family, NULL, gauge_of(metrics, family->index));
		return;
	case FAMILY_COUNTER:
		write_sample(out, family, NULL, SUM_OF(metrics, counters, family->index));
		return;
	case FAMILY_HISTOGRAM:
		write_service_histogram(metrics, family, out);
		return;
	case FAMILY_LABELLED:
		write_service_labelled(metrics, family, out);
		return;
	case FAMILY_SITE_COUNTER:
	case FAMILY_SITE_HISTOGRAM:
	case FAMILY_UPSTREAM_COUNTER:
	case FAMILY_UPSTREAM_GAUGE:
	case FAMILY_UPSTREAM_HISTOGRAM:
	case FAMILY_ORIGIN_GAUGE:
		return;
	}
}

/* ---- Families by site and upstream ---------------------------------------------------------------------------- */

static bool is_of_sites(const struct family *family)
{
	return family->kind == FAMILY_SITE_COUNTER || family->kind == FAMILY_SITE_HISTOGRAM ||
	       (family->kind == FAMILY_LABELLED && family->index == LABELLED_SITE_RESPONSES);
}

static bool is_of_upstreams(const struct family *family)
{
	return family->kind == FAMILY_UPSTREAM_COUNTER || family->kind == FAMILY_UPSTREAM_GAUGE ||
	       family->kind == FAMILY_UPSTREAM_HISTOGRAM ||
	       (family->kind == FAMILY_LABELLED && family->index == LABELLED_UPSTREAM_FAILURES);
}

static void write_site(const struct telemetry_metrics *metrics, const struct family *family,
		       struct span label, struct writer *out)
{
	struct owner owner = { "site", label };
	struct telemetry_site sum;

	telemetry_rows_sum_site(metrics, metrics->source, metrics->row, &sum);
	if (family->kind == FAMILY_SITE_COUNTER) {
		write_sample(out, family, &owner, sum.counters[family->index]);
	} else if (family->kind == FAMILY_SITE_HISTOGRAM) {
		write_histogram(out, family, &owner, &sum.request);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(status_names); i++)
			write_labelled(out, family, &owner,
				       &(struct owner){ "status", span_str(status_names[i]) },
				       sum.statuses[i]);
	}
}

static void write_upstream(const struct telemetry_metrics *metrics, const struct family *family,
			   struct span label, struct writer *out)
{
	struct owner owner = { "upstream", label };
	struct telemetry_upstream sum;

	telemetry_rows_sum_upstream(metrics, metrics->source, metrics->row, &sum);
	if (family->kind == FAMILY_UPSTREAM_COUNTER) {
		write_sample(out, family, &owner, sum.counters[family->index]);
	} else if (family->kind == FAMILY_UPSTREAM_GAUGE) {
		write_sample(out, family, &owner, sum.gauges[family->index]);
	} else if (family->kind == FAMILY_UPSTREAM_HISTOGRAM) {
		write_histogram(out, family, &owner, &sum.response);
	} else {
		/* Those that never happened are left out: there are too many kinds for each upstream. */
		for (size_t i = 0; i < TELEMETRY_END_COUNT; i++) {
			struct owner reason = { "reason", span_str(telemetry_ends[i].word) };

			if (sum.failures[i])
				write_labelled(out, family, &owner, &reason, sum.failures[i]);
		}
	}
}

/* The next label that was not written; false: none is left. */
static bool write_row(struct telemetry_metrics *metrics, const struct family *family,
		      struct writer *out)
{
	enum telemetry_rows which =
		is_of_sites(family) ? TELEMETRY_ROWS_SITE : TELEMETRY_ROWS_UPSTREAM;
	char buf[TELEMETRY_LABEL_LEN];

	for (; metrics->source < metrics->source_count; metrics->source++, metrics->row = 0) {
		const struct telemetry_source *source = &metrics->sources[metrics->source];

		for (; metrics->row < telemetry_rows_count(source, which); metrics->row++) {
			struct span label = telemetry_rows_label(metrics, metrics->source,
								 metrics->row, which, buf);

			if (!label.len)
				continue;
			if (which == TELEMETRY_ROWS_SITE)
				write_site(metrics, family, label, out);
			else
				write_upstream(metrics, family, label, out);
			metrics->row++;
			return true;
		}
	}
	return false;
}

static void write_origin(const struct family *family, const struct telemetry_origin_seen *seen,
			 struct writer *out)
{
	struct owner upstream = { "upstream", seen->upstream }, origin = { "origin", seen->origin };

	write_labelled(out, family, &upstream, &origin, seen->is_up);
}

static bool write_origin_row(struct telemetry_metrics *metrics, const struct family *family,
			     struct writer *out)
{
	for (; metrics->source < metrics->source_count; metrics->source++, metrics->row = 0) {
		const struct telemetry_source *source = &metrics->sources[metrics->source];

		while (metrics->row < telemetry_rows_origins(source)) {
			struct telemetry_origin_seen seen;

			if (!telemetry_rows_origin(metrics, metrics->source, metrics->row++, &seen))
				continue;
			write_origin(family, &seen, out);
			return true;
		}
	}
	return false;
}

bool telemetry_metrics_next(struct telemetry_metrics *metrics, struct writer *out)
{
	while (metrics->family < ARRAY_LEN(families)) {
		const struct family *family = &families[metrics->family];
		bool is_of_origins = family->kind == FAMILY_ORIGIN_GAUGE;
		bool has_rows = is_of_sites(family) || is_of_upstreams(family) || is_of_origins;

		if (!metrics->has_begun) {
			write_head(out, family);
			metrics->has_begun = has_rows;
			metrics->source = metrics->row = 0;
			if (!has_rows) {
				write_service(metrics, family, out);
				metrics->family++;
			}
			return true;
		}
		if (is_of_origins ? write_origin_row(metrics, family, out)
				  : write_row(metrics, family, out))
			return true;
		metrics->has_begun = false;
		metrics->family++;
	}
	return false;
}
