/* Paths, targets and hosts. Properties: the wire form is a fixed point of the normalisation and
 * means the same text; neither holds what an origin could read as another path. */
#include <string.h>

#include "http/http.h"

static void check_path(struct arena *arena, const struct http_path *path)
{
	struct http_path again;

	MUST(http_path_normalize(arena, path->wire, &again) == 0);
	MUST(span_equal(again.text, path->text) && span_equal(again.wire, path->wire));
	MUST(path->text.len && path->text.ptr[0] == '/');
	MUST(span_find(path->text, SPAN("//")) == path->text.len);
	MUST(span_find(path->text, SPAN("/../")) == path->text.len);
	MUST(span_find(path->text, SPAN("/./")) == path->text.len);
	MUST(!span_ends_with(path->text, SPAN("/..")) && !span_ends_with(path->text, SPAN("/.")));
	for (size_t i = 0; i < path->text.len; i++)
		MUST((uint8_t)path->text.ptr[i] >= 0x20 && path->text.ptr[i] != 0x7f &&
		     path->text.ptr[i] != '\\');
	for (size_t i = 0; i < path->wire.len; i++)
		MUST((uint8_t)path->wire.ptr[i] > 0x20 && (uint8_t)path->wire.ptr[i] < 0x7f);

	/* A rewrite that changes nothing must come back to the same path. */
	struct span encoded = http_path_encode(arena, path->text);

	MUST(http_path_normalize(arena, encoded, &again) == 0 &&
	     span_equal(again.text, path->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_method methods[] = { HTTP_GET, HTTP_OPTIONS, HTTP_CONNECT };
	struct span raw = span_of(data, size);
	struct http_authority authority, again;
	struct http_path path;
	struct arena arena;

	arena_init(&arena, 0);
	if (http_path_normalize(&arena, raw, &path) == 0)
		check_path(&arena, &path);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		struct http_request request = { .method = methods[i] };

		if (http_target_parse(&arena, raw, &request) == 0 &&
		    request.target_form != HTTP_TARGET_AUTHORITY &&
		    request.target_form != HTTP_TARGET_ASTERISK)
			check_path(&arena, &request.path);
	}
	if (http_authority_parse(&arena, raw, &authority) == 0 && authority.kind != HTTP_HOST_V6) {
		MUST(http_authority_parse(&arena, authority.host, &again) == 0);
		MUST(span_equal(again.host, authority.host) && again.kind == authority.kind);
	}
	arena_fini(&arena);
	return 0;
}
