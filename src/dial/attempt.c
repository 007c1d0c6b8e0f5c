#include "dial/dial.h"

#include <string.h>

#include "dial/dial_internal.h"

enum {
	NEXT_ADDRESS_MS = 250, /* RFC 8305, 5 */
	UNIX_RETRY_MS = 10,
};

enum attempt_step { RESOLVING, CONNECTING, ENDING };

struct attempt_try {
	struct os_watch watch;
	struct dial_attempt *attempt;
	int fd; /* -1: not under way */
	uint64_t started_ns;
};

struct dial_attempt {
	struct list link;    /* of dial->attempts */
	struct list waiting; /* of name->waiters */
	struct dial *dial;
	struct dial_name *name; /* NULL: a literal; held until the end */
	void (*on_done)(void *owner, struct dial_attempt *attempt,
			const struct dial_result *result);
	void *owner;
	enum attempt_step step;
	bool is_starting; /* inside dial_start: nobody may be told yet */
	struct os_timer deadline, next;
	struct os_address literal;
	struct dial_ips ips; /* of a name, in the order in which they are tried */
	uint16_t port;
	bool is_guarded; /* it may not lead to our own listeners */
	size_t count, at, live;
	struct attempt_try tries[DIAL_ADDRESSES_MAX];
	/* What to say when nothing comes of it. */
	enum dial_status status;
	int error_number;
	size_t failed_index;
	const char *why;
};

static void try_next(struct dial_attempt *attempt);

struct list *dial_attempt_waiting(struct dial_attempt *attempt)
{
	return &attempt->waiting;
}

struct dial_attempt *dial_attempt_of(struct list *waiting)
{
	return LIST_ITEM(waiting, struct dial_attempt, waiting);
}

void dial_attempts_end(struct dial *dial)
{
	LIST_EACH(&dial->attempts, node)
		dial_cancel(LIST_ITEM(node, struct dial_attempt, link));
}

static struct os_address address_of(const struct dial_attempt *attempt, size_t index)
{
	struct os_address address = { .port = attempt->port };
	const struct dial_ip *ip = &attempt->ips.list[index];

	if (!attempt->name)
		return attempt->literal;
	address.family = ip->family;
	address.scope = ip->scope;
	memcpy(address.ip, ip->ip, sizeof(address.ip));
	return address;
}

/* ---- Sockets ------------------------------------------------------------------------------------------- */

static void try_opened(struct dial_attempt *attempt, struct attempt_try *try, int fd)
{
	try->fd = fd;
	if (attempt->live++)
		attempt->dial->further++;
}

/* Its descriptor is the caller's from here. */
static int try_take(struct attempt_try *try)
{
	struct dial_attempt *attempt = try->attempt;

	os_watch_remove(&try->watch);
	if (--attempt->live)
		attempt->dial->further--;
	return TAKE_FD(try->fd);
}

/* ---- The end ------------------------------------------------------------------------------------------- */

static void stop(struct dial_attempt *attempt)
{
	os_timer_stop(&attempt->deadline);
	os_timer_stop(&attempt->next);
	for (size_t i = 0; i < attempt->at; i++) {
		if (attempt->tries[i].fd >= 0)
			os_close(try_take(&attempt->tries[i]));
	}
}

static void attempt_free(struct dial_attempt *attempt)
{
	stop(attempt);
	list_remove(&attempt->link);
	list_remove(&attempt->waiting);
	dial_name_unref(attempt->name);
	heap_free(attempt);
}

void dial_cancel(struct dial_attempt *attempt)
{
	attempt_free(attempt);
}

static struct span write_detail(const struct dial_attempt *attempt, struct writer *writer)
{
	struct os_address address;

	if (attempt->why) {
		if (attempt->name) {
			write_span(writer, attempt->name->text);
			write_str(writer, ": ");
		}
		write_str(writer, attempt->why);
	} else {
		address = address_of(attempt, attempt->failed_index);
		os_address_write(&address, writer);
	}
	return writer_done(writer);
}

/* It was being connected to while its name lost it. */
static bool is_old(const struct dial_attempt *attempt, const struct os_address *peer)
{
	struct dial_ip ip = { .family = peer->family, .scope = peer->scope };

	memcpy(ip.ip, peer->ip, sizeof(ip.ip));
	return attempt->name && !dial_name_has(attempt->name, &ip);
}

static void tell(struct dial_attempt *attempt, struct dial_result *result)
{
	char detail[DIAL_DETAIL_MAX + DIAL_NAME_MAX];
	struct writer writer = writer_of(detail, sizeof(detail));

	if (result->status)
		result->detail = span_first(write_detail(attempt, &writer), DIAL_DETAIL_MAX);
	stop(attempt);
	attempt->on_done(attempt->owner, attempt, result);
	if (!result->status && is_old(attempt, &result->peer))
		dial_name_tell(attempt->name);
	attempt_free(attempt);
}

static void tell_failure(struct dial_attempt *attempt)
{
	struct dial_result result = {
		.status = attempt->status,
		.fd = -1,
		.error_number = attempt->error_number,
	};

	tell(attempt, &result);
}

static void fail(struct dial_attempt *attempt, enum dial_status status, int error_number,
		 const char *why)
{
	attempt->status = status;
	attempt->error_number = error_number;
	attempt->why = why;
	if (!attempt->is_starting) {
		tell_failure(attempt);
		return;
	}
	attempt->step = ENDING;
	os_timer_stop(&attempt->deadline);
	os_timer_set(attempt->dial->loop, &attempt->next, os_loop_now_ns(attempt->dial->loop));
}

static void succeed(struct dial_attempt *attempt, struct attempt_try *try)
{
	uint64_t now_ns = os_now_ns();
	struct dial_result result = {
		.peer = address_of(attempt, (size_t)(try - attempt->tries)),
		.connect_us = (uint32_t)((now_ns - try->started_ns) / 1000),
	};

	if (attempt->name)
		dial_name_reached(attempt->name, result.peer.family);
	result.fd = try_take(try);
	tell(attempt, &result);
}

/* ---- Addresses, one after the other -------------------------------------------------------------------- */

static enum dial_status status_of(int failed, const struct os_address *address)
{
	switch (-failed) {
	case ECONNREFUSED:
	case ECONNRESET:
		return DIAL_REFUSED;
	case ETIMEDOUT:
		return DIAL_TIMEOUT;
	case ELOOP:
		return DIAL_FORBIDDEN;
	case EADDRNOTAVAIL:
		/* Every local port is taken; for v6 more likely: there is none here. */
		return address->family == OS_FAMILY_V4 ? DIAL_FAILED : DIAL_UNREACHABLE;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		return DIAL_FAILED;
	default:
		return DIAL_UNREACHABLE;
	}
}

/* Of several addresses the one that says most: somebody was there and said no. */
static int weight_of(enum dial_status status)
{
	switch (status) {
	case DIAL_REFUSED:
		return 4;
	case DIAL_TIMEOUT:
		return 3;
	case DIAL_FAILED:
		return 2;
	case DIAL_UNREACHABLE:
		return 1;
	case DIAL_NO_ADDRESS:
	case DIAL_FORBIDDEN:
	case DIAL_QUESTIONS:
	default:
		return 0;
	}
}

static void note_failure(struct dial_attempt *attempt, size_t index, int failed)
{
	struct os_address address = address_of(attempt, index);
	enum dial_status status = status_of(failed, &address);

	if (attempt->status && weight_of(attempt->status) >= weight_of(status))
		return;
	attempt->status = status;
	attempt->error_number = -failed;
	attempt->failed_index = index;
}

/* A port of the range that the kernel gives to clients may, without a listener, be connected to itself. */
static bool is_itself(int fd)
{
	struct os_address local, peer;

	return os_socket_local(fd, &local) == 0 && os_socket_peer(fd, &peer) == 0 &&
	       local.family != OS_FAMILY_UNIX && os_address_equal(&local, &peer);
}

static void on_try_ready(struct os_watch *watch, unsigned now)
{
	struct attempt_try *try = CONTAINER_OF(watch, struct attempt_try, watch);
	struct dial_attempt *attempt = try->attempt;
	int failed = os_socket_error(try->fd);

	if (!failed && !(now & (OS_WRITABLE | OS_HANGUP | OS_ERROR)))
		return;
	if (!failed && (!(now & OS_WRITABLE) || is_itself(try->fd)))
		failed = -ECONNREFUSED;
	if (!failed) {
		succeed(attempt, try);
		return;
	}
	note_failure(attempt, (size_t)(try - attempt->tries), failed);
	os_close(try_take(try));
	try_next(attempt);
}

/* An address is this machine's when it is its own way there. What listens there for all addresses, or for this one, is
 * asked by us for ever. */
static bool is_our_own(const struct dial *dial, int fd, const struct os_address *address)
{
	static const uint8_t any[16];
	struct os_address local;

	if (os_socket_local(fd, &local) || local.family != address->family ||
	    memcmp(local.ip, address->ip, sizeof(local.ip)) != 0)
		return false;
	for (size_t i = 0; i < dial->listener_count; i++) {
		const struct os_address *listener = &dial->listeners[i];

		if (listener->port == address->port &&
		    (memcmp(listener->ip, any, sizeof(any)) == 0 ||
		     memcmp(listener->ip, address->ip, sizeof(any)) == 0))
			return true;
	}
	return false;
}

static int try_start(struct dial_attempt *attempt, size_t index)
{
	struct attempt_try *try = &attempt->tries[index];
	struct os_address address = address_of(attempt, index);
	OS_AUTO_FD fd = -1;
	int failed = os_connect(&address, &fd);

	if (failed)
		return failed;
	if (attempt->is_guarded && is_our_own(attempt->dial, fd, &address)) {
		dial_name_refuse(attempt->name, &attempt->ips.list[index]);
		return -ELOOP;
	}
	try->attempt = attempt;
	try->started_ns = os_now_ns();
	try->watch.on_ready = on_try_ready;
	failed = os_watch_add(attempt->dial->loop, &try->watch, fd, OS_WATCH_EDGE);
	if (failed)
		return failed;
	try_opened(attempt, try, TAKE_FD(fd));
	return 0;
}

/* The first that was begun, and has been silent for longest. */
static void give_up_one(struct dial_attempt *attempt)
{
	size_t index = 0;

	while (attempt->tries[index].fd < 0)
		index++;
	note_failure(attempt, index, -ETIMEDOUT);
	os_close(try_take(&attempt->tries[index]));
}

static void step_in(struct dial_attempt *attempt, uint64_t ms)
{
	os_timer_set(attempt->dial->loop, &attempt->next,
		     os_loop_now_ns(attempt->dial->loop) + ms * OS_MS);
}

static void try_next(struct dial_attempt *attempt)
{
	os_timer_stop(&attempt->next);
	while (attempt->at < attempt->count) {
		size_t index = attempt->at++;
		int failed;

		attempt->tries[index].fd = -1;
		if (attempt->live && attempt->dial->further >= attempt->dial->further_max)
			give_up_one(attempt);
		failed = try_start(attempt, index);
		if (!failed) {
			if (attempt->at < attempt->count)
				step_in(attempt, NEXT_ADDRESS_MS);
			return;
		}
		/* A unix socket whose queue is full does not say "under way", it says "not now". */
		if (failed == -EAGAIN) {
			attempt->at--;
			step_in(attempt, UNIX_RETRY_MS);
			return;
		}
		note_failure(attempt, index, failed);
	}
	if (!attempt->live)
		fail(attempt, attempt->status, attempt->error_number, NULL);
}

static void connect_to(struct dial_attempt *attempt, const struct dial_ips *ips)
{
	attempt->step = CONNECTING;
	dial_ips_interleave(ips, dial_name_first_family(attempt->name), &attempt->ips);
	attempt->count = ips->count;
	attempt->is_guarded = attempt->name->reach == DIAL_REACH_PUBLIC && !ips->is_ours;
	try_next(attempt);
}

/* ---- Start --------------------------------------------------------------------------------------------- */

void dial_attempt_resolved(struct dial_attempt *attempt, const struct dial_ips *ips,
			   enum dial_status status, const char *why)
{
	list_remove(&attempt->waiting);
	if (ips)
		connect_to(attempt, ips);
	else
		fail(attempt, status, 0, why);
}

static void on_next(struct os_timer *timer)
{
	struct dial_attempt *attempt = CONTAINER_OF(timer, struct dial_attempt, next);

	switch (attempt->step) {
	case RESOLVING: /* waits for its name alone */
		return;
	case CONNECTING:
		try_next(attempt);
		return;
	case ENDING:
		tell_failure(attempt);
		return;
	}
}

static void on_deadline(struct os_timer *timer)
{
	struct dial_attempt *attempt = CONTAINER_OF(timer, struct dial_attempt, deadline);

	if (attempt->step == RESOLVING) {
		fail(attempt, DIAL_NO_ADDRESS, ETIMEDOUT, "no name server answered in time");
		return;
	}
	attempt->failed_index = attempt->at ? attempt->at - 1 : 0;
	fail(attempt, DIAL_TIMEOUT, ETIMEDOUT, NULL);
}

static void resolve(struct dial_attempt *attempt)
{
	struct dial_ips ips;
	const char *why = NULL;
	int outcome = dial_name_resolve(attempt->name, attempt, &ips, &why);

	if (!outcome)
		connect_to(attempt, &ips);
	else if (outcome != -EAGAIN)
		fail(attempt, (enum dial_status)outcome, 0, why);
}

int dial_start(struct dial *dial, uint64_t origin, uint32_t timeout_ms,
	       void (*on_done)(void *owner, struct dial_attempt *attempt,
			       const struct dial_result *result),
	       void *owner, struct dial_attempt **ret_attempt)
{
	const struct dial_entry *entry = dial_entry_find(dial, origin);
	struct dial_attempt *attempt = heap_alloc(sizeof(*attempt));

	if (!attempt)
		return -ENOMEM;
	attempt->dial = dial;
	attempt->on_done = on_done;
	attempt->owner = owner;
	attempt->deadline.on_due = on_deadline;
	attempt->next.on_due = on_next;
	attempt->is_starting = true;
	list_push_back(&dial->attempts, &attempt->link);
	os_timer_set(dial->loop, &attempt->deadline,
		     os_loop_now_ns(dial->loop) + timeout_ms * OS_MS);
	*ret_attempt = attempt;
	if (!entry) {
		fail(attempt, DIAL_FAILED, 0, "an origin that the dialer does not know");
	} else if (entry->is_literal) {
		attempt->literal = entry->address;
		attempt->step = CONNECTING;
		attempt->count = 1;
		try_next(attempt);
	} else {
		attempt->name = entry->name;
		attempt->name->references++;
		attempt->port = entry->port;
		resolve(attempt);
	}
	attempt->is_starting = false;
	return 0;
}
