#include "os/linux/internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

struct os_address os_address_of(unsigned family, const uint8_t ip[16], uint16_t port)
{
	struct os_address address = { .family = (uint8_t)family, .port = port };

	if (family == OS_FAMILY_V4)
		memcpy(address.ip, ip, 4);
	else if (family == OS_FAMILY_V6)
		memcpy(address.ip, ip, 16);
	/* One host must not have two spellings: bans, limits and logs compare addresses. */
	if (family == OS_FAMILY_V6 && memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		address.family = OS_FAMILY_V4;
		memset(address.ip, 0, sizeof(address.ip));
		memcpy(address.ip, ip + 12, 4);
	}
	return address;
}

/* ---- Text ---------------------------------------------------------------------------------- */

static bool parse_v6_scope(struct span zone, uint32_t *ret_scope)
{
	uint64_t scope;

	if (!parse_u64(zone, UINT32_MAX, &scope) || scope == 0)
		return false;
	*ret_scope = (uint32_t)scope;
	return true;
}

bool os_address_parse_ip(struct span text, struct os_address *ret_address)
{
	char buf[INET6_ADDRSTRLEN];
	uint8_t ip[16] = { 0 };
	uint32_t scope = 0;
	size_t percent;

	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
		text = span_first(span_skip(text, 1), text.len - 2);
		if (span_find_byte(text, ':') == text.len)
			return false;
	}
	percent = span_find_byte(text, '%');
	if (percent < text.len && !parse_v6_scope(span_skip(text, percent + 1), &scope))
		return false;
	text = span_first(text, percent);
	/* inet_pton would stop at a NUL and take what stands before it. */
	if (text.len == 0 || text.len >= sizeof(buf) || span_find_byte(text, 0) < text.len)
		return false;
	memcpy(buf, text.ptr, text.len);
	buf[text.len] = 0;
	/* inet_pton takes no leading zeroes and no short forms of v4. */
	if (inet_pton(AF_INET, buf, ip) == 1) {
		if (scope)
			return false;
		*ret_address = os_address_of(OS_FAMILY_V4, ip, 0);
		return true;
	}
	if (inet_pton(AF_INET6, buf, ip) != 1)
		return false;
	*ret_address = os_address_of(OS_FAMILY_V6, ip, 0);
	if (ret_address->family == OS_FAMILY_V6)
		ret_address->scope = scope;
	return true;
}

static bool parse_unix(struct span path, struct os_address *ret_address)
{
	if (path.len == 0 || path.len > OS_UNIX_PATH_MAX || span_find_byte(path, 0) < path.len)
		return false;
	*ret_address = (struct os_address){ .family = OS_FAMILY_UNIX };
	memcpy(ret_address->path, path.ptr, path.len);
	return true;
}

bool os_address_parse(struct span text, struct os_address *ret_address)
{
	struct os_address address = { .family = OS_FAMILY_BOTH };
	struct span host;
	uint64_t port;
	size_t colon = text.len;

	if (span_starts_with(text, SPAN("unix:")))
		return parse_unix(span_skip(text, 5), ret_address);
	while (colon > 0 && text.ptr[colon - 1] != ':')
		colon--;
	if (colon == 0 || !parse_u64(span_skip(text, colon), UINT16_MAX, &port))
		return false;
	host = span_first(text, colon - 1);
	if (!span_equal(host, SPAN("*")) && !os_address_parse_ip(host, &address))
		return false;
	/* A bare v6 address would swallow its port: `::1:80` is an address already. */
	if (span_find_byte(host, ':') < host.len && host.ptr[0] != '[')
		return false;
	address.port = (uint16_t)port;
	*ret_address = address;
	return true;
}

void os_address_write_ip(const struct os_address *address, struct writer *out)
{
	char buf[INET6_ADDRSTRLEN] = "";

	switch ((enum os_family)address->family) {
	case OS_FAMILY_BOTH:
		write_byte(out, '*');
		return;
	case OS_FAMILY_UNIX:
		write_str(out, "unix:");
		write_str(out, address->path);
		return;
	case OS_FAMILY_V4:
		/* For each line of the log: without printf, of which inet_ntop is made. */
		for (size_t i = 0; i < 4; i++) {
			if (i)
				write_byte(out, '.');
			write_u64(out, address->ip[i]);
		}
		return;
	case OS_FAMILY_V6:
		inet_ntop(AF_INET6, address->ip, buf, sizeof(buf));
		break;
	}
	write_str(out, buf);
	if (address->family == OS_FAMILY_V6 && address->scope) {
		write_byte(out, '%');
		write_u64(out, address->scope);
	}
}

void os_address_write(const struct os_address *address, struct writer *out)
{
	bool has_brackets = address->family == OS_FAMILY_V6;

	if (has_brackets)
		write_byte(out, '[');
	os_address_write_ip(address, out);
	if (has_brackets)
		write_byte(out, ']');
	if (address->family == OS_FAMILY_UNIX)
		return;
	write_byte(out, ':');
	write_u64(out, address->port);
}

/* ---- Facts --------------------------------------------------------------------------------- */

bool os_address_same_ip(const struct os_address *a, const struct os_address *b)
{
	if (a->family != b->family)
		return false;
	if (a->family == OS_FAMILY_UNIX)
		return strcmp(a->path, b->path) == 0;
	return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 && a->scope == b->scope;
}

bool os_address_equal(const struct os_address *a, const struct os_address *b)
{
	return os_address_same_ip(a, b) && a->port == b->port;
}

bool os_address_is_any(const struct os_address *address)
{
	static const uint8_t zeroes[16];

	if (address->family == OS_FAMILY_BOTH)
		return true;
	return address->family != OS_FAMILY_UNIX &&
	       memcmp(address->ip, zeroes, sizeof(zeroes)) == 0;
}

bool os_address_is_loopback(const struct os_address *address)
{
	static const uint8_t loopback_v6[16] = { [15] = 1 };

	switch ((enum os_family)address->family) {
	case OS_FAMILY_UNIX:
		return true;
	case OS_FAMILY_V4:
		return address->ip[0] == 127;
	case OS_FAMILY_V6:
		return memcmp(address->ip, loopback_v6, sizeof(loopback_v6)) == 0;
	case OS_FAMILY_BOTH:
		break;
	}
	return false;
}

bool os_address_is_private(const struct os_address *address)
{
	const uint8_t *ip = address->ip;

	if (os_address_is_loopback(address))
		return true;
	if (address->family == OS_FAMILY_V4)
		return ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
		       (ip[0] == 192 && ip[1] == 168) || (ip[0] == 100 && (ip[1] & 0xc0) == 64) ||
		       (ip[0] == 169 && ip[1] == 254);
	if (address->family == OS_FAMILY_V6)
		return (ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80);
	return false;
}

/* ---- The kernel's form --------------------------------------------------------------------- */

unsigned os_address_to_native(const struct os_address *address, struct sockaddr_storage *ret_native)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_native;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_native;
	struct sockaddr_un *local = (struct sockaddr_un *)ret_native;

	memset(ret_native, 0, sizeof(*ret_native));
	switch ((enum os_family)address->family) {
	case OS_FAMILY_V4:
		v4->sin_family = AF_INET;
		v4->sin_port = htons(address->port);
		memcpy(&v4->sin_addr, address->ip, 4);
		return sizeof(*v4);
	case OS_FAMILY_BOTH:
	case OS_FAMILY_V6:
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(address->port);
		v6->sin6_scope_id = address->scope;
		memcpy(&v6->sin6_addr, address->ip, 16);
		return sizeof(*v6);
	case OS_FAMILY_UNIX:
		local->sun_family = AF_UNIX;
		memcpy(local->sun_path, address->path, sizeof(local->sun_path));
		return sizeof(*local);
	}
	return 0;
}

int os_address_from_native(const struct sockaddr_storage *native, unsigned len,
			   struct os_address *ret_address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)native;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)native;
	const struct sockaddr_un *local = (const struct sockaddr_un *)native;
	uint8_t ip[16] = { 0 };

	if (len < sizeof(sa_family_t))
		return -EAFNOSUPPORT;
	switch (native->ss_family) {
	case AF_INET:
		memcpy(ip, &v4->sin_addr, 4);
		*ret_address = os_address_of(OS_FAMILY_V4, ip, ntohs(v4->sin_port));
		return 0;
	case AF_INET6:
		*ret_address =
			os_address_of(OS_FAMILY_V6, v6->sin6_addr.s6_addr, ntohs(v6->sin6_port));
		if (ret_address->family == OS_FAMILY_V6)
			ret_address->scope = v6->sin6_scope_id;
		return 0;
	case AF_UNIX: /* without a path: the client's end, or an abstract one */
		*ret_address = (struct os_address){ .family = OS_FAMILY_UNIX };
		len -= (unsigned)offsetof(struct sockaddr_un, sun_path);
		if (len > 0 && len <= OS_UNIX_PATH_MAX + 1 && local->sun_path[0])
			memcpy(ret_address->path, local->sun_path,
			       strnlen(local->sun_path,
				       len < OS_UNIX_PATH_MAX ? len : OS_UNIX_PATH_MAX));
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}
