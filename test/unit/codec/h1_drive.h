/* Feeds bytes to a codec in pieces of a chosen size and writes down what came out, so that two
 * ways of cutting can be compared as text. Body bytes are joined: where they are cut is no
 * property. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codec.h"

enum { TRAIL_SIZE = 256 * 1024 };

struct trail {
	char text[TRAIL_SIZE];
	struct writer writer;
	bool in_body;
	int heads, ends, interims;
	enum codec_h1_fault fault;
	int last; /* outcome */
};

static inline void trail_init(struct trail *trail)
{
	trail->writer = writer_of(trail->text, sizeof(trail->text));
	trail->in_body = false;
	trail->heads = trail->ends = trail->interims = 0;
	trail->fault = CODEC_H1_FAULT_NONE;
	trail->last = 0;
}

static inline void trail_fields(struct trail *trail, const struct http_fields *fields)
{
	for (uint32_t i = 0; i < fields->count; i++)
		write_format(&trail->writer, "|%.*s=%.*s", SPAN_ARG(fields->items[i].name),
			     SPAN_ARG(fields->items[i].value));
}

static inline void trail_event(struct trail *trail, int outcome, const struct codec_h1_event *event)
{
	struct writer *out = &trail->writer;
	const struct http_request *req = event->request;
	const struct http_response *res = event->response;

	trail->last = outcome;
	if (outcome == CODEC_H1_BODY) {
		if (!trail->in_body)
			write_span(out, SPAN("\nbody "));
		trail->in_body = true;
		write_span(out, event->body);
		return;
	}
	if (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_NEED_ROOM)
		trail->in_body = false;
	if (outcome == CODEC_H1_HEAD || outcome == CODEC_H1_INTERIM) {
		outcome == CODEC_H1_HEAD ? trail->heads++ : trail->interims++;
		if (req)
			write_format(out,
				     "\nrequest %.*s %.*s q=%.*s host=%.*s:%u %d length=%lld "
				     "body=%d up=%.*s",
				     SPAN_ARG(req->method_text), SPAN_ARG(req->path.wire),
				     SPAN_ARG(req->query), SPAN_ARG(req->authority.host),
				     req->authority.port, req->version,
				     (long long)req->content_length, req->has_body,
				     SPAN_ARG(req->upgrade));
		if (res)
			write_format(out, "\nresponse %u %.*s %d length=%lld body=%d", res->status,
				     SPAN_ARG(res->reason), res->version,
				     (long long)res->content_length, res->has_body);
		trail_fields(trail, req ? &req->fields : &res->fields);
	} else if (outcome == CODEC_H1_END) {
		trail->ends++;
		write_span(out, SPAN("\nend"));
	} else if (outcome == CODEC_H1_ERROR) {
		trail->fault = event->fault;
		write_format(out, "\nerror %s", codec_h1_fault_text(event->fault));
	}
}

/* Every piece is a buffer of its own size on the heap: a read behind it is ASan's. */
static inline void drive_server(struct trail *trail, struct span bytes, size_t step)
{
	struct codec_h1_server server;
	struct arena arena;

	codec_h1_server_init(&server, &codec_h1_request_limits, true);
	arena_init(&arena, 0);
	trail_init(trail);
	while (bytes.len) {
		size_t len = bytes.len < step ? bytes.len : step;
		char *copy = heap_alloc(len);
		struct span input = span_of(copy, len);
		struct codec_h1_event event;
		int outcome;

		assert_non_null(copy);
		memcpy(copy, bytes.ptr, len);
		bytes = span_skip(bytes, len);
		do {
			outcome = codec_h1_request_next(&server, &input, 7000, &arena, &event);
			assert_true(outcome > 0);
			trail_event(trail, outcome, &event);
			if (outcome == CODEC_H1_HELD)
				codec_h1_server_refuse_upgrade(&server, input.len || bytes.len);
			if (outcome ==
			    CODEC_H1_END) /* the exchange's arena went with its response */
				arena_reset(&arena);
		} while (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_CLOSED);
		assert_int_equal(input.len, 0);
		heap_free(copy);
	}
	arena_fini(&arena);
}

struct client_script {
	struct span method;
	bool upgrade;
	bool eof; /* at the end */
};

static inline void drive_client(struct trail *trail, const struct client_script *script,
				struct span bytes, size_t step)
{
	static char head[1024];
	struct writer writer = writer_of(head, sizeof(head));
	struct http_fields fields = { 0 };
	struct codec_h1_request_out out = {
		.method = script->method,
		.target = SPAN("/"),
		.host = SPAN("origin"),
		.fields = &fields,
		.content_length = -1,
		.upgrade = script->upgrade ? SPAN("websocket") : SPAN_NONE,
	};
	struct codec_h1_client client;
	struct codec_h1_event event;
	struct arena arena;
	int outcome = 0;

	codec_h1_client_init(&client, &codec_h1_response_limits);
	arena_init(&arena, 0);
	trail_init(trail);
	assert_int_equal(codec_h1_write_request_head(&client, &writer, &out), 0);
	while (bytes.len && outcome != CODEC_H1_CLOSED && outcome != CODEC_H1_HELD) {
		size_t len = bytes.len < step ? bytes.len : step;
		char *copy = heap_alloc(len);
		struct span input = span_of(copy, len);

		assert_non_null(copy);
		memcpy(copy, bytes.ptr, len);
		do {
			outcome = codec_h1_response_next(&client, &input, 7000, &arena, &event);
			assert_true(outcome > 0);
			trail_event(trail, outcome, &event);
		} while (outcome != CODEC_H1_NEED_MORE && outcome != CODEC_H1_CLOSED &&
			 outcome != CODEC_H1_HELD);
		bytes = span_skip(bytes, len - input.len);
		heap_free(copy);
	}
	if (script->eof && outcome == CODEC_H1_NEED_MORE)
		trail_event(trail, codec_h1_response_eof(&client, &event), &event);
	/* (whether the last END was seen before the first stray byte depends on the cut, not the
	 * verdict) */
	write_format(&trail->writer, "\nreuse=%d timeout=%u left=%zu",
		     codec_h1_client_is_reusable(&client, bytes.len > 0),
		     client.keep_alive_timeout_s, bytes.len);
	arena_fini(&arena);
}
