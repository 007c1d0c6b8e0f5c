/* portcullis: a subcommand, or a process of the service. Who is started by the supervisor has its role in the
 * environment and its channel on descriptor 3; everybody else is a command. */
#include "command/command.h"
#include "proc/proc.h"

int main(int argument_count, char **arguments)
{
	const char *role;

	if (os_start() < 0)
		return COMMAND_FAULT;
	role = os_environment("PORTCULLIS_ROLE");
	if (role)
		os_exit(proc_helper_main(span_str(role)));
	return command_main(argument_count, arguments);
}
