/* Targets: who may serve a job, and which of them is asked next. A target is an account at a provider and a model; one client (a
 * pool of connections) per account. Refuses to call: call.h does. */
#ifndef SLUICE_POOL_ROUTE_H
#define SLUICE_POOL_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/log.h"
#include "lib/base/str.h"
#include "lib/net/client.h"
#include "schemas/fault.h"

struct config;
struct config_account;
struct loop;
struct rand;
struct provider;

/* An account with its connections. */
struct account {
	const struct config_account *config;
	const struct provider *provider;
	struct client *client;
	uint64_t
	    out_until_us; /* loop time; key or credit refused: out until then, nobody waits for it */
};

struct target {
	struct account *account;
	const char *model;
	uint64_t shut_until_us; /* loop time; after faults or a 429 */
	unsigned failures;	/* in a row */
	double input_per_byte;	/* tokens per byte of a request, as its answers say; 0: not known */
	double output_tokens;	/* of an answer, on average; 0: not known */
	uint64_t
	    probe_until_us; /* loop time; it was shut, and one call finds out whether it is well */
};

/* All targets of one configuration; reference-counted, since calls outlive a reload. */
struct routes;

/* Opens a client per account. -EINVAL with a log line for an account that cannot be used. */
must_check int routes_open(struct loop *loop, const struct config *config, const struct log *log,
			   struct routes **ret_routes);
struct routes *routes_ref(struct routes *routes);
void routes_unref(struct routes *routes); /* accepts NULL */

#define ROUTE_TARGETS_MAX 16

/* The targets of a job: by its task, its model's alias, or a provider's model that some route names. */
struct route {
	struct target *targets[ROUTE_TARGETS_MAX];
	size_t count;
	const char *system; /* "" for none */
	int64_t max_tokens; /* 0: none */
};
enum route_found { ROUTE_FOUND = 0, ROUTE_UNKNOWN = 1 };
must_check enum route_found route_find(struct routes *routes, struct str task, struct str model,
				       struct route *ret_route);

/* The next target to ask: the first in order that is neither out nor shut nor in @tried (bit per index). NULL otherwise, with the time in
 * @ret_wait_us until the first that is only shut returns; 0 where none will: all were tried, or their accounts are out. */
struct target *route_choose(const struct route *route, uint32_t tried, uint64_t now_us,
			    size_t *ret_index, uint64_t *ret_wait_us);

/* @target is asked now. Where it was shut until now the call is a probe: until it answers, fails, or was silent for long, nobody else asks,
 * so that an outage costs tries to few jobs and the others wait. */
void target_asked(struct target *target, uint64_t now_us);
/* Its first output is there: whoever waits for the probe may ask. */
void target_answers(struct target *target);

/* What a call taught about its target. FAULT_NONE: it is well. */
void target_learn(struct target *target, enum fault fault, int64_t retry_after_ms, uint64_t now_us,
		  struct rand *rand);

/* For metrics and readiness: the accounts in their order; NULL behind the last. */
struct account *routes_account(const struct routes *routes, size_t index);

#endif
