#include "dial/dial.h"

#include <string.h>

#include "dial/dial_internal.h"
#include "telemetry/telemetry.h"

enum {
	/* Beside the questions nobody is asked more often than this, whatever the TTL. */
	REFRESH_MIN_MS = 1000,
	QUIET_MS = 1000, /* after a failure; twice as long after each further one */
	QUIET_DOUBLINGS = 5,
	/* Then v6 gets its chance again: the network that ate its packets may be mended. */
	GOOD_FAMILY_MS = 10 * 60 * 1000,
};

static void on_refresh(struct os_timer *timer);

struct dial_name *dial_name_ref(struct dial *dial, struct span text, enum dial_reach reach)
{
	struct dial_name *name;
	uint64_t key;

	key = hash_id(text) ^ reach;
	name = map_get(&dial->names, key);
	if (name) {
		if (!span_equal(name->text, text) || name->reach != reach)
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
	name->reach = reach;
	name->references = 1;
	if (text.len)
		memcpy(name + 1, text.ptr, text.len);
	name->text = span_of(name + 1, text.len);
	list_init(&name->waiters);
	name->refresh.on_due = on_refresh;
	return name;
}

void dial_name_unref(struct dial_name *name)
{
	if (!name || --name->references)
		return;
	os_timer_stop(&name->refresh);
	dial_lookup_forget(name->lookup);
	map_remove(&name->dial->names, name->key);
	heap_free(name);
}

static bool is_known(const struct dial_name *name, struct dial_ips *ret_ips)
{
	if (!name->good.count || os_loop_now_ns(name->dial->loop) >= name->good_until_ns)
		return false;
	*ret_ips = name->good;
	return true;
}

static void wake_waiters(struct dial_name *name)
{
	struct dial_ips ips;
	bool has_ips = is_known(name, &ips);

	/* Not a walk: whoever is told may cancel the next one. None of them waits here again: something is
	 * known, or there is a pause before the next lookup. */
	while (!list_is_empty(&name->waiters)) {
		struct list *node = name->waiters.next;

		dial_attempt_resolved(dial_attempt_of(node), has_ips ? &ips : NULL, name->failed,
				      name->why);
	}
}

static void note_cut(struct dial_name *name, bool is_cut)
{
	struct dial *dial = name->dial;
	bool is_first = is_cut && !name->is_cut;
	struct dial_entry *entry;
	size_t cursor = 0;
	uint64_t id;

	name->is_cut = is_cut;
	if (!is_cut || !dial->on_cut)
		return;
	while ((entry = map_next(&dial->origins, &cursor, &id)))
		if (entry->name == name)
			dial->on_cut(dial->cut_owner, id, is_first);
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
		if (name->hosts.count)
			note_cut(name, name->hosts.is_cut);
	}
	*ret_ips = name->hosts;
	if (!ret_ips->count && is_localhost(name->text)) {
		for (size_t i = 0; i < ARRAY_LEN(loopbacks); i++)
			dial_ips_add(ret_ips, &loopbacks[i]);
	}
	ret_ips->is_ours = true;
	return ret_ips->count > 0;
}

/* ---- What connections may be to ------------------------------------------------------------------------ */

void dial_name_tell(struct dial_name *name)
{
	struct dial *dial = name->dial;
	struct os_address addresses[DIAL_ADDRESSES_MAX];
	struct dial_entry *entry;
	size_t cursor = 0;
	uint64_t id;

	if (!dial->on_change)
		return;
	for (size_t i = 0; i < name->told.count; i++) {
		const struct dial_ip *ip = &name->told.list[i];

		addresses[i] = (struct os_address){ .family = ip->family, .scope = ip->scope };
		memcpy(addresses[i].ip, ip->ip, sizeof(ip->ip));
	}
	while ((entry = map_next(&dial->origins, &cursor, &id)))
		if (entry->name == name)
			dial->on_change(dial->owner, id, addresses, name->told.count);
}

void dial_name_refuse(struct dial_name *name, const struct dial_ip *ip)
{
	struct dial *dial = name->dial;
	struct os_address address = { .family = ip->family, .scope = ip->scope };
	struct dial_entry *entry;
	size_t cursor = 0;
	uint64_t id;

	if (!dial->on_refused || (name->refused.family == ip->family &&
				  memcmp(name->refused.ip, ip->ip, sizeof(ip->ip)) == 0))
		return;
	name->refused = *ip;
	memcpy(address.ip, ip->ip, sizeof(ip->ip));
	while ((entry = map_next(&dial->origins, &cursor, &id)))
		if (entry->name == name)
			dial->on_refused(dial->refused_owner, id, &address);
}

/* Nothing is told where nothing is known now: what there was may still be right. */
static void settle(struct dial_name *name)
{
	struct dial_ips was = name->told, now;
	size_t kept = 0;

	if (!find_local(name, &now) && !is_known(name, &now))
		return;
	name->told = now;
	for (size_t i = 0; i < was.count; i++)
		kept += dial_ips_have(&now, &was.list[i]);
	if (kept < was.count)
		dial_name_tell(name);
}

void dial_name_hosts_changed(struct dial_name *name)
{
	/* One that nobody asked for has no connections; reading a long text for it can wait. */
	if (name->told.count)
		settle(name);
}

bool dial_name_has(const struct dial_name *name, const struct dial_ip *ip)
{
	return dial_ips_have(&name->told, ip);
}

uint8_t dial_name_first_family(const struct dial_name *name)
{
	if (name->good_family && os_loop_now_ns(name->dial->loop) < name->good_family_ns)
		return name->good_family;
	return OS_FAMILY_V6;
}

void dial_name_reached(struct dial_name *name, uint8_t family)
{
	uint64_t now_ns = os_loop_now_ns(name->dial->loop);

	/* Not by each connection anew: a busy name would never try v6 again. */
	if (name->good_family == family && now_ns < name->good_family_ns)
		return;
	name->good_family = family;
	name->good_family_ns = now_ns + GOOD_FAMILY_MS * OS_MS;
}

/* ---- Answers ------------------------------------------------------------------------------------------- */

/* That nobody could say anything of one family is no reason to forget it. */
static void take(struct dial_name *name, const struct dial_reply *reply, uint64_t now_ns)
{
	uint64_t stale_ns = telemetry_limits[TELEMETRY_LIMIT_DNS_STALE].value;
	uint64_t kept_until_ns = reply->failed_family == OS_FAMILY_V6   ? name->v6_until_ns
				 : reply->failed_family == OS_FAMILY_V4 ? name->v4_until_ns
									: 0;
	struct dial_ips was = name->good;

	name->good = *reply->ips;
	for (size_t i = 0; i < was.count && now_ns < kept_until_ns; i++)
		if (was.list[i].family == reply->failed_family)
			dial_ips_add(&name->good, &was.list[i]);
	name->fresh_until_ns = now_ns + reply->ttl_s * OS_SECOND;
	name->good_until_ns = name->fresh_until_ns + stale_ns;
	if (reply->failed_family != OS_FAMILY_V6)
		name->v6_until_ns = name->good_until_ns;
	if (reply->failed_family != OS_FAMILY_V4)
		name->v4_until_ns = name->good_until_ns;
	name->failed = 0;
	name->failure_count = 0;
}

static void fail(struct dial_name *name, const struct dial_reply *reply, uint64_t now_ns)
{
	uint32_t doublings =
		name->failure_count < QUIET_DOUBLINGS ? name->failure_count : QUIET_DOUBLINGS;

	name->failed = reply->is_forbidden ? DIAL_FORBIDDEN : DIAL_NO_ADDRESS;
	name->why = reply->why;
	name->failure_count++;
	/* A question has it asked for after the shortest pause. */
	name->quiet_until_ns = now_ns + QUIET_MS * OS_MS;
	name->fresh_until_ns = now_ns + ((QUIET_MS * OS_MS) << doublings);
}

static void refresh_later(struct dial_name *name, uint64_t now_ns)
{
	uint64_t due_ns = now_ns + REFRESH_MIN_MS * OS_MS;

	os_timer_set(name->dial->loop, &name->refresh,
		     name->fresh_until_ns > due_ns ? name->fresh_until_ns : due_ns);
}

static void on_reply(void *owner, const struct dial_reply *reply)
{
	struct dial_name *name = owner;
	uint64_t now_ns = os_loop_now_ns(name->dial->loop);
	struct dial_ips ips;

	/* Half of an answer is better than none, and no better than the whole one before. */
	if (!reply->is_last && is_known(name, &ips))
		return;
	if (reply->is_last)
		name->lookup = NULL;
	if (reply->ips)
		take(name, reply, now_ns);
	else
		fail(name, reply, now_ns);
	if (reply->is_last)
		refresh_later(name, now_ns);
	if (reply->is_last && reply->ips)
		note_cut(name, reply->ips->is_cut);
	if (reply->is_last && reply->refused)
		dial_name_refuse(name, reply->refused);
	name->references++; /* it must not go while its waiters are told */
	settle(name);
	wake_waiters(name);
	dial_name_unref(name);
}

static void ask(struct dial_name *name)
{
	if (!name->lookup)
		name->lookup = dial_lookup_start(name->dial->resolver, name->text, name->reach,
						 on_reply, name);
}

/* An answer's time is over, or a pause is. Names that hosts has meanwhile are asked for by nobody. */
static void on_refresh(struct os_timer *timer)
{
	struct dial_name *name = CONTAINER_OF(timer, struct dial_name, refresh);
	struct dial_ips ips;

	if (find_local(name, &ips))
		return;
	ask(name);
	if (!name->lookup)
		refresh_later(name, os_loop_now_ns(name->dial->loop));
}

int dial_name_resolve(struct dial_name *name, struct dial_attempt *attempt,
		      struct dial_ips *ret_ips, const char **ret_why)
{
	uint64_t now_ns = os_loop_now_ns(name->dial->loop);

	if (find_local(name, ret_ips)) {
		name->told = *ret_ips;
		return 0;
	}
	if (is_known(name, ret_ips)) {
		if ((now_ns >= name->fresh_until_ns || name->failed) &&
		    now_ns >= name->quiet_until_ns)
			ask(name);
		return 0;
	}
	if (now_ns >= name->quiet_until_ns)
		ask(name);
	if (!name->lookup && !name->failed && dial_resolver_is_full(name->dial->resolver)) {
		*ret_why = "too many names are asked for at once";
		return DIAL_QUESTIONS;
	}
	if (!name->lookup) {
		*ret_why = name->failed ? name->why : "out of memory";
		return name->failed ? (int)name->failed : (int)DIAL_FAILED;
	}
	list_push_back(&name->waiters, dial_attempt_waiting(attempt));
	return -EAGAIN;
}
