/* Processes of the table against a peer that was taken over: whatever comes, no answer is outside the rules. That
 * nobody dies of it in the running program, the supervisor too, is test/e2e/test_isolation.py's. */
#include "child.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files/files.h"
#include "keys/keys.h"
#include "telemetry/telemetry.h"

enum { QUESTIONS = 64, SIGN_ROUNDS = 400, OPEN_ROUNDS = 1500, UNREAD = 3000 };

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void noise(char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)any();
}

static unsigned rounds(unsigned count)
{
	return getenv("PORTCULLIS_SOAK") ? count * 200 : count;
}

/* What the child told its supervisor: that it is broken, and of whom. How often. */
static unsigned count_broken(struct child *child, enum ipc_kind kind)
{
	struct ipc_message message;
	unsigned count = 0;

	while (ipc_wait(&child->supervisor, 0, &message) == 0) {
		assert_int_equal(message.number, IPC_MESSAGE_broken_life);
		assert_int_equal(((const struct ipc_broken_life *)message.body)->kind, kind);
		assert_int_equal(((const struct ipc_broken_life *)message.body)->life, CHILD_LIFE);
		count++;
		ipc_message_done(&message);
	}
	return count;
}

/* ---- Keyholder: no signature outside the rules --------------------------------------------------------- */

struct request {
	bool is_13, is_planned;
	uint16_t scheme, usage;
	uint8_t randoms[64];
	char tail[512];
	size_t tail_len;
};

struct signer {
	struct child child;
	struct ipc_channel worker, vault;
	struct crypto_key *key;
	uint8_t hash[32];
	char spki[1024];
	struct writer spki_out;
	struct request requests[QUESTIONS];
	unsigned signed_count, refused, ended;
};

static const char params_x25519[] = "\x03\x00\x1d\x20";

static void make_request(struct request *request)
{
	static const uint16_t schemes[] = { CRYPTO_SCHEME_ECDSA_P256_SHA256,
					    CRYPTO_SCHEME_ECDSA_P256_SHA256,
					    CRYPTO_SCHEME_ECDSA_P256_SHA256,
					    CRYPTO_SCHEME_ECDSA_P384_SHA384,
					    CRYPTO_SCHEME_RSA_PSS_SHA256 };

	memset(request, 0, sizeof(*request));
	request->is_13 = any() % 2;
	request->scheme = schemes[any() % ARRAY_LEN(schemes)];
	request->is_planned = any() % 8;
	noise((char *)request->randoms, sizeof(request->randoms));
	noise(request->tail, sizeof(request->tail));
	request->tail_len = request->is_13 ? (any() % 4 ? 32 : 48) : 36;
	if (!request->is_13)
		memcpy(request->tail, params_x25519, 4);
	/* A few that no honest worker sends: the last of their channel. */
	if (any() % 256 == 0)
		request->tail_len = any() % (request->is_13 ? 65 : 513);
	if (any() % 256 == 0)
		request->scheme = (uint16_t)any();
	if (any() % 256 == 0)
		request->usage = (uint16_t)any();
	if (any() % 256 == 0)
		request->tail[any() % 4] ^= 1;
}

static void send_request(struct signer *s, uint32_t index)
{
	struct request *request = &s->requests[index];
	struct ipc_sign13 thirteen = { .question = { index, 7 },
				       .scheme = request->scheme,
				       .usage = request->usage };
	struct ipc_sign12 twelve = { .question = { index, 7 },
				     .scheme = request->scheme,
				     .usage = request->usage };

	memcpy(thirteen.handle, s->hash, 32);
	thirteen.handle[5] ^= !request->is_planned;
	memcpy(twelve.handle, thirteen.handle, 32);
	memcpy(twelve.client_random, request->randoms, 32);
	memcpy(twelve.server_random, request->randoms + 32, 32);
	(void)!ipc_send(&s->worker, request->is_13 ? IPC_MESSAGE_sign13 : IPC_MESSAGE_sign12,
			request->is_13 ? (const void *)&thirteen : (const void *)&twelve,
			span_of(request->tail, request->tail_len), NULL, 0);
}

/* The one thing that may be signed for this request, built here from the RFCs. */
static bool is_within_rules(struct signer *s, const struct request *request, struct span signature)
{
	char text[256];
	struct writer out = writer_of(text, sizeof(text));

	assert_true(request->is_planned);
	assert_int_equal(request->usage, 0);
	if (request->is_13) {
		assert_true(request->tail_len == 32 || request->tail_len == 48);
		assert_int_equal(request->scheme, CRYPTO_SCHEME_ECDSA_P256_SHA256);
		for (int i = 0; i < 64; i++)
			write_byte(&out, ' ');
		write_str(&out, "TLS 1.3, server CertificateVerify");
		write_byte(&out, '\0');
	} else {
		assert_int_equal(request->tail_len, 36);
		assert_memory_equal(request->tail, params_x25519, 4);
		write_span(&out, span_of(request->randoms, sizeof(request->randoms)));
	}
	write_span(&out, span_of(request->tail, request->tail_len));
	assert_true(out.ok);
	return crypto_spki_verify(writer_done(&s->spki_out), request->scheme, writer_done(&out),
				  signature);
}

static void take_answers(struct signer *s, unsigned expected)
{
	struct ipc_message message;
	int outcome = 0;

	while (expected-- && (outcome = ipc_wait(&s->worker, WAIT_MS, &message)) == 0) {
		const struct ipc_signature *body = message.body;

		assert_int_equal(message.number, IPC_MESSAGE_signature);
		assert_true(body->question.index < QUESTIONS);
		assert_int_equal(message.tail.len != 0, body->status == IPC_SIGN_OK);
		if (body->status == IPC_SIGN_OK)
			assert_true(is_within_rules(s, &s->requests[body->question.index],
						    message.tail));
		s->signed_count += body->status == IPC_SIGN_OK;
		s->refused += body->status != IPC_SIGN_OK;
		ipc_message_done(&message);
	}
	if (outcome == 0)
		return;
	assert_int_equal(outcome, IPC_CLOSED);
	s->ended++;
	ipc_channel_close(&s->worker);
	child_link(&s->child, IPC_WORKER, 0, &s->worker);
}

static void start_signer(struct signer *s)
{
	struct ipc_key body = { .usage = KEYS_USAGE_SERVER };
	struct ipc_message message;
	char der[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(der, sizeof(der));

	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &s->key), 0);
	assert_int_equal(crypto_key_spki_hash(s->key, s->hash), 0);
	s->spki_out = writer_of(s->spki, sizeof(s->spki));
	assert_int_equal(crypto_key_write_spki(s->key, &s->spki_out), 0);
	assert_int_equal(crypto_key_write_der(s->key, &out), 0);
	child_begin(&s->child, IPC_KEYHOLDER);
	child_born(&s->child);
	child_link(&s->child, IPC_WORKER, 0, &s->worker);
	child_link(&s->child, IPC_VAULT, 0, &s->vault);
	child_data(&s->child, 1, s->hash);
	child_commit(&s->child);
	s->requests[0] = (struct request){
		.is_13 = true, .is_planned = true, .scheme = 0x0403, .tail_len = 32
	};
	send_request(s, 0);
	ipc_channel_flush(&s->worker);
	expect(&s->vault, IPC_MESSAGE_pull_key, &message);
	memcpy(body.handle, ((const struct ipc_pull_key *)message.body)->handle, 32);
	ipc_message_done(&message);
	assert_int_equal(ipc_send(&s->vault, IPC_MESSAGE_key, &body, writer_done(&out), NULL, 0),
			 0);
	ipc_channel_flush(&s->vault);
	take_answers(s, 1);
	assert_int_equal(s->signed_count, 1);
}

static void test_signatures_are_within_the_rules(void **state)
{
	static struct signer s;
	time_t started = time(NULL);

	(void)state;
	start_signer(&s);
	for (unsigned i = 0; i < rounds(SIGN_ROUNDS); i++) {
		for (uint32_t k = 0; k < QUESTIONS; k++) {
			make_request(&s.requests[k]);
			send_request(&s, k);
		}
		ipc_channel_flush(&s.worker);
		take_answers(&s, QUESTIONS);
	}
	/* Each kind of answer came, and each end of a channel was told to the supervisor. */
	assert_true(s.signed_count > SIGN_ROUNDS && s.refused > SIGN_ROUNDS && s.ended > 10);
	assert_true(s.signed_count / 20000 <= (unsigned)(time(NULL) - started) + 1);
	os_sleep_ms(100);
	assert_int_equal(count_broken(&s.child, IPC_WORKER), s.ended);
	/* The vault was asked for the one key only. */
	expect_nothing(&s.vault);
	ipc_channel_close(&s.worker);
	ipc_channel_close(&s.vault);
	child_end(&s.child);
	crypto_key_free(s.key);
}

/* ---- Files: no document from outside ------------------------------------------------------------------------ */

struct library {
	struct child child;
	struct ipc_channel worker, other;
	char path[32];
	int folder;
	uint64_t inodes[3];
	int odd[4];
	unsigned documents, absent;
};

static void put(struct library *s, const char *name, size_t len)
{
	int fd = openat(s->folder, name, O_CREAT | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

static uint64_t inode_of(struct library *s, const char *name)
{
	struct stat info;

	assert_int_equal(fstatat(s->folder, name, &info, 0), 0);
	return info.st_ino;
}

static void start_library(struct library *s)
{
	struct ipc_grant grant = { .what = IPC_GRANT_ROOT, .id = 5 };
	int root, ends[2];

	strcpy(s->path, "/tmp/portcullis-test-XXXXXX");
	assert_non_null(mkdtemp(s->path));
	assert_int_equal(chmod(s->path, 0755), 0);
	s->folder = open(s->path, O_DIRECTORY);
	assert_int_equal(mkdirat(s->folder, "root", 0755), 0);
	assert_int_equal(mkdirat(s->folder, "root/a", 0755), 0);
	put(s, "outside", 5);
	put(s, "root/document", 100);
	put(s, "root/big", 100000);
	put(s, "root/a/index.html", 10);
	put(s, "root/.hidden", 10);
	assert_int_equal(symlinkat("../outside", s->folder, "root/out"), 0);
	assert_int_equal(symlinkat("/etc", s->folder, "root/etc"), 0);
	assert_int_equal(mkfifoat(s->folder, "root/fifo", 0644), 0);
	s->inodes[0] = inode_of(s, "root/document");
	s->inodes[1] = inode_of(s, "root/big");
	s->inodes[2] = inode_of(s, "root/a/index.html");
	root = openat(s->folder, "root", O_PATH | O_DIRECTORY);
	child_begin(&s->child, IPC_FILES);
	assert_int_equal(
		ipc_send(&s->child.supervisor, IPC_MESSAGE_grant, &grant, SPAN("root"), &root, 1),
		0);
	close(root);
	child_born(&s->child);
	child_link(&s->child, IPC_WORKER, 0, &s->worker);
	child_link(&s->child, IPC_WORKER, 1, &s->other);
	assert_int_equal(pipe(ends), 0);
	s->odd[0] = ends[0];
	s->odd[1] = eventfd(0, 0);
	s->odd[2] = open("/dev/zero", O_RDONLY);
	s->odd[3] = memfd_create("odd", 0);
}

static void end_library(struct library *s)
{
	static const char *const names[] = { "root/document", "root/big", "root/a/index.html",
					     "root/.hidden",  "root/out", "root/etc",
					     "root/fifo",     "outside" };

	ipc_channel_close(&s->worker);
	ipc_channel_close(&s->other);
	child_end(&s->child);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlinkat(s->folder, names[i], 0);
	unlinkat(s->folder, "root/a", AT_REMOVEDIR);
	unlinkat(s->folder, "root", AT_REMOVEDIR);
	close(s->folder);
	assert_int_equal(rmdir(s->path), 0);
	for (size_t i = 0; i < ARRAY_LEN(s->odd); i++)
		close(s->odd[i]);
}

static void send_open(struct ipc_channel *channel, uint32_t index, uint64_t root, struct span path)
{
	struct ipc_open open = { .question = { index, 1 }, .root = root };

	(void)!ipc_send(channel, IPC_MESSAGE_open, &open, path, NULL, 0);
}

static void send_hostile_open(struct library *s, uint32_t index)
{
	static const char *const paths[] = {
		"/document",   "/big",
		"/a/",         "/a",
		"/../outside", "/a/../../outside",
		"/out",        "/etc/passwd",
		"/.hidden",    "/a/../.hidden",
		"/fifo",       "/./document",
		"//big",       "",
		"/",           "document",
		"/a/..",       "/document/",
	};
	const char *path = paths[any() % ARRAY_LEN(paths)];
	struct ipc_warm warm = { .question = { index, 1 }, .offset = any(), .len = any() };
	size_t len = strlen(path);
	char buf[8192];

	if (any() % 8 == 0) {
		(void)!ipc_send(&s->worker, IPC_MESSAGE_warm, &warm, SPAN_NONE, &s->odd[any() % 4],
				(int)(any() % 2));
		return;
	}
	memcpy(buf, path, len);
	if (any() % 4 == 0) {
		size_t more = any() % 3 ? any() % 8 : any() % (sizeof(buf) - len);

		noise(buf + len, more);
		len += more;
	}
	send_open(&s->worker, index, any() % 8 ? 5 : any(), span_of(buf, len));
}

static void take_document(struct library *s, const struct ipc_message *message)
{
	const struct ipc_opened *body = message->body;
	struct stat info;

	if (body->status != IPC_OPEN_DOCUMENT) {
		s->absent++;
		assert_int_equal(message->descriptor_count, 0);
		return;
	}
	s->documents++;
	assert_true(body->inode == s->inodes[0] || body->inode == s->inodes[1] ||
		    body->inode == s->inodes[2]);
	if (!message->descriptor_count)
		return;
	assert_int_equal(fstat(message->descriptors[0], &info), 0);
	assert_true(info.st_ino == body->inode);
	assert_int_equal(fcntl(message->descriptors[0], F_GETFL) & O_ACCMODE, O_RDONLY);
}

static void test_documents_are_within_the_root(void **state)
{
	static struct library s;
	struct ipc_message message;

	(void)state;
	start_library(&s);
	for (unsigned i = 0; i < rounds(OPEN_ROUNDS); i++) {
		for (uint32_t k = 0; k < QUESTIONS / 4; k++)
			send_hostile_open(&s, k);
		ipc_channel_flush(&s.worker);
		while (ipc_wait(&s.worker, 0, &message) == 0) {
			if (message.number == IPC_MESSAGE_opened)
				take_document(&s, &message);
			ipc_message_done(&message);
		}
	}
	assert_true(s.documents > 100 && s.absent > 1000);
	assert_int_equal(count_broken(&s.child, IPC_WORKER), 0);
	end_library(&s);
}

/* A worker that asks and never reads: its answers' descriptors must not use up those that the others' need. */
static void test_unread_answers_starve_nobody(void **state)
{
	static struct library s;
	struct ipc_message message;

	(void)state;
	start_library(&s);
	for (uint32_t i = 0; i < UNREAD; i++) {
		send_open(&s.worker, i, 5, SPAN("/big"));
		ipc_channel_flush(&s.worker);
		if (i % 64 == 0)
			os_sleep_ms(2);
	}
	os_sleep_ms(200);
	send_open(&s.other, 1, 5, SPAN("/big"));
	ipc_channel_flush(&s.other);
	expect(&s.other, IPC_MESSAGE_opened, &message);
	assert_int_equal(((const struct ipc_opened *)message.body)->status, IPC_OPEN_DOCUMENT);
	assert_int_equal(message.descriptor_count, 1);
	ipc_message_done(&message);
	/* One that was only slow is not left without answers: what it does not hear of it waits for, and so do its
	 * clients. */
	for (uint32_t i = 0; i < UNREAD; i++) {
		expect(&s.worker, IPC_MESSAGE_opened, &message);
		assert_int_equal(((const struct ipc_opened *)message.body)->question.index, i);
		take_document(&s, &message);
		ipc_message_done(&message);
	}
	assert_true(s.documents >= 64 && s.absent > 0);
	end_library(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures_are_within_the_rules),
		cmocka_unit_test(test_documents_are_within_the_root),
		cmocka_unit_test(test_unread_answers_starve_nobody),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
