/* value: one word to one typed value. Each parser returns NULL, or the reason why the word is none.
 */
#include "conf/conf_internal.h"

#include <string.h>

bool conf_list_next(struct span *rest, char separator, struct span *ret_item)
{
	while (span_cut(rest, separator, ret_item)) {
		*ret_item = span_trim(*ret_item);
		if (ret_item->len)
			return true;
	}
	return false;
}

static const char *parse_name(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		bool is_inner = i > 0 && (c == '-' || c == '_' || c == '.');
		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && !is_inner)
			return "a name has letters, digits, - _ and .";
	}
	return text.len ? NULL : "a name is not empty";
}

/* ---- Numbers with units ---------------------------------------------------------------------- */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = {
	{ "ms", 1000000 },
	{ "s", 1000000000 },
	{ "m", 60 * UINT64_C(1000000000) },
	{ "min", 60 * UINT64_C(1000000000) },
	{ "h", 3600 * UINT64_C(1000000000) },
	{ "d", 86400 * UINT64_C(1000000000) },
};

static const struct unit size_units[] = {
	{ "B", 1 },
	{ "KB", UINT64_C(1) << 10 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "MB", UINT64_C(1) << 20 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GB", UINT64_C(1) << 30 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TB", UINT64_C(1) << 40 },
	{ "TiB", UINT64_C(1) << 40 },
};

static size_t digits_len(struct span text)
{
	size_t len = 0;

	while (len < text.len && ascii_is_digit(text.ptr[len]))
		len++;
	return len;
}

/* A number and the unit that follows it. false: no number, no such unit, or too large. */
static bool parse_with_unit(struct span text, const struct unit *units, size_t unit_count,
			    uint64_t *ret_value)
{
	size_t len = digits_len(text);
	uint64_t number;

	if (!parse_u64(span_first(text, len), UINT64_MAX, &number))
		return false;
	for (size_t i = 0; i < unit_count; i++) {
		if (!span_equal_nocase(span_skip(text, len), span_str(units[i].name)))
			continue;
		return !__builtin_mul_overflow(number, units[i].factor, ret_value);
	}
	return false;
}

static const char *parse_duration(struct span text, struct conf_value *value)
{
	if (parse_with_unit(text, duration_units, ARRAY_LEN(duration_units), &value->number) &&
	    value->number <= INT64_MAX)
		return NULL;
	if (text.len && digits_len(text) == text.len)
		return "a time needs its unit: ms, s, m, h or d, as in 10s";
	return "a time is a number and ms, s, m, h or d, as in 10s";
}

static const char *parse_size(struct span text, struct conf_value *value)
{
	if (parse_with_unit(text, size_units, ARRAY_LEN(size_units), &value->number) &&
	    value->number <= INT64_MAX)
		return NULL;
	if (text.len && digits_len(text) == text.len)
		return "a size needs its unit: B, KB, MB, GB or TB, as in 32KB";
	return "a size is a number and B, KB, MB, GB or TB, as in 32KB";
}

static const char *parse_rate(struct span text, struct conf_value *value)
{
	static const char reason[] = "a rate is a number per s, min, h or d, as in 5/min";
	size_t slash = span_find_byte(text, '/');
	uint64_t period;

	if (slash == text.len || !parse_u64(span_first(text, slash), UINT32_MAX, &value->number))
		return reason;
	struct span unit = span_skip(text, slash + 1);
	for (size_t i = 1; i < ARRAY_LEN(duration_units); i++) {
		period = duration_units[i].factor;
		if (!span_equal_nocase(unit, span_str(duration_units[i].name)))
			continue;
		value->period_ns = period;
		return value->number ? NULL : "a rate of 0 lets nothing through";
	}
	return reason;
}

static const char *parse_bandwidth(struct span text, struct conf_value *value)
{
	size_t slash = span_find_byte(text, '/');

	if (slash == text.len || !span_equal_nocase(span_skip(text, slash), SPAN("/s")) ||
	    parse_size(span_first(text, slash), value))
		return "a bandwidth is a size a second, as in 1MB/s";
	/* Slower a body's clocks would stop it; faster nobody could tell. */
	if (value->number < 1024 || value->number > UINT64_C(10) << 30)
		return "a bandwidth is 1KB/s to 10GB/s";
	return NULL;
}

static const char *check_range(struct arena *arena, const struct conf_argument *argument,
			       const struct conf_value *value)
{
	uint64_t maximum = argument->maximum ? argument->maximum : UINT64_MAX;

	if (value->number >= argument->minimum && value->number <= maximum)
		return NULL;
	if (argument->type != CONF_NUMBER || !argument->maximum)
		return "out of range";
	struct span reason = arena_format(arena, "%s is %llu to %llu", argument->name,
					  (unsigned long long)argument->minimum,
					  (unsigned long long)argument->maximum);
	char *text = reason.ptr ? arena_cstr(arena, reason) : NULL;
	return text ? text : "out of range";
}

/* ---- Words ----------------------------------------------------------------------------------- */

static const char *parse_choice(struct arena *arena, const struct conf_argument *argument,
				struct span text, struct conf_value *value)
{
	struct span rest = span_str(argument->choices), choice;
	uint64_t index = 0;

	for (; conf_list_next(&rest, ' ', &choice); index++) {
		if (!span_equal(choice, text))
			continue;
		value->number = index;
		return NULL;
	}
	struct span reason = arena_format(arena, "one of: %s", argument->choices);
	char *copy = reason.ptr ? arena_cstr(arena, reason) : NULL;
	return copy ? copy : "not one of the choices";
}

/* Requests are matched by their normalised path, so a pattern that is not normal can never match:
 * say so instead of leaving a dead line. */
static const char *parse_pattern(struct span text)
{
	if (!text.len || text.ptr[0] != '/')
		return "a path starts with /; it is exact, and a * at its end makes it a prefix";
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		if (c == '?' || c == '#')
			return "a path without query or fragment";
		if (c == '^' || c == '|' || c == '\\' || c == '[' || c == ']')
			return "paths are no regular expressions: exact, or * for a part of the "
			       "path";
		if ((unsigned char)c <= ' ' || c == 0x7f)
			return "a path without blanks and control bytes";
	}
	bool is_dotted = span_find(text, SPAN("/../")) < text.len ||
			 span_find(text, SPAN("/./")) < text.len ||
			 span_ends_with(text, SPAN("/..")) || span_ends_with(text, SPAN("/."));
	if (is_dotted || span_find(text, SPAN("//")) < text.len)
		return "a path without //, /. and /..: requests are matched after these are "
		       "resolved";
	if (span_find(text, SPAN("**")) < text.len)
		return "one * is enough";
	return NULL;
}

static const char *parse_url(struct span text)
{
	bool is_absolute =
		span_starts_with(text, SPAN("http://")) || span_starts_with(text, SPAN("https://"));

	if (!is_absolute && (!text.len || text.ptr[0] != '/' || span_starts_with(text, SPAN("//"))))
		return "a URL starts with https://, http:// or, for this host, one /";
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		if (c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' ||
		    c == '^' || c == '`' || c == '{' || c == '|' || c == '}')
			return "a URL of plain ASCII; write other bytes as %XX";
	}
	if (is_absolute) {
		struct span host = span_skip(text, span_find(text, SPAN("://")) + 3);
		host = span_first(host, span_find_byte(host, '/'));
		if (!host.len || host.ptr[0] == ':' || host.ptr[0] == '?' || host.ptr[0] == '#')
			return "a URL needs a host";
		if (span_find_byte(host, '@') < host.len)
			return "a URL without user and password";
	}
	return NULL;
}

static const char *parse_path(struct arena *arena, struct span folder, struct span text,
			      struct conf_value *value)
{
	if (!text.len)
		return "a path is not empty";
	struct span joined = conf_join(arena, folder, text);
	if (!joined.ptr)
		return NULL;
	value->text = joined;
	return NULL;
}

static const char *parse_table(struct span text, struct conf_value *value)
{
	if (text.len < 3 || text.ptr[0] != '<' || text.ptr[text.len - 1] != '>')
		return "a table is written <name>";
	value->text = span_first(span_skip(text, 1), text.len - 2);
	return parse_name(value->text);
}

/* `app` is a name. What has a port, a scheme or a dot was meant as an origin, and is told what is wrong with it. */
static const char *parse_upstream(struct arena *arena, struct span folder, struct span text,
				  struct conf_value *value)
{
	value->is_name = text.len && ascii_is_alpha(text.ptr[0]) &&
			 span_find_byte(text, '.') == text.len && !parse_name(text);
	return value->is_name ? NULL : conf_origin_parse(arena, folder, text, value);
}

static const char *parse(struct arena *arena, const struct conf_argument *argument,
			 struct span folder, struct span text, struct conf_value *value)
{
	switch (argument->type) {
	case CONF_NO_TYPE:
		break;
	case CONF_WORD:
		return text.len ? NULL : "a word is not empty";
	case CONF_TEXT:
		return NULL;
	case CONF_NAME:
		return parse_name(text);
	case CONF_HOST:
		return conf_host_parse(arena, text, true, value);
	case CONF_LISTEN:
		return conf_listen_parse(text, value);
	case CONF_ORIGIN:
		return conf_origin_parse(arena, folder, text, value);
	case CONF_UPSTREAM:
		return parse_upstream(arena, folder, text, value);
	case CONF_DURATION:
		return parse_duration(text, value);
	case CONF_SIZE:
		return parse_size(text, value);
	case CONF_RATE:
		return parse_rate(text, value);
	case CONF_BANDWIDTH:
		return parse_bandwidth(text, value);
	case CONF_NUMBER:
		return parse_u64(text, UINT64_MAX, &value->number) ? NULL
								   : "write it in digits alone";
	case CONF_PATH:
	case CONF_WORDS:
	case CONF_CONTENT:
		return parse_path(arena, folder, text, value);
	case CONF_PATTERN:
		return parse_pattern(text);
	case CONF_URL:
		return parse_url(text);
	case CONF_CHOICE:
		return parse_choice(arena, argument, text, value);
	case CONF_TABLE:
		return parse_table(text, value);
	case CONF_NETWORK:
		return conf_network_parse(text, value);
	}
	return "nothing";
}

int conf_value_parse(struct arena *arena, const struct conf_argument *argument, struct span folder,
		     struct span text, struct conf_value *ret_value, const char **ret_reason)
{
	struct conf_value value = { .type = argument->type, .text = text };
	const char *reason = parse(arena, argument, folder, text, &value);

	if (!reason && (argument->type == CONF_NUMBER || argument->type == CONF_DURATION ||
			argument->type == CONF_SIZE))
		reason = check_range(arena, argument, &value);
	if (reason) {
		*ret_reason = reason;
		return CONF_FAULTY;
	}
	char *copy = arena_cstr(arena, value.text);
	if (!copy)
		return -ENOMEM;
	value.text = span_of(copy, value.text.len);
	*ret_value = value;
	return 0;
}
