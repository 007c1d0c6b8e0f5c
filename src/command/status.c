#include "command/control.h"

#include <string.h>

#include "telemetry/telemetry.h"

static const char *state_name(uint32_t state)
{
	switch ((enum ipc_process_state)state) {
	case IPC_STATE_STARTING:
		return "starting";
	case IPC_STATE_RUNNING:
		return "running";
	case IPC_STATE_DRAINING:
		return "draining";
	case IPC_STATE_BACK_OFF:
		return "waiting to be started again";
	}
	return "unknown";
}

/* Bits of os_sandbox_report as words. */
static void write_parts(struct writer *out, uint32_t bits, bool json)
{
	bool is_first = true;

	for (unsigned bit = 0; bit < 32; bit++) {
		const char *name = bits & 1U << bit
					   ? os_sandbox_part_name((enum os_sandbox_part)(1U << bit))
					   : NULL;

		if (!name)
			continue;
		if (!is_first)
			write_str(out, json ? "," : ", ");
		is_first = false;
		if (json)
			write_json(out, span_str(name));
		else
			write_str(out, name);
	}
}

/* Those that are not 0, as one object. */
static void write_cells(struct writer *out, const char *const *names, const uint64_t *cells,
			size_t count)
{
	bool is_first = true;

	write_byte(out, '{');
	for (size_t i = 0; i < count; i++) {
		if (!cells[i])
			continue;
		write_format(out, "%s\"%s\":%llu", is_first ? "" : ",", names[i],
			     (unsigned long long)cells[i]);
		is_first = false;
	}
	write_byte(out, '}');
}

static void write_counters(struct writer *out, const struct telemetry_counters *counters)
{
	static const char *const names[] = {
#define X(id, name, help) [TELEMETRY_COUNTER_##id] = name,
		TELEMETRY_COUNTERS(X)
#undef X
	};
	const char *ends[TELEMETRY_END_COUNT], *limits[TELEMETRY_LIMIT_COUNT];

	for (size_t i = 0; i < TELEMETRY_END_COUNT; i++)
		ends[i] = telemetry_ends[i].word;
	for (size_t i = 0; i < TELEMETRY_LIMIT_COUNT; i++)
		limits[i] = telemetry_limits[i].name;
	write_str(out, "\"counters\":");
	write_cells(out, names, counters->counters, ARRAY_LEN(names));
	write_str(out, ",\"ends\":");
	write_cells(out, ends, counters->ends, ARRAY_LEN(ends));
	write_str(out, ",\"limits\":");
	write_cells(out, limits, counters->limits, ARRAY_LEN(limits));
}

static void print_json(const struct ipc_status_row *row, const struct command_process *seen,
		       bool is_first)
{
	const struct ipc_range *range = &seen->range;
	char text[16384];
	struct writer out = writer_of(text, sizeof(text));

	write_format(
		&out,
		"%s{\"process\":\"%s\",\"slot\":%u,\"pid\":%u,\"state\":\"%s\",\"restarts\":%llu,"
		"\"memory_bytes\":%llu,\"connections\":%llu,\"exchanges\":%llu,\"open_files_"
		"limit\":%llu,"
		"\"change\":%llu,\"enforced\":[",
		is_first ? "" : ",\n", ipc_kind_name((enum ipc_kind)row->kind), row->slot, row->pid,
		state_name(row->state), (unsigned long long)row->restarts,
		(unsigned long long)row->rss_bytes, (unsigned long long)range->connections,
		(unsigned long long)range->exchanges, (unsigned long long)row->nofile,
		(unsigned long long)row->snapshot_serial);
	write_parts(&out, row->enforced, true);
	write_str(&out, "],\"missing\":[");
	write_parts(&out, row->missing, true);
	write_format(&out, "],\"landlock_abi\":%u,\"secret_memory\":%u,", row->landlock_abi,
		     row->secret_memory);
	write_counters(&out, &seen->counters);
	write_byte(&out, '}');
	os_out(writer_done(&out));
}

static void print_text(const struct ipc_status_row *row, const struct ipc_range *range,
		       struct span remark)
{
	static const char *const secrets[] = { "", "keys in memory that nobody else can map",
					       "keys in locked memory", "keys in ordinary memory" };
	char text[4096];
	struct writer out = writer_of(text, sizeof(text));

	write_format(&out, "%-10s", ipc_kind_name((enum ipc_kind)row->kind));
	if (row->kind == IPC_WORKER || row->kind == IPC_KEYHOLDER || row->slot)
		write_format(&out, " %-3u", row->slot);
	else
		write_str(&out, "    ");
	write_format(&out, " pid %-8u %-10s %5llu MiB", row->pid, state_name(row->state),
		     (unsigned long long)(row->rss_bytes >> 20));
	if (row->kind == IPC_WORKER)
		write_format(&out, "  %llu connections", (unsigned long long)range->connections);
	if (row->restarts)
		write_format(&out, "  restarted %llu times", (unsigned long long)row->restarts);
	write_format(&out, "  %llu open files at most", (unsigned long long)row->nofile);
	if (row->kind == IPC_SUPERVISOR)
		write_format(&out, "  configuration %llu, state %.*s",
			     (unsigned long long)row->snapshot_serial, SPAN_ARG(remark));
	write_byte(&out, '\n');
	if (row->enforced) {
		write_str(&out, "               sandbox: ");
		write_parts(&out, row->enforced, false);
		write_byte(&out, '\n');
	}
	if (row->missing) {
		write_str(&out, "               not given by this kernel: ");
		write_parts(&out, row->missing, false);
		write_byte(&out, '\n');
	}
	if (row->secret_memory && row->secret_memory < ARRAY_LEN(secrets))
		write_format(&out, "               %s\n", secrets[row->secret_memory]);
	os_out(writer_done(&out));
}

struct listing {
	bool json, is_first;
};

static void on_process(void *owner, const struct command_process *process)
{
	struct listing *listing = owner;

	if (listing->json)
		print_json(process->row, process, listing->is_first);
	else
		print_text(process->row, &process->range, process->remark);
	listing->is_first = false;
}

static int status_run(const struct command_line *line)
{
	struct listing listing = { .json = command_has(line, "--json"), .is_first = true };
	struct ipc_channel channel;
	int err = command_connect(line, &channel);

	if (err)
		return err;
	if (listing.json)
		command_print("[");
	err = command_each_process(&channel, on_process, &listing);
	if (listing.json)
		command_print("]\n");
	ipc_channel_close(&channel);
	return err;
}

const struct command command_status = {
	.name = "status",
	.form = "[--json] [-c FILE]",
	.help = "list the processes of the running service",
	.details = "What each one's sandbox enforces, what this kernel could not give, memory, "
		   "connections.",
	.options = { COMMAND_FILE_OPTION, { "--json", NULL, "as JSON" } },
	.run = status_run,
};
