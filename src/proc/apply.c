/* A text that a command gave becomes the file of the service, and the way back from it.
 *
 * Nothing is written before every process has prepared the text; then, in this order and each on the disk before the next:
 * the file's old text goes into `history` in the state folder; where it is to be confirmed, `window` there says which text
 * comes back and to which file; the new text takes the file's place. So whatever is killed wherever, the file holds one of
 * the two, whole. As long as there is a `window` the next start puts the old text back before it reads the file. */
#include "proc/supervisor_internal.h"

#include <signal.h>
#include <string.h>

enum {
	TEXT_MAX = 16 << 20,
	HISTORY_MAX = 10,
	RETRY_MS = 10 * 1000, /* a file that could not be put back */
	WINDOW_TEXT_MAX = 8192,
};

static const char history_name[] = "history", window_name[] = "window";

/* ---- Traps of the tests ------------------------------------------------------------------------------ */

#ifdef PORTCULLIS_TEST_CLOCK
/* The file that $PORTCULLIS_TEST_TRAP names holds `KIND@STEP`: at that step that process is killed, once. */
void apply_step(struct supervisor *supervisor, const char *step)
{
	const char *path = os_environment("PORTCULLIS_TEST_TRAP");
	struct span text, kind;
	struct arena arena;

	arena_init(&arena, 0);
	if (path && os_file_read(OS_FOLDER_CURRENT, path, 256, &arena, &text) == 0 &&
	    span_cut(&text, '@', &kind) && span_equal(text, span_str(step))) {
		(void)!os_unlink(OS_FOLDER_CURRENT, path);
		for (uint32_t i = 0; i < supervisor->child_count; i++) {
			struct child *child = &supervisor->children[i];
			enum ipc_kind of = supervisor_process(supervisor, child)->kind;

			if (child->process.pid && span_equal(kind, span_str(ipc_kind_name(of))))
				os_process_signal(child->process.fd, SIGKILL);
		}
		if (span_equal(kind, SPAN("check")) && supervisor->job.pid)
			os_process_signal(supervisor->job.fd, SIGKILL);
		if (span_equal(kind, SPAN("supervisor"))) {
			int self;

			if (os_process_open(os_pid(), &self) == 0)
				os_process_signal(self, SIGKILL);
		}
	}
	arena_fini(&arena);
}
#else
void apply_step(struct supervisor *supervisor, const char *step)
{
	(void)supervisor;
	(void)step;
}
#endif

/* ---- History ----------------------------------------------------------------------------------------- */

struct history {
	uint64_t numbers[HISTORY_MAX * 2]; /* the newest first */
	size_t count;
};

static int on_name(void *owner, const char *name, enum os_file_type type)
{
	struct history *history = owner;
	uint64_t number;
	size_t at;

	if (type == OS_FILE_FOLDER || !parse_u64(span_str(name), UINT32_MAX, &number))
		return 0;
	for (at = history->count; at > 0 && history->numbers[at - 1] < number; at--) {
		if (at < ARRAY_LEN(history->numbers))
			history->numbers[at] = history->numbers[at - 1];
	}
	if (at < ARRAY_LEN(history->numbers))
		history->numbers[at] = number;
	if (history->count < ARRAY_LEN(history->numbers))
		history->count++;
	return 0;
}

static int history_open(int state_fd, int *ret_fd)
{
	int err = os_folder_make(state_fd, history_name, 0700);

	return err ? err
		   : os_open(state_fd, history_name,
			     OS_OPEN_READ | OS_OPEN_FOLDER | OS_OPEN_NO_FOLLOW, 0, ret_fd);
}

static void number_name(uint64_t number, char name[24])
{
	struct writer out = writer_of(name, 23);

	write_u64(&out, number);
	*out.at = '\0';
}

static int history_read(int state_fd, uint64_t number, struct arena *arena, struct span *ret_text)
{
	OS_AUTO_FD folder = -1;
	char name[24];
	int err = history_open(state_fd, &folder);

	number_name(number, name);
	return err ? err : os_file_read(folder, name, TEXT_MAX, arena, ret_text);
}

static int history_add(int state_fd, struct span text, uint64_t *ret_number)
{
	struct history history = { .count = 0 };
	OS_AUTO_FD folder = -1;
	char name[24];
	int err = history_open(state_fd, &folder);

	if (!err)
		err = os_folder_list(folder, on_name, &history);
	if (err)
		return err;
	*ret_number = history.count ? history.numbers[0] + 1 : 1;
	number_name(*ret_number, name);
	err = os_file_replace(folder, name, text, 0600);
	for (size_t i = HISTORY_MAX - 1; !err && i < history.count; i++) {
		number_name(history.numbers[i], name);
		(void)!os_unlink(folder, name);
	}
	return err;
}

static void history_forget(int state_fd, uint64_t number)
{
	OS_AUTO_FD folder = -1;
	char name[24];

	number_name(number, name);
	if (history_open(state_fd, &folder) == 0)
		(void)!os_unlink(folder, name);
}

/* ---- The window in which a text is to be confirmed ---------------------------------------------------- */

/* `NUMBER\nFILE\n` */
static int window_write(struct supervisor *supervisor, uint64_t number)
{
	char text[WINDOW_TEXT_MAX];
	struct writer out = writer_of(text, sizeof(text));

	write_format(&out, "%llu\n%s\n", (unsigned long long)number,
		     supervisor->options->config_path);
	return out.ok ? os_file_replace(supervisor->state_fd, window_name, writer_done(&out), 0600)
		      : -ENAMETOOLONG;
}

/* -ENOENT: there is none, or of another file. */
static int window_read(int state_fd, const char *file, uint64_t *ret_number)
{
	struct span text, line;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	err = os_file_read(state_fd, window_name, WINDOW_TEXT_MAX, &arena, &text);
	if (!err && (!span_cut(&text, '\n', &line) || !parse_u64(line, UINT32_MAX, ret_number) ||
		     !span_cut(&text, '\n', &line) || !span_equal(line, span_str(file))))
		err = -ENOENT;
	arena_fini(&arena);
	return err;
}

static int window_close(int state_fd)
{
	int err = os_unlink(state_fd, window_name);

	if (!err)
		err = os_file_sync(state_fd);
	return err == -ENOENT ? 0 : err;
}

/* ---- Asked by a command ------------------------------------------------------------------------------- */

/* NULL: it may begin. */
static const char *why_not(struct supervisor *supervisor)
{
	if (!supervisor->options->config_path)
		return "this gateway was started by a command line: it has no file";
	if (lifecycle_is_stopping(supervisor->lifecycle))
		return "the service is stopping";
	if (!supervisor->running)
		return "the service does not run yet";
	if (supervisor->given_fd >= 0)
		return "another configuration is being applied";
	if (lifecycle_is_held(supervisor->lifecycle))
		return "what runs waits for `portcullis confirm`: confirm it or roll it back first";
	return NULL;
}

const char *apply_begin(struct supervisor *supervisor, int text_fd, uint32_t confirm_ms)
{
	const char *why = why_not(supervisor);

	if (why)
		return why;
	if (os_memory_is_sealed(text_fd, OS_SEAL_ALL) != 1 ||
	    os_memory_read_only(text_fd, &supervisor->given_fd) < 0)
		return "the text did not come whole";
	supervisor->given_confirm_ms = confirm_ms;
	apply_step(supervisor, "given");
	lifecycle_change_given(supervisor->lifecycle, confirm_ms);
	return NULL;
}

const char *apply_rollback(struct supervisor *supervisor, uint32_t steps, uint32_t confirm_ms)
{
	struct history history = { .count = 0 };
	const char *why = why_not(supervisor);
	OS_AUTO_FD folder = -1, text_fd = -1;
	struct arena arena;
	struct span text;
	int err;

	if (why)
		return why;
	err = history_open(supervisor->state_fd, &folder);
	if (!err)
		err = os_folder_list(folder, on_name, &history);
	if (err)
		return "the history cannot be read";
	if (!steps || steps > HISTORY_MAX || steps > history.count)
		return "the history does not reach back so far";
	arena_init(&arena, 0);
	err = history_read(supervisor->state_fd, history.numbers[steps - 1], &arena, &text);
	if (!err)
		err = proc_seal_text("text", text, &text_fd);
	arena_fini(&arena);
	return err ? "the history cannot be read" : apply_begin(supervisor, text_fd, confirm_ms);
}

const char *apply_confirm(struct supervisor *supervisor)
{
	if (!lifecycle_is_held(supervisor->lifecycle))
		return "there is nothing to confirm";
	if (window_close(supervisor->state_fd) < 0)
		return "the state folder cannot be written: it stays to be confirmed";
	apply_step(supervisor, "confirmed");
	lifecycle_confirm(supervisor->lifecycle);
	supervisor_say(supervisor, "the configuration was confirmed");
	return NULL;
}

/* ---- Carried out --------------------------------------------------------------------------------------- */

static int put(struct supervisor *supervisor, const char *file, struct span text)
{
	struct proc_store store;
	int err = proc_store_begin(&store, file, text);

	apply_step(supervisor, "beside");
	return err ? err : proc_store_finish(&store);
}

/* `what` names that which failed. */
static int store(struct supervisor *supervisor, struct arena *arena, struct span text,
		 const char **ret_what)
{
	const char *file = supervisor->options->config_path;
	struct span old;
	uint64_t number = 0;
	int err;

	*ret_what = file;
	err = os_file_read(OS_FOLDER_CURRENT, file, TEXT_MAX, arena, &old);
	if (err)
		return err;
	*ret_what = "the history in the state folder";
	err = history_add(supervisor->state_fd, old, &number);
	apply_step(supervisor, "kept");
	if (!err && supervisor->given_confirm_ms)
		err = window_write(supervisor, number);
	if (!err) {
		apply_step(supervisor, "window");
		*ret_what = file;
		err = put(supervisor, file, text);
	}
	if (err) {
		(void)!window_close(supervisor->state_fd);
		history_forget(supervisor->state_fd, number);
	}
	return err;
}

void apply_store(struct supervisor *supervisor)
{
	struct os_file_info info;
	const char *what = "the text";
	const void *memory = NULL;
	struct arena arena;
	int err;

	/* It was given up meanwhile. */
	if (lifecycle_phase(supervisor->lifecycle) != LIFECYCLE_STORING)
		return;
	apply_step(supervisor, "prepared");
	arena_init(&arena, 0);
	err = os_file_info(supervisor->given_fd, &info);
	if (!err)
		err = proc_map_sealed(supervisor->given_fd, (size_t)info.size, &memory);
	if (!err)
		err = store(supervisor, &arena, span_of(memory, (size_t)info.size), &what);
	if (memory)
		os_memory_unmap((void *)(uintptr_t)memory, (size_t)info.size); // NOLINT
	arena_fini(&arena);
	if (err)
		supervisor_fault(supervisor, "%s: %s\n", what,
				 err == -ELOOP ? "it is a symlink; apply only replaces a file"
					       : strerror(-err));
	apply_step(supervisor, "stored");
	lifecycle_on_stored(supervisor->lifecycle, !err);
}

void apply_ended(struct supervisor *supervisor)
{
	apply_step(supervisor, "ended");
	os_close(TAKE_FD(supervisor->given_fd));
}

/* Puts back what the window names. 0, -ENOENT: there is no window; or -errno. */
static int restore(struct supervisor *supervisor, int state_fd)
{
	const char *file = supervisor->options->config_path;
	struct span old, now;
	struct arena arena;
	uint64_t number;
	int err = window_read(state_fd, file, &number);

	if (err)
		return err;
	arena_init(&arena, 0);
	err = history_read(state_fd, number, &arena, &old);
	if (!err && (os_file_read(OS_FOLDER_CURRENT, file, TEXT_MAX, &arena, &now) < 0 ||
		     !span_equal(old, now)))
		err = put(supervisor, file, old);
	if (!err) {
		apply_step(supervisor, "put-back");
		err = window_close(state_fd);
	}
	if (!err)
		history_forget(state_fd, number);
	arena_fini(&arena);
	return err == -ENOENT ? -EIO : err;
}

void apply_restore(struct supervisor *supervisor)
{
	int err = restore(supervisor, supervisor->state_fd);

	if (err == 0)
		supervisor_say(supervisor,
			       "the configuration was not confirmed: %s is what it was before",
			       supervisor->options->config_path);
	if (!err || err == -ENOENT)
		return;
	supervisor_say(supervisor,
		       "the configuration was not confirmed, and %s could not be put back: %s",
		       supervisor->options->config_path, strerror(-err));
	lifecycle_hold(supervisor->lifecycle, RETRY_MS);
}

void apply_recover(struct supervisor *supervisor)
{
	const struct proc_supervisor_options *options = supervisor->options;
	OS_AUTO_FD state = -1, lock = -1;
	int err;

	if (!options->config_path || !options->state_hint ||
	    os_open(OS_FOLDER_CURRENT, options->state_hint, OS_OPEN_READ | OS_OPEN_FOLDER, 0,
		    &state) < 0 ||
	    os_open(state, "lock", OS_OPEN_READ_WRITE | OS_OPEN_NO_FOLLOW, 0, &lock) < 0)
		return;
	/* Its service lives, and so does the time in which it may be confirmed. */
	if (state_is_busy(lock))
		return;
	err = restore(supervisor, state);
	if (err == -ENOENT)
		return;
	supervisor->was_restored = err == 0;
	if (err)
		supervisor_say(supervisor, "%s was not confirmed and could not be put back: %s",
			       options->config_path, strerror(-err));
}

void apply_serving(struct supervisor *supervisor)
{
	uint64_t number;

	if (supervisor->was_restored)
		supervisor_say(
			supervisor,
			"the configuration was not confirmed before the last end: %s is what it "
			"was before",
			supervisor->options->config_path);
	else if (supervisor->options->config_path &&
		 window_read(supervisor->state_fd, supervisor->options->config_path, &number) == 0)
		lifecycle_hold(supervisor->lifecycle, 0);
}
