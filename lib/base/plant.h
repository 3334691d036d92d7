/* Planted defects: places in the product where the deterministic world switches a mistake on, to show that it would be found. In every
 * other build PLANTED is the constant 0 and nothing of it is compiled in. Refuses to be used for anything but a mistake. */
#ifndef SLUICE_BASE_PLANT_H
#define SLUICE_BASE_PLANT_H

#ifdef SLUICE_PLANTS
#include <stdbool.h>
/* What it is; and among how many histories at most it must be found. */
/* clang-format off */
#define PLANTS(PLANT) \
	PLANT(COMMIT_BEFORE_RESULT, "marked before the result", 400) \
	PLANT(BASE_PAST_HOLE, "base moves past a hole", 400) \
	PLANT(CLAIM_NOT_RENEWED, "claim not renewed", 400) \
	PLANT(CLAIM_LOST_UNSEEN, "a lost claim is not made again", 400) \
	PLANT(RESULT_UNDECIDED, "result published before finishing", 400) \
	PLANT(ATTEMPT_KEPT, "a retry keeps its attempt", 400) \
	PLANT(TURN_IGNORED, "turn order ignored", 400) \
	PLANT(BEFORE_IGNORED, "a refused turn opens the way", 400) \
	PLANT(GAP_NOT_HEALED, "a follower's gap not healed", 400) \
	PLANT(SILENCE_TRUSTED, "a follower never looks", 400) \
	PLANT(UNSURE_ACCEPTED, "accepted without the broker's word", 400) \
	PLANT(TIER_UNSURE, "put off without the broker's word", 400) \
	PLANT(ARCHIVE_DROPS, "records during a batch dropped", 400) \
	PLANT(SEAM_UNTOLD, "continue without the seam", 400) \
	PLANT(HEDGE_BILLED, "hedge loser on the customer's bill", 400) \
	PLANT(NEVER_HALF_OPEN, "breaker never half-opens", 400) \
	PLANT(LEASE_KEPT, "a probe's lease is kept unused", 2000) \
	PLANT(SETTLE_LOST, "a settlement is lost", 100) \
	PLANT(RESUME_BYTE_OFF, "a client resumes one byte off", 400) \
	PLANT(RESUME_CLAIMED, "a resume without the bytes", 400) \
	PLANT(RESET_UNTOLD, "a reset is not told", 400) \
	PLANT(GATHERED_TWICE, "gathered text goes twice", 400) \
	PLANT(SLOW_DROPS, "a slow reader's frames dropped", 400) \
	PLANT(BEFORE_ACCEPTED, "events before accepted", 400) \
	PLANT(REF_ANEW, "a ref said again is another job", 400) \
	PLANT(ACKED_AT_END, "acknowledged before delivery", 400) \
	PLANT(TOLD_AGAIN, "told twice on a connection", 400) \
	PLANT(ENDED_STAYS_OPEN, "an ended job stays open", 2000) \
	PLANT(OUTBOX_REDIS_ALONE, "outbox unread after a loss", 400) \
	PLANT(OUTBOX_TRUSTED, "an old session's outbox is trusted", 2500) \
	PLANT(TAKEOVER_UNHEARD, "a taken-over client stays", 400) \
	PLANT(TAKEN_BACK, "an older client takes the line", 400) \
	PLANT(DRAIN_CUTS, "drain cuts without a word", 400) \
	PLANT(PICKUP_FORGOTTEN, "a new owner counts the queue again", 400) \
	PLANT(PAST_UNREAD, "a dead owner's text is lost", 400) \
	PLANT(PAST_UNASKED, "what ended runs again after a loss", 2000)
/* clang-format on */
enum plant {
#define PLANT_ENUM(name, what, most) PLANT_##name,
	PLANTS(PLANT_ENUM) PLANT_COUNT
#undef PLANT_ENUM
};
/* The only global state of the product's archive, and only in the world's build. */
extern bool plants_on[PLANT_COUNT];
#define PLANTED(name) plants_on[PLANT_##name]
#else
#define PLANTED(name) 0
#endif

#endif
