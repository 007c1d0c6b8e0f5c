/* network: an address, or all that share its first bits. */
#include "conf/conf_internal.h"

#include <string.h>

/* Clears what stands behind the prefix; true where something did. */
static bool clear_behind(struct conf_address *address, unsigned bits)
{
	bool was_set = false;

	for (unsigned i = 0; i < sizeof(address->bytes); i++) {
		unsigned kept = bits > i * 8 ? bits - i * 8 : 0;
		unsigned mask = kept >= 8 ? 0xff : 0xff00u >> kept;

		was_set |= (address->bytes[i] & ~mask) != 0;
		address->bytes[i] = (uint8_t)(address->bytes[i] & mask);
	}
	return was_set;
}

const char *conf_network_parse(struct span text, struct conf_value *value)
{
	static const char form[] = "an address or a network is written 192.0.2.7, 192.0.2.0/24, "
				   "2001:db8::1 or 2001:db8::/32";
	size_t slash = span_find_byte(text, '/');
	struct span digits = span_skip(text, slash + 1);
	struct conf_address *address = &value->address;
	uint64_t bits;
	unsigned most;

	/* Brackets stand where a port follows, and here none does. */
	if ((text.len && text.ptr[0] == '[') ||
	    !conf_address_parse(span_first(text, slash), address))
		return form;
	most = address->family == 6 ? 128 : 32;
	bits = most;
	if (slash < text.len && (!parse_u64(digits, UINT32_MAX, &bits) || digits.len > 3))
		return form;
	if (bits > most)
		return address->family == 6 ? "a prefix of IPv6 has 0 to 128 bits"
					    : "a prefix of IPv4 has 0 to 32 bits";
	/* An IPv4 address has one spelling, or a table would not know a client by the other. */
	if (address->family == 6 && conf_address_v4(address) && bits >= 96) {
		memmove(address->bytes, address->bytes + 12, 4);
		memset(address->bytes + 4, 0, 12);
		address->family = 4;
		bits -= 96;
	}
	value->number = bits;
	value->is_rounded = clear_behind(address, (unsigned)bits);
	return NULL;
}
