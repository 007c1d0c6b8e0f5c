/* Every question that a worker asks (open, warm, dial, sign), and its asker gone at every step: before the question
 * could leave, while it waits to be sent, while it is open, when the answer stands in the channel and is not read yet,
 * after it was asked again, and after its helper was lost twice. Answers come late all the same, with a descriptor
 * where their message has one, twice, and on a later channel: nobody takes them, and no descriptor is left.
 * Helpers are played by the test at the other end of real channels. That nothing freed is used is ASan's to see. */
#include "../tls/pair.h"
#include "worker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLD_SIZE = 100000, DESCRIPTORS = 1024, TLS_LISTENER = 4711 };

enum step { BEFORE, QUEUED, OPEN, CROSSED, AGAIN, LOST_TWICE, STEP_COUNT };
static const char *const step_names[STEP_COUNT] = { "before",  "queued", "open",
						    "crossed", "again",  "lost-twice" };

struct played {
	struct worker worker;
	struct worker tls; /* the same one, by its TLS listener */
	struct ipc_channel link, helper;
	struct certificate certificate;
	int cold; /* a document that no plain read may touch */
	int client;
	uint32_t serial; /* makes paths differ */
};

struct kind {
	const char *name;
	enum ipc_kind peer;
	enum ipc_number number;
	void (*begin)(struct played *played); /* a client does what the question is needed for */
	void (*answer)(struct played *played, struct ipc_question question);
	bool is_cancelled; /* its helper is told */
};

/* ---- Channels ------------------------------------------------------------------------------------------- */

static void unlink_from(struct played *played, enum ipc_kind peer)
{
	edge_unlink(played->worker.edge, peer, 0);
	ipc_channel_close(&played->link);
	ipc_channel_close(&played->helper);
}

static void link_to(struct played *played, enum ipc_kind peer)
{
	unlink_from(played, peer);
	worker_link(&played->worker, peer, &played->link, &played->helper, NULL, NULL);
}

static void turns(struct played *played)
{
	for (int i = 0; i < 4; i++) {
		worker_turns(&played->worker, 1);
		if (ipc_channel_is_open(&played->link))
			ipc_channel_flush(&played->link);
	}
}

/* False: no such message came. */
static bool take(struct played *played, enum ipc_number number, struct ipc_question *ret_question)
{
	struct ipc_message message;

	if (ipc_wait(&played->helper, 0, &message))
		return false;
	assert_int_equal(message.number, number);
	*ret_question = *(const struct ipc_question *)message.body;
	ipc_message_done(&message);
	return true;
}

static void reply(struct played *played, enum ipc_number number, const void *body, struct span tail,
		  int fd)
{
	assert_int_equal(ipc_send(&played->helper, number, body, tail, &fd, fd >= 0 ? 1 : 0), 0);
	ipc_channel_flush(&played->helper);
}

static void say(struct played *played, const char *path)
{
	char request[128];

	snprintf(request, sizeof(request), "GET %s%u HTTP/1.1\r\nHost: localhost\r\n\r\n", path,
		 played->serial);
	played->client = worker_connect(&played->worker);
	assert_int_equal(os_write_all(played->client, request, strlen(request)), 0);
}

/* ---- Kinds ----------------------------------------------------------------------------------------------- */

static void begin_open(struct played *played)
{
	played->serial++;
	say(played, "/");
}

static void answer_open(struct played *played, struct ipc_question question)
{
	struct ipc_opened opened = {
		.question = question, .status = IPC_OPEN_DOCUMENT, .size = COLD_SIZE, .name_len = 5
	};

	reply(played, IPC_MESSAGE_opened, &opened, SPAN("a.txt"), played->cold);
}

/* The document is in the cache: only its bytes are asked for. */
static void begin_warm(struct played *played)
{
	say(played, "/cold");
}

static void answer_warm(struct played *played, struct ipc_question question)
{
	struct ipc_warmed warmed = { .question = question };

	reply(played, IPC_MESSAGE_warmed, &warmed, SPAN_NONE, -1);
}

/* Its bytes are asked for piece by piece; it is in the cache too. */
static void answer_distant(struct played *played, struct ipc_question question)
{
	struct ipc_opened opened = {
		.question = question, .status = IPC_OPEN_DISTANT, .size = COLD_SIZE, .name_len = 5
	};

	reply(played, IPC_MESSAGE_opened, &opened, SPAN("a.txt"), -1);
}

static void answer_read(struct played *played, struct ipc_question question)
{
	struct ipc_bytes bytes = { .question = question };

	reply(played, IPC_MESSAGE_bytes, &bytes, SPAN("a piece of it"), -1);
}

static void begin_dial(struct played *played)
{
	say(played, "/p/");
}

static void answer_dial(struct played *played, struct ipc_question question)
{
	struct ipc_dialed dialed = { .question = question, .family = OS_FAMILY_V4 };
	int fd;

	assert_int_equal(os_connect(&played->worker.address, &fd), 0);
	reply(played, IPC_MESSAGE_dialed, &dialed, SPAN_NONE, fd);
	os_close(fd);
}

static void begin_sign(struct played *played)
{
	SSL_CTX *library = peer_library();
	SSL *peer = peer_new(library, false);
	char hello[8192];
	int len;

	SSL_set_tlsext_host_name(peer, "localhost");
	assert_int_equal(SSL_do_handshake(peer), -1);
	len = BIO_read(SSL_get_wbio(peer), hello, sizeof(hello));
	assert_true(len > 0);
	SSL_free(peer);
	SSL_CTX_free(library);
	ERR_clear_error();
	played->client = worker_connect(&played->tls);
	assert_int_equal(os_write_all(played->client, hello, (size_t)len), 0);
}

static void answer_sign(struct played *played, struct ipc_question question)
{
	struct ipc_signature signature = { .question = question, .status = IPC_SIGN_OK };

	reply(played, IPC_MESSAGE_signature, &signature, SPAN("no signature, but bytes"), -1);
}

static const struct kind kinds[] = {
	/* The question is the document's and not the exchange's: it stays. */
	{ "open", IPC_FILES, IPC_MESSAGE_open, begin_open, answer_open, false },
	{ "warm", IPC_FILES, IPC_MESSAGE_warm, begin_warm, answer_warm, true },
	{ "read", IPC_FILES, IPC_MESSAGE_read, begin_warm, answer_read, true },
	{ "dial", IPC_DIALER, IPC_MESSAGE_dial, begin_dial, answer_dial, true },
	{ "sign", IPC_KEYHOLDER, IPC_MESSAGE_sign13, begin_sign, answer_sign, false },
};

/* ---- The world ------------------------------------------------------------------------------------------- */

static int descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++)
		count += os_descriptor_is_open(fd);
	return count;
}

static void listen_tls(struct played *played)
{
	const struct snapshot_site *site = &played->worker.snapshot->sites[0];
	static const struct certificate_recipe recipe = { .type = CRYPTO_KEY_P256,
							  .dns = "localhost" };
	char pem[4096];
	int fd;

	certificate_make(&played->certificate, &recipe);
	assert_int_equal(site->certificate_count, 1);
	assert_int_equal(edge_data(played->worker.edge, IPC_DATA_CHAIN, site->certificates[0]->id,
				   certificate_pem(&played->certificate, pem, sizeof(pem))),
			 0);
	edge_commit(played->worker.edge);
	played->tls = played->worker;
	assert_true(os_address_parse(SPAN("127.0.0.1:0"), &played->tls.address));
	assert_int_equal(os_listen(&played->tls.address, 0, 128, &fd), 0);
	assert_int_equal(os_socket_local(fd, &played->tls.address), 0);
	assert_int_equal(edge_listener_add(played->worker.edge, TLS_LISTENER, 0, fd), 0);
}

static int start(void **state)
{
	struct played *played = calloc(1, sizeof(*played));

	worker_start(&played->worker, "site localhost default {\n certificate internal\n"
				      " limits { handshake 20s }\n"
				      " proxy 127.0.0.1:81 on /p/*\n files /srv/www\n}");
	listen_tls(played);
	assert_int_equal(os_memory_new("cold", COLD_SIZE, &played->cold), 0);
	*state = played;
	return 0;
}

static void client_goes(struct played *played)
{
	assert_int_equal(os_socket_linger_none(played->client), 0);
	os_close(TAKE_FD(played->client));
}

static int stop(void **state)
{
	struct played *played = *state;

	ipc_channel_close(&played->link);
	ipc_channel_close(&played->helper);
	os_close(played->cold);
	certificate_free(&played->certificate);
	worker_stop(&played->worker);
	free(played);
	return 0;
}

/* The document stands in the cache, so that who asks for it needs nothing but its bytes. */
static void warm_up(struct played *played, bool is_distant)
{
	struct ipc_question question;

	link_to(played, IPC_FILES);
	begin_warm(played);
	turns(played);
	assert_true(take(played, IPC_MESSAGE_open, &question));
	if (is_distant)
		answer_distant(played, question);
	else
		answer_open(played, question);
	turns(played);
	client_goes(played);
	turns(played);
	unlink_from(played, IPC_FILES);
}

/* ---- One kind, one step ------------------------------------------------------------------------------------ */

/* Everything that may still be said about it, on whatever channel stands. */
static void answer_late(struct played *played, const struct kind *kind,
			struct ipc_question question)
{
	if (!ipc_channel_is_open(&played->helper))
		link_to(played, kind->peer);
	for (int i = 0; i < 2; i++) {
		kind->answer(played, question);
		turns(played);
	}
}

static struct ipc_question ask(struct played *played, const struct kind *kind)
{
	struct ipc_question question = { 0, 0 };

	link_to(played, kind->peer);
	kind->begin(played);
	turns(played);
	assert_true(take(played, kind->number, &question));
	return question;
}

static void expect_cancel(struct played *played, const struct kind *kind,
			  struct ipc_question question)
{
	struct ipc_question named = { 0, 0 };

	assert_int_equal(take(played, IPC_MESSAGE_cancel, &named), kind->is_cancelled);
	if (kind->is_cancelled)
		assert_memory_equal(&named, &question, sizeof(named));
}

static void play_before(struct played *played, const struct kind *kind)
{
	struct ipc_question question = { 0, 0 };

	unlink_from(played, kind->peer);
	kind->begin(played);
	turns(played);
	assert_int_equal(played->worker.edge->question_open, 1);
	client_goes(played);
	turns(played);
	link_to(played, kind->peer);
	turns(played);
	/* Nobody is asked on behalf of who is gone; a document is still wanted. */
	assert_int_equal(take(played, kind->number, &question), kind->number == IPC_MESSAGE_open);
	answer_late(played, kind, question);
}

static void play_queued(struct played *played, const struct kind *kind)
{
	struct ipc_question question;

	link_to(played, kind->peer);
	kind->begin(played);
	/* Without a flush of the channel. */
	worker_turns(&played->worker, 4);
	assert_int_equal(played->worker.edge->question_open, 1);
	client_goes(played);
	turns(played);
	assert_true(take(played, kind->number, &question));
	expect_cancel(played, kind, question);
	answer_late(played, kind, question);
}

static void play_open(struct played *played, const struct kind *kind)
{
	struct ipc_question question = ask(played, kind);

	client_goes(played);
	turns(played);
	expect_cancel(played, kind, question);
	answer_late(played, kind, question);
}

static void play_crossed(struct played *played, const struct kind *kind)
{
	struct ipc_question question = ask(played, kind);

	kind->answer(played, question);
	client_goes(played);
	turns(played);
	answer_late(played, kind, question);
}

static void play_again(struct played *played, const struct kind *kind)
{
	struct ipc_question first = ask(played, kind), second;

	link_to(played, kind->peer);
	turns(played);
	assert_true(take(played, kind->number, &second));
	assert_memory_equal(&first, &second, sizeof(first));
	client_goes(played);
	turns(played);
	expect_cancel(played, kind, second);
	answer_late(played, kind, second);
}

static void play_lost_twice(struct played *played, const struct kind *kind)
{
	struct ipc_question question = ask(played, kind), none;

	for (int i = 0; i < 2; i++) {
		link_to(played, kind->peer);
		worker_turns(&played->worker, i ? 0 : 2);
	}
	/* It was answered by that loss; whether its asker learns of it before the client goes is all the same. */
	assert_int_equal(played->worker.edge->question_open, 0);
	client_goes(played);
	turns(played);
	assert_false(take(played, kind->number, &none));
	answer_late(played, kind, question);
}

static void (*const steps[STEP_COUNT])(struct played *played, const struct kind *kind) = {
	play_before, play_queued, play_open, play_crossed, play_again, play_lost_twice
};

static void play(struct played *played, const struct kind *kind, enum step step)
{
	struct edge *edge = played->worker.edge;
	int before;

	files_cache_clear(edge->cache);
	if (kind->number == IPC_MESSAGE_warm || kind->number == IPC_MESSAGE_read)
		warm_up(played, kind->number == IPC_MESSAGE_read);
	before = descriptors();
	print_message("%s %s\n", kind->name, step_names[step]);
	steps[step](played, kind);
	unlink_from(played, kind->peer);
	turns(played);
	assert_int_equal(edge->connection_count, 0);
	assert_int_equal(edge->exchange_count, 0);
	assert_int_equal(edge->question_open, 0);
	assert_int_equal(edge->blocks.used, 0);
	/* What an `open` brought stands in the cache, once. */
	if (kind->number == IPC_MESSAGE_open)
		files_cache_clear(edge->cache);
	assert_int_equal(descriptors(), before);
}

static void test_cancelled_at_every_step(void **state)
{
	struct played *played = *state;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		for (enum step step = 0; step < STEP_COUNT; step++)
			play(played, &kinds[i], step);
	}
}

/* How long a handshake may take is its site's to say, once the client has named one. */
static void test_handshake_of_a_site(void **state)
{
	struct played *played = *state;
	struct edge *edge = played->worker.edge;
	const uint64_t *counted = &edge->counters->limits[TELEMETRY_LIMIT_HANDSHAKE];
	struct ipc_question question;
	int nameless = worker_connect(&played->tls);

	link_to(played, IPC_KEYHOLDER);
	begin_sign(played);
	turns(played);
	assert_true(take(played, IPC_MESSAGE_sign13, &question));
	assert_int_equal(edge->connection_count, 2);
	/* Who has said nothing has what holds for all. */
	os_clock_move((int64_t)(11 * OS_SECOND), 0);
	turns(played);
	assert_int_equal(edge->connection_count, 1);
	assert_int_equal(*counted, 1);
	os_clock_move((int64_t)(8 * OS_SECOND), 0);
	turns(played);
	assert_int_equal(edge->connection_count, 1);
	os_clock_move((int64_t)(2 * OS_SECOND), 0);
	turns(played);
	assert_int_equal(edge->connection_count, 0);
	assert_int_equal(*counted, 2);
	os_close(nameless);
	os_close(TAKE_FD(played->client));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cancelled_at_every_step, start, stop),
		cmocka_unit_test_setup_teardown(test_handshake_of_a_site, start, stop),
	};

	if (os_start())
		return 1;
	crypto_start();
	return cmocka_run_group_tests_name("edge/cancel", tests, NULL, NULL);
}
