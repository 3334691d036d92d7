#include "consumers/pool/overflow.h"

#include "consumers/pool/work.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "tests/support/records.h"
#include "tests/unit/test.h"

SUITE("pool/overflow");

#define WORKS 4000

/* One lane's works, each with a record of one partition. */
struct bench {
	struct pool_options options;
	struct pool pool;
	struct records *records;
	struct work works[WORKS];
	size_t count;
};

static struct bench *bench_new(void)
{
	struct bench *b = mem_new(struct bench);

	b->options.window_records = 20000;
	b->options.window_bytes = 32u * 1024 * 1024;
	b->options.defer_ms = 60000;
	b->options.overflow_per_s = 100;
	b->pool.options = &b->options;
	b->pool.loop = loop_new(1);
	b->pool.lane_count = 3;
	b->records = records_new();
	return b;
}

/* A work that waits for its target, and a job behind it that is done; NULL where the partition gives out no more. */
static struct work *wait_next(struct bench *b)
{
	struct work *w = &b->works[b->count];
	struct lane_record *other;

	w->pool = &b->pool;
	w->lane = &b->pool.lanes[2];
	w->record = records_take(b->records);
	if (!w->record)
		return NULL;
	b->count++;
	overflow_parks(w, true);
	other = records_take(b->records);
	if (other)
		lane_record_done(other);
	return w;
}

static void bench_free(struct bench *b)
{
	for (size_t i = 0; i < b->count; i++) {
		lane_record_done(b->works[i].record);
		b->works[i].record = NULL;
		overflow_parks(&b->works[i], false);
	}
	ck_assert_uint_eq(b->pool.lanes[2].overflow.parked, 0);
	records_free(b->records);
	loop_free(b->pool.loop);
	mem_free(b);
}

TEST(few_that_wait_stay)
{
	struct bench *b = bench_new();
	uint64_t due;

	for (int i = 0; i < 100; i++)
		ck_assert(!overflow_takes(wait_next(b), 50000000, &due));
	bench_free(b);
}

TEST(
    before_a_partition_gives_out_no_more_its_waiting_works_go_though_the_window_is_far_from_half_full)
{
	struct bench *b = bench_new();
	struct work *w, *last = NULL;
	uint64_t due = 0;

	while ((w = wait_next(b)) && !overflow_takes(w, 50000000, &due))
		last = w;
	ck_assert_ptr_nonnull(w);
	ck_assert_ptr_nonnull(last);
	ck_assert_uint_lt(b->count, 20000 / 3 / 2);
	ck_assert_uint_ge(due, loop_wall_ms(b->pool.loop) + 60000);
	/* those that waited before may go as well */
	ck_assert(overflow_takes(&b->works[0], 50000000, &due));
	bench_free(b);
}

TEST(works_of_a_crowded_partition_go_as_fast_as_tokens_come)
{
	struct bench *b = bench_new();
	uint64_t due;
	int gone = 0;

	while (wait_next(b))
		;
	for (size_t i = 0; i < b->count; i++)
		gone += overflow_takes(&b->works[i], 50000000, &due);
	ck_assert_int_ge(gone, 100);
	ck_assert_int_lt(gone, 200);
	bench_free(b);
}
