/* The process table: what each kind of process may and has. */
#include "proc/proc.h"

/* Groups of system calls are in os/linux/calls.c; "@base" is always in, and in sanitizer builds what they need more.
 * A keyholder has made its secret memory before. */
static const char *const worker_calls[] = { "@serve", NULL };
/* setitimer: who takes messages from workers may be sent a socket whose close waits (os_close_guard). */
static const char *const keyholder_calls[] = { "setitimer", NULL };
static const char *const vault_calls[] = { "@write-files", "@memory", "accept4", "uname", NULL };
static const char *const files_calls[] = { "openat2", "readlinkat", "fstatfs", "setitimer", NULL };
static const char *const dialer_calls[] = { "@connect", "setitimer", NULL };
static const char *const log_calls[] = { "newfstatat", "ftruncate", "fallocate", "setitimer",
					 NULL };
static const char *const check_calls[] = { "@read-files", "readlinkat", "@memory", "@sandbox",
					   NULL };
static const char *const check_closed_calls[] = { "@memory", NULL };

#define NO_CORE \
	{ \
		OS_LIMIT_CORE_BYTES, 0 \
	}
#define NO_CHILDREN \
	{ \
		OS_LIMIT_PROCESSES, 0 \
	}
#define AS_BORN \
	{ \
		OS_LIMIT_OPEN_FILES, 0 \
	}

static const struct proc_row rows[] = {
	{
		.kind = IPC_WORKER,
		.name = "worker",
		.per_slot = true,
		.is_member = true,
		.starts_crypto = true,
		.links = IPC_TO_KEYHOLDER | IPC_TO_FILES | IPC_TO_DIALER | IPC_TO_LOG,
		.calls = worker_calls,
		.limits = { NO_CORE, NO_CHILDREN, AS_BORN },
		.limit_count = 3,
		.handlers = &proc_worker,
	},
	{
		.kind = IPC_KEYHOLDER,
		.name = "keyholder",
		.per_slot = true,
		.is_member = true,
		.is_patient = true,
		.links = IPC_TO_VAULT,
		.calls = keyholder_calls,
		.limits = { NO_CORE, NO_CHILDREN, { OS_LIMIT_OPEN_FILES, 64 } },
		.limit_count = 3,
		.handlers = &proc_keyholder,
	},
	{
		.kind = IPC_VAULT,
		.name = "vault",
		.is_member = true,
		.starts_crypto = true,
		.calls = vault_calls,
		.access = { [IPC_GRANT_KEY_FOLDER] = OS_ACCESS_READ | OS_ACCESS_WRITE },
		.limits = { NO_CORE, NO_CHILDREN, AS_BORN },
		.limit_count = 3,
		.handlers = &proc_vault,
	},
	{
		.kind = IPC_FILES,
		.name = "files",
		.is_member = true,
		.count_max = IPC_FILES_MAX, /* one for each file system that has a root */
		.may_hang = true,
		.calls = files_calls,
		.access = { [IPC_GRANT_ROOT] = OS_ACCESS_READ },
		.limits = { NO_CORE, NO_CHILDREN, AS_BORN, { OS_LIMIT_FILE_BYTES, 0 } },
		.limit_count = 4,
		.handlers = &proc_files,
	},
	{
		.kind = IPC_DIALER,
		.name = "dialer",
		.is_member = true,
		.starts_crypto = true, /* checks of https origins */
		.calls = dialer_calls,
		.may_connect = true,
		.limits = { NO_CORE, NO_CHILDREN, AS_BORN, { OS_LIMIT_FILE_BYTES, 0 } },
		.limit_count = 4,
		.handlers = &proc_dialer,
	},
	{
		.kind = IPC_LOG,
		.name = "log",
		.is_member = true,
		.calls = log_calls,
		.limits = { NO_CORE, NO_CHILDREN, AS_BORN },
		.limit_count = 3,
		.handlers = &proc_log,
	},
	{
		.kind = IPC_CHECK,
		.name = "check",
		.is_job = true,
		.starts_crypto = true,
		.calls = check_calls,
		.closed_calls = check_closed_calls,
		.capabilities = OS_CAPABILITIES_OF_CHANGE,
		.access = { [IPC_GRANT_READ] = OS_ACCESS_READ },
		.limits = { NO_CORE, AS_BORN, { OS_LIMIT_CPU_SECONDS, 30 } },
		.limit_count = 3,
		.handlers = &proc_check,
	},
};

const struct proc_row *proc_row_find(enum ipc_kind kind)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].kind == kind)
			return &rows[i];
	}
	return NULL;
}

const struct proc_row *proc_row_by_name(struct span name)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (span_equal(span_str(rows[i].name), name))
			return &rows[i];
	}
	return NULL;
}

struct os_sandbox proc_row_sandbox(const struct proc_row *row, const struct ipc_birth *birth,
				   bool is_closed, struct os_limit_value limits[PROC_LIMITS_MAX])
{
	struct os_sandbox sandbox = {
		.name = row->name,
		.uid = birth->uid,
		.gid = birth->gid,
		.calls = is_closed ? row->closed_calls : row->calls,
		.capabilities = is_closed ? 0 : row->capabilities,
		.may_connect = row->may_connect,
		.limits = limits,
		.limit_count = row->limit_count,
	};

	/* A job with two sandboxes gives up its user with the second. */
	if (row->closed_calls && !is_closed)
		sandbox.uid = sandbox.gid = OS_KEEP_ID;
	for (size_t i = 0; i < row->limit_count; i++) {
		limits[i] = row->limits[i];
		if (limits[i].limit == OS_LIMIT_OPEN_FILES && !limits[i].value)
			limits[i].value = birth->nofile;
	}
	return sandbox;
}
