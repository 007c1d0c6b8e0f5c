/* The one message table: every message that crosses between two processes of the program.
 *
 * A message is a struct of fixed-width fields and one tail of bytes. A number's layout never changes:
 * generations of different builds speak to each other and test/house/messages.txt holds sizes and
 * offsets. A new field is a new number. Numbers that are gone are never given again.
 *
 * Row: number, name (struct ipc_<name>), senders, receiver kinds, longest tail in bytes, most
 * descriptors, most a second (0: no limit; the receiver counts). */
#pragma once

#include "base/base.h"

enum ipc_kind {
	IPC_SUPERVISOR,
	IPC_WORKER,
	IPC_KEYHOLDER,
	IPC_VAULT,
	IPC_FILES,
	IPC_DIALER,
	IPC_LOG,
	IPC_CHECK,
	IPC_COMMAND,
	IPC_KIND_COUNT,
};

enum {
	IPC_TO_SUPERVISOR = 1 << IPC_SUPERVISOR,
	IPC_TO_WORKER = 1 << IPC_WORKER,
	IPC_TO_KEYHOLDER = 1 << IPC_KEYHOLDER,
	IPC_TO_VAULT = 1 << IPC_VAULT,
	IPC_TO_FILES = 1 << IPC_FILES,
	IPC_TO_DIALER = 1 << IPC_DIALER,
	IPC_TO_LOG = 1 << IPC_LOG,
	IPC_TO_CHECK = 1 << IPC_CHECK,
	IPC_TO_COMMAND = 1 << IPC_COMMAND,
	IPC_TO_CHILD = IPC_TO_WORKER | IPC_TO_KEYHOLDER | IPC_TO_VAULT | IPC_TO_FILES |
		       IPC_TO_DIALER | IPC_TO_LOG | IPC_TO_CHECK,
	/* Those that hold a snapshot and take part in a change. */
	IPC_TO_MEMBER = IPC_TO_WORKER | IPC_TO_KEYHOLDER | IPC_TO_VAULT | IPC_TO_FILES |
			IPC_TO_DIALER | IPC_TO_LOG,
	IPC_TAIL_MAX = 32 * 1024,
	IPC_DESCRIPTORS_MAX = 4,
};

/* clang-format off */
#define IPC_MESSAGES(X) \
	/* Birth. The first message on descriptor 3 of a child; `born` ends its endowment: then it \
	 * enters its sandbox and answers `ready`. */ \
	X(1,  birth,        IPC_TO_SUPERVISOR, IPC_TO_CHILD, 0, 2, 0) \
	X(2,  grant,        IPC_TO_SUPERVISOR, IPC_TO_CHILD, 4096, 2, 0) \
	X(3,  born,         IPC_TO_SUPERVISOR, IPC_TO_CHILD, 0, 0, 0) \
	X(4,  ready,        IPC_TO_CHILD, IPC_TO_SUPERVISOR, 0, 0, 10) \
	/* A channel to another process; one for the same peer replaces it and open questions are asked again. */ \
	X(5,  link,         IPC_TO_SUPERVISOR, IPC_TO_CHILD, 0, 1, 0) \
	X(6,  listener,     IPC_TO_SUPERVISOR, IPC_TO_WORKER, 0, 1, 0) \
	X(7,  adopt,        IPC_TO_SUPERVISOR, IPC_TO_WORKER, 0, 0, 0) \
	X(8,  drain,        IPC_TO_SUPERVISOR, IPC_TO_MEMBER, 0, 0, 0) \
	X(9,  broken,       IPC_TO_CHILD, IPC_TO_SUPERVISOR, 256, 0, 10) \
	X(10, listener_gone, IPC_TO_SUPERVISOR, IPC_TO_WORKER, 0, 0, 0) \
	X(11, notice,       IPC_TO_VAULT, IPC_TO_SUPERVISOR, 2048, 0, 0) \
	X(12, root_news,    IPC_TO_FILES, IPC_TO_SUPERVISOR, 4096, 0, 100) \
	/* `link` and `broken` of a process: its life is named, for its successor has the same kind and slot. */ \
	X(13, link_life,    IPC_TO_SUPERVISOR, IPC_TO_CHILD, 0, 1, 0) \
	X(14, broken_life,  IPC_TO_CHILD, IPC_TO_SUPERVISOR, 256, 0, 100) \
	X(15, unlinked,     IPC_TO_CHILD, IPC_TO_SUPERVISOR, 0, 0, 100) \
	/* Change: data sets first, then prepare to all, then commit to all or nothing. */ \
	X(20, data,         IPC_TO_SUPERVISOR | IPC_TO_CHECK, IPC_TO_SUPERVISOR | IPC_TO_MEMBER, 0, 1, 0) \
	X(21, prepare,      IPC_TO_SUPERVISOR, IPC_TO_MEMBER, 0, 1, 0) \
	X(22, prepared,     IPC_TO_MEMBER, IPC_TO_SUPERVISOR, 0, 0, 100) \
	X(23, refused,      IPC_TO_MEMBER | IPC_TO_CHECK, IPC_TO_SUPERVISOR, 4096, 0, 5000) \
	X(24, commit,       IPC_TO_SUPERVISOR, IPC_TO_MEMBER, 0, 0, 0) \
	X(25, committed,    IPC_TO_MEMBER, IPC_TO_SUPERVISOR, 0, 0, 100) \
	X(26, abandon,      IPC_TO_SUPERVISOR, IPC_TO_MEMBER, 0, 0, 0) \
	/* The check job. */ \
	X(30, compile,      IPC_TO_SUPERVISOR | IPC_TO_COMMAND, IPC_TO_CHECK, 8192, 1, 0) \
	X(31, plan_row,     IPC_TO_CHECK, IPC_TO_SUPERVISOR | IPC_TO_COMMAND, 8192, 1, 0) \
	X(32, diagnostic,   IPC_TO_CHECK, IPC_TO_SUPERVISOR | IPC_TO_COMMAND, 16384, 0, 0) \
	X(33, compiled,     IPC_TO_CHECK, IPC_TO_SUPERVISOR | IPC_TO_COMMAND, 0, 1, 0) \
	X(34, opening,      IPC_TO_CHECK, IPC_TO_SUPERVISOR | IPC_TO_COMMAND, 4096, 0, 0) \
	/* Signatures. */ \
	X(40, sign13,       IPC_TO_WORKER, IPC_TO_KEYHOLDER, 64, 0, 0) \
	X(41, sign12,       IPC_TO_WORKER, IPC_TO_KEYHOLDER, 512, 0, 0) \
	X(42, signature,    IPC_TO_KEYHOLDER, IPC_TO_WORKER, 512, 0, 0) \
	X(43, pull_key,     IPC_TO_KEYHOLDER, IPC_TO_VAULT, 0, 0, 10000) \
	X(44, key,          IPC_TO_VAULT, IPC_TO_KEYHOLDER, 4096, 0, 0) \
	X(45, tickets_spoiled, IPC_TO_SUPERVISOR, IPC_TO_VAULT, 0, 0, 0) \
	/* The vault: keys that the text names, internal certificates, commands of `ca`. */ \
	X(50, key_file,     IPC_TO_SUPERVISOR, IPC_TO_VAULT, 8192, 1, 0) \
	X(51, leaf_wanted,  IPC_TO_SUPERVISOR, IPC_TO_VAULT, 16384, 0, 0) \
	X(52, leaf,         IPC_TO_VAULT, IPC_TO_SUPERVISOR, IPC_TAIL_MAX, 0, 0) \
	X(53, ca_root,      IPC_TO_COMMAND, IPC_TO_VAULT, 0, 0, 0) \
	X(54, ca_issue,     IPC_TO_COMMAND, IPC_TO_VAULT, 16384, 0, 0) \
	X(55, ca_list,      IPC_TO_COMMAND, IPC_TO_VAULT, 0, 0, 0) \
	X(56, answer,       IPC_TO_VAULT | IPC_TO_SUPERVISOR, IPC_TO_COMMAND, IPC_TAIL_MAX, 2, 0) \
	X(57, answer_end,   IPC_TO_VAULT | IPC_TO_SUPERVISOR, IPC_TO_COMMAND, 4096, 0, 0) \
	X(58, keep,         IPC_TO_SUPERVISOR | IPC_TO_VAULT, IPC_TO_VAULT | IPC_TO_SUPERVISOR, 512, 1, 0) \
	X(59, kept_all,     IPC_TO_VAULT, IPC_TO_SUPERVISOR, 0, 0, 0) \
	/* Documents. */ \
	X(60, open,         IPC_TO_WORKER, IPC_TO_FILES, 8192, 0, 0) \
	X(61, opened,       IPC_TO_FILES, IPC_TO_WORKER, 16384 + 256, 1, 0) \
	X(62, warm,         IPC_TO_WORKER, IPC_TO_FILES, 0, 1, 0) \
	X(63, warmed,       IPC_TO_FILES, IPC_TO_WORKER, 0, 0, 0) \
	X(64, read,         IPC_TO_WORKER, IPC_TO_FILES, 8192, 0, 0) \
	X(65, bytes,        IPC_TO_FILES, IPC_TO_WORKER, 16384, 0, 0) \
	/* Connections to origins. */ \
	X(70, dial,         IPC_TO_WORKER, IPC_TO_DIALER, 0, 0, 0) \
	X(71, dialed,       IPC_TO_DIALER, IPC_TO_WORKER, 0, 1, 0) \
	X(72, dial_failed,  IPC_TO_DIALER, IPC_TO_WORKER, 256, 0, 0) \
	X(73, cancel,       IPC_TO_WORKER, IPC_TO_DIALER | IPC_TO_FILES, 0, 0, 0) \
	X(74, health,       IPC_TO_DIALER, IPC_TO_WORKER, 256, 0, 0) \
	X(100, origin_addresses, IPC_TO_DIALER, IPC_TO_WORKER, 1024, 0, 0) \
	X(101, address_refused, IPC_TO_DIALER, IPC_TO_WORKER, 64, 0, 0) \
	X(125, addresses_cut, IPC_TO_DIALER, IPC_TO_WORKER, 0, 0, 0) \
	X(75, origin_order, IPC_TO_SUPERVISOR, IPC_TO_WORKER, 0, 0, 0) \
	X(78, look,         IPC_TO_SUPERVISOR, IPC_TO_DIALER, 0, 0, 0) \
	X(79, unanswered,   IPC_TO_DIALER, IPC_TO_SUPERVISOR, 4096, 0, 100) \
	/* The log. */ \
	X(80, log_reopen,   IPC_TO_LOG, IPC_TO_SUPERVISOR, 0, 0, 10) \
	X(81, log_file,     IPC_TO_SUPERVISOR, IPC_TO_LOG, 4096, 2, 0) \
	X(82, log_event,    IPC_TO_SUPERVISOR, IPC_TO_LOG, 4096, 0, 0) \
	/* Commands at control.sock. */ \
	X(90, reload,       IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(91, stop,         IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(92, status,       IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(93, status_row,   IPC_TO_SUPERVISOR, IPC_TO_COMMAND, 1024, 1, 0) \
	X(94, connect,      IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	/* Origins: what the supervisor was ordered, what the dialer and each worker know of them. Whoever is asked \
	 * answers with rows and their end. */ \
	X(95, connect_slot, IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(96, set_order,    IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 1024, 0, 0) \
	X(97, origins,      IPC_TO_COMMAND, IPC_TO_SUPERVISOR | IPC_TO_DIALER | IPC_TO_WORKER, 0, 0, 0) \
	X(98, origin_known, IPC_TO_DIALER, IPC_TO_COMMAND, 4096, 0, 0) \
	X(99, origins_seen, IPC_TO_WORKER, IPC_TO_COMMAND, IPC_TAIL_MAX, 0, 0) \
	X(76, origin_ordered, IPC_TO_SUPERVISOR, IPC_TO_COMMAND, 1024, 0, 0) \
	X(77, origins_end,  IPC_TO_SUPERVISOR | IPC_TO_DIALER | IPC_TO_WORKER, IPC_TO_COMMAND, 0, 0, 0) \
	X(107, running_text, IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(108, apply,       IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 1, 0) \
	X(109, confirm,     IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0) \
	X(110, rollback,    IPC_TO_COMMAND, IPC_TO_SUPERVISOR, 0, 0, 0)

/* Only in a build with PORTCULLIS_TEST_CLOCK: a test moves the clocks of every process. */
#define IPC_TEST_MESSAGES(X) \
	X(200, clock_move,  IPC_TO_COMMAND | IPC_TO_SUPERVISOR, IPC_TO_SUPERVISOR | IPC_TO_CHILD, 0, 0, 0)
/* clang-format on */

/* A question: an index into the asker's table and a serial that makes a late answer recognisable. */
struct ipc_question {
	uint32_t index, serial;
};

struct ipc_birth { /* descriptors: the process's own range of shared memory (rw), the lock file (ro) */
	uint32_t kind, slot;
	uint32_t uid, gid;        /* UINT32_MAX: keep the starter's */
	uint32_t slot_count, cpu; /* cpu: UINT32_MAX for any */
	uint64_t snapshot_base;   /* the first of the 8 places of the address space */
	uint64_t nofile;
	uint32_t test_build;
	uint32_t gateway_id; /* random; the same for all processes of a service */
};

enum ipc_grant_kind {
	IPC_GRANT_KEY_FOLDER = 1, /* O_PATH; vault */
	IPC_GRANT_ROOT,   /* O_PATH of a document root, id of the root; tail: path for messages */
	IPC_GRANT_RESCUE, /* listening socket rescue.sock; vault */
	IPC_GRANT_RING,   /* a log ring and its eventfd; index is the process index of the writer */
	IPC_GRANT_TICKETS,      /* ticket keys: rw for vault, ro for workers */
	IPC_GRANT_RANGE,        /* any process's range, read-only; index: process index */
	IPC_GRANT_READ,         /* O_PATH of a folder that check may read below; tail: path */
	IPC_GRANT_STATE_FOLDER, /* O_PATH */
	/* A symlink on the way to a root: O_PATH of the folder it lies in, id of the root; tail: its name, NUL, and where
	 * it led when the root was opened. */
	IPC_GRANT_ROOT_LINK,
	IPC_GRANT_RATES, /* how often each client asked (struct firewall_table): rw for workers */
};
struct ipc_grant { /* descriptors: as the kind says */
	uint32_t what, index;
	uint64_t id;
};
struct ipc_born {
	uint32_t reserved[2];
};
struct ipc_ready {
	uint32_t enforced; /* bits of os_sandbox_report */
	uint32_t missing;
	uint32_t landlock_abi, secret_memory; /* 1: memfd_secret, 2: mlock */
};
struct ipc_link { /* one descriptor: our end */
	uint32_t kind, slot;
};
struct ipc_link_life { /* one descriptor: our end */
	uint32_t kind, slot;
	uint64_t life; /* never 0 */
};
struct ipc_listener { /* one descriptor */
	uint64_t id;  /* of the listener in the snapshot */
	uint32_t slot, reserved;
};
struct ipc_listener_gone {
	uint64_t id;
};
struct ipc_adopt {
	uint32_t slot, on; /* on 1: accept for that slot too; 0: no more */
};
struct ipc_drain {
	uint32_t deadline_ms, reserved;
};
struct ipc_broken { /* a peer of the sender, which is no process of the table, broke the rules. tail: why */
	uint32_t kind, slot;
};
struct ipc_broken_life { /* a peer of the sender broke the rules: kill it. tail: why */
	uint32_t kind, slot;
	uint64_t life; /* as `link_life` named it */
};

struct ipc_unlinked { /* the channel over which the sender asks this one has ended, by nobody's fault */
	uint32_t kind, slot;
	uint64_t life; /* as `link_life` named it */
};

struct ipc_notice { /* tail: what an operator should hear although nothing is asked of him; one or more lines */
	uint32_t reserved[2];
};

enum ipc_root_news_kind {
	IPC_ROOT_MOVED = 1, /* a symlink on the way to it leads elsewhere than when it was opened */
	IPC_ROOT_FORBIDDEN, /* `files` may not enter it. tail: place, folder, mode, uid */
};
struct ipc_root_news {
	uint64_t id;
	uint32_t what, reserved;
};

enum ipc_data_kind {
	IPC_DATA_CHAIN = 1, /* PEM, leaf first; id of the certificate */
	IPC_DATA_ROOTS,     /* PEM roots for https origins; id of the ca file, 0 for the system's */
	IPC_DATA_HOSTS,     /* text of the hosts file */
	IPC_DATA_RESOLVER,  /* text of resolv.conf */
	IPC_DATA_TEXT, /* the whole text as it was resolved (conf_bundle): check to supervisor, who keeps it */
	IPC_DATA_ROOT_SLOTS, /* struct ipc_root_slot for each root that is not in slot 0: whom a worker asks */
};
struct ipc_data { /* one descriptor: a sealed memfd */
	uint64_t change, id;
	uint32_t what, size;
	uint8_t spki_hash[32]; /* of a chain's leaf: the key's handle */
};
enum {
	IPC_FILES_MAX = 4
}; /* processes `files`: one for each file system with a root, the last for all that are left */
struct ipc_root_slot { /* of a data set, no message */
	uint64_t root;
	uint32_t slot, reserved;
};
struct ipc_prepare { /* one descriptor: the sealed snapshot; none: only data sets change */
	uint64_t change, address, size;
};
struct ipc_prepared {
	uint64_t change;
};
struct ipc_refused { /* tail: why, one or more lines */
	uint64_t change;
	uint32_t line, reserved;
};
struct ipc_commit {
	uint64_t change;
};
struct ipc_committed {
	uint64_t change;
};
struct ipc_abandon {
	uint64_t change;
};

enum ipc_compile_flag {
	IPC_COMPILE_COMMAND = 1, /* only a check: nothing is passed on */
	IPC_COMPILE_UNPRIVILEGED_PORTS = 2,
	IPC_COMPILE_TERMINAL = 4, /* proxy and files on a terminal: short log lines */
	IPC_COMPILE_BUNDLE =
		8, /* the descriptor is a text that was resolved before (IPC_DATA_TEXT) */
	IPC_COMPILE_ROOTS = 16, /* and document roots are opened all the same */
};
struct ipc_compile { /* tail: the file's path for messages; one descriptor: the text, or O_PATH folder */
	uint64_t address, size; /* where the snapshot is mapped */
	uint64_t serial;
	uint32_t flags, reserved;
};
enum ipc_plan_listener_flag {
	IPC_PLAN_IMPLIED = 1, /* no line of the text: taken is a warning */
	IPC_PLAN_PLAIN = 2,   /* no TLS */
	IPC_PLAN_SERVES = 4,  /* plain: the sites, not only redirects */
};
enum ipc_plan_kind {
	IPC_PLAN_LISTENER = 1, /* address */
	/* descriptor O_PATH; tail path; address: device and inode of the folder. index: the slot of `files`, one for each
	 * file system; the supervisor says which. */
	IPC_PLAN_ROOT,
	IPC_PLAN_CERTIFICATE_FILE, /* descriptor of the key file (none: unreadable); tail "file:line:col\0certpath\0keypath" */
	IPC_PLAN_CERTIFICATE_INTERNAL, /* tail: names, each NUL-terminated */
	IPC_PLAN_LOG,    /* index 0 access, 1 events; flags: target; tail "path\0file:line:col" */
	IPC_PLAN_STATE,  /* tail path */
	IPC_PLAN_HELPER, /* index: ipc_kind wanted */
	/* id of the root, descriptor and tail of IPC_GRANT_ROOT_LINK; address and index as a root's, of the folder it
	 * lies in */
	IPC_PLAN_ROOT_LINK,
};
struct ipc_plan_row {
	uint64_t id;
	uint32_t what, index, flags, line;
	uint16_t family, port; /* listener: 4, 6 or 0 (both families) */
	uint32_t reserved;
	uint8_t address[16];
	uint8_t spki_hash[32];
};
enum ipc_diagnostic_kind {
	IPC_DIAGNOSTIC_WARNING,
	IPC_DIAGNOSTIC_ERROR,
	IPC_DIAGNOSTIC_USAGE, /* an error that ends a start with exit code 2 */
};
struct ipc_diagnostic {          /* tail: text for the operator */
	uint32_t is_error, line; /* enum ipc_diagnostic_kind */
};
struct ipc_opening { /* tail: the path that is opened next: a file system may never answer */
	uint32_t reserved[2];
};
struct ipc_compiled { /* one descriptor: the snapshot's memfd, if it came to one */
	uint64_t size;
	uint32_t errors, warnings;
};

struct ipc_sign13 { /* tail: transcript hash, 32 or 48 bytes */
	struct ipc_question question;
	uint16_t scheme, usage; /* usage 0 server, 1 client to an origin */
	uint32_t reserved;
	uint8_t handle[32];
};
struct ipc_sign12 { /* tail: ServerECDHParams */
	struct ipc_question question;
	uint16_t scheme, usage;
	uint32_t reserved;
	uint8_t handle[32], client_random[32], server_random[32];
};
enum ipc_sign_status { IPC_SIGN_OK, IPC_SIGN_REFUSED, IPC_SIGN_NO_KEY, IPC_SIGN_LIMIT };
struct ipc_signature { /* tail: the signature */
	struct ipc_question question;
	uint32_t status, reserved;
};
struct ipc_pull_key {
	uint32_t usage, reserved;
	uint8_t handle[32];
};
struct ipc_key { /* tail: PKCS#8 DER; empty: no such key */
	uint32_t usage, reserved;
	uint8_t handle[32];
};

/* change 0, here and in leaf_wanted: of the running plan, for a new life of the vault. What is wrong then is a
 * notice; with a change it is `refused`, and `prepare` is refused too. */
struct ipc_key_file { /* one descriptor: the key file, unread; tail: place, certificate, key path, each NUL-terminated */
	uint64_t change, id;
	uint32_t line, reserved;
	uint8_t spki_hash[32];
};
struct ipc_leaf_wanted { /* tail: names, each NUL-terminated */
	uint64_t change, id;
};
struct ipc_leaf { /* tail: chain PEM, leaf then intermediate; change 0: renewed by itself */
	uint64_t change, id;
	uint8_t spki_hash[32];
};
/* A worker died by a crash signal, or was ended since it broke the rules of a channel: whoever made it do so may have
 * read the ticket keys. */
struct ipc_tickets_spoiled {
	uint32_t slot, signal;
};
struct ipc_ca_root {
	uint32_t create, reserved;
};
struct ipc_ca_issue { /* tail: SPKI length (be16), SPKI, then names, each NUL-terminated */
	uint32_t usage, lifetime_s; /* usage bits: 1 server, 2 client */
};
struct ipc_ca_list {
	uint32_t reserved[2];
};
struct ipc_answer { /* tail: text; descriptors: `connect` gives a channel, `ca_list` a sealed memory file */
	uint32_t what, reserved;
};
struct ipc_answer_end { /* tail: message for the operator, may be empty */
	uint32_t exit_code, reserved;
};
/* Copies of the supervisor's descriptors outlive it in the vault.
 * While it lives: supervisor → vault, `keep` for each descriptor; the same {what, slot, tail} again replaces,
 * IPC_KEEP_FORGET (what it names in `slot` and tail: a listener) lets go. A new life of the vault is told all
 * of them once more. When its supervisor channel closes, the vault accepts on rescue.sock (IPC_GRANT_RESCUE)
 * a peer of its starter's uid (SO_PEERCRED) and sends, as vault → supervisor, one `keep` for each and then
 * `kept_all`; the new supervisor takes what its plan has and closes the rest. From then on the old vault
 * writes nothing, closes its copies and ends when its last link is closed. */
enum ipc_keep_kind {
	IPC_KEEP_LISTENER = 1,
	IPC_KEEP_RANGE,
	IPC_KEEP_TICKETS,
	IPC_KEEP_FORGET,
	IPC_KEEP_RATES
};
struct ipc_keep { /* one descriptor (none to forget); tail: a canonical name, the key it is kept under */
	uint32_t what, slot;
	uint64_t id;
};
struct ipc_kept_all {
	uint32_t count, reserved;
};

struct ipc_open { /* tail: path below the root, normalised, starts with '/' */
	struct ipc_question question;
	uint64_t root;
	uint32_t encodings, reserved;
};
enum ipc_open_status {
	IPC_OPEN_DOCUMENT,
	IPC_OPEN_FOLDER_WITHOUT_SLASH,
	IPC_OPEN_NOT_FOUND,
	IPC_OPEN_FORBIDDEN,
	IPC_OPEN_FAILED, /* our side: descriptors, a dead file system, an unknown root */
	/* A document whose bytes have to be asked for (`read`): a descriptor of its file system could make a worker wait. */
	IPC_OPEN_DISTANT,
};
struct ipc_opened { /* tail: name_len bytes of the document's name (for its type), then, up to 16 KiB, its bytes; else one descriptor */
	struct ipc_question question;
	uint64_t size, inode, device;
	int64_t mtime_ns;
	uint32_t status, name_len;
};
struct ipc_warm { /* one descriptor: the document */
	struct ipc_question question;
	uint64_t offset, len;
};
struct ipc_warmed {
	struct ipc_question question;
	uint32_t status, reserved; /* 0, or errno */
};
/* Of a document that is IPC_OPEN_DISTANT, as it was opened. tail: its path, as in `open` */
struct ipc_read {
	struct ipc_question question;
	uint64_t root, offset, size, inode, device;
	int64_t mtime_ns;
};
struct ipc_bytes { /* tail: up to 16 KiB; none: it is not that document any more, or status says why */
	struct ipc_question question;
	uint32_t status, reserved; /* 0, or errno */
};

struct ipc_dial {
	struct ipc_question question;
	uint64_t origin;
	uint32_t timeout_ms, reserved;
};
struct ipc_dialed { /* one descriptor: a connected socket, non-blocking */
	struct ipc_question question;
	uint16_t family, port;
	uint32_t connect_us;
	uint8_t address[16];
};
enum ipc_dial_status {
	IPC_DIAL_REFUSED = 1,
	IPC_DIAL_UNREACHABLE,
	IPC_DIAL_NO_ADDRESS, /* no DNS answer */
	IPC_DIAL_TIMEOUT,
	IPC_DIAL_FORBIDDEN,
	IPC_DIAL_FAILED,    /* our side */
	IPC_DIAL_QUESTIONS, /* limit `dns-questions` */
};
struct ipc_dial_failed { /* tail: detail for the log */
	struct ipc_question question;
	uint32_t status, error_number;
};
struct ipc_cancel {
	struct ipc_question question;
};
/* What the checks of an origin say: told whenever one of them ended, and to a new channel at once. tail: why it is down */
struct ipc_health {
	uint64_t origin;
	uint32_t is_down, reserved;
};
/* An origin's name has these addresses alone: connections to others are not used again. tail: struct
 * ipc_origin_address, as many as there are */
struct ipc_origin_addresses {
	uint64_t origin;
	uint32_t count, reserved;
};
/* DNS named one that the origin's line does not allow. tail: the address as text */
struct ipc_address_refused {
	uint64_t origin;
};
/* Its name has more addresses than are used: limit `dns-addresses` */
struct ipc_addresses_cut {
	uint64_t origin;
};
struct ipc_origin_address { /* of a tail, no message */
	uint16_t family, reserved;
	uint8_t address[16];
};
/* The gateway serves (again, after a reload): do the origins that were not looked at before answer? */
struct ipc_look {
	uint32_t reserved[2];
};
/* One that does not; tail: the origin as it is written, why, and its place in the text, each NUL-terminated. With
 * origin 0: the last of a look, `more` others were not told of. */
struct ipc_unanswered {
	uint64_t origin;
	uint32_t status, more; /* enum ipc_dial_status */
};

struct ipc_log_reopen {
	uint32_t which, reserved; /* 0 access, 1 events */
};
struct ipc_log_file { /* descriptors: the file (append), its folder O_PATH; tail: the name in that folder */
	uint32_t which, target, format, reserved;
};
struct ipc_log_event { /* tail: one finished line */
	uint32_t reserved[2];
};

struct ipc_reload {
	uint32_t reserved[2];
};
struct ipc_stop {
	uint32_t now, reserved;
};
struct ipc_status {
	uint32_t reserved[2];
};
enum ipc_process_state {
	IPC_STATE_STARTING,
	IPC_STATE_RUNNING,
	IPC_STATE_DRAINING,
	IPC_STATE_BACK_OFF
};
struct ipc_status_row { /* descriptor: the process's range, read-only; tail: a remark */
	uint32_t kind, slot, pid, state;
	uint32_t enforced, missing, landlock_abi, secret_memory;
	uint64_t restarts, snapshot_serial;
	int64_t started_wall_ns;
	uint64_t rss_bytes, nofile;
};
struct ipc_connect {
	uint32_t kind, reserved; /* IPC_VAULT, IPC_DIALER */
};
struct ipc_connect_slot {
	uint32_t kind, slot; /* IPC_WORKER */
};
enum ipc_order { /* as enum balance_order */
		 IPC_ORDER_UP,
		 IPC_ORDER_DRAIN,
		 IPC_ORDER_DOWN,
		 IPC_ORDER_COUNT,
};
/* tail: the origin as it is written, for whoever asks later */
struct ipc_set_order {
	uint64_t origin;
	uint32_t order, reserved; /* enum ipc_order */
};
struct ipc_origin_order { /* also for origins that no configuration names now */
	uint64_t origin;
	uint32_t order, reserved;
};
struct ipc_origins {
	uint32_t reserved[2];
};
struct ipc_origin_ordered { /* tail: the origin as it is written */
	uint64_t origin;
	int64_t since_wall_ns;
	uint32_t order, reserved;
};
enum ipc_origin_verdict { IPC_ORIGIN_UNCHECKED, IPC_ORIGIN_UP, IPC_ORIGIN_DOWN };
/* One member of an upstream. tail: the upstream's name (empty: a line of its own), its place in the text, the origin
 * as it is written, why it is down; each NUL-terminated */
struct ipc_origin_known {
	uint64_t origin, upstream;
	uint32_t verdict, weight, is_backup, max_connections;
	uint64_t since_ms; /* that it is so; 0: nobody knows */
	uint64_t
		next_ms; /* until the next check; UINT64_MAX: one is under way, or there are none */
	uint32_t is_checked, reserved;
};
/* tail: struct ipc_origin_seen, as many as there are */
struct ipc_origins_seen {
	uint32_t count, reserved;
};
struct ipc_origin_seen { /* of a tail, no message: what one worker knows of one origin */
	uint64_t origin;
	uint32_t active, open, idle, waiting;
	uint64_t requests, failures;
	uint64_t ejected_ms; /* for how long yet; 0: it is not */
	uint32_t order, is_down;
};
struct ipc_origins_end {
	uint32_t reserved[2];
};
/* Answered by an `answer` with one descriptor: the text as it was resolved (IPC_DATA_TEXT). */
struct ipc_running_text {
	uint32_t reserved[2];
};
struct ipc_apply { /* one descriptor: a sealed memory file with the text that shall become the service's file */
	uint32_t confirm_ms, reserved; /* 0: it needs no confirmation */
};
struct ipc_confirm {
	uint32_t reserved[2];
};
struct ipc_rollback {
	uint32_t steps, confirm_ms; /* 1: to the text before this one */
};
struct ipc_clock_move {
	int64_t monotonic_ns, wall_ns;
};

enum ipc_number {
#define X(number, name, senders, receivers, tail, descriptors, rate) IPC_MESSAGE_##name = number,
	IPC_MESSAGES(X)
#ifdef PORTCULLIS_TEST_CLOCK
		IPC_TEST_MESSAGES(X)
#endif
#undef X
};
