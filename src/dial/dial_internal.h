/* What the files of dial share. From the question down: an attempt (one question) takes its addresses from
 * a name, a name has them from hosts, from its last answer or from the resolver, which alone knows c-ares. */
#pragma once

#include "dial/dial.h"

enum {
	DIAL_ADDRESSES_MAX = 16, /* of one name; more are left out: limit `dns-addresses` */
	DIAL_LOOKUPS_MAX = 1024, /* names that are asked for at once: limit `dns-questions` */
	DIAL_NAME_MAX = 253,
	DIAL_SERVERS_MAX = 3, /* resolv.conf(5): MAXNS */
	DIAL_DOMAINS_MAX = 8,
	DIAL_NDOTS_MAX = 15,
	DIAL_DETAIL_MAX = 256,
};

struct dial_ip {
	uint8_t family; /* OS_FAMILY_V4, _V6 */
	uint8_t ip[16];
	uint32_t scope;
};
struct dial_ips {
	struct dial_ip list[DIAL_ADDRESSES_MAX];
	size_t count;
	bool is_ours; /* of hosts, or localhost */
	bool is_cut;  /* there was no room for all */
};
void dial_ips_add(struct dial_ips *ips,
		  const struct dial_ip *ip); /* once; without room it is left out */
bool dial_ips_have(const struct dial_ips *ips, const struct dial_ip *ip);
/* By turns, this family first: a dead v6 network must not eat the time of all of v4 (RFC 8305, 4). */
void dial_ips_interleave(const struct dial_ips *ips, uint8_t first_family,
			 struct dial_ips *ret_ips);

/* ---- text.c: hosts and resolv.conf ------------------------------------------------------------------- */

/* The addresses that the text gives a name (lower case, no dot at the end). */
void dial_hosts_find(struct span text, struct span name, struct dial_ips *ret_ips);

struct dial_resolver_config {
	struct os_address servers[DIAL_SERVERS_MAX]; /* port 0: the ordinary one */
	size_t server_count;
	struct span domains[DIAL_DOMAINS_MAX]; /* in the text */
	size_t domain_count;
	uint32_t ndots;
};
void dial_resolver_parse(struct span text, struct dial_resolver_config *ret_config);

/* ---- resolver.c -------------------------------------------------------------------------------------- */

struct dial_resolver;
struct dial_lookup;

struct dial_reply {
	const struct dial_ips *ips; /* NULL: `why` says what is wrong */
	uint32_t ttl_s;
	bool is_last;          /* false: the other family's answer is still to come */
	uint8_t failed_family; /* OS_FAMILY_*: one that nobody could say anything of; 0: none */
	bool is_forbidden;     /* there are addresses, but none that may be connected to */
	const struct dial_ip *refused; /* one of those that may not; NULL: there are none */
	const char *why;
};

int dial_resolver_new(struct os_loop *loop, struct dial_resolver **ret_resolver) MUST_CHECK;
void dial_resolver_free(struct dial_resolver *resolver); /* lookups under way are forgotten */
/* Lookups under way begin anew with the new servers. -ENOMEM: nothing changed. */
int dial_resolver_set(struct dial_resolver *resolver, struct span resolv_conf) MUST_CHECK;
/* `on_reply` is called one or several times, the last one with is_last, never from in here. NULL without
 * memory, or where too many are under way. `name` must stay as long. */
struct dial_lookup *dial_lookup_start(struct dial_resolver *resolver, struct span name,
				      enum dial_reach reach,
				      void (*on_reply)(void *owner, const struct dial_reply *reply),
				      void *owner);
bool dial_resolver_is_full(const struct dial_resolver *resolver);
void dial_lookup_forget(
	struct dial_lookup *lookup); /* on_reply is not called any more; NULL is fine */

/* ---- name.c ------------------------------------------------------------------------------------------ */

struct dial_name {
	struct dial *dial;
	uint64_t key;
	enum dial_reach reach;
	struct span text;    /* lower case, no dot at the end; its own copy */
	uint32_t references; /* of origins and of attempts that wait */
	struct list waiters;
	struct dial_lookup *lookup;
	uint64_t hosts_serial; /* of the hosts text that `hosts` is of */
	struct dial_ips hosts;
	struct dial_ips good;   /* the last answer that had addresses */
	struct dial_ip refused; /* the one that was told last; no family: none was */
	struct dial_ips told;   /* what connections may be to, as far as dial's owner knows */
	uint64_t fresh_until_ns, good_until_ns;
	uint64_t v6_until_ns,
		v4_until_ns; /* how long what one family has may stay without an answer */
	struct os_timer refresh;
	uint32_t failure_count;  /* in a row */
	uint64_t quiet_until_ns; /* after a failure: no new lookup before */
	enum dial_status failed; /* of the last lookup; 0: it was good */
	const char *why;
	bool is_cut;         /* the last answer was */
	uint8_t good_family; /* by which it was reached last, until good_family_ns */
	uint64_t good_family_ns;
};

/* One for each reach. NULL without memory. */
struct dial_name *dial_name_ref(struct dial *dial, struct span text, enum dial_reach reach);
void dial_name_unref(struct dial_name *name); /* NULL is fine */
/* Answers now (0, or a status and its reason) or -EAGAIN: dial_attempt_resolved() will be called. */
int dial_name_resolve(struct dial_name *name, struct dial_attempt *attempt,
		      struct dial_ips *ret_ips, const char **ret_why) MUST_CHECK;
/* The hosts text is another one. */
void dial_name_hosts_changed(struct dial_name *name);
void dial_name_tell(struct dial_name *name); /* on_change, of all origins that have it */
void dial_name_refuse(struct dial_name *name, const struct dial_ip *ip); /* on_refused, once */
/* The family to begin with, and what came of it. */
uint8_t dial_name_first_family(const struct dial_name *name);
void dial_name_reached(struct dial_name *name, uint8_t family);
/* False: connections to this address are not to be used again. */
bool dial_name_has(const struct dial_name *name, const struct dial_ip *ip);

/* ---- attempt.c --------------------------------------------------------------------------------------- */

struct dial_entry { /* an origin */
	uint64_t id;
	uint16_t port;
	bool is_literal;
	struct os_address address; /* of a literal or a unix path */
	struct dial_name *name;    /* else */
};

/* ips NULL: status and why. */
void dial_attempt_resolved(struct dial_attempt *attempt, const struct dial_ips *ips,
			   enum dial_status status, const char *why);
struct list *dial_attempt_waiting(struct dial_attempt *attempt); /* its node in name->waiters */
struct dial_attempt *dial_attempt_of(struct list *waiting);
void dial_attempts_end(struct dial *dial); /* cancels all */

struct dial {
	struct os_loop *loop;
	struct dial_resolver *resolver;
	struct map origins; /* id → struct dial_entry */
	struct map names;   /* hash of text → struct dial_name */
	struct list attempts;
	size_t further, further_max; /* sockets beyond one of each attempt */
	struct span hosts;           /* its own copy */
	uint64_t hosts_serial;
	void (*on_change)(void *owner, uint64_t origin, const struct os_address *addresses,
			  size_t count);
	void *owner;
	void (*on_refused)(void *owner, uint64_t origin, const struct os_address *address);
	void *refused_owner;
	void (*on_cut)(void *owner, uint64_t origin, bool is_first);
	void *cut_owner;
	struct os_address *listeners;
	size_t listener_count;
};
const struct dial_entry *dial_entry_find(const struct dial *dial, uint64_t id);
