/* How long the text of an answer is gathered before it goes on, to Redis or to a socket: not at all while the process sends few deltas,
 * 25 to 250 ms when it would send more than it is to, so that ten thousand answers do not become a write for each token. Refuses to
 * know clocks, jobs and sockets: its owner counts and asks.
 *
 * Each half second the gap is made what would have kept to the limit; it is halved when less than half of that is sent. */
#ifndef SLUICE_RELAY_PACE_H
#define SLUICE_RELAY_PACE_H

#include <stdint.h>

#define PACE_MIN_US UINT64_C(25000)
#define PACE_MAX_US UINT64_C(250000)

/* Zero-initialised with its limit. */
struct pace {
	uint64_t per_s; /* deltas of the process in a second; 0: no limit */
	uint64_t window_us;
	uint64_t sent; /* since then */
	uint64_t gap_us;
};

/* A delta was sent. */
void pace_count(struct pace *p, uint64_t now_us);
/* Between two deltas of one answer; 0: at once. */
uint64_t pace_gap_us(struct pace *p, uint64_t now_us);

#endif
