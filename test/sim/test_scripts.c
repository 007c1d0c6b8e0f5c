/* What the whole program does in os/sim when nothing goes wrong: the scripts that the matrices break. */
#include <stdio.h>

#include "play.h"

/* Every request's way to its handler. */
#define FRONT "head route firewall auth rules-head request-pump "

static void run(const char *script)
{
	struct play play;

	play_open(&play, 1, 1, 0);
	play_run(&play, script);
	play_close(&play);
}

static void test_plain_request(void)
{
	run("start\n"
	    "a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 first\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

/* The header's time is its own; behind it a connection is like any other. */
static void test_proxy_header(void)
{
	run("conf behind\n"
	    "start\n"
	    "a> PROXY TCP4 192.0.2.7 198.51.100.1 4567 443\\nGET / HTTP/1.1\\nHost: "
	    "localhost\\n\\n\n"
	    "a< 200 behind\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "a> GET / HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 behind\n"
	    "b> PROXY TCP4 192.0.2.7\n"
	    "b< end\n"
	    "c> GET / HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "c< end\n"
	    "a> GET / HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 behind\n"
	    "stop\n");
}

static void test_handshake(void)
{
	run("start\n"
	    "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "tls-a< 200 first\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

static void test_document(void)
{
	run("start\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 abcdefghijklmnopqrstuvwabc\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "a> GET /none.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 404\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

static void test_cold_document(void)
{
	run("start\n"
	    "cold /www/large.bin\n"
	    "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 abcdefghijklmnopqrstuvwabc\n"
	    "trail " FRONT "dispatch~! rules-response send~ record ok\n"
	    "stop\n");
}

static void test_proxied_request(void)
{
	run("start\n"
	    "a> POST /app/one HTTP/1.1\\nHost: localhost\\nContent-Length: 100000\\n\\n\n"
	    "a>> 100000\n"
	    "a< 200 POST /app/one 100000 \n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "a> GET /app/two?50000 HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/two?50000 0 0;mmmmm\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "origin refuses\n"
	    "b> GET /app/three HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "b< 502\n"
	    "trail " FRONT "dispatch~! rules-response send record origin-refused:127.0.0.1:3000\n"
	    "stop\n");
}

static void test_reload(void)
{
	run("start\n"
	    "a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 first\n"
	    "conf second\n"
	    "reload\n"
	    "a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 second\n"
	    "conf wrong\n"
	    "reload\n"
	    "a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 second\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

/* An origin that breaks costs the one request that met it. */
static void test_origins_that_break(void)
{
	run("start\n"
	    "origin closes\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 502\n"
	    "trail " FRONT "dispatch~! rules-response send record origin-closed\n"
	    "origin resets\n"
	    "a> GET /app/two HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 502\n"
	    "trail " FRONT "dispatch~! rules-response send record origin-closed\n"
	    "origin answers\n"
	    "a> GET /app/three HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/three 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

/* Nobody waits for an origin on behalf of a client that is gone. */
static void test_client_leaves(void)
{
	run("start\n"
	    "origin silent\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "a reset\n"
	    "wait 1\n"
	    "trail " FRONT "dispatch~^ record client-gone\n"
	    "stop\n");
}

/* Who was asked and died is asked again in its next life. */
static void test_files_dies(void)
{
	run("start\n"
	    "stop files\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill files\n"
	    "a< 200 small document\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

static void test_keyholder_dies(void)
{
	run("start\n"
	    "stop keyholder\n"
	    "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill keyholder\n"
	    "tls-a< 200 first\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

static void test_vault_dies(void)
{
	run("start\n"
	    "stop vault\n"
	    "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill vault\n"
	    "tls-a< 200 first\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

static void test_dialer_dies(void)
{
	run("start\n"
	    "stop dialer\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill dialer\n"
	    "a< 200 GET /app/one 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

static void test_two_die(void)
{
	run("start\n"
	    "stop files\n"
	    "stop dialer\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "b> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill files\n"
	    "kill dialer\n"
	    "a< 200 GET /app/one 0 0;\n"
	    "b< 200 small document\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

/* A hang is a death after two seconds. */
static void test_hangs(void)
{
	run("start\n"
	    "stop files\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop keyholder\n"
	    "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "tls-a< 200 first\n"
	    "trail " FRONT "dispatch! rules-response send record ok\n"
	    "stop\n");
}

/* What a worker was doing is lost, and nothing else. */
static void test_worker_dies(void)
{
	run("start\n"
	    "origin silent\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "kill worker\n"
	    "a< end\n"
	    "origin answers\n"
	    "b> GET /app/two HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "b< 200 GET /app/two 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

/* Without a supervisor all serve on, and the next one takes over. */
static void test_supervisor_dies(void)
{
	run("start\n"
	    "kill run\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "tls-a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "tls-a< 200 GET /app/one 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "start\n"
	    "wait 5\n"
	    "b> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "b< 200 GET /app/one 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

/* An origin by name: whatever its resolver does, the request has an answer, and the next one a new chance. */
static void test_names(void)
{
	run("conf named\n"
	    "start\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/one 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "resolver late\n"
	    "wait 20\n"
	    "a> GET /app/two HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/two 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "resolver silent\n"
	    "kill dialer\n"
	    "b> GET /app/three HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "wait 1\n"
	    "resolver answers\n"
	    "kill dialer\n"
	    "b< 200 GET /app/three 0 0;\n"
	    "trail " FRONT "dispatch~! rules-response send record ok\n"
	    "stop\n");
}

static void test_names_that_fail(void)
{
	static const char *const modes[] = { "silent", "fails", "knows-not" };
	static const char *const ends[] = { "no name server answered in time",
					    "no name server could say", "no such name" };
	char script[1024];

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		snprintf(script, sizeof(script),
			 "conf named\n"
			 "resolver %s\n"
			 "start\n"
			 "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
			 "a< 502\n"
			 "trail " FRONT
			 "dispatch~! rules-response send record origin-dns:app.internal: %s\n"
			 "resolver answers\n"
			 "wait 20\n"
			 "b> GET /app/two HTTP/1.1\\nHost: localhost\\n\\n\n"
			 "b< 200 GET /app/two 0 0;\n"
			 "trail " FRONT "dispatch~! rules-response send record ok\n"
			 "stop\n",
			 modes[i], ends[i]);
		run(script);
	}
}

/* A channel that breaks while both of its ends live is made anew, and who had asked over it asks again. */
static void test_broken_channels(void)
{
	static const char *const askers[] = { "worker", "keyholder" }, *const asked[] = {
		"keyholder", "vault"
	};
	char script[512];

	for (size_t i = 0; i < ARRAY_LEN(askers); i++) {
		for (int side = 0; side < 2; side++) {
			snprintf(script, sizeof(script),
				 "start\n"
				 "fail %s os_packet_receive_many ENOMEM\n"
				 "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
				 "tls-a< 200 first\n"
				 "failed\n"
				 "tls-b> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
				 "tls-b< 200 first\n"
				 "stop\n",
				 side ? askers[i] : asked[i]);
			run(script);
		}
	}
	run("start\n"
	    "fail files os_packet_receive_many ENOMEM\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "failed\n"
	    "fail worker os_packet_receive_many ENOMEM\n"
	    "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 abcdefghijklmnopqrstuvwabc\n"
	    "failed\n"
	    "fail worker os_packet_receive_many ENOMEM\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/one 0 0;\n"
	    "failed\n"
	    "wait 5\n"
	    "fail dialer os_packet_receive_many ENOMEM\n"
	    "a> GET /app/one HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/one 0 0;\n"
	    "failed\n"
	    "stop\n");
}

/* What is running is not sent again with a change that comes before a newborn has said that it committed it: a chain
 * that the next vault brings (here the supervisor cannot compare it) is with everyone at once, and no change waits. */
static void test_a_chain_of_a_newborn_vault(void)
{
	struct play play;
	struct play_base base;

	play_open(&play, 1, 1, 0);
	play_run(&play, "start\n");
	play_take_base(&play, &base);
	play_run(&play, "fail run os_memory_map ENOMEM\n"
			"kill vault\n"
			"wait 3\n"
			"failed\n");
	play_check(&play, &base, 1);
	play_run(&play, "stop\n");
	play_close(&play);
}

static void test_base(void)
{
	struct play play;
	struct play_base base;

	play_open(&play, 1, 2, 0);
	play_run(&play, "start\n");
	play_take_base(&play, &base);
	play_check(&play, &base, 1);
	play_run(&play, "stop\n");
	play_close(&play);
}

int main(void)
{
	static const struct play_test tests[] = {
		PLAY_TEST(test_plain_request),
		PLAY_TEST(test_proxy_header),
		PLAY_TEST(test_handshake),
		PLAY_TEST(test_document),
		PLAY_TEST(test_cold_document),
		PLAY_TEST(test_proxied_request),
		PLAY_TEST(test_reload),
		PLAY_TEST(test_origins_that_break),
		PLAY_TEST(test_client_leaves),
		PLAY_TEST(test_files_dies),
		PLAY_TEST(test_keyholder_dies),
		PLAY_TEST(test_vault_dies),
		PLAY_TEST(test_dialer_dies),
		PLAY_TEST(test_two_die),
		PLAY_TEST(test_hangs),
		PLAY_TEST(test_worker_dies),
		PLAY_TEST(test_supervisor_dies),
		PLAY_TEST(test_names),
		PLAY_TEST(test_names_that_fail),
		PLAY_TEST(test_broken_channels),
		PLAY_TEST(test_a_chain_of_a_newborn_vault),
		PLAY_TEST(test_base),
	};

	return play_main(tests, ARRAY_LEN(tests));
}
