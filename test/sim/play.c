#include "play.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proc/proc.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { UID = 1000, ANSWER_SECONDS = 120, START_SECONDS = 200, SETTLE_SECONDS = 12 };

#define CONF "/etc/portcullis.conf"
#define HEAD "portcullis 1\nlisten 127.0.0.1:8443\nlisten 127.0.0.1:8080 plain serve\n"
#define BODY "\trespond 200 \"%s\" on /hello\n\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n"

static const struct {
	const char *name, *text;
} texts[] = {
	{ "first", HEAD "site localhost default {\n\trespond 200 \"first\" on /hello\n"
			"\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n}\n" },
	{ "second", HEAD "site localhost default {\n\trespond 200 \"second\" on /hello\n"
			 "\tproxy 127.0.0.1:3000 on /app*\n\tfiles /www\n}\n"
			 "site other.localhost { respond 200 \"other\" }\n" },
	{ "wrong", HEAD "site localhost { responb 200 }\n" },
};

const char *const play_roles[8] = { "run",   "worker", "keyholder", "vault",
				    "files", "dialer", "log",       "check" };

/* ---- Reports ----------------------------------------------------------------------------------- */

NORETURN void play_fail(struct play *play, const char *format, ...)
{
	char text[8192];
	struct writer out = writer_of(text, sizeof(text));
	va_list arguments;

	fprintf(stderr, "\n%s, seed %llu, line %zu: ", play->what ? play->what : "a play",
		(unsigned long long)play->seed, play->line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	sim_describe(&out);
	if (play->script)
		fprintf(stderr, "\n%s", play->script);
	fprintf(stderr, "\n%.*s\n%.*s\n%.*s\n", SPAN_ARG(writer_done(&out)),
		SPAN_ARG(sim_output(2)), SPAN_ARG(sim_output(1)));
	abort();
}

/* Where a sanitizer, not a check of ours, ends the program: which case it was. */
static const struct play *playing;

static void on_death(void)
{
	if (playing)
		fprintf(stderr, "\n%s, seed %llu, line %zu\n%s\n%.*s\n",
			playing->what ? playing->what : "a play", (unsigned long long)playing->seed,
			playing->line, playing->script ? playing->script : "",
			SPAN_ARG(sim_output(2)));
}

/* ---- The program ------------------------------------------------------------------------------- */

static int program(void)
{
	struct span role = span_str(os_environment("PORTCULLIS_ROLE"));
	struct proc_supervisor_options options = { .config_path = CONF };

	return role.len ? proc_helper_main(role) : proc_supervisor_main(&options);
}

static struct os_address address(uint16_t port)
{
	struct os_address address = { .family = OS_FAMILY_V4, .port = port };

	memcpy(address.ip, "\x7f\0\0\1", 4);
	return address;
}

static unsigned count_of(struct span text, struct span word)
{
	unsigned count = 0;

	for (size_t at; (at = span_find(text, word)) < text.len; count++)
		text = span_skip(text, at + word.len);
	return count;
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
	to = address(client->is_tls ? 8443 : 8080);
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
	while ((count = BIO_read(SSL_get_wbio(client->ssl), bytes, sizeof(bytes))) > 0)
		for (int sent = 0; sent < count;) {
			len = sim_send(client->end, bytes + sent, (size_t)(count - sent));
			if (len <= 0)
				break; /* the test's requests fit the stream, or nobody reads */
			sent += (int)len;
		}
	ERR_clear_error();
}

static void poll_client(struct play_client *client)
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

static void origin_drop(struct play_origin_connection *connection)
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
		origin_drop(connection);
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
		origin_drop(connection);
		return;
	}
	origin_answer(play, connection, whole, body, sum);
	memmove(connection->in, connection->in + whole, connection->in_len - whole);
	connection->in_len -= whole;
}

static void poll_origin(struct play *play)
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

void play_poll(struct play *play)
{
	for (size_t i = 0; i < play->client_count; i++)
		poll_client(&play->clients[i]);
	poll_origin(play);
	if (play->on_poll)
		play->on_poll(play);
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

struct until {
	struct play *play;
	bool (*is_so)(struct play *play, void *owner);
	void *owner;
};

static bool is_done(void *owner)
{
	struct until *until = owner;

	play_poll(until->play);
	return until->is_so && until->is_so(until->play, until->owner);
}

static bool run_until(struct play *play, bool (*is_so)(struct play *play, void *owner), void *owner,
		      double seconds)
{
	struct until until = { play, is_so, owner };

	return sim_run(is_done, &until, (uint64_t)(seconds * (double)OS_SECOND));
}

void play_wait(struct play *play, double seconds)
{
	(void)run_until(play, NULL, NULL, seconds);
}

void play_settle(struct play *play)
{
	play_wait(play, SETTLE_SECONDS);
}

/* ---- Lines of a script ------------------------------------------------------------------------- */

static bool is_ready(struct play *play, void *owner)
{
	(void)owner;
	/* The last line of a start: both listeners are open. */
	return count_of(sim_output(1), SPAN("ready http://")) > play->readies ||
	       !sim_is_alive(play->supervisor);
}

static void do_start(struct play *play)
{
	play->readies = count_of(sim_output(1), SPAN("ready http://"));
	play->supervisor = sim_spawn("run");
	play->starts++;
	if (run_until(play, is_ready, NULL, START_SECONDS) && sim_is_alive(play->supervisor))
		return;
	if (!play->is_rough ||
	    (sim_is_alive(play->supervisor) && !sim_is_stopped(play->supervisor)))
		play_fail(play, "it did not start");
}

/* A change begins with a check job; it is over a moment after the job is. */
struct reloading {
	bool has_begun;
};

static bool has_compiled(struct play *play, void *owner)
{
	struct reloading *reloading = owner;
	bool is_compiling = sim_pid("check", 0) != 0;

	(void)play;
	reloading->has_begun |= is_compiling;
	return reloading->has_begun && !is_compiling;
}

static void do_reload(struct play *play)
{
	struct reloading reloading = { .has_begun = false };

	sim_signal(play->supervisor, SIGHUP);
	if (!run_until(play, has_compiled, &reloading, 40) && !play->is_rough)
		play_fail(play, "the reload did not end");
	play_wait(play, 1);
}

static void do_file(struct span rest)
{
	char path[256], *text = NULL;
	struct span name;
	uint64_t size = 0;

	MUST(span_cut(&rest, ' ', &name) && name.len < sizeof(path));
	memcpy(path, name.ptr, name.len);
	path[name.len] = 0;
	if (rest.len && rest.ptr[0] == '*' && parse_u64(span_skip(rest, 1), 1 << 24, &size)) {
		text = malloc(size);
		for (size_t i = 0; i < size; i++)
			text[i] = (char)('a' + i % 23);
		rest = span_of(text, size);
	}
	sim_file_put(path, 0644, rest);
	free(text);
}

static void set_origin(struct play *play, struct span mode)
{
	struct os_address at = address(3000);
	static const struct {
		const char *name;
		enum play_origin_mode mode;
	} modes[] = { { "answers", ORIGIN_ANSWERS },
		      { "silent", ORIGIN_SILENT },
		      { "closes", ORIGIN_CLOSES },
		      { "resets", ORIGIN_RESETS } };

	if (span_equal(mode, SPAN("refuses"))) {
		sim_let_go(TAKE(play->origin));
		for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
			if (play->origins[i].end)
				origin_drop(&play->origins[i]);
		return;
	}
	if (!play->origin)
		play->origin = sim_listen(&at);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (span_equal(mode, span_str(modes[i].name)))
			play->origin_mode = modes[i].mode;
}

static bool has_answer(struct play *play, void *owner)
{
	struct play_client *client = owner;
	struct span body;
	size_t len;

	(void)play;
	return client->is_over || play_answer(client, &body, &len);
}

static void expect_answer(struct play *play, struct play_client *client, struct span wanted)
{
	struct span word, body;
	uint64_t status = 0;
	size_t len = 0;
	int got;
	bool has_ended;

	MUST(span_cut(&wanted, ' ', &word));
	has_ended = run_until(play, has_answer, client, ANSWER_SECONDS);
	got = play_answer(client, &body, &len);
	if (!has_ended && !got)
		play_fail(play, "%s waits for ever for its answer", client->name);
	if (span_equal(word, SPAN("end"))) {
		if (!client->is_over && !play->is_rough)
			play_fail(play, "%s: answered with %d instead of an end", client->name,
				  got);
		return;
	}
	MUST(parse_u64(word, 999, &status));
	if (!got || (play->is_rough && got >= 500)) {
		if (!play->is_rough)
			play_fail(play, "%s: the connection ended%s before its answer",
				  client->name, client->was_reset ? " by a reset" : "");
		if (got)
			play_answer_done(client, len);
		return;
	}
	if (got != (int)status ||
	    (wanted.len && !span_equal(wanted, SPAN("*")) && !span_starts_with(body, wanted)))
		play_fail(play, "%s: answer %d with %.*s", client->name, got,
			  SPAN_ARG(span_first(body, 200)));
	play_answer_done(client, len);
}

static void send_text(struct play *play, struct play_client *client, struct span text)
{
	char out[4096];
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		MUST(len + 2 < sizeof(out));
		if (text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == 'n') {
			out[len++] = '\r';
			out[len++] = '\n';
			i++;
		} else {
			out[len++] = text.ptr[i];
		}
	}
	play_send(play, client, span_of(out, len));
}

static void send_bytes(struct play *play, struct play_client *client, struct span count)
{
	uint64_t size = 0;
	char *bytes;

	MUST(parse_u64(count, PLAY_BUFFER, &size));
	bytes = malloc(size);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)('A' + i % 25);
	play_send(play, client, span_of(bytes, size));
	free(bytes);
}

static void client_line(struct play *play, struct span name, struct span rest)
{
	char text[16];
	struct play_client *client;
	size_t mark = 0;

	while (mark < name.len && name.ptr[mark] != '>' && name.ptr[mark] != '<')
		mark++;
	MUST(mark < sizeof(text));
	memcpy(text, name.ptr, mark);
	text[mark] = 0;
	client = play_client(play, text);
	name = span_skip(name, mark);
	if (span_equal(name, SPAN(">")))
		send_text(play, client, rest);
	else if (span_equal(name, SPAN(">>")))
		send_bytes(play, client, rest);
	else if (span_equal(name, SPAN("<")))
		expect_answer(play, client, rest);
	else if (span_equal(rest, SPAN("half")) && client->end)
		sim_half_close(client->end);
	else if (span_equal(rest, SPAN("reset")) && client->end)
		sim_reset(TAKE(client->end));
	else if (span_equal(rest, SPAN("close")))
		play_drop(client);
}

static void do_trail(struct play *play, struct span word)
{
	struct span said = sim_output(1), line, last = SPAN_NONE;
	char wanted[128];

	play_wait(play, 0.1); /* the log lingers */
	said = sim_output(1);
	while (span_cut(&said, '\n', &line))
		if (span_find(line, SPAN("\"end\":")) < line.len)
			last = line;
	snprintf(wanted, sizeof(wanted), "\"end\":\"%.*s\"}", SPAN_ARG(word));
	if (!span_ends_with(last, span_str(wanted)))
		play_fail(play, "the trail is %.*s", SPAN_ARG(last));
}

static bool is_silent(struct play *play, void *owner)
{
	(void)play;
	(void)owner;
	return sim_processes() == 0;
}

static void do_stop(struct play *play)
{
	sim_signal(play->supervisor, SIGTERM);
	if (!run_until(play, is_silent, NULL, 60))
		play_fail(play, "it did not stop");
	if (sim_exit_code(play->supervisor))
		play_fail(play, "it stopped with %d", sim_exit_code(play->supervisor));
}

static void signal_role(struct play *play, struct span role, int number)
{
	char name[32];
	int pid;

	MUST(role.len < sizeof(name));
	memcpy(name, role.ptr, role.len);
	name[role.len] = 0;
	pid = sim_pid(name, 0);
	if (!pid)
		play_fail(play, "there is no %s", name);
	sim_signal(pid, number);
}

static void set_conf(struct play *play, struct span name)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (span_equal(name, span_str(texts[i].name))) {
			sim_file_put(CONF, 0644, span_str(texts[i].text));
			return;
		}
	}
	play_fail(play, "there is no text %.*s", SPAN_ARG(name));
}

static void run_line(struct play *play, struct span line)
{
	struct span word, rest = line;
	char path[256];

	MUST(span_cut(&rest, ' ', &word));
	if (span_equal(word, SPAN("start")))
		do_start(play);
	else if (span_equal(word, SPAN("conf")))
		set_conf(play, rest);
	else if (span_equal(word, SPAN("reload")))
		do_reload(play);
	else if (span_equal(word, SPAN("file")))
		do_file(rest);
	else if (span_equal(word, SPAN("origin")))
		set_origin(play, rest);
	else if (span_equal(word, SPAN("kill")))
		signal_role(play, rest, SIGKILL);
	else if (span_equal(word, SPAN("stop")) && rest.len)
		signal_role(play, rest, SIGSTOP);
	else if (span_equal(word, SPAN("stop")))
		do_stop(play);
	else if (span_equal(word, SPAN("trail")))
		do_trail(play, rest);
	else if (span_equal(word, SPAN("wait")))
		play_wait(play, strtod(rest.ptr, NULL));
	else if (span_equal(word, SPAN("cold"))) {
		snprintf(path, sizeof(path), "%.*s", SPAN_ARG(rest));
		sim_file_make_cold(path);
	} else
		client_line(play, word, rest);
}

void play_run(struct play *play, const char *script)
{
	struct span rest = span_str(script), line;

	play->line = 0;
	while (span_cut(&rest, '\n', &line)) {
		play->line++;
		line = span_trim(line);
		line = span_first(line, span_find(line, SPAN("# ")));
		if (line.len)
			run_line(play, line);
	}
}

/* ---- Beginning and end ------------------------------------------------------------------------- */

void play_open(struct play *play, uint64_t seed, unsigned cpus, unsigned interrupts)
{
	static const char *const environment[] = { "PORTCULLIS_STATE=/state", NULL };
	struct sim_options options = { .seed = seed,
				       .cpus = cpus,
				       .uid = UID,
				       .interrupts = interrupts,
				       .program = program,
				       .switched = play_library_switched,
				       .environment = environment };

	*play = (struct play){ .seed = seed };
	playing = play;
	sim_open(&options);
	play_run(play, "conf first\norigin answers\n"
		       "file /www/small.txt small document\n"
		       "file /www/large.bin *60000\n"
		       "file /etc/hosts 127.0.0.1 localhost\n"
		       "file /etc/resolv.conf nameserver 127.0.0.1\n"
		       "file /etc/ssl/certs/ca-certificates.crt  \n");
}

void play_close(struct play *play)
{
	play_drop_all(play);
	for (size_t i = 0; i < ARRAY_LEN(play->origins); i++)
		if (play->origins[i].end)
			origin_drop(&play->origins[i]);
	sim_let_go(play->origin);
	playing = NULL;
	sim_close();
}

static void fresh_requests(struct play *play)
{
	play_run(play, "check-a> GET /hello HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 *\n"
		       "tls-b> GET /small.txt HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "tls-b< 200 small document\n"
		       "check-a> GET /app/fresh HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 GET /app/fresh 0 0;\n"
		       "check-a> GET /large.bin HTTP/1.1\\nHost: localhost\\n\\n\n"
		       "check-a< 200 abcdefghijklmnopqrstuvwabc\n"
		       "check-a close\n"
		       "tls-b close\n");
	play_settle(play);
}

void play_take_base(struct play *play, struct play_base *ret_base)
{
	fresh_requests(play);
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++)
		ret_base->descriptors[i] = sim_descriptors(play_roles[i]);
	ret_base->processes = sim_processes();
}

static void check_stopped(void *owner, int pid, const char *role)
{
	if (sim_is_stopped(pid))
		play_fail(owner, "%s still hangs", role);
}

/* The role that has more or fewer than it should; -1: none. */
static int unlike(const struct play_base *base)
{
	for (size_t i = 0; i < ARRAY_LEN(play_roles); i++) {
		size_t now = sim_descriptors(play_roles[i]);
		size_t slack = strcmp(play_roles[i], "worker") == 0 ? base->slack : 0;

		size_t less = strcmp(play_roles[i], "vault") == 0 ? base->less : 0;

		if (now + less < base->descriptors[i] || now > base->descriptors[i] + slack)
			return (int)i;
	}
	return -1;
}

void play_check(struct play *play, const struct play_base *bases, size_t count)
{
	bool was_rough = play->is_rough;

	play->is_rough = false;
	if (sim_processes() != bases->processes)
		play_fail(play, "%zu processes instead of %zu", sim_processes(), bases->processes);
	sim_each(check_stopped, play);
	fresh_requests(play);
	for (size_t i = 0; i < count; i++) {
		int role = unlike(&bases[i]);

		if (role < 0)
			break;
		if (i + 1 == count)
			play_fail(play, "%s has %zu descriptors instead of %zu", play_roles[role],
				  sim_descriptors(play_roles[role]), bases[i].descriptors[role]);
	}
	play->is_rough = was_rough;
}

/* ---- TAP --------------------------------------------------------------------------------------- */

void play_note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("# ");
	vprintf(format, arguments);
	printf("\n");
	va_end(arguments);
}

int play_main(const struct play_test *tests, size_t count)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_set_death_callback(on_death);
#endif
	play_library_start();
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		tests[i].run();
		printf("ok %zu - %s\n", i + 1, tests[i].name);
	}
	return 0;
}
