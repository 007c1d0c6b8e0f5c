#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files/files.h"

enum { ROOT = 1 };

static struct files_cache *cache_new(size_t documents, size_t bytes)
{
	struct files_cache *cache;

	assert_int_equal(files_cache_new(documents, bytes, &cache), 0);
	return cache;
}

static void store(struct files_cache *cache, const char *path, uint64_t now_ns, const char *text)
{
	char tail[FILES_INLINE_MAX + 256];
	struct ipc_opened opened = { .size = strlen(text), .name_len = 4, .mtime_ns = 5 };
	int len = snprintf(tail, sizeof(tail), "name%s", text);
	struct files_reply reply = { &opened, span_of(tail, (size_t)len), -1 };
	struct files_document *document =
		files_cache_store(cache, ROOT, span_str(path), now_ns, &reply);

	assert_non_null(document);
	files_document_unref(document);
}

/* What find says, in words; the document's text where it has one. */
static struct span find(struct files_cache *cache, const char *path, uint64_t now_ns, char buf[64])
{
	static const char *const words[] = { "", "fresh", "stale", "absent" };
	struct files_document *document = NULL;
	struct writer out = writer_of(buf, 64);
	bool ask = false;
	enum files_found found =
		files_cache_find(cache, ROOT, span_str(path), now_ns, &document, &ask);

	write_str(&out, words[found]);
	if (ask)
		write_str(&out, " ask");
	if (document) {
		write_byte(&out, ' ');
		write_span(&out, span_first(document->bytes, 8));
	}
	files_document_unref(document);
	return writer_done(&out);
}

#define FIND(cache, path, now_ns, expected) \
	do { \
		char buf_[64]; \
		struct span got_ = find(cache, path, now_ns, buf_); \
		if (!span_equal(got_, SPAN(expected))) \
			fail_msg("%s at %llu: %.*s", path, (unsigned long long)(now_ns), \
				 SPAN_ARG(got_)); \
	} while (0)

static void test_ask_once(void **state)
{
	struct files_cache *cache = cache_new(10, 1000);

	(void)state;
	FIND(cache, "/a", 1, "absent ask");
	FIND(cache, "/a", 1, "absent");
	FIND(cache, "/b", 1, "absent ask");
	store(cache, "/a", 2, "one");
	FIND(cache, "/a", OS_SECOND + 1, "fresh one");
	FIND(cache, "/a", OS_SECOND + 2, "stale ask one");
	FIND(cache, "/a", OS_SECOND + 3, "stale one");
	store(cache, "/a", OS_SECOND + 4, "two");
	FIND(cache, "/a", OS_SECOND + 5, "fresh two");
	files_cache_failed(cache, ROOT, SPAN("/b"));
	FIND(cache, "/b", 5, "absent ask");
	/* The look again failed: the old one is served on, and the next one asks. */
	FIND(cache, "/a", 4 * OS_SECOND, "stale ask two");
	files_cache_failed(cache, ROOT, SPAN("/a"));
	FIND(cache, "/a", 4 * OS_SECOND, "stale ask two");
	files_cache_failed(cache, ROOT, SPAN("/never seen"));
	files_cache_clear(cache);
	FIND(cache, "/a", 4 * OS_SECOND, "absent ask");
	/* An answer to what was cleared meanwhile. */
	store(cache, "/c", 4 * OS_SECOND, "late");
	FIND(cache, "/c", 4 * OS_SECOND, "fresh late");
	files_cache_free(cache);
	files_cache_free(NULL);
}

/* What an answer's head says of a document is made from what the opener said, not from the path that was asked. */
static void test_head_texts(void **state)
{
	struct files_cache *cache = cache_new(10, 1000);
	struct ipc_opened opened = { .size = 3, .name_len = 10, .mtime_ns = 1767225600000000255 };
	struct files_reply reply = { &opened, SPAN("index.htmlabc"), -1 };
	struct files_document *document = files_cache_store(cache, ROOT, SPAN("/a/"), 1, &reply);

	(void)state;
	assert_non_null(document);
	files_cache_free(cache);
	assert_true(span_equal(document->validators.etag, SPAN("\"6955b900000000ff-3\"")));
	assert_int_equal(document->validators.modified_s, 1767225600);
	assert_true(span_equal(document->modified, SPAN("Thu, 01 Jan 2026 00:00:00 GMT")));
	assert_true(span_equal(document->media_type, SPAN("text/html; charset=utf-8")));
	files_document_unref(document);
}

static void test_old_failures_are_not_served(void **state)
{
	struct files_cache *cache = cache_new(10, 1000);
	struct ipc_opened failure = { .status = IPC_OPEN_FAILED };
	struct files_reply reply = { &failure, SPAN_NONE, -1 };

	(void)state;
	files_document_unref(files_cache_store(cache, ROOT, SPAN("/a"), 1, &reply));
	FIND(cache, "/a", 2, "fresh ");
	FIND(cache, "/a", 2 * OS_SECOND, "absent ask");
	FIND(cache, "/a", 2 * OS_SECOND, "absent");
	files_cache_failed(cache, ROOT, SPAN("/a"));
	FIND(cache, "/a", 2 * OS_SECOND, "absent ask");
	store(cache, "/a", 2 * OS_SECOND, "well");
	FIND(cache, "/a", 9 * OS_SECOND, "stale ask well");
	files_cache_free(cache);
}

static void test_bounds(void **state)
{
	struct files_cache *cache = cache_new(3, 10);

	(void)state;
	store(cache, "/a", 1, "aaa");
	store(cache, "/b", 1, "bbb");
	store(cache, "/c", 1, "ccc");
	FIND(cache, "/a", 1, "fresh aaa");
	store(cache, "/d", 1, "d"); /* a fourth: the one that was not used longest goes */
	FIND(cache, "/b", 1, "absent ask");
	FIND(cache, "/a", 1, "fresh aaa");
	files_cache_clear(cache);
	store(cache, "/a", 1, "aaaa");
	store(cache, "/b", 1, "bbbb");
	store(cache, "/a", 1, "aaaaaaaa"); /* too many bytes */
	FIND(cache, "/a", 1, "fresh aaaaaaaa");
	FIND(cache, "/b", 1, "absent ask");
	files_cache_free(cache);
}

static void test_roots_and_absences(void **state)
{
	struct files_cache *cache = cache_new(10, 1000);
	struct ipc_opened missing = { .status = IPC_OPEN_NOT_FOUND };
	struct files_document *document, *again = NULL;
	bool ask;

	(void)state;
	document = files_cache_store(cache, 2, SPAN("/a"), 1,
				     &(struct files_reply){ &missing, SPAN_NONE, -1 });
	assert_int_equal(document->status, IPC_OPEN_NOT_FOUND);
	assert_int_equal(files_cache_find(cache, 2, SPAN("/a"), 1, &again, &ask), FILES_FRESH);
	assert_ptr_equal(document, again);
	assert_int_equal(files_cache_find(cache, 3, SPAN("/a"), 1, &again, &ask), FILES_ABSENT);
	/* It outlives the cache. */
	files_cache_free(cache);
	assert_int_equal(document->status, IPC_OPEN_NOT_FOUND);
	files_document_unref(document);
	files_document_unref(document);
	files_document_unref(NULL);
}

/* `files` is another process: what it says may be anything. */
static void test_answers_that_make_no_sense(void **state)
{
	static const struct {
		struct ipc_opened opened;
		const char *tail;
		enum ipc_open_status status;
	} cases[] = {
		{ { .status = 77 }, "", IPC_OPEN_FAILED },
		{ { .size = 5, .name_len = 4 }, "name1234", IPC_OPEN_FAILED },
		{ { .size = 3, .name_len = 4 }, "name1234", IPC_OPEN_FAILED },
		{ { .size = 4, .name_len = UINT32_MAX }, "name1234", IPC_OPEN_FAILED },
		{ { .size = 0, .name_len = UINT32_MAX }, "name", IPC_OPEN_DOCUMENT },
		{ { .size = 4, .name_len = 4, .mtime_ns = -1 }, "name1234", IPC_OPEN_DOCUMENT },
	};
	struct files_cache *cache = cache_new(10, 1000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct files_reply reply = { &cases[i].opened, span_str(cases[i].tail), -1 };
		struct files_document *document =
			files_cache_store(cache, ROOT, SPAN("/a"), 1, &reply);

		assert_int_equal(document->status, cases[i].status);
		assert_true(document->mtime_ns >= 0);
		files_document_unref(document);
	}
	files_cache_free(cache);
}

static void test_read(void **state)
{
	struct files_cache *cache = cache_new(10, 1000);
	struct ipc_opened opened = { .size = 10, .name_len = 1 };
	struct files_document *document;
	char buf[8];
	size_t len = 0;
	FILE *file = tmpfile();
	int outcome;

	(void)state;
	fputs("0123456789", file);
	fflush(file);
	document =
		files_cache_store(cache, ROOT, SPAN("/a"), 1,
				  &(struct files_reply){ &opened, SPAN("n"), dup(fileno(file)) });
	assert_null(document->bytes.ptr);
	outcome = files_document_read(document, 4, buf, sizeof(buf), false, &len);
	assert_true(outcome == 0 || outcome == FILES_COLD); /* tmpfs cannot say */
	assert_int_equal(files_document_read(document, 4, buf, sizeof(buf), true, &len), 0);
	assert_int_equal(len, 6);
	assert_memory_equal(buf, "456789", 6);
	assert_int_equal(ftruncate(fileno(file), 3), 0);
	assert_int_equal(files_document_read(document, 4, buf, sizeof(buf), true, &len),
			 FILES_SHRUNK);
	files_document_unref(document);
	files_cache_free(cache);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ask_once),
		cmocka_unit_test(test_head_texts),
		cmocka_unit_test(test_old_failures_are_not_served),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_roots_and_absences),
		cmocka_unit_test(test_answers_that_make_no_sense),
		cmocka_unit_test(test_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
