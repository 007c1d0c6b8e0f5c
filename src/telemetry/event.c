#include "telemetry/record_internal.h"

enum { TEXT_MESSAGE = 4096, TEXT_PAIR = 2048, TEXT_SHORT = 256 };
_Static_assert(TEXT_MESSAGE + TELEMETRY_PAIRS_MAX * (TEXT_PAIR + 64) + 8 * TEXT_SHORT <
		       TELEMETRY_LINE_MAX,
	       "an event fits its line");

static const char *const type_names[TELEMETRY_EVENT_COUNT] = {
#define X(id, name) [TELEMETRY_EVENT_##id] = (name),
	TELEMETRY_EVENTS(X)
#undef X
};

static void write_pairs(struct record_line *line, const struct telemetry_event *event)
{
	struct record_line object = { .out = line->out };

	record_key(line, type_names[event->type]);
	for (size_t i = 0; i < event->pair_count && i < TELEMETRY_PAIRS_MAX; i++) {
		const struct telemetry_pair *pair = &event->pairs[i];

		if (pair->is_number)
			record_number(&object, pair->key, pair->number);
		else
			record_member(&object, pair->key, pair->text, TEXT_PAIR);
	}
	write_byte(line->out, '}');
}

void telemetry_write_event(struct writer *out, const struct telemetry_event *event)
{
	struct record_line line = record_line_begin(out);

	MUST(event->type < TELEMETRY_EVENT_COUNT);
	record_key(&line, "timestamp");
	write_byte(out, '"');
	telemetry_write_time(out, event->wall_ns);
	write_byte(out, '"');
	record_member(&line, "event_type", span_str(type_names[event->type]), TEXT_SHORT);
	if (event->source.len) {
		record_member(&line, "src_ip", event->source, TEXT_SHORT);
		record_number(&line, "src_port", event->source_port);
	}
	if (event->destination.len) {
		record_member(&line, "dest_ip", event->destination, TEXT_SHORT);
		record_number(&line, "dest_port", event->destination_port);
	}
	if (event->source.len || event->destination.len)
		record_member(&line, "proto", SPAN("TCP"), TEXT_SHORT);
	record_optional(&line, "process", event->process, TEXT_SHORT);
	record_optional(&line, "message", event->message, TEXT_MESSAGE);
	if (event->pair_count)
		write_pairs(&line, event);
	write_byte(out, '}');
	record_line_end(&line);
}
