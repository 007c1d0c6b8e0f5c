/* cert: certificates as values: what a chain file holds and what is wrong with it, which names it covers,
 * the local CA's templates, and when something is due for renewal.
 *
 * An engine: no I/O, no clock, no log, no random. Bytes and `now` come in, DER and sentences go out. It
 * holds no private key: cert_build() signs with one that its caller (keys) owns. It does not verify peers'
 * chains (tls does) and knows no revocation yet.
 *
 * Everything it returns lives in the caller's arena. Times are seconds since 1970, UTC. */
#pragma once

#include "base/base.h"
#include "crypto/crypto.h"

/* ---- Names (RFC 5280, 4.2.1.6; RFC 9525) ------------------------------------------------------------- */

struct cert_name {
	struct span
		host;   /* lower case, no trailing dot, perhaps `*.` first; empty for an address */
	uint8_t ip[16]; /* network order */
	uint8_t ip_len; /* 0, 4 or 16 */
};

enum { CERT_HOST_MAX = 253, CERT_NAMES_MAX = 100 };

enum cert_name_outcome { CERT_NAME_INVALID = 1 };
/* A host name (A-labels; one label is fine; a wildcard only as the whole first label, before at least one
 * other) or an IP literal, as an operator writes it. 0, CERT_NAME_INVALID, -ENOMEM. */
int cert_name_parse(struct arena *arena, struct span text, struct cert_name *ret_name) MUST_CHECK;
/* Each of `texts`, sorted and without repetition, so that the same names in another order are the same
 * list. On CERT_NAME_INVALID *ret_bad (may be NULL) says which. */
int cert_names_parse(struct arena *arena, const struct span *texts, size_t count,
		     struct cert_name **ret_names, size_t *ret_count, size_t *ret_bad) MUST_CHECK;
void cert_name_write(const struct cert_name *name, struct writer *out); /* as it was read */
int cert_name_compare(const struct cert_name *a, const struct cert_name *b);
bool cert_names_equal(const struct cert_name *a, size_t a_count, const struct cert_name *b,
		      size_t b_count);
/* Does the pattern stand for that name? Without case and trailing dot; `*` is exactly one label (RFC 9525,
 * 6.3) and never part of an address. `name` is a host name or an IP literal, perhaps in brackets. */
bool cert_name_covers(const struct cert_name *pattern, struct span name);

/* ---- Chains: the file of `certificate file CERT KEY` --------------------------------------------------- */

/* The most certificates of a chain. */
enum { CERT_CHAIN_MAX = 10 };

enum cert_chain_outcome {                            /* 0: it can be served */
			  CERT_CHAIN_NOT_PEM = 1,    /* no PEM block at all */
			  CERT_CHAIN_NO_CERTIFICATE, /* blocks, but no certificate */
			  CERT_CHAIN_BROKEN,         /* a block that does not decode */
			  CERT_CHAIN_TOO_LONG,
			  CERT_CHAIN_SEVERAL_LEAVES,
			  CERT_CHAIN_ORDER, /* the leaf is not first, or one does not follow from the next */
			  CERT_CHAIN_KEY_UNSUPPORTED,
			  CERT_CHAIN_USAGE, /* its extended key usage excludes serving */
};

struct cert_chain {
	const struct span *certificates; /* DER, leaf first */
	size_t count;
	/* Of the leaf: */
	const struct cert_name *names; /* in the certificate's order */
	size_t name_count;
	int64_t not_before_s, not_after_s;
	/* The chain ends with the certificate of it that ends first. */
	int64_t chain_not_after_s;
	uint8_t spki_hash[CRYPTO_SHA256_SIZE]; /* the key's handle */
	enum crypto_key_type key_type;
	unsigned key_bits;
	struct span serial;          /* hex, lower case */
	struct span subject, issuer; /* for people: "CN=…, O=…", printable on one line */
	bool is_self_signed;
	bool has_private_key; /* one stood in the file; it was not read */
};

/* 0, an outcome with a sentence that continues "FILE …" in *ret_why, or -ENOMEM. Dates are not looked at:
 * cert_chain_validity(). */
int cert_chain_parse(struct arena *arena, struct span pem, struct cert_chain *ret_chain,
		     struct span *ret_why) MUST_CHECK;
/* The same facts of one certificate, DER. */
int cert_parse(struct arena *arena, struct span der, struct cert_chain *ret_chain,
	       struct span *ret_why) MUST_CHECK;

enum cert_validity { CERT_VALID, CERT_EXPIRED, CERT_NOT_YET_VALID };
enum cert_validity cert_chain_validity(const struct cert_chain *chain, int64_t now_s);
bool cert_chain_covers(const struct cert_chain *chain, struct span name);
/* When it should be renewed: at 2/3 of its life. */
int64_t cert_renewal_due_s(int64_t not_before_s, int64_t not_after_s);
/* "2026-11-23 22:08:44 UTC", for messages. */
void cert_write_time(int64_t time_s, struct writer *out);

/* ---- The local CA's templates ---------------------------------------------------------------------------- */

enum cert_template_kind {
	CERT_TEMPLATE_ROOT,         /* 10 years, pathlen 1, signs itself */
	CERT_TEMPLATE_INTERMEDIATE, /* 1 year, pathlen 0 */
	CERT_TEMPLATE_LEAF, /* 30 days unless told; subjectAltName; usage server, client or both */
};
enum { CERT_USAGE_SERVER = 1, CERT_USAGE_CLIENT = 2 };
enum { CERT_SERIAL_SIZE = 16, CERT_BACKDATE_S = 3600, CERT_DAY_S = 86400 };
enum {
	CERT_LEAF_DAYS = 30,
	CERT_INTERMEDIATE_DAYS = 365,
	CERT_ROOT_DAYS = 3650,
	CERT_LEAF_DAYS_MAX = 825
};

struct cert_template {
	enum cert_template_kind kind;
	struct span label; /* root, intermediate: tells this CA from others; short, printable */
	const struct cert_name *names; /* leaf */
	size_t name_count;
	unsigned usage;     /* leaf: bits */
	int64_t lifetime_s; /* leaf: 0 for the usual; at most CERT_LEAF_DAYS_MAX days */
	uint8_t serial[CERT_SERIAL_SIZE]; /* random, by the caller; it is made positive here */
};
struct cert_issuer {
	struct span certificate;      /* DER; empty for a root */
	const struct crypto_key *key; /* for a root: its own */
};
/* A certificate, DER, of the public key `spki`, valid from an hour before now and no longer than its issuer.
 * 0; -EINVAL: template, issuer or spki are none; -ENOMEM. */
int cert_build(struct arena *arena, const struct cert_template *template,
	       const struct cert_issuer *issuer, struct span spki, int64_t now_s,
	       struct span *ret_der) MUST_CHECK;
/* Is `der` issued by that one: name, signature, and may it issue? */
bool cert_is_issued_by(struct span der, struct span issuer_der) MUST_CHECK;
/* Appends a "CERTIFICATE" block. */
void cert_write_pem(struct span der, struct writer *out);
enum { CERT_PEM_MAX = 16 * 1024 }; /* no certificate that cert_build() makes is longer */
