#include "os/linux/internal.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void signals_on_ready(struct os_watch *watch, unsigned now)
{
	struct os_signals *signals = CONTAINER_OF(watch, struct os_signals, watch);
	struct signalfd_siginfo info;

	(void)now;
	/* on_signal may close it: then there is nothing left to read from. */
	while (os_watch_is_added(watch) && os_read(watch->fd, &info, sizeof(info)) == sizeof(info))
		signals->on_signal(signals, (int)info.ssi_signo, (int)info.ssi_pid);
	watch->ready = 0;
}

int os_signals_watch(struct os_loop *loop, struct os_signals *signals, const int *numbers,
		     size_t count)
{
	sigset_t set;
	int fd, error;

	sigemptyset(&set);
	for (size_t i = 0; i < count; i++)
		MUST(sigaddset(&set, numbers[i]) == 0);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	signals->watch.on_ready = signals_on_ready;
	error = os_watch_add(loop, &signals->watch, fd, OS_WATCH_EDGE);
	if (error)
		close(fd);
	return error;
}

void os_signals_close(struct os_signals *signals)
{
	int fd = signals->watch.fd;

	if (!os_watch_is_added(&signals->watch))
		return;
	os_watch_remove(&signals->watch);
	close(fd);
}

int os_event_new(int *ret_fd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

void os_event_signal(int fd)
{
	uint64_t one = 1;

	/* -EAGAIN: the counter is full, so it is signalled. */
	(void)!write(fd, &one, sizeof(one));
}

bool os_event_take(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}
