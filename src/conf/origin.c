/* origin: where we listen and where we connect to. */
#include "conf/conf_internal.h"

bool conf_port_parse(struct span text, uint16_t *ret_port)
{
	uint64_t port;

	if (!parse_u64(text, UINT16_MAX, &port) || port == 0)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* `HOST:PORT` or `[v6]:PORT`. The port is empty where there is none. */
static const char *split_port(struct span text, struct span *ret_host, struct span *ret_port)
{
	size_t colon = span_find_byte(text, ':');

	if (text.len && text.ptr[0] == '[') {
		size_t close = span_find_byte(text, ']');
		if (close == text.len)
			return "an IPv6 address stands in brackets: [::1]:8080";
		colon = close + 1;
		if (colon < text.len && text.ptr[colon] != ':')
			return "an IPv6 address with a port is written [::1]:8080";
	} else if (span_find_byte(span_skip(text, colon + 1), ':') <
		   span_skip(text, colon + 1).len) {
		return "an IPv6 address with a port is written [::1]:8080";
	}
	*ret_host = span_first(text, colon);
	*ret_port = span_skip(text, colon + 1);
	if (colon < text.len && !ret_port->len)
		return "the port is missing after `:`";
	return NULL;
}

const char *conf_listen_parse(struct span text, struct conf_value *value)
{
	struct span host, port;
	const char *reason = split_port(text, &host, &port);

	if (reason)
		return reason;
	if (!port.len || !host.len)
		return "write ADDR:PORT, or *:PORT for all addresses";
	if (!span_equal(host, SPAN("*")) && !conf_address_parse(host, &value->address))
		return "an address to listen on is a number like 127.0.0.1 or [::1], or *";
	if (!conf_port_parse(port, &value->address.port))
		return "a port is 1 to 65535";
	return NULL;
}

static const char *parse_authority(struct arena *arena, struct span text, uint16_t default_port,
				   struct conf_value *value)
{
	struct conf_origin *origin = &value->origin;
	struct span host, port;
	struct conf_value name = { .type = CONF_HOST };
	const char *reason = split_port(text, &host, &port);

	if (reason)
		return reason;
	if (!host.len)
		return "the host is missing before `:`";
	if (!port.len && !default_port)
		return "the port is missing: write HOST:PORT";
	origin->port = default_port;
	if (port.len && !conf_port_parse(port, &origin->port))
		return "a port is 1 to 65535";
	reason = conf_host_parse(arena, host, false, &name);
	if (reason)
		return reason;
	origin->host = name.text;
	origin->is_address = name.is_address;
	origin->address = name.address;
	origin->address.port = name.is_address ? origin->port : 0;
	return NULL;
}

const char *conf_origin_parse(struct arena *arena, struct span folder, struct span text,
			      struct conf_value *value)
{
	struct conf_origin *origin = &value->origin;
	uint16_t default_port = 0;

	if (span_starts_with(text, SPAN("unix:"))) {
		struct span path = span_skip(text, 5);
		if (!path.len)
			return "unix: needs the path of a socket";
		origin->unix_path = conf_join(arena, folder, path);
		/* struct sockaddr_un holds 107 bytes and a NUL. */
		return origin->unix_path.len < 108 ? NULL : "a socket's path has at most 107 bytes";
	}
	if (text.len && span_find_byte(text, ':') == text.len &&
	    conf_port_parse(text, &origin->port)) {
		origin->host = SPAN("localhost");
		return NULL;
	}
	size_t scheme_len = span_find(text, SPAN("://"));
	if (scheme_len < text.len) {
		struct span scheme = span_first(text, scheme_len);
		text = span_skip(text, scheme_len + 3);
		if (span_equal_nocase(scheme, SPAN("https"))) {
			origin->scheme = CONF_HTTPS;
			default_port = 443;
		} else if (span_equal_nocase(scheme, SPAN("http"))) {
			default_port = 80;
		} else {
			return "an upstream speaks http:// or https://";
		}
		if (span_ends_with(text, SPAN("/")))
			text.len--;
	}
	if (span_starts_with(text, SPAN("/")))
		return "a socket is written unix:/PATH; a path of requests stands behind `on`";
	if (span_find_byte(text, '/') < text.len || span_find_byte(text, '?') < text.len)
		return "an upstream has no path: write it without what begins at the `/`; requests "
		       "keep their own";
	return parse_authority(arena, text, default_port, value);
}
