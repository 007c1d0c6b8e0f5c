/* write_json: whatever bytes come, the result is one plain line of valid UTF-8 in quotes, and with too
 * little room it is nothing. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_of(data, size > 8000 ? 8000 : size), done;
	struct writer out = writer_of(buf, sizeof(buf));

	write_json(&out, text);
	MUST(out.ok);
	done = writer_done(&out);
	check_plain(done);
	out = writer_of(buf, done.len - 1);
	write_json(&out, text);
	MUST(!out.ok && writer_done(&out).len == 0);
	return 0;
}
