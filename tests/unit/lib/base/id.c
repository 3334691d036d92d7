#include "lib/base/id.h"

#include "tests/unit/test.h"

SUITE("base/id");

TEST(an_id_is_its_prefix_and_26_characters)
{
	char id[ID_SIZE];
	struct rand r;

	rand_init(&r, 1);
	id_make(id, "job", 1795342530123, &r);
	ck_assert_uint_eq(strlen(id), ID_LEN);
	ck_assert(id_is(str_of(id), "job"));
	ck_assert(!id_is(str_of(id), "ses"));
	ck_assert_uint_eq(id_wall_ms(str_of(id)), 1795342530123);
}

TEST(the_text_of_a_known_time_is_that_of_ulid)
{
	char id[ID_SIZE];
	struct rand r;

	/* 01ARYZ6S41 is the time part of the ULID specification's example, 1469918176385. */
	rand_init(&r, 1);
	id_make(id, "job", 1469918176385, &r);
	id[14] = 0;
	ck_assert_str_eq(id, "job_01ARYZ6S41");
}

TEST(ids_sort_by_time)
{
	char a[ID_SIZE], b[ID_SIZE];
	struct rand r;

	rand_init(&r, 1);
	for (uint64_t ms = 1; ms < UINT64_C(1) << 47; ms *= 3) {
		id_make(a, "job", ms, &r);
		id_make(b, "job", ms + 1, &r);
		ck_assert_str_lt(a, b);
	}
}

TEST(one_seed_gives_the_same_ids)
{
	char a[ID_SIZE], b[ID_SIZE];
	struct rand r;

	rand_init(&r, 5);
	id_make(a, "job", 1, &r);
	rand_init(&r, 5);
	id_make(b, "job", 1, &r);
	ck_assert_str_eq(a, b);
	id_make(b, "job", 1, &r);
	ck_assert_str_ne(a, b);
}

TEST(what_is_no_id_is_refused)
{
	static const char *const bad[] = {
	    "",
	    "job_",
	    "job_01ARYZ6S410000000000000000x",
	    "job_01ARYZ6S4100000000000000",
	    "job-01ARYZ6S410000000000000000",
	    "job_01aryz6s410000000000000000",
	    "job_01ARYZ6S41000000000000000U",
	    "job_81ARYZ6S410000000000000000",
	};

	ck_assert(id_is(STR("job_01ARYZ6S410000000000000000"), "job"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!id_is(str_of(bad[i]), "job"), "%s", bad[i]);
	ck_assert(!id_is(STR("job_01ARYZ6S41000000\0000000000"), "job"));
}
