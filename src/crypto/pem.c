#include "crypto/crypto.h"

/* Our own reader instead of the library's: it needs no BIO, takes a span, never asks a terminal for a
 * pass phrase, and says what stands there instead of a key. */

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (ascii_is_digit(c))
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

struct decoder {
	uint32_t bits;
	unsigned count, padding;
};

static bool decode_line(struct decoder *decoder, struct span line, struct writer *out)
{
	for (size_t i = 0; i < line.len; i++) {
		char c = line.ptr[i];
		if (c == ' ' || c == '\t')
			continue;
		if (c == '=') {
			decoder->padding++;
			continue;
		}
		int value = base64_value(c);
		if (value < 0 || decoder->padding > 0)
			return false;
		decoder->bits = decoder->bits << 6 | (uint32_t)value;
		if (++decoder->count < 4)
			continue;
		write_be24(out, decoder->bits & 0xffffff);
		decoder->bits = decoder->count = 0;
	}
	return true;
}

/* RFC 4648, 3.2 and 3.5: the padding must be there and the bits that it leaves over must be zero, else
 * two texts would mean one object. */
static bool decode_end(const struct decoder *decoder, struct writer *out)
{
	if (decoder->count == 0)
		return decoder->padding == 0;
	if (decoder->count + decoder->padding != 4)
		return false;
	if (decoder->count == 2 && (decoder->bits & 0xf) == 0) {
		write_byte(out, (char)(decoder->bits >> 4));
		return true;
	}
	if (decoder->count == 3 && (decoder->bits & 0x3) == 0) {
		write_be16(out, (uint16_t)(decoder->bits >> 2));
		return true;
	}
	return false;
}

static bool next_line(struct span *text, struct span *ret_line)
{
	if (!span_cut(text, '\n', ret_line))
		return false;
	while (ret_line->len > 0) {
		char last = ret_line->ptr[ret_line->len - 1];
		if (last != '\r' && last != ' ' && last != '\t')
			break;
		ret_line->len--;
	}
	return true;
}

static bool marked_label(struct span line, const char *mark, struct span *ret_label)
{
	struct span start = span_str(mark), end = span_str(dashes);

	if (line.len < start.len + end.len || !span_starts_with(line, start) ||
	    !span_ends_with(line, end))
		return false;
	*ret_label = span_of(line.ptr + start.len, line.len - start.len - end.len);
	return true;
}

static bool find_begin(struct span *text, struct span *ret_label)
{
	struct span line;

	while (next_line(text, &line))
		if (marked_label(line, begin_mark, ret_label))
			return true;
	return false;
}

int crypto_pem_next(struct span *text, struct crypto_pem_block *ret_block, struct writer *der)
{
	struct decoder decoder = { 0 };
	struct span line, label;
	bool in_headers = true;

	*ret_block = (struct crypto_pem_block){ .label = SPAN_NONE };
	if (!find_begin(text, &ret_block->label))
		return CRYPTO_PEM_END;
	for (;;) {
		struct span before = *text;
		if (!next_line(text, &line))
			return CRYPTO_PEM_BROKEN;
		if (marked_label(line, end_mark, &label))
			break;
		if (marked_label(line, begin_mark, &label)) {
			*text = before; /* a block without an end must not swallow the next one */
			return CRYPTO_PEM_BROKEN;
		}
		if (in_headers && span_find_byte(line, ':') < line.len) {
			if (span_find(line, SPAN("ENCRYPTED")) < line.len)
				ret_block->is_encrypted = true;
			continue;
		}
		in_headers = in_headers && line.len == 0;
		if (!decode_line(&decoder, line, der))
			return CRYPTO_PEM_BROKEN;
	}
	if (!span_equal(label, ret_block->label) || !decode_end(&decoder, der))
		return CRYPTO_PEM_BROKEN;
	return 0;
}

static void write_base64_group(struct writer *out, const uint8_t *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = (uint32_t)bytes[0] << 16;

	if (len > 1)
		bits |= (uint32_t)bytes[1] << 8;
	if (len > 2)
		bits |= bytes[2];
	write_byte(out, digits[bits >> 18]);
	write_byte(out, digits[bits >> 12 & 63]);
	write_byte(out, len > 1 ? digits[bits >> 6 & 63] : '=');
	write_byte(out, len > 2 ? digits[bits & 63] : '=');
}

void crypto_pem_write(struct writer *out, const char *label, struct span der)
{
	enum { LINE_BYTES = 48 }; /* 64 columns */
	const uint8_t *bytes = (const uint8_t *)der.ptr;

	write_str(out, begin_mark);
	write_str(out, label);
	write_str(out, dashes);
	for (size_t i = 0; i < der.len; i += 3) {
		if (i % LINE_BYTES == 0)
			write_byte(out, '\n');
		write_base64_group(out, bytes + i, der.len - i < 3 ? der.len - i : 3);
	}
	write_byte(out, '\n');
	write_str(out, end_mark);
	write_str(out, label);
	write_str(out, dashes);
	write_byte(out, '\n');
}
