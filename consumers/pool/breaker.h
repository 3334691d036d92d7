/* Breakers: who is not to be asked for a while. One per target (an account and a model) and one per account, which is known by a hash of
 * its secret, so that a process with a wrong key does not shut it for those with a good one. Transport faults open it in this
 * process, and in all (through schemas/redis/breaker.lua) once a second one saw the same; what the provider itself said opens it in
 * all at once, and a refused key, credit or model is out for all alike. Refuses to call, and to choose: route.h does.
 *
 *   CLOSED ──fails──▶ OPEN ──its time is over──▶ DUE ──a job is at hand──▶ ASKING ──lease──▶ HALF_OPEN ──asked──▶ PROBING ──output──▶ CLOSED
 *                     ▲ ▲                         ▲                           │                   │                  │ │
 *                     │ └─────────────────────────┼───────another has it──────┘                   │                  │ │
 *                     │                           └──────────────not asked, or without a word─────┴──────────────────┘ │
 *                     └──────────────────────────────────────fails, longer─────────────────────────────────────────────┘
 *
 * The lease is asked for when there is a job that would be the probe, and given back where it is not asked after all: a process that has
 * nothing to do keeps none from it. What is told of a target that is OPEN already does not count. Where Redis does not answer,
 * each process probes for itself. */
#ifndef SLUICE_POOL_BREAKER_H
#define SLUICE_POOL_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/log.h"
#include "lib/base/str.h"

struct breaker;
struct breakers;
struct config_account;
struct loop;
struct metric;
struct redis;

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_DUE,
	BREAKER_ASKING,
	BREAKER_HALF_OPEN,
	BREAKER_PROBING,
	BREAKER_STATES
};
const char *breaker_state_name(enum breaker_state state);

/* What of it concerns those who wait. */
enum breaker_news {
	BREAKER_NEWS_WELL = 1,	   /* one is closed again: all may ask */
	BREAKER_NEWS_DUE = 2,	   /* the time of one is over: a job may ask it */
	BREAKER_NEWS_ANSWERED = 4, /* who waits for breaker_ready may look again */
};

struct breakers_request {
	struct loop *loop;
	struct redis *redis; /* NULL: this process stands for itself */
	const struct log *log;
	const char *worker;
	struct metric *state;	/* account, model: 0 closed, 1 may be tried, 2 open; may be NULL */
	struct metric *changes; /* account, model, to; may be NULL */
	/* From the loop, with a set of breaker_news. */
	void (*changed)(void *ctx, unsigned news);
	void *ctx;
	uint64_t
	    probe_ms; /* how long a probe is believed in whose process says nothing more; 0: 15 s */
};
/* Never NULL. */
struct breakers *breakers_new(const struct breakers_request *request);
void breakers_free(struct breakers *breakers); /* accepts NULL */
/* The breaker of @model of @account, or of all of it ("" or NULL); kept until breakers_free, so that a reload forgets nothing. @account needs
 * to live for this call only. */
struct breaker *breakers_find(struct breakers *breakers, const struct config_account *account,
			      const char *model);
/* In the order in which they were made; NULL behind the last. */
struct breaker *breakers_at(const struct breakers *breakers, size_t index);

/* May it be asked now? Where not, *ret_wait_us is when to look again; `changed` may come before. */
bool breaker_lets(const struct breaker *breaker, uint64_t *ret_wait_us);
/* It refused the key, the credit or the model: nobody waits for it, before its time is over. */
bool breaker_is_out(const struct breaker *breaker);
enum breaker_state breaker_state(const struct breaker *breaker);
/* Loop time at which an open one's time is over. */
uint64_t breaker_until_us(const struct breaker *breaker);

/* A job is at hand whose call to it would begin now: may it? Where one that is due has to ask the others first, it does so now, and `changed`
 * says when to look again. */
bool breaker_ready(struct breaker *breaker);
/* That answer is not here yet. */
bool breaker_asks(const struct breaker *breaker);
/* A call to it begins: true where it is half open, and that call is the probe, until a word of it or breaker_drop. */
bool breaker_asked(struct breaker *breaker);
/* The probe ended without a word on it. */
void breaker_drop(struct breaker *breaker);
/* First output of a call to it. */
void breaker_answers(struct breaker *breaker);

enum breaker_word {
	BREAKER_WELL,	/* the call was good */
	BREAKER_FAILED, /* the transport, or what was said could not be read: this process saw it */
	BREAKER_SAID,	/* the provider said that it is not well */
	BREAKER_NOT_NOW, /* the provider said until when (@retry_after_ms, -1: a second): at once */
	BREAKER_OUT,	 /* key, credit or model is refused: at once, for a minute and longer */
};
/* How a call went. */
void breaker_learn(struct breaker *breaker, enum breaker_word word, int64_t retry_after_ms);

#endif
