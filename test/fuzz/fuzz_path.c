/* Paths, targets and hosts. Properties: the wire form is a fixed point of the normalisation and
 * means the same text; neither holds what an origin could read as another path; a target and an
 * authority put together again from their parts have the same parts. */
#include <string.h>

#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void check_target(struct arena *arena, struct span raw, enum http_method method)
{
	struct http_request request = { .method = method }, again = { .method = method };
	struct span text;

	if (http_target_parse(arena, raw, &request) != 0)
		return;
	MUST(span_equal(request.target_raw, raw));
	if (request.target_form == HTTP_TARGET_AUTHORITY) {
		MUST(method == HTTP_CONNECT && request.authority.port != 0);
		return;
	}
	if (request.target_form == HTTP_TARGET_ASTERISK) {
		MUST(method == HTTP_OPTIONS && span_equal(raw, SPAN("*")));
		return;
	}
	check_path(arena, &request.path);
	for (size_t i = 0; i < request.query.len; i++)
		MUST((uint8_t)request.query.ptr[i] > 0x20 && (uint8_t)request.query.ptr[i] < 0x7f &&
		     request.query.ptr[i] != '#');
	text = arena_format(arena, "%.*s%s%.*s", SPAN_ARG(request.path.wire),
			    request.has_query ? "?" : "", SPAN_ARG(request.query));
	MUST(http_target_parse(arena, text, &again) == 0);
	MUST(again.target_form == HTTP_TARGET_ORIGIN);
	MUST(span_equal(again.path.text, request.path.text) &&
	     span_equal(again.path.wire, request.path.wire) &&
	     span_equal(again.path.other, request.path.other));
	MUST(again.has_query == request.has_query && span_equal(again.query, request.query));
}

static void check_authority(struct arena *arena, struct span raw)
{
	struct http_authority authority, again;
	bool is_v6;
	struct span text;

	if (http_authority_parse(arena, raw, &authority) != 0)
		return;
	is_v6 = authority.kind == HTTP_HOST_V6;
	MUST(authority.kind != HTTP_HOST_NONE && authority.host.len &&
	     span_equal(authority.raw, raw));
	text = authority.port
		       ? arena_format(arena, "%s%.*s%s:%u", is_v6 ? "[" : "",
				      SPAN_ARG(authority.host), is_v6 ? "]" : "", authority.port)
		       : arena_format(arena, "%s%.*s%s", is_v6 ? "[" : "", SPAN_ARG(authority.host),
				      is_v6 ? "]" : "");
	MUST(http_authority_parse(arena, text, &again) == 0);
	MUST(span_equal(again.host, authority.host) && again.kind == authority.kind &&
	     again.port == authority.port);
	MUST(http_authority_equal(&again, &authority, true) &&
	     http_authority_equal(&authority, &again, false));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum http_method methods[] = { HTTP_GET, HTTP_OPTIONS, HTTP_CONNECT };
	struct span raw = span_of(data, size);
	struct http_path path;
	struct arena arena;

	arena_init(&arena, 0);
	if (http_path_normalize(&arena, raw, &path) == 0)
		check_path(&arena, &path);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		check_target(&arena, raw, methods[i]);
	check_authority(&arena, raw);
	arena_fini(&arena);
	return 0;
}
