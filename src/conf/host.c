/* host: names and addresses. RFC 1123, 2.1; RFC 5890 (A-labels); RFC 3492 (punycode). */
#include "conf/conf_internal.h"

#include <arpa/inet.h>
#include <string.h>

enum {
	HOST_LEN_MAX = 253,
	LABEL_LEN_MAX = 63,
};

/* ---- Addresses ------------------------------------------------------------------------------- */

bool conf_address_parse(struct span text, struct conf_address *ret_address)
{
	struct conf_address address = { .family = 4 };
	char copy[INET6_ADDRSTRLEN];

	if (text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
		text = span_first(span_skip(text, 1), text.len - 2);
		address.family = 6;
	}
	if (!text.len || text.len >= sizeof(copy) || memchr(text.ptr, 0, text.len))
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	if (span_find_byte(text, ':') < text.len)
		address.family = 6;
	/* inet_pton reads no clock and no file; it knows only the strict forms. */
	if (inet_pton(address.family == 6 ? AF_INET6 : AF_INET, copy, address.bytes) != 1)
		return false;
	*ret_address = address;
	return true;
}

void conf_address_write(const struct conf_address *address, struct writer *writer)
{
	char text[INET6_ADDRSTRLEN];

	if (!address->family) {
		write_byte(writer, '*');
	} else {
		bool is_v6 = address->family == 6;
		bool has_brackets = is_v6 && address->port;
		MUST(inet_ntop(is_v6 ? AF_INET6 : AF_INET, address->bytes, text, sizeof(text)));
		if (has_brackets)
			write_byte(writer, '[');
		write_str(writer, text);
		if (has_brackets)
			write_byte(writer, ']');
	}
	if (address->port) {
		write_byte(writer, ':');
		write_u64(writer, address->port);
	}
}

const uint8_t *conf_address_v4(const struct conf_address *address)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	if (address->family == 4)
		return address->bytes;
	if (address->family == 6 && memcmp(address->bytes, mapped, sizeof(mapped)) == 0)
		return address->bytes + sizeof(mapped);
	return NULL;
}

bool conf_address_is_loopback(const struct conf_address *address)
{
	static const uint8_t loopback[16] = { [15] = 1 };
	const uint8_t *v4 = conf_address_v4(address);

	if (v4)
		return v4[0] == 127;
	return address->family == 6 && memcmp(address->bytes, loopback, sizeof(loopback)) == 0;
}

/* RFC 1918, RFC 3927, RFC 6598; RFC 4193, RFC 4291 (fe80::/10). */
bool conf_address_is_private(const struct conf_address *address)
{
	const uint8_t *v4 = conf_address_v4(address);

	if (conf_address_is_loopback(address))
		return true;
	if (v4)
		return v4[0] == 10 || (v4[0] == 172 && (v4[1] & 0xf0) == 16) ||
		       (v4[0] == 192 && v4[1] == 168) || (v4[0] == 169 && v4[1] == 254) ||
		       (v4[0] == 100 && (v4[1] & 0xc0) == 64);
	if (address->family != 6)
		return false;
	return (address->bytes[0] & 0xfe) == 0xfc ||
	       (address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80);
}

/* ---- Labels ---------------------------------------------------------------------------------- */

/* One code point of UTF-8 (RFC 3629: no surrogates, no overlong forms). 0 at a fault. */
static uint32_t next_code_point(struct span *text)
{
	static const uint32_t smallest[] = { 0, 0x80, 0x800, 0x10000 };
	unsigned char first = (unsigned char)text->ptr[0];
	size_t more = first < 0x80 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
	uint32_t code = more ? first & (0x3fu >> more) : first;

	if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || more >= text->len)
		return 0;
	for (size_t i = 1; i <= more; i++) {
		unsigned char byte = (unsigned char)text->ptr[i];
		if ((byte & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (byte & 0x3fu);
	}
	*text = span_skip(*text, more + 1);
	if (code < smallest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	return code;
}

/* The capitals that people type: Latin-1, Latin Extended-A, Greek, Cyrillic. Others must be written
 * as the browser sends them; a full table would be larger than the rest of this module. */
static uint32_t lower_code_point(uint32_t code)
{
	if (code < 0x80)
		return (uint32_t)(unsigned char)ascii_lower((char)code);
	if (code >= 0xc0 && code <= 0xde && code != 0xd7)
		return code + 0x20;
	if ((code >= 0x100 && code <= 0x137 && code != 0x130) || (code >= 0x14a && code <= 0x177))
		return code | 1;
	if ((code >= 0x139 && code <= 0x148) || (code >= 0x179 && code <= 0x17e))
		return code + (code & 1);
	if (code >= 0x391 && code <= 0x3a9)
		return code + 0x20;
	if (code >= 0x410 && code <= 0x42f)
		return code + 0x20;
	if (code >= 0x400 && code <= 0x40f)
		return code + 0x50;
	return code;
}

/* RFC 3492, 6.1. */
static uint32_t adapt(uint32_t delta, uint32_t count, bool is_first)
{
	uint32_t k = 0;

	delta = is_first ? delta / 700 : delta / 2;
	delta += delta / count;
	for (; delta > 455; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

/* RFC 3492, 6.3: one delta as a number of variable length. */
static void write_delta(struct writer *writer, uint32_t delta, uint32_t bias)
{
	uint32_t rest = delta;

	for (uint32_t k = 36;; k += 36) {
		uint32_t threshold = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
		uint32_t digit = rest;

		if (rest >= threshold)
			digit = threshold + (rest - threshold) % (36 - threshold);
		write_byte(writer, (char)(digit < 26 ? 'a' + digit : '0' + digit - 26));
		if (rest < threshold)
			return;
		rest = (rest - threshold) / (36 - threshold);
	}
}

/* RFC 3492, 6.3. At most LABEL_LEN_MAX code points, so nothing overflows: delta < 0x10ffff * 64. */
static void write_punycode(struct writer *writer, const uint32_t *codes, uint32_t count)
{
	uint32_t next = 0x80, delta = 0, bias = 72, basic = 0, done;

	for (uint32_t i = 0; i < count; i++) {
		if (codes[i] < 0x80) {
			write_byte(writer, (char)codes[i]);
			basic++;
		}
	}
	if (basic)
		write_byte(writer, '-');
	for (done = basic; done < count;) {
		uint32_t smallest = UINT32_MAX;

		for (uint32_t i = 0; i < count; i++) {
			if (codes[i] >= next && codes[i] < smallest)
				smallest = codes[i];
		}
		delta += (smallest - next) * (done + 1);
		next = smallest;
		for (uint32_t i = 0; i < count; i++) {
			if (codes[i] < next)
				delta++;
			if (codes[i] != next)
				continue;
			write_delta(writer, delta, bias);
			bias = adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
		delta++;
		next++;
	}
}

static bool is_host_byte(uint32_t code)
{
	char c = (char)code;

	return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
}

static const char *write_label(struct writer *writer, struct span label)
{
	uint32_t codes[LABEL_LEN_MAX], count = 0;
	bool is_ascii = true;
	char *start = writer->at;

	if (!label.len)
		return "a host name has no empty label";
	if (label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
		return "a label of a host name does not start or end with -";
	while (label.len) {
		uint32_t code = lower_code_point(next_code_point(&label));
		if (!code)
			return "a host name in valid UTF-8";
		if (code == '/')
			return "a host name has no path: that stands behind `on`, with what shall "
			       "answer it";
		if (code == ',')
			return "several names have blanks between them, no commas";
		if (code < 0x80 && !is_host_byte(code))
			return "a host name has letters, digits, - and .";
		if (code >= 0x80 && code < 0xa1)
			return "a host name without control characters and blanks";
		if (count == LABEL_LEN_MAX)
			return "a label of a host name has at most 63 bytes";
		codes[count++] = code;
		is_ascii &= code < 0x80;
	}
	if (is_ascii) {
		for (uint32_t i = 0; i < count; i++)
			write_byte(writer, (char)codes[i]);
	} else {
		write_str(writer, "xn--");
		write_punycode(writer, codes, count);
	}
	if (!writer->ok)
		return "a host name has at most 253 bytes";
	if (writer->at - start > LABEL_LEN_MAX)
		return "a label of a host name has at most 63 bytes";
	return NULL;
}

static const char *write_host(struct writer *writer, struct span text, bool allow_wildcard)
{
	struct span rest = text, label = SPAN_NONE;
	bool is_first = true, is_numeric = false;
	size_t label_count = 0;

	while (span_cut(&rest, '.', &label)) {
		const char *reason;

		if (!is_first)
			write_byte(writer, '.');
		if (span_equal(label, SPAN("*"))) {
			if (!is_first || !allow_wildcard)
				return "`*` stands for the whole first label of a name, and only "
				       "there";
			write_byte(writer, '*');
			is_first = false;
			continue;
		}
		reason = write_label(writer, label);
		if (reason)
			return reason;
		is_first = false;
		label_count++;
		is_numeric = true;
		for (size_t i = 0; i < label.len; i++)
			is_numeric &= ascii_is_digit(label.ptr[i]);
	}
	/* A last label of digits would be read as an address by others (WHATWG URL, 3.5): a typing
	 * error. */
	if (is_numeric)
		return "this is neither a host name nor an address";
	if (text.len && text.ptr[0] == '*' && label_count < 1)
		return "a wildcard covers names below a domain, as in *.example.com";
	return writer->ok ? NULL : "a host name has at most 253 bytes";
}

const char *conf_host_parse(struct arena *arena, struct span text, bool allow_wildcard,
			    struct conf_value *value)
{
	char name[HOST_LEN_MAX];
	struct writer writer = writer_of(name, sizeof(name));

	if (conf_address_parse(text, &value->address)) {
		conf_address_write(&value->address, &writer);
		value->is_address = true;
	} else {
		if (text.len && text.ptr[text.len - 1] == '.')
			text.len--;
		if (!text.len)
			return "a host name is not empty";
		if (span_find_byte(text, ':') < text.len)
			return span_find(text, SPAN("://")) < text.len
				       ? "a host name without http:// or https://"
				       : "a host name without a port, or an IPv6 address";
		/* What elsewhere means "any": it would be a name that no client asks for. */
		if (span_equal(text, SPAN("_")))
			return "a host name has letters, digits, - and .";
		const char *reason = write_host(&writer, text, allow_wildcard);
		if (reason)
			return reason;
	}
	char *copy = arena_cstr(arena, writer_done(&writer));
	if (!copy)
		return "no memory";
	value->text = span_of(copy, writer_done(&writer).len);
	return NULL;
}
