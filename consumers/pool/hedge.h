/* Hedging: where a route says so (`hedge_ms`), an interactive job's call that has said nothing after longer than nineteen of twenty calls to
 * its target take gets a second one beside it, at another target, if that one's budget has room at once. The first to say anything
 * is the job's call; the other is ended, and what it cost is overhead: in the ledger, not on the customer's bill. Refuses to hedge
 * what goes on with a text, or a second time.
 *
 *   call begins ──slow──▶ budget ──▶ hedge asked ──says something──▶ it is the call (the other: overhead)
 *                                        ├──the call says something──▶ ended: overhead
 *                                        └──the call fails──▶ it is the call */
#ifndef SLUICE_POOL_HEDGE_H
#define SLUICE_POOL_HEDGE_H

#include <stdbool.h>

struct work;

void hedge_init(struct work *w);
/* @w's call began. */
void hedge_later(struct work *w);
/* There is no need of it any more; what it cost is noted. Safe where there is none. */
void hedge_drop(struct work *w);
/* @w's call failed before it said anything, and is noted: true where the hedge is its call from now on. */
bool hedge_takes_over(struct work *w);

#endif
