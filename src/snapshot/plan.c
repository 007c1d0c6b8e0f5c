/* plan: what must be opened, bound, made or started. */
#include "snapshot/snapshot_internal.h"

struct plan {
	struct snapshot_plan_row *rows;
	size_t count;
};

static struct snapshot_plan_row *add(struct plan *plan, enum snapshot_plan_kind kind, uint64_t id,
				     struct span path, const struct snapshot_place *place)
{
	struct snapshot_plan_row *row = &plan->rows[plan->count++];

	row->kind = kind;
	row->id = id;
	row->path = path;
	if (place)
		row->place = *place;
	return row;
}

static void add_helper(struct plan *plan, enum snapshot_helper helper)
{
	add(plan, SNAPSHOT_PLAN_HELPER, 0, SPAN_NONE, NULL)->helper = helper;
}

static void add_certificate(struct plan *plan, const struct snapshot_certificate *certificate)
{
	switch (certificate->kind) {
	case SNAPSHOT_CERTIFICATE_INTERNAL:
		add(plan, SNAPSHOT_PLAN_INTERNAL, certificate->id, SPAN_NONE, &certificate->place);
		break;
	case SNAPSHOT_CERTIFICATE_FILE:
		add(plan, SNAPSHOT_PLAN_CERTIFICATE, certificate->id, certificate->cert_path,
		    &certificate->place);
		add(plan, SNAPSHOT_PLAN_KEY, certificate->id, certificate->key_path,
		    &certificate->place);
		break;
	}
}

static void add_origins(struct plan *plan, const struct snapshot *snapshot)
{
	bool wants_system_roots = false;

	for (size_t i = 0; i < snapshot->origin_count; i++) {
		const struct snapshot_origin *origin = &snapshot->origins[i];

		add(plan, SNAPSHOT_PLAN_ORIGIN, origin->id, origin->text, &origin->place);
		wants_system_roots |= origin->is_https && !origin->ca;
	}
	for (size_t i = 0; i < snapshot->ca_count; i++)
		add(plan, SNAPSHOT_PLAN_CA, snapshot->cas[i].id, snapshot->cas[i].path,
		    &snapshot->cas[i].place);
	if (wants_system_roots)
		add(plan, SNAPSHOT_PLAN_CA, 0, SPAN_NONE, NULL);
}

static void add_logs(struct plan *plan, const struct snapshot *snapshot)
{
	const struct snapshot_log *logs[] = { &snapshot->access_log, &snapshot->events_log };

	for (uint32_t i = 0; i < ARRAY_LEN(logs); i++) {
		if (logs[i]->target != SNAPSHOT_LOG_FILE)
			continue;
		add(plan, SNAPSHOT_PLAN_LOG, 0, logs[i]->path, &logs[i]->place)->index = i;
	}
}

/* Its cookie needs a key. */
static bool has_sticky(const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->upstream_count; i++) {
		if (snapshot->upstreams[i].sticky_cookie.len)
			return true;
	}
	return false;
}

void compile_plan(struct compiler *compiler)
{
	struct snapshot *snapshot = compiler->snapshot;
	size_t max = snapshot->listener_count + snapshot->root_count +
		     2 * snapshot->certificate_count + snapshot->ca_count + snapshot->origin_count +
		     16;
	struct plan plan = { .rows = compiler_array(compiler, struct snapshot_plan_row, max) };

	if (!plan.rows)
		return;
	for (size_t i = 0; i < snapshot->listener_count; i++) {
		const struct snapshot_listener *listener = &snapshot->listeners[i];
		struct snapshot_plan_row *row = add(&plan, SNAPSHOT_PLAN_LISTENER, listener->id,
						    SPAN_NONE, &listener->place);

		row->address = listener->address;
		row->is_implied = listener->is_implied;
	}
	for (size_t i = 0; i < snapshot->root_count; i++)
		add(&plan, SNAPSHOT_PLAN_ROOT, snapshot->roots[i].id, snapshot->roots[i].path,
		    &snapshot->roots[i].place);
	for (size_t i = 0; i < snapshot->certificate_count; i++)
		add_certificate(&plan, &snapshot->certificates[i]);
	add_origins(&plan, snapshot);
	add_logs(&plan, snapshot);
	if (snapshot->state_path.len)
		add(&plan, SNAPSHOT_PLAN_STATE, 0, snapshot->state_path, NULL);
	add_helper(&plan, SNAPSHOT_HELPER_LOG);
	if (compiler->has_tls_listener || has_sticky(snapshot))
		add_helper(&plan, SNAPSHOT_HELPER_VAULT);
	if (compiler->has_tls_listener)
		add_helper(&plan, SNAPSHOT_HELPER_KEYHOLDER);
	if (snapshot->root_count)
		add_helper(&plan, SNAPSHOT_HELPER_FILES);
	if (snapshot->origin_count)
		add_helper(&plan, SNAPSHOT_HELPER_DIALER);
	MUST(plan.count <= max);
	snapshot->plan = plan.rows;
	snapshot->plan_count = plan.count;
}
