/* os/sim: the second body of os/os.h, for tests: processes, time, sockets, channels, files and memory of one
 * program, in which one seed decides every order and any call can be made to fail.
 *
 * Link it before the program's library: then nothing of os/linux but address.c, composed.c and timer.c is taken. All
 * processes of the world are coroutines on stacks of their own, with their own descriptors, heap, maps,
 * signals and environment. One runs until it waits or ends (or, now and then, is interrupted before a call);
 * then the seed says who is next. When nobody can run, time jumps to the next deadline.
 *
 * Who calls the functions below is the driver: the test itself, on the program's own stack, no process of the
 * world. Clients, origins and the operator are played by it. There is one world at a time.
 *
 * Left out: other machines' delays, FIFOs and devices but /dev/null. Reserved address space is
 * never refused. The library's own randomness is real; it decides no order. */
#pragma once

#include "os/os.h"

struct sim_options {
	uint64_t seed;
	unsigned cpus;                  /* how many; 1 where 0 */
	uint32_t uid;                   /* whose processes these are */
	uint32_t descriptors_max;       /* of each process; 1024 where 0 */
	size_t stream_bytes;            /* room of a stream in each direction; 64 KiB where 0 */
	unsigned interrupts;            /* one call in so many lets others run first; 0: none */
	int (*program)(void);           /* main() of every process; its answer is the exit code */
	void (*switched)(void);         /* after each slice of a process, on the driver's stack */
	const char *const *environment; /* of the first process */
};

void sim_open(const struct sim_options *options);
void sim_close(void); /* every process is dropped, everything is freed */

/* ---- Processes ------------------------------------------------------------------------------- */

/* A process without a starter, called `role`. Its pid. */
int sim_spawn(const char *role);
/* The youngest that runs under that name, the `index`th of them from the oldest; 0: none. Children are called
 * by their first argument, the name of their row. */
int sim_pid(const char *role, unsigned index);
bool sim_is_alive(int pid);
bool sim_is_stopped(int pid);
int sim_exit_code(int pid);           /* of one that ended: code, or -signal */
void sim_signal(int pid, int number); /* KILL, STOP and CONT at once, others through the loop */
/* Descriptors and bytes of heap of those of that name, summed; NULL: of all. */
size_t sim_descriptors(const char *role);
size_t sim_heap(const char *role);
/* The same without what is only room (sim_allocations_are_room()). */
struct sim_use {
	size_t allocations, bytes;
};
struct sim_use sim_used(const char *role);
size_t sim_processes(void); /* that run */
void *sim_hook_state(
	int pid);      /* what it gave to os_hook_state_set(); NULL: nothing, or it has ended */
int sim_current(void); /* the process that runs; 0: the driver */
void sim_each(void (*on_process)(void *owner, int pid, const char *role), void *owner);
void sim_describe(struct writer *out); /* who waits for what, for a report */

/* ---- Time and order -------------------------------------------------------------------------- */

uint64_t sim_now_ns(void);
uint64_t sim_random(uint64_t below); /* of the world's seed */
/* Lets processes run until `is_done` (asked after each slice; NULL: never) or until time would pass
 * now + limit_ns. true: is_done. Ends the test where the world does not come to rest: `slices_max`. */
bool sim_run(bool (*is_done)(void *owner), void *owner, uint64_t limit_ns);

/* ---- Traps: what shall happen at a call --------------------------------------------------------
 * A call is one of a process to os.h (those that cannot fail and tell nobody anything do not count). */

enum sim_trap_kind {
	SIM_TRAP_KILL,  /* before the call: kill -9 */
	SIM_TRAP_STOP,  /* before the call: it hangs */
	SIM_TRAP_FAIL,  /* the call fails with `error` */
	SIM_TRAP_ALLOC, /* the nth allocation finds no memory */
};
struct sim_trap {
	enum sim_trap_kind kind;
	const char *role;
	uint64_t nth;         /* of that role's calls, or allocations, from now on; 1: the next */
	const void *site;     /* NULL, or only calls that are made there */
	const char *function; /* NULL, or only calls of this name (it must live on) */
	int error; /* SIM_TRAP_FAIL: negative errno; 0: one that the call may fail with, by chance */
	bool tells; /* prints where it was sprung */
};
void sim_trap_set(const struct sim_trap *trap); /* replaces all; counts begin anew. NULL: none */
void sim_trap_add(const struct sim_trap *trap); /* at most 4 */
bool sim_trap_was_sprung(void);                 /* all of them */
uint64_t sim_calls(const char *role);           /* since the last sim_trap_set() */
uint64_t sim_allocations(const char *role);     /* since the last sim_trap_set() */

/* Places where calls were made since sim_sites_begin(), in the order of their first call. */
struct sim_site {
	const char *function, *role;
	const void *site;
	const int *errors; /* that it may fail with */
	size_t error_count;
};
void sim_sites_begin(void);
const struct sim_site *sim_sites(size_t *ret_count);

/* ---- The network, seen from outside ------------------------------------------------------------ */

struct sim_file;

/* A client. NULL: refused. */
struct sim_file *sim_connect(const struct os_address *to, const struct os_address *from);
/* Bytes in a connection; 0 at the end (receive), -EAGAIN, -EPIPE, -ECONNRESET. */
ssize_t sim_send(struct sim_file *end, const void *bytes, size_t len);
ssize_t sim_receive(struct sim_file *end, void *buf, size_t size);
void sim_half_close(struct sim_file *end);
void sim_reset(struct sim_file *end);              /* and lets go */
void sim_let_go(struct sim_file *end);             /* close(); NULL is fine */
bool sim_is_connected(const struct sim_file *end); /* the other end is held by somebody */
/* An origin. Connections come to it until it is let go; then they are refused. */
struct sim_file *sim_listen(const struct os_address *address);
struct sim_file *sim_accept(struct sim_file *listener); /* NULL: none waits */
/* Datagrams, for a library that makes its own sockets: a process opens one, the driver gets its other end. */
int sim_datagrams_open(int *ret_fd) MUST_CHECK;
struct sim_file *sim_datagrams_accept(void); /* NULL: none was opened since */
/* Of a process that runs, as the C library has them; its descriptors only. */
ssize_t sim_datagram_send(int fd, const void *bytes, size_t len);
ssize_t sim_datagram_receive(int fd, void *buf, size_t size);
/* Of the driver, who lets go of its end by sim_let_go(). 0: the process has closed its own. */
ssize_t sim_datagram_put(struct sim_file *end, const void *bytes, size_t len);
ssize_t sim_datagram_get(struct sim_file *end, void *buf, size_t size);

/* ---- Files and output -------------------------------------------------------------------------- */

/* Folders above are made; a file that is there is replaced, its modification time with it. */
void sim_file_put(const char *path, unsigned mode, struct span text);
void sim_link_put(const char *path, const char *target);
void sim_file_make_cold(const char *path);                  /* nothing of it is in memory */
bool sim_file_get(const char *path, struct span *ret_text); /* until it changes */
/* What processes wrote to descriptor 1 or 2 of the first one. */
struct span sim_output(int number);

/* Memory of the program in the world is asked for here: the link redirects malloc and its kin. */
void *sim_malloc(size_t size);
void *sim_realloc(void *memory, size_t size);
void sim_free(void *memory);
bool sim_owns(const void *memory); /* it came from here */
/* Until `off`: what is asked for is kept for the next time, however much of it is in use (a slab's page). */
void sim_allocations_are_room(bool on);
/* From a library that does not live through want of memory: until `off`, traps do not refuse. */
void sim_spare_allocations(bool on);
