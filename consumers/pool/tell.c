/* What followers of a job that waits are told: `queued`, with its position and the reason. */
#include "consumers/pool/place.h"

#include "consumers/pool/spend.h"
#include "consumers/pool/work.h"
#include "lib/base/json.h"
#include "lib/lane/lane.h"

static const char in_line[] = "slots";

/* @position: 0 where it is in no line. */
static void tell(const struct pool_lane *lane, struct state_wait *wait, int64_t attempt,
		 size_t position, int64_t estimate_ms)
{
	struct buf event = {0};
	struct json_out o = {.buf = &event};

	wait->position = position ? (int64_t)position : -1;
	wait->estimate_ms = estimate_ms;
	event_head(&event, "queued", wait->job, attempt, -1);
	json_put_text(&o, "lane", lane_name(lane->lane));
	if (wait->position > 0)
		json_put_int(&o, "position", wait->position);
	else
		json_put_null(&o, "position");
	if (wait->estimate_ms >= 0)
		json_put_int(&o, "estimate_ms", wait->estimate_ms);
	else
		json_put_null(&o, "estimate_ms");
	json_put_str(&o, "why", wait->why);
	wait->event = buf_str(&event);
	state_waits(lane->redis, wait, NULL, NULL);
	buf_fini(&event);
}

void tell_wait(struct work *w)
{
	struct state_wait wait = {
	    .job = w->head.job,
	    .fence = str_of(w->claimed ? w->fence : ""),
	    .why = str_of(w->why ? w->why : in_line),
	    .channel = key_str(&w->channel),
	};

	size_t position;

	if (w->status)
		return;
	if (spend_waits(w)) { /* in a quota's line, which is one for all pools */
		tell(w->lane, &wait, w->attempt, (size_t)w->reservation->position,
		     w->reservation->estimate_ms);
		return;
	}
	if (sm_state(&w->sm) == WORK_BACKOFF && w->waits_until_us > loop_now_us(w->pool->loop)) {
		tell(w->lane, &wait, w->attempt, 0,
		     (int64_t)((w->waits_until_us - loop_now_us(w->pool->loop)) / US_PER_MS));
		return;
	}
	position = place_position(&w->lane->places, &w->place);
	tell(w->lane, &wait, w->attempt, position, place_estimate_ms(&w->lane->places, position));
}

/* Nobody has claimed it: what is known of it stands in its record. */
static void tell_head(const struct pool_lane *lane, struct head *head)
{
	struct str job = lane_record_header(head->record, "job");
	struct str session = lane_record_header(head->record, "session");
	struct state_wait wait = {.job = job, .fence = STR(""), .why = STR(in_line)};
	struct key channel;
	size_t position;

	if (!id_is(job, "job") || (session.len && !id_is(session, "ses")))
		return; /* its work will say what is wrong with it */
	channel = key_channel(session.len ? session : job);
	wait.channel = key_str(&channel);
	position = place_position(&lane->places, &head->place);
	tell(lane, &wait, 0, position, place_estimate_ms(&lane->places, position));
}

void tell_places(struct pool *pool)
{
	uint64_t now = loop_now_us(pool->loop);
	struct place *places[PLACE_NEAR + PLACE_FAR];

	for (size_t i = 0; i < pool->lane_count; i++) {
		struct pool_lane *lane = &pool->lanes[i];
		size_t count;

		place_measure(&lane->places, now);
		count = place_turns(&lane->places, now, places);
		for (size_t n = 0; n < count; n++)
			if (places[n]->begun)
				tell_wait(container_of(places[n], struct work, place));
			else
				tell_head(lane, container_of(places[n], struct head, place));
	}
}
