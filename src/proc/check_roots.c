/* The way to a document root: each symlink on it, so that `files` can see when one leads elsewhere. */
#include "proc/check_internal.h"

enum { LINKS_FOLLOWED_MAX = 40 }; /* path_resolution(7) */

struct way {
	struct arena *arena;
	struct span rest; /* of the path, from `folder` on */
	int folder;
	struct check_root_link *links;
	size_t count;
	unsigned followed;
};

static int enter(struct way *way, const char *name)
{
	int next, failed = os_open(way->folder, name, OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0, &next);

	if (failed)
		return failed;
	os_close(way->folder);
	way->folder = next;
	return 0;
}

/* Whether its parts begin at / again. */
static int enter_start(struct way *way)
{
	bool is_absolute = way->rest.len && way->rest.ptr[0] == '/';

	if (is_absolute)
		return enter(way, "/");
	if (way->folder < 0)
		return os_open(OS_FOLDER_CURRENT, ".", OS_OPEN_HANDLE | OS_OPEN_FOLDER, 0,
			       &way->folder);
	return 0;
}

static int follow(struct way *way, const char *name)
{
	struct check_root_link *link = &way->links[way->count];
	struct span target;
	int failed = os_link_read(way->folder, name, way->arena, &target);

	if (failed)
		return failed;
	if (++way->followed > LINKS_FOLLOWED_MAX)
		return -ELOOP;
	if (way->count < CHECK_ROOT_LINKS_MAX) {
		failed = os_duplicate(way->folder, &link->parent);
		if (!failed)
			failed = os_file_info(link->parent, &link->folder);
		if (failed)
			return failed;
		link->name = span_str(name);
		link->target = target;
		way->count++;
	}
	way->rest = arena_format(way->arena, "%.*s/%.*s", SPAN_ARG(target), SPAN_ARG(way->rest));
	return way->rest.ptr ? enter_start(way) : -ENOMEM;
}

static int step(struct way *way, struct span part)
{
	const char *name = arena_cstr(way->arena, part);
	struct os_file_info info;
	int failed = name ? os_file_info_at(way->folder, name, &info) : -ENOMEM;

	if (failed)
		return failed;
	return info.type == OS_FILE_SYMLINK ? follow(way, name) : enter(way, name);
}

size_t check_root_links(struct arena *arena, struct span path,
			struct check_root_link ret_links[CHECK_ROOT_LINKS_MAX])
{
	struct way way = { .arena = arena, .rest = path, .folder = -1, .links = ret_links };
	int failed = enter_start(&way);
	struct span part;

	while (!failed && span_cut(&way.rest, '/', &part)) {
		if (part.len)
			failed = step(&way, part);
	}
	os_close(way.folder);
	return way.count;
}
