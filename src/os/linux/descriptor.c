#include "os/linux/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int program_fd = -ENOENT;

static void on_alarm(int number)
{
	(void)number;
}

/* For os_close_guard(). What the starter did with the signal is undone. */
static int alarm_start(void)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	if (sigaction(SIGALRM, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
		return -errno;
	return 0;
}

int os_start(void)
{
	int fd;

	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || alarm_start() < 0)
		return -errno;
	/* A descriptor 1 that a listener got by accident would have logs written into it. */
	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return -errno;
	close(fd);
	for (fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_SETFD, 0) < 0)
			return -errno;
	fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	program_fd = fd;
	return 0;
}

int os_program(void)
{
	return program_fd;
}

void os_program_forget(void)
{
	os_close(program_fd);
	program_fd = -ENOENT;
}

void os_close(int fd)
{
	/* EINTR: Linux has closed it all the same. EBADF is a bug of ours: it may be somebody
	 * else's soon. */
	if (fd >= 0)
		MUST(close(fd) == 0 || errno != EBADF);
}

int os_inherited(unsigned index, int *ret_fd)
{
	int fd = index > INT32_MAX - 3 ? -1 : (int)index + 3, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int os_duplicate(int fd, int *ret_fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return -errno;
	*ret_fd = copy;
	return 0;
}

bool os_descriptor_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int count_name(void *owner, const char *name, enum os_file_type type)
{
	(void)name;
	(void)type;
	++*(int *)owner;
	return 0;
}

int os_descriptor_count(void)
{
	OS_AUTO_FD fd = -1;
	int count = 0;
	int error = os_open(OS_FOLDER_CURRENT, "/proc/self/fd", OS_OPEN_FOLDER, 0, &fd);

	if (!error)
		error = os_folder_list(fd, count_name, &count);
	return error ? error : count - 2; /* without the two that counting takes */
}

ssize_t os_read(int fd, void *buf, size_t size)
{
	ssize_t len = RETRY(read(fd, buf, size));

	return len < 0 ? -errno : len;
}

ssize_t os_receive(int fd, void *buf, size_t size)
{
	ssize_t len = RETRY(recv(fd, buf, size, MSG_DONTWAIT));

	return len < 0 ? -errno : len;
}

ssize_t os_write(int fd, const void *buf, size_t size)
{
	ssize_t len = RETRY(write(fd, buf, size));

	return len < 0 ? -errno : len;
}

ssize_t os_writev(int fd, const struct span *parts, size_t count)
{
	ssize_t len;

	if (count == 1)
		return os_write(fd, parts[0].ptr, parts[0].len);
	if (count > 64)
		count = 64;
	len = RETRY(writev(fd, (const struct iovec *)(const void *)parts, (int)count));
	return len < 0 ? -errno : len;
}

ssize_t os_peek(int fd, void *buf, size_t size)
{
	ssize_t len = RETRY(recv(fd, buf, size, MSG_PEEK | MSG_DONTWAIT));

	return len < 0 ? -errno : len;
}

bool os_is_terminal(int fd)
{
	return isatty(fd) == 1;
}
