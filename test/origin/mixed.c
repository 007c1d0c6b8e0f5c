/* The clients of the mixed run: every mode of the misbehaving origin at once, and each answer must be its own.
 *
 *   mixed MODES.TXT PLAIN_PORT TLS_PORT REQUESTS CLIENTS SEED
 *
 * Each client is a thread with a connection at a time. One in ten requests is left at a random byte, one in ten goes
 * out in a batch; an eighth of the clients speaks TLS. Hosts are `localhost` and `tls.localhost`, the same modes
 * behind TLS. A token is in the path, in each byte of both bodies and in fields of the answer, so a byte that belongs
 * to somebody else is seen where it stands. What went wrong is printed with seed, mode and token (`FAILED …`), and
 * the exit code is 1. The last line counts. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

#include "origin.h"

enum {
	SAFETY_SECONDS = 60,
	BUFFER = 64 * 1024,
	BATCH_MAX = 6,
	BODY_MAX = 100 * 1024,
	FAILURES_MAX = 20,
	THREAD_STACK = 256 * 1024,
};

enum framing { WITHOUT_BODY, WITH_LENGTH, WITH_CHUNKS };

struct asked {
	const struct mode_row *mode;
	const char *method;
	enum framing framing;
	bool is_one_oh;
	size_t size, body;
	char token[TOKEN_MAX];
};

struct answer {
	int status;
	bool is_last, is_chunked, has_token;
	long long length, got;
	size_t body;               /* bytes that came */
	enum { WHOLE, ENDED } end; /* ENDED: the connection did, within the answer */
};

struct client {
	pthread_t thread;
	unsigned number;
	uint64_t random;
	bool is_tls;
	const char *host;
	int descriptor; /* -1: none */
	SSL *tls;
	bool is_reused;
	size_t start, end;
	char in[BUFFER];
	char *out;
	size_t out_len, out_capacity;
};

static struct {
	struct mode_row modes[MODES_MAX];
	size_t mode_count;
	double weight;
	unsigned short ports[2];
	unsigned long requests, seed;
	SSL_CTX *library;
	atomic_ulong next, answered, whole, cut, pages, left, batched, reused;
	atomic_uint failures;
} run;

/* ---- Chance -------------------------------------------------------------------------------------------------- */

static uint64_t random_next(struct client *client) /* splitmix64 */
{
	uint64_t value = client->random += 0x9e3779b97f4a7c15;

	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
	value = (value ^ value >> 27) * 0x94d049bb133111eb;
	return value ^ value >> 31;
}

static size_t below(struct client *client, size_t bound)
{
	return (size_t)(random_next(client) % bound);
}

/* Mostly small, now and then a large one. */
static size_t random_size(struct client *client, size_t max)
{
	size_t bound = max >> below(client, 10);

	return below(client, bound ? bound : 1);
}

static const struct mode_row *random_mode(struct client *client)
{
	double at = (double)(random_next(client) >> 11) / (double)(1ULL << 53) * run.weight;

	for (size_t i = 0; i < run.mode_count; i++) {
		at -= run.modes[i].weight;
		if (at < 0)
			return &run.modes[i];
	}
	return &run.modes[0];
}

static void failed(const struct client *client, const struct asked *asked, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void failed(const struct client *client, const struct asked *asked, const char *format, ...)
{
	va_list arguments;
	char what[512];

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	if (atomic_fetch_add(&run.failures, 1) < FAILURES_MAX) {
		printf("FAILED seed %lu client %u%s: %s %s%s of %s (%zu down, %zu up%s): %s\n",
		       run.seed, client->number, client->is_tls ? " (TLS)" : "", asked->method,
		       asked->mode->name, asked->is_one_oh ? " (1.0)" : "", asked->token,
		       asked->size, asked->body, asked->framing == WITH_CHUNKS ? " in chunks" : "",
		       what);
		fflush(stdout);
	}
}

/* ---- Connection -------------------------------------------------------------------------------------------------- */

static void disconnect(struct client *client, bool is_reset)
{
	static const struct linger none = { .l_onoff = 1 };

	if (client->descriptor < 0)
		return;
	if (is_reset)
		setsockopt(client->descriptor, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	SSL_free(client->tls);
	client->tls = NULL;
	close(client->descriptor);
	client->descriptor = -1;
}

static bool reconnect(struct client *client)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(run.ports[client->is_tls]),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval safety = { .tv_sec = SAFETY_SECONDS };
	int on = 1;

	client->start = client->end = 0;
	client->is_reused = false;
	client->host = below(client, 8) ? "localhost" : "tls.localhost";
	client->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->descriptor < 0 ||
	    connect(client->descriptor, (struct sockaddr *)&address, sizeof(address)))
		return false;
	setsockopt(client->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(client->descriptor, SOL_SOCKET, SO_RCVTIMEO, &safety, sizeof(safety));
	setsockopt(client->descriptor, SOL_SOCKET, SO_SNDTIMEO, &safety, sizeof(safety));
	if (!client->is_tls)
		return true;
	client->tls = SSL_new(run.library);
	return client->tls && SSL_set_fd(client->tls, client->descriptor) &&
	       SSL_set_tlsext_host_name(client->tls, client->host) && SSL_connect(client->tls) == 1;
}

static bool client_send(struct client *client, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = client->tls ? SSL_write(client->tls, bytes, (int)len)
					: send(client->descriptor, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* 1; 0 at an orderly end; -1 at any other; -2 when nothing comes any more. */
static int client_fill(struct client *client)
{
	ssize_t n;

	if (client->start == client->end)
		client->start = client->end = 0;
	if (client->start && client->end == BUFFER) {
		memmove(client->in, client->in + client->start, client->end - client->start);
		client->end -= client->start;
		client->start = 0;
	}
	if (client->end == BUFFER)
		return -1;
	if (client->tls) {
		n = SSL_read(client->tls, client->in + client->end, (int)(BUFFER - client->end));
		if (n <= 0) {
			int error = SSL_get_error(client->tls, (int)n);

			return error == SSL_ERROR_ZERO_RETURN ? 0
			       : error == SSL_ERROR_WANT_READ ? -2
							      : -1;
		}
	} else {
		n = recv(client->descriptor, client->in + client->end, BUFFER - client->end, 0);
		if (n <= 0)
			return n == 0 ? 0 : errno == EAGAIN ? -2 : -1;
	}
	client->end += (size_t)n;
	return 1;
}

/* ---- Requests -------------------------------------------------------------------------------------------------------- */

static char *out_room(struct client *client, size_t len)
{
	if (client->out_len + len > client->out_capacity) {
		client->out_capacity = (client->out_len + len) * 2;
		client->out = realloc(client->out, client->out_capacity);
		if (!client->out)
			abort();
	}
	client->out_len += len;
	return client->out + client->out_len - len;
}

static void out_text(struct client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void out_text(struct client *client, const char *format, ...)
{
	char text[512];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	memcpy(out_room(client, (size_t)len), text, (size_t)len);
}

static void out_body(struct client *client, const struct asked *asked, size_t from, size_t len)
{
	size_t token_len = strlen(asked->token);
	char *out = out_room(client, len);

	for (size_t i = 0; i < len; i++)
		out[i] = token_byte(asked->token, token_len, from + i);
}

static void choose(struct client *client, struct asked *asked, unsigned long number, bool is_batch)
{
	const char *methods;

	asked->mode = random_mode(client);
	methods = asked->mode->methods;
	asked->method = strcmp(methods, "*") ? methods : below(client, 3) == 0 ? "POST" : "GET";
	asked->is_one_oh = !is_batch && below(client, 16) == 0;
	asked->framing = strcmp(asked->method, "POST")           ? WITHOUT_BODY
			 : !asked->is_one_oh && below(client, 2) ? WITH_CHUNKS
								 : WITH_LENGTH;
	asked->size = random_size(client, is_batch ? 8192 : BODY_MAX);
	/* Closed with a request unread, the reset overtakes what is not on its way yet of a long answer. */
	if (strncmp(asked->mode->name, "early-", 6) == 0)
		asked->size %= 4096;
	asked->body = asked->framing == WITHOUT_BODY
			      ? 0
			      : random_size(client, is_batch ? 8192 : BODY_MAX);
	snprintf(asked->token, sizeof(asked->token), "%lx.%lx.%x", run.seed, number,
		 (unsigned)below(client, 1u << 16));
}

static void out_request(struct client *client, const struct asked *asked)
{
	out_text(client, "%s /%s/%s/%zu HTTP/1.%d\r\nHost: %s\r\n", asked->method,
		 asked->mode->name, asked->token, asked->size, !asked->is_one_oh, client->host);
	if (asked->is_one_oh && below(client, 2))
		out_text(client, "Connection: keep-alive\r\n");
	if (asked->framing == WITH_LENGTH) {
		out_text(client, "Content-Length: %zu\r\n\r\n", asked->body);
		out_body(client, asked, 0, asked->body);
	} else if (asked->framing == WITH_CHUNKS) {
		out_text(client, "Transfer-Encoding: chunked\r\n\r\n");
		for (size_t at = 0; at < asked->body;) {
			size_t n = 1 + below(client, asked->body - at);

			out_text(client, "%zx\r\n", n);
			out_body(client, asked, at, n);
			out_text(client, "\r\n");
			at += n;
		}
		out_text(client, "0\r\n\r\n");
	} else {
		out_text(client, "\r\n");
	}
}

/* ---- Answers ------------------------------------------------------------------------------------------------------------ */

/* The next line without its end, or NULL: *answer says that the connection ended. */
static char *take_line(struct client *client, struct answer *answer, const struct asked *asked)
{
	for (;;) {
		char *start = client->in + client->start;
		char *end = memmem(start, client->end - client->start, "\r\n", 2);
		int filled;

		if (end) {
			*end = '\0';
			client->start = (size_t)(end - client->in) + 2;
			return start;
		}
		filled = client_fill(client);
		if (filled == -2)
			failed(client, asked, "nothing came for %d s", SAFETY_SECONDS);
		if (filled <= 0) {
			answer->end = ENDED;
			return NULL;
		}
	}
}

static bool is_own(const struct client *client, const struct asked *asked, const char *field,
		   const char *value)
{
	if (strcmp(value, asked->token) == 0)
		return true;
	failed(client, asked, "FOREIGN field %s: %s", field, value);
	return false;
}

static bool take_field(struct client *client, struct answer *answer, const struct asked *asked,
		       const char *line)
{
	if (strncasecmp(line, "X-Token: ", 9) == 0) {
		answer->has_token = true;
		return is_own(client, asked, "X-Token", line + 9);
	}
	if (strncasecmp(line, "X-Interim: ", 11) == 0)
		return is_own(client, asked, "X-Interim", line + 11);
	if (strncasecmp(line, "X-Got: ", 7) == 0)
		answer->got = strtoll(line + 7, NULL, 10);
	else if (strncasecmp(line, "Content-Length: ", 16) == 0)
		answer->length = strtoll(line + 16, NULL, 10);
	else if (strcasecmp(line, "Transfer-Encoding: chunked") == 0)
		answer->is_chunked = true;
	else if (strcasecmp(line, "Connection: close") == 0)
		answer->is_last = true;
	return true;
}

static bool take_head(struct client *client, struct answer *answer, const struct asked *asked)
{
	do {
		char *line = take_line(client, answer, asked);

		if (!line)
			return false;
		*answer = (struct answer){ .length = -1 };
		if (sscanf(line, "HTTP/1.1 %3d ", &answer->status) != 1) {
			failed(client, asked, "no status line: %.80s", line);
			return false;
		}
		while ((line = take_line(client, answer, asked)) && *line) {
			if (!take_field(client, answer, asked, line))
				return false;
		}
		if (!line)
			return false;
	} while (answer->status < 200);
	return true;
}

/* Body bytes, each of which must be the token's where the origin answered. */
static bool take_bytes(struct client *client, struct answer *answer, const struct asked *asked,
		       size_t len)
{
	size_t token_len = strlen(asked->token);

	while (len) {
		size_t here = client->end - client->start;

		if (!here) {
			int filled = client_fill(client);

			if (filled == -2)
				failed(client, asked, "the body stalls");
			if (filled <= 0) {
				/* Without a length an orderly end is the body's. */
				answer->end = len == SIZE_MAX && filled == 0 ? WHOLE : ENDED;
				return false;
			}
			continue;
		}
		if (here > len)
			here = len;
		for (size_t i = 0; i < here && answer->has_token; i++) {
			if (client->in[client->start + i] ==
			    token_byte(asked->token, token_len, answer->body + i))
				continue;
			failed(client, asked, "FOREIGN byte at %zu: %.40s", answer->body + i,
			       client->in + client->start + i);
			return false;
		}
		client->start += here;
		answer->body += here;
		len -= len == SIZE_MAX ? 0 : here;
	}
	return true;
}

static void take_chunks(struct client *client, struct answer *answer, const struct asked *asked)
{
	size_t size;

	do {
		char *line = take_line(client, answer, asked);

		if (!line)
			return;
		size = (size_t)strtoull(line, NULL, 16);
		if (size && !take_bytes(client, answer, asked, size))
			return;
		while ((line = take_line(client, answer, asked)) && *line && !size)
			;
		if (!line)
			return;
		if (*line) {
			failed(client, asked, "no end of a chunk: %.40s", line);
			return;
		}
	} while (size);
}

static void take_answer(struct client *client, struct answer *answer, const struct asked *asked)
{
	*answer = (struct answer){ .length = -1 };
	if (!take_head(client, answer, asked))
		return;
	if (strcmp(asked->method, "HEAD") == 0 || answer->status == 204 || answer->status == 304)
		return;
	if (answer->is_chunked) {
		take_chunks(client, answer, asked);
	} else if (answer->length >= 0) {
		take_bytes(client, answer, asked, (size_t)answer->length);
	} else if (!answer->is_last) {
		failed(client, asked, "neither a length nor an end");
	} else {
		take_bytes(client, answer, asked, SIZE_MAX);
	}
}

static bool is_status_allowed(const struct asked *asked, int status)
{
	const char *allowed = asked->mode->status, *other = strchr(allowed, '|');

	return atoi(allowed) == status || (other && atoi(other + 1) == status);
}

static void judge(struct client *client, const struct answer *answer, const struct asked *asked)
{
	const char *body = asked->mode->body;
	bool is_early = strncmp(asked->mode->name, "early-", 6) == 0;
	bool is_bodiless = strcmp(asked->method, "HEAD") == 0 || strcmp(body, "none") == 0;

	atomic_fetch_add(&run.answered, 1);
	if (answer->status && !is_status_allowed(asked, answer->status)) {
		failed(client, asked, "status %d", answer->status);
	} else if (strcmp(body, "cut") == 0) {
		atomic_fetch_add(&run.cut, 1);
		if (answer->end != ENDED)
			failed(client, asked, "a cut body looks whole: %zu bytes", answer->body);
	} else if (answer->end != WHOLE) {
		failed(client, asked, "status %d, then the end after %zu bytes%s", answer->status,
		       answer->body, client->is_reused ? " (reused)" : "");
	} else if (answer->status >= 500) {
		atomic_fetch_add(&run.pages, 1);
		if (answer->has_token)
			failed(client, asked, "an origin's page");
	} else if (!answer->has_token) {
		failed(client, asked, "no token");
	} else {
		atomic_fetch_add(&run.whole, 1);
		if (answer->body != (is_bodiless ? 0 : asked->size))
			failed(client, asked, "%zu bytes of body", answer->body);
		else if (!is_early && answer->got != (long long)asked->body)
			failed(client, asked, "the origin got %lld bytes", answer->got);
	}
}

/* ---- Clients ---------------------------------------------------------------------------------------------------------------- */

/* Sends a part of what it wanted to, or reads a part of what comes, and goes. */
static void leave(struct client *client)
{
	bool is_early = below(client, 2);
	size_t len = is_early ? below(client, client->out_len) : client->out_len;
	struct timeval patience = { .tv_usec = 20000 };

	setsockopt(client->descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	atomic_fetch_add(&run.left, 1);
	if (client_send(client, client->out, len) && !is_early) {
		size_t wanted = random_size(client, BUFFER / 2);

		while (client->end < wanted && client_fill(client) > 0)
			;
	}
	disconnect(client, below(client, 2));
}

static void ask(struct client *client, const struct asked *asked, size_t count)
{
	bool is_sent = client_send(client, client->out, client->out_len);

	for (size_t i = 0; i < count; i++) {
		struct answer answer;

		take_answer(client, &answer, &asked[i]);
		judge(client, &answer, &asked[i]);
		if (answer.end == ENDED || answer.is_last || !is_sent) {
			if (answer.end == WHOLE && answer.is_last && client_fill(client) > 0)
				failed(client, &asked[i], "bytes behind the last answer");
			disconnect(client, false);
			return;
		}
		client->is_reused = true;
	}
	if (client->start < client->end) {
		failed(client, &asked[count - 1], "more than was asked for: %.60s",
		       client->in + client->start);
		disconnect(client, false);
	}
}

static void *client_run(void *argument)
{
	struct client *client = argument;

	for (;;) {
		struct asked asked[BATCH_MAX];
		/* One in ten requests, not one in ten batches. */
		bool is_batch = below(client, 36) == 0;
		size_t count = is_batch ? 2 + below(client, BATCH_MAX - 1) : 1;
		unsigned long number = atomic_fetch_add(&run.next, count);

		if (number >= run.requests || atomic_load(&run.failures) >= FAILURES_MAX)
			break;
		if (client->descriptor < 0 && !reconnect(client)) {
			struct asked nothing = { .mode = &run.modes[0], .method = "-" };

			failed(client, &nothing, "no connection: %s", strerror(errno));
			disconnect(client, false);
			continue;
		}
		if (client->is_reused)
			atomic_fetch_add(&run.reused, 1);
		client->out_len = 0;
		for (size_t i = 0; i < count; i++) {
			choose(client, &asked[i], number + i, is_batch);
			out_request(client, &asked[i]);
		}
		if (is_batch)
			atomic_fetch_add(&run.batched, count);
		if (below(client, 10) == 0)
			leave(client);
		else
			ask(client, asked, count);
		if (client->descriptor >= 0 && below(client, 64) == 0)
			disconnect(client, false);
	}
	disconnect(client, false);
	free(client->out);
	return NULL;
}

static void clients_run(unsigned count)
{
	struct client *clients = calloc(count, sizeof(*clients));
	pthread_attr_t attributes;

	if (!clients)
		abort();
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	for (unsigned i = 0; i < count; i++) {
		clients[i].number = i;
		clients[i].random = run.seed * 1000003 + i;
		clients[i].is_tls = i % 8 == 7;
		clients[i].descriptor = -1;
		if (pthread_create(&clients[i].thread, &attributes, client_run, &clients[i]))
			abort();
	}
	for (unsigned i = 0; i < count; i++)
		pthread_join(clients[i].thread, NULL);
	free(clients);
}

int main(int count, char **words)
{
	static const unsigned char http1[] = "\x08http/1.1";

	if (count != 7) {
		fprintf(stderr, "mixed MODES.TXT PLAIN_PORT TLS_PORT REQUESTS CLIENTS SEED\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	run.mode_count = modes_read(words[1], run.modes);
	for (size_t i = 0; i < run.mode_count; i++)
		run.weight += run.modes[i].weight;
	run.ports[0] = (unsigned short)atoi(words[2]);
	run.ports[1] = (unsigned short)atoi(words[3]);
	run.requests = strtoul(words[4], NULL, 10);
	run.seed = strtoul(words[6], NULL, 10);
	run.library = SSL_CTX_new(TLS_method());
	if (!run.library || SSL_CTX_set_alpn_protos(run.library, http1, sizeof(http1) - 1))
		return 2;
	clients_run((unsigned)strtoul(words[5], NULL, 10));
	printf("answered %lu whole %lu cut %lu pages %lu left %lu batched %lu reused %lu failed "
	       "%u\n",
	       atomic_load(&run.answered), atomic_load(&run.whole), atomic_load(&run.cut),
	       atomic_load(&run.pages), atomic_load(&run.left), atomic_load(&run.batched),
	       atomic_load(&run.reused), atomic_load(&run.failures));
	return atomic_load(&run.failures) ? 1 : 0;
}
