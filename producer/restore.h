/* A session that Redis does not have (it lost it, or its time was over) is brought back from PostgreSQL: its settings, its
 * last turn's job and its conversation, from the results' own messages and answers. Refuses sessions that were deleted or
 * whose time is over since their last turn. */
#ifndef SLUICE_PRODUCER_RESTORE_H
#define SLUICE_PRODUCER_RESTORE_H

#include <stdint.h>

#include "lib/base/str.h"

struct pg;
struct redis;
struct restore;

enum restored {
	RESTORED_OK,
	RESTORED_MISSING, /* there is no such session of this organisation */
	RESTORED_UNSURE,  /* PostgreSQL or Redis did not say */
};

/* @done comes once, from the loop. */
struct restore *restore_open(struct redis *redis, struct pg *pg, struct str session, struct str org,
			     uint64_t now_wall_ms, void (*done)(void *ctx, enum restored result),
			     void *ctx);
/* No callback. Accepts NULL; not after @done. */
void restore_cancel(struct restore *restore);

#endif
