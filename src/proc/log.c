/* The log process: lines come through one ring per process in shared memory, and from the supervisor as
 * messages; they go to the access log and to the events, with as few writes as there are.
 *
 * A line that comes alone wakes it by the ring's event and is written at once. Where lines follow each other it
 * looks by itself, LINGER_MS after the last look, and what came meanwhile leaves in one write: a line waits for so
 * long at most, and wakes nobody unless it is the one that fills a part of its ring. Only when nothing came it goes
 * to sleep again. */
#include "proc/proc.h"

#include <stdio.h>
#include <string.h>

#include "proc/log_internal.h"

enum {
	ACCESS,
	EVENTS,
	TARGET_COUNT,
	LINES_PER_TURN = 512, /* of one ring: a writer may write as fast as it is read */
	FINAL_TURNS = 64,     /* of a ring (1 MiB) whose writer has ended */
	LINGER_MS = 50,
	DENSE_MS = 2 * LINGER_MS, /* lines that follow each other within this are worth lingering */
	RETRY_MS = 20,            /* of a full disk, of a pipe whose reader is slow */
	RETRY_BUSY_MS = 5, /* while lines come: a pipe holds no more than some hundred of them */
	LOOK_MS = 100,     /* between two looks at a file's name */
	REOPEN_MS = 250,
	REPORT_SECONDS = 10,
	STANDARD_OUTPUT = 1,
	/* syslog's priorities: the facility `daemon` (3), severity `info` and `notice`. */
	PRIORITY_ACCESS = 3 << 3 | 6,
	PRIORITY_EVENTS = 3 << 3 | 5,
};

/* Lines that were lost: by the target that did not take them, or in a writer's ring. */
enum { LOST_IN_RINGS = TARGET_COUNT, LOST_COUNT };

struct log_ring {
	struct list link;
	struct os_watch watch;
	struct log_process *log;
	struct telemetry_ring *memory;
	uint32_t index;
};

struct log_process {
	struct proc_self *self;
	struct list rings;
	struct log_target targets[TARGET_COUNT];
	uint64_t looked_ns[TARGET_COUNT], asked_ns[TARGET_COUNT];
	bool is_asked[TARGET_COUNT]; /* and not answered yet */
	struct os_timer timer;
	char *line;
	bool is_woken;
	uint64_t read_ns;                   /* when it last found a line */
	struct os_watch room[TARGET_COUNT]; /* of a daemon whose queue is full */
	uint64_t lost[LOST_COUNT];          /* not reported yet */
	uint32_t quiet_seconds;             /* until they are reported again */
};

static int log_init(struct log_process *log, struct proc_self *self)
{
	int failed;

	if (log->self)
		return 0;
	log->self = self;
	list_init(&log->rings);
	failed = log_target_init(&log->targets[ACCESS]);
	if (!failed)
		failed = log_target_init(&log->targets[EVENTS]);
	log->line = heap_alloc(TELEMETRY_LINE_MAX);
	return failed || log->line ? failed : -ENOMEM;
}

/* ---- Rings --------------------------------------------------------------------------------------------- */

static void on_event(struct os_watch *watch, unsigned now)
{
	struct log_ring *ring = CONTAINER_OF(watch, struct log_ring, watch);

	(void)now;
	watch->ready = 0;
	if (os_event_take(watch->fd))
		ring->log->is_woken = true;
}

/* Up to LINES_PER_TURN lines, while both targets have room: which one the next line is for is seen when it
 * is read. How many. */
static size_t ring_read(struct log_process *log, struct log_ring *ring, uint64_t now_ns)
{
	enum telemetry_ring_kind kind = TELEMETRY_RING_ACCESS;
	struct span line;
	size_t count = 0;

	while (count < LINES_PER_TURN && log_target_has_room(&log->targets[ACCESS], now_ns) &&
	       log_target_has_room(&log->targets[EVENTS], now_ns)) {
		int outcome = telemetry_ring_read(ring->memory, log->line, &kind, &line);

		if (outcome == TELEMETRY_RING_EMPTY)
			break;
		count++;
		if (outcome == TELEMETRY_RING_BROKEN)
			log->targets[EVENTS].dropped++;
		else
			log_target_add(
				&log->targets[kind == TELEMETRY_RING_ACCESS ? ACCESS : EVENTS],
				line);
	}
	return count;
}

static void ring_free(struct log_ring *ring)
{
	int event = ring->watch.fd;

	os_watch_remove(&ring->watch);
	os_close(event);
	os_memory_unmap(ring->memory, sizeof(*ring->memory));
	list_remove(&ring->link);
	heap_free(ring);
}

static int ring_watch(struct log_process *log, struct log_ring *ring)
{
	int event = ring->watch.fd;
	int failed = os_watch_add(proc_loop(log->self), &ring->watch, event, OS_WATCH_EDGE_READ);

	ring->watch.fd = event;
	log->is_woken = true; /* it may hold what was written before we were */
	return failed;
}

static struct log_ring *ring_find(struct log_process *log, uint32_t index)
{
	LIST_EACH(&log->rings, node) {
		if (LIST_ITEM(node, struct log_ring, link)->index == index)
			return LIST_ITEM(node, struct log_ring, link);
	}
	return NULL;
}

static int ring_add(struct log_process *log, uint32_t index, struct ipc_message *message)
{
	struct log_ring *ring, *old = ring_find(log, index);
	void *memory;
	int failed;

	if (message->descriptor_count != 2)
		return -EBADMSG;
	failed = os_memory_map(message->descriptors[0], sizeof(struct telemetry_ring), NULL,
			       OS_MAP_WRITE, &memory);
	if (failed)
		return failed;
	ring = heap_alloc(sizeof(*ring));
	if (!ring) {
		os_memory_unmap(memory, sizeof(struct telemetry_ring));
		return -ENOMEM;
	}
	if (old) {
		(void)ring_read(log, old, os_now_ns());
		ring_free(old);
	}
	ring->log = log;
	ring->memory = memory;
	ring->index = index;
	ring->watch.on_ready = on_event;
	ring->watch.fd = TAKE_FD(message->descriptors[1]);
	list_push_back(&log->rings, &ring->link);
	return 0;
}

/* ---- A turn -------------------------------------------------------------------------------------------- */

static void look_for_rotation(struct log_process *log, size_t which, uint64_t now_ns)
{
	if (now_ns < log->looked_ns[which] + LOOK_MS * OS_MS)
		return;
	log->looked_ns[which] = now_ns;
	if (proc_is_orphan(log->self) || log->is_asked[which] ||
	    now_ns < log->asked_ns[which] + OS_SECOND || !log_target_is_away(&log->targets[which]))
		return;
	/* Until the answer comes the lines go to the old file, and are in it. A supervisor that takes its time is not
	 * asked again: it would find more questions at once than a second may have. */
	if (IPC_SEND(proc_supervisor(log->self), log_reopen, .which = (uint32_t)which))
		return;
	log->asked_ns[which] = now_ns;
	log->is_asked[which] = true;
}

static void on_access_room(struct os_watch *watch, unsigned now)
{
	(void)now;
	watch->ready = 0;
	CONTAINER_OF(watch, struct log_process, room[ACCESS])->is_woken = true;
}

static void on_events_room(struct os_watch *watch, unsigned now)
{
	(void)now;
	watch->ready = 0;
	CONTAINER_OF(watch, struct log_process, room[EVENTS])->is_woken = true;
}

/* A daemon that reads as fast as we write has ten datagrams of room on an ordinary kernel: the next try by the
 * clock would come too late. Else it is not watched: each datagram that it takes would wake us. */
static void watch_room(struct log_process *log, size_t which)
{
	struct log_target *target = &log->targets[which];
	struct os_watch *watch = &log->room[which];
	bool wanted = target->is_stuck && !target->is_gone && target->fd >= 0 &&
		      target->kind == SNAPSHOT_LOG_SYSLOG;

	watch->on_ready = which == ACCESS ? on_access_room : on_events_room;
	if (wanted && !os_watch_is_added(watch) &&
	    os_watch_add(proc_loop(log->self), watch, target->fd, OS_WATCH_EDGE))
		return; /* RETRY_MS does it */
	if (!wanted)
		os_watch_remove(watch);
}

static void write_targets(struct log_process *log, uint64_t now_ns)
{
	for (size_t i = 0; i < TARGET_COUNT; i++) {
		struct log_target *target = &log->targets[i];
		bool was_stuck = target->is_stuck;

		if (target->len)
			look_for_rotation(log, i, now_ns);
		log_target_write(target, now_ns);
		watch_room(log, i);
		/* It writes again: how much is missing is said now. */
		if (was_stuck && !target->is_stuck)
			log->quiet_seconds = 0;
	}
}

static size_t read_rings(struct log_process *log, uint64_t now_ns)
{
	size_t count = 0;

	LIST_EACH(&log->rings, node) {
		struct log_ring *ring = LIST_ITEM(node, struct log_ring, link);
		size_t lines;

		telemetry_ring_awake(ring->memory);
		lines = ring_read(log, ring, now_ns);
		count += lines;
		/* The buffers were full: the next ring shall find room. */
		if (lines && lines < LINES_PER_TURN && !telemetry_ring_is_empty(ring->memory))
			write_targets(log, now_ns);
	}
	/* Another one is first next time. */
	if (!list_is_empty(&log->rings)) {
		struct list *first = log->rings.next;

		list_remove(first);
		list_push_back(&log->rings, first);
	}
	return count;
}

/* False: one of them has lines already. */
static bool wait_on_rings(struct log_process *log, bool (*wait)(struct telemetry_ring *ring))
{
	LIST_EACH(&log->rings, node) {
		if (!wait(LIST_ITEM(node, struct log_ring, link)->memory))
			return false;
	}
	return true;
}

static void turn_again(struct log_process *log)
{
	log->is_woken = true;
	os_loop_wake_again(proc_loop(log->self));
}

static void wait_for_lines(struct log_process *log, size_t count, uint64_t now_ns)
{
	bool is_dense = count && now_ns < log->read_ns + DENSE_MS * OS_MS;

	if (count)
		log->read_ns = now_ns;
	if (!is_dense && wait_on_rings(log, telemetry_ring_sleep)) {
		os_timer_stop(&log->timer);
		return;
	}
	if (wait_on_rings(log, telemetry_ring_rest))
		os_timer_set(proc_loop(log->self), &log->timer, now_ns + LINGER_MS * OS_MS);
	else
		turn_again(log);
}

static void on_turn(void *state, struct proc_self *self)
{
	struct log_process *log = state;
	uint64_t now_ns = os_loop_now_ns(proc_loop(self));
	bool is_stuck = false, is_set = true;
	size_t count;

	if (!log->is_woken)
		return;
	log->is_woken = false;
	/* Where there is room again, the next line is not one more that is dropped. */
	for (size_t i = 0; i < TARGET_COUNT; i++)
		is_stuck |= log->targets[i].is_stuck;
	if (is_stuck)
		write_targets(log, now_ns);
	is_stuck = false;
	count = read_rings(log, now_ns);
	write_targets(log, now_ns);
	for (size_t i = 0; i < TARGET_COUNT; i++) {
		/* Without a reader the next line is soon enough to look again. */
		is_stuck |= log->targets[i].is_stuck && !log->targets[i].is_unread;
		is_set &= log->targets[i].is_set;
	}
	if (!is_set)
		return; /* log_file wakes us */
	if (is_stuck)
		os_timer_set(proc_loop(self), &log->timer,
			     now_ns + (count ? RETRY_BUSY_MS : RETRY_MS) * OS_MS);
	else if (count >= LINES_PER_TURN)
		turn_again(log); /* more than one turn's worth waits */
	else
		wait_for_lines(log, count, now_ns);
}

static void on_linger(struct os_timer *timer)
{
	CONTAINER_OF(timer, struct log_process, timer)->is_woken = true;
}

/* ---- Once a second ------------------------------------------------------------------------------------- */

static void count_drops(struct log_process *log)
{
	struct telemetry_counters *counters = (void *)proc_range(log->self)->counters;

	for (size_t i = 0; i < TARGET_COUNT; i++) {
		telemetry_count_add(counters, TELEMETRY_COUNTER_LINES_DROPPED,
				    log->targets[i].dropped);
		log->lost[i] += log->targets[i].dropped;
		log->targets[i].dropped = 0;
	}
	LIST_EACH(&log->rings, node) {
		struct log_ring *ring = LIST_ITEM(node, struct log_ring, link);
		uint64_t dropped = __atomic_load_n(&ring->memory->dropped, __ATOMIC_RELAXED);

		/* Their writers count these themselves. */
		log->lost[LOST_IN_RINGS] += dropped - ring->memory->reported;
		ring->memory->reported = dropped;
	}
}

static void report_drops(struct log_process *log)
{
	static const char *const keys[] = {
		[ACCESS] = "access", [EVENTS] = "events", [LOST_IN_RINGS] = "unread"
	};
	struct telemetry_pair pairs[1 + LOST_COUNT] = { { .key = "lines", .is_number = true } };
	struct telemetry_event event = {
		.type = TELEMETRY_EVENT_ANOMALY,
		.wall_ns = os_loop_wall_ns(proc_loop(log->self)),
		.process = SPAN("log"),
		.message = SPAN("log lines were dropped"),
		.pairs = pairs,
		.pair_count = ARRAY_LEN(pairs),
	};
	struct writer writer = writer_of(log->line, TELEMETRY_LINE_MAX);

	for (size_t i = 0; i < LOST_COUNT; i++) {
		pairs[0].number += log->lost[i];
		pairs[1 + i] = (struct telemetry_pair){ .key = keys[i],
							.number = log->lost[i],
							.is_number = true };
	}
	/* Not while there is no room: it would only be one more. */
	if (!pairs[0].number || log->targets[EVENTS].is_stuck)
		return;
	telemetry_write_event(&writer, &event);
	log_target_add(&log->targets[EVENTS], writer_done(&writer));
	memset(log->lost, 0, sizeof(log->lost));
	log->quiet_seconds = REPORT_SECONDS;
}

static void on_second(void *state, struct proc_self *self)
{
	struct log_process *log = state;

	/* A writer that does not wake us, and a disk that has room again. */
	log->is_woken = true;
	for (size_t i = 0; i < TARGET_COUNT; i++)
		look_for_rotation(log, i, os_loop_now_ns(proc_loop(self)));
	count_drops(log);
	if (log->quiet_seconds)
		log->quiet_seconds--;
	else
		report_drops(log);
}

/* ---- Messages ------------------------------------------------------------------------------------------ */

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct log_process *log = state;
	int failed = log_init(log, self);

	if (failed || grant->what != IPC_GRANT_RING)
		return failed;
	return ring_add(log, grant->index, message);
}

static int on_sandboxed(void *state, struct proc_self *self)
{
	struct log_process *log = state;
	int failed = log_init(log, self);

	log->timer.on_due = on_linger;
	if (failed)
		return failed;
	LIST_EACH(&log->rings, node) {
		failed = ring_watch(log, LIST_ITEM(node, struct log_ring, link));
		if (failed)
			return failed;
	}
	return 0;
}

static void take_file(struct log_process *log, const struct ipc_log_file *file,
		      struct ipc_message *message)
{
	int fd = message->descriptor_count > 0 ? TAKE_FD(message->descriptors[0]) : -1;
	int folder = message->descriptor_count > 1 ? TAKE_FD(message->descriptors[1]) : -1;
	enum snapshot_log_target kind = file->target <= SNAPSHOT_LOG_OFF
						? (enum snapshot_log_target)file->target
						: SNAPSHOT_LOG_OFF;
	struct log_target *target;

	/* Standard output was inherited. */
	if (kind == SNAPSHOT_LOG_STDOUT && fd < 0 && os_duplicate(STANDARD_OUTPUT, &fd))
		fd = -1;
	if (file->which >= TARGET_COUNT) {
		os_close(fd);
		os_close(folder);
		return;
	}
	log->is_asked[file->which] = false;
	target = &log->targets[file->which];
	snprintf(target->prefix, sizeof(target->prefix),
		 "<%d>portcullis[%d]: ", file->which == ACCESS ? PRIORITY_ACCESS : PRIORITY_EVENTS,
		 os_pid());
	os_watch_remove(&log->room[file->which]);
	log_target_set(target, kind, fd, folder, message->tail);
	/* Soon again if it is renamed again, but less often than the message table allows. */
	if (fd >= 0)
		log->asked_ns[file->which] =
			os_loop_now_ns(proc_loop(log->self)) - (1000 - REOPEN_MS) * OS_MS;
	log->is_woken = true;
}

/* At once: this may be the last thing that is said before the end. */
static void take_line(struct log_process *log, struct span text)
{
	struct writer writer = writer_of(log->line, TELEMETRY_LINE_MAX);

	if (span_ends_with(text, SPAN("\n")))
		text.len--;
	write_span(&writer, text);
	text_make_plain(log->line, writer_done(&writer).len);
	write_byte(&writer, '\n');
	log_target_add(&log->targets[EVENTS], writer_done(&writer));
	log_target_write(&log->targets[EVENTS], os_loop_now_ns(proc_loop(log->self)));
	log->is_woken = true;
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct log_process *log = state;
	const struct ipc_grant *grant = message->body;

	if (channel != proc_supervisor(self))
		return;
	switch ((unsigned)message->number) {
	case IPC_MESSAGE_grant: /* of a process that was started later than we */
		if (grant->what != IPC_GRANT_RING)
			return;
		if (ring_add(log, grant->index, message) ||
		    ring_watch(log, ring_find(log, grant->index)))
			proc_exit(self, PROC_EXIT_FAULT);
		return;
	case IPC_MESSAGE_log_file:
		take_file(log, message->body, message);
		return;
	case IPC_MESSAGE_log_event:
		take_line(log, message->tail);
		return;
	default:
		return;
	}
}

/* The last of these ends the process, so whatever the writer left is fetched now. */
static void on_unlinked(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	struct log_process *log = state;
	uint64_t now_ns = os_loop_now_ns(proc_loop(self));

	(void)kind;
	(void)slot;
	for (int turn = 0; turn < FINAL_TURNS && read_rings(log, now_ns); turn++)
		write_targets(log, now_ns);
	log->is_woken = true;
}

const struct proc_kind proc_log = {
	.state_size = sizeof(struct log_process),
	.grant = on_grant,
	.sandboxed = on_sandboxed,
	.message = on_message,
	.unlinked = on_unlinked,
	.turn = on_turn,
	.second = on_second,
};
