/* The misbehaving origin: each request names in its path what is done to it, /MODE/TOKEN/SIZE.
 *
 *   origin MODES.TXT [--tls CERTIFICATE KEY] [--quiet]
 *
 * Prints `ports MAIN SPOILED RESETS SILENT`; then, unless quiet, for each request `request CONNECTION NUMBER MODE
 * TOKEN`, and `ended CONNECTION` when one ends. A body holds its token over and over, in both directions: what
 * arrives and is not this request's prints `foreign …`, and the exit code is 1. It ends with its standard input.
 *
 * One thread a connection and blocking calls, so that a mode reads as what it does, in that order. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TOKEN_MAX = 64,
	MODE_MAX = 32,
	MODES_MAX = 160,
	IN_SIZE = 64 * 1024,
};

/* What happens to the connection behind an answer. */
enum after {
	KEEP,    /* the next request is read */
	FIN,     /* an orderly end: of TLS too */
	RST,     /* a reset */
	SILENCE, /* nothing more, until the other side ends it */
};

struct peer {
	int descriptor;
	SSL *tls;
	unsigned number, count; /* of the connection; requests on it */
	enum after when_reused; /* KEEP, or what the next request on it meets */
	size_t in_start, in_end;
	char in[IN_SIZE];
	char *out; /* what the next flush sends in one piece */
	size_t out_len, out_capacity;
};

struct request {
	struct peer *peer;
	char method[16], mode[MODE_MAX], token[TOKEN_MAX];
	size_t size; /* of the body that is asked for */
	bool is_chunked;
	long long length;
	unsigned long long got; /* body bytes that were read */
};

/* Fields of a row of modes.txt. */
struct mode_row {
	char name[MODE_MAX], methods[16], pool[16], status[16], end[64], origin[8], client[8],
		body[8];
	double weight;
};
/* Ends the program where the file is no such table. */
size_t modes_read(const char *path, struct mode_row rows[static MODES_MAX]);

/* Byte `at` of the body that belongs to a token. */
static inline char token_byte(const char *token, size_t token_len, size_t at)
{
	at %= token_len + 1;
	return at == token_len ? '|' : token[at];
}

/* ---- origin.c ------------------------------------------------------------------------------------------ */

void put(struct request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));
void put_bytes(struct request *request, const void *bytes, size_t len);
void put_body(struct request *request, size_t from, size_t len);
bool flush(struct request *request); /* false: the other side is gone */
bool read_body(struct request *request);
/* True when the other side sent something within this time. */
bool is_asked_within(struct peer *peer, int milliseconds);

/* ---- modes.c ------------------------------------------------------------------------------------------- */

bool mode_is_known(const char *name);
size_t mode_count(void);
enum after mode_run(struct request *request);
