/* The common part of a child process, shared by helper.c (birth, loop, links) and holding.c (snapshots and
 * data sets). */
#pragma once

#include "lifecycle/lifecycle.h"
#include "proc/proc.h"

struct proc_link {
	struct list link;
	struct ipc_channel channel;
	bool is_dead; /* closed; freed at the turn's end */
};

struct proc_place {
	const struct snapshot *snapshot; /* NULL: free, the address space is reserved */
	size_t size;
	uint32_t references;
};

struct proc_holding {
	struct proc_data data;
	bool is_pending, is_old;
	size_t mapped;
};

struct proc_self {
	const struct proc_row *row;
	const struct proc_kind *kind;
	void *state;
	struct os_loop *loop;
	struct ipc_channel supervisor;
	struct ipc_birth birth;
	struct ipc_range *range;
	int lock_fd;

	struct os_sandbox_path paths[64]; /* of the grants, until the sandbox stands */
	size_t path_count;

	struct list links;
	uint32_t links_got[IPC_KIND_COUNT][LIFECYCLE_COUNT_MAX]; /* by proc_link_index */
	struct os_timer beat;
	uint32_t beats;

	/* A change: prepared is between `prepare` and commit or abandon. */
	struct proc_place places[PROC_SNAPSHOT_PLACES];
	const struct snapshot *current, *prepared;
	uint64_t change; /* 0: none under way */
	bool is_answered;
	struct ipc_prepare waiting; /* for its place */
	int waiting_fd;
	struct proc_holding *holdings;
	size_t holding_count, holding_capacity;

	uint64_t drain_deadline_ns; /* 0: none */
	bool is_draining, is_orphan, is_ending;
	bool is_drain_over; /* that deadline was past at the last beat */
	int exit_code;
};

void proc_holding_data(struct proc_self *self, struct ipc_message *message);
void proc_holding_prepare(struct proc_self *self, struct ipc_message *message);
void proc_holding_commit(struct proc_self *self, uint64_t change);
void proc_holding_abandon(struct proc_self *self, uint64_t change);
void proc_holding_turn(struct proc_self *self); /* a place may have become free */
/* A sealed memory file, mapped anywhere; an empty one is no map. */
int proc_map_sealed(int fd, size_t size, const void **ret_memory) MUST_CHECK;
