/* What one key may ask of one model in a minute, and what it has asked: a true sliding minute, a continuously refilled
 * bucket, or both. Refuses to know a dialect or a clock: the time comes with every call and never goes back. */
#ifndef SLUICE_TESTS_SIM_QUOTA_H
#define SLUICE_TESTS_SIM_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

#define QUOTA_WINDOW_US UINT64_C(60000000)
/* The sliding minute forgets in steps of this; what was taken counts for 60 to 60.02 s, never less. */
#define QUOTA_STEP_US UINT64_C(10000)
/* Seconds of history. */
#define QUOTA_HISTORY_S 14400

enum quota_kind { QUOTA_BUCKET = 1, QUOTA_WINDOW = 2, QUOTA_BOTH = 3 };
enum quota_what { QUOTA_REQUESTS, QUOTA_INPUT, QUOTA_OUTPUT, QUOTA_WHATS };

struct quota_limits {
	enum quota_kind kind;
	uint64_t burst_s; /* a full bucket holds what flows in so long: 60, the whole minute's */
	uint64_t minute[QUOTA_WHATS]; /* a minute */
};

struct quota_use {
	uint64_t at; /* step, or second since the beginning */
	uint64_t use[QUOTA_WHATS];
	uint64_t refused;
};

struct quota {
	struct quota_limits limits;
	double level[QUOTA_WHATS]; /* of the bucket; below zero where output was made beyond it */
	uint64_t at_us;		   /* of the level */
	uint64_t from_us;	   /* the beginning of the history */
	struct quota_use *steps;   /* of the sliding minute, oldest first */
	size_t step_head;
	size_t step_count;
	size_t step_cap;
	uint64_t window[QUOTA_WHATS]; /* their sum */
	struct quota_use *seconds;    /* those with any use, oldest first */
	size_t second_count;
	size_t second_cap;
	uint64_t granted; /* requests */
	uint64_t refused;
	uint64_t refused_for[QUOTA_WHATS];
	uint64_t used[QUOTA_WHATS];
	uint64_t highest[QUOTA_WHATS]; /* in any sliding minute */
};

/* The bucket is full at first. */
void quota_init(struct quota *q, const struct quota_limits *limits, uint64_t now_us);
void quota_fini(struct quota *q);
/* Changes the limits; what has been taken stays taken. */
void quota_limit(struct quota *q, const struct quota_limits *limits, uint64_t now_us);

/* True: @need of each was there, and @charge has been taken. False: nothing was taken, *@ret_what was short, and would
 * suffice after *@ret_wait_us (UINT64_MAX: never, it is above the limit). */
bool quota_take(struct quota *q, uint64_t now_us, const uint64_t need[static QUOTA_WHATS],
		const uint64_t charge[static QUOTA_WHATS], enum quota_what *ret_what,
		uint64_t *ret_wait_us);
/* Takes @count without asking: output while it is made. */
void quota_charge(struct quota *q, uint64_t now_us, enum quota_what what, uint64_t count);
/* What is left at @now_us: the smaller of bucket and window where both hold. */
uint64_t quota_left(struct quota *q, uint64_t now_us, enum quota_what what);
/* Micro-seconds until everything is there again. */
uint64_t quota_full_us(struct quota *q, uint64_t now_us, enum quota_what what);

#endif
