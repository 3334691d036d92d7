/* A job's state in Redis, one call per script of schemas/redis/ (their contracts stand there). Shared by the front, pools and
 * push. Refuses to decide: it says what stands, its owner decides.
 *
 * All calls are asynchronous: the callback comes from the loop, and not after redis_cancel of the returned request. The result
 * REDIS_OK means that the script answered; REDIS_AWAY that it certainly did not run; REDIS_LOST that it may have run. */
#ifndef SLUICE_RELAY_STATE_H
#define SLUICE_RELAY_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/str.h"
#include "lib/store/redis.h"
#include "schemas/codec.h"

#define STATE_LEASE_MS 10000
#define STATE_RENEW_MS 3000
/* What is kept of a job behind its deadline: the longest tier (1 h) and a day. */
#define STATE_TTL_EXTRA_MS (25 * 3600 * 1000LL)

/* ttl_ms of a job's keys from now on. */
int64_t state_ttl_ms(int64_t deadline_ms, uint64_t now_wall_ms);

/* The state of a job after its broker's acknowledgement. @state: "queued", or what stood already. */
struct redis_request *
state_submit(struct redis *redis, const struct job *job, const char *topic, int32_t partition,
	     int64_t offset, uint64_t now_wall_ms,
	     void (*done)(void *ctx, enum redis_result result, struct str state), void *ctx);

/* @state: "refused" where the refusal stands, else what stood already: the job was accepted. */
struct redis_request *
state_refuse(struct redis *redis, struct str job, struct str org, int64_t ttl_ms,
	     void (*done)(void *ctx, enum redis_result result, struct str state), void *ctx);

/* Jobs that a session's outbox holds in Redis, and how long it stands, where sluice-push, whose options say so, has not seen the session. */
#define STATE_OUTBOX_JOBS 256
#define STATE_OUTBOX_TTL_MS 86400000
/* The job waits in @session's outbox, of whose jobs the newest @most stay. It stands for @ttl_ms from now on; 0: for
 * STATE_OUTBOX_TTL_MS, where it did not stand. */
struct redis_request *state_outbox(struct redis *redis, struct str session, struct str job,
				   int64_t created_ms, int64_t most, int64_t ttl_ms, redis_fn *done,
				   void *ctx);

enum claim_verdict {
	CLAIM_RUN,	 /* granted */
	CLAIM_FINISHING, /* granted: publish the result again, without a call */
	CLAIM_HELD,
	CLAIM_TERMINAL,
	CLAIM_REFUSED,
	CLAIM_STALE,
	CLAIM_FORGOTTEN, /* older than what Redis remembers: it may have ended; see `forgotten_too` */
	CLAIM_UNSURE,	 /* Redis did not say */
};
struct claim {
	enum claim_verdict verdict;
	int64_t attempt;
	int64_t tries;
	bool cancel;	   /* the wish */
	bool died;	   /* RUN: the claim before ended without a word */
	int64_t deaths;	   /* RUN: owners that did so before they had called anybody */
	int64_t held_ms;   /* HELD: until its lease ends */
	struct str state;  /* TERMINAL */
	struct str result; /* FINISHING: JSON without the text */
	struct str calls; /* RUN: JSON list of the calls that owners before began; empty for none */
	int64_t bytes;	  /* RUN, with calls: how long the last one's answer was */
	struct str parts; /* RUN, with calls: JSON, of that answer; empty for none */
	int64_t picked_up_ms;	/* RUN: by any owner; 0: never */
	int64_t first_token_ms; /* RUN: of any owner; 0: none */
};
struct claim_request {
	struct str job;
	struct str fence; /* random, one per claim: 16 hex digits */
	struct str worker;
	struct str incarnation;
	const struct job_head *head;
	struct str lane;
	struct str channel;
	struct str topic; /* where the record stands, for `log` */
	int32_t partition;
	int64_t offset;
	uint64_t epoch_ms;
	struct str held_fence; /* of the claim that is made again; empty for none */
	int64_t held_attempt;  /* of that claim: never repeated; 0 */
	bool forgotten_too; /* it is known not to have ended, or goes on here: no CLAIM_FORGOTTEN */
	uint64_t now_wall_ms;
};
struct redis_request *state_claim(struct redis *redis, const struct claim_request *request,
				  void (*done)(void *ctx, const struct claim *claim), void *ctx);

/* The answer of a fenced write. */
enum state_held {
	STATE_HELD,	/* done */
	STATE_NOT_HELD, /* the claim is somebody else's: stop at once */
	STATE_MISMATCH, /* append, finishing: the stored length differs: send the whole text */
	STATE_UNSURE,	/* Redis did not say */
};
typedef void state_fn(void *ctx, enum state_held held, bool cancel);

struct redis_request *state_renew(struct redis *redis, struct str job, struct str fence,
				  state_fn *done, void *ctx);
/* @tries -1: as they stand. @calls: JSON list with the ends that are known; empty: as they stand. A result that is decided stays so. */
struct redis_request *state_release(struct redis *redis, struct str job, struct str fence,
				    int64_t tries, int64_t copy, struct str calls, state_fn *done,
				    void *ctx);

struct state_call {
	struct str job;
	struct str fence;
	int64_t attempt;
	int64_t tries;
	struct str calls; /* JSON list, this call's beginning included */
	struct str provider;
	struct str account;
	struct str model;
	uint64_t picked_up_ms;
	struct str channel;
	struct str event; /* whole event text ("1 started …"), empty for none */
};
struct redis_request *state_call(struct redis *redis, const struct state_call *call, state_fn *done,
				 void *ctx);

/* The job waits: why, and where, is kept in its state (where @fence holds the claim, or is empty and nobody has it yet) and @event
 * is told. STATE_NOT_HELD: somebody else has it, and nothing was told. */
struct state_wait {
	struct str job;
	struct str fence;
	struct str why;
	int64_t position;    /* 1: next; -1: in no line */
	int64_t estimate_ms; /* until it is called; -1: not known */
	struct str channel;
	struct str event; /* whole event text ("1 queued …") */
};
struct redis_request *state_waits(struct redis *redis, const struct state_wait *wait,
				  state_fn *done, void *ctx);

struct state_append {
	struct str job;
	struct str fence;
	int64_t attempt;
	int64_t at; /* 0 replaces the whole text */
	struct str bytes;
	int64_t ttl_ms;
	uint64_t first_token_ms; /* 0 unless these are the first */
	struct str channel;
	struct str head;  /* of the delta event; empty publishes nothing */
	struct str parts; /* JSON, empty leaves them */
};
struct redis_request *state_append(struct redis *redis, const struct state_append *append,
				   state_fn *done, void *ctx);

/* @result: a result record in JSON without its text. @rest: the bytes of the answer that are not written yet, with their delta. */
struct redis_request *state_finishing(struct redis *redis, const struct state_append *rest,
				      struct str result, state_fn *done, void *ctx);
/* @event: whole event text or empty. STATE_HELD also where the job was terminal already. */
struct redis_request *state_finish(struct redis *redis, struct str job, struct str fence,
				   struct str state, uint64_t finished_ms, struct str channel,
				   struct str event, state_fn *done, void *ctx);

/* @state "" where nothing stands; @worker "" where nobody holds a live claim. */
struct redis_request *state_wish(struct redis *redis, struct str job, struct str org,
				 void (*done)(void *ctx, enum redis_result result, struct str state,
					      struct str worker),
				 void *ctx);

/* The same for a job of @session alone; another session's is as none. Empty: any. */
struct redis_request *state_wish_within(struct redis *redis, struct str job, struct str org,
					struct str session,
					void (*done)(void *ctx, enum redis_result result,
						     struct str state, struct str worker),
					void *ctx);

/* Whoever is to act on a wish that was set learns of it: @worker as state_wish said it, and where there is none the scheduler. */
void state_tell_wish(struct redis *redis, struct str job, struct str worker, uint64_t now_wall_ms);

/* What stands of a job: views live until the callback returns. */
struct job_view {
	bool found;
	struct str org, kind, lane, session, channel, state, wish, why, provider, account, model,
	    calls, parts, result, metadata, topic;
	int64_t turn, attempt, tries, created_ms, deadline_ms, picked_up_ms, first_token_ms,
	    finished_ms, partition, offset;
	int64_t position;    /* in its line, 1: next; 0: in none, or not known */
	int64_t estimate_ms; /* until it is called; -1: not known */
	int64_t bytes;	     /* of the present attempt's answer */
};
struct redis_request *state_read(struct redis *redis, struct str job,
				 void (*done)(void *ctx, enum redis_result result,
					      const struct job_view *view),
				 void *ctx);

/* True for succeeded, failed, expired, cancelled. */
bool state_terminal(struct str state);

#endif
