/* tls: the ClientHello before there is an SSL, policies, sessions on memory, tickets.
 *
 * It owns the library's ssl.h: everyone else sees only what stands here. It does no I/O, reads no
 * clock, writes no log and holds no private key: bytes, the time and signatures come in; bytes,
 * outcomes and questions for signatures go out. It does not choose a certificate and knows no site,
 * no route and no origin; its caller does.
 *
 * Who owns what: a policy, a credential and a session belong to whoever made them. A session keeps
 * its policy alive (references), and has copied what it needs of its credential and hello. Spans in
 * struct tls_hello point into the bytes (or the scratch) that were parsed.
 *
 * A connection's way: tls_hello_parse() on the first bytes until they are whole; choose policy and
 * credential by its facts (or answer with tls_alert_record()); tls_server_new(); then give the same
 * bytes, from the first one on, to tls_session_handshake(). */
#pragma once

#include "base/base.h"
#include "crypto/crypto.h"

/* ---- Alerts (RFC 8446, 6) -------------------------------------------------------------------- */

enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY = 0,
	TLS_ALERT_UNEXPECTED_MESSAGE = 10,
	TLS_ALERT_RECORD_OVERFLOW = 22,
	TLS_ALERT_HANDSHAKE_FAILURE = 40,
	TLS_ALERT_ILLEGAL_PARAMETER = 47,
	TLS_ALERT_DECODE_ERROR = 50,
	TLS_ALERT_PROTOCOL_VERSION = 70,
	TLS_ALERT_INTERNAL_ERROR = 80,
	TLS_ALERT_UNRECOGNIZED_NAME = 112,
	TLS_ALERT_NO_APPLICATION_PROTOCOL = 120,
};
enum { TLS_ALERT_RECORD_SIZE = 7 };
/* A fatal alert as one plain record: only before any of our own records was sent. */
void tls_alert_record(struct writer *out, enum tls_alert alert);

/* ---- Hello: RFC 8446, 4.1.2 and RFC 5246, 7.4.1.2 -----------------------------------------------
 * No state: the connection keeps its first bytes and parses all of them again when more came. While
 * bytes are missing a call costs a look at each record header (at most 10), so a client that sends
 * single bytes costs what its segments cost. */

enum {
	TLS_HELLO_RECORDS_MAX = 10,
	TLS_HELLO_MESSAGE_MAX = 16384,
	/* The bytes a connection must be able to keep: tls_hello_parse() never says NEED_MORE at
	 * this length. */
	TLS_HELLO_BYTES_MAX = TLS_HELLO_MESSAGE_MAX + 5 * TLS_HELLO_RECORDS_MAX,
	TLS_NAME_MAX = 253, /* RFC 1035, 2.3.4, without the trailing dot */
};

/* 0: whole, the facts are filled. */
enum tls_hello_outcome {
	TLS_HELLO_NEED_MORE = 1,
	TLS_HELLO_NOT_TLS,   /* hello.looks_like says what it seems to be */
	TLS_HELLO_MALFORMED, /* send hello.alert and close */
	TLS_HELLO_TOO_BIG,   /* message or number of records over the limit; hello.alert as well */
};
enum tls_looks_like { TLS_LOOKS_LIKE_OTHER, TLS_LOOKS_LIKE_HTTP, TLS_LOOKS_LIKE_SSH };

enum tls_name_kind {
	TLS_NAME_NONE,    /* no server_name extension */
	TLS_NAME_HOST,    /* a host name: lower case, LDH labels (and '_'), no trailing dot */
	TLS_NAME_ADDRESS, /* an IPv4 or IPv6 literal (wrk sends one): as good as none */
};

struct tls_hello {
	enum tls_alert alert;           /* for MALFORMED and TOO_BIG */
	bool too_many_records;          /* for TOO_BIG: not the message, but its records */
	enum tls_looks_like looks_like; /* for NOT_TLS; OTHER until enough bytes came (at most 8) */

	enum tls_name_kind name_kind;
	uint8_t name_len;
	char name[TLS_NAME_MAX + 1]; /* lower case; see tls_hello_name() */

	/* Lists as they came, without their length bytes; code points are big-endian pairs. */
	uint16_t legacy_version;
	struct span random;            /* 32 bytes */
	struct span session_id;        /* 0..32 bytes */
	struct span cipher_suites;     /* pairs */
	struct span extensions;        /* whole block: type, length, body … (JA4's input) */
	struct span alpn;              /* length-prefixed names; empty: no ALPN */
	struct span versions;          /* pairs; empty: no supported_versions */
	struct span groups;            /* pairs */
	struct span key_share_groups;  /* the extension's list as it came: group, length, key … */
	struct span signature_schemes; /* pairs */

	uint16_t extension_count;
	bool has_tls12, has_tls13; /* the client offers the version */
	/* The client can finish a handshake, by our suites and schemes, with such a certificate. */
	bool can_ecdsa_p256, can_ecdsa_p384, can_rsa;
	bool has_psk; /* it offers a ticket (which may turn out to be none of ours) */
};

/* Looks at all first bytes of a connection. `scratch` must be TLS_HELLO_MESSAGE_MAX long and is
 * used only when the hello came in several records (the facts then point into it): the worker's
 * buffer will do. Returns 0 or enum tls_hello_outcome. */
int tls_hello_parse(struct span bytes, char *scratch, struct tls_hello *ret_hello) MUST_CHECK;
struct span tls_hello_name(const struct tls_hello *hello); /* empty unless TLS_NAME_HOST */
bool tls_hello_has_alpn(const struct tls_hello *hello, struct span protocol);
bool tls_list_has(struct span pairs, uint16_t code_point); /* in one of the lists of pairs */

/* ---- Credentials: a chain, and whose key it needs -------------------------------------------- */

enum tls_credential_outcome {
	TLS_CREDENTIAL_BROKEN = 1,
	TLS_CREDENTIAL_UNSUPPORTED /* key kind or size */
};
enum { TLS_CHAIN_MAX = 10 };

struct tls_credential;
/* chain: DER, leaf first; copied. Once per data set, not per connection. Sessions hold their own
 * references to its bytes, so it may be freed while some run. 0, outcome, -ENOMEM. */
int tls_credential_new(const struct span *chain, size_t count,
		       struct tls_credential **ret_credential) MUST_CHECK;
void tls_credential_free(struct tls_credential *credential);
enum crypto_key_type tls_credential_key_type(const struct tls_credential *credential);
/* SHA-256 of the leaf's SubjectPublicKeyInfo: what the keyholder calls the key. */
const uint8_t *tls_credential_key_hash(const struct tls_credential *credential);
/* Whether this client can verify this credential's signatures (see hello.can_…). */
bool tls_credential_fits(const struct tls_credential *credential, const struct tls_hello *hello);

/* ---- Ticket keys: a table in shared memory; the vault writes, workers read (KEYS) ---------------
 * A ticket is good for TLS 1.3 (RFC 8446, 4.6.1), at the policy id and name it was given for, as
 * long as its key is in the table and at most ticket_accept_s after the full handshake it goes back
 * to: a chain of resumptions does not outlive its first ticket. Any content is legal for a reader:
 * nothing in it is an index or a length that is believed. A reader that meets a writer tries again
 * twice and then goes without: that client makes a full handshake. */

enum { TLS_TICKET_KEYS_FORMAT = 1, TLS_TICKET_KEYS_MAX = 9, TLS_TICKET_KEY_RANDOM = 48 };

struct tls_ticket_key {
	uint8_t name[16];
	uint8_t secret[32];
	int64_t made_at_s; /* wall clock; 0: the slot is empty */
	int64_t accepted_until_s;
};
struct tls_ticket_keys {
	uint32_t format;
	uint32_t serial; /* odd while it is being written; goes up by 2 with each change */
	uint64_t unused;
	struct tls_ticket_key keys[TLS_TICKET_KEYS_MAX]; /* newest first */
};

/* Adds a new key in front, drops those that are out of time; zeroed memory is a fine start.
 * accept_s: 8 h unless configured (at most 24 h). A new key is due each accept_s / 8. */
void tls_ticket_keys_rotate(struct tls_ticket_keys *table, int64_t now_s, int64_t accept_s,
			    const uint8_t random[TLS_TICKET_KEY_RANDOM]);
/* The same, and all older keys are gone at once: a worker that held them has crashed. */
void tls_ticket_keys_replace(struct tls_ticket_keys *table, int64_t now_s, int64_t accept_s,
			     const uint8_t random[TLS_TICKET_KEY_RANDOM]);
/* When the next key is due, wall seconds; 0: now (empty, another format, or half written). */
int64_t tls_ticket_keys_due_s(const struct tls_ticket_keys *table, int64_t accept_s);

/* ---- Policies: one library context per TLS policy, not per site ------------------------------ */

enum { TLS_ALPN_MAX = 4 };

struct tls_policy_config {
	/* What tickets are bound to, beside the SNI: a ticket of one policy id means a full
	 * handshake at another. It must differ wherever what a client has proven differs
	 * (CVE-2025-23419). */
	uint64_t id;
	bool tls13_only;                /* `tls min 1.3` */
	struct span alpn[TLS_ALPN_MAX]; /* what we speak, best first; copied */
	size_t alpn_count;              /* a client with ALPN and none of these: alert 120 */
	const struct tls_ticket_keys
		*tickets;        /* NULL: no tickets. Stays mapped as long as the policy */
	int64_t ticket_accept_s; /* 0: 8 h */
};

struct tls_policy;
int tls_policy_new(const struct tls_policy_config *config,
		   struct tls_policy **ret_policy) MUST_CHECK;

/* The other side: ours towards https origins. Chain, dates and name are always verified. */
struct tls_client_policy_config {
	const struct span
		*roots; /* PEM texts; every certificate in them is an anchor, none: all untrusted */
	size_t root_count;
	bool tls13_only;
	struct span alpn[TLS_ALPN_MAX]; /* offered, best first */
	size_t alpn_count;
};
enum tls_policy_outcome {
	TLS_POLICY_NO_ROOTS = 1 /* roots were given and no certificate is in them */
};
/* 0, outcome, -ENOMEM. A text's certificates that the library cannot read are left out. */
int tls_client_policy_new(const struct tls_client_policy_config *config,
			  struct tls_policy **ret_policy) MUST_CHECK;

/* Drops the maker's reference; sessions keep theirs. NULL is fine. */
void tls_policy_free(struct tls_policy *policy);
uint64_t tls_policy_id(const struct tls_policy *policy);

/* ---- Sessions: one TLS connection on memory -------------------------------------------------- */

/* Given for the length of one call. What was used is taken off the front of `in`; records are
 * appended at out + out_len. out_size is the whole buffer's. Any room does, even one byte: what
 * does not fit stays in the session and leaves first with the next call. */
struct tls_wire {
	struct span in;
	char *out;
	size_t out_len, out_size;
	int64_t now_s; /* wall clock: tickets' age, certificates' dates */
};

enum tls_outcome {
	TLS_WANT_INPUT = 1, /* all of wire.in was used; send wire.out, call again with more */
	TLS_WANT_ROOM,      /* wire.out is full; call again with room */
	TLS_WANT_SIGNATURE, /* tls_session_sign_request(), …_sign_answer(), call again */
	TLS_CLOSED,         /* the peer's close_notify */
	TLS_FAILED,         /* tls_session_failure() says why; wire.out has the alert, if due */
};

struct tls_session;
/* The server's side. The hello's facts must still be valid during the call, not afterwards.
 * 0, -ENOMEM. */
int tls_server_new(struct tls_policy *policy, const struct tls_credential *credential,
		   const struct tls_hello *hello, int64_t now_s,
		   struct tls_session **ret_session) MUST_CHECK;

struct tls_client_config {
	struct span server_name; /* SNI; empty: none (an address) */
	struct span
		verify_name; /* the name that the certificate must have; empty: the address below */
	uint8_t verify_address[16];
	size_t verify_address_len; /* 4 or 16, or 0 */
	const struct tls_credential
		*credential; /* our client certificate (then TLS 1.3 only), or NULL */
};
/* The client's side. Neither name nor address to verify: -EINVAL. */
int tls_client_new(struct tls_policy *policy, const struct tls_client_config *config,
		   struct tls_session **ret_session) MUST_CHECK;
void tls_session_free(struct tls_session *session); /* NULL is fine; sends nothing */

/* 0: done (the session may at once have data to read and, on the server, a ticket that leaves with
 * the first write or flush). Else enum tls_outcome or -ENOMEM. */
int tls_session_handshake(struct tls_session *session, struct tls_wire *wire) MUST_CHECK;

/* After the handshake. Fills buf with as much as there is in up to 256 records (then wire.in may
 * not be empty: call again): 0 and *ret_len > 0, else WANT_INPUT, CLOSED or FAILED with *ret_len 0
 * (these come after the data before them). An end of the transport without CLOSED is a truncation,
 * which the caller sees, not the session. A full buf may leave decrypted bytes inside,
 * and an end behind data is told by the next call: tls_session_has_pending() for both. A peer that sends more than 32 empty records or messages without data
 * (KeyUpdate) in a row, more than 4 warnings, or begins a renegotiation, has failed. */
int tls_session_read(struct tls_session *session, struct tls_wire *wire, char *buf, size_t size,
		     size_t *ret_len) MUST_CHECK;
bool tls_session_has_pending(const struct tls_session *session);

/* Seals bytes in records of at most record_max plain bytes (0: 16 KiB). *ret_taken bytes are sealed
 * and must not be offered again, also when the outcome is WANT_ROOM: their records' rest leaves
 * with the next call. 0: all taken and all in wire.out. An empty span flushes. */
int tls_session_write(struct tls_session *session, struct tls_wire *wire, struct span bytes,
		      size_t record_max, size_t *ret_taken) MUST_CHECK;

/* Sends close_notify, once. 0, WANT_ROOM; FAILED where the session had failed before (nothing is
 * due then). */
int tls_session_close(struct tls_session *session, struct tls_wire *wire) MUST_CHECK;

/* ---- Signatures: asked of the keyholder ---------------------------------------------------------
 * Only after TLS_WANT_SIGNATURE. The spans live until the answer. */

struct tls_sign_request {
	uint8_t key_hash[CRYPTO_SHA256_SIZE];
	uint16_t scheme;
	bool is_client; /* usage: client to an origin */
	bool is_tls13;
	struct span transcript_hash;                            /* 1.3: 32 or 48 bytes */
	struct span client_random, server_random, ecdhe_params; /* 1.2 */
};
const struct tls_sign_request *tls_session_sign_request(const struct tls_session *session);
/* signature.len 0: there will be none; the handshake then fails with internal_error. */
void tls_session_sign_answer(struct tls_session *session, struct span signature);

/* ---- What is known afterwards ---------------------------------------------------------------- */

struct tls_session_facts { /* after the handshake; strings live as long as the program */
	const char *version, *cipher, *group;
	struct span alpn; /* as long as the session; empty: none */
	bool is_resumed, is_tls13;
};
void tls_session_get_facts(const struct tls_session *session, struct tls_session_facts *ret_facts);

enum tls_reason {
	TLS_REASON_NONE,
	TLS_REASON_PROTOCOL,      /* `protocol`: the peer's bytes break the protocol */
	TLS_REASON_VERSION,       /* `version`: none in common */
	TLS_REASON_CIPHER,        /* `cipher`: no suite, group or signature scheme in common */
	TLS_REASON_ALPN,          /* `alpn` */
	TLS_REASON_ALERT,         /* `alert`: the peer sent one */
	TLS_REASON_SIGNATURE,     /* `signature`: ours did not come */
	TLS_REASON_EXPIRED,       /* `expired`, and the next: verification of an origin's chain */
	TLS_REASON_NOT_YET_VALID, /* `not-yet-valid` */
	TLS_REASON_NAME,          /* `name` */
	TLS_REASON_UNTRUSTED,     /* `untrusted`: self-signed, or no way to an anchor */
	TLS_REASON_CERTIFICATE,   /* `certificate`: anything else that is wrong with it */
	TLS_REASON_FLOOD,         /* `flood`: too many records that carry nothing */
	TLS_REASON_INTERNAL,      /* `internal` */
};
struct tls_failure {
	enum tls_reason reason;
	int alert;        /* sent, or received for TLS_REASON_ALERT; -1: none */
	const char *text; /* the library's word for it; never NULL; lives as long as the program */
};
/* All zero but text while nothing failed. */
void tls_session_failure(const struct tls_session *session, struct tls_failure *ret_failure);
const char *tls_reason_word(enum tls_reason reason);
