/* A name server on loopback, in the loop of the test: what it answers stands in a table of the test. */
#pragma once

#include "os/os.h"

enum name_server_manner {
	ANSWERS,
	NO_SUCH_NAME,
	SERVER_FAILURE,
	SILENT,
	GARBAGE,
	CUT_SHORT,  /* a good answer without its last bytes */
	OTHER_NAME, /* an answer to a question that nobody asked */
	OVER_TCP, /* asked by UDP, it says to ask by TCP: the second question of a name is told so after the first
		     * was answered that way */
};

struct name_server_row {
	const char *name;
	const char *v4, *v6; /* one address each, or NULL: none of that kind */
	uint8_t v4_count; /* so many addresses of v4, each by one more than the one before; 0: one */
	const char *alias; /* the addresses belong to that name */
	uint32_t ttl_s;
	enum name_server_manner manner,
		v6_manner; /* v6_manner of AAAA alone, where it is not ANSWERS */
};

struct name_server {
	struct os_watch watch, listener, connection;
	struct name_server_held {
		struct os_timer timer;
		char query[512], peer[128];
		size_t len;
		unsigned peer_len;
	} held;
	uint16_t port;
	const struct name_server_row *rows;
	size_t row_count, questions, tcp_questions;
	bool is_silent;
};

void name_server_start(struct name_server *server, struct os_loop *loop,
		       const struct name_server_row *rows, size_t count);
void name_server_stop(struct name_server *server);
