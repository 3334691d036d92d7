#include "consumers/pool/place.h"

#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("pool/place");

static void end(struct places *p)
{
	struct head *head;

	while ((head = place_next(p))) {
		place_leave(p, &head->place);
		mem_free(head);
	}
}

static struct place *last_of(struct places *p)
{
	return container_of(p->fresh.prev, struct place, link);
}

TEST(a_position_counts_those_that_are_begun_and_the_heads_before)
{
	struct places p = {0};
	struct place work[3] = {0};
	struct place *head[3];

	places_init(&p);
	for (int i = 0; i < 3; i++)
		place_enter(&p, &work[i], (uint64_t)i * 10, 0);
	for (int i = 0; i < 3; i++) {
		place_head(&p, NULL, (uint64_t)i * 10 + 15, 0); /* 15, 25, 35 */
		head[i] = last_of(&p);
	}
	ck_assert_uint_eq(place_position(&p, &work[1]), 2);
	ck_assert_uint_eq(place_position(&p, head[0]), 3);
	ck_assert_uint_eq(place_position(&p, &work[2]), 4); /* tag 20: behind the head of 15 */
	ck_assert_uint_eq(place_position(&p, head[2]), 6);
	for (int i = 0; i < 3; i++)
		place_leave(&p, &work[i]);
	ck_assert_uint_eq(place_position(&p, head[2]), 3);
	end(&p);
}

TEST(a_position_does_not_rise_when_somebody_comes_before)
{
	struct places p = {0};
	struct place *head;

	places_init(&p);
	place_head(&p, NULL, 50, 0);
	head = last_of(&p);
	ck_assert_uint_eq(place_position(&p, head), 1);
	for (int i = 0; i < 5; i++)
		place_head(&p, NULL, 10, 0);
	ck_assert_uint_eq(place_position(&p, head), 1);
	end(&p);
}

TEST(a_new_line_begins_with_its_own_position)
{
	struct places p = {0};
	struct place work = {0}, others[4] = {0};

	places_init(&p);
	place_enter(&p, &work, 50, 0);
	ck_assert_uint_eq(place_position(&p, &work), 1);
	place_leave(&p, &work);
	ck_assert_uint_eq(place_position(&p, &work), 0);
	for (int i = 0; i < 4; i++)
		place_enter(&p, &others[i], 10, 0);
	place_forget(&work);
	place_enter(&p, &work, 50, 0);
	ck_assert_uint_eq(place_position(&p, &work), 5);
}

TEST(a_head_that_is_begun_keeps_its_place_and_what_it_was_told)
{
	struct places p = {0};
	struct place *told[PLACE_NEAR + PLACE_FAR], work;
	struct head *head;

	places_init(&p);
	place_head(&p, NULL, 5, 1000);
	ck_assert_uint_eq(place_turns(&p, 1000 + PLACE_SAY_US, told), 1);
	head = place_next(&p);
	place_begin(&p, &head->place, &work, 5);
	ck_assert_uint_eq(work.said, 1);
	ck_assert_uint_eq(place_turns(&p, 1000 + 2 * PLACE_TICK_US, told), 0);
	ck_assert_ptr_null(place_next(&p));
	mem_free(head);
	place_leave(&p, &work);
}

TEST(who_waits_shortly_is_told_nothing)
{
	struct places p = {0};
	struct place *told[PLACE_NEAR + PLACE_FAR];

	places_init(&p);
	place_head(&p, NULL, 5, 1000);
	ck_assert_uint_eq(place_turns(&p, 999 + PLACE_SAY_US, told), 0);
	ck_assert_uint_eq(place_turns(&p, 1000 + PLACE_SAY_US, told), 1);
	end(&p);
}

TEST(a_change_is_told_at_most_four_times_a_second)
{
	struct places p = {0};
	struct place *told[PLACE_NEAR + PLACE_FAR];
	uint64_t now = US_PER_S;
	size_t said = 0;

	places_init(&p);
	for (uint64_t i = 0; i < 200; i++)
		place_head(&p, NULL, i, now);
	now += PLACE_SAY_US;
	for (int ms = 0; ms < 1000; ms += 10, now += 10 * US_PER_MS) {
		struct head *head = place_next(&p);
		size_t count = place_turns(&p, now, told);

		for (size_t i = 0; i < count; i++)
			said += told[i]->node.tag == 199;
		place_leave(&p, &head->place);
		mem_free(head);
	}
	ck_assert_uint_gt(said, 1);
	ck_assert_uint_le(said, 4);
	end(&p);
}

TEST(a_line_of_ten_thousand_is_told_within_its_budget_and_nobody_is_forgotten)
{
	struct places p = {0};
	struct place *told[PLACE_NEAR + PLACE_FAR];
	uint64_t now = US_PER_S;
	size_t ticks = 0;

	places_init(&p);
	for (uint64_t i = 0; i < 10000; i++)
		place_head(&p, NULL, i, now);
	now += PLACE_SAY_US;
	while (!list_empty(&p.fresh)) {
		ck_assert_uint_le(place_turns(&p, now, told), PLACE_NEAR + PLACE_FAR);
		now += PLACE_TICK_US;
		ticks++;
	}
	ck_assert_uint_eq(ticks, (10000 + PLACE_FAR - 1) / PLACE_FAR);
	end(&p);
}

static void run(struct places *p, uint64_t *now, int seconds, int starts_per_tick)
{
	for (int tick = 0; tick < seconds * 4; tick++) {
		for (int i = 0; i < starts_per_tick; i++)
			place_started(p);
		*now += PLACE_TICK_US;
		place_measure(p, *now);
	}
}

TEST(an_estimate_is_the_position_by_the_pace_of_the_line)
{
	struct places p = {0};
	uint64_t now = US_PER_S;

	places_init(&p);
	place_head(&p, NULL, 1, now);
	ck_assert_int_eq(place_estimate_ms(&p, 10), -1);
	run(&p, &now, 2, 5); /* 20 a second */
	ck_assert_int_eq(place_estimate_ms(&p, 10), 500);
	run(&p, &now, 60, 10);
	ck_assert_int_ge(place_estimate_ms(&p, 10), 249);
	ck_assert_int_le(place_estimate_ms(&p, 10), 251);
	end(&p);
}

TEST(a_quiet_lane_keeps_its_pace)
{
	struct places p = {0};
	uint64_t now = US_PER_S;

	places_init(&p);
	place_head(&p, NULL, 1, now);
	run(&p, &now, 10, 5);
	end(&p);
	run(&p, &now, 600, 0); /* nobody waits: nothing is learned */
	place_head(&p, NULL, 1, now);
	ck_assert_int_eq(place_estimate_ms(&p, 10), 500);
	end(&p);
}

TEST(a_line_that_stands_has_no_estimate)
{
	struct places p = {0};
	uint64_t now = US_PER_S;

	places_init(&p);
	place_head(&p, NULL, 1, now);
	run(&p, &now, 10, 5);
	run(&p, &now, 120, 0);
	ck_assert_int_eq(place_estimate_ms(&p, 10), -1);
	end(&p);
}
