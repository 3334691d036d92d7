/* The pool: one member of the consumer group, hundreds of jobs at once on one loop. It takes records from its lanes, claims jobs a
 * little ahead, gives slots (open calls) to lanes by weight with some reserved for the interactive one, and ends when its works
 * have ended or were handed back. What happens to one job is work.h's. */
#ifndef SLUICE_POOL_POOL_H
#define SLUICE_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/pool/fair.h"
#include "consumers/pool/overflow.h"
#include "consumers/pool/place.h"
#include "consumers/pool/room.h"
#include "consumers/pool/warm.h"
#include "lib/base/heap.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/metric.h"
#include "lib/net/loop.h"
#include "lib/relay/pace.h"
#include "lib/store/gather.h"
#include "lib/svc/option.h"
#include "schemas/lanes.h"

struct blob;
struct breakers;
struct budgets;
struct config;
struct lane_reader;
struct lane_writer;
struct pg;
struct redis;
struct redis_sub;
struct routes;
struct work;

struct pool_options {
#define OPTION OPTION_MEMBER
#include "consumers/pool/options.def"
#undef OPTION
};

struct pool_metrics {
#define METRIC(field, name, type, help, labels) struct metric *field;
#include "consumers/pool/metrics.def"
#undef METRIC
};

/* One lane as this pool sees it. */
struct pool_lane {
	enum lane lane;
	char *topic;
	struct redis *redis;	    /* the pool's, or its bulk one */
	struct lane_writer *writer; /* likewise */
	struct fair fair;	    /* between tenants */
	struct overflow overflow;   /* works that wait for something else than a slot */
	struct places places;	    /* who waits: records that were taken, works without a slot */
	struct heap waiting;	    /* works that want a slot, by tag */
	size_t ahead;		    /* works between taken and calling that are not parked */
	size_t slots;		    /* in use */
	size_t ending;		    /* works behind their call, until their mark */
	int64_t weight;
	int64_t credit;	     /* smooth weighted round robin */
	int64_t room_credit; /* likewise, for room at providers */
};

struct pool {
	struct loop *loop;
	const struct log *log;
	const struct config *config;
	const struct pool_options *options;
	struct redis *redis; /* interactive and high lanes; also listens */
	struct redis *
	    bulk_redis; /* the background lane's: paced, so that it never stands before the others */
	struct pg *pg;
	struct gather past; /* what Redis forgot of jobs (past.c) */
	struct blob *blob;
	struct lane_writer *writer;
	struct lane_writer *bulk_writer; /* gathers for longer */
	struct lane_reader *reader;
	struct routes *routes;
	struct breakers *breakers;
	struct warm warm;
	struct room room; /* who waits for it at a provider */
	struct budgets *budgets;
	struct redis_sub *control;
	struct pool_metrics metric;
	char *results_topic;
	char *worker;	      /* instance id: claims name it */
	char incarnation[17]; /* random per start */
	struct pool_lane lanes[LANE_COUNT];
	size_t lane_count;
	struct pace pace;    /* of running text, to Redis */
	struct map works;    /* by job id */
	struct map sessions; /* session id -> its works here: struct turns (turn.c) */
	struct list all;
	size_t work_count;
	size_t slots;
	struct task take;
	struct timer tick; /* gauges */
	struct timer line; /* positions are told */
	struct timer hand_back;
	bool draining;
	bool leave;   /* the group, for good */
	bool closing; /* the reader */
	bool handing_back;
	void (*drained)(void *ctx);
	void *drained_ctx;
	bool left; /* the quotas: it is over when they know */
	void (*failed)(void *ctx);
	void *failed_ctx;
};

struct pool_request {
	struct loop *loop;
	const struct log *log;
	const struct config *config;
	const struct pool_options *options;
	struct metrics *metrics;
	const char *id;
	void (*failed)(void *ctx); /* nothing can be done any more: the process ends */
	void *failed_ctx;
};
/* Opens everything and begins to take. -errno with a log line. */
must_check int pool_open(const struct pool_request *request, struct pool **ret_pool);
/* New accounts, routes and prices for the calls that come, also of jobs that wait; -EINVAL keeps the old ones. */
must_check int pool_reload(struct pool *pool, const struct config *config,
			   const struct pool_options *options);
/* Calls @waits with a word for each thing that is not there yet. */
void pool_ready(struct pool *pool, void (*waits)(void *ctx, const char *what), void *ctx);
/* Takes nothing new, ends what runs within @limit_us, hands back the rest, commits, then calls @drained. With @leave (a scale-down) it
 * leaves the group first, so that other pools have its lanes while it ends what it runs: they find those jobs held, and then
 * ended. Else it stays a member until a session time-out: whoever is started under its id goes on. */
void pool_drain(struct pool *pool, uint64_t limit_us, bool leave, void (*drained)(void *ctx),
		void *ctx);
/* The drain under way is with @leave from now on. What has given back its lanes already is over in a moment, and stays as it is. */
void pool_leave(struct pool *pool);
void pool_close(struct pool *pool); /* accepts NULL */

/* measure.c: the gauges, once a second. */
void measure_pool(struct pool *pool);

/* ── for work.c ── */

/* A slot for @work's call: granted from the loop by work_run, when it is its turn. */
void pool_want_slot(struct pool *pool, struct work *work);
/* The work does not want or hold a slot any more. Safe where it does neither. */
void pool_drop_slot(struct pool *pool, struct work *work);
/* The work is over and freed itself. */
void pool_work_over(struct pool *pool);
/* A provider's cache holds what begins with @cache_key: who waited for that goes on. */
void pool_prefix_warm(struct pool *pool, uint64_t cache_key);
/* There may be room for more works. */
void pool_look(struct pool *pool);

#endif
