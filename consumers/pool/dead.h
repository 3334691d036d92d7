/* Dead letters: the whole history of a job that used up its tries or that nobody can read, on the topic `dead`, before its end is
 * published. An outage writes none: a job that waits for a shut target burns no try. It refuses to decide the end: finish.c does. */
#ifndef SLUICE_POOL_DEAD_H
#define SLUICE_POOL_DEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/lane/lane.h"
#include "schemas/codec.h"

struct work;

/* True where @result is the end of a job that belongs to the dead letters. @max_tries: how often a provider may be asked. */
bool dead_is(const struct result *result, int64_t max_tries);
/* Writes the letter; the same job may have several (a redelivery in between): readers take the last. @written as lane_write says. */
void dead_write(struct work *w, const struct result *result,
		void (*written)(void *ctx, enum lane_written result, int32_t partition,
				int64_t offset));

#endif
