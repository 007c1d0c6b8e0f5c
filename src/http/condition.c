#include "http/http.h"

struct span http_etag_write(uint64_t size, int64_t modified_s, uint32_t modified_ns,
			    char ret[HTTP_ETAG_SIZE])
{
	struct writer writer = writer_of(ret, HTTP_ETAG_SIZE);

	write_byte(&writer, '"');
	write_hex_u64(&writer, (uint64_t)modified_s, 8);
	write_hex_u64(&writer, modified_ns, 8);
	write_byte(&writer, '-');
	write_hex_u64(&writer, size, 1);
	write_byte(&writer, '"');
	return writer_done(&writer);
}

struct etag {
	struct span opaque; /* with its quotes */
	bool is_weak;
};

static bool etag_split(struct span text, struct etag *ret)
{
	ret->is_weak = span_starts_with(text, SPAN("W/"));
	ret->opaque = ret->is_weak ? span_skip(text, 2) : text;
	return ret->opaque.len >= 2 && ret->opaque.ptr[0] == '"' &&
	       ret->opaque.ptr[ret->opaque.len - 1] == '"';
}

/* Takes the next entity-tag off a list. Commas may stand inside the quotes. False at the end or
 * when what follows is no entity-tag. */
static bool etag_next(struct span *rest, struct etag *ret)
{
	struct span text = *rest;
	size_t close;

	while (text.len && (text.ptr[0] == ',' || text.ptr[0] == ' ' || text.ptr[0] == '\t'))
		text = span_skip(text, 1);
	ret->is_weak = span_starts_with(text, SPAN("W/"));
	if (ret->is_weak)
		text = span_skip(text, 2);
	if (text.len == 0 || text.ptr[0] != '"')
		return false;
	close = span_find_byte(span_skip(text, 1), '"');
	if (close == text.len - 1)
		return false;
	ret->opaque = span_first(text, close + 2);
	*rest = span_skip(text, close + 2);
	return true;
}

/* Does one of the tags in all fields of that name match? RFC 9110, 8.8.3.2: strong comparison
 * needs two strong tags. `*` matches what exists. */
static bool etag_matches(const struct http_fields *fields, enum http_name id, struct span etag,
			 bool strong)
{
	struct etag ours = { .opaque = SPAN_NONE };
	bool has_etag = etag.len && etag_split(etag, &ours);

	for (const struct http_field *field = http_fields_next(fields, id, NULL); field;
	     field = http_fields_next(fields, id, field)) {
		struct span rest = field->value;
		struct etag theirs;

		if (span_equal(rest, SPAN("*")))
			return true;
		while (has_etag && etag_next(&rest, &theirs))
			if (span_equal(theirs.opaque, ours.opaque) &&
			    !(strong && (theirs.is_weak || ours.is_weak)))
				return true;
	}
	return false;
}

/* False where the field is missing, is no date, or we have no date to compare with: then it is
 * ignored. */
static bool changed_since(const struct http_fields *fields, enum http_name id,
			  const struct http_validators *validators, int64_t now_s,
			  bool *ret_changed)
{
	int64_t since_s;

	if (validators->modified_s < 0 || http_fields_count(fields, id) != 1 ||
	    !http_date_parse(http_fields_value(fields, id), now_s, &since_s))
		return false;
	*ret_changed = validators->modified_s > since_s;
	return true;
}

enum http_condition http_conditions_evaluate(const struct http_request *request,
					     const struct http_validators *validators,
					     int64_t now_s)
{
	const struct http_fields *fields = &request->fields;
	bool is_read = request->method == HTTP_GET || request->method == HTTP_HEAD;
	bool changed;

	if (http_fields_has(fields, HTTP_NAME_IF_MATCH)) {
		if (!etag_matches(fields, HTTP_NAME_IF_MATCH, validators->etag, true))
			return HTTP_PRECONDITION_FAILED;
	} else if (changed_since(fields, HTTP_NAME_IF_UNMODIFIED_SINCE, validators, now_s,
				 &changed) &&
		   changed) {
		return HTTP_PRECONDITION_FAILED;
	}
	if (http_fields_has(fields, HTTP_NAME_IF_NONE_MATCH)) {
		if (etag_matches(fields, HTTP_NAME_IF_NONE_MATCH, validators->etag, false))
			return is_read ? HTTP_NOT_MODIFIED : HTTP_PRECONDITION_FAILED;
	} else if (is_read &&
		   changed_since(fields, HTTP_NAME_IF_MODIFIED_SINCE, validators, now_s,
				 &changed) &&
		   !changed) {
		return HTTP_NOT_MODIFIED;
	}
	return HTTP_PROCEED;
}
