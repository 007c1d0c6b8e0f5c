#include "codec/h1_internal.h"

void codec_h1_server_init(struct codec_h1_server *server, const struct codec_h1_limits *limits,
			  bool secure)
{
	*server = (struct codec_h1_server){
		.limits = limits,
		.secure = secure,
		.step = H1_READY,
		.version = 11,
		.keep_alive = true,
	};
}

bool codec_h1_server_is_idle(const struct codec_h1_server *server)
{
	return server->step == H1_READY ||
	       (server->step == H1_IN_HEAD && !server->head.used && !server->head.has_line);
}

bool codec_h1_server_is_reading(const struct codec_h1_server *server)
{
	return server->step == H1_IN_BODY;
}

void codec_h1_server_refuse_upgrade(struct codec_h1_server *server, bool has_input)
{
	if (!server->is_held)
		return;
	server->is_held = false;
	/* With a body still to come nobody can say whose the bytes are. */
	if (has_input || server->step == H1_IN_BODY)
		server->keep_alive = false;
	if (server->step == H1_HELD)
		server->step = server->keep_alive ? H1_READY : H1_CLOSED;
}

/* RFC 9112, 3.2, 3.3: absolute-form wins over Host, but then both must say the same, else two
 * readers choose two sites. */
static enum codec_h1_fault check_authority(const struct http_request *request,
					   const struct http_authority *host)
{
	const struct http_authority *target = &request->authority;
	bool is_https = span_equal_nocase(span_first(request->target_raw, 6), SPAN("https:"));
	bool is_same;

	if (request->target_form == HTTP_TARGET_AUTHORITY && host->port == 0)
		is_same = host->kind == target->kind && span_equal(host->host, target->host);
	else
		is_same = http_authority_equal(host, target, is_https);
	return is_same ? CODEC_H1_FAULT_NONE : CODEC_H1_FAULT_HOST_MISMATCH;
}

/* -ENOMEM, or 0 with *ret_fault. */
static int read_authority(struct http_request *request, struct arena *arena,
			  enum codec_h1_fault *ret_fault)
{
	bool has_authority = request->authority.kind != HTTP_HOST_NONE;
	struct http_authority host;
	int result;

	*ret_fault = CODEC_H1_FAULT_NONE;
	if (!http_fields_has(&request->fields, HTTP_NAME_HOST)) {
		if (request->version == 11)
			*ret_fault = CODEC_H1_FAULT_HOST_MISSING;
		return 0;
	}
	result = http_authority_parse(arena, http_fields_value(&request->fields, HTTP_NAME_HOST),
				      &host);
	if (result < 0)
		return result;
	if (result)
		*ret_fault = CODEC_H1_FAULT_HOST_INVALID;
	else if (has_authority)
		*ret_fault = check_authority(request, &host);
	else
		request->authority = host;
	return 0;
}

/* What Connection, Upgrade and Expect say. A 1.0 client cannot be sent 1xx: its Expect and
 * Upgrade are not looked at (RFC 9110, 7.8, 10.1.1). */
static enum codec_h1_fault read_options(struct codec_h1_server *server,
					struct http_request *request)
{
	const struct http_fields *fields = &request->fields;
	bool has_connection = http_fields_has(fields, HTTP_NAME_CONNECTION), close = false,
	     keep = false;
	struct span protocols = http_fields_value(fields, HTTP_NAME_UPGRADE);
	struct span expect = http_fields_value(fields, HTTP_NAME_EXPECT);

	if (has_connection) {
		close = http_fields_list_has(fields, HTTP_NAME_CONNECTION, SPAN("close"));
		keep = http_fields_list_has(fields, HTTP_NAME_CONNECTION, SPAN("keep-alive"));
	}
	server->keep_alive = !close && (request->version == 11 || keep);
	if (request->version != 11)
		return CODEC_H1_FAULT_NONE;
	if (has_connection && protocols.len &&
	    http_fields_list_has(fields, HTTP_NAME_CONNECTION, SPAN("upgrade"))) {
		if (!http_list_next(&protocols, &request->upgrade))
			request->upgrade = SPAN_NONE;
	}
	if (expect.ptr) {
		if (!span_equal_nocase(expect, SPAN("100-continue")) ||
		    http_fields_count(fields, HTTP_NAME_EXPECT) != 1)
			return CODEC_H1_FAULT_EXPECTATION;
		request->expect_continue = request->has_body;
	}
	return CODEC_H1_FAULT_NONE;
}

/* The head is whole. -ENOMEM, or 0 with *ret_fault and *ret. */
static int finish_head(struct codec_h1_server *server, struct arena *arena,
		       struct http_request **ret, enum codec_h1_fault *ret_fault)
{
	const struct codec_h1_head *head = &server->head;
	struct http_request *request = arena_new(arena, struct http_request);
	int result;

	if (!request)
		return -ENOMEM;
	request->method_text = head->first[0];
	request->method = http_method_of(head->first[0]);
	request->version = head->first[2].ptr[7] == '1' ? 11 : 10;
	request->secure = server->secure;
	request->fields = head->fields;
	request->content_length = head->content_length;
	request->has_body = head->is_chunked || head->content_length > 0;

	result = http_target_parse(arena, head->first[1], request);
	if (result < 0)
		return result;
	*ret_fault = result ? CODEC_H1_FAULT_TARGET : CODEC_H1_FAULT_NONE;
	if (!*ret_fault && head->is_chunked && request->version == 10)
		*ret_fault = CODEC_H1_FAULT_CODING_IN_1_0;
	if (!*ret_fault && read_authority(request, arena, ret_fault))
		return -ENOMEM;
	if (!*ret_fault)
		*ret_fault = read_options(server, request);
	*ret = request;
	return 0;
}

static void begin_exchange(struct codec_h1_server *server, const struct http_request *request)
{
	enum codec_h1_framing framing = server->head.is_chunked ? CODEC_H1_FRAMING_CHUNKED
					: request->has_body     ? CODEC_H1_FRAMING_LENGTH
								: CODEC_H1_FRAMING_NONE;

	h1_reader_init(&server->reader, framing,
		       request->has_body ? (uint64_t)request->content_length : 0, server->limits);
	server->writer = (struct codec_h1_writer){ .framing = CODEC_H1_FRAMING_NONE };
	server->method = request->method;
	server->version = request->version;
	server->continue_wanted = request->expect_continue;
	server->is_held = request->upgrade.len || request->method == HTTP_CONNECT;
	server->step = request->has_body ? H1_IN_BODY : H1_AT_END;
}

static int server_fail(struct codec_h1_server *server, int result)
{
	server->step = H1_CLOSED;
	server->keep_alive = false;
	server->is_held = false;
	return result;
}

/* The answer to a head that was refused is framed for this request, not for the one before: without
 * that a 400 after a HEAD would have no body. */
static int head_fail(struct codec_h1_server *server, int result)
{
	const struct codec_h1_head *head = &server->head;
	bool has_method = head->has_line && head->first[0].len > 0;

	server->method = has_method ? http_method_of(head->first[0]) : HTTP_GET;
	server->version = has_method && head->first[2].ptr[7] == '0' ? 10 : 11;
	server->continue_wanted = false;
	server->reader = (struct codec_h1_reader){ .framing = CODEC_H1_FRAMING_NONE };
	return server_fail(server, result);
}

static int next_head(struct codec_h1_server *server, struct span *input, struct arena *arena,
		     struct codec_h1_event *ret)
{
	int result = h1_head_next(&server->head, server->limits, input, arena, &ret->fault);

	if (result == CODEC_H1_NEED_MORE)
		return result;
	if (result != CODEC_H1_HEAD)
		return head_fail(server, result);
	result = finish_head(server, arena, &ret->request, &ret->fault);
	if (result < 0)
		return head_fail(server, result);
	if (ret->fault)
		return head_fail(server, CODEC_H1_ERROR);
	begin_exchange(server, ret->request);
	return CODEC_H1_HEAD;
}

static int next_body(struct codec_h1_server *server, struct span *input, size_t room,
		     struct codec_h1_event *ret)
{
	int result = h1_reader_next(&server->reader, input, room, ret);

	if (result == CODEC_H1_ERROR)
		return server_fail(server, result);
	if (result == CODEC_H1_BODY)
		server->continue_wanted = false; /* it did not wait */
	if (result == CODEC_H1_END)
		server->step = H1_AT_END;
	return result;
}

int codec_h1_request_next(struct codec_h1_server *server, struct span *input, size_t room,
			  struct arena *arena, struct codec_h1_event *ret)
{
	*ret = (struct codec_h1_event){ 0 };
	if (server->step == H1_READY && !server->keep_alive)
		server->step = H1_CLOSED;
	if (server->step == H1_READY) {
		if (input->len == 0)
			return CODEC_H1_NEED_MORE;
		h1_head_init(&server->head, false);
		server->step = H1_IN_HEAD;
	}
	if (server->step == H1_IN_HEAD)
		return next_head(server, input, arena, ret);
	if (server->step == H1_IN_BODY) {
		int result = next_body(server, input, room, ret);

		if (result != CODEC_H1_END)
			return result;
	}
	if (server->step == H1_AT_END) {
		server->step = server->is_held ? H1_HELD : H1_READY;
		return CODEC_H1_END;
	}
	if (server->step == H1_HELD)
		return CODEC_H1_HELD;
	*input = span_skip(*input, input->len);
	return CODEC_H1_CLOSED;
}
