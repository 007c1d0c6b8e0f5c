/* The whole program in os/sim, with clients and an origin played by the test, moved by scripts.
 *
 * A script is lines. Blank ones and what stands behind `# ` are left out; `\n` in a text is CRLF.
 *
 *   start                  the program is started (again) and is ready
 *   conf NAME              the text of that name (texts in play.c) becomes the configuration
 *   reload                 SIGHUP, and the change is over
 *   apply NAME [TIME]      `portcullis apply` of the text of that name, with `--confirm TIME`; it has ended
 *   confirm, rollback      the commands
 *   holds NAME…            the configuration's file is one of these, whole, and it is what runs
 *   file PATH TEXT         a document of that text; `file PATH *N`: of N bytes
 *   cold PATH              nothing of it is in memory
 *   origin MODE            answers | silent | closes (after the request) | resets | refuses
 *   resolver MODE          answers | late | silent | fails | knows-not; asked for names of origins (`conf named`)
 *   NAME> TEXT             the client sends; a new name connects plainly, `tls-…` with TLS
 *   NAME>> N               the client sends N bytes of body
 *   NAME< STATUS [TEXT]    its next answer is that, and its body TEXT (`*`: any)
 *   NAME< end              its connection ends
 *   NAME half|close|reset  the client ends its sending half, lets go, or resets
 *   kill ROLE, stop ROLE   SIGKILL, SIGSTOP
 *   fail ROLE CALL ERROR   its next call of that function of os.h fails, once; `failed`: it has
 *   wait SECONDS           of the world's time
 *   trail STAGES END       the way of the last recorded exchange (trail.h), and how it ended: the log's word
 *   stop                   SIGTERM, and every process has ended with 0
 *
 * In a play that is `rough` something was broken on purpose: an answer may be missing (the connection ended
 * first) or an error of ours (5xx), but never a wrong one, and an answer or an end must come; a reload and a
 * start may fail. What may not happen is reported by play_fail(), with the script's line and what the program
 * said. */
#pragma once

#include <openssl/ssl.h>

#include "census.h"

enum { PLAY_CLIENTS_MAX = 64, PLAY_BUFFER = 1 << 17 };

struct play_client {
	char name[16];
	struct sim_file *end; /* NULL: not connected (any more) */
	SSL *ssl;
	bool is_tls, is_over, was_reset, is_slow;
	char *in, *out; /* answers not read yet; requests not sent yet */
	size_t in_len, out_len, out_capacity;
	unsigned answers; /* read whole */
};

enum play_origin_mode { ORIGIN_ANSWERS, ORIGIN_SILENT, ORIGIN_CLOSES, ORIGIN_RESETS };

struct play_origin_connection {
	struct sim_file *end;
	char *in, *out;
	size_t in_len, out_len, out_at;
	unsigned requests;
};

enum play_resolver_mode {
	RESOLVER_ANSWERS,
	RESOLVER_LATE,
	RESOLVER_SILENT,
	RESOLVER_FAILS,
	RESOLVER_KNOWS_NOT
};

struct play_reply {
	uint64_t due_ns;
	size_t len;
	char bytes[600];
};

struct play_resolver_end {
	struct sim_file *end; /* NULL: free */
	struct play_reply replies[8];
	size_t reply_count;
};

struct play {
	uint64_t seed;
	unsigned cpus;
	const char *what, *script; /* this case, for reports; script: NULL or what is being run */
	bool is_rough;
	size_t line;
	int supervisor;
	unsigned starts, readies;
	int commanded; /* exit code of the last command; below 0: it was killed */
	struct play_client clients[PLAY_CLIENTS_MAX];
	size_t client_count;
	char failing[48]; /* the function of `fail` */
	struct sim_file *origin;
	enum play_origin_mode origin_mode;
	struct play_origin_connection origins[64];
	uint64_t origin_requests;
	enum play_resolver_mode resolver_mode;
	struct play_resolver_end resolver_ends[8];
	void (*on_poll)(struct play *play);
	void *owner;
};

/* A test program: TAP on standard output. What fails ends the program with a report. */
struct play_test {
	const char *name;
	void (*run)(void);
};
#define PLAY_TEST(function) \
	{ \
#function, function \
	}
int play_main(const struct play_test *tests, size_t count);
void play_note(const char *format, ...) PRINTF_LIKE(1, 2); /* a line of TAP's comments */

/* Once for each test program: hooks of the library's memory, and everything in it that is made once. */
void play_library_start(void);
void play_library_switched(void);

/* A world without a process. `interrupts` as in sim_options. */
void play_open(struct play *play, uint64_t seed, unsigned cpus, unsigned interrupts);
void play_close(struct play *play);
void play_run(struct play *play, const char *script);
/* Until nothing but heartbeats happens: so long that hung processes were replaced. */
void play_settle(struct play *play);
/* Until connections that nobody uses have ended, those to origins too. */
void play_rest(struct play *play);
void play_holds(struct play *play, struct span names); /* the line of a script */
void play_wait(struct play *play, double seconds);
NORETURN void play_fail(struct play *play, const char *format, ...) PRINTF_LIKE(2, 3);

struct play_client *play_client(struct play *play, const char *name); /* connects where it is new */
void play_send(struct play *play, struct play_client *client, struct span text);
void play_poll(struct play *play);
/* Status of a whole answer at the start of what came, its body and length; 0: not whole yet. */
int play_answer(const struct play_client *client, struct span *ret_body, size_t *ret_len);
void play_answer_done(struct play_client *client, size_t len);
void play_drop(struct play_client *client);
void play_drop_all(struct play *play);

/* What holds whenever the world is at rest: every process is there and none stopped, a plain, a TLS, a
 * document's and a proxied request succeed, and each role has exactly the descriptors and the memory in use that
 * `base` says. Of several workers each has served each of those requests before: what they keep for the next time
 * (documents, a key) all have. */
struct play_base {
	size_t descriptors[8], processes;
	struct census uses[8];
	bool may_lack_a_copy; /* the vault, of a listener or counters: it had no memory for it */
};
void play_take_base(struct play *play, struct play_base *ret_base);
void play_check(struct play *play, const struct play_base *bases, size_t count); /* one of these */
extern const char *const play_roles[8];
