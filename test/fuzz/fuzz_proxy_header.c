/* A PROXY header, from who connects. Properties: fed byte by byte it is what it is whole, and asks for no byte
 * more than it has; what follows changes nothing; the address that was read, written again as version 1 and 2, is
 * read again. */
#include <string.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_same(const struct codec_proxy_endpoint *a, const struct codec_proxy_endpoint *b)
{
	return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 && a->port == b->port;
}

static void check_taken(const struct codec_proxy_header *header,
			const struct codec_proxy_header *again, size_t len)
{
	MUST(again->family == header->family && again->len == len);
	MUST(is_same(&again->source, &header->source));
	MUST(is_same(&again->destination, &header->destination));
}

static void write_ip(struct writer *writer, const uint8_t *ip, uint8_t family)
{
	for (size_t i = 0; i < (family == 4 ? 4 : 8); i++) {
		write_str(writer, !i ? "" : family == 4 ? "." : ":");
		if (family == 4)
			write_u64(writer, ip[i]);
		else
			write_hex_u64(writer, (uint64_t)ip[2 * i] << 8 | ip[2 * i + 1], 4);
	}
	write_byte(writer, ' ');
}

static void check_text(const struct codec_proxy_header *header)
{
	char text[CODEC_PROXY_LINE_MAX + 1];
	struct writer writer = writer_of(text, sizeof(text));
	struct codec_proxy_header again;

	write_str(&writer, header->family == 4 ? "PROXY TCP4 " : "PROXY TCP6 ");
	write_ip(&writer, header->source.ip, header->family);
	write_ip(&writer, header->destination.ip, header->family);
	write_u64(&writer, header->source.port);
	write_byte(&writer, ' ');
	write_u64(&writer, header->destination.port);
	write_str(&writer, "\r\n");
	MUST(writer.ok);
	MUST(codec_proxy_parse(writer_done(&writer), &again) == 0);
	check_taken(header, &again, writer_done(&writer).len);
}

static void check_written(const struct codec_proxy_header *header, unsigned version)
{
	char bytes[CODEC_PROXY_LINE_MAX];
	struct writer writer = writer_of(bytes, sizeof(bytes));
	struct codec_proxy_header again;

	codec_proxy_write(&writer, version, header);
	MUST(writer.ok);
	MUST(codec_proxy_parse(writer_done(&writer), &again) == 0);
	check_taken(header, &again, writer_done(&writer).len);
}

/* The first prefix that is more than a beginning decides, and longer ones say the same. */
static int feed(struct span bytes, struct codec_proxy_header *ret)
{
	int outcome = codec_proxy_parse(SPAN(""), ret);

	for (size_t len = 1; len <= bytes.len && outcome == CODEC_PROXY_NEED_MORE; len++)
		outcome = codec_proxy_parse(span_first(bytes, len), ret);
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct codec_proxy_header whole, pieces;
	struct span bytes = span_of(data, size);
	int outcome, fed;

	if (size > CODEC_PROXY_SIZE_MAX + 64)
		return -1;
	outcome = codec_proxy_parse(bytes, &whole);
	fed = feed(bytes, &pieces);
	MUST(outcome == fed && memcmp(&whole, &pieces, sizeof(whole)) == 0);
	MUST((outcome == CODEC_PROXY_REFUSED) == (whole.fault != CODEC_PROXY_FAULT_NONE));
	if (outcome) {
		MUST(whole.len == 0 && whole.family == 0);
		return 0;
	}
	MUST(whole.len <= size && whole.len <= CODEC_PROXY_SIZE_MAX && whole.len >= 15);
	MUST(codec_proxy_parse(span_first(bytes, whole.len - 1), &pieces) == CODEC_PROXY_NEED_MORE);
	if (whole.family)
		check_text(&whole);
	check_written(&whole, 1);
	check_written(&whole, 2);
	return 0;
}
