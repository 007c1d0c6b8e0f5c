/* What each row of the process table may call beyond libraries' refusals, for unused_calls. A line each: ROW, the call's
 * name and number, and for each argument that a condition wants to have a value ARGUMENT=VALUE. */
#include <seccomp.h>
#include <stdio.h>

#include "os/linux/internal.h"
#include "proc/proc.h"

static void print_call(const char *row, const struct os_call *call)
{
	int number = seccomp_syscall_resolve_name(call->name);

	/* Not a call of this machine. */
	if (number < 0 || call->rule == OS_CALL_EPERM)
		return;
	printf("%s %s %d", row, call->name, number);
	if (call->rule == OS_CALL_IF_EQUAL || call->rule == OS_CALL_IF_BOTH)
		printf(" %u=%u", call->argument, (unsigned)call->value);
	if (call->rule == OS_CALL_IF_BOTH)
		printf(" %u=%u", call->second, (unsigned)call->second_value);
	printf("\n");
}

static void print_group(const char *row, const struct os_call_group *group)
{
	for (size_t i = 0; group && i < group->count; i++)
		print_call(row, &group->calls[i]);
}

static void print_calls(const char *row, const char *const *calls)
{
	print_group(row, &os_calls_base);
	for (size_t i = 0; calls[i]; i++) {
		if (calls[i][0] == '@')
			print_group(row, os_call_group_find(calls[i]));
		else
			print_call(row,
				   &(struct os_call){ .name = calls[i], .rule = OS_CALL_ALLOW });
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
