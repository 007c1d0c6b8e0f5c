/* The expectations of conformance/h1cases.json, without a socket. Skipped where the file is not
 * there: it lies beside the repository, or where $PORTCULLIS_CONFORMANCE says. */
#include "h1_drive.h"

#include <stdlib.h>

struct json_case {
	char name[128];
	char expected[16];
	char *bytes; /* base64 */
	long responses;
};

static struct trail trail;

/* The file is a list of flat objects; of an array only the last string is seen, and not asked
 * for. */
static const char *read_string(const char *at, char *ret, size_t size)
{
	size_t len = 0;

	for (at++; *at && *at != '"'; at++) {
		if (*at == '\\')
			at++;
		if (len + 1 < size)
			ret[len++] = *at;
	}
	ret[len] = '\0';
	return *at ? at + 1 : at;
}

static int base64_value(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static size_t decode(const char *text, char *ret)
{
	uint32_t bits = 0;
	size_t len = 0;
	int count = 0;

	for (; base64_value(*text) >= 0; text++) {
		bits = bits << 6 | (uint32_t)base64_value(*text);
		count += 6;
		if (count >= 8) {
			count -= 8;
			ret[len++] = (char)(bits >> count & 0xff);
		}
	}
	return len;
}

/* What h1run.py would see: the first answer, or none yet. */
static bool case_passes(const struct json_case *row, struct span bytes)
{
	bool rejected, accepted;

	drive_server(&trail, bytes, bytes.len ? bytes.len : 1);
	accepted = trail.ends > 0;
	rejected = !accepted && trail.fault;
	if (strcmp(row->expected, "accept") == 0)
		return accepted &&
		       (row->responses < 0 || trail.ends + (trail.fault ? 1 : 0) == row->responses);
	if (strcmp(row->expected, "reject") == 0)
		return rejected;
	return true;
}

static FILE *open_cases(void)
{
	static const char *const folders[] = { "../shared/conformance", "../../shared/conformance",
					       "../../../shared/conformance" };
	const char *named = getenv("PORTCULLIS_CONFORMANCE");
	char path[512];
	FILE *file = NULL;

	if (named) {
		snprintf(path, sizeof(path), "%s/h1cases.json", named);
		return fopen(path, "r");
	}
	for (size_t i = 0; i < ARRAY_LEN(folders) && !file; i++) {
		snprintf(path, sizeof(path), "%s/h1cases.json", folders[i]);
		file = fopen(path, "r");
	}
	return file;
}

enum { FILE_MAX = 4 * 1024 * 1024, BYTES_MAX = 256 * 1024 };

static char *text, *value, *bytes;
static int run_count, failed_count;

static void run_case(const struct json_case *row)
{
	size_t len = decode(row->bytes, bytes);

	run_count++;
	if (!case_passes(row, span_of(bytes, len))) {
		failed_count++;
		print_error("%s: expected %s:%.*s\n", row->name, row->expected,
			    SPAN_ARG(span_first(writer_done(&trail.writer), 500)));
	}
}

static void walk(struct json_case *row)
{
	char key[64] = "", last[64] = "";

	for (const char *at = text; *at;) {
		if (*at == '"') {
			at = read_string(at, value, BYTES_MAX * 2);
			while (*at == ' ')
				at++;
			if (*at == ':') {
				snprintf(key, sizeof(key), "%.63s", value);
				if (strcmp(key, "responses") == 0)
					row->responses = strtol(at + 1, NULL, 10);
				continue;
			}
			snprintf(last, sizeof(last), "%.63s", value);
			if (strcmp(key, "name") == 0)
				snprintf(row->name, sizeof(row->name), "%.127s", value);
			else if (strcmp(key, "expected") == 0)
				snprintf(row->expected, sizeof(row->expected), "%.15s", last);
			else if (strcmp(key, "bytes") == 0)
				snprintf(row->bytes, BYTES_MAX * 2, "%s", value);
		} else {
			if (*at == '}') {
				run_case(row);
				row->responses = -1;
			}
			at++;
		}
	}
}

static void test_all(void **state)
{
	struct json_case row = { .responses = -1 };
	FILE *file = open_cases();

	(void)state;
	if (!file) {
		print_message("skipped: no conformance/h1cases.json\n");
		skip();
	}
	text = heap_alloc(FILE_MAX);
	value = heap_alloc(BYTES_MAX * 2);
	bytes = heap_alloc(BYTES_MAX);
	row.bytes = heap_alloc(BYTES_MAX * 2);
	assert_true(text && value && bytes && row.bytes);
	assert_true(fread(text, 1, FILE_MAX - 1, file) > 0);
	fclose(file);
	walk(&row);
	print_message("%d cases, %d failed\n", run_count, failed_count);
	assert_true(run_count > 400);
	assert_int_equal(failed_count, 0);
	heap_free(text);
	heap_free(value);
	heap_free(bytes);
	heap_free(row.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
