/* A reading: copies of ranges that go on changing. */
#include "command/top.h"

#include <string.h>

static void label_set(struct telemetry_label *label, struct span text)
{
	text = span_first(text, TELEMETRY_LABEL_LEN);
	memset(label, 0, sizeof(*label));
	label->len = (uint32_t)text.len;
	memcpy(label->text, text.ptr, text.len);
}

static void take_sites(struct top_reading *reading, const struct telemetry_metrics *metrics,
		       size_t source)
{
	size_t count = telemetry_rows_count(&metrics->sources[source], TELEMETRY_ROWS_SITE);
	char buf[TELEMETRY_LABEL_LEN];

	for (size_t i = 0; i < count && reading->site_count < TELEMETRY_SITES; i++) {
		struct span label =
			telemetry_rows_label(metrics, source, i, TELEMETRY_ROWS_SITE, buf);
		struct telemetry_site *site = &reading->sites[reading->site_count];

		if (!label.len)
			continue;
		telemetry_rows_sum_site(metrics, source, i, site);
		label_set(&site->label, label);
		reading->site_count++;
	}
}

static void take_upstreams(struct top_reading *reading, const struct telemetry_metrics *metrics,
			   size_t source)
{
	size_t count = telemetry_rows_count(&metrics->sources[source], TELEMETRY_ROWS_UPSTREAM);
	char buf[TELEMETRY_LABEL_LEN];

	for (size_t i = 0; i < count && reading->upstream_count < TELEMETRY_UPSTREAMS; i++) {
		struct span label =
			telemetry_rows_label(metrics, source, i, TELEMETRY_ROWS_UPSTREAM, buf);
		struct telemetry_upstream *upstream = &reading->upstreams[reading->upstream_count];

		if (!label.len)
			continue;
		telemetry_rows_sum_upstream(metrics, source, i, upstream);
		label_set(&upstream->label, label);
		reading->upstream_count++;
	}
}

static void take_origins(struct top_reading *reading, const struct telemetry_metrics *metrics,
			 size_t source)
{
	size_t count = telemetry_rows_origins(&metrics->sources[source]);
	struct telemetry_origin_seen seen;

	for (size_t i = 0; i < count && reading->origin_count < TELEMETRY_ORIGINS; i++) {
		struct top_origin *origin = &reading->origins[reading->origin_count];

		if (!telemetry_rows_origin(metrics, source, i, &seen))
			continue;
		origin->upstream = SIZE_MAX;
		origin->is_up = seen.is_up;
		label_set(&origin->label, seen.origin);
		for (size_t j = 0; j < reading->upstream_count; j++) {
			const struct telemetry_label *label = &reading->upstreams[j].label;

			if (span_equal(span_of(label->text, label->len), seen.upstream))
				origin->upstream = j;
		}
		reading->origin_count++;
	}
}

void top_reading_take(struct top_reading *reading, const struct telemetry_source *sources,
		      size_t count)
{
	struct telemetry_metrics metrics = { .sources = sources, .source_count = count };

	memset(&reading->counters, 0, sizeof(reading->counters));
	reading->site_count = reading->upstream_count = reading->origin_count = 0;
	for (size_t i = 0; i < count; i++) {
		telemetry_sum(&reading->counters, sources[i].counters);
		take_sites(reading, &metrics, i);
		take_upstreams(reading, &metrics, i);
	}
	for (size_t i = 0; i < count; i++)
		take_origins(reading, &metrics, i);
}
