#include "command/top.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct top_reading before, now;
static struct telemetry_counters counters[2];
static struct telemetry_named named[2];
static const struct telemetry_source sources[] = { { &counters[0], &named[0] },
						   { &counters[1], &named[1] } };
static char text[512 * 1024];

static void observe(struct telemetry_buckets *buckets, unsigned count, uint64_t us)
{
	while (count--)
		telemetry_observe_in(buckets, us * 1000);
}

static struct top_process process(enum ipc_kind kind, uint32_t slot, uint32_t pid)
{
	return (struct top_process){ .kind = kind,
				     .slot = slot,
				     .pid = pid,
				     .state = IPC_STATE_RUNNING,
				     .memory_bytes = 12 << 20,
				     .has_cpu = true };
}

/* Two workers, and what they count within two seconds. */
static void count_all(void)
{
	for (int i = 0; i < 2; i++) {
		struct telemetry_site *site =
			telemetry_named_site(&named[i], SPAN("www.example.com"));
		struct telemetry_upstream *app = telemetry_named_upstream(&named[i], SPAN("app"));

		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_EXCHANGES], 1100);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_BYTES_OUT], 3 << 20);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_BYTES_IN], 5000);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_CONNECTIONS], 20);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_HANDSHAKES], 12);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_HANDSHAKES_RESUMED], 7);
		telemetry_add(&counters[i].counters[TELEMETRY_COUNTER_HANDSHAKES_FAILED], 1);
		telemetry_add(&counters[i].statuses[2], 1000);
		telemetry_add(&counters[i].statuses[4], 90);
		telemetry_add(&counters[i].statuses[5], 10);
		telemetry_add(&counters[i].ends[TELEMETRY_END_OK], 1080);
		telemetry_add(&counters[i].ends[TELEMETRY_END_ORIGIN_REFUSED], 10);
		telemetry_add(&counters[i].ends[TELEMETRY_END_LIMIT], 5);
		telemetry_add(&counters[i].limits[TELEMETRY_LIMIT_HEADER], 5);
		telemetry_add(&site->statuses[2], 1000);
		telemetry_add(&site->statuses[5], 10);
		telemetry_add(&site->counters[TELEMETRY_SITE_BYTES_OUT], 3 << 20);
		observe(&site->request, 1000, 900);
		observe(&site->request, 10, 40000);
		observe(&counters[i].histograms[TELEMETRY_HISTOGRAM_REQUEST], 1000, 900);
		observe(&counters[i].histograms[TELEMETRY_HISTOGRAM_REQUEST], 100, 40000);
		telemetry_add(&app->counters[TELEMETRY_UPSTREAM_REQUESTS], 500);
		telemetry_add(&app->failures[TELEMETRY_END_ORIGIN_REFUSED], 10);
		app->gauges[TELEMETRY_UPSTREAM_GAUGE_EXCHANGES] = 4;
		app->gauges[TELEMETRY_UPSTREAM_GAUGE_CONNECTIONS] = 8;
		observe(&app->response, 490, 700);
		telemetry_named_origin(&named[i], app, SPAN("http://10.0.0.1:80"))->state =
			TELEMETRY_ORIGIN_UP;
		telemetry_named_origin(&named[i], app, SPAN("http://10.0.0.2:80"))->state =
			i ? TELEMETRY_ORIGIN_DOWN : TELEMETRY_ORIGIN_UP;
	}
}

static void take(struct top_reading *reading, uint64_t second)
{
	memset(reading, 0, sizeof(*reading));
	reading->at_ns = 100 * OS_SECOND + second * OS_SECOND;
	reading->started_ns = 1000000 * OS_SECOND;
	reading->wall_ns = reading->started_ns + (3723 + second) * OS_SECOND;
	reading->configuration = 7;
	reading->gauges = (struct telemetry_gauges){ 42, 8, 9 };
	top_reading_take(reading, sources, 2);
	reading->processes[0] = process(IPC_SUPERVISOR, 0, 100);
	reading->processes[1] = process(IPC_WORKER, 0, 101);
	reading->processes[2] = process(IPC_WORKER, 1, 102);
	reading->processes[1].cpu_ns = second * OS_SECOND / 2;
	reading->processes[1].connections = 42;
	reading->process_count = 3;
}

static int setup(void **state)
{
	(void)state;
	memset(counters, 0, sizeof(counters));
	memset(named, 0, sizeof(named));
	telemetry_named_begin(&named[0]);
	telemetry_named_begin(&named[1]);
	/* A name of somebody who means harm, and one that is long. */
	telemetry_named_site(&named[0], SPAN("a\x1b[2Jb.test"));
	telemetry_named_site(
		&named[0],
		SPAN("long.long.long.long.long.long.long.long.long.long.long.long.test"));
	take(&before, 0);
	count_all();
	take(&now, 2);
	return 0;
}

static struct span drawn(unsigned columns, unsigned rows, enum top_view view)
{
	struct top_screen screen = {
		.columns = columns, .rows = rows, .view = view, .has_keys = true
	};
	struct writer out = writer_of(text, sizeof(text));

	top_draw(&out, &before, &now, &screen);
	assert_true(out.ok);
	return writer_done(&out);
}

static void assert_drawn(unsigned columns, unsigned rows, enum top_view view, const char *wanted)
{
	struct span all = drawn(columns, rows, view);

	if (!span_equal(all, span_str(wanted)))
		print_error("%.*s", SPAN_ARG(all));
	assert_true(span_equal(all, span_str(wanted)));
}
/* clang-format off */
static const char narrow[] =
	"portcullis 14:48:45 UTC  up 1:02:05  configuration 7  processes 9\n"
	"requests/s 1.1k  under way 8  in/s 4.8K  out/s 3.0M\n"
	"connections 42  new/s 20  handshakes/s 12  resumed 7  failed 1\n"
	"codes/s  1xx 0  2xx 1.0k  3xx 0  4xx 90  5xx 10  none 0\n"
	"requests p50 793us p90 1.0ms p99 61ms  origins p50 - p90 - p99 -\n"
	"refused  origin-refused 20  limit:header 10\n"
	"SITE                      req/s    p99  4xx/s  5xx/s  out/s    p50   in/s none/s\n"
	"www.example.com            1.0k  1.0ms      0     10   3.0M  770us     0B      0\n"
	"a?[2Jb.test                   0      -      0      0     0B      -     0B      0\n"
	"long.long.long.long.lon~      0      -      0      0     0B      -     0B      0\n"
	"UPSTREAM               req/s    p99    up fail/s active queue    p50 conns  idle\n"
	"app                      500  1.0ms   1/2     10      8     0  768us    16     0\n"
	"  down  http://10.0.0.2:80\n"
	"PROCESS                      cpu% memory  conns active     pid    state restarts\n"
	"worker 0                       50    12M     42      0     101  running        0\n"
	"worker 1                        0    12M      0      0     102  running        0\n"
	"q quit  o order: requests  a all  s sites  u upstreams  p processes\n";
static const char wide[] =
	"portcullis 14:48:45 UTC  up 1:02:05  configuration 7  processes 9\n"
	"requests/s 1.1k  under way 8  in/s 4.8K  out/s 3.0M\n"
	"connections 42  new/s 20  handshakes/s 12  resumed 7  failed 1\n"
	"codes/s  1xx 0  2xx 1.0k  3xx 0  4xx 90  5xx 10  none 0\n"
	"requests p50 793us p90 1.0ms p99 61ms  origins p50 - p90 - p99 -\n"
	"refused  origin-refused 20  limit:header 10\n"
	"SITE                                                          req/s    p99  4xx/s  5xx/s  out/s    p50   in/s none/s\n"
	"www.example.com                                                1.0k  1.0ms      0     10   3.0M  770us     0B      0\n"
	"a?[2Jb.test                                                       0      -      0      0     0B      -     0B      0\n"
	"long.long.long.long.long.long.long.long.long.long.long.long~      0      -      0      0     0B      -     0B      0\n"
	"UPSTREAM                                                      req/s    p99    up fail/s active queue    p50 conns  idle again/s\n"
	"app                                                             500  1.0ms   1/2     10      8     0  768us    16     0       0\n"
	"  down  http://10.0.0.2:80\n"
	"PROCESS                                                       cpu% memory  conns active     pid    state restarts\n"
	"worker 0                                                        50    12M     42      0     101  running        0\n"
	"worker 1                                                         0    12M      0      0     102  running        0\n"
	"q quit  o order: requests  a all  s sites  u upstreams  p processes\n";
static const char tiny[] =
	"portcullis 14:48:45 UTC  up 1:02:05  co~\n"
	"requests/s 1.1k  under way 8  in/s 4.8K~\n"
	"connections 42  new/s 20  handshakes/s ~\n"
	"codes/s  1xx 0  2xx 1.0k  3xx 0  4xx 90~\n"
	"requests p50 793us p90 1.0ms p99 61ms  ~\n"
	"refused  origin-refused 20\n"
	"SITE                 req/s    p99  4xx/s\n"
	"www.example.com       1.0k  1.0ms      0\n"
	"  ... 2 more\n"
	"q quit  o order: requests  a all  s sit~\n";
static const char upstreams[] =
	"portcullis 14:48:45 UTC  up 1:02:05  configuration 7  processes 9\n"
	"requests/s 1.1k  under way 8  in/s 4.8K  out/s 3.0M\n"
	"connections 42  new/s 20  handshakes/s 12  resumed 7  failed 1\n"
	"codes/s  1xx 0  2xx 1.0k  3xx 0  4xx 90  5xx 10  none 0\n"
	"requests p50 793us p90 1.0ms p99 61ms  origins p50 - p90 - p99 -\n"
	"refused  origin-refused 20  limit:header 10\n"
	"UPSTREAM               req/s    p99    up fail/s active queue    p50 conns  idle\n"
	"app                      500  1.0ms   1/2     10      8     0  768us    16     0\n"
	"  up    http://10.0.0.1:80\n"
	"  down  http://10.0.0.2:80\n"
	"q quit  o order: requests  a all  s sites  u upstreams  p processes\n";
static const char processes[] =
	"portcullis 14:48:45 UTC  up 1:02:05  configuration 7  processes 9\n"
	"requests/s 1.1k  under way 8  in/s 4.8K  out/s 3.0M\n"
	"connections 42  new/s 20  handshakes/s 12  resumed 7  failed 1\n"
	"codes/s  1xx 0  2xx 1.0k  3xx 0  4xx 90  5xx 10  none 0\n"
	"requests p50 793us p90 1.0ms p99 61ms  origins p50 - p90 - p99 -\n"
	"refused  origin-refused 20  limit:header 10\n"
	"PROCESS                      cpu% memory  conns active     pid    state restarts\n"
	"supervisor                      0    12M      0      0     100  running        0\n"
	"worker 0                       50    12M     42      0     101  running        0\n"
	"worker 1                        0    12M      0      0     102  running        0\n"
	"q quit  o order: requests  a all  s sites  u upstreams  p processes\n";
/* clang-format on */

static void test_sizes(void **state)
{
	(void)state;
	assert_drawn(80, 24, TOP_ALL, narrow);
	assert_drawn(200, 60, TOP_ALL, wide);
	assert_drawn(40, 10, TOP_ALL, tiny);
	assert_drawn(80, 24, TOP_UPSTREAMS, upstreams);
	assert_drawn(80, 24, TOP_PROCESSES_ONLY, processes);
}

/* Whatever the size, nothing is drawn outside of it; and nothing but printable text, whatever a range holds. */
static void test_bounds(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		for (unsigned columns = 1; columns < 130; columns += 3) {
			for (unsigned rows = 1; rows < 40; rows++) {
				struct span rest = drawn(columns, rows, (enum top_view)(rows % 4)),
					    line;
				unsigned count = 0;

				while (rest.len && span_cut(&rest, '\n', &line)) {
					assert_true(line.len <= columns);
					for (size_t i = 0; i < line.len; i++)
						assert_in_range(line.ptr[i], ' ', '~');
					count++;
				}
				assert_true(count >= 1 && count <= rows);
			}
		}
		memset(named, 0xff, sizeof(named));
		memset(counters, 0xff, sizeof(counters));
		take(&now, 3);
	}
}

static void first_is(enum top_order order, const char *name, const char *other)
{
	struct top_screen screen = { .columns = 80, .rows = 24, .view = TOP_SITES, .order = order };
	struct writer out = writer_of(text, sizeof(text));

	top_draw(&out, &before, &now, &screen);
	assert_true(span_find(writer_done(&out), span_str(name)) <
		    span_find(writer_done(&out), span_str(other)));
	assert_true(span_find(writer_done(&out), span_str(other)) < writer_done(&out).len);
}

static void test_orders(void **state)
{
	struct telemetry_site *slow = telemetry_named_site(&named[1], SPAN("slow.test"));

	(void)state;
	telemetry_add(&slow->statuses[4], 500);
	telemetry_add(&slow->counters[TELEMETRY_SITE_BYTES_IN], 1);
	observe(&slow->request, 3, 5000000);
	take(&now, 2);
	first_is(TOP_BY_REQUESTS, "www.example.com", "slow.test");
	first_is(TOP_BY_ERRORS, "slow.test", "www.example.com");
	first_is(TOP_BY_BYTES, "www.example.com", "slow.test");
	first_is(TOP_BY_TIME, "slow.test", "www.example.com");
	first_is(TOP_BY_NAME, "long.long", "slow.test");
	first_is(TOP_BY_NAME, "slow.test", "www.example.com");
}

/* Nothing was read; one reading: all since the start; and a service that began anew in between. */
static void test_readings(void **state)
{
	struct top_screen screen = {
		.columns = 80, .rows = 24, .has_keys = true, .notice = "gone"
	};
	struct writer out = writer_of(text, sizeof(text));

	(void)state;
	top_draw(&out, NULL, NULL, &screen);
	assert_true(span_equal(writer_done(&out), SPAN("gone\n")));
	out = writer_of(text, sizeof(text));
	now.wall_ns = now.started_ns + 20 * OS_SECOND;
	top_draw(&out, NULL, &now, &screen);
	assert_true(span_find(writer_done(&out), SPAN("since the start\nrequests/s 110 ")) <
		    writer_done(&out).len);
	out = writer_of(text, sizeof(text));
	before = now;
	before.at_ns -= 2 * OS_SECOND;
	memset(counters, 0, sizeof(counters));
	counters[0].counters[TELEMETRY_COUNTER_EXCHANGES] = 10;
	take(&now, 2);
	top_draw(&out, &before, &now, &screen);
	assert_true(span_find(writer_done(&out), SPAN("requests/s 5 ")) < writer_done(&out).len);
}

/* Nothing was refused just now: then what was, since the start. */
static void test_reasons(void **state)
{
	struct top_screen screen = { .columns = 80, .rows = 24 };
	struct writer out = writer_of(text, sizeof(text));

	(void)state;
	before = now;
	before.at_ns -= OS_SECOND;
	top_draw(&out, &before, &now, &screen);
	assert_true(
		span_find(writer_done(&out),
			  SPAN("refused (since the start)  origin-refused 20  limit:header 10")) <
		writer_done(&out).len);
}

static void test_numbers(void **state)
{
	static const struct {
		uint64_t count, ms;
		const char *rate, *bytes;
	} cases[] = {
		{ 0, 1000, "0", "0B" },
		{ 1, 3000, "0.3", "0B" },
		{ 9, 1000, "9", "9B" },
		{ 999, 1000, "999", "999B" },
		{ 1000, 1000, "1.0k", "1000B" },
		{ 12345, 1000, "12k", "12K" },
		{ 1023, 1000, "1.0k", "1023B" },
		{ 1024, 1000, "1.0k", "1.0K" },
		{ 5, 0, "0", "0B" },
		{ UINT64_MAX, 1000, "1.8E", "1.5E" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char buf[32];
		struct writer out = writer_of(buf, sizeof(buf));

		top_write_rate(&out, cases[i].count, cases[i].ms * OS_MS);
		assert_true(span_equal(writer_done(&out), span_str(cases[i].rate)));
		out = writer_of(buf, sizeof(buf));
		top_write_byte_rate(&out, cases[i].count, cases[i].ms * OS_MS);
		assert_true(span_equal(writer_done(&out), span_str(cases[i].bytes)));
	}
}

/* Buckets double: a percentile lies within the bucket that has it. */
static void test_percentiles(void **state)
{
	struct telemetry_buckets empty = { 0 }, buckets = { 0 };

	(void)state;
	assert_true(top_percentile_us(NULL, &empty, 50) == UINT64_MAX);
	observe(&buckets, 99, 600);
	observe(&buckets, 1, 3000000);
	assert_in_range(top_percentile_us(&empty, &buckets, 50), 512, 1024);
	assert_in_range(top_percentile_us(NULL, &buckets, 99), 512, 1024);
	assert_in_range(top_percentile_us(NULL, &buckets, 100), 2097152, 4194304);
	assert_true(top_percentile_us(&buckets, &buckets, 99) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_sizes, setup),
		cmocka_unit_test_setup(test_bounds, setup),
		cmocka_unit_test_setup(test_orders, setup),
		cmocka_unit_test_setup(test_readings, setup),
		cmocka_unit_test_setup(test_reasons, setup),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_percentiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
