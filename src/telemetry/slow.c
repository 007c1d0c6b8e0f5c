#include "telemetry/record_internal.h"

enum { TEXT_PATH = 8192, TEXT_HOST = 1024, TEXT_SHORT = 256 };
_Static_assert(TEXT_PATH + TEXT_HOST + 16 * TEXT_SHORT + TELEMETRY_STAGES_MAX * 128 <
		       TELEMETRY_LINE_MAX,
	       "it fits its line");

static void write_stages(struct record_line *line, const struct telemetry_stage *stages,
			 size_t count)
{
	struct record_line object = { .out = line->out };

	record_key(line, "stages_ms");
	for (size_t i = 0; i < count; i++) {
		record_key(&object, stages[i].name);
		record_milliseconds(line->out, stages[i].duration_ns);
	}
	write_str(line->out, count ? "}" : "{}");
}

static void write_request(struct record_line *line, const struct telemetry_access *access,
			  const struct telemetry_stage *stages, size_t count)
{
	struct record_line object = { .out = line->out };

	record_key(line, "http");
	record_member(&object, "method", access->method, TEXT_SHORT);
	record_member(&object, "host", access->host, TEXT_HOST);
	record_member(&object, "path", access->path, TEXT_PATH);
	record_number(&object, "status", access->status);
	record_member(&object, "end", span_str(telemetry_ends[access->end].word), TEXT_SHORT);
	record_number(&object, "bytes_in", access->bytes_in);
	record_number(&object, "bytes_out", access->bytes_out);
	record_optional(&object, "upstream", access->upstream, TEXT_SHORT);
	record_key(&object, "request_id");
	write_byte(line->out, '"');
	write_hex_u64(line->out, access->request_id_high, 16);
	write_hex_u64(line->out, access->request_id_low, 16);
	write_byte(line->out, '"');
	record_optional(&object, "trace_id", access->trace_id, TEXT_SHORT);
	record_key(&object, "duration_ms");
	record_milliseconds(line->out, access->duration_ns);
	write_stages(&object, stages, count);
	write_byte(line->out, '}');
}

void telemetry_write_slow(struct writer *out, const struct telemetry_access *access,
			  const struct telemetry_stage *stages, size_t count)
{
	struct record_line line = record_line_begin(out);
	char process[32];
	struct writer name = writer_of(process, sizeof(process));

	MUST(access->end < TELEMETRY_END_COUNT && count <= TELEMETRY_STAGES_MAX);
	write_format(&name, "worker %u", access->worker);
	record_key(&line, "timestamp");
	write_byte(out, '"');
	telemetry_write_time(out, access->wall_ns);
	write_byte(out, '"');
	record_member(&line, "event_type", SPAN("http"), TEXT_SHORT);
	record_member(&line, "src_ip", access->client, TEXT_SHORT);
	if (access->client_port)
		record_number(&line, "src_port", access->client_port);
	record_member(&line, "process", writer_done(&name), TEXT_SHORT);
	record_member(&line, "message", SPAN("slow request"), TEXT_SHORT);
	write_request(&line, access, stages, count);
	write_byte(out, '}');
	record_line_end(&line);
}
