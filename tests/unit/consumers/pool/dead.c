#include "consumers/pool/dead.h"
#include "tests/unit/test.h"

SUITE("consumers/pool/dead");

#define MAX_TRIES 4

static bool dead(const char *status, const char *fault, int64_t tries)
{
	struct result r;

	codec_init(&codec_result, &r);
	r.status = str_of(status);
	r.fault = str_of(fault);
	r.tries = tries;
	return dead_is(&r, MAX_TRIES);
}

TEST(a_job_that_used_up_its_tries_is_dead)
{
	ck_assert(dead("failed", "provider_overloaded", 4));
	ck_assert(dead("failed", "provider_transport", 5));
}

TEST(a_job_whose_workers_died_is_dead)
{
	ck_assert(dead("failed", "tries_exhausted", 4));
}

TEST(a_job_that_nobody_can_read_is_dead)
{
	ck_assert(dead("failed", "internal", 0));
}

TEST(a_job_that_was_refused_is_not_dead_at_any_try)
{
	ck_assert(!dead("failed", "provider_bad_request", 1));
	ck_assert(!dead("failed", "provider_content", 4));
}

TEST(a_job_with_tries_left_is_not_dead)
{
	ck_assert(!dead("failed", "provider_cut", 3));
}

TEST(only_what_failed_is_dead)
{
	ck_assert(!dead("succeeded", "", 4));
	ck_assert(!dead("expired", "expired", 4));
	ck_assert(!dead("cancelled", "cancelled", 4));
}
