#include "http/http.h"

/* Digits off the front of *text; a number too large to hold is the largest one (it lies behind
 * any end). */
static bool take_number(struct span *text, uint64_t *ret)
{
	uint64_t value = 0;
	size_t len = 0;

	for (; len < text->len && ascii_is_digit(text->ptr[len]); len++) {
		uint64_t digit = (uint64_t)(text->ptr[len] - '0');

		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	*text = span_skip(*text, len);
	*ret = value;
	return len > 0;
}

/* RFC 9110, 13.1.5: strong comparison of the tag, or the very date. */
static bool if_range_holds(const struct http_request *request,
			   const struct http_validators *validators)
{
	struct span value = http_fields_value(&request->fields, HTTP_NAME_IF_RANGE);
	int64_t date_s;

	if (!http_fields_has(&request->fields, HTTP_NAME_IF_RANGE))
		return true;
	if (value.len && value.ptr[0] == '"')
		return span_equal(value, validators->etag);
	return validators->modified_s >= 0 &&
	       http_date_parse(value, validators->modified_s, &date_s) &&
	       date_s == validators->modified_s;
}

static enum http_range choose(struct span spec, uint64_t size, uint64_t *ret_first,
			      uint64_t *ret_len)
{
	uint64_t first, last = UINT64_MAX;
	bool has_first = take_number(&spec, &first);

	if (spec.len == 0 || spec.ptr[0] != '-')
		return HTTP_RANGE_NONE;
	spec = span_skip(spec, 1);
	bool has_last = take_number(&spec, &last);

	if (spec.len || (!has_first && !has_last))
		return HTTP_RANGE_NONE;
	if (!has_first) { /* the last bytes */
		if (last == 0)
			return HTTP_RANGE_UNSATISFIABLE;
		if (size == 0)
			return HTTP_RANGE_NONE;
		first = last < size ? size - last : 0;
		last = size - 1;
	} else {
		if (has_last && last < first)
			return HTTP_RANGE_NONE;
		if (first >= size)
			return HTTP_RANGE_UNSATISFIABLE;
		if (!has_last || last >= size)
			last = size - 1;
	}
	*ret_first = first;
	*ret_len = last - first + 1;
	return HTTP_RANGE_PART;
}

enum http_range http_range_choose(const struct http_request *request,
				  const struct http_validators *validators, uint64_t size,
				  uint64_t *ret_first, uint64_t *ret_len)
{
	struct span value = http_fields_value(&request->fields, HTTP_NAME_RANGE);

	if (request->method != HTTP_GET ||
	    http_fields_count(&request->fields, HTTP_NAME_RANGE) != 1)
		return HTTP_RANGE_NONE;
	if (!span_equal_nocase(span_first(value, 6), SPAN("bytes=")) ||
	    !if_range_holds(request, validators))
		return HTTP_RANGE_NONE;
	return choose(span_trim(span_skip(value, 6)), size, ret_first, ret_len);
}

struct span http_content_range(struct arena *arena, uint64_t first, uint64_t len, uint64_t size)
{
	if (len == 0)
		return arena_format(arena, "bytes */%llu", (unsigned long long)size);
	return arena_format(arena, "bytes %llu-%llu/%llu", (unsigned long long)first,
			    (unsigned long long)(first + len - 1), (unsigned long long)size);
}
