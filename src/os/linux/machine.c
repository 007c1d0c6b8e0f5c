#include "os/linux/internal.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

size_t os_cpus(unsigned *ret_cpus, size_t max)
{
	cpu_set_t set;
	size_t count = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0) {
		/* More than CPU_SETSIZE CPUs: one is a safe answer. */
		if (max)
			ret_cpus[0] = 0;
		return 1;
	}
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		if (count < max)
			ret_cpus[count] = cpu;
		count++;
	}
	return count;
}

int os_cpu_pin(unsigned cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

void os_random(void *buf, size_t size)
{
	char *at = buf;

	while (size > 0) {
		ssize_t len = RETRY(getrandom(at, size, 0));

		MUST(len > 0);
		at += len;
		size -= (size_t)len;
	}
}

const char *os_environment(const char *name)
{
	return getenv(name);
}

const char *const *os_environment_all(void)
{
	return (const char *const *)environ;
}

int os_host_name(struct writer *out)
{
	char name[HOST_NAME_MAX + 1] = "";

	if (gethostname(name, sizeof(name) - 1) < 0)
		return -errno;
	write_str(out, name);
	return 0;
}

int os_kernel_version(struct writer *out)
{
	struct utsname names;

	if (uname(&names) < 0)
		return -errno;
	write_str(out, names.release);
	return 0;
}

static bool is_link_local(const struct os_address *address)
{
	if (address->family == OS_FAMILY_V4)
		return address->ip[0] == 169 && address->ip[1] == 254;
	return address->ip[0] == 0xfe && (address->ip[1] & 0xc0) == 0x80;
}

int os_interface_addresses(struct os_address *ret_addresses, size_t max)
{
	struct ifaddrs *first;
	size_t count = 0;

	if (getifaddrs(&first) < 0)
		return -errno;
	for (const struct ifaddrs *item = first; item && count < max; item = item->ifa_next) {
		struct sockaddr_storage native = { 0 };
		struct os_address address;
		unsigned len;

		if (!item->ifa_addr || !(item->ifa_flags & IFF_UP))
			continue;
		if (item->ifa_addr->sa_family != AF_INET && item->ifa_addr->sa_family != AF_INET6)
			continue;
		len = item->ifa_addr->sa_family == AF_INET ? 16
							   : 28; /* sockaddr_in, sockaddr_in6 */
		memcpy(&native, item->ifa_addr, len);
		if (os_address_from_native(&native, len, &address) == 0 && !is_link_local(&address))
			ret_addresses[count++] = address;
	}
	freeifaddrs(first);
	return (int)count;
}

/* ---- Users: /etc/passwd itself. The library's way would load modules and ask the network. -- */

enum {
	PASSWD_NAME,
	PASSWD_UID = 2,
	PASSWD_GID,
	PASSWD_HOME = 5,
	PASSWD_FIELDS = 7,
	PASSWD_CAP = 1 << 20
};

static int passwd_find(struct arena *arena, struct span name, uint32_t uid, struct span *ret_fields)
{
	struct span text, line;
	int error = os_file_read(OS_FOLDER_CURRENT, "/etc/passwd", PASSWD_CAP, arena, &text);

	if (error)
		return error;
	while (span_cut(&text, '\n', &line)) {
		struct span fields[PASSWD_FIELDS] = { SPAN_NONE };
		uint64_t number;

		for (size_t i = 0; i < PASSWD_FIELDS && span_cut(&line, ':', &fields[i]); i++)
			;
		if (!parse_u64(fields[PASSWD_UID], UINT32_MAX, &number))
			continue;
		if (name.len ? !span_equal(fields[PASSWD_NAME], name) : number != uid)
			continue;
		memcpy(ret_fields, fields, sizeof(fields));
		return 0;
	}
	return -ENOENT;
}

int os_user_find(const char *name, uint32_t *ret_uid, uint32_t *ret_gid)
{
	struct span fields[PASSWD_FIELDS];
	struct arena arena;
	uint64_t uid = 0, gid = 0;
	int error;

	arena_init(&arena, 4 * PASSWD_CAP);
	error = passwd_find(&arena, span_str(name), 0, fields);
	if (!error && (!parse_u64(fields[PASSWD_UID], UINT32_MAX, &uid) ||
		       !parse_u64(fields[PASSWD_GID], UINT32_MAX, &gid)))
		error = -ENOENT;
	arena_fini(&arena);
	if (error)
		return error;
	*ret_uid = (uint32_t)uid;
	*ret_gid = (uint32_t)gid;
	return 0;
}

int os_user_home(uint32_t uid, struct arena *arena, struct span *ret_home)
{
	struct span fields[PASSWD_FIELDS];
	int error = passwd_find(arena, SPAN_NONE, uid, fields);
	char *home;

	if (error)
		return error;
	home = arena_cstr(arena, fields[PASSWD_HOME]);
	if (!home)
		return -ENOMEM;
	*ret_home = span_str(home);
	return 0;
}

uint64_t os_memory_total(void)
{
	uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), limit;
	struct arena arena;
	struct span text;

	/* A container sees its own group here; without a limit it says "max" or is missing. */
	arena_init(&arena, 64 * 1024);
	if (os_file_read(OS_FOLDER_CURRENT, "/sys/fs/cgroup/memory.max", 4096, &arena, &text) ==
		    0 &&
	    parse_u64(span_first(text, span_find_byte(text, '\n')), UINT64_MAX, &limit) &&
	    limit < total)
		total = limit;
	arena_fini(&arena);
	return total;
}
