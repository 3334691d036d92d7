#include "lib/lane/done.h"

#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "tests/unit/test.h"

SUITE("lane/done");

/* The set by its definition: one flag per offset. */
#define SPACE 20000

static void check_same(const struct done *d, const struct done *other)
{
	ck_assert_int_eq(d->base, other->base);
	ck_assert_uint_eq(d->count, other->count);
	ck_assert_uint_eq(d->bytes, other->bytes);
	if (d->count)
		ck_assert_int_eq(memcmp(d->runs, other->runs, d->count * sizeof(*d->runs)), 0);
}

static void check_text(const struct done *d)
{
	struct buf text = {0};
	struct done back;

	done_encode(d, &text);
	ck_assert_uint_le(text.len, DONE_TEXT_MAX);
	ck_assert_uint_eq(text.len, done_text_size(d));
	ck_assert_int_eq(done_decode(&back, d->base, buf_str(&text)), DONE_OK);
	check_same(d, &back);
	done_fini(&back);
	buf_fini(&text);
}

TEST(the_base_moves_over_what_became_contiguous)
{
	struct done d;

	done_init(&d, 10);
	done_add(&d, 12);
	done_add(&d, 11);
	ck_assert_int_eq(d.base, 10);
	ck_assert_int_eq(done_above(&d), 2);
	done_add(&d, 10);
	ck_assert_int_eq(d.base, 13);
	ck_assert_uint_eq(d.count, 0);
	ck_assert_uint_eq(d.bytes, 0);
	done_fini(&d);
}

TEST(an_offset_below_the_base_is_completed_and_adding_it_changes_nothing)
{
	struct done d;

	done_init(&d, 10);
	done_add(&d, 9);
	ck_assert(done_has(&d, 9));
	ck_assert(!done_has(&d, 10));
	ck_assert_int_eq(d.base, 10);
	done_fini(&d);
}

TEST(a_range_swallows_the_runs_that_it_touches)
{
	struct done d;

	done_init(&d, 0);
	done_add_range(&d, 2, 4);
	done_add_range(&d, 6, 8);
	done_add_range(&d, 20, 21);
	done_add_range(&d, 4, 6);
	ck_assert_uint_eq(d.count, 2);
	ck_assert_int_eq(d.runs[0].from, 2);
	ck_assert_int_eq(d.runs[0].to, 8);
	done_add_range(&d, 0, 20);
	ck_assert_int_eq(d.base, 21);
	done_fini(&d);
}

TEST(the_text_is_alternating_runs_from_the_base_on)
{
	struct done d;
	struct buf text = {0};

	done_init(&d, 100);
	done_encode(&d, &text);
	ck_assert_view(buf_str(&text), "1:");
	buf_reset(&text);
	done_add_range(&d, 101, 103);
	done_add(&d, 300);
	done_encode(&d, &text);
	ck_assert_view(buf_str(&text), "1:AQLFAQE="); /* 1, 2, 197, 1 */
	buf_fini(&text);
	done_fini(&d);
}

TEST(an_empty_text_is_an_empty_set)
{
	struct done d;

	ck_assert_int_eq(done_decode(&d, 7, STR("")), DONE_OK);
	ck_assert_int_eq(d.base, 7);
	ck_assert_uint_eq(d.count, 0);
}

TEST(a_text_of_another_version_is_told_from_a_malformed_one)
{
	static const char *const bad[] = {
	    "x", "1", "1:?", "1:AQ==", "1:AAE=", "1:AQA=", "1:/w==", ":"};
	struct done d;

	ck_assert_int_eq(done_decode(&d, 7, STR("2:AQI=")), DONE_VERSION);
	for (size_t i = 0; i < countof(bad); i++) {
		ck_assert_int_eq(done_decode(&d, 7, str_of(bad[i])), DONE_MALFORMED);
		ck_assert_int_eq(d.base, 7);
		ck_assert_uint_eq(d.count, 0);
	}
}

TEST(runs_that_leave_the_numbers_are_malformed)
{
	struct done d;

	/* 2^63 - 1 not completed, then one completed. */
	ck_assert_int_eq(done_decode(&d, 7, STR("1://///////////fwE=")), DONE_MALFORMED);
	ck_assert_uint_eq(d.count, 0);
}

TEST(what_either_of_two_sets_has_the_merged_one_has)
{
	struct done a, b;

	done_init(&a, 5);
	done_add_range(&a, 7, 9);
	done_init(&b, 6);
	done_add_range(&b, 9, 12);
	done_merge(&a, &b);
	ck_assert_int_eq(a.base, 6);
	ck_assert_uint_eq(a.count, 1);
	ck_assert_int_eq(a.runs[0].to, 12);
	done_fini(&a);
	done_fini(&b);
}

TEST(a_text_that_would_be_too_long_keeps_what_is_next_to_the_base)
{
	struct done d, back;
	struct buf text = {0};

	done_init(&d, 0);
	for (int64_t i = 1; i < SPACE; i += 2)
		done_add(&d, i);
	done_encode(&d, &text);
	ck_assert_uint_le(text.len, DONE_TEXT_MAX);
	ck_assert_uint_gt(text.len, DONE_TEXT_MAX - 16);
	ck_assert_int_eq(done_decode(&back, 0, buf_str(&text)), DONE_OK);
	ck_assert(done_has(&back, 1));
	ck_assert(!done_has(&back, SPACE - 1));
	done_fini(&d);
	done_fini(&back);
	buf_fini(&text);
}

/* Adds random ranges to a set and to plain flags, and compares. */
TEST(the_set_agrees_with_plain_flags_for_random_ranges)
{
	static bool flags[SPACE];
	struct rand rand;
	struct done d;

	rand_init(&rand, 11);
	done_init(&d, 0);
	for (int step = 0; step < 3000; step++) {
		int64_t from = (int64_t)rand_below(&rand, SPACE);
		int64_t to = from + (int64_t)rand_below(&rand, rand_below(&rand, 4) ? 3 : 40);

		done_add_range(&d, from, to);
		for (int64_t i = from; i < to && i < SPACE; i++)
			flags[i] = true;
	}
	for (int64_t i = 0; i < SPACE; i++)
		ck_assert(done_has(&d, i) == flags[i]);
	done_fini(&d);
}

/* Takes while there is room, completes in random order: by @choice the oldest, the newest, every second or any. */
static void random_history(struct rand *rand, unsigned choice, size_t limit)
{
	int64_t *open = mem_alloc(limit * sizeof(*open));
	size_t count = 0;
	int64_t next = (int64_t)rand_below(rand, 1u << 20);
	struct done d;

	done_init(&d, next);
	for (int step = 0; step < 12000; step++) {
		size_t at;

		while (count < limit && done_room(&d, count))
			open[count++] = next++;
		if (!count)
			break;
		at = choice == 0   ? 0
		     : choice == 1 ? count - 1
		     : choice == 2 ? ((size_t)step * 2 + 1) % count
				   : (size_t)rand_below(rand, count);
		done_add(&d, open[at]);
		memmove(open + at, open + at + 1, (count - at - 1) * sizeof(*open));
		count--;
		ck_assert_uint_le(done_text_size(&d), DONE_TEXT_MAX);
		if (step % 500 == 0)
			check_text(&d);
	}
	check_text(&d);
	for (size_t i = 0; i < count; i++)
		done_add(&d, open[i]);
	ck_assert_int_eq(d.base, next);
	ck_assert_uint_eq(d.bytes, 0);
	done_fini(&d);
	mem_free(open);
}

TEST(under_back_pressure_the_text_fits_in_whatever_order_work_ends)
{
	struct rand rand;

	rand_init(&rand, 5);
	for (unsigned choice = 0; choice < 4; choice++) {
		random_history(&rand, choice, 100);
		random_history(&rand, choice, 1000);
		random_history(&rand, choice, 8000);
	}
}

TEST(a_worst_case_that_splits_every_stretch_still_fits)
{
	struct done d;
	int64_t next = 0;
	size_t open = 0;

	done_init(&d, 0);
	while (done_room(&d, open)) {
		next++;
		open++;
	}
	/* About 1,700 jobs at once of one partition must be possible. */
	ck_assert_uint_gt(open, 1700);
	for (int64_t i = 1; i < next; i += 2)
		done_add(&d, i);
	ck_assert_uint_le(done_text_size(&d), DONE_TEXT_MAX);
	check_text(&d);
	done_fini(&d);
}
