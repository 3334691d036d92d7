#include "scheduler/sweep.h"

#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/map.h"
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
/* The last wish of one round, from 0 on: so many records and one may come before interactive jobs. */
#define WISHES_LAST "63"
/* One nudge is enough for long; where it was lost, or no pool takes its lane, the next comes after so many looks. */
#define AGAIN_LOOKS 6
#define LOOKS_MS "3600000"

/* What is asked again and again, each time when all answers of the time before are there. */
struct round {
	struct timer timer;
	struct sweep *sweep;
	uint64_t every_us;
	size_t asked; /* answers to come */
};

struct sweep {
	struct scheduler *s;
	const struct lease *lease;
	struct round all;    /* open jobs of all organisations */
	struct round wishes; /* those that somebody wants cancelled */
	struct list looks;
	struct map
	    from; /* organisation -> how many of its open jobs were looked at before, as a pointer's bits */
};

/* One organisation, or one job, being looked at. */
struct look {
	struct list link;
	struct sweep *sweep;
	struct round *round;
	char org[ID_SIZE];
	char job[ID_SIZE];
	struct job_head head;
	enum lane lane;
	struct arena arena;
	const char *why;
};

static void answered(struct round *round)
{
	if (!--round->asked)
		timer_set(&round->timer, round->every_us);
}

static struct look *look_new(struct sweep *sw, struct round *round, struct str org, struct str job)
{
	struct look *k = mem_new(struct look);

	k->sweep = sw;
	k->round = round;
	snprintf(k->org, sizeof(k->org), "%.*s", STR_FMT(org));
	snprintf(k->job, sizeof(k->job), "%.*s", STR_FMT(job));
	list_push_back(&sw->looks, &k->link);
	round->asked++;
	return k;
}

static void look_over(struct look *k)
{
	struct round *round = k->round;

	list_remove(&k->link);
	arena_reset(&k->arena);
	mem_free(k);
	answered(round);
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

/* How often it was looked at. To the interactive lane first, then by turns to the job's own: there may be no pool for one of them. */
static void on_looks(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;
	int64_t before = result == REDIS_OK && value->type == REDIS_INT ? value->integer - 1 : -1;

	if (before >= 0 && before % AGAIN_LOOKS == 0)
		scheduler_to_lane(k->sweep->s,
				  before / AGAIN_LOOKS % 2 ? k->lane : LANE_INTERACTIVE, &k->head,
				  STR(""), on_nudged, k);
	else
		look_over(k); /* somebody did, or Redis is away */
}

static void nudge(struct look *k, const char *why)
{
	struct key key = key_nudge(str_of(k->job));
	struct redis *redis = k->sweep->s->redis;
	const struct str begin[] = {STR("SET"), key_str(&key), STR(""),
				    STR("NX"),	STR("PX"),     STR(LOOKS_MS)};
	const struct str look[] = {STR("APPEND"), key_str(&key), STR("1")};

	k->why = why;
	redis_command(redis, str_of(k->job), begin, countof(begin), NULL, NULL);
	redis_command(redis, str_of(k->job), look, countof(look), on_looks, k);
}

/* ── what stands ── */

enum {
	F_STATE,
	F_ORG,
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
	k->head.org = kept(k, value, F_ORG);
	k->head.lane = str_of(lane_name(k->lane));
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

/* What stands in an organisation's set, and has ended. */
static void over_already(struct look *k)
{
	if (k->org[0])
		forget(k);
	else
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
		over_already(k);
		return;
	}
	if (!state.len || str_is(state, "refused") ||
	    lane_find(redis_item_str(value, F_LANE), &k->lane) != LANE_FOUND ||
	    redis_item_int(value, F_LEASE, 0) > now) {
		look_over(k);
		return;
	}
	read_head(k, value);
	if (str_is(redis_item_str(value, F_WISH), "cancel")) {
		k->head.wish = STR("cancel");
		nudge(k, "cancelled");
	} else if (k->head.deadline_ms && k->head.deadline_ms + GRACE_MS < now) {
		k->head.start_by_ms = 1;
		nudge(k, "overdue");
	} else {
		look_over(k);
	}
}

static void look_at(struct sweep *sw, struct round *round, struct str org, struct str job)
{
	struct look *k = look_new(sw, round, org, job);
	struct key key = key_job(job);
	const struct str args[] = {
	    STR("HMGET"),      key_str(&key),	   STR("state"),   STR("org"),
	    STR("kind"),       STR("lane"),	   STR("session"), STR("turn"),
	    STR("created_ms"), STR("deadline_ms"), STR("copy"),	   STR("wish"),
	    STR("lease"),      STR("metadata"),	   STR("webhook"), STR("outbox")};

	redis_command(sw->s->redis, job, args, countof(args), on_state, k);
}

/* ── open jobs, organisation by organisation ── */

static void on_open(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;
	struct sweep *sw = k->sweep;
	size_t count = result == REDIS_OK && value->type == REDIS_LIST ? value->count : 0;
	uintptr_t from = (uintptr_t)map_find(&sw->from, str_of(k->org));

	for (size_t i = 0; i < count; i++)
		if (id_is(redis_item_str(value, i), "job"))
			look_at(sw, k->round, str_of(k->org), redis_item_str(value, i));
	/* Behind these the next time; from the oldest again where that was the end. */
	from = count < (size_t)sw->s->options->sweep_jobs ? 0 : from + count;
	if (from)
		map_set(&sw->from, str_of(k->org), (void *)from); // NOLINT: bits
	else
		map_take(&sw->from, str_of(k->org));
	look_over(k);
}

static void look_into(struct sweep *sw, struct str org)
{
	struct look *k = look_new(sw, &sw->all, org, STR(""));
	struct key key = key_open(org);
	uintptr_t from = (uintptr_t)map_find(&sw->from, str_of(k->org));
	char first[24], last[24];
	const struct str args[] = {
	    STR("ZRANGE"), key_str(&key),
	    (struct str){first, (size_t)snprintf(first, sizeof(first), "%zu", (size_t)from)},
	    (struct str){last, (size_t)snprintf(last, sizeof(last), "%zu",
						(size_t)from + sw->s->options->sweep_jobs - 1)}};

	redis_command(sw->s->redis, org, args, countof(args), on_open, k);
}

static void on_orgs(void *ctx, enum pg_result result, const struct pg_rows *rows)
{
	struct sweep *sw = ctx;

	for (size_t i = 0; result == PG_OK && i < pg_count(rows); i++)
		if (id_is(pg_text(rows, i, 0), "org"))
			look_into(sw, pg_text(rows, i, 0));
	answered(&sw->all);
}

static void on_all(struct timer *t)
{
	struct round *round = container_of(t, struct round, timer);
	struct sweep *sw = round->sweep;

	round->asked++;
	if (lease_held(sw->lease))
		pg_query(sw->s->pg, "SELECT id FROM orgs", NULL, 0, on_orgs, sw);
	else
		answered(round);
}

/* ── what somebody wants cancelled ── */

static void on_wishes(void *ctx, enum redis_result result, const struct redis_value *value)
{
	struct look *k = ctx;
	struct key key = key_wished();

	for (size_t i = 0; result == REDIS_OK && value->type == REDIS_LIST && i < value->count;
	     i++) {
		struct str job = redis_item_str(value, i);

		redis_command(k->sweep->s->redis, STR(""),
			      (struct str[]){STR("ZREM"), key_str(&key), job}, 3, NULL, NULL);
		/* What a worker holds is told by whoever wished. One that is lost here is found among the open jobs. */
		if (id_is(job, "job"))
			look_at(k->sweep, k->round, STR(""), job);
	}
	look_over(k);
}

static void on_wishes_due(struct timer *t)
{
	struct round *round = container_of(t, struct round, timer);
	struct sweep *sw = round->sweep;
	struct key key = key_wished();
	const struct str args[] = {STR("ZRANGE"), key_str(&key), STR("0"), STR(WISHES_LAST)};

	round->asked++;
	if (lease_held(sw->lease))
		redis_command(sw->s->redis, STR(""), args, countof(args), on_wishes,
			      look_new(sw, round, STR(""), STR("")));
	answered(round);
}

/* ── life ── */

static void round_init(struct round *round, struct sweep *sw, void (*due)(struct timer *t),
		       uint64_t every_ms)
{
	round->sweep = sw;
	round->every_us = every_ms * US_PER_MS;
	timer_init(&round->timer, sw->s->loop, due);
	timer_set(&round->timer, round->every_us);
}

int sweep_open(struct scheduler *s, const struct lease *lease, struct sweep **ret_sweep)
{
	struct sweep *sw = mem_new(struct sweep);

	*ret_sweep = sw;
	sw->s = s;
	sw->lease = lease;
	list_init(&sw->looks);
	round_init(&sw->all, sw, on_all, s->options->sweep_ms);
	round_init(&sw->wishes, sw, on_wishes_due, s->options->wishes_ms);
	return 0;
}

void sweep_close(struct sweep *sw)
{
	struct look *k;

	if (!sw)
		return;
	timer_stop(&sw->all.timer);
	timer_stop(&sw->wishes.timer);
	while ((k = list_first(&sw->looks, struct look, link))) {
		list_remove(&k->link);
		arena_reset(&k->arena);
		mem_free(k);
	}
	map_fini(&sw->from);
	mem_free(sw);
}
