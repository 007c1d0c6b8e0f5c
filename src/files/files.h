/* files: documents below roots: opened in the `files` process, kept and read in workers.
 *
 * Two halves that never run in one process. The *opener* (struct files_opener) resolves a normalised path
 * below a root's descriptor (openat2, RESOLVE_BENEATH), settles the index document and never opens a FIFO,
 * device or dot file. The *cache* (struct files_cache) keeps in a worker what the opener answered, by root
 * and path: small documents as bytes, others as a descriptor. It never touches a cold page. */
#pragma once

#include "http/http.h"
#include "ipc/messages.h"
#include "os/os.h"

/* ---- Opener ---------------------------------------------------------------------------------------- */

enum { FILES_INLINE_MAX = 16384, FILES_WARM_STEP = 256 * 1024 };

struct files_opener;
int files_opener_new(struct files_opener **ret_opener) MUST_CHECK;
void files_opener_free(struct files_opener *opener);
/* `folder` is an O_PATH descriptor (taken), `path` for messages. Replaces a root of the same id. */
int files_opener_add_root(struct files_opener *opener, uint64_t id, int folder,
			  struct span path) MUST_CHECK;
/* May this process enter the root? 0, -EACCES, … *ret_info is the folder's, as far as it can be told. */
int files_opener_look(const struct files_opener *opener, uint64_t id,
		      struct os_file_info *ret_info) MUST_CHECK;
void files_opener_remove_root(struct files_opener *opener, uint64_t id);

struct files_answer {
	struct ipc_opened opened; /* without its question */
	struct span name;         /* of the document ("index.html"), for its type */
	struct span bytes;        /* at most FILES_INLINE_MAX; in the caller's buffer */
	int fd;                   /* or a descriptor, the caller's; -1 */
};
/* `path` starts with '/', is percent-decoded and free of dot segments (http_path_normalize). A path that
 * ends in '/' means the folder's index.html. buf holds FILES_INLINE_MAX bytes. */
void files_open(struct files_opener *opener, uint64_t root, struct span path, char *buf,
		struct files_answer *ret_answer);
/* Up to FILES_INLINE_MAX bytes of a document whose answer was IPC_OPEN_DISTANT, into `buf`. None: it ends there.
 * -ESTALE: it is another one by now. */
int files_read(struct files_opener *opener, const struct ipc_read *wanted, struct span path,
	       char *buf, struct span *ret_bytes) MUST_CHECK;
/* Once a second: lets go of distant documents that nobody reads any more. */
void files_opener_look_over(struct files_opener *opener);
/* Reads the range once so that its pages are there; 0 or -errno. */
int files_warm(int fd, uint64_t offset, uint64_t len) MUST_CHECK;

/* ---- Cache ----------------------------------------------------------------------------------------- */

/* Shared by the exchanges that serve it; freed with the last reference. */
struct files_document {
	uint32_t references;
	enum ipc_open_status status;
	uint64_t size, inode, device;
	int64_t mtime_ns;
	struct span name;  /* its own copy */
	struct span bytes; /* its own copy; ptr NULL when it has a descriptor, or is distant */
	int fd;
	bool is_distant; /* its bytes are asked for with `read` */
	/* Of IPC_OPEN_DOCUMENT what each answer's head says of it, made once. */
	struct http_validators validators;
	struct span modified, media_type; /* Last-Modified, Content-Type */
	char etag_text[HTTP_ETAG_SIZE], modified_text[HTTP_DATE_LEN];
};
void files_document_ref(struct files_document *document);
void files_document_unref(struct files_document *document); /* NULL is fine */

struct files_cache;
int files_cache_new(size_t max_documents, size_t max_bytes,
		    struct files_cache **ret_cache) MUST_CHECK;
void files_cache_free(struct files_cache *cache);

enum files_found {
	FILES_FRESH = 1, /* serve it */
	FILES_STALE,     /* serve it and ask again: *ret_ask is true for the one caller who shall */
	FILES_ABSENT, /* ask and wait; *ret_ask false: somebody else asked already, wait with him */
};
/* *ret_document is a new reference (FRESH, STALE). Answers are fresh for 1 s. Absences (NOT_FOUND …) are
 * documents too. */
enum files_found files_cache_find(struct files_cache *cache, uint64_t root, struct span path,
				  uint64_t now_ns, struct files_document **ret_document,
				  bool *ret_ask);
/* What the opener answered, as it came. */
struct files_reply {
	const struct ipc_opened *opened;
	struct span tail;
	int fd; /* -1: none */
};
/* Puts it in its place and returns a reference. fd is taken. NULL without memory. */
struct files_document *files_cache_store(struct files_cache *cache, uint64_t root, struct span path,
					 uint64_t now_ns, const struct files_reply *reply);
/* The question that find() wanted did not come through: the next caller asks again. */
void files_cache_failed(struct files_cache *cache, uint64_t root, struct span path);
/* Roots that are gone after a change. */
void files_cache_clear(struct files_cache *cache);
/* How many made room for others so far, because there were as many, or as much, as there may be. */
uint64_t files_cache_displaced(const struct files_cache *cache);
size_t files_cache_bytes(const struct files_cache *cache); /* of all documents that it keeps */

enum files_read_outcome {
	FILES_COLD = 1, /* not in memory: ask `files` to warm it, then read with may_block */
	FILES_SHRUNK,   /* it ends before `offset + 1`: the file was changed while it was sent */
};
/* At most `size` bytes at `offset`. 0, FILES_COLD, FILES_SHRUNK, -errno. */
int files_document_read(const struct files_document *document, uint64_t offset, char *buf,
			size_t size, bool may_block, size_t *ret_len) MUST_CHECK;
