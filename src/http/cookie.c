/* cookie: RFC 6265, 4.2.1 (what a user agent sends). */
#include "http/http.h"

void http_cookies_init(struct http_cookies *walk, const struct http_fields *fields,
		       struct span name)
{
	*walk = (struct http_cookies){ .fields = fields, .name = name };
}

/* The value, where this pair has the name. */
static bool match(struct span pair, struct span name, struct span *ret_value)
{
	size_t equals;

	pair = span_trim(pair);
	equals = span_find_byte(pair, '=');
	if (equals == pair.len || !span_equal(span_first(pair, equals), name))
		return false;
	*ret_value = span_skip(pair, equals + 1);
	return true;
}

bool http_cookies_next(struct http_cookies *walk, struct span *ret_value)
{
	struct span pair;

	for (;;) {
		while (walk->field && span_cut(&walk->rest, ';', &pair)) {
			if (match(pair, walk->name, ret_value))
				return true;
		}
		walk->field = http_fields_next(walk->fields, HTTP_NAME_COOKIE, walk->field);
		if (!walk->field)
			return false;
		walk->rest = walk->field->value;
	}
}

struct span http_cookie_find(const struct http_fields *fields, struct span name)
{
	struct span value = SPAN_NONE;
	struct http_cookies walk;

	http_cookies_init(&walk, fields, name);
	(void)!http_cookies_next(&walk, &value);
	return value;
}
