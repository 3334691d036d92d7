#include "consumers/notify/plan.h"

#include "tests/unit/test.h"

SUITE("notify/plan");

static struct plan plan_of(const char *text)
{
	struct plan plan;

	ck_assert_msg(plan_read(&plan, str_of(text)), "%s", text);
	return plan;
}

TEST(a_schedule_is_a_list_of_waits)
{
	struct plan plan = plan_of("5s, 30s,2m,1h30m,250ms");

	ck_assert_int_eq(plan.count, 5);
	ck_assert_uint_eq(plan.wait_ms[0], 5000);
	ck_assert_uint_eq(plan.wait_ms[2], 120000);
	ck_assert_uint_eq(plan.wait_ms[3], 5400000);
	ck_assert_uint_eq(plan.wait_ms[4], 250);
}

TEST(a_schedule_that_is_none_is_refused)
{
	static const char *const bad[] = {"", ",", "5s,", "soon", "0s", "-1s", "5s;6s"};
	char many[33 * 3];
	struct plan plan;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!plan_read(&plan, str_of(bad[i])), "%s", bad[i]);
	for (size_t i = 0; i < 33; i++)
		memcpy(many + 3 * i, "1s,", 3);
	many[sizeof(many) - 1] = '\0';
	ck_assert(!plan_read(&plan, str_of(many)));
}

TEST(two_hundreds_are_delivered_and_the_rest_is_tried_again)
{
	static const int again[] = {0, 301, 302, 307, 400, 401, 403, 404, 408, 413, 429, 500, 503};
	struct plan plan = plan_of("1s,2s");

	ck_assert_int_eq(plan_verdict(&plan, 200, 1), PLAN_DELIVERED);
	ck_assert_int_eq(plan_verdict(&plan, 204, 9), PLAN_DELIVERED);
	for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++)
		ck_assert_int_eq(plan_verdict(&plan, again[i], 2), PLAN_AGAIN);
}

TEST(gone_is_given_up_at_once_and_the_rest_behind_the_last_wait)
{
	struct plan plan = plan_of("1s,2s");

	ck_assert_int_eq(plan_verdict(&plan, 410, 1), PLAN_GIVE_UP);
	ck_assert_int_eq(plan_verdict(&plan, 500, 3), PLAN_GIVE_UP);
	ck_assert_int_eq(plan_verdict(&plan, 0, 4), PLAN_GIVE_UP);
}

TEST(waits_follow_the_schedule)
{
	struct plan plan = plan_of("1s,2s,8s");

	ck_assert_uint_eq(plan_wait_ms(&plan, 500, 1, 0), 1000);
	ck_assert_uint_eq(plan_wait_ms(&plan, 500, 3, 0), 8000);
	ck_assert_uint_eq(plan_wait_ms(&plan, 500, 7, 0), 8000);
}

TEST(what_the_receiver_asks_for_counts_where_it_is_longer_and_not_too_long)
{
	struct plan plan = plan_of("1s,2s,8s");

	ck_assert_uint_eq(plan_wait_ms(&plan, 429, 1, 5000), 5000);
	ck_assert_uint_eq(plan_wait_ms(&plan, 503, 2, 500), 2000);
	ck_assert_uint_eq(plan_wait_ms(&plan, 503, 1, 99000000), 8000);
	ck_assert_uint_eq(plan_wait_ms(&plan, 500, 1, 5000), 1000);
}

TEST(seconds_that_no_number_holds_are_as_many_as_there_are)
{
	static const char *const none[] = {"",	  "-1", "+1",
					   "1.5", "1 ", "Wed, 21 Oct 2015 07:28:00 GMT"};
	uint64_t ms;

	ck_assert(plan_seconds(STR("120"), &ms));
	ck_assert_uint_eq(ms, 120000);
	ck_assert(plan_seconds(STR("99999999999999999"), &ms));
	ck_assert_uint_eq(ms, UINT64_MAX);
	ck_assert(plan_seconds(STR("99999999999999999999999999"), &ms));
	ck_assert_uint_eq(ms, UINT64_MAX);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		ck_assert_msg(!plan_seconds(str_of(none[i]), &ms), "%s", none[i]);
}
