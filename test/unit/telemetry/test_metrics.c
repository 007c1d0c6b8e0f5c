#include "telemetry/telemetry.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TEXT_SIZE = 8 * 1024 * 1024 };
static char text[TEXT_SIZE];
static struct telemetry_counters counters[2];
static struct telemetry_named named[2], sum;
static const struct telemetry_source sources[] = { { &counters[0], &named[0] },
						   { &counters[1], &named[1] },
						   { &counters[0], NULL } };

static int clear(void **state)
{
	(void)state;
	memset(counters, 0, sizeof(counters));
	memset(named, 0, sizeof(named));
	memset(&sum, 0, sizeof(sum));
	telemetry_named_begin(&named[0]);
	telemetry_named_begin(&named[1]);
	return 0;
}

/* All pieces; each of them fits the room that is promised. */
static struct span write_all(size_t source_count)
{
	struct telemetry_metrics metrics = { .sources = sources, .source_count = source_count };
	struct writer out = writer_of(text, sizeof(text));
	bool has_more = true;

	metrics.gauges.connections = 7;
	while (has_more) {
		struct writer piece = writer_of(out.at, TELEMETRY_METRICS_PIECE);

		assert_true(out.at + TELEMETRY_METRICS_PIECE <= out.end);
		has_more = telemetry_metrics_next(&metrics, &piece);
		assert_true(piece.ok);
		out.at = piece.at;
	}
	return writer_done(&out);
}

static bool has(struct span all, const char *line)
{
	return span_find(all, span_str(line)) < all.len;
}

static size_t count_of(struct span all, const char *part)
{
	size_t count = 0, at;

	while ((at = span_find(all, span_str(part))) < all.len) {
		count++;
		all = span_skip(all, at + 1);
	}
	return count;
}

static void test_service(void **state)
{
	struct span all, line;

	(void)state;
	telemetry_count(&counters[0], TELEMETRY_COUNTER_CONNECTIONS);
	telemetry_count(&counters[1], TELEMETRY_COUNTER_CONNECTIONS);
	telemetry_count_limit(&counters[1], TELEMETRY_LIMIT_HEADER);
	telemetry_count_end(&counters[1], TELEMETRY_END_ORIGIN_REFUSED, 502);
	telemetry_observe(&counters[0], TELEMETRY_HISTOGRAM_REQUEST, 1000);
	telemetry_observe(&counters[1], TELEMETRY_HISTOGRAM_REQUEST, 3999);
	all = write_all(2);
	assert_true(has(all, "\nportcullis_connections_total 2\n"));
	assert_true(has(all, "\nportcullis_connections 7\n"));
	assert_true(has(all, "\nportcullis_ends_total{end=\"origin-refused\"} 1\n"));
	assert_true(has(all, "\nportcullis_limits_total{limit=\"header\"} 1\n"));
	assert_true(has(all, "\nportcullis_responses_total{status=\"5xx\"} 1\n"));
	assert_true(has(all, "\nportcullis_request_seconds_bucket{le=\"0.000004\"} 2\n"));
	assert_true(has(all, "\nportcullis_request_seconds_count 2\n"));
	while (span_cut(&all, '\n', &line) && line.len)
		assert_true(span_starts_with(line, SPAN("# HELP portcullis_")) ||
			    span_starts_with(line, SPAN("# TYPE portcullis_")) ||
			    span_starts_with(line, SPAN("portcullis_")));
	assert_null(all.ptr);
}

/* Whatever was in the ranges, it can be printed. */
static void test_hostile(void **state)
{
	(void)state;
	memset(counters, 0xff, sizeof(counters));
	memset(named, 0xff, sizeof(named));
	assert_true(has(write_all(2), "portcullis_connections_total 18446744073709551615\n"));
	telemetry_named_rest(&named[0]);
	telemetry_named_sum(&sum, &named[1]);
	assert_true(sum.site_count <= TELEMETRY_SITES);
	assert_true(sum.sites[0].statuses[2] == UINT64_MAX);
}

/* The same label in two processes, at different places, is one series; and each label is there once. */
static void test_sites(void **state)
{
	struct telemetry_site *site = telemetry_named_site(&named[0], SPAN("a.test"));
	struct telemetry_site *other;
	struct span all;

	(void)state;
	assert_ptr_equal(site, &named[0].sites[1]);
	assert_ptr_equal(telemetry_named_site(&named[0], SPAN("a.test")), site);
	telemetry_named_site(&named[1], SPAN("b.test"));
	other = telemetry_named_site(&named[1], SPAN("a.test"));
	telemetry_add(&site->statuses[2], 3);
	telemetry_add(&other->statuses[2], 4);
	telemetry_observe_in(&site->request, 2000 * 1000);
	telemetry_observe_in(&other->request, 1000);
	all = write_all(3);
	assert_true(
		has(all, "\nportcullis_site_responses_total{site=\"a.test\",status=\"2xx\"} 7\n"));
	assert_true(has(
		all,
		"\nportcullis_site_request_seconds_bucket{site=\"a.test\",le=\"0.001024\"} 1\n"));
	assert_true(has(all, "\nportcullis_site_request_seconds_count{site=\"a.test\"} 2\n"));
	assert_int_equal(count_of(all, "portcullis_site_request_seconds_count{site=\"a.test\"}"),
			 1);
	assert_int_equal(count_of(all, "portcullis_site_request_seconds_count{site=\"b.test\"}"),
			 1);
	assert_int_equal(count_of(all, "portcullis_site_request_seconds_count{site=\"other\"}"), 1);
}

static void test_upstreams(void **state)
{
	struct telemetry_upstream *one = telemetry_named_upstream(&named[0], SPAN("app"));
	struct telemetry_upstream *two = telemetry_named_upstream(&named[1], SPAN("app"));
	struct span all;

	(void)state;
	telemetry_add(&one->failures[TELEMETRY_END_ORIGIN_REFUSED], 2);
	telemetry_add(&one->gauges[TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS], 2);
	telemetry_add(&two->gauges[TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS], 3);
	telemetry_add(&one->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN], 1);
	telemetry_add(&two->gauges[TELEMETRY_UPSTREAM_GAUGE_DOWN], 1);
	all = write_all(3);
	assert_true(has(all, "\nportcullis_upstream_failures_total{upstream=\"app\",reason="
			     "\"origin-refused\"} 2\n"));
	assert_true(has(all, "\nportcullis_upstream_connections{upstream=\"app\"} 5\n"));
	assert_true(has(all, "\nportcullis_upstream_origins_down{upstream=\"app\"} 1\n"));
	/* A life that ended leaves its counters and no gauge. */
	telemetry_named_rest(&named[0]);
	all = write_all(3);
	assert_true(has(all, "\nportcullis_upstream_failures_total{upstream=\"app\",reason="
			     "\"origin-refused\"} 2\n"));
	assert_true(has(all, "\nportcullis_upstream_connections{upstream=\"app\"} 3\n"));
}

/* Labels are escaped, plain and cut; what a collector reads is well formed. */
static void test_labels(void **state)
{
	char name[TELEMETRY_LABEL_LEN + 10];
	struct telemetry_site *site;
	struct span all;

	(void)state;
	telemetry_named_upstream(&named[0], SPAN("unix:/a\"b\\c\nd\xff"));
	memset(name, 'n', sizeof(name));
	site = telemetry_named_site(&named[0], span_of(name, sizeof(name)));
	assert_int_equal(site->label.len, TELEMETRY_LABEL_LEN);
	assert_ptr_equal(telemetry_named_site(&named[0], span_of(name, sizeof(name))), site);
	all = write_all(1);
	assert_true(has(all, "{upstream=\"unix:/a\\\"b\\\\c?d?\"}"));
}

/* Limits metrics-sites and metrics-upstreams: whoever comes later is `other`, and the text stays bounded. */
static void test_bounds(void **state)
{
	char name[TELEMETRY_LABEL_LEN];
	struct span all;
	uint64_t lines;

	(void)state;
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_METRICS_SITES].value + 1,
			 TELEMETRY_SITES);
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_METRICS_UPSTREAMS].value + 1,
			 TELEMETRY_UPSTREAMS);
	for (int i = 0; i < TELEMETRY_SITES + 10; i++) {
		struct writer out = writer_of(name, sizeof(name));
		struct telemetry_upstream *upstream;
		struct telemetry_site *site;

		/* The longest text that a label can become. */
		write_format(&out, "%d", i);
		while (out.at < out.end)
			write_byte(&out, '"');
		site = telemetry_named_site(&named[0], writer_done(&out));
		assert_true((site == named[0].sites) == (i >= TELEMETRY_SITES - 1));
		upstream = telemetry_named_upstream(&named[0], writer_done(&out));
		assert_true((upstream == named[0].upstreams) == (i >= TELEMETRY_UPSTREAMS - 1));
		for (int end = TELEMETRY_END_QUEUE_FULL; end < TELEMETRY_END_COUNT; end++)
			upstream->failures[end] = UINT64_MAX;
	}
	all = write_all(1);
	lines = count_of(all, "\n");
	assert_true(lines > 5000 && lines < 10000);
}

/* What any worker says of an origin that gives it no requests counts; each pair of labels is one series. */
static void test_origins(void **state)
{
	struct telemetry_upstream *app, *api;
	struct span all;

	(void)state;
	telemetry_named_upstream(&named[1], SPAN("first"));
	for (int i = 0; i < 2; i++) {
		app = telemetry_named_upstream(&named[i], SPAN("app"));
		api = telemetry_named_upstream(&named[i], SPAN("api"));
		telemetry_named_origin(&named[i], app, SPAN("a:1"))->state = TELEMETRY_ORIGIN_UP;
		telemetry_named_origin(&named[i], api, SPAN("a:1"))->state =
			i ? TELEMETRY_ORIGIN_DOWN : TELEMETRY_ORIGIN_UP;
		telemetry_named_origin(&named[i], app, SPAN("gone:1"));
	}
	telemetry_named_origin(&named[1], app, SPAN("b\"\x1b:1"))->state = TELEMETRY_ORIGIN_UP;
	assert_ptr_equal(telemetry_named_origin(&named[1], app, SPAN("a:1")), &named[1].origins[1]);
	all = write_all(3);
	assert_true(has(all, "upstream_origin_up{upstream=\"app\",origin=\"a:1\"} 1\n"));
	assert_true(has(all, "upstream_origin_up{upstream=\"api\",origin=\"a:1\"} 0\n"));
	assert_true(has(all, "upstream_origin_up{upstream=\"app\",origin=\"b\\\"?:1\"} 1\n"));
	assert_int_equal(count_of(all, "origin=\"a:1\""), 2);
	assert_int_equal(count_of(all, "gone:1"), 0);
	/* A process that ended says nothing more; the row stays. */
	telemetry_named_rest(&named[1]);
	all = write_all(3);
	assert_true(has(all, "upstream_origin_up{upstream=\"api\",origin=\"a:1\"} 1\n"));
	assert_int_equal(count_of(all, "b\\\"?:1"), 0);
}

/* Limit metrics-origins: later ones are left out. */
static void test_origin_bounds(void **state)
{
	struct telemetry_upstream *app = telemetry_named_upstream(&named[0], SPAN("app"));
	char name[32];

	(void)state;
	assert_int_equal(telemetry_limits[TELEMETRY_LIMIT_METRICS_ORIGINS].value + 1,
			 TELEMETRY_ORIGINS);
	for (int i = 1; i < TELEMETRY_ORIGINS + 3; i++) {
		struct writer out = writer_of(name, sizeof(name));
		struct telemetry_origin *row;

		write_format(&out, "o%d:1", i);
		row = telemetry_named_origin(&named[0], app, writer_done(&out));
		assert_true((row == named[0].origins) == (i >= TELEMETRY_ORIGINS));
		if (row != named[0].origins)
			row->state = TELEMETRY_ORIGIN_DOWN;
	}
	assert_int_equal(count_of(write_all(1), "upstream_origin_up{"), TELEMETRY_ORIGINS - 1);
	/* A range that another process wrote may hold anything. */
	memset(&named[1], 0xff, sizeof(named[1]));
	assert_true(count_of(write_all(2), "upstream_origin_up{") >= TELEMETRY_ORIGINS - 1);
}

/* A row that a life before had begun and not finished is begun again. */
static void test_half_a_row(void **state)
{
	struct telemetry_site *site = &named[0].sites[1];

	(void)state;
	memset(site, 0xee, sizeof(*site));
	assert_ptr_equal(telemetry_named_site(&named[0], SPAN("a.test")), site);
	assert_true(site->statuses[2] == 0 && site->request.sum_us == 0);
}

/* What a supervisor takes over of a range that another service left. */
static void test_sum(void **state)
{
	(void)state;
	telemetry_named_site(&named[0], SPAN("b.test"));
	telemetry_named_site(&named[0], SPAN("a.test"))->statuses[2] = 5;
	telemetry_named_upstream(&named[0], SPAN("app"))->counters[TELEMETRY_UPSTREAM_REQUESTS] = 6;
	telemetry_named_site(&sum, SPAN("a.test"))->statuses[2] = 1;
	telemetry_named_sum(&sum, &named[0]);
	assert_int_equal(telemetry_named_site(&sum, SPAN("a.test"))->statuses[2], 6);
	assert_int_equal(
		telemetry_named_upstream(&sum, SPAN("app"))->counters[TELEMETRY_UPSTREAM_REQUESTS],
		6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_service, clear),
		cmocka_unit_test_setup(test_hostile, clear),
		cmocka_unit_test_setup(test_sites, clear),
		cmocka_unit_test_setup(test_upstreams, clear),
		cmocka_unit_test_setup(test_labels, clear),
		cmocka_unit_test_setup(test_bounds, clear),
		cmocka_unit_test_setup(test_origins, clear),
		cmocka_unit_test_setup(test_origin_bounds, clear),
		cmocka_unit_test_setup(test_half_a_row, clear),
		cmocka_unit_test_setup(test_sum, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
