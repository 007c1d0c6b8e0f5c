#include "os/sim/fiber.h"

#include <stdint.h>
#include <string.h>

/* The C library's swapcontext() would do, but for its two system calls a switch and for AddressSanitizer's
 * interceptor, which forgets all red zones of the stack that it goes to. */

#if defined(__x86_64__)

/* rdi: where to save, rsi: where to go. */
__asm__(".text\n"
	".globl sim_fiber_switch\n"
	".hidden sim_fiber_switch\n"
	".type sim_fiber_switch, @function\n"
	"sim_fiber_switch:\n"
	"	endbr64\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size sim_fiber_switch, .-sim_fiber_switch\n");

void *sim_fiber_prepare(char *stack, size_t size, void (*begin)(void))
{
	uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)15;
	uintptr_t *frame = (uintptr_t *)top - 8; /* six registers, the way in, no way back */

	memset(frame, 0, 8 * sizeof(*frame));
	frame[6] = (uintptr_t)begin;
	return frame;
}

#elif defined(__aarch64__)

__asm__(".text\n"
	".globl sim_fiber_switch\n"
	".hidden sim_fiber_switch\n"
	".type sim_fiber_switch, %function\n"
	"sim_fiber_switch:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	br x30\n"
	".size sim_fiber_switch, .-sim_fiber_switch\n");

void *sim_fiber_prepare(char *stack, size_t size, void (*begin)(void))
{
	uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)15;
	uintptr_t *frame = (uintptr_t *)(top - 160);

	memset(frame, 0, 160);
	frame[11] = (uintptr_t)begin; /* x30 */
	return frame;
}

#else
#error "a switch of stacks for this machine is missing"
#endif
