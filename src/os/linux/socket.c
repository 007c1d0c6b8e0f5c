#include "os/linux/internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { KEEPALIVE_IDLE_S = 120, UNSENT_MAX = 128 * 1024 };

static int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int os_socket_nodelay(int fd)
{
	return option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

int os_socket_keepalive(int fd, unsigned idle_s)
{
	int error = option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);

	return error ? error : option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s);
}

int os_socket_unsent_max(int fd, unsigned bytes)
{
	return option_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)bytes);
}

int os_socket_linger_none(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ? -errno : 0;
}

int os_socket_linger_default(int fd)
{
	struct linger linger = { .l_onoff = 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ? -errno : 0;
}

/* ---- Listening ----------------------------------------------------------------------------- */

static int bind_new(const struct os_address *address, unsigned flags, int *ret_fd)
{
	struct sockaddr_storage native;
	socklen_t len = os_address_to_native(address, &native);
	OS_AUTO_FD fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	error = option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!error && flags & OS_LISTEN_REUSEPORT)
		error = option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (!error && native.ss_family == AF_INET6)
		error = option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, address->family == OS_FAMILY_V6);
	if (error)
		return error;
	if (bind(fd, (struct sockaddr *)&native, len) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Both families on one socket; a machine that was booted without IPv6 gets v4 alone. */
static int bind_any(const struct os_address *address, unsigned flags, int *ret_fd)
{
	struct os_address v4 = { .family = OS_FAMILY_V4, .port = address->port };
	int error = bind_new(address, flags, ret_fd);

	if (address->family == OS_FAMILY_BOTH &&
	    (error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL))
		return bind_new(&v4, flags, ret_fd);
	return error;
}

int os_listen(const struct os_address *address, unsigned flags, int backlog, int *ret_fd)
{
	OS_AUTO_FD fd = -1;
	int error;

	MUST(address->family != OS_FAMILY_UNIX);
	error = bind_any(address, flags, &fd);
	if (!error)
		error = os_socket_nodelay(fd);
	if (!error)
		error = os_socket_keepalive(fd, KEEPALIVE_IDLE_S);
	if (!error)
		error = os_socket_unsent_max(fd, UNSENT_MAX);
	if (error)
		return error;
	if (listen(fd, backlog) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int os_listen_probe(const struct os_address *address)
{
	OS_AUTO_FD fd = -1;

	return bind_any(address, 0, &fd);
}

/* A path relative to a folder: sun_path has 107 bytes, and the folder may lie behind others that
 * may not be entered. /proc/self/fd/N leads straight to it. */
static int packets_address(int folder_fd, const char *name, struct sockaddr_un *ret_native)
{
	int len;

	*ret_native = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (folder_fd == OS_FOLDER_CURRENT)
		len = snprintf(ret_native->sun_path, sizeof(ret_native->sun_path), "%s", name);
	else
		len = snprintf(ret_native->sun_path, sizeof(ret_native->sun_path),
			       "/proc/self/fd/%d/%s", folder_fd, name);
	return len < 0 || (size_t)len >= sizeof(ret_native->sun_path) ? -ENAMETOOLONG : 0;
}

int os_listen_packets(int folder_fd, const char *name, unsigned mode, int *ret_fd)
{
	OS_AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un native;
	int error;

	if (fd < 0)
		return -errno;
	error = packets_address(folder_fd, name, &native);
	if (error)
		return error;
	if (unlinkat(folder_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	/* The mode of the descriptor is that of the file to be: there is no moment at which it is
	 * wider. */
	if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&native, sizeof(native)) < 0)
		return -errno;
	if (fchmodat(folder_fd, name, mode, 0) < 0 || listen(fd, 128) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int os_accept(int fd, int *ret_fd, struct os_address *ret_peer)
{
	struct sockaddr_storage native = { 0 };
	socklen_t len = sizeof(native);
	int accepted;

	do {
		len = sizeof(native);
		accepted =
			accept4(fd, (struct sockaddr *)&native, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		/* accept(2): pending network errors of the new socket come out here and mean "the
		 * next". */
	} while (accepted < 0 &&
		 (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == ENETDOWN ||
		  errno == EHOSTDOWN || errno == EHOSTUNREACH || errno == ENETUNREACH ||
		  errno == ENONET || errno == ENOPROTOOPT));
	if (accepted < 0)
		return -errno;
	if (ret_peer && os_address_from_native(&native, len, ret_peer) < 0)
		*ret_peer = (struct os_address){ .family = OS_FAMILY_UNIX };
	*ret_fd = accepted;
	return 0;
}

/* ---- Connecting ---------------------------------------------------------------------------- */

int os_connect(const struct os_address *address, int *ret_fd)
{
	struct sockaddr_storage native;
	socklen_t len = os_address_to_native(address, &native);
	OS_AUTO_FD fd = -1;

	if (address->family == OS_FAMILY_BOTH)
		return -EINVAL;
	fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (address->family != OS_FAMILY_UNIX) {
		int error = os_socket_nodelay(fd);

		if (!error)
			error = os_socket_unsent_max(fd, UNSENT_MAX);
		if (error)
			return error;
	}
	if (connect(fd, (struct sockaddr *)&native, len) < 0 && errno != EINPROGRESS &&
	    errno != EINTR)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int os_connect_packets(int folder_fd, const char *name, int *ret_fd)
{
	OS_AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un native;
	int error;

	if (fd < 0)
		return -errno;
	error = packets_address(folder_fd, name, &native);
	if (error)
		return error;
	if (RETRY(connect(fd, (struct sockaddr *)&native, sizeof(native))) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* An abstract name is as long as the address says: no byte may follow it. */
static int datagrams_address(const char *path, struct sockaddr_un *native, socklen_t *ret_size)
{
	size_t len = strlen(path);

	*ret_size = sizeof(*native);
	if (path[0] != '@')
		return packets_address(OS_FOLDER_CURRENT, path, native);
	if (len > sizeof(native->sun_path))
		return -ENAMETOOLONG;
	*native = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(native->sun_path + 1, path + 1, len - 1);
	*ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return 0;
}

int os_connect_datagrams(const char *path, int *ret_fd)
{
	OS_AUTO_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un native;
	socklen_t size;
	int error;

	if (fd < 0)
		return -errno;
	error = datagrams_address(path, &native, &size);
	if (error)
		return error;
	if (RETRY(connect(fd, (struct sockaddr *)&native, size)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- Asking -------------------------------------------------------------------------------- */

int os_socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

int os_socket_local(int fd, struct os_address *ret_address)
{
	struct sockaddr_storage native = { 0 };
	socklen_t len = sizeof(native);

	if (getsockname(fd, (struct sockaddr *)&native, &len) < 0)
		return -errno;
	return os_address_from_native(&native, len, ret_address);
}

int os_socket_peer(int fd, struct os_address *ret_address)
{
	struct sockaddr_storage native = { 0 };
	socklen_t len = sizeof(native);

	if (getpeername(fd, (struct sockaddr *)&native, &len) < 0)
		return -errno;
	return os_address_from_native(&native, len, ret_address);
}

int os_socket_credentials(int fd, int *ret_pid, uint32_t *ret_uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	*ret_pid = peer.pid;
	*ret_uid = peer.uid;
	return 0;
}

bool os_is_listening(int fd)
{
	int is_listening = 0;
	socklen_t len = sizeof(is_listening);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) == 0 && is_listening;
}

int os_shutdown(int fd, enum os_half half)
{
	static const int how[] = {
		[OS_HALF_READ] = SHUT_RD,
		[OS_HALF_WRITE] = SHUT_WR,
		[OS_HALF_BOTH] = SHUT_RDWR,
	};

	return shutdown(fd, how[half]) < 0 ? -errno : 0;
}
