#include "cert/cert.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <string.h>

/* RFC 5280, A: a CN is at most 64 characters. Names that are longer stand in subjectAltName alone. */
enum { COMMON_NAME_MAX = 64 };

void cert_write_pem(struct span der, struct writer *out)
{
	crypto_pem_write(out, "CERTIFICATE", der);
}

/* From days since 1970 to a date (Howard Hinnant's civil_from_days): gmtime would bring the C library's state. */
void cert_write_time(int64_t time_s, struct writer *out)
{
	int64_t days = time_s / CERT_DAY_S, rest = time_s % CERT_DAY_S;

	if (rest < 0) {
		rest += CERT_DAY_S;
		days--;
	}
	int64_t shifted = days + 719468;
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	int64_t day = day_of_year - (153 * month + 2) / 5 + 1;

	month += month < 10 ? 3 : -9;
	write_format(out, "%04lld-%02lld-%02lld %02lld:%02lld:%02lld UTC",
		     (long long)(year_of_era + era * 400 + (month <= 2 ? 1 : 0)), (long long)month,
		     (long long)day, (long long)(rest / 3600), (long long)(rest / 60 % 60),
		     (long long)(rest % 60));
}

static X509 *decode(struct span der)
{
	const uint8_t *at = (const uint8_t *)der.ptr;

	return d2i_X509(NULL, &at, (long)der.len);
}

static int64_t lifetime_of(const struct cert_template *template)
{
	switch (template->kind) {
	case CERT_TEMPLATE_ROOT:
		return (int64_t)CERT_ROOT_DAYS * CERT_DAY_S;
	case CERT_TEMPLATE_INTERMEDIATE:
		return (int64_t)CERT_INTERMEDIATE_DAYS * CERT_DAY_S;
	case CERT_TEMPLATE_LEAF:
		return template->lifetime_s ? template->lifetime_s
					    : (int64_t)CERT_LEAF_DAYS * CERT_DAY_S;
	}
	return 0;
}

static bool is_sound(const struct cert_template *template, const struct cert_issuer *issuer)
{
	bool is_root = template->kind == CERT_TEMPLATE_ROOT;

	if (!issuer->key || (issuer->certificate.len == 0) != is_root)
		return false;
	if (template->kind != CERT_TEMPLATE_LEAF)
		return template->label.len <= 32;
	return template->name_count > 0 && template->name_count <= CERT_NAMES_MAX &&
	       template->lifetime_s >= 0 &&
	       template->lifetime_s <= (int64_t)CERT_LEAF_DAYS_MAX * CERT_DAY_S &&
	       (template->usage & (CERT_USAGE_SERVER | CERT_USAGE_CLIENT)) == template->usage &&
	       template->usage != 0;
}

static bool set_serial(X509 *x509, const uint8_t random[CERT_SERIAL_SIZE])
{
	uint8_t bytes[CERT_SERIAL_SIZE];

	/* Positive, and without leading zero bytes, which an INTEGER has not (RFC 5280, 4.1.2.2). */
	memcpy(bytes, random, sizeof(bytes));
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	bool ok = serial && ASN1_STRING_set(serial, bytes, sizeof(bytes)) == 1 &&
		  X509_set_serialNumber(x509, serial) == 1;
	ASN1_INTEGER_free(serial);
	return ok;
}

static bool set_time(X509 *x509, int (*set)(X509 *x509, const ASN1_TIME *time), int64_t time_s)
{
	ASN1_TIME *time = ASN1_TIME_set_posix(NULL, time_s);
	bool ok = time && set(x509, time) == 1;

	ASN1_TIME_free(time);
	return ok;
}

static bool set_validity(X509 *x509, const struct cert_template *template, X509 *issuer,
			 int64_t now_s)
{
	int64_t end_s = now_s + lifetime_of(template), issuer_end_s = 0;

	if (issuer) {
		if (ASN1_TIME_to_posix(X509_get0_notAfter(issuer), &issuer_end_s) != 1)
			return false;
		if (end_s > issuer_end_s)
			end_s = issuer_end_s;
	}
	return set_time(x509, X509_set1_notBefore, now_s - CERT_BACKDATE_S) &&
	       set_time(x509, X509_set1_notAfter, end_s);
}

static bool add_common_name(X509_NAME *name, struct span text)
{
	return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
					  (const uint8_t *)text.ptr, (ossl_ssize_t)text.len, -1,
					  0) == 1;
}

static bool set_subject(X509 *x509, const struct cert_template *template)
{
	X509_NAME *name = X509_get_subject_name(x509);
	char buf[COMMON_NAME_MAX];
	struct writer out = writer_of(buf, sizeof(buf));

	if (template->kind != CERT_TEMPLATE_LEAF) {
		write_str(&out, template->kind == CERT_TEMPLATE_ROOT
					? "Portcullis local CA"
					: "Portcullis local intermediate");
		if (template->label.len) {
			write_byte(&out, ' ');
			write_span(&out, template->label);
		}
		return out.ok && add_common_name(name, writer_done(&out));
	}
	for (size_t i = 0; i < template->name_count; i++) {
		out = writer_of(buf, sizeof(buf));
		cert_name_write(&template->names[i], &out);
		if (out.ok)
			return add_common_name(name, writer_done(&out));
	}
	return true; /* no CN: subjectAltName says it all, and is critical then */
}

static bool add_extension(X509 *x509, int nid, void *value, bool is_critical)
{
	return value &&
	       X509_add1_ext_i2d(x509, nid, value, is_critical ? 1 : 0, X509V3_ADD_DEFAULT) == 1;
}

static bool add_constraints(X509 *x509, const struct cert_template *template)
{
	BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
	bool ok = constraints != NULL;

	if (ok && template->kind != CERT_TEMPLATE_LEAF) {
		constraints->ca = ASN1_BOOLEAN_TRUE;
		constraints->pathlen = ASN1_INTEGER_new();
		ok = constraints->pathlen &&
		     ASN1_INTEGER_set(constraints->pathlen,
				      template->kind == CERT_TEMPLATE_ROOT ? 1 : 0) == 1;
	}
	ok = ok && add_extension(x509, NID_basic_constraints, constraints, true);
	BASIC_CONSTRAINTS_free(constraints);
	return ok;
}

static bool add_key_usage(X509 *x509, const struct cert_template *template)
{
	enum { BIT_DIGITAL_SIGNATURE = 0, BIT_KEY_CERT_SIGN = 5, BIT_CRL_SIGN = 6 };
	ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
	bool ok = bits != NULL;

	if (template->kind == CERT_TEMPLATE_LEAF)
		ok = ok && ASN1_BIT_STRING_set_bit(bits, BIT_DIGITAL_SIGNATURE, 1) == 1;
	else
		ok = ok && ASN1_BIT_STRING_set_bit(bits, BIT_KEY_CERT_SIGN, 1) == 1 &&
		     ASN1_BIT_STRING_set_bit(bits, BIT_CRL_SIGN, 1) == 1;
	ok = ok && add_extension(x509, NID_key_usage, bits, true);
	ASN1_BIT_STRING_free(bits);
	return ok;
}

static bool push_purpose(EXTENDED_KEY_USAGE *purposes, int nid)
{
	ASN1_OBJECT *object = OBJ_nid2obj(nid);

	return object && sk_ASN1_OBJECT_push(purposes, object) != 0;
}

static bool add_purposes(X509 *x509, const struct cert_template *template)
{
	EXTENDED_KEY_USAGE *purposes = EXTENDED_KEY_USAGE_new();
	bool ok = purposes != NULL;

	if (template->usage & CERT_USAGE_SERVER)
		ok = ok && push_purpose(purposes, NID_server_auth);
	if (template->usage & CERT_USAGE_CLIENT)
		ok = ok && push_purpose(purposes, NID_client_auth);
	ok = ok && add_extension(x509, NID_ext_key_usage, purposes, false);
	EXTENDED_KEY_USAGE_free(purposes);
	return ok;
}

static bool push_name(GENERAL_NAMES *all, const struct cert_name *name)
{
	bool is_ip = name->ip_len != 0;
	const void *bytes = is_ip ? (const void *)name->ip : (const void *)name->host.ptr;
	size_t len = is_ip ? name->ip_len : name->host.len;
	GENERAL_NAME *general = GENERAL_NAME_new();
	ASN1_STRING *value = ASN1_STRING_type_new(is_ip ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

	if (!general || !value || ASN1_STRING_set(value, bytes, (ossl_ssize_t)len) != 1) {
		ASN1_STRING_free(value);
		GENERAL_NAME_free(general);
		return false;
	}
	GENERAL_NAME_set0_value(general, is_ip ? GEN_IPADD : GEN_DNS, value);
	if (sk_GENERAL_NAME_push(all, general) != 0)
		return true;
	GENERAL_NAME_free(general);
	return false;
}

static bool add_names(X509 *x509, const struct cert_template *template)
{
	bool is_critical = X509_NAME_entry_count(X509_get_subject_name(x509)) == 0;
	GENERAL_NAMES *all = GENERAL_NAMES_new();
	bool ok = all != NULL;

	for (size_t i = 0; ok && i < template->name_count; i++)
		ok = push_name(all, &template->names[i]);
	ok = ok && add_extension(x509, NID_subject_alt_name, all, is_critical);
	GENERAL_NAMES_free(all);
	return ok;
}

/* RFC 7093, 2 (1): the first 160 bits of the SHA-256 of the key's bits. */
static bool key_id(X509 *x509, uint8_t ret_id[20])
{
	const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(x509);
	uint8_t digest[CRYPTO_SHA256_SIZE];

	if (!bits)
		return false;
	crypto_sha256(span_of(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits)),
		      digest);
	memcpy(ret_id, digest, 20);
	return true;
}

static bool add_key_ids(X509 *x509, X509 *issuer)
{
	uint8_t id[20];
	ASN1_OCTET_STRING *own = ASN1_OCTET_STRING_new();
	AUTHORITY_KEYID *authority = AUTHORITY_KEYID_new();
	bool ok = own && authority && key_id(x509, id) &&
		  ASN1_STRING_set(own, id, sizeof(id)) == 1 &&
		  add_extension(x509, NID_subject_key_identifier, own, false);

	if (ok && issuer) {
		const ASN1_OCTET_STRING *of_issuer = X509_get0_subject_key_id(issuer);
		authority->keyid = of_issuer ? ASN1_OCTET_STRING_dup(of_issuer) : NULL;
		ok = authority->keyid &&
		     add_extension(x509, NID_authority_key_identifier, authority, false);
	}
	ASN1_OCTET_STRING_free(own);
	AUTHORITY_KEYID_free(authority);
	return ok;
}

static bool set_public_key(X509 *x509, struct span spki)
{
	const uint8_t *at = (const uint8_t *)spki.ptr;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)spki.len);
	bool ok = key && at == (const uint8_t *)spki.ptr + spki.len &&
		  X509_set_pubkey(x509, key) == 1;

	EVP_PKEY_free(key);
	return ok;
}

/* Version, names, times, key and extensions: everything but the signature. */
static bool fill(X509 *x509, const struct cert_template *template, X509 *issuer, struct span spki,
		 int64_t now_s)
{
	bool is_leaf = template->kind == CERT_TEMPLATE_LEAF;

	return X509_set_version(x509, X509_VERSION_3) == 1 && set_serial(x509, template->serial) &&
	       set_validity(x509, template, issuer, now_s) && set_public_key(x509, spki) &&
	       set_subject(x509, template) &&
	       X509_set_issuer_name(x509, X509_get_subject_name(issuer ? issuer : x509)) == 1 &&
	       add_constraints(x509, template) && add_key_usage(x509, template) &&
	       (!is_leaf || (add_purposes(x509, template) && add_names(x509, template))) &&
	       add_key_ids(x509, issuer);
}

/* The signature must fit the issuer's certificate: a certificate that its own chain refutes is our bug or a
 * damaged folder, and must not leave here. */
static bool is_own_work(X509 *x509, X509 *issuer)
{
	EVP_PKEY *key = X509_get0_pubkey(issuer ? issuer : x509);

	return key && X509_verify(x509, key) == 1;
}

int cert_build(struct arena *arena, const struct cert_template *template,
	       const struct cert_issuer *issuer, struct span spki, int64_t now_s,
	       struct span *ret_der)
{
	enum crypto_key_type type;

	if (!is_sound(template, issuer) || crypto_spki_inspect(spki, &type, NULL) != 0)
		return -EINVAL;
	X509 *issuer_x509 = issuer->certificate.len ? decode(issuer->certificate) : NULL;
	X509 *x509 = X509_new();
	uint8_t *der = NULL;
	int result = -EINVAL, len = 0;
	bool ok = x509 && (issuer_x509 || issuer->certificate.len == 0) &&
		  fill(x509, template, issuer_x509, spki, now_s) &&
		  X509_sign(x509, crypto_key_native(issuer->key), EVP_sha256()) > 0 &&
		  is_own_work(x509, issuer_x509);

	if (ok)
		len = i2d_X509(x509, &der);
	if (len > 0) {
		*ret_der = arena_copy(arena, span_of(der, (size_t)len));
		result = ret_der->ptr ? 0 : -ENOMEM;
	}
	OPENSSL_free(der);
	X509_free(x509);
	X509_free(issuer_x509);
	ERR_clear_error();
	return result;
}
