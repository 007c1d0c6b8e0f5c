/* find: the hot path's questions. Nothing here allocates or changes anything. */
#include "snapshot/snapshot.h"

enum { HOST_LEN_MAX = 255 };

/* ---- Names ----------------------------------------------------------------------------------- */

static const struct snapshot_name *search(const struct snapshot_name *names, size_t count,
					  struct span host)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = span_compare(names[middle].name, host);

		if (order == 0)
			return &names[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const struct snapshot_name *snapshot_find_name(const struct snapshot *snapshot, struct span host)
{
	char copy[HOST_LEN_MAX];
	struct conf_address address;
	struct writer writer = writer_of(copy, sizeof(copy));
	const struct snapshot_name *name;

	if (span_ends_with(host, SPAN(".")))
		host.len--;
	if (!host.len || host.len > sizeof(copy))
		return NULL;
	/* Only what looks like an address is parsed as one: the last byte of a name is a letter. */
	if ((span_find_byte(host, ':') < host.len || ascii_is_digit(host.ptr[host.len - 1])) &&
	    conf_address_parse(host, &address)) {
		conf_address_write(&address, &writer);
		return search(snapshot->exact_names, snapshot->exact_name_count,
			      writer_done(&writer));
	}
	for (size_t i = 0; i < host.len; i++)
		copy[i] = ascii_lower(host.ptr[i]);
	struct span lower = span_of(copy, host.len);
	name = search(snapshot->exact_names, snapshot->exact_name_count, lower);
	if (name)
		return name;
	/* RFC 6125, 6.4.3: `*` is one whole label, never none and never two. */
	size_t dot = span_find_byte(lower, '.');
	if (dot == 0 || dot == lower.len)
		return NULL;
	return search(snapshot->wildcard_names, snapshot->wildcard_name_count,
		      span_skip(lower, dot + 1));
}

const struct snapshot_site *snapshot_find_site(const struct snapshot *snapshot, struct span host)
{
	const struct snapshot_name *name = snapshot_find_name(snapshot, host);

	return name ? name->site : NULL;
}

bool snapshot_sni_is_name(struct span sni)
{
	struct conf_address address;

	return sni.len && !conf_address_parse(sni, &address);
}

const struct snapshot_site *snapshot_site_for_hello(const struct snapshot *snapshot,
						    struct span sni,
						    const struct conf_address *local)
{
	const struct snapshot_site *site = NULL;
	char text[64];

	if (snapshot_sni_is_name(sni)) {
		site = snapshot_find_site(snapshot, sni);
		return site ? site : snapshot->default_site;
	}
	if (local && local->family) {
		struct writer writer = writer_of(text, sizeof(text));
		struct conf_address without_port = *local;

		without_port.port = 0;
		conf_address_write(&without_port, &writer);
		site = snapshot_find_site(snapshot, writer_done(&writer));
	}
	if (!site)
		site = snapshot->default_site;
	if (!site && snapshot->site_count == 1)
		site = &snapshot->sites[0];
	return site;
}

const struct snapshot_site *snapshot_site_for_host(const struct snapshot *snapshot,
						   struct span host,
						   const struct snapshot_name **ret_name)
{
	const struct snapshot_name *name = snapshot_find_name(snapshot, host);

	if (ret_name)
		*ret_name = name;
	return name ? name->site : snapshot->default_site;
}

/* ---- Routes ---------------------------------------------------------------------------------- */

/* A star does not cross `/`, so the slashes of pattern and path pair up and each part stands for
 * itself; within a part the last star alone needs to be tried again (the leftmost match is as good
 * as any). */
static bool matches_stars(const struct snapshot_pattern *pattern, struct span path)
{
	struct span text = pattern->text;
	size_t at = 0, i = 0, star = SIZE_MAX, star_at = 0;

	for (;;) {
		if (i == text.len && (pattern->is_prefix || at == path.len))
			return true;
		if (i < text.len && text.ptr[i] == '*') {
			star = i++;
			star_at = at;
			continue;
		}
		if (i < text.len && at < path.len && text.ptr[i] == path.ptr[at]) {
			i++;
			at++;
			continue;
		}
		if (star == SIZE_MAX || star_at >= path.len || path.ptr[star_at] == '/')
			return false;
		at = ++star_at;
		i = star + 1;
	}
}

bool snapshot_pattern_matches(const struct snapshot_pattern *pattern, struct span path)
{
	if (pattern->has_star)
		return matches_stars(pattern, path);
	return pattern->is_prefix ? span_starts_with(path, pattern->text)
				  : span_equal(path, pattern->text);
}

static bool method_matches(const struct snapshot_block *block, struct span method)
{
	for (size_t i = 0; i < block->method_count; i++) {
		if (span_equal(block->methods[i], method) ||
		    (span_equal(block->methods[i], SPAN("GET")) &&
		     span_equal(method, SPAN("HEAD"))))
			return true;
	}
	return !block->method_count;
}

static bool header_matches(const struct snapshot_block *block, const struct http_fields *fields)
{
	for (size_t i = 0; i < fields->count; i++) {
		if (span_equal_nocase(fields->items[i].name, block->header_name) &&
		    (!block->has_header_value ||
		     span_equal(fields->items[i].value, block->header_value)))
			return true;
	}
	return false;
}

/* A part of a query as it means: `%XX` once, `+` a blank (WHATWG URL, 5.1). */
static bool query_part_is(struct span raw, struct span meant)
{
	size_t at = 0;

	for (size_t i = 0; i < raw.len; i++, at++) {
		char byte = raw.ptr[i] == '+' ? ' ' : raw.ptr[i];

		if (byte == '%' && i + 2 < raw.len && ascii_hex_value(raw.ptr[i + 1]) >= 0 &&
		    ascii_hex_value(raw.ptr[i + 2]) >= 0) {
			byte = (char)(ascii_hex_value(raw.ptr[i + 1]) * 16 +
				      ascii_hex_value(raw.ptr[i + 2]));
			i += 2;
		}
		if (at == meant.len || meant.ptr[at] != byte)
			return false;
	}
	return at == meant.len;
}

static bool query_matches(const struct snapshot_block *block, struct span query)
{
	struct span part;

	while (span_cut(&query, '&', &part)) {
		size_t mark = span_find_byte(part, '=');

		if (query_part_is(span_first(part, mark), block->query_name) &&
		    (!block->has_query_value ||
		     query_part_is(span_skip(part, mark + 1), block->query_value)))
			return true;
	}
	return false;
}

static bool block_matches(const struct snapshot_block *block, const struct http_request *request,
			  const struct conf_address *client)
{
	return snapshot_pattern_matches(&block->pattern, request->path.text) &&
	       method_matches(block, request->method_text) &&
	       (!block->header_name.len || header_matches(block, &request->fields)) &&
	       (!block->query_name.len || query_matches(block, request->query)) &&
	       snapshot_from_has(&block->from, client);
}

struct span snapshot_block_path(const struct snapshot_block *block, struct span path)
{
	return span_skip(path, block->strip_prefix.len);
}

const struct snapshot_route *snapshot_find_route(const struct snapshot_site *site,
						 const struct http_request *request,
						 const struct conf_address *client,
						 const struct snapshot_block **ret_block)
{
	const struct snapshot_block *inside = NULL, *passed = NULL;
	struct span path = request->path.text;

	*ret_block = NULL;
	for (size_t i = 0; i < site->route_count; i++) {
		const struct snapshot_route *route = &site->routes[i];

		if (inside && route->block != inside)
			return NULL;
		if (route->block && !inside) {
			if (route->block == passed ||
			    !block_matches(route->block, request, client)) {
				passed = route->block;
				continue;
			}
			*ret_block = inside = route->block;
			path = snapshot_block_path(inside, path);
		}
		if (snapshot_pattern_matches(&route->pattern, path))
			return route;
	}
	return NULL;
}

static bool is_clear(const struct snapshot_pattern *pattern, struct span text, struct span other)
{
	return snapshot_pattern_matches(pattern, text) == snapshot_pattern_matches(pattern, other);
}

/* Everything that a site or a block limits by a path. */
struct limited {
	const struct snapshot_request_limit *requests;
	size_t request_count;
	struct snapshot_connection_limits connections;
	struct snapshot_bandwidth_limits bandwidth;
};

static bool limits_are_clear(const struct limited *limited, struct span text, struct span other)
{
	for (size_t i = 0; i < limited->request_count; i++) {
		if (!is_clear(&limited->requests[i].pattern, text, other))
			return false;
	}
	for (size_t i = 0; i < limited->connections.count; i++) {
		if (!is_clear(&limited->connections.items[i].pattern, text, other))
			return false;
	}
	for (size_t i = 0; i < limited->bandwidth.count; i++) {
		if (!is_clear(&limited->bandwidth.items[i].pattern, text, other))
			return false;
	}
	return true;
}

static bool denials_are_clear(const struct snapshot_site *site, struct span text, struct span other)
{
	for (size_t i = 0; i < site->denial_count; i++) {
		for (size_t k = 0; k < site->denials[i].pattern_count; k++) {
			if (!is_clear(&site->denials[i].patterns[k], text, other))
				return false;
		}
	}
	return true;
}

static bool route_is_clear(const struct snapshot_route *route, struct span text, struct span other)
{
	const struct snapshot_block *block = route->block;

	if (block) {
		if (!is_clear(&block->pattern, text, other))
			return false;
		if (!snapshot_pattern_matches(&block->pattern, text))
			return true;
		text = snapshot_block_path(block, text);
		other = snapshot_block_path(block, other);
		if (!limits_are_clear(
			    &(struct limited){ block->request_limits, block->request_limit_count,
					       block->connection_limits, block->bandwidth_limits },
			    text, other))
			return false;
	}
	return is_clear(&route->pattern, text, other);
}

bool snapshot_path_is_clear(const struct snapshot_site *site, const struct http_path *path)
{
	if (!path->other.len)
		return true;
	for (size_t i = 0; i < site->route_count; i++) {
		if (!route_is_clear(&site->routes[i], path->text, path->other))
			return false;
	}
	for (size_t i = 0; i < site->path_limit_count; i++) {
		if (!is_clear(&site->path_limits[i].pattern, path->text, path->other))
			return false;
	}
	return denials_are_clear(site, path->text, path->other) &&
	       limits_are_clear(&(struct limited){ site->request_limits, site->request_limit_count,
						   site->connection_limits,
						   site->bandwidth_limits },
				path->text, path->other);
}

const struct snapshot_error_page *snapshot_find_error(const struct snapshot_error_pages *pages,
						      uint16_t code)
{
	for (size_t i = 0; i < pages->count; i++) {
		if (pages->items[i].code == code)
			return &pages->items[i];
	}
	return NULL;
}

const struct snapshot_limits *snapshot_find_limits(const struct snapshot_site *site,
						   struct span path)
{
	for (size_t i = 0; i < site->path_limit_count; i++) {
		if (snapshot_pattern_matches(&site->path_limits[i].pattern, path))
			return &site->path_limits[i].limits;
	}
	return site->limits;
}

/* ---- Ids ------------------------------------------------------------------------------------- */

const struct snapshot_certificate *snapshot_find_certificate(const struct snapshot *snapshot,
							     uint64_t id)
{
	for (size_t i = 0; i < snapshot->certificate_count; i++) {
		if (snapshot->certificates[i].id == id)
			return &snapshot->certificates[i];
	}
	return NULL;
}

const struct snapshot_root *snapshot_find_root(const struct snapshot *snapshot, uint64_t id)
{
	for (size_t i = 0; i < snapshot->root_count; i++) {
		if (snapshot->roots[i].id == id)
			return &snapshot->roots[i];
	}
	return NULL;
}

const struct snapshot_origin *snapshot_find_origin(const struct snapshot *snapshot, uint64_t id)
{
	for (size_t i = 0; i < snapshot->origin_count; i++) {
		if (snapshot->origins[i].id == id)
			return &snapshot->origins[i];
	}
	return NULL;
}

const struct snapshot_listener *snapshot_find_listener(const struct snapshot *snapshot, uint64_t id)
{
	for (size_t i = 0; i < snapshot->listener_count; i++) {
		if (snapshot->listeners[i].id == id)
			return &snapshot->listeners[i];
	}
	return NULL;
}

int snapshot_verify(const void *memory, size_t size)
{
	const struct snapshot *snapshot = memory;

	if (size < sizeof(*snapshot) || (uintptr_t)memory % _Alignof(struct snapshot))
		return -EBADMSG;
	if (snapshot->magic != SNAPSHOT_MAGIC || snapshot->format != SNAPSHOT_FORMAT)
		return -EBADMSG;
	return snapshot->size <= size ? 0 : -EBADMSG;
}
