/* A configuration's text, for commands that only read or write it. They parse it themselves: it is the operator's, and so
 * is the command. */
#pragma once

#include "command/command.h"
#include "conf/conf.h"
#include "os/os.h"

#define COMMAND_TEXT_FILE "/etc/portcullis/portcullis.conf" /* where no FILE is named */

/* FILE or -c FILE of the command line. */
const char *command_text_file(const struct command_line *line);
/* Its bytes. 0, or COMMAND_FAULT after it has said why not. */
int command_text_read(const char *file, struct arena *arena, struct span *ret_text) MUST_CHECK;
/* Text or JSON to a tree that is not checked. 0, or COMMAND_FAULT after its faults were printed. `functions` may be NULL:
 * the system's. */
int command_text_parse(const char *file, struct span text, struct arena *arena,
		       const struct conf_functions *functions,
		       struct conf_tree **ret_tree) MUST_CHECK;
/* On standard error. */
void command_print_errors(const struct conf_tree *tree, const struct conf_errors *errors);
