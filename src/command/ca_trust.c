/* `portcullis ca trust`: the root into the system's store (as root) and the invoking user's NSS store, which
 * Chromium reads. Both by the tools that own them. */
#include "command/ca_internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "crypto/crypto.h"

enum { PROGRAM_MS = 120 * 1000, NAME_SIZE = 64, ARGUMENTS_MAX = 24 };

struct trust {
	struct arena *arena;
	struct span state, pem;
	char file[NAME_SIZE],
		nickname[NAME_SIZE]; /* with the fingerprint's beginning: several CAs live side by side */
	struct ca_user user;
	unsigned done;
};

/* ---- Programs ------------------------------------------------------------------------------------------ */

static bool is_there(const char *path)
{
	struct os_file_info info;

	return os_file_info_at(OS_FOLDER_CURRENT, path, &info) == 0;
}

static const char *find_program(const char *const *paths)
{
	while (*paths && !is_there(*paths))
		paths++;
	return *paths;
}

/* With a clean environment, quiet but for its complaints. Its exit code, or -errno. input_fd -1: none. */
static int run_program(struct trust *trust, const char *const *arguments, int input_fd)
{
	struct span home = arena_format(trust->arena, "HOME=%.*s", SPAN_ARG(trust->user.home));
	const char *environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", home.ptr, NULL
	};
	OS_AUTO_FD nothing = -1;
	struct os_pass pass[2];
	struct os_process_config config = {
		.program_fd = -1,
		.path = arguments[0],
		.arguments = arguments,
		.environment = environment,
		.pass = pass,
		.pass_count = ARRAY_LEN(pass),
	};
	struct os_process_end end = { .exit_code = -EIO };
	struct os_process process;
	int err = os_open(OS_FOLDER_CURRENT, "/dev/null", OS_OPEN_READ_WRITE, 0, &nothing);

	pass[0] = (struct os_pass){ .fd = input_fd >= 0 ? input_fd : nothing, .number = 0 };
	pass[1] = (struct os_pass){ .fd = nothing, .number = 1 };
	if (!err)
		err = os_process_start(&config, &process);
	if (err)
		return err;
	if (os_wait(process.fd, OS_READABLE, PROGRAM_MS) < 0)
		os_process_signal(process.fd, SIGKILL);
	(void)!os_wait(process.fd, OS_READABLE, -1);
	err = os_process_wait(process.fd, &end);
	os_close(process.fd);
	return err ? err : end.signal ? -EINTR : end.exit_code;
}

/* ---- The system's store ---------------------------------------------------------------------------------- */

static const struct system_store {
	const char *folder, *program;
} system_stores[] = {
	{ "/usr/local/share/ca-certificates",
	  "/usr/sbin/update-ca-certificates" },                             /* Debian and its kin */
	{ "/etc/pki/ca-trust/source/anchors", "/usr/bin/update-ca-trust" }, /* Fedora and its kin */
};

static int write_anchor(const struct trust *trust, const char *folder)
{
	OS_AUTO_FD fd = -1;
	int err = os_folder_make(OS_FOLDER_CURRENT, folder, 0755);

	if (!err)
		err = os_open(OS_FOLDER_CURRENT, folder, OS_OPEN_FOLDER, 0, &fd);
	return err ? err : os_file_replace(fd, trust->file, trust->pem, 0644);
}

static void trust_system(struct trust *trust)
{
	const struct system_store *store = NULL;
	const char *arguments[2] = { NULL };
	int err;

	if (os_uid() != 0) {
		/* Without the folder root would speak of its own CA. */
		command_print("system store: left alone, it is root's: sudo env "
			      "PORTCULLIS_STATE=%.*s portcullis ca trust\n",
			      SPAN_ARG(trust->state));
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(system_stores) && !store; i++) {
		if (is_there(system_stores[i].program))
			store = &system_stores[i];
	}
	if (!store) {
		command_complain("system store: there is none; on Debian it comes with: apt-get "
				 "install ca-certificates\n");
		return;
	}
	err = write_anchor(trust, store->folder);
	arguments[0] = store->program;
	if (err) {
		command_complain("system store: %s/%s: %s\n", store->folder, trust->file,
				 strerror(-err));
	} else if (run_program(trust, arguments, -1) != 0) {
		command_complain("system store: %s failed\n", store->program);
	} else {
		command_print("system store: trusted (%s/%s)\n", store->folder, trust->file);
		trust->done++;
	}
}

/* ---- The user's store -------------------------------------------------------------------------------------- */

/* As the user, where root acts for one: nothing in his home is then written with root's rights. */
static int run_as_user(struct trust *trust, const char *const *arguments, int input_fd)
{
	static const char *const runners[] = { "/usr/sbin/runuser", "/sbin/runuser", NULL };
	const char *all[ARGUMENTS_MAX] = { find_program(runners), "-u", trust->user.name, "--" };
	size_t count = 4;

	if (!trust->user.name)
		return run_program(trust, arguments, input_fd);
	if (!all[0])
		return -ENOENT;
	while (*arguments && count < ARGUMENTS_MAX - 1)
		all[count++] = *arguments++;
	all[count] = NULL;
	return run_program(trust, all, input_fd);
}

static int make_database(struct trust *trust, const char *certutil, const char *folder,
			 const char *database)
{
	const char *make_folder[] = { "/bin/mkdir", "-p", "-m", "700", folder, NULL };
	const char *make[] = { certutil, "-N", "-d", database, "--empty-password", NULL };
	struct span file = arena_format(trust->arena, "%s/cert9.db", folder);
	int code;

	if (!file.ptr)
		return -ENOMEM;
	if (is_there(file.ptr))
		return 0;
	code = run_as_user(trust, make_folder, -1);
	return code ? code : run_as_user(trust, make, -1);
}

static int seal_pem(const struct trust *trust, int *ret_fd)
{
	int err = os_memory_new("root", trust->pem.len, ret_fd);
	ssize_t written = err ? err : os_pwrite(*ret_fd, trust->pem.ptr, trust->pem.len, 0);

	return written == (ssize_t)trust->pem.len ? 0 : -EIO;
}

static void trust_user(struct trust *trust)
{
	static const char *const places[] = { "/usr/bin/certutil", "/usr/local/bin/certutil",
					      "/bin/certutil", NULL };
	const char *certutil = find_program(places);
	struct span folder =
		arena_format(trust->arena, "%.*s/.pki/nssdb", SPAN_ARG(trust->user.home));
	struct span database = arena_format(trust->arena, "sql:%.*s", SPAN_ARG(folder));
	const char *add[] = { certutil,        "-A", "-d",  database.ptr, "-n",
			      trust->nickname, "-t", "C,,", "-a",         NULL };
	OS_AUTO_FD pem = -1;
	int code;

	if (!trust->user.home.len || !folder.ptr || !database.ptr) {
		command_complain("browsers' store: there is no home folder (HOME)\n");
		return;
	}
	if (!certutil) {
		command_complain("browsers' store: certutil is missing; on Debian: apt-get install "
				 "libnss3-tools\n");
		return;
	}
	code = make_database(trust, certutil, folder.ptr, database.ptr);
	if (!code)
		code = seal_pem(trust, &pem);
	if (!code)
		code = run_as_user(trust, add, pem);
	if (code) {
		command_complain("browsers' store: %.*s: certutil failed\n", SPAN_ARG(folder));
		return;
	}
	command_print("browsers' store: trusted (%.*s); a running browser must be started again\n",
		      SPAN_ARG(folder));
	trust->done++;
}

/* ---- For `ca` ------------------------------------------------------------------------------------------------ */

int ca_user_find(struct arena *arena, struct ca_user *ret_user)
{
	const char *before = os_environment("SUDO_USER"), *home = os_environment("HOME");
	struct ca_user user = { 0 };
	uint32_t uid, gid;

	if (os_uid() == 0 && before && os_user_find(before, &uid, &gid) == 0 && uid != 0) {
		user.name = before;
		if (os_user_home(uid, arena, &user.home))
			return -ENOENT;
	} else if (home && *home) {
		user.home = span_str(home);
	} else if (os_user_home(os_uid(), arena, &user.home)) {
		user.home = SPAN_NONE;
	}
	*ret_user = user;
	return 0;
}

static int name_root(struct trust *trust)
{
	uint8_t digest[CRYPTO_SHA256_SIZE];
	struct crypto_pem_block block;
	struct span rest = trust->pem;
	char *buf = arena_alloc(trust->arena, rest.len + 1, 1), hex[9] = "";
	struct writer der = writer_of(buf, buf ? rest.len : 0),
		      out = writer_of(hex, sizeof(hex) - 1);

	if (!buf || crypto_pem_next(&rest, &block, &der))
		return -EBADMSG;
	crypto_sha256(writer_done(&der), digest);
	write_hex(&out, span_of(digest, 4));
	snprintf(trust->file, sizeof(trust->file), "portcullis-%s.crt", hex);
	snprintf(trust->nickname, sizeof(trust->nickname), "Portcullis local CA %s", hex);
	return 0;
}

int ca_trust(struct arena *arena, struct span state, struct span root_pem)
{
	struct trust trust = { .arena = arena, .state = state, .pem = root_pem };

	if (name_root(&trust) || ca_user_find(arena, &trust.user)) {
		command_complain("portcullis: the root certificate could not be passed on\n");
		return COMMAND_FAULT;
	}
	trust_system(&trust);
	trust_user(&trust);
	if (trust.done)
		command_print("Firefox has a store of its own: import the output of `portcullis ca "
			      "root` there\n");
	return trust.done ? COMMAND_DONE : COMMAND_FAULT;
}
