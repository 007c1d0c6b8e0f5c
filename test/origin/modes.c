/* What each mode does, in its order. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "origin.h"

enum { DRIP_US = 200, CHUNK = 3000, MEBIBYTE = 1 << 20 };

/* ---- What is good of an answer ------------------------------------------------------------------------------ */

static bool is_head(const struct request *request)
{
	return strcmp(request->method, "HEAD") == 0;
}

/* Fields of every answer: whose it is, how much of the request's body came, and over which connection. */
static void put_fields(struct request *request)
{
	put(request, "X-Token: %s\r\nX-Got: %llu\r\nX-Connection: %u\r\n", request->token,
	    request->got, request->peer->number);
}

static void put_head(struct request *request, const char *line, const char *more)
{
	put(request, "%s\r\n", line);
	put_fields(request);
	put(request, "%s\r\n", more);
}

static void put_length_head(struct request *request, const char *line, const char *more)
{
	put(request, "%s\r\n", line);
	put_fields(request);
	put(request, "%sContent-Length: %zu\r\n\r\n", more, request->size);
}

static void put_length_answer(struct request *request, const char *line, const char *more)
{
	put_length_head(request, line, more);
	if (!is_head(request))
		put_body(request, 0, request->size);
}

static const char ok_line[] = "HTTP/1.1 200 OK";

static void put_chunked_head(struct request *request)
{
	put_head(request, ok_line, "Transfer-Encoding: chunked\r\n");
}

static void put_chunks(struct request *request, size_t from, size_t to)
{
	while (from < to) {
		size_t n = to - from < CHUNK ? to - from : CHUNK;

		put(request, "%zx\r\n", n);
		put_body(request, from, n);
		put(request, "\r\n");
		from += n;
	}
}

static enum after sent(struct request *request, enum after after)
{
	return flush(request) ? after : FIN;
}

/* What was put so far goes out byte by byte. */
static bool drip(struct request *request)
{
	struct peer *peer = request->peer;
	size_t len = peer->out_len;
	char *bytes = malloc(len);

	if (!bytes)
		abort();
	memcpy(bytes, peer->out, len);
	peer->out_len = 0;
	for (size_t i = 0; i < len; i++) {
		put_bytes(request, bytes + i, 1);
		if (!flush(request)) {
			free(bytes);
			return false;
		}
		usleep(DRIP_US);
	}
	free(bytes);
	return true;
}

/* ---- What must be served ---------------------------------------------------------------------------------------- */

static enum after do_length(struct request *request)
{
	put_length_answer(request, ok_line, "");
	return sent(request, KEEP);
}

static enum after do_chunked(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put(request, "0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_until_close(struct request *request)
{
	put_head(request, ok_line, "Connection: close\r\n");
	put_body(request, 0, request->size);
	return sent(request, FIN);
}

static enum after do_one_oh_closes(struct request *request)
{
	put_length_answer(request, "HTTP/1.0 200 OK", "");
	return sent(request, FIN);
}

static enum after do_one_oh_kept(struct request *request)
{
	put_length_answer(request, "HTTP/1.0 200 OK", "Connection: keep-alive\r\n");
	return sent(request, KEEP);
}

static enum after do_no_reason(struct request *request)
{
	put_length_answer(request, "HTTP/1.1 200", "");
	return sent(request, KEEP);
}

static enum after do_head_by_bytes(struct request *request)
{
	put_length_head(request, ok_line, "");
	if (!drip(request))
		return FIN;
	put_body(request, 0, request->size);
	return sent(request, KEEP);
}

static enum after do_body_by_bytes(struct request *request)
{
	size_t dripped = request->size < 64 ? request->size : 64;

	put_length_head(request, ok_line, "");
	if (!flush(request))
		return FIN;
	put_body(request, 0, dripped);
	if (!drip(request))
		return FIN;
	put_body(request, dripped, request->size - dripped);
	return sent(request, KEEP);
}

static enum after do_chunk_by_bytes(struct request *request)
{
	size_t dripped = request->size < 8 ? request->size : 8;

	put_chunked_head(request);
	for (size_t i = 0; i < dripped; i++) {
		put(request, "1\r\n");
		put_body(request, i, 1);
		put(request, "\r\n");
		if (!drip(request))
			return FIN;
	}
	put_chunks(request, dripped, request->size);
	if (!flush(request))
		return FIN;
	put(request, "0\r\n\r\n");
	return drip(request) ? KEEP : FIN;
}

static void put_interims(struct request *request, int count, const char *line)
{
	for (int i = 0; i < count; i++)
		put(request, "%s\r\nX-Interim: %s\r\n\r\n", line, request->token);
}

static enum after do_eight_interims(struct request *request)
{
	put_interims(request, 7, "HTTP/1.1 103 Early Hints");
	put_interims(request, 1, "HTTP/1.1 102 Processing");
	return do_length(request);
}

static enum after do_continues_unasked(struct request *request)
{
	put_interims(request, 3, "HTTP/1.1 100 Continue");
	return do_length(request);
}

static enum after do_trailers(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put(request, "0\r\nX-Trailer: %s\r\nX-Another: 1\r\n\r\n", request->token);
	return sent(request, KEEP);
}

static enum after do_slow_trailers(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	if (!flush(request))
		return FIN;
	put(request, "0\r\nX-Trailer: 1\r\n\r\n");
	return drip(request) ? KEEP : FIN;
}

static enum after do_chunk_extensions(struct request *request)
{
	put_chunked_head(request);
	if (request->size) {
		put(request, "%zx;name=value;quoted=\"a;b\"\r\n", request->size);
		put_body(request, 0, request->size);
		put(request, "\r\n");
	}
	put(request, "0;last\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_not_really_gzip(struct request *request)
{
	put_length_answer(request, ok_line, "Content-Encoding: gzip\r\n");
	return sent(request, KEEP);
}

static enum after do_keep_alive_a_second(struct request *request)
{
	put_length_answer(request, ok_line, "Keep-Alive: timeout=1, max=1\r\n");
	return sent(request, KEEP);
}

static enum after do_no_content(struct request *request)
{
	put_head(request, "HTTP/1.1 204 No Content", "");
	return sent(request, KEEP);
}

static enum after do_not_modified(struct request *request)
{
	put_length_head(request, "HTTP/1.1 304 Not Modified", "ETag: \"x\"\r\n");
	return sent(request, KEEP);
}

/* ---- Answers that begin before the request was read ---------------------------------------------------------------- */

static enum after do_early_and_closes(struct request *request)
{
	put_length_answer(request, ok_line, "");
	return sent(request, FIN);
}

static enum after do_early_and_reads_on(struct request *request)
{
	put_length_answer(request, ok_line, "");
	if (!flush(request))
		return FIN;
	return read_body(request) ? KEEP : FIN;
}

static enum after do_early_413(struct request *request)
{
	put_length_answer(request, "HTTP/1.1 413 Too Large", "Connection: close\r\n");
	return sent(request, FIN);
}

/* ---- More than was asked for ------------------------------------------------------------------------------------------ */

static void put_poison(struct request *request)
{
	put(request, "HTTP/1.1 200 OK\r\nX-Token: poison\r\nContent-Length: 6\r\n\r\npoison");
}

static enum after do_two_answers(struct request *request)
{
	put_length_answer(request, ok_line, "");
	put_poison(request);
	return sent(request, KEEP);
}

static enum after do_body_behind_head(struct request *request)
{
	put_length_head(request, ok_line, "");
	put_body(request, 0, request->size + 1);
	return sent(request, KEEP);
}

static enum after do_body_behind_204(struct request *request)
{
	put_head(request, "HTTP/1.1 204 No Content", "");
	put_body(request, 0, request->size + 1);
	return sent(request, KEEP);
}

static enum after do_body_behind_304(struct request *request)
{
	put_length_head(request, "HTTP/1.1 304 Not Modified", "");
	put_body(request, 0, request->size + 1);
	return sent(request, KEEP);
}

/* Its body, if it comes at all, comes later: nobody can say. */
static enum after do_length_on_204(struct request *request)
{
	put_head(request, "HTTP/1.1 204 No Content", "Content-Length: 6\r\n");
	return sent(request, KEEP);
}

static enum after do_length_too_short(struct request *request)
{
	put_length_answer(request, ok_line, "Content-Encoding: gzip\r\n");
	put_body(request, request->size, 9);
	return sent(request, KEEP);
}

static enum after do_trailers_and_length(struct request *request)
{
	put_length_answer(request, ok_line, "Trailer: X-Trailer\r\n");
	put(request, "X-Trailer: 1\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_close_and_more(struct request *request)
{
	put_length_answer(request, ok_line, "Connection: close\r\n");
	put_poison(request);
	return sent(request, KEEP);
}

/* When it lies idle; garbage, so that a request that crosses it on the way is not answered by it. */
static enum after do_bytes_when_idle(struct request *request)
{
	put_length_answer(request, ok_line, "");
	if (!flush(request))
		return FIN;
	if (is_asked_within(request->peer, 20))
		return KEEP;
	put(request, "poison\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_closes_when_reused(struct request *request)
{
	request->peer->when_reused = FIN;
	return do_length(request);
}

static enum after do_resets_when_reused(struct request *request)
{
	request->peer->when_reused = RST;
	return do_length(request);
}

/* ---- No head -------------------------------------------------------------------------------------------------------------- */

static enum after do_silent(struct request *request)
{
	(void)request;
	return SILENCE;
}

static enum after do_fin_after_request(struct request *request)
{
	(void)request;
	return FIN;
}

static enum after do_rst_after_request(struct request *request)
{
	(void)request;
	return RST;
}

static void put_half_head(struct request *request)
{
	put(request, "%s\r\n", ok_line);
	put_fields(request);
	put(request, "Content-Le");
}

static enum after do_fin_in_head(struct request *request)
{
	put_half_head(request);
	return sent(request, FIN);
}

static enum after do_rst_in_head(struct request *request)
{
	put_half_head(request);
	return sent(request, RST);
}

static enum after do_fin_after_interim(struct request *request)
{
	put_interims(request, 1, "HTTP/1.1 103 Early Hints");
	return sent(request, FIN);
}

static enum after do_head_stalls(struct request *request)
{
	put_half_head(request);
	return sent(request, SILENCE);
}

/* A byte now and then: the whole head has a time. */
static enum after do_head_drips(struct request *request)
{
	put_half_head(request);
	for (int i = 0; flush(request) && i < 6000; i++) {
		usleep(10000);
		put(request, "x");
	}
	return FIN;
}

/* ---- A body that must not look whole ---------------------------------------------------------------------------------------- */

/* The length announced is at least one byte more than what follows. */
static void put_short(struct request *request)
{
	put(request, "%s\r\n", ok_line);
	put_fields(request);
	put(request, "Content-Length: %zu\r\n\r\n", request->size + 1);
	put_body(request, 0, request->size);
}

static enum after do_fin_in_length(struct request *request)
{
	put_short(request);
	return sent(request, FIN);
}

static enum after do_rst_in_length(struct request *request)
{
	put_short(request);
	return sent(request, RST);
}

static enum after do_length_too_long(struct request *request)
{
	put(request, "%s\r\nContent-Encoding: gzip\r\n", ok_line);
	put_fields(request);
	put(request, "Content-Length: 999999999999999999\r\n\r\n");
	put_body(request, 0, request->size);
	return sent(request, FIN);
}

static enum after do_body_stalls(struct request *request)
{
	put_short(request);
	return sent(request, SILENCE);
}

/* Chunks up to the whole size, then what is wrong. */
static enum after chunks_and(struct request *request, const void *bytes, size_t len,
			     enum after after)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put_bytes(request, bytes, len);
	return sent(request, after);
}

static enum after do_fin_in_chunk(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put(request, "64\r\n");
	put_body(request, request->size, 10);
	return sent(request, FIN);
}

static enum after do_rst_in_chunk(struct request *request)
{
	enum after after = do_fin_in_chunk(request);

	return after == FIN ? RST : after;
}

static enum after do_rst_until_close(struct request *request)
{
	put_head(request, ok_line, "Connection: close\r\n");
	put_body(request, 0, request->size);
	return sent(request, RST);
}

static enum after do_chunk_longer(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put(request, "5\r\n");
	put_body(request, request->size, 6);
	put(request, "\r\n0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_chunk_extension_flood(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	for (size_t i = 0; i < 64; i++) {
		put(request, "1;name=%0*d\r\n", 100, 0);
		put_body(request, request->size + i, 1);
		put(request, "\r\n");
	}
	put(request, "0\r\n\r\n");
	return sent(request, KEEP);
}

/* Six bytes of framing for each byte, and quoted extensions beside: far over ten to one. */
static enum after do_chunk_overhead(struct request *request)
{
	put_chunked_head(request);
	for (size_t i = 0; i < 12000; i++) {
		put(request, "00000000000001\r\n");
		put_body(request, i, 1);
		put(request, "\r\n");
	}
	put(request, "0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_trailer_flood(struct request *request)
{
	put_chunked_head(request);
	put_chunks(request, 0, request->size);
	put(request, "0\r\n");
	for (int i = 0; i < 150; i++)
		put(request, "X-Trailer-%d: %0*d\r\n", i, 600, 0);
	put(request, "\r\n");
	return sent(request, KEEP);
}

/* ---- Heads that are wrong ------------------------------------------------------------------------------------------------------ */

static enum after do_status_line_endless(struct request *request)
{
	put(request, "HTTP/1.1 200 ");
	for (int i = 0; i < MEBIBYTE / 16; i++)
		put_bytes(request, "abcdefghijklmnop", 16);
	put(request, "\r\nContent-Length: 0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_head_of_a_mebibyte(struct request *request)
{
	/* Fewer fields than their limit. */
	put(request, "%s\r\n", ok_line);
	for (int i = 0; i < 128; i++) {
		put(request, "X-Field-%d: ", i);
		for (int j = 0; j < MEBIBYTE / 128 / 16; j++)
			put_bytes(request, "abcdefghijklmnop", 16);
		put(request, "\r\n");
	}
	put(request, "Content-Length: 0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_field_of_a_mebibyte(struct request *request)
{
	put(request, "%s\r\nX-Field: ", ok_line);
	for (int i = 0; i < MEBIBYTE / 16; i++)
		put_bytes(request, "abcdefghijklmnop", 16);
	put(request, "\r\nContent-Length: 0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_201_fields(struct request *request)
{
	put(request, "%s\r\n", ok_line);
	for (int i = 0; i < 200; i++)
		put(request, "X-Field-%d: 1\r\n", i);
	put(request, "Content-Length: 0\r\n\r\n");
	return sent(request, KEEP);
}

static enum after do_forty_interims(struct request *request)
{
	put_interims(request, 40, "HTTP/1.1 102 Processing");
	return do_length(request);
}

static enum after do_forty_continues(struct request *request)
{
	put_interims(request, 40, "HTTP/1.1 100 Continue");
	return do_length(request);
}

/* ---- The table ------------------------------------------------------------------------------------------------------------------- */

struct mode {
	const char *name;
	enum after (*run)(struct request *request);
	/* Without run: these bytes. */
	const char *bytes;
	size_t len;
	enum after after;
	bool is_early;  /* it answers before it reads the request's body */
	bool is_behind; /* `bytes` stand behind a chunked body */
};

#define RUN(name, function) \
	{ \
		name, do_##function, NULL, 0, KEEP, false, false \
	}
#define EARLY(name, function) \
	{ \
		name, do_##function, NULL, 0, KEEP, true, false \
	}
#define SAY(name, text, after) \
	{ \
		name, NULL, text, sizeof(text) - 1, after, false, false \
	}
#define BEHIND(name, text, after) \
	{ \
		name, NULL, text, sizeof(text) - 1, after, false, true \
	}
#define OK "HTTP/1.1 200 OK\r\n"
#define TWO "Content-Length: 2\r\n"

static const struct mode modes[] = {
	RUN("length", length),
	RUN("head-alone", length),
	RUN("chunked", chunked),
	RUN("until-close", until_close),
	RUN("one-oh-closes", one_oh_closes),
	RUN("one-oh-kept", one_oh_kept),
	RUN("no-reason", no_reason),
	RUN("head-by-bytes", head_by_bytes),
	RUN("body-by-bytes", body_by_bytes),
	RUN("chunk-by-bytes", chunk_by_bytes),
	RUN("eight-interims", eight_interims),
	RUN("continues-unasked", continues_unasked),
	RUN("trailers", trailers),
	RUN("slow-trailers", slow_trailers),
	RUN("chunk-extensions", chunk_extensions),
	RUN("not-really-gzip", not_really_gzip),
	RUN("keep-alive-a-second", keep_alive_a_second),
	RUN("no-content", no_content),
	RUN("not-modified", not_modified),
	EARLY("early-and-closes", early_and_closes),
	EARLY("early-and-reads-on", early_and_reads_on),
	EARLY("early-413", early_413),
	RUN("two-answers", two_answers),
	RUN("body-behind-head", body_behind_head),
	RUN("body-behind-204", body_behind_204),
	RUN("body-behind-304", body_behind_304),
	RUN("length-on-204", length_on_204),
	RUN("length-too-short", length_too_short),
	RUN("trailers-and-length", trailers_and_length),
	RUN("close-and-more", close_and_more),
	RUN("bytes-when-idle", bytes_when_idle),
	RUN("closes-when-reused", closes_when_reused),
	RUN("resets-when-reused", resets_when_reused),
	RUN("silent", silent),
	RUN("fin-after-request", fin_after_request),
	RUN("rst-after-request", rst_after_request),
	RUN("fin-in-head", fin_in_head),
	RUN("rst-in-head", rst_in_head),
	RUN("fin-after-interim", fin_after_interim),
	RUN("head-stalls", head_stalls),
	RUN("head-drips", head_drips),
	/* An alert; SETTINGS and GOAWAY; what other servers say first. No line end, so no line. */
	SAY("tls-bytes", "\x15\x03\x01\0\x02\x02\x46", FIN),
	SAY("http2-bytes",
	    "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01", FIN),
	SAY("ssh-bytes", "SSH-2.0-OpenSSH_9.2\r\n", KEEP),
	SAY("nul-bytes", "\0\0\0\0\0\0\0\0", SILENCE),
	SAY("http-0.9", "<html>no head at all</html>\r\n", FIN),
	SAY("http-2-line", "HTTP/2 200\r\n" TWO "\r\nok", KEEP),
	SAY("status-of-two-digits", "HTTP/1.1 20 OK\r\n" TWO "\r\nok", KEEP),
	RUN("status-line-endless", status_line_endless),
	SAY("empty-line-first", "\r\n" OK TWO "\r\nok", KEEP),
	RUN("head-of-a-mebibyte", head_of_a_mebibyte),
	RUN("field-of-a-mebibyte", field_of_a_mebibyte),
	RUN("201-fields", 201_fields),
	SAY("nul-in-head", OK "X: a\0b\r\n" TWO "\r\nok", KEEP),
	SAY("nul-in-name", OK "X\0: a\r\n" TWO "\r\nok", KEEP),
	SAY("bare-lf", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", KEEP),
	SAY("bare-lf-field", OK "X: a\n" TWO "\r\nok", KEEP),
	SAY("bare-cr", OK "X: a\rb\r\n" TWO "\r\nok", KEEP),
	SAY("split-in-a-value", OK "X: a\r\r\n\r\n" OK TWO "\r\nok", KEEP),
	SAY("folded", OK "X: a\r\n b\r\n" TWO "\r\nok", KEEP),
	SAY("blank-before-colon", OK "Content-Length : 2\r\n" TWO "\r\nok", KEEP),
	SAY("length-and-coding", OK TWO "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	    KEEP),
	SAY("coding-and-length", OK "Transfer-Encoding: chunked\r\n" TWO "\r\n2\r\nok\r\n0\r\n\r\n",
	    KEEP),
	SAY("two-lengths", OK TWO "Content-Length: 3\r\n\r\nok", KEEP),
	SAY("equal-lengths", OK TWO TWO "\r\nok", KEEP),
	SAY("length-list", OK "Content-Length: 2, 2\r\n\r\nok", KEEP),
	SAY("length-negative", OK "Content-Length: -2\r\n\r\nok", KEEP),
	SAY("length-plus", OK "Content-Length: +2\r\n\r\nok", KEEP),
	SAY("length-hex", OK "Content-Length: 0x2\r\n\r\nok", KEEP),
	SAY("length-empty", OK "Content-Length: \r\n\r\nok", KEEP),
	SAY("length-of-20-digits", OK "Content-Length: 18446744073709551618\r\n\r\nok", KEEP),
	SAY("gzip-chunked", OK "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	    KEEP),
	SAY("chunked-twice",
	    OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", KEEP),
	SAY("chunked-in-1.0",
	    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", KEEP),
	RUN("forty-interims", forty_interims),
	RUN("forty-continues", forty_continues),
	SAY("interim-with-body",
	    "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" OK TWO "\r\nok", KEEP),
	SAY("unasked-101",
	    "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", KEEP),
	RUN("fin-in-length", fin_in_length),
	RUN("rst-in-length", rst_in_length),
	RUN("fin-in-chunk", fin_in_chunk),
	RUN("rst-in-chunk", rst_in_chunk),
	BEHIND("fin-in-chunk-size", "1", FIN),
	BEHIND("fin-between-chunks", "", FIN),
	BEHIND("fin-in-last-chunk", "0\r\n", FIN),
	BEHIND("fin-in-trailers", "0\r\nX-Trailer: 1\r\n", FIN),
	RUN("rst-until-close", rst_until_close),
	RUN("length-too-long", length_too_long),
	BEHIND("bad-chunk-size", "xyz\r\n", KEEP),
	BEHIND("chunk-size-negative", "-2\r\nok\r\n0\r\n\r\n", KEEP),
	BEHIND("chunk-size-overflows", "10000000000000002\r\nok\r\n0\r\n\r\n", KEEP),
	BEHIND("chunk-size-blank", "2 \r\nok\r\n0\r\n\r\n", KEEP),
	BEHIND("chunk-bare-lf", "2\nok\n0\n\n", KEEP),
	RUN("chunk-longer", chunk_longer),
	RUN("chunk-extension-flood", chunk_extension_flood),
	RUN("chunk-overhead", chunk_overhead),
	BEHIND("bad-trailer", "0\r\nno colon\r\n\r\n", KEEP),
	RUN("trailer-flood", trailer_flood),
	RUN("body-stalls", body_stalls),
	BEHIND("trailers-stall", "0\r\nX-Tra", SILENCE),
};

static const struct mode *mode_find(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].name, name) == 0)
			return &modes[i];
	}
	return NULL;
}

bool mode_is_known(const char *name)
{
	return mode_find(name);
}

size_t mode_count(void)
{
	return sizeof(modes) / sizeof(modes[0]);
}

enum after mode_run(struct request *request)
{
	const struct mode *mode = mode_find(request->mode);
	struct peer *peer = request->peer;

	if (!mode)
		return FIN;
	if (peer->when_reused != KEEP)
		return peer->when_reused;
	if (!mode->is_early && !read_body(request))
		return FIN;
	if (mode->run)
		return mode->run(request);
	if (mode->is_behind)
		return chunks_and(request, mode->bytes, mode->len, mode->after);
	put_bytes(request, mode->bytes, mode->len);
	return sent(request, mode->after);
}
