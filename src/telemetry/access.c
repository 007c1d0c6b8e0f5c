#include "telemetry/record_internal.h"

#include <string.h>

/* What a text may take in a line, escapes included. Their sum and that of the keys is below
 * TELEMETRY_LINE_MAX: a record is never lost for being long. */
enum {
	TEXT_PATH = 8192,
	TEXT_QUERY = 8192,
	TEXT_AGENT = 2048,
	TEXT_REFERER = 4096,
	TEXT_HOST = 1024,
	TEXT_RULES = 2048,
	TEXT_RULE = 1024,
	TEXT_SHORT = 256, /* a dozen of them */
};
_Static_assert(TEXT_PATH + TEXT_QUERY + TEXT_AGENT + TEXT_REFERER + TEXT_HOST + TEXT_RULES + TEXT_RULE +
			       12 * TEXT_SHORT + 1024 <
		       TELEMETRY_LINE_MAX,
	       "a record fits its line");

/* Behind its first quote. Most texts are plain and stand there as they are. */
static void write_text(struct writer *out, struct span text, size_t out_max)
{
	char *room;

	if (text.len + 2 > out_max || json_plain_len(text) < text.len) {
		out->at -= out->ok; /* the quote is record_text's */
		record_text(out, text, out_max);
		return;
	}
	room = write_room(out, text.len + 1);
	if (!room)
		return;
	if (text.len)
		memcpy(room, text.ptr, text.len);
	room[text.len] = '"';
}

static void write_end(struct writer *out, const struct telemetry_access *access)
{
	char text[TEXT_SHORT];
	struct writer end = writer_of(text, sizeof(text));

	if (!access->end_detail.len) {
		write_text(out, span_str(telemetry_ends[access->end].word), TEXT_SHORT);
		return;
	}
	write_str(&end, telemetry_ends[access->end].word);
	write_byte(&end, ':');
	write_span(&end, span_first(access->end_detail, 128));
	write_text(out, writer_done(&end), TEXT_SHORT);
}

/* A member that is not the first, its key a literal: one copy of known length, for each request. */
#define KEY(out, key) write_span(out, SPAN(",\"" key "\":"))
#define TEXT(out, key, text, out_max) \
	do { \
		write_span(out, SPAN(",\"" key "\":\"")); \
		write_text(out, text, out_max); \
	} while (0)
#define OPTIONAL(out, key, text, out_max) \
	do { \
		if ((text).len) \
			TEXT(out, key, text, out_max); \
	} while (0)
#define NUMBER(out, key, number) \
	do { \
		KEY(out, key); \
		write_u64(out, number); \
	} while (0)

static void write_parties(struct writer *out, const struct telemetry_access *access)
{
	if (access->upstream.len) {
		TEXT(out, "upstream", access->upstream, TEXT_SHORT);
		KEY(out, "upstream_ms");
		record_milliseconds(out, access->upstream_ns);
		if (access->upstream_tries > 1) {
			KEY(out, "upstream_tries");
			write_u64(out, access->upstream_tries);
		}
	}
	if (access->tls_version.len) {
		TEXT(out, "tls_version", access->tls_version, TEXT_SHORT);
		TEXT(out, "tls_group", access->tls_group, TEXT_SHORT);
		TEXT(out, "tls_cipher", access->tls_cipher, TEXT_SHORT);
		KEY(out, "tls_resumed");
		write_str(out, access->tls_resumed ? "true" : "false");
	}
	OPTIONAL(out, "ja4", access->ja4, TEXT_SHORT);
	OPTIONAL(out, "user_agent", access->user_agent, TEXT_AGENT);
	OPTIONAL(out, "referer", access->referer, TEXT_REFERER);
	OPTIONAL(out, "rules", access->rules, TEXT_RULES);
}

void telemetry_write_access_json(struct writer *out, const struct telemetry_access *access)
{
	struct record_line line = record_line_begin(out);

	MUST(access->end < TELEMETRY_END_COUNT);
	write_span(out, SPAN("{\"time\":\""));
	record_time(out, access->wall_ns, access->second);
	write_span(out, SPAN("\",\"client\":\""));
	write_text(out, access->client, TEXT_SHORT);
	if (access->client_port)
		NUMBER(out, "client_port", access->client_port);
	TEXT(out, "method", access->method, TEXT_SHORT);
	TEXT(out, "host", access->host, TEXT_HOST);
	TEXT(out, "path", access->path, TEXT_PATH);
	OPTIONAL(out, "query", access->query, TEXT_QUERY);
	TEXT(out, "protocol", access->protocol, TEXT_SHORT);
	NUMBER(out, "status", access->status);
	NUMBER(out, "bytes_in", access->bytes_in);
	NUMBER(out, "bytes_out", access->bytes_out);
	KEY(out, "duration_ms");
	record_milliseconds(out, access->duration_ns);
	write_parties(out, access);
	write_span(out, SPAN(",\"request_id\":\""));
	write_hex_u64(out, access->request_id_high, 16);
	write_hex_u64(out, access->request_id_low, 16);
	write_span(out, SPAN("\",\"worker\":"));
	write_u64(out, access->worker);
	OPTIONAL(out, "rule", access->rule, TEXT_RULE);
	write_span(out, SPAN(",\"end\":\""));
	write_end(out, access);
	write_byte(out, '}');
	record_line_end(&line);
}

#undef KEY
#undef TEXT
#undef OPTIONAL
#undef NUMBER

/* ---- Combined ----------------------------------------------------------------------------------------- */

/* As nginx and Apache do: what is no plain ASCII, a quote and a backslash become \xHH. */
static void write_quoted(struct writer *out, struct span text, size_t out_max)
{
	char *start = out->at;

	for (size_t i = 0; i < text.len && (size_t)(out->at - start) + 4 <= out_max && out->ok;
	     i++) {
		char c = text.ptr[i];

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			write_byte(out, c);
		} else {
			write_str(out, "\\x");
			write_hex(out, span_of(&c, 1));
		}
	}
}

static void write_quoted_or_dash(struct writer *out, struct span text, size_t out_max)
{
	if (text.len)
		write_quoted(out, text, out_max);
	else
		write_byte(out, '-');
}

static void write_combined_time(struct writer *out, uint64_t wall_ns)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct record_date date = record_date_of(wall_ns);

	write_format(out, "%02u/%.3s/%04u:%02u:%02u:%02u +0000", date.day,
		     months + 3 * (date.month - 1), date.year, date.hour, date.minute, date.second);
}

void telemetry_write_access_combined(struct writer *out, const struct telemetry_access *access)
{
	struct record_line line = record_line_begin(out);

	write_quoted_or_dash(out, access->client, TEXT_SHORT);
	write_str(out, " - - [");
	write_combined_time(out, access->wall_ns);
	write_str(out, "] \"");
	write_quoted_or_dash(out, access->method, TEXT_SHORT);
	write_byte(out, ' ');
	write_quoted_or_dash(out, access->path, TEXT_PATH);
	if (access->query.len) {
		write_byte(out, '?');
		write_quoted(out, access->query, TEXT_QUERY);
	}
	write_byte(out, ' ');
	write_quoted_or_dash(out, access->protocol, TEXT_SHORT);
	write_str(out, "\" ");
	write_u64(out, access->status);
	write_byte(out, ' ');
	write_u64(out, access->bytes_out);
	write_str(out, " \"");
	write_quoted_or_dash(out, access->referer, TEXT_REFERER);
	write_str(out, "\" \"");
	write_quoted_or_dash(out, access->user_agent, TEXT_AGENT);
	write_byte(out, '"');
	record_line_end(&line);
}

/* ---- Short -------------------------------------------------------------------------------------------- */

/* Like JSON, but for the quotes around it: plain on a terminal, and readable where it is UTF-8. */
static void write_plain(struct writer *out, struct span text, size_t out_max)
{
	char escaped[TEXT_HOST];
	struct writer part = writer_of(escaped, sizeof(escaped));
	struct span done;

	record_text(&part, text, out_max < sizeof(escaped) ? out_max : sizeof(escaped));
	done = writer_done(&part);
	write_span(out, span_first(span_skip(done, 1), done.len - 2));
}

/* 999 B, 1.5 KB, 12 MB */
static void write_size(struct writer *out, uint64_t size)
{
	static const char units[] = "KMGTPE";
	size_t unit = 0;

	if (size < 1000) {
		write_format(out, "%llu B", (unsigned long long)size);
		return;
	}
	while (size >= 1000 * 1024 && unit + 2 < sizeof(units)) {
		size /= 1024;
		unit++;
	}
	if (size < 10 * 1024)
		write_format(out, "%llu.%llu %cB", (unsigned long long)(size / 1024),
			     (unsigned long long)(size % 1024 * 10 / 1024), units[unit]);
	else
		write_format(out, "%llu %cB", (unsigned long long)(size / 1024), units[unit]);
}

static void write_duration(struct writer *out, uint64_t duration_ns)
{
	unsigned long long ms = duration_ns / 1000000;

	if (ms < 10)
		write_format(out, "%llu.%llu ms", ms,
			     (unsigned long long)(duration_ns / 100000 % 10));
	else if (ms < 10000)
		write_format(out, "%llu ms", ms);
	else
		write_format(out, "%llu s", ms / 1000);
}

void telemetry_write_access_short(struct writer *out, const struct telemetry_access *access)
{
	struct record_line line = record_line_begin(out);
	struct record_date date = record_date_of(access->wall_ns);

	MUST(access->end < TELEMETRY_END_COUNT);
	write_format(out, "%02u:%02u:%02u ", date.hour, date.minute, date.second);
	if (access->status)
		write_format(out, "%03u ", (unsigned)access->status);
	else
		write_str(out, "--- ");
	write_plain(out, access->method.len ? access->method : SPAN("-"), TEXT_SHORT);
	write_byte(out, ' ');
	write_plain(out, access->host, TEXT_SHORT);
	write_plain(out, access->path, TEXT_HOST);
	if (access->query.len) {
		write_byte(out, '?');
		write_plain(out, access->query, TEXT_SHORT);
	}
	write_byte(out, ' ');
	write_size(out, access->bytes_out);
	write_byte(out, ' ');
	write_duration(out, access->duration_ns);
	if (access->end != TELEMETRY_END_OK) {
		write_byte(out, ' ');
		write_str(out, telemetry_ends[access->end].word);
		if (access->end_detail.len) {
			write_byte(out, ':');
			write_plain(out, access->end_detail, TEXT_SHORT);
		}
	}
	record_line_end(&line);
}
