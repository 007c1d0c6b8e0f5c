#include "http/http.h"

enum { FLAGS_KNOWN = HTTP_TRACE_SAMPLED | HTTP_TRACE_RANDOM };

/* Lower case only (3.2.1): what differs by case would be two traces to who compares. */
static bool hex_take(struct span text, size_t at, size_t digits, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (size_t i = at; i < at + digits; i++) {
		char c = text.ptr[i];

		if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
			return false;
		value = value << 4 | (uint64_t)ascii_hex_value(c);
	}
	*ret_value = value;
	return true;
}

bool http_trace_parse(struct span value, struct http_trace *ret_trace)
{
	uint64_t version, high, low, parent, flags;

	if (value.len < HTTP_TRACE_LEN || value.ptr[2] != '-' || value.ptr[35] != '-' ||
	    value.ptr[52] != '-')
		return false;
	if (!hex_take(value, 0, 2, &version) || !hex_take(value, 3, 16, &high) ||
	    !hex_take(value, 19, 16, &low) || !hex_take(value, 36, 16, &parent) ||
	    !hex_take(value, 53, 2, &flags))
		return false;
	/* A later version may say more behind another hyphen; 00 has this length, and ff is no version. */
	if (version == 0xff ||
	    (value.len > HTTP_TRACE_LEN && (!version || value.ptr[HTTP_TRACE_LEN] != '-')))
		return false;
	if (!(high | low) || !parent)
		return false;
	*ret_trace = (struct http_trace){ .id_high = high,
					  .id_low = low,
					  .span = parent,
					  .flags = (uint8_t)(flags & FLAGS_KNOWN) };
	return true;
}

void http_trace_write(struct writer *out, const struct http_trace *trace)
{
	write_span(out, SPAN("00-"));
	write_hex_u64(out, trace->id_high, 16);
	write_hex_u64(out, trace->id_low, 16);
	write_byte(out, '-');
	write_hex_u64(out, trace->span, 16);
	write_byte(out, '-');
	write_hex_u64(out, trace->flags, 2);
}
