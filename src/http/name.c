#include "http/http.h"

#include <string.h>

static const struct span name_texts[HTTP_NAME_COUNT] = {
#define X(id, text) [HTTP_NAME_##id] = { text, sizeof(text) - 1 },
	HTTP_NAMES(X)
#undef X
};

enum { NAME_LEN_MAX = 25, NAMES_PER_LEN = 6 };

/* The names by their length: with the first letter that leaves one candidate, rarely two. A new
 * name must be entered here too; test_fields.c finds each. */
static const uint8_t names_by_len[NAME_LEN_MAX + 1][NAMES_PER_LEN] = {
	[2] = { HTTP_NAME_TE },
	[3] = { HTTP_NAME_VIA },
	[4] = { HTTP_NAME_HOST, HTTP_NAME_DATE, HTTP_NAME_ETAG, HTTP_NAME_VARY },
	[5] = { HTTP_NAME_PROXY, HTTP_NAME_ALLOW, HTTP_NAME_RANGE },
	[6] = {
		HTTP_NAME_EXPECT, HTTP_NAME_SERVER, HTTP_NAME_ORIGIN, HTTP_NAME_COOKIE,
		HTTP_NAME_ACCEPT,
	},
	[7] = { HTTP_NAME_UPGRADE, HTTP_NAME_TRAILER, HTTP_NAME_REFERER, HTTP_NAME_EXPIRES },
	[8] = { HTTP_NAME_LOCATION, HTTP_NAME_IF_MATCH, HTTP_NAME_IF_RANGE },
	[9] = { HTTP_NAME_FORWARDED, HTTP_NAME_X_REAL_IP },
	[10] = {
		HTTP_NAME_CONNECTION, HTTP_NAME_KEEP_ALIVE, HTTP_NAME_USER_AGENT,
		HTTP_NAME_SET_COOKIE, HTTP_NAME_TRACESTATE,
	},
	[11] = { HTTP_NAME_RETRY_AFTER, HTTP_NAME_TRACEPARENT },
	[12] = { HTTP_NAME_CONTENT_TYPE, HTTP_NAME_X_REQUEST_ID },
	[13] = {
		HTTP_NAME_AUTHORIZATION, HTTP_NAME_ACCEPT_RANGES, HTTP_NAME_CACHE_CONTROL,
		HTTP_NAME_CONTENT_RANGE, HTTP_NAME_LAST_MODIFIED, HTTP_NAME_IF_NONE_MATCH,
	},
	[14] = { HTTP_NAME_CONTENT_LENGTH, HTTP_NAME_HTTP2_SETTINGS },
	[15] = { HTTP_NAME_X_FORWARDED_FOR, HTTP_NAME_ACCEPT_ENCODING, HTTP_NAME_ACCEPT_LANGUAGE },
	[16] = {
		HTTP_NAME_PROXY_CONNECTION, HTTP_NAME_X_FORWARDED_HOST,
		HTTP_NAME_WWW_AUTHENTICATE, HTTP_NAME_CONTENT_ENCODING,
		HTTP_NAME_CONTENT_LANGUAGE,
	},
	[17] = {
		HTTP_NAME_TRANSFER_ENCODING, HTTP_NAME_X_FORWARDED_PROTO,
		HTTP_NAME_IF_MODIFIED_SINCE, HTTP_NAME_SEC_WEBSOCKET_KEY,
	},
	[19] = { HTTP_NAME_IF_UNMODIFIED_SINCE },
	[20] = { HTTP_NAME_SEC_WEBSOCKET_ACCEPT },
	[21] = { HTTP_NAME_SEC_WEBSOCKET_VERSION },
	[22] = { HTTP_NAME_SEC_WEBSOCKET_PROTOCOL },
	[24] = { HTTP_NAME_SEC_WEBSOCKET_EXTENSIONS },
	[25] = { HTTP_NAME_STRICT_TRANSPORT_SECURITY },
};

enum http_name http_name_of(struct span text)
{
	if (text.len == 0 || text.len > NAME_LEN_MAX)
		return HTTP_NAME_OTHER;
	for (int i = 0; i < NAMES_PER_LEN; i++) {
		uint8_t id = names_by_len[text.len][i];

		if (id == HTTP_NAME_OTHER)
			break;
		/* 0x20 tells the cases of a letter apart. */
		if (((name_texts[id].ptr[0] ^ text.ptr[0]) & ~0x20) == 0 &&
		    span_equal_nocase(name_texts[id], text))
			return (enum http_name)id;
	}
	return HTTP_NAME_OTHER;
}

struct span http_name_text(enum http_name id)
{
	return name_texts[id];
}

struct status_row {
	uint16_t status;
	struct span reason;
};

#define ROW(status, reason) \
	{ \
		status, \
		{ \
			reason, sizeof(reason) - 1 \
		} \
	}

/* IANA's registry of status codes. */
static const struct status_row statuses[] = {
	ROW(200, "OK"),
	ROW(404, "Not Found"),
	ROW(304, "Not Modified"),
	ROW(100, "Continue"),
	ROW(101, "Switching Protocols"),
	ROW(102, "Processing"),
	ROW(103, "Early Hints"),
	ROW(201, "Created"),
	ROW(202, "Accepted"),
	ROW(203, "Non-Authoritative Information"),
	ROW(204, "No Content"),
	ROW(205, "Reset Content"),
	ROW(206, "Partial Content"),
	ROW(207, "Multi-Status"),
	ROW(208, "Already Reported"),
	ROW(226, "IM Used"),
	ROW(300, "Multiple Choices"),
	ROW(301, "Moved Permanently"),
	ROW(302, "Found"),
	ROW(303, "See Other"),
	ROW(305, "Use Proxy"),
	ROW(307, "Temporary Redirect"),
	ROW(308, "Permanent Redirect"),
	ROW(400, "Bad Request"),
	ROW(401, "Unauthorized"),
	ROW(402, "Payment Required"),
	ROW(403, "Forbidden"),
	ROW(405, "Method Not Allowed"),
	ROW(406, "Not Acceptable"),
	ROW(407, "Proxy Authentication Required"),
	ROW(408, "Request Timeout"),
	ROW(409, "Conflict"),
	ROW(410, "Gone"),
	ROW(411, "Length Required"),
	ROW(412, "Precondition Failed"),
	ROW(413, "Content Too Large"),
	ROW(414, "URI Too Long"),
	ROW(415, "Unsupported Media Type"),
	ROW(416, "Range Not Satisfiable"),
	ROW(417, "Expectation Failed"),
	ROW(421, "Misdirected Request"),
	ROW(422, "Unprocessable Content"),
	ROW(423, "Locked"),
	ROW(424, "Failed Dependency"),
	ROW(425, "Too Early"),
	ROW(426, "Upgrade Required"),
	ROW(428, "Precondition Required"),
	ROW(429, "Too Many Requests"),
	ROW(431, "Request Header Fields Too Large"),
	ROW(451, "Unavailable For Legal Reasons"),
	ROW(500, "Internal Server Error"),
	ROW(501, "Not Implemented"),
	ROW(502, "Bad Gateway"),
	ROW(503, "Service Unavailable"),
	ROW(504, "Gateway Timeout"),
	ROW(505, "HTTP Version Not Supported"),
	ROW(506, "Variant Also Negotiates"),
	ROW(507, "Insufficient Storage"),
	ROW(508, "Loop Detected"),
	ROW(511, "Network Authentication Required"),
};

struct span http_status_reason(uint16_t status)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].reason;
	return SPAN("Unknown");
}

bool http_status_has_body(uint16_t status, enum http_method method)
{
	if (status < 200 || status == 204 || status == 304 || method == HTTP_HEAD)
		return false;
	return method != HTTP_CONNECT || status >= 300;
}
