#include "os/linux/internal.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct span) == sizeof(struct iovec) &&
		       offsetof(struct span, ptr) == offsetof(struct iovec, iov_base) &&
		       offsetof(struct span, len) == offsetof(struct iovec, iov_len),
	       "spans are handed to the kernel as they are");

/* Room for the descriptors of one packet, aligned for a cmsghdr. A peer that sends more than fit is
 * truncated by the kernel, which closes the rest. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(OS_PACKET_DESCRIPTORS_MAX * sizeof(int))];
};

/* A signal ends the wait; SIGALRM has a handler (os_start). Again and again, since it may come before the wait begins. */
void os_close_guard(bool is_on)
{
	const struct timeval tick = { .tv_usec = is_on ? 1000 : 0 };
	const struct itimerval timer = { tick, tick };

	(void)!setitimer(ITIMER_REAL, &timer, NULL);
}

int os_packet_pair(int ret_fds[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
		return -errno;
	return 0;
}

int os_packet_buffer(int fd, size_t bytes)
{
	int value = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;

	/* FORCE goes beyond the machine's wmem_max; it takes CAP_NET_ADMIN. The receiver's side is
	 * charged to the sender on unix sockets: SO_SNDBUF alone counts. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &value, sizeof(value)) == 0)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) < 0 ? -errno : 0;
}

static void message_of(const struct os_packet_out *packet, struct msghdr *message,
		       union control *control)
{
	size_t bytes = packet->descriptor_count * sizeof(int);

	MUST(packet->part_count <= OS_PACKET_PARTS_MAX);
	MUST(packet->descriptor_count <= OS_PACKET_DESCRIPTORS_MAX);
	*message = (struct msghdr){
		.msg_iov = (struct iovec *)(uintptr_t)packet->parts,
		.msg_iovlen = packet->part_count,
	};
	if (!bytes)
		return;
	memset(control, 0, sizeof(*control));
	control->header.cmsg_level = SOL_SOCKET;
	control->header.cmsg_type = SCM_RIGHTS;
	control->header.cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(&control->header), packet->descriptors, bytes);
	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(bytes);
}

int os_packet_send(int fd, const struct os_packet_out *packet)
{
	struct msghdr message;
	union control control;

	message_of(packet, &message, &control);
	return RETRY(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 ? -errno : 0;
}

int os_packet_send_many(int fd, const struct os_packet_out *packets, size_t count)
{
	struct mmsghdr messages[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	union control controls[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	int sent;

	if (count > OS_PACKET_BATCH_MAX)
		count = OS_PACKET_BATCH_MAX;
	for (size_t i = 0; i < count; i++)
		message_of(&packets[i], &messages[i].msg_hdr, &controls[i]);
	sent = RETRY(sendmmsg(fd, messages, (unsigned)count, MSG_NOSIGNAL | MSG_DONTWAIT));
	return sent < 0 ? -errno : sent;
}

/* All control messages are walked: a peer may send several, and whoever is not looked at leaks. */
static void take_descriptors(struct msghdr *message, struct os_packet_in *packet)
{
	packet->descriptor_count = 0;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		size_t count;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
			if (packet->descriptor_count < OS_PACKET_DESCRIPTORS_MAX) {
				packet->descriptors[packet->descriptor_count++] = fd;
			} else {
				close(fd);
				packet->is_truncated = true;
			}
		}
	}
}

static void packet_take(struct msghdr *message, size_t len, struct os_packet_in *packet)
{
	packet->len = len;
	packet->is_truncated = (message->msg_flags & MSG_TRUNC) != 0;
	take_descriptors(message, packet);
	/* Fewer than there is room for: we have no descriptor left, which is not the sender's fault. */
	if (message->msg_flags & MSG_CTRUNC &&
	    packet->descriptor_count >= OS_PACKET_DESCRIPTORS_MAX)
		packet->is_truncated = true;
}

int os_packet_receive(int fd, struct os_packet_in *ret_packet)
{
	struct iovec part = { .iov_base = ret_packet->buf, .iov_len = ret_packet->size };
	union control control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len = RETRY(recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));

	if (len < 0)
		return -errno;
	packet_take(&message, (size_t)len, ret_packet);
	/* An empty packet with descriptors is nobody's end, but not in our language either. */
	return len > 0 || ret_packet->descriptor_count > 0;
}

int os_packet_receive_many(int fd, struct os_packet_in *ret_packets, size_t count)
{
	struct mmsghdr messages[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	struct iovec parts[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	union control controls[OS_PACKET_BATCH_MAX] UNINITIALIZED;
	int received, useful = 0;

	if (count > OS_PACKET_BATCH_MAX)
		count = OS_PACKET_BATCH_MAX;
	for (size_t i = 0; i < count; i++) {
		parts[i] = (struct iovec){ ret_packets[i].buf, ret_packets[i].size };
		messages[i].msg_hdr = (struct msghdr){
			.msg_iov = &parts[i],
			.msg_iovlen = 1,
			.msg_control = &controls[i],
			.msg_controllen = sizeof(controls[i]),
		};
	}
	received = RETRY(
		recvmmsg(fd, messages, (unsigned)count, MSG_CMSG_CLOEXEC | MSG_DONTWAIT, NULL));
	if (received < 0)
		return -errno;
	/* At the end every further message is empty: none of them was sent. */
	for (int i = 0; i < received; i++) {
		packet_take(&messages[i].msg_hdr, messages[i].msg_len, &ret_packets[i]);
		if (ret_packets[i].len == 0 && ret_packets[i].descriptor_count == 0)
			break;
		useful = i + 1;
	}
	return useful;
}
