/* What the whole program does in os/sim when nothing goes wrong: the scripts that the matrices break. */
#include <stdio.h>

#include "play.h"

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
	    "trail ok\n"
	    "stop\n");
}

static void test_handshake(void)
{
	run("start\n"
	    "tls-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "tls-a< 200 first\n"
	    "trail ok\n"
	    "stop\n");
}

static void test_document(void)
{
	run("start\n"
	    "a> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 small document\n"
	    "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 abcdefghijklmnopqrstuvwabc\n"
	    "a> GET /none.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 404\n"
	    "stop\n");
}

static void test_cold_document(void)
{
	run("start\n"
	    "cold /www/large.bin\n"
	    "a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 abcdefghijklmnopqrstuvwabc\n"
	    "trail ok\n"
	    "stop\n");
}

static void test_proxied_request(void)
{
	run("start\n"
	    "a> POST /app/one HTTP/1.1\\nHost: localhost\\nContent-Length: 100000\\n\\n\n"
	    "a>> 100000\n"
	    "a< 200 POST /app/one 100000 \n"
	    "trail ok\n"
	    "a> GET /app/two?50000 HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "a< 200 GET /app/two?50000 0 0;mmmmm\n"
	    "origin refuses\n"
	    "b> GET /app/three HTTP/1.1\\nHost: localhost\\n\\n\n"
	    "b< 502\n"
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
	    "stop\n");
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
		PLAY_TEST(test_plain_request),   PLAY_TEST(test_handshake),
		PLAY_TEST(test_document),        PLAY_TEST(test_cold_document),
		PLAY_TEST(test_proxied_request), PLAY_TEST(test_reload),
		PLAY_TEST(test_broken_channels), PLAY_TEST(test_base),
	};

	return play_main(tests, ARRAY_LEN(tests));
}
