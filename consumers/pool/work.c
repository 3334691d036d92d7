#include "consumers/pool/work.h"
#include "consumers/pool/hedge.h"
#include "consumers/pool/retry.h"
#include "consumers/pool/spend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/plant.h"
#include "lib/lane/lane.h"
#include "lib/store/pg.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"

/* Workers that may end without a word while they hold a job that has called nobody, before it is taken for their poison. */
#define DEATHS_MAX 12
#define HELD_MOST_MS 10000
/* States after which a call or its answer is worth keeping when the claim is lost. */
#define DECIDED (SM(WORK_WRITING) | SM(WORK_DECIDING) | SM(WORK_PUBLISHING))

static const struct sm_state states[WORK_STATES] = {
    [WORK_TURN] = {"turn", SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_CLAIMING] = {"claiming", SM(WORK_CLAIMING) | SM(WORK_HELD) | SM(WORK_LOADING) |
				       SM(WORK_SLOT) | SM(WORK_CALLING) | SM(WORK_WRITING) |
				       SM(WORK_DECIDING) | SM(WORK_PUBLISHING) |
				       SM(WORK_DEFERRING) | SM(WORK_OVER)},
    [WORK_HELD] = {"held", SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_LOADING] = {"loading", SM(WORK_SLOT) | SM(WORK_BACKOFF) | SM(WORK_WRITING) |
				     SM(WORK_DECIDING) | SM(WORK_CLAIMING) | SM(WORK_DEFERRING) |
				     SM(WORK_OVER)},
    [WORK_SLOT] = {"slot", SM(WORK_CALLING) | SM(WORK_BACKOFF) | SM(WORK_WRITING) |
			       SM(WORK_DECIDING) | SM(WORK_CLAIMING) | SM(WORK_DEFERRING) |
			       SM(WORK_OVER)},
    [WORK_BUDGET] = {"budget", SM(WORK_CALLING) | SM(WORK_SLOT) | SM(WORK_BACKOFF) |
				   SM(WORK_WRITING) | SM(WORK_DECIDING) | SM(WORK_CLAIMING) |
				   SM(WORK_DEFERRING) | SM(WORK_OVER)},
    [WORK_CALLING] = {"calling", SM(WORK_SLOT) | SM(WORK_BUDGET) | SM(WORK_BACKOFF) |
				     SM(WORK_WRITING) | SM(WORK_DECIDING) | SM(WORK_CLAIMING) |
				     SM(WORK_DEFERRING) | SM(WORK_OVER)},
    [WORK_BACKOFF] = {"backoff", SM(WORK_SLOT) | SM(WORK_CALLING) | SM(WORK_WRITING) |
				     SM(WORK_DECIDING) | SM(WORK_CLAIMING) | SM(WORK_DEFERRING) |
				     SM(WORK_OVER)},
    [WORK_WRITING] = {"writing", SM(WORK_DECIDING) | SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_DECIDING] = {"deciding",
		       SM(WORK_WRITING) | SM(WORK_PUBLISHING) | SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_PUBLISHING] = {"publishing", SM(WORK_CONVERSING) | SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_CONVERSING] = {"conversing", SM(WORK_ENDING) | SM(WORK_OVER)},
    [WORK_ENDING] = {"ending", SM(WORK_OVER)},
    [WORK_DEFERRING] = {"deferring",
			SM(WORK_WRITING) | SM(WORK_DECIDING) | SM(WORK_CLAIMING) | SM(WORK_OVER)},
    [WORK_OVER] = {"over", 0},
};

const char *work_state_name(enum work_state state)
{
	return states[state].name;
}

/* ── waits ── */

void work_again(struct work *w, uint64_t us, void (*then)(struct timer *t))
{
	timer_stop(&w->timer);
	w->timer.fire = then;
	timer_set(&w->timer, us);
}

uint64_t work_pause_us(struct work *w, uint64_t first_ms, uint64_t most_ms)
{
	uint64_t ms = first_ms << (w->waits < 16 ? w->waits : 16);

	w->waits++;
	if (ms > most_ms)
		ms = most_ms;
	return ms * US_PER_MS / 2 + rand_below(loop_rand(w->pool->loop), ms * US_PER_MS / 2 + 1);
}

/* Shorter waits are not worth a word; then at most four words a second. */
#define SAY_US (100 * US_PER_MS)
#define SAY_AGAIN_US (250 * US_PER_MS)

static void on_say(struct timer *t)
{
	tell_wait(container_of(t, struct work, say));
}

void work_waits(struct work *w, const char *why)
{
	bool said = w->why && !timer_is_set(&w->say);

	if (why == w->why)
		return;
	w->why = why;
	if (why && !line_holds(&w->place.node))
		place_forget(&w->place);
	overflow_parks(w, why && !line_holds(&w->place.node));
	if (!why || line_holds(&w->place.node)) /* told with its position, by tell_places */
		timer_stop(&w->say);
	else if (!timer_is_set(&w->say))
		timer_set(&w->say, said ? SAY_AGAIN_US : SAY_US);
}

void work_moved(struct work *w)
{
	if (!timer_is_set(&w->say))
		timer_set(&w->say, SAY_AGAIN_US);
}

/* Whatever the present state waits for is not waited for any more. */
static void stop_waiting(struct work *w)
{
	timer_stop(&w->timer);
	if (w->request)
		redis_cancel(w->request);
	if (w->pg_request)
		pg_cancel(w->pg_request);
	if (w->blob_request)
		blob_cancel(w->blob_request);
	w->request = NULL;
	w->pg_request = NULL;
	w->blob_request = NULL;
	gather_cancel(&w->past);
}

/* ── the lease ── */

static void on_renewed(void *ctx, enum state_held held, bool cancel)
{
	struct work *w = ctx;

	w->lease_request = NULL;
	if (held == STATE_NOT_HELD)
		work_lost(w);
	else if (held == STATE_HELD && cancel)
		work_stop(w, FAULT_CANCELLED);
}

static void on_lease(struct timer *t)
{
	struct work *w = container_of(t, struct work, lease);

	timer_set(&w->lease, STATE_RENEW_MS * US_PER_MS);
	if (!w->lease_request && !PLANTED(CLAIM_NOT_RENEWED))
		w->lease_request =
		    state_renew(w->redis, w->head.job, str_of(w->fence), on_renewed, w);
}

static void lease_stop(struct work *w)
{
	timer_stop(&w->lease);
	timer_stop(&w->call_due);
	if (w->lease_request)
		redis_cancel(w->lease_request);
	if (w->call_request)
		redis_cancel(w->call_request);
	w->lease_request = NULL;
	w->call_request = NULL;
	w->claimed = false;
}

/* ── the claim ── */

static void on_claim_timer(struct timer *t)
{
	work_claim(container_of(t, struct work, timer));
}

/* The call and the text of before are not worth anything any more. */
static void forget_call(struct work *w)
{
	hedge_drop(w);
	spend_drop(w);
	ask_leave(w);
	w->target = NULL;
	pool_drop_slot(w->pool, w);
	scribe_begin(&w->scribe, 0);
	w->anew = false;
	w->goes_on = false;
	w->seam_due = false;
	w->status = NULL;
	w->resume = WORK_OVER;
}

/* The text that stands goes on as the present attempt's, and with it the calls that gave it. */
static void adopt(struct work *w)
{
	for (size_t i = 0; i < w->call_count; i++)
		if (w->calls[i].attempt == w->scribe.attempt)
			w->calls[i].attempt = w->attempt;
}

static void stop_running(struct work *w);

/* The claim was won again after it was lost: goes on where it was. */
static void go_on(struct work *w)
{
	enum work_state resume = w->resume;

	w->resume = WORK_OVER;
	log_info(&w->log, "claim won again", F_INT("attempt", w->attempt),
		 F_STR("stage", states[resume].name));
	if (resume == WORK_CALLING && w->call) {
		sm_move(&w->sm, WORK_CALLING);
		adopt(w);
		ask_say_call(w);
		scribe_adopt(&w->scribe, w->attempt);
		if (w->end_as) /* wished meanwhile */
			stop_running(w);
	} else if (resume == WORK_DEFERRING) {
		adopt(w);
		scribe_adopt(&w->scribe, w->attempt);
		retry_go_on(w);
	} else if (w->status) {
		adopt(w);
		scribe_adopt(&w->scribe, w->attempt);
		finish_write(w);
	} else {
		forget_call(w);
		scribe_begin(&w->scribe, w->attempt);
		if (w->end_as)
			stop_running(w);
		else
			load_begin(w);
	}
}

/* When the first call that was not made before @from_ms began; 0: there is none. */
static uint64_t first_call_ms(const struct work *w, uint64_t from_ms)
{
	uint64_t first = 0;

	for (size_t i = 0; i < w->call_count; i++)
		if (w->calls[i].started_ms >= from_ms && (!first || w->calls[i].started_ms < first))
			first = w->calls[i].started_ms;
	return first;
}

/* What owners before had of it: when it was picked up, the calls, and of which parts the text is that stands. */
static void take_over(struct work *w, const struct claim *claim)
{
	const struct work_call *last;

	past_calls(w, claim->calls, claim->bytes);
	last = w->call_count ? &w->calls[w->call_count - 1] : NULL;
	w->past_parts = (struct str){arena_dup(&w->arena, claim->parts.ptr, claim->parts.len),
				     claim->parts.len};
	w->past_first_ms =
	    last && last->first_token_ms ? last->first_token_ms : (uint64_t)claim->first_token_ms;
	if (PLANTED(PICKUP_FORGOTTEN))
		return;
	w->picked_up_ms = (uint64_t)claim->picked_up_ms;
	if (!w->picked_up_ms)
		w->picked_up_ms = first_call_ms(w, 0);
	/* A time in a tier is none of running, and what was before it is over. */
	w->run_from_ms = w->picked_up_ms >= (uint64_t)w->head.due_ms
			     ? w->picked_up_ms
			     : first_call_ms(w, (uint64_t)w->head.due_ms);
	if (w->end_as == FAULT_EXPIRED && !work_is_late(w))
		w->end_as = FAULT_NONE; /* its time in queue, which ended when it was picked up */
	work_time(w);
}

static void granted(struct work *w, const struct claim *claim)
{
	w->claimed = true;
	overflow_parks(w, false);
	w->waits = 0;
	w->attempt = claim->attempt;
	if (claim->tries > w->tries)
		w->tries = claim->tries;
	timer_set(&w->lease, STATE_RENEW_MS * US_PER_MS);
	past_lists(w);
	if (w->resume != WORK_OVER) {
		go_on(w);
		return;
	}
	scribe_begin(&w->scribe, w->attempt);
	take_over(w, claim);
	if (claim->cancel && !w->end_as)
		w->end_as = FAULT_CANCELLED;
	if (w->end_as)
		finish_begin(w, w->end_as == FAULT_EXPIRED ? "expired" : "cancelled", w->end_as,
			     STR(""));
	else if (claim->died &&
		 (w->tries >= w->pool->options->max_tries || claim->deaths >= DEATHS_MAX))
		finish_begin(w, "failed", FAULT_TRIES_EXHAUSTED,
			     STR("workers ended again and again while they ran this job"));
	else if (!retry_first_sight(w))
		load_begin(w);
}

static void on_claim(void *ctx, const struct claim *claim)
{
	struct work *w = ctx;
	uint64_t held_ms = (uint64_t)(claim->held_ms > 0 ? claim->held_ms : 0);

	w->request = NULL;
	if (claim->verdict == CLAIM_RUN && w->claim_epoch_ms != redis_epoch_wall_ms(w->redis)) {
		/* asked before it was known that Redis forgot */
		if (past_is_sure(w))
			work_claim(w);
		else
			past_ask(w);
		return;
	}
	if (claim->verdict != CLAIM_RUN && claim->verdict != CLAIM_UNSURE)
		forget_call(w);
	switch (claim->verdict) {
	case CLAIM_RUN:
		granted(w, claim);
		return;
	case CLAIM_FINISHING:
		w->claimed = true;
		w->finishing = true;
		w->attempt = claim->attempt;
		w->tries = claim->tries;
		timer_set(&w->lease, STATE_RENEW_MS * US_PER_MS);
		finish_again(w, claim->result);
		return;
	case CLAIM_HELD:
		sm_move(&w->sm, WORK_HELD);
		overflow_parks(w, true);
		work_park(w);
		if (held_ms > HELD_MOST_MS)
			held_ms = HELD_MOST_MS;
		work_again(w,
			   (held_ms + 1) * US_PER_MS + rand_below(loop_rand(w->pool->loop), 50000),
			   on_claim_timer);
		return;
	case CLAIM_TERMINAL:
		/* tell again: whoever ended it may have died before it could */
		finish_tell(w, claim->state, claim->attempt, NULL);
		work_over(w, true);
		return;
	case CLAIM_REFUSED:
	case CLAIM_STALE:
		log_info(&w->log, "record is void",
			 F_STR("why", claim->verdict == CLAIM_REFUSED ? "refused" : "newer copy"));
		work_over(w, true);
		return;
	case CLAIM_FORGOTTEN:
		past_ask(w);
		return;
	case CLAIM_UNSURE:
		work_again(w, work_pause_us(w, 50, 1000), on_claim_timer);
		return;
	}
}

/* The attempt above which a claim begins. What a Redis that lost its memory (or some of it) had told of an older job is not known:
 * above all of that. */
static int64_t told_attempt(const struct work *w)
{
	uint64_t made_ms = id_wall_ms(w->head.job);
	int64_t age_ms = (int64_t)(loop_wall_ms(w->pool->loop) - made_ms);

	if (made_ms >= redis_epoch_wall_ms(w->redis) || age_ms < w->attempt)
		return w->attempt;
	return age_ms;
}

const char *work_lane_name(const struct work *w)
{
	enum lane lane = w->lane->lane;

	if (!lane_record_body(w->record).len && w->head.lane.len)
		lane_find(w->head.lane, &lane);
	return lane_name(lane);
}

void work_claim(struct work *w)
{
	struct pool *pool = w->pool;
	char held[sizeof(w->fence)];
	struct claim_request request = {
	    .job = w->head.job,
	    .worker = str_of(pool->worker),
	    .incarnation = str_of(pool->incarnation),
	    .head = &w->head,
	    .lane = str_of(work_lane_name(w)),
	    .channel = key_str(&w->channel),
	    .topic = str_of(w->lane->topic),
	    .partition = lane_record_partition(w->record),
	    .offset = lane_record_offset(w->record),
	    .epoch_ms = redis_epoch_wall_ms(w->redis),
	    .held_attempt = told_attempt(w),
	    .forgotten_too = past_is_sure(w),
	    .now_wall_ms = loop_wall_ms(pool->loop),
	};

	sm_move(&w->sm, WORK_CLAIMING);
	scribe_hold(&w->scribe);
	memcpy(held, w->fence, sizeof(held));
	request.held_fence = str_of(held);
	snprintf(w->fence, sizeof(w->fence), "%016llx",
		 (unsigned long long)rand_u64(loop_rand(pool->loop)));
	request.fence = str_of(w->fence);
	w->claim_epoch_ms = request.epoch_ms;
	w->request = state_claim(w->redis, &request, on_claim, w);
}

void work_lost(struct work *w)
{
	enum work_state state = (enum work_state)sm_state(&w->sm);

	if (!w->claimed || PLANTED(CLAIM_LOST_UNSEEN))
		return;
	lease_stop(w);
	if (state == WORK_CONVERSING || state == WORK_ENDING)
		return; /* the result is durable: what is left happens without the claim */
	series_add(metric_only(w->pool->metric.lost), 1);
	log_warn(&w->log, "claim lost", F_STR("stage", states[state].name));
	stop_waiting(w);
	if (w->finishing) {
		w->resume = WORK_OVER; /* the result stands in the state, or nowhere: looks again */
		w->finishing = false;
		w->status = NULL;
	} else {
		w->resume = SM(state) & DECIDED ? WORK_WRITING : state;
	}
	if (state == WORK_SLOT || state == WORK_BACKOFF || state == WORK_BUDGET) {
		hedge_drop(w);
		spend_drop(w);
		pool_drop_slot(w->pool, w);
	}
	work_claim(w);
}

/* ── stopping ── */

static void stop_running(struct work *w)
{
	bool expired = w->end_as == FAULT_EXPIRED;

	stop_waiting(w);
	if (w->call) {
		call_stop(w->call);
		ask_note_end(w, w->end_as);
	}
	hedge_drop(w);
	spend_drop(w);
	pool_drop_slot(w->pool, w);
	finish_begin(w, expired ? "expired" : "cancelled", w->end_as, STR(""));
}

void work_stop(struct work *w, enum fault as)
{
	if (w->end_as || w->status)
		return;
	w->end_as = as;
	switch ((enum work_state)sm_state(&w->sm)) {
	case WORK_TURN:
		stop_waiting(w);
		work_claim(w);
		return;
	case WORK_CLAIMING:
	case WORK_HELD:
		return; /* the claim's answer looks at end_as */
	case WORK_LOADING:
	case WORK_SLOT:
	case WORK_BUDGET:
	case WORK_CALLING:
	case WORK_BACKOFF:
		stop_running(w);
		return;
	case WORK_WRITING:
	case WORK_DECIDING:
	case WORK_PUBLISHING:
	case WORK_CONVERSING:
	case WORK_ENDING:
	case WORK_DEFERRING: /* looks at end_as when the tier's word is here */
	case WORK_OVER:
	case WORK_STATES:
		return;
	}
}

/* The wall time by which it is to have begun, or ended; 0: none. */
static uint64_t end_ms(const struct work *w)
{
	uint64_t end = w->run_from_ms + (uint64_t)w->job.run_ms;
	uint64_t deadline = (uint64_t)w->head.deadline_ms;

	if (!w->picked_up_ms && !w->call_count && w->head.start_by_ms)
		return (uint64_t)w->head.start_by_ms;
	if (!w->run_from_ms || !w->job.run_ms || w->in_budget_line)
		return deadline;
	return end < deadline ? end : deadline;
}

bool work_is_late(const struct work *w)
{
	uint64_t end = end_ms(w);

	return end && end <= loop_wall_ms(w->pool->loop);
}

void work_time(struct work *w)
{
	uint64_t end = end_ms(w), now = loop_wall_ms(w->pool->loop);

	if (end)
		timer_set(&w->deadline, end > now ? (end - now) * US_PER_MS : 0);
}

static void on_deadline(struct timer *t)
{
	work_stop(container_of(t, struct work, deadline), FAULT_EXPIRED);
}

/* ── beginning and end ── */

static int read_head(struct work *w)
{
	codec_init(&codec_head, &w->head);
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = lane_record_header(w->record, codec_head.fields[i].name);

		if (text.ptr && codec_set_text(&codec_head.fields[i], text, &w->head))
			return err_origin(-EINVAL);
	}
	if (w->head.v != 1 || !id_is(w->head.job, "job") || !id_is(w->head.org, "org"))
		return err_origin(-EINVAL);
	if (w->head.session.len && !id_is(w->head.session, "ses"))
		return err_origin(-EINVAL);
	return 0;
}

void work_park(struct work *w)
{
	/* Not when it is claimed: else who comes now would stand behind all that are claimed ahead and wait for a slot. */
	if (w->counted_ahead) {
		w->lane->ahead--;
		fair_begun(&w->lane->fair, w->tag);
	}
	w->counted_ahead = false;
	place_leave(&w->lane->places, &w->place);
	pool_look(w->pool);
}

static void free_work(struct work *w)
{
	stop_waiting(w);
	lease_stop(w);
	timer_stop(&w->deadline);
	timer_stop(&w->say);
	hedge_drop(w);
	spend_drop(w);
	pool_drop_slot(w->pool, w);
	ask_leave(w);
	scribe_fini(&w->scribe);
	mem_free(w->calls);
	routes_unref(w->routes);
	json_object_put(w->messages);
	json_object_put(w->body);
	json_object_put(w->history);
	overflow_parks(w, false);
	if (w->counted_ending)
		w->lane->ending--;
	work_park(w);
	list_remove(&w->link);
	w->pool->work_count--;
	arena_reset(&w->arena);
	mem_free(w);
}

/* Gives its record back. What stands in the record's headers, its name above all, goes with it. */
static void give_back(struct work *w, bool done)
{
	if (!w->record)
		return;
	turn_leave(w);
	if (map_find(&w->pool->works, w->head.job) == w)
		map_take(&w->pool->works, w->head.job);
	codec_init(&codec_head, &w->head);
	if (done)
		lane_record_done(w->record);
	else
		lane_record_drop(w->record);
	w->record = NULL;
}

void work_over(struct work *w, bool done)
{
	struct pool *pool = w->pool;

	give_back(w, done);
	if (sm_state(&w->sm) != WORK_OVER)
		sm_move(&w->sm, WORK_OVER);
	if (w->publishing || w->tier_writing) {
		stop_waiting(w);
		lease_stop(w);
		return; /* the last word on its result record comes back here */
	}
	free_work(w);
	pool_work_over(pool);
}

void work_new(struct pool *pool, struct pool_lane *lane, struct head *head)
{
	static const struct scribe_ops scribe_ops = {finish_lost, finish_wish, finish_flushed,
						     ask_call_due};
	struct work *w = mem_new(struct work);
	struct lane_record *record = head->record;

	w->pool = pool;
	w->lane = lane;
	w->redis = lane->redis;
	w->writer = lane->writer;
	w->record = record;
	lane_record_begin(record);
	w->tag = head->place.node.tag;
	place_begin(&lane->places, &head->place, &w->place, w->tag);
	mem_free(head);
	w->resume = WORK_OVER;
	w->taken_us = loop_now_us(pool->loop);
	timer_init(&w->timer, pool->loop, NULL);
	timer_init(&w->lease, pool->loop, on_lease);
	timer_init(&w->deadline, pool->loop, on_deadline);
	timer_init(&w->say, pool->loop, on_say);
	timer_init(&w->call_due, pool->loop, ask_on_call_due);
	hedge_init(w);
	w->reservation = &w->reserved[0];
	list_push_back(&pool->all, &w->link);
	pool->work_count++;
	lane->ahead++;
	w->counted_ahead = true;
	scribe_init(&w->scribe, pool->loop, w->redis, &scribe_ops, w);
	w->log = log_child(pool->log, "job", w->job_id);
	sm_init(&w->sm, states, &w->log, "work", WORK_TURN);
	if (read_head(w) < 0) {
		/* A later version's is left to a later pool: it comes again where this one ends. */
		bool later = w->head.v > 1;

		log_error(pool->log, later ? "record is of a later version" : "record is not a job",
			  F_STR("topic", lane->topic),
			  F_INT("partition", lane_record_partition(record)),
			  F_INT("offset", lane_record_offset(record)));
		series_add(metric_one(pool->metric.bad, lane_name(lane->lane)), 1);
		work_over(w, !later);
		return;
	}
	memcpy(w->job_id, w->head.job.ptr, ID_LEN);
	w->channel = key_channel(w->head.session.len ? w->head.session : w->head.job);
	w->tries = w->head.tries;
	retry_recall(w);
	w->scribe.job = str_of(w->job_id);
	w->scribe.channel = key_str(&w->channel);
	w->scribe.fence = w->fence;
	w->scribe.deadline_ms = w->head.deadline_ms;
	w->scribe.roll_us = pool->options->roll_ms * US_PER_MS;
	w->scribe.pace = &pool->pace;
	w->scribe.patient = lane->lane == LANE_BACKGROUND;
	w->scribe.rewrites = metric_only(pool->metric.rewrites);
	if (!map_find(&pool->works, w->head.job))
		map_set(&pool->works, w->head.job, w);
	if (w->head.start_by_ms)
		work_time(w);
	turn_wait(w);
	if (str_is(w->head.wish, "cancel"))
		work_stop(w, FAULT_CANCELLED);
}

bool work_hand_back(struct work *w, bool running_too)
{
	enum work_state state = (enum work_state)sm_state(&w->sm);
	struct buf calls = {0};

	if (w->status || state >= WORK_WRITING || (w->call && !running_too))
		return false;
	hedge_drop(w);
	if (w->call) {
		call_stop(w->call);
		ask_note_end(w, FAULT_DRAINING);
	}
	/* How its calls ended is known only here. */
	if (w->claimed && w->call_count)
		work_calls_json(w, &calls);
	/* A claim that is asked for is given back as well: nobody would wait for its lease. */
	if (w->claimed || state == WORK_CLAIMING)
		state_release(w->redis, w->head.job, str_of(w->fence), w->claimed ? w->tries : -1,
			      w->head.copy, buf_str(&calls), NULL, NULL);
	buf_fini(&calls);
	work_over(w, false);
	return true;
}

void work_abandon(struct work *w)
{
	give_back(w, false);
	free_work(w);
}
