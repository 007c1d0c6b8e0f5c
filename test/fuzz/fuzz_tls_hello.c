/* The ClientHello parser: what it says of the first bytes of a connection does not depend on how
 * they came, its facts lie inside the bytes and are what they claim to be, and a hello that was taken
 * is the same hello when its message comes in other records. */
#include <stdlib.h>
#include <string.h>

#include "tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_inside(struct span part, struct span bytes, const char *scratch)
{
	bool in_bytes = part.ptr >= bytes.ptr && part.ptr + part.len <= bytes.ptr + bytes.len;
	bool in_scratch =
		part.ptr >= scratch && part.ptr + part.len <= scratch + TLS_HELLO_MESSAGE_MAX;

	MUST(part.len == 0 || in_bytes || in_scratch);
}

static void check_facts(const struct tls_hello *hello, struct span bytes, const char *scratch)
{
	struct span name = tls_hello_name(hello);

	check_inside(hello->random, bytes, scratch);
	check_inside(hello->session_id, bytes, scratch);
	check_inside(hello->cipher_suites, bytes, scratch);
	check_inside(hello->extensions, bytes, scratch);
	check_inside(hello->alpn, bytes, scratch);
	check_inside(hello->versions, bytes, scratch);
	check_inside(hello->groups, bytes, scratch);
	check_inside(hello->key_share_groups, bytes, scratch);
	check_inside(hello->signature_schemes, bytes, scratch);
	MUST(hello->random.len == 32 && hello->session_id.len <= 32 &&
	     hello->cipher_suites.len >= 2);
	MUST((hello->name_kind == TLS_NAME_HOST) == (name.len > 0));
	for (size_t i = 0; i < name.len; i++)
		MUST((name.ptr[i] >= 'a' && name.ptr[i] <= 'z') || ascii_is_digit(name.ptr[i]) ||
		     name.ptr[i] == '-' || name.ptr[i] == '_' ||
		     (name.ptr[i] == '.' && i > 0 && i + 1 < name.len));
	MUST(hello->has_tls12 || hello->has_tls13 || !(hello->can_rsa || hello->can_ecdsa_p256));
}

static void check_equal(const struct tls_hello *a, const struct tls_hello *b)
{
	MUST(a->name_kind == b->name_kind && span_equal(tls_hello_name(a), tls_hello_name(b)));
	MUST(a->extension_count == b->extension_count && a->has_psk == b->has_psk);
	MUST(a->has_tls12 == b->has_tls12 && a->has_tls13 == b->has_tls13);
	MUST(a->can_rsa == b->can_rsa && a->can_ecdsa_p256 == b->can_ecdsa_p256);
}

/* The same message in `count` records. */
static void check_other_records(struct span bytes, const struct tls_hello *hello, size_t count)
{
	static char message[TLS_HELLO_BYTES_MAX], records[2 * TLS_HELLO_BYTES_MAX];
	static char scratch[TLS_HELLO_MESSAGE_MAX];
	struct writer joined = writer_of(message, sizeof(message)),
		      out = writer_of(records, sizeof(records));
	struct reader reader = reader_of(bytes);
	struct tls_hello again;
	struct span left;
	size_t len;

	while (reader_left(&reader) >= 5) {
		read_be24(&reader);
		len = read_be16(&reader);
		write_span(&joined,
			   read_span(&reader,
				     len < reader_left(&reader) ? len : reader_left(&reader)));
	}
	left = writer_done(&joined);
	MUST(joined.ok && left.len > 4);
	/* What stands behind the hello in its last record is not its part. */
	len = 4 + ((size_t)(uint8_t)left.ptr[1] << 16 | (size_t)(uint8_t)left.ptr[2] << 8 |
		   (uint8_t)left.ptr[3]);
	MUST(len <= left.len);
	left = span_first(left, len);
	while (left.len) {
		struct span part = span_first(left, (len + count - 1) / count);

		write_be24(&out, 0x160301);
		write_be16(&out, (uint16_t)part.len);
		write_span(&out, part);
		left = span_skip(left, part.len);
	}
	MUST(out.ok && tls_hello_parse(writer_done(&out), scratch, &again) == 0);
	check_equal(hello, &again);
	MUST(span_equal(hello->random, again.random) &&
	     span_equal(hello->session_id, again.session_id));
	MUST(span_equal(hello->cipher_suites, again.cipher_suites) &&
	     span_equal(hello->extensions, again.extensions));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static char scratch[TLS_HELLO_MESSAGE_MAX], scratch_of_part[TLS_HELLO_MESSAGE_MAX];
	struct span all = span_of(bytes, size);
	struct tls_hello hello, part;
	int whole = tls_hello_parse(all, scratch, &hello);
	int outcome = TLS_HELLO_NEED_MORE;
	/* Byte by byte, or for long inputs in steps; each part in a block of its own, so that ASan
	 * sees a look beyond it. */
	size_t step = size > 300 ? size / 150 : 1;

	for (size_t len = 0; outcome == TLS_HELLO_NEED_MORE; len += step) {
		if (len > size)
			len = size;

		char *copy = malloc(len ? len : 1);

		if (len)
			memcpy(copy, bytes, len);
		outcome = tls_hello_parse(span_of(copy, len), scratch_of_part, &part);
		if (outcome == 0) {
			check_facts(&part, span_of(copy, len), scratch_of_part);
			check_equal(&part, &hello);
		}
		free(copy);
		if (len == size)
			break;
	}
	MUST(outcome == whole);
	if (whole == TLS_HELLO_MALFORMED || whole == TLS_HELLO_TOO_BIG)
		MUST(part.alert == hello.alert);
	MUST(whole != TLS_HELLO_NEED_MORE || size < TLS_HELLO_BYTES_MAX);
	if (whole == 0) {
		check_facts(&hello, all, scratch);
		check_other_records(all, &hello, size % TLS_HELLO_RECORDS_MAX + 1);
	}
	return 0;
}
