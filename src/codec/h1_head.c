#include "codec/h1_internal.h"

#include <string.h>

enum {
	HEAD_CAPACITY_FIRST = 512, /* most heads of programs; a browser's take one growth */
	HEAD_CAPACITY_INPUT = 4096,
	LEADING_LINES_MAX = 1, /* RFC 9112, 2.2: old clients send one after a body */
	LENGTH_DIGITS_MAX = 18,
};

const struct codec_h1_limits codec_h1_request_limits = {
	.line_max = 8 * 1024,
	.head_max = 32 * 1024,
	.trailer_max = 32 * 1024,
	.field_max = 100,
};
const struct codec_h1_limits codec_h1_response_limits = {
	.line_max = 64 * 1024,
	.head_max = 64 * 1024,
	.trailer_max = 64 * 1024,
	.field_max = 200,
};

static const struct {
	uint16_t status;
	const char *text;
} faults[] = { [CODEC_H1_FAULT_NONE] = { 500, "none" },
#define X(id, status, text) [CODEC_H1_FAULT_##id] = { status, text },
	       CODEC_H1_FAULTS(X)
#undef X
};

uint16_t codec_h1_fault_status(enum codec_h1_fault fault)
{
	return faults[fault].status;
}

const char *codec_h1_fault_text(enum codec_h1_fault fault)
{
	return faults[fault].text;
}

void h1_head_init(struct codec_h1_head *head, bool is_response)
{
	*head = (struct codec_h1_head){ .is_response = is_response, .content_length = -1 };
}

static void move_span(struct span *span, const char *from, const char *to)
{
	if (span->ptr)
		span->ptr = to + (span->ptr - from);
}

/* Makes room for `more` bytes. The copy moves, and what points into it with it. */
static int head_reserve(struct codec_h1_head *head, size_t more, size_t input_len,
			struct arena *arena)
{
	size_t wanted = head->used + more;
	size_t capacity = head->capacity ? head->capacity * 2 : HEAD_CAPACITY_FIRST;
	char *bytes;

	if (wanted <= head->capacity)
		return 0;
	if (!head->capacity && capacity < input_len)
		capacity = input_len < HEAD_CAPACITY_INPUT ? input_len : HEAD_CAPACITY_INPUT;
	if (capacity < wanted)
		capacity = wanted;
	bytes = arena_alloc(arena, capacity, 1);
	if (!bytes)
		return -ENOMEM;
	if (head->used) {
		memcpy(bytes, head->bytes, head->used);
		for (int i = 0; i < 3; i++)
			move_span(&head->first[i], head->bytes, bytes);
		for (uint32_t i = 0; i < head->fields.count; i++) {
			move_span(&head->fields.items[i].name, head->bytes, bytes);
			move_span(&head->fields.items[i].value, head->bytes, bytes);
		}
	}
	head->bytes = bytes;
	head->capacity = (uint32_t)capacity;
	return 0;
}

static size_t class_run(struct span text, uint8_t class)
{
	size_t len = 0;

	while (len < text.len && (http_char_class[(uint8_t)text.ptr[len]] & class))
		len++;
	return len;
}

/* `HTTP/1.1`: two digits, no more. */
static bool is_version(struct span text)
{
	return text.len == 8 && memcmp(text.ptr, "HTTP/", 5) == 0 && ascii_is_digit(text.ptr[5]) &&
	       text.ptr[6] == '.' && ascii_is_digit(text.ptr[7]);
}

static bool is_version_1(struct span text)
{
	return text.ptr[5] == '1' && (text.ptr[7] == '0' || text.ptr[7] == '1');
}

/* RFC 9112, 3: exactly one blank between the words. */
static enum codec_h1_fault parse_request_line(struct codec_h1_head *head, struct span line)
{
	size_t method_len = class_run(line, HTTP_CHAR_TOKEN);
	struct span rest = span_skip(line, method_len);

	if (method_len == 0 || rest.len == 0 || rest.ptr[0] != ' ')
		return CODEC_H1_FAULT_METHOD;
	rest = span_skip(rest, 1);

	size_t target_len = class_run(rest, HTTP_CHAR_TARGET);
	struct span version = span_skip(rest, target_len + 1);

	if (target_len == 0)
		return CODEC_H1_FAULT_REQUEST_LINE;
	if (target_len == rest.len) /* HTTP/0.9 */
		return CODEC_H1_FAULT_REQUEST_LINE;
	if (rest.ptr[target_len] != ' ')
		return CODEC_H1_FAULT_TARGET;
	if (!is_version(version) || version.ptr[5] == '0')
		return CODEC_H1_FAULT_REQUEST_LINE;
	if (!is_version_1(version))
		return CODEC_H1_FAULT_VERSION;
	head->first[0] = span_first(line, method_len);
	head->first[1] = span_first(rest, target_len);
	head->first[2] = version;
	return CODEC_H1_FAULT_NONE;
}

/* RFC 9112, 4. Many origins leave out the blank before an empty reason. */
static enum codec_h1_fault parse_status_line(struct codec_h1_head *head, struct span line)
{
	struct span version = span_first(line, 8);
	struct span status = span_first(span_skip(line, 9), 3);
	struct span reason = span_skip(line, 13);

	if (!is_version(version) || !is_version_1(version) || line.len < 12 || line.ptr[8] != ' ')
		return CODEC_H1_FAULT_STATUS_LINE;
	if (!ascii_is_digit(status.ptr[0]) || !ascii_is_digit(status.ptr[1]) ||
	    !ascii_is_digit(status.ptr[2]) || status.ptr[0] == '0')
		return CODEC_H1_FAULT_STATUS_LINE;
	if ((line.len > 12 && line.ptr[12] != ' ') || !http_is_field_value(reason))
		return CODEC_H1_FAULT_STATUS_LINE;
	head->first[0] = version;
	head->first[1] = status;
	head->first[2] = reason;
	return CODEC_H1_FAULT_NONE;
}

/* RFC 9110, 8.6. A list of equal numbers is allowed to be read as one; we refuse it. */
static enum codec_h1_fault note_length(struct codec_h1_head *head, struct span value)
{
	uint64_t length;

	if (head->is_chunked)
		return CODEC_H1_FAULT_LENGTH_AND_CODING;
	if (head->content_length >= 0)
		return CODEC_H1_FAULT_LENGTH_TWICE;
	if (value.len > LENGTH_DIGITS_MAX || !parse_u64(value, INT64_MAX, &length))
		return CODEC_H1_FAULT_LENGTH_INVALID;
	head->content_length = (int64_t)length;
	return CODEC_H1_FAULT_NONE;
}

/* RFC 9112, 6.1. Anything but one plain `chunked` is read differently somewhere. */
static enum codec_h1_fault note_coding(struct codec_h1_head *head, struct span value)
{
	struct span rest = value, coding;

	if (head->content_length >= 0)
		return CODEC_H1_FAULT_LENGTH_AND_CODING;
	if (head->is_chunked)
		return CODEC_H1_FAULT_CODING_INVALID;
	if (span_equal_nocase(value, SPAN("chunked"))) {
		head->is_chunked = true;
		return CODEC_H1_FAULT_NONE;
	}
	if (value.len == 0)
		return CODEC_H1_FAULT_CODING_INVALID;
	while (span_cut(&rest, ',', &coding))
		if (!http_is_token(span_trim(coding)))
			return CODEC_H1_FAULT_CODING_INVALID;
	return CODEC_H1_FAULT_CODING_UNKNOWN;
}

/* What decides framing and site is looked at when its line came, not when the head ended. */
static enum codec_h1_fault note_field(struct codec_h1_head *head, enum http_name id,
				      struct span value)
{
	if (id == HTTP_NAME_CONTENT_LENGTH)
		return note_length(head, value);
	if (id == HTTP_NAME_TRANSFER_ENCODING)
		return note_coding(head, value);
	if (id == HTTP_NAME_HOST && !head->is_response) {
		if (head->has_host)
			return CODEC_H1_FAULT_HOST_TWICE;
		head->has_host = true;
	}
	return CODEC_H1_FAULT_NONE;
}

/* -ENOMEM, or 0 with *ret_fault. */
static int parse_field(struct codec_h1_head *head, struct span line, uint32_t field_max,
		       enum codec_h1_fault *ret_fault)
{
	size_t name_len = class_run(line, HTTP_CHAR_TOKEN);
	struct span name = span_first(line, name_len), value;

	*ret_fault = CODEC_H1_FAULT_NONE;
	if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
		*ret_fault = CODEC_H1_FAULT_OBS_FOLD;
	else if (name_len == 0 || name_len == line.len || line.ptr[name_len] != ':')
		*ret_fault = CODEC_H1_FAULT_FIELD_NAME;
	else if (head->fields.count >= field_max)
		*ret_fault = CODEC_H1_FAULT_FIELD_COUNT;
	if (*ret_fault)
		return 0;
	value = span_trim(span_skip(line, name_len + 1));
	if (!http_is_field_value(value)) {
		*ret_fault = CODEC_H1_FAULT_FIELD_VALUE;
		return 0;
	}
	if (http_fields_add(&head->fields, name, value))
		return -ENOMEM;
	*ret_fault = note_field(head, head->fields.items[head->fields.count - 1].id, value);
	return 0;
}

/* The faults of line ends, which hold for a line of any kind and come before all others: they
 * are also found in a line that has not ended. */
static enum codec_h1_fault line_end_fault(struct span bytes)
{
	size_t cr = span_find_byte(bytes, '\r');

	if (cr + 1 < bytes.len && bytes.ptr[cr + 1] != '\n')
		return CODEC_H1_FAULT_BARE_CR;
	if (bytes.len && bytes.ptr[bytes.len - 1] == '\n' && cr >= bytes.len - 1)
		return CODEC_H1_FAULT_BARE_LF;
	return CODEC_H1_FAULT_NONE;
}

/* What does not begin so is no answer: TLS, HTTP/2, another server's banner. It may never have a line end, so
 * each byte is looked at when it came. Line ends keep their own faults. */
static bool is_no_response(const struct codec_h1_head *head)
{
	static const char start[] = { 'H', 'T', 'T', 'P', '/' };
	size_t len = head->used < sizeof(start) ? head->used : sizeof(start);

	return head->is_response && !head->has_line && head->bytes[0] != '\r' &&
	       head->bytes[0] != '\n' && memcmp(head->bytes, start, len) != 0;
}

/* A line that ended: bytes with its line end. CODEC_H1_HEAD at the empty one, 0 to go on. */
static int head_line(struct codec_h1_head *head, struct span bytes,
		     const struct codec_h1_limits *limits, enum codec_h1_fault *ret_fault)
{
	struct span line = span_first(bytes, bytes.len - 2);
	int result = 0;

	*ret_fault = CODEC_H1_FAULT_NONE;
	if (bytes.len < 2 || bytes.ptr[bytes.len - 2] != '\r') {
		*ret_fault = CODEC_H1_FAULT_BARE_LF;
	} else if (line.len == 0) {
		if (head->has_line)
			return CODEC_H1_HEAD;
		if (head->is_response || head->leading_lines++ == LEADING_LINES_MAX)
			*ret_fault = CODEC_H1_FAULT_LEADING_LINES;
		head->used = 0;
	} else if (head->has_line) {
		result = parse_field(head, line, limits->field_max, ret_fault);
	} else {
		*ret_fault = head->is_response ? parse_status_line(head, line)
					       : parse_request_line(head, line);
		head->has_line = true;
	}
	/* No well-formed line holds a CR, so the search for one costs only bad ones. */
	if (*ret_fault) {
		enum codec_h1_fault end_fault = line_end_fault(bytes);

		*ret_fault = end_fault ? end_fault : *ret_fault;
		return CODEC_H1_ERROR;
	}
	head->line_start = head->used;
	return result;
}

int h1_head_next(struct codec_h1_head *head, const struct codec_h1_limits *limits,
		 struct span *input, struct arena *arena, enum codec_h1_fault *ret_fault)
{
	head->fields.arena = arena;
	while (input->len) {
		/* Where this line must have ended, with its line end. The first one starts at 0. */
		bool is_whole_limit = head->has_line || limits->line_max + 2 > limits->head_max;
		uint32_t end = is_whole_limit ? limits->head_max : limits->line_max + 2;
		uint32_t before = head->used;
		size_t allowed = end - head->used;
		struct span part = span_first(*input, allowed);
		const char *newline = memchr(part.ptr, '\n', part.len);
		int result;

		if (newline)
			part.len = (size_t)(newline - part.ptr) + 1;
		if (head_reserve(head, part.len, input->len, arena))
			return -ENOMEM;
		memcpy(head->bytes + head->used, part.ptr, part.len);
		head->used += (uint32_t)part.len;
		*input = span_skip(*input, part.len);

		if (is_no_response(head)) {
			*ret_fault = CODEC_H1_FAULT_STATUS_LINE;
			return CODEC_H1_ERROR;
		}
		if (newline) {
			struct span line = span_of(head->bytes + head->line_start,
						   head->used - head->line_start);

			result = head_line(head, line, limits, ret_fault);
			if (result)
				return result;
			continue;
		}
		/* A CR may have been the last byte before. */
		if (before > head->line_start)
			before--;
		*ret_fault = line_end_fault(span_of(head->bytes + before, head->used - before));
		if (!*ret_fault && part.len == allowed)
			*ret_fault = head->has_line ? CODEC_H1_FAULT_HEAD_LONG
						    : CODEC_H1_FAULT_LINE_LONG;
		if (*ret_fault)
			return CODEC_H1_ERROR;
	}
	return CODEC_H1_NEED_MORE;
}
