#include "consumers/push/told.h"

#include <stdio.h>

#include "tests/unit/test.h"

SUITE("consumers/push/told");

static struct str job(unsigned number)
{
	static char text[32];
	int n = snprintf(text, sizeof(text), "job_%026u", number);

	return (struct str){text, (size_t)n};
}

TEST(what_was_told_is_known_and_nothing_else)
{
	struct told t = {0};

	ck_assert(!told_has(&t, job(1)));
	for (unsigned i = 0; i < 100; i++)
		told_add(&t, job(i));
	for (unsigned i = 0; i < 100; i++)
		ck_assert(told_has(&t, job(i)));
	ck_assert(!told_has(&t, job(100)));
	told_fini(&t);
}

TEST(the_newest_are_kept)
{
	struct told t = {0};

	for (unsigned i = 0; i < TOLD_MAX + 10; i++)
		told_add(&t, job(i));
	told_add(&t, job(TOLD_MAX)); /* again: takes no place */
	ck_assert(!told_has(&t, job(9)));
	ck_assert(told_has(&t, job(10)));
	ck_assert(told_has(&t, job(TOLD_MAX + 9)));
	ck_assert_uint_eq(t.count, TOLD_MAX);
	told_fini(&t);
}
