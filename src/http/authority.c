#include "http/http.h"

#include <arpa/inet.h>
#include <string.h>

enum { HOST_LEN_MAX = 253, LABEL_LEN_MAX = 63 };

static bool is_v4(struct span host)
{
	int parts = 0;
	struct span part;

	while (span_cut(&host, '.', &part)) {
		uint64_t value;

		/* A leading zero is octal to some readers. */
		if (part.len > 3 || (part.len > 1 && part.ptr[0] == '0') ||
		    !parse_u64(part, 255, &value))
			return false;
		parts++;
	}
	return parts == 4;
}

/* Checks labels of a name that ends without a dot. *ret_digits: the last label is all digits. */
static bool name_valid(struct span name, bool *ret_digits)
{
	size_t label_len = 0;
	bool digits = true;

	if (name.len == 0 || name.len > HOST_LEN_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (c == '.') {
			if (label_len == 0)
				return false;
			label_len = 0;
			digits = true;
			continue;
		}
		if (!(http_char_class[(uint8_t)c] & HTTP_CHAR_HOST) || ++label_len > LABEL_LEN_MAX)
			return false;
		digits = digits && ascii_is_digit(c);
	}
	*ret_digits = digits;
	return label_len > 0;
}

static int parse_name(struct arena *arena, struct span name, struct http_authority *ret)
{
	bool digits, upper = false;

	if (name.len && name.ptr[name.len - 1] == '.')
		name.len--;
	if (!name_valid(name, &digits))
		return HTTP_BAD;
	ret->kind = digits ? HTTP_HOST_V4 : HTTP_HOST_NAME;
	if (digits && !is_v4(name))
		return HTTP_BAD;
	for (size_t i = 0; i < name.len; i++)
		upper = upper || name.ptr[i] != ascii_lower(name.ptr[i]);
	ret->host = name;
	if (!upper)
		return 0;

	char *lower = arena_alloc(arena, name.len, 1);

	if (!lower)
		return -ENOMEM;
	for (size_t i = 0; i < name.len; i++)
		lower[i] = ascii_lower(name.ptr[i]);
	ret->host = span_of(lower, name.len);
	return 0;
}

/* literal: between the brackets. One address has many texts: two of them must compare equal. */
static int parse_v6(struct arena *arena, struct span literal, struct http_authority *ret)
{
	char text[INET6_ADDRSTRLEN], canonical[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (literal.len == 0 || literal.len >= sizeof(text))
		return HTTP_BAD;
	for (size_t i = 0; i < literal.len; i++)
		if (ascii_hex_value(literal.ptr[i]) < 0 && literal.ptr[i] != ':' &&
		    literal.ptr[i] != '.')
			return HTTP_BAD;
	memcpy(text, literal.ptr, literal.len);
	text[literal.len] = '\0';
	if (inet_pton(AF_INET6, text, &address) != 1)
		return HTTP_BAD;
	if (!inet_ntop(AF_INET6, &address, canonical, sizeof(canonical)))
		return HTTP_BAD;
	ret->kind = HTTP_HOST_V6;
	ret->host = arena_copy(arena, span_str(canonical));
	return ret->host.ptr ? 0 : -ENOMEM;
}

/* rest: what follows the host, empty or `:port`. */
static int parse_port(struct span rest, uint16_t *ret_port)
{
	uint64_t port;

	*ret_port = 0;
	if (rest.len == 0)
		return 0;
	if (rest.ptr[0] != ':' || rest.len > 6 || !parse_u64(span_skip(rest, 1), 65535, &port) ||
	    port == 0)
		return HTTP_BAD;
	*ret_port = (uint16_t)port;
	return 0;
}

int http_authority_parse(struct arena *arena, struct span raw, struct http_authority *ret)
{
	struct http_authority authority = { .raw = raw };
	size_t host_len;
	int result;

	if (raw.len == 0)
		return HTTP_BAD;
	if (raw.ptr[0] == '[') {
		size_t close = span_find_byte(raw, ']');

		if (close == raw.len)
			return HTTP_BAD;
		host_len = close + 1;
		if (parse_port(span_skip(raw, host_len), &authority.port))
			return HTTP_BAD;
		result = parse_v6(arena, span_of(raw.ptr + 1, close - 1), &authority);
	} else {
		host_len = span_find_byte(raw, ':');
		if (parse_port(span_skip(raw, host_len), &authority.port))
			return HTTP_BAD;
		result = parse_name(arena, span_first(raw, host_len), &authority);
	}
	if (result == 0)
		*ret = authority;
	return result;
}

bool http_authority_equal(const struct http_authority *a, const struct http_authority *b,
			  bool secure)
{
	uint16_t standard = secure ? 443 : 80;

	return a->kind == b->kind && span_equal(a->host, b->host) &&
	       (a->port ? a->port : standard) == (b->port ? b->port : standard);
}
