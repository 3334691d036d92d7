#include "scheduler/sweep.h"

#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "scheduler/lease.h"
#include "scheduler/scheduler.h"
#include "schemas/keys.h"

/* Its own pool ends an overdue job; after this somebody else has to. */
#define GRACE_MS (2 * STATE_LEASE_MS)
/* One nudge is enough for long; where it was lost, the next comes after this. */
#define AGAIN_MS "60000"

struct sweep {
	struct scheduler *s;
	const struct lease *lease;
	struct timer timer;
	struct list looks;
	size_t asked; /* answers to come in this sweep */
};

/* One organisation, or one job of it, being looked at. */
struct look {
	struct list link;
	struct sweep *sweep;
	char org[ID_SIZE];
	char job[ID_SIZE];
	struct job_head head;
	enum lane lane;
	struct arena arena;
	const char *why;
};

static struct look *look_new(struct sweep *sw, struct str org, struct str job)
{
	struct look *k = mem_new(struct look);

	k->sweep = sw;
	snprintf(k->org, sizeof(k->org), "%.*s", STR_FMT(org));
	snprintf(k->job, sizeof(k->job), "%.*s", STR_FMT(job));
	list_push_back(&sw->looks, &k->link);
	sw->asked++;
	return k;
}

static void look_over(struct look *k)
{
	struct sweep *sw = k->sweep;

	list_remove(&k->link);
	arena_reset(&k->arena);
	mem_free(k);
	if (!--sw->asked)
		timer_set(&sw->timer, sw->s->options->sweep_ms * US_PER_MS);
}

/* ── the nudge ── */

static void on_nudged(void *ctx, enum lane_written written, int32_t partition, int64_t offset)
{
	struct look *k = ctx;

	(void)partition;
	(void)offset;
	if (written == LANE_WRITTEN) {
		series_add(metric_one(k->sweep->s->metric.nudged, k->why), 1);
		log_info(k->sweep->s->log, "nudged", F_STR("job", k->job), F_STR("why", k->why));
	}
	look_over(k);
}

static void on_first(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;

	if (result == REDIS_OK && value->type == REDIS_STATUS)
		scheduler_to_lane(k->sweep->s, k->lane, &k->head, STR(""), on_nudged, k);
	else
		look_over(k); /* somebody did, or Redis is away */
}

static void nudge(struct look *k, const char *why)
{
	struct key key = key_nudge(str_of(k->job));
	const struct str args[] = {STR("SET"), key_str(&key), STR("1"),
				   STR("NX"),  STR("PX"),     STR(AGAIN_MS)};

	k->why = why;
	redis_command(k->sweep->s->redis, str_of(k->job), args, countof(args), on_first, k);
}

/* ── what stands ── */

enum {
	F_STATE,
	F_KIND,
	F_LANE,
	F_SESSION,
	F_TURN,
	F_CREATED,
	F_DEADLINE,
	F_COPY,
	F_WISH,
	F_LEASE,
	F_METADATA,
	F_WEBHOOK,
	F_OUTBOX,
};

static struct str kept(struct look *k, const struct redis_value *value, size_t field)
{
	struct str text = redis_item_str(value, field);

	return (struct str){arena_dup(&k->arena, text.ptr ? text.ptr : "", text.len), text.len};
}

static void read_head(struct look *k, const struct redis_value *value)
{
	codec_init(&codec_head, &k->head);
	k->head.v = 1;
	k->head.job = str_of(k->job);
	k->head.org = str_of(k->org);
	k->head.kind = kept(k, value, F_KIND);
	k->head.session = kept(k, value, F_SESSION);
	k->head.turn = redis_item_int(value, F_TURN, 0);
	k->head.created_ms = redis_item_int(value, F_CREATED, 0);
	k->head.deadline_ms = redis_item_int(value, F_DEADLINE, 0);
	k->head.copy = redis_item_int(value, F_COPY, 0);
	k->head.metadata = kept(k, value, F_METADATA);
	k->head.webhook = kept(k, value, F_WEBHOOK);
	k->head.outbox = kept(k, value, F_OUTBOX);
}

/* It ended, and its pool died before it could say so here. */
static void forget(struct look *k)
{
	struct key key = key_open(str_of(k->org));
	const struct str args[] = {STR("ZREM"), key_str(&key), str_of(k->job)};

	redis_command(k->sweep->s->redis, str_of(k->org), args, countof(args), NULL, NULL);
	look_over(k);
}

static void on_state(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;
	int64_t now = (int64_t)loop_wall_ms(k->sweep->s->loop);
	struct str state = STR("");

	if (result == REDIS_OK && value->type == REDIS_LIST)
		state = redis_item_str(value, F_STATE);
	if (state_terminal(state)) {
		forget(k);
		return;
	}
	if (!state.len || str_is(state, "refused") ||
	    lane_find(redis_item_str(value, F_LANE), &k->lane) != LANE_FOUND ||
	    redis_item_int(value, F_LEASE, 0) > now) {
		look_over(k);
		return;
	}
	read_head(k, value);
	if (k->head.deadline_ms && k->head.deadline_ms + GRACE_MS < now) {
		k->head.start_by_ms = 1;
		nudge(k, "overdue");
	} else if (str_is(redis_item_str(value, F_WISH), "cancel")) {
		nudge(k, "cancelled");
	} else {
		look_over(k);
	}
}

static void look_at(struct sweep *sw, struct str org, struct str job)
{
	struct look *k = look_new(sw, org, job);
	struct key key = key_job(job);
	const struct str args[] = {
	    STR("HMGET"),   key_str(&key), STR("state"),      STR("kind"),	  STR("lane"),
	    STR("session"), STR("turn"),   STR("created_ms"), STR("deadline_ms"), STR("copy"),
	    STR("wish"),    STR("lease"),  STR("metadata"),   STR("webhook"),	  STR("outbox")};

	redis_command(sw->s->redis, job, args, countof(args), on_state, k);
}

static void on_open(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;

	for (size_t i = 0; result == REDIS_OK && value->type == REDIS_LIST && i < value->count; i++)
		if (id_is(redis_item_str(value, i), "job"))
			look_at(k->sweep, str_of(k->org), redis_item_str(value, i));
	look_over(k);
}

static void look_into(struct sweep *sw, struct str org)
{
	struct look *k = look_new(sw, org, STR(""));
	struct key key = key_open(org);
	char last[24];
	const struct str args[] = {
	    STR("ZRANGE"),
	    key_str(&key),
	    STR("0"),
	    {last, (size_t)snprintf(last, sizeof(last), "%lld",
				    (long long)sw->s->options->sweep_jobs - 1)}};

	redis_command(sw->s->redis, org, args, countof(args), on_open, k);
}

static void on_orgs(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct sweep *sw = ctx;

	for (size_t i = 0; result == PG_OK && i < pg_count(rows); i++)
		if (id_is(pg_text(rows, i, 0), "org"))
			look_into(sw, pg_text(rows, i, 0));
	if (!--sw->asked)
		timer_set(&sw->timer, sw->s->options->sweep_ms * US_PER_MS);
}

static void on_timer(struct timer *t)
{
	struct sweep *sw = container_of(t, struct sweep, timer);

	if (!lease_held(sw->lease)) {
		timer_set(&sw->timer, sw->s->options->sweep_ms * US_PER_MS);
		return;
	}
	sw->asked++;
	pg_query(sw->s->pg, "SELECT id FROM orgs", NULL, 0, on_orgs, sw);
}

/* ── life ── */

int sweep_open(struct scheduler *s, const struct lease *lease, struct sweep **ret_sweep)
{
	struct sweep *sw = mem_new(struct sweep);

	*ret_sweep = sw;
	sw->s = s;
	sw->lease = lease;
	list_init(&sw->looks);
	timer_init(&sw->timer, s->loop, on_timer);
	timer_set(&sw->timer, s->options->sweep_ms * US_PER_MS);
	return 0;
}

void sweep_close(struct sweep *sw)
{
	struct look *k;

	if (!sw)
		return;
	timer_stop(&sw->timer);
	while ((k = list_first(&sw->looks, struct look, link))) {
		list_remove(&k->link);
		arena_reset(&k->arena);
		mem_free(k);
	}
	mem_free(sw);
}
