#include "consumers/pool/warm.h"
#include "consumers/pool/route.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/warm");

static struct warm warm;
static struct target one, other;
static char breakers[2];

static void begin(void)
{
	warm = (struct warm){0};
	one.breaker = (struct breaker *)&breakers[0];
	other.breaker = (struct breaker *)&breakers[1];
}

TEST(of_many_with_one_beginning_the_first_is_asked_and_the_others_wait)
{
	uint64_t wait_us = 0;

	begin();
	ck_assert(warm_asks(&warm, &one, 7, 1000, &wait_us));
	ck_assert(!warm_asks(&warm, &one, 7, 2000, &wait_us));
	ck_assert_uint_gt(wait_us, 0);
	ck_assert(warm_begins(&warm, &one, 7, 3000));
	ck_assert(warm_asks(&warm, &one, 7, 4000, &wait_us));
	ck_assert(warm_asks(&warm, &one, 7, 5000, &wait_us));
	ck_assert(!warm_begins(&warm, &one, 7, 6000));
	warm_fini(&warm);
}

TEST(another_beginning_or_another_target_does_not_wait)
{
	uint64_t wait_us;

	begin();
	ck_assert(warm_asks(&warm, &one, 7, 1000, &wait_us));
	ck_assert(warm_asks(&warm, &one, 8, 1000, &wait_us));
	ck_assert(warm_asks(&warm, &other, 7, 1000, &wait_us));
	ck_assert(warm_asks(&warm, &one, 0, 1000, &wait_us));
	ck_assert(warm_asks(&warm, &one, 0, 1000, &wait_us));
	warm_fini(&warm);
}

TEST(a_first_one_that_says_nothing_is_waited_for_only_so_long)
{
	uint64_t wait_us = 0;

	begin();
	ck_assert(warm_asks(&warm, &one, 7, 1000, &wait_us));
	ck_assert(!warm_asks(&warm, &one, 7, 1000, &wait_us));
	ck_assert(warm_asks(&warm, &one, 7, 1000 + wait_us, &wait_us));
	ck_assert(!warm_asks(&warm, &one, 7, 1001 + wait_us, &wait_us));
	warm_fini(&warm);
}

TEST(what_was_not_read_for_five_minutes_is_cold_again)
{
	uint64_t wait_us;

	begin();
	ck_assert(warm_asks(&warm, &one, 7, 0, &wait_us));
	warm_begins(&warm, &one, 7, 0);
	ck_assert(warm_asks(&warm, &one, 7, 299 * US_PER_S, &wait_us));
	warm_begins(&warm, &one, 7, 299 * US_PER_S);
	ck_assert(warm_asks(&warm, &one, 7, 598 * US_PER_S, &wait_us));
	ck_assert(warm_asks(&warm, &one, 7, 600 * US_PER_S, &wait_us));
	ck_assert(!warm_asks(&warm, &one, 7, 600 * US_PER_S, &wait_us));
	warm_fini(&warm);
}
