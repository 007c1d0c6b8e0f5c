#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/ipc.h"
#include "proc/proc.h"
#include "telemetry/telemetry.h"

/* The log process's handlers, with a main of the test around them: the functions below stand for those of
 * proc/helper.c, which is not linked then. */

enum { ACCESS, EVENTS };

struct proc_self {
	struct os_loop *loop;
	struct ipc_channel channel;
	struct ipc_range *range;
	void *state;
	bool is_orphan, is_ended;
	/* The test's. */
	struct ipc_channel supervisor;
	struct telemetry_ring *ring;
	int event, ring_fd;
	char folder[64];
	int folder_fd;
	struct proc_self *previous;
};

/* The process has no end but its own, so its memory stays: from here the leak checker finds it. */
static struct proc_self *kept;

struct os_loop *proc_loop(struct proc_self *self)
{
	return self->loop;
}
struct ipc_channel *proc_supervisor(struct proc_self *self)
{
	return &self->channel;
}
struct ipc_range *proc_range(struct proc_self *self)
{
	return self->range;
}
bool proc_is_orphan(const struct proc_self *self)
{
	return self->is_orphan;
}
void proc_exit(struct proc_self *self, int code)
{
	(void)code;
	self->is_ended = true;
}

static void on_turn(void *owner)
{
	struct proc_self *self = owner;

	proc_log.turn(self->state, self);
	ipc_channel_flush(&self->channel);
}

static void turns(struct proc_self *self, uint32_t duration_ms)
{
	uint64_t until_ns = os_now_ns() + duration_ms * OS_MS;

	do {
		uint64_t start_ns = os_now_ns();

		assert_int_equal(os_loop_turn(self->loop, 1, on_turn, self), 0);
		assert_true(os_now_ns() - start_ns < OS_SECOND); /* it never waits for a reader */
	} while (os_now_ns() < until_ns);
}

/* Until it sleeps: everything was read, and nothing came for a while. */
static void settle(struct proc_self *self)
{
	uint64_t until_ns = os_now_ns() + 30 * OS_SECOND;

	do {
		turns(self, 0);
		assert_true(os_now_ns() < until_ns);
	} while (self->ring->sleeps != 1);
}

static void deliver(struct proc_self *self, enum ipc_number number, const void *body,
		    struct span tail, int first, int second)
{
	struct ipc_message message = { .number = number,
				       .body = body,
				       .tail = tail,
				       .descriptors = { first, second, -1, -1 },
				       .descriptor_count = (first >= 0) + (second >= 0) };

	proc_log.message(self->state, self, &self->channel, &message);
	ipc_message_done(&message);
}

static int open_append(struct proc_self *self, const char *name)
{
	int fd;

	assert_int_equal(os_open(self->folder_fd, name,
				 OS_OPEN_WRITE | OS_OPEN_APPEND | OS_OPEN_CREATE, 0600, &fd),
			 0);
	return fd;
}

static void set_file(struct proc_self *self, uint32_t which, const char *name)
{
	struct ipc_log_file body = { .which = which, .target = SNAPSHOT_LOG_FILE };

	deliver(self, IPC_MESSAGE_log_file, &body, span_str(name), open_append(self, name),
		dup(self->folder_fd));
}

static void set_target(struct proc_self *self, uint32_t which, enum snapshot_log_target target,
		       int fd)
{
	struct ipc_log_file body = { .which = which, .target = target };

	deliver(self, IPC_MESSAGE_log_file, &body, SPAN_NONE, fd, -1);
}

static bool put(struct proc_self *self, enum telemetry_ring_kind kind, const char *text)
{
	int outcome = telemetry_ring_write(self->ring, kind, span_str(text));

	if (outcome == TELEMETRY_RING_WAKE)
		os_event_signal(self->event);
	return outcome != TELEMETRY_RING_FULL;
}

static bool put_number(struct proc_self *self, enum telemetry_ring_kind kind, unsigned number)
{
	char line[128];

	snprintf(line, sizeof(line), "%u %s\n", number,
		 "a line of about as many bytes as one of the access log");
	return put(self, kind, line);
}

static struct span content(struct proc_self *self, struct arena *arena, const char *name)
{
	struct span text = SPAN_NONE;

	assert_int_equal(os_file_read(self->folder_fd, name, 64 << 20, arena, &text), 0);
	return text;
}

static int setup(void **state)
{
	struct proc_self *self = calloc(1, sizeof(*self));
	struct ipc_grant grant = { .what = IPC_GRANT_RING, .index = 3 };
	struct ipc_message message = { .number = IPC_MESSAGE_grant, .descriptor_count = 2 };
	void *memory;
	int pair[2];

	snprintf(self->folder, sizeof(self->folder), "/tmp/log-test-XXXXXX");
	assert_non_null(mkdtemp(self->folder));
	assert_int_equal(os_open(OS_FOLDER_CURRENT, self->folder, OS_OPEN_HANDLE | OS_OPEN_FOLDER,
				 0, &self->folder_fd),
			 0);
	assert_int_equal(os_loop_new(&self->loop), 0);
	assert_int_equal(os_packet_pair(pair), 0);
	assert_int_equal(
		ipc_channel_open(&self->channel, self->loop, pair[0], IPC_LOG, IPC_SUPERVISOR), 0);
	assert_int_equal(
		ipc_channel_open(&self->supervisor, NULL, pair[1], IPC_SUPERVISOR, IPC_LOG), 0);
	self->range = calloc(1, IPC_RANGE_SIZE);
	self->state = calloc(1, proc_log.state_size);
	assert_int_equal(os_memory_new("ring", sizeof(struct telemetry_ring), &self->ring_fd), 0);
	assert_int_equal(os_memory_map(self->ring_fd, sizeof(struct telemetry_ring), NULL,
				       OS_MAP_WRITE, &memory),
			 0);
	self->ring = memory;
	assert_int_equal(os_event_new(&self->event), 0);
	message.descriptors[0] = dup(self->ring_fd);
	message.descriptors[1] = dup(self->event);
	assert_int_equal(proc_log.grant(self->state, self, &grant, &message), 0);
	ipc_message_done(&message);
	assert_int_equal(proc_log.sandboxed(self->state, self), 0);
	*state = self;
	return 0;
}

static int remove_name(void *owner, const char *name, enum os_file_type type)
{
	const struct proc_self *self = owner;
	char path[400];

	(void)type;
	snprintf(path, sizeof(path), "%s/%s", self->folder, name);
	return unlink(path);
}

static int teardown(void **state)
{
	struct proc_self *self = *state;
	int fd;

	assert_int_equal(os_open(OS_FOLDER_CURRENT, self->folder, OS_OPEN_FOLDER, 0, &fd), 0);
	assert_int_equal(os_folder_list(fd, remove_name, self), 0);
	os_close(fd);
	assert_int_equal(rmdir(self->folder), 0);
	ipc_channel_close(&self->channel);
	ipc_channel_close(&self->supervisor);
	self->previous = kept;
	kept = self;
	os_memory_unmap(self->ring, sizeof(*self->ring));
	os_close(self->ring_fd);
	os_close(self->event);
	os_close(self->folder_fd);
	return 0;
}

/* Which numbers are in the text, each on a whole line and once: *ret_next of them from `first` on. */
static size_t count_numbers(struct span text, uint8_t *seen, size_t max)
{
	struct span line;
	size_t count = 0;

	assert_true(!text.len || text.ptr[text.len - 1] == '\n');
	while (text.len && span_cut(&text, '\n', &line)) {
		uint64_t number;

		if (!line.len)
			continue;
		assert_true(span_ends_with(line, SPAN("bytes as one of the access log")));
		assert_true(
			parse_u64(span_first(line, span_find_byte(line, ' ')), max - 1, &number));
		assert_int_equal(seen[number], 0);
		seen[number] = 1;
		count++;
	}
	return count;
}

static void test_each_to_its_target(void **state)
{
	struct proc_self *self = *state;
	struct arena arena;

	arena_init(&arena, 0);
	/* Before the files are there lines wait in the ring. */
	put(self, TELEMETRY_RING_ACCESS, "first\n");
	turns(self, 10);
	set_file(self, ACCESS, "access");
	turns(self, 10);
	set_file(self, EVENTS, "events");
	put(self, TELEMETRY_RING_EVENT, "event\n");
	put(self, TELEMETRY_RING_ACCESS, "sec\033ond\n");
	settle(self);
	deliver(self, IPC_MESSAGE_log_event, &(struct ipc_log_event){ { 0 } },
		SPAN("of the\nsupervisor\n"), -1, -1);
	deliver(self, IPC_MESSAGE_log_event, &(struct ipc_log_event){ { 0 } }, SPAN("bare"), -1,
		-1);
	settle(self);
	assert_true(span_equal(content(self, &arena, "access"), SPAN("first\nsec?ond\n")));
	assert_true(span_equal(content(self, &arena, "events"),
			       SPAN("event\nof the?supervisor\nbare\n")));
	/* Asleep: it must be woken, and is. */
	assert_int_equal(telemetry_ring_write(self->ring, TELEMETRY_RING_ACCESS, SPAN("third\n")),
			 TELEMETRY_RING_WAKE);
	os_event_signal(self->event);
	settle(self);
	assert_true(span_ends_with(content(self, &arena, "access"), SPAN("third\n")));
	/* A writer that wakes nobody is looked at each second. */
	assert_int_equal(telemetry_ring_write(self->ring, TELEMETRY_RING_ACCESS, SPAN("quiet\n")),
			 TELEMETRY_RING_WAKE);
	turns(self, 150);
	assert_true(span_ends_with(content(self, &arena, "access"), SPAN("third\n")));
	proc_log.second(self->state, self);
	settle(self);
	assert_true(span_ends_with(content(self, &arena, "access"), SPAN("quiet\n")));
	arena_fini(&arena);
}

/* A line that comes alone is written at once. Of lines that follow each other each is written soon too, though
 * nothing follows the last one, but neither do they wake the log one by one nor does it look all the time. */
static void test_lines_that_follow_each_other(void **state)
{
	enum { LINES = 300 };
	struct proc_self *self = *state;
	uint64_t begun_ns, most, read, until_ns, wakes = 0, reads = 0;
	uint8_t seen[LINES] = { 0 };
	struct arena arena;

	arena_init(&arena, 0);
	set_file(self, ACCESS, "access");
	set_file(self, EVENTS, "events");
	settle(self);
	begun_ns = os_now_ns();
	for (unsigned i = 0; i < LINES; i++) {
		wakes += self->ring->sleeps == 1;
		put_number(self, TELEMETRY_RING_ACCESS, i);
		read = self->ring->tail;
		turns(self, 1);
		reads += self->ring->tail != read;
		if (i == 0)
			assert_int_equal(
				count_numbers(content(self, &arena, "access"), seen, LINES), 1);
	}
	/* Twice within the time that it lingers, after a moment in which we did not run. */
	most = 4 + (os_now_ns() - begun_ns) / (25 * OS_MS);
	assert_true(wakes <= most && reads <= most);
	until_ns = os_now_ns() + 30 * OS_SECOND;
	while (!telemetry_ring_is_empty(self->ring) && os_now_ns() < until_ns)
		turns(self, 1);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(count_numbers(content(self, &arena, "access"), seen, LINES), LINES);
	arena_fini(&arena);
}

/* More than a writer may let wait comes at once: one wake, and none is lost. */
static void test_a_burst(void **state)
{
	enum { LINES = 12000 };
	struct proc_self *self = *state;
	uint8_t *seen = calloc(LINES, 1);
	uint64_t until_ns;
	unsigned next = 0;
	struct arena arena;

	arena_init(&arena, 0);
	set_file(self, ACCESS, "access");
	set_file(self, EVENTS, "events");
	settle(self);
	/* Two turns with a line each: it lingers. */
	for (until_ns = os_now_ns() + 30 * OS_SECOND; self->ring->sleeps != 2; turns(self, 1)) {
		assert_true(put_number(self, TELEMETRY_RING_ACCESS, next++));
		assert_true(os_now_ns() < until_ns);
	}
	while (self->ring->sleeps == 2)
		assert_true(put_number(self, TELEMETRY_RING_ACCESS, next++));
	assert_true(next * 80 > TELEMETRY_RING_WAKE_BYTES && next < LINES / 2);
	/* Woken: what waited is read in turns that follow at once. */
	for (unsigned i = 0; i < 16 && !telemetry_ring_is_empty(self->ring); i++)
		assert_int_equal(os_loop_turn(self->loop, 0, on_turn, self), 0);
	assert_int_equal(count_numbers(content(self, &arena, "access"), seen, LINES), next);
	free(seen);
	arena_fini(&arena);
}

/* Rotation by rename and by removal under load: the supervisor answers late; each line is in one file. */
/* Whether a new file was asked for, and is there now. */
static bool answer_reopen(struct proc_self *self)
{
	struct ipc_message message;

	if (ipc_wait(&self->supervisor, 0, &message))
		return false;
	assert_int_equal(message.number, IPC_MESSAGE_log_reopen);
	assert_int_equal(((const struct ipc_log_reopen *)message.body)->which, ACCESS);
	ipc_message_done(&message);
	set_file(self, ACCESS, "access");
	return true;
}

static void test_rotation(void **state)
{
	enum { LINES = 60000 };
	struct proc_self *self = *state;
	uint8_t *seen = calloc(LINES, 1);
	unsigned next = 0, asked = 0, files = 1;
	size_t total = 0;
	struct arena arena;
	char path[128], to[128];

	arena_init(&arena, 0);
	set_file(self, ACCESS, "access");
	set_target(self, EVENTS, SNAPSHOT_LOG_OFF, -1);
	while (next < LINES) {
		for (int i = 0;
		     i < 200 && next < LINES && put_number(self, TELEMETRY_RING_ACCESS, next); i++)
			next++;
		turns(self, 0);
		if (next % 20000 < 200 && files < 3 && next / 20000 == files) {
			snprintf(path, sizeof(path), "%s/access", self->folder);
			snprintf(to, sizeof(to), "%s/access.%u", self->folder, files++);
			assert_int_equal(rename(path, to), 0);
			/* It looks when there is something to write; what comes before still goes to the old file. */
			for (int i = 0; i < 1000 && asked < files - 1; i++) {
				put_number(self, TELEMETRY_RING_ACCESS, next++);
				turns(self, 10);
				asked += answer_reopen(self);
			}
		}
	}
	settle(self);
	total += count_numbers(content(self, &arena, "access"), seen, LINES);
	total += count_numbers(content(self, &arena, "access.1"), seen, LINES);
	total += count_numbers(content(self, &arena, "access.2"), seen, LINES);
	assert_int_equal(total, LINES);
	assert_int_equal(asked, 2);
	/* Orphaned, nobody can be asked: it goes on where it is. */
	self->is_orphan = true;
	snprintf(path, sizeof(path), "%s/access", self->folder);
	assert_int_equal(rename(path, to), 0);
	turns(self, 150);
	proc_log.second(self->state, self);
	put(self, TELEMETRY_RING_ACCESS, "orphan\n");
	proc_log.second(self->state, self);
	turns(self, 50);
	assert_true(span_ends_with(content(self, &arena, "access.2"), SPAN("orphan\n")));
	arena_fini(&arena);
	free(seen);
}

/* One that hangs answers late: more questions would wait for it than a second may have, and end the log. */
static void test_a_slow_supervisor_is_asked_once(void **state)
{
	struct proc_self *self = *state;
	struct ipc_message message;
	char path[128], to[128];
	unsigned asked = 0;

	set_file(self, ACCESS, "access");
	set_target(self, EVENTS, SNAPSHOT_LOG_OFF, -1);
	snprintf(path, sizeof(path), "%s/access", self->folder);
	snprintf(to, sizeof(to), "%s/access.1", self->folder);
	assert_int_equal(rename(path, to), 0);
	for (int i = 0; i < 30; i++) {
		os_clock_move((int64_t)OS_SECOND, (int64_t)OS_SECOND);
		turns(self, 1);
		proc_log.second(self->state, self);
		turns(self, 1);
	}
	while (ipc_wait(&self->supervisor, 0, &message) == 0) {
		assert_int_equal(message.number, IPC_MESSAGE_log_reopen);
		ipc_message_done(&message);
		asked++;
	}
	assert_int_equal(asked, 1);
	/* Answered without a file: it is asked for again. */
	set_target(self, ACCESS, SNAPSHOT_LOG_FILE, -1);
	os_clock_move((int64_t)OS_SECOND, (int64_t)OS_SECOND);
	turns(self, 1);
	proc_log.second(self->state, self);
	turns(self, 1);
	assert_true(answer_reopen(self));
}

/* A reader that is slow, and one that is there again: whole lines, each once, in order; what did not fit is
 * counted; nothing waits, and the other target goes on. */
static void test_slow_pipe(void **state)
{
	enum { LINES = 200000 };
	struct proc_self *self = *state;
	uint8_t *seen = calloc(LINES, 1);
	char *text = malloc(64 << 20);
	unsigned dropped = 0;
	size_t len = 0, written;
	struct arena arena;
	int ends[2];
	ssize_t got;

	arena_init(&arena, 0);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	set_target(self, ACCESS, SNAPSHOT_LOG_STDOUT, ends[1]); /* of blocking mode, as a shell's */
	set_file(self, EVENTS, "events");
	for (unsigned i = 0; i < LINES; i++) {
		dropped += !put_number(self, TELEMETRY_RING_ACCESS, i);
		if (i % 100 == 0)
			turns(self, 0);
		if (i % 1000 == 0 && (got = read(ends[0], text + len, 30000)) > 0)
			len += (size_t)got;
	}
	/* Nobody reads for over a second: lines for the other target pass those that are stuck. */
	turns(self, 1200);
	put(self, TELEMETRY_RING_EVENT, "alive\n");
	turns(self, 1200);
	assert_true(span_ends_with(content(self, &arena, "events"), SPAN("alive\n")));
	for (int i = 0; i < 500; i++) {
		turns(self, 0);
		while ((got = read(ends[0], text + len, 1 << 16)) > 0)
			len += (size_t)got;
		usleep(1000);
	}
	proc_log.second(self->state, self);
	turns(self, 50);
	while ((got = read(ends[0], text + len, 1 << 16)) > 0)
		len += (size_t)got;
	written = count_numbers(span_of(text, len), seen, LINES);
	dropped += ((struct telemetry_counters *)(void *)self->range->counters)
			   ->counters[TELEMETRY_COUNTER_LINES_DROPPED];
	assert_int_equal(written + dropped, LINES);
	assert_true(dropped > 0);
	assert_non_null(strstr(content(self, &arena, "events").ptr, "log lines were dropped"));
	os_close(ends[0]);
	arena_fini(&arena);
	free(text);
	free(seen);
}

/* The disk is full, then there is room again: what was kept comes, whole. */
/* `run | head`, or a FIFO whose reader is started anew: it sleeps meanwhile, and nothing is lost. */
static void test_pipe_without_a_reader(void **state)
{
	struct proc_self *self = *state;
	char path[128], got[64] = "";
	int reader, writer;

	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof(path), "%s/fifo", self->folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	writer = open(path, O_WRONLY);
	assert_true(reader >= 0 && writer >= 0);
	close(reader);
	set_target(self, ACCESS, SNAPSHOT_LOG_STDOUT, writer);
	set_file(self, EVENTS, "events");
	put(self, TELEMETRY_RING_ACCESS, "before\n");
	settle(self);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	put(self, TELEMETRY_RING_ACCESS, "after\n");
	settle(self);
	assert_int_equal(read(reader, got, sizeof(got) - 1), 13);
	assert_string_equal(got, "before\nafter\n");
	close(reader);
}

static void test_disk_full(void **state)
{
	struct proc_self *self = *state;
	uint8_t seen[1000] = { 0 };
	struct arena arena;
	int full = open("/dev/full", O_WRONLY);

	arena_init(&arena, 0);
	assert_true(full >= 0);
	set_target(self, ACCESS, SNAPSHOT_LOG_STDOUT, full);
	set_file(self, EVENTS, "events");
	for (unsigned i = 0; i < 1000; i++)
		assert_true(put_number(self, TELEMETRY_RING_ACCESS, i));
	turns(self, 100);
	proc_log.second(self->state, self);
	turns(self, 100);
	set_file(self, ACCESS, "access");
	turns(self, 100);
	assert_int_equal(count_numbers(content(self, &arena, "access"), seen, 1000), 1000);
	arena_fini(&arena);
}

/* A line that a pipe took half of, and then the target changes: whole in the new one if not in the old. */
static void test_begun_line(void **state)
{
	struct proc_self *self = *state;
	struct arena arena;
	char *line = malloc(20002), *taken = malloc(1 << 17);
	int ends[2];
	ssize_t got;

	arena_init(&arena, 0);
	memset(line, 'x', 20000);
	strcpy(line + 20000, "\n");
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 8192), 8192);
	set_target(self, EVENTS, SNAPSHOT_LOG_OFF, -1);
	set_target(self, ACCESS, SNAPSHOT_LOG_STDOUT, ends[1]);
	put(self, TELEMETRY_RING_ACCESS, line);
	put(self, TELEMETRY_RING_ACCESS, "next\n");
	turns(self, 50);
	set_file(self, ACCESS, "access");
	turns(self, 50);
	got = read(ends[0], taken, 1 << 17);
	assert_int_equal(got, 8192);
	assert_int_equal(content(self, &arena, "access").len, 20001 + 5);
	os_close(ends[0]);
	arena_fini(&arena);
	free(line);
	free(taken);
}

static void test_broken_ring_and_new_ring(void **state)
{
	struct proc_self *self = *state;
	struct ipc_grant grant = { .what = IPC_GRANT_RING, .index = 3 };
	struct arena arena;

	arena_init(&arena, 0);
	set_file(self, ACCESS, "access");
	set_file(self, EVENTS, "events");
	settle(self);
	self->ring->head = 12345678;
	os_event_signal(self->event);
	settle(self);
	assert_int_equal(self->ring->broken, 1);
	put(self, TELEMETRY_RING_ACCESS, "after\n");
	settle(self);
	/* The writer is born again on the same ring. */
	put(self, TELEMETRY_RING_ACCESS, "before birth\n");
	deliver(self, IPC_MESSAGE_grant, &grant, SPAN_NONE, dup(self->ring_fd), dup(self->event));
	put(self, TELEMETRY_RING_ACCESS, "after birth\n");
	settle(self);
	assert_true(span_equal(content(self, &arena, "access"),
			       SPAN("after\nbefore birth\nafter birth\n")));
	/* A worker's last lines, and nobody wakes the log for them. */
	put(self, TELEMETRY_RING_ACCESS, "last\n");
	proc_log.unlinked(self->state, self, IPC_WORKER, 0);
	assert_true(span_ends_with(content(self, &arena, "access"), SPAN("last\n")));
	assert_false(self->is_ended);
	arena_fini(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_to_its_target),
		TEST(test_lines_that_follow_each_other),
		TEST(test_a_burst),
		TEST(test_rotation),
		TEST(test_a_slow_supervisor_is_asked_once),
		TEST(test_slow_pipe),
		TEST(test_pipe_without_a_reader),
		TEST(test_disk_full),
		TEST(test_begun_line),
		TEST(test_broken_ring_and_new_ring),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
