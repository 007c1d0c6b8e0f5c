/* A process of the table, run for real (a fork of the test that enters its sandbox), with the test in the place of
 * its supervisor and of its peers. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proc/proc.h"

/* CHILD_LIFE + slot is the life of each peer. */
enum { WAIT_MS = 20000, QUIET_MS = 150, CHILD_LIFE = 40 };

struct child {
	int pid;
	struct ipc_channel supervisor; /* our end */
	struct ipc_range *range;
	uint64_t change;
};

/* Forks and sends birth; grants may follow, then child_born(). */
void child_begin(struct child *child, enum ipc_kind kind);
void child_grant(struct child *child, enum ipc_grant_kind what, int fd);
void child_born(struct child *child); /* and waits for `ready` */
bool child_is_alive(const struct child *child);
/* Ends it by its drain, its links being closed; it must end well. */
void child_end(struct child *child);

/* A channel between the child and a peer that the test plays. */
void child_link(struct child *child, enum ipc_kind kind, uint32_t slot,
		struct ipc_channel *ret_channel);
/* The next message, of that number; the caller calls ipc_message_done(). */
void expect(struct ipc_channel *channel, uint32_t number, struct ipc_message *ret_message);
void expect_nothing(struct ipc_channel *channel);
/* A data set (CHAIN) of the next change. */
void child_data(struct child *child, uint64_t id, const uint8_t spki_hash[32]);
/* Prepares and commits the next change, data sets only. */
void child_commit(struct child *child);
void child_move_clock(struct child *child, int64_t seconds);
/* Sends and flushes. */
#define SEND(channel, name, tail, ...) \
	do { \
		assert_int_equal(ipc_send((channel), IPC_MESSAGE_##name, \
					  &(struct ipc_##name){ __VA_ARGS__ }, (tail), NULL, 0), \
				 0); \
		ipc_channel_flush(channel); \
	} while (0)
