/* What a member of changes holds: snapshots at their places and data sets, between prepare and commit. */
#include "proc/self_internal.h"

#include <string.h>

int proc_map_sealed(int fd, size_t size, const void **ret_memory)
{
	struct os_file_info info;
	void *memory;
	int err = os_file_info(fd, &info);

	if (err < 0)
		return err;
	if (os_memory_is_sealed(fd, OS_SEAL_ALL) != 1 || size > info.size)
		return -EBADMSG;
	if (!size) {
		*ret_memory = NULL;
		return 0;
	}
	err = os_memory_map(fd, size, NULL, 0, &memory);
	if (!err)
		*ret_memory = memory;
	return err;
}

/* ---- Data sets ------------------------------------------------------------------------------------- */

const struct proc_data *proc_data_find(const struct proc_self *self, enum ipc_data_kind what,
				       uint64_t id)
{
	const struct proc_holding *found = NULL;

	for (size_t i = 0; i < self->holding_count; i++) {
		const struct proc_holding *holding = &self->holdings[i];

		if (holding->data.what == what && holding->data.id == id &&
		    (!found || holding->is_pending))
			found = holding;
	}
	return found ? &found->data : NULL;
}

const struct proc_data *proc_data_next(const struct proc_self *self, size_t *cursor)
{
	return *cursor < self->holding_count ? &self->holdings[(*cursor)++].data : NULL;
}

static void holding_remove(struct proc_self *self, size_t index)
{
	struct proc_holding *holding = &self->holdings[index];

	os_memory_unmap((void *)(uintptr_t)holding->data.bytes.ptr, holding->mapped); // NOLINT
	self->holdings[index] = self->holdings[--self->holding_count];
}

/* is_old and is_pending name what goes. */
static void holdings_remove(struct proc_self *self, bool old, bool pending)
{
	for (size_t i = self->holding_count; i-- > 0;) {
		if ((old && self->holdings[i].is_old) || (pending && self->holdings[i].is_pending))
			holding_remove(self, i);
	}
}

void proc_holding_data(struct proc_self *self, struct ipc_message *message)
{
	const struct ipc_data *body = message->body;
	struct proc_holding holding = { .is_pending = true, .mapped = body->size };
	const void *memory = NULL;

	for (size_t i = self->holding_count; i-- > 0;) {
		if (self->holdings[i].is_pending && self->holdings[i].data.what == body->what &&
		    self->holdings[i].data.id == body->id)
			holding_remove(self, i);
	}
	if (message->descriptor_count != 1 ||
	    proc_map_sealed(message->descriptors[0], body->size, &memory) < 0 ||
	    !heap_grow((void **)&self->holdings, &self->holding_capacity, self->holding_count + 1,
		       sizeof(*self->holdings))) {
		/* Without it the change would be half: the next life gets everything again. */
		proc_exit(self, PROC_EXIT_FAULT);
		return;
	}
	holding.data.what = (enum ipc_data_kind)body->what;
	holding.data.id = body->id;
	holding.data.change = body->change;
	holding.data.bytes = span_of(memory, body->size);
	memcpy(holding.data.spki_hash, body->spki_hash, sizeof(holding.data.spki_hash));
	self->holdings[self->holding_count++] = holding;
}

/* With a snapshot comes every data set of its plan (change_prepare), so what did not come is named by nobody. */
static void holdings_commit(struct proc_self *self, bool is_whole)
{
	for (size_t i = 0; i < self->holding_count; i++)
		self->holdings[i].is_old = is_whole && !self->holdings[i].is_pending;
	for (size_t i = 0; i < self->holding_count; i++) {
		struct proc_holding *fresh = &self->holdings[i];

		if (!fresh->is_pending)
			continue;
		for (size_t k = 0; k < self->holding_count; k++) {
			struct proc_holding *other = &self->holdings[k];

			if (!other->is_pending && other->data.what == fresh->data.what &&
			    other->data.id == fresh->data.id)
				other->is_old = true;
		}
	}
	for (size_t i = 0; i < self->holding_count; i++)
		self->holdings[i].is_pending = false;
}

/* ---- Snapshots ------------------------------------------------------------------------------------- */

const struct snapshot *proc_snapshot(const struct proc_self *self)
{
	return self->current;
}

static struct proc_place *place_at(struct proc_self *self, uint64_t address)
{
	uint64_t offset = address - self->birth.snapshot_base;

	if (address < self->birth.snapshot_base || offset % PROC_SNAPSHOT_PLACE_SIZE ||
	    offset / PROC_SNAPSHOT_PLACE_SIZE >= PROC_SNAPSHOT_PLACES)
		return NULL;
	return &self->places[offset / PROC_SNAPSHOT_PLACE_SIZE];
}

/* The supervisor puts the next one where nobody has an old one. */
static void tell_places(struct proc_self *self)
{
	uint64_t held = 0;

	for (unsigned i = 0; i < PROC_SNAPSHOT_PLACES; i++)
		held |= self->places[i].snapshot ? UINT64_C(1) << i : 0;
	__atomic_store_n(&self->range->places_held, held, __ATOMIC_RELAXED);
}

static struct proc_place *place_of(struct proc_self *self, const struct snapshot *snapshot)
{
	struct proc_place *place = place_at(self, (uint64_t)(uintptr_t)snapshot);

	MUST(place && place->snapshot == snapshot && place->references);
	return place;
}

void proc_snapshot_ref(struct proc_self *self, const struct snapshot *snapshot)
{
	place_of(self, snapshot)->references++;
}

static void try_prepare(struct proc_self *self);

void proc_snapshot_unref(struct proc_self *self, const struct snapshot *snapshot)
{
	struct proc_place *place = place_of(self, snapshot);
	void *memory = (void *)(uintptr_t)snapshot; // NOLINT
	size_t size = place->size;

	if (--place->references)
		return;
	*place = (struct proc_place){ 0 };
	tell_places(self);
	os_memory_unmap(memory, size);
	/* Nobody else may settle where the next one must lie. */
	if (os_memory_reserve(memory, size) < 0)
		proc_exit(self, PROC_EXIT_FAULT);
	else if (self->waiting_fd >= 0)
		os_loop_wake_again(self->loop);
}

const struct snapshot *proc_snapshot_wanted(const struct proc_self *self)
{
	if (self->waiting_fd < 0)
		return NULL;
	return self
		->places[(self->waiting.address - self->birth.snapshot_base) /
			 PROC_SNAPSHOT_PLACE_SIZE]
		.snapshot;
}

static int map_snapshot(struct proc_self *self, struct proc_place *place)
{
	void *at = (void *)(uintptr_t)self->waiting.address, *memory; // NOLINT
	struct os_file_info info;
	int err = os_file_info(self->waiting_fd, &info);

	if (err < 0)
		return err;
	if (os_memory_is_sealed(self->waiting_fd, OS_SEAL_ALL) != 1 ||
	    self->waiting.size > info.size || !self->waiting.size ||
	    self->waiting.size > PROC_SNAPSHOT_PLACE_SIZE)
		return -EBADMSG;
	err = os_memory_map(self->waiting_fd, self->waiting.size, at, OS_MAP_RESERVED, &memory);
	if (err < 0)
		return err;
	*place = (struct proc_place){ .snapshot = memory,
				      .size = self->waiting.size,
				      .references = 1 };
	tell_places(self);
	return snapshot_verify(memory, self->waiting.size);
}

/* ---- Prepare, commit, abandon ---------------------------------------------------------------------- */

static void answer(struct proc_self *self, enum ipc_number number, const void *body,
		   struct span tail)
{
	if (self->is_orphan)
		return;
	if (ipc_send(&self->supervisor, number, body, tail, NULL, 0) < 0)
		proc_exit(self, PROC_EXIT_FAULT);
}

void proc_prepared(struct proc_self *self)
{
	struct ipc_prepared prepared = { .change = self->change };

	if (!self->change || self->is_answered)
		return;
	self->is_answered = true;
	answer(self, IPC_MESSAGE_prepared, &prepared, SPAN_NONE);
}

void proc_refuse(struct proc_self *self, uint32_t line, struct span why)
{
	struct ipc_refused refused = { .change = self->change, .line = line };

	if (!self->change || self->is_answered)
		return;
	self->is_answered = true;
	answer(self, IPC_MESSAGE_refused, &refused, span_first(why, 4096));
}

static void ask_kind(struct proc_self *self)
{
	enum proc_prepare_result result = PROC_PREPARED;

	if (self->kind->prepare)
		result = self->kind->prepare(self->state, self, self->change, self->prepared);
	if (result == PROC_PREPARED)
		proc_prepared(self);
}

static void try_prepare(struct proc_self *self)
{
	struct proc_place *place = place_at(self, self->waiting.address);
	int err;

	if (place && place->snapshot)
		return; /* an old one is still pinned there */
	err = place ? map_snapshot(self, place) : -EBADMSG;
	os_close(TAKE_FD(self->waiting_fd));
	if (place && place->snapshot)
		self->prepared = place->snapshot;
	if (err < 0)
		proc_refuse(self, 0, SPAN("a process could not map the snapshot"));
	else
		ask_kind(self);
}

void proc_holding_turn(struct proc_self *self)
{
	if (self->waiting_fd >= 0)
		try_prepare(self);
}

void proc_holding_prepare(struct proc_self *self, struct ipc_message *message)
{
	const struct ipc_prepare *body = message->body;

	if (self->change)
		proc_holding_abandon(self, self->change);
	self->change = body->change;
	self->is_answered = false;
	if (!message->descriptor_count) {
		ask_kind(self);
		return;
	}
	self->waiting = *body;
	self->waiting_fd = TAKE_FD(message->descriptors[0]);
	try_prepare(self);
}

void proc_holding_commit(struct proc_self *self, uint64_t change)
{
	const struct snapshot *old = self->current, *fresh = TAKE(self->prepared);
	struct ipc_committed committed = { .change = change };

	if (!self->change || self->change != change)
		return;
	self->change = 0;
	if (fresh)
		self->current = fresh;
	if (self->kind->commit)
		self->kind->commit(self->state, self, change);
	holdings_commit(self, fresh != NULL);
	holdings_remove(self, true, false);
	if (fresh && old)
		proc_snapshot_unref(self, old);
	self->range->snapshot_serial = change;
	answer(self, IPC_MESSAGE_committed, &committed, SPAN_NONE);
}

void proc_holding_abandon(struct proc_self *self, uint64_t change)
{
	const struct snapshot *fresh;

	/* One that failed before its `prepare`: the vault has had its keys. */
	if (!self->change && self->kind->abandon)
		self->kind->abandon(self->state, self, change);
	if (!self->change || self->change != change)
		return;
	fresh = TAKE(self->prepared);
	if (self->waiting_fd < 0 && self->kind->abandon)
		self->kind->abandon(self->state, self, change);
	os_close(TAKE_FD(self->waiting_fd));
	self->change = 0;
	if (fresh)
		proc_snapshot_unref(self, fresh);
	holdings_remove(self, false, true);
}
