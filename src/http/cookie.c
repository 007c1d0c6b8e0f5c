/* cookie: RFC 6265, 4.2.1 (what a user agent sends). */
#include "http/http.h"

struct span http_cookie_find(const struct http_fields *fields, struct span name)
{
	const struct http_field *field = NULL;

	while ((field = http_fields_next(fields, HTTP_NAME_COOKIE, field))) {
		struct span rest = field->value, pair;

		while (span_cut(&rest, ';', &pair)) {
			size_t equals;

			pair = span_trim(pair);
			equals = span_find_byte(pair, '=');
			if (equals < pair.len && span_equal(span_first(pair, equals), name))
				return span_skip(pair, equals + 1);
		}
	}
	return SPAN_NONE;
}
