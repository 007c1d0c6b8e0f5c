/* What each row of the process table may call beyond libraries' refusals, a line each: ROW CALL. For unused_calls. */
#include <stdio.h>

#include "os/linux/internal.h"
#include "proc/proc.h"

static void print_group(const char *row, const struct os_call_group *group)
{
	for (size_t i = 0; group && i < group->count; i++) {
		if (group->calls[i].rule != OS_CALL_EPERM)
			printf("%s %s\n", row, group->calls[i].name);
	}
}

static void print_calls(const char *row, const char *const *calls)
{
	print_group(row, &os_calls_base);
	for (size_t i = 0; calls[i]; i++) {
		if (calls[i][0] == '@')
			print_group(row, os_call_group_find(calls[i]));
		else
			printf("%s %s\n", row, calls[i]);
	}
}

int main(void)
{
	char name[64];

	for (unsigned kind = 0; kind < IPC_KIND_COUNT; kind++) {
		const struct proc_row *row = proc_row_find((enum ipc_kind)kind);

		if (!row)
			continue;
		print_calls(row->name, row->calls);
		if (!row->closed_calls)
			continue;
		snprintf(name, sizeof(name), "%s-closed", row->name);
		print_calls(name, row->closed_calls);
	}
	return 0;
}
