#include "os/linux/internal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int open_native_flags(unsigned flags)
{
	int native = O_CLOEXEC;

	if (flags & OS_OPEN_FOLDER)
		native |= O_DIRECTORY;
	if (flags & (OS_OPEN_NO_FOLLOW))
		native |= O_NOFOLLOW;
	if (flags & OS_OPEN_HANDLE)
		return native | O_PATH; /* openat2 refuses any other flag beside it */
	native |= O_NONBLOCK | O_NOCTTY;
	if (flags & OS_OPEN_READ_WRITE)
		native |= O_RDWR;
	else if (flags & OS_OPEN_WRITE)
		native |= O_WRONLY;
	if (flags & OS_OPEN_APPEND)
		native |= O_APPEND;
	if (flags & OS_OPEN_CREATE)
		native |= O_CREAT;
	if (flags & OS_OPEN_EXCLUSIVE)
		native |= O_EXCL;
	if (flags & OS_OPEN_TRUNCATE)
		native |= O_TRUNC;
	return native;
}

static int open_resolved(int folder_fd, const char *path, unsigned flags, unsigned mode)
{
	struct open_how how = {
		.flags = (unsigned)open_native_flags(flags),
		.mode = flags & OS_OPEN_CREATE ? mode : 0,
	};
	int fd, tries = 32;

	if (flags & OS_OPEN_BENEATH)
		how.resolve |= RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	if (flags & OS_OPEN_NO_SYMLINKS)
		how.resolve |= RESOLVE_NO_SYMLINKS;
	if (flags & OS_OPEN_SAME_DEVICE)
		how.resolve |= RESOLVE_NO_XDEV;
	/* EAGAIN: something was renamed while a `..` was resolved; openat2(2) says to ask again. */
	do
		fd = (int)RETRY(syscall(SYS_openat2, folder_fd, path, &how, sizeof(how)));
	while (fd < 0 && errno == EAGAIN && tries-- > 0);
	return fd;
}

int os_open(int folder_fd, const char *path, unsigned flags, unsigned mode, int *ret_fd)
{
	int fd;

	if (flags & (OS_OPEN_BENEATH | OS_OPEN_NO_SYMLINKS | OS_OPEN_SAME_DEVICE))
		fd = open_resolved(folder_fd, path, flags, mode);
	else
		fd = RETRY(openat(folder_fd, path, open_native_flags(flags), mode));
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* ---- Facts --------------------------------------------------------------------------------- */

static enum os_file_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return OS_FILE_REGULAR;
	case S_IFDIR:
		return OS_FILE_FOLDER;
	case S_IFLNK:
		return OS_FILE_SYMLINK;
	case S_IFSOCK:
		return OS_FILE_SOCKET;
	default:
		return OS_FILE_OTHER;
	}
}

static struct os_file_info info_of(const struct stat *native)
{
	return (struct os_file_info){
		.size = (uint64_t)native->st_size,
		.inode = native->st_ino,
		.device = native->st_dev,
		.mtime_ns = native->st_mtim.tv_sec * (int64_t)OS_SECOND + native->st_mtim.tv_nsec,
		.mode = native->st_mode & 07777,
		.uid = native->st_uid,
		.gid = native->st_gid,
		.type = type_of(native->st_mode),
	};
}

int os_file_info(int fd, struct os_file_info *ret_info)
{
	struct stat native;

	/* Not the library's fstat(): it is newfstatat() in disguise, which a filter cannot tell
	 * from asking about any path. On 64-bit machines the kernel's struct is the library's. */
	if (syscall(SYS_fstat, fd, &native) < 0)
		return -errno;
	*ret_info = info_of(&native);
	return 0;
}

int os_file_info_at(int folder_fd, const char *name, struct os_file_info *ret_info)
{
	struct stat native;

	if (fstatat(folder_fd, name, &native, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*ret_info = info_of(&native);
	return 0;
}

/* Those that are known: of one that is missing here documents come a little slower, that is all. */
bool os_file_is_local(int fd)
{
	static const uint64_t zfs = 0x2fc12fc1, bcachefs = 0xca451a4e, ntfs3 = 0x7366746e,
			      exfat = 0x2011bab0, jfs = 0x3153464a;
	const uint64_t known[] = { EXT4_SUPER_MAGIC,
				   XFS_SUPER_MAGIC,
				   BTRFS_SUPER_MAGIC,
				   F2FS_SUPER_MAGIC,
				   TMPFS_MAGIC,
				   RAMFS_MAGIC,
				   OVERLAYFS_SUPER_MAGIC,
				   SQUASHFS_MAGIC,
				   EROFS_SUPER_MAGIC_V1,
				   ISOFS_SUPER_MAGIC,
				   MSDOS_SUPER_MAGIC,
				   NILFS_SUPER_MAGIC,
				   zfs,
				   bcachefs,
				   ntfs3,
				   exfat,
				   jfs };
	struct statfs about;

	if (fstatfs(fd, &about) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if ((uint64_t)about.f_type == known[i])
			return true;
	}
	return false;
}

/* ---- Bytes --------------------------------------------------------------------------------- */

ssize_t os_pread(int fd, void *buf, size_t size, uint64_t offset)
{
	ssize_t len = RETRY(pread(fd, buf, size, (off_t)offset));

	return len < 0 ? -errno : len;
}

ssize_t os_pread_cached(int fd, void *buf, size_t size, uint64_t offset)
{
	struct iovec part = { .iov_base = buf, .iov_len = size };
	ssize_t len = RETRY(preadv2(fd, &part, 1, (off_t)offset, RWF_NOWAIT));

	return len < 0 ? -errno : len;
}

ssize_t os_pwrite(int fd, const void *buf, size_t size, uint64_t offset)
{
	ssize_t len = RETRY(pwrite(fd, buf, size, (off_t)offset));

	return len < 0 ? -errno : len;
}

int os_file_truncate(int fd, uint64_t size)
{
	return RETRY(ftruncate(fd, (off_t)size)) < 0 ? -errno : 0;
}

int os_file_reserve(int fd, uint64_t offset, uint64_t len)
{
	return RETRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len)) < 0 ? -errno
											: 0;
}

int os_file_sync(int fd)
{
	return RETRY(fsync(fd)) < 0 ? -errno : 0;
}

int os_file_owner(int fd, uint32_t uid, uint32_t gid)
{
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int os_file_mode(int fd, unsigned mode)
{
	char path[32];

	if (fchmod(fd, mode) == 0)
		return 0;
	if (errno != EBADF)
		return -errno;
	/* A handle (O_PATH); fchmodat2() is younger than our oldest kernel. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode) < 0 ? -errno : 0;
}

/* ---- Locks --------------------------------------------------------------------------------- */

static int lock_change(int fd, uint64_t byte, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1
	};

	if (RETRY(fcntl(fd, F_OFD_SETLK, &lock)) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int os_lock_take(int fd, uint64_t byte)
{
	return lock_change(fd, byte, F_WRLCK);
}

int os_lock_release(int fd, uint64_t byte)
{
	return lock_change(fd, byte, F_UNLCK);
}

int os_lock_is_held(int fd, uint64_t byte)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1
	};

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type != F_UNLCK;
}
