#include "codec/codec.h"

#include <arpa/inet.h>
#include <string.h>

enum {
	SIGNATURE_LEN = 12,
	FIXED_LEN = 16, /* signature, version and command, family, length */
	TLV_CRC32C = 0x03,
	V4_LEN = 12,
	V6_LEN = 36,
	UNIX_LEN = 216,
};

static const struct span signature = { "\r\n\r\n\0\r\nQUIT\n", SIGNATURE_LEN };
static const struct span word = { "PROXY", 5 };

const char *codec_proxy_fault_text(enum codec_proxy_fault fault)
{
	switch (fault) {
#define X(id, text, help) \
	case CODEC_PROXY_FAULT_##id: \
		return text;
		CODEC_PROXY_FAULTS(X)
#undef X
	case CODEC_PROXY_FAULT_NONE:
		break;
	}
	return "";
}

static int refuse(struct codec_proxy_header *header, enum codec_proxy_fault fault)
{
	*header = (struct codec_proxy_header){ .fault = fault };
	return CODEC_PROXY_REFUSED;
}

/* ---- Version 1 --------------------------------------------------------------------------------- */

/* inet_pton knows no leading zeroes and no short forms, but takes what stands before a NUL. */
static bool parse_ip(struct span text, uint8_t family, uint8_t ip[16])
{
	char copy[INET6_ADDRSTRLEN];

	if (!text.len || text.len >= sizeof(copy) || span_find_byte(text, 0) < text.len)
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	return inet_pton(family == 4 ? AF_INET : AF_INET6, copy, ip) == 1;
}

static bool parse_port(struct span text, uint16_t *ret_port)
{
	uint64_t port;

	if (text.len > 5 || (text.len > 1 && text.ptr[0] == '0') ||
	    !parse_u64(text, UINT16_MAX, &port))
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* line: without CRLF. */
static int parse_line(struct span line, struct codec_proxy_header *header)
{
	struct span rest = line, proxy, protocol, parts[4];

	if (!span_cut(&rest, ' ', &proxy) || !span_cut(&rest, ' ', &protocol))
		return refuse(header, CODEC_PROXY_FAULT_LINE);
	/* What stands behind UNKNOWN is to be ignored (2.1). */
	if (span_equal(protocol, SPAN("UNKNOWN")))
		return 0;
	if (span_equal(protocol, SPAN("TCP4")))
		header->family = 4;
	else if (span_equal(protocol, SPAN("TCP6")))
		header->family = 6;
	else
		return refuse(header, CODEC_PROXY_FAULT_LINE);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (!span_cut(&rest, ' ', &parts[i]))
			return refuse(header, CODEC_PROXY_FAULT_LINE);
	}
	if (rest.ptr)
		return refuse(header, CODEC_PROXY_FAULT_LINE);
	if (!parse_ip(parts[0], header->family, header->source.ip) ||
	    !parse_ip(parts[1], header->family, header->destination.ip) ||
	    !parse_port(parts[2], &header->source.port) ||
	    !parse_port(parts[3], &header->destination.port))
		return refuse(header, CODEC_PROXY_FAULT_ADDRESS);
	return 0;
}

static int parse_text(struct span bytes, struct codec_proxy_header *header)
{
	struct span line = span_first(bytes, CODEC_PROXY_LINE_MAX);
	size_t end = span_find_byte(line, '\r');

	if (line.len > word.len && line.ptr[word.len] != ' ')
		return refuse(header, CODEC_PROXY_FAULT_MISSING);
	/* A line feed ends nothing here: another reader could take it for an end. */
	if (span_find_byte(span_first(line, end), '\n') < end)
		return refuse(header, CODEC_PROXY_FAULT_LINE);
	if (end + 1 < line.len) {
		if (line.ptr[end + 1] != '\n')
			return refuse(header, CODEC_PROXY_FAULT_LINE);
		header->len = end + 2;
		return parse_line(span_first(line, end), header);
	}
	if (line.len == CODEC_PROXY_LINE_MAX)
		return refuse(header, CODEC_PROXY_FAULT_LINE);
	return CODEC_PROXY_NEED_MORE;
}

/* ---- Version 2 --------------------------------------------------------------------------------- */

/* Castagnoli's, reflected, four bits at a time. */
static uint32_t crc32c(uint32_t crc, struct span bytes)
{
	static const uint32_t nibbles[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};

	for (size_t i = 0; i < bytes.len; i++) {
		crc ^= (uint8_t)bytes.ptr[i];
		crc = crc >> 4 ^ nibbles[crc & 15];
		crc = crc >> 4 ^ nibbles[crc & 15];
	}
	return crc;
}

/* The sum is over the whole header, its own four bytes as zeroes (2.2.3). */
static bool checksum_holds(struct span block, size_t at)
{
	static const char zeroes[4];
	struct reader reader = reader_of(span_skip(block, at));
	uint32_t crc = crc32c(UINT32_MAX, span_first(block, at));

	crc = crc32c(crc, span_of(zeroes, sizeof(zeroes)));
	crc = crc32c(crc, span_skip(block, at + sizeof(zeroes)));
	return read_be32(&reader) == (crc ^ UINT32_MAX);
}

static int skip_tlvs(struct span block, size_t at, struct codec_proxy_header *header)
{
	struct reader reader = reader_of(span_skip(block, at));

	while (reader_left(&reader)) {
		uint8_t type = read_u8(&reader);
		uint16_t len = read_be16(&reader);
		size_t value_at = block.len - reader_left(&reader);

		(void)read_span(&reader, len);
		if (!reader.ok || (type == TLV_CRC32C && len != 4))
			return refuse(header, CODEC_PROXY_FAULT_TLV);
		if (type == TLV_CRC32C && !checksum_holds(block, value_at))
			return refuse(header, CODEC_PROXY_FAULT_CHECKSUM);
	}
	return 0;
}

static void read_endpoints(struct reader *reader, size_t ip_len, struct codec_proxy_header *header)
{
	memcpy(header->source.ip, read_span(reader, ip_len).ptr, ip_len);
	memcpy(header->destination.ip, read_span(reader, ip_len).ptr, ip_len);
	header->source.port = read_be16(reader);
	header->destination.port = read_be16(reader);
}

/* block: the whole header. */
static int parse_proxied(struct span block, uint8_t family, struct codec_proxy_header *header)
{
	struct reader reader = reader_of(span_skip(block, FIXED_LEN));
	uint8_t protocol = family & 15;
	size_t len;

	/* 2.2: values that are not assigned must be refused. */
	if (family >> 4 > 3 || protocol > 2)
		return refuse(header, CODEC_PROXY_FAULT_FAMILY);
	len = (size_t[]){ 0, V4_LEN, V6_LEN, UNIX_LEN }[family >> 4];
	if (reader_left(&reader) < len)
		return refuse(header, CODEC_PROXY_FAULT_LENGTH);
	/* Only a stream over IP has an address that a client of ours can have. */
	if (protocol == 1 && family >> 4 == 1)
		header->family = 4;
	else if (protocol == 1 && family >> 4 == 2)
		header->family = 6;
	if (header->family)
		read_endpoints(&reader, header->family == 4 ? 4 : 16, header);
	return skip_tlvs(block, FIXED_LEN + len, header);
}

static int parse_binary(struct span bytes, struct codec_proxy_header *header)
{
	struct reader reader = reader_of(span_skip(bytes, SIGNATURE_LEN));
	uint8_t command, family;
	size_t len;

	if (bytes.len == SIGNATURE_LEN)
		return CODEC_PROXY_NEED_MORE;
	command = read_u8(&reader);
	if (command >> 4 != 2)
		return refuse(header, CODEC_PROXY_FAULT_VERSION);
	if ((command & 15) > 1)
		return refuse(header, CODEC_PROXY_FAULT_COMMAND);
	if (bytes.len < FIXED_LEN)
		return CODEC_PROXY_NEED_MORE;
	family = read_u8(&reader);
	len = FIXED_LEN + (size_t)read_be16(&reader);
	if (len > CODEC_PROXY_SIZE_MAX)
		return refuse(header, CODEC_PROXY_FAULT_LONG);
	if (bytes.len < len)
		return CODEC_PROXY_NEED_MORE;
	header->len = len;
	/* LOCAL: the block is to be discarded, its family too. */
	return command & 15 ? parse_proxied(span_first(bytes, len), family, header) : 0;
}

/* ---- Either ---------------------------------------------------------------------------------------- */

int codec_proxy_parse(struct span bytes, struct codec_proxy_header *ret)
{
	*ret = (struct codec_proxy_header){ 0 };
	if (span_starts_with(bytes, signature))
		return parse_binary(bytes, ret);
	if (span_starts_with(bytes, word))
		return parse_text(bytes, ret);
	if (span_starts_with(signature, bytes) || span_starts_with(word, bytes))
		return CODEC_PROXY_NEED_MORE;
	return refuse(ret, CODEC_PROXY_FAULT_MISSING);
}

/* ---- Writing ---------------------------------------------------------------------------------------- */

static void write_ip(struct writer *out, uint8_t family, const uint8_t ip[16])
{
	char text[INET6_ADDRSTRLEN];

	MUST(inet_ntop(family == 4 ? AF_INET : AF_INET6, ip, text, sizeof(text)));
	write_str(out, text);
}

static void write_text(struct writer *out, const struct codec_proxy_header *header)
{
	if (!header->family) {
		write_str(out, "PROXY UNKNOWN\r\n");
		return;
	}
	write_format(out, "PROXY TCP%u ", header->family);
	write_ip(out, header->family, header->source.ip);
	write_byte(out, ' ');
	write_ip(out, header->family, header->destination.ip);
	write_format(out, " %u %u\r\n", header->source.port, header->destination.port);
}

static void write_binary(struct writer *out, const struct codec_proxy_header *header)
{
	size_t ip_len = header->family == 4 ? 4 : 16;

	write_span(out, signature);
	if (!header->family) {
		write_byte(out, 0x20); /* version 2, LOCAL */
		write_byte(out, 0);
		write_be16(out, 0);
		return;
	}
	write_byte(out, 0x21); /* version 2, PROXY */
	write_byte(out, header->family == 4 ? 0x11 : 0x21);
	write_be16(out, header->family == 4 ? V4_LEN : V6_LEN);
	write_span(out, span_of(header->source.ip, ip_len));
	write_span(out, span_of(header->destination.ip, ip_len));
	write_be16(out, header->source.port);
	write_be16(out, header->destination.port);
}

void codec_proxy_write(struct writer *out, unsigned version,
		       const struct codec_proxy_header *header)
{
	MUST(version == 1 || version == 2);
	if (version == 1)
		write_text(out, header);
	else
		write_binary(out, header);
}
