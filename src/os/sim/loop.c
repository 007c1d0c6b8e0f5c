#include "os/sim/internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum { EVENTS_PER_TURN = 256 };

struct os_loop {
	struct os_loop_state state;
	struct os_watch *events[EVENTS_PER_TURN];
	unsigned bits[EVENTS_PER_TURN];
};

/* ---- The clock --------------------------------------------------------------------------------- */

uint64_t os_now_ns(void)
{
	return sim.now_ns + (uint64_t)(sim.current ? sim.current->moved_monotonic_ns : 0);
}

uint64_t os_wall_ns(void)
{
	/* A day in 2030: certificates of the tests' own are made for it. */
	uint64_t base = UINT64_C(1900000000) * OS_SECOND;

	return base + sim.now_ns + (uint64_t)(sim.current ? sim.current->moved_wall_ns : 0);
}

#ifdef PORTCULLIS_TEST_CLOCK
void os_clock_move(int64_t monotonic_ns, int64_t wall_ns)
{
	sim.current->moved_monotonic_ns += monotonic_ns;
	sim.current->moved_wall_ns += wall_ns;
}
#endif

/* In the world's time. */
static uint64_t deadline_in(uint64_t wait_ns)
{
	return wait_ns > UINT64_MAX - sim.now_ns ? UINT64_MAX : sim.now_ns + wait_ns;
}

void os_sleep_ms(unsigned duration_ms)
{
	SIM_POINT();
	sim_pause(SIM_SLEEPS, deadline_in(duration_ms * OS_MS));
}

void os_yield(void)
{
	sim_pause(SIM_RUNS, UINT64_MAX);
}

int os_wait(int fd, unsigned wanted, int timeout_ms)
{
	struct sim_file *file = sim_descriptor(fd);
	unsigned ready;

	SIM_POINT();
	if (!file)
		return -EBADF;
	wanted |= OS_HANGUP | OS_ERROR;
	if (!(sim_file_ready(file) & wanted)) {
		sim.current->wait_fd = fd;
		sim.current->wait_for = wanted;
		sim_pause(SIM_WAITS_DESCRIPTOR,
			  timeout_ms < 0 ? UINT64_MAX : deadline_in((uint64_t)timeout_ms * OS_MS));
	}
	ready = sim_file_ready(file);
	return ready & wanted ? 0 : -ETIMEDOUT;
}

/* ---- Watches ----------------------------------------------------------------------------------- */

int os_loop_new(struct os_loop **ret_loop)
{
	struct os_loop *loop;

	SIM_CALL(-EMFILE, -ENOMEM);
	loop = heap_alloc(sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->state.now_ns = os_now_ns();
	loop->state.wall_ns = os_wall_ns();
	os_wheel_init(&loop->state.wheel, loop->state.now_ns);
	*ret_loop = loop;
	return 0;
}

void os_loop_free(struct os_loop *loop)
{
	heap_free(loop);
}

static struct sim_watched *watched_find(struct sim_process *process, const struct os_watch *watch)
{
	for (size_t i = 0; i < process->watched_count; i++)
		if (process->watched[i].watch == watch)
			return &process->watched[i];
	return NULL;
}

int os_watch_add(struct os_loop *loop, struct os_watch *watch, int fd, enum os_watch_mode mode)
{
	struct sim_process *process = sim.current;
	struct sim_file *file = sim_descriptor(fd);
	struct sim_watched *place;

	MUST(!watch->loop && watch->on_ready);
	SIM_CALL(-ENOSPC, -ENOMEM);
	if (!file)
		return -EBADF;
	if (file->kind == SIM_NODE || file->kind == SIM_NOTHING || file->kind == SIM_PROGRAM)
		return -EPERM;
	for (size_t i = 0; i < process->watched_count; i++)
		if (process->watched[i].watch && process->watched[i].file == file &&
		    process->watched[i].watch->fd == fd && process->watched[i].loop == loop)
			return -EEXIST;
	place = watched_find(process, NULL);
	if (!place) {
		if (process->watched_count == process->watched_capacity) {
			process->watched_capacity = 2 * process->watched_capacity + 16;
			process->watched =
				sim_own_resize(process->watched, process->watched_capacity *
									 sizeof(*process->watched));
		}
		place = &process->watched[process->watched_count++];
	}
	*place = (struct sim_watched){ .watch = watch,
				       .file = file,
				       .loop = loop,
				       .is_level = mode == OS_WATCH_LEVEL_READ,
				       .hides_room = mode == OS_WATCH_EDGE_READ,
				       .is_new = true };
	watch->loop = loop;
	watch->fd = fd;
	watch->ready = 0;
	watch->queued = 0;
	watch->wants_room = false;
	return 0;
}

void os_watch_want_room(struct os_watch *watch, bool is_wanted)
{
	struct sim_watched *watched;

	if (!watch->loop || watch->wants_room == is_wanted)
		return;
	watched = watched_find(sim.current, watch);
	MUST(watched);
	watched->hides_room = !is_wanted;
	watched->is_new = true;
	watch->wants_room = is_wanted;
}

void os_watch_remove(struct os_watch *watch)
{
	struct sim_process *process = sim.current;
	struct os_loop *loop = watch->loop;
	struct sim_watched *watched;

	if (!loop)
		return;
	watched = watched_find(process, watch);
	/* As the kernel has it: the descriptor must be the one that was added. */
	MUST(watched && watched->file && sim_descriptor(watch->fd) == watched->file);
	if (watch->queued)
		loop->events[watch->queued - 1] = NULL;
	*watched = (struct sim_watched){ 0 };
	watch->loop = NULL;
	watch->queued = 0;
	watch->fd = -1;
}

void os_watch_close(struct os_watch *watch)
{
	int fd = watch->fd;

	if (!watch->loop)
		return;
	os_watch_remove(watch);
	os_close(fd);
}

/* What it has to say now; 0: nothing new. */
static unsigned news_of(const struct sim_watched *watched)
{
	unsigned ready;

	if (!watched->watch || !watched->file)
		return 0;
	if (watched->is_level)
		return sim_file_ready(watched->file) & (OS_READABLE | OS_HANGUP | OS_ERROR);
	if (!watched->is_new && watched->told == watched->file->wakes)
		return 0;
	ready = sim_file_ready(watched->file);
	return ready == OS_WRITABLE && watched->hides_room ? 0 : ready;
}

bool sim_loop_is_ready(const struct sim_process *process)
{
	for (size_t i = 0; i < process->watched_count; i++)
		if (process->watched[i].loop == process->loop && news_of(&process->watched[i]))
			return true;
	return false;
}

static size_t gather(struct os_loop *loop)
{
	struct sim_process *process = sim.current;
	size_t count = 0;

	for (size_t i = 0; i < process->watched_count && count < EVENTS_PER_TURN; i++) {
		struct sim_watched *watched = &process->watched[i];
		unsigned news = watched->loop == loop ? news_of(watched) : 0;
		size_t at;

		if (!news)
			continue;
		watched->told = watched->file->wakes;
		watched->is_new = false;
		/* Each place is as likely as any other. */
		at = (size_t)sim_random(count + 1);
		loop->events[count] = loop->events[at];
		loop->bits[count] = loop->bits[at];
		loop->events[at] = watched->watch;
		loop->bits[at] = news;
		count++;
	}
	return count;
}

static void tell(struct os_loop *loop, size_t count)
{
	for (size_t i = 0; i < count; i++)
		loop->events[i]->queued = (uint32_t)i + 1;
	for (size_t i = 0; i < count; i++) {
		struct os_watch *watch = loop->events[i];

		if (!watch)
			continue;
		watch->queued = 0;
		watch->ready |= loop->bits[i];
		watch->on_ready(watch, loop->bits[i]);
	}
}

static uint64_t deadline_of(const struct os_loop *loop, int max_wait_ms)
{
	uint64_t next_ns = os_wheel_next_ns(&loop->state.wheel), now_ns = os_now_ns(), wait_ns;

	if (loop->state.runs_again || next_ns <= now_ns)
		return sim.now_ns;
	wait_ns =
		next_ns == UINT64_MAX ? UINT64_MAX : (next_ns - now_ns + OS_MS - 1) / OS_MS * OS_MS;
	if (max_wait_ms >= 0 && wait_ns > (uint64_t)max_wait_ms * OS_MS)
		wait_ns = (uint64_t)max_wait_ms * OS_MS;
	return wait_ns == UINT64_MAX ? UINT64_MAX : deadline_in(wait_ns);
}

int os_loop_turn(struct os_loop *loop, int max_wait_ms, void (*on_turn)(void *owner), void *owner)
{
	uint64_t deadline_ns = deadline_of(loop, max_wait_ms);
	size_t count;

	SIM_POINT();
	loop->state.runs_again = false;
	sim.current->loop = loop;
	sim_pause(SIM_WAITS_LOOP, deadline_ns);
	count = gather(loop);
	loop->state.now_ns = os_now_ns();
	loop->state.wall_ns = os_wall_ns();
	tell(loop, count);
	os_wheel_run(&loop->state.wheel, loop->state.now_ns);
	if (on_turn)
		on_turn(owner);
	return 0;
}

/* ---- Signals and events ------------------------------------------------------------------------ */

static void signals_on_ready(struct os_watch *watch, unsigned now)
{
	struct os_signals *signals = CONTAINER_OF(watch, struct os_signals, watch);
	struct sim_process *process = sim.current;

	(void)now;
	while (os_watch_is_added(watch)) {
		uint64_t waiting = process->signals_pending & process->signals_wanted;
		int number = waiting ? __builtin_ctzll(waiting) : 0;

		if (!waiting)
			break;
		process->signals_pending &= ~(UINT64_C(1) << number);
		signals->on_signal(signals, number, process->signal_sender[number]);
	}
	watch->ready = 0;
}

int os_signals_watch(struct os_loop *loop, struct os_signals *signals, const int *numbers,
		     size_t count)
{
	struct sim_process *process = sim.current;
	struct sim_file *file;
	int fd, error;

	SIM_CALL(-EMFILE);
	for (size_t i = 0; i < count; i++)
		process->signals_wanted |= UINT64_C(1) << numbers[i];
	file = sim_file_new(SIM_SIGNALS, SIM_MAY_READ);
	file->process = process;
	process->signals = file;
	error = sim_descriptor_add(file, &fd);
	if (error)
		return error;
	signals->watch.on_ready = signals_on_ready;
	error = os_watch_add(loop, &signals->watch, fd, OS_WATCH_EDGE);
	if (error)
		os_close(fd);
	return error;
}

void os_signals_close(struct os_signals *signals)
{
	int fd = signals->watch.fd;

	if (!os_watch_is_added(&signals->watch))
		return;
	os_watch_remove(&signals->watch);
	os_close(fd);
}

void sim_process_signal(struct sim_process *process, int number, int sender)
{
	if (process->has_ended || number <= 0 || number >= SIM_SIGNAL_MAX)
		return;
	if (number == SIGKILL) {
		sim_kill(process, SIGKILL);
	} else if (number == SIGSTOP) {
		process->is_stopped = true;
	} else if (number == SIGCONT) {
		process->is_stopped = false;
	} else if (process->signals_wanted & UINT64_C(1) << number) {
		process->signals_pending |= UINT64_C(1) << number;
		process->signal_sender[number] = sender;
		if (process->signals)
			sim_file_wake(process->signals);
	} else if (number != SIGCHLD) {
		sim_kill(process, number);
	}
}

int os_event_new(int *ret_fd)
{
	SIM_CALL(-EMFILE);
	return sim_descriptor_add(sim_file_new(SIM_EVENT, SIM_MAY_READ | SIM_MAY_WRITE), ret_fd);
}

void os_event_signal(int fd)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_POINT();
	if (!file || file->kind != SIM_EVENT)
		return;
	file->count++;
	sim_file_wake(file);
}

bool os_event_take(int fd)
{
	struct sim_file *file = sim_descriptor(fd);
	bool was_signalled;

	if (!file || file->kind != SIM_EVENT)
		return false;
	was_signalled = file->count > 0;
	file->count = 0;
	return was_signalled;
}
