/* `proxy` and `files`: a configuration of one site, written here and run like any other. */
#include "command/command.h"
#include "os/os.h"
#include "proc/proc.h"

enum { SITE_TEXT_MAX = 32 * 1024, SITE_ADDRESSES_MAX = 16, SITE_HINTS_MAX = 2048 };

/* A word of the language, whatever stands in it. */
static void write_word(struct writer *text, struct span word)
{
	write_byte(text, '"');
	for (size_t i = 0; i < word.len; i++) {
		if (word.ptr[i] == '"' || word.ptr[i] == '\\' || word.ptr[i] == '$')
			write_byte(text, '\\');
		write_byte(text, word.ptr[i]);
	}
	write_str(text, "\" ");
}

static bool is_host_name(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '.')
			return false;
	}
	return name.len > 0 && name.ptr[0] != '-';
}

/* Without --name: localhost, the machine's name and its addresses. */
static void write_own_names(struct writer *text)
{
	struct os_address addresses[SITE_ADDRESSES_MAX];
	int count = os_interface_addresses(addresses, ARRAY_LEN(addresses));
	char name[256];
	struct writer writer = writer_of(name, sizeof(name));
	struct span host = SPAN_NONE;

	write_str(text, "localhost ");
	if (os_host_name(&writer) == 0)
		host = writer_done(&writer);
	/* A name with a dot would want a public certificate; by its first label it is the local CA's. */
	host = span_first(host, span_find_byte(host, '.'));
	if (is_host_name(host) && !span_equal_nocase(host, SPAN("localhost")))
		write_word(text, host);
	for (int i = 0; i < count; i++) {
		char ip[OS_ADDRESS_TEXT_MAX];
		struct writer ip_writer = writer_of(ip, sizeof(ip));

		if (os_address_is_loopback(&addresses[i]))
			continue;
		os_address_write_ip(&addresses[i], &ip_writer);
		write_word(text, writer_done(&ip_writer));
	}
	write_str(text, "127.0.0.1 ::1 default");
}

static void write_names(struct writer *text, const struct command_line *line)
{
	const char *value = command_value(line, "--name");

	write_str(text, "site ");
	if (!value) {
		write_own_names(text);
	} else {
		for (size_t i = 0; (value = command_value_at(line, "--name", i)); i++) {
			struct span rest = span_str(value), name;

			while (span_cut(&rest, ',', &name)) {
				if (name.len)
					write_word(text, name);
			}
		}
	}
	write_str(text, " {\n");
}

static void write_listeners(struct writer *text, const struct command_line *line)
{
	const char *value;

	write_str(text, "portcullis 1\n");
	for (size_t i = 0; (value = command_value_at(line, "--listen", i)); i++) {
		write_str(text, "listen ");
		write_word(text, span_str(value));
		write_str(text, "\n");
	}
}

/* A folder is named from here; the text has no place of its own that it could be relative to. */
static void write_operand(struct writer *text, struct span operand, bool is_folder)
{
	char path[4096];
	struct writer writer = writer_of(path, sizeof(path));
	struct arena arena;
	struct span current;

	arena_init(&arena, 0);
	if (is_folder && !span_starts_with(operand, SPAN("/")) &&
	    os_folder_current(&arena, &current) == 0) {
		write_format(&writer, "%.*s/%.*s", SPAN_ARG(current), SPAN_ARG(operand));
		operand = writer_done(&writer);
	}
	write_word(text, operand);
	arena_fini(&arena);
}

/* The CA, the next step, the end: in the words that can be pasted. Only the caller of sudo needs it again. */
static void write_hints(struct writer *hints, const struct command_line *line)
{
	const char *program = line->program,
		   *sudo = os_uid() == 0 && os_environment("SUDO_USER") ? "sudo " : "";

	write_format(hints,
		     "\n"
		     "The certificate comes from this machine's own CA. A browser that warns does "
		     "not know it yet:\n"
		     "    %s%s ca trust       makes this machine and its browsers trust it\n"
		     "    %s%s ca root        prints it, for others (curl --cacert, Firefox)\n",
		     sudo, program, sudo, program);
	if (line->command == &command_files)
		write_format(hints,
			     "Next, end this (Ctrl-C) and put it in front of an application:\n"
			     "    %s%s proxy 127.0.0.1:3000\n",
			     sudo, program);
	else
		write_format(hints,
			     "Next: several sites, own certificates and limits are a file, "
			     "docs/configuration.md:\n"
			     "    %s%s run -c FILE\n",
			     sudo, program);
	write_str(hints, "\n");
}

static int site_serve(const struct command_line *line, const char *handler)
{
	static const char name[] = "command line";
	char *memory = heap_alloc(SITE_TEXT_MAX);
	struct writer text = writer_of(memory, memory ? SITE_TEXT_MAX : 0);
	struct proc_supervisor_options options = { .config_name = name,
						   .is_short_log = os_is_terminal(1) };
	char hints_text[SITE_HINTS_MAX];
	struct writer hints = writer_of(hints_text, sizeof(hints_text));
	int code;

	write_listeners(&text, line);
	write_names(&text, line);
	write_format(&text, "\t%s ", handler);
	for (size_t i = 0; i < line->operand_count; i++)
		write_operand(&text, span_str(line->operands[i]), line->command == &command_files);
	write_str(&text, "\n}\n");
	if (!text.ok) {
		heap_free(memory);
		return command_wrong(line, "that is too long");
	}
	write_hints(&hints, line);
	options.text = writer_done(&text);
	options.hints = writer_done(&hints);
	code = proc_supervisor_main(&options);
	heap_free(memory);
	return code;
}

static int proxy_run(const struct command_line *line)
{
	return site_serve(line, "proxy");
}

static int files_run(const struct command_line *line)
{
	struct os_file_info info;
	OS_AUTO_FD folder = -1;
	int failed = os_open(OS_FOLDER_CURRENT, line->operands[0], OS_OPEN_HANDLE, 0, &folder);

	if (!failed)
		failed = os_file_info(folder, &info);
	if (failed || info.type != OS_FILE_FOLDER) {
		command_complain("portcullis files: %s: %s\n", line->operands[0],
				 failed == -ENOENT ? "there is no such folder"
				 : failed          ? "it cannot be opened"
						   : "it is no folder");
		return COMMAND_FAULT;
	}
	return site_serve(line, "files");
}

#define SITE_OPTIONS \
	{ \
		{ "--name", "HOST[,HOST]", \
		  "serve these names only (localhost, this machine's name and addresses)" }, \
			{ "--listen", "ADDR:PORT", \
			  "listen there instead of *:443 and *:80; may be repeated" }, \
	}

const struct command command_proxy = {
	.name = "proxy",
	.form = "UPSTREAM... [--name HOST[,HOST]] [--listen ADDR:PORT]",
	.help = "put HTTPS in front of an application",
	.details = "UPSTREAM is PORT, HOST:PORT, [v6]:PORT, http://..., https://... or unix:PATH.",
	.operands_min = 1,
	.operands_max = 16,
	.options = SITE_OPTIONS,
	.run = proxy_run,
};

const struct command command_files = {
	.name = "files",
	.form = "DIR [--name HOST[,HOST]] [--listen ADDR:PORT]",
	.help = "serve a folder over HTTPS",
	.operands_min = 1,
	.operands_max = 1,
	.options = SITE_OPTIONS,
	.run = files_run,
};
