#include "command/command.h"

#include <string.h>

#include "crypto/crypto.h"
#include "dial/dial.h"
#include "os/os.h"

static int version_run(const struct command_line *line)
{
	char kernel[128] = "unknown", seccomp[32], text[1024];
	struct writer kernel_writer = writer_of(kernel, sizeof(kernel));
	struct writer seccomp_writer = writer_of(seccomp, sizeof(seccomp));
	struct writer out = writer_of(text, sizeof(text));
	bool is_json = command_has(line, "--json"),
	     is_known = os_kernel_version(&kernel_writer) == 0;
	struct version_row {
		const char *json, *text;
		struct span version;
	} rows[] = {
		{ "portcullis", "portcullis ", span_str(PORTCULLIS_VERSION) },
		{ "aws_lc", "  AWS-LC    ",
		  span_skip(span_str(crypto_version()), strlen("AWS-LC ")) },
		{ "c_ares", "  c-ares    ", span_str(dial_library_version()) },
		{ "seccomp", "  seccomp   ", SPAN_NONE },
		{ "kernel", "  kernel    ",
		  is_known ? writer_done(&kernel_writer) : SPAN("unknown") },
	};

	os_sandbox_library_version(&seccomp_writer);
	rows[3].version = writer_done(&seccomp_writer);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (is_json) {
			write_format(&out, "%s\"%s\":", i ? "," : "{", rows[i].json);
			write_json(&out, rows[i].version);
		} else {
			write_format(&out, "%s%.*s%s\n", rows[i].text, SPAN_ARG(rows[i].version),
				     i == 1 ? " (built in)" : "");
		}
	}
	write_str(&out, is_json ? "}\n" : "");
	os_out(writer_done(&out));
	return COMMAND_DONE;
}

const struct command command_version = {
	.name = "version",
	.form = "[--json]",
	.help = "print this version and those of its libraries",
	.options = { { "--json", NULL, "as JSON" } },
	.run = version_run,
};
