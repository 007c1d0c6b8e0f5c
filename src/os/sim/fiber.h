/* Coroutines: one stack is left, another goes on. */
#pragma once

#include <stddef.h>

/* Saves where we are in *ret_left and goes on where `to` was left. */
void sim_fiber_switch(void **ret_left, void *to);
/* A stack pointer to switch to: `begin` is called on the stack, and never returns. */
void *sim_fiber_prepare(char *stack, size_t size, void (*begin)(void));
