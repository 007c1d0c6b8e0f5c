#include "os/linux/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Who listens on a port: /proc/net/tcp{,6} gives the socket's inode and uid, /proc/PID/fd the
 * process. */

enum { TABLE_CAP = 16 << 20 };

struct listening {
	struct os_address address;
	uint32_t uid;
	uint64_t inode;
};

/* proc(5): the address as 32-bit words in the machine's order, in hexadecimal. */
static bool parse_table_address(struct span text, struct os_address *ret_address)
{
	struct span ip_text;
	uint8_t ip[16] = { 0 };
	uint64_t value;

	if (!span_cut(&text, ':', &ip_text) || (ip_text.len != 8 && ip_text.len != 32))
		return false;
	for (size_t at = 0; at < ip_text.len / 8; at++) {
		uint32_t word;

		if (!parse_hex_u64(span_first(span_skip(ip_text, at * 8), 8), UINT32_MAX, &value))
			return false;
		word = (uint32_t)value;
		memcpy(ip + at * 4, &word, 4);
	}
	if (!parse_hex_u64(text, UINT16_MAX, &value))
		return false;
	*ret_address =
		os_address_of(ip_text.len == 8 ? OS_FAMILY_V4 : OS_FAMILY_V6, ip, (uint16_t)value);
	return true;
}

static bool parse_table_line(struct span line, struct listening *ret_listening)
{
	enum { LOCAL = 1, STATE = 3, USER = 7, INODE = 9, FIELDS = 10 };
	struct span fields[FIELDS] = { SPAN_NONE }, word;
	size_t count = 0;
	uint64_t uid;

	while (count < FIELDS && span_cut(&line, ' ', &word))
		if (word.len)
			fields[count++] = word;
	if (count < FIELDS || !span_equal(fields[STATE], SPAN("0A")))
		return false;
	if (!parse_u64(fields[USER], UINT32_MAX, &uid) ||
	    !parse_u64(fields[INODE], UINT64_MAX, &ret_listening->inode))
		return false;
	ret_listening->uid = (uint32_t)uid;
	return parse_table_address(fields[LOCAL], &ret_listening->address);
}

static bool stands_in_the_way(const struct os_address *wanted, const struct os_address *held)
{
	if (wanted->port != held->port)
		return false;
	return os_address_is_any(wanted) || os_address_is_any(held) ||
	       os_address_same_ip(wanted, held);
}

static int table_find(const char *path, const struct os_address *address,
		      struct listening *ret_listening)
{
	struct span text, line;
	struct listening found;
	struct arena arena;
	int error;

	arena_init(&arena, 4 * (size_t)TABLE_CAP);
	error = os_file_read(OS_FOLDER_CURRENT, path, TABLE_CAP, &arena, &text);
	if (!error)
		error = -ENOENT;
	else
		text = SPAN_NONE;
	while (error == -ENOENT && span_cut(&text, '\n', &line)) {
		if (!parse_table_line(line, &found) || !stands_in_the_way(address, &found.address))
			continue;
		*ret_listening = found;
		error = 0;
	}
	arena_fini(&arena);
	return error;
}

/* ---- The process behind an inode ----------------------------------------------------------- */

struct search {
	char target[64]; /* "socket:[123]" */
	int fds;         /* /proc/PID/fd of the process that is looked at */
};

static int compare_link(void *owner, const char *name, enum os_file_type type)
{
	struct search *search = owner;
	struct arena arena;
	struct span target;
	int found;

	(void)type;
	arena_init(&arena, 64 * 1024);
	found = os_link_read(search->fds, name, &arena, &target) == 0 &&
		span_equal(target, span_str(search->target));
	arena_fini(&arena);
	return found;
}

static int compare_process(void *owner, const char *name, enum os_file_type type)
{
	struct search *search = owner;
	char path[NAME_MAX + 16];
	uint64_t pid;
	int found;

	(void)type;
	if (!parse_u64(span_str(name), INT32_MAX, &pid))
		return 0;
	snprintf(path, sizeof(path), "/proc/%s/fd", name);
	if (os_open(OS_FOLDER_CURRENT, path, OS_OPEN_FOLDER, 0, &search->fds) < 0)
		return 0; /* gone, or not ours to look into */
	found = os_folder_list(search->fds, compare_link, search);
	os_close(search->fds);
	return found > 0 ? (int)pid : 0;
}

int os_port_holder(const struct os_address *address, struct os_port_holder *ret_holder)
{
	struct os_port_holder holder = { 0 };
	struct listening listening;
	struct search search;
	struct writer name = writer_of(holder.program, sizeof(holder.program) - 1);
	OS_AUTO_FD proc = -1;
	int error = table_find("/proc/net/tcp", address, &listening);

	if (error)
		error = table_find("/proc/net/tcp6", address, &listening);
	if (error)
		return error;
	holder.uid = listening.uid;
	snprintf(search.target, sizeof(search.target), "socket:[%llu]",
		 (unsigned long long)listening.inode);
	if (os_open(OS_FOLDER_CURRENT, "/proc", OS_OPEN_FOLDER, 0, &proc) == 0) {
		int pid = os_folder_list(proc, compare_process, &search);

		if (pid > 0) {
			holder.pid = pid;
			if (os_process_program_name(pid, &name) < 0)
				holder.program[0] = 0;
		}
	}
	*ret_holder = holder;
	return 0;
}
