#include <stdio.h>
#include <stdlib.h>

#include "lib/svc/config.h"
#include "tests/unit/test.h"

SUITE("lib/svc/shares");

static struct config_route route(int64_t percent)
{
	return (struct config_route){
	    .name = "feedback", .orgs = "", .users = "", .percent = percent};
}

static unsigned held(int64_t percent, bool *ret_each)
{
	struct config_route r = route(percent);
	unsigned count = 0;

	for (int i = 0; i < 10000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "ses_%d", i);
		ret_each[i] = config_route_is_for(&r, STR("o"), STR("u"), str_of(name));
		count += ret_each[i];
	}
	return count;
}

TEST(a_share_holds_about_so_many_sessions)
{
	static bool each[10000];

	ck_assert_uint_eq(held(0, each), 0);
	ck_assert_uint_eq(held(100, each), 10000);
	ck_assert_int_le(llabs((long long)held(10, each) - 1000), 150);
	ck_assert_int_le(llabs((long long)held(50, each) - 5000), 250);
}

TEST(who_is_in_a_share_stays_there_when_it_grows)
{
	static bool few[10000], many[10000];

	held(10, few);
	held(25, many);
	for (int i = 0; i < 10000; i++)
		ck_assert(!few[i] || many[i]);
}

TEST(a_route_may_be_for_some_organisations_or_users)
{
	struct config_route r = route(100);

	r.orgs = "org_1, org_2";
	ck_assert(config_route_is_for(&r, STR("org_2"), STR(""), STR("s")));
	ck_assert(!config_route_is_for(&r, STR("org_3"), STR(""), STR("s")));
	ck_assert(!config_route_is_for(&r, STR("org"), STR(""), STR("s")));
	r.orgs = "";
	r.users = "u1";
	ck_assert(config_route_is_for(&r, STR("org_3"), STR("u1"), STR("s")));
	ck_assert(!config_route_is_for(&r, STR("org_3"), STR(""), STR("s")));
}
