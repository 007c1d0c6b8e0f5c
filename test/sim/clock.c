#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/sim/sim.h"

/* Stands before the C library's own also for shared libraries (so it is linked as an object: an archive's symbols are
 * hidden): in a process of the world they read the world's clock. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
	uint64_t now_ns;

	if (!sim_current() || (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME))
		return (int)syscall(SYS_clock_gettime, clock, ret_now);
	now_ns = clock == CLOCK_MONOTONIC ? os_now_ns() : os_wall_ns();
	ret_now->tv_sec = (time_t)(now_ns / OS_SECOND);
	ret_now->tv_nsec = (long)(now_ns % OS_SECOND);
	return 0;
}
