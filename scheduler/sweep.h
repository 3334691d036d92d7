/* Open jobs that nobody holds and that have to end: over their time, or cancelled, while they wait in a tier or behind others in their
 * lane. A pool ends a job; the sweeper only writes a nudge: a record with its head and no body, to the interactive lane whatever
 * the job's own is, since it costs nobody a slot and somebody waits for it. The pool claims it and finds that the job has to end;
 * where that is not so any more the nudge is void. It refuses to end a job itself. */
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
