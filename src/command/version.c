#include "command/command.h"
#include "crypto/crypto.h"
#include "dial/dial.h"
#include "os/os.h"

static int version_run(const struct command_line *line)
{
	char kernel[128], seccomp[32];
	struct writer writer = writer_of(kernel, sizeof(kernel));
	struct writer seccomp_writer = writer_of(seccomp, sizeof(seccomp));
	int failed = os_kernel_version(&writer);

	(void)line;
	command_print("portcullis %s\n", PORTCULLIS_VERSION);
	command_print("  AWS-LC    %s (built in)\n", crypto_version());
	command_print("  c-ares    %s\n", dial_library_version());
	os_sandbox_library_version(&seccomp_writer);
	command_print("  seccomp   %.*s\n", SPAN_ARG(writer_done(&seccomp_writer)));
	command_print("  kernel    %.*s\n", failed ? 7 : (int)writer_done(&writer).len,
		      failed ? "unknown" : kernel);
	return COMMAND_DONE;
}

const struct command command_version = {
	.name = "version",
	.form = "",
	.help = "print this version and those of its libraries",
	.run = version_run,
};
