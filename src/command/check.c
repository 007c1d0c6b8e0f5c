#include "command/command.h"
#include "os/os.h"
#include "proc/proc.h"

enum { CHECK_WAIT_MS = 35000, CHECK_KEYS_MAX = 256 };

/* Keys are compared with their certificates after the job: by a vault, which alone reads keys. */
struct key_row {
	struct ipc_key_file file;
	struct span tail; /* in the arena */
	int fd;
};
struct check_keys {
	struct arena arena;
	struct key_row rows[CHECK_KEYS_MAX];
	size_t count;
};

static void keys_add(struct check_keys *keys, struct ipc_message *message)
{
	const struct ipc_plan_row *row = message->body;
	struct key_row *key = &keys->rows[keys->count];

	if (row->what != IPC_PLAN_CERTIFICATE_FILE || message->descriptor_count != 1 ||
	    keys->count == CHECK_KEYS_MAX)
		return;
	key->tail = arena_copy(&keys->arena, message->tail);
	if (!key->tail.ptr)
		return;
	key->file = (struct ipc_key_file){ .change = 1, .id = row->id, .line = row->line };
	for (size_t i = 0; i < sizeof(key->file.spki_hash); i++)
		key->file.spki_hash[i] = row->spki_hash[i];
	key->fd = TAKE_FD(message->descriptors[0]);
	keys->count++;
}

static int keys_send(struct check_keys *keys, struct ipc_channel *vault)
{
	struct ipc_prepare prepare = { .change = 1 };
	int failed = 0;

	for (size_t i = 0; i < keys->count && !failed; i++)
		failed = ipc_send(vault, IPC_MESSAGE_key_file, &keys->rows[i].file,
				  keys->rows[i].tail, &keys->rows[i].fd, 1);
	if (!failed)
		failed = ipc_send(vault, IPC_MESSAGE_prepare, &prepare, SPAN_NONE, NULL, 0);
	ipc_channel_flush(vault);
	return failed;
}

/* 0: every key fits. */
static int keys_compare(struct check_keys *keys)
{
	struct proc_child vault;
	struct ipc_message message;
	bool is_over = false, is_faulty = false;

	if (!keys->count)
		return COMMAND_DONE;
	if (proc_keys_start(&vault)) {
		command_complain("keys: could not look, no process could be started for it\n");
		return COMMAND_FAULT;
	}
	is_faulty = keys_send(keys, &vault.channel) != 0;
	while (!is_faulty && !is_over && ipc_wait(&vault.channel, CHECK_WAIT_MS, &message) == 0) {
		is_over = message.number == IPC_MESSAGE_prepared;
		if (message.number == IPC_MESSAGE_refused) {
			os_err(message.tail);
			is_faulty = true;
		}
		ipc_message_done(&message);
	}
	if (!is_over && !is_faulty)
		command_complain("keys: could not look, the process that reads them ended\n");
	proc_child_end(&vault);
	return is_over && !is_faulty ? COMMAND_DONE : COMMAND_FAULT;
}

/* Prints what the job says. Its verdict: an exit code. */
static int check_listen(struct proc_child *child, const char *file, struct check_keys *keys)
{
	int code = COMMAND_FAULT;

	for (;;) {
		struct ipc_message message;

		if (ipc_wait(&child->channel, CHECK_WAIT_MS, &message)) {
			command_complain("%s: the check ended without a result\n", file);
			return COMMAND_FAULT;
		}
		if (message.number == IPC_MESSAGE_diagnostic) {
			const struct ipc_diagnostic *body = message.body;

			os_err(message.tail);
			if (body->is_error == IPC_DIAGNOSTIC_USAGE)
				code = COMMAND_USAGE;
		} else if (message.number == IPC_MESSAGE_plan_row) {
			keys_add(keys, &message);
		} else if (message.number == IPC_MESSAGE_compiled) {
			const struct ipc_compiled *body = message.body;
			uint32_t errors = body->errors, warnings = body->warnings;

			ipc_message_done(&message);
			if (!errors)
				code = keys_compare(keys);
			if (errors || code)
				return code;
			command_print("%s: fine%s\n", file, warnings ? ", with warnings" : "");
			return COMMAND_DONE;
		}
		ipc_message_done(&message);
	}
}

static int check_run(const struct command_line *line)
{
	const char *file = line->operand_count ? line->operands[0] : command_value(line, "-c");
	struct proc_child child;
	struct check_keys *keys;
	OS_AUTO_FD text = -1;
	int failed, code;

	if (!file)
		file = "/etc/portcullis/portcullis.conf";
	failed = os_open(OS_FOLDER_CURRENT, file, OS_OPEN_READ, 0, &text);
	if (failed) {
		command_complain("%s: %s\n", file,
				 failed == -ENOENT ? "there is no such file" : "it cannot be read");
		return COMMAND_FAULT;
	}
	failed = proc_check_start(text, file, &child);
	if (failed) {
		command_complain("%s: the check could not be started (%d)\n", file, -failed);
		return COMMAND_FAULT;
	}
	keys = heap_alloc(sizeof(*keys));
	if (keys)
		arena_init(&keys->arena, 0);
	code = keys ? check_listen(&child, file, keys) : COMMAND_FAULT;
	proc_child_end(&child);
	for (size_t i = 0; keys && i < keys->count; i++)
		os_close(keys->rows[i].fd);
	if (keys)
		arena_fini(&keys->arena);
	heap_free(keys);
	return code;
}

const struct command command_check = {
	.name = "check",
	.form = "[FILE]",
	.help = "say whether a configuration is right, and where it is not",
	.operands_max = 1,
	.options = { { "-c", "FILE", "the same as FILE (/etc/portcullis/portcullis.conf)" } },
	.run = check_run,
};
