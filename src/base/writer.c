#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

void write_u64(struct writer *writer, uint64_t value)
{
	enum { DIGITS_MAX = 20 };
	size_t count = 1;
	char *room;

	if (value < 10) {
		write_byte(writer, (char)('0' + value));
		return;
	}
	for (uint64_t limit = 10; count < DIGITS_MAX && value >= limit; limit *= 10)
		count++;
	room = write_room(writer, count);
	while (room && count-- > 0) {
		room[count] = (char)('0' + value % 10);
		value /= 10;
	}
}

void write_hex(struct writer *writer, struct span bytes)
{
	char *room;

	if (bytes.len > SIZE_MAX / 2) {
		writer->ok = false;
		return;
	}
	room = write_room(writer, bytes.len * 2);
	for (size_t i = 0; room && i < bytes.len; i++) {
		uint8_t byte = (uint8_t)bytes.ptr[i];

		room[2 * i] = hex_digits[byte >> 4];
		room[2 * i + 1] = hex_digits[byte & 15];
	}
}

/* The eight digits of 32 bits at once: the bits are spread to a digit a byte, what is above 9 becomes a letter. */
static void put_hex(char *at, uint32_t value)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t digits = value;

	digits = (digits | digits << 16) & UINT64_C(0x0000ffff0000ffff);
	digits = (digits | digits << 8) & UINT64_C(0x00ff00ff00ff00ff);
	digits = (digits | digits << 4) & (ones * 15);
	digits += ones * '0' + ((digits + ones * 6) >> 4 & ones) * ('a' - '0' - 10);
	if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		digits = __builtin_bswap64(digits);
	memcpy(at, &digits, sizeof(digits));
}

void write_hex_u64(struct writer *writer, uint64_t value, int digits)
{
	int count = value ? (67 - __builtin_clzll(value)) / 4 : 1;
	char *room;

	MUST(digits >= 0 && digits <= 16);
	count = count < digits ? digits : count;
	room = write_room(writer, (size_t)count);
	if (room && count == 16) {
		put_hex(room, (uint32_t)(value >> 32));
		put_hex(room + 8, (uint32_t)value);
		return;
	}
	while (room && count-- > 0) {
		room[count] = hex_digits[value & 15];
		value >>= 4;
	}
}

static void write_big_endian(struct writer *writer, uint64_t value, size_t len)
{
	char *room = write_room(writer, len);

	for (size_t i = len; room && i > 0; i--) {
		room[i - 1] = (char)(uint8_t)value;
		value >>= 8;
	}
}

void write_be16(struct writer *writer, uint16_t value)
{
	write_big_endian(writer, value, 2);
}

void write_be24(struct writer *writer, uint32_t value)
{
	MUST(value < 1u << 24);
	write_big_endian(writer, value, 3);
}

void write_be32(struct writer *writer, uint32_t value)
{
	write_big_endian(writer, value, 4);
}

void write_be64(struct writer *writer, uint64_t value)
{
	write_big_endian(writer, value, 8);
}

void write_format(struct writer *writer, const char *format, ...)
{
	size_t left = (size_t)(writer->end - writer->at);
	va_list args, again;
	char *whole;
	int len;

	if (!writer->ok)
		return;
	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(left ? writer->at : NULL, left, format, args);
	if (len >= 0 && (size_t)len < left) {
		writer->at += len;
	} else if (len >= 0 && (size_t)len == left) {
		/* It fits, but for the NUL that vsnprintf insists on. */
		whole = heap_alloc(left + 1);
		if (whole && vsnprintf(whole, left + 1, format, again) == len)
			write_span(writer, span_of(whole, left));
		else
			writer->ok = false;
		heap_free(whole);
	} else {
		writer->ok = false;
	}
	va_end(again);
	va_end(args);
}

/* ---- JSON ------------------------------------------------------------------------------- */

/* The length of the UTF-8 sequence at the beginning of text, or 0 where there is none (RFC 3629, 4:
 * no overlong forms, no surrogates, nothing above U+10FFFF). */
static size_t utf8_decode(struct span text, uint32_t *ret_code)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t first = (uint8_t)text.ptr[0];
	size_t len = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	uint32_t code = len == 1 ? first : first & (0x7fu >> len);

	if (len == 0 || first > 0xf4 || len > text.len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		uint8_t next = (uint8_t)text.ptr[i];

		if ((next & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (next & 0x3fu);
	}
	if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return len;
}

/* What could move a terminal's cursor, start a new line for somebody, turn the order of the text around
 * or stand in it unseen, so that a reader of the log sees something else than what came. */
static bool must_escape(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} unseen[] = {
		{ 0x00ad, 0x00ad }, { 0x061c, 0x061c },   { 0x180e, 0x180e }, { 0x200b, 0x200f },
		{ 0x2028, 0x202e }, { 0x2060, 0x206f },   { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
		{ 0xfffe, 0xffff }, { 0xe0000, 0xe0fff },
	};

	if (code < 0x20 || (code >= 0x7f && code <= 0x9f))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(unseen) && code >= unseen[i].first; i++) {
		if (code <= unseen[i].last)
			return true;
	}
	return false;
}

static uint8_t replace_controls(char *text, size_t len)
{
	uint8_t all = 0;

	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
		all |= (uint8_t)text[i];
	}
	return all;
}

/* Hardly any text has a control character, so eight bytes are looked at together; a word that may have one (a
 * borrow can mark the byte behind it too) again one by one. Is there a byte above 0x7f? */
static bool replace_ascii_controls(char *text, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
	uint64_t all = 0;
	size_t at = 0;

	for (; len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
		uint64_t word, erase;

		memcpy(&word, text + at, sizeof(word));
		all |= word;
		erase = word ^ ones * 0x7f;
		if ((((word - ones * 0x20) & ~word) | ((erase - ones) & ~erase)) & tops)
			(void)replace_controls(text + at, sizeof(word));
	}
	return ((all & tops) | (replace_controls(text + at, len - at) & 0x80)) != 0;
}

void text_make_plain(char *text, size_t len)
{
	if (!replace_ascii_controls(text, len))
		return;
	for (size_t i = 0, step; i < len; i += step) {
		uint32_t code = 0;

		step = utf8_decode(span_of(text + i, len - i), &code);
		if (step && !must_escape(code))
			continue;
		step = step ? step : 1;
		memset(text + i, '?', step);
	}
}

static void write_json_escape(struct writer *writer, uint32_t code)
{
	if (code > 0xffff) {
		write_json_escape(writer, 0xd800 + ((code - 0x10000) >> 10));
		code = 0xdc00 + ((code - 0x10000) & 0x3ff);
	}
	write_str(writer, "\\u");
	write_hex_u64(writer, code, 4);
}

static void write_json_code(struct writer *writer, uint32_t code, struct span bytes)
{
	if (code == '"' || code == '\\') {
		write_byte(writer, '\\');
		write_byte(writer, (char)code);
	} else if (code == '\n') {
		write_str(writer, "\\n");
	} else if (code == '\r') {
		write_str(writer, "\\r");
	} else if (code == '\t') {
		write_str(writer, "\\t");
	} else if (must_escape(code)) {
		write_json_escape(writer, code);
	} else {
		write_span(writer, bytes);
	}
}

/* A bit in the top of each byte that is no plain ASCII, a quote or a backslash. */
static uint64_t unplain(uint64_t bytes)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
	uint64_t quote = bytes ^ ones * '"', backslash = bytes ^ ones * '\\';
	uint64_t erase = bytes ^ ones * 0x7f;

	/* x - n borrows into the top bit where x < n. A byte behind one that borrowed may be marked too; that
	 * only makes the run end a byte early, at a byte that is then looked at alone. */
	return (bytes | (bytes - ones * 0x20) | (quote - ones) | (backslash - ones) |
		(erase - ones)) &
	       tops;
}

static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The run of plain ASCII that most texts are. */
size_t json_plain_len(struct span text)
{
	size_t len = 0;
	uint64_t bytes;

	for (; text.len - len >= sizeof(bytes); len += sizeof(bytes)) {
		memcpy(&bytes, text.ptr + len, sizeof(bytes));
		if (unplain(bytes))
			break;
	}
	/* The end that fills no word, with what stands before it. */
	if (text.len >= sizeof(bytes) && text.len - len < sizeof(bytes)) {
		memcpy(&bytes, text.ptr + text.len - sizeof(bytes), sizeof(bytes));
		if (!unplain(bytes))
			return text.len;
	}
	while (len < text.len && is_plain(text.ptr[len]))
		len++;
	return len;
}

void write_json(struct writer *writer, struct span text)
{
	char *before = writer->at;
	size_t plain = json_plain_len(text);

	if (plain == text.len) {
		char *room = write_room(writer, plain + 2);

		if (!room)
			return;
		room[0] = room[plain + 1] = '"';
		if (plain)
			memcpy(room + 1, text.ptr, plain);
		return;
	}
	write_byte(writer, '"');
	while (text.len && writer->ok) {
		size_t len = json_plain_len(text);
		uint32_t code;

		if (len) {
			write_span(writer, span_first(text, len));
		} else if ((len = utf8_decode(text, &code)) > 0) {
			write_json_code(writer, code, span_first(text, len));
		} else {
			len = 1;
			write_json_escape(writer, (uint8_t)text.ptr[0]);
		}
		text = span_skip(text, len);
	}
	write_byte(writer, '"');
	if (!writer->ok)
		writer->at = before;
}
