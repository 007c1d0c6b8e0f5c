/* The files process: documents below the roots that it was granted, for workers that name them by id. */
#include "proc/proc.h"

#include "files/files.h"

struct files_process {
	struct files_opener *opener;
	char *buf;
};

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	struct files_process *files = state;
	int folder;

	(void)self;
	if (grant->what != IPC_GRANT_ROOT || message->descriptor_count < 1)
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
	files->buf = heap_alloc(FILES_INLINE_MAX);
	if (!files->buf)
		return -ENOMEM;
	return files->opener ? 0 : files_opener_new(&files->opener);
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
	/* A worker that does not read its answers asks again when it is alive. */
	if (ipc_send(channel, IPC_MESSAGE_opened, &answer.opened, writer_done(&writer), &answer.fd,
		     answer.fd >= 0 ? 1 : 0))
		ipc_channel_flush(channel);
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

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	struct files_process *files = state;

	(void)self;
	if (message->number == IPC_MESSAGE_open)
		answer_open(files, channel, message->body, message->tail);
	else if (message->number == IPC_MESSAGE_warm && message->descriptor_count == 1)
		answer_warm(channel, message->body, message->descriptors[0]);
}

const struct proc_kind proc_files = {
	.state_size = sizeof(struct files_process),
	.grant = on_grant,
	.sandboxed = on_sandboxed,
	.message = on_message,
};
