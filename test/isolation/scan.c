/* Looks for secrets in the memory of running processes: `scan PATTERNS PID...`.
 *
 * PATTERNS is a file of pieces, PIECE bytes each. All present pages of all mappings are read by /proc/PID/mem, which
 * takes root. It prints, for each process,
 *
 *     map START-END RIGHTS NAME read BYTES refused BYTES     where there is anything present
 *     hit ADDRESS PIECE-NUMBER NAME
 *     process PID read BYTES refused BYTES hits COUNT
 *
 * "refused" are present bytes that the kernel does not give (memfd_secret). A sanitizer's shadow of the address space,
 * terabytes with nothing of the program's in it, is only named: `skipped START-END`. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PIECE = 16,
	PAGE = 4096,
	RUN_PAGES = 256,
	PREFIX_BITS = 24,
	HITS_SHOWN = 20,
	PRESENT_BIT = 63,
	SWAPPED_BIT = 62,
};
static const uint64_t SHADOW_LEAST = UINT64_C(1) << 36;

struct patterns {
	const uint8_t *pieces;
	size_t count;
	uint8_t *prefixes;      /* a bit for each prefix of 3 bytes that occurs */
	uint32_t *first, *next; /* by prefix & 0xffff; numbers from 1 */
};

struct process {
	int pid, memory, pages;
	uint64_t read, refused, hits;
};

static uint32_t prefix_of(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
}

static bool patterns_read(struct patterns *patterns, const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t capacity = 1 << 24, len;
	uint8_t *pieces = malloc(capacity);

	if (!file || !pieces)
		return false;
	len = fread(pieces, 1, capacity, file);
	fclose(file);
	patterns->pieces = pieces;
	patterns->count = len / PIECE;
	patterns->prefixes = calloc(1, (1u << PREFIX_BITS) / 8);
	patterns->first = calloc(0x10000, sizeof(uint32_t));
	patterns->next = calloc(patterns->count + 1, sizeof(uint32_t));
	if (!patterns->prefixes || !patterns->first || !patterns->next)
		return false;
	for (uint32_t i = 0; i < patterns->count; i++) {
		uint32_t prefix = prefix_of(pieces + (size_t)i * PIECE);

		patterns->prefixes[prefix / 8] |= (uint8_t)(1 << prefix % 8);
		patterns->next[i + 1] = patterns->first[prefix & 0xffff];
		patterns->first[prefix & 0xffff] = i + 1;
	}
	return patterns->count && len % PIECE == 0;
}

static void look(const struct patterns *patterns, struct process *process, const uint8_t *bytes,
		 size_t len, uint64_t address, const char *name)
{
	for (size_t at = 0; at + PIECE <= len; at++) {
		uint32_t prefix = prefix_of(bytes + at);

		if (!(patterns->prefixes[prefix / 8] & 1 << prefix % 8))
			continue;
		for (uint32_t i = patterns->first[prefix & 0xffff]; i; i = patterns->next[i]) {
			if (memcmp(bytes + at, patterns->pieces + (size_t)(i - 1) * PIECE, PIECE))
				continue;
			if (process->hits++ < HITS_SHOWN)
				printf("hit %llx %u %s\n", (unsigned long long)(address + at),
				       i - 1, name);
		}
	}
}

/* Up to RUN_PAGES pages that are there, from `start` on; what is read once is carried over to the next run, so that
 * nothing hides on a border. */
static void scan_map(const struct patterns *patterns, struct process *process, uint64_t start,
		     uint64_t end, const char *rights, const char *name)
{
	static uint8_t bytes[PIECE + RUN_PAGES * PAGE];
	static uint64_t entries[RUN_PAGES];
	uint64_t read_before = process->read, refused_before = process->refused, carried_to = 0;

	for (uint64_t at = start; at < end;) {
		uint64_t count = (end - at) / PAGE < RUN_PAGES ? (end - at) / PAGE : RUN_PAGES;

		if (pread(process->pages, entries, count * 8, (off_t)(at / PAGE * 8)) <= 0)
			return;
		for (uint64_t i = 0; i < count; i++, at += PAGE) {
			uint8_t *page = bytes + PIECE;

			if (!(entries[i] >> PRESENT_BIT & 1) && !(entries[i] >> SWAPPED_BIT & 1))
				continue;
			if (pread(process->memory, page, PAGE, (off_t)at) != PAGE) {
				process->refused += PAGE;
				continue;
			}
			process->read += PAGE;
			if (carried_to == at)
				look(patterns, process, bytes, PIECE + PAGE, at - PIECE, name);
			else
				look(patterns, process, page, PAGE, at, name);
			memcpy(bytes, page + PAGE - PIECE, PIECE);
			carried_to = at + PAGE;
		}
	}
	if (process->read > read_before || process->refused > refused_before)
		printf("map %llx-%llx %s %s read %llu refused %llu\n", (unsigned long long)start,
		       (unsigned long long)end, rights, name,
		       (unsigned long long)(process->read - read_before),
		       (unsigned long long)(process->refused - refused_before));
}

static int open_of(int pid, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool scan_process(const struct patterns *patterns, int pid)
{
	struct process process = { pid, open_of(pid, "mem"), open_of(pid, "pagemap"), 0, 0, 0 };
	FILE *maps = fdopen(open_of(pid, "smaps"), "r");
	unsigned long long start = 0, end = 0, kib;
	char line[4352], rights[8] = "", name[4096] = "-", next[4096];
	bool is_due = false;

	if (!maps || process.memory < 0 || process.pages < 0)
		return false;
	while (fgets(line, sizeof(line), maps)) {
		next[0] = '\0';
		if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %4095[^\n]", &start, &end, rights,
			   next) >= 3) {
			snprintf(name, sizeof(name), "%s", next[0] ? next : "-");
			is_due = true;
		}
		if (!is_due || sscanf(line, "Rss: %llu", &kib) != 1)
			continue;
		is_due = false;
		if (end - start >= SHADOW_LEAST && kib)
			printf("skipped %llx-%llx\n", start, end);
		/* Swapped pages have no Rss: small maps are looked through in any case. */
		else if (kib || end - start < SHADOW_LEAST >> 8)
			scan_map(patterns, &process, start, end, rights, name);
	}
	fclose(maps);
	close(process.memory);
	close(process.pages);
	printf("process %d read %llu refused %llu hits %llu\n", pid,
	       (unsigned long long)process.read, (unsigned long long)process.refused,
	       (unsigned long long)process.hits);
	return process.read > 0;
}

int main(int argc, char **argv)
{
	struct patterns patterns;

	if (argc < 3 || !patterns_read(&patterns, argv[1])) {
		fprintf(stderr, "scan PATTERNS PID...\n");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		if (!scan_process(&patterns, atoi(argv[i]))) {
			fprintf(stderr, "process %s cannot be read\n", argv[i]);
			return 1;
		}
	}
	return 0;
}
