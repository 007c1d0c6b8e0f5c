#include "codec/h1_internal.h"

enum {
	CHUNK_SIZE_DIGITS_MAX = 16,
	CHUNK_EXTENSION_MAX = 128,
	CHUNK_EXTENSIONS_MAX = 4096,
	CHUNK_OVERHEAD_RATIO = 10,        /* framing bytes a data byte … */
	CHUNK_OVERHEAD_FLOOR = 64 * 1024, /* … judged from so many bytes on */
};

static const uint64_t chunk_size_max = (uint64_t)1 << 60;

/* Where in RFC 9112, 7.1, the next byte stands. Extensions are read by their grammar, so that a
 * quoted line end is a fault and not the end of the line, and dropped. No blanks are taken
 * anywhere. */
enum chunk_step {
	CHUNK_SIZE,
	CHUNK_EXTENSION_NAME_START,
	CHUNK_EXTENSION_NAME,
	CHUNK_EXTENSION_VALUE_START,
	CHUNK_EXTENSION_VALUE,
	CHUNK_EXTENSION_QUOTED,
	CHUNK_EXTENSION_ESCAPED,
	CHUNK_EXTENSION_QUOTED_END,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_START,
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_LAST_LF,
	CHUNK_DONE,
};

void h1_reader_init(struct codec_h1_reader *reader, enum codec_h1_framing framing, uint64_t length,
		    const struct codec_h1_limits *limits)
{
	*reader = (struct codec_h1_reader){
		.framing = framing,
		.left = framing == CODEC_H1_FRAMING_LENGTH ? length : 0,
		.limits = limits,
		.step = CHUNK_SIZE,
	};
}

static bool is_class(uint8_t byte, uint8_t class)
{
	return http_char_class[byte] & class;
}

/* From the first `;` to the last byte before CRLF. */
static enum codec_h1_fault count_extension_byte(struct codec_h1_reader *reader)
{
	reader->extension_len++;
	reader->extension_total++;
	if (reader->extension_len > CHUNK_EXTENSION_MAX)
		return CODEC_H1_FAULT_EXTENSION_LONG;
	if (reader->extension_total > CHUNK_EXTENSIONS_MAX)
		return CODEC_H1_FAULT_EXTENSIONS_LONG;
	return CODEC_H1_FAULT_NONE;
}

static enum codec_h1_fault size_byte(struct codec_h1_reader *reader, uint8_t byte)
{
	int digit = ascii_hex_value((char)byte);

	if (digit >= 0) {
		reader->left = reader->left << 4 | (uint64_t)digit;
		if (++reader->size_digits > CHUNK_SIZE_DIGITS_MAX || reader->left > chunk_size_max)
			return CODEC_H1_FAULT_CHUNK_SIZE;
		return CODEC_H1_FAULT_NONE;
	}
	if (byte == '\n')
		return CODEC_H1_FAULT_BARE_LF;
	if (reader->size_digits == 0 || (byte != ';' && byte != '\r'))
		return CODEC_H1_FAULT_CHUNK_SIZE;
	if (byte == '\r') {
		reader->step = CHUNK_SIZE_LF;
		return CODEC_H1_FAULT_NONE;
	}
	reader->step = CHUNK_EXTENSION_NAME_START;
	return count_extension_byte(reader);
}

static enum chunk_step quoted_step(enum chunk_step step, uint8_t byte)
{
	if (!is_class(byte, HTTP_CHAR_VALUE))
		return CHUNK_DONE;
	if (step == CHUNK_EXTENSION_ESCAPED)
		return CHUNK_EXTENSION_QUOTED;
	if (byte == '"')
		return CHUNK_EXTENSION_QUOTED_END;
	return byte == '\\' ? CHUNK_EXTENSION_ESCAPED : CHUNK_EXTENSION_QUOTED;
}

/* The step after `byte`, or CHUNK_DONE where it may not stand. */
static enum chunk_step extension_step(enum chunk_step step, uint8_t byte)
{
	bool is_token = is_class(byte, HTTP_CHAR_TOKEN), is_end = byte == ';' || byte == '\r';
	enum chunk_step after_end = byte == ';' ? CHUNK_EXTENSION_NAME_START : CHUNK_SIZE_LF;

	if (step == CHUNK_EXTENSION_NAME_START)
		return is_token ? CHUNK_EXTENSION_NAME : CHUNK_DONE;
	if (step == CHUNK_EXTENSION_NAME) {
		if (byte == '=')
			return CHUNK_EXTENSION_VALUE_START;
		return is_token ? step : is_end ? after_end : CHUNK_DONE;
	}
	if (step == CHUNK_EXTENSION_VALUE_START) {
		if (byte == '"')
			return CHUNK_EXTENSION_QUOTED;
		return is_token ? CHUNK_EXTENSION_VALUE : CHUNK_DONE;
	}
	if (step == CHUNK_EXTENSION_VALUE)
		return is_token ? step : is_end ? after_end : CHUNK_DONE;
	if (step == CHUNK_EXTENSION_QUOTED || step == CHUNK_EXTENSION_ESCAPED)
		return quoted_step(step, byte);
	return is_end ? after_end : CHUNK_DONE;
}

static enum codec_h1_fault extension_byte(struct codec_h1_reader *reader, uint8_t byte)
{
	enum chunk_step step = extension_step(reader->step, byte);

	if (byte == '\n')
		return CODEC_H1_FAULT_BARE_LF;
	if (step == CHUNK_DONE)
		return CODEC_H1_FAULT_CHUNK_EXTENSION;
	reader->step = (uint8_t)step;
	if (step == CHUNK_SIZE_LF)
		return CODEC_H1_FAULT_NONE;
	return count_extension_byte(reader);
}

/* The LF of a size line: thousands of tiny chunks cost us more than the sender (RFC 9112, 7.1,
 * leaves the limit to us). */
static enum codec_h1_fault size_line_end(struct codec_h1_reader *reader, uint8_t byte)
{
	if (byte != '\n')
		return CODEC_H1_FAULT_BARE_CR;
	if (reader->overhead_total + reader->data_total > CHUNK_OVERHEAD_FLOOR &&
	    reader->overhead_total > CHUNK_OVERHEAD_RATIO * reader->data_total)
		return CODEC_H1_FAULT_CHUNK_OVERHEAD;
	reader->step = reader->left ? CHUNK_DATA : CHUNK_TRAILER_START;
	return CODEC_H1_FAULT_NONE;
}

/* Trailers are held against the grammar of fields and dropped: a field that arrives after the
 * decisions were made must not reach an origin (RFC 9110, 6.5.1). */
static enum codec_h1_fault trailer_byte(struct codec_h1_reader *reader, uint8_t byte)
{
	if (byte == '\n')
		return CODEC_H1_FAULT_BARE_LF;
	if (reader->step == CHUNK_TRAILER_START) {
		if (byte == '\r') {
			reader->step = CHUNK_LAST_LF;
			return CODEC_H1_FAULT_NONE;
		}
		if (!is_class(byte, HTTP_CHAR_TOKEN))
			return CODEC_H1_FAULT_TRAILER;
		if (++reader->trailer_count > reader->limits->field_max)
			return CODEC_H1_FAULT_TRAILER_LONG;
		reader->step = CHUNK_TRAILER_NAME;
	} else if (reader->step == CHUNK_TRAILER_NAME) {
		if (byte == ':')
			reader->step = CHUNK_TRAILER_VALUE;
		else if (!is_class(byte, HTTP_CHAR_TOKEN))
			return CODEC_H1_FAULT_TRAILER;
	} else if (byte == '\r') {
		reader->step = CHUNK_TRAILER_LF;
	} else if (!is_class(byte, HTTP_CHAR_VALUE)) {
		return CODEC_H1_FAULT_TRAILER;
	}
	return CODEC_H1_FAULT_NONE;
}

/* One byte that is no data. */
static enum codec_h1_fault chunk_byte(struct codec_h1_reader *reader, uint8_t byte)
{
	enum chunk_step step = reader->step;

	if (step == CHUNK_SIZE)
		return size_byte(reader, byte);
	if (step < CHUNK_SIZE_LF)
		return extension_byte(reader, byte);
	if (step == CHUNK_SIZE_LF)
		return size_line_end(reader, byte);
	/* Every byte of theirs, line ends and the last empty line too. */
	if (step >= CHUNK_TRAILER_START && ++reader->trailer_len > reader->limits->trailer_max)
		return CODEC_H1_FAULT_TRAILER_LONG;
	if (step >= CHUNK_TRAILER_START && step <= CHUNK_TRAILER_VALUE)
		return trailer_byte(reader, byte);
	if (step == CHUNK_DATA_CR) {
		if (byte != '\r')
			return CODEC_H1_FAULT_CHUNK_END;
		reader->step = CHUNK_DATA_LF;
		return CODEC_H1_FAULT_NONE;
	}
	if (byte != '\n')
		return step == CHUNK_DATA_LF ? CODEC_H1_FAULT_CHUNK_END : CODEC_H1_FAULT_BARE_CR;
	if (step == CHUNK_DATA_LF) {
		reader->step = CHUNK_SIZE;
		reader->size_digits = 0;
		reader->extension_len = 0;
	} else {
		reader->step = step == CHUNK_TRAILER_LF ? CHUNK_TRAILER_START : CHUNK_DONE;
	}
	return CODEC_H1_FAULT_NONE;
}

static int take_data(struct span *input, uint64_t len, size_t room, struct codec_h1_event *ret)
{
	if (input->len == 0)
		return CODEC_H1_NEED_MORE;
	if (room == 0)
		return CODEC_H1_NEED_ROOM;
	if (len > room)
		len = room;
	ret->body = span_first(*input, len < input->len ? (size_t)len : input->len);
	*input = span_skip(*input, ret->body.len);
	return CODEC_H1_BODY;
}

static int chunked_next(struct codec_h1_reader *reader, struct span *input, size_t room,
			struct codec_h1_event *ret)
{
	while (reader->step != CHUNK_DONE) {
		if (reader->step == CHUNK_DATA) {
			int result = take_data(input, reader->left, room, ret);

			if (result != CODEC_H1_BODY)
				return result;
			reader->left -= ret->body.len;
			reader->data_total += ret->body.len;
			if (reader->left == 0)
				reader->step = CHUNK_DATA_CR;
			return result;
		}
		if (input->len == 0)
			return CODEC_H1_NEED_MORE;
		ret->fault = chunk_byte(reader, (uint8_t)input->ptr[0]);
		if (ret->fault)
			return CODEC_H1_ERROR;
		reader->overhead_total++;
		*input = span_skip(*input, 1);
	}
	return CODEC_H1_END;
}

int h1_reader_next(struct codec_h1_reader *reader, struct span *input, size_t room,
		   struct codec_h1_event *ret)
{
	int result;

	switch (reader->framing) {
	case CODEC_H1_FRAMING_NONE:
		break;
	case CODEC_H1_FRAMING_LENGTH:
		if (reader->left == 0)
			break;
		result = take_data(input, reader->left, room, ret);
		if (result == CODEC_H1_BODY)
			reader->left -= ret->body.len;
		return result;
	case CODEC_H1_FRAMING_CHUNKED:
		return chunked_next(reader, input, room, ret);
	case CODEC_H1_FRAMING_CLOSE:
		return take_data(input, UINT64_MAX, room, ret);
	}
	return CODEC_H1_END;
}
