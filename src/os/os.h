/* os: every system call of the program. Nothing above this module includes a system header for
 * anything but types and errno values.
 *
 * Two bodies stand behind this header, chosen at link time: os/linux, and os/sim for tests (virtual
 * time, sockets, channels and processes in one program). So nothing here shows how the kernel is
 * asked.
 *
 * Every descriptor is a plain int, close-on-exec and non-blocking. A function that yields one gives
 * it to the caller, who ends it with os_close(); a function that is handed one does not close it.
 * Strings (`const char *`) are NUL-terminated, spans are not. Out-parameters are not touched on
 * failure.
 *
 * Errors: 0 or a count is done, negative is -errno. -EAGAIN is "would block" and no failure. An
 * interrupted call is begun again in here, nobody sees -EINTR.
 *
 * The state of this module (test clock, start values) is global: it is the only module that may. */
#pragma once

#include <sys/types.h>

#include "base/base.h"

/* Once, first thing in main(): SIGPIPE is ignored for good, descriptors 0-2 are opened on /dev/null
 * where the starter left them closed, and the program itself is opened for os_program(). */
int os_start(void) MUST_CHECK;

/* ---- Clock: the only one of the program. ------------------------------------------------------
 * Inside a loop use os_loop_now_ns(): it is read once a turn. */

#define OS_MS UINT64_C(1000000) /* in nanoseconds */
#define OS_SECOND UINT64_C(1000000000)

uint64_t os_now_ns(void);  /* monotonic; for deadlines and durations */
uint64_t os_wall_ns(void); /* since 1970, UTC; for certificates and logs */
#ifdef PORTCULLIS_TEST_CLOCK
/* Moves what the two functions above say, in this process. A loop sees it next turn. */
void os_clock_move(int64_t monotonic_ns, int64_t wall_ns);
#endif

/* ---- The loop ---------------------------------------------------------------------------------
 * A turn: wait; read the clock; watches' callbacks; due timers' callbacks; the turn callback. In
 * the turn callback the program runs its ready lists, sends its batches and frees what ended: a
 * callback of a watch or timer only notes what happened. */

struct os_loop;
struct os_watch;

enum os_ready {
	OS_READABLE = 1,
	OS_WRITABLE = 2,
	OS_PEER_SHUT = 4, /* the peer ended its sending half: after what is there, a read says 0 */
	OS_HANGUP = 8,    /* both halves are gone */
	OS_ERROR = 16,    /* ask os_socket_error() */
};

enum os_watch_mode {
	OS_WATCH_EDGE, /* both directions, told once per change: bits gather in `ready` */
	/* As EDGE, but of room to write only while os_watch_want_room() asks for it. For packet
	 * sockets, which would tell of room each time that the peer takes a packet, and events, which would when
	 * they are taken. */
	OS_WATCH_EDGE_READ,
	OS_WATCH_LEVEL_READ, /* told every turn while readable: listeners */
};

/* Embedded in its owner, who sets on_ready; zeroed otherwise. Must not move while added. */
struct os_watch {
	/* `now`: bits that came this turn; they are in `ready` too. May remove any watch. */
	void (*on_ready)(struct os_watch *watch, unsigned now);
	/* Gathers; the owner clears OS_READABLE or OS_WRITABLE when a call said -EAGAIN or was
	 * short. */
	unsigned ready;
	int fd; /* valid while added */
	/* Of the loop: */
	struct os_loop *loop; /* NULL while not added */
	bool wants_room;
	uint32_t queued; /* place among this turn's events + 1, or 0 */
	uint32_t serial;
};

/* Embedded in its owner, who sets on_due; zeroed otherwise. Fires once, never before its deadline,
 * up to 1 ms late; timers of different milliseconds fire in order. */
struct os_timer {
	void (*on_due)(struct os_timer *timer);
	uint64_t deadline_ns; /* 0: stopped */
	/* Of the loop: */
	struct list link;
	uint64_t tick;
};

int os_loop_new(struct os_loop **ret_loop) MUST_CHECK; /* -ENOMEM, -EMFILE, … */
void os_loop_free(struct os_loop *loop); /* NULL is fine; after its watches were removed */
/* Runs until os_loop_stop(). `on_turn` may be NULL. The first turn does not wait. */
int os_loop_run(struct os_loop *loop, void (*on_turn)(void *owner), void *owner) MUST_CHECK;
/* One turn, waiting at most max_wait_ms (-1: as long as it takes): for tests and small tools. */
int os_loop_turn(struct os_loop *loop, int max_wait_ms, void (*on_turn)(void *owner),
		 void *owner) MUST_CHECK;
void os_loop_stop(struct os_loop *loop); /* after this turn */
/* the next turn does not wait (work was left: YIELD) */
void os_loop_wake_again(struct os_loop *loop);
uint64_t os_loop_now_ns(const struct os_loop *loop);  /* os_now_ns() of this turn */
uint64_t os_loop_wall_ns(const struct os_loop *loop); /* os_wall_ns() of this turn */

/* What is ready already is told next turn. */
int os_watch_add(struct os_loop *loop, struct os_watch *watch, int fd,
		 enum os_watch_mode mode) MUST_CHECK;
/* Of a watch of mode EDGE_READ, which may not be added (then nothing happens): whether to be told of
 * room. If there is some already it is told next turn. Costs a system call where it changes. */
void os_watch_want_room(struct os_watch *watch, bool is_wanted);
/* Before the descriptor is closed or passed on: another process may hold its description, and then
 * closing alone leaves it reporting. Safe for any watch at any time, harmless when it is not added:
 * not even an event that this turn has already fetched is told any more. Does not close. */
void os_watch_remove(struct os_watch *watch);
/* Removes it and closes its descriptor, of whose description nobody else has a copy: an accepted socket. One
 * system call less than the two; where it is not added nothing is closed. */
void os_watch_close(struct os_watch *watch);
static inline bool os_watch_is_added(const struct os_watch *watch)
{
	return watch->loop != NULL;
}

/* Costs nothing for a timer that runs already and only gets a later deadline: set it every request.
 * A deadline that has passed fires next turn. deadline_ns 0 is a MUST. */
void os_timer_set(struct os_loop *loop, struct os_timer *timer, uint64_t deadline_ns);
void os_timer_stop(struct os_timer *timer); /* harmless when stopped; always before it is freed */
static inline bool os_timer_is_set(const struct os_timer *timer)
{
	return timer->deadline_ns != 0;
}

/* Outside a loop (a newborn, a command): waits until one of `wanted` (OS_READABLE, OS_WRITABLE) or
 * an end is there. timeout_ms -1: for ever. -ETIMEDOUT. */
int os_wait(int fd, unsigned wanted, int timeout_ms) MUST_CHECK;
void os_sleep_ms(unsigned duration_ms);
void os_yield(void); /* sched_yield: lets the neighbour on this core run */

/* Signals as events of the loop. They stay blocked from then on and reach only on_signal; a started
 * child gets them unblocked and at their defaults. Numbers are those of <signal.h>. */
struct os_signals {
	void (*on_signal)(struct os_signals *signals, int number, int sender_pid);
	struct os_watch watch;
};
int os_signals_watch(struct os_loop *loop, struct os_signals *signals, const int *numbers,
		     size_t count) MUST_CHECK;
void os_signals_close(struct os_signals *signals);

/* An event that processes may share: a counter that is readable while it is not zero. */
int os_event_new(int *ret_fd) MUST_CHECK;
void os_event_signal(int fd);
bool os_event_take(int fd); /* true: it was signalled since */

/* ---- Addresses: values --------------------------------------------------------------------- */

enum os_family {
	OS_FAMILY_BOTH = 0, /* only to listen: any address of v4 and v6 */
	OS_FAMILY_UNIX = 1,
	OS_FAMILY_V4 = 4,
	OS_FAMILY_V6 = 6,
};

enum { OS_ADDRESS_TEXT_MAX = 128, OS_UNIX_PATH_MAX = 107 };

/* ::ffff:a.b.c.d never occurs: wherever an address comes in it is made OS_FAMILY_V4. */
struct os_address {
	uint8_t family;
	uint8_t reserved;
	uint16_t port;                   /* host order */
	uint32_t scope;                  /* of a v6 link-local address: the interface's index */
	uint8_t ip[16];                  /* network order; v4: the first 4, the rest zero */
	char path[OS_UNIX_PATH_MAX + 1]; /* OS_FAMILY_UNIX: NUL-terminated, never abstract */
};

/* `1.2.3.4`, `::1`, `[::1]`, `fe80::1%2` without a port. No leading zeroes, no short v4 forms, no
 * names. The port stays 0. */
bool os_address_parse_ip(struct span text, struct os_address *ret_address) MUST_CHECK;
/* `1.2.3.4:80`, `[::1]:80`, `*:443` (both families), `unix:PATH`. The port is obligatory, 0 is
 * allowed. */
bool os_address_parse(struct span text, struct os_address *ret_address) MUST_CHECK;
/* RFC 5952, no brackets */
void os_address_write_ip(const struct os_address *address, struct writer *out);
/* as os_address_parse reads */
void os_address_write(const struct os_address *address, struct writer *out);
bool os_address_equal(const struct os_address *a, const struct os_address *b); /* with the port */
bool os_address_same_ip(const struct os_address *a, const struct os_address *b);
bool os_address_is_any(const struct os_address *address);      /* 0.0.0.0, ::, both */
bool os_address_is_loopback(const struct os_address *address); /* 127/8, ::1, a unix socket */
/* Not of the internet: loopback, RFC 1918, 100.64/10, 169.254/16, fc00::/7, fe80::/10. */
bool os_address_is_private(const struct os_address *address);
/* From the fixed-width fields of a message, and `size` 4 or 16 bytes from DNS or a certificate. */
struct os_address os_address_of(unsigned family, const uint8_t ip[16], uint16_t port);

/* ---- Sockets ------------------------------------------------------------------------------- */

enum os_listen_flags {
	OS_LISTEN_REUSEPORT = 1, /* one of several sockets on this address */
};
/* A v6 address listens for v6 only; OS_FAMILY_BOTH for both, and for v4 alone where there is no v6.
 * SO_REUSEADDR, and TCP_NODELAY, keep-alive and TCP_NOTSENT_LOWAT (128 KiB), which accepted sockets
 * inherit. -EADDRINUSE, -EACCES (port below 1024), -EADDRNOTAVAIL. */
int os_listen(const struct os_address *address, unsigned flags, int backlog,
	      int *ret_fd) MUST_CHECK;
/* Is the address free? Binds with SO_REUSEADDR and without REUSEPORT, and lets go again: a second
 * server that shares by REUSEPORT would stay hidden otherwise. 0 free, -EADDRINUSE, -EACCES, … */
int os_listen_probe(const struct os_address *address) MUST_CHECK;
/* A unix SEQPACKET socket `name` in a folder, mode 0600 or as said; a stale one of that name is
 * replaced. */
int os_listen_packets(int folder_fd, const char *name, unsigned mode, int *ret_fd) MUST_CHECK;
/* ret_peer may be NULL. -EAGAIN, -EMFILE; a connection that died in the queue is skipped. */
int os_accept(int fd, int *ret_fd, struct os_address *ret_peer) MUST_CHECK;
/* Begins to connect (stream). 0: done or under way: once writable, os_socket_error() says how it
 * ended. */
int os_connect(const struct os_address *address, int *ret_fd) MUST_CHECK;
/* -ENOENT, -ECONNREFUSED */
int os_connect_packets(int folder_fd, const char *name, int *ret_fd) MUST_CHECK;
/* A unix datagram socket whose other end is `path`, as /dev/log; `@NAME` is a name without a file (Linux' abstract
 * namespace). Each packet that is sent over it is one datagram; -EAGAIN while the other end's queue is full, -ECONNREFUSED or -ENOTCONN once it is gone. */
int os_connect_datagrams(const char *path, int *ret_fd) MUST_CHECK;
int os_socket_error(int fd) MUST_CHECK; /* 0 or -errno; reading clears it */
int os_socket_local(int fd, struct os_address *ret_address) MUST_CHECK;
int os_socket_peer(int fd, struct os_address *ret_address) MUST_CHECK;
/* Who is at the other end of a unix socket (when it connected, or made the pair). */
int os_socket_credentials(int fd, int *ret_pid, uint32_t *ret_uid) MUST_CHECK;
int os_socket_nodelay(int fd) MUST_CHECK;
int os_socket_keepalive(int fd, unsigned idle_s) MUST_CHECK;
int os_socket_unsent_max(int fd, unsigned bytes) MUST_CHECK; /* TCP_NOTSENT_LOWAT */
int os_socket_linger_none(int fd) MUST_CHECK; /* the close that follows sends a reset */
int os_socket_linger_default(int fd) MUST_CHECK;
enum os_half { OS_HALF_READ, OS_HALF_WRITE, OS_HALF_BOTH };
int os_shutdown(int fd, enum os_half half); /* -ENOTCONN when the peer was faster: nobody minds */
/* a stream socket in the listening state (checks what was handed back) */
bool os_is_listening(int fd);
void os_close(int fd); /* harmless below 0 */
/* For OS_AUTO_FD: a descriptor that ends with its scope; TAKE_FD moves it out. */
static inline void os_close_at(int *fd)
{
	os_close(*fd);
}
#define OS_AUTO_FD __attribute__((cleanup(os_close_at))) int
/* The index-th of the descriptors that our starter passed behind standard error (as systemd does): it is the
 * caller's, close-on-exec and non-blocking from now on. -EBADF: there is none. Before anything else is opened that
 * closes or passes on what it does not know. */
int os_inherited(unsigned index, int *ret_fd) MUST_CHECK;
/* the same description, a new close-on-exec number */
int os_duplicate(int fd, int *ret_fd) MUST_CHECK;
bool os_descriptor_is_open(int fd);
int os_descriptor_count(void); /* how many this process has; -EACCES in a sandbox */

/* Bytes of sockets, pipes and files at their position. A count, 0 at the end (os_read), or -EAGAIN,
 * -EPIPE, -ECONNRESET. Never a signal. */
ssize_t os_read(int fd, void *buf, size_t size) MUST_CHECK;
/* Of a socket the same, never waits, and costs the kernel less than what all kinds of files share. */
ssize_t os_receive(int fd, void *buf, size_t size) MUST_CHECK;
ssize_t os_write(int fd, const void *buf, size_t size) MUST_CHECK;
/* at most 64 parts a call */
ssize_t os_writev(int fd, const struct span *parts, size_t count) MUST_CHECK;
ssize_t os_peek(int fd, void *buf, size_t size) MUST_CHECK; /* of a socket; the bytes stay */

/* ---- Packets: what channels are made of (unix SEQPACKET) ----------------------------------- */

/* A trap for who is given a socket: SO_LINGER makes its last close wait for a peer that never answers, be it by close(), by
 * the close of a channel in which it waits, or by the kernel where more came than there is room for. Between true and
 * false such a wait ends after a millisecond; nothing else belongs there, for other calls would be interrupted as well. */
void os_close_guard(bool is_on);

enum { OS_PACKET_DESCRIPTORS_MAX = 4, OS_PACKET_PARTS_MAX = 4, OS_PACKET_BATCH_MAX = 64 };

struct os_packet_out {
	struct span parts[OS_PACKET_PARTS_MAX]; /* together not empty: an empty packet looks like
						   the end */
	size_t part_count;
	const int *descriptors; /* copies go; the caller keeps its own */
	size_t descriptor_count;
};

struct os_packet_in {
	void *buf; /* by the caller */
	size_t size;
	size_t len;                                 /* what came */
	int descriptors[OS_PACKET_DESCRIPTORS_MAX]; /* the caller's from now on */
	size_t descriptor_count;
	bool is_truncated; /* longer than size, or more descriptors than fit (those that did not are
			      closed) */
};

int os_packet_pair(int ret_fds[2]) MUST_CHECK;
/* -EAGAIN: full, nothing was sent. -EPIPE or -ECONNRESET: the other end is gone. */
int os_packet_send(int fd, const struct os_packet_out *packet) MUST_CHECK;
/* In order; how many left (at least 1), or -errno of the first. */
int os_packet_send_many(int fd, const struct os_packet_out *packets, size_t count) MUST_CHECK;
/* 1, 0 when the other end is gone, -EAGAIN. */
int os_packet_receive(int fd, struct os_packet_in *ret_packet) MUST_CHECK;
/* How many came (at least 1), 0 when the other end is gone, -EAGAIN. */
int os_packet_receive_many(int fd, struct os_packet_in *ret_packets, size_t count) MUST_CHECK;
/* More room for a channel's queue in the kernel (both directions of this end). */
int os_packet_buffer(int fd, size_t bytes) MUST_CHECK;

/* ---- Files --------------------------------------------------------------------------------- */

enum { OS_FOLDER_CURRENT = -100 }; /* as folder_fd: paths begin at the working folder or at / */

enum os_open_flags {
	OS_OPEN_READ = 0,
	OS_OPEN_WRITE = 1,
	OS_OPEN_APPEND = 2, /* with WRITE */
	OS_OPEN_CREATE = 4,
	OS_OPEN_EXCLUSIVE = 8, /* with CREATE: -EEXIST */
	OS_OPEN_TRUNCATE = 16,
	OS_OPEN_FOLDER = 32,     /* -ENOTDIR when it is none */
	OS_OPEN_HANDLE = 64,     /* O_PATH: names the object, opens nothing of it */
	OS_OPEN_NO_FOLLOW = 128, /* the last part is no symlink: -ELOOP */
	OS_OPEN_BENEATH = 256, /* whatever the path says, the way stays below the folder: -EXDEV */
	OS_OPEN_NO_SYMLINKS = 512,  /* no part is one: -ELOOP */
	OS_OPEN_SAME_DEVICE = 1024, /* no way across a mount: -EXDEV */
	OS_OPEN_READ_WRITE = 2048,
};
/* Never blocks on a FIFO, never takes a terminal, never goes through /proc's links with BENEATH. */
int os_open(int folder_fd, const char *path, unsigned flags, unsigned mode, int *ret_fd) MUST_CHECK;

enum os_file_type {
	OS_FILE_REGULAR,
	OS_FILE_FOLDER,
	OS_FILE_SYMLINK,
	OS_FILE_SOCKET,
	OS_FILE_OTHER
};
struct os_file_info {
	uint64_t size, inode, device;
	int64_t mtime_ns;
	uint32_t mode, uid, gid; /* permission bits only */
	enum os_file_type type;
};
int os_file_info(int fd, struct os_file_info *ret_info) MUST_CHECK;
/* Whether this machine's kernel alone has its bytes. Of another (FUSE, NFS, CIFS, …) reading, and even closing, may
 * wait for somebody who never answers. */
bool os_file_is_local(int fd);
/* no follow */
int os_file_info_at(int folder_fd, const char *name, struct os_file_info *ret_info) MUST_CHECK;
ssize_t os_pread(int fd, void *buf, size_t size, uint64_t offset) MUST_CHECK;
/* Only what is in memory already. -EAGAIN: cold. -EOPNOTSUPP: this file system cannot say. */
ssize_t os_pread_cached(int fd, void *buf, size_t size, uint64_t offset) MUST_CHECK;
ssize_t os_pwrite(int fd, const void *buf, size_t size, uint64_t offset) MUST_CHECK;
int os_write_all(int fd, const void *buf, size_t size) MUST_CHECK; /* waits where it would block */
/* The whole file, NUL-terminated behind its end, in the arena. -EFBIG over `cap`; -EISDIR. */
int os_file_read(int folder_fd, const char *path, size_t cap, struct arena *arena,
		 struct span *ret_text) MUST_CHECK;
int os_file_read_fd(int fd, size_t cap, struct arena *arena, struct span *ret_text) MUST_CHECK;
/* Whole or not at all, and on the disk when it returns: a temporary file, fsync, rename, fsync of
 * the folder. `name` has no slash. */
int os_file_replace(int folder_fd, const char *name, struct span text, unsigned mode) MUST_CHECK;
int os_file_truncate(int fd, uint64_t size) MUST_CHECK;
/* Room on the disk for bytes to come; the size stays. -ENOSPC, -EDQUOT; -EOPNOTSUPP: it cannot say. */
int os_file_reserve(int fd, uint64_t offset, uint64_t len) MUST_CHECK;
int os_file_sync(int fd) MUST_CHECK;
/* UINT32_MAX keeps; works on a handle */
int os_file_owner(int fd, uint32_t uid, uint32_t gid) MUST_CHECK;
int os_file_mode(int fd, unsigned mode) MUST_CHECK;
int os_unlink(int folder_fd, const char *name) MUST_CHECK;
int os_unlink_folder(int folder_fd, const char *name) MUST_CHECK; /* an empty one */
int os_rename(int folder_fd, const char *from, const char *to) MUST_CHECK;
/* The folder and those above it that are missing; one that is there is fine. */
int os_folder_make(int folder_fd, const char *path, unsigned mode) MUST_CHECK;
/* Where a symlink leads, in the arena. -EINVAL: it is none. */
int os_link_read(int folder_fd, const char *name, struct arena *arena,
		 struct span *ret_target) MUST_CHECK;
/* The real, absolute path of a descriptor, as far as the kernel can tell. */
int os_path_of(int fd, struct arena *arena, struct span *ret_path) MUST_CHECK;
/* Each name but . and .., in no order; a non-zero answer of on_name ends it and is returned. */
int os_folder_list(int folder_fd,
		   int (*on_name)(void *owner, const char *name, enum os_file_type type),
		   void *owner) MUST_CHECK;
int os_folder_current(struct arena *arena, struct span *ret_path) MUST_CHECK;

/* Locks of a byte of a file. They belong to the open description: shared with who inherits the
 * descriptor, gone when its last copy is closed, and closing another descriptor of the file does
 * not lose them. */
int os_lock_take(int fd, uint64_t byte) MUST_CHECK; /* exclusive; -EAGAIN: somebody else has it */
int os_lock_release(int fd, uint64_t byte) MUST_CHECK;
/* Would os_lock_take say -EAGAIN? Works on a read-only descriptor. 1 held by another, 0 free,
 * -errno. */
int os_lock_is_held(int fd, uint64_t byte) MUST_CHECK;

/* ---- Memory -------------------------------------------------------------------------------- */

/* A file that lives in memory; zeroed, of fixed size, mode 0600. */
int os_memory_new(const char *name, size_t size, int *ret_fd) MUST_CHECK;
enum os_seal {
	OS_SEAL_SIZE, /* it can neither shrink (SIGBUS for its readers) nor grow */
	OS_SEAL_ALL,  /* and never be written again; there must be no writable map of it */
};
int os_memory_seal(int fd, enum os_seal seal) MUST_CHECK;
/* 1 it has (at least) that seal, 0 not, -errno. Ask before a map of a foreign memfd is trusted. */
int os_memory_is_sealed(int fd, enum os_seal seal) MUST_CHECK;
/* a descriptor that nobody can write through */
int os_memory_read_only(int fd, int *ret_fd) MUST_CHECK;

enum os_map_flags {
	OS_MAP_WRITE = 1,    /* shared with all who map it; else read-only */
	OS_MAP_RESERVED = 2, /* `at` lies in what os_memory_reserve() holds: take its place */
};
/* at NULL: anywhere. Else exactly there, or -EEXIST when something is there already. fd -1: fresh
 * zeroed memory of this process alone. */
int os_memory_map(int fd, size_t size, void *at, unsigned flags, void **ret_memory) MUST_CHECK;
int os_memory_reserve(void *at, size_t size) MUST_CHECK; /* nobody else gets this place; -EEXIST */
void os_memory_unmap(void *memory, size_t size);         /* NULL is fine */
int os_memory_protect(void *memory, size_t size) MUST_CHECK; /* read-only from now on */

enum os_secret_kind { OS_SECRET_HIDDEN = 1, OS_SECRET_LOCKED = 2, OS_SECRET_PLAIN = 3 };
/* Memory for keys. HIDDEN (memfd_secret: not even the kernel's own map has it), else LOCKED (no
 * swap, no core), else PLAIN where not even locking is allowed. Not inherited by a fork. */
int os_secret_map(size_t size, void **ret_memory, enum os_secret_kind *ret_kind) MUST_CHECK;

/* One pointer for hooks that a library calls without an owner argument (libcrypto's allocator in a
 * keyholder). NULL until it was set. */
void os_hook_state_set(void *state);
void *os_hook_state(void);

/* ---- Processes ----------------------------------------------------------------------------- */

/* The program that runs, opened by os_start(); only good for starting it again. -ENOENT before. */
int os_program(void);
void os_program_forget(void); /* by a process that starts none */

struct os_pass {
	int fd, number; /* ours, and what it is in the child */
};
struct os_process_config {
	int program_fd; /* -1: `path` instead (a script must be started by path) */
	const char *path;
	const char *const *arguments;   /* [0] is its name; NULL-terminated */
	const char *const *environment; /* NULL-terminated; NULL: empty */
	const struct os_pass
		*pass; /* everything else from 3 on is closed; 0-2 stay unless passed */
	size_t pass_count;
	bool is_detached; /* a session of its own: the terminal's Ctrl-C is the starter's business
			   */
};
struct os_process {
	int pid, fd; /* fd is readable once it has ended; the owner closes it */
};
/* Signals are at their defaults and unblocked in the child, and it outlives its starter. When it
 * returns 0 the new program runs; what hindered it (-ENOENT, -EACCES, …) is returned. */
int os_process_start(const struct os_process_config *config,
		     struct os_process *ret_process) MUST_CHECK;

struct os_process_end {
	int exit_code; /* valid where signal is 0 */
	int signal;
};
/* Never blocks. -EAGAIN: it runs. After 0 the pid is free. */
int os_process_wait(int process_fd, struct os_process_end *ret_end) MUST_CHECK;
int os_process_signal(int process_fd, int number);    /* -ESRCH: it has ended */
int os_process_open(int pid, int *ret_fd) MUST_CHECK; /* of any process; -ESRCH */
/* As PID 1: takes the ends of processes that are none of ours. is_ours says which to leave. Call it
 * at SIGCHLD and after each os_process_wait() that said 0. How many. */
int os_process_reap_strangers(bool (*is_ours)(void *owner, int pid), void *owner);
struct os_process_usage {
	uint64_t memory_bytes;  /* resident, shared pages counted in full */
	uint64_t private_bytes; /* resident and of nobody else (0 when it may not be read) */
	uint64_t cpu_ns;
	uint64_t started_ticks; /* since boot, in the kernel's ticks: with the pid it names one
				   process */
};
int os_process_usage(int pid, struct os_process_usage *ret_usage) MUST_CHECK;
/* It runs, or waits for a core or a disk: it is neither asleep nor stopped. True where that cannot be read. */
bool os_process_is_busy(int pid);
int os_process_program_name(int pid, struct writer *out) MUST_CHECK; /* -ENOENT, -EACCES */
void os_process_set_name(const char *name);   /* at most 15 bytes are shown */
int os_process_priority(int nice) MUST_CHECK; /* 0..19 */
/* From now on, who wakes us on our core goes on until it waits or its share is over (SCHED_BATCH).
 * Where that is forbidden everything works as before. */
void os_process_be_patient(void);
NORETURN void os_exit(int code); /* without the library's exit work */

int os_pid(void);
int os_parent_pid(void);
uint32_t os_uid(void);
uint32_t os_gid(void);

/* ---- The sandbox --------------------------------------------------------------------------- */

enum os_limit {
	OS_LIMIT_OPEN_FILES,
	OS_LIMIT_LOCKED_BYTES,
	OS_LIMIT_CORE_BYTES,
	OS_LIMIT_PROCESSES,
	OS_LIMIT_FILE_BYTES,
	OS_LIMIT_ADDRESS_BYTES, /* left alone in sanitizer builds */
	OS_LIMIT_CPU_SECONDS,
	OS_LIMIT_STACK_BYTES,
};
struct os_limit_value {
	enum os_limit limit;
	uint64_t value; /* soft and hard */
};
int os_limit_set(enum os_limit limit, uint64_t value) MUST_CHECK;
int os_limit_get(enum os_limit limit, uint64_t *ret_soft, uint64_t *ret_hard) MUST_CHECK;
/* Up to `wanted` as far as we may; what it is now. */
uint64_t os_limit_raise(enum os_limit limit, uint64_t wanted);

enum os_access {
	OS_ACCESS_READ = 1,  /* read files, list folders */
	OS_ACCESS_WRITE = 2, /* make, write, rename, remove */
	OS_ACCESS_EXECUTE = 4,
};
struct os_sandbox_path {
	int fd; /* a folder (or file), OS_OPEN_HANDLE is enough */
	unsigned access;
};

enum { OS_KEEP_ID = UINT32_MAX };
/* What root needs to become another user later: CAP_SETGID, CAP_SETUID, CAP_SETPCAP. */
enum { OS_CAPABILITIES_OF_CHANGE = 1 << 6 | 1 << 7 | 1 << 8 };

/* A row of the process table, with the descriptors that this process was given. */
struct os_sandbox {
	const char *name;      /* of the row: becomes the process's name */
	uint32_t uid, gid;     /* OS_KEEP_ID keeps; supplementary groups go with the uid */
	uint64_t capabilities; /* bits 1 << CAP_…; 0: none */
	/* Names of system calls and of groups, NULL-terminated; everything else ends the process
	 * (SIGSYS). NULL: no filter. Groups (os/linux/calls.c): @base is always in; @serve
	 * (clients), @connect, @read-files, @write-files, @memory (memfds), @sandbox (to enter
	 * another). */
	const char *const *calls;
	/* Below these and nowhere else. Without any, the file system is closed. */
	const struct os_sandbox_path *paths;
	size_t path_count;
	bool may_connect; /* TCP; else Landlock refuses connect as well as the filter */
	bool may_bind;
	bool is_open;  /* no Landlock at all (supervisor, hook) */
	bool may_gain; /* no no_new_privs (hook); then there can be no filter unless we are root */
	const struct os_limit_value *limits;
	size_t limit_count;
};

/* Bits of os_sandbox_report. Numbers never change: they cross in a message. */
enum os_sandbox_part {
	OS_SANDBOX_USER = 1 << 0,
	OS_SANDBOX_CAPABILITIES = 1 << 1, /* only those of the row (none) in all sets */
	OS_SANDBOX_NO_NEW_PRIVILEGES = 1 << 2,
	OS_SANDBOX_CALLS = 1 << 3,
	OS_SANDBOX_FILES = 1 << 4,   /* Landlock: paths */
	OS_SANDBOX_NETWORK = 1 << 5, /* Landlock: TCP bind and connect (ABI 4) */
	OS_SANDBOX_SCOPE = 1 << 6,   /* Landlock: signals and abstract sockets outside (ABI 6) */
	OS_SANDBOX_NOT_DUMPABLE = 1 << 7,
	OS_SANDBOX_LIMITS = 1 << 8,
};
struct os_sandbox_report {
	uint32_t enforced; /* bits that hold now */
	uint32_t missing;  /* bits that the row wants and this kernel or starter could not give */
	uint32_t landlock_abi; /* of the kernel, 0: none */
	uint32_t uid;
};
/* In this order: limits, user, capabilities, no_new_privs, Landlock, filter. What the kernel does
 * not know is reported in `missing`, what it refuses is -errno (the process must end then).
 * Entering twice tightens. */
int os_sandbox_enter(const struct os_sandbox *sandbox,
		     struct os_sandbox_report *ret_report) MUST_CHECK;
void os_sandbox_library_version(struct writer *out);         /* of the library that makes filters */
const char *os_sandbox_part_name(enum os_sandbox_part part); /* "system calls", …; for `status` */

/* ---- The machine --------------------------------------------------------------------------- */

enum { OS_CPU_MAX = 1024 };
/* CPUs of our affinity mask: how many, and the numbers of the first `max`. At least 1. */
size_t os_cpus(unsigned *ret_cpus, size_t max);
int os_cpu_pin(unsigned cpu) MUST_CHECK;
void os_random(void *buf, size_t size);       /* from the kernel; cannot fail after boot */
const char *os_environment(const char *name); /* NULL when unset */
const char *const *os_environment_all(void);  /* for a command that starts another's program */
bool os_is_terminal(int fd);
/* A terminal that gives each key at once and shows none; Ctrl-C stays a signal, Ctrl-Z is a key. -ENOTTY. */
struct os_terminal {
	int fd;
	_Alignas(8) char saved[128]; /* what it was set to before */
};
int os_terminal_keys(int fd, struct os_terminal *ret_terminal) MUST_CHECK;
void os_terminal_restore(const struct os_terminal *terminal);
/* -ENOTTY: it is none, or does not know. */
int os_terminal_size(int fd, unsigned *ret_columns, unsigned *ret_rows) MUST_CHECK;
int os_host_name(struct writer *out) MUST_CHECK;
/* The addresses of the interfaces that are up, without link-local ones; at most `max`. How many. */
int os_interface_addresses(struct os_address *ret_addresses, size_t max) MUST_CHECK;
/* A user of /etc/passwd. -ENOENT. */
int os_user_find(const char *name, uint32_t *ret_uid, uint32_t *ret_gid) MUST_CHECK;
int os_user_home(uint32_t uid, struct arena *arena, struct span *ret_home) MUST_CHECK;
uint64_t os_memory_total(void); /* bytes of the machine, or of the container's limit where lower */
int os_kernel_version(struct writer *out) MUST_CHECK;

/* Who listens on a TCP port. uid is known for every listener; pid 0 where /proc may not be read. */
struct os_port_holder {
	int pid;
	uint32_t uid;
	char program[64]; /* "" when unknown */
};
/* -ENOENT */
int os_port_holder(const struct os_address *address, struct os_port_holder *ret_holder) MUST_CHECK;

/* Standard output and error of commands: whole, in order, also into a slow pipe. -EPIPE ends a
 * command quietly (`portcullis … | head`). */
int os_out(struct span text);
int os_err(struct span text);
