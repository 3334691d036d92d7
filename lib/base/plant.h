/* Planted defects: places in the product where the deterministic world switches a mistake on, to show that it would be found. In every
 * other build PLANTED is the constant 0 and nothing of it is compiled in. Refuses to be used for anything but a mistake. */
#ifndef SLUICE_BASE_PLANT_H
#define SLUICE_BASE_PLANT_H

#ifdef SLUICE_PLANTS
#include <stdbool.h>
/* clang-format off */
#define PLANTS(PLANT) \
	PLANT(COMMIT_BEFORE_RESULT, "marked before the result") \
	PLANT(BASE_PAST_HOLE, "base moves past a hole") \
	PLANT(CLAIM_NOT_RENEWED, "claim not renewed") \
	PLANT(CLAIM_LOST_UNSEEN, "a lost claim is not made again") \
	PLANT(RESULT_UNDECIDED, "result published before finishing") \
	PLANT(ATTEMPT_KEPT, "a retry keeps its attempt") \
	PLANT(TURN_IGNORED, "turn order ignored") \
	PLANT(BEFORE_IGNORED, "a refused turn opens the way") \
	PLANT(GAP_NOT_HEALED, "a follower's gap not healed") \
	PLANT(SILENCE_TRUSTED, "a follower never looks") \
	PLANT(UNSURE_ACCEPTED, "accepted without the broker's word") \
	PLANT(TIER_UNSURE, "put off without the broker's word") \
	PLANT(ARCHIVE_DROPS, "records during a batch dropped") \
	PLANT(SEAM_UNTOLD, "continue without the seam") \
	PLANT(HEDGE_BILLED, "hedge loser on the customer's bill") \
	PLANT(NEVER_HALF_OPEN, "breaker never half-opens") \
	PLANT(SETTLE_LOST, "a settlement is lost")
/* clang-format on */
enum plant {
#define PLANT_ENUM(name, what) PLANT_##name,
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
