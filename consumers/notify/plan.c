#include "consumers/notify/plan.h"

#include "lib/base/clock.h"

bool plan_read(struct plan *plan, struct str text)
{
	struct str one;

	*plan = (struct plan){0};
	while (str_split(&text, ',', &one)) {
		uint64_t us = 0;

		if (plan->count == PLAN_WAITS_MAX ||
		    clock_parse_go(str_trim(one), &us) != CLOCK_OK || us < US_PER_MS)
			return false;
		plan->wait_ms[plan->count++] = us / US_PER_MS;
	}
	return plan->count > 0;
}

bool plan_seconds(struct str value, uint64_t *ret_ms)
{
	uint64_t seconds;

	for (size_t i = 0; i < value.len; i++)
		if (value.ptr[i] < '0' || value.ptr[i] > '9')
			return false;
	if (!value.len)
		return false;
	*ret_ms =
	    str_u64(value, &seconds) && seconds < UINT64_MAX / 1000 ? seconds * 1000 : UINT64_MAX;
	return true;
}

enum plan_verdict plan_verdict(const struct plan *plan, int status, int64_t tries)
{
	if (status >= 200 && status <= 299)
		return PLAN_DELIVERED;
	if (status == 410 || tries > plan->count)
		return PLAN_GIVE_UP;
	return PLAN_AGAIN;
}

uint64_t plan_wait_ms(const struct plan *plan, int status, int64_t tries, uint64_t retry_after_ms)
{
	int64_t at = tries < 1 ? 0 : tries > plan->count ? plan->count - 1 : tries - 1;
	uint64_t wait = plan->wait_ms[at], longest = 0;

	for (int64_t i = 0; i < plan->count; i++)
		if (plan->wait_ms[i] > longest)
			longest = plan->wait_ms[i];
	if ((status == 429 || status == 503) && retry_after_ms > wait)
		wait = retry_after_ms;
	return wait < longest ? wait : longest;
}
