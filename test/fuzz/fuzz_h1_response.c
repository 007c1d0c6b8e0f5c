/* Responses as an origin sends them; the first byte chooses method, upgrade and end. Properties:
 * fed in pieces they give what they give whole; a connection is reused only after a whole
 * response with nothing behind; a head written again for a client is read as the same one. */
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

/* As a client gets it: nothing in it can begin another answer. */
static void check_written_again(const struct http_response *response, enum http_method method)
{
	static char head[256 * 1024], asked[256];
	static const struct codec_h1_limits limits = { 140000, 200000, 300, 70000 };
	struct codec_h1_server server = { .method = method, .version = 11, .keep_alive = true };
	struct writer writer = writer_of(head, sizeof(head)), ask = writer_of(asked, sizeof(asked));
	struct http_fields none = { 0 };
	struct codec_h1_request_out request = { .method = http_method_text(method),
						.target = SPAN("/"),
						.host = SPAN("a"),
						.fields = &none,
						.content_length = -1 };
	struct codec_h1_client client;
	struct codec_h1_event event;
	struct arena arena;
	struct span input;

	if (response->status == 101)
		return;
	arena_init(&arena, 0);
	codec_h1_client_init(&client, &limits);
	MUST(codec_h1_write_request_head(&client, &ask, &request) == 0);
	if (response->status < 200)
		MUST(codec_h1_write_interim(&server, &writer, response) == 0);
	else
		MUST(codec_h1_write_response_head(&server, &writer, response, SPAN_NONE) == 0);
	input = writer_done(&writer);
	MUST(codec_h1_response_next(&client, &input, 0, &arena, &event) ==
	     (response->status < 200 ? CODEC_H1_INTERIM : CODEC_H1_HEAD));
	MUST(input.len == 0 && event.response->status == response->status);
	if (response->status >= 200 && http_status_has_body(response->status, method) &&
	    response->has_body)
		MUST(event.response->content_length == response->content_length);
	for (uint32_t i = 0; i < response->fields.count && response->status != 100; i++) {
		const struct http_field *field = &response->fields.items[i];
		const struct http_field *again =
			http_fields_find_text(&event.response->fields, field->name);

		/* Those of framing are the writer's own. */
		if (field->id != HTTP_NAME_OTHER)
			continue;
		MUST(again &&
		     span_equal(again->value,
				http_fields_find_text(&response->fields, field->name)->value));
	}
	arena_fini(&arena);
}

static void note(struct digest *digest, int outcome, const struct codec_h1_event *event,
		 enum http_method method)
{
	if (outcome == CODEC_H1_BODY)
		mix(digest, event->body);
	if (outcome == CODEC_H1_HEAD || outcome == CODEC_H1_INTERIM) {
		digest->heads++;
		mix(digest, event->response->reason);
		MUST(event->response->status >= 100 && event->response->status <= 999);
		for (uint32_t i = 0; i < event->response->fields.count; i++) {
			mix(digest, event->response->fields.items[i].name);
			mix(digest, event->response->fields.items[i].value);
		}
		http_response_strip(event->response);
		check_written_again(event->response, method);
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
	enum http_method method = choice & 1 ? HTTP_HEAD : HTTP_GET;
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
			note(&digest, outcome, &event, method);
		} while (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_CLOSED &&
			 outcome != CODEC_H1_HELD);
		bytes = span_skip(bytes, len - input.len);
		free(copy);
	}
	if ((choice & 4) && outcome == CODEC_H1_NEED_MORE)
		note(&digest, codec_h1_response_eof(&client, &event), &event, method);
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
