/* forwarded: what gateways say of those before them, read from the end, and written. */
#include "http/http.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- Nodes (RFC 7239, 6) ----------------------------------------------------------------------- */

static bool parse_v4(struct span text, struct http_node *node)
{
	size_t at = 0;
	struct span part;

	while (span_cut(&text, '.', &part)) {
		uint64_t value;

		/* A leading zero is octal to some readers. */
		if (at == 4 || part.len > 3 || (part.len > 1 && part.ptr[0] == '0') ||
		    !parse_u64(part, 255, &value))
			return false;
		node->ip[at++] = (uint8_t)value;
	}
	node->family = 4;
	return at == 4;
}

static bool parse_v6(struct span text, struct http_node *node)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char copy[INET6_ADDRSTRLEN];

	if (!text.len || text.len >= sizeof(copy) || span_find_byte(text, 0) < text.len)
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	if (inet_pton(AF_INET6, copy, node->ip) != 1)
		return false;
	node->family = 6;
	/* One client must not have two spellings: tables, limits and logs compare addresses. */
	if (memcmp(node->ip, mapped, sizeof(mapped)) == 0) {
		memmove(node->ip, node->ip + sizeof(mapped), 4);
		memset(node->ip + 4, 0, sizeof(node->ip) - 4);
		node->family = 4;
	}
	return true;
}

/* `:80` behind an address, or `:_name`, which hides one. */
static bool parse_port(struct span rest, struct http_node *node)
{
	struct span digits = span_skip(rest, 1);
	uint64_t port;

	if (!rest.len)
		return true;
	if (rest.ptr[0] != ':' || !digits.len)
		return false;
	if (digits.ptr[0] == '_')
		return http_is_token(digits);
	if (digits.len > 5 || !parse_u64(digits, UINT16_MAX, &port))
		return false;
	node->port = (uint16_t)port;
	return true;
}

struct http_node http_node_parse(struct span text)
{
	struct http_node node = { 0 };
	size_t colon, close;
	bool is_good;

	if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"')
		text = span_of(text.ptr + 1, text.len - 2);
	colon = span_find_byte(text, ':');
	if (text.len && text.ptr[0] == '[') {
		close = span_find_byte(text, ']');
		is_good = close < text.len && parse_v6(span_of(text.ptr + 1, close - 1), &node) &&
			  parse_port(span_skip(text, close + 1), &node);
	} else if (span_find_byte(span_skip(text, colon + 1), ':') <
		   span_skip(text, colon + 1).len) {
		is_good = parse_v6(text, &node);
	} else {
		is_good = parse_v4(span_first(text, colon), &node) &&
			  parse_port(span_skip(text, colon), &node);
	}
	return is_good ? node : (struct http_node){ 0 };
}

/* ---- Elements of RFC 7239 ------------------------------------------------------------------------ */

/* A token, or a quoted string without escapes: no address and no host needs one. */
static bool parse_value(struct span text, struct span *ret_value)
{
	if (http_is_token(text)) {
		*ret_value = text;
		return true;
	}
	if (text.len < 2 || text.ptr[0] != '"' || text.ptr[text.len - 1] != '"')
		return false;
	*ret_value = span_of(text.ptr + 1, text.len - 2);
	return span_find_byte(*ret_value, '"') == ret_value->len &&
	       span_find_byte(*ret_value, '\\') == ret_value->len;
}

/* Up to the next `;` outside of quotes. */
static struct span cut_pair(struct span *rest)
{
	bool is_quoted = false;
	struct span pair;
	size_t at = 0;

	for (; at < rest->len; at++) {
		if (rest->ptr[at] == '"')
			is_quoted = !is_quoted;
		else if (is_quoted && rest->ptr[at] == '\\')
			at++;
		else if (!is_quoted && rest->ptr[at] == ';')
			break;
	}
	pair = span_first(*rest, at);
	*rest = span_skip(*rest, at + 1);
	return span_trim(pair);
}

static bool take_pair(struct span pair, struct http_forwarded_element *element, bool *has_node)
{
	size_t equals = span_find_byte(pair, '=');
	struct span name = span_first(pair, equals), raw = span_skip(pair, equals + 1), value;

	if (equals == pair.len || !http_is_token(name))
		return false;
	if (span_equal_nocase(name, SPAN("for"))) {
		if (*has_node || !parse_value(raw, &value))
			return false;
		*has_node = true;
		element->node = http_node_parse(value);
	} else if (span_equal_nocase(name, SPAN("host"))) {
		return !element->host.ptr && parse_value(raw, &element->host);
	} else if (span_equal_nocase(name, SPAN("proto"))) {
		return !element->proto.ptr && parse_value(raw, &element->proto);
	}
	return true;
}

static void parse_pairs(struct http_forwarded_element *element)
{
	struct span rest = element->text;
	bool has_node = false;

	while (rest.len) {
		struct span pair = cut_pair(&rest);

		if (!pair.len || take_pair(pair, element, &has_node))
			continue;
		*element = (struct http_forwarded_element){ .text = element->text };
		return;
	}
}

/* ---- The walk ------------------------------------------------------------------------------------- */

void http_forwarded_init(struct http_forwarded *walk, const struct http_fields *fields,
			 struct span name, enum http_forwarded_form form)
{
	*walk = (struct http_forwarded){ .fields = fields, .name = name, .form = form };
	walk->line = fields->count;
}

/* Is the quote at `at` an escaped one, seen from within its string? */
static bool is_escaped(struct span text, size_t at)
{
	size_t slashes = 0;

	while (slashes < at && text.ptr[at - 1 - slashes] == '\\')
		slashes++;
	return slashes % 2;
}

/* Where the last element begins. */
static size_t last_element(struct span text, enum http_forwarded_form form)
{
	bool is_quoted = false;
	size_t at = text.len;

	for (; at > 0; at--) {
		char c = text.ptr[at - 1];

		if (c == ',' && !is_quoted)
			break;
		if (c == '"' && form == HTTP_FORWARDED_PAIRS &&
		    !(is_quoted && is_escaped(text, at - 1)))
			is_quoted = !is_quoted;
	}
	return at;
}

bool http_forwarded_previous(struct http_forwarded *walk, struct http_forwarded_element *ret)
{
	struct http_forwarded_element element;

	do {
		size_t at;

		while (!walk->rest.len) {
			if (!walk->line)
				return false;
			walk->line--;
			if (span_equal_nocase(walk->fields->items[walk->line].name, walk->name))
				walk->rest = walk->fields->items[walk->line].value;
		}
		at = last_element(walk->rest, walk->form);
		element = (struct http_forwarded_element){
			.text = span_trim(span_skip(walk->rest, at)),
		};
		walk->rest = span_first(walk->rest, at ? at - 1 : 0);
	} while (!element.text.len);
	if (walk->form == HTTP_FORWARDED_PAIRS)
		parse_pairs(&element);
	else
		element.node = http_node_parse(element.text);
	*ret = element;
	return true;
}

/* ---- Writing --------------------------------------------------------------------------------------- */

/* RFC 7239, 4: a value is a token or a quoted string; `:` and brackets need quotes. */
static void write_node(struct writer *writer, struct span address)
{
	bool is_v6 = span_find_byte(address, ':') < address.len;

	write_str(writer, is_v6 ? "for=\"[" : "for=");
	write_span(writer, address);
	write_str(writer, is_v6 ? "]\"" : "");
}

/* Of the client it says all that is known; of the others, who they were. A host that passed
 * http_authority_parse() holds neither `"` nor `\`. */
static void write_forwarded(struct writer *writer, const struct http_hop *hop)
{
	write_node(writer, hop->client);
	if (hop->host.len) {
		write_str(writer, ";host=\"");
		write_span(writer, hop->host);
		write_byte(writer, '"');
	}
	write_str(writer, hop->secure ? ";proto=https" : ";proto=http");
	for (size_t i = 0; i < hop->via_count; i++) {
		write_str(writer, ", ");
		write_node(writer, hop->via[i]);
	}
}

static void write_list(struct writer *writer, const struct http_hop *hop)
{
	write_span(writer, hop->client);
	for (size_t i = 0; i < hop->via_count; i++) {
		write_str(writer, ", ");
		write_span(writer, hop->via[i]);
	}
}

static int add_written(struct http_fields *fields, enum http_name id, const struct http_hop *hop,
		       void (*write)(struct writer *writer, const struct http_hop *hop))
{
	enum { AROUND = 12, FIXED = 32 }; /* of an address: `, for="[…]"`; host and proto */
	size_t size = FIXED + hop->host.len + hop->client.len + AROUND;
	struct writer writer;
	char *room;

	for (size_t i = 0; i < hop->via_count; i++)
		size += hop->via[i].len + AROUND;
	room = arena_array(fields->arena, char, size);
	if (!room)
		return -ENOMEM;
	writer = writer_of(room, size);
	write(&writer, hop);
	MUST(writer.ok);
	return http_fields_add_id(fields, id, writer_done(&writer));
}

static char folded(char c)
{
	return ascii_is_alpha(c) || ascii_is_digit(c) ? ascii_lower(c) : '-';
}

/* CGI and its like turn punctuation into `_`: `CF_Connecting.IP` is CF-Connecting-IP there. */
static bool reads_like(struct span name, struct span other)
{
	if (name.len != other.len)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (folded(name.ptr[i]) != folded(other.ptr[i]))
			return false;
	}
	return true;
}

static int set_field(struct http_fields *fields, struct span name, struct span value)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < fields->count; i++) {
		if (!reads_like(fields->items[i].name, name))
			fields->items[kept++] = fields->items[i];
	}
	fields->count = kept;
	return http_fields_add(fields, name, value);
}

/* What nginx's users have always called it. X-Forwarded-For, which stands last now, begins with it. */
static int add_real_ip(struct http_fields *fields, const struct http_hop *hop)
{
	struct span list = fields->items[fields->count - 1].value;

	if (span_equal_nocase(hop->field, SPAN("X-Real-IP")))
		return 0;
	return http_fields_add_id(fields, HTTP_NAME_X_REAL_IP, span_first(list, hop->client.len));
}

int http_fields_add_forwarded(struct http_fields *fields, const struct http_hop *hop)
{
	if (hop->field.len) {
		struct span client = arena_copy(fields->arena, hop->client);

		if (!client.ptr || set_field(fields, hop->field, client))
			return -ENOMEM;
	}
	if (add_written(fields, HTTP_NAME_X_FORWARDED_FOR, hop, write_list) ||
	    add_real_ip(fields, hop) ||
	    http_fields_add_id(fields, HTTP_NAME_X_FORWARDED_PROTO,
			       hop->secure ? SPAN("https") : SPAN("http")))
		return -ENOMEM;
	if (hop->host.len && http_fields_add_id(fields, HTTP_NAME_X_FORWARDED_HOST, hop->host))
		return -ENOMEM;
	return add_written(fields, HTTP_NAME_FORWARDED, hop, write_forwarded);
}
