#include "tests/sim/quota.h"

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("sim/quota");

#define MINUTE QUOTA_WINDOW_US
#define TRIES 20000

static const struct quota_limits window = {QUOTA_WINDOW, 60, {100, 10000, 5000}};
static const struct quota_limits bucket = {QUOTA_BUCKET, 60, {100, 10000, 5000}};

static enum quota_what what;
static uint64_t wait_us;

static bool take(struct quota *q, uint64_t now_us, uint64_t input)
{
	const uint64_t amounts[QUOTA_WHATS] = {1, input, 0};
	return quota_take(q, now_us, amounts, amounts, &what, &wait_us);
}

/* What was granted, with its time. */
struct grant {
	uint64_t at_us;
	uint64_t input;
};

/* Asks at random times for random amounts; the grants of any 60 s must stay within the quota. */
static void no_minute_is_overspent(const struct quota_limits *limits, uint64_t seed)
{
	struct grant *grants = mem_alloc(TRIES * sizeof(*grants));
	struct quota q;
	struct rand r;
	uint64_t now = 12345678;
	uint64_t sum = 0;
	size_t count = 0;
	size_t first = 0;
	rand_init(&r, seed);
	quota_init(&q, limits, now);
	for (int i = 0; i < TRIES; i++) {
		now += rand_below(&r, 20) == 0 ? rand_below(&r, 30 * US_PER_S)
					       : rand_below(&r, 200 * US_PER_MS);
		uint64_t input = 1 + rand_below(&r, 900);
		if (!take(&q, now, input))
			continue;
		grants[count++] = (struct grant){now, input};
		sum += input;
		while (now - grants[first].at_us >= MINUTE)
			sum -= grants[first++].input;
		ck_assert_uint_le(sum, limits->minute[QUOTA_INPUT]);
		ck_assert_uint_le(count - first, limits->minute[QUOTA_REQUESTS]);
	}
	ck_assert_uint_gt(count, 1000);
	ck_assert_uint_eq(q.granted, count);
	ck_assert_uint_eq(q.granted + q.refused, TRIES);
	ck_assert_uint_le(q.highest[QUOTA_INPUT], limits->minute[QUOTA_INPUT]);
	quota_fini(&q);
	mem_free(grants);
}

TEST(no_sixty_seconds_see_more_than_the_quota_of_a_sliding_minute)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		no_minute_is_overspent(&window, seed);
}

TEST(both_kinds_together_hold_the_sliding_minute_too)
{
	static const struct quota_limits both = {QUOTA_BOTH, 20, {100, 10000, 5000}};
	no_minute_is_overspent(&both, 99);
}

TEST(a_bucket_gives_its_burst_and_then_what_flows_in)
{
	struct quota q;
	int first = 0;
	int second = 0;
	quota_init(&q, &bucket, 0);
	for (int i = 0; i < 1000; i++)
		first += take(&q, 0, 100);
	ck_assert_int_eq(first, 100);
	for (uint64_t now = 0; now <= MINUTE; now += 100 * US_PER_MS)
		second += take(&q, now, 100);
	ck_assert_int_eq(second, 100);
	ck_assert_uint_eq(q.highest[QUOTA_INPUT], 20000);
	quota_fini(&q);
}

TEST(a_bucket_of_a_second_gives_one_of_sixty_requests_at_a_time)
{
	static const struct quota_limits even = {QUOTA_BUCKET, 1, {60, 600000, 5000}};
	struct quota q;
	quota_init(&q, &even, 0);
	ck_assert(take(&q, 0, 10));
	ck_assert(!take(&q, 500 * US_PER_MS, 10));
	ck_assert_int_eq(what, QUOTA_REQUESTS);
	ck_assert_uint_ge(wait_us, 499 * US_PER_MS);
	ck_assert_uint_le(wait_us, 501 * US_PER_MS);
	ck_assert(take(&q, 500 * US_PER_MS + wait_us, 10));
	quota_fini(&q);
}

TEST(what_is_short_is_told_with_the_time_after_which_it_suffices)
{
	struct quota q;
	quota_init(&q, &window, 0);
	ck_assert(take(&q, 0, 6000));
	ck_assert(take(&q, 10 * US_PER_S, 4000));
	ck_assert(!take(&q, 20 * US_PER_S, 5000));
	ck_assert_int_eq(what, QUOTA_INPUT);
	uint64_t then = 20 * US_PER_S + wait_us;
	ck_assert(!take(&q, then - QUOTA_STEP_US, 5000));
	ck_assert(take(&q, then, 5000));
	quota_fini(&q);
}

TEST(what_is_above_the_limit_never_passes_and_is_told_so)
{
	struct quota q;
	quota_init(&q, &window, 0);
	ck_assert(!take(&q, 0, 10001));
	ck_assert_uint_eq(wait_us, UINT64_MAX);
	ck_assert_uint_eq(q.refused_for[QUOTA_INPUT], 1);
	quota_fini(&q);
}

TEST(output_is_charged_beyond_the_limit_and_then_nothing_begins)
{
	struct quota q;
	const uint64_t need[QUOTA_WHATS] = {1, 10, 1};
	const uint64_t charge[QUOTA_WHATS] = {1, 10, 0};
	quota_init(&q, &window, 0);
	ck_assert(quota_take(&q, 0, need, charge, &what, &wait_us));
	quota_charge(&q, US_PER_S, QUOTA_OUTPUT, 6000);
	ck_assert_uint_eq(q.highest[QUOTA_OUTPUT], 6000);
	ck_assert_uint_eq(quota_left(&q, US_PER_S, QUOTA_OUTPUT), 0);
	ck_assert(!quota_take(&q, 2 * US_PER_S, need, charge, &what, &wait_us));
	ck_assert_int_eq(what, QUOTA_OUTPUT);
	ck_assert(quota_take(&q, 2 * US_PER_S + wait_us, need, charge, &what, &wait_us));
	quota_fini(&q);
}

TEST(history_keeps_each_seconds_use_and_refusals)
{
	struct quota q;
	quota_init(&q, &window, 5 * US_PER_S);
	ck_assert(take(&q, 5 * US_PER_S, 9000));
	ck_assert(take(&q, 7 * US_PER_S + 1, 1000));
	ck_assert(!take(&q, 7 * US_PER_S + 2, 1000));
	ck_assert_uint_eq(q.second_count, 2);
	ck_assert_uint_eq(q.seconds[0].at, 0);
	ck_assert_uint_eq(q.seconds[0].use[QUOTA_INPUT], 9000);
	ck_assert_uint_eq(q.seconds[1].at, 2);
	ck_assert_uint_eq(q.seconds[1].use[QUOTA_REQUESTS], 1);
	ck_assert_uint_eq(q.seconds[1].refused, 1);
	quota_fini(&q);
}

TEST(a_full_refill_takes_as_long_as_was_said)
{
	struct quota q;
	quota_init(&q, &window, 0);
	ck_assert(take(&q, 3 * US_PER_S, 70));
	uint64_t full = quota_full_us(&q, 4 * US_PER_S, QUOTA_INPUT);
	ck_assert_uint_eq(quota_left(&q, 4 * US_PER_S, QUOTA_INPUT), 9930);
	ck_assert_uint_eq(quota_left(&q, 4 * US_PER_S + full, QUOTA_INPUT), 10000);
	quota_fini(&q);
}

TEST(a_lower_limit_counts_what_was_taken_before)
{
	static const struct quota_limits low = {QUOTA_BUCKET, 60, {100, 1000, 5000}};
	struct quota q;
	quota_init(&q, &bucket, 0);
	ck_assert(take(&q, 0, 950));
	quota_limit(&q, &low, 0);
	ck_assert_uint_eq(quota_left(&q, 0, QUOTA_INPUT), 50);
	ck_assert(!take(&q, 0, 100));
	quota_fini(&q);
}
