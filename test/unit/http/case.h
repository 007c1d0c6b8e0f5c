/* What every test of http starts with. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/http.h"

static struct arena arena;

static inline int setup(void **state)
{
	(void)state;
	arena_init(&arena, 0);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static inline void assert_span(struct span got, const char *expected, const char *name)
{
	if (!span_equal(got, span_str(expected)))
		fail_msg("%s: got `%.*s`, not `%s`", name, SPAN_ARG(got), expected);
}

static inline void add(struct http_fields *fields, const char *name, const char *value)
{
	assert_int_equal(http_fields_add(fields, span_str(name), span_str(value)), 0);
}
