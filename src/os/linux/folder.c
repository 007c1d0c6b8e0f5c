#include "os/linux/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int os_unlink(int folder_fd, const char *name)
{
	return unlinkat(folder_fd, name, 0) < 0 ? -errno : 0;
}

int os_unlink_folder(int folder_fd, const char *name)
{
	return unlinkat(folder_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int os_rename(int folder_fd, const char *from, const char *to)
{
	return renameat(folder_fd, from, folder_fd, to) < 0 ? -errno : 0;
}

int os_folder_make(int folder_fd, const char *path, unsigned mode)
{
	char part[PATH_MAX];
	size_t len = strlen(path);
	struct stat info;

	if (len == 0 || len >= sizeof(part))
		return len ? -ENAMETOOLONG : -ENOENT;
	for (size_t end = 1; end <= len; end++) {
		if (path[end] != '/' && path[end] != 0)
			continue;
		memcpy(part, path, end);
		part[end] = 0;
		if (mkdirat(folder_fd, part, mode) == 0 || errno == EEXIST)
			continue;
		/* A folder above that we may not even look into (a read-only root) is there
		 * nevertheless. */
		if (path[end] == '/' && (errno == EROFS || errno == EACCES))
			continue;
		return -errno;
	}
	if (fstatat(folder_fd, path, &info, 0) < 0)
		return -errno;
	return S_ISDIR(info.st_mode) ? 0 : -ENOTDIR;
}

int os_link_read(int folder_fd, const char *name, struct arena *arena, struct span *ret_target)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(folder_fd, name, target, sizeof(target));
	char *copy;

	if (len < 0)
		return -errno;
	copy = arena_cstr(arena, span_of(target, (size_t)len));
	if (!copy)
		return -ENOMEM;
	*ret_target = span_of(copy, (size_t)len);
	return 0;
}

int os_path_of(int fd, struct arena *arena, struct span *ret_path)
{
	char name[32];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return os_link_read(OS_FOLDER_CURRENT, name, arena, ret_path);
}

int os_folder_current(struct arena *arena, struct span *ret_path)
{
	char path[PATH_MAX], *copy;

	if (!getcwd(path, sizeof(path)))
		return -errno;
	copy = arena_cstr(arena, span_str(path));
	if (!copy)
		return -ENOMEM;
	*ret_path = span_str(copy);
	return 0;
}

static enum os_file_type entry_type(int folder_fd, const struct dirent *entry)
{
	struct os_file_info info;

	switch (entry->d_type) {
	case DT_REG:
		return OS_FILE_REGULAR;
	case DT_DIR:
		return OS_FILE_FOLDER;
	case DT_LNK:
		return OS_FILE_SYMLINK;
	case DT_SOCK:
		return OS_FILE_SOCKET;
	case DT_UNKNOWN: /* some file systems do not say */
		return os_file_info_at(folder_fd, entry->d_name, &info) == 0 ? info.type
									     : OS_FILE_OTHER;
	default:
		return OS_FILE_OTHER;
	}
}

int os_folder_list(int folder_fd,
		   int (*on_name)(void *owner, const char *name, enum os_file_type type),
		   void *owner)
{
	struct dirent *entry;
	DIR *folder;
	int fd, answer;

	answer = os_open(folder_fd, ".", OS_OPEN_FOLDER, 0,
			 &fd); /* works on handles, and starts anew */
	if (answer)
		return answer;
	folder = fdopendir(fd);
	if (!folder) {
		answer = -errno;
		close(fd);
		return answer;
	}
	while (!answer) {
		errno = 0;
		entry = readdir(folder);
		if (!entry) {
			answer = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		answer = on_name(owner, entry->d_name, entry_type(fd, entry));
	}
	closedir(folder);
	return answer;
}
