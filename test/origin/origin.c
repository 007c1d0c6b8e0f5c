#include "origin.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, THREAD_STACK = 256 * 1024 };

static struct {
	SSL_CTX *library;
	bool is_quiet;
	atomic_uint connections, foreign;
} origin;

/* ---- Bytes ------------------------------------------------------------------------------------------------ */

static ssize_t peer_read(struct peer *peer, char *bytes, size_t size)
{
	if (peer->tls)
		return SSL_read(peer->tls, bytes, (int)size);
	return recv(peer->descriptor, bytes, size, 0);
}

static bool peer_write(struct peer *peer, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = peer->tls ? SSL_write(peer->tls, bytes, (int)len)
				      : send(peer->descriptor, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool peer_fill(struct peer *peer)
{
	ssize_t n;

	if (peer->in_start == peer->in_end)
		peer->in_start = peer->in_end = 0;
	if (peer->in_start && peer->in_end == IN_SIZE) {
		memmove(peer->in, peer->in + peer->in_start, peer->in_end - peer->in_start);
		peer->in_end -= peer->in_start;
		peer->in_start = 0;
	}
	if (peer->in_end == IN_SIZE)
		return false;
	n = peer_read(peer, peer->in + peer->in_end, IN_SIZE - peer->in_end);
	if (n <= 0)
		return false;
	peer->in_end += (size_t)n;
	return true;
}

void put_bytes(struct request *request, const void *bytes, size_t len)
{
	struct peer *peer = request->peer;

	if (peer->out_len + len > peer->out_capacity) {
		peer->out_capacity = (peer->out_len + len) * 2;
		peer->out = realloc(peer->out, peer->out_capacity);
		if (!peer->out)
			abort();
	}
	memcpy(peer->out + peer->out_len, bytes, len);
	peer->out_len += len;
}

void put(struct request *request, const char *format, ...)
{
	char text[1024];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (len < 0 || (size_t)len >= sizeof(text))
		abort();
	put_bytes(request, text, (size_t)len);
}

void put_body(struct request *request, size_t from, size_t len)
{
	size_t token_len = strlen(request->token), done = 0;
	char piece[4096];

	while (done < len) {
		size_t n = len - done < sizeof(piece) ? len - done : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = token_byte(request->token, token_len, from + done + i);
		put_bytes(request, piece, n);
		done += n;
	}
}

bool flush(struct request *request)
{
	struct peer *peer = request->peer;
	bool is_sent = peer_write(peer, peer->out, peer->out_len);

	peer->out_len = 0;
	return is_sent;
}

bool is_asked_within(struct peer *peer, int milliseconds)
{
	struct pollfd look = { .fd = peer->descriptor, .events = POLLIN };

	return peer->in_start < peer->in_end || poll(&look, 1, milliseconds) > 0;
}

/* ---- Requests ----------------------------------------------------------------------------------------------- */

static void foreign(const struct request *request, const char *what)
{
	atomic_fetch_add(&origin.foreign, 1);
	printf("foreign %s: %s in /%s/%s/%zu after %llu\n", what, request->method, request->mode,
	       request->token, request->size, request->got);
	fflush(stdout);
}

/* `len` bytes of a request's body, each of them its own. */
static bool take_body(struct request *request, unsigned long long len)
{
	struct peer *peer = request->peer;
	size_t token_len = strlen(request->token);

	while (len) {
		size_t here = peer->in_end - peer->in_start;

		if (!here) {
			if (!peer_fill(peer))
				return false;
			continue;
		}
		if (here > len)
			here = (size_t)len;
		for (size_t i = 0; i < here; i++) {
			if (peer->in[peer->in_start + i] !=
			    token_byte(request->token, token_len, (size_t)request->got + i)) {
				foreign(request, "byte");
				return false;
			}
		}
		peer->in_start += here;
		request->got += here;
		len -= here;
	}
	return true;
}

/* The next line without its end; NULL: there is none. */
static char *take_line(struct peer *peer)
{
	for (;;) {
		char *start = peer->in + peer->in_start;
		char *end = memmem(start, peer->in_end - peer->in_start, "\r\n", 2);

		if (end) {
			*end = '\0';
			peer->in_start = (size_t)(end - peer->in) + 2;
			return start;
		}
		if (!peer_fill(peer))
			return NULL;
	}
}

bool read_body(struct request *request)
{
	if (!request->is_chunked) {
		unsigned long long left = (unsigned long long)request->length - request->got;

		return request->length <= 0 || take_body(request, left);
	}
	for (;;) {
		char *line = take_line(request->peer), *end;
		unsigned long long size;

		if (!line)
			return false;
		size = strtoull(line, &end, 16);
		if (end == line || *end) {
			foreign(request, "chunk");
			return false;
		}
		if (size && !take_body(request, size))
			return false;
		line = take_line(request->peer);
		if (!line || *line) {
			if (line)
				foreign(request, "chunk end");
			return false;
		}
		if (!size) {
			request->is_chunked = false;
			return true;
		}
	}
}

static bool read_head(struct request *request)
{
	char *line = take_line(request->peer);

	if (!line)
		return false;
	if (sscanf(line, "%15s /%31[^/ ]/%63[^/ ]/%zu", request->method, request->mode,
		   request->token, &request->size) != 4) {
		printf("foreign request: %.100s\n", line);
		fflush(stdout);
		atomic_fetch_add(&origin.foreign, 1);
		return false;
	}
	while ((line = take_line(request->peer)) && *line) {
		if (strncasecmp(line, "Content-Length: ", 16) == 0)
			request->length = strtoll(line + 16, NULL, 10);
		else if (strcasecmp(line, "Transfer-Encoding: chunked") == 0)
			request->is_chunked = true;
	}
	return line;
}

/* ---- Connections ---------------------------------------------------------------------------------------------- */

static void peer_end(struct peer *peer, enum after after)
{
	static const struct linger none = { .l_onoff = 1 };
	char unused[4096];

	if (after == SILENCE)
		while (peer_read(peer, unused, sizeof(unused)) > 0)
			;
	if (after == RST)
		setsockopt(peer->descriptor, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	else if (peer->tls)
		SSL_shutdown(peer->tls);
	SSL_free(peer->tls);
	close(peer->descriptor);
	if (!origin.is_quiet) {
		printf("ended %u\n", peer->number);
		fflush(stdout);
	}
	free(peer->out);
	free(peer);
}

static void *peer_serve(void *argument)
{
	struct peer *peer = argument;
	enum after after = KEEP;

	if (peer->tls && SSL_accept(peer->tls) != 1)
		after = FIN;
	while (after == KEEP) {
		struct request request = { .peer = peer, .length = -1 };

		if (!read_head(&request))
			break;
		peer->count++;
		if (!origin.is_quiet) {
			printf("request %u %u %s %s\n", peer->number, peer->count, request.mode,
			       request.token);
			fflush(stdout);
		}
		after = mode_run(&request);
	}
	peer_end(peer, after == KEEP ? FIN : after);
	return NULL;
}

static void peer_start(int descriptor)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	pthread_attr_t attributes;
	pthread_t thread;
	int on = 1;

	if (!peer)
		abort();
	peer->descriptor = descriptor;
	peer->number = atomic_fetch_add(&origin.connections, 1);
	setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (origin.library) {
		peer->tls = SSL_new(origin.library);
		SSL_set_fd(peer->tls, descriptor);
	}
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, peer_serve, peer))
		abort();
	pthread_attr_destroy(&attributes);
}

/* ---- Listeners ------------------------------------------------------------------------------------------------- */

enum listener { MAIN, SPOILED, RESETS, SILENT, LISTENERS };

static int listen_anywhere(unsigned *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(descriptor, BACKLOG) ||
	    getsockname(descriptor, (struct sockaddr *)&address, &len)) {
		perror("listen");
		exit(2);
	}
	*ret_port = ntohs(address.sin_port);
	return descriptor;
}

static void accepted(enum listener listener, int descriptor)
{
	static const struct linger none = { .l_onoff = 1 };

	if (listener == RESETS) {
		setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(descriptor);
	} else if (listener == MAIN || listener == SPOILED) {
		peer_start(descriptor);
	} /* SILENT: nobody ever reads it */
}

static void serve(const struct pollfd *listeners)
{
	struct pollfd polled[LISTENERS + 1];

	memcpy(polled, listeners, sizeof(polled));
	while (poll(polled, LISTENERS + 1, -1) > 0 || errno == EINTR) {
		char unused[256];

		if (polled[LISTENERS].revents && read(STDIN_FILENO, unused, sizeof(unused)) <= 0)
			return;
		for (int i = 0; i < LISTENERS; i++) {
			int descriptor = polled[i].revents
						 ? accept4(polled[i].fd, NULL, NULL, SOCK_CLOEXEC)
						 : -1;

			if (descriptor >= 0)
				accepted(i, descriptor);
		}
	}
}

static void use_tls(const char *certificate, const char *key)
{
	origin.library = SSL_CTX_new(TLS_method());
	if (!origin.library || !SSL_CTX_use_certificate_chain_file(origin.library, certificate) ||
	    !SSL_CTX_use_PrivateKey_file(origin.library, key, SSL_FILETYPE_PEM)) {
		fprintf(stderr, "no such certificate or key: %s, %s\n", certificate, key);
		exit(2);
	}
}

static void check_table(const char *path)
{
	static struct mode_row rows[MODES_MAX];
	size_t count = modes_read(path, rows), here = 0;

	for (size_t i = 0; i < count; i++) {
		bool is_at_accept = strcmp(rows[i].pool, "main") && strcmp(rows[i].pool, "spoiled");

		if (is_at_accept)
			continue;
		here++;
		if (!mode_is_known(rows[i].name)) {
			fprintf(stderr, "%s: nothing does `%s`\n", path, rows[i].name);
			exit(2);
		}
	}
	if (here != mode_count()) {
		fprintf(stderr, "%s: %zu rows for %zu modes\n", path, here, mode_count());
		exit(2);
	}
}

int main(int count, char **words)
{
	struct pollfd listeners[LISTENERS + 1];

	signal(SIGPIPE, SIG_IGN);
	if (count < 2)
		return 2;
	check_table(words[1]);
	for (int i = 2; i < count; i++) {
		if (strcmp(words[i], "--quiet") == 0) {
			origin.is_quiet = true;
		} else if (strcmp(words[i], "--tls") == 0 && i + 2 < count) {
			use_tls(words[i + 1], words[i + 2]);
			i += 2;
		}
	}
	printf("ports");
	for (int i = 0; i < LISTENERS; i++) {
		unsigned port;

		listeners[i] = (struct pollfd){ .fd = listen_anywhere(&port), .events = POLLIN };
		printf(" %u", port);
	}
	printf("\n");
	fflush(stdout);
	listeners[LISTENERS] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	serve(listeners);
	_exit(atomic_load(&origin.foreign) ? 1 : 0);
}
