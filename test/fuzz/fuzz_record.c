/* Log records of what a peer sent: the input is cut into the texts of an access record and an event.
 * Properties: each is one line that ends with its newline, holds no other control character and no
 * bare byte over 0x7f that is not UTF-8; the JSON ones are JSON of one object; with too little room
 * there is nothing at all. */
#include <string.h>

#include "telemetry/telemetry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char buf[TELEMETRY_LINE_MAX];

static void check_line(const struct writer *out)
{
	struct span line = writer_done(out);

	MUST(out->ok && line.len > 1 && line.ptr[line.len - 1] == '\n');
	for (size_t i = 0; i + 1 < line.len; i++) {
		uint8_t byte = (uint8_t)line.ptr[i];

		MUST(byte >= 0x20 && byte != 0x7f);
		/* C1 in UTF-8: some terminals obey it. */
		MUST(byte != 0xc2 || (uint8_t)line.ptr[i + 1] >= 0xa0);
	}
}

/* A value of JSON off the front; a record has objects, strings, numbers and words. False: it is none. */
static bool skip_string(struct span *text)
{
	if (!text->len || text->ptr[0] != '"')
		return false;
	for (size_t i = 1; i < text->len; i++) {
		if (text->ptr[i] == '\\') {
			i++;
		} else if (text->ptr[i] == '"') {
			*text = span_skip(*text, i + 1);
			return true;
		}
	}
	return false;
}

static bool skip_byte(struct span *text, char byte)
{
	if (!text->len || text->ptr[0] != byte)
		return false;
	*text = span_skip(*text, 1);
	return true;
}

static bool skip_value(struct span *text, int depth)
{
	if (depth > 4)
		return false;
	if (text->len && text->ptr[0] == '"')
		return skip_string(text);
	if (skip_byte(text, '{')) {
		if (skip_byte(text, '}'))
			return true;
		do {
			if (!skip_string(text) || !skip_byte(text, ':') ||
			    !skip_value(text, depth + 1))
				return false;
		} while (skip_byte(text, ','));
		return skip_byte(text, '}');
	}

	size_t len = 0;

	while (len < text->len &&
	       (ascii_is_digit(text->ptr[len]) || ascii_is_alpha(text->ptr[len]) ||
		text->ptr[len] == '.' || text->ptr[len] == '-'))
		len++;
	*text = span_skip(*text, len);
	return len > 0;
}

static void check_json(const struct writer *out)
{
	struct span text = writer_done(out);

	check_line(out);
	MUST(skip_value(&text, 0) && span_equal(text, SPAN("\n")));
}

static struct span part(struct reader *reader)
{
	size_t len = read_u8(reader);

	if (len == 255)
		len = read_be16(reader);
	return read_span(reader, len < reader_left(reader) ? len : reader_left(reader));
}

static void check_short_of_room(const struct telemetry_access *access, size_t len)
{
	static char less[TELEMETRY_LINE_MAX];
	struct writer out = writer_of(less, len - 1);

	telemetry_write_access_json(&out, access);
	MUST(!out.ok && writer_done(&out).len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader reader = reader_of(span_of(data, size));
	struct telemetry_access access = { .wall_ns = read_be64(&reader) >> 1,
					   .status = read_be16(&reader) };
	struct telemetry_pair pairs[2] = { { .key = "detail" }, { .key = "sni" } };
	struct telemetry_event event = { .type = TELEMETRY_EVENT_TLS,
					 .pairs = pairs,
					 .pair_count = 2 };
	struct span *texts[] = { &access.client,    &access.method,   &access.host,
				 &access.path,      &access.query,    &access.user_agent,
				 &access.referer,   &access.upstream, &access.end_detail,
				 &access.tls_cipher };
	struct writer out;

	access.end = (enum telemetry_end)(read_u8(&reader) % TELEMETRY_END_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = part(&reader);
	access.protocol = SPAN("HTTP/1.1");
	out = writer_of(buf, sizeof(buf));
	telemetry_write_access_combined(&out, &access);
	check_line(&out);
	out = writer_of(buf, sizeof(buf));
	telemetry_write_access_short(&out, &access);
	check_line(&out);
	out = writer_of(buf, sizeof(buf));
	telemetry_write_access_json(&out, &access);
	check_json(&out);
	check_short_of_room(&access, writer_done(&out).len);
	event.source = access.client;
	event.message = access.query;
	pairs[0].text = access.path;
	pairs[1].text = access.host;
	out = writer_of(buf, sizeof(buf));
	telemetry_write_event(&out, &event);
	check_json(&out);
	return 0;
}
