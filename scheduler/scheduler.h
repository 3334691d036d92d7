/* The scheduler: jobs that are due later come back to their lanes, what everybody has read is deleted, what nobody ends is ended. It
 * refuses to run a job or to end one itself: pools do. The parts:
 *
 *   later.h   tiers to lanes; every process, partitions shared out by the consumer group
 *   trim.h    deletes below committed bases; the leader
 *   sweep.h   nudges open jobs that nobody holds; the leader
 *   lease.h   who the leader is
 *
 * Every action is idempotent: a leader that was stalled may act late, beside another. */
#ifndef SLUICE_SCHEDULER_SCHEDULER_H
#define SLUICE_SCHEDULER_SCHEDULER_H

#include "lib/base/log.h"
#include "lib/base/metric.h"
#include "lib/lane/lane.h"
#include "lib/svc/config.h"
#include "lib/svc/option.h"
#include "schemas/codec.h"
#include "schemas/lanes.h"

struct loop;
struct pg;
struct redis;

struct scheduler_options {
#define OPTION OPTION_MEMBER
#include "scheduler/options.def"
#undef OPTION
};

struct scheduler_metrics {
#define METRIC(field, name, type, help, labels) struct metric *field;
#include "scheduler/metrics.def"
#undef METRIC
};

/* What the parts share; outlives them. */
struct scheduler {
	struct loop *loop;
	const struct log *log;
	const struct config *config;
	const struct scheduler_options *options;
	struct scheduler_metrics metric;
	const char *id;
	struct lane_options kafka;
	struct lane_writer *writer;
	struct pg *pg;
	struct redis *redis;
	void (*failed)(void *ctx); /* a part is dead: the process ends, another starts */
	void *failed_ctx;
};

/* Writes a job's record to its lane, to one of its organisation's partitions as the front does; @written as lane_write says. */
void scheduler_to_lane(struct scheduler *s, enum lane lane, const struct job_head *head,
		       struct str body,
		       void (*written)(void *ctx, enum lane_written result, int32_t partition,
				       int64_t offset),
		       void *ctx);
/* The same to a tier. */
void scheduler_to_tier(struct scheduler *s, enum topic tier, const struct job_head *head,
		       struct str body,
		       void (*written)(void *ctx, enum lane_written result, int32_t partition,
				       int64_t offset),
		       void *ctx);

#endif
