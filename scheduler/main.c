/* sluice-scheduler: what is due later, what can be deleted, what nobody ends. */
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/net/loop.h"
#include "lib/store/pg.h"
#include "lib/store/redis.h"
#include "lib/svc/stores.h"
#include "lib/svc/svc.h"
#include "scheduler/later.h"
#include "scheduler/lease.h"
#include "scheduler/scheduler.h"
#include "scheduler/sweep.h"
#include "scheduler/trim.h"

#define TICK_US US_PER_S

#define OPTION_OF struct scheduler_options
static const struct option options[] = {
#define OPTION OPTION_LINE
#include "scheduler/options.def"
#undef OPTION
};

struct program {
	struct svc *svc;
	struct scheduler s;
	struct later *later;
	struct lease *lease;
	struct trim *trim;
	struct sweep *sweep;
	struct timer tick;
};

static void on_tick(struct timer *t)
{
	struct program *p = container_of(t, struct program, tick);

	later_measure(p->later);
	timer_set(&p->tick, TICK_US);
}

static void register_metrics(struct scheduler *s, struct metrics *metrics)
{
#define METRIC(field, name, type, help, labels) \
	s->metric.field = metric_register(metrics, name, METRIC_##type, help, labels);
#include "scheduler/metrics.def"
#undef METRIC
}

static int open_stores(struct scheduler *s)
{
	static const struct redis_ops redis_ops = {0};
	struct redis_options redis = stores_redis(s->config);
	struct pg_options pg = stores_pg(s->config);
	struct lane_writer_options writer = {
	    .kafka = s->kafka, .timeout_us = 10 * US_PER_S, .max_pending = 100000};
	int r;

	redis.connections = 1;
	r = redis_open(s->loop, &redis, &redis_ops, s, s->log, &s->redis);
	if (r < 0)
		return err_trace(r);
	pg.connections = 1;
	r = pg_open(s->loop, &pg, s->log, &s->pg);
	if (r < 0)
		return err_trace(r);
	r = lane_writer_open(s->loop, &writer, s->log, &s->writer);
	if (r < 0)
		return err_trace(r);
	for (int lane = 0; lane < LANE_COUNT; lane++) {
		cleanup_free char *topic =
		    topic_full(s->config->kafka.topic_prefix, lane_topic_llm((enum lane)lane));

		lane_partitions(s->writer, topic); /* asked for before the first record */
	}
	return 0;
}

static void on_failed(void *ctx)
{
	struct program *p = ctx;

	svc_stop(p->svc, SVC_EXIT_FAILED);
}

static int program_open(struct svc *svc, void **ret_ctx)
{
	struct program *p = mem_new(struct program);
	struct scheduler *s = &p->s;
	int r;

	*ret_ctx = p;
	p->svc = svc;
	s->loop = svc->loop;
	s->log = &svc->log;
	s->config = svc->config;
	s->options = svc->options;
	s->id = svc->id;
	s->failed = on_failed;
	s->failed_ctx = p;
	register_metrics(s, &svc->metrics);
	s->kafka = stores_kafka(s->config, s->id);
	timer_init(&p->tick, s->loop, on_tick);
	r = open_stores(s);
	if (r >= 0)
		r = later_open(s, &p->later);
	if (r >= 0)
		r = lease_open(s, &p->lease);
	if (r >= 0)
		r = trim_open(s, p->lease, &p->trim);
	if (r >= 0)
		r = sweep_open(s, p->lease, &p->sweep);
	if (r < 0)
		return err_trace(r);
	timer_set(&p->tick, TICK_US);
	return 0;
}

static void program_ready(void *ctx, struct svc_waits *waits)
{
	struct program *p = ctx;

	if (!later_ready(p->later))
		svc_waits_for(waits, "kafka group");
	if (!lane_writer_ready(p->s.writer))
		svc_waits_for(waits, "kafka producer");
	if (!pg_up(p->s.pg))
		svc_waits_for(waits, "postgres");
	if (!redis_up(p->s.redis))
		svc_waits_for(waits, "redis");
}

static void on_drained(void *ctx)
{
	struct program *p = ctx;

	svc_drained(p->svc);
}

static void program_drain(void *ctx)
{
	struct program *p = ctx;

	timer_stop(&p->tick);
	later_drain(p->later, on_drained, p);
}

static int program_reload(void *ctx, const struct config *old)
{
	struct program *p = ctx;

	(void)old;
	p->s.config = p->svc->config;
	p->s.options = p->svc->options;
	return 0;
}

static void program_close(void *ctx)
{
	struct program *p = ctx;

	timer_stop(&p->tick);
	lane_writer_close(p->s.writer);
	trim_close(p->trim);
	redis_close(p->s.redis);
	pg_close(p->s.pg);
	sweep_close(p->sweep);
	lease_close(p->lease);
	later_close(p->later);
	mem_free(p);
}

int main(int argc, char **argv)
{
	static const struct svc_program program = {
	    .name = "sluice-scheduler",
	    .section = "scheduler",
	    .summary =
		"brings back what is due later, deletes what was read, ends what nobody ends",
	    .admin = "127.0.0.1:9141",
	    .options = options,
	    .option_count = countof(options),
	    .options_size = sizeof(struct scheduler_options),
	    .open = program_open,
	    .ready = program_ready,
	    .drain = program_drain,
	    .reload = program_reload,
	    .close = program_close,
	};

	return svc_main(argc, argv, &program);
}
