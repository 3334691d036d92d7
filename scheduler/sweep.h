/* Open jobs that nobody holds and that have to end: over their time, or cancelled while they wait in a tier. A pool ends a job, in its own
 * order; the sweeper only writes a nudge to the job's lane: a record with its head and no body. The pool claims it and finds that
 * the job has to end; where that is not so any more the nudge is void. It refuses to end a job itself. */
#ifndef SLUICE_SCHEDULER_SWEEP_H
#define SLUICE_SCHEDULER_SWEEP_H

#include "lib/base/err.h"

struct lease;
struct scheduler;
struct sweep;

/* @lease outlives it. */
must_check int sweep_open(struct scheduler *s, const struct lease *lease, struct sweep **ret_sweep);
void sweep_close(struct sweep *sweep); /* after the stores and the writer; accepts NULL */

#endif
