/* Requests as a client sends them. Properties: fed in pieces they give what they give whole;
 * input is never taken past what was offered; what was accepted has one framing, one Host and a
 * canonical path. */
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

struct digest {
	uint64_t hash;
	int outcomes;
	enum codec_h1_fault fault;
};

static void mix(struct digest *digest, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		digest->hash = (digest->hash ^ (uint8_t)bytes.ptr[i]) * 1099511628211u;
}

static void check_request(struct arena *arena, const struct http_request *request)
{
	const struct http_fields *fields = &request->fields;
	struct http_path again;

	MUST(http_fields_count(fields, HTTP_NAME_CONTENT_LENGTH) +
		     http_fields_count(fields, HTTP_NAME_TRANSFER_ENCODING) <=
	     1);
	MUST(http_fields_count(fields, HTTP_NAME_HOST) == 1 || request->version == 10);
	MUST(http_is_token(request->method_text));
	for (uint32_t i = 0; i < fields->count; i++)
		MUST(http_is_token(fields->items[i].name) &&
		     http_is_field_value(fields->items[i].value));
	if (request->target_form == HTTP_TARGET_ORIGIN ||
	    request->target_form == HTTP_TARGET_ABSOLUTE) {
		MUST(http_path_normalize(arena, request->path.wire, &again) == 0);
		MUST(span_equal(again.wire, request->path.wire) &&
		     span_equal(again.text, request->path.text));
	}
}

static struct digest run(struct span bytes, size_t step)
{
	struct digest digest = { .hash = 14695981039346656037u };
	struct codec_h1_server server;
	struct arena arena;

	codec_h1_server_init(&server, &codec_h1_request_limits, true);
	arena_init(&arena, 0);
	while (bytes.len) {
		size_t len = bytes.len < step ? bytes.len : step;
		char *copy = malloc(len);
		struct span input = span_of(copy, len);
		struct codec_h1_event event;
		int outcome;

		MUST(copy);
		memcpy(copy, bytes.ptr, len);
		bytes = span_skip(bytes, len);
		do {
			outcome = codec_h1_request_next(&server, &input, 1000, &arena, &event);
			MUST(outcome > 0);
			if (outcome == CODEC_H1_HEAD) {
				check_request(&arena, event.request);
				mix(&digest, event.request->path.text);
			}
			if (outcome == CODEC_H1_BODY)
				mix(&digest, event.body);
			if (outcome == CODEC_H1_HEAD || outcome == CODEC_H1_END)
				digest.outcomes++;
			if (outcome == CODEC_H1_ERROR)
				digest.fault = event.fault;
			if (outcome == CODEC_H1_HELD)
				codec_h1_server_refuse_upgrade(&server, input.len || bytes.len);
			if (outcome == CODEC_H1_END)
				arena_reset(&arena);
		} while (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_CLOSED);
		MUST(input.len == 0);
		free(copy);
	}
	arena_fini(&arena);
	return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct digest whole = run(span_of(data, size), size ? size : 1);
	struct digest single = run(span_of(data, size), 1);
	struct digest thirds = run(span_of(data, size), size / 3 + 1);

	MUST(whole.hash == single.hash && whole.outcomes == single.outcomes &&
	     whole.fault == single.fault);
	MUST(whole.hash == thirds.hash && whole.outcomes == thirds.outcomes &&
	     whole.fault == thirds.fault);
	return 0;
}
