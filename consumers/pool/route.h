/* Targets: who may serve a job, and which of them is asked next. A target is an account at a provider and a model; one client (a
 * pool of connections) per account. Refuses to call: call.h does.
 *
 * A route's targets are asked in the order of its list. Those that stand together with a weight are one step: of two that are drawn by
 * weight, the one with less latency and fewer calls under way is asked. A target whose breaker (breaker.h) is open is left out, which costs
 * nothing; so is one whose connections carry all that they can. Of routes with one name the first is taken that is for the job's organisation, its user, or its share of sessions. */
#ifndef SLUICE_POOL_ROUTE_H
#define SLUICE_POOL_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "consumers/pool/breaker.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"
#include "lib/net/client.h"
#include "schemas/fault.h"

struct config;
struct config_account;
struct config_wish;
struct loop;
struct rand;
struct provider;

/* An account with its connections. */
struct account {
	const struct config_account *config;
	const struct provider *provider;
	struct client *client;
	struct breaker *breaker; /* of all of it: key or credit refused */
	uint32_t promised;	 /* calls that are about to be made there (room.h) */
};

struct target {
	struct account *account;
	const char *model;
	struct breaker *breaker;
	double input_per_byte; /* tokens per byte of a request, as its answers say; 0: not known */
	double output_tokens;  /* of an answer, on average; 0: not known */
	double latency_us;  /* until the first token, on average, newer ones more; 0: not known */
	double slow_us;	    /* nineteen of twenty first tokens came within this; 0: not known */
	unsigned answers;   /* how many that is known from */
	unsigned in_flight; /* calls under way */
};

/* All targets of one configuration; reference-counted, since calls outlive a reload. */
struct routes;

/* Opens a client per account. -EINVAL with a log line for an account that cannot be used. @breakers must outlive it. */
must_check int routes_open(struct loop *loop, const struct config *config,
			   struct breakers *breakers, const struct log *log,
			   struct routes **ret_routes);
struct routes *routes_ref(struct routes *routes);
void routes_unref(struct routes *routes); /* accepts NULL */

#define ROUTE_TARGETS_MAX 16

/* The targets of a job: by its task, its model's alias, or a provider's model that some route names. */
struct route {
	struct target *targets[ROUTE_TARGETS_MAX];
	unsigned weights[ROUTE_TARGETS_MAX]; /* 0: a step of its own */
	size_t count;
	const char *system; /* "" for none */
	int64_t max_tokens; /* 0: none */
	uint64_t hedge_ms;  /* 0: never */
};
enum route_found { ROUTE_FOUND = 0, ROUTE_UNKNOWN = 1 };
must_check enum route_found route_find(struct routes *routes, const struct config_wish *wish,
				       struct route *ret_route);

/* Whether its connections have room for one more call, beside those that are promised. A local one always has. */
bool account_has_room(const struct account *account);
/* The targets, bit per index, outside of @skip that may be asked but for room; those that have it, where @room. */
uint32_t route_open(const struct route *route, uint32_t skip, bool room);
/* Which is looked at again after so long, where nobody says that there is room. */
#define ROUTE_FULL_US (15 * US_PER_S)

/* The next target to ask: of those that are neither shut nor full nor in @skip (bit per index). NULL otherwise, with the time in @ret_wait_us until the
 * first that is only shut, or full, may return; 0 where none will: all are skipped, or refused our account. */
struct target *route_choose(const struct route *route, uint32_t skip, struct rand *rand,
			    size_t *ret_index, uint64_t *ret_wait_us);
/* When the first of its targets may be asked again, those that refused the key or the credit as well; 0: one may now, or never. */
uint64_t route_back_us(const struct route *route);
/* Whether there is one; else *ret_wait_us as route_choose. */
bool route_lets(const struct route *route, uint32_t skip, uint64_t *ret_wait_us);
/* The index of the target that is @target's account, by its name, and model, of this configuration or of one before; -1: there is none. */
int route_place(const struct route *route, const struct target *target);
/* The index of @target where it is not in @skip and may be asked; -1: it may not. */
int route_lets_this(const struct route *route, const struct target *target, uint32_t skip);

/* A job is at hand whose call to @target would begin now: may it? Where not and target_asks, the others are asked for the lease of its probe,
 * or of its account's: a moment (breaker.h). */
bool target_ready(struct target *target);
bool target_asks(const struct target *target);
/* What a call finds out: whether its account, its target or both, which were shut until now, are well again. */
enum probe { PROBE_NONE, PROBE_ACCOUNT, PROBE_TARGET, PROBE_BOTH };
/* @target is asked now. Until a probe answers, fails or is left nobody else asks, so that an outage costs tries to few jobs and the others
 * wait. */
enum probe target_asked(struct target *target);
/* The call's end, of which nothing more is to be learned (target_learn came before, or never). @probe: as target_asked said. */
void target_left(struct target *target, enum probe probe);
/* Its first output is there, @after_us: whoever waits for the probe may ask. */
void target_answers(struct target *target, uint64_t after_us);

/* It was given up after so long, without a first token, as another was quicker. */
void target_late(struct target *target, uint64_t after_us);
/* So long without a first token of @target is worth a second one beside it; @unknown_us while too little is known. */
uint64_t target_slow_us(const struct target *target, uint64_t unknown_us);

/* What a call taught about its target. FAULT_NONE: it is well. */
void target_learn(struct target *target, enum fault fault, int64_t retry_after_ms);

/* For metrics and readiness: the accounts in their order; NULL behind the last. */
struct account *routes_account(const struct routes *routes, size_t index);

#endif
