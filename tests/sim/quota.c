#include "tests/sim/quota.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

void quota_init(struct quota *q, const struct quota_limits *limits, uint64_t now_us)
{
	*q = (struct quota){.limits = *limits, .at_us = now_us, .from_us = now_us};
	for (int i = 0; i < QUOTA_WHATS; i++)
		q->level[i] = (double)limits->minute[i] * (double)limits->burst_s / 60.0;
}

void quota_fini(struct quota *q)
{
	mem_free(q->steps);
	mem_free(q->seconds);
}

static double bucket_cap(const struct quota *q, int what)
{
	return (double)q->limits.minute[what] * (double)q->limits.burst_s / 60.0;
}

/* Refills the bucket and lets the window forget. */
static void quota_turn(struct quota *q, uint64_t now_us)
{
	double minutes = (double)(now_us - q->at_us) / (60.0 * US_PER_S);
	uint64_t step = now_us / QUOTA_STEP_US;
	for (int i = 0; i < QUOTA_WHATS; i++) {
		double more = q->level[i] + (double)q->limits.minute[i] * minutes;
		q->level[i] = more > bucket_cap(q, i) ? bucket_cap(q, i) : more;
	}
	q->at_us = now_us;
	while (q->step_count) {
		const struct quota_use *s = &q->steps[q->step_head];
		if (step - s->at <= QUOTA_WINDOW_US / QUOTA_STEP_US)
			break;
		for (int i = 0; i < QUOTA_WHATS; i++)
			q->window[i] -= s->use[i];
		q->step_head = (q->step_head + 1) % q->step_cap;
		q->step_count--;
	}
}

void quota_limit(struct quota *q, const struct quota_limits *limits, uint64_t now_us)
{
	quota_turn(q, now_us);
	for (int i = 0; i < QUOTA_WHATS; i++) {
		double missing = bucket_cap(q, i) - q->level[i];
		q->level[i] = (double)limits->minute[i] * (double)limits->burst_s / 60.0 - missing;
	}
	q->limits = *limits;
}

/* ---- what is kept ---- */

static struct quota_use *step_now(struct quota *q, uint64_t now_us)
{
	uint64_t at = now_us / QUOTA_STEP_US;
	size_t last = (q->step_head + q->step_count - 1) % (q->step_cap ? q->step_cap : 1);
	if (q->step_count && q->steps[last].at == at)
		return &q->steps[last];
	if (q->step_count == q->step_cap) {
		size_t cap = q->step_cap ? q->step_cap * 2 : 64;
		struct quota_use *more = mem_alloc(cap * sizeof(*more));
		for (size_t i = 0; i < q->step_count; i++)
			more[i] = q->steps[(q->step_head + i) % q->step_cap];
		mem_free(q->steps);
		q->steps = more;
		q->step_head = 0;
		q->step_cap = cap;
	}
	last = (q->step_head + q->step_count++) % q->step_cap;
	q->steps[last] = (struct quota_use){.at = at};
	return &q->steps[last];
}

static struct quota_use *second_now(struct quota *q, uint64_t now_us)
{
	uint64_t at = (now_us - q->from_us) / US_PER_S;
	if (q->second_count && q->seconds[q->second_count - 1].at == at)
		return &q->seconds[q->second_count - 1];
	if (q->second_count == QUOTA_HISTORY_S) {
		q->second_count /= 2;
		memmove(q->seconds, q->seconds + QUOTA_HISTORY_S - q->second_count,
			q->second_count * sizeof(*q->seconds));
	}
	if (q->second_count == q->second_cap) {
		size_t cap = q->second_cap ? q->second_cap * 2 : 64;
		struct quota_use *more = mem_alloc(cap * sizeof(*more));
		if (q->second_count)
			memcpy(more, q->seconds, q->second_count * sizeof(*more));
		mem_free(q->seconds);
		q->seconds = more;
		q->second_cap = cap;
	}
	q->seconds[q->second_count] = (struct quota_use){.at = at};
	return &q->seconds[q->second_count++];
}

static void quota_put(struct quota *q, uint64_t now_us, const uint64_t use[static QUOTA_WHATS])
{
	struct quota_use *step = step_now(q, now_us);
	struct quota_use *second = second_now(q, now_us);
	for (int i = 0; i < QUOTA_WHATS; i++) {
		q->level[i] -= (double)use[i];
		step->use[i] += use[i];
		second->use[i] += use[i];
		q->window[i] += use[i];
		q->used[i] += use[i];
		if (q->window[i] > q->highest[i])
			q->highest[i] = q->window[i];
	}
}

/* ---- what is asked ---- */

/* Micro-seconds until the window holds @need again. */
static uint64_t window_wait_us(const struct quota *q, uint64_t now_us, int what, uint64_t need)
{
	uint64_t limit = q->limits.minute[what];
	uint64_t held = q->window[what];
	if (need > limit)
		return UINT64_MAX;
	for (size_t i = 0; i < q->step_count && held + need > limit; i++) {
		const struct quota_use *s = &q->steps[(q->step_head + i) % q->step_cap];
		held -= s->use[what];
		if (held + need <= limit)
			return (s->at + 1) * QUOTA_STEP_US + QUOTA_WINDOW_US - now_us;
	}
	return 0;
}

static uint64_t bucket_wait_us(const struct quota *q, int what, uint64_t need)
{
	double short_by = (double)need - q->level[what];
	if (short_by <= 0)
		return 0;
	if ((double)need > bucket_cap(q, what))
		return UINT64_MAX;
	return (uint64_t)(short_by / (double)q->limits.minute[what] * 60.0 * US_PER_S) + 1;
}

static uint64_t wait_us(const struct quota *q, uint64_t now_us, int what, uint64_t need)
{
	uint64_t wait = 0;
	if (need == 0)
		return 0;
	if (q->limits.kind & QUOTA_WINDOW)
		wait = window_wait_us(q, now_us, what, need);
	if (q->limits.kind & QUOTA_BUCKET) {
		uint64_t more = bucket_wait_us(q, what, need);
		wait = more > wait ? more : wait;
	}
	return wait;
}

bool quota_take(struct quota *q, uint64_t now_us, const uint64_t need[static QUOTA_WHATS],
		const uint64_t charge[static QUOTA_WHATS], enum quota_what *ret_what,
		uint64_t *ret_wait_us)
{
	uint64_t longest = 0;
	int what = 0;
	quota_turn(q, now_us);
	for (int i = 0; i < QUOTA_WHATS; i++) {
		uint64_t wait = wait_us(q, now_us, i, need[i]);
		if (wait > longest) {
			longest = wait;
			what = i;
		}
	}
	if (longest == 0) {
		q->granted++;
		quota_put(q, now_us, charge);
		return true;
	}
	q->refused++;
	q->refused_for[what]++;
	second_now(q, now_us)->refused++;
	*ret_what = (enum quota_what)what;
	*ret_wait_us = longest;
	return false;
}

void quota_charge(struct quota *q, uint64_t now_us, enum quota_what what, uint64_t count)
{
	uint64_t use[QUOTA_WHATS] = {0};
	if (count == 0)
		return;
	quota_turn(q, now_us);
	use[what] = count;
	quota_put(q, now_us, use);
}

uint64_t quota_left(struct quota *q, uint64_t now_us, enum quota_what what)
{
	uint64_t left = UINT64_MAX;
	quota_turn(q, now_us);
	if (q->limits.kind & QUOTA_WINDOW)
		left = q->window[what] < q->limits.minute[what]
			   ? q->limits.minute[what] - q->window[what]
			   : 0;
	if (q->limits.kind & QUOTA_BUCKET) {
		uint64_t held = q->level[what] > 0 ? (uint64_t)q->level[what] : 0;
		left = held < left ? held : left;
	}
	return left;
}

uint64_t quota_full_us(struct quota *q, uint64_t now_us, enum quota_what what)
{
	uint64_t wait = 0;
	quota_turn(q, now_us);
	for (size_t i = q->step_count; (q->limits.kind & QUOTA_WINDOW) && i-- > 0;) {
		const struct quota_use *s = &q->steps[(q->step_head + i) % q->step_cap];
		if (s->use[what] == 0)
			continue;
		wait = (s->at + 1) * QUOTA_STEP_US + QUOTA_WINDOW_US - now_us;
		break;
	}
	if ((q->limits.kind & QUOTA_BUCKET) && q->limits.minute[what]) {
		double missing = bucket_cap(q, what) - q->level[what];
		uint64_t more =
		    (uint64_t)(missing / (double)q->limits.minute[what] * 60.0 * US_PER_S);
		wait = more > wait ? more : wait;
	}
	return wait;
}
