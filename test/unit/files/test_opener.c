#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/files.h"

enum { ROOT = 7, BIG = FILES_INLINE_MAX + 1 };

/* In a folder that `setup` makes: root/ is the root, secret lies beside it. */
static const struct {
	const char *path;
	enum ipc_open_status status;
	const char *name, *text; /* text NULL: a descriptor */
} cases[] = {
	{ "/page.html", IPC_OPEN_DOCUMENT, "page.html", "<p>" },
	{ "/", IPC_OPEN_DOCUMENT, "index.html", "index" },
	{ "/empty", IPC_OPEN_DOCUMENT, "empty", "" },
	{ "/sub/", IPC_OPEN_DOCUMENT, "index.html", "sub index" },
	{ "/sub/deep.css", IPC_OPEN_DOCUMENT, "deep.css", "css" },
	{ "/sub", IPC_OPEN_FOLDER_WITHOUT_SLASH, "", "" },
	{ "/bare", IPC_OPEN_FOLDER_WITHOUT_SLASH, "", "" },
	{ "/bare/", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/odd/", IPC_OPEN_NOT_FOUND, "", "" }, /* its index.html is a folder */
	{ "/page.html/", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/page.html/x", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/absent", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/exact", IPC_OPEN_DOCUMENT, "exact", "16384" },
	{ "/big", IPC_OPEN_DOCUMENT, "big", NULL },
	{ "/in", IPC_OPEN_DOCUMENT, "in", "<p>" },         /* symlinks: to page.html, */
	{ "/sub/up", IPC_OPEN_DOCUMENT, "up", "<p>" },     /* to ../page.html, */
	{ "/out", IPC_OPEN_NOT_FOUND, "", "" },            /* to ../secret, */
	{ "/outside/secret", IPC_OPEN_NOT_FOUND, "", "" }, /* to .. */
	{ "/absolute", IPC_OPEN_NOT_FOUND, "", "" },       /* to /etc/passwd */
	{ "/loop", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/dangling", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/../secret", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/sub/../../secret", IPC_OPEN_NOT_FOUND, "", "" },
	{ "//etc/passwd", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/.hidden", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/.git/config", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/sub/.env", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/fifo", IPC_OPEN_NOT_FOUND, "", "" },
	{ "/device", IPC_OPEN_NOT_FOUND, "", "" }, /* a symlink to /dev/zero */
	{ "/name with blank", IPC_OPEN_DOCUMENT, "name with blank", "blank" },
	{ "", IPC_OPEN_NOT_FOUND, "", "" },
	{ "page.html", IPC_OPEN_NOT_FOUND, "", "" },
};

static char folder[] = "/tmp/files-test-XXXXXX";

static void put(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
}

static int setup(void **state)
{
	static char zeroes[BIG];
	int ends;

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	put("secret", "secret", 6);
	ends = mkdir("root", 0755) | chdir("root") | mkdir("sub", 0755) | mkdir("bare", 0755) |
	       mkdir("odd", 0755) | mkdir("odd/index.html", 0755) | mkdir(".git", 0755) |
	       mkfifo("fifo", 0644);
	assert_int_equal(ends, 0);
	put("page.html", "<p>", 3);
	put("index.html", "index", 5);
	put("empty", "", 0);
	put("sub/index.html", "sub index", 9);
	put("sub/deep.css", "css", 3);
	put("exact", zeroes, FILES_INLINE_MAX);
	put("big", zeroes, BIG);
	put(".hidden", "x", 1);
	put(".git/config", "x", 1);
	put("sub/.env", "x", 1);
	put("name with blank", "blank", 5);
	ends = symlink("page.html", "in") | symlink("../page.html", "sub/up") |
	       symlink("../secret", "out") | symlink("..", "outside") |
	       symlink("/etc/passwd", "absolute") | symlink("loop", "loop") |
	       symlink("nowhere", "dangling") | symlink("/dev/zero", "device");
	assert_int_equal(ends, 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "page.html",
					     "index.html",
					     "empty",
					     "sub/index.html",
					     "sub/deep.css",
					     "exact",
					     "big",
					     ".hidden",
					     ".git/config",
					     "sub/.env",
					     "name with blank",
					     "in",
					     "sub/up",
					     "out",
					     "outside",
					     "absolute",
					     "loop",
					     "dangling",
					     "device",
					     "fifo",
					     "../secret",
					     "changing" };
	static const char *const folders[] = { "sub", "bare", "odd/index.html", "odd", ".git" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(names[i]);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++)
		rmdir(folders[i]);
	assert_int_equal(chdir("/"), 0);
	char root[64];

	snprintf(root, sizeof(root), "%s/root", folder);
	assert_int_equal(rmdir(root), 0);
	assert_int_equal(rmdir(folder), 0);
	return 0;
}

static struct files_opener *opener_new(void)
{
	struct files_opener *opener;
	int fd;

	assert_int_equal(files_opener_new(&opener), 0);
	assert_int_equal(os_open(OS_FOLDER_CURRENT, ".", OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0, &fd),
			 0);
	assert_int_equal(files_opener_add_root(opener, ROOT, fd, SPAN("root")), 0);
	return opener;
}

static void check_case(struct files_opener *opener, size_t i)
{
	struct files_answer answer;
	char buf[FILES_INLINE_MAX];
	struct span text;

	files_open(opener, ROOT, span_str(cases[i].path), buf, &answer);
	if (answer.opened.status != cases[i].status)
		fail_msg("%s: status %u", cases[i].path, answer.opened.status);
	if (!span_equal(answer.name, span_str(cases[i].name)))
		fail_msg("%s: name %.*s", cases[i].path, SPAN_ARG(answer.name));
	if (!cases[i].text) {
		assert_true(answer.fd >= 0);
		assert_int_equal(answer.opened.size, BIG);
		os_close(answer.fd);
		return;
	}
	assert_int_equal(answer.fd, -1);
	text = span_str(cases[i].text);
	if (span_equal(text, SPAN("16384")))
		assert_int_equal(answer.bytes.len, FILES_INLINE_MAX);
	else if (!span_equal(answer.bytes, text))
		fail_msg("%s: bytes %.*s", cases[i].path, SPAN_ARG(answer.bytes));
	assert_int_equal(answer.opened.size, answer.bytes.len);
}

static void test_cases(void **state)
{
	struct files_opener *opener = opener_new();
	int before = os_descriptor_count();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check_case(opener, i);
	assert_int_equal(os_descriptor_count(), before);
	files_opener_free(opener);
}

static void test_paths_that_are_no_strings(void **state)
{
	struct files_opener *opener = opener_new();
	struct files_answer answer;
	char buf[FILES_INLINE_MAX], path[5000];

	(void)state;
	files_open(opener, ROOT, SPAN("/page.html\0x"), buf, &answer);
	assert_int_equal(answer.opened.status, IPC_OPEN_NOT_FOUND);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	for (size_t len = 4090; len < sizeof(path); len++) {
		files_open(opener, ROOT, span_of(path, len), buf, &answer);
		assert_int_equal(answer.opened.status, IPC_OPEN_NOT_FOUND);
		path[len - 1] = '/';
		files_open(opener, ROOT, span_of(path, len), buf, &answer);
		assert_int_equal(answer.opened.status, IPC_OPEN_NOT_FOUND);
		path[len - 1] = 'a';
	}
	files_opener_free(opener);
}

static void test_roots(void **state)
{
	struct files_opener *opener = opener_new();
	struct files_answer answer;
	char buf[FILES_INLINE_MAX];
	int fd;

	(void)state;
	files_open(opener, ROOT + 1, SPAN("/page.html"), buf, &answer);
	assert_int_equal(answer.opened.status, IPC_OPEN_FAILED);
	assert_int_equal(os_open(OS_FOLDER_CURRENT, "sub", OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0, &fd),
			 0);
	assert_int_equal(files_opener_add_root(opener, ROOT, fd, SPAN("sub")), 0);
	files_open(opener, ROOT, SPAN("/deep.css"), buf, &answer);
	assert_int_equal(answer.opened.status, IPC_OPEN_DOCUMENT);
	files_open(opener, ROOT, SPAN("/up"), buf, &answer); /* leads out of this one */
	assert_int_equal(answer.opened.status, IPC_OPEN_NOT_FOUND);
	files_opener_remove_root(opener, ROOT);
	files_opener_remove_root(opener, ROOT);
	files_open(opener, ROOT, SPAN("/deep.css"), buf, &answer);
	assert_int_equal(answer.opened.status, IPC_OPEN_FAILED);
	files_opener_free(opener);
}

static void test_no_permission(void **state)
{
	struct files_opener *opener = opener_new();
	struct files_answer answer;
	char buf[FILES_INLINE_MAX];

	(void)state;
	assert_int_equal(chmod("page.html", 0), 0);
	files_open(opener, ROOT, SPAN("/page.html"), buf, &answer);
	/* Root may read it all the same. */
	assert_int_equal(answer.opened.status, os_uid() ? IPC_OPEN_FORBIDDEN : IPC_OPEN_DOCUMENT);
	assert_int_equal(chmod("page.html", 0644), 0);
	files_opener_free(opener);
}

static void test_warm(void **state)
{
	int fd = open("big", O_RDONLY), ends[2];

	(void)state;
	assert_int_equal(files_warm(fd, 0, BIG), 0);
	assert_int_equal(files_warm(fd, 0, UINT64_MAX), 0);
	assert_int_equal(files_warm(fd, 4095, 2), 0);
	assert_int_equal(files_warm(fd, BIG + 5, 10), 0);
	assert_true(files_warm(fd, UINT64_MAX - 10, 20) <= 0);
	assert_true(files_warm(fd, (uint64_t)1 << 63, 20) < 0);
	close(fd);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(files_warm(ends[0], 0, 10), -ESPIPE);
	close(ends[0]);
	close(ends[1]);
}

static struct span read_at(struct files_opener *opener, const struct files_answer *answer,
			   uint64_t offset, char *buf, int expected)
{
	struct ipc_read wanted = { .root = ROOT,
				   .offset = offset,
				   .size = answer->opened.size,
				   .inode = answer->opened.inode,
				   .device = answer->opened.device,
				   .mtime_ns = answer->opened.mtime_ns };
	struct span bytes = SPAN_NONE;

	assert_int_equal(files_read(opener, &wanted, SPAN("/big"), buf, &bytes), expected);
	return bytes;
}

/* Piece by piece, whether it was opened before or not, and never those of another document under that path. */
static void test_read(void **state)
{
	struct files_opener *opener = opener_new();
	struct files_answer answer;
	static char buf[FILES_INLINE_MAX];
	int before = open("big", O_RDONLY), after;

	(void)state;
	close(before);
	files_open(opener, ROOT, SPAN("/big"), buf, &answer);
	assert_int_equal(answer.opened.status, IPC_OPEN_DOCUMENT); /* this file system is local */
	os_close(answer.fd);
	assert_int_equal(read_at(opener, &answer, 0, buf, 0).len, FILES_INLINE_MAX);
	assert_int_equal(read_at(opener, &answer, FILES_INLINE_MAX, buf, 0).len, 1);
	assert_int_equal(read_at(opener, &answer, BIG, buf, 0).len, 0);
	/* Two looks later nobody reads it, and its descriptor is given back. */
	for (int i = 0; i < 3; i++)
		files_opener_look_over(opener);
	after = open("big", O_RDONLY);
	close(after);
	assert_int_equal(after, before);
	answer.opened.inode++;
	read_at(opener, &answer, 0, buf, -ESTALE);
	answer.opened.inode--;
	assert_int_equal(rename("big", "kept"), 0);
	put("big", "another", 7);
	/* Who reads one that is replaced meanwhile reads it to its end; who comes later cannot. */
	assert_int_equal(read_at(opener, &answer, 0, buf, 0).len, FILES_INLINE_MAX);
	files_opener_free(opener);
	opener = opener_new();
	read_at(opener, &answer, 0, buf, -ESTALE);
	assert_int_equal(unlink("big"), 0);
	files_opener_free(opener);
	opener = opener_new();
	read_at(opener, &answer, 0, buf, -ENOENT);
	assert_int_equal(rename("kept", "big"), 0);
	assert_int_equal(read_at(opener, &answer, 0, buf, 0).len, FILES_INLINE_MAX);
	files_opener_free(opener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases), cmocka_unit_test(test_paths_that_are_no_strings),
		cmocka_unit_test(test_roots), cmocka_unit_test(test_no_permission),
		cmocka_unit_test(test_warm),  cmocka_unit_test(test_read),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
