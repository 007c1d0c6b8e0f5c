/* The files process: documents below the roots that it was granted, for workers that name them by id. */
#include "proc/proc.h"

#include <string.h>

#include "files/files.h"

enum { LINK_TARGET_MAX = 4096, TOLD_AGAIN_S = 10 };

/* A symlink on the way to a root. */
struct root_link {
	struct list link;
	uint64_t root;
	int parent;
	uint64_t target,
		told; /* hashes: where it led when the root was opened; what was told of last, 0: nothing */
	unsigned told_s; /* seconds ago */
	char name[];
};

struct files_process {
	struct files_opener *opener;
	char *buf;
	struct list links;
	bool has_looked; /* whether it may enter its roots */
};

/* ---- Roots that are found by symlinks --------------------------------------------------------------------- */

static int link_add(struct files_process *files, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct span target = message->tail, name;
	struct root_link *link;

	if (!span_cut(&target, '\0', &name))
		return -EBADMSG;
	link = heap_alloc(sizeof(*link) + name.len + 1);
	if (!link)
		return -ENOMEM;
	link->root = grant->id;
	link->parent = TAKE_FD(message->descriptors[0]);
	link->target = hash_id(target);
	memcpy(link->name, name.ptr, name.len);
	link->name[name.len] = '\0';
	list_push_back(&files->links, &link->link);
	return 0;
}

/* One that is away, as between the two steps of a switch that is not atomic, leads nowhere yet. */
static uint64_t link_target(const struct root_link *link)
{
	struct arena arena;
	struct span target;
	uint64_t hash = link->target;

	arena_init(&arena, 4 * LINK_TARGET_MAX);
	if (os_link_read(link->parent, link->name, &arena, &target) == 0)
		hash = hash_id(target);
	arena_fini(&arena);
	return hash;
}

/* What a change could not take over is told again, but not each second. */
static bool is_to_tell(struct root_link *link)
{
	uint64_t target = link_target(link);

	link->told_s++;
	if (target == link->target || (target == link->told && link->told_s < TOLD_AGAIN_S))
		return false;
	link->told = target;
	link->told_s = 0;
	return true;
}

static void on_second(void *state, struct proc_self *self)
{
	struct files_process *files = state;

	files_opener_look_over(files->opener);
	if (proc_is_draining(self) || proc_is_orphan(self))
		return;
	LIST_EACH(&files->links, node) {
		struct root_link *link = LIST_ITEM(node, struct root_link, link);

		if (is_to_tell(link) && IPC_SEND(proc_supervisor(self), root_news, .id = link->root,
						 .what = IPC_ROOT_MOVED))
			proc_exit(self, PROC_EXIT_FAULT);
	}
}

/* ---- Roots that may not be entered ------------------------------------------------------------------------ */

static void look(struct files_process *files, struct proc_self *self,
		 const struct snapshot_root *root)
{
	struct ipc_root_news body = { .id = root->id, .what = IPC_ROOT_FORBIDDEN };
	struct os_file_info info = { 0 };
	int failed = files_opener_look(files->opener, root->id, &info);
	char text[2048];
	struct writer writer = writer_of(text, sizeof(text));

	if (failed != -EACCES && failed != -EPERM)
		return;
	write_format(&writer,
		     "%.*s:%u:%u: error: document root %.*s: `files`, which serves it as uid %u, "
		     "may not enter it: its mode is %03o, its owner uid %u",
		     SPAN_ARG(root->place.file), root->place.line, root->place.column,
		     SPAN_ARG(span_first(root->path, 1024)), os_uid(), info.mode & 0777, info.uid);
	if (ipc_send(proc_supervisor(self), IPC_MESSAGE_root_news, &body, writer_done(&writer),
		     NULL, 0))
		proc_exit(self, PROC_EXIT_FAULT);
}

/* Once, before it answers the first `prepare`: a change that brings such a root is refused. */
static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	struct files_process *files = state;

	(void)change;
	for (size_t i = 0; !files->has_looked && snapshot && i < snapshot->root_count; i++)
		look(files, self, &snapshot->roots[i]);
	files->has_looked = true;
	return PROC_PREPARED;
}

/* ---- The process ------------------------------------------------------------------------------------------- */

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct files_process *files = state;
	int folder;

	(void)self;
	if (!files->links.next)
		list_init(&files->links);
	if (message->descriptor_count < 1)
		return 0;
	if (grant->what == IPC_GRANT_ROOT_LINK)
		return link_add(files, grant, message);
	if (grant->what != IPC_GRANT_ROOT)
		return 0;
	if (!files->opener && files_opener_new(&files->opener))
		return -ENOMEM;
	/* The grant's own descriptor stays with main, which makes the Landlock rule of it. */
	if (os_duplicate(message->descriptors[0], &folder))
		return -EMFILE;
	return files_opener_add_root(files->opener, grant->id, folder, message->tail);
}

static int on_sandboxed(void *state, struct proc_self *self)
{
	struct files_process *files = state;

	(void)self;
	if (!files->links.next)
		list_init(&files->links);
	files->buf = heap_alloc(FILES_INLINE_MAX);
	if (!files->buf)
		return -ENOMEM;
	return files->opener ? 0 : files_opener_new(&files->opener);
}

/* Too much waits for a worker that is slow to read. A word of that has room where a document has none: without any
 * answer the worker would wait, and all that ask for that document. */
static void answer_no_room(struct ipc_channel *channel, const struct ipc_open *open)
{
	struct ipc_opened body = { .question = open->question, .status = IPC_OPEN_FAILED };

	if (ipc_send(channel, IPC_MESSAGE_opened, &body, SPAN_NONE, NULL, 0))
		ipc_channel_flush(channel);
}

static void answer_open(struct files_process *files, struct ipc_channel *channel,
			const struct ipc_open *open, struct span path)
{
	char tail[FILES_INLINE_MAX + 256];
	struct writer writer = writer_of(tail, sizeof(tail));
	struct files_answer answer;
	struct span name;

	files_open(files->opener, open->root, path, files->buf, &answer);
	name = span_first(answer.name, 255);
	/* Only the end of a name matters to its media type. */
	if (answer.name.len > name.len)
		name = span_skip(answer.name, answer.name.len - 255);
	answer.opened.question = open->question;
	answer.opened.name_len = (uint32_t)name.len;
	write_span(&writer, name);
	write_span(&writer, answer.bytes);
	if (ipc_send(channel, IPC_MESSAGE_opened, &answer.opened, writer_done(&writer), &answer.fd,
		     answer.fd >= 0 ? 1 : 0))
		answer_no_room(channel, open);
	os_close(answer.fd);
}

static void answer_warm(struct ipc_channel *channel, const struct ipc_warm *warm, int fd)
{
	struct ipc_warmed body = { .question = warm->question };
	int failed = files_warm(fd, warm->offset, warm->len);

	body.status = failed < 0 ? (uint32_t)-failed : 0;
	if (ipc_send(channel, IPC_MESSAGE_warmed, &body, SPAN_NONE, NULL, 0))
		ipc_channel_flush(channel);
}

static void answer_read(struct files_process *files, struct ipc_channel *channel,
			const struct ipc_read *wanted, struct span path)
{
	struct ipc_bytes body = { .question = wanted->question };
	struct span bytes = SPAN_NONE;
	int failed = files_read(files->opener, wanted, path, files->buf, &bytes);

	body.status = failed < 0 ? (uint32_t)-failed : 0;
	if (ipc_send(channel, IPC_MESSAGE_bytes, &body, bytes, NULL, 0) == 0)
		return;
	/* No room for the bytes: a word of that has. */
	body.status = EAGAIN;
	if (ipc_send(channel, IPC_MESSAGE_bytes, &body, SPAN_NONE, NULL, 0))
		ipc_channel_flush(channel);
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct files_process *files = state;

	(void)self;
	if (message->number == IPC_MESSAGE_open)
		answer_open(files, channel, message->body, message->tail);
	else if (message->number == IPC_MESSAGE_warm && message->descriptor_count == 1)
		answer_warm(channel, message->body, message->descriptors[0]);
	else if (message->number == IPC_MESSAGE_read)
		answer_read(files, channel, message->body, message->tail);
}

const struct proc_kind proc_files = {
	.state_size = sizeof(struct files_process),
	.grant = on_grant,
	.sandboxed = on_sandboxed,
	.message = on_message,
	.prepare = on_prepare,
	.second = on_second,
};
