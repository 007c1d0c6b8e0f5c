#include "telemetry/telemetry.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct telemetry_counters counters, sum;

static void test_count(void **state)
{
	(void)state;
	telemetry_count(&counters, TELEMETRY_COUNTER_CONNECTIONS);
	telemetry_count_add(&counters, TELEMETRY_COUNTER_BYTES_IN, 1000);
	telemetry_count_limit(&counters, TELEMETRY_LIMIT_HEADER);
	telemetry_count_end(&counters, TELEMETRY_END_ORIGIN_REFUSED, 502);
	telemetry_count_end(&counters, TELEMETRY_END_CLIENT_GONE, 0);
	telemetry_count_end(&counters, TELEMETRY_END_OK, 65535);
	assert_int_equal(counters.counters[TELEMETRY_COUNTER_CONNECTIONS], 1);
	assert_int_equal(counters.counters[TELEMETRY_COUNTER_BYTES_IN], 1000);
	assert_int_equal(counters.limits[TELEMETRY_LIMIT_HEADER], 1);
	assert_int_equal(counters.ends[TELEMETRY_END_ORIGIN_REFUSED], 1);
	assert_int_equal(counters.statuses[5], 1);
	assert_int_equal(counters.statuses[0], 2);
}

static void test_observe(void **state)
{
	const struct telemetry_buckets *buckets = &counters.histograms[TELEMETRY_HISTOGRAM_REQUEST];

	(void)state;
	telemetry_observe(&counters, TELEMETRY_HISTOGRAM_REQUEST, 999);
	telemetry_observe(&counters, TELEMETRY_HISTOGRAM_REQUEST, 1000);
	telemetry_observe(&counters, TELEMETRY_HISTOGRAM_REQUEST, 3999);
	telemetry_observe(&counters, TELEMETRY_HISTOGRAM_REQUEST, 4000);
	telemetry_observe(&counters, TELEMETRY_HISTOGRAM_REQUEST, UINT64_MAX);
	assert_int_equal(buckets->counts[0], 1);
	assert_int_equal(buckets->counts[1], 1);
	assert_int_equal(buckets->counts[2], 1);
	assert_int_equal(buckets->counts[3], 1);
	assert_int_equal(buckets->counts[TELEMETRY_BUCKETS - 1], 1);
	assert_true(buckets->sum_us == 0 + 1 + 3 + 4 + UINT64_MAX / 1000);
}

/* A range holds whatever a process wrote there. */
static void test_sum_clamps(void **state)
{
	static struct telemetry_counters hostile;

	(void)state;
	memset(&sum, 0, sizeof(sum));
	telemetry_sum(&sum, &counters);
	telemetry_sum(&sum, &counters);
	assert_int_equal(sum.counters[TELEMETRY_COUNTER_BYTES_IN], 2000);
	memset(&hostile, 0xff, sizeof(hostile));
	telemetry_sum(&sum, &hostile);
	telemetry_sum(&sum, &hostile);
	assert_true(sum.counters[TELEMETRY_COUNTER_BYTES_IN] == UINT64_MAX);
	assert_true(sum.histograms[0].sum_us == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_observe),
		cmocka_unit_test(test_sum_clamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
