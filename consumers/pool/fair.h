/* Fairness between tenants in one lane of one pool: stride scheduling by start tags. Each job that arrives gets a tag: the lane's virtual
 * time, or where its tenant's last job ended, whichever is later; jobs are begun in the order of their tags. A tenant with 15,000 jobs has
 * tags far into the virtual future; another's one job gets a tag near the present and is next. Refuses to hold jobs: their owner keeps them
 * in a heap by tag. */
#ifndef SLUICE_POOL_FAIR_H
#define SLUICE_POOL_FAIR_H

#include <stdint.h>

#include "lib/base/map.h"
#include "lib/base/str.h"

/* Zeroed + fair_init. */
struct fair {
	struct map tenants; /* last tag of each; forgotten when it lies in the past */
	uint64_t now;	    /* virtual time: the highest tag of a job that was begun */
	size_t sweep_at;
};

void fair_init(struct fair *f, uint64_t seed);
void fair_fini(struct fair *f);
/* The tag of a job of @tenant that arrives now. @cost: estimated tokens (at least 1 is taken, at most 2^20: more than that a tenant cannot
 * claim in advance, nor can it put virtual time out of step for the others); @weight: the tenant's share, 1 for most, at most 1000:
 * while both wait, a tenant of weight 4 is given four times the tokens of one of weight 1. A weight that changes holds for the jobs that
 * arrive from then on. */
uint64_t fair_tag(struct fair *f, struct str tenant, uint64_t cost, uint32_t weight);
/* The job with @tag is begun: virtual time goes on to it. */
void fair_begun(struct fair *f, uint64_t tag);

#endif
