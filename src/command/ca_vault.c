/* Finding the vault: over the running service, or one of this command's own under the state folder's lock. */
#include "command/ca_internal.h"

#include <string.h>

#include "command/control.h"

enum {
	ARENA_MAX = 256 << 20,
	LIST_MAX = 64 << 20,
	ANSWER_MS = 60 * 1000,
	LOCK_WAIT_MS = 30 * 1000,
	LOCK_STEP_MS = 100,
	CONNECT_TRIES = 50, /* a vault that is being started again */
};
enum { SERVING_BYTE, CHANGING_BYTE };

/* ---- The service's ----------------------------------------------------------------------------------- */

static int connect_service(struct ca_vault *vault, int control_fd)
{
	struct ipc_channel control;
	int fd = -1;

	if (ipc_channel_open(&control, NULL, control_fd, IPC_COMMAND, IPC_SUPERVISOR) < 0)
		return COMMAND_FAULT;
	for (int i = 0; fd < 0 && i < CONNECT_TRIES; i++) {
		if (i)
			os_sleep_ms(LOCK_STEP_MS);
		fd = command_ask_channel(&control, IPC_VAULT, 0);
	}
	ipc_channel_close(&control);
	if (fd >= 0 && ipc_channel_open(&vault->channel, NULL, fd, IPC_COMMAND, IPC_VAULT) == 0)
		return 0;
	command_complain("portcullis: the service's vault does not answer\n");
	return COMMAND_FAULT;
}

/* ---- One of our own ------------------------------------------------------------------------------------ */

/* What the lock's file says of who serves; 0: nothing. */
static uint64_t serving_pid(int lock_fd)
{
	char text[256];
	ssize_t len = os_pread(lock_fd, text, sizeof(text), 0);
	struct span rest = span_of(text, len > 0 ? (size_t)len : 0), line;
	uint64_t pid = 0;

	if (os_lock_is_held(lock_fd, SERVING_BYTE) != 1 || !span_cut(&rest, '\n', &line) ||
	    !span_starts_with(line, SPAN("pid ")) ||
	    !parse_u64(span_skip(line, 4), INT32_MAX, &pid))
		return 0;
	return pid;
}

static void tell_waiting(const struct ca_vault *vault)
{
	uint64_t pid = serving_pid(vault->lock_fd);

	if (pid)
		command_complain("portcullis: waiting for the service (pid %llu)\n",
				 (unsigned long long)pid);
	else
		command_complain("portcullis: waiting for another command, or a service that "
				 "starts or stops, on %.*s\n",
				 SPAN_ARG(vault->state));
}

/* 0: the lock is ours. Else a service may have come up: its control.sock is asked first, so *ret_control may be
 * a connection and the result 0, too. */
static int take_lock(struct ca_vault *vault, struct span control, int *ret_control)
{
	for (int waited_ms = 0; waited_ms < LOCK_WAIT_MS; waited_ms += LOCK_STEP_MS) {
		int err = os_lock_take(vault->lock_fd, CHANGING_BYTE);

		if (err != -EAGAIN)
			return err;
		if (command_open_control(control, &vault->arena, ret_control) == 0)
			return 0;
		if (!waited_ms)
			tell_waiting(vault);
		os_sleep_ms(LOCK_STEP_MS);
	}
	return -EBUSY;
}

static int open_folder(struct ca_vault *vault, bool is_created)
{
	char *path = arena_cstr(&vault->arena, vault->state);
	int err = path ? 0 : -ENOMEM;

	if (!err && is_created)
		err = os_folder_make(OS_FOLDER_CURRENT, path, 0700);
	if (!err)
		err = os_open(OS_FOLDER_CURRENT, path, OS_OPEN_FOLDER, 0, &vault->state_fd);
	if (!err)
		err = os_open(vault->state_fd, "lock",
			      OS_OPEN_READ_WRITE | OS_OPEN_CREATE | OS_OPEN_NO_FOLLOW, 0600,
			      &vault->lock_fd);
	return err;
}

static int start_own(struct ca_vault *vault, struct span control, bool is_created)
{
	int control_fd = -1, err = open_folder(vault, is_created);

	if (err == -ENOENT && !is_created)
		return err;
	if (!err)
		err = take_lock(vault, control, &control_fd);
	if (!err && control_fd >= 0)
		return connect_service(vault, control_fd);
	if (!err)
		err = proc_vault_start(vault->state_fd, &vault->child, &vault->channel);
	if (!err) {
		vault->is_own = true;
		return 0;
	}
	if (err == -EBUSY)
		command_complain("portcullis: the state folder %.*s is still in use\n",
				 SPAN_ARG(vault->state));
	else
		command_complain("portcullis: state folder %.*s: %s\n", SPAN_ARG(vault->state),
				 strerror(-err));
	return COMMAND_FAULT;
}

/* ---- For the subcommands --------------------------------------------------------------------------------- */

/* Behind sudo nobody's environment says which gateway is meant: where root has no CA and the user before sudo
 * has one, it is that. */
static void look_behind_sudo(struct ca_vault *vault, struct span *control)
{
	static const char root_certificate[] = "%.*s/keys/ca/root.crt";
	struct os_file_info info;
	struct ca_user user;
	struct span own, theirs, state;

	if (os_uid() != 0 || os_environment("PORTCULLIS_STATE") ||
	    ca_user_find(&vault->arena, &user) || !user.name || !user.home.len)
		return;
	state = arena_format(&vault->arena, "%.*s/.local/state/portcullis", SPAN_ARG(user.home));
	own = arena_format(&vault->arena, root_certificate, SPAN_ARG(vault->state));
	theirs = arena_format(&vault->arena, root_certificate, SPAN_ARG(state));
	if (!own.ptr || !theirs.ptr ||
	    os_file_info_at(OS_FOLDER_CURRENT, own.ptr, &info) != -ENOENT ||
	    os_file_info_at(OS_FOLDER_CURRENT, theirs.ptr, &info))
		return;
	vault->state = *control = state;
}

int ca_vault_open(struct ca_vault *vault, const char *config_file, bool is_created)
{
	struct span control;
	int control_fd, err;

	*vault = (struct ca_vault){ .state_fd = -1, .lock_fd = -1 };
	arena_init(&vault->arena, ARENA_MAX);
	err = command_state(config_file, &vault->arena, &vault->state, &control);
	if (err) {
		command_complain("portcullis: no state folder: set PORTCULLIS_STATE or HOME\n");
		return COMMAND_FAULT;
	}
	if (!config_file)
		look_behind_sudo(vault, &control);
	err = command_open_control(control, &vault->arena, &control_fd);
	if (err == 0)
		return connect_service(vault, control_fd);
	if (err == -ENOENT || err == -ECONNREFUSED)
		return start_own(vault, control, is_created);
	command_complain("portcullis: the service at %.*s cannot be asked: %s\n", SPAN_ARG(control),
			 strerror(-err));
	return COMMAND_FAULT;
}

void ca_vault_close(struct ca_vault *vault)
{
	if (vault->is_own)
		proc_vault_end(&vault->child, &vault->channel);
	else
		ipc_channel_close(&vault->channel);
	/* The lock last: until here the folder is ours. */
	os_close(vault->lock_fd);
	os_close(vault->state_fd);
	arena_fini(&vault->arena);
}

static int gather(struct ca_vault *vault, struct ipc_message *message, struct span *text)
{
	struct span part = message->tail;

	if (message->descriptor_count &&
	    os_file_read_fd(message->descriptors[0], LIST_MAX, &vault->arena, &part))
		return -ENOMEM;
	if (!part.len)
		return 0;
	*text = arena_format(&vault->arena, "%.*s%.*s", SPAN_ARG(*text), SPAN_ARG(part));
	return text->ptr ? 0 : -ENOMEM;
}

int ca_vault_ask(struct ca_vault *vault, enum ipc_number number, const void *body, struct span tail,
		 struct span *ret_text)
{
	struct span text = SPAN_NONE;
	int code = -1, failed = ipc_send(&vault->channel, number, body, tail, NULL, 0);

	while (!failed && code < 0) {
		struct ipc_message message;

		failed = ipc_wait(&vault->channel, ANSWER_MS, &message);
		if (failed)
			break;
		if (message.number == IPC_MESSAGE_answer) {
			failed = gather(vault, &message, &text);
		} else if (message.number == IPC_MESSAGE_answer_end) {
			code = ((const struct ipc_answer_end *)message.body)->exit_code
				       ? COMMAND_FAULT
				       : COMMAND_DONE;
			if (message.tail.len)
				command_complain("portcullis: %.*s\n", SPAN_ARG(message.tail));
		}
		ipc_message_done(&message);
	}
	if (failed) {
		command_complain("portcullis: the vault did not answer\n");
		return COMMAND_FAULT;
	}
	*ret_text = text;
	return code;
}
