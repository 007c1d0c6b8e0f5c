/* The ClientHello, however it arrives. Hellos come from a builder here and from the library's
 * client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "tls/tls.h"

static char scratch[TLS_HELLO_MESSAGE_MAX];

/* ---- Building -------------------------------------------------------------------------------- */

struct recipe {
	const char *name;                                 /* the SNI; NULL: none */
	size_t name_len;                                  /* 0: strlen */
	const char *alpn;                                 /* wire form as a C string */
	const char *versions, *groups, *schemes, *suites; /* hex */
	const char *more;                                 /* further extensions, hex */
	uint16_t legacy_version;
	size_t padding; /* an extension of so many bytes */
};

static void put_hex(struct writer *out, const char *hex)
{
	for (; hex && *hex; hex += 2)
		write_byte(out, (char)(ascii_hex_value(hex[0]) << 4 | ascii_hex_value(hex[1])));
}

static void put_list(struct writer *out, uint16_t type, const char *hex, bool short_length)
{
	size_t len = hex ? strlen(hex) / 2 : 0;

	if (!hex)
		return;
	write_be16(out, type);
	write_be16(out, (uint16_t)(len + (short_length ? 1 : 2)));
	if (short_length)
		write_byte(out, (char)len);
	else
		write_be16(out, (uint16_t)len);
	put_hex(out, hex);
}

static void put_extensions(struct writer *out, const struct recipe *recipe)
{
	if (recipe->name) {
		size_t len = recipe->name_len ? recipe->name_len : strlen(recipe->name);

		write_be16(out, 0);
		write_be16(out, (uint16_t)(len + 5));
		write_be16(out, (uint16_t)(len + 3));
		write_byte(out, 0);
		write_be16(out, (uint16_t)len);
		write_span(out, span_of(recipe->name, len));
	}
	if (recipe->alpn) {
		write_be16(out, 16);
		write_be16(out, (uint16_t)(strlen(recipe->alpn) + 2));
		write_be16(out, (uint16_t)strlen(recipe->alpn));
		write_str(out, recipe->alpn);
	}
	put_list(out, 43, recipe->versions, true);
	put_list(out, 10, recipe->groups, false);
	put_list(out, 13, recipe->schemes, false);
	put_hex(out, recipe->more);
	if (recipe->padding) {
		write_be16(out, 21);
		write_be16(out, (uint16_t)recipe->padding);
		for (size_t i = 0; i < recipe->padding; i++)
			write_byte(out, 0);
	}
}

/* The handshake message alone. */
static struct span build_message(const struct recipe *recipe, char *buf, size_t size)
{
	static char block[32768];
	struct writer extensions = writer_of(block, sizeof(block));
	struct writer out = writer_of(buf, size);
	const char *suites =
		recipe->suites ? recipe->suites : "130113021303c02bc02fc02cc030cca9cca8";

	put_extensions(&extensions, recipe);
	assert_true(extensions.ok);
	write_byte(&out, 1);
	write_be24(&out, (uint32_t)(2 + 32 + 1 + 2 + strlen(suites) / 2 + 2 + 2 +
				    writer_done(&extensions).len));
	write_be16(&out, recipe->legacy_version ? recipe->legacy_version : 0x0303);
	for (int i = 0; i < 32; i++)
		write_byte(&out, (char)i);
	write_byte(&out, 0);
	write_be16(&out, (uint16_t)(strlen(suites) / 2));
	put_hex(&out, suites);
	write_be16(&out, 0x0100);
	write_be16(&out, (uint16_t)writer_done(&extensions).len);
	write_span(&out, writer_done(&extensions));
	assert_true(out.ok);
	return writer_done(&out);
}

/* In records of at most `fragment` bytes. */
static struct span build_records(struct span message, size_t fragment, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);

	while (message.len) {
		struct span part = span_first(message, fragment);

		write_byte(&out, 22);
		write_be16(&out, 0x0301);
		write_be16(&out, (uint16_t)part.len);
		write_span(&out, part);
		message = span_skip(message, part.len);
	}
	assert_true(out.ok);
	return writer_done(&out);
}

static const struct recipe usual = {
	.name = "WWW.Example.COM",
	.alpn = "\x02h2\x08http/1.1",
	.versions = "03040303",
	.groups = "11ec001d00170018",
	.schemes = "040308040401050308050501080606010201",
};

static struct span build(const struct recipe *recipe, size_t fragment, char *buf, size_t size)
{
	static char message[40000];

	return build_records(build_message(recipe, message, sizeof(message)), fragment, buf, size);
}

static void assert_usual(const struct tls_hello *hello)
{
	assert_int_equal(hello->name_kind, TLS_NAME_HOST);
	assert_true(span_equal(tls_hello_name(hello), SPAN("www.example.com")));
	assert_true(tls_hello_has_alpn(hello, SPAN("http/1.1")));
	assert_true(tls_hello_has_alpn(hello, SPAN("h2")));
	assert_false(tls_hello_has_alpn(hello, SPAN("h3")));
	assert_true(hello->has_tls13 && hello->has_tls12);
	assert_true(hello->can_ecdsa_p256 && hello->can_ecdsa_p384 && hello->can_rsa);
	assert_true(tls_list_has(hello->groups, 0x11ec));
	assert_int_equal(hello->cipher_suites.len, 18);
	assert_int_equal(hello->random.len, 32);
	assert_int_equal((uint8_t)hello->random.ptr[31], 31);
}

/* ---- Arrival --------------------------------------------------------------------------------- */

/* The same bytes at every length: NEED_MORE up to the last byte, then the facts. The copy has its
 * own heap block, so that a look beyond it is seen. */
static void assert_arrives(struct span bytes)
{
	struct tls_hello hello;

	for (size_t len = 0; len <= bytes.len; len++) {
		char *copy = malloc(len ? len : 1);
		int outcome;

		memcpy(copy, bytes.ptr, len);
		outcome = tls_hello_parse(span_of(copy, len), scratch, &hello);
		assert_int_equal(outcome, len < bytes.len ? TLS_HELLO_NEED_MORE : 0);
		if (outcome == 0)
			assert_usual(&hello);
		free(copy);
	}
}

static void test_every_prefix(void **state)
{
	static char buf[8192];

	(void)state;
	/* One record, and 2 to 10: by fragments that cut headers and everything else. */
	assert_arrives(build(&usual, 16384, buf, sizeof(buf)));
	for (size_t fragment = 20; fragment < 200; fragment += 3)
		assert_arrives(build(&usual, fragment, buf, sizeof(buf)));
}

/* A fragment boundary at every place of the message, also within its own header. */
static void test_two_records_at_every_boundary(void **state)
{
	static char message[1024], buf[2048];
	struct span whole = build_message(&usual, message, sizeof(message));
	struct tls_hello hello;

	(void)state;
	for (size_t cut = 1; cut < whole.len; cut++) {
		struct span first = build_records(span_first(whole, cut), 16384, buf, sizeof(buf));
		struct span second = build_records(span_skip(whole, cut), 16384, buf + first.len,
						   sizeof(buf) - first.len);
		struct span bytes = span_of(buf, first.len + second.len);

		assert_int_equal(tls_hello_parse(span_first(bytes, bytes.len - 1), scratch, &hello),
				 TLS_HELLO_NEED_MORE);
		assert_int_equal(tls_hello_parse(bytes, scratch, &hello), 0);
		assert_usual(&hello);
	}
}

static void test_record_count(void **state)
{
	static char message[1024], buf[2048];
	struct span whole = build_message(&usual, message, sizeof(message));
	struct tls_hello hello;
	size_t tenth = (whole.len + 9) / 10;

	(void)state;
	assert_int_equal(
		tls_hello_parse(build_records(whole, tenth, buf, sizeof(buf)), scratch, &hello), 0);
	assert_usual(&hello);
	assert_int_equal(
		tls_hello_parse(build_records(whole, tenth - 3, buf, sizeof(buf)), scratch, &hello),
		TLS_HELLO_TOO_BIG);
	assert_int_equal(
		tls_hello_parse(build_records(whole, 1, buf, sizeof(buf)), scratch, &hello),
		TLS_HELLO_TOO_BIG);
}

static void test_size(void **state)
{
	static char message[40000], buf[50000];
	struct recipe recipe = usual;
	struct tls_hello hello;
	size_t bare = build_message(&usual, message, sizeof(message)).len;

	(void)state;
	recipe.padding = TLS_HELLO_MESSAGE_MAX - bare - 4;
	struct span whole = build_message(&recipe, message, sizeof(message));

	assert_int_equal(whole.len, TLS_HELLO_MESSAGE_MAX);
	struct span bytes = build_records(whole, 1639, buf, sizeof(buf)); /* 10 records */

	assert_int_equal(bytes.len, TLS_HELLO_BYTES_MAX);
	assert_int_equal(tls_hello_parse(bytes, scratch, &hello), 0);
	assert_usual(&hello);
	assert_int_equal(
		tls_hello_parse(build_records(whole, 16384, buf, sizeof(buf)), scratch, &hello), 0);
	recipe.padding++;
	whole = build_message(&recipe, message, sizeof(message));
	/* Said as soon as the message's header is there. */
	bytes = build_records(whole, 16384, buf, sizeof(buf));
	assert_int_equal(tls_hello_parse(span_first(bytes, 9), scratch, &hello), TLS_HELLO_TOO_BIG);
	assert_int_equal(tls_hello_parse(bytes, scratch, &hello), TLS_HELLO_TOO_BIG);
}

/* ---- The library's client: real hellos, post-quantum size ------------------------------------ */

static size_t library_hello(char *buf, size_t size, const char *groups)
{
	SSL_CTX *library = SSL_CTX_new(TLS_method());
	SSL *ssl = SSL_new(library);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	int len;

	assert_true(SSL_CTX_set1_groups_list(library, groups) && SSL_set1_groups_list(ssl, groups));
	SSL_set_tlsext_host_name(ssl, "Www.example.com");
	SSL_set_alpn_protos(ssl, (const uint8_t *)"\x02h2\x08http/1.1", 12);
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	assert_int_equal(SSL_do_handshake(ssl), -1);
	len = BIO_read(out, buf, (int)size);
	SSL_free(ssl);
	SSL_CTX_free(library);
	assert_true(len > 0);
	return (size_t)len;
}

static void test_library_hello(void **state)
{
	static char buf[8192];
	size_t len = library_hello(buf, sizeof(buf), "X25519MLKEM768:X25519:P-256:P-384");
	struct tls_hello hello;

	(void)state;
	assert_true(len > 1300); /* the key share alone has 1216 bytes */
	for (size_t i = 0; i < len; i++)
		assert_int_equal(tls_hello_parse(span_of(buf, i), scratch, &hello),
				 TLS_HELLO_NEED_MORE);
	assert_int_equal(tls_hello_parse(span_of(buf, len), scratch, &hello), 0);
	assert_true(span_equal(tls_hello_name(&hello), SPAN("www.example.com")));
	assert_true(tls_list_has(hello.groups, 0x11ec) && tls_hello_has_alpn(&hello, SPAN("h2")));
	assert_true(hello.can_ecdsa_p256 && hello.can_rsa && hello.has_tls13 && hello.has_tls12);
	assert_true(hello.key_share_groups.len > 1216);
	assert_false(hello.has_psk);
}

/* Every byte changed in a few ways: any outcome, no crash, no look outside, and a name only if it
 * is one. */
static void assert_survives(struct span bytes)
{
	char *copy = malloc(bytes.len);
	struct tls_hello hello;

	for (size_t i = 0; i < bytes.len; i++) {
		static const uint8_t changes[] = { 0x01, 0x80, 0xff, 0x20, 0x40 };

		for (size_t k = 0; k < ARRAY_LEN(changes); k++) {
			memcpy(copy, bytes.ptr, bytes.len);
			copy[i] = (char)((uint8_t)copy[i] ^ changes[k]);
			if (tls_hello_parse(span_of(copy, bytes.len), scratch, &hello) != 0)
				continue;
			for (size_t n = 0; n < hello.name_len; n++)
				assert_true((hello.name[n] >= 'a' && hello.name[n] <= 'z') ||
					    ascii_is_digit(hello.name[n]) ||
					    strchr("._-", hello.name[n]));
		}
	}
	free(copy);
}

static void test_every_corruption(void **state)
{
	static char buf[8192];

	(void)state;
	assert_survives(build(&usual, 16384, buf, sizeof(buf)));
	assert_survives(build(&usual, 40, buf, sizeof(buf)));
	assert_survives(span_of(buf, library_hello(buf, sizeof(buf), "X25519MLKEM768:X25519")));
}

/* ---- Cases ----------------------------------------------------------------------------------- */

#define LABEL63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct name_case {
	const char *name;
	size_t len;
	int outcome;
	enum tls_name_kind kind;
	const char *facts;
} name_cases[] = {
	{ "a", 0, 0, TLS_NAME_HOST, "a" },
	{ "Example.COM.", 0, 0, TLS_NAME_HOST, "example.com" },
	{ "_dmarc.example", 0, 0, TLS_NAME_HOST, "_dmarc.example" },
	{ "xn--bcher-kva.example", 0, 0, TLS_NAME_HOST, "xn--bcher-kva.example" },
	{ LABEL63 ".com", 0, 0, TLS_NAME_HOST, LABEL63 ".com" },
	{ LABEL63 "a.com", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ LABEL63 "." LABEL63 "." LABEL63 "." LABEL63, 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "127.0.0.1", 0, 0, TLS_NAME_ADDRESS, "" },
	{ "::1", 0, 0, TLS_NAME_ADDRESS, "" },
	{ "[fd00::1]", 0, 0, TLS_NAME_ADDRESS, "" },
	{ "a:b/c", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "1::\0", 4, TLS_HELLO_MALFORMED, 0, NULL },
	{ ".", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "a..b", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ ".a", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "a..", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "a b", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "*.example.com", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "a\0.com", 6, TLS_HELLO_MALFORMED, 0, NULL },
	{ "\xc3\xa4.com", 0, TLS_HELLO_MALFORMED, 0, NULL },
	{ "a\n.com", 0, TLS_HELLO_MALFORMED, 0, NULL },
};

static void test_names(void **state)
{
	static char buf[8192];
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(name_cases); i++) {
		const struct name_case *expected = &name_cases[i];
		struct recipe recipe = usual;

		recipe.name = expected->name;
		recipe.name_len = expected->len;
		assert_int_equal(
			tls_hello_parse(build(&recipe, 16384, buf, sizeof(buf)), scratch, &hello),
			expected->outcome);
		if (expected->outcome != 0)
			continue;
		assert_int_equal(hello.name_kind, expected->kind);
		assert_true(span_equal(tls_hello_name(&hello), span_str(expected->facts)));
	}
}

static const struct extension_case {
	const char *why;
	struct recipe recipe;
	int outcome;
	enum tls_alert alert;
} extension_cases[] = {
	{ "no SNI", { .versions = "0304", .schemes = "0403" }, 0, 0 },
	{ "two server_name extensions",
	  { .name = "a",
	    .more = "0000000600040000"
		    "0162" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_ILLEGAL_PARAMETER },
	{ "two entries in server_name",
	  { .more = "0000000a0008000001610000"
		    "0162" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "server_name of another type",
	  { .more = "000000060004010001"
		    "61" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "empty server_name",
	  { .more = "000000050003000000" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "an unknown extension twice",
	  { .more = "fafa0000fafa0000" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_ILLEGAL_PARAMETER },
	{ "ALPN twice",
	  { .alpn = "\x02h2",
	    .more = "00100005000302"
		    "6833" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_ILLEGAL_PARAMETER },
	{ "empty ALPN list",
	  { .more = "001000020000" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "empty ALPN name",
	  { .more = "0010000300010000" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "ALPN name past its list",
	  { .alpn = "\x05h2" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "odd groups", { .groups = "001d00" }, TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "empty versions", { .versions = "" }, TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "extension past the block",
	  { .more = "fafa0005" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "odd suites", { .suites = "1301c0" }, TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "no suites", { .suites = "" }, TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "key share without key",
	  { .more = "003300060004001d0000" },
	  TLS_HELLO_MALFORMED,
	  TLS_ALERT_DECODE_ERROR },
	{ "no key shares (asks for a retry)",
	  { .versions = "0304", .more = "003300020000" },
	  0,
	  0 },
};

static void test_extensions(void **state)
{
	static char buf[8192];
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(extension_cases); i++) {
		const struct extension_case *expected = &extension_cases[i];
		int outcome = tls_hello_parse(build(&expected->recipe, 16384, buf, sizeof(buf)),
					      scratch, &hello);

		if (outcome != expected->outcome)
			fail_msg("%s: outcome %d", expected->why, outcome);
		if (outcome != 0 && hello.alert != expected->alert)
			fail_msg("%s: alert %d", expected->why, (int)hello.alert);
	}
}

static const struct ability_case {
	const char *why;
	struct recipe recipe;
	bool tls12, tls13, p256, p384, rsa;
} ability_cases[] = {
	{ "1.3 only, ECDSA only",
	  { .versions = "0304", .schemes = "0403", .suites = "1301" },
	  0,
	  1,
	  1,
	  0,
	  0 },
	{ "1.3, PKCS1 only does not do for RSA",
	  { .versions = "0304", .schemes = "0401" },
	  0,
	  1,
	  0,
	  0,
	  0 },
	{ "1.3 without its suites",
	  { .versions = "0304", .schemes = "0403", .suites = "c02b" },
	  0,
	  1,
	  0,
	  0,
	  0 },
	{ "1.2 RSA suites only",
	  { .groups = "001d0017", .schemes = "04010403", .suites = "c02f" },
	  1,
	  0,
	  0,
	  0,
	  1 },
	{ "1.2 both",
	  { .groups = "001d0017", .schemes = "04010403", .suites = "c02fcca9" },
	  1,
	  0,
	  1,
	  0,
	  1 },
	{ "1.2 ECDSA without its curve",
	  { .groups = "001d", .schemes = "0403", .suites = "c02b" },
	  1,
	  0,
	  0,
	  0,
	  0 },
	{ "1.2 P-384", { .groups = "0018", .schemes = "0503", .suites = "c02c" }, 1, 0, 0, 1, 0 },
	{ "1.2 without groups", { .schemes = "04010403" }, 1, 0, 0, 0, 0 },
	{ "1.1", { .legacy_version = 0x0302, .groups = "0017", .schemes = "0403" }, 0, 0, 0, 0, 0 },
	{ "versions beat the legacy field",
	  { .versions = "03020301", .groups = "0017", .schemes = "0403" },
	  0,
	  0,
	  0,
	  0,
	  0 },
};

static void test_abilities(void **state)
{
	static char buf[8192];
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ability_cases); i++) {
		const struct ability_case *expected = &ability_cases[i];

		assert_int_equal(tls_hello_parse(build(&expected->recipe, 16384, buf, sizeof(buf)),
						 scratch, &hello),
				 0);
		if (hello.has_tls12 != expected->tls12 || hello.has_tls13 != expected->tls13 ||
		    hello.can_ecdsa_p256 != expected->p256 ||
		    hello.can_ecdsa_p384 != expected->p384 || hello.can_rsa != expected->rsa)
			fail_msg("%s", expected->why);
	}
}

static const struct raw_case {
	const char *hex;
	int outcome, alert; /* alert 0: not looked at */
} raw_cases[] = {
	{ "", TLS_HELLO_NEED_MORE, 0 },
	{ "16", TLS_HELLO_NEED_MORE, 0 },
	{ "1603", TLS_HELLO_NEED_MORE, 0 },
	{ "1602", TLS_HELLO_MALFORMED, TLS_ALERT_PROTOCOL_VERSION },
	{ "1603010000", TLS_HELLO_MALFORMED, TLS_ALERT_UNEXPECTED_MESSAGE },
	{ "1603014000", TLS_HELLO_NEED_MORE, 0 },
	{ "1603014001", TLS_HELLO_MALFORMED, TLS_ALERT_RECORD_OVERFLOW },
	{ "160301000402", TLS_HELLO_MALFORMED, TLS_ALERT_UNEXPECTED_MESSAGE },
	{ "1603010001"
	  "01"
	  "15",
	  TLS_HELLO_MALFORMED, TLS_ALERT_UNEXPECTED_MESSAGE },
	{ "1603010001"
	  "01"
	  "160301"
	  "0000",
	  TLS_HELLO_MALFORMED, TLS_ALERT_UNEXPECTED_MESSAGE },
	/* more in the record than the message has */
	{ "1603010006"
	  "01000001",
	  TLS_HELLO_MALFORMED, TLS_ALERT_UNEXPECTED_MESSAGE },
	{ "1603010005"
	  "0100000100",
	  TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "1603010004"
	  "01000000",
	  TLS_HELLO_MALFORMED, TLS_ALERT_DECODE_ERROR },
	{ "80", TLS_HELLO_NOT_TLS, 0 }, /* SSLv2's hello */
	{ "00", TLS_HELLO_NOT_TLS, 0 },
	{ "15", TLS_HELLO_NOT_TLS, 0 },
};

static void test_raw(void **state)
{
	char buf[256];
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(raw_cases); i++) {
		struct writer out = writer_of(buf, sizeof(buf));
		int outcome;

		put_hex(&out, raw_cases[i].hex);
		outcome = tls_hello_parse(writer_done(&out), scratch, &hello);
		if (outcome != raw_cases[i].outcome ||
		    (raw_cases[i].alert && (int)hello.alert != raw_cases[i].alert))
			fail_msg("%s: outcome %d, alert %d", raw_cases[i].hex, outcome,
				 (int)hello.alert);
	}
}

static void test_looks_like(void **state)
{
	static const struct {
		const char *text;
		enum tls_looks_like like;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n", TLS_LOOKS_LIKE_HTTP },
		{ "G", TLS_LOOKS_LIKE_OTHER },
		{ "OPTIONS * HTTP/1.1", TLS_LOOKS_LIKE_HTTP },
		{ "SSH-2.0-x\r\n", TLS_LOOKS_LIKE_SSH },
		{ "SSH", TLS_LOOKS_LIKE_OTHER },
		{ "HELO x\r\n", TLS_LOOKS_LIKE_OTHER },
	};
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(tls_hello_parse(span_str(cases[i].text), scratch, &hello),
				 TLS_HELLO_NOT_TLS);
		assert_int_equal(hello.looks_like, cases[i].like);
	}
}

/* A hello with as many extensions as there may be, and one more. */
static void test_many_extensions(void **state)
{
	static char more[8 * 200 + 1], buf[8192];
	struct recipe recipe = { .more = more };
	struct tls_hello hello;

	(void)state;
	for (size_t i = 0; i < 128; i++)
		snprintf(more + 8 * i, 9, "%04zx0000", 0x1000 + i);
	assert_int_equal(tls_hello_parse(build(&recipe, 16384, buf, sizeof(buf)), scratch, &hello),
			 0);
	assert_int_equal(hello.extension_count, 128);
	snprintf(more + 8 * 128, 9, "%04x0000", 0x2000);
	assert_int_equal(tls_hello_parse(build(&recipe, 16384, buf, sizeof(buf)), scratch, &hello),
			 TLS_HELLO_MALFORMED);
}

static void test_alert_record(void **state)
{
	char buf[TLS_ALERT_RECORD_SIZE];
	struct writer out = writer_of(buf, sizeof(buf));

	(void)state;
	tls_alert_record(&out, TLS_ALERT_UNRECOGNIZED_NAME);
	assert_true(out.ok);
	assert_memory_equal(buf, "\x15\x03\x03\x00\x02\x02\x70", 7);
	out = writer_of(buf, 6);
	tls_alert_record(&out, TLS_ALERT_UNRECOGNIZED_NAME);
	assert_false(out.ok);
	assert_int_equal(writer_done(&out).len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_two_records_at_every_boundary),
		cmocka_unit_test(test_record_count),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_library_hello),
		cmocka_unit_test(test_every_corruption),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_abilities),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_looks_like),
		cmocka_unit_test(test_many_extensions),
		cmocka_unit_test(test_alert_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
