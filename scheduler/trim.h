/* Deletes from lanes, tiers and results what all of their readers have passed: below the committed base of the consumer group, and of
 * results below what the archive has in PostgreSQL. Never beyond: a partition of which one reader is not known is left as it is, and
 * what is deleted is what had been passed a round ago. It refuses to touch dead letters: their time is Kafka's. */
#ifndef SLUICE_SCHEDULER_TRIM_H
#define SLUICE_SCHEDULER_TRIM_H

#include "lib/base/err.h"

struct lease;
struct scheduler;
struct trim;

/* @lease outlives it. */
must_check int trim_open(struct scheduler *s, const struct lease *lease, struct trim **ret_trim);
void trim_close(struct trim *trim); /* accepts NULL */

#endif
