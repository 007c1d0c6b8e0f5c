#include "os/linux/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

int os_memory_new(const char *name, size_t size, int *ret_fd)
{
	OS_AUTO_FD fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* Born 0777: whoever is handed a read-only descriptor could open it again for writing. */
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int seals_of(enum os_seal seal)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW;

	return seal == OS_SEAL_ALL ? seals | F_SEAL_WRITE : seals;
}

int os_memory_seal(int fd, enum os_seal seal)
{
	return fcntl(fd, F_ADD_SEALS, seals_of(seal) | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int os_memory_is_sealed(int fd, enum os_seal seal)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return errno == EINVAL ? 0 : -errno; /* an ordinary file has none */
	return (seals & seals_of(seal)) == seals_of(seal);
}

int os_memory_read_only(int fd, int *ret_fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return os_open(OS_FOLDER_CURRENT, path, OS_OPEN_READ, 0, ret_fd);
}

int os_memory_map(int fd, size_t size, void *at, unsigned flags, void **ret_memory)
{
	int protection = flags & OS_MAP_WRITE || fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ;
	int native = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *memory;

	if (at)
		native |= flags & OS_MAP_RESERVED ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	memory = mmap(at, size, protection, native, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	if (at && memory != at) {
		munmap(memory, size);
		return -EEXIST;
	}
	*ret_memory = memory;
	return 0;
}

int os_memory_reserve(void *at, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	void *memory = mmap(at, size, PROT_NONE, flags, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	if (memory == at)
		return 0;
	munmap(memory, size);
	return -EEXIST;
}

void os_memory_unmap(void *memory, size_t size)
{
	if (memory)
		MUST(munmap(memory, size) == 0);
}

int os_memory_protect(void *memory, size_t size)
{
	return mprotect(memory, size, PROT_READ) < 0 ? -errno : 0;
}

/* ---- Secrets ------------------------------------------------------------------------------- */

static void *secret_hidden(size_t size)
{
	OS_AUTO_FD fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	void *memory;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return NULL;
	/* Counts against RLIMIT_MEMLOCK: EAGAIN over it. */
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

int os_secret_map(size_t size, void **ret_memory, enum os_secret_kind *ret_kind)
{
	enum os_secret_kind kind = OS_SECRET_HIDDEN;
	void *memory = secret_hidden(size);

	if (!memory) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);
		if (memory == MAP_FAILED)
			return -errno;
		/* By number: under AddressSanitizer the library's mlock() does nothing and says it
		 * did. */
		kind = syscall(SYS_mlock, memory, size) == 0 ? OS_SECRET_LOCKED : OS_SECRET_PLAIN;
		(void)madvise(memory, size, MADV_DONTDUMP);
	}
	if (madvise(memory, size, MADV_DONTFORK) < 0) {
		int error = -errno;

		munmap(memory, size);
		return error;
	}
	*ret_memory = memory;
	*ret_kind = kind;
	return 0;
}
