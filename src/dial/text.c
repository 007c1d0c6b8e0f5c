#include "dial/dial.h"

#include <string.h>

#include "dial/dial_internal.h"

/* Words end at blanks; the rest of a line behind one of `comments` is none. */
static bool next_word(struct span *rest, const char *comments, struct span *ret_word)
{
	size_t start = 0, end;

	while (start < rest->len &&
	       (rest->ptr[start] == ' ' || rest->ptr[start] == '\t' || rest->ptr[start] == '\r'))
		start++;
	end = start;
	while (end < rest->len && rest->ptr[end] != ' ' && rest->ptr[end] != '\t' &&
	       rest->ptr[end] != '\r' && !(*comments && strchr(comments, rest->ptr[end])))
		end++;
	*ret_word = span_of(rest->ptr + start, end - start);
	*rest = span_skip(*rest, end);
	return ret_word->len > 0;
}

static struct span without_dot(struct span name)
{
	return span_ends_with(name, SPAN(".")) ? span_first(name, name.len - 1) : name;
}

void dial_hosts_find(struct span text, struct span name, struct dial_ips *ret_ips)
{
	struct span line, word;

	ret_ips->count = 0;
	ret_ips->is_cut = false;
	while (span_cut(&text, '\n', &line)) {
		struct os_address address;
		struct dial_ip ip;
		bool is_named = false;

		/* Cheap first: such a file may be a list of 100,000 names that shall lead nowhere. */
		if (line.len < name.len || !next_word(&line, "#", &word))
			continue;
		for (struct span alias; !is_named && next_word(&line, "#", &alias);)
			is_named = span_equal_nocase(without_dot(alias), name);
		if (!is_named || !os_address_parse_ip(word, &address))
			continue;
		ip = (struct dial_ip){ .family = address.family, .scope = address.scope };
		memcpy(ip.ip, address.ip, sizeof(ip.ip));
		dial_ips_add(ret_ips, &ip);
	}
}

static void parse_server(struct dial_resolver_config *config, struct span text)
{
	struct os_address server;

	/* With a port as OpenBSD's resolv.conf(5) allows: [ADDRESS]:PORT, and for v4 without the brackets.
	 * A link-local one cannot be told to every c-ares. */
	if (config->server_count == DIAL_SERVERS_MAX)
		return;
	if ((os_address_parse_ip(text, &server) || os_address_parse(text, &server)) &&
	    !server.scope && (server.family == OS_FAMILY_V4 || server.family == OS_FAMILY_V6))
		config->servers[config->server_count++] = server;
}

static void parse_search(struct dial_resolver_config *config, struct span line)
{
	struct span word;

	config->domain_count = 0; /* the last such line counts */
	while (config->domain_count < DIAL_DOMAINS_MAX && next_word(&line, "", &word)) {
		word = without_dot(word);
		if (word.len && word.len <= DIAL_NAME_MAX)
			config->domains[config->domain_count++] = word;
	}
}

static void parse_options(struct dial_resolver_config *config, struct span line)
{
	struct span word;
	uint64_t value;

	while (next_word(&line, "", &word)) {
		if (!span_starts_with(word, SPAN("ndots:")))
			continue;
		if (parse_u64(span_skip(word, 6), UINT32_MAX, &value))
			config->ndots = (uint32_t)(value < DIAL_NDOTS_MAX ? value : DIAL_NDOTS_MAX);
	}
}

/* resolv.conf(5). What a resolver's times are is not read: the connect timeout bounds them all. */
void dial_resolver_parse(struct span text, struct dial_resolver_config *ret_config)
{
	struct span line, word;

	*ret_config = (struct dial_resolver_config){ .ndots = 1 };
	while (span_cut(&text, '\n', &line)) {
		if (!next_word(&line, "#;", &word))
			continue;
		if (span_equal(word, SPAN("nameserver")) && next_word(&line, "", &word))
			parse_server(ret_config, word);
		else if (span_equal(word, SPAN("search")) || span_equal(word, SPAN("domain")))
			parse_search(ret_config, line);
		else if (span_equal(word, SPAN("options")))
			parse_options(ret_config, line);
	}
	if (!ret_config->server_count)
		ret_config->servers[ret_config->server_count++] =
			(struct os_address){ .family = OS_FAMILY_V4, .ip = { 127, 0, 0, 1 } };
}

bool dial_ips_have(const struct dial_ips *ips, const struct dial_ip *ip)
{
	for (size_t i = 0; i < ips->count; i++) {
		if (ips->list[i].family == ip->family && ips->list[i].scope == ip->scope &&
		    memcmp(ips->list[i].ip, ip->ip, sizeof(ip->ip)) == 0)
			return true;
	}
	return false;
}

void dial_ips_add(struct dial_ips *ips, const struct dial_ip *ip)
{
	if (dial_ips_have(ips, ip))
		return;
	if (ips->count < DIAL_ADDRESSES_MAX)
		ips->list[ips->count++] = *ip;
	else
		ips->is_cut = true;
}

void dial_ips_interleave(const struct dial_ips *ips, uint8_t first_family, struct dial_ips *ret_ips)
{
	size_t next[2] = { 0, 0 }; /* v6, v4 */
	size_t turn = first_family == OS_FAMILY_V4;

	ret_ips->count = 0;
	while (ret_ips->count < ips->count) {
		uint8_t family = turn % 2 ? OS_FAMILY_V4 : OS_FAMILY_V6;
		size_t *at = &next[turn++ % 2];

		while (*at < ips->count && ips->list[*at].family != family)
			(*at)++;
		if (*at < ips->count)
			ret_ips->list[ret_ips->count++] = ips->list[(*at)++];
	}
}
