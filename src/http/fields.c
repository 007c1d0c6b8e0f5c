#include "http/http.h"

#include <string.h>

enum { FIELDS_CAPACITY_FIRST = 16 };

void http_fields_init(struct http_fields *fields, struct arena *arena)
{
	*fields = (struct http_fields){ .arena = arena };
}

static int fields_append(struct http_fields *fields, struct http_field field)
{
	if (fields->count == fields->capacity) {
		uint32_t capacity = fields->capacity ? fields->capacity * 2 : FIELDS_CAPACITY_FIRST;
		struct http_field *items = arena_array(fields->arena, struct http_field, capacity);

		if (!items)
			return -ENOMEM;
		if (fields->count)
			memcpy(items, fields->items, fields->count * sizeof(*items));
		fields->items = items;
		fields->capacity = capacity;
	}
	fields->items[fields->count++] = field;
	return 0;
}

int http_fields_add(struct http_fields *fields, struct span name, struct span value)
{
	return fields_append(
		fields,
		(struct http_field){ .name = name, .value = value, .id = http_name_of(name) });
}

int http_fields_add_id(struct http_fields *fields, enum http_name id, struct span value)
{
	return fields_append(
		fields,
		(struct http_field){ .name = http_name_text(id), .value = value, .id = id });
}

int http_fields_set(struct http_fields *fields, struct span name, struct span value)
{
	http_fields_remove_text(fields, name);
	return http_fields_add(fields, name, value);
}

const struct http_field *http_fields_next(const struct http_fields *fields, enum http_name id,
					  const struct http_field *after)
{
	for (uint32_t i = after ? (uint32_t)(after - fields->items) + 1 : 0; i < fields->count; i++)
		if (fields->items[i].id == id)
			return &fields->items[i];
	return NULL;
}

const struct http_field *http_fields_find_text(const struct http_fields *fields, struct span name)
{
	for (uint32_t i = 0; i < fields->count; i++)
		if (span_equal_nocase(fields->items[i].name, name))
			return &fields->items[i];
	return NULL;
}

struct span http_fields_value(const struct http_fields *fields, enum http_name id)
{
	const struct http_field *field = http_fields_next(fields, id, NULL);

	return field ? field->value : SPAN_NONE;
}

bool http_fields_has(const struct http_fields *fields, enum http_name id)
{
	return http_fields_next(fields, id, NULL);
}

uint32_t http_fields_count(const struct http_fields *fields, enum http_name id)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fields->count; i++)
		count += fields->items[i].id == id;
	return count;
}

uint32_t http_fields_remove(struct http_fields *fields, enum http_name id)
{
	uint32_t kept = 0, removed;

	for (uint32_t i = 0; i < fields->count; i++)
		if (fields->items[i].id != id)
			fields->items[kept++] = fields->items[i];
	removed = fields->count - kept;
	fields->count = kept;
	return removed;
}

uint32_t http_fields_remove_text(struct http_fields *fields, struct span name)
{
	uint32_t kept = 0, removed;

	for (uint32_t i = 0; i < fields->count; i++)
		if (!span_equal_nocase(fields->items[i].name, name))
			fields->items[kept++] = fields->items[i];
	removed = fields->count - kept;
	fields->count = kept;
	return removed;
}

bool http_list_next(struct span *rest, struct span *ret_element)
{
	struct span part;

	while (span_cut(rest, ',', &part)) {
		part = span_trim(part);
		if (part.len) {
			*ret_element = part;
			return true;
		}
	}
	return false;
}

bool http_fields_list_has(const struct http_fields *fields, enum http_name id, struct span token)
{
	for (const struct http_field *field = http_fields_next(fields, id, NULL); field;
	     field = http_fields_next(fields, id, field)) {
		struct span rest = field->value, element;

		while (http_list_next(&rest, &element))
			if (span_equal_nocase(element, token))
				return true;
	}
	return false;
}

int http_fields_copy(struct http_fields *ret, const struct http_fields *fields, struct arena *arena)
{
	struct http_fields copy = { .arena = arena };

	if (fields->count) {
		copy.items = arena_array(arena, struct http_field, fields->count);
		if (!copy.items)
			return -ENOMEM;
		memcpy(copy.items, fields->items, fields->count * sizeof(*copy.items));
		copy.count = copy.capacity = fields->count;
	}
	*ret = copy;
	return 0;
}
