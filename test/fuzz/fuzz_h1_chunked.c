/* A chunked body alone, behind a fixed head. The first bytes choose where it is cut. Properties:
 * however it is cut, the same bytes come out, none of them framing, and the same end or fault; what
 * came out, framed by our own writer, reads back as the same; an end is only found where one stands. */
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 32768, CUTS = 8 };

struct result {
	size_t len, used; /* bytes of the body; bytes of the input up to its end */
	bool ended;
	enum codec_h1_fault fault;
	char body[BODY_MAX];
};

static void feed(struct codec_h1_server *server, struct arena *arena, struct span part, size_t room,
		 struct result *result)
{
	char *copy = malloc(part.len + 1);
	struct span input = span_of(copy, part.len);

	MUST(copy);
	memcpy(copy, part.len ? part.ptr : "", part.len);
	while (!result->ended && !result->fault) {
		struct codec_h1_event event;
		struct span before = input;
		int outcome = codec_h1_request_next(server, &input, room, arena, &event);

		MUST(input.len <= before.len && input.ptr == before.ptr + (before.len - input.len));
		result->used += before.len - input.len;
		if (outcome == CODEC_H1_BODY) {
			MUST(event.body.len >= 1 && event.body.len <= room);
			MUST(event.body.ptr >= copy &&
			     event.body.ptr + event.body.len <= copy + part.len);
			MUST(result->len + event.body.len <= BODY_MAX);
			memcpy(result->body + result->len, event.body.ptr, event.body.len);
			result->len += event.body.len;
		} else if (outcome == CODEC_H1_END) {
			result->ended = true;
		} else if (outcome == CODEC_H1_ERROR) {
			result->fault = event.fault;
		} else {
			MUST(outcome == CODEC_H1_NEED_MORE && input.len == 0);
			break;
		}
	}
	free(copy);
}

/* `cuts`: lengths of the parts, used in turn; 0 counts as 1. */
static void run(struct span bytes, const uint8_t *cuts, size_t cut_count, size_t room,
		struct result *ret)
{
	struct span head = SPAN("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	struct codec_h1_server server;
	struct codec_h1_event event;
	struct arena arena;
	size_t turn = 0;

	arena_init(&arena, 0);
	codec_h1_server_init(&server, &codec_h1_request_limits, true);
	MUST(codec_h1_request_next(&server, &head, 0, &arena, &event) == CODEC_H1_HEAD);
	MUST(event.request->has_body && event.request->content_length == -1);
	ret->len = ret->used = 0;
	ret->ended = false;
	ret->fault = CODEC_H1_FAULT_NONE;
	while (bytes.len && !ret->ended && !ret->fault) {
		size_t len = cut_count ? cuts[turn++ % cut_count] : bytes.len;

		len = len ? len : 1;
		feed(&server, &arena, span_first(bytes, len), room, ret);
		bytes = span_skip(bytes, len);
	}
	arena_fini(&arena);
}

static void check_same(const struct result *a, const struct result *b)
{
	MUST(a->len == b->len && memcmp(a->body, b->body, a->len) == 0);
	MUST(a->ended == b->ended && a->fault == b->fault);
	MUST(!a->ended || a->used == b->used);
}

static size_t put_frame(char *to, const struct codec_h1_frame *frame, struct span body)
{
	struct writer writer = writer_of(to, body.len + CODEC_H1_FRAME_SIZE + 8);

	write_span(&writer, span_of(frame->prefix, frame->prefix_len));
	write_span(&writer, body);
	write_span(&writer, frame->suffix);
	MUST(writer.ok);
	return writer_done(&writer).len;
}

static void check_written_again(const struct result *first, size_t step)
{
	static char text[BODY_MAX * (CODEC_H1_FRAME_SIZE + 1) + 64];
	static struct result again;
	struct codec_h1_writer writer = { .framing = CODEC_H1_FRAMING_CHUNKED };
	struct span left = span_of(first->body, first->len);
	struct codec_h1_frame frame;
	size_t len = 0;

	/* Single bytes in chunks are refused as overhead where there are many. */
	if (step < 16)
		step = 16;
	while (left.len) {
		struct span part = span_first(left, step);

		MUST(codec_h1_body_frame(&writer, part.len, &frame) == 0);
		len += put_frame(text + len, &frame, part);
		left = span_skip(left, part.len);
	}
	MUST(codec_h1_body_end(&writer, &frame) == 0);
	len += put_frame(text + len, &frame, SPAN_NONE);
	run(span_of(text, len), NULL, 0, BODY_MAX, &again);
	MUST(again.ended && again.used == len && again.len == first->len);
	MUST(memcmp(again.body, first->body, first->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result whole, single, cut;
	static const uint8_t one[] = { 1 };

	if (size < CUTS || size > BODY_MAX)
		return -1;

	struct span bytes = span_of(data + CUTS, size - CUTS);

	run(bytes, NULL, 0, BODY_MAX, &whole);
	run(bytes, one, 1, BODY_MAX, &single);
	run(bytes, data, CUTS, (size_t)data[0] + 1, &cut);
	check_same(&whole, &single);
	check_same(&whole, &cut);
	if (whole.ended) {
		MUST(whole.used >= 5 &&
		     span_equal(span_of(bytes.ptr + whole.used - 2, 2), SPAN("\r\n")));
		check_written_again(&whole, data[1]);
	}
	return 0;
}
