#include "lib/base/list.h"

#include "tests/unit/test.h"

SUITE("base/list");

struct item {
	int number;
	struct list link;
};

TEST(elements_leave_at_the_front_in_their_order)
{
	struct item a = {.number = 1}, b = {.number = 2}, c = {.number = 3};
	struct list head;

	list_init(&head);
	list_push_back(&head, &b.link);
	list_push_back(&head, &c.link);
	list_push_front(&head, &a.link);
	ck_assert_int_eq(list_first(&head, struct item, link)->number, 1);
	ck_assert_int_eq(list_pop_front(&head, struct item, link)->number, 1);
	ck_assert_int_eq(list_pop_front(&head, struct item, link)->number, 2);
	ck_assert_int_eq(list_pop_front(&head, struct item, link)->number, 3);
	ck_assert_ptr_null(list_pop_front(&head, struct item, link));
}

TEST(a_zeroed_link_may_be_removed)
{
	struct item a = {0};

	list_remove(&a.link);
	ck_assert(!list_linked(&a.link));
}

TEST(the_visited_element_may_be_removed)
{
	struct item item[5];
	struct list head;
	int sum = 0;

	list_init(&head);
	for (int i = 0; i < 5; i++) {
		item[i].number = i;
		list_push_back(&head, &item[i].link);
	}
	list_each (&head, at) {
		sum += container_of(at, struct item, link)->number;
		list_remove(at);
	}
	ck_assert_int_eq(sum, 10);
	ck_assert(list_empty(&head));
}
