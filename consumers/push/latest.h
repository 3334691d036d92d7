/* The latest word about something that changes often, told at most once in so long: a newer word replaces one that was not told.
 * Refuses to know clocks and sockets: its owner asks when, and takes.
 */
#ifndef SLUICE_PUSH_LATEST_H
#define SLUICE_PUSH_LATEST_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"

/* Zero-initialised with its gap. */
struct latest {
	uint64_t gap_us; /* between two words */
	uint64_t told_us;
	bool told; /* one was, ever */
	struct buf text;
};

/* Takes the memory of @text. */
void latest_put(struct latest *l, struct buf *text);
bool latest_waits(const struct latest *l);
/* In how long a word may be told; 0: now. */
uint64_t latest_after_us(const struct latest *l, uint64_t now_us);
/* The word that waits, the caller's then, told at @now_us. False where none may be told now. */
bool latest_take(struct latest *l, uint64_t now_us, struct buf *ret_text);
/* What waits is not true any more; the pace stays. Also gives its memory back. */
void latest_drop(struct latest *l);

#endif
