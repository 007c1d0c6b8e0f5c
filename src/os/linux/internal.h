/* What the files of os/linux share and nobody else sees. */
#pragma once

#ifndef _GNU_SOURCE /* before any other header: so this one comes first everywhere */
#define _GNU_SOURCE
#endif

#include "os/os.h"

/* An interrupted call is begun again: signals come through the loop. */
#define RETRY(call) \
	({ \
		__typeof__(call) result_; \
		do \
			result_ = (call); \
		while (result_ < 0 && errno == EINTR); \
		result_; \
	})

#if defined(__SANITIZE_ADDRESS__)
#define OS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define OS_SANITIZED 1
#endif
#endif
#ifndef OS_SANITIZED
#define OS_SANITIZED 0
#endif

/* ---- timer.c: the wheel of one loop. Six levels of 64 slots of 1 ms, 64 ms, … (two years). - */
enum { WHEEL_LEVELS = 6, WHEEL_SLOTS = 64 };
struct os_wheel {
	uint64_t elapsed;                /* the tick (ms) up to which all was looked at */
	uint64_t occupied[WHEEL_LEVELS]; /* a bit per slot that may hold timers */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
	struct list due; /* fire at the next run */
};
void os_wheel_init(struct os_wheel *wheel, uint64_t now_ns);
void os_wheel_set(struct os_wheel *wheel, struct os_timer *timer, uint64_t deadline_ns);
void os_wheel_run(struct os_wheel *wheel, uint64_t now_ns);
/* When os_wheel_run() has something to look at (perhaps only to sort it again): UINT64_MAX for
 * never. */
uint64_t os_wheel_next_ns(const struct os_wheel *wheel);

/* ---- composed.c: what a loop begins with, in either body. */
struct os_loop_state {
	bool is_stopped, runs_again;
	uint64_t now_ns, wall_ns;
	struct os_wheel wheel;
};

/* ---- address.c */
struct sockaddr_storage;
unsigned os_address_to_native(const struct os_address *address,
			      struct sockaddr_storage *ret_native);
int os_address_from_native(const struct sockaddr_storage *native, unsigned len,
			   struct os_address *ret_address);

/* ---- landlock.c */
unsigned os_landlock_abi(void);
/* Adds what holds and what is missing to *report. */
int os_landlock_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report);

/* ---- calls.c: what a sandbox's filter is made of. */
enum os_call_rule {
	OS_CALL_ALLOW,
	OS_CALL_IF_EQUAL,   /* argument == value */
	OS_CALL_IF_BOTH,    /* that, and second == second_value */
	OS_CALL_IF_NO_BITS, /* (argument & value) == 0 */
	OS_CALL_EPERM,      /* libraries try it and live without it */
};
struct os_call {
	const char *name;
	enum os_call_rule rule;
	unsigned argument;
	uint64_t value;
	unsigned second;
	uint64_t second_value;
};
struct os_call_group {
	const char *name; /* "@base" */
	const struct os_call *calls;
	size_t count;
};
const struct os_call_group *os_call_group_find(const char *name); /* NULL */
extern const struct os_call_group os_calls_base, os_calls_sanitizer;
