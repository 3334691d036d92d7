#include "scheduler/plan.h"

/* What is due sooner than the shortest tier waits in a pool. */
#define SHORT_TOPIC TOPIC_LATER_1M

uint64_t plan_leave_ms(enum topic tier, int64_t due_ms, uint64_t written_ms)
{
	uint64_t most = written_ms + (uint64_t)tier_ms(tier);
	uint64_t due = due_ms > 0 ? (uint64_t)due_ms : 0;

	return due < most ? due : most;
}

bool plan_passes_on(int64_t due_ms, uint64_t now_ms, enum topic *ret_tier)
{
	int64_t wait_ms = due_ms - (int64_t)now_ms;

	if (wait_ms < tier_ms(SHORT_TOPIC))
		return false;
	*ret_tier = tier_for(wait_ms);
	return true;
}

void plan_floor_begin(struct plan_floor *floor)
{
	floor->readers = 0;
	floor->offset = 0;
}

void plan_floor_see(struct plan_floor *floor, int64_t offset)
{
	if (!floor->readers++ || offset < floor->offset)
		floor->offset = offset;
}

int64_t plan_floor_end(struct plan_floor *floor, unsigned needed)
{
	int64_t before = floor->before;
	int64_t goal;

	if (!needed || floor->readers < needed) {
		floor->before = -1;
		return 0;
	}
	floor->before = floor->offset;
	goal = before < floor->offset ? before : floor->offset;
	return goal > floor->trimmed ? goal : 0;
}
