#include "os/linux/internal.h"

#include <poll.h>
#include <sched.h>
#include <time.h>

#ifdef PORTCULLIS_TEST_CLOCK
static int64_t moved_monotonic_ns, moved_wall_ns;

void os_clock_move(int64_t monotonic_ns, int64_t wall_ns)
{
	moved_monotonic_ns += monotonic_ns;
	moved_wall_ns += wall_ns;
}
#else
enum { moved_monotonic_ns = 0, moved_wall_ns = 0 };
#endif

static uint64_t clock_read(clockid_t clock, int64_t moved_ns)
{
	struct timespec time;

	MUST(clock_gettime(clock, &time) == 0);
	return (uint64_t)time.tv_sec * OS_SECOND + (uint64_t)time.tv_nsec + (uint64_t)moved_ns;
}

uint64_t os_now_ns(void)
{
	return clock_read(CLOCK_MONOTONIC, moved_monotonic_ns);
}

uint64_t os_wall_ns(void)
{
	return clock_read(CLOCK_REALTIME, moved_wall_ns);
}

void os_sleep_ms(unsigned duration_ms)
{
	struct timespec left = {
		.tv_sec = duration_ms / 1000,
		.tv_nsec = (long)(duration_ms % 1000) * 1000000,
	};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

void os_yield(void)
{
	sched_yield();
}

int os_wait(int fd, unsigned wanted, int timeout_ms)
{
	struct pollfd poll_fd = {
		.fd = fd,
		.events = (short)((wanted & OS_READABLE ? POLLIN : 0) |
				  (wanted & OS_WRITABLE ? POLLOUT : 0)),
	};
	uint64_t until_ns = os_now_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0) * OS_MS;

	for (;;) {
		int count = poll(&poll_fd, 1, timeout_ms);
		uint64_t now_ns;

		if (count > 0)
			return poll_fd.revents & POLLNVAL ? -EBADF : 0;
		if (count == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
		now_ns = os_now_ns();
		if (timeout_ms > 0)
			timeout_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / OS_MS) : 0;
	}
}
