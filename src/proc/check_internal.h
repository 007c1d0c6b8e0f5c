/* What the files of the check job share. */
#pragma once

#include "conf/conf.h"
#include "os/os.h"

enum {
	CHECK_FILE_MAX = 16 << 20, /* bytes of a text */
	CHECK_ROOT_LINKS_MAX = 8,
};

/* A symlink on the way to a document root, and where it leads. */
struct check_root_link {
	int parent; /* O_PATH of the folder it lies in */
	struct os_file_info folder;
	struct span name, target;
};

/* The first of them, in the order of the way; how many. What is not there ends the way without a word: opening the
 * root says it. Memory is the arena's, descriptors are the caller's. */
size_t check_root_links(struct arena *arena, struct span path,
			struct check_root_link ret_links[CHECK_ROOT_LINKS_MAX]);
