#include "lib/relay/pace.h"

/* Twice the longest gap: answers that go in step are seen twice in it. */
#define WINDOW_US (2 * PACE_MAX_US)
#define US UINT64_C(1000000)
/* Nothing was sent for so long: what was before says nothing. */
#define FORGET_US UINT64_C(1000000)

/* The gap of the next window, from what the last one, @long_us, has sent. */
static uint64_t adapted(const struct pace *p, uint64_t long_us)
{
	uint64_t rate = p->sent * US / long_us;
	uint64_t gap = p->gap_us > PACE_MIN_US ? p->gap_us : PACE_MIN_US;

	if (rate > p->per_s) {
		/* Capped before it is multiplied: nothing is sent a thousand times too fast. */
		uint64_t over = rate / p->per_s < 1000 ? rate : p->per_s * 1000;

		gap = gap * over / p->per_s;
		return gap < PACE_MAX_US ? gap : PACE_MAX_US;
	}
	if (rate >= p->per_s / 2)
		return p->gap_us;
	return p->gap_us / 2 >= PACE_MIN_US ? p->gap_us / 2 : 0;
}

static void look(struct pace *p, uint64_t now_us)
{
	uint64_t past = now_us - p->window_us;

	if (past < WINDOW_US)
		return;
	p->gap_us = past < FORGET_US ? adapted(p, past) : 0;
	p->window_us = now_us;
	p->sent = 0;
}

void pace_count(struct pace *p, uint64_t now_us)
{
	if (!p->per_s)
		return;
	look(p, now_us);
	p->sent++;
}

uint64_t pace_gap_us(struct pace *p, uint64_t now_us)
{
	if (!p->per_s)
		return 0;
	look(p, now_us);
	return p->gap_us;
}
