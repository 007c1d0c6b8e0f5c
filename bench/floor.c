/* The floor: what a server costs that does nothing but TLS 1.3 and a fixed answer of 1 KB.
 *
 * One process, AWS-LC, one buffer for all connections, one recv and one send a turn, each connection
 * registered once (edge-triggered). No parser (a request ends with CR LF CR LF), no log, no limits, no
 * time, and the key lies in the process: it is a measure for portcullis, not a server to use. What it
 * leaves out is what the ratio to it shows.
 *
 *   floor PORT CERT KEY     listens on 127.0.0.1, prints "ready" */
#include <openssl/ssl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

enum { BUFFER_SIZE = 65536, EVENTS = 256, ACCEPTS = 16 };

struct connection {
	SSL *ssl;
	int descriptor;
	unsigned int matched; /* bytes of CR LF CR LF that were just seen */
};

/* The bytes of the turn: what was received and what will be sent. Between turns both are empty, as
 * the library keeps what is left of a record. */
static char received[BUFFER_SIZE], sent[BUFFER_SIZE], plain[BUFFER_SIZE];
static size_t received_at, received_len, sent_len;
static char answer[2048];
static size_t answer_len;

static int wire_read(BIO *bio, char *buf, int size)
{
	size_t left = received_len - received_at;
	size_t len = left < (size_t)size ? left : (size_t)size;

	BIO_clear_retry_flags(bio);
	if (len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(buf, received + received_at, len);
	received_at += len;
	return (int)len;
}

static int wire_write(BIO *bio, const char *bytes, int size)
{
	BIO_clear_retry_flags(bio);
	if ((size_t)size > sizeof(sent) - sent_len)
		return -1; /* more pipelining than a benchmark does: the connection ends */
	memcpy(sent + sent_len, bytes, (size_t)size);
	sent_len += (size_t)size;
	return size;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD wire_method = {
	.type = BIO_TYPE_NONE,
	.name = "floor",
	.bwrite = wire_write,
	.bread = wire_read,
	.ctrl = wire_control,
};

static void connection_free(struct connection *connection)
{
	SSL_free(connection->ssl);
	close(connection->descriptor);
	free(connection);
}

static unsigned int requests_in(struct connection *connection, const char *bytes, size_t len)
{
	static const char end[] = "\r\n\r\n";
	unsigned int count = 0, matched = connection->matched;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == end[matched])
			matched++;
		else
			matched = bytes[i] == '\r';
		if (matched == 4) {
			count++;
			matched = 0;
		}
	}
	connection->matched = matched;
	return count;
}

/* Whether the connection goes on. */
static bool is_served(struct connection *connection)
{
	SSL *ssl = connection->ssl;
	int len;

	if (!SSL_is_init_finished(ssl)) {
		int outcome = SSL_accept(ssl);

		if (outcome != 1)
			return SSL_get_error(ssl, outcome) == SSL_ERROR_WANT_READ;
	}
	while ((len = SSL_read(ssl, plain, sizeof(plain))) > 0) {
		unsigned int count = requests_in(connection, plain, (size_t)len);

		while (count-- > 0)
			if (SSL_write(ssl, answer, (int)answer_len) != (int)answer_len)
				return false;
	}
	return SSL_get_error(ssl, len) == SSL_ERROR_WANT_READ;
}

/* Whether the connection goes on. is_ending: its FIN is known, and will not be reported again. */
static bool is_turn_done(struct connection *connection, bool is_ending)
{
	ssize_t len;
	bool is_open;

	do {
		len = recv(connection->descriptor, received, sizeof(received), 0);
		if (len <= 0)
			return len < 0 && errno == EAGAIN;
		received_at = 0;
		received_len = (size_t)len;
		sent_len = 0;
		is_open = is_served(connection);
		if (sent_len &&
		    send(connection->descriptor, sent, sent_len, MSG_NOSIGNAL) != (ssize_t)sent_len)
			return false;
	} while (is_open && (is_ending || len == (ssize_t)sizeof(received)));
	return is_open;
}

static void accept_some(int epoll, int listener, SSL_CTX *library)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *connection;
		struct epoll_event event;
		BIO *bio;

		if (descriptor < 0)
			return;
		connection = calloc(1, sizeof(*connection));
		bio = BIO_new(&wire_method);
		bench_must(connection && bio, "memory");
		connection->descriptor = descriptor;
		connection->ssl = SSL_new(library);
		bench_must(connection->ssl, "SSL_new");
		BIO_set_init(bio, 1);
		SSL_set_bio(connection->ssl, bio, bio);
		SSL_set_accept_state(connection->ssl);
		SSL_set_shed_handshake_config(connection->ssl, 1);
		event = (struct epoll_event){ .events = EPOLLIN | EPOLLRDHUP | EPOLLET,
					      .data.ptr = connection };
		bench_must(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll_ctl");
	}
}

static int listener_open(const char *port)
{
	struct sockaddr_in address = bench_address(port);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	bench_must(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
	bench_must(listen(listener, 4096) == 0, "listen");
	return listener;
}

static SSL_CTX *library_new(const char *certificate, const char *key)
{
	SSL_CTX *library = SSL_CTX_new(TLS_method());

	bench_must(library, "SSL_CTX_new");
	bench_must(SSL_CTX_set_min_proto_version(library, TLS1_3_VERSION), "TLS 1.3");
	bench_must(SSL_CTX_set1_groups_list(library, BENCH_GROUPS), "groups");
	bench_must(SSL_CTX_use_certificate_chain_file(library, certificate) == 1, certificate);
	bench_must(SSL_CTX_use_PrivateKey_file(library, key, SSL_FILETYPE_PEM) == 1, key);
	SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(library, 1);
	return library;
}

int main(int count, char **arguments)
{
	struct epoll_event events[EVENTS];
	int listener, epoll;
	SSL_CTX *library;

	if (count != 4) {
		fputs("usage: floor PORT CERT KEY\n", stderr);
		return 2;
	}
	library = library_new(arguments[2], arguments[3]);
	listener = listener_open(arguments[1]);
	answer_len = bench_answer(answer, sizeof(answer));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	events[0] = (struct epoll_event){ .events = EPOLLIN };
	bench_must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &events[0]) == 0, "epoll_ctl");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int ready = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < ready; i++) {
			struct connection *connection = events[i].data.ptr;

			if (!connection)
				accept_some(epoll, listener, library);
			else if (!is_turn_done(connection, events[i].events & EPOLLRDHUP))
				connection_free(connection);
		}
	}
}
