#include "lib/base/heap.h"

#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("base/heap");

TEST(an_empty_heap_has_no_top)
{
	struct heap h = {0};

	ck_assert_ptr_null(heap_top(&h));
	heap_fini(&h);
}

TEST(nodes_leave_by_key_whatever_came_between)
{
	static struct heap_node node[300];
	struct heap h = {0};
	struct rand r;
	uint64_t last = 0;

	rand_init(&r, 1);
	for (size_t i = 0; i < countof(node); i++)
		heap_add(&h, &node[i], rand_below(&r, 100));
	for (size_t i = 0; i < countof(node); i += 3)
		heap_remove(&h, &node[i]);
	ck_assert_uint_eq(h.count, 200);
	while (heap_top(&h)) {
		struct heap_node *top = heap_top(&h);

		ck_assert_uint_ge(top->key, last);
		ck_assert_uint_ne((size_t)(top - node) % 3, 0);
		last = top->key;
		heap_remove(&h, top);
	}
	heap_fini(&h);
}

TEST(equal_keys_leave_in_the_order_in_which_they_came)
{
	static struct heap_node node[50];
	struct heap h = {0};

	for (size_t i = 0; i < countof(node); i++)
		heap_add(&h, &node[i], 5);
	for (size_t i = 0; i < countof(node); i++) {
		ck_assert_ptr_eq(heap_top(&h), &node[i]);
		heap_remove(&h, &node[i]);
	}
	heap_fini(&h);
}

TEST(removing_a_node_that_is_in_no_heap_changes_nothing)
{
	struct heap_node in = {0}, out = {0};
	struct heap h = {0};

	heap_add(&h, &in, 1);
	heap_remove(&h, &out);
	ck_assert(heap_holds(&in));
	ck_assert(!heap_holds(&out));
	heap_fini(&h);
}

TEST(a_heap_that_ends_lets_its_nodes_go)
{
	struct heap_node node = {0};
	struct heap h = {0};

	heap_add(&h, &node, 1);
	heap_fini(&h);
	ck_assert(!heap_holds(&node));
}

TEST_ABORTS(adding_a_node_twice_is_our_own_bug)
{
	struct heap_node node = {0};
	struct heap h = {0};

	heap_add(&h, &node, 1);
	heap_add(&h, &node, 2);
}
