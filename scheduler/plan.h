/* When a record leaves its tier, and for where. No I/O.
 *
 * A tier holds a record for its length at most, so that records leave it in the order in which they came and only its head is
 * waited for: a job due in four hours passes the tier of one hour four times. What is due within a minute goes to its lane: the pool
 * waits out the rest. */
#ifndef SLUICE_SCHEDULER_PLAN_H
#define SLUICE_SCHEDULER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/lane/lane.h"
#include "schemas/lanes.h"

/* ms since 1970 at which a record written at @written_ms and due at @due_ms leaves @tier. */
uint64_t plan_leave_ms(enum topic tier, int64_t due_ms, uint64_t written_ms);
/* True where it goes on to *@ret_tier; false where it goes to its lane. */
bool plan_passes_on(int64_t due_ms, uint64_t now_ms, enum topic *ret_tier);

/* What may be deleted of one partition: nothing until every one of its readers has been seen, then what all have passed, and have passed
 * since the round before (a commit that is tried again must not point below the log). */
struct plan_floor {
	int64_t offset;	  /* of this round: the lowest of its readers' */
	unsigned readers; /* seen in this round */
	int64_t before;	  /* of the round before; -1: none */
	int64_t trimmed;  /* done; 0: nothing */
};
void plan_floor_begin(struct plan_floor *floor);
void plan_floor_see(struct plan_floor *floor, int64_t offset);
/* The offset to delete below, 0 for nothing. @needed: its readers. Call once in a round. */
int64_t plan_floor_end(struct plan_floor *floor, unsigned needed);

#endif
