/* Who fills a provider's prompt cache: of jobs that begin with the same bytes (rubrics, long system prompts) one is asked first, and the others
 * wait until its answer begins, since only then can they read what it wrote. For jobs that nobody watches; an interactive one
 * never waits for that. Kept per process: two pools may both fill it. Refuses to wait for long: what does not begin is no reason. */
#ifndef SLUICE_POOL_WARM_H
#define SLUICE_POOL_WARM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/map.h"

struct target;

/* Zeroed is empty. */
struct warm {
	struct map prefixes;
};
void warm_fini(struct warm *warm);

/* May a request that begins with @key (provider_request.cache_key; 0: nothing) be made to @target now? Where it may and the prefix is cold,
 * it is the one that fills it. False: not before warm_begins, or @ret_wait_us. */
bool warm_asks(struct warm *warm, const struct target *target, uint64_t key, uint64_t now_us,
	       uint64_t *ret_wait_us);
/* An answer that begins with it has begun: true where others may have waited for that. */
bool warm_begins(struct warm *warm, const struct target *target, uint64_t key, uint64_t now_us);

#endif
