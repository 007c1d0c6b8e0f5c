/* What the files of os/sim share. */
#pragma once

#include "os/linux/internal.h"

#include "os/sim/sim.h"

/* ---- Descriptions: what descriptors of processes and ends of the driver refer to ---------------- */

enum sim_kind {
	SIM_NOTHING, /* /dev/null */
	SIM_OUTPUT,  /* standard output or error of the first process */
	SIM_NODE,    /* a file, a folder, memory */
	SIM_STREAM,
	SIM_LISTENER,
	SIM_PACKETS,
	SIM_EVENT,
	SIM_SIGNALS,
	SIM_PROCESS,
	SIM_PROGRAM,
};

enum { SIM_MAY_READ = 1, SIM_MAY_WRITE = 2, SIM_APPENDS = 4, SIM_IS_HANDLE = 8 };

struct sim_node;
struct sim_process;

struct sim_stream {
	struct sim_file *peer; /* NULL: it was let go */
	char *in;              /* a ring of capacity bytes */
	size_t start, len, capacity;
	int error;      /* told once */
	bool is_at_end; /* the peer sends no more */
	bool was_full;  /* the writer into `in` wants to hear of room */
	bool shut_write, shut_read;
	bool resets;  /* closing sends a reset */
	bool is_dead; /* reset, or refused */
	struct os_address local, remote;
};

struct sim_packet {
	struct list link;
	size_t len, file_count;
	struct sim_file *files[OS_PACKET_DESCRIPTORS_MAX];
	char bytes[];
};

struct sim_packets {
	struct sim_file *peer;
	struct list in;
	size_t queued, capacity; /* what this end sent and nobody read yet */
	int error;
	bool is_shut;
	int pid; /* of who made or connected the other end */
	uint32_t uid;
};

struct sim_listener {
	struct list link;  /* of the world's */
	struct list queue; /* accepted by nobody yet: sim_file.queue_link */
	struct os_address address;
	struct sim_node *node; /* of a packets listener */
	bool is_packets, shares, is_driver;
};

struct sim_file {
	enum sim_kind kind;
	unsigned access;
	uint32_t references, wakes;
	uint64_t position;
	struct list queue_link, all_link;
	union {
		int output;
		struct sim_node *node;
		struct sim_stream stream;
		struct sim_listener listener;
		struct sim_packets packets;
		uint64_t count;              /* of an event */
		struct sim_process *process; /* SIM_PROCESS, SIM_SIGNALS */
	};
};

struct sim_file *sim_file_new(enum sim_kind kind, unsigned access); /* one reference */
struct sim_file *sim_file_ref(struct sim_file *file);
void sim_file_unref(struct sim_file *file);
/* An edge: whoever watches it looks again. */
void sim_file_wake(struct sim_file *file);
unsigned sim_file_ready(const struct sim_file *file); /* enum os_ready */
void sim_file_fail(struct sim_file *file, int error);
void sim_stream_sever(struct sim_file *file);

/* descriptor.c: of the process that runs. -EMFILE; consumes the reference, also where it fails. */
int sim_descriptor_add(struct sim_file *file, int *ret_fd) MUST_CHECK;
struct sim_file *sim_descriptor(int fd); /* NULL: -EBADF */
int sim_descriptor_place(struct sim_process *process, int fd, struct sim_file *file);
void sim_descriptors_close(struct sim_process *process);

/* socket.c, packet.c: called for the last reference */
void sim_stream_close(struct sim_file *file);
void sim_listener_close(struct sim_file *file);
void sim_packets_close(struct sim_file *file);
unsigned sim_stream_ready(const struct sim_file *file);
unsigned sim_packets_ready(const struct sim_file *file);
ssize_t sim_stream_read(struct sim_file *file, void *buf, size_t size, bool peeks);
ssize_t sim_stream_write(struct sim_file *file, const void *buf, size_t size);
ssize_t sim_packets_read(struct sim_file *file, void *buf, size_t size);
ssize_t sim_packets_write(struct sim_file *file, const void *buf, size_t size);
struct sim_file *sim_packets_new(void);
void sim_packets_join(struct sim_file *a, struct sim_file *b);

/* ---- Nodes -------------------------------------------------------------------------------------- */

enum { SIM_LOCKS_MAX = 4, SIM_NAME_MAX = 255 };

struct sim_entry {
	struct sim_entry *next;
	struct sim_node *node;
	char name[];
};

/* A memory node at an address that it was mapped to: the bytes are moved there while a process runs that
 * has it, and away when another needs the place. */
struct sim_image {
	char *at, *parked; /* parked NULL: it is in place */
	size_t size;
	uint32_t references;
	struct list link;
};

struct sim_node {
	enum os_file_type type;
	uint32_t references; /* entries, descriptions, maps */
	unsigned mode;
	uint32_t uid, gid;
	uint64_t inode;
	int64_t mtime_ns;
	struct sim_entry *entries; /* of a folder */
	struct sim_node *parent;   /* of a folder; not counted */
	char *bytes;               /* of a file or symlink */
	size_t len, capacity;
	size_t cold_from; /* from here on it is not in the page cache */
	const struct sim_file *locks[SIM_LOCKS_MAX];
	struct sim_file *listener; /* of a socket */
	bool is_memory, seals_size, seals_all;
	struct sim_image *image;
};

struct sim_node *sim_node_new(enum os_file_type type, unsigned mode);
struct sim_node *sim_node_ref(struct sim_node *node);
void sim_node_unref(struct sim_node *node);
int sim_node_resize(struct sim_node *node, size_t len);
void sim_locks_drop(struct sim_node *node, const struct sim_file *file);
/* Where a path leads. 0, or -errno; *ret_name is its last part where ret_parent was asked for. */
int sim_walk(int folder_fd, const char *path, unsigned flags,
	     struct sim_node **ret_node) MUST_CHECK;
int sim_walk_parent(int folder_fd, const char *path, struct sim_node **ret_folder,
		    char ret_name[SIM_NAME_MAX + 1]) MUST_CHECK;
int sim_entry_add(struct sim_node *folder, const char *name, struct sim_node *node) MUST_CHECK;
struct sim_node *sim_entry_find(struct sim_node *folder, const char *name);
int sim_entry_remove(struct sim_node *folder, const char *name);
bool sim_may(const struct sim_node *node, unsigned access); /* enum os_access */

/* memory.c */
struct sim_map {
	struct list link;
	char *at;
	size_t size;
	struct sim_node *node;   /* NULL: this process's own */
	struct sim_image *image; /* of a fixed one */
	bool is_own;             /* munmap at the end */
};
void sim_maps_enter(struct sim_process *process); /* before its slice */
void sim_maps_drop(struct sim_process *process);
void sim_memory_free(struct sim_node *node);
void sim_homes_reset(void); /* after the last node and map are gone */

/* ---- Processes ---------------------------------------------------------------------------------- */

enum {
	SIM_SIGNAL_MAX = 32,
	SIM_ROLE_MAX = 32,
	SIM_STACK_SIZE = 1 << 20,
	SIM_DESCRIPTORS_MAX = 4096
};

enum sim_wait { SIM_RUNS, SIM_WAITS_LOOP, SIM_WAITS_DESCRIPTOR, SIM_SLEEPS };

struct sim_watched {
	struct os_watch *watch; /* NULL: removed */
	struct sim_file *file;  /* no reference: closing the last descriptor ends the watch */
	struct os_loop *loop;
	uint32_t told;
	bool is_level, hides_room, is_new;
};

struct sim_allocation;

struct sim_process {
	struct list link;
	int pid, parent;
	char role[SIM_ROLE_MAX];
	struct sim_count *count; /* of its role */
	uint32_t uid;
	char **environment;
	struct sim_file *descriptors[SIM_DESCRIPTORS_MAX];
	uint32_t descriptors_max, descriptor_count;
	struct sim_file *self; /* the description of all pidfds: readable once it has ended */
	int program_fd;

	char *stack;
	void *stack_pointer, *fake_stack;
	bool is_started, is_stopped, has_ended, is_reaped, dies;
	int end_code, end_signal;

	enum sim_wait wait;
	struct os_loop *loop;
	int wait_fd;
	unsigned wait_for;
	uint64_t deadline_ns; /* UINT64_MAX: none */
	uint64_t idle_at;     /* sim.wakes when its loop had nothing to tell; 0: not known */

	struct sim_watched *watched;
	size_t watched_count, watched_capacity;
	struct list maps;
	void *hook_state;
	int64_t moved_monotonic_ns, moved_wall_ns;
	uint64_t signals_wanted, signals_pending;
	int signal_sender[SIM_SIGNAL_MAX];
	struct sim_file *signals;

	struct list allocations;
	size_t heap;
	struct sim_use used;
};

struct sim_world {
	struct sim_options options;
	uint64_t random, now_ns, inode;
	uint64_t wakes; /* of all files, from 1 */
	struct list processes, listeners, files, images;
	struct list
		datagrams; /* the driver's ends of those that it has not seen: sim_file.queue_link */
	struct sim_process *current; /* NULL: the driver */
	void *driver_stack, *driver_fake;
	const void *driver_bottom;
	size_t driver_size;
	int last_pid;
	struct sim_node *root;
	struct sim_file *output[3];
	struct writer said[3];
	char *said_text[3];
	uint16_t port;
	struct sim_set_trap {
		struct sim_trap trap;
		const struct sim_count *count;
		uint64_t seen;
		bool is_sprung;
	} traps[4];
	size_t trap_count;
	bool spares;
	struct sim_count {
		char role[SIM_ROLE_MAX];
		uint64_t calls, allocations;
	} counts[16];
	bool records;
	struct sim_site *sites;
	size_t site_count, site_capacity;
};
extern struct sim_world sim;

/* Not of the world's heap: freed by the libraries' own free(). */
void *sim_own_alloc(size_t size); /* zeroed; never NULL */
void *sim_own_resize(void *memory, size_t size);
void sim_own_free(void *memory);
void *sim_own_alloc_large(size_t size); /* zeroed */
void *sim_own_alloc_raw(size_t size); /* not zeroed; both are given back by sim_own_free_large() */
void sim_own_free_large(void *memory, size_t size);
void sim_heap_drop(struct sim_process *process);

/* trap.c. Every call begins here: counts it, springs a trap, lets others run. The error to return, or 0. */
int sim_enter(const char *function, const void *site, const int *errors,
	      size_t error_count) MUST_CHECK;
void sim_interrupt(void); /* lets others run now and then, as sim_options.interrupts says */
bool sim_allocation_is_refused(void); /* counts it */
struct sim_count *sim_count_of(const char *role);
/* world.c */
/* The process that runs gives up its slice; returns when it runs again. */
void sim_pause(enum sim_wait wait, uint64_t deadline_ns);
NORETURN void sim_end(int code);
void sim_kill(struct sim_process *process, int signal);
struct sim_process *sim_process_new(const char *role, int parent);
struct sim_process *sim_process_by(int pid);
void sim_process_signal(struct sim_process *process, int number, int sender);
bool sim_loop_is_ready(const struct sim_process *process);

/* A call that may fail in these ways, and one that may not. */
#define SIM_CALL(...) \
	do { \
		static const int errors_[] = { __VA_ARGS__ }; \
		int error_ = sim_enter(__func__, __builtin_return_address(0), errors_, \
				       ARRAY_LEN(errors_)); \
		if (error_) \
			return error_; \
	} while (0)
/* The same on a connection, where such an error is never alone: a reset has ended it for both sides, and
 * whoever was told to come back hears of it. */
#define SIM_CALL_ON(file, ...) \
	do { \
		static const int errors_[] = { __VA_ARGS__ }; \
		int error_ = sim_enter(__func__, __builtin_return_address(0), errors_, \
				       ARRAY_LEN(errors_)); \
		if (error_) { \
			sim_file_fail((file), error_); \
			return error_; \
		} \
	} while (0)
#define SIM_POINT() ((void)!sim_enter(__func__, __builtin_return_address(0), NULL, 0))
