#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/os.h"

static char path[] = "/tmp/portcullis-test-XXXXXX";
static int folder = -1;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(path))
		return -1;
	return os_open(OS_FOLDER_CURRENT, path, OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0, &folder);
}

static int count_entry(void *owner, const char *name, enum os_file_type type)
{
	(void)name;
	(void)type;
	return ++*(int *)owner == 100 ? 7 : 0;
}

static int teardown(void **state)
{
	int count = 0;

	(void)state;
	assert_int_equal(os_folder_list(folder, count_entry, &count), 0);
	assert_int_equal(count, 0); /* every case cleans up, and nothing temporary stays */
	os_close(folder);
	return rmdir(path);
}

static void test_replace_and_read(void **state)
{
	struct os_file_info before, after;
	struct arena arena;
	struct span text;
	mode_t mask = umask(0777);

	(void)state;
	arena_init(&arena, 1 << 20);
	assert_int_equal(os_file_replace(folder, "a", SPAN("old"), 0640), 0);
	umask(mask);
	assert_int_equal(os_file_info_at(folder, "a", &before), 0);
	assert_int_equal(before.mode, 0640);
	assert_int_equal(before.size, 3);
	assert_int_equal(before.type, OS_FILE_REGULAR);
	assert_int_equal(os_file_replace(folder, "a", SPAN("newer"), 0600), 0);
	assert_int_equal(os_file_info_at(folder, "a", &after), 0);
	assert_int_not_equal(before.inode, after.inode);
	assert_int_equal(os_file_read(folder, "a", 5, &arena, &text), 0);
	assert_true(span_equal(text, SPAN("newer")));
	assert_int_equal(text.ptr[5], 0);
	assert_int_equal(os_file_read(folder, "a", 4, &arena, &text), -EFBIG);
	assert_int_equal(os_file_read(folder, "b", 4, &arena, &text), -ENOENT);
	assert_int_equal(os_file_read(folder, ".", 4, &arena, &text), -EISDIR);
	/* Files that do not know their size. */
	assert_int_equal(os_file_read(folder, "/proc/self/status", 65536, &arena, &text), 0);
	assert_true(text.len > 100);
	assert_int_equal(os_file_read(folder, "/proc/self/status", 100, &arena, &text), -EFBIG);
	assert_int_equal(os_file_replace(folder, "no/such", SPAN("x"), 0600), -ENOENT);
	assert_int_equal(os_unlink(folder, "a"), 0);
	arena_fini(&arena);
}

static void test_a_pipe_is_read_to_its_end(void **state)
{
	struct arena arena;
	struct span text;
	int ends[2];

	(void)state;
	arena_init(&arena, 1 << 20);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(os_write(ends[1], "abc", 3), 3);
	os_close(ends[1]);
	assert_int_equal(os_file_read_fd(ends[0], 100, &arena, &text), 0);
	assert_true(span_equal(text, SPAN("abc")));
	os_close(ends[0]);
	arena_fini(&arena);
}

/* Copies of a descriptor share one position: each reader begins at the start all the same. */
static void test_a_file_is_read_again(void **state)
{
	struct arena arena;
	struct span text;
	int fd, copy;

	(void)state;
	arena_init(&arena, 1 << 20);
	assert_int_equal(os_memory_new("text", 0, &fd), 0);
	assert_int_equal(os_pwrite(fd, "abc", 3, 0), 3);
	assert_int_equal(os_duplicate(fd, &copy), 0);
	assert_int_equal(os_file_read_fd(copy, 100, &arena, &text), 0);
	assert_true(span_equal(text, SPAN("abc")));
	assert_int_equal(os_file_read_fd(fd, 100, &arena, &text), 0);
	assert_true(span_equal(text, SPAN("abc")));
	os_close(fd);
	os_close(copy);
	arena_fini(&arena);
}

static void test_nothing_leaves_the_folder(void **state)
{
	static const struct {
		const char *path;
		unsigned flags;
		int answer;
	} cases[] = {
		{ "in/file", 0, 0 },
		{ "in/../in/file", 0, 0 },
		{ "stay", 0, 0 },
		{ "stay", OS_OPEN_NO_SYMLINKS, -ELOOP },
		{ "stay", OS_OPEN_NO_FOLLOW, -ELOOP },
		{ "in/file/", 0, -ENOTDIR },
		{ "../etc/passwd", 0, -EXDEV },
		{ "in/../../x", 0, -EXDEV },
		{ "/etc/passwd", 0, -EXDEV },
		{ "out", 0, -EXDEV },
		{ "outfolder/passwd", 0, -EXDEV },
		{ "self", 0, -EXDEV },
		{ "loop", 0, -ELOOP },
		{ "nothing", 0, -ENOENT },
		{ "fifo", 0, 0 }, /* and does not wait for a writer */
	};
	char file[128];

	(void)state;
	assert_int_equal(os_folder_make(folder, "in/deep/er", 0755), 0);
	assert_int_equal(os_folder_make(folder, "in/deep/er", 0755), 0);
	snprintf(file, sizeof(file), "%s/in/file", path);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(os_folder_make(folder, "in/file", 0755), -ENOTDIR);
	assert_int_equal(symlinkat("in/file", folder, "stay"), 0);
	assert_int_equal(symlinkat("/etc/passwd", folder, "out"), 0);
	assert_int_equal(symlinkat("/etc", folder, "outfolder"), 0);
	assert_int_equal(symlinkat("/proc/self/root", folder, "self"), 0);
	assert_int_equal(symlinkat("loop", folder, "loop"), 0);
	assert_int_equal(mkfifoat(folder, "fifo", 0600), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = -1, answer = os_open(folder, cases[i].path,
					      cases[i].flags | OS_OPEN_BENEATH, 0, &fd);

		if (answer != cases[i].answer)
			fail_msg("%s: %d", cases[i].path, answer);
		os_close(fd);
	}
	{
		const char *const names[] = { "stay", "out",  "outfolder", "self",
					      "loop", "fifo", "in/file" };
		struct arena arena;
		struct span target;

		arena_init(&arena, 65536);
		assert_int_equal(os_link_read(folder, "out", &arena, &target), 0);
		assert_true(span_equal(target, SPAN("/etc/passwd")));
		assert_int_equal(os_link_read(folder, "in/file", &arena, &target), -EINVAL);
		assert_int_equal(os_path_of(folder, &arena, &target), 0);
		assert_true(span_equal(target, span_str(path)));
		arena_fini(&arena);
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			assert_int_equal(os_unlink(folder, names[i]), 0);
	}
	assert_int_equal(os_unlink_folder(folder, "in"), -ENOTEMPTY);
	assert_int_equal(os_unlink_folder(folder, "in/deep/er"), 0);
	assert_int_equal(os_unlink_folder(folder, "in/deep"), 0);
	assert_int_equal(os_unlink_folder(folder, "in"), 0);
}

static void test_handles(void **state)
{
	int file, handle;
	struct os_file_info info;

	(void)state;
	assert_int_equal(os_open(folder, "h", OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE,
				 0600, &file),
			 0);
	assert_int_equal(os_open(folder, "h", OS_OPEN_HANDLE | OS_OPEN_BENEATH, 0, &handle), 0);
	assert_int_equal(os_file_mode(handle, 0644), 0);
	assert_int_equal(os_file_owner(handle, UINT32_MAX, UINT32_MAX), 0);
	assert_int_equal(os_file_info(handle, &info), 0);
	assert_int_equal(info.mode, 0644);
	assert_int_equal(os_pwrite(file, "abc", 3, 10), 3);
	assert_int_equal(os_file_truncate(file, 11), 0);
	assert_int_equal(os_file_info(handle, &info), 0);
	assert_int_equal(info.size, 11);
	/* Room for what is to come changes nothing that can be read. */
	assert_int_equal(os_file_reserve(file, 11, 4096), 0);
	assert_int_equal(os_file_info(handle, &info), 0);
	assert_int_equal(info.size, 11);
	assert_true(info.mtime_ns > (int64_t)(os_wall_ns() - 60 * OS_SECOND));
	os_close(file);
	os_close(handle);
	assert_int_equal(os_unlink(folder, "h"), 0);
}

static void test_cached_reads(void **state)
{
	char buf[8];
	ssize_t len;
	int fd;

	(void)state;
	assert_int_equal(os_file_replace(folder, "c", SPAN("cached"), 0600), 0);
	assert_int_equal(os_open(folder, "c", OS_OPEN_READ, 0, &fd), 0);
	assert_int_equal(os_pread(fd, buf, sizeof(buf), 2), 4);
	len = os_pread_cached(fd, buf, sizeof(buf), 2);
	assert_true(len == 4 || len == -EOPNOTSUPP);
	os_close(fd);
	assert_int_equal(os_unlink(folder, "c"), 0);
}

static void test_locks(void **state)
{
	int first, second, reader, copy;

	(void)state;
	assert_int_equal(os_open(folder, "lock", OS_OPEN_READ_WRITE | OS_OPEN_CREATE, 0600, &first),
			 0);
	assert_int_equal(os_open(folder, "lock", OS_OPEN_READ_WRITE, 0, &second), 0);
	assert_int_equal(os_open(folder, "lock", OS_OPEN_READ, 0, &reader), 0);
	assert_int_equal(os_lock_is_held(reader, 0), 0);
	assert_int_equal(os_lock_take(first, 0), 0);
	assert_int_equal(os_lock_take(first, 0), 0);
	assert_int_equal(os_lock_take(second, 0), -EAGAIN);
	assert_int_equal(os_lock_take(second, 1), 0);
	assert_int_equal(os_lock_is_held(reader, 0), 1);
	assert_int_equal(os_lock_is_held(reader, 1), 1);
	assert_int_equal(os_lock_is_held(reader, 2), 0);
	assert_int_equal(os_lock_is_held(first, 0), 0); /* by another */
	assert_int_equal(os_lock_release(second, 1), 0);
	assert_int_equal(os_lock_is_held(reader, 1), 0);
	/* Closing another descriptor of the file loses nothing; the last copy of this one does. */
	os_close(second);
	assert_int_equal(os_lock_is_held(reader, 0), 1);
	assert_int_equal(os_duplicate(first, &copy), 0);
	os_close(first);
	assert_int_equal(os_lock_is_held(reader, 0), 1);
	os_close(copy);
	assert_int_equal(os_lock_is_held(reader, 0), 0);
	os_close(reader);
	assert_int_equal(os_unlink(folder, "lock"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_and_read),
		cmocka_unit_test(test_a_pipe_is_read_to_its_end),
		cmocka_unit_test(test_a_file_is_read_again),
		cmocka_unit_test(test_nothing_leaves_the_folder),
		cmocka_unit_test(test_handles),
		cmocka_unit_test(test_cached_reads),
		cmocka_unit_test(test_locks),
	};

	return os_start() ? 1 : cmocka_run_group_tests(tests, setup, teardown);
}
