/* Before a test of test/unit/os that is compiled to run in a process of os/sim: what it asks of the kernel beside
 * os.h, asked of the world instead. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/sim/sim.h"

#define main os_unit_main
#define getpid os_pid
#define getuid os_uid
#define kill sim_signal
#define pipe os_packet_pair
#define fcntl(fd, operation) (os_descriptor_is_open(fd) ? FD_CLOEXEC : 0)
int os_unit_main(void);
