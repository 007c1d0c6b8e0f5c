#include "proc/supervisor_internal.h"

#include <string.h>

int plan_new(uint64_t change, struct plan **ret_plan)
{
	struct plan *plan = heap_alloc(sizeof(*plan));

	if (!plan)
		return -ENOMEM;
	plan->change = change;
	plan->snapshot_fd = -1;
	*ret_plan = plan;
	return 0;
}

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	for (size_t i = 0; i < plan->row_count; i++) {
		os_close(plan->rows[i].fd);
		heap_free((void *)(uintptr_t)plan->rows[i].tail.ptr); // NOLINT
	}
	for (size_t i = 0; i < plan->data_count; i++)
		os_close(plan->data[i].fd);
	os_close(plan->snapshot_fd);
	heap_free(plan->rows);
	heap_free(plan->data);
	heap_free(plan);
}

int plan_add_row(struct plan *plan, const struct ipc_plan_row *row, struct span tail, int fd)
{
	char *copy = heap_alloc(tail.len + 1);
	struct os_file_info info;

	if (!copy || !heap_grow((void **)&plan->rows, &plan->row_capacity, plan->row_count + 1,
				sizeof(*plan->rows))) {
		heap_free(copy);
		os_close(fd);
		return -ENOMEM;
	}
	if (tail.len)
		memcpy(copy, tail.ptr, tail.len);
	plan->rows[plan->row_count] =
		(struct plan_row){ .row = *row, .tail = span_of(copy, tail.len), .fd = fd };
	/* No folder is looked at here: what a dead file system is asked never comes back. */
	if (fd >= 0 && row->what == IPC_PLAN_CERTIFICATE_FILE && os_file_info(fd, &info) == 0)
		plan->rows[plan->row_count].key_mtime_ns = info.mtime_ns;
	plan->row_count++;
	return 0;
}

const struct plan_data *plan_find_data(const struct plan *plan, enum ipc_data_kind what,
				       uint64_t id)
{
	for (size_t i = 0; i < plan->data_count; i++) {
		if (plan->data[i].data.what == what && plan->data[i].data.id == id)
			return &plan->data[i];
	}
	return NULL;
}

int plan_add_data(struct plan *plan, const struct ipc_data *data, int fd)
{
	struct plan_data *old = (struct plan_data *)(uintptr_t)plan_find_data(
		plan, (enum ipc_data_kind)data->what, data->id); // NOLINT

	if (old) {
		os_close(old->fd);
		*old = (struct plan_data){ *data, fd };
		return 0;
	}
	if (!heap_grow((void **)&plan->data, &plan->data_capacity, plan->data_count + 1,
		       sizeof(*plan->data))) {
		os_close(fd);
		return -ENOMEM;
	}
	plan->data[plan->data_count++] = (struct plan_data){ *data, fd };
	return 0;
}

const struct plan_row *plan_next(const struct plan *plan, enum ipc_plan_kind what, size_t *cursor)
{
	while (*cursor < plan->row_count) {
		const struct plan_row *row = &plan->rows[(*cursor)++];

		if (row->row.what == what)
			return row;
	}
	return NULL;
}

/* A root that is another folder under the same path, or is found another way, needs a new `files` too. */
uint64_t plan_files_version(const struct plan *plan)
{
	uint64_t version = 1;
	size_t cursor = 0;
	const struct plan_row *row;

	while ((row = plan_next(plan, IPC_PLAN_ROOT, &cursor))) {
		uint64_t parts[4] = { version, row->row.id };

		memcpy(&parts[2], row->row.address, sizeof(row->row.address));
		version = hash_id(span_of(parts, sizeof(parts)));
	}
	cursor = 0;
	while ((row = plan_next(plan, IPC_PLAN_ROOT_LINK, &cursor))) {
		uint64_t parts[3] = { version, row->row.id, hash_id(row->tail) };

		version = hash_id(span_of(parts, sizeof(parts)));
	}
	return version;
}

void plan_wants(struct plan *plan, struct lifecycle_wants *ret_wants)
{
	size_t cursor = 0;
	const struct plan_row *row;

	*ret_wants = (struct lifecycle_wants){ 0 };
	/* The vault also keeps the listeners for the next supervisor, so it is always wanted. */
	/* A slot is a pair of worker and keyholder. */
	ret_wants->wanted[IPC_WORKER] = ret_wants->wanted[IPC_KEYHOLDER] = true;
	ret_wants->wanted[IPC_VAULT] = ret_wants->wanted[IPC_LOG] = true;
	while ((row = plan_next(plan, IPC_PLAN_HELPER, &cursor))) {
		if (row->row.index < IPC_KIND_COUNT && row->row.index != IPC_SUPERVISOR)
			ret_wants->wanted[row->row.index] = true;
	}
	cursor = 0;
	ret_wants->needs_gather = plan_next(plan, IPC_PLAN_CERTIFICATE_FILE, &cursor) != NULL;
	cursor = 0;
	if (plan_next(plan, IPC_PLAN_CERTIFICATE_INTERNAL, &cursor))
		ret_wants->needs_gather = true;
	plan->files_version = ret_wants->version[IPC_FILES] = plan_files_version(plan);
	ret_wants->count[IPC_FILES] = plan->files_count;
}

static const struct plan_row *find_row(const struct plan *plan, uint32_t what, uint64_t id)
{
	size_t cursor = 0;
	const struct plan_row *row;

	while ((row = plan_next(plan, (enum ipc_plan_kind)what, &cursor))) {
		if (row->row.id == id)
			return row;
	}
	return NULL;
}

/* With the root its links: who has them sees when it has to be opened again. */
static int take_links(struct plan *plan, const struct plan *running)
{
	const struct plan_row *link;
	size_t cursor = 0;
	int err = 0;

	while (!err && (link = plan_next(running, IPC_PLAN_ROOT_LINK, &cursor))) {
		const struct plan_row *root = find_row(plan, IPC_PLAN_ROOT, link->row.id);
		int fd;

		if (!root || root->fd >= 0)
			continue;
		err = os_duplicate(link->fd, &fd);
		if (!err)
			err = plan_add_row(plan, &link->row, link->tail, fd);
	}
	return err;
}

int plan_take_roots(struct plan *plan, const struct plan *running)
{
	int err = take_links(plan, running);

	for (size_t i = 0; !err && i < plan->row_count; i++) {
		struct plan_row *row = &plan->rows[i];
		const struct plan_row *old;

		if (row->row.what != IPC_PLAN_ROOT || row->fd >= 0)
			continue;
		old = find_row(running, IPC_PLAN_ROOT, row->row.id);
		if (!old || old->fd < 0)
			continue;
		memcpy(row->row.address, old->row.address, sizeof(row->row.address));
		err = os_duplicate(old->fd, &row->fd);
	}
	return err;
}

/* ---- One `files` for each file system ------------------------------------------------------------------- */

struct file_systems {
	uint64_t devices[IPC_FILES_MAX];
	uint32_t count;
};

/* Where there are more than may be, the rest share the last. */
static uint32_t slot_of(struct file_systems *systems, const struct plan_row *row)
{
	uint64_t device;

	memcpy(&device, row->row.address, sizeof(device));
	for (uint32_t i = 0; i < systems->count; i++) {
		if (systems->devices[i] == device)
			return i;
	}
	if (systems->count == IPC_FILES_MAX)
		return IPC_FILES_MAX - 1;
	systems->devices[systems->count++] = device;
	return systems->count - 1;
}

static int add_root_slots(struct plan *plan, uint64_t serial)
{
	struct ipc_data data = { .change = serial, .what = IPC_DATA_ROOT_SLOTS };
	struct ipc_root_slot *slots = heap_alloc((plan->row_count + 1) * sizeof(*slots));
	const struct plan_row *row;
	size_t cursor = 0, count = 0;
	int err, fd;

	if (!slots)
		return -ENOMEM;
	while ((row = plan_next(plan, IPC_PLAN_ROOT, &cursor))) {
		if (row->row.index)
			slots[count++] = (struct ipc_root_slot){ .root = row->row.id,
								 .slot = row->row.index };
	}
	data.size = (uint32_t)(count * sizeof(*slots));
	err = proc_seal_text("root slots", span_of(slots, data.size), &fd);
	heap_free(slots);
	return err ? err : plan_add_data(plan, &data, fd);
}

int plan_share_roots(struct plan *plan, uint64_t serial)
{
	/* The roots' first: links of the same are watched where those are served. */
	static const uint32_t kinds[] = { IPC_PLAN_ROOT, IPC_PLAN_ROOT_LINK };
	struct file_systems systems = { .count = 0 };

	for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
		for (size_t i = 0; i < plan->row_count; i++) {
			if (plan->rows[i].row.what == kinds[kind])
				plan->rows[i].row.index = slot_of(&systems, &plan->rows[i]);
		}
	}
	plan->files_count = systems.count;
	return add_root_slots(plan, serial);
}

static bool same_file(int a, int b)
{
	struct os_file_info one, other;

	if (a < 0 || b < 0)
		return a < 0 && b < 0;
	return os_file_info(a, &one) == 0 && os_file_info(b, &other) == 0 &&
	       one.inode == other.inode && one.device == other.device &&
	       one.mtime_ns == other.mtime_ns && one.size == other.size;
}

static bool same_data(const struct plan_data *a, const struct plan_data *b)
{
	const void *one, *other;
	bool same;

	if (!b || a->data.size != b->data.size || proc_map_sealed(a->fd, a->data.size, &one) < 0)
		return false;
	same = proc_map_sealed(b->fd, b->data.size, &other) == 0;
	if (same) {
		same = span_equal(span_of(one, a->data.size), span_of(other, b->data.size));
		os_memory_unmap((void *)(uintptr_t)other, b->data.size); // NOLINT
	}
	os_memory_unmap((void *)(uintptr_t)one, a->data.size); // NOLINT
	return same;
}

bool plan_has_same_inputs(const struct plan *plan, const struct plan *running)
{
	const struct plan_row *row;
	size_t cursor = 0;

	for (size_t i = 0; i < plan->data_count; i++) {
		const struct plan_data *data = &plan->data[i];

		if (!same_data(data, plan_find_data(running, (enum ipc_data_kind)data->data.what,
						    data->data.id)))
			return false;
	}
	while ((row = plan_next(plan, IPC_PLAN_CERTIFICATE_FILE, &cursor))) {
		const struct plan_row *old =
			find_row(running, IPC_PLAN_CERTIFICATE_FILE, row->row.id);

		/* A key that was written in place is another one although its descriptor is the same file's. */
		if (!old || !same_file(row->fd, old->fd) || row->key_mtime_ns != old->key_mtime_ns)
			return false;
	}
	return true;
}

int proc_seal_text(const char *name, struct span text, int *ret_fd)
{
	OS_AUTO_FD fd = -1;
	int err = os_memory_new(name, text.len, &fd);
	ssize_t written = 0;

	if (!err && text.len)
		written = os_pwrite(fd, text.ptr, text.len, 0);
	if (!err && written != (ssize_t)text.len)
		err = written < 0 ? (int)written : -EIO;
	if (!err)
		err = os_memory_seal(fd, OS_SEAL_ALL);
	if (!err)
		*ret_fd = TAKE_FD(fd);
	return err;
}
