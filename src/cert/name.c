#include "cert/cert.h"

#include <string.h>

#include "os/os.h"

static struct span without_dot(struct span text)
{
	if (text.len > 1 && text.ptr[text.len - 1] == '.')
		text.len--;
	return text;
}

/* LDH and '_', which names inside companies have. No hyphen at a label's ends (RFC 1123, 2.1). */
static bool is_host(struct span text)
{
	size_t label_len = 0;

	if (text.len == 0 || text.len > CERT_HOST_MAX)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		if (c == '.') {
			if (label_len == 0 || text.ptr[i - 1] == '-')
				return false;
			label_len = 0;
			continue;
		}
		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '_' &&
		    (c != '-' || label_len == 0))
			return false;
		if (++label_len > 63)
			return false;
	}
	return label_len > 0 && text.ptr[text.len - 1] != '-';
}

/* A last label of digits only would be an address to some readers and a name to others (WHATWG URL, 3.5). */
static bool ends_in_number(struct span text)
{
	size_t at = text.len;

	while (at > 0 && ascii_is_digit(text.ptr[at - 1]))
		at--;
	return at < text.len && (at == 0 || text.ptr[at - 1] == '.');
}

static bool parse_ip(struct span text, struct cert_name *ret_name)
{
	struct os_address address;

	if (text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
		text = span_of(text.ptr + 1, text.len - 2);
	if (!os_address_parse_ip(text, &address) || address.scope != 0)
		return false;
	*ret_name = (struct cert_name){ .ip_len = address.family == OS_FAMILY_V4 ? 4 : 16 };
	memcpy(ret_name->ip, address.ip, ret_name->ip_len);
	return true;
}

int cert_name_parse(struct arena *arena, struct span text, struct cert_name *ret_name)
{
	if (parse_ip(text, ret_name))
		return 0;
	struct span host = without_dot(text), base = host;
	if (span_starts_with(host, SPAN("*."))) {
		base = span_skip(host, 2);
		if (span_find_byte(base, '.') == base.len)
			return CERT_NAME_INVALID; /* `*.com` would be every name there is */
	}
	if (!is_host(base) || host.len > CERT_HOST_MAX || ends_in_number(base))
		return CERT_NAME_INVALID;
	char *copy = arena_cstr(arena, host);
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < host.len; i++)
		copy[i] = ascii_lower(copy[i]);
	*ret_name = (struct cert_name){ .host = span_of(copy, host.len) };
	return 0;
}

int cert_name_compare(const struct cert_name *a, const struct cert_name *b)
{
	if (a->ip_len != b->ip_len)
		return a->ip_len < b->ip_len ? -1 : 1;
	return a->ip_len ? memcmp(a->ip, b->ip, a->ip_len) : span_compare(a->host, b->host);
}

int cert_names_parse(struct arena *arena, const struct span *texts, size_t count,
		     struct cert_name **ret_names, size_t *ret_count, size_t *ret_bad)
{
	struct cert_name *names = arena_array(arena, struct cert_name, count ? count : 1);
	size_t used = 0;

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct cert_name name;
		int result = i < CERT_NAMES_MAX ? cert_name_parse(arena, texts[i], &name)
						: CERT_NAME_INVALID;
		if (result != 0) {
			if (ret_bad)
				*ret_bad = i;
			return result;
		}
		size_t at = used;
		while (at > 0 && cert_name_compare(&names[at - 1], &name) > 0)
			at--;
		if (at > 0 && cert_name_compare(&names[at - 1], &name) == 0)
			continue;
		memmove(&names[at + 1], &names[at], (used - at) * sizeof(*names));
		names[at] = name;
		used++;
	}
	*ret_names = names;
	*ret_count = used;
	return 0;
}

void cert_name_write(const struct cert_name *name, struct writer *out)
{
	if (name->ip_len == 0) {
		write_span(out, name->host);
		return;
	}
	struct os_address address =
		os_address_of(name->ip_len == 4 ? OS_FAMILY_V4 : OS_FAMILY_V6, name->ip, 0);
	os_address_write_ip(&address, out);
}

bool cert_names_equal(const struct cert_name *a, size_t a_count, const struct cert_name *b,
		      size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (cert_name_compare(&a[i], &b[i]) != 0)
			return false;
	return true;
}

bool cert_name_covers(const struct cert_name *pattern, struct span name)
{
	struct cert_name address;

	if (parse_ip(name, &address))
		return cert_name_compare(pattern, &address) == 0;
	name = without_dot(name);
	if (pattern->ip_len || pattern->host.len == 0 || name.len == 0)
		return false;
	if (!span_starts_with(pattern->host, SPAN("*.")))
		return span_equal_nocase(pattern->host, name);
	size_t dot = span_find_byte(name, '.');
	/* A name that is a wildcard itself is covered only by the same wildcard: `*` as its first label fits. */
	return dot > 0 && dot < name.len &&
	       span_equal_nocase(span_skip(pattern->host, 1), span_skip(name, dot));
}
