/* Dates, ranges, conditions and lists of fields, as a client writes them: lines `N value`, N one of
 * the fields below. Properties: a date that is read is written and read as the same; a range lies in
 * the document and, asked for plainly, is the same; the verdict of the conditions follows from the
 * rules of RFC 9110, 13.2.2, told again here; fields that came split say what they say joined. */
#include <string.h>

#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum http_name names[] = {
	HTTP_NAME_RANGE,         HTTP_NAME_IF_RANGE,          HTTP_NAME_IF_MATCH,
	HTTP_NAME_IF_NONE_MATCH, HTTP_NAME_IF_MODIFIED_SINCE, HTTP_NAME_IF_UNMODIFIED_SINCE,
	HTTP_NAME_CONNECTION,
};

enum { NOW_S = 1800000000, MODIFIED_S = 1700000000, YEAR_10000_S = 253402300800 };

static void check_date(struct span text)
{
	int64_t first_s, again_s;
	char written[HTTP_DATE_LEN];

	if (!http_date_parse(text, NOW_S, &first_s))
		return;
	if (first_s < 0 || first_s >= (int64_t)YEAR_10000_S)
		return;
	http_date_write(first_s, written);
	MUST(http_date_parse(span_of(written, sizeof(written)), NOW_S, &again_s));
	MUST(again_s == first_s);
	/* A date that is written so already is written so again, but for a leap second (RFC 9110, 5.6.7),
	 * which is the second after it. */
	if (text.len == HTTP_DATE_LEN && text.ptr[3] == ',' && text.ptr[25] == ' ' &&
	    !span_equal(span_first(span_skip(text, 23), 2), SPAN("60")))
		MUST(span_equal_nocase(span_skip(text, 4),
				       span_of(written + 4, HTTP_DATE_LEN - 4)));
}

static void check_range(struct arena *arena, const struct http_request *request, uint64_t size)
{
	struct http_validators validators = { .etag = SPAN("\"e\""), .modified_s = MODIFIED_S };
	struct http_request plain = { .method = HTTP_GET };
	uint64_t first = 0, len = 0, again_first, again_len;
	struct span text;

	if (http_range_choose(request, &validators, size, &first, &len) != HTTP_RANGE_PART)
		return;
	MUST(request->method == HTTP_GET && len >= 1 && first < size && len <= size - first);
	text = http_content_range(arena, first, len, size);
	MUST(text.ptr && span_starts_with(text, SPAN("bytes ")));
	text = span_skip(text, 6);
	text = arena_format(arena, "bytes=%.*s",
			    SPAN_ARG(span_first(text, span_find_byte(text, '/'))));
	http_fields_init(&plain.fields, arena);
	MUST(http_fields_add_id(&plain.fields, HTTP_NAME_RANGE, text) == 0);
	MUST(http_range_choose(&plain, &validators, size, &again_first, &again_len) ==
	     HTTP_RANGE_PART);
	MUST(again_first == first && again_len == len);
}

static void check_conditions(const struct http_request *request)
{
	struct http_validators validators = { .etag = SPAN("\"e\""), .modified_s = MODIFIED_S };
	const struct http_fields *fields = &request->fields;
	bool is_read = request->method == HTTP_GET || request->method == HTTP_HEAD;
	bool has_match = http_fields_has(fields, HTTP_NAME_IF_MATCH);
	bool has_none_match = http_fields_has(fields, HTTP_NAME_IF_NONE_MATCH);
	bool has_since = http_fields_has(fields, HTTP_NAME_IF_MODIFIED_SINCE);
	bool has_not_since = http_fields_has(fields, HTTP_NAME_IF_UNMODIFIED_SINCE);
	enum http_condition verdict = http_conditions_evaluate(request, &validators, NOW_S);

	if (!has_match && !has_none_match && !has_since && !has_not_since)
		MUST(verdict == HTTP_PROCEED);
	if (verdict == HTTP_NOT_MODIFIED)
		MUST(is_read && (has_none_match || has_since));
	if (verdict == HTTP_PRECONDITION_FAILED)
		MUST(has_match || has_not_since || (has_none_match && !is_read));
	/* Without any validator nothing can match by tag or date. */
	validators = (struct http_validators){ .modified_s = -1 };
	verdict = http_conditions_evaluate(request, &validators, NOW_S);
	if (!has_match && !has_none_match)
		MUST(verdict == HTTP_PROCEED);
}

/* Every field of a name in one, as an intermediary may join them. */
static void check_joined(struct arena *arena, const struct http_request *request)
{
	struct http_validators validators = { .etag = SPAN("\"e\""), .modified_s = MODIFIED_S };
	struct http_request joined = { .method = request->method };
	struct span all = SPAN_NONE;
	const struct http_field *field = NULL;

	http_fields_init(&joined.fields, arena);
	while ((field = http_fields_next(&request->fields, HTTP_NAME_CONNECTION, field)))
		all = all.len ? arena_format(arena, "%.*s, %.*s", SPAN_ARG(all),
					     SPAN_ARG(field->value))
			      : field->value;
	if (!all.len)
		return;
	MUST(http_fields_add_id(&joined.fields, HTTP_NAME_CONNECTION, all) == 0);

	struct span rest = all, element;

	while (http_list_next(&rest, &element)) {
		MUST(element.len && span_equal(span_trim(element), element));
		MUST(http_fields_list_has(&joined.fields, HTTP_NAME_CONNECTION, element));
	}
	MUST(http_fields_list_has(&joined.fields, HTTP_NAME_CONNECTION, SPAN("close")) ==
	     http_fields_list_has(&request->fields, HTTP_NAME_CONNECTION, SPAN("close")));
	MUST(http_conditions_evaluate(&joined, &validators, NOW_S) == HTTP_PROCEED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_method methods[] = { HTTP_GET, HTTP_HEAD, HTTP_PUT };
	static const uint64_t sizes[] = { 0, 1, 1000, UINT64_MAX };
	struct http_request request = { 0 };
	struct span text, line;
	struct arena arena;

	if (size < 2)
		return 0;
	arena_init(&arena, 0);
	request.method = methods[data[0] % ARRAY_LEN(methods)];
	http_fields_init(&request.fields, &arena);
	text = span_of(data + 2, size - 2);
	while (span_cut(&text, '\n', &line)) {
		enum http_name name = names[line.len ? (uint8_t)line.ptr[0] % ARRAY_LEN(names) : 0];
		struct span value = span_trim(span_skip(line, 1));

		check_date(value);
		if (http_is_field_value(value))
			MUST(http_fields_add_id(&request.fields, name, value) == 0);
	}
	check_range(&arena, &request, sizes[data[1] % ARRAY_LEN(sizes)]);
	check_conditions(&request);
	check_joined(&arena, &request);
	arena_fini(&arena);
	return 0;
}
