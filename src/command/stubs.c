/* Commands that are not written yet. */
#include "command/command.h"

static int nothing(const struct command_line *line)
{
	(void)line;
	return COMMAND_FAULT;
}

const struct command command_ca = { .name = "ca", .form = "", .help = "the local CA", .run = nothing };
