/* Inside of a budget: what is asked of the script, and what is remembered for it. For budget.c and budget_wire.c. */
#ifndef SLUICE_POOL_BUDGET_IMPL_H
#define SLUICE_POOL_BUDGET_IMPL_H

#include "consumers/pool/budget.h"
#include "lib/base/clock.h"
#include "lib/base/map.h"
#include "lib/net/loop.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "schemas/keys.h"

/* As in budget.lua. */
#define BUDGET_WINDOW_US (62 * US_PER_S)
#define BUDGET_LEASE_US (10 * US_PER_S)
#define BUDGET_TAKE_US (1 * US_PER_S)
/* Seconds of spending that are remembered: a window, and the two that it may begin and end in. */
#define BUDGET_SECONDS 64
#define BUDGET_PEERS_MAX 256
/* Operations of one request: a burst of a thousand calls takes four. */
#define BUDGET_BATCH 256

enum budget_op_kind { OP_ASK, OP_LOOK, OP_SETTLE, OP_BACK, OP_HOLD, OP_LEARN, OP_DENY, OP_BYE };

/* One operation for the script. What must be said although its reservation is gone holds copies. */
struct budget_op {
	struct list link;
	enum budget_op_kind kind;
	char id[24];
	struct reservation *r; /* who hears the answer; NULL: nobody */
	struct charge charge;  /* SETTLE */
	struct provider_rates rates;
	int64_t ms;
	uint64_t born_us;
};

struct budget_second {
	uint64_t second; /* of the loop's time */
	struct charge spent;
};

struct budget_peer {
	char process[20];
	uint64_t seen_us;
};

struct budget {
	struct list link;
	struct budgets *all;
	struct log log;
	char *name;
	const struct config_quota *config; /* NULL: it is configured no more */
	struct key keys[KEY_QUOTA_COUNT];
	struct list ops;  /* to be sent */
	struct list sent; /* with the request under way */
	struct redis_request *request;
	uint64_t sent_us;
	bool sent_members;
	struct task flush;
	struct timer again; /* after a failure */
	struct timer wake;  /* the head of the line is this process's, and fits then */
	struct timer look;  /* while some wait: where they stand */
	struct timer
	    beat; /* from the first reservation on, while it is configured: a member that lives */
	struct list waiting;
	size_t waiting_count;
	struct list open;
	struct map by_id; /* waiting, asking and open ones */
	uint64_t epoch;
	bool posted;
	bool known; /* all who spend of it, as of listed_us */
	bool left;
	bool want_members;
	uint64_t members_us;
	uint64_t listed_us;  /* when the members were asked for that were heard last */
	uint64_t heard;	     /* how many had come by then */
	uint64_t sent_heard; /* with the request under way, or the last */
	int64_t next_ms;
	int64_t line; /* how many wait, of all processes, as heard last */
	struct charge in_force;
	struct budget_second seconds[BUDGET_SECONDS];
	struct budget_peer peers[BUDGET_PEERS_MAX];
	size_t peer_count;
	uint64_t learned_us;
};

struct budgets {
	struct loop *loop;
	struct redis *redis;
	const struct config *config;
	const struct log *log;
	char *worker;
	char process[20]; /* random per start */
	struct budget_metrics metrics;
	bool (*fresh)(void *ctx);
	void *ctx;
	struct list all;
	size_t leaving;	   /* quotas that are not left yet */
	struct timer late; /* Redis does not answer: it ends all the same */
	struct task over;
	void (*on_left)(void *ctx);
	void *left_ctx;
};

/* What was spent when, for a Redis that forgot. */
void budget_remember(struct budget *b, uint64_t at_us, const struct charge *charge);
/* The post of this process (budget.lua). */
void budget_post(const struct budget *b, struct buf *out);
/* Writes one operation as the script reads it. */
void budget_op_write(const struct budget_op *op, struct buf *out);
/* "PROCESS AGE_MS;…" */
void budget_peers_read(struct budget *b, struct str list);
/* "A B C D" */
bool budget_units_read(struct str text, struct charge *ret_charge);

#endif
