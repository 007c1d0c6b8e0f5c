#include "os/linux/internal.h"

#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

_Static_assert(sizeof(struct termios) <= sizeof(((struct os_terminal *)0)->saved),
	       "the settings have room");

int os_terminal_keys(int fd, struct os_terminal *ret_terminal)
{
	struct termios settings;

	if (tcgetattr(fd, &settings) < 0)
		return -errno;
	memcpy(ret_terminal->saved, &settings, sizeof(settings));
	ret_terminal->fd = fd;
	settings.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	settings.c_cc[VMIN] = 1;
	settings.c_cc[VTIME] = 0;
	/* Stopped, it would leave the shell without echo. */
	settings.c_cc[VSUSP] = _POSIX_VDISABLE;
	return tcsetattr(fd, TCSANOW, &settings) < 0 ? -errno : 0;
}

void os_terminal_restore(const struct os_terminal *terminal)
{
	struct termios settings;

	memcpy(&settings, terminal->saved, sizeof(settings));
	(void)tcsetattr(terminal->fd, TCSANOW, &settings);
}

int os_terminal_size(int fd, unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size = { 0 };

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return -errno;
	if (!size.ws_col || !size.ws_row)
		return -ENOTTY;
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
	return 0;
}
