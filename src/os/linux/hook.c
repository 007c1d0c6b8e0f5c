#include "os/os.h"

/* A pointer, no more: what it points to belongs to who set it. */
static void *hook_state;

void os_hook_state_set(void *state)
{
	hook_state = state;
}

void *os_hook_state(void)
{
	return hook_state;
}
