#include "files/files.h"

#include <string.h>

enum { FILES_FRESH_NS = 1000000000 };

struct files_entry {
	struct list link; /* least recently used first */
	uint64_t key;
	uint64_t root;
	struct span path;                /* its own copy */
	struct files_document *document; /* NULL while the first answer is awaited */
	uint64_t answered_ns;
	bool is_asked;
};

struct files_cache {
	struct map entries;
	struct list used;
	size_t count, bytes, max_count, max_bytes;
	uint64_t displaced;
	uint8_t key[16];
};

int files_cache_new(size_t max_documents, size_t max_bytes, struct files_cache **ret_cache)
{
	struct files_cache *cache = heap_alloc(sizeof(*cache));

	if (!cache)
		return -ENOMEM;
	map_init(&cache->entries);
	list_init(&cache->used);
	cache->max_count = max_documents;
	cache->max_bytes = max_bytes;
	/* Paths are peers' choice: without a key of our own they could be made to collide. */
	os_random(cache->key, sizeof(cache->key));
	*ret_cache = cache;
	return 0;
}

void files_document_ref(struct files_document *document)
{
	document->references++;
}

void files_document_unref(struct files_document *document)
{
	if (!document)
		return;
	MUST(document->references > 0);
	if (--document->references)
		return;
	os_close(document->fd);
	heap_free(document);
}

static void entry_free(struct files_cache *cache, struct files_entry *entry)
{
	map_remove(&cache->entries, entry->key);
	list_remove(&entry->link);
	cache->count--;
	if (entry->document)
		cache->bytes -= entry->document->bytes.len;
	files_document_unref(entry->document);
	heap_free(entry);
}

void files_cache_clear(struct files_cache *cache)
{
	LIST_EACH(&cache->used, node)
		entry_free(cache, LIST_ITEM(node, struct files_entry, link));
}

void files_cache_free(struct files_cache *cache)
{
	if (!cache)
		return;
	files_cache_clear(cache);
	map_fini(&cache->entries);
	heap_free(cache);
}

static uint64_t key_of(const struct files_cache *cache, uint64_t root, struct span path)
{
	return hash_siphash(cache->key, path) ^ (root * UINT64_C(0x9e3779b97f4a7c15));
}

static struct files_entry *entry_find(struct files_cache *cache, uint64_t root, struct span path)
{
	struct files_entry *entry = map_get(&cache->entries, key_of(cache, root, path));

	/* Two paths of one key: the later one displaces the earlier, neither is served for the other. */
	if (entry && (entry->root != root || !span_equal(entry->path, path)))
		return NULL;
	return entry;
}

static void displace_oldest(struct files_cache *cache)
{
	entry_free(cache, LIST_ITEM(cache->used.next, struct files_entry, link));
	cache->displaced++;
}

uint64_t files_cache_displaced(const struct files_cache *cache)
{
	return cache->displaced;
}

size_t files_cache_bytes(const struct files_cache *cache)
{
	return cache->bytes +
	       cache->count * (sizeof(struct files_entry) + sizeof(struct files_document));
}

static struct files_entry *entry_new(struct files_cache *cache, uint64_t root, struct span path)
{
	uint64_t key = key_of(cache, root, path);
	struct files_entry *old = map_get(&cache->entries, key);
	struct files_entry *entry = heap_alloc(sizeof(*entry) + path.len);

	if (old)
		entry_free(cache, old);
	while (cache->count >= cache->max_count && !list_is_empty(&cache->used))
		displace_oldest(cache);
	if (!entry || map_set(&cache->entries, key, entry)) {
		heap_free(entry);
		return NULL;
	}
	entry->key = key;
	entry->root = root;
	memcpy(entry + 1, path.ptr, path.len);
	entry->path = span_of(entry + 1, path.len);
	list_push_back(&cache->used, &entry->link);
	cache->count++;
	return entry;
}

enum files_found files_cache_find(struct files_cache *cache, uint64_t root, struct span path,
				  uint64_t now_ns, struct files_document **ret_document,
				  bool *ret_ask)
{
	struct files_entry *entry = entry_find(cache, root, path);
	bool is_fresh = entry && now_ns - entry->answered_ns < FILES_FRESH_NS;

	*ret_ask = false;
	if (!entry) {
		entry = entry_new(cache, root, path);
		*ret_ask = true; /* also without memory: the question itself needs none of this */
		if (entry)
			entry->is_asked = true;
		return FILES_ABSENT;
	}
	/* A failure of ours is no answer to go on with: what failed then may be well by now. */
	if (!entry->document || (!is_fresh && entry->document->status == IPC_OPEN_FAILED)) {
		*ret_ask = !entry->is_asked;
		entry->is_asked = true;
		return FILES_ABSENT;
	}
	list_remove(&entry->link);
	list_push_back(&cache->used, &entry->link);
	if (!is_fresh && !entry->is_asked) {
		entry->is_asked = true;
		*ret_ask = true;
	}
	files_document_ref(entry->document);
	*ret_document = entry->document;
	return is_fresh ? FILES_FRESH : FILES_STALE;
}

static void describe(struct files_document *document)
{
	int64_t modified_s = document->mtime_ns / (int64_t)OS_SECOND;
	uint32_t modified_ns = (uint32_t)(document->mtime_ns % (int64_t)OS_SECOND);

	document->validators = (struct http_validators){
		.etag = http_etag_write(document->size, modified_s, modified_ns,
					document->etag_text),
		.modified_s = modified_s,
	};
	http_date_write(modified_s, document->modified_text);
	document->modified = span_of(document->modified_text, sizeof(document->modified_text));
	document->media_type = http_media_type(document->name);
}

static struct files_document *document_new(const struct ipc_opened *opened, struct span tail,
					   int fd)
{
	struct files_document *document = heap_alloc(sizeof(*document) + tail.len);
	size_t name_len = opened->name_len < tail.len ? opened->name_len : tail.len;
	struct span copy;

	if (!document) {
		os_close(fd);
		return NULL;
	}
	document->references = 1;
	document->status = opened->status <= IPC_OPEN_FAILED ? (enum ipc_open_status)opened->status
							     : IPC_OPEN_FAILED;
	document->is_distant = opened->status == IPC_OPEN_DISTANT;
	if (document->is_distant)
		document->status = IPC_OPEN_DOCUMENT;
	document->size = opened->size;
	document->inode = opened->inode;
	document->device = opened->device;
	document->mtime_ns = opened->mtime_ns > 0 ? opened->mtime_ns : 0;
	document->fd = fd;
	if (tail.len)
		memcpy(document + 1, tail.ptr, tail.len);
	copy = span_of(document + 1, tail.len);
	document->name = span_first(copy, name_len);
	if (fd < 0 && document->status == IPC_OPEN_DOCUMENT && !document->is_distant) {
		document->bytes = span_skip(copy, name_len);
		if (document->bytes.len != document->size)
			document->status = IPC_OPEN_FAILED;
	}
	if (document->status == IPC_OPEN_DOCUMENT)
		describe(document);
	return document;
}

struct files_document *files_cache_store(struct files_cache *cache, uint64_t root, struct span path,
					 uint64_t now_ns, const struct files_reply *reply)
{
	struct files_document *document = document_new(reply->opened, reply->tail, reply->fd);
	struct files_entry *entry;

	if (!document)
		return NULL;
	entry = entry_find(cache, root, path);
	if (!entry)
		entry = entry_new(cache, root, path);
	if (!entry)
		return document;
	if (entry->document)
		cache->bytes -= entry->document->bytes.len;
	files_document_unref(entry->document);
	files_document_ref(document);
	entry->document = document;
	entry->answered_ns = now_ns;
	entry->is_asked = false;
	cache->bytes += document->bytes.len;
	/* Last, so that all others are before it where room is made. */
	list_remove(&entry->link);
	list_push_back(&cache->used, &entry->link);
	while (cache->bytes > cache->max_bytes && cache->used.next != &entry->link)
		displace_oldest(cache);
	return document;
}

void files_cache_failed(struct files_cache *cache, uint64_t root, struct span path)
{
	struct files_entry *entry = entry_find(cache, root, path);

	if (!entry)
		return;
	entry->is_asked = false;
	if (!entry->document)
		entry_free(cache, entry);
}

int files_document_read(const struct files_document *document, uint64_t offset, char *buf,
			size_t size, bool may_block, size_t *ret_len)
{
	ssize_t got = may_block ? os_pread(document->fd, buf, size, offset)
				: os_pread_cached(document->fd, buf, size, offset);

	/* tmpfs and overlayfs cannot say what is in memory: asked like a cold page. */
	if (got == -EAGAIN || got == -EOPNOTSUPP)
		return FILES_COLD;
	if (got == 0)
		return FILES_SHRUNK;
	if (got < 0)
		return (int)got;
	*ret_len = (size_t)got;
	return 0;
}
