/* One upstream with its loop, and an origin that the test plays itself: the far end of each socket that was
 * "dialed". */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "telemetry/telemetry.h"
#include "upstream/upstream.h"

enum { WORLD_ORIGIN = 77, WORLD_BUFFER = 64 * 1024 };

struct world {
	struct os_loop *loop;
	struct upstream *upstream;
	struct upstream_limits limits;
	struct tls_policy *policy;
	struct upstream_connection *asked; /* the dial that stands open */
	unsigned dials, cancels;
	int far; /* the newest connection's far end; -1 */
	bool dial_fails;
	char buffer[WORLD_BUFFER];
};

/* A fetch and what came of it. */
struct owner {
	struct world *world;
	struct upstream_fetch fetch;
	struct upstream_request request;
	struct http_fields fields;
	struct arena arena;
	size_t room;  /* of each read; 0: all */
	bool is_lazy; /* reads nothing by itself */
	bool is_awake;
	unsigned wakes, interims;
	uint16_t interim_status;
	int outcome; /* of the last read */
	char body[1 << 20];
	size_t body_len;
};

void world_init(struct world *world);
void world_fini(struct world *world);
/* A few turns, none of them waiting; world_wait until the fetch left WORKING (or was given up after 2 s). */
void world_turns(struct world *world, int count);
/* So much time passes, on the clock alone. */
void world_wait_ms(struct world *world, int duration_ms);

struct owner *owner_new(struct world *world, const char *method, const char *target);
void owner_free(struct owner *owner);
int owner_start(struct owner *owner);
/* Reads all that is there. */
void owner_read(struct owner *owner);

/* Answers the open dial with a fresh socket pair; the far end is world->far (and returned). */
int origin_accept(struct world *world);
/* It says this and closes, before the socket is ours: our first write fails. NULL: as origin_accept(). */
int origin_accept_and(struct world *world, const char *last_words);
/* All that has come, NUL-terminated in a static buffer. */
const char *origin_heard(int fd);
void origin_says(int fd, const char *text);
void origin_closes(int *fd);
