/* A change on its way: the check job, the vault's part, data sets and snapshots to every member. */
#include "proc/supervisor_internal.h"

#include <signal.h>
#include <string.h>

enum { INPUTS_MS = 60 * 1000 };

/* ---- The check job --------------------------------------------------------------------------------- */

static void incomplete(struct supervisor *supervisor)
{
	if (!supervisor->job_is_incomplete)
		supervisor_fault(supervisor, "out of memory or descriptors\n");
	supervisor->job_is_incomplete = true;
}

static void compiled(struct supervisor *supervisor, const struct ipc_compiled *message, int fd)
{
	struct plan *plan = supervisor->next;
	struct lifecycle_wants wants = { 0 };
	const struct plan_row *state;
	struct span statement = SPAN_NONE;
	size_t cursor = 0;
	bool is_of_inputs =
		supervisor->job_request == LIFECYCLE_COMPILE_RUNNING && supervisor->running;
	/* A plan that lacks a row would close a listener or lose a root. */
	bool ok = message->errors == 0 && fd >= 0 && plan && !supervisor->job_is_incomplete;

	supervisor->job_done = true;
	apply_step(supervisor, "compiled");
	if (!ok) {
		os_close(fd);
		lifecycle_on_compiled(supervisor->lifecycle, false, NULL);
		return;
	}
	plan->snapshot_fd = fd;
	plan->size = message->size;
	if (is_of_inputs && plan_take_roots(plan, supervisor->running) < 0)
		ok = false;
	if (!ok || plan_share_roots(plan, ++supervisor->data_serial) < 0) {
		incomplete(supervisor);
		ok = false;
	} else if (is_of_inputs && plan_has_same_inputs(plan, supervisor->running) &&
		   plan_files_version(plan) == supervisor->running->files_version) {
		supervisor->inputs_trouble = 0;
		lifecycle_on_compiled(supervisor->lifecycle, false, NULL);
		return;
	}
	state = plan_next(plan, IPC_PLAN_STATE, &cursor);
	if (state)
		statement = state->tail;
	if (supervisor->lock_fd < 0) {
		ok = ok && state_open(supervisor, statement) == 0;
	} else if (!state_is_same(supervisor, statement) && statement.len) {
		supervisor_fault(supervisor,
				 "restart needed: `state` cannot change while the service runs\n");
		ok = false;
	}
	/* A log's folder that went away must not keep a certificate from being renewed. */
	if (ok && supervisor->job_request != LIFECYCLE_COMPILE_RUNNING)
		ok = logs_check(supervisor, plan);
	if (ok)
		ok = listeners_bind(supervisor, plan) == 0;
	if (ok)
		plan_wants(plan, &wants);
	lifecycle_on_compiled(supervisor->lifecycle, ok, &wants);
}

static void on_data(struct supervisor *supervisor, const struct ipc_data *body,
		    struct ipc_message *message)
{
	struct ipc_data data = *body;

	data.change = ++supervisor->data_serial;
	if (message->descriptor_count != 1 ||
	    os_memory_is_sealed(message->descriptors[0], OS_SEAL_ALL) != 1 ||
	    plan_add_data(supervisor->next, &data, TAKE_FD(message->descriptors[0])) < 0)
		incomplete(supervisor);
}

static void on_job_message(void *owner, struct ipc_channel *channel, struct ipc_message *message)
{
	struct supervisor *supervisor = owner;
	struct writer writer;
	int fd;

	(void)channel;
	supervisor_now(supervisor);
	if (!supervisor->next || supervisor->job_done)
		return;
	switch ((uint32_t)message->number) {
	case IPC_MESSAGE_plan_row:
		fd = message->descriptor_count ? TAKE_FD(message->descriptors[0]) : -1;
		if (plan_add_row(supervisor->next, message->body, message->tail, fd) < 0)
			incomplete(supervisor);
		return;
	case IPC_MESSAGE_data:
		on_data(supervisor, message->body, message);
		return;
	case IPC_MESSAGE_opening:
		writer = writer_of(supervisor->job_path, sizeof(supervisor->job_path) - 1);
		write_span(&writer, span_first(message->tail, sizeof(supervisor->job_path) - 1));
		*writer.at = '\0';
		return;
	case IPC_MESSAGE_diagnostic:
		supervisor_fault(supervisor, "%.*s", SPAN_ARG(message->tail));
		if (((const struct ipc_diagnostic *)message->body)->is_error ==
			    IPC_DIAGNOSTIC_USAGE &&
		    !supervisor->running)
			supervisor->exit_code = 2;
		return;
	case IPC_MESSAGE_compiled:
		fd = message->descriptor_count ? TAKE_FD(message->descriptors[0]) : -1;
		compiled(supervisor, message->body, fd);
		return;
	default:
		return;
	}
}

static void on_job_closed(void *owner, struct ipc_channel *channel, const char *why)
{
	struct supervisor *supervisor = owner;

	ipc_channel_close(channel);
	supervisor_now(supervisor);
	if (supervisor->job_done)
		return;
	supervisor->job_done = true;
	supervisor_fault(supervisor, "the check ended without a result%s%s\n", why ? ": " : "",
			 why ? why : "");
	lifecycle_on_compiled(supervisor->lifecycle, false, NULL);
}

static const struct ipc_handlers job_handlers = { .on_message = on_job_message,
						  .on_closed = on_job_closed };

static void on_job_end(struct os_watch *watch, unsigned now)
{
	struct supervisor *supervisor = CONTAINER_OF(watch, struct supervisor, job_watch);
	struct os_process_end end;

	(void)now;
	if (os_process_wait(supervisor->job.fd, &end) < 0)
		return;
	os_watch_remove(watch);
	os_close(TAKE_FD(supervisor->job.fd));
	supervisor->job.pid = 0;
}

/* The kernel ends nobody who waits for a dead file system. It is reaped when that answers; the next job does not wait. */
static void leave_job(struct supervisor *supervisor)
{
	os_watch_remove(&supervisor->job_watch);
	for (size_t i = 0; i < ARRAY_LEN(supervisor->left); i++) {
		if (!supervisor->left[i].pid) {
			supervisor->left[i] = supervisor->job;
			supervisor->job.pid = 0;
			return;
		}
	}
	os_close(supervisor->job.fd);
	supervisor->job.pid = 0;
}

void change_abort_compile(struct supervisor *supervisor)
{
	supervisor->job_done = true;
	ipc_channel_close(&supervisor->job_channel);
	if (!supervisor->job.pid)
		return;
	os_process_signal(supervisor->job.fd, SIGKILL);
	/* It is reaped here, so that the next job finds its place free. */
	if (os_wait(supervisor->job.fd, OS_READABLE, 1000) == 0)
		on_job_end(&supervisor->job_watch, OS_READABLE);
	if (supervisor->job.pid)
		leave_job(supervisor);
}

void change_reap_left(struct supervisor *supervisor)
{
	for (size_t i = 0; i < ARRAY_LEN(supervisor->left); i++) {
		struct os_process *left = &supervisor->left[i];
		struct os_process_end end;

		if (!left->pid || os_process_wait(left->fd, &end) < 0)
			continue;
		os_close(left->fd);
		left->pid = 0;
	}
}

void change_overdue(struct supervisor *supervisor)
{
	supervisor_count_limit(supervisor, TELEMETRY_LIMIT_CHECK_TIME);
	if (!supervisor->job_done && supervisor->job_path[0])
		supervisor_fault(supervisor, "the check waits for %s, which does not answer\n",
				 supervisor->job_path);
	change_abort_compile(supervisor);
}

/* The text: the file, what the command wrote, or the running one as it was resolved. */
static int open_text(struct supervisor *supervisor, enum lifecycle_request request, uint32_t *flags,
		     int *ret_fd)
{
	const struct proc_supervisor_options *options = supervisor->options;
	const struct plan_data *text;
	int err;

	if (request == LIFECYCLE_COMPILE_GIVEN)
		return os_memory_read_only(supervisor->given_fd, ret_fd);
	if (request == LIFECYCLE_COMPILE_RUNNING && supervisor->running) {
		text = plan_find_data(supervisor->running, IPC_DATA_TEXT, 0);
		if (text) {
			*flags |= IPC_COMPILE_BUNDLE;
			/* An open description of its own: a duplicate would be at the end after the first read. */
			return os_memory_read_only(text->fd, ret_fd);
		}
	}
	if (!options->config_path)
		return proc_seal_text("text", options->text, ret_fd);
	err = os_open(OS_FOLDER_CURRENT, options->config_path, OS_OPEN_READ, 0, ret_fd);
	if (err < 0)
		supervisor_fault(supervisor, "%s: %s\n", options->config_path,
				 err == -ENOENT ? "there is no such file" : strerror(-err));
	return err;
}

static int send_job(struct supervisor *supervisor, int text_fd, uint64_t change, uint32_t flags)
{
	const struct proc_row *row = proc_row_find(IPC_CHECK);
	struct ipc_birth birth = { .kind = IPC_CHECK,
				   .uid = row_uid(supervisor, row),
				   .gid = row_uid(supervisor, row),
				   .cpu = UINT32_MAX,
				   .snapshot_base = supervisor->snapshot_base,
				   .nofile = supervisor->nofile };
	struct ipc_compile compile = { .address = supervisor->next->address,
				       .size = PROC_SNAPSHOT_PLACE_SIZE,
				       .serial = change,
				       .flags = flags };
	const char *name = supervisor->options->config_path ? supervisor->options->config_path
							    : supervisor->options->config_name;

	return child_send_check(&supervisor->job_channel, &birth, &compile, text_fd, name);
}

static int start_job(struct supervisor *supervisor, uint64_t change, enum lifecycle_request request)
{
	OS_AUTO_FD text = -1;
	uint32_t flags = 0;
	int err;

	if (child_is_unprivileged())
		flags |= IPC_COMPILE_UNPRIVILEGED_PORTS;
	if (supervisor->options->is_short_log)
		flags |= IPC_COMPILE_TERMINAL;
	err = open_text(supervisor, request, &flags, &text);
	if (err < 0)
		return err;
	if (supervisor->reopens_roots)
		flags |= IPC_COMPILE_ROOTS;
	supervisor->reopens_roots = false;
	err = child_start(proc_row_find(IPC_CHECK), 0, supervisor->loop, &supervisor->job,
			  &supervisor->job_channel);
	if (err < 0)
		return err;
	ipc_channel_handle(&supervisor->job_channel, &job_handlers, supervisor);
	supervisor->job_watch = (struct os_watch){ .on_ready = on_job_end };
	err = os_watch_add(supervisor->loop, &supervisor->job_watch, supervisor->job.fd,
			   OS_WATCH_EDGE);
	return err ? err : send_job(supervisor, text, change, flags);
}

static uint32_t place_of(const struct supervisor *supervisor, const struct plan *plan)
{
	return (uint32_t)((plan->address - supervisor->snapshot_base) / PROC_SNAPSHOT_PLACE_SIZE);
}

/* A request that takes long keeps its configuration, and its place, in its worker: a change to that place would wait for
 * it, and end it in the end. Where every place is taken it does, for the oldest. */
static uint32_t choose_place(const struct supervisor *supervisor)
{
	uint32_t best = UINT32_MAX;
	uint64_t held = 0;

	for (uint32_t i = 0; i < supervisor->child_count; i++) {
		if (supervisor->children[i].process.pid)
			held |= __atomic_load_n(&supervisor->children[i].range->places_held,
						__ATOMIC_RELAXED);
	}
	for (uint32_t i = 0; i < PROC_SNAPSHOT_PLACES; i++) {
		bool is_held = held >> i & 1, is_best_held = best < UINT32_MAX && held >> best & 1;

		if (supervisor->running && i == place_of(supervisor, supervisor->running))
			continue;
		if (best == UINT32_MAX || is_held < is_best_held ||
		    (is_held == is_best_held &&
		     supervisor->place_changes[i] < supervisor->place_changes[best]))
			best = i;
	}
	return best;
}

void change_compile(struct supervisor *supervisor, uint64_t change, enum lifecycle_request request)
{
	int err;

	change_abort_compile(supervisor);
	supervisor->trouble = writer_of(supervisor->trouble_text, sizeof(supervisor->trouble_text));
	supervisor->job_done = supervisor->job_is_incomplete = false;
	supervisor->job_path[0] = '\0';
	supervisor->job_request = request;
	err = plan_new(change, &supervisor->next);
	if (!err) {
		supervisor->next->address = supervisor->snapshot_base +
					    choose_place(supervisor) * PROC_SNAPSHOT_PLACE_SIZE;
		err = start_job(supervisor, change, request);
	}
	if (err < 0) {
		change_abort_compile(supervisor);
		if (!writer_done(&supervisor->trouble).len)
			supervisor_fault(supervisor, "the check could not be started: %s\n",
					 strerror(-err));
		lifecycle_on_compiled(supervisor->lifecycle, false, NULL);
	}
}

/* ---- The vault's part ------------------------------------------------------------------------------ */

void change_send_keys(struct child *vault, const struct plan *plan, uint64_t change)
{
	const struct plan_row *row;
	size_t cursor = 0;

	while ((row = plan_next(plan, IPC_PLAN_CERTIFICATE_FILE, &cursor))) {
		struct ipc_key_file body = { .change = change,
					     .id = row->row.id,
					     .line = row->row.line };

		memcpy(body.spki_hash, row->row.spki_hash, sizeof(body.spki_hash));
		child_send(vault, IPC_MESSAGE_key_file, &body, row->tail, &row->fd,
			   row->fd >= 0 ? 1 : 0);
	}
	cursor = 0;
	while ((row = plan_next(plan, IPC_PLAN_CERTIFICATE_INTERNAL, &cursor)))
		child_send(vault, IPC_MESSAGE_leaf_wanted,
			   &(struct ipc_leaf_wanted){ .change = change, .id = row->row.id },
			   row->tail, NULL, 0);
}

/* True once every internal certificate of the plan has a chain. */
static bool is_gathered(const struct plan *plan)
{
	const struct plan_row *row;
	size_t cursor = 0;

	while ((row = plan_next(plan, IPC_PLAN_CERTIFICATE_INTERNAL, &cursor))) {
		if (!plan_find_data(plan, IPC_DATA_CHAIN, row->row.id))
			return false;
	}
	return true;
}

void change_gather(struct supervisor *supervisor, struct child *vault, uint64_t change)
{
	change_send_keys(vault, supervisor->next, change);
	if (is_gathered(supervisor->next))
		lifecycle_on_gathered(supervisor->lifecycle, true);
}

static bool same_bytes(const struct plan_data *data, struct span text)
{
	const void *memory;
	bool same;

	if (!data || data->data.size != text.len ||
	    proc_map_sealed(data->fd, text.len, &memory) < 0)
		return false;
	same = span_equal(span_of(memory, text.len), text);
	os_memory_unmap((void *)(uintptr_t)memory, text.len); // NOLINT
	return same;
}

/* One of a change that has failed meanwhile is nobody's. */
static struct plan *running_of(struct supervisor *supervisor, uint64_t change)
{
	struct plan *running = supervisor->running;

	return running && (!change || change == running->change) ? running : NULL;
}

void change_on_leaf(struct supervisor *supervisor, const struct ipc_leaf *leaf, struct span chain)
{
	bool is_for_next = supervisor->next && leaf->change == supervisor->next->change;
	struct plan *plan = is_for_next ? supervisor->next : running_of(supervisor, leaf->change);
	struct ipc_data data = { .id = leaf->id,
				 .what = IPC_DATA_CHAIN,
				 .size = (uint32_t)chain.len };
	int fd, err;

	if (!plan || same_bytes(plan_find_data(plan, IPC_DATA_CHAIN, leaf->id), chain))
		return;
	err = proc_seal_text("chain", chain, &fd);
	if (!err) {
		data.change = ++supervisor->data_serial;
		memcpy(data.spki_hash, leaf->spki_hash, sizeof(data.spki_hash));
		err = plan_add_data(plan, &data, fd);
	}
	/* The vault has answered and will not do so again: nothing is left to wait for. */
	if (err < 0 && is_for_next) {
		supervisor_fault(supervisor, "an internal certificate could not be kept: %s\n",
				 strerror(-err));
		lifecycle_on_gathered(supervisor->lifecycle, false);
	}
	if (err < 0)
		return;
	if (!is_for_next)
		lifecycle_change(supervisor->lifecycle, LIFECYCLE_DATA);
	else if (is_gathered(plan))
		lifecycle_on_gathered(supervisor->lifecycle, true);
}

/* ---- What `files` found -------------------------------------------------------------------------------- */

/* Whose roots did not exist before this change is part of what the change wants: it fails. Else only that root is not
 * served, and all the rest goes on. */
static void on_forbidden(struct supervisor *supervisor, struct child *files, struct span why)
{
	uint64_t version = supervisor_process(supervisor, files)->version;
	const struct plan *next = supervisor->next, *running = supervisor->running;

	if (lifecycle_phase(supervisor->lifecycle) != LIFECYCLE_PREPARING || !next ||
	    next->files_version != version || (running && running->files_version == version)) {
		supervisor_say(supervisor, "%.*s", SPAN_ARG(why));
		return;
	}
	supervisor_fault(supervisor, "%.*s\n", SPAN_ARG(why));
	lifecycle_on_refused(supervisor->lifecycle, files->index,
			     lifecycle_changing(supervisor->lifecycle));
}

void change_on_root_news(struct supervisor *supervisor, struct child *files,
			 const struct ipc_root_news *news, struct span why)
{
	if (news->what == IPC_ROOT_FORBIDDEN) {
		on_forbidden(supervisor, files, why);
	} else if (news->what == IPC_ROOT_MOVED && supervisor->running &&
		   supervisor->running->files_version ==
			   supervisor_process(supervisor, files)->version) {
		supervisor->reopens_roots = true;
		lifecycle_change(supervisor->lifecycle, LIFECYCLE_COMPILE_RUNNING);
	}
}

/* ---- Prepare and after ----------------------------------------------------------------------------- */

static bool wants_data(enum ipc_kind kind, uint32_t what)
{
	switch (what) {
	case IPC_DATA_CHAIN:
		return kind == IPC_WORKER || kind == IPC_KEYHOLDER || kind == IPC_VAULT;
	case IPC_DATA_ROOTS:
		return kind == IPC_WORKER || kind == IPC_DIALER;
	case IPC_DATA_ROOT_SLOTS:
		return kind == IPC_WORKER;
	case IPC_DATA_HOSTS:
	case IPC_DATA_RESOLVER:
		return kind == IPC_DIALER;
	default:
		return false;
	}
}

void change_prepare(struct supervisor *supervisor, struct child *child, uint64_t change)
{
	enum ipc_kind kind = supervisor_process(supervisor, child)->kind;
	bool is_next = supervisor->next && supervisor->next->change == change;
	const struct plan *plan = is_next ? supervisor->next : supervisor->running;
	struct ipc_prepare prepare = { .change = change };
	bool has_snapshot;

	MUST(plan);
	has_snapshot = child->plan_committed != plan->change;
	/* Of another plan everything: numbers of data sets say what is newer within one. */
	for (size_t i = 0; i < plan->data_count; i++) {
		struct ipc_data data = plan->data[i].data;

		if (!wants_data(kind, data.what) ||
		    (!has_snapshot && data.change <= child->data_committed))
			continue;
		data.change = change;
		child_send(child, IPC_MESSAGE_data, &data, SPAN_NONE, &plan->data[i].fd, 1);
	}
	child->data_sent = supervisor->data_serial;
	child->plan_sent = plan->change;
	if (has_snapshot) {
		prepare.address = plan->address;
		prepare.size = plan->size;
	}
	child_send(child, IPC_MESSAGE_prepare, &prepare, SPAN_NONE, &plan->snapshot_fd,
		   has_snapshot ? 1 : 0);
}

void change_decided(struct supervisor *supervisor, uint64_t change)
{
	struct child *log = child_find(supervisor, IPC_LOG, 0);

	if (!supervisor->next || supervisor->next->change != change)
		return; /* data sets only: the plan stays */
	plan_free(supervisor->running);
	supervisor->running = TAKE(supervisor->next);
	supervisor->place_changes[place_of(supervisor, supervisor->running)] = change;
	listeners_decided(supervisor);
	if (log && supervisor->is_serving)
		logs_give(supervisor, log);
}

/* What `systemctl status` shows. */
static void tell_manager(struct supervisor *supervisor, bool ok)
{
	struct span trouble = writer_done(&supervisor->trouble), line = SPAN_NONE;
	char first[200];
	size_t len;

	if (lifecycle_is_stopping(supervisor->lifecycle) || !supervisor->is_serving)
		return;
	if (!ok && !span_cut(&trouble, '\n', &line))
		line = trouble;
	line = span_first(line, sizeof(first) - 1);
	for (len = 0; len < line.len; len++)
		first[len] =
			(char)(line.ptr[len] >= ' ' && line.ptr[len] < 127 ? line.ptr[len] : '?');
	first[len] = '\0';
	manager_tell(&supervisor->manager,
		     "READY=1\nMAINPID=%d\nSTATUS=serving configuration %llu%s%s", os_pid(),
		     (unsigned long long)lifecycle_running(supervisor->lifecycle),
		     ok ? "" : "; a newer one was refused: ", first);
}

static void begin_serving(struct supervisor *supervisor)
{
	int err;

	if (supervisor->is_serving)
		return;
	err = state_serve(supervisor);
	if (err < 0)
		supervisor_say(supervisor, "%s/lock: %s", supervisor->state_path, strerror(-err));
	supervisor->is_serving = true;
	change_watch_inputs(supervisor);
	listeners_print_ready(supervisor);
	os_err(supervisor->options->hints);
	apply_serving(supervisor);
}

/* Each minute the inputs of the running text are looked at again: a certificate that was renewed, hosts. */
static void on_inputs(struct os_timer *timer)
{
	struct supervisor *supervisor = CONTAINER_OF(timer, struct supervisor, inputs);

	change_watch_inputs(supervisor);
	supervisor_now(supervisor);
	if (supervisor->running && lifecycle_phase(supervisor->lifecycle) == LIFECYCLE_IDLE &&
	    !lifecycle_is_stopping(supervisor->lifecycle))
		lifecycle_change(supervisor->lifecycle, LIFECYCLE_COMPILE_RUNNING);
}

void change_watch_inputs(struct supervisor *supervisor)
{
	supervisor->inputs.on_due = on_inputs;
	os_timer_set(supervisor->loop, &supervisor->inputs,
		     os_loop_now_ns(supervisor->loop) + INPUTS_MS * OS_MS);
}

/* What is wrong with an input stays wrong minute after minute: the operator hears of it once. */
static bool is_known_trouble(struct supervisor *supervisor)
{
	struct span trouble = writer_done(&supervisor->trouble);
	uint64_t hash = trouble.len ? hash_id(trouble) : 0;
	bool known = hash == supervisor->inputs_trouble;

	supervisor->inputs_trouble = hash;
	return known;
}

static void tell_ended(struct supervisor *supervisor, const struct lifecycle_action *action)
{
	bool ok = action->what == LIFECYCLE_CHANGE_DONE;
	bool is_inputs = action->request == LIFECYCLE_COMPILE_RUNNING;
	struct span trouble = writer_done(&supervisor->trouble);

	if (action->request == LIFECYCLE_DATA || (is_inputs && !ok && is_known_trouble(supervisor)))
		return;
	if (is_inputs && !ok && trouble.len)
		supervisor_say(supervisor,
			       "a certificate or another input was not taken over:\n%.*s",
			       SPAN_ARG(trouble));
	else if (trouble.len)
		os_err(trouble);
	if (!is_inputs && !ok && supervisor->running &&
	    !lifecycle_is_stopping(supervisor->lifecycle))
		supervisor_say(supervisor, "the configuration was not changed");
	if (is_inputs && ok)
		supervisor->inputs_trouble = 0;
	if (is_inputs && ok)
		supervisor_say(supervisor,
			       "certificates or other inputs have changed and were taken over");
}

void change_ended(struct supervisor *supervisor, const struct lifecycle_action *action)
{
	bool ok = action->what == LIFECYCLE_CHANGE_DONE;
	bool was_compiled = action->request != LIFECYCLE_DATA;

	if (action->why && !lifecycle_is_stopping(supervisor->lifecycle))
		supervisor_fault(supervisor, "%s\n", action->why);
	if (!ok && supervisor->next && was_compiled) {
		listeners_drop_new(supervisor);
		plan_free(TAKE(supervisor->next));
	}
	tell_ended(supervisor, action);
	if (ok)
		begin_serving(supervisor);
	if (action->request >= LIFECYCLE_COMPILE_FILE)
		tell_manager(supervisor, ok);
	if (ok && action->request >= LIFECYCLE_COMPILE_FILE)
		origins_look(supervisor);
	if (action->request == LIFECYCLE_COMPILE_GIVEN)
		apply_ended(supervisor);
	control_change_ended(supervisor, action->change, ok);
	if (!ok && !supervisor->running && !lifecycle_is_stopping(supervisor->lifecycle)) {
		if (!supervisor->exit_code)
			supervisor->exit_code = PROC_EXIT_FAULT;
		lifecycle_stop(supervisor->lifecycle, 0);
	}
}
