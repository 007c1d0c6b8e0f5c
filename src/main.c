/* argv → a subcommand, or a process of the table. */
#include "command/command.h"
#include "os/os.h"
#include "proc/proc.h"

int main(int argc, char **argv)
{
	struct span role;

	if (os_start())
		return COMMAND_FAULT;
	/* A child: started by the supervisor with its channel on descriptor 3 and its role in the environment, so
	 * that no command line of a user can mean one. */
	role = span_str(os_environment("PORTCULLIS_ROLE"));
	if (role.len)
		os_exit(proc_helper_main(role));
	return command_main(argc, argv);
}
