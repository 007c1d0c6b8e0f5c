#include "command/command.h"
#include "crypto/crypto.h"

int command_version(const struct command_line *line)
{
	char kernel[128];
	struct writer out = writer_of(kernel, sizeof(kernel) - 1);

	if (os_kernel_version(&out) < 0)
		write_str(&out, "unknown");
	*out.at = 0;
	if (line->row && command_has(line, "--json"))
		command_print("{\"portcullis\":\"%s\",\"crypto\":\"%s\",\"kernel\":\"%s\"}\n", PORTCULLIS_VERSION,
			      crypto_version(), kernel);
	else
		command_print("portcullis %s\n%s\nLinux %s\n", PORTCULLIS_VERSION, crypto_version(), kernel);
	return COMMAND_DONE;
}
