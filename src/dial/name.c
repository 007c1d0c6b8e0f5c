#include "dial/dial.h"

#include <string.h>

#include "dial/dial_internal.h"

#define DIAL_STALE_NS (24 * 3600 * OS_SECOND) /* how long a good answer outlives its time */
enum { DIAL_QUIET_MS = 1000 };

struct dial_name *dial_name_ref(struct dial *dial, struct span text)
{
	struct dial_name *name;
	uint64_t key;

	key = hash_id(text);
	name = map_get(&dial->names, key);
	if (name) {
		if (!span_equal(name->text, text))
			return NULL;
		name->references++;
		return name;
	}
	name = heap_alloc(sizeof(*name) + text.len);
	if (!name || map_set(&dial->names, key, name)) {
		heap_free(name);
		return NULL;
	}
	name->dial = dial;
	name->key = key;
	name->references = 1;
	if (text.len)
		memcpy(name + 1, text.ptr, text.len);
	name->text = span_of(name + 1, text.len);
	list_init(&name->waiters);
	return name;
}

void dial_name_unref(struct dial_name *name)
{
	if (!name || --name->references)
		return;
	dial_lookup_forget(name->lookup);
	map_remove(&name->dial->names, name->key);
	heap_free(name);
}

bool dial_name_is_known(const struct dial_name *name, struct dial_ips *ret_ips)
{
	if (!name->good.count || os_loop_now_ns(name->dial->loop) >= name->good_until_ns)
		return false;
	*ret_ips = name->good;
	return true;
}

static void wake_waiters(struct dial_name *name)
{
	struct dial_ips ips;
	bool is_known = dial_name_is_known(name, &ips);

	/* Not a walk: whoever is told may cancel the next one. None of them waits here again: the answer is
	 * fresh, or there is a pause before the next lookup. */
	while (!list_is_empty(&name->waiters)) {
		struct list *node = name->waiters.next;

		dial_attempt_resolved(dial_attempt_of(node), is_known ? &ips : NULL, name->failed,
				      name->why);
	}
}

static void on_reply(void *owner, const struct dial_reply *reply)
{
	struct dial_name *name = owner;
	uint64_t now_ns = os_loop_now_ns(name->dial->loop);

	if (reply->is_last)
		name->lookup = NULL;
	if (reply->ips) {
		name->good = *reply->ips;
		name->fresh_until_ns = now_ns + reply->ttl_s * OS_SECOND;
		name->good_until_ns = name->fresh_until_ns + DIAL_STALE_NS;
		name->failed = 0;
	} else {
		name->failed = reply->is_forbidden ? DIAL_FORBIDDEN : DIAL_NO_ADDRESS;
		name->why = reply->why;
		name->quiet_until_ns = now_ns + DIAL_QUIET_MS * OS_MS;
	}
	name->references++; /* it must not go while its waiters are told */
	wake_waiters(name);
	dial_name_unref(name);
}

static bool is_localhost(struct span name)
{
	return span_equal(name, SPAN("localhost")) || span_ends_with(name, SPAN(".localhost"));
}

/* Hosts first; what it says of localhost counts too (RFC 6761, 6.3 for who it says nothing). */
static bool find_local(struct dial_name *name, struct dial_ips *ret_ips)
{
	static const struct dial_ip loopbacks[] = { { .family = OS_FAMILY_V6, .ip = { [15] = 1 } },
						    { .family = OS_FAMILY_V4,
						      .ip = { 127, 0, 0, 1 } } };
	const struct dial *dial = name->dial;

	if (name->hosts_serial != dial->hosts_serial) {
		dial_hosts_find(dial->hosts, name->text, &name->hosts);
		name->hosts_serial = dial->hosts_serial;
	}
	*ret_ips = name->hosts;
	if (!ret_ips->count && is_localhost(name->text)) {
		for (size_t i = 0; i < ARRAY_LEN(loopbacks); i++)
			dial_ips_add(ret_ips, &loopbacks[i]);
	}
	return ret_ips->count > 0;
}

int dial_name_resolve(struct dial_name *name, struct dial_attempt *attempt,
		      struct dial_ips *ret_ips, const char **ret_why)
{
	uint64_t now_ns = os_loop_now_ns(name->dial->loop);
	bool is_known;

	if (find_local(name, ret_ips))
		return 0;
	is_known = dial_name_is_known(name, ret_ips);
	if (is_known && now_ns < name->fresh_until_ns)
		return 0;
	if (!name->lookup && now_ns >= name->quiet_until_ns)
		name->lookup = dial_lookup_start(name->dial->resolver, name->text, on_reply, name);
	/* While resolving fails nobody waits for it who need not. */
	if (is_known && (name->failed || !name->lookup))
		return 0;
	if (!name->lookup) {
		*ret_why = name->failed ? name->why : "out of memory";
		return name->failed ? (int)name->failed : (int)DIAL_FAILED;
	}
	list_push_back(&name->waiters, dial_attempt_waiting(attempt));
	return -EAGAIN;
}
