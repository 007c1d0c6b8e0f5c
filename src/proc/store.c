/* store: a file's bytes are replaced whole, or not at all. */
#include "proc/proc.h"

#include <string.h>

/* Folder and last part. */
static int open_folder(struct proc_store *store, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	struct arena arena;
	char *folder;
	int err = -ENOMEM;

	if (!*name || strlen(name) >= sizeof(store->name))
		return -ENAMETOOLONG;
	memcpy(store->name, name, strlen(name) + 1);
	struct writer beside = writer_of(store->beside, sizeof(store->beside) - 1);
	write_format(&beside, "%s.portcullis-new", name);
	*beside.at = '\0';
	arena_init(&arena, 0);
	folder = arena_cstr(&arena, slash ? span_of(path, (size_t)(slash - path) + 1) : SPAN("."));
	if (folder)
		err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_READ | OS_OPEN_FOLDER, 0,
			      &store->folder_fd);
	arena_fini(&arena);
	return err;
}

/* In the name of the old one, and on the disk. */
static int write_beside(struct proc_store *store, struct span text, const struct os_file_info *old)
{
	struct os_file_info info;
	OS_AUTO_FD fd = -1;
	int err = os_unlink(store->folder_fd, store->beside); /* of one that was killed */

	if (err < 0 && err != -ENOENT)
		return err;
	err = os_open(store->folder_fd, store->beside,
		      OS_OPEN_WRITE | OS_OPEN_CREATE | OS_OPEN_EXCLUSIVE | OS_OPEN_NO_FOLLOW, 0600,
		      &fd);
	if (err < 0)
		return err;
	store->is_written = true;
	err = os_write_all(fd, text.ptr, text.len);
	if (!err)
		err = os_file_info(fd, &info);
	if (!err && (info.uid != old->uid || info.gid != old->gid))
		err = os_file_owner(fd, old->uid, old->gid);
	if (!err)
		err = os_file_mode(fd, old->mode);
	if (!err)
		err = os_file_sync(fd);
	return err;
}

int proc_store_begin(struct proc_store *store, const char *path, struct span text)
{
	struct os_file_info old;
	int err;

	*store = (struct proc_store){ .folder_fd = -1 };
	err = open_folder(store, path);
	if (!err)
		err = os_file_info_at(store->folder_fd, store->name, &old);
	if (!err && old.type == OS_FILE_SYMLINK)
		err = -ELOOP;
	if (!err && old.type != OS_FILE_REGULAR)
		err = -EINVAL;
	if (!err)
		err = write_beside(store, text, &old);
	if (err < 0)
		proc_store_drop(store);
	return err;
}

int proc_store_finish(struct proc_store *store)
{
	int err = os_rename(store->folder_fd, store->beside, store->name);

	/* From here on it is done, however long the disk keeps it. */
	if (!err) {
		store->is_written = false;
		(void)!os_file_sync(store->folder_fd);
	}
	proc_store_drop(store);
	return err;
}

void proc_store_drop(struct proc_store *store)
{
	if (store->is_written)
		(void)!os_unlink(store->folder_fd, store->beside);
	store->is_written = false;
	os_close(TAKE_FD(store->folder_fd));
}
