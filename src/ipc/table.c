#include "ipc/table_internal.h"

static const struct ipc_row rows[IPC_NUMBER_MAX + 1] = {
#define X(number, name, senders, receivers, tail, descriptors, rate) \
	[number] = { #name,  (senders),     (receivers), sizeof(struct ipc_##name), \
		     (tail), (descriptors), (rate) },
	IPC_MESSAGES(X)
#ifdef PORTCULLIS_TEST_CLOCK
		IPC_TEST_MESSAGES(X)
#endif
#undef X
};

/* Tails and structs lie behind one another in one packet: both must keep their alignment. */
#define X(number, name, senders, receivers, tail, descriptors, rate) \
	_Static_assert(sizeof(struct ipc_##name) % 8 == 0, \
		       #name " must be a multiple of 8 bytes"); \
	_Static_assert((tail) <= IPC_TAIL_MAX && (descriptors) <= IPC_DESCRIPTORS_MAX, #name); \
	_Static_assert((number) <= IPC_NUMBER_MAX, #name);
IPC_MESSAGES(X)
IPC_TEST_MESSAGES(X)
#undef X

const struct ipc_row *ipc_row_find(uint32_t number)
{
	return number <= IPC_NUMBER_MAX && rows[number].name ? &rows[number] : NULL;
}

size_t ipc_longest(enum ipc_kind from, enum ipc_kind to)
{
	size_t longest = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct ipc_row *row = &rows[i];

		if (!row->name || !(row->senders & 1U << from) || !(row->receivers & 1U << to))
			continue;
		if (row->size + row->tail_max > longest)
			longest = row->size + row->tail_max;
	}
	return sizeof(struct ipc_header) + longest;
}

const char *ipc_kind_name(enum ipc_kind kind)
{
	static const char *const names[IPC_KIND_COUNT] = {
		[IPC_SUPERVISOR] = "supervisor",
		[IPC_WORKER] = "worker",
		[IPC_KEYHOLDER] = "keyholder",
		[IPC_VAULT] = "vault",
		[IPC_FILES] = "files",
		[IPC_DIALER] = "dialer",
		[IPC_LOG] = "log",
		[IPC_CHECK] = "check",
		[IPC_COMMAND] = "command",
	};

	return (unsigned)kind < IPC_KIND_COUNT ? names[kind] : "unknown";
}

const char *ipc_message_name(uint32_t number)
{
	const struct ipc_row *row = ipc_row_find(number);

	return row ? row->name : NULL;
}

size_t ipc_message_size(uint32_t number)
{
	const struct ipc_row *row = ipc_row_find(number);

	return row ? row->size : 0;
}
