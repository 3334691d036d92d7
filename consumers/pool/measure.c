/* What a pool shows of itself from time to time: the gauges. */
#include "consumers/pool/route.h"
#include "consumers/pool/work.h"
#include "lib/lane/lane.h"
#include "lib/svc/config.h"

static double age_s(uint64_t now_ms, uint64_t then_ms)
{
	return then_ms && now_ms > then_ms ? (double)(now_ms - then_ms) / 1000 : 0;
}

/* When the record of the job that stands longest in the line was written; 0: nobody stands there. */
static uint64_t waits_since_ms(const struct places *places)
{
	struct place *oldest = places_oldest(places);
	const struct lane_record *record;

	if (!oldest)
		return 0;
	record = oldest->begun ? container_of(oldest, struct work, place)->record
			       : container_of(oldest, struct head, place)->record;
	return record ? lane_record_wall_ms(record) : 0;
}

static void measure_lane(struct pool *pool, size_t number)
{
	struct pool_metrics *m = &pool->metric;
	struct pool_lane *lane = &pool->lanes[number];
	struct lane_depth d = lane_reader_depth(pool->reader, number);
	const char *const labels[] = {pool->options->pool, lane_name(lane->lane)};
	int64_t depth = d.end - d.base - d.completed;
	uint64_t now = loop_wall_ms(pool->loop);

	series_set(metric_one(m->slots, lane_name(lane->lane)), (double)lane->slots);
	series_set(metric_series(m->lane_end, labels), depth > 0 ? (double)depth : 0);
	series_set(metric_series(m->lane_age, labels), age_s(now, d.oldest_wall_ms));
	series_set(metric_series(m->lane_parked, labels), (double)lane->overflow.parked);
	series_set(metric_series(m->lane_waits, labels), (double)places_count(&lane->places));
	series_set(metric_series(m->lane_waits_age, labels),
		   age_s(now, waits_since_ms(&lane->places)));
}

static void measure_works(struct pool *pool)
{
	size_t stages[WORK_STATES] = {0}, lanes[LANE_COUNT] = {0};

	list_each (&pool->all, at) {
		const struct work *w = container_of(at, struct work, link);

		stages[sm_state(&w->sm)]++;
		lanes[w->lane->lane]++;
	}
	for (int s = 0; s < WORK_OVER; s++)
		series_set(metric_one(pool->metric.running, work_state_name((enum work_state)s)),
			   (double)stages[s]);
	for (size_t i = 0; i < pool->lane_count; i++)
		series_set(metric_series(pool->metric.lane_works,
					 (const char *const[]){pool->options->pool,
							       lane_name(pool->lanes[i].lane)}),
			   (double)lanes[pool->lanes[i].lane]);
}

static void measure_accounts(struct pool *pool)
{
	struct account *a;

	for (size_t i = 0; (a = routes_account(pool->routes, i)); i++) {
		struct client_stats stats;

		if (!a->client)
			continue;
		stats = client_stats(a->client);
		series_set(metric_one(pool->metric.out, a->config->name),
			   breaker_is_out(a->breaker));
		series_set(metric_one(pool->metric.connections, a->config->name),
			   stats.connections);
		series_set(metric_one(pool->metric.opened, a->config->name),
			   (double)stats.connections_opened);
		series_set(metric_one(pool->metric.streams, a->config->name),
			   stats.calls - stats.waiting);
		series_set(metric_one(pool->metric.stream_waits, a->config->name), stats.waiting);
	}
}

void measure_pool(struct pool *pool)
{
	measure_works(pool);
	measure_accounts(pool);
	for (size_t i = 0; pool->reader && i < pool->lane_count; i++)
		measure_lane(pool, i);
}
