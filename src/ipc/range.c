#include "ipc/ipc.h"

void ipc_ranges_sum(const struct ipc_range *const *ranges, size_t count,
		    struct ipc_gauges *ret_gauges)
{
	*ret_gauges = (struct ipc_gauges){ 0 };
	for (size_t i = 0; i < count; i++) {
		const struct ipc_range *range = ranges[i];

		ret_gauges->processes += __atomic_load_n(&range->heartbeat, __ATOMIC_RELAXED) != 0;
		ret_gauges->connections += __atomic_load_n(&range->connections, __ATOMIC_RELAXED);
		ret_gauges->exchanges += __atomic_load_n(&range->exchanges, __ATOMIC_RELAXED);
		ret_gauges->slots_accepted +=
			__atomic_load_n(&range->slots_accepted, __ATOMIC_RELAXED);
	}
}
