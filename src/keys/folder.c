#include "keys/folder_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/os.h"

enum { SENTENCE_MAX = 1024 };

int keys_folder_new(int folder_fd, struct keys_folder **ret_folder)
{
	struct keys_folder *folder = heap_alloc(sizeof(*folder));

	if (!folder)
		return -ENOMEM;
	folder->fd = folder_fd;
	*ret_folder = folder;
	return 0;
}

void keys_folder_free(struct keys_folder *folder)
{
	if (!folder)
		return;
	crypto_key_free(folder->root.key);
	crypto_key_free(folder->intermediate.key);
	heap_free((void *)folder->root.der.ptr);
	heap_free((void *)folder->intermediate.der.ptr);
	heap_free(folder);
}

void keys_folder_freeze(struct keys_folder *folder)
{
	folder->is_frozen = true;
}

const char *keys_error_text(int error)
{
	const char *text = strerrordesc_np(-error);

	return text ? text : "unknown error";
}

int keys_fail(struct keys_task *task, int outcome, const char *format, ...)
{
	char buf[SENTENCE_MAX];
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(buf, sizeof(buf), format, arguments);
	va_end(arguments);
	if (len < 0)
		len = 0;
	task->why =
		arena_copy(task->arena,
			   span_of(buf, (size_t)len < sizeof(buf) ? (size_t)len : sizeof(buf) - 1));
	return outcome;
}

void keys_notify(struct keys_task *task, const char *format, ...)
{
	char buf[SENTENCE_MAX];
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(buf, sizeof(buf), format, arguments);
	va_end(arguments);
	if (len <= 0)
		return;
	struct span before = task->notice;
	task->notice = arena_format(task->arena, "%.*s%s%s", SPAN_ARG(before),
				    before.len ? "\n" : "", buf);
}

int keys_folder_read(struct keys_task *task, const char *path, struct span *ret_text)
{
	return os_file_read(task->folder->fd, path, KEYS_FILE_SIZE_MAX, task->arena, ret_text);
}

static int open_subfolder(struct keys_task *task, const char *subfolder, int *ret_fd)
{
	int result = os_folder_make(task->folder->fd, subfolder, 0700);

	return result ? result
		      : os_open(task->folder->fd, subfolder, OS_OPEN_FOLDER | OS_OPEN_BENEATH, 0,
				ret_fd);
}

static int say_cannot_write(struct keys_task *task, const char *subfolder, const char *name,
			    int error)
{
	return keys_fail(task, KEYS_FOLDER_FAILED, "the key folder's %s/%s cannot be written: %s",
			 subfolder, name, keys_error_text(error));
}

static int say_frozen(struct keys_task *task)
{
	return keys_fail(
		task, KEYS_FOLDER_FAILED,
		"the key folder is not written any more: this vault's supervisor has ended");
}

int keys_folder_write(struct keys_task *task, const char *subfolder, const char *name,
		      struct span text)
{
	OS_AUTO_FD fd = -1;

	if (task->folder->is_frozen)
		return say_frozen(task);
	int result = open_subfolder(task, subfolder, &fd);
	if (result == 0)
		result = os_file_replace(fd, name, text, 0600);
	return result == 0 ? 0 : say_cannot_write(task, subfolder, name, result);
}

static int append(int folder_fd, const char *name, struct span line)
{
	OS_AUTO_FD fd = -1;
	struct os_file_info info;
	char last = '\n';
	int result =
		os_open(folder_fd, name,
			OS_OPEN_READ_WRITE | OS_OPEN_APPEND | OS_OPEN_CREATE | OS_OPEN_NO_FOLLOW,
			0600, &fd);

	if (result == 0)
		result = os_file_info(fd, &info);
	if (result != 0)
		return result;
	/* A line that a crash cut short must not swallow this one. */
	if (info.size > 0 && os_pread(fd, &last, 1, info.size - 1) != 1)
		return -EIO;
	if (last != '\n')
		result = os_write_all(fd, "\n", 1);
	if (result == 0)
		result = os_write_all(fd, line.ptr, line.len);
	return result ? result : os_file_sync(fd);
}

int keys_folder_append(struct keys_task *task, const char *subfolder, const char *name,
		       struct span line)
{
	OS_AUTO_FD fd = -1;

	if (task->folder->is_frozen)
		return say_frozen(task);
	int result = open_subfolder(task, subfolder, &fd);
	if (result == 0)
		result = append(fd, name, line);
	return result == 0 ? 0 : say_cannot_write(task, subfolder, name, result);
}

void keys_wipe_text(struct span text)
{
	if (text.len)
		crypto_wipe((void *)text.ptr, text.len);
}

bool keys_first_certificate(struct arena *arena, struct span pem, struct span *ret_der)
{
	size_t size = pem.len + 16;
	char *buf = arena_alloc(arena, size, 1);
	struct crypto_pem_block block;

	for (; buf;) {
		struct writer der = writer_of(buf, size);
		int outcome = crypto_pem_next(&pem, &block, &der);
		if (outcome == CRYPTO_PEM_END)
			return false;
		if (!span_equal(block.label, SPAN("CERTIFICATE"))) {
			crypto_wipe(buf, size);
			continue;
		}
		*ret_der = writer_done(&der);
		return outcome == 0;
	}
	return false;
}

bool keys_is_key_of(const struct crypto_key *key, const struct cert_chain *chain)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];

	return crypto_key_spki_hash(key, hash) == 0 &&
	       memcmp(hash, chain->spki_hash, sizeof(hash)) == 0;
}

int keys_pair_text(struct arena *arena, const struct span *certificates, size_t count,
		   const struct crypto_key *key, struct span *ret_text)
{
	size_t size = count * CERT_PEM_MAX + CRYPTO_KEY_TEXT_MAX;
	char *buf = arena_alloc(arena, size, 1);
	struct writer out = writer_of(buf, buf ? size : 0);

	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		cert_write_pem(certificates[i], &out);
	int result = out.ok ? crypto_key_write_pem(key, &out) : -ENOSPC;
	*ret_text = writer_done(&out);
	return result;
}

/* By position, not by the descriptor's own: the supervisor keeps the same open file for the next vault. */
static int read_key_file(int fd, struct arena *arena, struct span *ret_text)
{
	char *buf = arena_alloc(arena, KEYS_FILE_SIZE_MAX + 1, 1);
	size_t used = 0;

	if (!buf)
		return -ENOMEM;
	while (used <= KEYS_FILE_SIZE_MAX) {
		ssize_t count = os_pread(fd, buf + used, KEYS_FILE_SIZE_MAX + 1 - used, used);
		if (count < 0) {
			crypto_wipe(buf, used);
			return (int)count;
		}
		if (count == 0)
			break;
		used += (size_t)count;
	}
	*ret_text = span_of(buf, used);
	if (used <= KEYS_FILE_SIZE_MAX)
		return 0;
	crypto_wipe(buf, used);
	return -EFBIG;
}

int keys_file_load(int fd, const uint8_t *spki_hash, struct arena *arena,
		   struct crypto_key **ret_key, struct span *ret_why)
{
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct span text;
	struct crypto_key *key = NULL;
	int result = fd < 0 ? -EACCES : read_key_file(fd, arena, &text);

	if (result == -ENOMEM)
		return result;
	if (result != 0) {
		*ret_why = arena_format(arena, "cannot be read: %s", keys_error_text(result));
		return KEYS_FILE_UNREADABLE;
	}
	result = crypto_key_parse_pem(text, &key);
	keys_wipe_text(text);
	if (result < 0)
		return result;
	if (result > 0) {
		*ret_why = arena_format(arena, "%s", crypto_key_outcome_text(result));
		return KEYS_FILE_UNUSABLE;
	}
	result = crypto_key_spki_hash(key, hash);
	if (result == 0 && spki_hash && memcmp(hash, spki_hash, sizeof(hash)) != 0) {
		*ret_why = arena_format(arena, "is the key of another certificate: public key and "
					       "certificate do not match");
		result = KEYS_FILE_MISMATCH;
	}
	if (result == 0)
		*ret_key = TAKE(key);
	crypto_key_free(key);
	return result;
}
