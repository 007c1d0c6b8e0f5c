#include "dial/dial.h"

#include <ares.h>

const char *dial_library_version(void)
{
	return ares_version(NULL);
}
