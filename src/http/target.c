#include "http/http.h"

#include <string.h>

/* Well-formed UTF-8 (RFC 3629): no overlong form, no surrogate, nothing above U+10FFFF. */
static size_t utf8_sequence_len(const uint8_t *at, size_t left)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t len;

	if (at[0] < 0x80)
		return 1;
	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		len = 2;
	else if (at[0] >= 0xe0 && at[0] <= 0xef)
		len = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (left < len)
		return 0;
	if (at[0] == 0xe0)
		low = 0xa0;
	else if (at[0] == 0xed)
		high = 0x9f;
	else if (at[0] == 0xf0)
		low = 0x90;
	else if (at[0] == 0xf4)
		high = 0x8f;
	if (at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static bool is_utf8(struct span text)
{
	for (size_t i = 0; i < text.len;) {
		size_t len = utf8_sequence_len((const uint8_t *)text.ptr + i, text.len - i);

		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

static char *put_escape(char *at, uint8_t byte)
{
	static const char digits[] = "0123456789ABCDEF";

	at[0] = '%';
	at[1] = digits[byte >> 4];
	at[2] = digits[byte & 15];
	return at + 3;
}

/* Both forms of a path while it is built, segment by segment. */
struct path_builder {
	char *text, *text_end;
	char *wire, *wire_end;
	bool has_slash; /* an escaped one */
};

/* Appends `/` and a segment, decoded and as it is to be sent. An escaped `/` stays escaped in both. A
 * backslash, in any spelling, is refused: to some origins it is a separator. */
static bool append_segment(struct path_builder *builder, struct span raw)
{
	char *text = builder->text_end, *wire = builder->wire_end;

	*text++ = *wire++ = '/';
	for (size_t i = 0; i < raw.len; i++) {
		uint8_t byte = (uint8_t)raw.ptr[i];

		if (byte == '%') {
			int high = i + 2 < raw.len ? ascii_hex_value(raw.ptr[i + 1]) : -1;
			int low = i + 2 < raw.len ? ascii_hex_value(raw.ptr[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			byte = (uint8_t)(high * 16 + low);
			if (byte < 0x20 || byte == 0x7f || byte == '\\')
				return false;
			memcpy(wire, raw.ptr + i, 3);
			wire += 3;
			if (byte == '/') {
				builder->has_slash = true;
				memcpy(text, raw.ptr + i, 2);
				text += 2;
				byte = (uint8_t)raw.ptr[i + 2];
			}
			i += 2;
		} else if (byte >= 0x80) {
			wire = put_escape(wire, byte);
		} else if (http_char_class[byte] & HTTP_CHAR_PATH) {
			*wire++ = (char)byte;
		} else {
			return false;
		}
		*text++ = (char)byte;
	}
	builder->text_end = text;
	builder->wire_end = wire;
	return true;
}

/* Takes the last segment off again; false when there is none. */
static bool remove_segment(struct path_builder *builder)
{
	if (builder->text_end == builder->text)
		return false;
	while (*--builder->text_end != '/')
		;
	while (*--builder->wire_end != '/')
		;
	return true;
}

enum segment_kind {
	SEGMENT_PLAIN,
	SEGMENT_DOT,
	SEGMENT_DOT_DOT,
	SEGMENT_BAD,
};

static enum segment_kind segment_kind_of(struct span text)
{
	size_t dots = 0;

	while (dots < text.len && dots < 3 && text.ptr[dots] == '.')
		dots++;
	if (dots == 0 || dots == 3)
		return SEGMENT_PLAIN;
	if (dots == text.len)
		return dots == 1 ? SEGMENT_DOT : SEGMENT_DOT_DOT;
	/* `..;x`: servers that drop parameters first would climb. */
	return text.ptr[dots] == ';' ? SEGMENT_BAD : SEGMENT_PLAIN;
}

/* RFC 3986, 5.2.4, on decoded segments. */
static bool build_path(struct path_builder *builder, struct span raw)
{
	struct span rest = span_skip(raw, 1);
	bool is_folder; /* the last segment is empty or dots: the path ends with `/` */

	for (;;) {
		size_t len = span_find_byte(rest, '/');
		bool is_last = len == rest.len;
		char *text = builder->text_end, *wire = builder->wire_end;
		enum segment_kind kind;

		is_folder = true;
		if (len > 0) {
			if (!append_segment(builder, span_first(rest, len)))
				return false;
			kind = segment_kind_of(
				span_of(text + 1, (size_t)(builder->text_end - text - 1)));
			is_folder = kind != SEGMENT_PLAIN;
			if (kind == SEGMENT_BAD)
				return false;
			if (is_folder) {
				builder->text_end = text;
				builder->wire_end = wire;
			}
			if (kind == SEGMENT_DOT_DOT && !remove_segment(builder))
				return false;
		}
		if (is_last)
			break;
		rest = span_skip(rest, len + 1);
	}
	if (is_folder)
		*builder->text_end++ = *builder->wire_end++ = '/';
	return true;
}

/* The path as it is for who decodes first. False where dots stand beside an escaped slash: then it would be
 * another folder's. */
static bool read_slashes(struct span wire, char *start, struct span *ret_other)
{
	char *at = start, *segment = start;

	for (size_t i = 0; i <= wire.len; i++) {
		char byte = i < wire.len ? wire.ptr[i] : '/';

		if (byte == '%') {
			byte = (char)(ascii_hex_value(wire.ptr[i + 1]) * 16 +
				      ascii_hex_value(wire.ptr[i + 2]));
			i += 2;
		}
		if (byte == '/') {
			if (segment_kind_of(span_of(segment, (size_t)(at - segment))) !=
			    SEGMENT_PLAIN)
				return false;
			if (i == wire.len || (at > start && at == segment))
				continue;
			segment = at + 1;
		}
		*at++ = byte;
	}
	*ret_other = span_of(start, (size_t)(at - start));
	return true;
}

/* The common path: nothing to decode, to resolve, to merge or to refuse. */
static bool is_plain(struct span raw)
{
	for (size_t i = 0; i < raw.len; i++) {
		uint8_t byte = (uint8_t)raw.ptr[i];

		if (http_char_class[byte] & HTTP_CHAR_PATH)
			continue;
		if (byte != '/')
			return false;
		if (i + 1 < raw.len && (raw.ptr[i + 1] == '/' || raw.ptr[i + 1] == '.'))
			return false;
	}
	return true;
}

int http_path_normalize(struct arena *arena, struct span raw, struct http_path *ret)
{
	struct path_builder builder;
	struct http_path path;

	if (raw.len == 0 || raw.ptr[0] != '/')
		return HTTP_BAD;
	if (is_plain(raw)) {
		*ret = (struct http_path){ .text = raw, .wire = raw };
		return 0;
	}
	builder.has_slash = false;
	builder.text = builder.text_end = arena_alloc(arena, raw.len + 1, 1);
	builder.wire = builder.wire_end = arena_alloc(arena, raw.len * 3 + 1, 1);
	if (!builder.text || !builder.wire)
		return -ENOMEM;
	if (!build_path(&builder, raw))
		return HTTP_BAD;
	path.text = span_of(builder.text, (size_t)(builder.text_end - builder.text));
	path.wire = span_of(builder.wire, (size_t)(builder.wire_end - builder.wire));
	path.other = SPAN_NONE;
	if (!is_utf8(path.text))
		return HTTP_BAD;
	if (builder.has_slash) {
		char *other = arena_alloc(arena, path.wire.len, 1);

		if (!other)
			return -ENOMEM;
		if (!read_slashes(path.wire, other, &path.other))
			return HTTP_BAD;
		/* Dots took the segment away again. */
		if (span_equal(path.other, path.text))
			path.other = SPAN_NONE;
	}
	if (span_equal(path.wire, raw))
		path.wire = raw;
	*ret = path;
	return 0;
}

struct span http_path_encode(struct arena *arena, struct span text)
{
	char *start = arena_alloc(arena, text.len * 3 + 1, 1), *at = start;

	if (!start)
		return SPAN_NONE;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = (uint8_t)text.ptr[i];

		if (http_char_class[byte] & HTTP_CHAR_UNESCAPED)
			*at++ = (char)byte;
		else
			at = put_escape(at, byte);
	}
	return span_of(start, (size_t)(at - start));
}

/* Blanks and controls are refused; what is not ASCII is escaped, so that all readers see the
 * same bytes. */
static int normalize_query(struct arena *arena, struct span raw, struct span *ret)
{
	size_t high = 0;

	for (size_t i = 0; i < raw.len; i++) {
		if (!(http_char_class[(uint8_t)raw.ptr[i]] & HTTP_CHAR_TARGET))
			return HTTP_BAD;
		high += (uint8_t)raw.ptr[i] >= 0x80;
	}
	*ret = raw;
	if (high == 0)
		return 0;

	char *start = arena_alloc(arena, raw.len + high * 2, 1), *at = start;

	if (!start)
		return -ENOMEM;
	for (size_t i = 0; i < raw.len; i++) {
		if ((uint8_t)raw.ptr[i] >= 0x80)
			at = put_escape(at, (uint8_t)raw.ptr[i]);
		else
			*at++ = raw.ptr[i];
	}
	*ret = span_of(start, (size_t)(at - start));
	return 0;
}

/* `path?query`; an empty path (absolute-form only) is `/`. */
static int parse_path_and_query(struct arena *arena, struct span raw, struct http_request *request)
{
	size_t mark = span_find_byte(raw, '?');
	struct span path = span_first(raw, mark);
	int result;

	request->has_query = mark < raw.len;
	request->query = SPAN_NONE;
	if (request->has_query) {
		result = normalize_query(arena, span_skip(raw, mark + 1), &request->query);
		if (result)
			return result;
	}
	return http_path_normalize(arena, path.len ? path : SPAN("/"), &request->path);
}

static int parse_absolute(struct arena *arena, struct span raw, struct http_request *request)
{
	struct span rest;
	size_t len = 0;
	int result;

	if (span_equal_nocase(span_first(raw, 7), SPAN("http://")))
		rest = span_skip(raw, 7);
	else if (span_equal_nocase(span_first(raw, 8), SPAN("https://")))
		rest = span_skip(raw, 8);
	else
		return HTTP_BAD;
	while (len < rest.len && rest.ptr[len] != '/' && rest.ptr[len] != '?')
		len++;
	result = http_authority_parse(arena, span_first(rest, len), &request->authority);
	if (result)
		return result;
	request->target_form = HTTP_TARGET_ABSOLUTE;
	return parse_path_and_query(arena, span_skip(rest, len), request);
}

int http_target_parse(struct arena *arena, struct span raw, struct http_request *request)
{
	int result;

	request->target_raw = raw;
	if (request->method == HTTP_CONNECT) {
		result = http_authority_parse(arena, raw, &request->authority);
		if (result)
			return result;
		request->target_form = HTTP_TARGET_AUTHORITY;
		return request->authority.port ? 0 : HTTP_BAD;
	}
	if (raw.len && raw.ptr[0] == '/') {
		request->target_form = HTTP_TARGET_ORIGIN;
		return parse_path_and_query(arena, raw, request);
	}
	if (span_equal(raw, SPAN("*")) && request->method == HTTP_OPTIONS) {
		request->target_form = HTTP_TARGET_ASTERISK;
		request->path = (struct http_path){ .text = raw, .wire = raw };
		return 0;
	}
	return parse_absolute(arena, raw, request);
}
