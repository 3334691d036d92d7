#include "consumers/pool/line.h"

#include <stdlib.h>

#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("pool/line");

#define NODES 600

struct one {
	struct line_node node;
	int arrival;
	uint64_t tag;
	bool in;
};

static int by_place(const void *a, const void *b)
{
	const struct one *x = *(const struct one *const *)a, *y = *(const struct one *const *)b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return x->arrival - y->arrival;
}

/* The nodes that are in the line, sorted the slow way. */
static size_t sorted(struct one *ones, struct one **out)
{
	size_t count = 0;

	for (size_t i = 0; i < NODES; i++)
		if (ones[i].in)
			out[count++] = &ones[i];
	qsort(out, count, sizeof(*out), by_place);
	return count;
}

static void compare(const struct line *l, struct one *ones)
{
	struct one *right[NODES];
	size_t count = sorted(ones, right), at = 0;
	const struct line_node *node;

	ck_assert_uint_eq(line_count(l), count);
	for (node = line_first(l); node; node = line_next(node), at++) {
		ck_assert_ptr_eq(node, &right[at]->node);
		ck_assert_uint_eq(line_before(node), at);
	}
	ck_assert_uint_eq(at, count);
	for (uint64_t tag = 0; tag < 42; tag++) {
		for (at = 0; at < count && right[at]->tag < tag; at++)
			;
		ck_assert_uint_eq(line_below(l, tag), at);
	}
}

TEST(every_place_is_that_of_a_sorted_list_after_any_history)
{
	static struct one ones[NODES];
	struct line l = {0};
	struct rand rand;
	int arrivals = 0;

	rand_init(&rand, 7);

	for (int step = 0; step < 20000; step++) {
		struct one *one = &ones[rand_below(&rand, NODES)];

		if (one->in) {
			line_remove(&l, &one->node);
		} else {
			one->tag = rand_below(&rand, 40);
			one->arrival = arrivals++;
			line_add(&l, &one->node, one->tag);
		}
		one->in = !one->in;
		ck_assert(line_holds(&one->node) == one->in);
		if (step % 200 == 0)
			compare(&l, ones);
	}
	compare(&l, ones);
}

static size_t depth_of(const struct line_node *n)
{
	size_t left = n ? depth_of(n->left) : 0, right = n ? depth_of(n->right) : 0;

	return n ? (left > right ? left : right) + 1 : 0;
}

TEST(a_line_in_the_order_of_its_tags_is_not_deep)
{
	struct one *ones = calloc(20000, sizeof(*ones));
	struct line l = {0};

	for (uint64_t i = 0; i < 20000; i++)
		line_add(&l, &ones[i].node, i);
	ck_assert_uint_lt(depth_of(l.root), 60); /* of a balanced one: 15 */
	ck_assert_uint_eq(line_before(&ones[19999].node), 19999);
	free(ones);
}

TEST(removing_what_is_in_no_line_changes_nothing)
{
	struct line l = {0};
	struct line_node in = {0}, out = {0};

	line_add(&l, &in, 1);
	line_remove(&l, &out);
	ck_assert_uint_eq(line_count(&l), 1);
	line_remove(&l, &in);
	ck_assert_ptr_null(line_first(&l));
}
