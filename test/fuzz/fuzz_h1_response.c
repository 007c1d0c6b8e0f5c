/* Responses as an origin sends them; the first byte chooses method, upgrade and end. Properties:
 * fed in pieces they give what they give whole; a connection is reused only after a whole
 * response with nothing behind. */
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

struct digest {
	uint64_t hash;
	int heads, ends;
	enum codec_h1_fault fault;
	bool reusable;
};

static void mix(struct digest *digest, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		digest->hash = (digest->hash ^ (uint8_t)bytes.ptr[i]) * 1099511628211u;
}

static void note(struct digest *digest, int outcome, const struct codec_h1_event *event)
{
	if (outcome == CODEC_H1_BODY)
		mix(digest, event->body);
	if (outcome == CODEC_H1_HEAD || outcome == CODEC_H1_INTERIM) {
		digest->heads++;
		mix(digest, event->response->reason);
		MUST(event->response->status >= 100 && event->response->status <= 999);
		http_response_strip(event->response);
	}
	digest->ends += outcome == CODEC_H1_END;
	if (outcome == CODEC_H1_ERROR)
		digest->fault = event->fault;
}

static void start(struct codec_h1_client *client, uint8_t choice)
{
	char head[256];
	struct writer writer = writer_of(head, sizeof(head));
	struct http_fields fields = { 0 };
	struct codec_h1_request_out request = {
		.method = choice & 1 ? SPAN("HEAD") : SPAN("GET"),
		.target = SPAN("/"),
		.host = SPAN("a"),
		.fields = &fields,
		.content_length = -1,
		.upgrade = choice & 2 ? SPAN("websocket") : SPAN_NONE,
	};

	codec_h1_client_init(client, &codec_h1_response_limits);
	MUST(codec_h1_write_request_head(client, &writer, &request) == 0);
}

static struct digest run(struct span bytes, uint8_t choice, size_t step)
{
	struct digest digest = { .hash = 14695981039346656037u };
	struct codec_h1_client client;
	struct codec_h1_event event;
	struct arena arena;
	int outcome = CODEC_H1_NEED_MORE;

	start(&client, choice);
	arena_init(&arena, 0);
	while (bytes.len && outcome == CODEC_H1_NEED_MORE) {
		size_t len = bytes.len < step ? bytes.len : step;
		char *copy = malloc(len);
		struct span input = span_of(copy, len);

		MUST(copy);
		memcpy(copy, bytes.ptr, len);
		do {
			outcome = codec_h1_response_next(&client, &input, 1000, &arena, &event);
			MUST(outcome > 0);
			note(&digest, outcome, &event);
		} while (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_CLOSED &&
			 outcome != CODEC_H1_HELD);
		bytes = span_skip(bytes, len - input.len);
		free(copy);
	}
	if ((choice & 4) && outcome == CODEC_H1_NEED_MORE)
		note(&digest, codec_h1_response_eof(&client, &event), &event);
	digest.reusable = codec_h1_client_is_reusable(&client, bytes.len > 0);
	MUST(!digest.reusable || (digest.ends == 1 && !bytes.len && !digest.fault));
	arena_fini(&arena);
	return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct digest whole, single;

	if (size == 0)
		return 0;
	whole = run(span_of(data + 1, size - 1), data[0], size);
	single = run(span_of(data + 1, size - 1), data[0], 1);
	MUST(whole.hash == single.hash && whole.heads == single.heads && whole.ends == single.ends);
	MUST(whole.fault == single.fault && whole.reusable == single.reusable);
	return 0;
}
