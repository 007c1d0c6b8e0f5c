#include "codec/h1_internal.h"

#include <string.h>

/* Fields that the writers below make themselves, or that belong to the other side's hop. */
static bool is_ours(enum http_name id)
{
	return id == HTTP_NAME_CONTENT_LENGTH || id == HTTP_NAME_TRANSFER_ENCODING ||
	       id == HTTP_NAME_CONNECTION || id == HTTP_NAME_KEEP_ALIVE ||
	       id == HTTP_NAME_UPGRADE || id == HTTP_NAME_PROXY_CONNECTION ||
	       id == HTTP_NAME_TRAILER;
}

static bool is_ours_in_request(enum http_name id)
{
	return is_ours(id) || id == HTTP_NAME_HOST || id == HTTP_NAME_EXPECT ||
	       id == HTTP_NAME_TE || id == HTTP_NAME_HTTP2_SETTINGS;
}

static void write_field(struct writer *writer, struct span name, struct span value)
{
	write_span(writer, name);
	write_span(writer, SPAN(": "));
	write_span(writer, value);
	write_span(writer, SPAN("\r\n"));
}

static void write_length(struct writer *writer, int64_t length)
{
	write_span(writer, SPAN("Content-Length: "));
	write_u64(writer, (uint64_t)length);
	write_span(writer, SPAN("\r\n"));
}

/* The last door against response splitting: peers' fields were checked when they were read,
 * those that configuration or a rewrite made are checked here. */
static bool field_is_sound(const struct http_field *field)
{
	return http_is_field_value(field->value) &&
	       (field->id != HTTP_NAME_OTHER || http_is_token(field->name));
}

static bool is_visible(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!(http_char_class[(uint8_t)text.ptr[i]] & HTTP_CHAR_TARGET))
			return false;
	return text.len > 0;
}

size_t codec_h1_head_size(const struct http_fields *fields, size_t extra)
{
	size_t size = 512 + extra;

	for (uint32_t i = 0; i < fields->count; i++)
		size += fields->items[i].name.len + fields->items[i].value.len + 4;
	return size;
}

static void write_status_line(struct writer *writer, uint16_t status, struct span reason)
{
	write_span(writer, SPAN("HTTP/1.1 "));
	write_byte(writer, (char)('0' + status / 100 % 10));
	write_byte(writer, (char)('0' + status / 10 % 10));
	write_byte(writer, (char)('0' + status % 10));
	write_byte(writer, ' ');
	write_span(writer,
		   reason.len && http_is_field_value(reason) ? reason : http_status_reason(status));
	write_span(writer, SPAN("\r\n"));
}

/* RFC 9112, 6: what the client can read without doubt. */
static enum codec_h1_framing choose_framing(struct codec_h1_server *server,
					    const struct http_response *response)
{
	if (!http_status_has_body(response->status, server->method))
		return CODEC_H1_FRAMING_NONE;
	if (response->content_length >= 0 || !response->has_body)
		return CODEC_H1_FRAMING_LENGTH;
	if (server->version == 11)
		return CODEC_H1_FRAMING_CHUNKED;
	server->keep_alive = false;
	return CODEC_H1_FRAMING_CLOSE;
}

static void write_response_framing(struct codec_h1_server *server, struct writer *writer,
				   const struct http_response *response)
{
	int64_t length = response->content_length;

	switch (server->writer.framing) {
	case CODEC_H1_FRAMING_NONE:
		if (server->method == HTTP_HEAD && length >= 0 && response->status >= 200 &&
		    response->status != 204 && response->status != 304)
			write_length(writer, length);
		break;
	case CODEC_H1_FRAMING_LENGTH:
		write_length(writer, (int64_t)server->writer.left);
		break;
	case CODEC_H1_FRAMING_CHUNKED:
		write_span(writer, SPAN("Transfer-Encoding: chunked\r\n"));
		break;
	case CODEC_H1_FRAMING_CLOSE:
		break;
	}
	if (response->status == 101)
		write_span(writer, SPAN("Connection: upgrade\r\n"));
	else if (!server->keep_alive)
		write_span(writer, SPAN("Connection: close\r\n"));
	else if (server->version == 10)
		write_span(writer, SPAN("Connection: keep-alive\r\n"));
}

int codec_h1_write_response_head(struct codec_h1_server *server, struct writer *writer,
				 const struct http_response *response, struct span date_text)
{
	bool has_date = false;
	bool is_granted = response->status == 101 ||
			  (server->method == HTTP_CONNECT && response->status < 300);

	/* Not granted, and nobody said whether bytes stand behind: suppose so. */
	if (server->is_held && !is_granted)
		codec_h1_server_refuse_upgrade(server, true);
	server->continue_wanted = false;
	server->writer = (struct codec_h1_writer){ .framing = choose_framing(server, response) };
	if (server->writer.framing == CODEC_H1_FRAMING_LENGTH && response->content_length > 0)
		server->writer.left = (uint64_t)response->content_length;

	write_status_line(writer, response->status, response->reason);
	for (uint32_t i = 0; i < response->fields.count; i++) {
		const struct http_field *field = &response->fields.items[i];

		if (is_ours(field->id) &&
		    !(field->id == HTTP_NAME_UPGRADE && response->status == 101))
			continue;
		if (!field_is_sound(field))
			return -EINVAL;
		has_date = has_date || field->id == HTTP_NAME_DATE;
		write_field(writer, field->name, field->value);
	}
	if (!has_date && date_text.len)
		write_field(writer, SPAN("Date"), date_text);
	write_response_framing(server, writer, response);
	write_span(writer, SPAN("\r\n"));
	return writer->ok ? 0 : -ENOSPC;
}

int codec_h1_write_interim(struct codec_h1_server *server, struct writer *writer,
			   const struct http_response *response)
{
	MUST(response->status >= 100 && response->status < 200 && response->status != 101);
	if (server->version != 11)
		return 0;
	if (response->status == 100)
		server->continue_wanted = false;
	write_status_line(writer, response->status, response->reason);
	for (uint32_t i = 0; i < response->fields.count; i++) {
		const struct http_field *field = &response->fields.items[i];

		if (is_ours(field->id) || response->status == 100)
			continue;
		if (!field_is_sound(field))
			return -EINVAL;
		write_field(writer, field->name, field->value);
	}
	write_span(writer, SPAN("\r\n"));
	return writer->ok ? 0 : -ENOSPC;
}

int codec_h1_write_continue(struct codec_h1_server *server, struct writer *writer)
{
	if (!server->continue_wanted)
		return 0;
	server->continue_wanted = false;
	write_span(writer, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
	return writer->ok ? 0 : -ENOSPC;
}

int codec_h1_write_refusal(struct codec_h1_server *server, struct writer *writer, uint16_t status,
			   struct span text, struct span date_text)
{
	server->keep_alive = false;
	server->continue_wanted = false;
	server->writer =
		(struct codec_h1_writer){ .framing = CODEC_H1_FRAMING_NONE, .ended = true };
	write_status_line(writer, status, SPAN_NONE);
	write_field(writer, SPAN("Content-Type"), SPAN("text/plain; charset=utf-8"));
	if (date_text.len)
		write_field(writer, SPAN("Date"), date_text);
	write_length(writer, (int64_t)text.len);
	write_span(writer, SPAN("Connection: close\r\n\r\n"));
	write_span(writer, text);
	return writer->ok ? 0 : -ENOSPC;
}

/* Methods whose requests an origin expects to have a body: without a length some wait for one
 * (RFC 9110, 8.6). */
static bool wants_length(enum http_method method)
{
	return method == HTTP_POST || method == HTTP_PUT || method == HTTP_PATCH;
}

static void write_request_framing(struct codec_h1_client *client, struct writer *writer,
				  const struct codec_h1_request_out *request)
{
	struct codec_h1_writer *body = &client->writer;

	*body = (struct codec_h1_writer){ .framing = CODEC_H1_FRAMING_NONE };
	if (request->has_body && request->content_length < 0) {
		body->framing = CODEC_H1_FRAMING_CHUNKED;
		write_span(writer, SPAN("Transfer-Encoding: chunked\r\n"));
	} else if (request->content_length >= 0) {
		body->framing = CODEC_H1_FRAMING_LENGTH;
		body->left = (uint64_t)request->content_length;
		write_length(writer, request->content_length);
	} else if (wants_length(client->method)) {
		write_length(writer, 0);
	}
	body->ended = body->framing == CODEC_H1_FRAMING_NONE ||
		      (body->framing == CODEC_H1_FRAMING_LENGTH && body->left == 0);
}

int codec_h1_write_request_head(struct codec_h1_client *client, struct writer *writer,
				const struct codec_h1_request_out *request)
{
	if (!http_is_token(request->method) || !is_visible(request->target) ||
	    !is_visible(request->host) || !http_is_field_value(request->upgrade))
		return -EINVAL;
	client->method = http_method_of(request->method);
	client->upgrade_wanted = request->upgrade.len > 0;
	client->interim_count = 0;
	client->has_started = false;
	client->keep_alive = !request->close;
	client->step = H1_IN_HEAD;
	h1_head_init(&client->head, true);

	write_span(writer, request->method);
	write_byte(writer, ' ');
	write_span(writer, request->target);
	write_span(writer, SPAN(" HTTP/1.1\r\n"));
	write_field(writer, SPAN("Host"), request->host);
	for (uint32_t i = 0; i < request->fields->count; i++) {
		const struct http_field *field = &request->fields->items[i];

		if (is_ours_in_request(field->id))
			continue;
		if (!field_is_sound(field))
			return -EINVAL;
		write_field(writer, field->name, field->value);
	}
	write_request_framing(client, writer, request);
	if (request->expect_continue)
		write_span(writer, SPAN("Expect: 100-continue\r\n"));
	if (request->upgrade.len) {
		write_span(writer, SPAN("Connection: upgrade\r\n"));
		write_field(writer, SPAN("Upgrade"), request->upgrade);
	} else if (request->close) {
		write_span(writer, SPAN("Connection: close\r\n"));
	}
	write_span(writer, SPAN("\r\n"));
	return writer->ok ? 0 : -ENOSPC;
}

static void put_chunk_line(struct codec_h1_frame *frame, uint64_t len)
{
	static const char digits[] = "0123456789abcdef";
	int shift = 60;

	while (shift > 0 && (len >> shift) == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		frame->prefix[frame->prefix_len++] = digits[(len >> shift) & 15];
	frame->prefix[frame->prefix_len++] = '\r';
	frame->prefix[frame->prefix_len++] = '\n';
}

int codec_h1_body_frame(struct codec_h1_writer *body, uint64_t len, struct codec_h1_frame *ret)
{
	MUST(len > 0); /* a chunk of no bytes would end the body */
	ret->prefix_len = 0;
	ret->suffix = SPAN_NONE;
	switch (body->framing) {
	case CODEC_H1_FRAMING_NONE:
		return CODEC_H1_BODY_LONG;
	case CODEC_H1_FRAMING_LENGTH:
		if (len > body->left)
			return CODEC_H1_BODY_LONG;
		body->left -= len;
		break;
	case CODEC_H1_FRAMING_CHUNKED:
		put_chunk_line(ret, len);
		ret->suffix = SPAN("\r\n");
		break;
	case CODEC_H1_FRAMING_CLOSE:
		break;
	}
	return 0;
}

int codec_h1_body_end(struct codec_h1_writer *body, struct codec_h1_frame *ret)
{
	ret->prefix_len = 0;
	ret->suffix = SPAN_NONE;
	if (body->framing == CODEC_H1_FRAMING_LENGTH && body->left)
		return CODEC_H1_BODY_SHORT;
	if (body->framing == CODEC_H1_FRAMING_CHUNKED && !body->ended) {
		memcpy(ret->prefix, "0\r\n\r\n", 5);
		ret->prefix_len = 5;
	}
	body->ended = true;
	return 0;
}
