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

bool overflow_takes(struct work *w, uint64_t us, uint64_t *ret_due_wall_ms)
{
	struct pool *pool = w->pool;
	uint64_t wait_ms = us / US_PER_MS, due;
	bool begun = w->picked_up_ms || w->call_count;

	if (!half_full(pool, &w->lane->overflow) && !lane_record_crowds(w->record))
		return false;
	if (wait_ms < pool->options->defer_ms)
		wait_ms = pool->options->defer_ms;
	due = loop_wall_ms(pool->loop) + wait_ms;
	if (w->head.deadline_ms && due >= (uint64_t)w->head.deadline_ms)
		return false;
	if (!begun && w->head.start_by_ms && due >= (uint64_t)w->head.start_by_ms)
		return false;
	if (!take_token(&w->lane->overflow, loop_now_us(pool->loop), pool->options->overflow_per_s))
		return false;
	*ret_due_wall_ms = due;
	return true;
}
