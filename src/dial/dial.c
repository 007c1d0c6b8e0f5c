#include "dial/dial.h"

#include <string.h>

#include "dial/dial_internal.h"

int dial_new(struct os_loop *loop, struct dial **ret_dial)
{
	struct dial *dial = heap_alloc(sizeof(*dial));
	int failed;

	if (!dial)
		return -ENOMEM;
	dial->loop = loop;
	dial->hosts_serial = 1;
	dial->further_max = SIZE_MAX;
	map_init(&dial->origins);
	map_init(&dial->names);
	list_init(&dial->attempts);
	failed = dial_resolver_new(loop, &dial->resolver);
	if (!failed)
		failed = dial_resolver_set(dial->resolver, SPAN_NONE);
	if (failed) {
		dial_free(dial);
		return failed;
	}
	*ret_dial = dial;
	return 0;
}

void dial_set_room(struct dial *dial, size_t further_sockets)
{
	dial->further_max = further_sockets;
}

static void entry_free(struct dial_entry *entry)
{
	if (!entry)
		return;
	dial_name_unref(entry->name);
	heap_free(entry);
}

static void entries_free(struct map *origins)
{
	struct dial_entry *entry;
	size_t cursor = 0;
	uint64_t id;

	while ((entry = map_next(origins, &cursor, &id)))
		entry_free(entry);
	map_fini(origins);
}

void dial_free(struct dial *dial)
{
	if (!dial)
		return;
	dial_attempts_end(dial);
	entries_free(&dial->origins);
	MUST(dial->names.used == 0);
	map_fini(&dial->names);
	dial_resolver_free(dial->resolver);
	heap_free((char *)dial->hosts.ptr);
	heap_free(dial->listeners);
	heap_free(dial);
}

void dial_on_change(struct dial *dial,
		    void (*on_change)(void *owner, uint64_t origin,
				      const struct os_address *addresses, size_t count),
		    void *owner)
{
	dial->on_change = on_change;
	dial->owner = owner;
}

void dial_on_refused(struct dial *dial,
		     void (*on_refused)(void *owner, uint64_t origin,
					const struct os_address *address),
		     void *owner)
{
	dial->on_refused = on_refused;
	dial->refused_owner = owner;
}

void dial_on_cut(struct dial *dial, void (*on_cut)(void *owner, uint64_t origin, bool is_first),
		 void *owner)
{
	dial->on_cut = on_cut;
	dial->cut_owner = owner;
}

int dial_set_listeners(struct dial *dial, const struct os_address *listeners, size_t count)
{
	struct os_address *copy = heap_alloc((count + 1) * sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, listeners, count * sizeof(*copy));
	heap_free(dial->listeners);
	dial->listeners = copy;
	dial->listener_count = count;
	return 0;
}

int dial_set_hosts(struct dial *dial, struct span text)
{
	struct dial_name *name;
	size_t cursor = 0;
	uint64_t key;
	char *copy;

	if (span_equal(text, dial->hosts))
		return 0;
	copy = heap_alloc(text.len + 1);
	if (!copy)
		return -ENOMEM;
	if (text.len)
		memcpy(copy, text.ptr, text.len);
	heap_free((char *)dial->hosts.ptr);
	dial->hosts = span_of(copy, text.len);
	dial->hosts_serial++;
	while ((name = map_next(&dial->names, &cursor, &key)))
		dial_name_hosts_changed(name);
	return 0;
}

int dial_set_resolver(struct dial *dial, struct span resolv_conf)
{
	return dial_resolver_set(dial->resolver, resolv_conf);
}

static struct dial_entry *entry_new(struct dial *dial, const struct dial_origin *origin)
{
	struct dial_entry *entry = heap_alloc(sizeof(*entry));
	char name[DIAL_NAME_MAX + 1];
	struct span host = origin->host;

	if (!entry)
		return NULL;
	entry->id = origin->id;
	entry->port = origin->port;
	if (origin->unix_path.len) {
		entry->is_literal = true;
		entry->address.family = OS_FAMILY_UNIX;
		/* One that is too long was refused by the configuration; here it leads nowhere. */
		if (origin->unix_path.len <= OS_UNIX_PATH_MAX)
			memcpy(entry->address.path, origin->unix_path.ptr, origin->unix_path.len);
		return entry;
	}
	if (os_address_parse_ip(host, &entry->address)) {
		entry->is_literal = true;
		entry->address.port = origin->port;
		return entry;
	}
	if (span_ends_with(host, SPAN(".")))
		host.len--;
	host = span_first(host, sizeof(name));
	for (size_t i = 0; i < host.len; i++)
		name[i] = ascii_lower(host.ptr[i]);
	entry->name = dial_name_ref(dial, span_of(name, host.len), origin->reach);
	if (!entry->name) {
		heap_free(entry);
		return NULL;
	}
	return entry;
}

int dial_set_origins(struct dial *dial, const struct dial_origin *origins, size_t count)
{
	struct map fresh;
	int failed = 0;

	map_init(&fresh);
	for (size_t i = 0; i < count && !failed; i++) {
		struct dial_entry *entry;

		if (map_get(&fresh, origins[i].id))
			continue;
		entry = entry_new(dial, &origins[i]);
		failed = entry ? map_set(&fresh, origins[i].id, entry) : -ENOMEM;
		if (failed)
			entry_free(entry);
	}
	if (failed) {
		entries_free(&fresh);
		return failed;
	}
	/* Only now: names that both lists have keep what they know. */
	entries_free(&dial->origins);
	dial->origins = fresh;
	return 0;
}

const struct dial_entry *dial_entry_find(const struct dial *dial, uint64_t id)
{
	return map_get(&dial->origins, id);
}
