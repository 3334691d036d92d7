/* Waits that are too long for a pool: the job's record is made again in a tier, with what its work learned (tries, calls, when it is
 * due), and the scheduler brings it back to its lane. The order loses nothing and runs nothing twice: tier record acknowledged →
 * stored copy raised (fenced, with the claim given back) → the lane's record marked. A process that dies in between leaves a lane
 * record that defers again or is void by its copy. It refuses to wait itself: work.c's BACKOFF does for what is shorter.
 *
 *   SLOT, CALLING, LOADING, CLAIMING ──▶ DEFERRING: tier record ──▶ copy raised ──▶ OVER */
#ifndef SLUICE_POOL_RETRY_H
#define SLUICE_POOL_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"

struct work;

/* True where the wait of @us is one for a tier and has begun there: the work is not to be touched any more. False where it is short
 * (pool.defer_ms), or where the job's time is over before it ends. */
bool retry_defer(struct work *w, uint64_t us);
/* The same where the wait is not long, but too much of the lane waits (overflow.h). */
bool retry_overflow(struct work *w, uint64_t us);
/* The same for one that waits for that already (a target, a budget), where the wait is to last for longer than @least_us. False where it
 * waits for anything else or runs. */
bool retry_overflow_waiting(struct work *w, uint64_t least_us);
/* The same for one that is not claimed: it is, only to be put off. */
bool retry_overflow_unclaimed(struct work *w);
/* A claim was granted: true where the job is not due for long (as retry_defer) or overflows, or the record is a nudge without a body whose reason
 * has gone (void). */
bool retry_first_sight(struct work *w);
/* Everything is loaded: a slot now, or when the job is due. */
void retry_wait_due(struct work *w);
/* The claim was lost while it deferred, and is won again. */
void retry_go_on(struct work *w);
/* The calls of before, from the record's head into the ledger. */
void retry_recall(struct work *w);
/* Room in the ledger for one more call: the oldest that was refused for its rate goes. */
void retry_forget_oldest(struct work *w);
/* The job's record as it may stand on a lane again. */
void retry_body(const struct work *w, struct buf *out);

#endif
