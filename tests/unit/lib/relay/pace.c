#include "lib/relay/pace.h"
#include "tests/unit/test.h"

SUITE("relay/pace");

/* @streams answers with a token each millisecond, for @ms from @from_ms on: how many deltas go out in the last second. */
static unsigned sent_in_last_second(struct pace *p, unsigned streams, uint64_t from_ms, uint64_t ms)
{
	static uint64_t told_us[10000];
	unsigned sent = 0;

	for (unsigned i = 0; i < streams; i++)
		told_us[i] = 0;
	for (uint64_t at = from_ms; at < from_ms + ms; at++)
		for (unsigned i = 0; i < streams; i++) {
			uint64_t now = at * 1000;

			if (now - told_us[i] < pace_gap_us(p, now))
				continue;
			told_us[i] = now;
			pace_count(p, now);
			sent += at >= from_ms + ms - 1000;
		}
	return sent;
}

TEST(few_deltas_go_at_once)
{
	struct pace p = {.per_s = 20000};

	ck_assert_uint_eq(sent_in_last_second(&p, 10, 5000, 3000), 10000);
	ck_assert_uint_eq(pace_gap_us(&p, 8000000), 0);
}

TEST(many_answers_share_what_the_process_is_to_send)
{
	struct pace p = {.per_s = 20000};
	unsigned sent = sent_in_last_second(&p, 1000, 5000, 3000);

	ck_assert_uint_ge(sent, 8000);
	ck_assert_uint_le(sent, 21000);
}

TEST(an_answer_waits_a_quarter_of_a_second_at_most)
{
	struct pace p = {.per_s = 1000};
	unsigned sent = sent_in_last_second(&p, 1000, 5000, 3000);

	ck_assert_uint_eq(pace_gap_us(&p, 8000000), PACE_MAX_US);
	ck_assert_uint_ge(sent, 4000);
	ck_assert_uint_le(sent, 5000);
}

TEST(after_the_load_deltas_go_at_once_again)
{
	struct pace p = {.per_s = 20000};

	sent_in_last_second(&p, 5000, 5000, 1000);
	ck_assert_uint_ge(pace_gap_us(&p, 6000000), PACE_MIN_US);
	sent_in_last_second(&p, 5, 6000, 2000);
	ck_assert_uint_eq(pace_gap_us(&p, 8000000), 0);
	sent_in_last_second(&p, 5000, 8000, 1000);
	ck_assert_uint_eq(pace_gap_us(&p, 11000000), 0); /* a silence */
}

TEST(without_a_limit_nothing_waits)
{
	struct pace p = {0};

	sent_in_last_second(&p, 5000, 5000, 500);
	ck_assert_uint_eq(pace_gap_us(&p, 5500000), 0);
}
