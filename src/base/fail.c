#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

/* The process is wrong about itself: say where, and end so that a core and the supervisor notice. */
NORETURN void base_fail(const char *file, int line, const char *condition)
{
	char text[512];
	struct writer writer = writer_of(text, sizeof(text));
	struct span done;

	write_format(&writer, "portcullis: bug at %.200s:%d: not (%.200s)\n", file, line,
		     condition);
	done = writer_done(&writer);
	fwrite(done.ptr, 1, done.len, stderr); /* unbuffered: one write */
	abort();
}
