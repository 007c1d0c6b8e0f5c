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

void telemetry_observe_in(struct telemetry_buckets *buckets, uint64_t duration_ns)
{
	uint64_t us = duration_ns / 1000;
	size_t bucket = us ? 64 - (size_t)__builtin_clzll(us) : 0;

	if (bucket >= TELEMETRY_BUCKETS)
		bucket = TELEMETRY_BUCKETS - 1;
	telemetry_add(&buckets->counts[bucket], 1);
	telemetry_add(&buckets->sum_us, us);
}

void telemetry_observe(struct telemetry_counters *counters, enum telemetry_histogram which,
		       uint64_t duration_ns)
{
	MUST(which < TELEMETRY_HISTOGRAM_COUNT);
	telemetry_observe_in(&counters->histograms[which], duration_ns);
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
