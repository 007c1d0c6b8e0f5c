#include "cert/cert.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <string.h>

/* A certificate of the file while the chain is looked at. */
struct link {
	X509 *x509;
	struct span der;
	struct span subject; /* for people */
	bool is_ca, is_self_signed;
};

struct chain_reader {
	struct arena *arena;
	struct link links[CERT_CHAIN_MAX];
	size_t count;
	size_t block_count;
	bool has_private_key;
	struct span why;
};

/* A sentence is a help, not a result: where there is no room for it, it is empty. */
#define SAY(reader, ...) ((reader)->why = arena_format((reader)->arena, __VA_ARGS__))

static void write_printable(struct writer *out, const uint8_t *text, size_t len)
{
	for (size_t i = 0; i < len && i < 64; i++) {
		char c = (char)text[i];
		write_byte(out, (unsigned char)c >= 0x20 && (unsigned char)c < 0x7f ? c : '?');
	}
}

static const char *attribute_word(int nid)
{
	switch (nid) {
	case NID_commonName:
		return "CN";
	case NID_organizationName:
		return "O";
	case NID_organizationalUnitName:
		return "OU";
	case NID_countryName:
		return "C";
	default:
		return NULL;
	}
}

/* The attributes that people know a certificate by; others add nothing but length. */
static struct span name_text(struct arena *arena, const X509_NAME *name)
{
	char buf[256];
	struct writer out = writer_of(buf, sizeof(buf));

	for (int i = X509_NAME_entry_count(name) - 1; i >= 0; i--) {
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
		const char *word = attribute_word(OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)));
		unsigned char *text = NULL;
		if (!word)
			continue;
		int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
		if (len < 0)
			continue;
		if (writer_done(&out).len)
			write_str(&out, ", ");
		write_str(&out, word);
		write_byte(&out, '=');
		write_printable(&out, text, (size_t)len);
		OPENSSL_free(text);
	}
	struct span text = writer_done(&out);
	return text.len ? arena_copy(arena, text) : SPAN("(no name)");
}

static bool is_ca(X509 *x509)
{
	return (X509_get_extension_flags(x509) & (EXFLAG_BCONS | EXFLAG_CA)) ==
	       (EXFLAG_BCONS | EXFLAG_CA);
}

static int add_certificate(struct chain_reader *reader, struct span der)
{
	const uint8_t *at = (const uint8_t *)der.ptr;
	X509 *x509 = d2i_X509(NULL, &at, (long)der.len);

	if (!x509 || at != (const uint8_t *)der.ptr + der.len) {
		X509_free(x509);
		ERR_clear_error();
		SAY(reader, "is damaged: certificate %zu does not decode", reader->count + 1);
		return CERT_CHAIN_BROKEN;
	}
	if (reader->count == CERT_CHAIN_MAX) {
		X509_free(x509);
		SAY(reader, "holds more than %d certificates", CERT_CHAIN_MAX);
		return CERT_CHAIN_TOO_LONG;
	}
	struct link *link = &reader->links[reader->count++];
	*link = (struct link){
		.x509 = x509,
		.der = arena_copy(reader->arena, der),
		.subject = name_text(reader->arena, X509_get_subject_name(x509)),
		.is_ca = is_ca(x509),
		.is_self_signed =
			X509_NAME_cmp(X509_get_subject_name(x509), X509_get_issuer_name(x509)) == 0,
	};
	return link->der.ptr && link->subject.ptr ? 0 : -ENOMEM;
}

static int read_blocks(struct chain_reader *reader, struct span pem)
{
	char *buf = arena_alloc(reader->arena, pem.len + 16, 1);

	if (!buf)
		return -ENOMEM;
	for (;;) {
		struct crypto_pem_block block;
		struct writer der = writer_of(buf, pem.len + 16);
		int outcome = crypto_pem_next(&pem, &block, &der);
		if (outcome == CRYPTO_PEM_END)
			break;
		reader->block_count++;
		if (span_ends_with(block.label, SPAN("PRIVATE KEY"))) {
			crypto_wipe(buf, writer_done(&der).len);
			reader->has_private_key = true;
			continue;
		}
		bool is_trusted = span_equal(block.label, SPAN("TRUSTED CERTIFICATE"));
		if (!span_equal(block.label, SPAN("CERTIFICATE")) && !is_trusted &&
		    !span_equal(block.label, SPAN("X509 CERTIFICATE")))
			continue;
		if (outcome != 0 || is_trusted) {
			SAY(reader,
			    is_trusted ? "holds a TRUSTED CERTIFICATE block (openssl x509 -in OLD "
					 "-out NEW makes "
					 "a plain one): certificate %zu"
				       : "is damaged: the PEM block of certificate %zu does not "
					 "decode",
			    reader->count + 1);
			return CERT_CHAIN_BROKEN;
		}
		int result = add_certificate(reader, writer_done(&der));
		if (result != 0)
			return result;
	}
	if (reader->count > 0)
		return 0;
	if (reader->block_count == 0) {
		SAY(reader, "is not PEM: no line `-----BEGIN CERTIFICATE-----` stands in it");
		return CERT_CHAIN_NOT_PEM;
	}
	SAY(reader, reader->has_private_key
			    ? "holds a private key and no certificate: are the two files swapped?"
			    : "holds no certificate");
	return CERT_CHAIN_NO_CERTIFICATE;
}

static bool is_signed_by(X509 *x509, X509 *issuer)
{
	EVP_PKEY *key = X509_get0_pubkey(issuer);
	bool ok = key &&
		  X509_NAME_cmp(X509_get_issuer_name(x509), X509_get_subject_name(issuer)) == 0 &&
		  X509_verify(x509, key) == 1;

	ERR_clear_error();
	return ok;
}

static int check_leaf_place(struct chain_reader *reader)
{
	size_t leaf_count = 0, leaf = 0;

	for (size_t i = 0; i < reader->count; i++) {
		if (reader->links[i].is_ca)
			continue;
		if (leaf_count++ == 0)
			leaf = i;
	}
	if (leaf_count > 1) {
		SAY(reader,
		    "holds %zu certificates of servers, and a chain has one: certificate %zu is "
		    "\"%.*s\"; give "
		    "each server certificate a file of its own",
		    leaf_count, leaf + 1, SPAN_ARG(reader->links[leaf].subject));
		return CERT_CHAIN_SEVERAL_LEAVES;
	}
	/* None at all: a self-signed one with CA:TRUE, as `openssl req -x509` makes it, serves too. */
	if (leaf_count == 1 && leaf != 0) {
		SAY(reader,
		    "is in the wrong order: the server's certificate \"%.*s\" stands at place %zu "
		    "and must be first",
		    SPAN_ARG(reader->links[leaf].subject), leaf + 1);
		return CERT_CHAIN_ORDER;
	}
	return 0;
}

static int say_wrong_issuer(struct chain_reader *reader, size_t at)
{
	struct link *link = &reader->links[at], *next = &reader->links[at + 1];

	for (size_t i = 0; i < reader->count; i++) {
		if (i == at || i == at + 1 || !is_signed_by(link->x509, reader->links[i].x509))
			continue;
		SAY(reader,
		    "is in the wrong order: certificate %zu (\"%.*s\") issued certificate %zu and "
		    "must follow it",
		    i + 1, SPAN_ARG(reader->links[i].subject), at + 1);
		return CERT_CHAIN_ORDER;
	}
	struct span issuer = name_text(reader->arena, X509_get_issuer_name(link->x509));
	SAY(reader,
	    "is no chain: certificate %zu (\"%.*s\") did not issue certificate %zu (\"%.*s\"), "
	    "which says its "
	    "issuer is \"%.*s\"",
	    at + 2, SPAN_ARG(next->subject), at + 1, SPAN_ARG(link->subject), SPAN_ARG(issuer));
	return CERT_CHAIN_ORDER;
}

static int check_order(struct chain_reader *reader)
{
	int result = check_leaf_place(reader);

	for (size_t i = 0; result == 0 && i + 1 < reader->count; i++)
		if (!is_signed_by(reader->links[i].x509, reader->links[i + 1].x509))
			result = say_wrong_issuer(reader, i);
	return result;
}

static int64_t posix_time(const ASN1_TIME *time)
{
	int64_t seconds = 0;

	return ASN1_TIME_to_posix(time, &seconds) == 1 ? seconds : 0;
}

static bool read_name(struct arena *arena, GENERAL_NAME *general, struct cert_name *ret_name)
{
	int type = 0;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(general, &type);

	if (type == GEN_DNS) {
		struct span text =
			span_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
		/* What is no host name (a NUL inside, blanks) covers nothing. */
		return cert_name_parse(arena, text, ret_name) == 0 && ret_name->ip_len == 0;
	}
	int len = type == GEN_IPADD ? ASN1_STRING_length(value) : 0;
	if (len != 4 && len != 16)
		return false;
	*ret_name = (struct cert_name){ .ip_len = (uint8_t)len };
	memcpy(ret_name->ip, ASN1_STRING_get0_data(value), (size_t)len);
	return true;
}

static int read_names(struct arena *arena, X509 *x509, struct cert_chain *chain)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
	size_t count = all ? sk_GENERAL_NAME_num(all) : 0;
	struct cert_name *names = arena_array(arena, struct cert_name, count ? count : 1);

	for (size_t i = 0; names && i < count; i++)
		if (read_name(arena, sk_GENERAL_NAME_value(all, i), &names[chain->name_count]))
			chain->name_count++;
	GENERAL_NAMES_free(all);
	ERR_clear_error();
	chain->names = names;
	return names ? 0 : -ENOMEM;
}

static struct span serial_text(struct arena *arena, X509 *x509)
{
	char buf[64];
	struct writer out = writer_of(buf, sizeof(buf));
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
	struct span bytes =
		span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));

	write_hex(&out, span_first(bytes, 24)); /* RFC 5280, 4.1.2.2: 20 octets at most */
	return arena_copy(arena, writer_done(&out));
}

static int read_key(struct chain_reader *reader, X509 *x509, struct cert_chain *chain)
{
	uint8_t *spki = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &spki);

	if (len <= 0)
		return -ENOMEM;
	struct span der = span_of(spki, (size_t)len);
	crypto_sha256(der, chain->spki_hash);
	int result = crypto_spki_inspect(der, &chain->key_type, &chain->key_bits);
	OPENSSL_free(spki);
	if (result <= 0)
		return result;
	SAY(reader, "has a key that is not served: it must be ECDSA P-256 or P-384, or RSA with "
		    "2048 to 4096 bits");
	return CERT_CHAIN_KEY_UNSUPPORTED;
}

static int read_facts(struct chain_reader *reader, struct cert_chain *chain)
{
	X509 *leaf = reader->links[0].x509;
	int result = read_key(reader, leaf, chain);

	if (result != 0)
		return result;
	result = read_names(reader->arena, leaf, chain);
	if (result != 0)
		return result;
	chain->not_before_s = posix_time(X509_get0_notBefore(leaf));
	chain->not_after_s = posix_time(X509_get0_notAfter(leaf));
	chain->chain_not_after_s = chain->not_after_s;
	for (size_t i = 1; i < reader->count; i++) {
		int64_t end_s = posix_time(X509_get0_notAfter(reader->links[i].x509));
		if (end_s < chain->chain_not_after_s)
			chain->chain_not_after_s = end_s;
	}
	chain->serial = serial_text(reader->arena, leaf);
	chain->subject = reader->links[0].subject;
	chain->issuer = name_text(reader->arena, X509_get_issuer_name(leaf));
	chain->is_self_signed = reader->links[0].is_self_signed;
	chain->has_private_key = reader->has_private_key;
	if (!chain->serial.ptr || !chain->issuer.ptr)
		return -ENOMEM;
	struct span *certificates = arena_array(reader->arena, struct span, reader->count);
	if (!certificates)
		return -ENOMEM;
	for (size_t i = 0; i < reader->count; i++)
		certificates[i] = reader->links[i].der;
	chain->certificates = certificates;
	chain->count = reader->count;
	return 0;
}

/* Extended key usage absent means any (RFC 5280, 4.2.1.12). */
static int check_usage(struct chain_reader *reader)
{
	X509 *leaf = reader->links[0].x509;

	if (!(X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE) ||
	    (X509_get_extended_key_usage(leaf) & (XKU_SSL_SERVER | XKU_ANYEKU)))
		return 0;
	SAY(reader, "is not for servers: its extended key usage lacks serverAuth");
	return CERT_CHAIN_USAGE;
}

static int finish(struct chain_reader *reader, int result, struct cert_chain *chain,
		  struct cert_chain *ret_chain, struct span *ret_why)
{
	for (size_t i = 0; i < reader->count; i++)
		X509_free(reader->links[i].x509);
	if (result == 0)
		*ret_chain = *chain;
	else if (result > 0)
		*ret_why = reader->why;
	return result;
}

int cert_chain_parse(struct arena *arena, struct span pem, struct cert_chain *ret_chain,
		     struct span *ret_why)
{
	struct chain_reader reader = { .arena = arena };
	struct cert_chain chain = { .count = 0 };
	int result = read_blocks(&reader, pem);

	if (result == 0)
		result = check_order(&reader);
	if (result == 0)
		result = check_usage(&reader);
	if (result == 0)
		result = read_facts(&reader, &chain);
	return finish(&reader, result, &chain, ret_chain, ret_why);
}

int cert_parse(struct arena *arena, struct span der, struct cert_chain *ret_chain,
	       struct span *ret_why)
{
	struct chain_reader reader = { .arena = arena };
	struct cert_chain chain = { .count = 0 };
	int result = add_certificate(&reader, der);

	if (result == 0)
		result = read_facts(&reader, &chain);
	return finish(&reader, result, &chain, ret_chain, ret_why);
}

enum cert_validity cert_chain_validity(const struct cert_chain *chain, int64_t now_s)
{
	if (now_s > chain->chain_not_after_s)
		return CERT_EXPIRED;
	return now_s < chain->not_before_s ? CERT_NOT_YET_VALID : CERT_VALID;
}

bool cert_chain_covers(const struct cert_chain *chain, struct span name)
{
	for (size_t i = 0; i < chain->name_count; i++)
		if (cert_name_covers(&chain->names[i], name))
			return true;
	return false;
}

int64_t cert_renewal_due_s(int64_t not_before_s, int64_t not_after_s)
{
	return not_after_s <= not_before_s ? not_before_s
					   : not_before_s + (not_after_s - not_before_s) / 3 * 2;
}

bool cert_is_issued_by(struct span der, struct span issuer_der)
{
	const uint8_t *at = (const uint8_t *)der.ptr, *issuer_at = (const uint8_t *)issuer_der.ptr;
	X509 *x509 = d2i_X509(NULL, &at, (long)der.len);
	X509 *issuer = d2i_X509(NULL, &issuer_at, (long)issuer_der.len);
	bool ok = x509 && issuer && is_ca(issuer) && is_signed_by(x509, issuer);

	X509_free(x509);
	X509_free(issuer);
	ERR_clear_error();
	return ok;
}
