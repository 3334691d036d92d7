#include "consumers/pool/fair.h"

#include <stdio.h>

#include "consumers/pool/line.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
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

/* A pool in small: tenants that always have a few jobs waiting, served by tag. */
struct job {
	struct line_node node;
	size_t tenant;
	uint64_t cost;
};

#define TENANTS 5

struct service {
	struct fair fair;
	struct line line;
	struct rand rand;
	uint32_t weights[TENANTS];
	uint64_t most_cost[TENANTS];
	uint64_t served[TENANTS]; /* tokens */
};

static void arrive(struct service *s, size_t tenant)
{
	struct job *job = mem_new(struct job);
	char name[16];
	int n = snprintf(name, sizeof(name), "org_%zu", tenant);

	job->tenant = tenant;
	job->cost = 1 + rand_below(&s->rand, s->most_cost[tenant]);
	line_add(&s->line, &job->node,
		 fair_tag(&s->fair, (struct str){name, (size_t)n}, job->cost, s->weights[tenant]));
}

/* Serves who is next; its tenant sends another. */
static void serve(struct service *s, bool again)
{
	struct job *job = container_of(line_first(&s->line), struct job, node);

	fair_begun(&s->fair, job->node.tag);
	line_remove(&s->line, &job->node);
	s->served[job->tenant] += job->cost;
	if (again)
		arrive(s, job->tenant);
	mem_free(job);
}

TEST(service_is_shared_by_weight_whatever_the_jobs_cost)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct service s = {0};
		double all = 0, weights = 0;

		fair_init(&s.fair, seed);
		rand_init(&s.rand, seed);
		for (size_t t = 0; t < TENANTS; t++) {
			s.weights[t] = 1 + (uint32_t)rand_below(&s.rand, 8);
			s.most_cost[t] = 1 + rand_below(&s.rand, 2000);
			weights += s.weights[t];
			/* how many it has waiting changes nothing */
			for (uint64_t n = 20 + rand_below(&s.rand, 200); n; n--)
				arrive(&s, t);
		}
		for (int i = 0; i < 100000; i++)
			serve(&s, true);
		for (size_t t = 0; t < TENANTS; t++)
			all += (double)s.served[t];
		for (size_t t = 0; t < TENANTS; t++) {
			double share = (double)s.served[t] / all, due = s.weights[t] / weights;

			ck_assert_msg(share > due * 0.95 && share < due * 1.05,
				      "seed %d: a share of %.4f where %.4f is due", (int)seed,
				      share, due);
		}
		while (line_count(&s.line))
			serve(&s, false);
		fair_fini(&s.fair);
	}
}

TEST(the_greatest_weight_does_not_stop_time_for_the_smallest_job)
{
	struct fair f;
	uint64_t first;

	fair_init(&f, 1);
	first = fair_tag(&f, STR("org_a"), 1, 1000);
	ck_assert_uint_gt(fair_tag(&f, STR("org_a"), 1, 1000), first);
	fair_fini(&f);
}

TEST(an_estimate_beyond_all_models_switches_fairness_off_for_nobody)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct fair f;
		struct rand r;
		uint64_t present, heavy = 0, light;

		fair_init(&f, seed);
		rand_init(&r, seed);
		/* Whatever a key claims, up to what an integer holds: its tags do not turn round. */
		for (int i = 0; i < 50000; i++) {
			uint64_t tag =
			    fair_tag(&f, STR("org_a"), rand_u64(&r) >> rand_below(&r, 64), 1);

			ck_assert_uint_ge(tag, heavy);
			heavy = tag;
			if (i % 5000 == 0)
				fair_begun(&f, tag);
		}
		present = f.now;
		light = fair_tag(&f, STR("org_b"), 100, 1);
		ck_assert_uint_eq(light, present);
		ck_assert_uint_lt(fair_tag(&f, STR("org_b"), 100, 1), heavy);
		/* All of it was begun: others that come then still take turns, a job each. */
		fair_begun(&f, heavy);
		light = fair_tag(&f, STR("org_b"), 100, 1);
		for (int i = 0; i < 10; i++) {
			uint64_t next = fair_tag(&f, STR("org_b"), 100, 1);

			ck_assert_uint_gt(next, light);
			ck_assert_uint_lt(next - light, 1ULL << 20);
			light = next;
		}
		fair_fini(&f);
	}
}

TEST(a_tenant_lies_no_further_ahead_than_its_window_can_hold)
{
	struct fair f;
	uint64_t first, tag = 0;

	fair_init(&f, 1);
	fair_begun(&f, 1000);
	for (int i = 0; i < 100000; i++)
		tag = fair_tag(&f, STR("org_a"), UINT64_MAX, 1);
	ck_assert_uint_le(tag, 1000 + (1ULL << 45));
	/* At the very end of time, too. */
	fair_begun(&f, UINT64_MAX - 5);
	first = fair_tag(&f, STR("org_a"), UINT64_MAX, 1);
	ck_assert_uint_eq(first, UINT64_MAX - 5);
	ck_assert_uint_ge(fair_tag(&f, STR("org_a"), UINT64_MAX, 1), first);
	fair_fini(&f);
}
