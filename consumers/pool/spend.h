/* What a work's call costs its target's budget (budget.h): estimated before it is made, reserved or waited for without a slot, settled when it
 * is over. Refuses to choose targets: ask.c does, and leaves out those that this says are short. */
#ifndef SLUICE_POOL_SPEND_H
#define SLUICE_POOL_SPEND_H

#include "consumers/pool/work.h"

enum spend {
	SPEND_GO,   /* nothing limits it, or it is reserved: make the call in this turn */
	SPEND_ASKS, /* the work is in WORK_BUDGET and goes on by itself (work_run, or ask_spent) */
};
/* May @w call @target with @request? SPEND_ASKS keeps @request (it is zeroed). */
enum spend spend_ask(struct work *w, struct target *target, struct provider_request *request);
/* All that are left were short: the one whose line is shortest for what @w asked last. NULL where none is left. */
struct target *spend_shortest(struct work *w, uint32_t skip, size_t *ret_index);
/* The longest answer to ask @target for where @w names none: what is asked for can be reserved. 0: its answers are not limited. */
int64_t spend_answer_tokens(const struct work *w, const struct target *target);
/* What a call to @t with @request may cost. */
void spend_expect(const struct target *t, const struct provider_request *request,
		  struct charge *ret_charge);
/* The call ended: @outcome as its provider told it. */
void spend_settle(struct work *w, const struct call_outcome *outcome);
/* When a call of @request_bytes to @t that was refused for its rate may be made again, ms, as the provider says it; where it says no more than
 * what remains and when that is refilled: when there will be enough for this call. -1: not said. @r: the call's, or one that is not OURS. */
int64_t spend_retry_after_ms(const struct target *t, const struct reservation *r,
			     size_t request_bytes, const struct call_outcome *outcome);
/* There will be no call, or its end was not seen: what was not called for is given back, what was counts as reserved. Safe where nothing
 * is reserved or asked. */
void spend_drop(struct work *w);
/* @w waits in a line and the configuration changed: it keeps its place where that is its target's line still and its route has no new
 * target; else it gives it up and asks anew. */
void spend_reconfigured(struct work *w);
/* The provider's limits, as its answer begins. */
void spend_learn(struct work *w, const struct call_outcome *outcome);
/* Waits in a budget's line. */
static inline bool spend_waits(const struct work *w)
{
	return w->reservation->state == RESERVATION_WAITING;
}

#endif
