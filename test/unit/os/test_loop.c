#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"

/* Watches: edges, levels, removal in the turn in which an event was fetched; timers; signals. */

struct seen {
	struct os_watch watch;
	int calls;
	unsigned now;
	struct seen *victim; /* removed from the callback */
};

static void on_ready(struct os_watch *watch, unsigned now)
{
	struct seen *seen = CONTAINER_OF(watch, struct seen, watch);

	seen->calls++;
	seen->now = now;
	if (seen->victim)
		os_watch_remove(&seen->victim->watch);
}

static struct os_loop *loop_new(void)
{
	struct os_loop *loop;

	assert_int_equal(os_loop_new(&loop), 0);
	return loop;
}

static void turn(struct os_loop *loop)
{
	assert_int_equal(os_loop_turn(loop, 0, NULL, NULL), 0);
}

static void test_edge_is_told_once(void **state)
{
	struct os_loop *loop = loop_new();
	struct seen seen = { .watch.on_ready = on_ready };
	int pair[2];
	char buf[8];

	(void)state;
	assert_int_equal(os_packet_pair(pair), 0);
	assert_int_equal(os_watch_add(loop, &seen.watch, pair[0], OS_WATCH_EDGE), 0);
	turn(loop);
	assert_int_equal(seen.now, OS_WRITABLE);
	assert_int_equal(os_write(pair[1], "a", 1), 1);
	turn(loop);
	assert_int_equal(seen.calls, 2);
	assert_int_equal(seen.watch.ready, OS_READABLE | OS_WRITABLE);
	turn(loop);
	assert_int_equal(seen.calls, 2); /* unread, but no change */
	assert_int_equal(os_read(pair[0], buf, sizeof(buf)), 1);
	assert_int_equal(os_read(pair[0], buf, sizeof(buf)), -EAGAIN);
	seen.watch.ready &= ~(unsigned)OS_READABLE;
	os_close(pair[1]);
	turn(loop);
	assert_int_equal(seen.calls, 3);
	assert_true(seen.now & OS_PEER_SHUT);
	assert_true(seen.now & OS_HANGUP);
	assert_true(seen.now & OS_READABLE);
	os_watch_remove(&seen.watch);
	assert_false(os_watch_is_added(&seen.watch));
	os_watch_remove(&seen.watch);
	os_close(pair[0]);
	os_loop_free(loop);
}

static void test_level_is_told_every_turn(void **state)
{
	struct os_loop *loop = loop_new();
	struct seen seen = { .watch.on_ready = on_ready };
	int event;

	(void)state;
	assert_int_equal(os_event_new(&event), 0);
	os_event_signal(event);
	assert_int_equal(os_watch_add(loop, &seen.watch, event, OS_WATCH_LEVEL_READ), 0);
	turn(loop);
	turn(loop);
	assert_int_equal(seen.calls, 2);
	assert_true(os_event_take(event));
	assert_false(os_event_take(event));
	turn(loop);
	assert_int_equal(seen.calls, 2);
	os_watch_remove(&seen.watch);
	os_close(event);
	os_loop_free(loop);
}

/* Nothing is told of it any more, also where its number is somebody else's at once. */
static void test_close(void **state)
{
	struct os_loop *loop = loop_new();
	struct seen seen = { .watch = { .on_ready = on_ready } };
	int pair[2], next;

	(void)state;
	os_watch_close(&seen.watch); /* not added: harmless */
	assert_int_equal(os_packet_pair(pair), 0);
	assert_int_equal(os_watch_add(loop, &seen.watch, pair[0], OS_WATCH_EDGE), 0);
	os_watch_close(&seen.watch);
	assert_false(os_watch_is_added(&seen.watch));
	assert_false(os_descriptor_is_open(pair[0]));
	assert_int_equal(os_event_new(&next), 0);
	assert_int_equal(next, pair[0]);
	os_event_signal(next);
	turn(loop);
	assert_int_equal(seen.calls, 0);
	assert_int_equal(os_watch_add(loop, &seen.watch, next, OS_WATCH_EDGE), 0);
	turn(loop);
	assert_int_equal(seen.calls, 1);
	os_watch_close(&seen.watch);
	os_close(pair[1]);
	os_loop_free(loop);
}

/* Both are ready in one turn and each removes the other (and, in the second round, itself):
 * whichever comes first, only one is told, and the other may be freed at once. */
static void test_removal_in_the_same_turn(void **state)
{
	struct os_loop *loop = loop_new();

	(void)state;
	for (int round = 0; round < 2; round++) {
		struct seen *seen[2];
		int pairs[2][2], calls = 0;

		for (int i = 0; i < 2; i++) {
			seen[i] = calloc(1, sizeof(*seen[i]));
			assert_non_null(seen[i]);
			seen[i]->watch.on_ready = on_ready;
			assert_int_equal(os_packet_pair(pairs[i]), 0);
			assert_int_equal(
				os_watch_add(loop, &seen[i]->watch, pairs[i][0], OS_WATCH_EDGE), 0);
		}
		for (int i = 0; i < 2; i++)
			seen[i]->victim = round ? seen[i] : seen[!i];
		turn(loop);
		for (int i = 0; i < 2; i++) {
			calls += seen[i]->calls;
			os_watch_remove(&seen[i]->watch);
			free(seen[i]);
			os_close(pairs[i][0]);
			os_close(pairs[i][1]);
		}
		assert_int_equal(calls, round ? 2 : 1);
		turn(loop);
	}
	os_loop_free(loop);
}

/* ---- Timers -------------------------------------------------------------------------------- */

enum { TIMERS = 2000 };

struct alarm_clock {
	struct os_timer timer;
	struct os_loop *loop;
	uint64_t deadline_ns, fired_at_ns;
	int fired;
};

static uint64_t last_deadline_ms;

static void on_due(struct os_timer *timer)
{
	struct alarm_clock *alarm_clock = CONTAINER_OF(timer, struct alarm_clock, timer);
	uint64_t deadline_ms = (alarm_clock->deadline_ns + OS_MS - 1) / OS_MS;

	alarm_clock->fired++;
	alarm_clock->fired_at_ns = os_loop_now_ns(alarm_clock->loop);
	assert_true(alarm_clock->fired_at_ns >= alarm_clock->deadline_ns);
	assert_true(deadline_ms >= last_deadline_ms);
	last_deadline_ms = deadline_ms;
}

static void test_timers_fire_in_order_and_never_early(void **state)
{
	struct os_loop *loop = loop_new();
	struct alarm_clock *clocks = calloc(TIMERS, sizeof(*clocks));
	uint64_t start_ns = os_loop_now_ns(loop);
	uint32_t random = 1;
	int fired = 0, stopped = 0;

	(void)state;
	assert_non_null(clocks);
	last_deadline_ms = 0;
	for (int i = 0; i < TIMERS; i++) {
		random = random * 1664525 + 1013904223;
		clocks[i].loop = loop;
		clocks[i].timer.on_due = on_due;
		clocks[i].deadline_ns = start_ns + 1 + random % (200 * OS_MS);
		os_timer_set(loop, &clocks[i].timer,
			     start_ns + 10 * OS_SECOND * (uint64_t)(i % 3 + 1));
		os_timer_set(loop, &clocks[i].timer, clocks[i].deadline_ns); /* earlier: it moves */
		if (i % 5 == 0) {                                            /* later: lazily */
			clocks[i].deadline_ns += 30 * OS_MS;
			os_timer_set(loop, &clocks[i].timer, clocks[i].deadline_ns);
		}
		if (i % 7 == 0)
			os_timer_stop(&clocks[i].timer);
	}
	while (os_now_ns() < start_ns + 240 * OS_MS)
		assert_int_equal(os_loop_turn(loop, 20, NULL, NULL), 0);
	for (int i = 0; i < TIMERS; i++) {
		assert_int_equal(clocks[i].fired, i % 7 != 0);
		assert_false(os_timer_is_set(&clocks[i].timer));
		fired += clocks[i].fired;
		stopped += !clocks[i].fired;
	}
	assert_int_equal(fired + stopped, TIMERS);
	free(clocks);
	os_loop_free(loop);
}

static void on_due_again(struct os_timer *timer)
{
	struct alarm_clock *alarm_clock = CONTAINER_OF(timer, struct alarm_clock, timer);

	if (++alarm_clock->fired < 3)
		os_timer_set(alarm_clock->loop, timer, 1); /* long past: next turn, not this one */
}

static void test_a_timer_set_for_the_past_fires_next_turn(void **state)
{
	struct os_loop *loop = loop_new();
	struct alarm_clock alarm_clock = { .timer.on_due = on_due_again, .loop = loop };

	(void)state;
	os_timer_set(loop, &alarm_clock.timer, 1);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(os_loop_turn(loop, i <= 3 ? -1 : 0, NULL, NULL), 0);
		assert_int_equal(alarm_clock.fired, i < 3 ? i : 3);
	}
	os_loop_free(loop);
}

static void on_due_stop_other(struct os_timer *timer)
{
	struct alarm_clock *alarm_clock = CONTAINER_OF(timer, struct alarm_clock, timer);

	alarm_clock->fired++;
	os_timer_stop(&(alarm_clock + (alarm_clock->deadline_ns ? 1 : -1))->timer);
}

static void test_a_timer_stopped_by_its_neighbour_stays_silent(void **state)
{
	struct os_loop *loop = loop_new();
	struct alarm_clock clocks[2] = { { .deadline_ns = 1 }, { .deadline_ns = 0 } };

	(void)state;
	for (int i = 0; i < 2; i++) {
		clocks[i].timer.on_due = on_due_stop_other;
		os_timer_set(loop, &clocks[i].timer, os_loop_now_ns(loop) + OS_MS);
	}
	os_sleep_ms(3);
	turn(loop);
	assert_int_equal(clocks[0].fired + clocks[1].fired, 1);
	os_loop_free(loop);
}

#ifdef PORTCULLIS_TEST_CLOCK
static void test_a_moved_clock_fires_far_timers(void **state)
{
	static const uint64_t hours[] = { 1, 24, 24 * 30, 24 * 366 * 3 };
	struct os_loop *loop = loop_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hours); i++) {
		struct alarm_clock alarm_clock = { .timer.on_due = on_due, .loop = loop };

		last_deadline_ms = 0;
		turn(loop);
		alarm_clock.deadline_ns = os_loop_now_ns(loop) + hours[i] * 3600 * OS_SECOND;
		os_timer_set(loop, &alarm_clock.timer, alarm_clock.deadline_ns);
		os_clock_move((int64_t)((hours[i] * 3600 - 10) * OS_SECOND), 0);
		turn(loop);
		assert_int_equal(alarm_clock.fired, 0);
		os_clock_move((int64_t)(10 * OS_SECOND + OS_MS), 0);
		turn(loop);
		assert_int_equal(alarm_clock.fired, 1);
	}
	os_loop_free(loop);
}
#endif

/* ---- Running ------------------------------------------------------------------------------- */

struct turns {
	struct os_loop *loop;
	int count;
};

static void on_turn(void *owner)
{
	struct turns *turns = owner;

	if (++turns->count == 5)
		os_loop_stop(turns->loop);
	else
		os_loop_wake_again(turns->loop);
}

static void test_wake_again_and_stop(void **state)
{
	struct turns turns = { .loop = loop_new() };

	(void)state;
	assert_int_equal(os_loop_run(turns.loop, on_turn, &turns), 0);
	assert_int_equal(turns.count, 5);
	os_loop_free(turns.loop);
}

static int last_signal, last_sender;

static void on_signal(struct os_signals *signals, int number, int sender_pid)
{
	last_signal = number;
	last_sender = sender_pid;
	os_signals_close(signals);
}

static void test_signals_come_through_the_loop(void **state)
{
	static const int numbers[] = { SIGUSR1, SIGTERM };
	struct os_loop *loop = loop_new();
	struct os_signals signals = { .on_signal = on_signal };

	(void)state;
	assert_int_equal(os_signals_watch(loop, &signals, numbers, ARRAY_LEN(numbers)), 0);
	kill(getpid(), SIGTERM);
	turn(loop);
	assert_int_equal(last_signal, SIGTERM);
	assert_int_equal(last_sender, getpid());
	os_loop_free(loop);
}

static void test_wait(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(os_packet_pair(pair), 0);
	assert_int_equal(os_wait(pair[0], OS_READABLE, 10), -ETIMEDOUT);
	assert_int_equal(os_wait(pair[0], OS_WRITABLE, 10), 0);
	os_close(pair[1]);
	assert_int_equal(os_wait(pair[0], OS_READABLE, -1), 0);
	os_close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edge_is_told_once),
		cmocka_unit_test(test_level_is_told_every_turn),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_removal_in_the_same_turn),
		cmocka_unit_test(test_timers_fire_in_order_and_never_early),
		cmocka_unit_test(test_a_timer_set_for_the_past_fires_next_turn),
		cmocka_unit_test(test_a_timer_stopped_by_its_neighbour_stays_silent),
#ifdef PORTCULLIS_TEST_CLOCK
		cmocka_unit_test(test_a_moved_clock_fires_far_timers),
#endif
		cmocka_unit_test(test_wake_again_and_stop),
		cmocka_unit_test(test_signals_come_through_the_loop),
		cmocka_unit_test(test_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
