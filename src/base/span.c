#include "base/base.h"

#include <string.h>

/* memcmp and memchr may not be given NULL, not even with length 0. */
static bool bytes_equal(const char *a, const char *b, size_t len)
{
	return len == 0 || memcmp(a, b, len) == 0;
}

bool span_equal_nocase(struct span a, struct span b)
{
	if (a.len != b.len)
		return false;
	/* Most senders write a name as we do. */
	if (bytes_equal(a.ptr, b.ptr, a.len))
		return true;
	for (size_t i = 0; i < a.len; i++)
		if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i]))
			return false;
	return true;
}

int span_compare(struct span a, struct span b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

	if (order)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

bool span_starts_with(struct span text, struct span prefix)
{
	return text.len >= prefix.len && bytes_equal(text.ptr, prefix.ptr, prefix.len);
}

bool span_ends_with(struct span text, struct span suffix)
{
	return text.len >= suffix.len && span_equal(span_skip(text, text.len - suffix.len), suffix);
}

size_t span_find_byte(struct span text, char byte)
{
	const char *found = text.len ? memchr(text.ptr, byte, text.len) : NULL;

	return found ? (size_t)(found - text.ptr) : text.len;
}

size_t span_find(struct span text, struct span needle)
{
	const char *found;

	if (needle.len == 0)
		return 0;
	if (text.len < needle.len)
		return text.len;
	found = memmem(text.ptr, text.len, needle.ptr, needle.len);
	return found ? (size_t)(found - text.ptr) : text.len;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct span span_trim(struct span text)
{
	while (text.len && is_blank(text.ptr[0]))
		text = span_skip(text, 1);
	while (text.len && is_blank(text.ptr[text.len - 1]))
		text.len--;
	return text;
}

bool span_cut(struct span *rest, char separator, struct span *ret_part)
{
	size_t at;

	if (!rest->ptr)
		return false;
	at = span_find_byte(*rest, separator);
	*ret_part = span_first(*rest, at);
	*rest = at < rest->len ? span_skip(*rest, at + 1) : SPAN_NONE;
	return true;
}

int ascii_hex_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
