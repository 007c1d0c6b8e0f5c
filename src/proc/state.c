/* The state folder: who serves it (lock), and where its sockets are. */
#include "proc/supervisor_internal.h"

#include <string.h>

enum {
	SERVING_BYTE = 0,
	CHANGING_BYTE = 1,
	LOCK_WAIT_MS = 30 * 1000,
	LOCK_STEP_MS = 100,
	LOCK_TEXT_MAX = 4096,
	PATH_MAX_LEN = 4096
};

static bool join(struct arena *arena, const char *folder, const char *rest, struct span *ret_path)
{
	*ret_path = arena_format(arena, "%s%s", folder, rest);
	return ret_path->ptr != NULL;
}

int proc_state_path(struct span statement, struct arena *arena, struct span *ret_state,
		    struct span *ret_control)
{
	const char *named = os_environment("PORTCULLIS_STATE");
	const char *home = os_environment("XDG_STATE_HOME");
	struct span user_home;
	bool ok = true;

	if (statement.len) {
		*ret_state = arena_copy(arena, statement);
		ok = ret_state->ptr != NULL;
	} else if (named && *named) {
		ok = join(arena, named, "", ret_state);
	} else if (os_uid() == 0) {
		*ret_state = SPAN("/var/lib/portcullis");
		*ret_control = SPAN("/run/portcullis");
		return 0;
	} else if (home && *home) {
		ok = join(arena, home, "/portcullis", ret_state);
	} else if (os_user_home(os_uid(), arena, &user_home) == 0) {
		*ret_state =
			arena_format(arena, "%.*s/.local/state/portcullis", SPAN_ARG(user_home));
		ok = ret_state->ptr != NULL;
	} else {
		return -ENOENT;
	}
	*ret_control = *ret_state;
	return ok ? 0 : -ENOMEM;
}

/* ---- The lock -------------------------------------------------------------------------------------- */

/* What the last one wrote: `pid N`, its start, its addresses. 0 where the file is empty. */
static uint64_t lock_pid(const struct supervisor *supervisor)
{
	char text[256];
	ssize_t len = os_pread(supervisor->lock_fd, text, sizeof(text), 0);
	struct span rest = span_of(text, len > 0 ? (size_t)len : 0), line;
	uint64_t pid;

	if (!span_cut(&rest, '\n', &line) || !span_starts_with(line, SPAN("pid ")) ||
	    !parse_u64(span_skip(line, 4), INT32_MAX, &pid))
		return 0;
	return pid;
}

bool state_was_served(const struct supervisor *supervisor, struct span address)
{
	char text[LOCK_TEXT_MAX];
	struct span rest, line;
	ssize_t len;

	if (supervisor->is_serving || supervisor->lock_fd < 0)
		return false;
	len = os_pread(supervisor->lock_fd, text, sizeof(text), 0);
	rest = span_of(text, len > 0 ? (size_t)len : 0);
	while (span_cut(&rest, '\n', &line)) {
		if (span_starts_with(line, SPAN("address ")) &&
		    span_equal(span_skip(line, strlen("address ")), address))
			return true;
	}
	return false;
}

bool state_is_busy(int lock_fd)
{
	return os_lock_is_held(lock_fd, SERVING_BYTE) != 0 ||
	       os_lock_take(lock_fd, CHANGING_BYTE) != 0;
}

static int lock_take(struct supervisor *supervisor)
{
	for (int waited_ms = 0; waited_ms < LOCK_WAIT_MS; waited_ms += LOCK_STEP_MS) {
		int err;

		if (os_lock_is_held(supervisor->lock_fd, SERVING_BYTE) == 1) {
			supervisor_fault(supervisor, "already running as pid %llu\n",
					 (unsigned long long)lock_pid(supervisor));
			return -EBUSY;
		}
		err = os_lock_take(supervisor->lock_fd, CHANGING_BYTE);
		if (err != -EAGAIN)
			return err;
		if (!waited_ms)
			supervisor_say(supervisor, "waiting for a command that works on %s",
				       supervisor->state_path);
		os_sleep_ms(LOCK_STEP_MS);
	}
	supervisor_fault(supervisor, "%s is held by a command or another start\n",
			 supervisor->state_path);
	return -EBUSY;
}

int state_serve(struct supervisor *supervisor)
{
	char text[LOCK_TEXT_MAX];
	struct writer out = writer_of(text, sizeof(text));
	struct os_process_usage usage = { 0 };
	int err = os_lock_take(supervisor->lock_fd, SERVING_BYTE);

	if (err < 0)
		return err;
	if (os_process_usage(os_pid(), &usage) < 0)
		usage.started_ticks = 0;
	write_format(&out, "pid %d\nstarted %llu\n", os_pid(),
		     (unsigned long long)usage.started_ticks);
	LIST_EACH(&supervisor->listeners, node) {
		write_str(&out, "address ");
		os_address_write(&LIST_ITEM(node, struct listener, link)->address, &out);
		write_byte(&out, '\n');
	}
	err = os_file_truncate(supervisor->lock_fd, 0);
	if (!err && os_pwrite(supervisor->lock_fd, text, writer_done(&out).len, 0) < 0)
		err = -EIO;
	return err;
}

int state_lock_reader(struct supervisor *supervisor, int *ret_fd)
{
	/* Another open description: ours would share the lock with every child. */
	return os_open(supervisor->state_fd, "lock", OS_OPEN_READ, 0, ret_fd);
}

/* ---- Folders --------------------------------------------------------------------------------------- */

static int open_folder(struct supervisor *supervisor, const char *path, int *ret_fd)
{
	struct os_file_info info;
	int err = os_folder_make(OS_FOLDER_CURRENT, path, 0700);

	if (!err)
		err = os_open(OS_FOLDER_CURRENT, path, OS_OPEN_FOLDER, 0, ret_fd);
	if (!err)
		err = os_file_info(*ret_fd, &info);
	/* Whoever may write in it has our sockets, keys and lock. */
	if (!err && ((info.uid != 0 && info.uid != os_uid()) || info.mode & 0022)) {
		supervisor_fault(
			supervisor,
			"state folder %s: others may write in it (it is uid %u's, mode %03o)\n",
			path, info.uid, info.mode & 0777);
		return -EPERM;
	}
	if (err < 0)
		supervisor_fault(supervisor, "state folder %s: %s%s\n", path, strerror(-err),
				 err == -EROFS ? ": mount there what may be written, or name "
						 "another by `state` or PORTCULLIS_STATE"
					       : "");
	return err;
}

static int open_key_folder(struct supervisor *supervisor)
{
	uint32_t uid = row_uid(supervisor, proc_row_find(IPC_VAULT));
	OS_AUTO_FD folder = -1;
	int err = os_folder_make(supervisor->state_fd, "keys", 0700);

	if (!err)
		err = os_open(supervisor->state_fd, "keys", OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW, 0,
			      &folder);
	if (!err && supervisor->is_root)
		err = os_file_owner(folder, uid, uid);
	if (!err)
		err = os_open(supervisor->state_fd, "keys",
			      OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW | OS_OPEN_HANDLE, 0,
			      &supervisor->key_folder_fd);
	if (err < 0)
		supervisor_fault(
			supervisor, "key folder %s/keys: %s%s\n", supervisor->state_path,
			strerror(-err),
			err == -EPERM && supervisor->is_root
				? ": root without root's capabilities cannot give it away; "
				  "start as another user, or leave root CAP_CHOWN and the like"
				: "");
	return err;
}

static char *copy(struct span text)
{
	char *out = heap_alloc(text.len + 1);

	if (out)
		memcpy(out, text.ptr, text.len);
	return out;
}

bool state_is_same(const struct supervisor *supervisor, struct span statement)
{
	struct arena arena;
	struct span state, control;
	bool same = false;

	arena_init(&arena, PATH_MAX_LEN * 4);
	if (proc_state_path(statement, &arena, &state, &control) == 0)
		same = span_equal(state, span_str(supervisor->state_path));
	arena_fini(&arena);
	return same;
}

static int find_paths(struct supervisor *supervisor, struct span statement)
{
	struct arena arena;
	struct span state, control;
	int err;

	/* `proxy` and `files` have no text that could name one: what was asked for on the command line is. */
	if (!statement.len)
		statement = span_str(supervisor->options->state_path);
	arena_init(&arena, PATH_MAX_LEN * 4);
	err = proc_state_path(statement, &arena, &state, &control);
	if (!err) {
		supervisor->state_path = copy(state);
		supervisor->control_path = copy(control);
		if (!supervisor->state_path || !supervisor->control_path)
			err = -ENOMEM;
	} else {
		supervisor_fault(supervisor, "no state folder: set PORTCULLIS_STATE or HOME\n");
	}
	arena_fini(&arena);
	return err;
}

int state_open(struct supervisor *supervisor, struct span statement)
{
	int err = find_paths(supervisor, statement);

	if (!err)
		err = open_folder(supervisor, supervisor->state_path, &supervisor->state_fd);
	if (!err)
		err = open_folder(supervisor, supervisor->control_path,
				  &supervisor->control_folder_fd);
	if (err < 0)
		return err;
	err = os_open(supervisor->state_fd, "lock",
		      OS_OPEN_READ_WRITE | OS_OPEN_CREATE | OS_OPEN_NO_FOLLOW, 0600,
		      &supervisor->lock_fd);
	if (err < 0) {
		supervisor_fault(supervisor, "%s/lock: %s\n", supervisor->state_path,
				 strerror(-err));
		return err;
	}
	err = lock_take(supervisor);
	if (!err)
		err = open_key_folder(supervisor);
	if (!err)
		err = kept_rescue(supervisor);
	if (!err)
		err = os_listen_packets(supervisor->state_fd, "rescue.sock", 0600,
					&supervisor->rescue_listener_fd);
	if (!err)
		err = control_open(supervisor);
	if (!err)
		orders_load(supervisor);
	if (err < 0 && err != -EBUSY)
		supervisor_fault(supervisor, "state folder %s: %s\n", supervisor->state_path,
				 strerror(-err));
	return err;
}

void state_close(struct supervisor *supervisor)
{
	if (supervisor->is_serving && os_file_truncate(supervisor->lock_fd, 0) < 0)
		supervisor_say(supervisor, "%s/lock could not be emptied", supervisor->state_path);
	if (supervisor->is_serving) {
		(void)!os_unlink(supervisor->state_fd, "rescue.sock");
		(void)!os_unlink(supervisor->control_folder_fd, "control.sock");
	}
	os_close(supervisor->rescue_listener_fd);
	os_close(supervisor->key_folder_fd);
	os_close(supervisor->control_folder_fd);
	os_close(supervisor->state_fd);
	os_close(supervisor->lock_fd);
	heap_free(supervisor->state_path);
	heap_free(supervisor->control_path);
}
