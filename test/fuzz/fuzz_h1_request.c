/* Requests as a client sends them. Properties: fed in pieces they give what they give whole;
 * input is never taken past what was offered; what was accepted has one framing, one Host and a
 * canonical path; and, written again for an origin, it is read as the same request: the one thing
 * that all smuggling needs is that it is not. */
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void mix_request(struct digest *digest, const struct http_request *request)
{
	mix(digest, request->method_text);
	mix(digest, request->path.text);
	mix(digest, request->query);
	mix(digest, request->authority.host);
	for (uint32_t i = 0; i < request->fields.count; i++) {
		mix(digest, request->fields.items[i].name);
		mix(digest, request->fields.items[i].value);
	}
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

/* Those that a codec writes itself, and those of one hop. */
static bool is_carried(enum http_name id)
{
	static const enum http_name others[] = {
		HTTP_NAME_HOST,
		HTTP_NAME_CONTENT_LENGTH,
		HTTP_NAME_TRANSFER_ENCODING,
		HTTP_NAME_CONNECTION,
		HTTP_NAME_KEEP_ALIVE,
		HTTP_NAME_UPGRADE,
		HTTP_NAME_TRAILER,
		HTTP_NAME_PROXY_CONNECTION,
		HTTP_NAME_EXPECT,
		HTTP_NAME_HTTP2_SETTINGS,
		HTTP_NAME_TE,
	};

	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (others[i] == id)
			return false;
	return true;
}

static const struct http_field *next_carried(const struct http_fields *fields, uint32_t *at)
{
	while (*at < fields->count && !is_carried(fields->items[*at].id))
		(*at)++;
	return *at < fields->count ? &fields->items[(*at)++] : NULL;
}

static void check_same_fields(const struct http_fields *a, const struct http_fields *b)
{
	uint32_t a_at = 0, b_at = 0;

	for (;;) {
		const struct http_field *one = next_carried(a, &a_at);
		const struct http_field *other = next_carried(b, &b_at);

		MUST(!one == !other);
		if (!one)
			return;
		MUST(span_equal(one->name, other->name) && span_equal(one->value, other->value));
	}
}

static void check_same(const struct http_request *a, const struct http_request *b)
{
	bool wants_length =
		a->method == HTTP_POST || a->method == HTTP_PUT || a->method == HTTP_PATCH;

	MUST(span_equal(a->method_text, b->method_text) && a->method == b->method);
	MUST(span_equal(a->path.wire, b->path.wire) && span_equal(a->path.text, b->path.text));
	MUST(a->has_query == b->has_query && span_equal(a->query, b->query));
	MUST(a->authority.kind == HTTP_HOST_NONE ||
	     http_authority_equal(&a->authority, &b->authority, true));
	MUST(a->has_body == b->has_body);
	MUST(a->content_length == b->content_length || (wants_length && !a->has_body));
	check_same_fields(&a->fields, &b->fields);
}

/* As an origin gets it, read by the same strict reader: one request and nothing behind it. */
static void check_written_again(struct http_request *request)
{
	static char head[128 * 1024];
	struct writer writer = writer_of(head, sizeof(head));
	struct codec_h1_request_out out = {
		.method = request->method_text,
		.host = request->authority.raw.len ? request->authority.raw : SPAN("a"),
		.fields = &request->fields,
		.content_length = request->content_length,
		.has_body = request->has_body,
		.expect_continue = request->expect_continue,
	};
	static const struct codec_h1_limits limits = { 70000, 120000, 200, 70000 };
	struct codec_h1_client client;
	struct codec_h1_server server;
	struct codec_h1_event event;
	struct arena arena;

	if (request->method == HTTP_CONNECT)
		return;
	arena_init(&arena, 0);
	http_request_strip(request);
	out.target = request->path.wire;
	if (request->has_query)
		out.target = arena_format(&arena, "%.*s?%.*s", SPAN_ARG(request->path.wire),
					  SPAN_ARG(request->query));
	codec_h1_client_init(&client, &codec_h1_response_limits);
	MUST(codec_h1_write_request_head(&client, &writer, &out) == 0);

	struct span input = writer_done(&writer);

	codec_h1_server_init(&server, &limits, true);
	MUST(codec_h1_request_next(&server, &input, 0, &arena, &event) == CODEC_H1_HEAD);
	MUST(input.len == 0);
	check_same(request, event.request);
	arena_fini(&arena);
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
				mix_request(&digest, event.request);
				check_written_again(event.request);
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
