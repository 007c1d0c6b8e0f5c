/* The cookie keys: lines of `SECONDS HEX`, newest first, in one file that is whole or not at all. */
#include "keys/folder_internal.h"

#include <string.h>

enum {
	DAY_S = 24 * 3600,
	ROTATION_S = 90 * DAY_S,
	/* A clock that was put right by less than this makes nothing new. */
	CLOCK_SLACK_S = DAY_S,
	SECONDS_MAX_LEN = 20,
	LINE_MAX = SECONDS_MAX_LEN + 1 + 2 * KEYS_COOKIE_SECRET + 1,
};

#define SUBFOLDER "cookie"
#define NAME "keys"

static bool parse_line(struct span line, struct keys_cookie *ret)
{
	struct span seconds;
	uint64_t made_at;

	if (!span_cut(&line, ' ', &seconds) || line.len != 2 * KEYS_COOKIE_SECRET ||
	    !parse_u64(seconds, INT64_MAX, &made_at))
		return false;
	ret->made_at_s = (int64_t)made_at;
	for (size_t i = 0; i < KEYS_COOKIE_SECRET; i++) {
		int high = ascii_hex_value(line.ptr[2 * i]),
		    low = ascii_hex_value(line.ptr[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret->secret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* False: a line is none, so none of them is believed. */
static bool parse(struct span text, struct keys_cookies *ret)
{
	struct span line;

	*ret = (struct keys_cookies){ 0 };
	while (text.len) {
		if (!span_cut(&text, '\n', &line))
			break;
		if (!line.len)
			continue;
		if (ret->count == KEYS_COOKIES_MAX || !parse_line(line, &ret->keys[ret->count]))
			return false;
		ret->count++;
	}
	return ret->count > 0;
}

static int save(struct keys_task *task, const struct keys_cookies *cookies)
{
	char text[KEYS_COOKIES_MAX * LINE_MAX];
	struct writer out = writer_of(text, sizeof(text));
	int outcome;

	for (size_t i = 0; i < cookies->count; i++) {
		write_u64(&out, (uint64_t)cookies->keys[i].made_at_s);
		write_byte(&out, ' ');
		write_hex(&out, span_of(cookies->keys[i].secret, KEYS_COOKIE_SECRET));
		write_byte(&out, '\n');
	}
	MUST(out.ok);
	outcome = keys_folder_write(task, SUBFOLDER, NAME, writer_done(&out));
	crypto_wipe(text, sizeof(text));
	return outcome;
}

static bool is_due(const struct keys_cookies *cookies, int64_t now_s)
{
	int64_t made_at_s = cookies->keys[0].made_at_s;

	return now_s - made_at_s >= ROTATION_S || made_at_s - now_s > CLOCK_SLACK_S;
}

/* A new one in front; what does not fit behind it is forgotten. */
static int rotate(struct keys_task *task, struct keys_cookies *cookies)
{
	struct keys_cookies next = { .count = 1 };
	int outcome;

	next.keys[0].made_at_s = task->now_s > 0 ? task->now_s : 0;
	crypto_random(next.keys[0].secret, KEYS_COOKIE_SECRET);
	for (size_t i = 0; i < cookies->count && next.count < KEYS_COOKIES_MAX; i++)
		next.keys[next.count++] = cookies->keys[i];
	outcome = save(task, &next);
	if (outcome == 0)
		*cookies = next;
	crypto_wipe(&next, sizeof(next));
	return outcome;
}

int keys_cookies_ready(struct keys_task *task, struct keys_cookies *ret_cookies)
{
	struct keys_cookies cookies = { 0 };
	struct span text = SPAN_NONE;
	int outcome;

	keys_task_begin(task);
	outcome = keys_folder_read(task, SUBFOLDER "/" NAME, &text);
	if (outcome == -ENOMEM)
		return outcome;
	if (outcome && outcome != -ENOENT)
		return keys_fail(task, KEYS_FOLDER_FAILED,
				 "the key folder's " SUBFOLDER "/" NAME " cannot be read: %s",
				 keys_error_text(outcome));
	if (outcome == 0 && !parse(text, &cookies)) {
		crypto_wipe(&cookies, sizeof(cookies));
		keys_notify(task, "the key folder's " SUBFOLDER "/" NAME
				  " was damaged and is made anew: who stayed with an origin by a "
				  "cookie is given one again");
	}
	keys_wipe_text(text);
	outcome = 0;
	if (!cookies.count || is_due(&cookies, task->now_s))
		outcome = rotate(task, &cookies);
	/* One that is due serves on. */
	if (outcome > 0 && cookies.count)
		outcome = 0;
	if (outcome == 0)
		*ret_cookies = cookies;
	crypto_wipe(&cookies, sizeof(cookies));
	return outcome;
}
