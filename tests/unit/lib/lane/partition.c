#include "lib/lane/partition.h"

#include "tests/support/records.h"
#include "tests/unit/test.h"

SUITE("lane/partition");

#define MOST 4096

/* Every second record is parked, the others are done: until the partition gives out no more, or where @until_crowded the parked crowd. */
static size_t park_every_second(struct records *from, struct lane_record **parked,
				bool until_crowded)
{
	size_t count = 0;

	for (;;) {
		struct lane_record *r = records_take(from), *other;

		if (!r)
			return count;
		parked[count++] = r;
		lane_record_park(r, true);
		if (until_crowded && lane_record_crowds(r))
			return count;
		other = records_take(from);
		if (!other)
			return count;
		lane_record_done(other);
	}
}

static void give_back(struct records *from, struct lane_record **records, size_t count)
{
	for (size_t i = 0; i < count; i++)
		lane_record_done(records[i]);
	ck_assert_uint_eq(records_partition(from)->parked, 0);
	records_free(from);
}

TEST(parked_records_crowd_well_before_the_partition_gives_out_no_more)
{
	struct records *from = records_new();
	struct lane_record *parked[MOST];
	size_t crowd = park_every_second(from, parked, true);
	size_t most = crowd + park_every_second(from, parked + crowd, false);

	ck_assert_uint_gt(crowd, most / 3);
	ck_assert_uint_lt(crowd, most * 2 / 3);
	ck_assert_uint_lt(most, 1200); /* far below half of a lane's window */
	give_back(from, parked, most);
}

TEST(a_full_partition_gives_out_records_again_for_each_parked_one_that_goes)
{
	struct records *from = records_new();
	struct lane_record *parked[MOST];
	size_t most = park_every_second(from, parked, false);

	ck_assert_ptr_null(records_take(from));
	for (size_t i = 0; i < 100; i++) {
		ck_assert(lane_record_crowds(parked[i]));
		lane_record_done(parked[i]);
		ck_assert_uint_eq(park_every_second(from, parked + i, false), 1);
	}
	give_back(from, parked, most);
}

TEST(records_that_run_do_not_crowd_however_many_they_are)
{
	struct records *from = records_new();
	struct lane_record *parked[MOST];
	size_t most = park_every_second(from, parked, false);

	for (size_t i = 0; i <= most / 2; i++)
		lane_record_park(parked[i], false);
	ck_assert(!lane_record_crowds(parked[most - 1]));
	give_back(from, parked, most);
}

TEST(a_restart_with_a_full_set_gives_out_what_lies_between)
{
	struct records *before = records_new(), *after = records_new();
	struct partition *p = records_partition(after);
	struct lane_record *parked[MOST], *r;
	size_t most = park_every_second(before, parked, false), between = 0;
	struct buf text = {0};

	done_encode(&records_partition(before)->done, &text);
	ck_assert_uint_ge(text.len, DONE_TEXT_HIGH);
	done_init(&p->done, 0);
	ck_assert_int_eq(done_decode(&p->done, 0, buf_str(&text)), DONE_OK);
	p->based = true;
	while ((r = records_take(after)) && lane_record_offset(r) < done_end(&p->done)) {
		between++;
		lane_record_done(r);
	}
	ck_assert_uint_ge(between, most - 1);
	ck_assert_ptr_nonnull(r); /* and goes on behind it */
	lane_record_done(r);
	ck_assert_uint_lt(done_text_size(&p->done), 16);
	buf_fini(&text);
	records_free(after);
	give_back(before, parked, most);
}

TEST(what_was_kept_back_begins_only_while_the_set_stays_within_its_bound)
{
	struct records *from = records_new();
	struct partition *p = records_partition(from);
	struct lane_record *held[MOST], *begun[MOST];
	size_t count = 0, at = 0, open = 0;

	while (count < MOST) {
		held[count] = records_take(from);
		ck_assert_ptr_nonnull(held[count]);
		lane_record_hold(held[count++]);
	}
	for (; at < count && lane_record_room(held[at]); at++) {
		lane_record_begin(held[at]);
		if (at % 2)
			lane_record_done(held[at]);
		else
			begun[open++] = held[at];
	}
	ck_assert_uint_lt(at, count);
	ck_assert_uint_le(done_text_size(&p->done), DONE_TEXT_MAX);
	for (size_t i = 0; i < open; i += 2)
		lane_record_done(begun[i]);
	ck_assert_uint_le(done_text_size(&p->done), DONE_TEXT_MAX);
	ck_assert(lane_record_room(held[at]));
	for (size_t i = 1; i < open; i += 2)
		lane_record_done(begun[i]);
	give_back(from, held + at, count - at);
}
