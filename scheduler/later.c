#include "scheduler/later.h"

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/list.h"
#include "lib/base/mem.h"
#include "lib/base/sm.h"
#include "lib/net/loop.h"
#include "scheduler/plan.h"
#include "scheduler/scheduler.h"

#define TAKE_MOST 512 /* records taken in one turn of the loop */

static const enum topic tiers[] = {TOPIC_LATER_1M, TOPIC_LATER_5M, TOPIC_LATER_1H};
#define TIERS countof(tiers)

enum hold_state { HOLD_HOLDING, HOLD_WRITING, HOLD_AGAIN, HOLD_OVER };
static const struct sm_state states[] = {
    [HOLD_HOLDING] = {"holding", SM(HOLD_WRITING) | SM(HOLD_OVER)},
    [HOLD_WRITING] = {"writing", SM(HOLD_AGAIN) | SM(HOLD_OVER)},
    [HOLD_AGAIN] = {"again", SM(HOLD_WRITING) | SM(HOLD_OVER)},
    [HOLD_OVER] = {"over", 0},
};

struct later {
	struct scheduler *s;
	struct lane_reader *reader;
	char *topics[TIERS];
	struct list holds;
	size_t counts[TIERS];
	size_t writing;
	struct task take;
	bool draining;
	void (*drained)(void *ctx);
	void *drained_ctx;
};

/* One record from when it is read until its mark. */
struct hold {
	struct list link;
	struct later *later;
	struct lane_record *record;
	size_t tier;
	enum lane lane;
	struct job_head head; /* views into the record */
	struct sm sm;
	struct timer timer;
	unsigned failures;
	bool passes_on;	 /* being written to a tier, else to its lane */
	enum topic next; /* which */
};

static void hold_free(struct hold *h, bool done)
{
	timer_stop(&h->timer);
	list_remove(&h->link);
	h->later->counts[h->tier]--;
	sm_move(&h->sm, HOLD_OVER);
	if (done)
		lane_record_done(h->record);
	else
		lane_record_drop(h->record);
	mem_free(h);
}

/* ── writing ── */

static void drain_end(struct later *l);

static void count(struct hold *h)
{
	struct scheduler *s = h->later->s;
	uint64_t now = loop_wall_ms(s->loop);

	if (h->passes_on) {
		series_add(metric_one(s->metric.passed, topic_info(h->next)->name), 1);
		return;
	}
	series_add(metric_one(s->metric.returned, lane_name(h->lane)), 1);
	series_observe_us(
	    metric_only(s->metric.late),
	    now > (uint64_t)h->head.due_ms ? (now - (uint64_t)h->head.due_ms) * US_PER_MS : 0);
}

static uint64_t pause_us(struct hold *h)
{
	const struct scheduler_options *o = h->later->s->options;
	uint64_t most = o->backoff_ms << (h->failures < 16 ? h->failures : 16);

	h->failures++;
	if (most > o->backoff_max_ms)
		most = o->backoff_max_ms;
	return most * US_PER_MS / 2 +
	       rand_below(loop_rand(h->later->s->loop), most * US_PER_MS / 2 + 1);
}

static void on_written(void *ctx, enum lane_written written, int32_t partition, int64_t offset)
{
	struct hold *h = ctx;
	struct later *l = h->later;

	(void)partition;
	(void)offset;
	l->writing--;
	if (written == LANE_WRITTEN) {
		count(h);
		hold_free(h, true);
	} else {
		log_warn(l->s->log, "record is not written", F_VIEW("job", h->head.job),
			 F_INT("written", written));
		sm_move(&h->sm, HOLD_AGAIN);
		if (!l->draining)
			timer_set(&h->timer, pause_us(h));
	}
	if (l->draining && !l->writing)
		drain_end(l);
}

static void hold_write(struct hold *h)
{
	struct later *l = h->later;
	struct str body = lane_record_body(h->record);

	h->passes_on = plan_passes_on(h->head.due_ms, loop_wall_ms(l->s->loop), &h->next);
	sm_move(&h->sm, HOLD_WRITING);
	l->writing++;
	if (h->passes_on)
		scheduler_to_tier(l->s, h->next, &h->head, body, on_written, h);
	else
		scheduler_to_lane(l->s, h->lane, &h->head, body, on_written, h);
}

static void on_timer(struct timer *t)
{
	struct hold *h = container_of(t, struct hold, timer);

	hold_write(h);
}

/* ── reading ── */

static bool read_head(struct hold *h)
{
	codec_init(&codec_head, &h->head);
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = lane_record_header(h->record, codec_head.fields[i].name);

		if (text.ptr && codec_set_text(&codec_head.fields[i], text, &h->head))
			return false;
	}
	return h->head.v == 1 && id_is(h->head.job, "job") &&
	       lane_find(h->head.lane, &h->lane) == LANE_FOUND;
}

static void hold_new(struct later *l, size_t tier, struct lane_record *record)
{
	struct hold *h = mem_new(struct hold);
	uint64_t now = loop_wall_ms(l->s->loop), leave;

	h->later = l;
	h->record = record;
	h->tier = tier;
	list_push_back(&l->holds, &h->link);
	l->counts[tier]++;
	sm_init(&h->sm, states, l->s->log, "hold", HOLD_HOLDING);
	timer_init(&h->timer, l->s->loop, on_timer);
	if (!read_head(h)) {
		series_add(metric_only(l->s->metric.bad), 1);
		log_error(l->s->log, "record is not a job that is due later",
			  F_STR("topic", l->topics[tier]),
			  F_INT("partition", lane_record_partition(record)),
			  F_INT("offset", lane_record_offset(record)));
		hold_free(h, true);
		return;
	}
	leave = plan_leave_ms(tiers[tier], h->head.due_ms, lane_record_wall_ms(record));
	timer_set(&h->timer, leave > now ? (leave - now) * US_PER_MS : 0);
}

static void on_take(struct task *t)
{
	struct later *l = container_of(t, struct later, take);
	struct lane_record *record;

	for (size_t tier = 0; tier < TIERS && !l->draining; tier++) {
		for (size_t n = 0; (record = lane_take(l->reader, tier)); n++) {
			hold_new(l, tier, record);
			if (n == TAKE_MOST) {
				task_post(&l->take);
				break;
			}
		}
	}
}

static void on_ready(void *ctx, size_t lane)
{
	struct later *l = ctx;

	(void)lane;
	task_post(&l->take);
}

/* Its next reader has them: what is not being written is let go of. */
static void on_revoked(void *ctx, size_t tier, int32_t partition)
{
	struct later *l = ctx;

	list_each (&l->holds, at) {
		struct hold *h = container_of(at, struct hold, link);

		if (h->tier == tier && lane_record_partition(h->record) == partition &&
		    sm_state(&h->sm) != HOLD_WRITING)
			hold_free(h, false);
	}
}

static void on_trouble(void *ctx, const char *what)
{
	struct later *l = ctx;

	log_error(l->s->log, "tier needs an operator", F_STR("what", what));
}

static void on_fatal(void *ctx, const char *what)
{
	struct later *l = ctx;

	log_error(l->s->log, "the tiers' reader is dead: another process may have this one's id",
		  F_STR("what", what));
	l->s->failed(l->s->failed_ctx);
}

bool later_ready(const struct later *l)
{
	return lane_reader_ready(l->reader);
}

void later_measure(struct later *l)
{
	for (size_t i = 0; l->reader && i < TIERS; i++) {
		struct lane_depth d = lane_reader_depth(l->reader, i);
		const char *name = topic_info(tiers[i])->name;
		int64_t depth = d.end - d.base - d.completed;

		series_set(metric_one(l->s->metric.waiting, name), (double)l->counts[i]);
		series_set(metric_one(l->s->metric.depth, name), depth > 0 ? (double)depth : 0);
	}
}

/* ── life ── */

int later_open(struct scheduler *s, struct later **ret_later)
{
	static const struct lane_reader_ops ops = {on_ready, on_revoked, on_trouble, on_fatal};
	struct later *l = mem_new(struct later);
	cleanup_free char *group = mem_printf("%sscheduler", s->config->kafka.topic_prefix);
	const char *topics[TIERS];
	struct lane_reader_options reader = {
	    .kafka = s->kafka,
	    .group = group,
	    .instance = s->options->instance[0] ? s->options->instance : s->id,
	    .topics = topics,
	    .topic_count = TIERS,
	    .commit_us = 200 * US_PER_MS,
	    .window_records = (size_t)s->options->window_records,
	    .window_bytes = s->options->window_bytes,
	    .session_us = 10 * US_PER_S,
	};

	*ret_later = l;
	l->s = s;
	list_init(&l->holds);
	task_init(&l->take, s->loop, on_take);
	for (size_t i = 0; i < TIERS; i++)
		topics[i] = l->topics[i] = topic_full(s->config->kafka.topic_prefix, tiers[i]);
	return err_trace(lane_reader_open(s->loop, &reader, &ops, l, s->log, &l->reader));
}

static void on_closed(void *ctx)
{
	struct later *l = ctx;

	l->reader = NULL;
	l->drained(l->drained_ctx);
}

static void drop_held(struct later *l)
{
	list_each (&l->holds, at) {
		struct hold *h = container_of(at, struct hold, link);

		if (sm_state(&h->sm) != HOLD_WRITING)
			hold_free(h, false);
	}
}

static void drain_end(struct later *l)
{
	drop_held(l);
	if (l->reader)
		lane_reader_close(l->reader, false, on_closed, l);
}

void later_drain(struct later *l, void (*drained)(void *ctx), void *ctx)
{
	l->draining = true;
	l->drained = drained;
	l->drained_ctx = ctx;
	drop_held(l);
	if (!l->writing)
		drain_end(l);
}

void later_close(struct later *l)
{
	if (!l)
		return;
	task_cancel(&l->take);
	list_each (&l->holds, at)
		hold_free(container_of(at, struct hold, link), false);
	for (size_t i = 0; i < TIERS; i++)
		mem_free(l->topics[i]);
	mem_free(l);
}
