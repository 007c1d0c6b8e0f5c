#include "http/http.h"

#include <string.h>

enum {
	CONNECTION_OPTIONS_MAX = 64, /* more are not looked at: the work stays bounded */
	FOLDED_LEN_MAX = 32,
};

struct options {
	struct span items[CONNECTION_OPTIONS_MAX];
	size_t count;
};

static void options_read(struct options *options, const struct http_fields *fields)
{
	options->count = 0;
	for (const struct http_field *field = http_fields_next(fields, HTTP_NAME_CONNECTION, NULL);
	     field; field = http_fields_next(fields, HTTP_NAME_CONNECTION, field)) {
		struct span rest = field->value, option;

		while (options->count < CONNECTION_OPTIONS_MAX && http_list_next(&rest, &option))
			options->items[options->count++] = option;
	}
}

static bool options_name(const struct options *options, struct span name)
{
	for (size_t i = 0; i < options->count; i++)
		if (span_equal_nocase(options->items[i], name))
			return true;
	return false;
}

/* Fields of the hop: never passed on, whatever Connection says. Expect and Upgrade are in the
 * request's own members; trailers are dropped, so TE and Trailer would promise what does not
 * come. */
static bool is_hop(enum http_name id)
{
	return id == HTTP_NAME_CONNECTION || id == HTTP_NAME_KEEP_ALIVE || id == HTTP_NAME_TE ||
	       id == HTTP_NAME_PROXY_CONNECTION || id == HTTP_NAME_TRANSFER_ENCODING ||
	       id == HTTP_NAME_UPGRADE || id == HTTP_NAME_TRAILER || id == HTTP_NAME_HTTP2_SETTINGS;
}

/* What a client could claim in our name. */
static bool is_claim(enum http_name id)
{
	return id == HTTP_NAME_PROXY || id == HTTP_NAME_FORWARDED || id == HTTP_NAME_EXPECT ||
	       id == HTTP_NAME_X_FORWARDED_FOR || id == HTTP_NAME_X_FORWARDED_PROTO ||
	       id == HTTP_NAME_X_FORWARDED_HOST || id == HTTP_NAME_X_REAL_IP;
}

/* What Connection must not take away: framing, the site, the loop guard and what we write. */
static bool is_protected(enum http_name id)
{
	return id == HTTP_NAME_HOST || id == HTTP_NAME_CONTENT_LENGTH || id == HTTP_NAME_VIA ||
	       id == HTTP_NAME_X_REQUEST_ID || id == HTTP_NAME_DATE || id == HTTP_NAME_SERVER;
}

/* CGI, WSGI and their like turn `-` and other punctuation into `_`: there `X_Forwarded.For` is our
 * X-Forwarded-For. */
static bool is_look_alike(struct span name)
{
	char folded[FOLDED_LEN_MAX];
	size_t len = name.len < sizeof(folded) ? name.len : sizeof(folded);

	for (size_t i = 0; i < len; i++) {
		char c = ascii_lower(name.ptr[i]);

		folded[i] = ascii_is_alpha(c) || ascii_is_digit(c) ? c : '-';
	}
	if (span_starts_with(span_of(folded, len), SPAN("x-forwarded-")))
		return true;
	return name.len == len && http_name_of(span_of(folded, len)) != HTTP_NAME_OTHER;
}

void http_request_strip(struct http_request *request)
{
	struct http_fields *fields = &request->fields;
	struct options options;
	uint32_t kept = 0;

	options_read(&options, fields);
	for (uint32_t i = 0; i < fields->count; i++) {
		const struct http_field *field = &fields->items[i];

		if (is_hop(field->id) || is_claim(field->id))
			continue;
		if (field->id == HTTP_NAME_OTHER && is_look_alike(field->name))
			continue;
		if (options.count && !is_protected(field->id) &&
		    options_name(&options, field->name))
			continue;
		fields->items[kept++] = *field;
	}
	fields->count = kept;
}

void http_response_strip(struct http_response *response)
{
	struct http_fields *fields = &response->fields;
	struct options options;
	uint32_t kept = 0;

	options_read(&options, fields);
	for (uint32_t i = 0; i < fields->count; i++) {
		const struct http_field *field = &fields->items[i];

		if (is_hop(field->id))
			continue;
		if (options.count && !is_protected(field->id) &&
		    options_name(&options, field->name))
			continue;
		fields->items[kept++] = *field;
	}
	fields->count = kept;
}
