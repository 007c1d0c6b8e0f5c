#include "command/control.h"

enum { SIZE = 4 * TELEMETRY_METRICS_PIECE };

static int print_all(const struct command_ranges *ranges)
{
	struct telemetry_metrics metrics = {
		.sources = ranges->sources,
		.source_count = ranges->count,
		.gauges = command_gauges(ranges),
	};
	struct writer out;
	char *text = heap_alloc(SIZE);
	bool has_more = true;

	if (!text) {
		command_complain("portcullis metrics: out of memory\n");
		return COMMAND_FAULT;
	}
	while (has_more) {
		out = writer_of(text, SIZE);
		while ((size_t)(out.end - out.at) >= TELEMETRY_METRICS_PIECE && has_more)
			has_more = telemetry_metrics_next(&metrics, &out);
		os_out(writer_done(&out));
	}
	heap_free(text);
	return 0;
}

static int metrics_run(const struct command_line *line)
{
	struct command_ranges ranges = { 0 };
	struct ipc_channel channel;
	int err = command_connect(line, &channel);

	if (err)
		return err;
	err = command_ranges_open(&channel, &ranges);
	ipc_channel_close(&channel);
	if (!err)
		err = print_all(&ranges);
	command_ranges_close(&ranges);
	return err;
}

const struct command command_metrics = {
	.name = "metrics",
	.form = "[-c FILE]",
	.help = "print the running service's counters as Prometheus reads them",
	.details = "Text format 0.0.4, for a collector of text files or a look with grep; the "
		   "handler `metrics` of a site answers with the same.",
	.options = { COMMAND_FILE_OPTION },
	.run = metrics_run,
};
