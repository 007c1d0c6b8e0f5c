/* balance: which of several origins takes a request. An engine: no I/O, no clock, no log.
 *
 * Two things with two lifetimes. A struct balance_origin is what is known of one origin: how much it has to do, whether
 * it answers. It belongs to whoever keeps origins by id, survives every change of the configuration, and is shared by
 * all groups that name the origin. A struct balance is one group of a configuration with its method; it lives in the
 * caller's arena and points to its origins.
 *
 * Times are nanoseconds of one steady clock, given with each call. Nothing here fails once a group is made. */
#pragma once

#include "base/base.h"

enum balance_method {
	BALANCE_ROUND_ROBIN, /* smooth weighted: 5,1,1 gives a a b a c a a */
	BALANCE_LEAST_CONN,  /* the fewest under way for its weight; equal ones take turns */
	BALANCE_RANDOM,      /* two at random, by weight; of these the one with fewer under way */
	BALANCE_HASH, /* the caller's key: consistent, so that a lost origin moves only its own keys */
};

/* What the operator said of an origin. */
enum balance_order {
	BALANCE_UP,    /* nothing: checks and requests decide */
	BALANCE_DRAIN, /* no new requests */
	BALANCE_DOWN,  /* the same; and what is under way is ended, by the caller */
};

struct balance_origin {
	uint64_t id;
	enum balance_order order;
	uint32_t active;    /* requests under way, of the caller's counting */
	uint32_t failures;  /* in a row */
	uint32_t ejections; /* in a row: each lasts longer */
	uint64_t ejected_until_ns;
	/* When it came back: slow start counts from here; 0: it never was away. */
	uint64_t returned_ns;
	bool is_down; /* its checks fail */
};

enum { BALANCE_WEIGHT_MAX = 256, BALANCE_MEMBERS_MAX = 1024 };

struct balance_member {
	struct balance_origin *origin;
	uint32_t weight;     /* 1..BALANCE_WEIGHT_MAX */
	uint32_t active_max; /* 0: no bound */
	bool is_backup;      /* only where none of the others is available */
	int32_t current;     /* balance's own: smooth round robin */
};

struct balance_point {
	uint64_t at;
	uint32_t member;
};

struct balance {
	enum balance_method method;
	struct balance_member *members;
	uint32_t count;
	uint64_t slow_start_ns; /* 0: none */
	/* Failures in a row that eject an origin (0: never), and for how long the first time; each further time in a row
	 * adds as much, up to BALANCE_EJECT_MAX times. */
	uint32_t eject_after;
	uint64_t eject_for_ns;
	struct balance_point *points; /* HASH: the ring, sorted */
	uint32_t point_count;
	uint32_t next;
};

enum { BALANCE_EJECT_MAX = 10 };

/* Members with origin, weight, active_max and is_backup set; all other fields of `balance` are given too. For HASH the
 * ring is made in the arena: it depends on the members' ids and weights alone, not on their order. 0 or -ENOMEM. */
int balance_init(struct balance *balance, struct arena *arena) MUST_CHECK;

enum { BALANCE_NONE = UINT32_MAX, BALANCE_TRIES_MAX = 4 };
/* A request's choices. */
struct balance_choice {
	uint64_t now_ns;
	uint64_t key;    /* HASH: of whatever the configuration says */
	uint64_t random; /* RANDOM: fresh bits */
	/* The client's own member: it is chosen first, a full one and a backup too, as long as it is available. */
	bool has_own;
	uint32_t own;
	/* Where it has been; balance_choose adds what it gives, as long as there is room. */
	uint32_t tried[BALANCE_TRIES_MAX], tried_count;
};

/* The index of the member that takes it, or BALANCE_NONE: nobody is available whom this request has not tried. One that
 * is full (active_max) is passed over for one that is not; where all are full, the one that the method names is given:
 * its queue decides. Backups only where no other member is available (full ones are). */
uint32_t balance_choose(struct balance *balance, struct balance_choice *choice);

/* Whether balance_choose would give anybody. */
bool balance_has_more(const struct balance *balance, const struct balance_choice *choice);

bool balance_is_available(const struct balance_origin *origin, uint64_t now_ns);
/* How the request ended there. A failure is one of the origin's making: no connection, no or a broken answer. True: it
 * was ejected just now. The last available member of a group is not ejected, however it fails: a bad answer is no worse
 * than none. */
bool balance_failed(struct balance *balance, uint32_t member, uint64_t now_ns);
void balance_succeeded(struct balance_origin *origin);
/* What the operator wants. BALANCE_UP forgets an ejection, too, and begins its slow start. */
void balance_set_order(struct balance_origin *origin, enum balance_order order, uint64_t now_ns);
/* What checks found. A return begins its slow start. */
void balance_set_down(struct balance_origin *origin, bool is_down, uint64_t now_ns);

/* ---- Clients that stay with an origin (sticky.c) ----------------------------------------------------------------
 * A client is given a value that means an origin: a MAC of its id under a key of this gateway's. So it says nothing, and
 * nobody can make one for an origin that he was not given. It is the same for all clients of an origin, in all groups.
 * Keys are in a table of shared memory with one writer; any content is legal for a reader. */

enum {
	BALANCE_STICKY_FORMAT = 1,
	BALANCE_STICKY_KEYS = 2, /* a new one makes the values of the one before old, not void */
	BALANCE_STICKY_SECRET = 32,
	BALANCE_STICKY_VALUE = 32, /* bytes of a value: hexadecimal digits */
};
struct balance_sticky_keys {
	uint32_t format;
	uint32_t serial; /* odd while it is being written; goes up by 2 with each change */
	uint32_t count;
	uint32_t unused;
	uint8_t secrets[BALANCE_STICKY_KEYS][BALANCE_STICKY_SECRET]; /* newest first */
};
/* The writer's. Nothing changes where they are there already. */
void balance_sticky_publish(struct balance_sticky_keys *table,
			    const uint8_t secrets[][BALANCE_STICKY_SECRET], size_t count);

/* A group's values, made anew when the table's keys change. */
struct balance_sticky {
	const struct balance *group;
	uint32_t serial, key_count;
	char (*values)[BALANCE_STICKY_KEYS]
		      [BALANCE_STICKY_VALUE]; /* of each member, in the arena */
};
/* 0 or -ENOMEM. The group must live as long. */
int balance_sticky_init(struct balance_sticky *sticky, const struct balance *group,
			struct arena *arena) MUST_CHECK;
/* Before the following: takes over the table's keys. False: there are none, so nobody is kept. */
bool balance_sticky_update(struct balance_sticky *sticky, const struct balance_sticky_keys *table);
/* Whose value this is, the newest key's or an older one's; BALANCE_NONE: of no member. */
uint32_t balance_sticky_find(const struct balance_sticky *sticky, struct span value);
/* What a client of this member is given; valid until the next update. */
struct span balance_sticky_value(const struct balance_sticky *sticky, uint32_t member);
