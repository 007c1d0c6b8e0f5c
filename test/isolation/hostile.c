/* The program, with a worker that was taken over: that of slot 0 serves like any other and, from its first commit on,
 * says to everybody whatever somebody would who runs code in it. All else is the real thing: supervisor, keyholders,
 * vault, files, dialer, log, the other workers, and the sandbox around this one.
 *
 * Beside the program lies a file `hostile` with one line: MODE COUNT. The worker sends COUNT messages in each of its
 * lives and says `hostile: sent N of MODE` on standard error; what it must never get it reports as `hostile: GOT …`. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "command/command.h"
#include "proc/proc.h"
#include "telemetry/telemetry.h"

extern const struct proc_kind proc_honest_worker, proc_honest_files;

enum { PER_TURN = 512, ODD_KINDS = 3, MESSAGE_MAX = 40000 };
/* well-formed; lies about others; out of form; connections without end. Not a worker, but `files`: with what it has to
 * tell; with a report of a worker that is gone. */
enum { FLOOD, ACCUSE, BREAK, DIAL, NEWS, STALE, MODE_COUNT };
static const char *const modes[MODE_COUNT] = {
	"flood", "accuse", "break", "dial", "news", "stale"
};

static struct {
	bool is_on, is_told;
	int mode;
	uint64_t count, sent, seed, told_ns;
	int odd[ODD_KINDS]; /* descriptors of kinds that nobody asks for */
	struct telemetry_ring *ring;
	uint64_t root, origin, life;
	const struct snapshot *snapshot;
	uint8_t handle[32];
} hostile;

static uint64_t any(void)
{
	hostile.seed ^= hostile.seed << 13;
	hostile.seed ^= hostile.seed >> 7;
	hostile.seed ^= hostile.seed << 17;
	return hostile.seed;
}

/* ---- Sending ----------------------------------------------------------------------------------------- */

struct header {
	uint32_t number, tail_len;
};

static void send_raw(struct ipc_channel *channel, const void *bytes, size_t len, int fd_count)
{
	char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd_count) {
		struct cmsghdr *header = (void *)control;

		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN((size_t)fd_count * sizeof(int));
		for (int i = 0; i < fd_count; i++)
			memcpy(CMSG_DATA(header) + (size_t)i * sizeof(int),
			       &hostile.odd[any() % ODD_KINDS], sizeof(int));
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE((size_t)fd_count * sizeof(int));
	}
	if (sendmsg(channel->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		hostile.sent++;
}

static void send_as(struct ipc_channel *channel, enum ipc_number number, const void *body,
		    struct span tail, int fd_count)
{
	static char bytes[MESSAGE_MAX];
	struct header header = { number, (uint32_t)tail.len };
	size_t size = ipc_message_size(number);

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), body, size);
	if (tail.len)
		memcpy(bytes + sizeof(header) + size, tail.ptr, tail.len);
	send_raw(channel, bytes, sizeof(header) + size + tail.len, fd_count);
}

static struct ipc_question question(void)
{
	/* Numbers that the honest part has no question for. */
	return (struct ipc_question){ 0x80000000 | (uint32_t)any(), (uint32_t)any() };
}

static struct span noise(char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)any();
	return span_of(buf, len);
}

/* ---- Well-formed, with hostile fields ------------------------------------------------------------------ */

static void to_keyholder(struct ipc_channel *channel)
{
	struct ipc_sign13 body = { .question = question(), .scheme = 0x0403 };
	char buf[48];

	memcpy(body.handle, hostile.handle, sizeof(body.handle));
	if (any() % 2)
		body.handle[any() % 32] ^= (uint8_t)any();
	send_as(channel, IPC_MESSAGE_sign13, &body, noise(buf, any() % 2 ? 32 : 48), 0);
}

static void to_files(struct ipc_channel *channel)
{
	static const char *const paths[] = {
		"/../secret.txt",
		"/a/../../secret.txt",
		"/./../secret.txt",
		"//../secret.txt",
		"/out",
		"/out/",
		"/.hidden",
		"/a/.hidden",
		"/../../../etc/passwd",
		"/fifo",
		"/a",
		"/..",
		"/proc/self/environ",
		"/a/..",
		"/\0/secret.txt",
		"secret.txt",
		"",
		"/outside/passwd",
		"/document",
	};
	struct ipc_open open = { .question = question(),
				 .root = any() % 8 ? hostile.root : any(),
				 .encodings = (uint32_t)any() };
	struct ipc_warm warm = { .question = question(), .offset = any(), .len = any() };
	const char *path = paths[any() % ARRAY_LEN(paths)];
	char buf[4300];
	size_t len = strlen(path);

	if (any() % 8 == 0) {
		send_as(channel, IPC_MESSAGE_warm, &warm, SPAN_NONE, (int)(any() % 2));
		return;
	}
	memcpy(buf, path, len);
	if (any() % 4 == 0) {
		size_t more = any() % (sizeof(buf) - len);

		noise(buf + len, more);
		len += more;
	}
	send_as(channel, IPC_MESSAGE_open, &open, span_of(buf, len), 0);
}

/* Numbers of the plan that are no origin's, and such as stand beside one. */
static uint64_t any_origin(void)
{
	const struct snapshot *snapshot = hostile.snapshot;
	const uint64_t near[] = { hostile.origin + 1,
				  hostile.origin - 1,
				  hostile.root,
				  hostile.origin ^ UINT64_C(1) << any() % 64,
				  snapshot->certificate_count ? snapshot->certificates[0].id : 0,
				  any() % 16 };

	if (any() % 64 == 0)
		return hostile.origin;
	return any() % 4 ? any() : near[any() % ARRAY_LEN(near)];
}

static void to_dialer(struct ipc_channel *channel)
{
	struct ipc_dial dial = { .question = question(),
				 .origin = any_origin(),
				 .timeout_ms = (uint32_t)any() };
	struct ipc_cancel cancel = { question() };

	if (any() % 4)
		send_as(channel, IPC_MESSAGE_dial, &dial, SPAN_NONE, 0);
	else
		send_as(channel, IPC_MESSAGE_cancel, &cancel, SPAN_NONE, 0);
}

/* The ring is shared memory: at any time anything may stand in it. */
static void to_log(void)
{
	if (!hostile.ring)
		return;
	switch (any() % 8) {
	case 0:
		__atomic_store_n(&hostile.ring->head, any(), __ATOMIC_SEQ_CST);
		break;
	case 1:
		__atomic_store_n(&hostile.ring->tail, any(), __ATOMIC_SEQ_CST);
		break;
	case 2:
		__atomic_store_n(&hostile.ring->head, hostile.ring->tail + any() % 4096 * 8,
				 __ATOMIC_SEQ_CST);
		break;
	case 3:
		__atomic_store_n(&hostile.ring->dropped, any(), __ATOMIC_SEQ_CST);
		break;
	case 4:
		(void)!telemetry_ring_write(hostile.ring, TELEMETRY_RING_EVENT,
					    SPAN("a line\nanother\033[2Jline\n"));
		break;
	default:
		noise(hostile.ring->bytes + any() % (TELEMETRY_RING_BYTES - 64), 64);
		break;
	}
	hostile.sent++;
}

/* What no change asked for: answers that nobody waits for; fewer of them a second than are allowed, however
 * late they are read. */
static void to_supervisor(struct ipc_channel *channel)
{
	enum { GAP_MS = 100 };
	struct ipc_prepared prepared = { any() % 2 ? any() % 16 : any() };
	struct ipc_committed committed = { any() % 2 ? any() % 16 : any() };
	struct ipc_refused refused = { .change = any() | 1U << 20, .line = (uint32_t)any() };
	char buf[64];

	if (os_now_ns() < hostile.told_ns + GAP_MS * OS_MS)
		return;
	hostile.told_ns = os_now_ns();
	switch (any() % 4) {
	case 0:
		send_as(channel, IPC_MESSAGE_refused, &refused, noise(buf, sizeof(buf)), 0);
		break;
	case 1:
	case 2:
		send_as(channel, IPC_MESSAGE_prepared, &prepared, SPAN_NONE, 0);
		break;
	default:
		send_as(channel, IPC_MESSAGE_committed, &committed, SPAN_NONE, 0);
		break;
	}
}

static void flood(struct proc_self *self)
{
	struct ipc_channel *keyholder = proc_link(self, IPC_KEYHOLDER, 0);
	struct ipc_channel *files = proc_link(self, IPC_FILES, 0);
	struct ipc_channel *dialer = proc_link(self, IPC_DIALER, 0);

	for (int i = 0; i < PER_TURN && hostile.sent < hostile.count; i++) {
		if (keyholder)
			to_keyholder(keyholder);
		if (files)
			to_files(files);
		if (dialer)
			to_dialer(dialer);
		to_log();
		to_supervisor(proc_supervisor(self));
	}
}

/* Connections to every origin of the plan, each for as long as it may take. */
static void dial(struct proc_self *self)
{
	struct ipc_channel *dialer = proc_link(self, IPC_DIALER, 0);

	for (int i = 0; dialer && i < PER_TURN && hostile.sent < hostile.count; i++) {
		struct ipc_dial body = {
			.question = question(),
			.origin = hostile.snapshot->origins[any() % hostile.snapshot->origin_count]
					  .id,
			.timeout_ms = UINT32_MAX
		};

		send_as(dialer, IPC_MESSAGE_dial, &body, SPAN_NONE, 0);
	}
}

/* ---- Lies, and what has no form ---------------------------------------------------------------------------- */

static void accuse(struct proc_self *self)
{
	static const uint32_t kinds[] = { IPC_VAULT,      IPC_KEYHOLDER, IPC_LOG,     IPC_WORKER,
					  IPC_SUPERVISOR, IPC_CHECK,     IPC_COMMAND, 1000 };
	const struct span why = SPAN("\033[2Jit was\nportcullis: all is well");
	struct ipc_broken_life life = { .kind = kinds[any() % ARRAY_LEN(kinds)] };
	struct ipc_channel *peer =
		life.kind < IPC_KIND_COUNT ? proc_link(self, (enum ipc_kind)life.kind, 0) : NULL;
	struct ipc_broken broken = { .kind = life.kind };

	broken.slot = life.slot = life.kind == IPC_WORKER; /* its neighbour */
	life.life = peer ? peer->peer_life : any() % 32;
	if (any() % 8)
		send_as(proc_supervisor(self), IPC_MESSAGE_broken_life, &life, why, 0);
	else
		send_as(proc_supervisor(self), IPC_MESSAGE_broken, &broken, why, 0);
}

static void break_form(struct proc_self *self)
{
	struct ipc_channel *channels[] = { proc_supervisor(self), proc_link(self, IPC_KEYHOLDER, 0),
					   proc_link(self, IPC_FILES, 0),
					   proc_link(self, IPC_DIALER, 0),
					   proc_link(self, IPC_LOG, 0) };
	struct ipc_channel *channel = channels[any() % ARRAY_LEN(channels)];
	struct header header = { (uint32_t)(any() % 100), (uint32_t)any() };
	char buf[MESSAGE_MAX];
	size_t len = any() % 2 ? any() % 128 : any() % sizeof(buf);

	if (!channel)
		return;
	noise(buf, len < 256 ? len : 256);
	if (any() % 2)
		header.tail_len %= 64;
	if (len >= sizeof(header) && any() % 8)
		memcpy(buf, &header, sizeof(header));
	send_raw(channel, buf, len ? len : 1, (int)(any() % 12));
}

/* The one option that the filter leaves: whoever closes what is accepted from these sockets would wait for its peer. */
static void spoil_listeners(void)
{
	struct linger long_wait = { .l_onoff = 1, .l_linger = 1000 };
	socklen_t len = sizeof(int);

	for (int fd = 3; fd < 256; fd++) {
		int listens = 0;

		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens)
			(void)!setsockopt(fd, SOL_SOCKET, SO_LINGER, &long_wait, sizeof(long_wait));
	}
}

/* ---- The worker ---------------------------------------------------------------------------------------------- */

static bool is_hostile(struct proc_self *self)
{
	return proc_birth(self)->slot == 0;
}

static void read_order(void)
{
	char path[512], line[128] = "", mode[32] = "";
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 16);
	unsigned long long count = 0;
	FILE *file;

	if (len <= 0)
		return;
	path[len] = '\0';
	strcpy(strrchr(path, '/') + 1, "hostile");
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file) ||
	    sscanf(line, "%31s %llu", mode, &count) != 2)
		return;
	fclose(file);
	hostile.count = count;
	for (hostile.mode = 0; hostile.mode < MODE_COUNT; hostile.mode++) {
		if (strcmp(mode, modes[hostile.mode]) == 0)
			return;
	}
	abort();
}

static int on_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
		    struct ipc_message *message)
{
	void *memory;

	if (is_hostile(self) && grant->what == IPC_GRANT_RING &&
	    os_memory_map(message->descriptors[0], sizeof(struct telemetry_ring), NULL,
			  OS_MAP_WRITE, &memory) == 0)
		hostile.ring = memory;
	return proc_honest_worker.grant(state, self, grant, message);
}

static int on_born(void *state, struct proc_self *self)
{
	int ends[2];

	(void)state;
	if (!is_hostile(self))
		return 0;
	read_order();
	os_random(&hostile.seed, sizeof(hostile.seed));
	hostile.seed |= 1;
	hostile.odd[0] = eventfd(0, 0);
	hostile.odd[1] = socketpair(AF_UNIX, SOCK_STREAM, 0, ends) ? -1 : ends[0];
	hostile.odd[2] = pipe(ends) ? -1 : ends[0];
	return hostile.odd[0] >= 0 && hostile.odd[1] >= 0 && hostile.odd[2] >= 0 ? 0 : -EMFILE;
}

static bool has_secret(struct span bytes)
{
	return span_find(bytes, SPAN("SECRET")) < bytes.len ||
	       span_find(bytes, SPAN("root:")) < bytes.len;
}

static void look_at_document(const struct ipc_message *message)
{
	char buf[4096];
	ssize_t len;

	if (has_secret(message->tail))
		os_err(SPAN("hostile: GOT a document from outside\n"));
	if (!message->descriptor_count)
		return;
	len = pread(message->descriptors[0], buf, sizeof(buf), 0);
	if (len > 0 && has_secret(span_of(buf, (size_t)len)))
		os_err(SPAN("hostile: GOT a descriptor from outside\n"));
}

static void on_message(void *state, struct proc_self *self, struct ipc_channel *channel,
		       struct ipc_message *message)
{
	if (is_hostile(self)) {
		if (message->number == IPC_MESSAGE_opened)
			look_at_document(message);
		if (message->number == IPC_MESSAGE_key)
			os_err(SPAN("hostile: GOT a key\n"));
	}
	proc_honest_worker.message(state, self, channel, message);
}

static void on_commit(void *state, struct proc_self *self, uint64_t change)
{
	const struct snapshot *snapshot;
	const struct proc_data *data;
	size_t cursor = 0;

	proc_honest_worker.commit(state, self, change);
	snapshot = proc_snapshot(self);
	if (!is_hostile(self) || !snapshot)
		return;
	if (!hostile.is_on && hostile.count)
		spoil_listeners();
	hostile.is_on = true;
	hostile.snapshot = snapshot;
	if (snapshot->root_count)
		hostile.root = snapshot->roots[0].id;
	if (snapshot->origin_count)
		hostile.origin = snapshot->origins[0].id;
	while ((data = proc_data_next(self, &cursor))) {
		if (data->what == IPC_DATA_CHAIN)
			memcpy(hostile.handle, data->spki_hash, sizeof(hostile.handle));
	}
}

static void on_turn(void *state, struct proc_self *self)
{
	char text[96];
	int len;

	proc_honest_worker.turn(state, self);
	if (!hostile.is_on || hostile.mode >= NEWS)
		return;
	if (hostile.sent < hostile.count) {
		if (hostile.mode == ACCUSE)
			accuse(self);
		else if (hostile.mode == BREAK)
			break_form(self);
		else if (hostile.mode == DIAL)
			dial(self);
		else
			flood(self);
		os_loop_wake_again(proc_loop(self));
	} else if (!hostile.is_told) {
		hostile.is_told = true;
		len = snprintf(text, sizeof(text), "hostile: sent %llu of %s\n",
			       (unsigned long long)hostile.sent, modes[hostile.mode]);
		os_err(span_of(text, (size_t)len));
	}
}

static void on_linked(void *state, struct proc_self *self, struct ipc_channel *channel)
{
	proc_honest_worker.linked(state, self, channel);
}

static void on_unlinked(void *state, struct proc_self *self, enum ipc_kind kind, uint32_t slot)
{
	proc_honest_worker.unlinked(state, self, kind, slot);
}

static int on_sandboxed(void *state, struct proc_self *self)
{
	return proc_honest_worker.sandboxed(state, self);
}

static enum proc_prepare_result on_prepare(void *state, struct proc_self *self, uint64_t change,
					   const struct snapshot *snapshot)
{
	return proc_honest_worker.prepare(state, self, change, snapshot);
}

static void on_abandon(void *state, struct proc_self *self, uint64_t change)
{
	proc_honest_worker.abandon(state, self, change);
}

static void on_second(void *state, struct proc_self *self)
{
	proc_honest_worker.second(state, self);
}

static void on_drain(void *state, struct proc_self *self, uint32_t deadline_ms)
{
	hostile.is_on = false;
	proc_honest_worker.drain(state, self, deadline_ms);
}

const struct proc_kind proc_worker = {
	.state_size = 1 << 20, /* more than the honest one's, which only its file knows */
	.grant = on_grant,
	.born = on_born,
	.sandboxed = on_sandboxed,
	.message = on_message,
	.linked = on_linked,
	.unlinked = on_unlinked,
	.prepare = on_prepare,
	.commit = on_commit,
	.abandon = on_abandon,
	.turn = on_turn,
	.second = on_second,
	.drain = on_drain,
};

/* ---- Files ---------------------------------------------------------------------------------------------------- */

static int on_files_born(void *state, struct proc_self *self)
{
	(void)state;
	(void)self;
	read_order();
	return 0;
}

static int on_files_grant(void *state, struct proc_self *self, const struct ipc_grant *grant,
			  struct ipc_message *message)
{
	return proc_honest_files.grant(state, self, grant, message);
}

static int on_files_sandboxed(void *state, struct proc_self *self)
{
	return proc_honest_files.sandboxed(state, self);
}

static void on_files_message(void *state, struct proc_self *self, struct ipc_channel *channel,
			     struct ipc_message *message)
{
	proc_honest_files.message(state, self, channel, message);
}

static enum proc_prepare_result on_files_prepare(void *state, struct proc_self *self,
						 uint64_t change, const struct snapshot *snapshot)
{
	return proc_honest_files.prepare(state, self, change, snapshot);
}

static void on_files_second(void *state, struct proc_self *self)
{
	struct ipc_root_news news = { .what = IPC_ROOT_FORBIDDEN };

	proc_honest_files.second(state, self);
	for (int i = 0; hostile.mode == NEWS && hostile.sent < hostile.count && i < PER_TURN; i++)
		send_as(proc_supervisor(self), IPC_MESSAGE_root_news, &news,
			SPAN("\033[2J\302\2332Jit was\342\200\256\nportcullis: all is well"), 0);
}

/* What it has to say of a worker's first life it says when the second one is there. */
static void on_files_linked(void *state, struct proc_self *self, struct ipc_channel *channel)
{
	struct ipc_broken_life broken = { .kind = IPC_WORKER, .slot = 1 };

	(void)state;
	if (hostile.mode != STALE || channel->peer != IPC_WORKER || channel->peer_slot != 1)
		return;
	broken.life = hostile.life;
	if (hostile.life)
		send_as(proc_supervisor(self), IPC_MESSAGE_broken_life, &broken, SPAN("it was"), 0);
	hostile.life = channel->peer_life;
}

const struct proc_kind proc_files = {
	.state_size = 1 << 16,
	.born = on_files_born,
	.grant = on_files_grant,
	.sandboxed = on_files_sandboxed,
	.message = on_files_message,
	.linked = on_files_linked,
	.prepare = on_files_prepare,
	.second = on_files_second,
};

int main(int argc, char **argv)
{
	struct span role;

	if (os_start())
		return COMMAND_FAULT;
	role = span_str(os_environment("PORTCULLIS_ROLE"));
	if (role.len)
		os_exit(proc_helper_main(role));
	return command_main(argc, argv);
}
