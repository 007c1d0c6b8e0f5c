#include "os/linux/internal.h"

#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_PER_TURN = 256 };

struct os_loop {
	struct os_loop_state state;
	int epoll_fd;
	struct epoll_event events[EVENTS_PER_TURN];
};

static void loop_read_clock(struct os_loop *loop)
{
	loop->state.now_ns = os_now_ns();
	loop->state.wall_ns = os_wall_ns();
}

int os_loop_new(struct os_loop **ret_loop)
{
	struct os_loop *loop = heap_alloc(sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		int error = -errno;

		heap_free(loop);
		return error;
	}
	loop_read_clock(loop);
	os_wheel_init(&loop->state.wheel, loop->state.now_ns);
	*ret_loop = loop;
	return 0;
}

void os_loop_free(struct os_loop *loop)
{
	if (!loop)
		return;
	close(loop->epoll_fd);
	heap_free(loop);
}

static uint32_t events_of(enum os_watch_mode mode)
{
	switch (mode) {
	case OS_WATCH_EDGE:
		return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
	case OS_WATCH_EDGE_READ:
		return EPOLLIN | EPOLLRDHUP | EPOLLET;
	case OS_WATCH_LEVEL_READ:
		break;
	}
	return EPOLLIN;
}

int os_watch_add(struct os_loop *loop, struct os_watch *watch, int fd, enum os_watch_mode mode)
{
	struct epoll_event event = { .data.ptr = watch };

	MUST(!watch->loop && watch->on_ready);
	event.events = events_of(mode);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	watch->loop = loop;
	watch->fd = fd;
	watch->ready = 0;
	watch->queued = 0;
	watch->wants_room = false;
	return 0;
}

void os_watch_want_room(struct os_watch *watch, bool is_wanted)
{
	struct epoll_event event = { .data.ptr = watch };

	if (!watch->loop || watch->wants_room == is_wanted)
		return;
	event.events = events_of(is_wanted ? OS_WATCH_EDGE : OS_WATCH_EDGE_READ);
	/* It is added: only a bug of ours makes this fail. */
	MUST(epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) == 0);
	watch->wants_room = is_wanted;
}

/* What this turn has already fetched of it is not told any more. */
static void watch_forget(struct os_watch *watch)
{
	if (watch->queued)
		watch->loop->events[watch->queued - 1].data.ptr = NULL;
	watch->loop = NULL;
	watch->queued = 0;
	watch->fd = -1;
}

void os_watch_close(struct os_watch *watch)
{
	int fd = watch->fd;

	if (!watch->loop)
		return;
	watch_forget(watch);
	/* The kernel takes the last descriptor of a description off every epoll. */
	os_close(fd);
}

void os_watch_remove(struct os_watch *watch)
{
	struct os_loop *loop = watch->loop;

	if (!loop)
		return;
	/* Fails only when the owner closed it first; then the kernel has let go of it already, or
	 * another process keeps its description alive and it reports for ever: a bug of ours. */
	MUST(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
	watch_forget(watch);
}

static unsigned ready_of(uint32_t events)
{
	unsigned ready = 0;

	if (events & EPOLLIN)
		ready |= OS_READABLE;
	if (events & EPOLLOUT)
		ready |= OS_WRITABLE;
	if (events & EPOLLRDHUP)
		ready |= OS_PEER_SHUT | OS_READABLE;
	/* A read or write is due in both cases: it says what happened. */
	if (events & EPOLLHUP)
		ready |= OS_HANGUP | OS_READABLE | OS_WRITABLE;
	if (events & EPOLLERR)
		ready |= OS_ERROR | OS_READABLE | OS_WRITABLE;
	return ready;
}

static void loop_tell(struct os_loop *loop, size_t count)
{
	/* A watch has at most one place, so removal finds it without a search. */
	for (size_t i = 0; i < count; i++)
		((struct os_watch *)loop->events[i].data.ptr)->queued = (uint32_t)i + 1;
	for (size_t i = 0; i < count; i++) {
		struct os_watch *watch = loop->events[i].data.ptr;
		unsigned now;

		if (!watch)
			continue;
		now = ready_of(loop->events[i].events);
		watch->queued = 0;
		watch->ready |= now;
		watch->on_ready(watch, now);
	}
}

/* In milliseconds, rounded up: waking early would only mean a second, useless turn. */
static int loop_wait_ms(const struct os_loop *loop, int max_wait_ms)
{
	uint64_t next_ns, now_ns, wait_ms;

	if (loop->state.runs_again)
		return 0;
	next_ns = os_wheel_next_ns(&loop->state.wheel);
	if (next_ns == UINT64_MAX)
		return max_wait_ms;
	now_ns = os_now_ns(); /* the turn may have taken a while */
	if (next_ns <= now_ns)
		return 0;
	wait_ms = (next_ns - now_ns + OS_MS - 1) / OS_MS;
	if (max_wait_ms >= 0 && wait_ms > (uint64_t)max_wait_ms)
		return max_wait_ms;
	return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

__attribute__((noinline)) int os_loop_turn(struct os_loop *loop, int max_wait_ms,
					   void (*on_turn)(void *owner), void *owner)
{
	int wait_ms = loop_wait_ms(loop, max_wait_ms);
	int count;

	loop->state.runs_again = false;
	count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_PER_TURN, wait_ms);
	if (count < 0 && errno != EINTR)
		return -errno;
	loop_read_clock(loop);
	if (count > 0)
		loop_tell(loop, (size_t)count);
	os_wheel_run(&loop->state.wheel, loop->state.now_ns);
	if (on_turn)
		on_turn(owner);
	return 0;
}
