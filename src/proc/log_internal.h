/* Where the log process writes to: one buffer of finished lines and the file, pipe or terminal behind it.
 *
 * A line is written whole and once, also across a full disk, a slow reader and a rotation. Of a pipe, what a
 * write left over is finished before anything else, on the same descriptor where that is possible at all. A
 * file on a full disk ends with a whole line at any time, so whoever reads it, or goes on writing it after us,
 * finds no half. The local syslog daemon gets a datagram a line. Nothing here waits: what the target does not
 * take now stays in the buffer, and what does not fit is dropped and counted. */
#pragma once

#include "os/os.h"
#include "snapshot/snapshot.h"
#include "telemetry/telemetry.h"

enum { LOG_BUFFER_SIZE = 1024 * 1024, LOG_NAME_MAX = 255, LOG_PREFIX_MAX = 48 };

struct log_target {
	enum snapshot_log_target kind;
	bool is_set;     /* before that, lines wait in their rings */
	bool is_regular; /* a file on a disk: never -EAGAIN, and it may be renamed */
	bool is_stuck;   /* the last write did not take everything */
	bool is_full;    /* the disk: room is looked for before the next write */
	bool is_gone;    /* nobody reads the other end any more */
	bool is_unread;  /* stuck in a pipe without a reader: one may come, but hardly soon */
	int fd, folder;  /* folder: of a file, else -1 */
	char name[LOG_NAME_MAX + 1];
	char prefix[LOG_PREFIX_MAX]; /* of each datagram; the owner's to set */
	char *buf;
	size_t len, done;  /* bytes in it, and how many of them are written */
	uint64_t moved_ns; /* when it last took a byte, or had nothing to take */
	uint64_t dropped;  /* lines, since the owner last set it to 0 */
};

int log_target_init(struct log_target *target) MUST_CHECK; /* -ENOMEM */
void log_target_fini(struct log_target *target);
/* Takes both descriptors (-1: none). What is buffered goes to the new place, but the end of a line that was
 * begun goes to the old one. */
void log_target_set(struct log_target *target, enum snapshot_log_target kind, int fd, int folder,
		    struct span name);
/* May a line be read for it? True also where it would be dropped: a target that has not moved for a second
 * must not keep the other one's lines in the rings behind its own. */
bool log_target_has_room(struct log_target *target, uint64_t now_ns);
void log_target_add(struct log_target *target, struct span line); /* with its newline */
void log_target_write(struct log_target *target, uint64_t now_ns);
/* Its file was renamed or removed, its daemon has ended, or there was never a descriptor: somebody who may
 * should open it again. */
bool log_target_is_away(const struct log_target *target);
