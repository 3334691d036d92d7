#include "scheduler/plan.h"
#include "tests/unit/test.h"

SUITE("scheduler/plan");

#define MINUTE INT64_C(60000)
#define NOW UINT64_C(1700000000000)

TEST(a_record_leaves_when_it_is_due)
{
	ck_assert_uint_eq(plan_leave_ms(TOPIC_LATER_1H, (int64_t)NOW + 5, NOW), NOW + 5);
}

TEST(a_tier_holds_no_record_longer_than_its_length)
{
	ck_assert_uint_eq(plan_leave_ms(TOPIC_LATER_1M, (int64_t)NOW + 4 * MINUTE, NOW),
			  NOW + (uint64_t)MINUTE);
	ck_assert_uint_eq(plan_leave_ms(TOPIC_LATER_5M, (int64_t)NOW + 60 * MINUTE, NOW),
			  NOW + 5 * (uint64_t)MINUTE);
}

TEST(records_of_a_tier_leave_in_the_order_in_which_they_came)
{
	uint64_t last = 0;

	for (uint64_t i = 0; i < 100; i++) {
		uint64_t written = NOW + i * 10;
		uint64_t leave = plan_leave_ms(
		    TOPIC_LATER_1M, (int64_t)(written + 60000 + (i * 7919) % 200000), written);

		ck_assert(leave >= last);
		last = leave;
	}
}

TEST(a_record_without_a_time_leaves_at_once)
{
	ck_assert_uint_le(plan_leave_ms(TOPIC_LATER_1M, 0, NOW), NOW);
}

TEST(what_is_due_within_a_minute_goes_to_its_lane)
{
	enum topic tier = TOPIC_COUNT;

	ck_assert(!plan_passes_on((int64_t)NOW - 1, NOW, &tier));
	ck_assert(!plan_passes_on((int64_t)NOW + MINUTE - 1, NOW, &tier));
	ck_assert_int_eq(tier, TOPIC_COUNT);
}

TEST(what_is_due_later_goes_to_the_longest_tier_that_is_not_too_long)
{
	static const struct {
		int64_t wait_ms;
		enum topic tier;
	} cases[] = {
	    {MINUTE, TOPIC_LATER_1M},	   {5 * MINUTE - 1, TOPIC_LATER_1M},
	    {5 * MINUTE, TOPIC_LATER_5M},  {60 * MINUTE - 1, TOPIC_LATER_5M},
	    {60 * MINUTE, TOPIC_LATER_1H}, {INT64_C(7) * 24 * 60 * MINUTE, TOPIC_LATER_1H},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum topic tier = TOPIC_COUNT;

		ck_assert(plan_passes_on((int64_t)NOW + cases[i].wait_ms, NOW, &tier));
		ck_assert_int_eq(tier, cases[i].tier);
	}
}

static int64_t round_of(struct plan_floor *f, unsigned needed, const int64_t *seen, size_t count)
{
	plan_floor_begin(f);
	for (size_t i = 0; i < count; i++)
		plan_floor_see(f, seen[i]);
	return plan_floor_end(f, needed);
}

TEST(nothing_is_deleted_before_it_was_passed_for_a_round)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){10}, 1), 0);
	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){15}, 1), 10);
}

TEST(nothing_is_deleted_that_one_reader_has_not_passed)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){10, 4}, 2), 0);
	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){20, 7}, 2), 4);
}

TEST(nothing_is_deleted_where_a_reader_is_not_known)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){10, 10}, 2), 0);
	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){10}, 1), 0);
	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){10, 10}, 2), 0);
	ck_assert_int_eq(round_of(&f, 2, (int64_t[]){10, 10}, 2), 10);
}

TEST(a_base_that_goes_back_is_believed)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){10}, 1), 0);
	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){6}, 1), 6);
	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){12}, 1), 6);
}

TEST(what_is_deleted_is_not_deleted_again)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){10}, 1), 0);
	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){10}, 1), 10);
	f.trimmed = 10;
	ck_assert_int_eq(round_of(&f, 1, (int64_t[]){10}, 1), 0);
}

TEST(topics_without_readers_are_left_alone)
{
	struct plan_floor f = {.before = -1};

	ck_assert_int_eq(round_of(&f, 0, (int64_t[]){10}, 1), 0);
	ck_assert_int_eq(round_of(&f, 0, (int64_t[]){10}, 1), 0);
}
