/* What `portcullis ca …` asks of the vault. */
#include "proc/vault_internal.h"

static void answer_text(struct ipc_channel *channel, struct span text)
{
	struct ipc_answer body = { 0 };

	for (; text.len; text = span_skip(text, IPC_TAIL_MAX)) {
		if (ipc_send(channel, IPC_MESSAGE_answer, &body, span_first(text, IPC_TAIL_MAX), NULL, 0))
			return;
	}
}

static void answer_end(struct ipc_channel *channel, int exit_code, struct span message)
{
	struct ipc_answer_end body = { .exit_code = (uint32_t)exit_code };

	if (ipc_send(channel, IPC_MESSAGE_answer_end, &body, span_first(message, 4096), NULL, 0) == 0)
		ipc_channel_flush(channel);
}

static void end_outcome(struct ipc_channel *channel, const struct keys_task *task, int outcome)
{
	if (outcome == 0)
		answer_end(channel, 0, SPAN_NONE);
	else
		answer_end(channel, 1, task->why.len ? task->why : SPAN("out of memory"));
}

static void on_root(struct vault *vault, struct ipc_channel *channel, const struct ipc_ca_root *body)
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

static void on_issue(struct vault *vault, struct ipc_channel *channel, const struct ipc_ca_issue *body,
		     struct span tail)
{
	struct reader reader = reader_of(tail);
	struct span names[VAULT_NAMES_MAX], chain = SPAN_NONE;
	struct keys_request request = { .names = names, .usage = body->usage, .lifetime_s = body->lifetime_s };
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

static void on_list(struct vault *vault, struct ipc_channel *channel)
{
	struct keys_issued *issued = NULL;
	size_t count = 0;
	struct keys_task task;
	struct arena arena;
	int outcome;

	vault_task_begin(vault, &task, &arena);
	outcome = keys_ca_list(&task, &issued, &count);
	for (size_t i = 0; !outcome && i < count; i++) {
		char line[4096];
		struct writer writer = writer_of(line, sizeof(line));

		write_span(&writer, issued[i].serial);
		write_str(&writer, "  until ");
		cert_write_time(issued[i].expires_s, &writer);
		write_format(&writer, "  %-13.*s  %.*s\n", SPAN_ARG(issued[i].usage), SPAN_ARG(issued[i].names));
		answer_text(channel, writer_done(&writer));
	}
	end_outcome(channel, &task, outcome);
	vault_task_end(&task);
}

bool vault_command_message(struct vault *vault, struct ipc_channel *channel, struct ipc_message *message)
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
