/* write_json: whatever bytes come, the result is one plain line of valid UTF-8 in quotes; read back it
 * is the text that was given, with every byte that is no UTF-8 as the character of that number; and with
 * too little room it is nothing. */
#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char buf[1 << 16];

/* Escapes are two or six bytes; no quote stands alone. */
static void check_plain(struct span text)
{
	MUST(text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"');
	text = span_first(span_skip(text, 1), text.len - 2);
	while (text.len) {
		uint8_t byte = (uint8_t)text.ptr[0];
		size_t len = 1;

		MUST(byte >= 0x20 && byte != '"' && byte != 0x7f && byte != 0xc0 && byte != 0xc1);
		if (byte == '\\')
			len = text.len > 1 && text.ptr[1] == 'u' ? 6 : 2;
		else if (byte >= 0x80)
			len = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
		MUST(len <= text.len && (byte < 0x80 || byte >= 0xc2));
		for (size_t i = 1; i < len && byte >= 0x80; i++)
			MUST(((uint8_t)text.ptr[i] & 0xc0) == 0x80);
		MUST(byte != 0xc2 || (uint8_t)text.ptr[1] >= 0xa0);
		text = span_skip(text, len);
	}
}

/* The bytes of one character off the front, or 0: the front is no UTF-8 (RFC 3629, 4). */
static size_t utf8_len(struct span text)
{
	const uint8_t *at = (const uint8_t *)text.ptr;
	size_t len = at[0] < 0x80   ? 1
		     : at[0] < 0xc2 ? 0
		     : at[0] < 0xe0 ? 2
		     : at[0] < 0xf0 ? 3
		     : at[0] < 0xf5 ? 4
				    : 0;

	if (len < 2)
		return len;
	if (len > text.len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] >= 0x90))
		return 0;
	return len;
}

static void write_utf8(struct writer *out, uint32_t character)
{
	if (character < 0x80) {
		write_byte(out, (char)character);
		return;
	}
	if (character < 0x800) {
		write_byte(out, (char)(0xc0 | character >> 6));
	} else if (character > 0xffff) {
		write_byte(out, (char)(0xf0 | character >> 18));
		write_byte(out, (char)(0x80 | (character >> 12 & 0x3f)));
		write_byte(out, (char)(0x80 | (character >> 6 & 0x3f)));
	} else {
		write_byte(out, (char)(0xe0 | character >> 12));
		write_byte(out, (char)(0x80 | (character >> 6 & 0x3f)));
	}
	write_byte(out, (char)(0x80 | (character & 0x3f)));
}

static struct span expected(struct span text)
{
	static char room[20000];
	struct writer out = writer_of(room, sizeof(room));

	while (text.len) {
		size_t len = utf8_len(text);

		if (len)
			write_span(&out, span_first(text, len));
		else
			write_utf8(&out, (uint8_t)text.ptr[0]);
		text = span_skip(text, len ? len : 1);
	}
	MUST(out.ok);
	return writer_done(&out);
}

/* `\uXXXX` off the front, or two of them that are one character (RFC 8259, 7). */
static uint32_t take_escape(struct span *json)
{
	uint64_t high, low;

	MUST(parse_hex_u64(span_first(span_skip(*json, 2), 4), 0xffff, &high));
	*json = span_skip(*json, 6);
	if ((high & 0xf800) != 0xd800)
		return (uint32_t)high;
	MUST((high & 0xfc00) == 0xd800 && span_starts_with(*json, SPAN("\\u")));
	MUST(parse_hex_u64(span_first(span_skip(*json, 2), 4), 0xffff, &low));
	MUST((low & 0xfc00) == 0xdc00);
	*json = span_skip(*json, 6);
	return (uint32_t)(0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff)));
}

static struct span read_back(struct span json)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	static char room[20000];
	struct writer out = writer_of(room, sizeof(room));

	json = span_first(span_skip(json, 1), json.len - 2);
	while (json.len) {
		if (json.ptr[0] != '\\') {
			write_byte(&out, json.ptr[0]);
			json = span_skip(json, 1);
		} else if (json.ptr[1] == 'u') {
			write_utf8(&out, take_escape(&json));
		} else {
			const char *found = strchr(from, json.ptr[1]);

			MUST(found && *found);
			write_byte(&out, to[found - from]);
			json = span_skip(json, 2);
		}
	}
	MUST(out.ok);
	return writer_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_of(data, size > 8000 ? 8000 : size), done;
	struct writer out = writer_of(buf, sizeof(buf));

	write_json(&out, text);
	MUST(out.ok);
	done = writer_done(&out);
	check_plain(done);
	MUST(span_equal(read_back(done), expected(text)));
	out = writer_of(buf, done.len - 1);
	write_json(&out, text);
	MUST(!out.ok && writer_done(&out).len == 0);
	return 0;
}
