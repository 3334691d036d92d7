#include "consumers/pool/fair.h"

#include <stdio.h>

#include "tests/unit/test.h"

SUITE("pool/fair");

TEST(one_job_of_a_light_tenant_goes_before_the_rest_of_a_heavy_one)
{
	struct fair f;
	uint64_t first = 0, last = 0, light;

	fair_init(&f, 1);
	for (int i = 0; i < 15000; i++) {
		last = fair_tag(&f, STR("org_a"), 100, 1);
		if (i == 3)
			first = last;
	}
	fair_begun(&f, first); /* three of the heavy one's are done */
	light = fair_tag(&f, STR("org_b"), 100, 1);
	ck_assert_uint_eq(light, first);
	ck_assert_uint_lt(light, last);
	fair_fini(&f);
}

TEST(a_weight_of_two_gets_twice_the_share)
{
	struct fair f;
	uint64_t one = 0, two = 0;

	fair_init(&f, 1);
	for (int i = 0; i <= 100; i++) {
		one = fair_tag(&f, STR("org_a"), 10, 1);
		two = fair_tag(&f, STR("org_b"), 10, 2);
	}
	ck_assert_uint_eq(one, 2 * two);
	fair_fini(&f);
}

TEST(a_tenant_gains_nothing_by_having_been_away)
{
	struct fair f;

	fair_init(&f, 1);
	fair_tag(&f, STR("org_a"), 10, 1);
	fair_begun(&f, 1000000);
	ck_assert_uint_eq(fair_tag(&f, STR("org_a"), 10, 1), 1000000);
	ck_assert_uint_gt(fair_tag(&f, STR("org_a"), 10, 1), 1000000);
	fair_fini(&f);
}

TEST(tenants_of_the_past_are_forgotten)
{
	struct fair f;
	char name[32];

	fair_init(&f, 1);
	for (int i = 0; i < 100000; i++) {
		int n = snprintf(name, sizeof(name), "org_%d", i);

		fair_begun(&f, fair_tag(&f, (struct str){name, (size_t)n}, 1, 1) + 1000);
	}
	ck_assert_uint_le(f.tenants.count, 512);
	fair_fini(&f);
}
