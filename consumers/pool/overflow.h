/* When half of a lane's window waits for anything but a slot (a target, a turn, another holder), nothing new can be read behind it soon.
 * The same where such waits fill half of the room that a partition's commits have for what is completed beyond them (lane.h): it would
 * give out nothing more. Then what waits longer goes to a tier, as retry.h does it with long waits, and comes back through the scheduler:
 * the window is for jobs that can run. A token bucket limits how many go. Refuses to choose: whoever begins such a wait while there are
 * too many goes, and each second those that wait already, the oldest first. Who has little time left comes back within half of it, and at the latest before it is over, so that jobs with short limits
 * do not hold the window for all of them. */
#ifndef SLUICE_POOL_OVERFLOW_H
#define SLUICE_POOL_OVERFLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct work;

/* Of one lane; zeroed. */
struct overflow {
	size_t parked; /* works that wait for something else than a slot */
	size_t parked_bytes;
	double tokens;
	uint64_t filled_us; /* 0: never; then the bucket is full */
};

/* Until the job is out of time, ms: to be started, or at all; very long where it has no limit. */
uint64_t overflow_left_ms(const struct work *w, uint64_t now_wall_ms);
/* The work begins or ceases to wait for something else than a slot. Said again: nothing changes. */
void overflow_parks(struct work *w, bool parks);
/* True where @w, which waits for @us from now on, is to go: a token was taken, and *@ret_due_wall_ms is when it may come back. */
bool overflow_takes(struct work *w, uint64_t us, uint64_t *ret_due_wall_ms);

#endif
