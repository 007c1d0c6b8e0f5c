#include "os/linux/internal.h"

/* Options of a sanitizer build: children are started with an empty environment, so they stand in
 * here. The leak check needs ptrace, which no sandbox gives. */
#if OS_SANITIZED
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:abort_on_error=1:disable_coredump=1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "print_stacktrace=1:halt_on_error=1";
}
#endif
