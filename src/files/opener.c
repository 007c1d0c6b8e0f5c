#include "files/files.h"

#include <string.h>

struct files_root {
	uint64_t id;
	int folder;     /* O_PATH */
	char path[256]; /* for messages, cut */
};

enum { FILES_PATH_MAX = 4096, PAGE_BYTES = 4096, KEPT_MAX = 8, KEPT_LOOKS = 2 };

/* A distant document that is read now: it is not opened for each piece. */
struct files_kept {
	uint64_t root, path; /* hashes */
	int fd;
	unsigned looks; /* since it was last read */
	bool is_used;
};

struct files_opener {
	struct files_root *roots;
	size_t count, capacity;
	struct files_kept kept[KEPT_MAX];
	size_t next; /* of kept: to be displaced */
};

int files_opener_new(struct files_opener **ret_opener)
{
	struct files_opener *opener = heap_alloc(sizeof(*opener));

	if (!opener)
		return -ENOMEM;
	*ret_opener = opener;
	return 0;
}

static void kept_drop(struct files_kept *kept)
{
	if (kept->is_used)
		os_close(kept->fd);
	kept->is_used = false;
}

void files_opener_free(struct files_opener *opener)
{
	if (!opener)
		return;
	for (size_t i = 0; i < opener->count; i++)
		os_close(opener->roots[i].folder);
	for (size_t i = 0; i < KEPT_MAX; i++)
		kept_drop(&opener->kept[i]);
	heap_free(opener->roots);
	heap_free(opener);
}

static struct files_root *root_find(const struct files_opener *opener, uint64_t id)
{
	for (size_t i = 0; i < opener->count; i++) {
		if (opener->roots[i].id == id)
			return &opener->roots[i];
	}
	return NULL;
}

int files_opener_add_root(struct files_opener *opener, uint64_t id, int folder, struct span path)
{
	struct files_root *root = root_find(opener, id);
	void *roots = opener->roots;
	struct writer writer;

	if (root) {
		os_close(root->folder);
	} else {
		if (!heap_grow(&roots, &opener->capacity, opener->count + 1, sizeof(*root))) {
			os_close(folder);
			return -ENOMEM;
		}
		opener->roots = roots;
		root = &opener->roots[opener->count++];
	}
	root->id = id;
	root->folder = folder;
	writer = writer_of(root->path, sizeof(root->path) - 1);
	write_span(&writer, span_first(path, sizeof(root->path) - 1));
	root->path[writer_done(&writer).len] = '\0';
	return 0;
}

int files_opener_look(const struct files_opener *opener, uint64_t id, struct os_file_info *ret_info)
{
	const struct files_root *root = root_find(opener, id);
	OS_AUTO_FD folder = -1;
	int failed = root ? os_file_info(root->folder, ret_info) : -ENOENT;

	return failed ? failed
		      : os_open(root->folder, ".",
				OS_OPEN_HANDLE | OS_OPEN_FOLDER | OS_OPEN_BENEATH, 0, &folder);
}

void files_opener_remove_root(struct files_opener *opener, uint64_t id)
{
	struct files_root *root = root_find(opener, id);

	if (!root)
		return;
	os_close(root->folder);
	*root = opener->roots[--opener->count];
}

/* A dot file or folder is never served: `.git`, `.env`, `.htpasswd`. */
static bool has_dot_part(struct span path)
{
	for (size_t i = 0; i + 1 < path.len; i++) {
		if (path.ptr[i] == '/' && path.ptr[i + 1] == '.')
			return true;
	}
	return false;
}

static enum ipc_open_status status_of(int failed)
{
	switch (-failed) {
	case EACCES:
	case EPERM:
		return IPC_OPEN_FORBIDDEN;
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EXDEV: /* a symlink that leads out of the root */
	case ENAMETOOLONG:
	case EINVAL:
	case ENXIO:
		return IPC_OPEN_NOT_FOUND;
	default:
		return IPC_OPEN_FAILED;
	}
}

/* The object is looked at by its handle first: a FIFO or a device is never opened. */
static int open_regular(const struct files_root *root, const char *path,
			struct os_file_info *ret_info, int *ret_fd)
{
	OS_AUTO_FD handle = -1;
	struct os_file_info info;
	int failed = os_open(root->folder, path, OS_OPEN_HANDLE | OS_OPEN_BENEATH, 0, &handle);

	if (!failed)
		failed = os_file_info(handle, &info);
	if (failed)
		return failed;
	if (info.type == OS_FILE_FOLDER)
		return -EISDIR;
	if (info.type != OS_FILE_REGULAR)
		return -ENOENT;
	failed = os_open(root->folder, path, OS_OPEN_READ | OS_OPEN_BENEATH, 0, ret_fd);
	if (failed)
		return failed;
	failed = os_file_info(*ret_fd, ret_info);
	/* It may have been replaced in between. */
	if (!failed && ret_info->type != OS_FILE_REGULAR)
		failed = -ENOENT;
	if (failed) {
		os_close(*ret_fd);
		*ret_fd = -1;
	}
	return failed;
}

static void take_bytes(struct files_answer *answer, char *buf)
{
	ssize_t got;

	if (answer->opened.size > FILES_INLINE_MAX)
		return;
	got = os_pread(answer->fd, buf, FILES_INLINE_MAX, 0);
	if (got < 0 || (uint64_t)got != answer->opened.size)
		return; /* it changes right now: the descriptor says how far it goes */
	answer->bytes = span_of(buf, (size_t)got);
	os_close(answer->fd);
	answer->fd = -1;
}

static bool is_folder(struct span path)
{
	return path.len && path.ptr[path.len - 1] == '/';
}

static int open_document(const struct files_root *root, struct span path,
			 struct os_file_info *ret_info, int *ret_fd)
{
	char name[FILES_PATH_MAX + sizeof("index.html")];
	struct writer writer = writer_of(name, sizeof(name) - 1);

	if (!path.len || path.ptr[0] != '/' || path.len > FILES_PATH_MAX || has_dot_part(path) ||
	    memchr(path.ptr, '\0', path.len))
		return -ENOENT;
	write_span(&writer, span_skip(path, 1));
	if (is_folder(path))
		write_str(&writer, "index.html");
	name[writer_done(&writer).len] = '\0';
	return open_regular(root, name, ret_info, ret_fd);
}

/* What would not fit and is not this machine's is read here, piece by piece: a worker that has a descriptor of a dead
 * file system hangs when it reads, and even when it closes. */
static void keep_distant(struct files_answer *answer)
{
	if (answer->fd < 0 || os_file_is_local(answer->fd))
		return;
	os_close(answer->fd);
	answer->fd = -1;
	answer->opened.status = IPC_OPEN_DISTANT;
}

void files_open(struct files_opener *opener, uint64_t root_id, struct span path, char *buf,
		struct files_answer *ret_answer)
{
	const struct files_root *root = root_find(opener, root_id);
	struct os_file_info info;
	int failed;

	*ret_answer = (struct files_answer){ .fd = -1, .opened.status = IPC_OPEN_FAILED };
	if (!root)
		return;
	failed = open_document(root, path, &info, &ret_answer->fd);
	if (failed == -EISDIR && !is_folder(path))
		ret_answer->opened.status = IPC_OPEN_FOLDER_WITHOUT_SLASH;
	else if (failed)
		ret_answer->opened.status =
			failed == -EISDIR ? IPC_OPEN_NOT_FOUND : status_of(failed);
	if (failed)
		return;
	ret_answer->opened.status = IPC_OPEN_DOCUMENT;
	ret_answer->opened.size = info.size;
	ret_answer->opened.inode = info.inode;
	ret_answer->opened.device = info.device;
	ret_answer->opened.mtime_ns = info.mtime_ns;
	ret_answer->name = is_folder(path) ? SPAN("index.html") : path;
	while (span_find_byte(ret_answer->name, '/') < ret_answer->name.len)
		ret_answer->name =
			span_skip(ret_answer->name, span_find_byte(ret_answer->name, '/') + 1);
	take_bytes(ret_answer, buf);
	keep_distant(ret_answer);
}

/* ---- Distant documents ---------------------------------------------------------------------------------- */

static bool is_same(int fd, const struct ipc_read *wanted)
{
	struct os_file_info info;

	return os_file_info(fd, &info) == 0 && info.inode == wanted->inode &&
	       info.device == wanted->device && info.size == wanted->size &&
	       info.mtime_ns == wanted->mtime_ns;
}

static int kept_open(struct files_opener *opener, const struct ipc_read *wanted, struct span path,
		     int *ret_fd)
{
	const struct files_root *root = root_find(opener, wanted->root);
	uint64_t hash = hash_id(path);
	struct files_kept *kept = &opener->kept[opener->next];
	struct os_file_info info;
	int fd, failed;

	for (size_t i = 0; i < KEPT_MAX; i++) {
		struct files_kept *one = &opener->kept[i];

		if (!one->is_used || one->root != wanted->root || one->path != hash ||
		    !is_same(one->fd, wanted))
			continue;
		one->looks = 0;
		*ret_fd = one->fd;
		return 0;
	}
	failed = root ? open_document(root, path, &info, &fd) : -ENOENT;
	if (failed)
		return failed;
	kept_drop(kept);
	*kept = (struct files_kept){
		.root = wanted->root, .path = hash, .fd = fd, .is_used = true
	};
	opener->next = (opener->next + 1) % KEPT_MAX;
	*ret_fd = fd;
	return is_same(fd, wanted) ? 0 : -ESTALE;
}

int files_read(struct files_opener *opener, const struct ipc_read *wanted, struct span path,
	       char *buf, struct span *ret_bytes)
{
	ssize_t got;
	int fd, failed = kept_open(opener, wanted, path, &fd);

	if (failed)
		return failed;
	got = os_pread(fd, buf, FILES_INLINE_MAX, wanted->offset);
	if (got < 0)
		return (int)got;
	*ret_bytes = span_of(buf, (size_t)got);
	return 0;
}

void files_opener_look_over(struct files_opener *opener)
{
	for (size_t i = 0; i < KEPT_MAX; i++) {
		struct files_kept *kept = &opener->kept[i];

		if (kept->is_used && kept->looks++ >= KEPT_LOOKS)
			kept_drop(kept);
	}
}

int files_warm(int fd, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + (len < FILES_WARM_STEP ? len : FILES_WARM_STEP);
	char byte;

	/* One byte a page is enough to have the page read; a foreign descriptor may be anything readable.
	 * From the page's start on: the range may end in the page behind its last whole step. */
	for (uint64_t at = offset & ~(uint64_t)(PAGE_BYTES - 1); at < end; at += PAGE_BYTES) {
		ssize_t got = os_pread(fd, &byte, 1, at);

		if (got <= 0)
			return (int)got;
	}
	return 0;
}
