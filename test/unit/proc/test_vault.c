/* The vault as a process in its sandbox, over a real key folder; the test is its supervisor, a keyholder and a
 * command. */
#include "child.h"

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cert/cert.h"
#include "keys/keys.h"
#include "tls/tls.h"

enum { ID = 77, DAY_S = 86400 };

struct scene {
	struct child child;
	struct ipc_channel keyholder, command;
	struct arena arena;
	char path[64];
	int state_fd;
	struct proc_shared_keys *shared;
	struct tls_ticket_keys *tickets; /* in it */
};

static struct scene scene;

static void start(struct scene *s, bool has_rescue)
{
	OS_AUTO_FD folder = -1;
	OS_AUTO_FD rescue = -1;
	OS_AUTO_FD tickets = -1;
	void *memory;

	assert_int_equal(os_open(s->state_fd, "keys", OS_OPEN_FOLDER | OS_OPEN_HANDLE, 0, &folder),
			 0);
	child_begin(&s->child, IPC_VAULT);
	child_grant(&s->child, IPC_GRANT_KEY_FOLDER, folder);
	if (has_rescue) {
		assert_int_equal(os_listen_packets(s->state_fd, "rescue.sock", 0600, &rescue), 0);
		child_grant(&s->child, IPC_GRANT_RESCUE, rescue);
	}
	assert_int_equal(os_memory_new("tickets", sizeof(*s->shared), &tickets), 0);
	assert_int_equal(os_memory_map(tickets, sizeof(*s->shared), NULL, 0, &memory), 0);
	s->shared = memory;
	s->tickets = &s->shared->tickets;
	child_grant(&s->child, IPC_GRANT_TICKETS, tickets);
	child_born(&s->child);
	child_link(&s->child, IPC_KEYHOLDER, 0, &s->keyholder);
	child_link(&s->child, IPC_COMMAND, 1, &s->command);
}

static void stop(struct scene *s)
{
	ipc_channel_close(&s->keyholder);
	ipc_channel_close(&s->command);
	child_end(&s->child);
	os_memory_unmap(s->shared, sizeof(*s->shared));
}

static int set_up(void **state)
{
	struct scene *s = &scene;

	*state = s;
	*s = (struct scene){ .path = "/tmp/portcullis-vault-XXXXXX" };
	arena_init(&s->arena, 1 << 20);
	assert_non_null(mkdtemp(s->path));
	assert_int_equal(os_open(OS_FOLDER_CURRENT, s->path, OS_OPEN_FOLDER, 0, &s->state_fd), 0);
	assert_int_equal(os_folder_make(s->state_fd, "keys", 0700), 0);
	start(s, true);
	return 0;
}

static int tear_down(void **state)
{
	struct scene *s = *state;
	char command[128];

	stop(s);
	arena_fini(&s->arena);
	os_close(s->state_fd);
	snprintf(command, sizeof(command), "rm -r %s", s->path);
	return system(command);
}

/* ---- Asking ------------------------------------------------------------------------------------------------ */

static struct cert_chain wait_leaf(struct scene *s, uint64_t change)
{
	const struct ipc_leaf *body;
	struct ipc_message message;
	struct cert_chain chain;
	struct span why, pem;

	expect(&s->child.supervisor, IPC_MESSAGE_leaf, &message);
	body = message.body;
	assert_int_equal(body->change, change);
	assert_int_equal(body->id, ID);
	pem = arena_copy(&s->arena, message.tail);
	assert_int_equal(cert_chain_parse(&s->arena, pem, &chain, &why), 0);
	assert_memory_equal(chain.spki_hash, body->spki_hash, 32);
	ipc_message_done(&message);
	return chain;
}

static struct cert_chain want_leaf(struct scene *s, uint64_t change)
{
	SEND(&s->child.supervisor, leaf_wanted, span_of("a.test\0b.test\0", 14), .change = change,
	     .id = ID);
	return wait_leaf(s, change);
}

/* How many bytes of key the vault gives. */
static size_t pull(struct scene *s, const uint8_t hash[32])
{
	struct ipc_pull_key body = { .usage = KEYS_USAGE_SERVER };
	struct crypto_key *key = NULL;
	struct ipc_message message;
	uint8_t got[32];
	size_t len;

	memcpy(body.handle, hash, 32);
	assert_int_equal(ipc_send(&s->keyholder, IPC_MESSAGE_pull_key, &body, SPAN_NONE, NULL, 0),
			 0);
	ipc_channel_flush(&s->keyholder);
	expect(&s->keyholder, IPC_MESSAGE_key, &message);
	len = message.tail.len;
	if (len) {
		assert_int_equal(crypto_key_parse_der(message.tail, &key), 0);
		assert_int_equal(crypto_key_spki_hash(key, got), 0);
		assert_memory_equal(got, hash, 32);
		crypto_key_free(key);
	}
	ipc_message_done(&message);
	return len;
}

/* The answer's text; the exit code. */
static int answer(struct scene *s, struct span *ret_text)
{
	struct ipc_message message;
	int code = -1;

	*ret_text = SPAN_NONE;
	while (code < 0) {
		assert_int_equal(ipc_wait(&s->command, WAIT_MS, &message), 0);
		if (message.number == IPC_MESSAGE_answer_end) {
			code = (int)((const struct ipc_answer_end *)message.body)->exit_code;
			if (code)
				*ret_text = arena_copy(&s->arena, message.tail);
		} else if (message.descriptor_count) {
			assert_int_equal(os_file_read_fd(message.descriptors[0], 1 << 20, &s->arena,
							 ret_text),
					 0);
		} else {
			*ret_text = arena_copy(&s->arena, message.tail);
		}
		ipc_message_done(&message);
	}
	return code;
}

static int issue(struct scene *s, struct span names, struct span *ret_text)
{
	char tail[1024], spki[512];
	struct writer out = writer_of(tail, sizeof(tail)), spki_out = writer_of(spki, sizeof(spki));
	struct crypto_key *key = NULL;

	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	assert_int_equal(crypto_key_write_spki(key, &spki_out), 0);
	crypto_key_free(key);
	write_be16(&out, (uint16_t)writer_done(&spki_out).len);
	write_span(&out, writer_done(&spki_out));
	write_span(&out, names);
	SEND(&s->command, ca_issue, writer_done(&out), .usage = CERT_USAGE_SERVER);
	return answer(s, ret_text);
}

/* ---- Keys and certificates ------------------------------------------------------------------------------------- */

static void test_a_key_is_given_once_its_certificate_is_served(void **state)
{
	struct scene *s = *state;
	struct cert_chain chain = want_leaf(s, 1);

	assert_int_equal(chain.name_count, 2);
	/* A keyholder has a channel to it from its first plan on (lifecycle): none hears this of a key that is served. */
	assert_int_equal(pull(s, chain.spki_hash), 0);
	child_data(&s->child, ID, chain.spki_hash);
	child_commit(&s->child);
	assert_true(pull(s, chain.spki_hash) > 0);
	/* The next life has it from the folder. */
	stop(s);
	start(s, true);
	assert_memory_equal(want_leaf(s, 0).spki_hash, chain.spki_hash, 32);
}

static void send_key_file(struct scene *s, uint64_t change, const struct crypto_key *key,
			  const uint8_t hash[32])
{
	struct ipc_key_file body = { .change = change, .id = 5, .line = 12 };
	char pem[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(pem, sizeof(pem));
	int fd;

	memcpy(body.spki_hash, hash, 32);
	assert_int_equal(crypto_key_write_pem(key, &out), 0);
	assert_int_equal(os_memory_new("key", writer_done(&out).len, &fd), 0);
	assert_int_equal(os_pwrite(fd, pem, writer_done(&out).len, 0), writer_done(&out).len);
	assert_int_equal(ipc_send(&s->child.supervisor, IPC_MESSAGE_key_file, &body,
				  SPAN("a.conf:12:3\0a.crt\0a.key\0"), &fd, 1),
			 0);
	os_close(fd);
}

static void test_key_files(void **state)
{
	struct scene *s = *state;
	struct crypto_key *key = NULL;
	struct ipc_message message;
	uint8_t hash[32], other[32] = { 1 };

	assert_int_equal(crypto_key_generate(CRYPTO_KEY_P256, &key), 0);
	assert_int_equal(crypto_key_spki_hash(key, hash), 0);
	send_key_file(s, 1, key, other);
	expect(&s->child.supervisor, IPC_MESSAGE_refused, &message);
	assert_int_equal(((const struct ipc_refused *)message.body)->line, 12);
	assert_true(span_starts_with(message.tail,
				     SPAN("a.conf:12:3: error: key a.key is the key of another")));
	ipc_message_done(&message);
	SEND(&s->child.supervisor, prepare, SPAN_NONE, .change = 1);
	expect(&s->child.supervisor, IPC_MESSAGE_refused, &message);
	ipc_message_done(&message);
	SEND(&s->child.supervisor, abandon, SPAN_NONE, .change = 1);
	s->child.change = 1;
	/* The same again, of the running plan: it is said, and the vault serves. */
	send_key_file(s, 0, key, other);
	expect(&s->child.supervisor, IPC_MESSAGE_notice, &message);
	ipc_message_done(&message);
	send_key_file(s, 2, key, hash);
	child_data(&s->child, 5, hash);
	child_commit(&s->child);
	assert_true(pull(s, hash) > 0);
	/* Another certificate in its place: the key goes. */
	child_data(&s->child, 5, other);
	child_commit(&s->child);
	assert_int_equal(pull(s, hash), 0);
	crypto_key_free(key);
}

static void test_renewal(void **state)
{
	struct scene *s = *state;
	struct cert_chain old = want_leaf(s, 1), fresh;

	child_data(&s->child, ID, old.spki_hash);
	child_commit(&s->child);
	child_move_clock(&s->child, 21 * DAY_S);
	fresh = wait_leaf(s, 0);
	assert_true(fresh.not_after_s >= old.not_after_s + 20 * DAY_S);
	/* Until the change is committed the old one's key is still given, then the new one's. */
	assert_true(pull(s, old.spki_hash) > 0);
	child_data(&s->child, ID, fresh.spki_hash);
	child_commit(&s->child);
	assert_true(pull(s, fresh.spki_hash) > 0);
	expect_nothing(&s->child.supervisor);
}

/* Its file was damaged when a change asked for it, and the change failed: what was made is served all the same. The one
 * before it is not in the folder any more, so nobody would renew it. */
static void test_a_leaf_of_a_failed_change(void **state)
{
	struct scene *s = *state;
	struct cert_chain old = want_leaf(s, 1), fresh, again;
	struct ipc_message message;
	char command[128];

	child_data(&s->child, ID, old.spki_hash);
	child_commit(&s->child);
	snprintf(command, sizeof(command), "truncate -s 9 %s/keys/leaf/*.pem", s->path);
	assert_int_equal(system(command), 0);
	SEND(&s->child.supervisor, leaf_wanted, span_of("a.test\0b.test\0", 14), .change = 2,
	     .id = ID);
	expect(&s->child.supervisor, IPC_MESSAGE_notice, &message);
	ipc_message_done(&message);
	fresh = wait_leaf(s, 2);
	assert_memory_not_equal(fresh.spki_hash, old.spki_hash, 32);
	SEND(&s->child.supervisor, abandon, SPAN_NONE, .change = 2);
	s->child.change = 2;
	again = wait_leaf(s, 0);
	assert_memory_equal(again.spki_hash, fresh.spki_hash, 32);
	child_data(&s->child, ID, fresh.spki_hash);
	child_commit(&s->child);
	assert_true(pull(s, fresh.spki_hash) > 0);
	assert_int_equal(pull(s, old.spki_hash), 0);
	expect_nothing(&s->child.supervisor);
}

static void expect_notice(struct scene *s, struct span part)
{
	struct ipc_message message;

	expect(&s->child.supervisor, IPC_MESSAGE_notice, &message);
	assert_true(span_find(message.tail, part) < message.tail.len);
	ipc_message_done(&message);
}

/* A CA that cannot be read at the start ends no leaf that is good. It is told at once, not when the leaf is due, and
 * tried again each minute. */
static void test_a_ca_that_cannot_be_read(void **state)
{
	struct scene *s = *state;
	struct cert_chain chain = want_leaf(s, 1), again;
	char command[256];

	stop(s);
	snprintf(command, sizeof(command),
		 "cd %s/keys/ca && cp root.crt kept && truncate -s 9 root.crt", s->path);
	assert_int_equal(system(command), 0);
	start(s, true);
	SEND(&s->child.supervisor, leaf_wanted, span_of("a.test\0b.test\0", 14), .id = ID);
	expect_notice(s, SPAN("the local CA is damaged: ca/root.crt"));
	again = wait_leaf(s, 0);
	assert_memory_equal(again.spki_hash, chain.spki_hash, 32);
	child_move_clock(&s->child, 61);
	expect_nothing(&s->child.supervisor);
	snprintf(command, sizeof(command), "mv %s/keys/ca/kept %s/keys/ca/root.crt", s->path,
		 s->path);
	assert_int_equal(system(command), 0);
	child_move_clock(&s->child, 61);
	expect_notice(s, SPAN("could be read again"));
	child_move_clock(&s->child, 61);
	expect_nothing(&s->child.supervisor);
}

/* ---- Ticket keys ----------------------------------------------------------------------------------------------- */

static void test_tickets(void **state)
{
	struct scene *s = *state;
	struct tls_ticket_keys before = *s->tickets;

	assert_int_equal(before.format, TLS_TICKET_KEYS_FORMAT);
	assert_true(before.keys[0].made_at_s && !before.keys[1].made_at_s);
	child_move_clock(&s->child, 3601);
	os_sleep_ms(1500);
	assert_memory_equal(&s->tickets->keys[1], &before.keys[0], sizeof(before.keys[0]));
	before = *s->tickets;
	SEND(&s->child.supervisor, tickets_spoiled, SPAN_NONE, 0, 11);
	os_sleep_ms(300);
	assert_true(!s->tickets->keys[1].made_at_s);
	assert_memory_not_equal(&s->tickets->keys[0], &before.keys[0], sizeof(before.keys[0]));
	/* Once a minute; the second one is late, not lost. */
	before = *s->tickets;
	SEND(&s->child.supervisor, tickets_spoiled, SPAN_NONE, 0, 11);
	os_sleep_ms(300);
	assert_memory_equal(s->tickets, &before, sizeof(before));
	child_move_clock(&s->child, 61);
	os_sleep_ms(1500);
	assert_memory_not_equal(&s->tickets->keys[0], &before.keys[0], sizeof(before.keys[0]));
	assert_true(!s->tickets->keys[1].made_at_s);
}

/* ---- Commands --------------------------------------------------------------------------------------------------- */

static void test_ca(void **state)
{
	struct scene *s = *state;
	struct cert_chain chain;
	struct span text, why;

	SEND(&s->command, ca_root, SPAN_NONE, .create = 0);
	assert_int_equal(answer(s, &text), 1);
	assert_true(text.len > 0);
	SEND(&s->command, ca_root, SPAN_NONE, .create = 1);
	assert_int_equal(answer(s, &text), 0);
	assert_true(span_starts_with(text, SPAN("-----BEGIN CERTIFICATE-----")));
	assert_int_equal(issue(s,
			       span_of("c.test\0"
				       "127.0.0.1\0",
				       17),
			       &text),
			 0);
	assert_int_equal(cert_chain_parse(&s->arena, text, &chain, &why), 0);
	assert_int_equal(chain.count, 2);
	assert_int_equal(issue(s, SPAN("no name\0"), &text), 1);
	SEND(&s->command, ca_issue, SPAN("\xff"), .usage = 1);
	assert_int_equal(answer(s, &text), 1);
	SEND(&s->command, ca_list, SPAN_NONE, { 0 });
	assert_int_equal(answer(s, &text), 0);
	assert_true(span_find(text, SPAN("c.test")) < text.len);
	assert_int_equal(span_find_byte(text, '\n'), text.len - 1);
}

static void test_garbage_ends_the_sender(void **state)
{
	struct scene *s = *state;
	struct ipc_message message;

	assert_int_equal(write(s->keyholder.watch.fd, "\x2b\0\0\0\1\0\0\0", 8), 8);
	expect(&s->child.supervisor, IPC_MESSAGE_broken_life, &message);
	assert_int_equal(((const struct ipc_broken_life *)message.body)->kind, IPC_KEYHOLDER);
	ipc_message_done(&message);
	ipc_channel_close(&s->keyholder);
	assert_int_equal(write(s->command.watch.fd, "\x32\0\0\0\0\0\0\0", 8),
			 8); /* key_file: not a command's */
	expect(&s->child.supervisor, IPC_MESSAGE_broken_life, &message);
	ipc_message_done(&message);
	assert_true(child_is_alive(&s->child));
	want_leaf(s, 1);
}

/* ---- After the supervisor ------------------------------------------------------------------------------------------ */

/* Nobody serves yet in the lock's eyes: it stays. It is ended by hand, and another one for the tear down. */
static void replace(struct scene *s)
{
	int status;

	assert_true(child_is_alive(&s->child));
	kill(s->child.pid, 9);
	waitpid(s->child.pid, &status, 0);
	ipc_channel_close(&s->keyholder);
	ipc_channel_close(&s->command);
	os_memory_unmap(s->child.range, IPC_RANGE_SIZE);
	os_memory_unmap(s->shared, sizeof(*s->shared));
	start(s, true);
}

static void test_rescue(void **state)
{
	struct scene *s = *state;
	struct cert_chain chain = want_leaf(s, 1);
	struct ipc_channel next;
	struct ipc_message message;
	struct span text;
	int fd, gone;

	child_data(&s->child, ID, chain.spki_hash);
	child_commit(&s->child);
	assert_int_equal(os_memory_new("kept", 123, &fd), 0);
	for (uint32_t slot = 0; slot < 3; slot++)
		assert_int_equal(ipc_send(&s->child.supervisor, IPC_MESSAGE_keep,
					  &(struct ipc_keep){ .what = IPC_KEEP_LISTENER,
							      .slot = slot,
							      .id = 9 },
					  SPAN("127.0.0.1:443"), &fd, 1),
				 0);
	SEND(&s->child.supervisor, keep, SPAN("127.0.0.1:443"), .what = IPC_KEEP_FORGET, .slot = 1);
	ipc_channel_close(&s->child.supervisor);
	/* The keys serve on, nothing is written. */
	assert_true(pull(s, chain.spki_hash) > 0);
	assert_int_equal(issue(s, SPAN("c.test\0"), &text), 1);
	assert_true(span_find(text, SPAN("supervisor has ended")) < text.len);
	assert_int_equal(os_connect_packets(s->state_fd, "rescue.sock", &gone), 0);
	assert_int_equal(ipc_channel_open(&next, NULL, gone, IPC_SUPERVISOR, IPC_VAULT), 0);
	for (int i = 0; i < 2; i++) {
		struct os_file_info info = { 0 };

		expect(&next, IPC_MESSAGE_keep, &message);
		assert_int_equal(message.descriptor_count, 1);
		assert_int_equal(((const struct ipc_keep *)message.body)->slot, i ? 2 : 0);
		assert_int_equal(os_file_info(message.descriptors[0], &info), 0);
		assert_int_equal(info.size, 123);
		ipc_message_done(&message);
	}
	expect(&next, IPC_MESSAGE_kept_all, &message);
	assert_int_equal(((const struct ipc_kept_all *)message.body)->count, 2);
	ipc_message_done(&message);
	ipc_channel_close(&next);
	os_close(fd);
	replace(s);
}

/* A machine of many cores has a listener for each. Who takes them over may be slow to read. */
static void test_rescue_of_many(void **state)
{
	enum { MANY = 450 };
	struct scene *s = *state;
	struct ipc_channel next;
	struct ipc_message message;
	int fd, gone;

	assert_int_equal(os_memory_new("kept", 123, &fd), 0);
	for (uint32_t slot = 0; slot < MANY; slot++) {
		assert_int_equal(
			ipc_send(&s->child.supervisor, IPC_MESSAGE_keep,
				 &(struct ipc_keep){ .what = IPC_KEEP_LISTENER, .slot = slot },
				 SPAN("127.0.0.1:443"), &fd, 1),
			0);
		assert_int_equal(os_wait(s->child.supervisor.watch.fd, OS_WRITABLE, WAIT_MS), 0);
		ipc_channel_flush(&s->child.supervisor);
	}
	ipc_channel_close(&s->child.supervisor);
	os_close(fd);
	assert_int_equal(os_connect_packets(s->state_fd, "rescue.sock", &gone), 0);
	assert_int_equal(ipc_channel_open(&next, NULL, gone, IPC_SUPERVISOR, IPC_VAULT), 0);
	usleep(QUIET_MS * 1000);
	for (uint32_t slot = 0; slot < MANY; slot++) {
		expect(&next, IPC_MESSAGE_keep, &message);
		assert_int_equal(((const struct ipc_keep *)message.body)->slot, slot);
		assert_int_equal(message.descriptor_count, 1);
		ipc_message_done(&message);
	}
	expect(&next, IPC_MESSAGE_kept_all, &message);
	assert_int_equal(((const struct ipc_kept_all *)message.body)->count, MANY);
	ipc_message_done(&message);
	ipc_channel_close(&next);
	replace(s);
}

static void test_one_of_a_command_ends_with_it(void **state)
{
	struct scene *s = *state;
	int status = -1;

	stop(s);
	start(s, false);
	ipc_channel_close(&s->child.supervisor);
	for (int i = 0; i < WAIT_MS / 10 && waitpid(s->child.pid, &status, WNOHANG) == 0; i++)
		os_sleep_ms(10);
	assert_true(WIFEXITED(status));
	ipc_channel_close(&s->keyholder);
	ipc_channel_close(&s->command);
	os_memory_unmap(s->child.range, IPC_RANGE_SIZE);
	os_memory_unmap(s->shared, sizeof(*s->shared));
	start(s, true);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(test_a_key_is_given_once_its_certificate_is_served),
		CASE(test_key_files),
		CASE(test_renewal),
		CASE(test_a_leaf_of_a_failed_change),
		CASE(test_a_ca_that_cannot_be_read),
		CASE(test_tickets),
		CASE(test_ca),
		CASE(test_garbage_ends_the_sender),
		CASE(test_rescue),
		CASE(test_rescue_of_many),
		CASE(test_one_of_a_command_ends_with_it),
	};

	if (os_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
