#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "play_internal.h"

struct os_address play_address(uint16_t port)
{
	struct os_address address = { .family = OS_FAMILY_V4, .port = port };

	memcpy(address.ip, "\x7f\0\0\1", 4);
	return address;
}

/* ---- Clients ----------------------------------------------------------------------------------- */

struct play_client *play_client(struct play *play, const char *name)
{
	struct play_client *client = NULL;
	struct os_address to;

	for (size_t i = 0; i < play->client_count; i++)
		if (strcmp(play->clients[i].name, name) == 0)
			return &play->clients[i];
	for (size_t i = 0; i < play->client_count; i++)
		if (!play->clients[i].name[0])
			client = &play->clients[i];
	if (!client) {
		MUST(play->client_count < PLAY_CLIENTS_MAX);
		client = &play->clients[play->client_count++];
	}
	*client = (struct play_client){ .is_tls = strncmp(name, "tls", 3) == 0 };
	snprintf(client->name, sizeof(client->name), "%s", name);
	client->in = malloc(PLAY_BUFFER);
	to = play_address(client->is_tls ? 8443 : 8080);
	client->end = sim_connect(&to, NULL);
	client->is_over = !client->end;
	if (client->is_tls) {
		static SSL_CTX *library;

		if (!library)
			library = SSL_CTX_new(TLS_method());
		client->ssl = SSL_new(library);
		SSL_set_bio(client->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		BIO_set_mem_eof_return(SSL_get_rbio(client->ssl), -1);
		SSL_set_tlsext_host_name(client->ssl, "localhost");
		SSL_set_connect_state(client->ssl);
	}
	return client;
}

void play_drop(struct play_client *client)
{
	sim_let_go(client->end);
	SSL_free(client->ssl);
	free(client->in);
	free(client->out);
	*client = (struct play_client){ .name = "" };
}

void play_send(struct play *play, struct play_client *client, struct span text)
{
	(void)play;
	if (client->out_len + text.len > client->out_capacity) {
		client->out_capacity = 2 * (client->out_len + text.len);
		client->out = realloc(client->out, client->out_capacity);
	}
	memcpy(client->out + client->out_len, text.ptr, text.len);
	client->out_len += text.len;
}

void play_drop_all(struct play *play)
{
	for (size_t i = 0; i < play->client_count; i++)
		if (play->clients[i].name[0])
			play_drop(&play->clients[i]);
}

static void out_take(struct play_client *client, size_t len)
{
	memmove(client->out, client->out + len, client->out_len - len);
	client->out_len -= len;
}

static void over(struct play_client *client, ssize_t why)
{
	client->is_over = true;
	client->was_reset |= why < 0;
}

static void receive_plain(struct play_client *client)
{
	ssize_t len = 0;

	while (client->in_len < PLAY_BUFFER &&
	       (len = sim_receive(client->end, client->in + client->in_len,
				  PLAY_BUFFER - client->in_len)) > 0)
		client->in_len += (size_t)len;
	if (client->in_len < PLAY_BUFFER && len != -EAGAIN)
		over(client, len);
}

static void poll_plain(struct play_client *client)
{
	if (client->out_len) {
		ssize_t len = sim_send(client->end, client->out, client->out_len);

		if (len > 0)
			out_take(client, (size_t)len);
		else if (len != -EAGAIN)
			client->out_len = 0; /* what came before is still read */
	}
	receive_plain(client);
}

/* What the connection does not take stays with the library. */
static void send_sealed(struct play_client *client)
{
	BIO *sealed = SSL_get_wbio(client->ssl);
	const uint8_t *out;
	char gone[4096];
	size_t len;

	while (BIO_mem_contents(sealed, &out, &len) == 1 && len) {
		ssize_t sent = sim_send(client->end, out, len < sizeof(gone) ? len : sizeof(gone));

		if (sent <= 0)
			break;
		MUST(BIO_read(sealed, gone, (int)sent) == (int)sent);
	}
}

static void poll_tls(struct play_client *client)
{
	char bytes[16384];
	ssize_t len;
	int count;

	while (!client->is_over &&
	       (len = sim_receive(client->end, bytes, sizeof(bytes))) != -EAGAIN) {
		if (len <= 0)
			over(client, len);
		else
			MUST(BIO_write(SSL_get_rbio(client->ssl), bytes, (int)len) == (int)len);
	}
	if (SSL_do_handshake(client->ssl) == 1) {
		while (client->in_len < PLAY_BUFFER &&
		       (count = SSL_read(client->ssl, client->in + client->in_len,
					 (int)(PLAY_BUFFER - client->in_len))) > 0)
			client->in_len += (size_t)count;
		if (client->out_len &&
		    (count = SSL_write(client->ssl, client->out,
				       client->out_len < 16000 ? (int)client->out_len : 16000)) > 0)
			out_take(client, (size_t)count);
	}
	send_sealed(client);
	ERR_clear_error();
}

void play_poll_client(struct play_client *client)
{
	if (!client->end || client->is_over || client->is_slow)
		return;
	if (client->is_tls)
		poll_tls(client);
	else
		poll_plain(client);
}

int play_answer(const struct play_client *client, struct span *ret_body, size_t *ret_len)
{
	struct span text = span_of(client->in, client->in_len), head, rest;
	size_t end = span_find(text, SPAN("\r\n\r\n")), at;
	uint64_t status, len = 0;

	if (end == text.len)
		return 0;
	head = span_first(text, end);
	MUST(span_starts_with(head, SPAN("HTTP/1.1 ")) &&
	     parse_u64(span_first(span_skip(head, 9), 3), 999, &status));
	at = span_find(head, SPAN("Content-Length: "));
	if (at == head.len)
		at = span_find(head, SPAN("content-length: "));
	if (at < head.len) {
		rest = span_skip(head, at + 16);
		MUST(parse_u64(span_first(rest, span_find_byte(rest, '\r')), PLAY_BUFFER, &len));
	}
	if (client->in_len < end + 4 + len)
		return 0;
	*ret_body = span_first(span_skip(text, end + 4), len);
	*ret_len = end + 4 + len;
	return (int)status;
}

void play_answer_done(struct play_client *client, size_t len)
{
	memmove(client->in, client->in + len, client->in_len - len);
	client->in_len -= len;
	client->answers++;
}

/* ---- The origin -------------------------------------------------------------------------------- */

void play_origin_drop(struct play_origin_connection *connection)
{
	sim_let_go(connection->end);
	free(connection->in);
	free(connection->out);
	*connection = (struct play_origin_connection){ .end = NULL };
}

/* How long the request at the start is, body included; 0: not whole. Its body's length and sum. */
static size_t request_len(struct span text, size_t *ret_body, uint32_t *ret_sum)
{
	size_t end = span_find(text, SPAN("\r\n\r\n")), at;
	struct span head, rest;
	uint64_t len = 0;

	if (end == text.len)
		return 0;
	head = span_first(text, end);
	at = span_find(head, SPAN("ontent-Length: "));
	if (at == head.len)
		at = span_find(head, SPAN("ontent-length: "));
	*ret_sum = 0;
	*ret_body = 0;
	if (span_find(head, SPAN("chunked")) < head.len) {
		rest = span_skip(text, end + 4);
		for (;;) {
			size_t line = span_find(rest, SPAN("\r\n"));

			if (line == rest.len)
				return 0;
			MUST(parse_hex_u64(span_first(rest, line), UINT32_MAX, &len));
			if (rest.len < line + 4 + len)
				return 0;
			for (size_t i = 0; i < len; i++)
				*ret_sum = *ret_sum * 31 + (uint8_t)rest.ptr[line + 2 + i];
			*ret_body += len;
			rest = span_skip(rest, line + 4 + len);
			if (!len)
				return text.len - rest.len;
		}
	}
	if (at < head.len) {
		rest = span_skip(head, at + 15);
		MUST(parse_u64(span_first(rest, span_find_byte(rest, '\r')), PLAY_BUFFER, &len));
	}
	if (text.len < end + 4 + len)
		return 0;
	for (size_t i = 0; i < len; i++)
		*ret_sum = *ret_sum * 31 + (uint8_t)text.ptr[end + 4 + i];
	*ret_body = len;
	return end + 4 + len;
}

/* `GET /app/x?40000` is answered with 40,000 bytes behind the echo. */
static void origin_answer(struct play *play, struct play_origin_connection *connection, size_t len,
			  size_t body, uint32_t sum)
{
	struct span line = span_of(connection->in, len), query;
	char echo[512];
	uint64_t more = 0;
	int echo_len, head_len;

	line = span_first(line, span_find(line, SPAN(" HTTP/1.1")));
	query = span_skip(line, span_find_byte(line, '?') + 1);
	(void)parse_u64(query, PLAY_BUFFER / 2, &more);
	echo_len = snprintf(echo, sizeof(echo), "%.*s %zu %u;", SPAN_ARG(span_first(line, 400)),
			    body, sum);
	connection->out = malloc(1024 + more);
	head_len =
		snprintf(connection->out, 1024, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
			 (size_t)echo_len + more, echo);
	memset(connection->out + head_len, 'm', more);
	connection->out_len = (size_t)head_len + more;
	connection->out_at = 0;
	play->origin_requests++;
}

static void poll_origin_connection(struct play *play, struct play_origin_connection *connection)
{
	size_t body, whole;
	uint32_t sum;
	ssize_t len;

	if (connection->out) {
		len = sim_send(connection->end, connection->out + connection->out_at,
			       connection->out_len - connection->out_at);
		if (len > 0)
			connection->out_at += (size_t)len;
		else if (len != -EAGAIN)
			connection->out_at = connection->out_len;
		if (connection->out_at < connection->out_len)
			return;
		free(TAKE(connection->out));
	}
	len = sim_receive(connection->end, connection->in + connection->in_len,
			  PLAY_BUFFER - connection->in_len);
	if (len == 0 || (len < 0 && len != -EAGAIN)) {
		play_origin_drop(connection);
		return;
	}
	if (len > 0)
		connection->in_len += (size_t)len;
	whole = request_len(span_of(connection->in, connection->in_len), &body, &sum);
	if (!whole || play->origin_mode == ORIGIN_SILENT)
		return;
	if (play->origin_mode != ORIGIN_ANSWERS) {
		if (play->origin_mode == ORIGIN_RESETS)
			sim_reset(TAKE(connection->end));
		play_origin_drop(connection);
		return;
	}
	origin_answer(play, connection, whole, body, sum);
	memmove(connection->in, connection->in + whole, connection->in_len - whole);
	connection->in_len -= whole;
}

void play_poll_origin(struct play *play)
{
	struct sim_file *end;

	while (play->origin && (end = sim_accept(play->origin))) {
		struct play_origin_connection *free_one = NULL;

		for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
			if (!play->origins[i].end)
				free_one = &play->origins[i];
		MUST(free_one);
		*free_one =
			(struct play_origin_connection){ .end = end, .in = malloc(PLAY_BUFFER) };
	}
	for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
		if (play->origins[i].end)
			poll_origin_connection(play, &play->origins[i]);
}
