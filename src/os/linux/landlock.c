#include "os/linux/internal.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Landlock by system call: Debian 12's header knows ABI 2 only, kernels are at 7. The numbers are
 * the kernel's interface (include/uapi/linux/landlock.h) and do not change. */

enum { RULE_PATH_BENEATH = 1, ABI_FLAG = 1 };

struct landlock_ruleset {
	uint64_t files, network, scoped;
};

struct landlock_path {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

#define BIT(number) (UINT64_C(1) << (number))
#define FILE_EXECUTE BIT(0)
#define FILE_WRITE BIT(1)
#define FILE_READ BIT(2)
#define FOLDER_READ BIT(3)
#define FOLDER_WRITE \
	(BIT(4) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | \
	 BIT(12)) /* remove, make: no devices, FIFOs \
								*/
#define ALL_OF_ABI_1 (BIT(13) - 1)
#define REFER BIT(13)     /* ABI 2 */
#define TRUNCATE BIT(14)  /* ABI 3 */
#define IOCTL_DEV BIT(15) /* ABI 5 */
#define NET_BIND BIT(0)   /* ABI 4 */
#define NET_CONNECT BIT(1)
#define SCOPE_ALL (BIT(0) | BIT(1)) /* ABI 6: abstract unix sockets, signals */

unsigned os_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ABI_FLAG);

	return abi < 0 ? 0 : (unsigned)abi;
}

static uint64_t files_of_abi(unsigned abi)
{
	uint64_t files = ALL_OF_ABI_1;

	if (abi >= 2)
		files |= REFER;
	if (abi >= 3)
		files |= TRUNCATE;
	if (abi >= 5)
		files |= IOCTL_DEV;
	return files;
}

static uint64_t allowed_of(unsigned access, bool is_folder)
{
	uint64_t allowed = 0;

	if (access & OS_ACCESS_READ)
		allowed |= FILE_READ | FOLDER_READ;
	if (access & OS_ACCESS_WRITE)
		allowed |= FILE_WRITE | FOLDER_WRITE | REFER | TRUNCATE;
	if (access & OS_ACCESS_EXECUTE)
		allowed |= FILE_EXECUTE | FILE_READ;
	if (!is_folder) /* the kernel refuses a folder's rights on a file */
		allowed &= FILE_EXECUTE | FILE_WRITE | FILE_READ | TRUNCATE;
	return allowed;
}

static int add_path(int ruleset, const struct os_sandbox_path *path, uint64_t handled)
{
	struct os_file_info info;
	struct landlock_path rule = { .fd = path->fd };
	int error = os_file_info(path->fd, &info);

	if (error)
		return error;
	rule.allowed = allowed_of(path->access, info.type == OS_FILE_FOLDER) & handled;
	if (!rule.allowed)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno
											: 0;
}

static void report_parts(const struct os_sandbox *sandbox, unsigned abi,
			 struct os_sandbox_report *report)
{
	uint32_t wanted = OS_SANDBOX_FILES | OS_SANDBOX_SCOPE, held = 0;

	if (!sandbox->may_bind || !sandbox->may_connect)
		wanted |= OS_SANDBOX_NETWORK;
	if (abi >= 1)
		held |= OS_SANDBOX_FILES;
	if (abi >= 4)
		held |= OS_SANDBOX_NETWORK;
	if (abi >= 6)
		held |= OS_SANDBOX_SCOPE;
	report->landlock_abi = abi;
	report->enforced |= wanted & held;
	report->missing |= wanted & ~held;
}

int os_landlock_enter(const struct os_sandbox *sandbox, struct os_sandbox_report *report)
{
	unsigned abi = os_landlock_abi();
	struct landlock_ruleset rules = { .files = files_of_abi(abi) };
	OS_AUTO_FD fd = -1;
	int error = 0;

	report_parts(sandbox, abi, report);
	if (abi == 0)
		return 0;
	if (abi >= 4)
		rules.network = (sandbox->may_bind ? 0 : NET_BIND) |
				(sandbox->may_connect ? 0 : NET_CONNECT);
	if (abi >= 6)
		rules.scoped = SCOPE_ALL;
	/* An older kernel takes a shorter struct; what it does not know is zero in ours. */
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; !error && i < sandbox->path_count; i++)
		error = add_path(fd, &sandbox->paths[i], rules.files);
	if (error)
		return error;
	return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}
