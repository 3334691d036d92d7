#include "consumers/pool/route.h"
#include "lib/base/clock.h"
#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/route");

static struct account account;
static struct target first, second;
static struct route route;
static struct rand chance;
static size_t place;
static uint64_t wait_us;

static void begin(void)
{
	account = (struct account){.config = NULL};
	first = second = (struct target){.account = &account};
	route = (struct route){.targets = {&first, &second}, .count = 1};
	rand_init(&chance, 1);
}

static struct target *choose(uint64_t now_us)
{
	return route_choose(&route, 0, now_us, &place, &wait_us);
}

static void fail_at(uint64_t now_us, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		target_learn(&first, FAULT_PROVIDER_OVERLOADED, -1, now_us, &chance);
}

TEST(a_target_that_is_well_is_asked_by_everybody)
{
	begin();
	for (int i = 0; i < 3; i++) {
		ck_assert_ptr_eq(choose(1000), &first);
		target_asked(&first, 1000);
	}
}

TEST(failures_in_a_row_shut_a_target)
{
	begin();
	fail_at(1000, 3);
	ck_assert_ptr_null(choose(1000));
	ck_assert_uint_gt(wait_us, 0);
}

TEST(one_call_finds_out_whether_it_is_well_again)
{
	begin();
	fail_at(1000, 3);
	ck_assert_ptr_eq(choose(US_PER_S), &first);
	target_asked(&first, US_PER_S);
	ck_assert_ptr_null(choose(US_PER_S));
	ck_assert_uint_gt(wait_us, 0);
}

TEST(its_first_output_lets_the_others_in)
{
	begin();
	fail_at(1000, 3);
	target_asked(&first, US_PER_S);
	target_answers(&first);
	for (int i = 0; i < 3; i++) {
		ck_assert_ptr_eq(choose(US_PER_S), &first);
		target_asked(&first, US_PER_S);
	}
}

TEST(a_failure_after_the_first_output_shuts_it_again)
{
	begin();
	fail_at(1000, 3);
	target_asked(&first, US_PER_S);
	target_answers(&first);
	fail_at(2 * US_PER_S, 1);
	ck_assert_ptr_null(choose(2 * US_PER_S));
}

TEST(a_probe_that_is_never_heard_of_is_one_no_more)
{
	begin();
	fail_at(1000, 3);
	target_asked(&first, US_PER_S);
	ck_assert_ptr_null(choose(2 * US_PER_S));
	ck_assert_ptr_eq(choose(60 * US_PER_S), &first);
}

TEST(the_next_target_is_asked_while_one_is_shut)
{
	begin();
	route.count = 2;
	fail_at(1000, 3);
	ck_assert_ptr_eq(choose(1000), &second);
	ck_assert_uint_eq(place, 1);
}
