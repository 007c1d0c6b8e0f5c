/* The check job: a text becomes a snapshot, plan rows and data sets, or a list of faults.
 *
 * Two steps, two sandboxes. In the first it opens all that the text names and parses nothing of it but the
 * text itself; key files are passed on unread. In the second it has no file system left, and only then
 * reads certificates. */
#include "proc/proc.h"

#include <string.h>

#include "cert/cert.h"
#include "proc/check_internal.h"

enum {
	CHECK_WAIT_MS = 30000,
	CHECK_MESSAGE_MAX = 16000,
	CHECK_SMALL_MAX = 1 << 20, /* hosts, resolv.conf */
};

static const char system_roots[] = "/etc/ssl/certs/ca-certificates.crt";

/* What a plan row came to when it was opened. */
struct opened {
	int fd;                     /* of a root, or of a key file; -1 */
	struct os_file_info folder; /* of a root */
	struct check_root_link *links;
	size_t link_count;
	struct span text; /* of a chain, or roots */
	bool is_read;
	struct cert_chain chain;
};

struct check {
	struct proc_self *self;
	struct arena arena; /* the tree, texts, messages */
	struct arena snapshot_arena;
	void *snapshot_memory;
	struct ipc_compile compile;
	char path[4096];
	int text_fd;
	struct conf_errors errors;
	bool needs_certificate; /* the only faults */
	struct conf_tree *tree;
	const struct snapshot *snapshot;
	struct opened *opened; /* one per plan row */
	struct span hosts, resolver;
};

/* ---- Sending: this job may wait, there is nothing else to do ------------------------------------------- */

static int check_send(struct check *check, enum ipc_number number, const void *body,
		      struct span tail, int fd)
{
	struct ipc_channel *channel = proc_supervisor(check->self);
	int outcome;

	while ((outcome = ipc_send(channel, number, body, tail, &fd, fd >= 0 ? 1 : 0)) ==
	       IPC_FULL) {
		if (os_wait(channel->watch.fd, OS_WRITABLE, CHECK_WAIT_MS))
			return -ETIMEDOUT;
		ipc_channel_flush(channel);
	}
	return outcome ? -EPIPE : 0;
}

static int seal_bytes(const char *name, struct span bytes, int *ret_fd)
{
	OS_AUTO_FD fd = -1;
	int failed = os_memory_new(name, bytes.len, &fd);
	size_t at = 0;

	while (!failed && at < bytes.len) {
		ssize_t put = os_pwrite(fd, bytes.ptr + at, bytes.len - at, at);

		if (put <= 0)
			failed = put < 0 ? (int)put : -EIO;
		else
			at += (size_t)put;
	}
	if (!failed)
		failed = os_memory_seal(fd, OS_SEAL_ALL);
	if (!failed)
		*ret_fd = TAKE_FD(fd);
	return failed;
}

static int send_data(struct check *check, enum ipc_data_kind what, uint64_t id, struct span bytes,
		     const uint8_t *spki_hash)
{
	struct ipc_data body = {
		.change = check->compile.serial, .id = id, .what = what, .size = (uint32_t)bytes.len
	};
	OS_AUTO_FD fd = -1;
	int failed = seal_bytes("data", bytes, &fd);

	if (failed)
		return failed;
	if (spki_hash)
		memcpy(body.spki_hash, spki_hash, sizeof(body.spki_hash));
	return check_send(check, IPC_MESSAGE_data, &body, SPAN_NONE, fd);
}

/* ---- Reading the text ------------------------------------------------------------------------------------ */

static int parse_text(struct check *check)
{
	struct conf_functions functions = proc_text_functions(&check->arena);
	struct span text;
	int failed = os_file_read_fd(check->text_fd, CHECK_FILE_MAX, &check->arena, &text);

	if (failed)
		return failed;
	if (check->compile.flags & IPC_COMPILE_BUNDLE)
		return conf_parse_bundle(&check->arena, text, &check->errors, &check->tree);
	return conf_parse(&check->arena, span_str(check->path), text, &functions, &check->errors,
			  &check->tree);
}

static int compile_text(struct check *check)
{
	bool is_unprivileged = check->compile.flags & IPC_COMPILE_UNPRIVILEGED_PORTS;
	struct snapshot_options options = {
		.serial = check->compile.serial,
		.implied_tls_port = is_unprivileged ? 8443 : 443,
		.implied_plain_port = is_unprivileged ? 0 : 80,
		.access_log = { .target = SNAPSHOT_LOG_STDOUT },
		.events_log = { .target = SNAPSHOT_LOG_STDOUT },
	};
	int failed;

	if (check->compile.flags & IPC_COMPILE_TERMINAL) {
		options.access_log.format = SNAPSHOT_LOG_SHORT;
		options.events_log.target = SNAPSHOT_LOG_OFF;
	}
	failed = os_memory_map(-1, check->compile.size,
			       (void *)(uintptr_t)check->compile.address, // NOLINT
			       OS_MAP_WRITE, &check->snapshot_memory);
	if (failed)
		return failed;
	arena_init_fixed(&check->snapshot_arena, check->snapshot_memory, check->compile.size);
	return snapshot_compile(check->tree, &options, &check->snapshot_arena, &check->errors,
				&check->snapshot);
}

/* ---- Opening what it names --------------------------------------------------------------------------------- */

/* A snapshot's place as one that can be printed with its line. */
static struct conf_place place_of(const struct check *check, const struct snapshot_place *place)
{
	struct conf_place found = { .line = place->line, .column = place->column, .len = 1 };
	const struct conf_tree *tree = check->tree;
	uint32_t line = 1, column = 1;
	struct span text;

	while (found.file + 1 < tree->file_count &&
	       !span_equal(tree->files[found.file].name, place->file))
		found.file++;
	if (!tree->file_count)
		return (struct conf_place){ 0 };
	text = tree->files[found.file].text;
	for (size_t i = 0; i < text.len && (line < place->line || column < place->column); i++) {
		bool is_newline = text.ptr[i] == '\n';

		line += is_newline;
		column = is_newline ? 1 : column + (((unsigned char)text.ptr[i] & 0xc0) != 0x80);
		found.offset = (uint32_t)i + 1;
	}
	return found;
}

/* The word of the row's statement that names this path: what stands behind its last slash is found in the line. */
static struct conf_place place_of_path(const struct check *check,
				       const struct snapshot_plan_row *row)
{
	struct conf_place place = place_of(check, &row->place);
	struct span text, line, name = row->path;
	size_t at;

	if (!check->tree->file_count)
		return place;
	text = check->tree->files[place.file].text;
	line = span_skip(text, place.offset);
	line = span_first(line, span_find_byte(line, '\n'));
	while (span_find_byte(name, '/') < name.len)
		name = span_skip(name, span_find_byte(name, '/') + 1);
	at = name.len ? span_find(line, name) : line.len;
	if (at == line.len)
		return place;
	while (at > 0 && line.ptr[at - 1] != ' ' && line.ptr[at - 1] != '\t' &&
	       line.ptr[at - 1] != '"')
		at--;
	place.offset += (uint32_t)at;
	place.column += (uint32_t)at;
	line = span_skip(line, at);
	while (place.len < line.len && !strchr(" \t;{}\"\r", line.ptr[place.len]))
		place.len++;
	return place;
}

static const char *why_not(int failed)
{
	switch (-failed) {
	case ENOENT:
		return "there is no such file or folder";
	case EACCES:
	case EPERM:
		return "it may not be read by the user that starts the gateway";
	case ENOTDIR:
		return "it is no folder";
	case EISDIR:
		return "it is a folder";
	case EFBIG:
		return "it is too large";
	case ELOOP:
		return "its symlinks go in a circle";
	default:
		return "it could not be read";
	}
}

static void tell_unopened(struct check *check, const struct snapshot_plan_row *row,
			  const char *what, int failed)
{
	conf_error_add(&check->errors, place_of_path(check, row), "%s %.*s: %s", what,
		       SPAN_ARG(row->path), why_not(failed));
}

/* A file system that does not answer ends this job; then it is known by which path. */
static void tell_opening(struct check *check, struct span path)
{
	struct ipc_opening body = { { 0 } };

	if (check_send(check, IPC_MESSAGE_opening, &body, span_first(path, 4096), -1) == 0)
		ipc_channel_flush(proc_supervisor(check->self));
}

static int open_path(struct check *check, struct span path, unsigned flags, int *ret_fd)
{
	char *name = arena_cstr(&check->arena, path);

	tell_opening(check, path);
	return name ? os_open(OS_FOLDER_CURRENT, name, flags, 0, ret_fd) : -ENOMEM;
}

static void open_root(struct check *check, const struct snapshot_plan_row *row,
		      struct opened *opened)
{
	int failed;

	tell_opening(check, row->path);
	/* The way first: what changes between the two is then seen as a change. */
	opened->links = arena_array(&check->arena, struct check_root_link, CHECK_ROOT_LINKS_MAX);
	if (opened->links && !(check->compile.flags & IPC_COMPILE_COMMAND))
		opened->link_count = check_root_links(&check->arena, row->path, opened->links);
	failed = open_path(check, row->path, OS_OPEN_HANDLE, &opened->fd);
	if (!failed)
		failed = os_file_info(opened->fd, &opened->folder);
	if (!failed && opened->folder.type != OS_FILE_FOLDER)
		failed = -ENOTDIR;
	if (failed)
		tell_unopened(check, row, "document root", failed);
}

static void read_text(struct check *check, const struct snapshot_plan_row *row,
		      struct opened *opened, const char *what)
{
	OS_AUTO_FD fd = -1;
	int failed = open_path(check, row->path, OS_OPEN_READ, &fd);

	if (!failed)
		failed = os_file_read_fd(fd, CHECK_SMALL_MAX, &check->arena, &opened->text);
	opened->is_read = !failed;
	if (failed)
		tell_unopened(check, row, what, failed);
}

static void read_system_roots(struct check *check, struct opened *opened)
{
	/* Without the package of root certificates every https origin is untrusted, and says so. */
	opened->is_read = os_file_read(OS_FOLDER_CURRENT, system_roots, CHECK_FILE_MAX,
				       &check->arena, &opened->text) == 0;
}

static void open_row(struct check *check, const struct snapshot_plan_row *row,
		     struct opened *opened)
{
	int failed;

	switch (row->kind) {
	case SNAPSHOT_PLAN_ROOT:
		/* The supervisor has them: a dead file system must not block a renewal. */
		if (!(check->compile.flags & IPC_COMPILE_BUNDLE) ||
		    check->compile.flags & IPC_COMPILE_ROOTS)
			open_root(check, row, opened);
		return;
	case SNAPSHOT_PLAN_CERTIFICATE:
		read_text(check, row, opened, "certificate");
		return;
	case SNAPSHOT_PLAN_KEY:
		failed = open_path(check, row->path, OS_OPEN_READ, &opened->fd);
		/* The command may be run by somebody who cannot read keys: then it could not look. */
		if (failed && (check->compile.flags & IPC_COMPILE_COMMAND) && failed == -EACCES)
			conf_warning_add(&check->errors, place_of(check, &row->place),
					 "key %.*s: could not look", SPAN_ARG(row->path));
		else if (failed)
			tell_unopened(check, row, "key", failed);
		return;
	case SNAPSHOT_PLAN_CA:
		if (row->path.len)
			read_text(check, row, opened, "certificates of the origin's CA");
		else
			read_system_roots(check, opened);
		return;
	case SNAPSHOT_PLAN_LISTENER:
	case SNAPSHOT_PLAN_ORIGIN:
	case SNAPSHOT_PLAN_INTERNAL:
	case SNAPSHOT_PLAN_LOG:
	case SNAPSHOT_PLAN_STATE:
	case SNAPSHOT_PLAN_HELPER:
		return;
	}
}

static int open_all(struct check *check)
{
	check->opened = arena_array(&check->arena, struct opened, check->snapshot->plan_count + 1);
	if (!check->opened)
		return -ENOMEM;
	for (size_t i = 0; i < check->snapshot->plan_count; i++) {
		check->opened[i].fd = -1;
		open_row(check, &check->snapshot->plan[i], &check->opened[i]);
	}
	/* Inputs like any other; a machine may have neither. */
	if (os_file_read(OS_FOLDER_CURRENT, "/etc/hosts", CHECK_SMALL_MAX, &check->arena,
			 &check->hosts))
		check->hosts = SPAN_NONE;
	if (os_file_read(OS_FOLDER_CURRENT, "/etc/resolv.conf", CHECK_SMALL_MAX, &check->arena,
			 &check->resolver))
		check->resolver = SPAN_NONE;
	return 0;
}

/* ---- Reading certificates, in the closed sandbox ------------------------------------------------------------- */

static void check_covered(struct check *check, const struct snapshot_plan_row *row,
			  const struct cert_chain *chain)
{
	for (size_t i = 0; i < check->snapshot->site_count; i++) {
		const struct snapshot_site *site = &check->snapshot->sites[i];

		for (size_t k = 0; k < site->certificate_count; k++) {
			if (site->certificates[k]->id != row->id || site->certificate_count > 1)
				continue;
			for (size_t n = 0; n < site->name_count; n++) {
				if (!cert_chain_covers(chain, site->names[n]))
					conf_warning_add(
						&check->errors, place_of(check, &row->place),
						"certificate %.*s does not name %.*s",
						SPAN_ARG(row->path), SPAN_ARG(site->names[n]));
			}
		}
	}
}

static void parse_chain(struct check *check, const struct snapshot_plan_row *row,
			struct opened *opened)
{
	int64_t now_s = (int64_t)(os_wall_ns() / OS_SECOND);
	struct conf_place place = place_of_path(check, row);
	struct span why = SPAN_NONE;

	if (!opened->is_read)
		return;
	if (cert_chain_parse(&check->arena, opened->text, &opened->chain, &why)) {
		conf_error_add(&check->errors, place, "certificate %.*s %.*s", SPAN_ARG(row->path),
			       SPAN_ARG(why));
		return;
	}
	switch (cert_chain_validity(&opened->chain, now_s)) {
	case CERT_EXPIRED:
		/* At a start it serves all the same; nothing that serves is replaced by it. */
		if (check->compile.flags & IPC_COMPILE_BUNDLE)
			conf_error_add(&check->errors, place, "certificate %.*s has expired",
				       SPAN_ARG(row->path));
		else
			conf_warning_add(&check->errors, place, "certificate %.*s has expired",
					 SPAN_ARG(row->path));
		break;
	case CERT_NOT_YET_VALID:
		conf_warning_add(&check->errors, place, "certificate %.*s is not valid yet",
				 SPAN_ARG(row->path));
		break;
	case CERT_VALID:
		break;
	}
	check_covered(check, row, &opened->chain);
}

static void parse_all(struct check *check)
{
	for (size_t i = 0; i < check->snapshot->plan_count; i++) {
		const struct snapshot_plan_row *row = &check->snapshot->plan[i];

		if (row->kind == SNAPSHOT_PLAN_CERTIFICATE)
			parse_chain(check, row, &check->opened[i]);
		else if (row->kind == SNAPSHOT_PLAN_CA && row->path.len &&
			 check->opened[i].is_read &&
			 span_find(check->opened[i].text, SPAN("-----BEGIN CERTIFICATE-----")) ==
				 check->opened[i].text.len)
			conf_error_add(&check->errors, place_of(check, &row->place),
				       "%.*s holds no certificate", SPAN_ARG(row->path));
	}
}

/* ---- The answer ------------------------------------------------------------------------------------------------ */

static enum ipc_kind helper_kind(enum snapshot_helper helper)
{
	switch (helper) {
	case SNAPSHOT_HELPER_VAULT:
		return IPC_VAULT;
	case SNAPSHOT_HELPER_KEYHOLDER:
		return IPC_KEYHOLDER;
	case SNAPSHOT_HELPER_FILES:
		return IPC_FILES;
	case SNAPSHOT_HELPER_DIALER:
		return IPC_DIALER;
	case SNAPSHOT_HELPER_LOG:
		return IPC_LOG;
	}
	return IPC_LOG;
}

static int send_listener(struct check *check, const struct snapshot_plan_row *row)
{
	const struct snapshot_listener *listener = snapshot_find_listener(check->snapshot, row->id);
	struct ipc_plan_row body = { .id = row->id,
				     .what = IPC_PLAN_LISTENER,
				     .line = row->place.line };

	body.family = row->address.family;
	body.port = row->address.port;
	memcpy(body.address, row->address.bytes, sizeof(body.address));
	body.flags = (row->is_implied ? (uint32_t)IPC_PLAN_IMPLIED : 0) |
		     (listener && listener->is_plain ? (uint32_t)IPC_PLAN_PLAIN : 0) |
		     (listener && listener->is_serving ? (uint32_t)IPC_PLAN_SERVES : 0);
	return check_send(check, IPC_MESSAGE_plan_row, &body, SPAN_NONE, -1);
}

/* The row of the chain's file; the key's has the same id and comes with it. */
static int send_certificate(struct check *check, size_t index)
{
	const struct snapshot_plan_row *row = &check->snapshot->plan[index];
	const struct opened *opened = &check->opened[index];
	struct ipc_plan_row body = { .id = row->id,
				     .what = IPC_PLAN_CERTIFICATE_FILE,
				     .line = row->place.line };
	char tail[8192];
	struct writer writer = writer_of(tail, sizeof(tail));
	struct span key_path = SPAN_NONE;
	int key_fd = -1, failed;

	for (size_t i = 0; i < check->snapshot->plan_count; i++) {
		if (check->snapshot->plan[i].kind == SNAPSHOT_PLAN_KEY &&
		    check->snapshot->plan[i].id == row->id) {
			key_fd = check->opened[i].fd;
			key_path = check->snapshot->plan[i].path;
		}
	}
	memcpy(body.spki_hash, opened->chain.spki_hash, sizeof(body.spki_hash));
	write_format(&writer, "%.*s:%u:%u", SPAN_ARG(row->place.file), row->place.line,
		     row->place.column);
	write_byte(&writer, '\0');
	write_span(&writer, row->path);
	write_byte(&writer, '\0');
	write_span(&writer, key_path);
	write_byte(&writer, '\0');
	failed = check_send(check, IPC_MESSAGE_plan_row, &body, writer_done(&writer), key_fd);
	return failed ? failed
		      : send_data(check, IPC_DATA_CHAIN, row->id, opened->text,
				  opened->chain.spki_hash);
}

static int send_internal(struct check *check, const struct snapshot_plan_row *row)
{
	const struct snapshot_certificate *certificate =
		snapshot_find_certificate(check->snapshot, row->id);
	struct ipc_plan_row body = { .id = row->id,
				     .what = IPC_PLAN_CERTIFICATE_INTERNAL,
				     .line = row->place.line };
	char tail[8192];
	struct writer writer = writer_of(tail, sizeof(tail));

	for (size_t i = 0; certificate && i < certificate->name_count; i++) {
		write_span(&writer, certificate->names[i]);
		write_byte(&writer, '\0');
	}
	return check_send(check, IPC_MESSAGE_plan_row, &body, writer_done(&writer), -1);
}

static int send_simple(struct check *check, const struct snapshot_plan_row *row,
		       enum ipc_plan_kind what, uint32_t index, int fd)
{
	struct ipc_plan_row body = {
		.id = row->id, .what = what, .index = index, .line = row->place.line
	};

	return check_send(check, IPC_MESSAGE_plan_row, &body, row->path, fd);
}

/* So that nobody else has to ask a file system that may be dead by then. */
static void write_folder(struct ipc_plan_row *row, const struct os_file_info *folder)
{
	memcpy(row->address, &folder->device, sizeof(folder->device));
	memcpy(row->address + sizeof(folder->device), &folder->inode, sizeof(folder->inode));
}

static int send_root(struct check *check, size_t index)
{
	const struct snapshot_plan_row *row = &check->snapshot->plan[index];
	const struct opened *opened = &check->opened[index];
	struct ipc_plan_row root = { .id = row->id,
				     .what = IPC_PLAN_ROOT,
				     .line = row->place.line };
	int failed;

	write_folder(&root, &opened->folder);
	failed = check_send(check, IPC_MESSAGE_plan_row, &root, row->path, opened->fd);
	for (size_t i = 0; i < opened->link_count && !failed; i++) {
		const struct check_root_link *link = &opened->links[i];
		struct ipc_plan_row body = { .id = row->id,
					     .what = IPC_PLAN_ROOT_LINK,
					     .line = row->place.line };
		char tail[8192];
		struct writer writer = writer_of(tail, sizeof(tail));

		write_folder(&body, &link->folder);
		write_span(&writer, link->name);
		write_byte(&writer, '\0');
		write_span(&writer, link->target);
		failed = check_send(check, IPC_MESSAGE_plan_row, &body, writer_done(&writer),
				    link->parent);
	}
	return failed;
}

static int send_row(struct check *check, size_t index)
{
	const struct snapshot_plan_row *row = &check->snapshot->plan[index];

	switch (row->kind) {
	case SNAPSHOT_PLAN_LISTENER:
		return send_listener(check, row);
	case SNAPSHOT_PLAN_ROOT:
		return send_root(check, index);
	case SNAPSHOT_PLAN_CERTIFICATE:
		return send_certificate(check, index);
	case SNAPSHOT_PLAN_INTERNAL:
		return send_internal(check, row);
	case SNAPSHOT_PLAN_CA:
		return send_data(check, IPC_DATA_ROOTS, row->id, check->opened[index].text, NULL);
	case SNAPSHOT_PLAN_STATE:
		return send_simple(check, row, IPC_PLAN_STATE, 0, -1);
	case SNAPSHOT_PLAN_HELPER:
		return send_simple(check, row, IPC_PLAN_HELPER, helper_kind(row->helper), -1);
	case SNAPSHOT_PLAN_KEY:
	case SNAPSHOT_PLAN_ORIGIN:
	case SNAPSHOT_PLAN_LOG: /* send_logs: targets without a file are told too */
		return 0;
	}
	return 0;
}

static int send_log(struct check *check, uint32_t which, const struct snapshot_log *log)
{
	struct ipc_plan_row body = { .what = IPC_PLAN_LOG,
				     .index = which,
				     .flags = (uint32_t)log->target | (uint32_t)log->format << 8,
				     .line = log->place.line };
	struct span tail =
		arena_format(&check->arena, "%.*s%c%.*s:%u:%u", SPAN_ARG(log->path), 0,
			     SPAN_ARG(log->place.file), log->place.line, log->place.column);

	return tail.ptr ? check_send(check, IPC_MESSAGE_plan_row, &body, tail, -1) : -ENOMEM;
}

static int send_logs(struct check *check)
{
	int failed = send_log(check, 0, &check->snapshot->access_log);

	return failed ? failed : send_log(check, 1, &check->snapshot->events_log);
}

static int send_result(struct check *check)
{
	struct span bundle = conf_bundle(check->tree, &check->arena);
	int failed = bundle.ptr ? send_logs(check) : -ENOMEM;

	for (size_t i = 0; !failed && i < check->snapshot->plan_count; i++)
		failed = send_row(check, i);
	if (!failed)
		failed = send_data(check, IPC_DATA_HOSTS, 0, check->hosts, NULL);
	if (!failed)
		failed = send_data(check, IPC_DATA_RESOLVER, 0, check->resolver, NULL);
	return failed ? failed : send_data(check, IPC_DATA_TEXT, 0, bundle, NULL);
}

static int send_diagnostics(struct check *check)
{
	char *text = heap_alloc(64 * CHECK_MESSAGE_MAX);
	struct writer writer = writer_of(text, text ? 64 * CHECK_MESSAGE_MAX : 0);
	struct ipc_diagnostic body = { .is_error = check->errors.error_count
							   ? IPC_DIAGNOSTIC_ERROR
							   : IPC_DIAGNOSTIC_WARNING };
	struct span rest;
	int failed = 0;

	if (!text)
		return -ENOMEM;
	if (check->tree)
		conf_errors_write(check->tree, &check->errors, &writer);
	if (check->needs_certificate)
		body.is_error = IPC_DIAGNOSTIC_USAGE;
	if (check->errors.count)
		body.line = check->errors.list[0].place.line;
	for (rest = writer_done(&writer); rest.len && !failed;
	     rest = span_skip(rest, CHECK_MESSAGE_MAX))
		failed = check_send(check, IPC_MESSAGE_diagnostic, &body,
				    span_first(rest, CHECK_MESSAGE_MAX), -1);
	heap_free(text);
	return failed;
}

static int answer(struct check *check)
{
	struct ipc_compiled body = { .errors = (uint32_t)check->errors.error_count,
				     .warnings = (uint32_t)check->errors.warning_count };
	OS_AUTO_FD fd = -1;
	int failed = send_diagnostics(check);

	if (!failed && !body.errors) {
		body.size = check->snapshot->size;
		failed = send_result(check);
		if (!failed)
			failed = seal_bytes("snapshot", arena_bytes(&check->snapshot_arena), &fd);
	}
	if (!failed)
		failed = check_send(check, IPC_MESSAGE_compiled, &body, SPAN_NONE, fd);
	ipc_channel_flush(proc_supervisor(check->self));
	return failed;
}

/* ---- The job ------------------------------------------------------------------------------------------------------ */

static int take_order(struct check *check)
{
	struct ipc_message message;
	int failed = ipc_wait(proc_supervisor(check->self), CHECK_WAIT_MS, &message);

	if (failed)
		return -EPIPE;
	if (message.number != IPC_MESSAGE_compile || message.descriptor_count != 1 ||
	    message.tail.len >= sizeof(check->path)) {
		ipc_message_done(&message);
		return -EBADMSG;
	}
	check->compile = *(const struct ipc_compile *)message.body;
	memcpy(check->path, message.tail.ptr ? message.tail.ptr : "", message.tail.len);
	check->text_fd = TAKE_FD(message.descriptors[0]);
	ipc_message_done(&message);
	return 0;
}

/* 0 also where the text is faulty: the answer says so. */
static int check_job(struct check *check)
{
	int failed = parse_text(check);

	if (failed < 0)
		return failed;
	if (!failed)
		failed = compile_text(check);
	if (failed < 0)
		return failed;
	check->needs_certificate = failed == SNAPSHOT_NEEDS_CERTIFICATE;
	if (check->snapshot && !check->errors.error_count) {
		failed = open_all(check);
		if (failed)
			return failed;
		failed = proc_sandbox(check->self, true);
		if (failed)
			return failed;
		parse_all(check);
	}
	return answer(check);
}

static int run(void *state, struct proc_self *self)
{
	struct check *check = state;
	int failed;

	check->self = self;
	arena_init(&check->arena, 256u << 20);
	conf_errors_init(&check->errors, &check->arena);
	failed = proc_sandbox(self, false);
	if (failed)
		return PROC_EXIT_SANDBOX;
	failed = take_order(check);
	if (!failed)
		failed = check_job(check);
	return failed ? PROC_EXIT_FAULT : 0;
}

const struct proc_kind proc_check = { .state_size = sizeof(struct check), .run = run };
