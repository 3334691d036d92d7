/* Tiers to lanes: reads the tiers as a member of the consumer group `scheduler`, holds each record until it leaves (plan.h), and writes
 * it to its lane, or to a tier again. The new record is acknowledged, then the old one is marked: a process that dies in between leaves
 * two of one copy, of which claims let one run. It refuses to read a body.
 *
 *   HOLDING ──left──▶ WRITING ──acknowledged──▶ marked
 *                        ▲ └──not──▶ AGAIN ─┐
 *                        └──────────────────┘ */
#ifndef SLUICE_SCHEDULER_LATER_H
#define SLUICE_SCHEDULER_LATER_H

#include <stdbool.h>

#include "lib/base/err.h"

struct later;
struct scheduler;

must_check int later_open(struct scheduler *s, struct later **ret_later);
bool later_ready(const struct later *later);
/* Sets the gauges. */
void later_measure(struct later *later);
/* Takes nothing more, waits for what is being written, commits, then calls @drained; what is held comes back to the next process. */
void later_drain(struct later *later, void (*drained)(void *ctx), void *ctx);
/* The writer is closed before. Accepts NULL. */
void later_close(struct later *later);

#endif
