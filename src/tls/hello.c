#include "tls/tls.h"

#include <string.h>

enum {
	RECORD_HEADER = 5,
	RECORD_PLAIN_MAX = 16384, /* RFC 8446, 5.1 */
	MESSAGE_HEADER = 4,
	CONTENT_ALERT = 21,
	CONTENT_HANDSHAKE = 22,
	CLIENT_HELLO = 1,
	RECORD_MAJOR = 3,
};

static const uint8_t alert_fatal = 2;

void tls_alert_record(struct writer *out, enum tls_alert alert)
{
	struct writer saved = *out;

	write_byte(out, CONTENT_ALERT);
	write_be16(out, 0x0303);
	write_be16(out, 2);
	write_byte(out, (char)alert_fatal);
	write_byte(out, (char)alert);
	if (!out->ok) { /* all or nothing: half an alert is a broken record */
		saved.ok = false;
		*out = saved;
	}
}

static int malformed(struct tls_hello *hello, enum tls_alert alert)
{
	hello->alert = alert;
	return TLS_HELLO_MALFORMED;
}

/* ---- Framing: records that hold one handshake message ---------------------------------------- */

/* Everything is judged as soon as its own bytes are there and in their order, so the answer for all
 * bytes is the first answer for any number of them. */
struct framing {
	struct reader bytes;
	uint8_t header[MESSAGE_HEADER];
	size_t gathered;    /* message bytes seen so far */
	size_t message_len; /* with its header; 0 while that is incomplete */
	size_t record_count;
	size_t body_len; /* of the current record */
};

static int read_record_header(struct framing *framing, struct tls_hello *hello)
{
	const uint8_t *at = framing->bytes.at;
	size_t left = reader_left(&framing->bytes);

	if (left >= 1 && at[0] != CONTENT_HANDSHAKE)
		return malformed(hello, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (left >= 2 && at[1] != RECORD_MAJOR)
		return malformed(hello, TLS_ALERT_PROTOCOL_VERSION);
	if (left < RECORD_HEADER)
		return TLS_HELLO_NEED_MORE;
	framing->body_len = (size_t)(at[3] << 8 | at[4]);
	framing->bytes.at += RECORD_HEADER;
	/* RFC 8446, 5.1: no zero-length handshake fragments, or a client could send them for
	 * ever. */
	if (framing->body_len == 0)
		return malformed(hello, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (framing->body_len > RECORD_PLAIN_MAX)
		return malformed(hello, TLS_ALERT_RECORD_OVERFLOW);
	return 0;
}

/* Looks at the message's own header as far as this record brings it, and checks that the record
 * ends where the message does: what follows a ClientHello in its record is never right. */
static int read_message_header(struct framing *framing, struct tls_hello *hello)
{
	size_t part = reader_left(&framing->bytes);

	if (part > framing->body_len)
		part = framing->body_len;
	for (size_t i = 0; i < part && framing->gathered + i < MESSAGE_HEADER; i++)
		framing->header[framing->gathered + i] = framing->bytes.at[i];
	if (framing->gathered + part >= 1 && framing->header[0] != CLIENT_HELLO)
		return malformed(hello, TLS_ALERT_UNEXPECTED_MESSAGE);
	if (framing->gathered + part >= MESSAGE_HEADER && framing->message_len == 0) {
		framing->message_len =
			MESSAGE_HEADER + ((size_t)framing->header[1] << 16 |
					  (size_t)framing->header[2] << 8 | framing->header[3]);
		if (framing->message_len > TLS_HELLO_MESSAGE_MAX) {
			hello->alert = TLS_ALERT_ILLEGAL_PARAMETER;
			return TLS_HELLO_TOO_BIG;
		}
	}
	if (framing->message_len != 0 &&
	    framing->gathered + framing->body_len > framing->message_len)
		return malformed(hello, TLS_ALERT_UNEXPECTED_MESSAGE);
	return part < framing->body_len ? TLS_HELLO_NEED_MORE : 0;
}

static int frame_walk(struct framing *framing, struct tls_hello *hello)
{
	for (;;) {
		int outcome = read_record_header(framing, hello);

		if (outcome != 0)
			return outcome;
		outcome = read_message_header(framing, hello);
		if (outcome != 0)
			return outcome;
		framing->bytes.at += framing->body_len;
		framing->gathered += framing->body_len;
		framing->record_count++;
		if (framing->message_len != 0 && framing->gathered == framing->message_len)
			return 0;
		if (framing->record_count == TLS_HELLO_RECORDS_MAX) {
			hello->too_many_records = true;
			hello->alert = TLS_ALERT_ILLEGAL_PARAMETER;
			return TLS_HELLO_TOO_BIG;
		}
	}
}

/* The whole message in one piece: in place where it came in one record. */
static struct span message_of(struct span bytes, const struct framing *framing, char *scratch)
{
	struct reader records = reader_of(bytes);
	size_t copied = 0;

	if (framing->record_count == 1)
		return span_of(bytes.ptr + RECORD_HEADER, framing->message_len);
	while (copied < framing->message_len) {
		read_u8(&records);
		read_be16(&records);
		struct span body = read_span(&records, read_be16(&records));

		MUST(records.ok && body.len <= TLS_HELLO_MESSAGE_MAX - copied);
		memcpy(scratch + copied, body.ptr, body.len);
		copied += body.len;
	}
	return span_of(scratch, copied);
}

/* ---- What else it may be --------------------------------------------------------------------- */

static enum tls_looks_like looks_like(struct span bytes)
{
	static const char *const methods[] = { "GET ",    "POST ",    "HEAD ",    "PUT ",
					       "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ",
					       "PATCH ",  "PRI " };

	if (span_starts_with(bytes, SPAN("SSH-")))
		return TLS_LOOKS_LIKE_SSH;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (span_starts_with(bytes, span_str(methods[i])))
			return TLS_LOOKS_LIKE_HTTP;
	return TLS_LOOKS_LIKE_OTHER;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static bool is_address(struct span name)
{
	size_t dots = 0;

	/* No host name has a colon; digits and dots only are an address whether or not it is a good
	 * one (WHATWG and RFC 1123, 2.1: a name's last label is not numeric). */
	if (span_find_byte(name, ':') < name.len)
		return true;
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] == '.')
			dots++;
		else if (!ascii_is_digit(name.ptr[i]))
			return false;
	}
	return dots == 3;
}

static bool is_host_name(struct span name)
{
	size_t label = 0;

	if (name.len == 0 || name.len > TLS_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_')
			return false;
		if (++label > 63)
			return false;
	}
	return label != 0;
}

static bool is_address_text(struct span name)
{
	for (size_t i = 0; i < name.len; i++)
		if (ascii_hex_value(name.ptr[i]) < 0 &&
		    span_find_byte(SPAN(":.[]%"), name.ptr[i]) == SPAN(":.[]%").len)
			return false;
	return true;
}

/* RFC 6066, 3: a list, but clients send exactly one host_name. A second entry would let the
 * firewall and the certificate choice see different names: refuse it. */
static bool read_server_name(struct reader body, struct tls_hello *hello)
{
	struct reader list = read_sub(&body, read_be16(&body));
	uint8_t type = read_u8(&list);
	struct span name = read_span(&list, read_be16(&list));

	if (!list.ok || reader_left(&list) || reader_left(&body))
		return false;
	if (type != 0 || name.len == 0)
		return false;
	/* RFC 6066 wants no trailing dot; some send it, and names compare without it. */
	if (name.ptr[name.len - 1] == '.')
		name.len--;
	if (name.len > 0 && name.len <= TLS_NAME_MAX && is_address(name)) {
		hello->name_kind = TLS_NAME_ADDRESS;
		return is_address_text(name);
	}
	if (!is_host_name(name))
		return false;
	hello->name_kind = TLS_NAME_HOST;
	hello->name_len = (uint8_t)name.len;
	for (size_t i = 0; i < name.len; i++)
		hello->name[i] = ascii_lower(name.ptr[i]);
	return true;
}

struct span tls_hello_name(const struct tls_hello *hello)
{
	return span_of(hello->name, hello->name_len);
}

/* ---- Lists ----------------------------------------------------------------------------------- */

static bool read_pairs(struct reader body, size_t length_bytes, struct span *ret_pairs)
{
	size_t len = length_bytes == 1 ? read_u8(&body) : read_be16(&body);
	struct span pairs = read_span(&body, len);

	if (!body.ok || reader_left(&body) || pairs.len == 0 || pairs.len % 2 != 0)
		return false;
	*ret_pairs = pairs;
	return true;
}

/* RFC 7301, 3.1: no empty list, no empty name. */
static bool read_alpn(struct reader body, struct span *ret_names)
{
	struct span names = read_span(&body, read_be16(&body));
	struct reader list = reader_of(names);

	if (!body.ok || reader_left(&body) || names.len == 0)
		return false;
	while (reader_left(&list)) {
		struct span name = read_span(&list, read_u8(&list));

		if (!list.ok || name.len == 0)
			return false;
	}
	*ret_names = names;
	return true;
}

static bool read_key_shares(struct reader body, struct span *ret_shares)
{
	struct span shares = read_span(&body, read_be16(&body));
	struct reader list = reader_of(shares);

	if (!body.ok || reader_left(&body))
		return false;
	while (reader_left(&list)) {
		read_be16(&list);
		struct span key = read_span(&list, read_be16(&list));

		if (!list.ok || key.len == 0)
			return false;
	}
	*ret_shares = shares;
	return true;
}

bool tls_list_has(struct span pairs, uint16_t code_point)
{
	struct reader list = reader_of(pairs);

	while (reader_left(&list) >= 2)
		if (read_be16(&list) == code_point)
			return true;
	return false;
}

bool tls_hello_has_alpn(const struct tls_hello *hello, struct span protocol)
{
	struct reader list = reader_of(hello->alpn);

	while (reader_left(&list))
		if (span_equal(read_span(&list, read_u8(&list)), protocol))
			return true;
	return false;
}

/* ---- Extensions ------------------------------------------------------------------------------ */

enum {
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_SUPPORTED_GROUPS = 10,
	EXTENSION_SIGNATURE_ALGORITHMS = 13,
	EXTENSION_ALPN = 16,
	EXTENSION_PRE_SHARED_KEY = 41,
	EXTENSION_SUPPORTED_VERSIONS = 43,
	EXTENSION_KEY_SHARE = 51,
	/* Browsers send fewer than 20. The look for duplicates is quadratic. */
	EXTENSIONS_MAX = 128,
};

/* 0, or the alert. A known extension that does not parse is an error here and not the library's to
 * judge: two readers of one hello must not see different names. */
static int read_extension(uint16_t type, struct reader body, struct tls_hello *hello)
{
	bool ok = true;

	switch (type) {
	case EXTENSION_SERVER_NAME:
		ok = read_server_name(body, hello);
		break;
	case EXTENSION_SUPPORTED_GROUPS:
		ok = read_pairs(body, 2, &hello->groups);
		break;
	case EXTENSION_SIGNATURE_ALGORITHMS:
		ok = read_pairs(body, 2, &hello->signature_schemes);
		break;
	case EXTENSION_ALPN:
		ok = read_alpn(body, &hello->alpn);
		break;
	case EXTENSION_SUPPORTED_VERSIONS:
		ok = read_pairs(body, 1, &hello->versions);
		break;
	case EXTENSION_KEY_SHARE:
		ok = read_key_shares(body, &hello->key_share_groups);
		break;
	case EXTENSION_PRE_SHARED_KEY:
		hello->has_psk = true;
		break;
	default:
		break;
	}
	return ok ? 0 : TLS_ALERT_DECODE_ERROR;
}

static int read_extensions(struct span block, struct tls_hello *hello)
{
	struct reader extensions = reader_of(block);
	uint16_t seen[EXTENSIONS_MAX];

	while (reader_left(&extensions)) {
		uint16_t type = read_be16(&extensions);
		struct reader body = read_sub(&extensions, read_be16(&extensions));

		if (!extensions.ok || hello->extension_count == EXTENSIONS_MAX)
			return TLS_ALERT_DECODE_ERROR;
		for (size_t i = 0; i < hello->extension_count; i++)
			if (seen[i] == type) /* RFC 8446, 4.2 */
				return TLS_ALERT_ILLEGAL_PARAMETER;
		seen[hello->extension_count++] = type;

		int alert = read_extension(type, body, hello);

		if (alert != 0)
			return alert;
	}
	return 0;
}

/* ---- What the client can do ------------------------------------------------------------------ */

static bool has_any(struct span pairs, const uint16_t *code_points, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (tls_list_has(pairs, code_points[i]))
			return true;
	return false;
}

static void judge_certificates(struct tls_hello *hello)
{
	static const uint16_t suites13[] = { 0x1301, 0x1302, 0x1303 };
	static const uint16_t ecdsa12[] = { 0xc02b, 0xc02c, 0xcca9 };
	static const uint16_t rsa12[] = { 0xc02f, 0xc030, 0xcca8 };
	static const uint16_t pss[] = { CRYPTO_SCHEME_RSA_PSS_SHA256, CRYPTO_SCHEME_RSA_PSS_SHA384,
					CRYPTO_SCHEME_RSA_PSS_SHA512 };
	static const uint16_t pkcs1[] = { CRYPTO_SCHEME_RSA_PKCS1_SHA256,
					  CRYPTO_SCHEME_RSA_PKCS1_SHA384,
					  CRYPTO_SCHEME_RSA_PKCS1_SHA512 };
	static const uint16_t groups[] = { 0x001d, 0x0017, 0x0018 };
	struct span suites = hello->cipher_suites, schemes = hello->signature_schemes;
	bool p256 = tls_list_has(schemes, CRYPTO_SCHEME_ECDSA_P256_SHA256);
	bool p384 = tls_list_has(schemes, CRYPTO_SCHEME_ECDSA_P384_SHA384);
	bool rsa_pss = has_any(schemes, pss, ARRAY_LEN(pss));

	if (hello->has_tls13) {
		bool suite = has_any(suites, suites13, ARRAY_LEN(suites13));

		hello->can_ecdsa_p256 = suite && p256;
		hello->can_ecdsa_p384 = suite && p384;
		hello->can_rsa = suite && rsa_pss;
	} else if (hello->has_tls12 && has_any(hello->groups, groups, ARRAY_LEN(groups))) {
		bool ecdsa = has_any(suites, ecdsa12, ARRAY_LEN(ecdsa12));

		/* RFC 8422, 5.1.1: in 1.2 the groups say which curves a certificate may use as
		 * well. */
		hello->can_ecdsa_p256 = ecdsa && p256 && tls_list_has(hello->groups, 0x0017);
		hello->can_ecdsa_p384 = ecdsa && p384 && tls_list_has(hello->groups, 0x0018);
		hello->can_rsa = has_any(suites, rsa12, ARRAY_LEN(rsa12)) &&
				 (rsa_pss || has_any(schemes, pkcs1, ARRAY_LEN(pkcs1)));
	}
}

static int read_hello(struct span message, struct tls_hello *hello)
{
	struct reader body = reader_of(span_skip(message, MESSAGE_HEADER));

	hello->legacy_version = read_be16(&body);
	hello->random = read_span(&body, 32);
	hello->session_id = read_span(&body, read_u8(&body));
	hello->cipher_suites = read_span(&body, read_be16(&body));
	struct span compression = read_span(&body, read_u8(&body));

	if (!body.ok || hello->session_id.len > 32 || hello->cipher_suites.len < 2 ||
	    hello->cipher_suites.len % 2 != 0 || compression.len == 0)
		return malformed(hello, TLS_ALERT_DECODE_ERROR);
	if (span_find_byte(compression, 0) == compression.len)
		return malformed(hello, TLS_ALERT_ILLEGAL_PARAMETER);
	if (reader_left(&body)) { /* TLS 1.2 knows hellos without extensions */
		hello->extensions = read_span(&body, read_be16(&body));
		if (!body.ok || reader_left(&body))
			return malformed(hello, TLS_ALERT_DECODE_ERROR);
	}

	int alert = read_extensions(hello->extensions, hello);

	if (alert != 0)
		return malformed(hello, (enum tls_alert)alert);
	if (hello->versions.len) {
		hello->has_tls12 = tls_list_has(hello->versions, 0x0303);
		hello->has_tls13 = tls_list_has(hello->versions, 0x0304);
	} else {
		hello->has_tls12 = hello->legacy_version >= 0x0303;
	}
	judge_certificates(hello);
	return 0;
}

int tls_hello_parse(struct span bytes, char *scratch, struct tls_hello *ret_hello)
{
	struct framing framing = { .bytes = reader_of(bytes) };

	*ret_hello = (struct tls_hello){ .alert = TLS_ALERT_DECODE_ERROR };
	if (bytes.len == 0)
		return TLS_HELLO_NEED_MORE;
	if ((uint8_t)bytes.ptr[0] != CONTENT_HANDSHAKE) {
		ret_hello->looks_like = looks_like(bytes);
		return TLS_HELLO_NOT_TLS;
	}

	int outcome = frame_walk(&framing, ret_hello);

	if (outcome != 0)
		return outcome;
	return read_hello(message_of(bytes, &framing, scratch), ret_hello);
}
