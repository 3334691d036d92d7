/* One try of one webhook, from its claim to the end that is stored. Refuses to decide when it begins (notify.h) and what follows from
 * an answer (plan.h).
 *
 *   LOOKING (the result; the secret is made where the organisation has none) ─▶ SENDING ─▶ SAVING ─▶ gone */
#ifndef SLUICE_NOTIFY_DELIVERY_H
#define SLUICE_NOTIFY_DELIVERY_H

#include <stdint.h>

#include "lib/base/str.h"

struct delivery;
struct notify;

/* What was claimed; copied. */
struct delivery_request {
	struct str job;
	struct str org;
	struct str url;
	struct str origin;
	struct str
	    secrets;   /* at most two, a blank between them; empty: the organisation has none yet */
	int64_t tries; /* this one included */
	int64_t created_ms;
	uint64_t lease_ms; /* so long the claim holds from now on */
};

/* Begins; frees itself when it is over, and then looks for the next. */
void delivery_begin(struct notify *notify, const struct delivery_request *request);
/* Ends it without a trace but the claim. */
void delivery_drop(struct delivery *delivery);
/* For the list of all. */
struct list;
struct delivery *delivery_of(struct list *link);

#endif
