/* dial: names to addresses to connected sockets: the engine of the dialer process.
 *
 * It is the only module that resolves names (c-ares) or connects. Its inputs are the origins of the
 * snapshot, the text of the hosts file and of resolv.conf (it opens no file itself), and questions. A
 * literal address or `localhost` needs no resolver.
 *
 * Of RFC 8305 there is: both families asked for at once; addresses of one wait 50 ms for the other's (3); they are tried
 * by turns, v6 first, or the family by which the name was last reached, for ten minutes (4: one address of the first
 * family, then one of the other); the next one 250 ms after the one before, or at once where that failed (5); the first
 * that connects wins, the others are closed. There is not: addresses that come later than those 50 ms join no attempt
 * that has begun, they are for the next one (3); v6 is waited with for v4 as well; no sorting by RFC 6724 or by measured
 * times (4); no synthesis of NAT64 addresses (7).
 *
 * Only the first question for a name waits for a name server. From then on the name is asked for again whenever its
 * answer's time is over, beside the questions, which are answered from what is known: also while name servers fail,
 * for the limit `dns-stale`. */
#pragma once

#include "os/os.h"

struct dial;
struct dial_attempt; /* one question under way */

/* What an answer of DNS may lead to. What stands in the line itself or in hosts is the operator's word: it is not
 * asked whether it may. */
enum dial_reach {
	DIAL_REACH_INTERNAL, /* a name of no public zone: this machine too; link-local addresses not */
	DIAL_REACH_PUBLIC, /* neither these, nor what we listen on */
	DIAL_REACH_ALL,    /* `allow-local`: all of these */
};

struct dial_origin {
	uint64_t id;
	enum dial_reach reach;
	struct span host; /* name, or address literal without brackets; empty for a unix path */
	struct span unix_path; /* opened by path: the dialer's row allows connecting to it */
	uint16_t port;
};

enum dial_status { /* as enum ipc_dial_status */
		   DIAL_REFUSED = 1,
		   DIAL_UNREACHABLE,
		   DIAL_NO_ADDRESS,
		   DIAL_TIMEOUT,
		   DIAL_FORBIDDEN,
		   DIAL_FAILED,
		   DIAL_QUESTIONS, /* so many names are asked for already: limit `dns-questions` */
};
struct dial_result {
	enum dial_status status; /* 0: connected */
	int fd;                  /* non-blocking; the receiver's */
	struct os_address peer;
	uint32_t connect_us;
	int error_number;
	struct span detail; /* for the log; valid during the call */
};

/* Before the sandbox: c-ares reads what it pleases while it is set up, and nothing after. */
int dial_new(struct os_loop *loop, struct dial **ret_dial) MUST_CHECK;
void dial_free(struct dial *dial);
/* How many sockets attempts may have beyond one each, all together: without room a further address takes the place of
 * the one before it. At first there is no end. */
void dial_set_room(struct dial *dial, size_t further_sockets);
/* New inputs replace the old ones; both texts may be empty. -ENOMEM. */
int dial_set_hosts(struct dial *dial, struct span text) MUST_CHECK;
int dial_set_resolver(struct dial *dial, struct span resolv_conf) MUST_CHECK;
/* Replaces the list; attempts under way go on. Spans are copied. */
int dial_set_origins(struct dial *dial, const struct dial_origin *origins, size_t count) MUST_CHECK;
/* An origin's name has lost addresses: connections to others than these are not to be used any longer. Told again
 * behind an answer with a connection that is to another one all the same: it was under way. Called from the loop and from dial_set_hosts; the list is valid during the call, its ports are 0. */
void dial_on_change(struct dial *dial,
		    void (*on_change)(void *owner, uint64_t origin,
				      const struct os_address *addresses, size_t count),
		    void *owner);
/* An address of this origin's name was refused: told once for each one in a row, from the loop. */
void dial_on_refused(struct dial *dial,
		     void (*on_refused)(void *owner, uint64_t origin,
					const struct os_address *address),
		     void *owner);
/* An answer, or hosts, has more addresses for this origin's name than are used: told each time; `is_first`: the one before
 * had not. From the loop, dial_start and dial_set_hosts. */
void dial_on_cut(struct dial *dial, void (*on_cut)(void *owner, uint64_t origin, bool is_first),
		 void *owner);
/* Where we listen ourselves. -ENOMEM. */
int dial_set_listeners(struct dial *dial, const struct os_address *listeners,
		       size_t count) MUST_CHECK;
/* `on_done` is called once, never from inside this call; the attempt is gone when it returns. 0 or -errno; an
 * unknown origin is answered with DIAL_FAILED. */
int dial_start(struct dial *dial, uint64_t origin, uint32_t timeout_ms,
	       void (*on_done)(void *owner, struct dial_attempt *attempt,
			       const struct dial_result *result),
	       void *owner, struct dial_attempt **ret_attempt) MUST_CHECK;
void dial_cancel(struct dial_attempt *attempt); /* on_done is not called any more */

const char *dial_library_version(void); /* c-ares, for `portcullis version` */
