#include "codec/h1_internal.h"

enum { INTERIM_MAX = 8 };

void codec_h1_client_init(struct codec_h1_client *client, const struct codec_h1_limits *limits)
{
	*client =
		(struct codec_h1_client){ .limits = limits, .step = H1_CLOSED, .keep_alive = true };
}

bool codec_h1_client_is_reusable(const struct codec_h1_client *client, bool has_input)
{
	return client->step == H1_READY && client->keep_alive && client->writer.ended && !has_input;
}

static int client_fail(struct codec_h1_client *client, int result)
{
	client->step = H1_CLOSED;
	client->keep_alive = false;
	return result;
}

/* RFC 9112, 9.3. */
static void read_persistence(struct codec_h1_client *client, const struct http_response *response)
{
	const struct http_fields *fields = &response->fields;
	bool close = http_fields_list_has(fields, HTTP_NAME_CONNECTION, SPAN("close"));
	bool keep = http_fields_list_has(fields, HTTP_NAME_CONNECTION, SPAN("keep-alive"));
	struct span rest = http_fields_value(fields, HTTP_NAME_KEEP_ALIVE), parameter;
	uint64_t timeout_s;

	client->keep_alive = !close && (response->version == 11 || keep);
	client->keep_alive_timeout_s = 0;
	while (http_list_next(&rest, &parameter))
		if (span_equal_nocase(span_first(parameter, 8), SPAN("timeout=")) &&
		    parse_u64(span_skip(parameter, 8), UINT32_MAX, &timeout_s))
			client->keep_alive_timeout_s = (uint32_t)timeout_s;
}

/* RFC 9112, 6.3. */
static enum codec_h1_framing response_framing(const struct codec_h1_client *client,
					      const struct http_response *response)
{
	if (!http_status_has_body(response->status, client->method))
		return CODEC_H1_FRAMING_NONE;
	if (client->head.is_chunked)
		return CODEC_H1_FRAMING_CHUNKED;
	if (response->content_length >= 0)
		return CODEC_H1_FRAMING_LENGTH;
	return CODEC_H1_FRAMING_CLOSE;
}

static int interim_head(struct codec_h1_client *client, const struct http_response *response,
			struct codec_h1_event *ret)
{
	if (response->status == 101) {
		if (!client->upgrade_wanted) {
			ret->fault = CODEC_H1_FAULT_SWITCH_UNASKED;
			return client_fail(client, CODEC_H1_ERROR);
		}
		client->keep_alive = false;
		client->step = H1_HELD;
		return CODEC_H1_HEAD;
	}
	if (++client->interim_count > INTERIM_MAX) {
		ret->fault = CODEC_H1_FAULT_INTERIM_COUNT;
		return client_fail(client, CODEC_H1_ERROR);
	}
	h1_head_init(&client->head, true);
	return CODEC_H1_INTERIM;
}

static int final_head(struct codec_h1_client *client, struct http_response *response)
{
	enum codec_h1_framing framing = response_framing(client, response);

	read_persistence(client, response);
	response->has_body = framing != CODEC_H1_FRAMING_NONE;
	/* A body is named where none may be. HEAD and 304 may do that, but some origins send it all the same, and a
	 * moment later: the next response must not be read from it. */
	if (!response->has_body && (client->head.is_chunked || response->content_length > 0))
		client->keep_alive = false;
	if (framing == CODEC_H1_FRAMING_CLOSE)
		client->keep_alive = false;
	h1_reader_init(&client->reader, framing,
		       framing == CODEC_H1_FRAMING_LENGTH ? (uint64_t)response->content_length : 0,
		       client->limits);
	client->step = response->has_body ? H1_IN_BODY : H1_AT_END;
	return CODEC_H1_HEAD;
}

static int next_head(struct codec_h1_client *client, struct span *input, struct arena *arena,
		     struct codec_h1_event *ret)
{
	struct codec_h1_head *head = &client->head;
	int result = h1_head_next(head, client->limits, input, arena, &ret->fault);
	struct http_response *response;

	if (result == CODEC_H1_NEED_MORE)
		return result;
	if (result != CODEC_H1_HEAD)
		return client_fail(client, result);
	response = arena_new(arena, struct http_response);
	if (!response)
		return client_fail(client, -ENOMEM);
	response->version = head->first[0].ptr[7] == '1' ? 11 : 10;
	response->status =
		(uint16_t)((head->first[1].ptr[0] - '0') * 100 +
			   (head->first[1].ptr[1] - '0') * 10 + (head->first[1].ptr[2] - '0'));
	response->reason = head->first[2];
	response->fields = head->fields;
	response->content_length = head->content_length;
	if (head->is_chunked && response->version == 10) {
		ret->fault = CODEC_H1_FAULT_CODING_IN_1_0;
		return client_fail(client, CODEC_H1_ERROR);
	}
	ret->response = response;
	if (response->status < 200)
		return interim_head(client, response, ret);
	return final_head(client, response);
}

int codec_h1_response_next(struct codec_h1_client *client, struct span *input, size_t room,
			   struct arena *arena, struct codec_h1_event *ret)
{
	int result;

	*ret = (struct codec_h1_event){ 0 };
	if (client->step == H1_IN_HEAD) {
		if (input->len)
			client->has_started = true;
		return next_head(client, input, arena, ret);
	}
	if (client->step == H1_IN_BODY) {
		result = h1_reader_next(&client->reader, input, room, ret);
		if (result == CODEC_H1_ERROR)
			return client_fail(client, result);
		if (result != CODEC_H1_END)
			return result;
		client->step = H1_AT_END;
	}
	if (client->step == H1_AT_END) {
		client->step = H1_READY;
		return CODEC_H1_END;
	}
	return client->step == H1_HELD ? CODEC_H1_HELD : CODEC_H1_CLOSED;
}

int codec_h1_response_eof(struct codec_h1_client *client, struct codec_h1_event *ret)
{
	bool is_whole =
		client->step == H1_AT_END ||
		(client->step == H1_IN_BODY && client->reader.framing == CODEC_H1_FRAMING_CLOSE);

	*ret = (struct codec_h1_event){ 0 };
	client->keep_alive = false;
	if (client->step == H1_HELD || client->step == H1_READY || client->step == H1_CLOSED)
		return CODEC_H1_CLOSED;
	client->step = H1_CLOSED;
	if (is_whole)
		return CODEC_H1_END;
	ret->fault = CODEC_H1_FAULT_TRUNCATED;
	return CODEC_H1_ERROR;
}
