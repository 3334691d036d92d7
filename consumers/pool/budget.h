/* Budgets: what the providers' limits leave for this pool, shared with all others through one script per quota (schemas/redis/
 * budget.lua). A call reserves what it may cost before it is made; where that is short it waits in the quota's line, which is one for
 * all pools. Refuses to call and to estimate: it counts what its owner says.
 *
 *   NONE ──budget_ask──▶ ASKING ──▶ OURS ──budget_settle, budget_return──▶ NONE
 *                           └──▶ WAITING ──┘        (short, never, later: NONE)
 *
 * What is asked of Redis in a turn of the loop travels together, one request at a time for a quota. What is reserved and not settled
 * (its process died) counts as spent until it leaves the window. After a loss of Redis's memory each process says again what it has
 * reserved and spent, by itself, and who else was there: so a process gets nothing of a quota before the others know that it came. */
#ifndef SLUICE_POOL_BUDGET_H
#define SLUICE_POOL_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumers/providers/provider.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/str.h"
#include "schemas/lanes.h"

struct budget;
struct budgets;
struct config;
struct loop;
struct metric;
struct redis;

/* Where its numbers go; each may be NULL. */
struct budget_metrics {
	struct metric *used;	 /* quota, unit: in the window */
	struct metric *limit;	 /* quota, unit: in force */
	struct metric *reserved; /* quota, unit */
	struct metric *settled;	 /* quota, unit */
	struct metric *waiting;	 /* quota: of this process */
	struct metric *refused;	 /* quota: a 429 in spite of all this */
};

struct budgets_request {
	struct loop *loop;
	struct redis *redis;
	const struct config *config;
	const struct log *log;
	struct str worker; /* its control channel is told of grants */
	/* True where nothing was ever done by anybody, so that a quota nobody knows is a new one and not forgotten. NULL: never true. */
	bool (*fresh)(void *ctx);
	void *ctx;
	struct budget_metrics metrics;
};
/* Never NULL. @config must outlive it, or the next budgets_reload. */
struct budgets *budgets_new(const struct budgets_request *request);
/* This process ends, and has nothing reserved any more: the others need not wait for it to hear of anybody. @left comes from the loop, after a
 * second at the latest; asks, and a second time, are a mistake. */
void budgets_leave(struct budgets *budgets, void (*left)(void *ctx), void *ctx);
/* Reservations that are open are forgotten here: they count as spent until they leave the window. Accepts NULL. */
void budgets_free(struct budgets *budgets);
/* Limits are those of @config from now on. A quota that is not configured any more limits nobody. */
void budgets_reload(struct budgets *budgets, const struct config *config);
/* Redis's epoch changed: what it knew may be gone. */
void budgets_epoch(struct budgets *budgets, uint64_t epoch_wall_ms);
/* A message of the control channel, behind "1 budget ". */
void budgets_heard(struct budgets *budgets, struct str message);
/* The budget that calls to @model of @account count against; NULL: they are not limited. */
struct budget *budgets_find(struct budgets *budgets, const char *account, const char *model);
/* How long a call of @charge that asks now would wait, ms, roughly: what stands in the line before it, each as itself. */
int64_t budget_expect_ms(const struct budget *budget, const struct charge *charge);
const char *budget_name(const struct budget *budget);
/* The longest answer to ask for where the job names none, @usual or what half of the quota lets through; 0: answers are not limited. */
int64_t budget_answer_tokens(const struct budget *budget, int64_t usual);

/* ── one call's reservation ── */

enum budget_word {
	BUDGET_OURS,  /* reserved: make the call in this turn, or return it */
	BUDGET_MOVED, /* it waits; position or estimate changed */
	BUDGET_SHORT, /* not without waiting */
	BUDGET_NEVER, /* above the lane's whole share */
	/* Above the lane's share of a limit that the provider said and that is lower than the configured one: ask again after estimate_ms, when
	 * it is believed no more unless it was said again. */
	BUDGET_LATER,
};

enum reservation_state {
	RESERVATION_NONE,
	RESERVATION_ASKING,
	RESERVATION_WAITING,
	RESERVATION_OURS
};

/* Embedded in its owner, zeroed. */
struct reservation {
	enum reservation_state state;
	struct budget *budget;
	struct list link; /* in its budget's */
	struct charge charge;
	char id[24];
	char tenant[32];
	enum lane lane;
	bool wait;
	bool asked;	      /* an answer is to come */
	int64_t tag;	      /* its place in the line; -1: none yet */
	int64_t position;     /* the lowest it has had, from 1; 0: not known */
	int64_t estimate_ms;  /* until it is its turn; -1: not known */
	uint64_t reserved_us; /* OURS: loop time */
	uint64_t output_us;   /* since when its output counts */
	void (*heard)(void *ctx, enum budget_word word);
	void *ctx;
};

struct budget_ask {
	struct charge charge;
	enum lane lane;
	struct str tenant;
	bool wait; /* false: a word at once, BUDGET_SHORT where it would wait */
	void (*heard)(void *ctx, enum budget_word word); /* from the loop */
	void *ctx;
};
/* @r is NONE. */
void budget_ask(struct budget *budget, struct reservation *r, const struct budget_ask *ask);
/* OURS: the call is over and used @real (the provider's file says what counts). */
void budget_settle(struct reservation *r, const struct charge *real);
/* The call was provably never processed, or is not made; it does not wait any more. In any state. */
void budget_return(struct reservation *r);
/* OURS: true where it was reserved so long ago that the provider would count it in another window: return it and ask anew. */
bool budget_stale(const struct reservation *r);

/* What the provider says of its limits, as its answer begins. */
void budget_learn(struct budget *budget, const struct provider_rates *rates);
/* It refused for its rate: nothing is granted for @retry_after_ms (-1: a second). */
void budget_refused(struct budget *budget, int64_t retry_after_ms);

#endif
