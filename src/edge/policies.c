/* What handshakes are made with: certificates by id, and policies of both directions. A change stages them, its commit
 * takes them. */
#include "edge/edge_internal.h"

static void credential_free(struct edge_credential *credential)
{
	if (!credential)
		return;
	tls_credential_free(credential->credential);
	arena_fini(&credential->arena);
	heap_free(credential);
}

static void map_drop(struct map *map, void (*drop)(void *value))
{
	size_t cursor = 0;
	uint64_t key;
	void *value;

	while ((value = map_next(map, &cursor, &key)))
		drop(value);
	map_fini(map);
}

static void drop_credential(void *value)
{
	credential_free(value);
}

static void drop_policy(void *value)
{
	tls_policy_free(value);
}

void policies_fini(struct edge *edge)
{
	policies_drop_staged(edge);
	map_drop(&edge->credentials, drop_credential);
	map_drop(&edge->policies, drop_policy);
	map_drop(&edge->client_policies, drop_policy);
}

/* ---- Staging -------------------------------------------------------------------------------------------------- */

static int stage_chain(struct edge *edge, uint64_t id, struct span text)
{
	struct edge_credential *credential = heap_alloc(sizeof(*credential));
	struct span why;
	int failed;

	if (!credential)
		return -ENOMEM;
	credential->id = id;
	arena_init(&credential->arena, 1u << 20);
	failed = cert_chain_parse(&credential->arena, text, &credential->chain, &why);
	if (!failed)
		failed = tls_credential_new(credential->chain.certificates, credential->chain.count,
					    &credential->credential);
	if (!failed) {
		credential_free(map_remove(&edge->staged_credentials, id));
		failed = map_set(&edge->staged_credentials, id, credential);
	}
	if (failed)
		credential_free(credential);
	return failed > 0 ? -EBADMSG : failed;
}

static int stage_roots(struct edge *edge, uint64_t id, struct span text)
{
	struct tls_client_policy_config config = {
		.roots = &text,
		.root_count = text.len ? 1 : 0,
		.alpn = { SPAN("http/1.1") },
		.alpn_count = 1,
	};
	struct tls_policy *policy = NULL;
	int failed = tls_client_policy_new(&config, &policy);

	if (failed)
		return failed > 0 ? -EBADMSG : failed;
	/* The system's roots have id 0, which is no key of a map. */
	tls_policy_free(map_remove(&edge->staged_client_policies, id + 1));
	failed = map_set(&edge->staged_client_policies, id + 1, policy);
	if (failed)
		tls_policy_free(policy);
	return failed;
}

int edge_data(struct edge *edge, enum ipc_data_kind kind, uint64_t id, struct span text)
{
	switch (kind) {
	case IPC_DATA_CHAIN:
		return stage_chain(edge, id, text);
	case IPC_DATA_ROOTS:
		return stage_roots(edge, id, text);
	case IPC_DATA_ROOT_SLOTS:
		return root_slots_stage(edge, text);
	case IPC_DATA_HOSTS:
	case IPC_DATA_RESOLVER:
	case IPC_DATA_TEXT:
		break;
	}
	return 0;
}

int policies_stage(struct edge *edge, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->policy_count; i++) {
		const struct snapshot_tls_policy *row = &snapshot->policies[i];
		struct tls_policy_config config = {
			.id = row->id,
			.tls13_only = row->min_version == 0x0304,
			.alpn = { SPAN("http/1.1") },
			.alpn_count = 1,
			.tickets = edge->tickets,
		};
		struct tls_policy *policy = NULL;
		int failed;

		if (map_get(&edge->policies, row->id) || map_get(&edge->staged_policies, row->id))
			continue;
		failed = tls_policy_new(&config, &policy);
		if (!failed)
			failed = map_set(&edge->staged_policies, row->id, policy);
		if (failed) {
			tls_policy_free(policy);
			return failed > 0 ? -EINVAL : failed;
		}
	}
	return 0;
}

/* Commit moves what was staged and must not fail. */
int policies_reserve(struct edge *edge)
{
	int failed = map_reserve(&edge->credentials, edge->staged_credentials.used);

	if (!failed)
		failed = map_reserve(&edge->client_policies, edge->staged_client_policies.used);
	if (!failed)
		failed = map_reserve(&edge->policies, edge->staged_policies.used);
	return failed;
}

void policies_drop_staged(struct edge *edge)
{
	map_drop(&edge->staged_credentials, drop_credential);
	map_drop(&edge->staged_client_policies, drop_policy);
	map_drop(&edge->staged_policies, drop_policy);
}

/* ---- Taking --------------------------------------------------------------------------------------------------- */

/* Everything of `from` takes its place in `to`; what stood there is dropped. Room was made by prepare. */
static void map_move(struct map *to, struct map *from, void (*drop)(void *value))
{
	size_t cursor = 0;
	uint64_t key;
	void *value, *old;

	while ((value = map_next(from, &cursor, &key))) {
		map_remove(from, key);
		old = map_remove(to, key);
		if (old)
			drop(old);
		MUST(map_set(to, key, value) == 0);
	}
}

void policies_take(struct edge *edge)
{
	map_move(&edge->credentials, &edge->staged_credentials, drop_credential);
	map_move(&edge->client_policies, &edge->staged_client_policies, drop_policy);
	map_move(&edge->policies, &edge->staged_policies, drop_policy);
}

/* Handshakes are made by the current snapshot alone; one that runs has its own references. Policies stay: they are few,
 * and exchanges of earlier snapshots still connect to their origins by them. */
void policies_sweep(struct edge *edge)
{
	const struct snapshot *snapshot = edge->current->snapshot;
	struct edge_credential *credential;
	size_t cursor = 0;
	uint64_t id;

	for (size_t i = 0; i < snapshot->certificate_count; i++) {
		credential = map_get(&edge->credentials, snapshot->certificates[i].id);
		if (credential)
			credential->serial = snapshot->serial;
	}
	while ((credential = map_next(&edge->credentials, &cursor, &id))) {
		if (credential->serial != snapshot->serial)
			credential_free(map_remove(&edge->credentials, id));
	}
}
