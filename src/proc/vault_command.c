/* What `portcullis ca …` asks of the vault. */
#include "proc/vault_internal.h"

/* The list itself is at most 16 MiB (keys). */
enum { LIST_ARENA_MAX = 96 << 20, LIST_NUMBERS_MAX = 48 };

static void answer_text(struct ipc_channel *channel, struct span text)
{
	struct ipc_answer body = { 0 };

	for (; text.len; text = span_skip(text, IPC_TAIL_MAX)) {
		if (ipc_send(channel, IPC_MESSAGE_answer, &body, span_first(text, IPC_TAIL_MAX),
			     NULL, 0))
			return;
	}
}

static void answer_end(struct ipc_channel *channel, int exit_code, struct span message)
{
	struct ipc_answer_end body = { .exit_code = (uint32_t)exit_code };

	if (ipc_send(channel, IPC_MESSAGE_answer_end, &body, span_first(message, 4096), NULL, 0) ==
	    0)
		ipc_channel_flush(channel);
}

/* What went right may have a notice: the command shows it beside its result. */
static void end_outcome(struct ipc_channel *channel, const struct keys_task *task, int outcome)
{
	if (outcome == 0)
		answer_end(channel, 0, task->notice);
	else
		answer_end(channel, 1, task->why.len ? task->why : SPAN("out of memory"));
}

static void on_root(struct vault *vault, struct ipc_channel *channel,
		    const struct ipc_ca_root *body)
{
	char pem[CERT_PEM_MAX];
	struct writer writer = writer_of(pem, sizeof(pem));
	struct keys_task task;
	struct arena arena;
	int outcome;

	vault_task_begin(vault, &task, &arena);
	outcome = vault_ca_ready(&task, body->create);
	if (!outcome) {
		cert_write_pem(keys_ca_root(vault->folder), &writer);
		answer_text(channel, writer_done(&writer));
	}
	end_outcome(channel, &task, outcome);
	vault_task_end(&task);
}

static void on_issue(struct vault *vault, struct ipc_channel *channel,
		     const struct ipc_ca_issue *body, struct span tail)
{
	struct reader reader = reader_of(tail);
	struct span names[VAULT_NAMES_MAX], chain = SPAN_NONE;
	struct keys_request request = { .names = names,
					.usage = body->usage,
					.lifetime_s = body->lifetime_s };
	struct keys_task task;
	struct arena arena;
	int outcome;

	request.spki = read_span(&reader, read_be16(&reader));
	request.name_count = vault_names(read_span(&reader, reader_left(&reader)), names);
	vault_task_begin(vault, &task, &arena);
	outcome = vault_ca_ready(&task, true);
	if (!outcome && !reader.ok) {
		outcome = KEYS_REQUEST_INVALID;
		task.why = SPAN("the request is cut short");
	}
	if (!outcome)
		outcome = keys_ca_issue(&task, &request, &chain);
	if (!outcome)
		answer_text(channel, chain);
	end_outcome(channel, &task, outcome);
	vault_task_end(&task);
}

/* Each certificate a line of fields between tabs, for the command to show: serial, issued, expires (seconds since
 * 1970), usage, names. */
static int write_list(struct arena *arena, const struct keys_issued *issued, size_t count,
		      struct span *ret_text)
{
	size_t size = 1;
	struct writer writer;
	char *buf;

	for (size_t i = 0; i < count; i++)
		size += issued[i].serial.len + issued[i].usage.len + issued[i].names.len +
			LIST_NUMBERS_MAX;
	buf = arena_alloc(arena, size, 1);
	if (!buf)
		return -ENOMEM;
	writer = writer_of(buf, size);
	for (size_t i = 0; i < count; i++) {
		write_span(&writer, issued[i].serial);
		write_format(&writer, "\t%lld\t%lld\t", (long long)issued[i].issued_s,
			     (long long)issued[i].expires_s);
		write_span(&writer, issued[i].usage);
		write_byte(&writer, '\t');
		write_span(&writer, issued[i].names);
		write_byte(&writer, '\n');
	}
	MUST(writer.ok);
	*ret_text = writer_done(&writer);
	return 0;
}

/* A list of years is more than a channel's queue takes: it goes as a memory file. */
static int send_list(struct ipc_channel *channel, struct span text)
{
	OS_AUTO_FD fd = -1;
	int failed = os_memory_new("list", text.len, &fd);

	for (size_t sent = 0; !failed && sent < text.len;) {
		ssize_t count = os_pwrite(fd, text.ptr + sent, text.len - sent, sent);

		if (count <= 0)
			return count < 0 ? (int)count : -EIO;
		sent += (size_t)count;
	}
	if (!failed)
		failed = os_memory_seal(fd, OS_SEAL_ALL);
	return failed ? failed
		      : ipc_send(channel, IPC_MESSAGE_answer, &(struct ipc_answer){ 0 }, SPAN_NONE,
				 &fd, 1);
}

static void on_list(struct vault *vault, struct ipc_channel *channel)
{
	struct keys_task task = { .folder = vault->folder };
	struct keys_issued *issued = NULL;
	struct span text = SPAN_NONE;
	struct arena arena;
	size_t count = 0;
	int outcome;

	arena_init(&arena, LIST_ARENA_MAX);
	task.arena = &arena;
	outcome = keys_ca_list(&task, &issued, &count);
	if (!outcome)
		outcome = write_list(&arena, issued, count, &text);
	if (!outcome && text.len)
		outcome = send_list(channel, text);
	end_outcome(channel, &task, outcome);
	arena_fini(&arena);
}

bool vault_command_message(struct vault *vault, struct ipc_channel *channel,
			   struct ipc_message *message)
{
	switch ((unsigned)message->number) {
	case IPC_MESSAGE_ca_root:
		on_root(vault, channel, message->body);
		return true;
	case IPC_MESSAGE_ca_issue:
		on_issue(vault, channel, message->body, message->tail);
		return true;
	case IPC_MESSAGE_ca_list:
		on_list(vault, channel);
		return true;
	default:
		return false;
	}
}
