/* forwarded: nodes, lists read from their end, and what is written. */
#include "case.h"

/* ---- Nodes ------------------------------------------------------------------------------------- */

static const struct {
	const char *text;
	const char *address; /* with its port; NULL: none */
} nodes[] = {
	{ "192.0.2.1", "192.0.2.1 0" },
	{ "192.0.2.1:80", "192.0.2.1 80" },
	{ "192.0.2.1:0", "192.0.2.1 0" },
	{ "192.0.2.1:65535", "192.0.2.1 65535" },
	{ "192.0.2.1:_hidden", "192.0.2.1 0" },
	{ "\"192.0.2.1:80\"", "192.0.2.1 80" },
	{ "2001:db8::1", "2001:0db8:0000:0000:0000:0000:0000:0001 0" },
	{ "[2001:db8::1]", "2001:0db8:0000:0000:0000:0000:0000:0001 0" },
	{ "[2001:DB8::1]:443", "2001:0db8:0000:0000:0000:0000:0000:0001 443" },
	{ "\"[2001:db8::1]:443\"", "2001:0db8:0000:0000:0000:0000:0000:0001 443" },
	{ "\"[2001:db8::1]:_x\"", "2001:0db8:0000:0000:0000:0000:0000:0001 0" },
	{ "::", "0000:0000:0000:0000:0000:0000:0000:0000 0" },
	{ "::ffff:192.0.2.1", "192.0.2.1 0" },
	{ "[::ffff:c000:201]:7", "192.0.2.1 7" },
	{ "unknown", NULL },
	{ "Unknown", NULL },
	{ "_hidden", NULL },
	{ "_hidden:80", NULL },
	{ "unknown:80", NULL },
	{ "", NULL },
	{ "\"", NULL },
	{ "\"\"", NULL },
	{ "-", NULL },
	{ "localhost", NULL },
	{ "192.0.2", NULL },
	{ "192.0.2.1.5", NULL },
	{ "192.0.2.256", NULL },
	{ "192.0.2.01", NULL },
	{ "192.0.2.1:", NULL },
	{ "192.0.2.1:x", NULL },
	{ "192.0.2.1:65536", NULL },
	{ "192.0.2.1:-1", NULL },
	{ "192.0.2.1 ", NULL },
	{ "192.0.2.1/24", NULL },
	{ "[192.0.2.1]", NULL },
	{ "[2001:db8::1", NULL },
	{ "2001:db8::1]", NULL },
	{ "[2001:db8::1]80", NULL },
	{ "[2001:db8::1]:", NULL },
	{ "[fe80::1%eth0]", NULL },
	{ "fe80::1%2", NULL },
	{ "1:2:3", NULL },
	{ "::1::", NULL },
	{ "0x7f.0.0.1", NULL },
	{ "2130706433", NULL },
};

static void write_node(struct writer *writer, const struct http_node *node)
{
	for (size_t i = 0; node->family == 4 && i < 4; i++)
		write_format(writer, "%s%u", i ? "." : "", node->ip[i]);
	for (size_t i = 0; node->family == 6 && i < 16; i += 2)
		write_format(writer, "%s%02x%02x", i ? ":" : "", node->ip[i], node->ip[i + 1]);
	if (node->family)
		write_format(writer, " %u", node->port);
	else
		write_str(writer, "-");
}

static void test_nodes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
		struct http_node node = http_node_parse(span_str(nodes[i].text));
		char text[64];
		struct writer writer = writer_of(text, sizeof(text));

		write_node(&writer, &node);
		assert_span(writer_done(&writer), nodes[i].address ? nodes[i].address : "-",
			    nodes[i].text);
	}
}

/* ---- The walk ------------------------------------------------------------------------------------ */

static const struct {
	const char *name, *lines[4];
	const char *expected; /* each element, from the last one on: node, host, proto */
} walks[] = {
	{ "X-Forwarded-For", { "192.0.2.1" }, "192.0.2.1 0|" },
	{ "X-Forwarded-For",
	  { "192.0.2.1, 192.0.2.2 ,192.0.2.3" },
	  "192.0.2.3 0|192.0.2.2 0|192.0.2.1 0|" },
	{ "X-Forwarded-For",
	  { "192.0.2.1", "192.0.2.2, 192.0.2.3" },
	  "192.0.2.3 0|192.0.2.2 0|192.0.2.1 0|" },
	{ "X-Forwarded-For", { ",, 192.0.2.1,,", "", " , " }, "192.0.2.1 0|" },
	{ "X-Forwarded-For", { "evil\"x, 192.0.2.9" }, "192.0.2.9 0|-|" },
	{ "X-Forwarded-For", { "a b, unknown" }, "-|-|" },
	{ "X-Forwarded-For", { NULL }, "" },
	{ "CF-Connecting-IP", { "2001:db8::1" }, "2001:0db8:0000:0000:0000:0000:0000:0001 0|" },
	{ "Forwarded", { "for=192.0.2.1" }, "192.0.2.1 0|" },
	{ "Forwarded",
	  { "For=192.0.2.1;HOST=a.example;Proto=https;by=_x" },
	  "192.0.2.1 0 a.example https|" },
	{ "Forwarded",
	  { "for=\"[2001:db8::1]:8\";host=\"a.example:8443\"" },
	  "2001:0db8:0000:0000:0000:0000:0000:0001 8 a.example:8443|" },
	{ "Forwarded",
	  { "for=192.0.2.1, for=192.0.2.2", "for=192.0.2.3 ; proto=http" },
	  "192.0.2.3 0 http|192.0.2.2 0|192.0.2.1 0|" },
	{ "Forwarded",
	  { "for=192.0.2.1;ext=\"a,b;c\", for=192.0.2.2" },
	  "192.0.2.2 0|192.0.2.1 0|" },
	{ "Forwarded", { "for=192.0.2.1;ext=\"a\\\",b\"" }, "192.0.2.1 0|" },
	{ "Forwarded",
	  { "for=192.0.2.1;ext=\"a\\\\\", for=192.0.2.2" },
	  "192.0.2.2 0|192.0.2.1 0|" },
	/* A client's quote that is never closed swallows nothing that others wrote behind it. */
	{ "Forwarded", { "for=\"evil, for=192.0.2.9" }, "192.0.2.9 0|-|" },
	{ "Forwarded",
	  { "for=\"evil\\, for=\"[2001:db8::1]\"" },
	  "2001:0db8:0000:0000:0000:0000:0000:0001 0|-|" },
	{ "Forwarded", { "for=\"", "for=192.0.2.9" }, "192.0.2.9 0|-|" },
	{ "Forwarded", { "for=unknown, for=_hidden, for=\"_hidden:80\"" }, "-|-|-|" },
	{ "Forwarded", { "for=192.0.2.1;for=192.0.2.2" }, "-|" },
	{ "Forwarded", { "for=192.0.2.1;host=a;host=b" }, "-|" },
	{ "Forwarded", { "for=192.0.2.1;proto=http;proto=https" }, "-|" },
	{ "Forwarded", { "for=[2001:db8::1]" }, "-|" },
	{ "Forwarded", { "for=\"192.0.2.1" }, "-|" },
	{ "Forwarded", { "192.0.2.1" }, "-|" },
	{ "Forwarded", { "for 192.0.2.1" }, "-|" },
	{ "Forwarded", { "for=192.0.2.1;;proto=http;" }, "192.0.2.1 0 http|" },
	{ "Forwarded", { "proto=http" }, "- http|" },
	{ "Forwarded", { "for=\"19\\2.0.2.1\"" }, "-|" },
	{ "Forwarded", { "for=192.0.2.1\"" }, "-|" },
};

static void walk(const struct http_fields *fields, const char *name, struct writer *writer)
{
	bool is_forwarded = strcmp(name, "Forwarded") == 0;
	struct http_forwarded_element element;
	struct http_forwarded at;

	http_forwarded_init(&at, fields, span_str(name),
			    is_forwarded ? HTTP_FORWARDED_PAIRS : HTTP_FORWARDED_LIST);
	while (http_forwarded_previous(&at, &element)) {
		assert_true(element.text.len > 0);
		write_node(writer, &element.node);
		if (element.host.len)
			write_format(writer, " %.*s", SPAN_ARG(element.host));
		if (element.proto.len)
			write_format(writer, " %.*s", SPAN_ARG(element.proto));
		write_byte(writer, '|');
	}
	struct http_forwarded_element before = { .text = SPAN("x") };
	element = before;
	assert_false(http_forwarded_previous(&at, &element));
	assert_memory_equal(&element, &before, sizeof(element));
}

static void test_walks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(walks); i++) {
		struct http_fields fields;
		char text[512];
		struct writer writer = writer_of(text, sizeof(text));

		http_fields_init(&fields, &arena);
		add(&fields, "X-Other", "198.51.100.1");
		for (size_t j = 0; j < 4 && walks[i].lines[j]; j++) {
			add(&fields, walks[i].name, walks[i].lines[j]);
			add(&fields, "Via", "1.1 x");
		}
		walk(&fields, walks[i].name, &writer);
		assert_span(writer_done(&writer), walks[i].expected,
			    walks[i].lines[0] ? walks[i].lines[0] : "nothing");
	}
}

/* No byte that stands before an element changes what it says. */
static void test_what_stands_before(void **state)
{
	static const char last[] = "for=\"[2001:db8::1]:8\";proto=https;host=\"a.example:1\"";

	(void)state;
	for (unsigned byte = 1; byte < 256; byte++) {
		for (size_t len = 0; len < 4; len++) {
			struct http_forwarded_element element;
			struct http_forwarded at;
			struct http_fields fields;
			char line[128];
			struct writer writer = writer_of(line, sizeof(line) - 1);

			memset(line, 0, sizeof(line));
			for (size_t i = 0; i < len; i++)
				write_byte(&writer, (char)byte);
			write_str(&writer, ",");
			write_str(&writer, last);
			http_fields_init(&fields, &arena);
			add(&fields, "Forwarded", line);
			http_forwarded_init(&at, &fields, SPAN("Forwarded"), HTTP_FORWARDED_PAIRS);
			assert_true(http_forwarded_previous(&at, &element));
			assert_int_equal(element.node.family, 6);
			assert_int_equal(element.node.port, 8);
			assert_span(element.host, "a.example:1", "host");
			assert_span(element.proto, "https", "proto");
		}
	}
}

/* ---- Writing ---------------------------------------------------------------------------------------- */

static void test_written(void **state)
{
	static const struct span via[] = { SPAN("2001:db8::2"), SPAN("192.0.2.3") };
	struct http_hop hop = {
		.client = SPAN("2001:db8::1"),
		.host = SPAN("a.example"),
		.secure = true,
		.via = via,
		.via_count = 2,
		.field = SPAN("CF-Connecting-IP"),
	};
	struct http_fields fields;

	(void)state;
	http_fields_init(&fields, &arena);
	add(&fields, "CF-Connecting-IP", "6.6.6.6");
	add(&fields, "cf_connecting.ip", "6.6.6.6");
	add(&fields, "CF-Connecting-IPv6", "kept");
	assert_int_equal(http_fields_add_forwarded(&fields, &hop), 0);
	assert_int_equal(fields.count, 7);
	assert_span(http_fields_value(&fields, HTTP_NAME_X_REAL_IP), "2001:db8::1", "the client");
	assert_span(http_fields_value(&fields, HTTP_NAME_X_FORWARDED_FOR),
		    "2001:db8::1, 2001:db8::2, 192.0.2.3", "list");
	assert_span(http_fields_value(&fields, HTTP_NAME_FORWARDED),
		    "for=\"[2001:db8::1]\";host=\"a.example\";proto=https, "
		    "for=\"[2001:db8::2]\", for=192.0.2.3",
		    "forwarded");
	assert_span(http_fields_find_text(&fields, SPAN("cf-connecting-ip"))->value, "2001:db8::1",
		    "field");
}

static void test_written_once(void **state)
{
	const struct http_hop hop = { .client = SPAN("192.0.2.3"), .field = SPAN("x-real-ip") };
	struct http_fields fields;

	(void)state;
	http_fields_init(&fields, &arena);
	add(&fields, "X-Real-IP", "6.6.6.6");
	assert_int_equal(http_fields_add_forwarded(&fields, &hop), 0);
	assert_int_equal(fields.count, 4);
	assert_span(http_fields_value(&fields, HTTP_NAME_X_REAL_IP), "192.0.2.3", "the client");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_walks),
		cmocka_unit_test(test_what_stands_before),
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_written_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
