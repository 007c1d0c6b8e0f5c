#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proc/manager.h"

/* The manager's end: a datagram socket of an abstract name, or of a path. */
static int listen_at(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(name.sun_path, path, strlen(path));
	if (path[0] == '@') {
		name.sun_path[0] = '\0';
		size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	}
	assert_int_equal(bind(fd, (struct sockaddr *)&name, size), 0);
	return fd;
}

/* The next datagram; *ret_fd is what came with it, or -1. "" where there is none. */
static const char *next(int fd, int *ret_fd)
{
	static char text[2048];
	struct os_packet_in packet = { .buf = text, .size = sizeof(text) - 1 };

	if (ret_fd)
		*ret_fd = -1;
	if (os_packet_receive(fd, &packet) <= 0)
		return "";
	text[packet.len] = '\0';
	if (packet.descriptor_count && ret_fd)
		*ret_fd = packet.descriptors[0];
	else if (packet.descriptor_count)
		close(packet.descriptors[0]);
	return text;
}

static void clear(void)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
					     "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
}

static void set_number(const char *name, int number)
{
	char text[24];

	snprintf(text, sizeof(text), "%d", number);
	setenv(name, text, 1);
}

static uint64_t inode_of(int fd)
{
	struct stat info;

	assert_int_equal(fstat(fd, &info), 0);
	return info.st_ino;
}

static void test_nobody_is_told_without_a_manager(void **state)
{
	struct manager manager;
	char name[MANAGER_NAME_MAX];
	int fd;

	(void)state;
	clear();
	setenv("NOTIFY_SOCKET", "relative", 1); /* neither a path nor an abstract name */
	manager_open(&manager);
	manager_tell(&manager, "READY=1");
	manager_keep(&manager, "one", 0);
	manager_turn(&manager, OS_SECOND);
	assert_int_equal(manager.queue_count, 0);
	assert_int_equal(manager.kept_count, 0);
	assert_int_equal(manager_next(&manager, name, &fd), -ENOENT);
	manager_close(&manager);
}

static void test_words_and_watchdog(const char *path)
{
	int other = listen_at(path);
	struct manager manager;

	clear();
	setenv("NOTIFY_SOCKET", path, 1);
	setenv("WATCHDOG_USEC", "4000000", 1);
	set_number("WATCHDOG_PID", getpid());
	manager_open(&manager);
	manager_tell(&manager, "READY=1\nMAINPID=%d", 17);
	assert_string_equal(next(other, NULL), "READY=1\nMAINPID=17");
	manager_turn(&manager, 100 * OS_SECOND);
	assert_string_equal(next(other, NULL), "WATCHDOG=1");
	manager_turn(&manager, 100 * OS_SECOND + OS_SECOND / 2);
	assert_string_equal(next(other, NULL), "");
	manager_turn(&manager, 101 * OS_SECOND);
	assert_string_equal(next(other, NULL), "WATCHDOG=1");
	manager_close(&manager);
	set_number("WATCHDOG_PID", getpid() + 1); /* somebody else's */
	manager_open(&manager);
	manager_turn(&manager, 100 * OS_SECOND);
	assert_string_equal(next(other, NULL), "");
	manager_close(&manager);
	close(other);
}

static void test_abstract_and_path(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "@portcullis-test-%d", getpid());
	test_words_and_watchdog(path);
	snprintf(path, sizeof(path), "/tmp/portcullis-test-%d", getpid());
	test_words_and_watchdog(path);
	unlink(path);
}

/* Nothing is lost and nothing changes its order while the manager does not read, or is away. */
static void test_what_does_not_fit_waits(void **state)
{
	char path[64], wanted[32];
	struct manager manager;
	int other;

	(void)state;
	clear();
	snprintf(path, sizeof(path), "@portcullis-test-%d-full", getpid());
	setenv("NOTIFY_SOCKET", path, 1);
	manager_open(&manager);
	for (int i = 0; i < 1000; i++)
		manager_tell(&manager, "X=%d", i);
	assert_int_equal(manager.queue_count, 1000);
	other = listen_at(path);
	manager_turn(&manager, OS_SECOND);
	assert_true(manager.queue_count > 0); /* the kernel takes fewer at a time */
	for (int i = 0; i < 1000; i++) {
		const char *text = next(other, NULL);

		if (!text[0]) {
			manager_turn(&manager, OS_SECOND);
			text = next(other, NULL);
		}
		snprintf(wanted, sizeof(wanted), "X=%d", i);
		assert_string_equal(text, wanted);
	}
	/* It is started anew. */
	close(other);
	manager_tell(&manager, "A=1");
	other = listen_at(path);
	manager_turn(&manager, OS_SECOND);
	assert_string_equal(next(other, NULL), "A=1");
	close(other);
	for (int i = 0; i < MANAGER_QUEUE_MAX + 10; i++)
		manager_tell(&manager, "X=%d", i);
	assert_int_equal(manager.queue_count, MANAGER_QUEUE_MAX);
	manager_close(&manager);
}

static void test_the_store(void **state)
{
	char path[64];
	struct manager manager;
	int other, pair[2], fd;

	(void)state;
	clear();
	snprintf(path, sizeof(path), "@portcullis-test-%d-store", getpid());
	other = listen_at(path);
	setenv("NOTIFY_SOCKET", path, 1);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	manager_open(&manager);
	manager_keep(&manager, "one", pair[0]);
	assert_string_equal(next(other, &fd), "FDSTORE=1\nFDNAME=one\nFDPOLL=0");
	assert_true(fd >= 0);
	assert_int_equal(inode_of(fd), inode_of(pair[0]));
	close(fd);
	manager_keep(&manager, "one", pair[0]); /* the same again: nothing */
	assert_string_equal(next(other, NULL), "");
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	manager_keep(&manager, "one", pair[0]); /* another: instead of the first */
	assert_string_equal(next(other, NULL), "FDSTOREREMOVE=1\nFDNAME=one");
	assert_string_equal(next(other, NULL), "FDSTORE=1\nFDNAME=one\nFDPOLL=0");
	manager_forget(&manager, "two");
	assert_string_equal(next(other, NULL), "");
	manager_forget_old(&manager);
	assert_string_equal(next(other, NULL), "");
	manager_forget_all(&manager);
	assert_string_equal(next(other, NULL), "FDSTOREREMOVE=1\nFDNAME=one");
	assert_string_equal(next(other, NULL), "");
	manager_close(&manager);
	close(pair[0]);
	close(pair[1]);
	close(other);
}

/* In a child whose descriptors behind standard error are the test's. */
static void inherit(int other)
{
	struct manager manager;
	char name[MANAGER_NAME_MAX];
	int fd;

	set_number("LISTEN_PID", getpid());
	setenv("LISTEN_FDS", "4", 1);
	setenv("LISTEN_FDNAMES", "one:two:two:three", 1);
	manager_open(&manager);
	assert_int_equal(manager_next(&manager, name, &fd), 0);
	assert_string_equal(name, "one");
	assert_int_equal(fd, 3);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(manager_next(&manager, name, &fd), 0);
	assert_string_equal(name, "two");
	assert_int_equal(manager_next(&manager, name, &fd), 0);
	assert_string_equal(name, "two");
	assert_int_equal(fd, 5);
	assert_int_equal(manager_next(&manager, name, &fd), 0);
	assert_string_equal(name, "three");
	assert_int_equal(manager_next(&manager, name, &fd), -ENOENT);
	manager_keep(&manager, "one", 3);
	assert_string_equal(next(other, NULL), "");
	/* Two lay there under one name: there is one again. */
	manager_keep(&manager, "two", 4);
	assert_string_equal(next(other, NULL), "FDSTOREREMOVE=1\nFDNAME=two");
	assert_string_equal(next(other, NULL), "FDSTORE=1\nFDNAME=two\nFDPOLL=0");
	manager_forget_old(&manager);
	assert_string_equal(next(other, NULL), "FDSTOREREMOVE=1\nFDNAME=three");
	assert_string_equal(next(other, NULL), "");
	manager_close(&manager);
	/* Those of another process are left alone. */
	set_number("LISTEN_PID", getpid() + 1);
	manager_open(&manager);
	assert_int_equal(manager_next(&manager, name, &fd), -ENOENT);
	manager_close(&manager);
}

static void test_what_was_kept_comes_back(void **state)
{
	char path[64];
	int other = -1, pair[2];

	(void)state;
	clear();
	snprintf(path, sizeof(path), "@portcullis-test-%d-back", getpid());
	setenv("NOTIFY_SOCKET", path, 1);
	other = fcntl(listen_at(path), F_DUPFD_CLOEXEC, 20);
	for (int fd = 3; fd < 20; fd++)
		close(fd);
	for (int fd = 3; fd < 7; fd += 2) {
		assert_int_equal(pipe(pair), 0);
		assert_int_equal(pair[0], fd);
	}
	inherit(other);
	for (int fd = 3; fd < 30; fd++)
		close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_is_told_without_a_manager),
		cmocka_unit_test(test_abstract_and_path),
		cmocka_unit_test(test_what_does_not_fit_waits),
		cmocka_unit_test(test_the_store),
		cmocka_unit_test(test_what_was_kept_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
