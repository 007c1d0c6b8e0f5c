/* The hosts file and resolv.conf: first a name, up to a newline, then a text that is read as either.
 * Properties: what hosts says of a text is what it says of its two halves, one after the other; the
 * answers written as plain lines are found again; a resolver's settings are in bounds, name places in
 * the text, and do not depend on comments, blank lines or how lines end. */
#include "dial/dial_internal.h"
#include "os/os.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 4096 };

static bool same_ips(const struct dial_ips *a, const struct dial_ips *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->list[i].family != b->list[i].family ||
		    a->list[i].scope != b->list[i].scope ||
		    memcmp(a->list[i].ip, b->list[i].ip, sizeof(a->list[i].ip)) != 0)
			return false;
	return true;
}

static void check_halves(struct span text, struct span name, const struct dial_ips *whole)
{
	size_t at = span_find_byte(span_skip(text, text.len / 2), '\n') + text.len / 2;
	struct dial_ips first, second;

	if (at >= text.len)
		return;
	dial_hosts_find(span_first(text, at + 1), name, &first);
	dial_hosts_find(span_skip(text, at + 1), name, &second);
	for (size_t i = 0; i < second.count; i++)
		dial_ips_add(&first, &second.list[i]);
	MUST(same_ips(&first, whole));
}

static void check_interleaved(const struct dial_ips *ips, uint8_t first_family)
{
	struct dial_ips turns;
	bool has_first = false;

	dial_ips_interleave(ips, first_family, &turns);
	MUST(turns.count == ips->count);
	for (size_t i = 0; i < ips->count; i++) {
		struct dial_ips has = turns;

		dial_ips_add(&has, &ips->list[i]);
		MUST(has.count == turns.count);
		has_first = has_first || ips->list[i].family == first_family;
	}
	MUST(!has_first || turns.list[0].family == first_family);
}

static void check_written_again(const struct dial_ips *ips, struct span name)
{
	static char text[DIAL_ADDRESSES_MAX * (OS_ADDRESS_TEXT_MAX + DIAL_NAME_MAX + 8)];
	struct writer out = writer_of(text, sizeof(text));
	struct dial_ips again;

	for (size_t i = 0; i < ips->count; i++) {
		struct os_address address = { .family = ips->list[i].family,
					      .scope = ips->list[i].scope };

		if (address.scope) /* its text names an interface of this machine */
			return;
		memcpy(address.ip, ips->list[i].ip, sizeof(address.ip));
		os_address_write_ip(&address, &out);
		write_str(&out, "\tother ");
		write_span(&out, name);
		write_str(&out, ".\r\n");
	}
	MUST(out.ok);
	dial_hosts_find(writer_done(&out), name, &again);
	MUST(same_ips(&again, ips));
}

static void check_hosts(struct span text, struct span name)
{
	struct dial_ips ips;

	dial_hosts_find(text, name, &ips);
	MUST(ips.count <= DIAL_ADDRESSES_MAX);
	for (size_t i = 0; i < ips.count; i++)
		MUST(ips.list[i].family == OS_FAMILY_V4 || ips.list[i].family == OS_FAMILY_V6);
	check_halves(text, name, &ips);
	check_interleaved(&ips, OS_FAMILY_V4);
	check_interleaved(&ips, OS_FAMILY_V6);
	check_written_again(&ips, name);
}

static void check_same_resolver(const struct dial_resolver_config *a,
				const struct dial_resolver_config *b)
{
	MUST(a->server_count == b->server_count && a->domain_count == b->domain_count &&
	     a->ndots == b->ndots);
	for (size_t i = 0; i < a->server_count; i++)
		MUST(a->servers[i].family == b->servers[i].family &&
		     a->servers[i].port == b->servers[i].port &&
		     memcmp(a->servers[i].ip, b->servers[i].ip, sizeof(a->servers[i].ip)) == 0);
	for (size_t i = 0; i < a->domain_count; i++)
		MUST(span_equal(a->domains[i], b->domains[i]));
}

/* The same lines with others between them that say nothing. */
static struct span stretched(struct span text, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);
	struct span line;

	while (span_cut(&text, '\n', &line)) {
		write_span(&out, line);
		write_str(&out, "\r\n\n # nameserver 192.0.2.1\n;search nowhere\n");
	}
	MUST(out.ok);
	return writer_done(&out);
}

static void check_resolver(struct span text)
{
	static char buf[TEXT_MAX * 48 + 64];
	struct dial_resolver_config config, again;

	dial_resolver_parse(text, &config);
	MUST(config.server_count >= 1 && config.server_count <= DIAL_SERVERS_MAX);
	MUST(config.domain_count <= DIAL_DOMAINS_MAX && config.ndots <= DIAL_NDOTS_MAX);
	for (size_t i = 0; i < config.domain_count; i++) {
		struct span domain = config.domains[i];

		MUST(domain.len && domain.len <= DIAL_NAME_MAX);
		MUST(domain.ptr >= text.ptr && domain.ptr + domain.len <= text.ptr + text.len);
	}
	dial_resolver_parse(stretched(text, buf, sizeof(buf)), &again);
	check_same_resolver(&config, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_of(data, size), name;

	if (size > TEXT_MAX)
		return -1;
	check_resolver(text);
	if (!span_cut(&text, '\n', &name) || !name.len || name.len > DIAL_NAME_MAX)
		return 0;
	/* As its caller has it: lower case, without blanks, comments or a dot at the end. */
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] == '#' || name.ptr[i] == 0x7f)
			return 0;
	if (span_ends_with(name, SPAN(".")))
		return 0;
	check_hosts(text, name);
	return 0;
}
