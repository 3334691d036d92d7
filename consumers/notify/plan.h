/* What follows from a try: delivered, tried again and when, or given up. Pure; refuses to know a clock or to do it. */
#ifndef SLUICE_NOTIFY_PLAN_H
#define SLUICE_NOTIFY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/str.h"

#define PLAN_WAITS_MAX 32

/* Waits between tries. */
struct plan {
	uint64_t wait_ms[PLAN_WAITS_MAX];
	int64_t count;
};

/* Reads "5s,30s,2m,1h"; false where it does not parse, is empty or too long. */
bool plan_read(struct plan *plan, struct str text);

/* A Retry-After of seconds (RFC 9110, 10.2.3; the other form is a date): false where it is none. What is too large for a number is UINT64_MAX. */
bool plan_seconds(struct str value, uint64_t *ret_ms);

enum plan_verdict { PLAN_DELIVERED, PLAN_AGAIN, PLAN_GIVE_UP };

/* 2xx: delivered. 410: given up, the receiver wants no more. Everything else (a redirect, which is not followed; any other 4xx, since
 * a receiver's mistake may be mended; 5xx; no answer, @status 0) is tried again, while @tries begun leave a wait. */
enum plan_verdict plan_verdict(const struct plan *plan, int status, int64_t tries);

/* How long to wait after @tries tries: the plan's own, or what the receiver asked for (@retry_after_ms, honoured with 429 and 503) where
 * that is longer, but no longer than the plan's longest. */
uint64_t plan_wait_ms(const struct plan *plan, int status, int64_t tries, uint64_t retry_after_ms);

#endif
