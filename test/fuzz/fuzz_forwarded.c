/* Lists of those whom a request passed: lines of a field. The first byte chooses its form. Properties: an element
 * lies in its line, in order, and none is empty; each is read alone as it is in its list; nothing that is put before
 * a list changes what its elements say; an address, written again, is read again. */
#include <stdlib.h>
#include <string.h>

#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ELEMENTS_MAX = 4096 };

static const struct span name = { "Forwarded", 9 };

static void check_written(struct arena *arena, const struct http_node *node)
{
	char text[64];
	struct writer writer = writer_of(text, sizeof(text));
	struct http_forwarded_element element;
	struct http_forwarded walk;
	struct http_fields fields;
	struct http_hop hop = { .secure = true };

	for (size_t i = 0; i < (node->family == 4 ? 4 : 8); i++) {
		write_str(&writer, !i ? "" : node->family == 4 ? "." : ":");
		if (node->family == 4)
			write_u64(&writer, node->ip[i]);
		else
			write_hex_u64(&writer, (uint64_t)node->ip[2 * i] << 8 | node->ip[2 * i + 1],
				      4);
	}
	hop.client = writer_done(&writer);
	http_fields_init(&fields, arena);
	MUST(http_fields_add_forwarded(&fields, &hop) == 0);
	for (int form = HTTP_FORWARDED_LIST; form <= HTTP_FORWARDED_PAIRS; form++) {
		struct span field =
			form == HTTP_FORWARDED_LIST ? SPAN("X-Forwarded-For") : SPAN("Forwarded");

		http_forwarded_init(&walk, &fields, field, (enum http_forwarded_form)form);
		MUST(http_forwarded_previous(&walk, &element));
		MUST(element.node.family == node->family);
		MUST(memcmp(element.node.ip, node->ip, sizeof(node->ip)) == 0);
		MUST(!http_forwarded_previous(&walk, &element));
	}
}

static bool is_same(const struct http_forwarded_element *a, const struct http_forwarded_element *b)
{
	return memcmp(&a->node, &b->node, sizeof(a->node)) == 0 && span_equal(a->text, b->text) &&
	       span_equal(a->host, b->host) && span_equal(a->proto, b->proto);
}

static void check_alone(struct arena *arena, const struct http_forwarded_element *element,
			enum http_forwarded_form form)
{
	struct http_forwarded_element again;
	struct http_forwarded walk;
	struct http_fields fields;

	http_fields_init(&fields, arena);
	MUST(http_fields_add(&fields, name, element->text) == 0);
	http_forwarded_init(&walk, &fields, name, form);
	MUST(http_forwarded_previous(&walk, &again) && is_same(element, &again));
	MUST(!http_forwarded_previous(&walk, &again));
}

/* before: put in front of the first line, with a comma. Those that were there come first, as they were, but for
 * the one that begins the line. */
static void check_before(struct arena *arena, const struct http_fields *fields,
			 enum http_forwarded_form form, struct span before)
{
	struct http_forwarded_element one, other;
	struct http_forwarded walk, longer;
	struct http_fields copy;
	struct span parts[3] = { before, SPAN(","), SPAN_NONE };

	MUST(http_fields_copy(&copy, fields, arena) == 0);
	parts[2] = copy.items[0].value;
	copy.items[0].value = arena_join(arena, parts, 3);
	http_forwarded_init(&walk, fields, name, form);
	http_forwarded_init(&longer, &copy, name, form);
	while (http_forwarded_previous(&walk, &one)) {
		MUST(http_forwarded_previous(&longer, &other));
		/* A quote that is open at the line's start reaches beyond it. */
		if (!walk.line && !walk.rest.len)
			break;
		MUST(is_same(&one, &other));
	}
}

static size_t walk_all(struct arena *arena, const struct http_fields *fields,
		       enum http_forwarded_form form)
{
	struct http_forwarded_element element;
	struct http_forwarded walk;
	size_t count = 0;

	http_forwarded_init(&walk, fields, name, form);
	while (http_forwarded_previous(&walk, &element)) {
		MUST(element.text.len > 0 && ++count <= ELEMENTS_MAX);
		MUST(walk.line < fields->count);
		struct span line = fields->items[walk.line].value;
		MUST(element.text.ptr >= line.ptr &&
		     element.text.ptr + element.text.len <= line.ptr + line.len);
		MUST(element.node.family == 0 || element.node.family == 4 ||
		     element.node.family == 6);
		check_alone(arena, &element, form);
		if (element.node.family)
			check_written(arena, &element.node);
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum http_forwarded_form form;
	struct http_fields fields;
	struct span rest, line;
	struct arena arena;

	if (size < 2 || size > ELEMENTS_MAX)
		return -1;
	form = data[0] & 1 ? HTTP_FORWARDED_PAIRS : HTTP_FORWARDED_LIST;
	arena_init(&arena, 0);
	http_fields_init(&fields, &arena);
	rest = arena_copy(&arena, span_of(data + 1, size - 1));
	MUST(rest.ptr);
	while (span_cut(&rest, '\n', &line)) {
		line = span_trim(line);
		if (http_is_field_value(line))
			MUST(http_fields_add(&fields, name, line) == 0);
	}
	(void)walk_all(&arena, &fields, form);
	if (fields.count)
		check_before(&arena, &fields, form, SPAN("for=\"[2001:db8::1]\", unknown"));
	arena_fini(&arena);
	return 0;
}
