#include "consumers/pool/retry.h"

#include <string.h>

#include "consumers/pool/spend.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/lane/lane.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

#define AGAIN_FIRST_MS 100
#define AGAIN_MOST_MS 2000
#define HEADERS_MAX 32

static void write_tier(struct work *w);
static void raise_copy(struct work *w);

/* ── the record, made again ── */

void retry_body(const struct work *w, struct buf *out)
{
	const struct job *job = &w->job;
	struct job small;

	if (!w->loaded) {
		buf_add_str(out, lane_record_body(w->record));
		return;
	}
	if (!w->blob.len) {
		codec_encode(&codec_job, job, out);
		return;
	}
	codec_init(&codec_job, &small);
	small.v = 1;
	small.id = w->head.job;
	small.org = w->head.org;
	small.lane = str_of(lane_name(w->lane->lane));
	small.session = w->head.session;
	small.turn = w->head.turn;
	small.prev = w->head.prev;
	small.channel = key_str(&w->channel);
	small.created_ms = w->head.created_ms;
	small.not_before_ms = job->not_before_ms;
	small.queue_ms = job->queue_ms;
	small.run_ms = job->run_ms;
	small.deadline_ms = w->head.deadline_ms;
	small.metadata = job->metadata;
	small.webhook = job->webhook;
	small.outbox = job->outbox;
	small.blob = w->blob;
	codec_encode(&codec_job, &small, out);
}

static struct job_head head_again(const struct work *w, struct str calls)
{
	struct job_head head = w->head;

	head.lane = str_of(lane_name(w->lane->lane));
	head.tries = w->tries;
	head.copy = w->head.copy + 1;
	head.due_ms = (int64_t)w->due_wall_ms;
	if (w->picked_up_ms || w->call_count)
		head.start_by_ms = head.deadline_ms; /* it was started in time */
	head.calls = calls;
	return head;
}

/* ── the order ── */

/* Cancelled or over its time while the tier was written: it ends here, and what the tier has is void. */
static bool ends_instead(struct work *w)
{
	if (!w->end_as)
		return false;
	finish_begin(w, w->end_as == FAULT_EXPIRED ? "expired" : "cancelled", w->end_as, STR(""));
	return true;
}

static void on_write_timer(struct timer *t)
{
	write_tier(container_of(t, struct work, timer));
}

static void on_written(void *ctx, enum lane_written written, int32_t partition, int64_t offset)
{
	struct work *w = ctx;

	(void)partition;
	(void)offset;
	w->tier_writing = false;
	w->tier_written = written == LANE_WRITTEN || PLANTED(TIER_UNSURE);
	if (sm_state(&w->sm) == WORK_OVER) {
		work_over(w, false); /* it waited only for this */
		return;
	}
	if (sm_state(&w->sm) != WORK_DEFERRING || ends_instead(w))
		return; /* the claim is being made again, or there is nothing to put off any more */
	if (w->tier_written) {
		w->waits = 0;
		raise_copy(w);
		return;
	}
	log_warn(&w->log, "tier record is not written", F_INT("written", written));
	work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_write_timer);
}

static void write_tier(struct work *w)
{
	int64_t wait_ms = (int64_t)w->due_wall_ms - (int64_t)loop_wall_ms(w->pool->loop);
	cleanup_free char *topic =
	    topic_full(w->pool->config->kafka.topic_prefix, tier_for(wait_ms));
	struct lane_header headers[HEADERS_MAX];
	char numbers[HEADERS_MAX][24];
	struct buf body = {0}, calls = {0};
	struct lane_write write = {
	    .topic = topic, .partition = -1, .key = w->head.job, .headers = headers};
	struct job_head head;

	if (w->tier_writing || ends_instead(w))
		return; /* the word on the record under way comes first */
	if (w->call_count)
		work_calls_json(w, &calls);
	head = head_again(w, buf_str(&calls));
	must(codec_head.count <= HEADERS_MAX);
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], &head, numbers[i]);

		if (text.ptr)
			headers[write.header_count++] =
			    (struct lane_header){str_of(codec_head.fields[i].name), text};
	}
	retry_body(w, &body);
	write.body = buf_str(&body);
	w->tier_writing = true;
	lane_write(w->writer, &write, on_written, w);
	buf_fini(&body);
	buf_fini(&calls);
}

static void on_raise_timer(struct timer *t)
{
	raise_copy(container_of(t, struct work, timer));
}

static void on_raised(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	(void)cancel;
	w->request = NULL;
	switch (held) {
	case STATE_HELD:
		w->claimed = false;
		series_add(metric_one(w->pool->metric.deferred, lane_name(w->lane->lane)), 1);
		log_info(
		    &w->log, "put off", F_INT("tries", w->tries), F_INT("copy", w->head.copy + 1),
		    F_INT("ms", (int64_t)w->due_wall_ms - (int64_t)loop_wall_ms(w->pool->loop)));
		work_over(w, true);
		return;
	case STATE_NOT_HELD:
		work_lost(w);
		return;
	case STATE_MISMATCH:
	case STATE_UNSURE:
		work_again(w, work_pause_us(w, AGAIN_FIRST_MS, AGAIN_MOST_MS), on_raise_timer);
		return;
	}
}

static void raise_copy(struct work *w)
{
	struct buf calls = {0};

	if (w->call_count)
		work_calls_json(w, &calls);
	w->request = state_release(w->redis, w->head.job, str_of(w->fence), w->tries,
				   w->head.copy + 1, buf_str(&calls), on_raised, w);
	buf_fini(&calls);
}

static void begin(struct work *w, uint64_t due_wall_ms)
{
	w->due_wall_ms = due_wall_ms;
	w->tier_written = false;
	w->waits = 0;
	timer_stop(&w->timer);
	pool_drop_slot(w->pool, w);
	work_park(w);
	sm_move(&w->sm, WORK_DEFERRING);
	write_tier(w);
}

bool retry_defer(struct work *w, uint64_t us)
{
	uint64_t now = loop_wall_ms(w->pool->loop);

	if (us < w->pool->options->defer_ms * US_PER_MS)
		return false;
	if (us / US_PER_MS >= overflow_left_ms(w, now))
		return false; /* it ends on time here */
	begin(w, now + us / US_PER_MS);
	return true;
}

bool retry_overflow(struct work *w, uint64_t us)
{
	uint64_t due;

	if (!overflow_takes(w, us, &due))
		return false;
	series_add(metric_one(w->pool->metric.overflowed, lane_name(w->lane->lane)), 1);
	begin(w, due);
	return true;
}

bool retry_overflow_waiting(struct work *w, uint64_t least_us)
{
	uint64_t now = loop_now_us(w->pool->loop), us = 0;
	int64_t ms = w->reservation->estimate_ms;

	if (w->room_line)
		us = w->pool->options->defer_ms * US_PER_MS;
	else if (sm_state(&w->sm) == WORK_BACKOFF && w->waits_until_us > now)
		us = w->waits_until_us - now;
	else if (sm_state(&w->sm) == WORK_BUDGET && w->in_budget_line)
		us = (ms < 0 ? w->pool->options->defer_ms : (uint64_t)ms) * US_PER_MS;
	if (us <= least_us || !w->parks || !retry_overflow(w, us))
		return false;
	spend_drop(w);
	return true;
}

bool retry_overflow_unclaimed(struct work *w)
{
	uint64_t due;

	if (!overflow_takes(w, 0, &due))
		return false;
	series_add(metric_one(w->pool->metric.overflowed, lane_name(w->lane->lane)), 1);
	w->overflows = true;
	w->due_wall_ms = due;
	work_claim(w);
	return true;
}

void retry_go_on(struct work *w)
{
	sm_move(&w->sm, WORK_DEFERRING);
	if (w->tier_writing || ends_instead(w))
		return;
	if (w->tier_written)
		raise_copy(w);
	else
		write_tier(w);
}

/* ── when a record is seen ── */

static uint64_t due_in_us(const struct work *w)
{
	uint64_t now = loop_wall_ms(w->pool->loop);

	return (uint64_t)w->head.due_ms > now ? ((uint64_t)w->head.due_ms - now) * US_PER_MS : 0;
}

bool retry_first_sight(struct work *w)
{
	if (!w->loaded && !lane_record_body(w->record).len) {
		/* Only a nudge for a job that was to end: nothing can be run from it. */
		state_release(w->redis, w->head.job, str_of(w->fence), w->tries, w->head.copy,
			      STR(""), NULL, NULL);
		w->claimed = false;
		work_over(w, true);
		return true;
	}
	if (w->overflows) {
		/* Never to be run from here, however late the claim came: its turn was not looked at to the end. */
		begin(w, w->due_wall_ms);
		return true;
	}
	return w->head.due_ms > 0 && retry_defer(w, due_in_us(w));
}

void retry_wait_due(struct work *w)
{
	uint64_t us = due_in_us(w);

	if (!us) {
		pool_want_slot(w->pool, w);
		return;
	}
	work_park(w);
	work_back_off(w, us, "retry");
}

/* ── the calls of before ── */

void retry_recall(struct work *w)
{
	past_calls(w, w->head.calls, 0);
}

void retry_forget_oldest(struct work *w)
{
	for (size_t i = 0; i < w->call_count; i++) {
		if (w->calls[i].fault != FAULT_PROVIDER_RATE || w->calls[i].first_token_ms)
			continue; /* that one cost something */
		w->call_count--;
		memmove(&w->calls[i], &w->calls[i + 1], (w->call_count - i) * sizeof(w->calls[0]));
		return;
	}
}
