/* Inputs that change by themselves: certificate files, their keys, and the roots of origins. Looked at by name
 * once a minute (nothing of them is read here); when one is another file than at the last compile, the running
 * text is compiled again. Document roots are none of these: a dead file system must not block a renewal. */
#include "proc/supervisor_internal.h"

enum { INPUTS_EVERY_S = 60 };

static void add_file(uint64_t *signature, struct span path)
{
	char name[4096];
	struct writer writer = writer_of(name, sizeof(name) - 1);
	struct os_file_info info = { 0 };
	uint64_t parts[5] = { *signature };
	OS_AUTO_FD fd = -1;

	write_span(&writer, path);
	*writer.at = '\0';
	/* Symlinks are followed: certbot's live/ is nothing else. A file that is gone differs from one that was
	 * there. */
	if (writer.ok && os_open(OS_FOLDER_CURRENT, name, OS_OPEN_HANDLE, 0, &fd) == 0 && os_file_info(fd, &info) == 0) {
		parts[1] = info.inode;
		parts[2] = info.device;
		parts[3] = info.size;
		parts[4] = (uint64_t)info.mtime_ns;
	}
	*signature = hash_id(span_of(parts, sizeof(parts)));
}

static uint64_t inputs_signature(const struct plan *plan)
{
	uint64_t signature = 1;
	const struct plan_row *row;
	size_t cursor = 0;

	while ((row = plan_next(plan, IPC_PLAN_CERTIFICATE_FILE, &cursor))) {
		struct span rest = row->tail, place, part;

		if (!span_cut(&rest, '\0', &place))
			continue;
		while (span_cut(&rest, '\0', &part)) {
			if (part.len)
				add_file(&signature, part);
		}
	}
	return signature;
}

void inputs_note(struct plan *plan)
{
	plan->inputs_signature = inputs_signature(plan);
}

void inputs_look(struct supervisor *supervisor)
{
	uint64_t now_ns = os_loop_now_ns(supervisor->loop), signature;

	if (!supervisor->running || supervisor->next || now_ns < supervisor->inputs_due_ns)
		return;
	supervisor->inputs_due_ns = now_ns + INPUTS_EVERY_S * OS_SECOND;
	signature = inputs_signature(supervisor->running);
	if (signature == supervisor->running->inputs_signature)
		return;
	/* Noted before it is known to be good: half a pair is tried once, and again when its other half comes. */
	supervisor->running->inputs_signature = signature;
	lifecycle_change(supervisor->lifecycle, LIFECYCLE_COMPILE_RUNNING);
}
