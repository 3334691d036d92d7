#include "consumers/pool/pool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "consumers/pool/budget.h"
#include "consumers/pool/retry.h"
#include "consumers/pool/route.h"
#include "consumers/pool/work.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/store/blob.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "lib/svc/stores.h"
#include "schemas/keys.h"

#define TICK_US US_PER_S
/* What the background lane has under way at a time, so that others never wait long behind it: records taken and works begun per turn of
 * the loop, requests at Redis, results gathered for Kafka. The other lanes' bounds are wider. */
#define TAKE_MOST 256
#define BULK_TAKE_MOST 16
#define BULK_SENT 24
#define BULK_LINGER_US (5 * US_PER_MS)
/* Works of a lane behind their calls, that wait for stores: no more slots for it beyond these. */
#define ENDING_MOST 512

/* ── slots ── */

/* Slots that only the interactive lane may have: none where it is not here. */
static size_t reserved_slots(const struct pool *pool, const struct pool_options *options)
{
	for (size_t i = 0; i < pool->lane_count; i++)
		if (pool->lanes[i].lane == LANE_INTERACTIVE)
			return (size_t)options->reserved;
	return 0;
}

static int check_slots(const struct pool *pool, const struct pool_options *options)
{
	if (reserved_slots(pool, options) < (size_t)options->slots)
		return 0;
	log_error(pool->log, "pool.reserved must be less than pool.slots");
	return err_origin(-EINVAL);
}

/* The lane whose waiting work gets the next slot: smooth weighted round robin over the lanes that may have one. */
static struct pool_lane *slot_next(struct pool *pool)
{
	struct pool_lane *best = NULL;
	int64_t total = 0;
	size_t others = 0,
	       shared = (size_t)pool->options->slots - reserved_slots(pool, pool->options);

	for (size_t i = 0; i < pool->lane_count; i++)
		if (pool->lanes[i].lane != LANE_INTERACTIVE)
			others += pool->lanes[i].slots;
	for (size_t i = 0; i < pool->lane_count; i++) {
		struct pool_lane *l = &pool->lanes[i];

		if (!l->waiting.count || l->ending >= ENDING_MOST ||
		    (l->lane != LANE_INTERACTIVE && others >= shared))
			continue;
		l->credit += l->weight;
		total += l->weight;
		if (!best || l->credit > best->credit)
			best = l;
	}
	if (best)
		best->credit -= total;
	return best;
}

static void grant(struct pool *pool)
{
	while (pool->slots < (size_t)pool->options->slots) {
		struct pool_lane *lane = slot_next(pool);
		struct work *w;

		if (!lane)
			return;
		w = container_of(heap_top(&lane->waiting), struct work, slot_node);
		heap_remove(&lane->waiting, &w->slot_node);
		w->slot_wanted = false;
		w->slot_held = true;
		work_waits(w, NULL);
		place_started(&lane->places);
		lane->slots++;
		pool->slots++;
		work_park(w);
		work_run(w);
	}
}

void pool_want_slot(struct pool *pool, struct work *w)
{
	sm_move(&w->sm, WORK_SLOT);
	room_leave(w);
	if (w->slot_held || w->slot_wanted)
		return;
	w->slot_wanted = true;
	place_enter(&w->lane->places, &w->place, w->tag, loop_now_us(pool->loop));
	work_waits(w, "slots");
	heap_add(&w->lane->waiting, &w->slot_node, w->tag);
	task_post(&pool->take);
}

void pool_drop_slot(struct pool *pool, struct work *w)
{
	room_leave(w);
	if (w->slot_wanted) {
		heap_remove(&w->lane->waiting, &w->slot_node);
		w->slot_wanted = false;
		place_leave(&w->lane->places, &w->place);
	}
	if (w->slot_held) {
		w->slot_held = false;
		w->lane->slots--;
		pool->slots--;
		task_post(&pool->take);
	}
}

/* ── taking ── */

static size_t take_most(const struct pool_lane *lane)
{
	return lane->lane == LANE_BACKGROUND ? BULK_TAKE_MOST : TAKE_MOST;
}

/* Reads ahead what the lane has: the reader's window bounds it. */
static void take_heads(struct pool *pool, size_t number)
{
	struct pool_lane *lane = &pool->lanes[number];
	struct lane_record *record;

	for (size_t taken = 0; taken < take_most(lane); taken++) {
		uint64_t estimate = 0;
		struct str org;

		record = lane_take(pool->reader, number);
		if (!record)
			return;
		lane_record_hold(record);
		series_add(metric_one(pool->metric.taken, lane_name(lane->lane)), 1);
		if (!str_u64(lane_record_header(record, "estimate"), &estimate))
			estimate = 1;
		org = lane_record_header(record, "org");
		place_head(
		    &lane->places, record,
		    fair_tag(&lane->fair, org, estimate, config_org_weight(pool->config, org)),
		    loop_now_us(pool->loop));
	}
	task_post(&pool->take);
}

static void begin_works(struct pool *pool, struct pool_lane *lane)
{
	for (size_t begun = 0; lane->ahead < (size_t)pool->options->ahead; begun++) {
		struct head *head = place_next(&lane->places);

		if (!head)
			return;
		if (begun == take_most(lane)) {
			task_post(&pool->take);
			return;
		}
		if (!lane_record_room(head->record)) {
			place_aside(&lane->places, head);
			continue;
		}
		work_new(pool, lane, head);
	}
}

/* Heads whose partition had no room for what they would complete stand in the line again. */
static void heads_back(struct pool *pool)
{
	for (size_t i = 0; i < pool->lane_count; i++) {
		struct places *places = &pool->lanes[i].places;

		list_each (&places->aside, at) {
			struct head *head = container_of(at, struct head, place.link);

			if (lane_record_room(head->record)) {
				place_back(places, head);
				task_post(&pool->take);
			}
		}
	}
}

static void drop_heads(struct pool_lane *lane)
{
	struct head *head;

	while ((head = place_aside_first(&lane->places)))
		place_back(&lane->places, head);

	while ((head = place_next(&lane->places))) {
		place_leave(&lane->places, &head->place);
		lane_record_drop(head->record);
		mem_free(head);
	}
}

static void take(struct pool *pool)
{
	if (pool->draining)
		return;
	for (size_t i = 0; i < pool->lane_count; i++) {
		take_heads(pool, i);
		begin_works(pool, &pool->lanes[i]);
	}
}

static void on_take(struct task *t)
{
	struct pool *pool = container_of(t, struct pool, take);

	take(pool);
	grant(pool);
}

void pool_look(struct pool *pool)
{
	task_post(&pool->take);
}

static void on_ready(void *ctx, size_t lane)
{
	(void)lane;
	pool_look(ctx);
}

static void on_revoked(void *ctx, size_t lane, int32_t partition)
{
	struct pool *pool = ctx;

	log_info(pool->log, "partition revoked", F_STR("lane", lane_name(pool->lanes[lane].lane)),
		 F_INT("partition", partition));
}

static void on_trouble(void *ctx, const char *what)
{
	struct pool *pool = ctx;

	log_error(pool->log, "lane needs an operator", F_STR("what", what));
}

static void on_fatal(void *ctx, const char *what)
{
	struct pool *pool = ctx;

	log_error(pool->log, "the lane reader is dead: another process may have this one's id",
		  F_STR("worker", pool->worker), F_STR("what", what));
	if (pool->failed)
		pool->failed(pool->failed_ctx);
}

/* ── wishes, and Redis's memory ── */

static void on_control_standing(void *ctx)
{
	(void)ctx;
}

/* "1 cancel job_…": somebody set the wish for a job that is held here. "1 budget …": a quota's line moved. */
static void on_control(void *ctx, struct str payload)
{
	struct pool *pool = ctx;
	struct str version, op, job;
	struct work *w;

	if (!str_split(&payload, ' ', &version) || !str_is(version, "1") ||
	    !str_split(&payload, ' ', &op))
		return;
	if (str_is(op, "budget"))
		budgets_heard(pool->budgets, payload);
	if (!str_is(op, "cancel") || !str_split(&payload, ' ', &job))
		return;
	w = map_find(&pool->works, job);
	if (w)
		work_stop(w, FAULT_CANCELLED);
}

/* Each connection pool learns of it for itself, in the order of its own replies. */
static void epoch_begins(struct pool *pool, const struct redis *redis)
{
	log_warn(pool->log, "redis begins a new epoch: claims are made again",
		 F_UINT("works", pool->work_count));
	list_each (&pool->all, at) {
		struct work *w = container_of(at, struct work, link);

		if (w->redis == redis)
			work_lost(w);
	}
}

static void on_epoch(void *ctx, bool first, uint64_t epoch_wall_ms)
{
	struct pool *pool = ctx;

	if (!first)
		epoch_begins(pool, pool->redis);
	budgets_epoch(pool->budgets, epoch_wall_ms);
}

static void on_bulk_epoch(void *ctx, bool first, uint64_t epoch_wall_ms)
{
	struct pool *pool = ctx;

	(void)epoch_wall_ms;
	if (!first)
		epoch_begins(pool, pool->bulk_redis);
}

/* ── ticks ── */

/* What began to wait before there was too much of it, or when no token was left. Who goes on before the next look stays. */
static void overflow_waiting(struct pool *pool)
{
	if (pool->draining)
		return;
	list_each (&pool->all, at)
		(void)retry_overflow_waiting(container_of(at, struct work, link), TICK_US);
}

static void on_tick(struct timer *t)
{
	struct pool *pool = container_of(t, struct pool, tick);

	timer_set(&pool->tick, TICK_US);
	measure_pool(pool);
	heads_back(pool);
	overflow_waiting(pool);
}

static void on_line(struct timer *t)
{
	struct pool *pool = container_of(t, struct pool, line);

	timer_set(&pool->line, PLACE_TICK_US);
	tell_places(pool);
}

/* ── opening ── */

/* The configuration's accounts, with what is measured about their connections. */
static int open_routes(struct pool *pool, const struct config *config, struct routes **ret_routes)
{
	struct account *a;
	int r = routes_open(pool->loop, config, pool->breakers, pool->log, ret_routes);

	if (r < 0)
		return err_trace(r);
	for (size_t i = 0; (a = routes_account(*ret_routes, i)); i++)
		if (a->client) {
			client_observe(a->client, metric_one(pool->metric.set_up, a->config->name));
			client_when_room(a->client, room_look, &pool->room);
		}
	return 0;
}

static int open_stores(struct pool *pool)
{
	static const struct redis_ops redis_ops = {.epoch = on_epoch};
	static const struct redis_ops bulk_ops = {.epoch = on_bulk_epoch};
	static const struct redis_sub_ops control_ops = {on_control_standing, on_control, NULL};
	struct redis_options redis = stores_redis(pool->config);
	struct pg_options pg = stores_pg(pool->config);
	struct key control;
	int r;

	r = redis_open(pool->loop, &redis, &redis_ops, pool, pool->log, &pool->redis);
	if (r < 0)
		return err_trace(r);
	redis.connections = 1;
	redis.max_sent = BULK_SENT;
	r = redis_open(pool->loop, &redis, &bulk_ops, pool, pool->log, &pool->bulk_redis);
	if (r < 0)
		return err_trace(r);
	control = key_control(str_of(pool->worker));
	pool->control = redis_subscribe(pool->redis, key_str(&control), &control_ops, pool);
	r = pg_open(pool->loop, &pg, pool->log, &pool->pg);
	if (r < 0)
		return err_trace(r);
	gather_init(&pool->past, pool->loop, pool->pg, &past_kind, NULL);
	return err_trace(blob_open(pool->loop, pool->config->blob.dir, pool->log, &pool->blob));
}

static int64_t weight_of(const struct pool_options *o, enum lane lane)
{
	switch (lane) {
	case LANE_INTERACTIVE:
		return o->weight_interactive;
	case LANE_HIGH:
		return o->weight_high;
	case LANE_BACKGROUND:
	case LANE_COUNT:
		break;
	}
	return o->weight_background;
}

static int read_lanes(struct pool *pool)
{
	struct str rest = str_of(pool->options->lanes), name;

	while (str_split(&rest, ',', &name)) {
		struct pool_lane *l = &pool->lanes[pool->lane_count];

		if (pool->lane_count == LANE_COUNT || lane_find(str_trim(name), &l->lane)) {
			log_error(pool->log, "pool.lanes names no lane", F_VIEW("lane", name));
			return err_origin(-EINVAL);
		}
		for (size_t i = 0; i < pool->lane_count; i++)
			if (pool->lanes[i].lane == l->lane) {
				log_error(pool->log, "pool.lanes names a lane twice",
					  F_VIEW("lane", name));
				return err_origin(-EINVAL);
			}
		l->topic = topic_full(pool->config->kafka.topic_prefix, lane_topic_llm(l->lane));
		l->weight = weight_of(pool->options, l->lane);
		fair_init(&l->fair, rand_u64(loop_rand(pool->loop)));
		places_init(&l->places);
		pool->lane_count++;
	}
	return 0;
}

static int open_lanes(struct pool *pool)
{
	static const struct lane_reader_ops ops = {on_ready, on_revoked, on_trouble, on_fatal};
	const struct config_kafka *k = &pool->config->kafka;
	const char *topics[LANE_COUNT];
	cleanup_free char *group = mem_printf("%spool-%s", k->topic_prefix, pool->options->pool);
	struct lane_options kafka = stores_kafka(pool->config, pool->worker);
	struct lane_writer_options writer = {.timeout_us = 10 * US_PER_S, .max_pending = 100000};
	struct lane_reader_options reader = {
	    .group = group,
	    .instance = pool->worker,
	    .topics = topics,
	    .topic_count = pool->lane_count,
	    .commit_us = 200 * US_PER_MS,
	    .window_records = (size_t)pool->options->window_records,
	    .window_bytes = pool->options->window_bytes,
	    .session_us = 10 * US_PER_S,
	};
	int r;

	for (size_t i = 0; i < pool->lane_count; i++)
		topics[i] = pool->lanes[i].topic;
	pool->results_topic = topic_full(k->topic_prefix, TOPIC_RESULTS);
	writer.kafka = reader.kafka = kafka;
	r = lane_writer_open(pool->loop, &writer, pool->log, &pool->writer);
	writer.linger_us = BULK_LINGER_US;
	if (r >= 0)
		r = lane_writer_open(pool->loop, &writer, pool->log, &pool->bulk_writer);
	if (r < 0)
		return err_trace(r);
	/* asked for before the first result */
	lane_partitions(pool->writer, pool->results_topic);
	lane_partitions(pool->bulk_writer, pool->results_topic);
	for (size_t i = 0; i < pool->lane_count; i++) {
		bool bulk = pool->lanes[i].lane == LANE_BACKGROUND;

		pool->lanes[i].redis = bulk ? pool->bulk_redis : pool->redis;
		pool->lanes[i].writer = bulk ? pool->bulk_writer : pool->writer;
	}
	return err_trace(
	    lane_reader_open(pool->loop, &reader, &ops, pool, pool->log, &pool->reader));
}

static void register_metrics(struct pool *pool, struct metrics *metrics)
{
#define METRIC(field, name, type, help, labels) \
	pool->metric.field = metric_register(metrics, name, METRIC_##type, help, labels);
#include "consumers/pool/metrics.def"
#undef METRIC
}

/* No record of this pool's lanes was ever completed, and no job is older than Redis's memory: nobody can have called for one that Redis
 * does not know of. */
static bool is_fresh(void *ctx)
{
	struct pool *pool = ctx;
	const struct map_entry *e;

	for (size_t at = 0; (e = map_next(&pool->works, &at));)
		if (id_wall_ms(((struct work *)e->value)->head.job) <
		    redis_epoch_wall_ms(pool->redis))
			return false;
	for (size_t i = 0; pool->reader && i < pool->lane_count; i++)
		if (lane_reader_depth(pool->reader, i).base > 0)
			return false;
	return pool->reader != NULL;
}

/* Reservations go with the interactive lane's connections: no bulk stands before them. */
static void open_budgets(struct pool *pool)
{
	const struct pool_metrics *m = &pool->metric;
	struct budgets_request request = {
	    .loop = pool->loop,
	    .redis = pool->redis,
	    .config = pool->config,
	    .log = pool->log,
	    .worker = str_of(pool->worker),
	    .fresh = is_fresh,
	    .ctx = pool,
	    .metrics = {m->quota_used, m->quota_limit, m->quota_reserved, m->quota_settled,
			m->quota_waiting, m->quota_refused},
	};

	pool->budgets = budgets_new(&request);
}

/* Who waited for a breaker goes on: all where it is closed, one where it is due. That is who was asked the least: a job that no provider can
 * answer does not keep the others from theirs. */
static void on_breaker(void *ctx, unsigned news)
{
	bool well = news & BREAKER_NEWS_WELL, due = news & BREAKER_NEWS_DUE;
	struct pool *pool = ctx;
	struct work *probe = NULL;

	list_each (&pool->all, at) {
		struct work *w = container_of(at, struct work, link);

		if (work_has_lease_answer(w))
			work_wake(w, false);
		else if (!work_waits_for_breaker(w))
			continue;
		else if (well)
			work_wake(w, true);
		else if (due && (!probe || w->call_count < probe->call_count))
			probe = w;
	}
	if (probe)
		work_wake(probe, false);
}

void pool_prefix_warm(struct pool *pool, uint64_t cache_key)
{
	list_each (&pool->all, at)
		work_prefix_warm(container_of(at, struct work, link), cache_key);
}

static void open_breakers(struct pool *pool)
{
	struct breakers_request request = {
	    .loop = pool->loop,
	    .redis = pool->redis,
	    .log = pool->log,
	    .worker = pool->worker,
	    .state = pool->metric.breaker,
	    .changes = pool->metric.breaker_changes,
	    .changed = on_breaker,
	    .ctx = pool,
	};

	pool->breakers = breakers_new(&request);
}

static void on_hand_back(struct timer *t);

int pool_open(const struct pool_request *request, struct pool **ret_pool)
{
	struct pool *pool = mem_new(struct pool);
	int r;

	*ret_pool = pool;
	pool->loop = request->loop;
	pool->log = request->log;
	pool->config = request->config;
	pool->options = request->options;
	pool->failed = request->failed;
	pool->failed_ctx = request->failed_ctx;
	pool->pace.per_s = (uint64_t)pool->options->max_writes_per_s;
	pool->worker =
	    mem_strdup(pool->options->instance[0] ? pool->options->instance : request->id);
	snprintf(pool->incarnation, sizeof(pool->incarnation), "%016llx",
		 (unsigned long long)rand_u64(loop_rand(pool->loop)));
	list_init(&pool->all);
	map_init(&pool->works, rand_u64(loop_rand(pool->loop)));
	map_init(&pool->sessions, rand_u64(loop_rand(pool->loop)));
	task_init(&pool->take, pool->loop, on_take);
	timer_init(&pool->tick, pool->loop, on_tick);
	timer_init(&pool->line, pool->loop, on_line);
	timer_init(&pool->hand_back, pool->loop, on_hand_back);
	room_init(&pool->room, pool);
	register_metrics(pool, request->metrics);
	if (strcmp(pool->options->pool, "llm") != 0) {
		log_error(pool->log, "this pool's work is not known",
			  F_STR("pool", pool->options->pool));
		return err_origin(-EINVAL);
	}
	r = read_lanes(pool);
	if (r >= 0)
		r = check_slots(pool, pool->options);
	if (r >= 0)
		r = open_stores(pool);
	if (r >= 0) {
		open_budgets(pool);
		open_breakers(pool);
	}
	if (r >= 0)
		r = open_routes(pool, pool->config, &pool->routes);
	if (r >= 0)
		r = open_lanes(pool);
	if (r < 0)
		return err_trace(r);
	timer_set(&pool->tick, TICK_US);
	timer_set(&pool->line, PLACE_TICK_US);
	return 0;
}

int pool_reload(struct pool *pool, const struct config *config, const struct pool_options *options)
{
	struct routes *routes;
	int r = check_slots(pool, options);

	if (r >= 0)
		r = open_routes(pool, config, &routes);
	if (r < 0)
		return err_trace(r);
	routes_unref(pool->routes);
	pool->routes = routes;
	pool->config = config;
	pool->options = options;
	pool->pace.per_s = (uint64_t)options->max_writes_per_s;
	budgets_reload(pool->budgets, config);
	list_each (&pool->all, at)
		work_reconfigured(container_of(at, struct work, link));
	for (size_t i = 0; i < pool->lane_count; i++)
		pool->lanes[i].weight = weight_of(options, pool->lanes[i].lane);
	return 0;
}

void pool_ready(struct pool *pool, void (*waits)(void *ctx, const char *what), void *ctx)
{
	if (!redis_up(pool->redis) || !redis_up(pool->bulk_redis))
		waits(ctx, "redis");
	if (!lane_reader_ready(pool->reader))
		waits(ctx, "kafka group");
	if (!lane_writer_ready(pool->writer) || !lane_writer_ready(pool->bulk_writer))
		waits(ctx, "kafka producer");
}

/* ── the end ── */

static void on_reader_closed(void *ctx);

/* The lanes are given back when no work is left, before that where it leaves; then it is over. */
static void drain_on(struct pool *pool)
{
	if (!pool->work_count)
		timer_stop(&pool->hand_back);
	if (pool->reader && !pool->closing && (pool->leave || !pool->work_count)) {
		pool->closing = true;
		lane_reader_close(pool->reader, pool->leave, on_reader_closed, pool);
	} else if (!pool->reader && !pool->work_count && !pool->left) {
		pool->left = true;
		budgets_leave(pool->budgets, pool->drained, pool->drained_ctx);
	}
}

static void on_reader_closed(void *ctx)
{
	struct pool *pool = ctx;

	pool->reader = NULL;
	log_info(pool->log, pool->leave ? "left the group" : "lanes are closed",
		 F_UINT("works", pool->work_count));
	drain_on(pool);
}

void pool_work_over(struct pool *pool)
{
	if (!pool->draining)
		pool_look(pool);
	else if (!pool->handing_back)
		drain_on(pool);
}

static void on_hand_back(struct timer *t)
{
	struct pool *pool = container_of(t, struct pool, hand_back);

	log_warn(pool->log, "drain: the limit is reached, running jobs are handed back",
		 F_UINT("works", pool->work_count));
	list_each (&pool->all, at)
		work_hand_back(container_of(at, struct work, link), true);
}

/* What does not run is handed back before the lanes are, so that who gets them finds it free. */
static void hand_back_idle(struct pool *pool)
{
	pool->handing_back = true;
	list_each (&pool->all, at)
		work_hand_back(container_of(at, struct work, link), false);
	pool->handing_back = false;
}

void pool_drain(struct pool *pool, uint64_t limit_us, bool leave, void (*done)(void *ctx),
		void *ctx)
{
	pool->draining = true;
	pool->leave = leave;
	for (size_t i = 0; i < pool->lane_count; i++)
		drop_heads(&pool->lanes[i]);
	pool->drained = done;
	pool->drained_ctx = ctx;
	log_info(pool->log, "drain begins", F_UINT("works", pool->work_count));
	timer_set(&pool->hand_back, limit_us);
	hand_back_idle(pool);
	drain_on(pool);
}

void pool_leave(struct pool *pool)
{
	pool->leave = true;
	drain_on(pool);
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	timer_stop(&pool->tick);
	timer_stop(&pool->line);
	timer_stop(&pool->hand_back);
	lane_writer_close(pool->writer);
	lane_writer_close(pool->bulk_writer);
	list_each (&pool->all, at)
		work_abandon(container_of(at, struct work, link));
	task_cancel(&pool->take);
	room_fini(&pool->room);
	budgets_free(pool->budgets);
	routes_unref(pool->routes);
	breakers_free(pool->breakers);
	warm_fini(&pool->warm);
	blob_close(pool->blob);
	gather_fini(&pool->past);
	pg_close(pool->pg);
	redis_unsubscribe(pool->control);
	redis_close(pool->redis);
	redis_close(pool->bulk_redis);
	for (size_t i = 0; i < pool->lane_count; i++) {
		drop_heads(&pool->lanes[i]);
		heap_fini(&pool->lanes[i].waiting);
		fair_fini(&pool->lanes[i].fair);
		mem_free(pool->lanes[i].topic);
	}
	map_fini(&pool->works);
	map_fini(&pool->sessions);
	mem_free(pool->results_topic);
	mem_free(pool->worker);
	mem_free(pool);
}
