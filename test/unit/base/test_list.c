#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
	int number;
	struct list node;
};

static void assert_order(struct list *list, const char *wanted)
{
	char buf[16];
	struct writer writer = writer_of(buf, sizeof(buf));

	LIST_EACH(list, node)
		write_byte(&writer, (char)('0' + LIST_ITEM(node, struct item, node)->number));
	assert_true(span_equal(writer_done(&writer), span_str(wanted)));
}

static void test_list(void **state)
{
	struct item items[5] = { 0 };
	struct list list = { 0 };

	(void)state;
	assert_true(list_is_empty(&list));
	list_init(&list);
	assert_true(list_is_empty(&list));
	for (int i = 0; i < 5; i++) {
		items[i].number = i;
		assert_false(list_is_linked(&items[i].node));
		list_remove(&items[i].node);
		if (i < 3)
			list_push_back(&list, &items[i].node);
		else
			list_push_front(&list, &items[i].node);
		assert_true(list_is_linked(&items[i].node));
	}
	assert_order(&list, "43012");
	list_remove(&items[0].node);
	list_remove(&items[0].node);
	assert_false(list_is_linked(&items[0].node));
	assert_order(&list, "4312");
	LIST_EACH(&list, node)
		if (LIST_ITEM(node, struct item, node)->number % 2)
			list_remove(node);
	assert_order(&list, "42");
	LIST_EACH(&list, node)
		list_remove(node);
	assert_true(list_is_empty(&list));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_list) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
