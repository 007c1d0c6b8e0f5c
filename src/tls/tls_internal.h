/* What the files of tls know of each other. Nobody else includes it. */
#pragma once

#include <openssl/ssl.h>

#include "tls/tls.h"

enum {
	TICKET_ACCEPT_DEFAULT_S = 8 * 3600,
	TICKET_ACCEPT_MAX_S = 24 * 3600,
	/* "portcullis ticket 1", policy id, when the client saw a full handshake, name */
	TICKET_BINDING_MAX = 24 + 8 + 8 + TLS_NAME_MAX,
	SIGN_INPUT_MAX = 256,
	RECORD_PLAIN_MAX = 16384,
	/* The library stops at 32 empty records and 4 warnings in a row, but counts no messages
	 * after the handshake: we do. */
	QUIET_MESSAGES_MAX = 32,
	/* One call of tls_session_read(): what small records can cost until the caller looks at its
	 * budget. */
	READ_RECORDS_MAX = 256,
	ORIGIN_CHAIN_MAX = 8,
	RECORD_HEADER_SIZE = 5,
};

struct tls_policy {
	SSL_CTX *library;
	uint64_t id;
	const struct tls_ticket_keys *tickets;
	int64_t ticket_accept_s;
	uint32_t references;
	bool is_client;
	uint8_t alpn[TLS_ALPN_MAX * 256]; /* length-prefixed names */
	size_t alpn_len;
};

struct tls_credential {
	CRYPTO_BUFFER *chain[TLS_CHAIN_MAX];
	size_t chain_len;
	enum crypto_key_type type;
	uint8_t key_hash[CRYPTO_SHA256_SIZE];
};

enum sign_state { SIGN_NONE, SIGN_ASKED, SIGN_ANSWERED, SIGN_REFUSED };

/* What only a handshake needs; freed with its end, so that an idle connection is small. */
struct handshake {
	enum sign_state sign_state;
	struct tls_sign_request request; /* its spans point into sign_input */
	uint8_t sign_input[SIGN_INPUT_MAX];
	uint8_t signature[CRYPTO_SIGNATURE_MAX];
	size_t signature_len;
	/* The key is copied when the session begins: sealing must not fail later because it is
	 * gone. */
	struct tls_ticket_key ticket_key;
	int64_t resumed_from_s; /* when the client of the ticket that opened saw a certificate */
	uint8_t name[TLS_NAME_MAX];
	size_t name_len;
	int verify_error; /* X509_V_ERR_… */
	/* Of the record that the library reads, or has read last: its header and two bytes of it. */
	uint8_t record[RECORD_HEADER_SIZE + 2];
	size_t record_got, record_len; /* header included; 0: not known yet */
};

struct tls_session {
	SSL *ssl;
	struct tls_policy *policy;
	struct handshake *handshake; /* NULL when it is done */
	struct tls_wire *wire;       /* for the length of one call, else NULL */
	uint16_t sealed_len;         /* plain bytes of the record that did not fit into wire.out */
	uint8_t quiet_messages;      /* in a row, without data between */
	bool is_client, is_closed, is_failed, is_flooded, has_closed;
	bool has_more;                      /* an end that stood behind data is not told yet */
	int16_t alert_sent, alert_received; /* -1: none */
	struct tls_failure failure;
	struct tls_session_facts
		facts; /* once the handshake is done: asked for with each request */
};

/* policy.c */
struct tls_policy *policy_ref(struct tls_policy *policy);
/* session.c: what the library's callbacks begin with */
struct tls_session *session_of(const SSL *ssl);
void session_on_message(int is_write, int version, int content_type, const void *bytes, size_t len,
			SSL *ssl, void *owner);
void session_on_info(const SSL *ssl, int type, int value);
int session_on_verify(X509_STORE_CTX *store, void *owner);
/* sign.c */
extern const SSL_PRIVATE_KEY_METHOD sign_method;
bool sign_set_credential(SSL *ssl, const struct tls_credential *credential, bool is_tls13_only);
/* ticket.c */
extern const SSL_TICKET_AEAD_METHOD ticket_method;
bool ticket_keys_newest(const struct tls_ticket_keys *table, int64_t now_s,
			struct tls_ticket_key *ret_key);
bool ticket_keys_find(const struct tls_ticket_keys *table, const uint8_t name[16], int64_t now_s,
		      struct tls_ticket_key *ret_key);
/* failure.c */
void failure_note_record(struct handshake *handshake, const char *bytes, size_t len);
void failure_set(struct tls_session *session);
