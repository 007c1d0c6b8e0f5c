/* https origins: the library's server on the far end of the socket. */
#include "world.h"

#include <string.h>

#include "../tls/pair.h"

static struct world world;
static struct certificate authority, leaf, expired, stranger;
static SSL_CTX *library;
static SSL *server;

static int group_setup(void **state)
{
	const int64_t until_s = 4000000000;

	(void)state;
	library = peer_library();
	certificate_make(&authority, &(struct certificate_recipe){ .type = CRYPTO_KEY_P256,
								   .common_name = "ca",
								   .from_s = 1,
								   .until_s = until_s,
								   .is_ca = true });
	certificate_make(&leaf, &(struct certificate_recipe){ .type = CRYPTO_KEY_P256,
							      .dns = "origin.example",
							      .from_s = 1,
							      .until_s = until_s,
							      .issuer = &authority });
	certificate_make(&expired, &(struct certificate_recipe){ .type = CRYPTO_KEY_P256,
								 .dns = "origin.example",
								 .from_s = 1,
								 .until_s = 100000,
								 .issuer = &authority });
	certificate_make(&stranger, &(struct certificate_recipe){ .type = CRYPTO_KEY_P256,
								  .dns = "origin.example",
								  .from_s = 1,
								  .until_s = until_s });
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	SSL_CTX_free(library);
	certificate_free(&authority);
	certificate_free(&leaf);
	certificate_free(&expired);
	certificate_free(&stranger);
	return 0;
}

static int setup(void **state)
{
	static char text[4096];
	struct span roots[1] = { certificate_pem(&authority, text, sizeof(text)) };
	const struct tls_client_policy_config config = { .roots = roots, .root_count = 1 };

	(void)state;
	world_init(&world);
	assert_int_equal(tls_client_policy_new(&config, &world.policy), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	SSL_free(TAKE(server));
	world_fini(&world);
	tls_policy_free(world.policy);
	return 0;
}

static struct owner *tls_owner(const char *method)
{
	struct owner *owner = owner_new(&world, method, "/");

	owner->request.is_tls = owner->request.is_verified = true;
	owner->request.server_name = SPAN("origin.example");
	return owner;
}

static bool server_begin(const struct certificate *certificate, uint16_t version)
{
	SSL_free(server);
	server = SSL_new(library);
	assert_true(SSL_set_max_proto_version(server, version));
	assert_true(SSL_use_certificate(server, certificate->x509));
	assert_true(SSL_use_PrivateKey(server, crypto_key_native(certificate->key)));
	assert_true(SSL_set_fd(server, world.far));
	SSL_set_accept_state(server);
	for (int i = 0; i < 10; i++) {
		if (SSL_do_handshake(server) == 1)
			return true;
		world_turns(&world, 1);
	}
	return false;
}

/* Accepts and shakes hands, as far as the client lets it. */
static bool server_accept(const struct certificate *certificate, uint16_t version)
{
	origin_accept(&world);
	return server_begin(certificate, version);
}

static const char *server_heard(void)
{
	static char text[1 << 20];
	int len = 0, n;

	while ((n = SSL_read(server, text + len, (int)sizeof(text) - 1 - len)) > 0)
		len += n;
	text[len] = '\0';
	return text;
}

static void server_says(const char *text)
{
	assert_int_equal(SSL_write(server, text, (int)strlen(text)), (int)strlen(text));
}

static uint32_t idle_count(void)
{
	return upstream_count(world.upstream).idle;
}

static bool detail_is(const struct owner *owner, struct span wanted)
{
	struct span detail = owner->fetch.failure.detail;

	if (!span_equal(detail, wanted))
		print_error("detail: %.*s\n", SPAN_ARG(detail));
	return span_equal(detail, wanted);
}

#define OK "HTTP/1.1 200 OK\r\n"

static void run_reuse(uint16_t version)
{
	struct owner *owner = tls_owner("GET");

	assert_int_equal(owner_start(owner), 0);
	assert_true(server_accept(&leaf, version));
	world_turns(&world, 2);
	assert_string_equal(server_heard(), "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n");
	server_says(OK "Content-Length: 5\r\n\r\nhello");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_string_equal(owner->body, "hello");
	assert_int_equal(idle_count(), 1);
	assert_int_equal(upstream_count(world.upstream).tls, 1);

	/* A POST with a chunked body, on the same connection. */
	owner->request.method_text = SPAN("POST");
	owner->request.method = HTTP_POST;
	owner->request.has_body = true;
	size_t taken;

	assert_int_equal(owner_start(owner), 0);
	assert_true(owner->fetch.was_reused);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("abc"), true, &taken), 0);
	assert_int_equal(taken, 3);
	assert_non_null(strstr(server_heard(), "\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
	server_says(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_string_equal(owner->body, "hellook");

	/* It says goodbye: the end is seen. */
	assert_int_equal(idle_count(), 1);
	assert_int_equal(upstream_count(world.upstream).tls, 1);
	SSL_shutdown(server);
	world_turns(&world, 2);
	assert_int_equal(idle_count(), 0);
	owner_free(owner);
}

static void test_reuse(void **state)
{
	(void)state;
	run_reuse(TLS1_3_VERSION);
	run_reuse(TLS1_2_VERSION);
}

/* A ticket that comes while the connection is idle is no stray byte; data is. */
static void test_idle_records(void **state)
{
	struct owner *owner = tls_owner("GET");

	(void)state;
	assert_int_equal(owner_start(owner), 0);
	assert_true(server_accept(&leaf, TLS1_3_VERSION));
	server_says(OK "Content-Length: 0\r\n\r\n");
	world_turns(&world, 2);
	assert_int_equal(idle_count(), 1);
	assert_int_equal(upstream_count(world.upstream).tls, 1);
	assert_true(SSL_key_update(server, SSL_KEY_UPDATE_REQUESTED));
	/* The update leaves with the next write, so there is none to be had without data. */
	server_says("x");
	world_turns(&world, 2);
	assert_int_equal(idle_count(), 0);
	owner_free(owner);
}

static const struct {
	const char *name, *text;
	bool says_goodbye;
	enum upstream_state state;
	const char *detail;
} end_cases[] = {
	{ "by close", OK "\r\nhello", true, UPSTREAM_DONE, "" },
	{ "by close, cut", OK "\r\nhello", false, UPSTREAM_FAILED, "no-close-notify" },
	{ "length, short", OK "Content-Length: 9\r\n\r\nhello", true, UPSTREAM_FAILED, "" },
	{ "length, short, cut", OK "Content-Length: 9\r\n\r\nhello", false, UPSTREAM_FAILED,
	  "no-close-notify" },
	{ "length, whole, cut", OK "Content-Length: 5\r\n\r\nhello", false, UPSTREAM_DONE, "" },
	{ "chunked, cut", OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false,
	  UPSTREAM_FAILED, "no-close-notify" },
};

static void test_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(end_cases); i++) {
		struct owner *owner = tls_owner("GET");

		print_message("  %s\n", end_cases[i].name);
		assert_int_equal(owner_start(owner), 0);
		assert_true(server_accept(&leaf, TLS1_3_VERSION));
		world_turns(&world, 2);
		server_heard();
		server_says(end_cases[i].text);
		if (end_cases[i].says_goodbye)
			SSL_shutdown(server);
		origin_closes(&world.far);
		world_turns(&world, 3);
		assert_int_equal(owner->fetch.state, end_cases[i].state);
		assert_string_equal(owner->body, "hello");
		if (end_cases[i].state == UPSTREAM_FAILED) {
			assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_TRUNCATED);
			assert_true(detail_is(owner, span_str(end_cases[i].detail)));
		}
		owner_free(owner);
	}
}

static void run_refused(const struct certificate *certificate, struct span name, const char *detail)
{
	struct owner *owner = tls_owner("GET");

	owner->request.server_name = name;
	assert_int_equal(owner_start(owner), 0);
	server_accept(certificate, TLS1_3_VERSION);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.state, UPSTREAM_FAILED);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_TLS);
	assert_true(detail_is(owner, span_str(detail)));
	owner_free(owner);
}

static void test_refused(void **state)
{
	struct tls_policy *policy;
	struct owner *owner;

	(void)state;
	run_refused(&expired, SPAN("origin.example"), "expired");
	run_refused(&stranger, SPAN("origin.example"), "untrusted");
	run_refused(&leaf, SPAN("other.example"), "name");
	run_refused(&leaf, SPAN("127.0.0.1"), "name");

	owner = tls_owner("GET");
	assert_int_equal(owner_start(owner), 0);
	origin_says(origin_accept(&world), "HTTP/1.1 400 Plain\r\n\r\n");
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_TLS);
	assert_true(detail_is(owner, SPAN("version")));
	assert_int_equal(owner_start(owner), 0);
	origin_accept(&world);
	origin_closes(&world.far);
	world_turns(&world, 2);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_TLS);
	assert_true(detail_is(owner, SPAN("closed")));
	policy = TAKE(world.policy);
	assert_int_equal(owner_start(owner), 0);
	origin_accept(&world);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_TLS);
	world.policy = policy;
	/* The time to connect is that of the handshake as well. */
	world.limits.connect_ms = 20;
	upstream_set_limits(world.upstream, &world.limits);
	assert_int_equal(owner_start(owner), 0);
	origin_accept(&world);
	world_wait_ms(&world, 40);
	assert_int_equal(owner->fetch.failure.end, TELEMETRY_END_ORIGIN_CONNECT_TIMEOUT);
	owner_free(owner);
}

static void test_large_both_ways(void **state)
{
	enum { SIZE = 700001 };
	static char body[SIZE + 1], heard[SIZE + 4096];
	struct owner *owner = tls_owner("PUT");
	size_t sent = 0, heard_len = 0;
	int written = 0;

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		body[i] = (char)('a' + i % 23);
	owner->request.has_body = true;
	owner->request.may_retry = false;
	owner->request.content_length = SIZE;
	owner->room = 5000;
	assert_int_equal(owner_start(owner), 0);
	assert_true(server_accept(&leaf, TLS1_3_VERSION));
	SSL_set_mode(server, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	for (int i = 0; i < 5000 && (!owner->fetch.request_done || heard_len < SIZE); i++) {
		size_t taken;
		const char *text;

		if (sent < SIZE) {
			assert_true(upstream_fetch_write(&owner->fetch,
							 span_of(body + sent, SIZE - sent), true,
							 &taken) >= 0);
			sent += taken;
		}
		text = server_heard();
		memcpy(heard + heard_len, text, strlen(text) + 1);
		heard_len += strlen(text);
		world_turns(&world, 1);
	}
	assert_int_equal(sent, SIZE);
	assert_string_equal(strstr(heard, "\r\n\r\n") + 4, body);
	server_says(OK "Content-Length: 700001\r\n\r\n");
	for (int i = 0; i < 5000 && written < SIZE; i++) {
		int n = SSL_write(server, body + written, SIZE - written);

		written += n > 0 ? n : 0;
		world_turns(&world, 1);
	}
	world_turns(&world, 3);
	assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
	assert_int_equal(owner->body_len, SIZE);
	assert_string_equal(owner->body, body);
	assert_int_equal(idle_count(), 1);
	assert_int_equal(upstream_count(world.upstream).tls, 1);
	owner_free(owner);
}

static void test_tunnel(void **state)
{
	struct owner *owner = tls_owner("GET");
	size_t taken;

	(void)state;
	owner->request.upgrade = SPAN("websocket");
	assert_int_equal(owner_start(owner), 0);
	assert_true(server_accept(&leaf, TLS1_3_VERSION));
	world_turns(&world, 2);
	server_heard();
	server_says("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\nfirst");
	world_turns(&world, 2);
	assert_true(owner->fetch.is_tunnel);
	assert_int_equal(upstream_fetch_write(&owner->fetch, SPAN("ping"), true, &taken), 0);
	assert_string_equal(server_heard(), "ping");
	assert_true(SSL_get_shutdown(server) & SSL_RECEIVED_SHUTDOWN);
	server_says("late");
	SSL_shutdown(server);
	world_turns(&world, 2);
	assert_string_equal(owner->body, "firstlate");
	assert_int_equal(owner->outcome, UPSTREAM_END);
	owner_free(owner);
}

/* What a connection begins with stands before TLS, once. */
static void test_first_words(void **state)
{
	struct span first = SPAN("PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\r\n");
	struct owner *owner = tls_owner("GET");
	struct upstream_client client;
	char words[UPSTREAM_FIRST_MAX];

	(void)state;
	upstream_client_init(&client);
	owner->request.first = first;
	owner->request.client = &client;
	assert_int_equal(owner_start(owner), 0);
	origin_accept(&world);
	assert_int_equal(os_read(world.far, words, first.len), (ssize_t)first.len);
	assert_memory_equal(words, first.ptr, first.len);
	assert_true(server_begin(&leaf, TLS1_3_VERSION));
	for (int i = 0; i < 2; i++) {
		world_turns(&world, 2);
		assert_memory_equal(server_heard(), "GET / ", 6);
		server_says(OK "Content-Length: 0\r\n\r\n");
		world_turns(&world, 3);
		assert_int_equal(owner->fetch.state, UPSTREAM_DONE);
		if (i == 0)
			assert_int_equal(owner_start(owner), 0);
	}
	assert_true(owner->fetch.was_reused);
	assert_int_equal(world.dials, 1);
	owner_free(owner);
	upstream_client_leave(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tunnel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_words, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
