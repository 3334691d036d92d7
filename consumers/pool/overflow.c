#include "consumers/pool/overflow.h"

#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/lane/lane.h"

void overflow_parks(struct work *w, bool parks)
{
	struct overflow *o = &w->lane->overflow;

	if (parks == w->parks)
		return;
	w->parks = parks;
	if (w->record)
		lane_record_park(w->record, parks);
	if (!parks) {
		o->parked--;
		o->parked_bytes -= w->parked_bytes;
		return;
	}
	w->parked_bytes = w->record ? lane_record_body(w->record).len : 0;
	o->parked++;
	o->parked_bytes += w->parked_bytes;
}

/* Of an equal share of the window: what other lanes leave may be used, not counted on. */
static bool half_full(const struct pool *pool, const struct overflow *o)
{
	size_t lanes = pool->lane_count;

	return o->parked > (size_t)pool->options->window_records / lanes / 2 ||
	       o->parked_bytes > pool->options->window_bytes / lanes / 2;
}

/* A bucket of one second's tokens. */
static bool take_token(struct overflow *o, uint64_t now_us, int64_t per_s)
{
	double most = (double)per_s;

	if (!o->filled_us)
		o->tokens = most;
	else
		o->tokens += (double)(now_us - o->filled_us) * most / (double)US_PER_S;
	o->filled_us = now_us;
	if (o->tokens > most)
		o->tokens = most;
	if (o->tokens < 1)
		return false;
	o->tokens--;
	return true;
}

/* Who has less is out of time where he is. */
#define LEFT_LEAST_MS UINT64_C(4000)

uint64_t overflow_left_ms(const struct work *w, uint64_t now_wall_ms)
{
	bool begun = w->picked_up_ms || w->call_count;
	int64_t end_ms = begun || !w->head.start_by_ms ? w->head.deadline_ms : w->head.start_by_ms;

	if (!end_ms)
		return UINT64_MAX / US_PER_S;
	return (uint64_t)end_ms > now_wall_ms ? (uint64_t)end_ms - now_wall_ms : 0;
}

bool overflow_takes(struct work *w, uint64_t us, uint64_t *ret_due_wall_ms)
{
	struct pool *pool = w->pool;
	uint64_t now = loop_wall_ms(pool->loop), wait_ms = us / US_PER_MS;
	uint64_t away_ms = pool->options->defer_ms, left_ms = overflow_left_ms(w, now);

	if (!half_full(pool, &w->lane->overflow) && !lane_record_crowds(w->record))
		return false;
	if (left_ms < LEFT_LEAST_MS)
		return false;
	if (away_ms > left_ms / 2)
		away_ms = left_ms / 2;
	if (wait_ms < away_ms)
		wait_ms = away_ms;
	if (wait_ms > left_ms - LEFT_LEAST_MS / 2)
		wait_ms = left_ms - LEFT_LEAST_MS / 2;
	if (!take_token(&w->lane->overflow, loop_now_us(pool->loop), pool->options->overflow_per_s))
		return false;
	*ret_due_wall_ms = now + wait_ms;
	return true;
}
