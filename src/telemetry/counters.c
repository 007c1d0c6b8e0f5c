#include "telemetry/telemetry.h"

#define CELLS(array) (sizeof(array) / sizeof(uint64_t))

_Static_assert(TELEMETRY_COUNTER_COUNT <= CELLS(((struct telemetry_counters *)0)->counters) &&
		       TELEMETRY_END_COUNT <= CELLS(((struct telemetry_counters *)0)->ends) &&
		       TELEMETRY_LIMIT_COUNT <= CELLS(((struct telemetry_counters *)0)->limits) &&
		       TELEMETRY_HISTOGRAM_COUNT <=
			       ARRAY_LEN(((struct telemetry_counters *)0)->histograms),
	       "each group has room");
/* It lies in shared memory of fixed size, behind the header of a process's range. */
_Static_assert(sizeof(struct telemetry_counters) <= 12 * 1024, "counters fit a range");

void telemetry_count_end(struct telemetry_counters *counters, enum telemetry_end end,
			 uint16_t status)
{
	MUST(end < TELEMETRY_END_COUNT);
	telemetry_add(&counters->ends[end], 1);
	telemetry_add(&counters->statuses[status < 600 ? status / 100 : 0], 1);
}

void telemetry_observe(struct telemetry_counters *counters, enum telemetry_histogram which,
		       uint64_t duration_ns)
{
	uint64_t us = duration_ns / 1000;
	size_t bucket = us ? 64 - (size_t)__builtin_clzll(us) : 0;

	MUST(which < TELEMETRY_HISTOGRAM_COUNT);
	if (bucket >= TELEMETRY_BUCKETS)
		bucket = TELEMETRY_BUCKETS - 1;
	telemetry_add(&counters->histograms[which].counts[bucket], 1);
	telemetry_add(&counters->histograms[which].sum_us, us);
}

void telemetry_sum(struct telemetry_counters *sum, const struct telemetry_counters *range)
{
	uint64_t *into = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)range;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++) {
		uint64_t value = __atomic_load_n(&from[i], __ATOMIC_RELAXED);

		if (__builtin_add_overflow(into[i], value, &into[i]))
			into[i] = UINT64_MAX;
	}
}

static void write_counter(struct writer *out, const char *name, const char *help, uint64_t value)
{
	write_format(out, "# HELP portcullis_%s_total %s\n# TYPE portcullis_%s_total counter\n",
		     name, help, name);
	write_format(out, "portcullis_%s_total %llu\n", name, (unsigned long long)value);
}

static void write_labelled(struct writer *out, const char *name, const char *label,
			   const char *value, uint64_t count)
{
	write_format(out, "portcullis_%s_total{%s=\"%s\"} %llu\n", name, label, value,
		     (unsigned long long)count);
}

/* Seconds with six digits: no floating point, which would lose the last ones of a large sum. */
static void write_seconds(struct writer *out, uint64_t us)
{
	write_format(out, "%llu.%06llu", (unsigned long long)(us / 1000000),
		     (unsigned long long)(us % 1000000));
}

static void write_histogram(struct writer *out, const char *name, const char *help,
			    const struct telemetry_buckets *buckets)
{
	uint64_t count = 0;

	write_format(out,
		     "# HELP portcullis_%s_seconds %s\n# TYPE portcullis_%s_seconds histogram\n",
		     name, help, name);
	for (size_t i = 0; i < TELEMETRY_BUCKETS; i++) {
		if (__builtin_add_overflow(count, buckets->counts[i], &count))
			count = UINT64_MAX;
		write_format(out, "portcullis_%s_seconds_bucket{le=\"", name);
		if (i < TELEMETRY_BUCKETS - 1)
			write_seconds(out, UINT64_C(1) << i);
		else
			write_str(out, "+Inf");
		write_format(out, "\"} %llu\n", (unsigned long long)count);
	}
	write_format(out, "portcullis_%s_seconds_sum ", name);
	write_seconds(out, buckets->sum_us);
	write_format(out, "\nportcullis_%s_seconds_count %llu\n", name, (unsigned long long)count);
}

void telemetry_write_metrics(struct writer *out, const struct telemetry_counters *sum)
{
#define X(id, name, help) write_counter(out, name, help, sum->counters[TELEMETRY_COUNTER_##id]);
	TELEMETRY_COUNTERS(X)
#undef X
	write_str(out, "# HELP portcullis_ends_total how exchanges ended\n"
		       "# TYPE portcullis_ends_total counter\n");
	for (size_t i = 0; i < TELEMETRY_END_COUNT; i++)
		write_labelled(out, "ends", "end", telemetry_ends[i].word, sum->ends[i]);
	write_str(out, "# HELP portcullis_limits_total how often a limit was met\n"
		       "# TYPE portcullis_limits_total counter\n");
	for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++)
		write_labelled(out, "limits", "limit", telemetry_limits[i].name, sum->limits[i]);
	write_str(out,
		  "# HELP portcullis_responses_total responses by the first digit of their status\n"
		  "# TYPE portcullis_responses_total counter\n");
	for (size_t i = 1; i < 6; i++)
		write_labelled(out, "responses", "status",
			       (const char *const[]){ "", "1xx", "2xx", "3xx", "4xx", "5xx" }[i],
			       sum->statuses[i]);
#define X(id, name, help) \
	write_histogram(out, name, help, &sum->histograms[TELEMETRY_HISTOGRAM_##id]);
	TELEMETRY_HISTOGRAMS(X)
#undef X
}
