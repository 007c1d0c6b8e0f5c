/* ipc: messages between the processes of the program, over unix SEQPACKET sockets.
 *
 * A message is copied into place after one check: is the number in the table, may this kind of peer
 * send it to this kind of process, are length, tail and number of descriptors in bounds. What fails
 * that check is a violation: the channel tells its owner once and then delivers nothing more; the owner
 * tells the supervisor (`broken`), which ends the sender. ipc knows no meaning of a message.
 *
 * Sending queues; ipc_channel_flush (or the loop's turn end, by the owner) sends the whole queue with as
 * few system calls as there are. A queue has a bound: what does not fit is refused with IPC_FULL and
 * nothing ever blocks. */
#pragma once

#include "ipc/messages.h"
#include "os/os.h"

enum ipc_outcome {
	IPC_FULL = 1, /* the peer does not read: the message was not queued */
	IPC_CLOSED,
};

/* The process's range of shared memory: written by that process alone, read by the supervisor (for its
 * heartbeat), by workers (for the handlers `metrics` and `ready`, and for what clients hold) and by commands. Counters live
 * behind it, and a worker's counters by site and upstream (telemetry lays both out), and what clients hold of a worker
 * (firewall). While no process has it, all but the counters is 0. Pages that nobody wrote or read take no memory. */
enum {
	IPC_RANGE_FORMAT = 3,
	IPC_RANGE_NAMED = 16384, /* where counters by site and upstream begin */
	IPC_RANGE_HELD = 320 * 1024,
	IPC_RANGE_SIZE = 1088 * 1024,
};
struct ipc_range {
	uint32_t format, kind;
	uint64_t heartbeat; /* counts turns and, while idle, at least one a second */
	uint64_t connections, exchanges, descriptors, memory_bytes; /* gauges */
	uint64_t questions_open, snapshot_serial;
	uint32_t secret_memory; /* enum os_secret_kind of a keyholder's heap */
	uint32_t
		slots_accepted; /* whose sockets a worker accepts from: its own slot's, and adopted ones */
	uint64_t places_held; /* of configurations: bit n, it has one mapped at the n-th place */
	uint64_t reserved[6];
	uint64_t counters[]; /* telemetry */
};
static inline void *ipc_range_named(const struct ipc_range *range)
{
	return (char *)(uintptr_t)range + IPC_RANGE_NAMED;
}
static inline void *ipc_range_held(const struct ipc_range *range)
{
	return (char *)(uintptr_t)range + IPC_RANGE_HELD;
}

/* What all processes together say of now. */
struct ipc_gauges {
	uint64_t processes, connections, exchanges, slots_accepted;
};
void ipc_ranges_sum(const struct ipc_range *const *ranges, size_t count,
		    struct ipc_gauges *ret_gauges);

struct ipc_message {
	enum ipc_number number;
	const void *body; /* the struct of that number, aligned, valid during the call */
	struct span tail; /* valid during the call */
	int descriptors
		[IPC_DESCRIPTORS_MAX]; /* those the receiver does not TAKE_FD are closed after the call */
	int descriptor_count;
};

struct ipc_channel;
struct ipc_handlers {
	/* One message. The owner may close any channel from here, this one too. */
	void (*on_message)(void *owner, struct ipc_channel *channel, struct ipc_message *message);
	/* The peer is gone (why NULL) or broke a rule (why says which). Called once, then never again; the
	 * owner calls ipc_channel_close from here or later. */
	void (*on_closed)(void *owner, struct ipc_channel *channel, const char *why);
};

struct ipc_channel {
	struct os_watch watch;
	struct os_loop *loop;
	const struct ipc_handlers *handlers; /* NULL once closed */
	void *owner;
	enum ipc_kind self, peer;
	uint32_t peer_slot;
	uint64_t peer_life; /* of a process of the table, as the supervisor counts them; else 0 */
	struct ipc_queue *queue; /* what waits, and the buffer to receive into; NULL once closed */
	uint64_t sent, received;
	bool broken; /* it was told on_closed */
};

/* Takes `fd`, also on failure. The channel is embedded in its owner and must not move while open.
 * `loop` may be NULL for a channel that only ever waits (ipc_wait). */
int ipc_channel_open(struct ipc_channel *channel, struct os_loop *loop, int fd, enum ipc_kind self,
		     enum ipc_kind peer) MUST_CHECK;
void ipc_channel_handle(struct ipc_channel *channel, const struct ipc_handlers *handlers,
			void *owner);
bool ipc_channel_is_open(const struct ipc_channel *channel);
void ipc_channel_close(struct ipc_channel *channel); /* harmless on a zeroed or closed one */

/* body is the struct of `number`; its size is the table's. Descriptors are duplicated into the queue's
 * care when the message cannot leave at once, so the caller keeps (and closes) its own either way.
 * 0, IPC_FULL, IPC_CLOSED, -errno. A message that the table forbids this kind to send is a MUST. */
int ipc_send(struct ipc_channel *channel, enum ipc_number number, const void *body,
	     struct span tail, const int *descriptors, int descriptor_count) MUST_CHECK;
#define IPC_SEND(channel, name, ...) \
	ipc_send((channel), IPC_MESSAGE_##name, &(struct ipc_##name){ __VA_ARGS__ }, SPAN_NONE, \
		 NULL, 0)
/* The owner calls it now and then (each turn, each second): what the kernel had no room for is tried again then. */
void ipc_channel_flush(struct ipc_channel *channel);

/* Before a loop runs (a newborn, a command): waits for the next message at most timeout_ms. The
 * message's body and tail are valid until the next call. 0, IPC_CLOSED (also at a violation),
 * -ETIMEDOUT. The caller owns the descriptors. */
int ipc_wait(struct ipc_channel *channel, int timeout_ms,
	     struct ipc_message *ret_message) MUST_CHECK;
/* Closes the descriptors that nobody took. */
void ipc_message_done(struct ipc_message *message);

const char *ipc_kind_name(enum ipc_kind kind); /* "worker" */
const char *ipc_message_name(uint32_t number); /* "sign13", NULL when unknown */
size_t ipc_message_size(uint32_t number);      /* of its struct; 0 when unknown */
