/* What the language asks for while it parses: included files, globs and the environment. */
#include "proc/check_internal.h"
#include "proc/proc.h"

#include <string.h>

static int on_read(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	struct arena *arena = owner;
	char *name = arena_cstr(arena, path);
	struct os_file_info info;
	OS_AUTO_FD fd = -1;
	int failed = name ? os_open(OS_FOLDER_CURRENT, name, OS_OPEN_READ, 0, &fd) : -ENOMEM;

	if (!failed)
		failed = os_file_info(fd, &info);
	if (!failed)
		failed = os_file_read_fd(fd, CHECK_FILE_MAX, arena, ret_text);
	if (!failed)
		*ret_identity = hash_id(span_of(&info.inode, 2 * sizeof(uint64_t)));
	return failed;
}

struct listing {
	struct arena *arena;
	struct span folder, prefix, suffix;
	struct span *names;
	size_t count, capacity;
};

static int on_name(void *owner, const char *name, enum os_file_type type)
{
	struct listing *listing = owner;
	struct span text = span_str(name), path;
	void *names = listing->names;

	(void)type;
	if (text.len < listing->prefix.len + listing->suffix.len ||
	    !span_starts_with(text, listing->prefix) || !span_ends_with(text, listing->suffix) ||
	    (name[0] == '.' && !listing->prefix.len))
		return 0;
	path = arena_format(listing->arena, "%.*s%s", SPAN_ARG(listing->folder), name);
	if (!path.ptr ||
	    !heap_grow(&names, &listing->capacity, listing->count + 1, sizeof(*listing->names)))
		return -ENOMEM;
	listing->names = names;
	listing->names[listing->count++] = path;
	return 0;
}

static void sort_names(struct span *names, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct span name = names[i];
		size_t at = i;

		for (; at > 0 && span_compare(names[at - 1], name) > 0; at--)
			names[at] = names[at - 1];
		names[at] = name;
	}
}

/* A glob has one `*`, in its last part: `sites/(star).conf`. */
static int on_list(void *owner, struct span pattern, const struct span **ret_names,
		   size_t *ret_count)
{
	struct arena *arena = owner;
	struct listing listing = { .arena = arena };
	size_t slash = pattern.len, star;
	struct span last, *copy;
	OS_AUTO_FD folder = -1;
	char *name;
	int failed;

	while (slash > 0 && pattern.ptr[slash - 1] != '/')
		slash--;
	listing.folder = span_first(pattern, slash);
	last = span_skip(pattern, slash);
	star = span_find_byte(last, '*');
	listing.prefix = span_first(last, star);
	listing.suffix = span_skip(last, star + 1);
	name = arena_cstr(arena, listing.folder.len ? listing.folder : SPAN("."));
	failed = name ? os_open(OS_FOLDER_CURRENT, name, OS_OPEN_READ | OS_OPEN_FOLDER, 0, &folder)
		      : -ENOMEM;
	if (failed == -ENOENT) {
		*ret_count = 0;
		return 0;
	}
	if (!failed)
		failed = os_folder_list(folder, on_name, &listing);
	copy = failed ? NULL : arena_array(arena, struct span, listing.count + 1);
	if (copy && listing.count)
		memcpy(copy, listing.names, listing.count * sizeof(*copy));
	heap_free(listing.names);
	if (!copy)
		return failed ? failed : -ENOMEM;
	sort_names(copy, listing.count);
	*ret_names = copy;
	*ret_count = listing.count;
	return 0;
}

static bool on_environment(void *owner, struct span name, struct span *ret_value)
{
	struct arena *arena = owner;
	char *copy = arena_cstr(arena, name);
	const char *value = copy ? os_environment(copy) : NULL;

	*ret_value = span_str(value);
	return value != NULL;
}

struct conf_functions proc_text_functions(struct arena *arena)
{
	return (struct conf_functions){
		.owner = arena, .read = on_read, .list = on_list, .environment = on_environment
	};
}
