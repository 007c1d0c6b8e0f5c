#include "os/sim/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One tree of folders, files and symlinks, without mounts. */

enum { LINKS_MAX = 40, PATH_CAP = 4096 };

static const uint32_t root_uid;

/* ---- Nodes ------------------------------------------------------------------------------------- */

struct sim_node *sim_node_new(enum os_file_type type, unsigned mode)
{
	struct sim_node *node = sim_own_alloc(sizeof(*node));

	node->type = type;
	node->mode = mode;
	node->uid = node->gid = sim.current ? sim.current->uid : sim.options.uid;
	node->inode = ++sim.inode;
	node->mtime_ns = (int64_t)os_wall_ns();
	node->cold_from = SIZE_MAX;
	return node;
}

struct sim_node *sim_node_ref(struct sim_node *node)
{
	node->references++;
	return node;
}

void sim_node_unref(struct sim_node *node)
{
	MUST(node->references);
	if (--node->references)
		return;
	while (node->entries) {
		struct sim_entry *entry = node->entries;

		node->entries = entry->next;
		sim_node_unref(entry->node);
		sim_own_free(entry);
	}
	if (node->is_memory)
		sim_memory_free(node);
	else
		sim_own_free(node->bytes);
	sim_own_free(node);
}

int sim_node_resize(struct sim_node *node, size_t len)
{
	if (node->is_memory)
		return node->seals_size || len > node->capacity ? -EPERM : 0;
	if (len > node->capacity) {
		size_t capacity = len > 2 * node->capacity ? len : 2 * node->capacity;

		node->bytes = sim_own_resize(node->bytes, capacity);
		node->capacity = capacity;
	}
	if (len > node->len)
		memset(node->bytes + node->len, 0, len - node->len);
	node->len = len;
	return 0;
}

bool sim_may(const struct sim_node *node, unsigned access)
{
	uint32_t uid = sim.current ? sim.current->uid : root_uid;
	unsigned bits = node->uid == uid ? node->mode >> 6 : node->mode;

	if (uid == root_uid)
		return true;
	return !(access & OS_ACCESS_READ && !(bits & 4)) &&
	       !(access & OS_ACCESS_WRITE && !(bits & 2)) &&
	       !(access & OS_ACCESS_EXECUTE && !(bits & 1));
}

/* ---- Entries ----------------------------------------------------------------------------------- */

static struct sim_entry **entry_place(struct sim_node *folder, const char *name)
{
	struct sim_entry **place = &folder->entries;

	while (*place && strcmp((*place)->name, name) != 0)
		place = &(*place)->next;
	return place;
}

struct sim_node *sim_entry_find(struct sim_node *folder, const char *name)
{
	struct sim_entry *entry = *entry_place(folder, name);

	return entry ? entry->node : NULL;
}

int sim_entry_add(struct sim_node *folder, const char *name, struct sim_node *node)
{
	struct sim_entry **place = entry_place(folder, name), *entry;

	MUST(!*place);
	entry = sim_own_alloc(sizeof(*entry) + strlen(name) + 1);
	memcpy(entry->name, name, strlen(name) + 1);
	entry->node = sim_node_ref(node);
	if (node->type == OS_FILE_FOLDER)
		node->parent = folder;
	*place = entry;
	return 0;
}

int sim_entry_remove(struct sim_node *folder, const char *name)
{
	struct sim_entry **place = entry_place(folder, name), *entry = *place;

	if (!entry)
		return -ENOENT;
	*place = entry->next;
	sim_node_unref(entry->node);
	sim_own_free(entry);
	return 0;
}

/* ---- Paths ------------------------------------------------------------------------------------- */

struct walk {
	struct sim_node *at, *root; /* root: what BENEATH stays below */
	unsigned flags;
	int links;
	bool wants_parent;
	char name[SIM_NAME_MAX + 1]; /* the last part, where the parent is wanted */
};

static int walk_path(struct walk *walk, const char *path);

static int walk_link(struct walk *walk, struct sim_node *link, const char *rest)
{
	char path[PATH_CAP];
	int len;

	if (walk->flags & OS_OPEN_NO_SYMLINKS || ++walk->links > LINKS_MAX)
		return -ELOOP;
	len = snprintf(path, sizeof(path), "%.*s%s%s", (int)link->len, link->bytes,
		       *rest ? "/" : "", rest);
	if (len < 0 || (size_t)len >= sizeof(path))
		return -ENAMETOOLONG;
	return walk_path(walk, path);
}

static int walk_up(struct walk *walk)
{
	if (walk->at == walk->root && walk->flags & OS_OPEN_BENEATH)
		return -EXDEV;
	walk->at = walk->at->parent;
	return 0;
}

static int walk_part(struct walk *walk, const char *name, const char *rest, bool *is_over)
{
	bool is_last = !*rest;
	struct sim_node *next;

	if (walk->at->type != OS_FILE_FOLDER)
		return -ENOTDIR;
	if (!sim_may(walk->at, OS_ACCESS_EXECUTE))
		return -EACCES;
	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0)
		return walk_up(walk);
	if (is_last && walk->wants_parent) {
		memcpy(walk->name, name, strlen(name) + 1);
		*is_over = true;
		return 0;
	}
	next = sim_entry_find(walk->at, name);
	if (!next)
		return -ENOENT;
	if (next->type == OS_FILE_SYMLINK && !(is_last && walk->flags & OS_OPEN_NO_FOLLOW)) {
		*is_over = true;
		return walk_link(walk, next, rest);
	}
	walk->at = next;
	return 0;
}

static int walk_path(struct walk *walk, const char *path)
{
	char name[SIM_NAME_MAX + 1];
	bool is_over = false;

	if (!*path)
		return -ENOENT;
	if (*path == '/') {
		if (walk->flags & OS_OPEN_BENEATH)
			return -EXDEV;
		walk->at = sim.root;
	}
	while (!is_over) {
		size_t len;
		int error;

		while (*path == '/')
			path++;
		len = strcspn(path, "/");
		if (!len)
			return 0;
		if (len > SIM_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = 0;
		for (path += len; *path == '/';)
			path++;
		error = walk_part(walk, name, path, &is_over);
		if (error)
			return error;
	}
	return 0;
}

static int walk_begin(struct walk *walk, int folder_fd, const char *path)
{
	struct sim_file *file;

	if (folder_fd == OS_FOLDER_CURRENT || *path == '/') {
		walk->at = sim.root;
	} else {
		file = sim_descriptor(folder_fd);
		if (!file)
			return -EBADF;
		if (file->kind != SIM_NODE)
			return -ENOTDIR;
		walk->at = file->node;
	}
	walk->root = walk->at;
	return walk_path(walk, path);
}

int sim_walk(int folder_fd, const char *path, unsigned flags, struct sim_node **ret_node)
{
	struct walk walk = { .flags = flags };
	int error = walk_begin(&walk, folder_fd, path);

	if (!error)
		*ret_node = walk.at;
	return error;
}

int sim_walk_parent(int folder_fd, const char *path, struct sim_node **ret_folder,
		    char ret_name[SIM_NAME_MAX + 1])
{
	struct walk walk = { .wants_parent = true };
	int error = walk_begin(&walk, folder_fd, path);

	if (!error && !walk.name[0])
		error = -EEXIST; /* it is the root, or ends with `..` */
	if (error)
		return error;
	*ret_folder = walk.at;
	memcpy(ret_name, walk.name, sizeof(walk.name));
	return 0;
}

/* ---- Opening ----------------------------------------------------------------------------------- */

static unsigned access_of(unsigned flags)
{
	if (flags & OS_OPEN_HANDLE)
		return SIM_IS_HANDLE;
	if (flags & OS_OPEN_READ_WRITE)
		return SIM_MAY_READ | SIM_MAY_WRITE;
	if (flags & OS_OPEN_WRITE)
		return SIM_MAY_WRITE | (flags & OS_OPEN_APPEND ? (unsigned)SIM_APPENDS : 0);
	return SIM_MAY_READ;
}

static int create(int folder_fd, const char *path, unsigned flags, unsigned mode,
		  struct sim_node **ret_node)
{
	char name[SIM_NAME_MAX + 1];
	struct sim_node *folder;
	int error = sim_walk_parent(folder_fd, path, &folder, name);

	if (error)
		return error;
	if (sim_entry_find(folder, name)) {
		if (flags & OS_OPEN_EXCLUSIVE)
			return -EEXIST;
		return sim_walk(folder_fd, path, flags, ret_node);
	}
	if (!sim_may(folder, OS_ACCESS_WRITE))
		return -EACCES;
	*ret_node = sim_node_new(OS_FILE_REGULAR, mode);
	return sim_entry_add(folder, name, *ret_node);
}

static int node_open(struct sim_node *node, unsigned flags, int *ret_fd)
{
	unsigned access = access_of(flags);
	struct sim_file *file;

	if (node->type == OS_FILE_SYMLINK && !(access & SIM_IS_HANDLE))
		return -ELOOP;
	if (flags & OS_OPEN_FOLDER && node->type != OS_FILE_FOLDER)
		return -ENOTDIR;
	if (node->type == OS_FILE_FOLDER && access & SIM_MAY_WRITE)
		return -EISDIR;
	if (node->type == OS_FILE_SOCKET && !(access & SIM_IS_HANDLE))
		return -ENXIO;
	if ((access & SIM_MAY_READ && !sim_may(node, OS_ACCESS_READ)) ||
	    (access & SIM_MAY_WRITE && !sim_may(node, OS_ACCESS_WRITE)))
		return -EACCES;
	if (flags & OS_OPEN_TRUNCATE && access & SIM_MAY_WRITE)
		(void)sim_node_resize(node, 0);
	file = sim_file_new(SIM_NODE, access);
	file->node = sim_node_ref(node);
	return sim_descriptor_add(file, ret_fd);
}

int os_open(int folder_fd, const char *path, unsigned flags, unsigned mode, int *ret_fd)
{
	struct sim_node *node;
	int error;

	SIM_CALL(-EMFILE, -EIO, -ENOMEM);
	if (strcmp(path, "/dev/null") == 0)
		return sim_descriptor_add(sim_file_new(SIM_NOTHING, access_of(flags)), ret_fd);
	error = flags & OS_OPEN_CREATE ? create(folder_fd, path, flags, mode, &node)
				       : sim_walk(folder_fd, path, flags, &node);
	return error ? error : node_open(node, flags, ret_fd);
}

/* ---- Facts ------------------------------------------------------------------------------------- */

static struct os_file_info info_of(const struct sim_node *node)
{
	return (struct os_file_info){
		.size = node->len,
		.inode = node->inode,
		.device = node->is_memory ? 2 : 1,
		.mtime_ns = node->mtime_ns,
		.mode = node->mode,
		.uid = node->uid,
		.gid = node->gid,
		.type = node->type,
	};
}

int os_file_info(int fd, struct os_file_info *ret_info)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-EIO);
	if (!file)
		return -EBADF;
	*ret_info = file->kind == SIM_NODE ? info_of(file->node)
					   : (struct os_file_info){ .type = OS_FILE_OTHER };
	return 0;
}

int os_file_info_at(int folder_fd, const char *name, struct os_file_info *ret_info)
{
	struct sim_node *node;
	int error;

	SIM_CALL(-EACCES, -EIO);
	error = sim_walk(folder_fd, name, OS_OPEN_NO_FOLLOW, &node);
	if (!error)
		*ret_info = info_of(node);
	return error;
}

int os_link_read(int folder_fd, const char *name, struct arena *arena, struct span *ret_target)
{
	struct sim_node *node;
	char *copy;
	int error;

	SIM_CALL(-EACCES);
	error = sim_walk(folder_fd, name, OS_OPEN_NO_FOLLOW, &node);
	if (error)
		return error;
	if (node->type != OS_FILE_SYMLINK)
		return -EINVAL;
	copy = arena_cstr(arena, span_of(node->bytes, node->len));
	if (!copy)
		return -ENOMEM;
	*ret_target = span_of(copy, node->len);
	return 0;
}

static bool write_path(const struct sim_node *node, struct writer *out)
{
	if (node == sim.root)
		return true;
	if (!node->parent || !write_path(node->parent, out))
		return false;
	for (const struct sim_entry *entry = node->parent->entries; entry; entry = entry->next) {
		if (entry->node != node)
			continue;
		write_byte(out, '/');
		write_str(out, entry->name);
		return true;
	}
	return false;
}

int os_path_of(int fd, struct arena *arena, struct span *ret_path)
{
	struct sim_file *file = sim_descriptor(fd);
	char path[PATH_CAP];
	struct writer out = writer_of(path, sizeof(path));

	if (!file || file->kind != SIM_NODE || !write_path(file->node, &out))
		return -ENOENT;
	*ret_path = arena_copy(arena, writer_done(&out).len ? writer_done(&out) : SPAN("/"));
	return ret_path->ptr ? 0 : -ENOMEM;
}

int os_folder_current(struct arena *arena, struct span *ret_path)
{
	*ret_path = arena_copy(arena, SPAN("/"));
	return ret_path->ptr ? 0 : -ENOMEM;
}

int os_folder_list(int folder_fd,
		   int (*on_name)(void *owner, const char *name, enum os_file_type type),
		   void *owner)
{
	struct sim_node *node;
	struct sim_entry *next;
	int answer;

	SIM_CALL(-EMFILE, -EIO);
	answer = sim_walk(folder_fd, ".", 0, &node);
	if (!answer && node->type != OS_FILE_FOLDER)
		answer = -ENOTDIR;
	if (!answer && !sim_may(node, OS_ACCESS_READ))
		answer = -EACCES;
	for (struct sim_entry *entry = answer ? NULL : node->entries; entry && !answer;
	     entry = next) {
		next = entry->next;
		answer = on_name(owner, entry->name, entry->node->type);
	}
	return answer;
}

/* ---- Bytes at a place -------------------------------------------------------------------------- */

static struct sim_node *file_node(int fd, unsigned access)
{
	struct sim_file *file = sim_descriptor(fd);

	return file && file->kind == SIM_NODE && file->access & access ? file->node : NULL;
}

static ssize_t node_pread(const struct sim_node *node, void *buf, size_t size, uint64_t offset)
{
	size_t len = offset < node->len ? node->len - (size_t)offset : 0;

	if (node->type == OS_FILE_FOLDER)
		return -EISDIR;
	if (len > size)
		len = size;
	if (len)
		memcpy(buf, node->bytes + offset, len);
	return (ssize_t)len;
}

ssize_t os_pread(int fd, void *buf, size_t size, uint64_t offset)
{
	struct sim_node *node = file_node(fd, SIM_MAY_READ);

	SIM_CALL(-EIO);
	if (!node)
		return -EBADF;
	if (node->cold_from != SIZE_MAX && offset + size > node->cold_from)
		node->cold_from = offset + size < node->len ? (size_t)offset + size : SIZE_MAX;
	return node_pread(node, buf, size, offset);
}

ssize_t os_pread_cached(int fd, void *buf, size_t size, uint64_t offset)
{
	struct sim_node *node = file_node(fd, SIM_MAY_READ);

	SIM_CALL(-EIO, -EAGAIN, -EOPNOTSUPP);
	if (!node)
		return -EBADF;
	if (node->cold_from < node->len) {
		if (offset >= node->cold_from)
			return -EAGAIN;
		if (offset + size > node->cold_from)
			size = node->cold_from - (size_t)offset;
	}
	return node_pread(node, buf, size, offset);
}

ssize_t os_pwrite(int fd, const void *buf, size_t size, uint64_t offset)
{
	struct sim_node *node = file_node(fd, SIM_MAY_WRITE);
	int error;

	SIM_CALL(-ENOSPC, -EIO);
	if (!node)
		return -EBADF;
	if (node->seals_all)
		return -EPERM;
	error = offset + size > node->len ? sim_node_resize(node, (size_t)offset + size) : 0;
	if (error)
		return error;
	if (size)
		memcpy(node->bytes + offset, buf, size);
	node->mtime_ns = (int64_t)os_wall_ns();
	return (ssize_t)size;
}

/* ---- Changes ----------------------------------------------------------------------------------- */

int os_file_truncate(int fd, uint64_t size)
{
	struct sim_node *node = file_node(fd, SIM_MAY_WRITE);

	SIM_CALL(-EIO);
	return node ? sim_node_resize(node, (size_t)size) : -EBADF;
}

int os_file_sync(int fd)
{
	SIM_CALL(-EIO, -ENOSPC);
	return sim_descriptor(fd) ? 0 : -EBADF;
}

int os_file_owner(int fd, uint32_t uid, uint32_t gid)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-EPERM);
	if (!file || file->kind != SIM_NODE)
		return -EBADF;
	if (uid != UINT32_MAX)
		file->node->uid = uid;
	if (gid != UINT32_MAX)
		file->node->gid = gid;
	return 0;
}

int os_file_mode(int fd, unsigned mode)
{
	struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-EPERM);
	if (!file || file->kind != SIM_NODE)
		return -EBADF;
	file->node->mode = mode;
	return 0;
}

static int remove_entry(int folder_fd, const char *path, bool is_folder)
{
	char name[SIM_NAME_MAX + 1];
	struct sim_node *folder, *node;
	int error = sim_walk_parent(folder_fd, path, &folder, name);

	if (error)
		return error;
	node = sim_entry_find(folder, name);
	if (!node)
		return -ENOENT;
	if (!sim_may(folder, OS_ACCESS_WRITE))
		return -EACCES;
	if (is_folder != (node->type == OS_FILE_FOLDER))
		return is_folder ? -ENOTDIR : -EISDIR;
	return node->entries ? -ENOTEMPTY : sim_entry_remove(folder, name);
}

int os_unlink(int folder_fd, const char *name)
{
	SIM_CALL(-EIO, -EACCES);
	return remove_entry(folder_fd, name, false);
}

int os_unlink_folder(int folder_fd, const char *name)
{
	SIM_CALL(-EIO, -EACCES);
	return remove_entry(folder_fd, name, true);
}

int os_rename(int folder_fd, const char *from, const char *to)
{
	char from_name[SIM_NAME_MAX + 1], to_name[SIM_NAME_MAX + 1];
	struct sim_node *from_folder, *to_folder, *node;
	int error;

	SIM_CALL(-EIO, -ENOSPC);
	error = sim_walk_parent(folder_fd, from, &from_folder, from_name);
	if (!error)
		error = sim_walk_parent(folder_fd, to, &to_folder, to_name);
	if (error)
		return error;
	node = sim_entry_find(from_folder, from_name);
	if (!node)
		return -ENOENT;
	sim_node_ref(node);
	(void)!sim_entry_remove(from_folder, from_name);
	(void)!sim_entry_remove(to_folder, to_name);
	error = sim_entry_add(to_folder, to_name, node);
	sim_node_unref(node);
	return error;
}

int os_folder_make(int folder_fd, const char *path, unsigned mode)
{
	char part[PATH_CAP], name[SIM_NAME_MAX + 1];
	size_t len = strlen(path);
	struct sim_node *node, *folder;
	int error = 0;

	SIM_CALL(-EACCES, -ENOSPC);
	if (len == 0 || len >= sizeof(part))
		return len ? -ENAMETOOLONG : -ENOENT;
	for (size_t end = 1; end <= len && !error; end++) {
		if (path[end] != '/' && path[end] != 0)
			continue;
		memcpy(part, path, end);
		part[end] = 0;
		if (sim_walk(folder_fd, part, 0, &node) == 0)
			continue;
		error = sim_walk_parent(folder_fd, part, &folder, name);
		if (!error && !sim_may(folder, OS_ACCESS_WRITE))
			error = -EACCES;
		if (!error)
			error = sim_entry_add(folder, name, sim_node_new(OS_FILE_FOLDER, mode));
	}
	if (!error)
		error = sim_walk(folder_fd, path, 0, &node);
	if (error)
		return error;
	return node->type == OS_FILE_FOLDER ? 0 : -ENOTDIR;
}

/* ---- Locks: of a description ------------------------------------------------------------------- */

void sim_locks_drop(struct sim_node *node, const struct sim_file *file)
{
	for (size_t byte = 0; byte < SIM_LOCKS_MAX; byte++)
		if (node->locks[byte] == file)
			node->locks[byte] = NULL;
}

int os_lock_take(int fd, uint64_t byte)
{
	struct sim_node *node = file_node(fd, SIM_MAY_WRITE);
	const struct sim_file *file = sim_descriptor(fd);

	SIM_CALL(-ENOLCK);
	if (!node || byte >= SIM_LOCKS_MAX)
		return -EBADF;
	if (node->locks[byte] && node->locks[byte] != file)
		return -EAGAIN;
	node->locks[byte] = file;
	return 0;
}

int os_lock_release(int fd, uint64_t byte)
{
	struct sim_node *node = file_node(fd, SIM_MAY_READ | SIM_MAY_WRITE);

	if (!node || byte >= SIM_LOCKS_MAX)
		return -EBADF;
	if (node->locks[byte] == sim_descriptor(fd))
		node->locks[byte] = NULL;
	return 0;
}

int os_lock_is_held(int fd, uint64_t byte)
{
	struct sim_node *node = file_node(fd, SIM_MAY_READ | SIM_MAY_WRITE);

	SIM_CALL(-ENOLCK);
	if (!node || byte >= SIM_LOCKS_MAX)
		return -EBADF;
	return node->locks[byte] && node->locks[byte] != sim_descriptor(fd);
}

/* ---- The driver's hand ------------------------------------------------------------------------- */

static struct sim_node *put(const char *path, enum os_file_type type, unsigned mode)
{
	char folder_path[PATH_CAP], name[SIM_NAME_MAX + 1];
	const char *slash = strrchr(path, '/');
	struct sim_node *folder, *node;

	MUST(slash && (size_t)(slash - path) < sizeof(folder_path));
	memcpy(folder_path, path, (size_t)(slash - path));
	folder_path[slash - path] = 0;
	MUST(slash == path || os_folder_make(OS_FOLDER_CURRENT, folder_path, 0755) == 0);
	MUST(sim_walk_parent(OS_FOLDER_CURRENT, path, &folder, name) == 0);
	(void)!sim_entry_remove(folder, name);
	node = sim_node_new(type, mode);
	MUST(sim_entry_add(folder, name, node) == 0);
	return node;
}

void sim_file_put(const char *path, unsigned mode, struct span text)
{
	struct sim_node *node = put(path, OS_FILE_REGULAR, mode);

	MUST(sim_node_resize(node, text.len) == 0);
	if (text.len)
		memcpy(node->bytes, text.ptr, text.len);
}

void sim_link_put(const char *path, const char *target)
{
	struct sim_node *node = put(path, OS_FILE_SYMLINK, 0777);

	MUST(sim_node_resize(node, strlen(target)) == 0);
	memcpy(node->bytes, target, strlen(target));
}

void sim_file_make_cold(const char *path)
{
	struct sim_node *node;

	MUST(sim_walk(OS_FOLDER_CURRENT, path, 0, &node) == 0);
	node->cold_from = 0;
}

bool sim_file_get(const char *path, struct span *ret_text)
{
	struct sim_node *node;

	if (sim_walk(OS_FOLDER_CURRENT, path, 0, &node))
		return false;
	*ret_text = span_of(node->bytes, node->len);
	return true;
}
