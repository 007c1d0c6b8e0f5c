/* The dialer's look at the origins once the gateway serves: which of them does nobody answer at? It is for the
 * operator alone. No request waits for it, and nothing is decided by it: an origin may come later. */
#pragma once

#include "dial/dial.h"
#include "proc/proc.h"

enum { DIALER_LOOKS_MAX = 256 };

struct dialer_looks {
	uint64_t seen
		[DIALER_LOOKS_MAX]; /* origins that were looked at: of the snapshot of the last look */
	size_t seen_count;
	uint32_t open, told, untold;
};

/* Connects once to each origin of the committed snapshot that the look before did not know, and tells the
 * supervisor of those that do not answer. */
void dialer_look(struct dialer_looks *looks, struct proc_self *self, struct dial *dial);
