/* What the processes of the world have in use: allocations that live, objects of slabs, blocks of pools, objects of a
 * heap for keys. Left out is what they keep as room for the next time: a slab's pages, a pool's free blocks, spare
 * exchanges, a map's cells, arrays that only grow. So of two worlds at rest that have the same to do, however they got there, each
 * process has exactly the same in use. */
#pragma once

#include "os/sim/sim.h"

struct census {
	size_t allocations, bytes, objects, blocks, secrets;
};

void census_begin(void);                   /* in a new world */
struct census census_of(const char *role); /* of all processes of that name */
bool census_equal(const struct census *a, const struct census *b);
void census_write(const struct census *census, struct writer *out);
