/* The message table as rows that code can look up; the rows themselves stand in messages.h. */
#pragma once

#include "ipc/ipc.h"

enum { IPC_NUMBER_MAX = 255 };

struct ipc_row {
	const char *name;            /* NULL: no such number */
	uint32_t senders, receivers; /* bits IPC_TO_* */
	uint32_t size, tail_max, descriptors_max, per_second;
};

/* NULL for a number that is not in the table. */
const struct ipc_row *ipc_row_find(uint32_t number);
/* The longest message, with its header, that `from` may send to `to`; at least a header's size. */
size_t ipc_longest(enum ipc_kind from, enum ipc_kind to);

/* What stands before the struct. */
struct ipc_header {
	uint32_t number, tail_len;
};
