#include "lib/base/rand.h"

#include "tests/unit/test.h"

SUITE("base/rand");

TEST(the_first_numbers_are_those_of_xoshiro256_starstar)
{
	struct rand r = {{1, 2, 3, 4}};

	ck_assert_uint_eq(rand_u64(&r), 11520);
	ck_assert_uint_eq(rand_u64(&r), 0);
	ck_assert_uint_eq(rand_u64(&r), 1509978240);
	ck_assert_uint_eq(rand_u64(&r), 1215971899390074240);
}

TEST(numbers_below_a_bound_reach_all_and_nothing_beyond)
{
	unsigned seen[7] = {0};
	struct rand r;

	rand_init(&r, 0);
	for (int i = 0; i < 7000; i++)
		seen[rand_below(&r, 7)]++;
	for (int i = 0; i < 7; i++)
		ck_assert(seen[i] > 850 && seen[i] < 1150);
	ck_assert_uint_eq(rand_below(&r, 0), 0);
	ck_assert_uint_eq(rand_below(&r, 1), 0);
	ck_assert_uint_le(rand_below(&r, UINT64_MAX), UINT64_MAX - 1);
	ck_assert_uint_lt(rand_below(&r, UINT64_C(1) << 63), UINT64_C(1) << 63);
}

TEST(the_unit_interval_is_open_above)
{
	struct rand r;
	double sum = 0;

	rand_init(&r, 3);
	for (int i = 0; i < 10000; i++) {
		double x = rand_unit(&r);

		ck_assert(x >= 0 && x < 1);
		sum += x;
	}
	ck_assert(sum > 4850 && sum < 5150);
}
