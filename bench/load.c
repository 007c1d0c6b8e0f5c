/* A load generator: TLS 1.3 clients on one thread.
 *
 *   load full PORT CONNECTIONS SECONDS [GROUP [PATH]]     connect, full handshake, one GET, close
 *   load resumed ...                                      the same with the newest ticket
 *   load keep-alive ...                                   requests, one after the other, on each connection
 *   load idle ...                                         one GET each, prints "held N", waits for the end
 *                                                         of standard input instead of SECONDS
 *
 * GROUP is X25519 unless given. Prints one line, `units N seconds S resumed N failed N cipher NAME`; a
 * unit is a connection, or a request of keep-alive. Any answer but 200 has failed. */
#include <openssl/ssl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

enum { EVENTS = 256, ANSWER_MAX = 16384 };
enum mode { FULL, RESUMED, KEEP_ALIVE, IDLE, MODES };

static const char *const mode_names[MODES] = {
	[FULL] = "full",
	[RESUMED] = "resumed",
	[KEEP_ALIVE] = "keep-alive",
	[IDLE] = "idle",
};

struct connection {
	SSL *ssl;
	int descriptor;
	bool is_asked;
	size_t len; /* of the answer so far */
	char answer[ANSWER_MAX];
};

static struct {
	enum mode mode;
	int epoll;
	struct sockaddr_in address;
	SSL_CTX *library;
	SSL_SESSION *ticket;
	char request[512];
	int request_len;
	bool is_over;
	unsigned long units, resumed, failed, held;
	const char *cipher;
} load;

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(load.ticket);
	load.ticket = session;
	return 1;
}

static void connection_start(struct connection *connection)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				     .data.ptr = connection };
	int on = 1;

	connection->is_asked = false;
	connection->len = 0;
	connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bench_must(connection->descriptor >= 0, "socket");
	setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	bench_must(connect(connection->descriptor, (struct sockaddr *)&load.address,
			   sizeof(load.address)) == 0 ||
			   errno == EINPROGRESS,
		   "connect");
	connection->ssl = SSL_new(load.library);
	bench_must(connection->ssl, "SSL_new");
	SSL_set_fd(connection->ssl, connection->descriptor);
	SSL_set_tlsext_host_name(connection->ssl, "localhost");
	SSL_set_connect_state(connection->ssl);
	if (load.mode == RESUMED && load.ticket)
		SSL_set_session(connection->ssl, load.ticket);
	bench_must(epoll_ctl(load.epoll, EPOLL_CTL_ADD, connection->descriptor, &event) == 0,
		   "epoll_ctl");
}

static void connection_end(struct connection *connection)
{
	SSL_shutdown(connection->ssl);
	SSL_free(connection->ssl);
	close(connection->descriptor);
	connection->ssl = NULL;
	if (!load.is_over && load.mode != IDLE)
		connection_start(connection);
}

static void connection_fail(struct connection *connection)
{
	/* A server that refuses everything must not keep this busy for SECONDS. */
	if (++load.failed > 1000)
		load.is_over = true;
	connection_end(connection);
}

/* The length of the whole answer; 0 while its head is not there. */
static size_t answer_size(struct connection *connection)
{
	const char *end, *length;

	connection->answer[connection->len] = '\0';
	end = strstr(connection->answer, "\r\n\r\n");
	if (!end)
		return 0;
	length = strcasestr(connection->answer, "\r\ncontent-length:");
	bench_must(length && length < end, "an answer with Content-Length");
	return (size_t)(end + 4 - connection->answer) + strtoul(length + 17, NULL, 10);
}

static void request_send(struct connection *connection)
{
	connection->len = 0;
	connection->is_asked = true;
	bench_must(SSL_write(connection->ssl, load.request, load.request_len) == load.request_len,
		   "sending a request");
}

/* Whether the connection goes on. */
static bool is_answer_taken(struct connection *connection)
{
	if (strncmp(connection->answer, "HTTP/1.1 200 ", 13) != 0)
		load.failed++;
	load.units++;
	load.resumed += (unsigned long)SSL_session_reused(connection->ssl);
	if (!load.cipher)
		load.cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(connection->ssl));
	if (load.mode == KEEP_ALIVE && !load.is_over) {
		request_send(connection);
		return true;
	}
	if (load.mode == IDLE) {
		load.held++;
		return true;
	}
	connection_end(connection);
	return false;
}

static void connection_serve(struct connection *connection)
{
	int len;

	if (!connection->is_asked) {
		int outcome = SSL_connect(connection->ssl);

		if (outcome != 1) {
			if (SSL_get_error(connection->ssl, outcome) != SSL_ERROR_WANT_READ)
				connection_fail(connection);
			return;
		}
		request_send(connection);
	}
	while ((len = SSL_read(connection->ssl, connection->answer + connection->len,
			       (int)(ANSWER_MAX - 1 - connection->len))) > 0) {
		size_t size;

		connection->len += (size_t)len;
		size = answer_size(connection);
		bench_must(size < ANSWER_MAX, "an answer below 16 KiB");
		if (size && connection->len >= size && !is_answer_taken(connection))
			return;
	}
	if (SSL_get_error(connection->ssl, len) != SSL_ERROR_WANT_READ)
		connection_fail(connection);
}

static void library_open(const char *group)
{
	load.library = SSL_CTX_new(TLS_method());
	bench_must(load.library, "SSL_CTX_new");
	bench_must(SSL_CTX_set_min_proto_version(load.library, TLS1_3_VERSION), "TLS 1.3");
	bench_must(SSL_CTX_set1_groups_list(load.library, group), group);
	SSL_CTX_set_session_cache_mode(load.library,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(load.library, keep_ticket);
}

static void turn(int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int ready = epoll_wait(load.epoll, events, EVENTS, timeout_ms);

	for (int i = 0; i < ready; i++) {
		struct connection *connection = events[i].data.ptr;

		if (connection->ssl)
			connection_serve(connection);
	}
}

static void run(struct connection *connections, unsigned long count, double seconds)
{
	double begin;
	char byte;

	/* One connection first, so that all others have a ticket. */
	if (load.mode == RESUMED) {
		connection_start(&connections[0]);
		while (!load.units && !load.failed)
			turn(100);
		load.units = load.resumed = 0;
	}
	begin = seconds_now();
	for (unsigned long i = 0; i < count; i++) {
		if (!connections[i].ssl)
			connection_start(&connections[i]);
		/* Below the listener's backlog, as a dropped SYN comes again after a second. */
		while (load.mode == IDLE && load.held + load.failed + 64 < i)
			turn(100);
	}
	while (load.mode == IDLE ? load.held + load.failed < count
				 : !load.is_over && seconds_now() - begin < seconds)
		turn(100);
	if (load.mode == IDLE) {
		printf("held %lu\n", load.held);
		fflush(stdout);
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
	}
	load.is_over = true;
	printf("units %lu seconds %.3f resumed %lu failed %lu cipher %s\n", load.units,
	       seconds_now() - begin, load.resumed, load.failed, load.cipher ? load.cipher : "-");
}

int main(int count, char **arguments)
{
	struct connection *connections;
	unsigned long connection_count;
	unsigned int mode = 0;

	if (count < 5 || count > 7) {
		fputs("usage: load MODE PORT CONNECTIONS SECONDS [GROUP [PATH]]\n", stderr);
		return 2;
	}
	while (mode < MODES && strcmp(arguments[1], mode_names[mode]) != 0)
		mode++;
	bench_must(mode < MODES, "MODE");
	load.mode = (enum mode)mode;
	load.address = bench_address(arguments[2]);
	load.request_len = snprintf(load.request, sizeof(load.request),
				    "GET %s HTTP/1.1\r\nHost: localhost:%s\r\n\r\n",
				    count > 6 ? arguments[6] : "/", arguments[2]);
	bench_must(load.request_len < (int)sizeof(load.request), "PATH");
	library_open(count > 5 ? arguments[5] : "X25519");
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	connection_count = strtoul(arguments[3], NULL, 10);
	connections = calloc(connection_count ? connection_count : 1, sizeof(*connections));
	bench_must(connection_count && connections, "CONNECTIONS");
	run(connections, connection_count, strtod(arguments[4], NULL));
	return load.failed ? 1 : 0;
}
