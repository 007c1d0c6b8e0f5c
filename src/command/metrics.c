#include "command/control.h"

struct sums {
	struct telemetry_counters counters;
	uint64_t connections, exchanges, restarts, processes;
};

static void on_process(void *owner, const struct command_process *process)
{
	struct sums *sums = owner;

	telemetry_sum(&sums->counters, &process->counters);
	sums->restarts += process->row->restarts;
	sums->processes += process->row->state == IPC_STATE_RUNNING;
	if (process->row->kind != IPC_WORKER)
		return;
	sums->connections += process->range.connections;
	sums->exchanges += process->range.exchanges;
}

static void write_gauge(struct writer *out, const char *name, const char *help, uint64_t value)
{
	write_format(out,
		     "# HELP portcullis_%s %s\n# TYPE portcullis_%s gauge\nportcullis_%s %llu\n",
		     name, help, name, name, (unsigned long long)value);
}

static void write_all(struct writer *out, const struct sums *sums)
{
	write_gauge(out, "connections", "connections of clients that are open", sums->connections);
	write_gauge(out, "exchanges", "exchanges under way", sums->exchanges);
	write_gauge(out, "processes", "processes of the service that run", sums->processes);
	write_format(out,
		     "# HELP portcullis_process_restarts_total processes that were started again\n"
		     "# TYPE portcullis_process_restarts_total counter\n"
		     "portcullis_process_restarts_total %llu\n",
		     (unsigned long long)sums->restarts);
	telemetry_write_metrics(out, &sums->counters);
}

static int metrics_run(const struct command_line *line)
{
	enum { SIZE = 256 * 1024 };
	struct sums sums = { 0 };
	struct ipc_channel channel;
	struct writer out;
	char *text;
	int err = command_connect(line, &channel);

	if (err)
		return err;
	err = command_each_process(&channel, on_process, &sums);
	ipc_channel_close(&channel);
	if (err)
		return err;
	text = heap_alloc(SIZE);
	if (!text) {
		command_complain("portcullis metrics: out of memory\n");
		return COMMAND_FAULT;
	}
	out = writer_of(text, SIZE);
	write_all(&out, &sums);
	MUST(out.ok);
	os_out(writer_done(&out));
	heap_free(text);
	return 0;
}

const struct command command_metrics = {
	.name = "metrics",
	.form = "[-c FILE]",
	.help = "print the running service's counters as Prometheus reads them",
	.details = "Text format 0.0.4, for a collector of text files or a look with grep.",
	.options = { COMMAND_FILE_OPTION },
	.run = metrics_run,
};
